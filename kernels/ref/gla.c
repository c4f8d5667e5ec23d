#include "kernels/ref/ref.h"

/* One token: S [K,V] becomes the next state. */
static void step(const struct kn_tensor *k, const struct kn_tensor *v, const struct kn_tensor *g, int64_t b, int64_t t,
                 int64_t h, double *s)
{
    int64_t K = k->d[3], V = v->d[3];
    for (int64_t i = 0; i < K; i++) {
        double decay = exp(ref_get(g, at4(g, b, t, h, i))), x = ref_get(k, at4(k, b, t, h, i));
        for (int64_t j = 0; j < V; j++) s[i * V + j] = decay * s[i * V + j] + x * ref_get(v, at4(v, b, t, h, j));
    }
}

st_t ref_gla(struct kn_dev *dev, const struct kn_tensor *q, const struct kn_tensor *k, const struct kn_tensor *v,
             const struct kn_tensor *g, double scale, const struct kn_tensor *s, const struct kn_tensor *out)
{
    st_t st = kn_check_gla(q, k, v, g, scale, s, out);
    if (st) return st;
    if (!ref_has(q)) return ST_ENOTSUP;
    int64_t T = q->d[1], H = q->d[2], K = q->d[3], V = v->d[3];
    double *S;
    if ((st = ref_scratch(dev, K * V, &S))) return st;
    for (int64_t b = 0; b < q->d[0]; b++) {
        for (int64_t h = 0; h < H; h++) {
            for (int64_t i = 0; i < K; i++)
                for (int64_t j = 0; j < V; j++) S[i * V + j] = kn_absent(s) ? 0 : ref_get(s, at4(s, b, h, i, j));
            for (int64_t t = 0; t < T; t++) {
                step(k, v, g, b, t, h, S);
                for (int64_t j = 0; j < V; j++) {
                    double o = 0;
                    for (int64_t i = 0; i < K; i++) o += S[i * V + j] * ref_get(q, at4(q, b, t, h, i));
                    ref_set(out, at4(out, b, t, h, j), scale * o);
                }
            }
            for (int64_t i = 0; i < K && !kn_absent(s); i++)
                for (int64_t j = 0; j < V; j++) ref_set(s, at4(s, b, h, i, j), S[i * V + j]);
        }
    }
    return ST_OK;
}

/* With ds the gradient of the state after token t:
 *   ds += scale q dout^T   dq = scale S_t dout   dk = ds v   dv = ds^T k   dg_i = sum_j ds_ij e^g_i S_(t-1)ij   ds *= e^g */
st_t ref_gla_bwd(struct kn_dev *dev, const struct kn_tensor *q, const struct kn_tensor *k, const struct kn_tensor *v,
                 const struct kn_tensor *g, double scale, const struct kn_tensor *dout, const struct kn_tensor *dq,
                 const struct kn_tensor *dk, const struct kn_tensor *dv, const struct kn_tensor *dg)
{
    st_t st = kn_check_gla_bwd(q, k, v, g, scale, dout, dq, dk, dv, dg);
    if (st) return st;
    if (!ref_has(q)) return ST_ENOTSUP;
    int64_t T = q->d[1], H = q->d[2], K = q->d[3], V = v->d[3];
    double *states, *ds;
    if ((st = ref_scratch(dev, (T + 2) * K * V, &states))) return st;
    ds = states + (T + 1) * K * V;
    for (int64_t b = 0; b < q->d[0]; b++) {
        for (int64_t h = 0; h < H; h++) {
            memset(states, 0, (size_t)(K * V) * sizeof *states);
            memset(ds, 0, (size_t)(K * V) * sizeof *ds);
            for (int64_t t = 0; t < T; t++) {
                memcpy(states + (t + 1) * K * V, states + t * K * V, (size_t)(K * V) * sizeof *states);
                step(k, v, g, b, t, h, states + (t + 1) * K * V);
            }
            for (int64_t t = T - 1; t >= 0; t--) {
                const double *before = states + t * K * V, *after = before + K * V;
                for (int64_t j = 0; j < V; j++) ref_set(dv, at4(dv, b, t, h, j), 0);
                for (int64_t i = 0; i < K; i++) {
                    double qi = scale * ref_get(q, at4(q, b, t, h, i)), ki = ref_get(k, at4(k, b, t, h, i)),
                           decay = exp(ref_get(g, at4(g, b, t, h, i))), gq = 0, gk = 0, gg = 0;
                    for (int64_t j = 0; j < V; j++) {
                        double o = ref_get(dout, at4(dout, b, t, h, j)), *d = ds + i * V + j;
                        *d += qi * o;
                        gq += scale * after[i * V + j] * o;
                        gk += *d * ref_get(v, at4(v, b, t, h, j));
                        ref_add(dv, at4(dv, b, t, h, j), *d * ki);
                        *d *= decay;
                        gg += *d * before[i * V + j];
                    }
                    ref_set(dq, at4(dq, b, t, h, i), gq);
                    ref_set(dk, at4(dk, b, t, h, i), gk);
                    ref_set(dg, at4(dg, b, t, h, i), gg);
                }
            }
        }
    }
    return ST_OK;
}
