/* Lfm2ForCausalLM: in each layer a short convolution or attention with a norm on each head of q and k; the same swiglu in every layer
 * (transformers, models/lfm2/configuration_lfm2.py: layer_types; one conv_L_cache, one head count, one intermediate_size). Its conv_bias
 * would be of the convolutions alone. */
#include "searchspace/families/family.h"

static const char *const mixers[] = {"attention", "short_conv", NULL};
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

const struct family family_lfm2 = {
    .name = "lfm2",
    .public_class = "Lfm2ForCausalLM",
    .freedom = {FAMILY_TYPES, FAMILY_EQUAL},
    .mixers = mixers,
    .ffns = ffns,
    .rules = rules,
    .nrules = sizeof rules / sizeof rules[0],
};
