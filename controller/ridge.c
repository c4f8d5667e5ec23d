#include "controller/ridge.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "controller/linalg.h"

/* Of the mean squared length of a row. */
static const double penalties[RIDGE_PENALTIES] = {0.5, 3e-2, 1e-3, 1e-6};

struct ridge {
    struct sparse rows;
    int n, p, outputs, njudged, *judged;
    bool dual;            /* the factor is of rows, not of columns */
    int size;             /* of the factor */
    double *factor;       /* [size, size] */
    double penalty, unit; /* l; mean squared length of a row */
    double *y, *loo;      /* [outputs, n], centred; [outputs, njudged] */
    double *w;            /* [outputs, p] */
    double mean[RIDGE_OUTPUTS_MAX], t[RIDGE_OUTPUTS_MAX];
    double *scratch;      /* [n + p] */
};

void sparse_fini(struct sparse *s)
{
    free(s->start);
    free(s->column);
    free(s->value);
    *s = (struct sparse){0};
}

st_t sparse_add(struct sparse *s, const double *x, int columns)
{
    if (s->n + 2 > s->rows_room) {
        long room = s->rows_room ? 2 * s->rows_room : 64, *start = realloc(s->start, (size_t)room * sizeof *start);
        if (!start) return ST_ENOMEM;
        if (!s->n) start[0] = 0;
        s->start = start;
        s->rows_room = room;
    }
    if (s->used + columns > s->room) {
        long room = 2 * s->room + columns;
        int *column = realloc(s->column, (size_t)room * sizeof *column);
        if (column) s->column = column;
        double *value = realloc(s->value, (size_t)room * sizeof *value);
        if (value) s->value = value;
        if (!column || !value) return ST_ENOMEM;
        s->room = room;
    }
    s->columns = columns;
    for (int c = 0; c < columns; c++) {
        if (x[c] == 0) continue;
        s->column[s->used] = c;
        s->value[s->used++] = x[c];
    }
    s->start[++s->n] = s->used;
    return ST_OK;
}

double sparse_dot(const struct sparse *s, int row, const double *w)
{
    double sum = 0;
    for (long k = s->start[row]; k < s->start[row + 1]; k++) sum += s->value[k] * w[s->column[k]];
    return sum;
}

static void add_row(const struct sparse *s, int row, double by, double *to)
{
    for (long k = s->start[row]; k < s->start[row + 1]; k++) to[s->column[k]] += by * s->value[k];
}

void ridge_free(struct ridge *r)
{
    if (!r) return;
    sparse_fini(&r->rows);
    free(r->factor);
    free(r->judged);
    free(r->y);
    free(r->loo);
    free(r->w);
    free(r->scratch);
    free(r);
}

/* Lower triangle of X^T X or X X^T. */
static void gram(const struct ridge *r, double *a)
{
    const struct sparse *s = &r->rows;
    size_t size = (size_t)r->size;
    memset(a, 0, size * size * sizeof *a);
    for (int i = 0; i < r->n; i++) {
        if (r->dual) {
            double *dense = r->scratch;
            memset(dense, 0, (size_t)r->p * sizeof *dense);
            add_row(s, i, 1, dense);
            for (int j = 0; j <= i; j++) a[(size_t)i * size + (size_t)j] = sparse_dot(s, j, dense);
            continue;
        }
        for (long k = s->start[i]; k < s->start[i + 1]; k++) {
            double *row = a + (size_t)s->column[k] * size, v = s->value[k];
            for (long l = s->start[i]; l <= k; l++) row[s->column[l]] += v * s->value[l];
        }
    }
}

/* Weights and leave-one-out predictions from the factor; returns the squared error of these, each output in its own variance. lever: scratch, [judged]. */
static double solve(struct ridge *r, double *lever)
{
    const struct sparse *s = &r->rows;
    double error = 0, *b = r->scratch;
    int p = r->p, n = r->n, size = r->size;
    memset(r->w, 0, (size_t)r->outputs * (size_t)p * sizeof *r->w);
    for (int k = 0; k < r->njudged; k++) { /* leverages; of a dual the inverse's diagonal */
        memset(b, 0, (size_t)size * sizeof *b);
        if (r->dual) b[r->judged[k]] = 1;
        else add_row(s, r->judged[k], 1, b);
        linalg_lower_solve(r->factor, size, size, b, b);
        lever[k] = linalg_dot(b, b, size);
        if (!r->dual) lever[k] = fmin(lever[k], 1 - 1e-9);
    }
    for (int o = 0; o < r->outputs; o++) {
        const double *y = r->y + (size_t)o * (size_t)n;
        double *w = r->w + (size_t)o * (size_t)p, *loo = r->loo + (size_t)o * (size_t)r->njudged, squares = 0, var = 0;
        if (r->dual) {
            linalg_lower_solve(r->factor, size, n, y, b);
            linalg_upper_solve(r->factor, size, n, b, b);
            for (int i = 0; i < n; i++) add_row(s, i, b[i], w);
        } else {
            for (int i = 0; i < n; i++) add_row(s, i, y[i], w);
            linalg_lower_solve(r->factor, size, p, w, w);
            linalg_upper_solve(r->factor, size, p, w, w);
        }
        for (int k = 0; k < r->njudged; k++) {
            int i = r->judged[k];
            if (r->dual) loo[k] = y[i] - b[i] / lever[k];
            else loo[k] = (sparse_dot(s, i, w) - lever[k] * y[i]) / (1 - lever[k]);
            squares += (loo[k] - y[i]) * (loo[k] - y[i]);
            var += y[i] * y[i];
        }
        if (var > 0) error += squares / var;
    }
    return error;
}

static st_t attempt(struct ridge *r, const double *a, double penalty, double *lever, double *error)
{
    size_t size = (size_t)r->size;
    memcpy(r->factor, a, size * size * sizeof *a);
    for (size_t i = 0; i < size; i++) r->factor[i * size + i] += penalty;
    if (!linalg_cholesky(r->factor, r->size, r->size)) return ST_EINVAL;
    r->penalty = penalty;
    *error = solve(r, lever);
    return ST_OK;
}

st_t ridge_new(struct ridge **out, struct sparse *rows, const double *y, int outputs, const int *judged, int njudged)
{
    struct ridge *r = calloc(1, sizeof *r);
    if (!r) {
        sparse_fini(rows);
        return ST_ENOMEM;
    }
    r->rows = *rows;
    *rows = (struct sparse){0};
    r->n = r->rows.n;
    r->p = r->rows.columns;
    r->outputs = outputs;
    r->dual = r->n < r->p;
    r->size = r->dual ? r->n : r->p;
    size_t n = (size_t)r->n, p = (size_t)r->p, size = (size_t)r->size, k = (size_t)outputs;
    r->factor = malloc((size * size + 1) * sizeof *r->factor);
    r->y = malloc((k * n + 1) * sizeof *r->y);
    r->njudged = njudged;
    r->judged = malloc(((size_t)njudged + 1) * sizeof *judged);
    r->loo = malloc((k * (size_t)njudged + 1) * sizeof *r->loo);
    r->w = malloc((k * p + 1) * sizeof *r->w);
    r->scratch = malloc((n + p + 1) * sizeof *r->scratch);
    double *a = malloc((size * size + 1) * sizeof *a), *lever = malloc(((size_t)njudged + 1) * sizeof *lever);
    st_t st = r->factor && r->judged && r->y && r->loo && r->w && r->scratch && a && lever ? ST_OK : ST_ENOMEM;
    if (!st) {
        memcpy(r->judged, judged, (size_t)njudged * sizeof *judged);
        for (long i = 0; i < r->rows.used; i++) r->unit += r->rows.value[i] * r->rows.value[i];
        r->unit = r->unit > 0 ? r->unit / r->n : 1;
        for (int o = 0; o < outputs; o++) {
            const double *from = y + (size_t)o * n;
            double *to = r->y + (size_t)o * n, var = 0;
            for (size_t i = 0; i < n; i++) r->mean[o] += from[i] / (double)n;
            for (size_t i = 0; i < n; i++) {
                to[i] = from[i] - r->mean[o];
                var += to[i] * to[i] / (double)n;
            }
            r->t[o] = var / r->unit;
        }
        gram(r, a);
        double least = INFINITY, best = penalties[0] * r->unit, error;
        for (int i = 0; i < RIDGE_PENALTIES; i++) {
            if (attempt(r, a, penalties[i] * r->unit, lever, &error) || error >= least) break;
            least = error;
            best = penalties[i] * r->unit;
        }
        if (r->penalty != best) st = attempt(r, a, best, lever, &error);
    }
    free(a);
    free(lever);
    if (st) ridge_free(r);
    else *out = r;
    return st;
}

void ridge_weights(const struct ridge *r, int output, double *w)
{
    memcpy(w, r->w + (size_t)output * (size_t)r->p, (size_t)r->p * sizeof *w);
}

void ridge_sample(const struct ridge *r, int output, struct base_rng *g, double scale, double *w)
{
    double *z = r->scratch, root = scale * sqrt(r->t[output]), noise = sqrt(r->penalty);
    int n = r->n, p = r->p;
    const double *mean = r->w + (size_t)output * (size_t)p;
    if (!r->dual) { /* L^-T z has the covariance (L L^T)^-1 */
        for (int i = 0; i < p; i++) z[i] = base_rng_normal(g);
        linalg_upper_solve(r->factor, r->size, p, z, z);
        for (int i = 0; i < p; i++) w[i] = mean[i] + root * noise * z[i];
        return;
    }
    for (int i = 0; i < p; i++) w[i] = base_rng_normal(g);
    for (int i = 0; i < n; i++) z[i] = -sparse_dot(&r->rows, i, w) - noise * base_rng_normal(g);
    linalg_lower_solve(r->factor, r->size, n, z, z);
    linalg_upper_solve(r->factor, r->size, n, z, z);
    for (int i = 0; i < n; i++) add_row(&r->rows, i, z[i], w);
    for (int i = 0; i < p; i++) w[i] = mean[i] + root * w[i];
}

double ridge_intercept(const struct ridge *r, int output)
{
    return r->mean[output];
}

const double *ridge_leave_one_out(const struct ridge *r, int output)
{
    return r->loo + (size_t)output * (size_t)r->njudged;
}

double ridge_penalty(const struct ridge *r)
{
    return r->penalty;
}
