/* Fits of losses, and how far what they say can be believed. Deterministic.
 *
 *   struct fit_power f;
 *   if (!base_fit_power(&f, tokens, loss, n)) base_fit_power_at(&f, 1e6, &value, &sd);
 *   struct fit_scaling g;
 *   st = base_fit_scaling(&g, point, n);                        // L(N, D) = E + A / N^alpha + B / D^beta
 *   st = base_fit_scaling_boot(&g, point, n, 200, seed, boot);  // boot [200]: the same of resampled groups */
#ifndef TAUT_BASE_FIT_H
#define TAUT_BASE_FIT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"

/* ---- y = c + a (t / scale)^-b, a learning curve ---- */

#define FIT_POWER_LEAST 6 /* points */
struct fit_power {
    double a, b, c, scale; /* a > 0; c >= 0; b in [0.02, 4]; scale: the last t */
    double sigma;          /* of a point about the curve: sqrt(RSS / (n - 3)) */
    double cov[3][3];      /* of (c, a, b): sigma^2 (J'J)^-1 */
    int n;
};
/* Least squares: for each b the best a and c, and b by search. t > 0 and growing. ST_EINVAL: fewer than FIT_POWER_LEAST points, or t is not so; ST_ENONFINITE; ST_ENOTFOUND:
 * the points do not fall, or do not say which of the three makes them fall. */
st_t base_fit_power(struct fit_power *out, const double *t, const double *y, int n);
/* The curve at t, and the standard deviation of where it is there (delta method). */
void base_fit_power_at(const struct fit_power *f, double t, double *value, double *sd);
/* The 97.5 % point of Student's t (Abramowitz & Stegun 26.7.5; dof >= 2 to within 1 %). */
double base_fit_t975(int dof);

/* ---- L(N, D) = E + A / N^alpha + B / D^beta (Hoffmann et al. 2022, arXiv:2203.15556, eq. 2) ---- */

struct fit_point {
    double params, tokens, loss; /* all above 0 */
    int group;                   /* points of one trial hang together: they are resampled together */
};
struct fit_scaling {
    double E, A, alpha, B, beta;
    double cost; /* sum of Huber losses (delta 1e-3) of log L, which is what is minimised (their eq. 3) */
};
#define FIT_SCALING_LEAST 8 /* points */
/* From a grid of starts, each by Levenberg and Marquardt's steps with Huber's weights. ST_EINVAL: fewer than FIT_SCALING_LEAST points, or than 3 different N, or than 3
 * different D (three terms cannot be told apart then); ST_ENONFINITE; ST_ENOMEM. */
st_t base_fit_scaling(struct fit_scaling *out, const struct fit_point *p, int n);
double base_fit_scaling_at(const struct fit_scaling *f, double params, double tokens);
/* So many fits of groups drawn with replacement, starting from f, which base_fit_scaling made of the same points. A draw that lacks three N or D gives f itself. */
st_t base_fit_scaling_boot(const struct fit_scaling *f, const struct fit_point *p, int n, int samples, uint64_t seed, struct fit_scaling *out);
/* The q-quantile (0 to 1) of v, linear between order statistics. v is sorted by it. */
double base_fit_quantile(double *v, int n, double q);

#endif
