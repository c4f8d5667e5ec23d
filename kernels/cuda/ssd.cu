/* Mamba-2's scan forward, and the states that its backward asks for (ssd.h). */
#include "kernels/cuda/ssd.h"

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
    int64_t across = (d.H + DECAY_HEADS - 1) / DECAY_HEADS, h0 = blockIdx.x % across * DECAY_HEADS, chunk = blockIdx.x / across % d.chunks, b = blockIdx.x / across / d.chunks;
    int64_t t0 = chunk * SSD_CHUNK;
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
struct way {
    cu_view<float, 4> x, b;
    int x4, b4;
    void *keep;
};

/* A block's place: tiles of P fastest, then heads, which share b and c. */
struct place {
    int64_t dir, b, h, g, p0, seg, head, from, to; /* head: of all directions and sequences; chunks from..to in the direction's order */
};
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

/* Where the state of segment seg of a head lies in scratch. */
KN_DEVICE float *segment_at(float *p, const struct ssd_dims &d, int64_t head, int64_t seg)
{
    return p + (head * d.segs + seg) * d.P * d.wide;
}

struct scan_mem {
    float a[64], in[64], weight[64], step[64]; /* in: what of the state before reaches a row; weight: what a row gives to the state behind */
    float x[SSD_TILE], b[SSD_TILE], c[SSD_TILE], state[1]; /* c: then the weights of x in y, [s][l]; state: one tile or all */
};

template <int KIND>
KN_KERNEL(SSD_THREADS) scan(struct ssd_dims d, struct ssd_decays of, struct way up, struct way down, cu_view<float, 4> cm, int c4, const float *scores, cu_vec<float> skip,
                            cu_view<float, 4> state, int state4, float *ends, float *work, cu_view<float, 4> y, int resident)
{
    KN_SHARED(struct scan_mem, m);
    struct place k = place_of(d, KIND == ENDS ? d.segs - 1 : d.segs);
    const struct way w = KIND != OUTPUT && k.dir ? down : up;
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
        if (!last) ssd_load(m->x, cu_at(w.x, k.b, t0, k.h, k.p0), w.x.s[1], n, rows, w.x4, NULL);
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
            if (!last) ssd_load(m->b, cu_at(w.b, k.b, t0, k.g, n0), w.b.s[1], n, cols, w.b4, m->weight);
            if (KIND == OUTPUT) ssd_load(m->c, cu_at(cm, k.b, t0, k.g, n0), cm.s[1], n, cols, c4, NULL);
            __syncthreads();
            if (KIND == STATES) ssd_store((float *)w.keep + ((k.b * d.H + k.h) * d.chunks + chunk) * d.P * d.wide + k.p0 * d.wide + n0, d.wide, s, rows, cols);
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
        ssd_product<true, false>(y_sum, m->c, m->x, n);
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
            if (KIND == ENDS) {
                ssd_store(slot + n0, d.wide, s, rows, cols);
                continue;
            }
            for (int i = tid; i < 64 * 64; i += SSD_THREADS)
                if (i / 64 < rows && i % 64 < cols) *cu_at(state, k.b, k.h, k.p0 + i / 64, n0 + i % 64) = s[i / 64 * SSD_ROW + i % 64];
        }
    }
}

/* Of each segment its own end becomes what comes into it. */
constexpr int PASS_THREADS = 256;
KN_KERNEL(PASS_THREADS) pass(struct ssd_dims d, const float *a, cu_view<float, 4> state, float *ends)
{
    int64_t cells = d.P * d.wide, across = (cells + PASS_THREADS - 1) / PASS_THREADS, i = blockIdx.x % across * PASS_THREADS + threadIdx.x, head = blockIdx.x / across;
    int64_t dir = head / (d.B * d.H), b = head / d.H % d.B, h = head % d.H, p = i / d.wide, n = i % d.wide;
    if (i >= cells) return;
    float v = state.p && n < d.N ? *cu_at(state, b, h, p, n) : 0.0f;
    for (int64_t seg = 0; seg < d.segs; seg++) {
        float *at = segment_at(ends, d, head, seg) + i, own = seg + 1 < d.segs ? *at : 0.0f, sum = 0;
        *at = v;
        for (int64_t j = seg * d.len; j < (seg + 1) * d.len && j < d.chunks; j++) sum += a[(b * d.H + h) * d.padded + (dir ? d.chunks - 1 - j : j) * SSD_CHUNK + 63];
        v = fmaf(kn_exp2(sum), v, own);
    }
}

/* ---- a few times ---- */

/* Rows of a state are a group of `lanes` threads each; a thread has up to 8 of its numbers, by fours or one by one. */
template <bool BY4>
KN_KERNEL(SSD_THREADS) steps(struct ssd_dims d, cu_view<float, 4> x, cu_view<float, 3> dt, cu_vec<float> bias, cu_vec<float> a_log, cu_view<float, 4> bm, cu_view<float, 4> cm,
                             cu_vec<float> skip, cu_view<float, 4> state, cu_view<float, 4> y, int lanes)
{
    int lane = (int)threadIdx.x % lanes, each = SSD_THREADS / lanes;
    int64_t across = (d.P + each - 1) / each, p = blockIdx.x % across * each + threadIdx.x / lanes, h = blockIdx.x / across % d.H, b = blockIdx.x / across / d.H, g = h / (d.H / d.G);
    bool in = p < d.P; /* the others go along for the sums' sake */
    auto load = [&](float (&v)[8], const float *row) {
        KN_UNROLL for (int k = 0; k < 8; k += BY4 ? 4 : 1) {
            int n = BY4 ? k * lanes + 4 * lane : k * lanes + lane;
            if (BY4) {
                float4 q = n < d.N ? cu_get4(row + n) : make_float4(0, 0, 0, 0);
                v[k] = q.x, v[k + 1] = q.y, v[k + 2] = q.z, v[k + 3] = q.w;
            } else {
                v[k] = n < d.N ? row[n] : 0.0f;
            }
        }
    };
    float s[8] = {}, bv[8], cv[8], A = -expf(*cu_at(a_log, h)) * (float)SSD_LOG2E, D = *cu_at(skip, h), off = *cu_at(bias, h), slope;
    if (in && state.p) load(s, cu_at(state, b, h, p, 0));
    for (int64_t t = 0; t < d.T; t++) {
        float step = softplus(*cu_at(dt, b, t, h) + off, &slope), decay = exp2f(A * step), v = in ? *cu_at(x, b, t, h, p) : 0.0f, sum = 0;
        load(bv, cu_at(bm, b, t, g, 0));
        load(cv, cu_at(cm, b, t, g, 0));
        KN_UNROLL for (int k = 0; k < 8; k++) {
            s[k] = fmaf(decay, s[k], step * v * bv[k]);
            sum = fmaf(s[k], cv[k], sum);
        }
        for (int o = lanes / 2; o; o >>= 1) sum += __shfl_xor_sync(KN_FULL, sum, o);
        if (in && lane == 0) *cu_at(y, b, t, h, p) = fmaf(D, v, sum);
    }
    if (!in || !state.p) return;
    float *row = cu_at(state, b, h, p, 0);
    KN_UNROLL for (int k = 0; k < 8; k += BY4 ? 4 : 1) {
        int n = BY4 ? k * lanes + 4 * lane : k * lanes + lane;
        if (n >= d.N) continue;
        if (BY4) cu_put4(row + n, make_float4(s[k], s[k + 1], s[k + 2], s[k + 3]));
        else row[n] = s[k];
    }
}

/* ---- host ---- */

struct ssd_dims ssd_dims_of(const struct kn_dev *dev, const struct kn_tensor *x, const struct kn_tensor *bm, int dirs)
{
    struct ssd_dims d = {};
    d.B = x->d[0], d.T = x->d[1], d.H = x->d[2], d.P = x->d[3], d.G = bm->d[2], d.N = bm->d[3];
    d.chunks = (d.T + SSD_CHUNK - 1) / SSD_CHUNK, d.padded = d.chunks * SSD_CHUNK;
    d.ptiles = (d.P + 63) / 64, d.ntiles = (d.N + 63) / 64;
    d.wide = (d.N + 3) & ~(int64_t)3;
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
    m->scores = (float *)ssd_take(c, (size_t)(d->B * d->chunks * d->G) * 64 * 64 * sizeof(float));
    if (d->segs > 1) m->ends = (float *)ssd_take(c, states);
    if (!stays(dev, d)) m->work = (float *)ssd_take(c, states);
}

st_t ssd_make(struct kn_dev *dev, const struct ssd_dims *d, const struct ssd_made *m, const struct kn_tensor *dt, const struct kn_tensor *dt_bias,
              const struct kn_tensor *a_log, const struct kn_tensor *bm, const struct kn_tensor *cm)
{
    CUDA_RUN(dev, decays, cuda_blocks(d->H, DECAY_HEADS) * d->chunks * d->B, DECAY_THREADS, DECAY_HEADS * 65 * sizeof(float), *d, dt, dt_bias, a_log, m->of);
    CUDA_RUN(dev, scores, d->B * d->chunks * d->G, SSD_THREADS, 2 * SSD_TILE * sizeof(float), *d, bm, cm, (int)cuda_by4(bm), (int)cuda_by4(cm), m->scores);
    return ST_OK;
}

template <int KIND>
static st_t run_scan(struct kn_dev *dev, const struct ssd_dims *d, const struct ssd_made *m, int64_t dirs, const struct way &up, const struct way &down, const struct kn_tensor *cm,
                     const struct kn_tensor *skip, const struct kn_tensor *state, const struct kn_tensor *y)
{
    int resident = stays(dev, d);
    int64_t blocks = dirs * d->B * d->H * d->ptiles * (KIND == ENDS ? d->segs - 1 : d->segs);
    CUDA_RUN(dev, scan<KIND>, blocks, SSD_THREADS, scan_bytes(resident ? d->ntiles : 1), *d, m->of, up, down, cm, (int)(cm && cuda_by4(cm)), (const float *)m->scores, skip, state,
             (int)(state && cuda_by4(state)), m->ends, m->work, y, resident);
    return ST_OK;
}

/* What comes into each segment. */
static st_t run_ends(struct kn_dev *dev, const struct ssd_dims *d, const struct ssd_made *m, int64_t dirs, const struct way &up, const struct way &down, const struct kn_tensor *state)
{
    if (d->segs == 1) return ST_OK;
    CUDA_TRY(run_scan<ENDS>(dev, d, m, dirs, up, down, NULL, NULL, NULL, NULL));
    CUDA_RUN(dev, pass, cuda_blocks(d->P * d->wide, PASS_THREADS) * dirs * d->B * d->H, PASS_THREADS, 0, *d, (const float *)m->of.a, state, m->ends);
    return ST_OK;
}

static struct way way_of(const struct kn_tensor *x, const struct kn_tensor *b, void *keep)
{
    return {x, b, (int)cuda_by4(x), (int)cuda_by4(b), keep};
}

st_t ssd_states(struct kn_dev *dev, const struct ssd_dims *d, const struct ssd_made *m, const struct kn_tensor *x, const struct kn_tensor *dy, const struct kn_tensor *bm,
                const struct kn_tensor *cm, void *keep)
{
    size_t each = (size_t)(d->B * d->H * d->chunks * d->P * d->wide) * (d->half ? sizeof(bf16) : sizeof(float));
    struct way up = way_of(x, bm, keep), down = way_of(dy, cm, (char *)keep + each);
    CUDA_TRY(run_ends(dev, d, m, 2, up, down, NULL));
    return run_scan<STATES>(dev, d, m, 2, up, down, NULL, NULL, NULL, NULL);
}

static st_t run_steps(struct kn_dev *dev, const struct ssd_dims *d, const struct kn_tensor *x, const struct kn_tensor *dt, const struct kn_tensor *dt_bias,
                      const struct kn_tensor *a_log, const struct kn_tensor *bm, const struct kn_tensor *cm, const struct kn_tensor *skip, const struct kn_tensor *state,
                      const struct kn_tensor *y)
{
    bool by4 = cuda_by4(bm) && cuda_by4(cm) && (!state || cuda_by4(state));
    int lanes = 4;
    while (lanes < 32 && lanes * (by4 ? 4 : 1) < d->N) lanes *= 2;
    int64_t blocks = cuda_blocks(d->P, SSD_THREADS / lanes) * d->H * d->B;
    if (by4) CUDA_RUN(dev, steps<true>, blocks, SSD_THREADS, 0, *d, x, dt, dt_bias, a_log, bm, cm, skip, state, y, lanes);
    else CUDA_RUN(dev, steps<false>, blocks, SSD_THREADS, 0, *d, x, dt, dt_bias, a_log, bm, cm, skip, state, y, lanes);
    return ST_OK;
}

extern "C" st_t cuda_ssd(struct kn_dev *dev, const struct kn_tensor *x, const struct kn_tensor *dt, const struct kn_tensor *dt_bias, const struct kn_tensor *a_log,
                         const struct kn_tensor *bm, const struct kn_tensor *cm, const struct kn_tensor *d, const struct kn_tensor *state, const struct kn_tensor *y)
{
    CUDA_TRY(kn_check_ssd(x, dt, dt_bias, a_log, bm, cm, d, state, y));
    if (!cuda_is_f32(x)) return ST_ENOTSUP;
    if (kn_absent(state)) state = NULL;
    if (kn_count(x) == 0) return ST_OK;
    struct ssd_dims dims = ssd_dims_of(dev, x, bm, 1);
    if (dims.T < STEPS_MOST && dims.N <= STEPS_WIDE) return run_steps(dev, &dims, x, dt, dt_bias, a_log, bm, cm, d, state, y);
    struct ssd_carve c = {};
    struct ssd_made m;
    void *p;
    ssd_carve_made(&c, dev, &dims, 1, &m);
    CUDA_TRY(cuda_scratch(dev, CUDA_SLOT_A, c.used, &p));
    c = {(char *)p, 0};
    ssd_carve_made(&c, dev, &dims, 1, &m);
    CUDA_TRY(ssd_make(dev, &dims, &m, dt, dt_bias, a_log, bm, cm));
    struct way up = way_of(x, bm, NULL);
    CUDA_TRY(run_ends(dev, &dims, &m, 1, up, up, state));
    return run_scan<OUTPUT>(dev, &dims, &m, 1, up, up, cm, d, state, y);
}
