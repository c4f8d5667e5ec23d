/* RMSNorm of heads where they lie: a row is one head, short enough to stay in registers' reach, and w is read once a
 * row from the first cache. The backward's dw: as in rmsnorm.c, a partial row a task, added in the order of the tasks. */
#ifndef VEC_PASS
#include "kernels/cpu/cpu.h"

#define LEAST  8192 /* elements a task touches, about */
#define BLOCKS 64   /* partial rows of dw at most */

struct heads {
    float *p;
    int64_t b, t, h;
};

struct ctx {
    struct kn_dev *dev;
    struct heads x, y, dx, rstd; /* y: dy in the backward */
    const float *w;              /* [K], unit stride */
    int64_t N, T, H, K, step;    /* positions N = B*T; of a task */
    float eps;
    float *part; /* [tasks][K] */
};

static struct heads heads_of(const struct kn_tensor *t)
{
    return (struct heads){t->p, t->s[0], t->s[1], t->s[2]};
}

static float *at(const struct heads *x, int64_t b, int64_t t)
{
    return x->p + b * x->b + t * x->t;
}

#define VEC_FILE "kernels/cpu/headnorm.c"
#include "kernels/cpu/vec_each.h"

static void (*const fwd_each[])(const struct ctx *c, int64_t b, int64_t t) = VEC_EACH(fwd);
static void (*const bwd_each[])(const struct ctx *c, int64_t b, int64_t t, float *dw) = VEC_EACH(bwd);

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
    float *dw = c->part + task * c->K;
    memset(dw, 0, (size_t)c->K * sizeof *dw);
    for (int64_t n = task * c->step; n < end; n++) bwd_each[cpu_of(c->dev)->isa](c, n / c->T, n % c->T, dw);
}

/* w in unit stride, behind `floats` numbers of shared scratch. */
static st_t prepare(struct ctx *c, const struct kn_tensor *w, int64_t floats)
{
    void *p;
    st_t st = cpu_shared(c->dev, CPU_SLOT_OP, (size_t)(floats + c->K) * sizeof(float), &p);
    if (st) return st;
    c->part = p;
    c->w = w->p;
    if (w->s[0] == 1) return ST_OK;
    float *own = c->part + floats;
    for (int64_t k = 0; k < c->K; k++) own[k] = ((const float *)w->p)[k * w->s[0]];
    c->w = own;
    return ST_OK;
}

static struct ctx ctx_of(struct kn_dev *dev, const struct kn_tensor *x, const struct kn_tensor *y,
                         const struct kn_tensor *rstd)
{
    struct ctx c = {.dev = dev,
                    .x = heads_of(x),
                    .y = heads_of(y),
                    .rstd = heads_of(rstd),
                    .N = x->d[0] * x->d[1],
                    .T = x->d[1],
                    .H = x->d[2],
                    .K = x->d[3]};
    int64_t width = c.H * c.K > 0 ? c.H * c.K : 1;
    c.step = (LEAST + width - 1) / width;
    return c;
}

st_t cpu_headnorm(struct kn_dev *dev, const struct kn_tensor *x, const struct kn_tensor *w, double eps,
                  const struct kn_tensor *y, const struct kn_tensor *rstd)
{
    st_t st = kn_check_headnorm(x, w, eps, y, rstd);
    if (st) return st;
    if (x->dtype != KN_F32) return ST_ENOTSUP;
    if (kn_count(x) == 0) return ST_OK;
    struct ctx c = ctx_of(dev, x, y, rstd);
    c.eps = (float)eps;
    if ((st = prepare(&c, w, 0))) return st;
    cpu_run(dev, fwd_task, &c, (int)((c.N + c.step - 1) / c.step), (double)kn_count(x) * 8 / 10);
    return ST_OK;
}

st_t cpu_headnorm_bwd(struct kn_dev *dev, const struct kn_tensor *x, const struct kn_tensor *w,
                      const struct kn_tensor *rstd, const struct kn_tensor *dy, const struct kn_tensor *dx,
                      const struct kn_tensor *dw)
{
    st_t st = kn_check_headnorm_bwd(x, w, rstd, dy, dx, dw);
    if (st) return st;
    if (x->dtype != KN_F32) return ST_ENOTSUP;
    if (kn_count(x) == 0) return ST_OK;
    struct ctx c = ctx_of(dev, x, dy, rstd);
    c.dx = heads_of(dx);
    if (c.step < (c.N + BLOCKS - 1) / BLOCKS) c.step = (c.N + BLOCKS - 1) / BLOCKS;
    int64_t tasks = (c.N + c.step - 1) / c.step;
    if ((st = prepare(&c, w, tasks * c.K))) return st;
    cpu_run(dev, bwd_task, &c, (int)tasks, (double)kn_count(x) * 16 / 10);
    float *out = dw->p;
    for (int64_t k = 0; k < c.K; k++) {
        float sum = 0;
        for (int64_t i = 0; i < tasks; i++) sum += c.part[i * c.K + k];
        out[k * dw->s[0]] += sum;
    }
    return ST_OK;
}

#else

static void VEC_NAME(fwd)(const struct ctx *c, int64_t b, int64_t t)
{
    const float *x = at(&c->x, b, t), *w = c->w;
    float *y = at(&c->y, b, t), *rstd = at(&c->rstd, b, t);
    int64_t K = c->K;
    for (int64_t h = 0; h < c->H; h++, x += c->x.h, y += c->y.h, rstd += c->rstd.h) {
        vf s = vf_zero();
        int64_t i = 0;
        for (; i + VL <= K; i += VL) s = vf_fma(vf_load(x + i), vf_load(x + i), s);
        if (i < K) {
            vf a = vf_loadn(x + i, K - i);
            s = vf_fma(a, a, s);
        }
        float r = 1.0f / sqrtf(vf_hsum(s) / (float)K + c->eps);
        vf m = vf_set1(r);
        *rstd = r;
        for (i = 0; i + VL <= K; i += VL) vf_store(y + i, vf_mul(vf_mul(vf_load(x + i), m), vf_load(w + i)));
        if (i < K) vf_storen(y + i, vf_mul(vf_mul(vf_loadn(x + i, K - i), m), vf_loadn(w + i, K - i)), K - i);
    }
}

/* With n = x rstd:  dx = rstd (dy w - n mean(dy w n)),  dw += dy n. */
static void VEC_NAME(bwd)(const struct ctx *c, int64_t b, int64_t t, float *dw)
{
    const float *x = at(&c->x, b, t), *w = c->w, *dy = at(&c->y, b, t), *rstd = at(&c->rstd, b, t);
    float *dx = at(&c->dx, b, t);
    int64_t K = c->K;
    for (int64_t h = 0; h < c->H; h++, x += c->x.h, dy += c->y.h, dx += c->dx.h, rstd += c->rstd.h) {
        vf s = vf_zero();
        int64_t i = 0;
        for (; i + VL <= K; i += VL) s = vf_fma(vf_mul(vf_load(dy + i), vf_load(w + i)), vf_load(x + i), s);
        if (i < K)
            s = vf_fma(vf_mul(vf_loadn(dy + i, K - i), vf_loadn(w + i, K - i)), vf_loadn(x + i, K - i), s);
        vf m = vf_set1(*rstd), mean = vf_set1(vf_hsum(s) * *rstd / (float)K);
        for (i = 0; i + VL <= K; i += VL) {
            vf g = vf_load(dy + i), n = vf_mul(vf_load(x + i), m);
            vf_store(dx + i, vf_mul(m, vf_fnma(n, mean, vf_mul(g, vf_load(w + i)))));
            vf_store(dw + i, vf_fma(g, n, vf_load(dw + i)));
        }
        if (i < K) {
            int64_t k = K - i;
            vf g = vf_loadn(dy + i, k), n = vf_mul(vf_loadn(x + i, k), m);
            vf_storen(dx + i, vf_mul(m, vf_fnma(n, mean, vf_mul(g, vf_loadn(w + i, k)))), k);
            vf_storen(dw + i, vf_fma(g, n, vf_loadn(dw + i, k)), k);
        }
    }
}

#endif
