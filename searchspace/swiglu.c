/* The gated feed-forward of Llama: down(silu(gate(x)) * up(x)) (Shazeer 2020, arXiv:2002.05202; transformers LlamaMLP).
 *
 * rank r > 0: each of the three matrices is a product of two, W = B A with A [r, in] and B [out, r], called "<matrix>.a.weight" and
 * "<matrix>.b.weight": y = B (A x). A and B see the same inputs and outputs as the full matrix, and nothing stands between them. A bias is B's. */
#include "searchspace/layer.h"

#include <math.h>

enum { HIDDEN, RANK, NPARAMS };
enum { K_RATIO, K_RANK, NKNOBS };

#define HIDDEN_MAX (1 << 20)

static const struct layer_param params[NPARAMS] = {
    [HIDDEN] = {.name = "hidden", .kind = LAYER_INT, .always = true, .min = 1, .max = HIDDEN_MAX},
    [RANK] = {.name = "rank", .kind = LAYER_INT, .dflt = 0, .min = 0, .max = ARCH_WIDTH_MAX},
};

static const struct layer_knob knobs[NKNOBS] = {
    [K_RATIO] = {.name = "ratio", .kind = LAYER_REAL, .dflt = NAN, .min = 0.01, .max = 64},
    [K_RANK] = {.name = "rank", .kind = LAYER_INT, .dflt = 0, .min = 0, .max = ARCH_WIDTH_MAX},
};

static st_t check_rank(int rank, int width, int hidden, struct base_err *err)
{
    int least = width < hidden ? width : hidden;
    if (rank < least) return ST_OK;
    return base_err_set(err, ST_EINVAL, "rank", "%d is not below %d, the rank of a full %d x %d matrix", rank, least, hidden, width);
}

static st_t resolve(const double *knob, int width, struct arch_part *out, struct base_err *err)
{
    int hidden;
    st_t st = layer_hidden(knob[K_RATIO], width, HIDDEN_MAX, &hidden, err);
    if (!st) st = check_rank((int)knob[K_RANK], width, hidden, err);
    if (st) return st;
    out->v[HIDDEN] = hidden;
    out->v[RANK] = (int32_t)knob[K_RANK];
    return ST_OK;
}

static st_t check(const struct arch *a, int layer, const struct arch_part *p, struct base_err *err)
{
    (void)layer;
    return check_rank(p->v[RANK], a->width, p->v[HIDDEN], err);
}

static int tensors(const struct arch *a, int layer, const struct arch_part *p, struct layer_tensor *out)
{
    (void)layer;
    int64_t d = a->width, h = p->v[HIDDEN], r = p->v[RANK];
    /* as in attention.c; factor b has unit gain, so that the product's entries vary as the full matrix's would */
    double in = 1 / sqrt((double)d), end = 1 / sqrt((double)h * 2 * a->depth);
    int n = 0;
    if (r) {
        double b = 1 / sqrt((double)r);
        out[n++] = layer_matrix("mlp.gate_proj.a.weight", r, d, in);
        out[n++] = layer_matrix("mlp.gate_proj.b.weight", h, r, b);
        out[n++] = layer_matrix("mlp.up_proj.a.weight", r, d, in);
        out[n++] = layer_matrix("mlp.up_proj.b.weight", h, r, b);
        out[n++] = layer_matrix("mlp.down_proj.a.weight", r, h, end);
        out[n++] = layer_matrix("mlp.down_proj.b.weight", d, r, b);
    } else {
        out[n++] = layer_matrix("mlp.gate_proj.weight", h, d, in);
        out[n++] = layer_matrix("mlp.up_proj.weight", h, d, in);
        out[n++] = layer_matrix("mlp.down_proj.weight", d, h, end);
    }
    if (!a->bias) return n;
    out[n++] = layer_vector(r ? "mlp.gate_proj.b.bias" : "mlp.gate_proj.bias", h, LAYER_INIT_ZEROS);
    out[n++] = layer_vector(r ? "mlp.up_proj.b.bias" : "mlp.up_proj.bias", h, LAYER_INIT_ZEROS);
    out[n++] = layer_vector(r ? "mlp.down_proj.b.bias" : "mlp.down_proj.bias", d, LAYER_INIT_ZEROS);
    return n;
}

/* Three products of D x hidden a token; with rank r, three of (D + hidden) x r. */
static double flops(const struct arch *a, int layer, const struct arch_part *p, int64_t pos0, int64_t n)
{
    (void)layer, (void)pos0;
    double d = a->width, h = p->v[HIDDEN], r = p->v[RANK];
    return (double)n * 2 * 3 * (r > 0 ? r * (d + h) : d * h);
}

const struct layer_spec layer_swiglu = {
    .name = "swiglu",
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
