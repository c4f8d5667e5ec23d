/* Attention's body (the drawing and its formulas: searchspace/attention.c). What the input is multiplied with, q (with a
 * gate each head's q and gate, side by side), k and v, is one product: their matrices are one run of rows.
 *
 * Cache: [B, 2G, R, K], keys of every head, then values, so that each head's keys lie in one stream; R = room, at most
 * the window.
 * With a window smaller than the context the cache is a ring: position p lies in slot p mod R.
 *
 * A layer that borrows (share_kv) finds keys and values in its lender's saved or cache, and adds their gradients to the
 * lender's dkv. */
#include <math.h>

#include "model/internal.h"

enum { HEADS, KV_HEADS, HEAD_DIM, WINDOW, ROPE, QK_NORM, GATE, ROPE_DIM };
static const char *const params[] = {"heads", "kv_heads", "head_dim", "window", "rope", "qk_norm", "gate", "rope_dim", NULL};

struct dims {
    int64_t N, H, G, K;
    int64_t own; /* key heads of its own: G, or 0 where it borrows */
    int64_t Q;   /* columns of q in qkv: H K, with a gate twice that */
    int64_t M;   /* columns of qkv: Q + 2 own K */
};

static struct dims dims_of(const struct layer_ctx *c)
{
    int64_t H = c->v[HEADS], G = c->v[KV_HEADS], K = c->v[HEAD_DIM], own = c->lender ? 0 : G, Q = H * K * (c->v[GATE] ? 2 : 1);
    return (struct dims){(int64_t)c->B * c->T, H, G, K, own, Q, Q + 2 * own * K};
}

/* Tensors by their place in layer_spec.tensors. */
static int o_proj(const struct layer_ctx *c)
{
    return c->lender ? 1 : 3;
}

/* The bias of the i-th matrix, in the order of the matrices behind all else; NULL: the arch has none. */
static const struct kn_tensor *bias_of(const struct layer_ctx *c, const struct kn_tensor *t, int i)
{
    int norms = !c->v[QK_NORM] ? 0 : c->lender ? 1 : 2;
    return c->arch->bias ? &t[o_proj(c) + 1 + norms + i] : NULL;
}

struct saved {
    struct kn_tensor qkv;      /* [N,M] as the product leaves it; without qk_norm q and k are then rotated in place */
    struct kn_tensor qk;       /* qk_norm: q and k of its own, normed and rotated [N,(H+own)K] */
    struct kn_tensor rstd;     /* qk_norm: [B,T,H+own] */
    struct kn_tensor out, lse; /* [N,HK] before the gate  [B,H,T] */
    struct kn_tensor dkv;      /* of a lender: gradients of k and v from its borrowers [N,2GK] */
};

/* What lies between the products, where nothing but products, RoPE and attention touches it. */
static enum kn_dtype between(const struct layer_ctx *c)
{
    bool plain = !c->v[QK_NORM] && !c->v[GATE] && !c->arch->bias && !c->lender && !c->lends && !c->state_context;
    return plain ? c->act : c->dtype;
}

static void carve_qkv(const struct layer_ctx *c, struct carve *m, struct saved *s)
{
    struct dims d = dims_of(c);
    m->dtype = between(c);
    s->qkv = carve2(m, d.N, d.M);
    if (c->v[QK_NORM]) {
        s->qk = carve2(m, d.N, (d.H + d.own) * d.K);
        s->rstd = kn_t3(carve2(m, d.N, d.H + d.own).p, c->dtype, c->B, c->T, d.H + d.own);
    }
    s->out = carve2(m, d.N, d.H * d.K);
    m->dtype = c->dtype;
}

static uint64_t carve_saved(const struct layer_ctx *c, void *base, struct saved *s)
{
    struct dims d = dims_of(c);
    struct carve m = {base, c->dtype, 0};
    carve_qkv(c, &m, s);
    s->lse = kn_t3(carve2(&m, d.N, d.H).p, c->dtype, c->B, d.H, c->T);
    if (c->lends) s->dkv = carve2(&m, d.N, 2 * d.G * d.K);
    return m.used;
}

struct back {
    struct kn_tensor dout, dqkv; /* [N,HK]  [N,M] */
    struct kn_tensor dkv;        /* borrowing: [N,2GK] */
    struct kn_tensor gated;      /* gate: [N,HK], first of all, since the forward uses it too */
};

static uint64_t carve_back(const struct layer_ctx *c, void *base, struct back *s)
{
    struct dims d = dims_of(c);
    struct carve m = {base, between(c), 0};
    if (c->v[GATE]) s->gated = carve2(&m, d.N, d.H * d.K);
    s->dout = carve2(&m, d.N, d.H * d.K);
    s->dqkv = carve2(&m, d.N, d.M);
    if (c->lender) s->dkv = carve2(&m, d.N, 2 * d.G * d.K);
    return m.used;
}

static uint64_t carve_gated(const struct layer_ctx *c, void *base, struct kn_tensor *gated)
{
    struct dims d = dims_of(c);
    struct carve m = {base, c->dtype, 0};
    if (c->v[GATE]) *gated = carve2(&m, d.N, d.H * d.K);
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
    struct saved s; /* qkv, qk, rstd, out alone */
    void *line;     /* ring: keys and values of the window before and of the new tokens, in order: [B,2G,R-1+T,K] */
};

static uint64_t carve_step(const struct layer_ctx *c, void *base, struct step *s)
{
    struct dims d = dims_of(c);
    struct carve m = {base, c->dtype, 0};
    carve_qkv(c, &m, &s->s);
    s->line = is_ring(c) && c->T > 1 && !c->lender ? carve2(&m, c->B * 2 * d.G * d.K, room(c) - 1 + c->T).p : NULL;
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
    struct kn_tensor gated;
    if (c->state_context) return carve_step(c, NULL, &s);
    return train ? carve_back(c, NULL, &b) : carve_gated(c, NULL, &gated);
}

static uint64_t state_bytes(const struct layer_ctx *c)
{
    uint64_t row = 2 * (uint64_t)dims_of(c).own * (uint64_t)c->v[HEAD_DIM] * kn_dtype_size(c->dtype), n;
    return __builtin_mul_overflow(row * (uint64_t)c->B, (uint64_t)room(c), &n) || n > CARVE_MAX ? CARVE_MAX : n;
}

/* [N, heads K] as [B,T,heads,K] */
static struct kn_tensor by_heads(const struct layer_ctx *c, const struct kn_tensor *x, int64_t heads)
{
    return kn_t4(x->p, x->dtype, c->B, c->T, heads, c->v[HEAD_DIM]);
}

/* Heads that lie in rows of x [N,M]: n of them from column `from` on, `step` columns from one to the next. */
static struct kn_tensor heads_in(const struct layer_ctx *c, const struct kn_tensor *x, int64_t from, int64_t n, int64_t step)
{
    char *p = (char *)x->p + (size_t)from * kn_dtype_size(x->dtype);
    int64_t row = x->s[0];
    return (struct kn_tensor){p, x->dtype, 4, {c->B, c->T, n, c->v[HEAD_DIM]}, {c->T * row, row, step, 1}};
}

/* The heads of one layer's product, or of its gradient. */
struct heads {
    struct kn_tensor q, gate, k, v; /* [B,T,H,K], gate likewise, [B,T,own,K] */
};

static struct heads heads_of(const struct layer_ctx *c, const struct kn_tensor *qkv)
{
    struct dims d = dims_of(c);
    int64_t step = d.Q / d.H;
    return (struct heads){heads_in(c, qkv, 0, d.H, step), heads_in(c, qkv, step - d.K, d.H, step),
                          heads_in(c, qkv, d.Q, d.own, d.K), heads_in(c, qkv, d.Q + d.own * d.K, d.own, d.K)};
}

/* As attention sees them: where there is a norm, q and k are what it made. */
static struct heads attended(const struct layer_ctx *c, const struct saved *s)
{
    struct dims d = dims_of(c);
    struct heads h = heads_of(c, &s->qkv);
    if (c->v[QK_NORM]) h.q = heads_in(c, &s->qk, 0, d.H, d.K), h.k = heads_in(c, &s->qk, d.H * d.K, d.own, d.K);
    return h;
}

/* The matrices of q, k and v as one [M,D]. */
static struct kn_tensor joined(const struct layer_ctx *c, const struct kn_tensor *w, int64_t M)
{
    return kn_t2(w[0].p, w[0].dtype, M, c->arch->width);
}

static st_t rotate1(const struct layer_ctx *c, const struct kn_tensor *x, int64_t pos0, int inverse)
{
    struct kn_tensor part = kn_slice(x, 3, 0, c->v[ROPE_DIM] ? c->v[ROPE_DIM] : c->v[HEAD_DIM]);
    return c->dev->op->rope(c->dev, &part, pos0, c->arch->rope_theta, inverse);
}

/* q and k, in one call where they are neighbours. */
static st_t rotate(const struct layer_ctx *c, const struct heads *h, int64_t pos0, int inverse)
{
    if (!c->v[ROPE]) return ST_OK;
    struct dims d = dims_of(c);
    if (h->q.s[2] == d.K) {
        struct kn_tensor qk = h->q;
        qk.d[2] = d.H + d.own;
        return rotate1(c, &qk, pos0, inverse);
    }
    TRY(rotate1(c, &h->q, pos0, inverse));
    return d.own ? rotate1(c, &h->k, pos0, inverse) : ST_OK;
}

/* q's or k's share of rstd. */
static struct kn_tensor rstd_of(const struct layer_ctx *c, const struct saved *s, bool k)
{
    struct dims d = dims_of(c);
    return kn_slice(&s->rstd, 2, k ? d.H : 0, k ? d.own : d.H);
}

/* The columns of the i-th matrix of the product in [N,M]. */
static struct kn_tensor columns(const struct layer_ctx *c, const struct kn_tensor *qkv, int i)
{
    struct dims d = dims_of(c);
    return i == 0 ? kn_slice(qkv, 1, 0, d.Q) : kn_slice(qkv, 1, d.Q + (i - 1) * d.own * d.K, d.own * d.K);
}

/* The product, norms and RoPE. */
static st_t project(const struct layer_ctx *c, const struct kn_tensor *x, const struct saved *s, int64_t pos0)
{
    struct dims d = dims_of(c);
    struct kn_tensor w = joined(c, c->w, d.M);
    TRY(body_product(c, x, &w, NULL, &s->qkv));
    for (int i = 0; i < o_proj(c) && c->arch->bias; i++) {
        struct kn_tensor y = columns(c, &s->qkv, i);
        TRY(body_bias(c, bias_of(c, c->w, i), &y));
    }
    struct heads raw = heads_of(c, &s->qkv), h = attended(c, s);
    if (c->v[QK_NORM]) {
        const struct kn_tensor *norm = &c->w[o_proj(c) + 1];
        struct kn_tensor rq = rstd_of(c, s, false), rk = rstd_of(c, s, true);
        TRY(c->dev->op->headnorm(c->dev, &raw.q, &norm[0], MODEL_NORM_EPS, &h.q, &rq));
        if (d.own) TRY(c->dev->op->headnorm(c->dev, &raw.k, &norm[1], MODEL_NORM_EPS, &h.k, &rk));
    }
    return rotate(c, &h, pos0, 0);
}

/* out [N,HK], through the gate into gated (may be out), times W_o. */
static st_t output(const struct layer_ctx *c, const struct saved *s, const struct kn_tensor *gated, const struct kn_tensor *y)
{
    if (!c->v[GATE]) return body_product(c, &s->out, &c->w[o_proj(c)], bias_of(c, c->w, o_proj(c)), y);
    struct kn_tensor o = by_heads(c, &s->out, c->v[HEADS]), to = by_heads(c, gated, c->v[HEADS]);
    struct heads h = heads_of(c, &s->qkv);
    TRY(c->dev->op->headgate(c->dev, &o, &h.gate, &to));
    return body_product(c, gated, &c->w[o_proj(c)], bias_of(c, c->w, o_proj(c)), y);
}

static double scale_of(const struct layer_ctx *c)
{
    return 1 / sqrt((double)c->v[HEAD_DIM]);
}

/* The heads that this layer's queries meet: its own, or its lender's keys and values. */
static struct heads met(const struct layer_ctx *c, const struct saved *s)
{
    struct heads h = attended(c, s);
    if (!c->lender) return h;
    struct saved from;
    carve_saved(c->lender, c->lender->saved, &from);
    struct heads lent = attended(c->lender, &from);
    h.k = lent.k, h.v = lent.v;
    return h;
}

static st_t forward(const struct layer_ctx *c, const struct kn_tensor *x, const struct kn_tensor *y)
{
    struct saved s;
    struct kn_tensor gated = {0};
    carve_saved(c, c->saved, &s);
    carve_gated(c, c->scratch, &gated);
    TRY(project(c, x, &s, 0));
    struct heads h = met(c, &s);
    struct kn_tensor out = by_heads(c, &s.out, c->v[HEADS]);
    TRY(c->dev->op->attention(c->dev, &h.q, &h.k, &h.v, c->v[WINDOW], scale_of(c), &out, c->g ? &s.lse : NULL));
    if (c->g && c->lends) TRY(c->dev->op->fill(c->dev, &s.dkv, 0));
    return output(c, &s, &gated, y);
}

/* dy to the gradient of what attention gave, in b->dout; of the gate, in b->dqkv. */
static st_t output_bwd(const struct layer_ctx *c, const struct saved *s, const struct back *b, const struct kn_tensor *dy)
{
    const struct kn_tensor *w = &c->w[o_proj(c)], *g = &c->g[o_proj(c)], *db = bias_of(c, c->g, o_proj(c));
    if (!c->v[GATE]) return body_product_bwd(c, &s->out, w, dy, g, db, 0, &b->dout);
    int64_t H = c->v[HEADS];
    struct heads h = heads_of(c, &s->qkv), dh = heads_of(c, &b->dqkv);
    struct kn_tensor out = by_heads(c, &s->out, H), gated = by_heads(c, &b->gated, H), dout = by_heads(c, &b->dout, H);
    TRY(c->dev->op->headgate(c->dev, &out, &h.gate, &gated));
    TRY(body_product_bwd(c, &b->gated, w, dy, g, db, 0, &b->dout));
    return c->dev->op->headgate_bwd(c->dev, &out, &h.gate, &dout, &dout, &dh.gate);
}

/* dkv += the gradients of k and v, as [N, 2 G K] of both. */
static st_t add_dkv(const struct layer_ctx *c, const struct kn_tensor *from, int64_t column, const struct kn_tensor *to, int64_t to_column)
{
    int64_t n = 2 * (int64_t)c->v[KV_HEADS] * c->v[HEAD_DIM];
    struct kn_tensor a = kn_slice(from, 1, column, n), b = kn_slice(to, 1, to_column, n);
    return c->dev->op->axpy(c->dev, 1, &a, &b);
}

/* Back through RoPE and norms, dq and dk in place. */
static st_t project_bwd(const struct layer_ctx *c, const struct kn_tensor *x, const struct saved *s, const struct back *b,
                        const struct kn_tensor *dx)
{
    struct dims d = dims_of(c);
    struct heads raw = heads_of(c, &s->qkv), dh = heads_of(c, &b->dqkv);
    TRY(rotate(c, &dh, 0, 1));
    if (c->v[QK_NORM]) {
        const struct kn_tensor *w = &c->w[o_proj(c) + 1], *g = &c->g[o_proj(c) + 1];
        struct kn_tensor rq = rstd_of(c, s, false), rk = rstd_of(c, s, true);
        TRY(c->dev->op->headnorm_bwd(c->dev, &raw.q, &w[0], &rq, &dh.q, &dh.q, &g[0]));
        if (d.own) TRY(c->dev->op->headnorm_bwd(c->dev, &raw.k, &w[1], &rk, &dh.k, &dh.k, &g[1]));
    }
    for (int i = 0; i < o_proj(c) && c->arch->bias; i++) {
        struct kn_tensor dy = columns(c, &b->dqkv, i);
        TRY(c->dev->op->sum_rows(c->dev, &dy, bias_of(c, c->g, i)));
    }
    struct kn_tensor w = joined(c, c->w, d.M), g = joined(c, c->g, d.M);
    return body_product_bwd(c, x, &w, &b->dqkv, &g, NULL, 0, dx);
}

static st_t backward(const struct layer_ctx *c, const struct kn_tensor *x, const struct kn_tensor *dy,
                     const struct kn_tensor *dx)
{
    struct dims d = dims_of(c);
    struct saved s;
    struct back b;
    carve_saved(c, c->saved, &s);
    carve_back(c, c->scratch, &b);
    TRY(output_bwd(c, &s, &b, dy));
    struct heads h = met(c, &s), dh = heads_of(c, &b.dqkv);
    if (c->lender) dh.k = heads_in(c, &b.dkv, 0, d.G, d.K), dh.v = heads_in(c, &b.dkv, d.G * d.K, d.G, d.K);
    struct kn_tensor out = by_heads(c, &s.out, d.H), dout = by_heads(c, &b.dout, d.H);
    TRY(c->dev->op->attention_bwd(c->dev, &h.q, &h.k, &h.v, &out, &s.lse, &dout, c->v[WINDOW], scale_of(c), &dh.q, &dh.k,
                                  &dh.v));
    if (c->lender) {
        struct saved from;
        carve_saved(c->lender, c->lender->saved, &from);
        TRY(add_dkv(c, &b.dkv, 0, &from.dkv, 0));
    }
    if (c->lends) TRY(add_dkv(c, &s.dkv, 0, &b.dqkv, d.Q));
    return project_bwd(c, x, &s, &b, dx);
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

/* Brings heads of new tokens [B,T,n,K] into the cache, where they are those from `first` on. */
static st_t store(const struct layer_ctx *c, const struct step *s, const struct kn_tensor *heads, int64_t first)
{
    int64_t T = c->T, R = room(c), n = heads->d[2];
    struct kn_tensor cache = by_slots(c, c->state, R), to = kn_slice(&cache, 2, first, n);
    if (!is_ring(c) || T == 1) return move(c, heads, 0, &to, c->pos % R, T);
    int64_t before = c->pos < R - 1 ? c->pos : R - 1, last = T < R ? T : R;
    struct kn_tensor line = by_slots(c, s->line, before + T), in_line = kn_slice(&line, 2, first, n);
    TRY(move_ring(c, &to, (c->pos - before) % R, &in_line, 0, before, R, true));
    TRY(move(c, heads, 0, &in_line, before, T));
    return move_ring(c, heads, T - last, &to, (c->pos + T - last) % R, last, R, false);
}

/* k and v, in one piece where they are neighbours. */
static st_t store_both(const struct layer_ctx *c, const struct step *s, const struct heads *h)
{
    int64_t G = c->v[KV_HEADS];
    struct kn_tensor k = h->k;
    if (!c->v[QK_NORM]) {
        k.d[2] = 2 * G;
        return store(c, s, &k, 0);
    }
    TRY(store(c, s, &k, 0));
    return store(c, s, &h->v, G);
}

/* What queries at the new positions see, once their keys are stored: [B,S,2G,K]. With T == 1 the ring holds the window
 * and nothing else: the softmax does not ask in which order. */
static struct kn_tensor seen(const struct layer_ctx *c, const struct step *s)
{
    int64_t T = c->T, R = room(c), before = c->pos < R - 1 ? c->pos : R - 1;
    bool line = is_ring(c) && T > 1;
    struct kn_tensor all = by_slots(c, line ? s->line : c->state, line ? before + T : R);
    return kn_slice(&all, 1, 0, is_ring(c) ? before + T : c->pos + T);
}

/* The only one of a batch: [1,S,G,K] as [S,G,K]. */
static struct kn_tensor sequence(const struct kn_tensor *t)
{
    return (struct kn_tensor){t->p, t->dtype, 3, {t->d[1], t->d[2], t->d[3]}, {t->s[1], t->s[2], t->s[3]}};
}

static st_t decode(const struct layer_ctx *c, const struct kn_tensor *x, const struct kn_tensor *y)
{
    int64_t G = c->v[KV_HEADS];
    struct step s, from;
    carve_step(c, c->scratch, &s);
    TRY(project(c, x, &s.s, c->pos));
    struct heads h = attended(c, &s.s);
    if (c->lender) carve_step(c->lender, c->lender->scratch, &from);
    else TRY(store_both(c, &s, &h));
    struct kn_tensor all = c->lender ? seen(c->lender, &from) : seen(c, &s);
    struct kn_tensor k = kn_slice(&all, 2, 0, G), v = kn_slice(&all, 2, G, G), out = by_heads(c, &s.s.out, c->v[HEADS]);
    TRY(c->dev->op->attention(c->dev, &h.q, &k, &v, c->v[WINDOW], scale_of(c), &out, NULL));
    return output(c, &s.s, &s.s.out, y);
}

static bool branch(const struct layer_ctx *c, struct kn_branch *out)
{
    if (c->v[QK_NORM] || c->v[GATE] || c->arch->bias) return false;
    int64_t G = c->v[KV_HEADS];
    struct kn_tensor all = seen(c->lender ? c->lender : c, NULL), k = kn_slice(&all, 2, 0, G), v = kn_slice(&all, 2, G, G);
    *out = (struct kn_branch){.kind = KN_BRANCH_ATTENTION};
    out->attention = (struct kn_branch_attention){
        .qkv = joined(c, c->w, dims_of(c).M), .out = c->w[o_proj(c)], .k = sequence(&k), .v = sequence(&v),
        .slot = c->lender ? -1 : c->pos % room(c), .heads = c->v[HEADS], .pos = c->pos,
        .rope = !c->v[ROPE] ? 0 : c->v[ROPE_DIM] ? c->v[ROPE_DIM] : c->v[HEAD_DIM], .theta = c->arch->rope_theta, .scale = scale_of(c)};
    return true;
}

const struct layer_body body_attention = {
    .name = "attention",
    .half_input = true,
    .params = params,
    .saved_bytes = saved_bytes,
    .scratch_bytes = scratch_bytes,
    .state_bytes = state_bytes,
    .forward = forward,
    .backward = backward,
    .decode = decode,
    .branch = branch,
};
