#include "wire/frame.h"

#include <string.h>

/* A larger buffer is given back after its line, so that an idle connection stays small. */
enum { KEEP_BYTES = 64 << 10 };

static bool blank(const char *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (p[i] != ' ' && p[i] != '\t' && p[i] != '\r') return false;
    return true;
}

st_t wire_lines_feed(struct wire_lines *l, const char *p, size_t n, wire_line_fn fn, void *ctx)
{
    while (n) {
        const char *lf = memchr(p, '\n', n);
        size_t len = lf ? (size_t)(lf - p) : n;
        bool go = true;
        if (!l->skip && len > l->max - l->part.len) {
            l->skip = true;
            base_buf_fini(&l->part);
            go = fn(ctx, NULL, 0);
        } else if (!l->skip && lf && !l->part.len) {
            if (!blank(p, len)) go = fn(ctx, p, len); /* the usual case: no copy */
        } else if (!l->skip) {
            base_buf_add(&l->part, p, len);
            if (l->part.st) {
                base_buf_fini(&l->part);
                return ST_ENOMEM;
            }
            if (lf) {
                if (!blank(l->part.p, l->part.len)) go = fn(ctx, l->part.p, l->part.len);
                if (l->part.cap > KEEP_BYTES) base_buf_fini(&l->part);
                base_buf_reset(&l->part);
            }
        }
        if (!go) return ST_OK;
        if (lf) {
            l->skip = false;
            len++;
        }
        p += len;
        n -= len;
    }
    return ST_OK;
}

void wire_lines_fini(struct wire_lines *l)
{
    base_buf_fini(&l->part);
}
