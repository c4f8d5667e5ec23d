/* copy (and cast), axpy, fill. */
#include "tests/kernels/kntest.h"

struct call {
    struct kt x, y;
};

static st_t copy(struct kn_dev *dev, int ref, void *arg)
{
    struct call *c = arg;
    return dev->op->copy(dev, ref ? kt_d(&c->x) : kt_f(&c->x), ref ? kt_d(&c->y) : kt_f(&c->y));
}

static st_t axpy(struct kn_dev *dev, int ref, void *arg)
{
    struct call *c = arg;
    return dev->op->axpy(dev, -0.75, ref ? kt_d(&c->x) : kt_f(&c->x), ref ? kt_d(&c->y) : kt_f(&c->y));
}

static st_t fill(struct kn_dev *dev, int ref, void *arg)
{
    struct call *c = arg;
    return dev->op->fill(dev, ref ? kt_d(&c->y) : kt_f(&c->y), 1.5);
}

static st_t clear(struct kn_dev *dev, int ref, void *arg)
{
    struct call *c = arg;
    return dev->op->fill(dev, ref ? kt_d(&c->y) : kt_f(&c->y), 0);
}

static void check(const char *name, int rank, const int64_t *d, const int64_t *sx, const int64_t *sy)
{
    struct call c = {kt_new(rank, d, sx, 1, 1), kt_new(rank, d, sy, 1, 2)};
    char what[96];
    struct kt *const outs[] = {&c.y};
    st_t (*const fn[])(struct kn_dev *, int, void *) = {copy, axpy, fill, clear};
    const char *const names[] = {"copy", "axpy", "fill", "clear"};
    for (int i = 0; i < 4; i++) {
        snprintf(what, sizeof what, "%s, %s", names[i], name);
        kt_compare(what, fn[i], &c, outs, 1, i == 1 ? 1e-13 : 0);
    }
    kt_free(&c.x);
    kt_free(&c.y);
}

static float bf16(uint16_t h)
{
    uint32_t u = (uint32_t)h << 16;
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

static void casts(void)
{
    static const float numbers[] = {0, -0.0f, 1, 1.00390625f, 1.01171875f, 3.4e38f, 1e-40f, INFINITY, NAN, -2.5f};
    float *in = kt_mem(sizeof numbers), *back = kt_mem(sizeof numbers);
    uint16_t *h = kt_mem(10 * sizeof *h);
    int32_t *i4 = kt_mem(6 * sizeof *i4), *o4 = kt_mem(6 * sizeof *o4);
    uint8_t *i1 = kt_mem(6), *o1 = kt_mem(6);
    memcpy(in, numbers, sizeof numbers);
    memcpy(i4, (int32_t[]){1, -2, 3, 4, 5, 6}, 6 * sizeof *i4);
    memcpy(i1, (uint8_t[]){1, 2, 3, 4, 5, 255}, 6);
    for (int i = 0; i < KT_ISAS; i++) {
        struct kn_dev *dev = kt_cpu[i][0];
        if (!dev) continue;
        struct kn_tensor f = kn_t1(in, KN_F32, 10), b = kn_t1(h, KN_BF16, 10), g = kn_t1(back, KN_F32, 10);
        st_t st = dev->op->copy(dev, &f, &b);
        if (!st) st = dev->op->copy(dev, &b, &g);
        /* ties go to the even mantissa; what overflows is infinite */
        ok(!st && back[0] == 0 && signbit(back[1]) && back[2] == 1 && back[3] == 1 && back[4] == 1.015625f &&
               isinf(back[5]) && isinf(back[7]) && isnan(back[8]) && back[9] == -2.5f,
           "%s: f32 to bf16 and back", kt_isa[i]);
        struct kn_tensor fb = kn_slice(&b, 0, 2, 3);
        st = dev->op->fill(dev, &fb, 3);
        ok(!st && bf16(h[1]) == 0 && bf16(h[2]) == 3 && bf16(h[4]) == 3 && isinf(bf16(h[5])), "%s: fill of bf16",
           kt_isa[i]);
        struct kn_tensor a = kn_t2(i4, KN_I32, 2, 3), c = kn_t2(o4, KN_I32, 3, 2), ct = kn_transpose(&c);
        st = dev->op->copy(dev, &a, &ct);
        ok(!st && o4[0] == 1 && o4[1] == 4 && o4[2] == -2 && o4[5] == 6, "%s: a transposed copy of i32", kt_isa[i]);
        struct kn_tensor u = kn_t1(i1, KN_U8, 6), v = kn_t1(o1, KN_U8, 6);
        st = dev->op->copy(dev, &u, &v);
        ok(!st && !memcmp(i1, o1, 6), "%s: u8", kt_isa[i]);
        st = dev->op->fill(dev, &c, -5);
        ok(!st && o4[0] == -5 && o4[5] == -5, "%s: fill of i32", kt_isa[i]);
        is_int(dev->op->copy(dev, &a, &v), ST_EINVAL, "%s: another shape", kt_isa[i]);
        struct kn_tensor flat = kn_t1(i4, KN_I32, 6);
        is_int(dev->op->copy(dev, &flat, &v), ST_ENOTSUP, "%s: i32 to u8", kt_isa[i]);
        is_int(dev->op->axpy(dev, 1, &b, &b), ST_ENOTSUP, "%s: axpy of bf16", kt_isa[i]);
    }
    void *all[] = {in, back, h, i4, o4, i1, o1};
    for (int i = 0; i < 7; i++) kt_mem_free(all[i]);
}

/* [3,a,b] in any order of dims and with gaps, `off` elements into its memory, every pair of types, bit for bit what the reference makes of it; and a fill of what
 * was copied to. */
static void types(int64_t a, int64_t b, int64_t off)
{
    static const struct {
        enum kn_dtype x, y;
    } pairs[] = {{KN_F32, KN_F32}, {KN_F32, KN_BF16}, {KN_BF16, KN_F32}, {KN_BF16, KN_BF16}, {KN_I32, KN_I32}, {KN_U8, KN_U8}};
    int64_t d[3] = {3, a, b}, n = off + 3 * (a + 3) * (b + 8), row = b + 8;
    int64_t straight[3] = {a * b, b, 1}, wide[3] = {(a + 3) * row, row, 1}, turned[3] = {a * b, 1, a}, inside[3] = {1, 3 * b, 3};
    const int64_t *orders[] = {straight, wide, turned, inside};
    unsigned char *x = kt_mem((size_t)n * 4), *y = kt_mem((size_t)n * 4), *want = kt_mem((size_t)n * 4);
    struct base_rng r = base_rng_at(5, RNG_TEST, 0);
    for (unsigned p = 0; p < sizeof pairs / sizeof pairs[0]; p++) {
        for (int64_t i = 0; i < n; i++) {
            float f = (float)base_rng_normal(&r);
            uint16_t h = kt_round(f);
            if (pairs[p].x == KN_BF16) memcpy(x + 2 * i, &h, 2);
            else if (pairs[p].x == KN_U8) x[i] = (unsigned char)(100 * f);
            else memcpy(x + 4 * i, &f, 4);
        }
        for (int i = 0; i < KT_ISAS; i++) {
            struct kn_dev *dev = kt_cpu[i][1];
            int bad = 0, cases = 0;
            if (!dev) continue;
            for (int from = 0; from < 4; from++)
                for (int to = 0; to < 4; to++) {
                    struct kn_tensor tx = {x, pairs[p].x, 3, {d[0], d[1], d[2]}, {orders[from][0], orders[from][1], orders[from][2]}};
                    struct kn_tensor ty = {y, pairs[p].y, 3, {d[0], d[1], d[2]}, {orders[to][0], orders[to][1], orders[to][2]}}, tw = ty;
                    tw.p = want + off * (int64_t)kn_dtype_size(tw.dtype);
                    tx.p = x + off * (int64_t)kn_dtype_size(tx.dtype), ty.p = y + off * (int64_t)kn_dtype_size(ty.dtype);
                    memset(y, 0x5a, (size_t)n * 4), memset(want, 0x5a, (size_t)n * 4);
                    bad += kt_ref->op->copy(kt_ref, &tx, &tw) || dev->op->copy(dev, &tx, &ty) || memcmp(y, want, (size_t)n * 4);
                    bad += kt_ref->op->fill(kt_ref, &tw, 1.25) || dev->op->fill(dev, &ty, 1.25) || memcmp(y, want, (size_t)n * 4);
                    cases++;
                }
            ok(!bad, "%s: %s to %s, 3 x %d x %d from %d on, %d pairs of orders (%d wrong)", kt_isa[i], kn_dtype_name(pairs[p].x), kn_dtype_name(pairs[p].y), (int)a, (int)b, (int)off,
               cases, bad);
        }
    }
    kt_mem_free(x), kt_mem_free(y), kt_mem_free(want);
}

struct sum_call {
    struct kt dy, db;
};

static st_t sum_rows(struct kn_dev *dev, int ref, void *arg)
{
    struct sum_call *c = arg;
    const struct kn_tensor *(*of)(struct kt *) = ref ? kt_d : kt_f;
    return dev->op->sum_rows(dev, of(&c->dy), of(&c->db));
}

static void check_sum_rows(int64_t n, int64_t d, const int64_t *s)
{
    struct sum_call c = {kt_new(2, (int64_t[]){n, d}, s, 1, 1), kt_new(1, (int64_t[]){d}, NULL, 1, 2)};
    char what[64];
    snprintf(what, sizeof what, "sum_rows %d x %d%s", (int)n, (int)d, s ? ", apart" : "");
    kt_compare(what, sum_rows, &c, (struct kt *const[]){&c.db}, 1, 1e-11);
    kt_free(&c.dy);
    kt_free(&c.db);
}

int main(void)
{
    kt_open();
    check("a vector", 1, (int64_t[]){20011}, NULL, NULL);
    check("one element", 1, (int64_t[]){1}, NULL, NULL);
    check("a vector with gaps", 1, (int64_t[]){501}, (int64_t[]){3}, (int64_t[]){2});
    check("rows with gaps", 2, (int64_t[]){70, 33}, (int64_t[]){40, 1}, NULL);
    check("a transpose", 2, (int64_t[]){70, 33}, (int64_t[]){1, 70}, NULL);
    check("rank 4, mixed", 4, (int64_t[]){3, 5, 1, 16}, (int64_t[]){80, 16, 7, 1}, (int64_t[]){300, 20, 16, 1});
    check("rank 4, transposed heads", 4, (int64_t[]){2, 4, 30, 16}, (int64_t[]){1920, 16, 64, 1}, NULL);
    check("long rows", 2, (int64_t[]){2, 20000}, (int64_t[]){20001, 1}, (int64_t[]){20003, 1});
    check("a column", 2, (int64_t[]){100, 1}, (int64_t[]){5, 1}, (int64_t[]){3, 1});
    check("nothing", 2, (int64_t[]){0, 7}, NULL, NULL);
    check("rows apart, whole fours", 2, (int64_t[]){9, 40}, (int64_t[]){48, 1}, (int64_t[]){44, 1});
    check("a row for all rows", 2, (int64_t[]){19, 36}, (int64_t[]){0, 1}, NULL);
    check("a column for all columns", 2, (int64_t[]){19, 36}, (int64_t[]){1, 0}, NULL);
    check("both transposed", 2, (int64_t[]){19, 36}, (int64_t[]){1, 20}, (int64_t[]){1, 24});
    casts();
    types(20, 36, 0);
    types(13, 45, 0);
    types(1, 64, 0);
    types(20, 36, 1);
    types(1, 64, 3);
    check_sum_rows(1, 1, NULL);
    check_sum_rows(300, 200, NULL);
    check_sum_rows(37, 65, (int64_t[]){70, 1});
    check_sum_rows(37, 65, (int64_t[]){1, 37});
    check_sum_rows(301, 256, (int64_t[]){260, 1}); /* whole fours */
    check_sum_rows(20, 36, (int64_t[]){80, 2});
    check_sum_rows(700, 11, (int64_t[]){1, 701});
    check_sum_rows(0, 5, NULL);
    struct kn_dev *dev = kt_cpu[0][0];
    struct kt x = kt_new(1, (int64_t[]){8}, NULL, 1, 1);
    is_int(dev->op->copy(dev, kt_d(&x), kt_d(&x)), ST_ENOTSUP, "copy of f64");
    is_int(dev->op->axpy(dev, 1, kt_d(&x), kt_d(&x)), ST_ENOTSUP, "axpy of f64");
    is_int(dev->op->fill(dev, kt_d(&x), 1), ST_ENOTSUP, "fill of f64");
    is_int(dev->op->sum_rows(dev, kt_d(&x), kt_d(&x)), ST_EINVAL, "sum_rows of a vector");
    kt_free(&x);
    kt_close();
    return tap_done();
}
