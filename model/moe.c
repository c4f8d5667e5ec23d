/* The mixture of experts' body (the drawing and its formula: searchspace/moe.c).
 *
 * The pairs (token, expert) that the router makes, sorted by expert, are N k rows whatever it decides, so the plan holds for every batch. A pair's weight
 * multiplies what stands before the last product: the outputs are then summed as they are, and the gradient of a weight needs no output.
 * Saved are the routing and what the first products give; gathered rows and activations are made again in the backward.
 * In training with bf16 products rows, activations and their gradients are bf16 in memory; the routing stays f32. */
#include "model/internal.h"

enum { EXPERTS, ACTIVE, HIDDEN, SHARED, ROUTER, ACT, SHARED_GATE };
static const char *const params[] = {"experts", "active", "hidden", "shared", "router", "act", "shared_gate", NULL};

/* What lies between the products, where nothing but products and the ops of experts touches it. */
static enum kn_dtype between(const struct layer_ctx *c)
{
    return c->state_context ? c->dtype : c->act;
}

struct saved {
    struct kn_tensor z, p, w;             /* [N,E] [N,E] [N,k] */
    struct kn_tensor index;               /* [N,k] i32 */
    struct kn_tensor offset, order, row;  /* [E+1] [Nk] [Nk] i32 */
    struct kn_tensor g, u;                /* [Nk,F]; relu2: u has no memory, g holds W_up x */
    struct kn_tensor sgu, sg, su, sz;     /* shared experts: [N,2S], its halves; the gate's logit [N,1] */
};

struct work {
    struct kn_tensor rows, h, out;  /* [Nk,D] [Nk,F] [Nk,D] */
    struct kn_tensor sh;            /* [N,S] */
    struct kn_tensor dw, dz, dsz;   /* backward: [N,k] [N,E] [N,1] */
};

static struct kn_tensor whole(struct carve *m, int64_t n)
{
    return kn_t1(carve_bytes(m, (uint64_t)n, sizeof(int32_t)), KN_I32, n);
}

static int64_t shared_width(const struct layer_ctx *c)
{
    return (int64_t)c->v[SHARED] * c->v[HIDDEN];
}

/* Pairs are counted in 32 bits (ops.def, route). */
static st_t check(const struct layer_ctx *c, struct base_err *err)
{
    int64_t N = (int64_t)c->B * c->T;
    if (N <= INT32_MAX / c->v[ACTIVE]) return ST_OK;
    return base_err_set(err, ST_ENOFIT, "moe", "layer %d: %lld tokens at a time with %d experts each are over %d pairs; give a smaller batch or fewer active experts",
                        c->layer, (long long)N, c->v[ACTIVE], INT32_MAX);
}

static uint64_t carve_saved(const struct layer_ctx *c, void *base, struct saved *s)
{
    int64_t N = (int64_t)c->B * c->T, E = c->v[EXPERTS], k = c->v[ACTIVE], F = c->v[HIDDEN], S = shared_width(c);
    struct carve m = {base, c->dtype, 0};
    *s = (struct saved){.z = carve2(&m, N, E), .p = carve2(&m, N, E), .w = carve2(&m, N, k), .sz = carve2(&m, N, c->v[SHARED_GATE])};
    s->index = whole(&m, N * k);
    s->index = kn_t2(s->index.p, KN_I32, N, k);
    s->offset = whole(&m, E + 1);
    s->order = whole(&m, N * k);
    s->row = whole(&m, N * k);
    m.dtype = between(c);
    s->g = carve2(&m, N * k, F);
    if (!c->v[ACT]) s->u = carve2(&m, N * k, F);
    if (S) s->sgu = carve2(&m, N, c->v[ACT] ? S : 2 * S);
    if (!S || !base) return m.used;
    s->sg = kn_slice(&s->sgu, 1, 0, S);
    if (!c->v[ACT]) s->su = kn_slice(&s->sgu, 1, S, S);
    return m.used;
}

static uint64_t carve_work(const struct layer_ctx *c, void *base, bool back, struct work *s)
{
    int64_t N = (int64_t)c->B * c->T, E = c->v[EXPERTS], k = c->v[ACTIVE], F = c->v[HIDDEN], D = c->arch->width;
    struct carve m = {base, between(c), 0};
    *s = (struct work){.rows = carve2(&m, N * k, D), .h = carve2(&m, N * k, F), .out = carve2(&m, N * k, D)};
    if (c->v[SHARED]) s->sh = carve2(&m, N, shared_width(c));
    if (!back) return m.used;
    m.dtype = c->dtype;
    s->dw = carve2(&m, N, k);
    s->dz = carve2(&m, N, E);
    if (c->v[SHARED_GATE]) s->dsz = carve2(&m, N, 1);
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

/* Where the tensors stand in the drawing's order. */
struct weights {
    int gate, up, down, shared_in, shared_down, shared_gate; /* shared_in: gate's, with up's behind it */
};

static struct weights places(const struct layer_ctx *c)
{
    int gated = !c->v[ACT];
    return (struct weights){.gate = 1, .up = 1 + gated, .down = 2 + gated, .shared_in = 3 + gated, .shared_down = 4 + 2 * gated,
                            .shared_gate = 5 + 2 * gated};
}

/* The shared experts' first matrices as one. */
static struct kn_tensor joined(const struct layer_ctx *c, const struct kn_tensor *w)
{
    const struct kn_tensor *first = &w[places(c).shared_in];
    return kn_t2(first->p, first->dtype, (c->v[ACT] ? 1 : 2) * shared_width(c), c->arch->width);
}

static struct kn_tensor flat(const struct kn_tensor *w)
{
    return kn_t1(w->p, w->dtype, w->d[0] * w->d[1]);
}

/* y = the experts' sum + beta y */
static st_t experts(const struct layer_ctx *c, const struct saved *s, const struct work *o, const struct kn_tensor *x, double beta,
                    const struct kn_tensor *y)
{
    const struct kn_ops *op = c->dev->op;
    struct weights at = places(c);
    struct kn_tensor aux = kn_t1(c->aux, c->dtype, 1), w = flat(&s->w);
    TRY(body_product(c, x, &c->w[0], NULL, &s->z));
    TRY(op->route(c->dev, &s->z, c->v[ROUTER], &s->p, &s->index, &s->w, &s->offset, &s->order, &s->row, &aux));
    TRY(op->gather(c->dev, x, &s->order, &o->rows));
    for (int i = 0; i < (c->v[ACT] ? 1 : 2); i++) {
        struct kn_tensor wt = kn_transpose(&c->w[at.gate + i]);
        TRY(op->gemm_grouped(c->dev, &o->rows, &wt, &s->offset, 0, i ? &s->u : &s->g));
    }
    TRY(op->expert_act(c->dev, &s->g, &s->u, &s->order, &w, 0, &o->h));
    struct kn_tensor down = kn_transpose(&c->w[at.down]);
    TRY(op->gemm_grouped(c->dev, &o->h, &down, &s->offset, 0, &o->out));
    return op->combine(c->dev, &o->out, &s->row, beta, y);
}

static st_t shared(const struct layer_ctx *c, const struct saved *s, const struct work *o, const struct kn_tensor *x,
                   const struct kn_tensor *y)
{
    struct kn_tensor in = joined(c, c->w), gate = {0};
    TRY(body_product(c, x, &in, NULL, &s->sgu));
    if (c->v[SHARED_GATE]) {
        TRY(body_product(c, x, &c->w[places(c).shared_gate], NULL, &s->sz));
        gate = flat(&s->sz);
    }
    TRY(c->dev->op->expert_act(c->dev, &s->sg, &s->su, NULL, &gate, 1, &o->sh));
    return body_product(c, &o->sh, &c->w[places(c).shared_down], NULL, y);
}

static st_t forward_at(const struct layer_ctx *c, void *saved, void *work, const struct kn_tensor *x, const struct kn_tensor *y)
{
    struct saved s;
    struct work o;
    carve_saved(c, saved, &s);
    carve_work(c, work, false, &o);
    if (c->v[SHARED]) TRY(shared(c, &s, &o, x, y));
    return experts(c, &s, &o, x, c->v[SHARED] ? 1 : 0, y);
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
    struct weights at = places(c);
    *out = (struct kn_branch){.kind = KN_BRANCH_FFN};
    struct kn_branch_ffn *f = &out->ffn;
    f->router = c->w[0], f->active = c->v[ACTIVE], f->sigmoid = c->v[ROUTER], f->act = KN_RELU2;
    f->expert = (struct kn_ffn){.up = c->w[at.up], .down = c->w[at.down]};
    if (!c->v[ACT]) f->expert.gate = c->w[at.gate];
    if (!c->v[SHARED]) return true;
    f->one = (struct kn_ffn){.up = c->w[at.shared_down - 1], .down = c->w[at.shared_down]};
    if (!c->v[ACT]) f->one.gate = c->w[at.shared_in];
    if (c->v[SHARED_GATE]) f->one_gate = c->w[at.shared_gate];
    return true;
}

static bool units(const struct layer_ctx *c, int i, struct model_units *out)
{
    struct saved s;
    if (i > (c->v[SHARED] ? 1 : 0)) return false;
    carve_saved(c, c->saved, &s);
    *out = i ? (struct model_units){.u = c->v[ACT] ? s.sgu : s.sg}
             : (struct model_units){s.g, s.offset, s.order, c->v[EXPERTS], c->v[ACTIVE]};
    return true;
}

/* Leaves the gradient of the gathered rows in o->out and of the router's logits in o->dz. g and u give their memory to their gradients. */
static st_t experts_bwd(const struct layer_ctx *c, const struct saved *s, const struct work *o, const struct kn_tensor *x,
                        const struct kn_tensor *dy)
{
    const struct kn_ops *op = c->dev->op;
    struct weights at = places(c);
    struct kn_tensor w = flat(&s->w), dw = flat(&o->dw);
    TRY(op->gather(c->dev, dy, &s->order, &o->out));
    TRY(op->gemm_grouped(c->dev, &o->out, &c->w[at.down], &s->offset, 0, &o->h));
    TRY(op->expert_act_bwd(c->dev, &s->g, &s->u, &s->order, &w, 0, &o->h, &s->g, &s->u, &dw, &o->h));
    TRY(op->gemm_grouped_sum(c->dev, &o->out, &o->h, &s->offset, &c->g[at.down]));
    TRY(op->gather(c->dev, x, &s->order, &o->rows));
    for (int i = 0; i < (c->v[ACT] ? 1 : 2); i++) {
        const struct kn_tensor *d = i ? &s->u : &s->g;
        TRY(op->gemm_grouped_sum(c->dev, d, &o->rows, &s->offset, &c->g[at.gate + i]));
        TRY(op->gemm_grouped(c->dev, d, &c->w[at.gate + i], &s->offset, i, &o->out));
    }
    return op->route_bwd(c->dev, &s->z, c->v[ROUTER], &s->p, &s->index, &s->w, &s->offset, &o->dw, c->aux_weight, &o->dz);
}

/* dx += */
static st_t shared_bwd(const struct layer_ctx *c, const struct saved *s, const struct work *o, const struct kn_tensor *x,
                       const struct kn_tensor *dy, const struct kn_tensor *dx)
{
    struct weights at = places(c);
    struct kn_tensor in = joined(c, c->w), din = joined(c, c->g), gate = {0}, dgate = {0};
    if (c->v[SHARED_GATE]) gate = flat(&s->sz), dgate = flat(&o->dsz);
    struct kn_tensor dyt = kn_transpose(dy);
    const struct kn_ops *op = c->dev->op;
    TRY(op->gemm(c->dev, 1, dy, &c->w[at.shared_down], 0, &o->sh));
    TRY(op->expert_act_bwd(c->dev, &s->sg, &s->su, NULL, &gate, 1, &o->sh, &s->sg, &s->su, &dgate, &o->sh));
    TRY(op->gemm(c->dev, 1, &dyt, &o->sh, 1, &c->g[at.shared_down]));
    if (c->v[SHARED_GATE])
        TRY(body_product_bwd(c, x, &c->w[at.shared_gate], &o->dsz, &c->g[at.shared_gate], NULL, 1, dx));
    return body_product_bwd(c, x, &in, &s->sgu, &din, NULL, 1, dx);
}

static st_t backward(const struct layer_ctx *c, const struct kn_tensor *x, const struct kn_tensor *dy,
                     const struct kn_tensor *dx)
{
    struct saved s;
    struct work o;
    carve_saved(c, c->saved, &s);
    carve_work(c, c->scratch, true, &o);
    TRY(experts_bwd(c, &s, &o, x, dy));
    TRY(body_product_bwd(c, x, &c->w[0], &o.dz, &c->g[0], NULL, 0, dx));
    TRY(c->dev->op->combine(c->dev, &o.out, &s.row, 1, dx));
    return c->v[SHARED] ? shared_bwd(c, &s, &o, x, dy, dx) : ST_OK;
}

const struct layer_body body_moe = {
    .name = "moe",
    .half_input = true,
    .params = params,
    .check = check,
    .saved_bytes = saved_bytes,
    .scratch_bytes = scratch_bytes,
    .state_bytes = state_bytes,
    .forward = forward,
    .backward = backward,
    .decode = decode,
    .branch = branch,
    .units = units,
};
