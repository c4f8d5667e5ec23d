/* What the forward and the backward of the delta rule share: operands, chunks, and one chunk of the forward.
 *
 * Within a chunk of n tokens (Yang et al. 2024, arXiv:2406.06484, section 3, and arXiv:2412.06464, section 3.3), with S the state before it,
 * a_i = e^(g_i), e_i = a_1 .. a_i, f_i = a_(i+1) .. a_n, D_ij = a_(j+1) .. a_i for j <= i:
 *
 *   err_i = v_i - e_i S^T k_i - sum_(j<i) D_ij (k_i . k_j) d_j     d_i = beta_i err_i       (a unit lower triangular system)
 *   out_i = e_i S^T q_i + sum_(j<=i) D_ij (q_i . k_j) d_j          S <- e_n S + sum_j f_j k_j (x) d_j
 *
 * The system is solved for d where the state is known, row block by row block, so that nothing is inverted. Decays are products of a_i alone:
 * nothing overflows, and no logarithms are subtracted. */
#ifndef TAUT_KERNELS_CPU_DELTA_H
#define TAUT_KERNELS_CPU_DELTA_H

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/rows.h"
#include "kernels/cpu/scan_sum.h"

#define DELTA_CHUNK 32 /* tokens */

struct delta_strides {
    int64_t b, t, h;
};

struct delta {
    const float *q, *k, *v, *g, *beta;
    float *s, *out; /* s may be NULL */
    struct delta_strides sq, sk, sv, sg, sbeta, so;
    int64_t ss[3]; /* of s: b, h, k */
    int64_t B, T, G, H, R, K, V;
    float eps, scale;
    int64_t Kp, Vp; /* rounded up to whole vectors */
};

static inline struct delta_strides delta_strides(const struct kn_tensor *t)
{
    return (struct delta_strides){t->s[0], t->s[1], t->s[2]};
}

static inline struct delta delta_of(const struct kn_tensor *q, const struct kn_tensor *k, const struct kn_tensor *v,
                                    const struct kn_tensor *g, const struct kn_tensor *beta, double eps, double scale,
                                    int64_t lanes)
{
    struct delta d = {.q = q->p,
                      .k = k->p,
                      .v = v->p,
                      .g = g->p,
                      .beta = beta->p,
                      .sq = delta_strides(q),
                      .sk = delta_strides(k),
                      .sv = delta_strides(v),
                      .sg = delta_strides(g),
                      .sbeta = delta_strides(beta),
                      .B = q->d[0],
                      .T = q->d[1],
                      .G = q->d[2],
                      .H = v->d[2],
                      .K = q->d[3],
                      .V = v->d[3],
                      .eps = (float)eps,
                      .scale = (float)scale};
    d.R = d.G ? d.H / d.G : 0;
    d.Kp = (d.K + lanes - 1) / lanes * lanes;
    d.Vp = (d.V + lanes - 1) / lanes * lanes;
    return d;
}

static inline int64_t delta_chunks(const struct delta *d)
{
    return (d->T + DELTA_CHUNK - 1) / DELTA_CHUNK;
}

static inline int64_t delta_rows(const struct delta *d, int64_t t0)
{
    return d->T - t0 < DELTA_CHUNK ? d->T - t0 : DELTA_CHUNK;
}

/* Asks for a chunk's rows of one head or key head: those from t0 on, if there are such. */
__attribute__((always_inline)) static inline void delta_fetch(const struct delta *d, const float *p, const struct delta_strides *s, int64_t b, int64_t h,
                                                              int64_t t0, int64_t width)
{
    if (t0 >= 0 && t0 < d->T) rows_fetch(p + b * s->b + t0 * s->t + h * s->h, s->t, delta_rows(d, t0), width);
}

/* A chunk's own numbers; the memory of its matrices is carved by the op. */
struct delta_chunk {
    int64_t t0, n;
    float *q, *k;     /* [n][Kp] normed; q scaled */
    float *kt;        /* [K][DELTA_CHUNK] */
    float *kk, *qk;   /* [n][DELTA_CHUNK]: -D (k.k) below the diagonal, D (q.k) up to it */
    float *D;         /* [n][DELTA_CHUNK], or NULL: not kept */
    float *d, *err;   /* [n][Vp]; err may be NULL */
    float rq[DELTA_CHUNK], rk[DELTA_CHUNK]; /* what q and k were multiplied by */
    float a[DELTA_CHUNK], e[DELTA_CHUNK], f[DELTA_CHUNK], beta[DELTA_CHUNK];
};

#endif
