/* Mamba-2's scan on CUDA, what forward and backward share (Dao & Gu 2024, arXiv:2405.21060, section 6): shapes, scratch, decays, and products of tiles.
 *
 * Times are cut into chunks of 64. With a_l the sum of the logarithms of the decays over a chunk's rows up to l, x_l' = t_l x_l and S [P,N] the state before the chunk:
 *   y_l = sum_{s<=l} (c_l . b_s) e^{a_l - a_s} x_s' + e^{a_l} S c_l + d x_l          S <- e^{a_63} S + sum_s e^{a_63 - a_s} x_s' b_s^T
 * Exponents are differences of running sums, never above 0. Sums are kept to base 2. Rows behind the last time have a step of 0 and the last row's sum.
 *
 * Rows p of a state depend on nothing of another row, so a block carries 64 of them (a tile of P) of one head through the chunks. Where heads and tiles
 * are too few for the card, times are cut into segments besides: each segment's own end first, then what comes into each of them (`pass`), then the segments in full. */
#ifndef TAUT_KERNELS_CUDA_SSD_H
#define TAUT_KERNELS_CUDA_SSD_H

#include "kernels/cuda/cuda.h"

constexpr int SSD_CHUNK = 64;      /* rows of a chunk, of a tile, of a tile of P and of one of N */
constexpr int SSD_ROW = 68;        /* floats from row to row of a tile in shared memory: 16-byte aligned, and 4 rows are 16 banks apart */
constexpr int SSD_TILE = 64 * SSD_ROW;
constexpr int SSD_THREADS = 128;
constexpr double SSD_LOG2E = 1.4426950408889634;

struct ssd_dims {
    int64_t B, T, H, G, P, N;
    int64_t chunks, padded; /* padded: times of all chunks */
    int64_t wide;           /* numbers from row to row of states in scratch: N, up to whole 16 bytes */
    int64_t ptiles, ntiles;
    int64_t segs, len;      /* segments, chunks of one (the last may have fewer) */
    int half;               /* products in bf16 */
};

/* Of every head and time, [B,H,padded]: the step t, its derivative by what softplus is given, the sum a. */
struct ssd_decays {
    float *step, *slope, *a;
};

/* In ssd.cu. half: products in bf16, N at most 256. dirs: 1 forward, 2 backward, whose states' gradients run the other way. */
struct ssd_dims ssd_dims_of(const struct kn_dev *dev, const struct kn_tensor *x, const struct kn_tensor *bm, int dirs, bool half);
/* Memory in one piece: p NULL counts. */
struct ssd_carve {
    char *p;
    size_t used;
};
static inline void *ssd_take(struct ssd_carve *c, size_t bytes)
{
    void *at = c->p ? c->p + c->used : NULL;
    c->used += (bytes + 255) & ~(size_t)255;
    return at;
}

/* What the kernels before the scan leave. */
struct ssd_made {
    struct ssd_decays of;
    float *scores;   /* [B,chunks,G,64,64]: c_l . b_s at [s][l] (f32) */
    bf16 *b, *c;     /* [B,chunks,G,64,wide]: the operands, rounded, zeros behind T and N (bf16) */
    float *ends;     /* [dirs,B,H,segs,P,wide]: of each segment its own end, then what comes into it; where there are several */
    float *work;     /* as many: states that do not fit into shared memory */
};
st_t ssd_make(struct kn_dev *dev, const struct ssd_dims *d, const struct ssd_made *m, const struct kn_tensor *dt, const struct kn_tensor *dt_bias,
              const struct kn_tensor *a_log, const struct kn_tensor *bm, const struct kn_tensor *cm);
void ssd_carve_made(struct ssd_carve *c, const struct kn_dev *dev, const struct ssd_dims *d, int dirs, struct ssd_made *m);
/* keep: [2,B,H,chunks,P,wide], f32 or, with d->half, bf16: before each chunk the state, after each chunk its gradient. */
st_t ssd_states(struct kn_dev *dev, const struct ssd_dims *d, const struct ssd_made *m, const struct kn_tensor *x, const struct kn_tensor *dy, const struct kn_tensor *bm,
                const struct kn_tensor *cm, void *keep);

/* ---- 64 x 64 tiles of f32 in shared memory, 128 threads, 8 x 4 numbers a thread ---- */

KN_DEVICE int ssd_row(int i)
{
    return 4 * ((int)threadIdx.x / 16) + i % 4 + i / 4 * 32;
}
KN_DEVICE int ssd_col(int j)
{
    return (int)threadIdx.x % 16 + 16 * j;
}

/* sum += A B over k < K, K up to whole fours. A [row][k] or, A_TURNED, [k][row]; B [k][col] or, B_TURNED, [col][k]. */
template <bool A_TURNED, bool B_TURNED> KN_DEVICE void ssd_product(float (&sum)[8][4], const float *a, const float *b, int K)
{
    for (int k = 0; k < K; k += 4) {
        float fa[4][8], fb[4][4];
        if (A_TURNED) {
            KN_UNROLL for (int e = 0; e < 4; e++)
                KN_UNROLL for (int i = 0; i < 8; i += 4) {
                    float4 v = cu_get4(a + (k + e) * SSD_ROW + ssd_row(i));
                    fa[e][i] = v.x, fa[e][i + 1] = v.y, fa[e][i + 2] = v.z, fa[e][i + 3] = v.w;
                }
        } else {
            KN_UNROLL for (int i = 0; i < 8; i++) {
                float4 v = cu_get4(a + ssd_row(i) * SSD_ROW + k);
                fa[0][i] = v.x, fa[1][i] = v.y, fa[2][i] = v.z, fa[3][i] = v.w;
            }
        }
        if (B_TURNED) {
            KN_UNROLL for (int j = 0; j < 4; j++) {
                float4 v = cu_get4(b + ssd_col(j) * SSD_ROW + k);
                fb[0][j] = v.x, fb[1][j] = v.y, fb[2][j] = v.z, fb[3][j] = v.w;
            }
        } else {
            KN_UNROLL for (int e = 0; e < 4; e++)
                KN_UNROLL for (int j = 0; j < 4; j++) fb[e][j] = b[(k + e) * SSD_ROW + ssd_col(j)];
        }
        KN_UNROLL for (int e = 0; e < 4; e++)
            KN_UNROLL for (int i = 0; i < 8; i++)
                KN_UNROLL for (int j = 0; j < 4; j++) sum[i][j] = fmaf(fa[e][i], fb[e][j], sum[i][j]);
    }
}

KN_DEVICE void ssd_zero(float (&sum)[8][4])
{
    KN_UNROLL for (int i = 0; i < 8; i++)
        KN_UNROLL for (int j = 0; j < 4; j++) sum[i][j] = 0.0f;
}

/* A tile of rows x cols numbers at p, rows a step apart, each times its row's scale (NULL: 1); zeros behind them. by4: cu_get4 reaches all of it. */
KN_DEVICE void ssd_load(float *tile, const float *p, int64_t step, int rows, int cols, int by4, const float *scale)
{
    int r = (int)threadIdx.x / 16, c = (int)threadIdx.x % 16 * 4;
    const float *from = p + r * step + c;
    tile += r * SSD_ROW + c;
    KN_UNROLL for (int i = 0; i < 8; i++, from += 8 * step) {
        float4 v = make_float4(0, 0, 0, 0);
        if (r + 8 * i < rows && c < cols) {
            if (by4) v = cu_get4(from);
            else v = make_float4(from[0], c + 1 < cols ? from[1] : 0.0f, c + 2 < cols ? from[2] : 0.0f, c + 3 < cols ? from[3] : 0.0f);
            if (scale) {
                float s = scale[r + 8 * i];
                v = make_float4(v.x * s, v.y * s, v.z * s, v.w * s);
            }
        }
        cu_put4(tile + 8 * i * SSD_ROW, v);
    }
}

/* A tile of states to scratch, whole fours (zeros behind the last column are written with it). */
KN_DEVICE void ssd_store(float *p, int64_t step, const float *tile, int rows, int cols)
{
    int r = (int)threadIdx.x / 16, c = (int)threadIdx.x % 16 * 4;
    float *to = p + r * step + c;
    tile += r * SSD_ROW + c;
    KN_UNROLL for (int i = 0; i < 8; i++, to += 8 * step)
        if (r + 8 * i < rows && c < cols) cu_write4(to, cu_get4(tile + 8 * i * SSD_ROW));
}

/* ---- tiles of bf16 in shared memory, rows `ld` numbers apart (16-byte aligned, and 8 rows in 8 different groups of banks), and their fragments (kn_ptx.h) ---- */

/* Of a: 16 rows from row0, 16 k from k0, the tile [row][k]; _t: the tile [k][row]. */
KN_DEVICE void ssd_frag_a(uint32_t (&a)[4], const bf16 *tile, int ld, int row0, int k0)
{
    int lane = threadIdx.x % 32;
    kn_ldmatrix(a, tile + (row0 + lane % 16) * ld + k0 + lane / 16 * 8);
}
KN_DEVICE void ssd_frag_a_t(uint32_t (&a)[4], const bf16 *tile, int ld, int row0, int k0)
{
    int lane = threadIdx.x % 32;
    kn_ldmatrix_t(a, tile + (k0 + lane / 16 * 8 + lane % 8) * ld + row0 + lane / 8 % 2 * 8);
}
/* Of b: 16 columns from col0, b[0] b[1] of the first eight, 16 k from k0, the tile [k][col]; _t: the tile [col][k]. */
KN_DEVICE void ssd_frag_b(uint32_t (&b)[4], const bf16 *tile, int ld, int col0, int k0)
{
    int lane = threadIdx.x % 32;
    kn_ldmatrix_t(b, tile + (k0 + lane % 16) * ld + col0 + lane / 16 * 8);
}
KN_DEVICE void ssd_frag_b_t(uint32_t (&b)[4], const bf16 *tile, int ld, int col0, int k0)
{
    int lane = threadIdx.x % 32;
    kn_ldmatrix(b, tile + (col0 + lane / 16 * 8 + lane % 8) * ld + k0 + lane / 8 % 2 * 8);
}
/* a times scale along k, scale that of k0. */
KN_DEVICE void ssd_scale_a(uint32_t (&a)[4], const float *scale)
{
    int c = 2 * ((int)threadIdx.x % 4);
    KN_UNROLL for (int i = 0; i < 4; i++) {
        const float *s = scale + c + i / 2 * 8;
        a[i] = kn_pack_bf16(__uint_as_float(a[i] << 16) * s[0], __uint_as_float(a[i] & 0xffff0000u) * s[1]);
    }
}
/* Two neighbours of eight columns each, a's 16 rows: d += a b. */
KN_DEVICE void ssd_mma2(float (&d0)[4], float (&d1)[4], const uint32_t (&a)[4], const uint32_t (&b)[4])
{
    kn_mma_bf16(d0, a, b);
    kn_mma_bf16(d1, a, b + 2);
}
/* What two accumulators of eight columns each are as an a of 16 k. */
KN_DEVICE void ssd_as_a(uint32_t (&a)[4], const float (&d0)[4], const float (&d1)[4])
{
    a[0] = kn_pack_bf16(d0[0], d0[1]), a[1] = kn_pack_bf16(d0[2], d0[3]);
    a[2] = kn_pack_bf16(d1[0], d1[1]), a[3] = kn_pack_bf16(d1[2], d1[3]);
}

/* rows x cols numbers of f32, rows a step apart, zeros behind them: first asynchronously to `stage` (64 x 64), then, the thread's own having come, rounded into a tile. */
template <int THREADS> KN_DEVICE void ssd_fetch(float *stage, const float *p, int64_t step, int rows, int cols, int by4)
{
    int r = (int)threadIdx.x / 16, c = (int)threadIdx.x % 16 * 4;
    const float *from = p + r * step + c;
    stage += threadIdx.x * 4;
    KN_UNROLL for (int i = 0; i < 1024 / THREADS; i++, from += THREADS / 16 * step) {
        bool wanted = r + i * (THREADS / 16) < rows && c < cols;
        if (by4) kn_cp16(stage + i * THREADS * 4, wanted ? from : p, wanted);
        else
            cu_put4(stage + i * THREADS * 4, make_float4(wanted ? from[0] : 0.0f, wanted && c + 1 < cols ? from[1] : 0.0f, wanted && c + 2 < cols ? from[2] : 0.0f,
                                                         wanted && c + 3 < cols ? from[3] : 0.0f));
    }
}
template <int THREADS> KN_DEVICE void ssd_put(bf16 *tile, int ld, const float *stage)
{
    tile += (int)threadIdx.x / 16 * ld + (int)threadIdx.x % 16 * 4;
    stage += threadIdx.x * 4;
    KN_UNROLL for (int i = 0; i < 1024 / THREADS; i++) cu_put4(tile + i * (THREADS / 16) * ld, cu_get4(stage + i * THREADS * 4));
}
/* `rows` rows of `wide` numbers side by side at p into a tile of 64 rows of WIDE columns, zeros behind them; asynchronously. */
template <int THREADS, int WIDE> KN_DEVICE void ssd_copy(bf16 *tile, const bf16 *p, int rows, int wide)
{
    constexpr int EACH = WIDE / 8, STEP = THREADS / EACH;
    int r = (int)threadIdx.x / EACH, c = (int)threadIdx.x % EACH * 8, at = r * wide + c;
    tile += r * (WIDE + 8) + c;
    KN_UNROLL for (int i = 0; i < 64 / STEP; i++, at += STEP * wide) {
        bool wanted = r + i * STEP < rows && c < wide;
        kn_cp16(tile + i * STEP * (WIDE + 8), wanted ? p + at : p, wanted);
    }
}

/* Two neighbours of t, [.,.,.,any], may be written at once. */
static inline int ssd_by2(const struct kn_tensor *t)
{
    return t->d[3] % 2 == 0 && (uintptr_t)t->p % 8 == 0 && t->s[0] % 2 == 0 && t->s[1] % 2 == 0 && t->s[2] % 2 == 0;
}

KN_DEVICE int ssd_least(int64_t a, int b)
{
    return a < b ? (int)a : b;
}

#endif
