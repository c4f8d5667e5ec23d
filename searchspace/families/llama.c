/* LlamaForCausalLM: the same attention and swiglu in every layer, RoPE always, no window, full matrices
 * (transformers, models/llama/configuration_llama.py: one head count, one head_dim, one intermediate_size; its validate_architecture
 * asks that the heads divide the width, whatever head_dim is). */
#include "searchspace/families/family.h"

static const char *const mixers[] = {"attention", NULL};
static const char *const ffns[] = {"swiglu", NULL};
static const struct family_rule rules[] = {
    {.param = "norm", .word = "rms"},
    {"attention", "window", 0, NULL},
    {"attention", "rope", 1, NULL},
    {"attention", "qk_norm", 0, NULL},
    {"attention", "gate", 0, NULL},
    {"attention", "rope_dim", 0, NULL},
    {"attention", "share_kv", 0, NULL},
    {"swiglu", "rank", 0, NULL},
};

static st_t check(const struct arch_part *p, int width, struct base_err *err)
{
    if (space_layer(p->type) != &layer_attention) return ST_OK;
    int heads = space_part_get(p, "heads");
    return width % heads ? base_err_set(err, ST_EINVAL, "heads", "family 'llama': %d does not divide width %d", heads, width) : ST_OK;
}

const struct family family_llama = {
    .name = "llama",
    .public_class = "LlamaForCausalLM",
    .freedom = {FAMILY_EQUAL, FAMILY_EQUAL},
    .mixers = mixers,
    .ffns = ffns,
    .rules = rules,
    .nrules = sizeof rules / sizeof rules[0],
    .check = check,
};
