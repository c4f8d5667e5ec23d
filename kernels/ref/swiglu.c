#include "kernels/ref/ref.h"

st_t ref_swiglu(struct kn_dev *dev, const struct kn_tensor *g, const struct kn_tensor *u, const struct kn_tensor *h)
{
    st_t st = kn_check_swiglu(g, u, h);
    if (st) return st;
    if (!ref_has(g) && dev->precision != KN_BF16) return ST_ENOTSUP;
    for (int64_t n = 0; n < g->d[0]; n++)
        for (int64_t f = 0; f < g->d[1]; f++) {
            double x = ref_get(g, at2(g, n, f));
            ref_set(h, at2(h, n, f), x / (1 + exp(-x)) * ref_get(u, at2(u, n, f)));
        }
    return ST_OK;
}

/* with s = sigmoid(g): d silu(g)/dg = s (1 + g (1 - s)) */
st_t ref_swiglu_bwd(struct kn_dev *dev, const struct kn_tensor *g, const struct kn_tensor *u, const struct kn_tensor *dh,
                    const struct kn_tensor *dg, const struct kn_tensor *du, const struct kn_tensor *h)
{
    st_t st = kn_check_swiglu_bwd(g, u, dh, dg, du, h);
    if (st) return st;
    if (!ref_has(g) && dev->precision != KN_BF16) return ST_ENOTSUP;
    for (int64_t n = 0; n < g->d[0]; n++)
        for (int64_t f = 0; f < g->d[1]; f++) {
            double x = ref_get(g, at2(g, n, f)), y = ref_get(u, at2(u, n, f)), d = ref_get(dh, at2(dh, n, f));
            double s = 1 / (1 + exp(-x));
            ref_set(dg, at2(dg, n, f), d * y * s * (1 + x * (1 - s)));
            ref_set(du, at2(du, n, f), d * x * s);
            if (!kn_absent(h)) ref_set(h, at2(h, n, f), x / (1 + exp(-x)) * y);
        }
    return ST_OK;
}
