#include "kernels/ref/ref.h"

/* y = x scale / sqrt(|x|^2 + eps), or x scale where eps < 0. Returns what stands before x. */
static double unit(const struct kn_tensor *x, int64_t at, int64_t n, double eps, double scale, double *y)
{
    double ss = eps, r = scale;
    if (eps >= 0) {
        for (int64_t i = 0; i < n; i++) ss += ref_get(x, at + i) * ref_get(x, at + i);
        r = scale / sqrt(ss);
    }
    for (int64_t i = 0; i < n; i++) y[i] = ref_get(x, at + i) * r;
    return r;
}

/* dx += r (dy - y (y . dy) / scale^2), where y = r x was normed: d(1/|x|) = -x / |x|^3. */
static void unit_bwd(const struct kn_tensor *dx, int64_t at, int64_t n, double eps, double scale, double r,
                     const double *y, const double *dy)
{
    double dot = 0;
    if (eps >= 0)
        for (int64_t i = 0; i < n; i++) dot += y[i] * dy[i] / (scale * scale);
    for (int64_t i = 0; i < n; i++) ref_add(dx, at + i, r * (dy[i] - y[i] * dot));
}

struct head {
    const struct kn_tensor *q, *k, *v, *g, *beta;
    double eps, scale;
    int64_t b, h, group, K, V;
};

static struct head head_of(const struct kn_tensor *q, const struct kn_tensor *k, const struct kn_tensor *v,
                           const struct kn_tensor *g, const struct kn_tensor *beta, double eps, double scale, int64_t b,
                           int64_t h)
{
    return (struct head){q, k, v, g, beta, eps, scale, b, h, h / (v->d[2] / q->d[2]), q->d[3], v->d[3]};
}

/* One token: S [K,V] becomes the next state; err [V] = v - S^T k. */
static void step(const struct head *x, int64_t t, const double *k, double *s, double *err)
{
    double decay = exp(ref_get(x->g, at3(x->g, x->b, t, x->h))), beta = ref_get(x->beta, at3(x->beta, x->b, t, x->h));
    for (int64_t i = 0; i < x->K * x->V; i++) s[i] *= decay;
    for (int64_t j = 0; j < x->V; j++) {
        err[j] = ref_get(x->v, at4(x->v, x->b, t, x->h, j));
        for (int64_t i = 0; i < x->K; i++) err[j] -= s[i * x->V + j] * k[i];
    }
    for (int64_t i = 0; i < x->K; i++)
        for (int64_t j = 0; j < x->V; j++) s[i * x->V + j] += k[i] * beta * err[j];
}

st_t ref_delta_rule(struct kn_dev *dev, const struct kn_tensor *q, const struct kn_tensor *k, const struct kn_tensor *v,
                    const struct kn_tensor *g, const struct kn_tensor *beta, double eps, double scale,
                    const struct kn_tensor *s, const struct kn_tensor *out)
{
    st_t st = kn_check_delta_rule(q, k, v, g, beta, eps, scale, s, out);
    if (st) return st;
    if (!ref_has(q)) return ST_ENOTSUP;
    int64_t T = q->d[1], K = q->d[3], H = v->d[2], V = v->d[3];
    double *mem;
    if ((st = ref_scratch(dev, K * V + 2 * K + V, &mem))) return st;
    double *S = mem, *qn = S + K * V, *kn = qn + K, *err = kn + K;
    for (int64_t b = 0; b < q->d[0]; b++) {
        for (int64_t h = 0; h < H; h++) {
            struct head x = head_of(q, k, v, g, beta, eps, scale, b, h);
            for (int64_t i = 0; i < K; i++)
                for (int64_t j = 0; j < V; j++) S[i * V + j] = kn_absent(s) ? 0 : ref_get(s, at4(s, b, h, i, j));
            for (int64_t t = 0; t < T; t++) {
                unit(q, at4(q, b, t, x.group, 0), K, eps, scale, qn);
                unit(k, at4(k, b, t, x.group, 0), K, eps, 1, kn);
                step(&x, t, kn, S, err);
                for (int64_t j = 0; j < V; j++) {
                    double o = 0;
                    for (int64_t i = 0; i < K; i++) o += S[i * V + j] * qn[i];
                    ref_set(out, at4(out, b, t, h, j), o);
                }
            }
            for (int64_t i = 0; i < K && !kn_absent(s); i++)
                for (int64_t j = 0; j < V; j++) ref_set(s, at4(s, b, h, i, j), S[i * V + j]);
        }
    }
    return ST_OK;
}

struct adjoint {
    double *states, *errs; /* [T+1][K,V] the state before each token and after the last; [T][V] */
    double *ds;            /* [K,V] */
    double *qn, *kn, *dq, *dk, *dd;
};

/* One token backwards: ds, the gradient of the state after it, becomes that of the state before it. With S' = e^g S and
 * d = beta err:
 *   ds += q dout^T   dq = S_t dout   dd = ds^T k   dk = ds d   dbeta = dd . err   dv = beta dd
 *   dk -= S' dv   ds -= k dv^T   dg = <ds, S'>   ds *= e^g */
static void step_bwd(const struct head *x, int64_t t, struct adjoint *a, const struct kn_tensor *dout,
                     const struct kn_tensor *dv, const struct kn_tensor *dg, const struct kn_tensor *dbeta)
{
    int64_t K = x->K, V = x->V;
    double decay = exp(ref_get(x->g, at3(x->g, x->b, t, x->h))), beta = ref_get(x->beta, at3(x->beta, x->b, t, x->h));
    const double *before = a->states + t * K * V, *after = before + K * V, *err = a->errs + t * V;
    double sum = 0, along = 0;
    for (int64_t i = 0; i < K; i++) {
        a->dq[i] = a->dk[i] = 0;
        for (int64_t j = 0; j < V; j++) {
            double o = ref_get(dout, at4(dout, x->b, t, x->h, j));
            a->ds[i * V + j] += a->qn[i] * o;
            a->dq[i] += after[i * V + j] * o;
            a->dk[i] += a->ds[i * V + j] * beta * err[j];
        }
    }
    for (int64_t j = 0; j < V; j++) {
        a->dd[j] = 0;
        for (int64_t i = 0; i < K; i++) a->dd[j] += a->ds[i * V + j] * a->kn[i];
        along += a->dd[j] * err[j];
        a->dd[j] *= beta;
        ref_set(dv, at4(dv, x->b, t, x->h, j), a->dd[j]);
    }
    for (int64_t i = 0; i < K; i++) {
        for (int64_t j = 0; j < V; j++) {
            double kept = decay * before[i * V + j];
            a->dk[i] -= kept * a->dd[j];
            a->ds[i * V + j] -= a->kn[i] * a->dd[j];
            sum += a->ds[i * V + j] * kept;
            a->ds[i * V + j] *= decay;
        }
    }
    ref_set(dg, at3(dg, x->b, t, x->h), sum);
    ref_set(dbeta, at3(dbeta, x->b, t, x->h), along);
}

st_t ref_delta_rule_bwd(struct kn_dev *dev, const struct kn_tensor *q, const struct kn_tensor *k,
                        const struct kn_tensor *v, const struct kn_tensor *g, const struct kn_tensor *beta, double eps,
                        double scale, const struct kn_tensor *dout, const struct kn_tensor *dq,
                        const struct kn_tensor *dk, const struct kn_tensor *dv, const struct kn_tensor *dg,
                        const struct kn_tensor *dbeta)
{
    st_t st = kn_check_delta_rule_bwd(q, k, v, g, beta, eps, scale, dout, dq, dk, dv, dg, dbeta);
    if (st) return st;
    if (!ref_has(q)) return ST_ENOTSUP;
    int64_t T = q->d[1], K = q->d[3], H = v->d[2], V = v->d[3];
    double *mem;
    if ((st = ref_scratch(dev, (T + 2) * K * V + T * V + 4 * K + V, &mem))) return st;
    struct adjoint a = {.states = mem, .ds = mem + (T + 1) * K * V};
    a.errs = a.ds + K * V;
    a.qn = a.errs + T * V, a.kn = a.qn + K, a.dq = a.kn + K, a.dk = a.dq + K, a.dd = a.dk + K;
    if ((st = dev->op->fill(dev, dq, 0)) || (st = dev->op->fill(dev, dk, 0))) return st;
    for (int64_t b = 0; b < q->d[0]; b++) {
        for (int64_t h = 0; h < H; h++) {
            struct head x = head_of(q, k, v, g, beta, eps, scale, b, h);
            memset(a.states, 0, (size_t)(K * V) * sizeof *a.states);
            memset(a.ds, 0, (size_t)(K * V) * sizeof *a.ds);
            for (int64_t t = 0; t < T; t++) {
                double *after = a.states + (t + 1) * K * V;
                memcpy(after, a.states + t * K * V, (size_t)(K * V) * sizeof *after);
                unit(k, at4(k, b, t, x.group, 0), K, eps, 1, a.kn);
                step(&x, t, a.kn, after, a.errs + t * V);
            }
            for (int64_t t = T - 1; t >= 0; t--) {
                int64_t at = at4(dq, b, t, x.group, 0);
                double rq = unit(q, at4(q, b, t, x.group, 0), K, eps, scale, a.qn);
                double rk = unit(k, at4(k, b, t, x.group, 0), K, eps, 1, a.kn);
                step_bwd(&x, t, &a, dout, dv, dg, dbeta);
                unit_bwd(dq, at, K, eps, scale, rq, a.qn, a.dq);
                unit_bwd(dk, at4(dk, b, t, x.group, 0), K, eps, 1, rk, a.kn, a.dk);
            }
        }
    }
    return ST_OK;
}
