#include "kernels/ref/ref.h"

/* loss = log sum_v exp(z_v) - z_target, z = W x;   dz_v = softmax(z)_v - [v = target];   dx = W^T dz   dW += dz x^T */
st_t ref_head_ce(struct kn_dev *dev, const struct kn_tensor *x, const struct kn_tensor *w, const struct kn_tensor *target,
                 double gscale, const struct kn_tensor *loss, const struct kn_tensor *dx, const struct kn_tensor *dw)
{
    st_t st = kn_check_head_ce(x, w, target, gscale, loss, dx, dw);
    if (st) return st;
    if (!ref_has(x)) return ST_ENOTSUP;
    int64_t N = x->d[0], D = x->d[1], V = w->d[0];
    for (int64_t n = 0; n < N; n++) {
        double t = ref_get(target, n * target->s[0]);
        if (t < -1 || t >= (double)V) return ST_EINVAL;
    }
    double *z;
    st = ref_scratch(dev, V, &z);
    if (st) return st;
    for (int64_t n = 0; n < N; n++) {
        int64_t t = (int64_t)ref_get(target, n * target->s[0]);
        if (t < 0) {
            ref_set(loss, n * loss->s[0], 0);
            for (int64_t d = 0; d < D && !kn_absent(dx); d++) ref_set(dx, at2(dx, n, d), 0);
            continue;
        }
        double max = -INFINITY, sum = 0;
        for (int64_t v = 0; v < V; v++) {
            z[v] = 0;
            for (int64_t d = 0; d < D; d++) z[v] += ref_get(x, at2(x, n, d)) * ref_get(w, at2(w, v, d));
            max = fmax(max, z[v]);
        }
        for (int64_t v = 0; v < V; v++) sum += exp(z[v] - max);
        ref_set(loss, n * loss->s[0], max + log(sum) - z[t]);
        for (int64_t v = 0; v < V; v++) z[v] = gscale * (exp(z[v] - max) / sum - (v == t));
        for (int64_t d = 0; d < D && !kn_absent(dx); d++) {
            double s = 0;
            for (int64_t v = 0; v < V; v++) s += z[v] * ref_get(w, at2(w, v, d));
            ref_set(dx, at2(dx, n, d), s);
        }
        for (int64_t v = 0; v < V && !kn_absent(dw); v++)
            for (int64_t d = 0; d < D; d++) ref_add(dw, at2(dw, v, d), z[v] * ref_get(x, at2(x, n, d)));
    }
    return ST_OK;
}
