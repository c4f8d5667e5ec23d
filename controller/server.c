/* The daemon's life: start, connections, deadlines, stop. */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "controller/internal.h"

#define PUMP_MS 4
#define ORPHAN_MS 20

/* ---- deadlines ---- */

static void on_timer(uv_timer_t *t)
{
    struct ctl *c = t->data;
    uint64_t now = base_clock_ns();
    struct ctl_wait **p = &c->waits;
    while (*p) {
        struct ctl_wait *w = *p;
        if (w->until_ns > now) {
            p = &w->next;
            continue;
        }
        *p = w->next;
        wire_call_result(w->call, json_null());
        free(w);
    }
    c->waits_end = p;
    ctl_store_retry(c, now);
    ctl_leases_tick(c, now);
    ctl_flush(c);
}

static void on_pump(uv_timer_t *t)
{
    struct ctl *c = t->data;
    c->kick |= c->again;
    c->again = false;
    ctl_watch_pump(c);
    ctl_flush(c);
}

/* What is asked for first is most likely the newest search: it is in memory before that. Whoever comes meanwhile waits no longer than for the loading
 * that they would have caused. */
static void on_warm(uv_timer_t *t)
{
    struct ctl *c = t->data;
    if (c->njobs) ctl_job_archive(c, c->job[c->njobs - 1], NULL);
    ctl_flush(c);
}

void ctl_timer_set(struct ctl *c)
{
    uint64_t now = base_clock_ns(), next = UINT64_MAX;
    if (c->stopping) return;
    for (const struct ctl_wait *w = c->waits; w; w = w->next)
        if (w->until_ns < next) next = w->until_ns;
    if (c->broken) {
        if (c->retry_ns < next) next = c->retry_ns;
    } else if (!c->reader) {
        for (const struct ctl_lease *l = c->leases; l; l = l->next)
            if (l->orphan || l->expires_ns < next) next = l->orphan ? now + ORPHAN_MS * 1000000ULL : l->expires_ns;
    }
    if (next == UINT64_MAX) uv_timer_stop(&c->timer);
    else uv_timer_start(&c->timer, on_timer, next > now ? (next - now) / 1000000 + 1 : 1, 0);
    if ((c->again || ctl_watch_behind(c)) && !uv_is_active((uv_handle_t *)&c->pump)) uv_timer_start(&c->pump, on_pump, PUMP_MS, 0);
}

/* ---- connections ---- */

static void on_leave(uv_timer_t *t)
{
    struct ctl *c = t->data;
    if (!wire_server_conns(c->wire) && !c->submits) ctl_stop(c);
}

static void opened(void *ctx, struct wire_conn *conn)
{
    struct ctl *c = ctx;
    if (c->reader && !c->stopping) uv_timer_stop(&c->leave);
}

static void closed(void *ctx, struct wire_conn *conn)
{
    struct ctl *c = ctx;
    struct ctl_session *s = ctl_session_of(conn);
    ctl_watch_closed(c, conn);
    if (s) {
        if (!c->stopping) ctl_session_leave(c, s, "connection closed");
        ctl_session_end(c, s);
    }
    if (c->reader && !c->stopping && !wire_server_conns(c->wire)) uv_timer_start(&c->leave, on_leave, 0, 0);
}

static void flush(void *ctx)
{
    ctl_flush(ctx);
}

/* ---- start and stop ---- */

st_t ctl_new(struct ctl **out, uv_loop_t *loop, const struct ctl_options *o, struct base_err *err)
{
    struct ctl *c = calloc(1, sizeof *c);
    if (!c) return base_err_set(err, ST_ENOMEM, "", "out of memory");
    c->loop = loop;
    c->waits_end = &c->waits;
    c->heartbeat_s = o->heartbeat_s > 0 ? o->heartbeat_s : CTL_HEARTBEAT_S;
    c->lease_s = o->lease_s > 0 ? o->lease_s : CTL_LEASE_S;
    c->reader = o->reader;
    c->started_ns = base_clock_ns();
    c->dir = strdup(o->dir);
    c->socket = strdup(o->socket);
    st_t st = c->dir && c->socket ? ST_OK : base_err_set(err, ST_ENOMEM, "", "out of memory");
    if (!st) st = db_open(&c->db, o->dir, DB_CREATE, err);
    if (!st) st = ctl_table_load(c, err);
    if (!st) st = ctl_jobs_load(c, err);
    if (!st) st = ctl_leases_load(c, err);
    if (!st) st = ctl_jobs_archives(c, err);
    struct wire_handlers h = {ctl_handlers, opened, closed, flush};
    if (!st) st = wire_server_new(&c->wire, loop, &h, c, err);
    if (st) {
        c->closed = true;
        ctl_free(c);
        return st;
    }
    uv_timer_t *timers[] = {&c->timer, &c->pump, &c->leave};
    for (int i = 0; i < 3; i++) {
        uv_timer_init(loop, timers[i]);
        timers[i]->data = c;
        c->handles++;
    }
    /* The store's lock says that nobody serves this store, not that nobody serves another one there. */
    struct wire_client *other;
    if (!wire_client_open(&other, o->socket, NULL)) {
        wire_client_close(other);
        st = base_err_set(err, ST_EBUSY, o->socket, "another tautd listens there");
    } else {
        st = wire_server_listen_unix(c->wire, o->socket, err);
    }
    if (st) {
        ctl_stop(c);
        uv_run(loop, UV_RUN_DEFAULT);
        ctl_free(c);
        return st;
    }
    if (c->reader) uv_timer_start(&c->leave, on_leave, CTL_READER_S * 1000, 0);
    else uv_timer_start(&c->pump, on_warm, 0, 0);
    c->kick = true;
    ctl_flush(c);
    *out = c;
    return ST_OK;
}

static void on_wire_done(void *ctx)
{
    struct ctl *c = ctx;
    c->closed = true;
    if (c->abandoned) uv_stop(c->loop); /* a thread still hashes what nobody waits for */
}

void ctl_stop(struct ctl *c)
{
    if (c->stopping) return;
    if (!c->closed) ctl_flush(c); /* what is open is committed, and its answers are true */
    c->stopping = true;
    while (c->waits) {
        struct ctl_wait *w = c->waits;
        c->waits = w->next;
        wire_call_result(w->call, json_null());
        free(w);
    }
    c->waits_end = &c->waits;
    ctl_submits_abandon(c);
    uv_close((uv_handle_t *)&c->timer, NULL);
    uv_close((uv_handle_t *)&c->pump, NULL);
    uv_close((uv_handle_t *)&c->leave, NULL);
    wire_server_close(c->wire, on_wire_done);
}

void ctl_free(struct ctl *c)
{
    if (!c) return;
    c->stopping = true;
    ctl_leases_free(c);
    ctl_table_free(c);
    ctl_jobs_free(c);
    while (c->watches) ctl_watch_closed(c, c->watches->conn);
    wire_server_free(c->wire);
    if (c->db) db_close(c->db);
    free(c->dir);
    free(c->socket);
    free(c);
}
