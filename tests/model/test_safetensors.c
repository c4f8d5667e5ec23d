/* Files that lie: every one is refused with a reason, none is believed. And what the format allows is read. */
#include "tests/tap.h"

#include <sys/stat.h>
#include <unistd.h>

#include "model/safetensors.h"
#include "tests/model/nets.h"

static char path[256];

/* len < 0: the header's true length. */
static void write_file(long long len, const char *header, size_t header_bytes, size_t data)
{
    FILE *f = fopen(path, "wb");
    unsigned long long n = len < 0 ? header_bytes : (unsigned long long)len;
    for (int i = 0; i < 8; i++) fputc((int)(n >> 8 * i & 255), f);
    fwrite(header, 1, header_bytes, f);
    for (size_t i = 0; i < data; i++) fputc(0, f);
    fclose(f);
}

#define T(dtype, shape, offsets) "{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":" offsets "}"

static const struct {
    const char *what, *header;
    size_t data;
    st_t st;
} rows[] = {
    /* good */
    {"nothing in it", "{}", 0, ST_OK},
    {"a tensor", "{\"a\":" T("F32", "[2,3]", "[0,24]") "}", 24, ST_OK},
    {"white space around", " \n{ \"a\" : {\t\"shape\":[ ] , \"dtype\":\"BF16\",\"data_offsets\":[0 ,2]} }  \n ", 2,
     ST_OK},
    {"an empty tensor", "{\"a\":" T("F32", "[0,3]", "[0,0]") ",\"b\":" T("F32", "[]", "[0,4]") "}", 4, ST_OK},
    {"tensors in any order",
     "{\"b\":" T("F32", "[1]", "[4,8]") ",\"a\":" T("I64", "[1]", "[8,16]") ",\"c\":" T("F16", "[2]", "[0,4]") "}", 16,
     ST_OK},
    {"metadata and escapes",
     "{\"__metadata__\":{\"k\\n\\u00e9\\ud83d\\ude00\":\"\\\"v\\\\\"},\"a\":" T("U8", "[1]", "[0,1]") "}", 1, ST_OK},
    /* offsets */
    {"past the end", "{\"a\":" T("F32", "[2]", "[0,8]") "}", 4, ST_ECORRUPT},
    {"data that belongs to nobody", "{\"a\":" T("F32", "[1]", "[0,4]") "}", 8, ST_ECORRUPT},
    {"data and no tensor", "{}", 1, ST_ECORRUPT},
    {"overlap", "{\"a\":" T("F32", "[2]", "[0,8]") ",\"b\":" T("F32", "[2]", "[4,12]") "}", 12, ST_ECORRUPT},
    {"the same data twice", "{\"a\":" T("F32", "[2]", "[0,8]") ",\"b\":" T("F32", "[2]", "[0,8]") "}", 8, ST_ECORRUPT},
    {"a gap", "{\"a\":" T("F32", "[1]", "[0,4]") ",\"b\":" T("F32", "[1]", "[8,12]") "}", 12, ST_ECORRUPT},
    {"a gap at the start", "{\"a\":" T("F32", "[1]", "[4,8]") "}", 8, ST_ECORRUPT},
    {"end before begin", "{\"a\":" T("F32", "[1]", "[8,4]") "}", 8, ST_ECORRUPT},
    {"too long for the shape", "{\"a\":" T("F32", "[1]", "[0,8]") "}", 8, ST_ECORRUPT},
    {"a shape whose size wraps to 0", "{\"a\":" T("F32", "[4294967296,4294967296]", "[0,0]") "}", 0, ST_ECORRUPT},
    {"a shape whose size wraps to 8", "{\"a\":" T("F32", "[4611686018427387906]", "[0,8]") "}", 8, ST_ECORRUPT},
    {"offsets past 2^63", "{\"a\":" T("F32", "[1]", "[0,9223372036854775808]") "}", 4, ST_ECORRUPT},
    {"negative offsets", "{\"a\":" T("F32", "[1]", "[-4,0]") "}", 4, ST_ECORRUPT},
    {"one offset", "{\"a\":" T("F32", "[1]", "[4]") "}", 4, ST_ECORRUPT},
    {"three offsets", "{\"a\":" T("F32", "[1]", "[0,4,4]") "}", 4, ST_ECORRUPT},
    /* values of the wrong kind */
    {"a negative dim", "{\"a\":" T("F32", "[-1]", "[0,4]") "}", 4, ST_ECORRUPT},
    {"a fractional dim", "{\"a\":" T("F32", "[1.0]", "[0,4]") "}", 4, ST_ECORRUPT},
    {"a dim with a leading zero", "{\"a\":" T("F32", "[01]", "[0,4]") "}", 4, ST_ECORRUPT},
    {"an exponent", "{\"a\":" T("F32", "[1e0]", "[0,4]") "}", 4, ST_ECORRUPT},
    {"nine dims", "{\"a\":" T("F32", "[1,1,1,1,1,1,1,1,1]", "[0,4]") "}", 4, ST_ECORRUPT},
    {"a shape that is text", "{\"a\":" T("F32", "\"1\"", "[0,4]") "}", 4, ST_ECORRUPT},
    {"an unknown dtype", "{\"a\":" T("F33", "[1]", "[0,4]") "}", 4, ST_ECORRUPT},
    {"a dtype in lower case", "{\"a\":" T("f32", "[1]", "[0,4]") "}", 4, ST_ECORRUPT},
    {"a tensor that is a number", "{\"a\":3}", 0, ST_ECORRUPT},
    {"a tensor that is null", "{\"a\":null}", 0, ST_ECORRUPT},
    {"no dtype", "{\"a\":{\"shape\":[1],\"data_offsets\":[0,4]}}", 4, ST_ECORRUPT},
    {"no shape", "{\"a\":{\"dtype\":\"F32\",\"data_offsets\":[0,4]}}", 4, ST_ECORRUPT},
    {"no offsets", "{\"a\":{\"dtype\":\"F32\",\"shape\":[1]}}", 4, ST_ECORRUPT},
    {"an unknown key", "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4],\"x\":1}}", 4, ST_ECORRUPT},
    {"a key twice", "{\"a\":{\"dtype\":\"F32\",\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4,
     ST_ECORRUPT},
    {"a name twice", "{\"a\":" T("F32", "[1]", "[0,4]") ",\"a\":" T("F32", "[1]", "[4,8]") "}", 8, ST_ECORRUPT},
    {"metadata that is a list", "{\"__metadata__\":[]}", 0, ST_ECORRUPT},
    {"metadata with a number", "{\"__metadata__\":{\"a\":1}}", 0, ST_ECORRUPT},
    {"metadata twice", "{\"__metadata__\":{},\"__metadata__\":{}}", 0, ST_ECORRUPT},
    {"a metadata key twice", "{\"__metadata__\":{\"a\":\"1\",\"a\":\"2\"}}", 0, ST_ECORRUPT},
    /* broken JSON */
    {"an empty header", "", 0, ST_ECORRUPT},
    {"spaces", "    ", 0, ST_ECORRUPT},
    {"a list", "[]", 0, ST_ECORRUPT},
    {"cut off after a name", "{\"a\"", 0, ST_ECORRUPT},
    {"cut off in a name", "{\"a", 0, ST_ECORRUPT},
    {"cut off after a backslash", "{\"a\\", 0, ST_ECORRUPT},
    {"a backslash before the closing quote", "{\"a\\\":{}}", 0, ST_ECORRUPT},
    {"cut off in a list", "{\"a\":{\"shape\":[1,", 0, ST_ECORRUPT},
    {"a comma too many", "{\"a\":" T("F32", "[1]", "[0,4]") ",}", 4, ST_ECORRUPT},
    {"a comma too many in a list", "{\"a\":" T("F32", "[1,]", "[0,4]") "}", 4, ST_ECORRUPT},
    {"a missing colon", "{\"a\" " T("F32", "[1]", "[0,4]") "}", 4, ST_ECORRUPT},
    {"a bare word", "{a:1}", 0, ST_ECORRUPT},
    {"something after the object", "{}{}", 0, ST_ECORRUPT},
    {"a control character in a name", "{\"a\tb\":" T("F32", "[1]", "[0,4]") "}", 4, ST_ECORRUPT},
    {"an unknown escape", "{\"\\x\":" T("F32", "[1]", "[0,4]") "}", 4, ST_ECORRUPT},
    {"NUL in a name", "{\"a\\u0000\":" T("F32", "[1]", "[0,4]") "}", 4, ST_ECORRUPT},
    {"half a surrogate pair", "{\"\\ud83d\":" T("F32", "[1]", "[0,4]") "}", 4, ST_ECORRUPT},
    {"a low surrogate first", "{\"\\ude00\\ud83d\":" T("F32", "[1]", "[0,4]") "}", 4, ST_ECORRUPT},
    {"bytes that are not UTF-8", "{\"\xff\":" T("F32", "[1]", "[0,4]") "}", 4, ST_ECORRUPT},
    {"an overlong NUL", "{\"\xc0\x80\":" T("F32", "[1]", "[0,4]") "}", 4, ST_ECORRUPT},
    {"a surrogate in UTF-8", "{\"\xed\xa0\x80\":" T("F32", "[1]", "[0,4]") "}", 4, ST_ECORRUPT},
    {"UTF-8 cut off by the quote", "{\"\xe2\x82\":" T("F32", "[1]", "[0,4]") "}", 4, ST_ECORRUPT},
};

static void check(st_t want, const char *what)
{
    struct base_err err = BASE_ERR_INIT;
    struct safe f;
    st_t st = safe_open(&f, path, &err);
    is_int(st, want, "%s%s%s", what, err.what[0] ? ": " : "", err.what);
    if (!st)
        safe_close(&f);
    else
        ok(err.where[0] && err.what[0], "with where and what");
}

static void test_rows(void)
{
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        write_file(-1, rows[i].header, strlen(rows[i].header), rows[i].data);
        check(rows[i].st, rows[i].what);
    }
}

static void test_lengths(void)
{
    static const struct {
        const char *what;
        long long len;
    } lengths[] = {{"a header of 0 bytes", 0},        {"one that ends too early", 40}, {"one byte past the file", 1000},
                   {"one over the limit", 100000001}, {"2^62 bytes", 1ll << 62},       {"8 bytes before 2^64", -8}};
    const char *h = rows[1].header;
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        FILE *f = fopen(path, "wb");
        for (int k = 0; k < 8; k++) fputc((int)((unsigned long long)lengths[i].len >> 8 * k & 255), f);
        fwrite(h, 1, strlen(h), f);
        fclose(f);
        check(ST_ECORRUPT, lengths[i].what);
    }
    write_file(-1, "{\"a\0b\":1}", 9, 0);
    check(ST_ECORRUPT, "a NUL byte in the header");
    for (int n = 0; n < 8; n += 7) {
        write_file(-1, "{}", 2, 0);
        if (truncate(path, n)) exit(1);
        check(ST_ECORRUPT, "a file of less than 8 bytes");
    }
    unlink(path);
    check(ST_ENOTFOUND, "no file");
    mkdir(path, 0700);
    check(ST_EINVAL, "a folder");
    rmdir(path);
    mkfifo(path, 0600);
    check(ST_EINVAL, "a pipe: no waiting");
    unlink(path);
}

/* Every byte of a good header turned into something else: refused or read, never more than that (sanitizers watch). */
static void test_noise(void)
{
    static const char header[] = "{\"__metadata__\":{\"k\":\"\\u00e9\"},\"ab\":" T(
        "F32", "[2,3]", "[0,24]") ",\"c\":" T("F16", "[]", "[24,26]") "}";
    static const char bytes[] = "\"\\{}[]:,0-9e \xff\x01u";
    char text[sizeof header];
    int runs = 0;
    for (size_t i = 0; i + 1 < sizeof header; i++) {
        for (size_t k = 0; k + 1 < sizeof bytes; k++, runs++) {
            struct safe f;
            memcpy(text, header, sizeof text);
            text[i] = bytes[k];
            write_file(-1, text, sizeof header - 1, 26);
            if (!safe_open(&f, path, NULL)) safe_close(&f);
        }
    }
    ok(runs > 1000, "%d headers with one byte changed", runs);
    unlink(path);
}

static void test_values(void)
{
    struct safe f;
    const char *h = rows[5].header;
    write_file(-1, h, strlen(h), 1);
    is_int(safe_open(&f, path, NULL), ST_OK, "metadata");
    is_str(safe_meta(&f, "k\n\xc3\xa9\xf0\x9f\x98\x80"), "\"v\\", "escapes read");
    ok(!safe_meta(&f, "k") && !safe_find(&f, "b"), "what is not there is not found");
    const struct safe_tensor *t = safe_find(&f, "a");
    ok(t && t->rank == 1 && t->shape[0] == 1 && t->begin == 0 && t->end == 1 && t->dtype == SAFE_OTHER, "the tensor");
    char c;
    is_int(safe_read(&f, 0, &c, 1), ST_OK, "its byte");
    is_int(safe_read(&f, 1, &c, 1), ST_EIO, "not the one after");
    is_int(safe_read(&f, UINT64_MAX, &c, 1), ST_EIO, "nor a wild one");
    if (truncate(path, 20)) exit(1);
    is_int(safe_read(&f, 0, &c, 1), ST_EIO, "nor one of a file that has become shorter");
    safe_close(&f);
    unlink(path);
}

int main(void)
{
    const char *tmp = getenv("TMPDIR");
    snprintf(path, sizeof path, "%s/taut-safe-%ld", tmp ? tmp : "/tmp", (long)getpid());
    test_rows();
    test_lengths();
    test_noise();
    test_values();
    return tap_done();
}
