/* Products. Which way, by shape and strides alone:
 *
 *   at most 8 rows (or columns) and the sums along the other operand's rows: every byte of that operand read once, as it lies             few
 *   one of c's strides is 1: cuBLASLt, operands first brought to one type (a copy where they are not)                                      cuda_operand
 *   the rest, and what cuBLASLt refuses                                                                                                    tile
 *
 * Bytes: few, those of the operands and of c; a step of decoding is as fast as its weights can be read, in whatever format they are at rest. Copies of operands:
 * 4 read and 2 written a number from f32 to bf16, 1 and 2 from int8. */
#include "kernels/cuda/cuda.h"

constexpr int THREADS = 256, TILE = 64, DEEP = 16;

/* The f32 behind the `cols` numbers of a row of weights at rest in int8 (tensor.h); rows may begin anywhere. */
KN_DEVICE float stored_scale(const int8_t *row, int64_t cols)
{
    uint32_t u = 0;
    KN_UNROLL for (int i = 0; i < 4; i++) u |= (uint32_t)(uint8_t)row[cols + i] << (8 * i);
    return __uint_as_float(u);
}
/* The i-th of four int8 in a word. */
KN_DEVICE float stored_byte(uint32_t four, int i)
{
    return (float)(int8_t)(four >> (8 * i));
}

/* ---- operands ---- */

/* Copies' rows are whole sixteens of bytes apart, which products are fast with. */
static int64_t padded(int64_t cols)
{
    return (cols + 7) / 8 * 8;
}

/* Slabs of rows so small that their elements count in 32 bits. */
static int64_t slab_of(int64_t row)
{
    return row < INT32_MAX / 2 ? INT32_MAX / 2 / (row ? row : 1) : 1;
}

/* y [rows, cols], ld apart = x, any strides. */
template <class X, class Y> KN_KERNEL(THREADS) pack(const X *x, int64_t s0, int64_t s1, unsigned rows, unsigned cols, Y *y, int64_t ld)
{
    unsigned n = rows * cols, step = gridDim.x * THREADS;
    for (unsigned i = blockIdx.x * THREADS + threadIdx.x; i < n; i += step) {
        unsigned row = i / cols, col = i - row * cols;
        cu_put(y + row * ld + col, cu_get(x + row * s0 + col * s1));
    }
}

/* The same eight numbers at a time: x's rows have a unit stride, they and y's begin at whole eights, `eights` of them each. */
template <class X, class Y> KN_KERNEL(THREADS) pack8(const X *x, int64_t s0, unsigned rows, unsigned eights, Y *y, int64_t ld)
{
    unsigned n = rows * eights, step = gridDim.x * THREADS;
    for (unsigned i = blockIdx.x * THREADS + threadIdx.x; i < n; i += step) {
        unsigned row = i / eights, col = 8 * (i - row * eights);
        const X *from = x + row * s0 + col;
        Y *to = y + row * ld + col;
        float4 lo = cu_get4(from), hi = cu_get4(from + 4);
        if (sizeof(Y) == 2) kn_write16(to, make_uint4(kn_pack_bf16(lo.x, lo.y), kn_pack_bf16(lo.z, lo.w), kn_pack_bf16(hi.x, hi.y), kn_pack_bf16(hi.z, hi.w)));
        else cu_write4(to, lo), cu_write4(to + 4, hi);
    }
}

/* y = weights at rest in int8, four at a time: `words` of them a row; BY4: each begins at a whole four of bytes and the last is whole. */
template <class Y, bool BY4> KN_KERNEL(THREADS) unpack_stored(const int8_t *x, int64_t row_bytes, unsigned rows, unsigned words, int64_t cols, Y *y, int64_t ld)
{
    unsigned n = rows * words, step = gridDim.x * THREADS;
    for (unsigned i = blockIdx.x * THREADS + threadIdx.x; i < n; i += step) {
        unsigned row = i / words, col = 4 * (i - row * words);
        const int8_t *p = x + row * row_bytes;
        uint32_t u = 0;
        float scale;
        if (BY4) u = *(const uint32_t *)(p + col), scale = *(const float *)(p + cols);
        else {
            scale = stored_scale(p, cols);
            KN_UNROLL for (int k = 0; k < 4; k++)
                if (col + k < cols) u |= (uint32_t)(uint8_t)p[col + k] << (8 * k);
        }
        /* the copy's rows are padded, so that four fit at the end of each */
        cu_write4(y + row * ld + col, make_float4(stored_byte(u, 0) * scale, stored_byte(u, 1) * scale, stored_byte(u, 2) * scale, stored_byte(u, 3) * scale));
    }
}

static bool has_unit(int64_t d0, int64_t d1, int64_t s0, int64_t s1)
{
    return ((s1 == 1 || d1 == 1) && (s0 >= d1 || d0 == 1)) || ((s0 == 1 || d0 == 1) && (s1 >= d0 || d1 == 1));
}

template <class X, class Y> static st_t run_pack(struct kn_dev *dev, const X *x, int64_t s0, int64_t s1, int64_t rows, int64_t cols, Y *y, int64_t ld)
{
    int64_t most = cuda_of(dev)->sms * 16, slab;
    bool by8 = s1 == 1 && cols % 8 == 0 && (s0 % 8 == 0 || rows == 1) && (uintptr_t)x % 16 == 0;
    for (int64_t from = 0; from < rows; from += slab) {
        slab = rows - from < slab_of(cols) ? rows - from : slab_of(cols);
        const X *at = x + from * s0;
        if (by8) CUDA_RUN(dev, (pack8<X, Y>), cuda_blocks(slab * cols / 8, THREADS, most), THREADS, 0, at, s0, (unsigned)slab, (unsigned)(cols / 8), y + from * ld, ld);
        else CUDA_RUN(dev, (pack<X, Y>), cuda_blocks(slab * cols, THREADS, most), THREADS, 0, at, s0, s1, (unsigned)slab, (unsigned)cols, y + from * ld, ld);
    }
    return ST_OK;
}

template <class Y> static st_t run_unpack(struct kn_dev *dev, const int8_t *x, int64_t row_bytes, int64_t rows, int64_t cols, Y *y, int64_t ld)
{
    int64_t most = cuda_of(dev)->sms * 16, words = (cols + 3) / 4, slab;
    bool by4 = cols % 4 == 0 && row_bytes % 4 == 0 && (uintptr_t)x % 4 == 0;
    for (int64_t from = 0; from < rows; from += slab) {
        slab = rows - from < slab_of(words) ? rows - from : slab_of(words);
        const int8_t *at = x + from * row_bytes;
        int64_t blocks = cuda_blocks(slab * words, THREADS, most);
        if (by4) CUDA_RUN(dev, (unpack_stored<Y, true>), blocks, THREADS, 0, at, row_bytes, (unsigned)slab, (unsigned)words, cols, y + from * ld, ld);
        else CUDA_RUN(dev, (unpack_stored<Y, false>), blocks, THREADS, 0, at, row_bytes, (unsigned)slab, (unsigned)words, cols, y + from * ld, ld);
    }
    return ST_OK;
}

st_t cuda_operand(struct kn_dev *dev, const struct kn_tensor *t, enum kn_dtype want, enum cuda_slot slot, struct cuda_matrix *out)
{
    *out = {t->p, t->dtype, t->s[0], t->s[1], 0};
    if (t->dtype == want && has_unit(t->d[0], t->d[1], t->s[0], t->s[1])) return ST_OK;
    /* Rows of the copy are what lies side by side in t. */
    bool turned = (t->s[0] == 1 && t->d[0] > 1) || t->dtype == KN_I8, half = want == KN_BF16;
    int64_t rows = t->d[turned], cols = t->d[!turned], s0 = t->s[turned], s1 = t->s[!turned], ld = padded(cols);
    void *p;
    CUDA_TRY(cuda_scratch(dev, slot, (size_t)(rows * ld) * kn_dtype_size(want), &p));
    switch (t->dtype) {
    case KN_F32:
        if (half) CUDA_TRY(run_pack(dev, (const float *)t->p, s0, s1, rows, cols, (bf16 *)p, ld));
        else CUDA_TRY(run_pack(dev, (const float *)t->p, s0, s1, rows, cols, (float *)p, ld));
        break;
    case KN_BF16:
        if (half) CUDA_TRY(run_pack(dev, (const bf16 *)t->p, s0, s1, rows, cols, (bf16 *)p, ld));
        else CUDA_TRY(run_pack(dev, (const bf16 *)t->p, s0, s1, rows, cols, (float *)p, ld));
        break;
    case KN_I8:
        if (half) CUDA_TRY(run_unpack(dev, (const int8_t *)t->p, s0, rows, cols, (bf16 *)p, ld));
        else CUDA_TRY(run_unpack(dev, (const int8_t *)t->p, s0, rows, cols, (float *)p, ld));
        break;
    default: return ST_ENOTSUP;
    }
    *out = {p, want, turned ? 1 : ld, turned ? ld : 1, 0};
    return ST_OK;
}

/* ---- any strides ---- */

template <class T, bool ROUND> KN_DEVICE float factor(const T *p)
{
    float v = cu_get(p);
    return ROUND && sizeof(T) == 4 ? cu_widen(cu_round(v)) : v;
}

/* A block makes 64 x 64 numbers, a thread 4 x 4 of them; sums run over P in order. Threads fetch along whichever stride of an operand is the smaller. */
template <class A, class B, class C, bool ROUND>
KN_KERNEL(THREADS) tile(float alpha, const A *a, int64_t a0, int64_t a1, const B *b, int64_t b0, int64_t b1, float beta, C *c, int64_t c0, int64_t c1, int64_t M, int64_t N, int64_t P)
{
    KN_SHARED(float, mem);
    float(*sa)[TILE + 1] = (float(*)[TILE + 1])mem, (*sb)[TILE + 1] = sa + DEEP;
    unsigned across = (unsigned)((N + TILE - 1) / TILE), t = threadIdx.x;
    int64_t i0 = (int64_t)(blockIdx.x / across) * TILE, j0 = (int64_t)(blockIdx.x % across) * TILE;
    int ty = t / 16, tx = t % 16;
    /* Of four numbers a thread fetches the first, and from one to the next; m, n within the tile, k within its depth. */
    bool along_m = a0 < a1, along_n = b1 <= b0;
    int m0 = along_m ? t % TILE : t / DEEP, ka = along_m ? t / TILE : t % DEEP, dm = along_m ? 0 : THREADS / DEEP, dka = along_m ? THREADS / TILE : 0;
    int n0 = along_n ? t % TILE : t / DEEP, kb = along_n ? t / TILE : t % DEEP, dn = along_n ? 0 : THREADS / DEEP, dkb = along_n ? THREADS / TILE : 0;
    const A *pa = a + (i0 + m0) * a0 + ka * a1;
    const B *pb = b + kb * b0 + (j0 + n0) * b1;
    int64_t stepa = dm * a0 + dka * a1, stepb = dkb * b0 + dn * b1;
    float sum[4][4] = {};
    for (int64_t k0 = 0; k0 < P; k0 += DEEP, pa += DEEP * a1, pb += DEEP * b0) {
        KN_UNROLL for (int q = 0; q < 4; q++) {
            int m = m0 + q * dm, k = ka + q * dka, n = n0 + q * dn, l = kb + q * dkb;
            sa[k][m] = i0 + m < M && k0 + k < P ? factor<A, ROUND>(pa + q * stepa) : 0.0f;
            sb[l][n] = j0 + n < N && k0 + l < P ? factor<B, ROUND>(pb + q * stepb) : 0.0f;
        }
        __syncthreads();
        KN_UNROLL for (int k = 0; k < DEEP; k++)
            KN_UNROLL for (int i = 0; i < 4; i++)
                KN_UNROLL for (int j = 0; j < 4; j++) sum[i][j] = fmaf(sa[k][ty + 16 * i], sb[k][tx + 16 * j], sum[i][j]);
        __syncthreads();
    }
    KN_UNROLL for (int i = 0; i < 4; i++)
        KN_UNROLL for (int j = 0; j < 4; j++) {
            int64_t m = i0 + ty + 16 * i, n = j0 + tx + 16 * j;
            if (m >= M || n >= N) continue;
            C *at = c + m * c0 + n * c1;
            float v = alpha * sum[i][j];
            cu_put(at, beta != 0 ? fmaf(beta, cu_get(at), v) : v);
        }
}

namespace {
struct product {
    int64_t M, N, P;
    float alpha, beta;
    struct cuda_matrix a, b, c;
};
}

template <class A, class B, class C> static st_t run_tile(struct kn_dev *dev, const struct product *g)
{
    int64_t blocks = cuda_blocks(g->M, TILE) * cuda_blocks(g->N, TILE);
    size_t shared = 2 * DEEP * (TILE + 1) * sizeof(float);
    const A *a = (const A *)g->a.p;
    const B *b = (const B *)g->b.p;
    C *c = (C *)g->c.p;
    if (dev->precision == KN_BF16)
        CUDA_RUN(dev, (tile<A, B, C, true>), blocks, THREADS, shared, g->alpha, a, g->a.s0, g->a.s1, b, g->b.s0, g->b.s1, g->beta, c, g->c.s0, g->c.s1, g->M, g->N, g->P);
    else CUDA_RUN(dev, (tile<A, B, C, false>), blocks, THREADS, shared, g->alpha, a, g->a.s0, g->a.s1, b, g->b.s0, g->b.s1, g->beta, c, g->c.s0, g->c.s1, g->M, g->N, g->P);
    return ST_OK;
}

static st_t plain(struct kn_dev *dev, const struct product *g)
{
    int kind = (g->a.dtype == KN_BF16) * 4 + (g->b.dtype == KN_BF16) * 2 + (g->c.dtype == KN_BF16);
    static st_t (*const of[8])(struct kn_dev *, const struct product *) = {
        run_tile<float, float, float>, run_tile<float, float, bf16>, run_tile<float, bf16, float>, run_tile<float, bf16, bf16>,
        run_tile<bf16, float, float>,  run_tile<bf16, float, bf16>,  run_tile<bf16, bf16, float>,  run_tile<bf16, bf16, bf16>,
    };
    return of[kind](dev, g);
}

st_t cuda_matmul(struct kn_dev *dev, int64_t M, int64_t N, int64_t P, float alpha, const struct cuda_matrix *a, const struct cuda_matrix *b, float beta, const struct cuda_matrix *c)
{
    struct product g = {M, N, P, alpha, beta, *a, *b, *c};
    if (!M || !N) return ST_OK;
    if (P && has_unit(M, N, c->s0, c->s1)) {
        st_t st = cuda_blas_matmul(dev, M, N, P, 1, alpha, a, b, beta, c);
        if (st != ST_ENOTSUP) return st;
    }
    return plain(dev, &g);
}

/* ---- few rows ----
 *
 * c [M,N] = a [M,P] w^T, w [N,P] with its numbers side by side. A warp takes 4 rows of w and up to MT of a; of each 256 numbers of a row a lane has two fours. The block
 * shares a, f32 in shared memory, by slices of the sum; where there are few blocks, its warps share rows of w too (`split` warps take turns at the 256 numbers), and their
 * sums are added in the order of the warps. */

constexpr int WARPS = THREADS / 32, ROWS = 4, STEP = 256, FEW = 8, SLICE_BYTES = 32 << 10;

/* Four numbers of a row as they lie in memory, so that loads need not wait for each other's conversion; read at once, or one by one as far as `left` goes. */
template <class W> struct raw;
template <> struct raw<float> {
    uint4 v;
};
template <> struct raw<bf16> {
    uint2 v;
};
template <> struct raw<int8_t> {
    uint32_t v;
};
KN_DEVICE void load_whole(raw<float> *r, const float *p)
{
    r->v = kn_load16(p);
}
KN_DEVICE void load_whole(raw<bf16> *r, const bf16 *p)
{
    r->v = kn_load8(p);
}
KN_DEVICE void load_whole(raw<int8_t> *r, const int8_t *p)
{
    r->v = *(const uint32_t *)p;
}
KN_DEVICE void load_some(raw<float> *r, const float *p, int left)
{
    r->v = make_uint4(left > 0 ? __float_as_uint(p[0]) : 0, left > 1 ? __float_as_uint(p[1]) : 0, left > 2 ? __float_as_uint(p[2]) : 0, left > 3 ? __float_as_uint(p[3]) : 0);
}
KN_DEVICE void load_some(raw<bf16> *r, const bf16 *p, int left)
{
    r->v.x = (left > 0 ? p[0] : 0) | (left > 1 ? (uint32_t)p[1] << 16 : 0);
    r->v.y = (left > 2 ? p[2] : 0) | (left > 3 ? (uint32_t)p[3] << 16 : 0);
}
KN_DEVICE void load_some(raw<int8_t> *r, const int8_t *p, int left)
{
    r->v = 0;
    KN_UNROLL for (int i = 0; i < 4; i++)
        if (left > i) r->v |= (uint32_t)(uint8_t)p[i] << (8 * i);
}
KN_DEVICE float4 widened(const raw<float> &r)
{
    return make_float4(__uint_as_float(r.v.x), __uint_as_float(r.v.y), __uint_as_float(r.v.z), __uint_as_float(r.v.w));
}
KN_DEVICE float4 widened(const raw<bf16> &r)
{
    return make_float4(__uint_as_float(r.v.x << 16), __uint_as_float(r.v.x & 0xffff0000u), __uint_as_float(r.v.y << 16), __uint_as_float(r.v.y & 0xffff0000u));
}
KN_DEVICE float4 widened(const raw<int8_t> &r)
{
    return make_float4(stored_byte(r.v, 0), stored_byte(r.v, 1), stored_byte(r.v, 2), stored_byte(r.v, 3));
}

/* What a row's numbers are multiplied with. */
KN_DEVICE float scale_of(const int8_t *row, int64_t P)
{
    return stored_scale(row, P);
}
KN_DEVICE float scale_of(const float *, int64_t)
{
    return 1.0f;
}
KN_DEVICE float scale_of(const bf16 *, int64_t)
{
    return 1.0f;
}

/* Lane l gets the warp's sum of v[l * V / 32]: each step hands half of what is left to the lane across and takes its other half, until one number is left. V: 4, 16 or 32. */
template <int V, int ACROSS = 16> KN_DEVICE float spread_sum(const float *v)
{
    constexpr int LEFT = V > 1 ? V / 2 : 1;
    float next[LEFT];
    if constexpr (V == 1) next[0] = v[0] + __shfl_xor_sync(KN_FULL, v[0], ACROSS);
    else {
        bool upper = threadIdx.x & ACROSS;
        KN_UNROLL for (int i = 0; i < LEFT; i++) {
            float give = upper ? v[i] : v[i + LEFT], keep = upper ? v[i + LEFT] : v[i];
            next[i] = keep + __shfl_xor_sync(KN_FULL, give, ACROSS);
        }
    }
    if constexpr (ACROSS == 1) return next[0];
    else return spread_sum<LEFT, ACROSS / 2>(next);
}

template <class W, int MT>
KN_KERNEL_MIN(THREADS, MT == 1 ? 4 : 2) few(const void *a, bool a_half, int64_t a0, int64_t a1, const W *w, int64_t row, bool whole, int64_t M, int64_t N, int64_t P, int split, int slice, float alpha,
                       float beta, void *c, bool c_half, int64_t c0, int64_t c1)
{
    KN_SHARED(float, mem); /* [MT][slice], then each warp's sums */
    constexpr int SUMS = ROWS * MT;
    float *sums = mem + MT * slice;
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32, part = warp % split;
    int64_t n0 = ((int64_t)blockIdx.x * (WARPS / split) + warp / split) * ROWS, m0 = (int64_t)blockIdx.y * MT;
    const W *p[ROWS]; /* rows past the last are the last */
    KN_UNROLL for (int r = 0; r < ROWS; r++) p[r] = w + (n0 + r < N ? n0 + r : N - 1) * row + 4 * lane;
    float sum[SUMS] = {};
    for (int64_t k0 = 0; k0 < P; k0 += slice) {
        int n = (int)(P - k0 < slice ? P - k0 : slice), filled = (n + STEP - 1) / STEP * STEP;
        if (k0) __syncthreads();
        for (int m = 0; m < MT; m++)
            for (int k = threadIdx.x; k < filled; k += THREADS) {
                int64_t at = (m0 + m) * a0 + (k0 + k) * a1;
                float v = 0;
                if (m0 + m < M && k < n) v = a_half ? cu_get((const bf16 *)a + at) : cu_get((const float *)a + at);
                mem[m * slice + k] = v;
            }
        __syncthreads();
        for (int k = part * STEP; k < n; k += split * STEP) {
            raw<W> v[ROWS][2] = {};
            int left = n - k - 4 * lane;
            if (whole)
                KN_UNROLL for (int r = 0; r < ROWS; r++)
                    KN_UNROLL for (int j = 0; j < 2; j++) {
                        if (left > 128 * j) load_whole(&v[r][j], p[r] + k + 128 * j);
                    }
            else
                KN_UNROLL for (int r = 0; r < ROWS; r++)
                    KN_UNROLL for (int j = 0; j < 2; j++) load_some(&v[r][j], p[r] + k + 128 * j, left - 128 * j);
            KN_UNROLL for (int j = 0; j < 2; j++) {
                float4 w4[ROWS];
                KN_UNROLL for (int r = 0; r < ROWS; r++) w4[r] = widened(v[r][j]);
                KN_UNROLL for (int m = 0; m < MT; m++) {
                    float4 x = cu_get4(mem + m * slice + k + 128 * j + 4 * lane);
                    KN_UNROLL for (int r = 0; r < ROWS; r++) {
                        float s = sum[r * MT + m];
                        s = fmaf(w4[r].x, x.x, s), s = fmaf(w4[r].y, x.y, s);
                        sum[r * MT + m] = fmaf(w4[r].w, x.w, fmaf(w4[r].z, x.z, s));
                    }
                }
            }
        }
        KN_UNROLL for (int r = 0; r < ROWS; r++) p[r] += slice;
    }
    float s = spread_sum<SUMS>(sum);
    int which = lane * SUMS / 32;
    if (split > 1) {
        if (lane % (32 / SUMS) == 0) sums[warp * SUMS + which] = s;
        __syncthreads();
        for (int i = 1; i < split && part == 0; i++) s += sums[(warp + i) * SUMS + which];
    }
    int64_t n = n0 + which / MT, m = m0 + which % MT;
    if (part || lane % (32 / SUMS) || m >= M || n >= N) return;
    s *= alpha * scale_of(w + n * row, P);
    int64_t at = m * c0 + n * c1;
    if (c_half) cu_put((bf16 *)c + at, beta != 0 ? fmaf(beta, cu_get((bf16 *)c + at), s) : s);
    else cu_put((float *)c + at, beta != 0 ? fmaf(beta, cu_get((float *)c + at), s) : s);
}

template <class W, int MT> static st_t run_few_of(struct kn_dev *dev, const struct product *g)
{
    int slice = SLICE_BYTES / (MT * 4), split = 1, most = (int)((g->P + STEP - 1) / STEP);
    int64_t row = g->b.s1, unit = sizeof(W) * 4;
    if (g->P < slice) slice = most * STEP;
    if (most > slice / STEP) most = slice / STEP;
    while (split < WARPS && 2 * split <= most && cuda_blocks(g->N, WARPS / split * ROWS) < 2 * cuda_of(dev)->sms) split *= 2;
    bool whole = g->P % 4 == 0 && (uintptr_t)g->b.p % unit == 0 && (row % 4 == 0 || g->N == 1);
    dim3 grid((unsigned)cuda_blocks(g->N, WARPS / split * ROWS), (unsigned)cuda_blocks(g->M, MT));
    CUDA_RUN(dev, (few<W, MT>), grid, THREADS, (size_t)(MT * slice + WARPS * ROWS * MT) * sizeof(float), g->a.p, g->a.dtype == KN_BF16, g->a.s0, g->a.s1, (const W *)g->b.p, row, whole, g->M, g->N, g->P,
             split, slice, g->alpha, g->beta, (void *)g->c.p, g->c.dtype == KN_BF16, g->c.s0, g->c.s1);
    return ST_OK;
}

template <class W> static st_t run_few(struct kn_dev *dev, const struct product *g)
{
    return g->M == 1 ? run_few_of<W, 1>(dev, g) : g->M <= 4 ? run_few_of<W, 4>(dev, g) : run_few_of<W, FEW>(dev, g);
}

/* Rows of a up to which b is better read as it lies. int8 pays for two readings: a copy in bf16 costs five times its bytes. Short sums leave lanes idle. */
static bool is_few(int64_t M, int64_t P, const struct cuda_matrix *b)
{
    return b->s0 == 1 && (b->dtype == KN_I8 ? M <= 2 * FEW && P > 0 : M <= FEW && P >= 64);
}

extern "C" st_t cuda_gemm(struct kn_dev *dev, double alpha, const struct kn_tensor *a, const struct kn_tensor *b, double beta, const struct kn_tensor *c)
{
    CUDA_TRY(kn_check_gemm(alpha, a, b, beta, c));
    bool rest = b->dtype == KN_I8 || (b->dtype == KN_BF16 && b->s[0] == 1);
    if (!cuda_has(dev, a) || !cuda_has(dev, c) || (!rest && !cuda_has(dev, b))) return ST_ENOTSUP;
    struct product g = {c->d[0], c->d[1], a->d[1], (float)alpha, (float)beta, {a->p, a->dtype, a->s[0], a->s[1], 0}, {b->p, b->dtype, b->s[0], b->s[1], 0},
                        {c->p, c->dtype, c->s[0], c->s[1], 0}};
    if (!g.M || !g.N) return ST_OK;
    struct cuda_matrix at = {a->p, a->dtype, a->s[1], a->s[0], 0}, bt = {b->p, b->dtype, b->s[1], b->s[0], 0}, ct = {c->p, c->dtype, c->s[1], c->s[0], 0};
    bool few_rows = is_few(g.M, g.P, &g.b), few_cols = b->dtype != KN_I8 && is_few(g.N, g.P, &at);
    if (!few_rows && few_cols) g = {g.N, g.M, g.P, g.alpha, g.beta, bt, at, ct}; /* c^T = b^T a^T */
    if (few_rows || few_cols) return g.b.dtype == KN_I8 ? run_few<int8_t>(dev, &g) : g.b.dtype == KN_BF16 ? run_few<bf16>(dev, &g) : run_few<float>(dev, &g);
    enum kn_dtype want = dev->precision == KN_BF16 ? KN_BF16 : KN_F32;
    bool as_they_are = !g.P || !has_unit(g.M, g.N, g.c.s0, g.c.s1); /* the tile kernel takes them so */
    if (!as_they_are) CUDA_TRY(cuda_operand(dev, a, want, CUDA_SLOT_GEMM_A, &g.a));
    if (!as_they_are || b->dtype == KN_I8) CUDA_TRY(cuda_operand(dev, b, as_they_are ? KN_F32 : want, CUDA_SLOT_GEMM_B, &g.b));
    return cuda_matmul(dev, g.M, g.N, g.P, g.alpha, &g.a, &g.b, g.beta, &g.c);
}
