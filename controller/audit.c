/* What the audit draws. */
#include "controller/audit.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "controller/fidelity.h"
#include "controller/proposer.h"

const struct job_objective *audit_target(const struct job *job)
{
    for (int i = 0; i < job->nobjectives; i++) {
        const struct metric *m = &job->objective[i].metric;
        if (m->source == METRIC_CUSTOM || (m->source == METRIC_TRAIN && !strncmp(m->name, "valid_", 6))) return &job->objective[i];
    }
    return NULL;
}

bool audit_is_shortcut(const char *metric)
{
    return !strncmp(metric, "proxy.", 6);
}

bool audit_wanted(const struct job *job, const struct archive *a)
{
    bool some = job->rungs > 1;
    for (int c = 0; c < archive_metrics(a) && !some; c++) some = audit_is_shortcut(archive_metric_name(a, c));
    return some && audit_target(job);
}

bool audit_rungs_relied(const struct job *job, const struct archive *a)
{
    char name[METRIC_NAME_MAX];
    for (int r = 0; r < job->rungs - 1; r++) {
        snprintf(name, sizeof name, "rung %d", r);
        if (!archive_relied(a, name)) return false;
    }
    return true;
}

static bool draws(const struct job *job)
{
    return job->audit > 0 && job->rungs > 1 && audit_target(job);
}

/* Seconds of evaluators' time since the first report, that report's own (and a supernet's) left out as *before; and what a trial that was drawn took on average to get from rung 0 to where it is
 * (0: none has). */
static double spent(const struct archive *a, double *before_it, double *each)
{
    double sum = 0, before = archive_reported(a) ? archive_reported_busy_s(a, 0) : 0;
    long trials = 0;
    *before_it = before;
    for (long i = 0; i < archive_reported(a); i++) {
        double now = archive_reported_busy_s(a, i);
        long row = archive_reported_row(a, i);
        if (archive_reported_rung(a, i) > 0 && archive_audit_rung(a, row) >= 0) {
            sum += now - before;
            trials += archive_reported_rung(a, i) == archive_rung(a, row);
        }
        before = now;
    }
    *each = trials ? sum / (double)trials : 0;
    return before - *before_it;
}

long audit_due(const struct job *job, const struct archive *a, const struct audit_budget *b, long n, bool closed)
{
    if (!draws(job)) return 0;
    bool counted = isfinite(b->evaluations), timed = isfinite(b->hours);
    double each = 0, before = 0, busy = timed ? spent(a, &before, &each) : 0, whole = 3600 * b->hours * (job->shared ? 1 - JOB_FINAL_SHARE : 1) - before;
    double part = counted ? (double)n / b->evaluations : 0, gone = !timed ? 0 : whole > 0 ? busy / whole : 1;
    if (closed && (counted || !timed)) return job_audit_trials(job, fmin(b->evaluations, (double)n));
    double first = fmin(JOB_AUDIT_LEAST, closed ? (double)n : fmax(2 * JOB_AUDIT_LEAST * part, fmin(2 * JOB_AUDIT_LEAST * gone, (double)n / 4)));
    if (counted) return (long)floor(fmax(first, (double)job_audit_trials(job, b->evaluations) * fmin(part, 1)));
    if (timed) return (long)floor(fmax(first, each > 0 ? job->audit * busy / each : 0));
    long least = n / 4 < JOB_AUDIT_LEAST ? n / 4 : JOB_AUDIT_LEAST, share = (long)floor(job->audit * (double)n);
    return share > least ? share : least;
}

bool audit_judgement_due(const struct job *job, const struct archive *a)
{
    long n = 0;
    if (job->rungs == 1) n = archive_rung_count(a, 0);
    for (long i = 0; i < archive_audited(a) && job->rungs > 1; i++) n += archive_has(a, archive_audited_row(a, i), job->rungs - 1);
    return n >= JOB_AUDIT_LEAST && n % (n < 16 ? 1 : n / 8) == 0;
}

/* What draws choose from. */
struct pool {
    const struct job *job;
    const struct archive *a;
    struct base_rng rng;
    long n;      /* candidates */
    long *row;   /* [n] */
    double *y;   /* [n] target on rung 0, minimised */
    double cut;  /* the best tenth of all results on rung 0 ends here */
};

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static bool may_be_drawn(const struct job *job, const struct archive *a, long row)
{
    enum trial_state s = archive_state(a, row);
    return archive_audit_rung(a, row) < 0 && archive_has(a, row, 0) && s != TRIAL_FAILED && s != TRIAL_PRUNED && !fidelity_hopeless(job, a, row);
}

static st_t pool_init(struct pool *p, const struct job *job, const struct archive *a)
{
    size_t n = (size_t)archive_rung_count(a, 0) + 1;
    const struct job_objective *target = audit_target(job);
    int col = archive_metric(a, target->metric.name);
    double sign = target->goal == METRIC_MAX ? -1 : 1, *all = malloc(n * sizeof *all);
    long m = 0;
    *p = (struct pool){.job = job, .a = a, .rng = base_rng_at(job->seed, RNG_AUDIT, (uint64_t)archive_audited(a)), .row = malloc(n * sizeof *p->row), .y = malloc(n * sizeof *p->y)};
    st_t st = all && p->row && p->y ? ST_OK : ST_ENOMEM;
    for (long row = 0; row < archive_count(a) && !st && col >= 0; row++) {
        double v = archive_has(a, row, 0) ? sign * archive_value(a, col, row, 0) : NAN;
        if (!isfinite(v)) continue;
        all[m++] = v;
        if (!may_be_drawn(job, a, row)) continue;
        p->row[p->n] = row;
        p->y[p->n++] = v;
    }
    if (!st && m) {
        qsort(all, (size_t)m, sizeof *all, by_value);
        p->cut = all[(m + 9) / 10 - 1];
    }
    free(all);
    return st;
}

static void pool_fini(struct pool *p)
{
    free(p->row);
    free(p->y);
}

static long draw_best(struct pool *p)
{
    long k = 0, least = 0;
    for (long i = 0; i < p->n; i++) {
        k += p->y[i] <= p->cut;
        if (p->y[i] < p->y[least]) least = i;
    }
    if (!k) return p->row[least];
    k = base_rng_below(&p->rng, (uint32_t)k);
    for (long i = 0;; i++)
        if (p->y[i] <= p->cut && k-- == 0) return p->row[i];
}

/* Of the rows offered, the one whose nearest drawn one is farthest; v: `width` numbers of each of `offered` rows, then of each drawn one. Sum of what every number differs by, as a share of
 * its range; what is not the same differs by `step` at least. */
static long farthest(const double *v, long offered, long drawn, int width, double step)
{
    long best = 0;
    double most = -1, *scale = malloc(((size_t)width + 1) * sizeof *scale);
    if (!scale) return -1;
    for (int j = 0; j < width; j++) {
        double low = v[j], high = v[j];
        for (long i = 0; i < offered + drawn; i++) {
            low = fmin(low, v[i * width + j]);
            high = fmax(high, v[i * width + j]);
        }
        scale[j] = high > low ? (1 - step) / (high - low) : 0;
    }
    for (long i = 0; i < offered; i++) {
        double nearest = INFINITY;
        for (long k = offered; k < offered + drawn; k++) {
            double d = 0;
            for (int j = 0; j < width; j++)
                if (v[i * width + j] != v[k * width + j]) d += step + scale[j] * fabs(v[i * width + j] - v[k * width + j]);
            nearest = fmin(nearest, d);
        }
        if (nearest <= most) continue;
        most = nearest;
        best = i;
    }
    free(scale);
    return best;
}

static long drawn_last(const struct archive *a, long i, long n)
{
    return archive_audited_row(a, archive_audited(a) - n + i);
}

/* -1: none of the front is left. */
static long draw_front(struct pool *p)
{
    const struct job *job = p->job;
    struct front_query q = {.nobj = job->nobjectives, .constrained = true};
    struct front f;
    long drawn = archive_audited(p->a) < AUDIT_SAMPLE ? archive_audited(p->a) : AUDIT_SAMPLE, n = 0, at = -1, row = -1;
    memcpy(q.objective, job->objective, sizeof q.objective);
    if (archive_front(p->a, &q, &f, NULL)) return -1;
    double *v = malloc(((size_t)(f.n + drawn) + 1) * JOB_OBJECTIVES_MAX * sizeof *v), violation;
    for (long i = 0; i < f.n && v; i++) {
        if (!may_be_drawn(job, p->a, f.row[i]) || !proposer_values(job, p->a, f.row[i], 0, v + n * JOB_OBJECTIVES_MAX, &violation)) continue;
        f.row[n++] = f.row[i];
    }
    /* Packed to the number of objectives: the offered ones, then the drawn ones. */
    for (long i = 0; i < n && v; i++) memmove(v + i * q.nobj, v + i * JOB_OBJECTIVES_MAX, (size_t)q.nobj * sizeof *v);
    long known = 0;
    for (long i = 0; i < drawn && v; i++) {
        double y[JOB_OBJECTIVES_MAX];
        if (!proposer_values(job, p->a, drawn_last(p->a, i, drawn), 0, y, &violation)) continue;
        memcpy(v + (n + known++) * q.nobj, y, (size_t)q.nobj * sizeof *v);
    }
    if (v && n) at = farthest(v, n, known, q.nobj, 0);
    if (at >= 0) row = f.row[at];
    free(v);
    archive_front_fini(&f);
    return row;
}

static long draw_space(struct pool *p)
{
    int genes = space_genes(p->job->space);
    long drawn = archive_audited(p->a) < AUDIT_SAMPLE ? archive_audited(p->a) : AUDIT_SAMPLE, n = p->n < AUDIT_CANDIDATES ? p->n : AUDIT_CANDIDATES, at = -1;
    double *v = malloc(((size_t)(n + drawn) * (size_t)genes + 1) * sizeof *v);
    struct genome g;
    if (!v || space_genome_init(p->job->space, &g)) {
        free(v);
        return -1;
    }
    for (long i = 0; i < n; i++) {
        long k = i + base_rng_below(&p->rng, (uint32_t)(p->n - i)), row = p->row[k];
        p->row[k] = p->row[i];
        p->row[i] = row;
    }
    st_t st = ST_OK;
    for (long i = 0; i < n + drawn && !st; i++) {
        st = archive_genome(p->a, i < n ? p->row[i] : drawn_last(p->a, i - n, drawn), &g);
        if (!st) memcpy(v + i * genes, g.g, (size_t)genes * sizeof *v);
    }
    if (!st) at = farthest(v, n, drawn, genes, 0.5);
    space_genome_fini(&g);
    free(v);
    return at < 0 ? -1 : p->row[at];
}

/* While a low rung is not relied on: the first that was proposed since and waits. */
static long next_of_all(const struct job *job, const struct archive *a)
{
    int n;
    const struct archive_verdict *v = archive_verdicts(a, &n);
    long from = archive_count(a);
    for (int i = 0; i < n; i++)
        if (!v[i].relied && !strncmp(v[i].shortcut, "rung ", 5) && v[i].from < from) from = v[i].from;
    while (from < archive_count(a) && !may_be_drawn(job, a, from)) from++;
    return from < archive_count(a) ? from : -1;
}

long audit_next(const struct job *job, const struct archive *a, const struct audit_budget *b, bool closed, enum audit_drawn *how)
{
    long done = archive_audited(a), planned = 0, row = -1, n = closed ? archive_planned(a) : archive_evaluations(a);
    if (!draws(job)) return -1;
    if (!audit_rungs_relied(job, a) && (row = next_of_all(job, a)) >= 0) {
        *how = AUDIT_ALL;
        return row;
    }
    if (done >= audit_due(job, a, b, n, closed) || (!closed && archive_rung_count(a, 0) < AUDIT_FROM)) return -1;
    for (long i = 0; i < done; i++) planned += archive_audited_how(a, i) != AUDIT_ALL;
    struct pool p;
    if (!pool_init(&p, job, a) && p.n) {
        *how = planned % 2 == 0 ? AUDIT_BEST : planned % 4 == 1 ? AUDIT_FRONT : AUDIT_SPACE;
        if (*how == AUDIT_FRONT && (row = draw_front(&p)) < 0) *how = AUDIT_SPACE;
        if (row < 0) row = *how == AUDIT_BEST ? draw_best(&p) : draw_space(&p);
    }
    pool_fini(&p);
    return row;
}
