/* JSON reader: jansson, with errors that say where. The one header of base that includes jansson.h.
 *
 *   json_t *root;
 *   st_t st = base_json_parse(&root, text, len, "job.json", &err);       // own root: json_decref
 *   struct base_jr r = base_jr_at(root, "", &err);
 *   int n = base_jr_int(&r, "population", 48, 2, 100000);               // default, min, max
 *   base_jr_done(&r, known, nknown)                                     // unknown keys: error with nearest neighbour
 *   if (r.st) …
 *
 * Parsing is strict (the root may be any value): UTF-8, no \u0000, no duplicate keys, no trailing text, depth <= 64, numbers
 * finite. Error position: "job.json:3:7", where jansson stood: the end of the token that it could not take.
 * The typed getters latch the first error into r->st and r->err with the full path ("objectives[1].metric") and return the default
 * from then on, so that callers check once. */
#ifndef TAUT_BASE_JSON_H
#define TAUT_BASE_JSON_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

/* Depth over 64: ST_ETOOBIG with "too deep"; anything else malformed: ST_EPARSE. */
st_t base_json_parse(json_t **out, const char *text, size_t len, const char *name, struct base_err *err)
    __attribute__((warn_unused_result));

struct base_jr {
    json_t *obj;            /* borrowed; an object */
    char path[192];         /* of obj, "" for the root */
    struct base_err *err;
    st_t st;
};

/* Latches an error if v is not an object. path may be "". */
struct base_jr base_jr_at(json_t *v, const char *path, struct base_err *err);
json_t *base_jr_get(struct base_jr *r, const char *key);                        /* borrowed or NULL; never an error */
json_t *base_jr_need(struct base_jr *r, const char *key);                       /* missing: error */
int64_t base_jr_int(struct base_jr *r, const char *key, int64_t dflt, int64_t min, int64_t max);
double base_jr_num(struct base_jr *r, const char *key, double dflt, double min, double max);
bool base_jr_bool(struct base_jr *r, const char *key, bool dflt);
const char *base_jr_str(struct base_jr *r, const char *key, const char *dflt);  /* borrowed */
/* Error at r->path.key (key may be NULL: at r->path); keeps the first. Returns r->st. */
st_t base_jr_fail(struct base_jr *r, st_t st, const char *key, const char *fmt, ...) __attribute__((format(printf, 4, 5)));
/* Any key of obj not in known[n]: ST_EINVAL "unknown key 'x'; did you mean 'y'?". Returns r->st. */
st_t base_jr_done(struct base_jr *r, const char *const *known, int n);

/* The nearest of words[n] by edit distance, or NULL when none is near: at most a slip in three letters of the longer one, 2 in 5, 3 in all; else one that
 * is all of the other up to a '_' or '-' ("kv_heads", "heads"). */
const char *base_nearest(const char *word, const char *const *words, int n);

#endif
