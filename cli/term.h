/* The terminal: is there one, how wide, what may be sent to it. */
#ifndef TAUT_CLI_TERM_H
#define TAUT_CLI_TERM_H

#include <stdbool.h>
#include <stddef.h>

enum term_style { TERM_PLAIN, TERM_BOLD, TERM_DIM, TERM_GREEN, TERM_RED, TERM_YELLOW, TERM_CYAN };

void term_init(bool no_color); /* once, after setlocale */
bool term_live(void);          /* stdout is a terminal that can move its cursor (TERM is not dumb) */
bool term_utf8(void);          /* the locale's characters are UTF-8 */
int term_width(void);          /* columns of stdout's terminal; 100 where it is none. Follows its changes. */
int term_height(void);
const char *term_style(enum term_style s); /* escape sequence; "" without colours */
int term_columns(const char *s);           /* columns that s takes; escape sequences take none */
size_t term_cut(const char *s, int columns); /* bytes of s that fit */

/* Bars, arrows and dots: UTF-8 where the locale has it, ASCII elsewhere. */
struct term_signs {
    const char *full, *empty, *dot, *times, *bar, *dash, *dots;
};
const struct term_signs *term_signs(void);

#endif
