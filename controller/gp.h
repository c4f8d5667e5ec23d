/* Gaussian process regression (Rasmussen & Williams 2006, algorithm 2.1) for some hundreds of points.
 *
 *   struct gp *g;
 *   st = gp_new(&g, x, y, n, columns, group, groups, room);   // fits the hyperparameters
 *   st = gp_append(g, x1, y1);                                // a further point under the same hyperparameters
 *   double m = gp_mean(g, x1), v = gp_variance(g, x1);
 *   gp_free(g);
 *
 * Covariance: Matern 5/2 with one lengthscale l for every group of columns (Matern, ARD), and white noise:
 *   k(a, b) = s (1 + sqrt(5) r + 5/3 r^2) exp(-sqrt(5) r),  r^2 = sum over columns ((a - b) / l)^2;  + t where a and b are the same point.
 * y is centred and scaled to variance 1 with the first n points. Hyperparameters are log l, log s, log t at the highest of GP_STEPS steps of iRprop- (Igel &
 * Huesken 2003) on the log marginal likelihood plus log-normal priors: l as Hvarfner et al. 2024 (arXiv:2402.02229), which grows with the root of the number of
 * columns; t and s weak. No random numbers: the same points in the same order give the same bits, and a point appended later the same as one
 * appended at once. Cost: O(n^3) a step, O(n^2) a point appended, O(n columns) a mean, O(n^2) a variance. */
#ifndef TAUT_CONTROLLER_GP_H
#define TAUT_CONTROLLER_GP_H

#include "base/status.h"

enum { GP_STARTS = 2, GP_STEPS_ALIKE = 15, GP_STEPS = 30 };
#define GP_SPREAD 1.0

struct gp;

/* x [n, columns], y [n]; group[column] in [0, groups). room: points that it may ever hold, >= n. n >= 1. Nothing is borrowed.
 * ST_ENOMEM; ST_ENONFINITE where x or y is not finite. */
st_t gp_new(struct gp **out, const double *x, const double *y, int n, int columns, const int *group, int groups, int room);
/* The same with given hyperparameters: log l [groups], log s, log t. */
st_t gp_new_at(struct gp **out, const double *x, const double *y, int n, int columns, const int *group, int groups, int room, const double *theta);
void gp_free(struct gp *g); /* NULL allowed */
st_t gp_append(struct gp *g, const double *x, double y); /* ST_ETOOBIG: no room; ST_ENOMEM never */

double gp_mean(struct gp *g, const double *x);
double gp_variance(struct gp *g, const double *x); /* of the function, without the noise */
/* What each point would be predicted to be by the others under the same hyperparameters (R&W eq. 5.12): mean [n]. */
st_t gp_leave_one_out(const struct gp *g, double *mean);
int gp_points(const struct gp *g);
const double *gp_theta(const struct gp *g); /* [groups + 2] */
double gp_evidence(const struct gp *g);     /* log marginal likelihood of the first n points, scaled */

#endif
