/* Metrics by name, and filters over them. */
#include "searchspace/metric.h"
#include "tests/tap.h"

static const struct {
    const char *name;
    st_t st;
    const char *what; /* of an error */
    int batch, context;
} metrics[] = {
    {"valid_bpb", ST_OK, NULL, 0, 0},
    {"decode_ms@1024", ST_OK, NULL, 1, 1024},
    {"state_bytes@16777216", ST_OK, NULL, 1, 16777216},
    {"prefill_ms@16777216", ST_OK, NULL, 1, 16777216},
    {"throughput@8x1024", ST_OK, NULL, 8, 1024},
    /* one more token must fit */
    {"decode_ms@16777215", ST_OK, NULL, 1, 16777215},
    {"throughput@65536x16777215", ST_OK, NULL, 65536, 16777215},
    {"decode_ms@16777216", ST_EINVAL, "'@16777216' is not of the form '@1024' (context from 1 to 16777215)", 0, 0},
    {"infer_bytes@16777216", ST_EINVAL, "'@16777216' is not of the form '@1024' (context from 1 to 16777215)", 0, 0},
    {"joules_per_token@16777216", ST_EINVAL, "'@16777216' is not of the form '@1024' (context from 1 to 16777215)", 0, 0},
    {"throughput@65536x16777216", ST_EINVAL, "'@65536x16777216' is not of the form '@8x1024' (context from 1 to 16777215, batch from 1 to 65536)", 0, 0},
    {"prefill_ms@16777217", ST_EINVAL, "'@16777217' is not of the form '@1024' (context from 1 to 16777216)", 0, 0},
    {"throughput@65537x8", ST_EINVAL, "'@65537x8' is not of the form '@8x1024' (context from 1 to 16777215, batch from 1 to 65536)", 0, 0},
    {"joules_per_token@64", ST_OK, NULL, 1, 64},
    {"", ST_EINVAL, "unknown metric ''", 0, 0},
    {"bpb", ST_EINVAL, "unknown metric 'bpb'; did you mean 'valid_bpb'?", 0, 0},
    {"valid_bbp", ST_EINVAL, "unknown metric 'valid_bbp'; did you mean 'valid_bpb'?", 0, 0},
    {"decod_ms@256", ST_EINVAL, "unknown metric 'decod_ms@256'; did you mean 'decode_ms@1024'?", 0, 0},
    {"throughputs", ST_EINVAL, "unknown metric 'throughputs'; did you mean 'throughput@8x1024'?", 0, 0},
    {"params@3", ST_EINVAL, "metric 'params' stands alone: without '@3'", 0, 0},
    {"params@", ST_EINVAL, "metric 'params' stands alone: without '@'", 0, 0},
    {"decode_ms", ST_EINVAL, "metric 'decode_ms' needs a context, as in 'decode_ms@1024'", 0, 0},
    {"decode_ms@", ST_EINVAL, "'@' is not of the form '@1024' (context from 1 to 16777215)", 0, 0},
    {"decode_ms@0", ST_EINVAL, "'@0' is not of the form '@1024' (context from 1 to 16777215)", 0, 0},
    {"decode_ms@01024", ST_EINVAL, "'@01024' is not of the form '@1024' (context from 1 to 16777215)", 0, 0},
    {"decode_ms@-1", ST_EINVAL, "'@-1' is not of the form '@1024' (context from 1 to 16777215)", 0, 0},
    {"decode_ms@16777217", ST_EINVAL, "'@16777217' is not of the form '@1024' (context from 1 to 16777215)", 0, 0},
    {"decode_ms@99999999999999999999999", ST_EINVAL,
     "'@99999999999999999999999' is not of the form '@1024' (context from 1 to 16777215)", 0, 0},
    {"decode_ms@8x1024", ST_EINVAL, "'@8x1024' is not of the form '@1024' (context from 1 to 16777215)", 0, 0},
    {"throughput@1024", ST_EINVAL, "'@1024' is not of the form '@8x1024' (context from 1 to 16777215, batch from 1 to 65536)", 0, 0},
    {"throughput@8x", ST_EINVAL, "'@8x' is not of the form '@8x1024' (context from 1 to 16777215, batch from 1 to 65536)", 0, 0},
    {"throughput@0x8", ST_EINVAL, "'@0x8' is not of the form '@8x1024' (context from 1 to 16777215, batch from 1 to 65536)", 0, 0},
    {"proxy.synflow", ST_OK, NULL, 0, 0},
    {"proxy.synflow@8", ST_EINVAL, "metric 'proxy.synflow' stands alone: without '@8'", 0, 0},
    {"proxy.sinflow", ST_EINVAL, "unknown metric 'proxy.sinflow'; did you mean 'proxy.synflow'?", 0, 0},
    {"train_joules_est", ST_ENOTSUP, "metric 'train_joules_est' is not built yet", 0, 0},
    {"joules_per_token_est@64", ST_ENOTSUP, "metric 'joules_per_token_est@64' is not built yet", 0, 0},
    {"params_est", ST_EINVAL, "unknown metric 'params_est'; did you mean 'params'?", 0, 0},
    {"a_very_long_name_a_very_long_name_a_very_long_name_a_very_long_name", ST_EINVAL,
     "unknown metric 'a_very_long_name_a_very_long_nam...'", 0, 0},
};

static void test_parse(void)
{
    for (size_t i = 0; i < sizeof metrics / sizeof metrics[0]; i++) {
        struct metric m = {.def = -9};
        struct base_err err = BASE_ERR_INIT;
        st_t st = space_metric_parse(&m, metrics[i].name, false, "here", &err);
        int good = st == metrics[i].st;
        if (st) good = good && m.def == -9 && !strcmp(err.what, metrics[i].what ? metrics[i].what : "") && !strcmp(err.where, "here");
        else good = good && m.batch == metrics[i].batch && m.context == metrics[i].context && !strcmp(m.name, metrics[i].name);
        if (!ok(good, "metric '%s'", metrics[i].name)) printf("#   got %d %s: %s\n", st, err.where, err.what);
    }
    struct metric m;
    is_int(space_metric_parse(&m, "throughput@1x1", false, "", NULL), ST_OK, "throughput");
    ok(m.goal == METRIC_MAX && m.source == METRIC_PROFILE && !strcmp(m.unit, "tokens/s"), "is maximised, measured, in tokens/s");
    is_int(space_metric_parse(&m, "train_joules", false, "", NULL), ST_OK, "train_joules");
    ok(m.goal == METRIC_MIN && m.source == METRIC_ENERGY, "is energy");
    static const char *const fine[] = {"loss", "_x", "a.b-c@7", "proxy.x", "throughput"}, *const wrong[] = {"", "7a", "-a", "a b", "a/b", "é"};
    for (size_t i = 0; i < sizeof fine / sizeof fine[0]; i++)
        ok(!space_metric_parse(&m, fine[i], true, "", NULL) && m.def == -1 && m.goal == METRIC_MIN && m.source == METRIC_CUSTOM,
           "custom metric '%s'", fine[i]);
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        is_int(space_metric_parse(&m, wrong[i], true, "", NULL), ST_EINVAL, "not '%s'", wrong[i]);
}

static double paper(const char *name, const struct arch *a)
{
    struct metric m;
    return space_metric_parse(&m, name, false, "", NULL) ? -1 : space_metric_paper(&m, a, ARCH_WEIGHTS_F32);
}

static void test_paper(void)
{
    struct arch a = {.vocab = 256, .context = 32, .width = 64, .depth = 1, .tie = true, .rope_theta = 10000};
    a.layer[0].mixer = (struct arch_part){1, {4, 2, 16, 8, 1, 0}};
    double attention = 64 * 64 * 2 + 64 * 32 * 2;
    is_near(paper("params", &a), 256 * 64 + 64 + 64 + attention, 0, "params");
    is_near(paper("active_params", &a), 256 * 64 + 64 + 64 + attention, 0, "active_params");
    is_near(paper("weight_bytes", &a), 4 * (256 * 64 + 64 + 64 + attention), 0, "weight_bytes");
    /* the norms' 128 numbers stay f32; a scale for each row of the table and of q, k, v, o */
    is_near(space_arch_weight_bytes(&a, ARCH_WEIGHTS_BF16), 2 * (256 * 64 + attention) + 4 * 128, 0, "weight_bytes in bf16");
    is_near(space_arch_weight_bytes(&a, ARCH_WEIGHTS_INT8), 256 * 68 + attention + 4 * (64 + 32 + 32 + 64) + 4 * 128, 0, "weight_bytes in int8");
    is_near(paper("flops_per_token", &a), 2 * 256 * 64 + 2 * attention + 4 * 64 * (36 + 24 * 8) / 32.0, 0, "flops_per_token");
    is_near(paper("proxy.params", &a), 256 * 64 + 64 + 64 + attention, 0, "proxy.params");
    is_near(paper("proxy.decoder_params", &a), 64 + attention, 0, "proxy.decoder_params");
    is_near(paper("proxy.flops", &a), paper("flops_per_token", &a), 0, "proxy.flops");
    is_near(paper("state_bytes@1000", &a), 4 * 2 * 32 * 8, 0, "state_bytes");
    ok(isnan(paper("proxy.snip", &a)) && isnan(paper("valid_bpb", &a)) && isnan(paper("decode_ms@8", &a)), "nothing is known of what is measured");
}

/* In the good ones params = 5, decode_ms@8 = 2, weight_bytes is missing. */
static const struct {
    const char *text;
    int want;
} good[] = {
    {"params < 6", 1},
    {"params<5", 0},
    {"params <= 5", 1},
    {"params > 4.9", 1},
    {"params>=5.1", 0},
    {"params = 5", 1},
    {"params == 5e0", 1},
    {"params != 5", 0},
    {"5 = params", 1},
    {"decode_ms@8 < params", 1},
    {"1 < 2", 1},
    {"-1 > -2 and +1 > .5", 1},
    {"params < 6 and decode_ms@8 > 3", 0},
    {"params < 6 or decode_ms@8 > 3", 1},
    {"not params < 6", 0},
    {"not not params < 6", 1},
    {"not params < 6 or params < 6", 1},
    {"not (params < 6 or params < 6)", 0},
    {"params < 1 and params < 1 or params < 6", 1},
    {"params < 1 and (params < 1 or params < 6)", 0},
    {"params < 6 or params < 6 and params < 1", 1},
    {"weight_bytes > 1", 0},
    {"weight_bytes <= 1", 0},
    {"weight_bytes != 1", 0},
    {"not weight_bytes > 1", 1},
    {"weight_bytes != params", 0},
    {"params != weight_bytes", 0},
    {"5 != weight_bytes", 0},
    {"((((params < 6))))", 1},
    {"\t params\n<\n6 ", 1},
    {"decode_ms@8 <= 2 and (params < 5e6 or not weight_bytes > 1e6)", 1},
};

static const struct {
    const char *text;
    st_t st;
    const char *where, *what;
} bad[] = {
    {"", ST_EPARSE, "column 1", "expected a metric or a number, not the end"},
    {"   ", ST_EPARSE, "column 4", "expected a metric or a number, not the end"},
    {"params", ST_EPARSE, "column 7", "expected a comparison (< <= > >= = !=), not the end"},
    {"params <", ST_EPARSE, "column 9", "expected a metric or a number, not the end"},
    {"< 5", ST_EPARSE, "column 1", "expected a metric or a number, not '< 5'"},
    {"params ! 5", ST_EPARSE, "column 8", "expected a comparison (< <= > >= = !=), not '! 5'"},
    {"params < 5 params", ST_EPARSE, "column 12", "expected 'and', 'or' or the end, not 'params'"},
    {"1 < params < 5", ST_EPARSE, "column 12", "expected 'and' or 'or' (comparisons do not chain), not '< 5'"},
    {"params < 5 and", ST_EPARSE, "column 15", "expected a metric or a number, not the end"},
    {"params < 5 and or", ST_EPARSE, "column 16", "expected a metric or a number, not 'or'"},
    {"(params < 5", ST_EPARSE, "column 12", "expected ')', not the end"},
    {"params < 5)", ST_EPARSE, "column 11", "expected 'and', 'or' or the end, not ')'"},
    {"()", ST_EPARSE, "column 2", "expected a metric or a number, not ')'"},
    {"(params) < 5", ST_EPARSE, "column 8", "expected a comparison (< <= > >= = !=), not ') < 5'"},
    {"params < 5 && 1 < 2", ST_EPARSE, "column 12", "expected 'and', 'or' or the end, not '&& 1 < 2'"},
    {"params < 5k", ST_EPARSE, "column 10", "expected a metric or a number, not '5k'"},
    {"params < 0x10", ST_EPARSE, "column 10", "expected a metric or a number, not '0x10'"},
    {"params < 1e999", ST_EPARSE, "column 10", "expected a number within range, not '1e999'"},
    {"params < inf", ST_EINVAL, "column 10", "unknown metric 'inf'"},
    {"params < 5 and parms < 3", ST_EINVAL, "column 16", "unknown metric 'parms'; did you mean 'params'?"},
    {"decode_ms < 3", ST_EINVAL, "column 1", "metric 'decode_ms' needs a context, as in 'decode_ms@1024'"},
    {"params < 5 AND 1 < 2", ST_EPARSE, "column 12", "expected 'and', 'or' or the end, not 'AND 1 < 2'"},
    {"params < $x", ST_EPARSE, "column 10", "expected a metric or a number, not '$x'"},
    {"a thing that is longer", ST_EINVAL, "column 1", "unknown metric 'a'"},
};

static void test_where(void)
{
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        struct where *w = NULL;
        struct base_err err = BASE_ERR_INIT;
        double v[8];
        if (!ok(!space_where_parse(&w, good[i].text, false, &err), "reads: %s", good[i].text)) {
            printf("#   %s: %s\n", err.where, err.what);
            continue;
        }
        for (int k = 0; k < space_where_metrics(w); k++) {
            const char *m = space_where_metric(w, k);
            v[k] = !strcmp(m, "params") ? 5 : !strcmp(m, "decode_ms@8") ? 2 : NAN;
        }
        is_int(space_where_eval(w, v), good[i].want, "%s", good[i].text);
        space_where_free(w);
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct where *w = NULL;
        struct base_err err = BASE_ERR_INIT;
        st_t st = space_where_parse(&w, bad[i].text, false, &err);
        if (!ok(st == bad[i].st && !w && !strcmp(err.where, bad[i].where) && !strcmp(err.what, bad[i].what), "refuses: %s", bad[i].text))
            printf("#   got %d %s: %s\n", st, err.where, err.what);
    }
    struct where *w = NULL;
    is_int(space_where_parse(&w, "a-b.c@1 < 2 or x > a-b.c@1", true, NULL), ST_OK, "custom metrics");
    is_int(space_where_metrics(w), 2, "each once");
    is_str(space_where_metric(w, 0), "a-b.c@1", "in order");
    space_where_free(w);

    char text[5000];
    memset(text, '(', 4095);
    text[4095] = '\0';
    struct base_err err = BASE_ERR_INIT;
    is_int(space_where_parse(&w, text, false, &err), ST_EPARSE, "nesting without end is refused");
    is_str(err.where, "column 65", "at its limit");
    memset(text, ' ', 4999);
    text[4999] = '\0';
    is_int(space_where_parse(&w, text, false, &err), ST_ETOOBIG, "so is a text without end");
    int n = 0;
    for (int i = 0; i < 500; i++) n += sprintf(text + n, "%s1<2", i ? " and " : "");
    is_int(space_where_parse(&w, text, false, &err), ST_OK, "a long chain reads");
    ok(space_where_eval(w, NULL), "and holds");
    space_where_free(w);
    space_where_free(NULL);
}

int main(void)
{
    test_parse();
    test_paper();
    test_where();
    return tap_done();
}
