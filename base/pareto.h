/* Pareto arithmetic. Everything is minimised: callers flip the sign of what is maximised.
 *   y [n, m] f64 row-major, m in 1..16. NaN counts as +infinity; a row with a NaN or +inf never enters the first front.
 * a dominates b: a_j <= b_j for all j and a_j < b_j for one. Equal rows do not dominate each other (both stay). */
#ifndef TAUT_BASE_PARETO_H
#define TAUT_BASE_PARETO_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

/* First front: front[i] = 1 if no row dominates row i. m <= 3: O(n log n) sweep; above: every row against the members found so
 * far, eight at a time. Most dominated rows are dropped before either. Returns the number of members; -1 when memory is out. */
long base_pareto_front(const double *y, long n, int m, uint8_t *front);

/* Non-dominated sorting: rank[i] = 0 for the first front, 1 for what is first once that is removed, … (Deb et al. 2002).
 * rank[i] = 0 says the same as front[i] = 1: rows with a NaN or +inf come after all finite rows, from 1 on if there is none.
 * viol [n] constraint violation or NULL: feasible (<= 0) before infeasible, infeasible by violation (constrained domination);
 * NaN is the worst violation. m = 2: O(n log n); m = 3: O(n log^2 n); above: bisection over the fronts. */
st_t base_pareto_rank(const double *y, const double *viol, long n, int m, int *rank);

/* Crowding distance within the rows idx[k] (one front): out[k]; boundary points get +inf (Deb et al. 2002, section III-B).
 * An objective without variation has no boundary and adds nothing. */
st_t base_pareto_crowding(const double *y, int m, const int *idx, long k, double *out);

/* How sure is the first front? Each value is a median with its 95 % interval; p[i] is the share of `resamples` draws of all values (independent, half a normal
 * distribution to either side of the median) in which no row dominates row i.
 *   y, low, high [n, m], low <= y <= high (equal: exact). Draw r takes base_rng_at(seed, RNG_BOOT, r), so p is a function of the arguments. A side's standard
 *   deviation is its width / 1.96. Rows with a value that is not finite have p = 0. What is dominated by more than four standard deviations of both in every
 *   objective is left out of the draws: p = 0. O(n log n) plus the draws of what is left. ST_EINVAL: resamples < 1. ST_ENOMEM. */
st_t base_pareto_membership(const double *y, const double *low, const double *high, long n, int m, int resamples, uint64_t seed, double *p);

/* Hypervolume dominated by the rows and bounded by ref [m] (exact; m=1,2,3 by sweeps, above by WFG (While et al. 2012)).
 * Rows that are not below ref in every objective add nothing; a row with -inf that is (or a ref of +inf) makes it +inf. NaN when
 * memory is out. */
double base_pareto_hypervolume(const double *y, long n, int m, const double *ref);

/* Hypervolume after each of the first 1..n rows arrives, in order: out [n]; incremental (only rows that enter the front cost; for
 * m <= 3 even then only what is near them). out is undefined after ST_ENOMEM. */
st_t base_pareto_hv_progress(const double *y, long n, int m, const double *ref, double *out);

#endif
