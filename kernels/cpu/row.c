/* Products with one row, w x: w streams by row after row, each summed by four vectors along k. Blocks of rows side by side, as few rows have them
 * (gemm_kernel.c), share their loads of x, but x is in L1 anyway and a core follows one stream better than eight. */
#ifndef VEC_PASS
#include "kernels/cpu/cpu.h"

#define VEC_FILE "kernels/cpu/row.c"
#include "kernels/cpu/vec_each.h"

/* ws: bytes from row to row */
typedef void (*rows_fn)(const float *x, const char *w, int64_t ws, int64_t k, int64_t n, int add, float *y);
static const rows_fn f32_each[] = VEC_EACH(rows_f32), bf16_each[] = VEC_EACH(rows_bf16), i8_each[] = VEC_EACH(rows_i8);

void cpu_product_row(const struct kn_dev *dev, const struct kn_tensor *w, int64_t row, int64_t n, const float *x, int add, float *y)
{
    const rows_fn *fn = w->dtype == KN_BF16 ? bf16_each : w->dtype == KN_I8 ? i8_each : f32_each;
    int64_t ws = w->s[0] * (int64_t)kn_dtype_size(w->dtype);
    fn[cpu_of(dev)->isa](x, (const char *)w->p + row * ws, ws, w->d[1], n, add, y);
}

#else

#include "kernels/cpu/vec_stored.h"

VEC_FN vf VEC_NAME(get_f32)(const float *p)
{
    return vf_load(p);
}
VEC_FN vf VEC_NAME(some_f32)(const float *p, long n)
{
    return vf_loadn(p, n);
}
VEC_FN float VEC_NAME(scale_f32)(const float *p, long k)
{
    (void)p, (void)k;
    return 1;
}

#define ROWS(kind, T)                                                                                                                    \
    static void VEC_NAME(rows_##kind)(const float *x, const char *w, int64_t ws, int64_t k, int64_t n, int add, float *y)                \
    {                                                                                                                                    \
        for (int64_t j = 0; j < n; j++, w += ws) {                                                                                       \
            const T *p = (const T *)w;                                                                                                   \
            vf a = vf_zero(), b = vf_zero(), c = vf_zero(), d = vf_zero();                                                               \
            int64_t i = 0;                                                                                                               \
            for (; i + 4 * VL <= k; i += 4 * VL) {                                                                                       \
                a = vf_fma(vf_load(x + i), VEC_NAME(get_##kind)(p + i), a);                                                              \
                b = vf_fma(vf_load(x + i + VL), VEC_NAME(get_##kind)(p + i + VL), b);                                                    \
                c = vf_fma(vf_load(x + i + 2 * VL), VEC_NAME(get_##kind)(p + i + 2 * VL), c);                                            \
                d = vf_fma(vf_load(x + i + 3 * VL), VEC_NAME(get_##kind)(p + i + 3 * VL), d);                                            \
            }                                                                                                                            \
            for (; i + VL <= k; i += VL) a = vf_fma(vf_load(x + i), VEC_NAME(get_##kind)(p + i), a);                                     \
            if (i < k) b = vf_fma(vf_loadn(x + i, k - i), VEC_NAME(some_##kind)(p + i, k - i), b);                                       \
            float s = VEC_NAME(scale_##kind)(p, k) * vf_hsum(vf_add(vf_add(a, b), vf_add(c, d)));                                        \
            y[j] = add ? y[j] + s : s;                                                                                                   \
        }                                                                                                                                \
    }
ROWS(f32, float)
ROWS(bf16, uint16_t)
ROWS(i8, int8_t)
#undef ROWS

#endif
