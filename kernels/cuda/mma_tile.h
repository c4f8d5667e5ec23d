/* A block's tile of a product on tensor cores: acc [BM, BN] += a [BM, K] b [K, BN], numbers in bf16, sums in f32, k in order whatever the tile's shape. Operands are f32, bf16
 * or int8 in memory, of any strides; what is not bf16 is rounded to it on the way (int8 is exact: its rows' scales are the caller's).
 *
 *     using tile = mma_tile<128, 256, 64, 64, 4, true, false, true, false>;
 *     KN_KERNEL_MIN(tile::THREADS, 1) product(…)
 *     {
 *         KN_SHARED(unsigned char, mem);                                  // tile::SHARED bytes
 *         float acc[tile::MF][tile::NF][4] = {};
 *         tile::run(acc, mem, a, b, K);
 *         tile::each_four(acc, mem, [&](const int row[4], int col, const float4 v[4]) { … });
 *     }
 *
 * K is walked in steps of 32, STAGES of which have a place in shared memory. An operand that is "async" (mma_can_async) is copied STAGES - 1 steps ahead; any other is
 * read into registers two steps ahead, and rounded and stored a step later. A place holds an operand as it lies in memory: rows of 32 k's, or, "turned", 32 rows
 * of k with the tile's rows (columns) side by side; 16 bytes are one chunk. Chunks are permuted within 128 bytes so that the eight rows of an ldmatrix, and a quarter
 * of a warp's copies, fall into different banks. */
#ifndef TAUT_KERNELS_CUDA_MMA_TILE_H
#define TAUT_KERNELS_CUDA_MMA_TILE_H

#include "kernels/cuda/cuda.h"

enum mma_kind { MMA_F32, MMA_BF16, MMA_I8 };

/* An operand in global memory. Number (o, k), o of the tile's rows (a) or columns (b), stands so o + sk k elements behind p. o >= outer: zeros. */
struct mma_source {
    const void *p;
    int64_t so, sk;
    int outer;
    int kind;
    bool wide; /* mma_is_wide */
};

static inline enum mma_kind mma_kind_of(enum kn_dtype t)
{
    return t == KN_F32 ? MMA_F32 : t == KN_BF16 ? MMA_BF16 : MMA_I8;
}

/* Chunks of 8 along the stride `fast` lie together and, but for the last of a row, may be read 16 bytes (int8: 4) at a time. slow, slower: the other strides. */
static inline bool mma_is_wide(const void *p, int kind, int64_t fast, int64_t slow, int64_t slower)
{
    int64_t by = kind == MMA_BF16 ? 8 : 4;
    return fast == 1 && slow % by == 0 && slower % by == 0 && (uintptr_t)p % (kind == MMA_I8 ? 4 : 16) == 0;
}
/* What async asks: bf16, wide, and whole chunks alone (length: of the dim with stride 1). */
static inline bool mma_can_async(const void *p, int kind, int64_t fast, int64_t slow, int64_t slower, int64_t length)
{
    return kind == MMA_BF16 && length % 8 == 0 && mma_is_wide(p, kind, fast, slow, slower);
}

KN_DEVICE int64_t mma_size(int kind)
{
    return kind == MMA_F32 ? 4 : kind == MMA_BF16 ? 2 : 1;
}

/* The first n of 8 numbers, `step` elements apart, zeros for the rest, as they are in memory: f32 in eight words, bf16 in four, int8 in two. */
KN_DEVICE void mma_fetch(uint32_t raw[8], const unsigned char *p, int64_t step, int n, int kind, bool wide)
{
    KN_UNROLL for (int i = 0; i < 8; i++) raw[i] = 0;
    if (n <= 0) return;
    if (kind == MMA_F32) {
        if (wide && n >= 8) {
            uint4 x = kn_load16(p), y = kn_load16(p + 16);
            raw[0] = x.x, raw[1] = x.y, raw[2] = x.z, raw[3] = x.w, raw[4] = y.x, raw[5] = y.y, raw[6] = y.z, raw[7] = y.w;
        } else {
            KN_UNROLL for (int i = 0; i < 8; i++)
                if (i < n) raw[i] = ((const uint32_t *)p)[i * step];
        }
    } else if (kind == MMA_BF16) {
        if (wide && n >= 8) {
            uint4 x = kn_load16(p);
            raw[0] = x.x, raw[1] = x.y, raw[2] = x.z, raw[3] = x.w;
        } else {
            KN_UNROLL for (int i = 0; i < 8; i++)
                if (i < n) raw[i / 2] |= (uint32_t)((const uint16_t *)p)[i * step] << (16 * (i % 2));
        }
    } else if (wide && n >= 8) {
        raw[0] = ((const uint32_t *)p)[0], raw[1] = ((const uint32_t *)p)[1];
    } else {
        KN_UNROLL for (int i = 0; i < 8; i++)
            if (i < n) raw[i / 4] |= (uint32_t)p[i * step] << (8 * (i % 4));
    }
}

/* Byte i of w, an int8, as a float: 2^23 + 128 + it, without the conversion's slow unit. */
KN_DEVICE float mma_byte(uint32_t w, int i)
{
    return __uint_as_float(0x4b000000u | ((w >> (8 * i) & 0xffu) ^ 0x80u)) - 8388736.0f;
}

/* What mma_fetch gave, in bf16. */
KN_DEVICE uint4 mma_pack(const uint32_t raw[8], int kind)
{
    if (kind == MMA_BF16) return make_uint4(raw[0], raw[1], raw[2], raw[3]);
    uint32_t out[4];
    KN_UNROLL for (int i = 0; i < 4; i++) {
        if (kind == MMA_F32) out[i] = kn_pack_bf16(__uint_as_float(raw[2 * i]), __uint_as_float(raw[2 * i + 1]));
        else out[i] = kn_pack_bf16(mma_byte(raw[i / 2], 2 * i % 4), mma_byte(raw[i / 2], 2 * i % 4 + 1));
    }
    return make_uint4(out[0], out[1], out[2], out[3]);
}

/* SPAN: BM or BN, at least 64. Of a step's chunks a thread brings those `DOWN` rows of the place apart: same chunk of the row, same permutation. */
template <int SPAN, int THREADS, bool ASYNC, bool TURNED> struct mma_side {
    static constexpr int DEEP = 32, ACROSS = TURNED ? SPAN / 8 : DEEP / 8, PER = SPAN * DEEP / 8 / THREADS, DOWN = THREADS / ACROSS, LONG = ACROSS * 8;
    static_assert(SPAN % 64 == 0 && PER * THREADS * 8 == SPAN * DEEP && DOWN % 8 == 0, "whole chunks for every thread");
    const unsigned char *from; /* the thread's first chunk of the step that is read next */
    int o, k;                  /* its place in the tile and among the k's */
    uint32_t raw[ASYNC ? 1 : PER][8];

    /* Where chunk c of row r of a place stands: in numbers. */
    KN_DEVICE int at(int r, int c)
    {
        return r * LONG + (c ^ (TURNED ? r & 7 : r >> 1 & 3)) * 8;
    }
    KN_DEVICE int slot(void)
    {
        return at((int)threadIdx.x / ACROSS, (int)threadIdx.x % ACROSS);
    }
    KN_DEVICE int size(const mma_source &s)
    {
        return ASYNC ? 2 : s.kind == MMA_F32 ? 4 : s.kind == MMA_BF16 ? 2 : 1;
    }

    KN_DEVICE void begin(mma_side &me, const mma_source &s)
    {
        int row = (int)threadIdx.x / ACROSS, c = (int)threadIdx.x % ACROSS * 8;
        me.o = TURNED ? c : row, me.k = TURNED ? row : c;
        me.from = (const unsigned char *)s.p + (me.o * s.so + me.k * s.sk) * size(s);
    }
    /* Numbers that chunk i has. */
    KN_DEVICE int numbers(const mma_side &me, const mma_source &s, int i, int K)
    {
        int o = me.o + (TURNED ? 0 : i * DOWN), k = me.k + (TURNED ? i * DOWN : 0);
        return o < s.outer && k < K ? (TURNED ? s.outer - o : K - k) : 0;
    }
    KN_DEVICE void advance(mma_side &me, const mma_source &s)
    {
        me.k += DEEP, me.from += DEEP * s.sk * size(s);
    }

    KN_DEVICE void copy(mma_side &me, bf16 *place, const mma_source &s, int K)
    {
        if constexpr (ASYNC) {
            int64_t jump = (TURNED ? s.sk : s.so) * (2 * DOWN);
            KN_UNROLL for (int i = 0; i < PER; i++) kn_cp16(place + slot() + i * DOWN * LONG, me.from + i * jump, numbers(me, s, i, K) > 0);
            advance(me, s);
        }
    }
    KN_DEVICE void fetch(mma_side &me, const mma_source &s, int K)
    {
        if constexpr (!ASYNC) {
            int64_t jump = (TURNED ? s.sk : s.so) * DOWN * size(s);
            KN_UNROLL for (int i = 0; i < PER; i++) mma_fetch(me.raw[i], me.from + i * jump, TURNED ? s.so : s.sk, numbers(me, s, i, K), s.kind, s.wide);
            advance(me, s);
        }
    }
    KN_DEVICE void store(const mma_side &me, bf16 *place, const mma_source &s)
    {
        if constexpr (!ASYNC)
            KN_UNROLL for (int i = 0; i < PER; i++) kn_store16(place + slot() + i * DOWN * LONG, mma_pack(me.raw[i], s.kind));
    }

    /* Where the lane's row of an ldmatrix stands, for the 16 rows from o0 on (a) or the 16 columns (b: r[0] r[1] are the first eight's) and the first 16 k's: once. What
     * differs for the i-th 16 behind them (o0 a multiple of 64 where i > 1, of 32 where i > 0) and for k = 16 is a constant: of the permuted bits by exclusive or. */
    KN_DEVICE int lane(int o0, bool columns)
    {
        int l = (int)threadIdx.x % 32, j = l % 8, first = l >> 3 & 1, second = l >> 4, o = columns ? second : first, k = columns ? first : second; /* which eight of each */
        if constexpr (TURNED) return (8 * k + j) * LONG + (o0 & ~63) + ((o0 & 63) / 8 ^ o ^ j) * 8;
        else return at(o0 + 8 * o + j, k);
    }
    KN_DEVICE void load(uint32_t r[4], const bf16 *place, int lane, int i, int k)
    {
        if constexpr (TURNED) kn_ldmatrix_t(r, place + (lane ^ 16 * i) + k * LONG);
        else kn_ldmatrix(r, place + (lane ^ k) + 16 * i * LONG);
    }
};

/* A warp makes WM x WN of the BM x BN. */
template <int BM_, int BN_, int WM, int WN, int STAGES, bool A_ASYNC, bool A_TURNED, bool B_ASYNC, bool B_TURNED> struct mma_tile {
    static constexpr int BM = BM_, BN = BN_, DEEP = 32, ACROSS = BN / WN, THREADS = BM / WM * ACROSS * 32, MF = WM / 16, NF = WN / 8;
    static constexpr size_t SHARED = (size_t)STAGES * (BM + BN) * DEEP * sizeof(bf16);
    static_assert(STAGES >= 2 && (WM == 32 || WM == 64) && (WN == 32 || WN == 64), "lane's constants");
    typedef mma_side<BM, THREADS, A_ASYNC, A_TURNED> side_a;
    typedef mma_side<BN, THREADS, B_ASYNC, B_TURNED> side_b;

    /* A warp's fragments of 16 k's. */
    struct fragments {
        uint32_t a[MF][4], b[NF / 2][4];
    };
    KN_DEVICE void load(fragments &f, const bf16 *pa, const bf16 *pb, int la, int lb, int k)
    {
        KN_UNROLL for (int i = 0; i < MF; i++) side_a::load(f.a[i], pa, la, i, k);
        KN_UNROLL for (int j = 0; j < NF / 2; j++) side_b::load(f.b[j], pb, lb, j, k);
    }
    KN_DEVICE void multiply(float (&acc)[MF][NF][4], const fragments &f)
    {
        KN_UNROLL for (int i = 0; i < MF; i++)
            KN_UNROLL for (int j = 0; j < NF; j++) kn_mma_bf16(acc[i][j], f.a[i], f.b[j / 2] + j % 2 * 2);
    }

    /* By the whole block. mem is free again after the block's next barrier. Warps whose rows are all beyond a.outer leave acc as it is.
     *
     * A step's fragments are loaded while the products of those before run: of its first 16 k's behind the barrier that stands between the products of the step before. */
    KN_DEVICE void run(float (&acc)[MF][NF][4], unsigned char *mem, const mma_source &a, const mma_source &b, int K)
    {
        constexpr int SIZE_A = BM * DEEP, SIZE_B = BN * DEEP;
        bf16 *pa = (bf16 *)mem, *pb = pa + STAGES * SIZE_A;
        side_a ra;
        side_b rb;
        fragments low, high;
        int m0 = (int)threadIdx.x / 32 / ACROSS * WM, n0 = (int)threadIdx.x / 32 % ACROSS * WN, la = side_a::lane(m0, false), lb = side_b::lane(n0, true);
        bool live = m0 < a.outer;
        side_a::begin(ra, a), side_b::begin(rb, b);
        KN_UNROLL for (int s = 0; s < STAGES - 1; s++) {
            if (s * DEEP < K) side_a::copy(ra, pa + s * SIZE_A, a, K), side_b::copy(rb, pb + s * SIZE_B, b, K);
            kn_cp_commit();
        }
        side_a::fetch(ra, a, K), side_b::fetch(rb, b, K);
        side_a::store(ra, pa, a), side_b::store(rb, pb, b);
        if (DEEP < K) side_a::fetch(ra, a, K), side_b::fetch(rb, b, K);
        kn_cp_wait<STAGES - 2>();
        __syncthreads();
        if (live) load(low, pa, pb, la, lb, 0);
        int now = 0, after = 1, last = STAGES - 1; /* places of this step, the next one, and the one before, which all have read */
        for (int k = 0; k < K; k += DEEP) {
            if (k + (STAGES - 1) * DEEP < K) side_a::copy(ra, pa + last * SIZE_A, a, K), side_b::copy(rb, pb + last * SIZE_B, b, K);
            kn_cp_commit(); /* near the end an empty group: groups are counted */
            if (k + DEEP < K) side_a::store(ra, pa + after * SIZE_A, a), side_b::store(rb, pb + after * SIZE_B, b);
            if (k + 2 * DEEP < K) side_a::fetch(ra, a, K), side_b::fetch(rb, b, K);
            if (live) load(high, pa + now * SIZE_A, pb + now * SIZE_B, la, lb, 16), multiply(acc, low);
            kn_cp_wait<STAGES - 2>();
            __syncthreads();
            if (live) load(low, pa + after * SIZE_A, pb + after * SIZE_B, la, lb, 0), multiply(acc, high); /* behind the last step: loaded for nothing */
            last = now, now = after, after = after + 1 == STAGES ? 0 : after + 1;
        }
    }

    /* Calls f(row, col, v) for every four neighbours of a row of the tile, of four rows at a time so that a caller can read what is there of all of them first; a warp's calls
     * are for whole lines. By way of mem, after run, by the whole block. */
    template <class F> KN_DEVICE void each_four(const float (&acc)[MF][NF][4], unsigned char *mem, F f)
    {
        constexpr int ROWS = BM / WM * 16, LONG = BN + 8; /* 16 rows of each warp at a time; a row begins 8 banks behind the one before */
        constexpr int DOWN = THREADS / (BN / 4);
        static_assert((size_t)ROWS * LONG * sizeof(float) <= SHARED && DOWN * (BN / 4) == THREADS && ROWS % (4 * DOWN) == 0, "");
        float *out = (float *)mem;
        int warp = (int)threadIdx.x / 32, lane = (int)threadIdx.x % 32, col = (int)threadIdx.x % (BN / 4) * 4;
        float *mine = out + (warp / ACROSS * 16 + lane / 4) * LONG + warp % ACROSS * WN + lane % 4 * 2;
        KN_UNROLL for (int i = 0; i < MF; i++) {
            __syncthreads();
            KN_UNROLL for (int j = 0; j < NF; j++)
                KN_UNROLL for (int h = 0; h < 2; h++)
                    kn_store8(mine + 8 * h * LONG + 8 * j, make_uint2(__float_as_uint(acc[i][j][2 * h]), __float_as_uint(acc[i][j][2 * h + 1])));
            __syncthreads();
            for (int r = (int)threadIdx.x / (BN / 4); r < ROWS; r += 4 * DOWN) {
                int row[4];
                float4 v[4];
                KN_UNROLL for (int h = 0; h < 4; h++) {
                    int at = r + h * DOWN;
                    row[h] = at / 16 * WM + i * 16 + at % 16, v[h] = cu_get4(out + at * LONG + col);
                }
                f(row, col, v);
            }
        }
    }
};

#endif
