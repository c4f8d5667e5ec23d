/* What the files of model/ share: the network's inside. */
#ifndef TAUT_MODEL_INTERNAL_H
#define TAUT_MODEL_INTERNAL_H

#include "model/layer.h"
#include "model/model.h"

#define MODEL_BATCH_MAX (1 << 20)

/* One branch of the residual stream: a mixer or an ffn that is not none, with the norm before it. */
struct part {
    const struct layer_body *body;
    struct layer_ctx ctx; /* w, g and v are set at build; B, T and memory before each call */
    int32_t v[ARCH_PARAMS_MAX];
    int norm;                  /* index of the norm's first parameter */
    void *x, *xn, *stat;       /* [N,D] stream before the branch (sum done), [N,D] normed, its statistics */
    enum kn_dtype xn_dtype;
    void *saved;
    bool recomputed;           /* xn and saved are shared, and filled again before this branch's backward */
    struct part *lender; /* NULL: none */
};

/* Where everything lies. Elements of the slabs; bytes from the start of the activations. */
struct plan {
    int params;                /* tensors */
    int parts;
    int64_t numbers;           /* parameters */
    size_t unit;               /* bytes of an element; 1 where weights are not f32 */
    int64_t hidden, elements;  /* slab: hidden matrices [0, hidden), all else [hidden, elements) */
    uint64_t slab;             /* bytes of one slab */
    int slabs;                 /* 1: weights; 4: gradients, m, v too */
    int recomputed;            /* so many branches, from the first on, keep their stream alone */
    uint64_t act;              /* bytes of activations, scratch included */
    uint64_t total;
};

struct model {
    struct arch arch;
    struct model_opts opts;
    struct kn_dev *dev;
    enum kn_dtype dtype;
    size_t esize;
    struct plan plan;
    struct model_param *param;
    struct kn_tensor *w, *g;   /* of each parameter, side by side: a part's are a run */
    struct part *part;
    void *slab[4];             /* weights, gradients, m, v */
    bool borrowed;             /* slabs and activations are the caller's */
    void *act;
    /* activations */
    void *tok, *target, *loss; /* [N] i32, i32, dtype */
    void *aux;                 /* one number: auxiliary losses */
    double *clip, *at;         /* of op clip [2]; of op adamw_at [2][3], hidden matrices first: device memory, f64 */
    void *x, *xn, *stat;       /* after the last part: stream, normed, statistics */
    void *dx, *dxn;            /* [N,D] gradient of the stream; of a normed input */
    void *scratch;
    void *host;                /* [N] dtype: losses */
    int embed, norm, head;     /* indices of parameters; head = embed when tied */
    int64_t steps;
    double aux_loss;           /* of the last pass */
    struct model_watch watch;
    struct {
        bool begun;
        int B, T;
        int64_t counted;       /* targets that count */
        int64_t seen;          /* steps in a row of this shape */
        bool plain;            /* the device makes no graph of it */
        struct model_hyper h;
        struct kn_graph *graph; /* of this shape; NULL: none yet */
    } train;
};

/* stack.c: tokens and targets to the device; *counted: targets that count. */
st_t stack_feed(struct model *m, const int32_t *tokens, const int32_t *targets, int B, int T, int64_t *counted);
/* Forward and backward of what was fed, enqueued; losses stay on the device. teacher NULL: none. */
st_t stack_step(struct model *m, int B, int T, int64_t counted, const struct model_teacher *teacher);
/* Waits for the rows' losses. */
st_t stack_loss(struct model *m, int64_t N, int64_t counted, double *loss);

/* Layout (plan.c). out NULL: counts alone. Offsets are final only with `hidden` of a first walk. */
void plan_params(const struct arch *a, const struct model_opts *o, struct plan *p, struct model_param *out, int64_t hidden);
/* Which part of the network: i counts mixers and ffns that are not none. Returns how many there are; out NULL: counts
 * alone. */
int plan_parts(const struct arch *a, const struct model_opts *o, struct part *out);
/* there: bytes that it should fit into; branches are recomputed in the backward pass, as few as that takes. p->total is over
 * `there` where nothing helps. */
void plan_make(const struct arch *a, const struct model_opts *o, uint64_t there, struct plan *p);
/* Whether every body takes passes of B x T tokens. ST_ENOFIT; err says why not. */
st_t plan_check(const struct arch *a, const struct model_opts *o, int B, int T, struct base_err *err);
/* Cuts m->act (NULL: counts) into the pointers of m and m->part. part: [parts], with body and ctx filled in. */
uint64_t plan_carve(struct model *m);

/* model_new without m and v, in device memory of the caller's, of as many bytes as model_bytes_at says; what is in it means nothing. */
st_t model_new_at(struct model **out, const struct arch *a, struct kn_dev *dev, const struct model_opts *o, void *memory, struct base_err *err);
/* All of model_new's refusals. ST_ENOFIT: more than o->memory_limit, where that is not 0. */
st_t model_bytes_at(const struct arch *a, struct kn_dev *dev, const struct model_opts *o, uint64_t *bytes, struct base_err *err);

/* What matrices, embedding and head are kept in. */
enum kn_dtype model_stored_dtype(const struct model_opts *o);
/* Numbers of a parameter that is not kept in f32. */
st_t model_store(struct model *m, const struct model_param *p, const float *host);
/* *gnorm (may be NULL): the norm of all gradients. *out: the update of model step m->steps + 1, gradients clipped to h->clip by that norm as
 * torch.nn.utils.clip_grad_norm_ does, its 1e-6 included; lr is not scaled for hidden matrices. ST_ENONFINITE: a gradient is not finite. */
st_t model_clip(struct model *m, const struct model_hyper *h, double *gnorm, struct kn_adamw *out);

/* Bytes that the model may still take of the device and of its own limit, of which it holds some already. */
uint64_t model_room(const struct model_opts *o, const struct kn_dev *dev, uint64_t held);
/* ST_ENOFIT with the bytes needed and the bytes there; held: what the model has taken of its own limit already. */
st_t model_check_fit(const struct model_opts *o, const struct kn_dev *dev, uint64_t held, uint64_t need,
                     const char *what, struct base_err *err);

/* A norm's parameters, side by side, and the numbers a row that its backward wants: weight and 1/rms; or weight, bias and
 * 1/standard deviation, mean. */
static inline int norm_params(const struct arch *a)
{
    return a->norm == ARCH_NORM_LAYER ? 2 : 1;
}
static inline int norm_stats(const struct arch *a)
{
    return norm_params(a);
}
/* x [N,D] += r where r.p is not NULL; y = norm(x) by the parameters from `norm` on; stat [norm_stats][N] =. */
st_t stack_norm(struct model *m, int norm, const struct kn_tensor *x, const struct kn_tensor *r,
                const struct kn_tensor *y, void *stat);

#define TRY(call)                    \
    do {                             \
        st_t try_ = (call);          \
        if (try_) return try_;       \
    } while (0)

#endif
