#include "kernels/ref/ref.h"

st_t ref_rmsnorm(struct kn_dev *dev, const struct kn_tensor *x, const struct kn_tensor *r, const struct kn_tensor *w,
                 double eps, const struct kn_tensor *y, const struct kn_tensor *rstd)
{
    st_t st = kn_check_rmsnorm(x, r, w, eps, y, rstd);
    if (st) return st;
    if (!ref_has(x) || (y->dtype == KN_BF16 && dev->precision != KN_BF16)) return ST_ENOTSUP;
    int64_t D = x->d[1];
    for (int64_t n = 0; n < x->d[0]; n++) {
        double ss = 0;
        for (int64_t d = 0; d < D; d++) {
            if (!kn_absent(r)) ref_add(x, at2(x, n, d), ref_get(r, at2(r, n, d)));
            double v = ref_get(x, at2(x, n, d));
            ss += v * v;
        }
        double s = 1 / sqrt(ss / (double)D + eps);
        ref_set(rstd, n * rstd->s[0], s);
        for (int64_t d = 0; d < D; d++)
            ref_set(y, at2(y, n, d), ref_get(w, d * w->s[0]) * ref_get(x, at2(x, n, d)) * s);
    }
    return ST_OK;
}

/* y_d = w_d x_d s, s = (mean(x^2) + eps)^(-1/2), ds/dx_d = -s^3 x_d / D:
 *   dx_d = s w_d dy_d - s^3 x_d / D * sum_i w_i dy_i x_i */
st_t ref_rmsnorm_bwd(struct kn_dev *dev, const struct kn_tensor *x, const struct kn_tensor *w, const struct kn_tensor *rstd,
                     const struct kn_tensor *dy, const struct kn_tensor *dx, const struct kn_tensor *dw)
{
    st_t st = kn_check_rmsnorm_bwd(x, w, rstd, dy, dx, dw);
    if (st) return st;
    if (!ref_has(x)) return ST_ENOTSUP;
    int64_t D = x->d[1];
    for (int64_t n = 0; n < x->d[0]; n++) {
        double s = ref_get(rstd, n * rstd->s[0]), dot = 0;
        for (int64_t d = 0; d < D; d++)
            dot += ref_get(w, d * w->s[0]) * ref_get(dy, at2(dy, n, d)) * ref_get(x, at2(x, n, d));
        for (int64_t d = 0; d < D; d++) {
            double xv = ref_get(x, at2(x, n, d)), g = ref_get(dy, at2(dy, n, d));
            ref_add(dx, at2(dx, n, d), s * ref_get(w, d * w->s[0]) * g - s * s * s * xv * dot / (double)D);
            ref_add(dw, d * dw->s[0], g * xv * s);
        }
    }
    return ST_OK;
}
