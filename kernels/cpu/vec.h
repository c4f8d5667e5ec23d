/* Vectors of floats, written once for every instruction set.
 *
 * A file that wants them includes itself once for each set, through vec_each.h:
 *
 *   #ifndef VEC_PASS
 *   #include "kernels/cpu/cpu.h"
 *   #define VEC_FILE "kernels/cpu/swiglu.c"
 *   #include "kernels/cpu/vec_each.h"                      // compiles the part below #else as row_generic, row_avx2, row_avx512
 *   static void (*const row_each[])(…) = VEC_EACH(row);    // indexed by enum cpu_isa
 *   … cpu_swiglu …
 *   #else
 *   static void VEC_NAME(row)(float *h, const float *g, long n)
 *   {
 *       long i = 0;
 *       for (; i + VL <= n; i += VL) vf_store(h + i, vf_exp(vf_load(g + i)));
 *       if (i < n) vf_storen(h + i, vf_exp(vf_loadn(g + i, n - i)), n - i);
 *   }
 *   #endif
 *
 * vf is VL floats (16, 8 or 4). Nothing here depends on compiler flags: the target is set around each pass, and every multiply-add
 * that is fused says so (vf_fma; the generic set rounds twice). So a machine's instruction set decides the bits, and it is in the fingerprint.
 * This header defines the vectors of the pass that includes it; it has no include guard on purpose. */
#ifndef VEC_PASS
#error "include kernels/cpu/vec_each.h"
#endif

#define VEC_PASTE_(a, b) a##_##b
#define VEC_PASTE(a, b) VEC_PASTE_(a, b)
#define VEC_NAME(f) VEC_PASTE(f, VEC_PASS)
#define VEC_FN __attribute__((always_inline, unused)) static inline

#define vf VEC_NAME(vf_)
#define vf_set1 VEC_NAME(vf_set1_)
#define vf_zero VEC_NAME(vf_zero_)
#define vf_load VEC_NAME(vf_load_)
#define vf_loadn VEC_NAME(vf_loadn_)
#define vf_store VEC_NAME(vf_store_)
#define vf_storen VEC_NAME(vf_storen_)
#define vf_add VEC_NAME(vf_add_)
#define vf_sub VEC_NAME(vf_sub_)
#define vf_mul VEC_NAME(vf_mul_)
#define vf_div VEC_NAME(vf_div_)
#define vf_fma VEC_NAME(vf_fma_)
#define vf_fnma VEC_NAME(vf_fnma_)
#define vf_max VEC_NAME(vf_max_)
#define vf_min VEC_NAME(vf_min_)
#define vf_sqrt VEC_NAME(vf_sqrt_)
#define vf_round VEC_NAME(vf_round_)
#define vf_scale2 VEC_NAME(vf_scale2_)
#define vf_hsum VEC_NAME(vf_hsum_)
#define vf_hmax VEC_NAME(vf_hmax_)
#define vf_exp VEC_NAME(vf_exp_)

/* Each pass: loads and stores need no alignment; loadn and storen touch the first n lanes of memory alone, 0 < n <= VL (loadn: the rest is 0).
 * fma(a,b,c) = a b + c;  fnma(a,b,c) = c - a b.  max/min: the second operand where one is NaN.  round: to nearest even.
 * scale2(x, k) = x 2^k for integral k in [-252, 254] (two steps, so that the result may be subnormal or infinite).
 * hsum, hmax: over the lanes, as a tree of fixed shape. */
#if VEC_ISA == 2 /* AVX-512 */

#define VL 16
typedef __m512 vf;
VEC_FN vf vf_set1(float x) { return _mm512_set1_ps(x); }
VEC_FN vf vf_zero(void) { return _mm512_setzero_ps(); }
VEC_FN vf vf_load(const float *p) { return _mm512_loadu_ps(p); }
VEC_FN vf vf_loadn(const float *p, long n) { return _mm512_maskz_loadu_ps((__mmask16)(0xffffu >> (16 - n)), p); }
VEC_FN void vf_store(float *p, vf a) { _mm512_storeu_ps(p, a); }
VEC_FN void vf_storen(float *p, vf a, long n) { _mm512_mask_storeu_ps(p, (__mmask16)(0xffffu >> (16 - n)), a); }
VEC_FN vf vf_add(vf a, vf b) { return _mm512_add_ps(a, b); }
VEC_FN vf vf_sub(vf a, vf b) { return _mm512_sub_ps(a, b); }
VEC_FN vf vf_mul(vf a, vf b) { return _mm512_mul_ps(a, b); }
VEC_FN vf vf_div(vf a, vf b) { return _mm512_div_ps(a, b); }
VEC_FN vf vf_fma(vf a, vf b, vf c) { return _mm512_fmadd_ps(a, b, c); }
VEC_FN vf vf_fnma(vf a, vf b, vf c) { return _mm512_fnmadd_ps(a, b, c); }
VEC_FN vf vf_max(vf a, vf b) { return _mm512_max_ps(a, b); }
VEC_FN vf vf_min(vf a, vf b) { return _mm512_min_ps(a, b); }
VEC_FN vf vf_sqrt(vf a) { return _mm512_sqrt_ps(a); }
VEC_FN vf vf_round(vf a) { return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
VEC_FN vf vf_scale2(vf x, vf k) { return _mm512_scalef_ps(x, k); }
VEC_FN float vf_hsum(vf a)
{
    a = _mm512_add_ps(a, _mm512_shuffle_f32x4(a, a, 0x4e));
    a = _mm512_add_ps(a, _mm512_shuffle_f32x4(a, a, 0xb1));
    a = _mm512_add_ps(a, _mm512_permute_ps(a, 0x4e));
    a = _mm512_add_ps(a, _mm512_permute_ps(a, 0xb1));
    return _mm512_cvtss_f32(a);
}
VEC_FN float vf_hmax(vf a)
{
    a = _mm512_max_ps(a, _mm512_shuffle_f32x4(a, a, 0x4e));
    a = _mm512_max_ps(a, _mm512_shuffle_f32x4(a, a, 0xb1));
    a = _mm512_max_ps(a, _mm512_permute_ps(a, 0x4e));
    a = _mm512_max_ps(a, _mm512_permute_ps(a, 0xb1));
    return _mm512_cvtss_f32(a);
}

#elif VEC_ISA == 1 /* AVX2 and FMA */

#define VL 8
typedef __m256 vf;
#define vf_mask VEC_NAME(vf_mask_)
VEC_FN __m256i vf_mask(long n)
{
    return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
VEC_FN vf vf_set1(float x) { return _mm256_set1_ps(x); }
VEC_FN vf vf_zero(void) { return _mm256_setzero_ps(); }
VEC_FN vf vf_load(const float *p) { return _mm256_loadu_ps(p); }
VEC_FN vf vf_loadn(const float *p, long n) { return _mm256_maskload_ps(p, vf_mask(n)); }
VEC_FN void vf_store(float *p, vf a) { _mm256_storeu_ps(p, a); }
VEC_FN void vf_storen(float *p, vf a, long n) { _mm256_maskstore_ps(p, vf_mask(n), a); }
VEC_FN vf vf_add(vf a, vf b) { return _mm256_add_ps(a, b); }
VEC_FN vf vf_sub(vf a, vf b) { return _mm256_sub_ps(a, b); }
VEC_FN vf vf_mul(vf a, vf b) { return _mm256_mul_ps(a, b); }
VEC_FN vf vf_div(vf a, vf b) { return _mm256_div_ps(a, b); }
VEC_FN vf vf_fma(vf a, vf b, vf c) { return _mm256_fmadd_ps(a, b, c); }
VEC_FN vf vf_fnma(vf a, vf b, vf c) { return _mm256_fnmadd_ps(a, b, c); }
VEC_FN vf vf_max(vf a, vf b) { return _mm256_max_ps(a, b); }
VEC_FN vf vf_min(vf a, vf b) { return _mm256_min_ps(a, b); }
VEC_FN vf vf_sqrt(vf a) { return _mm256_sqrt_ps(a); }
VEC_FN vf vf_round(vf a) { return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
VEC_FN vf vf_scale2(vf x, vf k)
{
    __m256i i = _mm256_cvtps_epi32(k), h = _mm256_srai_epi32(i, 1), one = _mm256_set1_epi32(127);
    __m256i f = _mm256_slli_epi32(_mm256_add_epi32(h, one), 23);
    __m256i g = _mm256_slli_epi32(_mm256_add_epi32(_mm256_sub_epi32(i, h), one), 23);
    return _mm256_mul_ps(_mm256_mul_ps(x, _mm256_castsi256_ps(f)), _mm256_castsi256_ps(g));
}
VEC_FN float vf_hsum(vf a)
{
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_shuffle_ps(s, s, 1)));
}
VEC_FN float vf_hmax(vf a)
{
    __m128 s = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    s = _mm_max_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_max_ss(s, _mm_shuffle_ps(s, s, 1)));
}

#else /* generic: the compiler's own vectors, four floats, on any machine */

#define VL 4
typedef float vf __attribute__((vector_size(16)));
#define vi VEC_NAME(vi_)
typedef int32_t vi __attribute__((vector_size(16)));
VEC_FN vf vf_set1(float x) { return (vf){x, x, x, x}; }
VEC_FN vf vf_zero(void) { return (vf){0, 0, 0, 0}; }
VEC_FN vf vf_load(const float *p)
{
    vf a;
    memcpy(&a, p, sizeof a);
    return a;
}
VEC_FN vf vf_loadn(const float *p, long n)
{
    return (vf){p[0], n > 1 ? p[1] : 0, n > 2 ? p[2] : 0, n > 3 ? p[3] : 0};
}
VEC_FN void vf_store(float *p, vf a) { memcpy(p, &a, sizeof a); }
VEC_FN void vf_storen(float *p, vf a, long n)
{
    for (long i = 0; i < n; i++) p[i] = a[i];
}
VEC_FN vf vf_add(vf a, vf b) { return a + b; }
VEC_FN vf vf_sub(vf a, vf b) { return a - b; }
VEC_FN vf vf_mul(vf a, vf b) { return a * b; }
VEC_FN vf vf_div(vf a, vf b) { return a / b; }
VEC_FN vf vf_fma(vf a, vf b, vf c) { return a * b + c; }
VEC_FN vf vf_fnma(vf a, vf b, vf c) { return c - a * b; }
VEC_FN vf vf_max(vf a, vf b)
{
    vi m = a > b;
    return (vf)(((vi)a & m) | ((vi)b & ~m));
}
VEC_FN vf vf_min(vf a, vf b)
{
    vi m = a < b;
    return (vf)(((vi)a & m) | ((vi)b & ~m));
}
VEC_FN vf vf_sqrt(vf a) { return (vf){sqrtf(a[0]), sqrtf(a[1]), sqrtf(a[2]), sqrtf(a[3])}; }
VEC_FN vf vf_round(vf a)
{
    /* adding and taking away 1.5 2^23 leaves the nearest integer, for |a| < 2^22 */
    vf magic = vf_set1(12582912.0f);
    return (a + magic) - magic;
}
VEC_FN vf vf_scale2(vf x, vf k)
{
    vi i = __builtin_convertvector(k, vi), h = i >> 1;
    return x * (vf)((h + 127) << 23) * (vf)((i - h + 127) << 23);
}
VEC_FN float vf_hsum(vf a) { return (a[0] + a[2]) + (a[1] + a[3]); }
VEC_FN float vf_hmax(vf a)
{
    float x = a[0] > a[2] ? a[0] : a[2], y = a[1] > a[3] ? a[1] : a[3];
    return x > y ? x : y;
}

#endif

/* e^x within about 1 ulp for x in [-103, 88.7]; beyond that 0 and +inf; NaN stays NaN. x = k ln 2 + r, |r| <= ln(2)/2; e^r by a polynomial
 * 1 + r + r^2 q(r), q of degree 4 by the Remez exchange (relative error 2^-28 on that interval); ln 2 in two parts, so that k ln 2 is exact. */
VEC_FN vf vf_exp(vf x)
{
    x = vf_max(vf_set1(-104.0f), vf_min(vf_set1(89.0f), x));
    vf k = vf_round(vf_mul(x, vf_set1(0x1.715476p+0f)));
    vf r = vf_fnma(k, vf_set1(0x1.62e4p-1f), x);
    r = vf_fnma(k, vf_set1(0x1.7f7d1cp-20f), r);
    vf p = vf_set1(0x1.6a23dp-10f);
    p = vf_fma(p, r, vf_set1(0x1.123a2p-7f));
    p = vf_fma(p, r, vf_set1(0x1.5558f2p-5f));
    p = vf_fma(p, r, vf_set1(0x1.555492p-3f));
    p = vf_fma(p, r, vf_set1(0x1.fffffcp-2f));
    p = vf_fma(vf_mul(r, r), p, r);
    return vf_scale2(vf_add(p, vf_set1(1.0f)), k);
}
