/* Latent attention's body (the drawing and its formulas: searchspace/mla.c).
 *
 * Cache: [B, R, r + dr], of each token its normed latent and its rotated key: as keys of one head that all queries share, and as values the first
 * r numbers of the same rows.
 *
 * From position 0 on, keys and values are made from the latents (that is the training form). Tokens that come later meet the cache as it is: what
 * W_kvb would do to every key is done to the query, and what it would do to every value to their sum:
 *   qn_h . (W_k c) = (W_k^T qn_h) . c        sum_j p_j (W_v c_j) = W_v sum_j p_j c_j */
#include <math.h>

#include "model/internal.h"

enum { HEADS, KV_RANK, NOPE_DIM, ROPE_DIM, V_DIM, Q_RANK };
static const char *const params[] = {"heads", "kv_rank", "nope_dim", "rope_dim", "v_dim", "q_rank", NULL};

#define NORM_EPS 1e-6 /* of the norms within, whatever the network's is: as the class has it */

enum { IN, IN_KV, OUT, KV_B, Q_B }; /* tensors; Q_B with q_rank alone */

struct dims {
    int64_t N, H, r, dn, dr, dv, rank; /* tokens; the drawing's; q_rank */
    int64_t K, E;                      /* dn + dr, dn + dv */
    int64_t Q, M;                      /* columns of the first product that are the query's: H K, or q_rank; all, r + dr more */
};

static struct dims dims_of(const struct layer_ctx *c)
{
    struct dims d = {(int64_t)c->B * c->T, c->v[HEADS], c->v[KV_RANK], c->v[NOPE_DIM], c->v[ROPE_DIM], c->v[V_DIM], c->v[Q_RANK], 0, 0, 0, 0};
    d.K = d.dn + d.dr, d.E = d.dn + d.dv;
    d.Q = d.rank ? d.rank : d.H * d.K;
    d.M = d.Q + d.r + d.dr;
    return d;
}

/* Weights or gradients of the norms and biases. */
static const struct kn_tensor *kv_norm(const struct layer_ctx *c, const struct kn_tensor *t)
{
    return &t[c->v[Q_RANK] ? Q_B + 1 : KV_B + 1];
}

static const struct kn_tensor *q_norm(const struct layer_ctx *c, const struct kn_tensor *t)
{
    return kv_norm(c, t) + 1;
}

enum { KV_BIAS, OUT_BIAS, Q_BIAS };

static const struct kn_tensor *bias_of(const struct layer_ctx *c, const struct kn_tensor *t, int which)
{
    return c->arch->bias ? kv_norm(c, t) + (c->v[Q_RANK] ? 2 : 1) + which : NULL;
}

struct saved {
    struct kn_tensor in;      /* [N,M] query, latent, key as the first product leaves them; the key, and q where it is here, are rotated in place */
    struct kn_tensor qn, q;   /* q_rank: normed [N,s], its product [N,HK], rotated in place */
    struct kn_tensor c;       /* [N,r] the normed latent */
    struct kn_tensor rq, rc;  /* [B,T,1] statistics of the norms */
    struct kn_tensor kv, k;   /* [N,HE] k_h and v_h of every head; [N,HK] keys whole */
    struct kn_tensor out, lse; /* [N,H dv]  [B,H,T] */
};

static struct kn_tensor stat(const struct layer_ctx *c, struct carve *m)
{
    return kn_t3(carve2(m, (int64_t)c->B * c->T, 1).p, c->dtype, c->B, c->T, 1);
}

static void carve_projected(const struct layer_ctx *c, struct carve *m, struct saved *s)
{
    struct dims d = dims_of(c);
    s->in = carve2(m, d.N, d.M);
    if (d.rank) {
        s->qn = carve2(m, d.N, d.rank);
        s->q = carve2(m, d.N, d.H * d.K);
        s->rq = stat(c, m);
    }
    s->c = carve2(m, d.N, d.r);
    s->rc = stat(c, m);
    s->out = carve2(m, d.N, d.H * d.dv);
}

static void carve_expanded(const struct layer_ctx *c, struct carve *m, struct saved *s)
{
    struct dims d = dims_of(c);
    s->kv = carve2(m, d.N, d.H * d.E);
    s->k = carve2(m, d.N, d.H * d.K);
}

static uint64_t carve_saved(const struct layer_ctx *c, void *base, struct saved *s)
{
    struct dims d = dims_of(c);
    struct carve m = {base, c->dtype, 0};
    carve_projected(c, &m, s);
    carve_expanded(c, &m, s);
    s->lse = kn_t3(carve2(&m, d.N, d.H).p, c->dtype, c->B, d.H, c->T);
    return m.used;
}

struct back {
    struct kn_tensor dout, din, dq, dk, dkv; /* gradients of out, in, q (q_rank), k, kv */
};

static uint64_t carve_back(const struct layer_ctx *c, void *base, struct back *b)
{
    struct dims d = dims_of(c);
    struct carve m = {base, c->dtype, 0};
    b->dout = carve2(&m, d.N, d.H * d.dv);
    b->din = carve2(&m, d.N, d.M);
    if (d.rank) b->dq = carve2(&m, d.N, d.H * d.K);
    b->dk = carve2(&m, d.N, d.H * d.K);
    b->dkv = carve2(&m, d.N, d.H * d.E);
    return m.used;
}

/* Of tokens that meet the cache. */
struct step {
    struct saved s;          /* up to out */
    struct kn_tensor ql, ol; /* queries as the latents meet them [N,H(r+dr)], sums of latents [N,Hr] */
};

static uint64_t carve_step(const struct layer_ctx *c, void *base, struct step *s)
{
    struct dims d = dims_of(c);
    struct carve m = {base, c->dtype, 0};
    carve_projected(c, &m, &s->s);
    s->ql = carve2(&m, d.N, d.H * (d.r + d.dr));
    s->ol = carve2(&m, d.N, d.H * d.r);
    return m.used;
}

/* Of tokens from position 0 on. */
static uint64_t carve_first(const struct layer_ctx *c, void *base, struct saved *s)
{
    struct carve m = {base, c->dtype, 0};
    carve_projected(c, &m, s);
    carve_expanded(c, &m, s);
    return m.used;
}

static uint64_t saved_bytes(const struct layer_ctx *c)
{
    struct saved s;
    return carve_saved(c, NULL, &s);
}

static uint64_t scratch_bytes(const struct layer_ctx *c, bool train)
{
    struct saved s;
    struct back b;
    struct step t;
    if (!c->state_context) return train ? carve_back(c, NULL, &b) : 0;
    uint64_t first = carve_first(c, NULL, &s), later = carve_step(c, NULL, &t);
    return first > later ? first : later;
}

static uint64_t state_bytes(const struct layer_ctx *c)
{
    struct dims d = dims_of(c);
    uint64_t row = (uint64_t)(d.r + d.dr) * kn_dtype_size(c->dtype), n;
    return __builtin_mul_overflow((uint64_t)c->B * (uint64_t)c->state_context, row, &n) || n > CARVE_MAX ? CARVE_MAX : n;
}

/* Heads that lie in rows of x [N,M]: n of them of `width` numbers from column `from` on, `step` columns from one to the next. */
static struct kn_tensor heads_in(const struct layer_ctx *c, const struct kn_tensor *x, int64_t from, int64_t n, int64_t step, int64_t width)
{
    char *p = (char *)x->p + (size_t)from * kn_dtype_size(c->dtype);
    int64_t row = x->s[0];
    return (struct kn_tensor){p, c->dtype, 4, {c->B, c->T, n, width}, {c->T * row, row, step, 1}};
}

/* What of in (or its gradient) is the latent, and the key. */
static struct kn_tensor latent_in(const struct layer_ctx *c, const struct kn_tensor *in)
{
    struct dims d = dims_of(c);
    return kn_slice(in, 1, d.Q, d.r);
}

static struct kn_tensor key_in(const struct layer_ctx *c, const struct kn_tensor *in)
{
    struct dims d = dims_of(c);
    return heads_in(c, in, d.Q + d.r, 1, d.dr, d.dr);
}

/* The matrix of queries [N, HK or more], of values or of their gradients. */
static const struct kn_tensor *q_of(const struct layer_ctx *c, const struct saved *s)
{
    return c->v[Q_RANK] ? &s->q : &s->in;
}

static struct kn_tensor all_heads(const struct layer_ctx *c, const struct kn_tensor *x)
{
    struct dims d = dims_of(c);
    return heads_in(c, x, 0, d.H, d.K, d.K);
}

static struct kn_tensor values_in(const struct layer_ctx *c, const struct kn_tensor *kv)
{
    struct dims d = dims_of(c);
    return heads_in(c, kv, d.dn, d.H, d.E, d.dv);
}

static st_t rotate(const struct layer_ctx *c, const struct kn_tensor *q, const struct kn_tensor *in, int64_t pos0, int inverse)
{
    struct dims d = dims_of(c);
    struct kn_tensor turning = heads_in(c, q, d.dn, d.H, d.K, d.dr), key = key_in(c, in);
    TRY(c->dev->op->rope(c->dev, &turning, pos0, c->arch->rope_theta, inverse));
    return c->dev->op->rope(c->dev, &key, pos0, c->arch->rope_theta, inverse);
}

/* y = norm(x), rows of a matrix: one head */
static st_t norm(const struct layer_ctx *c, const struct kn_tensor *x, const struct kn_tensor *w, const struct kn_tensor *y,
                 const struct kn_tensor *rstd)
{
    int64_t n = x->d[1];
    struct kn_tensor from = heads_in(c, x, 0, 1, n, n), to = heads_in(c, y, 0, 1, n, n);
    return c->dev->op->headnorm(c->dev, &from, w, NORM_EPS, &to, rstd);
}

/* dx, which holds the gradient of y, becomes that of x. */
static st_t norm_bwd(const struct layer_ctx *c, const struct kn_tensor *x, const struct kn_tensor *w, const struct kn_tensor *rstd,
                     const struct kn_tensor *dx, const struct kn_tensor *dw)
{
    int64_t n = x->d[1];
    struct kn_tensor from = heads_in(c, x, 0, 1, n, n), d = heads_in(c, dx, 0, 1, n, n);
    return c->dev->op->headnorm_bwd(c->dev, &from, w, rstd, &d, &d, dw);
}

/* W_q or W_qa, and W_kva, as one [M,D]. */
static struct kn_tensor joined(const struct layer_ctx *c, const struct kn_tensor *w)
{
    return kn_t2(w[IN].p, w[IN].dtype, dims_of(c).M, c->arch->width);
}

/* Queries, latent, key: products, norms, RoPE. */
static st_t project(const struct layer_ctx *c, const struct kn_tensor *x, const struct saved *s, int64_t pos0)
{
    struct dims d = dims_of(c);
    struct kn_tensor w = joined(c, c->w), latent = latent_in(c, &s->in), kv = kn_slice(&s->in, 1, d.Q, d.r + d.dr),
                     low = kn_slice(&s->in, 1, 0, d.Q);
    TRY(body_product(c, x, &w, NULL, &s->in));
    if (c->arch->bias) TRY(body_bias(c, bias_of(c, c->w, KV_BIAS), &kv));
    if (d.rank) {
        if (c->arch->bias) TRY(body_bias(c, bias_of(c, c->w, Q_BIAS), &low));
        TRY(norm(c, &low, q_norm(c, c->w), &s->qn, &s->rq));
        TRY(body_product(c, &s->qn, &c->w[Q_B], NULL, &s->q));
    }
    TRY(norm(c, &latent, kv_norm(c, c->w), &s->c, &s->rc));
    return rotate(c, q_of(c, s), &s->in, pos0, 0);
}

/* Keys and values of every head from the latents. */
static st_t expand(const struct layer_ctx *c, const struct saved *s)
{
    struct dims d = dims_of(c);
    TRY(body_product(c, &s->c, &c->w[KV_B], NULL, &s->kv));
    struct kn_tensor nope = heads_in(c, &s->kv, 0, d.H, d.E, d.dn), rope = key_in(c, &s->in);
    struct kn_tensor to_nope = heads_in(c, &s->k, 0, d.H, d.K, d.dn), to_rope = heads_in(c, &s->k, d.dn, d.H, d.K, d.dr);
    rope.d[2] = d.H, rope.s[2] = 0;
    TRY(c->dev->op->copy(c->dev, &nope, &to_nope));
    return c->dev->op->copy(c->dev, &rope, &to_rope);
}

static double scale_of(const struct layer_ctx *c)
{
    return 1 / sqrt((double)c->v[NOPE_DIM] + c->v[ROPE_DIM]);
}

static st_t attend(const struct layer_ctx *c, const struct saved *s, const struct kn_tensor *lse)
{
    struct dims d = dims_of(c);
    struct kn_tensor q = all_heads(c, q_of(c, s)), k = all_heads(c, &s->k), v = values_in(c, &s->kv);
    struct kn_tensor out = heads_in(c, &s->out, 0, d.H, d.dv, d.dv);
    return c->dev->op->attention(c->dev, &q, &k, &v, 0, scale_of(c), &out, lse);
}

static st_t forward(const struct layer_ctx *c, const struct kn_tensor *x, const struct kn_tensor *y)
{
    struct saved s;
    carve_saved(c, c->saved, &s);
    TRY(project(c, x, &s, 0));
    TRY(expand(c, &s));
    TRY(attend(c, &s, c->g ? &s.lse : NULL));
    return body_product(c, &s.out, &c->w[OUT], bias_of(c, c->w, OUT_BIAS), y);
}

/* The gradient of k into those of kv's keys and, the sum over heads, of the key that all share. */
static st_t share_dk(const struct layer_ctx *c, const struct back *b)
{
    struct dims d = dims_of(c);
    struct kn_tensor nope = heads_in(c, &b->dk, 0, d.H, d.K, d.dn), to_nope = heads_in(c, &b->dkv, 0, d.H, d.E, d.dn);
    struct kn_tensor key = key_in(c, &b->din);
    TRY(c->dev->op->copy(c->dev, &nope, &to_nope));
    for (int64_t h = 0; h < d.H; h++) {
        struct kn_tensor from = heads_in(c, &b->dk, h * d.K + d.dn, 1, d.dr, d.dr);
        TRY(h ? c->dev->op->axpy(c->dev, 1, &from, &key) : c->dev->op->copy(c->dev, &from, &key));
    }
    return ST_OK;
}

/* Back through attention: dq in din or in dq, din's key, dkv. */
static st_t attend_bwd(const struct layer_ctx *c, const struct saved *s, const struct back *b)
{
    struct dims d = dims_of(c);
    const struct kn_tensor *dq_in = d.rank ? &b->dq : &b->din;
    struct kn_tensor q = all_heads(c, q_of(c, s)), k = all_heads(c, &s->k), v = values_in(c, &s->kv);
    struct kn_tensor out = heads_in(c, &s->out, 0, d.H, d.dv, d.dv), dout = heads_in(c, &b->dout, 0, d.H, d.dv, d.dv);
    struct kn_tensor dq = all_heads(c, dq_in), dk = all_heads(c, &b->dk), dv = values_in(c, &b->dkv);
    TRY(c->dev->op->attention_bwd(c->dev, &q, &k, &v, &out, &s->lse, &dout, 0, scale_of(c), &dq, &dk, &dv));
    TRY(share_dk(c, b));
    return rotate(c, dq_in, &b->din, 0, 1);
}

static st_t backward(const struct layer_ctx *c, const struct kn_tensor *x, const struct kn_tensor *dy, const struct kn_tensor *dx)
{
    struct dims d = dims_of(c);
    struct saved s;
    struct back b;
    carve_saved(c, c->saved, &s);
    carve_back(c, c->scratch, &b);
    TRY(body_product_bwd(c, &s.out, &c->w[OUT], dy, &c->g[OUT], bias_of(c, c->g, OUT_BIAS), 0, &b.dout));
    TRY(attend_bwd(c, &s, &b));
    struct kn_tensor latent = latent_in(c, &s.in), dlatent = latent_in(c, &b.din), low = kn_slice(&s.in, 1, 0, d.Q), dlow = kn_slice(&b.din, 1, 0, d.Q);
    TRY(body_product_bwd(c, &s.c, &c->w[KV_B], &b.dkv, &c->g[KV_B], NULL, 0, &dlatent));
    TRY(norm_bwd(c, &latent, kv_norm(c, c->w), &s.rc, &dlatent, kv_norm(c, c->g)));
    if (d.rank) {
        TRY(body_product_bwd(c, &s.qn, &c->w[Q_B], &b.dq, &c->g[Q_B], NULL, 0, &dlow));
        TRY(norm_bwd(c, &low, q_norm(c, c->w), &s.rq, &dlow, q_norm(c, c->g)));
    }
    if (c->arch->bias) {
        struct kn_tensor dkv = kn_slice(&b.din, 1, d.Q, d.r + d.dr);
        TRY(c->dev->op->sum_rows(c->dev, &dkv, bias_of(c, c->g, KV_BIAS)));
        if (d.rank) TRY(c->dev->op->sum_rows(c->dev, &dlow, bias_of(c, c->g, Q_BIAS)));
    }
    struct kn_tensor w = joined(c, c->w), g = joined(c, c->g);
    return body_product_bwd(c, x, &w, &b.din, &g, NULL, 0, dx);
}

/* The first n slots of the cache: `width` numbers of each row from `from` on, as one head. */
static struct kn_tensor cached(const struct layer_ctx *c, int64_t slot, int64_t n, int64_t from, int64_t width)
{
    struct dims d = dims_of(c);
    int64_t row = d.r + d.dr;
    char *p = (char *)c->state + (size_t)(slot * row + from) * kn_dtype_size(c->dtype);
    return (struct kn_tensor){p, c->dtype, 4, {c->B, n, 1, width}, {c->state_context * row, row, width, 1}};
}

static st_t store(const struct layer_ctx *c, const struct saved *s)
{
    struct dims d = dims_of(c);
    struct kn_tensor latent = heads_in(c, &s->c, 0, 1, d.r, d.r), key = key_in(c, &s->in);
    struct kn_tensor to_latent = cached(c, c->pos, c->T, 0, d.r), to_key = cached(c, c->pos, c->T, d.r, d.dr);
    TRY(c->dev->op->copy(c->dev, &latent, &to_latent));
    return c->dev->op->copy(c->dev, &key, &to_key);
}

/* Rows of W_kvb that make keys, or values, of head h. */
static struct kn_tensor head_rows(const struct layer_ctx *c, int64_t h, bool values)
{
    struct dims d = dims_of(c);
    return kn_slice(&c->w[KV_B], 0, h * d.E + (values ? d.dn : 0), values ? d.dv : d.dn);
}

static st_t attend_cache(const struct layer_ctx *c, const struct step *t)
{
    struct dims d = dims_of(c);
    const struct kn_tensor *q = q_of(c, &t->s);
    int64_t row = d.r + d.dr, seen = c->pos + c->T;
    for (int64_t h = 0; h < d.H; h++) {
        struct kn_tensor w = head_rows(c, h, false), from = kn_slice(q, 1, h * d.K, d.dn), to = kn_slice(&t->ql, 1, h * row, d.r);
        TRY(c->dev->op->gemm(c->dev, 1, &from, &w, 0, &to));
    }
    struct kn_tensor turned = heads_in(c, q, d.dn, d.H, d.K, d.dr), to = heads_in(c, &t->ql, d.r, d.H, row, d.dr);
    TRY(c->dev->op->copy(c->dev, &turned, &to));
    struct kn_tensor ql = heads_in(c, &t->ql, 0, d.H, row, row), ol = heads_in(c, &t->ol, 0, d.H, d.r, d.r);
    struct kn_tensor keys = cached(c, 0, seen, 0, row), values = cached(c, 0, seen, 0, d.r);
    TRY(c->dev->op->attention(c->dev, &ql, &keys, &values, 0, scale_of(c), &ol, NULL));
    for (int64_t h = 0; h < d.H; h++) {
        struct kn_tensor w = head_rows(c, h, true), from = kn_slice(&t->ol, 1, h * d.r, d.r), sum = kn_slice(&t->s.out, 1, h * d.dv, d.dv);
        TRY(body_product(c, &from, &w, NULL, &sum));
    }
    return ST_OK;
}

static st_t decode(const struct layer_ctx *c, const struct kn_tensor *x, const struct kn_tensor *y)
{
    struct step t;
    if (c->pos) carve_step(c, c->scratch, &t);
    else carve_first(c, c->scratch, &t.s);
    TRY(project(c, x, &t.s, c->pos));
    TRY(store(c, &t.s));
    if (c->pos) {
        TRY(attend_cache(c, &t));
    } else {
        TRY(expand(c, &t.s));
        TRY(attend(c, &t.s, NULL));
    }
    return body_product(c, &t.s.out, &c->w[OUT], bias_of(c, c->w, OUT_BIAS), y);
}

const struct layer_body body_mla = {
    .name = "mla",
    .half_input = true,
    .params = params,
    .saved_bytes = saved_bytes,
    .scratch_bytes = scratch_bytes,
    .state_bytes = state_bytes,
    .forward = forward,
    .backward = backward,
    .decode = decode,
};
