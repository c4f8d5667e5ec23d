/* AdamW, one pass: 16 bytes read and 12 written a parameter. */
#ifndef VEC_PASS
#include "kernels/cpu/cpu.h"

#define BLOCK 8192 /* parameters a task takes */

struct step {
    float gscale, beta1, beta2, rest1, rest2; /* rest: 1 - beta */
    float decay;                              /* 1 - lr weight_decay */
    float rate;                               /* lr / (1 - beta1^t) */
    float root;                               /* 1 / sqrt(1 - beta2^t) */
    float eps;
};

#define VEC_FILE "kernels/cpu/adamw.c"
#include "kernels/cpu/vec_each.h"

static void (*const update_each[])(const struct step *s, float *p, const float *g, float *m, float *v,
                                   int64_t n) = VEC_EACH(update);

struct ctx {
    void (*update)(const struct step *s, float *p, const float *g, float *m, float *v, int64_t n);
    struct step step;
    float *p, *m, *v;
    const float *g;
    int64_t n;
};

static void task(void *arg, int i, int worker)
{
    struct ctx *c = arg;
    int64_t from = (int64_t)i * BLOCK;
    c->update(&c->step, c->p + from, c->g + from, c->m + from, c->v + from, c->n - from < BLOCK ? c->n - from : BLOCK);
}

/* c1, c2: 1 - beta^t */
static void update(struct kn_dev *dev, const struct kn_tensor *p, const struct kn_tensor *g, const struct kn_tensor *m, const struct kn_tensor *v, const struct kn_adamw *h,
                   double c1, double c2)
{
    struct ctx c = {.update = update_each[cpu_of(dev)->isa], .p = p->p, .g = g->p, .m = m->p, .v = v->p, .n = p->d[0]};
    c.step = (struct step){
        .gscale = (float)h->gscale,
        .beta1 = (float)h->beta1,
        .beta2 = (float)h->beta2,
        .rest1 = (float)(1 - h->beta1),
        .rest2 = (float)(1 - h->beta2),
        .decay = (float)(1 - h->lr * h->weight_decay),
        .rate = (float)(h->lr / c1),
        .root = (float)(1 / sqrt(c2)),
        .eps = (float)h->eps,
    };
    cpu_run(dev, task, &c, (int)((c.n + BLOCK - 1) / BLOCK), (double)c.n * 28 / 10);
}

st_t cpu_adamw(struct kn_dev *dev, const struct kn_tensor *p, const struct kn_tensor *g, const struct kn_tensor *m,
               const struct kn_tensor *v, const struct kn_adamw *h)
{
    st_t st = kn_check_adamw(p, g, m, v, h);
    if (st) return st;
    if (p->dtype != KN_F32) return ST_ENOTSUP;
    update(dev, p, g, m, v, h, 1 - pow(h->beta1, (double)h->t), 1 - pow(h->beta2, (double)h->t));
    return ST_OK;
}

st_t cpu_adamw_at(struct kn_dev *dev, const struct kn_tensor *p, const struct kn_tensor *g, const struct kn_tensor *m, const struct kn_tensor *v,
                  const struct kn_adamw *h, const struct kn_tensor *at, const struct kn_tensor *clip)
{
    st_t st = kn_check_adamw_at(p, g, m, v, h, at, clip);
    if (st) return st;
    if (p->dtype != KN_F32) return ST_ENOTSUP;
    const double *a = at->p;
    struct kn_adamw now = *h;
    now.lr = a[0], now.gscale = ((const double *)clip->p)[1];
    if (isfinite(now.gscale)) update(dev, p, g, m, v, &now, a[1], a[2]);
    return ST_OK;
}

#else

VEC_FN vf VEC_NAME(update1)(const struct step *s, vf p, vf g, vf *m, vf *v)
{
    g = vf_mul(g, vf_set1(s->gscale));
    *m = vf_fma(*m, vf_set1(s->beta1), vf_mul(g, vf_set1(s->rest1)));
    *v = vf_fma(*v, vf_set1(s->beta2), vf_mul(vf_mul(g, g), vf_set1(s->rest2)));
    vf d = vf_fma(vf_sqrt(*v), vf_set1(s->root), vf_set1(s->eps));
    return vf_fnma(vf_set1(s->rate), vf_div(*m, d), vf_mul(p, vf_set1(s->decay)));
}

static void VEC_NAME(update)(const struct step *s, float *p, const float *g, float *m, float *v, int64_t n)
{
    int64_t i = 0;
    for (; i + VL <= n; i += VL) {
        vf a = vf_load(m + i), b = vf_load(v + i);
        vf_store(p + i, VEC_NAME(update1)(s, vf_load(p + i), vf_load(g + i), &a, &b));
        vf_store(m + i, a);
        vf_store(v + i, b);
    }
    if (i < n) {
        int64_t k = n - i;
        vf a = vf_loadn(m + i, k), b = vf_loadn(v + i, k);
        vf_storen(p + i, VEC_NAME(update1)(s, vf_loadn(p + i, k), vf_loadn(g + i, k), &a, &b), k);
        vf_storen(m + i, a, k);
        vf_storen(v + i, b, k);
    }
}

#endif
