/* Which candidates are scored before they are trained, and which of those are trained. filter.h says how that is found; here it is looked at and recorded. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "controller/internal.h"

st_t ctl_job_filter(struct ctl *c, struct ctl_job *j, json_t **filter)
{
    st_t st = j->filter_known ? ST_OK : db_job_filter(c->db, j->id, &j->filter, NULL);
    j->filter_known = !st;
    *filter = j->filter;
    return st;
}

bool ctl_job_filters(struct ctl *c, struct ctl_job *j)
{
    json_t *now;
    return filter_possible(j->job) && !ctl_job_filter(c, j, &now) && json_is_true(json_object_get(now, "on"));
}

static json_t *weights_json(const struct filter *f)
{
    json_t *o = json_object();
    for (int k = 0; k < f->proxies; k++) json_object_set_new(o, f->proxy[k].name, json_real(f->proxy[k].weight));
    return o;
}

static void put_figures(json_t *o, const struct filter *f)
{
    json_object_set_new(o, "results", json_integer(f->n));
    json_object_set_new(o, "combined", ctl_number(f->combined));
    json_object_set_new(o, "single", ctl_number(f->single));
    if (*f->best) json_object_set_new(o, "best", json_string(f->best));
    json_object_set_new(o, "weights", weights_json(f));
}

st_t ctl_filter_look(struct ctl *c, struct ctl_job *j)
{
    struct filter f;
    if (j->filtered == archive_reported(j->archive) || !filter_due(j->job, j->archive)) return ST_OK;
    bool on = ctl_job_filters(c, j);
    st_t st = filter_fit(&f, j->job, j->archive);
    if (st) return st;
    if (f.on != on) {
        json_t *body = json_pack("{s:b,s:I}", "on", f.on, "proposal", (json_int_t)archive_count(j->archive));
        put_figures(body, &f);
        st = ctl_event(c, j, "filter", json_incref(body));
        if (st) json_decref(body);
        else {
            json_decref(j->filter);
            j->filter = body;
            j->filter_known = true;
            log_info("job %lld: candidates are %s: within the better half of %ld results a combination of proxies has %.2f, the best single one %.2f", (long long)j->id,
                     f.on ? "scored first" : "not scored first any more", f.n, f.combined, f.single);
        }
    }
    filter_fini(&f);
    if (!st) j->filtered = archive_reported(j->archive);
    return st;
}

bool ctl_filter_left(const struct ctl_job *j)
{
    return archive_count_state(j->archive, TRIAL_SCORED) + archive_count_state(j->archive, TRIAL_PASSED) > 0;
}

static st_t record_choice(struct ctl *c, struct ctl_job *j, const long *rows, long n, long which, bool blind, const struct filter *f)
{
    json_t *passed = json_array();
    for (long i = 0; i < n; i++)
        if (i != which) json_array_append_new(passed, json_integer((json_int_t)archive_trial(j->archive, rows[i])));
    json_t *body = json_pack("{s:I,s:o}", "trial", (json_int_t)archive_trial(j->archive, rows[which]), "passed", passed);
    if (body && blind) json_object_set_new(body, "blind", json_true());
    if (body && !blind && f->proxies) json_object_set_new(body, "predicted", json_real(filter_predict(f, j->archive, rows[which])));
    return ctl_event(c, j, "chosen", body);
}

st_t ctl_filter_choose(struct ctl *c, struct ctl_job *j, long *row)
{
    const struct archive *a = j->archive;
    bool on = ctl_job_filters(c, j), last = j->exhausted;
    long scored = archive_count_state(a, TRIAL_SCORED), passed = archive_count_state(a, TRIAL_PASSED), n = 0;
    long want = last ? scored + passed : on ? FILTER_GROUP : 1;
    *row = -1;
    if (last ? !want : scored < want) return ST_OK;
    long *rows = malloc((size_t)want * sizeof *rows);
    if (!rows) return ST_ENOMEM;
    for (long i = 0; n < want && i < archive_count(a); i++)
        if (archive_state(a, i) == TRIAL_SCORED || (last && archive_state(a, i) == TRIAL_PASSED)) rows[n++] = i;
    bool blind = !last && (!on || passed / (FILTER_GROUP - 1) % FILTER_BLIND == FILTER_BLIND - 1);
    struct filter f = {.n = 0};
    st_t st = blind ? ST_OK : filter_fit(&f, j->job, a);
    if (!st) {
        long which = blind ? 0 : filter_choose(&f, a, rows, n);
        long keep = rows[which];
        st = last ? record_choice(c, j, &keep, 1, 0, false, &f) : record_choice(c, j, rows, n, which, blind, &f);
        if (!st) *row = keep;
    }
    filter_fini(&f);
    free(rows);
    return st;
}

json_t *ctl_filter_json(struct ctl *c, struct ctl_job *j)
{
    struct filter f;
    json_t *now;
    if (!filter_possible(j->job) || ctl_job_filter(c, j, &now) || filter_fit(&f, j->job, j->archive)) return NULL;
    json_t *o = json_pack("{s:b,s:i,s:i,s:I,s:I}", "on", json_is_true(json_object_get(now, "on")), "least", FILTER_LEAST, "group", FILTER_GROUP, "scored",
                          (json_int_t)archive_count_state(j->archive, TRIAL_SCORED), "passed", (json_int_t)archive_count_state(j->archive, TRIAL_PASSED));
    if (o && now) json_object_set(o, "since", json_object_get(now, "proposal"));
    if (o) put_figures(o, &f);
    filter_fini(&f);
    return o;
}
