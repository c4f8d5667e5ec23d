/* taut predict: the loss of a trial at other lengths and widths, by its job's scaling fit. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/connect.h"
#include "cli/format.h"
#include "cli/out.h"
#include "cli/term.h"

static const struct cli_opt options[] = {
    {"tokens", 't', "N", "tokens of the training that is asked about (must be given)", false},
    {"width", 'w', "N", "the architecture so wide, in proportion (default: as it is)", false},
    {0},
};

static void line(const char *name, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void line(const char *name, const char *fmt, ...)
{
    va_list ap;
    printf("  %s%-10s%s ", term_style(TERM_DIM), name, term_style(TERM_PLAIN));
    va_start(ap, fmt);
    vprintf(fmt, ap);
    va_end(ap);
    putchar('\n');
}

static void print_value(const char *name, json_t *v)
{
    char value[FMT_MAX], low[FMT_MAX], high[FMT_MAX];
    if (!v) return;
    line(name, "%s%s%s %s, 95 %% from %s to %s", term_style(TERM_BOLD), fmt_metric(value, name, out_num(v, "value")), term_style(TERM_PLAIN), fmt_metric_unit(name),
         fmt_metric(low, name, out_num(v, "low")), fmt_metric(high, name, out_num(v, "high")));
}

static double nth(json_t *list, size_t i)
{
    return json_number_value(json_array_get(list, i));
}

static void print_reach(json_t *o, const char *what)
{
    char a[FMT_MAX], b[FMT_MAX], by[FMT_MAX];
    json_t *range = json_object_get(json_object_get(o, "data"), what);
    double reach = out_num(json_object_get(o, "reach"), what);
    bool far = reach > 1;
    line(what, "%s%s%s; the job's results have %s to %s", far ? term_style(TERM_YELLOW) : "",
         far ? fmt_number(by, reach) : "within", far ? " times outside" : "", fmt_short(a, nth(range, 0)), fmt_short(b, nth(range, 1)));
    if (far) fputs(term_style(TERM_PLAIN), stdout);
}

static void print(json_t *o)
{
    char a[FMT_MAX], b[FMT_MAX];
    json_t *fit = json_object_get(o, "fit"), *data = json_object_get(o, "data");
    printf("trial %lld of job %lld, %s parameters, %s tokens\n", (long long)out_int(o, "trial"), (long long)out_int(o, "job"), fmt_short(a, out_num(o, "params")),
           fmt_short(b, out_num(o, "tokens")));
    print_value("valid_loss", json_object_get(o, "valid_loss"));
    print_value("valid_bpb", json_object_get(o, "valid_bpb"));
    print_reach(o, "params");
    print_reach(o, "tokens");
    line("fit", "L = E + A/N^a + B/D^b over %lld results of %lld trials; this trial is %+.2g %% off it, which changes by %.2g %% a rung", (long long)out_int(data, "results"),
         (long long)out_int(data, "trials"), 100 * out_num(o, "deviation"), 100 * out_num(fit, "change"));
    static const char *const names[][2] = {{"E", "E"}, {"A", "A"}, {"alpha", "a"}, {"B", "B"}, {"beta", "b"}};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        json_t *p = json_object_get(fit, names[i][0]);
        line("", "%s %.4g (%.4g to %.4g)", names[i][1], out_num(p, "value"), out_num(p, "low"), out_num(p, "high"));
    }
}

static int run(struct cli *c)
{
    struct conn k;
    json_t *trial = NULL, *o = NULL;
    double tokens = cli_num(c, "tokens", NAN, 1, 1e18);
    int64_t width = cli_int(c, "width", 0, 1, 65536);
    if (!c->bad && isnan(tokens)) return cli_fail(CLI_CALL, "predict", "say of how many tokens, such as --tokens 1e9", "--tokens is missing");
    int rc = c->bad ? c->bad : conn_open(&k, c, false);
    if (rc) return rc;
    rc = conn_trial(&k, c->arg[0], 0, &trial);
    if (!rc) {
        json_t *params = json_pack("{s:I,s:f}", "id", (json_int_t)out_int(trial, "id"), "tokens", tokens);
        if (width) json_object_set_new(params, "width", json_integer(width));
        rc = conn_call(&k, "trial.predict", params, NULL, &o);
    }
    if (!rc && c->json) rc = out_json(o);
    else if (!rc) print(o);
    json_decref(o);
    json_decref(trial);
    conn_close(&k);
    return rc;
}

const struct cli_cmd cmd_predict = {.name = "predict",
                                    .args = "TRIAL",
                                    .summary = "loss of a trial at other lengths and widths, by its job's scaling fit",
                                    .help = "  taut predict 17 --tokens 1e9 --dir search\n"
                                            "  taut predict 17 --tokens 1e9 --width 512 --dir search\n"
                                            "The job must have results on three rungs. The fit is of its own few trials: the further it reaches out of them, the less it is worth, which\n"
                                            "the interval does not tell whole.\n",
                                    .options = options,
                                    .min_args = 1,
                                    .max_args = 1,
                                    .run = run};
