/* Mixture of experts: each token goes through `active` of `experts` small feed-forwards, and through `shared` ones that are always on (Mixtral:
 * Jiang et al. 2024, arXiv:2401.04088; shared experts: DeepSeek-V3, arXiv:2412.19437; transformers 5, models/mixtral, deepseek_v3).
 *
 *   z = W_r x;  p = softmax(z), or sigmoid(z) over its sum;  chosen: the k largest z;  w_i = p_i / sum of the chosen p
 *   y = sum over the chosen of w_i expert_i(x)  +  g shared(x)
 *   expert(x) = W_down (silu(W_gate x) * W_up x), or with act relu2  W_down max(W_up x, 0)^2       shared: one such of width shared x hidden
 *   g = 1, or with shared_gate sigmoid(w_g . x)
 *
 * With one active expert w = 1 whatever z is: the router then learns from the load-balance loss alone (model.h).
 *
 * What the classes of transformers 5 do, and how ours are theirs; every one takes the softmax or sigmoid in f32:
 *
 *   class                  scores, then weights of the chosen k           ours       always on                           act
 *   MixtralSparseMoeBlock  softmax of all, top k, over their sum          softmax    none                                swiglu
 *   Qwen3NextSparseMoe…    the same with norm_topk_prob true              softmax    shared_expert, any width, times     swiglu
 *                                                                                    sigmoid(shared_expert_gate x)
 *   GraniteMoeHybridMoE    top k of z, softmax of those: equal            softmax    shared_mlp, any width, not gated    swiglu
 *   DeepseekV3MoE          sigmoid, top k, over (their sum + 1e-20)       sigmoid    shared_experts, hidden x count      swiglu
 *   NemotronHMoE           the same                                       sigmoid    shared_experts, any width           relu2
 *   Lfm2MoeSparseMoeBlock  sigmoid, top k, over (their sum + 1e-6)        sigmoid    none                                swiglu
 *
 * DeepseekV3 and NemotronH: n_group 1, topk_group 1, routed_scaling_factor 1 and norm_topk_prob true are what is meant here (Lfm2Moe: the last two).
 * Their correction bias (e_score_correction_bias; Lfm2Moe: expert_bias, with use_expert_bias) is a buffer that only their own training moves: zeros there.
 * Lfm2Moe's 1e-6 makes weights smaller by 1e-6 over the sum of k sigmoids. Names:
 *
 *   ours                                       Mixtral, DeepseekV3, Qwen3Next, NemotronH (below mlp. or mixer.)      Granite (below block_sparse_moe.)
 *   mlp.gate.weight [E,D]                      gate.weight                                                           router.weight
 *   mlp.experts.gate_proj, up_proj [E,F,D]     experts.gate_up_proj [E,2F,D]: gate's rows, then up's                 experts.gate_up_proj
 *   (relu2: up_proj alone)                     NemotronH: experts.up_proj [E,F,D]
 *   mlp.experts.down_proj [E,D,F]              experts.down_proj                                                     experts.down_proj
 *   mlp.shared_experts.{gate,up,down}_proj     shared_experts.*; Qwen3Next: shared_expert.*                          shared_mlp.input_linear [2F,D], output_linear
 *   mlp.shared_expert_gate.weight [1,D]        Qwen3Next: shared_expert_gate.weight
 *
 * None of these has a bias, whatever the architecture says of its projections. Lfm2Moe has them below feed_forward. Gate and up are two tensors here, so that leading indices slice both experts and width. */
#include "searchspace/layer.h"

#include <math.h>
#include <string.h>

enum { EXPERTS, ACTIVE, HIDDEN, SHARED, ROUTER, ACT, SHARED_GATE, NPARAMS };
enum { K_EXPERTS, K_ACTIVE, K_RATIO, K_SHARED, K_ROUTER, K_ACT, K_SHARED_GATE, NKNOBS };

#define EXPERTS_MAX 4096
#define SHARED_MAX 64
#define HIDDEN_MAX (1 << 20)

static const char *const routers[] = {"softmax", "sigmoid", NULL}, *const acts[] = {"swiglu", "relu2", NULL};

static const struct layer_param params[NPARAMS] = {
    [EXPERTS] = {.name = "experts", .kind = LAYER_INT, .always = true, .min = 1, .max = EXPERTS_MAX},
    [ACTIVE] = {.name = "active", .kind = LAYER_INT, .always = true, .min = 1, .max = EXPERTS_MAX},
    [HIDDEN] = {.name = "hidden", .kind = LAYER_INT, .always = true, .min = 1, .max = HIDDEN_MAX},
    [SHARED] = {.name = "shared", .kind = LAYER_INT, .dflt = 0, .min = 0, .max = SHARED_MAX},
    [ROUTER] = {.name = "router", .kind = LAYER_WORD, .dflt = 0, .min = 0, .max = 1, .words = routers},
    [ACT] = {.name = "act", .kind = LAYER_WORD, .dflt = 0, .min = 0, .max = 1, .words = acts},
    [SHARED_GATE] = {.name = "shared_gate", .kind = LAYER_BOOL, .dflt = 0, .min = 0, .max = 1},
};

static const struct layer_knob knobs[NKNOBS] = {
    [K_EXPERTS] = {.name = "experts", .kind = LAYER_INT, .dflt = NAN, .min = 1, .max = EXPERTS_MAX},
    [K_ACTIVE] = {.name = "active", .kind = LAYER_INT, .dflt = NAN, .min = 1, .max = EXPERTS_MAX},
    [K_RATIO] = {.name = "ratio", .kind = LAYER_REAL, .dflt = NAN, .min = 0.01, .max = 64},
    [K_SHARED] = {.name = "shared", .kind = LAYER_INT, .dflt = 0, .min = 0, .max = SHARED_MAX},
    [K_ROUTER] = {.name = "router", .kind = LAYER_WORD, .dflt = 0, .min = 0, .max = 1, .words = routers},
    [K_ACT] = {.name = "act", .kind = LAYER_WORD, .dflt = 0, .min = 0, .max = 1, .words = acts},
    [K_SHARED_GATE] = {.name = "shared_gate", .kind = LAYER_BOOL, .dflt = 0, .min = 0, .max = 1},
};

static st_t check_active(int active, int experts, struct base_err *err)
{
    if (active <= experts) return ST_OK;
    return base_err_set(err, ST_EINVAL, "active", "%d of %d experts", active, experts);
}

static st_t resolve(const double *knob, int width, struct arch_part *out, struct base_err *err)
{
    int hidden;
    st_t st = layer_hidden(knob[K_RATIO], width, HIDDEN_MAX, &hidden, err);
    if (!st) st = check_active((int)knob[K_ACTIVE], (int)knob[K_EXPERTS], err);
    if (st) return st;
    out->v[EXPERTS] = (int32_t)knob[K_EXPERTS];
    out->v[ACTIVE] = (int32_t)knob[K_ACTIVE];
    out->v[HIDDEN] = hidden;
    out->v[SHARED] = (int32_t)knob[K_SHARED];
    out->v[ROUTER] = (int32_t)knob[K_ROUTER];
    out->v[ACT] = (int32_t)knob[K_ACT];
    out->v[SHARED_GATE] = knob[K_SHARED] > 0 && knob[K_SHARED_GATE] != 0; /* a gate of nothing means nothing */
    return ST_OK;
}

static st_t check(const struct arch *a, int layer, const struct arch_part *p, struct base_err *err)
{
    (void)a, (void)layer;
    if (p->v[SHARED_GATE] && !p->v[SHARED])
        return base_err_set(err, ST_EINVAL, "shared_gate", "there is no shared expert to gate: 'shared' is 0");
    return check_active(p->v[ACTIVE], p->v[EXPERTS], err);
}

/* rows of each expert; the whole is [experts, mid, cols] */
static struct layer_tensor stacked(const char *name, int64_t experts, int64_t mid, int64_t cols, double std)
{
    struct layer_tensor t = layer_matrix(name, experts * mid, cols, std);
    t.mid = mid;
    return t;
}

static int tensors(const struct arch *a, int layer, const struct arch_part *p, struct layer_tensor *out)
{
    (void)layer;
    int64_t d = a->width, E = p->v[EXPERTS], h = p->v[HIDDEN], s = h * p->v[SHARED];
    /* as in attention.c */
    double in = 1 / sqrt((double)d), end = 1 / sqrt((double)h * 2 * a->depth);
    int n = 0;
    out[n++] = layer_matrix("mlp.gate.weight", E, d, in);
    if (!p->v[ACT]) out[n++] = stacked("mlp.experts.gate_proj", E, h, d, in);
    out[n++] = stacked("mlp.experts.up_proj", E, h, d, in);
    out[n++] = stacked("mlp.experts.down_proj", E, d, h, end);
    if (!s) return n;
    if (!p->v[ACT]) out[n++] = layer_matrix("mlp.shared_experts.gate_proj.weight", s, d, in);
    out[n++] = layer_matrix("mlp.shared_experts.up_proj.weight", s, d, in);
    out[n++] = layer_matrix("mlp.shared_experts.down_proj.weight", d, s, 1 / sqrt((double)s * 2 * a->depth));
    if (p->v[SHARED_GATE]) out[n++] = layer_matrix("mlp.shared_expert_gate.weight", 1, d, in);
    return n;
}

/* Matrices of one expert. */
static int matrices(const struct arch_part *p)
{
    return p->v[ACT] ? 2 : 3;
}

/* The router, two or three products of D x hidden for each expert that a token goes through, and the gate. */
static double flops(const struct arch *a, int layer, const struct arch_part *p, int64_t pos0, int64_t n)
{
    (void)layer, (void)pos0;
    double d = a->width, each = matrices(p) * d * p->v[HIDDEN];
    return (double)n * 2 * (d * p->v[EXPERTS] + each * (p->v[ACTIVE] + p->v[SHARED]) + d * p->v[SHARED_GATE]);
}

static double active_share(const struct arch *a, int layer, const struct arch_part *p)
{
    (void)layer;
    double d = a->width, each = matrices(p) * d * p->v[HIDDEN], rest = d * p->v[EXPERTS] + each * p->v[SHARED] + d * p->v[SHARED_GATE];
    return (rest + each * p->v[ACTIVE]) / (rest + each * p->v[EXPERTS]);
}

static void sides(const struct arch *a, const struct arch_part *p, const struct layer_tensor *t, struct layer_side *rows, struct layer_side *cols)
{
    int64_t E = p->v[EXPERTS], S = p->v[SHARED], h = p->v[HIDDEN];
    bool down = strstr(t->name, ".down_proj") != NULL;
    if (strstr(t->name, ".experts.")) layer_side_run(rows, E, down ? a->width : h, 1);
    if (strstr(t->name, ".shared_experts.")) layer_side_run(down ? cols : rows, S, h, 1);
}

const struct layer_spec layer_moe = {
    .name = "moe",
    .roles = LAYER_FFN,
    .params = params,
    .nparams = NPARAMS,
    .knobs = knobs,
    .nknobs = NKNOBS,
    .resolve = resolve,
    .check = check,
    .tensors = tensors,
    .flops = flops,
    .state_bytes = space_layer_no_state,
    .active_share = active_share,
    .reads_rope = space_layer_no_rope,
    .sides = sides,
};
