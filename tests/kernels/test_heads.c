/* Norm and gate of heads: every instruction set against the reference in f64, the reference's gradients against central
 * differences. */
#include "tests/kernels/kntest.h"

struct call {
    struct kt x, w, y, rstd, g, dy, dx, dg, dw;
    int in_place; /* dx is dy's memory, y is x's */
};

static const struct kn_tensor *of(struct kt *x, int ref)
{
    return ref ? kt_d(x) : kt_f(x);
}

static st_t norm(struct kn_dev *dev, int ref, void *arg)
{
    struct call *c = arg;
    return dev->op->headnorm(dev, of(&c->x, ref), of(&c->w, ref), 1e-3, of(&c->y, ref), of(&c->rstd, ref));
}

static st_t norm_in_place(struct kn_dev *dev, int ref, void *arg)
{
    struct call *c = arg;
    return dev->op->headnorm(dev, of(&c->x, ref), of(&c->w, ref), 1e-3, of(&c->x, ref), of(&c->rstd, ref));
}

static st_t norm_both(struct kn_dev *dev, int ref, void *arg)
{
    struct call *c = arg;
    st_t st = norm(dev, ref, arg);
    return st ? st
              : dev->op->headnorm_bwd(dev, of(&c->x, ref), of(&c->w, ref), of(&c->rstd, ref), of(&c->dy, ref),
                                      of(c->in_place ? &c->dy : &c->dx, ref), of(&c->dw, ref));
}

static st_t gate(struct kn_dev *dev, int ref, void *arg)
{
    struct call *c = arg;
    return dev->op->headgate(dev, of(&c->x, ref), of(&c->g, ref), of(c->in_place ? &c->x : &c->y, ref));
}

static st_t gate_bwd(struct kn_dev *dev, int ref, void *arg)
{
    struct call *c = arg;
    return dev->op->headgate_bwd(dev, of(&c->x, ref), of(&c->g, ref), of(&c->dy, ref),
                                 of(c->in_place ? &c->dy : &c->dx, ref), of(&c->dg, ref));
}

static struct call call_new(int64_t B, int64_t T, int64_t H, int64_t K, int strided)
{
    int64_t d[] = {B, T, H, K}, s[] = {T * (H * 2 * K + 5) + 1, H * 2 * K + 5, 2 * K, 1}, dr[] = {B, T, H},
            sr[] = {1, B, B * T}, sw[] = {3};
    const int64_t *t = strided ? s : NULL;
    return (struct call){.x = kt_new(4, d, t, 1, 1),
                         .w = kt_new(1, d + 3, strided ? sw : NULL, 1, 2),
                         .y = kt_new(4, d, t, 1, 3),
                         .rstd = kt_new(3, dr, strided ? sr : NULL, 1, 4),
                         .g = kt_new(4, d, t, 2, 5),
                         .dy = kt_new(4, d, NULL, 1, 6),
                         .dx = kt_new(4, d, t, 1, 7),
                         .dg = kt_new(4, d, t, 1, 8),
                         .dw = kt_new(1, d + 3, strided ? sw : NULL, 1, 9)};
}

static void call_free(struct call *c)
{
    struct kt *all[] = {&c->x, &c->w, &c->y, &c->rstd, &c->g, &c->dy, &c->dx, &c->dg, &c->dw};
    for (int i = 0; i < 9; i++) kt_free(all[i]);
}

static void compare(int64_t B, int64_t T, int64_t H, int64_t K, int strided, int in_place)
{
    struct call c = call_new(B, T, H, K, strided);
    char what[96];
    c.in_place = in_place;
    for (int i = 0; i < 3; i++) {
        snprintf(what, sizeof what, "%s %d x %d x %d x %d%s%s",
                 i == 0   ? "norm"
                 : i == 1 ? "gate"
                          : "gate's backward",
                 (int)B, (int)T, (int)H, (int)K, strided ? " strided" : "", in_place ? " in place" : "");
        struct kt *dx = in_place ? &c.dy : &c.dx, *y = in_place ? &c.x : &c.y;
        struct kt *outs[3][4] = {{&c.y, &c.rstd, dx, &c.dw}, {y}, {dx, &c.dg}};
        static const int counts[] = {4, 1, 2};
        kt_reset(&c.x), kt_reset(&c.dy);
        kt_compare(what, i == 0 ? norm_both : i == 1 ? gate : gate_bwd, &c, outs[i], counts[i], 1e-12);
    }
    if (in_place) kt_compare("norm in place", norm_in_place, &c, (struct kt *const[]){&c.x, &c.rstd}, 2, 1e-12);
    call_free(&c);
}

/* sum of y * dy, in f64 */
static double value(struct call *c, st_t (*fn)(struct kn_dev *, int, void *))
{
    double s = 0;
    if (fn(kt_ref, 1, c)) return NAN;
    for (int64_t i = 0; i < kn_count(&c->y.t); i++) s += c->y.g[kt_at(&c->y, i)] * c->dy.g[kt_at(&c->dy, i)];
    return s;
}

static double worst(struct call *c, st_t (*fn)(struct kn_dev *, int, void *), struct kt *x, const struct kt *dx, double minus)
{
    double far = 0, h = 1e-5;
    for (int64_t i = 0; i < kn_count(&x->t); i++) {
        double *p = &x->g[kt_at(x, i)], keep = *p, up, down;
        *p = keep + h, up = value(c, fn);
        *p = keep - h, down = value(c, fn);
        *p = keep;
        int64_t at = kt_at(dx, i);
        far = fmax(far, fabs((up - down) / (2 * h) - (dx->g[at] - minus * (double)dx->init[at])));
    }
    return far;
}

static void differences(void)
{
    struct call c = call_new(2, 3, 2, 5, 1);
    ok(!norm_both(kt_ref, 1, &c), "norm and its backward");
    double ex = worst(&c, norm, &c.x, &c.dx, 0), ew = worst(&c, norm, &c.w, &c.dw, 1);
    ok(ex < 1e-7 && ew < 1e-7, "norm: dx, dw (%.1e %.1e)", ex, ew);
    ok(!gate_bwd(kt_ref, 1, &c), "the gate's backward");
    ex = worst(&c, gate, &c.x, &c.dx, 0);
    double eg = worst(&c, gate, &c.g, &c.dg, 0);
    ok(ex < 1e-7 && eg < 1e-7, "gate: dx, dg (%.1e %.1e)", ex, eg);
    call_free(&c);
}

static void refusals(void)
{
    struct kn_dev *dev = kt_cpu[0][0];
    struct call c = call_new(1, 2, 2, 4, 0);
    struct kn_tensor bad = *kt_f(&c.x), w = kn_slice(kt_f(&c.w), 0, 0, 3), none = kn_slice(kt_f(&c.x), 1, 0, 0),
                     rstd = kn_slice(kt_f(&c.rstd), 1, 0, 0);
    bad.s[3] = 2;
    is_int(dev->op->headnorm(dev, &bad, kt_f(&c.w), 1, kt_f(&c.y), kt_f(&c.rstd)), ST_EINVAL, "last stride 2");
    is_int(dev->op->headnorm(dev, kt_f(&c.x), &w, 1, kt_f(&c.y), kt_f(&c.rstd)), ST_EINVAL, "a shorter w");
    is_int(dev->op->headnorm(dev, kt_d(&c.x), kt_d(&c.w), 1, kt_d(&c.y), kt_d(&c.rstd)), ST_ENOTSUP, "norm in f64");
    is_int(dev->op->headnorm(dev, &none, kt_f(&c.w), 1, &none, &rstd), ST_OK, "no heads");
    is_int(dev->op->headgate(dev, kt_f(&c.x), &bad, kt_f(&c.y)), ST_EINVAL, "a gate with last stride 2");
    is_int(dev->op->headgate(dev, kt_d(&c.x), kt_d(&c.g), kt_d(&c.y)), ST_ENOTSUP, "gate in f64");
    is_int(dev->op->headgate(dev, &none, &none, &none), ST_OK, "nothing to gate");
    call_free(&c);
}

int main(void)
{
    kt_open();
    static const int shapes[][4] = {{2, 37, 3, 32}, {1, 5, 2, 6}, {1, 1, 1, 1}, {3, 1, 4, 80}, {1, 300, 8, 64}, {1, 9, 1, 129}, {3, 37, 3, 128}, {2, 5, 3, 192}, {1, 3, 2, 512}, {2, 2, 2, 9000}};
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++)
        for (int k = 0; k < 4; k++)
            compare(shapes[i][0], shapes[i][1], shapes[i][2], shapes[i][3], k & 1, k >> 1);
    differences();
    refusals();
    kt_close();
    return tap_done();
}
