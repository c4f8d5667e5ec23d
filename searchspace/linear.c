/* Gated linear attention, as GatedLinearAttention of flash-linear-attention has it with its defaults (Yang et al. 2023, arXiv:2312.06635,
 * section 4.4; names and initial gates of GLAForCausalLM; it is in no class of transformers):
 *
 *   q, k [H K], v, z [H V] = W x       g = log sigmoid(W_2 (W_1 x) + b_2) / 16    [H K], W_1 of gate_rank rows
 *   S <- diag(e^g) S + k (x) v;  o = S^T q / sqrt(K)                              S [K,V] per head
 *   y = W_o (w * rmsnorm(o) * silu(z))                                            norm per head, one w [V] for all; its eps is the model's
 *
 * H heads, K head_dim, V value_dim. b_2 is there always; other biases are not, whatever the architecture says. */
#include "searchspace/layer.h"

#include <math.h>
#include <string.h>

enum { HEADS, HEAD_DIM, VALUE_DIM, GATE_RANK, NPARAMS };

#define HEADS_MAX 1024
#define DIM_MAX 1024
#define RANK_DFLT 16

static const struct layer_param params[NPARAMS] = {
    [HEADS] = {.name = "heads", .kind = LAYER_INT, .always = true, .min = 1, .max = HEADS_MAX},
    [HEAD_DIM] = {.name = "head_dim", .kind = LAYER_INT, .always = true, .min = 1, .max = DIM_MAX},
    [VALUE_DIM] = {.name = "value_dim", .kind = LAYER_INT, .always = true, .min = 1, .max = DIM_MAX},
    [GATE_RANK] = {.name = "gate_rank", .kind = LAYER_INT, .dflt = RANK_DFLT, .min = 1, .max = DIM_MAX},
};

static const struct layer_knob knobs[NPARAMS] = {
    [HEADS] = {.name = "heads", .kind = LAYER_INT, .dflt = NAN, .min = 1, .max = HEADS_MAX},
    [HEAD_DIM] = {.name = "head_dim", .kind = LAYER_INT, .dflt = NAN, .may_be_absent = true, .min = 1, .max = DIM_MAX},
    [VALUE_DIM] = {.name = "value_dim", .kind = LAYER_INT, .dflt = NAN, .may_be_absent = true, .min = 1, .max = DIM_MAX},
    [GATE_RANK] = {.name = "gate_rank", .kind = LAYER_INT, .dflt = RANK_DFLT, .min = 1, .max = DIM_MAX},
};

static st_t resolve(const double *knob, int width, struct arch_part *out, struct base_err *err)
{
    int heads = (int)knob[HEADS], head_dim;
    st_t st = layer_head_dim(knob[HEAD_DIM], width, heads, DIM_MAX, &head_dim, err);
    if (st) return st;
    out->v[HEADS] = heads;
    out->v[HEAD_DIM] = head_dim;
    out->v[VALUE_DIM] = isnan(knob[VALUE_DIM]) ? head_dim : (int32_t)knob[VALUE_DIM];
    out->v[GATE_RANK] = (int32_t)knob[GATE_RANK];
    return ST_OK;
}

static st_t check(const struct arch *a, int layer, const struct arch_part *p, struct base_err *err)
{
    (void)a, (void)layer, (void)p, (void)err;
    return ST_OK;
}

static int tensors(const struct arch *a, int layer, const struct arch_part *p, struct layer_tensor *out)
{
    (void)layer;
    int64_t d = a->width, keys = (int64_t)p->v[HEADS] * p->v[HEAD_DIM], values = (int64_t)p->v[HEADS] * p->v[VALUE_DIM], r = p->v[GATE_RANK];
    double in = 1 / sqrt((double)d), end = 1 / sqrt((double)values * 2 * a->depth); /* as in attention.c */
    int n = 0;
    out[n++] = layer_matrix("attn.q_proj.weight", keys, d, in);
    out[n++] = layer_matrix("attn.k_proj.weight", keys, d, in);
    out[n++] = layer_matrix("attn.v_proj.weight", values, d, in);
    out[n++] = layer_matrix("attn.g_proj.weight", values, d, in);
    out[n++] = layer_matrix("attn.gk_proj.0.weight", r, d, in);
    out[n++] = layer_matrix("attn.gk_proj.1.weight", keys, r, 1 / sqrt((double)r));
    out[n++] = layer_matrix("attn.o_proj.weight", d, values, end);
    out[n++] = layer_vector("attn.gk_proj.1.bias", keys, LAYER_INIT_ZEROS);
    out[n++] = layer_vector("attn.g_norm_swish_gate.weight", p->v[VALUE_DIM], LAYER_INIT_ONES);
    return n;
}

/* Two a weight and token; the scan in its recurrent form, 2 K V each for k (x) v and S^T q of every head, K V for the decay. */
static double flops(const struct arch *a, int layer, const struct arch_part *p, int64_t pos0, int64_t n)
{
    (void)layer, (void)pos0;
    double d = a->width, keys = (double)p->v[HEADS] * p->v[HEAD_DIM], values = (double)p->v[HEADS] * p->v[VALUE_DIM], r = p->v[GATE_RANK];
    return (double)n * (2 * d * (2 * keys + 3 * values + r) + 2 * r * keys + 5 * keys * p->v[VALUE_DIM]);
}

/* S of every head, whatever the context. */
static double state_bytes(const struct arch *a, int layer, const struct arch_part *p, int64_t context, int esize)
{
    (void)a, (void)layer, (void)context;
    return (double)p->v[HEADS] * p->v[HEAD_DIM] * p->v[VALUE_DIM] * esize;
}

static void sides(const struct arch *a, const struct arch_part *p, const struct layer_tensor *t, struct layer_side *rows, struct layer_side *cols)
{
    (void)a;
    int64_t H = p->v[HEADS], K = p->v[HEAD_DIM], V = p->v[VALUE_DIM];
    if (strstr(t->name, ".q_proj.") || strstr(t->name, ".k_proj.") || strstr(t->name, ".gk_proj.1.")) layer_side_run(rows, H, K, 1);
    if (strstr(t->name, ".v_proj.") || strstr(t->name, ".g_proj.")) layer_side_run(rows, H, V, 1);
    if (strstr(t->name, ".o_proj.")) layer_side_run(cols, H, V, 1);
}

const struct layer_spec layer_linear = {
    .name = "linear",
    .roles = LAYER_MIXER,
    .params = params,
    .nparams = NPARAMS,
    .knobs = knobs,
    .nknobs = NPARAMS,
    .resolve = resolve,
    .check = check,
    .tensors = tensors,
    .flops = flops,
    .state_bytes = state_bytes,
    .active_share = space_layer_all_active,
    .reads_rope = space_layer_no_rope,
    .sides = sides,
};
