/* Products of 64 x 64 tiles by a block of 256 threads, for the scans that go in chunks of 64 tokens (delta_rule.cu, gla.cu).
 *
 * Operands lie in shared memory, f32 or bf16, rows padded so that neither the four-wide loads of the f32 product nor ldmatrix meet a bank twice. Each may be stored
 * transposed. A thread holds 16 of the 64 x 64 sums: in f32 4 rows by 4 columns by FMA, in bf16 those of mma.m16n8k16 fragments, a warp 16 rows by 32 columns.
 * tile_row and tile_col say which. f32: four steps along the sum cost a warp 64 FMA, 8 wide loads and 12 passes of shared memory, so that FMA bound it.
 *
 * In global memory tiles are cut from matrices whose rows are whole tiles of numbers of the product's type, padded with zeros: loads need no guards. */
#ifndef TAUT_KERNELS_CUDA_TILE_H
#define TAUT_KERNELS_CUDA_TILE_H

#include "kernels/cuda/cuda.h"

constexpr int TILE = 64, TILE_THREADS = 256, TILE_WARPS = TILE_THREADS / 32, TILE_SUMS = 16, PIECE = 16, PIECES = TILE / PIECE;

template <class E> struct tile_of;
template <> struct tile_of<float> {
    static constexpr int PITCH = 68, RING = 2; /* buffers of a loop that waits for its tiles: its products of bf16 are short, and tiles small */
};
template <> struct tile_of<bf16> {
    static constexpr int PITCH = 72, RING = 4;
};
/* Numbers and bytes of a tile in shared memory. */
template <class E> constexpr int tile_size = TILE * tile_of<E>::PITCH;
template <class E> constexpr size_t tile_bytes = tile_size<E> * sizeof(E);

static inline int64_t tile_up(int64_t n)
{
    return (n + TILE - 1) / TILE * TILE;
}

/* Row and column of the thread's i-th sum. Columns in f32 lie side by side, or, SPREAD, 16 apart. */
template <class E> KN_DEVICE int tile_row(int i)
{
    int t = threadIdx.x;
    if (sizeof(E) == 4) return t / 16 * 4 + i / 4;
    return t / 64 * 16 + t % 32 / 4 + (i & 2) * 4;
}
template <class E, bool SPREAD> KN_DEVICE int tile_col(int i)
{
    int t = threadIdx.x;
    if (sizeof(E) == 4) return SPREAD ? t % 16 + 16 * (i % 4) : t % 16 * 4 + i % 4;
    return t / 32 % 2 * 32 + i / 4 * 8 + t % 4 * 2 + (i & 1);
}

KN_DEVICE void tile_zero(float sum[TILE_SUMS])
{
    KN_UNROLL for (int i = 0; i < TILE_SUMS; i++) sum[i] = 0;
}

KN_DEVICE void tile_four(float to[4], const float *p)
{
    float4 v = cu_get4(p);
    to[0] = v.x, to[1] = v.y, to[2] = v.z, to[3] = v.w;
}

/* sum += A B. a is A [m][p], or, AT, A^T [p][m]; b is B [p][n], or, BT, B^T [n][p]; p < LONG. */
template <bool AT, bool BT, bool SPREAD, int LONG = TILE> KN_DEVICE void tile_mul(float sum[TILE_SUMS], const float *a, const float *b)
{
    constexpr int P = tile_of<float>::PITCH;
    int ty = threadIdx.x / 16, tx = threadIdx.x % 16;
    KN_ROLLED for (int k0 = 0; k0 < LONG; k0 += 8)
    KN_UNROLL for (int k = k0; k < k0 + 8; k += 4) {
        float x[4][4], y[4][4]; /* AT: [step][row], else [row][step]; BT: [column][step], else [step][column] */
        KN_UNROLL for (int i = 0; i < 4; i++) {
            tile_four(x[i], AT ? a + (k + i) * P + ty * 4 : a + (ty * 4 + i) * P + k);
            if (BT) tile_four(y[i], b + (SPREAD ? tx + 16 * i : tx * 4 + i) * P + k);
            else if (!SPREAD) tile_four(y[i], b + (k + i) * P + tx * 4);
            else
                KN_UNROLL for (int j = 0; j < 4; j++) y[i][j] = b[(k + i) * P + tx + 16 * j];
        }
        KN_UNROLL for (int s = 0; s < 4; s++) /* the compiler makes them FMA */
            KN_UNROLL for (int i = 0; i < 4; i++)
                KN_UNROLL for (int j = 0; j < 4; j++) sum[4 * i + j] += (AT ? x[s][i] : x[i][s]) * (BT ? y[j][s] : y[s][j]);
    }
}
template <bool AT, bool BT, bool SPREAD, int LONG = TILE> KN_DEVICE void tile_mul(float sum[TILE_SUMS], const bf16 *a, const bf16 *b)
{
    constexpr int P = tile_of<bf16>::PITCH;
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32, m = warp / 2 * 16, n = warp % 2 * 32, i = lane / 8, j = lane % 8;
    KN_UNROLL for (int k = 0; k < LONG; k += 16) {
        uint32_t x[4], y[8];
        if (AT) kn_ldmatrix_t(x, a + (k + i / 2 * 8 + j) * P + m + i % 2 * 8);
        else kn_ldmatrix(x, a + (m + lane % 16) * P + k + lane / 16 * 8);
        KN_UNROLL for (int h = 0; h < 2; h++) {
            if (BT) kn_ldmatrix(y + 4 * h, b + (n + 16 * h + i / 2 * 8 + j) * P + k + i % 2 * 8);
            else kn_ldmatrix_t(y + 4 * h, b + (k + i % 2 * 8 + j) * P + n + 16 * h + i / 2 * 8);
        }
        KN_UNROLL for (int q = 0; q < 4; q++) kn_mma_bf16(sum + 4 * q, x, y + 2 * q);
    }
}

/* Begins the copy of a tile whose rows lie ld apart. */
template <class E> KN_DEVICE void tile_fetch(E *to, const E *from, int ld)
{
    constexpr int N = 16 / sizeof(E), ACROSS = TILE / N, ROUNDS = TILE * ACROSS / TILE_THREADS;
    KN_UNROLL for (int i = 0; i < ROUNDS; i++) {
        int at = threadIdx.x + i * TILE_THREADS, r = at / ACROSS, c = at % ACROSS * N;
        kn_cp16(to + r * tile_of<E>::PITCH + c, from + (r * ld + c), true);
    }
}

/* sum += the sum over n steps of A_s B_s, tiles from global memory at a + s a_step, b + s b_step; the one that is NULL is `fixed`, in shared memory, each time, or,
 * where there is none, B is A's tile again. buf: 4 tiles (2 where one side is fixed or the same). Begins with a barrier, so that what threads wrote
 * before, to fixed or to a and b, is there; and ends with one, so that buf and fixed are free. */
template <class E, bool AT, bool BT, bool SPREAD = BT>
KN_DEVICE void tile_stream(float sum[TILE_SUMS], const E *a, int lda, int a_step, const E *fixed, const E *b, int ldb, int b_step, int n, E *buf)
{
    E *second = buf + (a ? 2 * tile_size<E> : 0);
    __syncthreads();
    if (a) tile_fetch(buf, a, lda);
    if (b) tile_fetch(second, b, ldb);
    kn_cp_commit();
    for (int s = 0; s < n; s++) {
        int now = s % 2 * tile_size<E>, next = tile_size<E> - now;
        if (s + 1 < n) {
            if (a) tile_fetch(buf + next, a += a_step, lda);
            if (b) tile_fetch(second + next, b += b_step, ldb);
        }
        kn_cp_commit();
        kn_cp_wait<1>();
        __syncthreads();
        tile_mul<AT, BT, SPREAD>(sum, a ? buf + now : fixed, b ? second + now : fixed ? fixed : buf + now);
        __syncthreads();
    }
}

/* Four lanes in a row hold each a row of a 4 x 4 matrix: then each holds a column. By the whole warp. */
KN_DEVICE void tile_turn(uint32_t v[4])
{
    bool odd = threadIdx.x & 1, high = threadIdx.x & 2;
    KN_UNROLL for (int i = 0; i < 4; i += 2) {
        uint32_t got = __shfl_xor_sync(KN_FULL, odd ? v[i] : v[i + 1], 1);
        v[i] = odd ? got : v[i], v[i + 1] = odd ? v[i + 1] : got;
    }
    KN_UNROLL for (int i = 0; i < 2; i++) {
        uint32_t got = __shfl_xor_sync(KN_FULL, high ? v[i] : v[i + 2], 2);
        v[i] = high ? got : v[i], v[i + 2] = high ? v[i + 2] : got;
    }
}

/* The sums, rounded, as a tile in shared memory (ld = the pitch) or in global; rows 16-byte aligned. By the whole warp. */
template <class E, class O, bool SPREAD> KN_DEVICE void tile_put(O *to, int ld, const float sum[TILE_SUMS])
{
    if (sizeof(E) == 2 && sizeof(O) == 2) {
        KN_UNROLL for (int h = 0; h < 4; h += 2) { /* rows: a lane takes the 8 columns of one of the 4 fragments */
            uint32_t v[4];
            KN_UNROLL for (int q = 0; q < 4; q++) v[q] = kn_pack_bf16(sum[4 * q + h], sum[4 * q + h + 1]);
            tile_turn(v);
            kn_store16(to + (tile_row<E>(h) * ld + tile_col<E, SPREAD>(4 * (threadIdx.x % 4)) / 8 * 8), make_uint4(v[0], v[1], v[2], v[3]));
        }
    } else if (sizeof(E) == 4 && !SPREAD) {
        KN_UNROLL for (int i = 0; i < TILE_SUMS; i += 4) cu_put4(to + (tile_row<E>(i) * ld + tile_col<E, SPREAD>(i)), make_float4(sum[i], sum[i + 1], sum[i + 2], sum[i + 3]));
    } else {
        KN_UNROLL for (int i = 0; i < TILE_SUMS; i++) cu_put(to + (tile_row<E>(i) * ld + tile_col<E, SPREAD>(i)), sum[i]);
    }
}

/* part [2][64] = the rows' sums of v over the columns, in two parts (of f32 the second is 0). By all threads; to be read after a barrier. */
template <class E> KN_DEVICE void tile_row_sums(const float v[TILE_SUMS], float *part)
{
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    if (sizeof(E) == 4) {
        KN_UNROLL for (int r = 0; r < 4; r++) {
            float s = (v[4 * r] + v[4 * r + 1]) + (v[4 * r + 2] + v[4 * r + 3]);
            KN_UNROLL for (int o = 8; o; o >>= 1) s += __shfl_xor_sync(KN_FULL, s, o);
            if (lane % 16 == 0) part[tile_row<E>(4 * r)] = s, part[TILE + tile_row<E>(4 * r)] = 0;
        }
    } else {
        KN_UNROLL for (int r = 0; r < 2; r++) {
            float s = 0;
            KN_UNROLL for (int q = 0; q < 4; q++) s += v[4 * q + 2 * r] + v[4 * q + 2 * r + 1];
            s += __shfl_xor_sync(KN_FULL, s, 1);
            s += __shfl_xor_sync(KN_FULL, s, 2);
            if (lane % 4 == 0) part[warp % 2 * TILE + tile_row<E>(2 * r)] = s;
        }
    }
}

/* Heads of sequences, (b, h) in the order of b H + h, from `first` on: what a launch works on. Matrices of the scratch have these in rows of tokens: head i's begin at
 * row i Tp. */
struct tile_heads {
    int64_t first, H, T, Tp; /* Tp: T in whole tiles */
};

/* to [heads][Tp][Wp] = the rows of x [B,T,H,W], zeros behind them; normed where eps >= 0: x m / sqrt(|x|^2 + eps), else x m. r [heads][Tp] = what x was multiplied
 * by (NULL: not wanted). A warp a row. */
template <class E> KN_KERNEL(TILE_THREADS)
tile_pack(cu_view<const float, 4> x, struct tile_heads at, int64_t W, int64_t Wp, int64_t rows, float eps, float m, E *to, float *r)
{
    int64_t row = (int64_t)blockIdx.x * TILE_WARPS + threadIdx.x / 32;
    int lane = threadIdx.x % 32;
    if (row >= rows) return;
    int64_t head = at.first + row / at.Tp, t = row % at.Tp;
    const float *from = cu_at(x, head / at.H, t < at.T ? t : 0, head % at.H, 0);
    float by = m;
    if (eps >= 0) {
        float ss = 0;
        for (int64_t i = lane; i < W && t < at.T; i += 32) ss = fmaf(from[i], from[i], ss);
        by = m / sqrtf(cu_warp_sum(ss) + eps);
    }
    for (int64_t i = lane; i < Wp; i += 32) cu_put(to + row * Wp + i, i < W && t < at.T ? from[i] * by : 0.0f);
    if (r && lane == 0) r[row] = by;
}

/* ---- host ---- */

constexpr int64_t TILE_SCRATCH = (int64_t)1 << 30, /* bytes of a round of heads, where one alone does not need more */
                  TILE_MOST = 1 << 20;             /* rows of a tile may lie so many numbers apart */

/* Carves a round's scratch: places from p on, or, p NULL, only their bytes. */
struct carver {
    char *p;
    size_t bytes;
};
template <class T> static void carve(struct carver *c, T **to, int64_t n)
{
    *to = c->p ? (T *)(c->p + c->bytes) : (T *)NULL;
    c->bytes += ((size_t)n * sizeof(T) + 255) / 256 * 256;
}

#endif
