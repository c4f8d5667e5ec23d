/* One token through branches of the stream, by one team of threads that stays together from the first to the last: what decoding a small model costs
 * beside its weights is threads that wait for each other, so they do only where a vector that all have worked on is complete, four times a layer
 * (attention: what the heads gathered, the sum; ffn: the hidden units, the sum). The stream and its norm every thread keeps for itself.
 *
 * What a thread works out is rows of products, whole chunks of keys and whole heads, so the numbers are the same whoever does it. Keys and values are
 * its heads' own where groups can be dealt out evenly; otherwise all meet once more between a head's product and its keys. */
#include <math.h>
#include <string.h>

#include "kernels/cpu/attn.h"

#define UNIT 16   /* rows that are dealt out together: a line of what they give */
#define PIECE 512 /* hidden units at a time */

struct ctx {
    struct kn_dev *dev;
    const struct kn_branch *branch;
    int n;
    double eps;
    int64_t D;
    float *x;       /* the caller's */
    const float *r; /* NULL: none */
    /* shared: y [D], what a branch gives; h [F], an ffn's hidden units, those of each chosen expert from a line of its own on; qkv, o [H K] (what heads
     * gathered) and part: attention's; line [n]: a line of cosines and sines for each branch that rotates, else NULL */
    float *y, *h, *qkv, *o, *part;
    const float **line;
    int64_t stream, experts; /* lengths in a worker's scratch: x and xn; z, p, chosen, w; behind them what a branch wants */
};

/* A thread in the team, and its scratch. */
struct seat {
    const struct ctx *c;
    int rank, size;
    float *x, *xn, *z, *work;
};

static int64_t lines_of(int64_t floats)
{
    return (floats + 15) / 16 * 16;
}

static int64_t cut(int64_t units, int64_t part, int64_t parts)
{
    return units / parts * part + (part < units % parts ? part : units % parts);
}

/* This thread's share of n rows. */
static void share(const struct seat *s, int64_t n, int64_t *from, int64_t *to)
{
    int64_t units = (n + UNIT - 1) / UNIT;
    *from = cut(units, s->rank, s->size) * UNIT;
    *to = cut(units, s->rank + 1, s->size) * UNIT;
    if (*from > n) *from = n;
    if (*to > n) *to = n;
}

static void meet(const struct seat *s)
{
    base_pool_meet(s->c->dev->pool, s->rank, s->size);
}

/* Numbers that this thread will write, and another has read: a store that waits for their lines would hold up all later ones. */
static void claim(const float *p, int64_t n)
{
    for (int64_t i = 0; i < n; i += 16) __builtin_prefetch(p + i, 1, 3);
}

/* y = w x, or added to it: this thread's rows. */
static void product(const struct seat *s, const struct kn_tensor *w, const float *x, int add, float *y)
{
    int64_t from, to;
    share(s, w->d[0], &from, &to);
    claim(y + from, to - from);
    cpu_product_row(s->c->dev, w, from, to - from, x, add, y + from);
}

/* ---- attention ---- */

static struct attn attn_args(const struct kn_branch_attention *b, const float *q)
{
    int64_t K = b->k.d[2], H = b->heads, G = b->k.d[1];
    return (struct attn){.q = q, .k = b->k.p, .v = b->v.p, .sq = {0, 0, K}, .sk = {0, b->k.s[0], b->k.s[1]}, .sv = {0, b->v.s[0], b->v.s[1]},
                         .B = 1, .T = 1, .S = b->k.d[0], .H = H, .G = G, .R = H / G, .K = K, .E = K, .scale = (float)b->scale};
}

/* Heads [from, to) of q, k and v, those of k and v to their place in the cache. */
static void heads(const struct seat *s, const struct kn_branch_attention *b, const float *line, int64_t from, int64_t to)
{
    const struct ctx *c = s->c;
    int64_t K = b->k.d[2], H = b->heads, G = b->k.d[1];
    if (from >= to) return;
    cpu_product_row(c->dev, &b->qkv, from * K, (to - from) * K, s->xn, 0, c->qkv + from * K);
    int64_t turned = to < H + G ? to : H + G;
    if (line && from < turned) cpu_rope_heads(c->dev, c->qkv + from * K, turned - from, K, line, b->rope / 2);
    for (int64_t i = from > H ? from : H; i < to; i++) {
        const struct kn_tensor *t = i < H + G ? &b->k : &b->v;
        memcpy((float *)t->p + b->slot * t->s[0] + (i - H) % G * t->s[1], c->qkv + i * K, (size_t)K * sizeof(float));
    }
}

static void attention(const struct seat *s, const struct kn_branch_attention *b, const float *line)
{
    const struct ctx *c = s->c;
    struct attn a = attn_args(b, c->qkv);
    struct attn_decode d = attn_decode(c->dev, &a);
    int64_t own = b->slot < 0 ? 0 : a.G, all = a.H + 2 * own, g0 = cut(a.G, s->rank, s->size), g1 = cut(a.G, s->rank + 1, s->size);
    int apart = a.G % s->size == 0; /* groups go round evenly: a thread's heads meet keys that it has made itself */
    d.part = c->part;
    if (apart) claim(c->o + g0 * a.R * a.K, (g1 - g0) * a.R * a.K);
    if (apart) {
        heads(s, b, line, g0 * a.R, g1 * a.R);
        if (own) heads(s, b, line, a.H + g0, a.H + g1), heads(s, b, line, a.H + a.G + g0, a.H + a.G + g1);
    } else {
        heads(s, b, line, cut(all, s->rank, s->size), cut(all, s->rank + 1, s->size));
        meet(s);
    }
    int64_t units = a.G * d.chunks;
    for (int64_t u = cut(units, s->rank, s->size); u < cut(units, s->rank + 1, s->size); u++)
        attn_decode_chunk(c->dev, &d, 0, u / d.chunks, u % d.chunks, s->work);
    /* merging is cheap: where heads are in pieces all merge all */
    float *o = apart ? c->o : s->work;
    if (!apart) meet(s);
    for (int64_t h = apart ? g0 * a.R : 0; h < (apart ? g1 * a.R : a.H); h++) attn_decode_merge(c->dev, &d, 0, h, o + h * a.K);
    if (apart) meet(s);
    product(s, &b->out, o, 0, c->y);
}

/* ---- ffn ---- */

/* The e-th matrix of experts. */
static struct kn_tensor matrix(const struct kn_tensor *w, int64_t e)
{
    if (w->rank == 2) return *w;
    return (struct kn_tensor){(char *)w->p + e * w->s[0] * (int64_t)kn_dtype_size(w->dtype), w->dtype, 2, {w->d[1], w->d[2]}, {w->s[1], w->s[2]}};
}

/* Units [from, to) of h = factor act. */
static void hidden(const struct seat *s, const struct kn_ffn *f, int64_t e, int act, float factor, int64_t from, int64_t to, float *h)
{
    const struct kn_dev *dev = s->c->dev;
    struct kn_tensor up = matrix(&f->up, e), gate = {0};
    if (f->gate.p) gate = matrix(&f->gate, e);
    for (int64_t i = from; i < to; i += PIECE) {
        int64_t n = to - i < PIECE ? to - i : PIECE;
        if (gate.p) {
            cpu_product_row(dev, &gate, i, n, s->xn, 0, h + i);
            cpu_product_row(dev, &up, i, n, s->xn, 0, s->work);
            cpu_expert_act_row(dev, h + i, h + i, s->work, factor, n);
            continue;
        }
        cpu_product_row(dev, &up, i, n, s->xn, 0, h + i);
        if (act == KN_RELU2) cpu_expert_act_row(dev, h + i, h + i, NULL, factor, n);
        else cpu_act_row(dev, act, h + i, h + i, n);
    }
}

static void ffn(const struct seat *s, const struct kn_branch_ffn *b)
{
    const struct ctx *c = s->c;
    int64_t one = b->one.down.p ? b->one.down.d[1] : 0, E = 0, F = 0, k = 0, from, to;
    float *z = s->z, *p = NULL, *w = NULL, factor = 1;
    int32_t *chosen = NULL;
    if (b->expert.down.p) {
        /* every thread for itself: a few rows, and nobody waits */
        E = b->router.d[0], k = b->active, F = b->expert.down.d[2];
        p = z + E, w = p + E, chosen = (int32_t *)(w + k);
        cpu_product_row(c->dev, &b->router, 0, E, s->xn, 0, z);
        cpu_route_row(c->dev, z, b->sigmoid, E, k, p, chosen, w);
    }
    if (one && b->one_gate.p) {
        float g;
        cpu_product_row(c->dev, &b->one_gate, 0, 1, s->xn, 0, &g);
        factor = 1 / (1 + expf(-g));
    }
    /* units of one, then of the chosen experts, each from a line of its own on */
    int64_t first = lines_of(one), step = lines_of(F);
    share(s, first + k * step, &from, &to);
    claim(c->h + from, to - from);
    if (from < one) hidden(s, &b->one, 0, b->act, factor, from, to < one ? to : one, c->h);
    for (int64_t i = 0; i < k; i++) {
        int64_t at = first + i * step, f0 = from > at ? from - at : 0, f1 = to - at < F ? to - at : F;
        if (f0 < f1) hidden(s, &b->expert, chosen[i], KN_RELU2, w[i], f0, f1, c->h + at);
    }
    meet(s);
    if (one) product(s, &b->one.down, c->h, 0, c->y);
    for (int64_t i = 0; i < k; i++) {
        struct kn_tensor down = matrix(&b->expert.down, chosen[i]);
        product(s, &down, c->h + first + i * step, one || i, c->y);
    }
}

/* ---- all of it ---- */

static struct seat seat(const struct ctx *c, int rank, int size)
{
    struct seat s = {.c = c, .rank = rank, .size = size, .x = cpu_scratch(c->dev, rank)};
    s.xn = s.x + c->stream, s.z = s.xn + c->stream, s.work = s.z + c->experts;
    return s;
}

static void team(void *arg, int rank, int size)
{
    const struct ctx *c = arg;
    struct seat s = seat(c, rank, size);
    const float *r = c->r; /* what the stream lacks yet */
    memcpy(s.x, c->x, (size_t)c->D * sizeof(float));
    for (int i = 0; i < c->n; i++) {
        const struct kn_branch *b = &c->branch[i];
        /* the caller's thread has written the next one */
        for (size_t k = 0; i + 1 < c->n && k < sizeof *b; k += 64) __builtin_prefetch((const char *)(b + 1) + k, 0, 3);
        cpu_rmsnorm_row(c->dev, s.x, r, b->norm->p, c->eps, s.xn, c->D);
        r = NULL;
        if (b->kind == KN_BRANCH_HEAD) {
            product(&s, &b->head.w, s.xn, 0, b->head.logits.p);
            continue;
        }
        if (b->kind == KN_BRANCH_ATTENTION) attention(&s, &b->attention, c->line[i]);
        else ffn(&s, &b->ffn);
        meet(&s);
        r = c->y;
    }
}

/* The most that any branch wants, in floats; about what all of them read, in numbers. */
struct need {
    int64_t h, qkv, o, part, lines, experts, work;
    double read;
};

static void most(int64_t *to, int64_t n)
{
    if (lines_of(n) > *to) *to = lines_of(n);
}

static struct need need_of(const struct ctx *c)
{
    struct need n = {.work = PIECE};
    for (int i = 0; i < c->n; i++) {
        const struct kn_branch *b = &c->branch[i];
        if (b->kind == KN_BRANCH_ATTENTION) {
            struct attn a = attn_args(&b->attention, NULL);
            struct attn_decode d = attn_decode(c->dev, &a);
            most(&n.qkv, b->attention.qkv.d[0]);
            most(&n.o, a.H * a.K);
            most(&n.part, d.floats);
            most(&n.work, a.H * a.K > d.worker_floats ? a.H * a.K : d.worker_floats);
            n.lines += lines_of(b->attention.rope);
            n.read += (double)(b->attention.qkv.d[0] + a.H * a.K) * (double)c->D + 2 * (double)(a.S * a.G * a.K);
        } else if (b->kind == KN_BRANCH_FFN) {
            const struct kn_branch_ffn *f = &b->ffn;
            int64_t h = (f->one.down.p ? lines_of(f->one.down.d[1]) : 0) + (f->expert.down.p ? f->active * lines_of(f->expert.down.d[2]) : 0);
            most(&n.h, h);
            if (f->expert.down.p) most(&n.experts, 2 * f->router.d[0] + 2 * f->active);
            n.read += 3 * (double)h * (double)c->D;
        } else {
            n.read += (double)b->head.w.d[0] * (double)c->D;
        }
    }
    return n;
}

/* Copies of what the tables of rotations hold of this position: the tables move when others are asked for. */
static st_t lines(struct ctx *c, float *to)
{
    for (int i = 0; i < c->n; i++) {
        const struct kn_branch_attention *a = &c->branch[i].attention;
        const float *line;
        c->line[i] = NULL;
        if (c->branch[i].kind != KN_BRANCH_ATTENTION || !a->rope) continue;
        st_t st = cpu_rope_table(c->dev, a->pos, 1, a->theta, a->rope / 2, &line);
        if (st) return st;
        c->line[i] = memcpy(to, line, (size_t)a->rope * sizeof(float));
        to += lines_of(a->rope);
    }
    return ST_OK;
}

st_t cpu_decode(struct kn_dev *dev, const struct kn_branch *branch, int n, double eps, const struct kn_tensor *x, const struct kn_tensor *r)
{
    st_t st = kn_check_decode(branch, n, eps, x, r);
    if (st) return st;
    if (x->dtype != KN_F32) return ST_ENOTSUP;
    struct ctx c = {.dev = dev, .branch = branch, .n = n, .eps = eps, .D = x->d[1], .x = x->p, .r = kn_absent(r) ? NULL : r->p};
    struct need need = need_of(&c);
    int64_t D = lines_of(c.D), pointers = lines_of(n * (int64_t)(sizeof *c.line / sizeof(float)));
    c.stream = D, c.experts = need.experts;
    void *mem;
    st = cpu_scratch_need(dev, (size_t)(2 * D + need.experts + need.work) * sizeof(float));
    if (!st) st = cpu_shared(dev, CPU_SLOT_OP, (size_t)(D + need.h + need.qkv + need.o + need.part + need.lines + pointers) * sizeof(float), &mem);
    if (st) return st;
    c.line = mem;
    c.y = (float *)mem + pointers, c.h = c.y + D, c.qkv = c.h + need.h, c.o = c.qkv + need.qkv, c.part = c.o + need.o;
    st = lines(&c, c.part + need.part);
    if (st) return st;
    /* a branch is worth its meetings where it is worth a fork */
    base_pool_team(need.read * sizeof(float) / 50 < CPU_FORK_NS * n ? NULL : dev->pool, team, &c);
    const float *sum = seat(&c, 0, 1).x, *left = c.r;
    for (int i = 0; i < n; i++) left = branch[i].kind == KN_BRANCH_HEAD ? NULL : c.y;
    for (int64_t d = 0; d < c.D; d++) c.x[d] = left ? sum[d] + left[d] : sum[d];
    return ST_OK;
}
