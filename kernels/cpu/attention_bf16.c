/* Causal attention, forward, with products in bf16: as attention.c, but that keys and values of a head are rounded once for all of its blocks. A task
 * is one head, or every n-th block of it where heads are few. */
#include "kernels/cpu/attn.h"
#include "kernels/cpu/gemm.h"

#define NEVER (-1e38f) /* the score of a key that is not seen; finite, so that differences of scores are never NaN */
#define TASKS 32       /* at least, where there are blocks enough */

#ifndef VEC_PASS
#ifdef __x86_64__
struct ctx {
    struct kn_dev *dev;
    const struct attn *a;
    int64_t parts; /* of a head */
};

static size_t head_floats(const struct attn *a)
{
    int64_t even = a->S + a->S % 2, K2 = (a->K + 1) / 2;
    return (size_t)(even * K2 + even / 2 * a->K);
}

#define VEC_FILE "kernels/cpu/attention_bf16.c"
#include "kernels/cpu/vec_bf16.h"

static void task(void *arg, int i, int worker)
{
    struct ctx *c = arg;
    int64_t bg = i / c->parts, part = i % c->parts;
    head_bf16(c->a, bg / c->a->G, bg % c->a->G, part, c->parts, cpu_scratch(c->dev, worker));
}

st_t cpu_attention_bf16(struct kn_dev *dev, const struct attn *a)
{
    int64_t heads = a->B * a->G, parts = (TASKS + heads - 1) / heads, K2 = (a->K + 1) / 2;
    struct ctx c = {dev, a, parts < a->blocks ? parts : a->blocks};
    size_t floats = head_floats(a) + (size_t)(2 * K2 + (a->half ? 2 : 1) * a->K + ATTN_KEYS + ATTN_KEYS / 2) * ATTN_ROWS;
    st_t st = cpu_scratch_need(dev, floats * sizeof(float));
    if (st) return st;
    double pairs = (double)(a->B * a->H * a->T) * (double)(a->W ? a->W : a->S);
    cpu_run(dev, task, &c, (int)(heads * c.parts), pairs * (double)a->K * 4 / 100);
    return ST_OK;
}
#else
st_t cpu_attention_bf16(struct kn_dev *dev, const struct attn *a)
{
    return ST_ENOTSUP; /* never: no such device has the precision */
}
#endif

#else

#include "kernels/cpu/vec_mm.h"
#include "kernels/cpu/attn_bf16.h"

/* One vector of rows against n keys, n even: scores s[key][LANES], to be multiplied by `scale`, become weights 2^(s - m), in pairs of keys p[key / 2][LANES];
 * the running maximum m and sum l move on, and what the rows have gathered so far (o) is rescaled where the maximum rose. */
VEC_FN void softmax_bf16(const float *s, float *p, int n, vf scale, float *m, float *l, float *o, int64_t K)
{
    vf old = vf_load(m), m0 = vf_load(s), m1 = vf_load(s + LANES);
    for (int j = 2; j < n; j += 2) {
        m0 = vf_max(vf_load(s + j * LANES), m0);
        m1 = vf_max(vf_load(s + (j + 1) * LANES), m1);
    }
    m0 = vf_max(vf_mul(vf_max(m0, m1), scale), old);
    vf sum = vf_load(l), sum1 = vf_zero(), neg = vf_sub(vf_zero(), m0);
    if (any_lt_bf16(old, m0)) {
        vf alpha = vf_exp2_bf16(vf_sub(old, m0));
        sum = vf_mul(sum, alpha);
        for (int64_t k = 0; k < K; k++) vf_store(o + k * LANES, vf_mul(vf_load(o + k * LANES), alpha));
        vf_store(m, m0);
    }
    for (int j = 0; j < n; j += 2) {
        vf x = vf_exp2_bf16(vf_fma(vf_load(s + j * LANES), scale, neg)), y = vf_exp2_bf16(vf_fma(vf_load(s + (j + 1) * LANES), scale, neg));
        sum = vf_add(sum, x);
        sum1 = vf_add(sum1, y);
        vf_store(p + j / 2 * LANES, vf_pairs_bf16(x, y));
    }
    vf_store(l, vf_add(sum, sum1));
}

/* Scores of a tile that the mask cuts are scaled here: NEVER must not be. */
VEC_FN void mask_bf16(float *s, int n, vf scale, float key, vf pos, vf low)
{
    for (int j = 0; j < n; j++)
        vf_store(s + j * LANES, seen_bf16(vf_mul(vf_load(s + j * LANES), scale), vf_set1(key + (float)j), pos, low, vf_set1(NEVER)));
}

/* kb: keys as rows of pairs, vp: values as pairs of rows. */
static void block_bf16(const struct attn *a, int64_t b, int64_t g, const struct attn_block *x, const float *kb, const float *vp, float *mem)
{
    int64_t K = a->K, K2 = (K + 1) / 2;
    int nv = (x->n + VL - 1) / VL;
    float *qb = mem, *qt = qb + K2 * LANES, *o = qt + K2 * LANES, *s = o + K * LANES, *pt = s + ATTN_KEYS * LANES, *tmp = pt + ATTN_KEYS / 2 * LANES;
    float m[LANES], l[LANES];
    const float *rows[LANES];
    for (int i = 0; i < LANES; i++) {
        rows[i] = attn_at(a, a->q, attn_row(a, &a->sq, x, b, g, i));
        m[i] = NEVER;
        l[i] = 0;
    }
    block_of_pairs(qb, rows, a->half, K);
    lanes_of_pairs(qt, qb, K);
    memset(o, 0, (size_t)(K * LANES) * sizeof *o);
    vf reach = vf_set1((float)(a->W ? a->W - 1 : a->S)), scale = vf_set1((float)(a->scale * ATTN_LOG2E));

    for (int64_t j0 = x->from; j0 <= x->last;) {
        struct attn_tile t = attn_tile(a, x, j0, VL, 2);
        for (int i = 0; i < t.pieces; i++) {
            const struct attn_piece *y = &t.piece[i];
            mm_set_bf16(y->n, y->v1 - y->v0, kb + y->j0 * K2, K2, 1, qt + y->v0 * VL, LANES, K2, s + (y->j0 - j0) * LANES + y->v0 * VL, LANES);
        }
        for (int v = 0; v < nv; v++) {
            /* the pieces that this vector has part in follow each other */
            int from = 0, n = 0;
            for (int i = 0; i < t.pieces; i++) {
                const struct attn_piece *y = &t.piece[i];
                if (v < y->v0 || v >= y->v1) continue;
                if (n == 0) from = (int)(y->j0 - j0);
                n += y->n;
            }
            if (n == 0) continue;
            float *column = s + from * LANES + v * VL, *p = pt + from / 2 * LANES + v * VL;
            vf pos = vf_load(x->pos + v * VL);
            if (t.masked) mask_bf16(column, n, scale, (float)(j0 + from - x->first), pos, vf_sub(pos, reach));
            softmax_bf16(column, p, n, t.masked ? vf_set1(1) : scale, m + v * VL, l + v * VL, o + v * VL, K);
        }
        for (int i = 0; i < t.pieces; i++) {
            const struct attn_piece *y = &t.piece[i];
            mm_add_bf16(K, y->v1 - y->v0, vp + y->j0 / 2 * K, 1, K, pt + (y->j0 - j0) / 2 * LANES + y->v0 * VL, LANES, y->n / 2, o + y->v0 * VL, LANES);
        }
        j0 += t.n;
    }

    float *out[LANES], inv[LANES];
    for (int i = 0; i < x->n; i++) {
        out[i] = attn_at(a, a->out, attn_row(a, &a->so, x, b, g, i));
        inv[i] = 1.0f / l[i];
        if (a->lse) a->lse[attn_row(a, &a->sl, x, b, g, i)] = (float)(((double)m[i] + (double)log2f(l[i])) * ATTN_LN2);
    }
    lanes_to_any(out, a->half, o, x->n, K, inv, tmp);
}

static void head_bf16(const struct attn *a, int64_t b, int64_t g, int64_t part, int64_t parts, float *mem)
{
    struct attn_block x = attn_block(a, a->blocks - 1 - part, 2); /* the longest first */
    int64_t keys = x.last + 1, even = keys + keys % 2, K2 = (a->K + 1) / 2;
    float *kb = mem, *vp = kb + even * K2;
    rows_of_pairs(kb, attn_at(a, a->k, b * a->sk.b + g * a->sk.h), a->half, a->sk.t, keys, a->K);
    pairs_of_rows(vp, attn_at(a, a->v, b * a->sv.b + g * a->sv.h), a->half, a->sv.t, keys, a->K);
    for (int64_t i = a->blocks - 1 - part; i >= 0; i -= parts) {
        x = attn_block(a, i, 2);
        block_bf16(a, b, g, &x, kb, vp, mem + head_floats(a));
    }
}

#endif
