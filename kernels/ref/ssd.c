#include "kernels/ref/ref.h"

/* One head of one sequence at one time: what its row of the formulas is made of. */
struct at_time {
    double raw, t, decay; /* dt + dt_bias, softplus of it, exp(A t) */
};

static struct at_time at_time(const struct kn_tensor *dt, const struct kn_tensor *dt_bias, double A, int64_t b, int64_t t,
                              int64_t h)
{
    double raw = ref_get(dt, at3(dt, b, t, h)) + ref_get(dt_bias, h * dt_bias->s[0]);
    double step = raw > 0 ? raw + log1p(exp(-raw)) : log1p(exp(raw));
    return (struct at_time){raw, step, exp(A * step)};
}

st_t ref_ssd(struct kn_dev *dev, const struct kn_tensor *x, const struct kn_tensor *dt, const struct kn_tensor *dt_bias,
             const struct kn_tensor *a_log, const struct kn_tensor *bm, const struct kn_tensor *cm,
             const struct kn_tensor *d, const struct kn_tensor *state, const struct kn_tensor *y)
{
    st_t st = kn_check_ssd(x, dt, dt_bias, a_log, bm, cm, d, state, y);
    if (st) return st;
    if (!ref_has(x)) return ST_ENOTSUP;
    int64_t B = x->d[0], T = x->d[1], H = x->d[2], P = x->d[3], G = bm->d[2], N = bm->d[3];
    double *s;
    if ((st = ref_scratch(dev, N, &s))) return st;
    for (int64_t b = 0; b < B; b++)
        for (int64_t h = 0; h < H; h++) {
            int64_t g = h / (H / G);
            double A = -exp(ref_get(a_log, h * a_log->s[0])), D = ref_get(d, h * d->s[0]);
            for (int64_t p = 0; p < P; p++) {
                for (int64_t n = 0; n < N; n++) s[n] = kn_absent(state) ? 0 : ref_get(state, at4(state, b, h, p, n));
                for (int64_t t = 0; t < T; t++) {
                    struct at_time now = at_time(dt, dt_bias, A, b, t, h);
                    double v = ref_get(x, at4(x, b, t, h, p)), sum = D * v;
                    for (int64_t n = 0; n < N; n++) {
                        s[n] = now.decay * s[n] + now.t * v * ref_get(bm, at4(bm, b, t, g, n));
                        sum += s[n] * ref_get(cm, at4(cm, b, t, g, n));
                    }
                    ref_set(y, at4(y, b, t, h, p), sum);
                }
                for (int64_t n = 0; n < N && !kn_absent(state); n++) ref_set(state, at4(state, b, h, p, n), s[n]);
            }
        }
    return ST_OK;
}

/* With S_t = a_t S_{t-1} + t x b^T and the gradient of it Q_t = dy_t c_t^T + a_{t+1} Q_{t+1}:
 *   dx = t Q b + D dy    db = t Q^T x    dc = S^T dy    dt = x^T Q b + A a <Q, S_{t-1}>    dA = t a <Q, S_{t-1}>
 * The states of one head are worked out again and kept. */
st_t ref_ssd_bwd(struct kn_dev *dev, const struct kn_tensor *x, const struct kn_tensor *dt,
                 const struct kn_tensor *dt_bias, const struct kn_tensor *a_log, const struct kn_tensor *bm,
                 const struct kn_tensor *cm, const struct kn_tensor *d, const struct kn_tensor *dy,
                 const struct kn_tensor *dx, const struct kn_tensor *ddt, const struct kn_tensor *ddt_bias,
                 const struct kn_tensor *da_log, const struct kn_tensor *dbm, const struct kn_tensor *dcm,
                 const struct kn_tensor *dd)
{
    st_t st = kn_check_ssd_bwd(x, dt, dt_bias, a_log, bm, cm, d, dy, dx, ddt, ddt_bias, da_log, dbm, dcm, dd);
    if (st) return st;
    if (!ref_has(x)) return ST_ENOTSUP;
    int64_t B = x->d[0], T = x->d[1], H = x->d[2], P = x->d[3], G = bm->d[2], N = bm->d[3], PN = P * N;
    double *mem;
    if ((st = ref_scratch(dev, (T + 1) * PN + PN + 2 * T * N, &mem))) return st;
    double *states = mem, *q = states + (T + 1) * PN, *db = q + PN, *dc = db + T * N; /* S_{-1} .. S_{T-1} */
    for (int64_t b = 0; b < B; b++)
        for (int64_t h = 0; h < H; h++) {
            int64_t g = h / (H / G);
            double A = -exp(ref_get(a_log, h * a_log->s[0])), D = ref_get(d, h * d->s[0]), dA = 0, dD = 0, dbias = 0;
            for (int64_t i = 0; i < PN; i++) states[i] = q[i] = 0;
            if (h % (H / G) == 0)
                for (int64_t i = 0; i < 2 * T * N; i++) db[i] = 0;
            for (int64_t t = 0; t < T; t++) {
                struct at_time now = at_time(dt, dt_bias, A, b, t, h);
                for (int64_t i = 0; i < PN; i++)
                    states[(t + 1) * PN + i] = now.decay * states[t * PN + i] + now.t * ref_get(x, at4(x, b, t, h, i / N)) *
                                                                                    ref_get(bm, at4(bm, b, t, g, i % N));
            }
            for (int64_t t = T - 1; t >= 0; t--) {
                struct at_time now = at_time(dt, dt_bias, A, b, t, h);
                const double *before = states + t * PN, *after = before + PN;
                double dstep = 0, along = 0;
                for (int64_t p = 0; p < P; p++) {
                    double v = ref_get(x, at4(x, b, t, h, p)), dv = ref_get(dy, at4(dy, b, t, h, p)), qb = 0;
                    for (int64_t n = 0; n < N; n++) {
                        double *Q = &q[p * N + n];
                        *Q += dv * ref_get(cm, at4(cm, b, t, g, n));
                        qb += *Q * ref_get(bm, at4(bm, b, t, g, n));
                        db[t * N + n] += now.t * *Q * v;
                        dc[t * N + n] += after[p * N + n] * dv;
                        along += *Q * before[p * N + n];
                        *Q *= now.decay;
                    }
                    ref_set(dx, at4(dx, b, t, h, p), now.t * qb + D * dv);
                    dstep += v * qb;
                    dD += v * dv;
                }
                dstep += A * now.decay * along;
                dA += now.t * now.decay * along;
                double draw = dstep / (1 + exp(-now.raw));
                ref_set(ddt, at3(ddt, b, t, h), draw);
                dbias += draw;
            }
            ref_add(ddt_bias, h * ddt_bias->s[0], dbias);
            ref_add(da_log, h * da_log->s[0], dA * A);
            ref_add(dd, h * dd->s[0], dD);
            if ((h + 1) % (H / G)) continue;
            for (int64_t i = 0; i < T * N; i++) {
                ref_set(dbm, at4(dbm, b, i / N, g, i % N), db[i]);
                ref_set(dcm, at4(dcm, b, i / N, g, i % N), dc[i]);
            }
        }
    return ST_OK;
}
