/* Products with few rows, straight from the operands. Private to cpu/gemm*.c. */
#ifndef TAUT_KERNELS_CPU_GEMM_SMALL_H
#define TAUT_KERNELS_CPU_GEMM_SMALL_H

#include "kernels/cpu/gemm.h"

#define SMALL_M 16

struct gemm_args {
    long m, n, k;
    const float *a;
    long am, ak;
    const float *b;
    long bk, bn;
    float *c;
    long cm, cn;
    float alpha, beta;
};

int gemm_small_fits(const struct gemm_args *g);
/* Allocates nothing; ST_OK. */
st_t gemm_small(struct kn_dev *dev, const struct gemm_isa *isa, const struct gemm_args *g);

#endif
