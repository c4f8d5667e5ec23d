/* Mamba-2's body (the drawing and its formulas: searchspace/mamba2.c).
 * State: [B, k-1, Di + 2GS], the last inputs of the convolution, then [B,H,P,S]. */
#include "model/internal.h"

enum { EXPAND, HEAD_DIM, STATE, CONV, GROUPS };
static const char *const params[] = {"expand", "head_dim", "state", "conv", "groups", NULL};

enum { IN, TAPS, TAPS_BIAS, DT_BIAS, A_LOG, SKIP, NORM, OUT, IN_BIAS, OUT_BIAS }; /* tensors; the last two with the architecture's bias alone */

struct dims {
    int64_t N, inner, H, P, G, S, mixed, in; /* tokens, Di, heads of P, groups, state, Di + 2GS, rows of W_in */
};

static struct dims dims_of(const struct layer_ctx *c)
{
    struct dims d = {.N = (int64_t)c->B * c->T, .P = c->v[HEAD_DIM], .G = c->v[GROUPS], .S = c->v[STATE]};
    d.inner = (int64_t)c->arch->width * c->v[EXPAND];
    d.H = d.inner / d.P;
    d.mixed = d.inner + 2 * d.G * d.S;
    d.in = d.inner + d.mixed + d.H;
    return d;
}

/* What products alone read is kept as they round it. */
static enum kn_dtype factor(const struct layer_ctx *c)
{
    return c->arch->bias || c->state_context ? c->dtype : c->act;
}

struct saved {
    struct kn_tensor in, mixed; /* [N,in] z, xBC, dt;  [N,Di+2GS] xBC after the convolution */
    struct kn_tensor y, h;      /* [N,Di] what the scan gives, the gated norm of it */
    struct kn_tensor rstd;      /* [N,G] */
};

static uint64_t carve_saved(const struct layer_ctx *c, void *base, struct saved *s)
{
    struct dims d = dims_of(c);
    struct carve m = {base, c->dtype, 0};
    s->in = carve2(&m, d.N, d.in);
    s->mixed = carve2(&m, d.N, d.mixed);
    s->y = carve2(&m, d.N, d.inner);
    m.dtype = factor(c);
    s->h = carve2(&m, d.N, d.inner);
    m.dtype = c->dtype;
    s->rstd = carve2(&m, d.N, d.G);
    return m.used;
}

struct back {
    struct kn_tensor din, dmixed, dh; /* gradients of in, mixed, h */
};

static uint64_t carve_back(const struct layer_ctx *c, void *base, struct back *s)
{
    struct dims d = dims_of(c);
    struct carve m = {base, c->dtype, 0};
    m.dtype = factor(c);
    s->din = carve2(&m, d.N, d.in);
    m.dtype = c->dtype;
    s->dmixed = carve2(&m, d.N, d.mixed);
    s->dh = carve2(&m, d.N, d.inner);
    return m.used;
}

static uint64_t saved_bytes(const struct layer_ctx *c)
{
    struct saved s;
    return carve_saved(c, NULL, &s);
}

static uint64_t scratch_bytes(const struct layer_ctx *c, bool train)
{
    struct back s;
    if (c->state_context) return saved_bytes(c); /* decode is forward on scratch */
    return train ? carve_back(c, NULL, &s) : 0;
}

static uint64_t state_bytes(const struct layer_ctx *c)
{
    struct dims d = dims_of(c);
    return (uint64_t)c->B * (uint64_t)((c->v[CONV] - 1) * d.mixed + d.inner * d.S) * kn_dtype_size(c->dtype);
}

/* The parts of [N,in]: z [N,Di], xBC [B,T,Di+2GS], dt [B,T,H]. */
struct parts {
    struct kn_tensor z, mixed, dt;
};

static struct parts parts_of(const struct layer_ctx *c, const struct kn_tensor *in)
{
    struct dims d = dims_of(c);
    struct kn_tensor by_time = kn_t3(in->p, in->dtype, c->B, c->T, d.in);
    return (struct parts){kn_slice(in, 1, 0, d.inner), kn_slice(&by_time, 2, d.inner, d.mixed),
                          kn_slice(&by_time, 2, d.inner + d.mixed, d.H)};
}

/* The parts of [N,Di+2GS]: x [B,T,H,P], B and C [B,T,G,S]. */
struct operands {
    struct kn_tensor x, b, c;
};

static struct kn_tensor columns(const struct layer_ctx *c, const struct kn_tensor *mixed, int64_t from, int64_t groups, int64_t each)
{
    struct kn_tensor t = kn_t3(mixed->p, c->dtype, c->B, c->T, mixed->d[1]);
    t = kn_slice(&t, 2, from, groups * each);
    return kn_split(&t, 2, groups, each);
}

static struct operands operands_of(const struct layer_ctx *c, const struct kn_tensor *mixed)
{
    struct dims d = dims_of(c);
    return (struct operands){columns(c, mixed, 0, d.H, d.P), columns(c, mixed, d.inner, d.G, d.S),
                             columns(c, mixed, d.inner + d.G * d.S, d.G, d.S)};
}

static struct kn_tensor taps_of(const struct layer_ctx *c, const struct kn_tensor *w)
{
    return kn_t2(w[TAPS].p, c->dtype, dims_of(c).mixed, c->v[CONV]);
}

static const struct kn_tensor *bias_of(const struct layer_ctx *c, const struct kn_tensor *w, int which)
{
    return c->arch->bias ? &w[which] : NULL;
}

/* inputs, state: of decode; NULL: zeros. */
static st_t forward_at(const struct layer_ctx *c, void *saved, const struct kn_tensor *inputs, const struct kn_tensor *state,
                       const struct kn_tensor *x, const struct kn_tensor *y)
{
    const struct kn_ops *op = c->dev->op;
    const struct kn_tensor *w = c->w;
    struct dims d = dims_of(c);
    struct saved s;
    carve_saved(c, saved, &s);
    struct parts in = parts_of(c, &s.in);
    struct operands o = operands_of(c, &s.mixed);
    struct kn_tensor taps = taps_of(c, w), mixed = kn_t3(s.mixed.p, c->dtype, c->B, c->T, d.mixed);
    struct kn_tensor heads = kn_t4(s.y.p, c->dtype, c->B, c->T, d.H, d.P);
    TRY(body_product(c, x, &w[IN], bias_of(c, w, IN_BIAS), &s.in));
    TRY(op->conv(c->dev, &in.mixed, &taps, &w[TAPS_BIAS], 1, inputs, &mixed));
    TRY(op->ssd(c->dev, &o.x, &in.dt, &w[DT_BIAS], &w[A_LOG], &o.b, &o.c, &w[SKIP], state, &heads));
    TRY(op->gatednorm(c->dev, &s.y, &in.z, &w[NORM], d.inner / d.G, MODEL_NORM_EPS, 1, &s.h, &s.rstd));
    return body_product(c, &s.h, &w[OUT], bias_of(c, w, OUT_BIAS), y);
}

static st_t forward(const struct layer_ctx *c, const struct kn_tensor *x, const struct kn_tensor *y)
{
    return forward_at(c, c->saved, NULL, NULL, x, y);
}

static st_t decode(const struct layer_ctx *c, const struct kn_tensor *x, const struct kn_tensor *y)
{
    struct dims d = dims_of(c);
    struct kn_tensor inputs = kn_t3(c->state, c->dtype, c->B, c->v[CONV] - 1, d.mixed);
    void *behind = (char *)c->state + (size_t)kn_count(&inputs) * kn_dtype_size(c->dtype);
    struct kn_tensor state = kn_t4(behind, c->dtype, c->B, d.H, d.P, d.S);
    if (c->pos == 0) {
        TRY(c->dev->op->fill(c->dev, &inputs, 0));
        TRY(c->dev->op->fill(c->dev, &state, 0));
    }
    return forward_at(c, c->scratch, &inputs, &state, x, y);
}

/* The scan's output gives its memory to its gradient. */
static st_t backward(const struct layer_ctx *c, const struct kn_tensor *x, const struct kn_tensor *dy,
                     const struct kn_tensor *dx)
{
    const struct kn_ops *op = c->dev->op;
    const struct kn_tensor *w = c->w, *g = c->g;
    struct dims d = dims_of(c);
    struct saved s;
    struct back b;
    carve_saved(c, c->saved, &s);
    carve_back(c, c->scratch, &b);
    struct parts in = parts_of(c, &s.in), din = parts_of(c, &b.din);
    struct operands o = operands_of(c, &s.mixed), od = operands_of(c, &b.dmixed);
    struct kn_tensor taps = taps_of(c, w), dtaps = taps_of(c, g), dmixed = kn_t3(b.dmixed.p, c->dtype, c->B, c->T, d.mixed);
    struct kn_tensor dheads = kn_t4(s.y.p, c->dtype, c->B, c->T, d.H, d.P);
    TRY(body_product_bwd(c, &s.h, &w[OUT], dy, &g[OUT], bias_of(c, g, OUT_BIAS), 0, &b.dh));
    TRY(op->gatednorm_bwd(c->dev, &s.y, &in.z, &w[NORM], d.inner / d.G, 1, &s.rstd, &b.dh, &s.y, &din.z, &g[NORM]));
    TRY(op->ssd_bwd(c->dev, &o.x, &in.dt, &w[DT_BIAS], &w[A_LOG], &o.b, &o.c, &w[SKIP], &dheads, &od.x, &din.dt, &g[DT_BIAS],
                    &g[A_LOG], &od.b, &od.c, &g[SKIP]));
    TRY(op->conv_bwd(c->dev, &in.mixed, &taps, &w[TAPS_BIAS], 1, &dmixed, &din.mixed, &dtaps, &g[TAPS_BIAS]));
    return body_product_bwd(c, x, &w[IN], &b.din, &g[IN], bias_of(c, g, IN_BIAS), 0, dx);
}

const struct layer_body body_mamba2 = {
    .name = "mamba2",
    .half_input = true,
    .params = params,
    .saved_bytes = saved_bytes,
    .scratch_bytes = scratch_bytes,
    .state_bytes = state_bytes,
    .forward = forward,
    .backward = backward,
    .decode = decode,
};
