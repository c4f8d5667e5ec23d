/* Products, the parts. Private to cpu/gemm*.c. */
#ifndef TAUT_KERNELS_CPU_GEMM_H
#define TAUT_KERNELS_CPU_GEMM_H

#include "kernels/cpu/cpu.h"

#define GEMM_MR 14 /* rows and columns of the largest tile of any set */
#define GEMM_NR 32

/* A packed operand is made of places of 32 bits: a float, or two neighbours of the sum as bf16 (gemm_isa.fold; the last place is filled up with 0).
 * Lengths along k are in places from packing on: kc, the stride between rows that are read as they lie, KC, PACK_K. */

/* Memory on its way into L2 while tiles are multiplied, a line a place: `lines` of each row, `stride` bytes between rows. In one burst instead they
 * hold up b's own stream. */
struct gemm_ahead {
    const char *p;
    long lines, stride, at; /* at: lines of this row that are under way */
    long left, most;        /* lines to come in all; in one tile */
};

static inline void gemm_fetch(struct gemm_ahead *f)
{
    __builtin_prefetch(f->p, 0, 3);
    f->p += 64, f->left--;
    if (++f->at == f->lines) f->p += f->stride - 64 * f->lines, f->at = 0;
}

/* One tile: c[m, n] = alpha a b + beta c, beta = 0 does not read c. c has unit column stride, ldc between rows. ahead: NULL, or moved on by up to k lines.
 *   b: k rows of nv vectors each, as pack lays them out (zeros beyond n).
 *   a: packed, k groups of m values (as unused); or rows as they are, as between rows and unit stride along k. */
typedef void (*gemm_tile_fn)(long k, const float *a, long as, const float *b, float alpha, float beta, float *c, long ldc, long n,
                             struct gemm_ahead *ahead);

/* Rows of a against rows of b, both with unit stride along k; m <= 4:  c[i * ldc + j * sc] = alpha a_i.b_j + beta c. */
typedef void (*gemm_dot_fn)(long k, const float *a, long as, const float *b, long bs, long n, float alpha, float beta, float *c,
                            long ldc, long sc);

/* m <= 4 rows of a times b [k, n] with unit stride along n; c has unit column stride. */
typedef void (*gemm_axpy_fn)(long k, const float *a, long as, long ak, const float *b, long bs, long n, float alpha, float beta,
                             float *c, long ldc);

struct gemm_isa {
    int mr, vl; /* a tile is at most mr rows and 2 vl columns */
    int fold;   /* numbers in a place: 1; 2: products in bf16, without dot and axpy */
    gemm_tile_fn packed[GEMM_MR][2], rows[GEMM_MR][2]; /* [m - 1][n > vl] */
    gemm_dot_fn dot[4];
    gemm_axpy_fn axpy[4];
    /* dst[kk * w + i] = src[i * si + kk * sk] for i < n, 0 for n <= i < w. k in numbers; fold 2: dst's place kk holds 2 kk and 2 kk + 1, rounded. */
    void (*pack)(float *dst, long w, const float *src, long si, long sk, long n, long k);
    /* fold 2 alone: tiles of 2 vl columns that are bf16 in memory [m - 1][a's rows as they are]; */
    gemm_tile_fn half[GEMM_MR][2];
    /* pack, of numbers that are bf16 in memory; */
    void (*pack_half)(float *dst, long w, const uint16_t *src, long si, long sk, long n, long k);
    /* m rows with unit stride along k as rows of places, ld between them (half: they are bf16 in memory); */
    void (*lay)(float *dst, long ld, const void *src, int half, long stride, long m, long k);
    /* and c = t + beta c where c is bf16, columns side by side. */
    void (*narrow)(uint16_t *c, long ldc, const float *t, long ldt, float beta, long m, long n);
};

extern const struct gemm_isa *const cpu_gemm_isa[CPU_ISA_COUNT];
extern const struct gemm_isa *const cpu_gemm_bf16; /* NULL: not in this build; a machine needs AVX512-BF16 (cpu.h) */

/* c [m,n] = alpha a [m,k] b [k,n] + beta c, with a stride for every dim. */
struct gemm_args {
    long m, n, k;
    const float *a;
    long am, ak;
    const float *b;
    long bk, bn;
    float *c;
    long cm, cn;
    float alpha, beta;
    int a16, b16, c16; /* a, b, c are bf16 in memory */
};

static inline long gemm_ceil_div(long a, long b)
{
    return (a + b - 1) / b;
}

/* Where part i begins when m is cut into n parts that differ by one at most. */
static inline long gemm_cut(long m, long n, long i)
{
    return m / n * i + (i < m % n ? i : m % n);
}

/* Places of the whole sum. */
static inline long gemm_places(const struct gemm_isa *isa, const struct gemm_args *g)
{
    return gemm_ceil_div(g->k, isa->fold);
}

/* Where a number of an operand lies. */
static inline const float *gemm_at(const float *p, int half, long offset)
{
    return half ? (const float *)((const uint16_t *)p + offset) : p + offset;
}

/* Packed b: panels of 2 vl columns one after the other, panel j (its first column) at j * kc; the last is vl wide if that suffices.
 * Packs rows [k0, k0 + k) and columns [j, j + n), n <= 2 vl, to dst. */
void gemm_pack_b(const struct gemm_isa *isa, const struct gemm_args *g, float *dst, long k0, long k, long j, long n);
/* Packs rows [k0, k0 + k) and all columns [j, j + n) of one block of kc rows that begins at row kb; any k where bn = 1 (PACK_K rows at a time come from
 * memory in order), else the whole block. */
void gemm_pack_block(const struct gemm_isa *isa, const struct gemm_args *g, float *dst, long kb, long kc, long k0, long k, long j, long n);
/* The same of a's rows [i, i + m), cut into panels of at most mr; panel p begins at dst + (its first row - i) * kc. A panel is packed, or rows of kc
 * places: gemm_a_stride says. */
void gemm_pack_a_block(const struct gemm_isa *isa, const struct gemm_args *g, float *dst, long kb, long kc, long k0, long k, long i, long m);
/* What gemm_tile takes as `as`: 0 where a is packed, else places between its rows. direct: a is read where it lies. */
long gemm_a_stride(const struct gemm_isa *isa, const struct gemm_args *g, int direct, long kc);
/* One tile of c at (i, j); through a copy where c's columns are not adjacent. as: gemm_a_stride's. */
void gemm_tile(const struct gemm_isa *isa, const struct gemm_args *g, long as, long kc, const float *a, const float *b, long i, long m,
               long j, long n, float beta, struct gemm_ahead *ahead);
/* `rows` rows of n numbers each at p, `stride` numbers apart; `most` lines of them a tile. */
struct gemm_ahead gemm_rows_ahead(const float *p, int half, long stride, long rows, long n, long most);
/* Rows [i, i + m) of a, kc places from k0 on, spread over `tiles` tiles: the panel that comes next, where a's rows are read or rounded one after the other. */
struct gemm_ahead gemm_panel_ahead(const struct gemm_isa *isa, const struct gemm_args *g, long k0, long kc, long i, long m, long tiles);
/* Whether a's rows are read where they lie, panels of kc places. */
int gemm_direct(const struct gemm_isa *isa, const struct gemm_args *g, long kc);

/* Few rows, straight from the operands: gemm_small.c. Allocates nothing. */
int gemm_small_fits(const struct gemm_args *g); /* operands in f32 alone */
st_t gemm_small(struct kn_dev *dev, const struct gemm_isa *isa, const struct gemm_args *g);

/* Tasks that share nothing, for few rows and for long sums: gemm_own.c. */
int gemm_own_fits(const struct gemm_args *g);
st_t gemm_own(struct kn_dev *dev, const struct gemm_isa *isa, const struct gemm_args *g);

/* What one of these tasks works on: rows [i0, i0 + m) and columns [j0, j0 + n) of c, places [k0, k1) of the sum. At most GEMM_OWN_BLOCK rows and columns,
 * j0 at a multiple of 2 vl. */
struct gemm_part {
    long i0, m, j0, n, k0, k1;
};
#define GEMM_OWN_KC 128
#define GEMM_OWN_BLOCK 512
#define GEMM_OWN_SCRATCH ((size_t)(4 * GEMM_OWN_BLOCK * GEMM_OWN_KC) * 4) /* bytes */
/* Packs what it needs of a and b into mem and multiplies; c in f32 alone. */
void gemm_own_block(const struct gemm_isa *isa, const struct gemm_args *g, const struct gemm_part *c, float *mem);

#endif
