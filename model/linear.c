/* Gated linear attention's body (the drawing and its formulas: searchspace/linear.c). q, k, v, z and the inner side of
 * the gates are one product: their matrices are one run of rows. State: S [B,H,K,V]. */
#include <math.h>

#include "model/internal.h"

#define GATE_SHARE (1.0 / 16) /* of the logarithm of the sigmoid, fixed */

enum { HEADS, HEAD_DIM, VALUE_DIM, GATE_RANK };
static const char *const params[] = {"heads", "head_dim", "value_dim", "gate_rank", NULL};

enum { IN_Q, IN_K, IN_V, IN_Z, GATE_IN, GATE_OUT, OUT, GATE_BIAS, NORM }; /* tensors */

struct dims {
    int64_t N, H, K, V, r, keys, values, M; /* columns: of q, k or g, of v or z, of the first product */
};

static struct dims dims_of(const struct layer_ctx *c)
{
    struct dims d = {.N = (int64_t)c->B * c->T, .H = c->v[HEADS], .K = c->v[HEAD_DIM], .V = c->v[VALUE_DIM], .r = c->v[GATE_RANK]};
    d.keys = d.H * d.K;
    d.values = d.H * d.V;
    d.M = 2 * d.keys + 2 * d.values + d.r;
    return d;
}

struct saved {
    struct kn_tensor in, gate, g;     /* [N,M]  [N,HK] before the sigmoid, after its logarithm */
    struct kn_tensor o, rstd, normed; /* [N,HV] of the scan  [N,H]  [N,HV] normed and gated */
};

static uint64_t carve_saved(const struct layer_ctx *c, void *base, struct saved *s)
{
    struct dims d = dims_of(c);
    struct carve m = {base, c->dtype, 0};
    s->in = carve2(&m, d.N, d.M);
    s->gate = carve2(&m, d.N, d.keys);
    s->g = carve2(&m, d.N, d.keys);
    s->o = carve2(&m, d.N, d.values);
    s->rstd = carve2(&m, d.N, d.H);
    s->normed = carve2(&m, d.N, d.values);
    return m.used;
}

struct back {
    struct kn_tensor dnormed, din, dg; /* [N,HV]  [N,M]  [N,HK] */
};

static uint64_t carve_back(const struct layer_ctx *c, void *base, struct back *s)
{
    struct dims d = dims_of(c);
    struct carve m = {base, c->dtype, 0};
    s->dnormed = carve2(&m, d.N, d.values);
    s->din = carve2(&m, d.N, d.M);
    s->dg = carve2(&m, d.N, d.keys);
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
    return (uint64_t)c->B * (uint64_t)(d.keys * d.V) * kn_dtype_size(c->dtype);
}

/* n columns of a matrix from `from` on as [B,T,H,n/H]. */
static struct kn_tensor by_heads(const struct layer_ctx *c, const struct kn_tensor *x, int64_t from, int64_t n)
{
    struct kn_tensor t = kn_slice(x, 1, from, n);
    int64_t H = c->v[HEADS], row = x->s[0];
    return (struct kn_tensor){t.p, c->dtype, 4, {c->B, c->T, H, n / H}, {c->T * row, row, n / H, 1}};
}

struct heads {
    struct kn_tensor q, k, v, z, inner; /* [B,T,H,K] twice, [B,T,H,V], [N,HV], [N,r] */
};

static struct heads heads_of(const struct layer_ctx *c, const struct kn_tensor *in)
{
    struct dims d = dims_of(c);
    return (struct heads){by_heads(c, in, 0, d.keys), by_heads(c, in, d.keys, d.keys), by_heads(c, in, 2 * d.keys, d.values),
                          kn_slice(in, 1, 2 * d.keys + d.values, d.values), kn_slice(in, 1, d.M - d.r, d.r)};
}

static struct kn_tensor joined(const struct layer_ctx *c, const struct kn_tensor *w)
{
    return kn_t2(w[IN_Q].p, w[IN_Q].dtype, dims_of(c).M, c->arch->width);
}

static double scale_of(const struct layer_ctx *c)
{
    return 1 / sqrt((double)c->v[HEAD_DIM]);
}

/* state: S, or NULL: from zero, nothing kept. */
static st_t forward_at(const struct layer_ctx *c, void *saved, const struct kn_tensor *state, const struct kn_tensor *x,
                       const struct kn_tensor *y)
{
    const struct kn_ops *op = c->dev->op;
    struct dims d = dims_of(c);
    struct saved s;
    struct kn_tensor w = joined(c, c->w);
    carve_saved(c, saved, &s);
    TRY(body_product(c, x, &w, NULL, &s.in));
    struct heads in = heads_of(c, &s.in);
    TRY(body_product(c, &in.inner, &c->w[GATE_OUT], &c->w[GATE_BIAS], &s.gate));
    TRY(op->logsigmoid(c->dev, &s.gate, GATE_SHARE, &s.g));
    struct kn_tensor g = by_heads(c, &s.g, 0, d.keys), o = by_heads(c, &s.o, 0, d.values);
    TRY(op->gla(c->dev, &in.q, &in.k, &in.v, &g, scale_of(c), state, &o));
    TRY(op->gatednorm(c->dev, &s.o, &in.z, &c->w[NORM], d.V, MODEL_NORM_EPS, 0, &s.normed, &s.rstd));
    return body_product(c, &s.normed, &c->w[OUT], NULL, y);
}

static st_t forward(const struct layer_ctx *c, const struct kn_tensor *x, const struct kn_tensor *y)
{
    return forward_at(c, c->saved, NULL, x, y);
}

static st_t decode(const struct layer_ctx *c, const struct kn_tensor *x, const struct kn_tensor *y)
{
    struct dims d = dims_of(c);
    struct kn_tensor state = kn_t4(c->state, c->dtype, c->B, d.H, d.K, d.V);
    if (c->pos == 0) TRY(c->dev->op->fill(c->dev, &state, 0));
    return forward_at(c, c->scratch, &state, x, y);
}

/* The scan's output gives its memory to its gradient. */
static st_t backward(const struct layer_ctx *c, const struct kn_tensor *x, const struct kn_tensor *dy,
                     const struct kn_tensor *dx)
{
    const struct kn_ops *op = c->dev->op;
    struct dims d = dims_of(c);
    struct saved s;
    struct back t;
    struct kn_tensor w = joined(c, c->w), dw = joined(c, c->g);
    carve_saved(c, c->saved, &s);
    carve_back(c, c->scratch, &t);
    struct heads in = heads_of(c, &s.in), din = heads_of(c, &t.din);
    TRY(body_product_bwd(c, &s.normed, &c->w[OUT], dy, &c->g[OUT], NULL, 0, &t.dnormed));
    TRY(op->gatednorm_bwd(c->dev, &s.o, &in.z, &c->w[NORM], d.V, 0, &s.rstd, &t.dnormed, &s.o, &din.z, &c->g[NORM]));
    struct kn_tensor g = by_heads(c, &s.g, 0, d.keys), dg = by_heads(c, &t.dg, 0, d.keys), dout = by_heads(c, &s.o, 0, d.values);
    TRY(op->gla_bwd(c->dev, &in.q, &in.k, &in.v, &g, scale_of(c), &dout, &din.q, &din.k, &din.v, &dg));
    TRY(op->logsigmoid_bwd(c->dev, &s.gate, GATE_SHARE, &t.dg, &t.dg));
    TRY(body_product_bwd(c, &in.inner, &c->w[GATE_OUT], &t.dg, &c->g[GATE_OUT], &c->g[GATE_BIAS], 0, &din.inner));
    return body_product_bwd(c, x, &w, &t.din, &dw, NULL, 0, dx);
}

const struct layer_body body_linear = {
    .name = "linear",
    .half_input = true,
    .params = params,
    .saved_bytes = saved_bytes,
    .scratch_bytes = scratch_bytes,
    .state_bytes = state_bytes,
    .forward = forward,
    .backward = backward,
    .decode = decode,
};
