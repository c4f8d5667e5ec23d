/* Sum of squares of a vector, and what clips gradients by it, in f64: the square of an f32 number is exact there. Bytes an element: 1 read. Threads, lanes, warps and blocks are summed in an order
 * that the length and the place within 16 bytes decide. */
#include "kernels/cuda/cuda.h"

constexpr int THREADS = 256, BATCH = 4;
constexpr int64_t BLOCKS_MOST = 1024;
constexpr size_t SHARED = THREADS / 32 * sizeof(double);

/* The block's sum in thread 0. part: a number a warp. */
KN_DEVICE double block_sum(double s, double *part)
{
    KN_UNROLL for (int o = 16; o; o >>= 1) s += __shfl_xor_sync(KN_FULL, s, o);
    if (threadIdx.x % 32 == 0) part[threadIdx.x / 32] = s;
    __syncthreads();
    s = 0;
    if (threadIdx.x == 0)
        for (int i = 0; i < THREADS / 32; i++) s += part[i];
    return s;
}

KN_DEVICE void add(double *s, float v)
{
    *s = fma((double)v, (double)v, *s);
}

/* head: numbers before the first whole four. */
KN_KERNEL(THREADS) squares(const float *x, int64_t n, int head, double *sum)
{
    KN_SHARED(double, part);
    const float *fours = x + head;
    int64_t count = (n - head) / 4, step = (int64_t)gridDim.x * THREADS, i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    double s[4] = {};
    if (i < head) add(&s[0], x[i]);
    if (i < n - head - 4 * count) add(&s[1], fours[4 * count + i]);
    for (; i + (BATCH - 1) * step < count; i += BATCH * step) {
        float4 v[BATCH];
        KN_UNROLL for (int k = 0; k < BATCH; k++) v[k] = cu_get4(fours + 4 * (i + k * step));
        KN_UNROLL for (int k = 0; k < BATCH; k++) add(&s[0], v[k].x), add(&s[1], v[k].y), add(&s[2], v[k].z), add(&s[3], v[k].w);
    }
    for (; i < count; i += step) {
        float4 v = cu_get4(fours + 4 * i);
        add(&s[0], v.x), add(&s[1], v.y), add(&s[2], v.z), add(&s[3], v.w);
    }
    double all = block_sum((s[0] + s[1]) + (s[2] + s[3]), part);
    if (threadIdx.x == 0) sum[blockIdx.x] = all;
}

/* The sum of sum[0 .. n - 1], in thread 0. */
KN_DEVICE double all_of(const double *sum, int64_t n, double *part)
{
    double s = 0;
    for (int64_t i = threadIdx.x; i < n; i += THREADS) s += sum[i];
    return block_sum(s, part);
}

KN_KERNEL(THREADS) total(const double *sum, int64_t n, double *out)
{
    KN_SHARED(double, part);
    double s = all_of(sum, n, part);
    if (threadIdx.x == 0) *out = s;
}

KN_KERNEL(THREADS) factor(const double *sum, int64_t n, double most, double *out)
{
    KN_SHARED(double, part);
    double norm = sqrt(all_of(sum, n, part));
    if (threadIdx.x) return;
    out[0] = norm;
    out[1] = !(norm <= 1.7976931348623157e308) ? nan("") : most > 0 ? fmin(1.0, most / (norm + 1e-6)) : 1.0;
}

static int64_t blocks_of(int64_t n)
{
    return cuda_blocks(n, 4 * BATCH * THREADS, BLOCKS_MOST);
}

/* *sum: blocks_of(n) sums, and room for one more number. */
static st_t sums_of(struct kn_dev *dev, const struct kn_tensor *x, double **sum)
{
    int64_t n = x->d[0], head = (int64_t)((16 - (uintptr_t)x->p % 16) % 16 / sizeof(float));
    void *p;
    CUDA_TRY(cuda_scratch(dev, CUDA_SLOT_A, (size_t)(blocks_of(n) + 1) * sizeof(double), &p));
    *sum = (double *)p;
    CUDA_RUN(dev, squares, blocks_of(n), THREADS, SHARED, (const float *)x->p, n, (int)(head < n ? head : n), *sum);
    return ST_OK;
}

extern "C" st_t cuda_sumsq(struct kn_dev *dev, const struct kn_tensor *x, double *out)
{
    CUDA_TRY(kn_check_sumsq(x, out));
    if (!cuda_is_f32(x)) return ST_ENOTSUP;
    int64_t blocks = blocks_of(x->d[0]);
    double *sum;
    CUDA_TRY(sums_of(dev, x, &sum));
    CUDA_RUN(dev, total, 1, THREADS, SHARED, (const double *)sum, blocks, sum + blocks);
    return kn_cuda_vtable.download(dev, out, sum + blocks, sizeof *out);
}

extern "C" st_t cuda_clip(struct kn_dev *dev, const struct kn_tensor *g, double most, const struct kn_tensor *out)
{
    CUDA_TRY(kn_check_clip(g, most, out));
    if (!cuda_is_f32(g)) return ST_ENOTSUP;
    double *sum;
    CUDA_TRY(sums_of(dev, g, &sum));
    CUDA_RUN(dev, factor, 1, THREADS, SHARED, (const double *)sum, blocks_of(g->d[0]), most, (double *)out->p);
    return ST_OK;
}
