/* JSON-RPC 2.0 (jsonrpc.org/specification): requests, batches, notifications and their answers; knows no sockets. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/json_write.h"
#include "base/log.h"
#include "wire/internal.h"

/* ---- texts ---- */

static int dump_part(const char *p, size_t n, void *buf)
{
    struct base_buf *b = buf;
    base_buf_add(b, p, n);
    return b->st ? -1 : 0;
}

static bool add_json(struct base_buf *b, const json_t *v)
{
    return !json_dump_callback(v, dump_part, b, JSON_COMPACT | JSON_ENCODE_ANY);
}

static void add_head(struct base_buf *b, const json_t *id)
{
    base_buf_str(b, "{\"jsonrpc\":\"2.0\",\"id\":");
    if (json_is_integer(id))
        base_buf_printf(b, "%lld", (long long)json_integer_value(id));
    else if (id)
        add_json(b, id);
    else
        base_buf_str(b, "null");
}

/* The message may hold anything (a piece of what the peer sent, cut anywhere): the writer makes it valid UTF-8. */
static void add_error(struct base_buf *b, const json_t *id, int code, const char *message)
{
    struct base_jw w;
    add_head(b, id);
    base_buf_printf(b, ",\"error\":{\"code\":%d,\"message\":", code);
    base_jw_init(&w, b);
    base_jw_str(&w, message);
    base_buf_str(b, "}}");
}

/* ---- calls ---- */

static struct wire_call *call_new(struct wire_conn *c, enum wire_kind kind, struct wire_batch *batch, json_t *id)
{
    struct wire_call *call = calloc(1, sizeof *call);
    if (!call) {
        log_error("wire: out of memory; connection of pid %ld closed", c->pid);
        wire_conn_kill(c);
        return NULL;
    }
    call->conn = c;
    call->kind = kind;
    call->id = json_incref(id);
    call->batch = batch;
    if (batch) batch->pending++;
    call->next = c->calls;
    if (call->next) call->next->prev = call;
    c->calls = call;
    return call;
}

static void batch_put(struct wire_batch *b)
{
    if (!b || --b->pending) return;
    base_buf_fini(&b->buf);
    free(b);
}

static void call_unlink(struct wire_call *call)
{
    if (!call->conn) return;
    if (call->prev)
        call->prev->next = call->next;
    else
        call->conn->calls = call->next;
    if (call->next) call->next->prev = call->prev;
    call->conn->open_bytes -= call->cost;
    call->conn = NULL;
}

static void call_free(struct wire_call *call)
{
    call_unlink(call);
    batch_put(call->batch);
    json_decref(call->id);
    json_decref(call->params);
    base_buf_fini(&call->text);
    free(call);
}

/* The text is complete: it waits for the flush. */
static void hold(struct wire_call *call)
{
    struct wire_conn *c = call->conn;
    struct wire_server *s = c->server;
    s->dirty = true;
    if (call->text.st) {
        log_error("wire: out of memory; connection of pid %ld closed", c->pid);
        wire_conn_kill(c);
    }
    /* Looked at before the text is added: one reply may have any size. */
    if (!c->closing && wire_conn_queued(c) > WIRE_QUEUE_MAX) {
        log_warn("wire: pid %ld does not read what waits for it; connection closed", c->pid);
        wire_conn_kill(c);
    }
    if (c->closing) {
        call_free(call);
        return;
    }
    json_decref(call->params);
    call->params = NULL;
    c->open_bytes -= call->cost;
    call->cost = 0;
    call->held_next = NULL;
    *s->held_end = call;
    s->held_end = &call->held_next;
    c->held_bytes += call->text.len;
    if (wire_conn_queued(c) > WIRE_PAUSE_BYTES) wire_conn_pause(c);
}

/* Nobody hears the answer: the peer has left, or asked for none. */
static bool unheard(struct wire_call *call)
{
    if (call->conn && !call->conn->closing && !call->silent) return false;
    if (call->conn) call->conn->server->dirty = true;
    call_free(call);
    return true;
}

static void answer_error(struct wire_call *call, int code, const char *message)
{
    base_buf_reset(&call->text);
    add_error(&call->text, call->id, code, message);
    hold(call);
}

void wire_call_result(struct wire_call *call, json_t *result)
{
    if (!unheard(call)) {
        add_head(&call->text, call->id);
        base_buf_str(&call->text, ",\"result\":");
        /* NULL: the handler's own packing failed */
        if (!result || !add_json(&call->text, result)) {
            answer_error(call, WIRE_EINTERNAL, "the result could not be written");
        } else {
            base_buf_str(&call->text, "}");
            hold(call);
        }
    }
    json_decref(result);
}

void wire_call_raw(struct wire_call *call, struct base_buf *raw)
{
    if (!unheard(call)) {
        if (raw->st || !raw->len) {
            answer_error(call, WIRE_EINTERNAL, "the result could not be written");
        } else {
            add_head(&call->text, call->id);
            base_buf_str(&call->text, ",\"result\":");
            /* An LF in JSON is white space, but here it would end the line. */
            for (char *lf = raw->p; (lf = memchr(lf, '\n', raw->len - (size_t)(lf - raw->p)));) *lf = ' ';
            base_buf_add(&call->text, raw->p, raw->len);
            base_buf_str(&call->text, "}");
            hold(call);
        }
    }
    base_buf_fini(raw);
}

void wire_call_error(struct wire_call *call, int code, const char *fmt, ...)
{
    char message[1024];
    va_list ap;
    if (unheard(call)) return;
    va_start(ap, fmt);
    vsnprintf(message, sizeof message, fmt, ap);
    va_end(ap);
    answer_error(call, code, message);
}

struct wire_conn *wire_call_conn(struct wire_call *call)
{
    return call->conn && !call->conn->closing ? call->conn : NULL;
}

void wire_conn_notify(struct wire_conn *c, const char *method, json_t *params)
{
    struct wire_call *note = c->closing ? NULL : call_new(c, WIRE_NOTICE, NULL, NULL);
    if (note) {
        struct base_jw w;
        base_buf_str(&note->text, "{\"jsonrpc\":\"2.0\",\"method\":");
        base_jw_init(&w, &note->text);
        base_jw_str(&w, method);
        base_buf_str(&note->text, ",\"params\":");
        if (!params || !add_json(&note->text, params)) {
            log_error("wire: the params of notification %s could not be written", method);
            call_free(note);
        } else {
            base_buf_str(&note->text, "}");
            hold(note);
        }
    }
    json_decref(params);
}

/* ---- what waits for the flush ---- */

void wire_server_fail_held(struct wire_server *s, int code, const char *text)
{
    for (struct wire_call *call = s->held; call; call = call->held_next) {
        if (call->kind == WIRE_REFUSAL || !call->conn) continue;
        call->conn->held_bytes -= call->text.len;
        base_buf_reset(&call->text);
        if (call->kind == WIRE_ANSWER) add_error(&call->text, call->id, code, text);
        call->conn->held_bytes += call->text.len;
    }
}

static void add_line(struct wire_conn *c, struct base_buf *text)
{
    if (!c->out.len && !c->out.st) { /* a large reply is moved, not copied */
        base_buf_fini(&c->out);
        c->out = *text;
        *text = (struct base_buf)BASE_BUF_INIT;
    } else {
        base_buf_add(&c->out, text->p, text->len);
    }
    base_buf_add(&c->out, "\n", 1);
}

static void release(struct wire_call *call)
{
    struct wire_conn *c = call->conn;
    struct wire_batch *b = call->batch;
    c->held_bytes -= call->text.len;
    if (call->text.st) {
        wire_conn_kill(c);
    } else if (b) {
        base_buf_str(&b->buf, b->buf.len ? "," : "[");
        base_buf_add(&b->buf, call->text.p, call->text.len);
        b->bytes += call->text.len;
        c->batch_bytes += call->text.len;
        if (b->pending == 1) { /* the last one */
            base_buf_str(&b->buf, "]");
            c->batch_bytes -= b->bytes;
            if (b->buf.st)
                wire_conn_kill(c);
            else
                add_line(c, &b->buf);
        }
    } else if (call->text.len) {
        add_line(c, &call->text);
    }
}

void wire_rpc_release(struct wire_server *s)
{
    struct wire_conn *touched = NULL, *c;
    while (s->held) {
        struct wire_call *call = s->held;
        s->held = call->held_next;
        c = call->conn;
        if (c && !c->closing) {
            release(call);
            if (!c->touched) {
                c->touched = true;
                c->touched_next = touched;
                touched = c;
            }
        }
        call_free(call);
    }
    s->held_end = &s->held;
    for (; (c = touched); touched = c->touched_next) {
        c->touched = false;
        wire_conn_send(c);
    }
}

void wire_rpc_detach(struct wire_conn *c)
{
    while (c->calls) call_unlink(c->calls);
}

/* ---- requests ---- */

static void refuse(struct wire_conn *c, struct wire_batch *batch, json_t *id, int code, const char *message)
{
    struct wire_call *call = call_new(c, WIRE_REFUSAL, batch, id);
    if (call) answer_error(call, code, message);
}

static void request(struct wire_conn *c, struct wire_batch *batch, json_t *req, size_t cost)
{
    if (!json_is_object(req)) {
        refuse(c, batch, NULL, WIRE_EREQUEST, "a request is an object");
        return;
    }
    json_t *id = json_object_get(req, "id");
    if (id && !json_is_string(id) && !json_is_number(id) && !json_is_null(id)) {
        refuse(c, batch, NULL, WIRE_EREQUEST, "id: must be a string, a number or null");
        return;
    }
    const char *version = json_string_value(json_object_get(req, "jsonrpc"));
    if (!version || strcmp(version, "2.0")) {
        refuse(c, batch, id, WIRE_EREQUEST, "jsonrpc: must be \"2.0\"");
        return;
    }
    const char *method = json_string_value(json_object_get(req, "method"));
    if (!method) {
        refuse(c, batch, id, WIRE_EREQUEST, "method: must be a string");
        return;
    }

    /* From here on it is a request; one without an id is a notification and gets no answer, whatever happens. */
    int m = wire_method_find(method);
    json_t *params = json_object_get(req, "params");
    char message[128];
    int code = 0;
    if (m < 0) {
        code = WIRE_EMETHOD;
        snprintf(message, sizeof message, "no method '%.64s'", method);
    } else if (params && !json_is_object(params)) {
        code = WIRE_EPARAMS;
        snprintf(message, sizeof message, "params: must be an object");
    } else if (c->open_bytes > WIRE_OPEN_BYTES) {
        code = WIRE_EBUSY;
        snprintf(message, sizeof message, "too many calls of this connection wait for their answers");
    }
    if (code) {
        if (id) refuse(c, batch, id, code, message);
        return;
    }
    struct wire_call *call = call_new(c, WIRE_ANSWER, id ? batch : NULL, id);
    if (!call) return;
    call->silent = !id;
    call->cost = cost + sizeof *call;
    c->open_bytes += call->cost;
    call->params = params ? json_incref(params) : json_object();
    if (!call->params) {
        wire_conn_kill(c);
        call_free(call);
        return;
    }
    c->server->dirty = true;
    c->server->h.method[m](c->server->ctx, call, call->params);
}

static void batch_request(struct wire_conn *c, json_t *list, size_t cost)
{
    size_t n = json_array_size(list);
    if (!n || n > WIRE_BATCH_MAX) {
        char message[64] = "an empty batch";
        if (n) snprintf(message, sizeof message, "a batch holds at most %d calls", WIRE_BATCH_MAX);
        refuse(c, NULL, NULL, WIRE_EREQUEST, message);
        return;
    }
    struct wire_batch *batch = calloc(1, sizeof *batch);
    if (!batch) {
        wire_conn_kill(c);
        return;
    }
    batch->pending = 1;
    for (size_t i = 0; i < n && !c->closing && !c->leaving; i++) request(c, batch, json_array_get(list, i), cost / n);
    batch_put(batch);
}

bool wire_rpc_line(void *conn, const char *text, size_t len)
{
    struct wire_conn *c = conn;
    if (!text) {
        char message[64];
        snprintf(message, sizeof message, "a line holds at most %d bytes", WIRE_LINE_MAX);
        refuse(c, NULL, NULL, WIRE_EREQUEST, message);
        return !c->closing;
    }
    json_t *root;
    struct base_err err = BASE_ERR_INIT;
    st_t st = base_json_parse(&root, text, len, "request", &err);
    if (st) {
        char message[sizeof err.where + sizeof err.what];
        base_err_text(&err, message, sizeof message);
        refuse(c, NULL, NULL, st == ST_ENOMEM ? WIRE_EINTERNAL : WIRE_EPARSE, message);
    } else {
        if (json_is_array(root))
            batch_request(c, root, len);
        else
            request(c, NULL, root, len);
        json_decref(root);
    }
    return !c->closing && !c->leaving;
}
