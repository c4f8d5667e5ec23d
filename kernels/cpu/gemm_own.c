/* Products whose tasks share nothing: few rows, or a long sum into a small output (the gradient of a weight, dW = dY' X: thousands of rows
 * into a few hundred by a few hundred).
 *
 * A task owns a block of c and a slice of the sum, and packs what it needs of a and b for itself. Cores need not share a cache near enough to hand
 * packed panels to each other: that cost more than packing b a few times over. The first slice goes to c itself, the others to memory of their own,
 * which is then added in the order of the slices. */
#include "kernels/cpu/gemm.h"

#define LONG_K 1024       /* sums from here on */
#define LONG_MN (4 << 20) /* elements of c up to here */
#define KC 256
#define MB 280            /* rows and columns of a block: its parts of a, b and c fill an L2 of 1 MiB */
#define NB 384
#define KC_BF16 128       /* the same of bf16, whose next block waits in L2 as f32 */
#define NB_BF16 256
#define NB_LEAST 96
#define MIN_TASKS 12
#define MIN_SLICE 256
#define REDUCE 4096       /* elements of c a task of the last step */

int gemm_own_fits(const struct gemm_args *g)
{
    return g->m <= MB || (g->k >= LONG_K && g->m * g->n <= LONG_MN && g->k >= 2 * g->m && g->k >= 2 * g->n);
}

struct own {
    const struct gemm_isa *isa;
    struct kn_dev *dev;
    const struct gemm_args *g;
    float *part; /* [slices - 1, m, n] */
    long slices, mblocks, nblocks, npanels;
    int direct; /* a is read where it lies */
};

static long kc_of(const struct gemm_isa *isa)
{
    return isa->fold == 2 ? KC_BF16 : KC;
}

/* Rows [from, to) of n numbers that the next block will pack, on their way into L2 while this one is multiplied. */
static void fetch(const float *p, int half, long stride, long n, long from, long to)
{
    for (long k = from; k < to; k++)
        for (long x = 0; x < n; x += half ? 32 : 16) __builtin_prefetch(gemm_at(p, half, k * stride + x), 0, 2);
}

static void block_task(void *ctx, int task, int worker)
{
    const struct own *s = ctx;
    const struct gemm_isa *isa = s->isa;
    struct gemm_args g = *s->g;
    long slice = task % s->slices, mb = task / s->slices % s->mblocks, nb = task / s->slices / s->mblocks, nr = 2 * isa->vl;
    long i0 = gemm_cut(g.m, s->mblocks, mb), m = gemm_cut(g.m, s->mblocks, mb + 1) - i0, panels = gemm_ceil_div(m, isa->mr);
    long j0 = gemm_cut(s->npanels, s->nblocks, nb) * nr, j1 = gemm_cut(s->npanels, s->nblocks, nb + 1) * nr, n = (j1 < g.n ? j1 : g.n) - j0;
    long places = gemm_places(isa, &g), f = isa->fold;
    long k1 = gemm_cut(places, s->slices, slice), k2 = gemm_cut(places, s->slices, slice + 1), kc_most = kc_of(isa), kblocks = gemm_ceil_div(k2 - k1, kc_most);
    float *ap = cpu_scratch(s->dev, worker), *bp = ap + MB * kc_most;
    if (slice) g.c = s->part + (slice - 1) * g.m * g.n, g.cm = g.n, g.cn = 1, g.beta = 0;
    for (long kb = 0; kb < kblocks; kb++) {
        long k0 = k1 + gemm_cut(k2 - k1, kblocks, kb), kc = k1 + gemm_cut(k2 - k1, kblocks, kb + 1) - k0;
        long as = gemm_a_stride(isa, &g, s->direct, kc), tile = 0, tiles = panels * gemm_ceil_div(n, nr), next = kb + 1 < kblocks ? k2 - k0 - kc < kc_most ? k2 - k0 - kc : kc : 0;
        gemm_pack_block(isa, &g, bp, k0, kc, k0, kc, j0, n);
        if (!s->direct) gemm_pack_a_block(isa, &g, ap, k0, kc, k0, kc, i0, m);
        for (long p = 0; p < panels; p++) {
            long r = gemm_cut(m, panels, p), rows = gemm_cut(m, panels, p + 1) - r;
            const float *a = s->direct ? gemm_at(g.a, g.a16, (i0 + r) * g.am + k0 * f) : ap + r * kc;
            for (long j = 0; j < n; j += nr, tile++) {
                long from = k0 + kc + next * tile / tiles, to = k0 + kc + next * (tile + 1) / tiles;
                if (g.bn == 1) fetch(gemm_at(g.b, g.b16, j0), g.b16, g.bk, n, from * f, to * f < g.k ? to * f : g.k);
                if (g.am == 1 && !s->direct) fetch(gemm_at(g.a, g.a16, i0), g.a16, g.ak, m, from * f, to * f < g.k ? to * f : g.k);
                gemm_tile(isa, &g, as, kc, a, bp + j * kc, i0 + r, rows, j0 + j, n - j < nr ? n - j : nr, kb ? 1 : g.beta);
            }
        }
    }
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
    long nb = isa->fold == 2 ? NB_BF16 : NB, kc = kc_of(isa), places = gemm_places(isa, g);
    s.direct = gemm_direct(isa, g, places < kc ? places : kc);
    /* Too few tasks: short sums get narrower blocks, long ones slices (narrow blocks would pack a again and again). */
    while (g->k < LONG_K && nb > NB_LEAST && s.mblocks * gemm_ceil_div(g->n, nb) < MIN_TASKS) nb /= 2;
    s.nblocks = gemm_ceil_div(g->n, nb);
    if (g->k >= LONG_K) {
        /* Adding slices costs the more the larger c is: few where there are blocks enough, but an even number of tasks where there are few. */
        long blocks = s.mblocks * s.nblocks;
        s.slices = blocks == 1 ? 8 : gemm_ceil_div(4, blocks);
        if (blocks * s.slices % 2 && blocks < 16) s.slices *= 2;
        if (s.slices > g->k / MIN_SLICE) s.slices = g->k / MIN_SLICE;
    }
    void *part = NULL;
    st_t st = cpu_scratch_need(dev, (size_t)((MB + NB + GEMM_NR) * KC) * 4);
    if (st) return st;
    if (s.slices > 1) st = cpu_shared(dev, CPU_SLOT_GEMM, (size_t)((s.slices - 1) * g->m * g->n) * 4, &part);
    if (st) return st;
    s.part = part;
    cpu_run(dev, block_task, &s, (int)(s.slices * s.mblocks * s.nblocks), 2.0 * (double)g->m * (double)g->n * (double)g->k / 50);
    if (s.slices > 1)
        cpu_run(dev, reduce_task, &s, (int)gemm_ceil_div(g->m * g->n, REDUCE), (double)(g->m * g->n * s.slices) * 4 / 10);
    return ST_OK;
}
