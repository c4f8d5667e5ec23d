/* The scaling fit. Inside, N and D are relative to their geometric means, and all five parameters are logarithms: log A, log B, log E, log alpha, log beta. So none leaves
 * its range, and the terms are of one size. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/fit.h"
#include "base/rng.h"

#define DELTA 1e-3
#define STEPS 400 /* of one descent */

struct cloud {
    double *n, *d, *l; /* [count] logs; n and d about their means */
    int count;
    double n0, d0;
};

static double huber(double r)
{
    double x = fabs(r);
    return x <= DELTA ? r * r / 2 : DELTA * (x - DELTA / 2);
}

/* Log of the fit at a point, and its gradient (may be NULL). */
static double value(const double th[5], double n, double d, double g[5])
{
    double alpha = exp(th[3]), beta = exp(th[4]), x = th[0] - alpha * n, y = th[1] - beta * d, z = th[2];
    double top = fmax(x, fmax(y, z)), p = exp(x - top), q = exp(y - top), e = exp(z - top), sum = p + q + e;
    if (g) {
        g[0] = p / sum;
        g[1] = q / sum;
        g[2] = e / sum;
        g[3] = -alpha * n * g[0];
        g[4] = -beta * d * g[1];
    }
    return top + log(sum);
}

static double cost(const struct cloud *c, const double th[5])
{
    double s = 0;
    for (int i = 0; i < c->count; i++) s += huber(value(th, c->n[i], c->d[i], NULL) - c->l[i]);
    return s;
}

/* Gauss's elimination with pivots; false: singular. */
static bool solve(int n, double m[5][6])
{
    for (int i = 0; i < n; i++) {
        int best = i;
        for (int r = i + 1; r < n; r++)
            if (fabs(m[r][i]) > fabs(m[best][i])) best = r;
        if (!(fabs(m[best][i]) > 1e-300)) return false;
        for (int k = 0; k <= n; k++) {
            double x = m[i][k];
            m[i][k] = m[best][k];
            m[best][k] = x;
        }
        for (int r = 0; r < n; r++) {
            if (r == i) continue;
            double x = m[r][i] / m[i][i];
            for (int k = i; k <= n; k++) m[r][k] -= x * m[i][k];
        }
    }
    for (int i = 0; i < n; i++) m[i][n] /= m[i][i];
    return true;
}

static double descend(const struct cloud *c, double th[5], double tolerance)
{
    double now = cost(c, th), lambda = 1e-3;
    for (int step = 0; step < STEPS && lambda < 1e12; step++) {
        double h[5][6] = {{0}};
        for (int i = 0; i < c->count; i++) {
            double g[5], r = value(th, c->n[i], c->d[i], g) - c->l[i], w = fabs(r) <= DELTA ? 1 : DELTA / fabs(r);
            for (int j = 0; j < 5; j++) {
                for (int k = 0; k < 5; k++) h[j][k] += w * g[j] * g[k];
                h[j][5] -= w * g[j] * r;
            }
        }
        double before = now;
        while (lambda < 1e12) {
            double m[5][6], next[5];
            memcpy(m, h, sizeof m);
            for (int j = 0; j < 5; j++) m[j][j] += lambda * h[j][j] + 1e-14;
            bool good = solve(5, m);
            for (int j = 0; j < 5; j++) next[j] = th[j] + fmax(-1, fmin(1, m[j][5]));
            double then = good ? cost(c, next) : INFINITY;
            if (then < now) {
                memcpy(th, next, sizeof next);
                now = then;
                lambda = fmax(lambda / 5, 1e-12);
                break;
            }
            lambda *= 4;
        }
        if (before - now <= tolerance * before) break;
    }
    return now;
}

/* A start for these exponents: E, A and B by least squares, none of them below a trace of the least loss. */
static void begin(const struct cloud *c, double alpha, double beta, double th[5])
{
    double m[5][6] = {{0}}, least = INFINITY;
    for (int i = 0; i < c->count; i++) {
        double u[3] = {exp(-alpha * c->n[i]), exp(-beta * c->d[i]), 1}, L = exp(c->l[i]);
        least = fmin(least, L);
        for (int j = 0; j < 3; j++) {
            for (int k = 0; k < 3; k++) m[j][k] += u[j] * u[k];
            m[j][3] += u[j] * L;
        }
    }
    bool good = solve(3, m);
    for (int j = 0; j < 3; j++) th[j] = log(fmax(good ? m[j][3] : least / 3, 1e-2 * least));
    th[3] = log(alpha);
    th[4] = log(beta);
}

static int different(const double *v, int n)
{
    int k = 0;
    for (int i = 0; i < n && k < 3; i++) {
        bool seen = false;
        for (int j = 0; j < i && !seen; j++) seen = v[j] == v[i];
        k += !seen;
    }
    return k;
}

static st_t cloud_init(struct cloud *c, const struct fit_point *p, int n)
{
    *c = (struct cloud){.n = malloc(3 * ((size_t)n + 1) * sizeof *c->n), .count = n};
    if (!c->n) return ST_ENOMEM;
    c->d = c->n + n;
    c->l = c->d + n;
    for (int i = 0; i < n; i++) {
        c->n[i] = log(p[i].params);
        c->d[i] = log(p[i].tokens);
        c->l[i] = log(p[i].loss);
        if (!isfinite(c->n[i]) || !isfinite(c->d[i]) || !isfinite(c->l[i])) return ST_ENONFINITE;
        c->n0 += c->n[i] / n;
        c->d0 += c->d[i] / n;
    }
    if (n < FIT_SCALING_LEAST || different(c->n, n) < 3 || different(c->d, n) < 3) return ST_EINVAL;
    for (int i = 0; i < n; i++) {
        c->n[i] -= c->n0;
        c->d[i] -= c->d0;
    }
    return ST_OK;
}

static struct fit_scaling outside(const struct cloud *c, const double th[5], double cost_of)
{
    double alpha = exp(th[3]), beta = exp(th[4]);
    return (struct fit_scaling){exp(th[2]), exp(th[0] + alpha * c->n0), alpha, exp(th[1] + beta * c->d0), beta, cost_of};
}

st_t base_fit_scaling(struct fit_scaling *out, const struct fit_point *p, int n)
{
    static const double exponent[] = {0.1, 0.3, 0.6, 1, 1.6};
    enum { K = sizeof exponent / sizeof *exponent };
    struct cloud c;
    double best[5], least = INFINITY;
    st_t st = cloud_init(&c, p, n);
    for (int i = 0; i < K * K && !st; i++) {
        double th[5];
        begin(&c, exponent[i / K], exponent[i % K], th);
        double x = descend(&c, th, 1e-9);
        if (!(x < least)) continue;
        least = x;
        memcpy(best, th, sizeof best);
    }
    if (!st && !isfinite(least)) st = ST_ENONFINITE;
    if (!st) *out = outside(&c, best, least);
    free(c.n);
    return st;
}

double base_fit_scaling_at(const struct fit_scaling *f, double params, double tokens)
{
    return f->E + f->A * pow(params, -f->alpha) + f->B * pow(tokens, -f->beta);
}

st_t base_fit_scaling_boot(const struct fit_scaling *f, const struct fit_point *p, int n, int samples, uint64_t seed, struct fit_scaling *out)
{
    int *first = malloc(((size_t)n + 1) * sizeof *first), groups = 0, most = 0; /* points of a group stand together */
    struct fit_point *sorted = malloc(((size_t)n + 1) * sizeof *sorted), *drawn = NULL;
    st_t st = first && sorted ? ST_OK : ST_ENOMEM;
    for (int i = 0, at = 0; i < n && !st; i++) {
        bool seen = false;
        for (int j = 0; j < i && !seen; j++) seen = p[j].group == p[i].group;
        if (seen) continue;
        first[groups++] = at;
        for (int j = i; j < n; j++)
            if (p[j].group == p[i].group) sorted[at++] = p[j];
        first[groups] = at;
        if (at - first[groups - 1] > most) most = at - first[groups - 1];
    }
    if (!st && !(drawn = malloc(((size_t)groups * (size_t)most + 1) * sizeof *drawn))) st = ST_ENOMEM;
    for (int s = 0; s < samples && !st; s++) {
        struct base_rng r = base_rng_at(seed, RNG_BOOT, (uint64_t)s);
        struct cloud c;
        int k = 0;
        for (int i = 0; i < groups; i++) {
            int g = (int)base_rng_below(&r, (uint32_t)groups);
            for (int j = first[g]; j < first[g + 1]; j++) drawn[k++] = sorted[j];
        }
        out[s] = *f;
        st = cloud_init(&c, drawn, k);
        if (!st) {
            double th[5] = {log(f->A) - f->alpha * c.n0, log(f->B) - f->beta * c.d0, log(f->E), log(f->alpha), log(f->beta)};
            double x = descend(&c, th, 1e-6);
            out[s] = outside(&c, th, x);
        }
        if (st == ST_EINVAL) st = ST_OK;
        free(c.n);
    }
    free(first);
    free(sorted);
    free(drawn);
    return st;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double base_fit_quantile(double *v, int n, double q)
{
    qsort(v, (size_t)n, sizeof *v, by_value);
    double at = q * (n - 1);
    int i = (int)at;
    return i + 1 < n ? v[i] + (at - i) * (v[i + 1] - v[i]) : v[n - 1];
}
