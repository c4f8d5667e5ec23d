/* Statistics. Inputs are not modified; n counts doubles. */
#ifndef TAUT_BASE_STATS_H
#define TAUT_BASE_STATS_H

#include "base/status.h"

/* Median and its distribution-free 95 % interval from order statistics: the largest r with P(Binomial(n,1/2) < r) <= 0.025 gives
 * [x_(r), x_(n+1-r)] (Conover, Practical Nonparametric Statistics, 3.2). n < 6: the interval is [min, max].
 * ST_EINVAL if n < 1, ST_ENONFINITE if one is NaN, ST_ENOMEM. */
st_t base_stats_median_ci(const double *x, int n, double *median, double *low, double *high);

double base_stats_mean(const double *x, int n);
/* Ties get mean ranks / tau_b. NaN when undefined (n < 2 or no variation) or memory is out. */
double base_stats_spearman(const double *x, const double *y, int n);
double base_stats_kendall_b(const double *x, const double *y, int n); /* O(n log n), Knight 1966 */

#endif
