/* Head and cross-entropy against the reference: forward alone, both gradients, one of them, rows that do not count, several blocks of rows; in bf16 too, from operands
 * that need no rounding. */
#include "tests/kernels/kntest.h"

struct call {
    struct kt x, w, tx, tw, loss, dx, dw;
    double mix, gscale; /* mix < 0: no teacher */
    int32_t *target;
    int has_dx, has_dw;
};

static st_t run(struct kn_dev *dev, int ref, void *arg)
{
    struct call *c = arg;
    const struct kn_tensor *(*of)(struct kt *) = ref ? kt_d : kt_f;
    struct kn_tensor t = kn_t1(c->target, KN_I32, c->x.t.d[0]);
    const struct kn_tensor *dx = c->has_dx ? of(&c->dx) : NULL, *dw = c->has_dw ? of(&c->dw) : NULL;
    st_t st = c->mix >= 0 ? dev->op->head_distill(dev, of(&c->x), of(&c->w), &t, of(&c->tx), of(&c->tw), c->mix, c->gscale, of(&c->loss), dx, dw)
                          : dev->op->head_ce(dev, of(&c->x), of(&c->w), &t, c->gscale, of(&c->loss), dx, dw);
    return st ? st : dev->vt->sync(dev);
}

/* dx sums over all words in f32: an addition loses up to 2^-25 of the sum, and what improbable words add is lost in one direction, some 1e-9 a word. Gradients' factors
 * rounded to bf16 are off by at most 2^-9 of them. */
static double tolerance(int64_t words, int has_gradients)
{
    return kt_precision == KN_BF16 && has_gradients ? 0x1p-18 : 1e-11 + 1e-18 * (double)words * (double)words;
}

/* e: the teacher's width, with mix >= 0. */
static void check_by(int64_t n, int64_t d, int64_t v, int strided, double amp, int has_dx, int has_dw, int64_t e, double mix)
{
    int64_t ne[] = {n, e}, ve[] = {v, e}, nd[] = {n, d}, vd[] = {v, d}, wide[] = {2 * d + 1, 1}, apart[] = {3 * d, 2}, one[] = {n}, two[] = {2};
    const int64_t *s = strided == 0 ? NULL : strided == 1 ? wide : apart;
    struct call c = {kt_new(2, nd, s, 1, 1),  kt_new(2, vd, s, amp, 2), kt_new(2, ne, NULL, 1, 7), kt_new(2, ve, NULL, amp, 8), kt_new(1, one, strided ? two : NULL, 1, 3),
                     kt_new(2, nd, s, 1, 4),  kt_new(2, vd, s, 1, 5),   mix, 0.125, kt_mem((size_t)n * sizeof(int32_t)),
                     has_dx, has_dw};
    struct base_rng r = base_rng_at(6, RNG_TEST, 0);
    for (int64_t i = 0; i < n; i++) c.target[i] = i % 5 == 3 ? -1 : (int32_t)base_rng_below(&r, (uint32_t)v);
    char what[160], by[64] = "";
    struct kt *rounded[] = {&c.x, &c.w, &c.tx, &c.tw};
    for (int i = 0; i < 4 && kt_precision == KN_BF16; i++) kt_half(rounded[i]);
    if (mix >= 0) snprintf(by, sizeof by, ", a teacher %d wide by %g", (int)e, mix);
    snprintf(what, sizeof what, "%d x %d, %d words, strides %d, amplitude %g%s%s%s", (int)n, (int)d, (int)v, strided, amp, has_dx ? ", dx" : "",
             has_dw ? ", dw" : "", by);
    kt_compare(what, run, &c, (struct kt *const[]){&c.loss, &c.dx, &c.dw}, 3, tolerance(v, has_dx || has_dw));
    struct kt *all[] = {&c.x, &c.w, &c.tx, &c.tw, &c.loss, &c.dx, &c.dw};
    for (int i = 0; i < 7; i++) kt_free(all[i]);
    kt_mem_free(c.target);
}

static void check(int64_t n, int64_t d, int64_t v, int strided, double amp, int has_dx, int has_dw)
{
    check_by(n, d, v, strided, amp, has_dx, has_dw, 1, -1);
}

/* A target that no word has: a device that reads them first refuses; the CUDA device, whose host does not see them, makes that row's loss NaN, its gradient 0. */
static void check_targets(void)
{
    struct kn_dev *dev = kt_cpu[0][0];
    static const int32_t wrong[] = {-2, 10, INT32_MAX, INT32_MIN};
    struct kt x = kt_new(2, (int64_t[]){3, 8}, NULL, 1, 1), w = kt_new(2, (int64_t[]){10, 8}, NULL, 1, 2), loss = kt_new(1, (int64_t[]){3}, NULL, 1, 3);
    struct kt dx = kt_new(2, (int64_t[]){3, 8}, NULL, 1, 4);
    int32_t *target = kt_mem(3 * sizeof *target);
    struct kn_tensor t = kn_t1(target, KN_I32, 3);
    target[2] = 1;
    for (int i = 0; i < 4; i++) {
        target[1] = wrong[i];
        st_t st = dev->op->head_ce(dev, kt_f(&x), kt_f(&w), &t, 1, kt_f(&loss), kt_f(&dx), NULL);
        if (!st) st = dev->vt->sync(dev);
#ifdef KT_CUDA
        int zero = 1;
        for (int d = 0; d < 8; d++) zero &= dx.f[8 + d] == 0;
        ok(!st && loss.f[0] > 0 && loss.f[1] != loss.f[1] && loss.f[2] > 0 && zero, "a target of %d: no loss, no gradient", (int)wrong[i]);
#else
        is_int(st, ST_EINVAL, "a target of %d", (int)wrong[i]);
#endif
    }
    kt_mem_free(target);
    kt_free(&x), kt_free(&w), kt_free(&loss), kt_free(&dx);
}

static void check_errors(void)
{
    struct kn_dev *dev = kt_cpu[0][0], *small;
    struct kt x = kt_new(2, (int64_t[]){3, 8}, NULL, 1, 1), w = kt_new(2, (int64_t[]){10, 8}, NULL, 1, 2), loss = kt_new(1, (int64_t[]){3}, NULL, 1, 3);
    int32_t *good = kt_mem(3 * sizeof *good);
    struct kn_tensor t = kn_t1(good, KN_I32, 3);
    good[1] = 9, good[2] = -1;
    is_int(dev->op->head_ce(dev, kt_f(&x), kt_f(&w), &t, 1, kt_f(&loss), NULL, NULL), ST_OK, "good operands");
    is_int(dev->op->head_ce(dev, kt_f(&x), kt_f(&x), &t, 1, kt_f(&loss), NULL, kt_f(&w)), ST_EINVAL, "dw of another shape");
    is_int(dev->op->head_ce(dev, kt_f(&x), kt_f(&w), &t, 1, kt_f(&w), NULL, NULL), ST_EINVAL, "loss of another shape");
    is_int(dev->op->head_ce(dev, kt_d(&x), kt_d(&w), &t, 1, kt_d(&loss), NULL, NULL), ST_ENOTSUP, "f64");
    struct kt dx = kt_new(2, (int64_t[]){3, 8}, NULL, 1, 4);
    is_int(dev->op->head_distill(dev, kt_f(&x), kt_f(&w), &t, kt_f(&x), kt_f(&w), 0.5, 1, kt_f(&loss), kt_f(&dx), NULL), ST_OK, "a teacher");
    is_int(dev->op->head_distill(dev, kt_f(&x), kt_f(&w), &t, kt_f(&w), kt_f(&w), 0.5, 1, kt_f(&loss), kt_f(&dx), NULL), ST_EINVAL, "a teacher of more rows");
    is_int(dev->op->head_distill(dev, kt_f(&x), kt_f(&w), &t, kt_f(&x), kt_f(&x), 0.5, 1, kt_f(&loss), kt_f(&dx), NULL), ST_EINVAL, "a teacher of other words");
    is_int(dev->op->head_distill(dev, kt_f(&x), kt_f(&w), &t, kt_f(&x), kt_f(&w), 1.5, 1, kt_f(&loss), kt_f(&dx), NULL), ST_EINVAL, "more than all of it from the teacher");
    is_int(dev->op->head_distill(dev, kt_f(&x), kt_f(&w), &t, kt_f(&x), kt_f(&w), 0.5, 1, kt_f(&loss), NULL, NULL), ST_EINVAL, "a teacher without gradients");
    kt_free(&dx);
    if (!kn_dev_open(&small, kt_isa[0], 1, NULL)) {
        small->info.memory = 64;
        is_int(small->op->head_ce(small, kt_f(&x), kt_f(&w), &t, 1, kt_f(&loss), NULL, NULL), ST_ENOMEM, "logits over the device's memory");
        kn_dev_close(small);
    }
    dev->vt->sync(dev);
    kt_mem_free(good);
    kt_free(&x), kt_free(&w), kt_free(&loss);
}

static void check_shapes(void)
{
    check(1, 1, 1, 0, 1, 1, 1);
    check(7, 5, 2, 0, 1, 1, 1);
    check(33, 24, 256, 0, 1, 1, 1);
    check(50, 20, 257, 1, 1, 1, 1);
    check(20, 13, 37, 2, 1, 1, 1);
    check(9, 16, 100, 0, 30, 1, 1); /* one word takes all */
    check(9, 16, 100, 0, 1, 0, 0);
    check(9, 16, 100, 0, 1, 1, 0);
    check(9, 16, 100, 0, 1, 0, 1);
    check(2100, 4, 70, 0, 1, 1, 1); /* two blocks of the CPU's rows */
    check(8300, 3, 11, 1, 1, 1, 1); /* and of CUDA's */
    check(18, 4, 50257, 0, 1, 1, 1);
    check(0, 4, 10, 0, 1, 1, 1);
    check(5, 0, 10, 0, 1, 1, 1);
    check(7, 8, 1024, 0, 1, 1, 1); /* a warp's registers, and more than those; threads of which many have nothing */
    check(7, 8, 1025, 0, 1, 1, 1);
    check(5, 8, 4097, 1, 30, 1, 1);
    check(4, 6, 16387, 0, 1, 0, 0);
    check(2, 6, 130001, 0, 1, 1, 1); /* more than twice of what shared memory holds */
    check_by(7, 5, 2, 0, 1, 1, 1, 3, 0.5);
    check_by(33, 24, 257, 1, 1, 1, 1, 40, 0.25);
    check_by(9, 16, 100, 0, 30, 1, 0, 16, 1); /* one word takes all of both */
    check_by(9, 16, 100, 2, 1, 0, 1, 5, 0);
    check_by(2100, 4, 70, 0, 1, 1, 1, 6, 0.9); /* two blocks of rows */
    check_by(0, 4, 10, 0, 1, 1, 1, 4, 0.5);
    check_by(7, 8, 1023, 0, 1, 1, 1, 8, 0.5);
    check_by(7, 8, 1100, 2, 1, 1, 1, 9, 0.5);
    check_by(3, 6, 50257, 0, 1, 1, 1, 7, 0.5);
    check_by(2, 3, 70001, 0, 1, 1, 0, 4, 0.25);
}

int main(void)
{
    kt_open();
    check_shapes();
    kt_precision = KN_BF16;
    check_shapes();
    kt_precision = KN_F32;
    check_targets();
    check_errors();
    kt_close();
    return tap_done();
}
