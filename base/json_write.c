#include "base/json_write.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void base_jw_init(struct base_jw *w, struct base_buf *b)
{
    *w = (struct base_jw){.b = b};
}

/* What has to stand before a value: nothing after a key, otherwise a comma from the second element on. */
static void before_value(struct base_jw *w)
{
    if (w->after_key) {
        w->after_key = false;
    } else if (w->depth > 0) {
        assert(w->depth > BASE_JW_DEPTH || w->stack[w->depth - 1] == '['); /* a value in an object needs a key */
        if (w->depth > BASE_JW_DEPTH) return;
        if (!w->first[w->depth - 1]) base_buf_add(w->b, ",", 1);
        w->first[w->depth - 1] = false;
    }
}

/* Nesting too deep latches in the buffer as running out of memory does; the depth still counts, so that _end stays balanced. */
static void open_level(struct base_jw *w, char c)
{
    before_value(w);
    if (w->depth >= BASE_JW_DEPTH) {
        if (!w->b->st) w->b->st = ST_ETOOBIG;
    } else {
        w->stack[w->depth] = c;
        w->first[w->depth] = true;
        base_buf_add(w->b, &c, 1);
    }
    w->depth++;
}

void base_jw_obj(struct base_jw *w)
{
    open_level(w, '{');
}

void base_jw_arr(struct base_jw *w)
{
    open_level(w, '[');
}

void base_jw_end(struct base_jw *w)
{
    assert(w->depth > 0 && !w->after_key);
    w->depth--;
    if (w->depth < BASE_JW_DEPTH) base_buf_add(w->b, w->stack[w->depth] == '{' ? "}" : "]", 1);
}

/* Length of the well-formed UTF-8 character at s[n], 0 if it is malformed (Unicode 15, table 3-7). */
static size_t utf8_len(const unsigned char *s, size_t n)
{
    unsigned c = s[0], low = 0x80, high = 0xBF;
    size_t len = c < 0x80 ? 1 : c < 0xC2 ? 0 : c < 0xE0 ? 2 : c < 0xF0 ? 3 : c < 0xF5 ? 4 : 0;
    if (len > n) return 0;
    if (c == 0xE0) low = 0xA0;
    if (c == 0xED) high = 0x9F;
    if (c == 0xF0) low = 0x90;
    if (c == 0xF4) high = 0x8F;
    for (size_t i = 1; i < len; i++) {
        if (s[i] < low || s[i] > high) return 0;
        low = 0x80;
        high = 0xBF;
    }
    return len;
}

static void quote(struct base_buf *b, const char *text, size_t n)
{
    const unsigned char *s = (const unsigned char *)text;
    size_t run = 0; /* start of what can be copied as it is */
    base_buf_add(b, "\"", 1);
    for (size_t i = 0; i < n;) {
        unsigned char c = s[i];
        size_t len = utf8_len(s + i, n - i);
        if (len && c >= 0x20 && c != '"' && c != '\\') {
            i += len;
            continue;
        }
        base_buf_add(b, s + run, i - run);
        if (!len) base_buf_str(b, "\xEF\xBF\xBD");
        else if (c == '"' || c == '\\') base_buf_printf(b, "\\%c", c);
        else if (c == '\n') base_buf_str(b, "\\n");
        else if (c == '\t') base_buf_str(b, "\\t");
        else if (c == '\r') base_buf_str(b, "\\r");
        else base_buf_printf(b, "\\u%04x", c);
        run = ++i;
    }
    base_buf_add(b, s + run, n - run);
    base_buf_add(b, "\"", 1);
}

void base_jw_key(struct base_jw *w, const char *key)
{
    if (w->depth > BASE_JW_DEPTH) {
        w->after_key = true;
        return;
    }
    assert(w->depth > 0 && w->stack[w->depth - 1] == '{' && !w->after_key);
    if (!w->first[w->depth - 1]) base_buf_add(w->b, ",", 1);
    w->first[w->depth - 1] = false;
    quote(w->b, key, strlen(key));
    base_buf_add(w->b, ":", 1);
    w->after_key = true;
}

void base_jw_strn(struct base_jw *w, const char *s, size_t n)
{
    before_value(w);
    quote(w->b, s, n);
}

void base_jw_raw(struct base_jw *w, const char *json)
{
    before_value(w);
    base_buf_str(w->b, json);
}

void base_jw_str(struct base_jw *w, const char *s)
{
    if (s) base_jw_strn(w, s, strlen(s));
    else base_jw_null(w);
}

void base_jw_num(struct base_jw *w, double v)
{
    char text[32];
    base_num_text(v, text);
    base_jw_raw(w, text);
}

void base_jw_int(struct base_jw *w, int64_t v)
{
    char text[32];
    snprintf(text, sizeof text, "%lld", (long long)v);
    base_jw_raw(w, text);
}

void base_jw_bool(struct base_jw *w, bool v)
{
    base_jw_raw(w, v ? "true" : "false");
}

void base_jw_null(struct base_jw *w)
{
    base_jw_raw(w, "null");
}

void base_jw_kstr(struct base_jw *w, const char *key, const char *s)
{
    base_jw_key(w, key);
    base_jw_str(w, s);
}

void base_jw_knum(struct base_jw *w, const char *key, double v)
{
    base_jw_key(w, key);
    base_jw_num(w, v);
}

void base_jw_kint(struct base_jw *w, const char *key, int64_t v)
{
    base_jw_key(w, key);
    base_jw_int(w, v);
}

void base_jw_kbool(struct base_jw *w, const char *key, bool v)
{
    base_jw_key(w, key);
    base_jw_bool(w, v);
}

void base_jw_kraw(struct base_jw *w, const char *key, const char *json)
{
    base_jw_key(w, key);
    base_jw_raw(w, json);
}

/* Adds one unit to the last digit of a decimal "d.ddde±x" (carries may stop at the first digit: it never overflows here,
 * since the caller only asks for powers of two, none of which has 16 nines). */
static void next_decimal(char *text)
{
    char *p = strchr(text, 'e') - 1;
    for (;; p--) {
        if (*p < '0' || *p > '9') continue;
        if (*p != '9') break;
        *p = '0';
    }
    ++*p;
}

int base_num_text(double v, char *buf)
{
    if (!isfinite(v)) return sprintf(buf, "null");
    if (fabs(v) < 0x1p53 && v == (double)(int64_t)v) return sprintf(buf, "%lld", (long long)v);
    /* Any decimal of up to 15 digits survives the way to a normal double and back, so %.15g finds it with its zeros
     * stripped; denormals have fewer digits to spare and start from one. */
    int digits = fabs(v) < 0x1p-1022 ? 1 : 15;
    for (; digits < 17; digits++) {
        snprintf(buf, 32, "%.*e", digits - 1, v);
        if (strtod(buf, NULL) == v) break;
        int exponent;
        if (digits == 16 && fabs(frexp(v, &exponent)) == 0.5) {
            /* Below a power of two doubles lie twice as dense: the nearest decimal may miss where the one above hits. */
            next_decimal(buf);
            if (strtod(buf, NULL) == v) break;
        }
    }
    if (digits == 17) snprintf(buf, 32, "%.16e", v);

    /* From d.ddde±xx to what %g would choose for that many digits, without its '+' and leading zeros in the exponent.
     * A locale's comma is overwritten on the way. */
    char num[20];
    int n = 0, neg = buf[0] == '-';
    char *e = strchr(buf, 'e');
    int x = atoi(e + 1);
    for (char *p = buf; p < e; p++)
        if (*p >= '0' && *p <= '9') num[n++] = *p;
    while (n > 1 && num[n - 1] == '0') n--;
    char *o = buf + neg;
    if (x < -4 || x >= n) {
        *o++ = num[0];
        if (n > 1) {
            *o++ = '.';
            memcpy(o, num + 1, (size_t)n - 1);
            o += n - 1;
        }
        return (int)(o - buf) + sprintf(o, "e%d", x);
    }
    if (x < 0) {
        *o++ = '0';
        *o++ = '.';
        for (int i = -1; i > x; i--) *o++ = '0';
        memcpy(o, num, (size_t)n);
        o += n;
    } else {
        for (int i = 0; i < n; i++) {
            if (i == x + 1) *o++ = '.';
            *o++ = num[i];
        }
    }
    *o = '\0';
    return (int)(o - buf);
}
