/* Reply after commit: what is held, when it leaves, what becomes of it when the commit fails or the peer is gone. */
#include "tests/wire/fixture.h"

#define REQ(id, method, rest) "{\"jsonrpc\":\"2.0\",\"id\":" id ",\"method\":\"" method "\"" rest "}\n"

static void committed_first(struct fix *f, struct peer *p)
{
    int early = 0;
    for (int i = 0; i < 300; i++) {
        peer_send(p, REQ("1", "job.submit", ""));
        json_t *r = peer_json(p);
        early += f->committed < json_integer_value(json_object_get(json_object_get(r, "result"), "n"));
        json_decref(r);
    }
    is_int(early, 0, "no reply before its commit");
    is_int(f->committed, 300, "every call committed");
    ok(f->flushes <= 301, "one flush a burst and one for the connection, none for nothing (%d)", f->flushes);
}

static void one_commit_for_many(struct fix *f, struct peer *p)
{
    enum { N = 1000 };
    struct base_buf b = BASE_BUF_INIT;
    int before = f->flushes, good = 0;
    for (int i = 0; i < N; i++) base_buf_str(&b, REQ("1", "job.submit", ""));
    peer_sendn(p, b.p, b.len);
    for (int i = 0; i < N; i++) {
        json_t *r = peer_json(p);
        good += !reply_code(r);
        json_decref(r);
    }
    is_int(good, N, "%d calls in a burst", N);
    ok(f->flushes - before < N / 10, "shared their commits (%d)", f->flushes - before);
    base_buf_fini(&b);
}

static void late(struct fix *f, struct peer *p)
{
    static const char *const HOW[] = {REQ("9", "evaluator.report", ""), REQ("9", "evaluator.progress", "")};
    for (int how = 0; how < 2; how++) {
        int before = f->committed, good = 0;
        for (int i = 0; i < 3; i++) {
            peer_send(p, REQ("5", "evaluator.next", ""));
            sem_wait(&f->kept_sem);
        }
        ok(peer_alive(p), "kept calls hold nothing up");
        peer_send(p, HOW[how]);
        for (int i = 0; i < 3; i++) {
            char *line = peer_line(p);
            good += line && !strcmp(line, "{\"jsonrpc\":\"2.0\",\"id\":5,\"result\":{\"late\":true}}") &&
                    f->committed == before + 3;
        }
        is_int(good, 3, "answered later from %s, after the commit", how ? "a timer" : "another call");
        is_str(peer_line(p), "{\"jsonrpc\":\"2.0\",\"id\":9,\"result\":{\"gone\":0}}", "then the call that did it");
    }
}

static void failed(struct fix *f, struct peer *p)
{
    int before = f->committed;
    peer_send(p, REQ("1", "job.submit", "") "nonsense\n" REQ("2", "job.watch", ",\"params\":{\"n\":3}")
                     REQ("3", "no.such", "") REQ("4", "job.get", "") REQ("5", "job.cancel", ""));
    static const char *const WANT[] = {
        "{\"jsonrpc\":\"2.0\",\"id\":1,\"error\":{\"code\":-32004,\"message\":\"disk \\\"full\\\"\"}}",
        NULL,
        "{\"jsonrpc\":\"2.0\",\"id\":2,\"error\":{\"code\":-32004,\"message\":\"disk \\\"full\\\"\"}}",
        "{\"jsonrpc\":\"2.0\",\"id\":3,\"error\":{\"code\":-32601,\"message\":\"no method 'no.such'\"}}",
        "{\"jsonrpc\":\"2.0\",\"id\":4,\"error\":{\"code\":-32004,\"message\":\"disk \\\"full\\\"\"}}",
        "{\"jsonrpc\":\"2.0\",\"id\":5,\"error\":{\"code\":-32004,\"message\":\"disk \\\"full\\\"\"}}"};
    for (int i = 0; i < 6; i++) {
        char *line = peer_line(p);
        if (WANT[i])
            is_str(line, WANT[i], "failed commit: reply %d", i);
        else
            ok(line && strstr(line, "-32700"), "failed commit: what was not JSON still is not");
    }
    is_int(f->committed, before, "nothing was committed");
    ok(peer_alive(p), "the notifications of that burst were dropped; the next burst is well");
}

static void order(struct peer *p)
{
    peer_send(p, REQ("1", "job.watch", ",\"params\":{\"n\":3}"));
    is_str(peer_line(p), "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}", "the reply was given first");
    for (int i = 0; i < 3; i++) {
        char want[128];
        snprintf(want, sizeof want,
                 "{\"jsonrpc\":\"2.0\",\"method\":\"job.event\",\"params\":{\"seq\":%d,\"pad\":\"\"}}", i);
        is_str(peer_line(p), want, "then notification %d", i);
    }
}

static void peer_left(struct fix *f, struct peer *p)
{
    struct peer q = peer_open(f->path);
    int before = f->committed;
    for (int i = 0; i < 2; i++) {
        peer_send(&q, REQ("1", "evaluator.next", ""));
        sem_wait(&f->kept_sem);
    }
    peer_close(&q);
    sem_wait(&f->closed_sem);
    peer_send(p, REQ("2", "evaluator.report", ""));
    is_str(peer_line(p), "{\"jsonrpc\":\"2.0\",\"id\":2,\"result\":{\"gone\":2}}",
           "two calls were answered after their peer had left");
    is_int(f->committed, before + 2, "and committed all the same");
    /* a notification is committed too */
    peer_send(p, "{\"jsonrpc\":\"2.0\",\"method\":\"job.submit\"}\n");
    ok(peer_alive(p), "goes on");
    is_int(f->committed, before + 3, "a notification is committed");
}

int main(void)
{
    struct fix *f = fix_start();
    struct peer p = peer_open(f->path);
    committed_first(f, &p);
    one_commit_for_many(f, &p);
    late(f, &p);
    failed(f, &p);
    order(&p);
    peer_left(f, &p);
    peer_close(&p);
    fix_stop(f);
    is_int(f->pending, 0, "nothing is left uncommitted at the end");
    fix_free(f);
    return tap_done();
}
