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
static void add(const struct kn_dev *dev, double *y, double alpha, const struct kn_tensor *x, int64_t ox)
{
    for (int64_t d = 0; d < x->d[3]; d++) y[d] += alpha * ref_factor(dev, x, ox + d * x->s[3]);
}

/* Where a head's sums begin among those of t. */
static int64_t place(const struct kn_tensor *t, int64_t b, int64_t i, int64_t h)
{
    return ((b * t->d[1] + i) * t->d[2] + h) * t->d[3];
}

static void store(const struct kn_tensor *t, const double *sum)
{
    for (int64_t b = 0; b < t->d[0]; b++)
        for (int64_t i = 0; i < t->d[1]; i++)
            for (int64_t h = 0; h < t->d[2]; h++)
                for (int64_t d = 0; d < t->d[3]; d++) ref_set(t, at4(t, b, i, h, d), sum[place(t, b, i, h) + d]);
}

st_t ref_attention(struct kn_dev *dev, const struct kn_tensor *q, const struct kn_tensor *k, const struct kn_tensor *v,
                   int64_t window, double scale, const struct kn_tensor *out, const struct kn_tensor *lse)
{
    st_t st = kn_check_attention(q, k, v, window, scale, out, lse);
    if (st) return st;
    if (!ref_has(q) && dev->precision != KN_BF16) return ST_ENOTSUP;
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
    if (!ref_has(q) && dev->precision != KN_BF16) return ST_ENOTSUP;
    int64_t n = kn_count(dq) + kn_count(dk) + kn_count(dv);
    double *sq;
    if ((st = ref_scratch(dev, n, &sq))) return st;
    double *sk = sq + kn_count(dq), *sv = sk + kn_count(dk);
    memset(sq, 0, (size_t)n * sizeof *sq);
    int64_t B = q->d[0], T = q->d[1], H = q->d[2], G = k->d[2];
    static const struct kn_dev plain; /* delta is no product of operands that were rounded */
    for (int64_t b = 0; b < B; b++)
        for (int64_t h = 0; h < H; h++)
            for (int64_t i = 0; i < T; i++) {
                int64_t g = h / (H / G);
                int64_t qi = at4(q, b, i, h, 0), doi = at4(dout, b, i, h, 0);
                double delta = dot(&plain, dout, doi, out, at4(out, b, i, h, 0)), l = ref_get(lse, at3(lse, b, h, i));
                for (int64_t j = first_key(i, window); j <= i; j++) {
                    int64_t kj = at4(k, b, j, g, 0), vj = at4(v, b, j, g, 0);
                    double p = exp(scale * dot(dev, q, qi, k, kj) - l);
                    double ds = p * (dot(dev, dout, doi, v, vj) - delta) * scale;
                    add(dev, sq + place(dq, b, i, h), ds, k, kj);
                    add(dev, sk + place(dk, b, j, g), ds, q, qi);
                    add(dev, sv + place(dv, b, j, g), p, dout, doi);
                }
            }
    store(dq, sq);
    store(dk, sk);
    store(dv, sv);
    return ST_OK;
}
