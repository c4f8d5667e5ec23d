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

/* Rows of f numbers, wide apart, in bf16: a piece of wider ones. */
struct halves {
    int n, f, wide, all; /* all: numbers of memory */
};

static struct kn_tensor half_of(const struct halves *s, uint16_t *p)
{
    return (struct kn_tensor){p, KN_BF16, 2, {s->n, s->f}, {s->wide, 1}};
}

/* h of the backward has the forward's bits in bf16 too, in memory of its own and in dh's; where it is not wanted dh stays and the gradients are the same. */
static void halves_again(struct kn_dev *dev, const struct halves *s)
{
    enum { G, U, DH, H, DG, DU, AGAIN, ALL };
    uint16_t *m[ALL], *keep[DH + 1];
    size_t bytes = sizeof *m[0] * (size_t)s->all;
    struct kn_tensor t[ALL];
    struct base_rng r = base_rng_at(2, RNG_TEST, 0);
    for (int i = 0; i < ALL; i++) m[i] = kt_mem(bytes), t[i] = half_of(s, m[i]);
    for (int i = 0; i <= DH; i++) keep[i] = kt_mem(bytes);
    for (int k = 0; k < s->all; k++) {
        for (int i = 0; i <= DH; i++) m[i][k] = kt_round((float)(3 * base_rng_normal(&r)));
        for (int i = H; i < ALL; i++) m[i][k] = k % s->wide < s->f ? 0x5555 : m[i == DG ? G : i == DU ? U : DH][k];
    }
    for (int i = 0; i <= DH; i++) memcpy(keep[i], m[i], bytes);
    int bad = dev->op->swiglu(dev, &t[G], &t[U], &t[H]) || dev->op->swiglu_bwd(dev, &t[G], &t[U], &t[DH], &t[DG], &t[DU], &t[AGAIN]);
    ok(!bad && !memcmp(m[AGAIN], m[H], bytes) && !memcmp(m[DH], keep[DH], bytes), "bf16 in memory: the same h twice");
    for (int wanted = 1; wanted >= 0; wanted--) {
        bad = dev->op->swiglu_bwd(dev, &t[G], &t[U], &t[DH], &t[G], &t[U], wanted ? &t[DH] : NULL);
        ok(!bad && !memcmp(m[G], m[DG], bytes) && !memcmp(m[U], m[DU], bytes) && !memcmp(m[DH], wanted ? m[H] : keep[DH], bytes),
           "bf16 in memory: in place, h %s", wanted ? "in dh's memory" : "not wanted");
        for (int i = 0; i <= DH; i++) memcpy(m[i], keep[i], bytes);
    }
    for (int i = 0; i < ALL; i++) kt_mem_free(m[i]);
    for (int i = 0; i <= DH; i++) kt_mem_free(keep[i]);
}

/* Against the reference on the same numbers. */
static void halves(int f, int wide)
{
    struct kn_dev *dev = kt_cpu[KT_ISAS - 1][1];
    if (!dev || kn_precision(dev, KN_BF16)) {
        tap_skip("no bf16");
        return;
    }
    struct halves s = {37, f, wide, 37 * wide};
    size_t bytes = sizeof(uint16_t) * (size_t)s.all;
    uint16_t *m[2][3];
    double worst = 0;
    struct base_rng r = base_rng_at(1, RNG_TEST, 0);
    for (int i = 0; i < 3; i++) {
        m[0][i] = kt_mem(bytes), m[1][i] = kt_mem(bytes);
        for (int k = 0; k < s.all; k++) {
            float v = (float)(3 * base_rng_normal(&r));
            uint32_t u;
            memcpy(&u, &v, 4);
            m[0][i][k] = m[1][i][k] = (uint16_t)(u >> 16);
        }
    }
    kn_precision(kt_ref, KN_BF16);
    for (int back = 0; back < 2; back++) {
        int bad = 0, outside = 0;
        for (int i = 0; i < 2; i++) {
            struct kn_tensor t[3];
            struct kn_dev *d = i ? dev : kt_ref;
            for (int k = 0; k < 3; k++) t[k] = half_of(&s, m[i][k]);
            bad |= back ? d->op->swiglu_bwd(d, &t[0], &t[1], &t[2], &t[0], &t[1], &t[2]) : d->op->swiglu(d, &t[0], &t[1], &t[2]);
        }
        for (int t = 0; t < 3; t++)
            for (int k = 0; k < s.all; k++) {
                uint32_t a = (uint32_t)m[0][t][k] << 16, b = (uint32_t)m[1][t][k] << 16;
                float x, y;
                memcpy(&x, &a, 4), memcpy(&y, &b, 4);
                double e = fabs(x - y) / fmax(fabs(x), 1e-30);
                if (k % wide >= f) outside += x != y;
                else if (e == e) worst = fmax(worst, e);
                else bad = 1;
            }
        for (int t = 0; t < 3; t++) memcpy(m[1][t], m[0][t], bytes);
        ok(!bad && !outside && worst <= 1.0 / 128, "bf16 in memory, %d of %d, %s (worst %.1e)", f, wide, back ? "backward in place" : "forward", worst);
    }
    halves_again(dev, &s);
    kn_precision(kt_ref, KN_F32), kn_precision(dev, KN_F32);
    for (int i = 0; i < 6; i++) kt_mem_free(m[i / 3][i % 3]);
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

    halves(100, 203);
    halves(96, 200); /* whole lots of 16 bytes */
    halves(45, 45);  /* one row, and some of it left */

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
