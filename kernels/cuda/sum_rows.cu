/* Sums over the rows, the gradient of a bias; f32. Bytes an element: 1 read. A block takes a strip of columns and a run of rows, in which its warps go down every
 * eighth row; the runs' sums are then added in their order (sums.h). Where a column's numbers lie next to each other, a warp takes a column's
 * run. */
#include "kernels/cuda/sums.h"

constexpr int THREADS = 256, WARPS = THREADS / 32;
constexpr int64_t PARTS_MOST = 1024, ROWS_LEAST = 64; /* runs at most, and a run's rows at least */

/* W columns a lane. part: a row of D for each run; or, for a single one, db itself. */
template <int W> KN_KERNEL(THREADS) strips(cu_mat<float> dy, int64_t N, int64_t D, int64_t rows, float *part, cu_vec<float> db)
{
    KN_SHARED(float, mem);
    float(*sum)[32 * W] = (float(*)[32 * W])mem;
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    int64_t d = ((int64_t)blockIdx.x * 32 + lane) * W, from = (int64_t)blockIdx.y * rows, to = from + rows < N ? from + rows : N;
    float s[W] = {};
    if (d < D) {
        KN_UNROLL for (int64_t n = from + warp; n < to; n += WARPS) {
            if constexpr (W == 4) {
                float4 v = cu_get4(cu_at(dy, n, d));
                s[0] += v.x, s[1] += v.y, s[2] += v.z, s[3] += v.w;
            } else {
                s[0] += *cu_at(dy, n, d);
            }
        }
    }
    KN_UNROLL for (int i = 0; i < W; i++) sum[warp][i * 32 + lane] = s[i];
    __syncthreads();
    for (int k = threadIdx.x; k < 32 * W; k += THREADS) {
        int64_t c = (int64_t)blockIdx.x * 32 * W + k % 32 * W + k / 32;
        if (c >= D) continue;
        float all = 0;
        KN_UNROLL for (int w = 0; w < WARPS; w++) all += sum[w][k];
        if (part) part[(int64_t)blockIdx.y * D + c] = all;
        else *cu_at(db, c) += all;
    }
}

KN_KERNEL(THREADS) columns(cu_mat<float> dy, int64_t N, int64_t D, int64_t rows, float *part, cu_vec<float> db)
{
    int lane = threadIdx.x % 32;
    int64_t d = (int64_t)blockIdx.x * WARPS + threadIdx.x / 32, from = (int64_t)blockIdx.y * rows, to = from + rows < N ? from + rows : N;
    if (d >= D) return;
    float s = 0;
    KN_UNROLL for (int64_t n = from + lane; n < to; n += 32) s += *cu_at(dy, n, d);
    s = cu_warp_sum(s);
    if (lane) return;
    if (part) part[(int64_t)blockIdx.y * D + d] = s;
    else *cu_at(db, d) += s;
}

extern "C" st_t cuda_sum_rows(struct kn_dev *dev, const struct kn_tensor *dy, const struct kn_tensor *db)
{
    CUDA_TRY(kn_check_sum_rows(dy, db));
    if (!cuda_is_f32(dy)) return ST_ENOTSUP;
    int64_t N = dy->d[0], D = dy->d[1];
    if (!N || !D) return ST_OK;
    bool down = dy->s[0] < dy->s[1];
    int W = cuda_by4(dy) ? 4 : 1;
    int64_t across = cuda_blocks(D, down ? WARPS : 32 * W), want = 8 * (int64_t)cuda_of(dev)->sms / across + 1; /* blocks for all of the card */
    int64_t parts = cuda_blocks(N, down ? 4 * ROWS_LEAST : ROWS_LEAST, want < PARTS_MOST ? want : PARTS_MOST), rows = (N + parts - 1) / parts;
    parts = cuda_blocks(N, rows);
    void *part = NULL;
    if (parts > 1) CUDA_TRY(cuda_scratch(dev, CUDA_SLOT_A, (size_t)(parts * D) * sizeof(float), &part));
    dim3 grid((unsigned)across, (unsigned)parts);
    if (down) CUDA_RUN(dev, columns, grid, THREADS, 0, dy, N, D, rows, (float *)part, db);
    else if (W == 4) CUDA_RUN(dev, strips<4>, grid, THREADS, WARPS * 128 * sizeof(float), dy, N, D, rows, (float *)part, db);
    else CUDA_RUN(dev, strips<1>, grid, THREADS, WARPS * 32 * sizeof(float), dy, N, D, rows, (float *)part, db);
    return parts > 1 ? sums_add(dev, (const float *)part, parts, 1, D, NULL, db) : ST_OK;
}
