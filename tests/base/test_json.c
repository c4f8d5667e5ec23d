#include <float.h>
#include <stdlib.h>

#include "base/json.h"
#include "base/json_write.h"
#include "base/rng.h"
#include "tests/tap.h"

static const char *num(double v)
{
    static char buf[32];
    int n = base_num_text(v, buf);
    return n == (int)strlen(buf) ? buf : "(length is wrong)";
}

/* Shorter than every %.Ng that reads back, and reads back itself through jansson. */
static int hard_double(double v)
{
    char text[48], got[32];
    int n = base_num_text(v, got);
    if (n != (int)strlen(got) || strtod(got, NULL) != v) return 0;
    int digits = 0;
    for (const char *p = got; *p && *p != 'e'; p++) digits += *p >= '0' && *p <= '9' && (digits > 0 || *p != '0');
    for (int k = 1; k < digits && fabs(v) >= 0x1p53; k++) {
        snprintf(text, sizeof text, "%.*e", k - 1, v);
        if (strtod(text, NULL) == v) return 0;
    }
    snprintf(text, sizeof text, "[%s]", got);
    json_t *root;
    if (base_json_parse(&root, text, strlen(text), "x", NULL)) return 0;
    double back = json_number_value(json_array_get(root, 0));
    json_decref(root);
    return back == v;
}

static void test_numbers(void)
{
    static const struct {
        double v;
        char text[28];
    } cases[] = {{0.0, "0"}, {-0.0, "0"}, {2.0, "2"}, {-7.0, "-7"}, {0.1, "0.1"}, {0.001, "0.001"}, {1e-5, "1e-5"}, {1e20, "1e20"},
                 {1.5e300, "1.5e300"}, {5e-324, "5e-324"}, {DBL_MAX, "1.7976931348623157e308"}, {DBL_MIN, "2.2250738585072014e-308"},
                 {0.1 + 0.2, "0.30000000000000004"}, {9007199254740991.0, "9007199254740991"}, {9007199254740994.0, "9007199254740994"},
                 {1e15, "1000000000000000"}, {1e16, "1e16"}, {123456.789, "123456.789"}, {1.0 / 3, "0.3333333333333333"},
                 {0x1p-44, "5.684341886080802e-14"}, {INFINITY, "null"}, {NAN, "null"}, {-1.25e-7, "-1.25e-7"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) is_str(num(cases[i].v), cases[i].text, "%s", cases[i].text);
    int good = 1;
    for (int e = -1074; e <= 1023 && good; e++) {
        double p = ldexp(1.0, e);
        good &= hard_double(p) && hard_double(nextafter(p, INFINITY)) && hard_double(nextafter(p, 0)) && hard_double(-p * 1.1);
        if (!good) printf("# 2^%d\n", e);
    }
    ok(good, "every power of two and its neighbours survive");
    struct base_rng r = base_rng_at(5, RNG_TEST, 0);
    for (int i = 0; i < 20000 && good; i++) {
        uint64_t bits = base_rng_u64(&r);
        double v;
        memcpy(&v, &bits, sizeof v);
        if (isfinite(v)) good &= hard_double(v);
    }
    ok(good, "random bit patterns survive");
}

static void test_writer(void)
{
    struct base_buf b = BASE_BUF_INIT;
    struct base_jw w;
    base_jw_init(&w, &b);
    base_jw_obj(&w);
    base_jw_knum(&w, "x", 0.1);
    base_jw_kint(&w, "i", INT64_MIN);
    base_jw_kstr(&w, "s", "a\"\\\n\x01\x7f\xc3\xa9\xff\xed\xa0\x80\xf0\x9f\x98\x80");
    base_jw_kstr(&w, "none", NULL);
    base_jw_kbool(&w, "b", true);
    base_jw_kraw(&w, "raw", "[1,2]");
    base_jw_key(&w, "list");
    base_jw_arr(&w);
    base_jw_num(&w, 1);
    base_jw_obj(&w);
    base_jw_end(&w);
    base_jw_arr(&w);
    base_jw_end(&w);
    base_jw_null(&w);
    base_jw_strn(&w, "n\0l", 3);
    base_jw_end(&w);
    base_jw_end(&w);
    is_str(b.p,
           "{\"x\":0.1,\"i\":-9223372036854775808,\"s\":\"a\\\"\\\\\\n\\u0001\x7f\xc3\xa9\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"
           "\xf0\x9f\x98\x80\",\"none\":null,\"b\":true,\"raw\":[1,2],\"list\":[1,{},[],null,\"n\\u0000l\"]}",
           "a text with everything");
    json_t *root = json_loadb(b.p, b.len, JSON_ALLOW_NUL, NULL);
    ok(root != NULL, "which a reader takes");
    json_decref(root);
    base_buf_reset(&b);
    base_jw_init(&w, &b);
    for (int i = 0; i < BASE_JW_DEPTH; i++) base_jw_arr(&w);
    is_int(b.st, ST_OK, "64 levels");
    base_jw_obj(&w);
    base_jw_kint(&w, "k", 1);
    base_jw_end(&w);
    is_int(b.st, ST_ETOOBIG, "the 65th latches");
    base_buf_fini(&b);
}

static void bad(const char *text, size_t len, st_t want, const char *where, const char *what)
{
    json_t *root = NULL;
    struct base_err err = BASE_ERR_INIT;
    st_t st = base_json_parse(&root, text, len, "job.json", &err);
    ok(st == want && !root && !strcmp(err.where, where) && strstr(err.what, what), "%s: %s", where, what);
    if (st != want || strcmp(err.where, where) || !strstr(err.what, what)) printf("#   got %d %s: %s\n", st, err.where, err.what);
}

static void test_parse(void)
{
#define BAD(text, ...) bad(text, sizeof text - 1, __VA_ARGS__)
    BAD("{\"a\": 1,\n  \"a\": 2}", ST_EPARSE, "job.json:2:5", "duplicate");
    BAD("{\"a\": 1} x", ST_EPARSE, "job.json:1:10", "end of file expected");
    BAD("[1,\n 2,\n\n oops]", ST_EPARSE, "job.json:4:5", "oops");
    BAD("[\"\xc3\x28\"]", ST_EPARSE, "job.json:1:2", "decode");
    BAD("[\"\xed\xa0\x80\"]", ST_EPARSE, "job.json:1:2", "decode");
    BAD("[\"a\\u0000b\"]", ST_EPARSE, "job.json:1:11", "\\u0000 is not allowed");
    BAD("{\"a\\u0000b\":1}", ST_EPARSE, "job.json:1:11", "\\u0000 is not allowed");
    BAD("[1, \0 2]", ST_EPARSE, "job.json:1:5", "invalid token");
    BAD("[1e400]", ST_EPARSE, "job.json:1:6", "overflow");
    BAD("[NaN]", ST_EPARSE, "job.json:1:4", "NaN");
    BAD("", ST_EPARSE, "job.json:1:0", "end of file");
    BAD("[\"", ST_EPARSE, "job.json:1:2", "end of");

    struct base_buf b = BASE_BUF_INIT;
    for (int i = 0; i < 64; i++) base_buf_str(&b, i % 2 ? "{\"k\":" : "[");
    base_buf_str(&b, "\"[[[[\\\"[[[[\"");
    for (int i = 63; i >= 0; i--) base_buf_str(&b, i % 2 ? "}" : "]");
    json_t *root = NULL;
    is_int(base_json_parse(&root, b.p, b.len, "x", NULL), ST_OK, "64 levels, and brackets in a string");
    json_decref(root);
    base_buf_reset(&b);
    for (int i = 0; i < 65; i++) base_buf_str(&b, i % 2 ? "[" : "\n [");
    bad(b.p, b.len, ST_ETOOBIG, "job.json:34:2", "too deep");
    base_buf_reset(&b);
    for (int i = 0; i < 1000000; i++) base_buf_str(&b, "[");
    bad(b.p, b.len, ST_ETOOBIG, "job.json:1:65", "too deep");
    base_buf_fini(&b);

    root = NULL;
    is_int(base_json_parse(&root, "3", 1, "x", NULL), ST_OK, "a bare value");
    json_decref(root);
}

/* Allocation 1 fails, then 2, then 3 … until the text is parsed. */
static int fail_at, allocations;

static void *failing_malloc(size_t n)
{
    return ++allocations == fail_at ? NULL : malloc(n);
}

static void test_memory(void)
{
    static const char text[] = "{\"a\":[1,2.5,\"three\",{\"b\":null}],\"c\":true}";
    json_set_alloc_funcs(failing_malloc, free);
    int clean = 1, failures = 0;
    for (fail_at = 1;; fail_at++) {
        allocations = 0;
        json_t *root = NULL;
        struct base_err err = BASE_ERR_INIT;
        st_t st = base_json_parse(&root, text, sizeof text - 1, "x", &err);
        if (!st) {
            json_decref(root);
            if (allocations < fail_at) break;
            continue;
        }
        failures++;
        clean &= !root && err.st == st && err.what[0];
    }
    json_set_alloc_funcs(malloc, free);
    ok(clean && failures > 5, "every allocation may fail (%d did)", failures);
}

static json_t *root_of(const char *text)
{
    json_t *root = NULL;
    struct base_err err;
    if (base_json_parse(&root, text, strlen(text), "x", &err)) printf("# %s\n", err.what);
    return root;
}

static void test_reader(void)
{
    json_t *root = root_of("{\"n\":48,\"big\":1e6,\"half\":0.5,\"s\":\"w\",\"t\":true,\"nul\":null,\"o\":{\"metrc\":1},\"l\":[{}]}");
    struct base_err err = BASE_ERR_INIT;
    struct base_jr r = base_jr_at(root, "", &err);
    is_int(base_jr_int(&r, "n", 1, 2, 100), 48, "an integer");
    is_int(base_jr_int(&r, "absent", 7, 0, 1), 7, "a default, even out of the range");
    is_int(base_jr_int(&r, "big", 0, 0, INT64_MAX), 1000000, "1e6 is an integer");
    ok(base_jr_num(&r, "half", 0, 0, 1) == 0.5 && base_jr_num(&r, "n", 0, 0, 100) == 48, "numbers");
    is_str(base_jr_str(&r, "s", "d"), "w", "a string");
    ok(base_jr_bool(&r, "t", false) && !base_jr_bool(&r, "absent", false), "booleans");
    is_int(r.st, ST_OK, "no error so far");
    ok(base_jr_get(&r, "absent") == NULL && !r.st, "get of what is absent is no error");

    struct base_jr q = base_jr_at(base_jr_get(&r, "o"), "objectives[1]", &err);
    static const char *const known[] = {"metric", "goal"};
    is_int(base_jr_done(&q, known, 2), ST_EINVAL, "an unknown key");
    is_str(err.where, "objectives[1]", "where it is");
    is_str(err.what, "unknown key 'metrc'; did you mean 'metric'?", "and what was meant");
    base_jr_fail(&q, ST_EIO, "goal", "later");
    is_int(err.st, ST_EINVAL, "the first error stays");

#define ERROR(call, place, text)                                  \
    do {                                                          \
        err = (struct base_err)BASE_ERR_INIT;                     \
        q = base_jr_at(root, "job", &err);                        \
        (void)(call);                                             \
        is_int(q.st, ST_EINVAL, "%s is refused", place);          \
        is_str(err.where, place, "%s: where", place);             \
        is_str(err.what, text, "%s: what", place);                \
    } while (0)
    ERROR(base_jr_int(&q, "n", 1, 2, 40), "job.n", "must be an integer from 2 to 40, not 48");
    ERROR(base_jr_int(&q, "n", 1, 50, INT64_MAX), "job.n", "must be an integer of at least 50, not 48");
    ERROR(base_jr_int(&q, "half", 1, INT64_MIN, INT64_MAX), "job.half", "must be an integer, not 0.5");
    ERROR(base_jr_int(&q, "nul", 1, 2, 3), "job.nul", "must be an integer from 2 to 3, not null");
    ERROR(base_jr_num(&q, "s", 1, -INFINITY, 3), "job.s", "must be a number of at most 3, not a string");
    ERROR(base_jr_num(&q, "n", 1, 0, 3), "job.n", "must be a number from 0 to 3, not 48");
    ERROR(base_jr_str(&q, "l", ""), "job.l", "must be a string, not an array");
    ERROR(base_jr_bool(&q, "n", true), "job.n", "must be true or false, not a number");
    ERROR(base_jr_need(&q, "gone"), "job.gone", "missing");
    ok(base_jr_str(&q, "s", "d")[0] == 'd' && base_jr_get(&q, "s") == NULL, "after an error only defaults");
    q = base_jr_at(json_object_get(root, "l"), "l", &err);
    is_str(err.what, "must be an object, not an array", "not an object");
    q = base_jr_at(NULL, "gone", &err);
    ok(q.st == ST_EINVAL && base_jr_need(&q, "x") == NULL && base_jr_done(&q, known, 2) == ST_EINVAL, "nothing at all");
    json_decref(root);

    static const char *const words[] = {"attention", "mamba2", "gated_delta", "window"};
    is_str(base_nearest("atention", words, 4), "attention", "nearest: a letter short");
    is_str(base_nearest("widnow", words, 4), "window", "nearest: two swapped");
    is_str(base_nearest("mamba", words, 4), "mamba2", "nearest: a letter more");
    ok(base_nearest("zebra", words, 4) == NULL, "nearest: none near");
    ok(base_nearest("w", words, 0) == NULL, "nearest: of none");
    static const char *const shorts[] = {"gelu", "relu2", "lr", "f32", "a", "heads", "decode_ms", "valid_bpb_of_all_that_was_kept"};
    static const char *const near[][2] = {{"silu", NULL},     {"glu", "gelu"},  {"gleu", "gelu"}, {"lx", NULL},        {"b", NULL},  {"l", NULL},
                                          {"fp32", "f32"},    {"f16", NULL},      {"x32", "f32"},   {"lrs", "lr"},    {"kv_heads", "heads"},  {"ds", NULL}, {"decode", "decode_ms"},
                                          {"decode-m", "decode_ms"}, {"valid_bpb_of_it_all_that_was_kept", "valid_bpb_of_all_that_was_kept"},
                                          {"walid_bbp_of_all_what_is_kept", NULL}, {"bheads", "heads"}, {"ms", NULL}, {"", NULL}};
    for (size_t i = 0; i < sizeof near / sizeof *near; i++) {
        const char *got = base_nearest(near[i][0], shorts, 8);
        ok(got == near[i][1] || (got && near[i][1] && !strcmp(got, near[i][1])), "nearest to '%s': %s", near[i][0], got ? got : "none");
    }
}

int main(void)
{
    test_numbers();
    test_writer();
    test_parse();
    test_memory();
    test_reader();
    return tap_done();
}
