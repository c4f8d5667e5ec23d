/* Gated RMSNorm in groups: a row's group stays in the first cache for its second pass. The backward's dw: each block of
 * rows sums into its own partial row, and the partials are added in the order of the blocks. */
#ifndef VEC_PASS
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/rows.h"

#define VEC_FILE "kernels/cpu/gatednorm.c"
#include "kernels/cpu/vec_each.h"

static float (*const fwd_each[])(const float *x, const float *z, const float *w, void *y, int half, float *mem, int64_t d, float eps,
                                 int gate_first) = VEC_EACH(fwd);
static void (*const bwd_each[])(const float *x, const float *z, const float *w, float rstd, const float *dy, float *dx, void *dz, int half,
                                float *dw, float *mem, int64_t d, int gate_first) = VEC_EACH(bwd);
static void (*const add_each[])(float *dw, const float *part, int64_t rows, int64_t stride, int64_t n) = VEC_EACH(add);

#define BLOCKS  64 /* partial rows of dw at most */
#define COLUMNS 64 /* of dw, that a task of the last step adds up */

struct ctx {
    struct kn_dev *dev;
    struct rows x, z, y, dx, dz; /* y: dy in the backward */
    const float *w;
    int64_t wn;                  /* its length: d or group */
    float *rstd;
    int64_t rs0, rs1, n, d, group, step;
    float eps;
    int gate_first, half; /* half: y, or dz in the backward, is bf16 */
    float *part;          /* [blocks][wn] partial dw */
    int64_t blocks;
    struct rows dw; /* one row */
};

/* Number j of row i. */
static void *place(const struct rows *r, int half, int64_t i, int64_t j)
{
    return half ? (void *)((uint16_t *)(void *)r->p + i * r->s0 + j) : (void *)(r->p + i * r->s0 + j);
}

static void fwd_task(void *arg, int task, int worker)
{
    struct ctx *c = arg;
    int64_t end = (task + 1) * c->step < c->n ? (task + 1) * c->step : c->n, step = c->wn == c->d ? c->group : 0;
    for (int64_t i = task * c->step; i < end; i++) {
        const float *x = c->x.p + i * c->x.s0, *z = c->z.p + i * c->z.s0;
        for (int64_t g = 0; g < c->d / c->group; g++)
            c->rstd[i * c->rs0 + g * c->rs1] =
                fwd_each[cpu_of(c->dev)->isa](x + g * c->group, z + g * c->group, c->w + g * step, place(&c->y, c->half, i, g * c->group), c->half,
                                              cpu_scratch(c->dev, worker), c->group, c->eps, c->gate_first);
    }
}

static void bwd_task(void *arg, int task, int worker)
{
    struct ctx *c = arg;
    int64_t end = (task + 1) * c->step < c->n ? (task + 1) * c->step : c->n, step = c->wn == c->d ? c->group : 0;
    float *mem = cpu_scratch(c->dev, worker), *dw = c->part + task * c->wn;
    memset(dw, 0, (size_t)c->wn * sizeof *dw);
    for (int64_t i = task * c->step; i < end; i++) {
        const float *x = c->x.p + i * c->x.s0, *z = c->z.p + i * c->z.s0, *dy = c->y.p + i * c->y.s0;
        float *dx = c->dx.p + i * c->dx.s0;
        for (int64_t g = 0; g < c->d / c->group; g++) {
            int64_t o = g * c->group;
            bwd_each[cpu_of(c->dev)->isa](x + o, z + o, c->w + g * step, c->rstd[i * c->rs0 + g * c->rs1], dy + o,
                                          dx + o, place(&c->dz, c->half, i, o), c->half, dw + g * step, mem, c->group, c->gate_first);
        }
    }
}

static void dw_task(void *arg, int task, int worker)
{
    struct ctx *c = arg;
    int64_t from = (int64_t)task * COLUMNS, n = c->wn - from < COLUMNS ? c->wn - from : COLUMNS;
    float buf[COLUMNS];
    struct rows dw = {c->dw.p + from * c->dw.s1, 0, c->dw.s1};
    float *p = row_in(&dw, 0, n, buf);
    add_each[cpu_of(c->dev)->isa](p, c->part + from, c->blocks, c->wn, n);
    row_done(&dw, 0, n, p);
}

/* Operands that both directions have. The tasks read w with unit stride: a copy, where it has another one. */
static st_t begin(struct ctx *c, const struct kn_tensor *x, const struct kn_tensor *z, const struct kn_tensor *w,
                  const struct kn_tensor *y, const struct kn_tensor *rstd, int64_t group, int gate_first, int64_t part)
{
    c->x = rows_of(x);
    c->z = rows_of(z);
    c->y = rows_of(y);
    c->rstd = rstd->p;
    c->rs0 = rstd->s[0];
    c->rs1 = rstd->s[1];
    c->n = x->d[0];
    c->d = x->d[1];
    c->wn = w->d[0];
    c->group = group;
    c->gate_first = gate_first;
    void *mem = NULL;
    int64_t copy = w->s[0] == 1 ? 0 : c->wn;
    if (part + copy > 0) {
        st_t st = cpu_shared(c->dev, CPU_SLOT_OP, (size_t)(part + copy) * sizeof(float), &mem);
        if (st) return st;
    }
    c->part = mem;
    struct rows row = {w->p, 0, w->s[0]};
    c->w = row_in(&row, 0, c->wn, c->part + part);
    return ST_OK;
}

st_t cpu_gatednorm(struct kn_dev *dev, const struct kn_tensor *x, const struct kn_tensor *z, const struct kn_tensor *w,
                   int64_t group, double eps, int gate_first, const struct kn_tensor *y, const struct kn_tensor *rstd)
{
    st_t st = kn_check_gatednorm(x, z, w, group, eps, gate_first, y, rstd);
    if (st) return st;
    if (x->dtype != KN_F32) return ST_ENOTSUP;
    if (kn_count(x) == 0) return ST_OK;
    struct ctx c = {.dev = dev, .eps = (float)eps, .half = y->dtype == KN_BF16};
    if ((st = begin(&c, x, z, w, y, rstd, group, gate_first, 0))) return st;
    if ((st = cpu_scratch_need(dev, (size_t)group * sizeof(float)))) return st;
    c.step = rows_a_task(c.n, c.d, 8192);
    cpu_run(dev, fwd_task, &c, (int)((c.n + c.step - 1) / c.step), (double)c.n * (double)c.d * 12 / 10);
    return ST_OK;
}

st_t cpu_gatednorm_bwd(struct kn_dev *dev, const struct kn_tensor *x, const struct kn_tensor *z,
                       const struct kn_tensor *w, int64_t group, int gate_first, const struct kn_tensor *rstd,
                       const struct kn_tensor *dy, const struct kn_tensor *dx, const struct kn_tensor *dz,
                       const struct kn_tensor *dw)
{
    st_t st = kn_check_gatednorm_bwd(x, z, w, group, gate_first, rstd, dy, dx, dz, dw);
    if (st) return st;
    if (x->dtype != KN_F32) return ST_ENOTSUP;
    if (kn_count(x) == 0) return ST_OK;
    int64_t n = x->d[0], step = rows_a_task(n, x->d[1], 8192);
    if (step < (n + BLOCKS - 1) / BLOCKS) step = (n + BLOCKS - 1) / BLOCKS;
    struct ctx c = {.dev = dev,
                    .dx = rows_of(dx),
                    .dz = rows_of(dz),
                    .dw = {dw->p, 0, dw->s[0]},
                    .half = dz->dtype == KN_BF16,
                    .step = step,
                    .blocks = (n + step - 1) / step};
    if ((st = begin(&c, x, z, w, dy, rstd, group, gate_first, c.blocks * w->d[0]))) return st;
    if ((st = cpu_scratch_need(dev, (size_t)group * sizeof(float)))) return st;
    cpu_run(dev, bwd_task, &c, (int)c.blocks, (double)c.n * (double)c.d * 20 / 10);
    cpu_run(dev, dw_task, &c, (int)((c.wn + COLUMNS - 1) / COLUMNS), (double)c.blocks * (double)c.wn * 4 / 10);
    return ST_OK;
}

#else

#include "kernels/cpu/vec_put.h"

/* k lanes: all of them, where the compiler sees that k is VL. */
VEC_FN vf VEC_NAME(in)(const float *p, long k)
{
    return k == VL ? vf_load(p) : vf_loadn(p, k);
}

VEC_FN void VEC_NAME(out)(float *p, vf a, long k)
{
    if (k == VL)
        vf_store(p, a);
    else
        vf_storen(p, a, k);
}

VEC_FN vf VEC_NAME(sigmoid)(vf g)
{
    vf one = vf_set1(1.0f);
    return vf_div(one, vf_add(one, vf_exp(vf_sub(vf_zero(), g))));
}

/* Where the gate comes first, u (what is normed) is kept for the second pass, which scales it. */
VEC_FN vf VEC_NAME(fwd1)(const float *x, const float *z, float *keep, long k, int gate_first, vf sum)
{
    vf u = VEC_NAME(in)(x, k);
    if (gate_first) {
        vf g = VEC_NAME(in)(z, k);
        u = vf_mul(u, vf_mul(g, VEC_NAME(sigmoid)(g)));
        VEC_NAME(out)(keep, u, k);
    }
    return vf_fma(u, u, sum);
}

VEC_FN void VEC_NAME(fwd2)(const float *x, const float *z, const float *w, const float *keep, void *y, int half, int64_t i, long k, int gate_first,
                        vf s)
{
    vf v = vf_mul(vf_mul(VEC_NAME(in)(gate_first ? keep : x, k), s), VEC_NAME(in)(w, k));
    if (!gate_first) {
        vf g = VEC_NAME(in)(z, k);
        v = vf_mul(v, vf_mul(g, VEC_NAME(sigmoid)(g)));
    }
    VEC_NAME(put)(y, half, i, v, k);
}

VEC_FN float VEC_NAME(fwd_group)(const float *x, const float *z, const float *w, void *y, int half, float *mem, int64_t d, float eps,
                              int gate_first)
{
    vf sum = vf_zero();
    int64_t i = 0;
    for (; i + VL <= d; i += VL) sum = VEC_NAME(fwd1)(x + i, z + i, mem + i, VL, gate_first, sum);
    if (i < d) sum = VEC_NAME(fwd1)(x + i, z + i, mem + i, d - i, gate_first, sum);
    float rstd = 1.0f / sqrtf(vf_hsum(sum) / (float)d + eps);
    vf s = vf_set1(rstd);
    for (i = 0; i + VL <= d; i += VL) VEC_NAME(fwd2)(x + i, z + i, w + i, mem + i, y, half, i, VL, gate_first, s);
    if (i < d) VEC_NAME(fwd2)(x + i, z + i, w + i, mem + i, y, half, i, d - i, gate_first, s);
    return rstd;
}

static float VEC_NAME(fwd)(const float *x, const float *z, const float *w, void *y, int half, float *mem, int64_t d, float eps, int gate_first)
{
    return gate_first ? VEC_NAME(fwd_group)(x, z, w, y, half, mem, d, eps, 1) : VEC_NAME(fwd_group)(x, z, w, y, half, mem, d, eps, 0);
}

/* sum += w dy silu(z) x; sigmoid(z) is kept for the second pass. */
VEC_FN vf VEC_NAME(bwd1)(const float *x, const float *z, const float *w, const float *dy, float *keep, long k, vf sum)
{
    vf g = VEC_NAME(in)(z, k), sig = VEC_NAME(sigmoid)(g);
    VEC_NAME(out)(keep, sig, k);
    return vf_fma(vf_mul(VEC_NAME(in)(w, k), VEC_NAME(in)(dy, k)), vf_mul(VEC_NAME(in)(x, k), vf_mul(g, sig)), sum);
}

/* With a = silu(z), n = u s:   du = s (w e - n c), c = mean(w e n). */
VEC_FN void VEC_NAME(bwd2)(const float *x, const float *z, const float *w, const float *dy, const float *keep,
                        float *dx, void *dz, int half, int64_t i, float *dw, long k, int gate_first, vf s, vf c)
{
    vf xv = VEC_NAME(in)(x, k), zv = VEC_NAME(in)(z, k), wv = VEC_NAME(in)(w, k), g = VEC_NAME(in)(dy, k), sig = VEC_NAME(in)(keep, k);
    vf a = vf_mul(zv, sig), slope = vf_fma(a, vf_sub(vf_set1(1.0f), sig), sig);
    if (gate_first) {
        vf n = vf_mul(vf_mul(xv, a), s), du = vf_mul(s, vf_fnma(n, c, vf_mul(wv, g)));
        VEC_NAME(out)(dw, vf_fma(g, n, VEC_NAME(in)(dw, k)), k);
        VEC_NAME(out)(dx, vf_mul(du, a), k);
        VEC_NAME(put)(dz, half, i, vf_mul(vf_mul(du, xv), slope), k);
    } else {
        vf n = vf_mul(xv, s), e = vf_mul(g, a);
        VEC_NAME(out)(dw, vf_fma(e, n, VEC_NAME(in)(dw, k)), k);
        VEC_NAME(out)(dx, vf_mul(s, vf_fnma(n, c, vf_mul(wv, e))), k);
        VEC_NAME(put)(dz, half, i, vf_mul(vf_mul(vf_mul(g, wv), n), slope), k);
    }
}

VEC_FN void VEC_NAME(bwd_group)(const float *x, const float *z, const float *w, float rstd, const float *dy, float *dx,
                             void *dz, int half, float *dw, float *mem, int64_t d, int gate_first)
{
    vf sum = vf_zero();
    int64_t i = 0;
    for (; i + VL <= d; i += VL) sum = VEC_NAME(bwd1)(x + i, z + i, w + i, dy + i, mem + i, VL, sum);
    if (i < d) sum = VEC_NAME(bwd1)(x + i, z + i, w + i, dy + i, mem + i, d - i, sum);
    vf s = vf_set1(rstd), c = vf_set1(vf_hsum(sum) * rstd / (float)d);
    for (i = 0; i + VL <= d; i += VL)
        VEC_NAME(bwd2)(x + i, z + i, w + i, dy + i, mem + i, dx + i, dz, half, i, dw + i, VL, gate_first, s, c);
    if (i < d) VEC_NAME(bwd2)(x + i, z + i, w + i, dy + i, mem + i, dx + i, dz, half, i, dw + i, d - i, gate_first, s, c);
}

static void VEC_NAME(bwd)(const float *x, const float *z, const float *w, float rstd, const float *dy, float *dx,
                          void *dz, int half, float *dw, float *mem, int64_t d, int gate_first)
{
    if (gate_first)
        VEC_NAME(bwd_group)(x, z, w, rstd, dy, dx, dz, half, dw, mem, d, 1);
    else
        VEC_NAME(bwd_group)(x, z, w, rstd, dy, dx, dz, half, dw, mem, d, 0);
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
