/* The product: which way, how it is cut, and the loops around the tiles (Goto & van de Geijn 2008, "Anatomy of high-performance matrix
 * multiplication"; Van Zee & van de Geijn 2015, BLIS).
 *
 *   few rows (m <= SMALL_M)       straight from the operands: dot products or strips; b is read once        gemm_small.c
 *   small output, long sum        the sum cut into slices, each into its own output, added in order          split
 *   otherwise                     blocks of k; b's block is packed once for all, tasks are tiles of c        blocked
 *
 * Every cut depends on the shape alone, and each element of c is summed by one task in one order, so the number of threads does not show. */
#include "kernels/cpu/gemm.h"

#include "kernels/cpu/gemm_small.h"

#define KC 384                /* a tile row's panel of a, 14 x 384 floats, leaves a third of a 32 KiB L1 to b's stream */
#define B_BLOCK (512 << 10)   /* bytes of packed b that a worker walks again and again: half an L2 of 1 MiB */
#define B_SHARED (8 << 20)    /* bytes of packed b at a time */
#define TASK_FLOPS 2e6        /* a task is at least this large, so that taking it costs nothing */
#define SPLIT_MN (96 * 96)    /* outputs below this with sums of SPLIT_P and more are cut along the sum */
#define SPLIT_P 1024
#define SLICES 8

struct blocked {
    const struct gemm_isa *isa;
    struct kn_dev *dev;
    const struct gemm_args *g;
    float *bp;             /* packed b: panels of 2 vl columns, one after the other */
    long k0, kc, j0, nc;   /* this block */
    float beta;
    long nr, mpanels, mstep; /* tile columns; row panels in all and a task */
    long nstep, ngroups;     /* columns a task (a multiple of nr) */
    int direct;              /* a is read where it lies */
};

static long ceil_div(long a, long b)
{
    return (a + b - 1) / b;
}

/* First row of panel i when m rows are cut into n panels that differ by one row at most. */
static long cut(long m, long n, long i)
{
    return m / n * i + (i < m % n ? i : m % n);
}

static long panel_width(const struct gemm_isa *isa, long n)
{
    return n > isa->vl ? 2 * isa->vl : isa->vl;
}

static void pack_b(const struct gemm_isa *isa, const struct gemm_args *g, float *dst, long k0, long kc, long j, long n)
{
    isa->pack(dst, panel_width(isa, n), g->b + k0 * g->bk + j * g->bn, g->bn, g->bk, n, kc);
}

/* One tile of c; where c's columns are not adjacent, through a tile that is. */
static void tile(const struct gemm_isa *isa, const struct gemm_args *g, int direct, long kc, const float *a, const float *b, long i, long m,
                 long j, long n, float beta)
{
    const gemm_tile f = (direct ? isa->rows : isa->packed)[m - 1][n > isa->vl];
    float *c = g->c + i * g->cm + j * g->cn;
    if (g->cn == 1) {
        f(kc, a, g->am, b, g->alpha, beta, c, g->cm, n);
        return;
    }
    float t[GEMM_MR * 32];
    f(kc, a, g->am, b, g->alpha, 0, t, 32, n);
    for (long r = 0; r < m; r++)
        for (long s = 0; s < n; s++) {
            float *p = c + r * g->cm + s * g->cn;
            *p = beta != 0 ? t[r * 32 + s] + beta * *p : t[r * 32 + s];
        }
}

static void pack_task(void *ctx, int task, int worker)
{
    const struct blocked *s = ctx;
    long j = task * s->nr, n = s->nc - j < s->nr ? s->nc - j : s->nr;
    pack_b(s->isa, s->g, s->bp + j * s->kc, s->k0, s->kc, s->j0 + j, n);
}

static void tile_task(void *ctx, int task, int worker)
{
    const struct blocked *s = ctx;
    const struct gemm_args *g = s->g;
    long mgroups = ceil_div(s->mpanels, s->mstep);
    long first = task % mgroups * s->mstep, last = first + s->mstep < s->mpanels ? first + s->mstep : s->mpanels;
    long from = task / mgroups * s->nstep, to = from + s->nstep < s->nc ? from + s->nstep : s->nc;
    for (long i = first; i < last; i++) {
        long r = cut(g->m, s->mpanels, i), m = cut(g->m, s->mpanels, i + 1) - r;
        const float *a = g->a + r * g->am + s->k0 * g->ak;
        if (!s->direct) {
            float *ap = cpu_scratch(s->dev, worker);
            s->isa->pack(ap, m, a, g->am, g->ak, m, s->kc);
            a = ap;
        }
        for (long j = from; j < to; j += s->nr)
            tile(s->isa, g, s->direct, s->kc, a, s->bp + j * s->kc, r, m, s->j0 + j, to - j < s->nr ? to - j : s->nr, s->beta);
    }
}

/* Whether the rows of a panel of a can stay in a 32 KiB, 8-way L1 as they lie: the most lines that fall into one set. */
static int rows_fit(long stride, long k, long rows)
{
    long period = 4096, step = stride * 4 % period / 64 * 64, g = period;
    while (step % g) g /= 2; /* rows begin at multiples of g within a period */
    return rows * g / period * (k * 4 / g + 1) + (g == period ? rows : 0) <= 7;
}

static st_t blocked(struct kn_dev *dev, const struct gemm_isa *isa, const struct gemm_args *g)
{
    struct blocked s = {.isa = isa, .dev = dev, .g = g, .nr = 2 * isa->vl, .mpanels = ceil_div(g->m, isa->mr)};
    long kblocks = ceil_div(g->k, KC), kmax = ceil_div(g->k, kblocks);
    long ncols = ceil_div(g->n, s.nr) * s.nr, nmax = B_SHARED / 4 / kmax / s.nr * s.nr;
    if (nmax > ncols) nmax = ncols;
    s.direct = g->ak == 1 && rows_fit(g->am, kmax, isa->mr);
    st_t st = cpu_scratch_need(dev, (size_t)isa->mr * kmax * 4);
    if (st) return st;
    void *bp;
    st = cpu_shared(dev, CPU_SLOT_GEMM, (size_t)nmax * kmax * 4, &bp);
    if (st) return st;
    s.bp = bp;
    long nblock = B_BLOCK / 4 / kmax / s.nr * s.nr;
    s.nstep = ncols < nblock ? ncols : ceil_div(ceil_div(nmax, ceil_div(nmax, nblock)), s.nr) * s.nr;
    double panel = 2.0 * isa->mr * (double)s.nstep * (double)kmax;
    s.mstep = panel < TASK_FLOPS ? (long)(TASK_FLOPS / panel) + 1 : 1;
    /* few rows: columns are cut finer instead */
    while (s.mstep > 1 && ceil_div(s.mpanels, s.mstep) * ceil_div(nmax, s.nstep) < 16) s.mstep = (s.mstep + 1) / 2;
    while (s.nstep > s.nr && ceil_div(s.mpanels, s.mstep) * ceil_div(nmax, s.nstep) < 16) s.nstep = ceil_div(s.nstep / 2, s.nr) * s.nr;
    for (s.j0 = 0; s.j0 < g->n; s.j0 += s.nc) {
        s.nc = g->n - s.j0 < nmax ? g->n - s.j0 : nmax;
        for (long kb = 0; kb < kblocks; kb++) {
            s.k0 = cut(g->k, kblocks, kb), s.kc = cut(g->k, kblocks, kb + 1) - s.k0;
            s.beta = kb ? 1 : g->beta;
            cpu_run(dev, pack_task, &s, (int)ceil_div(s.nc, s.nr), (double)s.nc * (double)s.kc / 2);
            cpu_run(dev, tile_task, &s, (int)(ceil_div(s.mpanels, s.mstep) * ceil_div(s.nc, s.nstep)),
                    2.0 * (double)g->m * (double)s.nc * (double)s.kc / 50);
        }
    }
    return ST_OK;
}

struct split {
    const struct gemm_isa *isa;
    struct kn_dev *dev;
    const struct gemm_args *g;
    float *part;     /* [SLICES, m, n] */
    long slices, ncols;
};

static void slice_task(void *ctx, int task, int worker)
{
    const struct split *s = ctx;
    struct gemm_args g = *s->g;
    const struct gemm_isa *isa = s->isa;
    long nr = 2 * isa->vl, mpanels = ceil_div(g.m, isa->mr);
    long k1 = cut(g.k, s->slices, task), k2 = cut(g.k, s->slices, task + 1), kblocks = ceil_div(k2 - k1, KC);
    float *ap = cpu_scratch(s->dev, worker), *bp = ap + isa->mr * KC;
    g.c = s->part + task * g.m * g.n, g.cm = g.n, g.cn = 1, g.alpha = 1;
    for (long kb = 0; kb < kblocks; kb++) {
        long k0 = k1 + cut(k2 - k1, kblocks, kb), kc = k1 + cut(k2 - k1, kblocks, kb + 1) - k0;
        for (long j = 0; j < g.n; j += nr) pack_b(isa, &g, bp + j * kc, k0, kc, j, g.n - j < nr ? g.n - j : nr);
        for (long i = 0; i < mpanels; i++) {
            long r = cut(g.m, mpanels, i), m = cut(g.m, mpanels, i + 1) - r;
            isa->pack(ap, m, g.a + r * g.am + k0 * g.ak, g.am, g.ak, m, kc);
            for (long j = 0; j < g.n; j += nr)
                tile(isa, &g, 0, kc, ap, bp + j * kc, r, m, j, g.n - j < nr ? g.n - j : nr, kb ? 1 : 0);
        }
    }
}

static st_t split(struct kn_dev *dev, const struct gemm_isa *isa, const struct gemm_args *g)
{
    struct split s = {.isa = isa, .dev = dev, .g = g, .slices = SLICES};
    void *part;
    long ncols = ceil_div(g->n, 2 * isa->vl) * 2 * isa->vl;
    st_t st = cpu_scratch_need(dev, (size_t)(isa->mr + ncols) * KC * 4);
    if (st) return st;
    st = cpu_shared(dev, CPU_SLOT_GEMM, (size_t)(SLICES * g->m * g->n) * 4, &part);
    if (st) return st;
    s.part = part;
    cpu_run(dev, slice_task, &s, SLICES, 2.0 * (double)g->m * (double)g->n * (double)g->k / 50);
    for (long i = 0; i < g->m; i++)
        for (long j = 0; j < g->n; j++) {
            float sum = 0, *p = g->c + i * g->cm + j * g->cn;
            for (long l = 0; l < SLICES; l++) sum += s.part[(l * g->m + i) * g->n + j];
            *p = g->beta != 0 ? g->alpha * sum + g->beta * *p : g->alpha * sum;
        }
    return ST_OK;
}

static void scale_c(const struct gemm_args *g)
{
    for (long i = 0; i < g->m; i++)
        for (long j = 0; j < g->n; j++) {
            float *p = g->c + i * g->cm + j * g->cn;
            *p = g->beta != 0 ? g->beta * *p : 0;
        }
}

st_t cpu_gemm(struct kn_dev *dev, double alpha, const struct kn_tensor *a, const struct kn_tensor *b, double beta,
              const struct kn_tensor *c)
{
    st_t st = kn_check_gemm(alpha, a, b, beta, c);
    if (st) return st;
    if (a->dtype != KN_F32) return ST_ENOTSUP;
    struct gemm_args g = {
        .m = c->d[0], .n = c->d[1], .k = a->d[1],
        .a = a->p, .am = a->s[0], .ak = a->s[1],
        .b = b->p, .bk = b->s[0], .bn = b->s[1],
        .c = c->p, .cm = c->s[0], .cn = c->s[1],
        .alpha = (float)alpha, .beta = (float)beta,
    };
    if (g.m == 0 || g.n == 0) return ST_OK;
    if (g.k == 0) {
        scale_c(&g);
        return ST_OK;
    }
    /* C' = B' A': so that few columns become few rows, and that c's columns are adjacent where one of its strides is 1. */
    struct gemm_args t = {
        .m = g.n, .n = g.m, .k = g.k,
        .a = g.b, .am = g.bn, .ak = g.bk,
        .b = g.a, .bk = g.ak, .bn = g.am,
        .c = g.c, .cm = g.cn, .cn = g.cm,
        .alpha = g.alpha, .beta = g.beta,
    };
    if (gemm_small_fits(&t) ? !gemm_small_fits(&g) || g.m > g.n : g.cn != 1 && g.cm == 1 && !gemm_small_fits(&g)) g = t;
    const struct gemm_isa *isa = cpu_gemm_isa[cpu_of(dev)->isa];
    if (gemm_small_fits(&g)) return gemm_small(dev, isa, &g);
    return g.m * g.n <= SPLIT_MN && g.k >= SPLIT_P ? split(dev, isa, &g) : blocked(dev, isa, &g);
}
