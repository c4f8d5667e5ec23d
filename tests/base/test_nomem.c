/* Every allocation of an operation fails once: 1, then 2, then 3 … until it succeeds. Linked with --wrap for the allocators. */
#include <stdlib.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/pareto.h"
#include "base/pool.h"
#include "base/rng.h"
#include "base/stats.h"
#include "tests/tap.h"

void *__real_malloc(size_t n);
void *__real_calloc(size_t k, size_t n);
void *__real_realloc(void *p, size_t n);
void *__real_aligned_alloc(size_t align, size_t n);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t k, size_t n);
void *__wrap_realloc(void *p, size_t n);
void *__wrap_aligned_alloc(size_t align, size_t n);

static int fail_at, count; /* fail_at 0: none */

static int fails(void)
{
    return ++count == fail_at;
}

void *__wrap_malloc(size_t n)
{
    return fails() ? NULL : __real_malloc(n);
}

void *__wrap_calloc(size_t k, size_t n)
{
    return fails() ? NULL : __real_calloc(k, n);
}

void *__wrap_realloc(void *p, size_t n)
{
    return fails() ? NULL : __real_realloc(p, n);
}

void *__wrap_aligned_alloc(size_t align, size_t n)
{
    return fails() ? NULL : __real_aligned_alloc(align, n);
}

enum { N = 300 };
static double y[N * 5], ref[5] = {2, 2, 2, 2, 2};
static int m;

/* 1: done; 0: failed for want of memory; -1: anything else. */
typedef int (*op_fn)(void);

static int status(st_t st)
{
    return st == ST_OK ? 1 : st == ST_ENOMEM ? 0 : -1;
}

static int op_compare(void)
{
    struct base_stats_value v[BASE_STATS_KINDS];
    st_t st = base_stats_compare(y, y + N, NULL, 20, 8, 1, v);
    return st ? status(st) : isnan(v[BASE_STATS_TAU].low) ? 0 : 1;
}

static int op_front(void)
{
    static uint8_t front[N];
    long k = base_pareto_front(y, N, m, front);
    return k < 0 ? 0 : k > 0 ? 1 : -1;
}

static int op_rank(void)
{
    int rank[N];
    return status(base_pareto_rank(y, NULL, N, m, rank));
}

static int op_volume(void)
{
    double v = base_pareto_hypervolume(y, N, m, ref);
    return isnan(v) ? 0 : v > 0 ? 1 : -1;
}

/* The ordering along a curve may do without its scratch, so the answer has to be right whether it came or not. */
static int op_series(void)
{
    static double out[N], want;
    st_t st = base_pareto_hv_progress(y, N, m, ref, out);
    if (fail_at == 0) want = out[N - 1];
    return st || fabs(out[N - 1] - want) < 1e-9 ? status(st) : -1;
}

static int op_crowding(void)
{
    int idx[N];
    double out[N];
    for (int i = 0; i < N; i++) idx[i] = i;
    return status(base_pareto_crowding(y, m, idx, N, out));
}

static int op_median(void)
{
    double a, b, c;
    return status(base_stats_median_ci(y, N, &a, &b, &c));
}

static int op_spearman(void)
{
    return !isnan(base_stats_spearman(y, y + N, N));
}

static int op_kendall(void)
{
    return !isnan(base_stats_kendall_b(y, y + N, N));
}

static int op_buf(void)
{
    struct base_buf b = BASE_BUF_INIT;
    for (int i = 0; i < 100; i++) base_buf_printf(&b, "%d ", i);
    st_t st = b.st;
    char *p = base_buf_take(&b);
    int whole = p && strlen(p) == 290;
    free(p);
    return st == ST_OK ? (whole ? 1 : -1) : p ? -1 : status(st);
}

static int op_arena(void)
{
    struct base_arena a;
    base_arena_init(&a, 256);
    int done = 1;
    for (int i = 0; i < 20; i++) done &= base_arena_alloc(&a, 100) != NULL;
    base_arena_fini(&a);
    return done;
}

static void task(void *ctx, int i, int worker)
{
    ((int *)ctx)[i]++;
    (void)worker;
}

static int op_pool(void)
{
    struct base_pool *p = NULL;
    int hits[8] = {0}, all = 1;
    st_t st = base_pool_new(&p, 3, 0);
    if (st) return p ? -1 : status(st);
    base_pool_run(p, task, hits, 8);
    base_pool_free(p);
    for (int i = 0; i < 8; i++) all &= hits[i] == 1;
    return all ? 1 : -1;
}

static void sweep(const char *name, op_fn op, int m_now)
{
    m = m_now;
    fail_at = 0;
    int good = op() == 1, failed = 0, r;
    for (fail_at = 1;; fail_at++) {
        count = 0;
        r = op();
        if (count < fail_at) break; /* nothing was left to fail */
        failed += r == 0;
        good &= r >= 0;
    }
    fail_at = 0;
    ok(good && r == 1 && failed > 0, "%s, m = %d: %d failures, each told", name, m_now, failed);
}

int main(void)
{
    struct base_rng r = base_rng_at(21, RNG_TEST, 0);
    for (int i = 0; i < N * 5; i++) y[i] = base_rng_unit(&r);
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (int k = 2; k <= 5; k++) {
        sweep("front", op_front, k);
        sweep("rank", op_rank, k);
        sweep("hypervolume", op_volume, k);
        sweep("series", op_series, k);
        sweep("crowding", op_crowding, k);
    }
    sweep("median", op_median, 1);
    sweep("spearman", op_spearman, 1);
    sweep("kendall", op_kendall, 1);
    sweep("compare", op_compare, 1);
    sweep("buf", op_buf, 1);
    sweep("arena", op_arena, 1);
    sweep("pool", op_pool, 1);
    return tap_done();
}
