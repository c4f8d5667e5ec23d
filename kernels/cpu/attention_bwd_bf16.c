/* Causal attention, backward, with products in bf16: as attention_bwd.c. Keys and values of a head are rounded once; what goes into dk and dv is
 * summed in scratch, rows of whole vectors. */
#include "kernels/cpu/attn.h"
#include "kernels/cpu/gemm.h"

#define NEVER (-1e38f) /* exponent of a key that is not seen */

#ifndef VEC_PASS
#ifdef __x86_64__
/* Floats of scratch: of a head, and of one of its blocks. */
static size_t head_floats(const struct attn_bwd *c)
{
    int64_t even = c->a.S + c->a.S % 2, K2 = (c->a.K + 1) / 2;
    return (size_t)(even * (2 * K2 + 2 * c->Kp) + even / 2 * c->a.K);
}

static size_t block_floats(const struct attn_bwd *c)
{
    int64_t K2 = (c->a.K + 1) / 2;
    return (size_t)((4 * K2 + (c->a.half ? 2 : 1) * c->a.K + c->Kp + 2 * ATTN_KEYS + 3 * ATTN_KEYS / 2) * ATTN_ROWS);
}

#define VEC_FILE "kernels/cpu/attention_bwd_bf16.c"
#include "kernels/cpu/vec_bf16.h"

struct ctx {
    struct kn_dev *dev;
    const struct attn_bwd *w;
};

static void task(void *arg, int i, int worker)
{
    struct ctx *c = arg;
    head_bf16(c->w, i / c->w->a.G, i % c->w->a.G, cpu_scratch(c->dev, worker));
}

st_t cpu_attention_bwd_bf16(struct kn_dev *dev, const struct attn_bwd *w)
{
    struct ctx c = {dev, w};
    const struct attn *a = &w->a;
    st_t st = cpu_scratch_need(dev, (head_floats(w) + block_floats(w)) * sizeof(float));
    if (st) return st;
    double pairs = (double)(a->B * a->H * a->T) * (double)(a->W ? a->W : a->S);
    cpu_run(dev, task, &c, (int)(a->B * a->G), pairs * (double)a->K * 10 / 100);
    return ST_OK;
}
#else
st_t cpu_attention_bwd_bf16(struct kn_dev *dev, const struct attn_bwd *w)
{
    return ST_ENOTSUP; /* never: no such device has the precision */
}
#endif

#else

#include "kernels/cpu/vec_mm.h"
#include "kernels/cpu/attn_bf16.h"

/* Two keys, one vector of rows: scores and dp become weights p and dS = p (dp - d). pr, dr: both as rows of pairs of rows [key][LANES / 2]; dp as pairs
 * of keys at ds. */
VEC_FN void weigh2(const float *s, const float *dp, float *pr, float *dr, float *ds, vf scale, vf lse, vf d, int masked, float key, vf pos, vf low)
{
    vf x = vf_fma(vf_load(s), scale, lse), y = vf_fma(vf_load(s + LANES), scale, lse);
    if (masked) {
        vf never = vf_set1(NEVER);
        x = seen_bf16(x, vf_set1(key), pos, low, never);
        y = seen_bf16(y, vf_set1(key + 1), pos, low, never);
    }
    x = vf_exp2_bf16(x), y = vf_exp2_bf16(y);
    vf e = vf_mul(x, vf_sub(vf_load(dp), d)), f = vf_mul(y, vf_sub(vf_load(dp + LANES), d));
    __m512i p = (__m512i)_mm512_cvtne2ps_pbh(y, x), q = (__m512i)_mm512_cvtne2ps_pbh(f, e);
    _mm256_storeu_si256((void *)pr, _mm512_castsi512_si256(p));
    _mm256_storeu_si256((void *)(pr + LANES / 2), _mm512_extracti64x4_epi64(p, 1));
    _mm256_storeu_si256((void *)dr, _mm512_castsi512_si256(q));
    _mm256_storeu_si256((void *)(dr + LANES / 2), _mm512_extracti64x4_epi64(q, 1));
    vf_store(ds, vf_pairs_bf16(e, f));
}

static float dot_bf16(int half, const float *a, const float *b, int64_t n)
{
    vf s = vf_zero();
    for (int64_t i = 0; i < n; i += VL) {
        __mmask16 m = (__mmask16)(n - i < VL ? (1u << (n - i)) - 1 : 0xffffu);
        if (half) s = vf_fma(vf_widen_bf16((const uint16_t *)a + i, m), vf_widen_bf16((const uint16_t *)b + i, m), s);
        else s = vf_fma(_mm512_maskz_loadu_ps(m, a + i), _mm512_maskz_loadu_ps(m, b + i), s);
    }
    return vf_hsum(s);
}

struct head {
    const float *kb, *vb, *kp; /* keys and values as rows of pairs; keys as pairs of rows */
    float *dk, *dv;            /* [S][Kp] */
};

/* One block of rows of a key head: its dq, and its share of dk (without scale) and dv. */
static void rows_bf16(const struct attn_bwd *c, int64_t b, int64_t g, int64_t index, const struct head *h, float *mem)
{
    const struct attn *a = &c->a;
    struct attn_block x = attn_block(a, index, 2);
    int64_t K = a->K, Kp = c->Kp, K2 = (K + 1) / 2;
    float *qb = mem, *qt = qb + K2 * LANES, *dot = qt + K2 * LANES, *dob = dot + K2 * LANES, *dqt = dob + K2 * LANES, *qn = dqt + K * LANES,
          *don = qn + Kp * LANES / 2, *s = don + Kp * LANES / 2, *dp = s + ATTN_KEYS * LANES, *pr = dp + ATTN_KEYS * LANES,
          *dr = pr + ATTN_KEYS * LANES / 2, *ds = dr + ATTN_KEYS * LANES / 2, *tmp = ds + ATTN_KEYS * LANES / 2;
    float lse[LANES], d[LANES], scale[LANES];
    const float *rows[LANES], *drows[LANES];
    float *dqrows[LANES];
    for (int i = 0; i < LANES; i++) {
        rows[i] = attn_at(a, a->q, attn_row(a, &a->sq, &x, b, g, i));
        drows[i] = attn_at(a, c->dout, attn_row(a, &c->sdout, &x, b, g, i));
        dqrows[i] = attn_at(a, c->dq, attn_row(a, &c->sdq, &x, b, g, i));
        lse[i] = (float)((double)a->lse[attn_row(a, &a->sl, &x, b, g, i)] * -ATTN_LOG2E);
        d[i] = i < x.n ? dot_bf16(a->half, drows[i], attn_at(a, a->out, attn_row(a, &a->so, &x, b, g, i)), K) : 0;
        scale[i] = a->scale;
    }
    block_of_pairs(qb, rows, a->half, K);
    block_of_pairs(dob, drows, a->half, K);
    lanes_of_pairs(qt, qb, K);
    lanes_of_pairs(dot, dob, K);
    cpu_gemm_bf16->pack_half(qn, Kp, (const uint16_t *)qb, 1, 2 * K2, K, x.n);
    cpu_gemm_bf16->pack_half(don, Kp, (const uint16_t *)dob, 1, 2 * K2, K, x.n);
    memset(dqt, 0, (size_t)(K * LANES) * sizeof *dqt);
    vf reach = vf_set1((float)(a->W ? a->W - 1 : a->S)), sc = vf_set1((float)(a->scale * ATTN_LOG2E));

    for (int64_t j0 = x.from; j0 <= x.last;) {
        struct attn_tile t = attn_tile(a, &x, j0, VL, 2);
        for (int i = 0; i < t.pieces; i++) {
            const struct attn_piece *y = &t.piece[i];
            int64_t key = y->j0 - j0, from = y->v0 * VL, n = ((y->v1 * VL < x.n ? y->v1 * VL : x.n) - from + 1) / 2;
            int nv = y->v1 - y->v0;
            mm_set_bf16(y->n, nv, h->kb + y->j0 * K2, K2, 1, qt + from, LANES, K2, s + key * LANES + from, LANES);
            mm_set_bf16(y->n, nv, h->vb + y->j0 * K2, K2, 1, dot + from, LANES, K2, dp + key * LANES + from, LANES);
            for (int64_t at = from; at < y->v1 * VL; at += VL) {
                vf pos = vf_load(x.pos + at), low = vf_sub(pos, reach), l = vf_load(lse + at), dd = vf_load(d + at);
                for (int64_t j = key; j < key + y->n; j += 2) {
                    int64_t o = j * LANES + at, r = (j * LANES + at) / 2;
                    if (t.masked) weigh2(s + o, dp + o, pr + r, dr + r, ds + j / 2 * LANES + at, sc, l, dd, 1, (float)(j0 + j - x.first), pos, low);
                    else weigh2(s + o, dp + o, pr + r, dr + r, ds + j / 2 * LANES + at, sc, l, dd, 0, 0, pos, low);
                }
            }
            mm_add_bf16(y->n, Kp / VL, pr + (key * LANES + from) / 2, LANES / 2, 1, don + from / 2 * Kp, Kp, n, h->dv + y->j0 * Kp, Kp);
            mm_add_bf16(y->n, Kp / VL, dr + (key * LANES + from) / 2, LANES / 2, 1, qn + from / 2 * Kp, Kp, n, h->dk + y->j0 * Kp, Kp);
            mm_add_bf16(K, nv, h->kp + y->j0 / 2 * K, 1, K, ds + key / 2 * LANES + from, LANES, y->n / 2, dqt + from, LANES);
        }
        j0 += t.n;
    }
    lanes_to_any(dqrows, a->half, dqt, x.n, K, scale, tmp);
}

static void head_bf16(const struct attn_bwd *c, int64_t b, int64_t g, float *mem)
{
    const struct attn *a = &c->a;
    int64_t K = a->K, Kp = c->Kp, K2 = (K + 1) / 2, even = a->S + a->S % 2;
    const float *k = attn_at(a, a->k, b * a->sk.b + g * a->sk.h), *v = attn_at(a, a->v, b * a->sv.b + g * a->sv.h);
    float *dk = attn_at(a, c->dk, b * c->sdk.b + g * c->sdk.h), *dv = attn_at(a, c->dv, b * c->sdv.b + g * c->sdv.h);
    float *kb = mem, *vb = kb + even * K2, *kp = vb + even * K2, *dks = kp + even / 2 * K, *dvs = dks + even * Kp;
    struct head h = {kb, vb, kp, dks, dvs};
    rows_of_pairs(kb, k, a->half, a->sk.t, a->S, K);
    rows_of_pairs(vb, v, a->half, a->sv.t, a->S, K);
    pairs_of_rows(kp, k, a->half, a->sk.t, a->S, K);
    memset(dks, 0, (size_t)(2 * even * Kp) * sizeof *dks);
    for (int64_t i = 0; i < a->blocks; i++) rows_bf16(c, b, g, i, &h, mem + head_floats(c));
    vf scale = vf_set1(a->scale);
    for (int64_t j = 0; j < a->S; j++)
        for (int64_t i = 0; i < K; i += VL) {
            int64_t n = K - i < VL ? K - i : VL;
            vf x = vf_mul(vf_load(dks + j * Kp + i), scale), y = vf_load(dvs + j * Kp + i);
            __mmask16 m = (__mmask16)((1u << n) - 1);
            if (a->half) {
                vf_narrow_bf16((uint16_t *)dk + j * c->sdk.t + i, m, x);
                vf_narrow_bf16((uint16_t *)dv + j * c->sdv.t + i, m, y);
            } else {
                _mm512_mask_storeu_ps(dk + j * c->sdk.t + i, m, x);
                _mm512_mask_storeu_ps(dv + j * c->sdv.t + i, m, y);
            }
        }
}

#endif
