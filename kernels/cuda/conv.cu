/* Causal depthwise convolution and its backward, f32. Bytes an element: forward 1 read, 1 write; backward 2 reads, 1 write. Operations: 2 k and 6 k, and about 20
 * with SiLU.
 *
 * A thread takes W neighbouring channels and a piece of a sequence, down which it goes time by time: the taps, the last k inputs and (backward) the last k gradients
 * before SiLU and the partial gradients of the taps are in registers, so that each number is read once, but for the k - 1 rows before a piece and, backward, behind it.
 * W = 4, 16 bytes an access, for the usual 2 to 4 taps (backward 2, of which twice as many threads fit); else a channel a thread, with registers for 4, 8 or 16 taps,
 * of which the first k are used.
 * Backward: each piece leaves its sums of dw and dbias in scratch; they are added in the order of the pieces (sums.h). */
#include "kernels/cuda/each.h"
#include "kernels/cuda/sums.h"

constexpr int THREADS = 128, STEPS = 4;    /* times that are read ahead */
constexpr int WIDE = 4, WIDE_BACK = 2;     /* channels of a thread */
constexpr int64_t PIECE_LEAST = 16, PIECE_MOST = 256;

/* [B,T,C] with a unit last stride. */
namespace {
template <class T> struct sequence {
    T *p;
    int64_t b, t;
    sequence(const struct kn_tensor *x) : p(kn_absent(x) ? NULL : (T *)x->p), b(p ? x->s[0] : 0), t(p ? x->s[1] : 0) {}
};

struct shape {
    int64_t B, T, C, piece, pieces; /* pieces of `piece` times a sequence */
    int taps, silu;
};
}

/* The taps of W channels, tap[taps ..] zeros, tap[K] the bias. */
template <int K, int W> KN_DEVICE void load_taps(float (&tap)[K + 1][W], const cu_mat<float> &w, const cu_vec<float> &bias, int64_t c, int taps)
{
    KN_UNROLL for (int i = 0; i < W; i++) {
        KN_UNROLL for (int j = 0; j < K; j++) tap[j][i] = j < taps ? *cu_at(w, c + i, j) : 0.0f;
        tap[K][i] = bias.p ? *cu_at(bias, c + i) : 0.0f;
    }
}

/* The row of time t at channel c; zeros where there is none. */
template <int W> KN_DEVICE void load_row(float (&v)[W], const sequence<float> &x, const shape &s, int64_t b, int64_t t, int64_t c)
{
    if (t >= 0 && t < s.T) each_get<W>(x.p + b * x.b + t * x.t + c, v);
    else KN_UNROLL for (int i = 0; i < W; i++) v[i] = 0.0f;
}

/* The same, before t = 0 the state's where there is one. */
template <int W> KN_DEVICE void load_kept(float (&v)[W], const sequence<float> &x, const sequence<float> &state, const shape &s, int64_t b, int64_t t, int64_t c)
{
    if (t < 0 && state.p) each_get<W>(state.p + b * state.b + (t + s.taps - 1) * state.t + c, v);
    else load_row<W>(v, x, s, b, t, c);
}

/* x[0 .. taps - 1]: the inputs up to the newest, which is pushed. Exact: K == taps is known. */
template <int K, int W, bool Exact> KN_DEVICE void push_input(float (&x)[K][W], const float (&v)[W], int taps)
{
    KN_UNROLL for (int j = 0; j < K; j++)
        KN_UNROLL for (int i = 0; i < W; i++) {
            float next = j + 1 < K ? x[j + 1][i] : 0.0f;
            x[j][i] = (Exact ? j == K - 1 : j == taps - 1) ? v[i] : next;
        }
}

/* What SiLU is given: bias + sum of tap_j x_j, j rising. */
template <int K, int W> KN_DEVICE float before_silu(const float (&tap)[K + 1][W], const float (&x)[K][W], int i)
{
    float a = tap[K][i];
    KN_UNROLL for (int j = 0; j < K; j++) a = fmaf(tap[j][i], x[j][i], a);
    return a;
}

/* The thread's place: channels from c on, times t0 .. t1 - 1 of sequence b; whether there are any. */
namespace {
struct place {
    int64_t b, c, t0, t1, number; /* number: of the piece, of all sequences' */
    bool any;
};
}
template <int W> KN_DEVICE place place_of(const shape &s)
{
    place p;
    p.c = ((int64_t)blockIdx.y * blockDim.x + threadIdx.x) * W;
    p.number = (int64_t)blockIdx.x * blockDim.y + threadIdx.y;
    p.any = p.c < s.C && p.number < s.B * s.pieces;
    p.b = p.number / s.pieces;
    p.t0 = (p.number - p.b * s.pieces) * s.piece;
    p.t1 = p.t0 + s.piece < s.T ? p.t0 + s.piece : s.T;
    return p;
}

/* Moves the last taps - 1 inputs of channels c .. c + W - 1 into the state: each place from one later. */
template <int W> KN_DEVICE void keep_inputs(const sequence<float> &x, const sequence<float> &state, const shape &s, int64_t b, int64_t c)
{
    for (int64_t i = 0; i < s.taps - 1; i++) {
        float v[W];
        load_kept<W>(v, x, state, s, b, s.T + i - (s.taps - 1), c);
        each_put<W>(state.p + b * state.b + i * state.t + c, v);
    }
}

/* One piece a sequence: the thread that has read the state also moves the last inputs into it. */
template <int K, int W, bool Exact>
KN_KERNEL(THREADS) forward(sequence<float> x, cu_mat<float> w, cu_vec<float> bias, sequence<float> state, sequence<float> y, shape s)
{
    const int taps = Exact ? K : s.taps;
    place p = place_of<W>(s);
    if (!p.any) return;
    float tap[K + 1][W], in[K][W] = {};
    load_taps<K, W>(tap, w, bias, p.c, taps);
    for (int j = 0; j < taps - 1; j++) {
        float v[W];
        load_kept<W>(v, x, state, s, p.b, p.t0 - (taps - 1) + j, p.c);
        push_input<K, W, Exact>(in, v, taps);
    }
    int times = (int)(p.t1 - p.t0);
    const float *from = x.p + p.b * x.b + p.t0 * x.t + p.c;
    float *to = y.p + p.b * y.b + p.t0 * y.t + p.c;
    for (int t = 0; t < times; t += STEPS) {
        float v[STEPS][W];
        KN_UNROLL for (int k = 0; k < STEPS; k++)
            if (t + k < times) each_get<W>(from + k * x.t, v[k]);
        from += STEPS * x.t;
        KN_UNROLL for (int k = 0; k < STEPS; k++) {
            if (t + k >= times) break;
            float out[W];
            push_input<K, W, Exact>(in, v[k], taps);
            KN_UNROLL for (int i = 0; i < W; i++) {
                float a = before_silu<K, W>(tap, in, i);
                out[i] = s.silu ? a * each_sigmoid(a) : a;
            }
            each_put<W>(to, out);
            to += y.t;
        }
    }
    if (state.p && s.pieces == 1) keep_inputs<W>(x, state, s, p.b, p.c);
}

/* After all pieces have read the state. */
KN_KERNEL(THREADS) keep(sequence<float> x, sequence<float> state, shape s)
{
    int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (i < s.B * s.C) keep_inputs<1>(x, state, s, i / s.C, i % s.C);
}

/* With p what SiLU was given, its gradient  dp = dy (g + p g (1 - g)), g = sigmoid(p):
 *   dx_u = sum_j w_j dp_{u+k-1-j},  dw_j += sum_t dp_t x_{t-k+1+j},  dbias += sum_t dp_t
 * dx comes taps - 1 rows after dp. Behind the piece there are taps - 1 rows of dp alone, of zeros behind the end. part: [pieces][taps + 1][C]. */
template <int K, int W, bool Exact, class DX>
KN_KERNEL(THREADS) backward(sequence<float> x, cu_mat<float> w, cu_vec<float> bias, sequence<float> dy, sequence<DX> dx, shape s, float *part)
{
    const int taps = Exact ? K : s.taps;
    place p = place_of<W>(s);
    if (!p.any) return;
    float tap[K + 1][W], in[K][W] = {}, dp[K][W] = {}, sum[K + 1][W] = {}; /* dp[j]: of j rows ago */
    load_taps<K, W>(tap, w, bias, p.c, taps);
    for (int j = 0; j < taps - 1; j++) {
        float v[W];
        load_row<W>(v, x, s, p.b, p.t0 - (taps - 1) + j, p.c);
        push_input<K, W, Exact>(in, v, taps);
    }
    int own = (int)(p.t1 - p.t0), end = own + taps - 1, there = s.T - p.t0 < end ? (int)(s.T - p.t0) : end;
    const float *from = x.p + p.b * x.b + p.t0 * x.t + p.c, *from_dy = dy.p + p.b * dy.b + p.t0 * dy.t + p.c;
    DX *to = dx.p + p.b * dx.b + p.t0 * dx.t + p.c;
    for (int t = 0; t < end; t += STEPS) {
        float v[STEPS][W], g[STEPS][W];
        KN_UNROLL for (int k = 0; k < STEPS; k++) {
            if (t + k < there) {
                each_get<W>(from + k * x.t, v[k]);
                each_get<W>(from_dy + k * dy.t, g[k]);
            } else {
                KN_UNROLL for (int i = 0; i < W; i++) v[k][i] = g[k][i] = 0.0f;
            }
        }
        from += STEPS * x.t, from_dy += STEPS * dy.t;
        KN_UNROLL for (int k = 0; k < STEPS; k++) {
            if (t + k >= end) break;
            push_input<K, W, Exact>(in, v[k], taps);
            KN_UNROLL for (int i = 0; i < W; i++) {
                float d = g[k][i];
                if (s.silu && t + k < there) {
                    float a = before_silu<K, W>(tap, in, i), e = each_sigmoid(a);
                    d *= fmaf(a * e, 1.0f - e, e);
                }
                KN_UNROLL for (int j = K - 1; j > 0; j--) dp[j][i] = Exact || j < taps ? dp[j - 1][i] : 0.0f;
                dp[0][i] = d;
                if (t + k < own) {
                    KN_UNROLL for (int j = 0; j < K; j++) sum[j][i] = fmaf(d, in[j][i], sum[j][i]);
                    sum[K][i] += d;
                }
            }
            if (t + k < taps - 1) continue;
            float out[W];
            KN_UNROLL for (int i = 0; i < W; i++) {
                out[i] = 0.0f;
                KN_UNROLL for (int j = 0; j < K; j++) out[i] = fmaf(tap[j][i], dp[j][i], out[i]);
            }
            each_put<W>(to, out);
            to += dx.t;
        }
    }
    part += p.number * (taps + 1) * s.C + p.c;
    KN_UNROLL for (int j = 0; j < K; j++)
        if (j < taps) each_put<W>(part + j * s.C, sum[j]);
    each_put<W>(part + taps * s.C, sum[K]);
}

/* W channels at once are within reach of every row. */
static bool by(int W, const struct kn_tensor *x)
{
    return x->d[2] % W == 0 && x->s[0] % W == 0 && x->s[1] % W == 0 && (uintptr_t)x->p % ((size_t)W * kn_dtype_size(x->dtype)) == 0;
}

/* Pieces by shape and card: enough threads to fill it, then long ones, of which fewer rows are read twice. */
static shape shape_of(struct kn_dev *dev, const struct kn_tensor *x, const struct kn_tensor *w, int silu, int W)
{
    shape s = {};
    s.B = x->d[0], s.T = x->d[1], s.C = x->d[2], s.taps = (int)w->d[1], s.silu = silu;
    s.piece = PIECE_MOST;
    while (s.piece > PIECE_LEAST && s.C / W * s.B * cuda_blocks(s.T, s.piece) < 1024 * (int64_t)cuda_of(dev)->sms) s.piece /= 2;
    s.pieces = cuda_blocks(s.T, s.piece);
    return s;
}

namespace {
struct launch {
    dim3 grid, block;
};
}
static struct launch launch_of(const shape &s, int W)
{
    unsigned x = (unsigned)each_across(cuda_blocks(s.C, W), THREADS), y = THREADS / x;
    return {dim3((unsigned)cuda_blocks(s.B * s.pieces, y), (unsigned)cuda_blocks(s.C, (int64_t)W * x)), dim3(x, y)};
}

template <int K, int W, bool Exact>
static st_t run(struct kn_dev *dev, const shape &s, const struct kn_tensor *x, const struct kn_tensor *w, const struct kn_tensor *bias, const struct kn_tensor *state,
                const struct kn_tensor *y)
{
    struct launch l = launch_of(s, W);
    CUDA_RUN(dev, (forward<K, W, Exact>), l.grid, l.block, 0, x, w, bias, state, y, s);
    return ST_OK;
}

template <int K, int W, bool Exact>
static st_t run_back(struct kn_dev *dev, const shape &s, const struct kn_tensor *x, const struct kn_tensor *w, const struct kn_tensor *bias, const struct kn_tensor *dy,
                     const struct kn_tensor *dx, float *part)
{
    struct launch l = launch_of(s, W);
    if (dx->dtype == KN_BF16) CUDA_RUN(dev, (backward<K, W, Exact, bf16>), l.grid, l.block, 0, x, w, bias, dy, dx, s, part);
    else CUDA_RUN(dev, (backward<K, W, Exact, float>), l.grid, l.block, 0, x, w, bias, dy, dx, s, part);
    return ST_OK;
}

extern "C" st_t cuda_conv(struct kn_dev *dev, const struct kn_tensor *x, const struct kn_tensor *w, const struct kn_tensor *bias, int silu, const struct kn_tensor *state,
                          const struct kn_tensor *y)
{
    CUDA_TRY(kn_check_conv(x, w, bias, silu, state, y));
    if (!cuda_is_f32(x)) return ST_ENOTSUP;
    if (!kn_count(x)) return ST_OK;
    if (kn_absent(bias)) bias = NULL;
    int taps = (int)w->d[1];
    bool wide = taps >= 2 && taps <= 4 && by(WIDE, x) && by(WIDE, y) && (kn_absent(state) || by(WIDE, state));
    shape s = shape_of(dev, x, w, silu, wide ? WIDE : 1);
    if (wide && taps == 4) CUDA_TRY((run<4, WIDE, true>(dev, s, x, w, bias, state, y)));
    else if (wide && taps == 3) CUDA_TRY((run<3, WIDE, true>(dev, s, x, w, bias, state, y)));
    else if (wide) CUDA_TRY((run<2, WIDE, true>(dev, s, x, w, bias, state, y)));
    else if (taps <= 4) CUDA_TRY((run<4, 1, false>(dev, s, x, w, bias, state, y)));
    else if (taps <= 8) CUDA_TRY((run<8, 1, false>(dev, s, x, w, bias, state, y)));
    else CUDA_TRY((run<16, 1, false>(dev, s, x, w, bias, state, y)));
    if (!kn_absent(state) && s.pieces > 1) CUDA_RUN(dev, keep, cuda_blocks(s.B * s.C, THREADS), THREADS, 0, x, state, s);
    return ST_OK;
}

extern "C" st_t cuda_conv_bwd(struct kn_dev *dev, const struct kn_tensor *x, const struct kn_tensor *w, const struct kn_tensor *bias, int silu, const struct kn_tensor *dy,
                              const struct kn_tensor *dx, const struct kn_tensor *dw, const struct kn_tensor *dbias)
{
    CUDA_TRY(kn_check_conv_bwd(x, w, bias, silu, dy, dx, dw, dbias));
    if (!cuda_is_f32(x)) return ST_ENOTSUP;
    if (!kn_count(x)) return ST_OK;
    if (kn_absent(bias)) bias = NULL, dbias = NULL;
    int taps = (int)w->d[1];
    bool wide = taps >= 2 && taps <= 4 && by(WIDE_BACK, x) && by(WIDE_BACK, dy) && by(WIDE_BACK, dx);
    shape s = shape_of(dev, x, w, silu, wide ? WIDE_BACK : 1);
    int64_t parts = s.B * s.pieces;
    void *p;
    CUDA_TRY(cuda_scratch(dev, CUDA_SLOT_A, (size_t)(parts * (taps + 1) * s.C) * sizeof(float), &p));
    float *part = (float *)p;
    if (wide && taps == 4) CUDA_TRY((run_back<4, WIDE_BACK, true>(dev, s, x, w, bias, dy, dx, part)));
    else if (wide && taps == 3) CUDA_TRY((run_back<3, WIDE_BACK, true>(dev, s, x, w, bias, dy, dx, part)));
    else if (wide) CUDA_TRY((run_back<2, WIDE_BACK, true>(dev, s, x, w, bias, dy, dx, part)));
    else if (taps <= 4) CUDA_TRY((run_back<4, 1, false>(dev, s, x, w, bias, dy, dx, part)));
    else if (taps <= 8) CUDA_TRY((run_back<8, 1, false>(dev, s, x, w, bias, dy, dx, part)));
    else CUDA_TRY((run_back<16, 1, false>(dev, s, x, w, bias, dy, dx, part)));
    return sums_add(dev, part, parts, taps + 1, s.C, dw, dbias);
}
