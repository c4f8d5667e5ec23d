/* A growing byte string. Invariant: p is NULL or NUL-terminated at p[len].
 *
 *   struct base_buf b = BASE_BUF_INIT;
 *   base_buf_printf(&b, "x=%d", 3);
 *   base_buf_fini(&b);
 *
 * Allocation failure latches: b.st becomes ST_ENOMEM, later appends do nothing; check once at the end. */
#ifndef TAUT_BASE_BUF_H
#define TAUT_BASE_BUF_H

#include <stddef.h>

#include "base/status.h"

struct base_buf {
    char *p;
    size_t len, cap;
    st_t st;
};

#define BASE_BUF_INIT {NULL, 0, 0, ST_OK}

void base_buf_fini(struct base_buf *b);
void base_buf_reset(struct base_buf *b);                       /* len = 0, keeps the memory, clears st */
void base_buf_add(struct base_buf *b, const void *p, size_t n);
void base_buf_str(struct base_buf *b, const char *s);
void base_buf_printf(struct base_buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
char *base_buf_take(struct base_buf *b);                       /* caller frees; b is empty afterwards; NULL if b.st */

/* Appends a whole file of at most max bytes. "-" is standard input. ST_ETOOBIG, ST_EIO, ST_ENOTFOUND, ST_ENOMEM: b->len is as before. */
st_t base_buf_read_file(struct base_buf *b, const char *path, size_t max);

/* How many bytes of s to keep so that they are at most max and no UTF-8 character is cut in two. */
size_t base_utf8_cut(const char *s, size_t max);

#endif
