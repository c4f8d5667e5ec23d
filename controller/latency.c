#include "controller/latency.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "controller/linalg.h"

enum { ROUNDS = 8, SWEEPS = 400 };

struct model {
    double *w;     /* [columns] */
    double *alpha; /* [points of it] (K + noise)^-1 log (y / w x); all 0: there is no process */
};

struct latency {
    int n, columns, shapes;
    double error, length, noise; /* length 0: no process */
    struct model all, fold[LATENCY_FOLDS]; /* of all points, and without each fold */
    double *z;        /* [n, shapes], scaled */
    double *mean, *scale; /* [shapes]; scale 0: it does not vary */
    double *residual; /* [n] R_i */
    double *bound, *at; /* [n], [shapes] scratch */
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
    int m = 0, q = 0, used[p + 1]; /* columns that some point has */
    memset(r->scale, 0, (size_t)p * sizeof *r->scale);
    memset(w, 0, (size_t)p * sizeof *w);
    for (int i = 0; i < n; i++) {
        if (i % LATENCY_FOLDS == without) continue;
        for (int j = 0; j < p; j++) r->scale[j] += x[(size_t)i * (size_t)p + (size_t)j] / y[i];
        r->h[m++] = 1;
    }
    for (int j = 0; j < p; j++)
        if (r->scale[j] > 0) used[q++] = j;
    for (int k = 0; k < q; k++) {
        r->scale[used[k]] = m / r->scale[used[k]];
        r->w[k] = 0;
    }
    for (int i = 0, at = 0; i < n; i++) {
        if (i % LATENCY_FOLDS == without) continue;
        for (int k = 0; k < q; k++) r->a[(size_t)at * (size_t)q + (size_t)k] = x[(size_t)i * (size_t)p + (size_t)used[k]] / y[i] * r->scale[used[k]];
        at++;
    }
    for (int round = 0; round < ROUNDS; round++) {
        descend(r->a, r->h, m, q, r->gram, r->b, r->w);
        for (int i = 0; i < m; i++) r->h[i] = fabs(dot(r->a + (size_t)i * (size_t)q, r->w, q) - 1);
        memcpy(r->e, r->h, (size_t)m * sizeof *r->e);
        double most = LATENCY_HUBER * median(r->e, m);
        for (int i = 0; i < m; i++) r->h[i] = r->h[i] > most ? most / r->h[i] : 1;
    }
    for (int k = 0; k < q; k++) w[used[k]] = r->w[k] * r->scale[used[k]];
}

/* ---- the rest ---- */

static double covariance(const struct latency *l, const double *a, const double *b, double length)
{
    double r = sqrt(5 * linalg_distance2(a, b, l->shapes)) / length;
    return (1 + r + r * r / 3) * exp(-r);
}

static double linear(const double *w, const double *x, int p)
{
    return fmax(dot(w, x, p), 1e-12); /* ms: nothing takes no time */
}

/* alpha of the points that are not of the fold `without`, of the others 0; *leave_out: mean absolute error of leave-one-out predictions. k [n, n], r [n], inverse [n, n]: scratch (inverse NULL: leave_out is not
 * wanted). */
static bool process(const struct latency *l, double length, double noise, int without, const double *rest, double *k, double *r, double *inverse, double *alpha, double *leave_out)
{
    int m = 0, index[LATENCY_MOST];
    for (int i = 0; i < l->n; i++)
        if (i % LATENCY_FOLDS != without) index[m++] = i;
    for (int i = 0; i < m; i++) {
        r[i] = rest[index[i]];
        for (int j = 0; j <= i; j++)
            k[(size_t)i * (size_t)m + (size_t)j] = covariance(l, l->z + (size_t)index[i] * (size_t)l->shapes, l->z + (size_t)index[j] * (size_t)l->shapes, length) + (i == j) * noise;
    }
    if (!linalg_cholesky(k, m, m)) return false;
    linalg_lower_solve(k, m, m, r, r);
    linalg_upper_solve(k, m, m, r, r);
    memset(alpha, 0, (size_t)l->n * sizeof *alpha);
    for (int i = 0; i < m; i++) alpha[index[i]] = r[i];
    if (!inverse) return true;
    linalg_inverse(k, m, m, inverse);
    *leave_out = 0;
    for (int i = 0; i < m; i++) *leave_out += fabs(r[i] / inverse[(size_t)i * (size_t)m + (size_t)i]) / m;
    return true;
}

static double predict(struct latency *l, const struct model *m, const double *x, const double *z)
{
    double mu = linear(m->w, x, l->columns), rest = 0;
    if (l->length == 0) return mu;
    for (int i = 0; i < l->n; i++)
        if (m->alpha[i] != 0) rest += m->alpha[i] * covariance(l, z, l->z + (size_t)i * (size_t)l->shapes, l->length);
    return mu * exp(rest);
}

static void shape(struct latency *l, const double *x, double *z)
{
    latency_shape(x, z);
    for (int k = 0; k < l->shapes; k++) z[k] = (z[k] - l->mean[k]) * l->scale[k];
}

static void scale_shapes(struct latency *l, const double *x)
{
    int vary = 0;
    memset(l->scale, 0, (size_t)l->shapes * sizeof *l->scale);
    memset(l->mean, 0, (size_t)l->shapes * sizeof *l->mean);
    for (int i = 0; i < l->n; i++) latency_shape(x + (size_t)i * (size_t)l->columns, l->z + (size_t)i * (size_t)l->shapes);
    for (int k = 0; k < l->shapes; k++) {
        double sum = 0, squares = 0;
        for (int i = 0; i < l->n; i++) sum += l->z[(size_t)i * (size_t)l->shapes + (size_t)k];
        l->mean[k] = sum / l->n;
        for (int i = 0; i < l->n; i++) {
            double d = l->z[(size_t)i * (size_t)l->shapes + (size_t)k] - l->mean[k];
            squares += d * d;
        }
        l->scale[k] = squares > 1e-12 * l->n ? 1 / sqrt(squares / l->n) : 0;
        vary += l->scale[k] > 0;
    }
    for (int k = 0; k < l->shapes; k++) l->scale[k] /= sqrt(vary ? vary : 1);
    for (int i = 0; i < l->n; i++) shape(l, x + (size_t)i * (size_t)l->columns, l->z + (size_t)i * (size_t)l->shapes);
}

/* What the linear models leave, and a process through it where it predicts what it is not shown. */
static st_t fit_rest(struct latency *l, const double *x, const double *y)
{
    static const struct {
        double length[4], noise[5];
    } grid = {LATENCY_GRID};
    size_t n = (size_t)l->n;
    double *k = malloc((2 * n * n + 3 * n) * sizeof *k), *inverse = k + n * n, *r = inverse + n * n, *rest = r + n, *alpha = rest + n, best = 0, error;
    if (!k) return ST_ENOMEM;
    for (int i = 0; i < l->n; i++) {
        rest[i] = log(y[i] / linear(l->all.w, x + (size_t)i * (size_t)l->columns, l->columns));
        best += fabs(rest[i]) / l->n;
    }
    for (int a = 0; a < 4; a++) {
        for (int b = 0; b < 5; b++) {
            if (!process(l, grid.length[a], grid.noise[b], -1, rest, k, r, inverse, alpha, &error) || error >= best) continue;
            best = error;
            l->length = grid.length[a];
            l->noise = grid.noise[b];
            memcpy(l->all.alpha, alpha, n * sizeof *alpha);
        }
    }
    for (int f = 0; l->length > 0 && f < LATENCY_FOLDS; f++) {
        for (int i = 0; i < l->n; i++) rest[i] = log(y[i] / linear(l->fold[f].w, x + (size_t)i * (size_t)l->columns, l->columns));
        if (!process(l, l->length, l->noise, f, rest, k, r, NULL, l->fold[f].alpha, NULL)) memset(l->fold[f].alpha, 0, n * sizeof *alpha);
    }
    free(k);
    return ST_OK;
}

st_t latency_new(struct latency **out, const double *x, const double *y, int n)
{
    int p = latency_columns(), q = latency_shapes();
    size_t N = (size_t)n, P = (size_t)p, Q = (size_t)q;
    struct room r;
    if (n < LATENCY_LEAST || n > LATENCY_MOST) return ST_EINVAL;
    for (int i = 0; i < n; i++) {
        if (!isfinite(y[i])) return ST_ENONFINITE;
        if (y[i] <= 0) return ST_EINVAL;
        for (int j = 0; j < p; j++)
            if (!isfinite(x[(size_t)i * P + (size_t)j])) return ST_ENONFINITE;
    }
    struct latency *l = calloc(1, sizeof *l);
    if (!l) return ST_ENOMEM;
    l->n = n;
    l->columns = p;
    l->shapes = q;
    double *memory = calloc((LATENCY_FOLDS + 1) * (P + N) + N * Q + 3 * Q + 3 * N, sizeof *memory);
    l->all.w = memory;
    if (!memory || !room_init(&r, n, p)) {
        latency_free(l);
        return ST_ENOMEM;
    }
    for (int k = -1; k < LATENCY_FOLDS; k++) {
        struct model *m = k < 0 ? &l->all : &l->fold[k];
        m->w = memory;
        m->alpha = memory + P;
        memory += P + N;
        fit(&r, x, y, n, p, k, m->w);
    }
    free(r.a);
    l->z = memory;
    l->mean = l->z + N * Q;
    l->scale = l->mean + Q;
    l->at = l->scale + Q;
    l->residual = l->at + Q;
    l->bound = l->residual + N;
    scale_shapes(l, x);
    st_t st = fit_rest(l, x, y);
    if (st) {
        latency_free(l);
        return st;
    }
    for (int i = 0; i < n; i++) {
        double mu = predict(l, &l->fold[i % LATENCY_FOLDS], x + (size_t)i * P, l->z + (size_t)i * Q);
        l->residual[i] = fabs(log(y[i]) - log(mu));
        l->error += fabs(mu / y[i] - 1) / n;
    }
    *out = l;
    return ST_OK;
}

void latency_free(struct latency *l)
{
    if (!l) return;
    free(l->all.w);
    free(l);
}

void latency_at(struct latency *l, const double *x, struct latency_value *out)
{
    double mu[LATENCY_FOLDS];
    int below = (int)(LATENCY_ALPHA * (l->n + 1)) - 1; /* with n >= LATENCY_LEAST both ends are points */
    shape(l, x, l->at);
    for (int k = 0; k < LATENCY_FOLDS; k++) mu[k] = log(predict(l, &l->fold[k], x, l->at));
    out->value = predict(l, &l->all, x, l->at);
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
    return l->all.w;
}
