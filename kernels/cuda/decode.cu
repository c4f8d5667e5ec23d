/* One token through branches of the stream. Every weight is read once (of experts the active ones') and meets two operations, as does every number of the cache, so
 * their bytes are what a token costs: kernels keep many loads in flight and do without barriers where they can, there are few of them, and each begins while the one
 * before ends, with what it will read of the weights.
 *
 *   attention   project: RMSNorm, q k v         attend: rotation, the token's k and v to the cache, softmax over pieces of the cache, their merger         down: o, + x
 *   ffn         (project: the router's logits)  hidden: RMSNorm, choice of experts, gate and up, act        down: all of a token's parts, + x
 *   head        project
 *
 * Products. A warp takes four rows at a time through what they are multiplied with, four numbers a lane of each (16 bytes in f32, 8 in bf16, 4 in int8, whose rows are
 * only as aligned as that), so that the vector, which comes from L1, is read once for four rows. An RMSNorm costs no pass of its own: rows meet w x, its length comes
 * along as a fifth sum, and rsqrt(mean(x^2) + eps) is a factor in the end. Where there are few rows the columns of a tile are dealt out to up to eight warps of a block,
 * whose sums are added up in their order.
 *
 * Attention: a block takes a piece of a group's keys and up to eight of its query heads; the last block of those heads to finish merges the pieces, in their order
 * (split-K as in Dao et al. 2023, crfm.stanford.edu/2023/10/12/flashdecoding.html). */
#include "kernels/cuda/cuda.h"

constexpr int ROWS = 4, WARPS = 8;                       /* rows of a tile; warps of a block of products */
constexpr int THREADS = 128, TILE = 128, HEADS_MOST = 8; /* attend: of a block; keys at a time; query heads of a block */
constexpr int LEAST_KEYS = 32, SHARED_MOST = 24 << 10;   /* keys of a piece; floats that a block should do with */
constexpr float LOG2E = 1.4426950408889634f;
constexpr float TINY = 1e-20f; /* as ref/moe.c */

/* ---- rows of weights ---- */

/* Matrices [rows, cols], or one for each expert. */
namespace {
struct matrix {
    const unsigned char *p; /* NULL: absent */
    int64_t row, each;      /* bytes from one row to the next, from one expert's to the next's */
    int cols;
    enum kn_dtype dtype;
    bool four; /* rows come in aligned fours, and so does what they are multiplied with */
};
}

namespace { /* other files may have a piece of their own */
/* V neighbours of a row as they lie in memory, and as numbers. U: so many pieces of each row are asked for before the first is used. */
template <class T, int V> struct piece;
template <> struct piece<float, 4> {
    static constexpr int V = 4, U = 2;
    uint4 raw;
    __device__ __forceinline__ void load(const unsigned char *row, int i) { raw = kn_stream16(row + (int64_t)i * 4); }
    __device__ __forceinline__ float get(int v) const { return __uint_as_float(v == 0 ? raw.x : v == 1 ? raw.y : v == 2 ? raw.z : raw.w); }
};
template <> struct piece<bf16, 4> {
    static constexpr int V = 4, U = 4;
    uint2 raw;
    __device__ __forceinline__ void load(const unsigned char *row, int i) { raw = kn_stream8(row + (int64_t)i * 2); }
    __device__ __forceinline__ float get(int v) const
    {
        uint32_t two = v < 2 ? raw.x : raw.y;
        return __uint_as_float(v % 2 ? two & 0xffff0000u : two << 16);
    }
};
template <> struct piece<int8_t, 4> {
    static constexpr int V = 4, U = 4;
    uint32_t raw;
    __device__ __forceinline__ void load(const unsigned char *row, int i) { raw = kn_stream4(row + i); }
    __device__ __forceinline__ float get(int v) const { return (float)(int8_t)(raw >> (8 * v)); }
};
template <class T> struct piece<T, 1> {
    static constexpr int V = 1, U = 4;
    T raw;
    __device__ __forceinline__ void load(const unsigned char *row, int i) { raw = ((const T *)row)[i]; }
    __device__ __forceinline__ float get(int) const { return number(raw); }
    __device__ __forceinline__ float number(float f) const { return f; }
    __device__ __forceinline__ float number(bf16 h) const { return cu_widen(h); }
    __device__ __forceinline__ float number(int8_t i) const { return (float)i; }
};
}

/* What rows are multiplied with: x, or, before the factor rsqrt(mean(x^2) + eps), w x. */
namespace {
struct input {
    const float *x, *w; /* [n]; w NULL: x as it is */
    int n;
};
}

/* Its numbers from i on; ss: + their squares before w. */
template <bool NORM, int V> KN_DEVICE void input_at(const input &in, int i, float v[V], float *ss)
{
    if constexpr (V == 4) {
        float4 x = cu_get4(in.x + i);
        v[0] = x.x, v[1] = x.y, v[2] = x.z, v[3] = x.w;
    } else {
        v[0] = in.x[i];
    }
    if constexpr (NORM) {
        KN_UNROLL for (int k = 0; k < V; k++) *ss = fmaf(v[k], v[k], *ss);
        if constexpr (V == 4) {
            float4 w = cu_get4(in.w + i);
            v[0] *= w.x, v[1] *= w.y, v[2] *= w.z, v[3] *= w.w;
        } else {
            v[0] *= in.w[i];
        }
    }
}

/* A lane's shares: sum += of each row times the input, of all columns those that are the part's. */
template <bool NORM, class P> KN_DEVICE void multiply(const unsigned char *const row[ROWS], const input &in, int part, int parts, float sum[ROWS], float *ss)
{
    constexpr int V = P::V, U = P::U;
    int n = in.n, step = parts * 32 * V;
    for (int i0 = (part * 32 + (int)threadIdx.x % 32) * V; i0 < n; i0 += U * step) {
        P w[U][ROWS];
        KN_UNROLL for (int u = 0; u < U; u++)
            KN_UNROLL for (int r = 0; r < ROWS; r++)
                if (i0 + u * step < n) w[u][r].load(row[r], i0 + u * step);
        KN_UNROLL for (int u = 0; u < U; u++) {
            if (i0 + u * step >= n) break;
            float x[V];
            input_at<NORM, V>(in, i0 + u * step, x, ss);
            KN_UNROLL for (int r = 0; r < ROWS; r++)
                KN_UNROLL for (int v = 0; v < V; v++) sum[r] = fmaf(w[u][r].get(v), x[v], sum[r]);
        }
    }
}

/* The factor of a row of int8, behind its numbers. */
KN_DEVICE float scale_of(const unsigned char *behind, bool aligned)
{
    if (aligned) return *(const float *)behind;
    uint32_t u = 0;
    KN_UNROLL for (int i = 0; i < 4; i++) u |= (uint32_t)behind[i] << (8 * i);
    return __uint_as_float(u);
}

/* What all matrices of a launch are made of, in aligned fours; ANY: each of something, number by number. */
enum kind { ALL_F32, ALL_BF16, ALL_I8, ANY };

/* sum += a lane's shares of four rows; *ss += those of the input's square. */
template <bool NORM, int KIND> KN_DEVICE void product(enum kn_dtype dtype, const unsigned char *const row[ROWS], const input &in, int part, int parts, float sum[ROWS], float *ss)
{
    float s[ROWS] = {};
    if constexpr (KIND == ALL_F32) {
        multiply<NORM, piece<float, 4>>(row, in, part, parts, s, ss);
    } else if constexpr (KIND == ALL_BF16) {
        multiply<NORM, piece<bf16, 4>>(row, in, part, parts, s, ss);
    } else if constexpr (KIND == ALL_I8) {
        multiply<NORM, piece<int8_t, 4>>(row, in, part, parts, s, ss);
    } else if (dtype == KN_F32) {
        multiply<NORM, piece<float, 1>>(row, in, part, parts, s, ss);
    } else if (dtype == KN_BF16) {
        multiply<NORM, piece<bf16, 1>>(row, in, part, parts, s, ss);
    } else {
        multiply<NORM, piece<int8_t, 1>>(row, in, part, parts, s, ss);
    }
    if (KIND == ALL_I8 || (KIND == ANY && dtype == KN_I8))
        KN_UNROLL for (int r = 0; r < ROWS; r++) s[r] *= scale_of(row[r] + in.n, KIND == ALL_I8);
    KN_UNROLL for (int r = 0; r < ROWS; r++) sum[r] += s[r];
}

/* v: the sums over the lanes of the tile's `parts` warps, neighbours in the block; the same bits in each lane. mem: N floats a warp. By all of the block. */
template <int N> KN_DEVICE void add_up(float v[N], float *mem, int parts)
{
    KN_UNROLL for (int i = 0; i < N; i++) v[i] = cu_warp_sum(v[i]);
    if (parts == 1) return;
    int warp = threadIdx.x / 32, first = warp / parts * parts;
    if (threadIdx.x % 32 == 0)
        KN_UNROLL for (int i = 0; i < N; i++) mem[warp * N + i] = v[i];
    __syncthreads();
    KN_UNROLL for (int i = 0; i < N; i++) {
        v[i] = 0;
        for (int p = 0; p < parts; p++) v[i] += mem[(first + p) * N + i];
    }
}
constexpr int ADD_UP = WARPS * (ROWS + 1); /* floats */

template <int N, class T> KN_DEVICE T pick(const T v[N], int i)
{
    T at = v[0];
    KN_UNROLL for (int k = 1; k < N; k++) at = i == k ? v[k] : at;
    return at;
}

/* Asks L2 for what comes first of a tile's rows, 1 KiB of each and for each of the tile's warps, and of w [cols], where there is one. */
template <int KIND> KN_DEVICE void ask_for(const unsigned char *const row[ROWS], int cols, int part, const float *w)
{
    int lane = threadIdx.x % 32, at = (part * 8 + lane % 8) * 128, size = KIND == ALL_F32 ? 4 : KIND == ALL_BF16 ? 2 : 1;
    if (KIND != ANY && at < cols * size) kn_prefetch(pick<ROWS>(row, lane / 8) + at);
    if (w && (int)threadIdx.x * 32 < cols) kn_prefetch(w + threadIdx.x * 32);
}

KN_DEVICE float sigmoid(float z)
{
    return 1.0f / (1.0f + expf(-z));
}

/* ---- products ---- */

/* y [rows] = w norm(x), and, where there is a last, y[rows] = its one row times norm(x). zero [zeros] = 0. */
template <int KIND>
KN_KERNEL_MIN(WARPS * 32, KIND == ANY ? 2 : 3) project(input in, float eps, matrix w, int rows, matrix last, float *y, int split, int *zero, int zeros)
{
    KN_SHARED(float, mem);
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32, part = warp % split;
    int tile = (blockIdx.x * (blockDim.x / 32) + warp) / split, of_w = (rows + ROWS - 1) / ROWS;
    bool in_last = last.p && tile == of_w, mine = tile < of_w || in_last;
    matrix m = w;
    if (in_last) m = last;
    int from = in_last ? rows : tile * ROWS, end = in_last ? rows + 1 : rows;
    const unsigned char *row[ROWS];
    KN_UNROLL for (int r = 0; r < ROWS; r++) row[r] = m.p + (int64_t)(tile >= of_w ? 0 : from + r < rows ? from + r : rows - 1) * m.row;
    ask_for<KIND>(row, in.n, part, in.w);
    kn_wait_prior();
    kn_let_next();
    if (blockIdx.x == 0)
        for (int i = threadIdx.x; i < zeros; i += blockDim.x) zero[i] = 0;
    float s[ROWS + 1] = {};
    product<true, KIND>(m.dtype, row, in, part, split, s, &s[ROWS]);
    add_up<ROWS + 1>(s, mem, split);
    float norm = rsqrtf(s[ROWS] / (float)in.n + eps);
    if (mine && part == 0 && lane < ROWS && from + lane < end) y[from + lane] = pick<ROWS>(s, lane) * norm;
}

/* x += one h + sum of the k chosen experts' matrices times their pieces of h, `each` floats apart from `first` on. */
template <int KIND>
KN_KERNEL_MIN(WARPS * 32, KIND == ANY ? 2 : 3) down(float *x, const float *h, int D, matrix one, matrix expert, int64_t first, int64_t each, int k, const int *chosen,
                                                    int split)
{
    KN_SHARED(float, mem);
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32, part = warp % split;
    int from = (blockIdx.x * (blockDim.x / 32) + warp) / split * ROWS;
    const unsigned char *row[ROWS];
    float s[ROWS] = {}, none = 0;
    KN_UNROLL for (int q = 0; q < ROWS; q++) row[q] = one.p + (int64_t)(from + q < D ? from + q : D - 1) * one.row;
    if (one.p) ask_for<KIND>(row, one.cols, part, NULL);
    kn_wait_prior();
    kn_let_next();
    int d = from + lane;
    bool mine = part == 0 && lane < ROWS && d < D;
    float sum = mine ? x[d] : 0.0f;
    for (int i = one.p ? -1 : 0; i < k; i++) {
        matrix m = expert;
        if (i < 0) m = one;
        const unsigned char *p = i < 0 ? m.p : m.p + chosen[i] * m.each;
        KN_UNROLL for (int q = 0; q < ROWS; q++) row[q] = p + (int64_t)(from + q < D ? from + q : D - 1) * m.row;
        input in = {i < 0 ? h : h + first + i * each, NULL, m.cols};
        product<false, KIND>(m.dtype, row, in, part, split, s, &none);
    }
    add_up<ROWS>(s, mem, split);
    if (mine) x[d] = sum + pick<ROWS>(s, lane);
}

/* x += r */
KN_KERNEL(WARPS * 32) add(float *x, const float *r, int D)
{
    int d = blockIdx.x * blockDim.x + threadIdx.x;
    kn_wait_prior();
    kn_let_next();
    if (d < D) x[d] += r[d];
}

/* ---- ffn ---- */

namespace {
struct units {
    matrix gate, up; /* gate.p NULL: none */
    int n;           /* hidden units */
};
}
namespace {
struct routing {
    const float *z; /* [E] the router's logits; z[E]: the shared expert's gate's, where it has one */
    int E, k;
    bool sigmoid, gated;
    int *chosen; /* [k] = */
};
}

/* Larger numbers have larger keys, none 0. What is no number is no better than any other. */
KN_DEVICE uint32_t key_of(float z)
{
    uint32_t u = __float_as_uint(z == z ? z + 0.0f : -INFINITY); /* -0 is 0 */
    return u >> 31 ? ~u : u | 0x80000000u;
}

/* A lane's best of those of its own that are left, the first of equal ones. */
KN_DEVICE void best_of(const uint32_t *key, int E, uint32_t *most, int *best)
{
    *most = 0, *best = INT32_MAX;
    for (int e = threadIdx.x % 32; e < E; e += 32)
        if (key[e] > *most) *most = key[e], *best = e;
}

/* The k largest of z, in falling order, of equal ones the lower index first, and their weights. By one warp; key [E]: of shared memory. */
KN_DEVICE void choose(const routing &r, uint32_t *key, int *chosen, float *w)
{
    int lane = threadIdx.x % 32, best;
    uint32_t most;
    float all = 0, sum = 0;
    for (int e = lane; e < r.E; e += 32) {
        float z = r.z[e];
        if (r.sigmoid) all += sigmoid(z);
        key[e] = key_of(z);
    }
    all = TINY + cu_warp_sum(all);
    best_of(key, r.E, &most, &best);
    for (int i = 0; i < r.k; i++) {
        uint32_t top = __reduce_max_sync(KN_FULL, most);
        int at = (int)__reduce_min_sync(KN_FULL, most == top ? (unsigned)best : (unsigned)INT32_MAX);
        if (lane == 0) chosen[i] = at;
        if (at % 32 == lane) {
            key[at] = 0;
            best_of(key, r.E, &most, &best);
        }
    }
    __syncwarp();
    float first = r.z[chosen[0]];
    for (int i = lane; i < r.k; i += 32) {
        float z = r.z[chosen[i]];
        w[i] = r.sigmoid ? sigmoid(z) / all : expf(z - first);
        sum += w[i];
    }
    sum = cu_warp_sum(sum) + (r.sigmoid ? TINY : 0.0f);
    for (int i = lane; i < r.k; i += 32) w[i] /= sum;
}

KN_DEVICE float activate(int act, float x)
{
    if (act == KN_RELU2) return x > 0 ? x * x : 0.0f;
    return 0.5f * x * (1.0f + tanhf(0.7978845608028654f * fmaf(0.044715f * x * x, x, x))); /* sqrt(2 / pi) */
}

/* h = weight act of norm(x): one's units from h on, those of the chosen experts `each` floats apart from `first` on. A tile: two units of gate and up, or four of up. */
template <int KIND>
KN_KERNEL_MIN(WARPS * 32, KIND == ANY ? 2 : 3) hidden(input in, float eps, units one, units expert, int act, routing route, float *h, int64_t first, int64_t each, int split)
{
    KN_SHARED(float, mem);
    float *w = mem + ADD_UP;
    int *chosen = (int *)(w + route.k), warp = threadIdx.x / 32, lane = threadIdx.x % 32, part = warp % split;
    int per_one = one.gate.p ? ROWS / 2 : ROWS, per_expert = expert.gate.p ? ROWS / 2 : ROWS;
    int tile = (blockIdx.x * (blockDim.x / 32) + warp) / split;
    int of_one = one.up.p ? (one.n + per_one - 1) / per_one : 0, of_expert = (expert.n + per_expert - 1) / per_expert;
    /* Tiles behind the last repeat it, and give nothing. */
    int tiles = of_one + route.k * of_expert;
    bool mine = tile < tiles;
    if (!mine) tile = tiles - 1;
    bool is_one = tile < of_one;
    int slot = is_one ? 0 : (tile - of_one) / of_expert, from = is_one ? tile : (tile - of_one) % of_expert, n = is_one ? one.n : expert.n;
    matrix up = is_one ? one.up : expert.up, gate = is_one ? one.gate : expert.gate;
    bool gated = gate.p;
    from *= gated ? ROWS / 2 : ROWS;
    const unsigned char *row[ROWS];
    KN_UNROLL for (int q = 0; q < ROWS; q++) {
        int64_t u = from + (gated ? q % 2 : q) < n ? from + (gated ? q % 2 : q) : n - 1;
        row[q] = gated && q < ROWS / 2 ? gate.p + u * gate.row : up.p + u * up.row;
    }
    ask_for<KIND>(row, is_one ? in.n : 0, part, in.w);
    kn_wait_prior();
    kn_let_next();
    if (route.k) {
        if (warp == 0) {
            choose(route, (uint32_t *)(chosen + route.k), chosen, w);
            if (blockIdx.x == 0)
                for (int i = lane; i < route.k; i += 32) route.chosen[i] = chosen[i];
        }
        __syncthreads();
    }
    int64_t expert_at = is_one ? 0 : chosen[slot];
    /* What is wanted after the product, in few registers. */
    int wanted = !mine || part ? 0 : n - from < (gated ? ROWS / 2 : ROWS) ? n - from : gated ? ROWS / 2 : ROWS;
    float *to = h + (is_one ? 0 : first + slot * each) + from, weight = !is_one ? w[slot] : route.gated ? sigmoid(route.z[route.E]) : 1.0f;
    float s[ROWS + 1] = {};
    if (KIND != ANY || !gated) {
        KN_UNROLL for (int q = 0; q < ROWS; q++) row[q] += expert_at * (gated && q < ROWS / 2 ? gate.each : up.each);
        product<true, KIND>(up.dtype, row, in, part, split, s, &s[ROWS]);
    } else { /* which may be unlike each other: gate after up */
        for (int pass = 0; pass < 2; pass++) {
            matrix m = pass ? gate : up;
            KN_UNROLL for (int q = 0; q < ROWS; q++) row[q] = m.p + expert_at * m.each + (int64_t)(from + q % 2 < n ? from + q % 2 : n - 1) * m.row;
            float p[ROWS] = {};
            s[ROWS] = 0;
            product<true, KIND>(m.dtype, row, in, part, split, p, &s[ROWS]);
            if (pass) s[0] = p[0], s[1] = p[1];
            else s[2] = p[0], s[3] = p[1];
        }
    }
    add_up<ROWS + 1>(s, mem, split);
    if (lane >= wanted) return;
    float norm = rsqrtf(s[ROWS] / (float)in.n + eps), v;
    if (gated) {
        float g = (lane ? s[1] : s[0]) * norm, u = (lane ? s[3] : s[2]) * norm;
        v = g * sigmoid(g) * u;
    } else {
        v = activate(act, pick<ROWS>(s, lane) * norm);
    }
    to[lane] = weight * v;
}

/* ---- attention ---- */

/* turn [half] = cos and sin of the token's rotation, in f64 for positions are far from 0. */
KN_KERNEL(WARPS * 32) turns(double pos, double theta, int half, float2 *turn)
{
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    kn_wait_prior();
    kn_let_next();
    if (i >= half) return;
    double angle = pos * pow(theta, -(double)i / (double)half);
    turn[i] = make_float2((float)cos(angle), (float)sin(angle));
}

namespace {
struct attention {
    const float *qkv;   /* [(H + 2G) K], or q's alone */
    float *k, *v;       /* the cache … */
    int64_t k0, k1, v0, v1; /* … from one token to the next, from one group to the next */
    const float2 *turn; /* [half] */
    int half;           /* of the numbers that rotate */
    int64_t S, slot, chunk;
    int H, G, K, chunks;
    float scale; /* with log2(e) */
    float *part; /* [H, chunks, K + 2]: largest score, sum of powers, what was gathered */
    float *o;    /* [H, K] = */
    int *done;   /* [G, heads / HEADS]: blocks that have given theirs, 0 at first */
};
}

/* Number d of a head, rotated. */
KN_DEVICE float turned(const attention &a, const float *x, int d)
{
    if (d >= 2 * a.half) return x[d];
    bool low = d < a.half;
    float2 t = a.turn[low ? d : d - a.half];
    return low ? x[d] * t.x - x[d + a.half] * t.y : x[d] * t.x + x[d - a.half] * t.y;
}

template <int V> KN_DEVICE void get(const float *p, float v[V])
{
    if constexpr (V == 4) {
        float4 f = cu_get4(p);
        v[0] = f.x, v[1] = f.y, v[2] = f.z, v[3] = f.w;
    } else {
        v[0] = *p;
    }
}

/* What a block keeps in shared memory, in floats: for `heads` heads of K rounded up to `wide`, `span` of which are gathered at a time. */
namespace {
struct attend_mem {
    int q, o, score, m, l, shrink, red, total;
};
}
static __host__ __device__ __forceinline__ attend_mem attend_at(int heads, int wide, int span, int chunks)
{
    attend_mem at = {};
    at.o = at.q + heads * wide, at.score = at.o + heads * wide;
    at.m = at.score + heads * (TILE > chunks ? TILE : chunks), at.l = at.m + heads, at.shrink = at.l + heads;
    at.red = (at.shrink + heads + 3) / 4 * 4, at.total = at.red + THREADS / 32 * heads * span;
    return at;
}

/* Block: chunk, then heads of a group, then group. `lanes` lanes, a power of two, go along a key together. */
template <int HEADS, int V> KN_KERNEL_MIN(THREADS, HEADS == 8 ? 4 : 5) attend(attention a, int lanes)
{
    KN_SHARED(float, mem);
    constexpr int U = 4; /* keys that a lane asks for before it uses the first */
    int K = a.K, wide = (K + 3) / 4 * 4, R = a.H / a.G, sets = (R + HEADS - 1) / HEADS, span = lanes * V;
    attend_mem at = attend_at(HEADS, wide, span, a.chunks);
    float *q = mem + at.q, *o = mem + at.o, *score = mem + at.score, *m = mem + at.m, *l = mem + at.l, *shrink = mem + at.shrink, *red = mem + at.red;
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32, sub = lane % lanes, team = threadIdx.x / lanes, teams = THREADS / lanes;
    int chunk = blockIdx.x % a.chunks, set = blockIdx.x / a.chunks % sets, g = blockIdx.x / a.chunks / sets;
    int h0 = g * R + set * HEADS, heads = R - set * HEADS < HEADS ? R - set * HEADS : HEADS;
    int64_t j0 = chunk * a.chunk, j1 = j0 + a.chunk < a.S ? j0 + a.chunk : a.S;
    float *keys = a.k + g * a.k1, *values = a.v + g * a.v1;
    /* The first of the piece, 64 KiB of keys and as much of values at most. */
    int per = (K + 31) / 32, ask = (int)(j1 - j0) < 4 * THREADS / per ? (int)(j1 - j0) * per : 4 * THREADS;
    for (int i = threadIdx.x; i < ask; i += THREADS) {
        kn_prefetch(keys + (j0 + i / per) * a.k0 + i % per * 32);
        kn_prefetch(values + (j0 + i / per) * a.v0 + i % per * 32);
    }
    kn_wait_prior();
    kn_let_next();
    for (int i = threadIdx.x; i < HEADS * wide; i += THREADS) {
        int r = i / wide, d = i % wide;
        q[i] = r < heads && d < K ? turned(a, a.qkv + (int64_t)(h0 + r) * K, d) * a.scale : 0.0f;
        o[i] = 0;
    }
    if (threadIdx.x < HEADS) m[threadIdx.x] = -INFINITY, l[threadIdx.x] = 0;
    /* The token's own: every set of heads writes the same before it reads it. */
    if (a.slot >= j0 && a.slot < j1)
        for (int d = threadIdx.x; d < K; d += THREADS) {
            keys[a.slot * a.k0 + d] = turned(a, a.qkv + (int64_t)(a.H + g) * K, d);
            values[a.slot * a.v0 + d] = a.qkv[(int64_t)(a.H + a.G + g) * K + d];
        }
    __syncthreads();
    for (int64_t t0 = j0; t0 < j1; t0 += TILE) {
        int n = j1 - t0 < TILE ? (int)(j1 - t0) : TILE;
        for (int b = 0; b < n; b += U * teams) {
            float s[U][HEADS] = {};
            for (int d = sub * V; d < K; d += span) {
                float x[U][V];
                KN_UNROLL for (int u = 0; u < U; u++)
                    if (b + u * teams + team < n) get<V>(keys + (t0 + b + u * teams + team) * a.k0 + d, x[u]);
                    else KN_UNROLL for (int v = 0; v < V; v++) x[u][v] = 0;
                KN_UNROLL for (int r = 0; r < HEADS; r++) {
                    float y[V];
                    get<V>(q + r * wide + d, y);
                    KN_UNROLL for (int u = 0; u < U; u++)
                        KN_UNROLL for (int v = 0; v < V; v++) s[u][r] = fmaf(x[u][v], y[v], s[u][r]);
                }
            }
            for (int w = lanes / 2; w; w /= 2)
                KN_UNROLL for (int u = 0; u < U; u++)
                    KN_UNROLL for (int r = 0; r < HEADS; r++) s[u][r] += __shfl_xor_sync(KN_FULL, s[u][r], w);
            KN_UNROLL for (int u = 0; u < U; u++)
                if (sub == 0 && b + u * teams + team < n)
                    KN_UNROLL for (int r = 0; r < HEADS; r++) score[r * TILE + b + u * teams + team] = s[u][r];
        }
        __syncthreads();
        for (int r = warp; r < HEADS; r += THREADS / 32) {
            float most = m[r], sum = 0;
            for (int j = lane; j < n; j += 32) most = fmaxf(most, score[r * TILE + j]);
            most = cu_warp_max(most);
            for (int j = lane; j < n; j += 32) {
                float p = kn_exp2(score[r * TILE + j] - most);
                score[r * TILE + j] = p;
                sum += p;
            }
            sum = cu_warp_sum(sum);
            if (lane == 0) shrink[r] = kn_exp2(m[r] - most), m[r] = most, l[r] = fmaf(l[r], shrink[r], sum);
        }
        __syncthreads();
        for (int d0 = 0; d0 < K; d0 += span) {
            float s[HEADS][V] = {};
            int d = d0 + sub * V;
            for (int b = team; b < n && d < K; b += U * teams) {
                float x[U][V];
                KN_UNROLL for (int u = 0; u < U; u++)
                    if (b + u * teams < n) get<V>(values + (t0 + b + u * teams) * a.v0 + d, x[u]);
                KN_UNROLL for (int u = 0; u < U; u++) {
                    if (b + u * teams >= n) break;
                    KN_UNROLL for (int r = 0; r < HEADS; r++) {
                        float p = score[r * TILE + b + u * teams];
                        KN_UNROLL for (int v = 0; v < V; v++) s[r][v] = fmaf(p, x[u][v], s[r][v]);
                    }
                }
            }
            for (int w = lanes; w < 32; w *= 2)
                KN_UNROLL for (int r = 0; r < HEADS; r++)
                    KN_UNROLL for (int v = 0; v < V; v++) s[r][v] += __shfl_xor_sync(KN_FULL, s[r][v], w);
            if (lane < lanes)
                KN_UNROLL for (int r = 0; r < HEADS; r++)
                    KN_UNROLL for (int v = 0; v < V; v++) red[(warp * HEADS + r) * span + sub * V + v] = s[r][v];
            __syncthreads();
            for (int i = threadIdx.x; i < HEADS * span; i += THREADS) {
                int r = i / span, e = i % span;
                if (d0 + e >= K) continue;
                float sum = 0;
                KN_UNROLL for (int w = 0; w < THREADS / 32; w++) sum += red[(w * HEADS + r) * span + e];
                o[r * wide + d0 + e] = fmaf(o[r * wide + d0 + e], shrink[r], sum);
            }
            __syncthreads();
        }
    }
    for (int i = threadIdx.x; i < heads * K; i += THREADS) {
        int r = i / K, d = i % K;
        float v = o[r * wide + d];
        if (a.chunks == 1) {
            a.o[(int64_t)(h0 + r) * K + d] = v / l[r];
            continue;
        }
        float *to = a.part + ((int64_t)(h0 + r) * a.chunks + chunk) * (K + 2);
        if (d == 0) to[0] = m[r], to[1] = l[r];
        to[2 + d] = v;
    }
    if (a.chunks == 1) return;
    /* Whoever comes last merges. */
    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0) red[0] = atomicAdd(&a.done[g * sets + set], 1) == a.chunks - 1 ? 1.0f : 0.0f;
    __syncthreads();
    if (red[0] == 0) return;
    __threadfence();
    const volatile float *part = a.part + (int64_t)h0 * a.chunks * (K + 2); /* others' writes: not from L1 */
    float *weight = score;                                                 /* [heads, chunks] */
    for (int r = warp; r < heads; r += THREADS / 32) {
        const volatile float *p = part + (int64_t)r * a.chunks * (K + 2);
        float most = -INFINITY, sum = 0;
        for (int c = lane; c < a.chunks; c += 32) most = fmaxf(most, p[(int64_t)c * (K + 2)]);
        most = cu_warp_max(most);
        for (int c = lane; c < a.chunks; c += 32) {
            float w = kn_exp2(p[(int64_t)c * (K + 2)] - most);
            weight[r * a.chunks + c] = w;
            sum = fmaf(w, p[(int64_t)c * (K + 2) + 1], sum);
        }
        sum = cu_warp_sum(sum);
        if (lane == 0) l[r] = sum;
    }
    __syncthreads();
    for (int i = threadIdx.x; i < heads * K; i += THREADS) {
        int r = i / K, d = i % K;
        const volatile float *p = part + (int64_t)r * a.chunks * (K + 2) + 2 + d;
        float sum = 0;
        for (int c = 0; c < a.chunks; c += 8) {
            float v[8];
            KN_UNROLL for (int u = 0; u < 8; u++) v[u] = c + u < a.chunks ? p[(int64_t)(c + u) * (K + 2)] : 0.0f;
            KN_UNROLL for (int u = 0; u < 8; u++) sum = c + u < a.chunks ? fmaf(weight[r * a.chunks + c + u], v[u], sum) : sum;
        }
        a.o[(int64_t)(h0 + r) * K + d] = sum / l[r];
    }
}

/* ---- all of it ---- */

static matrix matrix_of(const struct kn_tensor *t, bool by_four)
{
    if (kn_absent(t)) return {};
    int64_t size = (int64_t)kn_dtype_size(t->dtype), four = 4 * size;
    matrix m = {(const unsigned char *)t->p, t->s[t->rank - 2] * size, t->rank == 3 ? t->s[0] * size : 0, (int)t->d[t->rank - 1], t->dtype, by_four};
    m.four &= m.cols % 4 == 0 && (uintptr_t)m.p % (uintptr_t)four == 0 && m.row % four == 0 && m.each % four == 0;
    return m;
}

static bool by_four(const void *p)
{
    return (uintptr_t)p % 16 == 0;
}

/* How tiles of rows of `cols` numbers are dealt out: to `split` warps each. */
namespace {
struct deal {
    int split, threads;
    int64_t blocks;
};
}

static struct deal deal_of(struct kn_dev *dev, int64_t tiles, int64_t cols)
{
    int64_t sms = cuda_of(dev)->sms, steps = (cols + 127) / 128, warps = 1;
    struct deal d = {1, 0, 0};
    while (d.split < WARPS && tiles * d.split * 2 <= sms * 16 && d.split * 2 <= steps) d.split *= 2;
    while (warps < d.split || (warps < WARPS && tiles * d.split >= sms * warps * 2)) warps *= 2;
    d.threads = (int)warps * 32, d.blocks = (tiles * d.split + warps - 1) / warps;
    return d;
}

static int64_t lines_of(int64_t floats)
{
    return (floats + 31) / 32 * 32;
}

namespace {
struct attend_deal {
    int heads, sets, lanes, v; /* query heads a block, sets of them a group */
    int64_t chunk, chunks;
};
}

static struct attend_deal attend_deal_of(struct kn_dev *dev, const struct kn_branch_attention *b)
{
    int64_t S = b->k.d[0], G = b->k.d[1], K = b->k.d[2], R = b->heads / G;
    bool four = cuda_by4(&b->k) && cuda_by4(&b->v);
    struct attend_deal d = {1, 0, 1, four ? 4 : 1, 0, 0};
    while (d.heads < HEADS_MOST && d.heads < R) d.heads *= 2;
    while (d.lanes < 32 && d.lanes * d.v < K) d.lanes *= 2;
    while (d.heads > 1 && attend_at(d.heads, (int)(K + 3) / 4 * 4, d.lanes * d.v, TILE).total > SHARED_MOST) d.heads /= 2;
    d.sets = (int)((R + d.heads - 1) / d.heads);
    int64_t most = (int64_t)cuda_of(dev)->sms * 4 / (G * d.sets);
    d.chunks = cuda_blocks(S, LEAST_KEYS, most > 1 ? most : 1);
    d.chunk = (S + d.chunks - 1) / d.chunks;
    d.chunks = (S + d.chunk - 1) / d.chunk;
    return d;
}

/* Scratch, in floats: the most that a branch wants of each; lines of cosines and sines are one after another. */
namespace {
struct need {
    int64_t qkv, o, part, done, z, h, chosen, turns;
};
}

static void most(int64_t *to, int64_t n)
{
    if (lines_of(n) > *to) *to = lines_of(n);
}

static struct need need_of(struct kn_dev *dev, const struct kn_branch *branch, int n)
{
    struct need s = {};
    for (int i = 0; i < n; i++) {
        const struct kn_branch *b = &branch[i];
        if (b->kind == KN_BRANCH_ATTENTION) {
            const struct kn_branch_attention *a = &b->attention;
            struct attend_deal d = attend_deal_of(dev, a);
            most(&s.qkv, a->qkv.d[0]);
            most(&s.o, a->out.d[1]);
            most(&s.part, a->heads * d.chunks * (a->k.d[2] + 2));
            most(&s.done, a->k.d[1] * d.sets);
            s.turns += lines_of(a->rope);
        } else if (b->kind == KN_BRANCH_FFN) {
            const struct kn_branch_ffn *f = &b->ffn;
            bool experts = f->expert.down.p;
            most(&s.z, 1 + (experts ? f->router.d[0] : 0));
            most(&s.h, (f->one.down.p ? lines_of(f->one.down.d[1]) : 0) + (experts ? f->active * lines_of(f->expert.down.d[2]) : 0));
            if (experts) most(&s.chosen, f->active);
        }
    }
    return s;
}

/* Of matrices that may be absent. */
static int kind_of(const matrix *const *m, int n)
{
    enum kn_dtype dtype = KN_DTYPE_COUNT;
    for (int i = 0; i < n; i++) {
        if (!m[i]->p) continue;
        if (!m[i]->four || (dtype != KN_DTYPE_COUNT && m[i]->dtype != dtype)) return ANY;
        dtype = m[i]->dtype;
    }
    return dtype == KN_F32 ? ALL_F32 : dtype == KN_BF16 ? ALL_BF16 : ALL_I8;
}
namespace {
struct ctx {
    struct kn_dev *dev;
    bool begun; /* a kernel of this op has been launched */
    float eps;
    int64_t D;
    float *x;
    float *qkv, *o, *part, *z, *h, *turns;
    int *done, *chosen;
};
}

/* The op's first kernel stands behind whatever the stream has, which need not be a kernel; all others begin early. */
#define RUN(c, ...)                                              \
    do {                                                         \
        if ((c)->begun) CUDA_RUN_EARLY((c)->dev, __VA_ARGS__);   \
        else CUDA_RUN((c)->dev, __VA_ARGS__);                    \
        (c)->begun = true;                                       \
    } while (0)
/* The kernel of that kind. */
#define RUN_KIND(kind, c, kernel, ...)                                \
    do {                                                              \
        switch (kind) {                                               \
        case ALL_F32: RUN(c, kernel<ALL_F32>, __VA_ARGS__); break;    \
        case ALL_BF16: RUN(c, kernel<ALL_BF16>, __VA_ARGS__); break;  \
        case ALL_I8: RUN(c, kernel<ALL_I8>, __VA_ARGS__); break;      \
        default: RUN(c, kernel<ANY>, __VA_ARGS__);                    \
        }                                                             \
    } while (0)

static input normed(const struct ctx *c, const struct kn_branch *b)
{
    return {c->x, (const float *)b->norm->p, (int)c->D};
}

static bool normed_by_four(const struct ctx *c, const struct kn_branch *b)
{
    return by_four(c->x) && by_four(b->norm->p);
}

static st_t run_project(struct ctx *c, const struct kn_branch *b, const struct kn_tensor *w, const struct kn_tensor *last, float *y, int64_t zeros)
{
    bool four = normed_by_four(c, b);
    int64_t rows = w ? w->d[0] : 0;
    matrix m = w ? matrix_of(w, four) : matrix_of(last, four), l = last ? matrix_of(last, four) : matrix{};
    struct deal d = deal_of(c->dev, (rows + ROWS - 1) / ROWS + !!l.p, c->D);
    const matrix *all[] = {&m, &l};
    RUN_KIND(kind_of(all, 2), c, project, d.blocks, d.threads, ADD_UP * sizeof(float), normed(c, b), c->eps, m, (int)rows, l, y, d.split, c->done, (int)zeros);
    return ST_OK;
}

static st_t run_down(struct ctx *c, const float *h, matrix one, matrix expert, int64_t first, int64_t each, int64_t k)
{
    struct deal d = deal_of(c->dev, (c->D + ROWS - 1) / ROWS, one.p && one.cols > expert.cols ? one.cols : expert.cols);
    const matrix *all[] = {&one, &expert};
    RUN_KIND(kind_of(all, 2), c, down, d.blocks, d.threads, ADD_UP * sizeof(float), c->x, h, (int)c->D, one, expert, first, each, (int)k, (const int *)c->chosen, d.split);
    return ST_OK;
}

template <int HEADS, int V> static st_t run_attend(struct kn_dev *dev, const attention *a, const struct attend_deal *d)
{
    attend_mem at = attend_at(HEADS, (a->K + 3) / 4 * 4, d->lanes * V, a->chunks);
    CUDA_RUN_EARLY(dev, (attend<HEADS, V>), (int64_t)a->G * d->sets * a->chunks, THREADS, (size_t)at.total * sizeof(float), *a, d->lanes);
    return ST_OK;
}

static st_t run_attention(struct ctx *c, const struct kn_branch *b, float *turn)
{
    const struct kn_branch_attention *t = &b->attention;
    struct attend_deal d = attend_deal_of(c->dev, t);
    attention a = {};
    a.qkv = c->qkv, a.k = (float *)t->k.p, a.v = (float *)t->v.p, a.k0 = t->k.s[0], a.k1 = t->k.s[1], a.v0 = t->v.s[0], a.v1 = t->v.s[1];
    a.turn = (const float2 *)turn, a.half = (int)t->rope / 2, a.S = t->k.d[0], a.slot = t->slot, a.chunk = d.chunk, a.chunks = (int)d.chunks;
    a.H = (int)t->heads, a.G = (int)t->k.d[1], a.K = (int)t->k.d[2], a.scale = (float)t->scale * LOG2E, a.part = c->part, a.o = c->o, a.done = c->done;
    CUDA_TRY(run_project(c, b, &t->qkv, NULL, c->qkv, a.G * d.sets));
    static st_t (*const of[4][2])(struct kn_dev *, const attention *, const struct attend_deal *) = {
        {run_attend<1, 1>, run_attend<1, 4>}, {run_attend<2, 1>, run_attend<2, 4>}, {run_attend<4, 1>, run_attend<4, 4>}, {run_attend<8, 1>, run_attend<8, 4>}};
    int kind = d.heads == 1 ? 0 : d.heads == 2 ? 1 : d.heads == 4 ? 2 : 3;
    CUDA_TRY(of[kind][d.v == 4](c->dev, &a, &d));
    return run_down(c, c->o, matrix_of(&t->out, true), {}, 0, 0, 0);
}

static units units_of(const struct kn_ffn *f, bool four)
{
    if (!f->down.p) return {};
    return {matrix_of(&f->gate, four), matrix_of(&f->up, four), (int)f->down.d[f->down.rank - 1]};
}

static int64_t tiles_of(const units *u)
{
    int64_t per = u->gate.p ? ROWS / 2 : ROWS;
    return (u->n + per - 1) / per;
}

static st_t run_ffn(struct ctx *c, const struct kn_branch *b)
{
    const struct kn_branch_ffn *f = &b->ffn;
    bool four = normed_by_four(c, b), experts = f->expert.down.p, gated = f->one.down.p && f->one_gate.p;
    int64_t E = experts ? f->router.d[0] : 0, k = experts ? f->active : 0;
    units one = units_of(&f->one, four), expert = units_of(&f->expert, four);
    if (E || gated) CUDA_TRY(run_project(c, b, E ? &f->router : NULL, gated ? &f->one_gate : NULL, c->z, 0));
    routing r = {c->z, (int)E, (int)k, f->sigmoid != 0, gated, c->chosen};
    int64_t first = lines_of(one.n), each = lines_of(expert.n);
    struct deal d = deal_of(c->dev, tiles_of(&one) + k * tiles_of(&expert), c->D);
    size_t shared = (size_t)(ADD_UP + 2 * k + E) * sizeof(float);
    const matrix *all[] = {&one.gate, &one.up, &expert.gate, &expert.up};
    RUN_KIND(kind_of(all, 4), c, hidden, d.blocks, d.threads, shared, normed(c, b), c->eps, one, expert, f->act, r, c->h, first, each, d.split);
    return run_down(c, c->h, matrix_of(&f->one.down, true), matrix_of(&f->expert.down, true), first, each, k);
}

/* The line of the i-th branch's rotation: an earlier branch's where that turns alike. */
static st_t turn_of(struct ctx *c, const struct kn_branch *branch, int i, float **out)
{
    const struct kn_branch_attention *a = &branch[i].attention;
    float *line = c->turns;
    for (int j = 0; j <= i; j++) {
        const struct kn_branch_attention *b = &branch[j].attention;
        if (branch[j].kind != KN_BRANCH_ATTENTION) continue;
        *out = line;
        if (j == i) break;
        if (b->rope == a->rope && b->pos == a->pos && b->theta == a->theta) return ST_OK;
        line += lines_of(b->rope);
    }
    RUN(c, turns, cuda_blocks(a->rope / 2, WARPS * 32), WARPS * 32, 0, (double)a->pos, a->theta, (int)a->rope / 2, (float2 *)*out);
    return ST_OK;
}

extern "C" st_t cuda_decode(struct kn_dev *dev, const struct kn_branch *branch, int n, double eps, const struct kn_tensor *x, const struct kn_tensor *r)
{
    CUDA_TRY(kn_check_decode(branch, n, eps, x, r));
    if (!cuda_is_f32(x)) return ST_ENOTSUP;
    struct need s = need_of(dev, branch, n);
    void *mem;
    CUDA_TRY(cuda_scratch(dev, CUDA_SLOT_A, (size_t)(1 + s.qkv + s.o + s.part + s.z + s.h + s.turns + s.done + s.chosen) * sizeof(float), &mem));
    struct ctx c = {};
    c.dev = dev, c.eps = (float)eps, c.D = x->d[1], c.x = (float *)x->p;
    c.qkv = (float *)mem, c.o = c.qkv + s.qkv, c.part = c.o + s.o, c.z = c.part + s.part, c.h = c.z + s.z, c.turns = c.h + s.h;
    c.done = (int *)(c.turns + s.turns), c.chosen = c.done + s.done;
    if (!kn_absent(r)) RUN(&c, add, cuda_blocks(c.D, WARPS * 32), WARPS * 32, 0, c.x, (const float *)r->p, (int)c.D);
    for (int i = 0; i < n; i++) {
        const struct kn_branch *b = &branch[i];
        if (b->kind == KN_BRANCH_ATTENTION) {
            float *turn = NULL;
            if (b->attention.rope) CUDA_TRY(turn_of(&c, branch, i, &turn));
            CUDA_TRY(run_attention(&c, b, turn));
        } else if (b->kind == KN_BRANCH_FFN) {
            CUDA_TRY(run_ffn(&c, b));
        } else {
            CUDA_TRY(run_project(&c, b, &b->head.w, NULL, (float *)b->head.logits.p, 0));
        }
    }
    return ST_OK;
}
