/* Gated delta rule in chunks of 64 tokens, and its backward (Yang et al. 2024, arXiv:2406.06484, section 3: the WY form; arXiv:2412.06464, section 3.3: with decays).
 *
 * Within a chunk, S [K,V] the state before it, a_i = e^(g_i), e_i = a_1 .. a_i, f_i = a_(i+1) .. a_n, D_ij = a_(j+1) .. a_i for j <= i (products alone: no logarithms are
 * subtracted, nothing overflows), K' = D * (k k^T) strictly below the diagonal, P = D * (q k^T) up to it:
 *
 *   T = (I + diag(beta) K')^-1     U = T diag(beta) v     W = T diag(beta e) k         chunk by chunk, all at once    (prepare)
 *   d = U - W S                    S <- e_n S + (f k)^T d                              a chunk after the other        (carry)
 *   out = e q S + P d                                                                  all at once                    (answer)
 *
 * Backward, dS' the gradient of the state after the chunk, after prepare and carry again:
 *
 *   Z = P^T dout                                                                       all at once                    (answer)
 *   dd = Z + f (k dS')             dS = e_n dS' + q^T (e dout) - W^T dd                from the last chunk to the first (carry_back)
 *   dr = T^T dd     dx = dv = beta dr     dbeta = dr . err,  err = v - e k S - K' d    all at once                    (back)
 *   dq = (e dout) S^T + (D * dout d^T) k
 *   dk = (f d) dS'^T - (e dx) S^T - X k - X^T k + (D * dout d^T)^T q,  X = D * dx d^T strictly below the diagonal
 *   dg_m: all that crosses from before m to m or later: pairs of the chunk, reads of S from m on, writes to S' before m, and S itself
 *
 * and q and k by way of their norms, summed over the value heads of a key head in order (finish). One token (decoding) is one kernel over the state.
 *
 * Products of bf16 under precision bf16 (operands rounded; sums, decays and triangular systems in f32), else f32. A token of a head costs forward 2 (3 KV + 64 (3K + 2V))
 * operations, and s = 2 or 4 bytes each of 8K + 6V + 2 KV/64 numbers of scratch beside 8K + 8V of operands; backward 2 (8 KV + 64 (7K + 7V)) operations, s each of
 * 15K + 16V + 4 KV/64 + 448 and 44K + 12V. bf16 is bound by memory, f32 by FMA. */
#include "kernels/cuda/tile.h"

/* Operands and scratch of a round of heads. Heads count from the round's first; head i's key head is i / R. */
namespace {
template <class E> struct delta {
    struct tile_heads keys;
    int64_t R, K, V, Kp, Vp, chunks;
    float eps, scale;
    cu_view<const float, 3> g, beta;
    E *q = NULL, *k = NULL, *v = NULL, *dout = NULL;     /* [heads][Tp][Kp or Vp]: normed, scaled, padded */
    E *w = NULL, *d = NULL, *dd = NULL;                  /* W; U, then d; Z, then dd, then dr */
    E *h = NULL, *dh = NULL;                             /* [heads][chunks][Kp][Vp]: before each chunk; the gradient after each */
    E *t = NULL, *p = NULL, *kk = NULL;                  /* [heads][chunks][64][64]: T; P, then D * dout d^T; K' */
    float *e = NULL, *f = NULL, *s = NULL;               /* [heads][Tp]; [heads][Kp][Vp] the state that no thread can hold */
    float *rq = NULL, *rk = NULL, *dq = NULL, *dk = NULL; /* what q and k were multiplied by; [heads][Tp][Kp] the gradients before the norms */
};
}

/* Of a head of the round: its sequence, and its place among the value heads. */
template <class E> KN_DEVICE int64_t sequence(const delta<E> &o, int64_t head)
{
    return (o.keys.first + head / o.R) / o.keys.H;
}
template <class E> KN_DEVICE int64_t value_head(const delta<E> &o, int64_t head)
{
    return (o.keys.first + head / o.R) % o.keys.H * o.R + head % o.R;
}

/* A chunk's numbers, one a token; those of a chunk's tokens past the sequence's end change nothing. */
namespace {
struct tokens {
    float a[TILE], beta[TILE], e[TILE], f[TILE];
    float from[TILE], to[TILE]; /* a_first .. a_i and a_(i+1) .. a_last of its piece of 16 */
};
}

/* Fills t, and D [64][PITCH] if it is not NULL. Ends with a barrier. */
template <class E> KN_DEVICE void decays(const delta<E> &o, int64_t head, int64_t chunk, struct tokens *t, float *D)
{
    constexpr int P = tile_of<float>::PITCH;
    int i = threadIdx.x % TILE, piece = threadIdx.x / TILE;
    if (piece == 0) {
        int64_t at = chunk * TILE + i, b = sequence(o, head), h = value_head(o, head);
        t->a[i] = at < o.keys.T ? expf(*cu_at(o.g, b, at, h)) : 1.0f;
        t->beta[i] = at < o.keys.T ? *cu_at(o.beta, b, at, h) : 0.0f;
    }
    __syncthreads();
    if (piece == 0) {
        int first = i / PIECE * PIECE;
        float c = 1, b = 1;
        for (int m = first; m < first + PIECE; m++) {
            if (m <= i) c *= t->a[m];
            else b *= t->a[m];
        }
        t->from[i] = c, t->to[i] = b;
    }
    __syncthreads();
    if (piece == 0) {
        float e = t->from[i], f = t->to[i];
        for (int m = i / PIECE - 1; m >= 0; m--) e *= t->from[m * PIECE + PIECE - 1];
        for (int m = i / PIECE + 1; m < PIECES; m++) f *= t->from[m * PIECE + PIECE - 1];
        t->e[i] = e, t->f[i] = f;
    }
    if (D) { /* a thread a column and a piece of the rows */
        int own = i / PIECE;
        float w = piece > own ? t->to[i] : 0.0f;
        for (int m = own + 1; m < piece; m++) w *= t->from[m * PIECE + PIECE - 1];
        for (int r = piece * PIECE; r < piece * PIECE + PIECE; r++) {
            w = r == i ? 1.0f : w * t->a[r];
            D[r * P + i] = w;
        }
    }
    __syncthreads();
}

/* X = (I + A)^-1, A strictly lower triangular, both [64][PITCH]. Blocks of 16 column by column, then twice by halves: the lower left of the inverse of [L 0; M N] is
 * -N^-1 M L^-1. A's upper half is overwritten. Begins and ends with a barrier. */
KN_DEVICE void invert(float *A, float *X)
{
    constexpr int P = tile_of<float>::PITCH;
    __syncthreads();
    for (int i = threadIdx.x; i < TILE * TILE; i += TILE_THREADS)
        if (i / TILE / PIECE != i % TILE / PIECE) X[i / TILE * P + i % TILE] = 0;
    if (threadIdx.x < TILE) {
        int at = threadIdx.x / PIECE * PIECE, j = threadIdx.x % PIECE;
        float x[PIECE];
        KN_UNROLL for (int i = 0; i < PIECE; i++) {
            float s = i == j ? 1.0f : 0.0f;
            KN_UNROLL for (int m = 0; m < i; m++) s = fmaf(-A[(at + i) * P + at + m], x[m], s);
            X[(at + i) * P + at + j] = x[i] = s;
        }
    }
    __syncthreads();
    for (int s = PIECE; s < TILE; s *= 2) {
        for (int i = threadIdx.x; i < TILE / 2 * s; i += TILE_THREADS) {
            int at = i / (s * s) * 2 * s, r = i / s % s, c = i % s;
            float sum = 0;
            for (int m = c; m < s; m++) sum = fmaf(A[(at + s + r) * P + at + m], X[(at + m) * P + at + c], sum);
            A[(at + r) * P + at + s + c] = sum;
        }
        __syncthreads();
        for (int i = threadIdx.x; i < TILE / 2 * s; i += TILE_THREADS) {
            int at = i / (s * s) * 2 * s, r = i / s % s, c = i % s;
            float sum = 0;
            for (int m = 0; m <= r; m++) sum = fmaf(X[(at + s + r) * P + at + s + m], A[(at + m) * P + at + s + c], sum);
            X[(at + s + r) * P + at + c] = -sum;
        }
        __syncthreads();
    }
}

/* A block a chunk of a head: W, U, e, f; and with keep T and K', which the backward needs. */
template <class E> KN_KERNEL_MIN(TILE_THREADS, 2) prepare(delta<E> o, bool keep)
{
    KN_SHARED(float, A);
    constexpr int P = tile_of<float>::PITCH;
    float *X = A + tile_size<float>, sum[TILE_SUMS];
    struct tokens *t = (struct tokens *)(X + tile_size<float>);
    E *buf = (E *)(t + 1), *left = buf + 2 * tile_size<E>;
    int64_t head = blockIdx.x / o.chunks, chunk = blockIdx.x % o.chunks, row = head * o.keys.Tp + chunk * TILE;
    const E *k = o.k + (head / o.R * o.keys.Tp + chunk * TILE) * o.Kp;
    decays(o, head, chunk, t, X);
    if (threadIdx.x < TILE) o.e[row + threadIdx.x] = t->e[threadIdx.x], o.f[row + threadIdx.x] = t->f[threadIdx.x];
    tile_zero(sum);
    tile_stream<E, false, true>(sum, k, o.Kp, TILE, (const E *)NULL, (const E *)NULL, 0, 0, (int)(o.Kp / TILE), buf);
    E *kk = o.kk + (int64_t)blockIdx.x * TILE * TILE;
    KN_UNROLL for (int i = 0; i < TILE_SUMS; i++) {
        int r = tile_row<E>(i), c = tile_col<E, true>(i);
        float w = r > c ? X[r * P + c] * sum[i] : 0.0f;
        A[r * P + c] = w * t->beta[r];
        if (keep) cu_put(kk + r * TILE + c, w);
    }
    invert(A, X);
    for (int i = threadIdx.x; i < TILE * TILE; i += TILE_THREADS) {
        int r = i / TILE, c = i % TILE;
        float x = X[r * P + c];
        cu_put(left + r * tile_of<E>::PITCH + c, x * t->beta[c]);
        if (keep) cu_put(o.t + (int64_t)blockIdx.x * TILE * TILE + i, x);
    }
    for (int64_t v = 0; v < o.Vp; v += TILE) {
        tile_zero(sum);
        tile_stream<E, false, false>(sum, (const E *)NULL, 0, 0, left, o.v + row * o.Vp + v, o.Vp, 0, 1, buf);
        tile_put<E, E, false>(o.d + row * o.Vp + v, o.Vp, sum);
    }
    for (int i = threadIdx.x; i < TILE * TILE; i += TILE_THREADS) {
        int r = i / TILE, c = i % TILE;
        cu_put(left + r * tile_of<E>::PITCH + c, X[r * P + c] * (t->beta[c] * t->e[c]));
    }
    for (int64_t c = 0; c < o.Kp; c += TILE) {
        tile_zero(sum);
        tile_stream<E, false, false>(sum, (const E *)NULL, 0, 0, left, k + c, o.Kp, 0, 1, buf);
        tile_put<E, E, false>(o.w + row * o.Kp + c, o.Kp, sum);
    }
}
template <class E> static size_t prepare_shared(void)
{
    return 2 * tile_bytes<float> + sizeof(struct tokens) + 3 * tile_bytes<E>;
}

/* The state's rows [64 N, 64 columns from v on] of a head as sums, and back; s absent: zero. */
template <class E> KN_DEVICE float state_at(const cu_view<float, 4> &s, const delta<E> &o, int64_t b, int64_t h, int64_t k, int64_t v)
{
    return s.p && k < o.K && v < o.V ? *cu_at(s, b, h, k, v) : 0.0f;
}

/* A block a head and 64 columns of the state, chunk after chunk: d in U's place, h. N > 0: threads hold the state, K <= 64 N, and the tiles of W and k come through a
 * ring; N = 0: it lies in o.s, and any K goes. */
template <class E, int N> KN_KERNEL_MIN(TILE_THREADS, (N > 2 ? 1 : 2)) carry(delta<E> o, cu_view<float, 4> s)
{
    KN_SHARED(E, ring);
    constexpr int HELD = N ? N : 1, RING = tile_of<E>::RING;
    E *fd = ring + (N ? RING : 4) * tile_size<E>, *held = N ? fd + tile_size<E> : ring;
    int64_t slabs = o.Vp / TILE, head = blockIdx.x / slabs, v = blockIdx.x % slabs * TILE, b = sequence(o, head), vh = value_head(o, head);
    const E *w = o.w + head * o.keys.Tp * o.Kp, *k = o.k + head / o.R * o.keys.Tp * o.Kp;
    E *d = o.d + head * o.keys.Tp * o.Vp + v, *h = o.h + head * o.chunks * o.Kp * o.Vp + v;
    const float *e = o.e + head * o.keys.Tp, *f = o.f + head * o.keys.Tp;
    float S[HELD][TILE_SUMS], sum[TILE_SUMS];
    int64_t cells = o.Kp * o.Vp;
    int step = 0, chunks = (int)o.chunks, steps = chunks * 2 * N;
    float *far = N ? (float *)NULL : o.s + head * cells + v;
    auto fetch = [&](int i) {
        if (i < steps) {
            int c = i / (2 * HELD), j = i % (2 * HELD);
            tile_fetch(ring + i % RING * tile_size<E>, (j < N ? w : k) + c * TILE * o.Kp + j % HELD * TILE, o.Kp);
        }
        kn_cp_commit();
    };
    /* Waits for the ring's tile of this step and asks for a later one: all have done with what it overwrites. */
    auto next = [&]() {
        kn_cp_wait<RING - 2>();
        __syncthreads();
        const E *tile = ring + step % RING * tile_size<E>;
        fetch(step + RING - 1);
        step++;
        return tile;
    };
    auto out = [&](int c) { /* the state before chunk c */
        KN_UNROLL for (int n = 0; n < N; n++) {
            if (c < chunks) tile_put<E, E, false>(h + c * cells + n * TILE * o.Vp, o.Vp, S[n]);
            tile_put<E, E, false>(held + n * tile_size<E>, tile_of<E>::PITCH, S[n]);
        }
    };
    if constexpr (N > 0) {
        KN_UNROLL for (int n = 0; n < N; n++)
            KN_UNROLL for (int i = 0; i < TILE_SUMS; i++) S[n][i] = state_at(s, o, b, vh, n * TILE + tile_row<E>(i), v + tile_col<E, false>(i));
        out(0);
        for (int i = 0; i < RING - 1; i++) fetch(i);
    } else {
        for (int64_t n = 0; n < o.Kp; n += TILE)
            KN_UNROLL for (int i = 0; i < TILE_SUMS; i++) {
                int r = tile_row<E>(i), c = tile_col<E, false>(i);
                float x = state_at(s, o, b, vh, n + r, v + c);
                far[(n + r) * o.Vp + c] = x;
                cu_put(h + (n + r) * o.Vp + c, x);
            }
    }
    for (int c = 0; c < chunks; c++) {
        int64_t row = (int64_t)c * TILE;
        float kept = e[row + TILE - 1];
        tile_zero(sum);
        if constexpr (N > 0) {
            KN_UNROLL for (int n = 0; n < N; n++) tile_mul<false, false, false>(sum, next(), held + n * tile_size<E>);
        } else {
            tile_stream<E, false, false>(sum, w + row * o.Kp, o.Kp, TILE, (const E *)NULL, h + c * cells, o.Vp, TILE * o.Vp, (int)(o.Kp / TILE), held);
        }
        KN_UNROLL for (int i = 0; i < TILE_SUMS; i++) {
            int r = tile_row<E>(i), j = tile_col<E, false>(i);
            E *at = d + (row + r) * o.Vp + j;
            float x = cu_get(at) - sum[i];
            cu_put(at, x);
            cu_put(fd + r * tile_of<E>::PITCH + j, x * f[row + r]);
        }
        if constexpr (N > 0) {
            KN_UNROLL for (int n = 0; n < N; n++) {
                KN_UNROLL for (int i = 0; i < TILE_SUMS; i++) S[n][i] *= kept;
                tile_mul<true, false, false>(S[n], next(), fd);
            }
            out(c + 1);
        } else {
            for (int64_t n = 0; n < o.Kp; n += TILE) {
                KN_UNROLL for (int i = 0; i < TILE_SUMS; i++) sum[i] = kept * far[(n + tile_row<E>(i)) * o.Vp + tile_col<E, false>(i)];
                tile_stream<E, true, false>(sum, k + row * o.Kp + n, o.Kp, 0, fd, (const E *)NULL, 0, 0, 1, held);
                tile_put<E, float, false>(far + n * o.Vp, o.Vp, sum);
                if (c + 1 < chunks) tile_put<E, E, false>(h + (c + 1) * cells + n * o.Vp, o.Vp, sum);
            }
        }
    }
    if (!s.p) return;
    if constexpr (N > 0) {
        KN_UNROLL for (int n = 0; n < N; n++)
            KN_UNROLL for (int i = 0; i < TILE_SUMS; i++) {
                int64_t r = n * TILE + tile_row<E>(i), j = v + tile_col<E, false>(i);
                if (r < o.K && j < o.V) *cu_at(s, b, vh, r, j) = S[n][i];
            }
    } else {
        for (int64_t n = 0; n < o.Kp; n += TILE)
            KN_UNROLL for (int i = 0; i < TILE_SUMS; i++) {
                int64_t r = n + tile_row<E>(i), j = v + tile_col<E, false>(i);
                if (r < o.K && j < o.V) *cu_at(s, b, vh, r, j) = far[r * o.Vp + j - v];
            }
    }
}
/* Of carry and carry_back. */
template <class E> static size_t carry_shared(int64_t tiles)
{
    return (size_t)(tiles ? tile_of<E>::RING + 1 + tiles : 5) * tile_bytes<E>;
}
/* Tiles of the state's rows that threads can hold, with a multiprocessor's memory behind them; or 0. */
template <class E> static int64_t carry_tiles(struct kn_dev *dev, const delta<E> *o)
{
    int64_t tiles = o->Kp / TILE;
    return tiles <= 4 && carry_shared<E>(tiles) <= cuda_of(dev)->shared_most ? tiles : 0;
}

/* A block a chunk of a head. Forward: out. BACK: P, and Z in dd. */
template <class E, bool BACK> KN_KERNEL_MIN(TILE_THREADS, 2) answer(delta<E> o, cu_view<float, 4> out)
{
    KN_SHARED(float, D);
    constexpr int P = tile_of<float>::PITCH, PE = tile_of<E>::PITCH;
    struct tokens *t = (struct tokens *)(D + tile_size<float>);
    E *buf = (E *)(t + 1), *p = sizeof(E) == 4 ? (E *)D : buf + 4 * tile_size<E>; /* of f32 in D's place: each thread overwrites what it alone reads */
    float sum[TILE_SUMS];
    int64_t head = blockIdx.x / o.chunks, chunk = blockIdx.x % o.chunks, row = head * o.keys.Tp + chunk * TILE, b = sequence(o, head), h = value_head(o, head);
    int64_t key = (head / o.R * o.keys.Tp + chunk * TILE) * o.Kp;
    int slabs = (int)(o.Kp / TILE);
    decays(o, head, chunk, t, D);
    tile_zero(sum);
    tile_stream<E, false, true>(sum, o.q + key, o.Kp, TILE, (const E *)NULL, o.k + key, o.Kp, TILE, slabs, buf);
    KN_UNROLL for (int i = 0; i < TILE_SUMS; i++) {
        int r = tile_row<E>(i), c = tile_col<E, true>(i);
        float w = D[r * P + c] * sum[i];
        cu_put(p + r * PE + c, w);
        if (BACK) cu_put(o.p + ((int64_t)blockIdx.x * TILE + r) * TILE + c, w);
    }
    for (int64_t v = 0; v < o.Vp; v += TILE) {
        tile_zero(sum);
        if (BACK) {
            tile_stream<E, true, false>(sum, (const E *)NULL, 0, 0, p, o.dout + row * o.Vp + v, o.Vp, 0, 1, buf);
            tile_put<E, E, false>(o.dd + row * o.Vp + v, o.Vp, sum);
            continue;
        }
        tile_stream<E, false, false>(sum, o.q + key, o.Kp, TILE, (const E *)NULL, o.h + blockIdx.x * o.Kp * o.Vp + v, o.Vp, TILE * o.Vp, slabs, buf);
        KN_UNROLL for (int i = 0; i < TILE_SUMS; i++) sum[i] *= t->e[tile_row<E>(i)];
        tile_stream<E, false, false>(sum, (const E *)NULL, 0, 0, p, o.d + row * o.Vp + v, o.Vp, 0, 1, buf);
        KN_UNROLL for (int i = 0; i < TILE_SUMS; i++) {
            int64_t at = chunk * TILE + tile_row<E>(i), j = v + tile_col<E, false>(i);
            if (at < o.keys.T && j < o.V) *cu_at(out, b, at, h, j) = sum[i];
        }
    }
}
template <class E> static size_t answer_shared(void)
{
    return tile_bytes<float> + sizeof(struct tokens) + (sizeof(E) == 4 ? 4 : 5) * tile_bytes<E>;
}

/* The gradient of the state from the last chunk to the first, as carry: dd in Z's place, dh. */
template <class E, int N> KN_KERNEL_MIN(TILE_THREADS, (N > 2 ? 1 : 2)) carry_back(delta<E> o)
{
    KN_SHARED(E, ring);
    constexpr int PE = tile_of<E>::PITCH, HELD = N ? N : 1, RING = tile_of<E>::RING;
    E *right = ring + (N ? RING : 4) * tile_size<E>, *held = N ? right + tile_size<E> : ring;
    int64_t slabs = o.Vp / TILE, head = blockIdx.x / slabs, v = blockIdx.x % slabs * TILE, key = head / o.R * o.keys.Tp * o.Kp;
    const E *w = o.w + head * o.keys.Tp * o.Kp, *k = o.k + key, *q = o.q + key, *dout = o.dout + head * o.keys.Tp * o.Vp + v;
    E *dd = o.dd + head * o.keys.Tp * o.Vp + v, *dh = o.dh + head * o.chunks * o.Kp * o.Vp + v;
    const float *e = o.e + head * o.keys.Tp, *f = o.f + head * o.keys.Tp;
    float S[HELD][TILE_SUMS], sum[TILE_SUMS];
    int64_t cells = o.Kp * o.Vp;
    int step = 0, chunks = (int)o.chunks, steps = chunks * 3 * N;
    float *far = N ? (float *)NULL : o.s + head * cells + v;
    auto fetch = [&](int i) {
        if (i < steps) {
            int c = chunks - 1 - i / (3 * HELD), j = i % (3 * HELD);
            tile_fetch(ring + i % RING * tile_size<E>, (j < N ? k : j < 2 * N ? w : q) + c * TILE * o.Kp + j % HELD * TILE, o.Kp);
        }
        kn_cp_commit();
    };
    auto next = [&]() {
        kn_cp_wait<RING - 2>();
        __syncthreads();
        const E *tile = ring + step % RING * tile_size<E>;
        fetch(step + RING - 1);
        step++;
        return tile;
    };
    if constexpr (N > 0) {
        KN_UNROLL for (int n = 0; n < N; n++) tile_zero(S[n]);
        for (int i = 0; i < RING - 1; i++) fetch(i);
    } else {
        for (int64_t n = 0; n < o.Kp; n += TILE)
            KN_UNROLL for (int i = 0; i < TILE_SUMS; i++) far[(n + tile_row<E>(i)) * o.Vp + tile_col<E, false>(i)] = 0;
    }
    for (int c = chunks - 1; c >= 0; c--) {
        int64_t row = (int64_t)c * TILE;
        float kept = e[row + TILE - 1];
        tile_zero(sum);
        if constexpr (N > 0) {
            KN_UNROLL for (int n = 0; n < N; n++) {
                tile_put<E, E, false>(dh + c * cells + n * TILE * o.Vp, o.Vp, S[n]);
                tile_put<E, E, false>(held + n * tile_size<E>, PE, S[n]);
            }
            KN_UNROLL for (int n = 0; n < N; n++) tile_mul<false, false, false>(sum, next(), held + n * tile_size<E>);
        } else {
            for (int64_t n = 0; n < o.Kp; n += TILE)
                KN_UNROLL for (int i = 0; i < TILE_SUMS; i++) {
                    int r = tile_row<E>(i), j = tile_col<E, false>(i);
                    cu_put(dh + c * cells + (n + r) * o.Vp + j, far[(n + r) * o.Vp + j]);
                }
            tile_stream<E, false, false>(sum, k + row * o.Kp, o.Kp, TILE, (const E *)NULL, dh + c * cells, o.Vp, TILE * o.Vp, (int)(o.Kp / TILE), held);
        }
        KN_UNROLL for (int i = 0; i < TILE_SUMS; i++) {
            int r = tile_row<E>(i), j = tile_col<E, false>(i);
            E *at = dd + (row + r) * o.Vp + j;
            float x = fmaf(f[row + r], sum[i], cu_get(at));
            cu_put(at, x);
            cu_put(right + r * PE + j, -x);
        }
        auto read = [&]() { /* right: e dout, when all have done with dd there */
            __syncthreads();
            KN_UNROLL for (int i = 0; i < TILE_SUMS; i++) {
                int r = tile_row<E>(i), j = tile_col<E, false>(i);
                cu_put(right + r * PE + j, e[row + r] * cu_get(dout + (row + r) * o.Vp + j));
            }
        };
        if constexpr (N > 0) {
            KN_UNROLL for (int n = 0; n < N; n++) {
                KN_UNROLL for (int i = 0; i < TILE_SUMS; i++) S[n][i] *= kept;
                tile_mul<true, false, false>(S[n], next(), right);
            }
            read();
            KN_UNROLL for (int n = 0; n < N; n++) tile_mul<true, false, false>(S[n], next(), right);
        } else {
            for (int side = 0; side < 2; side++) {
                for (int64_t n = 0; n < o.Kp; n += TILE) {
                    KN_UNROLL for (int i = 0; i < TILE_SUMS; i++) sum[i] = (side ? 1.0f : kept) * far[(n + tile_row<E>(i)) * o.Vp + tile_col<E, false>(i)];
                    tile_stream<E, true, false>(sum, (side ? q : w) + row * o.Kp + n, o.Kp, 0, right, (const E *)NULL, 0, 0, 1, held);
                    tile_put<E, float, false>(far + n * o.Vp, o.Vp, sum);
                }
                if (side == 0) read();
            }
        }
    }
}

/* m [64][PITCH], what crosses between pairs (row after column): cross [64] = for each token the sum over rows from it on and columns before it. m is overwritten;
 * part: 4 x 64 floats. Begins and ends with a barrier. */
KN_DEVICE void crossing(float *m, float *part, float *cross)
{
    constexpr int P = tile_of<float>::PITCH;
    int c = threadIdx.x % TILE, piece = threadIdx.x / TILE, first = piece * PIECE;
    float s = 0;
    __syncthreads();
    for (int r = first; r < first + PIECE; r++) s += m[r * P + c];
    part[threadIdx.x] = s;
    __syncthreads();
    s = 0;
    for (int i = PIECES - 1; i > piece; i--) s += part[i * TILE + c];
    for (int r = first + PIECE - 1; r >= first; r--) m[r * P + c] = s += m[r * P + c];
    __syncthreads();
    int r = threadIdx.x / 4;
    s = 0;
    for (int i = threadIdx.x % 4; i < r; i += 4) s += m[r * P + i];
    s += __shfl_xor_sync(KN_FULL, s, 1);
    s += __shfl_xor_sync(KN_FULL, s, 2);
    if (threadIdx.x % 4 == 0) cross[r] = s;
    __syncthreads();
}

namespace {
struct backward_sums {
    float read[TILE], wrote[TILE], dbeta[TILE], cross[TILE];
    float part[3][2 * TILE], warps[32];
};
}

/* A block a chunk of a head: dv, dg, dbeta, and of q and k before their norms dq, dk; dr in dd's place. */
template <class E> KN_KERNEL_MIN(TILE_THREADS, 2) back(delta<E> o, cu_view<float, 4> dv, cu_view<float, 3> dg, cu_view<float, 3> dbeta)
{
    KN_SHARED(float, D);
    constexpr int P = tile_of<float>::PITCH, PE = tile_of<E>::PITCH;
    struct tokens *t = (struct tokens *)(D + tile_size<float>);
    struct backward_sums *x = (struct backward_sums *)(t + 1);
    E *buf = (E *)(x + 1), *mx = sizeof(E) == 4 ? (E *)D : buf + 4 * tile_size<E>; /* of f32 in D's place, as in answer */
    int64_t head = blockIdx.x / o.chunks, chunk = blockIdx.x % o.chunks, row = head * o.keys.Tp + chunk * TILE, b = sequence(o, head), h = value_head(o, head);
    int64_t key = (head / o.R * o.keys.Tp + chunk * TILE) * o.Kp, pairs = (int64_t)blockIdx.x * TILE * TILE, state = (int64_t)blockIdx.x * o.Kp * o.Vp;
    int slabs = (int)(o.Vp / TILE), Kp = (int)o.Kp, me = threadIdx.x;
    float sum[TILE_SUMS], other[TILE_SUMS];
    decays(o, head, chunk, t, D);
    if (me < TILE) x->read[me] = x->wrote[me] = x->dbeta[me] = 0;

    for (int64_t v = 0; v < o.Vp; v += TILE) {
        E *dr = o.dd + row * o.Vp + v;
        tile_zero(sum);
        tile_stream<E, true, false>(sum, o.t + pairs, TILE, 0, (const E *)NULL, dr, o.Vp, 0, 1, buf);
        tile_put<E, E, false>(dr, o.Vp, sum);
        KN_UNROLL for (int i = 0; i < TILE_SUMS; i++) {
            int r = tile_row<E>(i), c = tile_col<E, false>(i);
            int64_t at = chunk * TILE + r;
            if (at < o.keys.T && v + c < o.V) *cu_at(dv, b, at, h, v + c) = t->beta[r] * sum[i];
            sum[i] *= cu_get(o.v + (row + r) * o.Vp + v + c);
        }
        tile_row_sums<E>(sum, x->part[0]);
        __syncthreads();
        if (me < TILE) x->dbeta[me] += x->part[0][me] + x->part[0][TILE + me];
    }

    tile_zero(sum);
    tile_zero(other);
    tile_stream<E, false, true>(sum, o.dout + row * o.Vp, o.Vp, TILE, (const E *)NULL, o.d + row * o.Vp, o.Vp, TILE, slabs, buf);
    tile_stream<E, false, true>(other, o.dd + row * o.Vp, o.Vp, TILE, (const E *)NULL, o.d + row * o.Vp, o.Vp, TILE, slabs, buf);
    float *cross = (float *)buf;
    KN_UNROLL for (int i = 0; i < TILE_SUMS; i++) {
        int r = tile_row<E>(i), c = tile_col<E, true>(i);
        E *p = o.p + pairs + r * TILE + c;
        float w = D[r * P + c], k = cu_get(o.kk + pairs + r * TILE + c);
        cross[r * P + c] = cu_get(p) * sum[i] - k * (t->beta[r] * other[i]);
        cu_put(p, w * sum[i]);
        cu_put(mx + r * PE + c, r > c ? -w * (t->beta[r] * other[i]) : 0.0f);
        other[i] *= -k;
    }
    tile_row_sums<E>(other, x->part[0]);
    crossing(cross, &x->part[1][0], x->cross);
    if (me < TILE) x->dbeta[me] += x->part[0][me] + x->part[0][TILE + me];

    float through = 0;
    for (int64_t n = 0; n < o.Kp; n += TILE) {
        float part[TILE_SUMS];
        const E *S = o.h + state + n * o.Vp, *dS = o.dh + state + n * o.Vp, *qn = o.q + key + n, *kn = o.k + key + n;
        tile_zero(sum);
        tile_stream<E, false, true>(sum, o.d + row * o.Vp, o.Vp, TILE, (const E *)NULL, dS, o.Vp, TILE, slabs, buf);
        KN_UNROLL for (int i = 0; i < TILE_SUMS; i++) {
            int r = tile_row<E>(i);
            sum[i] *= t->f[r];
            part[i] = cu_get(kn + (r * Kp + tile_col<E, true>(i))) * sum[i];
        }
        tile_row_sums<E>(part, x->part[0]);
        tile_zero(other);
        tile_stream<E, false, true>(other, o.dd + row * o.Vp, o.Vp, TILE, (const E *)NULL, S, o.Vp, TILE, slabs, buf);
        KN_UNROLL for (int i = 0; i < TILE_SUMS; i++) {
            int r = tile_row<E>(i);
            float k = cu_get(kn + (r * Kp + tile_col<E, true>(i)));
            other[i] *= -t->e[r];
            part[i] = k * other[i];
            other[i] = fmaf(t->beta[r], other[i], sum[i]);
        }
        tile_row_sums<E>(part, x->part[1]);
        tile_zero(sum);
        tile_stream<E, false, true>(sum, o.dout + row * o.Vp, o.Vp, TILE, (const E *)NULL, S, o.Vp, TILE, slabs, buf);
        KN_UNROLL for (int i = 0; i < TILE_SUMS; i++) {
            int r = tile_row<E>(i);
            sum[i] *= t->e[r];
            part[i] = cu_get(qn + (r * Kp + tile_col<E, true>(i))) * sum[i];
        }
        tile_row_sums<E>(part, x->part[2]);
        for (int64_t c = me; c < TILE * o.Vp; c += TILE_THREADS) through = fmaf(cu_get(S + c), cu_get(dS + c), through);
        __syncthreads();
        if (me < TILE) {
            float read = x->part[1][me] + x->part[1][TILE + me]; /* by k, before beta */
            x->wrote[me] += x->part[0][me] + x->part[0][TILE + me];
            x->dbeta[me] += read;
            x->read[me] += fmaf(t->beta[me], read, x->part[2][me] + x->part[2][TILE + me]);
        }
        E *kt = buf, *qt = buf + tile_size<E>, *mo = buf + 2 * tile_size<E>;
        tile_fetch(kt, o.k + key + n, o.Kp);
        tile_fetch(qt, o.q + key + n, o.Kp);
        tile_fetch(mo, o.p + pairs, TILE);
        kn_cp_commit();
        kn_cp_wait<0>();
        __syncthreads();
        tile_mul<false, false, true>(sum, mo, kt);
        tile_mul<false, false, true>(other, mx, kt);
        tile_mul<true, false, true>(other, mx, kt);
        tile_mul<true, false, true>(other, mo, qt);
        tile_put<E, float, true>(o.dq + row * o.Kp + n, o.Kp, sum);
        tile_put<E, float, true>(o.dk + row * o.Kp + n, o.Kp, other);
    }
    through = cu_block_sum(through, x->warps) * t->e[TILE - 1];
    int64_t at = chunk * TILE + me;
    if (me >= TILE || at >= o.keys.T) return;
    float g = x->cross[me] + through;
    for (int m = TILE - 1; m >= me; m--) g += x->read[m];
    for (int m = 0; m < me; m++) g += x->wrote[m];
    *cu_at(dg, b, at, h) = g;
    *cu_at(dbeta, b, at, h) = x->dbeta[me];
}
template <class E> static size_t back_shared(void)
{
    return tile_bytes<float> + sizeof(struct tokens) + sizeof(struct backward_sums) + (sizeof(E) == 4 ? 4 : 5) * tile_bytes<E>;
}

/* dx [B,T,G,K] = r (d - y (y . d) / m^2), d the sum of the key head's R gradients in order: back through y = x r, r = m / |x|; or r d where nothing was normed. A warp
 * a row. */
template <class E> KN_KERNEL(TILE_THREADS) finish(delta<E> o, const E *y, const float *r, const float *d, float m, cu_view<float, 4> dx, int64_t rows)
{
    int64_t row = (int64_t)blockIdx.x * (TILE_WARPS) + threadIdx.x / 32, lane = threadIdx.x % 32;
    int64_t t = row % o.keys.Tp, pair = row / o.keys.Tp, head = o.keys.first + pair;
    if (row >= rows || t >= o.keys.T) return;
    const float *from = d + (pair * o.R * o.keys.Tp + t) * o.Kp;
    float *to = cu_at(dx, head / o.keys.H, t, head % o.keys.H, 0), dot = 0, by = r[row];
    y += row * o.Kp;
    for (int64_t k = lane; k < o.K; k += 32) {
        float s = 0;
        for (int64_t i = 0; i < o.R; i++) s += from[i * o.keys.Tp * o.Kp + k];
        to[k] = s; /* this lane alone reads it again */
        dot = fmaf(cu_get(y + k), s, dot);
    }
    dot = o.eps >= 0 ? cu_warp_sum(dot) / (m * m) : 0.0f;
    for (int64_t k = lane; k < o.K; k += 32) to[k] = by * fmaf(-cu_get(y + k), dot, to[k]);
}

/* One token after a state: out = e^g S^T q + (k . q) d; S <- e^g S + k (x) d. A block 32 columns of a head's state, its warps K in turn; the second pass over the
 * state finds it in the cache. */
KN_KERNEL(TILE_THREADS)
token(cu_view<const float, 4> q, cu_view<const float, 4> k, cu_view<const float, 4> v, cu_view<const float, 3> g, cu_view<const float, 3> beta, float eps, float scale,
      cu_view<float, 4> s, cu_view<float, 4> out, int64_t G, int64_t R, int64_t K, int64_t V)
{
    KN_SHARED(float, mem);
    int64_t across = (V + 31) / 32, head = blockIdx.x / across, b = head / (G * R), h = head % (G * R);
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    int64_t j = blockIdx.x % across * 32 + lane;
    bool in = j < V;
    const float *qr = cu_at(q, b, 0, h / R, 0), *kr = cu_at(k, b, 0, h / R, 0);
    float *S = cu_at(s, b, h, 0, in ? j : 0);
    float qq = 0, kk = 0, kq = 0, sk = 0, sq = 0;
    for (int64_t i = lane; i < K; i += 32) {
        float x = qr[i], y = kr[i];
        qq = fmaf(x, x, qq), kk = fmaf(y, y, kk), kq = fmaf(x, y, kq);
    }
    qq = cu_warp_sum(qq), kk = cu_warp_sum(kk), kq = cu_warp_sum(kq);
    float rq = eps >= 0 ? scale / sqrtf(qq + eps) : scale, rk = eps >= 0 ? 1.0f / sqrtf(kk + eps) : 1.0f;
    for (int64_t i = warp; i < K; i += TILE_WARPS) {
        float x = S[i * s.s[2]];
        sk = fmaf(x, kr[i], sk), sq = fmaf(x, qr[i], sq);
    }
    mem[threadIdx.x] = sk, mem[TILE_THREADS + threadIdx.x] = sq;
    __syncthreads();
    sk = sq = 0;
    for (int w = 0; w < TILE_WARPS; w++) sk += mem[w * 32 + lane], sq += mem[TILE_THREADS + w * 32 + lane];
    if (!in) return;
    float decay = expf(*cu_at(g, b, 0, h)), d = *cu_at(beta, b, 0, h) * (*cu_at(v, b, 0, h, j) - decay * rk * sk);
    if (warp == 0) *cu_at(out, b, 0, h, j) = fmaf(kq * rk * rq, d, decay * rq * sq);
    d *= rk;
    for (int64_t i = warp; i < K; i += TILE_WARPS) S[i * s.s[2]] = fmaf(kr[i], d, decay * S[i * s.s[2]]);
}

/* ---- host ---- */

template <class E> static size_t places(delta<E> *o, int64_t keys, bool far, bool backward, void *p)
{
    struct carver c = {(char *)p, 0};
    int64_t heads = keys * o->R, rows = heads * o->keys.Tp, cells = heads * o->Kp * o->Vp;
    carve(&c, &o->q, keys * o->keys.Tp * o->Kp);
    carve(&c, &o->k, keys * o->keys.Tp * o->Kp);
    carve(&c, &o->v, rows * o->Vp);
    carve(&c, &o->w, rows * o->Kp);
    carve(&c, &o->d, rows * o->Vp);
    carve(&c, &o->h, cells * o->chunks);
    carve(&c, &o->e, rows);
    carve(&c, &o->f, rows);
    if (far) carve(&c, &o->s, cells);
    if (backward) {
        carve(&c, &o->dout, rows * o->Vp);
        carve(&c, &o->dd, rows * o->Vp);
        carve(&c, &o->dh, cells * o->chunks);
        carve(&c, &o->t, rows * TILE);
        carve(&c, &o->p, rows * TILE);
        carve(&c, &o->kk, rows * TILE);
        carve(&c, &o->rq, keys * o->keys.Tp);
        carve(&c, &o->rk, keys * o->keys.Tp);
        carve(&c, &o->dq, rows * o->Kp);
        carve(&c, &o->dk, rows * o->Kp);
    }
    return c.bytes;
}

template <class E>
static delta<E> delta_of(const struct kn_tensor *q, const struct kn_tensor *v, const struct kn_tensor *g, const struct kn_tensor *beta, double eps, double scale)
{
    delta<E> o = {{0, q->d[2], q->d[1], tile_up(q->d[1])}, v->d[2] / q->d[2], q->d[3], v->d[3], tile_up(q->d[3]), tile_up(v->d[3]), 0, (float)eps, (float)scale, g, beta};
    o.chunks = o.keys.Tp / TILE;
    return o;
}

/* Key heads of a round: as many as the scratch may hold, and their parts count in 32 bits. */
template <class E> static int64_t round_of(delta<E> *o, int64_t keys, bool far, bool backward)
{
    int64_t fit = TILE_SCRATCH / (int64_t)places(o, 1, far, backward, NULL), rows = INT32_MAX / (o->R * o->keys.Tp * (o->Vp / TILE));
    if (fit > rows) fit = rows;
    return fit < 1 ? 1 : fit < keys ? fit : keys;
}

template <class E> static st_t pack(struct kn_dev *dev, const delta<E> *o, bool key, const struct kn_tensor *x, int64_t keys, float eps, float m, E *to, float *r)
{
    struct tile_heads at = o->keys;
    int64_t W = key ? o->K : o->V, Wp = key ? o->Kp : o->Vp, rows = keys * at.Tp * (key ? 1 : o->R);
    if (!key) at.first *= o->R, at.H *= o->R;
    CUDA_RUN(dev, tile_pack<E>, cuda_blocks(rows, TILE_WARPS), TILE_THREADS, 0, x, at, W, Wp, rows, eps, m, to, r);
    return ST_OK;
}

/* Up to the states: of `keys` key heads from o.keys.first on. */
template <class E>
static st_t chunks_forth(struct kn_dev *dev, const delta<E> *o, int64_t keys, const struct kn_tensor *q, const struct kn_tensor *k, const struct kn_tensor *v,
                         const struct kn_tensor *s, bool keep)
{
    CUDA_TRY(pack(dev, o, true, q, keys, o->eps, o->scale, o->q, o->rq));
    CUDA_TRY(pack(dev, o, true, k, keys, o->eps, 1, o->k, o->rk));
    CUDA_TRY(pack(dev, o, false, v, keys, -1, 1, o->v, (float *)NULL));
    CUDA_RUN(dev, prepare<E>, keys * o->R * o->chunks, TILE_THREADS, prepare_shared<E>(), *o, keep);
    int64_t tiles = carry_tiles(dev, o), blocks = keys * o->R * (o->Vp / TILE);
    if (tiles == 1) CUDA_RUN(dev, (carry<E, 1>), blocks, TILE_THREADS, carry_shared<E>(1), *o, s);
    else if (tiles == 2) CUDA_RUN(dev, (carry<E, 2>), blocks, TILE_THREADS, carry_shared<E>(2), *o, s);
    else if (tiles == 3) CUDA_RUN(dev, (carry<E, 3>), blocks, TILE_THREADS, carry_shared<E>(3), *o, s);
    else if (tiles == 4) CUDA_RUN(dev, (carry<E, 4>), blocks, TILE_THREADS, carry_shared<E>(4), *o, s);
    else CUDA_RUN(dev, (carry<E, 0>), blocks, TILE_THREADS, carry_shared<E>(0), *o, s);
    return ST_OK;
}

template <class E>
static st_t forward(struct kn_dev *dev, const struct kn_tensor *q, const struct kn_tensor *k, const struct kn_tensor *v, const struct kn_tensor *g,
                    const struct kn_tensor *beta, double eps, double scale, const struct kn_tensor *s, const struct kn_tensor *out)
{
    delta<E> o = delta_of<E>(q, v, g, beta, eps, scale);
    bool far = !carry_tiles(dev, &o);
    int64_t all = q->d[0] * q->d[2], most = round_of(&o, all, far, false);
    void *p;
    CUDA_TRY(cuda_scratch(dev, CUDA_SLOT_A, places(&o, most, far, false, NULL), &p));
    places(&o, most, far, false, p);
    for (; o.keys.first < all; o.keys.first += most) {
        int64_t keys = all - o.keys.first < most ? all - o.keys.first : most;
        CUDA_TRY(chunks_forth(dev, &o, keys, q, k, v, s, false));
        CUDA_RUN(dev, (answer<E, false>), keys * o.R * o.chunks, TILE_THREADS, answer_shared<E>(), o, out);
    }
    return ST_OK;
}

extern "C" st_t cuda_delta_rule(struct kn_dev *dev, const struct kn_tensor *q, const struct kn_tensor *k, const struct kn_tensor *v, const struct kn_tensor *g,
                                const struct kn_tensor *beta, double eps, double scale, const struct kn_tensor *s, const struct kn_tensor *out)
{
    CUDA_TRY(kn_check_delta_rule(q, k, v, g, beta, eps, scale, s, out));
    if (!cuda_is_f32(q) || q->d[3] > TILE_MOST || v->d[3] > TILE_MOST) return ST_ENOTSUP;
    if (kn_count(v) == 0 || q->d[3] == 0) return dev->op->fill(dev, out, 0);
    if (kn_absent(s)) s = NULL;
    if (s && q->d[1] == 1) {
        int64_t G = q->d[2], H = v->d[2], V = v->d[3];
        int64_t blocks = q->d[0] * H * cuda_blocks(V, 32);
        CUDA_RUN(dev, token, blocks, TILE_THREADS, 2 * TILE_THREADS * sizeof(float), q, k, v, g, beta, (float)eps, (float)scale, s, out, G, H / G, q->d[3], V);
        return ST_OK;
    }
    return (dev->precision == KN_BF16 ? forward<bf16> : forward<float>)(dev, q, k, v, g, beta, eps, scale, s, out);
}

template <class E>
static st_t backward(struct kn_dev *dev, const struct kn_tensor *q, const struct kn_tensor *k, const struct kn_tensor *v, const struct kn_tensor *g,
                     const struct kn_tensor *beta, double eps, double scale, const struct kn_tensor *dout, const struct kn_tensor *dq, const struct kn_tensor *dk,
                     const struct kn_tensor *dv, const struct kn_tensor *dg, const struct kn_tensor *dbeta)
{
    delta<E> o = delta_of<E>(q, v, g, beta, eps, scale);
    bool far = !carry_tiles(dev, &o);
    int64_t all = q->d[0] * q->d[2], most = round_of(&o, all, far, true);
    void *p;
    CUDA_TRY(cuda_scratch(dev, CUDA_SLOT_A, places(&o, most, far, true, NULL), &p));
    places(&o, most, far, true, p);
    for (; o.keys.first < all; o.keys.first += most) {
        int64_t keys = all - o.keys.first < most ? all - o.keys.first : most, heads = keys * o.R, tiles = carry_tiles(dev, &o), blocks = heads * (o.Vp / TILE);
        CUDA_TRY(chunks_forth(dev, &o, keys, q, k, v, (const struct kn_tensor *)NULL, true));
        CUDA_TRY(pack(dev, &o, false, dout, keys, -1, 1, o.dout, (float *)NULL));
        CUDA_RUN(dev, (answer<E, true>), heads * o.chunks, TILE_THREADS, answer_shared<E>(), o, (const struct kn_tensor *)NULL);
        if (tiles == 1) CUDA_RUN(dev, (carry_back<E, 1>), blocks, TILE_THREADS, carry_shared<E>(1), o);
        else if (tiles == 2) CUDA_RUN(dev, (carry_back<E, 2>), blocks, TILE_THREADS, carry_shared<E>(2), o);
        else if (tiles == 3) CUDA_RUN(dev, (carry_back<E, 3>), blocks, TILE_THREADS, carry_shared<E>(3), o);
        else if (tiles == 4) CUDA_RUN(dev, (carry_back<E, 4>), blocks, TILE_THREADS, carry_shared<E>(4), o);
        else CUDA_RUN(dev, (carry_back<E, 0>), blocks, TILE_THREADS, carry_shared<E>(0), o);
        CUDA_RUN(dev, back<E>, heads * o.chunks, TILE_THREADS, back_shared<E>(), o, dv, dg, dbeta);
        int64_t rows = keys * o.keys.Tp;
        CUDA_RUN(dev, finish<E>, cuda_blocks(rows, TILE_WARPS), TILE_THREADS, 0, o, (const E *)o.q, (const float *)o.rq, (const float *)o.dq, o.scale, dq, rows);
        CUDA_RUN(dev, finish<E>, cuda_blocks(rows, TILE_WARPS), TILE_THREADS, 0, o, (const E *)o.k, (const float *)o.rk, (const float *)o.dk, 1.0f, dk, rows);
    }
    return ST_OK;
}

extern "C" st_t cuda_delta_rule_bwd(struct kn_dev *dev, const struct kn_tensor *q, const struct kn_tensor *k, const struct kn_tensor *v, const struct kn_tensor *g,
                                    const struct kn_tensor *beta, double eps, double scale, const struct kn_tensor *dout, const struct kn_tensor *dq,
                                    const struct kn_tensor *dk, const struct kn_tensor *dv, const struct kn_tensor *dg, const struct kn_tensor *dbeta)
{
    CUDA_TRY(kn_check_delta_rule_bwd(q, k, v, g, beta, eps, scale, dout, dq, dk, dv, dg, dbeta));
    if (!cuda_is_f32(q) || q->d[3] > TILE_MOST || v->d[3] > TILE_MOST) return ST_ENOTSUP;
    if (kn_count(v) == 0 || q->d[3] == 0) {
        const struct kn_tensor *zero[] = {dq, dk, dv, dg, dbeta};
        for (int i = 0; i < 5; i++) CUDA_TRY(dev->op->fill(dev, zero[i], 0));
        return ST_OK;
    }
    return (dev->precision == KN_BF16 ? backward<bf16> : backward<float>)(dev, q, k, v, g, beta, eps, scale, dout, dq, dk, dv, dg, dbeta);
}
