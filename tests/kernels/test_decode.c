/* Op decode: every kind of branch alone and in a row, against the reference; the reference itself against the ops that each branch is made of. */
#include "tests/kernels/kntest.h"

enum { TENSORS = 16, BRANCHES = 8 };
#define EPS 1e-3

/* Branches over tensors of their own. */
struct call {
    struct kt x, r, t[BRANCHES][TENSORS];
    int n, used[BRANCHES];
    struct kn_branch b[BRANCHES];
    bool with_r;
    int64_t skip; /* numbers of x and r before the stream's: it may begin anywhere */
};

enum { NORM, QKV, OUT, KEYS, VALUES };                                                     /* attention */
enum { UP = 1, DOWN, GATE, ONE_GATE, ROUTER, E_UP, E_DOWN, E_GATE };                       /* ffn */
enum { HEAD_W = 1, LOGITS };

static struct kt *give(struct call *c, int place, int rank, const int64_t *d, const int64_t *strides, double scale)
{
    struct kt *t = &c->t[c->n][place];
    *t = kt_new(rank, d, strides, scale, (uint64_t)(100 * c->n + place + 1));
    if (place >= c->used[c->n]) c->used[c->n] = place + 1;
    return t;
}

static struct call call(int64_t D, bool with_r)
{
    return (struct call){.x = kt_new(2, (int64_t[]){1, D}, NULL, 1, 91), .r = kt_new(2, (int64_t[]){1, D}, NULL, 1, 92), .with_r = with_r};
}

/* Numbers that lie between the rows of weights, as where a narrower model uses a wider one's. */
static int64_t between;

static struct kt *give_weights(struct call *c, int place, int rank, const int64_t *d, double scale)
{
    int64_t row = d[rank - 1] + between, strides[] = {rank == 3 ? d[1] * row : row, rank == 3 ? row : 1, 1};
    return give(c, place, rank, d, strides, scale);
}

static double fan(int64_t n)
{
    return 1 / sqrt((double)n);
}

/* slot < 0: keys and values lie there already. padded: the cache is a piece of a larger one. */
static void add_attention(struct call *c, int64_t heads, int64_t groups, int64_t K, int64_t S, int64_t slot, int64_t rope, bool padded)
{
    int64_t D = c->x.t.d[1] - c->skip, rows = heads + (slot < 0 ? 0 : 2 * groups), by_heads[] = {K, (S + 3) * K, 1}, kv[] = {S, groups, K};
    give(c, NORM, 1, &D, NULL, 1);
    give_weights(c, QKV, 2, (int64_t[]){rows * K, D}, 2 * fan(D));
    give_weights(c, OUT, 2, (int64_t[]){D, heads * K}, fan(heads * K));
    give(c, KEYS, 3, kv, padded ? by_heads : NULL, 1);
    give(c, VALUES, 3, kv, padded ? by_heads : NULL, 1);
    double theta = c->n == 2 ? 500 : 10000;
    c->b[c->n].kind = KN_BRANCH_ATTENTION;
    c->b[c->n++].attention = (struct kn_branch_attention){.slot = slot, .heads = heads, .pos = S + 5, .rope = rope, .theta = theta, .scale = fan(K)};
}

static void add_head(struct call *c, int64_t V)
{
    int64_t D = c->x.t.d[1] - c->skip;
    give(c, NORM, 1, &D, NULL, 1);
    give_weights(c, HEAD_W, 2, (int64_t[]){V, D}, fan(D));
    give(c, LOGITS, 1, &V, NULL, 1);
    c->b[c->n++].kind = KN_BRANCH_HEAD;
}

/* F or experts 0: none of that. */
static void add_ffn(struct call *c, int64_t F, bool gate, bool one_gate, int act, int64_t experts, int64_t active, int64_t each, int sigmoid)
{
    int64_t D = c->x.t.d[1] - c->skip;
    give(c, NORM, 1, &D, NULL, 1);
    if (F) {
        give_weights(c, UP, 2, (int64_t[]){F, D}, fan(D));
        give_weights(c, DOWN, 2, (int64_t[]){D, F}, fan(F));
        if (gate) give_weights(c, GATE, 2, (int64_t[]){F, D}, fan(D));
        if (one_gate) give_weights(c, ONE_GATE, 2, (int64_t[]){1, D}, fan(D));
    }
    if (experts) {
        give_weights(c, ROUTER, 2, (int64_t[]){experts, D}, fan(D));
        give_weights(c, E_UP, 3, (int64_t[]){experts, each, D}, fan(D));
        give_weights(c, E_DOWN, 3, (int64_t[]){experts, D, each}, fan(each));
        if (gate) give_weights(c, E_GATE, 3, (int64_t[]){experts, each, D}, fan(D));
    }
    c->b[c->n].kind = KN_BRANCH_FFN;
    c->b[c->n++].ffn = (struct kn_branch_ffn){.act = act, .active = active, .sigmoid = sigmoid};
}

static struct kn_tensor operand(struct kt *t, int ref)
{
    return t->f ? *(ref ? kt_d : kt_f)(t) : (struct kn_tensor){0};
}

static struct kn_tensor stream(struct call *c, struct kt *t, int ref)
{
    struct kn_tensor x = operand(t, ref);
    return kn_slice(&x, 1, c->skip, x.d[1] - c->skip);
}

/* The i-th branch with its tensors, as f32 or f64; norm: where its descriptor is kept. */
static struct kn_branch branch(struct call *c, int i, int ref, struct kn_tensor *norm)
{
    struct kn_branch b = c->b[i];
    struct kn_tensor t[TENSORS];
    for (int k = 0; k < TENSORS; k++) t[k] = operand(&c->t[i][k], ref);
    *norm = t[NORM], b.norm = norm;
    if (b.kind == KN_BRANCH_ATTENTION) {
        b.attention.qkv = t[QKV], b.attention.out = t[OUT], b.attention.k = t[KEYS], b.attention.v = t[VALUES];
    } else if (b.kind == KN_BRANCH_HEAD) {
        b.head = (struct kn_branch_head){t[HEAD_W], t[LOGITS]};
    } else {
        b.ffn.one = (struct kn_ffn){t[GATE], t[UP], t[DOWN]}, b.ffn.one_gate = t[ONE_GATE];
        b.ffn.router = t[ROUTER], b.ffn.expert = (struct kn_ffn){t[E_GATE], t[E_UP], t[E_DOWN]};
    }
    return b;
}

static st_t run(struct kn_dev *dev, int ref, void *arg)
{
    struct call *c = arg;
    struct kn_branch b[BRANCHES];
    struct kn_tensor norm[BRANCHES], x = stream(c, &c->x, ref), r = stream(c, &c->r, ref);
    for (int i = 0; i < c->n; i++) b[i] = branch(c, i, ref, &norm[i]);
    return dev->op->decode(dev, b, c->n, EPS, &x, c->with_r ? &r : NULL);
}

/* One branch in f64 by the ops that it is made of. */
static st_t by_ops(struct kn_dev *dev, const struct kn_branch *b, const struct kn_tensor *x)
{
    enum { MOST = 16384 };
    static double mem[8][MOST], stat;
    static int32_t index[MOST], offset[MOST], order[MOST], row[MOST];
    int64_t D = x->d[1];
    const struct kn_ops *op = dev->op;
    struct kn_tensor xn = kn_t2(mem[0], KN_F64, 1, D), rstd = kn_t1(&stat, KN_F64, 1), y = kn_t2(mem[1], KN_F64, 1, D);
    st_t st = op->rmsnorm(dev, x, NULL, b->norm, EPS, &xn, &rstd);
    if (b->kind == KN_BRANCH_HEAD) {
        struct kn_tensor w = kn_transpose(&b->head.w), z = kn_t2(b->head.logits.p, KN_F64, 1, b->head.w.d[0]);
        return st ? st : op->gemm(dev, 1, &xn, &w, 0, &z);
    }
    if (b->kind == KN_BRANCH_ATTENTION) {
        const struct kn_branch_attention *a = &b->attention;
        int64_t H = a->heads, S = a->k.d[0], G = a->k.d[1], K = a->k.d[2], own = a->slot < 0 ? 0 : G;
        struct kn_tensor w = kn_transpose(&a->qkv), qkv = kn_t2(mem[2], KN_F64, 1, a->qkv.d[0]), o = kn_t4(mem[3], KN_F64, 1, 1, H, K);
        struct kn_tensor q = kn_t4(mem[2], KN_F64, 1, 1, H, K), turned = kn_t4(mem[2], KN_F64, 1, 1, H + own, K), part = kn_slice(&turned, 3, 0, a->rope);
        struct kn_tensor k = {a->k.p, KN_F64, 4, {1, S, G, K}, {0, a->k.s[0], a->k.s[1], 1}}, v = {a->v.p, KN_F64, 4, {1, S, G, K}, {0, a->v.s[0], a->v.s[1], 1}};
        st |= op->gemm(dev, 1, &xn, &w, 0, &qkv);
        if (a->rope) st |= op->rope(dev, &part, a->pos, a->theta, 0);
        if (own) {
            struct kn_tensor k1 = kn_t4(mem[2] + H * K, KN_F64, 1, 1, G, K), v1 = kn_t4(mem[2] + (H + G) * K, KN_F64, 1, 1, G, K),
                             kc = kn_slice(&k, 1, a->slot, 1), vc = kn_slice(&v, 1, a->slot, 1);
            st |= op->copy(dev, &k1, &kc) | op->copy(dev, &v1, &vc);
        }
        st |= op->attention(dev, &q, &k, &v, 0, a->scale, &o, NULL);
        struct kn_tensor out = kn_transpose(&a->out), flat = kn_t2(mem[3], KN_F64, 1, H * K);
        return st | op->gemm(dev, 1, &flat, &out, 1, x);
    }
    const struct kn_branch_ffn *f = &b->ffn;
    st |= op->fill(dev, &y, 0);
    for (int experts = 0; experts < 2; experts++) {
        const struct kn_ffn *m = experts ? &f->expert : &f->one;
        if (!m->down.p) continue;
        int64_t k = experts ? f->active : 1, E = experts ? f->router.d[0] : 1, F = m->down.d[m->down.rank - 1];
        struct kn_tensor w = kn_t1(mem[2], KN_F64, k), off = kn_t1(offset, KN_I32, E + 1), ord = kn_t1(order, KN_I32, k), rows = kn_t1(row, KN_I32, k);
        struct kn_tensor in = kn_t2(mem[3], KN_F64, k, D), g = kn_t2(mem[4], KN_F64, k, F), u = kn_t2(mem[5], KN_F64, k, F), out = kn_t2(mem[6], KN_F64, k, D);
        struct kn_ffn e = *m;
        struct kn_tensor *all[] = {&e.gate, &e.up, &e.down};
        for (int i = 0; i < 3; i++) {
            if (!all[i]->p) continue;
            if (!experts) *all[i] = kn_split(all[i], 0, 1, all[i]->d[0]);
            *all[i] = kn_transpose(all[i]);
        }
        if (experts) {
            struct kn_tensor to = kn_transpose(&f->router), z = kn_t2(mem[7], KN_F64, 1, E), p = kn_t2(mem[5], KN_F64, 1, E), idx = kn_t2(index, KN_I32, 1, k), w2 = kn_t2(mem[2], KN_F64, 1, k);
            st |= op->gemm(dev, 1, &xn, &to, 0, &z);
            st |= op->route(dev, &z, f->sigmoid, &p, &idx, &w2, &off, &ord, &rows, NULL);
        } else {
            offset[0] = 0, offset[1] = 1, order[0] = row[0] = 0, mem[2][0] = 1;
            struct kn_tensor wt = f->one_gate, z = kn_t2(mem[2], KN_F64, 1, 1);
            if (wt.p) wt = kn_transpose(&wt), st |= op->gemm(dev, 1, &xn, &wt, 0, &z);
        }
        st |= op->gather(dev, &xn, &ord, &in);
        st |= op->gemm_grouped(dev, &in, &e.up, &off, 0, &u);
        if (e.gate.p) st |= op->gemm_grouped(dev, &in, &e.gate, &off, 0, &g);
        if (!e.gate.p && f->act == KN_GELU) st |= op->act(dev, KN_GELU, &u, NULL, &u);
        else st |= op->expert_act(dev, e.gate.p ? &g : &u, e.gate.p ? &u : NULL, &ord, &w, !experts && f->one_gate.p, &u);
        st |= op->gemm_grouped(dev, &u, &e.down, &off, 0, &out);
        st |= op->combine(dev, &out, &rows, 1, &y);
    }
    return st | op->axpy(dev, 1, &y, x);
}

static int outs_of(struct call *c, struct kt **outs)
{
    int n = 0;
    outs[n++] = &c->x;
    for (int i = 0; i < c->n; i++) {
        if (c->b[i].kind == KN_BRANCH_HEAD) outs[n++] = &c->t[i][LOGITS];
        if (c->b[i].kind == KN_BRANCH_ATTENTION && c->b[i].attention.slot >= 0) outs[n++] = &c->t[i][KEYS], outs[n++] = &c->t[i][VALUES];
    }
    return n;
}

/* Ref against its parts: both leave f64 in the same places, one after the other. */
static void check_ref(const char *what, struct call *c, struct kt **outs, int n)
{
    double worst = 0;
    double *keep[8];
    for (int o = 0; o < n; o++) {
        kt_reset(outs[o]);
        keep[o] = malloc((size_t)outs[o]->n * sizeof(double));
    }
    st_t st = run(kt_ref, 1, c);
    for (int o = 0; o < n; o++) memcpy(keep[o], outs[o]->g, (size_t)outs[o]->n * sizeof(double)), kt_reset(outs[o]);
    struct kn_tensor x = stream(c, &c->x, 1), r = stream(c, &c->r, 1);
    if (c->with_r) st |= kt_ref->op->axpy(kt_ref, 1, &r, &x);
    for (int i = 0; i < c->n; i++) {
        struct kn_tensor norm;
        struct kn_branch b = branch(c, i, 1, &norm);
        st |= by_ops(kt_ref, &b, &x);
    }
    for (int o = 0; o < n; o++) {
        for (int64_t i = 0; i < outs[o]->n; i++) worst = tap_worse(worst, fabs(keep[o][i] - outs[o]->g[i]));
        free(keep[o]);
    }
    ok(st == ST_OK && worst < 1e-12, "%s: the reference is what its ops give (%.1e)", what, worst);
}

static void finish(const char *what, struct call *c)
{
    struct kt *outs[8];
    int n = outs_of(c, outs);
    check_ref(what, c, outs, n);
    kt_compare(what, run, c, outs, n, 1e-10);
    kt_free(&c->x), kt_free(&c->r);
    for (int i = 0; i < c->n; i++)
        for (int k = 0; k < c->used[i]; k++) kt_free(&c->t[i][k]);
}

static void attentions(void)
{
    static const struct {
        int64_t D, H, G, K, S, slot, rope;
        bool padded;
    } list[] = {{128, 4, 4, 32, 1025, 1024, 32, true}, {256, 8, 2, 32, 700, 699, 32, true}, {37, 3, 3, 7, 1, 0, 6, false},  {40, 6, 1, 10, 300, 17, 10, true},
                {64, 6, 3, 16, 600, 599, 0, true},     {96, 4, 2, 24, 257, -1, 24, true},   {130, 2, 2, 40, 513, 512, 12, false}, {72, 12, 1, 64, 90, 31, 64, true},
                {48, 2, 1, 160, 150, 149, 160, true},  {30, 2, 2, 71, 140, 64, 70, false},  {64, 16, 2, 8, 65, 64, 8, false},     {24, 4, 4, 128, 40, 39, 64, true},
                {16, 8, 1, 1400, 5, 4, 8, false}};
    for (size_t i = 0; i < sizeof list / sizeof list[0]; i++) {
        char what[96];
        struct call c = call(list[i].D, i % 2);
        add_attention(&c, list[i].H, list[i].G, list[i].K, list[i].S, list[i].slot, list[i].rope, list[i].padded);
        snprintf(what, sizeof what, "%d heads of %d over %d, %d keys", (int)list[i].H, (int)list[i].K, (int)list[i].G, (int)list[i].S);
        finish(what, &c);
    }
}

static void ffns(void)
{
    static const struct {
        const char *what;
        int64_t D, F;
        bool gate, one_gate;
        int act;
        int64_t experts, active, each;
        int sigmoid;
    } list[] = {{"swiglu", 128, 384, true, false, 0, 0, 0, 0, 0},        {"narrow swiglu", 33, 5, true, false, 0, 0, 0, 0, 0},
                {"relu2", 96, 200, false, false, KN_RELU2, 0, 0, 0, 0},   {"gelu", 64, 1100, false, false, KN_GELU, 0, 0, 0, 0},
                {"experts", 256, 0, true, false, KN_RELU2, 8, 2, 256, 0}, {"sigmoid experts of odd width", 50, 0, true, false, KN_RELU2, 5, 3, 37, 1},
                {"relu2 experts and a shared one", 64, 70, false, false, KN_RELU2, 4, 4, 90, 0},
                {"experts and a gated shared one", 64, 130, true, true, KN_RELU2, 6, 1, 128, 1},
                {"many experts", 36, 0, true, false, KN_RELU2, 300, 40, 8, 0}, {"all experts, ungated", 44, 21, false, true, KN_RELU2, 9, 9, 13, 1},
                {"few long rows", 20, 2050, true, false, 0, 0, 0, 0, 0},   {"a gated one alone", 520, 24, true, true, 0, 0, 0, 0, 0}};
    for (size_t i = 0; i < sizeof list / sizeof list[0]; i++) {
        struct call c = call(list[i].D, i % 2);
        between = i % 3 ? 0 : 2 * (int64_t)i % 5; /* aligned rows as before, or not */
        add_ffn(&c, list[i].F, list[i].gate, list[i].one_gate, list[i].act, list[i].experts, list[i].active, list[i].each, list[i].sigmoid);
        finish(list[i].what, &c);
    }
    between = 0;
}

/* Of equal logits the lower index, first and last: routers whose rows are all alike, or alike in pairs. */
static void ties(void)
{
    for (int pairs = 0; pairs < 2; pairs++) {
        enum { D = 36, E = 70 };
        struct call c = call(D, false);
        add_ffn(&c, 0, true, false, KN_RELU2, E, 5, 12, pairs);
        float *router = c.t[0][ROUTER].init;
        for (int e = 1; e < E; e++)
            if (!pairs || e % 2) memcpy(router + e * D, router + (pairs ? e - 1 : 0) * D, D * sizeof *router);
        kt_reset(&c.t[0][ROUTER]);
        finish(pairs ? "experts with twins" : "experts all alike", &c);
    }
}

/* What each leaves in memory that the next one uses must not show; more kinds of rotations than the device keeps tables of. */
static void rows(void)
{
    struct call c = call(192, true);
    for (int i = 0; i < 3; i++) {
        add_attention(&c, 6, i == 1 ? 1 : 3, 32, 300, 299, i < 2 ? 32 : 30, true);
        add_ffn(&c, i ? 320 : 0, true, false, KN_RELU2, i ? 0 : 6, 2, 100, 0);
    }
    add_head(&c, 77);
    finish("three layers and a head", &c);
    c = call(16, false);
    for (int i = 0; i < 2; i++) add_attention(&c, 2, 1, 40, 3, -1, 40 - 2 * i, false);
    for (int i = 2; i < 6; i++) add_attention(&c, 2, 1, 40, i == 5 ? 4 : 3, -1, i == 5 ? 40 : 40 - 2 * i, false);
    finish("six kinds of rotations", &c);
    c = call(300, true);
    add_head(&c, 1000);
    finish("a head alone", &c);
    c = call(20, true);
    finish("nothing but the sum", &c);
    c = call(1100, false);
    between = 4;
    add_head(&c, 9);
    add_attention(&c, 2, 1, 8, 9, 4, 8, false);
    between = 0;
    kt_precision = KN_BF16; /* f32 all the same */
    finish("few rows of a wide stream, precision bf16", &c);
    kt_precision = KN_F32;
    c = call(131, true);
    c.skip = 3;
    add_ffn(&c, 16, true, false, 0, 0, 0, 0, 0);
    add_attention(&c, 2, 1, 8, 9, 4, 8, false);
    add_head(&c, 7);
    finish("a stream that begins anywhere", &c);
}

/* Weights at rest give what their numbers in f32 do: all as the first of `kinds`, or each as another. */
static void at_rest(const char *what, int64_t D, int64_t F, const enum kn_dtype kinds[3])
{
    enum { MOST = 1024, V = 33 };
    struct call c = call(D, false);
    add_attention(&c, 4, 2, 24, 30, 29, 24, false);
    add_ffn(&c, F, true, true, KN_RELU2, 3, 2, F / 2, 0);
    add_head(&c, V);
    for (int i = 0; i < KT_ISAS; i++) {
        struct kn_dev *dev = kt_cpu[i][1];
        if (!dev) continue;
        struct kn_branch b[3], f[3];
        struct kn_tensor norm[3], x = operand(&c.x, 0);
        float got[MOST + V], want[MOST + V];
        void *mem[16];
        int n = 0;
        st_t st = ST_OK;
        for (int k = 0; k < 3; k++) b[k] = f[k] = branch(&c, k, 0, &norm[k]);
        struct kn_tensor *w[] = {&b[0].attention.qkv, &b[0].attention.out, &b[1].ffn.one.gate, &b[1].ffn.one.up, &b[1].ffn.one.down,
                                 &b[1].ffn.expert.gate, &b[1].ffn.expert.up, &b[1].ffn.expert.down, &b[1].ffn.one_gate, &b[1].ffn.router, &b[2].head.w};
        for (size_t k = 0; k < sizeof w / sizeof w[0]; k++) {
            struct kn_tensor *t = w[k];
            enum kn_dtype kind = kinds[k % 3];
            if (kind == KN_F32) continue;
            int64_t many = t->rank == 3 ? t->d[0] * t->d[1] : t->d[0], cols = t->d[t->rank - 1];
            struct kn_tensor from = kn_t2(t->p, KN_F32, many, cols);
            struct kn_tensor to = kn_t2(mem[n] = kt_mem((size_t)many * ((size_t)cols * 2 + 8)), kind, many, cols);
            st |= kt_ref->op->copy(kt_ref, &from, &to);
            st |= kt_ref->op->copy(kt_ref, &to, &from); /* f's numbers become those that were kept */
            *t = t->rank == 3 ? kn_t3(to.p, kind, t->d[0], t->d[1], cols) : to;
            n++;
        }
        for (int k = 0; k < 2; k++) {
            kt_reset(&c.x);
            st |= dev->op->decode(dev, k ? f : b, 3, EPS, &x, NULL);
            st |= dev->vt->sync(dev);
            memcpy(k ? want : got, c.x.f, (size_t)D * sizeof(float)), memcpy((k ? want : got) + D, c.t[2][LOGITS].f, V * sizeof(float));
        }
        double off = 0;
        for (int k = 0; k < D + V; k++) off = tap_worse(off, fabs((double)got[k] - (double)want[k]));
        ok(st == ST_OK && off < 1e-4, "%s, %s, %d wide: as the same numbers in f32 (%.1e)", kt_isa[i], what, (int)D, off);
        while (n--) kt_mem_free(mem[n]);
    }
    kt_free(&c.x), kt_free(&c.r);
    for (int i = 0; i < c.n; i++)
        for (int k = 0; k < c.used[i]; k++) kt_free(&c.t[i][k]);
}

static void refused(void)
{
    struct call c = call(24, false);
    struct kn_tensor norm, x = operand(&c.x, 0);
    add_attention(&c, 4, 2, 6, 9, 8, 6, false);
    add_ffn(&c, 10, true, false, KN_RELU2, 3, 2, 5, 0);
    struct kn_dev *dev = kt_cpu[0][0];
    struct kn_branch a = branch(&c, 0, 0, &norm), bad = a;
    bad.attention.slot = 9;
    is_int(dev->op->decode(dev, &bad, 1, 1e-5, &x, NULL), ST_EINVAL, "a slot behind the cache");
    bad = a, bad.attention.heads = 5;
    is_int(dev->op->decode(dev, &bad, 1, 1e-5, &x, NULL), ST_EINVAL, "heads that groups do not divide");
    bad = a, bad.attention.rope = 8;
    is_int(dev->op->decode(dev, &bad, 1, 1e-5, &x, NULL), ST_EINVAL, "more to rotate than a head has");
    struct kn_branch f = branch(&c, 1, 0, &norm);
    bad = f, bad.ffn.active = 4;
    is_int(dev->op->decode(dev, &bad, 1, 1e-5, &x, NULL), ST_EINVAL, "more active experts than there are");
    bad = f, bad.ffn.one.down.d[1] = 9;
    is_int(dev->op->decode(dev, &bad, 1, 1e-5, &x, NULL), ST_EINVAL, "a down of another width");
    bad = f, bad.ffn.one_gate = kn_slice(&f.ffn.one.up, 0, 0, 1);
    is_int(dev->op->decode(dev, &bad, 1, 1e-5, &x, NULL), ST_OK, "a factor");
    bad.ffn.act = KN_GELU, bad.ffn.one.gate.p = NULL;
    is_int(dev->op->decode(dev, &bad, 1, 1e-5, &x, NULL), ST_EINVAL, "a factor of a GELU");
    bad = f, bad.norm = NULL;
    is_int(dev->op->decode(dev, &bad, 1, 1e-5, &x, NULL), ST_EINVAL, "no norm");
    x = operand(&c.x, 1), bad = branch(&c, 0, 1, &norm);
    is_int(dev->op->decode(dev, &bad, 1, 1e-5, &x, NULL), ST_ENOTSUP, "f64");
    kt_free(&c.x), kt_free(&c.r);
    for (int i = 0; i < c.n; i++)
        for (int k = 0; k < c.used[i]; k++) kt_free(&c.t[i][k]);
}

int main(void)
{
    kt_open();
    attentions();
    ffns();
    ties();
    rows();
    for (int64_t D = 80; D < 300; D += 201) { /* rows of whole fours, and odd ones */
        at_rest("bf16", D, 70, (enum kn_dtype[]){KN_BF16, KN_BF16, KN_BF16});
        at_rest("int8", D, 72, (enum kn_dtype[]){KN_I8, KN_I8, KN_I8});
        at_rest("a mixture", D, 40, (enum kn_dtype[]){KN_I8, KN_F32, KN_BF16});
    }
    at_rest("int8", 640, 1032, (enum kn_dtype[]){KN_I8, KN_I8, KN_I8});
    at_rest("bf16", 640, 1032, (enum kn_dtype[]){KN_BF16, KN_BF16, KN_BF16});
    refused();
    kt_close();
    return tap_done();
}
