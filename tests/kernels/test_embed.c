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

/* The first token is not one of the table's. */
static void outside(const char *what, struct call *c)
{
    int32_t token = *(int32_t *)c->tok.p;
    struct kn_dev *dev = kt_cpu[0][0];
#ifdef KT_CUDA /* nobody waits to say so: a row of NaN, and no gradient */
    struct call rest = *c;
    rest.tok = kn_slice(&c->tok, 0, 1, c->tok.d[0] - 1), rest.x.t = kn_slice(&c->x.t, 0, 1, c->x.t.d[0] - 1);
    kt_reset(&c->w), kt_reset(&c->x);
    int64_t bad = 0, width = c->x.t.d[1];
    st_t st = forward(dev, 0, c);
    for (int64_t d = 0; d < kn_count(&c->x.t); d++) bad += (d < width) != isnan(c->x.f[kt_at(&c->x, d)]);
    kt_reset(&c->x);
    if (!st) st = backward(dev, 0, c);
    rest.x.g += c->x.t.s[0];
    if (!st) st = backward(kt_ref, 1, &rest);
    ok(!st && !bad && kt_nmse(&c->w) < 1e-11 && kt_gaps(&c->w), "%s: token %d", what, token);
    kt_reset(&c->w);
#else
    ok(forward(dev, 0, c) == ST_EINVAL && backward(dev, 0, c) == ST_EINVAL, "%s: token %d", what, token);
#endif
}

/* Tokens are multiples of `every`. */
static void check(int64_t n, int64_t v, int64_t d, int strided, int64_t every)
{
    int64_t vd[] = {v, d}, nd[] = {n, d}, wide[] = {d + 3, 1}, apart[] = {2 * d, 2};
    const int64_t *s = strided == 0 ? NULL : strided == 1 ? wide : apart;
    int step = strided ? 2 : 1;
    int32_t *tok = kt_mem((size_t)(n * step + 1) * sizeof *tok);
    struct base_rng r = base_rng_at(3, RNG_TEST, 0);
    for (int64_t i = 0; i < n * step; i++) tok[i] = i % step ? -7 : (int32_t)(base_rng_below(&r, (uint32_t)((v + every - 1) / every)) * every);
    struct call c = {kn_t1(tok, KN_I32, n), kt_new(2, vd, s, 1, 1), kt_new(2, nd, s, 1, 2)};
    c.tok.s[0] = step;
    char what[96];
    snprintf(what, sizeof what, "%d tokens of %d, width %d, strides %d", (int)n, (int)v, (int)d, strided);
    kt_compare(what, forward, &c, (struct kt *const[]){&c.x}, 1, 0);
    kt_compare(what, backward, &c, (struct kt *const[]){&c.w}, 1, 1e-13 * fmax(100, (double)(n * every) / (double)v)); /* sums of so many numbers, one after the other in f32 */
    for (int bad = 0; bad < 2 && every == 1; bad++) {
        tok[0] = bad ? -1 : (int32_t)v;
        outside(what, &c);
    }
    kt_free(&c.w);
    kt_free(&c.x);
    kt_mem_free(tok);
}

/* Weights at rest. */
static void at_rest(enum kn_dtype dtype, int64_t d)
{
    struct kt w = kt_new(2, (int64_t[]){11, d}, NULL, 1, 1), x = kt_new(2, (int64_t[]){4, d}, (int64_t[]){d + 4, 1}, 1, 2);
    struct kn_tensor s = kn_t2(NULL, dtype, 11, d), tok = kn_t1(kt_mem(4 * sizeof(int32_t)), KN_I32, 4);
    s.p = kt_mem((size_t)(11 * s.s[0]) * kn_dtype_size(dtype));
    memcpy(tok.p, (int32_t[]){10, 0, 3, 10}, 4 * sizeof(int32_t));
    st_t st = kt_ref->op->copy(kt_ref, kt_f(&w), &s);
    if (!st) st = kt_ref->op->embed(kt_ref, &tok, &s, kt_d(&x));
    for (int i = 0; i < KT_ISAS; i++) {
        struct kn_dev *dev = kt_cpu[i][0];
        if (!dev) continue;
        if (!st) st = dev->op->embed(dev, &tok, &s, kt_f(&x));
        ok(!st && kt_nmse(&x) < 1e-14 && kt_gaps(&x), "%s: %d wide in %s", kt_isa[i], (int)d, kn_dtype_name(dtype));
    }
    kt_mem_free(s.p), kt_mem_free(tok.p);
    kt_free(&w), kt_free(&x);
}

int main(void)
{
    kt_open();
    check(1, 1, 1, 0, 1);
    check(500, 256, 128, 0, 1);
    check(300, 7, 100, 1, 1);
    check(77, 300, 33, 2, 1);
    check(1300, 2, 8, 0, 1); /* long runs of one token */
    check(1200, 1, 260, 0, 1);
    check(300, 2000, 12, 0, 1);
    check(2, 5, 1100, 0, 1);
    check(1500, 20000, 4, 0, 256); /* few tokens of a large vocabulary, whose low bits are the same */
    at_rest(KN_BF16, 21);
    at_rest(KN_BF16, 24);
    at_rest(KN_I8, 21);
    at_rest(KN_I8, 24);
    at_rest(KN_I8, 1024);
    struct kn_dev *dev = kt_cpu[0][0];
    struct kt w = kt_new(2, (int64_t[]){4, 8}, NULL, 1, 1), x = kt_new(2, (int64_t[]){2, 9}, NULL, 1, 1);
    int32_t *tok = kt_mem(2 * sizeof *tok);
    tok[1] = 1;
    struct kn_tensor t = kn_t1(tok, KN_I32, 2), out = kn_slice(kt_d(&w), 0, 0, 2);
    is_int(dev->op->embed(dev, &t, kt_f(&w), kt_f(&x)), ST_EINVAL, "another width");
    is_int(dev->op->embed(dev, &t, kt_d(&w), &out), ST_ENOTSUP, "f64");
    kt_free(&w);
    kt_free(&x);
    kt_mem_free(tok);
    kt_close();
    return tap_done();
}
