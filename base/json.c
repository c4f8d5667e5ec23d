#include "base/json.h"

#include <float.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/json_write.h"

#define DEPTH_MAX 64

/* Position (from 1, columns in characters) of the bracket that opens level DEPTH_MAX + 1, if there is one. jansson recurses
 * by level and has a limit fixed when it was built, so the depth is checked before it sees the text. Where the text is
 * malformed this count may be off, but then jansson stops at that very place. */
static bool too_deep(const char *text, size_t len, int *line, int *col)
{
    int depth = 0;
    bool in_string = false;
    *line = 1;
    *col = 0;
    for (size_t i = 0; i < len; i++) {
        char c = text[i];
        if (((unsigned char)c & 0xC0) != 0x80) ++*col;
        if (c == '\n') {
            ++*line;
            *col = 0;
        }
        if (in_string) {
            if (c == '\\' && i + 1 < len) {
                i++;
                ++*col;
            } else if (c == '"') {
                in_string = false;
            }
        } else if (c == '"') {
            in_string = true;
        } else if (c == '[' || c == '{') {
            if (++depth > DEPTH_MAX) return true;
        } else if ((c == ']' || c == '}') && depth > 0) {
            depth--;
        }
    }
    return false;
}

st_t base_json_parse(json_t **out, const char *text, size_t len, const char *name, struct base_err *err)
{
    char where[256];
    int line, col;
    if (too_deep(text, len, &line, &col)) {
        snprintf(where, sizeof where, "%.200s:%d:%d", name, line, col);
        return base_err_set(err, ST_ETOOBIG, where, "too deep: more than %d levels", DEPTH_MAX);
    }
    json_error_t e;
    json_t *root = json_loadb(text, len, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &e);
    if (root) {
        *out = root;
        return ST_OK;
    }
    /* Some of jansson's allocation failures come without a word, a code or a position. */
    if (!e.text[0] || json_error_code(&e) == json_error_out_of_memory) return base_err_set(err, ST_ENOMEM, name, "out of memory");
    snprintf(where, sizeof where, "%.200s:%d:%d", name, e.line, e.column);
    switch (json_error_code(&e)) {
    case json_error_null_character:
    case json_error_null_byte_in_key:
        return base_err_set(err, ST_EPARSE, where, "\\u0000 is not allowed");
    case json_error_invalid_utf8: return base_err_set(err, ST_EPARSE, where, "not UTF-8: %s", e.text);
    default:
        return base_err_set(err, ST_EPARSE, where, "%s", e.text);
    }
}

static const char *type_name(const json_t *v)
{
    switch (json_typeof(v)) {
    case JSON_OBJECT: return "an object";
    case JSON_ARRAY: return "an array";
    case JSON_STRING: return "a string";
    case JSON_INTEGER: case JSON_REAL: return "a number";
    case JSON_TRUE: return "true";
    case JSON_FALSE: return "false";
    case JSON_NULL: break;
    }
    return "null";
}

struct base_jr base_jr_at(json_t *v, const char *path, struct base_err *err)
{
    struct base_jr r = {.obj = v, .err = err};
    snprintf(r.path, sizeof r.path, "%s", path);
    if (!v) base_jr_fail(&r, ST_EINVAL, NULL, "must be an object; it is missing");
    else if (!json_is_object(v)) base_jr_fail(&r, ST_EINVAL, NULL, "must be an object, not %s", type_name(v));
    if (r.st) r.obj = NULL;
    return r;
}

st_t base_jr_fail(struct base_jr *r, st_t st, const char *key, const char *fmt, ...)
{
    if (r->st) return r->st;
    r->st = st;
    char where[sizeof r->path + 128], what[768];
    snprintf(where, sizeof where, "%s%s%s", r->path, key && r->path[0] && key[0] != '[' ? "." : "", key ? key : "");
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    return base_err_set(r->err, st, where, "%s", what);
}

json_t *base_jr_get(struct base_jr *r, const char *key)
{
    return r->st ? NULL : json_object_get(r->obj, key);
}

json_t *base_jr_need(struct base_jr *r, const char *key)
{
    json_t *v = base_jr_get(r, key);
    if (!v) base_jr_fail(r, ST_EINVAL, key, "missing");
    return v;
}

/* "from 2 to 9", "at least 2", "at most 9" or "": the words for a range whose ends may be open. */
static const char *range_text(char buf[96], bool low, bool high, double min, double max)
{
    char a[32], b[32];
    base_num_text(min, a);
    base_num_text(max, b);
    buf[0] = '\0';
    if (low && high) snprintf(buf, 96, " from %s to %s", a, b);
    else if (low) snprintf(buf, 96, " of at least %s", a);
    else if (high) snprintf(buf, 96, " of at most %s", b);
    return buf;
}

int64_t base_jr_int(struct base_jr *r, const char *key, int64_t dflt, int64_t min, int64_t max)
{
    json_t *v = base_jr_get(r, key);
    if (!v) return dflt;
    char range[96];
    range_text(range, min != INT64_MIN, max != INT64_MAX, (double)min, (double)max);
    int64_t x;
    if (json_is_integer(v)) {
        x = json_integer_value(v);
    } else if (json_is_real(v) && fabs(json_real_value(v)) <= 0x1p53 && json_real_value(v) == floor(json_real_value(v))) {
        x = (int64_t)json_real_value(v); /* 1e6 */
    } else if (json_is_real(v)) {
        char text[32];
        base_num_text(json_real_value(v), text);
        base_jr_fail(r, ST_EINVAL, key, "must be an integer%s, not %s", range, text);
        return dflt;
    } else {
        base_jr_fail(r, ST_EINVAL, key, "must be an integer%s, not %s", range, type_name(v));
        return dflt;
    }
    if (x >= min && x <= max) return x;
    base_jr_fail(r, ST_EINVAL, key, "must be an integer%s, not %lld", range, (long long)x);
    return dflt;
}

double base_jr_num(struct base_jr *r, const char *key, double dflt, double min, double max)
{
    json_t *v = base_jr_get(r, key);
    if (!v) return dflt;
    double x = json_number_value(v);
    if (json_is_number(v) && x >= min && x <= max) return x;
    char range[96], text[32];
    range_text(range, min > -DBL_MAX, max < DBL_MAX, min, max);
    base_num_text(x, text);
    base_jr_fail(r, ST_EINVAL, key, "must be a number%s, not %s", range, json_is_number(v) ? text : type_name(v));
    return dflt;
}

bool base_jr_bool(struct base_jr *r, const char *key, bool dflt)
{
    json_t *v = base_jr_get(r, key);
    if (!v) return dflt;
    if (json_is_boolean(v)) return json_is_true(v);
    base_jr_fail(r, ST_EINVAL, key, "must be true or false, not %s", type_name(v));
    return dflt;
}

const char *base_jr_str(struct base_jr *r, const char *key, const char *dflt)
{
    json_t *v = base_jr_get(r, key);
    if (!v) return dflt;
    if (json_is_string(v)) return json_string_value(v);
    base_jr_fail(r, ST_EINVAL, key, "must be a string, not %s", type_name(v));
    return dflt;
}

st_t base_jr_done(struct base_jr *r, const char *const *known, int n)
{
    if (r->st) return r->st;
    const char *key;
    json_t *v;
    json_object_foreach(r->obj, key, v) {
        int i = 0;
        while (i < n && strcmp(key, known[i])) i++;
        if (i < n) continue;
        const char *near = base_nearest(key, known, n);
        if (near) return base_jr_fail(r, ST_EINVAL, NULL, "unknown key '%.64s'; did you mean '%s'?", key, near);
        return base_jr_fail(r, ST_EINVAL, NULL, "unknown key '%.64s'", key);
    }
    return ST_OK;
}

#define WORD_MAX 63
#define SLIPS_MAX 3

/* Optimal string alignment: insert, delete, replace, and swap of neighbours (the commonest slip of a finger) cost 1 each. */
static int edit_distance(const char *a, int na, const char *b, int nb)
{
    int rows[3][WORD_MAX + 1], *before = rows[0], *last = rows[1], *cur = rows[2];
    for (int j = 0; j <= nb; j++) last[j] = j;
    for (int i = 1; i <= na; i++) {
        cur[0] = i;
        for (int j = 1; j <= nb; j++) {
            int d = last[j - 1] + (a[i - 1] != b[j - 1]);
            if (last[j] + 1 < d) d = last[j] + 1;
            if (cur[j - 1] + 1 < d) d = cur[j - 1] + 1;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] && before[j - 2] + 1 < d) d = before[j - 2] + 1;
            cur[j] = d;
        }
        int *t = before;
        before = last;
        last = cur;
        cur = t;
    }
    return last[nb];
}

/* Is the shorter one the longer one's beginning or end, up to a '_' or '-'? */
static bool is_part(const char *a, int na, const char *b, int nb)
{
    if (na > nb) return is_part(b, nb, a, na);
    if (na < 3 || na == nb) return false;
    bool head = (b[na] == '_' || b[na] == '-') && !memcmp(a, b, (size_t)na), tail = (b[nb - na - 1] == '_' || b[nb - na - 1] == '-') && !strcmp(a, b + nb - na);
    return head || tail;
}

const char *base_nearest(const char *word, const char *const *words, int n)
{
    size_t len = strlen(word);
    if (len > WORD_MAX) return NULL;
    const char *best = NULL;
    int least = SLIPS_MAX + 2;
    for (int i = 0; i < n; i++) {
        size_t k = strlen(words[i]);
        int longer = (int)(k > len ? k : len), most = longer < 3 ? 0 : (longer + 1) / 3, d = k > WORD_MAX ? least : edit_distance(word, (int)len, words[i], (int)k);
        if (most > SLIPS_MAX) most = SLIPS_MAX;
        if (d > most) d = k <= WORD_MAX && is_part(word, (int)len, words[i], (int)k) ? SLIPS_MAX + 1 : least;
        if (d < least) {
            least = d;
            best = words[i];
        }
    }
    return best;
}
