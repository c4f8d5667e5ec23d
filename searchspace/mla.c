/* Latent attention, as DeepseekV3Attention has it (transformers, models/deepseek_v3/modeling_deepseek_v3.py; DeepSeek-AI 2024, arXiv:2405.04434):
 * what is kept of a token is one latent of r numbers for all heads, and one key of dr numbers that carries its position.
 *
 *   [c | k'] = W_kva x  [r + dr]        c := norm(c)        [k_h | v_h] = W_kvb c, for each of H heads  [dn + dv]
 *   q = W_q x  [H (dn + dr)],  or with q_rank s > 0  W_qb norm(W_qa x), W_qa [s, D]        q_h = [qn_h | q'_h]
 *   score = (qn_h . k_h + rope(q'_h) . rope(k')) / sqrt(dn + dr)        y = W_o concat_h softmax(score) v_h
 *
 * H heads, r kv_rank, dn nope_dim, dr rope_dim, dv v_dim; causal. Biases where the class has them (attention_bias): of W_qa, W_kva and W_o.
 * RoPE is that of halves (rope_interleave = false). For weights of a class that pairs neighbours (rope_interleave = true) the dr rows of each head in
 * W_q or W_qb, and of k' in W_kva with its bias, are put in the order 0, 2, 4, …, 1, 3, 5, …: the scores are the same. */
#include "searchspace/layer.h"

#include <math.h>
#include <string.h>

enum { HEADS, KV_RANK, NOPE_DIM, ROPE_DIM, V_DIM, Q_RANK, NPARAMS };
enum { K_HEADS, K_KV_RANK, K_ROPE_DIM, K_HEAD_DIM, K_Q_RANK, NKNOBS };

#define HEADS_MAX 1024
#define HEAD_DIM_MAX 1024
#define RANK_MAX 4096

static const struct layer_param params[NPARAMS] = {
    [HEADS] = {.name = "heads", .kind = LAYER_INT, .always = true, .min = 1, .max = HEADS_MAX},
    [KV_RANK] = {.name = "kv_rank", .kind = LAYER_INT, .always = true, .min = 1, .max = RANK_MAX},
    [NOPE_DIM] = {.name = "nope_dim", .kind = LAYER_INT, .always = true, .min = 1, .max = HEAD_DIM_MAX},
    [ROPE_DIM] = {.name = "rope_dim", .kind = LAYER_INT, .always = true, .min = 2, .max = HEAD_DIM_MAX},
    [V_DIM] = {.name = "v_dim", .kind = LAYER_INT, .always = true, .min = 1, .max = HEAD_DIM_MAX},
    [Q_RANK] = {.name = "q_rank", .kind = LAYER_INT, .dflt = 0, .min = 0, .max = RANK_MAX},
};

static const struct layer_knob knobs[NKNOBS] = {
    [K_HEADS] = {.name = "heads", .kind = LAYER_INT, .dflt = NAN, .min = 1, .max = HEADS_MAX},
    [K_KV_RANK] = {.name = "kv_rank", .kind = LAYER_INT, .dflt = NAN, .min = 1, .max = RANK_MAX},
    [K_ROPE_DIM] = {.name = "rope_dim", .kind = LAYER_INT, .dflt = NAN, .min = 2, .max = HEAD_DIM_MAX},
    [K_HEAD_DIM] = {.name = "head_dim", .kind = LAYER_INT, .dflt = NAN, .may_be_absent = true, .min = 1, .max = HEAD_DIM_MAX},
    [K_Q_RANK] = {.name = "q_rank", .kind = LAYER_INT, .dflt = 0, .min = 0, .max = RANK_MAX},
};

static st_t check_rope(int rope_dim, struct base_err *err)
{
    if (rope_dim % 2) return base_err_set(err, ST_EINVAL, "rope_dim", "RoPE turns pairs: %d must be even", rope_dim);
    return ST_OK;
}

/* nope_dim and v_dim are both head_dim. */
static st_t resolve(const double *knob, int width, struct arch_part *out, struct base_err *err)
{
    int heads = (int)knob[K_HEADS], head_dim;
    if (isnan(knob[K_HEAD_DIM])) {
        if (width % heads) return base_err_set(err, ST_EINVAL, "heads", "%d does not divide width %d", heads, width);
        head_dim = width / heads;
        if (head_dim > HEAD_DIM_MAX) {
            return base_err_set(err, ST_EINVAL, "heads", "width %d / %d heads is a head_dim over %d", width, heads, HEAD_DIM_MAX);
        }
    } else {
        head_dim = (int)knob[K_HEAD_DIM];
    }
    st_t st = check_rope((int)knob[K_ROPE_DIM], err);
    if (st) return st;
    out->v[HEADS] = heads;
    out->v[KV_RANK] = (int32_t)knob[K_KV_RANK];
    out->v[NOPE_DIM] = head_dim;
    out->v[ROPE_DIM] = (int32_t)knob[K_ROPE_DIM];
    out->v[V_DIM] = head_dim;
    out->v[Q_RANK] = (int32_t)knob[K_Q_RANK];
    return ST_OK;
}

static st_t check(const struct arch *a, int layer, const struct arch_part *p, struct base_err *err)
{
    (void)a, (void)layer;
    return check_rope(p->v[ROPE_DIM], err);
}

/* Rows of W_q or W_qb, of W_kva, of W_kvb; columns of W_o. */
struct sizes {
    int64_t q, kv_a, kv_b, o;
};

static struct sizes sizes_of(const struct arch_part *p)
{
    int64_t H = p->v[HEADS], dn = p->v[NOPE_DIM], dr = p->v[ROPE_DIM], dv = p->v[V_DIM];
    return (struct sizes){H * (dn + dr), p->v[KV_RANK] + dr, H * (dn + dv), H * dv};
}

static int tensors(const struct arch *a, int layer, const struct arch_part *p, struct layer_tensor *out)
{
    (void)layer;
    struct sizes s = sizes_of(p);
    int64_t d = a->width, r = p->v[KV_RANK], q_rank = p->v[Q_RANK];
    int n = 0;
    /* 1/sqrt(fan in), as muP asks of hidden matrices; what ends in the residual stream also by 1/sqrt(2 depth) (GPT-2) */
    double in = 1 / sqrt((double)d), end = 1 / sqrt((double)s.o * 2 * a->depth);
    out[n++] = q_rank ? layer_matrix("self_attn.q_a_proj.weight", q_rank, d, in) : layer_matrix("self_attn.q_proj.weight", s.q, d, in);
    out[n++] = layer_matrix("self_attn.kv_a_proj_with_mqa.weight", s.kv_a, d, in);
    out[n++] = layer_matrix("self_attn.o_proj.weight", d, s.o, end);
    out[n] = layer_matrix("self_attn.kv_b_proj.weight", s.kv_b, r, 1 / sqrt((double)r));
    out[n++].both_ways = true;
    if (q_rank) out[n++] = layer_matrix("self_attn.q_b_proj.weight", s.q, q_rank, 1 / sqrt((double)q_rank));
    out[n++] = layer_vector("self_attn.kv_a_layernorm.weight", r, LAYER_INIT_ONES);
    if (q_rank) out[n++] = layer_vector("self_attn.q_a_layernorm.weight", q_rank, LAYER_INIT_ONES);
    if (!a->bias) return n;
    out[n++] = layer_vector("self_attn.kv_a_proj_with_mqa.bias", s.kv_a, LAYER_INIT_ZEROS);
    out[n++] = layer_vector("self_attn.o_proj.bias", d, LAYER_INIT_ZEROS);
    if (q_rank) out[n++] = layer_vector("self_attn.q_a_proj.bias", q_rank, LAYER_INIT_ZEROS);
    return n;
}

/* Projections: 2 x rows x columns of each matrix, a token; W_kvb counts the same whether it makes a token's keys and values or takes its query
 * to the latent and its output back. Core, for every head and pair: with keys and values 2 (dn + dr) + 2 dv. Tokens that come after others
 * meet latents, 2 (r + dr) + 2 r: those before them are kept as such alone, and so do all pieces of a long prefill but the first. */
static double flops(const struct arch *a, int layer, const struct arch_part *p, int64_t pos0, int64_t n)
{
    (void)layer;
    struct sizes s = sizes_of(p);
    double d = a->width, r = p->v[KV_RANK], q_rank = p->v[Q_RANK], dr = p->v[ROPE_DIM];
    double q = q_rank > 0 ? q_rank * (d + (double)s.q) : (double)s.q * d;
    double meet = pos0 ? 2 * r + dr : (double)p->v[NOPE_DIM] + dr + p->v[V_DIM];
    return (double)n * 2 * (q + (double)s.kv_a * d + (double)s.kv_b * r + (double)s.o * d) +
           2 * p->v[HEADS] * meet * layer_attention_pairs(pos0, n, 0);
}

/* The latent and the key that carries the position, of every token. */
static double state_bytes(const struct arch *a, int layer, const struct arch_part *p, int64_t context, int esize)
{
    (void)a, (void)layer;
    return (double)sizes_of(p).kv_a * (double)context * esize;
}

static bool reads_rope(const struct arch_part *p)
{
    (void)p;
    return true;
}

/* A head's columns without RoPE come before those with it: where the former differ in number, leading indices mix the two. */
static void sides(const struct arch *a, const struct arch_part *p, const struct layer_tensor *t, struct layer_side *rows, struct layer_side *cols)
{
    (void)a;
    int64_t H = p->v[HEADS], dn = p->v[NOPE_DIM], dr = p->v[ROPE_DIM], dv = p->v[V_DIM];
    if (strstr(t->name, ".q_proj.") || strstr(t->name, ".q_b_proj.")) layer_side_run(rows, H, dn + dr, 1);
    if (strstr(t->name, ".kv_a_proj_with_mqa.")) layer_side_run(rows, p->v[KV_RANK], 1, 1), layer_side_run(rows, dr, 1, 1);
    if (strstr(t->name, ".kv_b_proj.")) layer_side_run(rows, H, dn + dv, 1);
    if (!strcmp(t->name, "self_attn.o_proj.weight")) layer_side_run(cols, H, dv, 1);
}

const struct layer_spec layer_mla = {
    .name = "mla",
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
    .sides = sides,
};
