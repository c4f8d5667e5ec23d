/* The products that chunked scans (ssd.h, delta.h, gla.h) are made of: what a state gives, decayed, and what the chunk's own tokens give. */
#ifndef TAUT_KERNELS_CPU_SCAN_SUM_H
#define TAUT_KERNELS_CPU_SCAN_SUM_H

#include <stdint.h>

/* One product or two with what stands before them:
 *   c[r][v] = scale_r (keep w[r][v] + sum over i < n1 of a1[r,i] b1[i][v]) + sum over i < n2 of a2[r,i] b2[i][v]
 * a2 of shape SCAN_LOWER: i <= r alone; SCAN_UPPER: i >= r; its entries beyond, within four of the diagonal, are read and must be zero. keep 0 does not
 * read w, which is `was` (NULL: c itself); scale NULL: 1. Strides ar between rows, ac along the sum. In bf16 sums are over pairs. */
enum { SCAN_ALL, SCAN_LOWER, SCAN_UPPER };
struct scan_sum {
    float keep;
    const float *was; /* in rows like c's */
    const float *a1;
    int64_t ar1, ac1;
    const float *b1;
    int64_t bs1, n1;
    const float *scale;
    int shape;
    const float *a2;
    int64_t ar2, ac2;
    const float *b2;
    int64_t bs2, n2;
    float *c;
    int64_t cs;
};

#endif
