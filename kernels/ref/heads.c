#include "kernels/ref/ref.h"

/* for every head of x [B,T,H,K] */
#define EACH_HEAD(x)                                   \
    for (int64_t b = 0; b < (x)->d[0]; b++)            \
        for (int64_t t = 0; t < (x)->d[1]; t++)        \
            for (int64_t h = 0; h < (x)->d[2]; h++)

st_t ref_headnorm(struct kn_dev *dev, const struct kn_tensor *x, const struct kn_tensor *w, double eps,
                  const struct kn_tensor *y, const struct kn_tensor *rstd)
{
    st_t st = kn_check_headnorm(x, w, eps, y, rstd);
    if (st) return st;
    if (!ref_has(x)) return ST_ENOTSUP;
    int64_t K = x->d[3];
    EACH_HEAD(x)
    {
        double ss = 0;
        for (int64_t k = 0; k < K; k++) {
            double v = ref_get(x, at4(x, b, t, h, k));
            ss += v * v;
        }
        double s = 1 / sqrt(ss / (double)K + eps);
        ref_set(rstd, at3(rstd, b, t, h), s);
        for (int64_t k = 0; k < K; k++)
            ref_set(y, at4(y, b, t, h, k), ref_get(w, k * w->s[0]) * ref_get(x, at4(x, b, t, h, k)) * s);
    }
    return ST_OK;
}

/* As ref_rmsnorm_bwd, a row being a head. */
st_t ref_headnorm_bwd(struct kn_dev *dev, const struct kn_tensor *x, const struct kn_tensor *w,
                      const struct kn_tensor *rstd, const struct kn_tensor *dy, const struct kn_tensor *dx,
                      const struct kn_tensor *dw)
{
    st_t st = kn_check_headnorm_bwd(x, w, rstd, dy, dx, dw);
    if (st) return st;
    if (!ref_has(x)) return ST_ENOTSUP;
    int64_t K = x->d[3];
    EACH_HEAD(x)
    {
        double s = ref_get(rstd, at3(rstd, b, t, h)), dot = 0;
        for (int64_t k = 0; k < K; k++)
            dot += ref_get(w, k * w->s[0]) * ref_get(dy, at4(dy, b, t, h, k)) * ref_get(x, at4(x, b, t, h, k));
        for (int64_t k = 0; k < K; k++) {
            double xv = ref_get(x, at4(x, b, t, h, k)), g = ref_get(dy, at4(dy, b, t, h, k));
            ref_set(dx, at4(dx, b, t, h, k), s * ref_get(w, k * w->s[0]) * g - s * s * s * xv * dot / (double)K);
            ref_add(dw, k * dw->s[0], g * xv * s);
        }
    }
    return ST_OK;
}

static double sigmoid(double x)
{
    return 1 / (1 + exp(-x));
}

st_t ref_headgate(struct kn_dev *dev, const struct kn_tensor *x, const struct kn_tensor *g, const struct kn_tensor *y)
{
    st_t st = kn_check_headgate(x, g, y);
    if (st) return st;
    if (!ref_has(x)) return ST_ENOTSUP;
    EACH_HEAD(x)
    for (int64_t k = 0; k < x->d[3]; k++)
        ref_set(y, at4(y, b, t, h, k), ref_get(x, at4(x, b, t, h, k)) * sigmoid(ref_get(g, at4(g, b, t, h, k))));
    return ST_OK;
}

st_t ref_headgate_bwd(struct kn_dev *dev, const struct kn_tensor *x, const struct kn_tensor *g,
                      const struct kn_tensor *dy, const struct kn_tensor *dx, const struct kn_tensor *dg)
{
    st_t st = kn_check_headgate_bwd(x, g, dy, dx, dg);
    if (st) return st;
    if (!ref_has(x)) return ST_ENOTSUP;
    EACH_HEAD(x)
    for (int64_t k = 0; k < x->d[3]; k++) {
        double s = sigmoid(ref_get(g, at4(g, b, t, h, k))), d = ref_get(dy, at4(dy, b, t, h, k));
        ref_set(dg, at4(dg, b, t, h, k), d * ref_get(x, at4(x, b, t, h, k)) * s * (1 - s));
        ref_set(dx, at4(dx, b, t, h, k), d * s);
    }
    return ST_OK;
}
