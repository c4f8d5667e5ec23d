#include "kernels/check.h"

#define NEED(cond)                                                                                                     \
    do {                                                                                                               \
        if (!(cond)) return ST_EINVAL;                                                                                 \
    } while (0)

static int is_float(enum kn_dtype t)
{
    return t == KN_F32 || t == KN_F64 || t == KN_BF16;
}

/* Formats of weights at rest. */
static int is_stored(enum kn_dtype t)
{
    return t == KN_BF16 || t == KN_I8;
}

/* A descriptor of this rank and dtype with dims that are not negative, and memory if it has elements. */
static int is(const struct kn_tensor *t, int rank, enum kn_dtype dtype)
{
    if (!t || t->rank != rank || t->dtype != dtype) return 0;
    for (int i = 0; i < rank; i++)
        if (t->d[i] < 0) return 0;
    return t->p || kn_count(t) == 0;
}

static int is1(const struct kn_tensor *t, enum kn_dtype dtype, int64_t d0)
{
    return is(t, 1, dtype) && t->d[0] == d0;
}

static int is2(const struct kn_tensor *t, enum kn_dtype dtype, int64_t d0, int64_t d1)
{
    return is(t, 2, dtype) && t->d[0] == d0 && t->d[1] == d1;
}

/* Unit last stride, as convolutions and scans ask of channels. */
static int is3(const struct kn_tensor *t, enum kn_dtype dtype, int64_t d0, int64_t d1, int64_t d2)
{
    return is(t, 3, dtype) && t->d[0] == d0 && t->d[1] == d1 && t->d[2] == d2 && (t->s[2] == 1 || d2 <= 1);
}

/* Unit last stride, as rope and attention ask of heads. */
static int is4(const struct kn_tensor *t, enum kn_dtype dtype, int64_t d0, int64_t d1, int64_t d2, int64_t d3)
{
    return is(t, 4, dtype) && t->d[0] == d0 && t->d[1] == d1 && t->d[2] == d2 && t->d[3] == d3 && (t->s[3] == 1 || d3 <= 1);
}

/* As is said, or, of f32, rounded to bf16 when it is written: what products alone will read. */
static struct kn_tensor unrounded(const struct kn_tensor *t, enum kn_dtype dtype)
{
    struct kn_tensor u = t ? *t : (struct kn_tensor){0};
    if (dtype == KN_F32 && u.dtype == KN_BF16) u.dtype = KN_F32;
    return u;
}

static int same_shape(const struct kn_tensor *a, const struct kn_tensor *b)
{
    if (!a || !b || a->rank != b->rank || a->rank < 1 || a->rank > KN_RANK) return 0;
    for (int i = 0; i < a->rank; i++)
        if (a->d[i] != b->d[i]) return 0;
    return 1;
}

static int any(const struct kn_tensor *t)
{
    return t && t->rank >= 1 && t->rank <= KN_RANK && (unsigned)t->dtype < KN_DTYPE_COUNT && is(t, t->rank, t->dtype);
}

static int is_slab(const struct kn_tensor *t, enum kn_dtype dtype, int64_t n)
{
    return is1(t, dtype, n) && (t->s[0] == 1 || n <= 1);
}

st_t kn_check_gemm(double alpha, const struct kn_tensor *a, const struct kn_tensor *b, double beta, const struct kn_tensor *c)
{
    NEED(a && b && c && is_float(a->dtype) && is_float(c->dtype) && (a->dtype == KN_F64) == (c->dtype == KN_F64));
    NEED(is_stored(b->dtype) && b->s[0] == 1 ? 1 : is_float(b->dtype) && (a->dtype == KN_F64) == (b->dtype == KN_F64));
    NEED(is(a, 2, a->dtype));
    NEED(is(b, 2, b->dtype) && b->d[0] == a->d[1]);
    NEED(is2(c, c->dtype, a->d[0], b->d[1]));
    return ST_OK;
}

st_t kn_check_embed(const struct kn_tensor *tok, const struct kn_tensor *w, const struct kn_tensor *out)
{
    NEED(w && out && is(w, 2, w->dtype) && is_float(out->dtype));
    NEED(w->dtype == out->dtype || (is_stored(w->dtype) && w->s[1] == 1));
    NEED(tok && is(tok, 1, KN_I32));
    NEED(is2(out, out->dtype, tok->d[0], w->d[1]));
    return ST_OK;
}

st_t kn_check_embed_bwd(const struct kn_tensor *tok, const struct kn_tensor *dout, const struct kn_tensor *dw)
{
    NEED(dw && dout && dw->dtype == dout->dtype);
    return kn_check_embed(tok, dw, dout);
}

st_t kn_check_rmsnorm(const struct kn_tensor *x, const struct kn_tensor *r, const struct kn_tensor *w, double eps,
                      const struct kn_tensor *y, const struct kn_tensor *rstd)
{
    NEED(x && is_float(x->dtype) && is(x, 2, x->dtype));
    NEED(kn_absent(r) || is2(r, x->dtype, x->d[0], x->d[1]));
    NEED(is1(w, x->dtype, x->d[1]));
    NEED(is2(y, x->dtype, x->d[0], x->d[1]) || (x->dtype == KN_F32 && is2(y, KN_BF16, x->d[0], x->d[1]) && y->s[1] == 1));
    NEED(is1(rstd, x->dtype, x->d[0]));
    return ST_OK;
}

st_t kn_check_rmsnorm_bwd(const struct kn_tensor *x, const struct kn_tensor *w, const struct kn_tensor *rstd,
                          const struct kn_tensor *dy, const struct kn_tensor *dx, const struct kn_tensor *dw)
{
    st_t st = kn_check_rmsnorm(x, dx, w, 0, dy, rstd);
    if (st) return st;
    NEED(dy->dtype == x->dtype);
    NEED(is2(dx, x->dtype, x->d[0], x->d[1]));
    NEED(is1(dw, x->dtype, x->d[1]));
    return ST_OK;
}

st_t kn_check_layernorm(const struct kn_tensor *x, const struct kn_tensor *r, const struct kn_tensor *w, const struct kn_tensor *b,
                        double eps, const struct kn_tensor *y, const struct kn_tensor *mean, const struct kn_tensor *rstd)
{
    st_t st = kn_check_rmsnorm(x, r, w, eps, y, rstd);
    if (st) return st;
    NEED(y->dtype == x->dtype);
    NEED(is1(b, x->dtype, x->d[1]));
    NEED(is1(mean, x->dtype, x->d[0]));
    return ST_OK;
}

st_t kn_check_layernorm_bwd(const struct kn_tensor *x, const struct kn_tensor *w, const struct kn_tensor *mean,
                            const struct kn_tensor *rstd, const struct kn_tensor *dy, const struct kn_tensor *dx,
                            const struct kn_tensor *dw, const struct kn_tensor *db)
{
    st_t st = kn_check_rmsnorm_bwd(x, w, rstd, dy, dx, dw);
    if (st) return st;
    NEED(is1(mean, x->dtype, x->d[0]));
    NEED(is1(db, x->dtype, x->d[1]));
    return ST_OK;
}

st_t kn_check_rope(const struct kn_tensor *x, int64_t pos0, double theta, int inverse)
{
    NEED(x && (is_float(x->dtype) || x->dtype == KN_BF16) && is(x, 4, x->dtype));
    NEED(is4(x, x->dtype, x->d[0], x->d[1], x->d[2], x->d[3]));
    NEED(x->d[3] % 2 == 0 && theta > 0 && pos0 >= 0);
    return ST_OK;
}

static int like4(const struct kn_tensor *t, const struct kn_tensor *x)
{
    return is4(t, x->dtype, x->d[0], x->d[1], x->d[2], x->d[3]);
}

st_t kn_check_headnorm(const struct kn_tensor *x, const struct kn_tensor *w, double eps, const struct kn_tensor *y,
                       const struct kn_tensor *rstd)
{
    NEED(x && is_float(x->dtype) && x->rank == 4 && like4(x, x) && like4(y, x));
    NEED(is1(w, x->dtype, x->d[3]));
    NEED(is(rstd, 3, x->dtype) && rstd->d[0] == x->d[0] && rstd->d[1] == x->d[1] && rstd->d[2] == x->d[2]);
    return ST_OK;
}

st_t kn_check_headnorm_bwd(const struct kn_tensor *x, const struct kn_tensor *w, const struct kn_tensor *rstd,
                           const struct kn_tensor *dy, const struct kn_tensor *dx, const struct kn_tensor *dw)
{
    st_t st = kn_check_headnorm(x, w, 0, dy, rstd);
    if (st) return st;
    NEED(like4(dx, x) && is1(dw, x->dtype, x->d[3]));
    return ST_OK;
}

st_t kn_check_headgate(const struct kn_tensor *x, const struct kn_tensor *g, const struct kn_tensor *y)
{
    NEED(x && is_float(x->dtype) && x->rank == 4 && like4(x, x) && like4(g, x) && like4(y, x));
    return ST_OK;
}

st_t kn_check_headgate_bwd(const struct kn_tensor *x, const struct kn_tensor *g, const struct kn_tensor *dy,
                           const struct kn_tensor *dx, const struct kn_tensor *dg)
{
    st_t st = kn_check_headgate(x, g, dy);
    return st ? st : kn_check_headgate(x, dx, dg);
}

st_t kn_check_attention(const struct kn_tensor *q, const struct kn_tensor *k, const struct kn_tensor *v, int64_t window,
                        double scale, const struct kn_tensor *out, const struct kn_tensor *lse)
{
    NEED(q && (is_float(q->dtype) || q->dtype == KN_BF16) && is(q, 4, q->dtype));
    NEED(k && is(k, 4, q->dtype));
    NEED(v && is(v, 4, q->dtype));
    int64_t B = q->d[0], T = q->d[1], H = q->d[2], K = q->d[3], S = k->d[1], G = k->d[2], E = v->d[3];
    NEED(is4(q, q->dtype, B, T, H, K));
    NEED(is4(k, q->dtype, B, S, G, K));
    NEED(is4(v, q->dtype, B, S, G, E));
    NEED(is4(out, q->dtype, B, T, H, E));
    NEED(S >= T && window >= 0 && (G ? H % G == 0 : H == 0) && (K > 0) == (E > 0));
    NEED(kn_absent(lse) || (is(lse, 3, q->dtype == KN_BF16 ? KN_F32 : q->dtype) && lse->d[0] == B && lse->d[1] == H && lse->d[2] == T));
    return ST_OK;
}

st_t kn_check_attention_bwd(const struct kn_tensor *q, const struct kn_tensor *k, const struct kn_tensor *v,
                            const struct kn_tensor *out, const struct kn_tensor *lse, const struct kn_tensor *dout,
                            int64_t window, double scale, const struct kn_tensor *dq, const struct kn_tensor *dk,
                            const struct kn_tensor *dv)
{
    st_t st = kn_check_attention(q, k, v, window, scale, out, lse);
    if (st) return st;
    NEED(k->d[1] == q->d[1] && (!kn_absent(lse) || kn_count(q) == 0));
    NEED(is4(dout, q->dtype, q->d[0], q->d[1], q->d[2], v->d[3]));
    NEED(is4(dq, q->dtype, q->d[0], q->d[1], q->d[2], q->d[3]));
    NEED(is4(dk, q->dtype, k->d[0], k->d[1], k->d[2], k->d[3]));
    NEED(is4(dv, q->dtype, k->d[0], k->d[1], k->d[2], v->d[3]));
    return ST_OK;
}

st_t kn_check_swiglu(const struct kn_tensor *g, const struct kn_tensor *u, const struct kn_tensor *h)
{
    NEED(g && is_float(g->dtype) && is(g, 2, g->dtype));
    NEED(is2(u, g->dtype, g->d[0], g->d[1]));
    NEED(is2(h, g->dtype, g->d[0], g->d[1]));
    return ST_OK;
}

st_t kn_check_swiglu_bwd(const struct kn_tensor *g, const struct kn_tensor *u, const struct kn_tensor *dh,
                         const struct kn_tensor *dg, const struct kn_tensor *du, const struct kn_tensor *h)
{
    st_t st = kn_check_swiglu(g, u, dh);
    if (!st) st = kn_check_swiglu(g, dg, du);
    if (st) return st;
    NEED(kn_absent(h) || is2(h, g->dtype, g->d[0], g->d[1]));
    return ST_OK;
}

st_t kn_check_mul(const struct kn_tensor *x, const struct kn_tensor *y, const struct kn_tensor *z)
{
    return kn_check_swiglu(x, y, z);
}

st_t kn_check_mul_bwd(const struct kn_tensor *x, const struct kn_tensor *y, const struct kn_tensor *dz, const struct kn_tensor *dx,
                      const struct kn_tensor *dy)
{
    return kn_check_swiglu_bwd(x, y, dz, dx, dy, NULL);
}

#define CONV_TAPS_MAX 16

st_t kn_check_conv(const struct kn_tensor *x, const struct kn_tensor *w, const struct kn_tensor *bias, int silu,
                   const struct kn_tensor *state, const struct kn_tensor *y)
{
    NEED(x && is_float(x->dtype) && is(x, 3, x->dtype));
    int64_t B = x->d[0], T = x->d[1], C = x->d[2];
    NEED(is3(x, x->dtype, B, T, C) && is3(y, x->dtype, B, T, C));
    NEED(is(w, 2, x->dtype) && w->d[0] == C && w->d[1] >= 1 && w->d[1] <= CONV_TAPS_MAX);
    NEED(kn_absent(bias) || is1(bias, x->dtype, C));
    NEED(kn_absent(state) || is3(state, x->dtype, B, w->d[1] - 1, C));
    return ST_OK;
}

st_t kn_check_conv_bwd(const struct kn_tensor *x, const struct kn_tensor *w, const struct kn_tensor *bias, int silu,
                       const struct kn_tensor *dy, const struct kn_tensor *dx, const struct kn_tensor *dw, const struct kn_tensor *dbias)
{
    struct kn_tensor whole = unrounded(dx, x ? x->dtype : KN_F32);
    st_t st = kn_check_conv(x, w, bias, silu, NULL, dy);
    if (!st) st = kn_check_conv(x, dw, dbias, silu, NULL, &whole);
    if (st) return st;
    NEED(w->d[1] == dw->d[1] && kn_absent(bias) == kn_absent(dbias));
    return ST_OK;
}

st_t kn_check_ssd(const struct kn_tensor *x, const struct kn_tensor *dt, const struct kn_tensor *dt_bias,
                  const struct kn_tensor *a_log, const struct kn_tensor *bm, const struct kn_tensor *cm, const struct kn_tensor *d,
                  const struct kn_tensor *state, const struct kn_tensor *y)
{
    NEED(x && bm && is_float(x->dtype) && is(x, 4, x->dtype) && is(bm, 4, x->dtype));
    int64_t B = x->d[0], T = x->d[1], H = x->d[2], P = x->d[3], G = bm->d[2], N = bm->d[3];
    NEED(is4(x, x->dtype, B, T, H, P) && is4(y, x->dtype, B, T, H, P));
    NEED(is4(bm, x->dtype, B, T, G, N) && is4(cm, x->dtype, B, T, G, N));
    NEED(is(dt, 3, x->dtype) && dt->d[0] == B && dt->d[1] == T && dt->d[2] == H);
    NEED(is1(dt_bias, x->dtype, H) && is1(a_log, x->dtype, H) && is1(d, x->dtype, H));
    NEED(G ? H % G == 0 : H == 0);
    NEED(kn_absent(state) || is4(state, x->dtype, B, H, P, N));
    return ST_OK;
}

st_t kn_check_ssd_bwd(const struct kn_tensor *x, const struct kn_tensor *dt, const struct kn_tensor *dt_bias,
                      const struct kn_tensor *a_log, const struct kn_tensor *bm, const struct kn_tensor *cm,
                      const struct kn_tensor *d, const struct kn_tensor *dy, const struct kn_tensor *dx, const struct kn_tensor *ddt,
                      const struct kn_tensor *ddt_bias, const struct kn_tensor *da_log,
                      const struct kn_tensor *dbm, const struct kn_tensor *dcm, const struct kn_tensor *dd)
{
    st_t st = kn_check_ssd(x, dt, dt_bias, a_log, bm, cm, d, NULL, dy);
    struct kn_tensor whole = unrounded(ddt, x ? x->dtype : KN_F32);
    if (!st) st = kn_check_ssd(dx, &whole, ddt_bias, da_log, dbm, dcm, dd, NULL, dx);
    if (st) return st;
    NEED(same_shape(x, dx) && same_shape(bm, dbm) && x->dtype == dx->dtype);
    return ST_OK;
}

st_t kn_check_act(int kind, const struct kn_tensor *x, const struct kn_tensor *bias, const struct kn_tensor *y)
{
    NEED(kind >= 0 && kind < KN_ACT_COUNT && x && is_float(x->dtype) && is(x, 2, x->dtype));
    NEED(kn_absent(bias) || is1(bias, x->dtype, x->d[1]));
    NEED(is2(y, x->dtype, x->d[0], x->d[1]));
    return ST_OK;
}

st_t kn_check_act_bwd(int kind, const struct kn_tensor *x, const struct kn_tensor *dy, const struct kn_tensor *dx)
{
    st_t st = kn_check_act(kind, x, NULL, dy);
    return st ? st : kn_check_act(kind, x, NULL, dx);
}

st_t kn_check_head_ce(const struct kn_tensor *x, const struct kn_tensor *w, const struct kn_tensor *target, double gscale,
                      const struct kn_tensor *loss, const struct kn_tensor *dx, const struct kn_tensor *dw)
{
    NEED(x && is_float(x->dtype) && is(x, 2, x->dtype));
    NEED(is(w, 2, x->dtype) && w->d[1] == x->d[1] && w->d[0] > 0);
    NEED(is1(target, KN_I32, x->d[0]));
    NEED(is1(loss, x->dtype, x->d[0]));
    NEED(kn_absent(dx) || is2(dx, x->dtype, x->d[0], x->d[1]));
    NEED(kn_absent(dw) || is2(dw, x->dtype, w->d[0], w->d[1]));
    return ST_OK;
}

st_t kn_check_head_distill(const struct kn_tensor *x, const struct kn_tensor *w, const struct kn_tensor *target, const struct kn_tensor *tx,
                           const struct kn_tensor *tw, double mix, double gscale, const struct kn_tensor *loss, const struct kn_tensor *dx,
                           const struct kn_tensor *dw)
{
    NEED(!kn_check_head_ce(x, w, target, gscale, loss, dx, dw) && mix >= 0 && mix <= 1);
    NEED(is(tx, 2, x->dtype) && tx->d[0] == x->d[0] && is2(tw, x->dtype, w->d[0], tx->d[1]));
    NEED(!kn_absent(dx) || !kn_absent(dw));
    return ST_OK;
}

st_t kn_check_copy(const struct kn_tensor *x, const struct kn_tensor *y)
{
    NEED(any(x) && any(y) && same_shape(x, y));
    return ST_OK;
}

st_t kn_check_axpy(double alpha, const struct kn_tensor *y, const struct kn_tensor *x)
{
    NEED(any(x) && any(y) && is_float(x->dtype) && x->dtype == y->dtype && same_shape(x, y));
    return ST_OK;
}

st_t kn_check_fill(const struct kn_tensor *x, double value)
{
    NEED(any(x));
    return ST_OK;
}

st_t kn_check_sum_rows(const struct kn_tensor *dy, const struct kn_tensor *db)
{
    NEED(dy && db && is_float(dy->dtype) && dy->rank == 2 && is2(dy, dy->dtype, dy->d[0], dy->d[1]) && is1(db, dy->dtype, dy->d[1]));
    return ST_OK;
}

/* Whole numbers side by side. */
static int is_packed(const struct kn_tensor *t, int64_t n)
{
    return is1(t, KN_I32, n) && (t->s[0] == 1 || n <= 1);
}

st_t kn_check_route(const struct kn_tensor *z, int sigmoid, const struct kn_tensor *p, const struct kn_tensor *index,
                    const struct kn_tensor *w, const struct kn_tensor *offset, const struct kn_tensor *order,
                    const struct kn_tensor *row, const struct kn_tensor *aux)
{
    NEED(z && is_float(z->dtype) && is(z, 2, z->dtype) && w && w->rank == 2);
    int64_t N = z->d[0], E = z->d[1], k = w->d[1];
    NEED(k >= 1 && k <= E && E <= KN_EXPERTS_MAX && N <= INT32_MAX / k);
    NEED(is2(p, z->dtype, N, E) && is2(index, KN_I32, N, k) && is2(w, z->dtype, N, k));
    NEED(is_packed(offset, E + 1) && is_packed(order, N * k) && is_packed(row, N * k));
    NEED(kn_absent(aux) || is1(aux, z->dtype, 1));
    return ST_OK;
}

st_t kn_check_route_bwd(const struct kn_tensor *z, int sigmoid, const struct kn_tensor *p, const struct kn_tensor *index,
                        const struct kn_tensor *w, const struct kn_tensor *offset, const struct kn_tensor *dw, double aux,
                        const struct kn_tensor *dz)
{
    NEED(z && is_float(z->dtype) && is(z, 2, z->dtype) && w && w->rank == 2);
    int64_t N = z->d[0], E = z->d[1], k = w->d[1];
    NEED(k >= 1 && k <= E && E <= KN_EXPERTS_MAX && N <= INT32_MAX / k);
    NEED(is2(p, z->dtype, N, E) && is2(index, KN_I32, N, k) && is2(w, z->dtype, N, k) && is2(dw, z->dtype, N, k));
    NEED(is_packed(offset, E + 1) && is2(dz, z->dtype, N, E));
    return ST_OK;
}

/* What products alone will read may be rounded when it is written. */
static int is2_rounded(const struct kn_tensor *t, enum kn_dtype dtype, int64_t d0, int64_t d1)
{
    return is2(t, dtype, d0, d1) || (dtype == KN_F32 && is2(t, KN_BF16, d0, d1) && (t->s[1] == 1 || d1 <= 1));
}

st_t kn_check_gather(const struct kn_tensor *x, const struct kn_tensor *order, const struct kn_tensor *y)
{
    NEED(x && is_float(x->dtype) && is(x, 2, x->dtype) && y && y->rank == 2 && is2_rounded(y, x->dtype, y->d[0], x->d[1]));
    NEED(is_packed(order, y->d[0]) && (x->d[0] ? y->d[0] % x->d[0] == 0 : y->d[0] == 0));
    return ST_OK;
}

st_t kn_check_combine(const struct kn_tensor *x, const struct kn_tensor *row, double beta, const struct kn_tensor *y)
{
    NEED(x && y && (x->dtype == y->dtype || y->dtype == KN_F32));
    return kn_check_gather(y, row, x);
}

st_t kn_check_runs(const struct kn_tensor *offset, int64_t M)
{
    const int32_t *o = offset->p;
    int64_t E = offset->d[0] - 1;
    NEED(o[0] == 0 && o[E] == M);
    for (int64_t e = 0; e < E; e++) NEED(o[e] <= o[e + 1]);
    return ST_OK;
}

st_t kn_check_gemm_grouped(const struct kn_tensor *a, const struct kn_tensor *b, const struct kn_tensor *offset, double beta,
                           const struct kn_tensor *c)
{
    NEED(a && b && c && is_float(c->dtype) && a->rank == 2);
    enum kn_dtype whole = unrounded(c, KN_F32).dtype;
    NEED(is2_rounded(a, whole, a->d[0], a->d[1]) && is2_rounded(c, whole, a->d[0], c->d[1]));
    NEED(b->dtype == whole || (is_stored(b->dtype) && b->s[1] == 1));
    NEED(is(b, 3, b->dtype) && b->d[1] == a->d[1] && b->d[2] == c->d[1]);
    NEED(is_packed(offset, b->d[0] + 1));
    return ST_OK;
}

st_t kn_check_gemm_grouped_sum(const struct kn_tensor *a, const struct kn_tensor *b, const struct kn_tensor *offset,
                               const struct kn_tensor *c)
{
    NEED(a && b && c && is_float(c->dtype) && a->rank == 2 && b->rank == 2 && is2_rounded(a, c->dtype, a->d[0], a->d[1]));
    NEED(is2_rounded(b, c->dtype, a->d[0], b->d[1]) && is(c, 3, c->dtype) && c->d[1] == a->d[1] && c->d[2] == b->d[1]);
    NEED(is_packed(offset, c->d[0] + 1));
    return ST_OK;
}

st_t kn_check_expert_act(const struct kn_tensor *g, const struct kn_tensor *u, const struct kn_tensor *order,
                         const struct kn_tensor *w, int sigmoid, const struct kn_tensor *h)
{
    NEED(g && is_float(g->dtype) && is(g, 2, g->dtype));
    NEED(kn_absent(u) || is2(u, g->dtype, g->d[0], g->d[1]));
    NEED(kn_absent(w) || is1(w, unrounded(g, KN_F32).dtype, g->d[0]));
    NEED(kn_absent(order) || is_packed(order, g->d[0]));
    NEED(is2(h, g->dtype, g->d[0], g->d[1]));
    return ST_OK;
}

st_t kn_check_expert_act_bwd(const struct kn_tensor *g, const struct kn_tensor *u, const struct kn_tensor *order,
                             const struct kn_tensor *w, int sigmoid, const struct kn_tensor *dh, const struct kn_tensor *dg,
                             const struct kn_tensor *du, const struct kn_tensor *dw, const struct kn_tensor *h)
{
    st_t st = kn_check_expert_act(g, u, order, w, sigmoid, dh);
    if (!st) st = kn_check_expert_act(g, du, order, dw, sigmoid, dg);
    if (st) return st;
    NEED(kn_absent(u) == kn_absent(du) && kn_absent(w) == kn_absent(dw));
    NEED(kn_absent(h) || is2(h, g->dtype, g->d[0], g->d[1]));
    return ST_OK;
}

st_t kn_check_sumsq(const struct kn_tensor *x, double *out)
{
    NEED(x && out && is_float(x->dtype) && x->rank == 1 && is_slab(x, x->dtype, x->d[0]));
    return ST_OK;
}

static int are_slabs(const struct kn_tensor *p, const struct kn_tensor *g, const struct kn_tensor *m, const struct kn_tensor *v)
{
    if (!p || !is_float(p->dtype) || p->rank != 1) return 0;
    int64_t n = p->d[0];
    return is_slab(p, p->dtype, n) && is_slab(g, p->dtype, n) && is_slab(m, p->dtype, n) && is_slab(v, p->dtype, n);
}

st_t kn_check_adamw(const struct kn_tensor *p, const struct kn_tensor *g, const struct kn_tensor *m, const struct kn_tensor *v,
                    const struct kn_adamw *h)
{
    NEED(h && h->t >= 1 && are_slabs(p, g, m, v));
    return ST_OK;
}

st_t kn_check_clip(const struct kn_tensor *g, double most, const struct kn_tensor *out)
{
    NEED(g && is_float(g->dtype) && g->rank == 1 && is_slab(g, g->dtype, g->d[0]) && is_slab(out, KN_F64, 2));
    return ST_OK;
}

st_t kn_check_adamw_at(const struct kn_tensor *p, const struct kn_tensor *g, const struct kn_tensor *m, const struct kn_tensor *v, const struct kn_adamw *h,
                       const struct kn_tensor *at, const struct kn_tensor *clip)
{
    NEED(h && are_slabs(p, g, m, v) && is_slab(at, KN_F64, 3) && is_slab(clip, KN_F64, 2));
    return ST_OK;
}

/* [N,D] with unit last stride */
static int is_rows(const struct kn_tensor *t, enum kn_dtype dtype, int64_t n, int64_t d)
{
    return is2(t, dtype, n, d) && (t->s[1] == 1 || d <= 1);
}

st_t kn_check_gatednorm(const struct kn_tensor *x, const struct kn_tensor *z, const struct kn_tensor *w, int64_t group, double eps,
                        int gate_first, const struct kn_tensor *y, const struct kn_tensor *rstd)
{
    NEED(x && is_float(x->dtype) && x->rank == 2 && group > 0 && x->d[1] % group == 0);
    NEED(is_rows(x, x->dtype, x->d[0], x->d[1]));
    NEED(is_rows(z, x->dtype, x->d[0], x->d[1]));
    struct kn_tensor whole = unrounded(y, x->dtype);
    NEED(is_rows(&whole, x->dtype, x->d[0], x->d[1]));
    NEED(is1(w, x->dtype, x->d[1]) || is1(w, x->dtype, group));
    NEED(is2(rstd, x->dtype, x->d[0], x->d[1] / group));
    return ST_OK;
}

st_t kn_check_gatednorm_bwd(const struct kn_tensor *x, const struct kn_tensor *z, const struct kn_tensor *w, int64_t group, int gate_first,
                            const struct kn_tensor *rstd, const struct kn_tensor *dy, const struct kn_tensor *dx, const struct kn_tensor *dz,
                            const struct kn_tensor *dw)
{
    st_t st = kn_check_gatednorm(x, z, w, group, 0, gate_first, dy, rstd);
    if (st) return st;
    struct kn_tensor whole = unrounded(dz, x->dtype);
    NEED(dy->dtype == x->dtype && is_rows(dx, x->dtype, x->d[0], x->d[1]));
    NEED(is_rows(&whole, x->dtype, x->d[0], x->d[1]));
    NEED(is1(dw, x->dtype, w->d[0]));
    return ST_OK;
}

/* A float tensor of that rank. */
static int is_any(const struct kn_tensor *t, int rank)
{
    return t && is_float(t->dtype) && is(t, rank, t->dtype);
}

/* t has u's shape and dtype; unit last stride */
static int is_like(const struct kn_tensor *t, const struct kn_tensor *u)
{
    return u->rank == 4 ? is4(t, u->dtype, u->d[0], u->d[1], u->d[2], u->d[3]) : is_rows(t, u->dtype, u->d[0], u->d[1]);
}

st_t kn_check_delta_rule(const struct kn_tensor *q, const struct kn_tensor *k, const struct kn_tensor *v, const struct kn_tensor *g,
                         const struct kn_tensor *beta, double eps, double scale, const struct kn_tensor *s, const struct kn_tensor *out)
{
    NEED(is_any(q, 4) && is_any(v, 4) && v->dtype == q->dtype);
    int64_t B = q->d[0], T = q->d[1], G = q->d[2], K = q->d[3], H = v->d[2], V = v->d[3];
    NEED(is_like(q, q) && is_like(k, q) && is_like(v, v) && is_like(out, v));
    NEED(v->d[0] == B && v->d[1] == T && (G ? H % G == 0 : H == 0));
    NEED(is3(g, q->dtype, B, T, H) && is3(beta, q->dtype, B, T, H));
    NEED(kn_absent(s) || is4(s, q->dtype, B, H, K, V));
    return ST_OK;
}

st_t kn_check_delta_rule_bwd(const struct kn_tensor *q, const struct kn_tensor *k, const struct kn_tensor *v, const struct kn_tensor *g,
                             const struct kn_tensor *beta, double eps, double scale, const struct kn_tensor *dout,
                             const struct kn_tensor *dq, const struct kn_tensor *dk, const struct kn_tensor *dv,
                             const struct kn_tensor *dg, const struct kn_tensor *dbeta)
{
    st_t st = kn_check_delta_rule(q, k, v, g, beta, eps, scale, NULL, dout);
    if (st) return st;
    NEED(is_like(dq, q) && is_like(dk, q) && is_like(dv, v));
    NEED(is3(dg, q->dtype, q->d[0], q->d[1], v->d[2]) && is3(dbeta, q->dtype, q->d[0], q->d[1], v->d[2]));
    return ST_OK;
}

st_t kn_check_delta_gates(const struct kn_tensor *a, const struct kn_tensor *b, const struct kn_tensor *a_log,
                          const struct kn_tensor *dt_bias, const struct kn_tensor *g, const struct kn_tensor *beta)
{
    NEED(is_any(a, 2) && is_like(a, a) && is_like(b, a) && is_like(g, a) && is_like(beta, a));
    NEED(is1(a_log, a->dtype, a->d[1]) && is1(dt_bias, a->dtype, a->d[1]));
    return ST_OK;
}

st_t kn_check_delta_gates_bwd(const struct kn_tensor *a, const struct kn_tensor *b, const struct kn_tensor *a_log,
                              const struct kn_tensor *dt_bias, const struct kn_tensor *dg, const struct kn_tensor *dbeta,
                              const struct kn_tensor *da, const struct kn_tensor *db, const struct kn_tensor *da_log,
                              const struct kn_tensor *ddt_bias)
{
    st_t st = kn_check_delta_gates(a, b, a_log, dt_bias, dg, dbeta);
    if (st) return st;
    NEED(is_like(da, a) && is_like(db, a) && is1(da_log, a->dtype, a->d[1]) && is1(ddt_bias, a->dtype, a->d[1]));
    return ST_OK;
}

st_t kn_check_gla(const struct kn_tensor *q, const struct kn_tensor *k, const struct kn_tensor *v, const struct kn_tensor *g,
                  double scale, const struct kn_tensor *s, const struct kn_tensor *out)
{
    NEED(is_any(q, 4) && is_any(v, 4) && v->dtype == q->dtype);
    NEED(is_like(q, q) && is_like(k, q) && is_like(g, q) && is_like(v, v) && is_like(out, v));
    NEED(v->d[0] == q->d[0] && v->d[1] == q->d[1] && v->d[2] == q->d[2]);
    NEED(kn_absent(s) || is4(s, q->dtype, q->d[0], q->d[2], q->d[3], v->d[3]));
    return ST_OK;
}

st_t kn_check_gla_bwd(const struct kn_tensor *q, const struct kn_tensor *k, const struct kn_tensor *v, const struct kn_tensor *g,
                      double scale, const struct kn_tensor *dout, const struct kn_tensor *dq, const struct kn_tensor *dk,
                      const struct kn_tensor *dv, const struct kn_tensor *dg)
{
    st_t st = kn_check_gla(q, k, v, g, scale, NULL, dout);
    if (st) return st;
    NEED(is_like(dq, q) && is_like(dk, q) && is_like(dv, v) && is_like(dg, q));
    return ST_OK;
}

st_t kn_check_logsigmoid(const struct kn_tensor *x, double alpha, const struct kn_tensor *y)
{
    NEED(is_any(x, 2) && is_like(x, x) && is_like(y, x));
    return ST_OK;
}

st_t kn_check_logsigmoid_bwd(const struct kn_tensor *x, double alpha, const struct kn_tensor *dy, const struct kn_tensor *dx)
{
    st_t st = kn_check_logsigmoid(x, alpha, dy);
    return st ? st : kn_check_logsigmoid(x, alpha, dx);
}
