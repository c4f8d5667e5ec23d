/* Softmax attention with grouped heads, RoPE and a window, as LlamaForCausalLM and MistralForCausalLM have it (transformers,
 * models/llama/modeling_llama.py; grouped heads: Ainslie et al. 2023, arXiv:2305.13245; window: Jiang et al. 2023, arXiv:2310.06825).
 *
 *   q = W_q x  [H d]   k = W_k x  [G d]   v = W_v x  [G d]   y = W_o concat_h softmax(q_h k_{h/(H/G)}^T / sqrt(d)) v_{h/(H/G)}
 *
 * H heads, G kv_heads, d head_dim; H d need not be the width. Key j is seen by query i when i - W < j <= i (W = 0: j <= i). */
#include "searchspace/layer.h"

#include <math.h>

enum { HEADS, KV_HEADS, HEAD_DIM, WINDOW, ROPE, QK_NORM, NPARAMS };
enum { K_HEADS, K_KV_RATIO, K_HEAD_DIM, K_WINDOW, K_ROPE, K_QK_NORM, NKNOBS };

#define HEADS_MAX 1024
#define HEAD_DIM_MAX 1024

static const struct layer_param params[NPARAMS] = {
    [HEADS] = {.name = "heads", .kind = LAYER_INT, .always = true, .min = 1, .max = HEADS_MAX},
    [KV_HEADS] = {.name = "kv_heads", .kind = LAYER_INT, .always = true, .min = 1, .max = HEADS_MAX},
    [HEAD_DIM] = {.name = "head_dim", .kind = LAYER_INT, .always = true, .min = 1, .max = HEAD_DIM_MAX},
    [WINDOW] = {.name = "window", .kind = LAYER_INT, .dflt = 0, .min = 0, .max = ARCH_CONTEXT_MAX},
    [ROPE] = {.name = "rope", .kind = LAYER_BOOL, .dflt = 1, .min = 0, .max = 1},
    [QK_NORM] = {.name = "qk_norm", .kind = LAYER_BOOL, .dflt = 0, .min = 0, .max = 1, .only_dflt = true},
};

static const struct layer_knob knobs[NKNOBS] = {
    [K_HEADS] = {.name = "heads", .kind = LAYER_INT, .dflt = NAN, .min = 1, .max = HEADS_MAX},
    [K_KV_RATIO] = {.name = "kv_ratio", .kind = LAYER_INT, .dflt = 1, .min = 1, .max = HEADS_MAX},
    [K_HEAD_DIM] = {.name = "head_dim", .kind = LAYER_INT, .dflt = NAN, .may_be_absent = true, .min = 1, .max = HEAD_DIM_MAX},
    [K_WINDOW] = {.name = "window", .kind = LAYER_INT, .dflt = 0, .min = 0, .max = ARCH_CONTEXT_MAX},
    [K_ROPE] = {.name = "rope", .kind = LAYER_BOOL, .dflt = 1, .min = 0, .max = 1},
    [K_QK_NORM] = {.name = "qk_norm", .kind = LAYER_BOOL, .dflt = 0, .min = 0, .max = 1, .only_dflt = true},
};

static st_t odd_head(struct base_err *err, int head_dim)
{
    return base_err_set(err, ST_EINVAL, "head_dim", "RoPE turns pairs: %d must be even", head_dim);
}

static st_t resolve(const double *knob, int width, struct arch_part *out, struct base_err *err)
{
    int heads = (int)knob[K_HEADS], ratio = (int)knob[K_KV_RATIO], head_dim;
    if (heads % ratio) return base_err_set(err, ST_EINVAL, "kv_ratio", "%d does not divide %d heads", ratio, heads);
    if (isnan(knob[K_HEAD_DIM])) {
        if (width % heads) return base_err_set(err, ST_EINVAL, "heads", "%d does not divide width %d", heads, width);
        head_dim = width / heads;
        if (head_dim > HEAD_DIM_MAX) {
            return base_err_set(err, ST_EINVAL, "heads", "width %d / %d heads is a head_dim over %d", width, heads, HEAD_DIM_MAX);
        }
    } else {
        head_dim = (int)knob[K_HEAD_DIM];
    }
    if (knob[K_ROPE] != 0 && head_dim % 2) return odd_head(err, head_dim);
    out->v[HEADS] = heads;
    out->v[KV_HEADS] = heads / ratio;
    out->v[HEAD_DIM] = head_dim;
    out->v[WINDOW] = (int32_t)knob[K_WINDOW];
    out->v[ROPE] = knob[K_ROPE] != 0;
    out->v[QK_NORM] = knob[K_QK_NORM] != 0;
    return ST_OK;
}

static st_t check(const struct arch *a, int layer, const struct arch_part *p, struct base_err *err)
{
    (void)a, (void)layer;
    if (p->v[HEADS] % p->v[KV_HEADS])
        return base_err_set(err, ST_EINVAL, "kv_heads", "%d does not divide %d heads", p->v[KV_HEADS], p->v[HEADS]);
    if (p->v[ROPE] && p->v[HEAD_DIM] % 2) return odd_head(err, p->v[HEAD_DIM]);
    return ST_OK;
}

static int tensors(const struct arch *a, int layer, const struct arch_part *p, struct layer_tensor *out)
{
    (void)layer;
    int64_t d = a->width, q = (int64_t)p->v[HEADS] * p->v[HEAD_DIM], kv = (int64_t)p->v[KV_HEADS] * p->v[HEAD_DIM];
    /* 1/sqrt(fan in), as muP asks of hidden matrices; what ends in the residual stream also by 1/sqrt(2 depth) (GPT-2) */
    double in = 1 / sqrt((double)d), end = 1 / sqrt((double)q * 2 * a->depth);
    out[0] = layer_matrix("self_attn.q_proj.weight", q, d, in);
    out[1] = layer_matrix("self_attn.k_proj.weight", kv, d, in);
    out[2] = layer_matrix("self_attn.v_proj.weight", kv, d, in);
    out[3] = layer_matrix("self_attn.o_proj.weight", d, q, end);
    return 4;
}

/* Projections: 2 D (2 H d + 2 G d) a token. Core: q k^T and the sum over v, 2 d each, for every head and pair: 4 H d. */
static double flops(const struct arch *a, int layer, const struct arch_part *p, int64_t pos0, int64_t n)
{
    (void)layer;
    double d = a->width, q = (double)p->v[HEADS] * p->v[HEAD_DIM], kv = (double)p->v[KV_HEADS] * p->v[HEAD_DIM];
    return (double)n * 2 * d * (2 * q + 2 * kv) + 4 * q * layer_attention_pairs(pos0, n, p->v[WINDOW]);
}

/* k and v of the tokens that may still be seen: min(L, W). */
static double state_bytes(const struct arch *a, int layer, const struct arch_part *p, int64_t context, int esize)
{
    (void)a, (void)layer;
    int64_t kept = p->v[WINDOW] && p->v[WINDOW] < context ? p->v[WINDOW] : context;
    return 2.0 * p->v[KV_HEADS] * p->v[HEAD_DIM] * (double)kept * esize;
}

static bool reads_rope(const struct arch_part *p)
{
    return p->v[ROPE] != 0;
}

const struct layer_spec layer_attention = {
    .name = "attention",
    .roles = LAYER_MIXER,
    .params = params,
    .nparams = NPARAMS,
    .knobs = knobs,
    .nknobs = NKNOBS,
    .resolve = resolve,
    .check = check,
    .tensors = tensors,
    .flops = flops,
    .state_bytes = state_bytes,
    .active_share = space_layer_all_active,
    .reads_rope = reads_rope,
};
