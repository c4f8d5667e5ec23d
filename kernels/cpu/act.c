/* y = act(x + bias) and its backward. */
#ifndef VEC_PASS
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/rows.h"

/* GELU in its tanh form is x sigmoid(2 sqrt(2/pi) (x + 0.044715 x^3)). */
#define GELU_RATE  1.5957691216057308f /* 2 sqrt(2/pi) */
#define GELU_CUBIC 0.0713548162726009f /* of x^3, the rate multiplied in */

#define VEC_FILE "kernels/cpu/act.c"
#include "kernels/cpu/vec_each.h"

static void (*const bias_each[])(float *x, const float *bias, int64_t n) = VEC_EACH(bias);
static void (*const relu2_each[])(float *y, const float *x, int64_t n) = VEC_EACH(relu2);
static void (*const gelu_each[])(float *y, const float *x, int64_t n) = VEC_EACH(gelu);
static void (*const relu2_bwd_each[])(float *dx, const float *x, const float *dy, int64_t n) = VEC_EACH(relu2_bwd);
static void (*const gelu_bwd_each[])(float *dx, const float *x, const float *dy, int64_t n) = VEC_EACH(gelu_bwd);

struct ctx {
    struct kn_dev *dev;
    struct rows x, y, dx, bias; /* y: dy in the backward; bias: one row */
    int64_t n, f, step;
    int whole; /* every last stride is 1 */
    void (*fwd)(float *y, const float *x, int64_t n);
    void (*bwd)(float *dx, const float *x, const float *dy, int64_t n);
};

static void fwd_task(void *arg, int task, int worker)
{
    struct ctx *c = arg;
    float *buf = c->whole ? NULL : cpu_scratch(c->dev, worker);
    int64_t f = c->f, end = (task + 1) * c->step < c->n ? (task + 1) * c->step : c->n;
    const float *bias = c->bias.p ? row_in(&c->bias, 0, f, buf) : NULL;
    for (int64_t i = task * c->step; i < end; i++) {
        float *x = row_in(&c->x, i, f, buf + f), *y = row_out(&c->y, i, buf + 2 * f);
        if (bias) {
            bias_each[cpu_of(c->dev)->isa](x, bias, f);
            row_done(&c->x, i, f, x);
        }
        c->fwd(y, x, f);
        row_done(&c->y, i, f, y);
    }
}

static void bwd_task(void *arg, int task, int worker)
{
    struct ctx *c = arg;
    float *buf = c->whole ? NULL : cpu_scratch(c->dev, worker);
    int64_t f = c->f, end = (task + 1) * c->step < c->n ? (task + 1) * c->step : c->n;
    for (int64_t i = task * c->step; i < end; i++) {
        const float *x = row_in(&c->x, i, f, buf), *dy = row_in(&c->y, i, f, buf + f);
        float *dx = row_out(&c->dx, i, buf + 2 * f);
        c->bwd(dx, x, dy, f);
        row_done(&c->dx, i, f, dx);
    }
}

static st_t run(struct ctx *c, base_pool_fn fn, const struct kn_tensor *x, double bytes_each)
{
    c->n = x->d[0];
    c->f = x->d[1];
    if (c->n == 0 || c->f == 0) return ST_OK;
    c->step = rows_a_task(c->n, c->f, 8192);
    if (!c->whole) {
        st_t st = cpu_scratch_need(c->dev, 3 * (size_t)c->f * sizeof(float));
        if (st) return st;
    }
    cpu_run(c->dev, fn, c, (int)((c->n + c->step - 1) / c->step), (double)c->n * (double)c->f * bytes_each / 10);
    return ST_OK;
}

void cpu_act_row(const struct kn_dev *dev, int kind, float *y, const float *x, int64_t n)
{
    (kind == KN_RELU2 ? relu2_each : gelu_each)[cpu_of(dev)->isa](y, x, n);
}

st_t cpu_act(struct kn_dev *dev, int kind, const struct kn_tensor *x, const struct kn_tensor *bias, const struct kn_tensor *y)
{
    st_t st = kn_check_act(kind, x, bias, y);
    if (st) return st;
    if (x->dtype != KN_F32) return ST_ENOTSUP;
    struct ctx c = {.dev = dev, .x = rows_of(x), .y = rows_of(y)};
    c.fwd = (kind == KN_RELU2 ? relu2_each : gelu_each)[cpu_of(dev)->isa];
    c.whole = x->s[1] == 1 && y->s[1] == 1;
    if (!kn_absent(bias)) {
        c.bias = (struct rows){bias->p, 0, bias->s[0]};
        c.whole = c.whole && bias->s[0] == 1;
    }
    return run(&c, fwd_task, x, c.bias.p ? 12 : 8);
}

st_t cpu_act_bwd(struct kn_dev *dev, int kind, const struct kn_tensor *x, const struct kn_tensor *dy, const struct kn_tensor *dx)
{
    st_t st = kn_check_act_bwd(kind, x, dy, dx);
    if (st) return st;
    if (x->dtype != KN_F32) return ST_ENOTSUP;
    struct ctx c = {.dev = dev, .x = rows_of(x), .y = rows_of(dy), .dx = rows_of(dx)};
    c.bwd = (kind == KN_RELU2 ? relu2_bwd_each : gelu_bwd_each)[cpu_of(dev)->isa];
    c.whole = x->s[1] == 1 && dy->s[1] == 1 && dx->s[1] == 1;
    return run(&c, bwd_task, x, 16);
}

#else

VEC_FN vf VEC_NAME(relu2_1)(vf x)
{
    vf p = vf_max(vf_zero(), x);
    return vf_mul(p, p);
}

VEC_FN vf VEC_NAME(relu2_bwd1)(vf x, vf dy)
{
    vf p = vf_max(vf_zero(), x);
    return vf_mul(vf_add(p, p), dy);
}

VEC_FN vf VEC_NAME(gelu_gate)(vf x)
{
    vf one = vf_set1(1.0f), z = vf_mul(x, vf_fma(vf_mul(x, x), vf_set1(GELU_CUBIC), vf_set1(GELU_RATE)));
    return vf_div(one, vf_add(one, vf_exp(vf_sub(vf_zero(), z))));
}

VEC_FN vf VEC_NAME(gelu_1)(vf x)
{
    return vf_mul(x, VEC_NAME(gelu_gate)(x));
}

/* With s the gate and z its argument:  s + x s (1 - s) z',  z' = rate + 3 cubic x^2 */
VEC_FN vf VEC_NAME(gelu_bwd1)(vf x, vf dy)
{
    vf s = VEC_NAME(gelu_gate)(x), z = vf_fma(vf_mul(x, x), vf_set1(3 * GELU_CUBIC), vf_set1(GELU_RATE));
    vf xs = vf_mul(vf_mul(x, s), vf_sub(vf_set1(1.0f), s));
    return vf_mul(vf_fma(xs, z, s), dy);
}

static void VEC_NAME(bias)(float *x, const float *bias, int64_t n)
{
    int64_t i = 0;
    for (; i + VL <= n; i += VL) vf_store(x + i, vf_add(vf_load(x + i), vf_load(bias + i)));
    if (i < n) vf_storen(x + i, vf_add(vf_loadn(x + i, n - i), vf_loadn(bias + i, n - i)), n - i);
}

#define ACT(name)                                                                                                 \
    static void VEC_NAME(name)(float *y, const float *x, int64_t n)                                               \
    {                                                                                                             \
        int64_t i = 0;                                                                                            \
        for (; i + VL <= n; i += VL) vf_store(y + i, VEC_NAME(name##_1)(vf_load(x + i)));                         \
        if (i < n) vf_storen(y + i, VEC_NAME(name##_1)(vf_loadn(x + i, n - i)), n - i);                           \
    }                                                                                                             \
    static void VEC_NAME(name##_bwd)(float *dx, const float *x, const float *dy, int64_t n)                       \
    {                                                                                                             \
        int64_t i = 0;                                                                                            \
        for (; i + VL <= n; i += VL) vf_store(dx + i, VEC_NAME(name##_bwd1)(vf_load(x + i), vf_load(dy + i)));    \
        if (i < n) vf_storen(dx + i, VEC_NAME(name##_bwd1)(vf_loadn(x + i, n - i), vf_loadn(dy + i, n - i)), n - i); \
    }
ACT(relu2)
ACT(gelu)
#undef ACT

#endif
