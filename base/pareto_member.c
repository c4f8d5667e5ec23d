/* Probability of being on the first front, by resampling. */
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/pareto.h"
#include "base/rng.h"

#define SIDE 1.959963984540054 /* standard deviations from the median to the end of a 95 % interval */
#define FAR 4.0                /* standard deviations within which a value is thought to lie */

static bool finite_row(const double *y, int m)
{
    bool finite = true;
    for (int j = 0; j < m; j++) finite &= isfinite(y[j]);
    return finite;
}

/* Which rows may be on the front at all: those whose best is not dominated by what another one is at its worst. Returns how many; -1: out of memory. */
static long contenders(const double *y, const double *low, const double *high, long n, int m, uint32_t *row)
{
    double *worst = calloc(((size_t)n + 1) * (size_t)m, sizeof *worst);
    uint8_t *in = malloc((size_t)n + 1);
    long k = 0, front = 0;
    if (!worst || !in) {
        free(worst);
        free(in);
        return -1;
    }
    for (long i = 0; i < n; i++) {
        bool finite = finite_row(y + i * m, m);
        for (int j = 0; j < m; j++) worst[i * m + j] = finite ? y[i * m + j] + FAR / SIDE * (high[i * m + j] - y[i * m + j]) : NAN;
    }
    front = base_pareto_front(worst, n, m, in);
    long *at = front < 0 ? NULL : malloc(((size_t)front + 1) * sizeof *at);
    for (long i = 0, f = 0; at && i < n; i++)
        if (in[i]) at[f++] = i;
    for (long i = 0; at && i < n; i++) {
        bool beaten = !finite_row(y + i * m, m);
        for (long f = 0; f < front && !beaten; f++) {
            const double *w = worst + at[f] * m;
            bool all = true, one = false;
            for (int j = 0; j < m && all; j++) {
                double best = y[i * m + j] - FAR / SIDE * (y[i * m + j] - low[i * m + j]);
                all = w[j] <= best;
                one |= w[j] < best;
            }
            beaten = all && one;
        }
        if (!beaten) row[k++] = (uint32_t)i;
    }
    if (!at) k = -1;
    free(at);
    free(worst);
    free(in);
    return k;
}

st_t base_pareto_membership(const double *y, const double *low, const double *high, long n, int m, int resamples, uint64_t seed, double *p)
{
    if (resamples < 1) return ST_EINVAL;
    uint32_t *row = malloc(((size_t)n + 1) * sizeof *row);
    long k = row ? contenders(y, low, high, n, m, row) : -1;
    double *z = k < 0 ? NULL : malloc(((size_t)k + 1) * (size_t)m * sizeof *z);
    uint8_t *in = k < 0 ? NULL : malloc((size_t)k + 1);
    st_t st = z && in ? ST_OK : ST_ENOMEM;
    for (long i = 0; i < n; i++) p[i] = 0;
    for (int r = 0; r < resamples && !st; r++) {
        struct base_rng rng = base_rng_at(seed, RNG_BOOT, (uint64_t)r);
        for (long i = 0; i < k; i++) {
            for (int j = 0; j < m; j++) {
                long at = (long)row[i] * m + j;
                double u = base_rng_normal(&rng), side = u < 0 ? y[at] - low[at] : high[at] - y[at];
                z[i * m + j] = y[at] + u * side / SIDE;
            }
        }
        if (base_pareto_front(z, k, m, in) < 0) st = ST_ENOMEM;
        for (long i = 0; i < k && !st; i++) p[row[i]] += in[i];
    }
    for (long i = 0; i < n; i++) p[i] /= resamples;
    free(row);
    free(z);
    free(in);
    return st;
}
