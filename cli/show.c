/* taut show: all that is known of a trial, or of an architecture. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli/archarg.h"
#include "cli/cli.h"
#include "cli/connect.h"
#include "cli/format.h"
#include "cli/jobfile.h"
#include "cli/out.h"
#include "cli/spark.h"
#include "cli/stack.h"
#include "cli/table.h"
#include "cli/term.h"
#include "searchspace/arch_json.h"
#include "searchspace/metric.h"

#define CONTEXTS_MAX 3

static const struct cli_opt options[] = {
    {"context", 'c', "L,…", "contexts to count the layers' state at (default: 128,1024,4096)", false},
    {0},
};

struct show {
    struct cli *c;
    struct conn k;
    struct arch arch;
    bool lm;         /* there is an arch */
    json_t *trial;   /* trial.get; NULL: an architecture's file */
    json_t *job;     /* of it, briefly */
    int64_t context[CONTEXTS_MAX];
    int n;
};

/* ---- for machines ---- */

static int print_json(const struct show *s, const struct stack *stack)
{
    json_t *o = s->trial ? json_copy(s->trial) : json_object();
    struct base_buf b = BASE_BUF_INIT;
    char id[BASE_ID_HEX];
    if (s->job) json_object_set(o, "job_name", json_object_get(s->job, "name"));
    if (s->lm) {
        struct arch_cost cost;
        space_arch_cost(&s->arch, &cost);
        if (!s->trial) {
            space_arch_canonical(&s->arch, &b);
            space_arch_id(&s->arch, id);
            json_object_set_new(o, "arch_id", json_string(id));
            json_object_set_new(o, "arch", b.p ? json_loads(b.p, 0, NULL) : NULL);
        }
        json_object_set_new(o, "costs", json_pack("{s:f, s:f, s:f, s:f}", "params", cost.params, "active_params", cost.active_params, "flops_per_token",
                                                  cost.flops_per_token, "weight_bytes", cost.weight_bytes));
        json_object_set_new(o, "layers", stack_json(stack, s->context, s->n));
    }
    int rc = out_json(o);
    json_decref(o);
    base_buf_fini(&b);
    return rc;
}

/* ---- for people ---- */

static void line(const char *name, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void line(const char *name, const char *fmt, ...)
{
    va_list ap;
    printf("  %s%-9s%s ", term_style(TERM_DIM), name, term_style(TERM_PLAIN));
    va_start(ap, fmt);
    vprintf(fmt, ap);
    va_end(ap);
    putchar('\n');
}

static void print_origin(json_t *trial)
{
    json_t *origin = json_object_get(trial, "origin"), *parents = json_object_get(origin, "parents"), *p;
    const char *op = out_str(origin, "op");
    struct base_buf b = BASE_BUF_INIT;
    size_t i;
    static const struct {
        const char *op, *text;
    } words[] = {{"sample", "drawn at random"}, {"mutate", "a mutation"}, {"crossover", "a crossover"}, {"enumerate", "the next of the space in order"}, {"repair", "a walk into the constraints"}, {"repeat", "a repeat"}};
    for (i = 0; i < sizeof words / sizeof *words; i++)
        if (!strcmp(op, words[i].op)) op = words[i].text;
    base_buf_str(&b, op);
    json_array_foreach(parents, i, p) base_buf_printf(&b, "%s %lld", i ? " and" : " of trial", (long long)json_integer_value(p));
    if (*out_str(origin, "kind")) base_buf_printf(&b, ", %s: %s", strcmp(out_str(origin, "kind"), "train") ? "measured" : "trained", out_str(origin, "reason"));
    line("origin", "%s; proposal %lld", b.p ? b.p : "", (long long)out_int(trial, "proposal"));
    base_buf_fini(&b);
}

/* As far as its curve or its checkpoint tell; NaN. */
static double trained(json_t *trial)
{
    json_t *curve = json_object_get(trial, "curve"), *last = json_array_get(curve, json_array_size(curve) - 1);
    double tokens = last ? json_number_value(json_array_get(last, 0)) : NAN;
    return fmax(tokens, out_num(json_object_get(trial, "checkpoint"), "tokens"));
}

static void print_facts(const struct show *s)
{
    json_t *t = s->trial, *device = json_object_get(t, "device"), *body = json_object_get(device, "body"), *checkpoint = json_object_get(t, "checkpoint");
    char buf[FMT_MAX], busy[FMT_MAX], ago[FMT_MAX];
    double tokens = trained(t);
    struct base_buf b = BASE_BUF_INIT;
    line("job", "%lld '%s'", (long long)out_int(t, "job"), out_str(s->job, "name"));
    if (json_object_get(t, "rungs")) line("rung", "%lld", (long long)out_int(t, "rung"));
    print_origin(t);
    if (!isnan(tokens)) base_buf_printf(&b, "%s tokens, ", fmt_short(buf, tokens));
    base_buf_printf(&b, "seed %lld", (long long)out_int(t, "seed"));
    if (out_num(t, "busy_s") > 0) base_buf_printf(&b, ", %s at work", fmt_duration(busy, out_num(t, "busy_s")));
    if (out_num(t, "joules") > 0) base_buf_printf(&b, ", %s J", fmt_number(buf, out_num(t, "joules")));
    if (out_int(t, "reported")) base_buf_printf(&b, ", reported %s", fmt_ago(ago, out_int(t, "reported")));
    if (out_int(t, "epoch") > 1) base_buf_printf(&b, ", leased %lld times", (long long)out_int(t, "epoch"));
    line("training", "%s", b.p ? b.p : "");
    base_buf_fini(&b);
    if (device) {
        const char *name = out_str(body, "name"), *kind = out_str(device, "kind");
        char threads[32] = "";
        if (out_int(body, "threads")) snprintf(threads, sizeof threads, ", %lld thread%s", (long long)out_int(body, "threads"), out_int(body, "threads") == 1 ? "" : "s");
        line("device", "%s%s (%s, device %lld)", *name ? name : kind, threads, kind, (long long)out_int(device, "id"));
    }
    if (checkpoint)
        line("weights", "%s (%s, SHA-256 %.12s%s)", out_str(checkpoint, "path"), fmt_bytes(buf, out_num(checkpoint, "bytes")), out_str(checkpoint, "hash"),
             term_signs()->dots);
    if (*out_str(t, "error")) {
        struct base_err e;
        base_err_set(&e, ST_EINVAL, "", "%s", out_str(t, "error")); /* an evaluator's words: control characters become visible */
        line(!strcmp(out_str(t, "state"), "pruned") ? "pruned" : "failed", "%s%s%s", term_style(TERM_RED), e.what, term_style(TERM_PLAIN));
    }
}

static double nth(json_t *list, size_t i)
{
    json_t *v = json_array_get(list, i);
    return json_is_number(v) ? json_number_value(v) : NAN;
}

static void measured_row(struct table *t, const char *name, json_t *m)
{
    char low[FMT_MAX], high[FMT_MAX];
    json_t *ratio = json_object_get(m, "ratio"), *converged = json_object_get(m, "converged");
    const char *unit = fmt_metric_unit(name);
    table_row(t);
    table_cell(t, "%s", name);
    table_cell(t, "%s", fmt_metric(low, name, out_num(m, "median")));
    table_cell(t, "%s", !strcmp(unit, "B") ? "" : unit); /* bytes are written with theirs */
    if (isnan(out_num(m, "low"))) table_cell(t, "%s", "");
    else table_cell(t, "%s to %s", fmt_metric(low, name, out_num(m, "low")), fmt_metric(high, name, out_num(m, "high")));
    bool estimate = json_object_get(m, "n") && !out_int(m, "n");
    if (out_int(m, "n")) table_cell(t, "%lld", (long long)out_int(m, "n"));
    else table_cell(t, "%s", estimate ? "est" : "");
    if (json_array_size(ratio) == 3) table_cell(t, "%s (%s to %s)", fmt_number((char[FMT_MAX]){0}, nth(ratio, 0)), fmt_number(low, nth(ratio, 1)), fmt_number(high, nth(ratio, 2)));
    else table_cell(t, "%s", "");
    struct base_buf b = BASE_BUF_INIT;
    if (estimate) base_buf_str(&b, "not measured: by the job's latency model");
    if (json_is_false(converged)) base_buf_str(&b, "not converged");
    if (out_num(m, "disturbed") > 0) base_buf_printf(&b, "%s%.0f %% of samples disturbed", b.len ? "; " : "", 100 * out_num(m, "disturbed"));
    if (out_int(m, "rejected")) base_buf_printf(&b, "%s%lld samples left out", b.len ? "; " : "", (long long)out_int(m, "rejected"));
    table_cell(t, "%s", b.p ? b.p : "");
    base_buf_fini(&b);
}

/* Objectives of the job first. */
static void print_metrics(const struct show *s)
{
    struct table t = TABLE_INIT;
    json_t *metrics = json_object_get(s->trial, "metrics"), *objectives = json_object_get(s->job, "objectives"), *first = json_object(), *o, *m;
    const char *name;
    size_t i;
    t.indent = 2;
    table_column(&t, "measured", TABLE_LEFT);
    table_column(&t, "median", TABLE_RIGHT);
    table_column(&t, "", TABLE_LEFT);
    table_column(&t, "95 % interval", TABLE_LEFT);
    table_column(&t, "n", TABLE_RIGHT);
    table_column(&t, "to the anchor", TABLE_LEFT);
    table_column(&t, "", TABLE_LEFT);
    json_array_foreach(objectives, i, o)
    {
        name = out_str(o, "metric");
        m = json_object_get(metrics, name);
        if (!json_object_get(m, "device")) continue;
        measured_row(&t, name, m);
        json_object_set_new(first, name, json_true());
    }
    json_object_foreach(metrics, name, m)
    {
        if (json_object_get(m, "device") && !json_object_get(first, name)) measured_row(&t, name, m);
    }
    if (t.n) {
        putchar('\n');
        table_print(&t, stdout);
    }
    table_fini(&t);
    json_decref(first);
}

static void print_curve(json_t *trial)
{
    json_t *curve = json_object_get(trial, "curve");
    size_t n = json_array_size(curve);
    char below[96], tokens[FMT_MAX], last[FMT_MAX];
    double *v = n > 1 ? malloc(n * sizeof *v) : NULL;
    if (!v) return;
    for (size_t i = 0; i < n; i++) v[i] = nth(json_array_get(curve, i), 1);
    snprintf(below, sizeof below, "loss over %s tokens, at last %s", fmt_short(tokens, nth(json_array_get(curve, n - 1), 0)), fmt_number(last, v[n - 1]));
    putchar('\n');
    spark_print(v, (int)n, below, 2);
    free(v);
}

static void print_knobs(json_t *arch)
{
    struct table t = TABLE_INIT;
    const char *name;
    json_t *v;
    t.indent = 2;
    table_column(&t, "knob", TABLE_LEFT);
    table_column(&t, "value", TABLE_CUT);
    json_object_foreach(arch, name, v)
    {
        struct base_buf b = BASE_BUF_INIT;
        out_json_text(v, &b);
        table_row(&t);
        table_cell(&t, "%s", name);
        table_cell(&t, "%s", b.p ? b.p : "");
        base_buf_fini(&b);
    }
    putchar('\n');
    table_print(&t, stdout);
    table_fini(&t);
}

static void print_arch(const struct show *s, const struct stack *stack)
{
    putchar('\n');
    stack_print(stack, s->context, s->n, 2);
    printf("\n  %scontext %d, vocabulary %d, width %d%s%s\n", term_style(TERM_DIM), s->arch.context, s->arch.vocab, s->arch.width,
           s->arch.tie ? ", the head shares the embedding" : "", term_style(TERM_PLAIN));
}

/* What the job is after, as it was on the rungs below. */
static void print_rungs(const struct show *s)
{
    struct table t = TABLE_INIT;
    json_t *objectives = json_object_get(s->job, "objectives"), *r, *o;
    size_t i, k;
    char buf[FMT_MAX];
    t.indent = 2;
    table_column(&t, "rung", TABLE_RIGHT);
    table_column(&t, "tokens", TABLE_RIGHT);
    json_array_foreach(objectives, k, o) table_column(&t, out_str(o, "metric"), TABLE_RIGHT);
    json_array_foreach(json_object_get(s->trial, "rungs"), i, r)
    {
        double tokens = trained(r);
        table_row(&t);
        table_cell(&t, "%lld", (long long)out_int(r, "rung"));
        table_cell(&t, "%s", isnan(tokens) ? "" : fmt_short(buf, tokens));
        json_array_foreach(objectives, k, o)
        {
            double v = out_num(json_object_get(r, "metrics"), out_str(o, "metric"));
            table_cell(&t, "%s", isnan(v) ? "" : fmt_metric(buf, out_str(o, "metric"), v));
        }
    }
    putchar('\n');
    table_print(&t, stdout);
    table_fini(&t);
}

static int print(const struct show *s, const struct stack *stack)
{
    struct base_buf b = BASE_BUF_INIT;
    char id[BASE_ID_HEX];
    json_t *t = s->trial;
    if (t) {
        const char *state = out_str(t, "state");
        enum term_style style = !strcmp(state, "ok") ? TERM_GREEN : !strcmp(state, "failed") ? TERM_RED : TERM_YELLOW;
        printf("%strial %lld%s  %s%s%s  %s\n", term_style(TERM_BOLD), (long long)out_int(t, "id"), term_style(TERM_PLAIN), term_style(style), state,
               term_style(TERM_PLAIN), out_str(t, "arch_id"));
        out_arch_json(json_object_get(t, "arch"), &b);
    } else {
        space_arch_id(&s->arch, id);
        printf("%sarchitecture%s  %s\n", term_style(TERM_BOLD), term_style(TERM_PLAIN), id);
        out_arch(&s->arch, &b);
    }
    printf("  %s\n\n", b.p ? b.p : "");
    base_buf_fini(&b);
    if (t) print_facts(s);
    if (t) print_metrics(s);
    if (t && json_object_get(t, "rungs")) print_rungs(s);
    if (t) print_curve(t);
    if (s->lm) print_arch(s, stack);
    else print_knobs(json_object_get(t, "arch"));
    return CLI_OK;
}

/* ---- the verb ---- */

static int from_store(struct show *s)
{
    struct base_err err = BASE_ERR_INIT;
    char id[24];
    int rc = conn_open(&s->k, s->c, false);
    if (!rc) rc = conn_trial(&s->k, s->c->arg[0], 0, &s->trial);
    if (!rc) {
        snprintf(id, sizeof id, "%lld", (long long)out_int(s->trial, "job"));
        rc = conn_job_brief(&s->k, id, &s->job);
    }
    conn_close(&s->k);
    json_t *arch = json_object_get(s->trial, "arch");
    s->lm = !rc && json_object_get(arch, "taut");
    if (s->lm && space_arch_from_json(&s->arch, arch, "arch", &err))
        rc = cli_fail_err(CLI_FAILED, s->c->arg[0], "are taut and tautd of the same version?", &err);
    return rc;
}

static int run(struct cli *c)
{
    struct show s = {.c = c};
    static struct stack stack;
    s.n = cli_int_list(c, "context", "128,1024,4096", 1, s.context, CONTEXTS_MAX);
    int rc = c->bad ? c->bad : archarg_contexts(c, s.context, s.n);
    if (!rc && archarg_in_store(c->arg[0])) {
        rc = from_store(&s);
    } else if (!rc) {
        rc = archfile_read(&s.arch, c->arg[0]);
        s.lm = true;
    }
    if (!rc && s.lm) stack_make(&stack, &s.arch);
    if (!rc) rc = c->json ? print_json(&s, &stack) : print(&s, &stack);
    json_decref(s.job);
    json_decref(s.trial);
    return rc;
}

const struct cli_cmd cmd_show = {
    .name = "show",
    .args = "TRIAL|ARCH",
    .summary = "what a trial is, layer by layer, what it costs, what was measured, where it came from",
    .help = "  taut show 17 --dir search               a trial by its number\n"
            "  taut show 3f2a91c0 --dir search         the newest trial of the architecture whose id begins so\n"
            "  taut show arch.json                     an architecture's file: what it is and costs\n"
            "Intervals are 95 % ones of the median. \"to the anchor\" is the ratio to a fixed network that was measured in between, which takes the\n"
            "machine's mood out of a comparison.\n",
    .options = options,
    .min_args = 1,
    .max_args = 1,
    .run = run};
