/* LayerNorm with residual, and its backward. */
#include "tests/kernels/kntest.h"

struct call {
    struct kt x, r, w, b, y, mean, rstd, dy, dx, dw, db;
    int residual;
};

static st_t run(struct kn_dev *dev, int ref, void *arg)
{
    struct call *c = arg;
    const struct kn_tensor *(*of)(struct kt *) = ref ? kt_d : kt_f;
    st_t st = dev->op->layernorm(dev, of(&c->x), c->residual ? of(&c->r) : NULL, of(&c->w), of(&c->b), 1e-5, of(&c->y),
                                 of(&c->mean), of(&c->rstd));
    return st ? st
              : dev->op->layernorm_bwd(dev, of(&c->x), of(&c->w), of(&c->mean), of(&c->rstd), of(&c->dy), of(&c->dx),
                                       of(&c->dw), of(&c->db));
}

static void check(int64_t n, int64_t d, int residual, int strided, double amp, double tol)
{
    int64_t nd[] = {n, d}, wide[] = {d + 5, 1}, apart[] = {2 * d + 1, 2}, two[] = {2};
    const int64_t *s = strided == 1 ? wide : strided == 2 ? apart : NULL, *alone = strided == 3 ? wide : s, *v = strided == 2 ? two : NULL;
    struct call c = {
        .x = kt_new(2, nd, s, amp, 1),
        .r = kt_new(2, nd, s, amp, 2),
        .w = kt_new(1, nd + 1, v, 1, 3),
        .b = kt_new(1, nd + 1, v, 1, 9),
        .y = kt_new(2, nd, alone, 1, 4), /* strided = 3: it and dx alone */
        .mean = kt_new(1, nd, strided ? two : NULL, 1, 10),
        .rstd = kt_new(1, nd, strided ? two : NULL, 1, 5),
        .dy = kt_new(2, nd, s, 1, 6),
        .dx = kt_new(2, nd, alone, 1, 7),
        .dw = kt_new(1, nd + 1, v, 1, 8),
        .db = kt_new(1, nd + 1, v, 1, 11),
        .residual = residual,
    };
    char what[96];
    snprintf(what, sizeof what, "%d x %d%s strides %d amplitude %g", (int)n, (int)d, residual ? " residual" : "",
             strided, amp);
    kt_compare(what, run, &c, (struct kt *const[]){&c.x, &c.y, &c.mean, &c.rstd, &c.dx, &c.dw, &c.db}, 7, tol);
    struct kt *all[] = {&c.x, &c.r, &c.w, &c.b, &c.y, &c.mean, &c.rstd, &c.dy, &c.dx, &c.dw, &c.db};
    for (int i = 0; i < 11; i++) kt_free(all[i]);
}

/* A stream whose mean is a thousand times its spread: a variance from sums of squares would lose it. */
static void check_offset(void)
{
    enum { N = 7, D = 200 };
    struct kt x = kt_new(2, (int64_t[]){N, D}, NULL, 1, 1), w = kt_new(1, (int64_t[]){D}, NULL, 1, 2),
              b = kt_new(1, (int64_t[]){D}, NULL, 1, 3), mean = kt_new(1, (int64_t[]){N}, NULL, 1, 4),
              rstd = kt_new(1, (int64_t[]){N}, NULL, 1, 5), y = kt_new(2, (int64_t[]){N, D}, NULL, 1, 6);
    for (int i = 0; i < N * D; i++) x.f[i] += 1000, x.g[i] = x.f[i];
    ok(!kt_ref->op->layernorm(kt_ref, kt_d(&x), NULL, kt_d(&w), kt_d(&b), 1e-5, kt_d(&y), kt_d(&mean), kt_d(&rstd)), "far from 0");
    for (int i = 0; i < KT_ISAS; i++) {
        struct kn_dev *dev = kt_cpu[i][0];
        if (!dev) continue;
        dev->op->layernorm(dev, kt_f(&x), NULL, kt_f(&w), kt_f(&b), 1e-5, kt_f(&y), kt_f(&mean), kt_f(&rstd));
        ok(kt_nmse(&y) < 1e-7 && kt_nmse(&rstd) < 1e-7, "%s: as the reference (%.1e %.1e)", kt_isa[i], kt_nmse(&y), kt_nmse(&rstd));
    }
    struct kt *all[] = {&x, &w, &b, &mean, &rstd, &y};
    for (int i = 0; i < 6; i++) kt_free(all[i]);
}

/* ---- gradients of the reference by central differences ---- */

enum { G_N = 4, G_D = 6, G_ND = G_N * G_D };
struct grad {
    double x[G_ND], r[G_ND], w[G_D], b[G_D], y[G_ND], mean[G_N], rstd[G_N], dy[G_ND], dres[G_ND], sum[G_ND];
};

static double value(struct grad *c)
{
    memcpy(c->sum, c->x, sizeof c->sum);
    struct kn_tensor x = kn_t2(c->sum, KN_F64, G_N, G_D), r = kn_t2(c->r, KN_F64, G_N, G_D), w = kn_t1(c->w, KN_F64, G_D),
                     b = kn_t1(c->b, KN_F64, G_D), y = kn_t2(c->y, KN_F64, G_N, G_D), m = kn_t1(c->mean, KN_F64, G_N),
                     s = kn_t1(c->rstd, KN_F64, G_N);
    if (kt_ref->op->layernorm(kt_ref, &x, &r, &w, &b, 1e-3, &y, &m, &s)) return NAN;
    double sum = 0;
    for (int i = 0; i < G_ND; i++) sum += c->y[i] * c->dy[i] + c->sum[i] * c->dres[i];
    return sum;
}

static double worst(struct grad *c, double *p, const double *grad, int n)
{
    double far = 0, h = 1e-5;
    for (int i = 0; i < n; i++) {
        double keep = p[i], up, down;
        p[i] = keep + h, up = value(c);
        p[i] = keep - h, down = value(c);
        p[i] = keep;
        far = fmax(far, fabs((up - down) / (2 * h) - grad[i]));
    }
    return far;
}

static void check_gradients(void)
{
    struct grad c;
    double dx[G_ND], dw[G_D] = {1, 2, 3}, db[G_D] = {4, 5, 6}; /* dw and db add to what is there */
    struct base_rng rng = base_rng_at(12, RNG_TEST, 0);
    for (size_t i = 0; i < sizeof c / sizeof(double); i++) ((double *)&c)[i] = base_rng_normal(&rng);
    value(&c);
    memcpy(dx, c.dres, sizeof dx); /* dx starts as the residual path's gradient */
    struct kn_tensor x = kn_t2(c.sum, KN_F64, G_N, G_D), w = kn_t1(c.w, KN_F64, G_D), m = kn_t1(c.mean, KN_F64, G_N),
                     s = kn_t1(c.rstd, KN_F64, G_N), dy = kn_t2(c.dy, KN_F64, G_N, G_D), tx = kn_t2(dx, KN_F64, G_N, G_D),
                     tw = kn_t1(dw, KN_F64, G_D), tb = kn_t1(db, KN_F64, G_D);
    ok(!kt_ref->op->layernorm_bwd(kt_ref, &x, &w, &m, &s, &dy, &tx, &tw, &tb), "backward of the reference");
    for (int i = 0; i < 3; i++) dw[i] -= i + 1, db[i] -= i + 4;
    double ex = worst(&c, c.x, dx, G_ND), er = worst(&c, c.r, dx, G_ND), ew = worst(&c, c.w, dw, G_D), eb = worst(&c, c.b, db, G_D);
    ok(ex < 1e-8 && er < 1e-8 && ew < 1e-8 && eb < 1e-8, "dx, the residual's, dw, db (%.1e %.1e %.1e %.1e)", ex, er, ew, eb);
}

int main(void)
{
    kt_open();
    check_gradients();
    check(1, 1, 1, 0, 1, 1e-11);
    check(1, 256, 1, 0, 1, 1e-11);
    check(33, 20, 1, 0, 1, 1e-11);
    check(100, 64, 0, 0, 1, 1e-11);
    check(300, 129, 1, 1, 1, 1e-11);
    check(70, 515, 0, 1, 1, 1e-11);
    check(41, 48, 1, 2, 1, 1e-11);
    check(41, 48, 0, 3, 1, 1e-11);
    check(41, 33, 0, 2, 1, 1e-11);
    check(16, 128, 1, 0, 0, 1e-11); /* zeros: eps alone keeps it finite */
    check(16, 128, 1, 0, 1e4, 1e-11);
    check(2000, 64, 1, 0, 1, 1e-11);
    check(5, 4, 1, 0, 1, 1e-11);
    check(70, 260, 1, 0, 1, 1e-11); /* longer and longer rows, up to those that no block holds */
    check(150, 516, 1, 0, 1, 1e-11);
    check(9, 1164, 0, 0, 1, 1e-11);
    check(3, 4120, 1, 0, 1, 1e-11);
    check(2, 8200, 1, 0, 1, 1e-11);
    check_offset();

    struct kn_dev *dev = kt_cpu[0][0];
    struct kt x = kt_new(2, (int64_t[]){3, 8}, NULL, 1, 1), w = kt_new(1, (int64_t[]){7}, NULL, 1, 2),
              v = kt_new(1, (int64_t[]){8}, NULL, 1, 3);
    struct kt s = kt_new(1, (int64_t[]){3}, NULL, 1, 4), m = kt_new(1, (int64_t[]){3}, NULL, 1, 5);
    is_int(dev->op->layernorm(dev, kt_f(&x), NULL, kt_f(&v), kt_f(&w), 1e-5, kt_f(&x), kt_f(&m), kt_f(&s)), ST_EINVAL,
           "b of another width");
    is_int(dev->op->layernorm(dev, kt_f(&x), NULL, kt_f(&v), kt_f(&v), 1e-5, kt_f(&x), kt_f(&v), kt_f(&s)), ST_EINVAL,
           "mean of another length");
    is_int(dev->op->layernorm(dev, kt_d(&x), NULL, kt_d(&v), kt_d(&v), 1e-5, kt_d(&x), kt_d(&m), kt_d(&s)), ST_ENOTSUP,
           "f64");
    is_int(dev->op->layernorm_bwd(dev, kt_f(&x), kt_f(&v), kt_f(&m), kt_f(&s), kt_f(&x), kt_f(&x), kt_f(&v), kt_f(&w)),
           ST_EINVAL, "db of another width");
    struct kt *all[] = {&x, &w, &v, &s, &m};
    for (int i = 0; i < 5; i++) kt_free(all[i]);
    kt_close();
    return tap_done();
}
