/* What leases are told to leave out, since the latency model knows enough of it. */
#include <math.h>
#include <string.h>

#include "controller/internal.h"

static st_t estimator(struct ctl_job *j)
{
    return j->estimator ? ST_OK : estimator_new(&j->estimator, j->job, j->archive);
}

static bool possible(const struct ctl_job *j)
{
    const struct metric *m[ESTIMATE_METRICS];
    return j->job && j->archive && estimate_metrics(j->job, m) > 0;
}

static json_t *estimates_json(const struct estimate_answer *x)
{
    json_t *o = json_object();
    for (int i = 0; i < x->n; i++)
        json_object_set_new(o, x->metric[i]->name, json_pack("{s:f,s:f,s:f}", "median", x->value[i].value, "low", x->value[i].low, "high", x->value[i].high));
    return o;
}

/* What the lease was told before a restart. */
static st_t recall(struct ctl *c, struct ctl_lease *l)
{
    if (l->modelled || l->recalled) return ST_OK;
    l->recalled = true;
    return possible(l->job) ? db_lease_modelled(c->db, l->job->id, l->id, l->epoch, &l->modelled) : ST_OK;
}

void ctl_modelled_ask(struct ctl *c, struct ctl_lease *l, json_t *metrics)
{
    struct ctl_job *j = l->job;
    struct estimate_answer x;
    if (l->super || !possible(j) || c->broken || recall(c, l) || l->modelled || estimator(j)) return;
    long row = archive_row(j->archive, l->trial);
    if (row < 0 || archive_state(j->archive, row) != TRIAL_LEASED || estimator_ask(j->estimator, row, metrics, &x) || !x.n) return;
    json_t *body = json_pack("{s:I,s:I,s:I,s:b,s:o}", "trial", (json_int_t)l->trial, "lease", (json_int_t)l->id, "epoch", (json_int_t)l->epoch, "saved", x.saved, "estimates",
                             estimates_json(&x));
    if (body && x.by) json_object_set_new(body, "by", json_integer(x.by));
    if (!ctl_event_lease(c, l, "modelled", json_incref(body))) l->modelled = json_incref(body);
    json_decref(body);
}

bool ctl_modelled_interval(struct ctl_job *j, long row, const struct metric *m, struct latency_value *out)
{
    return possible(j) && !estimator(j) && estimator_interval(j->estimator, row, m, out);
}

json_t *ctl_modelled_names(const struct ctl_lease *l)
{
    const char *name;
    json_t *v, *list = json_is_true(json_object_get(l->modelled, "saved")) ? json_array() : NULL;
    if (list) json_object_foreach(json_object_get(l->modelled, "estimates"), name, v) json_array_append_new(list, json_string(name));
    return list;
}

json_t *ctl_modelled_fill(struct ctl *c, struct ctl_lease *l, json_t *metrics)
{
    const char *name;
    json_t *v, *estimates, *n;
    if (recall(c, l)) return NULL;
    estimates = json_object_get(l->modelled, "estimates");
    if (json_is_true(json_object_get(l->modelled, "saved")))
        json_object_foreach(estimates, name, v)
        {
            if (json_object_get(metrics, name)) continue;
            n = json_copy(v);
            json_object_set_new(n, "n", json_integer(0));
            json_object_set_new(metrics, name, n);
        }
    return estimates;
}

void ctl_modelled_judge(struct ctl *c, struct ctl_job *j)
{
    const struct metric *m[ESTIMATE_METRICS];
    char name[METRIC_NAME_MAX + 8];
    if (c->reader || !possible(j) || j->estimated == archive_reported(j->archive) || estimator(j)) return;
    st_t st = ST_OK;
    for (int i = 0, n = estimate_metrics(j->job, m); i < n && !st; i++) {
        bool was = estimate_relied(j->archive, m[i]), relied;
        struct estimate_stats s;
        st = estimator_judge(j->estimator, m[i], &relied);
        if (!st) st = estimator_stats(j->estimator, m[i], &s);
        if (st || relied == was) continue;
        st = ctl_event(c, j, "verdict", json_pack("{s:s,s:b,s:s,s:I,s:o,s:I,s:I,s:o}", "shortcut", estimate_name(m[i], name), "relied", relied, "metric", m[i]->name, "trials",
                                                  (json_int_t)s.measured, "error", ctl_number(s.error), "checked", (json_int_t)s.checked, "held", (json_int_t)s.held, "mape",
                                                  ctl_number(s.mape)));
        if (!st)
            log_info("job %lld: the model of %s is %s: mean error %.1f %%", (long long)j->id, m[i]->name, relied ? "relied on" : "not relied on any more",
                     100 * (relied || isnan(s.mape) ? s.error : s.mape));
    }
    if (!st) j->estimated = archive_reported(j->archive);
}

json_t *ctl_modelled_json(struct ctl_job *j)
{
    const struct metric *m[ESTIMATE_METRICS];
    json_t *list = json_array();
    if (!possible(j) || estimator(j)) {
        json_decref(list);
        return NULL;
    }
    for (int i = 0, n = estimate_metrics(j->job, m); i < n; i++) {
        struct estimate_stats s;
        if (estimator_stats(j->estimator, m[i], &s)) continue;
        json_array_append_new(list, json_pack("{s:s,s:b,s:I,s:o,s:I,s:I,s:I,s:o,s:o}", "metric", m[i]->name, "relied", estimate_relied(j->archive, m[i]), "measured",
                                              (json_int_t)s.measured, "error", ctl_number(s.error), "saved", (json_int_t)s.saved, "checked", (json_int_t)s.checked, "held",
                                              (json_int_t)s.held, "mape", ctl_number(s.mape), "worst", ctl_number(s.worst)));
    }
    return list;
}
