#include "kernels/ref/ref.h"

st_t ref_gemm(struct kn_dev *dev, double alpha, const struct kn_tensor *a, const struct kn_tensor *b, double beta,
              const struct kn_tensor *c)
{
    st_t st = kn_check_gemm(alpha, a, b, beta, c);
    if (st) return st;
    int half = a->dtype == KN_BF16 || (b->dtype == KN_BF16 && b->s[0] != 1) || c->dtype == KN_BF16;
    if (half && dev->precision != KN_BF16) return ST_ENOTSUP;
    struct kn_tensor w = kn_transpose(b);
    for (int64_t i = 0; i < c->d[0]; i++)
        for (int64_t j = 0; j < c->d[1]; j++) {
            double s = 0;
            for (int64_t k = 0; k < a->d[1]; k++)
                s += ref_factor(dev, a, at2(a, i, k)) * (b->dtype == KN_I8 ? ref_weight(&w, j, k) : ref_factor(dev, b, at2(b, k, j)));
            s *= alpha;
            if (beta != 0) s += beta * ref_get(c, at2(c, i, j));
            ref_set(c, at2(c, i, j), s);
        }
    return ST_OK;
}
