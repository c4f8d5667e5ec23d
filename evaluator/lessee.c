#include "evaluator/lessee.h"

#include <math.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "evaluator/beat.h"
#include "evaluator/fingerprint.h"
#include "proxies/proxy.h"
#include "wire/wire.h"

#define WAIT_S 20          /* of one evaluator.next */
#define CALL_MS 60000
#define RETRY_MS 500       /* between attempts to report */

struct lessee {
    struct lessee_opts o;
    struct wire_client *wire;  /* NULL: not connected */
    int64_t evaluator;
    double heartbeat_s;
    int64_t lease, epoch;      /* in hand; 0: none */
    uint64_t beat_ns;          /* last heartbeat that was answered */
    struct beat *beat;         /* speaks when we are silent for too long */
    bool heard;                /* the last progress was answered */
    bool taken;                /* tautd has said that the lease is no longer ours, or that the trial is to stop */
};

static bool stopping(const struct lessee *l)
{
    return __atomic_load_n(l->o.stop, __ATOMIC_RELAXED) != 0;
}

void lessee_rest(int ms)
{
    poll(NULL, 0, ms);
}

static json_t *provides(const struct lessee *l)
{
    static const char *const always[] = {"valid_bpb", "valid_loss", "train_bytes", "train_tokens_per_s", "prefill_ms", "decode_ms", "throughput", "infer_bytes"};
    static const char *const energy[] = {"train_joules", "joules_per_token"};
    json_t *v = json_array();
    for (int i = 0; i < proxy_count(); i++) json_array_append_new(v, json_sprintf("proxy.%s", proxy_name(i)));
    for (size_t i = 0; i < sizeof always / sizeof *always; i++) json_array_append_new(v, json_string(always[i]));
    for (size_t i = 0; l->o.energy && i < sizeof energy / sizeof *energy; i++) json_array_append_new(v, json_string(energy[i]));
    return v;
}

/* A signal ends a call at once only while nothing is in hand: a call broken off costs the connection, and with it the lease, just when the trial is
 * to be handed back. */
static void interruptible(struct lessee *l)
{
    wire_client_interrupt(l->wire, l->lease ? NULL : l->o.stop);
}

static st_t connect_once(struct lessee *l, struct base_err *err)
{
    st_t st = wire_client_open(&l->wire, l->o.socket, err);
    if (st) return st;
    interruptible(l);
    json_t *p = json_pack("{s:s, s:o?, s:[sssss], s:o, s:[ss], s:i}", "name", l->o.name, "device", fingerprint_json(l->o.dev), "accepts", "train", "validate", "score", "supernet", "profile",
                          "provides", provides(l), "spaces", "lm", "problem", "slots", 1), *r;
    if (p && l->lease) json_object_set_new(p, "holds", json_pack("[{s:I, s:I}]", "lease", (json_int_t)l->lease, "epoch", (json_int_t)l->epoch));
    st = p ? wire_client_call(l->wire, "evaluator.register", p, CALL_MS, &r, NULL, err) : ST_ENOMEM;
    if (st) {
        wire_client_close(l->wire);
        l->wire = NULL;
        return st;
    }
    l->evaluator = json_integer_value(json_object_get(r, "evaluator"));
    l->heartbeat_s = json_number_value(json_object_get(r, "heartbeat_s"));
    json_decref(r);
    if (l->evaluator <= 0) {
        wire_client_close(l->wire);
        l->wire = NULL;
        return base_err_set(err, ST_EPARSE, l->o.socket, "whoever listens there is no tautd: it registers nobody");
    }
    log_info("registered as evaluator %lld", (long long)l->evaluator);
    return ST_OK;
}

/* One call; a lost connection is dropped, so that the next call makes a new one. */
static st_t call(struct lessee *l, const char *method, json_t *params, int timeout_ms, json_t **result, int *code, struct base_err *err)
{
    *code = 0;
    st_t st = l->wire ? ST_OK : connect_once(l, err);
    if (st) {
        json_decref(params);
        return st;
    }
    interruptible(l);
    st = wire_client_call(l->wire, method, params, timeout_ms, result, code, err);
    if (st && !*code) {
        if (st != ST_ECANCELED) log_warn("connection to tautd lost: %s", err->what);
        wire_client_close(l->wire);
        l->wire = NULL;
    }
    return st;
}

st_t lessee_new(struct lessee **out, const struct lessee_opts *o, struct base_err *err)
{
    struct lessee *l = calloc(1, sizeof *l);
    if (!l) return base_err_set(err, ST_ENOMEM, "", "out of memory");
    l->o = *o;
    st_t st = beat_start(&l->beat, o->socket);
    if (!st) st = connect_once(l, err);
    if (st) lessee_free(l);
    else *out = l;
    return st;
}

void lessee_free(struct lessee *l)
{
    if (!l) return;
    beat_stop(l->beat);
    wire_client_close(l->wire);
    free(l);
}

st_t lessee_next(struct lessee *l, json_t **lease, struct base_err *err)
{
    json_t *r = NULL;
    int code;
    uint64_t asked = base_clock_ns();
    json_t *p = json_pack("{s:I, s:i}", "evaluator", (json_int_t)l->evaluator, "wait_s", WAIT_S);
    st_t st = call(l, "evaluator.next", p, (WAIT_S + 30) * 1000, &r, &code, err);
    if (st) return st;
    if (!json_is_object(r)) {
        json_decref(r);
        *lease = NULL;
        if (base_clock_ns() - asked < 10000000) lessee_rest(RETRY_MS); /* one that does not wait */
        return ST_OK;
    }
    l->lease = json_integer_value(json_object_get(r, "lease"));
    l->epoch = json_integer_value(json_object_get(r, "epoch"));
    l->taken = false;
    l->beat_ns = base_clock_ns();
    beat_hold(l->beat, l->lease, l->epoch, l->heartbeat_s);
    *lease = r;
    return ST_OK;
}

bool lessee_held(struct lessee *l)
{
    l->taken |= beat_taken(l->beat);
    return !stopping(l) && !l->taken;
}

bool lessee_due(const struct lessee *l)
{
    double s = l->heartbeat_s > 0 ? fmin(l->heartbeat_s / 3, 1) : 1;
    return (double)(base_clock_ns() - l->beat_ns) * 1e-9 >= s;
}

bool lessee_heard(const struct lessee *l)
{
    return l->heard;
}

bool lessee_progress(struct lessee *l, json_t *p)
{
    json_t *answer;
    bool go = lessee_ask(l, p, &answer);
    json_decref(answer);
    return go;
}

bool lessee_ask(struct lessee *l, json_t *p, json_t **answer)
{
    *answer = NULL;
    l->taken |= beat_taken(l->beat);
    if (l->taken || !p) {
        json_decref(p);
        return !l->taken;
    }
    json_t *r = NULL;
    struct base_err err = BASE_ERR_INIT;
    int code;
    json_object_set_new(p, "lease", json_integer(l->lease));
    json_object_set_new(p, "epoch", json_integer(l->epoch));
    st_t st = call(l, "evaluator.progress", p, CALL_MS, &r, &code, &err);
    l->beat_ns = base_clock_ns();
    l->heard = !st || (code && code != WIRE_ENOSPC && code != WIRE_EBUSY && code != WIRE_EINTERNAL);
    if (!st) beat_spoken(l->beat);
    if (!st) {
        l->taken = json_is_false(json_object_get(r, "go"));
        *answer = r;
    } else if (code == WIRE_ESTALE || code == WIRE_ENOTFOUND) {
        l->taken = true;
    }
    return !l->taken;
}

/* Until tautd has taken it or refused it. */
static void send_report(struct lessee *l, int64_t trial, json_t *report)
{
    bool told = false;
    for (;;) {
        struct base_err err = BASE_ERR_INIT;
        json_t *r = NULL;
        int code;
        st_t st = call(l, "evaluator.report", json_incref(report), CALL_MS, &r, &code, &err);
        json_decref(r);
        if (!st) return;
        if (code && code != WIRE_ENOSPC && code != WIRE_EBUSY && code != WIRE_EINTERNAL) {
            log_warn("trial %lld: report refused: %s", (long long)trial, err.what);
            if (code != WIRE_EPARAMS || !strcmp(json_string_value(json_object_get(report, "status")), "failed")) return;
            /* The lease stays ours: what cannot be taken as a result is taken as a failure with this reason. */
            json_object_set_new(report, "status", json_string("failed"));
            json_object_set_new(report, "metrics", json_object());
            json_object_set_new(report, "error", json_string(err.what));
            continue;
        }
        if (stopping(l)) return;
        if (!told) log_warn("trial %lld: report not taken yet: %s; trying again", (long long)trial, err.what);
        told = true;
        lessee_rest(RETRY_MS);
    }
}

void lessee_report(struct lessee *l, int64_t trial, json_t *report)
{
    json_object_set_new(report, "lease", json_integer(l->lease));
    json_object_set_new(report, "epoch", json_integer(l->epoch));
    send_report(l, trial, report);
    json_decref(report);
    l->lease = 0;
    beat_hold(l->beat, 0, 0, 0);
}
