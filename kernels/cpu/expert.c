/* What experts need besides products: rows to their places and back, and the weighted activation. */
#ifndef VEC_PASS
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/expert.h"
#include "kernels/cpu/gemm.h"
#include "kernels/cpu/rows.h"

#define VEC_FILE "kernels/cpu/expert.c"
#include "kernels/cpu/vec_each.h"

static void (*const add_each[])(float *y, const float *x, float beta, int64_t n) = VEC_EACH(add);
static void (*const act_each[])(float *h, const float *g, const float *u, float w, int64_t n) = VEC_EACH(act);
static float (*const back_each[])(float *dg, float *du, float *h, const float *g, const float *u, const float *dh, float w,
                                  int64_t n) = VEC_EACH(back);

struct ctx {
    struct kn_dev *dev;
    struct rows x, y;
    const int32_t *place; /* order, or row */
    int64_t n, d, k, step;
    float beta;
    /* activation: x is g, y is h */
    struct rows u, dh, dg, du;
    const float *w;
    float *dw;
    int64_t sw, sdw;
    int sigmoid, gated, again; /* again: h is wanted in the backward */
    int x16, y16;              /* rows to be moved are bf16 */
};

static int64_t end_of(const struct ctx *c, int task)
{
    int64_t end = (task + 1) * c->step;
    return end < c->n ? end : c->n;
}

static void gather_task(void *arg, int task, int worker)
{
    struct ctx *c = arg;
    for (int64_t r = task * c->step; r < end_of(c, task); r++) {
        int64_t from = c->place[r] / c->k;
        if (r + 1 < c->n) rows_ahead(&c->x, c->place[r + 1] / c->k, c->x16 ? 2 : 4, c->d);
        if (c->x16) {
            memcpy(half_row(&c->y, r), half_row(&c->x, from), (size_t)c->d * sizeof(uint16_t));
            continue;
        }
        const float *x = c->x.p + from * c->x.s0;
        if (c->y16) {
            cpu_gemm_bf16->narrow(half_row(&c->y, r), 0, x, 0, 0, 1, c->d);
            continue;
        }
        float *y = c->y.p + r * c->y.s0;
        if (c->x.s1 == 1 && c->y.s1 == 1) {
            memcpy(y, x, (size_t)c->d * sizeof *y);
            continue;
        }
        for (int64_t j = 0; j < c->d; j++) y[j * c->y.s1] = x[j * c->x.s1];
    }
}

static void combine_task(void *arg, int task, int worker)
{
    struct ctx *c = arg;
    float *buf = cpu_scratch(c->dev, worker), *ybuf = buf + c->d;
    for (int64_t t = task * c->step; t < end_of(c, task); t++) {
        float *y = c->beta != 0 ? row_in(&c->y, t, c->d, ybuf) : row_out(&c->y, t, ybuf);
        for (int64_t s = 0; s < c->k && t + 1 < c->n; s++) rows_ahead(&c->x, c->place[(t + 1) * c->k + s], c->x16 ? 2 : 4, c->d);
        for (int64_t s = 0; s < c->k; s++) {
            int64_t r = c->place[t * c->k + s];
            if (c->x16) expert_add_bf16(y, half_row(&c->x, r), s ? 1 : c->beta, c->d);
            else add_each[cpu_of(c->dev)->isa](y, row_in(&c->x, r, c->d, buf), s ? 1 : c->beta, c->d);
        }
        row_done(&c->y, t, c->d, y);
    }
}

/* f32, or what bf16 there may be: then on a device that has the precision, in whole rows. */
static int has(const struct kn_dev *dev, const struct kn_tensor *x, const struct kn_tensor *y)
{
    if (x->dtype == KN_F64) return 0;
    return (x->dtype == KN_F32 && y->dtype == KN_F32) || (dev->precision == KN_BF16 && x->s[1] == 1 && y->s[1] == 1);
}

static st_t move(struct kn_dev *dev, base_pool_fn fn, const struct kn_tensor *x, const struct kn_tensor *place, double beta,
                 const struct kn_tensor *y, int64_t k)
{
    struct ctx c = {.dev = dev, .x = rows_of(x), .y = rows_of(y), .place = place->p, .n = y->d[0], .d = y->d[1], .k = k, .beta = (float)beta,
                    .x16 = x->dtype == KN_BF16, .y16 = y->dtype == KN_BF16};
    if (!has(dev, x, y)) return ST_ENOTSUP;
    if (c.n == 0 || c.d == 0) return ST_OK;
    st_t st = cpu_scratch_need(dev, 2 * (size_t)c.d * sizeof(float));
    if (st) return st;
    c.step = rows_a_task(c.n, c.d, 8192);
    cpu_run(dev, fn, &c, (int)((c.n + c.step - 1) / c.step), ((double)kn_count(x) + (double)kn_count(y)) * 4 / 10);
    return ST_OK;
}

st_t cpu_gather(struct kn_dev *dev, const struct kn_tensor *x, const struct kn_tensor *order, const struct kn_tensor *y)
{
    st_t st = kn_check_gather(x, order, y);
    return st ? st : move(dev, gather_task, x, order, 0, y, x->d[0] ? y->d[0] / x->d[0] : 1);
}

st_t cpu_combine(struct kn_dev *dev, const struct kn_tensor *x, const struct kn_tensor *row, double beta, const struct kn_tensor *y)
{
    st_t st = kn_check_combine(x, row, beta, y);
    if (!st && y->dtype == KN_BF16) st = ST_ENOTSUP;
    return st ? st : move(dev, combine_task, x, row, beta, y, y->d[0] ? x->d[0] / y->d[0] : 1);
}

static float weight(const struct ctx *c, int64_t at)
{
    if (!c->w) return 1;
    float w = c->w[at * c->sw];
    return c->sigmoid ? 1 / (1 + expf(-w)) : w;
}

static void act_task(void *arg, int task, int worker)
{
    struct ctx *c = arg;
    float *buf = cpu_scratch(c->dev, worker);
    for (int64_t r = task * c->step; r < end_of(c, task); r++) {
        float w = weight(c, c->place ? c->place[r] : r);
        if (c->x16) {
            rows_ahead(&c->x, r + 1, 2, c->d);
            if (c->gated) rows_ahead(&c->u, r + 1, 2, c->d);
            expert_act_bf16(half_row(&c->y, r), half_row(&c->x, r), c->gated ? half_row(&c->u, r) : NULL, w, c->d);
            continue;
        }
        const float *g = row_in(&c->x, r, c->d, buf), *u = c->gated ? row_in(&c->u, r, c->d, buf + c->d) : NULL;
        float *h = row_out(&c->y, r, buf);
        act_each[cpu_of(c->dev)->isa](h, g, u, w, c->d);
        row_done(&c->y, r, c->d, h);
    }
}

static float back_row(const struct ctx *c, int64_t r, float w, float *buf)
{
    const float *g = row_in(&c->x, r, c->d, buf), *dh = row_in(&c->dh, r, c->d, buf + c->d),
                *u = c->gated ? row_in(&c->u, r, c->d, buf + 2 * c->d) : NULL;
    float *spare = buf + 3 * c->d; /* du or h of those that do not want one */
    float *dg = row_out(&c->dg, r, buf), *du = c->gated ? row_out(&c->du, r, buf + 2 * c->d) : spare,
          *h = c->again ? row_out(&c->y, r, buf + c->d) : spare;
    float dw = back_each[cpu_of(c->dev)->isa](dg, du, h, g, u, dh, w, c->d);
    row_done(&c->dg, r, c->d, dg);
    if (c->gated) row_done(&c->du, r, c->d, du);
    if (c->again) row_done(&c->y, r, c->d, h);
    return dw;
}

static float back_half(const struct ctx *c, int64_t r, float w)
{
    rows_ahead(&c->x, r + 1, 2, c->d);
    rows_ahead(&c->dh, r + 1, 2, c->d);
    if (c->gated) rows_ahead(&c->u, r + 1, 2, c->d);
    return expert_back_bf16(half_row(&c->dg, r), c->gated ? half_row(&c->du, r) : NULL, c->again ? half_row(&c->y, r) : NULL, half_row(&c->x, r),
                            c->gated ? half_row(&c->u, r) : NULL, half_row(&c->dh, r), w, c->d);
}

void cpu_expert_act_row(const struct kn_dev *dev, float *h, const float *g, const float *u, float w, int64_t n)
{
    act_each[cpu_of(dev)->isa](h, g, u, w, n);
}

static void back_task(void *arg, int task, int worker)
{
    struct ctx *c = arg;
    for (int64_t r = task * c->step; r < end_of(c, task); r++) {
        int64_t at = c->place ? c->place[r] : r;
        float w = weight(c, at), dw = c->x16 ? back_half(c, r, w) : back_row(c, r, w, cpu_scratch(c->dev, worker));
        if (c->w) c->dw[at * c->sdw] = c->sigmoid ? dw * w * (1 - w) : dw;
    }
}

static st_t act(struct ctx *c, base_pool_fn fn, const struct kn_tensor *g, const struct kn_tensor *u, const struct kn_tensor *order,
                const struct kn_tensor *w, double numbers_each)
{
    c->x = rows_of(g), c->n = g->d[0], c->d = g->d[1], c->x16 = g->dtype == KN_BF16;
    c->gated = !kn_absent(u);
    if (c->gated) c->u = rows_of(u);
    c->place = kn_absent(order) ? NULL : order->p;
    if (!kn_absent(w)) c->w = w->p, c->sw = w->s[0];
    if (c->n == 0 || c->d == 0) return ST_OK;
    st_t st = cpu_scratch_need(c->dev, 4 * (size_t)c->d * sizeof(float));
    if (st) return st;
    c->step = rows_a_task(c->n, c->d, 8192);
    cpu_run(c->dev, fn, c, (int)((c->n + c->step - 1) / c->step), (double)c->n * (double)c->d * numbers_each * (c->x16 ? 2 : 4) / 10);
    return ST_OK;
}

st_t cpu_expert_act(struct kn_dev *dev, const struct kn_tensor *g, const struct kn_tensor *u, const struct kn_tensor *order,
                    const struct kn_tensor *w, int sigmoid, const struct kn_tensor *h)
{
    st_t st = kn_check_expert_act(g, u, order, w, sigmoid, h);
    if (st) return st;
    if (!has(dev, g, h) || (!kn_absent(u) && !has(dev, u, h))) return ST_ENOTSUP;
    struct ctx c = {.dev = dev, .y = rows_of(h), .sigmoid = sigmoid};
    return act(&c, act_task, g, u, order, w, 3);
}

st_t cpu_expert_act_bwd(struct kn_dev *dev, const struct kn_tensor *g, const struct kn_tensor *u, const struct kn_tensor *order,
                        const struct kn_tensor *w, int sigmoid, const struct kn_tensor *dh, const struct kn_tensor *dg,
                        const struct kn_tensor *du, const struct kn_tensor *dw, const struct kn_tensor *h)
{
    st_t st = kn_check_expert_act_bwd(g, u, order, w, sigmoid, dh, dg, du, dw, h);
    if (st) return st;
    if (!has(dev, g, dg) || !has(dev, g, dh) || (!kn_absent(u) && !has(dev, u, du)) || (!kn_absent(h) && !has(dev, g, h))) return ST_ENOTSUP;
    struct ctx c = {.dev = dev, .sigmoid = sigmoid, .dh = rows_of(dh), .dg = rows_of(dg), .again = !kn_absent(h)};
    if (!kn_absent(du)) c.du = rows_of(du);
    if (!kn_absent(dw)) c.dw = dw->p, c.sdw = dw->s[0];
    if (c.again) c.y = rows_of(h);
    return act(&c, back_task, g, u, order, w, 6);
}

#else

/* y = x + beta y; beta = 0 does not read y. */
static void VEC_NAME(add)(float *y, const float *x, float beta, int64_t n)
{
    for (int64_t j = 0; j < n; j += VL) {
        int64_t m = n - j < VL ? n - j : VL;
        vf v = vf_loadn(x + j, m);
        if (beta != 0) v = vf_fma(vf_set1(beta), vf_loadn(y + j, m), v);
        vf_storen(y + j, v, m);
    }
}

VEC_FN vf VEC_NAME(sigmoid)(vf x)
{
    vf one = vf_set1(1.0f);
    return vf_div(one, vf_add(one, vf_exp(vf_sub(vf_zero(), x))));
}

/* n <= VL numbers. */
VEC_FN void VEC_NAME(put)(float *p, vf v, int64_t n)
{
    if (n == VL) vf_store(p, v);
    else vf_storen(p, v, n);
}

static void VEC_NAME(act)(float *h, const float *g, const float *u, float w, int64_t n)
{
    for (int64_t j = 0; j < n; j += VL) {
        int64_t m = n - j < VL ? n - j : VL;
        vf x = vf_loadn(g + j, m), relu = vf_max(x, vf_zero());
        vf y = u ? vf_mul(vf_mul(x, VEC_NAME(sigmoid)(x)), vf_loadn(u + j, m)) : vf_mul(relu, relu);
        VEC_NAME(put)(h + j, vf_mul(vf_set1(w), y), m);
    }
}

/* Returns the sum of act dh. Lanes beyond the end count for nothing: g = 0 there gives act = 0. */
static float VEC_NAME(back)(float *dg, float *du, float *h, const float *g, const float *u, const float *dh, float w, int64_t n)
{
    vf sum = vf_zero(), wv = vf_set1(w), one = vf_set1(1.0f);
    for (int64_t j = 0; j < n; j += VL) {
        int64_t m = n - j < VL ? n - j : VL;
        vf x = vf_loadn(g + j, m), d = vf_loadn(dh + j, m), wd = vf_mul(wv, d);
        if (u) {
            vf y = vf_loadn(u + j, m), s = VEC_NAME(sigmoid)(x), xs = vf_mul(x, s), a = vf_mul(xs, y);
            sum = vf_fma(a, d, sum);
            VEC_NAME(put)(h + j, vf_mul(wv, a), m);
            VEC_NAME(put)(du + j, vf_mul(wd, xs), m);
            VEC_NAME(put)(dg + j, vf_mul(vf_mul(wd, y), vf_fma(xs, vf_sub(one, s), s)), m);
        } else {
            vf relu = vf_max(x, vf_zero()), a = vf_mul(relu, relu);
            sum = vf_fma(a, d, sum);
            VEC_NAME(put)(h + j, vf_mul(wv, a), m);
            VEC_NAME(put)(dg + j, vf_mul(wd, vf_add(relu, relu)), m);
        }
    }
    return vf_hsum(sum);
}

#endif
