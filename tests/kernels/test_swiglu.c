/* SwiGLU and its backward. */
#include "tests/kernels/kntest.h"

struct call {
    struct kt g, u, h, dh, dg, du, again; /* again: h of the backward */
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
    return dev->op->swiglu_bwd(dev, of(&c->g), of(&c->u), of(&c->dh), of(&c->dg), of(&c->du), of(&c->again));
}

static st_t without_h(struct kn_dev *dev, int ref, void *arg)
{
    struct call *c = arg;
    const struct kn_tensor *(*of)(struct kt *) = ref ? kt_d : kt_f;
    return dev->op->swiglu_bwd(dev, of(&c->g), of(&c->u), of(&c->dh), of(&c->dg), of(&c->du), NULL);
}

/* dg, du and h in the memory of g, u and dh */
static st_t in_place(struct kn_dev *dev, int ref, void *arg)
{
    struct call *c = arg;
    const struct kn_tensor *(*of)(struct kt *) = ref ? kt_d : kt_f;
    return dev->op->swiglu_bwd(dev, of(&c->g), of(&c->u), of(&c->dh), of(&c->g), of(&c->u), of(&c->dh));
}

/* h of the backward has the forward's bits. c->h and c->again began alike, gaps included. */
static void check_again(struct call *c, const char *what)
{
    for (int i = 0; i < KT_ISAS; i++) {
        struct kn_dev *dev = kt_cpu[i][0];
        if (!dev) continue;
        kt_reset(&c->h), kt_reset(&c->again), kt_reset(&c->dh);
        int bad = forward(dev, 0, c) || backward(dev, 0, c);
        ok(!bad && !memcmp(c->h.f, c->again.f, (size_t)c->h.n * sizeof(float)), "%s: %s makes the same h twice", what, kt_isa[i]);
    }
}

static void check(int64_t n, int64_t f, int strided, double amp)
{
    int64_t nf[] = {n, f}, wide[] = {2 * f + 3, 1}, apart[] = {3 * f, 3};
    const int64_t *s = strided == 0 ? NULL : strided == 1 ? wide : apart;
    struct call c = {kt_new(2, nf, s, amp, 1), kt_new(2, nf, s, 1, 2), kt_new(2, nf, s, 1, 3),
                     kt_new(2, nf, s, 1, 4),   kt_new(2, nf, s, 1, 5), kt_new(2, nf, s, 1, 6), kt_new(2, nf, s, 1, 3)};
    char what[96];
    snprintf(what, sizeof what, "%d x %d strides %d amplitude %g", (int)n, (int)f, strided, amp);
    kt_compare(what, forward, &c, (struct kt *const[]){&c.h}, 1, 1e-11);
    kt_compare(what, backward, &c, (struct kt *const[]){&c.dg, &c.du, &c.again}, 3, 1e-11);
    kt_compare(what, without_h, &c, (struct kt *const[]){&c.dg, &c.du}, 2, 1e-11);
    check_again(&c, what);
    kt_compare(what, in_place, &c, (struct kt *const[]){&c.g, &c.u, &c.dh}, 3, 1e-11);
    struct kt *all[] = {&c.g, &c.u, &c.h, &c.dh, &c.dg, &c.du, &c.again};
    for (int i = 0; i < 7; i++) kt_free(all[i]);
}

enum { N = 37, F = 100, WIDE = 2 * F + 3 };

/* h of the backward has the forward's bits in bf16 too, in memory of its own and in dh's; where it is not wanted dh stays and the gradients are the same. */
static void halves_again(struct kn_dev *dev)
{
    enum { G, U, DH, H, DG, DU, AGAIN, ALL };
    static uint16_t m[ALL][N * WIDE], dh[N * WIDE];
    struct kn_tensor t[ALL];
    struct base_rng r = base_rng_at(2, RNG_TEST, 0);
    for (int k = 0; k < N * WIDE; k++) {
        for (int i = 0; i <= DH; i++) m[i][k] = kt_round((float)(3 * base_rng_normal(&r)));
        for (int i = H; i < ALL; i++) m[i][k] = k % WIDE < F ? 0x5555 : m[i == DG ? G : i == DU ? U : DH][k];
    }
    for (int i = 0; i < ALL; i++) t[i] = (struct kn_tensor){m[i], KN_BF16, 2, {N, F}, {WIDE, 1}};
    memcpy(dh, m[DH], sizeof dh);
    int bad = dev->op->swiglu(dev, &t[G], &t[U], &t[H]) || dev->op->swiglu_bwd(dev, &t[G], &t[U], &t[DH], &t[DG], &t[DU], &t[AGAIN]);
    ok(!bad && !memcmp(m[AGAIN], m[H], sizeof m[H]) && !memcmp(m[DH], dh, sizeof dh), "bf16 in memory: the same h twice");
    for (int wanted = 1; wanted >= 0; wanted--) {
        static uint16_t keep[DH + 1][N * WIDE];
        memcpy(keep, m, sizeof keep);
        bad = dev->op->swiglu_bwd(dev, &t[G], &t[U], &t[DH], &t[G], &t[U], wanted ? &t[DH] : NULL);
        ok(!bad && !memcmp(m[G], m[DG], sizeof m[G]) && !memcmp(m[U], m[DU], sizeof m[U]) && !memcmp(m[DH], wanted ? m[H] : dh, sizeof dh),
           "bf16 in memory: in place, h %s", wanted ? "in dh's memory" : "not wanted");
        memcpy(m, keep, sizeof keep);
    }
}

/* Rows that are bf16 in memory, a piece of wider ones, against the reference on the same numbers. */
static void halves(void)
{
    struct kn_dev *dev = kt_cpu[KT_ISAS - 1][1];
    if (!dev || kn_precision(dev, KN_BF16)) {
        tap_skip("no bf16");
        return;
    }
    static uint16_t m[2][3][N * WIDE];
    double worst = 0;
    struct base_rng r = base_rng_at(1, RNG_TEST, 0);
    for (int i = 0; i < 3; i++)
        for (int k = 0; k < N * WIDE; k++) {
            float f = (float)(3 * base_rng_normal(&r));
            uint32_t u;
            memcpy(&u, &f, 4);
            m[0][i][k] = m[1][i][k] = (uint16_t)(u >> 16);
        }
    kn_precision(kt_ref, KN_BF16);
    for (int back = 0; back < 2; back++) {
        int bad = 0, outside = 0;
        for (int i = 0; i < 2; i++) {
            struct kn_tensor t[3];
            struct kn_dev *d = i ? dev : kt_ref;
            for (int k = 0; k < 3; k++) t[k] = (struct kn_tensor){m[i][k], KN_BF16, 2, {N, F}, {WIDE, 1}};
            bad |= back ? d->op->swiglu_bwd(d, &t[0], &t[1], &t[2], &t[0], &t[1], &t[2]) : d->op->swiglu(d, &t[0], &t[1], &t[2]);
        }
        for (int t = 0; t < 3; t++)
            for (int k = 0; k < N * WIDE; k++) {
                uint32_t a = (uint32_t)m[0][t][k] << 16, b = (uint32_t)m[1][t][k] << 16;
                float x, y;
                memcpy(&x, &a, 4), memcpy(&y, &b, 4);
                double e = fabs(x - y) / fmax(fabs(x), 1e-30);
                if (k % WIDE >= F) outside += x != y;
                else if (e == e) worst = fmax(worst, e);
                else bad = 1;
            }
        memcpy(m[1], m[0], sizeof m[0]);
        ok(!bad && !outside && worst <= 1.0 / 128, "bf16 in memory, %s (worst %.1e)", back ? "backward in place" : "forward", worst);
    }
    halves_again(dev);
    kn_precision(kt_ref, KN_F32), kn_precision(dev, KN_F32);
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

    halves();

    struct kn_dev *dev = kt_cpu[0][0];
    struct kt a = kt_new(2, (int64_t[]){3, 8}, NULL, 1, 1), b = kt_new(2, (int64_t[]){3, 9}, NULL, 1, 2);
    is_int(dev->op->swiglu(dev, kt_f(&a), kt_f(&b), kt_f(&a)), ST_EINVAL, "u of another width");
    is_int(dev->op->swiglu(dev, kt_d(&a), kt_d(&a), kt_d(&a)), ST_ENOTSUP, "f64");
    is_int(dev->op->swiglu_bwd(dev, kt_f(&a), kt_f(&a), kt_f(&a), kt_f(&b), kt_f(&a), NULL), ST_EINVAL,
           "dg of another width");
    is_int(dev->op->swiglu_bwd(dev, kt_f(&a), kt_f(&a), kt_f(&a), kt_f(&a), kt_f(&a), NULL), ST_OK, "h not wanted");
    is_int(dev->op->swiglu_bwd(dev, kt_f(&a), kt_f(&a), kt_f(&a), kt_f(&a), kt_f(&a), kt_f(&b)), ST_EINVAL, "h of another width");
    kt_free(&a);
    kt_free(&b);
    kt_close();
    return tap_done();
}
