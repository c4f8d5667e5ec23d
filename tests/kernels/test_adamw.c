/* The optimiser's step and the sum of squares. */
#include "tests/kernels/kntest.h"

struct call {
    struct kt p, g, m, v;
    struct kn_adamw h;
};

static st_t run(struct kn_dev *dev, int ref, void *arg)
{
    struct call *c = arg;
    const struct kn_tensor *(*of)(struct kt *) = ref ? kt_d : kt_f;
    struct kn_adamw h = c->h;
    for (; h.t < c->h.t + 3; h.t++) {
        st_t st = dev->op->adamw(dev, of(&c->p), of(&c->g), of(&c->m), of(&c->v), &h);
        if (st) return st;
    }
    return ST_OK;
}

static void check(int64_t n, int64_t t, double gscale, double decay)
{
    struct call c = {kt_new(1, &n, NULL, 1, 1),
                     kt_new(1, &n, NULL, 1, 2),
                     kt_new(1, &n, NULL, 0.1, 3),
                     kt_new(1, &n, NULL, 0.1, 4),
                     {1e-2, 0.9, 0.95, 1e-8, decay, gscale, t}};
    for (int64_t i = 0; i < n; i++) c.v.init[i] *= c.v.init[i];
    if (t == 1) {
        memset(c.m.init, 0, (size_t)n * sizeof(float));
        memset(c.v.init, 0, (size_t)n * sizeof(float));
        c.g.init[0] = 0; /* and a gradient that is always 0 */
        kt_reset(&c.g);
    }
    char what[96];
    snprintf(what, sizeof what, "%d parameters, step %d, gscale %g, decay %g", (int)n, (int)t, gscale, decay);
    kt_compare(what, run, &c, (struct kt *const[]){&c.p, &c.m, &c.v}, 3, 1e-11);
    kt_free(&c.p);
    kt_free(&c.g);
    kt_free(&c.m);
    kt_free(&c.v);
}

/* By numbers in device memory: the bits of adamw with the same as arguments, and nothing at all where the norm is not finite. */
static void check_at(struct kn_dev *dev, const char *name, double most, float scale)
{
    enum { N = 20011 };
    struct kt p = kt_new(1, (int64_t[]){N}, NULL, 1, 1), g = kt_new(1, (int64_t[]){N}, NULL, scale, 2), m = kt_new(1, (int64_t[]){N}, NULL, 0.1, 3), v = kt_new(1, (int64_t[]){N}, NULL, 0, 4);
    double *mem = kt_mem(5 * sizeof *mem), sum = 0;
    struct kn_tensor at = kn_t1(mem, KN_F64, 3), clip = kn_t1(mem + 3, KN_F64, 2);
    struct kn_adamw h = {1e-2, 0.9, 0.95, 1e-8, 0.1, 1, 7}, constant = {.beta1 = 0.9, .beta2 = 0.95, .eps = 1e-8, .weight_decay = 0.1};
    float *want[3] = {malloc(N * sizeof(float)), malloc(N * sizeof(float)), malloc(N * sizeof(float))};
    mem[0] = h.lr, mem[1] = 1 - pow(h.beta1, 7), mem[2] = 1 - pow(h.beta2, 7);
    int bad = dev->op->sumsq(dev, kt_f(&g), &sum) || dev->op->clip(dev, kt_f(&g), most, &clip);
    double norm = sqrt(sum), factor = most > 0 ? fmin(1, most / (norm + 1e-6)) : 1;
    ok(!bad && mem[3] == norm && mem[4] == factor, "%s: clip to %g: norm %.17g, factor %.17g", name, most, mem[3], mem[4]);
    h.gscale = factor;
    bad = dev->op->adamw(dev, kt_f(&p), kt_f(&g), kt_f(&m), kt_f(&v), &h);
    struct kt *all[] = {&p, &m, &v};
    for (int i = 0; i < 3; i++) memcpy(want[i], all[i]->f, N * sizeof(float)), kt_reset(all[i]);
    bad |= dev->op->adamw_at(dev, kt_f(&p), kt_f(&g), kt_f(&m), kt_f(&v), &constant, &at, &clip);
    int differ = 0;
    for (int i = 0; i < 3; i++) differ += memcmp(want[i], all[i]->f, N * sizeof(float)) != 0;
    ok(!bad && !differ, "%s: adamw_at gives adamw's bits", name);
    for (int i = 0; i < 3; i++) kt_reset(all[i]);
    g.f[N / 2] = INFINITY;
    bad = dev->op->clip(dev, kt_f(&g), most, &clip) || dev->op->adamw_at(dev, kt_f(&p), kt_f(&g), kt_f(&m), kt_f(&v), &constant, &at, &clip);
    for (int i = 0; i < 3; i++) differ += memcmp(all[i]->init, all[i]->f, N * sizeof(float)) != 0;
    ok(!bad && !isfinite(mem[3]) && isnan(mem[4]) && !differ, "%s: a gradient that is not finite changes nothing", name);
    is_int(dev->op->clip(dev, kt_f(&g), most, &at), ST_EINVAL, "%s: clip wants two numbers", name);
    is_int(dev->op->adamw_at(dev, kt_f(&p), kt_f(&g), kt_f(&m), kt_f(&v), &constant, &clip, &clip), ST_EINVAL, "%s: adamw_at wants three", name);
    for (int i = 0; i < 3; i++) free(want[i]), kt_free(all[i]);
    kt_free(&g), kt_mem_free(mem);
}

int main(void)
{
    kt_open();
    for (int i = 0; i < KT_ISAS; i++) {
        if (!kt_cpu[i][1]) continue;
        check_at(kt_cpu[i][1], kt_isa[i], 1, 1);
        check_at(kt_cpu[i][1], kt_isa[i], 1, 1e-4f);
        check_at(kt_cpu[i][1], kt_isa[i], 0, 1);
    }
    check(1, 1, 1, 0);
    check(1000, 1, 1, 0.1);
    check(50001, 10, 0.3, 0.1);
    check(37, 1000, 1, 0);

    static const int64_t sizes[] = {0, 1, 15, 16384, 100003};
    for (int k = 0; k < 5; k++) {
        struct kt x = kt_new(1, &sizes[k], NULL, 3, 1);
        double want, got, first = -1;
        int same = 1;
        st_t st = kt_ref->op->sumsq(kt_ref, kt_d(&x), &want);
        for (int i = 0; i < KT_ISAS; i++)
            for (int t = 0; t < KT_THREADS; t++) {
                if (!kt_cpu[i][t]) continue;
                if (!st) st = kt_cpu[i][t]->op->sumsq(kt_cpu[i][t], kt_f(&x), &got);
                if (first < 0) first = got;
                same &= got == first;
            }
        ok(!st && same && fabs(first - want) <= 1e-12 * want,
           "sumsq of %d: the same with every set and number of threads", (int)sizes[k]);
        kt_free(&x);
    }

    struct kt whole = kt_new(1, (int64_t[]){4011}, NULL, 3, 1);
    int far = 0;
    for (int64_t from = 0; from < 5; from++)
        for (int64_t n = 0; n < 4004; n = n < 10 ? n + 1 : n * 7 + from) {
            struct kn_tensor part = kn_slice(kt_f(&whole), 0, from, n), exact = kn_slice(kt_d(&whole), 0, from, n);
            double got = -1, want = 0;
            far += kt_ref->op->sumsq(kt_ref, &exact, &want) || kt_cpu[0][0]->op->sumsq(kt_cpu[0][0], &part, &got) || !(fabs(got - want) <= 1e-12 * want);
        }
    is_int(far, 0, "sumsq of pieces that begin anywhere");
    kt_free(&whole);

    struct kn_dev *dev = kt_cpu[0][0];
    struct kt a = kt_new(1, (int64_t[]){8}, NULL, 1, 1), b = kt_new(1, (int64_t[]){9}, NULL, 1, 1),
              s = kt_new(1, (int64_t[]){8}, (int64_t[]){2}, 1, 1);
    struct kn_adamw h = {1e-3, 0.9, 0.95, 1e-8, 0, 1, 1}, zero = h;
    zero.t = 0;
    double sum;
    is_int(dev->op->adamw(dev, kt_f(&a), kt_f(&b), kt_f(&a), kt_f(&a), &h), ST_EINVAL, "a gradient of another length");
    is_int(dev->op->adamw(dev, kt_f(&a), kt_f(&a), kt_f(&a), kt_f(&a), &zero), ST_EINVAL, "step 0");
    is_int(dev->op->adamw(dev, kt_d(&a), kt_d(&a), kt_d(&a), kt_d(&a), &h), ST_ENOTSUP, "f64");
    is_int(dev->op->sumsq(dev, kt_f(&s), &sum), ST_EINVAL, "sumsq of a vector with gaps");
    is_int(dev->op->sumsq(dev, kt_d(&a), &sum), ST_ENOTSUP, "sumsq of f64");
    kt_free(&a);
    kt_free(&b);
    kt_free(&s);
    kt_close();
    return tap_done();
}
