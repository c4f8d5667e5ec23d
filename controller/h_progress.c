/* job.progress: how far a search has come, by evaluation and by time. */
#include <math.h>
#include <stdlib.h>

#include "controller/internal.h"

#define POINTS_MAX 2000

static void column(struct base_jw *w, const char *key, const double *v, const long *at, long n)
{
    base_jw_key(w, key);
    base_jw_arr(w);
    for (long i = 0; i < n; i++) base_jw_num(w, v[at[i]]);
    base_jw_end(w);
}

/* Which reports stand in the answer: all, or POINTS_MAX of them evenly spread, the last one always. */
static long choose(long n, long *at)
{
    long k = n < POINTS_MAX ? n : POINTS_MAX;
    for (long i = 0; i < k; i++) at[i] = (long)((double)(i + 1) * (double)n / (double)k + 0.5) - 1;
    return k;
}

CTL_HANDLER(job_progress)
{
    static const char *const keys[] = {"id"};
    struct ctl *c = ctx;
    struct base_err err = BASE_ERR_INIT;
    struct base_jr r = base_jr_at(params, "", &err);
    base_jr_done(&r, keys, 1);
    struct ctl_job *j = ctl_job_param(c, call, &r, "id");
    if (!j) return;
    st_t st = ctl_job_archive(c, j, &err);
    if (st) {
        wire_call_error(call, st == ST_EVERSION ? WIRE_ESTATE : WIRE_EINTERNAL, "%s", err.what);
        return;
    }
    const struct archive *a = j->archive;
    const struct job *job = j->job;
    long n = archive_reported(a), at[POINTS_MAX];
    int m = job->nobjectives, top = job->rungs - 1;
    double *v = malloc(((size_t)n + 1) * (size_t)(m + 3) * sizeof *v), *hv = v, *busy = v + n, *evaluation = v + 2 * n, *best = v + 3 * n;
    struct base_buf b = BASE_BUF_INIT;
    struct base_jw w;
    st = v ? ST_OK : ST_ENOMEM;
    if (!st && j->nref) st = archive_progress(a, job, j->ref, hv);
    if (st) {
        free(v);
        wire_call_error(call, WIRE_EINTERNAL, "%s", base_status_text(st));
        return;
    }
    double so_far[JOB_OBJECTIVES_MAX];
    for (int k = 0; k < m; k++) so_far[k] = NAN;
    for (long i = 0; i < n; i++) {
        long row = archive_reported_row(a, i);
        double y[JOB_OBJECTIVES_MAX], violation;
        bool counts = archive_reported_rung(a, i) == top && archive_has(a, row, top) && proposer_values(job, a, row, top, y, &violation) &&
                      violation <= 0;
        evaluation[i] = (double)archive_reported_evaluations(a, i);
        if (!j->nref) hv[i] = NAN;
        busy[i] = archive_reported_busy_s(a, i);
        for (int k = 0; k < m; k++) {
            double sign = job->objective[k].goal == METRIC_MAX ? -1 : 1;
            if (counts && !(y[k] >= sign * so_far[k])) so_far[k] = sign * y[k];
            best[(long)k * n + i] = so_far[k];
        }
    }
    long points = choose(n, at);
    base_jw_init(&w, &b);
    base_jw_obj(&w);
    base_jw_kint(&w, "evaluations", archive_evaluations(a));
    base_jw_key(&w, "reference");
    if (j->nref) {
        base_jw_arr(&w);
        for (int k = 0; k < j->nref; k++) base_jw_num(&w, j->ref[k]);
        base_jw_end(&w);
    } else {
        base_jw_null(&w);
    }
    double total = ctl_job_busy_s(j);
    base_jw_knum(&w, "busy_s", total);
    base_jw_knum(&w, "evaluations_per_hour", total > 0 ? (double)archive_evaluations(a) * 3600 / total : NAN);
    base_jw_knum(&w, "joules", j->spent_joules > 0 ? j->spent_joules : NAN);
    base_jw_key(&w, "points");
    base_jw_obj(&w);
    base_jw_key(&w, "evaluation");
    base_jw_arr(&w);
    for (long i = 0; i < points; i++) base_jw_int(&w, (int64_t)evaluation[at[i]]);
    base_jw_end(&w);
    base_jw_key(&w, "at_ms");
    base_jw_arr(&w);
    for (long i = 0; i < points; i++) base_jw_int(&w, archive_reported_at(a, at[i]));
    base_jw_end(&w);
    column(&w, "busy_s", busy, at, points);
    column(&w, "hypervolume", hv, at, points);
    base_jw_key(&w, "best");
    base_jw_obj(&w);
    for (int k = 0; k < m; k++) column(&w, job->objective[k].metric.name, best + (long)k * n, at, points);
    base_jw_end(&w);
    base_jw_end(&w);
    base_jw_end(&w);
    free(v);
    wire_call_raw(call, &b);
}
