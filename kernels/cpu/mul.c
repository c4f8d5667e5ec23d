/* z = x * y and its backward. */
#ifndef VEC_PASS
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/rows.h"

#define VEC_FILE "kernels/cpu/mul.c"
#include "kernels/cpu/vec_each.h"

static void (*const fwd_each[])(float *z, const float *x, const float *y, int64_t n) = VEC_EACH(fwd);
static void (*const bwd_each[])(float *dx, float *dy, const float *x, const float *y, const float *dz,
                                int64_t n) = VEC_EACH(bwd);

struct ctx {
    struct kn_dev *dev;
    struct rows x, y, z, dx, dy; /* z: dz in the backward */
    int64_t n, d, step;
    int whole; /* every last stride is 1 */
};

static void fwd_task(void *arg, int task, int worker)
{
    struct ctx *c = arg;
    float *buf = c->whole ? NULL : cpu_scratch(c->dev, worker);
    int64_t d = c->d, end = (task + 1) * c->step < c->n ? (task + 1) * c->step : c->n;
    for (int64_t i = task * c->step; i < end; i++) {
        const float *x = row_in(&c->x, i, d, buf), *y = row_in(&c->y, i, d, buf + d);
        float *z = row_out(&c->z, i, buf);
        fwd_each[cpu_of(c->dev)->isa](z, x, y, d);
        row_done(&c->z, i, d, z);
    }
}

static void bwd_task(void *arg, int task, int worker)
{
    struct ctx *c = arg;
    float *buf = c->whole ? NULL : cpu_scratch(c->dev, worker);
    int64_t d = c->d, end = (task + 1) * c->step < c->n ? (task + 1) * c->step : c->n;
    for (int64_t i = task * c->step; i < end; i++) {
        const float *x = row_in(&c->x, i, d, buf), *y = row_in(&c->y, i, d, buf + d),
                    *dz = row_in(&c->z, i, d, buf + 2 * d);
        float *dx = row_out(&c->dx, i, buf), *dy = row_out(&c->dy, i, buf + d);
        bwd_each[cpu_of(c->dev)->isa](dx, dy, x, y, dz, d);
        row_done(&c->dx, i, d, dx);
        row_done(&c->dy, i, d, dy);
    }
}

static st_t run(struct ctx *c, base_pool_fn fn, const struct kn_tensor *x, double bytes_each)
{
    c->n = x->d[0];
    c->d = x->d[1];
    if (c->n == 0 || c->d == 0) return ST_OK;
    c->step = rows_a_task(c->n, c->d, 16384);
    if (!c->whole) {
        st_t st = cpu_scratch_need(c->dev, 3 * (size_t)c->d * sizeof(float));
        if (st) return st;
    }
    cpu_run(c->dev, fn, c, (int)((c->n + c->step - 1) / c->step), (double)c->n * (double)c->d * bytes_each / 10);
    return ST_OK;
}

st_t cpu_mul(struct kn_dev *dev, const struct kn_tensor *x, const struct kn_tensor *y, const struct kn_tensor *z)
{
    st_t st = kn_check_mul(x, y, z);
    if (st) return st;
    if (x->dtype != KN_F32) return ST_ENOTSUP;
    struct ctx c = {.dev = dev, .x = rows_of(x), .y = rows_of(y), .z = rows_of(z)};
    c.whole = x->s[1] == 1 && y->s[1] == 1 && z->s[1] == 1;
    return run(&c, fwd_task, x, 12);
}

st_t cpu_mul_bwd(struct kn_dev *dev, const struct kn_tensor *x, const struct kn_tensor *y, const struct kn_tensor *dz,
                 const struct kn_tensor *dx, const struct kn_tensor *dy)
{
    st_t st = kn_check_mul_bwd(x, y, dz, dx, dy);
    if (st) return st;
    if (x->dtype != KN_F32) return ST_ENOTSUP;
    struct ctx c = {
        .dev = dev, .x = rows_of(x), .y = rows_of(y), .z = rows_of(dz), .dx = rows_of(dx), .dy = rows_of(dy)};
    c.whole = x->s[1] == 1 && y->s[1] == 1 && dz->s[1] == 1 && dx->s[1] == 1 && dy->s[1] == 1;
    return run(&c, bwd_task, x, 20);
}

#else

static void VEC_NAME(fwd)(float *z, const float *x, const float *y, int64_t n)
{
    int64_t i = 0;
    for (; i + VL <= n; i += VL) vf_store(z + i, vf_mul(vf_load(x + i), vf_load(y + i)));
    if (i < n) vf_storen(z + i, vf_mul(vf_loadn(x + i, n - i), vf_loadn(y + i, n - i)), n - i);
}

static void VEC_NAME(bwd)(float *dx, float *dy, const float *x, const float *y, const float *dz, int64_t n)
{
    int64_t i = 0;
    for (; i + VL <= n; i += VL) {
        vf a = vf_load(x + i), b = vf_load(y + i), d = vf_load(dz + i);
        vf_store(dx + i, vf_mul(d, b));
        vf_store(dy + i, vf_mul(d, a));
    }
    if (i < n) {
        vf a = vf_loadn(x + i, n - i), b = vf_loadn(y + i, n - i), d = vf_loadn(dz + i, n - i);
        vf_storen(dx + i, vf_mul(d, b), n - i);
        vf_storen(dy + i, vf_mul(d, a), n - i);
    }
}

#endif
