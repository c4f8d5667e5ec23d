/* Ridge regression with several outputs over sparse rows: effects that add up, as those of layers mostly do.
 *
 *   struct sparse s = {0}; sparse_add(&s, x, columns); …
 *   struct ridge *r;
 *   st = ridge_new(&r, &s, y, outputs);          // takes the rows
 *   ridge_weights(r, output, w);                 // the mean …
 *   ridge_sample(r, output, &rng, scale, w);     // … or a draw from the posterior: mean + scale x (draw - mean)
 *
 * Weights w have the prior N(0, t), y = x w + N(0, l t); t is what makes the prior's variance of y that of the data, l the one of RIDGE_PENALTIES,
 * tried from the largest on while it gets better, whose leave-one-out predictions (Hastie, Tibshirani & Friedman 2009, eq. 7.64) have the least squared error, summed over the outputs. y is centred. Solved by the Cholesky factor of
 * the smaller of X^T X + l (columns) and X X^T + l (rows); a draw is by its factor, or by Matheron's rule (Wilson et al. 2020, arXiv:2002.09309). */
#ifndef TAUT_CONTROLLER_RIDGE_H
#define TAUT_CONTROLLER_RIDGE_H

#include "base/rng.h"
#include "base/status.h"

struct sparse { /* rows without their zeros */
    int n, columns;
    long used, room, rows_room;
    long *start;  /* [n + 1] */
    int *column;  /* [used] */
    double *value;
};
st_t sparse_add(struct sparse *s, const double *x, int columns); /* ST_ENOMEM */
void sparse_fini(struct sparse *s);
double sparse_dot(const struct sparse *s, int row, const double *w);

enum { RIDGE_PENALTIES = 4, RIDGE_OUTPUTS_MAX = 24 };
struct ridge;
/* y [outputs, n]; judged [njudged]: rows that are predicted without themselves. rows is taken, also on error. ST_ENOMEM. */
st_t ridge_new(struct ridge **out, struct sparse *rows, const double *y, int outputs, const int *judged, int njudged);
void ridge_free(struct ridge *r); /* NULL allowed */
void ridge_weights(const struct ridge *r, int output, double *w);
void ridge_sample(const struct ridge *r, int output, struct base_rng *g, double scale, double *w);
double ridge_intercept(const struct ridge *r, int output); /* y = intercept + x w */
const double *ridge_leave_one_out(const struct ridge *r, int output); /* [njudged] predictions */
double ridge_penalty(const struct ridge *r);

#endif
