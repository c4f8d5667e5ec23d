#include "config.h"

#include "cli/term.h"

#include <langinfo.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include <wchar.h>

static bool live, color, utf8;

void term_init(bool no_color)
{
    const char *kind = getenv("TERM"), *none = getenv("NO_COLOR");
    live = isatty(STDOUT_FILENO) && kind && *kind && strcmp(kind, "dumb");
    color = live && !no_color && !(none && *none);
    utf8 = !strcmp(nl_langinfo(CODESET), "UTF-8");
}

bool term_live(void)
{
    return live;
}

bool term_utf8(void)
{
    return utf8;
}

static struct winsize size(void)
{
    struct winsize w = {0};
    ioctl(STDOUT_FILENO, TIOCGWINSZ, &w);
    return w;
}

int term_width(void)
{
    int n = live ? size().ws_col : 0;
    return n > 20 ? n : 100;
}

int term_height(void)
{
    int n = live ? size().ws_row : 0;
    return n > 5 ? n : 24;
}

const char *term_style(enum term_style s)
{
    static const char *const text[] = {[TERM_PLAIN] = "\033[0m",  [TERM_BOLD] = "\033[1m",    [TERM_DIM] = "\033[2m", [TERM_GREEN] = "\033[32m",
                                       [TERM_RED] = "\033[31m", [TERM_YELLOW] = "\033[33m", [TERM_CYAN] = "\033[36m"};
    return color ? text[s] : "";
}

/* One character at s: its bytes and columns. A byte that is no character counts as one of each. */
static size_t step(const char *s, int *columns)
{
    wchar_t w;
    if (*s == '\033') {
        *columns = 0;
        size_t n = 1 + (s[1] == '[');
        while (s[n] && !((s[n] >= 'A' && s[n] <= 'Z') || (s[n] >= 'a' && s[n] <= 'z'))) n++;
        return n + (s[n] != 0);
    }
    *columns = 1;
    if ((unsigned char)*s < 0x80) return 1;
    mbstate_t state = {0};
    size_t n = mbrtowc(&w, s, strlen(s), &state);
    if (n == 0 || n > 16) return 1;
    int c = wcwidth(w);
    if (c >= 0) *columns = c;
    return n;
}

int term_columns(const char *s)
{
    int sum = 0, c;
    while (*s) {
        s += step(s, &c);
        sum += c;
    }
    return sum;
}

size_t term_cut(const char *s, int columns)
{
    size_t at = 0;
    int sum = 0, c;
    while (s[at]) {
        size_t n = step(s + at, &c);
        if (sum + c > columns) break;
        sum += c;
        at += n;
    }
    return at;
}

const struct term_signs *term_signs(void)
{
    static const struct term_signs fine = {"█", "░", "·", "×", "│", "–", "…"}, plain = {"#", "-", "-", "x", "|", "-", "..."};
    return utf8 ? &fine : &plain;
}
