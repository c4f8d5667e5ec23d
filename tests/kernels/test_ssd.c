/* Mamba-2's scan: each device against the recurrence, cut anywhere with the state between, gradients by central
 * differences in f64. */
#include "tests/kernels/gradcheck.h"
#include "tests/kernels/kntest.h"

enum { X, DT, BIAS, ALOG, BM, CM, D, Y, DY, DX, DDT, DBIAS, DALOG, DBM, DCM, DD, STATE, COUNT };

struct call {
    struct kt t[COUNT];
    int with_state;
};

static st_t forward(struct kn_dev *dev, int ref, void *arg)
{
    struct call *c = arg;
    const struct kn_tensor *t[COUNT];
    for (int i = 0; i < COUNT; i++) t[i] = ref ? kt_d(&c->t[i]) : kt_f(&c->t[i]);
    return dev->op->ssd(dev, t[X], t[DT], t[BIAS], t[ALOG], t[BM], t[CM], t[D], c->with_state ? t[STATE] : NULL, t[Y]);
}

static st_t backward(struct kn_dev *dev, int ref, void *arg)
{
    struct call *c = arg;
    const struct kn_tensor *t[COUNT];
    for (int i = 0; i < COUNT; i++) t[i] = ref ? kt_d(&c->t[i]) : kt_f(&c->t[i]);
    return dev->op->ssd_bwd(dev, t[X], t[DT], t[BIAS], t[ALOG], t[BM], t[CM], t[D], t[DY], t[DX], t[DDT], t[DBIAS], t[DALOG],
                            t[DBM], t[DCM], t[DD]);
}

struct shape {
    int64_t B, T, H, P, G, N;
};

/* Time steps of about `step` and decays of up to 16 a unit of time, as layers begin with. */
static struct call call_new(struct shape s, int strided, int with_state, double step)
{
    int64_t g = strided ? 5 : 0, one[] = {strided ? 2 : 1};
    int64_t x[] = {s.B, s.T, s.H, s.P}, xs[] = {s.T * (s.H * (s.P + g) + g), s.H * (s.P + g) + g, s.P + g, 1};
    int64_t b[] = {s.B, s.T, s.G, s.N}, bs[] = {s.T * (s.G * (s.N + g) + g), s.G * (s.N + g) + g, s.N + g, 1};
    int64_t t[] = {s.B, s.T, s.H}, ts[] = {s.T * (s.H + g), s.H + g, 1};
    int64_t st[] = {s.B, s.H, s.P, s.N}, ss[] = {s.H * s.P * (s.N + g) + g, s.P * (s.N + g), s.N + g, 1};
    struct call c = {.with_state = with_state};
    for (int i = 0; i < COUNT; i++) {
        uint64_t seed = (uint64_t)i + 1;
        if (i == X || i == Y || i == DY || i == DX) c.t[i] = kt_new(4, x, xs, 1, seed);
        else if (i == BM || i == CM || i == DBM || i == DCM) c.t[i] = kt_new(4, b, bs, 1, seed);
        else if (i == DT || i == DDT) c.t[i] = kt_new(3, t, ts, 1, seed);
        else if (i == STATE) c.t[i] = kt_new(4, st, ss, 1, seed);
        else c.t[i] = kt_new(1, &s.H, one, 1, seed);
    }
    for (int64_t i = 0; i < c.t[BIAS].n; i++) c.t[BIAS].init[i] = (float)(log(expm1(step)) + 0.1 * (double)c.t[BIAS].init[i]);
    for (int64_t i = 0; i < c.t[ALOG].n; i++) c.t[ALOG].init[i] = (float)log(1 + 15.0 * (double)(i % 4) / 3);
    kt_reset(&c.t[BIAS]);
    kt_reset(&c.t[ALOG]);
    return c;
}

static void call_free(struct call *c)
{
    for (int i = 0; i < COUNT; i++) kt_free(&c->t[i]);
}

/* Under precision bf16 operands are bf16 numbers already: what is left is the rounding of weights, states and their gradients, 2^-9 each. */
static void check(struct shape s, int strided, int with_state, double step)
{
    struct call c = call_new(s, strided, with_state, step);
    static const int halves[] = {X, BM, CM, DY};
    bool half = kt_precision == KN_BF16;
    for (int i = 0; i < 4 && half; i++) kt_half(&c.t[halves[i]]);
    char what[96];
    snprintf(what, sizeof what, "%d x %d, %d heads of %d, %d groups of %d%s%s, steps of %g", (int)s.B, (int)s.T, (int)s.H,
             (int)s.P, (int)s.G, (int)s.N, strided ? ", strides" : "", with_state ? ", state" : "", step);
    kt_compare(what, forward, &c, (struct kt *const[]){&c.t[Y], &c.t[STATE]}, 2, half ? 5e-5 : 1e-10);
    struct kt *outs[] = {&c.t[DX], &c.t[DDT], &c.t[DBIAS], &c.t[DALOG], &c.t[DBM], &c.t[DCM], &c.t[DD]};
    kt_compare(what, backward, &c, outs, 7, half ? 5e-5 : 1e-9);
    call_free(&c);
}

/* T tokens at once are those of any cut, with the state between. */
static void check_cuts(struct kn_dev *dev, const char *name, const int *cuts, int ncuts)
{
    struct shape s = {2, 150, 4, 20, 2, 24};
    struct call c = call_new(s, 0, 1, 0.05);
    size_t ny = (size_t)c.t[Y].n, ns = (size_t)c.t[STATE].n;
    float *y = malloc(sizeof *y * ny), *last = malloc(sizeof *last * ns);
    if (!y || !last) abort();
    forward(dev, 0, &c);
    memcpy(y, c.t[Y].f, sizeof *y * ny);
    memcpy(last, c.t[STATE].f, sizeof *last * ns);
    kt_reset(&c.t[STATE]);
    kt_reset(&c.t[Y]);
    st_t st = ST_OK;
    int64_t t = 0;
    for (int i = 0; t < s.T && !st; i++) {
        int64_t n = cuts[i % ncuts] < s.T - t ? cuts[i % ncuts] : s.T - t;
        struct kn_tensor part[COUNT];
        for (int k = 0; k < COUNT; k++) part[k] = *kt_f(&c.t[k]);
        for (int k = 0; k < COUNT; k++)
            if (part[k].rank > 1 && k != STATE) part[k] = kn_slice(&part[k], 1, t, n);
        st = dev->op->ssd(dev, &part[X], &part[DT], &part[BIAS], &part[ALOG], &part[BM], &part[CM], &part[D], &part[STATE],
                          &part[Y]);
        t += n;
    }
    double far = 0;
    for (size_t i = 0; i < ny; i++) far = fmax(far, fabs((double)(y[i] - c.t[Y].f[i])));
    for (size_t i = 0; i < ns; i++) far = fmax(far, fabs((double)(last[i] - c.t[STATE].f[i])));
    ok(!st && far < 1e-4, "%s: cut by %d …: the same (off by %.1e)", name, cuts[0], far);
    free(y), free(last);
    call_free(&c);
}

/* ddt in bf16: what it is in f32, rounded. */
static void check_rounded(int set)
{
    struct kn_dev *dev = kt_cpu[set][1];
    struct call c = call_new((struct shape){2, 70, 4, 16, 2, 16}, 1, 0, 0.1);
    uint16_t *half = kt_mem(sizeof *half * (size_t)c.t[DDT].n);
    st_t st = backward(dev, 0, &c);
    struct kn_tensor ddt = kt_in_bf16(&c.t[DDT], half);
    const struct kn_tensor *t[COUNT];
    for (int i = 0; i < COUNT; i++) t[i] = kt_f(&c.t[i]);
    if (!st)
        st = dev->op->ssd_bwd(dev, t[X], t[DT], t[BIAS], t[ALOG], t[BM], t[CM], t[D], t[DY], t[DX], &ddt, t[DBIAS], t[DALOG], t[DBM], t[DCM], t[DD]);
    ok(!st && kt_is_rounded(&c.t[DDT], half), "%s: ddt rounded", kt_isa[set]);
    kt_mem_free(half);
    call_free(&c);
}

static double loss(void *arg)
{
    struct call *c = arg;
    if (forward(kt_ref, 1, c)) return NAN;
    return grad_contract(c->t[Y].g, c->t[DY].g, c->t[Y].n);
}

static void check_gradients(struct shape s, double step)
{
    static const int of[] = {X, DT, BIAS, ALOG, BM, CM, D}, grad[] = {DX, DDT, DBIAS, DALOG, DBM, DCM, DD};
    static const char *const names[] = {"x", "dt", "dt_bias", "a_log", "b", "c", "d"};
    struct call c = call_new(s, 0, 0, step);
    is_int(backward(kt_ref, 1, &c), ST_OK, "gradients: %d groups, steps of %g", (int)s.G, step);
    for (int i = 0; i < 7; i++) {
        struct kt *g = &c.t[grad[i]];
        if (g->t.rank == 1)
            for (int64_t k = 0; k < g->n; k++) g->g[k] -= (double)g->init[k]; /* it adds */
        double e = grad_check(loss, &c, c.t[of[i]].g, g->g, g->n);
        ok(e < 1e-8, "gradient of %s (%.1e)", names[i], e);
    }
    call_free(&c);
}

static void check_bad(void)
{
    struct kn_dev *dev = kt_cpu[0][0];
    struct call c = call_new((struct shape){1, 3, 4, 4, 2, 4}, 0, 1, 0.1), d = call_new((struct shape){1, 3, 4, 4, 3, 4}, 0, 1, 0.1);
    struct call e = c;
    e.t[BM] = d.t[BM], e.t[CM] = d.t[CM];
    is_int(forward(dev, 0, &e), ST_EINVAL, "3 groups of 4 heads");
    e = c;
    e.t[STATE].t.d[3] = 3;
    is_int(forward(dev, 0, &e), ST_EINVAL, "a state of another size");
    is_int(forward(dev, 1, &c), ST_ENOTSUP, "f64");
    e = c;
    e.t[DCM].t.d[3] = 3;
    is_int(backward(dev, 0, &e), ST_EINVAL, "a gradient of another size");
    call_free(&c);
    call_free(&d);
}

#ifdef KT_CUDA
/* Fewer heads and chunks, for tests/cudahost runs a thread after the other; besides what the CPU's shapes are about, what a GPU of 4 multiprocessors cuts differently. */
static void shapes(void)
{
    check((struct shape){1, 1, 1, 1, 1, 1}, 0, 0, 0.1);
    check((struct shape){1, 1, 3, 64, 1, 64}, 0, 1, 0.1); /* one token */
    check((struct shape){2, 5, 2, 20, 2, 12}, 1, 1, 0.1); /* token by token */
    check((struct shape){1, 7, 2, 5, 1, 300}, 0, 1, 0.1); /* too wide for that */
    check((struct shape){1, 64, 2, 16, 1, 16}, 0, 0, 0.1);
    check((struct shape){2, 130, 4, 20, 2, 12}, 1, 1, 0.1); /* several chunks, the last cut short, several heads a block */
    check((struct shape){2, 70, 3, 16, 1, 40}, 0, 1, 0.1);  /* a group in several blocks */
    check((struct shape){1, 130, 1, 33, 1, 7}, 0, 1, 0.01);
    check((struct shape){1, 129, 4, 64, 2, 64}, 0, 0, 0.001); /* a segment a chunk */
    check((struct shape){1, 330, 2, 8, 1, 8}, 0, 1, 0.01);    /* segments of several chunks */
    check((struct shape){1, 70, 3, 8, 1, 100}, 0, 1, 5);      /* what lies behind is forgotten */
    check((struct shape){1, 90, 2, 8, 2, 8}, 1, 1, 60);
    check((struct shape){1, 70, 2, 70, 1, 8}, 1, 1, 0.05); /* tiles of P */
    check((struct shape){1, 66, 1, 66, 1, 70}, 0, 0, 0.05);
    check((struct shape){1, 70, 2, 80, 1, 144}, 0, 0, 0.01);
    if (kt_precision == KN_BF16) return;                    /* the rest is the same there */
    check((struct shape){1, 390, 1, 8, 1, 8}, 0, 1, 0.01);   /* segments either way, not the same from both ends */
    check((struct shape){1, 70, 1, 3, 1, 701}, 0, 1, 0.05);  /* states beyond shared memory */
}

static void whole(void)
{
    check((struct shape){1, 150, 4, 32, 2, 48}, 1, 1, 0.1);
    check((struct shape){1, 9, 2, 64, 1, 32}, 0, 1, 0.1);
    check((struct shape){1, 70, 2, 16, 1, 96}, 1, 1, 5);
    check((struct shape){1, 70, 2, 16, 1, 160}, 0, 1, 0.1);
}
#else
static void shapes(void)
{
    check((struct shape){1, 1, 1, 1, 1, 1}, 0, 0, 0.1);
    check((struct shape){1, 1, 3, 64, 1, 64}, 0, 1, 0.1); /* one token */
    check((struct shape){2, 5, 4, 20, 2, 12}, 1, 1, 0.1); /* token by token */
    check((struct shape){1, 64, 2, 16, 1, 16}, 0, 0, 0.1);
    check((struct shape){2, 200, 4, 20, 2, 12}, 1, 1, 0.1); /* several chunks, the last cut short, a few heads a task */
    check((struct shape){17, 70, 3, 16, 1, 40}, 0, 1, 0.1); /* a group a task */
    check((struct shape){1, 130, 1, 33, 1, 7}, 0, 1, 0.01);
    check((struct shape){2, 129, 6, 64, 3, 64}, 0, 0, 0.001);
    check((struct shape){1, 100, 5, 8, 1, 100}, 0, 1, 5); /* what lies behind is forgotten */
    check((struct shape){1, 90, 4, 8, 4, 8}, 1, 1, 60);
    check((struct shape){2, 15, 2, 4, 2, 4}, 0, 0, 0.1);
}

/* Heads and states of whole vectors, which bf16 is for. */
static void whole(void)
{
    check((struct shape){2, 150, 4, 32, 2, 48}, 1, 1, 0.1);
    check((struct shape){16, 75, 3, 16, 1, 16}, 1, 1, 0.05); /* a group a task; an odd end */
    check((struct shape){1, 9, 2, 64, 1, 32}, 0, 1, 0.1);
    check((struct shape){1, 257, 3, 80, 1, 144}, 0, 0, 0.01);
    check((struct shape){1, 100, 4, 16, 1, 96}, 1, 1, 5);
    check((struct shape){1, 90, 4, 32, 4, 16}, 1, 0, 60);
    check((struct shape){1, 64, 2, 48, 1, 64}, 0, 0, 0.001);
}
#endif

int main(void)
{
    kt_open();
    shapes();
    whole();
    kt_precision = KN_BF16;
    shapes();
    whole();
    kt_precision = KN_F32;
    static const int ones[] = {1}, fives[] = {5}, mixed[] = {64, 1, 13, 40, 2}, most[] = {149, 1}, chunks[] = {64};
    for (int i = 0; i <= KT_ISAS; i++) {
        struct kn_dev *dev = i < KT_ISAS ? kt_cpu[i][1] : kt_ref;
        if (!dev) continue;
        const char *name = i < KT_ISAS ? kt_isa[i] : "ref";
        check_cuts(dev, name, ones, 1);
        check_cuts(dev, name, fives, 1);
        check_cuts(dev, name, mixed, 5);
        check_cuts(dev, name, most, 2);
        check_cuts(dev, name, chunks, 1);
    }
    for (int i = 0; i < KT_ISAS; i++)
        if (kt_cpu[i][1]) check_rounded(i);
    check_gradients((struct shape){2, 5, 4, 3, 2, 2}, 0.1);
    check_gradients((struct shape){1, 4, 2, 2, 1, 3}, 1);
    check_bad();
    kt_close();
    return tap_done();
}
