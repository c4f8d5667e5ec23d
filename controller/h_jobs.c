/* job.list, job.get, job.pause, job.resume, job.cancel. */
#include <math.h>
#include <string.h>

#include "base/clock.h"
#include "controller/internal.h"

#define DAMAGED_MAX 20 /* damaged trials that are named */

static json_t *budget_json(const struct ctl_job *j)
{
    json_t *o = json_object();
    if (isfinite(j->evaluations)) json_object_set_new(o, "evaluations", ctl_number(j->evaluations));
    if (isfinite(j->hours)) json_object_set_new(o, "hours", ctl_number(j->hours));
    return o;
}

static json_t *best_json(const struct ctl_job *j, bool trials)
{
    json_t *o = json_object();
    for (int k = 0; j->job && k < j->job->nobjectives; k++) {
        if (isnan(j->best[k])) continue;
        json_t *v = ctl_number(j->best[k]);
        if (trials) v = json_pack("{s:o,s:I}", "value", v, "trial", (json_int_t)j->best_trial[k]);
        json_object_set_new(o, j->job->objective[k].metric.name, v);
    }
    return o;
}

static json_t *objectives_json(const struct job *job)
{
    json_t *list = json_array();
    for (int k = 0; job && k < job->nobjectives; k++)
        json_array_append_new(list, json_pack("{s:s,s:s,s:s}", "metric", job->objective[k].metric.name, "goal",
                                              job->objective[k].goal == METRIC_MAX ? "max" : "min", "unit",
                                              job->objective[k].metric.unit ? job->objective[k].metric.unit : ""));
    return list;
}

/* What job.list and job.get say alike. brief: what is known without the trials. */
static json_t *row_json(struct ctl *c, struct ctl_job *j, bool trials, bool brief)
{
    json_t *o = json_pack("{s:I,s:s,s:s,s:s,s:I}", "id", (json_int_t)j->id, "name", j->name, "state", ctl_state_name(j->state), "identity",
                          j->identity, "submitted_ms", (json_int_t)j->submitted_ms);
    if (!brief && !ctl_job_summary(c, j) && j->job) {
        json_object_set_new(o, "evaluations", json_integer((json_int_t)j->sum_evaluations));
    }
    json_object_set_new(o, "budget", budget_json(j));
    json_object_set_new(o, "objectives", objectives_json(j->job));
    if (!brief) json_object_set_new(o, "best", best_json(j, trials));
    const char *reason = *j->unread ? j->unread : j->reason;
    if (*reason) json_object_set_new(o, "reason", json_string(reason));
    if (*j->unread) json_object_set_new(o, "unread", json_string(j->unread));
    json_object_set_new(o, "busy_s", json_real(ctl_job_busy_s(j)));
    return o;
}

CTL_HANDLER(job_list)
{
    static const char *const keys[] = {"state", "brief"};
    struct ctl *c = ctx;
    struct base_err err = BASE_ERR_INIT;
    struct base_jr r = base_jr_at(params, "", &err);
    bool brief = base_jr_bool(&r, "brief", false);
    const char *word = base_jr_str(&r, "state", NULL);
    int state = word ? ctl_state_find(word) : -1;
    if (word && state < 0) {
        const char *near = base_nearest(word, (const char *const[]){"running", "waiting", "paused", "done", "cancelled", "failed"}, CTL_STATES);
        base_jr_fail(&r, ST_EINVAL, "state", "no state '%.32s'%s%s%s", word, near ? "; did you mean '" : "", near ? near : "", near ? "'?" : "");
    }
    if (base_jr_done(&r, keys, 2)) {
        ctl_bad_params(call, &err);
        return;
    }
    json_t *list = json_array();
    for (int i = 0; i < c->njobs; i++)
        if (state < 0 || (int)c->job[i]->state == state) json_array_append_new(list, row_json(c, c->job[i], false, brief));
    wire_call_result(call, list);
}

static struct ctl_job *job_alone(struct ctl *c, struct wire_call *call, json_t *params, struct base_err *err)
{
    static const char *const keys[] = {"id"};
    struct base_jr r = base_jr_at(params, "", err);
    base_jr_done(&r, keys, 1);
    return ctl_job_param(c, call, &r, "id");
}

static json_t *running_json(const struct ctl *c, const struct ctl_job *j)
{
    json_t *list = json_array();
    for (const struct ctl_lease *l = c->leases; l; l = l->next) {
        if (l->job != j) continue;
        const struct ctl_known *k = l->session ? l->session->known : ctl_known_get((struct ctl *)c, l->evaluator);
        json_t *o = json_pack("{s:o,s:I,s:s,s:b,s:f,s:I}", "trial", l->super ? json_null() : json_integer(l->trial), "evaluator", (json_int_t)(k ? k->id : 0), "name",
                              k ? k->name : "", "connected", l->session != NULL, "seconds", (double)(base_clock_ns() - l->since_ns) / 1e9, "step",
                              (json_int_t)l->step);
        if (o && j->archive && j->job && j->job->rungs > 1 && !l->super)
            json_object_set_new(o, "rung", json_integer(archive_rung(j->archive, archive_row(j->archive, l->trial))));
        if (o && !isnan(l->tokens)) json_object_set_new(o, "tokens", ctl_number(l->tokens));
        if (o && !isnan(l->loss)) json_object_set_new(o, "loss", ctl_number(l->loss));
        json_array_append_new(list, o);
    }
    return list;
}

/* Of each rung: tokens, how many trials got to it, how many of them have a result there. */
static json_t *rungs_json(const struct ctl_job *j)
{
    json_t *list = json_array();
    for (int r = 0; r < j->job->rungs; r++)
        json_array_append_new(list, json_pack("{s:i,s:s*,s:o,s:I,s:I}", "rung", r, "weights", !j->job->shared ? NULL : r ? "own" : "inherited", "tokens", ctl_number(job_rung_tokens(j->job, r)), "trials",
                                              (json_int_t)archive_rung_reached(j->archive, r), "ok",
                                              (json_int_t)archive_rung_count(j->archive, r)));
    return list;
}

/* What is left: evaluations, and seconds at the rate so far. */
static json_t *to_go_json(const struct ctl_job *j, double busy)
{
    json_t *o = json_object();
    double n = (double)archive_evaluations(j->archive), seconds = INFINITY;
    double supernet = json_number_value(json_object_get(j->super, "busy_s")); /* is trained once */
    if (isfinite(j->evaluations)) {
        double left = fmax(j->evaluations - n, 0);
        json_object_set_new(o, "evaluations", ctl_number(left));
        if (n > 0) seconds = left * fmax(busy - supernet, 0) / n;
    }
    if (isfinite(j->hours)) seconds = fmin(seconds, fmax(j->hours * 3600 - busy, 0));
    if (isfinite(seconds)) json_object_set_new(o, "busy_s", json_real(seconds));
    if (isfinite(seconds) && j->spent_joules > 0 && busy > 0) json_object_set_new(o, "joules", json_real(seconds * j->spent_joules / busy));
    return o;
}

static json_t *damaged_json(const struct archive *a)
{
    const struct archive_damage *list;
    long n = archive_damaged(a, &list);
    json_t *first = json_array();
    for (long i = 0; i < n && i < DAMAGED_MAX; i++)
        json_array_append_new(first, json_pack("{s:o,s:s}", "trial", list[i].trial ? json_integer((json_int_t)list[i].trial) : json_null(), "why", list[i].why));
    return json_pack("{s:I,s:o}", "trials", (json_int_t)n, "first", first);
}

CTL_HANDLER(job_get)
{
    static const char *const keys[] = {"id", "brief"};
    struct ctl *c = ctx;
    struct base_err err = BASE_ERR_INIT;
    struct base_jr r = base_jr_at(params, "", &err);
    bool brief = base_jr_bool(&r, "brief", false);
    base_jr_done(&r, keys, 2);
    struct ctl_job *j = ctl_job_param(c, call, &r, "id");
    if (!j) return;
    json_t *o = row_json(c, j, true, brief);
    if (brief) {
        wire_call_result(call, o);
        return;
    }
    if (!o || (j->job && ctl_job_archive(c, j, &err))) {
        json_decref(o);
        wire_call_error(call, WIRE_EINTERNAL, "%s", err.what);
        return;
    }
    if (j->json) json_object_set(o, "job", j->json);
    if (j->files) json_object_set(o, "files", j->files);
    if (j->job) {
        const struct job *job = j->job;
        bool exact;
        double size = space_size(job->space, &exact), busy = ctl_job_busy_s(j), n = (double)archive_evaluations(j->archive);
        double hv = ctl_job_hypervolume(c, j);
        json_t *by;
        json_object_set_new(o, "seed", json_integer((json_int_t)job->seed));
        json_object_set_new(o, "strategy", json_string(job->strategy));
        if (!ctl_job_by(c, j, &by) && by) json_object_set(o, "proposes", by);
        json_object_set_new(o, "space", json_pack("{s:s,s:o,s:b,s:s*}", "type", space_type(job->space) == SPACE_LM ? "lm" : "custom", "size",
                                                  ctl_number(size), "exact", exact, "problem", job->problem ? job->problem->name : NULL));
        json_t *target = json_pack("{s:s}", "wanted", job->target);
        const struct ctl_device *d = j->device ? ctl_device_get(c, j->device) : NULL;
        if (target && d) {
            json_object_set_new(target, "device", json_integer((json_int_t)d->id));
            json_object_set_new(target, "kind", json_string(d->kind));
        }
        json_object_set_new(o, "target", target);
        if (space_type(job->space) == SPACE_LM)
            json_object_set_new(o, "precision", json_pack("{s:s,s:s*}", "wanted", job->precision, "used", *j->precision ? j->precision : NULL));
        json_object_set_new(o, "trials", json_pack("{s:I,s:I,s:I,s:I}", "ready", (json_int_t)(archive_count_state(j->archive, TRIAL_READY) + archive_count_state(j->archive, TRIAL_DRAFT)), "leased",
                                                   (json_int_t)(archive_count_state(j->archive, TRIAL_LEASED) + archive_count_state(j->archive, TRIAL_SCORING)), "ok",
                                                   (json_int_t)archive_count_state(j->archive, TRIAL_OK), "failed",
                                                   (json_int_t)archive_count_state(j->archive, TRIAL_FAILED)));
        if (archive_repeats(j->archive)) json_object_set_new(json_object_get(o, "trials"), "repeats", json_integer((json_int_t)archive_repeats(j->archive)));
        if (archive_damaged(j->archive, NULL)) json_object_set_new(o, "damaged", damaged_json(j->archive));
        if (job->rungs > 1) {
            json_object_set_new(json_object_get(o, "trials"), "pruned", json_integer((json_int_t)archive_count_state(j->archive, TRIAL_PRUNED)));
            json_object_set_new(o, "rungs", rungs_json(j));
        }
        if (filter_possible(job)) {
            json_object_set_new(json_object_get(o, "trials"), "scored", json_integer((json_int_t)archive_count_state(j->archive, TRIAL_SCORED)));
            json_object_set_new(json_object_get(o, "trials"), "passed", json_integer((json_int_t)archive_count_state(j->archive, TRIAL_PASSED)));
        }
        if (job->shared) json_object_set_new(o, "supernet", ctl_super_json(c, j));
        json_t *filter = ctl_filter_json(c, j);
        if (filter) json_object_set_new(o, "filter", filter);
        json_t *flat = ctl_notice_flat(j, archive_top(j->archive)), *unmet = ctl_notice_unmet(j, archive_top(j->archive));
        if (json_array_size(flat)) json_object_set(o, "flat", flat);
        if (unmet) json_object_set_new(o, "unmet", unmet);
        json_decref(flat);
        json_t *audit = ctl_audit_json(j);
        if (audit) json_object_set_new(o, "audit", audit);
        json_t *models = ctl_modelled_json(j);
        if (models) json_object_set_new(o, "models", models);
        json_object_set_new(o, "redrawn", json_pack("{s:I,s:I}", "known", (json_int_t)j->known, "infeasible", (json_int_t)j->infeasible));
        json_object_set_new(o, "rates", json_pack("{s:o,s:o}", "evaluations_per_hour", ctl_number(busy > 0 ? n * 3600 / busy : NAN), "watts",
                                                  ctl_number(busy > 0 && j->spent_joules > 0 ? j->spent_joules / busy : NAN)));
        json_object_set_new(o, "joules", ctl_number(j->spent_joules > 0 ? j->spent_joules : NAN));
        json_object_set_new(o, "to_go", to_go_json(j, busy));
        json_t *ref = j->nref ? json_array() : json_null();
        for (int k = 0; k < j->nref; k++) json_array_append_new(ref, ctl_number(j->ref[k]));
        json_object_set_new(o, "reference", ref);
        json_object_set_new(o, "hypervolume", ctl_number(hv));
    }
    json_object_set_new(o, "running", running_json(c, j));
    json_object_set_new(o, "last_seq", json_integer((json_int_t)j->last_seq));
    wire_call_result(call, o);
}

/* ---- pause, resume, cancel ---- */

static void answer_state(struct ctl *c, struct wire_call *call, struct ctl_job *j, st_t st)
{
    if (st) ctl_answer_failed(c, call);
    else wire_call_result(call, json_pack("{s:s}", "state", ctl_state_name(j->state)));
}

static void change(struct ctl *c, struct wire_call *call, json_t *params, enum ctl_state to)
{
    struct base_err err = BASE_ERR_INIT;
    struct ctl_job *j = job_alone(c, call, params, &err);
    if (!j || !ctl_writable(c, call)) return;
    if (j->state == CTL_DONE || j->state == CTL_FAILED || (j->state == CTL_CANCELLED && to != CTL_CANCELLED)) {
        wire_call_error(call, WIRE_ESTATE, "job %lld is %s already", (long long)j->id, ctl_state_name(j->state));
        return;
    }
    /* Running trials hear it at their next progress and come back preempted, with their checkpoints. */
    answer_state(c, call, j, ctl_job_state(c, j, to, NULL));
}

CTL_HANDLER(job_pause)
{
    change(ctx, call, params, CTL_PAUSED);
}

CTL_HANDLER(job_cancel)
{
    change(ctx, call, params, CTL_CANCELLED);
}

/* A bound of params.budget: what it says, null for none, else what holds now. */
static double bound(struct base_jr *r, const char *key, double now)
{
    json_t *v = base_jr_get(r, key);
    return json_is_null(v) ? INFINITY : v ? base_jr_num(r, key, 0, 0, 1e12) : now;
}

CTL_HANDLER(job_resume)
{
    static const char *const keys[] = {"id", "budget"}, *const bounds[] = {"evaluations", "hours", "joules"};
    struct ctl *c = ctx;
    struct base_err err = BASE_ERR_INIT;
    struct base_jr r = base_jr_at(params, "", &err);
    char why[256];
    base_jr_done(&r, keys, 2);
    struct ctl_job *j = ctl_job_param(c, call, &r, "id");
    if (!j) return;
    double evaluations = j->evaluations, hours = j->hours;
    json_t *budget = base_jr_get(&r, "budget");
    if (budget) {
        struct base_jr b = base_jr_at(budget, "budget", &err);
        evaluations = bound(&b, "evaluations", evaluations);
        hours = bound(&b, "hours", hours);
        if (base_jr_get(&b, "joules")) base_jr_fail(&b, ST_ENOTSUP, "joules", "a budget in joules is not built yet");
        if (base_jr_done(&b, bounds, 3)) {
            ctl_bad_params(call, &err);
            return;
        }
    }
    if (!ctl_writable(c, call)) return;
    if (j->state == CTL_CANCELLED) {
        wire_call_error(call, WIRE_ESTATE, "job %lld is cancelled: submit it again", (long long)j->id);
        return;
    }
    if (ctl_job_archive(c, j, &err)) {
        wire_call_error(call, WIRE_ESTATE, "%s", err.what);
        return;
    }
    if (*j->unread) {
        wire_call_error(call, WIRE_ESTATE, "job %lld: %s", (long long)j->id, j->unread);
        return;
    }
    if (j->state != CTL_PAUSED && ctl_job_used_up(j, evaluations, hours, why, sizeof why)) { /* a paused one comes to its end by that */
        wire_call_error(call, WIRE_ESTATE, "job %lld: %s; give a larger one to go on", (long long)j->id, why);
        return;
    }
    st_t st = ST_OK;
    if (evaluations != j->evaluations || hours != j->hours) st = ctl_job_budget(c, j, evaluations, hours);
    if (!ctl_state_active(j->state)) {
        j->exhausted = false;
        if (!st) st = ctl_job_start(c, j);
    }
    answer_state(c, call, j, st);
}
