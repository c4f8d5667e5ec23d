/* Products: GFLOP/s of the CPU device and the share of what this machine's multipliers and memory give.
 *
 *   bench_gemm [THREADS [DEVICE [ROUNDS [LIB|bf16|f32 [WORD]]]]]     default: 2 cpu 15 f32; WORD: only rows with it
 *
 * bf16: with that precision, operands f32 in memory; the limit of multiply-adds is then twice that of f32.
 * LIB: a shared library with cblas_sgemm, measured on the same shapes right after each of ours (its own variable sets its threads).
 *
 * First the limits: fused multiply-adds from registers, and a copy of 256 MiB (bytes read plus bytes written). Then, for each shape, min, median
 * and max over the rounds; a round is about 2 GFLOP. "mm" takes b row-major [k, n]; "linear" takes a weight [n, k]; "grad" takes a' [k, m], as a
 * weight's gradient does. */
#ifndef VEC_PASS
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/rng.h"
#include "kernels/cpu/cpu.h"

static volatile float sink;

typedef void (*sgemm_fn)(int order, int ta, int tb, int m, int n, int k, float alpha, const float *a, int lda, const float *b, int ldb,
                         float beta, float *c, int ldc);
enum { ROW_MAJOR = 101, PLAIN = 111, TRANSPOSED = 112 };
static sgemm_fn sgemm; /* LIB's, or NULL */
static const char *word = "";

#define VEC_FILE "bench/bench_gemm.c"
#include "kernels/cpu/vec_each.h"

static double (*const fma_each[])(long) = VEC_EACH(fma_loop);

enum kind { MM, LINEAR, GRAD };
static const char *const kind_names[] = {"mm", "linear", "grad"};

static const struct shape {
    enum kind kind;
    int64_t m, k, n;
} shapes[] = {
    {MM, 512, 512, 512},       {MM, 1024, 1024, 1024},     {MM, 2048, 2048, 2048},     {MM, 4096, 256, 768},
    {MM, 4096, 256, 1024},     {MM, 4096, 512, 2048},      {MM, 4096, 1024, 256},      {MM, 4096, 128, 384},
    {MM, 4096, 128, 512},      {GRAD, 256, 4096, 768},     {GRAD, 256, 4096, 1024},    {GRAD, 128, 4096, 128},
    {GRAD, 64, 4096, 64},      {MM, 1, 256, 1024},         {MM, 1, 512, 2048},         {LINEAR, 4096, 256, 768},
    {LINEAR, 4096, 256, 1024}, {LINEAR, 4096, 512, 2048},  {LINEAR, 4096, 1024, 256},  {LINEAR, 4096, 128, 384},
    {LINEAR, 4096, 128, 512},  {LINEAR, 4096, 512, 1408},  {LINEAR, 1, 256, 1024},     {LINEAR, 1, 512, 2048},
    {LINEAR, 1, 2048, 8192},   {LINEAR, 4, 256, 1024},     {LINEAR, 16, 256, 1024},    {LINEAR, 16, 512, 2048},
    {LINEAR, 64, 256, 1024},   {MM, 16, 512, 2048},        {MM, 64, 512, 2048},       {LINEAR, 4096, 256, 384},
    {LINEAR, 4096, 128, 768},  {LINEAR, 4096, 384, 128},   {LINEAR, 4096, 256, 1408}, {LINEAR, 4096, 704, 256},
    {MM, 4096, 768, 128},      {MM, 4096, 1408, 256},      {MM, 4096, 1408, 512},     {GRAD, 384, 4096, 128},
    {GRAD, 768, 4096, 128},    {GRAD, 128, 4096, 384},     {GRAD, 384, 4096, 256},    {GRAD, 1408, 4096, 256},
    {GRAD, 256, 4096, 704},    {GRAD, 2816, 4096, 512},    {GRAD, 512, 4096, 1408},   {GRAD, 512, 4096, 512},
};

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void print_row(const char *name, double *v, int n, const char *unit, double limit)
{
    qsort(v, (size_t)n, sizeof *v, by_value);
    double med = n % 2 ? v[n / 2] : (v[n / 2 - 1] + v[n / 2]) / 2;
    printf("%-28s min %7.1f  med %7.1f  max %7.1f %s", name, v[0], med, v[n - 1], unit);
    if (limit > 0) printf("  %3.0f %% of peak", 100 * med / limit);
    putchar('\n');
    fflush(stdout);
}

struct peak {
    double (*loop)(long);
    double flops[64];
};

static void peak_task(void *ctx, int task, int worker)
{
    struct peak *p = ctx;
    p->flops[task] = p->loop(10000000);
}

struct copy {
    char *dst, *src;
    size_t bytes;
};

static void copy_task(void *ctx, int task, int worker)
{
    const struct copy *c = ctx;
    memcpy(c->dst + (size_t)task * c->bytes, c->src + (size_t)task * c->bytes, c->bytes);
}

static double limits(struct kn_dev *dev, int rounds)
{
    double v[64], best = 0;
    int threads = dev->info.threads > 64 ? 64 : dev->info.threads;
    struct peak p = {.loop = fma_each[cpu_of(dev)->isa]};
    for (int r = 0; r < rounds; r++) {
        double flops = 0;
        uint64_t t = base_clock_ns();
        base_pool_run(dev->pool, peak_task, &p, threads);
        for (int i = 0; i < threads; i++) flops += p.flops[i];
        v[r] = flops / (double)(base_clock_ns() - t);
        if (v[r] > best) best = v[r];
    }
    print_row("multiply-adds, registers", v, rounds, "GFLOP/s", 0);
    size_t bytes = (size_t)256 << 20;
    void *a, *b;
    if (kn_alloc(dev, bytes, &a) || kn_alloc(dev, bytes, &b)) return best;
    struct copy c = {a, b, bytes / 64};
    for (int r = 0; r < rounds; r++) {
        uint64_t t = base_clock_ns();
        base_pool_run(dev->pool, copy_task, &c, 64);
        v[r] = 2 * (double)bytes / (double)(base_clock_ns() - t);
    }
    print_row("copy, memory", v, rounds, "GB/s", 0);
    kn_free(dev, a, bytes);
    kn_free(dev, b, bytes);
    return best;
}

static int once(struct kn_dev *dev, const struct shape *s, const struct kn_tensor *a, const struct kn_tensor *b, const struct kn_tensor *c, int lib)
{
    if (!lib) return dev->op->gemm(dev, 1, a, b, 0, c);
    sgemm(ROW_MAJOR, s->kind == GRAD ? TRANSPOSED : PLAIN, s->kind == LINEAR ? TRANSPOSED : PLAIN, (int)s->m, (int)s->n, (int)s->k, 1, a->p,
          (int)(s->kind == GRAD ? s->m : s->k), b->p, (int)(s->kind == LINEAR ? s->k : s->n), 0, c->p, (int)s->n);
    return 0;
}

static void run(struct kn_dev *dev, const struct shape *s, int rounds, double peak)
{
    void *pa, *pb, *pc;
    double v[2][64], flops = 2.0 * (double)s->m * (double)s->n * (double)s->k;
    char name[64];
    snprintf(name, sizeof name, "%-6s %lld x %lld x %lld", kind_names[s->kind], (long long)s->m, (long long)s->k, (long long)s->n);
    if (!strstr(name, word)) return;
    size_t na = (size_t)(s->m * s->k), nb = (size_t)(s->k * s->n), nc = (size_t)(s->m * s->n);
    if (kn_alloc(dev, na * 4, &pa) || kn_alloc(dev, nb * 4, &pb) || kn_alloc(dev, nc * 4, &pc)) exit(1);
    struct base_rng r = base_rng_at(1, RNG_TEST, 0);
    for (size_t i = 0; i < na; i++) ((float *)pa)[i] = (float)base_rng_unit(&r) - 0.5f;
    for (size_t i = 0; i < nb; i++) ((float *)pb)[i] = (float)base_rng_unit(&r) - 0.5f;
    struct kn_tensor a = s->kind == GRAD ? kn_t2(pa, KN_F32, s->k, s->m) : kn_t2(pa, KN_F32, s->m, s->k);
    struct kn_tensor b = s->kind == LINEAR ? kn_t2(pb, KN_F32, s->n, s->k) : kn_t2(pb, KN_F32, s->k, s->n);
    struct kn_tensor c = kn_t2(pc, KN_F32, s->m, s->n);
    if (s->kind == GRAD) a = kn_transpose(&a);
    if (s->kind == LINEAR) b = kn_transpose(&b);
    int inner = 2e9 / flops > 20000 ? 20000 : 2e9 / flops < 1 ? 1 : (int)(2e9 / flops);
    for (int i = -2; i < rounds; i++)
        for (int lib = 0; lib < (sgemm ? 2 : 1); lib++) {
            uint64_t t = base_clock_ns();
            for (int k = 0; k < inner; k++)
                if (once(dev, s, &a, &b, &c, lib)) exit(1);
            if (i >= 0) v[lib][i] = flops * inner / (double)(base_clock_ns() - t);
        }
    print_row(name, v[0], rounds, "GFLOP/s", peak);
    if (sgemm) print_row("       LIB", v[1], rounds, "GFLOP/s", peak);
    kn_free(dev, pa, na * 4), kn_free(dev, pb, nb * 4), kn_free(dev, pc, nc * 4);
}

int main(int argc, char **argv)
{
    int threads = argc > 1 ? atoi(argv[1]) : 2, rounds = argc > 3 ? atoi(argv[3]) : 15;
    struct base_err err = BASE_ERR_INIT;
    struct kn_dev *dev;
    char text[512];
    if (rounds < 1 || rounds > 64) rounds = 15;
    if (kn_dev_open(&dev, argc > 2 ? argv[2] : "cpu", threads, &err) || strcmp(dev->info.kind, "cpu")) {
        fprintf(stderr, "bench_gemm: %s\n", base_err_text(&err, text, sizeof text));
        return 1;
    }
    int half = argc > 4 && !strcmp(argv[4], "bf16"), other = argc > 4 && !half && strcmp(argv[4], "f32");
    if (argc > 5) word = argv[5];
    if (half && kn_precision(dev, KN_BF16)) {
        fprintf(stderr, "bench_gemm: %s has no bf16\n", dev->info.name);
        return 1;
    }
    void *lib = other ? dlopen(argv[4], RTLD_NOW) : NULL;
    if (other && (!lib || !(sgemm = (sgemm_fn)dlsym(lib, "cblas_sgemm")))) {
        fprintf(stderr, "bench_gemm: %s\n", dlerror());
        return 1;
    }
    printf("# %s, %s, %d threads, %d rounds; shapes m x k x n\n", dev->info.name, dev->info.isa, dev->info.threads, rounds);
    double peak = limits(dev, rounds) * (half ? 2 : 1);
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) run(dev, &shapes[i], rounds, peak);
    kn_dev_close(dev);
    return 0;
}

#else

/* Twelve sums, so that no multiply-add waits for another; returns the floating-point operations done. */
static double VEC_NAME(fma_loop)(long n)
{
    vf a = vf_set1(0.999f), b = vf_set1(0.001f), s[12];
    for (int i = 0; i < 12; i++) s[i] = vf_set1((float)i);
    for (long k = 0; k < n; k++) {
#pragma GCC unroll 12
        for (int i = 0; i < 12; i++) s[i] = vf_fma(s[i], a, b);
    }
    for (int i = 1; i < 12; i++) s[0] = vf_add(s[0], s[i]);
    sink = vf_hsum(s[0]);
    return 2.0 * 12 * VL * (double)n;
}

#endif
