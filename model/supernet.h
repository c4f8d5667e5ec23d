/* Weight sharing: one set of weights for all architectures of a space (one-shot search with elastic slices: Cai et al. 2020, Once-for-All, arXiv:1908.09791;
 * Wang et al. 2020, HAT, arXiv:2005.14187; Chen et al. 2021, AutoFormer, arXiv:2107.00651).
 *
 *   struct supernet *s;
 *   st = supernet_new(&s, &options, dev, &(struct supernet_opts){.batch = 16}, &err);       // options: space_options_of
 *   st = supernet_init(s, seed);
 *   st = supernet_step(s, paths, 4, tokens, targets, 16, 256, losses, &err);                // largest, smallest, drawn ones: space_path
 *   st = supernet_update(s, &hyper, &gnorm);
 *   st = supernet_slice(s, &arch, &(struct model_opts){.batch = 16}, &model, &err);         // an ordinary model with inherited weights
 *   supernet_free(s);
 *
 * What is shared. For each mixer and each ffn of its depth the supernet has a branch per type that the space offers (with a norm of its own). Which of them an architecture's layers
 * are goes by what lies before: with p parts before it that are not none, a mixer is that of layer (p + 1) / 2, an ffn that of layer p / 2, or the next that is free. So the first
 * attention is one that reads the bare embedding, in the supernet as in the slice. Each tensor is as large as any option wants it, dim by dim: a slice takes the leading
 * indices of each dim (layer_spec.sides: heads with the key head that they meet, sections one by one, of taps the last). So elastic are depth, width, heads, KV heads, head sizes, hidden sizes, experts, ranks,
 * states and taps. Knobs without a tensor (window, RoPE, activations, active experts) share everything; knobs that add tensors (qk_norm, gate, rank against full)
 * share the rest. Every layer type that the space offers is held.
 * What a candidate costs. A slice is not the supernet's own memory: it is copied out and its gradients are added back, a strided copy or two a tensor, some 28 bytes
 * moved a parameter and pass (24576 operations a parameter in a pass over 4096 tokens). In return its bits are those of an ordinary model with the same weights, its
 * products run at their usual speed, and every layer type is held. What it is in time: bench_shared, bench/SPEED.md.
 *
 * Invariants
 *   - Gradients of a step are the mean over its paths; the global norm is taken over that mean.
 *   - A tensor moves where a path of the step has touched it: in the least box of leading indices that holds all their slices. The rest keeps weights, m and v to
 *     the bit, and does not decay. Each tensor counts its own updates for Adam's bias correction.
 *   - Same options, seed, paths and data: same bits, whatever the number of threads, and through supernet_save and supernet_load.
 *   - Memory: 4 slabs of supernet_params numbers, with mix the hidden states of one path [batch * context, width], and one block for the largest path seen so far:
 *     a step takes no other memory of the device once it has seen its largest path. supernet_slice gives the block back and the next step takes it again, so a slice
 *     that trains (4 slabs of its own and its activations) stands beside the 4 slabs and the hidden states alone.
 *   - A supernet belongs to its device's thread. */
#ifndef TAUT_MODEL_SUPERNET_H
#define TAUT_MODEL_SUPERNET_H

#include "model/checkpoint.h"
#include "model/model.h"
#include "searchspace/options.h"

#define SUPERNET_PATHS_MAX 64

struct supernet;

struct supernet_opts {
    enum kn_dtype dtype;     /* KN_F32 (0), KN_F64 on the ref device */
    int batch;               /* most sequences of one supernet_step */
    enum kn_dtype precision; /* as model_opts' */
    uint64_t memory_limit;   /* bytes, the block of a path and the hidden states included, slices not; 0: the device's */
    double mix;              /* > 0: the other paths of a step learn from its first as well (in-place distillation, Yu & Huang 2019, arXiv:1903.05134), by that share */
};

/* options are borrowed for the call. ST_ENOFIT, with bytes needed and there; ST_ENOMEM. */
st_t supernet_new(struct supernet **out, const struct space_options *options, struct kn_dev *dev, const struct supernet_opts *o, struct base_err *err);
void supernet_free(struct supernet *s); /* NULL allowed */
int64_t supernet_params(const struct supernet *s); /* numbers */
int64_t supernet_steps(const struct supernet *s);

/* As model_init: each tensor as the largest option's layer_tensor says, drawn by its name. Counts go back to 0. */
st_t supernet_init(struct supernet *s, uint64_t seed);

/* Is the architecture a slice? ST_EINVAL: err names the layer and the tensor that is not there or not large enough. */
st_t supernet_holds(const struct supernet *s, const struct arch *a, struct base_err *err);

/* Forward and backward of n paths on the same tokens [B,T] (host memory): gradients "=". loss[n]: cross-entropy of each, nats a token. Errors as model_step's,
 * ST_ENOFIT, and supernet_holds'. The gradients are then those of the paths before the one that failed: no update is to follow. */
st_t supernet_step(struct supernet *s, const struct arch *const *path, int n, const int32_t *tokens, const int32_t *targets, int B, int T, double *loss,
                   struct base_err *err);
/* Clip and AdamW over what the last step touched. ST_ENONFINITE: nothing changed. ST_ESTATE: no step since the last update. */
st_t supernet_update(struct supernet *s, const struct model_hyper *h, double *gnorm);

/* A new ordinary model of its own memory, with a copy of the slice; the caller frees it. With o->train it starts at step 0 without momentum. */
st_t supernet_slice(struct supernet *s, const struct arch *a, const struct model_opts *o, struct model **out, struct base_err *err);

/* A checkpoint in the format of checkpoint.h: every tensor under "model.layers.N.<role>.<type>.<name>", m, v, step, and each tensor's own count of
 * updates as metadata ("taut.updates"). Load refuses what is not of the same options (ST_EINVAL, with the tensor's name) or damaged (ST_ECORRUPT). */
st_t supernet_save(struct supernet *s, const char *path, const struct ckpt_meta *meta, int nmeta, char sha256[BASE_SHA256_HEX], uint64_t *bytes,
                   struct base_err *err);
st_t supernet_load(struct supernet *s, const char *path, struct base_err *err);

#endif
