/* Mamba-2's mixer, as BambaMixer, GraniteMoeHybridMambaLayer and NemotronHMamba2Mixer have it (transformers, models/bamba/modeling_bamba.py;
 * Dao & Gu 2024, arXiv:2405.21060). Di = expand D, H = Di / P heads of P = head_dim, N = state, G groups, k = conv:
 *
 *   [z: Di | xBC: Di + 2 G N | dt: H] = W_in x        xBC = silu(conv(xBC))        t = softplus(dt + dt_bias)
 *   S = exp(-exp(A_log) t) S + t x B^T  [P,N] a head   y = S C + D x               out = W_out (w * rmsnorm(y silu(z)))
 *
 * conv: causal, depthwise, with a bias (transformers' mamba_conv_bias). Head h reads B and C of group h / (H/G); the norm is over groups of
 * Di / G. t has no limits (time_step_limit's default; NemotronH sets its time_step_min as one). With the architecture's bias W_in and W_out
 * have one (mamba_proj_bias). */
#include "searchspace/layer.h"

#include <math.h>
#include <string.h>

enum { EXPAND, HEAD_DIM, STATE, CONV, GROUPS, NPARAMS };

#define EXPAND_MAX 16
#define HEAD_DIM_MAX 1024
#define STATE_MAX 1024
#define CONV_MAX 16
#define GROUPS_MAX 1024

static const struct layer_param params[NPARAMS] = {
    [EXPAND] = {.name = "expand", .kind = LAYER_INT, .always = true, .min = 1, .max = EXPAND_MAX},
    [HEAD_DIM] = {.name = "head_dim", .kind = LAYER_INT, .always = true, .min = 1, .max = HEAD_DIM_MAX},
    [STATE] = {.name = "state", .kind = LAYER_INT, .always = true, .min = 1, .max = STATE_MAX},
    [CONV] = {.name = "conv", .kind = LAYER_INT, .dflt = 4, .min = 1, .max = CONV_MAX},
    [GROUPS] = {.name = "groups", .kind = LAYER_INT, .dflt = 1, .min = 1, .max = GROUPS_MAX},
};

static const struct layer_knob knobs[NPARAMS] = {
    [EXPAND] = {.name = "expand", .kind = LAYER_INT, .dflt = 2, .min = 1, .max = EXPAND_MAX},
    [HEAD_DIM] = {.name = "head_dim", .kind = LAYER_INT, .dflt = NAN, .min = 1, .max = HEAD_DIM_MAX},
    [STATE] = {.name = "state", .kind = LAYER_INT, .dflt = NAN, .min = 1, .max = STATE_MAX},
    [CONV] = {.name = "conv", .kind = LAYER_INT, .dflt = 4, .min = 1, .max = CONV_MAX},
    [GROUPS] = {.name = "groups", .kind = LAYER_INT, .dflt = 1, .min = 1, .max = GROUPS_MAX},
};

static st_t check_dims(int width, const struct arch_part *p, struct base_err *err)
{
    int inner = width * p->v[EXPAND], head_dim = p->v[HEAD_DIM], groups = p->v[GROUPS];
    if (inner % head_dim)
        return base_err_set(err, ST_EINVAL, "head_dim", "%d does not divide width %d x %d", head_dim, width, p->v[EXPAND]);
    if (inner / head_dim % groups) return base_err_set(err, ST_EINVAL, "groups", "%d does not divide %d heads", groups, inner / head_dim);
    return ST_OK;
}

static st_t resolve(const double *knob, int width, struct arch_part *out, struct base_err *err)
{
    struct arch_part p = {0};
    for (int i = 0; i < NPARAMS; i++) p.v[i] = (int32_t)knob[i];
    st_t st = check_dims(width, &p, err);
    if (st) return st;
    for (int i = 0; i < NPARAMS; i++) out->v[i] = p.v[i];
    return ST_OK;
}

static st_t check(const struct arch *a, int layer, const struct arch_part *p, struct base_err *err)
{
    (void)layer;
    return check_dims(a->width, p, err);
}

struct dims {
    int64_t inner, heads, mixed, in; /* Di, H, Di + 2 G N: what the convolution sees, rows of W_in */
};

static struct dims dims_of(const struct arch *a, const struct arch_part *p)
{
    struct dims d = {.inner = (int64_t)a->width * p->v[EXPAND]};
    d.heads = d.inner / p->v[HEAD_DIM];
    d.mixed = d.inner + 2 * (int64_t)p->v[GROUPS] * p->v[STATE];
    d.in = d.inner + d.mixed + d.heads;
    return d;
}

static int tensors(const struct arch *a, int layer, const struct arch_part *p, struct layer_tensor *out)
{
    (void)layer;
    struct dims d = dims_of(a, p);
    int64_t k = p->v[CONV];
    int n = 0;
    /* matrices as in attention.c, the convolution as torch.nn.Conv1d begins; steps and decays as Mamba-2 does: t from 0.001 to 0.1, A from 1 to 16 */
    double in = 1 / sqrt((double)a->width), end = 1 / sqrt((double)d.inner * 2 * a->depth), b = 1 / sqrt((double)k);
    struct layer_tensor taps = {.name = "mamba.conv1d.weight", .role = LAYER_T_VECTOR, .rows = d.mixed, .cols = k, .mid = 1,
                                .init = LAYER_INIT_UNIFORM, .lo = -b, .hi = b};
    struct layer_tensor bias = layer_vector("mamba.conv1d.bias", d.mixed, LAYER_INIT_UNIFORM);
    struct layer_tensor step = layer_vector("mamba.dt_bias", d.heads, LAYER_INIT_TIME_STEP);
    struct layer_tensor decay = layer_vector("mamba.A_log", d.heads, LAYER_INIT_LOG_UNIFORM);
    bias.lo = -b, bias.hi = b;
    step.lo = 1e-3, step.hi = 1e-1;
    decay.lo = 1, decay.hi = 16;
    out[n++] = layer_matrix("mamba.in_proj.weight", d.in, a->width, in);
    out[n++] = taps;
    out[n++] = bias;
    out[n++] = step;
    out[n++] = decay;
    out[n++] = layer_vector("mamba.D", d.heads, LAYER_INIT_ONES);
    out[n++] = layer_vector("mamba.norm.weight", d.inner, LAYER_INIT_ONES);
    out[n++] = layer_matrix("mamba.out_proj.weight", a->width, d.inner, end);
    if (a->bias) {
        out[n++] = layer_vector("mamba.in_proj.bias", d.in, LAYER_INIT_ZEROS);
        out[n++] = layer_vector("mamba.out_proj.bias", a->width, LAYER_INIT_ZEROS);
    }
    return n;
}

/* Two a weight and token for the projections and the taps. The scan as its recurrence has it, however it is computed: for each of H P N numbers of
 * the state a S, + (t x) B (2), its sum with C (2): 5; for each of H P channels t x, D x and its sum: 3. */
static double flops(const struct arch *a, int layer, const struct arch_part *p, int64_t pos0, int64_t n)
{
    (void)layer, (void)pos0;
    struct dims d = dims_of(a, p);
    double D = a->width, inner = (double)d.inner;
    return (double)n * (2 * (D * (double)d.in + (double)p->v[CONV] * (double)d.mixed + inner * D) + inner * (5.0 * p->v[STATE] + 3));
}

/* The scan's state, H P N, and the last k - 1 inputs of the convolution. (transformers keeps k of them; the oldest is never read again.) */
static double state_bytes(const struct arch *a, int layer, const struct arch_part *p, int64_t context, int esize)
{
    (void)layer, (void)context;
    struct dims d = dims_of(a, p);
    return ((double)d.inner * p->v[STATE] + (double)(p->v[CONV] - 1) * (double)d.mixed) * esize;
}

/* Heads go with the group that they read. */
static void sides(const struct arch *a, const struct arch_part *p, const struct layer_tensor *t, struct layer_side *rows, struct layer_side *cols)
{
    int64_t P = p->v[HEAD_DIM], N = p->v[STATE], G = p->v[GROUPS], R = dims_of(a, p).heads / G;
    bool in = strstr(t->name, ".in_proj.") != NULL, conv = strstr(t->name, ".conv1d.") != NULL;
    if (in) layer_side_run(rows, G, R, P); /* z */
    if (in || conv) {
        layer_side_run(rows, G, R, P);
        layer_side_run(rows, G, N, 1);
        layer_side_run(rows, G, N, 1);
    }
    if (in || strstr(t->name, ".dt_bias") || strstr(t->name, ".A_log") || strstr(t->name, ".D")) layer_side_run(rows, G, R, 1);
    if (strstr(t->name, ".norm.")) layer_side_run(rows, G, R, P);
    if (!strcmp(t->name, "mamba.out_proj.weight")) layer_side_run(cols, G, R, P);
    cols->last = conv && t->cols > 1;
}

const struct layer_spec layer_mamba2 = {
    .name = "mamba2",
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
