/* The feed-forward without a gate: down(act(up(x))). relu2: transformers NemotronHMLP (mlp_hidden_act "relu2"); gelu: GPT2MLP
 * (activation_function "gelu_new"), whose Conv1D matrices are these transposed. */
#include "searchspace/layer.h"

#include <math.h>

enum { HIDDEN, ACT, NPARAMS };
enum { K_RATIO, K_ACT, NKNOBS };

#define HIDDEN_MAX (1 << 20)

static const char *const acts[] = {"relu2", "gelu", NULL}; /* in the order of enum kn_act */

static const struct layer_param params[NPARAMS] = {
    [HIDDEN] = {.name = "hidden", .kind = LAYER_INT, .always = true, .min = 1, .max = HIDDEN_MAX},
    [ACT] = {.name = "act", .kind = LAYER_WORD, .dflt = 0, .min = 0, .max = 1, .words = acts},
};

static const struct layer_knob knobs[NKNOBS] = {
    [K_RATIO] = {.name = "ratio", .kind = LAYER_REAL, .dflt = NAN, .min = 0.01, .max = 64},
    [K_ACT] = {.name = "act", .kind = LAYER_WORD, .dflt = 0, .min = 0, .max = 1, .words = acts},
};

static st_t resolve(const double *knob, int width, struct arch_part *out, struct base_err *err)
{
    int hidden;
    st_t st = layer_hidden(knob[K_RATIO], width, HIDDEN_MAX, &hidden, err);
    if (st) return st;
    out->v[HIDDEN] = hidden;
    out->v[ACT] = (int32_t)knob[K_ACT];
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
    int64_t d = a->width, h = p->v[HIDDEN];
    /* as in attention.c */
    out[0] = layer_matrix("mlp.up_proj.weight", h, d, 1 / sqrt((double)d));
    out[1] = layer_matrix("mlp.down_proj.weight", d, h, 1 / sqrt((double)h * 2 * a->depth));
    if (!a->bias) return 2;
    out[2] = layer_vector("mlp.up_proj.bias", h, LAYER_INIT_ZEROS);
    out[3] = layer_vector("mlp.down_proj.bias", d, LAYER_INIT_ZEROS);
    return 4;
}

/* Two products of D x hidden a token. */
static double flops(const struct arch *a, int layer, const struct arch_part *p, int64_t pos0, int64_t n)
{
    (void)layer, (void)pos0;
    return (double)n * 2 * 2 * a->width * p->v[HIDDEN];
}

const struct layer_spec layer_mlp = {
    .name = "mlp",
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
    .active_share = space_layer_all_active,
    .reads_rope = space_layer_no_rope,
};
