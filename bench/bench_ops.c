/* Attention, decoding and the element and row ops of models a, b and c (bench/SPEED.md), batch 16 x 256, and their
 * share of what this machine's multipliers and memory give.
 *
 *   bench_ops [THREADS [DEVICE [ROUNDS [WORD [bf16]]]]]   default: 2 cpu 15, every op, f32; WORD: only lines with it
 *
 * First the limits: fused multiply-adds from registers, and a copy of 256 MiB (bytes read plus bytes written). Then for
 * each op the min and median time of the rounds, GFLOP/s and GB/s at the min (operations and bytes of kernels/cost.h),
 * and the larger share of the two limits. */
#ifndef VEC_PASS
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/rng.h"
#include "kernels/cost.h"
#include "kernels/cpu/cpu.h"

#define VEC_FILE "bench/bench_ops.c"
#include "kernels/cpu/vec_each.h"

static float (*const fma_each[])(long n) = VEC_EACH(fma_loop);
static const int fma_flops_each[] = VEC_EACH(fma_flops);

enum { ROUNDS_MAX = 101, BATCH = 16, T = 256, N = BATCH * T };

static const struct model {
    const char *name;
    int64_t layers, d, h, g, k, f, params;
} models[] = {{"a", 4, 128, 4, 4, 32, 384, 920000},
              {"b", 6, 256, 8, 2, 32, 704, 4360000},
              {"c", 8, 512, 8, 8, 64, 1408, 26000000}};

static struct kn_dev *dev;
static int rounds = 15;
static const char *word = "";
static double peak_flops, peak_bytes;

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void *memory(size_t bytes)
{
    void *p;
    if (kn_alloc(dev, bytes, &p)) abort();
    return p;
}

static float *floats(int64_t n)
{
    float *p = memory((size_t)n * sizeof *p);
    struct base_rng r = base_rng_at(1, RNG_TEST, (uint64_t)n);
    for (int64_t i = 0; i < n; i++) p[i] = (float)base_rng_unit(&r) - 0.5f;
    return p;
}

#define MEASURE(call, ns)                                                  \
    do {                                                                   \
        double v_[ROUNDS_MAX];                                             \
        long reps_ = 1;                                                    \
        for (int r_ = -1; r_ < rounds; r_++) {                             \
            uint64_t t_ = base_clock_ns();                                 \
            for (long i_ = 0; i_ < reps_; i_++)                            \
                if (call) abort();                                         \
            double each_ = (double)(base_clock_ns() - t_) / (double)reps_; \
            if (r_ >= 0) v_[r_] = each_;                                   \
            if (r_ < 0 && each_ < 1e6) reps_ = (long)(1e6 / each_) + 1;    \
        }                                                                  \
        qsort(v_, (size_t)rounds, sizeof *v_, by_value);                   \
        ns[0] = v_[0];                                                     \
        ns[1] = v_[rounds / 2];                                            \
    } while (0)

#define LINE(cost, call, ...)                                                                                       \
    do {                                                                                                            \
        char name_[96];                                                                                             \
        snprintf(name_, sizeof name_, __VA_ARGS__);                                                                 \
        if (!strstr(name_, word)) break;                                                                            \
        double ns_[2];                                                                                              \
        MEASURE(call, ns_);                                                                                         \
        struct kn_cost c_ = cost;                                                                                   \
        double f_ = c_.flops / ns_[0] / peak_flops, b_ = c_.bytes / ns_[0] / peak_bytes;                            \
        printf("%-34s min %9.1f us  med %9.1f us  %7.1f GFLOP/s %6.1f GB/s  %3.0f %% of %s\n", name_, ns_[0] / 1e3, \
               ns_[1] / 1e3, c_.flops / ns_[0], c_.bytes / ns_[0], 100 * (f_ > b_ ? f_ : b_),                       \
               f_ > b_ ? "multipliers" : "memory");                                                                 \
        fflush(stdout);                                                                                             \
    } while (0)

static volatile float sink;

static void peak_task(void *ctx, int task, int worker)
{
    sink = fma_each[cpu_of(dev)->isa](4000000);
}

static st_t peak_run(void)
{
    base_pool_run(dev->pool, peak_task, NULL, dev->info.threads);
    return ST_OK;
}

static void limits(void)
{
    int64_t n = 64 << 20;
    double ns[2];
    struct kn_tensor x = kn_t1(memory((size_t)n * 4), KN_F32, n), y = kn_t1(memory((size_t)n * 4), KN_F32, n);
    MEASURE(peak_run(), ns);
    peak_flops = 4000000.0 * fma_flops_each[cpu_of(dev)->isa] * dev->info.threads / ns[0];
    MEASURE(dev->op->copy(dev, &x, &y), ns);
    peak_bytes = 8.0 * (double)n / ns[0];
    printf("%s, %d threads: %.1f GFLOP/s of multiply-adds, %.1f GB/s of a copy\n", dev->info.isa, dev->info.threads,
           peak_flops, peak_bytes);
    kn_free(dev, x.p, (size_t)n * 4);
    kn_free(dev, y.p, (size_t)n * 4);
}

static void attention(const struct model *m)
{
    int64_t row = (m->h + 2 * m->g) * m->k, qn = m->h * m->k, kn = m->g * m->k;
    struct kn_tensor qkv = kn_t3(floats(N * row), KN_F32, BATCH, T, row),
                     dqkv = kn_t3(floats(N * row), KN_F32, BATCH, T, row);
    struct kn_tensor part[2][3];
    for (int i = 0; i < 2; i++)
        for (int j = 0; j < 3; j++) {
            struct kn_tensor c = kn_slice(i ? &dqkv : &qkv, 2, j == 0 ? 0 : qn + (j - 1) * kn, j == 0 ? qn : kn);
            part[i][j] = kn_split(&c, 2, j == 0 ? m->h : m->g, m->k);
        }
    struct kn_tensor *q = &part[0][0], *k = &part[0][1], *v = &part[0][2];
    struct kn_tensor out = kn_t4(floats(N * qn), KN_F32, BATCH, T, m->h, m->k),
                     dout = kn_t4(floats(N * qn), KN_F32, BATCH, T, m->h, m->k);
    struct kn_tensor lse = kn_t3(floats(N * m->h), KN_F32, BATCH, m->h, T);
    double scale = 1 / sqrt((double)m->k);
    LINE(kn_cost_attention(BATCH, T, T, m->h, m->g, m->k, 0, 4), dev->op->attention(dev, q, k, v, 0, scale, &out, &lse),
         "%s attention %dx%dx%d/%dx%d", m->name, BATCH, T, (int)m->h, (int)m->g, (int)m->k);
    LINE(kn_cost_attention_bwd(BATCH, T, m->h, m->g, m->k, 0, 4),
         dev->op->attention_bwd(dev, q, k, v, &out, &lse, &dout, 0, scale, &part[1][0], &part[1][1], &part[1][2]),
         "%s attention_bwd", m->name);
    LINE(kn_cost_attention(BATCH, T, T, m->h, m->g, m->k, 64, 4),
         dev->op->attention(dev, q, k, v, 64, scale, &out, &lse), "%s attention, window 64", m->name);
    LINE(kn_cost_rope(N, m->h + m->g, m->k, 4),
         (dev->op->rope(dev, q, 0, 10000, 0) || dev->op->rope(dev, k, 0, 10000, 0)), "%s rope of q and k", m->name);
    int64_t longest = 4096;
    struct kn_tensor one = kn_t4(floats(qn), KN_F32, 1, 1, m->h, m->k),
                     o1 = kn_t4(floats(qn), KN_F32, 1, 1, m->h, m->k);
    struct kn_tensor ck = kn_t4(floats(longest * kn), KN_F32, 1, longest, m->g, m->k),
                     cv = kn_t4(floats(longest * kn), KN_F32, 1, longest, m->g, m->k);
    for (int64_t s = 128; s <= longest; s *= s == 128 ? 8 : 4) {
        struct kn_tensor sk = kn_slice(&ck, 1, 0, s), sv = kn_slice(&cv, 1, 0, s);
        LINE(kn_cost_attention(1, 1, s, m->h, m->g, m->k, 0, 4),
             dev->op->attention(dev, &one, &sk, &sv, 0, scale, &o1, NULL), "%s decode at %d", m->name, (int)s);
    }
}

static void rows(const struct model *m)
{
    struct kn_tensor x = kn_t2(floats(N * m->d), KN_F32, N, m->d), r = kn_t2(floats(N * m->d), KN_F32, N, m->d);
    struct kn_tensor y = kn_t2(floats(N * m->d), KN_F32, N, m->d), w = kn_t1(floats(m->d), KN_F32, m->d),
                     dw = kn_t1(floats(m->d), KN_F32, m->d);
    struct kn_tensor rstd = kn_t1(floats(N), KN_F32, N);
    LINE(kn_cost_rmsnorm(N, m->d, 4), (dev->op->fill(dev, &r, 0) || dev->op->rmsnorm(dev, &x, &r, &w, 1e-5, &y, &rstd)),
         "%s fill, rmsnorm %dx%d", m->name, N, (int)m->d);
    LINE(kn_cost_rmsnorm(N, m->d, 4), dev->op->rmsnorm(dev, &x, &r, &w, 1e-5, &y, &rstd), "%s rmsnorm", m->name);
    LINE(kn_cost_rmsnorm_bwd(N, m->d, 4), dev->op->rmsnorm_bwd(dev, &x, &w, &rstd, &y, &r, &dw), "%s rmsnorm_bwd",
         m->name);
    struct kn_tensor tok = kn_t1(memory(N * 4), KN_I32, N), table = kn_t2(floats(256 * m->d), KN_F32, 256, m->d);
    for (int i = 0; i < N; i++) ((int32_t *)tok.p)[i] = i * 7919 % 251;
    struct kn_cost embed = {0, 8.0 * (double)(N * m->d)},
                   embed_bwd = {(double)(N * m->d), 4.0 * (double)(N * m->d) + 8.0 * (double)(256 * m->d)};
    LINE(embed, dev->op->embed(dev, &tok, &table, &x), "%s embed", m->name);
    LINE(embed_bwd, dev->op->embed_bwd(dev, &tok, &x, &table), "%s embed_bwd", m->name);
    struct kn_tensor gu = kn_t2(floats(N * 2 * m->f), KN_F32, N, 2 * m->f),
                     dgu = kn_t2(floats(N * 2 * m->f), KN_F32, N, 2 * m->f);
    struct kn_tensor h = kn_t2(floats(N * m->f), KN_F32, N, m->f);
    struct kn_tensor g = kn_slice(&gu, 1, 0, m->f), u = kn_slice(&gu, 1, m->f, m->f), dg = kn_slice(&dgu, 1, 0, m->f),
                     du = kn_slice(&dgu, 1, m->f, m->f);
    LINE(kn_cost_swiglu(N, m->f, 4), dev->op->swiglu(dev, &g, &u, &h), "%s swiglu %dx%d", m->name, N, (int)m->f);
    LINE(kn_cost_swiglu_bwd(N, m->f, 4), dev->op->swiglu_bwd(dev, &g, &u, &h, &dg, &du), "%s swiglu_bwd", m->name);
}

static void slabs(const struct model *m)
{
    int64_t n = m->params;
    struct kn_tensor p = kn_t1(floats(n), KN_F32, n), g = kn_t1(floats(n), KN_F32, n),
                     mo = kn_t1(memory((size_t)n * 4), KN_F32, n);
    struct kn_tensor v = kn_t1(memory((size_t)n * 4), KN_F32, n);
    struct kn_adamw hyper = {1e-3, 0.9, 0.95, 1e-8, 0.1, 1, 1};
    double sum;
    struct kn_cost sumsq = {2.0 * (double)n, 4.0 * (double)n}, axpy = {2.0 * (double)n, 12.0 * (double)n},
                   fill = {0, 4.0 * (double)n};
    LINE(kn_cost_adamw(n), dev->op->adamw(dev, &p, &g, &mo, &v, &hyper), "%s adamw %d", m->name, (int)n);
    LINE(sumsq, dev->op->sumsq(dev, &g, &sum), "%s sumsq", m->name);
    LINE(axpy, dev->op->axpy(dev, 1e-9, &p, &g), "%s axpy", m->name);
    LINE(fill, dev->op->fill(dev, &g, 0), "%s fill", m->name);
    kn_free(dev, p.p, (size_t)n * 4);
    kn_free(dev, g.p, (size_t)n * 4);
    kn_free(dev, mo.p, (size_t)n * 4);
    kn_free(dev, v.p, (size_t)n * 4);
}

int main(int argc, char **argv)
{
    struct base_err err = BASE_ERR_INIT;
    if (argc > 3) rounds = atoi(argv[3]);
    if (argc > 4) word = argv[4];
    if (rounds < 1 || rounds > ROUNDS_MAX ||
        kn_dev_open(&dev, argc > 2 ? argv[2] : "cpu", argc > 1 ? atoi(argv[1]) : 2, &err)) {
        fprintf(stderr, "bench_ops [THREADS [DEVICE [ROUNDS [WORD [bf16]]]]]: %s\n", err.what);
        return 1;
    }
    if (argc > 5 && kn_precision(dev, KN_BF16)) {
        fprintf(stderr, "bench_ops: this device has no bf16\n");
        return 1;
    }
    limits();
    for (int i = 0; i < 3; i++) {
        attention(&models[i]);
        rows(&models[i]);
        slabs(&models[i]);
    }
    return 0;
}

#else

enum { VEC_NAME(fma_flops) = 12 * VL * 2 };

/* Twelve chains hide the latency of two multiply-adds a cycle. */
static float VEC_NAME(fma_loop)(long n)
{
    vf a[12], x = vf_set1(0.999f), y = vf_set1(0.001f);
#pragma GCC unroll 12
    for (int i = 0; i < 12; i++) a[i] = vf_set1((float)i);
    for (long k = 0; k < n; k++) {
#pragma GCC unroll 12
        for (int i = 0; i < 12; i++) a[i] = vf_fma(a[i], x, y);
    }
    float s = 0;
    for (int i = 0; i < 12; i++) s += vf_hsum(a[i]);
    return s;
}

#endif
