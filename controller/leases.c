/* Leases: who has which trial, and how it comes back. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "controller/internal.h"

#define SHARE_LEAST_S 1.0 /* a trial counts as so long at least: short ones are shared out by their number */

struct ctl_lease *ctl_lease_get(struct ctl *c, int64_t id)
{
    for (struct ctl_lease *l = c->leases; l; l = l->next)
        if (l->id == id) return l;
    return NULL;
}

void ctl_lease_bind(struct ctl_lease *l, struct ctl_session *s)
{
    if (l->session == s) return;
    if (l->session) l->session->nleases--;
    l->session = s;
    if (s) s->nleases++;
}

void ctl_lease_renew(struct ctl *c, struct ctl_lease *l)
{
    l->expires_ns = base_clock_ns() + (uint64_t)(c->lease_s * 1e9);
}

void ctl_session_renew(struct ctl *c, struct ctl_session *s)
{
    for (struct ctl_lease *l = c->leases; l; l = l->next)
        if (l->session == s) ctl_lease_renew(c, l);
}

/* In order of their ids, so that whatever walks the list does the same in every run. */
static void link_lease(struct ctl *c, struct ctl_lease *l)
{
    struct ctl_lease **p = &c->leases;
    while (*p && (*p)->id < l->id) p = &(*p)->next;
    l->next = *p;
    *p = l;
    l->job->nleases++;
}

static void unlink_lease(struct ctl *c, struct ctl_lease *l)
{
    for (struct ctl_lease **p = &c->leases; *p; p = &(*p)->next) {
        if (*p != l) continue;
        *p = l->next;
        break;
    }
    l->job->nleases--;
}

static void lease_free(struct ctl_lease *l)
{
    json_decref(l->modelled);
    free(l);
}

static struct ctl_lease *lease_new(struct ctl *c, struct ctl_job *j, int64_t id)
{
    struct ctl_lease *l = calloc(1, sizeof *l);
    if (!l) return NULL;
    l->id = id;
    l->job = j;
    l->since_ns = base_clock_ns();
    l->tokens = l->loss = NAN;
    if (!j->nleases) j->mark_ns = l->since_ns;
    if (id > c->last_lease) c->last_lease = id;
    ctl_lease_renew(c, l);
    return l;
}

st_t ctl_lease_grant(struct ctl *c, struct ctl_session *s, struct ctl_job *j, long row, struct ctl_lease **out)
{
    struct ctl_lease *l = lease_new(c, j, c->last_lease + 1);
    if (!l) return ST_ENOMEM;
    l->super = row < 0;
    l->trial = l->super ? 0 : archive_trial(j->archive, row);
    l->epoch = (l->super ? json_integer_value(json_object_get(j->super, "epoch")) : archive_epoch(j->archive, row)) + 1;
    l->evaluator = s->known->id;
    l->fresh = l->recalled = true;
    json_t *body = ctl_lease_body(l, "leased");
    json_object_set_new(body, "evaluator", json_integer(l->evaluator));
    if (!l->super) json_object_set_new(body, "task", json_string(archive_state(j->archive, row) == TRIAL_DRAFT ? "score" : j->job->shared && !archive_rung(j->archive, row) ? "validate" : archive_repeat(j->archive, row) == REPEAT_PROFILE ? "profile" : "train"));
    json_object_set_new(body, "device", json_integer(s->known->device));
    json_object_set_new(body, "expires", json_integer(base_clock_wall_ms() + (int64_t)(c->lease_s * 1000)));
    st_t st = ctl_event(c, j, l->super ? "supernet" : "leased", body);
    if (!st && l->super && (st = ctl_super_load(c, j))) c->failed = st;
    if (st) {
        free(l);
        return st;
    }
    link_lease(c, l);
    ctl_lease_bind(l, s);
    *out = l;
    return ST_OK;
}

json_t *ctl_lease_body(const struct ctl_lease *l, const char *state)
{
    if (l->super) return json_pack("{s:s,s:I,s:I}", "state", state, "lease", (json_int_t)l->id, "epoch", (json_int_t)l->epoch);
    return json_pack("{s:I,s:I,s:I}", "trial", (json_int_t)l->trial, "lease", (json_int_t)l->id, "epoch", (json_int_t)l->epoch);
}

/* Busy time is the time with an evaluator at work, however many: each event that ends a lease accounts for what has passed since the last one. */
double ctl_lease_account(struct ctl_lease *l)
{
    uint64_t now = base_clock_ns();
    if (!l->session && !l->orphan) return 0; /* from before a restart and never claimed: nobody knows until when it was worked on */
    double s = (double)(now - l->job->mark_ns) / 1e9;
    l->job->mark_ns = now;
    l->job->busy_s += s;
    return s;
}

void ctl_lease_end(struct ctl *c, struct ctl_lease *l)
{
    double s = (double)(base_clock_ns() - l->since_ns) / 1e9;
    l->job->share_s += s > SHARE_LEAST_S ? s : SHARE_LEAST_S;
    unlink_lease(c, l);
    if (l->session) l->session->nleases--; /* the pointer stays, in case the end is undone */
    l->next = c->buried;
    c->buried = l;
    c->kick = true;
}

/* A trial is to blame for lost evaluators when they end at work on it again and again; one that gets further each time is not. */
static int lost_times(struct ctl_job *j, int64_t trial, int64_t step)
{
    for (int i = 0; i < j->nlost; i++) {
        struct ctl_lost *o = &j->lost[i];
        if (o->trial != trial) continue;
        if (step > o->step) *o = (struct ctl_lost){trial, step, 0};
        return ++o->times;
    }
    struct ctl_lost *grown = realloc(j->lost, ((size_t)j->nlost + 1) * sizeof *grown);
    if (!grown) return 0;
    j->lost = grown;
    grown[j->nlost++] = (struct ctl_lost){trial, step, 1};
    return 1;
}

st_t ctl_lease_return(struct ctl *c, struct ctl_lease *l, const char *reason, bool lost)
{
    struct ctl_job *j = l->job;
    if (c->broken || c->failed) { /* as soon as the store can say so */
        l->orphan = true;
        return ST_ENOSPC;
    }
    bool give_up = lost && lost_times(j, l->trial, l->step) >= CTL_LOST_MAX;
    char why[96];
    json_t *body = ctl_lease_body(l, give_up ? "failed" : "ready");
    snprintf(why, sizeof why, "its evaluator was lost %d times while at work on it", CTL_LOST_MAX);
    if (body) json_object_set_new(body, "busy_s", json_real(ctl_lease_account(l)));
    l->orphan = true; /* until this is committed */
    if (body && give_up) {
        const struct ctl_known *k = ctl_known_get(c, l->evaluator);
        json_object_set_new(body, "status", json_string("failed"));
        json_object_set_new(body, "device", json_integer(k ? k->device : 0));
        json_object_set_new(body, "metrics", json_object());
        json_object_set_new(body, "error", json_string(why));
    } else if (body) {
        json_object_set_new(body, "reason", json_string(reason));
    }
    st_t st = ctl_event_lease(c, l, give_up ? "reported" : "returned", body);
    if (st && !c->failed) { /* there is nothing to be given back */
        ctl_lease_end(c, l);
        return ST_OK;
    }
    if (st) return st;
    if (l->super) log_info("job %lld: the supernet is given back: %s", (long long)j->id, reason);
    else log_info("job %lld trial %lld: given back: %s", (long long)j->id, (long long)l->trial, reason);
    ctl_lease_end(c, l);
    for (int i = 0; give_up && i < j->nlost; i++)
        if (j->lost[i].trial == l->trial) j->lost[i].times = 0; /* a job that is resumed leases its supernet again */
    if (give_up && l->super) ctl_super_failed(c, j, why);
    else if (give_up) ctl_job_reported(c, j);
    return ST_OK;
}

void ctl_session_leave(struct ctl *c, struct ctl_session *s, const char *reason)
{
    for (struct ctl_lease *l = c->leases, *next; l; l = next) {
        next = l->next;
        if (l->session == s) ctl_lease_return(c, l, reason, true);
    }
}

void ctl_leases_tick(struct ctl *c, uint64_t now)
{
    if (c->reader || c->broken || c->stopping) return;
    for (struct ctl_lease *l = c->leases, *next; l; l = next) {
        next = l->next;
        if (l->orphan) ctl_lease_return(c, l, "connection closed", false);
        else if (l->expires_ns <= now) ctl_lease_return(c, l, "expired: nothing was heard of its evaluator", l->session != NULL);
    }
}

void ctl_leases_committed(struct ctl *c)
{
    for (struct ctl_lease *l = c->leases; l; l = l->next) l->fresh = false;
    while (c->buried) {
        struct ctl_lease *l = c->buried;
        c->buried = l->next;
        lease_free(l);
    }
}

void ctl_leases_rolled_back(struct ctl *c)
{
    for (struct ctl_lease *l = c->leases, *next; l; l = next) {
        next = l->next;
        if (!l->fresh) continue;
        unlink_lease(c, l);
        ctl_lease_bind(l, NULL);
        lease_free(l);
    }
    while (c->buried) {
        struct ctl_lease *l = c->buried;
        c->buried = l->next;
        if (l->fresh) {
            lease_free(l);
            continue;
        }
        if (l->session) l->session->nleases++;
        link_lease(c, l);
    }
    for (struct ctl_lease *l = c->leases; l; l = l->next) { /* what it was told may be undone: the store says */
        json_decref(l->modelled);
        l->modelled = NULL;
        l->recalled = false;
    }
}

static st_t load_one(void *ctx, const struct db_lease *d)
{
    struct ctl *c = ctx;
    struct ctl_job *j = ctl_job_get(c, d->job);
    if (!j || !d->holds) {
        if (!j) log_warn("lease %lld is of job %lld, which is not there", (long long)d->lease, (long long)d->job);
        else ctl_job_damaged(c, j, "the store is damaged: trial %lld is not out on its lease %lld, epoch %lld", (long long)d->trial, (long long)d->lease, (long long)d->epoch);
        return ST_OK;
    }
    struct ctl_lease *l = lease_new(c, j, d->lease);
    if (!l) return ST_ENOMEM;
    l->trial = d->trial;
    l->super = !d->trial;
    /* Its expiry as it was stored tells when it was given. */
    int64_t age_ms = base_clock_wall_ms() - (d->expires_ms - (int64_t)(c->lease_s * 1000));
    uint64_t age_ns = age_ms > 0 ? (uint64_t)age_ms * 1000000 : 0;
    if (age_ns < l->since_ns) l->since_ns -= age_ns;
    if (l->since_ns < j->mark_ns) j->mark_ns = j->mark_kept_ns = l->since_ns;
    l->epoch = d->epoch;
    l->evaluator = d->evaluator;
    link_lease(c, l);
    return ST_OK;
}

st_t ctl_leases_load(struct ctl *c, struct base_err *err)
{
    c->last_lease = db_next_id(c->db, DB_LEASE) - 1;
    st_t st = db_leases(c->db, load_one, c);
    return st ? base_err_set(err, st, db_path(c->db), "cannot read the leases: %s", base_status_text(st)) : ST_OK;
}

void ctl_leases_free(struct ctl *c)
{
    ctl_leases_committed(c);
    while (c->leases) {
        struct ctl_lease *l = c->leases;
        c->leases = l->next;
        lease_free(l);
    }
}
