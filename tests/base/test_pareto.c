/* Everything against counting pair by pair, closed forms, and inclusion-exclusion. */
#include <stdbool.h>
#include <stdlib.h>

#include "base/pareto.h"
#include "base/rng.h"
#include "tests/tap.h"

enum { NMAX = 3000, MMAX = 6 };

static double y[NMAX * MMAX], viol[NMAX], hv[NMAX];
static uint8_t front[NMAX], want_front[NMAX];
static int rank[NMAX], want_rank[NMAX];

enum shape { CUBE, GRID, SPHERE, CHAIN, SAME, BAD, FLAT, NSHAPES };
static const char *const shape_name[] = {"cube", "grid with ties", "sphere", "chain", "all the same", "with NaN and inf", "one column flat"};

static void fill(struct base_rng *r, enum shape shape, int n, int m)
{
    for (int i = 0; i < n; i++) {
        double sum = 0, *p = y + i * m;
        for (int j = 0; j < m; j++) {
            p[j] = base_rng_unit(r) * 2 - 1;
            if (shape == GRID || shape == BAD) p[j] = base_rng_below(r, 7) - 3.0; /* has -0 too */
            if (shape == GRID && p[j] == 0 && base_rng_below(r, 2)) p[j] = -0.0;
            if (shape == CHAIN) p[j] = (i * 7919) % n;
            if (shape == SAME) p[j] = 0.25;
            if (shape == BAD && base_rng_below(r, 9) == 0)
                p[j] = (const double[]){NAN, INFINITY, -INFINITY}[base_rng_below(r, 3)];
            if (shape == FLAT && j == 0) p[j] = 0.5;
            sum += p[j] * p[j];
        }
        for (int j = 0; j < m && shape == SPHERE; j++) p[j] = -fabs(p[j]) / sqrt(sum);
    }
}

static double at(int i, int j, int m)
{
    double v = y[i * m + j];
    return isnan(v) ? INFINITY : v;
}

static int dominates(int a, int b, int m)
{
    int less = 0;
    for (int j = 0; j < m; j++) {
        if (at(a, j, m) > at(b, j, m)) return 0;
        less |= at(a, j, m) < at(b, j, m);
    }
    return less;
}

static int finite_row(int i, int m)
{
    for (int j = 0; j < m; j++)
        if (!(y[i * m + j] < INFINITY)) return 0;
    return 1;
}

static long slow_front(int n, int m)
{
    long count = 0;
    for (int i = 0; i < n; i++) {
        want_front[i] = (uint8_t)finite_row(i, m);
        for (int k = 0; k < n && want_front[i]; k++) want_front[i] = !dominates(k, i, m);
        count += want_front[i];
    }
    return count;
}

/* Peels front after front by definition. Classes: finite, not finite, infeasible. */
static void slow_rank(int n, int m, const double *v)
{
    int base = 0;
    for (int class = 0; class < 3; class++) {
        int left = 0, any = 0;
        for (int i = 0; i < n; i++) {
            int own = v && !(v[i] <= 0) ? 2 : !finite_row(i, m);
            if (own == class) {
                want_rank[i] = -1;
                left++;
            } else if (own > class) {
                want_rank[i] = -2;
            }
        }
        any = left > 0;
        if (any && class == 1 && base == 0) base = 1;
        for (; left > 0; base++) {
            for (int i = 0; i < n; i++) {
                if (want_rank[i] != -1) continue;
                int beaten = 0;
                for (int k = 0; k < n && !beaten; k++) {
                    if (want_rank[k] != -1 && want_rank[k] != -3) continue;
                    beaten = class == 2 ? v[k] < v[i] : dominates(k, i, m);
                }
                if (!beaten) want_rank[i] = -3; /* of this front */
            }
            for (int i = 0; i < n; i++) {
                if (want_rank[i] != -3) continue;
                want_rank[i] = base;
                left--;
            }
        }
    }
}

static void test_fronts(void)
{
    static const int sizes[] = {1, 2, 3, 7, 40, 130, 700};
    struct base_rng r = base_rng_at(11, RNG_TEST, 0);
    for (enum shape shape = 0; shape < NSHAPES; shape++) {
        int fronts = 1, ranks = 1, constrained = 1;
        for (int m = 1; m <= MMAX; m++) {
            for (size_t k = 0; k < sizeof sizes / sizeof sizes[0]; k++) {
                int n = sizes[k] > 130 && shape == CHAIN ? 130 : sizes[k];
                fill(&r, shape, n, m);
                long count = slow_front(n, m);
                memset(front, 7, sizeof front);
                fronts &= base_pareto_front(y, n, m, front) == count && !memcmp(front, want_front, (size_t)n);
                if (n > 200) continue;
                slow_rank(n, m, NULL);
                ranks &= !base_pareto_rank(y, NULL, n, m, rank) && !memcmp(rank, want_rank, (size_t)n * sizeof *rank);
                for (int i = 0; i < n; i++) viol[i] = base_rng_below(&r, 5) - 2.0;
                slow_rank(n, m, viol);
                constrained &= !base_pareto_rank(y, viol, n, m, rank) && !memcmp(rank, want_rank, (size_t)n * sizeof *rank);
            }
        }
        ok(fronts, "first front, m = 1 .. 6, %s", shape_name[shape]);
        ok(ranks, "ranks, m = 1 .. 6, %s", shape_name[shape]);
        ok(constrained, "ranks with violations, m = 1 .. 6, %s", shape_name[shape]);
    }
    /* Long enough for the filter to come round again, for radix passes, and for keys that differ in their last bits only. */
    int good = 1;
    for (int m = 2; m <= 4; m++) {
        fill(&r, CUBE, NMAX, m);
        long count = slow_front(NMAX, m);
        good &= base_pareto_front(y, NMAX, m, front) == count && !memcmp(front, want_front, NMAX);
        for (int i = 0; i < NMAX * m; i++) y[i] = 1 + (double)base_rng_below(&r, 4000) * 0x1p-52;
        count = slow_front(NMAX, m);
        good &= base_pareto_front(y, NMAX, m, front) == count && !memcmp(front, want_front, NMAX);
        for (int i = 0; i < NMAX; i++) y[i * m + m - 1] = -y[i * m]; /* the front is large: nothing is filtered */
        count = slow_front(NMAX, m);
        good &= base_pareto_front(y, NMAX, m, front) == count && !memcmp(front, want_front, NMAX);
    }
    ok(good, "first front of 3000 rows, m = 2 .. 4");
    good = 1;
    for (int m = 2; m <= 4; m++) {
        fill(&r, m == 3 ? GRID : CUBE, 1500, m);
        base_pareto_rank(y, NULL, 1500, m, rank);
        slow_rank(1500, m, NULL);
        good &= !memcmp(rank, want_rank, 1500 * sizeof *rank);
    }
    ok(good, "ranks of 1500 rows, m = 2 .. 4");
    is_int(base_pareto_front(y, 0, 3, front), 0, "the front of nothing");
    viol[0] = NAN;
    viol[1] = 5;
    base_pareto_rank(y, viol, 2, 1, rank);
    ok(rank[0] == 1 && rank[1] == 0, "a violation that is NaN is the worst");
}

static void test_crowding(void)
{
    /* Deb et al. 2002: (next - previous) / range, summed over the objectives. */
    const double p[] = {9, 9, 0, 4, 1, 2, 2, 1, 4, 0};
    const int idx[] = {3, 1, 4, 2}; /* row 0 is not of this front */
    double d[4];
    is_int(base_pareto_crowding(p, 2, idx, 4, d), ST_OK, "crowding");
    is_near(d[0], (4.0 - 1) / 4 + (2.0 - 0) / 4, 1e-15, "of an inner point");
    is_near(d[3], (2.0 - 0) / 4 + (4.0 - 1) / 4, 1e-15, "of another");
    ok(d[1] == INFINITY && d[2] == INFINITY, "of the ends");
    const double flat[] = {1, 5, 2, 5, 3, 5, 7, 5};
    const int all[] = {0, 1, 2, 3};
    base_pareto_crowding(flat, 2, all, 4, d);
    ok(d[0] == INFINITY && d[3] == INFINITY, "ends of the objective that varies");
    is_near(d[1], 2.0 / 6, 1e-15, "an objective without variation adds nothing");
    base_pareto_crowding(flat, 2, all, 2, d);
    ok(d[0] == INFINITY && d[1] == INFINITY, "two points are both ends");
}

/* Inclusion-exclusion over all subsets: exact up to rounding, for a few rows. */
static double slow_volume(const double *p, int n, int m, const double *ref)
{
    double volume = 0;
    for (unsigned set = 1; set < 1u << n; set++) {
        double box = __builtin_popcount(set) % 2 ? 1 : -1;
        for (int j = 0; j < m; j++) {
            double corner = -INFINITY;
            for (int i = 0; i < n; i++)
                if (set >> i & 1) corner = fmax(corner, isnan(p[i * m + j]) ? INFINITY : p[i * m + j]);
            box *= fmax(0, ref[j] - corner);
        }
        volume += box;
    }
    return volume;
}

static void test_hypervolume(void)
{
    struct base_rng r = base_rng_at(12, RNG_TEST, 0);
    const double ref[MMAX] = {0.9, 1.0, 0.8, 1.1, 0.7, 1.0};
    for (int m = 1; m <= MMAX; m++) {
        int volumes = 1, series = 1;
        for (int trial = 0; trial < 120; trial++) {
            int n = 1 + trial % 11;
            fill(&r, trial % 3 == 0 ? CUBE : trial % 3 == 1 ? SPHERE : GRID, n, m);
            if (trial % 5 == 0) y[base_rng_below(&r, (uint32_t)(n * m))] = NAN;
            double want = slow_volume(y, n, m, ref), got = base_pareto_hypervolume(y, n, m, ref);
            volumes &= fabs(got - want) <= 1e-9 * fmax(1, want);
            series &= !base_pareto_hv_progress(y, n, m, ref, hv);
            for (int i = 0; i < n; i++)
                series &= fabs(hv[i] - base_pareto_hypervolume(y, i + 1, m, ref)) <= 1e-9 * fmax(1, want);
        }
        ok(volumes, "hypervolume, m = %d, as by inclusion and exclusion", m);
        ok(series, "hypervolume of a series, m = %d", m);
    }

    /* n steps of a staircase: (n + 1) / 2n of the unit square; the same times a third side. */
    enum { N = 2000 };
    const double one[MMAX] = {1, 1, 1, 1, 1, 1};
    for (int i = 0; i < N; i++) {
        y[2 * i] = (double)((i * 677) % N) / N;
        y[2 * i + 1] = 1 - y[2 * i] - 1.0 / N;
    }
    is_near(base_pareto_hypervolume(y, N, 2, one), 0.5 + 0.5 / N, 1e-12, "a staircase of 2000 steps");
    base_pareto_hv_progress(y, N, 2, one, hv);
    is_near(hv[N - 1], 0.5 + 0.5 / N, 1e-12, "step by step");
    for (int i = N - 1; i >= 0; i--) {
        double a = y[2 * i], b = y[2 * i + 1];
        y[3 * i] = 0.5;
        y[3 * i + 1] = a;
        y[3 * i + 2] = b;
    }
    is_near(base_pareto_hypervolume(y, N, 3, one), 0.25 + 0.25 / N, 1e-12, "extruded");
    base_pareto_hv_progress(y, N, 3, one, hv);
    is_near(hv[N - 1], 0.25 + 0.25 / N, 1e-12, "extruded, step by step");
    /* Points of the plane x + y + z = s on a grid of k: what they dominate is a stack of unit cubes, C(k + 2, 3) of them. */
    enum { K = 60 };
    int n = 0;
    for (int a = 0; a < K; a++) {
        for (int b = 0; a + b < K; b++, n++) {
            y[3 * n] = a;
            y[3 * n + 1] = b;
            y[3 * n + 2] = K - 1 - a - b;
        }
    }
    const double k3[3] = {K, K, K};
    double cubes = (double)K * K * K - (K - 1.0) * K * (K + 1) / 6;
    ok(base_pareto_hypervolume(y, n, 3, k3) == cubes, "a pyramid of %d steps", n);
    base_pareto_hv_progress(y, n, 3, k3, hv);
    is_near(hv[n - 1], cubes, 1e-12, "a pyramid, step by step");

    /* Larger sets, m = 3 .. 5, against another way: the share of random points that a row dominates. */
    for (int m = 3; m <= 5; m++) {
        fill(&r, SPHERE, 150, m);
        double inside = 0, box = 1, got = base_pareto_hypervolume(y, 150, m, ref);
        for (int j = 0; j < m; j++) box *= ref[j] + 1;
        enum { DRAWS = 100000 };
        for (int d = 0; d < DRAWS; d++) {
            double q[MMAX];
            int hit = 0;
            for (int j = 0; j < m; j++) q[j] = base_rng_unit(&r) * (ref[j] + 1) - 1;
            for (int i = 0; i < 150 && !hit; i++) {
                hit = 1;
                for (int j = 0; j < m && hit; j++) hit = y[i * m + j] <= q[j];
            }
            inside += hit;
        }
        double p = got / box;
        ok(fabs(inside / DRAWS - p) < 5 * sqrt(p * (1 - p) / DRAWS) + 1e-9, "150 rows, m = %d: as many random points fall in", m);
    }

    /* A series whose rows displace one another, compared with the whole at places. */
    for (int m = 2; m <= 5; m++) {
        fill(&r, CUBE, NMAX, m);
        for (int i = 0; i < NMAX; i++) /* better with time, so that rows also leave the front */
            for (int j = 0; j < m; j++) y[i * m + j] -= 0.3 * i / NMAX;
        base_pareto_hv_progress(y, NMAX, m, ref, hv);
        int good = 1;
        for (int i = 0; i < NMAX; i += 371) good &= fabs(hv[i] - base_pareto_hypervolume(y, i + 1, m, ref)) < 1e-9;
        ok(good, "a series of 3000 rows, m = %d", m);
    }
    fill(&r, SPHERE, NMAX, 3);
    base_pareto_hv_progress(y, NMAX, 3, ref, hv);
    is_near(hv[NMAX - 1], base_pareto_hypervolume(y, NMAX, 3, ref), 1e-10, "a series of 3000 rows that all stay");

    for (int m = 1; m <= 4; m++) {
        double rows[8] = {0};
        is_near(base_pareto_hypervolume(one, 1, m, one), 0, 0, "m = %d: a row on the reference adds nothing", m);
        rows[m - 1] = -INFINITY;
        ok(base_pareto_hypervolume(rows, 1, m, one) == INFINITY, "m = %d: -inf is without bound", m);
        ok(!base_pareto_hv_progress(rows, 1, m, one, hv) && hv[0] == INFINITY, "m = %d: in a series too", m);
        rows[m - 1] = NAN;
        ok(base_pareto_hypervolume(rows, 1, m, one) == 0, "m = %d: NaN adds nothing", m);
    }
    ok(base_pareto_hypervolume(y, 0, 3, ref) == 0, "of nothing");
}

/* Two rows that differ in one objective: P(a < b) = Phi((b - a) / sqrt(sa^2 + sb^2)). */
static void test_membership(void)
{
    enum { DRAWS = 20000 };
    const double side = 1.959963984540054;
    double p[4], worst = 0;
    for (int t = 0; t < 6; t++) {
        double sa = 0.3 * t, sb = 0.5, gap = 0.4, v[4] = {1, 7, 1 + gap, 7};
        double low[4] = {1 - side * sa, 7, 1 + gap - side * sb, 7}, high[4] = {1 + side * sa, 7, 1 + gap + side * sb, 7};
        double want = 0.5 * erfc(-gap / sqrt(sa * sa + sb * sb) / sqrt(2));
        st_t st = base_pareto_membership(v, low, high, 2, 2, DRAWS, 3, p);
        worst = tap_worse(worst, st ? INFINITY : fmax(fabs(p[0] - want), fabs(p[1] - (1 - want))));
    }
    ok(worst < 4 * 0.5 / sqrt(DRAWS), "two rows: as often as the normal distribution says, off by %.4f", worst);
    /* Half a normal to either side: above the median with 1/2, whatever the sides. */
    double v[2] = {0, 0}, low[2] = {-1, 0}, high[2] = {9, 0};
    base_pareto_membership(v, low, high, 2, 1, DRAWS, 4, p);
    ok(fabs(p[0] - 0.5) < 4 * 0.5 / sqrt(DRAWS), "a lopsided interval keeps its median: %.3f", p[0]);
    ok(fabs(p[0] + p[1] - 1) < 1e-12, "… and one of the two is first in every draw");
    /* Exact values: the front itself. Many rows, some far beyond doubt. */
    struct base_rng r = base_rng_at(9, RNG_TEST, 0);
    int n = 400, m = 3;
    bool same = true, apart = true;
    static double q[NMAX], wide[NMAX * MMAX], tall[NMAX * MMAX];
    fill(&r, CUBE, n, m);
    base_pareto_front(y, n, m, front);
    same = !base_pareto_membership(y, y, y, n, m, 5, 1, q);
    for (int i = 0; i < n; i++) same = same && q[i] == front[i];
    ok(same, "without intervals it is the front");
    for (int i = 0; i < n * m; i++) {
        double s = 0.05 * base_rng_unit(&r);
        wide[i] = y[i] - s;
        tall[i] = y[i] + s;
    }
    base_pareto_membership(y, wide, tall, n, m, 300, 1, q);
    /* The same draws by hand, no row left out: rows that the function leaves out never come to the front, but for one draw in ten thousand. */
    int *times = calloc((size_t)n, sizeof *times);
    for (int d = 0; d < 300; d++) {
        for (int i = 0; i < n * m; i++) {
            double u = base_rng_normal(&r);
            tall[i] = y[i] + u * (y[i] - wide[i]) / side;
        }
        base_pareto_front(tall, n, m, front);
        for (int i = 0; i < n; i++) times[i] += front[i];
    }
    double off = 0;
    for (int i = 0; i < n; i++) off = fmax(off, fabs(q[i] - times[i] / 300.0));
    apart = off < 6 * 0.5 / sqrt(150);
    ok(apart, "400 rows: as draws by hand say, off by at most %.3f", off);
    free(times);
    y[0] = NAN;
    base_pareto_membership(y, y, y, n, m, 5, 1, q);
    ok(q[0] == 0, "a row that is not finite is never on it");
    ok(base_pareto_membership(y, y, y, n, m, 0, 1, q) == ST_EINVAL, "no draws are refused");
    ok(!base_pareto_membership(y, y, y, 0, m, 5, 1, q), "no rows");
}

int main(void)
{
    test_fronts();
    test_crowding();
    test_hypervolume();
    test_membership();
    return tap_done();
}
