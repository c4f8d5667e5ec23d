#include "cli/progress.h"

#include <math.h>
#include <stdarg.h>

#include "base/buf.h"
#include "base/clock.h"
#include "cli/term.h"

#define BAR 30
#define EVERY_NS 100000000

static uint64_t drawn_ns; /* 0: nothing is on the line */

bool progress_live(const struct cli *c)
{
    return term_live() && !c->json && !c->quiet;
}

void progress_draw(const struct cli *c, double share, const char *fmt, ...)
{
    struct base_buf b = BASE_BUF_INIT;
    char text[256];
    va_list ap;
    uint64_t now = base_clock_ns();
    if (!progress_live(c) || (drawn_ns && now - drawn_ns < EVERY_NS)) return;
    drawn_ns = now;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    base_buf_str(&b, "  ");
    if (!isnan(share)) {
        int full = (int)(fmin(fmax(share, 0), 1) * BAR);
        base_buf_str(&b, term_style(TERM_GREEN));
        for (int i = 0; i < full; i++) base_buf_str(&b, term_signs()->full);
        base_buf_str(&b, term_style(TERM_DIM));
        for (int i = full; i < BAR; i++) base_buf_str(&b, term_signs()->empty);
        base_buf_printf(&b, "%s  ", term_style(TERM_PLAIN));
    }
    base_buf_str(&b, text);
    if (!b.st) printf("\r%.*s%s\033[K", (int)term_cut(b.p, term_width() - 1), b.p, term_style(TERM_PLAIN));
    fflush(stdout);
    base_buf_fini(&b);
}

void progress_clear(const struct cli *c)
{
    if (drawn_ns && progress_live(c)) fputs("\r\033[K", stdout);
    drawn_ns = 0;
}
