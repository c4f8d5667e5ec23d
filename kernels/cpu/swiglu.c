/* h = silu(g) * u and its backward. */
#ifndef VEC_PASS
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/rows.h"
#include "kernels/cpu/swiglu.h"

#define VEC_FILE "kernels/cpu/swiglu.c"
#include "kernels/cpu/vec_each.h"

static void (*const fwd_each[])(float *h, const float *g, const float *u, int64_t n) = VEC_EACH(fwd);
static void (*const bwd_each[])(float *dg, float *du, float *h, const float *g, const float *u, const float *dh,
                                int64_t n) = VEC_EACH(bwd);

struct ctx {
    struct kn_dev *dev;
    struct rows g, u, h, dg, du; /* h: dh in the backward */
    struct rows again;           /* h there; without memory: not wanted */
    int64_t n, f, step;
    int whole; /* every last stride is 1 */
};

static void fwd_task(void *arg, int task, int worker)
{
    struct ctx *c = arg;
    float *buf = c->whole ? NULL : cpu_scratch(c->dev, worker);
    int64_t f = c->f, end = (task + 1) * c->step < c->n ? (task + 1) * c->step : c->n;
    for (int64_t i = task * c->step; i < end; i++) {
        if (c->whole) rows_ahead(&c->g, i + 1, 4, f), rows_ahead(&c->u, i + 1, 4, f);
        const float *g = row_in(&c->g, i, f, buf), *u = row_in(&c->u, i, f, buf + f);
        float *h = row_out(&c->h, i, buf);
        fwd_each[cpu_of(c->dev)->isa](h, g, u, f);
        row_done(&c->h, i, f, h);
    }
}

static void bwd_task(void *arg, int task, int worker)
{
    struct ctx *c = arg;
    float *buf = c->whole ? NULL : cpu_scratch(c->dev, worker);
    int64_t f = c->f, end = (task + 1) * c->step < c->n ? (task + 1) * c->step : c->n;
    for (int64_t i = task * c->step; i < end; i++) {
        if (c->whole) rows_ahead(&c->g, i + 1, 4, f), rows_ahead(&c->u, i + 1, 4, f), rows_ahead(&c->h, i + 1, 4, f);
        const float *g = row_in(&c->g, i, f, buf), *u = row_in(&c->u, i, f, buf + f),
                    *dh = row_in(&c->h, i, f, buf + 2 * f);
        float *dg = row_out(&c->dg, i, buf), *du = row_out(&c->du, i, buf + f), *h = c->again.p ? row_out(&c->again, i, buf + 2 * f) : NULL;
        bwd_each[cpu_of(c->dev)->isa](dg, du, h, g, u, dh, f);
        row_done(&c->dg, i, f, dg);
        row_done(&c->du, i, f, du);
        if (h) row_done(&c->again, i, f, h);
    }
}

static void half_task(void *arg, int task, int worker)
{
    struct ctx *c = arg;
    int64_t end = (task + 1) * c->step < c->n ? (task + 1) * c->step : c->n;
    for (int64_t i = task * c->step; i < end; i++) {
        const int64_t row[] = {c->g.s0, c->u.s0, c->h.s0};
        uint16_t *g = half_row(&c->g, i), *u = half_row(&c->u, i), *h = half_row(&c->h, i), *again = c->again.p ? half_row(&c->again, i) : NULL;
        if (c->dg.p) swiglu_bwd_bf16(half_row(&c->dg, i), half_row(&c->du, i), again, g, u, h, c->f, row);
        else swiglu_fwd_bf16(h, g, u, c->f, row);
    }
}

static st_t run(struct ctx *c, base_pool_fn fn, const struct kn_tensor *g, double bytes_each)
{
    c->n = g->d[0];
    c->f = g->d[1];
    if (c->n == 0 || c->f == 0) return ST_OK;
    c->step = rows_a_task(c->n, c->f, 8192);
    if (!c->whole) {
        st_t st = cpu_scratch_need(c->dev, 3 * (size_t)c->f * sizeof(float));
        if (st) return st;
    }
    cpu_run(c->dev, fn, c, (int)((c->n + c->step - 1) / c->step), (double)c->n * (double)c->f * bytes_each / 10);
    return ST_OK;
}

static int is_half(const struct kn_dev *dev, const struct kn_tensor *g, int whole)
{
    return g->dtype == KN_BF16 && dev->precision == KN_BF16 && whole;
}

st_t cpu_swiglu(struct kn_dev *dev, const struct kn_tensor *g, const struct kn_tensor *u, const struct kn_tensor *h)
{
    st_t st = kn_check_swiglu(g, u, h);
    if (st) return st;
    struct ctx c = {.dev = dev, .g = rows_of(g), .u = rows_of(u), .h = rows_of(h)};
    c.whole = g->s[1] == 1 && u->s[1] == 1 && h->s[1] == 1;
    if (is_half(dev, g, c.whole)) return run(&c, half_task, g, 6);
    if (g->dtype != KN_F32) return ST_ENOTSUP;
    return run(&c, fwd_task, g, 12);
}

st_t cpu_swiglu_bwd(struct kn_dev *dev, const struct kn_tensor *g, const struct kn_tensor *u,
                    const struct kn_tensor *dh, const struct kn_tensor *dg, const struct kn_tensor *du, const struct kn_tensor *h)
{
    st_t st = kn_check_swiglu_bwd(g, u, dh, dg, du, h);
    if (st) return st;
    struct ctx c = {
        .dev = dev, .g = rows_of(g), .u = rows_of(u), .h = rows_of(dh), .dg = rows_of(dg), .du = rows_of(du)};
    if (!kn_absent(h)) c.again = rows_of(h);
    c.whole = g->s[1] == 1 && u->s[1] == 1 && dh->s[1] == 1 && dg->s[1] == 1 && du->s[1] == 1 && (kn_absent(h) || h->s[1] == 1);
    if (is_half(dev, g, c.whole)) return run(&c, half_task, g, kn_absent(h) ? 10 : 12);
    if (g->dtype != KN_F32) return ST_ENOTSUP;
    return run(&c, bwd_task, g, kn_absent(h) ? 20 : 24);
}

#else

VEC_FN vf VEC_NAME(sigmoid)(vf g)
{
    vf one = vf_set1(1.0f);
    return vf_div(one, vf_add(one, vf_exp(vf_sub(vf_zero(), g))));
}

static void VEC_NAME(fwd)(float *h, const float *g, const float *u, int64_t n)
{
    int64_t i = 0;
    for (; i + VL <= n; i += VL) {
        vf x = vf_load(g + i);
        vf_store(h + i, vf_mul(vf_mul(x, VEC_NAME(sigmoid)(x)), vf_load(u + i)));
    }
    if (i < n) {
        vf x = vf_loadn(g + i, n - i);
        vf_storen(h + i, vf_mul(vf_mul(x, VEC_NAME(sigmoid)(x)), vf_loadn(u + i, n - i)), n - i);
    }
}

/* d silu(g)/dg = s + g s (1 - s) with s = sigmoid(g) */
VEC_FN vf VEC_NAME(bwd1)(vf g, vf u, vf dh, vf *du, vf *h)
{
    vf s = VEC_NAME(sigmoid)(g), gs = vf_mul(g, s);
    *du = vf_mul(dh, gs);
    *h = vf_mul(gs, u);
    return vf_mul(vf_mul(dh, u), vf_fma(gs, vf_sub(vf_set1(1.0f), s), s));
}

/* h NULL: not wanted */
static void VEC_NAME(bwd)(float *dg, float *du, float *h, const float *g, const float *u, const float *dh, int64_t n)
{
    int64_t i = 0;
    for (; i + VL <= n; i += VL) {
        vf b, c, a = VEC_NAME(bwd1)(vf_load(g + i), vf_load(u + i), vf_load(dh + i), &b, &c);
        vf_store(dg + i, a);
        vf_store(du + i, b);
        if (h) vf_store(h + i, c);
    }
    if (i < n) {
        vf b, c, a = VEC_NAME(bwd1)(vf_loadn(g + i, n - i), vf_loadn(u + i, n - i), vf_loadn(dh + i, n - i), &b, &c);
        vf_storen(dg + i, a, n - i);
        vf_storen(du + i, b, n - i);
        if (h) vf_storen(h + i, c, n - i);
    }
}

#endif
