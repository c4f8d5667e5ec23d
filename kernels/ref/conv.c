#include "kernels/ref/ref.h"

static double sigmoid(double x)
{
    return 1 / (1 + exp(-x));
}

/* What act is given at (b, t, c); inputs before t = 0 are the state's, or zero. */
static double pre(const struct kn_tensor *x, const struct kn_tensor *w, const struct kn_tensor *bias,
                  const struct kn_tensor *state, int64_t b, int64_t t, int64_t c)
{
    int64_t k = w->d[1];
    double s = kn_absent(bias) ? 0 : ref_get(bias, c * bias->s[0]);
    for (int64_t j = 0; j < k; j++) {
        int64_t from = t - k + 1 + j;
        if (from >= 0)
            s += ref_get(w, at2(w, c, j)) * ref_get(x, at3(x, b, from, c));
        else if (!kn_absent(state))
            s += ref_get(w, at2(w, c, j)) * ref_get(state, at3(state, b, k - 1 + from, c));
    }
    return s;
}

st_t ref_conv(struct kn_dev *dev, const struct kn_tensor *x, const struct kn_tensor *w, const struct kn_tensor *bias,
              int silu, const struct kn_tensor *state, const struct kn_tensor *y)
{
    st_t st = kn_check_conv(x, w, bias, silu, state, y);
    if (st) return st;
    if (!ref_has(x)) return ST_ENOTSUP;
    int64_t T = x->d[1], kept = w->d[1] - 1;
    for (int64_t b = 0; b < x->d[0]; b++)
        for (int64_t c = 0; c < x->d[2]; c++) {
            for (int64_t t = 0; t < T; t++) {
                double p = pre(x, w, bias, state, b, t, c);
                ref_set(y, at3(y, b, t, c), silu ? p * sigmoid(p) : p);
            }
            if (kn_absent(state)) continue;
            for (int64_t i = 0; i < kept; i++)
                ref_set(state, at3(state, b, i, c),
                        i + T < kept ? ref_get(state, at3(state, b, i + T, c))
                                     : ref_get(x, at3(x, b, i + T - kept, c)));
        }
    return ST_OK;
}

/* d silu(p)/dp = s + p s (1 - s) with s = sigmoid(p) */
st_t ref_conv_bwd(struct kn_dev *dev, const struct kn_tensor *x, const struct kn_tensor *w,
                  const struct kn_tensor *bias, int silu, const struct kn_tensor *dy, const struct kn_tensor *dx,
                  const struct kn_tensor *dw, const struct kn_tensor *dbias)
{
    st_t st = kn_check_conv_bwd(x, w, bias, silu, dy, dx, dw, dbias);
    if (st) return st;
    if (!ref_has(x)) return ST_ENOTSUP;
    int64_t T = x->d[1], k = w->d[1];
    double *dp;
    if ((st = ref_scratch(dev, T, &dp))) return st;
    for (int64_t b = 0; b < x->d[0]; b++)
        for (int64_t c = 0; c < x->d[2]; c++) {
            double db = 0;
            for (int64_t t = 0; t < T; t++) {
                dp[t] = ref_get(dy, at3(dy, b, t, c));
                if (silu) {
                    double p = pre(x, w, bias, NULL, b, t, c), s = sigmoid(p);
                    dp[t] *= s + p * s * (1 - s);
                }
                db += dp[t];
            }
            if (!kn_absent(dbias)) ref_add(dbias, c * dbias->s[0], db);
            for (int64_t j = 0; j < k; j++) {
                double s = 0;
                for (int64_t t = k - 1 - j; t < T; t++) s += dp[t] * ref_get(x, at3(x, b, t - k + 1 + j, c));
                ref_add(dw, at2(dw, c, j), s);
            }
            for (int64_t t = 0; t < T; t++) {
                double s = 0;
                for (int64_t j = 0; j < k; j++)
                    if (t + k - 1 - j < T) s += ref_get(w, at2(w, c, j)) * dp[t + k - 1 - j];
                ref_set(dx, at3(dx, b, t, c), s);
            }
        }
    return ST_OK;
}
