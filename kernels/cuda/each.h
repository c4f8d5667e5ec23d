/* Ops that treat every element alike: one kernel that walks a few tensors of equal dims and any strides, each element by one thread, which has read all that it
 * reads there before it writes (so that outputs may be the memory of inputs).
 *
 *   struct product {                                        // what is done, and the numbers that it needs
 *       static constexpr int IN = 2, OUT = 1;
 *       KN_DEVICE void apply(const product &op, const float (&in)[2], float (&out)[1]) { out[0] = in[0] * in[1]; }
 *   };
 *   return each_map<float, float>(dev, product(), {x, y, z});    // inputs, then outputs: of one type each
 *
 * Dims are put in the order of the outputs' strides and merged where all tensors walk them alike; what is contiguous is one long row. Where each tensor's innermost
 * stride is 1 and the rest is aligned, accesses are of 16 bytes, else of one element. */
#ifndef TAUT_KERNELS_CUDA_EACH_H
#define TAUT_KERNELS_CUDA_EACH_H

#include "kernels/cuda/cuda.h"

constexpr int EACH_THREADS = 256, EACH_SINGLES = 4; /* elements of a thread where accesses are of one */

/* ---- the walk ---- */

/* [0]: the innermost dim. rows: the product of the other dims. */
template <int K> struct each_walk {
    void *p[K];
    int64_t d[KN_RANK], s[K][KN_RANK], rows;
    int rank;
};

/* Dim a belongs within dim b: the last tensor that tells them apart says so, and outputs come last. */
template <int K> static inline bool each_within(const struct kn_tensor *const (&t)[K], int a, int b)
{
    for (int k = K - 1; k >= 0; k--)
        if (t[k]->s[a] && t[k]->s[b] && t[k]->s[a] != t[k]->s[b]) return t[k]->s[a] < t[k]->s[b];
    return a > b;
}

/* t: K descriptors of equal dims. */
template <int K> static inline each_walk<K> each_walk_of(const struct kn_tensor *const (&t)[K])
{
    each_walk<K> w = {};
    int order[KN_RANK], n = 0;
    for (int i = 0; i < t[0]->rank; i++) {
        if (t[0]->d[i] == 1) continue;
        int at = n++;
        for (; at > 0 && each_within(t, order[at - 1], i); at--) order[at] = order[at - 1];
        order[at] = i;
    }
    for (int k = 0; k < K; k++) w.p[k] = t[k]->p;
    for (int i = n - 1; i >= 0; i--) { /* order: the outermost first */
        int dim = order[i], in = w.rank - 1;
        bool merge = in >= 0;
        for (int k = 0; k < K && merge; k++) merge = t[k]->s[dim] == w.d[in] * w.s[k][in];
        if (merge) {
            w.d[in] *= t[0]->d[dim];
            continue;
        }
        w.d[w.rank] = t[0]->d[dim];
        for (int k = 0; k < K; k++) w.s[k][w.rank] = t[k]->s[dim];
        w.rank++;
    }
    if (!w.rank) { /* one element */
        w.rank = 1, w.d[0] = 1;
        for (int k = 0; k < K; k++) w.s[k][0] = 1;
    }
    w.rows = 1;
    for (int i = 1; i < w.rank; i++) w.rows *= w.d[i];
    return w;
}

/* Whether `by` neighbours at once can be reached in all of tensor k, whose elements have `size` bytes. */
template <int K> static inline bool each_by(const each_walk<K> &w, int k, int by, size_t size)
{
    bool yes = w.s[k][0] == 1 && (w.rank == 1 || w.d[0] % by == 0) && (uintptr_t)w.p[k] % ((size_t)by * size) == 0;
    for (int i = 1; i < w.rank; i++) yes = yes && w.s[k][i] % by == 0;
    return yes;
}

/* Where row r begins in each tensor; r < 2^31 where the walk has more than two dims. */
template <int K> KN_DEVICE void each_row(const each_walk<K> &w, int64_t r, int64_t (&o)[K])
{
    if (w.rank <= 2) {
        KN_UNROLL for (int k = 0; k < K; k++) o[k] = w.rank == 2 ? r * w.s[k][1] : 0;
        return;
    }
    KN_UNROLL for (int k = 0; k < K; k++) o[k] = 0;
    uint32_t left = (uint32_t)r;
    KN_UNROLL for (int i = 1; i < KN_RANK; i++) {
        if (i >= w.rank) break;
        uint32_t q = i + 1 < w.rank ? left / (uint32_t)w.d[i] : 0, at = left - q * (uint32_t)w.d[i];
        KN_UNROLL for (int k = 0; k < K; k++) o[k] += at * w.s[k][i];
        left = q;
    }
}

/* Threads of a block next to each other for a row of n: a power of two that leaves few of them idle, of whole lines where n has them. */
static inline int each_across(int64_t n, int most = EACH_THREADS)
{
    int best = 1;
    int64_t least = INT64_MAX;
    for (int x = n < 8 ? 1 : 8; x <= most; x *= 2) {
        int64_t padded = (n + x - 1) / x * x;
        if (padded <= least) least = padded, best = x;
        if (x >= n) break;
    }
    return best;
}

/* F: what is done with W neighbours at a time, BATCH times a thread of a single row: F::Lot<W> holds what F::get<W> reads of the tensors p at o and F::put<W> writes there.
 * F::size: bytes of an element of tensor k. Flat: there is one row. */
template <class F, int W, bool Flat> KN_KERNEL(EACH_THREADS) each(F f, each_walk<F::K> w)
{
    constexpr int K = F::K, N = W == 1 ? EACH_SINGLES : Flat ? F::BATCH : 1;
    int64_t r = Flat ? 0 : (int64_t)blockIdx.x * blockDim.y + threadIdx.y, across = Flat ? blockIdx.x : (int64_t)blockIdx.z * gridDim.y + blockIdx.y;
    int64_t step = (int64_t)blockDim.x * W, first = across * N * step + (int64_t)threadIdx.x * W, n = w.d[0], base[K] = {}, o[N][K];
    typename F::template Lot<W> lot[N] = {};
    if (!Flat) {
        if (r >= w.rows) return;
        each_row(w, r, base);
    }
    KN_UNROLL for (int j = 0; j < N; j++) {
        int64_t i = first + j * step;
        KN_UNROLL for (int k = 0; k < K; k++) o[j][k] = base[k] + (W > 1 ? i : i * w.s[k][0]);
        if (i + W <= n) F::template get<W>(f, w.p, o[j], lot[j]);
    }
    KN_UNROLL for (int j = 0; j < N; j++)
        if (first + j * step + W <= n) F::template put<W>(f, w.p, o[j], lot[j]);
    if constexpr (Flat) {
        KN_UNROLL for (int j = 0; j < N; j++) { /* what is left after whole lots */
            int64_t i = first + j * step;
            if (i >= n || i + W <= n) continue;
            for (; i < n; i++) {
                typename F::template Lot<1> one = {};
                KN_UNROLL for (int k = 0; k < K; k++) o[j][k] = i;
                F::template get<1>(f, w.p, o[j], one);
                F::template put<1>(f, w.p, o[j], one);
            }
        }
    }
}

/* wide: W at a time, which each_by allows for every tensor. */
template <class F, int W> static st_t each_run(struct kn_dev *dev, const F &f, const each_walk<F::K> &w, bool wide)
{
    if (!w.d[0] || !w.rows) return ST_OK;
    if (w.rank > 2 && w.rows >> 31) { /* one after the other along the outermost */
        each_walk<F::K> part = w;
        part.rank--, part.rows /= w.d[part.rank];
        for (int64_t i = 0; i < w.d[part.rank]; i++) {
            for (int k = 0; k < F::K; k++) part.p[k] = (char *)w.p[k] + i * w.s[k][part.rank] * (int64_t)F::size(k);
            CUDA_TRY((each_run<F, W>(dev, f, part, wide)));
        }
        return ST_OK;
    }
    int64_t lots = cuda_blocks(w.d[0], wide ? W : 1), batch = !wide ? EACH_SINGLES : w.rank == 1 ? F::BATCH : 1;
    unsigned x = (unsigned)each_across(cuda_blocks(lots, batch)), y = EACH_THREADS / x;
    int64_t across = cuda_blocks(lots, (int64_t)x * batch), deep = cuda_blocks(across, 65535);
    dim3 grid((unsigned)cuda_blocks(w.rows, y), (unsigned)((across + deep - 1) / deep), (unsigned)deep);
    if (wide && w.rank == 1) CUDA_RUN(dev, (each<F, W, true>), across, x, 0, f, w);
    else if (wide) CUDA_RUN(dev, (each<F, W, false>), grid, dim3(x, y), 0, f, w);
    else CUDA_RUN(dev, (each<F, 1, false>), grid, dim3(x, y), 0, f, w);
    return ST_OK;
}

/* ---- numbers ---- */

/* W neighbours as f32: 16, 8 or 4 bytes, or one number. */
template <int W> KN_DEVICE void each_get(const float *p, float (&v)[W])
{
    static_assert(W == 1 || W == 2 || W == 4, "");
    if constexpr (W == 1) {
        v[0] = *p;
    } else if constexpr (W == 2) {
        uint2 q = kn_load8(p);
        v[0] = __uint_as_float(q.x), v[1] = __uint_as_float(q.y);
    } else {
        float4 q = cu_get4(p);
        v[0] = q.x, v[1] = q.y, v[2] = q.z, v[3] = q.w;
    }
}
template <int W> KN_DEVICE void each_get(const bf16 *p, float (&v)[W])
{
    static_assert(W == 1 || W == 4 || W == 8, "");
    if constexpr (W == 1) {
        v[0] = cu_widen(*p);
    } else if constexpr (W == 4) {
        float4 q = cu_get4(p);
        v[0] = q.x, v[1] = q.y, v[2] = q.z, v[3] = q.w;
    } else {
        uint4 q = kn_load16(p);
        uint32_t u[4] = {q.x, q.y, q.z, q.w};
        KN_UNROLL for (int i = 0; i < 4; i++) v[2 * i] = __uint_as_float(u[i] << 16), v[2 * i + 1] = __uint_as_float(u[i] & 0xffff0000u);
    }
}
template <int W> KN_DEVICE void each_put(float *p, const float (&v)[W])
{
    static_assert(W == 1 || W == 2 || W == 4, "");
    if constexpr (W == 1) *p = v[0];
    else if constexpr (W == 2) kn_write8(p, make_uint2(__float_as_uint(v[0]), __float_as_uint(v[1])));
    else cu_write4(p, make_float4(v[0], v[1], v[2], v[3]));
}
template <int W> KN_DEVICE void each_put(bf16 *p, const float (&v)[W])
{
    static_assert(W == 1 || W == 2 || W == 4 || W == 8, "");
    if constexpr (W == 1) *p = cu_round(v[0]);
    else if constexpr (W == 2) *(uint32_t *)p = kn_pack_bf16(v[0], v[1]);
    else if constexpr (W == 4) cu_write4(p, make_float4(v[0], v[1], v[2], v[3]));
    else kn_write16(p, make_uint4(kn_pack_bf16(v[0], v[1]), kn_pack_bf16(v[2], v[3]), kn_pack_bf16(v[4], v[5]), kn_pack_bf16(v[6], v[7])));
}

/* Outputs of type B from inputs of type A, number by number in f32. */
template <class Op, class A, class B> struct each_mapping {
    static constexpr int IN = Op::IN, OUT = Op::OUT, K = IN + OUT, BATCH = IN == 1 ? 2 : 1; /* 32 bytes in flight a thread cover the memory's latency */
    Op op;
    template <int W> struct Lot {
        float v[IN][W];
    };
    static size_t size(int k)
    {
        return k < IN ? sizeof(A) : sizeof(B);
    }
    template <int W> KN_DEVICE void get(const each_mapping &, void *const (&p)[K], const int64_t (&o)[K], Lot<W> &l)
    {
        KN_UNROLL for (int k = 0; k < IN; k++) each_get<W>((const A *)p[k] + o[k], l.v[k]);
    }
    template <int W> KN_DEVICE void put(const each_mapping &f, void *const (&p)[K], const int64_t (&o)[K], const Lot<W> &l)
    {
        float v[OUT][W];
        KN_UNROLL for (int i = 0; i < W; i++) {
            float in[IN], out[OUT];
            KN_UNROLL for (int k = 0; k < IN; k++) in[k] = l.v[k][i];
            Op::apply(f.op, in, out);
            KN_UNROLL for (int k = 0; k < OUT; k++) v[k][i] = out[k];
        }
        KN_UNROLL for (int k = 0; k < OUT; k++) each_put<W>((B *)p[IN + k] + o[IN + k], v[k]); /* the last output is what stays where two are one */
    }
};

/* t: the inputs, of type A, then the outputs, of type B; all of one shape, strides of 0 in inputs allowed. */
template <class A, class B, class Op> static st_t each_map(struct kn_dev *dev, const Op &op, const struct kn_tensor *const (&t)[Op::IN + Op::OUT])
{
    constexpr int K = Op::IN + Op::OUT, W = 16 / (sizeof(A) > sizeof(B) ? sizeof(A) : sizeof(B));
    each_walk<K> w = each_walk_of(t);
    bool wide = true;
    for (int k = 0; k < K; k++) wide = wide && each_by(w, k, W, each_mapping<Op, A, B>::size(k));
    return each_run<each_mapping<Op, A, B>, W>(dev, {op}, w, wide);
}

/* A vector [d[dim]] as a tensor of like's shape that repeats it. */
static inline struct kn_tensor each_repeat(const struct kn_tensor *v, const struct kn_tensor *like, int dim)
{
    struct kn_tensor t = *like;
    t.p = v->p, t.dtype = v->dtype;
    for (int i = 0; i < t.rank; i++) t.s[i] = i == dim ? v->s[0] : 0;
    return t;
}

/* ---- functions ---- */

/* 1 / (1 + e^-x), within about 2 units in the last place; 0 where e^-x is infinite. */
KN_DEVICE float each_sigmoid(float x)
{
    return __fdividef(1.0f, 1.0f + expf(-x));
}

/* log(1 + e^x) */
KN_DEVICE float each_softplus(float x)
{
    return fmaxf(x, 0.0f) + log1pf(expf(-fabsf(x)));
}

#endif
