/* y = x of any strides: elements of one type bit for bit, f32 to bf16 and back, weights to int8 rows with a scale and back (kernels/tensor.h).
 * Bytes an element: 1 read, 1 write. Where x and y run along different dims, tiles of 32 x 32 go through shared memory, so that both are read and written in runs. */
#include "kernels/cuda/each.h"

/* ---- the same order ---- */

/* Elements of type T, 16 bytes of them at once. */
namespace {
template <class T> struct moving {
    static constexpr int K = 2, BATCH = 2;
    static size_t size(int)
    {
        return sizeof(T);
    }
    template <int W> struct Lot {
        uint4 v;
    };
    template <int W> KN_DEVICE void get(const moving &, void *const (&p)[K], const int64_t (&o)[K], Lot<W> &l)
    {
        const T *at = (const T *)p[0] + o[0];
        if constexpr (W == 1) l.v.x = *at;
        else l.v = kn_load16(at);
    }
    template <int W> KN_DEVICE void put(const moving &, void *const (&p)[K], const int64_t (&o)[K], const Lot<W> &l)
    {
        T *at = (T *)p[1] + o[1];
        if constexpr (W == 1) *at = (T)l.v.x;
        else kn_write16(at, l.v);
    }
};

struct cast {
    static constexpr int IN = 1, OUT = 1;
    KN_DEVICE void apply(const cast &, const float (&in)[IN], float (&out)[OUT])
    {
        out[0] = in[0];
    }
};
}

/* ---- another order ---- */

constexpr int TILE = 32, DEEP = EACH_THREADS / TILE;

KN_DEVICE uint8_t moved(uint8_t v, const uint8_t *)
{
    return v;
}
KN_DEVICE uint16_t moved(uint16_t v, const uint16_t *)
{
    return v;
}
KN_DEVICE uint32_t moved(uint32_t v, const uint32_t *)
{
    return v;
}
KN_DEVICE bf16 moved(float v, const bf16 *)
{
    return cu_round(v);
}
KN_DEVICE float moved(bf16 v, const float *)
{
    return cu_widen(v);
}

/* y runs along dim 0 of the walk, of m places, and x along another, of n, in which the strides are sx and sy. A block takes one tile of these two
 * at one of the rest's places; w: the walk without the other. */
template <class X, class Y> KN_KERNEL(EACH_THREADS) turn(each_walk<2> w, int64_t n, int64_t sx, int64_t sy)
{
    KN_SHARED(Y, mem);
    Y(*tile)[TILE + 1] = (Y(*)[TILE + 1])mem;
    unsigned across = (unsigned)((w.d[0] + TILE - 1) / TILE), down = (unsigned)((n + TILE - 1) / TILE), t = blockIdx.x;
    int64_t i0 = (int64_t)(t % across) * TILE, j0 = (int64_t)(t / across % down) * TILE, m = w.d[0], o[2];
    int lane = threadIdx.x % TILE, from = threadIdx.x / TILE;
    X v[TILE / DEEP] = {};
    each_row(w, t / across / down, o);
    const X *x = (const X *)w.p[0] + o[0] + (j0 + lane) * sx;
    Y *y = (Y *)w.p[1] + o[1] + (i0 + lane) * w.s[1][0];
    KN_UNROLL for (int k = 0; k < TILE / DEEP; k++) {
        int64_t i = i0 + from + k * DEEP;
        if (i < m && j0 + lane < n) v[k] = x[i * w.s[0][0]];
    }
    KN_UNROLL for (int k = 0; k < TILE / DEEP; k++) tile[from + k * DEEP][lane] = moved(v[k], y);
    __syncthreads();
    KN_UNROLL for (int k = 0; k < TILE / DEEP; k++) {
        int64_t j = j0 + from + k * DEEP;
        if (j < n && i0 + lane < m) y[j * sy] = tile[lane][from + k * DEEP];
    }
}

template <class X, class Y> static st_t run_turn(struct kn_dev *dev, const each_walk<2> &w, int along)
{
    each_walk<2> rest = w;
    for (int i = along; i + 1 < w.rank; i++) {
        rest.d[i] = w.d[i + 1];
        for (int k = 0; k < 2; k++) rest.s[k][i] = w.s[k][i + 1];
    }
    rest.rank--, rest.rows /= w.d[along];
    CUDA_RUN(dev, (turn<X, Y>), cuda_blocks(w.d[0], TILE) * cuda_blocks(w.d[along], TILE) * rest.rows, EACH_THREADS, TILE * (TILE + 1) * sizeof(Y), rest, w.d[along], w.s[0][along], w.s[1][along]);
    return ST_OK;
}

/* The dim that x runs along where it is another than y's and both are long enough for tiles; else 0. */
static int turned(const each_walk<2> &w)
{
    int along = 0;
    if (w.d[0] < 8) return 0;
    for (int i = 1; i < w.rank; i++)
        if (w.d[i] >= 8 && w.s[0][i] && w.s[0][i] < w.s[0][along]) along = i;
    return along;
}

template <class T> static st_t run_move(struct kn_dev *dev, const struct kn_tensor *x, const struct kn_tensor *y)
{
    constexpr int W = 16 / sizeof(T);
    const struct kn_tensor *t[2] = {x, y};
    each_walk<2> w = each_walk_of(t);
    int along = turned(w);
    if (along) return run_turn<T, T>(dev, w, along);
    return each_run<moving<T>, W>(dev, {}, w, each_by(w, 0, W, sizeof(T)) && each_by(w, 1, W, sizeof(T)));
}

template <class X, class Y> static st_t run_cast(struct kn_dev *dev, const struct kn_tensor *x, const struct kn_tensor *y)
{
    const struct kn_tensor *t[2] = {x, y};
    each_walk<2> w = each_walk_of(t);
    int along = turned(w);
    if (along) return run_turn<X, Y>(dev, w, along);
    return each_map<X, Y>(dev, cast(), t);
}

/* ---- int8 rows ---- */

/* A block a row of d numbers: its largest magnitude becomes 127. By4: x is read, and y written, by fours. */
template <bool By4> KN_KERNEL(EACH_THREADS) narrow(cu_mat<float> x, int8_t *y, int64_t row, int64_t d)
{
    KN_SHARED(float, part);
    int64_t n = blockIdx.x;
    int8_t *q = y + n * row;
    float most = 0;
    if (By4) {
        for (int64_t i = 4 * threadIdx.x; i < d; i += 4 * EACH_THREADS) {
            float4 v = cu_get4(cu_at(x, n, i));
            most = fmaxf(fmaxf(fmaxf(most, fabsf(v.x)), fmaxf(fabsf(v.y), fabsf(v.z))), fabsf(v.w));
        }
    } else {
        for (int64_t i = threadIdx.x; i < d; i += EACH_THREADS) most = fmaxf(most, fabsf(*cu_at(x, n, i)));
    }
    most = cu_warp_max(most);
    if (threadIdx.x % 32 == 0) part[threadIdx.x / 32] = most;
    __syncthreads();
    for (int i = 0; i < EACH_THREADS / 32; i++) most = fmaxf(most, part[i]);
    float scale = most / 127.0f, inverse = scale > 0 ? 1.0f / scale : 0.0f;
    auto rounded = [&](float v) { return (uint32_t)(uint8_t)(int8_t)rintf(fminf(127.0f, fmaxf(-127.0f, v * inverse))); };
    if (By4) {
        for (int64_t i = 4 * threadIdx.x; i < d; i += 4 * EACH_THREADS) {
            float4 v = cu_get4(cu_at(x, n, i));
            *(uint32_t *)(q + i) = rounded(v.x) | rounded(v.y) << 8 | rounded(v.z) << 16 | rounded(v.w) << 24;
        }
    } else {
        for (int64_t i = threadIdx.x; i < d; i += EACH_THREADS) q[i] = (int8_t)rounded(*cu_at(x, n, i));
    }
    if (threadIdx.x < KN_I8_TAIL) q[d + threadIdx.x] = (int8_t)(__float_as_uint(scale) >> (8 * threadIdx.x)); /* a row may begin anywhere */
}

/* y = x's numbers times their row's scale; a block a row. */
KN_KERNEL(EACH_THREADS) widen(const int8_t *x, int64_t row, cu_mat<float> y, int64_t d)
{
    int64_t n = blockIdx.x;
    const int8_t *q = x + n * row;
    uint32_t bits = 0;
    KN_UNROLL for (int i = 0; i < KN_I8_TAIL; i++) bits |= (uint32_t)(uint8_t)q[d + i] << (8 * i);
    float scale = __uint_as_float(bits);
    for (int64_t i = threadIdx.x; i < d; i += EACH_THREADS) *cu_at(y, n, i) = scale * (float)q[i];
}

static st_t copy_i8(struct kn_dev *dev, const struct kn_tensor *x, const struct kn_tensor *y)
{
    if (x->rank != 2 || (x->dtype != KN_F32 && y->dtype != KN_F32)) return ST_ENOTSUP;
    int64_t n = x->d[0], d = x->d[1];
    size_t shared = EACH_THREADS / 32 * sizeof(float);
    if (!n || !d) return ST_OK;
    if (x->dtype == KN_I8) CUDA_RUN(dev, widen, n, EACH_THREADS, 0, (const int8_t *)x->p, x->s[0], y, d);
    else if (cuda_by4(x) && y->s[0] % 4 == 0 && (uintptr_t)y->p % 4 == 0) CUDA_RUN(dev, narrow<true>, n, EACH_THREADS, shared, x, (int8_t *)y->p, y->s[0], d);
    else CUDA_RUN(dev, narrow<false>, n, EACH_THREADS, shared, x, (int8_t *)y->p, y->s[0], d);
    return ST_OK;
}

extern "C" st_t cuda_copy(struct kn_dev *dev, const struct kn_tensor *x, const struct kn_tensor *y)
{
    CUDA_TRY(kn_check_copy(x, y));
    if (x->dtype == KN_I8 || y->dtype == KN_I8) return copy_i8(dev, x, y);
    if (x->dtype == KN_F32 && y->dtype == KN_BF16) return run_cast<float, bf16>(dev, x, y);
    if (x->dtype == KN_BF16 && y->dtype == KN_F32) return run_cast<bf16, float>(dev, x, y);
    if (x->dtype != y->dtype) return ST_ENOTSUP;
    switch (kn_dtype_size(x->dtype)) {
    case 4: return run_move<uint32_t>(dev, x, y);
    case 2: return run_move<uint16_t>(dev, x, y);
    case 1: return run_move<uint8_t>(dev, x, y);
    default: return ST_ENOTSUP;
    }
}
