/* Dense linear algebra of the surrogate's models, in double. Matrices are row-major; a lower triangle of [n, stride] leaves what is above it unread. Sums
 * have a fixed order: the same numbers give the same bits. */
#ifndef TAUT_CONTROLLER_LINALG_H
#define TAUT_CONTROLLER_LINALG_H

#include <stdbool.h>
#include <stddef.h>

/* Versions of a function for wider vectors: loops over a fixed number of lanes are the same sums in all of them. */
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define LINALG_WIDE __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define LINALG_WIDE
#endif

double linalg_dot(const double *a, const double *b, int n);
double linalg_distance2(const double *a, const double *b, int n);                            /* sum (a - b)^2 */
void linalg_add_squares(double *out, double by, const double *a, const double *b, int n);    /* out[i] += by (a - b)^2 */
/* a [n, stride], lower triangle, becomes its Cholesky factor; false: not positive definite (a is then spoilt). */
bool linalg_cholesky(double *a, int stride, int n);
void linalg_lower_solve(const double *l, int stride, int n, const double *b, double *x); /* L x = b; x may be b */
void linalg_upper_solve(const double *l, int stride, int n, const double *b, double *x); /* L^T x = b; x may be b */
/* (L L^T)^-1 into out [n, n], both triangles. */
void linalg_inverse(const double *l, int stride, int n, double *out);

#endif
