/* Micro-kernels of the product. Accumulators are named, not an array, so that they are registers at any optimisation level; MR and NV are
 * constants wherever tile() is inlined, and what a smaller tile does not need falls away.
 *
 * AVX-512: 14 x 2 vectors = 28 accumulators, two of b, one broadcast: 31 of 32 registers; a step of k is 28 fused multiply-adds against two
 * loads and 14 broadcasts, so the multipliers and not the load ports are the limit. AVX2 and generic: 6 x 2 of 16 registers. */
#ifndef VEC_PASS
#include "kernels/cpu/gemm.h"

#define ROWS(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12) X(13)

#define VEC_FILE "kernels/cpu/gemm_kernel.c"
#include "kernels/cpu/vec_each.h"

#ifdef __x86_64__
const struct gemm_isa *const cpu_gemm_isa[CPU_ISA_COUNT] = {&gemm_isa_generic, &gemm_isa_avx2, &gemm_isa_avx512};
#else
const struct gemm_isa *const cpu_gemm_isa[CPU_ISA_COUNT] = {&gemm_isa_generic};
#endif

#else

VEC_FN void VEC_NAME(tile)(const int MR, const int NV, const int packed, long k, const float *a, long as, const float *b,
                           float alpha, float beta, float *c, long ldc, long n)
{
#define X(r) vf p##r = vf_zero(), q##r = vf_zero();
    ROWS(X)
#undef X
#define X(r)                                                                                                           \
    if (MR > r) __builtin_prefetch(c + r * ldc, 1);                                                                    \
    if (MR > r && NV > 1) __builtin_prefetch(c + r * ldc + n - 1, 1);
    ROWS(X)
#undef X
    if (packed) {
        for (; k > 0; k--, a += MR, b += NV * VL) {
            vf b0 = vf_load(b), b1 = NV > 1 ? vf_load(b + VL) : vf_zero();
#define X(r)                                                                                                           \
    if (MR > r) {                                                                                                      \
        vf t = vf_set1(a[r]);                                                                                          \
        p##r = vf_fma(t, b0, p##r);                                                                                    \
        if (NV > 1) q##r = vf_fma(t, b1, q##r);                                                                        \
    }
            ROWS(X)
#undef X
        }
    } else {
        /* Four pointers and two strides reach every row by base + index * scale. */
        const float *a0 = a, *a4 = a + 4 * as, *a8 = a + 8 * as, *a12 = a + 12 * as;
        long s3 = 3 * as;
        for (; k > 0; k--, a0++, a4++, a8++, a12++, b += NV * VL) {
            vf b0 = vf_load(b), b1 = NV > 1 ? vf_load(b + VL) : vf_zero();
#define X(r)                                                                                                           \
    if (MR > r) {                                                                                                      \
        const float *row = r < 4 ? a0 : r < 8 ? a4 : r < 12 ? a8 : a12;                                                \
        vf t = vf_set1(r % 4 == 0 ? row[0] : r % 4 == 1 ? row[as] : r % 4 == 2 ? row[2 * as] : row[s3]);               \
        p##r = vf_fma(t, b0, p##r);                                                                                    \
        if (NV > 1) q##r = vf_fma(t, b1, q##r);                                                                        \
    }
            ROWS(X)
#undef X
        }
    }
    vf al = vf_set1(alpha), be = vf_set1(beta);
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

#define TILE(name, MR, NV, packed)                                                                                     \
    static void VEC_NAME(name)(long k, const float *a, long as, const float *b, float alpha, float beta, float *c,     \
                               long ldc, long n)                                                                       \
    {                                                                                                                  \
        VEC_NAME(tile)(MR, NV, packed, k, a, as, b, alpha, beta, c, ldc, n);                                           \
    }
#define TILES(MR) TILE(p1_##MR, MR, 1, 1) TILE(p2_##MR, MR, 2, 1) TILE(r1_##MR, MR, 1, 0) TILE(r2_##MR, MR, 2, 0)
#define PACKED(MR) {VEC_NAME(p1_##MR), VEC_NAME(p2_##MR)}
#define DIRECT(MR) {VEC_NAME(r1_##MR), VEC_NAME(r2_##MR)}
TILES(1) TILES(2) TILES(3) TILES(4) TILES(5) TILES(6)
#if VEC_ISA == 2
TILES(7) TILES(8) TILES(9) TILES(10) TILES(11) TILES(12) TILES(13) TILES(14)
#endif

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
    .dot = {VEC_NAME(dot_1), VEC_NAME(dot_2), VEC_NAME(dot_3), VEC_NAME(dot_4)},
    .axpy = {VEC_NAME(axpy_1), VEC_NAME(axpy_2), VEC_NAME(axpy_3), VEC_NAME(axpy_4)},
    .pack = VEC_NAME(pack),
};

#undef TILE
#undef TILES
#undef PACKED
#undef DIRECT
#undef DOT
#undef AXPY
#endif
