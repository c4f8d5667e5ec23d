/* Framing alone: what comes out does not depend on how the bytes were cut. */
#include "tests/tap.h"
#include "wire/frame.h"

static bool note(void *ctx, const char *text, size_t len)
{
    struct base_buf *b = ctx;
    if (text)
        base_buf_add(b, text, len);
    else
        base_buf_str(b, "LONG");
    base_buf_str(b, "|");
    return !(text && len == 3 && !memcmp(text, "end", 3));
}

static const struct {
    const char *in, *want;
} CASES[] = {
    {"a\nbc\n", "a|bc|"},
    {"\n\n \t\r\na\n\r\n", "a|"},
    {"a\r\n", "a\r|"},
    {"12345678\n", "12345678|"},
    {"123456789\nb\n", "LONG|b|"},
    {"123456789012345678901234567890\nb\n", "LONG|b|"},
    {"1234567890", "LONG|"},
    {"half", ""},
    {" a \n", " a |"},
    {"         \nb\n", "LONG|b|"},
    {"a\nend\nb\n", "a|end|"},
};

int main(void)
{
    for (size_t i = 0; i < sizeof CASES / sizeof CASES[0]; i++) {
        size_t n = strlen(CASES[i].in);
        for (size_t step = 1; step <= n; step++) {
            struct wire_lines l = {.max = 8};
            struct base_buf got = BASE_BUF_INIT;
            base_buf_str(&got, "");
            st_t st = ST_OK;
            for (size_t at = 0; at < n && !st; at += step) {
                st = wire_lines_feed(&l, CASES[i].in + at, n - at < step ? n - at : step, note, &got);
                if (got.len >= 4 && !strcmp(got.p + got.len - 4, "end|")) break;
            }
            is_str(got.p, CASES[i].want, "case %zu in steps of %zu", i, step);
            base_buf_fini(&got);
            wire_lines_fini(&l);
        }
    }
    return tap_done();
}
