#include "kernels/ref/ref.h"

static double sigmoid(double x)
{
    return 1 / (1 + exp(-x));
}

static double softplus(double x)
{
    return fmax(x, 0) + log1p(exp(-fabs(x)));
}

st_t ref_delta_gates(struct kn_dev *dev, const struct kn_tensor *a, const struct kn_tensor *b,
                     const struct kn_tensor *a_log, const struct kn_tensor *dt_bias, const struct kn_tensor *g,
                     const struct kn_tensor *beta)
{
    st_t st = kn_check_delta_gates(a, b, a_log, dt_bias, g, beta);
    if (st) return st;
    if (!ref_has(a)) return ST_ENOTSUP;
    for (int64_t n = 0; n < a->d[0]; n++) {
        for (int64_t h = 0; h < a->d[1]; h++) {
            double u = ref_get(a, at2(a, n, h)) + ref_get(dt_bias, h * dt_bias->s[0]);
            ref_set(g, at2(g, n, h), -exp(ref_get(a_log, h * a_log->s[0])) * softplus(u));
            ref_set(beta, at2(beta, n, h), sigmoid(ref_get(b, at2(b, n, h))));
        }
    }
    return ST_OK;
}

/* dg/da = -exp(a_log) sigmoid(a + dt_bias), dg/da_log = g */
st_t ref_delta_gates_bwd(struct kn_dev *dev, const struct kn_tensor *a, const struct kn_tensor *b,
                         const struct kn_tensor *a_log, const struct kn_tensor *dt_bias, const struct kn_tensor *dg,
                         const struct kn_tensor *dbeta, const struct kn_tensor *da, const struct kn_tensor *db,
                         const struct kn_tensor *da_log, const struct kn_tensor *ddt_bias)
{
    st_t st = kn_check_delta_gates_bwd(a, b, a_log, dt_bias, dg, dbeta, da, db, da_log, ddt_bias);
    if (st) return st;
    if (!ref_has(a)) return ST_ENOTSUP;
    for (int64_t n = 0; n < a->d[0]; n++) {
        for (int64_t h = 0; h < a->d[1]; h++) {
            double u = ref_get(a, at2(a, n, h)) + ref_get(dt_bias, h * dt_bias->s[0]);
            double e = -exp(ref_get(a_log, h * a_log->s[0])), s = sigmoid(ref_get(b, at2(b, n, h)));
            double d = ref_get(dg, at2(dg, n, h));
            ref_set(da, at2(da, n, h), d * e * sigmoid(u));
            ref_set(db, at2(db, n, h), ref_get(dbeta, at2(dbeta, n, h)) * s * (1 - s));
            ref_add(da_log, h * da_log->s[0], d * e * softplus(u));
            ref_add(ddt_bias, h * ddt_bias->s[0], d * e * sigmoid(u));
        }
    }
    return ST_OK;
}

st_t ref_logsigmoid(struct kn_dev *dev, const struct kn_tensor *x, double alpha, const struct kn_tensor *y)
{
    st_t st = kn_check_logsigmoid(x, alpha, y);
    if (st) return st;
    if (!ref_has(x)) return ST_ENOTSUP;
    for (int64_t n = 0; n < x->d[0]; n++)
        for (int64_t d = 0; d < x->d[1]; d++) ref_set(y, at2(y, n, d), -alpha * softplus(-ref_get(x, at2(x, n, d))));
    return ST_OK;
}

st_t ref_logsigmoid_bwd(struct kn_dev *dev, const struct kn_tensor *x, double alpha, const struct kn_tensor *dy,
                        const struct kn_tensor *dx)
{
    st_t st = kn_check_logsigmoid_bwd(x, alpha, dy, dx);
    if (st) return st;
    if (!ref_has(x)) return ST_ENOTSUP;
    for (int64_t n = 0; n < x->d[0]; n++)
        for (int64_t d = 0; d < x->d[1]; d++)
            ref_set(dx, at2(dx, n, d), alpha * ref_get(dy, at2(dy, n, d)) * sigmoid(-ref_get(x, at2(x, n, d))));
    return ST_OK;
}
