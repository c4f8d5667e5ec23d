#include "controller/filter.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/stats.h"
#include "controller/audit.h"
#include "controller/ridge.h"

struct sample {
    long n, *row;      /* [n], the newest first */
    double *truth;     /* [n] minimised */
    bool *better;      /* [n] of the better half */
};

bool filter_possible(const struct job *job)
{
    return space_type(job->space) == SPACE_LM && job->nproxies >= 2 && !job->external && !job->problem && audit_target(job);
}

bool filter_due(const struct job *job, const struct archive *a)
{
    long n = 0;
    if (!filter_possible(job)) return false;
    if (job->rungs == 1) n = archive_rung_count(a, 0);
    for (long i = 0; i < archive_audited(a) && job->rungs > 1; i++) n += archive_has(a, archive_audited_row(a, i), job->rungs - 1);
    return n >= FILTER_LEAST && n % (n / 8) == 0;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void sample_fini(struct sample *s)
{
    free(s->row);
    free(s->truth);
    free(s->better);
}

static st_t sample_init(struct sample *s, const struct job *job, const struct archive *a)
{
    const struct job_objective *target = audit_target(job);
    int col = archive_metric(a, target->metric.name), top = job->rungs - 1;
    double sign = target->goal == METRIC_MAX ? -1 : 1, *sorted = malloc(AUDIT_SAMPLE * sizeof *sorted);
    *s = (struct sample){.row = malloc(AUDIT_SAMPLE * sizeof *s->row), .truth = malloc(AUDIT_SAMPLE * sizeof *s->truth), .better = malloc(AUDIT_SAMPLE * sizeof *s->better)};
    st_t st = sorted && s->row && s->truth && s->better ? ST_OK : ST_ENOMEM;
    for (long i = (top ? archive_audited(a) : archive_count(a)) - 1; !st && col >= 0 && i >= 0 && s->n < AUDIT_SAMPLE; i--) {
        long row = top ? archive_audited_row(a, i) : i;
        double v = archive_has(a, row, top) ? sign * archive_value(a, col, row, top) : NAN;
        if (!isfinite(v)) continue;
        s->row[s->n] = row;
        sorted[s->n] = s->truth[s->n] = v;
        s->n++;
    }
    if (!st && s->n) {
        qsort(sorted, (size_t)s->n, sizeof *sorted, by_value);
        for (long i = 0; i < s->n; i++) s->better[i] = s->truth[i] <= sorted[(s->n + 1) / 2 - 1];
    }
    free(sorted);
    return st;
}

/* Share of sorted [n] below v, ties counted half, less a half. */
static double rank(const double *sorted, long n, double v)
{
    long below = 0, same = 0;
    if (!isfinite(v) || !n) return 0;
    for (long i = 0; i < n; i++) {
        below += sorted[i] < v;
        same += sorted[i] == v;
    }
    return ((double)below + 0.5 * (double)same) / (double)n - 0.5;
}

/* Of what is predicted, less is better, with the results, within the better half. */
static double agreement(const struct sample *s, const double *predicted)
{
    double x[AUDIT_SAMPLE], y[AUDIT_SAMPLE];
    int n = 0;
    for (long i = 0; i < s->n; i++) {
        if (!s->better[i] || !isfinite(predicted[i])) continue;
        x[n] = predicted[i];
        y[n++] = s->truth[i];
    }
    return n >= FILTER_LEAST / 2 - 1 ? base_stats_spearman(x, y, n) : NAN;
}

static st_t add_proxy(struct filter *f, const struct sample *s, const struct archive *a, int column)
{
    const char *name = archive_metric_name(a, column);
    double said[AUDIT_SAMPLE];
    struct filter_proxy p = {.column = column, .sorted = malloc(((size_t)s->n + 1) * sizeof *p.sorted)};
    if (!p.sorted) return ST_ENOMEM;
    snprintf(p.name, sizeof p.name, "%s", name);
    for (long i = 0; i < s->n; i++) {
        said[i] = -archive_value(a, column, s->row[i], 0);
        if (isfinite(said[i])) p.sorted[p.count++] = -said[i];
    }
    double alone = agreement(s, said);
    if (!isnan(alone) && (isnan(f->single) || alone > f->single)) {
        f->single = alone;
        snprintf(f->best, sizeof f->best, "%s", name);
    }
    qsort(p.sorted, (size_t)p.count, sizeof *p.sorted, by_value);
    bool says = 2 * p.count >= s->n && p.count && p.sorted[0] < p.sorted[p.count - 1];
    if (says && f->proxies < JOB_PROXIES_MAX && (archive_relied(a, name) || !strcmp(name, "proxy.params"))) f->proxy[f->proxies++] = p;
    else free(p.sorted);
    return ST_OK;
}

static void features(const struct filter *f, const struct archive *a, long row, double *x)
{
    for (int k = 0; k < f->proxies; k++) x[k] = rank(f->proxy[k].sorted, f->proxy[k].count, archive_value(a, f->proxy[k].column, row, 0));
}

static st_t combine(struct filter *f, const struct sample *s, const struct archive *a)
{
    struct sparse rows = {0};
    struct ridge *r = NULL;
    int judged[AUDIT_SAMPLE];
    double x[JOB_PROXIES_MAX], w[JOB_PROXIES_MAX], y[AUDIT_SAMPLE], sorted[AUDIT_SAMPLE];
    st_t st = ST_OK;
    memcpy(sorted, s->truth, (size_t)s->n * sizeof *sorted);
    qsort(sorted, (size_t)s->n, sizeof *sorted, by_value);
    for (long i = 0; i < s->n && !st; i++) {
        judged[i] = (int)i;
        y[i] = rank(sorted, s->n, s->truth[i]);
        features(f, a, s->row[i], x);
        st = sparse_add(&rows, x, f->proxies);
    }
    if (st) {
        sparse_fini(&rows);
        return st;
    }
    st = ridge_new(&r, &rows, y, 1, judged, (int)s->n);
    if (!st) {
        ridge_weights(r, 0, w);
        for (int k = 0; k < f->proxies; k++) f->proxy[k].weight = w[k];
        f->combined = agreement(s, ridge_leave_one_out(r, 0));
    }
    ridge_free(r);
    return st;
}

st_t filter_fit(struct filter *out, const struct job *job, const struct archive *a)
{
    struct sample s;
    *out = (struct filter){.combined = NAN, .single = NAN};
    st_t st = sample_init(&s, job, a);
    out->n = s.n;
    for (int c = 0; c < archive_metrics(a) && !st; c++)
        if (audit_is_shortcut(archive_metric_name(a, c))) st = add_proxy(out, &s, a, c);
    if (!st && s.n >= FILTER_LEAST && out->proxies >= 2) st = combine(out, &s, a);
    out->on = !st && out->combined > 0 && !(out->combined <= out->single);
    sample_fini(&s);
    if (st) filter_fini(out);
    return st;
}

void filter_fini(struct filter *f)
{
    for (int k = 0; k < f->proxies; k++) free(f->proxy[k].sorted);
    *f = (struct filter){.n = 0};
}

double filter_predict(const struct filter *f, const struct archive *a, long row)
{
    double x[JOB_PROXIES_MAX], sum = 0;
    features(f, a, row, x);
    for (int k = 0; k < f->proxies; k++) sum += f->proxy[k].weight * x[k];
    return sum;
}

long filter_choose(const struct filter *f, const struct archive *a, const long *rows, long n)
{
    long best = 0;
    double least = INFINITY;
    for (long i = 0; i < n; i++) {
        double v = filter_predict(f, a, rows[i]);
        if (v >= least) continue;
        least = v;
        best = i;
    }
    return best;
}
