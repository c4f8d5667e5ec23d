/* Activations with their bias, and their backward. */
#include "tests/kernels/kntest.h"

struct call {
    struct kt x, bias, y, dy, dx;
    int kind, biased;
};

static const char *const name[KN_ACT_COUNT] = {"relu2", "gelu"};

static st_t forward(struct kn_dev *dev, int ref, void *arg)
{
    struct call *c = arg;
    const struct kn_tensor *(*of)(struct kt *) = ref ? kt_d : kt_f;
    return dev->op->act(dev, c->kind, of(&c->x), c->biased ? of(&c->bias) : NULL, of(&c->y));
}

static st_t backward(struct kn_dev *dev, int ref, void *arg)
{
    struct call *c = arg;
    const struct kn_tensor *(*of)(struct kt *) = ref ? kt_d : kt_f;
    return dev->op->act_bwd(dev, c->kind, of(&c->x), of(&c->dy), of(&c->dx));
}

/* y in the memory of x, then dx in that of dy */
static st_t in_place(struct kn_dev *dev, int ref, void *arg)
{
    struct call *c = arg;
    const struct kn_tensor *(*of)(struct kt *) = ref ? kt_d : kt_f;
    st_t st = dev->op->act_bwd(dev, c->kind, of(&c->x), of(&c->dy), of(&c->dy));
    return st ? st : dev->op->act(dev, c->kind, of(&c->x), NULL, of(&c->x));
}

static void check(int64_t n, int64_t f, int biased, int strided, double amp)
{
    int64_t nf[] = {n, f}, wide[] = {2 * f + 3, 1}, apart[] = {3 * f, 3}, two[] = {2};
    const int64_t *s = strided == 0 ? NULL : strided == 1 ? wide : apart;
    for (int kind = 0; kind < KN_ACT_COUNT; kind++) {
        struct call c = {kt_new(2, nf, s, amp, 1), kt_new(1, nf + 1, strided == 2 ? two : NULL, amp, 2),
                         kt_new(2, nf, s, 1, 3),   kt_new(2, nf, s, 1, 4),
                         kt_new(2, nf, s, 1, 5),   kind,
                         biased};
        char what[96];
        snprintf(what, sizeof what, "%s %d x %d%s strides %d amplitude %g", name[kind], (int)n, (int)f,
                 biased ? " bias" : "", strided, amp);
        kt_compare(what, forward, &c, (struct kt *const[]){&c.x, &c.y}, 2, 1e-11);
        kt_compare(what, backward, &c, (struct kt *const[]){&c.dx}, 1, 1e-11);
        kt_compare(what, in_place, &c, (struct kt *const[]){&c.x, &c.dy}, 2, 1e-11);
        struct kt *all[] = {&c.x, &c.bias, &c.y, &c.dy, &c.dx};
        for (int i = 0; i < 5; i++) kt_free(all[i]);
    }
}

/* The reference's derivative by central differences; values worked out by hand. */
static void check_formulas(void)
{
    double far = 0, x, y, d, up, down, h = 1e-6, one = 1;
    struct kn_tensor tx = kn_t2(&x, KN_F64, 1, 1), ty = kn_t2(&y, KN_F64, 1, 1), td = kn_t2(&d, KN_F64, 1, 1),
                     t1 = kn_t2(&one, KN_F64, 1, 1);
    for (int kind = 0; kind < KN_ACT_COUNT; kind++)
        for (double at = -6; at <= 6; at += 0.37) {
            x = at + h, kt_ref->op->act(kt_ref, kind, &tx, NULL, &ty), up = y;
            x = at - h, kt_ref->op->act(kt_ref, kind, &tx, NULL, &ty), down = y;
            x = at, kt_ref->op->act_bwd(kt_ref, kind, &tx, &t1, &td);
            far = fmax(far, fabs((up - down) / (2 * h) - d));
        }
    ok(far < 1e-8, "derivatives (%.1e)", far);
    x = 1.5, kt_ref->op->act(kt_ref, KN_RELU2, &tx, NULL, &ty);
    is_near(y, 2.25, 0, "relu2(1.5)");
    x = -1.5, kt_ref->op->act(kt_ref, KN_RELU2, &tx, NULL, &ty);
    is_near(y, 0, 0, "relu2(-1.5)");
    /* torch.nn.functional.gelu(x, approximate="tanh") in double */
    x = 1.5, kt_ref->op->act(kt_ref, KN_GELU, &tx, NULL, &ty);
    is_near(y, 1.3995715769802328, 1e-15, "gelu(1.5)");
    x = -0.7, kt_ref->op->act(kt_ref, KN_GELU, &tx, NULL, &ty);
    is_near(y, -0.16942986529488321, 1e-15, "gelu(-0.7)");
}

int main(void)
{
    kt_open();
    check_formulas();
    check(1, 1, 1, 0, 1);
    check(1, 1408, 0, 0, 1);
    check(37, 100, 1, 0, 1);
    check(64, 704, 0, 1, 1);
    check(50, 37, 1, 1, 3);
    check(21, 40, 1, 2, 1);
    check(16, 64, 0, 0, 100); /* gates of 0 and 1 */
    check(16, 64, 1, 0, 1e4);

    struct kn_dev *dev = kt_cpu[0][0];
    struct kt a = kt_new(2, (int64_t[]){3, 8}, NULL, 1, 1), b = kt_new(2, (int64_t[]){3, 9}, NULL, 1, 2),
              v = kt_new(1, (int64_t[]){9}, NULL, 1, 3);
    is_int(dev->op->act(dev, KN_GELU, kt_f(&a), kt_f(&v), kt_f(&a)), ST_EINVAL, "a bias of another width");
    is_int(dev->op->act(dev, KN_GELU, kt_f(&a), NULL, kt_f(&b)), ST_EINVAL, "y of another width");
    is_int(dev->op->act(dev, KN_ACT_COUNT, kt_f(&a), NULL, kt_f(&a)), ST_EINVAL, "an activation that there is not");
    is_int(dev->op->act(dev, KN_RELU2, kt_d(&a), NULL, kt_d(&a)), ST_ENOTSUP, "f64");
    is_int(dev->op->act_bwd(dev, KN_RELU2, kt_f(&a), kt_f(&b), kt_f(&a)), ST_EINVAL, "dy of another width");
    kt_free(&a);
    kt_free(&b);
    kt_free(&v);
    kt_close();
    return tap_done();
}
