/* Single requests from outside: what a peer may send and what comes back. */
#include "tests/wire/fixture.h"

#define REQ(id, method, rest) "{\"jsonrpc\":\"2.0\",\"id\":" id ",\"method\":\"" method "\"" rest "}"

/* id: the reply's id as JSON text; NULL: null. code 0: a result. code 1: no reply at all. */
static const struct {
    const char *line;
    int code;
    const char *id;
} CASES[] = {
    /* good ones */
    {REQ("1", "server.info", ""), 0, "1"},
    {REQ("-9223372036854775808", "server.info", ""), 0, "-9223372036854775808"},
    {REQ("1.5", "server.info", ""), 0, "1.5"},
    {REQ("\"x\"", "server.info", ",\"params\":{}"), 0, "\"x\""},
    {REQ("\"\"", "server.info", ""), 0, "\"\""},
    {REQ("\"\\u00e9\\n\\\"\"", "server.info", ""), 0, "\"\\u00e9\\n\\\"\""},
    {REQ("null", "server.info", ""), 0, NULL},
    {" \t" REQ("2", "server.info", "") " \r", 0, "2"},
    {REQ("3", "server.info", ",\"extra\":[1]"), 0, "3"},
    {REQ("4", "job.get", ""), WIRE_ENOTFOUND, "4"},
    {REQ("5", "blob.get", ""), WIRE_ENOTSUP, "5"},
    {REQ("6", "job.list", ""), WIRE_EINTERNAL, "6"},
    /* no answer */
    {"", 1, NULL},
    {" \t \r", 1, NULL},
    {"{\"jsonrpc\":\"2.0\",\"method\":\"server.info\"}", 1, NULL},
    {"{\"jsonrpc\":\"2.0\",\"method\":\"job.get\"}", 1, NULL},
    {"{\"jsonrpc\":\"2.0\",\"method\":\"no.such\"}", 1, NULL},
    {"{\"jsonrpc\":\"2.0\",\"method\":\"server.info\",\"params\":[1]}", 1, NULL},
    {"{\"jsonrpc\":\"2.0\",\"method\":\"job.list\"}", 1, NULL},
    {"{\"jsonrpc\":\"2.0\",\"method\":\"job.front\",\"params\":{\"n\":9}}", 1, NULL},
    /* not JSON */
    {"{", WIRE_EPARSE, NULL},
    {"}", WIRE_EPARSE, NULL},
    {"[", WIRE_EPARSE, NULL},
    {"[1,", WIRE_EPARSE, NULL},
    {"[1,]", WIRE_EPARSE, NULL},
    {"hello", WIRE_EPARSE, NULL},
    {"'x'", WIRE_EPARSE, NULL},
    {"\"x", WIRE_EPARSE, NULL},
    {"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"server.info\"", WIRE_EPARSE, NULL},
    {"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"server.info\"}}", WIRE_EPARSE, NULL},
    {"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"server.info\"} x", WIRE_EPARSE, NULL},
    {REQ("1", "server.info", "") REQ("2", "server.info", ""), WIRE_EPARSE, NULL},
    {"{\"jsonrpc\":\"2.0\",\"id\":1,\"id\":2,\"method\":\"server.info\"}", WIRE_EPARSE, NULL},
    {"{\"a\" 1}", WIRE_EPARSE, NULL},
    {"{1:1}", WIRE_EPARSE, NULL},
    {"NaN", WIRE_EPARSE, NULL},
    {"[Infinity]", WIRE_EPARSE, NULL},
    {"1e999", WIRE_EPARSE, NULL},
    {"01", WIRE_EPARSE, NULL},
    {"+1", WIRE_EPARSE, NULL},
    {".5", WIRE_EPARSE, NULL},
    {"0x10", WIRE_EPARSE, NULL},
    {"// comment", WIRE_EPARSE, NULL},
    {"{\"jsonrpc\":\"2.0\",\"id\":99999999999999999999,\"method\":\"server.info\"}", WIRE_EPARSE, NULL},
    {"\"tab\there\"", WIRE_EPARSE, NULL},
    {"\"\\x41\"", WIRE_EPARSE, NULL},
    {"\"\\u0000\"", WIRE_EPARSE, NULL},
    {"\"\\ud800\"", WIRE_EPARSE, NULL},
    /* not UTF-8 */
    {"\"\xff\"", WIRE_EPARSE, NULL},
    {"\"\xc0\xaf\"", WIRE_EPARSE, NULL},
    {"\"\xed\xa0\x80\"", WIRE_EPARSE, NULL},
    {"\"\xf4\x90\x80\x80\"", WIRE_EPARSE, NULL},
    {"\"\xe2\x82\"", WIRE_EPARSE, NULL},
    {"\xef\xbb\xbf{}", WIRE_EPARSE, NULL},
    {"\x01\x02\x03", WIRE_EPARSE, NULL},
    /* JSON, but no request */
    {"1", WIRE_EREQUEST, NULL},
    {"\"x\"", WIRE_EREQUEST, NULL},
    {"null", WIRE_EREQUEST, NULL},
    {"true", WIRE_EREQUEST, NULL},
    {"[]", WIRE_EREQUEST, NULL},
    {"{}", WIRE_EREQUEST, NULL},
    {"{\"id\":7}", WIRE_EREQUEST, "7"},
    {"{\"id\":7,\"method\":\"server.info\"}", WIRE_EREQUEST, "7"},
    {"{\"jsonrpc\":\"1.0\",\"id\":7,\"method\":\"server.info\"}", WIRE_EREQUEST, "7"},
    {"{\"jsonrpc\":2.0,\"id\":7,\"method\":\"server.info\"}", WIRE_EREQUEST, "7"},
    {"{\"jsonrpc\":\"2.0\",\"id\":8}", WIRE_EREQUEST, "8"},
    {"{\"jsonrpc\":\"2.0\",\"method\":1,\"params\":\"bar\"}", WIRE_EREQUEST, NULL},
    {"{\"jsonrpc\":\"2.0\",\"id\":8,\"method\":null}", WIRE_EREQUEST, "8"},
    {"{\"jsonrpc\":\"2.0\",\"id\":{},\"method\":\"server.info\"}", WIRE_EREQUEST, NULL},
    {"{\"jsonrpc\":\"2.0\",\"id\":[1],\"method\":\"server.info\"}", WIRE_EREQUEST, NULL},
    {"{\"jsonrpc\":\"2.0\",\"id\":true,\"method\":\"server.info\"}", WIRE_EREQUEST, NULL},
    {"{\"jsonrpc\":\"2.0\",\"id\":9,\"result\":1}", WIRE_EREQUEST, "9"},
    {"{\"jsonrpc\":\"2.0\",\"id\":9,\"error\":{\"code\":1,\"message\":\"\"}}", WIRE_EREQUEST, "9"},
    /* no such method */
    {REQ("10", "no.such", ""), WIRE_EMETHOD, "10"},
    {REQ("10", "", ""), WIRE_EMETHOD, "10"},
    {REQ("10", "server.infoo", ""), WIRE_EMETHOD, "10"},
    {REQ("10", "SERVER.INFO", ""), WIRE_EMETHOD, "10"},
    {REQ("10", "rpc.discover", ""), WIRE_EMETHOD, "10"},
    {REQ("10", "%s%n%d", ""), WIRE_EMETHOD, "10"},
    /* the 64 bytes that the message repeats end inside a character */
    {REQ("10", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\xe2\x82\xac\xe2\x82\xac", ""),
     WIRE_EMETHOD, "10"},
    /* params */
    {REQ("11", "server.info", ",\"params\":[]"), WIRE_EPARAMS, "11"},
    {REQ("11", "server.info", ",\"params\":null"), WIRE_EPARAMS, "11"},
    {REQ("11", "server.info", ",\"params\":3"), WIRE_EPARAMS, "11"},
    {REQ("11", "server.info", ",\"params\":\"{}\""), WIRE_EPARAMS, "11"},
};

static void table(struct fix *f)
{
    struct peer p = peer_open(f->path);
    for (size_t i = 0; i < sizeof CASES / sizeof CASES[0]; i++) {
        peer_send(&p, CASES[i].line);
        peer_send(&p, "\n");
        if (CASES[i].code != 1) {
            json_t *r = peer_json(&p), *id = json_object_get(r, "id");
            json_t *want = CASES[i].id ? json_loads(CASES[i].id, JSON_DECODE_ANY, NULL) : json_null();
            is_int(reply_code(r), CASES[i].code, "%zu: %.60s: code", i, CASES[i].line);
            ok(json_equal(id, want), "%zu: id", i);
            json_decref(want);
            json_decref(r);
        }
        ok(peer_alive(&p), "%zu: goes on", i);
    }
    peer_close(&p);
}

/* A NUL byte, and depth: 64 levels are well, 65 are not, whatever stands in them. */
static void nul_and_depth(struct fix *f)
{
    struct peer p = peer_open(f->path);
    peer_sendn(&p, "{\"a\":\0 1}\n", 10);
    json_t *r = peer_json(&p);
    is_int(reply_code(r), WIRE_EPARSE, "a NUL byte");
    json_decref(r);
    for (int levels = 63; levels <= 66; levels++) {
        char line[512] = "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"server.info\",\"params\":{\"a\":";
        for (int i = 2; i < levels; i++) strcat(line, "[");
        for (int i = 2; i < levels; i++) strcat(line, "]");
        strcat(line, "}}");
        is_int(peer_code(&p, line), levels <= 64 ? 0 : WIRE_EPARSE, "%d levels", levels);
    }
    static char deep[100001];
    memset(deep, '[', sizeof deep - 1);
    is_int(peer_code(&p, deep), WIRE_EPARSE, "100000 brackets");
    ok(peer_alive(&p), "goes on");
    peer_close(&p);
}

static void byte_by_byte(struct fix *f)
{
    struct peer p = peer_open(f->path);
    const char *s =
        REQ("1", "server.info", ",\"params\":{\"k\":\"\xc3\xa9\"}") "\n\nnonsense\n" REQ("2", "server.info", "") "\n";
    for (; *s; s++) peer_sendn(&p, s, 1);
    is_str(peer_line(&p), "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{\"k\":\"\xc3\xa9\"}}", "byte by byte: first");
    json_t *r = peer_json(&p);
    is_int(reply_code(r), WIRE_EPARSE, "byte by byte: second");
    json_decref(r);
    is_str(peer_line(&p), "{\"jsonrpc\":\"2.0\",\"id\":2,\"result\":{}}", "byte by byte: third");
    peer_close(&p);
}

static void pipelined(struct fix *f)
{
    enum { N = 5000 };
    struct peer p = peer_open(f->path);
    struct base_buf b = BASE_BUF_INIT;
    for (int i = 0; i < N; i++)
        base_buf_printf(&b, "{\"jsonrpc\":\"2.0\",\"id\":%d,\"method\":\"server.info\",\"params\":{\"i\":%d}}\n", i, i);
    ok(peer_sendn(&p, b.p, b.len), "%d requests in one write", N);
    int good = 0;
    for (int i = 0; i < N; i++) {
        char want[128], *got = peer_line(&p);
        snprintf(want, sizeof want, "{\"jsonrpc\":\"2.0\",\"id\":%d,\"result\":{\"i\":%d}}", i, i);
        good += got && !strcmp(got, want);
    }
    is_int(good, N, "all answered, in order");
    base_buf_fini(&b);
    peer_close(&p);
}

/* A line of exactly n bytes, a request padded inside a string. */
static char *padded(size_t n)
{
    const char *head = "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"server.info\",\"params\":{\"a\":\"";
    char *s = malloc(n + 2);
    memset(s, 'x', n);
    memcpy(s, head, strlen(head));
    memcpy(s + n - 3, "\"}}\n", 5);
    return s;
}

static void long_lines(struct fix *f)
{
    struct peer p = peer_open(f->path);
    for (int more = -1; more <= 1; more++) {
        char *s = padded(WIRE_LINE_MAX + (size_t)more);
        peer_send(&p, s);
        json_t *r = peer_json(&p);
        is_int(reply_code(r), more > 0 ? WIRE_EREQUEST : 0, "4 MiB %+d", more);
        ok((more > 0) == json_is_null(json_object_get(r, "id")), "its id");
        json_decref(r);
        ok(peer_alive(&p), "goes on");
        free(s);
    }
    char *s = padded(3 * (size_t)WIRE_LINE_MAX);
    peer_send(&p, s);
    json_t *r = peer_json(&p);
    is_int(reply_code(r), WIRE_EREQUEST, "12 MiB: one error");
    json_decref(r);
    ok(peer_alive(&p), "and no other");
    free(s);
    peer_close(&p);
}

static void replies(struct fix *f)
{
    struct peer p = peer_open(f->path);
    peer_send(&p, REQ("1", "job.front", ",\"params\":{\"n\":3}") "\n");
    is_str(peer_line(&p), "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{ \"x\":\"aaa\"}}", "a raw result stays one line");
    peer_send(&p, REQ("2", "job.get", "") "\n");
    is_str(peer_line(&p), "{\"jsonrpc\":\"2.0\",\"id\":2,\"error\":{\"code\":-32001,\"message\":\"no job x\"}}",
           "an error reply");
    peer_send(&p, REQ("3", "job.front", ",\"params\":{\"n\":20000000}") "\n");
    char *line = peer_line(&p);
    is_int(line ? strlen(line) : 0, 20000000 + strlen("{\"jsonrpc\":\"2.0\",\"id\":3,\"result\":{ \"x\":\"\"}}"),
           "a reply of 20 MB");
    ok(peer_alive(&p), "goes on");
    peer_close(&p);
}

int main(void)
{
    struct fix *f = fix_start();
    table(f);
    nul_and_depth(f);
    byte_by_byte(f);
    pipelined(f);
    long_lines(f);
    replies(f);
    fix_stop(f);
    is_int(f->opened, 0, "every connection that opened has closed");
    fix_free(f);
    is_int(wire_method_find("blob.put"), wire_method_count() - 1, "methods by name");
    is_str(wire_method_name(0), "server.info", "methods by index");
    is_int(wire_method_role(wire_method_find("evaluator.next")), WIRE_ROLE_EVALUATOR, "methods have a role");
    return tap_done();
}
