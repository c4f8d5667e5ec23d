#include "controller/estimate.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct model {
    const struct metric *metric; /* of the job */
    struct latency *fit;         /* NULL: none yet */
    long of;                     /* measurements that it was fitted to the first of */
    long measured, looked;       /* of the first `looked` reports */
};

struct estimator {
    const struct job *job;
    const struct archive *archive;
    struct model model[ESTIMATE_METRICS];
    int n;
    struct genome genome; /* scratch */
    double *x;            /* [columns] scratch */
};

int estimate_metrics(const struct job *job, const struct metric **out)
{
    int n = 0;
    if (space_type(job->space) != SPACE_LM || job->problem) return 0;
    for (int i = 0; i < job->nobjectives + job->nconstraints; i++) {
        const struct metric *m = i < job->nobjectives ? &job->objective[i].metric : &job->constraint[i - job->nobjectives].metric;
        bool known = !latency_models(m);
        for (int k = 0; k < n; k++) known |= !strcmp(out[k]->name, m->name);
        if (!known) out[n++] = m;
    }
    return n;
}

const char *estimate_name(const struct metric *m, char out[METRIC_NAME_MAX + 8])
{
    snprintf(out, METRIC_NAME_MAX + 8, "model.%s", m->name);
    return out;
}

/* -1: there was no verdict; else from which proposal on the last one holds. */
static long verdict(const struct archive *a, const struct metric *m, bool *relied)
{
    char name[METRIC_NAME_MAX + 8];
    int n;
    const struct archive_verdict *v = archive_verdicts(a, &n);
    estimate_name(m, name);
    *relied = false;
    for (int i = 0; i < n; i++) {
        if (strcmp(v[i].shortcut, name)) continue;
        *relied = v[i].relied;
        return v[i].from;
    }
    return -1;
}

bool estimate_relied(const struct archive *a, const struct metric *m)
{
    bool relied;
    verdict(a, m, &relied);
    return relied;
}

st_t estimator_new(struct estimator **out, const struct job *job, const struct archive *a)
{
    const struct metric *m[ESTIMATE_METRICS];
    struct estimator *e = calloc(1, sizeof *e);
    if (!e) return ST_ENOMEM;
    e->job = job;
    e->archive = a;
    e->n = estimate_metrics(job, m);
    for (int i = 0; i < e->n; i++) e->model[i].metric = m[i];
    e->x = malloc((size_t)latency_columns() * sizeof *e->x);
    if (!e->x || space_genome_init(job->space, &e->genome)) {
        estimator_free(e);
        return ST_ENOMEM;
    }
    *out = e;
    return ST_OK;
}

void estimator_free(struct estimator *e)
{
    if (!e) return;
    for (int i = 0; i < e->n; i++) latency_free(e->model[i].fit);
    space_genome_fini(&e->genome);
    free(e->x);
    free(e);
}

/* ---- models ---- */

static bool is_rate(const struct metric *m)
{
    return !strncmp(m->name, "throughput@", 11);
}

/* A rate (tokens/s) as the ms of a step of its batch; a time as it is. Its own inverse. */
static double as_time(const struct metric *m, double v)
{
    return is_rate(m) ? 1000 * (double)m->batch / v : v;
}

static bool estimated_on(const struct archive *a, int col, long row, int rung)
{
    if (archive_rung(a, row) == 0) return archive_estimated(a, col, row);
    for (long i = archive_estimates(a) - 1; i >= 0; i--) {
        const struct archive_estimate *s = archive_estimate_at(a, i);
        if (s->row == row && s->col == col && s->rung == rung) return s->saved;
    }
    return false;
}

/* Did this report bring a measurement, the trial's first? */
static bool measured_by(const struct archive *a, int col, long report)
{
    long row = archive_reported_row(a, report);
    int rung = archive_reported_rung(a, report);
    if (!archive_has(a, row, rung) || !(archive_value(a, col, row, rung) > 0) || estimated_on(a, col, row, rung)) return false;
    return rung == 0 || estimated_on(a, col, row, rung - 1);
}

static bool features(struct estimator *e, long row, const struct metric *m, double *x)
{
    struct candidate c;
    if (archive_genome(e->archive, row, &e->genome) || space_candidate(e->job->space, &e->genome, &c, NULL)) return false;
    latency_features(&c.arch, m, e->job->decode, x);
    space_candidate_fini(&c);
    return true;
}

/* Fits to the first `of` measurements. */
static st_t fit(struct estimator *e, struct model *m, int col, long of)
{
    size_t p = (size_t)latency_columns();
    double *x = malloc(LATENCY_MOST * (p + 1) * sizeof *x), *y = x + LATENCY_MOST * p;
    struct latency *l = NULL;
    long seen = 0;
    int n = 0;
    st_t st = x ? ST_OK : ST_ENOMEM;
    for (long i = 0; i < m->looked && seen < of && !st; i++) {
        if (!measured_by(e->archive, col, i) || ++seen <= of - LATENCY_MOST) continue;
        long row = archive_reported_row(e->archive, i);
        if (!features(e, row, m->metric, x + (size_t)n * p)) continue;
        y[n++] = as_time(m->metric, archive_value(e->archive, col, row, archive_reported_rung(e->archive, i)));
    }
    if (!st && n >= LATENCY_LEAST) st = latency_new(&l, x, y, n);
    free(x);
    if (st == ST_ENOMEM) return st;
    latency_free(m->fit);
    m->fit = l;
    m->of = of;
    return ST_OK;
}

static long step(long k)
{
    return k / 8 > 8 ? k / 8 : 8;
}

/* The model as of the reports so far. */
static st_t refresh(struct estimator *e, struct model *m)
{
    int col = archive_metric(e->archive, m->metric->name);
    long of = LATENCY_LEAST;
    if (col < 0) return ST_OK;
    for (; m->looked < archive_reported(e->archive); m->looked++) m->measured += measured_by(e->archive, col, m->looked);
    if (m->measured < LATENCY_LEAST) return ST_OK;
    while (of + step(of) <= m->measured) of += step(of);
    return of == m->of ? ST_OK : fit(e, m, col, of);
}

/* Of the trial whose features are in e->x. */
static struct latency_value value_at(struct estimator *e, const struct model *m)
{
    struct latency_value v;
    latency_at(m->fit, e->x, &v);
    return (struct latency_value){as_time(m->metric, v.value), as_time(m->metric, is_rate(m->metric) ? v.high : v.low),
                                  as_time(m->metric, is_rate(m->metric) ? v.low : v.high)};
}

bool estimator_interval(struct estimator *e, long row, const struct metric *metric, struct latency_value *out)
{
    for (int i = 0; i < e->n; i++) {
        struct model *m = &e->model[i];
        if (strcmp(m->metric->name, metric->name)) continue;
        if (!estimate_relied(e->archive, metric) || refresh(e, m) || !m->fit || !features(e, row, metric, e->x)) return false;
        *out = value_at(e, m);
        return true;
    }
    return false;
}

/* ---- may a measurement be left out? ---- */

static double number(json_t *v)
{
    if (json_is_object(v)) v = json_object_get(v, "median");
    return json_is_number(v) ? json_number_value(v) : NAN;
}

/* The least (or for a rate the most) that the candidate may have of it; NaN: it could be anything. */
static double at_best(struct estimator *e, const struct estimate_answer *x, long row, json_t *metrics, const struct metric *m, bool less)
{
    for (int i = 0; i < x->n; i++)
        if (!strcmp(x->metric[i]->name, m->name)) return less ? x->value[i].low : x->value[i].high;
    double v = number(json_object_get(metrics, m->name));
    int col = archive_metric(e->archive, m->name);
    return isnan(v) && col >= 0 ? archive_median(e->archive, col, row) : v;
}

static bool breaks(struct estimator *e, const struct estimate_answer *x, long row, json_t *metrics)
{
    for (int i = 0; i < e->job->nconstraints; i++) {
        const struct job_constraint *c = &e->job->constraint[i];
        if (at_best(e, x, row, metrics, &c->metric, true) > c->max || at_best(e, x, row, metrics, &c->metric, false) < c->min) return true;
    }
    return false;
}

struct noise { /* of each objective */
    int col[JOB_OBJECTIVES_MAX], dof[JOB_OBJECTIVES_MAX];
    double sd[JOB_OBJECTIVES_MAX];
};

/* What t has at worst on that rung by all of its measurements, minimised; false: it lacks one, or breaks a constraint. */
static bool at_worst(const struct estimator *e, const struct noise *z, long t, int rung, double *y)
{
    const struct archive *a = e->archive;
    double bound[JOB_CONSTRAINTS_MAX], v, low, high;
    for (int k = 0; k < e->job->nobjectives; k++) {
        archive_pooled_by(a, z->col[k], t, rung, z->sd[k], z->dof[k], &v, &low, &high);
        y[k] = e->job->objective[k].goal == METRIC_MAX ? -low : high;
        if (!isfinite(y[k])) return false;
    }
    for (int i = 0; i < e->job->nconstraints; i++) {
        int col = archive_metric(a, e->job->constraint[i].metric.name);
        bound[i] = col < 0 ? NAN : archive_value(a, col, t, rung);
    }
    return !(job_violation(e->job, bound) > 0);
}

/* Row of a trial that dominates y whatever the intervals hide; -1: none does. */
static long dominator(const struct estimator *e, long row, const double *y)
{
    int rung = archive_rung(e->archive, row);
    double worst[JOB_OBJECTIVES_MAX];
    struct noise z;
    for (int k = 0; k < e->job->nobjectives; k++) {
        z.col[k] = archive_metric(e->archive, e->job->objective[k].metric.name);
        if (z.col[k] < 0) return -1;
        z.sd[k] = archive_noise(e->archive, z.col[k], rung, &z.dof[k]);
    }
    for (long t = 0; t < archive_count(e->archive); t++) {
        if (t == row || !archive_has(e->archive, t, rung) || !at_worst(e, &z, t, rung, worst)) continue;
        bool all = true, one = false;
        for (int k = 0; k < e->job->nobjectives && all; k++) {
            all = worst[k] <= y[k];
            one |= worst[k] < y[k];
        }
        if (all && one) return t;
    }
    return -1;
}

/* Trials of which the model has said that their measurement changes nothing. */
static long told(const struct archive *a)
{
    long n = 0;
    for (long i = 0; i < archive_estimates(a); i++) {
        const struct archive_estimate *s = archive_estimate_at(a, i), *before = i ? archive_estimate_at(a, i - 1) : NULL;
        n += !before || before->row != s->row || before->rung != s->rung;
    }
    return n;
}

st_t estimator_ask(struct estimator *e, long row, json_t *metrics, struct estimate_answer *out)
{
    struct estimate_answer x = {.n = 0};
    double y[JOB_OBJECTIVES_MAX];
    bool relied = true;
    *out = x;
    if (archive_repeat_of(e->archive, row) >= 0) return ST_OK;
    for (int i = 0; i < e->n; i++) {
        struct model *m = &e->model[i];
        st_t st = refresh(e, m);
        if (st) return st;
        int col = archive_metric(e->archive, m->metric->name);
        bool known = archive_rung(e->archive, row) && col >= 0 && !isnan(archive_median(e->archive, col, row)) && !archive_estimated(e->archive, col, row);
        if (known || !m->fit || !features(e, row, m->metric, e->x)) return ST_OK;
        x.metric[i] = m->metric;
        x.value[i] = value_at(e, m);
        relied &= estimate_relied(e->archive, m->metric);
    }
    x.n = e->n;
    for (int k = 0; k < e->job->nobjectives; k++) {
        const struct job_objective *o = &e->job->objective[k];
        y[k] = at_best(e, &x, row, metrics, &o->metric, o->goal == METRIC_MIN);
        if (!isfinite(y[k])) return ST_OK;
        if (o->goal == METRIC_MAX) y[k] = -y[k];
    }
    if (!x.n) return ST_OK;
    if (!breaks(e, &x, row, metrics)) {
        long by = dominator(e, row, y);
        if (by < 0) return ST_OK;
        x.by = archive_trial(e->archive, by);
    }
    x.saved = relied && told(e->archive) % ESTIMATE_CHECK != 0;
    *out = x;
    return ST_OK;
}

/* ---- how wrong it is ---- */

/* A check: the estimate was not relied on, and the trial has both. Returns the relative error of it. */
static bool check(const struct archive *a, long i, int col, double *error, bool *held)
{
    const struct archive_estimate *s = archive_estimate_at(a, i);
    double v = s->col == col && !s->saved ? archive_value(a, col, s->row, s->rung) : NAN;
    if (!(v > 0)) return false;
    *error = fabs(s->median / v - 1);
    *held = s->low <= v && v <= s->high;
    return true;
}

st_t estimator_stats(struct estimator *e, const struct metric *metric, struct estimate_stats *out)
{
    *out = (struct estimate_stats){.error = NAN, .mape = NAN, .worst = NAN};
    int col = archive_metric(e->archive, metric->name);
    double sum = 0, error;
    bool held;
    for (int i = 0; i < e->n; i++) {
        struct model *m = &e->model[i];
        if (strcmp(m->metric->name, metric->name)) continue;
        st_t st = refresh(e, m);
        if (st) return st;
        out->measured = m->measured;
        if (m->fit) out->error = latency_error(m->fit);
    }
    for (long i = 0; i < archive_estimates(e->archive); i++) {
        const struct archive_estimate *s = archive_estimate_at(e->archive, i);
        out->saved += s->col == col && s->saved;
        if (!check(e->archive, i, col, &error, &held)) continue;
        out->checked++;
        out->held += held;
        sum += error;
        if (!(error <= out->worst)) out->worst = error;
    }
    if (out->checked) out->mape = sum / (double)out->checked;
    return ST_OK;
}

/* P(X <= k), X binomial of n at 0.9. */
static double at_most(int k, int n)
{
    double p = pow(0.1, n), sum = p;
    for (int i = 1; i <= k; i++) sum += p *= 9.0 * (n - i + 1) / i;
    return sum;
}

/* Over the newest checks of trials from that proposal on: how many, and are they too bad? */
static int bad_checks(const struct archive *a, int col, long from, bool *bad)
{
    int n = 0, in = 0;
    double sum = 0, error;
    bool held;
    for (long i = archive_estimates(a) - 1; i >= 0 && n < ESTIMATE_WINDOW; i--) {
        if (archive_estimate_at(a, i)->row < from || !check(a, i, col, &error, &held)) continue;
        n++;
        in += held;
        sum += error;
    }
    *bad = n && (sum > ESTIMATE_ERROR * n || at_most(in, n) < 0.025);
    return n;
}

st_t estimator_judge(struct estimator *e, const struct metric *metric, bool *relied)
{
    struct estimate_stats s;
    int col = archive_metric(e->archive, metric->name), n;
    bool bad;
    st_t st = estimator_stats(e, metric, &s);
    long from = verdict(e->archive, metric, relied);
    if (st || isnan(s.error)) return st;
    n = bad_checks(e->archive, col, from, &bad);
    if (*relied) *relied = n < ESTIMATE_JUDGED || !bad;
    else *relied = s.error <= ESTIMATE_ERROR && (from < 0 || (n >= ESTIMATE_AGAIN && !bad));
    return ST_OK;
}
