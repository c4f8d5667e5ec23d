/* Framing: a stream of bytes cut into lines. Knows nothing of JSON or of sockets, so that another carrier (TLS,
 * WebSocket) can stand before it or in its place.
 *
 *   struct wire_lines l = {.max = WIRE_LINE_MAX};
 *   wire_lines_feed(&l, p, n, fn, ctx);      // whenever bytes came
 *   wire_lines_fini(&l);
 *
 * Invariant: what fn sees depends on the bytes alone, not on how they were cut into feeds. Memory: at most one line. */
#ifndef TAUT_WIRE_FRAME_H
#define TAUT_WIRE_FRAME_H

#include <stdbool.h>

#include "base/buf.h"

struct wire_lines {
    struct base_buf part; /* the start of a line whose LF has not come */
    size_t max;           /* bytes of a line without its LF */
    bool skip;            /* inside a line that is too long */
};

/* One line without its LF, not NUL-terminated; lines of white space alone are left out. text NULL: a line longer than
 * max, told once, as soon as it is known; the rest of it is skipped. false ends the feed, and what was fed with it is
 * dropped. */
typedef bool (*wire_line_fn)(void *ctx, const char *text, size_t len);

/* ST_ENOMEM: the line under way is lost. */
st_t wire_lines_feed(struct wire_lines *l, const char *p, size_t n, wire_line_fn fn, void *ctx);
void wire_lines_fini(struct wire_lines *l);

#endif
