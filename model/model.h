/* A network: parameters, forward, backward, decode. Written once for every device, made of kernel calls.
 *
 *   struct model *m;
 *   st = model_new(&m, &arch, dev, &(struct model_opts){.train = true, .batch = 16}, &err);
 *   model_init(m, seed);
 *   st = model_step(m, tokens, targets, 16, 256, &loss);           // forward + backward, gradients "=" (zeroed first)
 *   st = model_update(m, &h, &gnorm);                              // clip + AdamW
 *   model_free(m);
 *
 * Invariants
 *   - All memory is planned at model_new and taken in a few slabs; nothing is allocated in a step. Where activations do not
 *     fit, as few branches as possible are computed again in the backward pass, to the same bits; what does not fit even so
 *     is refused there (ST_ENOFIT, with bytes needed and bytes there), before anything is trained. So are passes of more than
 *     2^31 - 1 pairs of a token and an active expert, whatever memory is there.
 *   - Parameters of all tensors lie in one contiguous slab in a fixed order (gradients, m and v likewise): first the
 *     hidden matrices, part by part, then all else, so that the optimiser is one pass a group. Parts and vectors start
 *     on 64-byte lines; the gaps hold zeros and stay zero.
 *   - Same arch, seed, data and device fingerprint: same bits, whatever the number of threads.
 *   - A model belongs to its device's thread.
 * Network (pre-norm, Llama; LayerNorm instead: GPT-2), the norm's eps 1e-5:
 *   x = E[tok]; for each layer: x += mixer(norm(x)); x += ffn(norm(x)); logits = head(norm(x))
 * A part of type none has no norm and no branch. */
#ifndef TAUT_MODEL_MODEL_H
#define TAUT_MODEL_MODEL_H

#include "kernels/device.h"
#include "searchspace/arch.h"
#include "searchspace/layer.h"

#define MODEL_NORM_EPS 1e-5
/* Every auxiliary loss (moe's load balance, E sum_e f_e P_e over the tokens of a step) joins the gradients with this factor, one a layer, summed;
 * what model_loss and model_step report is the cross-entropy alone. */
#define MODEL_AUX_WEIGHT 0.01

struct model;

struct model_opts {
    enum kn_dtype dtype;   /* KN_F32 (0); KN_F64 on the ref device, for gradient checks */
    bool train;            /* gradients, optimiser state and activations are planned */
    enum arch_weights weights; /* how matrices, embedding and head are kept: not f32 for decoding in f32 alone (batch 0); passes of many rows then
                                * multiply in bf16 where the device has it */
    int batch;             /* most sequences of one model_step or model_loss; 0: decoding alone, no activations */
    uint64_t memory_limit; /* bytes; 0: the device's */
    enum kn_dtype precision; /* of products in model_step and model_loss: KN_F32 (0), or KN_BF16 where the device has it; weights, optimiser
                              * and the stream stay f32, what lies between the products of experts or of a SwiGLU without bias is kept in bf16. Decoding computes in f32. */
};

/* Bytes that model_new will take with these options, exactly (device scratch apart), where the device has as much as
 * memory_limit (0: enough for all); nothing is allocated. */
uint64_t model_plan_bytes(const struct arch *a, const struct model_opts *o);

st_t model_new(struct model **out, const struct arch *a, struct kn_dev *dev, const struct model_opts *o,
               struct base_err *err);
void model_free(struct model *m); /* NULL allowed */
int model_recomputed(const struct model *m); /* branches that are computed again in the backward pass */
const struct arch *model_arch(const struct model *m);

/* ---- parameters ---- */

struct model_param {
    char name[96];                 /* full name: "model.layers.0.self_attn.q_proj.weight" */
    struct kn_tensor w, g;         /* value; gradient (p NULL without train) */
    int64_t offset;                /* from the slab's start: elements; bytes where weights are not f32 */
    enum layer_tensor_role role;
    struct layer_tensor init;      /* how it begins; init.name means nothing */
    bool hidden;                   /* a matrix inside a layer: its lr follows the width rule, as no other's does */
    unsigned layer_role;           /* LAYER_MIXER or LAYER_FFN, the norm before it included; 0: in no layer */
};
int model_params(const struct model *m);                          /* tensors; a tied head is not listed again */
const struct model_param *model_param(const struct model *m, int i);
int model_param_find(const struct model *m, const char *name);    /* -1 */
int64_t model_param_count(const struct model *m);                 /* numbers: equals the paper cost */

/* Every tensor as its layer_tensor says: N(0, 0.02) for embedding and head, ones for norms' weights; each tensor
 * draws from base_rng_at(seed, RNG_INIT, hash of its name), so that a tensor's values do not depend on its neighbours.
 * Steps, m and v go back to 0. */
st_t model_init(struct model *m, uint64_t seed);

/* ---- training ----  tokens, targets [B,T] i32 in host memory; T <= arch.context; B <= opts.batch. */

/* Mean cross-entropy, nats a token, over the targets that are not -1 (none: ST_EINVAL); forward only. ST_EINVAL: a
 * token outside the vocabulary, B or T outside the plan. */
st_t model_loss(struct model *m, const int32_t *tokens, const int32_t *targets, int B, int T, double *loss);
/* Forward and backward; gradients of the mean loss (+ MODEL_AUX_WEIGHT * model_aux). */
st_t model_step(struct model *m, const int32_t *tokens, const int32_t *targets, int B, int T, double *loss);

/* What another network says of the same tokens: x [B*T,E] its final hidden states, normed, w [V,E] its head; mix: kernels/ops.def, head_distill. */
struct model_teacher {
    struct kn_tensor x, w;
    double mix;
};
/* As model_step, trained towards the teacher as well; *loss: against the targets alone. Errors as model_step's; ST_EINVAL: shapes that do not fit. */
st_t model_step_distill(struct model *m, const int32_t *tokens, const int32_t *targets, int B, int T, const struct model_teacher *teacher, double *loss);
/* x of a teacher, as the last pass over [B,T] left it; borrowed. */
struct kn_tensor model_hidden(const struct model *m, int B, int T);

/* Auxiliary losses of the last model_loss or model_step, summed over the layers, without their factor; 0 where no layer has one. */
double model_aux(const struct model *m);

/* Forward, and backward of R, the sum of all logits, in place of a loss: gradients "=" (no auxiliary loss). tokens NULL: every number of the
 * embedded input is 1. dx [B,T,D] (NULL: not wanted) =: dR/d(embedded input), in the model's dtype, host memory. Errors as model_step's. */
st_t model_step_logits(struct model *m, const int32_t *tokens, int B, int T, double *sum, void *dx);

/* ---- looking on ---- */

/* Hidden units of an ffn, what their activation was given: u [rows,F], a unit is on where that is > 0. Without experts row n is token n. With
 * experts rows are those of route (ops.def): expert e has offset[e] .. offset[e+1] - 1, row r is token order[r] / active's; units of experts that a
 * token is not sent to are off. */
struct model_units {
    struct kn_tensor u, offset, order;
    int experts, active; /* 0, 0: none */
};

/* Called while model_loss, model_step and model_step_logits go through the branches (mixers and ffns that are not none, in order, from 0). Tensors are
 * device memory, borrowed for the call, not to be written. NULL: not wanted. What is not ST_OK ends the pass. */
struct model_watch {
    void *ctx;
    st_t (*units)(void *ctx, int branch, const struct model_units *u); /* forward: once for each kind of unit */
    /* backward: y [N,D] what the branch added to the stream (the difference of two streams, to rounding), dy [N,D] the gradient with respect to it */
    st_t (*output)(void *ctx, int branch, const struct kn_tensor *y, const struct kn_tensor *dy);
};
void model_watch(struct model *m, const struct model_watch *w); /* from here on; copied; NULL: nobody */

struct model_hyper {
    double lr;              /* of this step, schedule included */
    double hidden_lr_scale; /* multiplies lr for hidden matrices (width rule); 1 = none */
    double beta1, beta2, eps, weight_decay;
    double clip;            /* global norm; <= 0: off */
};
/* AdamW over everything; the step count t goes up by one. *gnorm: global gradient norm before clipping. ST_ENONFINITE
 * (nothing changed) when it is not finite. */
st_t model_update(struct model *m, const struct model_hyper *h, double *gnorm);
/* model_step and model_update in one, in two halves: begin enqueues all of it and returns without waiting where the device works by itself, so that the caller has time
 * for the next batch; end waits, and says what came of it. Where the device keeps runs of ops (kernels/device.h, capture), a shape's third step is captured and
 * all later ones are replayed. Numbers are those of model_step and model_update. ST_ENONFINITE from end (*loss and *gnorm are set) when the norm
 * is not finite: nothing has changed. ST_ESTATE: begin twice, end without begin, or no training was asked for. */
st_t model_train_begin(struct model *m, const int32_t *tokens, const int32_t *targets, int B, int T, const struct model_hyper *h);
st_t model_train_end(struct model *m, double *loss, double *gnorm);
int64_t model_steps(const struct model *m);
void model_steps_set(struct model *m, int64_t t);

/* ---- decoding ---- */

struct model_state; /* KV caches and recurrent states of `batch` sequences with room for `context` tokens */
st_t model_state_new(struct model_state **out, struct model *m, int batch, int64_t context, struct base_err *err);
/* Bytes that model_state_new will take in f32, exactly: caches, states and what a pass of new tokens needs. */
uint64_t model_state_plan_bytes(const struct arch *a, int batch, int64_t context);
void model_state_free(struct model_state *s);
int64_t model_state_pos(const struct model_state *s);
uint64_t model_state_bytes(const struct model_state *s); /* of caches and states alone: batch * paper state bytes */
/* Sets the position and fills caches and states with small synthetic numbers: decoding at context L without a
 * prefill. */
st_t model_state_fill(struct model_state *s, int64_t pos);
/* Sets the position, contents left as they are: measuring one token at the same context again and again. 0 <= pos <=
 * context. A recurrent state is then that of the tokens seen, not of pos tokens; the work is the same. */
void model_state_seek(struct model_state *s, int64_t pos);
void model_state_reset(struct model_state *s);
/* Appends n tokens to every sequence: tokens [batch,n]; logits [batch,V] of the last position (host memory; NULL: not
 * wanted). n == 1 is decoding. Cut at any place, the results are the same up to rounding; ST_ETOOBIG past the context.
 * Long prefills go in chunks. */
st_t model_decode(struct model_state *s, const int32_t *tokens, int n, float *logits);

#endif
