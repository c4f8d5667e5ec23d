#include "kernels/ref/ref.h"

st_t ref_adamw(struct kn_dev *dev, const struct kn_tensor *p, const struct kn_tensor *g, const struct kn_tensor *m,
               const struct kn_tensor *v, const struct kn_adamw *h)
{
    st_t st = kn_check_adamw(p, g, m, v, h);
    if (st) return st;
    if (!ref_has(p)) return ST_ENOTSUP;
    double c1 = 1 - pow(h->beta1, (double)h->t), c2 = 1 - pow(h->beta2, (double)h->t);
    for (int64_t i = 0; i < p->d[0]; i++) {
        double gi = h->gscale * ref_get(g, i);
        double mi = h->beta1 * ref_get(m, i) + (1 - h->beta1) * gi;
        double vi = h->beta2 * ref_get(v, i) + (1 - h->beta2) * gi * gi;
        ref_set(m, i, mi);
        ref_set(v, i, vi);
        ref_set(p, i, ref_get(p, i) * (1 - h->lr * h->weight_decay) - h->lr * (mi / c1) / (sqrt(vi / c2) + h->eps));
    }
    return ST_OK;
}
