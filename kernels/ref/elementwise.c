#include "kernels/ref/ref.h"

/* Offset of the i-th element in row-major order of the dims. */
static int64_t at(const struct kn_tensor *t, int64_t i)
{
    int64_t o = 0;
    for (int r = t->rank - 1; r >= 0; r--) o += i % t->d[r] * t->s[r], i /= t->d[r];
    return o;
}

static st_t copy_i8(const struct kn_tensor *x, const struct kn_tensor *y)
{
    if (x->rank != 2 || x->dtype == y->dtype) return ST_ENOTSUP;
    for (int64_t i = 0; i < x->d[0]; i++) {
        double most = 0;
        int8_t *q = (int8_t *)y->p + i * y->s[0];
        for (int64_t k = 0; k < x->d[1]; k++) {
            if (x->dtype == KN_I8) ref_set(y, at2(y, i, k), ref_weight(x, i, k));
            else most = fmax(most, fabs(ref_get(x, at2(x, i, k))));
        }
        if (x->dtype == KN_I8) continue;
        float scale = (float)most / 127;
        double inverse = scale > 0 ? 1 / (double)scale : 0;
        for (int64_t k = 0; k < x->d[1]; k++) q[k] = (int8_t)lrint(fmin(127, fmax(-127, ref_get(x, at2(x, i, k)) * inverse)));
        memcpy(q + x->d[1], &scale, sizeof scale);
    }
    return ST_OK;
}

st_t ref_copy(struct kn_dev *dev, const struct kn_tensor *x, const struct kn_tensor *y)
{
    st_t st = kn_check_copy(x, y);
    if (st) return st;
    if (x->dtype == KN_I8 || y->dtype == KN_I8) return copy_i8(x, y);
    for (int64_t i = 0, n = kn_count(x); i < n; i++) ref_set(y, at(y, i), ref_get(x, at(x, i)));
    return ST_OK;
}

st_t ref_axpy(struct kn_dev *dev, double alpha, const struct kn_tensor *y, const struct kn_tensor *x)
{
    st_t st = kn_check_axpy(alpha, y, x);
    if (st) return st;
    if (!ref_has(x)) return ST_ENOTSUP;
    for (int64_t i = 0, n = kn_count(x); i < n; i++) ref_add(x, at(x, i), alpha * ref_get(y, at(y, i)));
    return ST_OK;
}

st_t ref_fill(struct kn_dev *dev, const struct kn_tensor *x, double value)
{
    st_t st = kn_check_fill(x, value);
    if (st) return st;
    for (int64_t i = 0, n = kn_count(x); i < n; i++) ref_set(x, at(x, i), value);
    return ST_OK;
}

st_t ref_sum_rows(struct kn_dev *dev, const struct kn_tensor *dy, const struct kn_tensor *db)
{
    st_t st = kn_check_sum_rows(dy, db);
    if (st) return st;
    if (!ref_has(dy)) return ST_ENOTSUP;
    for (int64_t j = 0; j < dy->d[1]; j++) {
        double s = 0;
        for (int64_t i = 0; i < dy->d[0]; i++) s += ref_get(dy, at2(dy, i, j));
        ref_add(db, j * db->s[0], s);
    }
    return ST_OK;
}

st_t ref_sumsq(struct kn_dev *dev, const struct kn_tensor *x, double *out)
{
    st_t st = kn_check_sumsq(x, out);
    if (st) return st;
    if (!ref_has(x)) return ST_ENOTSUP;
    double s = 0;
    for (int64_t i = 0; i < x->d[0]; i++) s += ref_get(x, i) * ref_get(x, i);
    *out = s;
    return ST_OK;
}
