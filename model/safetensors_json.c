#include "model/safetensors_json.h"

#include <string.h>

void safe_json_init(struct safe_json *j, const char *text, size_t n, struct base_arena *arena)
{
    *j = (struct safe_json){.text = text, .n = n, .arena = arena};
}

st_t safe_json_fail(struct safe_json *j, st_t st, const char *what)
{
    if (!j->st) j->st = st, j->what = what;
    return j->st;
}

/* The next character that is not white space, -1 at the end or after an error. */
static int peek(struct safe_json *j)
{
    if (j->st) return -1;
    while (j->at < j->n && strchr(" \t\n\r", j->text[j->at]) && j->text[j->at]) j->at++;
    return j->at < j->n ? (unsigned char)j->text[j->at] : -1;
}

static bool eat(struct safe_json *j, char c, const char *what)
{
    if (peek(j) != (unsigned char)c) {
        safe_json_fail(j, ST_ECORRUPT, what);
        return false;
    }
    j->at++;
    return true;
}

bool safe_json_open(struct safe_json *j, char bracket)
{
    char closing = bracket == '{' ? '}' : ']';
    if (!eat(j, bracket, bracket == '{' ? "expected {" : "expected [")) return false;
    if (peek(j) != closing) return true;
    j->at++;
    return false;
}

bool safe_json_more(struct safe_json *j, char closing)
{
    if (peek(j) == ',') {
        j->at++;
        return true;
    }
    eat(j, closing, "expected , or the closing bracket");
    return false;
}

static int hex4(struct safe_json *j)
{
    int v = 0;
    if (j->n - j->at < 4) return -1;
    for (int i = 0; i < 4; i++) {
        char c = j->text[j->at++];
        int d = c >= '0' && c <= '9'   ? c - '0'
                : c >= 'a' && c <= 'f' ? c - 'a' + 10
                : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                       : -1;
        if (d < 0) return -1;
        v = v << 4 | d;
    }
    return v;
}

static int put_utf8(char *out, int c)
{
    if (c < 0x80) return out[0] = (char)c, 1;
    if (c < 0x800) return out[0] = (char)(0xc0 | c >> 6), out[1] = (char)(0x80 | (c & 63)), 2;
    if (c < 0x10000)
        return out[0] = (char)(0xe0 | c >> 12), out[1] = (char)(0x80 | (c >> 6 & 63)), out[2] = (char)(0x80 | (c & 63)),
               3;
    out[0] = (char)(0xf0 | c >> 18), out[1] = (char)(0x80 | (c >> 12 & 63)), out[2] = (char)(0x80 | (c >> 6 & 63));
    return out[3] = (char)(0x80 | (c & 63)), 4;
}

/* What follows a backslash; returns the bytes written (at most 4, from at least 2 of text), 0 on error. */
static int escape(struct safe_json *j, char *out)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    if (j->at >= j->n) return 0;
    char c = j->text[j->at++];
    const char *p = c ? strchr(from, c) : NULL;
    if (p) return out[0] = to[p - from], 1;
    if (c != 'u') return 0;
    int v = hex4(j);
    if (v <= 0 || (v >= 0xdc00 && v < 0xe000)) return 0;
    if (v < 0xd800 || v >= 0xe000) return put_utf8(out, v);
    if (j->n - j->at < 6 || j->text[j->at] != '\\' || j->text[j->at + 1] != 'u') return 0;
    j->at += 2;
    int w = hex4(j);
    return w < 0xdc00 || w >= 0xe000 ? 0 : put_utf8(out, 0x10000 + ((v - 0xd800) << 10) + (w - 0xdc00));
}

/* Length of the well-formed UTF-8 sequence at p (RFC 3629, table 3-7 of Unicode), 0 if there is none. */
static int utf8(const unsigned char *p, size_t n)
{
    if (p[0] < 0x80) return 1;
    int len = p[0] >= 0xc2 && p[0] < 0xe0 ? 2 : p[0] >= 0xe0 && p[0] < 0xf0 ? 3 : p[0] >= 0xf0 && p[0] < 0xf5 ? 4 : 0;
    if (!len || n < (size_t)len) return 0;
    for (int i = 1; i < len; i++)
        if ((p[i] & 0xc0) != 0x80) return 0;
    if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f) || (p[0] == 0xf0 && p[1] < 0x90) ||
        (p[0] == 0xf4 && p[1] > 0x8f))
        return 0;
    return len;
}

const char *safe_json_string(struct safe_json *j)
{
    if (!eat(j, '"', "expected a string")) return NULL;
    size_t end = j->at;
    while (end < j->n && j->text[end] != '"') end += j->text[end] == '\\' ? 2 : 1;
    if (end >= j->n) return safe_json_fail(j, ST_ECORRUPT, "string without an end"), NULL;
    char *out = base_arena_alloc(j->arena, end - j->at + 1),
         *o = out; /* what is written is never longer than what is read */
    if (!out) return safe_json_fail(j, ST_ENOMEM, "out of memory"), NULL;
    while (j->at < end) {
        unsigned char c = (unsigned char)j->text[j->at];
        int n;
        if (c < 0x20) return safe_json_fail(j, ST_ECORRUPT, "control character in a string"), NULL;
        if (c == '\\') {
            j->at++;
            if (!(n = escape(j, o))) return safe_json_fail(j, ST_ECORRUPT, "bad escape in a string"), NULL;
            o += n;
            continue;
        }
        if (!(n = utf8((const unsigned char *)j->text + j->at, end - j->at)))
            return safe_json_fail(j, ST_ECORRUPT, "malformed UTF-8"), NULL;
        memcpy(o, j->text + j->at, (size_t)n);
        o += n, j->at += (size_t)n;
    }
    if (j->at != end)
        return safe_json_fail(j, ST_ECORRUPT, "bad escape in a string"),
               NULL; /* an escape reached over the closing quote */
    j->at++;
    *o = 0;
    return out;
}

const char *safe_json_key(struct safe_json *j)
{
    const char *s = safe_json_string(j);
    return s && eat(j, ':', "expected :") ? s : NULL;
}

int64_t safe_json_int(struct safe_json *j)
{
    int c = peek(j);
    int64_t v = 0;
    size_t first = j->at;
    if (c < '0' || c > '9') return safe_json_fail(j, ST_ECORRUPT, "expected a whole number"), 0;
    for (; j->at < j->n && j->text[j->at] >= '0' && j->text[j->at] <= '9'; j->at++)
        if (__builtin_mul_overflow(v, (int64_t)10, &v) ||
            __builtin_add_overflow(v, (int64_t)(j->text[j->at] - '0'), &v))
            return safe_json_fail(j, ST_ECORRUPT, "number too large"), 0;
    if (c == '0' && j->at - first > 1) return safe_json_fail(j, ST_ECORRUPT, "number with a leading zero"), 0;
    return v;
}

st_t safe_json_end(struct safe_json *j)
{
    if (!j->st && peek(j) != -1) safe_json_fail(j, ST_ECORRUPT, "something follows the header's object");
    return j->st;
}
