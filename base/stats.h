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

/* What is lost by taking the sample that predicted[n] puts lowest: truth[n] of it (of several, their mean) less the least truth. NaN if n < 1 or one is NaN. */
double base_stats_regret(const double *predicted, const double *truth, int n);

/* 95 % percentile interval of a statistic of n paired samples (Efron and Tibshirani 1993, chapter 13): f of `resamples` draws of n samples with
 * replacement, its 2.5 and 97.5 % points by linear interpolation. x[columns][n]; f gets as many columns of as many.
 * Draw i takes base_rng_at(seed, RNG_BOOT, i): the interval is a function of the arguments. Draws of which f is NaN (all samples the same) are left out; where
 * fewer than half have a value, both ends are NaN. ST_EINVAL: n, columns or resamples < 1, columns > BASE_STATS_COLUMNS. ST_ENOMEM. */
#define BASE_STATS_COLUMNS 4
typedef double (*base_stats_fn)(const double *const *x, int n);
st_t base_stats_bootstrap(base_stats_fn f, const double *const *x, int columns, int n, int resamples, uint64_t seed, double *low, double *high);

#endif
