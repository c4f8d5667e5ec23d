#include "kernels/ref/ref.h"

#define GELU_RATE  0.79788456080286535588 /* sqrt(2 / pi) */
#define GELU_CUBIC 0.044715

static double act(int kind, double x)
{
    if (kind == KN_RELU2) return x > 0 ? x * x : 0;
    return x / 2 * (1 + tanh(GELU_RATE * (x + GELU_CUBIC * x * x * x)));
}

static double slope(int kind, double x)
{
    if (kind == KN_RELU2) return x > 0 ? 2 * x : 0;
    double t = tanh(GELU_RATE * (x + GELU_CUBIC * x * x * x));
    return (1 + t) / 2 + x / 2 * (1 - t * t) * GELU_RATE * (1 + 3 * GELU_CUBIC * x * x);
}

st_t ref_act(struct kn_dev *dev, int kind, const struct kn_tensor *x, const struct kn_tensor *bias, const struct kn_tensor *y)
{
    st_t st = kn_check_act(kind, x, bias, y);
    if (st) return st;
    if (!ref_has(x)) return ST_ENOTSUP;
    for (int64_t n = 0; n < x->d[0]; n++)
        for (int64_t f = 0; f < x->d[1]; f++) {
            if (!kn_absent(bias)) ref_add(x, at2(x, n, f), ref_get(bias, f * bias->s[0]));
            ref_set(y, at2(y, n, f), act(kind, ref_get(x, at2(x, n, f))));
        }
    return ST_OK;
}

st_t ref_act_bwd(struct kn_dev *dev, int kind, const struct kn_tensor *x, const struct kn_tensor *dy, const struct kn_tensor *dx)
{
    st_t st = kn_check_act_bwd(kind, x, dy, dx);
    if (st) return st;
    if (!ref_has(x)) return ST_ENOTSUP;
    for (int64_t n = 0; n < x->d[0]; n++)
        for (int64_t f = 0; f < x->d[1]; f++)
            ref_set(dx, at2(dx, n, f), slope(kind, ref_get(x, at2(x, n, f))) * ref_get(dy, at2(dy, n, f)));
    return ST_OK;
}
