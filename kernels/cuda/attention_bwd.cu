/* Causal attention, backward. With P = exp(scale q k - lse), delta = dout . out and dS = P (dout v - delta) (Dao 2022, arXiv:2205.14135, appendix B.2):
 *   dv = P^T dout     dk = scale dS^T q     dq = scale dS k
 * row_sums makes delta first, one pass over out and dout. Then one of
 *   backward_mma   precision bf16, E = K <= 256, on tensor cores: a block owns keys, whose dk and dv stay in registers while it goes through the queries of all heads of the
 *                  group (Dao 2023, arXiv:2307.08691); five products, 10 B H K operations a pair of query and key that see each other. dq is summed in scratch, f32: a block
 *                  has every n-th tile of keys and adds what they give one after the other to sums of its own, 8 K bytes a query and tile of keys, mostly in the L2 cache;
 *                  dq_from_sums adds the n sums in their order, so that the same bits come out each time without atomics
 *   keys_plain, queries_plain   everything else, by FMA in f32: dk and dv by tiles of keys, then dq by tiles of queries, with the weights worked out in both: seven products.
 *                  Any strides and head sizes; beyond 256 columns a block each 256, with the weights worked out again */
#include "kernels/cuda/attn.h"

/* ---- row sums ---- */

constexpr int THREADS = 256;

/* For each query, rows padded to Tp a head: delta = dout . out and the base-2 logarithm of its softmax's denominator. Rows beyond T: 0 and infinity, so that
 * their weights 2^(s - l) are 0. Eight lanes a row. */
template <class T>
KN_KERNEL(THREADS) row_sums(cu_view<const T, 4> out, cu_view<const T, 4> dout, cu_view<const float, 3> lse, int B, int H, int rows, int Tp, int E, bool by4, float *delta,
                            float *l2)
{
    int lane = threadIdx.x % 8;
    int64_t at = (int64_t)blockIdx.x * (THREADS / 8) + threadIdx.x / 8, n = (int64_t)B * H * Tp;
    int64_t bh = at / Tp, b = bh / H, h = bh % H, t = at % Tp;
    float sum = 0;
    bool there = at < n && t < rows;
    if (there) {
        const T *x = cu_at(out, b, t, h, 0), *y = cu_at(dout, b, t, h, 0);
        for (int e = 4 * lane; e < E; e += 32) {
            float4 u, w;
            if (by4) {
                u = cu_get4(x + e), w = cu_get4(y + e);
            } else {
                u.x = cu_get(x + e), w.x = cu_get(y + e);
                u.y = e + 1 < E ? cu_get(x + e + 1) : 0, w.y = e + 1 < E ? cu_get(y + e + 1) : 0;
                u.z = e + 2 < E ? cu_get(x + e + 2) : 0, w.z = e + 2 < E ? cu_get(y + e + 2) : 0;
                u.w = e + 3 < E ? cu_get(x + e + 3) : 0, w.w = e + 3 < E ? cu_get(y + e + 3) : 0;
            }
            sum = fmaf(u.w, w.w, fmaf(u.z, w.z, fmaf(u.y, w.y, fmaf(u.x, w.x, sum))));
        }
    }
    KN_UNROLL for (int o = 4; o; o >>= 1) sum += __shfl_xor_sync(KN_FULL, sum, o);
    if (lane || at >= n) return;
    delta[at] = sum;
    l2[at] = there ? *cu_at(lse, b, h, t) * LOG2E : INFINITY;
}

template <class T>
static st_t run_row_sums(struct kn_dev *dev, const struct kn_tensor *out, const struct kn_tensor *dout, const struct kn_tensor *lse, const struct attn &a, int Tp,
                         float *delta, float *l2)
{
    int64_t blocks = cuda_blocks((int64_t)a.B * a.H * Tp, THREADS / 8);
    CUDA_RUN(dev, row_sums<T>, blocks, THREADS, 0, out, dout, lse, a.B, a.H, a.T, Tp, a.E, cuda_by4(out) && cuda_by4(dout), delta, l2);
    return ST_OK;
}

/* ---- by FMA ---- */

namespace {
struct sums {
    const float *delta, *l2; /* [B, H, T] */
};
}
namespace {
struct by4 {
    bool qk, vo, q, k, o; /* q and k; v and dout; each alone (o: dout) */
};
}

/* A block: 64 keys of a key head, 16 EV columns of dk and dv; tiles of queries of all its query heads, one after the other. */
template <class T, int EV>
KN_KERNEL(PLAIN_THREADS) keys_plain(cu_view<const T, 4> q, cu_view<const T, 4> k, cu_view<const T, 4> v, cu_view<const T, 4> dout, struct sums w, cu_view<T, 4> dk,
                                    cu_view<T, 4> dv, struct attn a, struct by4 f)
{
    KN_SHARED(float, mem);
    float *plane = mem + STAGE;
    int tx = threadIdx.x % 16, ty = threadIdx.x / 16, blocks = (a.S + TILE - 1) / TILE, R = a.H / a.G;
    int bg = blockIdx.x / blocks, b = bg / a.G, g = bg % a.G, j0 = (int)blockIdx.x % blocks * TILE; /* the longest first */
    int c0 = blockIdx.y * 16 * EV, nk = attn_min(TILE, a.S - j0), cols_k = attn_min(16 * EV, a.K - c0), cols_v = attn_min(16 * EV, a.E - c0);
    int last = a.W ? attn_min(a.T - 1, j0 + nk - 1 + a.W - 1) : a.T - 1;
    const T *key = cu_at(k, b, j0, g, 0), *value = cu_at(v, b, j0, g, 0);
    float sk[4][EV] = {}, sv[4][EV] = {};
    for (int h = g * R; h < (g + 1) * R; h++)
        for (int t0 = j0; t0 <= last; t0 += TILE) {
            int nq = attn_min(TILE, a.T - t0);
            const T *query = cu_at(q, b, t0, h, 0), *grad = cu_at(dout, b, t0, h, 0);
            const float *delta = w.delta + ((int64_t)b * a.H + h) * a.T + t0, *l2 = w.l2 + ((int64_t)b * a.H + h) * a.T + t0;
            float p[4][4] = {}, dp[4][4] = {};
            attn_dots(p, mem, key, k.s[1], nk, query, q.s[1], nq, a.K, f.qk);
            KN_UNROLL for (int j = 0; j < 4; j++) {
                int t = tx + 16 * j;
                float l = t < nq ? l2[t] : INFINITY;
                KN_UNROLL for (int i = 0; i < 4; i++) {
                    p[i][j] = attn_sees(a, t0 + t, j0 + ty + 16 * i) ? kn_exp2(fmaf(p[i][j], a.c, -l)) : 0.0f;
                    plane[(ty + 16 * i) * PLANE_ROW + t] = p[i][j];
                }
            }
            if (cols_v > 0) attn_gather<EV>(sv, plane, mem, grad + c0, dout.s[1], nq, cols_v, f.o);
            if (cols_k <= 0) continue;
            attn_dots(dp, mem, value, v.s[1], nk, grad, dout.s[1], nq, a.E, f.vo);
            KN_UNROLL for (int j = 0; j < 4; j++) {
                int t = tx + 16 * j;
                float d = t < nq ? delta[t] : 0.0f;
                KN_UNROLL for (int i = 0; i < 4; i++) plane[(ty + 16 * i) * PLANE_ROW + t] = p[i][j] * (dp[i][j] - d);
            }
            attn_gather<EV>(sk, plane, mem, query + c0, q.s[1], nq, cols_k, f.q);
        }
    KN_UNROLL for (int i = 0; i < 4; i++) {
        int r = ty + 16 * i;
        if (r >= nk) continue;
        KN_UNROLL for (int e = 0; e < EV; e++) {
            int c = attn_column<EV>(e);
            if (c < cols_k) cu_put(cu_at(dk, b, j0 + r, g, c0 + c), sk[i][e] * a.scale);
            if (c < cols_v) cu_put(cu_at(dv, b, j0 + r, g, c0 + c), sv[i][e]);
        }
    }
}

/* A block: 64 queries of a head, 16 EV columns of dq. */
template <class T, int EV>
KN_KERNEL(PLAIN_THREADS) queries_plain(cu_view<const T, 4> q, cu_view<const T, 4> k, cu_view<const T, 4> v, cu_view<const T, 4> dout, struct sums w, cu_view<T, 4> dq,
                                       struct attn a, struct by4 f)
{
    KN_SHARED(float, mem);
    float *plane = mem + STAGE;
    int tx = threadIdx.x % 16, ty = threadIdx.x / 16, blocks = (a.T + TILE - 1) / TILE;
    int bh = blockIdx.x / blocks, b = bh / a.H, h = bh % a.H, g = h / (a.H / a.G), t0 = (blocks - 1 - (int)blockIdx.x % blocks) * TILE;
    int c0 = blockIdx.y * 16 * EV, nq = attn_min(TILE, a.T - t0), cols = attn_min(16 * EV, a.K - c0);
    const T *query = cu_at(q, b, t0, h, 0), *grad = cu_at(dout, b, t0, h, 0);
    float l[4], d[4], sum[4][EV] = {};
    KN_UNROLL for (int i = 0; i < 4; i++) {
        int r = ty + 16 * i;
        int64_t at = (int64_t)bh * a.T + t0 + r;
        l[i] = r < nq ? w.l2[at] : INFINITY, d[i] = r < nq ? w.delta[at] : 0.0f;
    }
    for (int j0 = attn_first(a, t0) / TILE * TILE; j0 < t0 + nq; j0 += TILE) {
        int nk = attn_min(TILE, a.S - j0);
        const T *key = cu_at(k, b, j0, g, 0), *value = cu_at(v, b, j0, g, 0);
        float s[4][4] = {}, dp[4][4] = {};
        attn_dots(s, mem, query, q.s[1], nq, key, k.s[1], nk, a.K, f.qk);
        attn_dots(dp, mem, grad, dout.s[1], nq, value, v.s[1], nk, a.E, f.vo);
        KN_UNROLL for (int i = 0; i < 4; i++)
            KN_UNROLL for (int j = 0; j < 4; j++) {
                int r = ty + 16 * i, c = tx + 16 * j;
                float p = attn_sees(a, t0 + r, j0 + c) ? kn_exp2(fmaf(s[i][j], a.c, -l[i])) : 0.0f;
                plane[r * PLANE_ROW + c] = p * (dp[i][j] - d[i]);
            }
        attn_gather<EV>(sum, plane, mem, key + c0, k.s[1], nk, cols, f.k);
    }
    KN_UNROLL for (int i = 0; i < 4; i++) {
        int r = ty + 16 * i;
        if (r >= nq) continue;
        KN_UNROLL for (int e = 0; e < EV; e++) {
            int c = attn_column<EV>(e);
            if (c < cols) cu_put(cu_at(dq, b, t0 + r, h, c0 + c), sum[i][e] * a.scale);
        }
    }
}

namespace {
struct grads {
    const struct kn_tensor *q, *k, *v, *out, *lse, *dout, *dq, *dk, *dv;
};
}

template <class T, int EV> static st_t run_plain_ev(struct kn_dev *dev, const struct grads *t, struct attn a, struct sums w)
{
    struct by4 f = {cuda_by4(t->q) && cuda_by4(t->k), cuda_by4(t->v) && cuda_by4(t->dout), cuda_by4(t->q), cuda_by4(t->k), cuda_by4(t->dout)};
    dim3 keys((unsigned)(cuda_blocks(a.S, TILE) * a.B * a.G), (unsigned)cuda_blocks(a.K > a.E ? a.K : a.E, 16 * EV));
    dim3 queries((unsigned)(cuda_blocks(a.T, TILE) * a.B * a.H), (unsigned)cuda_blocks(a.K, 16 * EV));
    CUDA_RUN(dev, (keys_plain<T, EV>), keys, PLAIN_THREADS, PLAIN_SHARED, t->q, t->k, t->v, t->dout, w, t->dk, t->dv, a, f);
    CUDA_RUN(dev, (queries_plain<T, EV>), queries, PLAIN_THREADS, PLAIN_SHARED, t->q, t->k, t->v, t->dout, w, t->dq, a, f);
    return ST_OK;
}

template <class T> static st_t run_plain(struct kn_dev *dev, const struct grads *t, struct attn a)
{
    int64_t rows = (int64_t)a.B * a.H * a.T;
    void *p;
    CUDA_TRY(cuda_scratch(dev, CUDA_SLOT_A, 2 * (size_t)rows * sizeof(float), &p));
    float *delta = (float *)p, *l2 = delta + rows;
    CUDA_TRY(run_row_sums<T>(dev, t->out, t->dout, t->lse, a, a.T, delta, l2));
    struct sums w = {delta, l2};
    int ev = attn_ev(a.K > a.E ? a.K : a.E);
    if constexpr (sizeof(T) == 4) {
        if (ev == 2) return run_plain_ev<T, 2>(dev, t, a, w);
        if (ev == 4) return run_plain_ev<T, 4>(dev, t, a, w);
        if (ev == 8) return run_plain_ev<T, 8>(dev, t, a, w);
    }
    return run_plain_ev<T, 16>(dev, t, a, w);
}

/* ---- on tensor cores ---- */

/* How a block's warps share the work. Keys stand in rows: a group of SPLIT warps has 16 MT keys, of which each warp weighs SUB queries of a tile of BQ and sums D / SPLIT
 * columns of dk and dv. For dq the warps stand WQ by WARPS / WQ. */
namespace {
template <int D_, int WARPS_, int SPLIT_, int MT_, int BQ_, int WQ_> struct way {
    static constexpr int D = D_, WARPS = WARPS_, SPLIT = SPLIT_, MT = MT_, BQ = BQ_, WQ = WQ_, THREADS = WARPS * 32, BK = WARPS / SPLIT * 16 * MT,
                         SUB = BQ / SPLIT < 32 ? BQ / SPLIT : 32, DW = D / SPLIT, QR = BQ / WQ, QC = D / (WARPS / WQ);
    static constexpr size_t SHARED = (size_t)(2 * BK * D + 4 * BQ * D + (SPLIT > 1 ? 2 : 1) * BK * BQ) * sizeof(bf16) + 4 * BQ * sizeof(float);
    static_assert(SUB % 16 == 0 && DW % 16 == 0 && QR % 16 == 0 && QC % 16 == 0, "fragments are 16 x 16");
};
}

using way96 = way<96, 8, 2, 2, 64, 4>;
using way128 = way<128, 8, 2, 2, 64, 2>;
using way192 = way<192, 8, 2, 1, 64, 2>;
using way256 = way<256, 8, 2, 1, 32, 2>;

/* Sums of dq: [splits, B, H, Tp, D] f32. A split has every splits-th block of keys and adds what they give, one after the other. */
namespace {
struct dq_sums {
    float *p;
    int splits, Tp;
};
}
/* Blocks of keys from `lo` to `hi` meet the tile of BQ queries from t0. */
template <int BK> KN_DEVICE int first_block(const struct attn &a, int t0)
{
    return attn_first(a, t0) / BK;
}
template <int BQ, int BK> KN_DEVICE int last_block(const struct attn &a, int t0)
{
    return (attn_min(a.T, t0 + BQ) - 1) / BK;
}

/* Two numbers side by side in a tile, at row r, column 8 chunk + col. */
template <int W> KN_DEVICE void put_pair(bf16 *tile, int r, int chunk, int col, float x, float y)
{
    *(uint32_t *)(tile + r * W + (chunk ^ attn_swizzle<W>(r)) * 8 + col) = kn_pack_bf16(x, y);
}

/* A block: key head g, every splits-th block of keys. For each it goes through the query heads and their tiles of queries, the next tile being copied meanwhile:
 *   P = exp(scale k q - l), dS = P (v dO - delta), keys in rows;   dv += P dO;   dk += dS q;   dq += dS^T k */
template <class Y, class O>
KN_KERNEL(Y::THREADS) backward_mma(cu_view<const bf16, 4> q, cu_view<const bf16, 4> k, cu_view<const bf16, 4> v, cu_view<const bf16, 4> dout, struct sums w,
                                   struct dq_sums dq, cu_view<O, 4> dk, cu_view<O, 4> dv, struct attn a, int cols, bool pairs)
{
    constexpr int D = Y::D, SPLIT = Y::SPLIT, MT = Y::MT, BQ = Y::BQ, BK = Y::BK, SUB = Y::SUB, DW = Y::DW, QR = Y::QR, QC = Y::QC, THREADS = Y::THREADS;
    KN_SHARED(bf16, sk);
    bf16 *sv = sk + BK * D, *sq = sv + BK * D, *so = sq + 2 * BQ * D, *sds = so + 2 * BQ * D, *sp = sds + (SPLIT > 1 ? BK * BQ : 0);
    float *stat = (float *)(sp + BK * BQ); /* two buffers of BQ l and BQ delta */
    int warp = __shfl_sync(KN_FULL, (int)threadIdx.x / 32, 0), lane = threadIdx.x % 32, row = lane / 4, col = lane % 4 * 2;
    int kr = warp / SPLIT * 16 * MT, part = warp % SPLIT, qr = warp / (Y::WARPS / Y::WQ) * QR, qc = warp % (Y::WARPS / Y::WQ) * QC;
    int b = blockIdx.z, g = blockIdx.y, R = a.H / a.G;

    for (int n = blockIdx.x; n * BK < a.S; n += gridDim.x) {
        int k0 = n * BK, m0 = k0 / BQ, qlast = a.W && a.W < a.T - k0 - BK + 2 ? k0 + BK - 1 + a.W - 1 : a.T - 1, m1 = qlast / BQ;
        float sumk[MT][DW / 8][4] = {}, sumv[MT][DW / 8][4] = {};
        auto stage = [&](int r, int m, int to) {
            int h = g * R + r, t0 = m * BQ;
            attn_copy<D, BQ, THREADS>(sq + to * BQ * D, cu_at(q, b, t0, h, 0), (int)q.s[1], a.T - t0, cols);
            attn_copy<D, BQ, THREADS>(so + to * BQ * D, cu_at(dout, b, t0, h, 0), (int)dout.s[1], a.T - t0, cols);
            int i = threadIdx.x % (BQ / 4) * 4;
            const float *from = (threadIdx.x < BQ / 4 ? w.l2 : w.delta) + ((int64_t)b * a.H + h) * dq.Tp + t0 + i;
            if (threadIdx.x < BQ / 2) kn_cp16(stat + to * 2 * BQ + (threadIdx.x < BQ / 4 ? 0 : BQ) + i, from, true);
            kn_cp_commit();
        };
        __syncthreads(); /* nobody reads the last block's keys any more */
        attn_copy<D, BK, THREADS>(sk, cu_at(k, b, k0, g, 0), (int)k.s[1], a.S - k0, cols);
        attn_copy<D, BK, THREADS>(sv, cu_at(v, b, k0, g, 0), (int)v.s[1], a.S - k0, cols);
        stage(0, m0, 0);
        for (int r = 0, m = m0, at = 0; r < R; at ^= 1) {
            int r1 = m < m1 ? r : r + 1, next = m < m1 ? m + 1 : m0, t0 = m * BQ;
            kn_cp_wait<0>();
            __syncthreads(); /* this tile is there, the last one read */
            if (r1 < R) stage(r1, next, at ^ 1);
            bf16 *tq = sq + at * BQ * D, *to = so + at * BQ * D;
            const float *l2 = stat + at * 2 * BQ, *delta = l2 + BQ;

            KN_UNROLL for (int u = 0; u < BQ / SPLIT / SUB; u++) {
                int q0 = SPLIT > 1 ? part * SUB : u * SUB, key0 = k0 + kr, pos0 = t0 + q0;
                float p[MT][SUB / 8][4] = {}, ds[MT][SUB / 8][4] = {};
                bool live = key0 <= pos0 + SUB - 1 && key0 + 16 * MT > attn_first(a, pos0);
                if (live) {
                    KN_UNROLL for (int d = 0; d < D / 16; d++) {
                        uint32_t x[MT][4];
                        KN_UNROLL for (int i = 0; i < MT; i++) attn_left<D>(x[i], sk, kr + 16 * i, 2 * d);
                        KN_UNROLL for (int j = 0; j < SUB / 16; j++) {
                            uint32_t y[4];
                            attn_right<D>(y, tq, q0 + 16 * j, 2 * d);
                            KN_UNROLL for (int i = 0; i < MT; i++) kn_mma_bf16(p[i][2 * j], x[i], y), kn_mma_bf16(p[i][2 * j + 1], x[i], y + 2);
                        }
                    }
                    KN_UNROLL for (int j = 0; j < SUB / 8; j++)
                        KN_UNROLL for (int c = 0; c < 2; c++) {
                            float l = l2[q0 + 8 * j + col + c];
                            KN_UNROLL for (int i = 0; i < MT; i++) p[i][j][c] = kn_exp2(fmaf(p[i][j][c], a.c, -l)), p[i][j][c + 2] = kn_exp2(fmaf(p[i][j][c + 2], a.c, -l));
                        }
                    if (key0 + 16 * MT - 1 > pos0 || (a.W && key0 <= pos0 + SUB - 1 - a.W)) {
                        KN_UNROLL for (int i = 0; i < MT; i++)
                            KN_UNROLL for (int j = 0; j < SUB / 8; j++)
                                KN_UNROLL for (int c = 0; c < 4; c++)
                                    if (!attn_sees(a, pos0 + 8 * j + col + c % 2, key0 + 16 * i + row + c / 2 * 8)) p[i][j][c] = 0;
                    }
                    KN_UNROLL for (int d = 0; d < D / 16; d++) {
                        uint32_t x[MT][4];
                        KN_UNROLL for (int i = 0; i < MT; i++) attn_left<D>(x[i], sv, kr + 16 * i, 2 * d);
                        KN_UNROLL for (int j = 0; j < SUB / 16; j++) {
                            uint32_t y[4];
                            attn_right<D>(y, to, q0 + 16 * j, 2 * d);
                            KN_UNROLL for (int i = 0; i < MT; i++) kn_mma_bf16(ds[i][2 * j], x[i], y), kn_mma_bf16(ds[i][2 * j + 1], x[i], y + 2);
                        }
                    }
                    KN_UNROLL for (int j = 0; j < SUB / 8; j++)
                        KN_UNROLL for (int c = 0; c < 2; c++) {
                            float f = delta[q0 + 8 * j + col + c];
                            KN_UNROLL for (int i = 0; i < MT; i++) ds[i][j][c] = p[i][j][c] * (ds[i][j][c] - f), ds[i][j][c + 2] = p[i][j][c + 2] * (ds[i][j][c + 2] - f);
                        }
                }
                KN_UNROLL for (int i = 0; i < MT; i++)
                    KN_UNROLL for (int j = 0; j < SUB / 8; j++)
                        KN_UNROLL for (int c = 0; c < 2; c++) {
                            int r2 = kr + 16 * i + row + 8 * c;
                            put_pair<BQ>(sds, r2, q0 / 8 + j, col, ds[i][j][2 * c], ds[i][j][2 * c + 1]);
                            if (SPLIT > 1) put_pair<BQ>(sp, r2, q0 / 8 + j, col, p[i][j][2 * c], p[i][j][2 * c + 1]);
                        }
                if (SPLIT == 1 && live) {
                    KN_UNROLL for (int j = 0; j < SUB / 16; j++) {
                        uint32_t x[MT][4], z[MT][4];
                        KN_UNROLL for (int i = 0; i < MT; i++) attn_sums_left(x[i], p[i][2 * j], p[i][2 * j + 1]), attn_sums_left(z[i], ds[i][2 * j], ds[i][2 * j + 1]);
                        KN_UNROLL for (int d = 0; d < DW / 16; d++) {
                            uint32_t y[4];
                            attn_right_t<D>(y, to, q0 + 16 * j, 2 * d);
                            KN_UNROLL for (int i = 0; i < MT; i++) kn_mma_bf16(sumv[i][2 * d], x[i], y), kn_mma_bf16(sumv[i][2 * d + 1], x[i], y + 2);
                            attn_right_t<D>(y, tq, q0 + 16 * j, 2 * d);
                            KN_UNROLL for (int i = 0; i < MT; i++) kn_mma_bf16(sumk[i][2 * d], z[i], y), kn_mma_bf16(sumk[i][2 * d + 1], z[i], y + 2);
                        }
                    }
                }
            }
            __syncthreads(); /* P and dS are there */

            float o[QR / 16][QC / 8][4] = {};
            float *sum = dq.p + ((((int64_t)blockIdx.x * gridDim.z + b) * a.H + g * R + r) * dq.Tp + t0 + qr + row) * D + qc + col;
            if (n - (int)gridDim.x >= first_block<BK>(a, t0)) {
                KN_UNROLL for (int i = 0; i < QR / 8; i++)
                    KN_UNROLL for (int d = 0; d < QC / 8; d++) {
                        uint2 x = kn_load8(sum + 8 * i * D + 8 * d);
                        o[i / 2][d][i % 2 * 2] = __uint_as_float(x.x), o[i / 2][d][i % 2 * 2 + 1] = __uint_as_float(x.y);
                    }
            }
            if (SPLIT > 1) {
                KN_UNROLL for (int j = 0; j < BQ / 16; j++) {
                    uint32_t x[MT][4], z[MT][4];
                    KN_UNROLL for (int i = 0; i < MT; i++) attn_left<BQ>(x[i], sp, kr + 16 * i, 2 * j), attn_left<BQ>(z[i], sds, kr + 16 * i, 2 * j);
                    KN_UNROLL for (int d = 0; d < DW / 16; d++) {
                        uint32_t y[4];
                        attn_right_t<D>(y, to, 16 * j, part * (DW / 8) + 2 * d);
                        KN_UNROLL for (int i = 0; i < MT; i++) kn_mma_bf16(sumv[i][2 * d], x[i], y), kn_mma_bf16(sumv[i][2 * d + 1], x[i], y + 2);
                        attn_right_t<D>(y, tq, 16 * j, part * (DW / 8) + 2 * d);
                        KN_UNROLL for (int i = 0; i < MT; i++) kn_mma_bf16(sumk[i][2 * d], z[i], y), kn_mma_bf16(sumk[i][2 * d + 1], z[i], y + 2);
                    }
                }
            }
            KN_UNROLL for (int j = 0; j < BK / 16; j++) {
                uint32_t x[QR / 16][4];
                KN_UNROLL for (int i = 0; i < QR / 16; i++) attn_left_t<BQ>(x[i], sds, 16 * j, qr / 8 + 2 * i);
                KN_UNROLL for (int d = 0; d < QC / 16; d++) {
                    uint32_t y[4];
                    attn_right_t<D>(y, sk, 16 * j, qc / 8 + 2 * d);
                    KN_UNROLL for (int i = 0; i < QR / 16; i++) kn_mma_bf16(o[i][2 * d], x[i], y), kn_mma_bf16(o[i][2 * d + 1], x[i], y + 2);
                }
            }
            KN_UNROLL for (int i = 0; i < QR / 8; i++)
                KN_UNROLL for (int d = 0; d < QC / 8; d++)
                    kn_write8(sum + 8 * i * D + 8 * d, make_uint2(__float_as_uint(o[i / 2][d][i % 2 * 2]), __float_as_uint(o[i / 2][d][i % 2 * 2 + 1])));
            r = r1, m = next;
        }
        KN_UNROLL for (int i = 0; i < 2 * MT; i++) {
            int j = k0 + kr + 8 * i + row;
            if (j >= a.S) continue;
            KN_UNROLL for (int d = 0; d < DW / 8; d++) {
                int c = part * DW + 8 * d + col;
                const float *x = sumk[i / 2][d] + i % 2 * 2, *y = sumv[i / 2][d] + i % 2 * 2;
                attn_put2(cu_at(dk, b, j, g, c), x[0] * a.scale, x[1] * a.scale, c, a.K, pairs);
                attn_put2(cu_at(dv, b, j, g, c), y[0], y[1], c, a.K, pairs);
            }
        }
    }
}

/* dq = scale * the splits' sums, in their order; a thread four columns. */
template <class Y, class O> KN_KERNEL(THREADS) dq_from_sums(struct dq_sums s, cu_view<O, 4> dq, struct attn a, bool by4)
{
    constexpr int D = Y::D;
    int fours = (a.K + 3) / 4;
    int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x, n = (int64_t)a.B * a.T * a.H * fours;
    if (i >= n) return;
    int64_t bth = i / fours, c = i % fours * 4, h = bth % a.H, t = bth / a.H % a.T, b = bth / a.H / a.T;
    int t0 = (int)t / Y::BQ * Y::BQ, lo = first_block<Y::BK>(a, t0), hi = last_block<Y::BQ, Y::BK>(a, t0);
    float4 sum = make_float4(0, 0, 0, 0);
    for (int x = 0; x < s.splits; x++) {
        if (lo + (x + s.splits - lo % s.splits) % s.splits > hi) continue; /* none of its blocks met this tile */
        float4 y = cu_get4(s.p + ((((int64_t)x * a.B + b) * a.H + h) * s.Tp + t) * D + c);
        sum.x += y.x, sum.y += y.y, sum.z += y.z, sum.w += y.w;
    }
    sum.x *= a.scale, sum.y *= a.scale, sum.z *= a.scale, sum.w *= a.scale;
    O *to = cu_at(dq, b, t, h, c);
    if (by4) {
        cu_write4(to, sum);
    } else {
        cu_put(to, sum.x);
        if (c + 1 < a.K) cu_put(to + 1, sum.y);
        if (c + 2 < a.K) cu_put(to + 2, sum.z);
        if (c + 3 < a.K) cu_put(to + 3, sum.w);
    }
}

/* In how many splits: blocks run in rounds on the card, a round takes as long as the longest split, and what is summed costs memory. */
template <class Y> static int splits_of(struct kn_dev *dev, const struct attn &a, int64_t bytes)
{
    constexpr int MOST = 32;
    const int64_t bytes_most = (int64_t)256 << 20;
    int blocks = (a.S + Y::BK - 1) / Y::BK, best = 1;
    int64_t at_once = cuda_of(dev)->sms * (Y::SHARED <= 84 << 10 ? 2 : 1), least = INT64_MAX;
    for (int s = 1; s <= blocks && s <= MOST && (s == 1 || s * bytes <= bytes_most); s++) {
        int64_t work = 0; /* of the first split, which has the longest blocks */
        for (int64_t n = 0; n < blocks; n += s) {
            int64_t k0 = n * Y::BK, last = a.W && k0 + Y::BK + a.W - 2 < a.T ? k0 + Y::BK + a.W - 2 : a.T - 1;
            work += last / Y::BQ - k0 / Y::BQ + 1;
        }
        int64_t cost = (work * 16 + s) * cuda_blocks((int64_t)a.B * a.G * s, at_once);
        if (cost < least) least = cost, best = s;
    }
    return best;
}

template <class Y> static st_t run_mma(struct kn_dev *dev, const struct grads *t, struct attn a)
{
    auto whole = [](size_t n) { return (n + 255) / 256 * 256; };
    const struct kn_tensor *of[4] = {t->q, t->k, t->v, t->dout};
    struct kn_tensor in[4];
    int64_t Tp = cuda_blocks(a.T, Y::BQ) * Y::BQ, rows = (int64_t)a.B * a.H * Tp;
    size_t packed = 0, stats = whole((size_t)rows * sizeof(float)), sums = (size_t)rows * Y::D * sizeof(float);
    for (int i = 0; i < 4; i++) packed += attn_packed(of[i]);
    struct dq_sums s = {NULL, splits_of<Y>(dev, a, (int64_t)sums), (int)Tp};
    void *mem;
    CUDA_TRY(cuda_scratch(dev, CUDA_SLOT_A, 2 * stats + (size_t)s.splits * sums + packed, &mem));
    float *delta = (float *)mem, *l2 = (float *)((char *)mem + stats);
    s.p = (float *)((char *)mem + 2 * stats);
    CUDA_TRY(attn_operands(dev, of, in, 4, (char *)mem + 2 * stats + (size_t)s.splits * sums));
    struct sums w = {delta, l2};
    dim3 grid((unsigned)s.splits, (unsigned)a.G, (unsigned)a.B);
    int cols = (a.K + 7) / 8 * 8;
    bool pairs = attn_pairs(t->dk) && attn_pairs(t->dv), by4 = cuda_by4(t->dq);
    int64_t fours = cuda_blocks((int64_t)a.B * a.T * a.H * ((a.K + 3) / 4), THREADS);
    if (t->q->dtype == KN_BF16) {
        CUDA_TRY(run_row_sums<bf16>(dev, t->out, t->dout, t->lse, a, (int)Tp, delta, l2));
        CUDA_RUN(dev, (backward_mma<Y, bf16>), grid, Y::THREADS, Y::SHARED, &in[0], &in[1], &in[2], &in[3], w, s, t->dk, t->dv, a, cols, pairs);
        CUDA_RUN(dev, (dq_from_sums<Y, bf16>), fours, THREADS, 0, s, t->dq, a, by4);
    } else {
        CUDA_TRY(run_row_sums<float>(dev, t->out, t->dout, t->lse, a, (int)Tp, delta, l2));
        CUDA_RUN(dev, (backward_mma<Y, float>), grid, Y::THREADS, Y::SHARED, &in[0], &in[1], &in[2], &in[3], w, s, t->dk, t->dv, a, cols, pairs);
        CUDA_RUN(dev, (dq_from_sums<Y, float>), fours, THREADS, 0, s, t->dq, a, by4);
    }
    return ST_OK;
}

extern "C" st_t cuda_attention_bwd(struct kn_dev *dev, const struct kn_tensor *q, const struct kn_tensor *k, const struct kn_tensor *v, const struct kn_tensor *out,
                                   const struct kn_tensor *lse, const struct kn_tensor *dout, int64_t window, double scale, const struct kn_tensor *dq,
                                   const struct kn_tensor *dk, const struct kn_tensor *dv)
{
    CUDA_TRY(kn_check_attention_bwd(q, k, v, out, lse, dout, window, scale, dq, dk, dv));
    if (!attn_has(dev, q, v, scale) || !attn_fits(q, k, v)) return ST_ENOTSUP;
    if (!kn_count(q)) return ST_OK;
    struct attn a = attn_of(q, k, v, window, scale);
    struct grads t = {q, k, v, out, lse, dout, dq, dk, dv};
    if (attn_rounds(dev, q, v, scale)) {
        size_t most = cuda_of(dev)->shared_most; /* 227 KiB, 163 or, of compute capability 8.6 and 8.9, 99 */
        if (a.K <= 32) return run_mma<way<32, 4, 1, 2, 64, 2>>(dev, &t, a);
        if (a.K <= 64) return run_mma<way<64, 4, 1, 2, 64, 2>>(dev, &t, a);
        if (a.K <= 96 && way96::SHARED <= most) return run_mma<way96>(dev, &t, a);
        if (a.K <= 128 && way128::SHARED <= most) return run_mma<way128>(dev, &t, a);
        if (a.K <= 128) return run_mma<way<128, 4, 2, 2, 32, 2>>(dev, &t, a);
        if (a.K <= 192 && way192::SHARED <= most) return run_mma<way192>(dev, &t, a);
        if (way256::SHARED <= most) return run_mma<way256>(dev, &t, a);
    }
    return q->dtype == KN_BF16 ? run_plain<bf16>(dev, &t, a) : run_plain<float>(dev, &t, a);
}
