/* Gated DeltaNet's body (the drawing and its formulas: searchspace/gated_delta.c). The six projections of x are one
 * product: their matrices are one run of rows.
 * State: the last conv - 1 inputs of q's, k's and v's convolutions, [B,conv-1,channels] each, then S [B,H,K,V]. */
#include <math.h>

#include "model/internal.h"

#define UNIT_EPS 1e-6 /* of the lengths of q and k, fixed in the class */

enum { HEADS, KEY_HEADS, HEAD_DIM, VALUE_DIM, CONV };
static const char *const params[] = {"heads", "key_heads", "head_dim", "value_dim", "conv", NULL};

enum { IN_Q, IN_K, IN_V, IN_Z, IN_B, IN_A, OUT, TAPS_Q, TAPS_K, TAPS_V, A_LOG, DT_BIAS, NORM }; /* tensors */

struct dims {
    int64_t N, H, G, K, V, keys, values, C, M; /* columns: of q or k, of v or z, of q, k and v, of all projections */
};

static struct dims dims_of(const struct layer_ctx *c)
{
    struct dims d = {.N = (int64_t)c->B * c->T, .H = c->v[HEADS], .G = c->v[KEY_HEADS], .K = c->v[HEAD_DIM], .V = c->v[VALUE_DIM]};
    d.keys = d.G * d.K;
    d.values = d.H * d.V;
    d.C = 2 * d.keys + d.values;
    d.M = d.C + d.values + 2 * d.H;
    return d;
}

struct saved {
    struct kn_tensor in, qkv;         /* [N,M] projections  [N,C] after the convolution */
    struct kn_tensor g, beta;         /* [N,H] */
    struct kn_tensor o, rstd, normed; /* [N,HV] of the scan  [N,H]  [N,HV] normed and gated */
};

static uint64_t carve_saved(const struct layer_ctx *c, void *base, struct saved *s)
{
    struct dims d = dims_of(c);
    struct carve m = {base, c->dtype, 0};
    s->in = carve2(&m, d.N, d.M);
    s->qkv = carve2(&m, d.N, d.C);
    s->g = carve2(&m, d.N, d.H);
    s->beta = carve2(&m, d.N, d.H);
    s->o = carve2(&m, d.N, d.values);
    s->rstd = carve2(&m, d.N, d.H);
    s->normed = carve2(&m, d.N, d.values);
    return m.used;
}

struct back {
    struct kn_tensor dnormed, din, dqkv, dg, dbeta;
};

static uint64_t carve_back(const struct layer_ctx *c, void *base, struct back *s)
{
    struct dims d = dims_of(c);
    struct carve m = {base, c->dtype, 0};
    s->dnormed = carve2(&m, d.N, d.values);
    s->din = carve2(&m, d.N, d.M);
    s->dqkv = carve2(&m, d.N, d.C);
    s->dg = carve2(&m, d.N, d.H);
    s->dbeta = carve2(&m, d.N, d.H);
    return m.used;
}

static uint64_t saved_bytes(const struct layer_ctx *c)
{
    struct saved s;
    return carve_saved(c, NULL, &s);
}

static uint64_t scratch_bytes(const struct layer_ctx *c, bool train)
{
    struct back b;
    if (c->state_context) return saved_bytes(c); /* decode is forward on scratch */
    return train ? carve_back(c, NULL, &b) : 0;
}

static uint64_t state_bytes(const struct layer_ctx *c)
{
    struct dims d = dims_of(c);
    int64_t numbers = d.H * d.K * d.V + (c->v[CONV] - 1) * d.C;
    return (uint64_t)c->B * (uint64_t)numbers * kn_dtype_size(c->dtype);
}

/* Where the columns of q, k, v begin, and how many there are. */
static void columns(const struct dims *d, int which, int64_t *from, int64_t *n)
{
    *from = which * d->keys;
    *n = which == 2 ? d->values : d->keys;
}

/* q, k or v as [B,T,heads,size], in a matrix whose first columns are q, k, v. */
static struct kn_tensor by_heads(const struct layer_ctx *c, const struct kn_tensor *x, int which)
{
    struct dims d = dims_of(c);
    int64_t from, n, heads = which == 2 ? d.H : d.G, size = which == 2 ? d.V : d.K, row = x->s[0];
    columns(&d, which, &from, &n);
    struct kn_tensor t = kn_slice(x, 1, from, n);
    return (struct kn_tensor){t.p, c->dtype, 4, {c->B, c->T, heads, size}, {c->T * row, row, size, 1}};
}

/* Columns of a matrix as [B,T,n]. */
static struct kn_tensor by_time(const struct layer_ctx *c, const struct kn_tensor *x, int64_t from, int64_t n)
{
    struct kn_tensor t = kn_slice(x, 1, from, n);
    return (struct kn_tensor){t.p, c->dtype, 3, {c->B, c->T, n}, {c->T * x->s[0], x->s[0], 1}};
}

static struct kn_tensor taps_of(const struct layer_ctx *c, const struct kn_tensor *w)
{
    return kn_t2(w->p, c->dtype, w->d[0], c->v[CONV]);
}

static struct kn_tensor joined(const struct layer_ctx *c, const struct kn_tensor *w)
{
    return kn_t2(w[IN_Q].p, w[IN_Q].dtype, dims_of(c).M, c->arch->width);
}

/* z, b, a: after q, k, v */
static void rest(const struct layer_ctx *c, const struct kn_tensor *in, struct kn_tensor *z, struct kn_tensor *b,
                 struct kn_tensor *a)
{
    struct dims d = dims_of(c);
    *z = kn_slice(in, 1, d.C, d.values);
    *b = kn_slice(in, 1, d.C + d.values, d.H);
    *a = kn_slice(in, 1, d.C + d.values + d.H, d.H);
}

static double scale_of(const struct layer_ctx *c)
{
    return 1 / sqrt((double)c->v[HEAD_DIM]);
}

/* state: three convolutions' and S, or NULL: from zero, nothing kept. */
static st_t forward_at(const struct layer_ctx *c, void *saved, const struct kn_tensor *state, const struct kn_tensor *x,
                       const struct kn_tensor *y)
{
    const struct kn_ops *op = c->dev->op;
    struct dims d = dims_of(c);
    struct saved s;
    struct kn_tensor w = joined(c, c->w), z, b, a;
    carve_saved(c, saved, &s);
    TRY(body_product(c, x, &w, NULL, &s.in));
    for (int i = 0; i < 3; i++) {
        int64_t from, n;
        columns(&d, i, &from, &n);
        struct kn_tensor in = by_time(c, &s.in, from, n), out = by_time(c, &s.qkv, from, n);
        struct kn_tensor taps = taps_of(c, &c->w[TAPS_Q + i]);
        TRY(op->conv(c->dev, &in, &taps, NULL, 1, state ? &state[i] : NULL, &out));
    }
    rest(c, &s.in, &z, &b, &a);
    TRY(op->delta_gates(c->dev, &a, &b, &c->w[A_LOG], &c->w[DT_BIAS], &s.g, &s.beta));
    struct kn_tensor q = by_heads(c, &s.qkv, 0), k = by_heads(c, &s.qkv, 1), v = by_heads(c, &s.qkv, 2);
    struct kn_tensor g = by_time(c, &s.g, 0, d.H), beta = by_time(c, &s.beta, 0, d.H);
    struct kn_tensor o = kn_t4(s.o.p, c->dtype, c->B, c->T, d.H, d.V);
    TRY(op->delta_rule(c->dev, &q, &k, &v, &g, &beta, UNIT_EPS, scale_of(c), state ? &state[3] : NULL, &o));
    TRY(op->gatednorm(c->dev, &s.o, &z, &c->w[NORM], d.V, MODEL_NORM_EPS, 0, &s.normed, &s.rstd));
    return body_product(c, &s.normed, &c->w[OUT], NULL, y);
}

static st_t forward(const struct layer_ctx *c, const struct kn_tensor *x, const struct kn_tensor *y)
{
    return forward_at(c, c->saved, NULL, x, y);
}

static st_t decode(const struct layer_ctx *c, const struct kn_tensor *x, const struct kn_tensor *y)
{
    struct dims d = dims_of(c);
    struct kn_tensor state[4];
    char *at = c->state;
    for (int i = 0; i < 3; i++) {
        int64_t from, n;
        columns(&d, i, &from, &n);
        state[i] = kn_t3(at, c->dtype, c->B, c->v[CONV] - 1, n);
        at += (size_t)kn_count(&state[i]) * kn_dtype_size(c->dtype);
    }
    state[3] = kn_t4(at, c->dtype, c->B, d.H, d.K, d.V);
    for (int i = 0; i < 4 && c->pos == 0; i++) TRY(c->dev->op->fill(c->dev, &state[i], 0));
    return forward_at(c, c->scratch, state, x, y);
}

/* The scan's output gives its memory to its gradient. */
static st_t backward(const struct layer_ctx *c, const struct kn_tensor *x, const struct kn_tensor *dy,
                     const struct kn_tensor *dx)
{
    const struct kn_ops *op = c->dev->op;
    struct dims d = dims_of(c);
    struct saved s;
    struct back t;
    struct kn_tensor w = joined(c, c->w), dw = joined(c, c->g), z, b, a, dz, db, da;
    carve_saved(c, c->saved, &s);
    carve_back(c, c->scratch, &t);
    rest(c, &s.in, &z, &b, &a);
    rest(c, &t.din, &dz, &db, &da);
    TRY(body_product_bwd(c, &s.normed, &c->w[OUT], dy, &c->g[OUT], NULL, 0, &t.dnormed));
    TRY(op->gatednorm_bwd(c->dev, &s.o, &z, &c->w[NORM], d.V, 0, &s.rstd, &t.dnormed, &s.o, &dz, &c->g[NORM]));
    struct kn_tensor q = by_heads(c, &s.qkv, 0), k = by_heads(c, &s.qkv, 1), v = by_heads(c, &s.qkv, 2);
    struct kn_tensor dq = by_heads(c, &t.dqkv, 0), dk = by_heads(c, &t.dqkv, 1), dv = by_heads(c, &t.dqkv, 2);
    struct kn_tensor g = by_time(c, &s.g, 0, d.H), beta = by_time(c, &s.beta, 0, d.H);
    struct kn_tensor dg = by_time(c, &t.dg, 0, d.H), dbeta = by_time(c, &t.dbeta, 0, d.H);
    struct kn_tensor dout = kn_t4(s.o.p, c->dtype, c->B, c->T, d.H, d.V);
    TRY(op->delta_rule_bwd(c->dev, &q, &k, &v, &g, &beta, UNIT_EPS, scale_of(c), &dout, &dq, &dk, &dv, &dg, &dbeta));
    TRY(op->delta_gates_bwd(c->dev, &a, &b, &c->w[A_LOG], &c->w[DT_BIAS], &t.dg, &t.dbeta, &da, &db, &c->g[A_LOG],
                            &c->g[DT_BIAS]));
    for (int i = 0; i < 3; i++) {
        int64_t from, n;
        columns(&d, i, &from, &n);
        struct kn_tensor in = by_time(c, &s.in, from, n), din = by_time(c, &t.din, from, n);
        struct kn_tensor dconv = by_time(c, &t.dqkv, from, n);
        struct kn_tensor taps = taps_of(c, &c->w[TAPS_Q + i]), dtaps = taps_of(c, &c->g[TAPS_Q + i]);
        TRY(op->conv_bwd(c->dev, &in, &taps, NULL, 1, &dconv, &din, &dtaps, NULL));
    }
    return body_product_bwd(c, x, &w, &t.din, &dw, NULL, 0, dx);
}

const struct layer_body body_gated_delta = {
    .name = "gated_delta",
    .half_input = true,
    .params = params,
    .saved_bytes = saved_bytes,
    .scratch_bytes = scratch_bytes,
    .state_bytes = state_bytes,
    .forward = forward,
    .backward = backward,
    .decode = decode,
};
