/* Rows to their experts and back, and what stands between an expert's products. All of them live on memory: a row is taken by a power of two of threads, 16 bytes each at
 * a time where rows are contiguous and aligned, a number each elsewhere.
 *
 * Bytes a number: gather writes y and reads x (k rows read one of x, from the cache for the most part); combine reads x and writes y (beta != 0: reads it too);
 * expert_act reads g, u and writes h; its backward reads g, u, dh and writes dg, du and, where wanted, h. */
#include "kernels/cuda/cuda.h"

constexpr int THREADS = 256, AT_ONCE = 4;

/* N numbers side by side: 1, 4 (aligned to them) or 8 (aligned to 16 bytes). */
template <int N, class T> KN_DEVICE void get_n(const T *p, float v[N])
{
    if constexpr (N == 1) v[0] = cu_get(p);
    else if constexpr (N == 8 && sizeof(T) == 2) {
        uint4 x = kn_load16(p);
        v[0] = __uint_as_float(x.x << 16), v[1] = __uint_as_float(x.x & 0xffff0000u), v[2] = __uint_as_float(x.y << 16), v[3] = __uint_as_float(x.y & 0xffff0000u);
        v[4] = __uint_as_float(x.z << 16), v[5] = __uint_as_float(x.z & 0xffff0000u), v[6] = __uint_as_float(x.w << 16), v[7] = __uint_as_float(x.w & 0xffff0000u);
    } else {
        KN_UNROLL for (int i = 0; i < N; i += 4) {
            float4 x = cu_get4(p + i);
            v[i] = x.x, v[i + 1] = x.y, v[i + 2] = x.z, v[i + 3] = x.w;
        }
    }
}
template <int N, class T> KN_DEVICE void put_n(T *p, const float v[N])
{
    if constexpr (N == 1) cu_put(p, v[0]);
    else if constexpr (N == 8 && sizeof(T) == 2)
        kn_write16(p, make_uint4(kn_pack_bf16(v[0], v[1]), kn_pack_bf16(v[2], v[3]), kn_pack_bf16(v[4], v[5]), kn_pack_bf16(v[6], v[7])));
    else
        KN_UNROLL for (int i = 0; i < N; i += 4) cu_write4(p + i, make_float4(v[i], v[i + 1], v[i + 2], v[i + 3]));
}

/* get_n and put_n reach all of t in pieces of n. Absent: yes. */
static bool by(const struct kn_tensor *t, int n)
{
    if (!t) return true;
    size_t bytes = (size_t)n * kn_dtype_size(t->dtype);
    return t->s[1] == 1 && t->d[1] % n == 0 && t->s[0] % n == 0 && (uintptr_t)t->p % (bytes < 16 ? bytes : 16) == 0;
}

/* Threads that a row of `pieces` takes: a power of two, as many as there are pieces or a whole block. */
static int threads_of(int64_t pieces)
{
    int n = 1;
    while (n < THREADS && n < pieces) n *= 2;
    return n;
}

/* ---- rows to their places ---- */

template <int N, class X, class Y> KN_KERNEL(THREADS) gather(cu_mat<X> x, const int32_t *order, cu_mat<Y> y, int64_t M, int64_t D, int k, int across)
{
    int64_t r = (int64_t)blockIdx.x * (THREADS / across) + threadIdx.x / (unsigned)across;
    if (r >= M) return;
    int64_t from = order[r] / k;
    for (int64_t d = threadIdx.x % (unsigned)across * N; d < D; d += across * N) {
        float v[N];
        get_n<N>(cu_at(x, from, d), v);
        put_n<N>(cu_at(y, r, d), v);
    }
}

template <int N, class X, class Y> static st_t run_gather(struct kn_dev *dev, const struct kn_tensor *x, const struct kn_tensor *order, const struct kn_tensor *y)
{
    int64_t M = y->d[0], D = y->d[1];
    int across = threads_of(D / N);
    if (!M || !D) return ST_OK;
    CUDA_RUN(dev, (gather<N, X, Y>), cuda_blocks(M, THREADS / across), THREADS, 0, x, (const int32_t *)order->p, y, M, D, (int)(M / x->d[0]), across);
    return ST_OK;
}

extern "C" st_t cuda_gather(struct kn_dev *dev, const struct kn_tensor *x, const struct kn_tensor *order, const struct kn_tensor *y)
{
    CUDA_TRY(kn_check_gather(x, order, y));
    if (!cuda_has(dev, x) || !cuda_has(dev, y)) return ST_ENOTSUP;
    if (x->dtype == KN_BF16) return by(x, 8) && by(y, 8) ? run_gather<8, bf16, bf16>(dev, x, order, y) : run_gather<1, bf16, bf16>(dev, x, order, y);
    if (y->dtype == KN_BF16) return by(x, 8) && by(y, 8) ? run_gather<8, float, bf16>(dev, x, order, y) : run_gather<1, float, bf16>(dev, x, order, y);
    return by(x, 4) && by(y, 4) ? run_gather<4, float, float>(dev, x, order, y) : run_gather<1, float, float>(dev, x, order, y);
}

/* A token's rows are asked for AT_ONCE at a time and added in the order of their slots. */
template <int N, class X> KN_KERNEL(THREADS) combine(cu_mat<X> x, const int32_t *row, float beta, cu_mat<float> y, int64_t tokens, int64_t D, int k, int across)
{
    int64_t t = (int64_t)blockIdx.x * (THREADS / across) + threadIdx.x / (unsigned)across;
    if (t >= tokens) return;
    for (int64_t d = threadIdx.x % (unsigned)across * N; d < D; d += across * N) {
        float sum[N] = {};
        for (int s = 0; s < k; s += AT_ONCE) {
            float v[AT_ONCE][N];
            KN_UNROLL for (int i = 0; i < AT_ONCE; i++)
                if (s + i < k) get_n<N>(cu_at(x, row[t * k + s + i], d), v[i]);
            KN_UNROLL for (int i = 0; i < AT_ONCE; i++)
                if (s + i < k)
                    KN_UNROLL for (int j = 0; j < N; j++) sum[j] += v[i][j];
        }
        if (beta != 0) {
            float was[N];
            get_n<N>(cu_at(y, t, d), was);
            KN_UNROLL for (int j = 0; j < N; j++) sum[j] = fmaf(beta, was[j], sum[j]);
        }
        put_n<N>(cu_at(y, t, d), sum);
    }
}

template <int N, class X> static st_t run_combine(struct kn_dev *dev, const struct kn_tensor *x, const struct kn_tensor *row, double beta, const struct kn_tensor *y)
{
    int64_t tokens = y->d[0], D = y->d[1];
    int across = threads_of(D / N);
    if (!tokens || !D) return ST_OK;
    CUDA_RUN(dev, (combine<N, X>), cuda_blocks(tokens, THREADS / across), THREADS, 0, x, (const int32_t *)row->p, (float)beta, y, tokens, D, (int)(x->d[0] / tokens), across);
    return ST_OK;
}

extern "C" st_t cuda_combine(struct kn_dev *dev, const struct kn_tensor *x, const struct kn_tensor *row, double beta, const struct kn_tensor *y)
{
    CUDA_TRY(kn_check_combine(x, row, beta, y));
    if (!cuda_has(dev, x) || !cuda_is_f32(y)) return ST_ENOTSUP;
    if (x->dtype == KN_BF16) return by(x, 8) && by(y, 8) ? run_combine<8, bf16>(dev, x, row, beta, y) : run_combine<1, bf16>(dev, x, row, beta, y);
    return by(x, 4) && by(y, 4) ? run_combine<4, float>(dev, x, row, beta, y) : run_combine<1, float>(dev, x, row, beta, y);
}

/* ---- the activation ---- */

KN_DEVICE float sigmoid_of(float x)
{
    return __fdividef(1.0f, 1.0f + __expf(-x));
}

/* Where row r's weight stands, and the weight. Its place is read before the row and it itself after, so that the row does not wait for either. */
KN_DEVICE int64_t weight_at(const int32_t *order, int64_t r)
{
    return order ? order[r] : r;
}
KN_DEVICE float weight_of(const cu_vec<float> &w, int64_t at, int sigmoid)
{
    if (!w.p) return 1;
    float v = *cu_at(w, at);
    return sigmoid ? sigmoid_of(v) : v;
}

template <int N, class T, bool GATED>
KN_KERNEL(THREADS) forward(cu_mat<T> g, cu_mat<T> u, const int32_t *order, cu_vec<float> w, int sigmoid, cu_mat<T> h, int64_t M, int64_t F, int across)
{
    int64_t r = (int64_t)blockIdx.x * (THREADS / across) + threadIdx.x / (unsigned)across;
    if (r >= M) return;
    int64_t at = weight_at(order, r), first = threadIdx.x % (unsigned)across * N;
    float scale = 0;
    for (int64_t f = first; f < F; f += across * N) {
        float x[N], y[N];
        get_n<N>(cu_at(g, r, f), x);
        if constexpr (GATED) get_n<N>(cu_at(u, r, f), y);
        if (f == first) scale = weight_of(w, at, sigmoid);
        KN_UNROLL for (int i = 0; i < N; i++) {
            float relu = fmaxf(x[i], 0.0f);
            if constexpr (GATED) y[i] = scale * (x[i] * sigmoid_of(x[i]) * y[i]);
            else y[i] = scale * (relu * relu);
        }
        put_n<N>(cu_at(h, r, f), y);
    }
}

/* ROW threads a row, 32 or the block: dw is a sum over the row. */
template <int N, class T, bool GATED, int ROW>
KN_KERNEL(THREADS) backward(cu_mat<T> g, cu_mat<T> u, const int32_t *order, cu_vec<float> w, int sigmoid, cu_mat<T> dh, cu_mat<T> dg, cu_mat<T> du, cu_vec<float> dw, cu_mat<T> h, int64_t M, int64_t F)
{
    KN_SHARED(float, part);
    int64_t r = (int64_t)blockIdx.x * (THREADS / ROW) + threadIdx.x / ROW;
    if (r >= M) return; /* all ROW threads */
    int64_t at = weight_at(order, r), first = threadIdx.x % ROW * N;
    float scale = 0, sum = 0;
    for (int64_t f = first; f < F; f += ROW * N) {
        float x[N], y[N], d[N], again[N];
        get_n<N>(cu_at(g, r, f), x);
        if constexpr (GATED) get_n<N>(cu_at(u, r, f), y);
        get_n<N>(cu_at(dh, r, f), d);
        if (f == first) scale = weight_of(w, at, sigmoid);
        KN_UNROLL for (int i = 0; i < N; i++) {
            if constexpr (GATED) {
                float s = sigmoid_of(x[i]), act = x[i] * s * y[i];
                again[i] = scale * act, sum = fmaf(act, d[i], sum);
                float e = scale * d[i], a = y[i] * s * fmaf(x[i], 1.0f - s, 1.0f);
                y[i] = e * (x[i] * s), x[i] = e * a;
            } else {
                float relu = fmaxf(x[i], 0.0f), act = relu * relu;
                again[i] = scale * act, sum = fmaf(act, d[i], sum);
                x[i] = scale * d[i] * (2 * relu);
            }
        }
        put_n<N>(cu_at(dg, r, f), x);
        if constexpr (GATED) put_n<N>(cu_at(du, r, f), y);
        if (h.p) put_n<N>(cu_at(h, r, f), again);
    }
    if (!dw.p) return;
    sum = ROW == 32 ? cu_warp_sum(sum) : cu_block_sum(sum, part);
    if (threadIdx.x % ROW == 0) *cu_at(dw, weight_at(order, r)) = sigmoid ? sum * scale * (1.0f - scale) : sum; /* F = 0: nothing, whatever the scale */
}

template <int N, class T>
static st_t run_forward(struct kn_dev *dev, const struct kn_tensor *g, const struct kn_tensor *u, const int32_t *order, const struct kn_tensor *w, int sigmoid, const struct kn_tensor *h)
{
    int64_t M = g->d[0], F = g->d[1];
    int across = threads_of(F / N);
    if (!M || !F) return ST_OK;
    if (u) CUDA_RUN(dev, (forward<N, T, true>), cuda_blocks(M, THREADS / across), THREADS, 0, g, u, order, w, sigmoid, h, M, F, across);
    else CUDA_RUN(dev, (forward<N, T, false>), cuda_blocks(M, THREADS / across), THREADS, 0, g, u, order, w, sigmoid, h, M, F, across);
    return ST_OK;
}

extern "C" st_t cuda_expert_act(struct kn_dev *dev, const struct kn_tensor *g, const struct kn_tensor *u, const struct kn_tensor *order, const struct kn_tensor *w, int sigmoid,
                                const struct kn_tensor *h)
{
    CUDA_TRY(kn_check_expert_act(g, u, order, w, sigmoid, h));
    if (!cuda_has(dev, g)) return ST_ENOTSUP;
    if (kn_absent(u)) u = NULL;
    if (kn_absent(w)) w = NULL;
    const int32_t *places = kn_absent(order) ? NULL : (const int32_t *)order->p;
    int n = g->dtype == KN_BF16 ? 8 : 4;
    bool wide = by(g, n) && by(u, n) && by(h, n);
    if (n == 8) return wide ? run_forward<8, bf16>(dev, g, u, places, w, sigmoid, h) : run_forward<1, bf16>(dev, g, u, places, w, sigmoid, h);
    return wide ? run_forward<4, float>(dev, g, u, places, w, sigmoid, h) : run_forward<1, float>(dev, g, u, places, w, sigmoid, h);
}

template <int N, class T>
static st_t run_backward(struct kn_dev *dev, const struct kn_tensor *g, const struct kn_tensor *u, const int32_t *order, const struct kn_tensor *w, int sigmoid, const struct kn_tensor *dh,
                         const struct kn_tensor *dg, const struct kn_tensor *du, const struct kn_tensor *dw, const struct kn_tensor *h)
{
    int64_t M = g->d[0], F = g->d[1];
    size_t shared = 32 * sizeof(float);
    bool block = F / N > 4 * 32;
    if (block && u) CUDA_RUN(dev, (backward<N, T, true, THREADS>), M, THREADS, shared, g, u, order, w, sigmoid, dh, dg, du, dw, h, M, F);
    else if (block) CUDA_RUN(dev, (backward<N, T, false, THREADS>), M, THREADS, shared, g, u, order, w, sigmoid, dh, dg, du, dw, h, M, F);
    else if (u) CUDA_RUN(dev, (backward<N, T, true, 32>), cuda_blocks(M, THREADS / 32), THREADS, shared, g, u, order, w, sigmoid, dh, dg, du, dw, h, M, F);
    else CUDA_RUN(dev, (backward<N, T, false, 32>), cuda_blocks(M, THREADS / 32), THREADS, shared, g, u, order, w, sigmoid, dh, dg, du, dw, h, M, F);
    return ST_OK;
}

extern "C" st_t cuda_expert_act_bwd(struct kn_dev *dev, const struct kn_tensor *g, const struct kn_tensor *u, const struct kn_tensor *order, const struct kn_tensor *w, int sigmoid,
                                    const struct kn_tensor *dh, const struct kn_tensor *dg, const struct kn_tensor *du, const struct kn_tensor *dw, const struct kn_tensor *h)
{
    CUDA_TRY(kn_check_expert_act_bwd(g, u, order, w, sigmoid, dh, dg, du, dw, h));
    if (!cuda_has(dev, g)) return ST_ENOTSUP;
    if (kn_absent(u)) u = du = NULL;
    if (kn_absent(w)) w = dw = NULL;
    if (kn_absent(h)) h = NULL;
    const int32_t *places = kn_absent(order) ? NULL : (const int32_t *)order->p;
    int n = g->dtype == KN_BF16 ? 8 : 4;
    bool wide = by(g, n) && by(u, n) && by(dh, n) && by(dg, n) && by(du, n) && by(h, n);
    if (n == 8) return wide ? run_backward<8, bf16>(dev, g, u, places, w, sigmoid, dh, dg, du, dw, h) : run_backward<1, bf16>(dev, g, u, places, w, sigmoid, dh, dg, du, dw, h);
    return wide ? run_backward<4, float>(dev, g, u, places, w, sigmoid, dh, dg, du, dw, h) : run_backward<1, float>(dev, g, u, places, w, sigmoid, dh, dg, du, dw, h);
}
