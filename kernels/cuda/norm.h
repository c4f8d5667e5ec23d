/* Norms of rows, forward and backward: RMSNorm and LayerNorm of a matrix's rows, RMSNorm of heads, gated RMSNorm of groups. A row is what lies along the last dim of
 * [B,T,H,K]; a matrix has B = 1 and a row's groups as its heads.
 *
 * Held: rows of whole fours of up to 8192 numbers stay in registers between their sums and what is made of them, so each operand is read once and each result written
 * once. A team of 1 to 32 lanes or of 2 to 16 warps has a row, V quads a thread, and where V is small several rows at a time, so that four quads of each
 * operand are on their way from memory before the first is needed. Looped: any strides and lengths, a warp or a block a row, operands read again (mostly from cache).
 *
 * The gradient of w is a sum over rows: each thread adds up its columns over the rows of its team in registers, teams of a block are added through shared memory
 * in their order, and the blocks' sums (norm_add_parts) from scratch in the order of blocks. Blocks are dealt rows b, b + B, … by shape and card alone.
 *
 * With s = rstd, n = u s (LayerNorm: (x - mean) s), e the gradient of w n, g = w e, averages over the row:
 *   du = s (g - n mean(g n)),  LayerNorm: s (g - mean(g) - n mean(g n)),   dw += e n,  db += e
 * and u = x, e = dy; gate first: u = x a, dx = du a, da = du x; gate last: u = x, e = dy a, dx = du, da = dy w n; a = silu(z), dz = da (σ + a (1 - σ)), σ = sigmoid(z). */
#ifndef TAUT_KERNELS_CUDA_NORM_H
#define TAUT_KERNELS_CUDA_NORM_H

#include "kernels/cuda/cuda.h"

/* NORM_RMS and NORM_LAYER add to dx, the others write it. */
enum norm_kind { NORM_RMS, NORM_LAYER, NORM_HEAD, NORM_GATE_FIRST, NORM_GATE_LAST };

constexpr int NORM_THREADS = 512, NORM_BLOCK = 256, NORM_HELD = 8192; /* threads of a block at most, and mostly; the longest row that is held */
constexpr int NORM_PART = 128;                                        /* floats of shared memory for sums over teams of several warps: twice two sums of 32 */

/* Rows and who takes them. `own`: heads with blocks of their own, blockIdx.x % own (1: none); the walk over rows then has one head. */
struct norm_rows {
    int64_t K, rows, T, H, own;
    int64_t step, db, dt, dh; /* from a team's row to its next, and that in digits */
    int64_t turns;
    int team, teams; /* threads of a team; teams of a block */
    float share;     /* 1 / K */
};

/* What is not there has p NULL. w_head: from a head's weights to the next one's. */
template <class Y> struct norm_forward {
    cu_view<float, 4> x, r, z;
    cu_view<Y, 4> y;
    cu_view<float, 3> mean, rstd;
    const float *w, *b;
    int64_t w_head, w_step, b_step;
    float eps;
};
template <class Z> struct norm_backward {
    cu_view<float, 4> x, z, dy, dx;
    cu_view<Z, 4> dz;
    cu_view<float, 3> mean, rstd;
    const float *w;
    int64_t w_head, w_step;
    float *part; /* [parts][own][K], LayerNorm: [parts][2 K], db behind dw */
};

/* ---- the walk over rows ---- */

struct norm_place {
    int64_t n, b, t, h;
};
KN_DEVICE norm_place norm_first(const norm_rows &s)
{
    int64_t n = blockIdx.x / s.own * s.teams + threadIdx.x / s.team, p = n / s.H;
    return {n, p / s.T, p % s.T, n % s.H + blockIdx.x % s.own};
}
KN_DEVICE void norm_next(norm_place &at, const norm_rows &s)
{
    at.n += s.step, at.b += s.db, at.t += s.dt, at.h += s.dh;
    if (s.own == 1 && at.h >= s.H) at.h -= s.H, at.t++;
    if (at.t >= s.T) at.t -= s.T, at.b++;
}

/* ---- sums over a team ---- */

/* Each of v: its sum over the team (V = 1: of a warp at most), the same bits in all of its threads. By the whole block. part: NORM_PART floats of shared memory, of which one half is written while
 * the other may still be read (C at most 2 where V is not 1 or a team has several warps); flip: 0 before the first call. */
template <int V, int C> KN_DEVICE void norm_sum(float (&v)[C], int team, float *part, int &flip)
{
    if constexpr (V == 1) {
        for (int o = team / 2; o; o >>= 1)
            KN_UNROLL for (int c = 0; c < C; c++) v[c] += __shfl_xor_sync(KN_FULL, v[c], o);
    } else {
        KN_UNROLL for (int c = 0; c < C; c++) v[c] = cu_warp_sum(v[c]);
        if (team == 32) return;
        int warp = threadIdx.x / 32, warps = team / 32, from = warp / warps * warps;
        part += flip * C * 32, flip ^= 1;
        if (threadIdx.x % 32 == 0)
            KN_UNROLL for (int c = 0; c < C; c++) part[c * 32 + warp] = v[c];
        __syncthreads();
        KN_UNROLL for (int c = 0; c < C; c++) {
            float sum = 0;
            for (int i = 0; i < warps; i++) sum += part[c * 32 + from + i];
            v[c] = sum;
        }
    }
}

/* ---- arithmetic, the same in both paths ---- */

KN_DEVICE float norm_sigmoid(float z)
{
    return __fdividef(1.0f, 1.0f + __expf(-z));
}
KN_DEVICE float norm_silu(float z)
{
    return z * norm_sigmoid(z);
}

template <int KIND> struct norm_terms {
    float n, e, g, a, slope; /* the header's; slope: a's derivative */
};
template <int KIND> KN_DEVICE norm_terms<KIND> norm_terms_of(float x, float z, float dy, float w, float s, float mean)
{
    norm_terms<KIND> t = {x * s, dy, 0, 1, 0};
    if (KIND == NORM_LAYER) t.n = (x - mean) * s;
    if (KIND == NORM_GATE_FIRST || KIND == NORM_GATE_LAST) {
        float sig = norm_sigmoid(z);
        t.a = z * sig, t.slope = fmaf(t.a, 1.0f - sig, sig);
        if (KIND == NORM_GATE_FIRST) t.n = x * t.a * s;
        else t.e = dy * t.a;
    }
    t.g = w * t.e;
    return t;
}
/* dx, dz: what is written; c, c0: mean(g n), mean(g). */
template <int KIND> KN_DEVICE void norm_results(const norm_terms<KIND> &t, float x, float dy, float w, float s, float c, float c0, float &dx, float &dz)
{
    float du = s * fmaf(-t.n, c, KIND == NORM_LAYER ? t.g - c0 : t.g);
    if (KIND == NORM_RMS || KIND == NORM_LAYER) dx += du;
    else dx = KIND == NORM_GATE_FIRST ? du * t.a : du;
    if (KIND == NORM_GATE_FIRST) dz = du * x * t.slope;
    if (KIND == NORM_GATE_LAST) dz = dy * w * t.n * t.slope;
}

/* ---- held in registers ---- */

KN_DEVICE void norm_get(float (&v)[4], const float *p)
{
    float4 f = cu_get4(p);
    v[0] = f.x, v[1] = f.y, v[2] = f.z, v[3] = f.w;
}
template <class T> KN_DEVICE void norm_put(T *p, const float (&v)[4])
{
    cu_write4(p, make_float4(v[0], v[1], v[2], v[3]));
}
/* Weights of this thread's quads. */
template <int V> KN_DEVICE void norm_weights(float (&w)[V][4], const float *p, int lane, int team, int K)
{
    KN_UNROLL for (int i = 0; i < V; i++)
        if (4 * (lane + i * team) < K) norm_get(w[i], p + 4 * (lane + i * team));
}
/* For each of R rows, i.e. places from `first` on, and each of its quads of this thread, at number k of the row. */
#define NORM_EACH_ROW norm_place at = first; KN_UNROLL for (int r = 0; r < R; r++, norm_next(at, s))
#define NORM_EACH_QUAD for (int i = 0, k = 4 * lane; i < V; i++, k += 4 * s.team)
#define NORM_EACH for (int j = 0; j < 4; j++)

template <int KIND, int V, class Y> KN_KERNEL_MIN(NORM_THREADS, 1) norm_forward_held(norm_rows s, norm_forward<Y> a)
{
    constexpr int R = 4 / V;
    KN_SHARED(float, part);
    int lane = threadIdx.x % s.team, K = (int)s.K, flip = 0;
    float w[V][4], b[V][4] = {};
    if (V == 1) {
        norm_weights(w, a.w, lane, s.team, K);
        if (KIND == NORM_LAYER) norm_weights(b, a.b, lane, s.team, K);
    }
    norm_place first = norm_first(s);
    for (int64_t turn = 0; turn < s.turns; turn++) {
        float x[R][V][4] = {}, z[R][V][4] = {}, sum[R] = {}, mean[R];
        const cu_view<float, 4> &other = KIND == NORM_GATE_FIRST || KIND == NORM_GATE_LAST ? a.z : a.r;
        {
            NORM_EACH_ROW
            {
                KN_UNROLL NORM_EACH_QUAD if (at.n < s.rows && k < K) norm_get(x[r][i], cu_at(a.x, at.b, at.t, at.h, k));
                if (other.p)
                    KN_UNROLL NORM_EACH_QUAD if (at.n < s.rows && k < K) norm_get(z[r][i], cu_at(other, at.b, at.t, at.h, k));
            }
        }
        {
            NORM_EACH_ROW KN_UNROLL NORM_EACH_QUAD {
                KN_UNROLL NORM_EACH
                {
                    if (KIND == NORM_GATE_FIRST) x[r][i][j] *= norm_silu(z[r][i][j]);
                    else if (KIND != NORM_GATE_LAST) x[r][i][j] += z[r][i][j];
                    sum[r] = KIND == NORM_LAYER ? sum[r] + x[r][i][j] : fmaf(x[r][i][j], x[r][i][j], sum[r]);
                }
                if (KIND <= NORM_LAYER && a.r.p && at.n < s.rows && k < K) norm_put(cu_at(a.x, at.b, at.t, at.h, k), x[r][i]);
            }
        }
        norm_sum<V>(sum, s.team, part, flip);
        if (KIND == NORM_LAYER) {
            KN_UNROLL for (int r = 0; r < R; r++)
            {
                mean[r] = sum[r] * s.share, sum[r] = 0;
                KN_UNROLL NORM_EACH_QUAD KN_UNROLL NORM_EACH
                {
                    x[r][i][j] -= mean[r];
                    if (k < K) sum[r] = fmaf(x[r][i][j], x[r][i][j], sum[r]);
                }
            }
            norm_sum<V>(sum, s.team, part, flip);
        }
        {
            NORM_EACH_ROW
            {
                float rstd = rsqrtf(fmaf(sum[r], s.share, a.eps));
                if (at.n >= s.rows) continue;
                if (V > 1 || a.w_head) norm_weights(w, a.w + at.h * a.w_head, lane, s.team, K);
                if (V > 1 && KIND == NORM_LAYER) norm_weights(b, a.b, lane, s.team, K);
                if (lane == 0) {
                    *cu_at(a.rstd, at.b, at.t, at.h) = rstd;
                    if (KIND == NORM_LAYER) *cu_at(a.mean, at.b, at.t, at.h) = mean[r];
                }
                KN_UNROLL NORM_EACH_QUAD if (k < K)
                {
                    float y[4];
                    KN_UNROLL NORM_EACH
                    {
                        y[j] = w[i][j] * x[r][i][j] * rstd;
                        if (KIND == NORM_LAYER) y[j] += b[i][j];
                        if (KIND == NORM_GATE_LAST) y[j] *= norm_silu(z[r][i][j]);
                    }
                    norm_put(cu_at(a.y, at.b, at.t, at.h, k), y);
                }
            }
            first = at;
        }
    }
}

template <int KIND, int V, class Z> KN_KERNEL(NORM_THREADS) norm_backward_held(norm_rows s, norm_backward<Z> a)
{
    constexpr int R = 4 / V;
    constexpr bool LAYER = KIND == NORM_LAYER, GATED = KIND == NORM_GATE_FIRST || KIND == NORM_GATE_LAST, ADDS = KIND == NORM_RMS || LAYER;
    KN_SHARED(float, part);
    int team = threadIdx.x / s.team, lane = threadIdx.x % s.team, K = (int)s.K, flip = 0;
    const float *weights = a.w + blockIdx.x % s.own * a.w_head;
    float dw[V][4] = {}, db[V][4] = {}, w[4] = {}; /* w: this quad's; there is no room for all of them */
    if (V == 1 && 4 * lane < K) norm_get(w, weights + 4 * lane);
    norm_place first = norm_first(s);
    for (int64_t turn = 0; turn < s.turns; turn++) {
        float x[R][V][4] = {}, dy[R][V][4] = {}, z[R][V][4] = {}, dx[R][V][4] = {}, rstd[R], mean[R], sum[R * (1 + LAYER)] = {};
        {
            NORM_EACH_ROW
            {
                rstd[r] = mean[r] = 0;
                if (at.n >= s.rows) continue;
                rstd[r] = *cu_at(a.rstd, at.b, at.t, at.h);
                if (LAYER) mean[r] = *cu_at(a.mean, at.b, at.t, at.h);
                KN_UNROLL NORM_EACH_QUAD if (k < K)
                {
                    norm_get(x[r][i], cu_at(a.x, at.b, at.t, at.h, k));
                    norm_get(dy[r][i], cu_at(a.dy, at.b, at.t, at.h, k));
                    if (GATED) norm_get(z[r][i], cu_at(a.z, at.b, at.t, at.h, k));
                    if (ADDS) norm_get(dx[r][i], cu_at(a.dx, at.b, at.t, at.h, k));
                }
            }
        }
        {
            KN_UNROLL NORM_EACH_QUAD if (k < K)
            {
                if (V > 1) norm_get(w, weights + k);
                KN_UNROLL for (int r = 0; r < R; r++)
                    KN_UNROLL NORM_EACH
                    {
                        norm_terms<KIND> t = norm_terms_of<KIND>(x[r][i][j], z[r][i][j], dy[r][i][j], w[j], rstd[r], mean[r]);
                        sum[r] = fmaf(t.g, t.n, sum[r]);
                        if (LAYER) sum[R * LAYER + r] += t.g;
                    }
            }
        }
        norm_sum<V>(sum, s.team, part, flip);
        {
            NORM_EACH_ROW
            {
                float c = sum[r] * s.share, c0 = LAYER ? sum[R * LAYER + r] * s.share : 0.0f;
                if (at.n >= s.rows) continue;
                KN_UNROLL NORM_EACH_QUAD if (k < K)
                {
                    float dz[4];
                    if (V > 1) norm_get(w, weights + k);
                    KN_UNROLL NORM_EACH
                    {
                        norm_terms<KIND> t = norm_terms_of<KIND>(x[r][i][j], z[r][i][j], dy[r][i][j], w[j], rstd[r], mean[r]);
                        norm_results<KIND>(t, x[r][i][j], dy[r][i][j], w[j], rstd[r], c, c0, dx[r][i][j], dz[j]);
                        dw[i][j] = fmaf(t.e, t.n, dw[i][j]);
                        if (LAYER) db[i][j] += t.e;
                    }
                    norm_put(cu_at(a.dx, at.b, at.t, at.h, k), dx[r][i]);
                    if (GATED) norm_put(cu_at(a.dz, at.b, at.t, at.h, k), dz);
                }
            }
            first = at;
        }
    }
    /* The block's sums: of its teams, in their order. */
    int width = K * (1 + LAYER);
    float *out = a.part + (int64_t)blockIdx.x * width, *box = part + NORM_PART, *mine = box + team * width;
    KN_UNROLL NORM_EACH_QUAD if (k < K)
    {
        if (s.teams == 1) norm_put(out + k, dw[i]);
        else cu_put4(mine + k, make_float4(dw[i][0], dw[i][1], dw[i][2], dw[i][3]));
        if (LAYER && s.teams == 1) norm_put(out + K + k, db[i]);
        else if (LAYER) cu_put4(mine + K + k, make_float4(db[i][0], db[i][1], db[i][2], db[i][3]));
    }
    if (s.teams == 1) return;
    __syncthreads();
    for (int k = threadIdx.x; k < width; k += blockDim.x) {
        float sum = 0;
        for (int i = 0; i < s.teams; i++) sum += box[i * width + k];
        out[k] = sum;
    }
}

/* ---- any strides, any length ---- */

template <int KIND, class Y> KN_KERNEL(NORM_THREADS) norm_forward_looped(norm_rows s, norm_forward<Y> a)
{
    KN_SHARED(float, part);
    int lane = threadIdx.x % s.team, flip = 0;
    norm_place at = norm_first(s);
    for (int64_t turn = 0; turn < s.turns; turn++, norm_next(at, s)) {
        int64_t K = at.n < s.rows ? s.K : 0;
        float sum[1] = {}, mean = 0;
        for (int64_t k = lane; k < K; k += s.team) {
            float *p = cu_at(a.x, at.b, at.t, at.h, k), v = *p;
            if (KIND <= NORM_LAYER && a.r.p) *p = v += *cu_at(a.r, at.b, at.t, at.h, k);
            if (KIND == NORM_GATE_FIRST) v *= norm_silu(*cu_at(a.z, at.b, at.t, at.h, k));
            sum[0] = KIND == NORM_LAYER ? sum[0] + v : fmaf(v, v, sum[0]);
        }
        norm_sum<0>(sum, s.team, part, flip);
        if (KIND == NORM_LAYER) {
            mean = sum[0] * s.share, sum[0] = 0;
            for (int64_t k = lane; k < K; k += s.team) {
                float v = *cu_at(a.x, at.b, at.t, at.h, k) - mean;
                sum[0] = fmaf(v, v, sum[0]);
            }
            norm_sum<0>(sum, s.team, part, flip);
        }
        float rstd = rsqrtf(fmaf(sum[0], s.share, a.eps));
        if (K && lane == 0) {
            *cu_at(a.rstd, at.b, at.t, at.h) = rstd;
            if (KIND == NORM_LAYER) *cu_at(a.mean, at.b, at.t, at.h) = mean;
        }
        for (int64_t k = lane; k < K; k += s.team) {
            float v = *cu_at(a.x, at.b, at.t, at.h, k), w = a.w[at.h * a.w_head + k * a.w_step], gate = 1;
            if (KIND == NORM_GATE_FIRST || KIND == NORM_GATE_LAST) gate = norm_silu(*cu_at(a.z, at.b, at.t, at.h, k));
            if (KIND == NORM_GATE_FIRST) v *= gate;
            v = w * (v - mean) * rstd;
            if (KIND == NORM_LAYER) v += a.b[k * a.b_step];
            if (KIND == NORM_GATE_LAST) v *= gate;
            cu_put(cu_at(a.y, at.b, at.t, at.h, k), v);
        }
    }
}

/* Each team has a part of its own. */
template <int KIND, class Z> KN_KERNEL(NORM_THREADS) norm_backward_looped(norm_rows s, norm_backward<Z> a)
{
    constexpr bool LAYER = KIND == NORM_LAYER, GATED = KIND == NORM_GATE_FIRST || KIND == NORM_GATE_LAST, ADDS = KIND == NORM_RMS || LAYER;
    KN_SHARED(float, part);
    int lane = threadIdx.x % s.team, flip = 0;
    int64_t team = blockIdx.x / s.own * s.teams + threadIdx.x / s.team, width = s.K * (1 + LAYER);
    float *dw = a.part + (team * s.own + blockIdx.x % s.own) * width, *db = dw + s.K;
    for (int64_t k = lane; k < s.K; k += s.team) {
        dw[k] = 0;
        if (LAYER) db[k] = 0;
    }
    norm_place at = norm_first(s);
    for (int64_t turn = 0; turn < s.turns; turn++, norm_next(at, s)) {
        int64_t K = at.n < s.rows ? s.K : 0;
        float rstd = K ? *cu_at(a.rstd, at.b, at.t, at.h) : 0.0f, mean = LAYER && K ? *cu_at(a.mean, at.b, at.t, at.h) : 0.0f, sum[2] = {};
        for (int pass = 0; pass < 2; pass++) {
            for (int64_t k = lane; k < K; k += s.team) {
                float *px = cu_at(a.dx, at.b, at.t, at.h, k);
                float x = *cu_at(a.x, at.b, at.t, at.h, k), dy = *cu_at(a.dy, at.b, at.t, at.h, k), w = a.w[at.h * a.w_head + k * a.w_step];
                float z = GATED ? *cu_at(a.z, at.b, at.t, at.h, k) : 0.0f;
                norm_terms<KIND> t = norm_terms_of<KIND>(x, z, dy, w, rstd, mean);
                if (pass == 0) {
                    sum[0] = fmaf(t.g, t.n, sum[0]), sum[1] += t.g;
                    continue;
                }
                float dx = ADDS ? *px : 0.0f, dz;
                norm_results<KIND>(t, x, dy, w, rstd, sum[0], sum[1], dx, dz);
                *px = dx;
                if (GATED) cu_put(cu_at(a.dz, at.b, at.t, at.h, k), dz);
                dw[k] = fmaf(t.e, t.n, dw[k]); /* this thread alone reads and writes it */
                if (LAYER) db[k] += t.e;
            }
            if (pass == 0) {
                norm_sum<0>(sum, s.team, part, flip);
                sum[0] *= s.share, sum[1] *= s.share;
            }
        }
    }
}

constexpr int NORM_COLUMNS = 32, NORM_ADDERS = 32;

/* dw [D] += the sum of `parts` rows of D (with db: of 2 D, its own behind dw's): warp i of a block adds up rows i, i + 32, …, then the warps' sums are added in order. */
KN_KERNEL(NORM_COLUMNS *NORM_ADDERS) norm_add_parts(const float *part, int64_t parts, cu_vec<float> dw, cu_vec<float> db, int64_t D)
{
    KN_SHARED(float, box);
    int column = threadIdx.x % NORM_COLUMNS, row = threadIdx.x / NORM_COLUMNS;
    int64_t width = db.p ? 2 * D : D, d = (int64_t)blockIdx.x * NORM_COLUMNS + column;
    float sum = 0;
    if (d < width)
        for (int64_t p = row; p < parts; p += NORM_ADDERS) sum += part[p * width + d];
    box[threadIdx.x] = sum;
    __syncthreads();
    if (row || d >= width) return;
    for (int i = 1; i < NORM_ADDERS; i++) sum += box[i * NORM_COLUMNS + column];
    *(d < D ? cu_at(dw, d) : cu_at(db, d - D)) += sum;
}

/* ---- on the host ---- */

/* A matrix [N,D] as [1,N,heads,D/heads], and what has a number a row and head as [1,N,heads]. */
static inline struct kn_tensor norm_heads(const struct kn_tensor *t, int64_t heads)
{
    int64_t K = t->d[1] / heads;
    return {t->p, t->dtype, 4, {1, t->d[0], heads, K}, {0, t->s[0], K * t->s[1], t->s[1]}};
}
static inline struct kn_tensor norm_each(const struct kn_tensor *t)
{
    return {t->p, t->dtype, 3, {1, t->d[0], t->rank > 1 ? t->d[1] : 1}, {0, t->s[0], t->rank > 1 ? t->s[1] : 0}};
}

/* V quads a thread, where rows are held (0: they are not). */
static inline int norm_quads(const struct kn_tensor *x, bool by4)
{
    int64_t quads = x->d[3] / 4;
    if (!by4 || x->d[3] > NORM_HELD) return 0;
    return quads <= 32 ? 1 : quads <= 64 ? 2 : 4;
}

/* `busy`: threads on a multiprocessor at a time, about; blocks beyond that loop. */
static inline norm_rows norm_deal(struct kn_dev *dev, const struct kn_tensor *x, int V, int64_t own, int64_t busy, int64_t *blocks)
{
    norm_rows s = {};
    int64_t quads = x->d[3] / 4;
    s.share = (float)(1.0 / (double)x->d[3]);
    s.K = x->d[3], s.T = x->d[1], s.H = x->d[2] / own, s.own = own;
    s.rows = x->d[0] * s.T * s.H;
    if (V == 1)
        for (s.team = 1; s.team < quads; s.team *= 2) {}
    else if (V) s.team = (int)((quads + 32 * V - 1) / (32 * V) * 32);
    else s.team = s.K <= NORM_BLOCK ? 32 : NORM_BLOCK;
    s.teams = s.team < NORM_BLOCK ? NORM_BLOCK / s.team : 1;
    int64_t most = cuda_of(dev)->sms * busy / (s.team * s.teams) / own, each = cuda_blocks(s.rows, s.teams, most > 0 ? most : 1);
    s.step = each * s.teams;
    s.dh = s.step % s.H, s.dt = s.step / s.H % s.T, s.db = s.step / s.H / s.T;
    s.turns = (s.rows + s.step - 1) / s.step;
    if (V) s.turns = (s.turns + 4 / V - 1) / (4 / V);
    *blocks = each * own;
    return s;
}

/* x has numbers. by4: cuda_by4 of all operands but mean and rstd, and w_head is a whole four. */
template <int KIND, class Y> static st_t norm_run_forward(struct kn_dev *dev, const struct kn_tensor *x, const norm_forward<Y> &a, bool by4)
{
    int64_t blocks;
    int V = norm_quads(x, by4);
    norm_rows s = norm_deal(dev, x, V, 1, 4096, &blocks);
    int threads = s.team * s.teams;
    size_t shared = NORM_PART * sizeof(float);
    if (V == 0) CUDA_RUN(dev, (norm_forward_looped<KIND, Y>), blocks, threads, shared, s, a);
    if (V == 1) CUDA_RUN(dev, (norm_forward_held<KIND, 1, Y>), blocks, threads, shared, s, a);
    if (V == 2) CUDA_RUN(dev, (norm_forward_held<KIND, 2, Y>), blocks, threads, shared, s, a);
    if (V == 4) CUDA_RUN(dev, (norm_forward_held<KIND, 4, Y>), blocks, threads, shared, s, a);
    return ST_OK;
}

/* dw [K], or [H K] where every head has weights of its own; db NULL but for LayerNorm. */
template <int KIND, class Z>
static st_t norm_run_backward(struct kn_dev *dev, const struct kn_tensor *x, norm_backward<Z> a, bool by4, const struct kn_tensor *dw, const struct kn_tensor *db)
{
    int64_t blocks, own = a.w_head ? x->d[2] : 1;
    int V = norm_quads(x, by4);
    norm_rows s = norm_deal(dev, x, V, own, 1024, &blocks);
    int threads = s.team * s.teams;
    int64_t width = s.K * (KIND == NORM_LAYER ? 2 : 1), parts = blocks / own * (V ? 1 : s.teams);
    size_t shared = ((size_t)NORM_PART + (V && s.teams > 1 ? (size_t)(s.teams * width) : 0)) * sizeof(float);
    void *p;
    CUDA_TRY(cuda_scratch(dev, CUDA_SLOT_A, (size_t)(parts * own * width) * sizeof(float), &p));
    a.part = (float *)p;
    if (V == 0) CUDA_RUN(dev, (norm_backward_looped<KIND, Z>), blocks, threads, shared, s, a);
    if (V == 1) CUDA_RUN(dev, (norm_backward_held<KIND, 1, Z>), blocks, threads, shared, s, a);
    if (V == 2) CUDA_RUN(dev, (norm_backward_held<KIND, 2, Z>), blocks, threads, shared, s, a);
    if (V == 4) CUDA_RUN(dev, (norm_backward_held<KIND, 4, Z>), blocks, threads, shared, s, a);
    CUDA_RUN(dev, norm_add_parts, cuda_blocks(own * width, NORM_COLUMNS), NORM_COLUMNS * NORM_ADDERS, NORM_COLUMNS * NORM_ADDERS * sizeof(float), (const float *)p, parts, dw,
             db, own * s.K);
    return ST_OK;
}

#endif
