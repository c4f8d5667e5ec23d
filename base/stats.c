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

/* Of sorted values, by linear interpolation (type 7 of Hyndman and Fan 1996). */
static double quantile(const double *sorted, int n, double p)
{
    double at = p * (n - 1);
    int i = (int)at;
    return i + 1 < n ? sorted[i] + (at - i) * (sorted[i + 1] - sorted[i]) : sorted[i];
}

/* ---- many draws of the same samples: what is sorted is sorted once ---- */

enum { COLUMNS = 3 }; /* x, y, z */

struct compare {
    const double *x, *y;
    int n;
    int *code[COLUMNS];   /* [n] place of a sample's value among the different ones */
    int codes[COLUMNS];
    int8_t *sign;         /* [n][n] of (x_i - x_j)(y_i - y_j); of j < i */
    int *weight;          /* [n] how often a draw has the sample */
    int *count;           /* [n] of each code, of one column */
    int64_t *rank[COLUMNS]; /* [n] by code: twice the centred rank */
    int64_t tied[COLUMNS], square[COLUMNS]; /* pairs with equal values; sum of the squares of rank */
};

static void compare_code(struct compare *c, int column, const double *v, struct pair *p)
{
    int n = c->n, k = -1;
    for (int i = 0; i < n; i++) p[i] = (struct pair){v ? v[i] : 0, 0.0, i};
    qsort(p, (size_t)n, sizeof *p, by_key);
    for (int i = 0; i < n; i++) {
        k += !i || p[i].key != p[i - 1].key;
        c->code[column][p[i].at] = k;
    }
    c->codes[column] = k + 1;
}

static void compare_rank(struct compare *c, int column)
{
    int64_t below = 0, *rank = c->rank[column];
    const int *code = c->code[column];
    memset(c->count, 0, (size_t)c->codes[column] * sizeof *c->count);
    for (int i = 0; i < c->n; i++) c->count[code[i]] += c->weight[i];
    c->tied[column] = c->square[column] = 0;
    for (int k = 0; k < c->codes[column]; k++) {
        int64_t m = c->count[k];
        rank[k] = 2 * below + m - c->n;
        c->square[column] += m * rank[k] * rank[k];
        c->tied[column] += pairs_of(m);
        below += m;
    }
}

static double compare_rho(const struct compare *c, int column)
{
    int64_t sum = 0;
    for (int i = 0; i < c->n; i++) sum += c->weight[i] * c->rank[column][c->code[column][i]] * c->rank[1][c->code[1][i]];
    return c->square[column] && c->square[1] ? (double)sum / sqrt((double)c->square[column] * (double)c->square[1]) : NAN;
}

static double compare_tau(const struct compare *c)
{
    int64_t sum = 0, all = pairs_of(c->n);
    for (int i = 1; i < c->n; i++) {
        const int8_t *sign = c->sign + (size_t)i * (size_t)c->n;
        int part = 0; /* at most n = BASE_STATS_COMPARE_MAX in size */
        if (!c->weight[i]) continue;
        for (int j = 0; j < i; j++) part += c->weight[j] * sign[j];
        sum += (int64_t)c->weight[i] * part;
    }
    double in_x = (double)(all - c->tied[0]), in_y = (double)(all - c->tied[1]);
    return in_x > 0 && in_y > 0 ? (double)sum / (sqrt(in_x) * sqrt(in_y)) : NAN;
}

static double compare_regret(const struct compare *c)
{
    double low = INFINITY, least = INFINITY, sum = 0;
    int picked = 0;
    for (int i = 0; i < c->n; i++) {
        if (!c->weight[i]) continue;
        least = fmin(least, c->y[i]);
        if (c->x[i] < low) low = c->x[i], sum = 0, picked = 0;
        if (c->x[i] == low) sum += c->weight[i] * c->y[i], picked += c->weight[i];
    }
    return fmax(sum / picked - least, 0); /* the mean of equals may round below them */
}

/* Of the samples as often as weight says. */
static void compare_draw(struct compare *c, double out[BASE_STATS_KINDS])
{
    for (int k = 0; k < COLUMNS; k++) compare_rank(c, k);
    double other = compare_rho(c, 2);
    out[BASE_STATS_RHO] = compare_rho(c, 0);
    out[BASE_STATS_TAU] = compare_tau(c);
    out[BASE_STATS_REGRET] = compare_regret(c);
    out[BASE_STATS_BETTER] = out[BASE_STATS_RHO] - (isnan(other) ? 0 : other);
}

static void compare_fini(struct compare *c)
{
    for (int k = 0; k < COLUMNS; k++) {
        free(c->code[k]);
        free(c->rank[k]);
    }
    free(c->sign);
    free(c->weight);
    free(c->count);
}

static st_t compare_init(struct compare *c, const double *x, const double *y, const double *z, int n)
{
    size_t m = (size_t)n;
    const double *v[COLUMNS] = {x, y, z};
    struct pair *p = malloc(m * sizeof *p);
    *c = (struct compare){.x = x, .y = y, .n = n, .sign = malloc(m * m), .weight = malloc(m * sizeof *c->weight), .count = malloc(m * sizeof *c->count)};
    bool there = p && c->sign && c->weight && c->count;
    for (int k = 0; k < COLUMNS; k++) {
        c->code[k] = malloc(m * sizeof *c->code[k]);
        c->rank[k] = malloc(m * sizeof *c->rank[k]);
        there = there && c->code[k] && c->rank[k];
    }
    for (int k = 0; k < COLUMNS && there; k++) compare_code(c, k, v[k], p);
    for (int i = 0; i < n && there; i++) {
        c->weight[i] = 1;
        for (int j = 0; j < i; j++) c->sign[(size_t)i * m + (size_t)j] = (int8_t)(((x[i] > x[j]) - (x[i] < x[j])) * ((y[i] > y[j]) - (y[i] < y[j])));
    }
    free(p);
    if (!there) compare_fini(c);
    return there ? ST_OK : ST_ENOMEM;
}

/* value[resamples][BASE_STATS_KINDS], sorted[resamples]: scratch. */
static void intervals(struct compare *c, int resamples, uint64_t seed, double (*value)[BASE_STATS_KINDS], double *sorted, struct base_stats_value *out)
{
    for (int i = 0; i < resamples; i++) {
        struct base_rng r = base_rng_at(seed, RNG_BOOT, (uint64_t)i);
        memset(c->weight, 0, (size_t)c->n * sizeof *c->weight);
        for (int j = 0; j < c->n; j++) c->weight[base_rng_below(&r, (uint32_t)c->n)]++;
        compare_draw(c, value[i]);
    }
    for (int s = 0; s < BASE_STATS_KINDS; s++) {
        int k = 0;
        for (int i = 0; i < resamples; i++)
            if (!isnan(value[i][s])) sorted[k++] = value[i][s];
        if (2 * k < resamples || isnan(out[s].value)) continue;
        qsort(sorted, (size_t)k, sizeof *sorted, by_value);
        out[s].low = quantile(sorted, k, 0.025);
        out[s].high = quantile(sorted, k, 0.975);
    }
}

st_t base_stats_compare(const double *x, const double *y, const double *z, int n, int resamples, uint64_t seed, struct base_stats_value out[BASE_STATS_KINDS])
{
    struct compare c;
    double once[BASE_STATS_KINDS];
    if (n < 0 || n > BASE_STATS_COMPARE_MAX || resamples < 0) return ST_EINVAL;
    for (int s = 0; s < BASE_STATS_KINDS; s++) out[s] = (struct base_stats_value){NAN, NAN, NAN};
    if (n < 1 || any_nan(x, n) || any_nan(y, n)) return ST_OK;
    st_t st = compare_init(&c, x, y, z, n);
    if (st) return st;
    compare_draw(&c, once);
    for (int s = 0; s < BASE_STATS_KINDS; s++) out[s].value = once[s];
    double (*value)[BASE_STATS_KINDS] = malloc(((size_t)resamples + 1) * sizeof *value), *sorted = malloc(((size_t)resamples + 1) * sizeof *sorted);
    if (!value || !sorted) st = ST_ENOMEM;
    else if (resamples) intervals(&c, resamples, seed, value, sorted, out);
    free(value);
    free(sorted);
    compare_fini(&c);
    return st;
}
