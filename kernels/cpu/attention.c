/* Causal attention, forward: tiles and online softmax (Milakov & Gimelshein 2018, arXiv:1805.02867; Dao 2022,
 * arXiv:2205.14135), laid out as attn.h says. A task is one block of 64 query rows of one key head. */
#ifndef VEC_PASS
#include "kernels/cpu/attn.h"

#define NEVER (-1e38f) /* the score of a key that is not seen; finite, so that differences of scores are never NaN */

#define VEC_FILE "kernels/cpu/attention.c"
#include "kernels/cpu/vec_each.h"

static void (*const block_each[])(const struct attn *a, int64_t b, int64_t g, const struct attn_block *x,
                                  float *mem) = VEC_EACH(block);

struct ctx {
    struct kn_dev *dev;
    struct attn a;
};

static void task(void *arg, int i, int worker)
{
    struct ctx *c = arg;
    int64_t bg = i / c->a.blocks, index = c->a.blocks - 1 - i % c->a.blocks; /* the longest first */
    struct attn_block x = attn_block(&c->a, index, 1);
    block_each[cpu_of(c->dev)->isa](&c->a, bg / c->a.G, bg % c->a.G, &x, cpu_scratch(c->dev, worker));
}

st_t cpu_attention(struct kn_dev *dev, const struct kn_tensor *q, const struct kn_tensor *k, const struct kn_tensor *v,
                   int64_t window, double scale, const struct kn_tensor *out, const struct kn_tensor *lse)
{
    st_t st = kn_check_attention(q, k, v, window, scale, out, lse);
    if (st) return st;
    if (q->dtype == KN_F64 || !attn_half_fits(dev, q, v, scale)) return ST_ENOTSUP;
    if (kn_count(out) == 0) return ST_OK;
    struct ctx c = {dev, attn_of(q, k, v, window, scale, out, lse)};
    const struct attn *a = &c.a;
    if (a->T == 1 && !a->half) return cpu_attention_decode(dev, a);
    if (dev->precision == KN_BF16 && a->scale > 0 && a->E == a->K) return cpu_attention_bf16(dev, a);
    if ((st = cpu_scratch_need(dev, (size_t)(a->K + a->E + ATTN_KEYS) * ATTN_ROWS * sizeof(float)))) return st;
    double pairs = (double)(a->B * a->H * a->T) * (double)(a->W ? a->W : a->S);
    cpu_run(dev, task, &c, (int)(a->B * a->G * a->blocks), pairs * (double)(a->K + a->E) * 2 / 50);
    return ST_OK;
}

#else

#include "kernels/cpu/vec_mm.h"

/* One vector of rows against n keys, s[key][LANES]: scores become weights 2^(s - m); the running maximum m and sum l
 * move on, and what the rows have gathered so far (o [E][LANES]) is rescaled where the maximum rose. */
VEC_FN void VEC_NAME(softmax)(float *s, int n, float *m, float *l, float *o, int64_t E)
{
    vf old = vf_load(m), m0 = old, m1 = old, m2 = old, m3 = old;
    int j = 0;
    for (; j + 4 <= n; j += 4) {
        m0 = vf_max(vf_load(s + j * LANES), m0);
        m1 = vf_max(vf_load(s + (j + 1) * LANES), m1);
        m2 = vf_max(vf_load(s + (j + 2) * LANES), m2);
        m3 = vf_max(vf_load(s + (j + 3) * LANES), m3);
    }
    for (; j < n; j++) m0 = vf_max(vf_load(s + j * LANES), m0);
    m0 = vf_max(vf_max(m0, m1), vf_max(m2, m3));
    vf sum = vf_load(l);
    if (VEC_NAME(any_lt)(old, m0)) {
        vf alpha = VEC_NAME(exp2_down)(vf_sub(old, m0));
        sum = vf_mul(sum, alpha);
        for (int64_t k = 0; k < E; k++) vf_store(o + k * LANES, vf_mul(vf_load(o + k * LANES), alpha));
        vf_store(m, m0);
    }
    vf sum1 = vf_zero();
    for (j = 0; j + 2 <= n; j += 2) {
        vf p = VEC_NAME(exp2_down)(vf_sub(vf_load(s + j * LANES), m0));
        vf q = VEC_NAME(exp2_down)(vf_sub(vf_load(s + (j + 1) * LANES), m0));
        vf_store(s + j * LANES, p);
        vf_store(s + (j + 1) * LANES, q);
        sum = vf_add(sum, p);
        sum1 = vf_add(sum1, q);
    }
    if (j < n) {
        vf p = VEC_NAME(exp2_down)(vf_sub(vf_load(s + j * LANES), m0));
        vf_store(s + j * LANES, p);
        sum = vf_add(sum, p);
    }
    vf_store(l, vf_add(sum, sum1));
}

/* Row at `pos` sees key `key` + j when that is at most pos and more than pos - window. */
VEC_FN void VEC_NAME(mask)(float *s, int n, float key, vf pos, vf low)
{
    vf never = vf_set1(NEVER);
    for (int j = 0; j < n; j++) {
        vf at = vf_set1(key + (float)j), x = vf_load(s + j * LANES);
        x = VEC_NAME(where_ge)(pos, at, x, never);
        vf_store(s + j * LANES, VEC_NAME(where_ge)(at, low, x, never));
    }
}

static void VEC_NAME(block)(const struct attn *a, int64_t b, int64_t g, const struct attn_block *x, float *mem)
{
    int64_t K = a->K, E = a->E;
    int nv = (x->n + VL - 1) / VL;
    float *qt = mem, *o = qt + K * LANES, *s = o + E * LANES;
    float m[LANES], l[LANES];
    const float *rows[LANES];
    for (int i = 0; i < LANES; i++) {
        rows[i] = a->q + attn_row(a, &a->sq, x, b, g, i);
        m[i] = NEVER;
        l[i] = 0;
    }
    VEC_NAME(rows_to_lanes)(qt, rows, nv * VL, K, (float)(a->scale * ATTN_LOG2E));
    memset(o, 0, (size_t)(E * LANES) * sizeof *o);
    const float *keys = a->k + b * a->sk.b + g * a->sk.h, *values = a->v + b * a->sv.b + g * a->sv.h;
    vf reach = vf_set1((float)(a->W ? a->W - 1 : a->S));

    for (int64_t j0 = x->from; j0 <= x->last;) {
        struct attn_tile t = attn_tile(a, x, j0, VL, 1);
        for (int p = 0; p < t.pieces; p++) {
            const struct attn_piece *y = &t.piece[p];
            VEC_NAME(mm_set)
            (y->n, y->v1 - y->v0, keys + y->j0 * a->sk.t, a->sk.t, 1, qt + y->v0 * VL, LANES, K,
             s + (y->j0 - j0) * LANES + y->v0 * VL, LANES);
        }
        for (int v = 0; v < nv; v++) {
            /* the pieces that this vector has part in follow each other */
            int from = 0, n = 0;
            for (int p = 0; p < t.pieces; p++) {
                const struct attn_piece *y = &t.piece[p];
                if (v < y->v0 || v >= y->v1) continue;
                if (n == 0) from = (int)(y->j0 - j0);
                n += y->n;
            }
            if (n == 0) continue;
            float *column = s + from * LANES + v * VL;
            vf pos = vf_load(x->pos + v * VL);
            if (t.masked) VEC_NAME(mask)(column, n, (float)(j0 + from - x->first), pos, vf_sub(pos, reach));
            VEC_NAME(softmax)(column, n, m + v * VL, l + v * VL, o + v * VL, E);
        }
        for (int p = 0; p < t.pieces; p++) {
            const struct attn_piece *y = &t.piece[p];
            VEC_NAME(mm_add)
            (E, y->v1 - y->v0, values + y->j0 * a->sv.t, 1, a->sv.t, s + (y->j0 - j0) * LANES + y->v0 * VL, LANES, y->n,
             o + y->v0 * VL, LANES);
        }
        j0 += t.n;
    }

    float *out[LANES], inv[LANES];
    for (int i = 0; i < x->n; i++) {
        out[i] = a->out + attn_row(a, &a->so, x, b, g, i);
        inv[i] = 1.0f / l[i];
        if (a->lse) a->lse[attn_row(a, &a->sl, x, b, g, i)] = (float)(((double)m[i] + (double)log2f(l[i])) * ATTN_LN2);
    }
    VEC_NAME(lanes_to_rows)(out, o, x->n, E, inv);
}

#endif
