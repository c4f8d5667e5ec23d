/* Gradients of an op on the reference device against central differences in f64, for tests of one op.
 *
 *   double e = grad_check(f, &ctx, p, grad, n);   // largest |difference - grad| over the n values at p, relative to the largest gradient (at least 1)
 *
 * f(ctx) runs the op and contracts its outputs with fixed weights. */
#ifndef TAUT_TESTS_KERNELS_GRADCHECK_H
#define TAUT_TESTS_KERNELS_GRADCHECK_H

#include <math.h>
#include <stdlib.h>

#include "base/rng.h"

__attribute__((unused)) static double *grad_random(int64_t n, uint64_t seed)
{
    struct base_rng r = base_rng_at(seed, RNG_TEST, 0);
    double *p = malloc((size_t)(n + 1) * sizeof *p);
    if (!p) abort();
    for (int64_t i = 0; i < n; i++) p[i] = base_rng_normal(&r);
    return p;
}

__attribute__((unused)) static double grad_check(double (*f)(void *), void *ctx, double *p, const double *grad, int64_t n)
{
    double worst = 0, scale = 1, h = 1e-5;
    for (int64_t i = 0; i < n; i++) {
        double keep = p[i], up, down;
        p[i] = keep + h, up = f(ctx);
        p[i] = keep - h, down = f(ctx);
        p[i] = keep;
        double d = fabs((up - down) / (2 * h) - grad[i]);
        if (!(d <= worst)) worst = d;
        scale = fmax(scale, fabs(grad[i]));
    }
    return worst / scale;
}

__attribute__((unused)) static double grad_contract(const double *a, const double *b, int64_t n)
{
    double s = 0;
    for (int64_t i = 0; i < n; i++) s += a[i] * b[i];
    return s;
}

#endif
