/* Statistics. Inputs are not modified; n counts doubles. */
#ifndef TAUT_BASE_STATS_H
#define TAUT_BASE_STATS_H

#include <stdint.h>

#include "base/status.h"

/* Median and its distribution-free 95 % interval from order statistics: the largest r with P(Binomial(n,1/2) < r) <= 0.025 gives
 * [x_(r), x_(n+1-r)] (Conover, Practical Nonparametric Statistics, 3.2). n < 6: the interval is [min, max].
 * ST_EINVAL if n < 1, ST_ENONFINITE if one is NaN, ST_ENOMEM. */
st_t base_stats_median_ci(const double *x, int n, double *median, double *low, double *high);

double base_stats_mean(const double *x, int n);
/* Ties get mean ranks / tau_b. NaN when undefined (n < 2 or no variation) or memory is out. */
double base_stats_spearman(const double *x, const double *y, int n);
double base_stats_kendall_b(const double *x, const double *y, int n); /* O(n log n), Knight 1966 */

/* How well x[n] tells the order of y[n], and how much better than z[n] does; with 95 % percentile intervals (Efron and Tibshirani 1993, chapter 13) over
 * `resamples` draws of the n samples with replacement: the 2.5 and 97.5 % points of each statistic, by linear interpolation.
 *   RHO, TAU   Spearman and Kendall's tau_b of x and y
 *   REGRET     what is lost by taking the sample that x puts lowest: y of it (of several, their mean) less the least y
 *   BETTER     rho of x and y less rho of z and y; 0 for the latter where it is undefined, or z is NULL
 * Draw i takes base_rng_at(seed, RNG_BOOT, i): the intervals are a function of the arguments. Draws of which a statistic is undefined (all samples the same) are left
 * out; where fewer than half have a value, both its ends are NaN. resamples 0: values alone, their ends NaN. Where x or y has a NaN, or n < 2 (REGRET: n < 1), a value is NaN. n is at most
 * BASE_STATS_COMPARE_MAX: a draw takes n * n steps and no sort. ST_EINVAL: n or resamples < 0, n too large. ST_ENOMEM. */
#define BASE_STATS_COMPARE_MAX 4096
enum { BASE_STATS_RHO, BASE_STATS_TAU, BASE_STATS_REGRET, BASE_STATS_BETTER, BASE_STATS_KINDS };
struct base_stats_value {
    double value, low, high;
};
st_t base_stats_compare(const double *x, const double *y, const double *z, int n, int resamples, uint64_t seed, struct base_stats_value out[BASE_STATS_KINDS]);

#endif
