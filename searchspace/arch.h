/* An architecture: a plain struct, no pointers, no JSON. Its JSON is read in arch_json.h, so that model/ links without jansson.
 *
 * Invariants of a valid arch (space_arch_check): 1 <= depth <= ARCH_LAYERS_MAX; every part's type is an index into layers.def that has
 * the part's role; part.v[i] is the value of the i-th parameter of that layer type (ints; bools 0/1; words by index), the rest 0.
 * A layer whose mixer and ffn are both "none" does not occur in a canonical arch (such layers are dropped), and at least one layer is left. */
#ifndef TAUT_SEARCHSPACE_ARCH_H
#define TAUT_SEARCHSPACE_ARCH_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/hash.h"

#define ARCH_LAYERS_MAX 128
#define ARCH_PARAMS_MAX 12
#define ARCH_VOCAB_MAX (1 << 20)
#define ARCH_WIDTH_MAX 65536
#define ARCH_CONTEXT_MAX (1 << 24)
#define ARCH_ROPE_THETA 10000.0 /* default */
#define ARCH_PIECE 256          /* tokens that a long prefill takes at a time, over all sequences */

struct arch_part {
    int type; /* index into layers.def */
    int32_t v[ARCH_PARAMS_MAX];
};

struct arch_layer {
    struct arch_part mixer, ffn;
};

enum arch_norm { ARCH_NORM_RMS = 0, ARCH_NORM_LAYER = 1 };
extern const char *const space_norm_words[]; /* "rms", "layer", NULL */

struct arch {
    int vocab;   /* tokens */
    int context; /* tokens of a training window */
    int width;   /* d_model */
    int depth;   /* layers in use */
    bool tie;    /* head shares the embedding; default true */
    enum arch_norm norm; /* layer norm has a bias too, whatever `bias` says */
    bool bias;   /* on every projection of mixers and ffns that may have one; default false */
    double rope_theta; /* default 10000 */
    struct arch_layer layer[ARCH_LAYERS_MAX];
};

/* Everything that must hold; err->where is a path such as "layers[2].mixer.heads". ST_EINVAL, ST_ENOTSUP (promised, not built). */
st_t space_arch_check(const struct arch *a, struct base_err *err);

/* For a checked arch: drops skipped layers, sets what means nothing to its default (rope_theta where no layer rotates, bias where no layer has one; a type's own, see layer_spec.tidy). Clears the layers
 * beyond depth, so that two canonical archs are the same architecture exactly when space_arch_equal says so. ST_EINVAL if no layer is left. */
st_t space_arch_canonicalise(struct arch *a, struct base_err *err);
bool space_arch_equal(const struct arch *a, const struct arch *b);

/* Is sub a part of super, and not super itself? Of the same vocabulary, context, norms, biases and rope_theta; no wider; its layers are, in their order, parts of some of super's: a part
 * that does nothing is one of any, else the type is the same, every number is at most as large (what is 0 in one is 0 in both, for it may mean "no bound") and every switch and word the same.
 * Of canonical archs. */
bool space_arch_nested(const struct arch *sub, const struct arch *super);

/* Canonical form (job.md): fixed key order, no spaces, shortest numbers, defaults left out. Appends to b. */
void space_arch_canonical(const struct arch *a, struct base_buf *b);
/* First 128 bits of the canonical form's SHA-256; "" when memory is out. */
void space_arch_id(const struct arch *a, char id[BASE_ID_HEX]);

/* Paper costs, all exact: tests compare them with what model/ allocates and computes.
 * FLOPs are those of the matrix products, convolutions, scans in their recurrent form, and of attention over the (query, key) pairs its mask
 * lets through, a multiply-add counting 2, as in
 * Kaplan et al. 2020 (arXiv:2001.08361, table 1) and Hoffmann et al. 2022 (arXiv:2203.15556, appendix F), both of which count all pairs where
 * this counts the causal ones. Not counted: norms, biases, activations, softmax, RoPE and the embedding's row look-up, which are O(width) a token. */
struct arch_cost {
    double params;          /* parameters, a tied head counted once */
    double active_params;   /* those that one token uses */
    double flops_per_token; /* forward, averaged over the positions of a window of a->context tokens; multiply-add = 2 */
    double weight_bytes;    /* params at 4 bytes (f32) */
};
void space_arch_cost(const struct arch *a, struct arch_cost *out);
/* Parameters inside the layers, their norms included: params less embedding, untied head and the last norm. */
double space_arch_decoder_params(const struct arch *a);

/* How weights lie in memory for decoding. Not f32: the matrices of products, embedding and head, 2 bytes a number, or 1 and a scale of 4 a row. */
enum arch_weights { ARCH_WEIGHTS_F32, ARCH_WEIGHTS_BF16, ARCH_WEIGHTS_INT8 };
/* "same" (as in training) and "f32", "bf16", "int8"; ST_EINVAL for another word. */
st_t space_weights_find(const char *word, enum arch_weights *out);
double space_arch_weight_bytes(const struct arch *a, enum arch_weights w);

/* KV cache and recurrent state of one sequence after `context` tokens, bytes in f32. A window bounds what is kept. */
double space_arch_state_bytes(const struct arch *a, int64_t context);
/* FLOPs of decoding one more token after L (it stands at position L and sees L + 1 keys), and of prefilling L tokens up to the first
 * new token's logits (the head runs once, on the last position; one sequence, ARCH_PIECE tokens at a time). */
double space_arch_decode_flops(const struct arch *a, int64_t context);
double space_arch_prefill_flops(const struct arch *a, int64_t tokens);

#endif
