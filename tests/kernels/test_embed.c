/* Embedding and its backward. */
#include "tests/kernels/kntest.h"

struct call {
    struct kn_tensor tok;
    struct kt w, x;
};

static st_t forward(struct kn_dev *dev, int ref, void *arg)
{
    struct call *c = arg;
    return dev->op->embed(dev, &c->tok, ref ? kt_d(&c->w) : kt_f(&c->w), ref ? kt_d(&c->x) : kt_f(&c->x));
}

static st_t backward(struct kn_dev *dev, int ref, void *arg)
{
    struct call *c = arg;
    return dev->op->embed_bwd(dev, &c->tok, ref ? kt_d(&c->x) : kt_f(&c->x), ref ? kt_d(&c->w) : kt_f(&c->w));
}

static void check(int64_t n, int64_t v, int64_t d, int strided)
{
    int64_t vd[] = {v, d}, nd[] = {n, d}, wide[] = {d + 3, 1}, apart[] = {2 * d, 2};
    const int64_t *s = strided == 0 ? NULL : strided == 1 ? wide : apart;
    int step = strided ? 2 : 1;
    int32_t *tok = calloc((size_t)(n * step + 1), sizeof *tok);
    if (!tok) abort();
    struct base_rng r = base_rng_at(3, RNG_TEST, 0);
    for (int64_t i = 0; i < n * step; i++) tok[i] = i % step ? -7 : (int32_t)base_rng_below(&r, (uint32_t)v);
    struct call c = {kn_t1(tok, KN_I32, n), kt_new(2, vd, s, 1, 1), kt_new(2, nd, s, 1, 2)};
    c.tok.s[0] = step;
    char what[96];
    snprintf(what, sizeof what, "%d tokens of %d, width %d, strides %d", (int)n, (int)v, (int)d, strided);
    kt_compare(what, forward, &c, (struct kt *const[]){&c.x}, 1, 0);
    kt_compare(what, backward, &c, (struct kt *const[]){&c.w}, 1, 1e-11);
    for (int bad = 0; bad < 2; bad++) {
        tok[0] = bad ? -1 : (int32_t)v;
        ok(forward(kt_cpu[0][0], 0, &c) == ST_EINVAL && backward(kt_cpu[0][0], 0, &c) == ST_EINVAL, "%s: token %d",
           what, tok[0]);
    }
    kt_free(&c.w);
    kt_free(&c.x);
    free(tok);
}

int main(void)
{
    kt_open();
    check(1, 1, 1, 0);
    check(500, 256, 128, 0);
    check(300, 7, 100, 1);
    check(77, 300, 33, 2);
    struct kn_dev *dev = kt_cpu[0][0];
    struct kt w = kt_new(2, (int64_t[]){4, 8}, NULL, 1, 1), x = kt_new(2, (int64_t[]){2, 9}, NULL, 1, 1);
    int32_t tok[2] = {0, 1};
    struct kn_tensor t = kn_t1(tok, KN_I32, 2), out = kn_slice(kt_d(&w), 0, 0, 2);
    is_int(dev->op->embed(dev, &t, kt_f(&w), kt_f(&x)), ST_EINVAL, "another width");
    is_int(dev->op->embed(dev, &t, kt_d(&w), &out), ST_ENOTSUP, "f64");
    kt_free(&w);
    kt_free(&x);
    kt_close();
    return tap_done();
}
