/* Gates of linear recurrences: the delta rule's decay and beta, the logarithm of a sigmoid. A row is a token. */
#ifndef VEC_PASS
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/rows.h"

#define VEC_FILE "kernels/cpu/gates.c"
#include "kernels/cpu/vec_each.h"

static void (*const fwd_each[])(float *g, float *beta, const float *a, const float *b, const float *rate, const float *bias,
                                int64_t n) = VEC_EACH(fwd);
static void (*const bwd_each[])(float *da, float *db, const float *a, const float *b, const float *rate, const float *bias,
                                const float *dg, const float *dbeta, float *drate, float *dbias, int64_t n) = VEC_EACH(bwd);
static void (*const log_each[])(float *y, const float *x, float alpha, int64_t n) = VEC_EACH(log);
static void (*const log_bwd_each[])(float *dx, const float *x, const float *dy, float alpha, int64_t n) = VEC_EACH(log_bwd);
static void (*const rate_each[])(float *rate, int64_t n) = VEC_EACH(rate);

#define BLOCKS 64 /* partial rows of da_log and ddt_bias at most */

struct ctx {
    struct kn_dev *dev;
    struct rows a, b, g, beta, da, db; /* g, beta: their gradients in the backward */
    const float *rate, *bias;          /* [h]: -exp(a_log), dt_bias */
    float *part;                       /* [blocks][2 h] */
    float alpha;
    int64_t n, h, step;
};

static int64_t last_of(const struct ctx *c, int task)
{
    return (task + 1) * c->step < c->n ? (task + 1) * c->step : c->n;
}

static void fwd_task(void *arg, int task, int worker)
{
    struct ctx *c = arg;
    for (int64_t i = task * c->step; i < last_of(c, task); i++)
        fwd_each[cpu_of(c->dev)->isa](c->g.p + i * c->g.s0, c->beta.p + i * c->beta.s0, c->a.p + i * c->a.s0,
                                      c->b.p + i * c->b.s0, c->rate, c->bias, c->h);
}

static void bwd_task(void *arg, int task, int worker)
{
    struct ctx *c = arg;
    float *part = c->part + task * 2 * c->h;
    memset(part, 0, (size_t)(2 * c->h) * sizeof *part);
    for (int64_t i = task * c->step; i < last_of(c, task); i++)
        bwd_each[cpu_of(c->dev)->isa](c->da.p + i * c->da.s0, c->db.p + i * c->db.s0, c->a.p + i * c->a.s0,
                                      c->b.p + i * c->b.s0, c->rate, c->bias, c->g.p + i * c->g.s0,
                                      c->beta.p + i * c->beta.s0, part, part + c->h, c->h);
}

/* The two vectors of h numbers before `parts` partial ones, in shared memory; rate is -exp(a_log). */
static st_t begin(struct ctx *c, const struct kn_tensor *a, const struct kn_tensor *a_log, const struct kn_tensor *dt_bias,
                  int64_t blocks)
{
    void *mem;
    c->n = a->d[0];
    c->h = a->d[1];
    st_t st = cpu_shared(c->dev, CPU_SLOT_OP, (size_t)(c->h * 2 * (1 + blocks)) * sizeof(float), &mem);
    if (st) return st;
    float *rate = mem, *bias = rate + c->h;
    for (int64_t i = 0; i < c->h; i++) {
        rate[i] = ((const float *)a_log->p)[i * a_log->s[0]];
        bias[i] = ((const float *)dt_bias->p)[i * dt_bias->s[0]];
    }
    rate_each[cpu_of(c->dev)->isa](rate, c->h);
    c->rate = rate;
    c->bias = bias;
    c->part = bias + c->h;
    return ST_OK;
}

st_t cpu_delta_gates(struct kn_dev *dev, const struct kn_tensor *a, const struct kn_tensor *b,
                     const struct kn_tensor *a_log, const struct kn_tensor *dt_bias, const struct kn_tensor *g,
                     const struct kn_tensor *beta)
{
    st_t st = kn_check_delta_gates(a, b, a_log, dt_bias, g, beta);
    if (st) return st;
    if (a->dtype != KN_F32) return ST_ENOTSUP;
    if (kn_count(a) == 0) return ST_OK;
    struct ctx c = {.dev = dev, .a = rows_of(a), .b = rows_of(b), .g = rows_of(g), .beta = rows_of(beta)};
    if ((st = begin(&c, a, a_log, dt_bias, 0))) return st;
    c.step = rows_a_task(c.n, c.h, 4096);
    cpu_run(dev, fwd_task, &c, (int)((c.n + c.step - 1) / c.step), (double)c.n * ((double)c.h * 2 + 10));
    return ST_OK;
}

st_t cpu_delta_gates_bwd(struct kn_dev *dev, const struct kn_tensor *a, const struct kn_tensor *b,
                         const struct kn_tensor *a_log, const struct kn_tensor *dt_bias, const struct kn_tensor *dg,
                         const struct kn_tensor *dbeta, const struct kn_tensor *da, const struct kn_tensor *db,
                         const struct kn_tensor *da_log, const struct kn_tensor *ddt_bias)
{
    st_t st = kn_check_delta_gates_bwd(a, b, a_log, dt_bias, dg, dbeta, da, db, da_log, ddt_bias);
    if (st) return st;
    if (a->dtype != KN_F32) return ST_ENOTSUP;
    if (kn_count(a) == 0) return ST_OK;
    struct ctx c = {.dev = dev, .a = rows_of(a), .b = rows_of(b), .g = rows_of(dg), .beta = rows_of(dbeta), .da = rows_of(da), .db = rows_of(db)};
    int64_t step = rows_a_task(a->d[0], a->d[1], 4096), least = (a->d[0] + BLOCKS - 1) / BLOCKS;
    c.step = step < least ? least : step;
    int64_t blocks = (a->d[0] + c.step - 1) / c.step;
    if ((st = begin(&c, a, a_log, dt_bias, blocks))) return st;
    cpu_run(dev, bwd_task, &c, (int)blocks, (double)c.n * ((double)c.h * 3 + 15));
    for (int64_t i = 0; i < c.h; i++) {
        float rate = 0, bias = 0;
        for (int64_t k = 0; k < blocks; k++) {
            rate += c.part[k * 2 * c.h + i];
            bias += c.part[k * 2 * c.h + c.h + i];
        }
        ((float *)da_log->p)[i * da_log->s[0]] += rate;
        ((float *)ddt_bias->p)[i * ddt_bias->s[0]] += bias;
    }
    return ST_OK;
}

static void log_task(void *arg, int task, int worker)
{
    struct ctx *c = arg;
    for (int64_t i = task * c->step; i < last_of(c, task); i++)
        log_each[cpu_of(c->dev)->isa](c->g.p + i * c->g.s0, c->a.p + i * c->a.s0, c->alpha, c->h);
}

static void log_bwd_task(void *arg, int task, int worker)
{
    struct ctx *c = arg;
    for (int64_t i = task * c->step; i < last_of(c, task); i++)
        log_bwd_each[cpu_of(c->dev)->isa](c->da.p + i * c->da.s0, c->a.p + i * c->a.s0, c->g.p + i * c->g.s0, c->alpha, c->h);
}

static void run_rows(struct ctx *c, base_pool_fn fn, const struct kn_tensor *x)
{
    c->n = x->d[0];
    c->h = x->d[1];
    c->step = rows_a_task(c->n, c->h, 8192);
    if (c->n && c->h) cpu_run(c->dev, fn, c, (int)((c->n + c->step - 1) / c->step), (double)c->n * (double)c->h * 1.2);
}

st_t cpu_logsigmoid(struct kn_dev *dev, const struct kn_tensor *x, double alpha, const struct kn_tensor *y)
{
    st_t st = kn_check_logsigmoid(x, alpha, y);
    if (st) return st;
    if (x->dtype != KN_F32) return ST_ENOTSUP;
    struct ctx c = {.dev = dev, .a = rows_of(x), .g = rows_of(y), .alpha = (float)alpha};
    run_rows(&c, log_task, x);
    return ST_OK;
}

st_t cpu_logsigmoid_bwd(struct kn_dev *dev, const struct kn_tensor *x, double alpha, const struct kn_tensor *dy,
                        const struct kn_tensor *dx)
{
    st_t st = kn_check_logsigmoid_bwd(x, alpha, dy, dx);
    if (st) return st;
    if (x->dtype != KN_F32) return ST_ENOTSUP;
    struct ctx c = {.dev = dev, .a = rows_of(x), .g = rows_of(dy), .da = rows_of(dx), .alpha = (float)alpha};
    run_rows(&c, log_bwd_task, x);
    return ST_OK;
}

#else

#include "kernels/cpu/vec_softplus.h"

VEC_FN vf VEC_NAME(sigmoid)(vf x)
{
    vf one = vf_set1(1.0f);
    return vf_div(one, vf_add(one, vf_exp(vf_sub(vf_zero(), x))));
}

VEC_FN vf VEC_NAME(softplus)(vf x)
{
    vf zero = vf_zero(), up = vf_max(x, zero);
    return VEC_NAME(add_log1p)(up, vf_exp(vf_sub(vf_min(x, zero), up)));
}

static void VEC_NAME(rate)(float *rate, int64_t n)
{
    for (int64_t i = 0; i < n; i += VL) {
        long k = n - i < VL ? (long)(n - i) : VL;
        vf_storen(rate + i, vf_sub(vf_zero(), vf_exp(vf_loadn(rate + i, k))), k);
    }
}

static void VEC_NAME(fwd)(float *g, float *beta, const float *a, const float *b, const float *rate, const float *bias,
                          int64_t n)
{
    for (int64_t i = 0; i < n; i += VL) {
        long k = n - i < VL ? (long)(n - i) : VL;
        vf u = vf_add(vf_loadn(a + i, k), vf_loadn(bias + i, k));
        vf_storen(g + i, vf_mul(vf_loadn(rate + i, k), VEC_NAME(softplus)(u)), k);
        vf_storen(beta + i, VEC_NAME(sigmoid)(vf_loadn(b + i, k)), k);
    }
}

static void VEC_NAME(bwd)(float *da, float *db, const float *a, const float *b, const float *rate, const float *bias,
                          const float *dg, const float *dbeta, float *drate, float *dbias, int64_t n)
{
    for (int64_t i = 0; i < n; i += VL) {
        long k = n - i < VL ? (long)(n - i) : VL;
        vf u = vf_add(vf_loadn(a + i, k), vf_loadn(bias + i, k)), d = vf_mul(vf_loadn(dg + i, k), vf_loadn(rate + i, k));
        vf s = VEC_NAME(sigmoid)(vf_loadn(b + i, k)), slope = vf_mul(d, VEC_NAME(sigmoid)(u));
        vf_storen(drate + i, vf_fma(d, VEC_NAME(softplus)(u), vf_loadn(drate + i, k)), k);
        vf_storen(dbias + i, vf_add(slope, vf_loadn(dbias + i, k)), k);
        vf_storen(da + i, slope, k);
        vf_storen(db + i, vf_mul(vf_loadn(dbeta + i, k), vf_mul(s, vf_sub(vf_set1(1.0f), s))), k);
    }
}

static void VEC_NAME(log)(float *y, const float *x, float alpha, int64_t n)
{
    vf m = vf_set1(-alpha);
    for (int64_t i = 0; i < n; i += VL) {
        long k = n - i < VL ? (long)(n - i) : VL;
        vf_storen(y + i, vf_mul(m, VEC_NAME(softplus)(vf_sub(vf_zero(), vf_loadn(x + i, k)))), k);
    }
}

static void VEC_NAME(log_bwd)(float *dx, const float *x, const float *dy, float alpha, int64_t n)
{
    vf m = vf_set1(alpha);
    for (int64_t i = 0; i < n; i += VL) {
        long k = n - i < VL ? (long)(n - i) : VL;
        vf_storen(dx + i, vf_mul(vf_mul(m, vf_loadn(dy + i, k)), VEC_NAME(sigmoid)(vf_sub(vf_zero(), vf_loadn(x + i, k)))), k);
    }
}

#endif
