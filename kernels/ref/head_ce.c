#include "kernels/ref/ref.h"

static int64_t label(const struct kn_tensor *target, int64_t n)
{
    return (int64_t)ref_get(target, n * target->s[0]);
}

static bool labels_good(const struct kn_tensor *target, int64_t V)
{
    for (int64_t n = 0; n < target->d[0]; n++)
        if (label(target, n) < -1 || label(target, n) >= V) return false;
    return true;
}

/* z = W x of row n; its greatest. */
static double logits(const struct kn_tensor *x, const struct kn_tensor *w, int64_t n, double *z)
{
    double max = -INFINITY;
    for (int64_t v = 0; v < w->d[0]; v++) {
        z[v] = 0;
        for (int64_t d = 0; d < x->d[1]; d++) z[v] += ref_get(x, at2(x, n, d)) * ref_get(w, at2(w, v, d));
        max = fmax(max, z[v]);
    }
    return max;
}

/* dx = W^T dz   dW += dz x^T */
static void back(const struct kn_tensor *x, const struct kn_tensor *w, int64_t n, const double *dz, const struct kn_tensor *dx, const struct kn_tensor *dw)
{
    int64_t D = x->d[1], V = w->d[0];
    for (int64_t d = 0; d < D && !kn_absent(dx); d++) {
        double s = 0;
        for (int64_t v = 0; v < V; v++) s += dz[v] * ref_get(w, at2(w, v, d));
        ref_set(dx, at2(dx, n, d), s);
    }
    for (int64_t v = 0; v < V && !kn_absent(dw); v++)
        for (int64_t d = 0; d < D; d++) ref_add(dw, at2(dw, v, d), dz[v] * ref_get(x, at2(x, n, d)));
}

static void skip(const struct kn_tensor *loss, const struct kn_tensor *dx, int64_t n)
{
    ref_set(loss, n * loss->s[0], 0);
    for (int64_t d = 0; !kn_absent(dx) && d < dx->d[1]; d++) ref_set(dx, at2(dx, n, d), 0);
}

/* loss = log sum_v exp(z_v) - z_target, z = W x;   dz_v = softmax(z)_v - [v = target];   dx = W^T dz   dW += dz x^T */
st_t ref_head_ce(struct kn_dev *dev, const struct kn_tensor *x, const struct kn_tensor *w, const struct kn_tensor *target,
                 double gscale, const struct kn_tensor *loss, const struct kn_tensor *dx, const struct kn_tensor *dw)
{
    st_t st = kn_check_head_ce(x, w, target, gscale, loss, dx, dw);
    if (st) return st;
    if (!ref_has(x)) return ST_ENOTSUP;
    int64_t V = w->d[0];
    double *z;
    if (!labels_good(target, V)) return ST_EINVAL;
    st = ref_scratch(dev, V, &z);
    if (st) return st;
    for (int64_t n = 0; n < x->d[0]; n++) {
        int64_t t = label(target, n);
        double sum = 0;
        if (t < 0) {
            skip(loss, dx, n);
            continue;
        }
        double max = logits(x, w, n, z);
        for (int64_t v = 0; v < V; v++) sum += exp(z[v] - max);
        ref_set(loss, n * loss->s[0], max + log(sum) - z[t]);
        for (int64_t v = 0; v < V; v++) z[v] = gscale * (exp(z[v] - max) / sum - (v == t));
        back(x, w, n, z, dx, dw);
    }
    return ST_OK;
}

/* dz_v = softmax(z)_v - (1 - mix) [v = target] - mix softmax(z')_v,  z' = W' x' of the teacher */
st_t ref_head_distill(struct kn_dev *dev, const struct kn_tensor *x, const struct kn_tensor *w, const struct kn_tensor *target, const struct kn_tensor *tx,
                      const struct kn_tensor *tw, double mix, double gscale, const struct kn_tensor *loss, const struct kn_tensor *dx,
                      const struct kn_tensor *dw)
{
    st_t st = kn_check_head_distill(x, w, target, tx, tw, mix, gscale, loss, dx, dw);
    if (st) return st;
    if (!ref_has(x)) return ST_ENOTSUP;
    int64_t V = w->d[0];
    double *z;
    if (!labels_good(target, V)) return ST_EINVAL;
    st = ref_scratch(dev, 2 * V, &z);
    if (st) return st;
    double *teacher = z + V;
    for (int64_t n = 0; n < x->d[0]; n++) {
        int64_t t = label(target, n);
        double sum = 0, teacher_sum = 0;
        if (t < 0) {
            skip(loss, dx, n);
            continue;
        }
        double max = logits(x, w, n, z), teacher_max = logits(tx, tw, n, teacher);
        for (int64_t v = 0; v < V; v++) sum += exp(z[v] - max), teacher_sum += exp(teacher[v] - teacher_max);
        ref_set(loss, n * loss->s[0], max + log(sum) - z[t]);
        for (int64_t v = 0; v < V; v++)
            z[v] = gscale * (exp(z[v] - max) / sum - (1 - mix) * (v == t) - mix * exp(teacher[v] - teacher_max) / teacher_sum);
        back(x, w, n, z, dx, dw);
    }
    return ST_OK;
}
