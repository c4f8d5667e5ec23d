/* Pareto arithmetic. Everything is minimised: callers flip the sign of what is maximised.
 *   y [n, m] f64 row-major, m in 1..16. NaN counts as +infinity; a row with a NaN or +inf never enters the first front.
 * a dominates b: a_j <= b_j for all j and a_j < b_j for one. Equal rows do not dominate each other (both stay). */
#ifndef TAUT_BASE_PARETO_H
#define TAUT_BASE_PARETO_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

/* First front: front[i] = 1 if no row dominates row i. m<=3: O(n log n) sweep; above: divide and conquer or filtered scan.
 * Returns the number of members; -1 when memory is out. */
long base_pareto_front(const double *y, long n, int m, uint8_t *front);

/* Non-dominated sorting: rank[i] = 0 for the first front, 1 for what is first once that is removed, … (Deb et al. 2002).
 * viol [n] constraint violation or NULL: feasible (<= 0) before infeasible, infeasible by violation (constrained domination). */
st_t base_pareto_rank(const double *y, const double *viol, long n, int m, int *rank);

/* Crowding distance within the rows idx[k] (one front): out[k]; boundary points get +inf (Deb et al. 2002, section III-B). */
st_t base_pareto_crowding(const double *y, int m, const int *idx, long k, double *out);

/* Hypervolume dominated by the rows and bounded by ref [m] (exact; m=1,2,3 by sweeps, above by WFG (While et al. 2012)).
 * Rows that do not dominate ref add nothing. NaN when memory is out. */
double base_pareto_hypervolume(const double *y, long n, int m, const double *ref);

/* Hypervolume after each of the first 1..n rows arrives, in order: out [n]; incremental (only rows that enter the front cost). */
st_t base_pareto_hv_progress(const double *y, long n, int m, const double *ref, double *out);

#endif
