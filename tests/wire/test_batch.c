/* Batches (JSON-RPC 2.0, section 6): the specification's own examples in our methods, and the limits. */
#include "tests/wire/fixture.h"

#define REQ(id, method) "{\"jsonrpc\":\"2.0\",\"id\":" id ",\"method\":\"" method "\"}"
#define NOTE(method)    "{\"jsonrpc\":\"2.0\",\"method\":\"" method "\"}"

/* Codes of the n replies in the one array that comes back; n = 0: nothing comes back. */
static const struct {
    const char *line;
    int n;
    int codes[8];
} CASES[] = {
    {"[" REQ("1", "server.info") "]", 1, {0}},
    {"[" REQ("1", "server.info") "," REQ("2", "job.get") "]", 2, {0, WIRE_ENOTFOUND}},
    {"[1]", 1, {WIRE_EREQUEST}},
    {"[1,2,3]", 3, {WIRE_EREQUEST, WIRE_EREQUEST, WIRE_EREQUEST}},
    {"[[]]", 1, {WIRE_EREQUEST}},
    {"[[" REQ("1", "server.info") "]]", 1, {WIRE_EREQUEST}},
    {"[" NOTE("server.info") "]", 0, {0}},
    {"[" NOTE("server.info") "," NOTE("no.such") "," NOTE("job.get") "]", 0, {0}},
    {"[" NOTE("server.info") "," REQ("5", "server.info") "," NOTE("job.list") "]", 1, {0}},
    {"[" REQ("\"1\"", "server.info") "," NOTE("server.info") ",{\"foo\":\"boo\"}," REQ("\"5\"", "no.such") ",null]",
     4,
     {0, WIRE_EREQUEST, WIRE_EMETHOD, WIRE_EREQUEST}},
    {"[{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"server.info\",\"params\":[]}," REQ("2", "job.list") "]",
     2,
     {WIRE_EPARAMS, WIRE_EINTERNAL}},
    {"[" REQ("1", "job.front") "," REQ("1", "job.front") "]", 2, {0, 0}},
};

static void table(struct peer *p)
{
    for (size_t i = 0; i < sizeof CASES / sizeof CASES[0]; i++) {
        peer_send(p, CASES[i].line);
        peer_send(p, "\n");
        json_t *r = CASES[i].n ? peer_json(p) : NULL;
        is_int(json_array_size(r), CASES[i].n, "%zu: %.60s: replies", i, CASES[i].line);
        for (int k = 0; k < CASES[i].n; k++)
            is_int(reply_code(json_array_get(r, (size_t)k)), CASES[i].codes[k], "%zu: code %d", i, k);
        json_decref(r);
        ok(peer_alive(p), "%zu: goes on", i);
    }
    is_int(peer_code(p, "[]"), WIRE_EREQUEST, "empty: one object");
    is_int(peer_code(p, "[" REQ("1", "server.info") ",{]"), WIRE_EPARSE, "malformed: one object");
}

static char *many(int n)
{
    struct base_buf b = BASE_BUF_INIT;
    for (int i = 0; i < n; i++)
        base_buf_printf(&b, "%c{\"jsonrpc\":\"2.0\",\"id\":%d,\"method\":\"%s\"}", i ? ',' : '[', i,
                        i % 3 ? "job.submit" : "job.get");
    base_buf_str(&b, "]");
    return base_buf_take(&b);
}

static void thousand(struct peer *p)
{
    char *line = many(WIRE_BATCH_MAX);
    peer_send(p, line);
    peer_send(p, "\n");
    json_t *r = peer_json(p);
    int good = 0;
    for (int i = 0; i < WIRE_BATCH_MAX; i++) {
        json_t *one = json_array_get(r, (size_t)i);
        good += json_integer_value(json_object_get(one, "id")) == i && reply_code(one) == (i % 3 ? 0 : WIRE_ENOTFOUND);
    }
    is_int(json_array_size(r), WIRE_BATCH_MAX, "a batch of %d", WIRE_BATCH_MAX);
    is_int(good, WIRE_BATCH_MAX, "each with its own answer");
    json_decref(r);
    free(line);
    line = many(WIRE_BATCH_MAX + 1);
    is_int(peer_code(p, line), WIRE_EREQUEST, "one more: refused as a whole");
    free(line);
    ok(peer_alive(p), "goes on");
}

/* A batch waits for its slowest call; other replies pass it. */
static void slow_member(struct fix *f, struct peer *p)
{
    peer_send(p, "[" REQ("1", "server.info") "," REQ("2", "evaluator.next") "," REQ("3", "job.submit") "]\n");
    sem_wait(&f->kept_sem);
    ok(peer_alive(p), "another call is answered first");
    peer_send(p, REQ("4", "evaluator.report") "\n");
    json_t *r = peer_json(p);
    is_int(json_array_size(r), 3, "then the batch, whole");
    for (size_t i = 0; i < 3; i++) is_int(reply_code(json_array_get(r, i)), 0, "member %zu", i);
    json_decref(r);
    r = peer_json(p);
    is_int(json_integer_value(json_object_get(r, "id")), 4, "then the call that answered it");
    json_decref(r);
}

/* A failed commit turns only what was answered since the last one into errors. */
static void half_failed(struct fix *f, struct peer *p)
{
    peer_send(p, "[" REQ("1", "job.submit") "," REQ("2", "evaluator.next") "]\n");
    sem_wait(&f->kept_sem);
    ok(peer_alive(p), "the first half is committed");
    peer_send(p, REQ("3", "job.cancel") "\n" REQ("4", "evaluator.report") "\n");
    int codes[4] = {1, 1, 1, 1}, pair = 0;
    for (int i = 0; i < 3; i++) {
        json_t *r = peer_json(p);
        for (size_t k = 0; k < json_array_size(r); k++, pair++)
            codes[json_integer_value(json_object_get(json_array_get(r, k), "id")) - 1] =
                reply_code(json_array_get(r, k));
        if (!json_is_array(r)) codes[json_integer_value(json_object_get(r, "id")) - 1] = reply_code(r);
        json_decref(r);
    }
    is_int(pair, 2, "a batch of two");
    is_int(codes[0], 0, "what was committed stays");
    is_int(codes[1], WIRE_ENOSPC, "what was not is an error");
    is_int(codes[2], WIRE_ENOSPC, "a single call too");
    is_int(codes[3], WIRE_ENOSPC, "and the last");
}

int main(void)
{
    struct fix *f = fix_start();
    struct peer p = peer_open(f->path);
    table(&p);
    thousand(&p);
    slow_member(f, &p);
    half_failed(f, &p);
    /* a peer that leaves a batch half answered */
    peer_send(&p, "[" REQ("1", "job.submit") "," REQ("2", "evaluator.next") "]\n");
    sem_wait(&f->kept_sem);
    peer_close(&p);
    sem_wait(&f->closed_sem);
    p = peer_open(f->path);
    peer_send(&p, REQ("1", "evaluator.report") "\n");
    is_str(peer_line(&p), "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{\"gone\":1}}",
           "the half batch closed with its peer");
    peer_close(&p);
    fix_stop(f);
    fix_free(f);
    return tap_done();
}
