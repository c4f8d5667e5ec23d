#include "controller/lift.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/stats.h"
#include "controller/linalg.h"
#include "controller/ridge.h"

/* Scales of the columns, the roots of their weights' prior variances. */
#define CONSTANT 10.0
#define LOW 3.0
#define LINE 1.0
#define SQUARE 0.7

struct lift {
    const struct job *job;
    long count;  /* rows that it was made of */
    int rung;    /* that it lifts to */
    int columns, features;
    const struct space_column *column;
    bool lifted[JOB_OBJECTIVES_MAX], blind[JOB_OBJECTIVES_MAX]; /* blind: the lower result does not enter */
    double mean[JOB_OBJECTIVES_MAX], sd[JOB_OBJECTIVES_MAX], most[JOB_OBJECTIVES_MAX]; /* of the lower results; their greatest, in standard deviations from the mean */
    double spread[JOB_OBJECTIVES_MAX], at[JOB_OBJECTIVES_MAX];                         /* standard deviation of the higher ones; the intercept */
    double *w;   /* [objectives, features] */
    double *phi, *x; /* [features], [columns] scratch */
};

void lift_free(struct lift *l)
{
    if (!l) return;
    free(l->w);
    free(l->phi);
    free(l->x);
    free(l);
}

/* z: the lower result, in standard deviations from the mean. */
static void features(const struct lift *l, const double *x, int objective, double z)
{
    int at = 0;
    l->phi[at++] = CONSTANT;
    l->phi[at++] = l->blind[objective] ? 0 : LOW * z;
    for (int c = 0; c < l->columns; c++) {
        double u = 2 * x[c] - 1;
        if (l->column[c].fine) continue;
        l->phi[at++] = LINE * u;
        if (l->column[c].ordinal) l->phi[at++] = SQUARE * (u * u - 1.0 / 3);
    }
}

/* Trials with a result on the highest rung that has enough of them, the newest: their places among d's. */
static int choose(const struct fit_data *d, long count, long *high, int *rung)
{
    for (*rung = d->job->rungs - 1; *rung > 0; --*rung) {
        int n = 0;
        for (long i = d->nhigh - 1; i >= 0 && n < LIFT_MOST; i--)
            if (d->high[i].rung == *rung && d->high[i].before < count) high[n++] = i;
        if (n >= LIFT_LEAST) return n;
    }
    return 0;
}

static double deviation(const double *v, int n, double *mean)
{
    double squares = 0;
    *mean = base_stats_mean(v, n);
    for (int i = 0; i < n; i++) squares += (v[i] - *mean) * (v[i] - *mean);
    return sqrt(squares / n);
}

/* A ridge of the k-th objective, and the rank correlation of its leave-one-out predictions. */
static st_t fit_ridge(struct lift *l, const struct fit_data *d, const long *high, int n, int k, const double *truth, const double *low, double *rho)
{
    int judged[LIFT_MOST];
    struct sparse rows = {0};
    struct ridge *r = NULL;
    st_t st = ST_OK;
    for (int i = 0; i < n && !st; i++) {
        judged[i] = i;
        st = fit_data_encode(d, d->high[high[i]].row, l->x);
        if (!st) features(l, l->x, k, (low[i] - l->mean[k]) / l->sd[k]);
        if (!st) st = sparse_add(&rows, l->phi, l->features);
    }
    if (!st) st = ridge_new(&r, &rows, truth, 1, judged, n);
    else sparse_fini(&rows);
    if (!st) {
        ridge_weights(r, 0, l->w + (size_t)k * (size_t)l->features);
        l->at[k] = ridge_intercept(r, 0);
        *rho = base_stats_spearman(truth, ridge_leave_one_out(r, 0), n);
    }
    ridge_free(r);
    return st;
}

static st_t fit(struct lift *l, const struct fit_data *d, const long *high, int n, int k)
{
    double truth[LIFT_MOST], low[LIFT_MOST], mean, rho = NAN;
    int m = l->job->nobjectives;
    for (int i = 0; i < n; i++) {
        truth[i] = d->high[high[i]].y[k];
        low[i] = d->y[d->high[high[i]].row * m + k];
    }
    l->sd[k] = deviation(low, n, &l->mean[k]);
    l->spread[k] = deviation(truth, n, &mean);
    if (!(l->sd[k] > 0)) return ST_OK;
    for (int i = 0; i < n; i++) l->most[k] = fmax(l->most[k], (low[i] - l->mean[k]) / l->sd[k]);
    st_t st = fit_ridge(l, d, high, n, k, truth, low, &rho);
    l->blind[k] = !st && l->w[(size_t)k * (size_t)l->features + 1] < 0;
    if (l->blind[k]) st = fit_ridge(l, d, high, n, k, truth, low, &rho);
    l->lifted[k] = !st && 1 - rho < (1 - LIFT_DOUBT / sqrt(n)) * (1 - base_stats_spearman(truth, low, n));
    return st;
}

st_t lift_new(struct lift **out, const struct fit_data *d, long count)
{
    long high[LIFT_MOST];
    int rung, n = choose(d, count, high, &rung);
    *out = NULL;
    if (!n) return ST_OK;
    struct lift *l = calloc(1, sizeof *l);
    if (!l) return ST_ENOMEM;
    bool any = false;
    l->job = d->job;
    l->count = count;
    l->rung = rung;
    l->columns = space_columns(d->job->space, &l->column);
    l->features = 2;
    for (int c = 0; c < l->columns; c++) l->features += l->column[c].fine ? 0 : 1 + l->column[c].ordinal;
    l->w = calloc((size_t)l->features * (size_t)d->job->nobjectives, sizeof *l->w);
    l->phi = malloc((size_t)l->features * sizeof *l->phi);
    l->x = malloc((size_t)(l->columns + 1) * sizeof *l->x);
    st_t st = l->w && l->phi && l->x ? ST_OK : ST_ENOMEM;
    for (int k = 0; k < d->job->nobjectives && !st; k++) {
        const struct metric *m = &d->job->objective[k].metric;
        if (!fit_on_paper(d->job, m) && !space_metric_once(m)) st = fit(l, d, high, n, k);
        any |= l->lifted[k];
    }
    if (st || !any) lift_free(l);
    else *out = l;
    return st;
}

void lift_apply(const struct lift *l, const double *x, double *y)
{
    for (int k = 0; k < l->job->nobjectives; k++) {
        if (!l->lifted[k]) continue;
        double z = (y[k] - l->mean[k]) / l->sd[k], beyond = fmax(z - l->most[k], 0);
        features(l, x, k, z - beyond);
        y[k] = beyond * l->spread[k] + l->at[k] + linalg_dot(l->phi, l->w + (size_t)k * (size_t)l->features, l->features);
    }
}

st_t lift_rows(const struct lift *l, const struct fit_data *d, long from, long to, double *value)
{
    size_t m = (size_t)l->job->nobjectives;
    for (long i = from; i < to; i++) {
        double *y = value + (size_t)i * m;
        st_t st = fit_data_encode(d, i, l->x);
        if (st) return st;
        memcpy(y, d->y + (size_t)i * m, m * sizeof *y);
        lift_apply(l, l->x, y);
    }
    for (long i = 0; i < d->nhigh; i++) {
        const struct fit_high *h = &d->high[i];
        if (h->rung != l->rung || h->before >= l->count || h->row < from || h->row >= to) continue;
        for (size_t k = 0; k < m; k++)
            if (l->lifted[k]) value[(size_t)h->row * m + k] = h->y[k];
    }
    return ST_OK;
}
