/* A layer type's body: what searchspace/<name>.c draws, made of kernel calls. One file a type, ending in `const struct layer_body body_<name>`.
 *
 * The stack (stack.c) owns the residual stream, norms, embedding and head; a body sees the normed input and gives the branch's output:
 *   forward:  y [N,D] = f(x [N,D])        backward: dx [N,D] = df/dx . dy, parameter gradients +=
 * A body plans its activations before anything runs: saved (kept from forward to backward, one per layer) and scratch (shared by all layers). */
#ifndef TAUT_MODEL_LAYER_H
#define TAUT_MODEL_LAYER_H

#include "kernels/device.h"
#include "searchspace/layer.h"

struct layer_ctx {
    struct kn_dev *dev;
    const struct arch *arch;
    const struct arch_part *part;
    int layer;
    enum kn_dtype dtype;
    const struct kn_tensor *w;  /* parameters, in the order of layer_spec.tensors */
    const struct kn_tensor *g;  /* gradients, likewise; NULL when not training */
    int B, T;                   /* rows N = B*T, t fastest */
    void *saved;                /* this layer's */
    void *scratch;              /* shared; contents undefined at entry */
    void *state;                /* decode: this layer's, for B sequences */
    int64_t state_context;      /* decode: room, tokens */
    int64_t pos;                /* decode: position of the first new token */
};

struct layer_body {
    const char *name;
    uint64_t (*saved_bytes)(const struct layer_ctx *c);   /* for c->B, c->T */
    uint64_t (*scratch_bytes)(const struct layer_ctx *c, bool train);
    uint64_t (*state_bytes)(const struct layer_ctx *c);   /* for c->B sequences of c->state_context tokens */
    st_t (*forward)(const struct layer_ctx *c, const struct kn_tensor *x, const struct kn_tensor *y);
    st_t (*backward)(const struct layer_ctx *c, const struct kn_tensor *x, const struct kn_tensor *dy, const struct kn_tensor *dx);
    /* T new tokens of each sequence at positions pos…, through the state. */
    st_t (*decode)(const struct layer_ctx *c, const struct kn_tensor *x, const struct kn_tensor *y);
};

const struct layer_body *model_body(int type); /* by index into layers.def; NULL for none */

#endif
