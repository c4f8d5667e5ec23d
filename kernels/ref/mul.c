#include "kernels/ref/ref.h"

st_t ref_mul(struct kn_dev *dev, const struct kn_tensor *x, const struct kn_tensor *y, const struct kn_tensor *z)
{
    st_t st = kn_check_mul(x, y, z);
    if (st) return st;
    if (!ref_has(x)) return ST_ENOTSUP;
    for (int64_t i = 0; i < x->d[0]; i++)
        for (int64_t j = 0; j < x->d[1]; j++)
            ref_set(z, at2(z, i, j), ref_get(x, at2(x, i, j)) * ref_get(y, at2(y, i, j)));
    return ST_OK;
}

st_t ref_mul_bwd(struct kn_dev *dev, const struct kn_tensor *x, const struct kn_tensor *y, const struct kn_tensor *dz,
                 const struct kn_tensor *dx, const struct kn_tensor *dy)
{
    st_t st = kn_check_mul_bwd(x, y, dz, dx, dy);
    if (st) return st;
    if (!ref_has(x)) return ST_ENOTSUP;
    for (int64_t i = 0; i < x->d[0]; i++)
        for (int64_t j = 0; j < x->d[1]; j++) {
            double a = ref_get(x, at2(x, i, j)), b = ref_get(y, at2(y, i, j)), d = ref_get(dz, at2(dz, i, j));
            ref_set(dx, at2(dx, i, j), d * b);
            ref_set(dy, at2(dy, i, j), d * a);
        }
    return ST_OK;
}
