#include "base/stats.h"

#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static int any_nan(const double *x, int n)
{
    for (int i = 0; i < n; i++)
        if (isnan(x[i])) return 1;
    return 0;
}

/* Largest r with P(Binomial(n, 1/2) < r) <= 0.025. The terms are summed from the tail, each from the one before it: in
 * logarithms, since 2^-n underflows from n = 1075 on. */
static int order_statistic(int n)
{
    double log_term = -n * log(2.0), below = 0.0;
    int r = 0;
    for (;; r++) {
        below += exp(log_term); /* P(B < r + 1) */
        if (below > 0.025) return r;
        log_term += log((double)(n - r) / (r + 1));
    }
}

st_t base_stats_median_ci(const double *x, int n, double *median, double *low, double *high)
{
    if (n < 1) return ST_EINVAL;
    if (any_nan(x, n)) return ST_ENONFINITE;
    double *s = malloc((size_t)n * sizeof *s);
    if (!s) return ST_ENOMEM;
    memcpy(s, x, (size_t)n * sizeof *s);
    qsort(s, (size_t)n, sizeof *s, by_value);
    double a = s[(n - 1) / 2], b = s[n / 2];
    *median = a == b ? a : 0.5 * a + 0.5 * b;
    int r = order_statistic(n);
    if (r < 1) r = 1;
    *low = s[r - 1];
    *high = s[n - r];
    free(s);
    return ST_OK;
}

double base_stats_mean(const double *x, int n)
{
    if (n < 1) return NAN;
    double sum = 0.0;
    for (int i = 0; i < n; i++) sum += x[i];
    return sum / n;
}

struct pair {
    double key, other;
    int at;
};

static int by_key(const void *a, const void *b)
{
    const struct pair *p = a, *q = b;
    return (p->key > q->key) - (p->key < q->key);
}

static int by_key_and_other(const void *a, const void *b)
{
    const struct pair *p = a, *q = b;
    int c = by_key(a, b);
    return c ? c : (p->other > q->other) - (p->other < q->other);
}

/* Ranks from 1, ties get their mean, less the mean of all ranks; p is scratch. Ranks are multiples of 1/2, so sums are exact. */
static void centred_ranks(const double *x, int n, struct pair *p, double *rank)
{
    for (int i = 0; i < n; i++) p[i] = (struct pair){x[i], 0.0, i};
    qsort(p, (size_t)n, sizeof *p, by_key);
    for (int i = 0, j; i < n; i = j) {
        for (j = i + 1; j < n && p[j].key == p[i].key; j++) {
        }
        for (int k = i; k < j; k++) rank[p[k].at] = 0.5 * (i + 1 + j) - 0.5 * (n + 1);
    }
}

double base_stats_spearman(const double *x, const double *y, int n)
{
    if (n < 2 || any_nan(x, n) || any_nan(y, n)) return NAN;
    double *rx = malloc((size_t)n * sizeof *rx), *ry = malloc((size_t)n * sizeof *ry), xy = 0.0, xx = 0.0, yy = 0.0;
    struct pair *p = malloc((size_t)n * sizeof *p);
    double rho = NAN;
    if (rx && ry && p) {
        centred_ranks(x, n, p, rx);
        centred_ranks(y, n, p, ry);
        for (int i = 0; i < n; i++) {
            xy += rx[i] * ry[i];
            xx += rx[i] * rx[i];
            yy += ry[i] * ry[i];
        }
        if (xx > 0 && yy > 0) rho = xy / sqrt(xx * yy);
    }
    free(rx);
    free(ry);
    free(p);
    return rho;
}

/* Sorts v[n] with scratch t[n]; returns the number of pairs that were in falling order. */
static int64_t merge_count(double *v, double *t, int n)
{
    if (n < 2) return 0;
    int half = n / 2;
    int64_t swaps = merge_count(v, t, half) + merge_count(v + half, t, n - half);
    for (int i = 0, j = half, k = 0; k < n; k++) {
        if (i < half && (j == n || v[i] <= v[j])) {
            t[k] = v[i++];
        } else {
            t[k] = v[j++];
            swaps += half - i;
        }
    }
    memcpy(v, t, (size_t)n * sizeof *v);
    return swaps;
}

static int64_t pairs_of(int64_t n)
{
    return n * (n - 1) / 2;
}

double base_stats_kendall_b(const double *x, const double *y, int n)
{
    if (n < 2 || any_nan(x, n) || any_nan(y, n)) return NAN;
    struct pair *p = malloc((size_t)n * sizeof *p);
    double *v = malloc((size_t)n * 2 * sizeof *v), tau = NAN;
    if (p && v) {
        for (int i = 0; i < n; i++) p[i] = (struct pair){x[i], y[i], i};
        qsort(p, (size_t)n, sizeof *p, by_key_and_other);
        int64_t all = pairs_of(n), tied_x = 0, tied_y = 0, tied_both = 0;
        for (int i = 0, j; i < n; i = j) {
            for (j = i + 1; j < n && p[j].key == p[i].key; j++) {
            }
            tied_x += pairs_of(j - i);
        }
        for (int i = 0, j; i < n; i = j) {
            for (j = i + 1; j < n && p[j].key == p[i].key && p[j].other == p[i].other; j++) {
            }
            tied_both += pairs_of(j - i);
        }
        for (int i = 0; i < n; i++) v[i] = p[i].other;
        int64_t discordant = merge_count(v, v + n, n);
        for (int i = 0, j; i < n; i = j) {
            for (j = i + 1; j < n && v[j] == v[i]; j++) {
            }
            tied_y += pairs_of(j - i);
        }
        double in_x = (double)(all - tied_x), in_y = (double)(all - tied_y);
        if (in_x > 0 && in_y > 0)
            tau = (double)(all - tied_x - tied_y + tied_both - 2 * discordant) / (sqrt(in_x) * sqrt(in_y));
    }
    free(p);
    free(v);
    return tau;
}

double base_stats_regret(const double *predicted, const double *truth, int n)
{
    if (n < 1 || any_nan(predicted, n) || any_nan(truth, n)) return NAN;
    double low = predicted[0], least = truth[0], sum = 0;
    int picked = 0;
    for (int i = 1; i < n; i++) {
        low = fmin(low, predicted[i]);
        least = fmin(least, truth[i]);
    }
    for (int i = 0; i < n; i++) {
        if (predicted[i] != low) continue;
        sum += truth[i];
        picked++;
    }
    return fmax(sum / picked - least, 0); /* the mean of equals may round below them */
}

/* Of sorted values, by linear interpolation (type 7 of Hyndman and Fan 1996). */
static double quantile(const double *sorted, int n, double p)
{
    double at = p * (n - 1);
    int i = (int)at;
    return i + 1 < n ? sorted[i] + (at - i) * (sorted[i + 1] - sorted[i]) : sorted[i];
}

st_t base_stats_bootstrap(base_stats_fn f, const double *const *x, int columns, int n, int resamples, uint64_t seed, double *low, double *high)
{
    if (n < 1 || columns < 1 || columns > BASE_STATS_COLUMNS || resamples < 1) return ST_EINVAL;
    double *value = malloc((size_t)resamples * sizeof *value), *drawn = malloc((size_t)n * (size_t)columns * sizeof *drawn);
    const double *column[BASE_STATS_COLUMNS];
    int k = 0;
    for (int c = 0; c < columns && drawn; c++) column[c] = drawn + (size_t)c * (size_t)n;
    for (int i = 0; i < resamples && value && drawn; i++) {
        struct base_rng r = base_rng_at(seed, RNG_BOOT, (uint64_t)i);
        for (int j = 0; j < n; j++) {
            uint32_t from = base_rng_below(&r, (uint32_t)n);
            for (int c = 0; c < columns; c++) drawn[(size_t)c * (size_t)n + (size_t)j] = x[c][from];
        }
        value[k] = f(column, n);
        k += !isnan(value[k]);
    }
    st_t st = value && drawn ? ST_OK : ST_ENOMEM;
    bool enough = !st && 2 * k >= resamples;
    if (enough) qsort(value, (size_t)k, sizeof *value, by_value);
    if (!st) *low = enough ? quantile(value, k, 0.025) : NAN;
    if (!st) *high = enough ? quantile(value, k, 0.975) : NAN;
    free(value);
    free(drawn);
    return st;
}
