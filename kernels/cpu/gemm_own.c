/* Products whose tasks share nothing: few rows, or a long sum into a small output (the gradient of a weight, dW = dY' X: thousands of rows
 * into a few hundred by a few hundred). Their blocks are those of experts' sums too (gemm_grouped.c).
 *
 * A task owns a block of c and a slice of the sum, and packs what it needs of a and b for itself. Cores need not share a cache near enough to hand
 * packed panels to each other: that cost more than packing b a few times over. The first slice goes to c itself, the others to memory of their own,
 * which is then added in the order of the slices. */
#include "kernels/cpu/gemm.h"

#define LONG_K 1024       /* sums from here on */
#define LONG_MN (4 << 20) /* elements of c up to here */
#define KC GEMM_OWN_KC    /* places at a time: two blocks of b, one multiplied and one being packed, fill half an L2 of 1 MiB */
#define MB GEMM_OWN_BLOCK /* rows and columns of a block of c, which is read and written once for KC places and need not stay in L2 */
#define NB GEMM_OWN_BLOCK
#define PIECE 8           /* places packed between two tiles */
#define NB_LEAST 128
#define MIN_TASKS 12
#define MIN_SLICE 256
#define REDUCE 4096       /* elements of c a task of the last step */

int gemm_own_fits(const struct gemm_args *g)
{
    return g->m <= MB || (g->k >= LONG_K && g->m * g->n <= LONG_MN);
}

struct own {
    const struct gemm_isa *isa;
    struct kn_dev *dev;
    const struct gemm_args *g;
    float *part; /* [slices - 1, m, n] */
    long slices, mblocks, nblocks, npanels;
};

/* A block of a product. */
struct block {
    const struct gemm_isa *isa;
    const struct gemm_args *g;
    const struct gemm_part *c;
    int direct; /* a is read where it lies */
};

/* Its operands, packed. */
struct packs {
    float *a, *b;
};

/* Operands whose places lie in rows are packed a few places at a time, between the tiles of the block before: while those are multiplied the rows come
 * into L2. The others are packed when their block begins. */
static int rows_a(const struct block *s)
{
    return s->g->am == 1 && !s->direct;
}

static int rows_b(const struct block *s)
{
    return s->g->bn == 1;
}

/* Places [from, to) of the kc places at k0. */
static void pack_places(const struct block *s, const struct packs *dst, long k0, long kc, long from, long to)
{
    if (from == to) return;
    if (rows_b(s)) gemm_pack_block(s->isa, s->g, dst->b, k0, kc, k0 + from, to - from, s->c->j0, s->c->n);
    if (rows_a(s)) gemm_pack_a_block(s->isa, s->g, dst->a, k0, kc, k0 + from, to - from, s->c->i0, s->c->m);
}

static void pack_whole(const struct block *s, const struct packs *to, long k0, long kc)
{
    if (!rows_b(s)) gemm_pack_block(s->isa, s->g, to->b, k0, kc, k0, kc, s->c->j0, s->c->n);
    if (!rows_a(s) && !s->direct) gemm_pack_a_block(s->isa, s->g, to->a, k0, kc, k0, kc, s->c->i0, s->c->m);
}

/* The places that come next: piece after piece, the lines of b and of a come into L2 while `tiles` tiles are multiplied, and a piece is packed when the
 * one after it is on its way. */
struct coming {
    long k0, places, pieces; /* none: 0 places */
    long tile, tiles;        /* multiplied of the places before */
    long packed;             /* places */
    long run;                /* runs of lines begun, two a piece */
    struct gemm_ahead lines; /* of this run */
};

static long line_count(long n, int half)
{
    return n * (half ? 2 : 4) / 64 + 1;
}

static struct coming coming(const struct block *s, long k0, long places, long tiles)
{
    long pieces = gemm_ceil_div(places, PIECE);
    long a_place = (rows_b(s) ? line_count(s->c->n, s->g->b16) : 0) + (rows_a(s) ? line_count(s->c->m, s->g->a16) : 0);
    struct coming f = {.k0 = k0, .places = places, .pieces = pieces, .tiles = tiles};
    if (pieces) f.lines.most = places * s->isa->fold * a_place * (pieces + 1) / (tiles * pieces) + 1;
    return f;
}

/* The lines to fetch with the tile that comes now. */
static struct gemm_ahead *lines_ahead(const struct block *s, struct coming *f)
{
    const struct gemm_args *g = s->g;
    const struct gemm_part *c = s->c;
    for (; f->lines.left == 0 && f->run < 2 * f->pieces; f->run++) {
        long from = f->run / 2 * PIECE, to = from + PIECE < f->places ? from + PIECE : f->places, most = f->lines.most;
        long k = (f->k0 + from) * s->isa->fold, end = (f->k0 + to) * s->isa->fold, rows = (end < g->k ? end : g->k) - k;
        if (f->run % 2 == 0 && rows_b(s)) f->lines = gemm_rows_ahead(gemm_at(g->b, g->b16, k * g->bk + c->j0), g->b16, g->bk, rows, c->n, most);
        if (f->run % 2 == 1 && rows_a(s)) f->lines = gemm_rows_ahead(gemm_at(g->a, g->a16, k * g->ak + c->i0), g->a16, g->ak, rows, c->m, most);
    }
    return f->lines.left ? &f->lines : NULL;
}

/* After a tile. */
static void pack_coming(const struct block *s, const struct packs *to, struct coming *f)
{
    long ready = (++f->tile * (f->pieces + 1) / f->tiles - 1) * PIECE;
    if (f->tile == f->tiles || ready > f->places) ready = f->places;
    if (ready <= f->packed) return;
    pack_places(s, to, f->k0, f->places, f->packed, ready);
    f->packed = ready;
}

void gemm_own_block(const struct gemm_isa *isa, const struct gemm_args *g, const struct gemm_part *c, float *mem)
{
    long places = c->k1 - c->k0, kblocks = gemm_ceil_div(places, KC), panels = gemm_ceil_div(c->m, isa->mr), nr = 2 * isa->vl;
    struct block s = {isa, g, c, gemm_direct(isa, g, places < KC ? places : KC)};
    struct packs p[2] = {{mem, mem + MB * KC}, {mem + (MB + NB) * KC, mem + (2 * MB + NB) * KC}};
    for (long kb = 0; kb < kblocks; kb++) {
        const struct packs *now = &p[kb % 2], *then = &p[(kb + 1) % 2];
        long k0 = c->k0 + gemm_cut(places, kblocks, kb), kn = c->k0 + gemm_cut(places, kblocks, kb + 1), kc = kn - k0;
        if (kb == 0) pack_places(&s, now, k0, kc, 0, kc);
        pack_whole(&s, now, k0, kc);
        struct coming f = coming(&s, kn, kb + 1 < kblocks ? c->k0 + gemm_cut(places, kblocks, kb + 2) - kn : 0, panels * gemm_ceil_div(c->n, nr));
        long as = gemm_a_stride(isa, g, s.direct, kc);
        for (long i = 0; i < panels; i++) {
            long r = gemm_cut(c->m, panels, i), rows = gemm_cut(c->m, panels, i + 1) - r;
            const float *a = s.direct ? gemm_at(g->a, g->a16, (c->i0 + r) * g->am + k0 * isa->fold) : now->a + r * kc;
            for (long j = 0; j < c->n; j += nr) {
                long n = c->n - j < nr ? c->n - j : nr;
                gemm_tile(isa, g, as, kc, a, now->b + j * kc, c->i0 + r, rows, c->j0 + j, n, kb ? 1 : g->beta, lines_ahead(&s, &f));
                pack_coming(&s, then, &f);
            }
        }
    }
}

static void block_task(void *ctx, int task, int worker)
{
    const struct own *s = ctx;
    struct gemm_args g = *s->g;
    /* slices last: a core's share of the tasks is a share of the sum, rows that it wrote itself if the kernel before was cut by rows */
    long mb = task % s->mblocks, nb = task / s->mblocks % s->nblocks, slice = task / s->mblocks / s->nblocks, nr = 2 * s->isa->vl;
    long places = gemm_places(s->isa, &g), j1 = gemm_cut(s->npanels, s->nblocks, nb + 1) * nr;
    struct gemm_part c = {.i0 = gemm_cut(g.m, s->mblocks, mb), .j0 = gemm_cut(s->npanels, s->nblocks, nb) * nr,
                          .k0 = gemm_cut(places, s->slices, slice), .k1 = gemm_cut(places, s->slices, slice + 1)};
    c.m = gemm_cut(g.m, s->mblocks, mb + 1) - c.i0, c.n = (j1 < g.n ? j1 : g.n) - c.j0;
    if (slice) g.c = s->part + (slice - 1) * g.m * g.n, g.cm = g.n, g.cn = 1, g.beta = 0;
    gemm_own_block(s->isa, &g, &c, cpu_scratch(s->dev, worker));
}

static void reduce_task(void *ctx, int task, int worker)
{
    const struct own *s = ctx;
    const struct gemm_args *g = s->g;
    long mn = g->m * g->n, from = (long)task * REDUCE, to = from + REDUCE < mn ? from + REDUCE : mn;
    for (long e = from; e < to;) {
        long i = e / g->n, j = e % g->n, n = to - e < g->n - j ? to - e : g->n - j;
        float *c = g->c + i * g->cm + j * g->cn;
        for (long l = 0; l + 1 < s->slices; l++) {
            const float *p = s->part + l * mn + e;
            if (g->cn == 1)
                for (long x = 0; x < n; x++) c[x] += p[x];
            else
                for (long x = 0; x < n; x++) c[x * g->cn] += p[x];
        }
        e += n;
    }
}

st_t gemm_own(struct kn_dev *dev, const struct gemm_isa *isa, const struct gemm_args *g)
{
    struct own s = {.isa = isa, .dev = dev, .g = g, .slices = 1, .mblocks = gemm_ceil_div(g->m, MB), .npanels = gemm_ceil_div(g->n, 2 * isa->vl)};
    long nb = NB;
    /* Too few tasks: short sums get narrower blocks, long ones slices (narrow blocks would pack a again and again). */
    while (g->k < LONG_K && nb > NB_LEAST && s.mblocks * gemm_ceil_div(g->n, nb) < MIN_TASKS) nb /= 2;
    s.nblocks = gemm_ceil_div(g->n, nb);
    if (g->k >= LONG_K) {
        /* Adding slices costs the more the larger c is: few where there are blocks enough, but an even number of tasks where there are few. */
        long blocks = s.mblocks * s.nblocks;
        s.slices = gemm_ceil_div(4, blocks);
        if (blocks * s.slices % 2 && blocks < 16) s.slices *= 2;
        if (s.slices > g->k / MIN_SLICE) s.slices = g->k / MIN_SLICE;
    }
    void *part = NULL;
    st_t st = cpu_scratch_need(dev, GEMM_OWN_SCRATCH);
    if (st) return st;
    if (s.slices > 1) st = cpu_shared(dev, CPU_SLOT_GEMM, (size_t)((s.slices - 1) * g->m * g->n) * 4, &part);
    if (st) return st;
    s.part = part;
    cpu_run(dev, block_task, &s, (int)(s.slices * s.mblocks * s.nblocks), 2.0 * (double)g->m * (double)g->n * (double)g->k / 50);
    if (s.slices > 1)
        cpu_run(dev, reduce_task, &s, (int)gemm_ceil_div(g->m * g->n, REDUCE), (double)(g->m * g->n * s.slices) * 4 / 10);
    return ST_OK;
}
