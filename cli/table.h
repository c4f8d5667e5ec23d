/* Aligned columns.
 *
 *   struct table t = TABLE_INIT;
 *   table_column(&t, "trial", TABLE_RIGHT); table_column(&t, "name", TABLE_LEFT);
 *   table_row(&t); table_cell(&t, "%d", 3); table_cell(&t, "x");
 *   table_print(&t, stdout); table_fini(&t);
 *
 * On a terminal a TABLE_CUT column gives up what does not fit on the line. Memory that runs out loses cells, nothing else. */
#ifndef TAUT_CLI_TABLE_H
#define TAUT_CLI_TABLE_H

#include <stdio.h>

#define TABLE_COLUMNS_MAX 24

enum table_align { TABLE_LEFT, TABLE_RIGHT, TABLE_CUT };

struct table {
    int ncols;
    const char *title[TABLE_COLUMNS_MAX]; /* borrowed */
    enum table_align align[TABLE_COLUMNS_MAX];
    char **cell; /* ncols a row */
    long n, cap; /* cells */
    int indent;  /* spaces before each line */
};
#define TABLE_INIT {.ncols = 0}

void table_column(struct table *t, const char *title, enum table_align align); /* all before the first row */
void table_row(struct table *t); /* fills up the row before it */
void table_cell(struct table *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void table_print(const struct table *t, FILE *f);
void table_fini(struct table *t);

#endif
