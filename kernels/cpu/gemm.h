/* Products, the parts: micro-kernels and packing for one instruction set. Private to cpu/gemm*.c. */
#ifndef TAUT_KERNELS_CPU_GEMM_H
#define TAUT_KERNELS_CPU_GEMM_H

#include "kernels/cpu/cpu.h"

#define GEMM_MR 14 /* rows of the largest tile of any set */

/* One tile: c[m, n] = alpha a b + beta c, beta = 0 does not read c. c has unit column stride, ldc between rows.
 *   b: k rows of nv vectors each, as pack lays them out (zeros beyond n).
 *   a: packed, k groups of m values (as unused); or rows as they are, as between rows and unit stride along k. */
typedef void (*gemm_tile)(long k, const float *a, long as, const float *b, float alpha, float beta, float *c, long ldc, long n);

/* Rows of a against rows of b, both with unit stride along k; m <= 4:  c[i * ldc + j * sc] = alpha a_i.b_j + beta c. */
typedef void (*gemm_dot)(long k, const float *a, long as, const float *b, long bs, long n, float alpha, float beta, float *c, long ldc, long sc);

/* m <= 4 rows of a times b [k, n] with unit stride along n; c has unit column stride. */
typedef void (*gemm_axpy)(long k, const float *a, long as, long ak, const float *b, long bs, long n, float alpha, float beta, float *c, long ldc);

struct gemm_isa {
    int mr, vl; /* a tile is at most mr rows and 2 vl columns */
    gemm_tile packed[GEMM_MR][2], rows[GEMM_MR][2]; /* [m - 1][n > vl] */
    gemm_dot dot[4];
    gemm_axpy axpy[4];
    /* dst[kk * w + i] = src[i * si + kk * sk] for i < n, 0 for n <= i < w. */
    void (*pack)(float *dst, long w, const float *src, long si, long sk, long n, long k);
};

extern const struct gemm_isa *const cpu_gemm_isa[CPU_ISA_COUNT];

#endif
