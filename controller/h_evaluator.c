/* evaluator.register and evaluator.next. */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "controller/internal.h"

#define NAME_MAX_BYTES 128
#define SLOTS_MAX 1024

struct registration {
    const char *name;
    json_t *device;   /* new reference */
    json_t *provides; /* borrowed; NULL: any */
    json_t *holds;    /* borrowed; NULL: none */
    bool train, validate, supernet, profile, score;
    int spaces, slots;
};

/* An array of words, or NULL where it is absent. */
static json_t *words(struct base_jr *r, const char *key)
{
    json_t *v = base_jr_get(r, key);
    if (!v) return NULL;
    bool good = json_is_array(v);
    for (size_t i = 0; good && i < json_array_size(v); i++) {
        const char *w = json_string_value(json_array_get(v, i));
        good = w && *w && strlen(w) < METRIC_NAME_MAX;
    }
    if (!good) base_jr_fail(r, ST_EINVAL, key, "an array of words of at most %d bytes", METRIC_NAME_MAX - 1);
    return v;
}

static void read_accepts(struct base_jr *r, struct registration *g)
{
    static const char *const kinds[] = {"train", "profile", "score", "validate", "supernet"};
    json_t *v = words(r, "accepts");
    g->train = !v;
    for (size_t i = 0; !r->st && i < json_array_size(v); i++) {
        const char *w = json_string_value(json_array_get(v, i));
        int k = 0;
        while (k < 5 && strcmp(w, kinds[k])) k++;
        if (k == 5) base_jr_fail(r, ST_EINVAL, "accepts", "no task kind '%.32s': train, profile, score, validate, supernet", w);
        g->train |= k == 0;
        g->profile |= k == 1;
        g->validate |= k == 3;
        g->supernet |= k == 4;
        g->score |= k == 2;
    }
}

static void read_spaces(struct base_jr *r, struct registration *g)
{
    json_t *v = words(r, "spaces");
    for (size_t i = 0; !r->st && i < json_array_size(v); i++) {
        const char *w = json_string_value(json_array_get(v, i));
        if (!strcmp(w, "lm")) g->spaces |= 1 << SPACE_LM;
        else if (!strcmp(w, "custom")) g->spaces |= 1 << SPACE_CUSTOM;
        else if (!strcmp(w, "problem")) g->spaces |= 1 << CTL_SPACE_PROBLEM;
        else base_jr_fail(r, ST_EINVAL, "spaces", "no space type '%.32s': lm, custom, problem", w);
    }
}

/* An object with a "kind", or that kind alone as a word. */
static void read_device(struct base_jr *r, struct registration *g)
{
    json_t *v = base_jr_need(r, "device");
    const char *kind = json_is_string(v) ? json_string_value(v) : json_string_value(json_object_get(v, "kind"));
    if (!r->st && (!kind || !*kind || strlen(kind) > 32)) base_jr_fail(r, ST_EINVAL, "device", "an object with \"kind\": a word of at most 32 bytes");
    if (!r->st) g->device = json_is_string(v) ? json_pack("{s:s}", "kind", kind) : json_incref(v);
}

static void read_holds(struct base_jr *r, struct registration *g)
{
    static const char *const keys[] = {"lease", "epoch"};
    g->holds = base_jr_get(r, "holds");
    if (g->holds && !json_is_array(g->holds)) base_jr_fail(r, ST_EINVAL, "holds", "an array of {lease, epoch}");
    for (size_t i = 0; !r->st && i < json_array_size(g->holds); i++) {
        char where[48];
        snprintf(where, sizeof where, "holds[%zu]", i);
        struct base_jr h = base_jr_at(json_array_get(g->holds, i), where, r->err);
        base_jr_need(&h, "lease");
        base_jr_need(&h, "epoch");
        base_jr_int(&h, "lease", 0, 1, INT64_MAX);
        base_jr_int(&h, "epoch", 0, 1, INT64_MAX);
        r->st = base_jr_done(&h, keys, 2);
    }
}

static struct ctl_lease *held(struct ctl *c, json_t *hold)
{
    struct ctl_lease *l = ctl_lease_get(c, json_integer_value(json_object_get(hold, "lease")));
    return l && l->epoch == json_integer_value(json_object_get(hold, "epoch")) ? l : NULL;
}

/* Who is it? By what it holds; else one of that name and device that is not connected, sooner one with leases from before a restart; else a new one. */
static st_t identify(struct ctl *c, const struct registration *g, int64_t device, struct ctl_session *own, struct ctl_known **out)
{
    struct ctl_known *found = NULL;
    for (size_t i = 0; i < json_array_size(g->holds) && !found; i++) {
        struct ctl_lease *l = held(c, json_array_get(g->holds, i));
        struct ctl_known *k = l ? ctl_known_get(c, l->evaluator) : NULL;
        if (k && k->device == device && !strcmp(k->name, g->name) && (!k->session || k->session == own)) found = k;
    }
    for (int i = 0; i < c->nknown && !found; i++) {
        struct ctl_known *k = c->known[i];
        if (k->device != device || strcmp(k->name, g->name) || (k->session && k->session != own)) continue;
        for (const struct ctl_lease *l = c->leases; l && !found; l = l->next)
            if (l->evaluator == k->id && !l->session) found = k;
    }
    for (int i = 0; i < c->nknown && !found; i++) {
        struct ctl_known *k = c->known[i];
        if (k->device == device && !strcmp(k->name, g->name) && (!k->session || k->session == own)) found = k;
    }
    *out = found;
    return found ? ST_OK : ctl_known_add(c, g->name, device, out);
}

static st_t record(struct ctl *c, const struct registration *g, struct wire_conn *conn, json_t *kept)
{
    struct ctl_session *s = ctl_session_of(conn), *again = s;
    struct ctl_device *d;
    struct ctl_known *k;
    st_t st = ctl_device_of(c, g->device, &d);
    if (!st) st = identify(c, g, d->id, s, &k);
    if (st) return st;
    if (!s) {
        s = calloc(1, sizeof *s);
        if (!s) return ST_ENOMEM;
        s->conn = conn;
        s->since_ns = base_clock_ns();
        struct ctl_session **end = &c->sessions;
        while (*end) end = &(*end)->next;
        *end = s;
        wire_conn_set_data(conn, s);
    } else if (s->known->session == s) {
        s->known->session = NULL;
    }
    s->known = k;
    k->session = s;
    s->fresh = true;
    s->train = g->train;
    s->validate = g->validate;
    s->supernet = g->supernet;
    s->profile = g->profile;
    s->score = g->score;
    s->spaces = g->spaces;
    s->slots = g->slots;
    json_decref(s->provides);
    s->provides = json_incref(g->provides);

    for (size_t i = 0; i < json_array_size(g->holds); i++) {
        struct ctl_lease *l = held(c, json_array_get(g->holds, i));
        if (!l) continue;
        ctl_lease_bind(l, s); /* also from a connection whose end was not seen yet */
        l->orphan = false;
        ctl_lease_renew(c, l);
        json_array_append_new(kept, json_integer(l->id));
    }
    for (struct ctl_lease *l = c->leases, *next; l && !st; l = next) {
        next = l->next;
        bool mine = again ? l->session == s : !l->session && l->evaluator == k->id;
        for (size_t i = 0; i < json_array_size(kept) && mine; i++) mine = json_integer_value(json_array_get(kept, i)) != l->id;
        if (mine) st = ctl_lease_return(c, l, "its evaluator came back without it", false);
    }
    c->kick = true;
    return st;
}

CTL_HANDLER(evaluator_register)
{
    static const char *const keys[] = {"name", "device", "accepts", "provides", "spaces", "slots", "holds"};
    struct ctl *c = ctx;
    struct base_err err = BASE_ERR_INIT;
    struct base_jr r = base_jr_at(params, "", &err);
    struct registration g = {0};
    base_jr_need(&r, "name");
    g.name = base_jr_str(&r, "name", "");
    if (!r.st && (!*g.name || strlen(g.name) > NAME_MAX_BYTES)) base_jr_fail(&r, ST_EINVAL, "name", "1 to %d bytes", NAME_MAX_BYTES);
    read_device(&r, &g);
    read_accepts(&r, &g);
    g.provides = words(&r, "provides");
    read_spaces(&r, &g);
    g.slots = (int)base_jr_int(&r, "slots", 1, 1, SLOTS_MAX);
    read_holds(&r, &g);
    struct wire_conn *conn = wire_call_conn(call);
    if (base_jr_done(&r, keys, 7)) {
        ctl_bad_params(call, &err);
    } else if (c->reader) {
        wire_call_error(call, WIRE_ESTATE, "this tautd was started to read: it leases nothing; start one without --reader");
    } else if (!conn) {
        wire_call_result(call, json_null()); /* has left */
    } else if (ctl_writable(c, call)) {
        json_t *kept = json_array();
        st_t st = kept ? record(c, &g, conn, kept) : ST_ENOMEM;
        if (st) {
            if (!c->failed) c->failed = st;
            json_decref(kept);
            ctl_answer_failed(c, call);
        } else {
            const struct ctl_session *s = ctl_session_of(conn);
            log_info("evaluator %lld (%s) registered, holds %zu", (long long)s->known->id, s->known->name, json_array_size(kept));
            wire_call_result(call, json_pack("{s:I,s:o,s:o,s:o}", "evaluator", (json_int_t)s->known->id, "heartbeat_s",
                                             ctl_number(c->heartbeat_s), "lease_s", ctl_number(c->lease_s), "held", kept));
        }
    }
    json_decref(g.device);
}

CTL_HANDLER(evaluator_next)
{
    static const char *const keys[] = {"evaluator", "wait_s"};
    struct ctl *c = ctx;
    struct base_err err = BASE_ERR_INIT;
    struct base_jr r = base_jr_at(params, "", &err);
    base_jr_need(&r, "evaluator");
    int64_t id = base_jr_int(&r, "evaluator", 0, 1, INT64_MAX);
    double wait = base_jr_num(&r, "wait_s", 0, 0, 1e9);
    struct ctl_session *s = ctl_session_of(wire_call_conn(call));
    if (base_jr_done(&r, keys, 2)) {
        ctl_bad_params(call, &err);
        return;
    }
    if (!s || s->known->id != id) {
        wire_call_error(call, WIRE_ENOTFOUND, "evaluator %lld is not registered on this connection: call evaluator.register", (long long)id);
        return;
    }
    if (c->stopping) {
        wire_call_result(call, json_null());
        return;
    }
    ctl_session_renew(c, s);
    if (s->nleases >= s->slots) {
        wire_call_error(call, WIRE_ESTATE, "evaluator %lld has %d lease%s and %d slot%s: report first", (long long)id, s->nleases,
                        s->nleases == 1 ? "" : "s", s->slots, s->slots == 1 ? "" : "s");
        return;
    }
    ctl_wait_add(c, s, call, wait < CTL_WAIT_MAX_S ? wait : CTL_WAIT_MAX_S);
}
