/* Products with one matrix for each run of rows. Where the runs lie is known on the device alone, so that grids are laid out for the most tiles that M rows in E runs can have
 * (each run begins a tile of its own): a first kernel writes which run and which of its rows each tile of rows has, the blocks beyond the last tile leave at once.
 *
 * Operations 2 M P Q. Bytes: gemm_grouped reads a and the matrices of runs that have rows once, if the cache holds what neighbouring blocks share, and writes c;
 * gemm_grouped_sum reads a and b, and reads and writes c of those runs.
 *
 * Precision f32: tiles of 128 x 128 (runs of many rows) or 64 x 64 with an operand's next step in registers while FMAs work on the one in shared memory.
 * Precision bf16: mma_tile.h. Runs of many rows take tiles of 128 x 256 or 128 x 128, whose operands are bf16 that is copied asynchronously; what lies otherwise is first
 * rounded into scratch (6 bytes a number, once, instead of 4 for each tile that reads it). Runs of few rows, where each matrix is read about once, take tiles of 64 x 128
 * that round on the way, or 64 x 64 where those would leave multiprocessors idle. Weights at rest in int8 are multiplied as the whole numbers they are, exact in bf16,
 * and a column's sum by its scale.
 *
 * gemm_grouped_sum: a run's rows are summed in their order. Where matrices are too few and small to occupy the card, each run is cut into equal parts; parts go to
 * scratch and are added in their order. */
#include "kernels/cuda/mma_tile.h"

constexpr int MAP = 1024, FMA = 256, HALF = 256, ADD = 256, BAND = 8, PARTS_MOST = 32;
/* Rows of a run, on average, from which large tiles are the faster ones: where operands must be rounded first, and where not. */
constexpr int MANY_ROUNDED = 192, MANY = 96;

/* ---- which rows a tile has ---- */

/* Bounds of run e, within 0..M whatever offset says. */
KN_DEVICE void run_of(const int32_t *offset, int e, int M, int *from, int *to)
{
    int a = offset[e], b = offset[e + 1];
    *from = a < 0 ? 0 : a, *to = b > M ? M : b;
}

/* map[i] = (run, first row) of the i-th tile of `rows` rows; the run is -1 behind the last of them. One block. */
KN_KERNEL(MAP) map_tiles(const int32_t *offset, int E, int M, int rows, uint2 *map, int tiles)
{
    KN_SHARED(int, first); /* [MAP + 1] tiles before each run of this round, [32] sums of warps */
    int *part = first + MAP + 1, tid = threadIdx.x, base = 0;
    for (int e0 = 0; e0 < E; e0 += MAP) {
        int e = e0 + tid, from = 0, to = 0, n = 0;
        if (e < E) {
            run_of(offset, e, M, &from, &to);
            if (to > from) n = (to - from + rows - 1) / rows;
        }
        int sum = n;
        KN_UNROLL for (int o = 1; o < 32; o *= 2) {
            int v = __shfl_up_sync(KN_FULL, sum, o);
            if (tid % 32 >= o) sum += v;
        }
        if (tid % 32 == 31) part[tid / 32] = sum;
        __syncthreads();
        if (tid < 32) {
            int v = part[tid];
            KN_UNROLL for (int o = 1; o < 32; o *= 2) {
                int w = __shfl_up_sync(KN_FULL, v, o);
                if (tid >= o) v += w;
            }
            part[tid] = v;
        }
        __syncthreads();
        first[tid + 1] = sum + (tid >= 32 ? part[tid / 32 - 1] : 0);
        if (tid == 0) first[0] = 0;
        __syncthreads();
        int all = first[MAP], most = tiles - base < all ? tiles - base : all;
        for (int i = tid; i < most; i += MAP) {
            int low = 0, high = MAP; /* first[low] <= i < first[high] */
            while (high - low > 1) {
                int middle = (low + high) / 2;
                if (first[middle] <= i) low = middle;
                else high = middle;
            }
            int start = offset[e0 + low];
            map[base + i] = make_uint2((unsigned)(e0 + low), (unsigned)((start < 0 ? 0 : start) + (i - first[low]) * rows));
        }
        base += most;
        __syncthreads();
    }
    for (int i = base + tid; i < tiles; i += MAP) map[i] = make_uint2(0xffffffffu, 0);
}

/* ---- what the kernels are given ---- */

/* An operand or result: element strides of its row (within a run, or of a matrix), its column, and from a run's matrix to the next. */
namespace {
struct matrix {
    void *p;
    int64_t s0, s1, se;
    int kind;
    int fast;  /* the dim, 0 or 1, along which it is read by chunks */
    bool wide; /* as mma_is_wide; of c: four neighbours may be read and written at once */
};

struct grouped {
    const int32_t *offset;
    const uint2 *map;
    struct matrix a, b, c;
    const unsigned char *scales; /* of int8: a column's scale stands behind its `in` numbers, rows of row_bytes; NULL: none */
    int64_t row_bytes, run_bytes;
    float beta;
    float *part; /* of sums in parts, [parts, E, P, Q]; NULL: to c */
    int E, M, P, Q, parts;
};
}

/* A block's tile. */
namespace {
struct place {
    int e, row, rows, col; /* of gemm_grouped, rows of a and c; of sums, rows [row, row + rows) are summed and m is the first row of c */
    int m, part;
};
}

/* Blocks go through BAND tiles of rows before the next column of tiles, so that what runs at once shares both operands. */
KN_DEVICE bool place_of(const struct grouped &g, int bm, int bn, struct place *at)
{
    int across = (g.Q + bn - 1) / bn, band = blockIdx.x / (unsigned)(BAND * across), i = blockIdx.x % (unsigned)(BAND * across);
    uint2 t = g.map[band * BAND + i % BAND];
    int from, to;
    at->e = (int)t.x, at->row = (int)t.y, at->col = i / BAND * bn, at->m = at->part = 0;
    if (at->e < 0) return false;
    run_of(g.offset, at->e, g.M, &from, &to);
    at->rows = to - at->row < bm ? to - at->row : bm;
    return true;
}

/* Rows of a part: whole steps of both kinds of tile. */
KN_DEVICE int part_rows(int n, int parts)
{
    return ((n + parts - 1) / parts + 31) / 32 * 32;
}

KN_DEVICE bool sum_place_of(const struct grouped &g, int bm, int bn, struct place *at)
{
    int across = (g.Q + bn - 1) / bn, down = (g.P + bm - 1) / bm, i = blockIdx.x % (unsigned)(across * down), j = blockIdx.x / (unsigned)(across * down), from, to;
    at->e = j % g.E, at->part = j / g.E, at->m = i % down * bm, at->col = i / down * bn;
    run_of(g.offset, at->e, g.M, &from, &to);
    int by = part_rows(to - from, g.parts);
    at->row = from + at->part * by, at->rows = to - at->row < by ? to - at->row : by;
    return at->rows > 0;
}

KN_DEVICE float scale_of(const struct grouped &g, int e, int col)
{
    const unsigned char *p = g.scales + e * g.run_bytes + col * g.row_bytes;
    uint32_t u = 0;
    KN_UNROLL for (int i = 0; i < 4; i++) u |= (uint32_t)p[i] << (8 * i); /* rows may begin anywhere */
    return __uint_as_float(u);
}

/* c = v + beta c of up to four neighbours (n) of each of four rows, those of them below `rows`; c: the number of row 0. What is there of all of them is asked for first. */
template <class T> KN_DEVICE void put_fours(T *c, const struct matrix &m, float beta, const int row[4], int rows, const float4 v[4], int n)
{
    if (m.wide && n >= 4) {
        float4 was[4];
        KN_UNROLL for (int i = 0; i < 4; i++) was[i] = beta != 0 && row[i] < rows ? cu_get4(c + row[i] * m.s0) : make_float4(0, 0, 0, 0);
        KN_UNROLL for (int i = 0; i < 4; i++)
            if (row[i] < rows)
                cu_put4(c + row[i] * m.s0, beta != 0 ? make_float4(fmaf(beta, was[i].x, v[i].x), fmaf(beta, was[i].y, v[i].y), fmaf(beta, was[i].z, v[i].z), fmaf(beta, was[i].w, v[i].w)) : v[i]);
        return;
    }
    KN_UNROLL for (int i = 0; i < 4; i++) {
        float x[4] = {v[i].x, v[i].y, v[i].z, v[i].w};
        T *p = c + row[i] * m.s0;
        KN_UNROLL for (int j = 0; j < 4; j++)
            if (row[i] < rows && j < n) cu_put(p + j * m.s1, beta != 0 ? fmaf(beta, cu_get(p + j * m.s1), x[j]) : x[j]);
    }
}

/* Of the tile's rows and columns. */
KN_DEVICE void put_rows(const struct grouped &g, const struct place &at, const int row[4], int col, const float4 v[4])
{
    col += at.col;
    int n = g.Q - col;
    if (n <= 0) return;
    float4 out[4] = {v[0], v[1], v[2], v[3]};
    if (g.scales) {
        float4 s = make_float4(scale_of(g, at.e, col), n > 1 ? scale_of(g, at.e, col + 1) : 0, n > 2 ? scale_of(g, at.e, col + 2) : 0, n > 3 ? scale_of(g, at.e, col + 3) : 0);
        KN_UNROLL for (int i = 0; i < 4; i++) out[i] = make_float4(v[i].x * s.x, v[i].y * s.y, v[i].z * s.z, v[i].w * s.w);
    }
    int64_t o = at.row * g.c.s0 + col * g.c.s1;
    if (g.c.kind == MMA_F32) put_fours((float *)g.c.p + o, g.c, g.beta, row, at.rows, out, n);
    else put_fours((bf16 *)g.c.p + o, g.c, g.beta, row, at.rows, out, n);
}

/* Likewise of a run's sum, which is added to what is there, or set aside. */
KN_DEVICE void add_rows(const struct grouped &g, const struct place &at, const int row[4], int col, const float4 v[4])
{
    col += at.col;
    int n = g.Q - col;
    if (n <= 0) return;
    if (g.part) {
        struct matrix m = {g.part, g.Q, 1, 0, MMA_F32, 1, g.Q % 4 == 0};
        put_fours(g.part + (((int64_t)at.part * g.E + at.e) * g.P + at.m) * g.Q + col, m, 0.0f, row, g.P - at.m, v, n);
    } else
        put_fours((float *)g.c.p + at.e * g.c.se + at.m * g.c.s0 + col * g.c.s1, g.c, 1.0f, row, g.P - at.m, v, n);
}

/* The parts of a run's sum, in their order. A thread a number; grid.y: runs, in rounds of what it holds. */
KN_KERNEL(ADD) add_parts(struct grouped g)
{
    int64_t n = (int64_t)g.P * g.Q;
    for (int e = blockIdx.y; e < g.E; e += gridDim.y) {
        int from, to;
        run_of(g.offset, e, g.M, &from, &to);
        if (to <= from) continue;
        int by = part_rows(to - from, g.parts), parts = (to - from + by - 1) / by;
        for (int64_t i = (int64_t)blockIdx.x * ADD + threadIdx.x; i < n; i += (int64_t)gridDim.x * ADD) {
            float sum = 0;
            for (int p = 0; p < parts; p++) sum += g.part[((int64_t)p * g.E + e) * n + i];
            ((float *)g.c.p)[e * g.c.se + i / g.Q * g.c.s0 + i % g.Q * g.c.s1] += sum;
        }
    }
}

/* ---- precision bf16 ---- */

KN_DEVICE struct mma_source source_of(const struct matrix &m, int64_t first, int64_t so, int64_t sk, int outer)
{
    struct mma_source s = {(const unsigned char *)m.p + first * mma_size(m.kind), so, sk, outer, m.kind, m.wide};
    return s;
}

template <class T, int BLOCKS> KN_KERNEL_MIN(T::THREADS, BLOCKS) rows_mma(struct grouped g)
{
    KN_SHARED(unsigned char, mem);
    struct place at;
    if (!place_of(g, T::BM, T::BN, &at)) return;
    float acc[T::MF][T::NF][4] = {};
    struct mma_source a = source_of(g.a, at.row * g.a.s0, g.a.s0, g.a.s1, at.rows);
    struct mma_source b = source_of(g.b, at.e * g.b.se + at.col * g.b.s1, g.b.s1, g.b.s0, g.Q - at.col < T::BN ? g.Q - at.col : T::BN);
    T::run(acc, mem, a, b, g.P);
    T::each_four(acc, mem, [&](const int row[4], int col, const float4 v[4]) { put_rows(g, at, row, col, v); });
}

template <class T, int BLOCKS> KN_KERNEL_MIN(T::THREADS, BLOCKS) sum_mma(struct grouped g)
{
    KN_SHARED(unsigned char, mem);
    struct place at;
    if (!sum_place_of(g, T::BM, T::BN, &at)) return;
    float acc[T::MF][T::NF][4] = {};
    struct mma_source a = source_of(g.a, at.row * g.a.s0 + at.m * g.a.s1, g.a.s1, g.a.s0, g.P - at.m < T::BM ? g.P - at.m : T::BM);
    struct mma_source b = source_of(g.b, at.row * g.b.s0 + at.col * g.b.s1, g.b.s1, g.b.s0, g.Q - at.col < T::BN ? g.Q - at.col : T::BN);
    T::run(acc, mem, a, b, at.rows);
    T::each_four(acc, mem, [&](const int row[4], int col, const float4 v[4]) { add_rows(g, at, row, col, v); });
}

/* y [E, slow, length], bf16, contiguous = x [E, slow, fast] rounded, zeros beyond its rows' end. Runs without rows are left out (offset NULL: none is). Blocks e by + i, i < by. */
KN_KERNEL(HALF) round_all(const int32_t *offset, int M, const unsigned char *x, int kind, bool wide, int64_t se, int64_t s_slow, int64_t s_fast, int slow, int fast, int length, int by, bf16 *y)
{
    int e = blockIdx.x / (unsigned)by, across = length / 8, from = 0, to = 1;
    int64_t n = (int64_t)slow * across;
    if (offset) run_of(offset, e, M, &from, &to);
    if (to <= from) return;
    for (int64_t i = (int64_t)(blockIdx.x % (unsigned)by) * HALF + threadIdx.x; i < n; i += (int64_t)by * HALF) {
        uint32_t raw[8];
        int64_t r = i / across, c = (i - r * across) * 8;
        mma_fetch(raw, x + (e * se + r * s_slow + c * s_fast) * mma_size(kind), s_fast, fast - (int)c, kind, wide);
        kn_write16(y + (e * (int64_t)slow + r) * length + c, mma_pack(raw, kind));
    }
}

/* *m: in bf16 and fit for asynchronous copies; a copy in the slot where it is not, whose rows lie along m->fast. d0, d1: dims of one of its `runs` matrices. */
static bool is_async(const struct matrix *m, int d0, int d1)
{
    return m->fast ? mma_can_async(m->p, m->kind, m->s1, m->s0, m->se, d1) : mma_can_async(m->p, m->kind, m->s0, m->s1, m->se, d0);
}
static st_t make_async(struct kn_dev *dev, struct matrix *m, int d0, int d1, int runs, const int32_t *offset, int M, enum cuda_slot slot)
{
    if (is_async(m, d0, d1)) return ST_OK;
    int slow = m->fast ? d0 : d1, fast = m->fast ? d1 : d0, length = (fast + 7) / 8 * 8;
    int64_t s_slow = m->fast ? m->s0 : m->s1, s_fast = m->fast ? m->s1 : m->s0, size = (int64_t)slow * length;
    void *p;
    CUDA_TRY(cuda_scratch(dev, slot, (size_t)(runs * size) * sizeof(bf16), &p));
    int64_t by = cuda_blocks(size / 8, HALF, 1 + cuda_of(dev)->sms * 16 / runs);
    CUDA_RUN(dev, round_all, by * runs, HALF, 0, offset, M, (const unsigned char *)m->p, m->kind, m->wide, m->se, s_slow, s_fast, slow, fast, length, (int)by, (bf16 *)p);
    *m = {p, m->fast ? length : 1, m->fast ? 1 : length, size, MMA_BF16, m->fast, true};
    return ST_OK;
}

template <class T, int BLOCKS> static st_t run_rows(struct kn_dev *dev, const struct grouped &g, int64_t blocks)
{
    CUDA_RUN(dev, (rows_mma<T, BLOCKS>), blocks, T::THREADS, T::SHARED, g);
    return ST_OK;
}
template <class T, int BLOCKS> static st_t run_sum(struct kn_dev *dev, const struct grouped &g, int64_t blocks)
{
    CUDA_RUN(dev, (sum_mma<T, BLOCKS>), blocks, T::THREADS, T::SHARED, g);
    return ST_OK;
}

/* ---- precision f32 ---- */

/* A thread makes TM x TN numbers of 16 TM x 16 TN, in squares of four side by side, TM = TN = 4 or 8; a step is what a four a thread brings. */
namespace {
template <int TM, int TN> struct fma_tile {
    static constexpr int BM = 16 * TM, BN = 16 * TN, DEEP = FMA * 4 / BM;
    static constexpr int LA = BM + 4, LB = BN + 4; /* whole fours, rows of k begin in other banks */
    static constexpr int STEPS = 2 * DEEP * (LA + LB), OUT = 64 * LB;
    static constexpr size_t SHARED = (size_t)(STEPS > OUT ? STEPS : OUT) * sizeof(float);
    static_assert(BM == BN, "");
};
}

/* Four numbers as they are in memory, for fma_side: f32 in four words, bf16 in two, int8 in one. */
KN_DEVICE void fetch4(uint32_t raw[4], const unsigned char *p, int64_t step, int n, int kind, bool wide)
{
    KN_UNROLL for (int i = 0; i < 4; i++) raw[i] = 0;
    if (n <= 0) return;
    if (kind == MMA_F32) {
        if (wide && n >= 4) {
            uint4 x = kn_load16(p);
            raw[0] = x.x, raw[1] = x.y, raw[2] = x.z, raw[3] = x.w;
        } else {
            KN_UNROLL for (int i = 0; i < 4; i++)
                if (i < n) raw[i] = ((const uint32_t *)p)[i * step];
        }
    } else if (kind == MMA_BF16) {
        if (wide && n >= 4) {
            uint2 x = kn_load8(p);
            raw[0] = x.x, raw[1] = x.y;
        } else {
            KN_UNROLL for (int i = 0; i < 4; i++)
                if (i < n) raw[i / 2] |= (uint32_t)((const uint16_t *)p)[i * step] << (16 * (i % 2));
        }
    } else if (wide && n >= 4) {
        raw[0] = *(const uint32_t *)p;
    } else {
        KN_UNROLL for (int i = 0; i < 4; i++)
            if (i < n) raw[0] |= (uint32_t)p[i * step] << (8 * i);
    }
}
KN_DEVICE float4 floats4(const uint32_t raw[4], int kind)
{
    if (kind == MMA_F32) return make_float4(__uint_as_float(raw[0]), __uint_as_float(raw[1]), __uint_as_float(raw[2]), __uint_as_float(raw[3]));
    if (kind == MMA_BF16) return make_float4(__uint_as_float(raw[0] << 16), __uint_as_float(raw[0] & 0xffff0000u), __uint_as_float(raw[1] << 16), __uint_as_float(raw[1] & 0xffff0000u));
    return make_float4(mma_byte(raw[0], 0), mma_byte(raw[0], 1), mma_byte(raw[0], 2), mma_byte(raw[0], 3));
}

/* One operand's steps: [k][SPAN + 4] in shared memory. turned: its numbers lie side by side along o, not k. REST: it may be weights at rest, else it is f32. */
namespace {
template <int SPAN, bool REST> struct fma_side {
    static constexpr int DEEP = FMA * 4 / SPAN, LD = SPAN + 4;
    const unsigned char *from; /* the thread's four of the step that is read next */
    int o, k;                  /* its place in the tile and among the k's */
    int slot;                  /* its place in the step, in numbers */
    uint32_t raw[4];

    KN_DEVICE int kind(const mma_source &s)
    {
        return REST ? s.kind : (int)MMA_F32;
    }
    /* Along k, two neighbours of a row are read together (a sector), 16 rows a warp, and stored without two in a bank. */
    KN_DEVICE void begin(fma_side &me, const mma_source &s, bool turned)
    {
        int id = (int)threadIdx.x;
        if (turned) me.o = id % (SPAN / 4) * 4, me.k = id / (SPAN / 4);
        else me.o = id / 2 % SPAN, me.k = (id % 2 + id / 2 / SPAN * 2) * 4;
        me.slot = me.k * LD + me.o;
        me.from = (const unsigned char *)s.p + (me.o * s.so + me.k * s.sk) * mma_size(kind(s));
    }
    KN_DEVICE void fetch(fma_side &me, const mma_source &s, bool turned, int K)
    {
        int n = me.o < s.outer && me.k < K ? (turned ? s.outer - me.o : K - me.k) : 0;
        fetch4(me.raw, me.from, turned ? s.so : s.sk, n, kind(s), s.wide);
        me.k += DEEP, me.from += DEEP * s.sk * mma_size(kind(s));
    }
    KN_DEVICE void store(const fma_side &me, float *place, const mma_source &s, bool turned)
    {
        float *to = place + me.slot;
        float4 v = floats4(me.raw, kind(s));
        if (turned) cu_put4(to, v);
        else to[0] = v.x, to[LD] = v.y, to[2 * LD] = v.z, to[3 * LD] = v.w;
    }
};
}

template <int TM, int TN, bool REST> KN_DEVICE void fma_run(float (&acc)[TM][TN], float *mem, const mma_source &a, const mma_source &b, bool ta, bool tb, int K)
{
    typedef fma_tile<TM, TN> T;
    typedef fma_side<T::BM, false> side_a;
    typedef fma_side<T::BN, REST> side_b;
    constexpr int SIZE_A = T::DEEP * T::LA, SIZE_B = T::DEEP * T::LB;
    side_a ra;
    side_b rb;
    float *sa = mem, *sb = mem + 2 * SIZE_A;
    int ty = threadIdx.x / 16, tx = threadIdx.x % 16, now = 0;
    bool live = ty * 4 < a.outer; /* the thread's first rows */
    side_a::begin(ra, a, ta), side_b::begin(rb, b, tb);
    if (K > 0) {
        side_a::fetch(ra, a, ta, K), side_b::fetch(rb, b, tb, K);
        side_a::store(ra, sa, a, ta), side_b::store(rb, sb, b, tb);
    }
    for (int k0 = 0; k0 < K; k0 += T::DEEP, now ^= 1) {
        __syncthreads(); /* this step is there, the other place is done with */
        bool more = k0 + T::DEEP < K;
        if (more) side_a::fetch(ra, a, ta, K), side_b::fetch(rb, b, tb, K);
        const float *pa = sa + now * SIZE_A + 4 * ty, *pb = sb + now * SIZE_B + 4 * tx;
        if (live)
            KN_UNROLL for (int k = 0; k < T::DEEP; k++) {
                float fa[TM], fb[TN];
                KN_UNROLL for (int i = 0; i < TM / 4; i++) {
                    float4 v = cu_get4(pa + k * T::LA + 64 * i);
                    fa[4 * i] = v.x, fa[4 * i + 1] = v.y, fa[4 * i + 2] = v.z, fa[4 * i + 3] = v.w;
                }
                KN_UNROLL for (int j = 0; j < TN / 4; j++) {
                    float4 v = cu_get4(pb + k * T::LB + 64 * j);
                    fb[4 * j] = v.x, fb[4 * j + 1] = v.y, fb[4 * j + 2] = v.z, fb[4 * j + 3] = v.w;
                }
                KN_UNROLL for (int i = 0; i < TM; i++)
                    KN_UNROLL for (int j = 0; j < TN; j++) acc[i][j] = fmaf(fa[i], fb[j], acc[i][j]);
            }
        if (more) side_a::store(ra, sa + (now ^ 1) * SIZE_A, a, ta), side_b::store(rb, sb + (now ^ 1) * SIZE_B, b, tb);
    }
}

/* As mma_tile's: 64 rows at a time, which is what mem holds. */
template <int TM, int TN, class F> KN_DEVICE void fma_each_four(const float (&acc)[TM][TN], float *mem, F f)
{
    typedef fma_tile<TM, TN> T;
    constexpr int DOWN = FMA / (T::BN / 4);
    int ty = threadIdx.x / 16, tx = threadIdx.x % 16, col = (int)threadIdx.x % (T::BN / 4) * 4;
    KN_UNROLL for (int i = 0; i < TM; i += 4) {
        __syncthreads();
        KN_UNROLL for (int h = 0; h < 4; h++)
            KN_UNROLL for (int j = 0; j < TN; j += 4) cu_put4(mem + (4 * ty + h) * T::LB + 4 * tx + 16 * j, make_float4(acc[i + h][j], acc[i + h][j + 1], acc[i + h][j + 2], acc[i + h][j + 3]));
        __syncthreads();
        for (int r = (int)threadIdx.x / (T::BN / 4); r < 64; r += 4 * DOWN) {
            int row[4];
            float4 v[4];
            KN_UNROLL for (int h = 0; h < 4; h++) row[h] = 16 * i + r + h * DOWN, v[h] = cu_get4(mem + (r + h * DOWN) * T::LB + col);
            f(row, col, v);
        }
    }
}

template <int TM, int TN, bool REST> KN_KERNEL_MIN(FMA, 2) rows_fma(struct grouped g)
{
    typedef fma_tile<TM, TN> T;
    KN_SHARED(float, mem);
    struct place at;
    if (!place_of(g, T::BM, T::BN, &at)) return;
    float acc[TM][TN] = {};
    struct mma_source a = source_of(g.a, at.row * g.a.s0, g.a.s0, g.a.s1, at.rows);
    struct mma_source b = source_of(g.b, at.e * g.b.se + at.col * g.b.s1, g.b.s1, g.b.s0, g.Q - at.col < T::BN ? g.Q - at.col : T::BN);
    fma_run<TM, TN, REST>(acc, mem, a, b, g.a.fast == 0, g.b.fast == 1, g.P);
    fma_each_four<TM, TN>(acc, mem, [&](const int row[4], int col, const float4 v[4]) { put_rows(g, at, row, col, v); });
}

template <int TM, int TN> KN_KERNEL_MIN(FMA, 2) sum_fma(struct grouped g)
{
    typedef fma_tile<TM, TN> T;
    KN_SHARED(float, mem);
    struct place at;
    if (!sum_place_of(g, T::BM, T::BN, &at)) return;
    float acc[TM][TN] = {};
    struct mma_source a = source_of(g.a, at.row * g.a.s0 + at.m * g.a.s1, g.a.s1, g.a.s0, g.P - at.m < T::BM ? g.P - at.m : T::BM);
    struct mma_source b = source_of(g.b, at.row * g.b.s0 + at.col * g.b.s1, g.b.s1, g.b.s0, g.Q - at.col < T::BN ? g.Q - at.col : T::BN);
    fma_run<TM, TN, false>(acc, mem, a, b, g.a.fast == 1, g.b.fast == 1, at.rows);
    sum_place_of(g, T::BM, T::BN, &at); /* again: its registers were the sums' */
    fma_each_four<TM, TN>(acc, mem, [&](const int row[4], int col, const float4 v[4]) { add_rows(g, at, row, col, v); });
}

/* ---- the ops ---- */

/* Of t's last two dims; the dim before them, if any, counts the runs. fast < 0: the one whose numbers lie side by side. */
static struct matrix matrix_of(const struct kn_tensor *t, int fast)
{
    int r = t->rank;
    struct matrix m = {t->p, t->s[r - 2], t->s[r - 1], r > 2 ? t->s[0] : 0, mma_kind_of(t->dtype), fast, false};
    if (fast < 0) m.fast = !(m.s0 == 1 && (t->d[r - 2] > 1 || m.s1 != 1));
    m.wide = m.fast ? mma_is_wide(m.p, m.kind, m.s1, m.s0, m.se) : mma_is_wide(m.p, m.kind, m.s0, m.s1, m.se);
    return m;
}

/* A result: wide where cu_get4 and cu_put4 reach its fours. */
static struct matrix result_of(const struct kn_tensor *t)
{
    struct matrix m = matrix_of(t, 1);
    m.wide = m.s1 == 1 && m.s0 % 4 == 0 && m.se % 4 == 0 && (uintptr_t)m.p % (m.kind == MMA_F32 ? 16 : 8) == 0;
    return m;
}

/* Columns of the large tile: 256 unless the columns that are left over at the end outweigh what it saves. */
static int wide_columns(int64_t Q)
{
    return cuda_blocks(Q, 256) * 256 * 7 <= cuda_blocks(Q, 128) * 128 * 8 ? 256 : 128;
}

/* What the kernels are made for: A_ASYNC, B_ASYNC and whether b's columns lie side by side (as in a backward product) or its k's (weights, transposed). */
template <bool A, bool B, bool TURNED> using rows_small = mma_tile<64, 128, 32, 64, 3, A, false, B, TURNED>;
template <bool A, bool B> using rows_narrow = mma_tile<64, 64, 32, 32, 4, A, false, B, false>;
template <int BN, bool TURNED> using rows_large = mma_tile<128, BN, 64, 64, 4, true, false, true, TURNED>;
template <int BN> using sum_large = mma_tile<128, BN, 64, 64, 4, true, true, true, true>;
template <bool ASYNC> using sum_small = mma_tile<64, 128, 32, 64, 3, ASYNC, true, ASYNC, true>;

static st_t rows_bf16(struct kn_dev *dev, struct grouped *g, bool many, int bn, int64_t blocks)
{
    bool turned = g->b.fast == 1;
    if (many) {
        CUDA_TRY(make_async(dev, &g->a, g->M, g->P, 1, NULL, g->M, CUDA_SLOT_GEMM_A));
        CUDA_TRY(make_async(dev, &g->b, g->P, g->Q, g->E, g->offset, g->M, CUDA_SLOT_GEMM_B));
        if (bn == 256) return turned ? run_rows<rows_large<256, true>, 1>(dev, *g, blocks) : run_rows<rows_large<256, false>, 1>(dev, *g, blocks);
        return turned ? run_rows<rows_large<128, true>, 2>(dev, *g, blocks) : run_rows<rows_large<128, false>, 2>(dev, *g, blocks);
    }
    bool a = is_async(&g->a, g->M, g->P), b = is_async(&g->b, g->P, g->Q);
    if (bn == 64 && b) return a ? run_rows<rows_narrow<true, true>, 4>(dev, *g, blocks) : run_rows<rows_narrow<false, true>, 3>(dev, *g, blocks);
    if (bn == 64) return a ? run_rows<rows_narrow<true, false>, 3>(dev, *g, blocks) : run_rows<rows_narrow<false, false>, 3>(dev, *g, blocks);
    /* What is rounded on the way waits in registers: two blocks a multiprocessor then, else three. */
    if (b && !turned) return a ? run_rows<rows_small<true, true, false>, 3>(dev, *g, blocks) : run_rows<rows_small<false, true, false>, 2>(dev, *g, blocks);
    if (turned) return a ? run_rows<rows_small<true, false, true>, 2>(dev, *g, blocks) : run_rows<rows_small<false, false, true>, 2>(dev, *g, blocks);
    return a ? run_rows<rows_small<true, false, false>, 2>(dev, *g, blocks) : run_rows<rows_small<false, false, false>, 2>(dev, *g, blocks);
}

extern "C" st_t cuda_gemm_grouped(struct kn_dev *dev, const struct kn_tensor *a, const struct kn_tensor *b, const struct kn_tensor *offset, double beta, const struct kn_tensor *c)
{
    CUDA_TRY(kn_check_gemm_grouped(a, b, offset, beta, c));
    if (!cuda_has(dev, a) || !cuda_has(dev, c) || b->dtype == KN_F64) return ST_ENOTSUP;
    int64_t E = b->d[0], M = a->d[0], P = a->d[1], Q = c->d[1];
    if (!M || !Q || !E) return ST_OK;
    bool half = dev->precision == KN_BF16, rest = b->dtype != KN_F32;
    struct grouped g = {(const int32_t *)offset->p, NULL, matrix_of(a, half ? 1 : -1), matrix_of(b, -1), result_of(c), NULL, 0, 0, (float)beta, NULL, (int)E, (int)M, (int)P, (int)Q, 1};
    if (b->dtype == KN_I8) g.scales = (const unsigned char *)b->p + P, g.row_bytes = b->s[2], g.run_bytes = b->s[0];
    bool ready = is_async(&g.a, (int)M, (int)P) && is_async(&g.b, (int)P, (int)Q), many = half && M / E >= (ready ? MANY : MANY_ROUNDED), large = half ? many : !rest && M / E >= MANY;
    int bm = large ? 128 : 64, bn = !half ? bm : many ? wide_columns(Q) : 128;
    /* Each run that has rows may end with a tile that is not full. */
    int64_t runs = E < M ? E : M, tiles = (M + (bm - 1) * runs) / bm, padded = (tiles + BAND - 1) / BAND * BAND;
    if (half && !many && g.b.fast == 0 && tiles * cuda_blocks(Q, bn) < 2 * cuda_of(dev)->sms) bn = 64; /* so that more of the card reads weights */
    int64_t blocks = padded * cuda_blocks(Q, bn);
    void *map;
    CUDA_TRY(cuda_scratch(dev, CUDA_SLOT_GEMM_C, (size_t)padded * sizeof(uint2), &map));
    g.map = (const uint2 *)map;
    CUDA_RUN(dev, map_tiles, 1, MAP, (MAP + 1 + 32) * sizeof(int), g.offset, (int)E, (int)M, bm, (uint2 *)map, (int)padded);
    if (half) return rows_bf16(dev, &g, many, bn, blocks);
    if (rest) CUDA_RUN(dev, (rows_fma<4, 4, true>), blocks, FMA, (fma_tile<4, 4>::SHARED), g);
    else if (large) CUDA_RUN(dev, (rows_fma<8, 8, false>), blocks, FMA, (fma_tile<8, 8>::SHARED), g);
    else CUDA_RUN(dev, (rows_fma<4, 4, false>), blocks, FMA, (fma_tile<4, 4>::SHARED), g);
    return ST_OK;
}

static st_t sum_bf16(struct kn_dev *dev, struct grouped *g, bool large, int bn, int64_t blocks)
{
    if (large) {
        CUDA_TRY(make_async(dev, &g->a, g->M, g->P, 1, NULL, g->M, CUDA_SLOT_GEMM_A));
        CUDA_TRY(make_async(dev, &g->b, g->M, g->Q, 1, NULL, g->M, CUDA_SLOT_GEMM_B));
        return bn == 256 ? run_sum<sum_large<256>, 1>(dev, *g, blocks) : run_sum<sum_large<128>, 2>(dev, *g, blocks);
    }
    bool async = is_async(&g->a, g->M, g->P) && is_async(&g->b, g->M, g->Q);
    return async ? run_sum<sum_small<true>, 3>(dev, *g, blocks) : run_sum<sum_small<false>, 2>(dev, *g, blocks);
}

extern "C" st_t cuda_gemm_grouped_sum(struct kn_dev *dev, const struct kn_tensor *a, const struct kn_tensor *b, const struct kn_tensor *offset, const struct kn_tensor *c)
{
    CUDA_TRY(kn_check_gemm_grouped_sum(a, b, offset, c));
    if (!cuda_has(dev, a) || !cuda_has(dev, b) || !cuda_is_f32(c)) return ST_ENOTSUP;
    int64_t E = c->d[0], M = a->d[0], P = a->d[1], Q = b->d[1];
    if (!M || !P || !Q || !E) return ST_OK;
    struct grouped g = {(const int32_t *)offset->p, NULL, matrix_of(a, 1), matrix_of(b, 1), result_of(c), NULL, 0, 0, 1, NULL, (int)E, (int)M, (int)P, (int)Q, 1};
    bool half = dev->precision == KN_BF16;
    /* A decision by shape alone, so that operands that are bf16 in memory give the bits of f32 ones. */
    bool large = half ? P >= 256 && Q >= 128 : P > 64 && Q > 64;
    int sms = cuda_of(dev)->sms, bm = large ? 128 : 64, bn = !half ? bm : large ? wide_columns(Q) : 128;
    if (bn == 256 && E * cuda_blocks(P, bm) * cuda_blocks(Q, bn) < sms) bn = 128;
    /* As many parts as fill the card, of at least 128 rows on average. */
    int64_t matrices = E * cuda_blocks(P, bm) * cuda_blocks(Q, bn), parts = cuda_blocks(2 * sms, matrices, PARTS_MOST);
    if (parts > M / E / 128) parts = M / E / 128;
    if (parts > 1) {
        void *p;
        CUDA_TRY(cuda_scratch(dev, CUDA_SLOT_GEMM_C, (size_t)parts * (size_t)(E * P * Q) * sizeof(float), &p));
        g.part = (float *)p, g.parts = (int)parts;
    }
    int64_t blocks = matrices * g.parts;
    if (half) CUDA_TRY(sum_bf16(dev, &g, large, bn, blocks));
    else if (large) CUDA_RUN(dev, (sum_fma<8, 8>), blocks, FMA, (fma_tile<8, 8>::SHARED), g);
    else CUDA_RUN(dev, (sum_fma<4, 4>), blocks, FMA, (fma_tile<4, 4>::SHARED), g);
    if (g.part) CUDA_RUN(dev, add_parts, dim3((unsigned)cuda_blocks(P * Q, ADD, 4 * sms), (unsigned)(E < 65535 ? E : 65535)), ADD, 0, g);
    return ST_OK;
}
