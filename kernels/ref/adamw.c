#include "kernels/ref/ref.h"

static void update(const struct kn_tensor *p, const struct kn_tensor *g, const struct kn_tensor *m, const struct kn_tensor *v, const struct kn_adamw *h, double c1, double c2)
{
    for (int64_t i = 0; i < p->d[0]; i++) {
        double gi = h->gscale * ref_get(g, i);
        double mi = h->beta1 * ref_get(m, i) + (1 - h->beta1) * gi;
        double vi = h->beta2 * ref_get(v, i) + (1 - h->beta2) * gi * gi;
        ref_set(m, i, mi);
        ref_set(v, i, vi);
        ref_set(p, i, ref_get(p, i) * (1 - h->lr * h->weight_decay) - h->lr * (mi / c1) / (sqrt(vi / c2) + h->eps));
    }
}

st_t ref_adamw(struct kn_dev *dev, const struct kn_tensor *p, const struct kn_tensor *g, const struct kn_tensor *m,
               const struct kn_tensor *v, const struct kn_adamw *h)
{
    st_t st = kn_check_adamw(p, g, m, v, h);
    if (st) return st;
    if (!ref_has(p)) return ST_ENOTSUP;
    update(p, g, m, v, h, 1 - pow(h->beta1, (double)h->t), 1 - pow(h->beta2, (double)h->t));
    return ST_OK;
}

st_t ref_clip(struct kn_dev *dev, const struct kn_tensor *g, double most, const struct kn_tensor *out)
{
    double sum, *o = out ? out->p : NULL;
    st_t st = kn_check_clip(g, most, out);
    if (!st) st = ref_sumsq(dev, g, &sum);
    if (st) return st;
    kn_host_clip(sum, most, o);
    return ST_OK;
}

st_t ref_adamw_at(struct kn_dev *dev, const struct kn_tensor *p, const struct kn_tensor *g, const struct kn_tensor *m, const struct kn_tensor *v,
                  const struct kn_adamw *h, const struct kn_tensor *at, const struct kn_tensor *clip)
{
    st_t st = kn_check_adamw_at(p, g, m, v, h, at, clip);
    if (st) return st;
    if (!ref_has(p)) return ST_ENOTSUP;
    const double *a = at->p;
    struct kn_adamw now = *h;
    now.lr = a[0], now.gscale = ((const double *)clip->p)[1];
    if (isfinite(now.gscale)) update(p, g, m, v, &now, a[1], a[2]);
    return ST_OK;
}
