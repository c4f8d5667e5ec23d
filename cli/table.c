#include "cli/table.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "cli/term.h"

#define GAP 2

void table_column(struct table *t, const char *title, enum table_align align)
{
    if (t->ncols == TABLE_COLUMNS_MAX) return;
    t->title[t->ncols] = title;
    t->align[t->ncols++] = align;
}

static void add(struct table *t, char *text)
{
    if (t->n == t->cap) {
        long cap = t->cap ? 2 * t->cap : 128;
        char **cell = realloc(t->cell, (size_t)cap * sizeof *cell);
        if (!cell) {
            free(text);
            return;
        }
        t->cell = cell;
        t->cap = cap;
    }
    t->cell[t->n++] = text;
}

void table_row(struct table *t)
{
    while (t->ncols && t->n % t->ncols) add(t, NULL);
}

void table_cell(struct table *t, const char *fmt, ...)
{
    char text[512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    add(t, strdup(text));
}

static void print_cell(const struct table *t, FILE *f, int col, const char *text, int width, bool last)
{
    int columns = term_columns(text), pad = width - columns;
    if (pad < 0) { /* a column that is cut */
        int dots = term_columns(term_signs()->dots), room = width - dots > 0 ? width - dots : 0;
        size_t n = term_cut(text, room);
        fprintf(f, "%.*s%s", (int)n, text, term_signs()->dots);
        return;
    }
    if (t->align[col] == TABLE_RIGHT) fprintf(f, "%*s%s", pad, "", text);
    else fprintf(f, "%s%*s", text, last ? 0 : pad, "");
}

/* row -1: the titles. */
static const char *text_at(const struct table *t, long row, int c)
{
    long i = row * t->ncols + c;
    return row < 0 ? t->title[c] : i < t->n && t->cell[i] ? t->cell[i] : "";
}

void table_print(const struct table *t, FILE *f)
{
    int width[TABLE_COLUMNS_MAX], total = t->indent, cut = -1;
    for (int c = 0; c < t->ncols; c++) {
        width[c] = term_columns(t->title[c]);
        for (long i = c; i < t->n; i += t->ncols) {
            int w = t->cell[i] ? term_columns(t->cell[i]) : 0;
            if (w > width[c]) width[c] = w;
        }
        total += width[c] + (c ? GAP : 0);
        if (t->align[c] == TABLE_CUT) cut = c;
    }
    if (term_live() && cut >= 0 && total > term_width()) {
        int less = width[cut] - (total - term_width());
        width[cut] = less > 1 ? less : 1;
    }
    for (long row = -1; row * t->ncols < t->n; row++) {
        if (row < 0) {
            bool titled = false;
            for (int c = 0; c < t->ncols; c++) titled |= *t->title[c] != 0;
            if (!titled) continue;
            fputs(term_style(TERM_BOLD), f);
        }
        int last = t->ncols - 1;
        while (last > 0 && !*text_at(t, row, last)) last--;
        fprintf(f, "%*s", t->indent, "");
        for (int c = 0; c <= last; c++) {
            if (c) fprintf(f, "%*s", GAP, "");
            print_cell(t, f, c, text_at(t, row, c), width[c], c == last);
        }
        fputs(row < 0 ? term_style(TERM_PLAIN) : "", f);
        fputc('\n', f);
    }
}

void table_fini(struct table *t)
{
    for (long i = 0; i < t->n; i++) free(t->cell[i]);
    free(t->cell);
    *t = (struct table)TABLE_INIT;
}
