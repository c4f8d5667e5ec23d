/* Micro-kernels of the product. Accumulators are named, not an array, so that they are registers at any optimisation level; MR and NV are
 * constants wherever tile() is inlined, and what a smaller tile does not need falls away.
 *
 * AVX-512: 14 x 2 vectors = 28 accumulators, two of b, one broadcast: 31 of 32 registers; a step of k is 28 fused multiply-adds against two
 * loads and 14 broadcasts, so the multipliers and not the load ports are the limit. AVX2 and generic: 6 x 2 of 16 registers.
 *
 * bf16: the same tiles over pairs. A place of a packed operand is two neighbours of the sum in 32 bits, a step is vdpbf16ps, which multiplies pairs
 * and adds both products to a float: twice the work a step, with the same loads. A pass of its own at the end, AVX512-BF16 alone. */
#ifndef VEC_PASS
#include "kernels/cpu/gemm.h"

#define ROWS(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12) X(13)

#define VEC_FILE "kernels/cpu/gemm_kernel.c"
#include "kernels/cpu/vec_each.h"

#ifdef __x86_64__
const struct gemm_isa *const cpu_gemm_isa[CPU_ISA_COUNT] = {&gemm_isa_generic, &gemm_isa_avx2, &gemm_isa_avx512};

#include "kernels/cpu/vec_bf16.h"

const struct gemm_isa *const cpu_gemm_bf16 = &gemm_isa_bf16;
#else
const struct gemm_isa *const cpu_gemm_isa[CPU_ISA_COUNT] = {&gemm_isa_generic};
const struct gemm_isa *const cpu_gemm_bf16 = NULL;
#endif

#else

/* acc += a b, place by place. */
VEC_FN vf VEC_NAME(step)(vf a, vf b, vf acc)
{
#ifdef VEC_BF16
    return _mm512_dpbf16_ps(acc, (__m512bh)a, (__m512bh)b);
#else
    return vf_fma(a, b, acc);
#endif
}

/* half: c is bf16; then n is 2 VL. */
VEC_FN void VEC_NAME(tile)(const int MR, const int NV, const int packed, const int half, long k, const float *a, long as, const float *b,
                           float alpha, float beta, float *c, long ldc, long n, struct gemm_ahead *ahead)
{
    long lines = !ahead ? 0 : ahead->left < ahead->most ? ahead->left : ahead->most;
#define X(r) vf p##r = vf_zero(), q##r = vf_zero();
    ROWS(X)
#undef X
#define X(r)                                                                                                           \
    if (MR > r) __builtin_prefetch(half ? c + r * ldc / 2 : c + r * ldc, 1);                                           \
    if (MR > r && NV > 1 && !half) __builtin_prefetch(c + r * ldc + n - 1, 1);
    ROWS(X)
#undef X
    if (packed) {
        for (; k > 0; k--, a += MR, b += NV * VL) {
            if (lines-- > 0) gemm_fetch(ahead);
            vf b0 = vf_load(b), b1 = NV > 1 ? vf_load(b + VL) : vf_zero();
#define X(r)                                                                                                           \
    if (MR > r) {                                                                                                      \
        vf t = vf_set1(a[r]);                                                                                          \
        p##r = VEC_NAME(step)(t, b0, p##r);                                                                            \
        if (NV > 1) q##r = VEC_NAME(step)(t, b1, q##r);                                                                \
    }
            ROWS(X)
#undef X
        }
    } else {
        /* Four pointers and two strides reach every row by base + index * scale. */
        const float *a0 = a, *a4 = a + 4 * as, *a8 = a + 8 * as, *a12 = a + 12 * as;
        long s3 = 3 * as;
        for (; k > 0; k--, a0++, a4++, a8++, a12++, b += NV * VL) {
            if (lines-- > 0) gemm_fetch(ahead);
            vf b0 = vf_load(b), b1 = NV > 1 ? vf_load(b + VL) : vf_zero();
#define X(r)                                                                                                           \
    if (MR > r) {                                                                                                      \
        const float *row = r < 4 ? a0 : r < 8 ? a4 : r < 12 ? a8 : a12;                                                \
        vf t = vf_set1(r % 4 == 0 ? row[0] : r % 4 == 1 ? row[as] : r % 4 == 2 ? row[2 * as] : row[s3]);               \
        p##r = VEC_NAME(step)(t, b0, p##r);                                                                            \
        if (NV > 1) q##r = VEC_NAME(step)(t, b1, q##r);                                                                \
    }
            ROWS(X)
#undef X
        }
    }
    vf al = vf_set1(alpha), be = vf_set1(beta);
#ifdef VEC_BF16
    if (half) {
#define X(r)                                                                                                           \
    if (MR > r) {                                                                                                      \
        uint16_t *row = (uint16_t *)c + r * ldc;                                                                       \
        p##r = vf_mul(al, p##r), q##r = vf_mul(al, q##r);                                                              \
        if (beta != 0) p##r = vf_fma(be, vf_widen_bf16(row, 0xffff), p##r);                                            \
        if (beta != 0) q##r = vf_fma(be, vf_widen_bf16(row + VL, 0xffff), q##r);                                       \
        _mm512_storeu_si512(row, (__m512i)_mm512_cvtne2ps_pbh(q##r, p##r));                                            \
    }
        ROWS(X)
#undef X
        return;
    }
#endif
    if (n == NV * VL) {
#define X(r)                                                                                                           \
    if (MR > r) {                                                                                                      \
        float *row = c + r * ldc;                                                                                      \
        p##r = vf_mul(al, p##r), q##r = vf_mul(al, q##r);                                                              \
        if (beta != 0) p##r = vf_fma(be, vf_load(row), p##r);                                                          \
        if (beta != 0 && NV > 1) q##r = vf_fma(be, vf_load(row + VL), q##r);                                           \
        vf_store(row, p##r);                                                                                           \
        if (NV > 1) vf_store(row + VL, q##r);                                                                          \
    }
        ROWS(X)
#undef X
    } else {
        long n0 = n < VL ? n : VL, n1 = n - VL;
#define X(r)                                                                                                           \
    if (MR > r) {                                                                                                      \
        float *row = c + r * ldc;                                                                                      \
        p##r = vf_mul(al, p##r), q##r = vf_mul(al, q##r);                                                              \
        if (beta != 0) p##r = vf_fma(be, vf_loadn(row, n0), p##r);                                                     \
        if (beta != 0 && NV > 1) q##r = vf_fma(be, vf_loadn(row + VL, n1), q##r);                                      \
        vf_storen(row, p##r, n0);                                                                                      \
        if (NV > 1) vf_storen(row + VL, q##r, n1);                                                                     \
    }
        ROWS(X)
#undef X
    }
}

#define TILE(name, MR, NV, packed, half)                                                                                     \
    static void VEC_NAME(name)(long k, const float *a, long as, const float *b, float alpha, float beta, float *c,     \
                               long ldc, long n, struct gemm_ahead *ahead)                                             \
    {                                                                                                                  \
        VEC_NAME(tile)(MR, NV, packed, half, k, a, as, b, alpha, beta, c, ldc, n, ahead);                              \
    }
#define TILES(MR) TILE(p1_##MR, MR, 1, 1, 0) TILE(p2_##MR, MR, 2, 1, 0) TILE(r1_##MR, MR, 1, 0, 0) TILE(r2_##MR, MR, 2, 0, 0)
#define HALVES(MR) TILE(hp_##MR, MR, 2, 1, 1) TILE(hr_##MR, MR, 2, 0, 1)
#define HALF(MR) {VEC_NAME(hp_##MR), VEC_NAME(hr_##MR)}
#define PACKED(MR) {VEC_NAME(p1_##MR), VEC_NAME(p2_##MR)}
#define DIRECT(MR) {VEC_NAME(r1_##MR), VEC_NAME(r2_##MR)}
TILES(1) TILES(2) TILES(3) TILES(4) TILES(5) TILES(6)
#if VEC_ISA == 2
TILES(7) TILES(8) TILES(9) TILES(10) TILES(11) TILES(12) TILES(13) TILES(14)
#endif
#ifdef VEC_BF16
HALVES(1) HALVES(2) HALVES(3) HALVES(4) HALVES(5) HALVES(6) HALVES(7) HALVES(8) HALVES(9) HALVES(10) HALVES(11) HALVES(12) HALVES(13) HALVES(14)
#endif

#ifndef VEC_BF16
/* Dot products, 4 rows of b at a time (8 where there is one row of a): b streams from memory once, each sum is one vector until the end. */
VEC_FN void VEC_NAME(dot_block)(const int MR, const int NB, long k, const float *a, long as, const float *b, long bs, float alpha,
                                float beta, float *c, long ldc, long sc)
{
    vf acc[4 * 4];
#pragma GCC unroll 16
    for (int i = 0; i < MR * NB; i++) acc[i] = vf_zero();
    long kk = 0;
    for (; kk + VL <= k; kk += VL) {
        vf x[4];
#pragma GCC unroll 4
        for (int i = 0; i < MR; i++) x[i] = vf_load(a + i * as + kk);
#pragma GCC unroll 8
        for (int j = 0; j < NB; j++) {
            vf y = vf_load(b + j * bs + kk);
#pragma GCC unroll 4
            for (int i = 0; i < MR; i++) acc[i * NB + j] = vf_fma(x[i], y, acc[i * NB + j]);
        }
    }
    if (kk < k) {
        vf x[4];
#pragma GCC unroll 4
        for (int i = 0; i < MR; i++) x[i] = vf_loadn(a + i * as + kk, k - kk);
#pragma GCC unroll 8
        for (int j = 0; j < NB; j++) {
            vf y = vf_loadn(b + j * bs + kk, k - kk);
#pragma GCC unroll 4
            for (int i = 0; i < MR; i++) acc[i * NB + j] = vf_fma(x[i], y, acc[i * NB + j]);
        }
    }
#pragma GCC unroll 4
    for (int i = 0; i < MR; i++)
#pragma GCC unroll 8
        for (int j = 0; j < NB; j++) {
            float *p = c + i * ldc + j * sc, s = alpha * vf_hsum(acc[i * NB + j]);
            *p = beta != 0 ? s + beta * *p : s;
        }
}

#define DOT(MR, NB)                                                                                                    \
    static void VEC_NAME(dot_##MR)(long k, const float *a, long as, const float *b, long bs, long n, float alpha,      \
                                   float beta, float *c, long ldc, long sc)                                            \
    {                                                                                                                  \
        long j = 0;                                                                                                    \
        for (; j + NB <= n; j += NB) VEC_NAME(dot_block)(MR, NB, k, a, as, b + j * bs, bs, alpha, beta, c + j * sc, ldc, sc); \
        for (; j < n; j++) VEC_NAME(dot_block)(MR, 1, k, a, as, b + j * bs, bs, alpha, beta, c + j * sc, ldc, sc);     \
    }
DOT(1, 8) DOT(2, 4) DOT(3, 4)
#if VEC_ISA == 2
DOT(4, 4)
#else
DOT(4, 2)
#endif

/* A strip of NV vectors of c is held while k runs down b. */
VEC_FN void VEC_NAME(strip)(const int MR, const int NV, const int edge, long k, const float *a, long as, long ak, const float *b, long bs,
                            long n, float alpha, float beta, float *c, long ldc)
{
    vf acc[24];
#pragma GCC unroll 24
    for (int i = 0; i < MR * NV; i++) acc[i] = vf_zero();
    for (long kk = 0; kk < k; kk++, a += ak, b += bs) {
        vf x[4];
#pragma GCC unroll 4
        for (int i = 0; i < MR; i++) x[i] = vf_set1(a[i * as]);
#pragma GCC unroll 8
        for (int j = 0; j < NV; j++) {
            vf y = edge ? vf_loadn(b, n) : vf_load(b + j * VL);
#pragma GCC unroll 4
            for (int i = 0; i < MR; i++) acc[i * NV + j] = vf_fma(x[i], y, acc[i * NV + j]);
        }
    }
#pragma GCC unroll 4
    for (int i = 0; i < MR; i++)
#pragma GCC unroll 8
        for (int j = 0; j < NV; j++) {
            float *p = c + i * ldc + j * VL;
            vf v = vf_mul(vf_set1(alpha), acc[i * NV + j]);
            if (beta != 0) v = vf_fma(vf_set1(beta), edge ? vf_loadn(p, n) : vf_load(p), v);
            if (edge) vf_storen(p, v, n);
            else vf_store(p, v);
        }
}

#define AXPY(MR, NV)                                                                                                   \
    static void VEC_NAME(axpy_##MR)(long k, const float *a, long as, long ak, const float *b, long bs, long n,         \
                                    float alpha, float beta, float *c, long ldc)                                       \
    {                                                                                                                  \
        long j = 0;                                                                                                    \
        for (; j + NV * VL <= n; j += NV * VL) VEC_NAME(strip)(MR, NV, 0, k, a, as, ak, b + j, bs, 0, alpha, beta, c + j, ldc); \
        for (; j + VL <= n; j += VL) VEC_NAME(strip)(MR, 1, 0, k, a, as, ak, b + j, bs, 0, alpha, beta, c + j, ldc);   \
        if (j < n) VEC_NAME(strip)(MR, 1, 1, k, a, as, ak, b + j, bs, n - j, alpha, beta, c + j, ldc);                 \
    }
#if VEC_ISA == 2
AXPY(1, 8) AXPY(2, 8) AXPY(3, 8) AXPY(4, 6)
#else
AXPY(1, 8) AXPY(2, 4) AXPY(3, 4) AXPY(4, 3)
#endif

/* 4 x 4 blocks, transposed in registers: enough, since packing moves each value once for every tile row or column it meets. */
typedef float VEC_NAME(f4) __attribute__((vector_size(16), aligned(4), may_alias));
VEC_FN void VEC_NAME(transpose4)(float *dst, long w, const float *src, long si)
{
    typedef VEC_NAME(f4) f4;
    f4 r0 = *(const f4 *)src, r1 = *(const f4 *)(src + si), r2 = *(const f4 *)(src + 2 * si), r3 = *(const f4 *)(src + 3 * si);
    f4 t0 = __builtin_shufflevector(r0, r1, 0, 4, 1, 5), t1 = __builtin_shufflevector(r2, r3, 0, 4, 1, 5);
    f4 t2 = __builtin_shufflevector(r0, r1, 2, 6, 3, 7), t3 = __builtin_shufflevector(r2, r3, 2, 6, 3, 7);
    *(f4 *)dst = __builtin_shufflevector(t0, t1, 0, 1, 4, 5);
    *(f4 *)(dst + w) = __builtin_shufflevector(t0, t1, 2, 3, 6, 7);
    *(f4 *)(dst + 2 * w) = __builtin_shufflevector(t2, t3, 0, 1, 4, 5);
    *(f4 *)(dst + 3 * w) = __builtin_shufflevector(t2, t3, 2, 3, 6, 7);
}

static void VEC_NAME(pack)(float *dst, long w, const float *src, long si, long sk, long n, long k)
{
    long kk, i;
    if (si == 1) {
        for (kk = 0; kk < k; kk++, dst += w, src += sk) {
            for (i = 0; i + VL <= n; i += VL) vf_store(dst + i, vf_load(src + i));
            if (i < n) vf_storen(dst + i, vf_loadn(src + i, n - i), n - i), i = n;
            for (; i < w; i++) dst[i] = 0;
        }
        return;
    }
    /* 64 steps at a time: their part of dst stays in L1 while four rows after four rows arrive in it. */
    long whole = sk == 1 && n >= 4 ? k & ~3L : 0;
    for (long k0 = 0; k0 < whole; k0 += 64) {
        long k1 = k0 + 64 < whole ? k0 + 64 : whole;
        for (i = 0; i < n; i += 4) {
            /* at the end some rows again that are done: same values to the same places */
            long j = i + 4 <= n ? i : n - 4;
            for (kk = k0; kk < k1; kk += 4) VEC_NAME(transpose4)(dst + kk * w + j, w, src + j * si + kk, si);
        }
        for (kk = k0; kk < k1 && n < w; kk++)
            for (i = n; i < w; i++) dst[kk * w + i] = 0;
    }
    for (kk = whole; kk < k; kk++)
        for (i = 0; i < w; i++) dst[kk * w + i] = i < n ? src[i * si + kk * sk] : 0;
}

#else /* VEC_BF16 */

/* 16 pairs from two vectors of floats, or of numbers that are bf16 already: pair i is lo[i], hi[i]. */
VEC_FN __m512i VEC_NAME(pairs)(const int half, const void *lo, const void *hi, __mmask16 m)
{
    if (half) {
        __m512i l = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(m, lo)), h = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(hi ? m : 0, hi));
        return _mm512_or_si512(l, _mm512_slli_epi32(h, 16));
    }
    return (__m512i)vf_pairs_bf16(_mm512_maskz_loadu_ps(m, lo), _mm512_maskz_loadu_ps(hi ? m : 0, hi));
}

/* n <= 32 neighbours of a sum as 16 pairs, zeros after them. */
VEC_FN __m512i VEC_NAME(run)(const int half, const void *p, long n)
{
    uint32_t m = n >= 32 ? 0xffffffffu : (1u << n) - 1;
    if (half) return _mm512_maskz_loadu_epi16(m, p);
    const float *f = p;
    return (__m512i)_mm512_cvtne2ps_pbh(_mm512_maskz_loadu_ps((__mmask16)(m >> 16), f + 16), _mm512_maskz_loadu_ps((__mmask16)m, f));
}

/* 16 x 16 words: r[i][j] becomes r[j][i]. */
VEC_FN void VEC_NAME(transpose16)(__m512i *r)
{
    __m512i t[16];
#pragma GCC unroll 8
    for (int i = 0; i < 16; i += 2) t[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]), t[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
#pragma GCC unroll 4
    for (int i = 0; i < 16; i += 4) {
        r[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]), r[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
        r[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]), r[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
    }
    /* r[4 g + c], lane l: column 4 l + c of rows 4 g to 4 g + 3 */
#pragma GCC unroll 4
    for (int c = 0; c < 4; c++) {
        __m512i a = _mm512_shuffle_i32x4(r[c], r[4 + c], 0x88), b = _mm512_shuffle_i32x4(r[c], r[4 + c], 0xdd);
        __m512i d = _mm512_shuffle_i32x4(r[8 + c], r[12 + c], 0x88), e = _mm512_shuffle_i32x4(r[8 + c], r[12 + c], 0xdd);
        t[c] = _mm512_shuffle_i32x4(a, d, 0x88), t[8 + c] = _mm512_shuffle_i32x4(a, d, 0xdd);
        t[4 + c] = _mm512_shuffle_i32x4(b, e, 0x88), t[12 + c] = _mm512_shuffle_i32x4(b, e, 0xdd);
    }
#pragma GCC unroll 16
    for (int i = 0; i < 16; i++) r[i] = t[i];
}

VEC_FN uint16_t VEC_NAME(one)(const int half, const void *src, long i)
{
    return half ? ((const uint16_t *)src)[i] : (uint16_t)_mm_extract_epi16((__m128i)_mm_cvtneps_pbh(_mm_set_ss(((const float *)src)[i])), 0);
}

/* k rows, sk bytes between them, one or two vectors of columns. all: live and room are all ones. */
VEC_FN void VEC_NAME(pack_columns)(const int half, const int NV, const int all, float *dst, long w, const char *p, long sk, long k, __mmask16 live, __mmask16 room)
{
    if (all) live = room = 0xffff;
    for (; k > 0; k -= 2, dst += w, p += 2 * sk)
        for (int i = 0; i < NV; i++) {
            const char *q = p + i * VL * (half ? 2 : 4);
            __m512i v = k > 1 ? VEC_NAME(pairs)(half, q, q + sk, live) : VEC_NAME(pairs)(half, q, NULL, live);
            if (all) _mm512_storeu_si512(dst + i * VL, v);
            else _mm512_mask_storeu_epi32(dst + i * VL, room, v);
        }
}

VEC_FN void VEC_NAME(pack_any)(const int half, float *dst, long w, const void *src, long si, long sk, long n, long k)
{
    const long size = half ? 2 : 4;
    const char *p = src;
    if (si == 1) {
        for (long i = 0; i < w; i += VL) {
            long live = n - i < 0 ? 0 : n - i < VL ? n - i : VL, room = w - i < VL ? w - i : VL;
            __mmask16 lm = (__mmask16)((1u << live) - 1), rm = (__mmask16)((1u << room) - 1);
            if (n - i >= 2 * VL) {
                VEC_NAME(pack_columns)(half, 2, 1, dst + i, w, p + i * size, sk * size, k, lm, rm);
                i += VL;
            } else if (live == VL) VEC_NAME(pack_columns)(half, 1, 1, dst + i, w, p + i * size, sk * size, k, lm, rm);
            else VEC_NAME(pack_columns)(half, 1, 0, dst + i, w, p + i * size, sk * size, k, lm, rm);
        }
        return;
    }
    if (sk == 1) {
        /* 64 steps at a time: their part of dst stays in L1 while 16 rows after 16 rows arrive in it. */
        for (long k0 = 0; k0 < k; k0 += 128)
            for (long i = 0; i < w; i += VL)
                for (long kk = k0; kk < k && kk < k0 + 128; kk += 32) {
                    __m512i r[16];
                    long left = k - kk < 32 ? k - kk : 32, room = w - i < VL ? w - i : VL;
#pragma GCC unroll 16
                    for (int x = 0; x < 16; x++) r[x] = i + x < n ? VEC_NAME(run)(half, p + ((i + x) * si + kk) * size, left) : _mm512_setzero_si512();
                    VEC_NAME(transpose16)(r);
                    float *d = dst + kk / 2 * w + i;
#pragma GCC unroll 16
                    for (int x = 0; x < 16; x++)
                        if (2 * x < left) _mm512_mask_storeu_epi32(d + x * w, (__mmask16)((1u << room) - 1), r[x]);
                }
        return;
    }
    for (long kk = 0; kk < k; kk += 2)
        for (long i = 0; i < w; i++) {
            uint32_t v = 0;
            if (i < n) v = VEC_NAME(one)(half, src, i * si + kk * sk);
            if (i < n && kk + 1 < k) v |= (uint32_t)VEC_NAME(one)(half, src, i * si + (kk + 1) * sk) << 16;
            memcpy(dst + kk / 2 * w + i, &v, 4);
        }
}

static void VEC_NAME(pack)(float *dst, long w, const float *src, long si, long sk, long n, long k)
{
    VEC_NAME(pack_any)(0, dst, w, src, si, sk, n, k);
}

static void VEC_NAME(pack_half)(float *dst, long w, const uint16_t *src, long si, long sk, long n, long k)
{
    VEC_NAME(pack_any)(1, dst, w, src, si, sk, n, k);
}

static void VEC_NAME(lay)(float *dst, long ld, const void *src, int half, long stride, long m, long k)
{
    for (long r = 0; r < m; r++, dst += ld) {
        const char *p = (const char *)src + r * stride * (half ? 2 : 4);
        for (long kk = 0; kk < k; kk += 32) {
            long left = k - kk < 32 ? k - kk : 32;
            __m512i v = half ? VEC_NAME(run)(1, p + kk * 2, left) : VEC_NAME(run)(0, p + kk * 4, left);
            if (left > 30) _mm512_storeu_si512(dst + kk / 2, v);
            else _mm512_mask_storeu_epi32(dst + kk / 2, (__mmask16)((1u << (left + 1) / 2) - 1), v);
        }
    }
}

static void VEC_NAME(narrow)(uint16_t *c, long ldc, const float *t, long ldt, float beta, long m, long n)
{
    for (long r = 0; r < m; r++, c += ldc, t += ldt)
        for (long j = 0; j < n; j += VL) {
            __mmask16 mask = (__mmask16)(n - j < VL ? (1u << (n - j)) - 1 : 0xffffu);
            vf v = _mm512_maskz_loadu_ps(mask, t + j);
            if (beta != 0) {
                vf old = (vf)_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, c + j)), 16);
                v = vf_fma(vf_set1(beta), old, v);
            }
            _mm256_mask_storeu_epi16(c + j, mask, (__m256i)_mm512_cvtneps_pbh(v));
        }
}
#endif

static const struct gemm_isa VEC_NAME(gemm_isa) = {
#if VEC_ISA == 2
    .mr = 14,
    .packed = {PACKED(1), PACKED(2), PACKED(3), PACKED(4), PACKED(5), PACKED(6), PACKED(7), PACKED(8), PACKED(9), PACKED(10), PACKED(11),
               PACKED(12), PACKED(13), PACKED(14)},
    .rows = {DIRECT(1), DIRECT(2), DIRECT(3), DIRECT(4), DIRECT(5), DIRECT(6), DIRECT(7), DIRECT(8), DIRECT(9), DIRECT(10), DIRECT(11),
             DIRECT(12), DIRECT(13), DIRECT(14)},
#else
    .mr = 6,
    .packed = {PACKED(1), PACKED(2), PACKED(3), PACKED(4), PACKED(5), PACKED(6)},
    .rows = {DIRECT(1), DIRECT(2), DIRECT(3), DIRECT(4), DIRECT(5), DIRECT(6)},
#endif
    .vl = VL,
#ifdef VEC_BF16
    .fold = 2,
    .half = {HALF(1), HALF(2), HALF(3), HALF(4), HALF(5), HALF(6), HALF(7), HALF(8), HALF(9), HALF(10), HALF(11), HALF(12), HALF(13), HALF(14)},
    .pack_half = VEC_NAME(pack_half),
    .lay = VEC_NAME(lay),
    .narrow = VEC_NAME(narrow),
#else
    .fold = 1,
    .dot = {VEC_NAME(dot_1), VEC_NAME(dot_2), VEC_NAME(dot_3), VEC_NAME(dot_4)},
    .axpy = {VEC_NAME(axpy_1), VEC_NAME(axpy_2), VEC_NAME(axpy_3), VEC_NAME(axpy_4)},
#endif
    .pack = VEC_NAME(pack),
};

#undef TILE
#undef TILES
#undef PACKED
#undef DIRECT
#undef HALVES
#undef HALF
#undef DOT
#undef AXPY
#endif
