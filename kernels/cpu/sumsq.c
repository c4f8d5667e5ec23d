/* Sum of squares, in f64 and a fixed order. */
#ifndef VEC_PASS
#include "kernels/cpu/cpu.h"

#define VEC_FILE "kernels/cpu/sumsq.c"
#include "kernels/cpu/vec_each.h"

#define BLOCK 16384 /* elements a task takes */

static double (*const sum_each[])(const float *x, int64_t n) = VEC_EACH(sum);

struct ctx {
    double (*sum)(const float *x, int64_t n);
    const float *x;
    int64_t n;
    double *part;
};

static void task(void *arg, int i, int worker)
{
    struct ctx *c = arg;
    int64_t from = (int64_t)i * BLOCK;
    c->part[i] = c->sum(c->x + from, c->n - from < BLOCK ? c->n - from : BLOCK);
}

st_t cpu_sumsq(struct kn_dev *dev, const struct kn_tensor *x, double *out)
{
    st_t st = kn_check_sumsq(x, out);
    if (st) return st;
    if (x->dtype != KN_F32) return ST_ENOTSUP;
    struct ctx c = {.sum = sum_each[cpu_of(dev)->isa], .x = x->p, .n = x->d[0]};
    int blocks = (int)((c.n + BLOCK - 1) / BLOCK);
    void *part;
    st = cpu_shared(dev, CPU_SLOT_OP, (size_t)(blocks > 0 ? blocks : 1) * sizeof(double), &part);
    if (st) return st;
    c.part = part;
    cpu_run(dev, task, &c, blocks, (double)c.n * 4 / 10);
    double s = 0;
    for (int i = 0; i < blocks; i++) s += c.part[i];
    *out = s;
    return ST_OK;
}

st_t cpu_clip(struct kn_dev *dev, const struct kn_tensor *g, double most, const struct kn_tensor *out)
{
    double sum;
    st_t st = kn_check_clip(g, most, out);
    if (!st) st = cpu_sumsq(dev, g, &sum);
    if (st) return st;
    kn_host_clip(sum, most, out->p);
    return ST_OK;
}

#else

/* Sixteen running sums whatever the instruction set: a square of two floats is exact in f64, so all sets give the same
 * bits. */
static double VEC_NAME(sum)(const float *x, int64_t n)
{
    typedef float f8 __attribute__((vector_size(32)));
    typedef double d8 __attribute__((vector_size(64)));
    d8 a = {0}, b = {0};
    int64_t i = 0;
    for (; i + 16 <= n; i += 16) {
        f8 u, v;
        memcpy(&u, x + i, sizeof u);
        memcpy(&v, x + i + 8, sizeof v);
        d8 p = __builtin_convertvector(u, d8), q = __builtin_convertvector(v, d8);
        a += p * p;
        b += q * q;
    }
    double s = 0;
    for (int j = 0; j < 8; j++) s += a[j] + b[j];
    for (; i < n; i++) s += (double)x[i] * x[i];
    return s;
}

#endif
