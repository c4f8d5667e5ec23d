/* JSON writer, without jansson: streams into a base_buf. Commas and nesting are kept by the writer.
 *
 *   struct base_jw w; base_jw_init(&w, &buf);
 *   base_jw_obj(&w); base_jw_key(&w, "x"); base_jw_num(&w, 0.1); base_jw_end(&w);       // {"x":0.1}
 *
 * Doubles: the shortest decimal that reads back to the same bits; integers without a point below 2^53 ("2", not "2.0"); a double
 * that is not finite is written null. Strings: UTF-8 passed through, control characters, '"' and '\\' escaped; malformed UTF-8
 * bytes become U+FFFD, so the output is always valid JSON. */
#ifndef TAUT_BASE_JSON_WRITE_H
#define TAUT_BASE_JSON_WRITE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"

#define BASE_JW_DEPTH 64
struct base_jw {
    struct base_buf *b;
    int depth;
    char stack[BASE_JW_DEPTH]; /* '{' or '[' */
    bool first[BASE_JW_DEPTH];
    bool after_key;
};

void base_jw_init(struct base_jw *w, struct base_buf *b);
void base_jw_obj(struct base_jw *w);
void base_jw_arr(struct base_jw *w);
void base_jw_end(struct base_jw *w); /* closes the innermost object or array */
void base_jw_key(struct base_jw *w, const char *key);
void base_jw_str(struct base_jw *w, const char *s); /* NULL: null */
void base_jw_strn(struct base_jw *w, const char *s, size_t n);
void base_jw_num(struct base_jw *w, double v);
void base_jw_int(struct base_jw *w, int64_t v);
void base_jw_bool(struct base_jw *w, bool v);
void base_jw_null(struct base_jw *w);
void base_jw_raw(struct base_jw *w, const char *json); /* a complete JSON text, trusted */

/* key and value in one */
void base_jw_kstr(struct base_jw *w, const char *key, const char *s);
void base_jw_knum(struct base_jw *w, const char *key, double v);
void base_jw_kint(struct base_jw *w, const char *key, int64_t v);
void base_jw_kbool(struct base_jw *w, const char *key, bool v);
void base_jw_kraw(struct base_jw *w, const char *key, const char *json);

/* Shortest round-trip decimal of v into buf (at least 32 bytes); returns its length. */
int base_num_text(double v, char *buf);

#endif
