/* The supernet of a job with shared weights: when it is due, what is known of it, how it ends. internal.h says what it is. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "controller/internal.h"

static bool is(const struct ctl_job *j, const char *state)
{
    const char *now = json_string_value(json_object_get(j->super, "state"));
    return now && !strcmp(now, state);
}

st_t ctl_super_load(struct ctl *c, struct ctl_job *j)
{
    json_t *now;
    if (!j->job || !j->job->shared) return ST_OK;
    st_t st = db_job_supernet(c->db, j->id, &now, NULL);
    if (st) return st;
    json_decref(j->super);
    j->super = now;
    for (int i = 0; i < CTL_TEXTS; i++) { /* they name its checkpoint */
        free(j->lease_text[i]);
        j->lease_text[i] = NULL;
    }
    return ST_OK;
}

bool ctl_super_done(const struct ctl_job *j)
{
    return is(j, "ok");
}

bool ctl_super_out(const struct ctl_job *j)
{
    return is(j, "leased");
}

/* In a store of a version without such a task the trials may be further on than that. */
bool ctl_super_due(const struct ctl_job *j)
{
    if (!j->job->shared || is(j, "ok") || is(j, "leased")) return false;
    if (j->job->inherited || !ctl_job_closed(j, j->evaluations)) return true;
    long left = archive_count_state(j->archive, TRIAL_READY);
    for (long row = 0; left > 0 && row < archive_count(j->archive); row++) {
        if (archive_state(j->archive, row) != TRIAL_READY) continue;
        if (!archive_rung(j->archive, row)) return true;
        left--;
    }
    return false;
}

bool ctl_super_older(const struct ctl_job *j)
{
    return j->job->shared && !j->super && archive_rung_count(j->archive, 0) > 0 && ctl_super_due(j);
}

bool ctl_super_late(const struct ctl_job *j)
{
    return ctl_job_busy_s(j) >= j->hours * 3600;
}

void ctl_super_failed(struct ctl *c, struct ctl_job *j, const char *error)
{
    char text[256];
    snprintf(text, sizeof text, "the supernet cannot be trained: %s", error);
    text[base_utf8_cut(text, sizeof text - 1)] = 0;
    if (ctl_state_active(j->state)) ctl_job_state(c, j, CTL_FAILED, text);
}

json_t *ctl_super_json(const struct ctl *c, const struct ctl_job *j)
{
    json_t *o = j->super ? json_copy(j->super) : json_pack("{s:s}", "state", "ready");
    json_object_set_new(o, "of", ctl_number(job_rung_tokens(j->job, 0)));
    for (const struct ctl_lease *l = c->leases; l; l = l->next) {
        if (l->job != j || !l->super) continue;
        json_object_set_new(o, "step", json_integer((json_int_t)l->step));
        if (!isnan(l->tokens)) json_object_set_new(o, "tokens", ctl_number(l->tokens));
        if (!isnan(l->loss)) json_object_set_new(o, "loss", ctl_number(l->loss));
    }
    return o;
}
