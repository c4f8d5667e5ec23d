/* Fronts and progress over an archive. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/pareto.h"
#include "db/archive_impl.h"

/* The values of a where clause or of constraints, one row at a time. */
struct lookup {
    int *col;      /* [n]; -1: no trial has that metric */
    double *value; /* [n] of the row at hand */
    int n;
};

static st_t lookup_init(struct lookup *l, int n)
{
    l->n = n;
    l->col = calloc((size_t)n + 1, sizeof *l->col);
    l->value = calloc((size_t)n + 1, sizeof *l->value);
    return l->col && l->value ? ST_OK : ST_ENOMEM;
}

static void lookup_fini(struct lookup *l)
{
    free(l->col);
    free(l->value);
}

static const double *lookup_row(const struct archive *a, struct lookup *l, long row, int rung, bool first)
{
    for (int i = 0; i < l->n; i++) {
        double low, high;
        if (l->col[i] < 0) l->value[i] = NAN;
        else if (first) l->value[i] = archive_value(a, l->col[i], row, rung);
        else archive_pooled_by(a, l->col[i], row, rung, NAN, 0, &l->value[i], &low, &high);
    }
    return l->value;
}

static st_t constraints_init(const struct archive *a, const struct job *job, struct lookup *l)
{
    st_t st = lookup_init(l, job->nconstraints);
    for (int i = 0; i < job->nconstraints && !st; i++) l->col[i] = archive_metric(a, job->constraint[i].metric.name);
    return st;
}

struct candidates {
    double *y; /* [n, m], minimised */
    double *low, *high; /* likewise; NULL unless the query is uncertain */
    uint32_t *row;
    long n;
};

/* Rows that the query is about. */
static st_t gather(const struct archive *a, const struct front_query *q, struct candidates *c, struct base_err *err)
{
    int m = q->nobj;
    int obj[JOB_OBJECTIVES_MAX];
    double sign[JOB_OBJECTIVES_MAX];
    if (m < 1 || m > JOB_OBJECTIVES_MAX)
        return base_err_set(err, ST_EINVAL, "objectives", "must be 1 to %d", JOB_OBJECTIVES_MAX);
    for (int j = 0; j < m; j++) {
        obj[j] = archive_metric(a, q->objective[j].metric.name);
        if (obj[j] < 0) {
            char where[32];
            snprintf(where, sizeof where, "objectives[%d]", j);
            return base_err_set(err, ST_ENOTFOUND, where, "no trial has '%s'", q->objective[j].metric.name);
        }
        sign[j] = q->objective[j].goal == METRIC_MAX ? -1 : 1;
    }
    struct lookup where = {0}, limits = {0};
    st_t st = q->where ? lookup_init(&where, space_where_metrics(q->where)) : ST_OK;
    for (int i = 0; i < where.n && !st; i++) where.col[i] = archive_metric(a, space_where_metric(q->where, i));
    if (!st && q->constrained) st = constraints_init(a, a->job, &limits);
    if (!st && (q->rung < 0 || q->rung >= a->job->rungs)) st = ST_EINVAL;
    size_t ok = (st ? 0 : (size_t)a->has[q->rung]) + 1;
    c->y = malloc(ok * (size_t)m * sizeof *c->y);
    c->row = malloc(ok * sizeof *c->row);
    if (q->uncertain) {
        c->low = malloc(ok * (size_t)m * sizeof *c->low);
        c->high = malloc(ok * (size_t)m * sizeof *c->high);
    }
    if (st == ST_EINVAL) {
        base_err_set(err, st, "rung", "must be 0 to %d", a->job->rungs - 1);
    } else if (st || !c->y || !c->row || (q->uncertain && (!c->low || !c->high))) {
        st = base_err_set(err, ST_ENOMEM, "", "out of memory");
    } else {
        bool plain = q->first || (!a->nrepeats && !q->uncertain);
        double *y = c->y, sd[JOB_OBJECTIVES_MAX];
        int dof[JOB_OBJECTIVES_MAX];
        for (int j = 0; j < m && !plain; j++) sd[j] = archive_noise(a, obj[j], q->rung, &dof[j]);
        for (long i = 0; i < a->n; i++) {
            if (!archive_has(a, i, q->rung)) continue;
            int finite = 1;
            double low[JOB_OBJECTIVES_MAX], high[JOB_OBJECTIVES_MAX];
            for (int j = 0; j < m; j++) {
                if (plain) y[j] = low[j] = high[j] = archive_value(a, obj[j], i, q->rung);
                else archive_pooled_by(a, obj[j], i, q->rung, sd[j], dof[j], &y[j], &low[j], &high[j]);
                y[j] *= sign[j];
                finite &= isfinite(y[j]);
            }
            if (!finite || (q->where && !space_where_eval(q->where, lookup_row(a, &where, i, q->rung, q->first || !a->nrepeats))) ||
                (limits.n && job_violation(a->job, lookup_row(a, &limits, i, q->rung, q->first || !a->nrepeats)) > 0))
                continue;
            for (int j = 0; q->uncertain && j < m; j++) {
                bool exact = q->exact >> j & 1;
                c->low[c->n * m + j] = exact ? y[j] : fmin(sign[j] * low[j], sign[j] * high[j]);
                c->high[c->n * m + j] = exact ? y[j] : fmax(sign[j] * low[j], sign[j] * high[j]);
            }
            c->row[c->n++] = (uint32_t)i;
            y += m;
        }
    }
    lookup_fini(&where);
    lookup_fini(&limits);
    return st;
}

struct member {
    double first, p;
    int64_t trial;
    long row;
    bool on;
};

static int by_first(const void *a, const void *b)
{
    const struct member *x = a, *y = b;
    if (x->first != y->first) return x->first < y->first ? -1 : 1;
    return (x->trial > y->trial) - (x->trial < y->trial);
}

/* Where the answer goes on after a trial. It may have left the front since: what counts is where it would stand. */
static st_t page_start(const struct archive *a, const struct front_query *q, const struct member *m, long n,
                       long *start, struct base_err *err)
{
    *start = 0;
    if (!q->after) return ST_OK;
    struct member last = {.trial = q->after, .row = archive_row(a, q->after)};
    if (last.row < 0) return base_err_set(err, ST_ENOTFOUND, "after", "the job has no trial %lld", (long long)q->after);
    double low, high;
    int col = archive_metric(a, q->objective[0].metric.name);
    if (q->first) last.first = archive_value(a, col, last.row, q->rung);
    else archive_pooled_by(a, col, last.row, q->rung, NAN, 0, &last.first, &low, &high);
    if (q->objective[0].goal == METRIC_MAX) last.first = -last.first;
    if (isnan(last.first))
        return base_err_set(err, ST_EINVAL, "after", "trial %lld has no '%s'", (long long)q->after,
                            q->objective[0].metric.name);
    while (*start < n && by_first(&m[*start], &last) <= 0) ++*start;
    return ST_OK;
}

/* Of the candidates, those that the answer is about. *member: owned. Returns how many; -1: out of memory. */
static long choose(const struct archive *a, const struct front_query *q, const struct candidates *c, struct member **member)
{
    uint8_t *in = malloc((size_t)c->n + 1);
    double *p = malloc(((size_t)c->n + 1) * sizeof *p);
    long n = in ? base_pareto_front(c->y, c->n, q->nobj, in) : -1;
    if (!p || (n >= 0 && q->uncertain && base_pareto_membership(c->y, c->low, c->high, c->n, q->nobj, q->resamples ? q->resamples : ARCHIVE_RESAMPLES, a->job->seed, p))) n = -1;
    if (n >= 0) {
        for (long i = 0; q->uncertain && i < c->n; i++) n += !in[i] && p[i] >= ARCHIVE_DOUBT;
        *member = malloc(((size_t)n + 1) * sizeof **member);
    }
    if (n < 0 || !*member) {
        n = -1;
    } else {
        n = 0;
        for (long i = 0; i < c->n; i++)
            if (in[i] || (q->uncertain && p[i] >= ARCHIVE_DOUBT))
                (*member)[n++] = (struct member){c->y[i * q->nobj], q->uncertain ? p[i] : 0, a->trial[c->row[i]], c->row[i], in[i]};
    }
    free(in);
    free(p);
    return n;
}

st_t archive_front(const struct archive *a, const struct front_query *q, struct front *out, struct base_err *err)
{
    struct candidates c = {0};
    struct member *member = NULL;
    long n = 0, start = 0;
    *out = (struct front){0};
    st_t st = gather(a, q, &c, err);
    if (!st && (n = choose(a, q, &c, &member)) < 0) st = base_err_set(err, ST_ENOMEM, "", "out of memory");
    if (!st) {
        qsort(member, (size_t)n, sizeof *member, by_first);
        st = page_start(a, q, member, n, &start, err);
    }
    if (!st) {
        if (q->limit > 0 && n - start > q->limit) n = start + q->limit;
        out->row = malloc(((size_t)(n - start) + 1) * sizeof *out->row);
        out->p = q->uncertain ? malloc(((size_t)(n - start) + 1) * sizeof *out->p) : NULL;
        out->on = q->uncertain ? malloc((size_t)(n - start) + 1) : NULL;
        if (!out->row || (q->uncertain && (!out->p || !out->on))) {
            archive_front_fini(out);
            st = base_err_set(err, ST_ENOMEM, "", "out of memory");
        }
    }
    for (long i = start; !st && i < n; i++, out->n++) {
        out->row[out->n] = member[i].row;
        if (out->p) out->p[out->n] = member[i].p;
        if (out->on) out->on[out->n] = member[i].on;
    }
    free(c.y);
    free(c.low);
    free(c.high);
    free(c.row);
    free(member);
    return st;
}

void archive_front_fini(struct front *f)
{
    free(f->row);
    free(f->p);
    free(f->on);
    *f = (struct front){0};
}

st_t archive_progress(const struct archive *a, const struct job *job, const double *ref, double *hv)
{
    int m = job->nobjectives;
    int obj[JOB_OBJECTIVES_MAX], top = job->rungs - 1;
    double turned[JOB_OBJECTIVES_MAX];
    for (int j = 0; j < m; j++) {
        obj[j] = archive_metric(a, job->objective[j].metric.name);
        turned[j] = job->objective[j].goal == METRIC_MAX ? -ref[j] : ref[j];
    }
    struct lookup limits = {0};
    double *y = malloc(((size_t)a->nrep * (size_t)m + 1) * sizeof *y);
    st_t st = y ? constraints_init(a, job, &limits) : ST_ENOMEM;
    for (long i = 0; i < a->nrep && !st; i++) {
        long row = a->rep_row[i];
        bool counts = a->rep_rung[i] == top && archive_has(a, row, top) && !(limits.n && job_violation(job, lookup_row(a, &limits, row, top, true)) > 0);
        for (int j = 0; j < m; j++) {
            double v = counts && obj[j] >= 0 ? archive_median(a, obj[j], row) : NAN;
            y[i * m + j] = job->objective[j].goal == METRIC_MAX ? -v : v;
        }
    }
    if (!st) st = base_pareto_hv_progress(y, a->nrep, m, turned, hv);
    lookup_fini(&limits);
    free(y);
    return st;
}
