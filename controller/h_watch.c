/* job.watch: a job's events as notifications, those of the past first.
 *
 * The past is read from the store a piece at a time between other work, so that a long history neither stops the daemon nor lies in memory all at once.
 * A watch that has caught up is fed by ctl_event. */
#include <stdlib.h>
#include <string.h>

#include "controller/internal.h"

#define PIECE 250 /* events at a time */

static void notify(struct ctl_watch *w, int64_t seq, int64_t at_ms, const char *type, json_t *body)
{
    json_t *params = json_pack("{s:I,s:I,s:I,s:s}", "id", (json_int_t)w->job, "seq", (json_int_t)seq, "at_ms", (json_int_t)at_ms, "type", type);
    if (params) json_object_update(params, body);
    wire_conn_notify(w->conn, "job.event", params);
    w->sent = seq;
}

void ctl_watch_event(struct ctl *c, struct ctl_job *j, int64_t seq, int64_t at_ms, const char *type, json_t *body)
{
    for (struct ctl_watch *w = c->watches; w; w = w->next)
        if (w->job == j->id && w->live && w->sent < seq) notify(w, seq, at_ms, type, body);
}

static st_t replay_one(void *ctx, const struct db_event *e)
{
    json_t *body = json_loads(e->body, 0, NULL);
    if (!body) { /* damaged: the ones after it come all the same */
        ((struct ctl_watch *)ctx)->sent = e->seq;
        return ST_OK;
    }
    notify(ctx, e->seq, e->at_ms, e->type, body);
    json_decref(body);
    return ST_OK;
}

static void replay(struct ctl *c, struct ctl_watch *w)
{
    const struct ctl_job *j = ctl_job_get(c, w->job);
    if (!j || db_events(c->db, w->job, w->sent, PIECE, replay_one, w)) return;
    w->live = w->sent >= j->last_seq;
}

void ctl_watch_pump(struct ctl *c)
{
    for (struct ctl_watch *w = c->watches; w; w = w->next)
        if (!w->live) replay(c, w);
}

bool ctl_watch_behind(const struct ctl *c)
{
    for (const struct ctl_watch *w = c->watches; w; w = w->next)
        if (!w->live) return true;
    return false;
}

void ctl_watch_closed(struct ctl *c, struct wire_conn *conn)
{
    struct ctl_watch **p = &c->watches;
    while (*p) {
        struct ctl_watch *w = *p;
        if (w->conn != conn) {
            p = &w->next;
            continue;
        }
        *p = w->next;
        free(w);
    }
}

/* What was told of the burst was dropped with it: its numbers will be used again. */
void ctl_watch_rolled_back(struct ctl *c)
{
    for (struct ctl_watch *w = c->watches; w; w = w->next) {
        const struct ctl_job *j = ctl_job_get(c, w->job);
        if (j && w->sent > j->last_seq) w->sent = j->last_seq;
    }
}

CTL_HANDLER(job_watch)
{
    static const char *const keys[] = {"id", "after"};
    struct ctl *c = ctx;
    struct base_err err = BASE_ERR_INIT;
    struct base_jr r = base_jr_at(params, "", &err);
    int64_t after = base_jr_int(&r, "after", -1, 0, INT64_MAX);
    base_jr_done(&r, keys, 2);
    struct wire_conn *conn = wire_call_conn(call);
    struct ctl_job *j = ctl_job_param(c, call, &r, "id");
    struct ctl_watch *w;
    if (!j) return;
    if (!conn) {
        wire_call_result(call, json_object());
        return;
    }
    for (w = c->watches; w; w = w->next) /* watching twice is watching anew */
        if (w->conn == conn && w->job == j->id) break;
    if (!w) {
        w = calloc(1, sizeof *w);
        if (!w) {
            wire_call_error(call, WIRE_EINTERNAL, "out of memory");
            return;
        }
        w->conn = conn;
        w->job = j->id;
        w->next = c->watches;
        c->watches = w;
    }
    w->sent = after < 0 || after > j->last_seq ? j->last_seq : after;
    w->live = w->sent == j->last_seq;
    wire_call_result(call, json_object());
    if (!w->live) replay(c, w);
}
