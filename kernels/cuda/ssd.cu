/* Mamba-2's scan forward, and the states that its backward asks for (ssd.h).
 *
 * Bytes: x read and y written, x twice where times are cut into segments; b and c come from cache for every head, under bf16 as rounded copies. Operations of a
 * head's chunk, L = 64:  2 L^2 P + 4 L P N;  c.b is made once for a group (f32), or by every head (bf16: 2 L^2 N more, on tensor cores, the products of L^2 up to the
 * diagonal alone). f32: tiles in shared memory, 8 x 4 sums a thread. bf16: c, M and the state as fragments, the state and all sums in f32 registers; what
 * the next chunk needs is copied while this one is worked on. A few times after a state: it is read and written once, by rows. */
#include "kernels/cuda/ssd.h"

constexpr int HALF_WIDE = 256;                    /* states of more columns go in f32 under either precision */
constexpr int STEPS_MOST = 8, STEPS_WIDE = 256; /* fewer times than these, of states no wider, go one by one */

/* ---- what comes before the scan ---- */

KN_DEVICE float softplus(float x, float *slope)
{
    float e = expf(-fabsf(x));
    *slope = (x > 0 ? 1.0f : e) / (1.0f + e);
    return fmaxf(x, 0.0f) + log1pf(e);
}

/* A block has a chunk of 32 heads: it reads them side by side and writes each along time. */
constexpr int DECAY_THREADS = 256, DECAY_HEADS = 32;
KN_KERNEL(DECAY_THREADS) decays(struct ssd_dims d, cu_view<float, 3> dt, cu_vec<float> bias, cu_vec<float> a_log, struct ssd_decays to)
{
    KN_SHARED(float, raw); /* [32][65] */
    int64_t across = (d.H + DECAY_HEADS - 1) / DECAY_HEADS, h0 = blockIdx.x % across * DECAY_HEADS;
    int64_t chunk = blockIdx.x / across % d.chunks, b = blockIdx.x / across / d.chunks, t0 = chunk * SSD_CHUNK;
    for (int i = threadIdx.x; i < SSD_CHUNK * DECAY_HEADS; i += DECAY_THREADS) {
        int l = i / DECAY_HEADS, h = i % DECAY_HEADS;
        if (t0 + l < d.T && h0 + h < d.H) raw[h * 65 + l] = *cu_at(dt, b, t0 + l, h0 + h) + *cu_at(bias, h0 + h);
    }
    __syncthreads();
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    for (int i = 0; i < DECAY_HEADS / (DECAY_THREADS / 32); i++) {
        int h = warp + i * (DECAY_THREADS / 32);
        if (h0 + h >= d.H) break;
        double A = -exp((double)*cu_at(a_log, h0 + h)) * SSD_LOG2E, sum = 0;
        float step[2], slope[2];
        double at[2];
        KN_UNROLL for (int k = 0; k < 2; k++) {
            int l = 2 * lane + k;
            step[k] = slope[k] = 0.0f;
            if (t0 + l < d.T) step[k] = softplus(raw[h * 65 + l], &slope[k]);
            at[k] = sum += A * (double)step[k];
        }
        double all = sum;
        KN_UNROLL for (int o = 1; o < 32; o <<= 1) {
            double below = __shfl_up_sync(KN_FULL, all, o);
            if (lane >= o) all += below;
        }
        int64_t to_at = (b * d.H + h0 + h) * d.padded + t0 + 2 * lane;
        KN_UNROLL for (int k = 0; k < 2; k++) {
            to.step[to_at + k] = step[k];
            to.slope[to_at + k] = slope[k];
            to.a[to_at + k] = (float)(all - sum + at[k]);
        }
    }
}

/* c_l . b_s of a chunk of a group, at [s][l]. */
KN_KERNEL(SSD_THREADS) scores(struct ssd_dims d, cu_view<float, 4> bm, cu_view<float, 4> cm, int b4, int c4, float *to)
{
    KN_SHARED(float, tb);
    float *tc = tb + SSD_TILE, sum[8][4];
    int64_t g = blockIdx.x % d.G, chunk = blockIdx.x / d.G % d.chunks, b = blockIdx.x / d.G / d.chunks, t0 = chunk * SSD_CHUNK;
    int n = ssd_least(d.T - t0, SSD_CHUNK);
    ssd_zero(sum);
    for (int64_t n0 = 0; n0 < d.N; n0 += 64) {
        int cols = ssd_least(d.N - n0, 64);
        __syncthreads();
        ssd_load(tb, cu_at(bm, b, t0, g, n0), bm.s[1], n, cols, b4, NULL);
        ssd_load(tc, cu_at(cm, b, t0, g, n0), cm.s[1], n, cols, c4, NULL);
        __syncthreads();
        ssd_product<false, true>(sum, tb, tc, cols);
    }
    float *at = to + (int64_t)blockIdx.x * 64 * 64;
    KN_UNROLL for (int i = 0; i < 8; i++)
        KN_UNROLL for (int j = 0; j < 4; j++) at[ssd_row(i) * 64 + ssd_col(j)] = sum[i][j];
}

/* ---- the scan, f32 ---- */

enum kind { ENDS, STATES, OUTPUT }; /* of each segment but the last its own end; the states at all chunks; y */

/* One direction of a scan: states gather x b^T. */
namespace {
struct way {
    cu_view<float, 4> x, b;
    int x4, b4;
};
}

/* A block's place: tiles of P fastest, then heads, which share b and c. */
namespace {
struct place {
    int64_t dir, b, h, g, p0, seg, head, from, to; /* head: of all directions and sequences; chunks from..to in the direction's order */
};
}
KN_DEVICE struct place place_of(const struct ssd_dims &d, int64_t segs)
{
    struct place k;
    int64_t i = blockIdx.x;
    k.p0 = i % d.ptiles * 64, i /= d.ptiles;
    k.h = i % d.H, i /= d.H;
    k.seg = i % segs, i /= segs;
    k.b = i % d.B, k.dir = i / d.B;
    k.g = k.h / (d.H / d.G);
    k.head = (k.dir * d.B + k.b) * d.H + k.h;
    k.from = k.seg * d.len;
    k.to = k.from + d.len < d.chunks ? k.from + d.len : d.chunks;
    return k;
}

/* The block's own of its direction, from the first time on. */
namespace {
struct path {
    const float *x, *b;
    int64_t xs, bs;
    int x4, b4;
};
}
template <int KIND> KN_DEVICE struct path path_of(const struct place &k, const struct way &up, const struct way &down)
{
    bool back = KIND != OUTPUT && k.dir;
    struct path w;
    w.x = back ? cu_at(down.x, k.b, 0, k.h, k.p0) : cu_at(up.x, k.b, 0, k.h, k.p0), w.xs = back ? down.x.s[1] : up.x.s[1], w.x4 = back ? down.x4 : up.x4;
    w.b = back ? cu_at(down.b, k.b, 0, k.g, 0) : cu_at(up.b, k.b, 0, k.g, 0), w.bs = back ? down.b.s[1] : up.b.s[1], w.b4 = back ? down.b4 : up.b4;
    return w;
}

/* Where the state of segment seg of a head lies in scratch. */
KN_DEVICE float *segment_at(float *p, const struct ssd_dims &d, int64_t head, int64_t seg)
{
    return p + (head * d.segs + seg) * d.P * d.wide;
}

namespace {
struct scan_mem {
    float a[64], in[64], weight[64], step[64]; /* in: what of the state before reaches a row; weight: what a row gives to the state behind */
    float x[SSD_TILE], b[SSD_TILE], c[SSD_TILE], state[1]; /* c: then the weights of x in y, [s][l]; state: one tile or all */
};
}

template <int KIND>
KN_KERNEL(SSD_THREADS) scan(struct ssd_dims d, struct ssd_decays of, struct way up, struct way down, cu_view<float, 4> cm, int c4, const float *scores, cu_vec<float> skip,
                            cu_view<float, 4> state, int state4, float *ends, float *work, float *keep, cu_view<float, 4> y, int resident)
{
    KN_SHARED(struct scan_mem, m);
    struct place k = place_of(d, KIND == ENDS ? d.segs - 1 : d.segs);
    struct path w = path_of<KIND>(k, up, down);
    int rows = ssd_least(d.P - k.p0, 64), tid = threadIdx.x;
    float *slot = d.segs > 1 ? segment_at(ends, d, k.head, k.seg) + k.p0 * d.wide : NULL;
    float *spill = resident ? NULL : segment_at(work, d, k.head, k.seg) + k.p0 * d.wide;
    /* What is there before the first chunk, a tile of N. */
    auto begin = [&](float *tile, int64_t n0) {
        int cols = ssd_least(d.N - n0, 64);
        if (KIND != ENDS && slot) ssd_load(tile, slot + n0, d.wide, rows, cols, 1, NULL);
        else if (KIND == OUTPUT && state.p) ssd_load(tile, cu_at(state, k.b, k.h, k.p0, n0), state.s[2], rows, cols, state4, NULL);
        else ssd_load(tile, NULL, 0, 0, 0, 0, NULL);
    };
    for (int64_t nt = 0; resident && nt < d.ntiles; nt++) begin(m->state + nt * SSD_TILE, nt * 64);
    for (int64_t j = k.from; j < k.to; j++) {
        int64_t chunk = k.dir ? d.chunks - 1 - j : j, t0 = chunk * SSD_CHUNK, at = (k.b * d.H + k.h) * d.padded + t0;
        int n = ssd_least(d.T - t0, SSD_CHUNK);
        bool last = KIND == STATES && j + 1 == d.chunks; /* nobody asks for what comes behind */
        float y_sum[8][4], total = kn_exp2(of.a[at + 63]);
        __syncthreads();
        if (tid < 64) {
            float a = of.a[at + tid], step = of.step[at + tid], in = kn_exp2(a);
            m->a[tid] = a, m->in[tid] = in, m->step[tid] = step;
            m->weight[tid] = KIND != OUTPUT && k.dir ? in : kn_exp2(of.a[at + 63] - a) * step;
        }
        if (!last) ssd_load(m->x, w.x + t0 * w.xs, w.xs, n, rows, w.x4, NULL);
        if (KIND == OUTPUT) ssd_zero(y_sum);
        __syncthreads();
        for (int64_t nt = 0; nt < d.ntiles; nt++) {
            int64_t n0 = nt * 64;
            int cols = ssd_least(d.N - n0, 64);
            float *s = m->state + (resident ? nt : 0) * SSD_TILE, sum[8][4];
            if (!resident) {
                if (nt) __syncthreads();
                if (j == k.from) begin(s, n0);
                else ssd_load(s, spill + n0, d.wide, rows, cols, 1, NULL);
            }
            if (!last) ssd_load(m->b, w.b + t0 * w.bs + n0, w.bs, n, cols, w.b4, m->weight);
            if (KIND == OUTPUT) ssd_load(m->c, cu_at(cm, k.b, t0, k.g, n0), cm.s[1], n, cols, c4, NULL);
            __syncthreads();
            if (KIND == STATES) ssd_store(keep + (k.head * d.chunks + chunk) * d.P * d.wide + k.p0 * d.wide + n0, d.wide, s, rows, cols);
            if (last) continue;
            if (KIND == OUTPUT) ssd_product<false, true>(y_sum, m->c, s, cols);
            ssd_zero(sum);
            ssd_product<true, false>(sum, m->x, m->b, n);
            __syncthreads();
            KN_UNROLL for (int i = 0; i < 8; i++)
                KN_UNROLL for (int c = 0; c < 4; c++) {
                    float *to = s + ssd_row(i) * SSD_ROW + ssd_col(c);
                    *to = fmaf(total, *to, sum[i][c]);
                }
            if (!resident) {
                __syncthreads();
                ssd_store(spill + n0, d.wide, s, rows, cols);
            }
        }
        if constexpr (KIND != OUTPUT) continue;
        /* Its last reader has passed the barrier behind the products. */
        const float *cb = scores + ((k.b * d.chunks + chunk) * d.G + k.g) * 64 * 64;
        KN_UNROLL for (int i = 0; i < 8; i++)
            KN_UNROLL for (int c = 0; c < 4; c++) {
                int s = ssd_row(i), l = ssd_col(c);
                m->c[s * SSD_ROW + l] = l >= s ? cb[s * 64 + l] * kn_exp2(m->a[l] - m->a[s]) * m->step[s] : 0.0f;
                y_sum[i][c] *= m->in[s];
            }
        __syncthreads();
        ssd_product<true, false>(y_sum, m->c, m->x, ssd_least(n, ssd_row(7) / 8 * 8 + 8)); /* up to the warp's last row */
        float D = *cu_at(skip, k.h);
        KN_UNROLL for (int i = 0; i < 8; i++)
            KN_UNROLL for (int c = 0; c < 4; c++) {
                int l = ssd_row(i), p = ssd_col(c);
                if (l < n && p < rows) *cu_at(y, k.b, t0 + l, k.h, k.p0 + p) = fmaf(D, m->x[l * SSD_ROW + p], y_sum[i][c]);
            }
    }
    if constexpr (KIND != STATES) {
        if (KIND == OUTPUT && (!state.p || k.seg + 1 < d.segs)) return;
        for (int64_t nt = 0; nt < d.ntiles; nt++) {
            int64_t n0 = nt * 64;
            int cols = ssd_least(d.N - n0, 64);
            float *s = m->state + (resident ? nt : 0) * SSD_TILE;
            __syncthreads();
            if (!resident) {
                ssd_load(s, spill + n0, d.wide, rows, cols, 1, NULL);
                __syncthreads();
            }
            if constexpr (KIND == ENDS) {
                ssd_store(slot + n0, d.wide, s, rows, cols);
            } else {
                for (int i = tid; i < 64 * 64; i += SSD_THREADS)
                    if (i / 64 < rows && i % 64 < cols) *cu_at(state, k.b, k.h, k.p0 + i / 64, n0 + i % 64) = s[i / 64 * SSD_ROW + i % 64];
            }
        }
    }
}

/* ---- the scan, bf16 ---- */

/* b and c of a chunk of a group, [64][wide], zeros behind T and N. A thread eight numbers. */
constexpr int PACK_THREADS = 256;
KN_KERNEL(PACK_THREADS) pack(struct ssd_dims d, cu_view<float, 4> bm, cu_view<float, 4> cm, int b4, int c4, bf16 *b, bf16 *c)
{
    int64_t each = d.wide / 8, one = d.B * d.chunks * d.G * SSD_CHUNK * each, step = (int64_t)gridDim.x * PACK_THREADS;
    for (int64_t i = (int64_t)blockIdx.x * PACK_THREADS + threadIdx.x; i < 2 * one; i += step) {
        bool second = i >= one;
        int64_t j = second ? i - one : i, n = j % each * 8, l = j / each % SSD_CHUNK, g = j / each / SSD_CHUNK % d.G;
        int64_t at = j / each / SSD_CHUNK / d.G, t = at % d.chunks * SSD_CHUNK + l;
        const float *from = second ? cu_at(cm, at / d.chunks, t, g, n) : cu_at(bm, at / d.chunks, t, g, n);
        float v[8] = {};
        KN_UNROLL for (int k = 0; k < 8; k += 4) {
            if (t >= d.T || n + k >= d.N) continue;
            if (second ? c4 : b4) {
                float4 q = cu_get4(from + k);
                v[k] = q.x, v[k + 1] = q.y, v[k + 2] = q.z, v[k + 3] = q.w;
            } else {
                KN_UNROLL for (int e = k; e < k + 4; e++) v[e] = n + e < d.N ? from[e] : 0.0f;
            }
        }
        kn_write16((second ? c : b) + j * 8, make_uint4(kn_pack_bf16(v[0], v[1]), kn_pack_bf16(v[2], v[3]), kn_pack_bf16(v[4], v[5]), kn_pack_bf16(v[6], v[7])));
    }
}

constexpr int X_LD = 72;
/* Warps beside each other share a row group: of 64 columns of y, and of WIDE of the state, each has its part. */
template <int WIDE> constexpr int halves_of = WIDE > 128 ? 2 : 1;
template <int WIDE> constexpr int stages_of = WIDE > 128 ? 1 : 2; /* chunks of b and c in shared memory */
namespace {
template <int WIDE> struct half_mem {
    float a[64], in[64], weight[64], step[64], stage[64 * 64];
    bf16 x[64 * X_LD], s[64 * (WIDE + 8)]; /* s: the state, rounded */
    bf16 b[stages_of<WIDE>][64 * (WIDE + 8)], c[1];
};
}
template <int KIND, int WIDE> constexpr size_t half_bytes(void)
{
    return sizeof(struct half_mem<WIDE>) + (KIND == OUTPUT ? stages_of<WIDE> * 64 * (WIDE + 8) * sizeof(bf16) : 0);
}

/* A warp has 16 rows of the chunk (of y and the weights) and 16 rows of the state, which stays in its registers. */
template <int KIND, int WIDE>
KN_KERNEL_MIN(SSD_THREADS *halves_of<WIDE>, WIDE == 64 ? 3 : WIDE == 128 ? 2 : 1)
scan_half(struct ssd_dims d, struct ssd_decays of, struct way up, struct way down, const bf16 *pb, const bf16 *pc, cu_vec<float> skip, cu_view<float, 4> state, float *ends,
          bf16 *keep, cu_view<float, 4> y, int y2)
{
    constexpr int HALVES = halves_of<WIDE>, STAGES = stages_of<WIDE>, THREADS = SSD_THREADS * HALVES, LD = WIDE + 8, OWN = WIDE / HALVES / 8, YCOLS = 8 / HALVES;
    KN_SHARED(struct half_mem<WIDE>, m);
    struct place k = place_of(d, KIND == ENDS ? d.segs - 1 : d.segs);
    struct path w = path_of<KIND>(k, up, down);
    bool back = KIND != OUTPUT && k.dir;
    int rows = ssd_least(d.P - k.p0, 64), wide = (int)d.wide, tid = threadIdx.x, lane = tid % 32, warp = tid / 32 % 4, part = tid / SSD_THREADS;
    int r0 = 16 * warp, r = r0 + lane / 4, c0 = 2 * (lane % 4), n0 = part * OWN * 8, y0 = part * YCOLS * 8;
    /* r and r + 8: the thread's rows of accumulators; c0 and c0 + 1: its columns of each eight; n0, y0: the warp's first of the state, of y */
    float *slot = d.segs > 1 ? segment_at(ends, d, k.head, k.seg) + k.p0 * d.wide : NULL;
    const float *as = of.a + (k.b * d.H + k.h) * d.padded, *steps = of.step + (k.b * d.H + k.h) * d.padded;
    const bf16 *gb = (back ? pc : pb) + (k.b * d.chunks * d.G + k.g) * 64 * wide, *gc = pc + (k.b * d.chunks * d.G + k.g) * 64 * wide;
    int64_t chunk_step = d.G * 64 * wide;
    bf16 *tc = m->c;
    auto chunk_of = [&](int64_t j) { return back ? d.chunks - 1 - j : j; };
    float s[OWN][4];
    KN_UNROLL for (int i = 0; i < OWN; i++)
        KN_UNROLL for (int e = 0; e < 4; e++) {
            int p = r + e / 2 * 8, n = n0 + 8 * i + c0 + e % 2;
            s[i][e] = 0.0f;
            if (KIND != ENDS && slot) {
                if (p < rows && n < wide) s[i][e] = slot[p * d.wide + n];
            } else if (KIND == OUTPUT && state.p && p < rows && n < d.N) {
                s[i][e] = *cu_at(state, k.b, k.h, k.p0 + p, n);
            }
        }
    /* What a chunk begins with: read ahead, and put into shared memory once the chunk before is done with it. */
    float a_next = 0, step_next = 0, a_last = 0;
    auto fetch = [&](int64_t j) {
        int64_t chunk = chunk_of(j), t0 = chunk * SSD_CHUNK;
        ssd_fetch<THREADS>(m->stage, w.x + t0 * w.xs, w.xs, ssd_least(d.T - t0, SSD_CHUNK), rows, w.x4);
        if (tid < 64) a_next = as[t0 + tid], step_next = steps[t0 + tid];
        a_last = as[t0 + 63];
        kn_cp_commit();
    };
    auto copy = [&](int64_t j) {
        int64_t chunk = chunk_of(j), stage = (j - k.from) % STAGES;
        ssd_copy<THREADS, WIDE>(m->b[stage], gb + chunk * chunk_step, 64, wide);
        if (KIND == OUTPUT) ssd_copy<THREADS, WIDE>(tc + stage * 64 * LD, gc + chunk * chunk_step, 64, wide);
        kn_cp_commit();
    };
    auto put = [&]() {
        ssd_put<THREADS>(m->x, X_LD, m->stage);
        if (tid < 64) {
            float in = kn_exp2(a_next);
            m->a[tid] = a_next, m->in[tid] = in, m->step[tid] = step_next, m->weight[tid] = back ? in : kn_exp2(a_last - a_next) * step_next;
        }
        if constexpr (KIND != ENDS) {
            KN_UNROLL for (int i = 0; i < OWN; i++)
                KN_UNROLL for (int e = 0; e < 4; e += 2) *(uint32_t *)(m->s + (r + 4 * e) * LD + n0 + 8 * i + c0) = kn_pack_bf16(s[i][e], s[i][e + 1]);
        }
    };
    fetch(k.from);
    copy(k.from);
    kn_cp_wait<1>();
    put();
    for (int64_t j = k.from; j < k.to; j++) {
        int64_t chunk = chunk_of(j), t0 = chunk * SSD_CHUNK, stage = (j - k.from) % STAGES;
        bool more = j + 1 < k.to;
        float total = kn_exp2(a_last);
        kn_cp_wait<0>();
        __syncthreads();
        if (more) {
            fetch(j + 1);
            if (STAGES > 1) copy(j + 1);
        }
        const bf16 *tb = m->b[stage];
        if (KIND == STATES) {
            bf16 *to = keep + (k.head * d.chunks + chunk) * d.P * d.wide + k.p0 * d.wide;
            for (int i = tid; i < rows * wide / 8; i += THREADS) kn_write16(to + i * 8, kn_load16(m->s + i / (wide / 8) * LD + i % (wide / 8) * 8));
        }
        if constexpr (KIND == OUTPUT) {
            float ys[YCOLS][4] = {};
            constexpr int KEPT = WIDE > 128 ? 1 : WIDE / 16; /* fragments of c: all, or read again for every strip of columns */
            uint32_t ca[KEPT][4], f[4];
            KN_UNROLL for (int i = 0; i < WIDE / 16; i++) {
                ssd_frag_a(ca[i % KEPT], tc + stage * 64 * LD, LD, r0, 16 * i);
                KN_UNROLL for (int c = 0; c < YCOLS; c += 2) {
                    ssd_frag_b_t(f, m->s, LD, y0 + 8 * c, 16 * i);
                    ssd_mma2(ys[c], ys[c + 1], ca[i % KEPT], f);
                }
            }
            float a[2] = {m->a[r], m->a[r + 8]}, in[2] = {m->in[r], m->in[r + 8]};
            KN_UNROLL for (int c = 0; c < YCOLS; c++)
                KN_UNROLL for (int e = 0; e < 4; e++) ys[c][e] *= in[e / 2];
            KN_UNROLL for (int strip = 0; strip < 4; strip++) {
                if (strip > warp) break;
                float d0[4] = {}, d1[4] = {};
                KN_UNROLL for (int i = 0; i < WIDE / 16; i++) {
                    if (KEPT == 1) ssd_frag_a(ca[0], tc + stage * 64 * LD, LD, r0, 16 * i);
                    ssd_frag_b_t(f, tb, LD, 16 * strip, 16 * i);
                    ssd_mma2(d0, d1, ca[i % KEPT], f);
                }
                auto weigh = [&](float(&v)[4], int col) {
                    KN_UNROLL for (int e = 0; e < 4; e++) {
                        int at = col + e % 2;
                        float weight = kn_exp2(fminf(a[e / 2] - m->a[at], 0.0f)) * m->step[at];
                        v[e] = at <= r + e / 2 * 8 ? v[e] * weight : 0.0f;
                    }
                };
                weigh(d0, 16 * strip + c0), weigh(d1, 16 * strip + 8 + c0);
                uint32_t ma[4];
                ssd_as_a(ma, d0, d1);
                KN_UNROLL for (int c = 0; c < YCOLS; c += 2) {
                    ssd_frag_b(f, m->x, X_LD, y0 + 8 * c, 16 * strip);
                    ssd_mma2(ys[c], ys[c + 1], ma, f);
                }
            }
            float D = *cu_at(skip, k.h);
            KN_UNROLL for (int e = 0; e < 2; e++) {
                int l = r + 8 * e;
                if (t0 + l >= d.T) continue;
                float *row = cu_at(y, k.b, t0 + l, k.h, k.p0);
                KN_UNROLL for (int c = 0; c < YCOLS; c++) {
                    int p = y0 + 8 * c + c0;
                    uint32_t pair = *(const uint32_t *)(m->x + l * X_LD + p);
                    float v0 = fmaf(D, __uint_as_float(pair << 16), ys[c][2 * e]), v1 = fmaf(D, __uint_as_float(pair & 0xffff0000u), ys[c][2 * e + 1]);
                    if (y2 && p < rows) {
                        kn_write8(row + p, make_uint2(__float_as_uint(v0), __float_as_uint(v1)));
                    } else {
                        if (p < rows) row[p] = v0;
                        if (p + 1 < rows) row[p + 1] = v1;
                    }
                }
            }
        }
        if (!(KIND == STATES && j + 1 == d.chunks)) {
            KN_UNROLL for (int i = 0; i < OWN; i++)
                KN_UNROLL for (int e = 0; e < 4; e++) s[i][e] *= total;
            KN_UNROLL for (int strip = 0; strip < 4; strip++) {
                uint32_t xa[4], f[4];
                ssd_frag_a_t(xa, m->x, X_LD, r0, 16 * strip);
                ssd_scale_a(xa, m->weight + 16 * strip);
                KN_UNROLL for (int i = 0; i < OWN; i += 2) {
                    ssd_frag_b(f, tb, LD, n0 + 8 * i, 16 * strip);
                    ssd_mma2(s[i], s[i + 1], xa, f);
                }
            }
        }
        __syncthreads();
        if (!more) break;
        if (STAGES == 1) copy(j + 1);
        kn_cp_wait<1>();
        put();
    }
    if constexpr (KIND != STATES) {
        KN_UNROLL for (int i = 0; i < OWN; i++)
            KN_UNROLL for (int e = 0; e < 4; e++) {
                int p = r + e / 2 * 8, n = n0 + 8 * i + c0 + e % 2;
                if (KIND == ENDS && p < rows && n < wide) slot[p * d.wide + n] = s[i][e];
                if (KIND == OUTPUT && state.p && k.seg + 1 == d.segs && p < rows && n < d.N) *cu_at(state, k.b, k.h, k.p0 + p, n) = s[i][e];
            }
    }
}

/* Of each segment its own end becomes what comes into it. */
constexpr int PASS_THREADS = 256;
KN_KERNEL(PASS_THREADS) pass(struct ssd_dims d, const float *a, cu_view<float, 4> state, float *ends)
{
    int64_t cells = d.P * d.wide, across = (cells + PASS_THREADS - 1) / PASS_THREADS, head = blockIdx.x / across, i = blockIdx.x % across * PASS_THREADS + threadIdx.x;
    int64_t dir = head / (d.B * d.H), b = head / d.H % d.B, h = head % d.H, p = i / d.wide, n = i % d.wide;
    if (i >= cells) return;
    float v = state.p && n < d.N ? *cu_at(state, b, h, p, n) : 0.0f;
    for (int64_t seg = 0; seg < d.segs; seg++) {
        float *at = segment_at(ends, d, head, seg) + i, own = seg + 1 < d.segs ? *at : 0.0f, sum = 0;
        *at = v;
        for (int64_t j = seg * d.len; j < (seg + 1) * d.len && j < d.chunks; j++)
            sum += a[(b * d.H + h) * d.padded + (dir ? d.chunks - 1 - j : j) * SSD_CHUNK + 63];
        v = fmaf(kn_exp2(sum), v, own);
    }
}

/* ---- a few times ---- */

/* A group of `lanes` threads has ROWS rows of a state, each thread up to 8 numbers of a row, by fours or one by one. */
constexpr int ROWS = 2;
template <bool BY4>
KN_KERNEL(SSD_THREADS) steps(struct ssd_dims d, cu_view<float, 4> x, cu_view<float, 3> dt, cu_vec<float> bias, cu_vec<float> a_log, cu_view<float, 4> bm, cu_view<float, 4> cm,
                             cu_vec<float> skip, cu_view<float, 4> state, cu_view<float, 4> y, int lanes)
{
    int lane = (int)threadIdx.x % lanes, each = SSD_THREADS / lanes * ROWS;
    int64_t across = (d.P + each - 1) / each, p0 = blockIdx.x % across * each + threadIdx.x / lanes * ROWS, h = blockIdx.x / across % d.H, b = blockIdx.x / across / d.H;
    int64_t g = h / (d.H / d.G);
    auto at = [&](int k) { return BY4 ? k / 4 * 4 * lanes + 4 * lane + k % 4 : k * lanes + lane; };
    auto load = [&](float(&v)[8], const float *row, bool wanted) {
        KN_UNROLL for (int k = 0; k < 8; k += BY4 ? 4 : 1) {
            bool in = wanted && at(k) < d.N;
            if (BY4) {
                float4 q = in ? cu_get4(row + at(k)) : make_float4(0, 0, 0, 0);
                v[k] = q.x, v[k + 1] = q.y, v[k + 2] = q.z, v[k + 3] = q.w;
            } else {
                v[k] = in ? row[at(k)] : 0.0f;
            }
        }
    };
    float s[ROWS][8], bv[8], cv[8];
    KN_UNROLL for (int i = 0; i < ROWS; i++) load(s[i], cu_at(state, b, h, p0 + i, 0), state.p && p0 + i < d.P);
    float A = -expf(*cu_at(a_log, h)) * (float)SSD_LOG2E, D = *cu_at(skip, h), off = *cu_at(bias, h), slope;
    for (int64_t t = 0; t < d.T; t++) {
        float step = softplus(*cu_at(dt, b, t, h) + off, &slope), decay = exp2f(A * step);
        load(bv, cu_at(bm, b, t, g, 0), true);
        load(cv, cu_at(cm, b, t, g, 0), true);
        KN_UNROLL for (int i = 0; i < ROWS; i++) {
            bool in = p0 + i < d.P; /* the others go along for the sums' sake */
            float v = in ? *cu_at(x, b, t, h, p0 + i) : 0.0f, sum = 0;
            KN_UNROLL for (int k = 0; k < 8; k++) {
                s[i][k] = fmaf(decay, s[i][k], step * v * bv[k]);
                sum = fmaf(s[i][k], cv[k], sum);
            }
            for (int o = lanes / 2; o; o >>= 1) sum += __shfl_xor_sync(KN_FULL, sum, o);
            if (in && lane == 0) *cu_at(y, b, t, h, p0 + i) = fmaf(D, v, sum);
        }
    }
    if (!state.p) return;
    KN_UNROLL for (int i = 0; i < ROWS; i++) {
        float *row = cu_at(state, b, h, p0 + i, 0);
        KN_UNROLL for (int k = 0; k < 8; k += BY4 ? 4 : 1) {
            if (p0 + i >= d.P || at(k) >= d.N) continue;
            if (BY4) cu_put4(row + at(k), make_float4(s[i][k], s[i][k + 1], s[i][k + 2], s[i][k + 3]));
            else row[at(k)] = s[i][k];
        }
    }
}

/* ---- host ---- */

struct ssd_dims ssd_dims_of(const struct kn_dev *dev, const struct kn_tensor *x, const struct kn_tensor *bm, int dirs, bool half)
{
    struct ssd_dims d = {};
    d.B = x->d[0], d.T = x->d[1], d.H = x->d[2], d.P = x->d[3], d.G = bm->d[2], d.N = bm->d[3];
    d.chunks = (d.T + SSD_CHUNK - 1) / SSD_CHUNK, d.padded = d.chunks * SSD_CHUNK;
    d.ptiles = (d.P + 63) / 64, d.ntiles = (d.N + 63) / 64;
    d.half = half;
    d.wide = d.half ? (d.N + 15) & ~(int64_t)15 : (d.N + 3) & ~(int64_t)3;
    /* Segments make a scan read its operands once more, for half the time where the card was not full. */
    int64_t sms = ((const struct cuda *)dev->self)->sms, blocks = dirs * d.B * d.H * d.ptiles;
    d.segs = 1, d.len = d.chunks;
    if (3 * blocks < 4 * sms && d.chunks > 1) {
        int64_t want = (2 * sms + blocks - 1) / blocks;
        d.len = want < d.chunks ? (d.chunks + want - 1) / want : 1;
        d.segs = (d.chunks + d.len - 1) / d.len;
    }
    return d;
}

static size_t scan_bytes(int64_t tiles)
{
    return offsetof(struct scan_mem, state) + (size_t)tiles * SSD_TILE * sizeof(float);
}

/* All of a state's tiles stay in shared memory. */
static bool stays(const struct kn_dev *dev, const struct ssd_dims *d)
{
    return scan_bytes(d->ntiles) <= ((const struct cuda *)dev->self)->shared_most;
}

void ssd_carve_made(struct ssd_carve *c, const struct kn_dev *dev, const struct ssd_dims *d, int dirs, struct ssd_made *m)
{
    size_t rows = (size_t)(d->B * d->H * d->padded) * sizeof(float), states = (size_t)(dirs * d->B * d->H * d->segs * d->P * d->wide) * sizeof(float);
    *m = {};
    m->of.step = (float *)ssd_take(c, rows), m->of.slope = (float *)ssd_take(c, rows), m->of.a = (float *)ssd_take(c, rows);
    size_t places = (size_t)(d->B * d->chunks * d->G);
    if (!d->half) m->scores = (float *)ssd_take(c, places * 64 * 64 * sizeof(float));
    else m->b = (bf16 *)ssd_take(c, places * 64 * (size_t)d->wide * sizeof(bf16)), m->c = (bf16 *)ssd_take(c, places * 64 * (size_t)d->wide * sizeof(bf16));
    if (d->segs > 1) m->ends = (float *)ssd_take(c, states);
    if (!d->half && !stays(dev, d)) m->work = (float *)ssd_take(c, states);
}

st_t ssd_make(struct kn_dev *dev, const struct ssd_dims *d, const struct ssd_made *m, const struct kn_tensor *dt, const struct kn_tensor *dt_bias,
              const struct kn_tensor *a_log, const struct kn_tensor *bm, const struct kn_tensor *cm)
{
    CUDA_RUN(dev, decays, cuda_blocks(d->H, DECAY_HEADS) * d->chunks * d->B, DECAY_THREADS, DECAY_HEADS * 65 * sizeof(float), *d, dt, dt_bias, a_log, m->of);
    if (d->half) {
        int64_t eights = 2 * d->B * d->chunks * d->G * SSD_CHUNK * d->wide / 8;
        CUDA_RUN(dev, pack, cuda_blocks(eights, PACK_THREADS, 16 * cuda_of(dev)->sms), PACK_THREADS, 0, *d, bm, cm, (int)cuda_by4(bm), (int)cuda_by4(cm), m->b, m->c);
        return ST_OK;
    }
    CUDA_RUN(dev, scores, d->B * d->chunks * d->G, SSD_THREADS, 2 * SSD_TILE * sizeof(float), *d, bm, cm, (int)cuda_by4(bm), (int)cuda_by4(cm), m->scores);
    return ST_OK;
}

template <int KIND, int WIDE>
static st_t run_half(struct kn_dev *dev, const struct ssd_dims *d, const struct ssd_made *m, int64_t blocks, const struct way &up, const struct way &down,
                     const struct kn_tensor *skip, const struct kn_tensor *state, void *keep, const struct kn_tensor *y)
{
    int y2 = y && ssd_by2(y);
    CUDA_RUN(dev, (scan_half<KIND, WIDE>), blocks, SSD_THREADS * halves_of<WIDE>, (half_bytes<KIND, WIDE>()), *d, m->of, up, down, (const bf16 *)m->b, (const bf16 *)m->c,
             skip, state, m->ends, (bf16 *)keep, y, y2);
    return ST_OK;
}

template <int KIND>
static st_t run_scan(struct kn_dev *dev, const struct ssd_dims *d, const struct ssd_made *m, int64_t dirs, const struct way &up, const struct way &down,
                     const struct kn_tensor *cm, const struct kn_tensor *skip, const struct kn_tensor *state, void *keep, const struct kn_tensor *y)
{
    int64_t blocks = dirs * d->B * d->H * d->ptiles * (KIND == ENDS ? d->segs - 1 : d->segs);
    if (d->half && d->wide <= 64) return run_half<KIND, 64>(dev, d, m, blocks, up, down, skip, state, keep, y);
    if (d->half && d->wide <= 128) return run_half<KIND, 128>(dev, d, m, blocks, up, down, skip, state, keep, y);
    if (d->half) return run_half<KIND, 256>(dev, d, m, blocks, up, down, skip, state, keep, y);
    int resident = stays(dev, d);
    CUDA_RUN(dev, scan<KIND>, blocks, SSD_THREADS, scan_bytes(resident ? d->ntiles : 1), *d, m->of, up, down, cm, (int)(cm && cuda_by4(cm)), (const float *)m->scores, skip,
             state, (int)(state && cuda_by4(state)), m->ends, m->work, (float *)keep, y, resident);
    return ST_OK;
}

/* What comes into each segment. */
static st_t run_ends(struct kn_dev *dev, const struct ssd_dims *d, const struct ssd_made *m, int64_t dirs, const struct way &up, const struct way &down,
                     const struct kn_tensor *state)
{
    if (d->segs == 1) return ST_OK;
    CUDA_TRY(run_scan<ENDS>(dev, d, m, dirs, up, down, NULL, NULL, NULL, NULL, NULL));
    int64_t heads = dirs * d->B * d->H;
    CUDA_RUN(dev, pass, cuda_blocks(d->P * d->wide, PASS_THREADS) * heads, PASS_THREADS, 0, *d, (const float *)m->of.a, state, m->ends);
    return ST_OK;
}

static struct way way_of(const struct kn_tensor *x, const struct kn_tensor *b)
{
    return {x, b, (int)cuda_by4(x), (int)cuda_by4(b)};
}

st_t ssd_states(struct kn_dev *dev, const struct ssd_dims *d, const struct ssd_made *m, const struct kn_tensor *x, const struct kn_tensor *dy, const struct kn_tensor *bm,
                const struct kn_tensor *cm, void *keep)
{
    struct way up = way_of(x, bm), down = way_of(dy, cm);
    CUDA_TRY(run_ends(dev, d, m, 2, up, down, NULL));
    return run_scan<STATES>(dev, d, m, 2, up, down, NULL, NULL, NULL, keep, NULL);
}

static st_t run_steps(struct kn_dev *dev, const struct ssd_dims *d, const struct kn_tensor *x, const struct kn_tensor *dt, const struct kn_tensor *dt_bias,
                      const struct kn_tensor *a_log, const struct kn_tensor *bm, const struct kn_tensor *cm, const struct kn_tensor *skip, const struct kn_tensor *state,
                      const struct kn_tensor *y)
{
    bool by4 = cuda_by4(bm) && cuda_by4(cm) && (!state || cuda_by4(state));
    int lanes = 4;
    while (lanes < 32 && lanes * (by4 ? 4 : 1) < d->N) lanes *= 2;
    int64_t blocks = cuda_blocks(d->P, SSD_THREADS / lanes * ROWS) * d->H * d->B;
    if (by4) CUDA_RUN(dev, steps<true>, blocks, SSD_THREADS, 0, *d, x, dt, dt_bias, a_log, bm, cm, skip, state, y, lanes);
    else CUDA_RUN(dev, steps<false>, blocks, SSD_THREADS, 0, *d, x, dt, dt_bias, a_log, bm, cm, skip, state, y, lanes);
    return ST_OK;
}

/* Products in bf16, where a block's shared memory takes it: states of N columns. */
static bool goes_half(const struct kn_dev *dev, int64_t N)
{
    size_t need = N <= 64 ? half_bytes<OUTPUT, 64>() : N <= 128 ? half_bytes<OUTPUT, 128>() : half_bytes<OUTPUT, 256>();
    return dev->precision == KN_BF16 && N <= HALF_WIDE && need <= ((const struct cuda *)dev->self)->shared_most;
}

extern "C" st_t cuda_ssd(struct kn_dev *dev, const struct kn_tensor *x, const struct kn_tensor *dt, const struct kn_tensor *dt_bias, const struct kn_tensor *a_log,
                         const struct kn_tensor *bm, const struct kn_tensor *cm, const struct kn_tensor *d, const struct kn_tensor *state, const struct kn_tensor *y)
{
    CUDA_TRY(kn_check_ssd(x, dt, dt_bias, a_log, bm, cm, d, state, y));
    if (!cuda_is_f32(x)) return ST_ENOTSUP;
    if (kn_absent(state)) state = NULL;
    if (kn_count(x) == 0) return ST_OK;
    struct ssd_dims dims = ssd_dims_of(dev, x, bm, 1, goes_half(dev, bm->d[3]));
    if (dims.T < STEPS_MOST && dims.N <= STEPS_WIDE) return run_steps(dev, &dims, x, dt, dt_bias, a_log, bm, cm, d, state, y);
    struct ssd_carve c = {};
    struct ssd_made m;
    void *p;
    ssd_carve_made(&c, dev, &dims, 1, &m);
    CUDA_TRY(cuda_scratch(dev, CUDA_SLOT_A, c.used, &p));
    c = {(char *)p, 0};
    ssd_carve_made(&c, dev, &dims, 1, &m);
    CUDA_TRY(ssd_make(dev, &dims, &m, dt, dt_bias, a_log, bm, cm));
    struct way up = way_of(x, bm);
    CUDA_TRY(run_ends(dev, &dims, &m, 1, up, up, state));
    return run_scan<OUTPUT>(dev, &dims, &m, 1, up, up, cm, d, state, NULL, y);
}
