#include "controller/gp.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "controller/linalg.h"

#define BLOCK 8 /* points are kept in blocks, columns outside: what a loop of fixed length over them becomes vectors */
#define SQRT5 2.2360679774997896964
#define NOISE_LEAST 1e-6

struct gp {
    int n, room, padded, columns, groups, fitted; /* fitted: points whose mean and variance scale y */
    const int *group;   /* own copy */
    double *x;          /* [columns, padded]: x / l */
    double *raw;        /* [room, columns] */
    double *y, *alpha;  /* [room] scaled; K^-1 y */
    double *z;          /* [room] L^-1 y */
    double *l;          /* [room, room] Cholesky factor, lower */
    double *k, *scaled; /* scratch [padded], [columns] */
    double *theta, *inverse_l;
    double mean, scale, evidence;
    bool solved;        /* alpha belongs to n points */
    int *own_group;
};

void gp_free(struct gp *g)
{
    if (!g) return;
    free(g->own_group);
    free(g->x);
    free(g->raw);
    free(g->y);
    free(g->alpha);
    free(g->z);
    free(g->l);
    free(g->k);
    free(g->scaled);
    free(g->theta);
    free(g->inverse_l);
    free(g);
}

static double matern(double s, double r2)
{
    double r = SQRT5 * sqrt(r2);
    return s * (1 + r + r * r / 3) * exp(-r);
}

/* Covariances of a point (scaled) with the first n: g->k. */
LINALG_WIDE static void covariances(struct gp *g, const double *x, int n)
{
    double s = exp(g->theta[g->groups]);
    for (int b = 0; b < n; b += BLOCK) {
        double r2[BLOCK] = {0};
        const double *p = g->x + b;
        for (int c = 0; c < g->columns; c++, p += g->padded)
            for (int i = 0; i < BLOCK; i++) r2[i] += (x[c] - p[i]) * (x[c] - p[i]);
        for (int i = 0; i < BLOCK; i++) g->k[b + i] = matern(s, r2[i]);
    }
}

static void scale_point(const struct gp *g, const double *x, double *out)
{
    for (int c = 0; c < g->columns; c++) out[c] = x[c] * g->inverse_l[g->group[c]];
}

/* Row n of the factor, from the rows before it. */
static void add_row(struct gp *g)
{
    int n = g->n;
    double *row = g->l + (size_t)n * (size_t)g->room, noise = exp(g->theta[g->groups + 1]), s = exp(g->theta[g->groups]), left = s + noise;
    scale_point(g, g->raw + (size_t)n * (size_t)g->columns, g->scaled);
    covariances(g, g->scaled, n);
    for (int c = 0; c < g->columns; c++) g->x[(size_t)c * (size_t)g->padded + (size_t)n] = g->scaled[c];
    linalg_lower_solve(g->l, g->room, n, g->k, row);
    left -= linalg_dot(row, row, n);
    row[n] = sqrt(left > 0.5 * noise ? left : 0.5 * noise); /* rounding may eat what the noise leaves */
    g->z[n] = (g->y[n] - linalg_dot(row, g->z, n)) / row[n];
    g->n++;
    g->solved = false;
}

st_t gp_append(struct gp *g, const double *x, double y)
{
    if (g->n == g->room) return ST_ETOOBIG;
    memcpy(g->raw + (size_t)g->n * (size_t)g->columns, x, (size_t)g->columns * sizeof *x);
    g->y[g->n] = (y - g->mean) / g->scale;
    add_row(g);
    return ST_OK;
}

static void solve(struct gp *g)
{
    if (g->solved) return;
    linalg_upper_solve(g->l, g->room, g->n, g->z, g->alpha);
    g->solved = true;
}

double gp_mean(struct gp *g, const double *x)
{
    solve(g);
    scale_point(g, x, g->scaled);
    covariances(g, g->scaled, g->n);
    return g->mean + g->scale * linalg_dot(g->k, g->alpha, g->n);
}

double gp_variance(struct gp *g, const double *x)
{
    double s = exp(g->theta[g->groups]), v[g->n + 1];
    scale_point(g, x, g->scaled);
    covariances(g, g->scaled, g->n);
    linalg_lower_solve(g->l, g->room, g->n, g->k, v);
    double left = s - linalg_dot(v, v, g->n);
    return left > 0 ? left * g->scale * g->scale : 0;
}

st_t gp_leave_one_out(const struct gp *g, double *mean)
{
    double *inverse = malloc((size_t)g->n * (size_t)g->n * sizeof *inverse);
    if (!inverse) return ST_ENOMEM;
    linalg_inverse(g->l, g->room, g->n, inverse);
    for (int i = 0; i < g->n; i++) {
        double a = linalg_dot(inverse + (size_t)i * (size_t)g->n, g->y, g->n);
        mean[i] = g->mean + g->scale * (g->y[i] - a / inverse[(size_t)i * (size_t)g->n + (size_t)i]);
    }
    free(inverse);
    return ST_OK;
}

int gp_points(const struct gp *g)
{
    return g->n;
}

const double *gp_theta(const struct gp *g)
{
    return g->theta;
}

double gp_evidence(const struct gp *g)
{
    return g->evidence;
}

/* ---- hyperparameters ---- */

struct fit {
    struct gp *g;
    int n, p;              /* points; parameters */
    double *k, *inverse;   /* [n, n]: the factor; the inverse */
    double *r2;            /* [n, n] lower: squared distances, scaled; then dk / d(r^2) times the weight */
    double *alpha, *z;
    double *x;             /* [n, columns]: / l */
    double *prior_mean, *prior_sd;
    double *gradient;
};

static double prior(const struct fit *f, const double *theta, double *gradient)
{
    double sum = 0;
    for (int i = 0; i < f->p; i++) {
        double u = (theta[i] - f->prior_mean[i]) / f->prior_sd[i];
        sum -= 0.5 * u * u;
        gradient[i] = -u / f->prior_sd[i];
    }
    return sum;
}

/* Log posterior of theta up to a constant, and its gradient. -inf where the factor breaks down. */
static double posterior(struct fit *f, const double *theta, double *evidence)
{
    const struct gp *g = f->g;
    int n = f->n, d = g->columns, groups = g->groups;
    double s = exp(theta[groups]), noise = exp(theta[groups + 1]), inverse_l[d + 1], by_column[d + 1];
    for (int c = 0; c < d; c++) inverse_l[c] = exp(-theta[g->group[c]]);
    for (int i = 0; i < n; i++)
        for (int c = 0; c < d; c++) f->x[(size_t)i * (size_t)d + (size_t)c] = g->raw[(size_t)i * (size_t)d + (size_t)c] * inverse_l[c];
    for (int i = 0; i < n; i++) {
        const double *a = f->x + (size_t)i * (size_t)d;
        double *row = f->k + (size_t)i * (size_t)n;
        for (int j = 0; j < i; j++) {
            double r2 = linalg_distance2(a, f->x + (size_t)j * (size_t)d, d);
            f->r2[(size_t)i * (size_t)n + (size_t)j] = r2;
            row[j] = matern(s, r2);
        }
        row[i] = s + noise;
    }
    if (!linalg_cholesky(f->k, n, n)) return -INFINITY;
    linalg_lower_solve(f->k, n, n, g->y, f->z);
    linalg_upper_solve(f->k, n, n, f->z, f->alpha);
    linalg_inverse(f->k, n, n, f->inverse);
    double value = -0.5 * linalg_dot(f->z, f->z, n) - 0.5 * n * log(2 * M_PI);
    for (int i = 0; i < n; i++) value -= log(f->k[(size_t)i * (size_t)n + (size_t)i]);
    *evidence = value;
    value += prior(f, theta, f->gradient);
    double *grad = f->gradient;
    memset(by_column, 0, sizeof by_column);
    for (int i = 0; i < n; i++) {
        const double *a = f->x + (size_t)i * (size_t)d;
        double w = f->alpha[i] * f->alpha[i] - f->inverse[(size_t)i * (size_t)n + (size_t)i];
        grad[groups] += 0.5 * w * s;
        grad[groups + 1] += 0.5 * w * noise;
        for (int j = 0; j < i; j++) {
            double r = SQRT5 * sqrt(f->r2[(size_t)i * (size_t)n + (size_t)j]), e = s * exp(-r);
            w = f->alpha[i] * f->alpha[j] - f->inverse[(size_t)i * (size_t)n + (size_t)j]; /* twice the half: below and above the diagonal */
            grad[groups] += w * (1 + r + r * r / 3) * e;
            w *= 5.0 / 3 * (1 + r) * e; /* dk / d log l of a group = this times its share of r^2 */
            linalg_add_squares(by_column, w, a, f->x + (size_t)j * (size_t)d, d);
        }
    }
    for (int c = 0; c < d; c++) grad[g->group[c]] += by_column[c];
    return value;
}

/* iRprop-: signs of the gradient alone, a step size for each parameter. alike: all lengthscales go together. Returns the best value, theta: where it was. */
static double climb(struct fit *f, int steps, bool alike, double *theta)
{
    int p = f->p, groups = p - 2;
    double at[p], step[p], before[p], best = -INFINITY, evidence = 0;
    for (int i = 0; i < p; i++) {
        at[i] = theta[i];
        step[i] = 0.2;
        before[i] = 0;
    }
    for (int k = 0; k < steps; k++) {
        double value = posterior(f, at, &evidence), sum = 0;
        for (int i = 0; alike && i < groups; i++) sum += f->gradient[i];
        for (int i = 0; alike && i < groups; i++) f->gradient[i] = sum;
        if (value > best) {
            best = value;
            f->g->evidence = evidence;
            memcpy(theta, at, (size_t)p * sizeof *at);
        }
        if (!isfinite(value)) { /* back, and closer */
            for (int i = 0; i < p; i++) {
                at[i] = theta[i];
                step[i] *= 0.5;
                before[i] = 0;
            }
            continue;
        }
        for (int i = 0; i < p; i++) {
            double d = f->gradient[i];
            if (d * before[i] > 0) step[i] = fmin(step[i] * 1.2, 1);
            if (d * before[i] < 0) {
                step[i] = fmax(step[i] * 0.5, 1e-3);
                d = 0;
            }
            before[i] = d;
            at[i] += d > 0 ? step[i] : d < 0 ? -step[i] : 0;
        }
        if (at[p - 1] < log(NOISE_LEAST)) at[p - 1] = log(NOISE_LEAST);
    }
    return best;
}

static st_t optimise(struct gp *g, int n)
{
    size_t nn = (size_t)n * (size_t)n;
    struct fit f = {.g = g, .n = n, .p = g->groups + 2};
    double *memory = malloc((3 * nn + (2 + (size_t)g->columns) * (size_t)n + 3 * (size_t)f.p) * sizeof *memory);
    if (!memory) return ST_ENOMEM;
    f.k = memory;
    f.inverse = f.k + nn;
    f.r2 = f.inverse + nn;
    f.alpha = f.r2 + nn;
    f.z = f.alpha + n;
    f.x = f.z + n;
    f.prior_mean = f.x + (size_t)n * (size_t)g->columns;
    f.prior_sd = f.prior_mean + f.p;
    f.gradient = f.prior_sd + f.p;
    double root = 0.5 * log(g->columns > 1 ? g->columns : 1), best = -INFINITY, theta[f.p];
    f.prior_mean[g->groups] = 0;
    f.prior_sd[g->groups] = 1.5;
    f.prior_mean[g->groups + 1] = -5;
    f.prior_sd[g->groups + 1] = 3;
    for (int start = 0; start < GP_STARTS; start++) { /* little noise, or much of it under something long */
        for (int i = 0; i < g->groups; i++) {
            f.prior_mean[i] = M_SQRT2 + root;
            f.prior_sd[i] = 1.7320508075688772935 * sqrt(g->groups); /* one belief, met once for every group */
            theta[i] = root + (start ? 1 : 0);
        }
        theta[g->groups] = 0;
        theta[g->groups + 1] = start ? -1 : -5;
        double value = climb(&f, GP_STEPS_ALIKE, true, theta);
        if (value <= best) continue;
        best = value;
        memcpy(g->theta, theta, sizeof theta);
    }
    for (int i = 0; i < g->groups; i++) {
        f.prior_mean[i] = g->theta[i];
        f.prior_sd[i] = GP_SPREAD;
    }
    climb(&f, GP_STEPS, false, g->theta);
    free(memory);
    return ST_OK;
}

static bool all_finite(const double *v, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!isfinite(v[i])) return false;
    return true;
}

st_t gp_new_at(struct gp **out, const double *x, const double *y, int n, int columns, const int *group, int groups, int room, const double *theta)
{
    if (!all_finite(x, (size_t)n * (size_t)columns) || !all_finite(y, (size_t)n)) return ST_ENONFINITE;
    struct gp *g = calloc(1, sizeof *g);
    if (!g) return ST_ENOMEM;
    size_t rows = (size_t)room, cols = (size_t)columns;
    g->room = room;
    g->padded = (room + BLOCK - 1) / BLOCK * BLOCK;
    g->columns = columns;
    g->groups = groups;
    g->fitted = n;
    g->x = calloc((cols + 1) * (size_t)g->padded, sizeof *g->x);
    g->raw = malloc((cols + 1) * rows * sizeof *g->raw);
    g->y = malloc(rows * sizeof *g->y);
    g->alpha = malloc(rows * sizeof *g->alpha);
    g->z = malloc(rows * sizeof *g->z);
    g->l = malloc(rows * rows * sizeof *g->l);
    g->k = malloc((size_t)g->padded * sizeof *g->k);
    g->scaled = malloc((cols + 1) * sizeof *g->scaled);
    g->theta = malloc(((size_t)groups + 2) * sizeof *g->theta);
    g->inverse_l = malloc(((size_t)groups + 1) * sizeof *g->inverse_l);
    g->own_group = malloc((cols + 1) * sizeof *g->own_group);
    g->group = g->own_group;
    st_t st = g->x && g->raw && g->y && g->alpha && g->z && g->l && g->k && g->scaled && g->theta && g->inverse_l && g->own_group ? ST_OK : ST_ENOMEM;
    if (!st) {
        memcpy(g->own_group, group, cols * sizeof *group);
        memcpy(g->raw, x, cols * (size_t)n * sizeof *x);
        double var = 0;
        for (int i = 0; i < n; i++) g->mean += y[i] / n;
        for (int i = 0; i < n; i++) var += (y[i] - g->mean) * (y[i] - g->mean) / n;
        g->scale = var > 0 ? sqrt(var) : 1;
        for (int i = 0; i < n; i++) g->y[i] = (y[i] - g->mean) / g->scale;
        if (theta) memcpy(g->theta, theta, ((size_t)groups + 2) * sizeof *theta);
        else st = optimise(g, n);
    }
    if (st) {
        gp_free(g);
        return st;
    }
    for (int i = 0; i < groups; i++) g->inverse_l[i] = exp(-g->theta[i]);
    for (int i = 0; i < n; i++) add_row(g);
    *out = g;
    return ST_OK;
}

st_t gp_new(struct gp **out, const double *x, const double *y, int n, int columns, const int *group, int groups, int room)
{
    return gp_new_at(out, x, y, n, columns, group, groups, room, NULL);
}
