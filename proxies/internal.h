/* What the files of proxies/ share: the network under the lens, its tensors on the host. */
#ifndef TAUT_PROXIES_INTERNAL_H
#define TAUT_PROXIES_INTERNAL_H

#include "proxies/proxy.h"

#define TRY(call)                    \
    do {                             \
        st_t try_ = (call);          \
        if (try_) return try_;       \
    } while (0)

/* A parameter. Those of W come first and lie side by side in the arrays below. */
struct proxy_tensor {
    const struct model_param *p;
    int64_t from, n;            /* in weights; those of W also in gradients */
    int64_t count, rows, cols;  /* count matrices of [rows,cols] */
};

struct proxy_ctx {
    const struct proxy_input *in;
    struct proxy_tensor *tensor;
    int ntensors, nw;           /* all; of W */
    int64_t numbers, wnumbers;
    float *weights;             /* [numbers] as the network came */
    float *gradient[PROXY_BATCHES]; /* [wnumbers] of each batch; NULL: not asked for yet */
};

/* One file a proxy, ending in  const struct proxy proxy_NAME. */
struct proxy {
    const char *name;
    bool paper;
    st_t (*score)(struct proxy_ctx *c, double *out, struct base_err *err);
};

static inline const int32_t *proxy_tokens(const struct proxy_ctx *c, int batch)
{
    return c->in->tokens + (int64_t)batch * c->in->B * c->in->T;
}

/* One step on a batch: gradients are in the network. */
st_t proxy_step(struct proxy_ctx *c, int batch);
/* *g [wnumbers] = dL/dW of a batch; borrowed, kept for all who ask. ST_ENOFIT. */
st_t proxy_gradient(struct proxy_ctx *c, int batch, const float **g, struct base_err *err);
/* ST_ENOFIT where there is no room for so many bytes beside the network and what is kept of it here. */
st_t proxy_fits(const struct proxy_ctx *c, double bytes, struct base_err *err);
/* tensor <- f(x, factor) of its first values x. */
st_t proxy_map(struct proxy_ctx *c, const struct proxy_tensor *t, float (*f)(float x, double factor), double factor);
/* As the network came. */
st_t proxy_restore(struct proxy_ctx *c);
/* sum |g W| over the elements of t; g [t->n]. */
double proxy_saliency(const struct proxy_ctx *c, const struct proxy_tensor *t, const float *g);

/* *out: a copy of the first n numbers of a tensor's memory, owned by the caller. */
st_t proxy_fetch(struct kn_dev *dev, const struct kn_tensor *t, int64_t n, void **out);

/* a [n,n] = x^T x or x x^T of x [rows,cols], the smaller of the two: n = min(rows, cols). The lower triangle alone. ST_ENOMEM. */
st_t proxy_gram(struct base_pool *pool, const float *x, int64_t rows, int64_t cols, double *a);
/* Eigenvalues of a symmetric a [n,n], of which the lower triangle is read and all is overwritten: w [n] = in any order. Householder's tridiagonal form, then QL with implicit shifts
 * (Wilkinson & Reinsch 1971, II/2 and II/4). ST_ENONFINITE: it does not converge, as with numbers that are not finite. */
st_t proxy_eigenvalues(double *a, int64_t n, double *w);
/* log |det a| of a symmetric positive definite a [n,n], which is overwritten (Cholesky). ST_ENONFINITE: it is not definite. */
st_t proxy_logdet(double *a, int64_t n, double *out);

#endif
