/* What experts need besides products: rows to their places and back, and the weighted activation. */
#ifndef VEC_PASS
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/rows.h"

#define VEC_FILE "kernels/cpu/expert.c"
#include "kernels/cpu/vec_each.h"

static void (*const add_each[])(float *y, const float *x, float beta, int64_t n) = VEC_EACH(add);
static void (*const round_each[])(uint16_t *y, const float *x, int64_t n) = VEC_EACH(round);
static void (*const act_each[])(void *h, int half, const float *g, const float *u, float w, int64_t n) = VEC_EACH(act);
static float (*const back_each[])(void *dg, void *du, int dhalf, void *h, int half, const float *g, const float *u, const float *dh, float w,
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
    int half, dhalf;           /* y; dg and du are bf16 */
};

static void *half_row(const struct rows *r, int64_t i)
{
    return (uint16_t *)(void *)r->p + i * r->s0;
}

static int64_t end_of(const struct ctx *c, int task)
{
    int64_t end = (task + 1) * c->step;
    return end < c->n ? end : c->n;
}

static void gather_task(void *arg, int task, int worker)
{
    struct ctx *c = arg;
    for (int64_t r = task * c->step; r < end_of(c, task); r++) {
        const float *x = c->x.p + c->place[r] / c->k * c->x.s0;
        if (c->half) {
            struct rows row = {(float *)x, 0, c->x.s1};
            round_each[cpu_of(c->dev)->isa](half_row(&c->y, r), row_in(&row, 0, c->d, cpu_scratch(c->dev, worker)), c->d);
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
        for (int64_t s = 0; s < c->k; s++)
            add_each[cpu_of(c->dev)->isa](y, row_in(&c->x, c->place[t * c->k + s], c->d, buf), s ? 1 : c->beta, c->d);
        row_done(&c->y, t, c->d, y);
    }
}

static st_t move(struct kn_dev *dev, base_pool_fn fn, const struct kn_tensor *x, const struct kn_tensor *place, double beta,
                 const struct kn_tensor *y, int64_t k)
{
    if (x->dtype != KN_F32) return ST_ENOTSUP;
    struct ctx c = {.dev = dev, .x = rows_of(x), .y = rows_of(y), .place = place->p, .n = y->d[0], .d = y->d[1], .k = k, .beta = (float)beta,
                    .half = y->dtype == KN_BF16};
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
        const float *g = row_in(&c->x, r, c->d, buf), *u = c->gated ? row_in(&c->u, r, c->d, buf + c->d) : NULL;
        void *h = c->half ? half_row(&c->y, r) : row_out(&c->y, r, buf);
        act_each[cpu_of(c->dev)->isa](h, c->half, g, u, weight(c, c->place ? c->place[r] : r), c->d);
        if (!c->half) row_done(&c->y, r, c->d, h);
    }
}

static void back_task(void *arg, int task, int worker)
{
    struct ctx *c = arg;
    float *buf = cpu_scratch(c->dev, worker), *spare = buf + 3 * c->d; /* spare: du or h of those that do not want one */
    for (int64_t r = task * c->step; r < end_of(c, task); r++) {
        int64_t at = c->place ? c->place[r] : r;
        const float *g = row_in(&c->x, r, c->d, buf), *dh = row_in(&c->dh, r, c->d, buf + c->d),
                    *u = c->gated ? row_in(&c->u, r, c->d, buf + 2 * c->d) : NULL;
        void *dg = c->dhalf ? half_row(&c->dg, r) : row_out(&c->dg, r, buf), *du = spare, *h = spare;
        if (c->gated) du = c->dhalf ? half_row(&c->du, r) : row_out(&c->du, r, buf + 2 * c->d);
        if (c->again) h = c->half ? half_row(&c->y, r) : row_out(&c->y, r, buf + c->d);
        float w = weight(c, at), dw = back_each[cpu_of(c->dev)->isa](dg, du, c->dhalf, h, c->half, g, u, dh, w, c->d);
        if (c->w) c->dw[at * c->sdw] = c->sigmoid ? dw * w * (1 - w) : dw;
        if (!c->dhalf) row_done(&c->dg, r, c->d, dg);
        if (!c->dhalf && c->gated) row_done(&c->du, r, c->d, du);
        if (!c->half && c->again) row_done(&c->y, r, c->d, h);
    }
}

static st_t act(struct ctx *c, base_pool_fn fn, const struct kn_tensor *g, const struct kn_tensor *u, const struct kn_tensor *order,
                const struct kn_tensor *w, double bytes_each)
{
    c->x = rows_of(g), c->n = g->d[0], c->d = g->d[1];
    c->gated = !kn_absent(u);
    if (c->gated) c->u = rows_of(u);
    c->place = kn_absent(order) ? NULL : order->p;
    if (!kn_absent(w)) c->w = w->p, c->sw = w->s[0];
    if (c->n == 0 || c->d == 0) return ST_OK;
    st_t st = cpu_scratch_need(c->dev, 4 * (size_t)c->d * sizeof(float));
    if (st) return st;
    c->step = rows_a_task(c->n, c->d, 8192);
    cpu_run(c->dev, fn, c, (int)((c->n + c->step - 1) / c->step), (double)c->n * (double)c->d * bytes_each / 10);
    return ST_OK;
}

st_t cpu_expert_act(struct kn_dev *dev, const struct kn_tensor *g, const struct kn_tensor *u, const struct kn_tensor *order,
                    const struct kn_tensor *w, int sigmoid, const struct kn_tensor *h)
{
    st_t st = kn_check_expert_act(g, u, order, w, sigmoid, h);
    if (st) return st;
    if (g->dtype != KN_F32) return ST_ENOTSUP;
    struct ctx c = {.dev = dev, .y = rows_of(h), .sigmoid = sigmoid, .half = h->dtype == KN_BF16};
    return act(&c, act_task, g, u, order, w, 12);
}

st_t cpu_expert_act_bwd(struct kn_dev *dev, const struct kn_tensor *g, const struct kn_tensor *u, const struct kn_tensor *order,
                        const struct kn_tensor *w, int sigmoid, const struct kn_tensor *dh, const struct kn_tensor *dg,
                        const struct kn_tensor *du, const struct kn_tensor *dw, const struct kn_tensor *h)
{
    st_t st = kn_check_expert_act_bwd(g, u, order, w, sigmoid, dh, dg, du, dw, h);
    if (st) return st;
    if (g->dtype != KN_F32) return ST_ENOTSUP;
    struct ctx c = {.dev = dev, .sigmoid = sigmoid, .dh = rows_of(dh), .dg = rows_of(dg), .again = !kn_absent(h)};
    if (!kn_absent(du)) c.du = rows_of(du);
    if (!kn_absent(dw)) c.dw = dw->p, c.sdw = dw->s[0];
    if (c.again) c.y = rows_of(h), c.half = h->dtype == KN_BF16;
    c.dhalf = dg->dtype == KN_BF16;
    return act(&c, back_task, g, u, order, w, 24);
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

#include "kernels/cpu/vec_put.h"

VEC_FN vf VEC_NAME(sigmoid)(vf x)
{
    vf one = vf_set1(1.0f);
    return vf_div(one, vf_add(one, vf_exp(vf_sub(vf_zero(), x))));
}

static void VEC_NAME(round)(uint16_t *y, const float *x, int64_t n)
{
    for (int64_t j = 0; j < n; j += VL) {
        int64_t m = n - j < VL ? n - j : VL;
        VEC_NAME(put)(y, 1, j, vf_loadn(x + j, m), m);
    }
}

static void VEC_NAME(act)(void *h, int half, const float *g, const float *u, float w, int64_t n)
{
    for (int64_t j = 0; j < n; j += VL) {
        int64_t m = n - j < VL ? n - j : VL;
        vf x = vf_loadn(g + j, m), relu = vf_max(x, vf_zero());
        vf y = u ? vf_mul(vf_mul(x, VEC_NAME(sigmoid)(x)), vf_loadn(u + j, m)) : vf_mul(relu, relu);
        VEC_NAME(put)(h, half, j, vf_mul(vf_set1(w), y), m);
    }
}

/* Returns the sum of act dh. Lanes beyond the end count for nothing: g = 0 there gives act = 0. */
static float VEC_NAME(back)(void *dg, void *du, int dhalf, void *h, int half, const float *g, const float *u, const float *dh, float w, int64_t n)
{
    vf sum = vf_zero(), wv = vf_set1(w), one = vf_set1(1.0f);
    for (int64_t j = 0; j < n; j += VL) {
        int64_t m = n - j < VL ? n - j : VL;
        vf x = vf_loadn(g + j, m), d = vf_loadn(dh + j, m), wd = vf_mul(wv, d);
        if (u) {
            vf y = vf_loadn(u + j, m), s = VEC_NAME(sigmoid)(x), xs = vf_mul(x, s), a = vf_mul(xs, y);
            sum = vf_fma(a, d, sum);
            VEC_NAME(put)(h, half, j, vf_mul(wv, a), m);
            VEC_NAME(put)(du, dhalf, j, vf_mul(wd, xs), m);
            VEC_NAME(put)(dg, dhalf, j, vf_mul(vf_mul(wd, y), vf_fma(xs, vf_sub(one, s), s)), m);
        } else {
            vf relu = vf_max(x, vf_zero()), a = vf_mul(relu, relu);
            sum = vf_fma(a, d, sum);
            VEC_NAME(put)(h, half, j, vf_mul(wv, a), m);
            VEC_NAME(put)(dg, dhalf, j, vf_mul(wd, vf_add(relu, relu)), m);
        }
    }
    return vf_hsum(sum);
}

#endif
