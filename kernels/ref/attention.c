#include "kernels/ref/ref.h"

/* Keys that the query at position i sees: from first_key to i. */
static int64_t first_key(int64_t i, int64_t window)
{
    return window > 0 && i - window + 1 > 0 ? i - window + 1 : 0;
}

static double dot(const struct kn_dev *dev, const struct kn_tensor *a, int64_t oa, const struct kn_tensor *b, int64_t ob)
{
    double s = 0;
    for (int64_t d = 0; d < a->d[3]; d++) s += ref_factor(dev, a, oa + d * a->s[3]) * ref_factor(dev, b, ob + d * b->s[3]);
    return s;
}

/* y += alpha x over a head */
static void add(const struct kn_dev *dev, const struct kn_tensor *y, int64_t oy, double alpha, const struct kn_tensor *x, int64_t ox)
{
    for (int64_t d = 0; d < y->d[3]; d++) ref_add(y, oy + d * y->s[3], alpha * ref_factor(dev, x, ox + d * x->s[3]));
}

st_t ref_attention(struct kn_dev *dev, const struct kn_tensor *q, const struct kn_tensor *k, const struct kn_tensor *v,
                   int64_t window, double scale, const struct kn_tensor *out, const struct kn_tensor *lse)
{
    st_t st = kn_check_attention(q, k, v, window, scale, out, lse);
    if (st) return st;
    if (!ref_has(q)) return ST_ENOTSUP;
    int64_t B = q->d[0], T = q->d[1], H = q->d[2], S = k->d[1], G = k->d[2];
    double *p;
    st = ref_scratch(dev, S, &p);
    if (st) return st;
    for (int64_t b = 0; b < B; b++)
        for (int64_t h = 0; h < H; h++)
            for (int64_t t = 0; t < T; t++) {
                int64_t g = h / (H / G), i = S - T + t, from = first_key(i, window);
                double max = -INFINITY, sum = 0;
                for (int64_t j = from; j <= i; j++) {
                    p[j] = scale * dot(dev, q, at4(q, b, t, h, 0), k, at4(k, b, j, g, 0));
                    max = fmax(max, p[j]);
                }
                for (int64_t j = from; j <= i; j++) sum += p[j] = exp(p[j] - max);
                for (int64_t d = 0; d < v->d[3]; d++) {
                    double s = 0;
                    for (int64_t j = from; j <= i; j++) s += p[j] / sum * ref_factor(dev, v, at4(v, b, j, g, d));
                    ref_set(out, at4(out, b, t, h, d), s);
                }
                if (!kn_absent(lse)) ref_set(lse, at3(lse, b, h, t), max + log(sum));
            }
    return ST_OK;
}

/* p_ij = exp(scale q_i.k_j - lse_i), ds_ij = p_ij (dout_i.v_j - dout_i.out_i) scale:
 *   dq_i = sum_j ds_ij k_j   dk_j = sum_i ds_ij q_i   dv_j = sum_i p_ij dout_i */
st_t ref_attention_bwd(struct kn_dev *dev, const struct kn_tensor *q, const struct kn_tensor *k, const struct kn_tensor *v,
                       const struct kn_tensor *out, const struct kn_tensor *lse, const struct kn_tensor *dout,
                       int64_t window, double scale, const struct kn_tensor *dq, const struct kn_tensor *dk,
                       const struct kn_tensor *dv)
{
    st_t st = kn_check_attention_bwd(q, k, v, out, lse, dout, window, scale, dq, dk, dv);
    if (st) return st;
    if (!ref_has(q)) return ST_ENOTSUP;
    ref_fill(dev, dq, 0);
    ref_fill(dev, dk, 0);
    ref_fill(dev, dv, 0);
    int64_t B = q->d[0], T = q->d[1], H = q->d[2], G = k->d[2];
    static const struct kn_dev plain; /* delta is no product of operands that were rounded */
    for (int64_t b = 0; b < B; b++)
        for (int64_t h = 0; h < H; h++)
            for (int64_t i = 0; i < T; i++) {
                int64_t g = h / (H / G);
                int64_t qi = at4(q, b, i, h, 0), doi = at4(dout, b, i, h, 0), dqi = at4(dq, b, i, h, 0);
                double delta = dot(&plain, dout, doi, out, at4(out, b, i, h, 0)), l = ref_get(lse, at3(lse, b, h, i));
                for (int64_t j = first_key(i, window); j <= i; j++) {
                    int64_t kj = at4(k, b, j, g, 0), vj = at4(v, b, j, g, 0);
                    double p = exp(scale * dot(dev, q, qi, k, kj) - l);
                    double ds = p * (dot(dev, dout, doi, v, vj) - delta) * scale;
                    add(dev, dq, dqi, ds, k, kj);
                    add(dev, dk, at4(dk, b, j, g, 0), ds, q, qi);
                    add(dev, dv, at4(dv, b, j, g, 0), p, dout, doi);
                }
            }
    return ST_OK;
}
