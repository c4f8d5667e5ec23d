/* What op decode takes one token of one sequence through: branches of a residual stream, each of which reads it through an RMSNorm of its own.
 *
 *   struct kn_branch b[] = {{.kind = KN_BRANCH_ATTENTION, .norm = &norm, .attention = {…}}, {.kind = KN_BRANCH_FFN, …}, {.kind = KN_BRANCH_HEAD, …}};
 *   dev->op->decode(dev, b, 3, 1e-5, &x, NULL);
 *
 * D width, x the normed stream. Matrices have rows of unit stride, in the stream's dtype or at rest (bf16, KN_I8; tensor.h). */
#ifndef TAUT_KERNELS_BRANCH_H
#define TAUT_KERNELS_BRANCH_H

#include "kernels/tensor.h"

enum kn_branch_kind { KN_BRANCH_ATTENTION, KN_BRANCH_FFN, KN_BRANCH_HEAD };

/* out softmax(scale q_h k'_{h / (H/G)}) v_{h / (H/G)} over the S tokens of the cache. */
struct kn_branch_attention {
    struct kn_tensor qkv;  /* [(H + 2G) K, D]: rows of q by heads, then k's, then v's. Without a slot [H K, D]: q's alone */
    struct kn_tensor out;  /* [D, H K] */
    struct kn_tensor k, v; /* [S,G,K] unit last stride: the cache, the token's place in it included */
    int64_t slot;          /* where in it the token's own k and v go; -1: they are there */
    int64_t heads, pos;
    int64_t rope;          /* the first so many numbers of each head of q and k rotate, as op rope's do; 0: none */
    double theta, scale;
};

/* Weights of down act, act = silu(gate x) up x; without a gate (p NULL) enum kn_act of up x. */
struct kn_ffn {
    struct kn_tensor gate, up; /* [F,D]; of experts [E,F,D] */
    struct kn_tensor down;     /* [D,F]; [E,D,F] */
};

/* The sum of: `one`; its factor, where it has a gate, is sigmoid(one_gate x); and of the `active` experts that op route would choose of the logits
 * router x, each with its weight. Either may be absent (down.p NULL). */
struct kn_branch_ffn {
    int act; /* enum kn_act, where there is no gate; of experts KN_RELU2 */
    struct kn_ffn one, expert;
    struct kn_tensor one_gate; /* [1,D]; p NULL: factor 1; where there is no gate with KN_RELU2 alone */
    struct kn_tensor router;   /* [E,D] */
    int64_t active;
    int sigmoid;               /* op route's */
};

/* Gives logits = w x and nothing to the stream. */
struct kn_branch_head {
    struct kn_tensor w;      /* [V,D] */
    struct kn_tensor logits; /* [V], unit stride */
};

struct kn_branch {
    enum kn_branch_kind kind;
    const struct kn_tensor *norm; /* [D], unit stride */
    union {
        struct kn_branch_attention attention;
        struct kn_branch_ffn ffn;
        struct kn_branch_head head;
    };
};

#endif
