/* Qwen3NextForCausalLM: in each layer gated_delta, or attention with norms of q and k, an output gate and RoPE, on part of each head or all of it; and
 * swiglu or a mixture of experts with a gated shared one (transformers, models/qwen3_next/configuration_qwen3_next.py: layer_types,
 * mlp_only_layers; modeling_qwen3_next.py: Qwen3NextSparseMoeBlock has a shared expert always). */
#include "searchspace/families/family.h"

static const char *const mixers[] = {"attention", "gated_delta", NULL};
static const char *const ffns[] = {"swiglu", "moe", NULL};
static const struct family_rule rules[] = {
    {.param = "norm", .word = "rms"},
    {.param = "bias", .only = 0},
    {"attention", "window", 0, NULL},
    {"attention", "rope", 1, NULL},
    {"attention", "qk_norm", 1, NULL},
    {"attention", "gate", 1, NULL},
    {"attention", "share_kv", 0, NULL},
    {"swiglu", "rank", 0, NULL},
    {"moe", "router", 0, "softmax"},
    {"moe", "act", 0, "swiglu"},
    {"moe", "shared_gate", 1, NULL},
};

static st_t check(const struct arch_part *p, int width, struct base_err *err)
{
    (void)width;
    if (space_layer(p->type) != &layer_moe || space_part_get(p, "shared") > 0) return ST_OK;
    return base_err_set(err, ST_EINVAL, "shared", "family 'qwen3_next' holds no mixture without shared experts");
}

const struct family family_qwen3_next = {
    .name = "qwen3_next",
    .public_class = "Qwen3NextForCausalLM",
    .freedom = {FAMILY_TYPES, FAMILY_TYPES},
    .mixers = mixers,
    .ffns = ffns,
    .rules = rules,
    .nrules = sizeof rules / sizeof rules[0],
    .check = check,
};
