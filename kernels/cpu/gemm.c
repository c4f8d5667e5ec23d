/* The product: which way, how it is cut, and the loops around the tiles (Goto & van de Geijn 2008, "Anatomy of high-performance matrix
 * multiplication"; Van Zee & van de Geijn 2015, BLIS).
 *
 *   few rows                      straight from the operands: dot products or strips                    gemm_small.c
 *   some more, or a long sum      each task packs what it needs and shares nothing                     gemm_own.c
 *   otherwise                     blocks of k; b's block is packed once for all, tasks are parts of c   blocked, here
 *
 * Every cut depends on the shape alone, and each element of c is summed in one order, so the number of threads does not show. */
#include "kernels/cpu/gemm.h"

#define KC 384              /* a panel of a, 14 x 384 places, leaves a third of a 32 KiB L1 to b's stream */
#define B_BLOCK (512 << 10) /* bytes of packed b that a worker walks again and again: half an L2 of 1 MiB */
#define B_SHARED (8 << 20)  /* bytes of packed b at a time */
#define A_SHARED (4 << 20)  /* and of packed a, where it is packed once for all tasks */
#define TASK_FLOPS 2e6      /* a task is at least this large, so that taking it costs nothing */
#define MIN_TASKS 16
#define PACK_K 8            /* rows packed at a time */

static long panel_width(const struct gemm_isa *isa, long n)
{
    return n > isa->vl ? 2 * isa->vl : isa->vl;
}

/* Numbers of the k places from place k0 on. */
static long numbers(const struct gemm_isa *isa, const struct gemm_args *g, long k0, long k)
{
    long n = k * isa->fold, left = g->k - k0 * isa->fold;
    return n < left ? n : left;
}

static void pack(const struct gemm_isa *isa, int half, float *dst, long w, const float *src, long si, long sk, long n, long k)
{
    if (half) isa->pack_half(dst, w, (const uint16_t *)src, si, sk, n, k);
    else isa->pack(dst, w, src, si, sk, n, k);
}

void gemm_pack_b(const struct gemm_isa *isa, const struct gemm_args *g, float *dst, long k0, long k, long j, long n)
{
    const float *src = gemm_at(g->b, g->b16, k0 * isa->fold * g->bk + j * g->bn);
    pack(isa, g->b16, dst, panel_width(isa, n), src, g->bn, g->bk, n, numbers(isa, g, k0, k));
}

void gemm_pack_block(const struct gemm_isa *isa, const struct gemm_args *g, float *dst, long kb, long kc, long k0, long k, long j, long n)
{
    long nr = 2 * isa->vl, step = g->bn == 1 ? PACK_K : k;
    for (long kk = k0; kk < k0 + k; kk += step)
        for (long jj = 0; jj < n; jj += nr) {
            long w = n - jj < nr ? n - jj : nr, rows = k0 + k - kk < step ? k0 + k - kk : step;
            gemm_pack_b(isa, g, dst + jj * kc + (kk - kb) * panel_width(isa, w), kk, rows, j + jj, w);
        }
}

/* Rows of a with their numbers side by side need no transposing: a bf16 place is read as well from a row as from a panel, so they are only rounded. */
static int laid(const struct gemm_isa *isa, const struct gemm_args *g)
{
    return isa->lay && g->ak == 1;
}

static void pack_panel(const struct gemm_isa *isa, const struct gemm_args *g, float *dst, long kc, long k0, long k, long i, long m)
{
    const float *src = gemm_at(g->a, g->a16, i * g->am + k0 * isa->fold * g->ak);
    if (laid(isa, g)) isa->lay(dst, kc, src, g->a16, g->am, m, numbers(isa, g, k0, k));
    else pack(isa, g->a16, dst, m, src, g->am, g->ak, m, numbers(isa, g, k0, k));
}

void gemm_pack_a_block(const struct gemm_isa *isa, const struct gemm_args *g, float *dst, long kb, long kc, long k0, long k, long i, long m)
{
    long panels = gemm_ceil_div(m, isa->mr), step = g->am == 1 ? PACK_K : k;
    for (long kk = k0; kk < k0 + k; kk += step)
        for (long p = 0; p < panels; p++) {
            long r = gemm_cut(m, panels, p), w = gemm_cut(m, panels, p + 1) - r, rows = k0 + k - kk < step ? k0 + k - kk : step;
            pack_panel(isa, g, dst + r * kc + (kk - kb) * w, kc, kk, rows, i + r, w);
        }
}

long gemm_a_stride(const struct gemm_isa *isa, const struct gemm_args *g, int direct, long kc)
{
    return direct ? g->am / isa->fold : laid(isa, g) ? kc : 0;
}

/* Whether a panel of `rows` rows, k places long, stays in L1 as it lies: the most lines that fall into one set of 32 KiB, 8 ways. */
static int rows_fit(long stride, long k, long rows)
{
    long period = 4096, step = stride * 4 % period / 64 * 64, g = period;
    while (step % g) g /= 2; /* rows begin at multiples of g within a period */
    return rows * g / period * (k * 4 / g + 1) + (g == period ? rows : 0) <= 7;
}

int gemm_direct(const struct gemm_isa *isa, const struct gemm_args *g, long kc)
{
    if (g->ak != 1 || (isa->fold == 2 && !(g->a16 && g->am % 2 == 0 && g->k % 2 == 0))) return 0;
    return rows_fit(g->am / isa->fold, kc, isa->mr);
}

void gemm_tile(const struct gemm_isa *isa, const struct gemm_args *g, long as, long kc, const float *a, const float *b, long i, long m,
               long j, long n, float beta, struct gemm_ahead *ahead)
{
    gemm_tile_fn f = (as ? isa->rows : isa->packed)[m - 1][n > isa->vl];
    float *c = g->c + i * g->cm + j * g->cn;
    if (g->cn == 1 && !g->c16) {
        f(kc, a, as, b, g->alpha, beta, c, g->cm, n, ahead);
        return;
    }
    if (g->c16 && g->cn == 1 && n == 2 * isa->vl) {
        isa->half[m - 1][as != 0](kc, a, as, b, g->alpha, beta, (float *)((uint16_t *)g->c + i * g->cm + j), g->cm, n, ahead);
        return;
    }
    float t[GEMM_MR * GEMM_NR];
    f(kc, a, as, b, g->alpha, 0, t, GEMM_NR, n, ahead);
    if (g->c16) {
        uint16_t *h = (uint16_t *)g->c + i * g->cm + j * g->cn;
        if (g->cn == 1) isa->narrow(h, g->cm, t, GEMM_NR, beta, m, n);
        for (long r = 0; r < m && g->cn != 1; r++)
            for (long s = 0; s < n; s++) isa->narrow(h + r * g->cm + s * g->cn, 1, t + r * GEMM_NR + s, 1, beta, 1, 1);
        return;
    }
    for (long r = 0; r < m; r++)
        for (long s = 0; s < n; s++) {
            float *p = c + r * g->cm + s * g->cn;
            *p = beta != 0 ? t[r * GEMM_NR + s] + beta * *p : t[r * GEMM_NR + s];
        }
}

struct blocked {
    const struct gemm_isa *isa;
    struct kn_dev *dev;
    const struct gemm_args *g;
    float *bp;               /* packed b */
    float *ap;               /* packed a; NULL: each task packs its own panel or reads a as it lies */
    long k0, kc, j0, nc;     /* this block */
    float beta;
    long nr, mpanels, mstep; /* tile columns; row panels in all and a task */
    long nstep;              /* columns a task (a multiple of nr) */
    int direct;              /* a is read where it lies */
};

/* Where columns lie side by side a task packs PACK_K rows as they come from memory, elsewhere one panel. */
static long pack_b_tasks(const struct blocked *s)
{
    return s->g->bn == 1 ? gemm_ceil_div(s->kc, PACK_K) : gemm_ceil_div(s->nc, s->nr);
}

static void pack_task(void *ctx, int task, int worker)
{
    const struct blocked *s = ctx;
    long nb = pack_b_tasks(s), from = (task < nb ? task : task - nb) * PACK_K, k = s->kc - from < PACK_K ? s->kc - from : PACK_K;
    if (task >= nb) gemm_pack_a_block(s->isa, s->g, s->ap, s->k0, s->kc, s->k0 + from, k, 0, s->g->m);
    else if (s->g->bn == 1) gemm_pack_block(s->isa, s->g, s->bp, s->k0, s->kc, s->k0 + from, k, s->j0, s->nc);
    else {
        long j = task * s->nr, n = s->nc - j < s->nr ? s->nc - j : s->nr;
        gemm_pack_b(s->isa, s->g, s->bp + j * s->kc, s->k0, s->kc, s->j0 + j, n);
    }
}

struct gemm_ahead gemm_rows_ahead(const float *p, int half, long stride, long rows, long n, long most)
{
    long size = half ? 2 : 4, skew = (long)((uintptr_t)p & 63), lines = gemm_ceil_div(skew + n * size, 64);
    return (struct gemm_ahead){(const char *)p - skew, lines, stride * size, 0, rows * lines, most};
}

struct gemm_ahead gemm_panel_ahead(const struct gemm_isa *isa, const struct gemm_args *g, long k0, long kc, long i, long m, long tiles)
{
    struct gemm_ahead f = gemm_rows_ahead(gemm_at(g->a, g->a16, i * g->am + k0 * isa->fold), g->a16, g->am, m, numbers(isa, g, k0, kc), 0);
    f.most = gemm_ceil_div(f.left, tiles);
    return f;
}

static void tile_task(void *ctx, int task, int worker)
{
    const struct blocked *s = ctx;
    const struct gemm_args *g = s->g;
    long mgroups = gemm_ceil_div(s->mpanels, s->mstep);
    long first = task % mgroups * s->mstep, last = first + s->mstep < s->mpanels ? first + s->mstep : s->mpanels;
    long from = task / mgroups * s->nstep, to = from + s->nstep < s->nc ? from + s->nstep : s->nc;
    for (long i = first; i < last; i++) {
        long r = gemm_cut(g->m, s->mpanels, i), m = gemm_cut(g->m, s->mpanels, i + 1) - r, as = gemm_a_stride(s->isa, g, s->direct, s->kc);
        const float *a = gemm_at(g->a, g->a16, r * g->am + s->k0 * s->isa->fold * g->ak);
        if (s->ap) a = s->ap + r * s->kc;
        else if (!s->direct) {
            float *ap = cpu_scratch(s->dev, worker);
            pack_panel(s->isa, g, ap, s->kc, s->k0, s->kc, r, m);
            a = ap;
        }
        /* rows of a one after the other; where they lie side by side a panel brings the next ones with it */
        struct gemm_ahead next, *ahead = NULL;
        if (s->isa->fold == 2 && !s->ap && g->ak == 1 && i + 1 < s->mpanels) {
            long r1 = r + m, m1 = gemm_cut(g->m, s->mpanels, i + 2) - r1;
            next = gemm_panel_ahead(s->isa, g, s->k0, s->kc, r1, m1, gemm_ceil_div(to - from, s->nr));
            ahead = &next;
        }
        for (long j = from; j < to; j += s->nr)
            gemm_tile(s->isa, g, as, s->kc, a, s->bp + j * s->kc, r, m, s->j0 + j, to - j < s->nr ? to - j : s->nr, s->beta, ahead);
    }
}

/* The parts of c that tasks make: tall panels of a against as much packed b as half an L2 holds; finer where that gives too few tasks. */
static void cut_tasks(struct blocked *s, long kmax, long ncols)
{
    long nblock = B_BLOCK / 4 / kmax / s->nr * s->nr;
    if (nblock < s->nr) nblock = s->nr;
    s->nstep = gemm_ceil_div(gemm_ceil_div(ncols, gemm_ceil_div(ncols, nblock)), s->nr) * s->nr;
    double panel = 2.0 * s->isa->mr * (double)s->nstep * (double)kmax;
    s->mstep = panel < TASK_FLOPS ? (long)(TASK_FLOPS / panel) + 1 : 1;
    while (s->mstep > 1 && gemm_ceil_div(s->mpanels, s->mstep) * gemm_ceil_div(ncols, s->nstep) < MIN_TASKS)
        s->mstep = (s->mstep + 1) / 2;
    while (s->nstep > s->nr && gemm_ceil_div(s->mpanels, s->mstep) * gemm_ceil_div(ncols, s->nstep) < MIN_TASKS)
        s->nstep = gemm_ceil_div(s->nstep / 2, s->nr) * s->nr;
}

static st_t blocked(struct kn_dev *dev, const struct gemm_isa *isa, const struct gemm_args *g)
{
    struct blocked s = {.isa = isa, .dev = dev, .g = g, .nr = 2 * isa->vl, .mpanels = gemm_ceil_div(g->m, isa->mr)};
    long places = gemm_places(isa, g), kblocks = g->c16 ? 1 : gemm_ceil_div(places, KC), kmax = gemm_ceil_div(places, kblocks);
    long ncols = gemm_ceil_div(g->n, s.nr) * s.nr, nmax = B_SHARED / 4 / kmax / s.nr * s.nr;
    if (nmax < s.nr) nmax = s.nr;
    if (ncols > nmax) ncols = nmax;
    int share_a = g->am == 1 && g->m * kmax * 4 <= A_SHARED;
    s.direct = gemm_direct(isa, g, kmax);
    void *p;
    st_t st = cpu_scratch_need(dev, (size_t)(isa->mr * kmax) * 4);
    if (st) return st;
    st = cpu_shared(dev, CPU_SLOT_GEMM, (size_t)((ncols + (share_a ? g->m : 0)) * kmax) * 4, &p);
    if (st) return st;
    s.bp = p;
    s.ap = share_a ? s.bp + ncols * kmax : NULL;
    cut_tasks(&s, kmax, ncols);
    for (s.j0 = 0; s.j0 < g->n; s.j0 += s.nc) {
        s.nc = g->n - s.j0 < ncols ? g->n - s.j0 : ncols;
        for (long kb = 0; kb < kblocks; kb++) {
            s.k0 = gemm_cut(places, kblocks, kb), s.kc = gemm_cut(places, kblocks, kb + 1) - s.k0;
            s.beta = kb ? 1 : g->beta;
            cpu_run(dev, pack_task, &s, (int)(pack_b_tasks(&s) + (share_a ? gemm_ceil_div(s.kc, PACK_K) : 0)),
                    (double)(s.nc + (share_a ? g->m : 0)) * (double)s.kc / 2);
            cpu_run(dev, tile_task, &s, (int)(gemm_ceil_div(s.mpanels, s.mstep) * gemm_ceil_div(s.nc, s.nstep)),
                    2.0 * (double)g->m * (double)s.nc * (double)s.kc / 50);
        }
    }
    return ST_OK;
}

static void scale_c(const struct gemm_isa *isa, const struct gemm_args *g)
{
    static const float zero;
    for (long i = 0; i < g->m; i++)
        for (long j = 0; j < g->n; j++) {
            float *p = g->c + i * g->cm + j * g->cn;
            if (g->c16) isa->narrow((uint16_t *)g->c + i * g->cm + j * g->cn, 1, &zero, 1, g->beta, 1, 1);
            else *p = g->beta != 0 ? g->beta * *p : 0;
        }
}

/* Few rows in f32 are multiplied as they are in bf16 too: they wait for memory, and rounding would only cost. */
static int small_fits(const struct gemm_args *g)
{
    return !(g->a16 || g->b16 || g->c16) && gemm_small_fits(g);
}

st_t cpu_gemm(struct kn_dev *dev, double alpha, const struct kn_tensor *a, const struct kn_tensor *b, double beta,
              const struct kn_tensor *c)
{
    st_t st = kn_check_gemm(alpha, a, b, beta, c);
    if (st) return st;
    if (b->dtype == KN_I8 || (b->dtype == KN_BF16 && dev->precision != KN_BF16)) return cpu_gemm_stored(dev, alpha, a, b, beta, c);
    int half = a->dtype == KN_BF16 || b->dtype == KN_BF16 || c->dtype == KN_BF16;
    if (a->dtype == KN_F64 || (half && dev->precision != KN_BF16)) return ST_ENOTSUP;
    const struct gemm_isa *isa = dev->precision == KN_BF16 ? cpu_gemm_bf16 : cpu_gemm_isa[cpu_of(dev)->isa];
    struct gemm_args g = {
        .m = c->d[0], .n = c->d[1], .k = a->d[1],
        .a = a->p, .am = a->s[0], .ak = a->s[1],
        .b = b->p, .bk = b->s[0], .bn = b->s[1],
        .c = c->p, .cm = c->s[0], .cn = c->s[1],
        .alpha = (float)alpha, .beta = (float)beta,
        .a16 = a->dtype == KN_BF16, .b16 = b->dtype == KN_BF16, .c16 = c->dtype == KN_BF16,
    };
    if (g.m == 0 || g.n == 0) return ST_OK;
    if (g.k == 0) {
        scale_c(isa, &g);
        return ST_OK;
    }
    /* C' = B' A': so that few columns become few rows, and that c's columns are adjacent where one of its strides is 1. */
    struct gemm_args t = {
        .m = g.n, .n = g.m, .k = g.k,
        .a = g.b, .am = g.bn, .ak = g.bk,
        .b = g.a, .bk = g.ak, .bn = g.am,
        .c = g.c, .cm = g.cn, .cn = g.cm,
        .alpha = g.alpha, .beta = g.beta,
        .a16 = g.b16, .b16 = g.a16, .c16 = g.c16,
    };
    if (small_fits(&t) ? !small_fits(&g) || g.m > g.n : g.cn != 1 && g.cm == 1 && !small_fits(&g)) g = t;
    if (small_fits(&g)) return gemm_small(dev, cpu_gemm_isa[cpu_of(dev)->isa], &g);
    return !g.c16 && gemm_own_fits(&g) ? gemm_own(dev, isa, &g) : blocked(dev, isa, &g);
}
