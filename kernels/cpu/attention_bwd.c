/* Causal attention, backward: weights are computed again from the scores and the forward's lse, tile by tile (Dao 2022,
 * arXiv:2205.14135, algorithm 4), laid out as attn.h says. With P = exp(scale q.k - lse) and D = rowsum(dout * out): dv
 * = P^T dout,   dS = P * (dout v^T - D),   dk = scale dS^T q,   dq = scale dS k. A task is one key head with all its
 * query rows, in order, so what is summed into dk and dv has one order whatever the number of threads. */
#ifndef VEC_PASS
#include "kernels/cpu/attn.h"

#define NEVER (-1e38f) /* exponent of a key that is not seen */

#define VEC_FILE "kernels/cpu/attention_bwd.c"
#include "kernels/cpu/vec_each.h"

static void (*const head_each[])(const struct attn_bwd *c, int64_t b, int64_t g, float *mem) = VEC_EACH(head);
static const int lanes_each[] = VEC_EACH(lanes);

struct ctx {
    struct kn_dev *dev;
    struct attn_bwd w;
};

static void task(void *arg, int i, int worker)
{
    struct ctx *c = arg;
    head_each[cpu_of(c->dev)->isa](&c->w, i / c->w.a.G, i % c->w.a.G, cpu_scratch(c->dev, worker));
}

st_t cpu_attention_bwd(struct kn_dev *dev, const struct kn_tensor *q, const struct kn_tensor *k,
                       const struct kn_tensor *v, const struct kn_tensor *out, const struct kn_tensor *lse,
                       const struct kn_tensor *dout, int64_t window, double scale, const struct kn_tensor *dq,
                       const struct kn_tensor *dk, const struct kn_tensor *dv)
{
    st_t st = kn_check_attention_bwd(q, k, v, out, lse, dout, window, scale, dq, dk, dv);
    if (st) return st;
    if (q->dtype == KN_F64 || !attn_half_fits(dev, q, v, scale)) return ST_ENOTSUP;
    if (kn_count(q) == 0 || kn_count(v) == 0) return ST_OK;
    int vl = lanes_each[cpu_of(dev)->isa];
    struct ctx c = {dev,
                    {attn_of(q, k, v, window, scale, out, lse), dout->p, dq->p, dk->p, dv->p, attn_strides(dout),
                     attn_strides(dq), attn_strides(dk), attn_strides(dv), (q->d[3] + vl - 1) / vl * vl,
                     (v->d[3] + vl - 1) / vl * vl}};
    const struct attn *a = &c.w.a;
    if (dev->precision == KN_BF16 && a->scale > 0 && a->E == a->K) return cpu_attention_bwd_bf16(dev, &c.w);
    /* three transposed tiles, two packed ones, two of scores; sums of dk or dv where its own rows are not whole
     * vectors */
    size_t floats = (size_t)(2 * a->K + a->E + c.w.Kp + c.w.Ep + 2 * ATTN_KEYS) * ATTN_ROWS;
    if (c.w.Kp != a->K) floats += (size_t)(a->S * c.w.Kp);
    if (c.w.Ep != a->E) floats += (size_t)(a->S * c.w.Ep);
    if ((st = cpu_scratch_need(dev, floats * sizeof(float)))) return st;
    double pairs = (double)(a->B * a->H * a->T) * (double)(a->W ? a->W : a->S);
    cpu_run(dev, task, &c, (int)(a->B * a->G), pairs * (double)(3 * a->K + 2 * a->E) * 2 / 50);
    return ST_OK;
}

#else

#include "kernels/cpu/vec_mm.h"

enum { VEC_NAME(lanes) = VL };

/* Scores s[key][LANES] become weights p, and dp becomes dS, for one vector of rows and n keys; masked: rows at pos see
 * keys from low to pos. */
VEC_FN void VEC_NAME(weigh)(float *s, float *dp, int n, vf lse, vf d, int masked, float key, vf pos, vf low)
{
    vf never = vf_set1(NEVER);
    for (int j = 0; j < n; j++) {
        vf x = vf_sub(vf_load(s + j * LANES), lse);
        if (masked) {
            vf at = vf_set1(key + (float)j);
            x = VEC_NAME(where_ge)(pos, at, VEC_NAME(where_ge)(at, low, x, never), never);
        }
        vf p = VEC_NAME(exp2_down)(x);
        vf_store(s + j * LANES, p);
        vf_store(dp + j * LANES, vf_mul(p, vf_sub(vf_load(dp + j * LANES), d)));
    }
}

/* dst[i][Kp] = src[i][0..K) * m, zeros after. */
static void VEC_NAME(pack)(float *dst, const float *const *src, int n, int64_t K, int64_t Kp, float m)
{
    vf x = vf_set1(m);
    for (int i = 0; i < n; i++, dst += Kp) {
        int64_t k = 0;
        for (; k + VL <= K; k += VL) vf_store(dst + k, vf_mul(vf_load(src[i] + k), x));
        if (k < K) vf_store(dst + k, vf_mul(vf_loadn(src[i] + k, K - k), x));
    }
}

/* One block of rows of a key head: its dq, and its share of dk and dv (rows of dks and dvs floats). */
static void VEC_NAME(rows)(const struct attn_bwd *c, int64_t b, int64_t g, int64_t index, float *mem, float *dk,
                           int64_t dks, float *dv, int64_t dvs)
{
    const struct attn *a = &c->a;
    struct attn_block x = attn_block(a, index, 1);
    int64_t K = a->K, E = a->E, Kp = c->Kp, Ep = c->Ep;
    int nv = (x.n + VL - 1) / VL;
    float *qt = mem, *dot = qt + K * LANES, *dqt = dot + E * LANES, *qn = dqt + K * LANES, *don = qn + Kp * LANES;
    float *s = don + Ep * LANES, *dp = s + ATTN_KEYS * LANES;
    float lse[LANES], d[LANES], scale[LANES];
    const float *rows[LANES], *drows[LANES];
    float *dqrows[LANES];
    for (int i = 0; i < LANES; i++) {
        rows[i] = a->q + attn_row(a, &a->sq, &x, b, g, i);
        drows[i] = c->dout + attn_row(a, &c->sdout, &x, b, g, i);
        dqrows[i] = c->dq + attn_row(a, &c->sdq, &x, b, g, i);
        lse[i] = (float)((double)a->lse[attn_row(a, &a->sl, &x, b, g, i)] * ATTN_LOG2E);
        d[i] = i < x.n ? VEC_NAME(mm_dot)(drows[i], a->out + attn_row(a, &a->so, &x, b, g, i), E) : 0;
        scale[i] = a->scale;
    }
    VEC_NAME(rows_to_lanes)(qt, rows, nv * VL, K, (float)(a->scale * ATTN_LOG2E));
    VEC_NAME(rows_to_lanes)(dot, drows, nv * VL, E, 1.0f);
    VEC_NAME(pack)(qn, rows, x.n, K, Kp, a->scale);
    VEC_NAME(pack)(don, drows, x.n, E, Ep, 1.0f);
    memset(dqt, 0, (size_t)(K * LANES) * sizeof *dqt);
    const float *keys = a->k + b * a->sk.b + g * a->sk.h, *values = a->v + b * a->sv.b + g * a->sv.h;
    vf reach = vf_set1((float)(a->W ? a->W - 1 : a->S));

    for (int64_t j0 = x.from; j0 <= x.last;) {
        struct attn_tile t = attn_tile(a, &x, j0, VL, 1);
        for (int i = 0; i < t.pieces; i++) {
            const struct attn_piece *y = &t.piece[i];
            int64_t at = (y->j0 - j0) * LANES + y->v0 * VL;
            int from = y->v0 * VL, n = (y->v1 * VL < x.n ? y->v1 * VL : x.n) - from;
            VEC_NAME(mm_set)
            (y->n, y->v1 - y->v0, keys + y->j0 * a->sk.t, a->sk.t, 1, qt + from, LANES, K, s + at, LANES);
            VEC_NAME(mm_set)
            (y->n, y->v1 - y->v0, values + y->j0 * a->sv.t, a->sv.t, 1, dot + from, LANES, E, dp + at, LANES);
            for (int v = y->v0; v < y->v1; v++) {
                vf pos = vf_load(x.pos + v * VL);
                float *sv = s + at + (v - y->v0) * VL, *dpv = dp + at + (v - y->v0) * VL;
                if (t.masked)
                    VEC_NAME(weigh)
                    (sv, dpv, y->n, vf_load(lse + v * VL), vf_load(d + v * VL), 1, (float)(y->j0 - x.first), pos,
                     vf_sub(pos, reach));
                else
                    VEC_NAME(weigh)(sv, dpv, y->n, vf_load(lse + v * VL), vf_load(d + v * VL), 0, 0, pos, pos);
            }
            VEC_NAME(mm_add)(y->n, Ep / VL, s + at, LANES, 1, don + from * Ep, Ep, n, dv + y->j0 * dvs, dvs);
            VEC_NAME(mm_add)(y->n, Kp / VL, dp + at, LANES, 1, qn + from * Kp, Kp, n, dk + y->j0 * dks, dks);
            VEC_NAME(mm_add)
            (K, y->v1 - y->v0, keys + y->j0 * a->sk.t, 1, a->sk.t, dp + at, LANES, y->n, dqt + from, LANES);
        }
        j0 += t.n;
    }
    VEC_NAME(lanes_to_rows)(dqrows, dqt, x.n, K, scale);
}

/* n rows of zeros. */
static void VEC_NAME(clear)(float *x, int64_t stride, int64_t n, int64_t width)
{
    for (int64_t j = 0; j < n; j++) memset(x + j * stride, 0, (size_t)width * sizeof *x);
}

static void VEC_NAME(head)(const struct attn_bwd *c, int64_t b, int64_t g, float *mem)
{
    const struct attn *a = &c->a;
    int64_t K = a->K, E = a->E, Kp = c->Kp, Ep = c->Ep, dks = c->sdk.t, dvs = c->sdv.t;
    float *dk = c->dk + b * c->sdk.b + g * c->sdk.h, *dv = c->dv + b * c->sdv.b + g * c->sdv.h;
    float *sums = mem + (2 * K + E + Kp + Ep + 2 * ATTN_KEYS) * LANES, *sk = dk, *sv = dv;
    int64_t sks = dks, svs = dvs;
    if (K != Kp) sk = sums, sks = Kp, sums += a->S * Kp;
    if (E != Ep) sv = sums, svs = Ep;
    VEC_NAME(clear)(sk, sks, a->S, Kp);
    VEC_NAME(clear)(sv, svs, a->S, Ep);
    for (int64_t i = 0; i < a->blocks; i++) VEC_NAME(rows)(c, b, g, i, mem, sk, sks, sv, svs);
    for (int64_t j = 0; K != Kp && j < a->S; j++) memcpy(dk + j * dks, sk + j * sks, (size_t)K * sizeof *dk);
    for (int64_t j = 0; E != Ep && j < a->S; j++) memcpy(dv + j * dvs, sv + j * svs, (size_t)E * sizeof *dv);
}

#endif
