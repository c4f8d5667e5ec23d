/* Products: cuBLASLt's, operands first brought to one type; what it does not take (strides that are both not 1, no rows to sum) by a plain tile kernel. */
#include "kernels/cuda/cuda.h"

constexpr int THREADS = 256, TILE = 64, DEEP = 16;

/* Number [row, col] of weights at rest, [out, in] with each row's scale behind its numbers (tensor.h). */
KN_DEVICE float stored_at(const int8_t *p, int64_t row_bytes, int64_t row, int64_t col, int64_t cols)
{
    const int8_t *r = p + row * row_bytes;
    uint32_t u = 0;
    KN_UNROLL for (int i = 0; i < 4; i++) u |= (uint32_t)(uint8_t)r[cols + i] << (8 * i); /* rows may begin anywhere */
    return (float)r[col] * __uint_as_float(u);
}

/* ---- operands ---- */

/* y [rows, cols], contiguous = x, any strides. */
template <class X, class Y> KN_KERNEL(THREADS) pack(const X *x, int64_t s0, int64_t s1, int64_t rows, int64_t cols, Y *y)
{
    int64_t n = rows * cols, step = (int64_t)gridDim.x * THREADS;
    for (int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x; i < n; i += step) cu_put(y + i, cu_get(x + i / cols * s0 + i % cols * s1));
}

template <class Y> KN_KERNEL(THREADS) unpack_stored(const int8_t *x, int64_t row_bytes, int64_t rows, int64_t cols, Y *y)
{
    int64_t n = rows * cols, step = (int64_t)gridDim.x * THREADS;
    for (int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x; i < n; i += step) cu_put(y + i, stored_at(x, row_bytes, i / cols, i % cols, cols));
}

static bool has_unit(const struct kn_tensor *t)
{
    return ((t->s[1] == 1 || t->d[1] == 1) && (t->s[0] >= t->d[1] || t->d[0] == 1)) || ((t->s[0] == 1 || t->d[0] == 1) && (t->s[1] >= t->d[0] || t->d[1] == 1));
}

st_t cuda_operand(struct kn_dev *dev, const struct kn_tensor *t, enum kn_dtype want, enum cuda_slot slot, struct cuda_matrix *out)
{
    *out = {t->p, t->dtype, t->s[0], t->s[1], 0};
    if (t->dtype == want && has_unit(t)) return ST_OK;
    /* Rows of the copy are what lies side by side in t. */
    bool turned = t->s[0] == 1 && t->d[0] > 1;
    int64_t rows = t->d[turned], cols = t->d[!turned], s0 = t->s[turned], s1 = t->s[!turned], most = cuda_of(dev)->sms * 16;
    void *p;
    CUDA_TRY(cuda_scratch(dev, slot, (size_t)(rows * cols) * kn_dtype_size(want), &p));
    int64_t blocks = cuda_blocks(rows * cols, THREADS, most);
    bool half = want == KN_BF16;
    switch (t->dtype) {
    case KN_F32:
        if (half) CUDA_RUN(dev, (pack<float, bf16>), blocks, THREADS, 0, (const float *)t->p, s0, s1, rows, cols, (bf16 *)p);
        else CUDA_RUN(dev, (pack<float, float>), blocks, THREADS, 0, (const float *)t->p, s0, s1, rows, cols, (float *)p);
        break;
    case KN_BF16:
        if (half) CUDA_RUN(dev, (pack<bf16, bf16>), blocks, THREADS, 0, (const bf16 *)t->p, s0, s1, rows, cols, (bf16 *)p);
        else CUDA_RUN(dev, (pack<bf16, float>), blocks, THREADS, 0, (const bf16 *)t->p, s0, s1, rows, cols, (float *)p);
        break;
    case KN_I8: /* [out, in], turned: rows of the copy are outputs */
        rows = t->d[1], cols = t->d[0], turned = true;
        if (half) CUDA_RUN(dev, unpack_stored<bf16>, blocks, THREADS, 0, (const int8_t *)t->p, t->s[1], rows, cols, (bf16 *)p);
        else CUDA_RUN(dev, unpack_stored<float>, blocks, THREADS, 0, (const int8_t *)t->p, t->s[1], rows, cols, (float *)p);
        break;
    default: return ST_ENOTSUP;
    }
    *out = {p, want, turned ? 1 : cols, turned ? cols : 1, 0};
    return ST_OK;
}

/* ---- any strides ---- */

template <class T, bool ROUND> KN_DEVICE float factor(const T *p)
{
    float v = cu_get(p);
    return ROUND && sizeof(T) == 4 ? cu_widen(cu_round(v)) : v;
}

/* A block makes 64 x 64 numbers, a thread 4 x 4 of them; sums run over P in order. */
template <class A, class B, class C, bool ROUND>
KN_KERNEL(THREADS) tile(float alpha, const A *a, int64_t a0, int64_t a1, const B *b, int64_t b0, int64_t b1, float beta, C *c, int64_t c0, int64_t c1, int64_t M, int64_t N, int64_t P)
{
    KN_SHARED(float, mem);
    float(*sa)[TILE + 1] = (float(*)[TILE + 1])mem, (*sb)[TILE + 1] = sa + DEEP;
    int64_t across = (N + TILE - 1) / TILE, i0 = blockIdx.x / across * TILE, j0 = blockIdx.x % across * TILE;
    int ty = threadIdx.x / 16, tx = threadIdx.x % 16;
    float sum[4][4] = {};
    for (int64_t k0 = 0; k0 < P; k0 += DEEP) {
        for (int i = threadIdx.x; i < TILE * DEEP; i += THREADS) {
            int64_t k = k0 + i % DEEP, m = i0 + i / DEEP, n = j0 + i % TILE, kb = k0 + i / TILE;
            sa[i % DEEP][i / DEEP] = m < M && k < P ? factor<A, ROUND>(a + m * a0 + k * a1) : 0.0f;
            sb[i / TILE][i % TILE] = n < N && kb < P ? factor<B, ROUND>(b + kb * b0 + n * b1) : 0.0f;
        }
        __syncthreads();
        KN_UNROLL for (int k = 0; k < DEEP; k++)
            KN_UNROLL for (int i = 0; i < 4; i++)
                KN_UNROLL for (int j = 0; j < 4; j++) sum[i][j] = fmaf(sa[k][ty + 16 * i], sb[k][tx + 16 * j], sum[i][j]);
        __syncthreads();
    }
    KN_UNROLL for (int i = 0; i < 4; i++)
        KN_UNROLL for (int j = 0; j < 4; j++) {
            int64_t m = i0 + ty + 16 * i, n = j0 + tx + 16 * j;
            if (m >= M || n >= N) continue;
            C *at = c + m * c0 + n * c1;
            float v = alpha * sum[i][j];
            cu_put(at, beta != 0 ? fmaf(beta, cu_get(at), v) : v);
        }
}

template <class A, class B, class C>
static st_t run_tile(struct kn_dev *dev, double alpha, const struct cuda_matrix *a, const struct cuda_matrix *b, double beta, const struct kn_tensor *c, int64_t P)
{
    int64_t M = c->d[0], N = c->d[1], blocks = cuda_blocks(M, TILE) * cuda_blocks(N, TILE);
    size_t shared = 2 * DEEP * (TILE + 1) * sizeof(float);
    if (dev->precision == KN_BF16)
        CUDA_RUN(dev, (tile<A, B, C, true>), blocks, THREADS, shared, (float)alpha, (const A *)a->p, a->s0, a->s1, (const B *)b->p, b->s0, b->s1, (float)beta, (C *)c->p, c->s[0], c->s[1], M, N, P);
    else
        CUDA_RUN(dev, (tile<A, B, C, false>), blocks, THREADS, shared, (float)alpha, (const A *)a->p, a->s0, a->s1, (const B *)b->p, b->s0, b->s1, (float)beta, (C *)c->p, c->s[0], c->s[1], M, N, P);
    return ST_OK;
}

static st_t plain(struct kn_dev *dev, double alpha, const struct kn_tensor *a, const struct kn_tensor *b, double beta, const struct kn_tensor *c)
{
    struct cuda_matrix ma = {a->p, a->dtype, a->s[0], a->s[1], 0}, mb = {b->p, b->dtype, b->s[0], b->s[1], 0};
    if (b->dtype == KN_I8) CUDA_TRY(cuda_operand(dev, b, KN_F32, CUDA_SLOT_GEMM_B, &mb));
    int kind = (a->dtype == KN_BF16) * 4 + (mb.dtype == KN_BF16) * 2 + (c->dtype == KN_BF16);
    static st_t (*const of[8])(struct kn_dev *, double, const struct cuda_matrix *, const struct cuda_matrix *, double, const struct kn_tensor *, int64_t) = {
        run_tile<float, float, float>, run_tile<float, float, bf16>, run_tile<float, bf16, float>, run_tile<float, bf16, bf16>,
        run_tile<bf16, float, float>,  run_tile<bf16, float, bf16>,  run_tile<bf16, bf16, float>,  run_tile<bf16, bf16, bf16>,
    };
    return of[kind](dev, alpha, &ma, &mb, beta, c, a->d[1]);
}

extern "C" st_t cuda_gemm(struct kn_dev *dev, double alpha, const struct kn_tensor *a, const struct kn_tensor *b, double beta, const struct kn_tensor *c)
{
    CUDA_TRY(kn_check_gemm(alpha, a, b, beta, c));
    bool rest = b->dtype == KN_I8 || (b->dtype == KN_BF16 && b->s[0] == 1);
    if (!cuda_has(dev, a) || !cuda_has(dev, c) || (!rest && !cuda_has(dev, b))) return ST_ENOTSUP;
    int64_t M = c->d[0], N = c->d[1], P = a->d[1];
    if (!M || !N) return ST_OK;
    enum kn_dtype want = dev->precision == KN_BF16 ? KN_BF16 : KN_F32;
    if (!P || !has_unit(c)) return plain(dev, alpha, a, b, beta, c);
    struct cuda_matrix ma, mb, mc = {c->p, c->dtype, c->s[0], c->s[1], 0};
    CUDA_TRY(cuda_operand(dev, a, want, CUDA_SLOT_GEMM_A, &ma));
    CUDA_TRY(cuda_operand(dev, b, want, CUDA_SLOT_GEMM_B, &mb));
    st_t st = cuda_blas_matmul(dev, M, N, P, 1, (float)alpha, &ma, &mb, (float)beta, &mc);
    return st == ST_ENOTSUP ? plain(dev, alpha, a, b, beta, c) : st;
}
