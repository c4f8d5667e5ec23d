#include "cli/spark.h"

#include <math.h>
#include <stdio.h>

#include "cli/format.h"
#include "cli/term.h"

#define ROWS 5
#define COLUMNS_MAX 100
#define LABEL 8

/* Of the values that fall into a column; NaN: none is finite. */
static double mean(const double *v, int n, int column, int columns)
{
    int from = (int)((long)column * n / columns), to = (int)((long)(column + 1) * n / columns), count = 0;
    double sum = 0;
    for (int i = from; i < to || i == from; i++) {
        if (!isfinite(v[i])) continue;
        sum += v[i];
        count++;
    }
    return count ? sum / count : NAN;
}

/* A column's cell in a row (0: the lowest): eighths of it that are filled, in signs that the locale has. */
static const char *cell(double height, int row)
{
    static const char *const fine[] = {" ", "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"}, *const plain[] = {" ", "_", "_", ".", ".", ":", ":", "#", "#"};
    double eighths = isnan(height) ? 0 : rint((height - row) * 8);
    int k = eighths < 0 ? 0 : eighths > 8 ? 8 : (int)eighths;
    return term_utf8() ? fine[k] : plain[k];
}

void spark_print(const double *v, int n, const char *below, int indent)
{
    char label[FMT_MAX];
    double column[COLUMNS_MAX], low = INFINITY, high = -INFINITY;
    int room = term_width() - indent - LABEL - 2, columns = n < COLUMNS_MAX ? n : COLUMNS_MAX;
    if (columns > room && room > 0) columns = room;
    for (int i = 0; i < columns; i++) {
        column[i] = mean(v, n, i, columns);
        if (isnan(column[i])) continue;
        low = fmin(low, column[i]);
        high = fmax(high, column[i]);
    }
    if (!(low <= high)) return;
    for (int row = ROWS - 1; row >= 0; row--) {
        if (row == ROWS - 1) fmt_number(label, high);
        else if (row == 0) fmt_number(label, low);
        else *label = '\0';
        printf("%*s%s%*s%s %s", indent, "", term_style(TERM_DIM), LABEL, label, term_style(TERM_PLAIN), term_style(TERM_CYAN));
        for (int i = 0; i < columns; i++) /* the lowest value still shows */
            fputs(cell(high > low ? 0.125 + (column[i] - low) / (high - low) * (ROWS - 0.125) : ROWS, row), stdout);
        printf("%s\n", term_style(TERM_PLAIN));
    }
    printf("%*s%s%*s %s%s\n", indent, "", term_style(TERM_DIM), LABEL, "", below, term_style(TERM_PLAIN));
}
