/* The front as a scatter in the terminal: two objectives, one mark a trial. */
#ifndef TAUT_CLI_PLOT_H
#define TAUT_CLI_PLOT_H

#include <jansson.h>

void plot_front(json_t *rows, const char *x, const char *y);

#endif
