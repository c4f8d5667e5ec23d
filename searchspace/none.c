/* No layer: the residual stream passes by, its norm included. */
#include "searchspace/layer.h"

static st_t resolve(const double *knob, int width, struct arch_part *out, struct base_err *err)
{
    (void)knob, (void)width, (void)out, (void)err;
    return ST_OK;
}

static st_t check(const struct arch *a, int layer, const struct arch_part *p, struct base_err *err)
{
    (void)a, (void)layer, (void)p, (void)err;
    return ST_OK;
}

static int tensors(const struct arch *a, int layer, const struct arch_part *p, struct layer_tensor *out)
{
    (void)a, (void)layer, (void)p, (void)out;
    return 0;
}

static double flops(const struct arch *a, int layer, const struct arch_part *p, int64_t pos0, int64_t n)
{
    (void)a, (void)layer, (void)p, (void)pos0, (void)n;
    return 0;
}

const struct layer_spec layer_none = {
    .name = "none",
    .roles = LAYER_MIXER | LAYER_FFN,
    .resolve = resolve,
    .check = check,
    .tensors = tensors,
    .flops = flops,
    .state_bytes = space_layer_no_state,
    .active_share = space_layer_all_active,
    .reads_rope = space_layer_no_rope,
};
