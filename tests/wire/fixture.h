/* A server in a thread of its own, and a raw peer that speaks to it in bytes. Everything waits for events, never for
 * time.
 *
 * What the test server's methods do:
 *   server.info         answers its params
 *   job.submit          counts in `pending`, answers {n}; flush moves pending to `committed`
 *   job.get             error -32001 "no job"
 *   job.front           answers {"x": "aaa…"} of params.n bytes, by wire_call_raw, with an LF in the JSON
 *   job.list            answers NULL (a handler whose packing failed)
 *   job.watch           answers {}, then params.n notifications job.event {seq}
 *   job.cancel          makes the next flush fail: wire_server_fail_held(-32004)
 *   job.pause           answers {}, then closes its own connection
 *   job.progress        answers {conns}
 *   evaluator.next      keeps the call
 *   evaluator.report    answers every kept call (result {"late": true}), then itself {gone: kept calls whose peer had
 * left} evaluator.progress  the same, but from a timer others              error -32003 */
#ifndef TAUT_TESTS_WIRE_FIXTURE_H
#define TAUT_TESTS_WIRE_FIXTURE_H

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "tests/tap.h"
#include "wire/wire.h"

enum { FIX_KEPT_MAX = 100000 };

struct fix {
    pthread_t thread;
    uv_loop_t loop;
    uv_async_t stop;
    uv_timer_t timer;
    struct wire_server *server;
    struct wire_handlers h;
    wire_handler method[64];
    char dir[64], path[108];
    struct wire_call *kept[FIX_KEPT_MAX];
    int nkept;
    struct wire_call *timer_call;
    int pending, committed, flushes, opened, done;
    bool fail;
    sem_t kept_sem, closed_sem;
};

static inline void fix_echo(void *ctx, struct wire_call *call, json_t *params)
{
    wire_call_result(call, json_incref(params));
}

static inline void fix_submit(void *ctx, struct wire_call *call, json_t *params)
{
    struct fix *f = ctx;
    f->pending++;
    wire_call_result(call, json_pack("{s:i}", "n", f->committed + f->pending));
}

static inline void fix_error(void *ctx, struct wire_call *call, json_t *params)
{
    wire_call_error(call, WIRE_ENOTFOUND, "no job %s", "x");
}

static inline void fix_front(void *ctx, struct wire_call *call, json_t *params)
{
    size_t n = (size_t)json_integer_value(json_object_get(params, "n"));
    struct base_buf b = BASE_BUF_INIT;
    char *text = malloc(n + 1);
    memset(text, 'a', n);
    text[n] = '\0';
    base_buf_printf(&b, "{\n\"x\":\"%s\"}", text);
    free(text);
    wire_call_raw(call, &b);
    if (b.len) abort(); /* promised: empty afterwards */
}

static inline void fix_null(void *ctx, struct wire_call *call, json_t *params)
{
    wire_call_result(call, NULL);
}

static inline void fix_watch(void *ctx, struct wire_call *call, json_t *params)
{
    struct wire_conn *c = wire_call_conn(call);
    int n = (int)json_integer_value(json_object_get(params, "n"));
    size_t pad = (size_t)json_integer_value(json_object_get(params, "pad"));
    char *text = calloc(1, pad + 1);
    memset(text, 'p', pad);
    wire_call_result(call, json_object());
    for (int i = 0; i < n; i++) wire_conn_notify(c, "job.event", json_pack("{s:i,s:s}", "seq", i, "pad", text));
    free(text);
}

static inline void fix_cancel(void *ctx, struct wire_call *call, json_t *params)
{
    struct fix *f = ctx;
    f->fail = true;
    wire_call_result(call, json_object());
}

static inline void fix_pause(void *ctx, struct wire_call *call, json_t *params)
{
    struct wire_conn *c = wire_call_conn(call);
    wire_call_result(call, json_object());
    wire_conn_close(c);
}

static inline void fix_conns(void *ctx, struct wire_call *call, json_t *params)
{
    struct fix *f = ctx;
    wire_call_result(call, json_pack("{s:i}", "conns", wire_server_conns(f->server)));
}

static inline void fix_keep(void *ctx, struct wire_call *call, json_t *params)
{
    struct fix *f = ctx;
    if (f->nkept == FIX_KEPT_MAX) abort();
    f->kept[f->nkept++] = call;
    sem_post(&f->kept_sem);
}

static inline int fix_answer_kept(struct fix *f)
{
    int gone = 0;
    for (int i = 0; i < f->nkept; i++) {
        gone += !wire_call_conn(f->kept[i]);
        f->pending++;
        wire_call_result(f->kept[i], json_pack("{s:b}", "late", 1));
    }
    f->nkept = 0;
    return gone;
}

static inline void fix_report(void *ctx, struct wire_call *call, json_t *params)
{
    int gone = fix_answer_kept(ctx);
    wire_call_result(call, json_pack("{s:i}", "gone", gone));
}

static inline void fix_on_timer(uv_timer_t *t)
{
    struct fix *f = t->data;
    fix_report(f, f->timer_call, NULL);
}

static inline void fix_timer(void *ctx, struct wire_call *call, json_t *params)
{
    struct fix *f = ctx;
    f->timer_call = call;
    uv_timer_start(&f->timer, fix_on_timer, 0, 0);
}

static inline void fix_notsup(void *ctx, struct wire_call *call, json_t *params)
{
    wire_call_error(call, WIRE_ENOTSUP, "not built");
}

static inline void fix_flush(void *ctx)
{
    struct fix *f = ctx;
    f->flushes++;
    if (f->fail)
        wire_server_fail_held(f->server, WIRE_ENOSPC, "disk \"full\"");
    else
        f->committed += f->pending;
    f->fail = false;
    f->pending = 0;
}

static inline void fix_opened(void *ctx, struct wire_conn *c)
{
    struct fix *f = ctx;
    f->opened++;
    wire_conn_set_data(c, f);
}

static inline void fix_closed(void *ctx, struct wire_conn *c)
{
    struct fix *f = ctx;
    if (wire_conn_data(c) != f) abort();
    wire_conn_notify(c, "job.event", json_object()); /* to a peer that has left: nothing happens */
    f->opened--;
    sem_post(&f->closed_sem);
}

static inline void fix_done(void *ctx)
{
    struct fix *f = ctx;
    f->done++;
    uv_close((uv_handle_t *)&f->timer, NULL);
    uv_close((uv_handle_t *)&f->stop, NULL);
}

static inline void fix_on_stop(uv_async_t *a)
{
    struct fix *f = a->data;
    wire_server_close(f->server, fix_done);
}

static inline void *fix_main(void *p)
{
    struct fix *f = p;
    uv_run(&f->loop, UV_RUN_DEFAULT);
    return NULL;
}

static inline struct fix *fix_start(void)
{
    static const struct {
        const char *name;
        wire_handler fn;
    } T[] = {{"server.info", fix_echo},    {"job.submit", fix_submit},       {"job.get", fix_error},
             {"job.front", fix_front},     {"job.list", fix_null},           {"job.watch", fix_watch},
             {"job.cancel", fix_cancel},   {"job.pause", fix_pause},         {"job.progress", fix_conns},
             {"evaluator.next", fix_keep}, {"evaluator.report", fix_report}, {"evaluator.progress", fix_timer}};
    struct fix *f = calloc(1, sizeof *f);
    struct base_err err = BASE_ERR_INIT;
    for (int i = 0; i < wire_method_count(); i++) f->method[i] = fix_notsup;
    for (size_t i = 0; i < sizeof T / sizeof T[0]; i++) f->method[wire_method_find(T[i].name)] = T[i].fn;
    f->h = (struct wire_handlers){.method = f->method, .opened = fix_opened, .closed = fix_closed, .flush = fix_flush};
    snprintf(f->dir, sizeof f->dir, "/tmp/taut-test-wire-XXXXXX");
    if (!mkdtemp(f->dir)) abort();
    snprintf(f->path, sizeof f->path, "%s/s.sock", f->dir);
    sem_init(&f->kept_sem, 0, 0);
    sem_init(&f->closed_sem, 0, 0);
    uv_loop_init(&f->loop);
    uv_async_init(&f->loop, &f->stop, fix_on_stop);
    uv_timer_init(&f->loop, &f->timer);
    f->stop.data = f->timer.data = f;
    if (wire_server_new(&f->server, &f->loop, &f->h, f, &err) || wire_server_listen_unix(f->server, f->path, &err)) {
        printf("Bail out! %s\n", err.what);
        exit(1);
    }
    pthread_create(&f->thread, NULL, fix_main, f);
    return f;
}

/* Ends the thread; the fields can be read afterwards, until fix_free. */
static inline void fix_stop(struct fix *f)
{
    uv_async_send(&f->stop);
    pthread_join(f->thread, NULL);
    for (int i = 0; i < f->nkept; i++)
        wire_call_error(f->kept[i], WIRE_EBUSY, "the end"); /* after their server: still allowed */
    wire_server_free(f->server);
}

static inline void fix_free(struct fix *f)
{
    if (uv_loop_close(&f->loop)) abort();
    rmdir(f->dir);
    free(f);
}

/* ---- the raw peer ---- */

struct peer {
    int fd;
    char *buf;
    size_t len, cap, at;
};

static inline struct peer peer_open(const char *path)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    struct peer p = {.fd = socket(AF_UNIX, SOCK_STREAM, 0)};
    snprintf(a.sun_path, sizeof a.sun_path, "%s", path);
    if (connect(p.fd, (struct sockaddr *)&a, sizeof a)) {
        close(p.fd);
        p.fd = -1;
    }
    return p;
}

static inline void peer_close(struct peer *p)
{
    close(p->fd);
    free(p->buf);
    *p = (struct peer){.fd = -1};
}

/* false: the server has closed. */
static inline bool peer_sendn(struct peer *p, const void *data, size_t n)
{
    for (const char *s = data; n;) {
        ssize_t k = send(p->fd, s, n, MSG_NOSIGNAL);
        if (k < 0) return false;
        s += k;
        n -= (size_t)k;
    }
    return true;
}

static inline bool peer_send(struct peer *p, const char *text)
{
    return peer_sendn(p, text, strlen(text));
}

/* Next line without its LF, valid until the next call; NULL: the server has closed. */
static inline char *peer_line(struct peer *p)
{
    size_t seen = p->at;
    for (;;) {
        char *lf = p->len > seen ? memchr(p->buf + seen, '\n', p->len - seen) : NULL;
        if (lf) {
            char *line = p->buf + p->at;
            *lf = '\0';
            p->at = (size_t)(lf - p->buf) + 1;
            return line;
        }
        if (p->at) {
            memmove(p->buf, p->buf + p->at, p->len - p->at);
            p->len -= p->at;
            p->at = 0;
        }
        seen = p->len;
        if (p->cap - p->len < 65536) p->buf = realloc(p->buf, p->cap = p->cap * 2 + 131072);
        ssize_t k = recv(p->fd, p->buf + p->len, p->cap - p->len - 1, 0);
        if (k <= 0) return NULL;
        p->len += (size_t)k;
    }
}

/* Next line as JSON, owned; NULL: closed, or not JSON. */
static inline json_t *peer_json(struct peer *p)
{
    char *line = peer_line(p);
    return line ? json_loads(line, 0, NULL) : NULL;
}

/* The error code of a reply; 0 if it has a result; 1 if there is no reply. Its shape is checked on the way: 2 if it is
 * wrong. */
static inline int reply_code(const json_t *r)
{
    const char *v = json_string_value(json_object_get(r, "jsonrpc"));
    json_t *e = json_object_get(r, "error"), *code = json_object_get(e, "code");
    if (!r) return 1;
    if (!v || strcmp(v, "2.0") || !json_object_get(r, "id") || json_object_size(r) != 3) return 2;
    if (json_object_get(r, "result")) return 0;
    if (!json_is_integer(code) || !json_is_string(json_object_get(e, "message"))) return 2;
    return (int)json_integer_value(code);
}

/* One line out, the code of the one line that comes back. */
static inline int peer_code(struct peer *p, const char *line)
{
    if (!peer_send(p, line) || !peer_send(p, "\n")) return 1;
    json_t *r = peer_json(p);
    int code = reply_code(r);
    json_decref(r);
    return code;
}

/* The connection still answers, and nothing else was in the way. */
static inline bool peer_alive(struct peer *p)
{
    static int n;
    char line[128], want[128];
    snprintf(line, sizeof line,
             "{\"jsonrpc\":\"2.0\",\"id\":\"alive-%d\",\"method\":\"server.info\",\"params\":{\"a\":1}}\n", ++n);
    snprintf(want, sizeof want, "{\"jsonrpc\":\"2.0\",\"id\":\"alive-%d\",\"result\":{\"a\":1}}", n);
    if (!peer_send(p, line)) return false;
    char *got = peer_line(p);
    if (got && !strcmp(got, want)) return true;
    printf("#   got %.200s\n", got ? got : "(closed)");
    return false;
}

#endif
