/* The body of mlp (the drawing and its formula: searchspace/mlp.c). up's bias is added in the pass that applies the
 * activation. */
#include "model/internal.h"

enum { HIDDEN, ACT };
static const char *const params[] = {"hidden", "act", NULL};

enum { UP, DOWN, UP_BIAS, DOWN_BIAS }; /* tensors */

struct saved {
    struct kn_tensor u, h; /* [N,F] before the activation, and after */
};

static uint64_t carve_saved(const struct layer_ctx *c, void *base, struct saved *s)
{
    int64_t N = (int64_t)c->B * c->T;
    struct carve m = {base, c->dtype, 0};
    s->u = carve2(&m, N, c->v[HIDDEN]);
    s->h = carve2(&m, N, c->v[HIDDEN]);
    return m.used;
}

static uint64_t carve_back(const struct layer_ctx *c, void *base, struct kn_tensor *dh)
{
    struct carve m = {base, c->dtype, 0};
    *dh = carve2(&m, (int64_t)c->B * c->T, c->v[HIDDEN]);
    return m.used;
}

static uint64_t saved_bytes(const struct layer_ctx *c)
{
    struct saved s;
    return carve_saved(c, NULL, &s);
}

static uint64_t scratch_bytes(const struct layer_ctx *c, bool train)
{
    struct kn_tensor dh;
    if (c->state_context) return saved_bytes(c); /* decode is forward on scratch */
    return train ? carve_back(c, NULL, &dh) : 0;
}

static uint64_t state_bytes(const struct layer_ctx *c)
{
    (void)c;
    return 0;
}

static const struct kn_tensor *bias_of(const struct layer_ctx *c, const struct kn_tensor *t, int which)
{
    return c->arch->bias ? &t[which] : NULL;
}

static st_t forward_at(const struct layer_ctx *c, void *saved, const struct kn_tensor *x, const struct kn_tensor *y)
{
    struct saved s;
    carve_saved(c, saved, &s);
    TRY(body_product(c, x, &c->w[UP], NULL, &s.u));
    TRY(c->dev->op->act(c->dev, c->v[ACT], &s.u, bias_of(c, c->w, UP_BIAS), &s.h));
    return body_product(c, &s.h, &c->w[DOWN], bias_of(c, c->w, DOWN_BIAS), y);
}

static st_t forward(const struct layer_ctx *c, const struct kn_tensor *x, const struct kn_tensor *y)
{
    return forward_at(c, c->saved, x, y);
}

static st_t decode(const struct layer_ctx *c, const struct kn_tensor *x, const struct kn_tensor *y)
{
    return forward_at(c, c->scratch, x, y);
}

static bool branch(const struct layer_ctx *c, struct kn_branch *out)
{
    if (c->arch->bias) return false;
    *out = (struct kn_branch){.kind = KN_BRANCH_FFN};
    out->ffn = (struct kn_branch_ffn){.act = c->v[ACT], .one = {.up = c->w[UP], .down = c->w[DOWN]}};
    return true;
}

static bool units(const struct layer_ctx *c, int i, struct model_units *out)
{
    struct saved s;
    carve_saved(c, c->saved, &s);
    *out = (struct model_units){.u = s.u};
    return !i;
}

static st_t backward(const struct layer_ctx *c, const struct kn_tensor *x, const struct kn_tensor *dy,
                     const struct kn_tensor *dx)
{
    struct saved s;
    struct kn_tensor dh;
    carve_saved(c, c->saved, &s);
    carve_back(c, c->scratch, &dh);
    TRY(body_product_bwd(c, &s.h, &c->w[DOWN], dy, &c->g[DOWN], bias_of(c, c->g, DOWN_BIAS), 0, &dh));
    TRY(c->dev->op->act_bwd(c->dev, c->v[ACT], &s.u, &dh, &dh));
    return body_product_bwd(c, x, &c->w[UP], &dh, &c->g[UP], bias_of(c, c->g, UP_BIAS), 0, dx);
}

const struct layer_body body_mlp = {
    .name = "mlp",
    .half_input = true,
    .params = params,
    .saved_bytes = saved_bytes,
    .scratch_bytes = scratch_bytes,
    .state_bytes = state_bytes,
    .forward = forward,
    .backward = backward,
    .decode = decode,
    .branch = branch,
    .units = units,
};
