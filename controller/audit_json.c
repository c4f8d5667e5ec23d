/* The audit as job.get shows it. */
#include <math.h>

#include "controller/internal.h"

static json_t *value_json(const struct base_stats_value *v)
{
    return json_pack("{s:o,s:o,s:o}", "value", ctl_number(v->value), "low", ctl_number(v->low), "high", ctl_number(v->high));
}

static json_t *pairs_json(long pairs, long violations)
{
    return json_pack("{s:I,s:I}", "pairs", (json_int_t)pairs, "violations", (json_int_t)violations);
}

static json_t *column_json(const struct audit_column *k, bool lm)
{
    json_t *o = json_pack("{s:s,s:i,s:o,s:o,s:o,s:o,s:{s:i,s:o,s:o}}", "name", k->name, "trials", k->all.n, "rho", value_json(&k->all.rho), "tau_b", value_json(&k->all.tau), "regret",
                          value_json(&k->regret), "better", value_json(&k->better), "best_tenth", "trials", k->tenth.n, "rho", value_json(&k->tenth.rho), "tau_b",
                          value_json(&k->tenth.tau));
    if (o && lm) json_object_set_new(o, "nesting", pairs_json(k->nested, k->violations));
    if (o && k->shortcut) json_object_set_new(o, "relied", json_boolean(k->relied));
    if (o && k->shortcut) json_object_set_new(o, "judged", json_boolean(audit_judged(k)));
    return o;
}

json_t *ctl_audit_json(struct ctl_job *j)
{
    const struct audit *t;
    bool lm = space_type(j->job->space) == SPACE_LM;
    if (!audit_wanted(j->job, j->archive)) return NULL;
    json_t *o = json_pack("{s:f,s:s}", "share", j->job->audit, "metric", audit_target(j->job)->metric.name), *shortcuts = json_array(), *references = json_array();
    if (o && j->job->audit > 0 && !ctl_job_audit_table(j, &t)) {
        if (j->job->rungs > 1) {
            json_object_set_new(o, "wanted", isfinite(j->evaluations) ? json_integer(job_audit_trials(j->job, j->evaluations)) : json_null());
            json_object_set_new(o, "drawn", json_integer(t->drawn));
            json_object_set_new(o, "rungs_relied", json_boolean(audit_rungs_relied(j->job, j->archive)));
        }
        json_object_set_new(o, "results", json_integer(t->n));
        json_object_set_new(o, "best_tenth", json_integer(t->tenth));
        if (lm) json_object_set_new(o, "nesting", pairs_json(t->nested, t->violations));
        for (int i = 0; i < t->columns; i++) json_array_append_new(t->column[i].shortcut ? shortcuts : references, column_json(&t->column[i], lm));
        json_object_set(o, "shortcuts", shortcuts);
        json_object_set(o, "references", references);
    }
    json_decref(shortcuts);
    json_decref(references);
    return o;
}
