/* Softmax attention with grouped heads, RoPE and a window, as LlamaForCausalLM and MistralForCausalLM have it (transformers,
 * models/llama/modeling_llama.py; grouped heads: Ainslie et al. 2023, arXiv:2305.13245; window: Jiang et al. 2023, arXiv:2310.06825).
 *
 *   q = W_q x  [H d]   k = W_k x  [G d]   v = W_v x  [G d]   y = W_o concat_h softmax(q_h k_{h/(H/G)}^T / sqrt(d)) v_{h/(H/G)}
 *
 * H heads, G kv_heads, d head_dim; H d need not be the width; each product has a bias where the arch says so. Key j is seen by query i when i - W < j <= i (W = 0: j <= i).
 *
 * qk_norm: q and k of each head are normed (RMSNorm over d, one weight each) before RoPE (Qwen3Attention).
 * gate: W_q gives [q | g] of each head, 2 d rows, and y = W_o (concat_h … * sigmoid(g)) (Qwen3NextAttention).
 * rope_dim r > 0: the first r numbers of each head rotate, the others pass (partial_rotary_factor r/d); 0: all.
 * share_kv: no W_k and W_v; k and v (normed and rotated) are those of the nearest attention layer before it that has its own and whose kv_heads,
 *   head_dim, window, rope and rope_dim are the same (Brandon et al. 2024, arXiv:2405.12981). */
#include "searchspace/layer.h"

#include <math.h>
#include <string.h>

enum { HEADS, KV_HEADS, HEAD_DIM, WINDOW, ROPE, QK_NORM, GATE, ROPE_DIM, SHARE_KV, NPARAMS };
enum { K_HEADS, K_KV_RATIO, K_HEAD_DIM, K_WINDOW, K_ROPE, K_QK_NORM, K_GATE, K_ROPE_DIM, K_SHARE_KV, NKNOBS };

#define HEADS_MAX 1024
#define HEAD_DIM_MAX 1024

static const struct layer_param params[NPARAMS] = {
    [HEADS] = {.name = "heads", .kind = LAYER_INT, .always = true, .min = 1, .max = HEADS_MAX},
    [KV_HEADS] = {.name = "kv_heads", .kind = LAYER_INT, .always = true, .min = 1, .max = HEADS_MAX},
    [HEAD_DIM] = {.name = "head_dim", .kind = LAYER_INT, .always = true, .min = 1, .max = HEAD_DIM_MAX},
    [WINDOW] = {.name = "window", .kind = LAYER_INT, .dflt = 0, .min = 0, .max = ARCH_CONTEXT_MAX},
    [ROPE] = {.name = "rope", .kind = LAYER_BOOL, .dflt = 1, .min = 0, .max = 1},
    [QK_NORM] = {.name = "qk_norm", .kind = LAYER_BOOL, .dflt = 0, .min = 0, .max = 1},
    [GATE] = {.name = "gate", .kind = LAYER_BOOL, .dflt = 0, .min = 0, .max = 1},
    [ROPE_DIM] = {.name = "rope_dim", .kind = LAYER_INT, .dflt = 0, .min = 0, .max = HEAD_DIM_MAX},
    [SHARE_KV] = {.name = "share_kv", .kind = LAYER_BOOL, .dflt = 0, .min = 0, .max = 1},
};

static const struct layer_knob knobs[NKNOBS] = {
    [K_HEADS] = {.name = "heads", .kind = LAYER_INT, .dflt = NAN, .min = 1, .max = HEADS_MAX},
    [K_KV_RATIO] = {.name = "kv_ratio", .kind = LAYER_INT, .dflt = 1, .min = 1, .max = HEADS_MAX},
    [K_HEAD_DIM] = {.name = "head_dim", .kind = LAYER_INT, .dflt = NAN, .may_be_absent = true, .min = 1, .max = HEAD_DIM_MAX},
    [K_WINDOW] = {.name = "window", .kind = LAYER_INT, .dflt = 0, .min = 0, .max = ARCH_CONTEXT_MAX},
    [K_ROPE] = {.name = "rope", .kind = LAYER_BOOL, .dflt = 1, .min = 0, .max = 1},
    [K_QK_NORM] = {.name = "qk_norm", .kind = LAYER_BOOL, .dflt = 0, .min = 0, .max = 1},
    [K_GATE] = {.name = "gate", .kind = LAYER_BOOL, .dflt = 0, .min = 0, .max = 1, .late = true},
    [K_ROPE_DIM] = {.name = "rope_dim", .kind = LAYER_INT, .dflt = 0, .min = 0, .max = HEAD_DIM_MAX, .late = true},
    [K_SHARE_KV] = {.name = "share_kv", .kind = LAYER_BOOL, .dflt = 0, .min = 0, .max = 1, .late = true},
};

/* RoPE turns pairs: of the whole head, or of its first rope_dim numbers. */
static st_t check_rope(int rope, int rope_dim, int head_dim, struct base_err *err)
{
    if (!rope) return ST_OK;
    if (rope_dim > head_dim) return base_err_set(err, ST_EINVAL, "rope_dim", "%d is more than head_dim %d", rope_dim, head_dim);
    if (rope_dim % 2) return base_err_set(err, ST_EINVAL, "rope_dim", "RoPE turns pairs: %d must be even", rope_dim);
    if (!rope_dim && head_dim % 2) return base_err_set(err, ST_EINVAL, "head_dim", "RoPE turns pairs: %d must be even", head_dim);
    return ST_OK;
}

static st_t resolve(const double *knob, int width, struct arch_part *out, struct base_err *err)
{
    int heads = (int)knob[K_HEADS], ratio = (int)knob[K_KV_RATIO], head_dim;
    if (heads % ratio) return base_err_set(err, ST_EINVAL, "kv_ratio", "%d does not divide %d heads", ratio, heads);
    st_t st = layer_head_dim(knob[K_HEAD_DIM], width, heads, HEAD_DIM_MAX, &head_dim, err);
    if (st) return st;
    st = check_rope(knob[K_ROPE] != 0, (int)knob[K_ROPE_DIM], head_dim, err);
    if (st) return st;
    out->v[HEADS] = heads;
    out->v[KV_HEADS] = heads / ratio;
    out->v[HEAD_DIM] = head_dim;
    out->v[WINDOW] = (int32_t)knob[K_WINDOW];
    out->v[ROPE] = knob[K_ROPE] != 0;
    out->v[QK_NORM] = knob[K_QK_NORM] != 0;
    out->v[GATE] = knob[K_GATE] != 0;
    out->v[ROPE_DIM] = (int32_t)knob[K_ROPE_DIM];
    out->v[SHARE_KV] = knob[K_SHARE_KV] != 0;
    return ST_OK;
}

/* A rope_dim of the whole head is none; without RoPE it means nothing. */
static int32_t rope_dim(const struct arch_part *p)
{
    return p->v[ROPE] && p->v[ROPE_DIM] < p->v[HEAD_DIM] ? p->v[ROPE_DIM] : 0;
}

static void tidy(struct arch_part *p)
{
    p->v[ROPE_DIM] = rope_dim(p);
}

/* Do keys and values of both mean the same? */
static bool same_cache(const struct arch_part *p, const struct arch_part *q)
{
    return p->v[KV_HEADS] == q->v[KV_HEADS] && p->v[HEAD_DIM] == q->v[HEAD_DIM] && p->v[WINDOW] == q->v[WINDOW] && p->v[ROPE] == q->v[ROPE] &&
           rope_dim(p) == rope_dim(q);
}

static int nearest(const struct arch *a, int layer, const struct arch_part *p)
{
    for (int i = layer - 1; i >= 0; i--) {
        const struct arch_part *q = &a->layer[i].mixer;
        if (space_layer(q->type) == &layer_attention && !q->v[SHARE_KV] && same_cache(p, q)) return i;
    }
    return -1;
}

static int lender(const struct arch *a, int layer)
{
    const struct arch_part *p = &a->layer[layer].mixer;
    return p->v[SHARE_KV] ? nearest(a, layer, p) : -1;
}

static void settle(const struct arch *a, int layer, struct arch_part *p)
{
    if (p->v[SHARE_KV] && nearest(a, layer, p) < 0) p->v[SHARE_KV] = 0;
}

static st_t check(const struct arch *a, int layer, const struct arch_part *p, struct base_err *err)
{
    if (p->v[HEADS] % p->v[KV_HEADS])
        return base_err_set(err, ST_EINVAL, "kv_heads", "%d does not divide %d heads", p->v[KV_HEADS], p->v[HEADS]);
    if (p->v[SHARE_KV] && nearest(a, layer, p) < 0)
        return base_err_set(err, ST_EINVAL, "share_kv", "no attention layer before this one has the same kv_heads, head_dim, window, rope and rope_dim");
    return check_rope(p->v[ROPE], p->v[ROPE_DIM], p->v[HEAD_DIM], err);
}

/* Rows of W_q, of W_k and of W_v. */
static int64_t q_rows(const struct arch_part *p)
{
    return (int64_t)p->v[HEADS] * p->v[HEAD_DIM] * (p->v[GATE] ? 2 : 1);
}

static int64_t kv_rows(const struct arch_part *p)
{
    return p->v[SHARE_KV] ? 0 : (int64_t)p->v[KV_HEADS] * p->v[HEAD_DIM];
}

static int tensors(const struct arch *a, int layer, const struct arch_part *p, struct layer_tensor *out)
{
    (void)layer;
    int64_t d = a->width, o = (int64_t)p->v[HEADS] * p->v[HEAD_DIM];
    int n = 0;
    /* 1/sqrt(fan in), as muP asks of hidden matrices; what ends in the residual stream also by 1/sqrt(2 depth) (GPT-2) */
    double in = 1 / sqrt((double)d), end = 1 / sqrt((double)o * 2 * a->depth);
    out[n++] = layer_matrix("self_attn.q_proj.weight", q_rows(p), d, in);
    if (!p->v[SHARE_KV]) {
        out[n++] = layer_matrix("self_attn.k_proj.weight", kv_rows(p), d, in);
        out[n++] = layer_matrix("self_attn.v_proj.weight", kv_rows(p), d, in);
    }
    out[n++] = layer_matrix("self_attn.o_proj.weight", d, o, end);
    if (p->v[QK_NORM]) {
        out[n++] = layer_vector("self_attn.q_norm.weight", p->v[HEAD_DIM], LAYER_INIT_ONES);
        if (!p->v[SHARE_KV]) out[n++] = layer_vector("self_attn.k_norm.weight", p->v[HEAD_DIM], LAYER_INIT_ONES);
    }
    if (!a->bias) return n;
    out[n++] = layer_vector("self_attn.q_proj.bias", q_rows(p), LAYER_INIT_ZEROS);
    if (!p->v[SHARE_KV]) {
        out[n++] = layer_vector("self_attn.k_proj.bias", kv_rows(p), LAYER_INIT_ZEROS);
        out[n++] = layer_vector("self_attn.v_proj.bias", kv_rows(p), LAYER_INIT_ZEROS);
    }
    out[n++] = layer_vector("self_attn.o_proj.bias", d, LAYER_INIT_ZEROS);
    return n;
}

/* Projections: 2 D times the rows of W_q, W_k, W_v and the columns of W_o, a token. Core: q k^T and the sum over v, 2 d each, for every head and
 * pair: 4 H d. */
static double flops(const struct arch *a, int layer, const struct arch_part *p, int64_t pos0, int64_t n)
{
    (void)layer;
    double d = a->width, o = (double)p->v[HEADS] * p->v[HEAD_DIM];
    return (double)n * 2 * d * ((double)q_rows(p) + o + 2 * (double)kv_rows(p)) + 4 * o * layer_attention_pairs(pos0, n, p->v[WINDOW]);
}

/* k and v of the tokens that may still be seen: min(L, W); none where another layer keeps them. */
static double state_bytes(const struct arch *a, int layer, const struct arch_part *p, int64_t context, int esize)
{
    (void)a, (void)layer;
    int64_t kept = p->v[WINDOW] && p->v[WINDOW] < context ? p->v[WINDOW] : context;
    return 2.0 * (double)kv_rows(p) * (double)kept * esize;
}

static bool reads_rope(const struct arch_part *p)
{
    return p->v[ROPE] != 0;
}

/* Query heads go with the key head that they meet. RoPE turns the numbers of a head's first half with those of its second: a smaller head has the first of both. */
static void sides(const struct arch *a, const struct arch_part *p, const struct layer_tensor *t, struct layer_side *rows, struct layer_side *cols)
{
    (void)a;
    int64_t G = p->v[KV_HEADS], R = p->v[HEADS] / G, K = p->v[HEAD_DIM];
    int64_t halves = p->v[ROPE] && !rope_dim(p) && K % 2 == 0 ? 2 : 1;
    if (strstr(t->name, ".q_proj.")) {
        layer_side_run(rows, G, R, p->v[GATE] ? 2 : 1);
        rows->d[0][3] = halves, rows->d[0][4] = K / halves;
    }
    if (strstr(t->name, ".k_proj.")) layer_side_run(rows, G, halves, K / halves);
    if (strstr(t->name, ".v_proj.")) layer_side_run(rows, G, K, 1);
    if (strstr(t->name, "_norm.")) layer_side_run(rows, halves, K / halves, 1);
    if (!strcmp(t->name, "self_attn.o_proj.weight")) layer_side_run(cols, G, R, K);
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
    .tidy = tidy,
    .lender = lender,
    .settle = settle,
    .sides = sides,
};
