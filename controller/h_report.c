/* evaluator.progress and evaluator.report. */
#include <math.h>
#include <string.h>

#include "controller/internal.h"
#include "controller/repeat.h"

#define ERROR_MAX 2000 /* bytes of a reason that are kept */
#define JOULES_MAX 1e30 /* of one training: what a search spends is their sum, and stays a number */

/* ---- reading what both may bring ---- */

static json_t *read_curve(struct base_jr *r)
{
    json_t *v = base_jr_get(r, "curve");
    bool good = !v || (json_is_array(v) && json_array_size(v) <= CTL_CURVE_MAX);
    for (size_t i = 0; good && i < json_array_size(v); i++) {
        json_t *p = json_array_get(v, i);
        good = json_array_size(p) == 2 && json_is_number(json_array_get(p, 0)) && json_is_number(json_array_get(p, 1));
    }
    if (!good) base_jr_fail(r, ST_EINVAL, "curve", "an array of at most %d pairs [tokens, loss]", CTL_CURVE_MAX);
    return json_array_size(v) ? v : NULL;
}

static json_t *read_checkpoint(struct base_jr *r, const char *key)
{
    static const char *const keys[] = {"path", "hash", "bytes", "tokens"};
    json_t *v = base_jr_get(r, key);
    if (!v || json_is_null(v) || r->st) return NULL;
    struct base_jr k = base_jr_at(v, key, r->err);
    for (int i = 0; i < 4; i++) base_jr_need(&k, keys[i]);
    const char *path = base_jr_str(&k, "path", ""), *hash = base_jr_str(&k, "hash", "");
    base_jr_int(&k, "bytes", 0, 0, INT64_MAX);
    base_jr_num(&k, "tokens", 0, 0, 1e18);
    if (!k.st && (*path != '/' || strlen(path) > 4096)) base_jr_fail(&k, ST_EINVAL, "path", "an absolute path");
    if (!k.st && (!*hash || strlen(hash) > 128)) base_jr_fail(&k, ST_EINVAL, "hash", "1 to 128 bytes");
    r->st = base_jr_done(&k, keys, 4);
    return v;
}

/* Three numbers in order, and what they are relative to; the one needs the other. */
static void read_ratio(struct base_jr *m, json_t *out)
{
    json_t *ratio = base_jr_get(m, "ratio");
    const char *anchor = base_jr_str(m, "anchor", NULL);
    if (!ratio && !anchor) return;
    double v[3] = {NAN, NAN, NAN};
    for (size_t i = 0; i < 3 && json_array_size(ratio) == 3; i++)
        if (json_is_number(json_array_get(ratio, i))) v[i] = json_number_value(json_array_get(ratio, i));
    if (!(v[1] <= v[0] && v[0] <= v[2])) base_jr_fail(m, ST_EINVAL, "ratio", "[median, low, high], low <= median <= high");
    if (!anchor || strlen(anchor) != BASE_ID_HEX - 1 || strspn(anchor, "0123456789abcdef") != BASE_ID_HEX - 1)
        base_jr_fail(m, ST_EINVAL, "anchor", "the id of the architecture that the ratio is to: %d hexadecimal digits", BASE_ID_HEX - 1);
    json_object_set_new(out, "ratio", json_pack("[f,f,f]", v[0], v[1], v[2]));
    json_object_set_new(out, "anchor", json_string(anchor));
}

/* How far the value can be believed: kept where it is said. */
static void read_quality(struct base_jr *m, json_t *out)
{
    read_ratio(m, out);
    if (base_jr_get(m, "converged")) json_object_set_new(out, "converged", json_boolean(base_jr_bool(m, "converged", false)));
    if (base_jr_get(m, "disturbed")) json_object_set_new(out, "disturbed", json_real(base_jr_num(m, "disturbed", 0, 0, 1)));
    if (base_jr_get(m, "rejected")) json_object_set_new(out, "rejected", json_integer(base_jr_int(m, "rejected", 0, 0, INT64_MAX)));
}

/* One metric as the store wants it: a number, or an object with all of median, low, high, n. NULL: not one. */
static json_t *tidy_metric(struct base_jr *r, const char *name, json_t *v)
{
    static const char *const keys[] = {"median", "low", "high", "n", "ratio", "anchor", "converged", "disturbed", "rejected"};
    char where[METRIC_NAME_MAX + 16];
    snprintf(where, sizeof where, "metrics.%s", name);
    if (json_is_number(v)) return json_incref(v);
    if (!json_is_object(v)) {
        base_jr_fail(r, ST_ENONFINITE, where, "not a finite number, nor {median, low, high, n}");
        return NULL;
    }
    struct base_jr m = base_jr_at(v, where, r->err);
    base_jr_need(&m, "median");
    double median = base_jr_num(&m, "median", 0, -1e300, 1e300);
    double low = base_jr_num(&m, "low", median, -1e300, 1e300), high = base_jr_num(&m, "high", median, -1e300, 1e300);
    int64_t n = base_jr_int(&m, "n", 1, 1, INT64_MAX);
    if (!m.st && !(low <= median && median <= high)) base_jr_fail(&m, ST_EINVAL, NULL, "low <= median <= high does not hold");
    json_t *out = json_pack("{s:f,s:f,s:f,s:I}", "median", median, "low", low, "high", high, "n", (json_int_t)n);
    if (!m.st) read_quality(&m, out);
    r->st = base_jr_done(&m, keys, sizeof keys / sizeof *keys);
    if (!r->st) return out;
    json_decref(out);
    return NULL;
}

static double metric_value(json_t *v)
{
    if (json_is_object(v)) v = json_object_get(v, "median");
    return json_is_number(v) ? json_number_value(v) : NAN;
}

/* New reference: what is kept of params.metrics. */
static json_t *read_metrics(struct base_jr *r, const struct ctl_job *j, int64_t trial)
{
    long row = archive_row(j->archive, trial);
    enum archive_repeat repeat = row < 0 ? REPEAT_NONE : archive_repeat(j->archive, row);
    json_t *v = base_jr_get(r, "metrics"), *out = json_object(), *value;
    bool custom = space_type(j->job->space) == SPACE_CUSTOM, scores = row >= 0 && archive_state(j->archive, row) == TRIAL_SCORING;
    int fresh = 0;
    const char *name;
    if (v && !json_is_object(v)) base_jr_fail(r, ST_EINVAL, "metrics", "an object: name to number or {median, low, high, n}");
    json_object_foreach(v, name, value)
    {
        struct metric m;
        if (r->st) break;
        if (strlen(name) >= METRIC_NAME_MAX) {
            base_jr_fail(r, ST_EINVAL, "metrics", "a name is longer than %d bytes", METRIC_NAME_MAX - 1);
            break;
        }
        r->st = space_metric_parse(&m, name, custom, "metrics", r->err);
        json_t *tidy = r->st ? NULL : tidy_metric(r, name, value);
        if (!tidy) break;
        if (!strcmp(name, "train_joules") && metric_value(tidy) > JOULES_MAX)
            base_jr_fail(r, ST_EINVAL, "metrics.train_joules", "more than %g J is no energy of a training", JOULES_MAX);
        if ((!custom && m.source == METRIC_PAPER) || (repeat && !repeat_brings(repeat, &m)) || (scores && m.source != METRIC_PROXY)) { /* known, and not for others to say; or not asked */
            json_decref(tidy);
            continue;
        }
        if (archive_metric(j->archive, name) < 0 && archive_metrics(j->archive) + ++fresh > CTL_METRICS_MAX)
            base_jr_fail(r, ST_ETOOBIG, "metrics", "a search keeps at most %d different metrics", CTL_METRICS_MAX);
        json_object_set_new(out, name, tidy);
    }
    return out;
}

/* ---- which lease ---- */

enum which { LEASE_MINE, LEASE_OLD, LEASE_ANSWERED };

/* LEASE_OLD: it has ended, or its epoch is another. */
static enum which find_lease(struct ctl *c, struct wire_call *call, struct base_jr *r, struct ctl_lease **out)
{
    base_jr_need(r, "lease");
    base_jr_need(r, "epoch");
    int64_t id = base_jr_int(r, "lease", 0, 1, INT64_MAX), epoch = base_jr_int(r, "epoch", 0, 1, INT64_MAX);
    if (r->st) {
        ctl_bad_params(call, r->err);
        return LEASE_ANSWERED;
    }
    struct ctl_lease *l = ctl_lease_get(c, id);
    if (!l && id > c->last_lease) {
        wire_call_error(call, WIRE_ENOTFOUND, "no lease %lld was ever given", (long long)id);
        return LEASE_ANSWERED;
    }
    *out = l;
    return l && l->epoch == epoch && !l->orphan ? LEASE_MINE : LEASE_OLD;
}

/* Whoever knows lease and epoch has it: one from before a restart is bound to the session that speaks of it. */
static void heard(struct ctl *c, struct wire_call *call, struct ctl_lease *l)
{
    struct ctl_session *s = ctl_session_of(wire_call_conn(call));
    if (!l->session && s) ctl_lease_bind(l, s);
    if (s) ctl_session_renew(c, s);
    ctl_lease_renew(c, l);
}

static bool leasing(struct ctl *c, struct wire_call *call)
{
    if (!c->reader) return true;
    wire_call_error(call, WIRE_ESTATE, "this tautd was started to read: it leases nothing");
    return false;
}

/* ---- progress ---- */

CTL_HANDLER(evaluator_progress)
{
    static const char *const keys[] = {"lease", "epoch", "step", "tokens", "loss", "metrics", "curve", "checkpoint"};
    struct ctl *c = ctx;
    struct base_err err = BASE_ERR_INIT;
    struct base_jr r = base_jr_at(params, "", &err);
    struct ctl_lease *l;
    int64_t step = base_jr_int(&r, "step", 0, 0, INT64_MAX);
    double tokens = base_jr_num(&r, "tokens", NAN, 0, 1e18);
    double loss = base_jr_num(&r, "loss", NAN, -1e300, 1e300);
    json_t *curve = read_curve(&r), *checkpoint = read_checkpoint(&r, "checkpoint");
    base_jr_done(&r, keys, 8);
    if (!leasing(c, call)) return;
    enum which which = find_lease(c, call, &r, &l);
    if (which == LEASE_ANSWERED) return;
    if (which == LEASE_OLD) {
        wire_call_result(call, json_pack("{s:b}", "go", false));
        return;
    }
    if (l->super) curve = NULL;
    if ((curve || checkpoint) && !ctl_writable(c, call)) return;
    heard(c, call, l);
    l->step = step;
    l->tokens = tokens;
    l->loss = loss;
    st_t st = ST_OK;
    if (curve || checkpoint) {
        json_t *body = ctl_lease_body(l, "saved");
        if (curve) json_object_set(body, "curve", curve);
        if (checkpoint) json_object_set(body, "checkpoint", checkpoint);
        st = ctl_event_lease(c, l, "progress", body);
    }
    bool go = !st && !*l->job->unread && ctl_state_active(l->job->state) && !(l->super && ctl_super_late(l->job));
    if (go && curve) go = !ctl_prune(c, l, json_number_value(json_array_get(json_array_get(curve, json_array_size(curve) - 1), 0)));
    json_t *metrics = base_jr_get(&r, "metrics"), *answer;
    if (go && !c->failed && json_is_object(metrics)) ctl_modelled_ask(c, l, metrics);
    if (c->failed) {
        ctl_answer_failed(c, call);
        return;
    }
    answer = json_pack("{s:b}", "go", go);
    json_t *names = ctl_modelled_names(l);
    if (names && json_is_object(metrics)) json_object_set(answer, "modelled", names);
    json_decref(names);
    wire_call_result(call, answer);
}

/* ---- report ---- */

/* Objectives that only the evaluator can say must be there; what was measured before, on the lowest rung or when it was scored, may hold on. */
static void check_objectives(struct base_jr *r, const struct ctl_job *j, int64_t trial, json_t *metrics)
{
    bool lm = space_type(j->job->space) == SPACE_LM;
    long row = archive_row(j->archive, trial);
    for (int i = 0; i < j->job->nobjectives; i++) {
        const struct metric *m = &j->job->objective[i].metric;
        int col = archive_metric(j->archive, m->name);
        if (space_metric_once(m) && row >= 0 && col >= 0 && !isnan(archive_median(j->archive, col, row)) && !archive_estimated(j->archive, col, row)) continue;
        if ((lm && m->source == METRIC_PAPER) || json_object_get(metrics, m->name)) continue;
        enum archive_repeat repeat = row < 0 ? REPEAT_NONE : archive_repeat(j->archive, row);
        if (repeat && !repeat_brings(repeat, m)) continue;
        base_jr_fail(r, ST_EINVAL, "metrics", "the objective '%s' is missing", m->name);
    }
}

static st_t record(struct ctl *c, struct ctl_lease *l, const char *status, json_t *metrics, json_t *estimates, json_t *curve, json_t *checkpoint, json_t *stable,
                   const char *error, double joules)
{
    struct ctl_job *j = l->job;
    const struct ctl_known *k = l->session ? l->session->known : ctl_known_get(c, l->evaluator);
    if (isnan(joules)) joules = metric_value(json_object_get(metrics, "train_joules"));
    json_t *body = json_pack("{s:I,s:I,s:I,s:s,s:I,s:O,s:f}", "trial", (json_int_t)l->trial, "lease", (json_int_t)l->id, "epoch",
                             (json_int_t)l->epoch, "status", status, "device", (json_int_t)(k ? k->device : 0), "metrics", metrics, "busy_s",
                             ctl_lease_account(l));
    if (body && estimates) json_object_set(body, "estimates", estimates);
    if (body && curve) json_object_set(body, "curve", curve);
    if (body && checkpoint) json_object_set(body, "checkpoint", checkpoint);
    if (body && stable) json_object_set(body, "stable", stable);
    if (body && error) json_object_set_new(body, "error", json_stringn(error, base_utf8_cut(error, ERROR_MAX)));
    if (body && joules > 0) json_object_set_new(body, "joules", json_real(joules));
    long row = archive_row(j->archive, l->trial);
    if (body && j->job->rungs > 1 && row >= 0) json_object_set_new(body, "rung", json_integer(archive_rung(j->archive, row)));
    st_t st = ctl_event_lease(c, l, "reported", body);
    if (st) return st;
    if (joules > 0) j->spent_joules += joules;
    if (!strcmp(status, "failed")) log_info("job %lld trial %lld failed: %s", (long long)j->id, (long long)l->trial, error ? error : "no reason given");
    ctl_lease_end(c, l);
    ctl_job_reported(c, j);
    return ST_OK;
}

static bool scoring(const struct ctl_lease *l)
{
    long row = l->super ? -1 : archive_row(l->job->archive, l->trial);
    return row >= 0 && archive_state(l->job->archive, row) == TRIAL_SCORING;
}

/* Its scores; no evaluation. */
static st_t record_scored(struct ctl *c, struct ctl_lease *l, json_t *metrics)
{
    const struct ctl_known *k = l->session ? l->session->known : ctl_known_get(c, l->evaluator);
    json_t *body = ctl_lease_body(l, NULL);
    json_object_set_new(body, "device", json_integer(k ? k->device : 0));
    json_object_set(body, "metrics", metrics);
    json_object_set_new(body, "busy_s", json_real(ctl_lease_account(l)));
    st_t st = ctl_event_lease(c, l, "scored", body);
    if (!st) ctl_lease_end(c, l);
    return st;
}

/* A supernet that is trained, or cannot be. */
static st_t record_super(struct ctl *c, struct ctl_lease *l, const char *status, json_t *checkpoint, const char *error, double joules)
{
    struct ctl_job *j = l->job;
    bool failed = !strcmp(status, "failed");
    char why[ERROR_MAX + 1] = "no reason given";
    json_t *body = ctl_lease_body(l, status);
    if (error) snprintf(why, sizeof why, "%.*s", (int)base_utf8_cut(error, ERROR_MAX), error);
    json_object_set_new(body, "busy_s", json_real(ctl_lease_account(l)));
    if (checkpoint) json_object_set(body, "checkpoint", checkpoint);
    if (failed) json_object_set_new(body, "error", json_string(why));
    if (joules > 0) json_object_set_new(body, "joules", json_real(joules));
    st_t st = ctl_event_lease(c, l, "supernet", body);
    if (st) return st;
    if (joules > 0) j->spent_joules += joules;
    log_info("job %lld: the supernet %s%s", (long long)j->id, failed ? "cannot be trained: " : "is trained", failed ? why : "");
    ctl_lease_end(c, l);
    if (failed) ctl_super_failed(c, j, why);
    return ST_OK;
}

/* Preempted: what it brings is kept for whoever goes on. */
static st_t give_back(struct ctl *c, struct ctl_lease *l, json_t *curve, json_t *checkpoint, const char *error)
{
    st_t st = ST_OK;
    if (curve || checkpoint) {
        json_t *body = ctl_lease_body(l, "saved");
        if (body && curve) json_object_set(body, "curve", curve);
        if (body && checkpoint) json_object_set(body, "checkpoint", checkpoint);
        st = ctl_event_lease(c, l, "progress", body);
    }
    return st ? st : ctl_lease_return(c, l, error && *error ? error : "preempted", false);
}

CTL_HANDLER(evaluator_report)
{
    static const char *const keys[] = {"lease", "epoch", "status", "metrics", "curve", "checkpoint", "stable", "error", "joules"};
    struct ctl *c = ctx;
    struct base_err err = BASE_ERR_INIT;
    struct base_jr r = base_jr_at(params, "", &err);
    struct ctl_lease *l;
    base_jr_need(&r, "status");
    const char *status = base_jr_str(&r, "status", ""), *error = base_jr_str(&r, "error", NULL);
    bool ok = !strcmp(status, "ok"), failed = !strcmp(status, "failed");
    if (!r.st && !ok && !failed && strcmp(status, "preempted")) base_jr_fail(&r, ST_EINVAL, "status", "\"ok\", \"failed\" or \"preempted\"");
    json_t *curve = read_curve(&r), *checkpoint = read_checkpoint(&r, "checkpoint"), *stable = read_checkpoint(&r, "stable");
    double joules = base_jr_num(&r, "joules", NAN, 0, JOULES_MAX);
    base_jr_done(&r, keys, 9);
    if (!leasing(c, call)) return;
    enum which which = find_lease(c, call, &r, &l);
    if (which == LEASE_ANSWERED) return;
    if (which == LEASE_OLD) {
        wire_call_error(call, WIRE_ESTALE, "the lease is not yours any more");
        return;
    }
    if (ctl_job_archive(c, l->job, &err)) {
        wire_call_error(call, WIRE_EINTERNAL, "%s", err.what);
        return;
    }
    heard(c, call, l);
    json_t *metrics = read_metrics(&r, l->job, l->trial), *estimates = r.st || !ok || l->super ? NULL : ctl_modelled_fill(c, l, metrics);
    if (l->super) curve = NULL;
    if (!r.st && ok && !l->super && !scoring(l)) check_objectives(&r, l->job, l->trial, metrics);
    if (!r.st && ok && l->super && !checkpoint) base_jr_fail(&r, ST_EINVAL, "checkpoint", "must be there: the file that candidates inherit from");
    if (r.st) {
        ctl_bad_params(call, &err);
    } else if (ctl_writable(c, call)) {
        st_t st = ok && scoring(l) ? record_scored(c, l, metrics) : l->super && (ok || failed) ? record_super(c, l, status, checkpoint, error, joules) : ok || failed ? record(c, l, status, metrics, estimates, curve, checkpoint, stable, error, joules) : give_back(c, l, curve, checkpoint, error);
        if (!st) wire_call_result(call, json_object());
        else if (c->failed) ctl_answer_failed(c, call);
        else wire_call_error(call, WIRE_ESTALE, "the lease is not yours any more"); /* the job is damaged, and stopped */
    }
    json_decref(metrics);
}
