/* Helpers of the tests of ops: tensors that exist twice, in f64 for the reference and in f32 for the device under test,
 * with the same values.
 *
 *   struct kt x = kt_new(2, (int64_t[]){5, 20}, NULL, 1.0, 7);       // normal(0, 1), seed 7, contiguous
 *   for each device: kt_reset(&x); op(dev, kt_f(&x)); then ref->op->…(ref, kt_d(&x));
 *   ok(kt_nmse(&x) < 1e-12 && kt_gaps(&x), "…");
 *   kt_free(&x);
 *
 * strides NULL: contiguous; else any, and what lies between the elements must stay as it was (kt_gaps). */
#ifndef TAUT_TESTS_KERNELS_KNTEST_H
#define TAUT_TESTS_KERNELS_KNTEST_H

#include <stdlib.h>

#include "base/rng.h"
#include "kernels/device.h"
#include "tests/tap.h"

/* Memory that every device of the tests reaches, zeroed. */
#ifdef KT_CUDA
void *kt_cuda_alloc(size_t bytes);
void kt_cuda_free(void *p);
#define kt_mem_free kt_cuda_free
#else
#define kt_mem_free free
#endif
__attribute__((unused)) static void *kt_mem(size_t bytes)
{
#ifdef KT_CUDA
    void *p = kt_cuda_alloc(bytes);
    if (p) memset(p, 0, bytes);
#else
    void *p = calloc(bytes ? bytes : 1, 1);
#endif
    if (!p) abort();
    return p;
}

struct kt {
    struct kn_tensor t; /* dims and strides; p and dtype are filled in by kt_f and kt_d */
    int64_t n;          /* elements of storage, gaps included */
    float *f, *init;
    double *g;
    unsigned char *used; /* 1: an element, 0: a gap */
};

__attribute__((unused)) static void kt_reset(struct kt *x)
{
    memcpy(x->f, x->init, (size_t)x->n * sizeof(float));
    for (int64_t i = 0; i < x->n; i++) x->g[i] = (double)x->init[i];
}

__attribute__((unused)) static int64_t kt_at(const struct kt *x, int64_t i)
{
    int64_t o = 0;
    for (int k = x->t.rank - 1; k >= 0; k--) {
        o += i % x->t.d[k] * x->t.s[k];
        i /= x->t.d[k];
    }
    return o;
}

__attribute__((unused)) static struct kt kt_new(int rank, const int64_t *d, const int64_t *strides, double scale,
                                                uint64_t seed)
{
    struct kt x = {.t = {.rank = rank}, .n = 1};
    int64_t run = 1;
    for (int k = rank - 1; k >= 0; k--) {
        x.t.d[k] = d[k];
        x.t.s[k] = strides ? strides[k] : run;
        run *= d[k];
        if (d[k] > 0) x.n += (d[k] - 1) * x.t.s[k];
    }
    x.f = kt_mem((size_t)x.n * sizeof(float));
    x.init = malloc((size_t)x.n * sizeof(float));
    x.g = malloc((size_t)x.n * sizeof(double));
    x.used = calloc((size_t)x.n, 1);
    if (!x.init || !x.g || !x.used) abort();
    struct base_rng r = base_rng_at(seed, RNG_TEST, 0);
    for (int64_t i = 0; i < x.n; i++) x.init[i] = (float)(scale * base_rng_normal(&r));
    for (int64_t i = 0; i < kn_count(&x.t); i++) x.used[kt_at(&x, i)] = 1;
    kt_reset(&x);
    return x;
}

__attribute__((unused)) static void kt_free(struct kt *x)
{
    kt_mem_free(x->f);
    free(x->init);
    free(x->g);
    free(x->used);
}

__attribute__((unused)) static const struct kn_tensor *kt_f(struct kt *x)
{
    static struct kn_tensor slot[32]; /* descriptors of one call */
    static int next;
    struct kn_tensor *t = &slot[next++ % 32];
    *t = x->t;
    t->p = x->f;
    t->dtype = KN_F32;
    return t;
}

__attribute__((unused)) static const struct kn_tensor *kt_d(struct kt *x)
{
    static struct kn_tensor slot[32];
    static int next;
    struct kn_tensor *t = &slot[next++ % 32];
    *t = x->t;
    t->p = x->g;
    t->dtype = KN_F64;
    return t;
}

/* sum (f - g)^2 / sum g^2 over the elements, the latter at least that of elements of 0.1, so that what should be 0 may
 * be 1e-7; infinite where one is not a number. */
__attribute__((unused)) static double kt_nmse(const struct kt *x)
{
    double num = 0, den = 0;
    int64_t count = 0;
    for (int64_t i = 0; i < x->n; i++) {
        if (!x->used[i]) continue;
        double e = (double)x->f[i] - x->g[i];
        num += e * e;
        den += x->g[i] * x->g[i];
        count++;
    }
    if (num == 0) return 0;
    num /= fmax(den, 1e-2 * (double)count);
    return num == num ? num : INFINITY;
}

/* 1 if nothing was written between the elements. */
__attribute__((unused)) static int kt_gaps(const struct kt *x)
{
    for (int64_t i = 0; i < x->n; i++)
        if (!x->used[i] && memcmp(&x->f[i], &x->init[i], sizeof(float))) return 0;
    return 1;
}

static inline uint16_t kt_round(float x)
{
    uint32_t u;
    memcpy(&u, &x, 4);
    return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

/* Rounds the first values to bf16, to nearest even: products in bf16 then round only what they compute themselves. */
__attribute__((unused)) static void kt_half(struct kt *x)
{
    for (int64_t i = 0; i < x->n; i++) {
        uint32_t u = (uint32_t)kt_round(x->init[i]) << 16;
        memcpy(&x->init[i], &u, 4);
    }
    kt_reset(x);
}

/* x's shape and strides in bf16, in memory of its own (x->n numbers, 0x5555 each); and whether that holds x's f32 numbers rounded, and as before between
 * them. */
__attribute__((unused)) static struct kn_tensor kt_in_bf16(const struct kt *x, uint16_t *p)
{
    struct kn_tensor t = x->t;
    t.p = p, t.dtype = KN_BF16;
    for (int64_t i = 0; i < x->n; i++) p[i] = 0x5555;
    return t;
}

__attribute__((unused)) static int kt_is_rounded(const struct kt *x, const uint16_t *p)
{
    for (int64_t i = 0; i < x->n; i++)
        if (p[i] != (x->used[i] ? kt_round(x->f[i]) : 0x5555)) return 0;
    return 1;
}

static enum kn_dtype kt_precision = KN_F32; /* of kt_compare's devices; those that lack it are left out */

/* What is tested: the CPU's instruction sets with 1 to 4 threads; or, with KT_CUDA, one CUDA device opened four times, whose order of blocks and threads is another
 * each time where tests/cudahost is the device. */
#define KT_THREADS 4
#ifdef KT_CUDA
#define KT_ISAS 1
static const char *const kt_isa[KT_ISAS] = {"cuda:0"};
#else
#define KT_ISAS 3
static const char *const kt_isa[KT_ISAS] = {"cpu:generic", "cpu:avx2", "cpu:avx512"};
#endif
static struct kn_dev *kt_ref,
    *kt_cpu[KT_ISAS][KT_THREADS]; /* [isa][threads - 1]; NULL where the machine lacks the set */

/* Opens the reference and every instruction set with 1 to 4 threads. */
__attribute__((unused)) static void kt_open(void)
{
    struct base_err err = BASE_ERR_INIT;
    if (kn_dev_open(&kt_ref, "ref", 1, &err)) {
        printf("Bail out! ref: %s\n", err.what);
        exit(1);
    }
    for (int i = 0; i < KT_ISAS; i++)
        for (int t = 0; t < KT_THREADS; t++) {
            st_t st = kn_dev_open(&kt_cpu[i][t], kt_isa[i], t + 1, &err);
            if (st && (st != ST_ENOTSUP || i == 0)) {
                printf("Bail out! %s: %s\n", kt_isa[i], err.what);
                exit(1);
            }
            if (st && t == 0) tap_skip(kt_isa[i]);
        }
}

__attribute__((unused)) static void kt_close(void)
{
    kn_dev_close(kt_ref);
    for (int i = 0; i < KT_ISAS; i++)
        for (int t = 0; t < KT_THREADS; t++) kn_dev_close(kt_cpu[i][t]);
}

/* Runs fn(dev, arg) on every set with 1 to 4 threads from the same start, and on the reference; outs[n] are what it
 * writes. Checks the normalised error of each, the gaps, and that the number of threads changes no bit. */
__attribute__((unused)) static void kt_compare(const char *what, st_t (*fn)(struct kn_dev *, int ref, void *),
                                               void *arg, struct kt *const *outs, int n, double tol)
{
    for (int o = 0; o < n; o++) kt_reset(outs[o]);
    st_t st = fn(kt_ref, 1, arg);
    ok(st == ST_OK, "%s: ref (%d)", what, (int)st);
    float *keep[8] = {0};
    for (int i = 0; i < KT_ISAS; i++) {
        if (!kt_cpu[i][0] || kn_precision(kt_cpu[i][0], kt_precision)) continue;
        double worst = 0;
        int same = 1, gaps = 1;
        for (int t = 0; t < KT_THREADS; t++) {
            for (int o = 0; o < n; o++) memcpy(outs[o]->f, outs[o]->init, (size_t)outs[o]->n * sizeof(float));
            kn_precision(kt_cpu[i][t], kt_precision);
            st = fn(kt_cpu[i][t], 0, arg);
            kn_precision(kt_cpu[i][t], KN_F32);
            if (st) break;
            for (int o = 0; o < n; o++) {
                size_t bytes = (size_t)outs[o]->n * sizeof(float);
                if (t == 0) {
                    worst = fmax(worst, kt_nmse(outs[o]));
                    keep[o] = realloc(keep[o], bytes);
                    if (!keep[o]) abort();
                    memcpy(keep[o], outs[o]->f, bytes);
                }
                same &= !memcmp(keep[o], outs[o]->f, bytes);
                gaps &= kt_gaps(outs[o]);
            }
        }
        ok(st == ST_OK && worst <= tol && same && gaps, "%s: %s %s (status %d, nmse %.1e%s%s)", what, kt_isa[i],
           kn_dtype_name(kt_precision), (int)st, worst, same ? "" : ", threads differ", gaps ? "" : ", wrote into gaps");
    }
    for (int o = 0; o < n; o++) free(keep[o]);
}

#endif
