/* The gated short convolution of LFM2, as Lfm2ShortConv has it (transformers, models/lfm2/modeling_lfm2.py):
 *
 *   [B; C; x'] = W_in x   [3 D]      y = W_out (C * conv(B * x'))
 *
 * conv: causal, depthwise, k taps (transformers' conv_L_cache), no activation. With the architecture's bias all three have one
 * (transformers' conv_bias). */
#include "searchspace/layer.h"

#include <math.h>
#include <string.h>

enum { CONV, NPARAMS };

#define CONV_MAX 16
#define CONV_DFLT 3

static const struct layer_param params[NPARAMS] = {
    [CONV] = {.name = "conv", .kind = LAYER_INT, .dflt = CONV_DFLT, .min = 1, .max = CONV_MAX},
};

static const struct layer_knob knobs[NPARAMS] = {
    [CONV] = {.name = "conv", .kind = LAYER_INT, .dflt = CONV_DFLT, .min = 1, .max = CONV_MAX},
};

static st_t resolve(const double *knob, int width, struct arch_part *out, struct base_err *err)
{
    (void)width, (void)err;
    out->v[CONV] = (int32_t)knob[CONV];
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
    int64_t d = a->width, k = p->v[CONV];
    int n = 0;
    /* matrices as in attention.c; taps as torch.nn.Conv1d begins them: U(-b, b), b = 1/sqrt(taps) */
    double in = 1 / sqrt((double)d), end = 1 / sqrt((double)d * 2 * a->depth), b = 1 / sqrt((double)k);
    out[n++] = layer_matrix("conv.in_proj.weight", 3 * d, d, in);
    out[n++] = (struct layer_tensor){.name = "conv.conv.weight", .role = LAYER_T_VECTOR, .rows = d, .cols = k, .mid = 1,
                                     .init = LAYER_INIT_UNIFORM, .lo = -b, .hi = b};
    out[n++] = layer_matrix("conv.out_proj.weight", d, d, end);
    if (a->bias) {
        out[n++] = layer_vector("conv.in_proj.bias", 3 * d, LAYER_INIT_ZEROS);
        out[n++] = layer_vector("conv.conv.bias", d, LAYER_INIT_ZEROS);
        out[n++] = layer_vector("conv.out_proj.bias", d, LAYER_INIT_ZEROS);
    }
    return n;
}

/* Two a weight and token: W_in 3 D^2, W_out D^2, the taps k D. */
static double flops(const struct arch *a, int layer, const struct arch_part *p, int64_t pos0, int64_t n)
{
    (void)layer, (void)pos0;
    double d = a->width, k = p->v[CONV];
    return (double)n * 2 * (4 * d * d + k * d);
}

/* The last k - 1 inputs of the convolution. (transformers keeps k of them; the oldest is never read again.) */
static double state_bytes(const struct arch *a, int layer, const struct arch_part *p, int64_t context, int esize)
{
    (void)layer, (void)context;
    return (double)(p->v[CONV] - 1) * a->width * esize;
}

static void sides(const struct arch *a, const struct arch_part *p, const struct layer_tensor *t, struct layer_side *rows, struct layer_side *cols)
{
    (void)p;
    for (int i = 0; i < 3 && strstr(t->name, ".in_proj."); i++) layer_side_run(rows, a->width, 1, 1);
    cols->last = strstr(t->name, ".conv.weight") != NULL;
}

const struct layer_spec layer_short_conv = {
    .name = "short_conv",
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
