/* Products of small tiles, transposes and 2^x for attention, in the vectors of vec.h. Included by a pass of vec_each.h
 * after it; like vec.h it has no guard. LANES is the width of a tile whose columns are queries: 64 floats, a whole
 * number of vectors in every set. With bf16 (vec_bf16.h) a and b are pairs along the sum, strides and n count pairs. */
#define LANES 64

#if VEC_ISA == 0
#define vu VEC_NAME(vu_)
typedef uint32_t vu __attribute__((vector_size(16))); /* adds without overflow */
#endif

#undef MM_VECTORS
#if VEC_ISA == 2
#define MM_VECTORS 4 /* columns of one register block, in vectors: 4 x 4 of 32 registers, or 8 x 2 */
#elif VEC_ISA == 1
#define MM_VECTORS 3 /* 4 x 3 of 16 registers */
#else
#define MM_VECTORS 2
#endif

/* c[r][v] (=, or += if add) sum over i < n of a[r ar + i ac] * b[i][v]: mr rows, nv vectors, both known to the
 * compiler. */
VEC_FN void VEC_NAME(mm_block)(int mr, int nv, int add, const float *a, int64_t ar, int64_t ac, const float *b,
                               int64_t bs, int64_t n, float *c, int64_t cs)
{
    vf acc[8][MM_VECTORS];
#pragma GCC unroll 8
    for (int r = 0; r < mr; r++)
#pragma GCC unroll 4
        for (int v = 0; v < nv; v++) acc[r][v] = add ? vf_load(c + r * cs + v * VL) : vf_zero();
    for (int64_t i = 0; i < n; i++) {
        vf x[MM_VECTORS];
#pragma GCC unroll 4
        for (int v = 0; v < nv; v++) x[v] = vf_load(b + v * VL);
#pragma GCC unroll 8
        for (int r = 0; r < mr; r++) {
            vf y = vf_set1(a[r * ar]);
#pragma GCC unroll 4
#ifdef VEC_BF16
            for (int v = 0; v < nv; v++) acc[r][v] = _mm512_dpbf16_ps(acc[r][v], (__m512bh)y, (__m512bh)x[v]);
#else
            for (int v = 0; v < nv; v++) acc[r][v] = vf_fma(y, x[v], acc[r][v]);
#endif
        }
        a += ac;
        b += bs;
    }
#pragma GCC unroll 8
    for (int r = 0; r < mr; r++)
#pragma GCC unroll 4
        for (int v = 0; v < nv; v++) vf_store(c + r * cs + v * VL, acc[r][v]);
}

VEC_FN void VEC_NAME(mm_rows)(int nv, int add, int64_t rows, const float *a, int64_t ar, int64_t ac, const float *b,
                              int64_t bs, int64_t n, float *c, int64_t cs)
{
    int64_t r = 0;
#if VEC_ISA == 2
    for (; nv <= 2 && r + 8 <= rows; r += 8) VEC_NAME(mm_block)(8, nv, add, a + r * ar, ar, ac, b, bs, n, c + r * cs, cs);
#endif
    for (; r + 4 <= rows; r += 4) VEC_NAME(mm_block)(4, nv, add, a + r * ar, ar, ac, b, bs, n, c + r * cs, cs);
    for (; r < rows; r++) VEC_NAME(mm_block)(1, nv, add, a + r * ar, ar, ac, b, bs, n, c + r * cs, cs);
}

VEC_FN void VEC_NAME(mm_any)(int add, int64_t rows, int64_t nv, const float *a, int64_t ar, int64_t ac, const float *b,
                             int64_t bs, int64_t n, float *c, int64_t cs)
{
    for (; nv >= MM_VECTORS; nv -= MM_VECTORS, b += MM_VECTORS * VL, c += MM_VECTORS * VL)
        VEC_NAME(mm_rows)(MM_VECTORS, add, rows, a, ar, ac, b, bs, n, c, cs);
#if MM_VECTORS > 3
    if (nv == 3) VEC_NAME(mm_rows)(3, add, rows, a, ar, ac, b, bs, n, c, cs);
#endif
#if MM_VECTORS > 2
    if (nv == 2) VEC_NAME(mm_rows)(2, add, rows, a, ar, ac, b, bs, n, c, cs);
#endif
    if (nv == 1) VEC_NAME(mm_rows)(1, add, rows, a, ar, ac, b, bs, n, c, cs);
}

/* c [rows][nv vectors] = a b,  and c += a b. */
__attribute__((unused)) static void VEC_NAME(mm_set)(int64_t rows, int64_t nv, const float *a, int64_t ar, int64_t ac,
                                                     const float *b, int64_t bs, int64_t n, float *c, int64_t cs)
{
    VEC_NAME(mm_any)(0, rows, nv, a, ar, ac, b, bs, n, c, cs);
}

__attribute__((unused)) static void VEC_NAME(mm_add)(int64_t rows, int64_t nv, const float *a, int64_t ar, int64_t ac,
                                                     const float *b, int64_t bs, int64_t n, float *c, int64_t cs)
{
    VEC_NAME(mm_any)(1, rows, nv, a, ar, ac, b, bs, n, c, cs);
}

__attribute__((unused)) static float VEC_NAME(mm_dot)(const float *a, const float *b, int64_t n)
{
    vf s = vf_zero();
    int64_t i = 0;
    for (; i + VL <= n; i += VL) s = vf_fma(vf_load(a + i), vf_load(b + i), s);
    if (i < n) s = vf_fma(vf_loadn(a + i, n - i), vf_loadn(b + i, n - i), s);
    return vf_hsum(s);
}

/* d_j[i] = s_i[j] * m_j for a block of 4 x 4. */
VEC_FN void VEC_NAME(transpose4)(float *d0, float *d1, float *d2, float *d3, const float *s0, const float *s1,
                                 const float *s2, const float *s3, float m0, float m1, float m2, float m3)
{
#if VEC_ISA > 0
    __m128 a = _mm_loadu_ps(s0), b = _mm_loadu_ps(s1), c = _mm_loadu_ps(s2), e = _mm_loadu_ps(s3);
    _MM_TRANSPOSE4_PS(a, b, c, e);
    _mm_storeu_ps(d0, _mm_mul_ps(a, _mm_set1_ps(m0)));
    _mm_storeu_ps(d1, _mm_mul_ps(b, _mm_set1_ps(m1)));
    _mm_storeu_ps(d2, _mm_mul_ps(c, _mm_set1_ps(m2)));
    _mm_storeu_ps(d3, _mm_mul_ps(e, _mm_set1_ps(m3)));
#else
    for (int j = 0; j < 4; j++) {
        float x[4] = {s0[j], s1[j], s2[j], s3[j]}, m = j == 0 ? m0 : j == 1 ? m1 : j == 2 ? m2 : m3;
        float *d = j == 0 ? d0 : j == 1 ? d1 : j == 2 ? d2 : d3;
        for (int i = 0; i < 4; i++) d[i] = x[i] * m;
    }
#endif
}

/* dst[k][LANES] = src[lane][k] * m for lanes (a multiple of 4) rows of K. */
__attribute__((unused)) static void VEC_NAME(rows_to_lanes)(float *dst, const float *const *src, int lanes, int64_t K,
                                                            float m)
{
    for (int l = 0; l < lanes; l += 4) {
        const float *s0 = src[l], *s1 = src[l + 1], *s2 = src[l + 2], *s3 = src[l + 3];
        float *d = dst + l;
        int64_t k = 0;
        for (; k + 4 <= K; k += 4, d += 4 * LANES)
            VEC_NAME(transpose4)
            (d, d + LANES, d + 2 * LANES, d + 3 * LANES, s0 + k, s1 + k, s2 + k, s3 + k, m, m, m, m);
        for (; k < K; k++, d += LANES) {
            d[0] = s0[k] * m;
            d[1] = s1[k] * m;
            d[2] = s2[k] * m;
            d[3] = s3[k] * m;
        }
    }
}

/* dst[lane][k] = src[k][lane] * m[lane] for the first n lanes. */
__attribute__((unused)) static void VEC_NAME(lanes_to_rows)(float *const *dst, const float *src, int n, int64_t K,
                                                            const float *m)
{
    int l = 0;
    for (; l + 4 <= n; l += 4) {
        float *d0 = dst[l], *d1 = dst[l + 1], *d2 = dst[l + 2], *d3 = dst[l + 3];
        float m0 = m[l], m1 = m[l + 1], m2 = m[l + 2], m3 = m[l + 3];
        const float *s = src + l;
        int64_t k = 0;
        for (; k + 4 <= K; k += 4, s += 4 * LANES)
            VEC_NAME(transpose4)
            (d0 + k, d1 + k, d2 + k, d3 + k, s, s + LANES, s + 2 * LANES, s + 3 * LANES, m0, m1, m2, m3);
        for (; k < K; k++, s += LANES) {
            d0[k] = s[0] * m0;
            d1[k] = s[1] * m1;
            d2[k] = s[2] * m2;
            d3[k] = s[3] * m3;
        }
    }
    for (; l < n; l++)
        for (int64_t k = 0; k < K; k++) dst[l][k] = src[k * LANES + l] * m[l];
}

/* a >= b ? x : y in each lane. */
VEC_FN vf VEC_NAME(where_ge)(vf a, vf b, vf x, vf y)
{
#if VEC_ISA == 2
    return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(a, b, _CMP_GE_OQ), y, x);
#elif VEC_ISA == 1
    return _mm256_blendv_ps(y, x, _mm256_cmp_ps(a, b, _CMP_GE_OQ));
#else
    vi m = a >= b;
    return (vf)(((vi)x & m) | ((vi)y & ~m));
#endif
}

/* Is a < b in some lane? */
VEC_FN int VEC_NAME(any_lt)(vf a, vf b)
{
#if VEC_ISA == 2
    return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ) != 0;
#elif VEC_ISA == 1
    return _mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_LT_OQ)) != 0;
#else
    vi m = a < b;
    return (m[0] | m[1] | m[2] | m[3]) != 0;
#endif
}

/* 2^x for x <= 1, within 2 ulp (above 1: nothing is promised); 0 below -125; NaN stays NaN. 2^0 is exactly 1. Nearest
 * integer taken out, the rest by a minimax polynomial of degree 5 with p(0) = 1 (relative error 1e-7 on [-1/2, 1/2]).
 */
VEC_FN vf VEC_NAME(exp2_down)(vf x)
{
    vf low = vf_set1(-125.0f);
    vf c = vf_max(low, x), n = vf_round(c), f = vf_sub(c, n);
    vf p = vf_fma(vf_set1(0x1.5bba14p-10f), f, vf_set1(0x1.3cea88p-7f));
    p = vf_fma(p, f, vf_set1(0x1.c6b752p-5f));
    p = vf_fma(p, f, vf_set1(0x1.ebf9bcp-3f));
    p = vf_fma(p, f, vf_set1(0x1.62e42ap-1f));
    p = vf_fma(p, f, vf_set1(1.0f));
#if VEC_ISA == 2
    return _mm512_maskz_scalef_ps(_mm512_cmp_ps_mask(x, low, _CMP_NLT_UQ), p, n);
#elif VEC_ISA == 1
    __m256i e = _mm256_slli_epi32(_mm256_cvtps_epi32(n), 23);
    return _mm256_and_ps(_mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(p), e)),
                         _mm256_cmp_ps(x, low, _CMP_NLT_UQ));
#else
    vi finite = x == x, below = x < low;
    vf e = (vf)((vi)vf_mul(n, vf_set1(0x1p23f)) & finite);
    return (vf)((vi)((vu)(vi)p + (vu) __builtin_convertvector(e, vi)) & ~below);
#endif
}
