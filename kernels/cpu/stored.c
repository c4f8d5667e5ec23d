/* Weights stored in fewer bits, bf16 or int8 rows with a scale: products that read them, and the conversions. Few rows: dot products that widen
 * each weight as it comes by, so that memory sees the stored bytes alone. More rows: strips of weights are widened once and go through the
 * ordinary product. */
#ifndef VEC_PASS
#include "kernels/cpu/cpu.h"

#include <stdlib.h>

#define FEW_ROWS 16
#define TASK_BYTES (32 << 10)  /* of stored weights */
#define STRIP_BYTES (1 << 20)  /* of widened ones */

#define VEC_FILE "kernels/cpu/stored.c"
#include "kernels/cpu/vec_each.h"

/* m <= 4 rows of a times n rows of w:  c[i * ldc + j * sc] = alpha a_i.w_j + beta c. ws: bytes from row to row. */
typedef void (*dot_fn)(long k, const float *a, long as, const char *w, long ws, long n, float alpha, float beta, float *c, long ldc, long sc);
static const dot_fn dot_bf16_each[][4] = {
#define DOTS(pass) {dot_bf16_1_##pass, dot_bf16_2_##pass, dot_bf16_3_##pass, dot_bf16_4_##pass}
#ifdef __x86_64__
    DOTS(generic), DOTS(avx2), DOTS(avx512)
#else
    DOTS(generic)
#endif
#undef DOTS
}, dot_i8_each[][4] = {
#define DOTS(pass) {dot_i8_1_##pass, dot_i8_2_##pass, dot_i8_3_##pass, dot_i8_4_##pass}
#ifdef __x86_64__
    DOTS(generic), DOTS(avx2), DOTS(avx512)
#else
    DOTS(generic)
#endif
#undef DOTS
};
static void (*const widen_bf16_each[])(float *, const char *, long) = VEC_EACH(widen_bf16);
static void (*const widen_i8_each[])(float *, const char *, long) = VEC_EACH(widen_i8);

struct stored {
    const char *p;
    enum kn_dtype dtype;
    long n, k, row; /* rows, numbers of each, bytes from row to row */
};

struct dots {
    const struct kn_tensor *a, *c;
    struct stored w;
    const dot_fn *dot;
    float alpha, beta;
    long step;
};

static void dot_task(void *ctx, int task, int worker)
{
    const struct dots *s = ctx;
    long from = task * s->step, to = from + s->step < s->w.n ? from + s->step : s->w.n, m = s->a->d[0];
    long block = m > 4 ? 4 : to - from; /* a few weights' rows stay in L1 while all rows of a pass */
    const float *a = s->a->p;
    float *c = s->c->p;
    for (long j = from; j < to; j += block)
        for (long i = 0; i < m; i += 4) {
            long rows = m - i < 4 ? m - i : 4, n = to - j < block ? to - j : block;
            s->dot[rows - 1](s->w.k, a + i * s->a->s[0], s->a->s[0], s->w.p + j * s->w.row, s->w.row, n, s->alpha, s->beta,
                             c + i * s->c->s[0] + j * s->c->s[1], s->c->s[0], s->c->s[1]);
        }
}

struct widening {
    struct stored w;
    float *out;
    void (*fn)(float *, const char *, long);
    long out_row, step;
};

static void widen_task(void *ctx, int task, int worker)
{
    const struct widening *s = ctx;
    long from = task * s->step, to = from + s->step < s->w.n ? from + s->step : s->w.n;
    for (long j = from; j < to; j++) s->fn(s->out + j * s->out_row, s->w.p + j * s->w.row, s->w.k);
}

static void widen(struct kn_dev *dev, const struct stored *w, float *out, long out_row)
{
    struct widening s = {*w, out, (w->dtype == KN_I8 ? widen_i8_each : widen_bf16_each)[cpu_of(dev)->isa], out_row, 8192 / (w->k + 1) + 1};
    cpu_run(dev, widen_task, &s, (int)((w->n + s.step - 1) / s.step), (double)w->n * (double)w->k / 4);
}

st_t cpu_gemm_stored(struct kn_dev *dev, double alpha, const struct kn_tensor *a, const struct kn_tensor *b, double beta,
                     const struct kn_tensor *c)
{
    struct stored w = {b->p, b->dtype, b->d[1], b->d[0], b->s[1] * (long)kn_dtype_size(b->dtype)};
    if (c->dtype != KN_F32 || b->s[0] != 1 || (a->dtype != KN_F32 && dev->precision != KN_BF16)) return ST_ENOTSUP;
    if (c->d[0] == 0 || c->d[1] == 0) return ST_OK;
    if (a->dtype == KN_F32 && a->d[0] <= FEW_ROWS && a->s[1] == 1) {
        struct dots s = {a, c, w, (b->dtype == KN_I8 ? dot_i8_each : dot_bf16_each)[cpu_of(dev)->isa], (float)alpha, (float)beta, 0};
        long rows = TASK_BYTES / (w.row ? w.row : 1);
        s.step = rows < 8 ? 8 : (rows + 7) / 8 * 8;
        cpu_run(dev, dot_task, &s, (int)((w.n + s.step - 1) / s.step), (double)a->d[0] * (double)w.n * (double)w.k / 15);
        return ST_OK;
    }
    long strip = STRIP_BYTES / 4 / (w.k + 1) / 32 * 32;
    if (strip < 32) strip = 32;
    if (strip > w.n) strip = w.n;
    void *p;
    st_t st = cpu_shared(dev, CPU_SLOT_STORED, (size_t)(strip * w.k) * sizeof(float), &p);
    for (long j = 0; j < w.n && !st; j += strip) {
        struct stored part = w;
        part.p += j * w.row, part.n = w.n - j < strip ? w.n - j : strip;
        widen(dev, &part, p, w.k);
        struct kn_tensor f = {p, KN_F32, 2, {w.k, part.n}, {1, w.k}}, cj = kn_slice(c, 1, j, part.n);
        st = cpu_gemm(dev, alpha, a, &f, beta, &cj);
    }
    return st;
}

void cpu_stored_row(const struct kn_dev *dev, const struct kn_tensor *w, int64_t row, float *out)
{
    const char *p = (const char *)w->p + row * w->s[0] * (int64_t)kn_dtype_size(w->dtype);
    (w->dtype == KN_I8 ? widen_i8_each : widen_bf16_each)[cpu_of(dev)->isa](out, p, w->d[1]);
}

/* A row to int8: the largest magnitude becomes 127. */
static void narrow(const float *x, int64_t stride, int8_t *q, int64_t k)
{
    float most = 0, scale, inverse;
    for (int64_t i = 0; i < k; i++) most = fmaxf(most, fabsf(x[i * stride]));
    scale = most / 127, inverse = scale > 0 ? 1 / scale : 0;
    for (int64_t i = 0; i < k; i++) q[i] = (int8_t)lrintf(fminf(127, fmaxf(-127, x[i * stride] * inverse)));
    memcpy(q + k, &scale, sizeof scale);
}

st_t cpu_copy_i8(struct kn_dev *dev, const struct kn_tensor *x, const struct kn_tensor *y)
{
    if (x->rank != 2 || (x->dtype != KN_F32 && y->dtype != KN_F32)) return ST_ENOTSUP;
    for (int64_t i = 0; i < x->d[0]; i++) {
        if (y->dtype == KN_I8)
            narrow((const float *)x->p + i * x->s[0], x->s[1], (int8_t *)y->p + i * y->s[0], x->d[1]);
        else if (y->s[1] == 1)
            cpu_stored_row(dev, x, i, (float *)y->p + i * y->s[0]);
        else
            return ST_ENOTSUP;
    }
    return ST_OK;
}

#else

#include "kernels/cpu/vec_stored.h"

#define WIDEN(kind, T)                                                                                              \
    static void VEC_NAME(widen_##kind)(float *out, const char *w, long k)                                           \
    {                                                                                                               \
        const T *p = (const T *)w;                                                                                  \
        vf s = vf_set1(VEC_NAME(scale_##kind)(p, k));                                                               \
        long i = 0;                                                                                                 \
        for (; i + VL <= k; i += VL) vf_store(out + i, vf_mul(s, VEC_NAME(get_##kind)(p + i)));                     \
        if (i < k) vf_storen(out + i, vf_mul(s, VEC_NAME(some_##kind)(p + i, k - i)), k - i);                       \
    }
WIDEN(bf16, uint16_t)
WIDEN(i8, int8_t)

#define UNROLL _Pragma("GCC unroll 16")
/* NB rows of w at a time, so that b's streams are few and the sums independent. */
#define DOT_BLOCK(kind, T)                                                                                          \
    VEC_FN void VEC_NAME(block_##kind)(const int MR, const int NB, long k, const float *a, long as, const char *w, long ws, \
                                       float alpha, float beta, float *c, long ldc, long sc)                        \
    {                                                                                                               \
        vf acc[4 * 4];                                                                                              \
        UNROLL for (int i = 0; i < MR * NB; i++) acc[i] = vf_zero();                                                    \
        long kk = 0;                                                                                                \
        for (; kk < k; kk += VL) {                                                                                  \
            vf x[4];                                                                                                \
            long n = k - kk;                                                                                        \
            UNROLL for (int i = 0; i < MR; i++) x[i] = n < VL ? vf_loadn(a + i * as + kk, n) : vf_load(a + i * as + kk);   \
            UNROLL for (int j = 0; j < NB; j++) {                                                                          \
                const T *p = (const T *)(w + j * ws) + kk;                                                          \
                vf y = n < VL ? VEC_NAME(some_##kind)(p, n) : VEC_NAME(get_##kind)(p);                              \
                UNROLL for (int i = 0; i < MR; i++) acc[i * NB + j] = vf_fma(x[i], y, acc[i * NB + j]);                    \
            }                                                                                                       \
        }                                                                                                           \
        UNROLL for (int j = 0; j < NB; j++) {                                                                              \
            float s = alpha * VEC_NAME(scale_##kind)((const T *)(w + j * ws), k);                                   \
            UNROLL for (int i = 0; i < MR; i++) {                                                                          \
                float *p = c + i * ldc + j * sc, v = s * vf_hsum(acc[i * NB + j]);                                  \
                *p = beta != 0 ? v + beta * *p : v;                                                                 \
            }                                                                                                       \
        }                                                                                                           \
    }
DOT_BLOCK(bf16, uint16_t)
DOT_BLOCK(i8, int8_t)

#define DOT(kind, MR, NB)                                                                                           \
    static void VEC_NAME(dot_##kind##_##MR)(long k, const float *a, long as, const char *w, long ws, long n, float alpha, \
                                            float beta, float *c, long ldc, long sc)                                \
    {                                                                                                               \
        long j = 0;                                                                                                 \
        for (; j + NB <= n; j += NB) VEC_NAME(block_##kind)(MR, NB, k, a, as, w + j * ws, ws, alpha, beta, c + j * sc, ldc, sc); \
        for (; j < n; j++) VEC_NAME(block_##kind)(MR, 1, k, a, as, w + j * ws, ws, alpha, beta, c + j * sc, ldc, sc); \
    }
DOT(bf16, 1, 8) DOT(bf16, 2, 4) DOT(bf16, 3, 4) DOT(bf16, 4, 4)
DOT(i8, 1, 8) DOT(i8, 2, 4) DOT(i8, 3, 4) DOT(i8, 4, 4)
#undef WIDEN
#undef UNROLL
#undef DOT_BLOCK
#undef DOT

#endif
