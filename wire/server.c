/* The server's side of the sockets: listening, connections, writing, and the moment of the flush.
 *
 * A burst is what one iteration of the loop brings. libuv polls, and every read callback dispatches; the check handle
 * runs after the poll and flushes. What is answered elsewhere (a timer, a closing handle) is flushed by the prepare
 * handle before the loop polls again. So nothing is ever held while the loop sleeps. */
#define _GNU_SOURCE /* struct ucred */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/log.h"
#include "wire/internal.h"

enum { BACKLOG = 1024, KEEP_BYTES = 64 << 10 };

/* ---- the end of the server ---- */

static void handle_gone(struct wire_server *s)
{
    if (--s->handles == 0 && s->done) s->done(s->ctx);
}

static void on_own_handle_closed(uv_handle_t *h)
{
    handle_gone(h->data);
}

static void own_handle(struct wire_server *s, uv_handle_t *h)
{
    h->data = s;
    s->handles++;
}

/* ---- flush ---- */

static void tick(struct wire_server *s)
{
    if (s->dirty) {
        if (s->h.flush) s->h.flush(s->ctx);
        s->dirty = false; /* also for what flush itself answered */
        wire_rpc_release(s);
    }
    if (s->closing && !s->conns && !uv_is_closing((uv_handle_t *)&s->prepare)) {
        uv_close((uv_handle_t *)&s->timer, on_own_handle_closed);
        uv_close((uv_handle_t *)&s->check, on_own_handle_closed);
        uv_close((uv_handle_t *)&s->prepare, on_own_handle_closed);
    }
}

static void on_prepare(uv_prepare_t *h)
{
    tick(h->data);
}

static void on_check(uv_check_t *h)
{
    tick(h->data);
}

/* ---- connections ---- */

static void on_conn_closed(uv_handle_t *h)
{
    struct wire_conn *c = h->data;
    struct wire_server *s = c->server;
    if (s->h.closed) s->h.closed(s->ctx, c);
    s->dirty = true; /* closed() may have given leases back */
    wire_rpc_detach(c);
    if (c->prev)
        c->prev->next = c->next;
    else
        s->conns = c->next;
    if (c->next) c->next->prev = c->prev;
    wire_lines_fini(&c->in);
    base_buf_fini(&c->out);
    base_buf_fini(&c->flying);
    free(c);
    handle_gone(s);
}

void wire_conn_kill(struct wire_conn *c)
{
    if (c->closing) return;
    c->closing = true;
    c->server->nconns--;
    uv_close((uv_handle_t *)&c->pipe, on_conn_closed);
}

void wire_conn_pause(struct wire_conn *c)
{
    if (c->closing || !c->reading) return;
    c->reading = false;
    uv_read_stop((uv_stream_t *)&c->pipe);
}

/* Nothing can be written any more: what a batch has gathered waits for a call that may never be answered. */
static bool drained(const struct wire_conn *c)
{
    return !c->held_bytes && !c->out.len && !c->flying_bytes;
}

static void leave(struct wire_conn *c)
{
    if (c->closing) return;
    wire_conn_pause(c);
    c->leaving = true;
    if (drained(c)) wire_conn_kill(c);
}

static void on_alloc(uv_handle_t *h, size_t suggested, uv_buf_t *buf)
{
    struct wire_conn *c = h->data;
    *buf = uv_buf_init(c->server->read, sizeof c->server->read);
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
    struct wire_conn *c = stream->data;
    /* After EOF the peer may still read: what is held for it is written first. */
    if (n == UV_EOF)
        leave(c);
    else if (n < 0)
        wire_conn_kill(c);
    else if (wire_lines_feed(&c->in, buf->base, (size_t)n, wire_rpc_line, c))
        wire_conn_kill(c);
}

static void on_written(uv_write_t *req, int status)
{
    struct wire_conn *c = req->data;
    base_buf_fini(&c->flying);
    c->flying_bytes = 0;
    if (status < 0)
        wire_conn_kill(c);
    else
        wire_conn_send(c);
}

/* Gives the out buffer to the socket: at once as far as it takes it, the rest by the loop. One write is under way at a
 * time; what is released meanwhile gathers in out. */
void wire_conn_send(struct wire_conn *c)
{
    uv_stream_t *stream = (uv_stream_t *)&c->pipe;
    if (c->closing || c->flying_bytes) return;
    if (c->out.st) {
        wire_conn_kill(c);
        return;
    }
    if (c->out.len) {
        uv_buf_t buf = {.base = c->out.p, .len = c->out.len};
        int n = uv_try_write(stream, &buf, 1);
        if (n < 0 && n != UV_EAGAIN) {
            wire_conn_kill(c);
            return;
        }
        size_t sent = n > 0 ? (size_t)n : 0;
        if (sent < c->out.len) {
            c->flying = c->out;
            c->out = (struct base_buf)BASE_BUF_INIT;
            c->flying_bytes = c->flying.len - sent;
            buf = (uv_buf_t){.base = c->flying.p + sent, .len = c->flying_bytes};
            c->write.data = c;
            if (uv_write(&c->write, stream, &buf, 1, on_written)) wire_conn_kill(c);
            return;
        }
        if (c->out.cap > KEEP_BYTES) base_buf_fini(&c->out);
        base_buf_reset(&c->out);
    }
    if (c->leaving) {
        if (drained(c)) wire_conn_kill(c);
    } else if (!c->reading && wire_conn_queued(c) <= WIRE_PAUSE_BYTES) {
        c->reading = !uv_read_start(stream, on_alloc, on_read);
        if (!c->reading) wire_conn_kill(c);
    }
}

void wire_conn_set_data(struct wire_conn *c, void *data)
{
    c->data = data;
}

void *wire_conn_data(const struct wire_conn *c)
{
    return c->data;
}

void wire_conn_close(struct wire_conn *c)
{
    leave(c);
}

/* ---- listening ---- */

static void on_refused(uv_handle_t *h)
{
    struct wire_conn *c = h->data;
    struct wire_server *s = c->server;
    free(c);
    handle_gone(s);
}

static bool allowed(struct wire_conn *c)
{
    struct ucred peer;
    socklen_t n = sizeof peer;
    uv_os_fd_t fd;
    if (uv_fileno((uv_handle_t *)&c->pipe, &fd) || getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &n)) return false;
    c->pid = peer.pid;
    if (peer.uid != geteuid() && peer.uid != 0) {
        log_warn("wire: pid %ld of user %ld refused", c->pid, (long)peer.uid);
        return false;
    }
    if (c->server->nconns >= WIRE_CONNS_MAX) {
        log_warn("wire: pid %ld refused: %d connections are open", c->pid, c->server->nconns);
        return false;
    }
    return true;
}

static void on_connection(uv_stream_t *listener, int status)
{
    struct wire_server *s = listener->data;
    struct wire_conn *c = status < 0 ? NULL : calloc(1, sizeof *c);
    if (!c) {
        log_error("wire: a connection was lost: %s", status < 0 ? uv_strerror(status) : "out of memory");
        return;
    }
    c->server = s;
    c->in.max = WIRE_LINE_MAX;
    uv_pipe_init(s->loop, &c->pipe, 0);
    c->pipe.data = c;
    s->handles++;
    if (uv_accept(listener, (uv_stream_t *)&c->pipe) || !allowed(c)) {
        uv_close((uv_handle_t *)&c->pipe, on_refused);
        return;
    }
    c->next = s->conns;
    if (c->next) c->next->prev = c;
    s->conns = c;
    s->nconns++;
    s->dirty = true;
    if (s->h.opened) s->h.opened(s->ctx, c);
    wire_conn_send(c); /* starts to read */
}

/* Makes the folder of path if it is missing (only the last level: the one above belongs to the system or to the
 * caller). */
static st_t make_folder(const char *path, struct base_err *err)
{
    char dir[sizeof((struct sockaddr_un *)0)->sun_path];
    const char *slash = strrchr(path, '/');
    if (!slash || slash == path) return ST_OK;
    snprintf(dir, sizeof dir, "%.*s", (int)(slash - path), path);
    if (mkdir(dir, 0700) && errno != EEXIST)
        return base_err_set(err, errno == EACCES ? ST_EPERM : ST_EIO, dir, "cannot make the folder: %s",
                            strerror(errno));
    return ST_OK;
}

st_t wire_server_listen_unix(struct wire_server *s, const char *path, struct base_err *err)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    struct stat sb;
    if (s->listening || s->closing)
        return base_err_set(err, ST_ESTATE, path, "the server listens already, or is closing");
    if (strlen(path) >= sizeof addr.sun_path)
        return base_err_set(err, ST_ETOOBIG, path, "too long for a socket: at most %zu bytes",
                            sizeof addr.sun_path - 1);
    memcpy(addr.sun_path, path, strlen(path) + 1);
    st_t st = make_folder(path, err);
    if (st) return st;
    if (!lstat(path, &sb)) {
        if (!S_ISSOCK(sb.st_mode)) return base_err_set(err, ST_EEXIST, path, "is there and is not a socket");
        unlink(path);
    }
    char *copy = strdup(path);
    if (!copy) return base_err_set(err, ST_ENOMEM, path, "out of memory");
    /* The mode is set before bind, which takes it over: there is no moment at which others could connect. */
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || fchmod(fd, 0600) || bind(fd, (struct sockaddr *)&addr, sizeof addr)) {
        st = base_err_set(err, errno == EACCES ? ST_EPERM : ST_EIO, path, "cannot listen: %s", strerror(errno));
        goto close_fd;
    }
    int rc = uv_pipe_init(s->loop, &s->listener, 0);
    if (rc) {
        st = base_err_set(err, ST_EIO, path, "cannot listen: %s", uv_strerror(rc));
        goto unlink_path;
    }
    own_handle(s, (uv_handle_t *)&s->listener);
    s->listening = true; /* from here on wire_server_close closes the handle and removes the file */
    s->path = copy;
    rc = uv_pipe_open(&s->listener, fd);
    if (rc)
        close(fd);
    else
        rc = uv_listen((uv_stream_t *)&s->listener, BACKLOG, on_connection);
    return rc ? base_err_set(err, ST_EIO, path, "cannot listen: %s", uv_strerror(rc)) : ST_OK;

unlink_path:
    unlink(path);
close_fd:
    if (fd >= 0) close(fd);
    free(copy);
    return st;
}

/* ---- the server ---- */

st_t wire_server_new(struct wire_server **out, uv_loop_t *loop, const struct wire_handlers *h, void *ctx,
                     struct base_err *err)
{
    for (int i = 0; i < wire_method_count(); i++)
        if (!h->method[i]) return base_err_set(err, ST_EINVAL, wire_method_name(i), "has no handler");
    struct wire_server *s = calloc(1, sizeof *s);
    if (!s) return base_err_set(err, ST_ENOMEM, "", "out of memory");
    s->loop = loop;
    s->h = *h;
    s->ctx = ctx;
    s->held_end = &s->held;
    /* A write to a peer that has left is an error code, never the end of the process. */
    struct sigaction pipe_action;
    if (!sigaction(SIGPIPE, NULL, &pipe_action) && pipe_action.sa_handler == SIG_DFL) signal(SIGPIPE, SIG_IGN);

    /* None of these can fail. The two that watch every iteration do not keep the loop alive: connections do. */
    uv_timer_init(loop, &s->timer);
    uv_prepare_init(loop, &s->prepare);
    uv_check_init(loop, &s->check);
    own_handle(s, (uv_handle_t *)&s->timer);
    own_handle(s, (uv_handle_t *)&s->prepare);
    own_handle(s, (uv_handle_t *)&s->check);
    uv_prepare_start(&s->prepare, on_prepare);
    uv_check_start(&s->check, on_check);
    uv_unref((uv_handle_t *)&s->prepare);
    uv_unref((uv_handle_t *)&s->check);
    *out = s;
    return ST_OK;
}

static void on_patience_over(uv_timer_t *t)
{
    struct wire_server *s = t->data;
    for (struct wire_conn *c = s->conns; c; c = c->next) wire_conn_kill(c);
}

void wire_server_close(struct wire_server *s, void (*done)(void *ctx))
{
    if (s->closing) return;
    s->closing = true;
    s->done = done;
    if (s->listening) {
        unlink(s->path);
        uv_close((uv_handle_t *)&s->listener, on_own_handle_closed);
    }
    uv_timer_start(&s->timer, on_patience_over, WIRE_CLOSE_MS, 0);
    uv_ref((uv_handle_t *)&s->prepare); /* its next run ends the server once the connections have gone */
    for (struct wire_conn *c = s->conns; c; c = c->next) leave(c);
}

void wire_server_free(struct wire_server *s)
{
    if (!s) return;
    free(s->path);
    free(s);
}

int wire_server_conns(const struct wire_server *s)
{
    return s->nconns;
}
