/* Products against the reference in f64: every instruction set of this machine, or the CUDA device (kntest.h); shapes around the edges of tiles and blocks,
 * every stride and transposition, alpha and beta; bits for 1 to 4 threads. In bf16 the reference gets operands that were rounded here. */
#include "tests/kernels/kntest.h"

static struct kn_dev *ref;

/* A long sum's length. The CUDA device has no blocks of the sum, and where the host stands in for it, each number costs some nanoseconds. */
#ifdef KT_CUDA
#define LONG(n) ((n) / 5)
#else
#define LONG(n) (n)
#endif

static uint16_t half_of(float f)
{
    uint32_t u;
    memcpy(&u, &f, 4);
    if (f != f) return (uint16_t)(u >> 16 | 0x40);
    uint32_t rest = u & 0xffff, up = rest > 0x8000 || (rest == 0x8000 && (u >> 16 & 1));
    return (uint16_t)((u >> 16) + up);
}

static float of_half(uint16_t h)
{
    uint32_t u = (uint32_t)h << 16;
    float f;
    memcpy(&f, &u, 4);
    return f;
}

/* An [m, n] operand inside a buffer of NaNs. Kinds: 0 row-major, 1 column-major, 2 rows of a wider matrix, 3 columns of a taller one,
 * 4 neither stride is 1, 5 rows of a matrix that is wider by 8, 6 columns of one that is taller by 8. */
static struct kn_tensor operand(int kind, int64_t m, int64_t n, float **buf, uint64_t seed)
{
    int64_t sm = (int64_t[]){n, 1, n + 5, 1, 2 * n + 3, n + 8, 1}[kind], sn = (int64_t[]){1, m, 1, m + 3, 2, 1, m + 8}[kind];
    size_t size = (size_t)(m * sm + n * sn + 8);
    struct base_rng r = base_rng_at(seed, RNG_TEST, 1);
    *buf = kt_mem(size * sizeof **buf);
    for (size_t i = 0; i < size; i++) (*buf)[i] = NAN;
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < n; j++) (*buf)[4 + i * sm + j * sn] = (float)(2 * base_rng_unit(&r) - 1);
    return (struct kn_tensor){*buf + 4, KN_F32, 2, {m, n}, {sm, sn}};
}

/* The same values in a dense f64 matrix. */
static struct kn_tensor widen(const struct kn_tensor *t, double **buf)
{
    *buf = calloc((size_t)(t->d[0] * t->d[1]) + 1, sizeof **buf);
    struct kn_tensor w = kn_t2(*buf, KN_F64, t->d[0], t->d[1]);
    for (int64_t i = 0; i < t->d[0]; i++)
        for (int64_t j = 0; j < t->d[1]; j++) (*buf)[i * t->d[1] + j] = ((float *)t->p)[i * t->s[0] + j * t->s[1]];
    return w;
}

/* When it returns, c is there. */
static st_t product(struct kn_dev *dev, double alpha, const struct kn_tensor *a, const struct kn_tensor *b, double beta, const struct kn_tensor *c)
{
    st_t st = dev->op->gemm(dev, alpha, a, b, beta, c);
    return st ? st : dev->vt->sync(dev);
}

/* Mean square error over what sums of p such products have for a mean square; infinite where a value is not finite or a value beside the operand changed. */
static double run(struct kn_dev *dev, int64_t m, int64_t n, int64_t p, int ka, int kb, int kc, double alpha, double beta)
{
    float *fa, *fb, *fc;
    double *da, *db, *dc, err = 0;
    struct kn_tensor a = operand(ka, m, p, &fa, 1), b = operand(kb, p, n, &fb, 2), c = operand(kc, m, n, &fc, 3);
    struct kn_tensor wa = widen(&a, &da), wb = widen(&b, &db), wc = widen(&c, &dc);
    int64_t inside = 0, finite = 0, size = m * c.s[0] + n * c.s[1] + 8;
    if (beta == 0) /* what is overwritten must not matter */
        for (int64_t i = 0; i < m; i++)
            for (int64_t j = 0; j < n; j++) ((float *)c.p)[i * c.s[0] + j * c.s[1]] = NAN;
    if (ref->op->gemm(ref, alpha, &wa, &wb, beta, &wc) || product(dev, alpha, &a, &b, beta, &c)) err = INFINITY;
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < n; j++) {
            double want = dc[i * n + j], got = ((float *)c.p)[i * c.s[0] + j * c.s[1]];
            err += (got - want) * (got - want);
            inside++;
        }
    for (int64_t i = 0; i < size; i++) finite += fc[i] == fc[i];
    kt_mem_free(fa), kt_mem_free(fb), kt_mem_free(fc), free(da), free(db), free(dc);
    return finite != inside || err != err ? INFINITY : inside && p ? err / ((double)(inside * p) / 9) : err;
}

enum { HALF_A = 1, HALF_B = 2, HALF_C = 4 };

/* The operand in bf16, the same strides. */
static struct kn_tensor halved(const struct kn_tensor *t, const float *buf, uint16_t **half)
{
    size_t size = (size_t)(t->d[0] * t->s[0] + t->d[1] * t->s[1] + 8);
    struct kn_tensor h = *t;
    *half = kt_mem(size * sizeof **half);
    for (size_t i = 0; i < size; i++) (*half)[i] = half_of(buf[i]);
    h.p = *half + 4, h.dtype = KN_BF16;
    return h;
}

/* As run, with precision bf16 and the operands of `half` bf16 in memory. Products of few rows may take f32 operands as they are: the lesser of the
 * errors against both rounded and against what is in memory counts. A result in bf16 may be off by its rounding. */
static double run_half(struct kn_dev *dev, int64_t m, int64_t n, int64_t p, int ka, int kb, int kc, double alpha, double beta, int half)
{
    float *fa, *fb, *fc;
    uint16_t *ha = NULL, *hb = NULL, *hc = NULL;
    double *da, *db, *dc, *ea, *eb, *ec, err[2] = {0}, limit = 0;
    struct kn_tensor a = operand(ka, m, p, &fa, 1), b = operand(kb, p, n, &fb, 2), c = operand(kc, m, n, &fc, 3);
    if (half & HALF_C) /* what is there to begin with is a bf16 number */
        for (int64_t i = 0; i < m; i++)
            for (int64_t j = 0; j < n; j++) ((float *)c.p)[i * c.s[0] + j * c.s[1]] = of_half(half_of(((float *)c.p)[i * c.s[0] + j * c.s[1]]));
    struct kn_tensor wa = widen(&a, &da), wb = widen(&b, &db), wc = widen(&c, &dc), va = widen(&a, &ea), vb = widen(&b, &eb), vc = widen(&c, &ec);
    for (int64_t i = 0; i < m * p; i++) da[i] = of_half(half_of((float)da[i])), ea[i] = half & HALF_A ? da[i] : ea[i];
    for (int64_t i = 0; i < p * n; i++) db[i] = of_half(half_of((float)db[i])), eb[i] = half & HALF_B ? db[i] : eb[i];
    if (half & HALF_A) a = halved(&a, fa, &ha);
    if (half & HALF_B) b = halved(&b, fb, &hb);
    if (half & HALF_C) c = halved(&c, fc, &hc);
    int64_t inside = 0, finite = 0, size = m * c.s[0] + n * c.s[1] + 8;
    if (beta == 0)
        for (int64_t i = 0; i < m; i++)
            for (int64_t j = 0; j < n; j++) {
                int64_t at = 4 + i * c.s[0] + j * c.s[1];
                if (hc) hc[at] = half_of(NAN);
                else fc[at] = NAN;
            }
    if (ref->op->gemm(ref, alpha, &wa, &wb, beta, &wc) || ref->op->gemm(ref, alpha, &va, &vb, beta, &vc) || product(dev, alpha, &a, &b, beta, &c))
        limit = INFINITY;
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < n; j++) {
            int64_t at = 4 + i * c.s[0] + j * c.s[1];
            double got = hc ? of_half(hc[at]) : fc[at];
            for (int k = 0; k < 2; k++) {
                double e = fabs(got - (k ? ec : dc)[i * n + j]), off = hc ? fabs(got) / 256 : 0;
                e = e > off ? e - off : e == e ? 0 : e;
                err[k] += e * e;
            }
            inside++;
        }
    for (int64_t i = 0; i < size; i++) finite += hc ? of_half(hc[i]) == of_half(hc[i]) : fc[i] == fc[i];
    kt_mem_free(fa), kt_mem_free(fb), kt_mem_free(fc), kt_mem_free(ha), kt_mem_free(hb), kt_mem_free(hc);
    free(da), free(db), free(dc), free(ea), free(eb), free(ec);
    if (finite != inside || err[0] != err[0] || limit > 0) return INFINITY;
    double least = fmin(err[0], err[1]);
    return inside && p ? least / ((double)(inside * p) / 9) : least;
}

static void test_shapes(struct kn_dev *dev)
{
    static const int64_t edge[] = {1, 2, 3, 4, 5, 7, 13, 14, 15, 16, 17, 29, 31, 32, 33, 47, 64, 65};
    static const int64_t sum[] = {1, 3, 4, 15, 16, 17, 37, 64};
    static const int64_t large[][3] = {{128, 96, LONG(384)}, {57, 130, LONG(385)}, {131, 257, LONG(400)}, {8, 1031, 70}, {1, 777, 1030}, {3, 300, 769},
                                       {1031, 5, 97}, {300, 17, LONG(800)}, {20, 40, 2111}, {96, 96, LONG(1500)}, {1, 1, 5000}, {97, 101, LONG(1024)},
                                       {400, 1, 333}, {16, 512, LONG(512)}, {17, 512, LONG(512)}};
    int n = sizeof edge / sizeof *edge;
    double worst = 0;
    for (int i = 0; i < n; i++)
        for (int j = 0; j < n; j++) {
            int64_t p = sum[(i + 3 * j) % 8];
            double e = run(dev, edge[i], edge[j], p, (i + j) % 5, (i * 3 + j) % 5, (i + 2 * j) % 5 % 4, 1, 0);
            if (!(e <= 1e-12)) printf("# %s %lld %lld %lld: %g\n", dev->info.isa, (long long)edge[i], (long long)edge[j], (long long)p, e);
            worst = fmax(worst, e);
        }
    ok(worst <= 1e-12, "%s: shapes around the edges of a tile (worst %.1e)", dev->info.isa, worst);
    worst = 0;
    for (size_t i = 0; i < sizeof large / sizeof *large; i++) {
        double e = run(dev, large[i][0], large[i][1], large[i][2], (int)i % 3, (int)(i / 3) % 2, 0, 0.5, 1);
        if (!(e <= 1e-12)) printf("# %s large %zu: %g\n", dev->info.isa, i, e);
        worst = fmax(worst, e);
    }
    ok(worst <= 1e-12, "%s: shapes around the edges of a block (worst %.1e)", dev->info.isa, worst);
}

static void test_strides(struct kn_dev *dev)
{
    static const int64_t shape[][3] = {{3, 70, 50}, {4, 200, 33}, {12, 40, 64}, {40, 12, 64}, {45, 70, 90}};
    static const double ab[][2] = {{1, 0}, {1, 1}, {-0.5, 0.25}, {2, 0}};
    double worst = 0;
    for (int i = 0; i < 5; i++)
        for (int k = 0; k < 125; k++) {
            const double *f = ab[(k + i) % 4];
            double e = run(dev, shape[i][0], shape[i][1], shape[i][2], k % 5, k / 5 % 5, k / 25, f[0], f[1]);
            if (!(e <= 1e-12)) printf("# %s shape %d kinds %d %d %d: %g\n", dev->info.isa, i, k % 5, k / 5 % 5, k / 25, e);
            worst = fmax(worst, e);
        }
    ok(worst <= 1e-12, "%s: all strides and transpositions, alpha, beta (worst %.1e)", dev->info.isa, worst);
    worst = fmax(run(dev, 100, 60, LONG(2000), 1, 0, 0, 0.25, 1), run(dev, 64, 64, LONG(2000), 1, 0, 1, -1, 0.5));
    ok(worst <= 1e-12, "%s: a weight's gradient, long sum (worst %.1e)", dev->info.isa, worst);
    worst = fmax(run(dev, 300, 70, LONG(800), 0, 1, 0, 1, 0), run(dev, 300, 70, LONG(800), 1, 0, 0, 0.5, 0.25));
    ok(worst <= 1e-12, "%s: many rows, several blocks of the sum (worst %.1e)", dev->info.isa, worst);
    ok(run(dev, 5, 7, 0, 0, 0, 0, 1, 0) == 0 && run(dev, 5, 7, 0, 0, 0, 4, 1, 0.5) == 0, "%s: empty sum is beta c", dev->info.isa);
    ok(run(dev, 0, 7, 3, 0, 0, 0, 1, 0) == 0 && run(dev, 5, 0, 3, 0, 0, 0, 1, 0) == 0, "%s: empty output", dev->info.isa);
}

/* Few rows or columns, the other operand's numbers side by side along the sum: shapes that leave parts of it over, strides that keep fours together and that do not. */
static const int64_t few[][3] = {{1, 300, 769}, {1, 3, 4100}, {1, 2, 8448}, {2, 130, 256}, {3, 31, 2304}, {4, 9, 2200}, {5, 33, 1100}, {8, 70, 2056}, {7, 1, 65}, {1, 1, 64},
                                 {70, 1, 1000}, {130, 3, 260}, {33, 8, 1028}, {6, 5, 512}};
#define FEW (int)(sizeof few / sizeof *few)

static void test_few(struct kn_dev *dev, int half)
{
    double worst = 0, most = half ? 1e-11 : 1e-12;
    for (int i = 0; i < FEW * 4; i++) {
        static const int across[] = {0, 2, 5, 4}, along[] = {1, 3, 6, 1};
        const int64_t *s = few[i / 4];
        int k = i % 4, cols = s[0] > s[1], ka = cols ? across[k % 3] : across[(k + i / 4) % 4], kb = cols ? along[(k + i / 4) % 4] : along[k], kc = (i * 3 + i / 7) % 5;
        double beta = i % 3 ? 0.5 : 0;
        double e = half ? run_half(dev, s[0], s[1], s[2], ka, kb, kc, -0.5, beta, (i + i / 8) % 8) : run(dev, s[0], s[1], s[2], ka, kb, kc, -0.5, beta);
        if (!(e <= most)) printf("# few %lld %lld %lld, kinds %d %d %d: %g\n", (long long)s[0], (long long)s[1], (long long)s[2], ka, kb, kc, e);
        worst = fmax(worst, e);
    }
    ok(worst <= most, "%s, %s: few rows, few columns (worst %.1e)", dev->info.isa, half ? "bf16" : "f32", worst);
}

static void test_half(struct kn_dev *dev)
{
    static const int64_t edge[] = {1, 2, 3, 5, 13, 14, 15, 16, 17, 29, 31, 32, 33, 47, 65};
    static const int64_t sum[] = {1, 2, 3, 31, 32, 33, 37, 64, 127};
    static const int64_t large[][3] = {{128, 96, LONG(384)}, {57, 130, LONG(1385)}, {331, 257, LONG(800)}, {8, 1031, 70}, {300, 17, LONG(800)}, {20, 40, LONG(2111)},
                                       {96, 96, LONG(1500)}, {97, 101, LONG(1025)}, {400, 1, 333}, {16, 512, LONG(512)}, {17, 512, LONG(512)}, {300, 70, LONG(1601)}};
    int n = sizeof edge / sizeof *edge;
    double worst = 0;
    for (int i = 0; i < n; i++)
        for (int j = 0; j < n; j++) {
            int64_t p = sum[(i + 3 * j) % 9];
            int kc = (i + 2 * j) % 5 % 4, half = (i + 5 * j) % 8;
            double e = run_half(dev, edge[i], edge[j], p, (i + j) % 5, (i * 3 + j) % 5, kc, 1, 0, half);
            if (!(e <= 1e-11)) printf("# %lld %lld %lld, half %d: %g\n", (long long)edge[i], (long long)edge[j], (long long)p, half, e);
            worst = fmax(worst, e);
        }
    ok(worst <= 1e-11, "bf16: shapes around the edges of a tile (worst %.1e)", worst);
    worst = 0;
    for (size_t i = 0; i < 4 * sizeof large / sizeof *large; i++) {
        const int64_t *s = large[i / 4];
        double e = run_half(dev, s[0], s[1], s[2], (int)i % 3, (int)(i / 2) % 3, 0, 0.5, 1, (int)(i * 3 + i / 8) % 8);
        if (!(e <= 1e-11)) printf("# large %zu: %g\n", i, e);
        worst = fmax(worst, e);
    }
    ok(worst <= 1e-11, "bf16: shapes around the edges of a block (worst %.1e)", worst);
    worst = 0;
    for (int k = 0; k < 125; k++) {
        double e = run_half(dev, 45, 70, 90, k % 5, k / 5 % 5, k / 25, -0.5, k % 2 ? 0.25 : 0, k % 8);
        if (!(e <= 1e-11)) printf("# kinds %d %d %d: %g\n", k % 5, k / 5 % 5, k / 25, e);
        worst = fmax(worst, e);
    }
    ok(worst <= 1e-11, "bf16: all strides and transpositions (worst %.1e)", worst);
    worst = 0;
    for (int k = 0; k < 32; k++) {
        static const int a[] = {5, 6, 0, 2}, b[] = {6, 5, 1, 3};
        worst = fmax(worst, run_half(dev, 40, 72, 96, a[k % 4], b[k / 4 % 4], k % 3, 1, k % 2, k / 16 * 7));
    }
    ok(worst <= 1e-11, "bf16: strides and dims of whole eights (worst %.1e)", worst);
    ok(run_half(dev, 5, 7, 0, 0, 0, 0, 1, 0, 0) == 0 && run_half(dev, 5, 7, 0, 0, 0, 4, 1, 0.5, HALF_C) == 0, "bf16: empty sum is beta c");
}

#ifdef KT_CUDA
/* cuBLASLt may know no way to multiply: what it was to take goes the plain way. Where it is the real one, it does as it likes. */
void cudahost_blas_refuse(int none) __attribute__((weak));

static void test_refused(struct kn_dev *dev)
{
    if (!cudahost_blas_refuse) {
        tap_skip("cuBLASLt cannot be told to refuse");
        return;
    }
    cudahost_blas_refuse(1);
    double f32 = fmax(run(dev, 67, 71, 73, 0, 0, 0, 1, 0), run(dev, 67, 130, 73, 1, 3, 1, -0.5, 0.5));
    kn_precision(dev, KN_BF16);
    double half = fmax(run_half(dev, 67, 71, 73, 0, 0, 0, 1, 0, 0), run_half(dev, 67, 130, 73, 3, 1, 2, -0.5, 0.5, HALF_A | HALF_C));
    kn_precision(dev, KN_F32);
    cudahost_blas_refuse(0);
    ok(f32 <= 1e-12 && half <= 1e-11, "refused by cuBLASLt: f32 %.1e, bf16 %.1e", f32, half);
}
#endif

/* Same bits for any number of threads; shapes of every path. */
static void test_threads(const char *name, enum kn_dtype precision)
{
    static const int64_t shape[][5] = {{200, 300, LONG(500), 0, 0}, {300, 200, LONG(500), 1, 0}, {64, 64, LONG(3000), 1, 0}, {1, 2000, 300, 0, 1},
                                       {9, 700, 300, 0, 1}, {3, 1500, 300, 0, 0}, {500, 90, LONG(400), 0, 1}};
    float *fa, *fb, *fc, *first[7] = {0};
    int same = 1;
    for (int threads = 1; threads <= 4; threads++) {
        struct kn_dev *dev;
        if (kn_dev_open(&dev, name, threads, NULL)) return;
        same &= !kn_precision(dev, precision);
        for (int i = 0; i < 7; i++) {
            const int64_t *s = shape[i];
            struct kn_tensor a = operand((int)s[3], s[0], s[2], &fa, 4), b = operand((int)s[4], s[2], s[1], &fb, 5);
            struct kn_tensor c = operand(0, s[0], s[1], &fc, 6);
            same &= !product(dev, 1, &a, &b, 0.5, &c);
            if (threads == 1) first[i] = fc;
            else {
                same &= !memcmp((float *)c.p, first[i] + 4, (size_t)(s[0] * s[1]) * 4);
                kt_mem_free(fc);
            }
            kt_mem_free(fa), kt_mem_free(fb);
        }
        kn_dev_close(dev);
    }
    for (int i = 0; i < 7; i++) kt_mem_free(first[i]);
    ok(same, "%s, %s: the same bits with 1, 2, 3 and 4 threads", name, kn_dtype_name(precision));
}

static void test_errors(struct kn_dev *dev)
{
    float x[64] = {0};
    struct kn_tensor a = kn_t2(x, KN_F32, 4, 4), b = kn_t2(x, KN_F32, 3, 4), d = kn_t2(x, KN_F64, 4, 4), h = kn_t2(x, KN_BF16, 4, 4);
    struct kn_tensor v = kn_t1(x, KN_F32, 4);
    is_int(dev->op->gemm(dev, 1, &a, &b, 0, &a), ST_EINVAL, "inner dims differ");
    is_int(dev->op->gemm(dev, 1, &b, &a, 0, &a), ST_EINVAL, "output has another shape");
    is_int(dev->op->gemm(dev, 1, &a, &d, 0, &a), ST_EINVAL, "two dtypes");
    is_int(dev->op->gemm(dev, 1, &a, &v, 0, &a), ST_EINVAL, "a vector");
    is_int(dev->op->gemm(dev, 1, &a, NULL, 0, &a), ST_EINVAL, "no operand");
    is_int(dev->op->gemm(dev, 1, &d, &d, 0, &d), ST_ENOTSUP, "no f64 but on the reference");
    is_int(dev->op->gemm(dev, 1, &h, &h, 0, &h), ST_ENOTSUP, "bf16 in memory wants the precision");
    is_int(dev->op->gemm(dev, 1, &h, &d, 0, &a), ST_EINVAL, "bf16 and f64");
#ifndef KT_CUDA
    is_int(kn_precision(dev, KN_BF16), ST_ENOTSUP, "the generic set has no bf16");
#endif
    is_int(kn_precision(dev, KN_F64), ST_ENOTSUP, "nor is f64 a precision");
}

/* Scratch that does not fit is an error, then and only then; once it is there, nothing is allocated. No stride is 1: every device takes scratch. */
static void test_memory(void)
{
    struct kn_dev *dev;
    float *fa, *fb, *fc;
#ifdef KT_CUDA
    const char *name = kt_isa[0];
#else
    const char *name = "cpu";
#endif
    if (!ok(!kn_dev_open(&dev, name, 2, NULL), "%s opens", name)) return;
    struct kn_tensor a = operand(4, 90, 80, &fa, 1), b = operand(4, 80, 70, &fb, 2), c = operand(0, 90, 70, &fc, 3);
    uint64_t memory = dev->info.memory;
    dev->info.memory = 1000;
    is_int(product(dev, 1, &a, &b, 0, &c), ST_ENOMEM, "scratch over the device's memory");
    dev->info.memory = memory;
    is_int(product(dev, 1, &a, &b, 0, &c), ST_OK, "and once there is room it goes on");
    uint64_t bytes = kn_dev_bytes(dev);
    ok(bytes > 0, "scratch is counted");
    dev->info.memory = bytes;
    is_int(product(dev, 1, &a, &b, 0, &c), ST_OK, "no more is asked for the same shape");
    is_int(kn_dev_bytes(dev), bytes, "and none was taken");
    kn_trim(dev);
    is_int(kn_dev_bytes(dev), 0, "it can be given back");
    kn_dev_close(dev);
    kt_mem_free(fa), kt_mem_free(fb), kt_mem_free(fc);
}

int main(void)
{
    struct kn_dev *dev;
    if (!ok(!kn_dev_open(&ref, "ref", 1, NULL), "ref opens")) return tap_done();
    for (int i = 0; i < KT_ISAS; i++) {
        if (kn_dev_open(&dev, kt_isa[i], 2, NULL)) {
            tap_skip("this machine lacks the instruction set");
            continue;
        }
        test_shapes(dev);
        test_strides(dev);
        test_few(dev, 0);
#ifdef KT_CUDA
        test_refused(dev);
#endif
        if (i == 0) test_errors(dev);
        if (!kn_precision(dev, KN_BF16)) test_half(dev), test_few(dev, 1);
        else tap_skip("no bf16 with this instruction set");
        int half = dev->info.bf16;
        kn_dev_close(dev);
        test_threads(kt_isa[i], KN_F32);
        if (half) test_threads(kt_isa[i], KN_BF16);
    }
    test_memory();
    kn_dev_close(ref);
    return tap_done();
}
