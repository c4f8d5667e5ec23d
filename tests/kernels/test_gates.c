/* The gates of linear recurrences and their backwards. */
#include "tests/kernels/gradcheck.h"
#include "tests/kernels/kntest.h"

struct call {
    struct kt a, b, a_log, bias, g, beta, dg, dbeta, da, db, dlog, dbias;
};

static st_t forward(struct kn_dev *dev, int ref, void *arg)
{
    struct call *c = arg;
    const struct kn_tensor *(*of)(struct kt *) = ref ? kt_d : kt_f;
    return dev->op->delta_gates(dev, of(&c->a), of(&c->b), of(&c->a_log), of(&c->bias), of(&c->g), of(&c->beta));
}

static st_t backward(struct kn_dev *dev, int ref, void *arg)
{
    struct call *c = arg;
    const struct kn_tensor *(*of)(struct kt *) = ref ? kt_d : kt_f;
    return dev->op->delta_gates_bwd(dev, of(&c->a), of(&c->b), of(&c->a_log), of(&c->bias), of(&c->dg), of(&c->dbeta), of(&c->da), of(&c->db),
                                    of(&c->dlog), of(&c->dbias));
}

/* da and db in the memory of a and b */
static st_t in_place(struct kn_dev *dev, int ref, void *arg)
{
    struct call *c = arg;
    const struct kn_tensor *(*of)(struct kt *) = ref ? kt_d : kt_f;
    return dev->op->delta_gates_bwd(dev, of(&c->a), of(&c->b), of(&c->a_log), of(&c->bias), of(&c->dg), of(&c->dbeta), of(&c->a), of(&c->b),
                                    of(&c->dlog), of(&c->dbias));
}

static st_t logs(struct kn_dev *dev, int ref, void *arg)
{
    struct call *c = arg;
    const struct kn_tensor *(*of)(struct kt *) = ref ? kt_d : kt_f;
    st_t st = dev->op->logsigmoid(dev, of(&c->a), 0.0625, of(&c->g));
    if (!st) st = dev->op->logsigmoid_bwd(dev, of(&c->a), 0.0625, of(&c->dg), of(&c->da));
    return st ? st : dev->op->logsigmoid_bwd(dev, of(&c->a), 0.0625, of(&c->dbeta), of(&c->dbeta));
}

static void check(int64_t n, int64_t h, int strided, double amp)
{
    int64_t nh[] = {n, h}, wide[] = {3 * h + 1, 1}, two[] = {2};
    const int64_t *s = strided ? wide : NULL, *one = strided ? two : NULL;
    struct call c = {kt_new(2, nh, s, amp, 1),     kt_new(2, nh, s, amp, 2), kt_new(1, nh + 1, one, 1, 3), kt_new(1, nh + 1, one, 1, 4),
                     kt_new(2, nh, s, 1, 5),       kt_new(2, nh, s, 1, 6),   kt_new(2, nh, s, 1, 7),       kt_new(2, nh, s, 1, 8),
                     kt_new(2, nh, s, 1, 9),       kt_new(2, nh, s, 1, 10),  kt_new(1, nh + 1, one, 1, 11), kt_new(1, nh + 1, one, 1, 12)};
    char what[96];
    snprintf(what, sizeof what, "%d x %d strides %d amplitude %g", (int)n, (int)h, strided, amp);
    kt_compare(what, forward, &c, (struct kt *const[]){&c.g, &c.beta}, 2, 1e-12);
    kt_compare(what, backward, &c, (struct kt *const[]){&c.da, &c.db, &c.dlog, &c.dbias}, 4, 1e-11);
    kt_compare(what, in_place, &c, (struct kt *const[]){&c.a, &c.b, &c.dlog, &c.dbias}, 4, 1e-11);
    kt_reset(&c.a);
    kt_compare(what, logs, &c, (struct kt *const[]){&c.g, &c.da, &c.dbeta}, 3, 1e-12);
    struct kt *all[] = {&c.a, &c.b, &c.a_log, &c.bias, &c.g, &c.beta, &c.dg, &c.dbeta, &c.da, &c.db, &c.dlog, &c.dbias};
    for (int i = 0; i < 12; i++) kt_free(all[i]);
}

enum { N = 4, H = 3 };

struct grad {
    double *a, *b, *a_log, *bias, *g, *beta, *dg, *dbeta;
};

static double value(void *arg)
{
    struct grad *c = arg;
    struct kn_tensor a = kn_t2(c->a, KN_F64, N, H), b = kn_t2(c->b, KN_F64, N, H), l = kn_t1(c->a_log, KN_F64, H), t = kn_t1(c->bias, KN_F64, H);
    struct kn_tensor g = kn_t2(c->g, KN_F64, N, H), e = kn_t2(c->beta, KN_F64, N, H);
    if (kt_ref->op->delta_gates(kt_ref, &a, &b, &l, &t, &g, &e)) return NAN;
    return grad_contract(c->g, c->dg, N * H) + grad_contract(c->beta, c->dbeta, N * H);
}

static double log_value(void *arg)
{
    struct grad *c = arg;
    struct kn_tensor a = kn_t2(c->a, KN_F64, N, H), g = kn_t2(c->g, KN_F64, N, H);
    return kt_ref->op->logsigmoid(kt_ref, &a, 0.5, &g) ? NAN : grad_contract(c->g, c->dg, N * H);
}

static void gradients(void)
{
    struct grad c = {grad_random(N * H, 1), grad_random(N * H, 2), grad_random(H, 3),     grad_random(H, 4),
                     grad_random(N * H, 5), grad_random(N * H, 6), grad_random(N * H, 7), grad_random(N * H, 8)};
    double *da = grad_random(N * H, 9), *db = grad_random(N * H, 10), *dl = calloc(H, sizeof *dl), *dt = calloc(H, sizeof *dt);
    struct kn_tensor a = kn_t2(c.a, KN_F64, N, H), b = kn_t2(c.b, KN_F64, N, H), l = kn_t1(c.a_log, KN_F64, H), t = kn_t1(c.bias, KN_F64, H);
    struct kn_tensor dg = kn_t2(c.dg, KN_F64, N, H), de = kn_t2(c.dbeta, KN_F64, N, H), ta = kn_t2(da, KN_F64, N, H), tb = kn_t2(db, KN_F64, N, H),
                     tl = kn_t1(dl, KN_F64, H), tt = kn_t1(dt, KN_F64, H);
    is_int(kt_ref->op->delta_gates_bwd(kt_ref, &a, &b, &l, &t, &dg, &de, &ta, &tb, &tl, &tt), ST_OK, "backward");
    double e[4] = {grad_check(value, &c, c.a, da, N * H), grad_check(value, &c, c.b, db, N * H), grad_check(value, &c, c.a_log, dl, H),
                   grad_check(value, &c, c.bias, dt, H)};
    ok(fmax(fmax(e[0], e[1]), fmax(e[2], e[3])) < 1e-8, "da, db, da_log, ddt_bias (%.0e %.0e %.0e %.0e)", e[0], e[1], e[2], e[3]);
    is_int(kt_ref->op->logsigmoid_bwd(kt_ref, &a, 0.5, &dg, &ta), ST_OK, "backward of the logarithm");
    double x = grad_check(log_value, &c, c.a, da, N * H);
    ok(x < 1e-8, "dx (%.0e)", x);
    double *all[] = {c.a, c.b, c.a_log, c.bias, c.g, c.beta, c.dg, c.dbeta, da, db, dl, dt};
    for (int i = 0; i < 12; i++) free(all[i]);
}

/* softplus(0) = ln 2; far out it is the identity, or e^x: relative accuracy stays on the way down. */
static void by_hand(struct kn_dev *dev, const char *name)
{
    float *a = kt_mem(4 * sizeof *a), *y = kt_mem(4 * sizeof *y);
    memcpy(a, (float[]){0, 80, -80, -20}, 4 * sizeof *a);
    struct kn_tensor x = kn_t2(a, KN_F32, 1, 4), out = kn_t2(y, KN_F32, 1, 4);
    is_int(dev->op->logsigmoid(dev, &x, 1, &out), ST_OK, "%s: log sigmoid", name);
    is_near((double)y[0], -log(2), 1e-7, "%s: of 0", name);
    is_near((double)y[1] * exp(80), -1, 1e-5, "%s: of 80", name);
    is_near((double)y[2], -80, 1e-5, "%s: of -80", name);
    is_near((double)y[3], -20, 1e-6, "%s: of -20", name);
    kt_mem_free(a), kt_mem_free(y);
}

int main(void)
{
    kt_open();
    gradients();
    check(1, 1, 0, 1);
    check(37, 4, 0, 1);
    check(300, 5, 1, 3);
    check(2000, 16, 0, 1);
    check(50, 33, 1, 30);
    for (int i = 0; i < KT_ISAS; i++)
        if (kt_cpu[i][0]) by_hand(kt_cpu[i][0], kt_isa[i]);
    struct kn_dev *dev = kt_cpu[0][0];
    struct kt a = kt_new(2, (int64_t[]){3, 8}, NULL, 1, 1), w = kt_new(1, (int64_t[]){7}, NULL, 1, 2), v = kt_new(1, (int64_t[]){8}, NULL, 1, 2);
    is_int(dev->op->delta_gates(dev, kt_f(&a), kt_f(&a), kt_f(&w), kt_f(&v), kt_f(&a), kt_f(&a)), ST_EINVAL, "a_log of another length");
    is_int(dev->op->delta_gates(dev, kt_d(&a), kt_d(&a), kt_d(&v), kt_d(&v), kt_d(&a), kt_d(&a)), ST_ENOTSUP, "f64");
    kt_free(&a);
    kt_free(&w);
    kt_free(&v);
    kt_close();
    return tap_done();
}
