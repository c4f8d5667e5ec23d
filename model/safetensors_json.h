/* The JSON of a safetensors header and no more: objects, lists, strings and whole numbers, pulled one after the other
 * by who knows what must come.
 *
 *   for (bool more = safe_json_open(&j, '{'); more; more = safe_json_more(&j, '}')) { key = safe_json_key(&j); … }
 *
 * The first error latches in j.st with j.what and j.at; every function then answers NULL, 0 or false. Strict: no
 * trailing commas, no leading zeros, no control characters in strings, UTF-8 must be well-formed, "\u0000" is refused
 * (names are C strings). */
#ifndef TAUT_MODEL_SAFETENSORS_JSON_H
#define TAUT_MODEL_SAFETENSORS_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/status.h"

struct safe_json {
    const char *text;
    size_t n, at;
    struct base_arena *arena; /* strings are copied there */
    st_t st;
    const char *what;
};

void safe_json_init(struct safe_json *j, const char *text, size_t n, struct base_arena *arena);
st_t safe_json_fail(struct safe_json *j, st_t st, const char *what); /* keeps the first; what: static text */
/* Eats '{' or '['; true: something stands before the closing one. */
bool safe_json_open(struct safe_json *j, char bracket);
/* After an element: eats ',' (true) or the closing bracket (false). */
bool safe_json_more(struct safe_json *j, char closing);
const char *safe_json_key(struct safe_json *j); /* a string and its ':' */
const char *safe_json_string(struct safe_json *j);
int64_t safe_json_int(struct safe_json *j); /* 0 .. INT64_MAX */
st_t safe_json_end(struct safe_json *j);    /* nothing but white space may be left */

#endif
