/* Causal depthwise convolution and the element-wise product: each device against the reference, the state, gradients by
 * central differences in f64. */
#include "tests/kernels/kntest.h"

struct call {
    struct kt x, w, bias, state, y, dy, dx, dw, dbias;
    int silu, with_bias, with_state;
};

static const struct kn_tensor *(*of(int ref))(struct kt *)
{
    return ref ? kt_d : kt_f;
}

static st_t forward(struct kn_dev *dev, int ref, void *arg)
{
    struct call *c = arg;
    const struct kn_tensor *(*t)(struct kt *) = of(ref);
    return dev->op->conv(dev, t(&c->x), t(&c->w), c->with_bias ? t(&c->bias) : NULL, c->silu,
                         c->with_state ? t(&c->state) : NULL, t(&c->y));
}

static st_t backward(struct kn_dev *dev, int ref, void *arg)
{
    struct call *c = arg;
    const struct kn_tensor *(*t)(struct kt *) = of(ref);
    return dev->op->conv_bwd(dev, t(&c->x), t(&c->w), c->with_bias ? t(&c->bias) : NULL, c->silu, t(&c->dy), t(&c->dx),
                             t(&c->dw), c->with_bias ? t(&c->dbias) : NULL);
}

static struct call call_new(int64_t B, int64_t T, int64_t C, int64_t k, int strided, int silu, int with_bias,
                            int with_state)
{
    int64_t btc[] = {B, T, C}, apart[] = {T * (2 * C + 3) + 5, 2 * C + 3, 1}, sd[] = {B, k - 1, C};
    int64_t sapart[] = {k * (C + 1), C + 1, 1}, ck[] = {C, k}, wapart[] = {3, 3 * C + 1}, cd[] = {C}, two[] = {2};
    const int64_t *s = strided ? apart : NULL, *ss = strided ? sapart : NULL, *ws = strided ? wapart : NULL,
                  *cs = strided ? two : NULL;
    return (struct call){kt_new(3, btc, s, 1, 1),  kt_new(2, ck, ws, 0.5, 2), kt_new(1, cd, cs, 0.5, 3),
                         kt_new(3, sd, ss, 1, 4),  kt_new(3, btc, s, 1, 5),   kt_new(3, btc, s, 1, 6),
                         kt_new(3, btc, s, 1, 7),  kt_new(2, ck, ws, 1, 8),   kt_new(1, cd, cs, 1, 9),
                         silu,                     with_bias,                 with_state};
}

static void call_free(struct call *c)
{
    struct kt *all[] = {&c->x, &c->w, &c->bias, &c->state, &c->y, &c->dy, &c->dx, &c->dw, &c->dbias};
    for (int i = 0; i < 9; i++) kt_free(all[i]);
}

static void check(int64_t B, int64_t T, int64_t C, int64_t k, int strided, int silu, int with_bias, int with_state)
{
    struct call c = call_new(B, T, C, k, strided, silu, with_bias, with_state);
    char what[96];
    snprintf(what, sizeof what, "%d x %d x %d, %d taps%s%s%s%s", (int)B, (int)T, (int)C, (int)k,
             strided ? ", strides" : "", silu ? ", silu" : "", with_bias ? ", bias" : "", with_state ? ", state" : "");
    kt_compare(what, forward, &c, (struct kt *const[]){&c.y, &c.state}, 2, 1e-11);
    kt_compare(what, backward, &c, (struct kt *const[]){&c.dx, &c.dw, &c.dbias}, 3, 1e-11);
    call_free(&c);
}

/* dx in bf16: what it is in f32, rounded; the rest to the bit. */
static void check_rounded(int set, int64_t C, int64_t k, int strided, int silu)
{
    struct kn_dev *dev = kt_cpu[set][1];
    struct call c = call_new(2, 75, C, k, strided, silu, 1, 0);
    uint16_t *half = kt_mem(sizeof *half * (size_t)c.dx.n);
    float *dw = malloc(sizeof *dw * (size_t)c.dw.n);
    if (!dw) abort();
    struct kn_tensor dx = kt_in_bf16(&c.dx, half);
    st_t st = backward(dev, 0, &c);
    memcpy(dw, c.dw.f, sizeof *dw * (size_t)c.dw.n);
    kt_reset(&c.dw);
    if (!st) st = dev->op->conv_bwd(dev, kt_f(&c.x), kt_f(&c.w), kt_f(&c.bias), silu, kt_f(&c.dy), &dx, kt_f(&c.dw), kt_f(&c.dbias));
    ok(!st && kt_is_rounded(&c.dx, half) && !memcmp(dw, c.dw.f, sizeof *dw * (size_t)c.dw.n), "%s: dx of %d taps rounded, %d channels", kt_isa[set], (int)k, (int)C);
    kt_mem_free(half), free(dw);
    call_free(&c);
}

/* T tokens at once are those of any cut, with the state between; what a call leaves is the last k - 1 inputs. */
static void check_cuts(struct kn_dev *dev, const char *name, int64_t k)
{
    enum { B = 2, T = 11, C = 21 };
    struct call c = call_new(B, T, C, k, 0, 1, 1, 1);
    float *whole = malloc(sizeof(float) * B * T * C);
    if (!whole) abort();
    memset(c.state.f, 0, sizeof(float) * (size_t)c.state.n);
    c.with_state = 0;
    forward(dev, 0, &c);
    memcpy(whole, c.y.f, sizeof(float) * B * T * C);
    for (int64_t step = 1; step <= 4; step++) {
        memset(c.state.f, 0, sizeof(float) * (size_t)c.state.n);
        memset(c.y.f, 0, sizeof(float) * B * T * C);
        st_t st = ST_OK;
        for (int64_t t = 0; t < T && !st; t += step) {
            int64_t n = T - t < step ? T - t : step;
            struct kn_tensor x = kn_slice(kt_f(&c.x), 1, t, n), y = kn_slice(kt_f(&c.y), 1, t, n);
            st = dev->op->conv(dev, &x, kt_f(&c.w), kt_f(&c.bias), 1, kt_f(&c.state), &y);
        }
        double far = 0;
        for (int64_t i = 0; i < B * T * C; i++) far = fmax(far, fabs((double)(whole[i] - c.y.f[i])));
        int last = 1;
        for (int64_t b = 0; b < B; b++)
            for (int64_t i = 0; i < (k - 1) * C; i++)
                last &= c.state.f[b * (k - 1) * C + i] == c.x.f[b * T * C + (T - k + 1) * C + i];
        ok(!st && far < 1e-6 && last, "%s, %d taps: %d at a time (off by %.1e, state %s)", name, (int)k, (int)step, far,
           last ? "right" : "wrong");
    }
    free(whole);
    call_free(&c);
}

static double loss(struct call *c)
{
    double s = 0;
    if (forward(kt_ref, 1, c)) return NAN;
    for (int64_t i = 0; i < c->y.n; i++) s += c->y.g[i] * c->dy.g[i];
    return s;
}

/* Largest |gradient - central difference| of x; g0 is what a gradient that is added to began as. */
static double differ(struct call *c, struct kt *x, const struct kt *dx, int adds)
{
    double worst = 0, h = 1e-5;
    for (int64_t i = 0; i < x->n; i++) {
        double keep = x->g[i], up, down;
        x->g[i] = keep + h, up = loss(c);
        x->g[i] = keep - h, down = loss(c);
        x->g[i] = keep;
        worst = fmax(worst, fabs((up - down) / (2 * h) - (dx->g[i] - (adds ? (double)dx->init[i] : 0))));
    }
    return worst;
}

static void check_gradients(int64_t T, int64_t k, int silu)
{
    struct call c = call_new(2, T, 3, k, 0, silu, 1, 0);
    is_int(backward(kt_ref, 1, &c), ST_OK, "gradients: %d taps%s", (int)k, silu ? ", silu" : "");
    double ex = differ(&c, &c.x, &c.dx, 0), ew = differ(&c, &c.w, &c.dw, 1), eb = differ(&c, &c.bias, &c.dbias, 1);
    ok(ex < 1e-8 && ew < 1e-8 && eb < 1e-8, "dx, dw, dbias (%.1e %.1e %.1e)", ex, ew, eb);
    call_free(&c);
}

struct product {
    struct kt x, y, z, dz, dx, dy;
};

static st_t mul(struct kn_dev *dev, int ref, void *arg)
{
    struct product *c = arg;
    return dev->op->mul(dev, of(ref)(&c->x), of(ref)(&c->y), of(ref)(&c->z));
}

static st_t mul_bwd(struct kn_dev *dev, int ref, void *arg)
{
    struct product *c = arg;
    return dev->op->mul_bwd(dev, of(ref)(&c->x), of(ref)(&c->y), of(ref)(&c->dz), of(ref)(&c->dx), of(ref)(&c->dy));
}

/* the gradients in the memory of x and dz */
static st_t mul_bwd_in_place(struct kn_dev *dev, int ref, void *arg)
{
    struct product *c = arg;
    return dev->op->mul_bwd(dev, of(ref)(&c->x), of(ref)(&c->y), of(ref)(&c->dz), of(ref)(&c->x), of(ref)(&c->dz));
}

static void check_mul(int64_t n, int64_t d, const int64_t *s)
{
    int64_t nd[] = {n, d};
    struct product c = {kt_new(2, nd, s, 1, 1), kt_new(2, nd, s, 1, 2), kt_new(2, nd, s, 1, 3),
                        kt_new(2, nd, s, 1, 4), kt_new(2, nd, s, 1, 5), kt_new(2, nd, s, 1, 6)};
    char what[64];
    snprintf(what, sizeof what, "product %d x %d%s", (int)n, (int)d, s ? ", strides" : "");
    kt_compare(what, mul, &c, (struct kt *const[]){&c.z}, 1, 1e-12);
    kt_compare(what, mul_bwd, &c, (struct kt *const[]){&c.dx, &c.dy}, 2, 1e-12);
    double far = 0;
    for (int64_t i = 0; i < c.x.n; i++)
        if (c.x.used[i])
            far = fmax(far, fabs(c.dx.g[i] - c.dz.g[i] * c.y.g[i]) + fabs(c.dy.g[i] - c.dz.g[i] * c.x.g[i]));
    ok(far == 0, "%s: dx = dz y, dy = dz x", what);
    kt_compare(what, mul_bwd_in_place, &c, (struct kt *const[]){&c.x, &c.dz}, 2, 1e-12);
    struct kt *all[] = {&c.x, &c.y, &c.z, &c.dz, &c.dx, &c.dy};
    for (int i = 0; i < 6; i++) kt_free(all[i]);
}

static void check_bad(void)
{
    struct kn_dev *dev = kt_cpu[0][0];
    struct call c = call_new(2, 5, 6, 4, 0, 0, 1, 1), d = call_new(2, 5, 7, 4, 0, 0, 1, 1), e = call_new(2, 5, 6, 17, 0, 0, 1, 1);
    is_int(dev->op->conv(dev, kt_f(&c.x), kt_f(&d.w), NULL, 0, NULL, kt_f(&c.y)), ST_EINVAL, "taps of other channels");
    is_int(dev->op->conv(dev, kt_f(&c.x), kt_f(&e.w), NULL, 0, NULL, kt_f(&c.y)), ST_EINVAL, "17 taps");
    is_int(dev->op->conv(dev, kt_f(&c.x), kt_f(&c.w), NULL, 0, kt_f(&e.state), kt_f(&c.y)), ST_EINVAL,
           "a state of another length");
    is_int(dev->op->conv(dev, kt_d(&c.x), kt_d(&c.w), NULL, 0, NULL, kt_d(&c.y)), ST_ENOTSUP, "f64");
    is_int(dev->op->conv_bwd(dev, kt_f(&c.x), kt_f(&c.w), kt_f(&c.bias), 0, kt_f(&c.dy), kt_f(&c.dx), kt_f(&c.dw), NULL),
           ST_EINVAL, "a bias without its gradient");
    is_int(dev->op->mul(dev, kt_f(&c.w), kt_f(&d.w), kt_f(&c.w)), ST_EINVAL, "a product of two shapes");
    call_free(&c);
    call_free(&d);
    call_free(&e);
}

int main(void)
{
    kt_open();
    check(1, 1, 1, 1, 0, 0, 0, 0);
    check(2, 1, 37, 4, 0, 1, 1, 1); /* one token */
    check(2, 2, 20, 4, 0, 1, 1, 1); /* fewer than the state holds */
    check(3, 37, 20, 3, 1, 0, 0, 1);
    check(2, 300, 100, 4, 0, 1, 1, 0); /* several pieces a sequence */
    check(70, 9, 33, 4, 1, 1, 1, 1);   /* several pieces a task */
    check(1, 50, 640, 2, 0, 1, 0, 0);
    check(1, 23, 5, 16, 0, 1, 1, 1);
    check(2, 40, 64, 1, 0, 1, 1, 1);
    check(2, 500, 70, 7, 1, 0, 1, 1);
    check(2, 2, 16, 9, 0, 0, 1, 1);
    check(2, 100, 64, 3, 0, 1, 1, 1); /* whole fours of channels, several pieces */
    check(3, 67, 36, 2, 0, 0, 1, 1);
    check(2, 90, 6, 4, 0, 1, 0, 1);
    check(150, 5, 6, 3, 0, 1, 1, 0); /* many pieces to sum */
    for (int i = 0; i < KT_ISAS; i++)
        for (int64_t k = 2; k <= 5 && kt_cpu[i][1]; k++) {
            check_rounded(i, 37, k, 1, k > 3);
            check_rounded(i, 40, k, 0, k > 3);
        }
    for (int i = 0; i < KT_ISAS; i++)
        for (int64_t k = 1; k <= 5; k++)
            if (kt_cpu[i][1]) check_cuts(kt_cpu[i][1], kt_isa[i], k);
    check_cuts(kt_ref, "ref", 4);
    check_gradients(6, 4, 1);
    check_gradients(6, 3, 0);
    check_gradients(2, 4, 1);
    check_gradients(5, 1, 1);
    check_mul(1, 1, NULL);
    check_mul(70, 300, NULL);
    check_mul(9, 37, (int64_t[]){80, 1});
    check_mul(9, 20, (int64_t[]){61, 3});
    check_mul(12, 20, (int64_t[]){1, 16}); /* down columns */
    check_bad();
    kt_close();
    return tap_done();
}
