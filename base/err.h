/* What went wrong, in words a person can act on: where and what.
 *
 *   return base_err_set(err, ST_EINVAL, "space.mixer.attention.heads[2]", "3 does not divide width %d", 64);
 *
 * A NULL err is allowed everywhere and drops the words. The struct is caller storage; no ownership.
 * `where` is a path inside what was parsed ("objectives[1].metric"), a file ("job.json:3:7"), or empty. */
#ifndef TAUT_BASE_ERR_H
#define TAUT_BASE_ERR_H

#include "base/status.h"

struct base_err {
    st_t st;
    char where[256];
    char what[768];
};

#define BASE_ERR_INIT {ST_OK, "", ""}

/* Fills err (if not NULL) and returns st, so that it can stand in a return statement. Control characters in the
 * formatted text are replaced by '?', so that an error is always one line. */
st_t base_err_set(struct base_err *err, st_t st, const char *where, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

/* Puts "prefix" before err->where: "layers[2]" + "mixer.heads" -> "layers[2].mixer.heads" (a '[' joins without a dot). */
void base_err_prefix(struct base_err *err, const char *prefix);

/* "where: what" (or only what) into buf, cut between characters where it does not fit; returns buf. */
const char *base_err_text(const struct base_err *err, char *buf, int size);

#endif
