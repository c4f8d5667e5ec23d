/* Attention and its backward: every instruction set against the reference in f64. */
#include "tests/kernels/kntest.h"

struct shape {
    int B, T, S, H, G, K, W;
    int fused;  /* q, k, v are columns of one wide row; else contiguous */
    double amp; /* of q and k */
};

struct call {
    struct kt q, k, v, out, lse, dout, dq, dk, dv;
    int64_t window;
    double scale;
};

/* E: of a value */
static void call_init_with(struct call *c, const struct shape *s, int E)
{
    int wide = E > s->K ? E : s->K;
    int64_t row = (int64_t)(s->H + 2 * s->G) * wide + 3;
    int64_t dq[] = {s->B, s->T, s->H, s->K}, dk[] = {s->B, s->S, s->G, s->K}, dl[] = {s->B, s->H, s->T};
    int64_t dout[] = {s->B, s->T, s->H, E}, dv[] = {s->B, s->S, s->G, E};
    int64_t sq[] = {s->T * row, row, wide, 1}, sk[] = {s->S * row + 5, row, wide, 1},
            sl[] = {s->H * s->T * 2, 2, s->H * 2};
    int f = s->fused;
    *c = (struct call){
        .q = kt_new(4, dq, f ? sq : NULL, s->amp, 1),
        .k = kt_new(4, dk, f ? sk : NULL, s->amp, 2),
        .v = kt_new(4, dv, f ? sk : NULL, 1, 3),
        .out = kt_new(4, dout, f ? sq : NULL, 1, 4),
        .lse = kt_new(3, dl, f ? sl : NULL, 1, 5),
        .dout = kt_new(4, dout, f ? sq : NULL, 1, 6),
        .dq = kt_new(4, dq, f ? sq : NULL, 1, 7),
        .dk = kt_new(4, dk, f ? sk : NULL, 1, 8),
        .dv = kt_new(4, dv, f ? sk : NULL, 1, 9),
        .window = s->W,
        .scale = 1 / sqrt(s->K),
    };
}

static void call_init(struct call *c, const struct shape *s)
{
    call_init_with(c, s, s->K);
}

static void call_fini(struct call *c)
{
    struct kt *all[] = {&c->q, &c->k, &c->v, &c->out, &c->lse, &c->dout, &c->dq, &c->dk, &c->dv};
    for (int i = 0; i < 9; i++) kt_free(all[i]);
}

static st_t forward(struct kn_dev *dev, int ref, void *arg)
{
    struct call *c = arg;
    const struct kn_tensor *(*of)(struct kt *) = ref ? kt_d : kt_f;
    return dev->op->attention(dev, of(&c->q), of(&c->k), of(&c->v), c->window, c->scale, of(&c->out), of(&c->lse));
}

/* Forward first, so that each device's backward has the out and lse of its own kind. */
static st_t both(struct kn_dev *dev, int ref, void *arg)
{
    struct call *c = arg;
    const struct kn_tensor *(*of)(struct kt *) = ref ? kt_d : kt_f;
    st_t st = forward(dev, ref, arg);
    return st ? st
              : dev->op->attention_bwd(dev, of(&c->q), of(&c->k), of(&c->v), of(&c->out), of(&c->lse), of(&c->dout),
                                       c->window, c->scale, of(&c->dq), of(&c->dk), of(&c->dv));
}

static void check_with(const struct shape *s, int E, double tol)
{
    struct call c;
    call_init_with(&c, s, E);
    char what[128];
    snprintf(what, sizeof what, "B %d T %d S %d H %d G %d K %d E %d W %d%s", s->B, s->T, s->S, s->H, s->G, s->K, E,
             s->W, s->fused ? " fused" : "");
    struct kt *outs[] = {&c.out, &c.lse, &c.dq, &c.dk, &c.dv}, *ins[] = {&c.q, &c.k, &c.v, &c.dout};
    for (int i = 0; i < 4 && kt_precision == KN_BF16; i++) kt_half(ins[i]);
    kt_compare(what, s->T == s->S ? both : forward, &c, outs, s->T == s->S ? 5 : 2, tol);
    call_fini(&c);
}

static void check(const struct shape *s, double tol)
{
    check_with(s, s->K, tol);
}

/* Values narrower and wider than keys. */
static void uneven(double tol)
{
    static const struct {
        struct shape s;
        int E;
    } list[] = {
#ifdef KT_CUDA
        {{2, 70, 70, 2, 1, 24, 0, 1, 1}, 16},   {{1, 130, 130, 1, 1, 16, 33, 0, 1}, 24}, {{1, 65, 65, 1, 1, 7, 0, 1, 1}, 5},
        {{1, 20, 20, 2, 1, 12, 0, 0, 1}, 270},  {{1, 20, 40, 2, 1, 280, 7, 0, 1}, 20},   {{1, 20, 20, 1, 1, 260, 0, 1, 1}, 20},
        {{1, 40, 200, 2, 1, 48, 0, 1, 1}, 32},  {{1, 1, 300, 8, 1, 80, 0, 1, 1}, 64},    {{2, 1, 300, 4, 2, 12, 100, 0, 1}, 20},
        {{1, 1, 31, 2, 2, 16, 0, 1, 1}, 3},     {{1, 1, 31, 2, 2, 3, 0, 0, 1}, 600},
#else
        {{2, 70, 70, 4, 2, 24, 0, 1, 1}, 16},   {{1, 130, 130, 2, 1, 16, 33, 0, 1}, 24}, {{1, 65, 65, 3, 3, 7, 0, 1, 1}, 5},
        {{1, 65, 65, 1, 1, 5, 0, 0, 1}, 32},    {{1, 40, 200, 4, 1, 48, 0, 1, 1}, 32},   {{1, 1, 600, 8, 1, 80, 0, 1, 1}, 64},
        {{2, 1, 300, 4, 2, 12, 100, 0, 1}, 20}, {{1, 1, 31, 2, 2, 16, 0, 1, 1}, 3},      {{1, 1, 31, 2, 2, 3, 0, 0, 1}, 16},
#endif
    };
    for (size_t i = 0; i < sizeof list / sizeof list[0]; i++) check_with(&list[i].s, list[i].E, tol);
}

static void shapes(double tol)
{
    static const struct shape list[] = {
#ifdef KT_CUDA
        /* widths of heads */
        {1, 70, 70, 2, 1, 4, 0, 0, 1},
        {2, 65, 65, 1, 1, 16, 0, 1, 1},
        {1, 37, 37, 3, 3, 20, 0, 1, 1},
        {1, 67, 67, 2, 1, 64, 0, 0, 1},
        {1, 33, 33, 2, 1, 80, 0, 1, 1},
        {1, 35, 35, 1, 1, 96, 0, 0, 1},
        {1, 67, 67, 1, 1, 128, 0, 1, 1},
        {1, 33, 33, 1, 1, 192, 0, 0, 1},
        {1, 33, 33, 1, 1, 256, 0, 0, 1},
        {1, 20, 20, 1, 1, 264, 0, 1, 1},
        {1, 19, 19, 1, 1, 3, 0, 0, 1},
        /* groups of three and five query heads */
        {1, 71, 71, 3, 1, 16, 0, 1, 1},
        {1, 45, 45, 5, 1, 32, 0, 0, 1},
        /* windows: 1, odd, a tile, longer than T */
        {1, 70, 70, 2, 2, 16, 1, 0, 1},
        {1, 150, 150, 1, 1, 32, 7, 1, 1},
        {1, 200, 200, 1, 1, 16, 64, 0, 1},
        {1, 200, 200, 2, 1, 16, 77, 1, 1},
        {1, 70, 70, 1, 1, 16, 1000, 0, 1},
        /* queries at the end of longer keys */
        {2, 3, 40, 2, 1, 32, 0, 1, 1},
        {1, 64, 300, 2, 1, 32, 0, 0, 1},
        {1, 33, 200, 3, 3, 64, 50, 1, 1},
        {1, 2, 500, 2, 2, 16, 0, 0, 1},
#else
        /* widths of heads */
        {1, 70, 70, 2, 1, 4, 0, 0, 1},
        {2, 65, 65, 1, 1, 16, 0, 1, 1},
        {1, 37, 37, 3, 3, 20, 0, 1, 1},
        {2, 130, 130, 2, 2, 32, 0, 0, 1},
        {1, 129, 129, 4, 2, 64, 0, 1, 1},
        {1, 63, 63, 2, 1, 80, 0, 0, 1},
        {1, 67, 67, 2, 2, 128, 0, 1, 1},
        {1, 33, 33, 1, 1, 256, 0, 0, 1},
        {1, 50, 50, 2, 1, 6, 0, 1, 1},
        {1, 19, 19, 1, 1, 3, 0, 0, 1},
        /* groups of three, five and eight query heads */
        {1, 71, 71, 3, 1, 16, 0, 1, 1},
        {2, 45, 45, 5, 1, 32, 0, 0, 1},
        {1, 100, 100, 8, 1, 32, 0, 1, 1},
        /* windows: 1, odd, a tile, longer than T */
        {1, 70, 70, 2, 2, 16, 1, 0, 1},
        {1, 150, 150, 2, 1, 32, 7, 1, 1},
        {1, 200, 200, 1, 1, 32, 64, 0, 1},
        {1, 200, 200, 3, 1, 16, 77, 1, 1},
        {1, 70, 70, 1, 1, 16, 1000, 0, 1},
        /* queries at the end of longer keys */
        {2, 3, 40, 2, 1, 32, 0, 1, 1},
        {1, 64, 300, 4, 2, 32, 0, 0, 1},
        {1, 33, 200, 3, 3, 64, 50, 1, 1},
        {1, 2, 2000, 2, 2, 16, 0, 0, 1},
#endif
    };
    for (size_t i = 0; i < sizeof list / sizeof list[0]; i++) check(&list[i], tol);
}

static void one_query(double tol)
{
    static const struct shape list[] = {
#ifdef KT_CUDA
        {1, 1, 1, 2, 1, 32, 0, 0, 1},
        {1, 1, 300, 8, 2, 32, 0, 1, 1},
        {3, 1, 531, 4, 4, 64, 0, 0, 1},
        {1, 1, 300, 2, 1, 20, 0, 1, 1},
        {1, 1, 2000, 9, 1, 16, 0, 0, 1},
        {1, 1, 700, 2, 2, 128, 100, 1, 1},
        {1, 1, 700, 2, 1, 4, 3, 0, 1},
        {1, 1, 77, 3, 1, 7, 0, 1, 1},
#else
        {1, 1, 1, 2, 1, 32, 0, 0, 1},
        {1, 1, 300, 8, 2, 32, 0, 1, 1},
        {3, 1, 1031, 4, 4, 64, 0, 0, 1},
        {1, 1, 600, 4, 1, 20, 0, 1, 1},
        {1, 1, 3000, 9, 1, 80, 0, 0, 1},
        {1, 1, 700, 2, 2, 128, 100, 1, 1},
        {1, 1, 700, 2, 1, 4, 3, 0, 1},
        {1, 1, 513, 1, 1, 256, 0, 0, 1},
        {1, 1, 77, 3, 1, 7, 0, 1, 1},
#endif
    };
    for (size_t i = 0; i < sizeof list / sizeof list[0]; i++) check(&list[i], tol);
}

/* Operands that are bf16 already: what is left is the rounding of weights and of their gradients, 2^-9 each. Then f32 operands, against f64. */
static void halves(void)
{
    kt_precision = KN_BF16;
    shapes(1e-5);
#ifndef KT_CUDA
    uneven(1e-5);
    one_query(1e-5);
#endif
    check(&(struct shape){1, 100, 100, 2, 1, 32, 0, 0, 0}, 1e-5); /* all scores equal */
#ifdef KT_CUDA
    /* several blocks of keys a split, all query tiles of which come again; windows that begin and end within tiles of both; wide heads in groups */
    check(&(struct shape){1, 140, 140, 8, 8, 16, 0, 1, 1}, 1e-5);
    check(&(struct shape){2, 260, 260, 2, 2, 16, 129, 0, 1}, 1e-5);
    check(&(struct shape){1, 260, 260, 1, 1, 16, 128, 0, 1}, 1e-5);
    check(&(struct shape){1, 130, 130, 4, 4, 72, 0, 0, 1}, 1e-5);
    check(&(struct shape){1, 130, 130, 2, 1, 112, 65, 1, 1}, 1e-5);
    check(&(struct shape){1, 70, 150, 2, 1, 256, 30, 0, 1}, 1e-5);
    check(&(struct shape){1, 1, 300, 8, 2, 32, 0, 1, 1}, 1e-10);
    check_with(&(struct shape){1, 65, 65, 1, 1, 7, 0, 1, 1}, 5, 1e-10);
    struct shape s = {1, 130, 130, 2, 1, 32, 0, 1, 1};
#else
    check(&(struct shape){1, 300, 300, 4, 2, 32, 0, 1, 1}, 1e-5);
    check(&(struct shape){9, 70, 70, 4, 4, 32, 0, 1, 1}, 1e-5); /* a task is a whole head */
    check(&(struct shape){1, 700, 700, 1, 1, 16, 0, 0, 1}, 1e-5);
    struct shape s = {2, 130, 130, 4, 2, 32, 0, 1, 1};
#endif
    struct call c;
    call_init(&c, &s);
    struct kt *outs[] = {&c.out, &c.lse, &c.dq, &c.dk, &c.dv};
    kt_compare("operands in f32", both, &c, outs, 5, 1e-4);
    call_fini(&c);
    kt_precision = KN_F32;
}

static uint16_t rounded(float f)
{
    uint32_t u;
    memcpy(&u, &f, 4);
    return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

/* t's numbers rounded, in memory of their own. */
static struct kn_tensor halved(const struct kt *t)
{
    struct kn_tensor h = t->t;
    uint16_t *p = kt_mem((size_t)t->n * sizeof *p);
    for (int64_t i = 0; i < t->n; i++) p[i] = rounded(t->f[i]);
    h.p = p, h.dtype = KN_BF16;
    return h;
}

/* How many numbers of h are not t's, rounded. */
static int64_t unlike(const struct kn_tensor *h, const struct kt *t)
{
    int64_t bad = 0;
    for (int64_t i = 0; i < t->n; i++) bad += ((uint16_t *)h->p)[i] != rounded(t->f[i]);
    return bad;
}

/* bf16 in memory gives what the same numbers in f32 give, rounded once; outside the tensors nothing is touched. */
static void in_memory(const struct shape *s)
{
    struct kn_dev *dev = kt_cpu[KT_ISAS - 1][1];
    if (!dev || kn_precision(dev, KN_BF16)) {
        tap_skip("no bf16");
        return;
    }
    struct call c;
    call_init(&c, s);
    struct kt *ins[] = {&c.q, &c.k, &c.v, &c.dout}, *outs[] = {&c.out, &c.dq, &c.dk, &c.dv};
    struct kn_tensor i[4], o[4];
    for (int n = 0; n < 4; n++) {
        kt_half(ins[n]), kt_half(outs[n]);
        i[n] = halved(ins[n]), o[n] = halved(outs[n]);
    }
    ok(!forward(dev, 0, &c) && !dev->op->attention(dev, &i[0], &i[1], &i[2], c.window, c.scale, &o[0], kt_f(&c.lse)) && !unlike(&o[0], &c.out),
       "bf16 in memory, T %d K %d: forward", s->T, s->K);
    for (int64_t n = 0; n < c.out.n; n++) {
        uint32_t u = (uint32_t)rounded(c.out.f[n]) << 16;
        memcpy(&c.out.f[n], &u, 4);
    }
    ok(!dev->op->attention_bwd(dev, kt_f(&c.q), kt_f(&c.k), kt_f(&c.v), kt_f(&c.out), kt_f(&c.lse), kt_f(&c.dout), c.window, c.scale, kt_f(&c.dq), kt_f(&c.dk),
                               kt_f(&c.dv)) &&
           !dev->op->attention_bwd(dev, &i[0], &i[1], &i[2], &o[0], kt_f(&c.lse), &i[3], c.window, c.scale, &o[1], &o[2], &o[3]) && !unlike(&o[1], &c.dq) &&
           !unlike(&o[2], &c.dk) && !unlike(&o[3], &c.dv),
       "bf16 in memory, T %d K %d: backward", s->T, s->K);
    kn_precision(dev, KN_F32);
    is_int(dev->op->attention(dev, &i[0], &i[1], &i[2], c.window, c.scale, &o[0], kt_f(&c.lse)), ST_ENOTSUP, "bf16 in memory under precision f32");
    for (int n = 0; n < 4; n++) kt_mem_free(i[n].p), kt_mem_free(o[n].p);
    call_fini(&c);
}

/* Scores of about 1e4 leave f32 with three digits of the exponent, so the tolerance is that of the inputs' rounding. */
static void extremes(void)
{
    check(&(struct shape){1, 100, 100, 2, 1, 32, 0, 0, 60}, 1e-6);
    check(&(struct shape){1, 1, 900, 2, 1, 32, 0, 0, 60}, 1e-6);
    check(&(struct shape){1, 100, 100, 2, 1, 32, 0, 0, 0}, 1e-11); /* all scores equal */
    check(&(struct shape){1, 1, 900, 2, 1, 32, 0, 0, 0}, 1e-11);
    struct shape s = {1, 130, 130, 1, 1, 16, 0, 0, 1};
    struct call c;
    call_init(&c, &s);
    /* rows of scores at +1e4 and -1e4 and everything between, all finite in and out */
    for (int64_t t = 0; t < s.T; t++)
        for (int k = 0; k < s.K; k++) {
            c.q.f[t * s.K + k] = k == 0 ? 200.0f : 0.0f;
            c.k.f[t * s.K + k] = k == 0 ? (t % 3 == 0 ? 200.0f : t % 3 == 1 ? -200.0f : 0.0f) : 0.0f;
        }
    for (int i = 0; i < KT_ISAS; i++) {
        if (!kt_cpu[i][0]) continue;
        st_t st = both(kt_cpu[i][1], 0, &c);
        int finite = st == ST_OK;
        struct kt *outs[] = {&c.out, &c.lse, &c.dq, &c.dk, &c.dv};
        for (int o = 0; o < 5; o++)
            for (int64_t j = 0; j < outs[o]->n; j++) finite &= isfinite(outs[o]->f[j]);
        ok(finite && fabs((double)c.lse.f[0] - 10000) < 1e-2, "scores of 1e4: %s stays finite", kt_isa[i]);
        /* a NaN in a query must come out, not be hidden */
        float keep = c.q.f[5 * s.K];
        c.q.f[5 * s.K] = NAN;
        st = forward(kt_cpu[i][1], 0, &c);
        ok(st == ST_OK && isnan(c.out.f[5 * s.K]) && !isnan(c.out.f[4 * s.K]), "a NaN query: %s", kt_isa[i]);
        c.q.f[5 * s.K] = keep;
    }
    call_fini(&c);
}

/* The whole sequence at once, in unequal chunks, and token by token. */
static void chunks(int W)
{
    enum { T = 150, H = 4, G = 2, K = 32 };
    struct shape s = {1, T, T, H, G, K, W, 0, 1};
    struct call c;
    call_init(&c, &s);
    struct kt other = kt_new(4, c.out.t.d, NULL, 1, 10);
    static const int cuts[][6] = {{64, 1, 7, 33, 45, 0}, {150, 0}, {1, 149, 0}};
    kt_reset(&c.out);
    forward(kt_ref, 1, &c);
    memcpy(other.g, c.out.g, (size_t)c.out.n * sizeof(double));
    for (int i = 0; i < KT_ISAS; i++) {
        struct kn_dev *dev = kt_cpu[i][1];
        if (!dev) continue;
        for (int mode = 0; mode < 4; mode++) {
            int64_t at = 0;
            st_t st = ST_OK;
            for (int n = 0; at < T && !st; n++) {
                int64_t len = mode == 3 ? 1 : cuts[mode][n];
                struct kn_tensor q = kn_slice(kt_f(&c.q), 1, at, len), out = kn_slice(kt_f(&other), 1, at, len);
                struct kn_tensor k = kn_slice(kt_f(&c.k), 1, 0, at + len), v = kn_slice(kt_f(&c.v), 1, 0, at + len);
                st = dev->op->attention(dev, &q, &k, &v, W, c.scale, &out, NULL);
                at += len;
            }
            ok(st == ST_OK && kt_nmse(&other) < 1e-11, "window %d, %s: %s", W, kt_isa[i],
               mode == 3   ? "token by token"
               : mode == 0 ? "five chunks"
               : mode == 1 ? "one chunk"
                           : "one token, then the rest");
        }
    }
    kt_free(&other);
    call_fini(&c);
}

static void refusals(void)
{
    struct kn_dev *dev = kt_cpu[0][0];
    struct call c;
    struct shape s = {1, 8, 8, 4, 2, 16, 0, 0, 1};
    call_init(&c, &s);
    is_int(dev->op->attention(dev, kt_d(&c.q), kt_d(&c.k), kt_d(&c.v), 0, 1, kt_d(&c.out), NULL), ST_ENOTSUP,
           "f64 is not for this device");
    is_int(dev->op->attention_bwd(dev, kt_d(&c.q), kt_d(&c.k), kt_d(&c.v), kt_d(&c.out), kt_d(&c.lse), kt_d(&c.dout), 0,
                                  1, kt_d(&c.dq), kt_d(&c.dk), kt_d(&c.dv)),
           ST_ENOTSUP, "nor its backward");
    struct kn_tensor k = *kt_f(&c.k);
    k.d[2] = 3;
    is_int(dev->op->attention(dev, kt_f(&c.q), &k, kt_f(&c.v), 0, 1, kt_f(&c.out), NULL), ST_EINVAL,
           "3 key heads for 4 query heads");
    k = kn_slice(kt_f(&c.k), 1, 0, 4);
    struct kn_tensor v = kn_slice(kt_f(&c.v), 1, 0, 4);
    is_int(dev->op->attention(dev, kt_f(&c.q), &k, &v, 0, 1, kt_f(&c.out), NULL), ST_EINVAL, "fewer keys than queries");
    is_int(dev->op->attention(dev, kt_f(&c.q), kt_f(&c.k), kt_f(&c.v), -1, 1, kt_f(&c.out), NULL), ST_EINVAL,
           "negative window");
    struct kn_tensor q = *kt_f(&c.q);
    q.s[3] = 2;
    is_int(dev->op->attention(dev, &q, kt_f(&c.k), kt_f(&c.v), 0, 1, kt_f(&c.out), NULL), ST_EINVAL, "last stride 2");
    struct kn_tensor none = kn_slice(kt_f(&c.q), 1, 0, 0);
    is_int(dev->op->attention(dev, &none, kt_f(&c.k), kt_f(&c.v), 0, 1, &none, NULL), ST_OK,
           "no queries, nothing to do");
    call_fini(&c);
}

int main(void)
{
    kt_open();
    shapes(1e-11);
    one_query(1e-11);
    uneven(1e-11);
    halves();
    in_memory(&(struct shape){2, 70, 70, 4, 2, 32, 0, 1, 1});
    in_memory(&(struct shape){1, 67, 67, 3, 1, 20, 7, 0, 1});
    in_memory(&(struct shape){1, 129, 129, 2, 2, 64, 0, 1, 1});
    in_memory(&(struct shape){1, 45, 45, 2, 1, 3, 0, 1, 1});
    in_memory(&(struct shape){2, 1, 1, 2, 2, 16, 0, 0, 1});
    in_memory(&(struct shape){1, 130, 130, 4, 2, 16, 0, 0, 1});
    in_memory(&(struct shape){2, 70, 70, 2, 1, 64, 30, 0, 1});
    in_memory(&(struct shape){1, 70, 70, 2, 1, 128, 0, 0, 1});
    in_memory(&(struct shape){1, 33, 33, 2, 2, 200, 0, 0, 1});
    in_memory(&(struct shape){1, 20, 20, 2, 1, 264, 5, 0, 1});
    extremes();
    chunks(0);
    chunks(20);
    refusals();
    kt_close();
    return tap_done();
}
