/* A curve in the terminal: columns of blocks, the highest value at the top, both axes named by their ends.
 *
 *   spark_print(loss, n, "loss", "40.1 k tokens", 2);
 *
 *   5.36 █
 *        █▂
 *        ██▄▂
 *   2.95 █████▇▆▅▅▄▄▃▃▃▂▂▂
 *        40.1 k tokens */
#ifndef TAUT_CLI_SPARK_H
#define TAUT_CLI_SPARK_H

/* n values at even distances; those that are not finite leave a gap. Where the terminal is narrower, neighbours share a column (their mean). */
void spark_print(const double *v, int n, const char *below, int indent);

#endif
