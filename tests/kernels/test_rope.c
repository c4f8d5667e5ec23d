/* Rotary embedding: against the reference, there and back, and far out. */
#include "tests/kernels/kntest.h"

struct call {
    struct kt x;
    int64_t pos0;
    double theta;
    int inverse;
};

static st_t run(struct kn_dev *dev, int ref, void *arg)
{
    struct call *c = arg;
    return dev->op->rope(dev, ref ? kt_d(&c->x) : kt_f(&c->x), c->pos0, c->theta, c->inverse);
}

static void check(int64_t b, int64_t t, int64_t h, int64_t k, int64_t pos0, double theta, int inverse, int strided)
{
    int64_t d[] = {b, t, h, k}, s[] = {t * (h * k * 3 + 1) + 2, h * k * 3 + 1, k + 2, 1};
    struct call c = {kt_new(4, d, strided ? s : NULL, 1, 1), pos0, theta, inverse};
    char what[96];
    snprintf(what, sizeof what, "%d x %d x %d x %d from %d theta %g%s%s", (int)b, (int)t, (int)h, (int)k, (int)pos0,
             theta, inverse ? " back" : "", strided ? " strided" : "");
    kt_compare(what, run, &c, (struct kt *const[]){&c.x}, 1, 1e-13);
    kt_free(&c.x);
}

/* Numbers that are bf16: what the same give in f32, rounded once. */
static void halves(int64_t K, int64_t rows, int64_t apart)
{
    struct kn_dev *dev = kt_cpu[KT_ISAS - 1][1];
    if (!dev || kn_precision(dev, KN_BF16)) {
        tap_skip("no bf16");
        return;
    }
    struct base_rng r = base_rng_at(1, RNG_TEST, 0);
    int64_t row = 2 * K + apart, n = rows * row, bad = 0;
    float *f = kt_mem((size_t)n * sizeof *f);
    uint16_t *h = kt_mem((size_t)n * sizeof *h);
    for (int64_t i = 0; i < n; i++) {
        uint32_t u;
        f[i] = (float)base_rng_normal(&r);
        memcpy(&u, &f[i], 4);
        h[i] = (uint16_t)(u >> 16), u &= 0xffff0000u;
        memcpy(&f[i], &u, 4);
    }
    struct kn_tensor t = {f, KN_F32, 4, {1, rows, 2, K}, {n, row, K, 1}}, th = t;
    th.p = h, th.dtype = KN_BF16;
    st_t st = dev->op->rope(dev, &t, 3, 10000, 0);
    if (!st) st = dev->op->rope(dev, &th, 3, 10000, 0);
    kn_precision(dev, KN_F32);
    for (int64_t i = 0; i < n; i++) {
        uint32_t u;
        memcpy(&u, &f[i], 4);
        bad += h[i] != (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
    }
    ok(!st && !bad, "bf16 in memory, %d wide", (int)K);
    is_int(dev->op->rope(dev, &th, 3, 10000, 0), ST_ENOTSUP, "not under precision f32");
    kt_mem_free(f), kt_mem_free(h);
}

int main(void)
{
    kt_open();
    halves(64, 9, 3);
    halves(64, 9, 4);
    halves(32, 20, 3);
    halves(20, 30, 3);
    check(2, 37, 3, 32, 0, 10000, 0, 0);
    check(1, 5, 2, 2, 3, 10000, 0, 0);
    check(1, 40, 1, 4, 0, 10000, 1, 1);
    check(2, 9, 2, 20, 100, 500000, 0, 1);
    check(1, 300, 2, 64, 0, 10000, 0, 1);
    check(1, 7, 2, 80, 1000, 10000, 1, 0);
    check(1, 200, 35, 64, 10, 10000, 0, 0);
    check(3, 11, 13, 12, 10, 10000, 0, 0);
    check(1, 3, 1, 256, 5000, 10000, 0, 1);
    check(1, 70, 1, 16, 32700, 10000, 0, 0);  /* over the edge of the table that begins at 0 */
    check(1, 1, 4, 32, 1000000, 10000, 0, 0); /* decoding far out */
    check(1, 1, 4, 32, 1000001, 10000, 0, 0);
    check(1, 2, 4, 32, 1, 10000, 0, 0);                               /* and the near table is still there */
    for (int i = 0; i < 6; i++) check(1, 2, 1, 8, 3, 1000 + i, 0, 0); /* more tables than the device keeps */
    check(2, 37, 3, 32, 0, 10000, 0, 0);

    for (int i = 0; i < KT_ISAS; i++) {
        struct kn_dev *dev = kt_cpu[i][0];
        if (!dev) continue;
        struct kt x = kt_new(4, (int64_t[]){1, 50, 2, 32}, NULL, 1, 9);
        double worst = 0;
        st_t st = dev->op->rope(dev, kt_f(&x), 77, 10000, 0);
        if (!st) st = dev->op->rope(dev, kt_f(&x), 77, 10000, 1);
        for (int64_t j = 0; j < x.n; j++) worst = fmax(worst, fabs((double)x.f[j] - (double)x.init[j]));
        ok(!st && worst < 1e-6, "%s: there and back", kt_isa[i]);
        /* a table that is there is not made again, and takes no more memory */
        uint64_t bytes = kn_dev_bytes(dev);
        st = dev->op->rope(dev, kt_f(&x), 0, 10000, 0);
        ok(!st && kn_dev_bytes(dev) == bytes, "%s: the table stays", kt_isa[i]);
        kt_free(&x);
    }

    struct kn_dev *dev = kt_cpu[0][0];
    struct kt x = kt_new(4, (int64_t[]){1, 2, 1, 5}, NULL, 1, 1), y = kt_new(4, (int64_t[]){1, 2, 1, 4}, NULL, 1, 1);
    is_int(dev->op->rope(dev, kt_f(&x), 0, 10000, 0), ST_EINVAL, "odd heads");
    is_int(dev->op->rope(dev, kt_f(&y), -1, 10000, 0), ST_EINVAL, "a negative position");
    is_int(dev->op->rope(dev, kt_d(&y), 0, 10000, 0), ST_ENOTSUP, "f64");
    kt_free(&x);
    kt_free(&y);
    kt_close();
    return tap_done();
}
