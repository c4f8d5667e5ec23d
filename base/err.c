#include "base/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/buf.h"

/* Copies src into dst[size] so that it is one harmless line: C0 controls, DEL and the C1 controls (which are C2 80..9F in
 * UTF-8, and which terminals obey) become '?'; a character cut in half by the limit is dropped whole. */
static void copy_line(char *dst, size_t size, const char *src)
{
    size_t n = base_utf8_cut(src, size - 1);
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)src[i];
        if (c < 0x20 || c == 0x7F) {
            dst[i] = '?';
        } else if (c == 0xC2 && i + 1 < n && ((unsigned char)src[i + 1] & 0xE0) == 0x80) {
            dst[i] = '?';
            dst[++i] = '?';
        } else {
            dst[i] = (char)c;
        }
    }
    dst[n] = '\0';
}

st_t base_err_set(struct base_err *err, st_t st, const char *where, const char *fmt, ...)
{
    if (!err) return st;
    /* Formatted aside first: where and the arguments may point into err itself. */
    char w[sizeof err->where], text[sizeof err->what + 8];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    copy_line(w, sizeof w, where ? where : "");
    err->st = st;
    memcpy(err->where, w, sizeof w);
    copy_line(err->what, sizeof err->what, text);
    return st;
}

void base_err_prefix(struct base_err *err, const char *prefix)
{
    if (!err || !prefix || !*prefix) return;
    char text[2 * sizeof err->where];
    const char *join = err->where[0] == '\0' || err->where[0] == '[' ? "" : ".";
    snprintf(text, sizeof text, "%s%s%s", prefix, join, err->where);
    copy_line(err->where, sizeof err->where, text);
}

const char *base_err_text(const struct base_err *err, char *buf, int size)
{
    if (size <= 0) return buf;
    const char *what = err->what[0] ? err->what : base_status_text(err->st);
    char text[sizeof err->where + sizeof err->what + 2];
    if (err->where[0]) snprintf(text, sizeof text, "%s: %s", err->where, what);
    else snprintf(text, sizeof text, "%s", what);
    size_t n = base_utf8_cut(text, (size_t)size - 1);
    memcpy(buf, text, n);
    buf[n] = '\0';
    return buf;
}
