/* Gated linear attention in chunks of 64 tokens, and its backward (Yang et al. 2023, arXiv:2312.06635, section 4).
 *
 * Within a chunk, S [K,V] the state before it, a_i = e^(g_i) [K], e_i = a_1 .. a_i, f_i = a_(i+1) .. a_n:
 *
 *   P_ij = sum_k q_ik k_jk (a_(j+1) .. a_i)_k   (j <= i)                               all at once                  (prepare)
 *   S <- diag(e_n) S + (f k)^T v                                                       a chunk after the other      (carry)
 *   out = (e q) S + P v                                                                all at once                  (answer)
 *
 * Backward, dS' the gradient of the state after the chunk, after prepare and carry again:
 *
 *   dS = diag(e_n) dS' + (e q)^T dout                                                  from the last chunk on       (carry)
 *   dv = P^T dout + (f k) dS'                                                          all at once                  (answer)
 *   dP = dout v^T up to the diagonal                                                   all at once                  (pairs_back)
 *   dq = e (dout S^T) + pairs      dk = f (v dS'^T) + pairs      dg                    all at once                  (back)
 *
 * A decay for every channel means that P is no product of q and k with one set of weights. Pairs are sorted by where they part: of those in different halves of the
 * chunk both sides are decayed to the border between the halves and meet in a product; so do those in different pieces of 16 of one half; within a piece pairs are taken
 * one by one. Decays are products of a_i alone, each at most 1: no logarithms are subtracted, nothing overflows whatever the gates are.
 *
 * dg_m is what crosses from before m to m or later: reads of S from m on, writes to S' before m, S itself; and of the pairs of the chunk the sum from m on of q dq - k dk,
 * in which those on one side of m cancel.
 *
 * Products of bf16 under precision bf16 (operands rounded; sums, decays and what is within a piece in f32), else f32. One token (decoding) is one pass over the state.
 * A token of a head costs forward 2 (2 KV + 64 (K + V)) operations, about, and s = 2 or 4 bytes each of 4K + 3V + 2 KV/64 + 128 numbers of scratch beside 12K + 8V of
 * operands; backward 2 (5 KV + 64 (3K + 3V)) operations, s each of 6K + 9V + 6 KV/64 + 256 and 36K + 12V. bf16 is bound by memory, f32 by FMA. */
#include "kernels/cuda/tile.h"

constexpr int HALF = TILE / 2;

/* Operands and scratch of a round of heads, which count from the round's first. */
namespace {
template <class E> struct gla {
    struct tile_heads at;
    int64_t K, V, Kp, Vp, chunks;
    float scale;
    cu_view<const float, 4> q, k, g;
    E *v = NULL, *dout = NULL;  /* [heads][Tp][Vp] padded */
    E *eq = NULL, *fk = NULL;   /* [heads][Tp][Kp] */
    E *h = NULL, *dh = NULL;    /* [heads][chunks][Kp][Vp]: before each chunk; the gradient after each */
    E *p = NULL, *dp = NULL;    /* [heads][chunks][64][64]: P; dP with its transpose above the diagonal */
    float *last = NULL;         /* [heads][chunks][Kp]: e_n */
};
}

/* A chunk of a head, from the number among those of the round. */
namespace {
struct place {
    int head, chunk, b, h;
};
}

template <class E> KN_DEVICE struct place place_of(const gla<E> &o, int i)
{
    int head = i / (int)o.chunks, all = (int)o.at.first + head, H = (int)o.at.H;
    return {head, i % (int)o.chunks, all / H, all % H};
}

/* A thread's share of 64 channels of a chunk is one channel and a piece of the tokens: v = x there, 0 past the end. */
template <class E> KN_DEVICE void share_get(const gla<E> &o, const cu_view<const float, 4> &x, struct place at, int n, float v[PIECE])
{
    int c = n + threadIdx.x % TILE, t = at.chunk * TILE + threadIdx.x / TILE * PIECE, left = c < o.K ? (int)o.at.T - t : 0;
    const float *p = cu_at(x, at.b, t, at.h, c);
    KN_UNROLL for (int i = 0; i < PIECE; i++, p += x.s[1]) v[i] = i < left ? *p : 0.0f;
}
template <class E> KN_DEVICE void share_decays(const gla<E> &o, struct place at, int n, float a[PIECE])
{
    share_get(o, o.g, at, n, a);
    KN_UNROLL for (int i = 0; i < PIECE; i++) a[i] = expf(a[i]);
}

/* The decays of this thread's channel over the pieces before its own, over those after it, and over the piece between its own and the middle of the chunk (1 where there
 * is none). all: 4 x 64 floats. Two barriers. */
namespace {
struct between {
    float before, after, half;
};
}

KN_DEVICE struct between pieces_between(const float a[PIECE], float *all)
{
    int c = threadIdx.x % TILE, piece = threadIdx.x / TILE;
    float own = 1;
    KN_UNROLL for (int i = 0; i < PIECE; i++) own *= a[i];
    __syncthreads();
    all[threadIdx.x] = own;
    __syncthreads();
    struct between w = {1, 1, piece == 0 ? all[TILE + c] : piece == 3 ? all[2 * TILE + c] : 1.0f};
    for (int i = 0; i < piece; i++) w.before *= all[i * TILE + c];
    for (int i = piece + 1; i < PIECES; i++) w.after *= all[i * TILE + c];
    return w;
}

/* x [token][channel] = v (q on the later side of a border, k on the earlier) decayed to the border; far: the decay over what lies between the piece and the border. */
template <class E> KN_DEVICE void to_border(const float a[PIECE], const float v[PIECE], bool later, float far, E *x)
{
    E *at = x + threadIdx.x / TILE * PIECE * tile_of<E>::PITCH + threadIdx.x % TILE;
    if (later)
        KN_UNROLL for (int i = 0; i < PIECE; i++) far *= a[i], cu_put(at + i * tile_of<E>::PITCH, far * v[i]);
    else
        KN_UNROLL for (int i = PIECE - 1; i >= 0; i--) cu_put(at + i * tile_of<E>::PITCH, far * v[i]), far *= a[i];
}

/* Does this warp have sums of pairs whose sides are the halves, or the pieces of a half? */
template <class E> KN_DEVICE bool meets_halves(void)
{
    return tile_row<E>(0) >= HALF && (sizeof(E) == 4 || threadIdx.x / 32 % 2 == 0);
}
template <class E> KN_DEVICE bool meets_pieces(void)
{
    int piece = tile_row<E>(0) / PIECE;
    return piece % 2 && (sizeof(E) == 4 || (int)(threadIdx.x / 32 % 2) == piece / 2);
}

namespace {
struct pairs_memory {
    float all[PIECES * TILE];
    float q[3 * tile_size<float>]; /* and k, and a */
};
}

/* A block a chunk of a head: P, e q, f k, e_n. */
template <class E> KN_KERNEL_MIN(TILE_THREADS, 2) prepare(gla<E> o)
{
    KN_SHARED(struct pairs_memory, m);
    constexpr int P = tile_of<float>::PITCH;
    E *x = (E *)(m + 1), *y = x + tile_size<E>;
    struct place at = place_of(o, blockIdx.x);
    int c = threadIdx.x % TILE, piece = threadIdx.x / TILE, j = threadIdx.x % PIECE, quarter = threadIdx.x / PIECE % PIECES;
    float near[TILE_SUMS], apart[TILE_SUMS], *far = sizeof(E) == 2 ? near : apart; /* in bf16 no warp has both */
    float own[PIECE]; /* own[i]: the pair of tokens i and j of the piece, over a quarter of the channels */
    tile_zero(near);
    tile_zero(far);
    tile_zero(own);
    for (int n = 0; n < (int)o.Kp; n += TILE) {
        float a[PIECE], v[PIECE];
        share_decays(o, at, n, a);
        struct between w = pieces_between(a, m->all);
        int64_t row = (at.head * o.at.Tp + at.chunk * TILE + piece * PIECE) * o.Kp + n + c;
        E *eq = o.eq + row, *fk = o.fk + row + (PIECE - 1) * o.Kp;
        int to = piece * PIECE * P + c;
        float e = w.before, f = w.after;
        share_get(o, o.q, at, n, v);
        KN_UNROLL for (int i = 0; i < PIECE; i++, eq += o.Kp) {
            v[i] *= o.scale;
            e *= a[i];
            cu_put(eq, e * v[i]);
            m->q[to + i * P] = v[i], m->q[2 * tile_size<float> + to + i * P] = a[i];
        }
        if (piece == PIECES - 1) o.last[blockIdx.x * o.Kp + n + c] = e;
        if (piece % 2) to_border(a, v, true, 1.0f, x);
        if (piece >= 2) to_border(a, v, true, w.half, y);
        share_get(o, o.k, at, n, v);
        KN_UNROLL for (int i = PIECE - 1; i >= 0; i--, fk -= o.Kp) {
            cu_put(fk, f * v[i]);
            f *= a[i];
            m->q[tile_size<float> + to + i * P] = v[i];
        }
        if (piece % 2 == 0) to_border(a, v, false, 1.0f, x);
        if (piece < 2) to_border(a, v, false, w.half, y);
        __syncthreads();
        if (meets_pieces<E>()) tile_mul<false, true, true>(near, x, x);
        if (meets_halves<E>()) tile_mul<false, true, true>(far, y, y);
        KN_ROLLED for (int k = quarter * PIECE; k < quarter * PIECE + PIECE; k += 4) {
            const float *from = m->q + piece * PIECE * P + k;
            float kj[4], w[4] = {0, 0, 0, 0};
            tile_four(kj, from + tile_size<float> + j * P);
            KN_UNROLL for (int i = 0; i < PIECE; i++) {
                float a[4], q[4];
                tile_four(a, from + 2 * tile_size<float> + i * P);
                tile_four(q, from + i * P);
                KN_UNROLL for (int l = 0; l < 4; l++) {
                    w[l] = i == j ? kj[l] : w[l] * a[l];
                    own[i] = fmaf(w[l], q[l], own[i]);
                }
            }
        }
        __syncthreads();
    }
    E *p = o.p + (int64_t)blockIdx.x * TILE * TILE;
    KN_UNROLL for (int i = 0; i < TILE_SUMS; i++) {
        int r = tile_row<E>(i), c = tile_col<E, true>(i);
        if (r / PIECE != c / PIECE) cu_put(p + r * TILE + c, r < c ? 0.0f : r / HALF == c / HALF ? near[i] : far[i]);
    }
    /* quarters of a piece lie in two warps, two in each */
    KN_UNROLL for (int i = 0; i < PIECE; i++) own[i] += __shfl_xor_sync(KN_FULL, own[i], PIECE);
    if (quarter % 2 == 0)
        KN_UNROLL for (int i = 0; i < PIECE; i++) m->q[((quarter / 2 * PIECES + piece) * PIECE + i) * PIECE + j] = own[i];
    __syncthreads();
    KN_UNROLL for (int i = quarter; i < PIECE; i += PIECES)
        cu_put(p + (piece * PIECE + i) * TILE + piece * PIECE + j,
               m->q[(piece * PIECE + i) * PIECE + j] + m->q[((PIECES + piece) * PIECE + i) * PIECE + j]);
}
template <class E> static size_t prepare_shared(void)
{
    return sizeof(struct pairs_memory) + 2 * tile_bytes<E>;
}

/* A block 64 x 64 of a head's state. Forward: h, and s if there is one; BACK: dh. Tiles of both sides come through a ring. */
template <class E, bool BACK> KN_KERNEL(TILE_THREADS) carry(gla<E> o, cu_view<float, 4> s)
{
    KN_SHARED(E, ring);
    constexpr int RING = tile_of<E>::RING;
    int64_t across = o.Vp / TILE, down = o.Kp / TILE, head = blockIdx.x / (across * down), v = blockIdx.x % across * TILE, k = blockIdx.x / across % down * TILE;
    int64_t b = (o.at.first + head) / o.at.H, h = (o.at.first + head) % o.at.H, row = head * o.at.Tp;
    const E *left = (BACK ? o.eq : o.fk) + row * o.Kp + k, *right = (BACK ? o.dout : o.v) + row * o.Vp + v;
    E *to = (BACK ? o.dh : o.h) + (head * o.chunks * o.Kp + k) * o.Vp + v;
    const float *last = o.last + head * o.chunks * o.Kp + k;
    float S[TILE_SUMS];
    auto fetch = [&](int64_t i) {
        if (i < o.chunks) {
            int64_t c = BACK ? o.chunks - 1 - i : i;
            E *at = ring + i % RING * 2 * tile_size<E>;
            tile_fetch(at, left + c * TILE * o.Kp, o.Kp);
            tile_fetch(at + tile_size<E>, right + c * TILE * o.Vp, o.Vp);
        }
        kn_cp_commit();
    };
    for (int i = 0; i < RING - 1; i++) fetch(i);
    KN_UNROLL for (int i = 0; i < TILE_SUMS; i++) {
        int64_t r = k + tile_row<E>(i), c = v + tile_col<E, false>(i);
        S[i] = s.p && r < o.K && c < o.V ? *cu_at(s, b, h, r, c) : 0.0f;
    }
    for (int64_t i = 0; i < o.chunks; i++) {
        int64_t c = BACK ? o.chunks - 1 - i : i;
        const E *at = ring + i % RING * 2 * tile_size<E>;
        tile_put<E, E, false>(to + c * o.Kp * o.Vp, o.Vp, S);
        KN_UNROLL for (int j = 0; j < TILE_SUMS; j++) S[j] *= last[c * o.Kp + tile_row<E>(j)];
        kn_cp_wait<RING - 2>();
        __syncthreads(); /* and all have done with what the next fetch overwrites */
        fetch(i + RING - 1);
        tile_mul<true, false, false>(S, at, at + tile_size<E>);
    }
    if (!s.p) return;
    KN_UNROLL for (int i = 0; i < TILE_SUMS; i++) {
        int64_t r = k + tile_row<E>(i), c = v + tile_col<E, false>(i);
        if (r < o.K && c < o.V) *cu_at(s, b, h, r, c) = S[i];
    }
}

/* A block a chunk of a head and 64 columns: out = (e q) S + P v; BACK: dv = (f k) dS' + P^T dout. */
template <class E, bool BACK> KN_KERNEL(TILE_THREADS) answer(gla<E> o, cu_view<float, 4> out)
{
    KN_SHARED(E, buf);
    int across = (int)(o.Vp / TILE), v = blockIdx.x % across * TILE;
    int64_t part = blockIdx.x / across;
    struct place at = place_of(o, (int)part);
    int64_t row = at.head * o.at.Tp + at.chunk * TILE;
    float sum[TILE_SUMS];
    tile_zero(sum);
    tile_stream<E, false, false>(sum, (BACK ? o.fk : o.eq) + row * o.Kp, o.Kp, TILE, (const E *)NULL, (BACK ? o.dh : o.h) + part * o.Kp * o.Vp + v, o.Vp,
                                 TILE * o.Vp, (int)(o.Kp / TILE), buf);
    tile_stream<E, BACK, false>(sum, o.p + part * TILE * TILE, TILE, 0, (const E *)NULL, (BACK ? o.dout : o.v) + row * o.Vp + v, o.Vp, 0, 1, buf);
    KN_UNROLL for (int i = 0; i < TILE_SUMS; i++) {
        int t = at.chunk * TILE + tile_row<E>(i), c = v + tile_col<E, false>(i);
        if (t < o.at.T && c < o.V) *cu_at(out, at.b, t, at.h, c) = sum[i];
    }
}

/* A block a chunk of a head: dP. */
template <class E> KN_KERNEL_MIN(TILE_THREADS, 2) pairs_back(gla<E> o)
{
    KN_SHARED(E, buf);
    struct place at = place_of(o, blockIdx.x);
    int64_t row = (at.head * o.at.Tp + at.chunk * TILE) * o.Vp;
    float sum[TILE_SUMS];
    E *dp = o.dp + (int64_t)blockIdx.x * TILE * TILE;
    tile_zero(sum);
    tile_stream<E, false, true>(sum, o.dout + row, o.Vp, TILE, (const E *)NULL, o.v + row, o.Vp, TILE, (int)(o.Vp / TILE), buf);
    KN_UNROLL for (int i = 0; i < TILE_SUMS; i++) {
        int r = tile_row<E>(i), c = tile_col<E, true>(i);
        if (r < c) continue;
        cu_put(dp + r * TILE + c, sum[i]);
        cu_put(dp + c * TILE + r, sum[i]);
    }
}

namespace {
struct back_memory {
    float all[PIECES * TILE], reads[PIECES * TILE], writes[PIECES * TILE];
    float through[TILE];
    float own[TILE * (PIECE + 4)]; /* dP within a piece, both ways: row [token][the piece's token] */
};
}

/* A block a chunk of a head and 64 channels: dq, dk, dg. */
template <class E> KN_KERNEL_MIN(TILE_THREADS, 2) back(gla<E> o, cu_view<float, 4> dq, cu_view<float, 4> dk, cu_view<float, 4> dg)
{
    KN_SHARED(struct back_memory, m);
    constexpr int P = tile_of<float>::PITCH, PE = tile_of<E>::PITCH, PO = PIECE + 4;
    E *dP = (E *)(m + 1), *buf = dP + tile_size<E>, *x = buf; /* x and the three after it in buf's place */
    float *reads = (float *)(buf + tile_size<E>), *writes = reads + tile_size<float>, *pairs = writes + tile_size<float>;
    int c = threadIdx.x % TILE, piece = threadIdx.x / TILE, lane = threadIdx.x % 32, slabs = (int)(o.Vp / TILE), mine = piece * PIECE, down = (int)(o.Kp / TILE);
    int part = blockIdx.x / down, n = blockIdx.x % down * TILE;
    struct place at = place_of(o, part);
    {
        int64_t row = (at.head * o.at.Tp + at.chunk * TILE) * o.Vp;
        const E *S = o.h + (part * o.Kp + n) * o.Vp, *dS = o.dh + (part * o.Kp + n) * o.Vp, *dp = o.dp + (int64_t)part * TILE * TILE;
        float sum[TILE_SUMS];
        tile_fetch(dP, dp, TILE);
        for (int i = threadIdx.x; i < TILE * PIECE; i += TILE_THREADS) {
            int r = i / PIECE, j = i % PIECE;
            m->own[r * PO + j] = cu_get(dp + (r * TILE + r / PIECE * PIECE + j));
        }
        float other[TILE_SUMS];
        tile_zero(sum);
        tile_zero(other);
        tile_stream<E, false, true>(sum, o.dout + row, o.Vp, TILE, (const E *)NULL, S, o.Vp, TILE, slabs, buf);
        tile_stream<E, false, true>(other, o.v + row, o.Vp, TILE, (const E *)NULL, dS, o.Vp, TILE, slabs, buf);
        tile_put<E, float, true>(reads, P, sum);
        tile_put<E, float, true>(writes, P, other);
        for (int r = threadIdx.x / 32; r < TILE; r += TILE_WARPS) {
            float w = 0;
            for (int64_t v = lane; v < o.Vp; v += 32) w = fmaf(cu_get(S + r * o.Vp + v), cu_get(dS + r * o.Vp + v), w);
            w = cu_warp_sum(w);
            if (lane == 0) m->through[r] = w * o.last[part * o.Kp + n + r];
        }
    }
    float a[PIECE];
    share_decays(o, at, n, a);
    struct between w = pieces_between(a, m->all);

    /* reads becomes q's gradient, of pairs within the piece first; writes stays what k's is by way of the state, gk is that of pairs */
    float gk[PIECE], z[PIECE], e = w.before, f = w.after, *rq = reads + mine * P + c;
    share_get(o, o.k, at, n, z);
    KN_UNROLL for (int i = 0; i < PIECE; i++) {
        float t = 0, d[PIECE];
        KN_UNROLL for (int j = 0; j <= i; j += 4) tile_four(d + j, m->own + (mine + i) * PO + j);
        KN_UNROLL for (int j = 0; j < i; j++) z[j] *= a[i], t = fmaf(d[j], z[j], t);
        e *= a[i];
        rq[i * P] = fmaf(e, rq[i * P], fmaf(d[i], z[i], t));
    }
    share_get(o, o.q, at, n, z);
    KN_UNROLL for (int j = PIECE - 1; j >= 0; j--) {
        float t = 0, d[PIECE];
        KN_UNROLL for (int i = j / 4 * 4; i < PIECE; i += 4) tile_four(d + i, m->own + (mine + j) * PO + i);
        KN_UNROLL for (int i = j + 1; i < PIECE; i++) z[i] *= a[j + 1], t = fmaf(d[i], z[i], t);
        z[j] *= o.scale;
        gk[j] = fmaf(d[j], z[j], t);
    }
    /* then between pieces and between halves: each side's gradient is dP times the other side, decayed as it is itself */
    KN_ROLLED for (int level = 0; level < 2; level++) {
        bool later = level ? piece >= 2 : piece % 2;
        float far = level ? w.half : 1.0f;
        share_get(o, later ? o.q : o.k, at, n, z);
        KN_UNROLL for (int i = 0; i < PIECE; i++) z[i] *= later ? o.scale : 1.0f;
        to_border(a, z, later, far, x);
        __syncthreads();
        int r = tile_row<E>(0), from = level ? HALF - r / HALF * HALF : (r / PIECE ^ 1) * PIECE;
        float sum[TILE_SUMS];
        tile_zero(sum);
        KN_ROLLED for (int end = from + (level ? HALF : PIECE); from < end; from += PIECE) tile_mul<false, false, false, PIECE>(sum, dP + from, x + from * PE);
        tile_put<E, float, false>(pairs, P, sum);
        __syncthreads();
        if (later)
            KN_UNROLL for (int i = 0; i < PIECE; i++) far *= a[i], rq[i * P] = fmaf(far, pairs[(mine + i) * P + c], rq[i * P]);
        else
            KN_UNROLL for (int i = PIECE - 1; i >= 0; i--) gk[i] = fmaf(far, pairs[(mine + i) * P + c], gk[i]), far *= a[i];
    }

    /* z becomes what crosses the border before each token, of the piece alone */
    int t = at.chunk * TILE + mine, left = n + c < o.K ? (int)o.at.T - t : 0;
    float *to = cu_at(dq, at.b, t, at.h, n + c);
    float wrote = 0, sums = 0;
    share_get(o, o.q, at, n, z);
    KN_UNROLL for (int i = 0; i < PIECE; i++, to += dq.s[1]) {
        float g = o.scale * rq[i * P];
        if (i < left) *to = g;
        z[i] *= g;
    }
    float v[PIECE];
    share_get(o, o.k, at, n, v);
    to = cu_at(dk, at.b, t + PIECE - 1, at.h, n + c);
    KN_UNROLL for (int i = PIECE - 1; i >= 0; i--, to -= dk.s[1]) {
        float state = f * writes[(mine + i) * P + c];
        f *= a[i];
        if (i < left) *to = gk[i] + state;
        z[i] = sums += fmaf(-v[i], gk[i], z[i]);
        gk[i] = v[i] * state;
    }
    KN_UNROLL for (int i = 0; i < PIECE; i++) z[i] += wrote, wrote += gk[i];
    m->reads[threadIdx.x] = sums, m->writes[threadIdx.x] = wrote;
    __syncthreads();
    float through = m->through[c];
    for (int i = piece + 1; i < PIECES; i++) through += m->reads[i * TILE + c];
    for (int i = 0; i < piece; i++) through += m->writes[i * TILE + c];
    to = cu_at(dg, at.b, t, at.h, n + c);
    KN_UNROLL for (int i = 0; i < PIECE; i++, to += dg.s[1])
        if (i < left) *to = z[i] + through;
}
template <class E> static size_t back_shared(void)
{
    size_t stream = 4 * tile_bytes<E>, rest = tile_bytes<E> + 3 * tile_bytes<float>;
    return sizeof(struct back_memory) + tile_bytes<E> + (stream > rest ? stream : rest);
}

/* One token after a state. A block 32 columns of a head's state, its warps K in turn. */
KN_KERNEL(TILE_THREADS) token(cu_view<const float, 4> q, cu_view<const float, 4> k, cu_view<const float, 4> v, cu_view<const float, 4> g, float scale, cu_view<float, 4> s,
                              cu_view<float, 4> out, int64_t H, int64_t K, int64_t V)
{
    KN_SHARED(float, mem);
    int64_t across = (V + 31) / 32, head = blockIdx.x / across, b = head / H, h = head % H;
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    int64_t j = blockIdx.x % across * 32 + lane;
    const float *qr = cu_at(q, b, 0, h, 0), *kr = cu_at(k, b, 0, h, 0), *gr = cu_at(g, b, 0, h, 0);
    float *S = cu_at(s, b, h, 0, j), x = 0, sum = 0;
    if (j < V) {
        x = *cu_at(v, b, 0, h, j);
        for (int64_t i = warp; i < K; i += TILE_WARPS) {
            float y = fmaf(kr[i], x, expf(gr[i]) * S[i * s.s[2]]);
            S[i * s.s[2]] = y;
            sum = fmaf(qr[i], y, sum);
        }
    }
    mem[threadIdx.x] = sum;
    __syncthreads();
    if (warp > 0 || j >= V) return;
    sum = 0;
    for (int w = 0; w < TILE_WARPS; w++) sum += mem[w * 32 + lane];
    *cu_at(out, b, 0, h, j) = scale * sum;
}

/* ---- host ---- */

template <class E> static size_t places(gla<E> *o, int64_t heads, bool backward, void *p)
{
    struct carver c = {(char *)p, 0};
    int64_t rows = heads * o->at.Tp, states = heads * o->chunks * o->Kp * o->Vp;
    carve(&c, &o->v, rows * o->Vp);
    carve(&c, &o->eq, rows * o->Kp);
    carve(&c, &o->fk, rows * o->Kp);
    carve(&c, &o->h, states);
    carve(&c, &o->p, rows * TILE);
    carve(&c, &o->last, heads * o->chunks * o->Kp);
    if (backward) {
        carve(&c, &o->dp, rows * TILE);
        carve(&c, &o->dout, rows * o->Vp);
        carve(&c, &o->dh, states);
    }
    return c.bytes;
}

template <class E> static gla<E> gla_of(const struct kn_tensor *q, const struct kn_tensor *k, const struct kn_tensor *v, const struct kn_tensor *g, double scale)
{
    gla<E> o = {{0, q->d[2], q->d[1], tile_up(q->d[1])}, q->d[3], v->d[3], tile_up(q->d[3]), tile_up(v->d[3]), 0, (float)scale, q, k, g};
    o.chunks = o.at.Tp / TILE;
    return o;
}

/* Heads of a round: as many as the scratch may hold, and their parts count in 32 bits. */
template <class E> static int64_t round_of(gla<E> *o, int64_t heads, bool backward)
{
    int64_t fit = TILE_SCRATCH / (int64_t)places(o, 1, backward, NULL), rows = INT32_MAX / (o->at.Tp * (o->Vp / TILE) * (o->Kp / TILE));
    if (fit > rows) fit = rows;
    return fit < 1 ? 1 : fit < heads ? fit : heads;
}

template <class E> static st_t pack(struct kn_dev *dev, const gla<E> *o, const struct kn_tensor *x, int64_t heads, E *to)
{
    int64_t rows = heads * o->at.Tp;
    CUDA_RUN(dev, tile_pack<E>, cuda_blocks(rows, TILE_WARPS), TILE_THREADS, 0, x, o->at, o->V, o->Vp, rows, -1.0f, 1.0f, to, (float *)NULL);
    return ST_OK;
}

/* Up to the states: of `heads` heads from o.at.first on. */
template <class E> static st_t chunks_forth(struct kn_dev *dev, const gla<E> *o, int64_t heads, const struct kn_tensor *v, const struct kn_tensor *s)
{
    CUDA_TRY(pack(dev, o, v, heads, o->v));
    CUDA_RUN(dev, prepare<E>, heads * o->chunks, TILE_THREADS, prepare_shared<E>(), *o);
    CUDA_RUN(dev, (carry<E, false>), heads * (o->Kp / TILE) * (o->Vp / TILE), TILE_THREADS, 2 * tile_of<E>::RING * tile_bytes<E>, *o, s);
    return ST_OK;
}

template <class E>
static st_t forward(struct kn_dev *dev, const struct kn_tensor *q, const struct kn_tensor *k, const struct kn_tensor *v, const struct kn_tensor *g, double scale,
                    const struct kn_tensor *s, const struct kn_tensor *out)
{
    gla<E> o = gla_of<E>(q, k, v, g, scale);
    int64_t all = q->d[0] * q->d[2], most = round_of(&o, all, false);
    void *p;
    CUDA_TRY(cuda_scratch(dev, CUDA_SLOT_A, places(&o, most, false, NULL), &p));
    places(&o, most, false, p);
    for (; o.at.first < all; o.at.first += most) {
        int64_t heads = all - o.at.first < most ? all - o.at.first : most;
        CUDA_TRY(chunks_forth(dev, &o, heads, v, s));
        CUDA_RUN(dev, (answer<E, false>), heads * o.chunks * (o.Vp / TILE), TILE_THREADS, 4 * tile_bytes<E>, o, out);
    }
    return ST_OK;
}

extern "C" st_t cuda_gla(struct kn_dev *dev, const struct kn_tensor *q, const struct kn_tensor *k, const struct kn_tensor *v, const struct kn_tensor *g, double scale,
                         const struct kn_tensor *s, const struct kn_tensor *out)
{
    CUDA_TRY(kn_check_gla(q, k, v, g, scale, s, out));
    if (!cuda_is_f32(q) || q->d[3] > TILE_MOST || v->d[3] > TILE_MOST) return ST_ENOTSUP;
    if (kn_count(v) == 0 || q->d[3] == 0) return dev->op->fill(dev, out, 0);
    if (kn_absent(s)) s = NULL;
    if (s && q->d[1] == 1) {
        int64_t H = q->d[2], V = v->d[3];
        CUDA_RUN(dev, token, q->d[0] * H * cuda_blocks(V, 32), TILE_THREADS, TILE_THREADS * sizeof(float), q, k, v, g, (float)scale, s, out, H, q->d[3], V);
        return ST_OK;
    }
    return (dev->precision == KN_BF16 ? forward<bf16> : forward<float>)(dev, q, k, v, g, scale, s, out);
}

template <class E>
static st_t backward(struct kn_dev *dev, const struct kn_tensor *q, const struct kn_tensor *k, const struct kn_tensor *v, const struct kn_tensor *g, double scale,
                     const struct kn_tensor *dout, const struct kn_tensor *dq, const struct kn_tensor *dk, const struct kn_tensor *dv, const struct kn_tensor *dg)
{
    gla<E> o = gla_of<E>(q, k, v, g, scale);
    int64_t all = q->d[0] * q->d[2], most = round_of(&o, all, true);
    const struct kn_tensor *none = NULL;
    void *p;
    CUDA_TRY(cuda_scratch(dev, CUDA_SLOT_A, places(&o, most, true, NULL), &p));
    places(&o, most, true, p);
    for (; o.at.first < all; o.at.first += most) {
        int64_t heads = all - o.at.first < most ? all - o.at.first : most;
        CUDA_TRY(chunks_forth(dev, &o, heads, v, none));
        CUDA_TRY(pack(dev, &o, dout, heads, o.dout));
        CUDA_RUN(dev, (carry<E, true>), heads * (o.Kp / TILE) * (o.Vp / TILE), TILE_THREADS, 2 * tile_of<E>::RING * tile_bytes<E>, o, none);
        CUDA_RUN(dev, (answer<E, true>), heads * o.chunks * (o.Vp / TILE), TILE_THREADS, 4 * tile_bytes<E>, o, dv);
        CUDA_RUN(dev, pairs_back<E>, heads * o.chunks, TILE_THREADS, 4 * tile_bytes<E>, o);
        CUDA_RUN(dev, back<E>, heads * o.chunks * (o.Kp / TILE), TILE_THREADS, back_shared<E>(), o, dq, dk, dg);
    }
    return ST_OK;
}

extern "C" st_t cuda_gla_bwd(struct kn_dev *dev, const struct kn_tensor *q, const struct kn_tensor *k, const struct kn_tensor *v, const struct kn_tensor *g, double scale,
                             const struct kn_tensor *dout, const struct kn_tensor *dq, const struct kn_tensor *dk, const struct kn_tensor *dv, const struct kn_tensor *dg)
{
    CUDA_TRY(kn_check_gla_bwd(q, k, v, g, scale, dout, dq, dk, dv, dg));
    if (!cuda_is_f32(q) || q->d[3] > TILE_MOST || v->d[3] > TILE_MOST) return ST_ENOTSUP;
    if (kn_count(v) == 0 || q->d[3] == 0) {
        const struct kn_tensor *zero[] = {dq, dk, dv, dg};
        for (int i = 0; i < 4; i++) CUDA_TRY(dev->op->fill(dev, zero[i], 0));
        return ST_OK;
    }
    return (dev->precision == KN_BF16 ? backward<bf16> : backward<float>)(dev, q, k, v, g, scale, dout, dq, dk, dv, dg);
}
