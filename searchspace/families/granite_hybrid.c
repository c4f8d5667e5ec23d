/* GraniteMoeHybridForCausalLM: in each layer mamba2 or attention; the same feed-forward in every layer, swiglu (its shared_mlp without experts) or a
 * mixture of experts (transformers, models/granitemoehybrid/configuration_granitemoehybrid.py: layer_types; position_embedding_type for all
 * layers; attention_bias would be of attention alone). */
#include "searchspace/families/family.h"

static const char *const mixers[] = {"attention", "mamba2", NULL};
static const char *const ffns[] = {"swiglu", "moe", NULL};
static const struct family_rule rules[] = {
    {.param = "norm", .word = "rms"},
    {.param = "bias", .only = 0},
    {"attention", "window", 0, NULL},
    {"attention", "qk_norm", 0, NULL},
    {"attention", "gate", 0, NULL},
    {"attention", "rope_dim", 0, NULL},
    {"attention", "share_kv", 0, NULL},
    {"swiglu", "rank", 0, NULL},
    {"moe", "router", 0, "softmax"},
    {"moe", "act", 0, "swiglu"},
    {"moe", "shared_gate", 0, NULL},
};

const struct family family_granite_hybrid = {
    .name = "granite_hybrid",
    .public_class = "GraniteMoeHybridForCausalLM",
    .freedom = {FAMILY_TYPES, FAMILY_EQUAL},
    .mixers = mixers,
    .ffns = ffns,
    .rules = rules,
    .nrules = sizeof rules / sizeof rules[0],
};
