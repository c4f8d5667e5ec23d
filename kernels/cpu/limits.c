#ifndef VEC_PASS
#include "kernels/limits.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"
#include "kernels/cpu/cpu.h"

/* As if x were looked at, so that it has to be worked out. */
static inline void keep(float x)
{
    __asm__ volatile("" : : "m"(x));
}

#define VEC_FILE "kernels/cpu/limits.c"
#include "kernels/cpu/vec_each.h"

static double (*const fma_each[])(long) = VEC_EACH(fma_loop);
static void (*const read_each[])(const float *, long) = VEC_EACH(read_loop);
static void (*const copy_each[])(float *, const float *, long) = VEC_EACH(copy_loop);
static const char *const isa_names[] = {"generic", "avx2", "avx512"};

#ifdef __x86_64__
/* A pair of factors a lane and multiply-add. */
__attribute__((target("avx512f,avx512bw,avx512vl,avx512bf16"))) static double bf16_loop(long n)
{
    __m512 s[12];
    __m512bh a = _mm512_cvtne2ps_pbh(_mm512_set1_ps(0.999f), _mm512_set1_ps(0.999f));
    for (int i = 0; i < 12; i++) s[i] = _mm512_set1_ps((float)i);
    for (long k = 0; k < n; k++) {
#pragma GCC unroll 12
        for (int i = 0; i < 12; i++) s[i] = _mm512_dpbf16_ps(s[i], a, a);
    }
    for (int i = 1; i < 12; i++) s[0] = _mm512_add_ps(s[0], s[i]);
    keep(_mm512_reduce_add_ps(s[0]));
    return 2.0 * 12 * 32 * (double)n;
}
#endif

struct work {
    double (*loop)(long);            /* products */
    long n;
    enum cpu_isa isa;                /* of the loops over memory */
    float *p;
    long floats, reps;
    int tasks;
    int kind;                        /* of bandwidth: KN_LIMIT_READ, KN_LIMIT_COPY, or KINDS: a copy by the C library */
};

struct meeting {
    _Atomic int there;
    int threads;
};

static void peak_task(void *ctx, int task, int worker)
{
    const struct work *w = ctx;
    w->loop(w->n);
}

/* Each task keeps to its own part, so that it stays in its core's cache. */
static void memory_task(void *ctx, int task, int worker)
{
    const struct work *w = ctx;
    long n = w->floats / w->tasks, half = n / 2;
    float *p = w->p + (long)task * n;
    for (long r = 0; r < w->reps; r++) {
        if (w->kind == KN_LIMIT_READ) read_each[w->isa](p, n);
        else if (w->kind == KN_LIMIT_COPY) copy_each[w->isa](p + half, p, half);
        else memcpy(p + half, p, (size_t)half * sizeof *p);
        __asm__ volatile("" : : "r"(p) : "memory");
    }
}

/* Waits for all the others: a round that one thread does alone while the rest sleep would be no fork. */
static void meet_task(void *ctx, int task, int worker)
{
    struct meeting *m = ctx;
    atomic_fetch_add(&m->there, 1);
    while (atomic_load(&m->there) < m->threads)
#ifdef __x86_64__
        __builtin_ia32_pause();
#else
        ;
#endif
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static struct kn_rate summary(double *v, int n)
{
    qsort(v, (size_t)n, sizeof *v, by_value);
    return (struct kn_rate){n % 2 ? v[n / 2] : (v[n / 2 - 1] + v[n / 2]) / 2, v[0], v[n - 1]};
}

/* amount / second of fn over the rounds; a first round that does not count brings the data to where it will lie and the threads awake. */
static struct kn_rate rounds_of(struct kn_dev *dev, base_pool_fn fn, struct work *w, int rounds, double amount)
{
    double v[KN_LIMITS_ROUNDS_MAX];
    for (int r = -1; r < rounds; r++) {
        uint64_t t = base_clock_ns();
        base_pool_run(w->tasks > 1 ? dev->pool : NULL, fn, w, w->tasks);
        if (r >= 0) v[r] = amount / ((double)(base_clock_ns() - t) * 1e-9);
    }
    return summary(v, rounds);
}

static void measure_peak(struct kn_dev *dev, struct kn_limits *l, const char *isa, enum kn_dtype dtype, double (*loop)(long), double ns)
{
    struct kn_limit_peak *p = &l->peak[l->npeak++];
    struct work w = {.loop = loop, .n = 20000};
    uint64_t t = base_clock_ns();
    double flops = loop(w.n);
    w.n = (long)((double)w.n * ns / (double)(base_clock_ns() - t + 1)) + 1000;
    flops = loop(w.n);
    p->dtype = dtype;
    snprintf(p->isa, sizeof p->isa, "%s", isa);
    for (int all = 0; all < 2; all++) {
        w.tasks = all ? dev->info.threads : 1;
        p->flops[all] = rounds_of(dev, peak_task, &w, l->rounds, flops * w.tasks);
    }
}

static void measure_peaks(struct kn_dev *dev, struct kn_limits *l, double ns)
{
    enum cpu_isa isa = cpu_of(dev)->isa;
    int last = isa < (enum cpu_isa)(sizeof fma_each / sizeof fma_each[0]) ? (int)isa : 0;
    for (int i = last ? 1 : 0; i <= last; i++) measure_peak(dev, l, isa_names[i], KN_F32, fma_each[i], ns);
#ifdef __x86_64__
    if (isa >= CPU_AVX512 && __builtin_cpu_supports("avx512bf16")) measure_peak(dev, l, "avx512_bf16", KN_BF16, bf16_loop, ns);
#endif
}

/* Bytes of this machine's data cache of that level; sysconf guesses where the system does not say. */
static uint64_t cache_bytes(int level)
{
    static const int guess[] = {_SC_LEVEL1_DCACHE_SIZE, _SC_LEVEL2_CACHE_SIZE, _SC_LEVEL3_CACHE_SIZE};
    for (int i = 0; i < 8; i++) {
        char path[96], type[16] = "";
        int at = 0;
        unsigned long kib = 0;
        static const char *const file[] = {"level", "type", "size"};
        for (int k = 0; k < 3; k++) {
            snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu0/cache/index%d/%s", i, file[k]);
            FILE *f = fopen(path, "re");
            if (!f) break;
            int got = k == 0 ? fscanf(f, "%d", &at) : k == 1 ? fscanf(f, "%15s", type) : fscanf(f, "%luK", &kib);
            if (got != 1) at = 0;
            fclose(f);
        }
        if (at == level && kib && *type != 'I') return (uint64_t)kib << 10;
    }
    long size = sysconf(guess[level - 1]);
    return size > 0 ? (uint64_t)size : 0;
}

static const char *level_of(uint64_t bytes, int threads)
{
    static const char *const text[] = {"L1", "L2", "L3"};
    for (int i = 0; i < 3; i++)
        if (bytes / (uint64_t)(i < 2 ? threads : 1) <= cache_bytes(i + 1)) return text[i];
    return "memory";
}

static struct kn_rate bandwidth(struct kn_dev *dev, struct work *w, int kind, double ns, int rounds)
{
    w->kind = kind;
    w->reps = 1;
    memory_task(w, 0, 0);
    uint64_t t = base_clock_ns();
    memory_task(w, 0, 0);
    double reps = ns / (double)(base_clock_ns() - t + 1);
    w->reps = reps > 1 ? (long)reps : 1;
    return rounds_of(dev, memory_task, w, rounds, (double)(w->floats / w->tasks * w->tasks) * sizeof(float) * (double)w->reps);
}

static void measure_sets(struct kn_dev *dev, struct kn_limits *l, float *p, uint64_t most, double ns)
{
    for (uint64_t bytes = (uint64_t)256 << 10; bytes <= most; bytes *= 4) {
        struct kn_limit_set *s = &l->set[l->nset++];
        s->bytes = bytes;
        snprintf(s->level, sizeof s->level, "%s", level_of(bytes, dev->info.threads));
        for (int all = 0; all < 2; all++) {
            struct work w = {.isa = cpu_of(dev)->isa, .p = p, .floats = (long)(bytes / sizeof *p), .tasks = all ? dev->info.threads : 1};
            s->rate[KN_LIMIT_READ][all] = bandwidth(dev, &w, KN_LIMIT_READ, ns, l->rounds);
            struct kn_rate own = bandwidth(dev, &w, KN_LIMIT_COPY, ns, l->rounds), libc = bandwidth(dev, &w, KN_LIMIT_KINDS, ns, l->rounds);
            s->rate[KN_LIMIT_COPY][all] = own.high > libc.high ? own : libc;
        }
    }
}

static void measure_fork(struct kn_dev *dev, struct kn_limits *l, int times)
{
    double v[KN_LIMITS_ROUNDS_MAX];
    for (int r = -1; r < l->rounds; r++) {
        uint64_t t = base_clock_ns();
        for (int i = 0; i < times; i++) {
            struct meeting m = {.threads = dev->info.threads};
            base_pool_run(dev->pool, meet_task, &m, m.threads);
        }
        if (r >= 0) v[r] = (double)(base_clock_ns() - t) / times;
    }
    l->fork_ns = summary(v, l->rounds);
}

st_t kn_limits_measure(struct kn_dev *dev, int thorough, struct kn_limits *out)
{
    if (strcmp(dev->info.kind, "cpu")) return ST_ENOTSUP;
    struct kn_limits l = {.rounds = thorough ? 9 : 3};
    uint64_t most = (uint64_t)(thorough ? 256 : 16) << 20;
    double ns = thorough ? 3e6 : 3e5;
    void *p;
    st_t st = kn_alloc(dev, most, &p);
    if (st) return st;
    measure_peaks(dev, &l, 3 * ns);
    measure_sets(dev, &l, p, most, ns);
    measure_fork(dev, &l, thorough ? 1000 : 100);
    kn_free(dev, p, most);
    *out = l;
    return ST_OK;
}

double kn_limits_peak(const struct kn_limits *l, enum kn_dtype dtype, int all)
{
    double best = 0;
    for (int i = 0; i < l->npeak; i++)
        if (l->peak[i].dtype == dtype) best = fmax(best, l->peak[i].flops[!!all].high);
    return best;
}

double kn_limits_bandwidth(const struct kn_limits *l, double bytes, enum kn_limit_kind kind, int all)
{
    if (!l->nset) return 0;
    int i = 0;
    while (i < l->nset && (double)l->set[i].bytes < bytes) i++;
    double here = l->set[i < l->nset ? i : l->nset - 1].rate[kind][!!all].high;
    if (i == 0 || i == l->nset) return here;
    double before = l->set[i - 1].rate[kind][!!all].high, from = log((double)l->set[i - 1].bytes), to = log((double)l->set[i].bytes);
    double t = (log(bytes) - from) / (to - from); /* 1 at a set's own size, whose rate comes out to the bit */
    return (1 - t) * before + t * here;
}

#else

/* Twelve sums, so that no multiply-add waits for another; returns the operations done. */
static double VEC_NAME(fma_loop)(long n)
{
    vf a = vf_set1(0.999f), b = vf_set1(0.001f), s[12];
    for (int i = 0; i < 12; i++) s[i] = vf_set1((float)i);
    for (long k = 0; k < n; k++) {
#pragma GCC unroll 12
        for (int i = 0; i < 12; i++) s[i] = vf_fma(s[i], a, b);
    }
    for (int i = 1; i < 12; i++) s[0] = vf_add(s[0], s[i]);
    keep(vf_hsum(s[0]));
    return 2.0 * 12 * VL * (double)n;
}

static void VEC_NAME(read_loop)(const float *p, long n)
{
    vf s[8];
    for (int i = 0; i < 8; i++) s[i] = vf_zero();
    for (long k = 0; k + 8 * VL <= n; k += 8 * VL) {
#pragma GCC unroll 8
        for (int i = 0; i < 8; i++) s[i] = vf_add(s[i], vf_load(p + k + i * VL));
    }
    for (int i = 1; i < 8; i++) s[0] = vf_add(s[0], s[i]);
    keep(vf_hsum(s[0]));
}

static void VEC_NAME(copy_loop)(float *y, const float *x, long n)
{
    for (long k = 0; k + 8 * VL <= n; k += 8 * VL) {
#pragma GCC unroll 8
        for (int i = 0; i < 8; i++) vf_store(y + k + i * VL, vf_load(x + k + i * VL));
    }
}

#endif
