/* SwiGLU and its backward. */
#include "tests/kernels/kntest.h"

struct call {
    struct kt g, u, h, dh, dg, du;
};

static st_t forward(struct kn_dev *dev, int ref, void *arg)
{
    struct call *c = arg;
    const struct kn_tensor *(*of)(struct kt *) = ref ? kt_d : kt_f;
    return dev->op->swiglu(dev, of(&c->g), of(&c->u), of(&c->h));
}

static st_t backward(struct kn_dev *dev, int ref, void *arg)
{
    struct call *c = arg;
    const struct kn_tensor *(*of)(struct kt *) = ref ? kt_d : kt_f;
    return dev->op->swiglu_bwd(dev, of(&c->g), of(&c->u), of(&c->dh), of(&c->dg), of(&c->du));
}

/* dg and du in the memory of g and u */
static st_t in_place(struct kn_dev *dev, int ref, void *arg)
{
    struct call *c = arg;
    const struct kn_tensor *(*of)(struct kt *) = ref ? kt_d : kt_f;
    return dev->op->swiglu_bwd(dev, of(&c->g), of(&c->u), of(&c->dh), of(&c->g), of(&c->u));
}

static void check(int64_t n, int64_t f, int strided, double amp)
{
    int64_t nf[] = {n, f}, wide[] = {2 * f + 3, 1}, apart[] = {3 * f, 3};
    const int64_t *s = strided == 0 ? NULL : strided == 1 ? wide : apart;
    struct call c = {kt_new(2, nf, s, amp, 1), kt_new(2, nf, s, 1, 2), kt_new(2, nf, s, 1, 3),
                     kt_new(2, nf, s, 1, 4),   kt_new(2, nf, s, 1, 5), kt_new(2, nf, s, 1, 6)};
    char what[96];
    snprintf(what, sizeof what, "%d x %d strides %d amplitude %g", (int)n, (int)f, strided, amp);
    kt_compare(what, forward, &c, (struct kt *const[]){&c.h}, 1, 1e-11);
    kt_compare(what, backward, &c, (struct kt *const[]){&c.dg, &c.du}, 2, 1e-11);
    kt_compare(what, in_place, &c, (struct kt *const[]){&c.g, &c.u}, 2, 1e-11);
    struct kt *all[] = {&c.g, &c.u, &c.h, &c.dh, &c.dg, &c.du};
    for (int i = 0; i < 6; i++) kt_free(all[i]);
}

int main(void)
{
    kt_open();
    check(1, 1, 0, 1);
    check(1, 1408, 0, 1);
    check(37, 100, 0, 1);
    check(64, 704, 1, 1);
    check(50, 37, 1, 3);
    check(21, 40, 2, 1);
    check(16, 64, 0, 100); /* sigmoids of 0 and 1 */
    check(16, 64, 0, 1e4);

    struct kn_dev *dev = kt_cpu[0][0];
    struct kt a = kt_new(2, (int64_t[]){3, 8}, NULL, 1, 1), b = kt_new(2, (int64_t[]){3, 9}, NULL, 1, 2);
    is_int(dev->op->swiglu(dev, kt_f(&a), kt_f(&b), kt_f(&a)), ST_EINVAL, "u of another width");
    is_int(dev->op->swiglu(dev, kt_d(&a), kt_d(&a), kt_d(&a)), ST_ENOTSUP, "f64");
    is_int(dev->op->swiglu_bwd(dev, kt_f(&a), kt_f(&a), kt_f(&a), kt_f(&b), kt_f(&a)), ST_EINVAL,
           "dg of another width");
    kt_free(&a);
    kt_free(&b);
    kt_close();
    return tap_done();
}
