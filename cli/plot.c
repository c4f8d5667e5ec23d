#include "cli/plot.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/format.h"
#include "cli/out.h"
#include "cli/term.h"

#define HEIGHT 18
#define WIDTH_MAX 72
#define LOG_FROM 20 /* largest / smallest from which an axis is logarithmic */

struct axis {
    const char *name;
    double low, high;
    bool log;
};

static double scale(const struct axis *a, double v)
{
    return a->log ? log(v) : v;
}

static void fit(struct axis *a, json_t *rows)
{
    size_t i;
    json_t *row;
    a->low = INFINITY;
    a->high = -INFINITY;
    json_array_foreach(rows, i, row)
    {
        double v = out_metric(json_object_get(row, "metrics"), a->name);
        if (!isfinite(v)) continue;
        a->low = fmin(a->low, v);
        a->high = fmax(a->high, v);
    }
    a->log = a->low > 0 && a->high / a->low > LOG_FROM;
}

static int place(const struct axis *a, double v, int cells)
{
    double low = scale(a, a->low), high = scale(a, a->high);
    return high > low ? (int)((scale(a, v) - low) / (high - low) * (cells - 1) + 0.5) : cells / 2;
}

void plot_front(json_t *rows, const char *xname, const char *yname)
{
    struct axis x = {.name = xname}, y = {.name = yname};
    char low[FMT_MAX], high[FMT_MAX], cell[HEIGHT][WIDTH_MAX];
    const char *mark = term_utf8() ? "●" : "o", *corner = term_utf8() ? "└" : "+", *line = term_utf8() ? "─" : "-";
    size_t i;
    json_t *row;
    fit(&x, rows);
    fit(&y, rows);
    if (!(x.low <= x.high) || !(y.low <= y.high)) return;
    fmt_metric(high, yname, y.high);
    fmt_metric(low, yname, y.low);
    int margin = (int)fmax(strlen(high), strlen(low)) + 1, width = term_width() - margin - 4;
    if (width > WIDTH_MAX) width = WIDTH_MAX;
    memset(cell, 0, sizeof cell);
    json_array_foreach(rows, i, row)
    {
        json_t *m = json_object_get(row, "metrics");
        double vx = out_metric(m, xname), vy = out_metric(m, yname);
        if (isfinite(vx) && isfinite(vy)) cell[HEIGHT - 1 - place(&y, vy, HEIGHT)][place(&x, vx, width)] = 1;
    }
    printf("%s%s%s%s\n", term_style(TERM_BOLD), yname, y.log ? " (log)" : "", term_style(TERM_PLAIN));
    for (int r = 0; r < HEIGHT; r++) {
        int end = width;
        printf("%*s %s", margin, r == 0 ? high : r == HEIGHT - 1 ? low : "", term_signs()->bar);
        while (end > 0 && !cell[r][end - 1]) end--;
        for (int k = 0; k < end; k++) {
            if (cell[r][k]) printf("%s%s%s", term_style(TERM_CYAN), mark, term_style(TERM_PLAIN));
            else putchar(' ');
        }
        putchar('\n');
    }
    printf("%*s %s", margin, "", corner);
    for (int k = 0; k < width; k++) fputs(line, stdout);
    fmt_metric(low, xname, x.low);
    fmt_metric(high, xname, x.high);
    int gap = width - (int)strlen(low) - (int)strlen(high);
    printf("\n%*s  %s%*s%s\n", margin, "", low, gap > 1 ? gap : 1, "", high);
    gap = (width - (int)strlen(xname)) / 2;
    printf("%*s  %*s%s%s%s%s\n", margin, "", gap > 0 ? gap : 0, "", term_style(TERM_BOLD), xname, x.log ? " (log)" : "", term_style(TERM_PLAIN));
}
