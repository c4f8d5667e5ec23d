/* LayerNorm with the residual add before it: a row is read from memory once and stays in the first cache for its other
 * passes. The backward's dw and db: each block of rows sums into its own partial row, and the partials are added in the
 * order of the blocks. */
#ifndef VEC_PASS
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/rows.h"

#define VEC_FILE "kernels/cpu/layernorm.c"
#include "kernels/cpu/vec_each.h"

static float (*const mean_each[])(float *x, const float *r, int64_t d) = VEC_EACH(mean);
static float (*const fwd_each[])(const float *x, const float *w, const float *b, float mean, float *y, int64_t d,
                                 float eps) = VEC_EACH(fwd);
static void (*const bwd_each[])(const float *x, const float *w, float mean, float rstd, const float *dy, float *dx,
                                float *dw, float *db, int64_t d) = VEC_EACH(bwd);

#define BLOCKS 64 /* partial rows of dw and db at most */

struct ctx {
    struct kn_dev *dev;
    struct rows x, r, y, dx; /* y: dy in the backward */
    struct rows w, b;        /* one row each */
    float *mean, *rstd;
    int64_t ms, rs, n, d, step;
    float eps;
    int whole;
    float *part; /* [blocks][2][d] partial dw, db */
};

static struct rows row_of(const struct kn_tensor *t)
{
    return (struct rows){t->p, 0, t->s[0]};
}

static void fwd_task(void *arg, int task, int worker)
{
    struct ctx *c = arg;
    int64_t d = c->d, end = (task + 1) * c->step < c->n ? (task + 1) * c->step : c->n;
    float *buf = c->whole ? NULL : cpu_scratch(c->dev, worker);
    const float *w = row_in(&c->w, 0, d, buf), *b = row_in(&c->b, 0, d, buf + d);
    for (int64_t i = task * c->step; i < end; i++) {
        float *x = row_in(&c->x, i, d, buf + 2 * d);
        const float *r = c->r.p ? row_in(&c->r, i, d, buf + 3 * d) : NULL;
        float *y = row_out(&c->y, i, buf + 4 * d), mean = mean_each[cpu_of(c->dev)->isa](x, r, d);
        c->mean[i * c->ms] = mean;
        c->rstd[i * c->rs] = fwd_each[cpu_of(c->dev)->isa](x, w, b, mean, y, d, c->eps);
        if (r) row_done(&c->x, i, d, x);
        row_done(&c->y, i, d, y);
    }
}

static void bwd_task(void *arg, int task, int worker)
{
    struct ctx *c = arg;
    int64_t d = c->d, end = (task + 1) * c->step < c->n ? (task + 1) * c->step : c->n;
    float *buf = c->whole ? NULL : cpu_scratch(c->dev, worker);
    const float *w = row_in(&c->w, 0, d, buf);
    float *dw = c->part + task * 2 * d;
    memset(dw, 0, 2 * (size_t)d * sizeof *dw);
    for (int64_t i = task * c->step; i < end; i++) {
        const float *x = row_in(&c->x, i, d, buf + d), *dy = row_in(&c->y, i, d, buf + 2 * d);
        float *dx = row_in(&c->dx, i, d, buf + 3 * d);
        bwd_each[cpu_of(c->dev)->isa](x, w, c->mean[i * c->ms], c->rstd[i * c->rs], dy, dx, dw, dw + d, d);
        row_done(&c->dx, i, d, dx);
    }
}

static struct ctx ctx_of(struct kn_dev *dev, const struct kn_tensor *x, const struct kn_tensor *w,
                         const struct kn_tensor *y, const struct kn_tensor *mean, const struct kn_tensor *rstd)
{
    return (struct ctx){.dev = dev,
                        .x = rows_of(x),
                        .y = rows_of(y),
                        .w = row_of(w),
                        .mean = mean->p,
                        .rstd = rstd->p,
                        .ms = mean->s[0],
                        .rs = rstd->s[0],
                        .n = x->d[0],
                        .d = x->d[1],
                        .step = rows_a_task(x->d[0], x->d[1], 8192)};
}

static st_t scratch(struct ctx *c)
{
    return c->whole ? ST_OK : cpu_scratch_need(c->dev, 5 * (size_t)c->d * sizeof(float));
}

st_t cpu_layernorm(struct kn_dev *dev, const struct kn_tensor *x, const struct kn_tensor *r, const struct kn_tensor *w,
                   const struct kn_tensor *b, double eps, const struct kn_tensor *y, const struct kn_tensor *mean,
                   const struct kn_tensor *rstd)
{
    st_t st = kn_check_layernorm(x, r, w, b, eps, y, mean, rstd);
    if (st) return st;
    if (x->dtype != KN_F32) return ST_ENOTSUP;
    struct ctx c = ctx_of(dev, x, w, y, mean, rstd);
    c.b = row_of(b);
    c.eps = (float)eps;
    if (!kn_absent(r)) c.r = rows_of(r);
    c.whole = x->s[1] == 1 && y->s[1] == 1 && w->s[0] == 1 && b->s[0] == 1 && (!c.r.p || c.r.s1 == 1);
    if (c.n == 0 || c.d == 0) return ST_OK;
    if ((st = scratch(&c))) return st;
    cpu_run(dev, fwd_task, &c, (int)((c.n + c.step - 1) / c.step), (double)c.n * (double)c.d * (c.r.p ? 16 : 8) / 10);
    return ST_OK;
}

st_t cpu_layernorm_bwd(struct kn_dev *dev, const struct kn_tensor *x, const struct kn_tensor *w,
                       const struct kn_tensor *mean, const struct kn_tensor *rstd, const struct kn_tensor *dy,
                       const struct kn_tensor *dx, const struct kn_tensor *dw, const struct kn_tensor *db)
{
    st_t st = kn_check_layernorm_bwd(x, w, mean, rstd, dy, dx, dw, db);
    if (st) return st;
    if (x->dtype != KN_F32) return ST_ENOTSUP;
    struct ctx c = ctx_of(dev, x, w, dy, mean, rstd);
    c.dx = rows_of(dx);
    c.whole = x->s[1] == 1 && dy->s[1] == 1 && dx->s[1] == 1 && w->s[0] == 1;
    if (c.n == 0 || c.d == 0) return ST_OK;
    if ((st = scratch(&c))) return st;
    if (c.step < (c.n + BLOCKS - 1) / BLOCKS) c.step = (c.n + BLOCKS - 1) / BLOCKS;
    int64_t blocks = (c.n + c.step - 1) / c.step;
    void *part;
    if ((st = cpu_shared(dev, CPU_SLOT_OP, (size_t)(blocks * 2 * c.d) * sizeof(float), &part))) return st;
    c.part = part;
    cpu_run(dev, bwd_task, &c, (int)blocks, (double)c.n * (double)c.d * 16 / 10);
    struct kn_tensor both = kn_t2(part, KN_F32, blocks, 2 * c.d), pw = kn_slice(&both, 1, 0, c.d),
                     pb = kn_slice(&both, 1, c.d, c.d);
    if ((st = cpu_sum_rows(dev, &pw, dw))) return st;
    return cpu_sum_rows(dev, &pb, db);
}

#else

/* x += r where r is not NULL; returns the mean of x. */
static float VEC_NAME(mean)(float *x, const float *r, int64_t d)
{
    vf s0 = vf_zero(), s1 = vf_zero();
    int64_t i = 0;
    for (; i + 2 * VL <= d; i += 2 * VL) {
        vf a0 = vf_load(x + i), a1 = vf_load(x + i + VL);
        if (r) {
            a0 = vf_add(a0, vf_load(r + i)), a1 = vf_add(a1, vf_load(r + i + VL));
            vf_store(x + i, a0);
            vf_store(x + i + VL, a1);
        }
        s0 = vf_add(s0, a0);
        s1 = vf_add(s1, a1);
    }
    for (; i < d; i += VL) {
        int64_t k = d - i < VL ? d - i : VL;
        vf a = vf_loadn(x + i, k);
        if (r) {
            a = vf_add(a, vf_loadn(r + i, k));
            vf_storen(x + i, a, k);
        }
        s0 = vf_add(s0, a);
    }
    return vf_hsum(vf_add(s0, s1)) / (float)d;
}

/* Writes y; returns rstd. */
static float VEC_NAME(fwd)(const float *x, const float *w, const float *b, float mean, float *y, int64_t d, float eps)
{
    vf m = vf_set1(mean), s0 = vf_zero(), s1 = vf_zero();
    int64_t i = 0;
    for (; i + 2 * VL <= d; i += 2 * VL) {
        vf a0 = vf_sub(vf_load(x + i), m), a1 = vf_sub(vf_load(x + i + VL), m);
        s0 = vf_fma(a0, a0, s0);
        s1 = vf_fma(a1, a1, s1);
    }
    for (; i < d; i += VL) {
        int64_t k = d - i < VL ? d - i : VL;
        float rest[VL] = {0}; /* lanes past the end must not count the mean */
        vf_storen(rest, vf_sub(vf_loadn(x + i, k), m), k);
        vf a = vf_load(rest);
        s0 = vf_fma(a, a, s0);
    }
    float rstd = 1.0f / sqrtf(vf_hsum(vf_add(s0, s1)) / (float)d + eps);
    vf s = vf_set1(rstd);
    for (i = 0; i + VL <= d; i += VL)
        vf_store(y + i, vf_fma(vf_mul(vf_sub(vf_load(x + i), m), s), vf_load(w + i), vf_load(b + i)));
    if (i < d) {
        int64_t k = d - i;
        vf a = vf_mul(vf_sub(vf_loadn(x + i, k), m), s);
        vf_storen(y + i, vf_fma(a, vf_loadn(w + i, k), vf_loadn(b + i, k)), k);
    }
    return rstd;
}

/* With n = (x - mean) rstd and g = dy w:  dx += rstd (g - mean(g) - n mean(g n)),  dw += dy n,  db += dy. */
static void VEC_NAME(bwd)(const float *x, const float *w, float mean, float rstd, const float *dy, float *dx, float *dw,
                          float *db, int64_t d)
{
    vf m = vf_set1(mean), s = vf_set1(rstd), sum = vf_zero(), dot = vf_zero();
    int64_t i;
    for (i = 0; i < d; i += VL) { /* g is 0 in the lanes past the end */
        int64_t k = d - i < VL ? d - i : VL;
        vf g = k == VL ? vf_mul(vf_load(dy + i), vf_load(w + i)) : vf_mul(vf_loadn(dy + i, k), vf_loadn(w + i, k));
        vf a = vf_sub(k == VL ? vf_load(x + i) : vf_loadn(x + i, k), m);
        sum = vf_add(sum, g);
        dot = vf_fma(g, a, dot);
    }
    vf mg = vf_set1(vf_hsum(sum) / (float)d), mgn = vf_set1(vf_hsum(dot) * rstd / (float)d);
    for (i = 0; i + VL <= d; i += VL) {
        vf g = vf_load(dy + i), n = vf_mul(vf_sub(vf_load(x + i), m), s);
        vf t = vf_fnma(n, mgn, vf_sub(vf_mul(g, vf_load(w + i)), mg));
        vf_store(dx + i, vf_fma(s, t, vf_load(dx + i)));
        vf_store(dw + i, vf_fma(g, n, vf_load(dw + i)));
        vf_store(db + i, vf_add(g, vf_load(db + i)));
    }
    if (i < d) {
        int64_t k = d - i;
        vf g = vf_loadn(dy + i, k), n = vf_mul(vf_sub(vf_loadn(x + i, k), m), s);
        vf t = vf_fnma(n, mgn, vf_sub(vf_mul(g, vf_loadn(w + i, k)), mg));
        vf_storen(dx + i, vf_fma(s, t, vf_loadn(dx + i, k)), k);
        vf_storen(dw + i, vf_fma(g, n, vf_loadn(dw + i, k)), k);
        vf_storen(db + i, vf_add(g, vf_loadn(db + i, k)), k);
    }
}

#endif
