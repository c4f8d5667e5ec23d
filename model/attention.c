/* Attention's body (the drawing and its formula: searchspace/attention.c). q, k and v are one product: their matrices
 * are one run of rows.
 *
 * Cache: [B, 2G, R, K], keys of every head, then values, so that each head's keys lie in one stream; R = room, at most
 * the window.
 * With a window smaller than the context the cache is a ring: position p lies in slot p mod R. */
#include <math.h>

#include "model/internal.h"

enum { HEADS, KV_HEADS, HEAD_DIM, WINDOW, ROPE };
static const char *const params[] = {"heads", "kv_heads", "head_dim", "window", "rope", NULL};

struct dims {
    int64_t N, H, G, K, M; /* M = (H + 2G) K: columns of qkv */
};

static struct dims dims_of(const struct layer_ctx *c)
{
    int64_t H = c->v[HEADS], G = c->v[KV_HEADS], K = c->v[HEAD_DIM];
    return (struct dims){(int64_t)c->B * c->T, H, G, K, (H + 2 * G) * K};
}

struct saved {
    struct kn_tensor qkv, out, lse; /* [N,M]  [N,HK]  [B,H,T] */
};

static uint64_t carve_saved(const struct layer_ctx *c, void *base, struct saved *s)
{
    struct dims d = dims_of(c);
    struct carve m = {base, c->dtype, 0};
    s->qkv = carve2(&m, d.N, d.M);
    s->out = carve2(&m, d.N, d.H * d.K);
    s->lse = kn_t3(carve2(&m, d.N, d.H).p, c->dtype, c->B, d.H, c->T);
    return m.used;
}

struct back {
    struct kn_tensor dout, dqkv; /* [N,HK]  [N,M] */
};

static uint64_t carve_back(const struct layer_ctx *c, void *base, struct back *s)
{
    struct dims d = dims_of(c);
    struct carve m = {base, c->dtype, 0};
    s->dout = carve2(&m, d.N, d.H * d.K);
    s->dqkv = carve2(&m, d.N, d.M);
    return m.used;
}

/* Slots of the cache; a ring when the window is the smaller. */
static int64_t room(const struct layer_ctx *c)
{
    int64_t w = c->v[WINDOW];
    return w > 0 && w < c->state_context ? w : c->state_context;
}

static bool is_ring(const struct layer_ctx *c)
{
    return room(c) < c->state_context;
}

struct step {
    struct kn_tensor qkv, out; /* [N,M]  [N,HK] */
    void *line; /* ring: keys and values of the window before and of the new tokens, in order: [B,2G,R-1+T,K] */
};

static uint64_t carve_step(const struct layer_ctx *c, void *base, struct step *s)
{
    struct dims d = dims_of(c);
    struct carve m = {base, c->dtype, 0};
    s->qkv = carve2(&m, d.N, d.M);
    s->out = carve2(&m, d.N, d.H * d.K);
    s->line = is_ring(c) && c->T > 1 ? carve2(&m, c->B * 2 * d.G * d.K, room(c) - 1 + c->T).p : NULL;
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
    struct step s;
    if (c->state_context) return carve_step(c, NULL, &s);
    return train ? carve_back(c, NULL, &b) : 0;
}

static uint64_t state_bytes(const struct layer_ctx *c)
{
    uint64_t row = 2 * (uint64_t)c->v[KV_HEADS] * (uint64_t)c->v[HEAD_DIM] * kn_dtype_size(c->dtype), n;
    return __builtin_mul_overflow(row * (uint64_t)c->B, (uint64_t)room(c), &n) || n > CARVE_MAX ? CARVE_MAX : n;
}

/* [N, heads K] as [B,T,heads,K] */
static struct kn_tensor by_heads(const struct layer_ctx *c, const struct kn_tensor *x, int64_t heads)
{
    return kn_t4(x->p, c->dtype, c->B, c->T, heads, c->v[HEAD_DIM]);
}

/* The q, k, v matrices as one [M,D]. */
static struct kn_tensor joined(const struct layer_ctx *c, const struct kn_tensor *w, int64_t M)
{
    return kn_t2(w[0].p, c->dtype, M, c->arch->width);
}

static st_t project(const struct layer_ctx *c, const struct kn_tensor *x, const struct kn_tensor *qkv, int64_t pos0)
{
    struct dims d = dims_of(c);
    struct kn_tensor w = joined(c, c->w, d.M);
    TRY(body_product(c, x, &w, NULL, qkv));
    if (!c->v[ROPE]) return ST_OK;
    struct kn_tensor heads = by_heads(c, qkv, d.H + 2 * d.G), qk = kn_slice(&heads, 2, 0, d.H + d.G);
    return c->dev->op->rope(c->dev, &qk, pos0, c->arch->rope_theta, 0);
}

static st_t output(const struct layer_ctx *c, const struct kn_tensor *out, const struct kn_tensor *y)
{
    return body_product(c, out, &c->w[3], NULL, y);
}

static double scale_of(const struct layer_ctx *c)
{
    return 1 / sqrt((double)c->v[HEAD_DIM]);
}

static st_t forward(const struct layer_ctx *c, const struct kn_tensor *x, const struct kn_tensor *y)
{
    struct dims d = dims_of(c);
    struct saved s;
    carve_saved(c, c->saved, &s);
    TRY(project(c, x, &s.qkv, 0));
    struct kn_tensor h = by_heads(c, &s.qkv, d.H + 2 * d.G), out = by_heads(c, &s.out, d.H);
    struct kn_tensor q = kn_slice(&h, 2, 0, d.H), k = kn_slice(&h, 2, d.H, d.G), v = kn_slice(&h, 2, d.H + d.G, d.G);
    TRY(c->dev->op->attention(c->dev, &q, &k, &v, c->v[WINDOW], scale_of(c), &out, c->g ? &s.lse : NULL));
    return output(c, &s.out, y);
}

static st_t backward(const struct layer_ctx *c, const struct kn_tensor *x, const struct kn_tensor *dy,
                     const struct kn_tensor *dx)
{
    const struct kn_ops *op = c->dev->op;
    struct dims d = dims_of(c);
    struct saved s;
    struct back b;
    carve_saved(c, c->saved, &s);
    carve_back(c, c->scratch, &b);
    struct kn_tensor w = joined(c, c->w, d.M), g = joined(c, c->g, d.M);
    struct kn_tensor h = by_heads(c, &s.qkv, d.H + 2 * d.G), out = by_heads(c, &s.out, d.H);
    struct kn_tensor q = kn_slice(&h, 2, 0, d.H), k = kn_slice(&h, 2, d.H, d.G), v = kn_slice(&h, 2, d.H + d.G, d.G);
    struct kn_tensor dh = by_heads(c, &b.dqkv, d.H + 2 * d.G), dout = by_heads(c, &b.dout, d.H);
    struct kn_tensor dq = kn_slice(&dh, 2, 0, d.H), dk = kn_slice(&dh, 2, d.H, d.G),
                     dv = kn_slice(&dh, 2, d.H + d.G, d.G);
    struct kn_tensor dqk = kn_slice(&dh, 2, 0, d.H + d.G);

    TRY(body_product_bwd(c, &s.out, &c->w[3], dy, &c->g[3], NULL, 0, &b.dout));
    TRY(op->attention_bwd(c->dev, &q, &k, &v, &out, &s.lse, &dout, c->v[WINDOW], scale_of(c), &dq, &dk, &dv));
    if (c->v[ROPE]) TRY(op->rope(c->dev, &dqk, 0, c->arch->rope_theta, 1));
    return body_product_bwd(c, x, &w, &b.dqkv, &g, NULL, 0, dx);
}

/* Copies n tokens between two [B,*,2G,K] views, from slot `from` to slot `to`. */
static st_t move(const struct layer_ctx *c, const struct kn_tensor *src, int64_t from, const struct kn_tensor *dst,
                 int64_t to, int64_t n)
{
    if (n <= 0) return ST_OK;
    struct kn_tensor a = kn_slice(src, 1, from, n), b = kn_slice(dst, 1, to, n);
    return c->dev->op->copy(c->dev, &a, &b);
}

/* As move, where the slots of one side are those of a ring of R: n <= R, in two pieces where it wraps. */
static st_t move_ring(const struct layer_ctx *c, const struct kn_tensor *src, int64_t from, const struct kn_tensor *dst,
                      int64_t to, int64_t n, int64_t R, bool ring_is_src)
{
    int64_t slot = ring_is_src ? from : to, first = slot + n > R ? R - slot : n;
    TRY(move(c, src, from, dst, to, first));
    return ring_is_src ? move(c, src, 0, dst, to + first, n - first) : move(c, src, from + first, dst, 0, n - first);
}

/* A cache or line of R slots, [B,2G,R,K], as [B,R,2G,K]. */
static struct kn_tensor by_slots(const struct layer_ctx *c, void *p, int64_t R)
{
    int64_t G2 = 2 * (int64_t)c->v[KV_HEADS], K = c->v[HEAD_DIM];
    return (struct kn_tensor){p, c->dtype, 4, {c->B, R, G2, K}, {G2 * R * K, K, R * K, 1}};
}

static st_t decode(const struct layer_ctx *c, const struct kn_tensor *x, const struct kn_tensor *y)
{
    struct dims d = dims_of(c);
    struct step s;
    carve_step(c, c->scratch, &s);
    TRY(project(c, x, &s.qkv, c->pos));
    int64_t T = c->T, R = room(c), S;
    struct kn_tensor h = by_heads(c, &s.qkv, d.H + 2 * d.G), q = kn_slice(&h, 2, 0, d.H),
                     kv = kn_slice(&h, 2, d.H, 2 * d.G);
    struct kn_tensor cache = by_slots(c, c->state, R), seen = cache;
    if (!is_ring(c)) {
        TRY(move(c, &kv, 0, &cache, c->pos, T));
        S = c->pos + T;
    } else if (T == 1) {
        /* The ring holds the window and nothing else once the new key is in: the softmax does not ask in which
         * order. */
        TRY(move(c, &kv, 0, &cache, c->pos % R, 1));
        S = c->pos + 1 < R ? c->pos + 1 : R;
    } else {
        int64_t before = c->pos < R - 1 ? c->pos : R - 1, last = T < R ? T : R;
        S = before + T;
        seen = by_slots(c, s.line, S);
        TRY(move_ring(c, &cache, (c->pos - before) % R, &seen, 0, before, R, true));
        TRY(move(c, &kv, 0, &seen, before, T));
        TRY(move_ring(c, &kv, T - last, &cache, (c->pos + T - last) % R, last, R, false));
    }
    struct kn_tensor upto = kn_slice(&seen, 1, 0, S), k = kn_slice(&upto, 2, 0, d.G), v = kn_slice(&upto, 2, d.G, d.G);
    struct kn_tensor out = by_heads(c, &s.out, d.H);
    TRY(c->dev->op->attention(c->dev, &q, &k, &v, c->v[WINDOW], scale_of(c), &out, NULL));
    return output(c, &s.out, y);
}

const struct layer_body body_attention = {
    .name = "attention",
    .params = params,
    .saved_bytes = saved_bytes,
    .scratch_bytes = scratch_bytes,
    .state_bytes = state_bytes,
    .forward = forward,
    .backward = backward,
    .decode = decode,
};
