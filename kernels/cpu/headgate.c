/* y = x * sigmoid(g) of every head, and its backward, where the heads lie. */
#ifndef VEC_PASS
#include "kernels/cpu/cpu.h"

#define LEAST 8192 /* elements a task touches, about */

struct heads {
    float *p;
    int64_t b, t, h;
};

struct ctx {
    struct kn_dev *dev;
    struct heads x, g, y, dx, dg; /* y: dy in the backward */
    int64_t N, T, H, K, step;     /* positions N = B*T; of a task */
};

static struct heads heads_of(const struct kn_tensor *t)
{
    return (struct heads){t->p, t->s[0], t->s[1], t->s[2]};
}

static float *at(const struct heads *x, int64_t b, int64_t t)
{
    return x->p + b * x->b + t * x->t;
}

#define VEC_FILE "kernels/cpu/headgate.c"
#include "kernels/cpu/vec_each.h"

static void (*const fwd_each[])(const struct ctx *c, int64_t b, int64_t t) = VEC_EACH(fwd);
static void (*const bwd_each[])(const struct ctx *c, int64_t b, int64_t t) = VEC_EACH(bwd);

static void fwd_task(void *arg, int task, int worker)
{
    const struct ctx *c = arg;
    int64_t end = (task + 1) * c->step < c->N ? (task + 1) * c->step : c->N;
    for (int64_t n = task * c->step; n < end; n++) fwd_each[cpu_of(c->dev)->isa](c, n / c->T, n % c->T);
}

static void bwd_task(void *arg, int task, int worker)
{
    const struct ctx *c = arg;
    int64_t end = (task + 1) * c->step < c->N ? (task + 1) * c->step : c->N;
    for (int64_t n = task * c->step; n < end; n++) bwd_each[cpu_of(c->dev)->isa](c, n / c->T, n % c->T);
}

static st_t run(struct ctx *c, base_pool_fn fn, const struct kn_tensor *x, double bytes_each)
{
    c->N = x->d[0] * x->d[1];
    c->T = x->d[1];
    c->H = x->d[2];
    c->K = x->d[3];
    if (kn_count(x) == 0) return ST_OK;
    c->step = (LEAST + c->H * c->K - 1) / (c->H * c->K);
    cpu_run(c->dev, fn, c, (int)((c->N + c->step - 1) / c->step), (double)kn_count(x) * bytes_each / 10);
    return ST_OK;
}

st_t cpu_headgate(struct kn_dev *dev, const struct kn_tensor *x, const struct kn_tensor *g, const struct kn_tensor *y)
{
    st_t st = kn_check_headgate(x, g, y);
    if (st) return st;
    if (x->dtype != KN_F32) return ST_ENOTSUP;
    struct ctx c = {.dev = dev, .x = heads_of(x), .g = heads_of(g), .y = heads_of(y)};
    return run(&c, fwd_task, x, 12);
}

st_t cpu_headgate_bwd(struct kn_dev *dev, const struct kn_tensor *x, const struct kn_tensor *g,
                      const struct kn_tensor *dy, const struct kn_tensor *dx, const struct kn_tensor *dg)
{
    st_t st = kn_check_headgate_bwd(x, g, dy, dx, dg);
    if (st) return st;
    if (x->dtype != KN_F32) return ST_ENOTSUP;
    struct ctx c = {
        .dev = dev, .x = heads_of(x), .g = heads_of(g), .y = heads_of(dy), .dx = heads_of(dx), .dg = heads_of(dg)};
    return run(&c, bwd_task, x, 20);
}

#else

VEC_FN vf VEC_NAME(sigmoid)(vf g)
{
    vf one = vf_set1(1.0f);
    return vf_div(one, vf_add(one, vf_exp(vf_sub(vf_zero(), g))));
}

static void VEC_NAME(fwd)(const struct ctx *c, int64_t b, int64_t t)
{
    const float *x = at(&c->x, b, t), *g = at(&c->g, b, t);
    float *y = at(&c->y, b, t);
    int64_t K = c->K;
    for (int64_t h = 0; h < c->H; h++, x += c->x.h, g += c->g.h, y += c->y.h) {
        int64_t i = 0;
        for (; i + VL <= K; i += VL) vf_store(y + i, vf_mul(vf_load(x + i), VEC_NAME(sigmoid)(vf_load(g + i))));
        if (i < K)
            vf_storen(y + i, vf_mul(vf_loadn(x + i, K - i), VEC_NAME(sigmoid)(vf_loadn(g + i, K - i))), K - i);
    }
}

static void VEC_NAME(bwd)(const struct ctx *c, int64_t b, int64_t t)
{
    const float *x = at(&c->x, b, t), *g = at(&c->g, b, t), *dy = at(&c->y, b, t);
    float *dx = at(&c->dx, b, t), *dg = at(&c->dg, b, t);
    int64_t K = c->K;
    for (int64_t h = 0; h < c->H; h++, x += c->x.h, g += c->g.h, dy += c->y.h, dx += c->dx.h, dg += c->dg.h) {
        for (int64_t i = 0; i < K; i += VL) {
            int64_t n = K - i < VL ? K - i : VL;
            vf one = vf_set1(1.0f), xs = vf_loadn(x + i, n), s = VEC_NAME(sigmoid)(vf_loadn(g + i, n));
            vf d = vf_mul(vf_loadn(dy + i, n), s);
            vf_storen(dg + i, vf_mul(vf_mul(d, xs), vf_sub(one, s)), n);
            vf_storen(dx + i, d, n);
        }
    }
}

#endif
