#include "base/buf.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Room for n more bytes and the NUL. */
static int reserve(struct base_buf *b, size_t n)
{
    if (b->st) return 0;
    if (n >= SIZE_MAX / 2 - b->len) {
        b->st = ST_ENOMEM;
        return 0;
    }
    size_t need = b->len + n + 1;
    if (need <= b->cap) return 1;
    size_t cap = b->cap + b->cap / 2;
    if (cap < need) cap = need;
    if (cap < 64) cap = 64;
    char *p = realloc(b->p, cap);
    if (!p) {
        b->st = ST_ENOMEM;
        return 0;
    }
    if (!b->p) p[0] = '\0';
    b->p = p;
    b->cap = cap;
    return 1;
}

void base_buf_fini(struct base_buf *b)
{
    free(b->p);
    *b = (struct base_buf)BASE_BUF_INIT;
}

void base_buf_reset(struct base_buf *b)
{
    b->len = 0;
    b->st = ST_OK;
    if (b->p) b->p[0] = '\0';
}

void base_buf_add(struct base_buf *b, const void *p, size_t n)
{
    if (!reserve(b, n)) return;
    if (n) memcpy(b->p + b->len, p, n);
    b->len += n;
    b->p[b->len] = '\0';
}

void base_buf_str(struct base_buf *b, const char *s)
{
    base_buf_add(b, s, strlen(s));
}

void base_buf_printf(struct base_buf *b, const char *fmt, ...)
{
    va_list ap, again;
    va_start(ap, fmt);
    va_copy(again, ap);
    size_t room = b->p && !b->st ? b->cap - b->len : 0;
    int n = vsnprintf(room ? b->p + b->len : NULL, room, fmt, ap);
    va_end(ap);
    if (n < 0) {
        b->st = ST_ENOMEM;
        if (b->p) b->p[b->len] = '\0';
    } else if ((size_t)n < room) {
        b->len += (size_t)n;
    } else {
        if (room) b->p[b->len] = '\0';
        if (reserve(b, (size_t)n)) {
            vsnprintf(b->p + b->len, (size_t)n + 1, fmt, again);
            b->len += (size_t)n;
        }
    }
    va_end(again);
}

char *base_buf_take(struct base_buf *b)
{
    reserve(b, 0); /* an empty buffer gives "", not NULL */
    if (b->st) {
        base_buf_fini(b);
        return NULL;
    }
    char *p = b->p;
    *b = (struct base_buf)BASE_BUF_INIT;
    return p;
}

st_t base_buf_read_file(struct base_buf *b, const char *path, size_t max)
{
    if (b->st) return b->st;
    int std = !strcmp(path, "-");
    int fd = std ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return errno == ENOENT || errno == ENOTDIR ? ST_ENOTFOUND : ST_EIO;
    size_t start = b->len;
    st_t st = ST_OK;
    for (;;) {
        size_t have = b->len - start;
        /* One byte more than allowed is asked for, so that a file that is too large is seen. */
        size_t want = max - have < 65536 ? max - have + 1 : 65536;
        if (!reserve(b, want)) {
            st = b->st;
            break;
        }
        ssize_t n = read(fd, b->p + b->len, want);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) st = ST_EIO;
        if (n <= 0) break;
        if ((size_t)n > max - have) {
            st = ST_ETOOBIG;
            break;
        }
        b->len += (size_t)n;
    }
    if (!std) close(fd);
    if (st) b->len = start;
    if (b->p) b->p[b->len] = '\0';
    return st;
}

size_t base_utf8_cut(const char *s, size_t max)
{
    size_t n = strnlen(s, max + 1);
    if (n <= max) return n;
    for (n = max; n > 0 && ((unsigned char)s[n] & 0xC0) == 0x80; n--) continue;
    return n;
}
