/* NemotronHForCausalLM: a row of blocks, each one of mamba2, attention without RoPE, mlp with relu^2 and a mixture of experts, with a norm before it
 * (transformers, models/nemotron_h/configuration_nemotron_h.py: layers_block_type). A layer here is one or two of them. It does not tie head and
 * embedding (its _tied_weights_keys are empty); its mixtures have shared experts always (moe_shared_expert_intermediate_size 0 is read as
 * another size), and look at the best two experts. */
#include "searchspace/families/family.h"

static const char *const mixers[] = {"attention", "mamba2", "none", NULL};
static const char *const ffns[] = {"mlp", "moe", "none", NULL};
static const struct family_rule rules[] = {
    {.param = "norm", .word = "rms"},
    {.param = "bias", .only = 0},
    {.param = "tie_embeddings", .only = 0},
    {"attention", "window", 0, NULL},
    {"attention", "rope", 0, NULL},
    {"attention", "qk_norm", 0, NULL},
    {"attention", "gate", 0, NULL},
    {"attention", "rope_dim", 0, NULL},
    {"attention", "share_kv", 0, NULL},
    {"mlp", "act", 0, "relu2"},
    {"moe", "router", 0, "sigmoid"},
    {"moe", "act", 0, "relu2"},
    {"moe", "shared_gate", 0, NULL},
};

static st_t check(const struct arch_part *p, int width, struct base_err *err)
{
    (void)width;
    if (space_layer(p->type) != &layer_moe) return ST_OK;
    if (space_part_get(p, "shared") < 1) return base_err_set(err, ST_EINVAL, "shared", "family 'nemotron_h' holds no mixture without shared experts");
    if (space_part_get(p, "experts") < 2) return base_err_set(err, ST_EINVAL, "experts", "family 'nemotron_h' holds two at least");
    return ST_OK;
}

const struct family family_nemotron_h = {
    .name = "nemotron_h",
    .public_class = "NemotronHForCausalLM",
    .freedom = {FAMILY_TYPES, FAMILY_TYPES},
    .mixers = mixers,
    .ffns = ffns,
    .rules = rules,
    .nrules = sizeof rules / sizeof rules[0],
    .check = check,
};
