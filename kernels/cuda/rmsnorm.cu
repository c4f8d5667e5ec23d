/* RMSNorm with the residual add before it. Bytes a row: forward x, r read, x, y written; backward x, dy, dx read, dx written.
 *
 * A block a row. Backward: block b takes rows b, b + B, … and keeps its share of dw in shared memory; the shares are summed in the order of b. */
#include "kernels/cuda/cuda.h"

constexpr int THREADS = 256, PARTS_MOST = 256;

template <class Y>
KN_KERNEL(THREADS) forward(cu_mat<float> x, cu_mat<float> r, cu_vec<float> w, float eps, cu_mat<Y> y, cu_vec<float> rstd, int64_t D)
{
    KN_SHARED(float, part);
    int64_t n = blockIdx.x;
    float ss = 0;
    for (int64_t d = threadIdx.x; d < D; d += THREADS) {
        float v = *cu_at(x, n, d);
        if (r.p) *cu_at(x, n, d) = v += *cu_at(r, n, d);
        ss = fmaf(v, v, ss);
    }
    float s = rsqrtf(cu_block_sum(ss, part) / (float)D + eps);
    if (threadIdx.x == 0) *cu_at(rstd, n) = s;
    for (int64_t d = threadIdx.x; d < D; d += THREADS) cu_put(cu_at(y, n, d), *cu_at(w, d) * *cu_at(x, n, d) * s);
}

extern "C" st_t cuda_rmsnorm(struct kn_dev *dev, const struct kn_tensor *x, const struct kn_tensor *r, const struct kn_tensor *w, double eps, const struct kn_tensor *y,
                             const struct kn_tensor *rstd)
{
    CUDA_TRY(kn_check_rmsnorm(x, r, w, eps, y, rstd));
    if (!cuda_is_f32(x) || !cuda_has(dev, y)) return ST_ENOTSUP;
    int64_t N = x->d[0], D = x->d[1];
    if (kn_absent(r)) r = NULL;
    if (y->dtype == KN_BF16) CUDA_RUN(dev, forward<bf16>, N, THREADS, 32 * sizeof(float), x, r, w, (float)eps, y, rstd, D);
    else CUDA_RUN(dev, forward<float>, N, THREADS, 32 * sizeof(float), x, r, w, (float)eps, y, rstd, D);
    return ST_OK;
}

/* With n = x rstd:  dx += rstd (dy w - n mean(dy w n)),  dw += dy n. */
KN_KERNEL(THREADS) backward(cu_mat<float> x, cu_vec<float> w, cu_vec<float> rstd, cu_mat<float> dy, cu_mat<float> dx, float *dw, int64_t N, int64_t D)
{
    KN_SHARED(float, part);
    float *sum = dw + (int64_t)blockIdx.x * D;
    for (int64_t d = threadIdx.x; d < D; d += THREADS) sum[d] = 0;
    for (int64_t n = blockIdx.x; n < N; n += gridDim.x) {
        float s = *cu_at(rstd, n), dot = 0;
        for (int64_t d = threadIdx.x; d < D; d += THREADS) dot = fmaf(*cu_at(w, d) * *cu_at(dy, n, d), *cu_at(x, n, d) * s, dot);
        float mean = cu_block_sum(dot, part) / (float)D;
        for (int64_t d = threadIdx.x; d < D; d += THREADS) {
            float g = *cu_at(dy, n, d), v = *cu_at(x, n, d) * s;
            *cu_at(dx, n, d) += s * (g * *cu_at(w, d) - v * mean);
            sum[d] = fmaf(g, v, sum[d]); /* this thread alone reads and writes it */
        }
    }
}

/* dw [D] += sum of `parts` rows of D, in their order. */
KN_KERNEL(THREADS) add_parts(const float *part, int64_t parts, cu_vec<float> dw, int64_t D)
{
    int64_t d = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (d >= D) return;
    float sum = 0;
    for (int64_t p = 0; p < parts; p++) sum += part[p * D + d];
    *cu_at(dw, d) += sum;
}

extern "C" st_t cuda_rmsnorm_bwd(struct kn_dev *dev, const struct kn_tensor *x, const struct kn_tensor *w, const struct kn_tensor *rstd, const struct kn_tensor *dy,
                                 const struct kn_tensor *dx, const struct kn_tensor *dw)
{
    CUDA_TRY(kn_check_rmsnorm_bwd(x, w, rstd, dy, dx, dw));
    if (!cuda_is_f32(x)) return ST_ENOTSUP;
    int64_t N = x->d[0], D = x->d[1], parts = N < PARTS_MOST ? N : PARTS_MOST;
    void *p;
    if (!N || !D) return ST_OK;
    CUDA_TRY(cuda_scratch(dev, CUDA_SLOT_A, (size_t)(parts * D) * sizeof(float), &p));
    CUDA_RUN(dev, backward, parts, THREADS, 32 * sizeof(float), x, w, rstd, dy, dx, (float *)p, N, D);
    CUDA_RUN(dev, add_parts, cuda_blocks(D, THREADS), THREADS, 0, (const float *)p, parts, dw, D);
    return ST_OK;
}
