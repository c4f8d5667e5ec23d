/* What the audit found: each shortcut against the results. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "controller/audit.h"
#include "controller/proposer.h"

struct sample {
    const struct job *job;
    const struct archive *a;
    long n, *row;     /* [n] */
    double *truth;    /* [n] minimised */
    bool *tenth;      /* [n] */
    double *params;   /* [n] minus the number of parameters; NaN: unknown */
    struct { long sub, super; } *pair; /* [pairs] of places in the sample */
    long pairs;
};

static void sample_fini(struct sample *s)
{
    free(s->row);
    free(s->truth);
    free(s->tenth);
    free(s->params);
    free(s->pair);
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Where the best tenth of all results on that rung ends. NaN: out of memory. */
static double tenth_of(const struct archive *a, int col, double sign, int rung)
{
    double *v = malloc(((size_t)archive_rung_count(a, rung) + 1) * sizeof *v), cut = NAN;
    long n = 0;
    for (long row = 0; row < archive_count(a) && v; row++) {
        if (!archive_has(a, row, rung)) continue;
        v[n] = sign * archive_value(a, col, row, rung);
        n += isfinite(v[n]) != 0;
    }
    if (v && n) {
        qsort(v, (size_t)n, sizeof *v, by_value);
        cut = v[(n + 9) / 10 - 1];
    }
    free(v);
    return cut;
}

static st_t find_pairs(struct sample *s)
{
    struct candidate c;
    struct genome g;
    struct arch *arch = calloc((size_t)s->n + 1, sizeof *arch);
    st_t st = arch ? space_genome_init(s->job->space, &g) : ST_ENOMEM;
    if (st) {
        free(arch);
        return st;
    }
    for (long i = 0; i < s->n && !st; i++) {
        st = archive_genome(s->a, s->row[i], &g);
        if (!st) st = space_candidate(s->job->space, &g, &c, NULL);
        if (st) break;
        arch[i] = c.arch;
        space_candidate_fini(&c);
    }
    for (long i = 0, cap = 0; i < s->n && !st; i++)
        for (long k = 0; k < s->n && !st; k++) {
            if (!space_arch_nested(&arch[i], &arch[k])) continue;
            if (s->pairs == cap) {
                cap = cap ? 2 * cap : 256;
                void *p = realloc(s->pair, (size_t)cap * sizeof *s->pair);
                if (!p) st = ST_ENOMEM;
                else s->pair = p;
            }
            if (!st) s->pair[s->pairs].sub = i, s->pair[s->pairs++].super = k;
        }
    space_genome_fini(&g);
    free(arch);
    return st;
}

static st_t sample_init(struct sample *s, const struct job *job, const struct archive *a, const struct job_objective *target, bool whole)
{
    long drawn = job->rungs > 1 ? archive_audited(a) : archive_count(a);
    int col = archive_metric(a, target->metric.name), params = archive_metric(a, "params"), top = job->rungs - 1;
    double sign = target->goal == METRIC_MAX ? -1 : 1;
    size_t room = AUDIT_SAMPLE;
    *s = (struct sample){.job = job, .a = a, .row = malloc(room * sizeof *s->row), .truth = malloc(room * sizeof *s->truth), .tenth = malloc(room * sizeof *s->tenth),
                         .params = malloc(room * sizeof *s->params)};
    if (!s->row || !s->truth || !s->tenth || !s->params) return ST_ENOMEM;
    if (col < 0) return ST_OK;
    double cut = whole ? tenth_of(a, col, sign, 0) : -INFINITY;
    for (long i = drawn - 1; i >= 0 && s->n < AUDIT_SAMPLE; i--) {
        long row = job->rungs > 1 ? archive_audited_row(a, i) : i;
        double v = archive_has(a, row, top) ? sign * archive_value(a, col, row, top) : NAN;
        if (!isfinite(v)) continue;
        s->row[s->n] = row;
        s->truth[s->n] = v;
        s->tenth[s->n] = sign * archive_value(a, col, row, 0) <= cut;
        s->params[s->n++] = params < 0 ? NAN : -archive_value(a, params, row, top);
    }
    return whole && space_type(job->space) == SPACE_LM ? find_pairs(s) : ST_OK;
}

/* said[n] by place in the sample, less is better; NaN: nothing. */
static st_t judge_column(struct audit_column *c, const struct sample *s, const double *said, bool whole)
{
    size_t room = (size_t)s->n + 1;
    double *x = malloc(5 * room * sizeof *x);
    if (!x) return ST_ENOMEM;
    double *predicted = x, *truth = x + room, *size = x + 2 * room, *best = x + 3 * room, *best_truth = x + 4 * room;
    struct base_stats_value v[BASE_STATS_KINDS], t[BASE_STATS_KINDS];
    uint64_t seed = s->job->seed;
    int n = 0, m = 0;
    bool sized = true;
    for (long i = 0; i < s->n; i++) {
        if (isnan(said[i])) continue;
        predicted[n] = said[i];
        truth[n] = s->truth[i];
        sized &= !isnan(s->params[i]);
        size[n++] = s->params[i];
        if (!s->tenth[i]) continue;
        best[m] = said[i];
        best_truth[m++] = s->truth[i];
    }
    int draws = n <= 50 ? AUDIT_RESAMPLES : 50 * AUDIT_RESAMPLES / n;
    const double *other = sized ? size : NULL;
    st_t st = base_stats_compare(predicted, truth, other, n, whole ? draws : 0, seed, v);
    double better = v[BASE_STATS_BETTER].value;
    bool decides = c->relied ? n < AUDIT_POINT && better < 0 : better > 0; /* its interval */
    if (!st && !whole && n >= JOB_AUDIT_LEAST && decides) st = base_stats_compare(predicted, truth, other, n, draws, seed, v);
    if (!st) st = base_stats_compare(best, best_truth, NULL, whole && m >= AUDIT_TENTH_LEAST ? m : 0, draws, seed, t);
    c->all.n = n;
    c->tenth.n = m;
    if (!st) {
        c->better = v[BASE_STATS_BETTER];
        c->all.rho = v[BASE_STATS_RHO], c->all.tau = v[BASE_STATS_TAU], c->regret = v[BASE_STATS_REGRET];
        c->tenth.rho = t[BASE_STATS_RHO], c->tenth.tau = t[BASE_STATS_TAU];
    }
    for (long i = 0; i < s->pairs; i++) {
        double sub = said[s->pair[i].sub], super = said[s->pair[i].super];
        c->nested += !isnan(sub) && !isnan(super);
        c->violations += sub < super;
    }
    free(x);
    return st;
}

static double largest(const struct sample *s, long i)
{
    double y[JOB_OBJECTIVES_MAX], violation;
    proposer_values(s->job, s->a, s->row[i], 0, y, &violation);
    return violation > 0 ? 0 : s->params[i];
}

st_t audit_table(struct audit *out, const struct job *job, const struct archive *a, bool whole)
{
    struct sample s;
    *out = (struct audit){.target = audit_target(job), .drawn = archive_audited(a)};
    if (!out->target) return ST_OK;
    int col = archive_metric(a, out->target->metric.name), params = archive_metric(a, "params"), max = job->rungs - 1 + archive_metrics(a) + 2;
    double sign = out->target->goal == METRIC_MAX ? -1 : 1, *said = malloc(AUDIT_SAMPLE * sizeof *said);
    out->column = calloc((size_t)max, sizeof *out->column);
    st_t st = sample_init(&s, job, a, out->target, whole);
    if (!said || !out->column) st = ST_ENOMEM;
    out->n = s.n;
    for (long i = 0; i < s.n; i++) out->tenth += s.tenth[i];
    out->nested = s.pairs;
    for (long i = 0; i < s.pairs; i++) out->violations += s.truth[s.pair[i].sub] < s.truth[s.pair[i].super];
    for (int k = 0; k < max && !st; k++) {
        struct audit_column *c = &out->column[out->columns];
        int low = k < job->rungs - 1 ? k : -1, metric = k - (job->rungs - 1), reference = metric - archive_metrics(a);
        const char *name = low < 0 && reference < 0 ? archive_metric_name(a, metric) : "";
        if ((low < 0 && reference < 0 && !audit_is_shortcut(name)) || (reference >= 0 && (params < 0 || !whole))) continue;
        c->shortcut = reference < 0;
        if (low >= 0) snprintf(c->name, sizeof c->name, "rung %d", low);
        else snprintf(c->name, sizeof c->name, "%s", reference < 0 ? name : reference ? "largest" : "params");
        c->relied = archive_relied(a, c->name);
        for (long i = 0; i < s.n; i++) {
            said[i] = low >= 0 ? (archive_has(a, s.row[i], low) ? sign * archive_value(a, col, s.row[i], low) : NAN)
                      : reference < 0 ? -archive_value(a, metric, s.row[i], 0)
                      : reference ? largest(&s, i) : s.params[i];
        }
        st = judge_column(c, &s, said, whole);
        out->columns++;
    }
    free(said);
    sample_fini(&s);
    if (st) audit_fini(out);
    return st;
}

void audit_fini(struct audit *t)
{
    free(t->column);
    *t = (struct audit){.n = 0};
}

bool audit_judge(const struct audit_column *c)
{
    if (!c->shortcut || c->all.n < JOB_AUDIT_LEAST) return c->relied;
    if (!c->relied) return c->better.low > 0;
    return !(c->better.high < 0) && (c->all.n < AUDIT_POINT || c->better.value > 0);
}

bool audit_judged(const struct audit_column *c)
{
    return c->all.n >= JOB_AUDIT_LEAST && (c->all.n >= AUDIT_POINT || c->better.low > 0 || c->better.high < 0);
}
