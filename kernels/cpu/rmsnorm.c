/* RMSNorm with the residual add before it: a row is read from memory once and stays in the first cache for its second
 * pass. The backward's dw: each block of rows sums into its own partial row, and the partials are added in the order of
 * the blocks. */
#ifndef VEC_PASS
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/gemm.h"
#include "kernels/cpu/rows.h"

#define VEC_FILE "kernels/cpu/rmsnorm.c"
#include "kernels/cpu/vec_each.h"

static float (*const fwd_each[])(float *x, const float *r, const float *w, float *y, int64_t d,
                                 float eps) = VEC_EACH(fwd);
static void (*const bwd_each[])(const float *x, const float *w, float rstd, const float *dy, float *dx, float *dw,
                                int64_t d) = VEC_EACH(bwd);
static void (*const add_each[])(float *dw, const float *part, int64_t rows, int64_t stride, int64_t n) = VEC_EACH(add);

#define BLOCKS  64 /* partial rows of dw at most */
#define COLUMNS 64 /* of dw, that a task of the last step adds up */

struct ctx {
    struct kn_dev *dev;
    struct rows x, r, y, dx; /* y: dy in the backward */
    const float *w;
    struct rows w_row; /* one row, for a w that is not contiguous */
    float *rstd;
    int64_t rs, n, d, step;
    float eps;
    int whole;
    uint16_t *half; /* y, where it is bf16; y.s0 between rows */
    float *part; /* [blocks][d] partial dw */
    int64_t blocks;
    struct rows dw; /* one row */
};

static struct rows row_of(const struct kn_tensor *t)
{
    return (struct rows){t->p, 0, t->s[0]};
}

static void fwd_task(void *arg, int task, int worker)
{
    struct ctx *c = arg;
    int64_t d = c->d, end = (task + 1) * c->step < c->n ? (task + 1) * c->step : c->n;
    float *buf = c->whole && !c->half ? NULL : cpu_scratch(c->dev, worker);
    const float *w = row_in(&c->w_row, 0, d, buf);
    for (int64_t i = task * c->step; i < end; i++) {
        float *x = row_in(&c->x, i, d, buf + d);
        const float *r = c->r.p ? row_in(&c->r, i, d, buf + 2 * d) : NULL;
        float *y = c->half ? buf + 3 * d : row_out(&c->y, i, buf + 3 * d);
        c->rstd[i * c->rs] = fwd_each[cpu_of(c->dev)->isa](x, r, w, y, d, c->eps);
        if (r) row_done(&c->x, i, d, x);
        if (c->half) cpu_gemm_bf16->narrow(c->half + i * c->y.s0, 0, y, 0, 0, 1, d);
        else row_done(&c->y, i, d, y);
    }
}

static void bwd_task(void *arg, int task, int worker)
{
    struct ctx *c = arg;
    int64_t d = c->d, end = (task + 1) * c->step < c->n ? (task + 1) * c->step : c->n;
    float *buf = c->whole ? NULL : cpu_scratch(c->dev, worker);
    const float *w = row_in(&c->w_row, 0, d, buf);
    float *dw = c->part + task * d;
    memset(dw, 0, (size_t)d * sizeof *dw);
    for (int64_t i = task * c->step; i < end; i++) {
        const float *x = row_in(&c->x, i, d, buf + d), *dy = row_in(&c->y, i, d, buf + 2 * d);
        float *dx = row_in(&c->dx, i, d, buf + 3 * d);
        bwd_each[cpu_of(c->dev)->isa](x, w, c->rstd[i * c->rs], dy, dx, dw, d);
        row_done(&c->dx, i, d, dx);
    }
}

static void dw_task(void *arg, int task, int worker)
{
    struct ctx *c = arg;
    int64_t from = (int64_t)task * COLUMNS, n = c->d - from < COLUMNS ? c->d - from : COLUMNS;
    float buf[COLUMNS];
    struct rows dw = {c->dw.p + from * c->dw.s1, 0, c->dw.s1};
    float *p = row_in(&dw, 0, n, buf);
    add_each[cpu_of(c->dev)->isa](p, c->part + from, c->blocks, c->d, n);
    row_done(&dw, 0, n, p);
}

static st_t scratch(struct ctx *c)
{
    return c->whole && !c->half ? ST_OK : cpu_scratch_need(c->dev, 4 * (size_t)c->d * sizeof(float));
}

st_t cpu_rmsnorm(struct kn_dev *dev, const struct kn_tensor *x, const struct kn_tensor *r, const struct kn_tensor *w,
                 double eps, const struct kn_tensor *y, const struct kn_tensor *rstd)
{
    st_t st = kn_check_rmsnorm(x, r, w, eps, y, rstd);
    if (st) return st;
    if (x->dtype != KN_F32 || (y->dtype == KN_BF16 && dev->precision != KN_BF16)) return ST_ENOTSUP;
    struct ctx c = {.dev = dev,
                    .x = rows_of(x),
                    .w_row = row_of(w),
                    .y = rows_of(y),
                    .half = y->dtype == KN_BF16 ? y->p : NULL,
                    .rstd = rstd->p,
                    .rs = rstd->s[0],
                    .n = x->d[0],
                    .d = x->d[1],
                    .eps = (float)eps};
    if (!kn_absent(r)) c.r = rows_of(r);
    c.whole = x->s[1] == 1 && y->s[1] == 1 && w->s[0] == 1 && (!c.r.p || c.r.s1 == 1);
    if (c.n == 0 || c.d == 0) return ST_OK;
    if ((st = scratch(&c))) return st;
    c.step = rows_a_task(c.n, c.d, 8192);
    cpu_run(dev, fwd_task, &c, (int)((c.n + c.step - 1) / c.step), (double)c.n * (double)c.d * (c.r.p ? 16 : 8) / 10);
    return ST_OK;
}

void cpu_rmsnorm_row(const struct kn_dev *dev, float *x, const float *r, const float *w, double eps, float *y, int64_t d)
{
    fwd_each[cpu_of(dev)->isa](x, r, w, y, d, (float)eps);
}

st_t cpu_rmsnorm_bwd(struct kn_dev *dev, const struct kn_tensor *x, const struct kn_tensor *w,
                     const struct kn_tensor *rstd, const struct kn_tensor *dy, const struct kn_tensor *dx,
                     const struct kn_tensor *dw)
{
    st_t st = kn_check_rmsnorm_bwd(x, w, rstd, dy, dx, dw);
    if (st) return st;
    if (x->dtype != KN_F32) return ST_ENOTSUP;
    struct ctx c = {.dev = dev,
                    .x = rows_of(x),
                    .w_row = row_of(w),
                    .y = rows_of(dy),
                    .dx = rows_of(dx),
                    .dw = row_of(dw),
                    .rstd = rstd->p,
                    .rs = rstd->s[0],
                    .n = x->d[0],
                    .d = x->d[1]};
    c.whole = x->s[1] == 1 && dy->s[1] == 1 && dx->s[1] == 1 && w->s[0] == 1;
    if (c.n == 0 || c.d == 0) return ST_OK;
    if ((st = scratch(&c))) return st;
    c.step = rows_a_task(c.n, c.d, 8192);
    if (c.step < (c.n + BLOCKS - 1) / BLOCKS) c.step = (c.n + BLOCKS - 1) / BLOCKS;
    c.blocks = (c.n + c.step - 1) / c.step;
    void *part;
    if ((st = cpu_shared(dev, CPU_SLOT_OP, (size_t)(c.blocks * c.d) * sizeof(float), &part))) return st;
    c.part = part;
    cpu_run(dev, bwd_task, &c, (int)c.blocks, (double)c.n * (double)c.d * 16 / 10);
    cpu_run(dev, dw_task, &c, (int)((c.d + COLUMNS - 1) / COLUMNS), (double)c.blocks * (double)c.d * 4 / 10);
    return ST_OK;
}

#else

static float VEC_NAME(fwd)(float *x, const float *r, const float *w, float *y, int64_t d, float eps)
{
    vf s0 = vf_zero(), s1 = vf_zero(), s2 = vf_zero(), s3 = vf_zero();
    int64_t i = 0;
    if (r) {
        for (; i + 4 * VL <= d; i += 4 * VL) {
            vf a0 = vf_add(vf_load(x + i), vf_load(r + i)), a1 = vf_add(vf_load(x + i + VL), vf_load(r + i + VL));
            vf a2 = vf_add(vf_load(x + i + 2 * VL), vf_load(r + i + 2 * VL)),
               a3 = vf_add(vf_load(x + i + 3 * VL), vf_load(r + i + 3 * VL));
            vf_store(x + i, a0);
            vf_store(x + i + VL, a1);
            vf_store(x + i + 2 * VL, a2);
            vf_store(x + i + 3 * VL, a3);
            s0 = vf_fma(a0, a0, s0);
            s1 = vf_fma(a1, a1, s1);
            s2 = vf_fma(a2, a2, s2);
            s3 = vf_fma(a3, a3, s3);
        }
        for (; i < d; i += VL) {
            int64_t k = d - i < VL ? d - i : VL;
            vf a = vf_add(vf_loadn(x + i, k), vf_loadn(r + i, k));
            vf_storen(x + i, a, k);
            s0 = vf_fma(a, a, s0);
        }
    } else {
        for (; i + 4 * VL <= d; i += 4 * VL) {
            vf a0 = vf_load(x + i), a1 = vf_load(x + i + VL), a2 = vf_load(x + i + 2 * VL),
               a3 = vf_load(x + i + 3 * VL);
            s0 = vf_fma(a0, a0, s0);
            s1 = vf_fma(a1, a1, s1);
            s2 = vf_fma(a2, a2, s2);
            s3 = vf_fma(a3, a3, s3);
        }
        for (; i < d; i += VL) {
            vf a = vf_loadn(x + i, d - i < VL ? d - i : VL);
            s0 = vf_fma(a, a, s0);
        }
    }
    float sum = vf_hsum(vf_add(vf_add(s0, s1), vf_add(s2, s3)));
    float rstd = 1.0f / sqrtf(sum / (float)d + eps);
    vf m = vf_set1(rstd);
    for (i = 0; i + VL <= d; i += VL) vf_store(y + i, vf_mul(vf_mul(vf_load(x + i), m), vf_load(w + i)));
    if (i < d) vf_storen(y + i, vf_mul(vf_mul(vf_loadn(x + i, d - i), m), vf_loadn(w + i, d - i)), d - i);
    return rstd;
}

/* With n = x rstd:  dx += rstd (dy w - n mean(dy w n)),  dw += dy n. */
static void VEC_NAME(bwd)(const float *x, const float *w, float rstd, const float *dy, float *dx, float *dw, int64_t d)
{
    vf s0 = vf_zero(), s1 = vf_zero();
    int64_t i = 0;
    for (; i + 2 * VL <= d; i += 2 * VL) {
        s0 = vf_fma(vf_mul(vf_load(dy + i), vf_load(w + i)), vf_load(x + i), s0);
        s1 = vf_fma(vf_mul(vf_load(dy + i + VL), vf_load(w + i + VL)), vf_load(x + i + VL), s1);
    }
    for (; i < d; i += VL) {
        int64_t k = d - i < VL ? d - i : VL;
        s0 = vf_fma(vf_mul(vf_loadn(dy + i, k), vf_loadn(w + i, k)), vf_loadn(x + i, k), s0);
    }
    float mean = vf_hsum(vf_add(s0, s1)) * rstd / (float)d;
    vf m = vf_set1(rstd), c = vf_set1(mean);
    for (i = 0; i + VL <= d; i += VL) {
        vf g = vf_load(dy + i), n = vf_mul(vf_load(x + i), m);
        vf_store(dx + i, vf_fma(m, vf_fnma(n, c, vf_mul(g, vf_load(w + i))), vf_load(dx + i)));
        vf_store(dw + i, vf_fma(g, n, vf_load(dw + i)));
    }
    if (i < d) {
        int64_t k = d - i;
        vf g = vf_loadn(dy + i, k), n = vf_mul(vf_loadn(x + i, k), m);
        vf_storen(dx + i, vf_fma(m, vf_fnma(n, c, vf_mul(g, vf_loadn(w + i, k))), vf_loadn(dx + i, k)), k);
        vf_storen(dw + i, vf_fma(g, n, vf_loadn(dw + i, k)), k);
    }
}

/* dw[n] += the sum of rows of part, in their order. */
static void VEC_NAME(add)(float *dw, const float *part, int64_t rows, int64_t stride, int64_t n)
{
    for (int64_t i = 0; i < n; i += VL) {
        int64_t k = n - i < VL ? n - i : VL;
        vf s = vf_zero();
        for (int64_t r = 0; r < rows; r++) s = vf_add(s, vf_loadn(part + r * stride + i, k));
        vf_storen(dw + i, vf_add(vf_loadn(dw + i, k), s), k);
    }
}

#endif
