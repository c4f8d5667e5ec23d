#include "cli/follow.h"

#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "cli/format.h"
#include "cli/out.h"
#include "cli/term.h"

#define ASK_LIVE_MS 500
#define ASK_PLAIN_MS 2000
#define BAR 30
#define CALL_MS 60000
#define NO_ROOM "the disk is full, or cannot be written: going on as soon as there is room"
#define TELL_MS 3000 /* plain lines speak of waiting when it has lasted so long */

/* ---- the screen ---- */

static bool live(const struct follow *f)
{
    return term_live() && !f->raw && !f->cli->quiet;
}

static void flush(const struct base_buf *b)
{
    if (b->p && !b->st) fwrite(b->p, 1, b->len, stdout);
    fflush(stdout);
}

static void erase(struct follow *f, struct base_buf *b)
{
    if (f->drawn) base_buf_printf(b, "\033[%dA\r\033[J", f->drawn);
    f->drawn = 0;
}

/* One line of the block, cut to the screen. */
static void add_line(struct follow *f, struct base_buf *b, const struct base_buf *line)
{
    size_t n = line->p ? term_cut(line->p, term_width() - 1) : 0;
    base_buf_add(b, line->p ? line->p : "", n);
    base_buf_printf(b, "%s\033[K\n", term_style(TERM_PLAIN));
    f->drawn++;
}

static void add_label(struct base_buf *line, const char *label)
{
    base_buf_printf(line, "  %s%-5s%s", term_style(TERM_DIM), label, term_style(TERM_PLAIN));
}

static double budget(const struct follow *f)
{
    return out_num(json_object_get(f->info, "budget"), "evaluations");
}

/* tautd may know of evaluations whose events are still on their way. */
static long evaluations(const struct follow *f)
{
    long n = (long)out_int(f->info, "evaluations");
    return n > f->reported ? n : f->reported;
}

/* Share of the job that is done, by whichever bound comes first; NaN: unbounded. */
static double share_done(const struct follow *f)
{
    double hours = out_num(json_object_get(f->info, "budget"), "hours"), n = budget(f);
    double by_n = isnan(n) ? NAN : n > 0 ? (double)evaluations(f) / n : 1, by_time = isnan(hours) ? NAN : out_num(f->info, "busy_s") / (hours * 3600);
    return fmin(1, fmax(isnan(by_n) ? 0 : by_n, isnan(by_time) ? 0 : by_time)) + (isnan(by_n) && isnan(by_time) ? NAN : 0);
}

static void line_bar(const struct follow *f, struct base_buf *l)
{
    char buf[FMT_MAX];
    double share = share_done(f), per_hour = out_num(json_object_get(f->info, "rates"), "evaluations_per_hour");
    double left = out_num(json_object_get(f->info, "to_go"), "busy_s");
    base_buf_str(l, "  ");
    if (!isnan(share)) {
        int full = (int)(share * BAR);
        base_buf_str(l, term_style(TERM_GREEN));
        for (int i = 0; i < full; i++) base_buf_str(l, term_signs()->full);
        base_buf_str(l, term_style(TERM_DIM));
        for (int i = full; i < BAR; i++) base_buf_str(l, term_signs()->empty);
        base_buf_printf(l, "%s  ", term_style(TERM_PLAIN));
    }
    base_buf_printf(l, "%s%ld", term_style(TERM_BOLD), evaluations(f));
    if (!isnan(budget(f))) base_buf_printf(l, "/%.0f", budget(f));
    base_buf_printf(l, "%s evaluations", term_style(TERM_PLAIN));
    if (per_hour > 0) base_buf_printf(l, "   %s/%s", fmt_rate(buf, per_hour >= 90 ? per_hour / 60 : per_hour), per_hour >= 90 ? "min" : "h");
    if (left > 0) base_buf_printf(l, "   %s left", fmt_duration(buf, left));
}

static void line_best(const struct follow *f, struct base_buf *l)
{
    const char *name;
    json_t *v;
    char buf[FMT_MAX];
    add_label(l, "best");
    json_object_foreach(json_object_get(f->info, "best"), name, v)
        base_buf_printf(l, " %s %s%s%s %s(%lld)%s  ", name, term_style(TERM_BOLD), fmt_metric(buf, name, out_num(v, "value")), term_style(TERM_PLAIN),
                        term_style(TERM_DIM), (long long)out_int(v, "trial"), term_style(TERM_PLAIN));
}

static void line_now(const struct follow *f, json_t *r, struct base_buf *l)
{
    char buf[FMT_MAX], goal[FMT_MAX];
    bool super = !out_int(r, "trial"); /* its tokens are the lowest rung's */
    json_t *rung = json_array_get(json_object_get(f->info, "rungs"), (size_t)out_int(r, "rung"));
    double tokens = out_num(r, "tokens"), all = rung ? out_num(rung, "tokens") : out_num(json_object_get(json_object_get(f->info, "job"), "fidelity"), "tokens");
    add_label(l, "now");
    if (super) base_buf_str(l, " supernet");
    else base_buf_printf(l, " trial %lld", (long long)out_int(r, "trial"));
    if (rung && !super) base_buf_printf(l, " rung %lld", (long long)out_int(r, "rung"));
    if (!isnan(tokens)) base_buf_printf(l, "   %s", fmt_short(buf, tokens));
    if (!isnan(tokens) && all > 0) base_buf_printf(l, " of %s", fmt_short(goal, all));
    if (!isnan(tokens)) base_buf_str(l, " tokens");
    if (!isnan(out_num(r, "loss"))) base_buf_printf(l, "   loss %.3f", out_num(r, "loss"));
    base_buf_printf(l, "   %s", fmt_duration(buf, out_num(r, "seconds")));
    if (*out_str(r, "name")) base_buf_printf(l, "   %son %s%s", term_style(TERM_DIM), out_str(r, "name"), term_style(TERM_PLAIN));
}

const char *follow_state(const struct follow *f)
{
    return out_str(f->info, "state");
}

const char *follow_unread(const struct follow *f)
{
    const char *why = out_str(f->info, "unread");
    return *why && !f->ended && f->after >= out_int(f->info, "last_seq") ? why : NULL;
}

static void state_text(const struct follow *f, struct base_buf *l)
{
    base_buf_printf(l, "%s%s%s", follow_state(f), *out_str(f->info, "reason") ? ": " : "", out_str(f->info, "reason"));
}

static bool no_room(const struct follow *f)
{
    return !f->writable || f->full;
}

static void draw(struct follow *f, struct base_buf *b)
{
    struct base_buf l = BASE_BUF_INIT;
    json_t *running = json_object_get(f->info, "running"), *r;
    size_t i;
    line_bar(f, &l);
    add_line(f, b, &l);
    if (json_object_size(json_object_get(f->info, "best"))) {
        base_buf_reset(&l);
        line_best(f, &l);
        add_line(f, b, &l);
    }
    json_array_foreach(running, i, r)
    {
        if (i == 4) break;
        base_buf_reset(&l);
        line_now(f, r, &l);
        add_line(f, b, &l);
    }
    base_buf_reset(&l);
    if (no_room(f)) {
        base_buf_printf(&l, "  %s" NO_ROOM, term_style(TERM_YELLOW));
        add_line(f, b, &l);
    } else if (*f->message) {
        base_buf_printf(&l, "  %s%s", term_style(TERM_YELLOW), f->message);
        add_line(f, b, &l);
    } else if (!strcmp(follow_state(f), "waiting") || !strcmp(follow_state(f), "paused")) {
        base_buf_printf(&l, "  %s", term_style(TERM_YELLOW));
        state_text(f, &l);
        add_line(f, b, &l);
    }
    base_buf_fini(&l);
}

static void redraw(struct follow *f)
{
    struct base_buf b = BASE_BUF_INIT;
    if (!live(f)) return;
    if (f->drawn) base_buf_printf(&b, "\033[%dA\r", f->drawn);
    f->drawn = 0;
    draw(f, &b);
    base_buf_str(&b, "\033[J");
    flush(&b);
    base_buf_fini(&b);
}

/* text, a line, above the block. */
static void put_line(struct follow *f, const char *text)
{
    struct base_buf b = BASE_BUF_INIT;
    erase(f, &b);
    base_buf_printf(&b, "%s\n", text);
    if (live(f)) draw(f, &b);
    flush(&b);
    base_buf_fini(&b);
}

void follow_say(struct follow *f, const char *fmt, ...)
{
    char text[1000];
    va_list ap;
    if (f->cli->quiet || f->raw) return;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (!f->cli->json) {
        put_line(f, text);
        return;
    }
    json_t *o = json_pack("{s:s,s:s}", "event", "note", "text", text);
    out_json(o);
    fflush(stdout);
    json_decref(o);
}

void follow_message(struct follow *f, const char *fmt, ...)
{
    char text[sizeof f->message];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (!strcmp(text, f->message)) return;
    memcpy(f->message, text, sizeof text);
    if (live(f)) redraw(f);
    else if (*text) follow_say(f, "%s", text);
}

/* ---- an evaluation ---- */

static void metrics_text(const struct follow *f, json_t *metrics, int64_t trial, struct base_buf *b)
{
    json_t *o, *best = json_object_get(f->info, "best");
    size_t i;
    char buf[FMT_MAX];
    json_array_foreach(json_object_get(f->info, "objectives"), i, o)
    {
        const char *name = out_str(o, "metric");
        double v = out_metric(metrics, name);
        bool is_best = out_int(json_object_get(best, name), "trial") == trial;
        base_buf_printf(b, "  %s %s%s%s", name, is_best ? term_style(TERM_GREEN) : "", fmt_metric(buf, name, v), is_best ? term_style(TERM_PLAIN) : "");
    }
}

static void evaluation_line(const struct follow *f, json_t *event, json_t *trial, struct base_buf *b)
{
    int64_t id = out_int(event, "trial");
    char count[64];
    if (isnan(budget(f))) snprintf(count, sizeof count, "%ld", f->reported);
    else snprintf(count, sizeof count, "%ld/%.0f", f->reported, budget(f));
    base_buf_printf(b, "%s%7s%s  trial %-4lld", term_style(TERM_DIM), count, term_style(TERM_PLAIN), (long long)id);
    if (json_object_get(event, "rung")) base_buf_printf(b, " rung %lld", (long long)out_int(event, "rung"));
    if (!strcmp(out_str(event, "type"), "pruned")) {
        base_buf_printf(b, "  %spruned: %s%s", term_style(TERM_YELLOW), out_str(event, "reason"), term_style(TERM_PLAIN));
    } else if (!strcmp(out_str(event, "status"), "failed")) {
        struct base_err e;
        base_err_set(&e, ST_EINVAL, "", "%s", *out_str(event, "error") ? out_str(event, "error") : "no reason given"); /* in one line, whatever it is */
        base_buf_printf(b, "  %sfailed: %s%s", term_style(TERM_RED), e.what, term_style(TERM_PLAIN));
    } else {
        metrics_text(f, trial ? json_object_get(trial, "metrics") : json_object_get(event, "metrics"), id, b);
    }
    if (trial) {
        base_buf_printf(b, "   %s", term_style(TERM_DIM));
        out_arch_json(json_object_get(trial, "arch"), b);
        base_buf_str(b, term_style(TERM_PLAIN));
    }
}

static void evaluation_json(const struct follow *f, json_t *event, json_t *trial)
{
    bool pruned = !strcmp(out_str(event, "type"), "pruned");
    json_t *o = json_pack("{s:s,s:I,s:I,s:I,s:s}", "event", "evaluation", "job", (json_int_t)f->job, "evaluation", (json_int_t)f->reported, "trial",
                          (json_int_t)out_int(event, "trial"), "status", pruned ? "pruned" : out_str(event, "status")), *metrics = json_object(), *v;
    const char *name;
    if (*out_str(event, "error")) json_object_set(o, "error", json_object_get(event, "error"));
    if (pruned) json_object_set(o, "error", json_object_get(event, "reason"));
    if (json_object_get(event, "rung")) json_object_set(o, "rung", json_object_get(event, "rung"));
    json_object_foreach(json_object_get(trial, "metrics"), name, v)
    {
        json_t *median = json_object_get(v, "median");
        if (median) json_object_set(metrics, name, median);
    }
    json_object_set_new(o, "metrics", metrics);
    if (trial) json_object_set(o, "arch_id", json_object_get(trial, "arch_id"));
    out_json(o);
    fflush(stdout);
    json_decref(o);
}

static bool is_end(const char *state)
{
    return !strcmp(state, "done") || !strcmp(state, "failed") || !strcmp(state, "cancelled");
}

static st_t ask(struct follow *f)
{
    json_t *info = NULL, *server = NULL;
    st_t st = wire_client_call(f->wire, "job.get", json_pack("{s:I}", "id", (json_int_t)f->job), CALL_MS, &info, NULL, NULL);
    if (!st) st = wire_client_call(f->wire, "server.info", NULL, CALL_MS, &server, NULL, NULL);
    f->asked_ns = base_clock_ns();
    if (!st) {
        f->writable = json_is_true(json_object_get(server, "writable"));
        json_decref(f->info);
        f->info = json_incref(info);
        /* Events come in order: one behind the end's own has nothing more to tell. */
        f->ended = is_end(follow_state(f)) && f->after >= out_int(f->info, "last_seq");
    }
    json_decref(info);
    json_decref(server);
    return st;
}

static st_t reported(struct follow *f, json_t *event)
{
    struct base_buf b = BASE_BUF_INIT;
    json_t *trial = NULL;
    f->reported += !out_int(event, "rung"); /* on a higher rung it was counted before */
    if (f->cli->quiet && !f->cli->json) return ST_OK;
    st_t st = wire_client_call(f->wire, "trial.get", json_pack("{s:I}", "id", (json_int_t)out_int(event, "trial")), CALL_MS, &trial, NULL, NULL);
    if (st == ST_EINVAL) st = ST_OK; /* shown without */
    if (!st && f->cli->json) {
        evaluation_json(f, event, trial);
    } else if (!st) {
        /* The best must be known before the line that may have beaten it is coloured. */
        if (live(f)) st = ask(f);
        evaluation_line(f, event, trial, &b);
        if (!b.st) put_line(f, b.p);
    }
    json_decref(trial);
    base_buf_fini(&b);
    return st;
}

static void tell_supernet(struct follow *f, json_t *event)
{
    const char *state = out_str(event, "state");
    double all = out_num(json_object_get(f->info, "supernet"), "of");
    char at[FMT_MAX], of[FMT_MAX];
    if (!strcmp(state, "leased") && out_int(event, "epoch") == 1) follow_say(f, "training the supernet first, %s tokens", fmt_short(of, all));
    else if (!strcmp(state, "saved") && !live(f))
        follow_say(f, "supernet: %s of %s tokens", fmt_short(at, out_num(json_object_get(event, "checkpoint"), "tokens")), fmt_short(of, all));
    else if (!strcmp(state, "ready")) follow_say(f, "the supernet is given back: %s", out_str(event, "reason"));
    else if (!strcmp(state, "ok")) follow_say(f, "the supernet is trained");
}

static void tell_waiting(struct follow *f)
{
    struct base_buf b = BASE_BUF_INIT;
    bool waits = !strcmp(follow_state(f), "waiting") || !strcmp(follow_state(f), "paused") || no_room(f);
    uint64_t now = base_clock_ns();
    if (!waits) {
        if (!strcmp(f->told, NO_ROOM)) follow_say(f, "there is room again: going on");
        *f->told = '\0';
        f->waiting_ns = 0;
        return;
    }
    if (!f->waiting_ns) f->waiting_ns = now;
    if (live(f) || now - f->waiting_ns < TELL_MS * 1000000ull) return;
    if (no_room(f)) base_buf_str(&b, NO_ROOM);
    else state_text(f, &b);
    if (!b.st && strcmp(b.p, f->told)) {
        snprintf(f->told, sizeof f->told, "%s", b.p);
        follow_say(f, "%s", b.p);
    }
    base_buf_fini(&b);
}

/* ---- life ---- */

void follow_init(struct follow *f, const struct cli *c, json_t *info)
{
    *f = (struct follow){.cli = c, .info = info, .job = out_int(info, "id"), .after = out_int(info, "last_seq"), .writable = true};
    f->reported = (long)out_int(info, "evaluations");
}

void follow_fini(struct follow *f)
{
    struct base_buf b = BASE_BUF_INIT;
    erase(f, &b);
    flush(&b);
    base_buf_fini(&b);
    json_decref(f->info);
    f->info = NULL;
    f->wire = NULL;
}

st_t follow_attach(struct follow *f, struct wire_client *wire)
{
    json_t *ok = NULL;
    f->wire = wire;
    st_t st = wire_client_call(wire, "job.watch", json_pack("{s:I,s:I}", "id", (json_int_t)f->job, "after", (json_int_t)f->after), CALL_MS, &ok, NULL, NULL);
    json_decref(ok);
    if (!st) st = ask(f);
    if (!st) redraw(f);
    return st;
}

/* What is held against a model is what its checks say; where there are none, what it was told by: its error over measurements left out of the fit. */
static void tell_model(struct follow *f, json_t *event)
{
    bool relied = json_is_true(json_object_get(event, "relied"));
    long long checked = (long long)out_int(event, "checked");
    double error = 100 * out_num(event, "error"), mape = 100 * out_num(event, "mape");
    const char *metric = out_str(event, "metric");
    if (relied) follow_say(f, "the model of %s is relied on: its mean error over %lld measurements is %.1f %%", metric, (long long)out_int(event, "trials"), error);
    else follow_say(f, "the model of %s is not relied on any more: its mean error over %lld measurements made as checks is %.1f %%, %lld of them within its intervals", metric, checked, mape, (long long)out_int(event, "held"));
}

static st_t handle(struct follow *f, const char *method, json_t *event)
{
    const char *type = out_str(event, "type");
    int64_t seq = out_int(event, "seq");
    if (strcmp(method, "job.event") || out_int(event, "id") != f->job || seq <= f->after) return ST_OK;
    f->after = seq;
    if (f->raw) {
        out_json(event);
        fflush(stdout);
    } else if (!strcmp(type, "reported") || !strcmp(type, "pruned")) {
        return reported(f, event);
    } else if (!strcmp(type, "supernet")) {
        tell_supernet(f, event);
    } else if (!strcmp(type, "filter")) {
        follow_say(f, "candidates are %s: within the better half of %lld results a combination of proxies has a rank correlation of %.2f, the best single one %.2f",
                   json_is_true(json_object_get(event, "on")) ? "scored first, and the best of each four trained" : "not scored first any more", (long long)out_int(event, "results"),
                   out_num(event, "combined"), out_num(event, "single"));
    } else if (!strcmp(type, "verdict") && !strncmp(out_str(event, "shortcut"), "model.", 6)) {
        tell_model(f, event);
    } else if (!strcmp(type, "verdict")) {
        bool relied = json_is_true(json_object_get(event, "relied"));
        follow_say(f, "%s is %s: over %lld trials its order of %s is %s than that of counting parameters", out_str(event, "shortcut"), relied ? "relied on again" : "not relied on any more",
                   (long long)out_int(event, "trials"), out_str(event, "metric"), relied ? "better" : "no better");
    } else if (!strcmp(type, "flat")) {
        follow_say(f, "%s is the same in all of the first %lld results: it steers nothing, the search goes on by what varies", out_str(event, "metric"), (long long)out_int(event, "results"));
    } else if (!strcmp(type, "unmet")) {
        follow_say(f, "none of the first %lld results meets the constraints; the closest, trial %lld: %s", (long long)out_int(event, "results"), (long long)out_int(event, "trial"),
                   out_str(event, "breaks"));
    }
    if (!strcmp(type, "state") && is_end(out_str(event, "state"))) f->asked_ns = 0; /* ask at once */
    return ST_OK;
}

st_t follow_step(struct follow *f, int ms)
{
    uint64_t every = (live(f) ? ASK_LIVE_MS : ASK_PLAIN_MS) * 1000000ull;
    json_t *params = NULL;
    char *method = NULL;
    st_t st = wire_client_notification(f->wire, ms, &method, &params);
    if (!st) st = handle(f, method, params);
    else if (st == ST_ETIMEDOUT) st = ST_OK;
    free(method);
    json_decref(params);
    if (st || base_clock_ns() - f->asked_ns < every) return st;
    st = ask(f);
    if (st) return st;
    tell_waiting(f);
    redraw(f);
    return ST_OK;
}
