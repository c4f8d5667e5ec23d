/* What a search should be told once and not run on silently: objectives that do not vary, constraints that no result meets. */
#include <math.h>
#include <string.h>

#include "controller/internal.h"

static double value(const struct ctl_job *j, const struct metric *m, long row, int rung)
{
    int col = archive_metric(j->archive, m->name);
    return col < 0 ? NAN : archive_value(j->archive, col, row, rung);
}

bool ctl_job_flat(const struct ctl_job *j, int k, int rung, double *v)
{
    long n = 0;
    for (long row = 0; row < archive_count(j->archive); row++) {
        if (!archive_has(j->archive, row, rung)) continue;
        double x = value(j, &j->job->objective[k].metric, row, rung);
        if (!n++) *v = x;
        else if (x != *v) return false;
    }
    return n > 1 && isfinite(*v);
}

long ctl_job_closest(const struct ctl_job *j, int rung, double cost[JOB_CONSTRAINTS_MAX])
{
    const struct job *job = j->job;
    double least = INFINITY;
    long best = -1;
    for (long row = 0; row < archive_count(j->archive) && job->nconstraints; row++) {
        double x[JOB_CONSTRAINTS_MAX];
        if (!archive_has(j->archive, row, rung)) continue;
        for (int i = 0; i < job->nconstraints; i++) x[i] = value(j, &job->constraint[i].metric, row, rung);
        double violation = job_violation(job, x);
        if (violation == 0) return -1;
        if (violation >= least) continue;
        least = violation;
        best = row;
        memcpy(cost, x, sizeof x);
    }
    return best;
}

json_t *ctl_notice_unmet(const struct ctl_job *j, int rung)
{
    double cost[JOB_CONSTRAINTS_MAX];
    char text[200];
    long row = ctl_job_closest(j, rung, cost);
    if (row < 0) return NULL;
    return json_pack("{s:I,s:I,s:s}", "results", (json_int_t)archive_rung_count(j->archive, rung), "trial", (json_int_t)archive_trial(j->archive, row), "breaks",
                     job_violation_text(j->job, cost, text, sizeof text));
}

json_t *ctl_notice_flat(const struct ctl_job *j, int rung)
{
    json_t *list = json_array();
    double v;
    for (int k = 0; k < j->job->nobjectives; k++)
        if (ctl_job_flat(j, k, rung, &v)) json_array_append_new(list, json_pack("{s:s,s:o}", "metric", j->job->objective[k].metric.name, "value", ctl_number(v)));
    return list;
}

st_t ctl_notice(struct ctl *c, struct ctl_job *j)
{
    json_t *flat = ctl_notice_flat(j, 0), *unmet = ctl_notice_unmet(j, 0), *one;
    st_t st = ST_OK;
    size_t i;
    json_array_foreach(flat, i, one)
    {
        if (st) break;
        json_object_set_new(one, "results", json_integer((json_int_t)archive_rung_count(j->archive, 0)));
        log_info("job %lld: %s is the same in all results so far: it steers nothing", (long long)j->id, json_string_value(json_object_get(one, "metric")));
        st = ctl_event(c, j, "flat", json_incref(one));
    }
    if (!st && unmet) {
        log_info("job %lld: no result meets the constraints so far", (long long)j->id);
        st = ctl_event(c, j, "unmet", json_incref(unmet));
    }
    json_decref(flat);
    json_decref(unmet);
    return st;
}
