/* A power law through a learning curve. */
#include <math.h>
#include <string.h>

#include "base/fit.h"

#define B_LEAST 0.02
#define B_MOST  4.0
#define GRID    48

struct curve {
    const double *t, *y;
    double scale;
    int n;
};

/* The best a and c for this b; returns the residual sum of squares. */
static double solve(const struct curve *v, double b, double *a, double *c)
{
    double su = 0, sy = 0, suu = 0, suy = 0, rss = 0;
    for (int i = 0; i < v->n; i++) {
        double u = pow(v->t[i] / v->scale, -b);
        su += u;
        sy += v->y[i];
        suu += u * u;
        suy += u * v->y[i];
    }
    double det = v->n * suu - su * su;
    *a = det > 0 ? (v->n * suy - su * sy) / det : 0;
    *c = (sy - *a * su) / v->n;
    if (*c < 0) { /* a loss does not end below 0 */
        *c = 0;
        *a = suy / suu;
    }
    for (int i = 0; i < v->n; i++) {
        double r = v->y[i] - *c - *a * pow(v->t[i] / v->scale, -b);
        rss += r * r;
    }
    return rss;
}

static double search(const struct curve *v)
{
    double a, c, best = INFINITY, step = log(B_MOST / B_LEAST) / (GRID - 1);
    int at = 0;
    for (int i = 0; i < GRID; i++) {
        double rss = solve(v, B_LEAST * exp(step * i), &a, &c);
        if (rss >= best) continue;
        best = rss;
        at = i;
    }
    const double golden = (sqrt(5) - 1) / 2;
    double low = log(B_LEAST) + step * (at ? at - 1 : 0), high = log(B_LEAST) + step * (at < GRID - 1 ? at + 1 : at);
    for (int i = 0; i < 60; i++) {
        double x = high - golden * (high - low), y = low + golden * (high - low);
        if (solve(v, exp(x), &a, &c) < solve(v, exp(y), &a, &c)) high = y;
        else low = x;
    }
    return exp((low + high) / 2);
}

/* d value / d (c, a, b) at x = t / scale */
static void gradient(const struct fit_power *f, double x, double g[3])
{
    double u = pow(x, -f->b);
    g[0] = 1;
    g[1] = u;
    g[2] = -f->a * u * log(x);
}

static bool invert(double m[3][3], double out[3][3])
{
    double c[3][3], det = 0;
    for (int i = 0; i < 3; i++)
        for (int j = 0; j < 3; j++) {
            int r = (i + 1) % 3, s = (i + 2) % 3, p = (j + 1) % 3, q = (j + 2) % 3;
            c[j][i] = m[r][p] * m[s][q] - m[r][q] * m[s][p];
        }
    for (int j = 0; j < 3; j++) det += m[0][j] * c[j][0];
    if (!(fabs(det) > 1e-12 * fabs(m[0][0] * m[1][1] * m[2][2]))) return false;
    for (int i = 0; i < 3; i++)
        for (int j = 0; j < 3; j++) out[i][j] = c[i][j] / det;
    return true;
}

st_t base_fit_power(struct fit_power *out, const double *t, const double *y, int n)
{
    struct fit_power f = {.n = n};
    double m[3][3] = {{0}};
    if (n < FIT_POWER_LEAST) return ST_EINVAL;
    for (int i = 0; i < n; i++) {
        if (!isfinite(t[i]) || !isfinite(y[i])) return ST_ENONFINITE;
        if (t[i] <= (i ? t[i - 1] : 0)) return ST_EINVAL;
    }
    struct curve v = {t, y, t[n - 1], n};
    f.scale = v.scale;
    f.b = search(&v);
    f.sigma = sqrt(solve(&v, f.b, &f.a, &f.c) / (n - 3));
    if (!(f.a > 0)) return ST_ENOTFOUND;
    for (int i = 0; i < n; i++) {
        double g[3];
        gradient(&f, t[i] / f.scale, g);
        for (int j = 0; j < 3; j++)
            for (int k = 0; k < 3; k++) m[j][k] += g[j] * g[k];
    }
    if (!invert(m, f.cov)) return ST_ENOTFOUND;
    for (int j = 0; j < 3; j++)
        for (int k = 0; k < 3; k++) f.cov[j][k] *= f.sigma * f.sigma;
    *out = f;
    return ST_OK;
}

void base_fit_power_at(const struct fit_power *f, double t, double *value, double *sd)
{
    double g[3], var = 0;
    gradient(f, t / f->scale, g);
    for (int j = 0; j < 3; j++)
        for (int k = 0; k < 3; k++) var += g[j] * f->cov[j][k] * g[k];
    *value = f->c + f->a * g[1];
    *sd = sqrt(fmax(var, 0));
}

double base_fit_t975(int dof)
{
    const double z = 1.959963984540054, z2 = z * z, v = dof;
    double g1 = z * (z2 + 1) / 4, g2 = z * ((5 * z2 + 16) * z2 + 3) / 96, g3 = z * (((3 * z2 + 19) * z2 + 17) * z2 - 15) / 384,
           g4 = z * ((((79 * z2 + 776) * z2 + 1482) * z2 - 1920) * z2 - 945) / 92160;
    return z + g1 / v + g2 / (v * v) + g3 / (v * v * v) + g4 / (v * v * v * v);
}
