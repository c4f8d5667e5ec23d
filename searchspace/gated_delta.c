/* Gated DeltaNet, as Qwen3NextGatedDeltaNet has it (transformers, models/qwen3_next/modeling_qwen3_next.py; Yang et al. 2024,
 * arXiv:2412.06464):
 *
 *   q, k [G K], v, z [H V], b, a [H] = W x        q, k, v = silu(conv(q, k, v))     causal, depthwise, `conv` taps, no bias
 *   q = q / sqrt(|q|^2 + 1e-6) / sqrt(K)   k = k / sqrt(|k|^2 + 1e-6)     per head
 *   beta = sigmoid(b)   g = -exp(A_log) softplus(a + dt_bias)             per value head
 *   S <- e^g S;  d = beta (v - S^T k);  S <- S + k (x) d;  o = S^T q      S [K,V] per value head h, which reads key head h / (H/G)
 *   y = W_o (w * rmsnorm(o) * silu(z))                                    norm per head, one w [V] for all; its eps is the model's
 *
 * H heads (value heads), G key_heads, K head_dim, V value_dim. No biases, whatever the architecture says: the class has none.
 *
 * The class stores W as two matrices whose rows are interleaved by key head, and one convolution. With R = H/G they are
 *
 *   in_proj_qkvz [G (2 K + 2 R V), D]: for each key head i: q's rows of head i, k's of head i, v's of heads i R .. i R + R - 1, z's likewise
 *   in_proj_ba [2 H, D]:               for each key head i: b's rows i R .. i R + R - 1, a's likewise
 *   conv1d [2 G K + H V, 1, conv]:     q's taps, k's, v's
 *
 * Here each is a matrix of its own (in_proj_q, _k, _v, _z, _b, _a; conv1d_q, _k, _v), head after head, so that fewer heads are leading rows. */
#include "searchspace/layer.h"

#include <math.h>
#include <string.h>

enum { HEADS, KEY_HEADS, HEAD_DIM, VALUE_DIM, CONV, NPARAMS };
enum { K_HEADS, K_KEY_RATIO, K_HEAD_DIM, K_VALUE_DIM, K_CONV, NKNOBS };

#define HEADS_MAX 1024
#define DIM_MAX 1024
#define CONV_MAX 16
#define CONV_DFLT 4

static const struct layer_param params[NPARAMS] = {
    [HEADS] = {.name = "heads", .kind = LAYER_INT, .always = true, .min = 1, .max = HEADS_MAX},
    [KEY_HEADS] = {.name = "key_heads", .kind = LAYER_INT, .always = true, .min = 1, .max = HEADS_MAX},
    [HEAD_DIM] = {.name = "head_dim", .kind = LAYER_INT, .always = true, .min = 1, .max = DIM_MAX},
    [VALUE_DIM] = {.name = "value_dim", .kind = LAYER_INT, .always = true, .min = 1, .max = DIM_MAX},
    [CONV] = {.name = "conv", .kind = LAYER_INT, .dflt = CONV_DFLT, .min = 1, .max = CONV_MAX},
};

static const struct layer_knob knobs[NKNOBS] = {
    [K_HEADS] = {.name = "heads", .kind = LAYER_INT, .dflt = NAN, .min = 1, .max = HEADS_MAX},
    [K_KEY_RATIO] = {.name = "key_ratio", .kind = LAYER_INT, .dflt = 1, .min = 1, .max = HEADS_MAX},
    [K_HEAD_DIM] = {.name = "head_dim", .kind = LAYER_INT, .dflt = NAN, .may_be_absent = true, .min = 1, .max = DIM_MAX},
    [K_VALUE_DIM] = {.name = "value_dim", .kind = LAYER_INT, .dflt = NAN, .may_be_absent = true, .min = 1, .max = DIM_MAX},
    [K_CONV] = {.name = "conv", .kind = LAYER_INT, .dflt = CONV_DFLT, .min = 1, .max = CONV_MAX},
};

static st_t resolve(const double *knob, int width, struct arch_part *out, struct base_err *err)
{
    int heads = (int)knob[K_HEADS], ratio = (int)knob[K_KEY_RATIO], head_dim;
    if (heads % ratio) return base_err_set(err, ST_EINVAL, "key_ratio", "%d does not divide %d heads", ratio, heads);
    st_t st = layer_head_dim(knob[K_HEAD_DIM], width, heads, DIM_MAX, &head_dim, err);
    if (st) return st;
    out->v[HEADS] = heads;
    out->v[KEY_HEADS] = heads / ratio;
    out->v[HEAD_DIM] = head_dim;
    out->v[VALUE_DIM] = isnan(knob[K_VALUE_DIM]) ? head_dim : (int32_t)knob[K_VALUE_DIM];
    out->v[CONV] = (int32_t)knob[K_CONV];
    return ST_OK;
}

static st_t check(const struct arch *a, int layer, const struct arch_part *p, struct base_err *err)
{
    (void)a, (void)layer;
    if (p->v[HEADS] % p->v[KEY_HEADS])
        return base_err_set(err, ST_EINVAL, "key_heads", "%d does not divide %d heads", p->v[KEY_HEADS], p->v[HEADS]);
    return ST_OK;
}

static struct layer_tensor taps(const char *name, int64_t channels, int64_t k)
{
    double b = 1 / sqrt((double)k); /* as torch.nn.Conv1d begins them */
    return (struct layer_tensor){
        .name = name, .role = LAYER_T_VECTOR, .rows = channels, .cols = k, .mid = 1, .init = LAYER_INIT_UNIFORM, .lo = -b, .hi = b};
}

static int tensors(const struct arch *a, int layer, const struct arch_part *p, struct layer_tensor *out)
{
    (void)layer;
    int64_t d = a->width, H = p->v[HEADS], keys = (int64_t)p->v[KEY_HEADS] * p->v[HEAD_DIM], values = H * p->v[VALUE_DIM];
    double in = 1 / sqrt((double)d), end = 1 / sqrt((double)values * 2 * a->depth); /* as in attention.c */
    int n = 0;
    out[n++] = layer_matrix("linear_attn.in_proj_q.weight", keys, d, in);
    out[n++] = layer_matrix("linear_attn.in_proj_k.weight", keys, d, in);
    out[n++] = layer_matrix("linear_attn.in_proj_v.weight", values, d, in);
    out[n++] = layer_matrix("linear_attn.in_proj_z.weight", values, d, in);
    out[n++] = layer_matrix("linear_attn.in_proj_b.weight", H, d, in);
    out[n++] = layer_matrix("linear_attn.in_proj_a.weight", H, d, in);
    out[n++] = layer_matrix("linear_attn.out_proj.weight", d, values, end);
    out[n++] = taps("linear_attn.conv1d_q.weight", keys, p->v[CONV]);
    out[n++] = taps("linear_attn.conv1d_k.weight", keys, p->v[CONV]);
    out[n++] = taps("linear_attn.conv1d_v.weight", values, p->v[CONV]);
    /* the class begins with A uniform in (0.01, 16) and dt_bias 1 */
    out[n] = layer_vector("linear_attn.A_log", H, LAYER_INIT_LOG_UNIFORM);
    out[n].lo = 0.01, out[n++].hi = 16;
    out[n++] = layer_vector("linear_attn.dt_bias", H, LAYER_INIT_ONES);
    out[n++] = layer_vector("linear_attn.norm.weight", p->v[VALUE_DIM], LAYER_INIT_ONES);
    return n;
}

/* Two a weight and token; the taps likewise; the scan in its recurrent form: of every value head 2 K V each for S^T k, k (x) d and
 * S^T q, K V for e^g S, 2 V for d. */
static double flops(const struct arch *a, int layer, const struct arch_part *p, int64_t pos0, int64_t n)
{
    (void)layer, (void)pos0;
    double d = a->width, H = p->v[HEADS], K = p->v[HEAD_DIM], V = p->v[VALUE_DIM], keys = (double)p->v[KEY_HEADS] * K, values = H * V;
    return (double)n * (2 * d * (2 * keys + 3 * values + 2 * H) + 2 * p->v[CONV] * (2 * keys + values) + H * (7 * K * V + 2 * V));
}

/* S of every value head, and the last conv - 1 inputs of the convolution, whatever the context. */
static double state_bytes(const struct arch *a, int layer, const struct arch_part *p, int64_t context, int esize)
{
    (void)a, (void)layer, (void)context;
    double H = p->v[HEADS], K = p->v[HEAD_DIM], V = p->v[VALUE_DIM];
    return (H * K * V + (p->v[CONV] - 1) * (2 * p->v[KEY_HEADS] * K + H * V)) * esize;
}

/* Value heads go with the key head that they meet. */
static void sides(const struct arch *a, const struct arch_part *p, const struct layer_tensor *t, struct layer_side *rows, struct layer_side *cols)
{
    (void)a;
    int64_t G = p->v[KEY_HEADS], R = p->v[HEADS] / G, K = p->v[HEAD_DIM], V = p->v[VALUE_DIM];
    const char *end = strrchr(t->name, '_');
    bool conv = strstr(t->name, ".conv1d_") != NULL, proj = strstr(t->name, ".in_proj_") != NULL;
    if ((conv || proj) && (end[1] == 'q' || end[1] == 'k')) layer_side_run(rows, G, K, 1);
    if ((conv || proj) && (end[1] == 'v' || end[1] == 'z')) layer_side_run(rows, G, R, V);
    if ((proj && (end[1] == 'b' || end[1] == 'a')) || strstr(t->name, ".A_log") || strstr(t->name, ".dt_bias")) layer_side_run(rows, G, R, 1);
    if (strstr(t->name, ".out_proj.")) layer_side_run(cols, G, R, V);
    cols->last = conv;
}

const struct layer_spec layer_gated_delta = {
    .name = "gated_delta",
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
    .reads_rope = space_layer_no_rope,
    .sides = sides,
};
