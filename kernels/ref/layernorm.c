#include "kernels/ref/ref.h"

st_t ref_layernorm(struct kn_dev *dev, const struct kn_tensor *x, const struct kn_tensor *r, const struct kn_tensor *w,
                   const struct kn_tensor *b, double eps, const struct kn_tensor *y, const struct kn_tensor *mean,
                   const struct kn_tensor *rstd)
{
    st_t st = kn_check_layernorm(x, r, w, b, eps, y, mean, rstd);
    if (st) return st;
    if (!ref_has(x)) return ST_ENOTSUP;
    int64_t D = x->d[1];
    for (int64_t n = 0; n < x->d[0]; n++) {
        double sum = 0, var = 0;
        for (int64_t d = 0; d < D; d++) {
            if (!kn_absent(r)) ref_add(x, at2(x, n, d), ref_get(r, at2(r, n, d)));
            sum += ref_get(x, at2(x, n, d));
        }
        double m = sum / (double)D;
        for (int64_t d = 0; d < D; d++) {
            double v = ref_get(x, at2(x, n, d)) - m;
            var += v * v;
        }
        double s = 1 / sqrt(var / (double)D + eps);
        ref_set(mean, n * mean->s[0], m);
        ref_set(rstd, n * rstd->s[0], s);
        for (int64_t d = 0; d < D; d++) {
            double v = (ref_get(x, at2(x, n, d)) - m) * s;
            ref_set(y, at2(y, n, d), ref_get(w, d * w->s[0]) * v + ref_get(b, d * b->s[0]));
        }
    }
    return ST_OK;
}

/* With n = (x - mean) s and g = w dy:  dx = s (g - mean(g) - n mean(g n)) */
st_t ref_layernorm_bwd(struct kn_dev *dev, const struct kn_tensor *x, const struct kn_tensor *w, const struct kn_tensor *mean,
                       const struct kn_tensor *rstd, const struct kn_tensor *dy, const struct kn_tensor *dx,
                       const struct kn_tensor *dw, const struct kn_tensor *db)
{
    st_t st = kn_check_layernorm_bwd(x, w, mean, rstd, dy, dx, dw, db);
    if (st) return st;
    if (!ref_has(x)) return ST_ENOTSUP;
    int64_t D = x->d[1];
    for (int64_t n = 0; n < x->d[0]; n++) {
        double m = ref_get(mean, n * mean->s[0]), s = ref_get(rstd, n * rstd->s[0]), sum = 0, dot = 0;
        for (int64_t d = 0; d < D; d++) {
            double g = ref_get(w, d * w->s[0]) * ref_get(dy, at2(dy, n, d));
            sum += g;
            dot += g * (ref_get(x, at2(x, n, d)) - m) * s;
        }
        for (int64_t d = 0; d < D; d++) {
            double v = (ref_get(x, at2(x, n, d)) - m) * s, g = ref_get(dy, at2(dy, n, d));
            ref_add(dx, at2(dx, n, d), s * (ref_get(w, d * w->s[0]) * g - sum / (double)D - v * dot / (double)D));
            ref_add(dw, d * dw->s[0], g * v);
            ref_add(db, d * db->s[0], g);
        }
    }
    return ST_OK;
}
