#include <float.h>
#include <stdlib.h>

#include "base/rng.h"
#include "base/stats.h"
#include "tests/base/bootstrap.h"
#include "tests/tap.h"

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* tau_b from its definition, pair by pair. */
static double tau_slow(const double *x, const double *y, int n)
{
    double s = 0, in_x = 0, in_y = 0;
    for (int i = 0; i < n; i++) {
        for (int j = 0; j < i; j++) {
            int a = (x[i] > x[j]) - (x[i] < x[j]), b = (y[i] > y[j]) - (y[i] < y[j]);
            s += a * b;
            in_x += a != 0;
            in_y += b != 0;
        }
    }
    return in_x > 0 && in_y > 0 ? s / sqrt(in_x * in_y) : NAN;
}

/* Pearson's correlation of ranks counted pair by pair. */
static double rho_slow(const double *x, const double *y, int n)
{
    double sx = 0, sy = 0, sxy = 0, sxx = 0, syy = 0;
    for (int i = 0; i < n; i++) {
        double rx = 0.5, ry = 0.5;
        for (int j = 0; j < n; j++) {
            rx += x[j] < x[i] ? 1 : x[j] == x[i] ? 0.5 : 0;
            ry += y[j] < y[i] ? 1 : y[j] == y[i] ? 0.5 : 0;
        }
        sx += rx;
        sy += ry;
        sxy += rx * ry;
        sxx += rx * rx;
        syy += ry * ry;
    }
    double vx = sxx - sx * sx / n, vy = syy - sy * sy / n;
    return vx > 0 && vy > 0 ? (sxy - sx * sy / n) / sqrt(vx * vy) : NAN;
}

/* r of the interval for n from the ratio of whole numbers C(n,k) / 2^n, in long double. */
static int order_slow(int n)
{
    long double below = 0, term = 1;
    for (int i = 0; i < n; i++) term /= 2;
    for (int r = 0;; r++) {
        below += term;
        if (below > 0.025L) return r;
        term = term * (n - r) / (r + 1);
    }
}

static void bootstrap(void)
{
    struct base_stats_value v[BASE_STATS_KINDS];
    for (int i = 0; i < (int)(sizeof bootstrap_golden / sizeof *bootstrap_golden); i++) {
        const struct bootstrap_golden *b = &bootstrap_golden[i];
        const double *const want[] = {[BASE_STATS_RHO] = b->rho, [BASE_STATS_TAU] = b->tau, [BASE_STATS_REGRET] = b->regret, [BASE_STATS_BETTER] = b->better};
        double off = base_stats_compare(b->x, b->y, b->z, b->n, BOOTSTRAP_DRAWS, (uint64_t)i + 1, v) ? INFINITY : 0;
        for (int k = 0; k < BASE_STATS_KINDS; k++) off = fmax(off, fmax(fabs(v[k].value - want[k][0]), fmax(fabs(v[k].low - want[k][1]), fabs(v[k].high - want[k][2]))));
        ok(off < 1e-12, "rho, tau_b, regret, a difference and their bootstrap intervals over %d samples: %.1e off SciPy's", b->n, off);
        is_int(base_stats_compare(b->x, b->y, b->z, b->n, 0, 1, v), ST_OK, "values alone");
        ok(fabs(v[BASE_STATS_RHO].value - b->rho[0]) < 1e-12 && isnan(v[BASE_STATS_RHO].low) && isnan(v[BASE_STATS_BETTER].high), "have no ends");
        base_stats_compare(b->x, b->y, NULL, b->n, 0, 1, v);
        ok(v[BASE_STATS_BETTER].value == v[BASE_STATS_RHO].value, "against nothing: rho itself");
    }
    double x[3] = {1, 1, 2}, y[3] = {5, 3, 1}, nan[3] = {1, NAN, 2};
    double tenths[] = {0.1, 0.1, 0.1, 0.1, 0.1, 0.1}, flat6[6] = {0};
    ok(!base_stats_compare(x, y, NULL, 3, 0, 1, v) && v[BASE_STATS_REGRET].value == 3 && !base_stats_compare(y, y, NULL, 3, 0, 1, v) && v[BASE_STATS_REGRET].value == 0,
       "regret: of several picks their mean");
    ok(!base_stats_compare(flat6, tenths, NULL, 6, 0, 1, v) && v[BASE_STATS_REGRET].value == 0, "and never below 0 by rounding");
    double same[3] = {1, 1, 1};
    is_int(base_stats_compare(same, y, NULL, 3, 10, 1, v), ST_OK, "an interval of what is never defined");
    ok(isnan(v[BASE_STATS_RHO].value) && isnan(v[BASE_STATS_RHO].low) && isnan(v[BASE_STATS_TAU].high), "is none");
    is_int(base_stats_compare(nan, y, y, 3, 10, 1, v), ST_OK, "a NaN");
    ok(isnan(v[BASE_STATS_RHO].value) && isnan(v[BASE_STATS_REGRET].value), "has no order");
    ok(!base_stats_compare(x, y, y, 0, 10, 1, v) && isnan(v[BASE_STATS_REGRET].value), "no sample");
    ok(!base_stats_compare(x, y, y, 1, 10, 1, v) && isnan(v[BASE_STATS_TAU].value) && v[BASE_STATS_REGRET].value == 0 && v[BASE_STATS_REGRET].high == 0, "one sample");
    ok(base_stats_compare(x, y, y, -1, 10, 1, v) && base_stats_compare(x, y, y, 3, -1, 1, v) && base_stats_compare(x, y, y, BASE_STATS_COMPARE_MAX + 1, 1, 1, v), "numbers that are none");
}

int main(void)
{
    struct base_rng r = base_rng_at(9, RNG_TEST, 0);
    double x[400], y[400], s[400], median, low, high;
    int good = 1, medians = 1;
    for (int n = 1; n <= 400; n++) {
        for (int i = 0; i < n; i++) s[i] = x[i] = base_rng_unit(&r);
        qsort(s, (size_t)n, sizeof *s, by_value);
        if (base_stats_median_ci(x, n, &median, &low, &high)) good = 0;
        int k = order_slow(n);
        good &= n < 6 ? low == s[0] && high == s[n - 1] : low == s[k - 1] && high == s[n - k];
        medians &= fabs(median - (s[(n - 1) / 2] + s[n / 2]) / 2) < 1e-15;
    }
    ok(good, "median: interval for n = 1 .. 400");
    ok(medians, "median: value for n = 1 .. 400");
    /* Tables of the sign test: n = 20 gives the 6th, n = 50 the 18th, n = 100 the 40th. */
    for (int i = 0; i < 100; i++) x[i] = 100 - i;
    base_stats_median_ci(x + 80, 20, &median, &low, &high);
    ok(low == 6 && high == 15 && median == 10.5, "median of 20: 6th and 15th");
    base_stats_median_ci(x + 50, 50, &median, &low, &high);
    ok(low == 18 && high == 33, "median of 50: 18th and 33rd");
    base_stats_median_ci(x, 100, &median, &low, &high);
    ok(low == 40 && high == 61, "median of 100: 40th and 61st");
    enum { MANY = 100000 };
    double *big = malloc(MANY * sizeof *big);
    for (int i = 0; i < MANY; i++) big[i] = i + 1;
    base_stats_median_ci(big, MANY, &median, &low, &high);
    ok(fabs(low - (MANY / 2 - 1.959964 * sqrt(MANY) / 2)) < 2 && high == MANY + 1 - low, "median of 100,000: near the normal limit");
    free(big);
    double dbl[2] = {DBL_MAX, DBL_MAX}, inf[2] = {INFINITY, INFINITY}, nan[2] = {1, NAN};
    base_stats_median_ci(dbl, 2, &median, &low, &high);
    ok(median == DBL_MAX, "median does not overflow");
    base_stats_median_ci(inf, 2, &median, &low, &high);
    ok(median == INFINITY, "median of infinities");
    is_int(base_stats_median_ci(x, 0, &median, &low, &high), ST_EINVAL, "median of nothing");
    is_int(base_stats_median_ci(nan, 2, &median, &low, &high), ST_ENONFINITE, "median with NaN");

    ok(base_stats_mean(x, 100) == 50.5, "mean");
    ok(isnan(base_stats_mean(x, 0)), "mean of nothing");

    int tau = 1, rho = 1;
    for (int n = 2; n <= 300; n += 1 + n / 20) {
        uint32_t levels = n % 3 == 0 ? 4 : n % 3 == 1 ? 1000000 : (uint32_t)n; /* many ties, none, some */
        for (int i = 0; i < n; i++) {
            x[i] = base_rng_below(&r, levels) - 2.0;
            y[i] = n % 2 ? base_rng_below(&r, levels) : x[i] + base_rng_below(&r, levels);
        }
        double a = base_stats_kendall_b(x, y, n), b = tau_slow(x, y, n);
        tau &= isnan(b) ? isnan(a) : fabs(a - b) < 1e-12;
        a = base_stats_spearman(x, y, n);
        b = rho_slow(x, y, n);
        rho &= isnan(b) ? isnan(a) : fabs(a - b) < 1e-9;
    }
    ok(tau, "Kendall's tau_b as by its definition, with and without ties");
    ok(rho, "Spearman's rho as by its definition, with and without ties");
    for (int i = 0; i < 50; i++) {
        x[i] = i;
        y[i] = exp(-i);
    }
    ok(base_stats_kendall_b(x, y, 50) == -1 && base_stats_spearman(x, y, 50) == -1, "a falling curve is -1");
    ok(base_stats_kendall_b(x, x, 50) == 1 && base_stats_spearman(x, x, 50) == 1, "itself is 1");
    for (int i = 0; i < 50; i++) y[i] = 3;
    ok(isnan(base_stats_kendall_b(x, y, 50)) && isnan(base_stats_spearman(x, y, 50)), "no variation: undefined");
    ok(isnan(base_stats_kendall_b(x, x, 1)) && isnan(base_stats_spearman(x, x, 1)), "one pair: undefined");
    y[7] = NAN;
    ok(isnan(base_stats_kendall_b(x, y, 50)) && isnan(base_stats_spearman(x, y, 50)), "NaN: undefined");
    bootstrap();
    return tap_done();
}
