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

/* ---- a whole step ---- */

/* Both groups by what lies in m->at and m->clip. */
static st_t update_at(struct model *m)
{
    const struct model_hyper *h = &m->train.h;
    const struct kn_adamw constant = {.beta1 = h->beta1, .beta2 = h->beta2, .eps = h->eps, .weight_decay = h->weight_decay};
    struct kn_tensor g = kn_t1(m->slab[1], m->dtype, m->plan.elements), clip = kn_t1(m->clip, KN_F64, 2);
    const int64_t from[3] = {0, m->plan.hidden, m->plan.elements};
    TRY(m->dev->op->clip(m->dev, &g, h->clip, &clip));
    for (int k = 0; k < 2; k++) {
        struct kn_tensor t[4], at = kn_t1(m->at + 3 * k, KN_F64, 3);
        for (int i = 0; i < 4; i++) t[i] = kn_t1((char *)m->slab[i] + (size_t)from[k] * m->esize, m->dtype, from[k + 1] - from[k]);
        if (from[k + 1] > from[k]) TRY(m->dev->op->adamw_at(m->dev, &t[0], &t[1], &t[2], &t[3], &constant, &at, &clip));
    }
    return ST_OK;
}

static st_t whole(struct model *m)
{
    TRY(kn_precision(m->dev, m->opts.precision));
    st_t st = stack_step(m, m->train.B, m->train.T, m->train.counted, NULL);
    kn_precision(m->dev, KN_F32);
    return st ? st : update_at(m);
}

static void forget(struct model *m)
{
    m->dev->vt->forget(m->dev, m->train.graph);
    m->train.graph = NULL;
}

/* What a captured step has in it, besides what lies in memory. */
static bool same_step(const struct model *m, int B, int T, int64_t counted, const struct model_hyper *h)
{
    const struct model_hyper *o = &m->train.h;
    return m->train.B == B && m->train.T == T && m->train.counted == counted && o->beta1 == h->beta1 && o->beta2 == h->beta2 && o->eps == h->eps && o->weight_decay == h->weight_decay &&
           o->clip == h->clip;
}

/* The step as a graph, where there can be one: the first of a shape shows scratch its largest, the second that nothing moves any more. */
static st_t enqueue(struct model *m)
{
    bool watched = m->watch.units || m->watch.output;
    if (m->train.graph && !watched) {
        st_t st = m->dev->vt->replay(m->dev, m->train.graph);
        if (st != ST_ESTALE) return st;
        forget(m);
        m->train.seen = 1;
    }
    if (m->train.seen < 3 || watched || m->train.plain) return whole(m);
    st_t st = m->dev->vt->capture(m->dev);
    if (st == ST_ENOTSUP) return whole(m);
    if (st) return st;
    st = whole(m);
    st_t end = m->dev->vt->captured(m->dev, &m->train.graph);
    bool short_of_scratch = st == ST_ESTATE, refused = st == ST_ENOTSUP || end == ST_ENOTSUP;
    if (short_of_scratch || refused) { /* nothing of it has run */
        m->train.plain = refused;
        if (!end) forget(m);
        return whole(m);
    }
    if (st || end) return st ? st : end;
    return m->dev->vt->replay(m->dev, m->train.graph);
}

st_t model_train_begin(struct model *m, const int32_t *tokens, const int32_t *targets, int B, int T, const struct model_hyper *h)
{
    int64_t counted;
    if (!m->opts.train || m->train.begun) return ST_ESTATE;
    TRY(stack_feed(m, tokens, targets, B, T, &counted));
    if (!same_step(m, B, T, counted, h)) {
        forget(m);
        m->train.seen = 0;
    }
    m->train.B = B, m->train.T = T, m->train.counted = counted, m->train.h = *h;
    m->train.seen++;
    double t = (double)(m->steps + 1), c1 = 1 - pow(h->beta1, t), c2 = 1 - pow(h->beta2, t);
    const double at[6] = {h->lr * h->hidden_lr_scale, c1, c2, h->lr, c1, c2};
    TRY(m->dev->vt->upload(m->dev, m->at, at, sizeof at));
    TRY(enqueue(m));
    m->train.begun = true;
    return ST_OK;
}

st_t model_train_end(struct model *m, double *loss, double *gnorm)
{
    double clip[2];
    if (!m->train.begun) return ST_ESTATE;
    m->train.begun = false;
    TRY(stack_loss(m, (int64_t)m->train.B * m->train.T, m->train.counted, loss));
    TRY(m->dev->vt->download(m->dev, clip, m->clip, sizeof clip));
    if (gnorm) *gnorm = clip[0];
    if (!isfinite(clip[0])) return ST_ENONFINITE;
    m->steps++;
    return ST_OK;
}
