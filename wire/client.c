/* The client: one blocking connection, used from one thread. The socket itself never blocks; every wait is a poll with
 * a deadline. */
#define _GNU_SOURCE /* struct ucred */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/json_write.h"
#include "wire/frame.h"
#include "wire/wire.h"

enum {
    REPLY_MAX = 64 << 20,
    READ_BYTES = 64 << 10,
    CONNECT_S = 10, /* a listener that accepts nothing, with a full queue */
    SLICE_MS = 100, /* longest poll with an interrupt flag: its signal may have been handled by another thread */
};

struct note {
    struct note *next;
    char *method;
    json_t *params;
};

struct wire_client {
    int fd;
    st_t broken; /* not 0: what every further call returns */
    struct base_err why;
    volatile int *interrupt;
    long long id;  /* of the last call */
    bool waiting;  /* for its reply */
    size_t bytes;  /* of the last reply */
    json_t *reply; /* the whole object */
    struct note *notes, **notes_end;
    struct wire_lines in;
    char read[READ_BYTES];
};

/* The connection is unusable from here on. */
static st_t give_up(struct wire_client *c, st_t st, const char *what)
{
    c->broken = st;
    base_err_set(&c->why, st, "", "%s", what);
    return st;
}

static st_t tell(const struct wire_client *c, st_t st, struct base_err *err)
{
    const char *what = st == c->broken ? c->why.what : base_status_text(st);
    return base_err_set(err, st, "", "%s", what);
}

/* ---- input ---- */

static bool take_note(struct wire_client *c, json_t *msg)
{
    json_t *params = json_object_get(msg, "params");
    struct note *n = calloc(1, sizeof *n);
    char *method = strdup(json_string_value(json_object_get(msg, "method")));
    if (params)
        json_incref(params);
    else
        params = json_object();
    if (!n || !method || !params) {
        free(n);
        free(method);
        json_decref(params);
        give_up(c, ST_ENOMEM, "out of memory");
        return false;
    }
    n->method = method;
    n->params = params;
    *c->notes_end = n;
    c->notes_end = &n->next;
    return true;
}

/* A reply to our call; one without a known id speaks of the only request there is. */
static bool ours(const struct wire_client *c, const json_t *msg)
{
    const json_t *id = json_object_get(msg, "id");
    return c->waiting && !c->reply && (json_is_null(id) || (json_is_integer(id) && json_integer_value(id) == c->id));
}

static bool on_line(void *ctx, const char *text, size_t len)
{
    struct wire_client *c = ctx;
    json_t *msg = NULL;
    struct base_err err = BASE_ERR_INIT;
    bool good = true;
    if (!text) {
        give_up(c, ST_ETOOBIG, "the server sent a line of more than 64 MiB");
        return false;
    }
    if (base_json_parse(&msg, text, len, "reply", &err)) {
        char what[sizeof err.where + sizeof err.what + 32], words[sizeof err.where + sizeof err.what];
        snprintf(what, sizeof what, "not the wire protocol: %s", base_err_text(&err, words, sizeof words));
        give_up(c, ST_EPARSE, what);
        return false;
    }
    if (json_is_string(json_object_get(msg, "method")) && !json_object_get(msg, "id")) {
        good = take_note(c, msg);
    } else if (ours(c, msg)) {
        c->reply = json_incref(msg);
        c->bytes = len;
    } else {
        give_up(c, ST_EPARSE, "not the wire protocol: neither a reply to the call nor a notification");
        good = false;
    }
    json_decref(msg);
    return good;
}

/* What can be read without waiting, one buffer of it, so that a server that never stops does not outlast a deadline. */
static st_t read_some(struct wire_client *c)
{
    ssize_t n = recv(c->fd, c->read, sizeof c->read, MSG_DONTWAIT);
    if (n < 0 && (errno == EINTR || errno == EAGAIN || errno == EWOULDBLOCK)) return ST_OK;
    if (n < 0) return give_up(c, ST_ECLOSED, strerror(errno));
    if (n == 0) return give_up(c, ST_ECLOSED, "the server closed the connection");
    if (wire_lines_feed(&c->in, c->read, (size_t)n, on_line, c)) return give_up(c, ST_ENOMEM, "out of memory");
    return c->broken;
}

/* ---- waiting ---- */

static uint64_t deadline_of(int timeout_ms)
{
    return timeout_ms < 0 ? UINT64_MAX : base_clock_ns() + (uint64_t)timeout_ms * 1000000u;
}

/* ST_OK: something of events may be possible. The deadline is looked at after the poll, so that with none to wait at
 * all what is already there still counts. */
static st_t wait_for(struct wire_client *c, short events, short *revents, uint64_t deadline)
{
    for (;;) {
        if (c->interrupt && __atomic_load_n(c->interrupt, __ATOMIC_RELAXED)) return ST_ECANCELED;
        int ms = -1;
        if (deadline != UINT64_MAX) {
            uint64_t now = base_clock_ns(), left = now < deadline ? (deadline - now + 999999) / 1000000 : 0;
            ms = (int)left;
        }
        if (c->interrupt && (ms < 0 || ms > SLICE_MS)) ms = SLICE_MS;
        struct pollfd p = {.fd = c->fd, .events = events};
        int n = poll(&p, 1, ms);
        if (n > 0) {
            *revents = p.revents;
            return ST_OK;
        }
        if (n < 0 && errno != EINTR) return give_up(c, ST_EIO, strerror(errno));
        if (deadline != UINT64_MAX && base_clock_ns() >= deadline) return ST_ETIMEDOUT;
    }
}

/* ---- calls ---- */

/* Reads while it writes: a server that waits for us to read would otherwise wait for ever. */
static st_t send_all(struct wire_client *c, const struct base_buf *line, uint64_t deadline)
{
    for (size_t at = 0; at < line->len;) {
        ssize_t n = send(c->fd, line->p + at, line->len - at, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n >= 0) {
            at += (size_t)n;
            continue;
        }
        if (errno == EINTR) continue;
        /* The server may have said why before it left. */
        if (errno != EAGAIN && errno != EWOULDBLOCK)
            return read_some(c) ? c->broken : give_up(c, ST_ECLOSED, strerror(errno));
        short revents;
        st_t st = wait_for(c, POLLIN | POLLOUT, &revents, deadline);
        if (!st && revents & POLLIN) st = read_some(c);
        if (st) return st;
    }
    return ST_OK;
}

static int add_part(const char *p, size_t n, void *buf)
{
    base_buf_add(buf, p, n);
    return 0;
}

static st_t request_line(struct base_buf *b, long long id, const char *method, json_t *params, struct base_err *err)
{
    struct base_jw w;
    base_buf_printf(b, "{\"jsonrpc\":\"2.0\",\"id\":%lld,\"method\":", id);
    base_jw_init(&w, b);
    base_jw_str(&w, method);
    base_buf_str(b, ",\"params\":");
    if (!params)
        base_buf_str(b, "{}");
    else if (json_dump_callback(params, add_part, b, JSON_COMPACT))
        return base_err_set(err, ST_EINVAL, method, "params cannot be written");
    base_buf_str(b, "}\n");
    if (b->st) return base_err_set(err, b->st, method, "out of memory");
    if (b->len - 1 > WIRE_LINE_MAX)
        return base_err_set(err, ST_ETOOBIG, method, "the request has %zu bytes, the limit is %d", b->len - 1,
                            WIRE_LINE_MAX);
    return ST_OK;
}

/* Takes the reply apart. */
static st_t outcome(struct wire_client *c, json_t **result, int *rpc_code, struct base_err *err)
{
    json_t *reply = c->reply, *res = json_object_get(reply, "result"), *error = json_object_get(reply, "error");
    json_t *code = json_object_get(error, "code");
    const char *message = json_string_value(json_object_get(error, "message"));
    st_t st = ST_OK;
    c->reply = NULL;
    if (res && !error) {
        *result = json_incref(res);
    } else if (!res && json_is_integer(code) && message) {
        if (rpc_code) *rpc_code = (int)json_integer_value(code);
        st = base_err_set(err, ST_EINVAL, "", "%s", message);
    } else {
        give_up(c, ST_EPARSE, "not the wire protocol: a reply with neither a result nor an error");
        st = tell(c, ST_EPARSE, err);
    }
    json_decref(reply);
    return st;
}

st_t wire_client_call(struct wire_client *c, const char *method, json_t *params, int timeout_ms, json_t **result,
                      int *rpc_code, struct base_err *err)
{
    struct base_buf line = BASE_BUF_INIT;
    uint64_t deadline = deadline_of(timeout_ms);
    st_t st = c->broken;
    if (rpc_code) *rpc_code = 0;
    if (!st && c->interrupt && __atomic_load_n(c->interrupt, __ATOMIC_RELAXED))
        st = ST_ECANCELED; /* nothing is under way yet: the connection stays good */
    if (st) {
        json_decref(params);
        return tell(c, st, err);
    }
    st = request_line(&line, c->id + 1, method, params, err);
    json_decref(params);
    if (st) {
        base_buf_fini(&line);
        return st;
    }
    c->id++;
    c->waiting = true;
    st = send_all(c, &line, deadline);
    base_buf_fini(&line);
    while (!st && !c->reply) {
        short revents;
        st = wait_for(c, POLLIN, &revents, deadline);
        if (!st) st = read_some(c);
    }
    c->waiting = false;
    /* A reply that came with the end of the connection is a reply all the same. */
    if (c->reply) return outcome(c, result, rpc_code, err);
    if (!c->broken) give_up(c, ST_ECLOSED, "an earlier call on this connection was given up");
    return st == c->broken ? tell(c, st, err) : base_err_set(err, st, "", "%s: %s", method, base_status_text(st));
}

st_t wire_client_notification(struct wire_client *c, int timeout_ms, char **method, json_t **params)
{
    uint64_t deadline = deadline_of(timeout_ms);
    while (!c->notes) {
        short revents;
        st_t st = c->broken;
        if (!st) st = wait_for(c, POLLIN, &revents, deadline);
        if (!st) st = read_some(c);
        if (st && !c->notes) return st;
    }
    struct note *n = c->notes;
    c->notes = n->next;
    if (!c->notes) c->notes_end = &c->notes;
    *method = n->method;
    *params = n->params;
    free(n);
    return ST_OK;
}

size_t wire_client_reply_bytes(const struct wire_client *c)
{
    return c->bytes;
}

void wire_client_interrupt(struct wire_client *c, volatile int *flag)
{
    c->interrupt = flag;
}

/* ---- the connection ---- */

static st_t connect_error(const char *path, int e, struct base_err *err)
{
    if (e == EACCES || e == EPERM) return base_err_set(err, ST_EPERM, path, "%s", strerror(e));
    if (e == EAGAIN) return base_err_set(err, ST_ETIMEDOUT, path, "the server does not accept connections");
    if (e == ENOENT || e == ECONNREFUSED || e == ENOTDIR) return base_err_set(err, ST_ECLOSED, path, "nobody listens");
    return base_err_set(err, ST_EIO, path, "%s", strerror(e));
}

st_t wire_client_open(struct wire_client **out, const char *path, struct base_err *err)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof addr.sun_path)
        return base_err_set(err, ST_ETOOBIG, path, "too long for a socket: at most %zu bytes",
                            sizeof addr.sun_path - 1);
    memcpy(addr.sun_path, path, strlen(path) + 1);
    struct wire_client *c = calloc(1, sizeof *c);
    if (!c) return base_err_set(err, ST_ENOMEM, path, "out of memory");
    c->in.max = REPLY_MAX;
    c->notes_end = &c->notes;
    c->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    st_t st = ST_OK;
    struct timeval patience = {.tv_sec = CONNECT_S};
    struct ucred peer;
    socklen_t n = sizeof peer;
    if (c->fd < 0 || setsockopt(c->fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience)) {
        st = base_err_set(err, ST_EIO, path, "%s", strerror(errno));
        goto close_client;
    }
    int rc;
    do rc = connect(c->fd, (struct sockaddr *)&addr, sizeof addr);
    while (rc && errno == EINTR);
    if (rc) {
        st = connect_error(path, errno, err);
    } else if (getsockopt(c->fd, SOL_SOCKET, SO_PEERCRED, &peer, &n)) {
        st = base_err_set(err, ST_EIO, path, "%s", strerror(errno));
    } else if (peer.uid != geteuid() && peer.uid != 0 && geteuid() != 0) {
        /* In a folder that others can write to, somebody else may have put a socket in the server's place. */
        st = base_err_set(err, ST_EPERM, path, "the server belongs to another user (%ld)", (long)peer.uid);
    }
    if (!st) {
        *out = c;
        return ST_OK;
    }

close_client:
    wire_client_close(c);
    return st;
}

void wire_client_close(struct wire_client *c)
{
    if (!c) return;
    if (c->fd >= 0) close(c->fd);
    while (c->notes) {
        struct note *n = c->notes;
        c->notes = n->next;
        free(n->method);
        json_decref(n->params);
        free(n);
    }
    json_decref(c->reply);
    wire_lines_fini(&c->in);
    free(c);
}
