#include "kernels/ref/ref.h"

st_t ref_rope(struct kn_dev *dev, const struct kn_tensor *x, int64_t pos0, double theta, int inverse)
{
    st_t st = kn_check_rope(x, pos0, theta, inverse);
    if (st) return st;
    if (!ref_has(x) && dev->precision != KN_BF16) return ST_ENOTSUP;
    int64_t half = x->d[3] / 2;
    for (int64_t b = 0; b < x->d[0]; b++)
        for (int64_t t = 0; t < x->d[1]; t++)
            for (int64_t h = 0; h < x->d[2]; h++)
                for (int64_t i = 0; i < half; i++) {
                    double angle = (double)(pos0 + t) * pow(theta, -2.0 * (double)i / (double)x->d[3]);
                    double c = cos(angle), s = inverse ? -sin(angle) : sin(angle);
                    int64_t lo = at4(x, b, t, h, i), hi = at4(x, b, t, h, i + half);
                    double u = ref_get(x, lo), v = ref_get(x, hi);
                    ref_set(x, lo, u * c - v * s);
                    ref_set(x, hi, v * c + u * s);
                }
    return ST_OK;
}
