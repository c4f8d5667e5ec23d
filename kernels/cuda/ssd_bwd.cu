/* Mamba-2's scan backward (names as in ssd.h). With S the state before a chunk and Q the gradient of the one after it,
 * w_ls = e^{a_l - a_s} for s <= l, M_ls = (c_l . b_s) w_ls:
 *   dx_s' = sum_{l>=s} M_ls dy_l + e^{a_63 - a_s} Q b_s       dx = t dx' + d dy
 *   R_ls  = (dy_l . x_s') w_ls, summed over the heads of a group:   dc_l = sum_s R_ls b_s + e^{a_l} S^T dy_l    db_s = sum_l R_ls c_l + e^{a_63 - a_s} Q^T x_s'
 *   Q <- e^{a_63} Q + sum_l e^{a_l} dy_l c_l^T
 * The gradient of the logarithm of row t's decay is all that flows from before t to t or behind it:
 *   g_t = sum_{s<t<=l} R_ls (c_l . b_s) + sum_{l>=t} e^{a_l} c_l . S^T dy_l + sum_{s<t} e^{a_63 - a_s} b_s . Q^T x_s' + e^{a_63} <Q, S>
 * and with it  dt = x . dx' + A g,  dA = t g. (What stays within a row is left out, not taken away again: where decays are strong the rest is small.)
 *
 * First S and Q of all chunks, one scan each way; then every chunk on its own: a block takes some heads of a group one after another, so that R, db and dc are sums
 * in the order of the heads, and the sums of several blocks are added in the order of the blocks.
 *
 * Bytes: x and dy read twice, dx written; S and Q of every chunk, [P,N] a head, written and read (bf16 under that precision); db and dc written once a block.
 * Operations of a head's chunk, L = 64:  4 L^2 P + 10 L P N,  and under bf16 2 L^2 N more for c.b. */
#include "kernels/cuda/ssd.h"

constexpr int FINISH_THREADS = 256;

/* What a block has of its head. row, into: what flows into a row from rows of the chunk, from the state; column, out: from a row on, to rows of the chunk, to
 * the state; own: x . dx'. Several threads' sums of a row lie behind each other. */
namespace {
struct rows {
    float a[64], step[64], slope[64], in[64], weight[64]; /* weight: what of a row reaches the chunk's end */
    float row[4][64], column[4][64], into[4][64], out[4][64], own[4][64], through[16], dd[16]; /* the last two: of each warp */
};

struct grad_args {
    struct ssd_dims d;
    int heads, blocks; /* a block's heads at most, blocks of a group */
    struct ssd_decays of;
    cu_view<float, 4> x, b, c, dy, dx, db, dc;
    cu_vec<float> a_log, skip;
    int x4, b4, c4, dy4;
    int dx2;               /* dx is written by twos */
    const float *scores;   /* f32 */
    const bf16 *pb, *pc;   /* bf16 */
    const void *keep;
    int64_t share; /* numbers from a block's share of db and dc to the next one's */
    void *ddt;
    int64_t ddt0, ddt1, ddt2;
    int ddt_half;
    float *sums; /* [3,H,B,chunks]: gradients of dt_bias, a_log, d */
};
}

/* A block's place: blocks of a group fastest. */
namespace {
struct spot {
    int block, g, chunk, b, t0, h0, heads, n;
    bool before, behind; /* there are chunks before, behind this one */
};
}
KN_DEVICE struct spot spot_of(const struct grad_args &f)
{
    struct spot k;
    int i = (int)blockIdx.x, of_group = (int)(f.d.H / f.d.G);
    k.block = i % f.blocks, i /= f.blocks;
    k.g = i % (int)f.d.G, i /= (int)f.d.G;
    k.chunk = i % (int)f.d.chunks, k.b = i / (int)f.d.chunks;
    k.t0 = k.chunk * SSD_CHUNK;
    k.n = ssd_least(f.d.T - k.t0, SSD_CHUNK);
    int from = k.block * f.heads;
    k.h0 = k.g * of_group + from;
    k.heads = of_group - from < f.heads ? of_group - from : f.heads;
    k.before = k.chunk > 0, k.behind = k.chunk + 1 < f.d.chunks;
    return k;
}

KN_DEVICE void begin_rows(struct rows *r, const struct grad_args &f, const struct spot &k, int64_t h)
{
    int64_t at = (k.b * f.d.H + h) * f.d.padded + k.t0, l = threadIdx.x;
    if (l >= 64) return;
    float a = f.of.a[at + l];
    r->a[l] = a, r->step[l] = f.of.step[at + l], r->slope[l] = f.of.slope[at + l];
    r->in[l] = kn_exp2(a), r->weight[l] = kn_exp2(f.of.a[at + 63] - a);
    for (int i = 0; i < 4; i++) r->column[i][l] = r->into[i][l] = r->out[i][l] = r->own[i][l] = 0.0f;
}

KN_DEVICE float add4(const float (&v)[4][64], int l)
{
    return v[0][l] + v[1][l] + v[2][l] + v[3][l];
}

/* By the first warp, once all of rows is there: the steps' gradients, and the chunk's share of the head's own numbers. */
KN_DEVICE void finish_rows(const struct rows *r, const struct grad_args &f, const struct spot &k, int64_t h, int warps)
{
    int lane = threadIdx.x;
    if (lane >= 32) return;
    float A = -expf(*cu_at(f.a_log, h)), flow[2], out[2], dA = 0, dbias = 0;
    float through = cu_warp_sum(lane < warps ? r->through[lane] : 0.0f) * r->in[63], dd = cu_warp_sum(lane < warps ? r->dd[lane] : 0.0f);
    KN_UNROLL for (int e = 0; e < 2; e++) {
        int l = 2 * lane + e;
        flow[e] = add4(r->row, l) - add4(r->column, l) + add4(r->into, l);
        out[e] = add4(r->out, l);
    }
    float from = flow[0] + flow[1], until = out[0] + out[1];
    KN_UNROLL for (int o = 1; o < 32; o <<= 1) {
        float behind = __shfl_down_sync(KN_FULL, from, o), before = __shfl_up_sync(KN_FULL, until, o);
        if (lane + o < 32) from += behind;
        if (lane >= o) until += before;
    }
    KN_UNROLL for (int e = 0; e < 2; e++) {
        int l = 2 * lane + e;
        float g = (e ? from - flow[0] : from) + (e ? until - out[1] : until - out[1] - out[0]) + through, raw = (add4(r->own, l) + A * g) * r->slope[l];
        dA += r->step[l] * g, dbias += raw;
        if (l >= k.n) continue;
        int64_t at = k.b * f.ddt0 + (k.t0 + l) * f.ddt1 + h * f.ddt2;
        if (f.ddt_half) cu_put((bf16 *)f.ddt + at, raw);
        else cu_put((float *)f.ddt + at, raw);
    }
    dA = cu_warp_sum(dA), dbias = cu_warp_sum(dbias);
    if (lane) return;
    int64_t each = f.d.B * f.d.chunks, at = h * each + k.b * f.d.chunks + k.chunk;
    f.sums[at] = dbias, f.sums[f.d.H * each + at] = dA * A, f.sums[2 * f.d.H * each + at] = dd;
}

/* ---- f32 ---- */

namespace {
struct grad_mem {
    struct rows r;
    float x[SSD_TILE], dy[SSD_TILE], b[SSD_TILE], s[SSD_TILE], m[SSD_TILE]; /* s: Q, then S; m: M at [s][l] */
};
}

/* to += scale[row] sum for rows x cols numbers (first: "="), and dot[row] += with[row][col] times that. */
KN_DEVICE void gather(float *to, int64_t step, bool first, int rows, int cols, const float (&sum)[8][4], const float *scale, const float *scale2, const float *with,
                      int64_t with_step, float *dot)
{
    KN_UNROLL for (int i = 0; i < 8; i++) {
        int r = ssd_row(i);
        float own = 0, s = scale2 ? scale[r] * scale2[r] : scale[r];
        KN_UNROLL for (int j = 0; j < 4; j++) {
            int c = ssd_col(j);
            if (r >= rows || c >= cols) continue;
            float v = s * sum[i][j], *at = to + r * step + c;
            own = fmaf(v, with[r * with_step + c], own);
            *at = first ? v : *at + v;
        }
        KN_UNROLL for (int o = 8; o; o >>= 1) own += __shfl_xor_sync(KN_FULL, own, o);
        if (threadIdx.x % 16 == 0) dot[r] += own;
    }
}

KN_KERNEL(SSD_THREADS) grad(struct grad_args f)
{
    KN_SHARED(struct grad_mem, m);
    const struct ssd_dims &d = f.d;
    struct spot k = spot_of(f);
    struct rows *r = &m->r;
    float all[8][4], sum[8][4]; /* R at [s][l]; a product */
    int tid = threadIdx.x, warp = tid / 32;
    const float *cb = f.scores + ((k.b * d.chunks + k.chunk) * d.G + k.g) * 64 * 64;
    const float *states = (const float *)f.keep, *grads = states + d.B * d.H * d.chunks * d.P * d.wide;
    float *db = cu_at(f.db, k.b, k.t0, k.g, 0) + k.block * f.share, *dc = cu_at(f.dc, k.b, k.t0, k.g, 0) + k.block * f.share;
    const float *c = cu_at(f.c, k.b, k.t0, k.g, 0);
    ssd_zero(all);
    for (int64_t i = 0; i < k.heads; i++) {
        int64_t h = k.h0 + i, state_at = ((k.b * d.H + h) * d.chunks + k.chunk) * d.P * d.wide;
        float through = 0, dd = 0, D = *cu_at(f.skip, h), columns[4] = {};
        __syncthreads();
        begin_rows(r, f, k, h);
        ssd_zero(sum);
        for (int64_t p0 = 0; p0 < d.P; p0 += 64) {
            int cols = ssd_least(d.P - p0, 64);
            if (p0) __syncthreads();
            ssd_load(m->x, cu_at(f.x, k.b, k.t0, h, p0), f.x.s[1], k.n, cols, f.x4, NULL);
            ssd_load(m->dy, cu_at(f.dy, k.b, k.t0, h, p0), f.dy.s[1], k.n, cols, f.dy4, NULL);
            __syncthreads();
            ssd_product<false, true>(sum, m->x, m->dy, cols);
        }
        KN_UNROLL for (int e = 0; e < 8; e++) {
            int s = ssd_row(e);
            float below = 0;
            KN_UNROLL for (int j = 0; j < 4; j++) {
                int l = ssd_col(j);
                float w = l >= s ? kn_exp2(r->a[l] - r->a[s]) : 0.0f, score = cb[s * 64 + l], g = sum[e][j] * w * r->step[s], flow = l > s ? g * score : 0.0f;
                m->m[s * SSD_ROW + l] = w * score;
                all[e][j] += g;
                below += flow, columns[j] += flow;
            }
            KN_UNROLL for (int o = 8; o; o >>= 1) below += __shfl_xor_sync(KN_FULL, below, o);
            if (tid % 16 == 0) r->column[0][s] = below;
        }
        KN_UNROLL for (int j = 0; j < 4; j++) {
            columns[j] += __shfl_xor_sync(KN_FULL, columns[j], 16);
            if (tid % 32 < 16) r->row[warp][ssd_col(j)] = columns[j];
        }
        for (int64_t p0 = 0; p0 < d.P; p0 += 64) {
            int pcols = ssd_least(d.P - p0, 64);
            float dx[8][4];
            ssd_zero(dx);
            if (d.ptiles > 1) {
                __syncthreads();
                ssd_load(m->x, cu_at(f.x, k.b, k.t0, h, p0), f.x.s[1], k.n, pcols, f.x4, NULL);
                ssd_load(m->dy, cu_at(f.dy, k.b, k.t0, h, p0), f.dy.s[1], k.n, pcols, f.dy4, NULL);
            }
            for (int64_t n0 = 0; n0 < d.N; n0 += 64) {
                int cols = ssd_least(d.N - n0, 64);
                float q[8][4];
                __syncthreads();
                if (d.ntiles > 1 || (i == 0 && p0 == 0)) ssd_load(m->b, cu_at(f.b, k.b, k.t0, k.g, n0), f.b.s[1], k.n, cols, f.b4, NULL);
                if (k.behind) ssd_load(m->s, grads + state_at + p0 * d.wide + n0, d.wide, pcols, cols, 1, NULL);
                __syncthreads();
                ssd_zero(sum);
                if (k.behind) {
                    ssd_product<false, true>(dx, m->b, m->s, cols);
                    ssd_product<false, false>(sum, m->x, m->s, pcols);
                    KN_UNROLL for (int e = 0; e < 8; e++)
                        KN_UNROLL for (int j = 0; j < 4; j++) q[e][j] = m->s[ssd_row(e) * SSD_ROW + ssd_col(j)];
                }
                gather(db + n0, f.db.s[1], i == 0 && p0 == 0, k.n, cols, sum, r->weight, r->step, m->b, SSD_ROW, r->out[0]);
                ssd_zero(sum);
                if (k.before) {
                    __syncthreads();
                    ssd_load(m->s, states + state_at + p0 * d.wide + n0, d.wide, pcols, cols, 1, NULL);
                    __syncthreads();
                    ssd_product<false, false>(sum, m->dy, m->s, pcols);
                    if (k.behind)
                        KN_UNROLL for (int e = 0; e < 8; e++)
                            KN_UNROLL for (int j = 0; j < 4; j++) through = fmaf(q[e][j], m->s[ssd_row(e) * SSD_ROW + ssd_col(j)], through);
                }
                gather(dc + n0, f.dc.s[1], i == 0 && p0 == 0, k.n, cols, sum, r->in, NULL, c + n0, f.c.s[1], r->into[0]);
            }
            __syncthreads();
            KN_UNROLL for (int e = 0; e < 8; e++)
                KN_UNROLL for (int j = 0; j < 4; j++) dx[e][j] *= r->weight[ssd_row(e)];
            ssd_product<false, false>(dx, m->m, m->dy, k.n);
            KN_UNROLL for (int e = 0; e < 8; e++) {
                int s = ssd_row(e);
                float own = 0;
                KN_UNROLL for (int j = 0; j < 4; j++) {
                    int p = ssd_col(j);
                    float x = m->x[s * SSD_ROW + p], dy = m->dy[s * SSD_ROW + p];
                    own = fmaf(x, dx[e][j], own), dd = fmaf(x, dy, dd);
                    if (s < k.n && p < pcols) *cu_at(f.dx, k.b, k.t0 + s, h, p0 + p) = fmaf(r->step[s], dx[e][j], D * dy);
                }
                KN_UNROLL for (int o = 8; o; o >>= 1) own += __shfl_xor_sync(KN_FULL, own, o);
                if (tid % 16 == 0) r->own[0][s] += own;
            }
        }
        through = cu_warp_sum(through), dd = cu_warp_sum(dd);
        if (tid % 32 == 0) r->through[warp] = through, r->dd[warp] = dd;
        __syncthreads();
        finish_rows(r, f, k, h, SSD_THREADS / 32);
    }
    __syncthreads();
    KN_UNROLL for (int e = 0; e < 8; e++)
        KN_UNROLL for (int j = 0; j < 4; j++) m->m[ssd_row(e) * SSD_ROW + ssd_col(j)] = all[e][j];
    for (int64_t n0 = 0; n0 < d.N; n0 += 64) {
        int cols = ssd_least(d.N - n0, 64);
        if (n0) __syncthreads();
        ssd_load(m->b, cu_at(f.b, k.b, k.t0, k.g, n0), f.b.s[1], k.n, cols, f.b4, NULL);
        ssd_load(m->s, c + n0, f.c.s[1], k.n, cols, f.c4, NULL);
        __syncthreads();
        for (int way = 0; way < 2; way++) {
            ssd_zero(sum);
            if (way) ssd_product<true, false>(sum, m->m, m->b, k.n);
            else ssd_product<false, false>(sum, m->m, m->s, k.n);
            float *to = way ? dc + n0 : db + n0;
            int64_t step = way ? f.dc.s[1] : f.db.s[1];
            KN_UNROLL for (int e = 0; e < 8; e++)
                KN_UNROLL for (int j = 0; j < 4; j++)
                    if (ssd_row(e) < k.n && ssd_col(j) < cols) to[ssd_row(e) * step + ssd_col(j)] += sum[e][j];
        }
    }
}

/* ---- bf16 ---- */

constexpr int X_LD = 72;
/* Warps that share 16 rows: each has its part of the columns. */
template <int WIDE> constexpr int parts_of = WIDE > 64 ? 4 : 2;
namespace {
template <int WIDE> struct half_mem {
    struct rows r[2]; /* of this head and the next */
    float stage[2][64 * 64];
    bf16 x[64 * X_LD], dy[64 * X_LD], m[64 * X_LD];                                          /* m: M at [s][l], then R */
    bf16 b[64 * (WIDE + 8)], c[64 * (WIDE + 8)], q[64 * (WIDE + 8)], s[64 * (WIDE + 8)];
};
}

KN_DEVICE float pair_dot(uint32_t a, uint32_t b, float sum)
{
    sum = fmaf(__uint_as_float(a << 16), __uint_as_float(b << 16), sum);
    return fmaf(__uint_as_float(a & 0xffff0000u), __uint_as_float(b & 0xffff0000u), sum);
}
KN_DEVICE void two_at(const bf16 *p, float &lo, float &hi)
{
    uint32_t pair = *(const uint32_t *)p;
    lo = __uint_as_float(pair << 16), hi = __uint_as_float(pair & 0xffff0000u);
}
/* Over the four lanes of a row of accumulators. */
KN_DEVICE float quad_sum(float v)
{
    v += __shfl_xor_sync(KN_FULL, v, 1);
    return v + __shfl_xor_sync(KN_FULL, v, 2);
}

/* What x (or dy) and a state give to db (dc), and of which the product with b (c) flows through the state:
 *   to += scale a s,  dot += (scale a s) . with      a: rows r0 of a tile [row][p]; s: [p][n]. */
template <int WIDE> KN_DEVICE void share_half(float (&to)[WIDE / parts_of<WIDE> / 8][4], float (&dot)[2], const bf16 *a, const bf16 *s, const float (&scale)[2],
                                              const bf16 *with, int r0, int n0)
{
    constexpr int LD = WIDE + 8;
    int lane = threadIdx.x % 32;
    uint32_t fa[4][4], fs[4];
    KN_UNROLL for (int i = 0; i < 4; i++) ssd_frag_a(fa[i], a, X_LD, r0, 16 * i);
    KN_UNROLL for (int t = 0; t < WIDE / parts_of<WIDE> / 8; t += 2) {
        float v[2][4] = {};
        KN_UNROLL for (int i = 0; i < 4; i++) {
            ssd_frag_b(fs, s, LD, n0 + 8 * t, 16 * i);
            ssd_mma2(v[0], v[1], fa[i], fs);
        }
        KN_UNROLL for (int u = 0; u < 2; u++)
            KN_UNROLL for (int e = 0; e < 2; e++) {
                float lo, hi, v0 = v[u][2 * e] * scale[e], v1 = v[u][2 * e + 1] * scale[e];
                two_at(with + (r0 + lane / 4 + 8 * e) * LD + n0 + 8 * (t + u) + 2 * (lane % 4), lo, hi);
                dot[e] = fmaf(v0, lo, fmaf(v1, hi, dot[e]));
                to[t + u][2 * e] += v0, to[t + u][2 * e + 1] += v1;
            }
    }
}

/* ONE: P has one tile. Else a head's tiles of P come twice, once for M and R and once for the rest. */
template <int WIDE, bool ONE> KN_KERNEL_MIN(128 * parts_of<WIDE>, WIDE == 64 && ONE ? 2 : 1) grad_half(struct grad_args f)
{
    constexpr int PARTS = parts_of<WIDE>, THREADS = 128 * PARTS, LD = WIDE + 8, OWN = WIDE / PARTS / 8, COLS = 8 / PARTS, EACH = WIDE / 8, STEP = THREADS / EACH;
    KN_SHARED(struct half_mem<WIDE>, m);
    const struct ssd_dims &d = f.d;
    struct spot k = spot_of(f);
    int tid = threadIdx.x, lane = tid % 32, warp = tid / 32 % 4, part = tid / 128, wide = (int)d.wide;
    int r0 = 16 * warp, r = r0 + lane / 4, c0 = 2 * (lane % 4), n0 = part * OWN * 8, y0 = part * COLS * 8;
    /* r and r + 8: the thread's rows of accumulators; c0 and c0 + 1: its columns of each eight; n0, y0: the warp's first of db and dc, of M and dx */
    const bf16 *states = (const bf16 *)f.keep, *grads = states + d.B * d.H * d.chunks * d.P * d.wide;
    int tiles = ONE ? 1 : (int)d.ptiles, units = ONE ? 1 : 2 * tiles, total = k.heads * units;
    auto p_of = [&](int v) { return ONE ? 0 : v % units % tiles * 64; };
    auto is_rest = [&](int v) { return ONE || v % units >= tiles; };
    auto fetch = [&](int v) {
        int h = k.h0 + v / units, p0 = p_of(v), cols = ssd_least(d.P - p0, 64);
        ssd_fetch<THREADS>(m->stage[0], cu_at(f.x, k.b, k.t0, h, p0), f.x.s[1], k.n, cols, f.x4);
        ssd_fetch<THREADS>(m->stage[1], cu_at(f.dy, k.b, k.t0, h, p0), f.dy.s[1], k.n, cols, f.dy4);
        kn_cp_commit();
    };
    auto fetch_states = [&](int v) {
        int p0 = p_of(v), rows = ssd_least(d.P - p0, 64);
        int64_t at = ((((int64_t)k.b * d.H + k.h0 + v / units) * d.chunks + k.chunk) * d.P + p0) * d.wide;
        if (k.behind) ssd_copy<THREADS, WIDE>(m->q, grads + at, rows, wide);
        if (k.before) ssd_copy<THREADS, WIDE>(m->s, states + at, rows, wide);
        kn_cp_commit();
    };
    int64_t packed = ((k.b * d.chunks + k.chunk) * d.G + k.g) * 64 * wide;
    ssd_copy<THREADS, WIDE>(m->b, f.pb + packed, 64, wide);
    ssd_copy<THREADS, WIDE>(m->c, f.pc + packed, 64, wide);
    fetch(0);
    if (is_rest(0)) fetch_states(0);
    kn_cp_wait<0>();
    __syncthreads();
    float all[COLS][4] = {}, dm[COLS][4], dx[COLS][4], db[OWN][4] = {}, dc[OWN][4] = {}, dd = 0, through = 0; /* all: R at [s][l] */
    uint32_t fa[4], fb[4];
    for (int v = 0; v < total; v++) {
        int h = k.h0 + v / units, p0 = p_of(v), u = v % units, cols = ssd_least(d.P - p0, 64);
        struct rows *now = &m->r[v / units % 2];
        if (u == 0) begin_rows(now, f, k, h);
        kn_cp_wait<0>();
        ssd_put<THREADS>(m->x, X_LD, m->stage[0]);
        ssd_put<THREADS>(m->dy, X_LD, m->stage[1]);
        __syncthreads();
        if (v + 1 < total) fetch(v + 1);
        if (u < tiles) {
            if (u == 0)
                KN_UNROLL for (int t = 0; t < COLS; t++)
                    KN_UNROLL for (int e = 0; e < 4; e++) dm[t][e] = 0.0f;
            KN_UNROLL for (int i = 0; i < 4; i++) {
                ssd_frag_a(fa, m->x, X_LD, r0, 16 * i);
                KN_UNROLL for (int t = 0; t < COLS; t += 2) {
                    if (y0 + 8 * t < r0) continue;
                    ssd_frag_b_t(fb, m->dy, X_LD, y0 + 8 * t, 16 * i);
                    ssd_mma2(dm[t], dm[t + 1], fa, fb);
                }
            }
        }
        if (u + 1 == tiles) {
            float score[COLS][4] = {}; /* the same for every head, but registers are dearer than the product */
            KN_UNROLL for (int i = 0; i < WIDE / 16; i++) {
                ssd_frag_a(fa, m->b, LD, r0, 16 * i);
                KN_UNROLL for (int t = 0; t < COLS; t += 2) {
                    if (y0 + 8 * t < r0) continue;
                    ssd_frag_b_t(fb, m->c, LD, y0 + 8 * t, 16 * i);
                    ssd_mma2(score[t], score[t + 1], fa, fb);
                }
            }
            float below[2] = {}, a[2] = {now->a[r], now->a[r + 8]}, step[2] = {now->step[r], now->step[r + 8]};
            KN_UNROLL for (int t = 0; t < COLS; t++) {
                float w[4], column[2] = {};
                KN_UNROLL for (int e = 0; e < 4; e++) {
                    int s = r + e / 2 * 8, l = y0 + 8 * t + c0 + e % 2;
                    float weight = l >= s ? kn_exp2(now->a[l] - a[e / 2]) : 0.0f, g = dm[t][e] * weight * step[e / 2], flow = l > s ? g * score[t][e] : 0.0f;
                    w[e] = weight * score[t][e];
                    all[t][e] += g;
                    below[e / 2] += flow, column[e % 2] += flow;
                }
                KN_UNROLL for (int e = 0; e < 2; e++) {
                    *(uint32_t *)(m->m + (r + 8 * e) * X_LD + y0 + 8 * t + c0) = kn_pack_bf16(w[2 * e], w[2 * e + 1]);
                    KN_UNROLL for (int o = 4; o < 32; o <<= 1) column[e] += __shfl_xor_sync(KN_FULL, column[e], o);
                    if (lane < 4) now->row[warp][y0 + 8 * t + c0 + e] = column[e];
                }
            }
            KN_UNROLL for (int e = 0; e < 2; e++) {
                below[e] = quad_sum(below[e]);
                if (lane % 4 == 0) now->column[part][r + 8 * e] = below[e];
            }
        }
        bool rest = is_rest(v);
        if (rest) {
            if (k.behind) {
                float dot[2] = {}, scale[2] = {now->weight[r] * now->step[r], now->weight[r + 8] * now->step[r + 8]};
                share_half<WIDE>(db, dot, m->x, m->q, scale, m->b, r0, n0);
                KN_UNROLL for (int e = 0; e < 2; e++) {
                    dot[e] = quad_sum(dot[e]);
                    if (lane % 4 == 0) now->out[part][r + 8 * e] += dot[e];
                }
            }
            if (k.before) {
                float dot[2] = {}, scale[2] = {now->in[r], now->in[r + 8]};
                share_half<WIDE>(dc, dot, m->dy, m->s, scale, m->c, r0, n0);
                KN_UNROLL for (int e = 0; e < 2; e++) {
                    dot[e] = quad_sum(dot[e]);
                    if (lane % 4 == 0) now->into[part][r + 8 * e] += dot[e];
                }
            }
            if (k.before && k.behind)
                KN_UNROLL for (int i = 0; i < 64 / STEP; i++) {
                    int at = tid / EACH * LD + tid % EACH * 8 + i * STEP * LD; /* as ssd_copy's */
                    uint4 s = kn_load16(m->s + at), q = kn_load16(m->q + at);
                    through = pair_dot(s.x, q.x, pair_dot(s.y, q.y, pair_dot(s.z, q.z, pair_dot(s.w, q.w, through))));
                }
            KN_UNROLL for (int t = 0; t < COLS; t++)
                KN_UNROLL for (int e = 0; e < 4; e++) dx[t][e] = 0.0f;
            if (k.behind) {
                KN_UNROLL for (int i = 0; i < WIDE / 16; i++) {
                    ssd_frag_a(fa, m->b, LD, r0, 16 * i);
                    KN_UNROLL for (int t = 0; t < COLS; t += 2) {
                        ssd_frag_b_t(fb, m->q, LD, y0 + 8 * t, 16 * i);
                        ssd_mma2(dx[t], dx[t + 1], fa, fb);
                    }
                }
                KN_UNROLL for (int t = 0; t < COLS; t++)
                    KN_UNROLL for (int e = 0; e < 4; e++) dx[t][e] *= now->weight[r + e / 2 * 8];
            }
        }
        __syncthreads();
        if (v + 1 < total && is_rest(v + 1)) fetch_states(v + 1);
        if (rest) {
            KN_UNROLL for (int i = 0; i < 4; i++) {
                if (i < warp) continue;
                ssd_frag_a(fa, m->m, X_LD, r0, 16 * i);
                KN_UNROLL for (int t = 0; t < COLS; t += 2) {
                    ssd_frag_b(fb, m->dy, X_LD, y0 + 8 * t, 16 * i);
                    ssd_mma2(dx[t], dx[t + 1], fa, fb);
                }
            }
            float D = *cu_at(f.skip, h), *dx_to = cu_at(f.dx, k.b, k.t0 + r, h, p0);
            KN_UNROLL for (int e = 0; e < 2; e++) {
                float own = 0, step = now->step[r + 8 * e], *to = dx_to + e * 8 * f.dx.s[1];
                KN_UNROLL for (int t = 0; t < COLS; t++) {
                    int p = y0 + 8 * t + c0;
                    float x0, x1, dy0, dy1, g0 = dx[t][2 * e], g1 = dx[t][2 * e + 1];
                    two_at(m->x + (r + 8 * e) * X_LD + p, x0, x1), two_at(m->dy + (r + 8 * e) * X_LD + p, dy0, dy1);
                    own = fmaf(x0, g0, fmaf(x1, g1, own)), dd = fmaf(x0, dy0, fmaf(x1, dy1, dd));
                    if (r + 8 * e >= k.n || p >= cols) continue;
                    float v0 = fmaf(step, g0, D * dy0), v1 = fmaf(step, g1, D * dy1);
                    if (f.dx2) {
                        kn_write8(to + p, make_uint2(__float_as_uint(v0), __float_as_uint(v1)));
                    } else {
                        to[p] = v0;
                        if (p + 1 < cols) to[p + 1] = v1;
                    }
                }
                own = quad_sum(own);
                if (lane % 4 == 0) now->own[part][r + 8 * e] += own;
            }
        }
        if (u + 1 == units) {
            through = cu_warp_sum(through), dd = cu_warp_sum(dd);
            if (lane == 0) now->through[tid / 32] = through, now->dd[tid / 32] = dd;
            through = dd = 0.0f;
        }
        __syncthreads();
        if (u + 1 == units) finish_rows(now, f, k, h, THREADS / 32);
    }
    KN_UNROLL for (int t = 0; t < COLS; t++)
        KN_UNROLL for (int e = 0; e < 2; e++) *(uint32_t *)(m->m + (r + 8 * e) * X_LD + y0 + 8 * t + c0) = kn_pack_bf16(all[t][2 * e], all[t][2 * e + 1]);
    __syncthreads();
    KN_UNROLL for (int i = 0; i < 4; i++) {
        uint32_t turned[4];
        ssd_frag_a(fa, m->m, X_LD, r0, 16 * i);
        ssd_frag_a_t(turned, m->m, X_LD, r0, 16 * i);
        KN_UNROLL for (int t = 0; t < OWN; t += 2) {
            ssd_frag_b(fb, m->c, LD, n0 + 8 * t, 16 * i);
            ssd_mma2(db[t], db[t + 1], fa, fb);
            ssd_frag_b(fb, m->b, LD, n0 + 8 * t, 16 * i);
            ssd_mma2(dc[t], dc[t + 1], turned, fb);
        }
    }
    float *db_to = cu_at(f.db, k.b, k.t0, k.g, 0) + k.block * f.share, *dc_to = cu_at(f.dc, k.b, k.t0, k.g, 0) + k.block * f.share;
    KN_UNROLL for (int e = 0; e < 4; e++) {
        int l = r + e / 2 * 8;
        if (l >= k.n) continue;
        KN_UNROLL for (int t = 0; t < OWN; t++) {
            int n = n0 + 8 * t + c0 + e % 2;
            if (n < d.N) db_to[l * f.db.s[1] + n] = db[t][e], dc_to[l * f.dc.s[1] + n] = dc[t][e];
        }
    }
}

/* ---- sums ---- */

/* db and dc: the blocks' shares in their order, EACH = 1 or 4 numbers a thread. */
template <int EACH> KN_KERNEL(FINISH_THREADS) add_shares(struct ssd_dims d, const float *part, int64_t blocks, cu_view<float, 4> db, cu_view<float, 4> dc)
{
    int64_t one = d.B * d.T * d.G * d.N, i = ((int64_t)blockIdx.x * FINISH_THREADS + threadIdx.x) * EACH;
    if (i >= 2 * one) return;
    float4 sum = make_float4(0, 0, 0, 0);
    for (int64_t k = 0; k < blocks; k++) {
        const float *at = part + k * 2 * one + i;
        float4 v = EACH == 4 ? cu_get4(at) : make_float4(*at, 0, 0, 0);
        sum = make_float4(sum.x + v.x, sum.y + v.y, sum.z + v.z, sum.w + v.w);
    }
    int64_t e = i < one ? i : i - one, n = e % d.N, row = e / d.N, g = row % d.G, t = row / d.G % d.T, b = row / d.G / d.T;
    float *to = i < one ? cu_at(db, b, t, g, n) : cu_at(dc, b, t, g, n);
    if (EACH == 4) cu_put4(to, sum);
    else *to = sum.x;
}

/* A warp a number: sums over sequences and chunks. */
KN_KERNEL(FINISH_THREADS) add_heads(struct ssd_dims d, const float *sums, cu_vec<float> dbias, cu_vec<float> da_log, cu_vec<float> dskip)
{
    int64_t i = (int64_t)blockIdx.x * (FINISH_THREADS / 32) + threadIdx.x / 32, each = d.B * d.chunks, h = i % d.H, lane = threadIdx.x % 32;
    if (i >= 3 * d.H) return;
    float sum = 0;
    for (int64_t k = lane; k < each; k += 32) sum += sums[i * each + k];
    sum = cu_warp_sum(sum);
    if (lane) return;
    *(i < d.H ? cu_at(dbias, h) : i < 2 * d.H ? cu_at(da_log, h) : cu_at(dskip, h)) += sum;
}

template <int WIDE> static st_t run_half(struct kn_dev *dev, const struct grad_args *f, int64_t blocks)
{
    if (f->d.ptiles == 1) CUDA_RUN(dev, (grad_half<WIDE, true>), blocks, 128 * parts_of<WIDE>, sizeof(struct half_mem<WIDE>), *f);
    else CUDA_RUN(dev, (grad_half<WIDE, false>), blocks, 128 * parts_of<WIDE>, sizeof(struct half_mem<WIDE>), *f);
    return ST_OK;
}

extern "C" st_t cuda_ssd_bwd(struct kn_dev *dev, const struct kn_tensor *x, const struct kn_tensor *dt, const struct kn_tensor *dt_bias, const struct kn_tensor *a_log,
                             const struct kn_tensor *bm, const struct kn_tensor *cm, const struct kn_tensor *d, const struct kn_tensor *dy, const struct kn_tensor *dx,
                             const struct kn_tensor *ddt, const struct kn_tensor *ddt_bias, const struct kn_tensor *da_log, const struct kn_tensor *dbm,
                             const struct kn_tensor *dcm, const struct kn_tensor *dd)
{
    CUDA_TRY(kn_check_ssd_bwd(x, dt, dt_bias, a_log, bm, cm, d, dy, dx, ddt, ddt_bias, da_log, dbm, dcm, dd));
    if (!cuda_is_f32(x)) return ST_ENOTSUP;
    if (kn_count(x) == 0) return ST_OK;
    int64_t N = bm->d[3];
    size_t need = N <= 64 ? sizeof(struct half_mem<64>) : N <= 128 ? sizeof(struct half_mem<128>) : sizeof(struct half_mem<256>);
    bool half = dev->precision == KN_BF16 && N <= 256 && need <= cuda_of(dev)->shared_most; /* else in f32 */
    struct ssd_dims w = ssd_dims_of(dev, x, bm, 2, half);
    /* As few blocks a group as fill the card: each writes db and dc once. */
    int64_t of_group = w.H / w.G, places = w.B * w.chunks * w.G, blocks = (3 * cuda_of(dev)->sms + places - 1) / places;
    int64_t heads = blocks < of_group ? (of_group + blocks - 1) / blocks : 1, one = w.B * w.T * w.G * w.N;
    blocks = (of_group + heads - 1) / heads;
    size_t keep_bytes = (size_t)(2 * w.B * w.H * w.chunks * w.P * w.wide) * (w.half ? sizeof(bf16) : sizeof(float));
    size_t share_bytes = blocks > 1 ? (size_t)(2 * blocks * one) * sizeof(float) : 0;
    struct ssd_made m;
    void *p = NULL, *keep = NULL, *share = NULL, *sums = NULL;
    for (int pass = 0; pass < 2; pass++) { /* to count, then to cut */
        struct ssd_carve c = {(char *)p, 0};
        ssd_carve_made(&c, dev, &w, 2, &m);
        keep = ssd_take(&c, keep_bytes), share = ssd_take(&c, share_bytes), sums = ssd_take(&c, (size_t)(3 * w.H * w.B * w.chunks) * sizeof(float));
        if (!pass) CUDA_TRY(cuda_scratch(dev, CUDA_SLOT_A, c.used, &p));
    }
    CUDA_TRY(ssd_make(dev, &w, &m, dt, dt_bias, a_log, bm, cm));
    CUDA_TRY(ssd_states(dev, &w, &m, x, dy, bm, cm, keep));
    struct kn_tensor db = *dbm, dc = *dcm;
    if (blocks > 1) db = kn_t4(share, KN_F32, w.B, w.T, w.G, w.N), dc = kn_t4((float *)share + one, KN_F32, w.B, w.T, w.G, w.N);
    int x4 = cuda_by4(x), b4 = cuda_by4(bm), c4 = cuda_by4(cm), dy4 = cuda_by4(dy);
    struct grad_args f = {w, (int)heads, (int)blocks, m.of, x, bm, cm, dy, dx, &db, &dc, a_log, d, x4, b4, c4, dy4, ssd_by2(dx), m.scores, m.b, m.c, keep, 2 * one,
                          ddt->p, ddt->s[0], ddt->s[1], ddt->s[2], ddt->dtype == KN_BF16, (float *)sums};
    if (!w.half) CUDA_RUN(dev, grad, places * blocks, SSD_THREADS, sizeof(struct grad_mem), f);
    else if (w.wide <= 64) CUDA_TRY((run_half<64>(dev, &f, places * blocks)));
    else if (w.wide <= 128) CUDA_TRY((run_half<128>(dev, &f, places * blocks)));
    else CUDA_TRY((run_half<256>(dev, &f, places * blocks)));
    if (blocks > 1 && cuda_by4(dbm) && cuda_by4(dcm))
        CUDA_RUN(dev, add_shares<4>, cuda_blocks(2 * one, 4 * FINISH_THREADS), FINISH_THREADS, 0, w, (const float *)share, blocks, dbm, dcm);
    else if (blocks > 1) CUDA_RUN(dev, add_shares<1>, cuda_blocks(2 * one, FINISH_THREADS), FINISH_THREADS, 0, w, (const float *)share, blocks, dbm, dcm);
    CUDA_RUN(dev, add_heads, cuda_blocks(3 * w.H, FINISH_THREADS / 32), FINISH_THREADS, 0, w, (const float *)sums, ddt_bias, da_log, dd);
    return ST_OK;
}
