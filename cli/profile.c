/* taut profile: how fast an architecture is on this machine, and how sure that is. */
#include "config.h"

#include <math.h>
#include <string.h>

#include "base/clock.h"
#include "cli/archarg.h"
#include "cli/cli.h"
#include "cli/format.h"
#include "cli/interrupt.h"
#include "cli/out.h"
#include "cli/progress.h"
#include "cli/table.h"
#include "cli/term.h"
#include "evaluator/fingerprint.h"
#include "evaluator/hostlock.h"
#include "evaluator/profiler.h"

#define LIST_MAX 16
#define METRICS_MAX (LIST_MAX * (3 + LIST_MAX))

static const struct cli_opt options[] = {
    {"context", 'c', "L,…", "contexts to measure at (default: 128,1024,4096)", false},
    {"batch", 'b', "B,…", "sequences decoded at once, for throughput (default: 8)", false},
    {"limit", 'l', "S", "seconds to measure a metric, and as many at most before to warm up; then it stands as not converged (default: 3)", false},
    {"threads", 't', "N", "to compute with (default: all CPUs of this process)", false},
    {"device", 0, "NAME", "cpu (default), cuda:N", false},
    {"weights", 'w', "KIND", "how they are kept in memory: f32 (default), bf16, int8 (as a job's decode_precision)", false},
    {0},
};

struct profile {
    struct cli *c;
    struct arch arch;
    struct kn_dev *dev;
    struct hostlock *lock;
    struct metric want[METRICS_MAX];
    struct measured got[METRICS_MAX]; /* of want[i] … */
    char why[METRICS_MAX][200];       /* … or why there is none */
    int n, at;                        /* how many; the one in hand */
    double limit_s;
    enum arch_weights weights;
    uint64_t since_ns;                /* start of the metric in hand */
};

/* At the longest context that there is nothing comes after it: what decodes one token more is left out there, and that is said. */
static void add(struct profile *p, const char *fmt, long long b, long long l)
{
    char name[METRIC_NAME_MAX];
    struct base_err err = BASE_ERR_INIT;
    if (b) snprintf(name, sizeof name, "throughput@%lldx%lld", b, l);
    else snprintf(name, sizeof name, fmt, l);
    if (!space_metric_parse(&p->want[p->n], name, false, "", &err)) p->n++;
    else cli_note(p->c, "%s is left out: %s", name, err.what);
}

static int read_options(struct profile *p)
{
    int64_t context[LIST_MAX], batch[LIST_MAX];
    int nc = cli_int_list(p->c, "context", "128,1024,4096", 1, context, LIST_MAX), nb = cli_int_list(p->c, "batch", "8", 1, batch, LIST_MAX);
    p->limit_s = cli_num(p->c, "limit", PROFILE_LIMIT_S, 0.001, 86400);
    cli_int(p->c, "threads", 0, 1, 1024);
    if (p->c->bad) return p->c->bad;
    if (space_weights_find(cli_str(p->c, "weights", "f32"), &p->weights))
        return cli_fail(CLI_CALL, "profile", NULL, "--weights: f32, bf16 or int8, not '%s'", cli_str(p->c, "weights", ""));
    int rc = archarg_contexts(p->c, context, nc);
    if (rc) return rc;
    for (int i = 0; i < nb; i++)
        if (batch[i] > 65536) return cli_fail(CLI_CALL, "profile", NULL, "--batch: %lld is over 65536", (long long)batch[i]);
    for (int i = 0; i < nc; i++) {
        add(p, "prefill_ms@%lld", 0, context[i]);
        add(p, "decode_ms@%lld", 0, context[i]);
        for (int k = 0; k < nb; k++) add(p, "", batch[k], context[i]);
        add(p, "infer_bytes@%lld", 0, context[i]);
    }
    return CLI_OK;
}

static bool go(void *ctx)
{
    struct profile *p = ctx;
    double s = (double)(base_clock_ns() - p->since_ns) * 1e-9, most = 2 * p->limit_s;
    progress_draw(p->c, ((double)p->at + fmin(s / most, 1)) / p->n, "%s   %d of %d   about %.0f s more at most", p->want[p->at].name, p->at + 1, p->n,
                  (p->n - p->at) * most - fmin(s, most));
    return !interrupted;
}

static bool wait_on(void *ctx)
{
    struct profile *p = ctx;
    progress_draw(p->c, NAN, "waiting for other work of Taut's on this machine to pause");
    return !interrupted;
}

static int stopped(const struct profile *p)
{
    progress_clear(p->c);
    cli_note(p->c, "stopped");
    return interrupt_status();
}

/* One metric at a time: what does not fit in memory at one context leaves the others standing. */
static int measure(struct profile *p)
{
    struct profile_opts o = {.limit_s = p->limit_s, .go = go, .ctx = p, .weights = p->weights};
    for (p->at = 0; p->at < p->n; p->at++) {
        struct base_err err = BASE_ERR_INIT;
        p->since_ns = base_clock_ns();
        go(p);
        st_t st = interrupted ? ST_ECANCELED : profile_run(&p->arch, p->dev, NULL, &p->want[p->at], 1, &o, &p->got[p->at], &err);
        if (st == ST_ECANCELED) return stopped(p);
        if (st) snprintf(p->why[p->at], sizeof p->why[0], "%.190s", *err.what ? err.what : base_status_text(st));
    }
    progress_clear(p->c);
    return CLI_OK;
}

/* ---- printing ---- */

static int print_json(const struct profile *p)
{
    struct arch anchor;
    char id[BASE_ID_HEX], anchor_id[BASE_ID_HEX];
    space_arch_id(&p->arch, id);
    profile_anchor_arch(&anchor);
    space_arch_id(&anchor, anchor_id);
    json_t *metrics = json_object();
    for (int i = 0; i < p->n; i++) {
        const struct measured *m = &p->got[i];
        json_t *v;
        if (*p->why[i]) {
            v = json_pack("{s:s}", "unavailable", p->why[i]);
        } else {
            v = json_pack("{s:f, s:f, s:f, s:i, s:b, s:i, s:f}", "median", m->median, "low", m->low, "high", m->high, "n", m->n, "converged", m->converged, "rejected",
                          m->rejected, "disturbed", m->disturbed);
            if (m->overlong) json_object_set_new(v, "overlong", json_true());
            if (!isnan(m->ratio)) json_object_update_new(v, json_pack("{s:f, s:f, s:f}", "ratio", m->ratio, "ratio_low", m->ratio_low, "ratio_high", m->ratio_high));
        }
        json_object_set_new(metrics, p->want[i].name, v);
    }
    json_t *o = json_pack("{s:s, s:o, s:s, s:o}", "arch_id", id, "device", fingerprint_json(p->dev), "anchor", anchor_id, "metrics", metrics);
    int rc = out_json(o);
    json_decref(o);
    return rc;
}

static void print_row(const struct profile *p, int i, struct table *t)
{
    const struct measured *m = &p->got[i];
    const char *name = p->want[i].name, *unit = fmt_metric_unit(name);
    char a[FMT_MAX], b[FMT_MAX];
    table_row(t);
    table_cell(t, "%s", name);
    if (*p->why[i]) {
        for (int k = 0; k < 4; k++) table_cell(t, "%s", term_signs()->dash);
        table_cell(t, "%s", p->why[i]);
        return;
    }
    bool bytes = !strcmp(unit, "B");
    table_cell(t, "%s%s%s", fmt_metric(a, name, m->median), bytes ? "" : " ", bytes ? "" : unit);
    if (m->n > 1) table_cell(t, "%s to %s", fmt_metric(a, name, m->low), fmt_metric(b, name, m->high));
    else table_cell(t, "%s", "");
    if (m->n > 1) table_cell(t, "%d", m->n);
    else table_cell(t, "%s", "");
    if (!isnan(m->ratio)) table_cell(t, "%s", fmt_number(a, m->ratio));
    else table_cell(t, "%s", "");
    struct base_buf note = BASE_BUF_INIT;
    if (m->overlong) base_buf_str(&note, "not converged: one call takes longer than --limit");
    else if (!m->converged) base_buf_str(&note, "not converged");
    if (m->rejected) base_buf_printf(&note, "%s%d rejected", note.len ? ", " : "", m->rejected);
    if (m->disturbed > 0) base_buf_printf(&note, "%s%.0f %% disturbed", note.len ? ", " : "", 100 * m->disturbed);
    table_cell(t, "%s", note.p ? note.p : "");
    base_buf_fini(&note);
}

static void print(const struct profile *p)
{
    struct table t = TABLE_INIT;
    struct base_buf b = BASE_BUF_INIT;
    const struct kn_info *d = &p->dev->info;
    out_arch(&p->arch, &b);
    printf("%s\non %s (%s), %d thread%s\n\n", b.p ? b.p : "", d->name, d->isa, d->threads, d->threads == 1 ? "" : "s");
    base_buf_fini(&b);
    t.indent = 2;
    table_column(&t, "metric", TABLE_LEFT);
    table_column(&t, "median", TABLE_RIGHT);
    table_column(&t, "95 % interval", TABLE_RIGHT);
    table_column(&t, "n", TABLE_RIGHT);
    table_column(&t, "to the anchor", TABLE_RIGHT);
    table_column(&t, "", TABLE_CUT);
    for (int i = 0; i < p->n; i++) print_row(p, i, &t);
    table_print(&t, stdout);
    table_fini(&t);
}

/* All of it; the first metric that could not be measured is the error. */
static int print_all(const struct profile *p)
{
    int rc = CLI_OK;
    if (p->c->json) rc = print_json(p);
    else print(p);
    for (int i = 0; !rc && i < p->n; i++)
        if (*p->why[i]) rc = cli_fail(CLI_FAILED, p->want[i].name, NULL, "%s", p->why[i]);
    return rc;
}

static int work(struct profile *p)
{
    interrupt_catch();
    hostlock_on_wait(p->lock, wait_on, p);
    st_t st = hostlock_exclusive(p->lock);
    if (st == ST_ECANCELED) return stopped(p);
    if (st) return cli_fail(CLI_FAILED, "profile", NULL, "this machine's lock cannot be taken");
    int rc = measure(p);
    hostlock_unlock(p->lock);
    interrupt_hold_stop(false);
    return rc ? rc : print_all(p);
}

static int run(struct cli *c)
{
    static struct profile p;
    struct base_err err = BASE_ERR_INIT;
    const char *device = cli_str(c, "device", "cpu");
    p = (struct profile){.c = c};
    int rc = read_options(&p);
    if (!rc) rc = archarg_read(c, c->arg[0], &p.arch, NULL);
    if (rc) return rc;
    interrupt_hold_stop(true);
    st_t st = kn_dev_open(&p.dev, device, (int)cli_int(c, "threads", 0, 1, 1024), &err);
    if (st) return cli_fail_err(st == ST_ENOMEM ? CLI_FAILED : CLI_CALL, "profile", "give --device cpu", &err);
    if (hostlock_open_for(&p.lock, p.dev, &err)) rc = cli_fail_err(CLI_FAILED, "profile", "without it other work would spoil the times", &err);
    else rc = work(&p);
    hostlock_close(p.lock);
    kn_dev_close(p.dev);
    return rc;
}

const struct cli_cmd cmd_profile = {.name = "profile",
                                    .args = "ARCH",
                                    .summary = "how fast an architecture is on this machine, with intervals",
                                    .help = "  taut profile arch.json\n"
                                            "  taut profile arch.json --context 1024 --batch 1,16 --threads 1\n"
                                            "  taut profile 17 --dir search          trial 17 of that store\n"
                                            "Weights are random and caches are filled with made-up numbers: times do not depend on them. Each sample is followed by one of a fixed\n"
                                            "small network, the anchor; 'to the anchor' is the ratio, which outlasts changes of the machine's clock. A sample is dropped only for an\n"
                                            "outside cause (CPU time stolen, an involuntary switch), never for its value. Measured until the 95 % interval of the median is within\n"
                                            "2 %, over 30 samples at least, or until --limit. No call is cut: one that takes longer than --limit is made twice and timed once.\n"
                                            "Evaluators on this machine pause meanwhile.\n",
                                    .options = options,
                                    .min_args = 1,
                                    .max_args = 1,
                                    .run = run};
