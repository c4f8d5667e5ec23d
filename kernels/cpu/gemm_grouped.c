/* Products with one matrix for each run of rows (experts): one parallel region over the blocks of all of them, so that many small experts keep every
 * core busy. The matrices are packed once, for all tasks, where that is not too much; else, and for sums, a task packs what it needs for itself,
 * as in gemm_own.c. Runs of a few rows are read straight from the operands, as in gemm_small.c. How a run is cut depends on its length and
 * the matrix's shape alone. */
#include <math.h>

#include "kernels/cpu/gemm.h"

#define KC 256                /* where b is packed for all tasks */
#define MB 140                /* rows and columns of a block there; else GEMM_OWN_BLOCK */
#define NB 512
#define B_SHARED (8 << 20)    /* bytes of packed b, at most */
#define B_TASK 128            /* columns packed at a time */
#define TASK_BYTES (32 << 10) /* of b, for few rows */

struct grouped {
    struct kn_dev *dev;
    const struct gemm_isa *isa, *few; /* of blocks, in the device's precision; of few rows, always f32 */
    struct gemm_args g;    /* of one group, without its own a, b, c, m or k */
    long sa, sb, sc;       /* a, b, c of group e begin at offset[e] * s, or at e * s … */
    int each_b, each_c;    /* … for b and c where these are 1 */
    const int32_t *offset;
    int32_t *pick;         /* [groups] the order in which they are taken; as many more to work it out */
    int32_t *first;        /* [groups + 1] number of the first task of each, in that order */
    float *bp;             /* packed b of all groups; NULL: each task packs its own */
    long groups, mb, nb, ncols; /* ncols: of packed b */
    int direct;            /* bp: a is read where it lies */
    int sum;               /* the runs are k, not m */
};

static struct gemm_args args_of(const struct grouped *s, long e)
{
    struct gemm_args g = s->g;
    long at = s->offset[e], n = s->offset[e + 1] - at;
    *(s->sum ? &g.k : &g.m) = n;
    g.a = gemm_at(g.a, g.a16, at * s->sa);
    g.b = gemm_at(g.b, g.b16, (s->each_b ? e : at) * s->sb);
    g.c = (float *)gemm_at(g.c, g.c16, (s->each_c ? e : at) * s->sc);
    return g;
}

static int few(const struct gemm_args *g)
{
    return !g->a16 && !g->b16 && !g->c16 && gemm_small_fits(g);
}

static long small_step(const struct gemm_args *g)
{
    long unit = g->bk == 1 && g->ak == 1 ? 8 : 128, step = TASK_BYTES / 4 / g->k / unit * unit;
    return step < unit ? unit : step;
}

static long tasks_of(const struct grouped *s, long e)
{
    struct gemm_args g = args_of(s, e);
    if (!g.m || !g.k) return 0;
    if (few(&g)) return gemm_ceil_div(g.n, small_step(&g));
    return gemm_ceil_div(g.m, s->mb) * gemm_ceil_div(g.n, s->nb);
}

static void few_rows(const struct grouped *s, const struct gemm_args *g, long part)
{
    long step = small_step(g), from = part * step, to = from + step < g->n ? from + step : g->n;
    long block = g->m > 4 ? 4 : to - from; /* a few rows of b at a time stay in L1 while all rows of a pass */
    if (!(g->bk == 1 && g->ak == 1)) {
        s->few->axpy[g->m - 1](g->k, g->a, g->am, g->ak, g->b + from, g->bk, to - from, g->alpha, g->beta, g->c + from, g->cm);
        return;
    }
    for (long j = from; j < to; j += block)
        for (long i = 0; i < g->m; i += 4) {
            long m = g->m - i < 4 ? g->m - i : 4, n = to - j < block ? to - j : block;
            s->few->dot[m - 1](g->k, g->a + i * g->am, g->am, g->b + j * g->bn, g->bn, n, g->alpha, g->beta, g->c + i * g->cm + j * g->cn,
                               g->cm, g->cn);
        }
}

/* Blocks of the sum where b is packed for all tasks: one where c is rounded, so that it is rounded once. */
static long kblocks_of(const struct grouped *s, long places)
{
    return s->g.c16 ? 1 : gemm_ceil_div(places, KC);
}

static float *packed(const struct grouped *s, const struct gemm_args *g, long e)
{
    return s->bp + e * s->ncols * gemm_places(s->isa, g);
}

static void pack_task(void *ctx, int task, int worker)
{
    const struct grouped *s = ctx;
    long parts = gemm_ceil_div(s->ncols, B_TASK), e = task / parts, j = task % parts * B_TASK;
    struct gemm_args g = args_of(s, e);
    if (!g.m || few(&g)) return;
    long n = g.n - j < B_TASK ? g.n - j : B_TASK, places = gemm_places(s->isa, &g), kblocks = kblocks_of(s, places);
    for (long kb = 0; kb < kblocks; kb++) {
        long k0 = gemm_cut(places, kblocks, kb), kc = gemm_cut(places, kblocks, kb + 1) - k0;
        gemm_pack_block(s->isa, &g, packed(s, &g, e) + s->ncols * k0 + j * kc, k0, kc, k0, kc, j, n);
    }
}

/* A block whose b is packed. */
static void shared_block(const struct grouped *s, const struct gemm_args *g, long e, const struct gemm_part *c, float *ap)
{
    const struct gemm_isa *isa = s->isa;
    long nr = 2 * isa->vl, kblocks = kblocks_of(s, c->k1), panels = gemm_ceil_div(c->m, isa->mr);
    for (long kb = 0; kb < kblocks; kb++) {
        long k0 = gemm_cut(c->k1, kblocks, kb), kc = gemm_cut(c->k1, kblocks, kb + 1) - k0, as = gemm_a_stride(isa, g, s->direct, kc);
        const float *bp = packed(s, g, e) + s->ncols * k0 + c->j0 * kc;
        if (!s->direct) gemm_pack_a_block(isa, g, ap, k0, kc, k0, kc, c->i0, c->m);
        for (long p = 0; p < panels; p++) {
            long r = gemm_cut(c->m, panels, p), rows = gemm_cut(c->m, panels, p + 1) - r;
            const float *a = s->direct ? gemm_at(g->a, g->a16, (c->i0 + r) * g->am + k0 * isa->fold) : ap + r * kc;
            struct gemm_ahead next = {0};
            if (s->direct && p + 1 < panels) {
                long r1 = r + rows, rows1 = gemm_cut(c->m, panels, p + 2) - r1;
                next = gemm_panel_ahead(isa, g, k0, kc, c->i0 + r1, rows1, gemm_ceil_div(c->n, nr));
            }
            for (long j = 0; j < c->n; j += nr)
                gemm_tile(isa, g, as, kc, a, bp + j * kc, c->i0 + r, rows, c->j0 + j, c->n - j < nr ? c->n - j : nr, kb ? 1 : g->beta,
                          next.left ? &next : NULL);
        }
    }
}

/* Packs for itself; c is rounded when the sum is whole. */
static void own_block(const struct grouped *s, const struct gemm_args *g, const struct gemm_part *c, float *mem)
{
    if (!g->c16) {
        gemm_own_block(s->isa, g, c, mem);
        return;
    }
    struct gemm_args sum = *g;
    struct gemm_part whole = {0, c->m, 0, c->n, c->k0, c->k1};
    sum.a = gemm_at(g->a, g->a16, c->i0 * g->am), sum.b = gemm_at(g->b, g->b16, c->j0 * g->bn), sum.m = c->m, sum.n = c->n;
    sum.c = mem + GEMM_OWN_SCRATCH / sizeof *mem, sum.cm = c->n, sum.cn = 1, sum.c16 = 0, sum.beta = 0;
    gemm_own_block(s->isa, &sum, &whole, mem);
    s->isa->narrow((uint16_t *)g->c + c->i0 * g->cm + c->j0, g->cm, sum.c, c->n, g->beta, c->m, c->n);
}

static void block(const struct grouped *s, const struct gemm_args *g, long e, long part, float *mem)
{
    long nr = 2 * s->isa->vl, mblocks = gemm_ceil_div(g->m, s->mb), nblocks = gemm_ceil_div(g->n, s->nb), np = gemm_ceil_div(g->n, nr);
    long i = part % mblocks, j = part / mblocks, j1 = gemm_cut(np, nblocks, j + 1) * nr;
    struct gemm_part c = {.i0 = s->bp ? i * s->mb : gemm_cut(g->m, mblocks, i), .j0 = gemm_cut(np, nblocks, j) * nr, .k1 = gemm_places(s->isa, g)};
    long i1 = s->bp ? c.i0 + s->mb : gemm_cut(g->m, mblocks, i + 1); /* bp: whole panels but for the last */
    c.m = (i1 < g->m ? i1 : g->m) - c.i0, c.n = (j1 < g->n ? j1 : g->n) - c.j0;
    if (c.n <= 0) return;
    if (s->bp) shared_block(s, g, e, &c, mem);
    else own_block(s, g, &c, mem);
}

static void task(void *ctx, int task, int worker)
{
    const struct grouped *s = ctx;
    long low = 0, high = s->groups; /* the last group whose first task is not after this one */
    while (high - low > 1) {
        long mid = (low + high) / 2;
        *(s->first[mid] <= task ? &low : &high) = mid;
    }
    struct gemm_args g = args_of(s, s->pick[low]);
    if (few(&g)) few_rows(s, &g, task - s->first[low]);
    else block(s, &g, s->pick[low], task - s->first[low], cpu_scratch(s->dev, worker));
}

/* Blocks of rows are many and alike: in the rows' order a worker's share is what it wrote itself. Sums are few: the longest first, by powers of two, dealt
 * out so that every worker begins with long ones and is left with short ones to give away. */
static void pick_groups(const struct grouped *s)
{
    int32_t *sorted = s->pick + s->groups;
    long n = 0, workers = cpu_of(s->dev)->workers;
    for (long e = 0; e < s->groups; e++) s->pick[e] = (int32_t)e;
    for (int bits = s->sum ? 31 : -1; bits >= 0; bits--)
        for (long e = 0; e < s->groups; e++) {
            int32_t rows = s->offset[e + 1] - s->offset[e];
            if (bits ? rows >> (bits - 1) == 1 : rows == 0) sorted[n++] = (int32_t)e;
        }
    for (long w = 0, at = 0; w < workers; w++)
        for (long i = w; i < n; i += workers) s->pick[at++] = sorted[i];
}

static st_t run(struct grouped *s)
{
    void *p;
    s->few = cpu_gemm_isa[cpu_of(s->dev)->isa];
    s->isa = s->dev->precision == KN_BF16 ? cpu_gemm_bf16 : s->few;
    s->ncols = gemm_ceil_div(s->g.n, 2 * s->isa->vl) * 2 * s->isa->vl;
    long places = s->sum ? 0 : gemm_places(s->isa, &s->g);
    double shared = s->sum ? INFINITY : (double)s->groups * (double)s->ncols * (double)places * 4;
    int share = shared <= B_SHARED;
    long kblocks = kblocks_of(s, places), kc = share ? gemm_ceil_div(places, kblocks) : 0;
    size_t rounded = s->g.c16 ? (size_t)(GEMM_OWN_BLOCK * GEMM_OWN_BLOCK) * 4 : 0;
    s->mb = share ? MB / s->isa->mr * s->isa->mr : GEMM_OWN_BLOCK, s->nb = share ? NB : GEMM_OWN_BLOCK;
    st_t st = cpu_scratch_need(s->dev, share ? (size_t)(MB * kc) * 4 : GEMM_OWN_SCRATCH + rounded);
    if (!st) st = cpu_shared(s->dev, CPU_SLOT_OP, (size_t)(3 * s->groups + 1) * sizeof *s->first, &p);
    if (st) return st;
    s->first = p;
    s->pick = s->first + s->groups + 1;
    if (share) {
        st = cpu_shared(s->dev, CPU_SLOT_GEMM, (size_t)shared, &p);
        if (st) return st;
        s->bp = p, s->direct = gemm_direct(s->isa, &s->g, kc);
        cpu_run(s->dev, pack_task, s, (int)(s->groups * gemm_ceil_div(s->ncols, B_TASK)), shared / 8);
    }
    pick_groups(s);
    s->first[0] = 0;
    for (long i = 0; i < s->groups; i++) s->first[i + 1] = s->first[i] + (int32_t)tasks_of(s, s->pick[i]);
    double rows = (double)s->offset[s->groups], one = s->sum ? (double)s->g.m : (double)s->g.k;
    cpu_run(s->dev, task, s, s->first[s->groups], 2.0 * rows * one * (double)s->g.n / 50);
    return ST_OK;
}

/* Weights at rest are read through the products that know them, group by group. */
static st_t stored(struct kn_dev *dev, const struct kn_tensor *a, const struct kn_tensor *b, const int32_t *offset, double beta,
                   const struct kn_tensor *c)
{
    st_t st = ST_OK;
    for (int64_t e = 0; e < b->d[0] && !st; e++) {
        int64_t n = offset[e + 1] - offset[e];
        if (!n) continue;
        struct kn_tensor x = kn_slice(a, 0, offset[e], n), y = kn_slice(c, 0, offset[e], n), w = kn_slice(b, 0, e, 1);
        w = (struct kn_tensor){w.p, b->dtype, 2, {b->d[1], b->d[2]}, {b->s[1], b->s[2]}};
        st = cpu_gemm(dev, 1, &x, &w, beta, &y);
    }
    return st;
}

st_t cpu_gemm_grouped(struct kn_dev *dev, const struct kn_tensor *a, const struct kn_tensor *b, const struct kn_tensor *offset,
                      double beta, const struct kn_tensor *c)
{
    st_t st = kn_check_gemm_grouped(a, b, offset, beta, c);
    if (!st) st = kn_check_runs(offset, a->d[0]);
    if (st) return st;
    if (c->dtype == KN_F64 || ((a->dtype == KN_BF16 || c->dtype == KN_BF16) && dev->precision != KN_BF16)) return ST_ENOTSUP;
    if (b->dtype != KN_F32) return stored(dev, a, b, offset->p, beta, c);
    if (!kn_count(c)) return ST_OK;
    if (!a->d[1]) return beta != 0 ? cpu_axpy(dev, beta - 1, c, c) : cpu_fill(dev, c, 0);
    struct grouped s = {
        .dev = dev, .sa = a->s[0], .sb = b->s[0], .sc = c->s[0], .each_b = 1, .offset = offset->p, .groups = b->d[0],
        .g = {.n = c->d[1], .k = a->d[1], .a = a->p, .am = a->s[0], .ak = a->s[1], .b = b->p, .bk = b->s[1], .bn = b->s[2],
              .c = c->p, .cm = c->s[0], .cn = c->s[1], .alpha = 1, .beta = (float)beta, .a16 = a->dtype == KN_BF16, .c16 = c->dtype == KN_BF16},
    };
    return run(&s);
}

st_t cpu_gemm_grouped_sum(struct kn_dev *dev, const struct kn_tensor *a, const struct kn_tensor *b, const struct kn_tensor *offset,
                          const struct kn_tensor *c)
{
    st_t st = kn_check_gemm_grouped_sum(a, b, offset, c);
    if (!st) st = kn_check_runs(offset, a->d[0]);
    if (st) return st;
    if (c->dtype != KN_F32 || ((a->dtype == KN_BF16 || b->dtype == KN_BF16) && dev->precision != KN_BF16)) return ST_ENOTSUP;
    if (!kn_count(c)) return ST_OK;
    struct grouped s = {
        .dev = dev, .sa = a->s[0], .sb = b->s[0], .sc = c->s[0], .each_c = 1, .offset = offset->p, .groups = c->d[0], .sum = 1,
        .g = {.m = c->d[1], .n = c->d[2], .a = a->p, .am = a->s[1], .ak = a->s[0], .b = b->p, .bk = b->s[0], .bn = b->s[1],
              .c = c->p, .cm = c->s[1], .cn = c->s[2], .alpha = 1, .beta = 1, .a16 = a->dtype == KN_BF16, .b16 = b->dtype == KN_BF16},
    };
    return run(&s);
}
