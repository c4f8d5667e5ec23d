/* The five models that everything is measured on. */
#include <stdio.h>
#include <string.h>

#include "cli/bench.h"
#include "searchspace/arch_json.h"
#include "searchspace/layer.h"

#define MAMBA2 "{\"type\":\"mamba2\",\"expand\":2,\"head_dim\":64,\"state\":64}"
#define GATED_DELTA "{\"type\":\"gated_delta\",\"heads\":8,\"key_heads\":8,\"head_dim\":32,\"value_dim\":32}"
#define LINEAR "{\"type\":\"linear\",\"heads\":8,\"head_dim\":32,\"value_dim\":32}"
#define GQA "{\"type\":\"attention\",\"heads\":8,\"kv_heads\":2,\"head_dim\":32}"
#define SWIGLU704 "{\"type\":\"swiglu\",\"hidden\":704}"

const struct bench_preset bench_presets[BENCH_MODELS] = {
    {"a", "4 x 128, 4 heads, ffn 384", 4, 128, {"{\"type\":\"attention\",\"heads\":4,\"kv_heads\":4,\"head_dim\":32}"}, "{\"type\":\"swiglu\",\"hidden\":384}", "0000", {0}},
    {"b", "6 x 256, 8 heads, 2 of keys and values, ffn 704", 6, 256, {GQA}, SWIGLU704, "000000", {0}},
    {"c", "8 x 512, 8 heads, ffn 1408", 8, 512, {"{\"type\":\"attention\",\"heads\":8,\"kv_heads\":8,\"head_dim\":64}"}, "{\"type\":\"swiglu\",\"hidden\":1408}", "00000000", {0}},
    {"d", "6 x 256, mamba2 and attention (MMAMMA), ffn 704", 6, 256, {GQA, MAMBA2}, SWIGLU704, "110110", {GATED_DELTA, LINEAR}},
    {"e", "6 x 256, 8 experts of 256, 2 active", 6, 256, {GQA}, "{\"type\":\"moe\",\"experts\":8,\"active\":2,\"hidden\":256}", "000000", {0}},
};

/* The type that a part's JSON names. */
static int built(const char *part, unsigned role, struct base_err *err)
{
    char name[32];
    if (sscanf(part, "{\"type\":\"%31[a-z0-9_]", name) != 1) return 0;
    if (space_layer_find(name, role) >= 0) return 1;
    base_err_set(err, ST_ENOTSUP, "bench", "%s is not built yet", name);
    return 0;
}

static st_t parse(const struct bench_preset *p, int context, struct arch *out, struct base_err *err)
{
    struct base_buf b = BASE_BUF_INIT;
    for (int i = 0; i < 2; i++)
        if (p->mixer[i] && !built(p->mixer[i], LAYER_MIXER, err)) return ST_ENOTSUP;
    if (!built(p->ffn, LAYER_FFN, err)) return ST_ENOTSUP;
    base_buf_printf(&b, "{\"taut\":1,\"vocab\":%d,\"context\":%d,\"width\":%d,\"tie_embeddings\":false,\"layers\":[", BENCH_VOCAB, context, p->width);
    for (int l = 0; l < p->depth; l++) base_buf_printf(&b, "%s{\"mixer\":%s,\"ffn\":%s}", l ? "," : "", p->mixer[p->pattern[l] - '0'], p->ffn);
    base_buf_str(&b, "]}");
    st_t st = b.st ? b.st : space_arch_parse(out, b.p, b.len, p->name, err);
    base_buf_fini(&b);
    return st;
}

st_t bench_arch(int model, int context, struct arch *out, struct base_err *err)
{
    return parse(&bench_presets[model], context, out, err);
}

st_t bench_arch_other(int model, int i, int context, struct arch *out, struct base_err *err)
{
    struct bench_preset p = bench_presets[model];
    p.mixer[0] = p.other[i], p.mixer[1] = NULL;
    p.depth = 1, p.pattern = "0";
    return parse(&p, context, out, err);
}

double bench_decode_bytes(const struct arch *a, int64_t context)
{
    struct arch_cost cost;
    space_arch_cost(a, &cost);
    double table = a->tie ? 0 : (double)a->vocab * a->width; /* one row of it is read */
    return 4 * (cost.active_params - table) + space_arch_state_bytes(a, context);
}

double bench_train_flops(const struct arch *a)
{
    struct arch_cost cost;
    space_arch_cost(a, &cost);
    return 3 * cost.flops_per_token;
}
