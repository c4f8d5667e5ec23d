/* A layer type's drawing: knobs, rules, tensors and cost on paper. Its body (forward, backward, decode) is model/<name>.c.
 * One file a type, ending in its const descriptor `const struct layer_spec layer_<name>`; layers.def names them all, and besides it only
 * families and exporters may name a layer type.
 *
 * Two vocabularies: a *knob* is what a job file offers ("kv_ratio": [1,2,4], "ratio": [1.5]); a *parameter* is what an architecture says
 * ("kv_heads": 2, "hidden": 512). resolve() turns chosen knobs into parameters at a given width. No slot of a descriptor is NULL but the
 * last four.
 * How to add a type: docs/layer-types.md. */
#ifndef TAUT_SEARCHSPACE_LAYER_H
#define TAUT_SEARCHSPACE_LAYER_H

#include "searchspace/arch.h"

#define LAYER_KNOBS_MAX 12
#define LAYER_TENSORS_MAX 24

enum layer_role { LAYER_MIXER = 1, LAYER_FFN = 2 };
enum layer_kind { LAYER_INT, LAYER_REAL, LAYER_BOOL, LAYER_WORD };

struct layer_param { /* of an architecture */
    const char *name;
    enum layer_kind kind;           /* REAL does not occur */
    int32_t dflt;                   /* at its default it is left out of the canonical form … */
    bool always;                    /* … unless it is always written (and must be given) */
    int32_t min, max;
    const char *const *words;       /* LAYER_WORD: NULL-terminated */
    bool only_dflt;                 /* any other value is promised and not built yet: refused by name */
};

struct layer_knob { /* of a job file */
    const char *name;
    enum layer_kind kind;
    double dflt;                    /* the one choice when the job does not list any; NAN: must be listed; see also absent */
    bool may_be_absent;             /* not listed: value NAN, resolve() derives it (head_dim = width / heads) */
    double min, max;
    const char *const *words;
    bool only_dflt;                 /* as above */
    bool late;                      /* added after stores were written with the type (at the end, therefore): no gene unless the job lists a choice */
};

/* A named logical tensor. Matrices are [out, in], as Hugging Face stores them. Sliced by leading indices; fused storage is a layout
 * that product descriptors know. */
enum layer_tensor_role {
    LAYER_T_MATRIX, /* of a product: its learning rate follows the width rule */
    LAYER_T_VECTOR, /* all else: biases, norms, decays, and the taps of a convolution */
};
enum layer_init {
    LAYER_INIT_NORMAL,      /* N(0, init_std) */
    LAYER_INIT_ONES,
    LAYER_INIT_ZEROS,
    LAYER_INIT_UNIFORM,     /* U(lo, hi) */
    LAYER_INIT_LOG_UNIFORM, /* log of U(lo, hi): A_log */
    LAYER_INIT_TIME_STEP,   /* inverse softplus of exp(U(log lo, log hi)): dt_bias (Mamba's) */
};
struct layer_tensor {
    const char *name;               /* below "model.layers.N.": "self_attn.q_proj.weight" (Llama's names where Llama has it) */
    enum layer_tensor_role role;
    int64_t rows, cols;             /* VECTOR: cols = 1, but for the taps of a convolution [C, k] */
    double init_std;
    bool decay;                     /* unused while weight decay is on every parameter; kept by checkpoints */
    enum layer_init init;
    double lo, hi;
    bool both_ways;                 /* decoding reads it transposed and not: weights at rest (model_opts.weights) leave it as it is */
    int64_t mid;                    /* 0: [rows, cols]; else the tensor is [rows / mid, mid, cols], also on disk: experts, convolutions */
};
static inline struct layer_tensor layer_matrix(const char *name, int64_t out, int64_t in, double std)
{
    return (struct layer_tensor){.name = name, .role = LAYER_T_MATRIX, .rows = out, .cols = in, .init_std = std, .decay = true};
}
static inline struct layer_tensor layer_vector(const char *name, int64_t n, enum layer_init init)
{
    return (struct layer_tensor){.name = name, .role = LAYER_T_VECTOR, .rows = n, .cols = 1, .init = init};
}

/* How the rows or the columns of a tensor are made up: `runs` one after the other, each an array [d0,d1,d2,d3,d4]. What a smaller part of the same type has of a larger
 * one's tensor (weight sharing) are the leading indices in each dim of each run; `last`: the last ones, of a convolution's taps. */
#define LAYER_RUNS_MAX 5
#define LAYER_RUN_DIMS 5
struct layer_side {
    int runs;
    int64_t d[LAYER_RUNS_MAX][LAYER_RUN_DIMS];
    bool last;
};
/* [a,b,c]. */
static inline void layer_side_run(struct layer_side *s, int64_t a, int64_t b, int64_t c)
{
    int64_t *d = s->d[s->runs++];
    d[0] = a, d[1] = b, d[2] = c, d[3] = d[4] = 1;
}

struct layer_spec {
    const char *name;
    unsigned roles;                 /* LAYER_MIXER | LAYER_FFN */
    const struct layer_param *params;
    int nparams;
    const struct layer_knob *knobs;
    int nknobs;
    /* knob[nknobs] -> out->v. ST_EINVAL when that combination cannot be at this width (the space then has a hole there, not an error). */
    st_t (*resolve)(const double *knob, int width, struct arch_part *out, struct base_err *err);
    /* Rules between parameters and width. p is a->layer[layer].mixer or .ffn. */
    st_t (*check)(const struct arch *a, int layer, const struct arch_part *p, struct base_err *err);
    /* out[LAYER_TENSORS_MAX]; returns how many. The norm before the part is not among them (the stack owns it). */
    int (*tensors)(const struct arch *a, int layer, const struct arch_part *p, struct layer_tensor *out);
    /* Forward FLOPs of n tokens that stand at positions pos0 .. pos0+n-1: products alone, a multiply-add counts 2 (see arch.h). Those from position 0
     * on may count otherwise than those that come after others; for pos0 > 0, n tokens are what they are one by one. */
    double (*flops)(const struct arch *a, int layer, const struct arch_part *p, int64_t pos0, int64_t n);
    /* Bytes of one sequence's state after `context` tokens, at esize bytes a number. */
    double (*state_bytes)(const struct arch *a, int layer, const struct arch_part *p, int64_t context, int esize);
    double (*active_share)(const struct arch *a, int layer, const struct arch_part *p); /* of its parameters, used by one token; 1 mostly */
    bool (*reads_rope)(const struct arch_part *p); /* does this part rotate, so that the arch's rope_theta means something? */
    /* NULL: nothing to do. Sets to its default what means nothing beside the part's other parameters: two ways to say one layer are one. */
    void (*tidy)(struct arch_part *p);
    /* NULL: never. The layer before this one whose mixer's state this mixer reads instead of one of its own; -1: it has its own. That layer
     * is no borrower itself. */
    int (*lender)(const struct arch *a, int layer);
    /* NULL: nothing to do. For the builder of a space, which draws layers one by one: takes back what the layers before do not allow
     * (borrowing where nobody lends); in a file the same is an error (check). */
    void (*settle)(const struct arch *a, int layer, struct arch_part *p);
    /* NULL: every side is one run of leading indices. Adds the runs of t's rows and columns, both empty; a side left empty is one such run. */
    void (*sides)(const struct arch *a, const struct arch_part *p, const struct layer_tensor *t, struct layer_side *rows, struct layer_side *cols);
};

/* Every descriptor, as layers.def names them. */
#define LAYER(name) extern const struct layer_spec layer_##name;
#include "searchspace/layers.def"
#undef LAYER

/* For the slots of types that have nothing to say there: every parameter is used by every token; no state; no RoPE. */
double space_layer_all_active(const struct arch *a, int layer, const struct arch_part *p);
double space_layer_no_state(const struct arch *a, int layer, const struct arch_part *p, int64_t context, int esize);
bool space_layer_no_rope(const struct arch_part *p);

/* In the order of layers.def; the index is arch_part.type. */
int space_layer_count(void);
const struct layer_spec *space_layer(int type);
int space_layer_find(const char *name, unsigned role); /* -1: none of that name with that role */
int space_layer_param(const struct layer_spec *s, const char *name); /* index; -1 */
/* Value of the named parameter of a part; asserts that it exists. For bodies: read once at build, not in a step. */
int32_t space_part_get(const struct arch_part *p, const char *name);
/* Does the part do nothing (type "none")? Then the stack leaves out its norm too. */
bool space_part_is_none(const struct arch_part *p);
/* The layer that lends its state to this layer's mixer; -1: none. */
int space_layer_lender(const struct arch *a, int layer);
/* Has the part tensors that are there with a->bias alone? What a->bias is does not matter. */
bool space_part_has_bias(const struct arch *a, int layer, const struct arch_part *p);
/* head_dim of a knob (NAN: width / heads, which heads must divide and which must not pass max). ST_EINVAL */
st_t layer_head_dim(double knob, int width, int heads, int max, int *out, struct base_err *err);
/* (query, key) pairs that the causal mask with window w (0: none) lets through for n queries at positions pos0 .. pos0+n-1:
 * the sum of min(pos+1, w). For the cost of layers that attend. */
double layer_attention_pairs(int64_t pos0, int64_t n, int64_t w);
/* FLOPs of the part in a prefill of n tokens. */
double space_part_prefill_flops(const struct arch *a, int layer, const struct arch_part *p, int64_t n);

/* hidden of a feed-forward: ratio x width rounded up to a multiple of 32; ST_EINVAL where that is not from 1 to max. */
st_t layer_hidden(double ratio, int width, int max, int *hidden, struct base_err *err);

/* The norms and embeddings that the stack itself owns are listed here so that cost and model agree:
 * "model.embed_tokens.weight" [V,D], "model.layers.N.input_layernorm.weight" [D] (before the mixer, absent when it is none),
 * "model.layers.N.post_attention_layernorm.weight" [D] (before the ffn, likewise), "model.norm.weight" [D], "lm_head.weight" [V,D] (untied);
 * with layer norm each norm has a ".bias" [D] too, whatever the arch's bias is. */
double layer_norm_params(const struct arch *a); /* of one norm */

#endif
