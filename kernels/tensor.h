/* Tensor descriptors: a pointer, a type, dims and strides. They own nothing and are passed by const pointer.
 *
 *   struct kn_tensor w = kn_t2(p, KN_F32, out, in);                 // row-major [out, in]
 *   struct kn_tensor wt = kn_transpose(&w);                         // [in, out], same memory
 *   struct kn_tensor h1 = kn_slice(&w, 0, 64, 32);                  // rows 64..95
 *
 * Strides are in elements and may be anything (weight sharing slices leading rows and columns), except where an op says "unit last stride". */
#ifndef TAUT_KERNELS_TENSOR_H
#define TAUT_KERNELS_TENSOR_H

#include <stddef.h>
#include <stdint.h>

/* KN_I8: weights at rest, [out, in] or [experts, out, in]: a row's numbers are int8 times one f32 scale, which lies behind them (largest magnitude = 127);
 * rows are in + KN_I8_TAIL bytes apart. Made by op copy, read by gemm (as a transposed b) and embed; sliced along leading dims alone. */
enum kn_dtype { KN_F32, KN_F64, KN_BF16, KN_I32, KN_U8, KN_I8, KN_DTYPE_COUNT };
#define KN_I8_TAIL ((int64_t)sizeof(float))

#define KN_RANK 4
struct kn_tensor {
    void *p;             /* device memory; NULL: absent, where an op allows it */
    enum kn_dtype dtype;
    int rank;            /* 1..KN_RANK */
    int64_t d[KN_RANK];  /* dims */
    int64_t s[KN_RANK];  /* strides, elements */
};

size_t kn_dtype_size(enum kn_dtype t);
const char *kn_dtype_name(enum kn_dtype t); /* "f32", "f64", "bf16", "i32", "u8", "int8" */

struct kn_tensor kn_t1(void *p, enum kn_dtype t, int64_t d0);
struct kn_tensor kn_t2(void *p, enum kn_dtype t, int64_t d0, int64_t d1);
struct kn_tensor kn_t3(void *p, enum kn_dtype t, int64_t d0, int64_t d1, int64_t d2);
struct kn_tensor kn_t4(void *p, enum kn_dtype t, int64_t d0, int64_t d1, int64_t d2, int64_t d3);
struct kn_tensor kn_transpose(const struct kn_tensor *t);                             /* swaps the last two dims */
struct kn_tensor kn_slice(const struct kn_tensor *t, int dim, int64_t from, int64_t n);
/* Splits dim i (its length a*b) into two dims a, b; rank grows by one. */
struct kn_tensor kn_split(const struct kn_tensor *t, int dim, int64_t a, int64_t b);
int64_t kn_count(const struct kn_tensor *t); /* elements */

#endif
