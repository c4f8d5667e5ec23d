/* Devices and evaluators that were ever seen, and the sessions of those that are connected. */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "controller/internal.h"

/* ---- devices ---- */

static void device_free(struct ctl_device *d)
{
    free(d->kind);
    free(d->text);
    json_decref(d->body);
}

/* body: borrowed. The caller counts it in. */
static struct ctl_device *device_push(struct ctl *c, int64_t id, const char *kind, json_t *body)
{
    struct ctl_device *grown = realloc(c->device, ((size_t)c->ndevices + 1) * sizeof *grown);
    if (!grown) return NULL;
    c->device = grown;
    struct ctl_device *d = &grown[c->ndevices];
    *d = (struct ctl_device){id, strdup(kind), json_dumps(body, JSON_COMPACT | JSON_SORT_KEYS | JSON_ENCODE_ANY), json_incref(body)};
    if (!d->kind || !d->text) {
        device_free(d);
        return NULL;
    }
    c->ndevices++;
    return d;
}

struct ctl_device *ctl_device_get(struct ctl *c, int64_t id)
{
    for (int i = 0; i < c->ndevices; i++)
        if (c->device[i].id == id) return &c->device[i];
    return NULL;
}

st_t ctl_device_of(struct ctl *c, json_t *body, struct ctl_device **out)
{
    char *text = json_dumps(body, JSON_COMPACT | JSON_SORT_KEYS);
    if (!text) return ST_ENOMEM;
    for (int i = 0; i < c->ndevices; i++) {
        if (strcmp(c->device[i].text, text)) continue;
        free(text);
        *out = &c->device[i];
        return ST_OK;
    }
    free(text);
    const char *kind = json_string_value(json_object_get(body, "kind"));
    int64_t id = db_next_id(c->db, DB_DEVICE);
    st_t st = ctl_event(c, NULL, "device", json_pack("{s:I,s:s,s:O}", "id", (json_int_t)id, "kind", kind, "body", body));
    if (st) return st;
    *out = device_push(c, id, kind, body);
    return *out ? ST_OK : ST_ENOMEM;
}

/* ---- evaluators ---- */

static struct ctl_known *known_push(struct ctl *c, int64_t id, const char *name, int64_t device)
{
    struct ctl_known **grown = realloc(c->known, ((size_t)c->nknown + 1) * sizeof *grown);
    if (!grown) return NULL;
    c->known = grown;
    struct ctl_known *k = calloc(1, sizeof *k);
    if (!k || !(k->name = strdup(name))) {
        free(k);
        return NULL;
    }
    k->id = id;
    k->device = device;
    return c->known[c->nknown++] = k;
}

static void known_free(struct ctl_known *k)
{
    free(k->name);
    free(k);
}

struct ctl_known *ctl_known_get(struct ctl *c, int64_t id)
{
    for (int i = 0; i < c->nknown; i++)
        if (c->known[i]->id == id) return c->known[i];
    return NULL;
}

st_t ctl_known_add(struct ctl *c, const char *name, int64_t device, struct ctl_known **out)
{
    int64_t id = 0;
    for (int i = 0; i < c->nknown; i++)
        if (c->known[i]->id > id) id = c->known[i]->id;
    id++;
    st_t st = ctl_event(c, NULL, "evaluator",
                        json_pack("{s:I,s:s,s:I}", "evaluator", (json_int_t)id, "name", name, "device", (json_int_t)device));
    if (st) return st;
    *out = known_push(c, id, name, device);
    return *out ? ST_OK : ST_ENOMEM;
}

/* ---- sessions ---- */

struct ctl_session *ctl_session_of(struct wire_conn *conn)
{
    return conn ? wire_conn_data(conn) : NULL;
}

void ctl_session_end(struct ctl *c, struct ctl_session *s)
{
    struct ctl_wait **w = &c->waits;
    while (*w) {
        struct ctl_wait *one = *w;
        if (one->session != s) {
            w = &one->next;
            continue;
        }
        *w = one->next;
        wire_call_result(one->call, json_null());
        free(one);
    }
    c->waits_end = w;
    for (struct ctl_lease *l = c->leases; l; l = l->next)
        if (l->session == s) ctl_lease_bind(l, NULL);
    for (struct ctl_lease *l = c->buried; l; l = l->next)
        if (l->session == s) ctl_lease_bind(l, NULL);
    for (struct ctl_session **p = &c->sessions; *p; p = &(*p)->next) {
        if (*p != s) continue;
        *p = s->next;
        break;
    }
    wire_conn_set_data(s->conn, NULL);
    if (s->known->session == s) s->known->session = NULL;
    json_decref(s->provides);
    free(s);
    c->kick = true;
}

void ctl_wait_add(struct ctl *c, struct ctl_session *s, struct wire_call *call, double seconds)
{
    struct ctl_wait *w = calloc(1, sizeof *w);
    if (!w) {
        wire_call_error(call, WIRE_EINTERNAL, "out of memory");
        return;
    }
    *w = (struct ctl_wait){.call = call, .session = s, .until_ns = base_clock_ns() + (uint64_t)(seconds * 1e9)};
    *c->waits_end = w;
    c->waits_end = &w->next;
    c->kick = true;
}

/* ---- load, commit, rollback ---- */

static st_t load_device(void *ctx, const struct db_device *d)
{
    json_t *body;
    st_t st = base_json_parse(&body, d->body, strlen(d->body), "device", NULL);
    if (st == ST_ENOMEM) return st;
    if (st || !json_is_object(body)) { /* like no device that registers */
        log_warn("the store is damaged: device %lld cannot be read", (long long)d->id);
        if (!st) json_decref(body);
        body = json_null();
    }
    st = device_push(ctx, d->id, d->kind, body) ? ST_OK : ST_ENOMEM;
    json_decref(body);
    return st;
}

static st_t load_evaluator(void *ctx, const struct db_evaluator *e)
{
    return known_push(ctx, e->id, e->name, e->device) ? ST_OK : ST_ENOMEM;
}

st_t ctl_table_load(struct ctl *c, struct base_err *err)
{
    st_t st = db_devices(c->db, load_device, c);
    if (!st) st = db_evaluators(c->db, load_evaluator, c);
    if (st) return base_err_set(err, st, db_path(c->db), "cannot read devices and evaluators: %s", base_status_text(st));
    ctl_table_committed(c);
    return ST_OK;
}

void ctl_table_committed(struct ctl *c)
{
    c->ndevices_kept = c->ndevices;
    c->nknown_kept = c->nknown;
    for (struct ctl_session *s = c->sessions; s; s = s->next) s->fresh = false;
}

void ctl_table_rolled_back(struct ctl *c)
{
    for (struct ctl_session *s = c->sessions, *next; s; s = next) {
        next = s->next;
        if (s->fresh) ctl_session_end(c, s);
    }
    while (c->ndevices > c->ndevices_kept) device_free(&c->device[--c->ndevices]);
    while (c->nknown > c->nknown_kept) known_free(c->known[--c->nknown]);
}

void ctl_table_free(struct ctl *c)
{
    while (c->sessions) ctl_session_end(c, c->sessions);
    while (c->ndevices) device_free(&c->device[--c->ndevices]);
    while (c->nknown) known_free(c->known[--c->nknown]);
    free(c->device);
    free(c->known);
}
