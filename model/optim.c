/* First values, and AdamW over the slab: hidden matrices are one run, all else the other. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/rng.h"
#include "model/internal.h"

static uint64_t name_hash(const char *name)
{
    struct base_sha256 s;
    uint8_t h[32];
    uint64_t v = 0;
    base_sha256_init(&s);
    base_sha256_update(&s, name, strlen(name));
    base_sha256_final(&s, h);
    for (int i = 0; i < 8; i++) v = v << 8 | h[i];
    return v;
}

static double draw(struct base_rng *r, const struct layer_tensor *t)
{
    switch (t->init) {
    case LAYER_INIT_NORMAL: return t->init_std * base_rng_normal(r);
    case LAYER_INIT_ONES: return 1;
    case LAYER_INIT_ZEROS: break;
    case LAYER_INIT_UNIFORM: return t->lo + (t->hi - t->lo) * base_rng_unit(r);
    case LAYER_INIT_LOG_UNIFORM: return log(t->lo + (t->hi - t->lo) * base_rng_unit(r));
    case LAYER_INIT_TIME_STEP: {
        double dt = exp(log(t->lo) + (log(t->hi) - log(t->lo)) * base_rng_unit(r));
        return dt + log(-expm1(-dt));
    }
    }
    return 0;
}

static st_t fill_first(struct model *m, const struct model_param *p, uint64_t seed, void *host)
{
    int64_t n = kn_count(&p->w);
    bool f64 = p->w.dtype == KN_F64;
    struct base_rng r = base_rng_at(seed, RNG_INIT, name_hash(p->name));
    for (int64_t i = 0; i < n; i++) {
        double v = draw(&r, &p->init);
        if (f64)
            ((double *)host)[i] = v;
        else
            ((float *)host)[i] = (float)v;
    }
    return p->w.dtype == m->dtype ? m->dev->vt->upload(m->dev, p->w.p, host, (size_t)n * m->esize) : model_store(m, p, host);
}

st_t model_init(struct model *m, uint64_t seed)
{
    int64_t most = 0;
    for (int i = 0; i < m->plan.params; i++)
        if (kn_count(&m->w[i]) > most) most = kn_count(&m->w[i]);
    void *host = malloc((size_t)most * m->esize);
    if (!host) return ST_ENOMEM;
    st_t st = ST_OK;
    for (int i = 0; i < m->plan.params && !st; i++) st = fill_first(m, &m->param[i], seed, host);
    free(host);
    m->steps = 0;
    for (int i = 2; i < m->plan.slabs && !st; i++) {
        struct kn_tensor s = kn_t1(m->slab[i], m->dtype, m->plan.elements);
        st = m->dev->op->fill(m->dev, &s, 0);
    }
    return st;
}

static st_t adamw(struct model *m, int64_t from, int64_t to, const struct kn_adamw *h)
{
    struct kn_tensor t[4];
    for (int i = 0; i < 4; i++) t[i] = kn_t1((char *)m->slab[i] + (size_t)from * m->esize, m->dtype, to - from);
    return to > from ? m->dev->op->adamw(m->dev, &t[0], &t[1], &t[2], &t[3], h) : ST_OK;
}

st_t model_clip(struct model *m, const struct model_hyper *h, double *gnorm, struct kn_adamw *out)
{
    struct kn_tensor g = kn_t1(m->slab[1], m->dtype, m->plan.elements);
    double sum;
    TRY(m->dev->op->sumsq(m->dev, &g, &sum));
    double norm = sqrt(sum);
    if (gnorm) *gnorm = norm;
    if (!isfinite(norm)) return ST_ENONFINITE;
    *out = (struct kn_adamw){.lr = h->lr,
                             .beta1 = h->beta1,
                             .beta2 = h->beta2,
                             .eps = h->eps,
                             .weight_decay = h->weight_decay,
                             .gscale = h->clip > 0 ? fmin(1, h->clip / (norm + 1e-6)) : 1,
                             .t = m->steps + 1};
    return ST_OK;
}

st_t model_update(struct model *m, const struct model_hyper *h, double *gnorm)
{
    struct kn_adamw a;
    if (!m->opts.train) return ST_ESTATE;
    TRY(model_clip(m, h, gnorm, &a));
    struct kn_adamw hidden = a;
    hidden.lr *= h->hidden_lr_scale;
    if (h->hidden_lr_scale == 1) {
        TRY(adamw(m, 0, m->plan.elements, &a));
    } else {
        TRY(adamw(m, 0, m->plan.hidden, &hidden));
        TRY(adamw(m, m->plan.hidden, m->plan.elements, &a));
    }
    m->steps++;
    return ST_OK;
}
