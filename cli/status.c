/* taut status: one job, as it stands. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli/audit.h"
#include "cli/cli.h"
#include "cli/connect.h"
#include "cli/format.h"
#include "cli/out.h"
#include "cli/result.h"
#include "cli/term.h"

static void field(const char *name)
{
    printf("%s%-13s%s ", term_style(TERM_DIM), name, term_style(TERM_PLAIN));
}

/* How many trials got to each, and of how many tokens it is. */
static void print_rungs(json_t *rungs)
{
    json_t *r;
    size_t i;
    char buf[FMT_MAX];
    if (!rungs) return;
    field("rungs");
    json_array_foreach(rungs, i, r)
        printf("%s%lld of %s tokens", i ? ", " : "", (long long)out_int(r, "trials"), fmt_short(buf, out_num(r, "tokens")));
    putchar('\n');
}

static void print_progress(json_t *info)
{
    json_t *budget = json_object_get(info, "budget"), *trials = json_object_get(info, "trials"), *to_go = json_object_get(info, "to_go");
    char buf[FMT_MAX];
    field("evaluations");
    printf("%lld", (long long)out_int(info, "evaluations"));
    if (!isnan(out_num(budget, "evaluations"))) printf(" of %.0f", out_num(budget, "evaluations"));
    if (out_int(trials, "failed")) printf(", %s%lld failed%s", term_style(TERM_RED), (long long)out_int(trials, "failed"), term_style(TERM_PLAIN));
    if (out_int(trials, "pruned")) printf(", %lld pruned", (long long)out_int(trials, "pruned"));
    if (out_int(trials, "repeats")) printf(", %lld of them trials once more", (long long)out_int(trials, "repeats"));
    if (out_int(trials, "ready")) printf(", %lld given back and waiting", (long long)out_int(trials, "ready"));
    putchar('\n');
    print_rungs(json_object_get(info, "rungs"));
    field("time");
    printf("%s at work", fmt_duration(buf, out_num(info, "busy_s")));
    if (!isnan(out_num(budget, "hours"))) printf(" of %s", fmt_duration(buf, 3600 * out_num(budget, "hours")));
    double per_hour = out_num(json_object_get(info, "rates"), "evaluations_per_hour");
    if (per_hour > 0) printf(", %s evaluations an hour", fmt_rate(buf, per_hour));
    if (out_num(to_go, "busy_s") > 0) printf(", %s to go", fmt_duration(buf, out_num(to_go, "busy_s")));
    putchar('\n');
    if (!isnan(out_num(info, "joules"))) {
        field("energy");
        printf("%s J", fmt_short(buf, out_num(info, "joules")));
        if (!isnan(out_num(to_go, "joules"))) printf(", %s J to go", fmt_short(buf, out_num(to_go, "joules")));
        putchar('\n');
    }
}

static void print_search(json_t *info)
{
    json_t *space = json_object_get(info, "space"), *target = json_object_get(info, "target");
    const char *problem = out_str(space, "problem"), *type = *problem ? problem : out_str(space, "type");
    char buf[FMT_MAX];
    field("space");
    if (isnan(out_num(space, "size"))) printf("%s, infinitely many candidates\n", type);
    else printf("%s, %s%s candidates\n", type, json_is_true(json_object_get(space, "exact")) ? "" : "at most ", fmt_number(buf, out_num(space, "size")));
    field("strategy");
    json_t *by = json_object_get(info, "proposes");
    printf("%s", out_str(info, "strategy"));
    if (by) printf(": %s since proposal %lld", out_str(by, "to"), (long long)out_int(by, "proposal"));
    if (by && !isnan(out_num(by, "rho"))) printf(" (rank correlation %.2f)", out_num(by, "rho"));
    printf(", seed %lld\n", (long long)out_int(info, "seed"));
    field("target");
    printf("%s", out_str(target, "wanted"));
    if (*out_str(target, "kind")) printf(": %s (device %lld)", out_str(target, "kind"), (long long)out_int(target, "device"));
    putchar('\n');
    if (json_object_get(info, "precision")) {
        json_t *precision = json_object_get(info, "precision");
        const char *wanted = out_str(precision, "wanted"), *used = out_str(precision, "used");
        field("precision");
        printf("%s%s%s\n", wanted, strcmp(wanted, used) && *used ? ": " : "", strcmp(wanted, used) ? used : "");
    }
    if (!isnan(out_num(info, "hypervolume"))) {
        field("hypervolume");
        printf("%s\n", fmt_number(buf, out_num(info, "hypervolume")));
    }
}

static void print_supernet(json_t *info)
{
    json_t *s = json_object_get(info, "supernet");
    const char *state = out_str(s, "state");
    char buf[FMT_MAX], all[FMT_MAX], spent[FMT_MAX];
    if (!s) return;
    double at = out_num(s, "tokens"), kept = out_num(json_object_get(s, "checkpoint"), "tokens");
    if (isnan(at)) at = kept;
    field("supernet");
    if (!strcmp(state, "ok")) {
        printf("trained, %s tokens in %s\n", fmt_short(all, out_num(s, "of")), fmt_duration(spent, out_num(s, "busy_s")));
        return;
    }
    if (!strcmp(state, "failed")) printf("%sfailed%s: %s", term_style(TERM_RED), term_style(TERM_PLAIN), out_str(s, "error"));
    else printf("%s", !strcmp(state, "leased") ? "being trained" : "to be trained first");
    if (isnan(at)) printf(", %s tokens", fmt_short(all, out_num(s, "of")));
    else printf(", %s of %s tokens", fmt_short(buf, at), fmt_short(all, out_num(s, "of")));
    if (!isnan(out_num(s, "loss"))) printf(", loss of the largest %.3f", out_num(s, "loss"));
    putchar('\n');
}

static void print_filter(json_t *info)
{
    json_t *f = json_object_get(info, "filter"), *since = json_object_get(f, "since"), *trials = json_object_get(info, "trials");
    bool on = json_is_true(json_object_get(f, "on"));
    if (!f) return;
    field("filter");
    if (!since) printf("off: candidates are trained without being scored first");
    else printf("%s since proposal %lld%s", on ? "on" : "off", (long long)json_integer_value(since), on ? ": of four scored candidates one is trained" : "");
    if (out_int(f, "results") < out_int(f, "least")) {
        printf("; too little to judge by (%lld of %lld results)\n", (long long)out_int(f, "results"), (long long)out_int(f, "least"));
    } else if (json_object_size(json_object_get(f, "weights")) < 2) {
        printf("; fewer than two proxies are relied on, so that there is nothing to combine\n");
    } else {
        printf("; rho within the better half: combined %.2f", out_num(f, "combined"));
        if (*out_str(f, "best")) printf(", %s alone %.2f", out_str(f, "best"), out_num(f, "single"));
        putchar('\n');
    }
    if (!out_int(trials, "scored") && !out_int(trials, "passed")) return;
    field("");
    printf("%lld scored, to be decided on; %lld passed over\n", (long long)out_int(trials, "scored"), (long long)out_int(trials, "passed"));
}

static void print_best(json_t *info)
{
    json_t *best = json_object_get(info, "best"), *v;
    const char *name;
    char buf[FMT_MAX];
    json_object_foreach(best, name, v)
    {
        field("best");
        printf("%s %s%s%s (trial %lld)\n", name, term_style(TERM_BOLD), fmt_metric_whole(buf, name, out_num(v, "value")), term_style(TERM_PLAIN),
               (long long)out_int(v, "trial"));
    }
}

static void print_running(json_t *info)
{
    json_t *r;
    size_t i;
    char buf[FMT_MAX];
    json_array_foreach(json_object_get(info, "running"), i, r)
    {
        field("now");
        if (out_int(r, "trial")) printf("trial %lld", (long long)out_int(r, "trial"));
        else printf("the supernet");
        printf(" on %s, %s", out_str(r, "name"), fmt_duration(buf, out_num(r, "seconds")));
        if (!isnan(out_num(r, "tokens"))) printf(", %s tokens", fmt_short(buf, out_num(r, "tokens")));
        if (!isnan(out_num(r, "loss"))) printf(", loss %.3f", out_num(r, "loss"));
        printf("%s\n", json_is_false(json_object_get(r, "connected")) ? ", not connected" : "");
    }
}

/* How many measurements the latency model has saved, and how wrong it was on those that were made all the same. */
static void print_models(json_t *models)
{
    json_t *m;
    size_t i;
    json_array_foreach(models, i, m)
    {
        long long saved = (long long)out_int(m, "saved"), checked = (long long)out_int(m, "checked");
        field("model");
        printf("%s: ", out_str(m, "metric"));
        if (isnan(out_num(m, "error"))) printf("not fitted yet");
        else if (json_is_true(json_object_get(m, "relied"))) printf("relied on");
        else printf("%snot relied on%s", term_style(TERM_RED), term_style(TERM_PLAIN));
        printf(", %lld measured", (long long)out_int(m, "measured"));
        if (!isnan(out_num(m, "error"))) printf(" (mean error %.1f %% of those left out in turn)", 100 * out_num(m, "error"));
        printf(", %lld measurement%s saved", saved, saved == 1 ? "" : "s");
        if (checked)
            printf("; %lld checked: mean error %.1f %%, worst %.1f %%, %lld within the interval", checked, 100 * out_num(m, "mape"), 100 * out_num(m, "worst"),
                   (long long)out_int(m, "held"));
        putchar('\n');
    }
}

static int run(struct cli *c)
{
    struct conn k;
    json_t *info = NULL;
    int rc = conn_open(&k, c, false);
    if (!rc) rc = conn_job(&k, c->arg[0], &info);
    if (!rc && c->json) {
        rc = out_json(info);
    } else if (!rc) {
        char ago[FMT_MAX];
        printf("%sjob %lld '%s'%s %s%s%s, submitted %s\n", term_style(TERM_BOLD), (long long)out_int(info, "id"), out_str(info, "name"), term_style(TERM_PLAIN),
               out_str(info, "state"), *out_str(info, "reason") ? ": " : "", out_str(info, "reason"), fmt_ago(ago, out_int(info, "submitted_ms")));
        if (json_object_get(info, "trials")) {
            print_progress(info);
            print_search(info);
            print_supernet(info);
            print_best(info);
            audit_print(info, field);
            print_models(json_object_get(info, "models"));
            print_filter(info);
        }
        print_running(info);
        if (out_int(json_object_get(info, "trials"), "failed")) {
            long failed, same;
            char *error = result_common_error(&k, out_int(info, "id"), &failed, &same);
            if (error) {
                field("failed");
                printf("%ld of %ld with: %s\n", same, failed, error);
            }
            free(error);
        }
    }
    json_decref(info);
    conn_close(&k);
    return rc;
}

const struct cli_cmd cmd_status = {
    .name = "status", .args = "JOB", .summary = "one job: state, progress, rates, best values, what runs now", .help = "", .min_args = 1, .max_args = 1, .run = run};
