/* Status codes: what every function that can fail returns.
 *
 *   st_t st = db_open(&db, path, &err);
 *   if (st) return st;              // 0 is success, everything else is negative
 *
 * The function that decides which error it is fills struct base_err (err.h) or logs; those
 * between it and the person who reads propagate the code silently. Output parameters are set
 * only on success. */
#ifndef TAUT_BASE_STATUS_H
#define TAUT_BASE_STATUS_H

/*     name         code  text */
#define ST_MAP(X)                                              \
    X(ST_OK,          0, "ok")                                 \
    X(ST_EINVAL,     -1, "invalid")                            \
    X(ST_ENOMEM,     -2, "out of memory")                      \
    X(ST_EIO,        -3, "input/output error")                 \
    X(ST_ENOTFOUND,  -4, "not found")                          \
    X(ST_EEXIST,     -5, "already exists")                     \
    X(ST_ENOTSUP,    -6, "not supported")                      \
    X(ST_EPARSE,     -7, "malformed")                          \
    X(ST_ECORRUPT,   -8, "corrupt")                            \
    X(ST_EBUSY,      -9, "busy")                               \
    X(ST_EVERSION,  -10, "version mismatch")                   \
    X(ST_ENOSPC,    -11, "no space left")                      \
    X(ST_ECANCELED, -12, "canceled")                           \
    X(ST_ESTALE,    -13, "stale")                              \
    X(ST_EPERM,     -14, "not permitted")                      \
    X(ST_ETIMEDOUT, -15, "timed out")                          \
    X(ST_ECLOSED,   -16, "closed")                             \
    X(ST_ENONFINITE,-17, "not a finite number")                \
    X(ST_ENOFIT,    -18, "does not fit in memory")             \
    X(ST_ESTATE,    -19, "wrong state")                        \
    X(ST_EEXHAUSTED,-20, "exhausted")                          \
    X(ST_ETOOBIG,   -21, "too large")                          \
    X(ST_ELOST,     -22, "device lost")

typedef enum {
#define X(name, code, text) name = code,
    ST_MAP(X)
#undef X
} st_t;

/* Static text of a code ("invalid"); never NULL. */
const char *base_status_text(st_t st);

#endif
