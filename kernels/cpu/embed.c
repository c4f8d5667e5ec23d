/* Embedding: rows of a table by token, and the table's gradient. */
#ifndef VEC_PASS
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/rows.h"

#define SLICE                                                                                                      \
    32 /* columns a task of the backward takes: two cache lines, so that no two tasks write one line of an aligned \
          table */

#define VEC_FILE "kernels/cpu/embed.c"
#include "kernels/cpu/vec_each.h"

static void (*const add_each[])(float *w, int64_t ws, const float *x, int64_t xs, const int32_t *tok, int64_t ts,
                                int64_t n) = VEC_EACH(add);

struct ctx {
    struct kn_dev *dev;
    const struct kn_tensor *stored; /* the table, where it is not f32 */
    void (*add)(float *w, int64_t ws, const float *x, int64_t xs, const int32_t *tok, int64_t ts, int64_t n);
    const int32_t *tok;
    int64_t ts, n, d, step;
    struct rows w, x; /* x: out, or dout in the backward */
};

static void fwd_task(void *arg, int task, int worker)
{
    struct ctx *c = arg;
    int64_t end = (task + 1) * c->step < c->n ? (task + 1) * c->step : c->n;
    for (int64_t i = task * c->step; i < end; i++) {
        if (c->stored) {
            cpu_stored_row(c->dev, c->stored, c->tok[i * c->ts], c->x.p + i * c->x.s0);
            continue;
        }
        const float *w = c->w.p + c->tok[i * c->ts] * c->w.s0;
        float *x = c->x.p + i * c->x.s0;
        if (c->w.s1 == 1 && c->x.s1 == 1) {
            memcpy(x, w, (size_t)c->d * sizeof *x);
            continue;
        }
        for (int64_t j = 0; j < c->d; j++) x[j * c->x.s1] = w[j * c->w.s1];
    }
}

/* All tokens in their order, a slice of the columns: no two tasks share an element, and each element sees its tokens in
 * one order. */
static void bwd_task(void *arg, int task, int worker)
{
    struct ctx *c = arg;
    int64_t from = (int64_t)task * SLICE, len = c->d - from < SLICE ? c->d - from : SLICE;
    float *w = c->w.p + from * c->w.s1;
    const float *x = c->x.p + from * c->x.s1;
    if (c->w.s1 == 1 && c->x.s1 == 1 && len == SLICE) {
        c->add(w, c->w.s0, x, c->x.s0, c->tok, c->ts, c->n);
        return;
    }
    for (int64_t i = 0; i < c->n; i++)
        for (int64_t j = 0; j < len; j++) w[c->tok[i * c->ts] * c->w.s0 + j * c->w.s1] += x[i * c->x.s0 + j * c->x.s1];
}

static st_t begin(struct ctx *c, const struct kn_tensor *tok, const struct kn_tensor *w, const struct kn_tensor *x)
{
    if (x->dtype != KN_F32) return ST_ENOTSUP;
    if (w->dtype != KN_F32 && x->s[1] != 1) return ST_ENOTSUP;
    *c = (struct ctx){.stored = w->dtype == KN_F32 ? NULL : w, .tok = tok->p, .ts = tok->s[0], .n = tok->d[0], .d = w->d[1], .w = rows_of(w), .x = rows_of(x)};
    for (int64_t i = 0; i < c->n; i++)
        if (c->tok[i * c->ts] < 0 || c->tok[i * c->ts] >= w->d[0]) return ST_EINVAL;
    return ST_OK;
}

st_t cpu_embed(struct kn_dev *dev, const struct kn_tensor *tok, const struct kn_tensor *w, const struct kn_tensor *out)
{
    struct ctx c;
    st_t st = kn_check_embed(tok, w, out);
    if (!st) st = begin(&c, tok, w, out);
    if (st || c.n == 0 || c.d == 0) return st;
    c.dev = dev;
    c.step = rows_a_task(c.n, c.d, 8192);
    cpu_run(dev, fwd_task, &c, (int)((c.n + c.step - 1) / c.step), (double)c.n * (double)c.d * 8 / 10);
    return ST_OK;
}

st_t cpu_embed_bwd(struct kn_dev *dev, const struct kn_tensor *tok, const struct kn_tensor *dout,
                   const struct kn_tensor *dw)
{
    struct ctx c;
    st_t st = kn_check_embed_bwd(tok, dout, dw);
    if (!st) st = begin(&c, tok, dw, dout);
    if (st || c.n == 0 || c.d == 0) return st;
    c.add = add_each[cpu_of(dev)->isa];
    cpu_run(dev, bwd_task, &c, (int)((c.d + SLICE - 1) / SLICE), (double)c.n * (double)c.d * 12 / 10);
    return ST_OK;
}

#else

/* w[tok[i]] += x[i], rows of SLICE floats. */
static void VEC_NAME(add)(float *w, int64_t ws, const float *x, int64_t xs, const int32_t *tok, int64_t ts, int64_t n)
{
    for (int64_t i = 0; i < n; i++, x += xs) {
        float *p = w + tok[i * ts] * ws;
#pragma GCC unroll 8
        for (int j = 0; j < SLICE; j += VL) vf_store(p + j, vf_add(vf_load(p + j), vf_load(x + j)));
    }
}

#endif
