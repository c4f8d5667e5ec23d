/* Qwen3ForCausalLM: as Llama, with a norm on each head of q and k before RoPE, always; head_dim need not be width / heads
 * (transformers, models/qwen3/configuration_qwen3.py, modeling_qwen3.py). Its swiglu has no bias, whatever attention has. */
#include "searchspace/families/family.h"

static const char *const mixers[] = {"attention", NULL};
static const char *const ffns[] = {"swiglu", NULL};
static const struct family_rule rules[] = {
    {.param = "norm", .word = "rms"},
    {.param = "bias", .only = 0},
    {"attention", "window", 0, NULL},
    {"attention", "rope", 1, NULL},
    {"attention", "qk_norm", 1, NULL},
    {"attention", "gate", 0, NULL},
    {"attention", "rope_dim", 0, NULL},
    {"attention", "share_kv", 0, NULL},
    {"swiglu", "rank", 0, NULL},
};

const struct family family_qwen3 = {
    .name = "qwen3",
    .public_class = "Qwen3ForCausalLM",
    .freedom = {FAMILY_EQUAL, FAMILY_EQUAL},
    .mixers = mixers,
    .ffns = ffns,
    .rules = rules,
    .nrules = sizeof rules / sizeof rules[0],
};
