#include "kernels/ref/ref.h"

/* The numbers that are divided by: too small to show unless every sigmoid is 0 (DeepseekV3TopkRouter). */
#define TINY 1e-20

static double sigmoid_of(double x)
{
    return 1 / (1 + exp(-x));
}

static void probabilities(const struct kn_tensor *z, int sigmoid, int64_t t, const struct kn_tensor *p)
{
    int64_t E = z->d[1];
    double max = -INFINITY, sum = sigmoid ? TINY : 0;
    for (int64_t e = 0; e < E; e++) max = fmax(max, ref_get(z, at2(z, t, e)));
    for (int pass = 0; pass < 2; pass++)
        for (int64_t e = 0; e < E; e++) {
            double x = ref_get(z, at2(z, t, e)), s = sigmoid ? sigmoid_of(x) : exp(x - max);
            if (pass) ref_set(p, at2(p, t, e), s / sum);
            else sum += s;
        }
}

/* The expert of the next slot: the largest logit of those that the slots before have not taken. */
static int64_t choose(const struct kn_tensor *z, int64_t t, const struct kn_tensor *index, int64_t slot)
{
    int64_t best = -1;
    for (int64_t e = 0; e < z->d[1]; e++) {
        int taken = 0;
        for (int64_t s = 0; s < slot; s++) taken |= ref_get(index, at2(index, t, s)) == (double)e;
        if (!taken && (best < 0 || ref_get(z, at2(z, t, e)) > ref_get(z, at2(z, t, best)))) best = e;
    }
    return best;
}

static double balance(const struct kn_tensor *p, const int32_t *offset)
{
    double sum = 0, N = (double)p->d[0];
    for (int64_t e = 0; e < p->d[1]; e++) {
        double P = 0;
        for (int64_t t = 0; t < p->d[0]; t++) P += ref_get(p, at2(p, t, e));
        sum += (double)(offset[e + 1] - offset[e]) * P / N;
    }
    return sum * (double)p->d[1] / (double)offset[p->d[1]];
}

st_t ref_route(struct kn_dev *dev, const struct kn_tensor *z, int sigmoid, const struct kn_tensor *p, const struct kn_tensor *index,
               const struct kn_tensor *w, const struct kn_tensor *offset, const struct kn_tensor *order, const struct kn_tensor *row,
               const struct kn_tensor *aux)
{
    st_t st = kn_check_route(z, sigmoid, p, index, w, offset, order, row, aux);
    if (st) return st;
    if (!ref_has(z)) return ST_ENOTSUP;
    int64_t N = z->d[0], E = z->d[1], k = w->d[1];
    for (int64_t t = 0; t < N; t++) {
        double sum = sigmoid ? TINY : 0;
        probabilities(z, sigmoid, t, p);
        for (int64_t s = 0; s < k; s++) {
            int64_t e = choose(z, t, index, s);
            ref_set(index, at2(index, t, s), (double)e);
            sum += ref_get(p, at2(p, t, e));
        }
        for (int64_t s = 0; s < k; s++) {
            int64_t e = (int64_t)ref_get(index, at2(index, t, s));
            ref_set(w, at2(w, t, s), ref_get(p, at2(p, t, e)) / sum);
        }
    }
    int32_t *o = offset->p, *pairs = order->p, *rows = row->p, r = 0;
    for (int64_t e = 0; e < E; e++) {
        o[e] = r;
        for (int64_t t = 0; t < N; t++)
            for (int64_t s = 0; s < k; s++)
                if ((int64_t)ref_get(index, at2(index, t, s)) == e) pairs[r] = (int32_t)(t * k + s), rows[t * k + s] = r++;
    }
    o[E] = r;
    if (!kn_absent(aux) && N) ref_add(aux, 0, balance(p, o));
    return ST_OK;
}

/* With Q the sum of the chosen p:  dp = (dw - sum w dw) / Q  of the chosen, + aux E f / N of all;  dz = p (dp - sum p dp), times 1 - s for sigmoids. */
st_t ref_route_bwd(struct kn_dev *dev, const struct kn_tensor *z, int sigmoid, const struct kn_tensor *p, const struct kn_tensor *index,
                   const struct kn_tensor *w, const struct kn_tensor *offset, const struct kn_tensor *dw, double aux,
                   const struct kn_tensor *dz)
{
    st_t st = kn_check_route_bwd(z, sigmoid, p, index, w, offset, dw, aux, dz);
    if (st) return st;
    if (!ref_has(z)) return ST_ENOTSUP;
    int64_t N = z->d[0], E = z->d[1], k = w->d[1];
    const int32_t *o = offset->p;
    double *dp;
    st = ref_scratch(dev, E, &dp);
    if (st) return st;
    for (int64_t t = 0; t < N; t++) {
        double sum = sigmoid ? TINY : 0, wdw = 0, pdp = 0;
        for (int64_t e = 0; e < E; e++) dp[e] = aux * (double)E * (double)(o[e + 1] - o[e]) / ((double)N * (double)N * (double)k);
        for (int64_t s = 0; s < k; s++) {
            sum += ref_get(p, at2(p, t, (int64_t)ref_get(index, at2(index, t, s))));
            wdw += ref_get(w, at2(w, t, s)) * ref_get(dw, at2(dw, t, s));
        }
        for (int64_t s = 0; s < k; s++) dp[(int64_t)ref_get(index, at2(index, t, s))] += (ref_get(dw, at2(dw, t, s)) - wdw) / sum;
        for (int64_t e = 0; e < E; e++) pdp += ref_get(p, at2(p, t, e)) * dp[e];
        for (int64_t e = 0; e < E; e++) {
            double v = ref_get(p, at2(p, t, e)) * (dp[e] - pdp);
            ref_set(dz, at2(dz, t, e), sigmoid ? v * (1 - sigmoid_of(ref_get(z, at2(z, t, e)))) : v);
        }
    }
    return ST_OK;
}

st_t ref_gather(struct kn_dev *dev, const struct kn_tensor *x, const struct kn_tensor *order, const struct kn_tensor *y)
{
    st_t st = kn_check_gather(x, order, y);
    if (st) return st;
    if (!ref_has(x) && dev->precision != KN_BF16) return ST_ENOTSUP;
    const int32_t *o = order->p;
    for (int64_t r = 0; r < y->d[0]; r++)
        for (int64_t j = 0; j < y->d[1]; j++) ref_set(y, at2(y, r, j), ref_get(x, at2(x, o[r] / (y->d[0] / x->d[0]), j)));
    return ST_OK;
}

st_t ref_combine(struct kn_dev *dev, const struct kn_tensor *x, const struct kn_tensor *row, double beta, const struct kn_tensor *y)
{
    st_t st = kn_check_combine(x, row, beta, y);
    if (st) return st;
    if (!ref_has(y) || (!ref_has(x) && dev->precision != KN_BF16)) return ST_ENOTSUP;
    const int32_t *rows = row->p;
    for (int64_t t = 0; t < y->d[0]; t++)
        for (int64_t j = 0; j < y->d[1]; j++) {
            int64_t k = x->d[0] / y->d[0];
            double sum = 0;
            for (int64_t s = 0; s < k; s++) sum += ref_get(x, at2(x, rows[t * k + s], j));
            ref_set(y, at2(y, t, j), beta != 0 ? sum + beta * ref_get(y, at2(y, t, j)) : sum);
        }
    return ST_OK;
}

static struct kn_tensor matrix(const struct kn_tensor *b, int64_t e)
{
    return (struct kn_tensor){(char *)b->p + e * b->s[0] * (int64_t)kn_dtype_size(b->dtype), b->dtype, 2, {b->d[1], b->d[2]}, {b->s[1], b->s[2]}};
}

st_t ref_gemm_grouped(struct kn_dev *dev, const struct kn_tensor *a, const struct kn_tensor *b, const struct kn_tensor *offset,
                      double beta, const struct kn_tensor *c)
{
    st_t st = kn_check_gemm_grouped(a, b, offset, beta, c);
    if (!st) st = kn_check_runs(offset, a->d[0]);
    const int32_t *o = st ? NULL : offset->p;
    for (int64_t e = 0; !st && e < b->d[0]; e++) {
        int64_t n = o[e + 1] - o[e];
        struct kn_tensor x = kn_slice(a, 0, o[e], n), y = kn_slice(c, 0, o[e], n), m = matrix(b, e);
        st = ref_gemm(dev, 1, &x, &m, beta, &y);
    }
    return st;
}

st_t ref_gemm_grouped_sum(struct kn_dev *dev, const struct kn_tensor *a, const struct kn_tensor *b, const struct kn_tensor *offset,
                          const struct kn_tensor *c)
{
    st_t st = kn_check_gemm_grouped_sum(a, b, offset, c);
    if (!st) st = kn_check_runs(offset, a->d[0]);
    const int32_t *o = st ? NULL : offset->p;
    for (int64_t e = 0; !st && e < c->d[0]; e++) {
        int64_t n = o[e + 1] - o[e];
        struct kn_tensor x = kn_slice(a, 0, o[e], n), y = kn_slice(b, 0, o[e], n), xt = kn_transpose(&x), m = matrix(c, e);
        st = ref_gemm(dev, 1, &xt, &y, 1, &m);
    }
    return st;
}

/* Where a row's weight stands; -1: it has none. */
static int64_t place(const struct kn_tensor *order, const struct kn_tensor *w, int64_t r)
{
    if (kn_absent(w)) return -1;
    return (kn_absent(order) ? r : ((const int32_t *)order->p)[r]) * w->s[0];
}

static double weight(const struct kn_tensor *w, int sigmoid, int64_t at)
{
    if (at < 0) return 1;
    return sigmoid ? sigmoid_of(ref_get(w, at)) : ref_get(w, at);
}

st_t ref_expert_act(struct kn_dev *dev, const struct kn_tensor *g, const struct kn_tensor *u, const struct kn_tensor *order,
                    const struct kn_tensor *w, int sigmoid, const struct kn_tensor *h)
{
    st_t st = kn_check_expert_act(g, u, order, w, sigmoid, h);
    if (st) return st;
    if (!ref_has(g) && dev->precision != KN_BF16) return ST_ENOTSUP;
    for (int64_t r = 0; r < g->d[0]; r++) {
        double scale = weight(w, sigmoid, place(order, w, r));
        for (int64_t f = 0; f < g->d[1]; f++) {
            double x = ref_get(g, at2(g, r, f)), relu = x > 0 ? x : 0;
            ref_set(h, at2(h, r, f), scale * (kn_absent(u) ? relu * relu : x * sigmoid_of(x) * ref_get(u, at2(u, r, f))));
        }
    }
    return ST_OK;
}

st_t ref_expert_act_bwd(struct kn_dev *dev, const struct kn_tensor *g, const struct kn_tensor *u, const struct kn_tensor *order,
                        const struct kn_tensor *w, int sigmoid, const struct kn_tensor *dh, const struct kn_tensor *dg,
                        const struct kn_tensor *du, const struct kn_tensor *dw, const struct kn_tensor *h)
{
    st_t st = kn_check_expert_act_bwd(g, u, order, w, sigmoid, dh, dg, du, dw, h);
    if (st) return st;
    if (!ref_has(g) && dev->precision != KN_BF16) return ST_ENOTSUP;
    for (int64_t r = 0; r < g->d[0]; r++) {
        int64_t at = place(order, w, r);
        double scale = weight(w, sigmoid, at), sum = 0;
        for (int64_t f = 0; f < g->d[1]; f++) {
            double x = ref_get(g, at2(g, r, f)), d = ref_get(dh, at2(dh, r, f)), s = sigmoid_of(x), relu = x > 0 ? x : 0;
            double y = kn_absent(u) ? 1 : ref_get(u, at2(u, r, f)), act = kn_absent(u) ? relu * relu : x * s * y;
            sum += act * d;
            if (!kn_absent(h)) ref_set(h, at2(h, r, f), scale * act);
            ref_set(dg, at2(dg, r, f), scale * d * (kn_absent(u) ? 2 * relu : y * s * (1 + x * (1 - s))));
            if (!kn_absent(u)) ref_set(du, at2(du, r, f), scale * d * x * s);
        }
        if (at < 0) continue;
        int64_t to = place(order, dw, r);
        ref_set(dw, to, sigmoid ? sum * scale * (1 - scale) : sum);
    }
    return ST_OK;
}
