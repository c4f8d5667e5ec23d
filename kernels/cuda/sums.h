/* The second half of sums over rows that blocks have summed in parts: parts [parts][rows][width] of f32, row j of them all is added up in the order of the parts, and
 * to what the gradients hold.
 *
 *   CUDA_TRY(sums_add(dev, part, parts, rows, width, first, last));   // first [width, rows - 1], last [width]; NULL: not wanted */
#ifndef TAUT_KERNELS_CUDA_SUMS_H
#define TAUT_KERNELS_CUDA_SUMS_H

#include "kernels/cuda/cuda.h"

constexpr int SUMS_ACROSS = 32, SUMS_DEEP = 16, SUMS_BATCH = 8;

/* A block takes 32 columns; each of 16 warps a run of the parts, whose sums are then added in order. */
KN_KERNEL(SUMS_ACROSS * SUMS_DEEP) sums_of_parts(const float *part, int64_t parts, int64_t rows, int64_t width, cu_mat<float> first, cu_vec<float> last)
{
    KN_SHARED(float, mem);
    float(*sum)[SUMS_ACROSS] = (float(*)[SUMS_ACROSS])mem;
    int lane = threadIdx.x % SUMS_ACROSS, deep = threadIdx.x / SUMS_ACROSS;
    int64_t i = (int64_t)blockIdx.x * SUMS_ACROSS + lane, n = rows * width;
    int64_t each = (parts + SUMS_DEEP - 1) / SUMS_DEEP, from = deep * each, to = from + each < parts ? from + each : parts;
    float s = 0;
    if (i < n) {
        const float *p = part + i;
        for (; from + SUMS_BATCH <= to; from += SUMS_BATCH) {
            float v[SUMS_BATCH];
            KN_UNROLL for (int k = 0; k < SUMS_BATCH; k++) v[k] = p[(from + k) * n];
            KN_UNROLL for (int k = 0; k < SUMS_BATCH; k++) s += v[k];
        }
        for (; from < to; from++) s += p[from * n];
    }
    sum[deep][lane] = s;
    __syncthreads();
    if (deep || i >= n) return;
    for (int k = 1; k < SUMS_DEEP; k++) s += sum[k][lane];
    int64_t j = i / width, w = i - j * width;
    if (j < rows - 1) *cu_at(first, w, j) += s;
    else if (last.p) *cu_at(last, w) += s;
}

static inline st_t sums_add(struct kn_dev *dev, const float *part, int64_t parts, int64_t rows, int64_t width, const struct kn_tensor *first, const struct kn_tensor *last)
{
    CUDA_RUN(dev, sums_of_parts, cuda_blocks(rows * width, SUMS_ACROSS), SUMS_ACROSS * SUMS_DEEP, SUMS_ACROSS * SUMS_DEEP * sizeof(float), part, parts, rows, width, first, last);
    return ST_OK;
}

#endif
