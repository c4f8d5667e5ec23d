/* Weights at rest: bf16 and int8 rows. Conversions against their definition, products and embed that read them against the reference in f64 over
 * the same stored numbers; bits for 1 to 4 threads. */
#include "tests/kernels/kntest.h"

static void *fresh(size_t n)
{
    void *p = kt_mem(n + 64);
    memset(p, 0x55, n + 64);
    return p;
}

/* st, or what an op that has been enqueued comes to. */
static st_t done(struct kn_dev *dev, st_t st)
{
    return st ? st : dev->vt->sync(dev);
}

/* [n,k] f32 weights to a stored copy. */
static struct kn_tensor stored(struct kn_dev *dev, enum kn_dtype t, struct kt *w)
{
    int64_t n = w->t.d[0], k = w->t.d[1];
    struct kn_tensor s = kn_t2(NULL, t, n, k);
    s.p = fresh((size_t)(n * s.s[0]) * kn_dtype_size(t));
    ok(!done(dev, dev->op->copy(dev, kt_f(w), &s)), "%s %s: %d x %d stored", dev->info.isa, kn_dtype_name(t), (int)n, (int)k);
    return s;
}

/* What a stored number may be off by: half a step. The fast devices have the same bits. */
static void test_copy(struct kn_dev *dev, enum kn_dtype t, int64_t k, int64_t wide)
{
    struct kt w = kt_new(2, (int64_t[]){9, k}, (int64_t[]){wide, 1}, 2, 1);
    memset(w.f + 3 * wide, 0, (size_t)k * sizeof *w.f); /* a row without a scale */
    struct kn_tensor s = stored(dev, t, &w);
    float *back = fresh((size_t)(9 * k) * sizeof *back);
    struct kn_tensor b = kn_t2(back, KN_F32, 9, k);
    is_int(done(dev, dev->op->copy(dev, &s, &b)), ST_OK, "and back");
    int off = 0;
    for (int i = 0; i < 9; i++) {
        float most = 0;
        for (int j = 0; j < k; j++) most = fmaxf(most, fabsf(w.f[i * wide + j]));
        for (int j = 0; j < k; j++) {
            double x = w.f[i * wide + j], step = t == KN_I8 ? (double)most / 127 : ldexp(fabs(x), -7);
            off += !(fabs(back[i * k + j] - x) <= 0.5001 * step);
        }
    }
    is_int(off, 0, "%s %s: every number within half a step", dev->info.isa, kn_dtype_name(t));
    struct kn_dev *cpu;
    struct base_err err = BASE_ERR_INIT;
    if (dev != kt_ref && !kn_dev_open(&cpu, "cpu:generic", 1, &err)) {
        struct kn_tensor same = stored(cpu, t, &w);
        ok(!memcmp(same.p, s.p, (size_t)(9 * s.s[0]) * kn_dtype_size(t)), "%s %s: the generic CPU's bits, %d numbers a row", dev->info.isa, kn_dtype_name(t), (int)k);
        kt_mem_free(same.p);
        kn_dev_close(cpu);
    }
    kt_mem_free(back), kt_mem_free(s.p);
    kt_free(&w);
}

/* Rows to int8 and back whose numbers lie apart. */
static void test_apart(struct kn_dev *dev)
{
    struct kt w = kt_new(2, (int64_t[]){7, 21}, (int64_t[]){50, 2}, 1, 4), dense = kt_new(2, (int64_t[]){7, 21}, NULL, 1, 4), back = kt_new(2, (int64_t[]){7, 21}, (int64_t[]){1, 9}, 1, 5);
    for (int i = 0; i < 7; i++)
        for (int j = 0; j < 21; j++) dense.f[i * 21 + j] = w.f[i * 50 + 2 * j];
    struct kn_tensor a = stored(dev, KN_I8, &w), b = stored(dev, KN_I8, &dense);
    ok(!memcmp(a.p, b.p, (size_t)(7 * a.s[0])), "%s: int8 of numbers that lie apart", dev->info.isa);
#ifdef KT_CUDA
    st_t st = dev->op->copy(dev, &a, kt_f(&back));
    int off = 0;
    for (int i = 0; i < 7; i++) {
        float scale;
        memcpy(&scale, (int8_t *)a.p + i * a.s[0] + 21, sizeof scale);
        for (int j = 0; j < 21; j++) off += back.f[i + 9 * j] != (float)((int8_t *)a.p)[i * a.s[0] + j] * scale;
    }
    ok(!st && !off && kt_gaps(&back), "%s: and back, down columns", dev->info.isa);
#endif
    kt_mem_free(a.p), kt_mem_free(b.p);
    kt_free(&w), kt_free(&dense), kt_free(&back);
}

static void test_product(int isa, enum kn_dtype t, int64_t m, int64_t n, int64_t k, double beta)
{
    struct kt a = kt_new(2, (int64_t[]){m, k}, (int64_t[]){k + 3, 1}, 1, 1), w = kt_new(2, (int64_t[]){n, k}, NULL, 0.3, 2),
              c = kt_new(2, (int64_t[]){m, n}, (int64_t[]){n + 5, 1}, 1, 3);
    struct kn_tensor s = stored(kt_cpu[isa][0], t, &w), b = kn_transpose(&s);
    st_t st = kt_ref->op->gemm(kt_ref, 0.5, kt_d(&a), &b, beta, kt_d(&c));
    float *first = fresh((size_t)c.n * sizeof *first);
    for (int th = 0; th < KT_THREADS; th++) {
        struct kn_dev *dev = kt_cpu[isa][th];
        memcpy(c.f, c.init, (size_t)c.n * sizeof *c.f);
        if (!st) st = done(dev, dev->op->gemm(dev, 0.5, kt_f(&a), &b, beta, kt_f(&c)));
        if (!th) memcpy(first, c.f, (size_t)c.n * sizeof *first);
        else ok(!memcmp(first, c.f, (size_t)c.n * sizeof *first), "the same bits with %d threads", th + 1);
    }
    double e = kt_nmse(&c);
    if (!ok(!st && e < 1e-12 && kt_gaps(&c), "%s %s: %d x %d x %d", kt_isa[isa], kn_dtype_name(t), (int)m, (int)k, (int)n))
        printf("# %s, %g\n", base_status_text(st), e);
    kt_mem_free(first), kt_mem_free(s.p);
    kt_free(&a), kt_free(&w), kt_free(&c);
}

static void test_embed(struct kn_dev *dev, enum kn_dtype t)
{
    struct kt w = kt_new(2, (int64_t[]){11, 21}, NULL, 1, 1), x = kt_new(2, (int64_t[]){4, 21}, (int64_t[]){25, 1}, 1, 2);
    int32_t *numbers = kt_mem(4 * sizeof *numbers);
    memcpy(numbers, (int32_t[]){10, 0, 3, 10}, 4 * sizeof *numbers);
    struct kn_tensor s = stored(dev, t, &w), tok = kn_t1(numbers, KN_I32, 4);
    st_t st = done(dev, dev->op->embed(dev, &tok, &s, kt_f(&x)));
    if (!st) st = kt_ref->op->embed(kt_ref, &tok, &s, kt_d(&x));
    ok(!st && kt_nmse(&x) < 1e-14 && kt_gaps(&x), "%s %s: embed", dev->info.isa, kn_dtype_name(t));
    kt_mem_free(s.p), kt_mem_free(numbers);
    kt_free(&w), kt_free(&x);
}

int main(void)
{
    static const enum kn_dtype kinds[] = {KN_BF16, KN_I8};
    kt_open();
    for (int i = 0; i < 2; i++) {
        test_copy(kt_ref, kinds[i], 37, 40);
        for (int isa = 0; isa < KT_ISAS; isa++) {
            if (!kt_cpu[isa][0]) continue;
            test_copy(kt_cpu[isa][0], kinds[i], 37, 40);
            test_copy(kt_cpu[isa][0], kinds[i], 40, 44); /* whole fours */
            if (kinds[i] == KN_I8) test_apart(kt_cpu[isa][0]);
            test_embed(kt_cpu[isa][0], kinds[i]);
            for (int m = 1; m <= 5; m++) test_product(isa, kinds[i], m, 13, 37, m % 2);
            test_product(isa, kinds[i], 1, 1, 1, 0);
            test_product(isa, kinds[i], 1, 700, 256, 0);
            for (int m = 6; m <= 9; m++) test_product(isa, kinds[i], m, 35, 260, m % 2);
            test_product(isa, kinds[i], 2, 9, 2564, 1);
            test_product(isa, kinds[i], 16, 50, 129, 1);
            test_product(isa, kinds[i], 16, 50, 1204, 0);
            test_product(isa, kinds[i], 40, 3000, 150, 1);
            test_product(isa, kinds[i], 33, 70, 152, 1);
        }
        struct kt w = kt_new(2, (int64_t[]){5, 8}, NULL, 1, 1);
        struct kn_tensor s = stored(kt_cpu[0][0], kinds[i], &w);
        is_int(kt_cpu[0][0]->op->gemm(kt_cpu[0][0], 1, kt_f(&w), &s, 0, kt_f(&w)), ST_EINVAL, "b of the wrong shape");
        struct kt five = kt_new(2, (int64_t[]){3, 5}, NULL, 1, 1), out = kt_new(2, (int64_t[]){3, 8}, NULL, 1, 1);
        is_int(kt_cpu[0][0]->op->gemm(kt_cpu[0][0], 1, kt_f(&five), &s, 0, kt_f(&out)), kinds[i] == KN_I8 ? ST_EINVAL : ST_ENOTSUP,
               "weights at rest that are not transposed");
        kt_mem_free(s.p);
        kt_free(&w), kt_free(&five), kt_free(&out);
    }
    kt_close();
    return tap_done();
}
