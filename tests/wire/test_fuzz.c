/* Random input, always the same: requests with bytes changed, cut, doubled and joined, in pieces of any size, by peers
 * that come and go. The server survives, every line that it sends is a JSON text, and each connection still answers at
 * its end. */
#include "base/rng.h"
#include "tests/wire/fixture.h"

static const char *const SEEDS[] = {
    "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"server.info\",\"params\":{\"a\":[1,2.5e3,true,null,\"\\u00e9\xc3\xa9\"]"
    "}}",
    "{\"jsonrpc\":\"2.0\",\"method\":\"job.submit\",\"params\":{}}",
    "[{\"jsonrpc\":\"2.0\",\"id\":\"b\",\"method\":\"job.submit\"},{\"jsonrpc\":\"2.0\",\"id\":2,\"method\":\"job."
    "get\"},1]",
    "{\"jsonrpc\":\"2.0\",\"id\":null,\"method\":\"evaluator.next\",\"params\":{\"wait_s\":1}}",
    "{\"jsonrpc\":\"2.0\",\"id\":4,\"method\":\"evaluator.report\",\"params\":{}}",
    "{\"jsonrpc\":\"2.0\",\"id\":5,\"method\":\"job.cancel\"}",
    "[[[[[[[[[[[[[[[[{}]]]]]]]]]]]]]]]]",
    "{\"jsonrpc\":\"2.0\",\"id\":6,\"result\":{}}",
    "",
};
enum { NSEEDS = sizeof SEEDS / sizeof SEEDS[0], CONNS = 200, LINES = 40 };

static void add_line(struct base_buf *b, struct base_rng *r)
{
    const char *s = SEEDS[base_rng_below(r, NSEEDS)];
    size_t n = strlen(s), from = 0;
    char line[512];
    if (n && !base_rng_below(r, 8)) n = base_rng_below(r, (uint32_t)n);
    if (n && !base_rng_below(r, 8)) from = base_rng_below(r, (uint32_t)n);
    memcpy(line, s + from, n -= from);
    for (uint32_t k = base_rng_below(r, 4); n && k > 1; k--) {
        size_t at = base_rng_below(r, (uint32_t)n);
        static const char marks[] = "{}[]\",:\\0\n\x80\xff e";
        line[at] = base_rng_below(r, 2) ? marks[base_rng_below(r, sizeof marks)] : (char)base_rng_u32(r);
    }
    base_buf_add(b, line, n);
    if (base_rng_below(r, 12)) base_buf_str(b, "\n");
}

/* Reads until the reply with that id; every line on the way must be JSON. */
static bool answers(struct peer *p, const char *id, int *bad)
{
    for (char *line; (line = peer_line(p));) {
        json_t *r = json_loads(line, 0, NULL);
        const char *got = json_string_value(json_object_get(r, "id"));
        /* an error if a job.cancel of the same burst made the commit fail */
        bool found = got && !strcmp(got, id) && (reply_code(r) == 0 || reply_code(r) == WIRE_ENOSPC);
        *bad += !r;
        json_decref(r);
        if (found) return true;
    }
    return false;
}

int main(void)
{
    struct fix *f = fix_start();
    int answered = 0, left = 0, bad = 0;
    for (uint64_t i = 0; i < CONNS; i++) {
        struct base_rng r = base_rng_at(20240607, RNG_TEST, i);
        struct peer p = peer_open(f->path);
        struct base_buf b = BASE_BUF_INIT;
        for (int k = 0; k < LINES; k++) add_line(&b, &r);
        bool leaves = !base_rng_below(&r, 4);
        if (leaves)
            b.len = base_rng_below(&r, (uint32_t)b.len);
        else
            base_buf_str(&b, "\n{\"jsonrpc\":\"2.0\",\"id\":\"the end\",\"method\":\"server.info\"}\n");
        uint32_t piece = base_rng_below(&r, 3) ? 1 + base_rng_below(&r, 2000) : 1;
        for (size_t at = 0; at < b.len; at += piece) peer_sendn(&p, b.p + at, b.len - at < piece ? b.len - at : piece);
        if (leaves)
            left++;
        else
            answered += answers(&p, "the end", &bad);
        peer_close(&p);
        base_buf_fini(&b);
    }
    is_int(answered, CONNS - left, "every connection that stayed was answered at its end");
    ok(left > 20, "some left before (%d)", left);
    is_int(bad, 0, "every line was JSON");
    for (int i = 0; i < CONNS; i++) sem_wait(&f->closed_sem);
    struct peer p = peer_open(f->path);
    ok(peer_alive(&p), "the server lives");
    peer_close(&p);
    fix_stop(f);
    is_int(f->opened, 0, "every connection that opened has closed");
    fix_free(f);
    return tap_done();
}
