/* Gated RMSNorm in both orders, and its backward. */
#include "tests/kernels/gradcheck.h"
#include "tests/kernels/kntest.h"

struct call {
    struct kt x, z, w, y, rstd, dy, dx, dz, dw;
    int64_t group;
    int gate_first;
};

static st_t run(struct kn_dev *dev, int ref, void *arg)
{
    struct call *c = arg;
    const struct kn_tensor *(*of)(struct kt *) = ref ? kt_d : kt_f;
    st_t st = dev->op->gatednorm(dev, of(&c->x), of(&c->z), of(&c->w), c->group, 1e-5, c->gate_first, of(&c->y), of(&c->rstd));
    return st ? st
              : dev->op->gatednorm_bwd(dev, of(&c->x), of(&c->z), of(&c->w), c->group, c->gate_first, of(&c->rstd), of(&c->dy),
                                       of(&c->dx), of(&c->dz), of(&c->dw));
}

/* dx and dz in the memory of x and z */
static st_t in_place(struct kn_dev *dev, int ref, void *arg)
{
    struct call *c = arg;
    const struct kn_tensor *(*of)(struct kt *) = ref ? kt_d : kt_f;
    st_t st = dev->op->gatednorm(dev, of(&c->x), of(&c->z), of(&c->w), c->group, 1e-5, c->gate_first, of(&c->y), of(&c->rstd));
    return st ? st
              : dev->op->gatednorm_bwd(dev, of(&c->x), of(&c->z), of(&c->w), c->group, c->gate_first, of(&c->rstd), of(&c->dy),
                                       of(&c->x), of(&c->z), of(&c->dw));
}

/* y and dz in bf16: what they are in f32, rounded. */
static void rounded(struct kn_dev *dev, const char *name, const char *what, struct call *c)
{
    uint16_t *half = kt_mem(sizeof *half * (size_t)c->y.n), *dhalf = kt_mem(sizeof *dhalf * (size_t)c->dz.n);
    struct kn_tensor y = kt_in_bf16(&c->y, half), dz = kt_in_bf16(&c->dz, dhalf);
    kt_reset(&c->x), kt_reset(&c->z);
    st_t st = run(dev, 0, c);
    if (!st) st = dev->op->gatednorm(dev, kt_f(&c->x), kt_f(&c->z), kt_f(&c->w), c->group, 1e-5, c->gate_first, &y, kt_f(&c->rstd));
    if (!st)
        st = dev->op->gatednorm_bwd(dev, kt_f(&c->x), kt_f(&c->z), kt_f(&c->w), c->group, c->gate_first, kt_f(&c->rstd), kt_f(&c->dy), kt_f(&c->dx), &dz,
                                    kt_f(&c->dw));
    ok(!st && kt_is_rounded(&c->y, half) && kt_is_rounded(&c->dz, dhalf), "%s: %s y and dz rounded", what, name);
    kt_mem_free(half), kt_mem_free(dhalf);
}

static void check(int64_t n, int64_t groups, int64_t group, int shared, int gate_first, int strided, double amp)
{
    int64_t d = groups * group, nd[] = {n, d}, ng[] = {n, groups}, wide[] = {d + 5, 1}, two[] = {2}, apart[] = {2 * groups + 1, 2};
    const int64_t *s = strided ? wide : NULL, wn = shared ? group : d;
    struct call c = {
        .x = kt_new(2, nd, s, amp, 1),
        .z = kt_new(2, nd, s, amp > 1 ? 30 : 1, 2),
        .w = kt_new(1, &wn, strided ? two : NULL, 1, 3),
        .y = kt_new(2, nd, s, 1, 4),
        .rstd = kt_new(2, ng, strided ? apart : NULL, 1, 5),
        .dy = kt_new(2, nd, s, 1, 6),
        .dx = kt_new(2, nd, s, 1, 7),
        .dz = kt_new(2, nd, s, 1, 8),
        .dw = kt_new(1, &wn, strided ? two : NULL, 1, 9),
        .group = group,
        .gate_first = gate_first,
    };
    char what[128];
    snprintf(what, sizeof what, "%d x %d x %d%s gate %s strides %d amplitude %g", (int)n, (int)groups, (int)group,
             shared ? " one w" : "", gate_first ? "first" : "last", strided, amp);
    kt_compare(what, run, &c, (struct kt *const[]){&c.y, &c.rstd, &c.dx, &c.dz, &c.dw}, 5, 1e-11);
    kt_compare(what, in_place, &c, (struct kt *const[]){&c.x, &c.z, &c.y, &c.rstd, &c.dw}, 5, 1e-11);
    for (int i = 0; i < KT_ISAS; i++)
        if (kt_cpu[i][0]) rounded(kt_cpu[i][0], kt_isa[i], what, &c);
    struct kt *all[] = {&c.x, &c.z, &c.w, &c.y, &c.rstd, &c.dy, &c.dx, &c.dz, &c.dw};
    for (int i = 0; i < 9; i++) kt_free(all[i]);
}

enum { N = 3, GROUPS = 2, GROUP = 5, D = GROUPS * GROUP };

struct grad {
    double *x, *z, *w, *y, *rstd, *dy;
    int64_t wn;
    int gate_first;
};

static double value(void *arg)
{
    struct grad *c = arg;
    struct kn_tensor x = kn_t2(c->x, KN_F64, N, D), z = kn_t2(c->z, KN_F64, N, D), w = kn_t1(c->w, KN_F64, c->wn);
    struct kn_tensor y = kn_t2(c->y, KN_F64, N, D), r = kn_t2(c->rstd, KN_F64, N, GROUPS);
    if (kt_ref->op->gatednorm(kt_ref, &x, &z, &w, GROUP, 1e-3, c->gate_first, &y, &r)) return NAN;
    return grad_contract(c->y, c->dy, N * D);
}

static void gradients(int64_t wn, int gate_first)
{
    struct grad c = {grad_random(N * D, 1), grad_random(N * D, 2), grad_random(wn, 3), grad_random(N * D, 4), grad_random(N * GROUPS, 5),
                     grad_random(N * D, 6), wn, gate_first};
    double *dx = grad_random(N * D, 7), *dz = grad_random(N * D, 8), *dw = grad_random(wn, 9), *start = grad_random(wn, 9);
    value(&c);
    struct kn_tensor x = kn_t2(c.x, KN_F64, N, D), z = kn_t2(c.z, KN_F64, N, D), w = kn_t1(c.w, KN_F64, wn);
    struct kn_tensor dy = kn_t2(c.dy, KN_F64, N, D), r = kn_t2(c.rstd, KN_F64, N, GROUPS);
    struct kn_tensor tx = kn_t2(dx, KN_F64, N, D), tz = kn_t2(dz, KN_F64, N, D), tw = kn_t1(dw, KN_F64, wn);
    is_int(kt_ref->op->gatednorm_bwd(kt_ref, &x, &z, &w, GROUP, gate_first, &r, &dy, &tx, &tz, &tw), ST_OK, "backward");
    for (int64_t i = 0; i < wn; i++) dw[i] -= start[i];
    double ex = grad_check(value, &c, c.x, dx, N * D), ez = grad_check(value, &c, c.z, dz, N * D), ew = grad_check(value, &c, c.w, dw, wn);
    ok(ex < 1e-8 && ez < 1e-8 && ew < 1e-8, "gate %s, w of %d: dx, dz, dw (%.1e %.1e %.1e)", gate_first ? "first" : "last", (int)wn, ex, ez, ew);
    double *all[] = {c.x, c.z, c.w, c.y, c.rstd, c.dy, dx, dz, dw, start};
    for (int i = 0; i < 10; i++) free(all[i]);
}

/* The formula, once, by hand: x = (3, 4), so its mean square is 12.5; the gates are silu(1) and silu(2). */
static void by_hand(void)
{
    double x[2] = {3, 4}, z[2] = {1, 2}, w[2] = {10, 100}, y[2], r[1];
    struct kn_tensor tx = kn_t2(x, KN_F64, 1, 2), tz = kn_t2(z, KN_F64, 1, 2), tw = kn_t1(w, KN_F64, 2), ty = kn_t2(y, KN_F64, 1, 2),
                     tr = kn_t2(r, KN_F64, 1, 1);
    double a0 = 1 / (1 + exp(-1)), a1 = 2 / (1 + exp(-2));
    is_int(kt_ref->op->gatednorm(kt_ref, &tx, &tz, &tw, 2, 0, 0, &ty, &tr), ST_OK, "gate last");
    is_near(y[0], 10 * 3 / sqrt(12.5) * a0, 1e-14, "norm, then gate");
    is_near(y[1], 100 * 4 / sqrt(12.5) * a1, 1e-14, "likewise");
    is_int(kt_ref->op->gatednorm(kt_ref, &tx, &tz, &tw, 2, 0, 1, &ty, &tr), ST_OK, "gate first");
    is_near(y[1], 100 * 4 * a1 / sqrt((9 * a0 * a0 + 16 * a1 * a1) / 2), 1e-14, "gate, then norm");
}

int main(void)
{
    kt_open();
    for (int first = 0; first < 2; first++) {
        by_hand();
        gradients(D, first);
        gradients(GROUP, first);
        check(1, 1, 1, 0, first, 0, 1);
        check(7, 3, 20, 0, first, 0, 1);
        check(33, 4, 64, 1, first, 0, 1);
        check(50, 2, 129, 0, first, 1, 1);
        check(41, 5, 17, 1, first, 1, 1);
        check(16, 1, 256, 0, first, 0, 0); /* zeros: eps alone keeps it finite */
        check(16, 2, 64, 0, first, 0, 1e3);
        check(1000, 2, 32, 1, first, 0, 1);
        check(300, 3, 4, 0, first, 0, 1);
        check(20, 3, 260, 0, first, 0, 1);
        check(9, 2, 524, 1, first, 0, 1);
        check(5, 2, 1100, 0, first, 0, 1);
        check(2, 1, 8200, 0, first, 0, 1);
    }
    struct kn_dev *dev = kt_cpu[0][0];
    struct kt x = kt_new(2, (int64_t[]){3, 8}, NULL, 1, 1), w = kt_new(1, (int64_t[]){4}, NULL, 1, 2), r = kt_new(2, (int64_t[]){3, 2}, NULL, 1, 3);
    is_int(dev->op->gatednorm(dev, kt_f(&x), kt_f(&x), kt_f(&w), 2, 1e-5, 0, kt_f(&x), kt_f(&r)), ST_EINVAL, "w of neither length");
    is_int(dev->op->gatednorm(dev, kt_f(&x), kt_f(&x), kt_f(&w), 3, 1e-5, 0, kt_f(&x), kt_f(&r)), ST_EINVAL, "a group that does not divide");
    is_int(dev->op->gatednorm(dev, kt_d(&x), kt_d(&x), kt_d(&w), 4, 1e-5, 0, kt_d(&x), kt_d(&r)), ST_ENOTSUP, "f64");
    struct kn_tensor halved = x.t;
    halved.dtype = KN_BF16;
    is_int(dev->op->gatednorm(dev, &halved, kt_f(&x), kt_f(&w), 4, 1e-5, 0, kt_f(&x), kt_f(&r)), ST_EINVAL, "x in bf16");
    kt_free(&x);
    kt_free(&w);
    kt_free(&r);
    kt_close();
    return tap_done();
}
