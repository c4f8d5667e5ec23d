/* LlamaForCausalLM: the same attention and swiglu in every layer, RoPE always, no window, full matrices
 * (transformers, models/llama/configuration_llama.py: one head count, one head_dim, one intermediate_size). */
#include "searchspace/families/family.h"

static const char *const mixers[] = {"attention", NULL};
static const char *const ffns[] = {"swiglu", NULL};
static const struct family_rule rules[] = {
    {"attention", "window", 0},
    {"attention", "rope", 1},
    {"attention", "qk_norm", 0},
    {"swiglu", "rank", 0},
};

const struct family family_llama = {
    .name = "llama",
    .public_class = "LlamaForCausalLM",
    .uniform = true,
    .mixers = mixers,
    .ffns = ffns,
    .rules = rules,
    .nrules = sizeof rules / sizeof rules[0],
};
