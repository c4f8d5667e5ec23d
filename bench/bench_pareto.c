/* Times of the Pareto arithmetic: best of a few runs, milliseconds.
 *
 *   bench/bench_pareto [N...]        default 10000 100000 1000000 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/pareto.h"
#include "base/rng.h"

enum shape { CUBE, SPHERE };

/* CUBE: uniform, nearly all dominated. SPHERE: |y| = 1 in the positive orthant of 1 - y, all of them in the front. */
static double *points(enum shape shape, long n, int m)
{
    double *y = malloc((size_t)n * (size_t)m * sizeof *y);
    struct base_rng r = base_rng_at(1, RNG_TEST, (uint64_t)n);
    for (long i = 0; y && i < n; i++) {
        double sum = 0.0, *p = y + i * m;
        for (int j = 0; j < m; j++) {
            p[j] = shape == CUBE ? base_rng_unit(&r) : fabs(base_rng_normal(&r));
            sum += p[j] * p[j];
        }
        for (int j = 0; j < m && shape == SPHERE; j++) p[j] = 1.0 - p[j] / sqrt(sum);
    }
    return y;
}

static void report(const char *what, const char *shape, long n, int m, uint64_t ns, double result)
{
    printf("%-12s %-7s m=%d n=%-8ld %10.3f ms   -> %.10g\n", what, shape, m, n, (double)ns * 1e-6, result);
    fflush(stdout);
}

#define BEST_OF(times, ns, statement)                            \
    do {                                                         \
        ns = UINT64_MAX;                                         \
        for (int run_ = 0; run_ < (times); run_++) {             \
            uint64_t start_ = base_clock_ns();                   \
            statement;                                           \
            uint64_t took_ = base_clock_ns() - start_;           \
            if (took_ < ns) ns = took_;                          \
        }                                                        \
    } while (0)

static void bench(enum shape shape, long n, int m)
{
    static const double ref[16] = {1.1, 1.1, 1.1, 1.1, 1.1, 1.1, 1.1, 1.1, 1.1, 1.1, 1.1, 1.1, 1.1, 1.1, 1.1, 1.1};
    const char *name = shape == CUBE ? "cube" : "sphere";
    double *y = points(shape, n, m), *hv = malloc((size_t)n * sizeof *hv), volume;
    uint8_t *front = malloc((size_t)n);
    int *rank = malloc((size_t)n * sizeof *rank);
    if (!y || !front || !rank || !hv) {
        fprintf(stderr, "bench_pareto: out of memory\n");
        exit(1);
    }
    uint64_t ns;
    long members;
    BEST_OF(5, ns, members = base_pareto_front(y, n, m, front));
    report("front", name, n, m, ns, (double)members);
    if (m <= 3 || shape == CUBE ? n <= 1000000 : n <= 1000) {
        BEST_OF(3, ns, volume = base_pareto_hypervolume(y, n, m, ref));
        report("hypervolume", name, n, m, ns, volume);
    }
    if (n <= 100000) {
        BEST_OF(2, ns, base_pareto_rank(y, NULL, n, m, rank));
        report("rank", name, n, m, ns, rank[n - 1]);
    }
    if (m <= 3 ? n <= 100000 : shape == CUBE && n <= 10000) {
        BEST_OF(1, ns, base_pareto_hv_progress(y, n, m, ref, hv));
        report("hv_progress", name, n, m, ns, hv[n - 1]);
    }
    free(y);
    free(front);
    free(rank);
    free(hv);
}

int main(int argc, char **argv)
{
    static const char *const usual[] = {"", "1000", "10000", "100000", "1000000"};
    int count = argc > 1 ? argc : 5;
    for (int i = 1; i < count; i++) {
        long n = atol(argc > 1 ? argv[i] : usual[i]);
        if (n < 1) {
            fprintf(stderr, "usage: bench_pareto [N...]\n");
            return 2;
        }
        for (int m = 2; m <= 4; m++) {
            bench(CUBE, n, m);
            if (m < 4 || n <= 10000) bench(SPHERE, n, m);
        }
    }
    return 0;
}
