#include "controller/fidelity.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/pareto.h"
#include "controller/audit.h"
#include "controller/proposer.h"
#include "controller/repeat.h"

struct result {
    long row;
    double *y; /* [m], minimised */
    int rank;
    double crowding;
    bool promoted, held; /* held: may not go up */
    double *at;          /* [m] position among the rung's, 0 to 1 */
};

struct rung {
    int m;
    long n;         /* results that can be compared */
    struct result *result;
    double *number; /* what y and at point into */
};

static void rung_fini(struct rung *g)
{
    free(g->result);
    free(g->number);
}

/* Does it break what it would still break after any training? */
bool fidelity_hopeless(const struct job *job, const struct archive *a, long row)
{
    double bound[JOB_CONSTRAINTS_MAX];
    for (int i = 0; i < job->nconstraints; i++) {
        const struct metric *m = &job->constraint[i].metric;
        int col = archive_metric(a, m->name);
        bool fixed = m->source == METRIC_PAPER || m->source == METRIC_PROFILE || m->source == METRIC_PROXY || (m->source == METRIC_ENERGY && m->context);
        bound[i] = fixed && col >= 0 ? archive_median(a, col, row) : NAN;
    }
    return job_violation(job, bound) > 0;
}

/* Is it on that rung by the audit, and not by its own result on the one below? */
static bool by_audit(const struct archive *a, long row, int rung)
{
    int from = archive_audit_rung(a, row);
    return from >= 0 && rung > from;
}

/* Rows that the audit took above that rung. */
static long audited_above(const struct archive *a, int rung)
{
    long n = 0;
    for (long i = 0; i < archive_audited(a); i++) {
        long row = archive_audited_row(a, i);
        n += archive_rung(a, row) > rung && by_audit(a, row, rung + 1);
    }
    return n;
}

static int by_order(const void *a, const void *b)
{
    const struct result *x = a, *y = b;
    if (x->rank != y->rank) return x->rank < y->rank ? -1 : 1;
    if (x->promoted != y->promoted) return x->promoted ? -1 : 1;
    if (x->crowding != y->crowding) return x->crowding > y->crowding ? -1 : 1;
    return (x->row > y->row) - (x->row < y->row); /* rows are in order of their trials */
}

static st_t order(struct rung *g, const double *violation)
{
    size_t n = (size_t)g->n, m = (size_t)g->m;
    int *rank = malloc(n * sizeof *rank), *index = malloc(n * sizeof *index);
    double *distance = malloc(n * sizeof *distance), *y = g->number;
    st_t st = rank && index && distance ? base_pareto_rank(y, violation, g->n, g->m, rank) : ST_ENOMEM;
    for (size_t i = 0; i < n && !st; i++) g->result[i].rank = rank[i];
    for (int front = 0, left = (int)n; left > 0 && !st; front++) {
        long k = 0;
        for (size_t i = 0; i < n; i++)
            if (rank[i] == front) index[k++] = (int)i;
        st = k ? base_pareto_crowding(y, (int)m, index, k, distance) : ST_OK;
        for (long i = 0; i < k && !st; i++) g->result[index[i]].crowding = distance[i];
        left -= (int)k;
    }
    free(rank);
    free(index);
    free(distance);
    if (!st) qsort(g->result, n, sizeof *g->result, by_order);
    return st;
}

static int by_value(const void *a, const void *b)
{
    const double *const *x = a, *const *y = b;
    return (**x > **y) - (**x < **y);
}

/* Positions: equal values share the first of theirs. */
static st_t place(struct rung *g)
{
    const double **v = malloc((size_t)g->n * sizeof *v);
    if (!v) return ST_ENOMEM;
    for (int j = 0; j < g->m; j++) {
        for (long i = 0; i < g->n; i++) v[i] = g->result[i].y + j;
        qsort(v, (size_t)g->n, sizeof *v, by_value);
        for (long i = 0; i < g->n; i++) {
            long first = 0, last = g->n; /* the first that is not below it */
            while (first < last) {
                long mid = first + (last - first) / 2;
                if (*v[mid] < g->result[i].y[j]) first = mid + 1;
                else last = mid;
            }
            g->result[i].at[j] = (double)first / (double)g->n;
        }
    }
    free(v);
    return ST_OK;
}

static st_t rung_init(struct rung *g, const struct job *job, const struct archive *a, int rung)
{
    size_t rows = (size_t)archive_rung_count(a, rung) + 1, m = (size_t)job->nobjectives;
    *g = (struct rung){.m = (int)m, .result = calloc(rows, sizeof *g->result), .number = calloc(rows * 2 * m, sizeof *g->number)};
    double *violation = calloc(rows, sizeof *violation);
    st_t st = g->result && g->number && violation ? ST_OK : ST_ENOMEM;
    for (long row = 0; row < archive_count(a) && !st; row++) {
        double y[JOB_OBJECTIVES_MAX];
        struct result *r = &g->result[g->n];
        if (!archive_has(a, row, rung) || by_audit(a, row, rung) || !proposer_values(job, a, row, rung, y, &violation[g->n])) continue;
        *r = (struct result){.row = row, .y = g->number + (size_t)g->n * m, .at = g->number + (rows + (size_t)g->n) * m,
                             .promoted = archive_rung(a, row) > rung && !by_audit(a, row, rung + 1), .held = archive_audit_rung(a, row) == rung || fidelity_hopeless(job, a, row)};
        memcpy(r->y, y, m * sizeof *y);
        g->n++;
    }
    if (!st && g->n) st = order(g, violation);
    free(violation);
    return st;
}

/* The nearest promoted one is how far? */
static double apart(const struct rung *g, const struct result *r)
{
    double nearest = INFINITY;
    for (long i = 0; i < g->n; i++) {
        double d = 0;
        if (!g->result[i].promoted) continue;
        for (int j = 0; j < g->m; j++) d += fabs(g->result[i].at[j] - r->at[j]);
        nearest = fmin(nearest, d);
    }
    return nearest;
}

/* Index of the next one up, among the first k in order; -1. */
static long choose(struct rung *g, long k, long promoted)
{
    long due = 0;
    if (k > g->n) k = g->n;
    while (due < k && (g->result[due].promoted || g->result[due].held)) due++;
    if (due == k) return -1;
    if ((promoted + 1) % FIDELITY_DIVERSE || place(g)) return due;
    long best = due, last = 2 * k < g->n ? 2 * k : g->n;
    double most = apart(g, &g->result[due]);
    for (long i = due + 1; i < last; i++) {
        if (g->result[i].promoted || g->result[i].held) continue;
        double d = apart(g, &g->result[i]);
        if (d <= most) continue;
        most = d;
        best = i;
    }
    return best;
}

static long next_of(const struct job *job, const struct archive *a, int rung, long k)
{
    struct rung g;
    long row = -1;
    if (k > 0 && !rung_init(&g, job, a, rung)) {
        long i = choose(&g, k, archive_rung_reached(a, rung + 1) - audited_above(a, rung));
        if (i >= 0) row = g.result[i].row;
    }
    if (k > 0) rung_fini(&g);
    return row;
}

/* The first of the front in order that was not promoted; -1. */
static long next_of_front(const struct job *job, const struct archive *a)
{
    struct rung g;
    long row = -1;
    if (!rung_init(&g, job, a, 0)) {
        for (long i = 0; i < g.n && g.result[i].rank == 0 && row < 0; i++)
            if (!g.result[i].promoted && !g.result[i].held) row = g.result[i].row;
    }
    rung_fini(&g);
    return row;
}

long fidelity_next(const struct job *job, const struct archive *a, bool closed)
{
    long out[JOB_RUNGS_MAX] = {0}, reports[JOB_RUNGS_MAX], row = -1, under_way = 0;
    if (job->rungs == 1) return -1;
    if ((row = repeat_promote(a)) >= 0) return row;
    for (long i = 0; i < archive_audited(a); i++) {
        row = archive_audited_row(a, i);
        if (archive_state(a, row) == TRIAL_OK && archive_rung(a, row) < job->rungs - 1) return row;
    }
    row = -1;
    if (!job->shared && !audit_rungs_relied(job, a)) return -1; /* shared weights: the front is trained alone in any case */
    for (long i = 0; i < archive_count(a); i++) {
        enum trial_state s = archive_state(a, i);
        out[archive_rung(a, i)] += archive_repeat_of(a, i) < 0 && (s == TRIAL_READY || s == TRIAL_LEASED) && !by_audit(a, i, archive_rung(a, i));
    }
    if (job->shared) return closed && !out[0] ? next_of_front(job, a) : -1;
    for (int r = 0; r < job->rungs; r++) reports[r] = archive_rung_reached(a, r) - (r ? audited_above(a, r - 1) : 0) - out[r];
    for (int r = job->rungs - 2; r >= 0 && row < 0; r--) row = next_of(job, a, r, (long)floor((double)reports[r] / job->eta));
    for (int r = 0; closed && r < job->rungs - 1 && row < 0; r++) {
        under_way += out[r];
        if (under_way) break;
        row = next_of(job, a, r, (long)ceil((double)reports[r] / job->eta));
    }
    return row;
}
