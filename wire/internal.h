/* What server.c (sockets, the loop) and rpc.c (calls, answers) share. Nobody else includes it.
 *
 * Life of a call: a line comes (server.c) -> parsed, checked and handed to its handler (rpc.c) -> answered: its text is
 * put on the server's held list -> once an iteration, after flush, the held texts move to their connections' out
 * buffers -> written (server.c). */
#ifndef TAUT_WIRE_INTERNAL_H
#define TAUT_WIRE_INTERNAL_H

#include "wire/frame.h"
#include "wire/wire.h"

enum {
    WIRE_READ_BYTES = 64 << 10,
    WIRE_PAUSE_BYTES = 1 << 20, /* so much waits for a peer: nothing more is read from it until it has read */
    WIRE_OPEN_BYTES = 16 << 20, /* size of one peer's unanswered calls; more get WIRE_EBUSY */
    WIRE_CLOSE_MS = 1000,       /* patience of wire_server_close with peers that do not read */
};

struct wire_batch {
    size_t pending; /* calls not yet released, and one while the batch is being dispatched */
    size_t bytes;   /* of buf, as counted in conn->batch_bytes */
    struct base_buf buf;
};

enum wire_kind {
    WIRE_ANSWER,  /* of a handler: what wire_server_fail_held turns into an error */
    WIRE_REFUSAL, /* of this room (not JSON, no such method, …): true whatever becomes of the commit */
    WIRE_NOTICE,  /* our notification to the peer: dropped by wire_server_fail_held, what it tells did not happen */
};

struct wire_call {
    struct wire_conn *conn;        /* NULL once the peer has left */
    struct wire_call *prev, *next; /* conn->calls */
    struct wire_call *held_next;
    struct wire_batch *batch; /* or NULL */
    enum wire_kind kind;
    json_t *id;     /* owned; NULL: unknown (refusals), or nothing to answer (silent) */
    json_t *params; /* owned */
    bool silent;    /* the peer's notification */
    size_t cost;    /* in conn->open_bytes while it is open */
    struct base_buf text;
};

struct wire_conn {
    uv_pipe_t pipe;
    struct wire_server *server;
    struct wire_conn *prev, *next;
    struct wire_conn *touched_next;
    struct wire_call *calls; /* open and held ones */
    struct wire_lines in;
    struct base_buf out;    /* released, not yet given to the socket */
    struct base_buf flying; /* with uv_write */
    uv_write_t write;
    size_t flying_bytes;
    size_t held_bytes;  /* answered, not yet released */
    size_t batch_bytes; /* released, but their batch is not complete */
    size_t open_bytes;
    bool reading, touched;
    bool leaving; /* nothing more is dispatched; closes when all is written */
    bool closing; /* uv_close was called */
    long pid;     /* of the peer, for the log */
    void *data;
};

struct wire_server {
    uv_loop_t *loop;
    struct wire_handlers h;
    void *ctx;
    uv_pipe_t listener;
    uv_prepare_t prepare;
    uv_check_t check;
    uv_timer_t timer;
    int handles; /* open uv handles; 0: done */
    bool listening, closing;
    bool dirty; /* something was dispatched or answered since the last flush */
    char *path;
    struct wire_conn *conns;
    int nconns; /* not closing */
    struct wire_call *held, **held_end;
    void (*done)(void *ctx);
    char read[WIRE_READ_BYTES]; /* one for all: libuv hands a buffer back before it asks for the next */
};

/* rpc.c */
bool wire_rpc_line(void *conn, const char *text, size_t len); /* a wire_line_fn */
void wire_rpc_release(struct wire_server *s); /* held texts to their connections, and these to the socket */
void wire_rpc_detach(struct wire_conn *c);    /* the peer has left: its calls have no connection any more */

/* server.c */
void wire_conn_send(struct wire_conn *c);
void wire_conn_kill(struct wire_conn *c); /* at once; closed() follows from the loop */
void wire_conn_pause(struct wire_conn *c);
static inline size_t wire_conn_queued(const struct wire_conn *c)
{
    return c->held_bytes + c->batch_bytes + c->out.len + c->flying_bytes;
}

#endif
