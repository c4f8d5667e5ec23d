#include "controller/latency.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { ROUNDS = 8, SWEEPS = 400 };

struct latency {
    int n, columns;
    double error;
    double *all, *fold[LATENCY_FOLDS]; /* w [columns] of the model of all points, and without each fold */
    double *residual; /* [n] R_i */
    double *bound;    /* [n] scratch */
};

/* Scratch of a fit of n points. */
struct room {
    double *a, *h, *e, *gram, *b, *w, *scale; /* [n, p], [n], [n], [p, p], [p], [p], [p] */
};

static double dot(const double *a, const double *b, int n)
{
    double sum = 0;
    for (int i = 0; i < n; i++) sum += a[i] * b[i];
    return sum;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *v, int n)
{
    qsort(v, (size_t)n, sizeof *v, by_value);
    return n % 2 ? v[n / 2] : 0.5 * (v[n / 2 - 1] + v[n / 2]);
}

/* Least squares of a w = 1 under w >= 0, rows a [n, p] with weights h [n], and a ridge: coordinate descent on the normal equations. gram [p, p], b [p]: scratch. w: from where it starts. */
static void descend(const double *a, const double *h, int n, int p, double *gram, double *b, double *w)
{
    double ridge = LATENCY_RIDGE * n;
    memset(gram, 0, (size_t)p * (size_t)p * sizeof *gram);
    memset(b, 0, (size_t)p * sizeof *b);
    for (int i = 0; i < n; i++) {
        const double *row = a + (size_t)i * (size_t)p;
        for (int j = 0; j < p; j++) {
            double v = h[i] * row[j];
            if (v == 0) continue;
            b[j] += v;
            for (int k = 0; k < p; k++) gram[(size_t)j * (size_t)p + (size_t)k] += v * row[k];
        }
    }
    for (int sweep = 0; sweep < SWEEPS; sweep++) {
        double moved = 0;
        for (int j = 0; j < p; j++) {
            const double *g = gram + (size_t)j * (size_t)p;
            if (g[j] <= 0) continue;
            double next = fmax(0, (b[j] - dot(g, w, p) + g[j] * w[j]) / (g[j] + ridge));
            moved = fmax(moved, fabs(next - w[j]));
            w[j] = next;
        }
        if (moved < 1e-9) break;
    }
}

static bool room_init(struct room *r, int n, int p)
{
    size_t N = (size_t)n, P = (size_t)p;
    r->a = malloc((N * P + 2 * N + P * P + 3 * P) * sizeof *r->a);
    if (!r->a) return false;
    r->h = r->a + N * P;
    r->e = r->h + N;
    r->gram = r->e + N;
    r->b = r->gram + P * P;
    r->w = r->b + P;
    r->scale = r->w + P;
    return true;
}

/* Weights of the points that are not of the fold `without` (-1: of all). */
static void fit(const struct room *r, const double *x, const double *y, int n, int p, int without, double *w)
{
    int m = 0;
    memset(r->scale, 0, (size_t)p * sizeof *r->scale);
    for (int i = 0; i < n; i++) {
        if (i % LATENCY_FOLDS == without) continue;
        for (int j = 0; j < p; j++) {
            double v = x[(size_t)i * (size_t)p + (size_t)j] / y[i];
            r->a[(size_t)m * (size_t)p + (size_t)j] = v;
            r->scale[j] += v;
        }
        r->h[m++] = 1;
    }
    for (int j = 0; j < p; j++) {
        r->scale[j] = r->scale[j] > 0 ? m / r->scale[j] : 0;
        r->w[j] = 0;
        for (int i = 0; i < m; i++) r->a[(size_t)i * (size_t)p + (size_t)j] *= r->scale[j];
    }
    for (int round = 0; round < ROUNDS; round++) {
        descend(r->a, r->h, m, p, r->gram, r->b, r->w);
        for (int i = 0; i < m; i++) r->h[i] = fabs(dot(r->a + (size_t)i * (size_t)p, r->w, p) - 1);
        memcpy(r->e, r->h, (size_t)m * sizeof *r->e);
        double most = LATENCY_HUBER * median(r->e, m);
        for (int i = 0; i < m; i++) r->h[i] = r->h[i] > most ? most / r->h[i] : 1;
    }
    for (int j = 0; j < p; j++) w[j] = r->w[j] * r->scale[j];
}

static double predict(const struct latency *l, const double *w, const double *x)
{
    return fmax(dot(w, x, l->columns), 1e-12); /* ms: nothing takes no time */
}

st_t latency_new(struct latency **out, const double *x, const double *y, int n)
{
    int p = latency_columns();
    struct room r;
    if (n < LATENCY_LEAST || n > LATENCY_MOST) return ST_EINVAL;
    for (int i = 0; i < n; i++) {
        if (!isfinite(y[i])) return ST_ENONFINITE;
        if (y[i] <= 0) return ST_EINVAL;
        for (int j = 0; j < p; j++)
            if (!isfinite(x[(size_t)i * (size_t)p + (size_t)j])) return ST_ENONFINITE;
    }
    struct latency *l = calloc(1, sizeof *l);
    if (!l) return ST_ENOMEM;
    l->n = n;
    l->columns = p;
    l->all = malloc(((LATENCY_FOLDS + 1) * (size_t)p + 2 * (size_t)n) * sizeof *l->all);
    if (!l->all || !room_init(&r, n, p)) {
        latency_free(l);
        return ST_ENOMEM;
    }
    for (int k = 0; k < LATENCY_FOLDS; k++) l->fold[k] = l->all + (size_t)(k + 1) * (size_t)p;
    l->residual = l->all + (LATENCY_FOLDS + 1) * (size_t)p;
    l->bound = l->residual + n;
    fit(&r, x, y, n, p, -1, l->all);
    for (int k = 0; k < LATENCY_FOLDS; k++) fit(&r, x, y, n, p, k, l->fold[k]);
    for (int i = 0; i < n; i++) {
        double mu = predict(l, l->fold[i % LATENCY_FOLDS], x + (size_t)i * (size_t)p);
        l->residual[i] = fabs(log(y[i]) - log(mu));
        l->error += fabs(mu / y[i] - 1) / n;
    }
    free(r.a);
    *out = l;
    return ST_OK;
}

void latency_free(struct latency *l)
{
    if (!l) return;
    free(l->all);
    free(l);
}

void latency_at(struct latency *l, const double *x, struct latency_value *out)
{
    double mu[LATENCY_FOLDS], tail = floor(LATENCY_ALPHA * (l->n + 1));
    int below = (int)fmax(tail, 1) - 1; /* with n >= LATENCY_LEAST both ends are points */
    for (int k = 0; k < LATENCY_FOLDS; k++) mu[k] = log(predict(l, l->fold[k], x));
    out->value = predict(l, l->all, x);
    for (int side = -1; side <= 1; side += 2) {
        for (int i = 0; i < l->n; i++) l->bound[i] = mu[i % LATENCY_FOLDS] + side * l->residual[i];
        qsort(l->bound, (size_t)l->n, sizeof *l->bound, by_value);
        double end = exp(l->bound[side < 0 ? below : l->n - 1 - below]);
        if (side < 0) out->low = fmin(end, out->value);
        else out->high = fmax(end, out->value);
    }
}

double latency_error(const struct latency *l)
{
    return l->error;
}

const double *latency_weights(const struct latency *l)
{
    return l->all;
}
