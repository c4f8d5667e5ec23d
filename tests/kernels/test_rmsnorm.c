/* RMSNorm with residual, and its backward. */
#include "tests/kernels/kntest.h"

struct call {
    struct kt x, r, w, y, rstd, dy, dx, dw;
    int residual;
};

static st_t run(struct kn_dev *dev, int ref, void *arg)
{
    struct call *c = arg;
    const struct kn_tensor *(*of)(struct kt *) = ref ? kt_d : kt_f;
    st_t st =
        dev->op->rmsnorm(dev, of(&c->x), c->residual ? of(&c->r) : NULL, of(&c->w), 1e-5, of(&c->y), of(&c->rstd));
    return st ? st : dev->op->rmsnorm_bwd(dev, of(&c->x), of(&c->w), of(&c->rstd), of(&c->dy), of(&c->dx), of(&c->dw));
}

static void check(int64_t n, int64_t d, int residual, int strided, double amp)
{
    int64_t nd[] = {n, d}, wide[] = {d + 5, 1}, apart[] = {2 * d + 1, 2}, two[] = {2};
    const int64_t *s = strided == 1 ? wide : strided == 2 ? apart : NULL, *alone = strided == 3 ? wide : s;
    struct call c = {
        .x = kt_new(2, nd, s, amp, 1),
        .r = kt_new(2, nd, s, amp, 2),
        .w = kt_new(1, nd + 1, strided == 2 ? two : NULL, 1, 3),
        .y = kt_new(2, nd, alone, 1, 4), /* strided = 3: it and dx alone */
        .rstd = kt_new(1, nd, strided ? two : NULL, 1, 5),
        .dy = kt_new(2, nd, s, 1, 6),
        .dx = kt_new(2, nd, alone, 1, 7),
        .dw = kt_new(1, nd + 1, strided == 2 ? two : NULL, 1, 8),
        .residual = residual,
    };
    char what[96];
    snprintf(what, sizeof what, "%d x %d%s strides %d amplitude %g", (int)n, (int)d, residual ? " residual" : "",
             strided, amp);
    kt_compare(what, run, &c, (struct kt *const[]){&c.x, &c.y, &c.rstd, &c.dx, &c.dw}, 5, 1e-11);
    struct kt *all[] = {&c.x, &c.r, &c.w, &c.y, &c.rstd, &c.dy, &c.dx, &c.dw};
    for (int i = 0; i < 8; i++) kt_free(all[i]);
}

/* y in bf16, rows wider than y: what f32 gives, rounded to nearest even; x, rstd to the bit. */
static void halves(int64_t D, int64_t wide)
{
    enum { N = 37 };
    struct kn_dev *dev = kt_cpu[KT_ISAS - 1][1];
    if (!dev || kn_precision(dev, KN_BF16)) {
        tap_skip("no bf16");
        return;
    }
    float *x[3], *rstd[3], *w = kt_mem((size_t)D * sizeof *w), *y = kt_mem((size_t)(N * D) * sizeof *y);
    uint16_t *h[2];
    struct base_rng g = base_rng_at(1, RNG_TEST, 0);
    for (int i = 0; i < 3; i++) x[i] = kt_mem((size_t)(N * D) * sizeof *x[i]), rstd[i] = kt_mem(N * sizeof *rstd[i]);
    for (int i = 0; i < 2; i++) h[i] = kt_mem((size_t)(N * wide) * sizeof *h[i]), memset(h[i], 0xff, (size_t)(N * wide) * sizeof *h[i]);
    for (int i = 0; i < N * D; i++) x[0][i] = x[1][i] = x[2][i] = (float)base_rng_normal(&g);
    for (int i = 0; i < D; i++) w[i] = (float)base_rng_normal(&g);
    struct kn_tensor tw = kn_t1(w, KN_F32, D), none = {0}, ty = kn_t2(y, KN_F32, N, D);
    struct kn_tensor th[2] = {{h[0], KN_BF16, 2, {N, D}, {wide, 1}}, {h[1], KN_BF16, 2, {N, D}, {wide, 1}}};
    struct kn_tensor tx[3] = {kn_t2(x[0], KN_F32, N, D), kn_t2(x[1], KN_F32, N, D), kn_t2(x[2], KN_F32, N, D)};
    struct kn_tensor ts[3] = {kn_t1(rstd[0], KN_F32, N), kn_t1(rstd[1], KN_F32, N), kn_t1(rstd[2], KN_F32, N)};
    struct kn_dev *plain = kt_cpu[KT_ISAS - 1][0];
    is_int(plain->op->rmsnorm(plain, &tx[2], &none, &tw, 1e-5, &th[0], &ts[2]), ST_ENOTSUP, "y in bf16 under precision f32");
    kn_precision(kt_ref, KN_BF16);
    int bad = dev->op->rmsnorm(dev, &tx[0], &none, &tw, 1e-5, &th[0], &ts[0]) || kt_ref->op->rmsnorm(kt_ref, &tx[1], &none, &tw, 1e-5, &th[1], &ts[1]) ||
              dev->op->rmsnorm(dev, &tx[2], &none, &tw, 1e-5, &ty, &ts[2]);
    kn_precision(kt_ref, KN_F32), kn_precision(dev, KN_F32);
    int differ = 0, far = 0, outside = 0;
    for (int i = 0; i < N; i++)
        for (int k = 0; k < wide; k++) {
            uint32_t u;
            memcpy(&u, &y[i * D + (k < D ? k : 0)], 4);
            u += 0x7fff + (u >> 16 & 1);
            differ += k < D && h[0][i * wide + k] != u >> 16;
            far += k < D && abs(h[0][i * wide + k] - h[1][i * wide + k]) > 1;
            outside += k >= D && h[0][i * wide + k] != 0xffff;
        }
    ok(!bad && !differ && !memcmp(rstd[0], rstd[2], N * sizeof *rstd[0]), "y in bf16, %d wide: f32's, rounded (%d differ)", (int)D, differ);
    ok(!far && !outside, "y in bf16: the reference's within a unit, nothing beyond it (%d, %d)", far, outside);
    for (int i = 0; i < 3; i++) kt_mem_free(x[i]), kt_mem_free(rstd[i]);
    for (int i = 0; i < 2; i++) kt_mem_free(h[i]);
    kt_mem_free(w), kt_mem_free(y);
}

int main(void)
{
    kt_open();
    halves(101, 103);
    halves(104, 112);
    check(1, 1, 1, 0, 1);
    check(1, 256, 1, 0, 1);
    check(33, 20, 1, 0, 1);
    check(100, 64, 0, 0, 1);
    check(300, 129, 1, 1, 1);
    check(70, 515, 0, 1, 1);
    check(41, 48, 1, 2, 1);
    check(41, 48, 0, 3, 1);
    check(41, 33, 0, 2, 1);
    check(16, 128, 1, 0, 0); /* zeros: eps alone keeps it finite */
    check(16, 128, 1, 0, 1e4);
    check(2000, 64, 1, 0, 1);
    check(5, 4, 1, 0, 1);
    check(70, 260, 1, 0, 1); /* longer and longer rows, up to those that no block holds */
    check(150, 516, 1, 0, 1);
    check(9, 1164, 0, 0, 1);
    check(3, 4120, 1, 0, 1);
    check(2, 8200, 1, 0, 1);

    struct kn_dev *dev = kt_cpu[0][0];
    struct kt x = kt_new(2, (int64_t[]){3, 8}, NULL, 1, 1), w = kt_new(1, (int64_t[]){7}, NULL, 1, 2),
              v = kt_new(1, (int64_t[]){8}, NULL, 1, 3);
    struct kt rstd = kt_new(1, (int64_t[]){3}, NULL, 1, 4);
    is_int(dev->op->rmsnorm(dev, kt_f(&x), NULL, kt_f(&w), 1e-5, kt_f(&x), kt_f(&rstd)), ST_EINVAL,
           "w of another width");
    is_int(dev->op->rmsnorm(dev, kt_d(&x), NULL, kt_d(&v), 1e-5, kt_d(&x), kt_d(&rstd)), ST_ENOTSUP, "f64");
    is_int(dev->op->rmsnorm_bwd(dev, kt_f(&x), kt_f(&v), kt_f(&v), kt_f(&x), kt_f(&x), kt_f(&v)), ST_EINVAL,
           "rstd of another length");
    kt_free(&x);
    kt_free(&w);
    kt_free(&v);
    kt_free(&rstd);
    kt_close();
    return tap_done();
}
