/* What attention's forward and backward on the CUDA device share: the shape, which keys a query sees, tiles of 64 x 64 by FMA for any head size, and fragments, tiles
 * and rounded operands of the tensor-core kernels.
 *
 * Softmax is in base 2: with c = scale log2(e), weights are 2^(c q.k - m). */
#ifndef TAUT_KERNELS_CUDA_ATTN_H
#define TAUT_KERNELS_CUDA_ATTN_H

#include "kernels/cuda/cuda.h"

constexpr float LOG2E = 1.44269504088896340736f, LN2 = 0.69314718055994530942f;
constexpr float LOWEST = -1e30f; /* a maximum of nothing, so that no difference is of infinities */
constexpr int HEAD_MOST = 256; /* of the tensor-core kernels */

struct attn {
    int B, T, S, H, G, K, E;
    int W;        /* 0: a query sees all keys up to its own */
    int shift;    /* S - T: query t stands at shift + t */
    float scale, c; /* c = scale log2(e) */
};

static inline struct attn attn_of(const struct kn_tensor *q, const struct kn_tensor *k, const struct kn_tensor *v, int64_t window, double scale)
{
    struct attn a = {(int)q->d[0], (int)q->d[1], (int)k->d[1], (int)q->d[2], (int)k->d[2], (int)q->d[3], (int)v->d[3], 0, 0, 0, 0};
    a.W = window < a.S ? (int)window : 0;
    a.shift = a.S - a.T;
    a.scale = (float)scale, a.c = (float)(scale * 1.44269504088896340736);
    return a;
}

/* What counts in int must fit. */
static inline bool attn_fits(const struct kn_tensor *q, const struct kn_tensor *k, const struct kn_tensor *v)
{
    const int64_t most = 1 << 30;
    return q->d[0] < 1 << 16 && q->d[2] < 1 << 16 && k->d[1] < most && q->d[3] < most && v->d[3] < most && q->d[0] * q->d[2] * ((q->d[1] + 63) / 64) < most;
}

/* f32, or bf16 in memory where ops.def says so. */
static inline bool attn_has(const struct kn_dev *dev, const struct kn_tensor *q, const struct kn_tensor *v, double scale)
{
    return cuda_is_f32(q) || (cuda_is_bf16(dev, q) && (float)scale > 0 && q->d[3] == v->d[3]);
}

/* Products on tensor cores: only where operands may be rounded. */
static inline bool attn_rounds(const struct kn_dev *dev, const struct kn_tensor *q, const struct kn_tensor *v, double scale)
{
    return dev->precision == KN_BF16 && (float)scale > 0 && q->d[3] == v->d[3] && q->d[3] <= HEAD_MOST;
}

/* The query at position pos sees this key. */
KN_DEVICE bool attn_sees(const struct attn &a, int pos, int key)
{
    return key <= pos && (!a.W || key > pos - a.W);
}
/* The first key that any query from position pos on sees. */
KN_DEVICE int attn_first(const struct attn &a, int pos)
{
    return a.W && pos >= a.W ? pos - a.W + 1 : 0;
}

KN_DEVICE int attn_min(int a, int b)
{
    return a < b ? a : b;
}

/* ---- by FMA, any head size ---- a block of 256 threads, (ty, tx) of 16 x 16, keeps numbers of rows ty + 16 i of a tile of 64 */

constexpr int PLAIN_THREADS = 256, TILE = 64, DEEP = 32, ROW = DEEP + 4, /* floats of a staged row: an odd number of 16 bytes, free of bank conflicts */
    STAGE = 2 * TILE * ROW, PLANE_ROW = TILE + 4, PLANE = TILE * PLANE_ROW;
constexpr size_t PLAIN_SHARED = (STAGE + PLANE) * sizeof(float);

/* ROWS x COLS floats at s, rows `stride` floats apart, from the rows at p: zeros beyond the first `rows` rows and `cols` columns. */
template <int ROWS, int COLS, class T> KN_DEVICE void attn_stage(float *s, int stride, const T *p, int64_t step, int rows, int cols, bool by4)
{
    for (int i = threadIdx.x; i < ROWS * (COLS / 4); i += PLAIN_THREADS) {
        int r = i / (COLS / 4), c = i % (COLS / 4) * 4;
        float4 x = make_float4(0, 0, 0, 0);
        const T *from = p + r * step + c;
        if (r < rows && c < cols) {
            if (by4) {
                x = cu_get4(from);
            } else {
                x.x = cu_get(from);
                if (c + 1 < cols) x.y = cu_get(from + 1);
                if (c + 2 < cols) x.z = cu_get(from + 2);
                if (c + 3 < cols) x.w = cu_get(from + 3);
            }
        }
        cu_put4(s + r * stride + c, x);
    }
}

/* acc[i][j] += row ty + 16 i of a . row tx + 16 j of b, of na and nb rows; their numbers pass through mem, STAGE floats. */
template <class T>
KN_DEVICE void attn_dots(float acc[4][4], float *mem, const T *a, int64_t sa, int na, const T *b, int64_t sb, int nb, int depth, bool by4)
{
    int tx = threadIdx.x % 16, ty = threadIdx.x / 16;
    float *ma = mem, *mb = mem + TILE * ROW;
    for (int d0 = 0; d0 < depth; d0 += DEEP) {
        int cols = attn_min(DEEP, depth - d0);
        __syncthreads();
        attn_stage<TILE, DEEP>(ma, ROW, a + d0, sa, na, cols, by4);
        attn_stage<TILE, DEEP>(mb, ROW, b + d0, sb, nb, cols, by4);
        __syncthreads();
        for (int d = 0; d < cols; d += 4) {
            float4 x[4], y[4];
            KN_UNROLL for (int i = 0; i < 4; i++) x[i] = cu_get4(ma + (ty + 16 * i) * ROW + d), y[i] = cu_get4(mb + (tx + 16 * i) * ROW + d);
            KN_UNROLL for (int i = 0; i < 4; i++)
                KN_UNROLL for (int j = 0; j < 4; j++)
                    acc[i][j] = fmaf(x[i].w, y[j].w, fmaf(x[i].z, y[j].z, fmaf(x[i].y, y[j].y, fmaf(x[i].x, y[j].x, acc[i][j]))));
        }
    }
}

/* Which column acc[i][e] of attn_gather is. */
template <int EV> KN_DEVICE int attn_column(int e)
{
    constexpr int EW = EV < 4 ? EV : 4;
    return (int)(threadIdx.x % 16) * EW + e / EW * 16 * EW + e % EW;
}

/* acc[i][e] += sum over j < nb of plane[ty + 16 i][j] b[j][column(e)], 16 EV columns of which `cols` exist. What was written to plane before need not be
 * behind a barrier. */
template <int EV, class T> KN_DEVICE void attn_gather(float acc[4][EV], const float *plane, float *mem, const T *b, int64_t sb, int nb, int cols, bool by4)
{
    constexpr int COLS = 16 * EV, ROWS = COLS <= 64 ? TILE : TILE * 64 / COLS, EW = EV < 4 ? EV : 4;
    int tx = threadIdx.x % 16, ty = threadIdx.x / 16;
    for (int j0 = 0; j0 < nb; j0 += ROWS) {
        __syncthreads();
        attn_stage<ROWS, COLS>(mem, COLS, b + j0 * sb, sb, nb - j0, cols, by4);
        __syncthreads();
        for (int j = 0; j < ROWS; j += 4) {
            float p[4][4];
            KN_UNROLL for (int i = 0; i < 4; i++) {
                float4 x = cu_get4(plane + (ty + 16 * i) * PLANE_ROW + j0 + j);
                p[i][0] = x.x, p[i][1] = x.y, p[i][2] = x.z, p[i][3] = x.w;
            }
            KN_UNROLL for (int u = 0; u < 4; u++) {
                const float *row = mem + (j + u) * COLS + tx * EW;
                KN_UNROLL for (int e = 0; e < EV; e += EW) {
                    float y[4];
                    if (EW == 4) {
                        float4 x = cu_get4(row + e * 16);
                        y[0] = x.x, y[1] = x.y, y[2] = x.z, y[3] = x.w;
                    } else if (EW == 2) {
                        uint2 x = kn_load8(row + e * 16);
                        y[0] = __uint_as_float(x.x), y[1] = __uint_as_float(x.y);
                    } else {
                        y[0] = row[e * 16];
                    }
                    KN_UNROLL for (int i = 0; i < 4; i++)
                        KN_UNROLL for (int w = 0; w < EW; w++) acc[i][e + w] = fmaf(p[i][u], y[w], acc[i][e + w]);
                }
            }
        }
    }
}

/* Over the 16 threads of a ty. */
KN_DEVICE float attn_row_max(float v)
{
    KN_UNROLL for (int o = 8; o; o >>= 1) v = fmaxf(v, __shfl_xor_sync(KN_FULL, v, o));
    return v;
}
KN_DEVICE float attn_row_sum(float v)
{
    KN_UNROLL for (int o = 8; o; o >>= 1) v += __shfl_xor_sync(KN_FULL, v, o);
    return v;
}

/* EV of the plain kernels for heads of n numbers: 16 EV columns at a time. */
static inline int attn_ev(int64_t n)
{
    return n <= 32 ? 2 : n <= 64 ? 4 : n <= 128 ? 8 : 16;
}

/* ---- on tensor cores ---- tiles are rows of W bf16 in shared memory, W a multiple of 32. Rows' chunks of 16 bytes change places within groups of 8 (W a multiple of 64)
 * or 4, so that the eight rows that ldmatrix reads at once lie in different banks: chunk c of row r is where c ^ swizzle(r) would be. Addresses are written such that all
 * but a few exclusive-ors of the lane's are constants. */

template <int W> struct attn_tile {
    static constexpr int GROUP = W % 64 ? 4 : 8, SHIFT = W % 64 ? 1 : 0;
};
template <int W> KN_DEVICE int attn_swizzle(int row)
{
    return row >> attn_tile<W>::SHIFT & (attn_tile<W>::GROUP - 1);
}

/* Starts the copy of ROWS x W numbers: zeros beyond the first `rows` rows and `cols` columns, a multiple of 8. */
template <int W, int ROWS, int THREADS> KN_DEVICE void attn_copy(bf16 *tile, const bf16 *p, int step, int rows, int cols)
{
    constexpr int GROUP = attn_tile<W>::GROUP, AT_ONCE = THREADS / GROUP;
    int r = threadIdx.x / GROUP, c = threadIdx.x % GROUP;
    const bf16 *from = p + r * step + 8 * c;
    bf16 *to = tile + r * W + (c ^ attn_swizzle<W>(r)) * 8;
    KN_UNROLL for (int i = 0; i < (ROWS + AT_ONCE - 1) / AT_ONCE; i++) {
        KN_UNROLL for (int u = 0; u < W / 8; u += GROUP) {
            bool wanted = r + i * AT_ONCE < rows && 8 * (c + u) < cols;
            if (ROWS % AT_ONCE == 0 || r + i * AT_ONCE < ROWS) kn_cp16(to + i * AT_ONCE * W + 8 * u, wanted ? from + 8 * u : p, wanted);
        }
        from += AT_ONCE * step;
    }
}

/* The row and chunk that this lane names to ldmatrix, of 16 rows from r, a multiple of 8, and two chunks from c, an even constant: one pattern for all fragments. */
template <int W> KN_DEVICE bf16 *attn_place(bf16 *tile, int r, int c)
{
    constexpr int MASK = attn_tile<W>::GROUP - 1;
    int l = threadIdx.x % 32, row = l % 16, half = l / 16;
    return tile + (r + row) * W + ((c & MASK) ^ half ^ attn_swizzle<W>(row)) * 8 + (c & ~MASK) * 8;
}

/* Fragments of 16 x 16 numbers. left: a of kn_mma_bf16, rows from r, columns from 8 c of the tile; left_t: the same of the tile's transposed, its rows from 8 c, columns
 * from r. right: b for columns 0..7 in f[0] f[1] and 8..15 in f[2] f[3]: the tile's rows from r are the product's columns; right_t: they are the sum's index. */
template <int W> KN_DEVICE void attn_left(uint32_t f[4], bf16 *tile, int r, int c)
{
    kn_ldmatrix(f, attn_place<W>(tile, r, c));
}
template <int W> KN_DEVICE void attn_left_t(uint32_t f[4], bf16 *tile, int r, int c)
{
    uint32_t x[4];
    kn_ldmatrix_t(x, attn_place<W>(tile, r, c));
    f[0] = x[0], f[1] = x[2], f[2] = x[1], f[3] = x[3];
}
template <int W> KN_DEVICE void attn_right(uint32_t f[4], bf16 *tile, int r, int c)
{
    uint32_t x[4];
    kn_ldmatrix(x, attn_place<W>(tile, r, c));
    f[0] = x[0], f[1] = x[2], f[2] = x[1], f[3] = x[3];
}
template <int W> KN_DEVICE void attn_right_t(uint32_t f[4], bf16 *tile, int r, int c)
{
    kn_ldmatrix_t(f, attn_place<W>(tile, r, c));
}

/* What a thread keeps of two neighbouring tiles of 16 x 8 sums, as the left operand of the next product. */
KN_DEVICE void attn_sums_left(uint32_t f[4], const float lo[4], const float hi[4])
{
    f[0] = kn_pack_bf16(lo[0], lo[1]), f[1] = kn_pack_bf16(lo[2], lo[3]), f[2] = kn_pack_bf16(hi[0], hi[1]), f[3] = kn_pack_bf16(hi[2], hi[3]);
}

/* Columns c, c + 1 of a row of n; pairs: both fit or neither, and they are aligned. */
KN_DEVICE void attn_put2(float *p, float x, float y, int c, int n, bool pairs)
{
    if (pairs) {
        if (c < n) kn_write8(p, make_uint2(__float_as_uint(x), __float_as_uint(y)));
    } else {
        if (c < n) *p = x;
        if (c + 1 < n) p[1] = y;
    }
}
KN_DEVICE void attn_put2(bf16 *p, float x, float y, int c, int n, bool pairs)
{
    if (pairs) {
        if (c < n) *(uint32_t *)p = kn_pack_bf16(x, y);
    } else {
        if (c < n) *p = cu_round(x);
        if (c + 1 < n) p[1] = cu_round(y);
    }
}
static inline bool attn_pairs(const struct kn_tensor *t)
{
    bool yes = t->d[3] % 2 == 0 && (uintptr_t)t->p % (2 * kn_dtype_size(t->dtype)) == 0;
    for (int i = 0; i < 3; i++) yes &= t->s[i] % 2 == 0;
    return yes;
}

/* Operands as the tensor-core kernels copy them: bf16, rows of whole chunks of 16 bytes. What lies otherwise in memory is rounded, or moved, into scratch first. */
constexpr int PACK_MOST = 4, PACK_THREADS = 256, STEP_MOST = 1 << 22; /* of rows: a tile's offsets fit 32 bits */
struct attn_pack {
    struct {
        const void *from;
        int64_t b, t, h; /* strides */
        int n, heads;
        bool half, by4;
        bf16 *to;        /* [B, n, heads, Kp] */
    } job[PACK_MOST];
};

static inline bool attn_direct(const struct kn_tensor *t)
{
    bool yes = t->dtype == KN_BF16 && t->d[3] % 8 == 0 && (uintptr_t)t->p % 16 == 0 && t->s[1] >= 0 && t->s[1] < STEP_MOST;
    for (int i = 0; i < 3; i++) yes &= t->s[i] % 8 == 0;
    return yes;
}
/* Bytes of scratch for it. */
static inline size_t attn_packed(const struct kn_tensor *t)
{
    return attn_direct(t) ? 0 : (size_t)(t->d[0] * t->d[1] * t->d[2] * ((t->d[3] + 7) / 8 * 8)) * sizeof(bf16);
}

KN_KERNEL(PACK_THREADS) attn_round(struct attn_pack p, int B, int K)
{
    auto &j = p.job[blockIdx.y];
    int chunks = (K + 7) / 8;
    int64_t count = (int64_t)B * j.n * j.heads * chunks, step = (int64_t)gridDim.x * PACK_THREADS;
    for (int64_t i = (int64_t)blockIdx.x * PACK_THREADS + threadIdx.x; i < count; i += step) {
        int64_t row = i / chunks, c = i % chunks * 8, h = row % j.heads, t = row / j.heads % j.n, b = row / j.heads / j.n, at = b * j.b + t * j.t + h * j.h + c;
        float x[8] = {};
        const float *f = (const float *)j.from + at;
        const bf16 *w = (const bf16 *)j.from + at;
        if (j.by4 && c + 8 <= K) {
            float4 lo = j.half ? cu_get4(w) : cu_get4(f), hi = j.half ? cu_get4(w + 4) : cu_get4(f + 4);
            x[0] = lo.x, x[1] = lo.y, x[2] = lo.z, x[3] = lo.w, x[4] = hi.x, x[5] = hi.y, x[6] = hi.z, x[7] = hi.w;
        } else {
            KN_UNROLL for (int e = 0; e < 8; e++)
                if (c + e < K) x[e] = j.half ? cu_get(w + e) : cu_get(f + e);
        }
        kn_write16(j.to + i * 8, make_uint4(kn_pack_bf16(x[0], x[1]), kn_pack_bf16(x[2], x[3]), kn_pack_bf16(x[4], x[5]), kn_pack_bf16(x[6], x[7])));
    }
}

/* as[i]: t[i] as the kernels copy it, in its own memory or from mem on, attn_packed bytes each. */
static inline st_t attn_operands(struct kn_dev *dev, const struct kn_tensor *const *t, struct kn_tensor *as, int n, void *mem)
{
    struct attn_pack p = {};
    int64_t K = t[0]->d[3], most = 0;
    int jobs = 0;
    for (int i = 0; i < n; i++) {
        as[i] = *t[i];
        if (attn_direct(t[i])) continue;
        as[i] = kn_t4(mem, KN_BF16, t[i]->d[0], t[i]->d[1], t[i]->d[2], (K + 7) / 8 * 8);
        p.job[jobs++] = {t[i]->p, t[i]->s[0], t[i]->s[1], t[i]->s[2], (int)t[i]->d[1], (int)t[i]->d[2], t[i]->dtype == KN_BF16, cuda_by4(t[i]), (bf16 *)mem};
        int64_t chunks = kn_count(&as[i]) / 8;
        if (chunks > most) most = chunks;
        mem = (char *)mem + attn_packed(t[i]);
    }
    if (jobs) CUDA_RUN(dev, attn_round, dim3((unsigned)cuda_blocks(most, PACK_THREADS, cuda_of(dev)->sms * 16), (unsigned)jobs), PACK_THREADS, 0, p, (int)t[0]->d[0], (int)K);
    return ST_OK;
}

#endif
