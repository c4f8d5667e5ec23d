/* A layer type's body: what searchspace/<name>.c draws, made of kernel calls. One file a type, ending in
 * `const struct layer_body body_<name>`.
 *
 * The stack (stack.c) owns the residual stream, norms, embedding and head; a body sees the normed input and gives the
 * branch's output:
 *   forward:  y [N,D] = f(x [N,D])        backward: dx [N,D] = df/dx . dy, parameter gradients +=
 * A body with an auxiliary loss adds c->aux_weight of its gradient in the backward.
 * A body plans its activations before anything runs: saved (kept from forward to backward, one per layer) and scratch
 * (shared by all layers).
 *
 * A mixer may borrow the keys and values of a lender, a mixer of the same type before it (layer_spec.lender). Then
 *   - the borrower finds the lender's ctx in c->lender: B, T, saved; of decoding state, scratch and pos. It reads there,
 *     and writes only what the lender's body keeps there for that purpose (gradients of what was lent);
 *   - a lender's saved is its own also where nothing is trained (others share one then), and in decoding so is its
 *     scratch: both hold from its call to that of its last borrower;
 *   - a lender's call changes nothing of what it lent before the backward of its last borrower, which the order of the
 *     stack puts before its own;
 *   - a borrower has no state, and no borrower is a lender. */
#ifndef TAUT_MODEL_LAYER_H
#define TAUT_MODEL_LAYER_H

#include "kernels/device.h"
#include "model/model.h"
#include "searchspace/layer.h"

/* What a body may rely on: the matrices of one part lie back to back in the slab, in the order of layer_spec.tensors
 * (gradients likewise), so that neighbours with equal columns are one matrix: q, k, v are one product. */
struct layer_ctx {
    struct kn_dev *dev;
    const struct arch *arch;
    const struct arch_part *part;
    int layer;
    const int32_t *v; /* the part's parameters, in the order of layer_body.params */
    const struct layer_ctx *lender; /* NULL: none. For sizes: part, v, layer alone are set */
    bool lends;
    enum kn_dtype dtype;
    enum kn_dtype act;          /* what lies between the products of a part may be kept in; dtype, or bf16 where products round to it */
    const struct kn_tensor *w;  /* parameters, in the order of layer_spec.tensors */
    const struct kn_tensor *g;  /* gradients, likewise; NULL when not training */
    int B, T;                   /* rows N = B*T, t fastest */
    void *saved;                /* this layer's */
    void *scratch;              /* shared; contents undefined at entry */
    void *aux;                  /* forward: one number, += an auxiliary loss, if the body has one; NULL: not wanted */
    double aux_weight;          /* backward: factor of the auxiliary loss's gradient */
    void *state;                /* decode: this layer's, for B sequences */
    int64_t state_context;      /* decode: room, tokens; 0: not decoding */
    int64_t pos;                /* decode: position of the first new token */
};

struct layer_body {
    const char *name;
    bool half_input; /* forward and backward take x as bf16 too where ctx.act is: products alone read it */
    /* Names that the body reads, NULL-terminated: looked up once, at build; their values are c->v. */
    const char *const *params;
    /* NULL: passes of any B and T. ST_ENOFIT: of c->B, c->T none can be, whatever memory is there. c as for sizes. */
    st_t (*check)(const struct layer_ctx *c, struct base_err *err);
    /* Sizes: c holds no memory and no tensors then (dev, w, g, saved … NULL). They grow with B and T, so that what
     * fits the plan's fits all. */
    uint64_t (*saved_bytes)(const struct layer_ctx *c);   /* for c->B, c->T */
    uint64_t (*scratch_bytes)(const struct layer_ctx *c, bool train); /* c->state_context > 0: of decode */
    uint64_t (*state_bytes)(const struct layer_ctx *c);   /* for c->B sequences of c->state_context tokens */
    st_t (*forward)(const struct layer_ctx *c, const struct kn_tensor *x, const struct kn_tensor *y);
    st_t (*backward)(const struct layer_ctx *c, const struct kn_tensor *x, const struct kn_tensor *dy,
                     const struct kn_tensor *dx);
    /* T new tokens of each sequence at positions pos…, through the state. At pos 0 the state's contents mean nothing:
     * a recurrent one begins at zero. */
    st_t (*decode)(const struct layer_ctx *c, const struct kn_tensor *x, const struct kn_tensor *y);
    /* The same of one token of one sequence (B = T = 1) as a branch of op decode, all but its norm. NULL, or false: not one that the op knows. */
    bool (*branch)(const struct layer_ctx *c, struct kn_branch *out);
    /* The i-th kind of an ffn's hidden units, from 0, right after forward: what their activation was given. NULL, or false: no more. */
    bool (*units)(const struct layer_ctx *c, int i, struct model_units *out);
};

const struct layer_body *model_body(int type); /* by index into layers.def; NULL for none */

/* y [N,out] = x [N,in] W^T + bias   (W [out,in]; bias [out] or NULL) */
st_t body_product(const struct layer_ctx *c, const struct kn_tensor *x, const struct kn_tensor *w,
                  const struct kn_tensor *bias, const struct kn_tensor *y);
/* y [N,out] += bias [out], every row: for a slice of a product of several matrices */
st_t body_bias(const struct layer_ctx *c, const struct kn_tensor *bias, const struct kn_tensor *y);
/* dw += dy^T x;  dbias += sum of dy's rows (NULL: no bias);  dx = dy W + beta dx (NULL: not wanted) */
st_t body_product_bwd(const struct layer_ctx *c, const struct kn_tensor *x, const struct kn_tensor *w,
                      const struct kn_tensor *dy, const struct kn_tensor *dw, const struct kn_tensor *dbias,
                      double beta, const struct kn_tensor *dx);

/* Cuts tensors out of one piece of memory, each on a 64-byte line of its own. Without a base it only counts; counts
 * saturate at CARVE_MAX, so that the plan of a monstrous architecture is a number that fits nowhere instead of one that
 * wrapped round. */
#define CARVE_MAX ((uint64_t)1 << 62)
struct carve {
    void *base;
    enum kn_dtype dtype;
    uint64_t used;
};

static inline void *carve_bytes(struct carve *c, uint64_t count, uint64_t size)
{
    uint64_t n, end;
    void *p = c->base ? (char *)c->base + c->used : NULL;
    if (__builtin_mul_overflow(count, size, &n) || __builtin_add_overflow(n, c->used + 63, &end) || end > CARVE_MAX)
        end = CARVE_MAX;
    c->used = end & ~(uint64_t)63;
    return p;
}

static inline struct kn_tensor carve2(struct carve *c, int64_t d0, int64_t d1)
{
    uint64_t n;
    if (__builtin_mul_overflow((uint64_t)d0, (uint64_t)d1, &n)) n = CARVE_MAX;
    return kn_t2(carve_bytes(c, n, kn_dtype_size(c->dtype)), c->dtype, d0, d1);
}

#endif
