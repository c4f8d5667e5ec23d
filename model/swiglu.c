/* SwiGLU's body (the drawing and its formula: searchspace/swiglu.c). Full: gate and up are one product, their matrices
 * being one run of rows. Gate and up are saved; the hidden units that the last product reads are made again in the backward.
 * Low rank: every matrix W = B A; what lies between A and B is saved, r numbers a row. */
#include "model/internal.h"

enum { HIDDEN, RANK };
static const char *const params[] = {"hidden", "rank", NULL};

enum { GATE, UP, DOWN };                             /* tensors when full */
enum { GATE_A, GATE_B, UP_A, UP_B, DOWN_A, DOWN_B }; /* of low rank */

/* The three biases come last; NULL without. */
static const struct kn_tensor *bias_of(const struct layer_ctx *c, const struct kn_tensor *t, int which)
{
    return c->arch->bias ? &t[(c->v[RANK] ? DOWN_B : DOWN) + 1 + which] : NULL;
}

struct saved {
    struct kn_tensor gu, g, u; /* [N,2F], its halves [N,F] */
    struct kn_tensor low[3];   /* low rank: A x for gate, up, down [N,r] */
};

/* What lies between the products, where nothing but products and swiglu touches it. */
static enum kn_dtype between(const struct layer_ctx *c)
{
    return c->v[RANK] || c->arch->bias || c->state_context ? c->dtype : c->act;
}

static uint64_t carve_saved(const struct layer_ctx *c, void *base, struct saved *s)
{
    int64_t N = (int64_t)c->B * c->T, F = c->v[HIDDEN], r = c->v[RANK];
    struct carve m = {base, between(c), 0};
    s->gu = carve2(&m, N, 2 * F);
    if (r)
        for (int i = 0; i < 3; i++) s->low[i] = carve2(&m, N, r);
    if (base) s->g = kn_slice(&s->gu, 1, 0, F), s->u = kn_slice(&s->gu, 1, F, F);
    return m.used;
}

struct work {
    struct kn_tensor h, dlow; /* [N,F], its gradient before it in the backward; there, low rank: [N,r] */
};

static uint64_t carve_work(const struct layer_ctx *c, void *base, bool back, struct work *s)
{
    int64_t N = (int64_t)c->B * c->T;
    struct carve m = {base, between(c), 0};
    s->h = carve2(&m, N, c->v[HIDDEN]);
    if (back && c->v[RANK]) s->dlow = carve2(&m, N, c->v[RANK]);
    return m.used;
}

static uint64_t saved_bytes(const struct layer_ctx *c)
{
    struct saved s;
    return carve_saved(c, NULL, &s);
}

/* Decode is forward on scratch: what would be saved, then the rest. */
static uint64_t scratch_bytes(const struct layer_ctx *c, bool train)
{
    struct work s;
    return (c->state_context ? saved_bytes(c) : 0) + carve_work(c, NULL, train, &s);
}

static uint64_t state_bytes(const struct layer_ctx *c)
{
    (void)c;
    return 0;
}

/* The gate and up matrices as one [2F,D]. */
static struct kn_tensor joined(const struct layer_ctx *c, const struct kn_tensor *w)
{
    return kn_t2(w[GATE].p, w[GATE].dtype, 2 * (int64_t)c->v[HIDDEN], c->arch->width);
}

static st_t forward_at(const struct layer_ctx *c, void *saved, void *work, const struct kn_tensor *x, const struct kn_tensor *y)
{
    struct saved s;
    struct work o;
    carve_saved(c, saved, &s);
    carve_work(c, work, false, &o);
    const struct kn_tensor *w = c->w;
    if (c->v[RANK]) {
        TRY(body_product(c, x, &w[GATE_A], NULL, &s.low[GATE]));
        TRY(body_product(c, &s.low[GATE], &w[GATE_B], bias_of(c, w, GATE), &s.g));
        TRY(body_product(c, x, &w[UP_A], NULL, &s.low[UP]));
        TRY(body_product(c, &s.low[UP], &w[UP_B], bias_of(c, w, UP), &s.u));
    } else {
        struct kn_tensor wgu = joined(c, w);
        TRY(body_product(c, x, &wgu, NULL, &s.gu));
        if (c->arch->bias) {
            TRY(body_bias(c, bias_of(c, w, GATE), &s.g));
            TRY(body_bias(c, bias_of(c, w, UP), &s.u));
        }
    }
    TRY(c->dev->op->swiglu(c->dev, &s.g, &s.u, &o.h));
    if (!c->v[RANK]) return body_product(c, &o.h, &w[DOWN], bias_of(c, w, DOWN), y);
    TRY(body_product(c, &o.h, &w[DOWN_A], NULL, &s.low[DOWN]));
    return body_product(c, &s.low[DOWN], &w[DOWN_B], bias_of(c, w, DOWN), y);
}

static st_t forward(const struct layer_ctx *c, const struct kn_tensor *x, const struct kn_tensor *y)
{
    return forward_at(c, c->saved, c->scratch, x, y);
}

static st_t decode(const struct layer_ctx *c, const struct kn_tensor *x, const struct kn_tensor *y)
{
    return forward_at(c, c->scratch, (char *)c->scratch + saved_bytes(c), x, y);
}

static bool branch(const struct layer_ctx *c, struct kn_branch *out)
{
    if (c->v[RANK] || c->arch->bias) return false;
    *out = (struct kn_branch){.kind = KN_BRANCH_FFN};
    out->ffn = (struct kn_branch_ffn){.one = {.gate = c->w[GATE], .up = c->w[UP], .down = c->w[DOWN]}};
    return true;
}

static bool units(const struct layer_ctx *c, int i, struct model_units *out)
{
    struct saved s;
    carve_saved(c, c->saved, &s);
    *out = (struct model_units){.u = s.g};
    return !i;
}

/* g and u give their memory to their gradients; h's gradient gives its own to h, which the last matrix's gradient waits for. */
static st_t backward(const struct layer_ctx *c, const struct kn_tensor *x, const struct kn_tensor *dy,
                     const struct kn_tensor *dx)
{
    struct saved s;
    struct work o;
    carve_saved(c, c->saved, &s);
    carve_work(c, c->scratch, true, &o);
    const struct kn_tensor *w = c->w, *g = c->g, *last = &w[DOWN], *dlast = &g[DOWN], *d = dy, *dbias = bias_of(c, g, DOWN);
    if (c->v[RANK]) {
        TRY(body_product_bwd(c, &s.low[DOWN], &w[DOWN_B], dy, &g[DOWN_B], dbias, 0, &o.dlow));
        last = &w[DOWN_A], dlast = &g[DOWN_A], d = &o.dlow, dbias = NULL;
    }
    TRY(c->dev->op->gemm(c->dev, 1, d, last, 0, &o.h));
    TRY(c->dev->op->swiglu_bwd(c->dev, &s.g, &s.u, &o.h, &s.g, &s.u, &o.h));
    TRY(body_product_bwd(c, &o.h, last, d, dlast, dbias, 0, NULL));
    if (!c->v[RANK]) {
        struct kn_tensor wgu = joined(c, w), ggu = joined(c, g);
        if (c->arch->bias) {
            TRY(c->dev->op->sum_rows(c->dev, &s.g, bias_of(c, g, GATE)));
            TRY(c->dev->op->sum_rows(c->dev, &s.u, bias_of(c, g, UP)));
        }
        return body_product_bwd(c, x, &wgu, &s.gu, &ggu, NULL, 0, dx);
    }
    TRY(body_product_bwd(c, &s.low[GATE], &w[GATE_B], &s.g, &g[GATE_B], bias_of(c, g, GATE), 0, &o.dlow));
    TRY(body_product_bwd(c, x, &w[GATE_A], &o.dlow, &g[GATE_A], NULL, 0, dx));
    TRY(body_product_bwd(c, &s.low[UP], &w[UP_B], &s.u, &g[UP_B], bias_of(c, g, UP), 0, &o.dlow));
    return body_product_bwd(c, x, &w[UP_A], &o.dlow, &g[UP_A], NULL, 1, dx);
}

const struct layer_body body_swiglu = {
    .name = "swiglu",
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
