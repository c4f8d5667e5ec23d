/* JSON-RPC 2.0 over libuv streams: one JSON text a line. Framing, dispatch, replies, batches, limits, peer identity.
 *
 * Server (in a uv loop):
 *   struct wire_server *s;
 *   wire_server_new(&s, loop, handlers, ctx, &err);            // handlers[i] belongs to the i-th line of methods.def
 *   wire_server_listen_unix(s, "/run/x.sock", &err);
 *   ... in a handler:  wire_call_result(call, json_pack("{s:i}", "id", 3));
 *
 * Client (blocking, one thread):
 *   struct wire_client *c;
 *   wire_client_open(&c, path, &err);
 *   json_t *res; st = wire_client_call(c, "job.list", json_object(), 30000, &res, NULL, &err);
 *
 * Invariants
 *   - Every call is answered exactly once, or its connection is gone. A handler may keep the call and answer later
 *     (after a commit, after a wait): the pointer stays valid until wire_call_result/_raw/_error, which free it, also
 *     if the peer has left.
 *   - Replies to one connection leave in the order in which they were given, not in the order of the calls. The replies
 *     of a batch leave together as one array.
 *   - No input ends the server: not JSON -32700 (also too deep, not UTF-8); not a request -32600; a line over
 *     WIRE_LINE_MAX -32600 and the rest of that line is skipped; unknown method -32601; params not an object (or
 *     absent) -32602. The connection goes on after each.
 *   - A notification (no id) runs its handler; what it answers is dropped.
 *   - A peer that does not read is not read from either once 1 MiB waits for it, and is closed when something is to be
 *     sent to it while more than WIRE_QUEUE_MAX bytes wait. A single reply may have any size (the client takes 64 MiB).
 *   - A peer whose unanswered calls hold more than 16 MiB gets WIRE_EBUSY for further ones.
 *   - A peer that ends its side (EOF) gets what was answered by the end of that burst; calls that are still kept do not
 *     hold it open.
 *   - SIGPIPE never ends the process: wire_server_new ignores it if it has its default action; the client does not
 *     raise it. */
#ifndef TAUT_WIRE_WIRE_H
#define TAUT_WIRE_WIRE_H

#include <jansson.h>
#include <stdbool.h>
#include <uv.h>

#include "base/buf.h"
#include "base/err.h"

#define WIRE_LINE_MAX  (4 << 20)  /* bytes of one line without its LF */
#define WIRE_QUEUE_MAX (64 << 20) /* bytes queued to one peer */
#define WIRE_BATCH_MAX 1000       /* calls in one batch */
#define WIRE_CONNS_MAX 1024       /* open connections; further ones are closed at once */

/* Error codes on the wire: JSON-RPC's own and Taut's. */
enum wire_code {
    WIRE_EPARSE = -32700,
    WIRE_EREQUEST = -32600,
    WIRE_EMETHOD = -32601,
    WIRE_EPARAMS = -32602,
    WIRE_EINTERNAL = -32603,
    WIRE_ENOTFOUND = -32001, /* no such job, trial, … */
    WIRE_ESTATE = -32002,    /* not possible in this state */
    WIRE_ENOTSUP = -32003,   /* promised, not built yet */
    WIRE_ENOSPC = -32004,    /* the store cannot be written (disk full); nothing was changed */
    WIRE_EBUSY = -32005,
    WIRE_ESTALE = -32010, /* lease epoch is old */
};

enum wire_role { WIRE_ROLE_CLIENT = 1, WIRE_ROLE_EVALUATOR = 2 };

/* Index of each method, in the order of methods.def: names come from wire_method_name(). */
int wire_method_count(void);
const char *wire_method_name(int i);
enum wire_role wire_method_role(int i);
int wire_method_find(const char *name); /* -1: none */

/* ---- server ---- */

struct wire_server;
struct wire_conn;
struct wire_call;

/* params: borrowed, always an object; valid until the call is answered. */
typedef void (*wire_handler)(void *ctx, struct wire_call *call, json_t *params);

struct wire_handlers {
    const wire_handler *method;                        /* [wire_method_count()], no NULL slots */
    void (*opened)(void *ctx, struct wire_conn *conn); /* may be NULL */
    void (*closed)(void *ctx, struct wire_conn *conn); /* may be NULL; the last mention of conn */
    /* Called once after each burst of input has been dispatched and before any queued reply is written: the place to
     * commit, so that many reports share one sync. Replies given inside handlers are held until then. May be NULL.
     * A burst is one iteration of the loop; opened, closed, and answers and notifications given outside a handler (a
     * timer) count as one too, and are flushed before the loop sleeps. What flush itself answers leaves with the rest,
     * without another flush. */
    void (*flush)(void *ctx);
};

st_t wire_server_new(struct wire_server **out, uv_loop_t *loop, const struct wire_handlers *h, void *ctx,
                     struct base_err *err);
/* Unix socket, mode 0600, peers of another uid (SO_PEERCRED, root excepted) are refused. A stale socket file is
 * replaced; the caller holds the store's lock, so a live one cannot be there. The last folder of path is made (mode
 * 0700) if it is missing. ST_ETOOBIG: the path does not fit sockaddr_un; ST_EEXIST: something else than a socket is
 * there; ST_EPERM, ST_EIO; ST_ESTATE: listens already. */
st_t wire_server_listen_unix(struct wire_server *s, const char *path, struct base_err *err);
/* Stops listening, removes the socket file, closes every connection after what is queued was written (at most 1 s).
 * closed() and a last flush come before done (may be NULL), which is called from the loop. Calls still kept may be
 * answered (freed) even after wire_server_free. */
void wire_server_close(struct wire_server *s, void (*done)(void *ctx));
void wire_server_free(struct wire_server *s); /* after done */
int wire_server_conns(const struct wire_server *s);

/* Answers: each consumes the call. result: stolen; NULL (a packing that failed) becomes WIRE_EINTERNAL. raw: a complete
 * JSON text, taken from buf (buf is empty afterwards; LFs in it are replaced by spaces); empty or failed:
 * WIRE_EINTERNAL. */
void wire_call_result(struct wire_call *call, json_t *result);
void wire_call_raw(struct wire_call *call, struct base_buf *raw);
void wire_call_error(struct wire_call *call, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
struct wire_conn *wire_call_conn(struct wire_call *call); /* NULL once the peer has left */
/* Reply after commit. Answers given while the server is held (from the start of each burst until flush returns) wait;
 * after flush they leave by themselves. If the commit failed, flush calls wire_server_fail_held first: every waiting
 * answer of this burst becomes that error, and the notifications that wait with them are dropped, since what they tell
 * did not happen. What flush gives after it is not touched. */
void wire_server_fail_held(struct wire_server *s, int code, const char *text);

/* Per-connection data of the owner (an evaluator's session, watches). */
void wire_conn_set_data(struct wire_conn *c, void *data);
void *wire_conn_data(const struct wire_conn *c);
/* A notification to the peer; params stolen. Held until the flush like an answer, in order with them. */
void wire_conn_notify(struct wire_conn *c, const char *method, json_t *params);
/* Nothing more of this peer is dispatched; what was given to it before is still written (as long as it reads), then
 * closed() follows from the loop, never from within this call. */
void wire_conn_close(struct wire_conn *c);

/* ---- client ---- */

struct wire_client;

/* ST_ECLOSED when nobody listens (no such file, refused), ST_ETOOBIG, ST_EPERM (also: the listener is another user's,
 * neither side root), ST_ETIMEDOUT when a server accepts nothing for 10 s, ST_EIO. */
st_t wire_client_open(struct wire_client **out, const char *path, struct base_err *err);
void wire_client_close(struct wire_client *c); /* NULL allowed */
/* One call, one reply. params: stolen (NULL: {}). timeout_ms < 0: for ever. *result: owned by the caller.
 * An error reply: ST_EINVAL and its code in *rpc_code (may be NULL; 0 when the error is not the server's), its message
 * in err->what. ST_ECLOSED, ST_ETIMEDOUT, ST_EPARSE (the peer does not speak this protocol), ST_ETOOBIG (a reply over
 * 64 MiB): the connection is then unusable. ST_ETOOBIG also for a request over WIRE_LINE_MAX, which is not sent: the
 * connection stays good. Notifications that arrive meanwhile are kept for wire_client_notification. A signal does not
 * end the wait, but see interrupt. */
st_t wire_client_call(struct wire_client *c, const char *method, json_t *params, int timeout_ms, json_t **result,
                      int *rpc_code, struct base_err *err);
/* Next notification: *method and *params owned by the caller. ST_ETIMEDOUT when none came; ST_ECLOSED. */
st_t wire_client_notification(struct wire_client *c, int timeout_ms, char **method, json_t **params);
/* Bytes of the last reply. */
size_t wire_client_reply_bytes(const struct wire_client *c);
/* While *flag is non-zero (set by a signal handler) waits return ST_ECANCELED; the connection stays usable for further
 * calls only if no call was under way. flag is borrowed. */
void wire_client_interrupt(struct wire_client *c, volatile int *flag);

/* The default socket: $TAUT_SOCKET, else $XDG_RUNTIME_DIR/taut/tautd.sock, else /tmp/taut-<uid>/tautd.sock. */
st_t wire_default_socket(char *buf, size_t size, struct base_err *err);
/* The socket of a store's folder: DIR/tautd.sock; where that is too long for sockaddr_un, a name made of the folder's
 * hash in $XDG_RUNTIME_DIR (or /tmp/taut-<uid>). dir must exist (it is made absolute first). */
st_t wire_dir_socket(const char *dir, char *buf, size_t size, struct base_err *err);

#endif
