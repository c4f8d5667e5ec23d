/* The gated short convolution's body (the drawing and its formula: searchspace/short_conv.c).
 * State: [B, k-1, D], the last inputs of the convolution. */
#include "model/internal.h"

enum { CONV };
static const char *const params[] = {"conv", NULL};

enum { IN, TAPS, OUT, IN_BIAS, TAPS_BIAS, OUT_BIAS }; /* tensors; biases with the architecture's alone */

struct saved {
    struct kn_tensor bcx, b, c, x; /* [N,3D], its thirds [N,D] */
    struct kn_tensor in, out, h;   /* [N,D]  B * x', conv of it, C * that */
};

static uint64_t carve_saved(const struct layer_ctx *c, void *base, struct saved *s)
{
    int64_t N = (int64_t)c->B * c->T, D = c->arch->width;
    struct carve m = {base, c->dtype, 0};
    s->bcx = carve2(&m, N, 3 * D);
    s->in = carve2(&m, N, D);
    s->out = carve2(&m, N, D);
    s->h = carve2(&m, N, D);
    if (base) {
        s->b = kn_slice(&s->bcx, 1, 0, D);
        s->c = kn_slice(&s->bcx, 1, D, D);
        s->x = kn_slice(&s->bcx, 1, 2 * D, D);
    }
    return m.used;
}

static uint64_t saved_bytes(const struct layer_ctx *c)
{
    struct saved s;
    return carve_saved(c, NULL, &s);
}

static uint64_t carve_back(const struct layer_ctx *c, void *base, struct kn_tensor *dh)
{
    struct carve m = {base, c->dtype, 0};
    *dh = carve2(&m, (int64_t)c->B * c->T, c->arch->width);
    return m.used;
}

static uint64_t scratch_bytes(const struct layer_ctx *c, bool train)
{
    struct kn_tensor dh;
    if (c->state_context) return saved_bytes(c); /* decode is forward on scratch */
    return train ? carve_back(c, NULL, &dh) : 0;
}

static uint64_t state_bytes(const struct layer_ctx *c)
{
    return (uint64_t)c->B * (uint64_t)(c->v[CONV] - 1) * (uint64_t)c->arch->width * kn_dtype_size(c->dtype);
}

/* [N,D] as [B,T,D] */
static struct kn_tensor by_time(const struct layer_ctx *c, const struct kn_tensor *x)
{
    return kn_t3(x->p, c->dtype, c->B, c->T, c->arch->width);
}

static struct kn_tensor taps_of(const struct layer_ctx *c, const struct kn_tensor *w)
{
    return kn_t2(w[TAPS].p, c->dtype, c->arch->width, c->v[CONV]);
}

static const struct kn_tensor *bias_of(const struct layer_ctx *c, const struct kn_tensor *w, int which)
{
    return c->arch->bias ? &w[which] : NULL;
}

static st_t forward_at(const struct layer_ctx *c, void *saved, const struct kn_tensor *state, const struct kn_tensor *x,
                       const struct kn_tensor *y)
{
    const struct kn_ops *op = c->dev->op;
    struct saved s;
    carve_saved(c, saved, &s);
    struct kn_tensor in = by_time(c, &s.in), out = by_time(c, &s.out), taps = taps_of(c, c->w);
    TRY(body_product(c, x, &c->w[IN], bias_of(c, c->w, IN_BIAS), &s.bcx));
    TRY(op->mul(c->dev, &s.b, &s.x, &s.in));
    TRY(op->conv(c->dev, &in, &taps, bias_of(c, c->w, TAPS_BIAS), 0, state, &out));
    TRY(op->mul(c->dev, &s.c, &s.out, &s.h));
    return body_product(c, &s.h, &c->w[OUT], bias_of(c, c->w, OUT_BIAS), y);
}

static st_t forward(const struct layer_ctx *c, const struct kn_tensor *x, const struct kn_tensor *y)
{
    return forward_at(c, c->saved, NULL, x, y);
}

static st_t decode(const struct layer_ctx *c, const struct kn_tensor *x, const struct kn_tensor *y)
{
    struct kn_tensor state = kn_t3(c->state, c->dtype, c->B, c->v[CONV] - 1, c->arch->width);
    if (c->pos == 0) TRY(c->dev->op->fill(c->dev, &state, 0));
    return forward_at(c, c->scratch, &state, x, y);
}

/* B, C, x' give their memory to their gradients, the convolution's output its to the gradient of its input. */
static st_t backward(const struct layer_ctx *c, const struct kn_tensor *x, const struct kn_tensor *dy,
                     const struct kn_tensor *dx)
{
    const struct kn_ops *op = c->dev->op;
    struct saved s;
    struct kn_tensor dh;
    carve_saved(c, c->saved, &s);
    carve_back(c, c->scratch, &dh);
    struct kn_tensor in = by_time(c, &s.in), din = by_time(c, &s.out), dout = by_time(c, &dh);
    struct kn_tensor taps = taps_of(c, c->w), dtaps = taps_of(c, c->g);
    TRY(body_product_bwd(c, &s.h, &c->w[OUT], dy, &c->g[OUT], bias_of(c, c->g, OUT_BIAS), 0, &dh));
    TRY(op->mul_bwd(c->dev, &s.c, &s.out, &dh, &s.c, &dh));
    TRY(op->conv_bwd(c->dev, &in, &taps, bias_of(c, c->w, TAPS_BIAS), 0, &dout, &din, &dtaps,
                     bias_of(c, c->g, TAPS_BIAS)));
    TRY(op->mul_bwd(c->dev, &s.b, &s.x, &s.out, &s.b, &s.x));
    return body_product_bwd(c, x, &c->w[IN], &s.bcx, &c->g[IN], bias_of(c, c->g, IN_BIAS), 0, dx);
}

const struct layer_body body_short_conv = {
    .name = "short_conv",
    .half_input = true,
    .params = params,
    .saved_bytes = saved_bytes,
    .scratch_bytes = scratch_bytes,
    .state_bytes = state_bytes,
    .forward = forward,
    .backward = backward,
    .decode = decode,
};
