/* Gates of linear recurrences: the delta rule's decay and beta, the logarithm of a sigmoid; f32. Bytes an element: delta_gates 2 reads, 2 writes, its backward 4 reads,
 * 2 writes; logsigmoid 1 read, 1 write, its backward 2 reads, 1 write. */
#include "kernels/cuda/each.h"
#include "kernels/cuda/sums.h"

constexpr int THREADS = 256, BATCH = 4; /* rows of a thread that are read ahead */
constexpr int64_t PARTS_MOST = 512;

/* a, b, a_log, dt_bias; g, beta */
namespace {
struct gates {
    static constexpr int IN = 4, OUT = 2;
    KN_DEVICE void apply(const gates &, const float (&in)[IN], float (&out)[OUT])
    {
        out[0] = -expf(in[2]) * each_softplus(in[0] + in[3]);
        out[1] = each_sigmoid(in[1]);
    }
};
}

extern "C" st_t cuda_delta_gates(struct kn_dev *dev, const struct kn_tensor *a, const struct kn_tensor *b, const struct kn_tensor *a_log, const struct kn_tensor *dt_bias,
                                 const struct kn_tensor *g, const struct kn_tensor *beta)
{
    CUDA_TRY(kn_check_delta_gates(a, b, a_log, dt_bias, g, beta));
    if (!cuda_is_f32(a)) return ST_ENOTSUP;
    struct kn_tensor rate = each_repeat(a_log, a, 1), bias = each_repeat(dt_bias, a, 1);
    return each_map<float, float>(dev, gates(), {a, b, &rate, &bias, g, beta});
}

/* dg/da = -exp(a_log) sigmoid(a + dt_bias), dg/da_log = g. A block takes a run of rows, a thread one column of every blockDim.y-th of them; part: a run's sums of da_log
 * and of ddt_bias, [2][H]. */
KN_KERNEL_MIN(THREADS, 3) backward(cu_mat<float> a, cu_mat<float> b, cu_vec<float> a_log, cu_vec<float> dt_bias, cu_mat<float> dg, cu_mat<float> dbeta, cu_mat<float> da,
                            cu_mat<float> db, int64_t N, int64_t H, int64_t rows, float *part)
{
    KN_SHARED(float, mem);
    int64_t h = (int64_t)blockIdx.y * blockDim.x + threadIdx.x, from = (int64_t)blockIdx.x * rows, to = from + rows < N ? from + rows : N;
    float rates = 0, biases = 0;
    if (h < H) {
        float rate = -expf(*cu_at(a_log, h)), bias = *cu_at(dt_bias, h);
        for (int64_t n = from + threadIdx.y; n < to; n += BATCH * blockDim.y) {
            float in_a[BATCH], in_b[BATCH], in_dg[BATCH], in_dbeta[BATCH];
            KN_UNROLL for (int k = 0; k < BATCH; k++) {
                int64_t at = n + k * blockDim.y;
                bool there = at < to;
                in_a[k] = there ? *cu_at(a, at, h) : 0.0f;
                in_b[k] = there ? *cu_at(b, at, h) : 0.0f;
                in_dg[k] = there ? *cu_at(dg, at, h) : 0.0f;
                in_dbeta[k] = there ? *cu_at(dbeta, at, h) : 0.0f;
            }
            KN_UNROLL for (int k = 0; k < BATCH; k++) {
                int64_t at = n + k * blockDim.y;
                if (at >= to) break;
                float u = in_a[k] + bias, d = in_dg[k] * rate, s = each_sigmoid(in_b[k]), slope = d * each_sigmoid(u);
                rates = fmaf(d, each_softplus(u), rates);
                biases += slope;
                *cu_at(da, at, h) = slope;
                *cu_at(db, at, h) = in_dbeta[k] * (s * (1.0f - s));
            }
        }
    }
    int at = threadIdx.y * blockDim.x + threadIdx.x;
    mem[at] = rates, mem[THREADS + at] = biases;
    __syncthreads();
    if (threadIdx.y || h >= H) return;
    rates = 0, biases = 0;
    for (unsigned y = 0; y < blockDim.y; y++) {
        rates += mem[y * blockDim.x + threadIdx.x];
        biases += mem[THREADS + y * blockDim.x + threadIdx.x];
    }
    part += (int64_t)blockIdx.x * 2 * H;
    part[h] = rates, part[H + h] = biases;
}

extern "C" st_t cuda_delta_gates_bwd(struct kn_dev *dev, const struct kn_tensor *a, const struct kn_tensor *b, const struct kn_tensor *a_log, const struct kn_tensor *dt_bias,
                                     const struct kn_tensor *dg, const struct kn_tensor *dbeta, const struct kn_tensor *da, const struct kn_tensor *db,
                                     const struct kn_tensor *da_log, const struct kn_tensor *ddt_bias)
{
    CUDA_TRY(kn_check_delta_gates_bwd(a, b, a_log, dt_bias, dg, dbeta, da, db, da_log, ddt_bias));
    if (!cuda_is_f32(a)) return ST_ENOTSUP;
    int64_t N = a->d[0], H = a->d[1];
    if (!N || !H) return ST_OK;
    unsigned x = (unsigned)each_across(H), y = THREADS / x;
    int64_t parts = cuda_blocks(N, (int64_t)y * BATCH, PARTS_MOST), rows = (N + parts - 1) / parts;
    parts = cuda_blocks(N, rows);
    void *part;
    CUDA_TRY(cuda_scratch(dev, CUDA_SLOT_A, (size_t)(parts * 2 * H) * sizeof(float), &part));
    CUDA_RUN(dev, backward, dim3((unsigned)parts, (unsigned)cuda_blocks(H, x)), dim3(x, y), 2 * THREADS * sizeof(float), a, b, a_log, dt_bias, dg, dbeta, da, db, N, H, rows,
             (float *)part);
    return sums_add(dev, (const float *)part, parts, 2, H, da_log, ddt_bias);
}

/* log sigmoid(x) = -softplus(-x) */
namespace {
struct logs {
    static constexpr int IN = 1, OUT = 1;
    float alpha;
    KN_DEVICE void apply(const logs &op, const float (&in)[IN], float (&out)[OUT])
    {
        out[0] = -op.alpha * each_softplus(-in[0]);
    }
};

struct logs_backward {
    static constexpr int IN = 2, OUT = 1;
    float alpha;
    KN_DEVICE void apply(const logs_backward &op, const float (&in)[IN], float (&out)[OUT])
    {
        out[0] = op.alpha * in[1] * each_sigmoid(-in[0]);
    }
};
}

extern "C" st_t cuda_logsigmoid(struct kn_dev *dev, const struct kn_tensor *x, double alpha, const struct kn_tensor *y)
{
    CUDA_TRY(kn_check_logsigmoid(x, alpha, y));
    if (!cuda_is_f32(x)) return ST_ENOTSUP;
    return each_map<float, float>(dev, logs{(float)alpha}, {x, y});
}

extern "C" st_t cuda_logsigmoid_bwd(struct kn_dev *dev, const struct kn_tensor *x, double alpha, const struct kn_tensor *dy, const struct kn_tensor *dx)
{
    CUDA_TRY(kn_check_logsigmoid_bwd(x, alpha, dy, dx));
    if (!cuda_is_f32(x)) return ST_ENOTSUP;
    return each_map<float, float>(dev, logs_backward{(float)alpha}, {x, dy, dx});
}
