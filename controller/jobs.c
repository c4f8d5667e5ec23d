/* Jobs in memory. The store is the truth: everything here can be loaded again at any time (after a rollback it is). */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/pareto.h"
#include "controller/estimate.h"
#include "controller/internal.h"

static const char *const state_names[CTL_STATES] = {"running", "waiting", "paused", "done", "cancelled", "failed"};

const char *ctl_state_name(enum ctl_state s)
{
    return state_names[s];
}

int ctl_state_find(const char *name)
{
    for (int i = 0; i < CTL_STATES; i++)
        if (!strcmp(state_names[i], name)) return i;
    return -1;
}

/* ---- memory ---- */

static void drop_archive(struct ctl_job *j)
{
    proposer_free(j->proposer);
    estimator_free(j->estimator);
    archive_free(j->archive);
    audit_fini(&j->audit);
    j->audit_reports = -1;
    j->proposer = NULL;
    j->estimator = NULL;
    j->archive = NULL;
}

static void job_free_memory(struct ctl_job *j)
{
    drop_archive(j);
    job_free(j->job);
    json_decref(j->json);
    json_decref(j->files);
    json_decref(j->by);
    json_decref(j->filter);
    json_decref(j->super);
    for (int i = 0; i < CTL_TEXTS; i++) free(j->lease_text[i]);
    free(j->lost);
    free(j);
}

struct ctl_job *ctl_job_get(struct ctl *c, int64_t id)
{
    for (int i = 0; i < c->njobs; i++)
        if (c->job[i]->id == id) return c->job[i];
    return NULL;
}

struct ctl_job *ctl_job_param(struct ctl *c, struct wire_call *call, struct base_jr *r, const char *key)
{
    base_jr_need(r, key);
    int64_t id = base_jr_int(r, key, 0, 1, INT64_MAX);
    if (r->st) {
        ctl_bad_params(call, r->err);
        return NULL;
    }
    struct ctl_job *j = ctl_job_get(c, id);
    if (!j) wire_call_error(call, WIRE_ENOTFOUND, "no job %lld", (long long)id);
    return j;
}

/* ---- loading ---- */

struct load {
    struct ctl *c;
    struct ctl_job *out; /* the last one */
    struct base_err *err;
};

/* A job stays in the list whatever its text or its trials have become; the scheduler stops it. */
static void set_unread(struct ctl_job *j, const char *what, const struct base_err *err)
{
    char text[1100], why[1200];
    snprintf(why, sizeof why, "this tautd does not read its %s: %s", what, base_err_text(err, text, sizeof text));
    snprintf(j->unread, sizeof j->unread, "%.*s", (int)base_utf8_cut(why, sizeof j->unread - 1), why);
    log_warn("job %lld: %s", (long long)j->id, j->unread);
    job_free(j->job);
    j->job = NULL;
}

void ctl_job_damaged(struct ctl *c, struct ctl_job *j, const char *fmt, ...)
{
    va_list ap;
    if (*j->unread) return;
    va_start(ap, fmt);
    vsnprintf(j->unread, sizeof j->unread, fmt, ap);
    va_end(ap);
    log_warn("job %lld: %s", (long long)j->id, j->unread);
    c->kick = true;
}

/* What its row and its target say must be as Taut writes it. */
static void check_row(struct ctl *c, struct ctl_job *j, const struct db_job *d)
{
    const struct ctl_device *target = d->device ? ctl_device_get(c, d->device) : NULL;
    const char *what = d->damage;
    if (d->nref && j->job && d->nref != j->job->nobjectives) {
        j->nref = 0;
        what = "reference";
    }
    if (!what && d->files && !j->files) what = "files";
    if (!what && d->device && !(target && json_is_object(target->body))) what = "target device";
    if (what) ctl_job_damaged(c, j, "the store is damaged: its %s cannot be read", what);
}

/* Trials that are out on no lease that is known would be waited for without end. */
static void check_trials(struct ctl *c, struct ctl_job *j)
{
    const struct archive_damage *list;
    long n = archive_damaged(j->archive, &list), out = archive_count_state(j->archive, TRIAL_LEASED) + archive_count_state(j->archive, TRIAL_SCORING);
    if (n && list->trial)
        ctl_job_damaged(c, j, "the store is damaged: trial %lld: %s%s", (long long)list->trial, list->why, n > 1 ? ", and others" : "");
    else if (n) ctl_job_damaged(c, j, "the store is damaged: of its trials, %s", list->why);
    else if (out != j->nleases - ctl_super_out(j)) ctl_job_damaged(c, j, "the store is damaged: %ld of its trials are out, on %d leases", out, j->nleases);
}

static st_t job_new(struct ctl *c, const struct db_job *d, struct ctl_job **out)
{
    struct ctl_job **grown = realloc(c->job, ((size_t)c->njobs + 1) * sizeof *grown);
    if (!grown) return ST_ENOMEM;
    c->job = grown;
    struct ctl_job *j = calloc(1, sizeof *j);
    if (!j) return ST_ENOMEM;
    j->id = d->id;
    j->hv_n = -1;
    snprintf(j->name, sizeof j->name, "%s", d->name);
    memcpy(j->identity, d->identity, sizeof j->identity);
    j->submitted_ms = d->submitted_ms;
    for (int i = 0; i < JOB_OBJECTIVES_MAX; i++) j->best[i] = NAN;
    struct base_err err = BASE_ERR_INIT;
    st_t st = base_json_parse(&j->json, d->text, strlen(d->text), "job", &err);
    if (!st) st = job_from_json(&j->job, j->json, &err);
    if (st == ST_ENOMEM) {
        job_free_memory(j);
        return st;
    }
    if (st) set_unread(j, "job", &err);
    j->files = d->files ? json_loads(d->files, JSON_DECODE_ANY, NULL) : NULL;
    c->job[c->njobs++] = j;
    *out = j;
    return ST_OK;
}

static st_t load_one(void *ctx, const struct db_job *d)
{
    struct load *l = ctx;
    struct ctl_job *j = ctl_job_get(l->c, d->id);
    st_t st = j ? ST_OK : job_new(l->c, d, &j);
    if (st) return st;
    int state = ctl_state_find(d->state);
    j->state = state < 0 ? CTL_FAILED : (enum ctl_state)state;
    snprintf(j->reason, sizeof j->reason, "%s", d->reason ? d->reason : "");
    j->evaluations = d->evaluations;
    j->hours = d->hours;
    j->joules = d->joules;
    j->device = d->device;
    snprintf(j->precision, sizeof j->precision, "%s", d->precision);
    j->busy_s = d->busy_s;
    j->spent_joules = d->spent_joules;
    j->last_seq = d->last_seq;
    j->nref = d->nref;
    memcpy(j->ref, d->ref, sizeof j->ref);
    j->exhausted = false;
    json_decref(j->by);
    json_decref(j->filter);
    j->by = j->filter = NULL;
    j->by_known = j->filter_known = false;
    j->promote_seq = j->repeat_seq = j->audit_seq = 0;
    j->judged = j->filtered = j->audit_reports = j->estimated = -1;
    j->sum_n = j->sum_evaluations = 0;
    j->hv_n = -1;
    for (int i = 0; i < JOB_OBJECTIVES_MAX; i++) j->best[i] = NAN;
    check_row(l->c, j, d);
    drop_archive(j);
    l->out = j;
    return ctl_super_load(l->c, j);
}

st_t ctl_job_load(struct ctl *c, int64_t id, struct ctl_job **out, struct base_err *err)
{
    struct load l = {.c = c, .err = err};
    st_t st = db_jobs(c->db, id, load_one, &l);
    if (!st && !l.out) st = ST_ENOTFOUND;
    if (!st && l.out->job && (ctl_state_active(l.out->state) || l.out->nleases)) st = ctl_job_archive(c, l.out, err);
    if (st) return base_err_set(err, st, "", "cannot load job %lld: %s", (long long)id, base_status_text(st));
    if (out) *out = l.out;
    return ST_OK;
}

st_t ctl_jobs_load(struct ctl *c, struct base_err *err)
{
    struct load l = {.c = c, .err = err};
    st_t st = db_jobs(c->db, 0, load_one, &l);
    return st ? base_err_set(err, st, db_path(c->db), "cannot read the jobs: %s", base_status_text(st)) : ST_OK;
}

st_t ctl_jobs_archives(struct ctl *c, struct base_err *err)
{
    st_t st = ST_OK;
    for (int i = 0; !st && i < c->njobs; i++) {
        struct ctl_job *j = c->job[i];
        if (!j->job || !ctl_state_active(j->state)) continue;
        st = ctl_job_archive(c, j, err);
        if (st == ST_EVERSION) st = ST_OK; /* the scheduler stops it */
    }
    return st;
}

void ctl_jobs_free(struct ctl *c)
{
    while (c->njobs) job_free_memory(c->job[--c->njobs]);
    free(c->job);
}

void ctl_jobs_committed(struct ctl *c)
{
    for (int i = 0; i < c->njobs; i++) {
        c->job[i]->touched = false;
        c->job[i]->mark_kept_ns = c->job[i]->mark_ns;
    }
}

void ctl_jobs_rolled_back(struct ctl *c)
{
    for (int i = 0; i < c->njobs; i++) {
        struct ctl_job *j = c->job[i];
        struct base_err err = BASE_ERR_INIT;
        if (!j->touched) continue;
        j->touched = false;
        j->mark_ns = j->mark_kept_ns;
        st_t st = ctl_job_load(c, j->id, NULL, &err);
        if (st == ST_ENOTFOUND) { /* its submission was undone */
            memmove(&c->job[i], &c->job[i + 1], (size_t)(c->njobs - i - 1) * sizeof *c->job);
            c->njobs--;
            i--;
            job_free_memory(j);
        } else if (st) {
            log_error("%s", err.what); /* without its archive it is read again when it is next looked at */
        }
    }
}

/* Finished jobs keep their archives while few do: the one that was not looked at for longest goes. */
static void make_room(struct ctl *c, const struct ctl_job *keep)
{
    struct ctl_job *oldest = NULL;
    int idle = 0;
    for (int i = 0; i < c->njobs; i++) {
        struct ctl_job *j = c->job[i];
        if (!j->archive || j == keep || ctl_state_active(j->state) || j->nleases || j->touched) continue;
        idle++;
        if (!oldest || j->used_ns < oldest->used_ns) oldest = j;
    }
    if (idle > CTL_ARCHIVES_IDLE) drop_archive(oldest);
}

st_t ctl_job_archive(struct ctl *c, struct ctl_job *j, struct base_err *err)
{
    j->used_ns = base_clock_ns();
    if (j->archive) return ST_OK;
    if (!j->job) return base_err_set(err, ST_EVERSION, "", "job %lld: %s", (long long)j->id, j->unread);
    struct base_err own = BASE_ERR_INIT, *why = err ? err : &own;
    st_t st = archive_load(&j->archive, c->db, j->id, j->job, why);
    if (!st) {
        check_trials(c, j);
        make_room(c, j);
        return ST_OK;
    }
    j->archive = NULL;
    if (st != ST_ECORRUPT) return st;
    set_unread(j, "trials", why);
    c->kick = true;
    return base_err_set(why, ST_EVERSION, "", "job %lld: %s", (long long)j->id, j->unread);
}

/* ---- what is recorded ---- */

st_t ctl_job_state(struct ctl *c, struct ctl_job *j, enum ctl_state s, const char *reason)
{
    if (j->state == s && !strcmp(j->reason, reason ? reason : "")) return ST_OK;
    json_t *body = json_pack("{s:s}", "state", ctl_state_name(s));
    if (body && reason) json_object_set_new(body, "reason", json_string(reason));
    st_t st = ctl_event(c, j, "state", body);
    if (st) return st;
    log_info("job %lld is %s%s%s", (long long)j->id, ctl_state_name(s), reason ? ": " : "", reason ? reason : "");
    j->state = s;
    snprintf(j->reason, sizeof j->reason, "%s", reason ? reason : "");
    c->kick = true;
    return ST_OK;
}

st_t ctl_job_start(struct ctl *c, struct ctl_job *j)
{
    double least = INFINITY;
    for (int i = 0; i < c->njobs; i++)
        if (c->job[i] != j && ctl_state_active(c->job[i]->state)) least = fmin(least, c->job[i]->share_s);
    if (isfinite(least) && least > j->share_s) j->share_s = least;
    return c->reader ? ctl_job_state(c, j, CTL_WAITING, "no evaluator is connected") : ctl_job_state(c, j, CTL_RUNNING, NULL);
}

st_t ctl_job_budget(struct ctl *c, struct ctl_job *j, double evaluations, double hours)
{
    json_t *body = json_object();
    if (isfinite(evaluations)) json_object_set_new(body, "evaluations", ctl_number(evaluations));
    if (isfinite(hours)) json_object_set_new(body, "hours", ctl_number(hours));
    st_t st = ctl_event(c, j, "budget", body);
    if (st) return st;
    j->evaluations = evaluations;
    j->hours = hours;
    c->kick = true;
    return ST_OK;
}

double ctl_job_busy_s(const struct ctl_job *j)
{
    return j->busy_s + (j->nleases ? (double)(base_clock_ns() - j->mark_ns) / 1e9 : 0);
}

bool ctl_job_closed(const struct ctl_job *j, double evaluations)
{
    return (j->exhausted && !ctl_filter_left(j)) || (double)archive_planned(j->archive) >= evaluations ||
           (j->job->shared && archive_count(j->archive) && ctl_job_busy_s(j) >= (1 - JOB_FINAL_SHARE) * j->hours * 3600);
}

/* Verdicts that are not what they were. */
static st_t judge(struct ctl *c, struct ctl_job *j)
{
    struct audit t;
    if (j->judged == archive_reported(j->archive) || !audit_judgement_due(j->job, j->archive)) return ST_OK;
    st_t st = audit_table(&t, j->job, j->archive, false);
    if (st) return st;
    for (int i = 0; i < t.columns && !st; i++) {
        const struct audit_column *k = &t.column[i];
        bool relied = audit_judge(k);
        if (relied == k->relied) continue;
        st = ctl_event(c, j, "verdict", json_pack("{s:s,s:b,s:s,s:i,s:o}", "shortcut", k->name, "relied", relied, "metric", t.target->metric.name, "trials",
                                                  k->all.n, "better", ctl_number(k->better.value)));
        if (!st)
            log_info("job %lld: %s is %s: over %d trials of the audit its rank correlation with %s is %+.2f against that of counting parameters", (long long)j->id, k->name,
                     relied ? "relied on again" : "not relied on any more", k->all.n, t.target->metric.name, k->better.value);
    }
    audit_fini(&t);
    if (!st) j->judged = archive_reported(j->archive);
    return st;
}

void ctl_job_audit(struct ctl *c, struct ctl_job *j)
{
    bool closed = ctl_job_closed(j, j->evaluations);
    enum audit_drawn how;
    long row;
    if (c->reader || j->job->audit == 0 || (j->audit_seq == j->last_seq && j->audit_closed == closed) || !audit_wanted(j->job, j->archive)) return;
    st_t st = judge(c, j);
    while (!st && (row = audit_next(j->job, j->archive, &(struct audit_budget){j->evaluations, j->hours}, closed, &how)) >= 0)
        st = ctl_event(c, j, "audit", json_pack("{s:I,s:s}", "trial", (json_int_t)archive_trial(j->archive, row), "drawn", archive_drawn_words[how]));
    j->audit_seq = st ? 0 : j->last_seq;
    j->audit_closed = closed;
}

st_t ctl_job_audit_table(struct ctl_job *j, const struct audit **out)
{
    long reports = archive_reported(j->archive), drawn = archive_audited(j->archive);
    *out = &j->audit;
    if (j->audit_reports != reports || j->audit_drawn != drawn) {
        audit_fini(&j->audit);
        j->audit_reports = -1;
        st_t st = audit_table(&j->audit, j->job, j->archive, true);
        if (st) return st;
        j->audit_reports = reports;
        j->audit_drawn = drawn;
    }
    for (int i = 0; i < j->audit.columns; i++) j->audit.column[i].relied = archive_relied(j->archive, j->audit.column[i].name);
    return ST_OK;
}

long ctl_job_promote(struct ctl_job *j, double evaluations)
{
    bool closed = ctl_job_closed(j, evaluations);
    if (j->promote_seq != j->last_seq || j->promote_closed != closed) {
        j->promote = fidelity_next(j->job, j->archive, closed);
        j->promote_seq = j->last_seq;
        j->promote_closed = closed;
    }
    return j->promote;
}

bool ctl_job_repeat(struct ctl_job *j, struct repeat *out)
{
    if (j->repeat_seq != j->last_seq || j->repeat_evaluations != j->evaluations) {
        if (!repeat_next(j->job, j->archive, j->evaluations, &j->repeat)) j->repeat.row = -1;
        j->repeat_seq = j->last_seq;
        j->repeat_evaluations = j->evaluations;
    }
    *out = j->repeat;
    return out->row >= 0;
}

/* Is something on its way up, or to go up? */
static bool unfinished(struct ctl_job *j, double evaluations)
{
    return j->job->rungs > 1 && (archive_count_state(j->archive, TRIAL_READY) > 0 || archive_count_state(j->archive, TRIAL_LEASED) > 0 ||
                                 ctl_job_promote(j, evaluations) >= 0);
}

bool ctl_job_used_up(struct ctl_job *j, double evaluations, double hours, char *why, size_t size)
{
    long n = archive_evaluations(j->archive);
    double busy = ctl_job_busy_s(j) / 3600;
    bool enough = (double)n >= evaluations, late = j->job->shared && !j->exhausted && ctl_job_closed(j, evaluations);
    if (enough && !unfinished(j, evaluations)) snprintf(why, size, "budget used up: %ld evaluations", n);
    else if (busy >= hours || (late && !unfinished(j, evaluations))) snprintf(why, size, "budget used up: %.3g hours", busy);
    else return false;
    return true;
}

/* The worst of the first results, a tenth of its size further out. A worst of 0 has no size: a tenth of the spread then. */
static void set_reference(struct ctl *c, struct ctl_job *j)
{
    const struct job *job = j->job;
    long n = archive_reported(j->archive), left = job->population;
    double worst[JOB_OBJECTIVES_MAX], best[JOB_OBJECTIVES_MAX];
    bool any = false;
    for (long i = 0; i < n && left > 0; i++) {
        long row = archive_reported_row(j->archive, i);
        double y[JOB_OBJECTIVES_MAX], violation;
        if (archive_reported_rung(j->archive, i)) continue;
        left--;
        if (!archive_has(j->archive, row, 0) || !proposer_values(job, j->archive, row, 0, y, &violation)) continue;
        for (int k = 0; k < job->nobjectives; k++) {
            if (!any || y[k] > worst[k]) worst[k] = y[k];
            if (!any || y[k] < best[k]) best[k] = y[k];
        }
        any = true;
    }
    json_t *point = any ? json_array() : NULL;
    if (!point) return;
    for (int k = 0; k < job->nobjectives; k++) {
        double size = worst[k] != 0 ? fabs(worst[k]) : worst[k] > best[k] ? worst[k] - best[k] : 1;
        double ref = worst[k] + 0.1 * size;
        worst[k] = job->objective[k].goal == METRIC_MAX ? -ref : ref;
        json_array_append_new(point, json_real(worst[k]));
    }
    if (ctl_event(c, j, "reference", json_pack("{s:o}", "point", point))) return;
    j->nref = job->nobjectives;
    memcpy(j->ref, worst, sizeof *worst * (size_t)j->nref);
    j->hv_n = -1;
    ctl_notice(c, j);
}

void ctl_job_finish(struct ctl *c, struct ctl_job *j, const char *why)
{
    char text[256], breaks[160];
    double cost[JOB_CONSTRAINTS_MAX];
    if (!j->nref) set_reference(c, j);
    if (archive_rung_count(j->archive, 0)) {
        long row = ctl_job_closest(j, archive_top(j->archive), cost);
        snprintf(text, sizeof text, "%.80s; no result meets the constraints, the closest is trial %lld: %s", why, row < 0 ? 0 : (long long)archive_trial(j->archive, row),
                 row < 0 ? "" : job_violation_text(j->job, cost, breaks, sizeof breaks));
        ctl_job_state(c, j, CTL_DONE, row < 0 ? why : text);
    } else {
        snprintf(text, sizeof text, "no trial succeeded; %s%s", why,
                 j->job->shared && !ctl_super_done(j) ? ", and the supernet was not trained by then: give more hours, or a smaller fidelity.tokens" : "");
        ctl_job_state(c, j, CTL_FAILED, text);
    }
}

void ctl_job_reported(struct ctl *c, struct ctl_job *j)
{
    char text[256];
    if (ctl_job_archive(c, j, NULL) || *j->unread) return;
    long n = archive_evaluations(j->archive), least = j->job->population > 16 ? j->job->population : 16;
    c->kick = true;
    if (!j->nref && n >= j->job->population) set_reference(c, j);
    if (ctl_state_active(j->state) && n >= least && !archive_rung_count(j->archive, 0)) {
        snprintf(text, sizeof text, "the first %ld trials all failed; see their errors (trial.get)", n);
        ctl_job_state(c, j, CTL_FAILED, text);
    }
}

/* ---- what is read ---- */

st_t ctl_job_summary(struct ctl *c, struct ctl_job *j)
{
    /* Reports are never taken back, so what is summed up stays right while the archive is out of memory. */
    if (!j->job || (!j->archive && j->sum_n)) return ST_OK;
    st_t st = ctl_job_archive(c, j, NULL);
    if (st) return st;
    j->sum_evaluations = archive_evaluations(j->archive);
    for (; j->sum_n < archive_reported(j->archive); j->sum_n++) {
        long row = archive_reported_row(j->archive, j->sum_n);
        int top = j->job->rungs - 1;
        double y[JOB_OBJECTIVES_MAX], violation;
        if (archive_reported_rung(j->archive, j->sum_n) != top || !archive_has(j->archive, row, top)) continue;
        if (!proposer_values(j->job, j->archive, row, top, y, &violation)) continue;
        if (violation > 0) continue;
        for (int k = 0; k < j->job->nobjectives; k++) {
            double sign = j->job->objective[k].goal == METRIC_MAX ? -1 : 1;
            if (y[k] < sign * j->best[k] || isnan(j->best[k])) {
                j->best[k] = sign * y[k];
                j->best_trial[k] = archive_trial(j->archive, row);
            }
        }
    }
    return ST_OK;
}

st_t ctl_job_by(struct ctl *c, struct ctl_job *j, json_t **by)
{
    st_t st = j->by_known ? ST_OK : db_job_strategy(c->db, j->id, &j->by, NULL);
    j->by_known = !st;
    *by = j->by;
    return st;
}

double ctl_job_hypervolume(struct ctl *c, struct ctl_job *j)
{
    const struct job *job = j->job;
    if (!j->nref || ctl_job_archive(c, j, NULL)) return NAN;
    if (j->hv_n == archive_reported(j->archive)) return j->hv;
    struct front_query q = {.nobj = job->nobjectives, .constrained = true, .rung = job->rungs - 1, .first = true};
    struct front f = {0};
    memcpy(q.objective, job->objective, sizeof q.objective);
    st_t st = archive_front(j->archive, &q, &f, NULL);
    if (st) return st == ST_ENOTFOUND ? 0 : NAN;
    double ref[JOB_OBJECTIVES_MAX], *y = malloc(((size_t)f.n + 1) * (size_t)job->nobjectives * sizeof *y), hv = NAN;
    for (int k = 0; k < job->nobjectives; k++) ref[k] = job->objective[k].goal == METRIC_MAX ? -j->ref[k] : j->ref[k];
    if (y) {
        for (long i = 0; i < f.n; i++) {
            double row[JOB_OBJECTIVES_MAX], violation;
            proposer_values(job, j->archive, f.row[i], q.rung, row, &violation);
            memcpy(y + (size_t)i * (size_t)job->nobjectives, row, sizeof *y * (size_t)job->nobjectives);
        }
        hv = base_pareto_hypervolume(y, f.n, job->nobjectives, ref);
        j->hv = hv;
        j->hv_n = isnan(hv) ? -1 : archive_reported(j->archive);
    }
    free(y);
    archive_front_fini(&f);
    return hv;
}

bool ctl_metric_measured(const struct metric *m)
{
    switch (m->source) {
    case METRIC_PROFILE:
    case METRIC_ENERGY: return true;
    case METRIC_TRAIN: return strncmp(m->name, "valid_", 6) != 0; /* losses are the same everywhere, bytes and rates are not */
    default: return false;
    }
}

int ctl_job_needs(const struct ctl_job *j, const struct metric **out)
{
    const struct job *job = j->job;
    bool paper = space_type(job->space) == SPACE_LM; /* elsewhere nobody but the evaluator knows them */
    int n = 0;
    for (int i = 0; i < job->nobjectives + job->nconstraints; i++) {
        const struct metric *m = i < job->nobjectives ? &job->objective[i].metric : &job->constraint[i - job->nobjectives].metric;
        if (!paper || m->source != METRIC_PAPER) out[n++] = m;
    }
    return n;
}
