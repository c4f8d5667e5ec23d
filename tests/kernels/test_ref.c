/* The reference: gradients of every op with a backward against central differences in f64, the optimiser against its closed formula, the product and
 * the casts against numbers worked out by hand. */
#include <stdlib.h>

#include "base/rng.h"
#include "kernels/device.h"
#include "tests/tap.h"

static struct kn_dev *ref;

static double *random_new(int64_t n, uint64_t seed)
{
    struct base_rng r = base_rng_at(seed, RNG_TEST, 0);
    double *p = malloc((size_t)(n + 1) * sizeof *p);
    if (!p) abort();
    for (int64_t i = 0; i < n; i++) p[i] = base_rng_normal(&r);
    return p;
}

/* A scalar function of what p[0..n) is; what differentiates it runs the op and contracts its output with fixed weights. */
typedef double (*fn)(void *ctx);

/* Largest |analytic - central difference| over the n values at p, relative to the largest gradient (at least 1). */
static double check(fn f, void *ctx, double *p, const double *grad, int64_t n)
{
    double worst = 0, scale = 1, h = 1e-5;
    for (int64_t i = 0; i < n; i++) {
        double keep = p[i], up, down;
        p[i] = keep + h, up = f(ctx);
        p[i] = keep - h, down = f(ctx);
        p[i] = keep;
        worst = fmax(worst, fabs((up - down) / (2 * h) - grad[i]));
        scale = fmax(scale, fabs(grad[i]));
    }
    return worst / scale;
}

static double contract(const double *a, const double *b, int64_t n)
{
    double s = 0;
    for (int64_t i = 0; i < n; i++) s += a[i] * b[i];
    return s;
}

/* embed */

enum { E_N = 6, E_V = 5, E_D = 3 };
static int32_t e_tok[E_N] = {0, 4, 1, 4, 4, 2};
struct embed {
    double *w, *out, *dout;
};

static double embed_f(void *ctx)
{
    struct embed *c = ctx;
    struct kn_tensor t = kn_t1(e_tok, KN_I32, E_N), w = kn_t2(c->w, KN_F64, E_V, E_D), o = kn_t2(c->out, KN_F64, E_N, E_D);
    return ref->op->embed(ref, &t, &w, &o) ? NAN : contract(c->out, c->dout, E_N * E_D);
}

static void test_embed(void)
{
    struct embed c = {random_new(E_V * E_D, 1), random_new(E_N * E_D, 2), random_new(E_N * E_D, 3)};
    double *dw = random_new(E_V * E_D, 4), *start = random_new(E_V * E_D, 4);
    struct kn_tensor t = kn_t1(e_tok, KN_I32, E_N), o = kn_t2(c.dout, KN_F64, E_N, E_D), d = kn_t2(dw, KN_F64, E_V, E_D);
    ok(!ref->op->embed_bwd(ref, &t, &o, &d), "embed_bwd");
    for (int i = 0; i < E_V * E_D; i++) dw[i] -= start[i]; /* it adds */
    double e = check(embed_f, &c, c.w, dw, E_V * E_D);
    ok(e < 1e-8, "embed: dw (%.1e)", e);
    e_tok[1] = 5;
    is_int(ref->op->embed_bwd(ref, &t, &o, &d), ST_EINVAL, "embed: a token beyond the vocabulary");
    e_tok[1] = 4;
    free(c.w), free(c.out), free(c.dout), free(dw), free(start);
}

/* rmsnorm: the residual is added in place, so x is put back before each run */

enum { R_N = 4, R_D = 6 };
struct rmsnorm {
    double *x, *r, *w, *y, *rstd, *dy, *dres, *sum;
};

static double rmsnorm_f(void *ctx)
{
    struct rmsnorm *c = ctx;
    memcpy(c->sum, c->x, R_N * R_D * sizeof(double));
    struct kn_tensor x = kn_t2(c->sum, KN_F64, R_N, R_D), r = kn_t2(c->r, KN_F64, R_N, R_D), w = kn_t1(c->w, KN_F64, R_D);
    struct kn_tensor y = kn_t2(c->y, KN_F64, R_N, R_D), s = kn_t1(c->rstd, KN_F64, R_N);
    if (ref->op->rmsnorm(ref, &x, &r, &w, 1e-3, &y, &s)) return NAN;
    return contract(c->y, c->dy, R_N * R_D) + contract(c->sum, c->dres, R_N * R_D);
}

static void test_rmsnorm(void)
{
    struct rmsnorm c = {random_new(R_N * R_D, 1), random_new(R_N * R_D, 2), random_new(R_D, 3),       random_new(R_N * R_D, 4),
                        random_new(R_N, 5),       random_new(R_N * R_D, 6), random_new(R_N * R_D, 7), random_new(R_N * R_D, 8)};
    double *dx = random_new(R_N * R_D, 7), *dw = random_new(R_D, 9), *start = random_new(R_D, 9); /* dx starts as the residual path's gradient */
    rmsnorm_f(&c);
    struct kn_tensor x = kn_t2(c.sum, KN_F64, R_N, R_D), w = kn_t1(c.w, KN_F64, R_D), s = kn_t1(c.rstd, KN_F64, R_N);
    struct kn_tensor dy = kn_t2(c.dy, KN_F64, R_N, R_D), tx = kn_t2(dx, KN_F64, R_N, R_D), tw = kn_t1(dw, KN_F64, R_D);
    ok(!ref->op->rmsnorm_bwd(ref, &x, &w, &s, &dy, &tx, &tw), "rmsnorm_bwd");
    for (int i = 0; i < R_D; i++) dw[i] -= start[i];
    double ex = check(rmsnorm_f, &c, c.x, dx, R_N * R_D), er = check(rmsnorm_f, &c, c.r, dx, R_N * R_D), ew = check(rmsnorm_f, &c, c.w, dw, R_D);
    ok(ex < 1e-8 && er < 1e-8 && ew < 1e-8, "rmsnorm: dx, the residual's, dw (%.1e %.1e %.1e)", ex, er, ew);
    free(c.x), free(c.r), free(c.w), free(c.y), free(c.rstd), free(c.dy), free(c.dres), free(c.sum), free(dx), free(dw), free(start);
}

/* rope */

enum { P_N = 2 * 3 * 2 * 6 };
struct rope {
    double *x, *y, *dy;
};

static double rope_f(void *ctx)
{
    struct rope *c = ctx;
    memcpy(c->y, c->x, P_N * sizeof(double));
    struct kn_tensor y = kn_t4(c->y, KN_F64, 2, 3, 2, 6);
    return ref->op->rope(ref, &y, 5, 10000, 0) ? NAN : contract(c->y, c->dy, P_N);
}

static void test_rope(void)
{
    struct rope c = {random_new(P_N, 1), random_new(P_N, 2), random_new(P_N, 3)};
    double *dx = random_new(P_N, 3), x[4] = {1, 2, 3, 4};
    struct kn_tensor t = kn_t4(dx, KN_F64, 2, 3, 2, 6), one = kn_t4(x, KN_F64, 1, 1, 1, 4);
    ok(!ref->op->rope(ref, &t, 5, 10000, 1), "rope, inverse");
    double e = check(rope_f, &c, c.x, dx, P_N);
    ok(e < 1e-8, "rope: dx is the rotation back (%.1e)", e);
    ok(!ref->op->rope(ref, &one, 2, 100, 0), "rope by hand");
    is_near(x[0], cos(2) - 3 * sin(2), 1e-15, "first pair turns by the position");
    is_near(x[3], 4 * cos(0.2) + 2 * sin(0.2), 1e-15, "second by a tenth of it for theta = 100");
    free(c.x), free(c.y), free(c.dy), free(dx);
}

/* attention */

struct attention {
    int64_t B, T, H, G, K, window;
    double *q, *k, *v, *out, *lse, *dout;
};

static double attention_f(void *ctx)
{
    struct attention *c = ctx;
    struct kn_tensor q = kn_t4(c->q, KN_F64, c->B, c->T, c->H, c->K), k = kn_t4(c->k, KN_F64, c->B, c->T, c->G, c->K);
    struct kn_tensor v = kn_t4(c->v, KN_F64, c->B, c->T, c->G, c->K), o = kn_t4(c->out, KN_F64, c->B, c->T, c->H, c->K);
    struct kn_tensor l = kn_t3(c->lse, KN_F64, c->B, c->H, c->T);
    return ref->op->attention(ref, &q, &k, &v, c->window, 0.5, &o, &l) ? NAN : contract(c->out, c->dout, kn_count(&o));
}

static void test_attention(int64_t heads, int64_t groups, int64_t window)
{
    struct attention c = {.B = 2, .T = 7, .H = heads, .G = groups, .K = 4, .window = window};
    int64_t nq = c.B * c.T * c.H * c.K, nk = c.B * c.T * c.G * c.K;
    c.q = random_new(nq, 1), c.k = random_new(nk, 2), c.v = random_new(nk, 3), c.out = random_new(nq, 4);
    c.lse = random_new(c.B * c.H * c.T, 5), c.dout = random_new(nq, 6);
    double *dq = random_new(nq, 7), *dk = random_new(nk, 8), *dv = random_new(nk, 9);
    attention_f(&c);
    struct kn_tensor q = kn_t4(c.q, KN_F64, c.B, c.T, c.H, c.K), k = kn_t4(c.k, KN_F64, c.B, c.T, c.G, c.K);
    struct kn_tensor v = kn_t4(c.v, KN_F64, c.B, c.T, c.G, c.K), o = kn_t4(c.out, KN_F64, c.B, c.T, c.H, c.K);
    struct kn_tensor l = kn_t3(c.lse, KN_F64, c.B, c.H, c.T), d = kn_t4(c.dout, KN_F64, c.B, c.T, c.H, c.K);
    struct kn_tensor tq = q, tk = k, tv = v;
    tq.p = dq, tk.p = dk, tv.p = dv;
    ok(!ref->op->attention_bwd(ref, &q, &k, &v, &o, &l, &d, window, 0.5, &tq, &tk, &tv), "attention_bwd");
    double eq = check(attention_f, &c, c.q, dq, nq), ek = check(attention_f, &c, c.k, dk, nk), ev = check(attention_f, &c, c.v, dv, nk);
    ok(eq < 1e-8 && ek < 1e-8 && ev < 1e-8, "attention, %d heads on %d, window %d: dq, dk, dv (%.1e %.1e %.1e)", (int)heads, (int)groups,
       (int)window, eq, ek, ev);
    free(c.q), free(c.k), free(c.v), free(c.out), free(c.lse), free(c.dout), free(dq), free(dk), free(dv);
}

/* Queries at the end of longer keys give what they give in the middle of a whole sequence; the first sees itself alone. */
static void test_attention_forward(void)
{
    enum { T = 5, H = 2, K = 4 };
    double *q = random_new(T * H * K, 1), *k = random_new(T * H * K, 2), *v = random_new(T * H * K, 3), out[T * H * K], last[H * K];
    struct kn_tensor tq = kn_t4(q, KN_F64, 1, T, H, K), tk = kn_t4(k, KN_F64, 1, T, H, K), tv = kn_t4(v, KN_F64, 1, T, H, K);
    struct kn_tensor to = kn_t4(out, KN_F64, 1, T, H, K), one = kn_slice(&tq, 1, T - 1, 1), tl = kn_t4(last, KN_F64, 1, 1, H, K);
    ok(!ref->op->attention(ref, &tq, &tk, &tv, 2, 0.5, &to, NULL) && !ref->op->attention(ref, &one, &tk, &tv, 2, 0.5, &tl, NULL), "attention");
    ok(!memcmp(last, out + (T - 1) * H * K, sizeof last), "attention: the last query alone, the same bits");
    ok(!memcmp(out, v, H * K * sizeof *v), "attention: the first query sees its own key");
    ok(!ref->op->attention(ref, &tq, &tk, &tv, 1, 0.5, &to, NULL) && !memcmp(out, v, sizeof out), "attention: window 1 is the query's own key");
    free(q), free(k), free(v);
}

/* swiglu */

enum { S_N = 3 * 5 };
struct swiglu {
    double *g, *u, *h, *dh;
};

static double swiglu_f(void *ctx)
{
    struct swiglu *c = ctx;
    struct kn_tensor g = kn_t2(c->g, KN_F64, 3, 5), u = kn_t2(c->u, KN_F64, 3, 5), h = kn_t2(c->h, KN_F64, 3, 5);
    return ref->op->swiglu(ref, &g, &u, &h) ? NAN : contract(c->h, c->dh, S_N);
}

static void test_swiglu(void)
{
    struct swiglu c = {random_new(S_N, 1), random_new(S_N, 2), random_new(S_N, 3), random_new(S_N, 4)};
    double *dg = random_new(S_N, 1), *du = random_new(S_N, 2);
    double dh[S_N];
    struct kn_tensor h = kn_t2(dh, KN_F64, 3, 5), tg = kn_t2(dg, KN_F64, 3, 5), tu = kn_t2(du, KN_F64, 3, 5);
    memcpy(dh, c.dh, sizeof dh);
    ok(!isnan(swiglu_f(&c)) && !ref->op->swiglu_bwd(ref, &tg, &tu, &h, &tg, &tu, &h), "swiglu_bwd in place");
    ok(!memcmp(dh, c.h, sizeof dh), "swiglu: h again, the same bits");
    double eg = check(swiglu_f, &c, c.g, dg, S_N), eu = check(swiglu_f, &c, c.u, du, S_N);
    ok(eg < 1e-8 && eu < 1e-8, "swiglu: dg, du (%.1e %.1e)", eg, eu);
    free(c.g), free(c.u), free(c.h), free(c.dh), free(dg), free(du);
}

/* head_ce */

enum { H_N = 5, H_D = 4, H_V = 7 };
static int32_t h_target[H_N] = {0, 6, -1, 3, 3};
struct head {
    double *x, *w, *loss;
};

static double head_f(void *ctx)
{
    struct head *c = ctx;
    struct kn_tensor x = kn_t2(c->x, KN_F64, H_N, H_D), w = kn_t2(c->w, KN_F64, H_V, H_D), t = kn_t1(h_target, KN_I32, H_N);
    struct kn_tensor l = kn_t1(c->loss, KN_F64, H_N);
    double sum = 0;
    if (ref->op->head_ce(ref, &x, &w, &t, 1, &l, NULL, NULL)) return NAN;
    for (int i = 0; i < H_N; i++) sum += 0.25 * c->loss[i];
    return sum;
}

static void test_head_ce(void)
{
    struct head c = {random_new(H_N * H_D, 1), random_new(H_V * H_D, 2), random_new(H_N, 3)};
    double *dx = random_new(H_N * H_D, 4), *dw = random_new(H_V * H_D, 5), *start = random_new(H_V * H_D, 5), *loss = random_new(H_N, 6);
    struct kn_tensor x = kn_t2(c.x, KN_F64, H_N, H_D), w = kn_t2(c.w, KN_F64, H_V, H_D), t = kn_t1(h_target, KN_I32, H_N);
    struct kn_tensor l = kn_t1(loss, KN_F64, H_N), tx = kn_t2(dx, KN_F64, H_N, H_D), tw = kn_t2(dw, KN_F64, H_V, H_D);
    ok(!ref->op->head_ce(ref, &x, &w, &t, 0.25, &l, &tx, &tw), "head_ce with gradients");
    for (int i = 0; i < H_V * H_D; i++) dw[i] -= start[i];
    double ex = check(head_f, &c, c.x, dx, H_N * H_D), ew = check(head_f, &c, c.w, dw, H_V * H_D);
    ok(ex < 1e-8 && ew < 1e-8, "head_ce: dx, dw (%.1e %.1e)", ex, ew);
    head_f(&c);
    ok(!memcmp(loss, c.loss, H_N * sizeof *loss) && loss[2] == 0 && dx[2 * H_D] == 0, "head_ce: a row without a target counts for nothing");
    memset(c.w, 0, H_V * H_D * sizeof *c.w);
    is_near(head_f(&c), 0.25 * 4 * log(H_V), 1e-15, "head_ce: equal logits cost log V each");
    free(c.x), free(c.w), free(c.loss), free(dx), free(dw), free(start), free(loss);
}

/* head_distill: its loss by its definition, labels and divergence apart */

struct taught {
    double *x, *w, *tx, *tw, mix;
};

static void softmax_of(const double *x, const double *w, int width, double p[H_V])
{
    double sum = 0;
    for (int v = 0; v < H_V; v++) {
        p[v] = 0;
        for (int d = 0; d < width; d++) p[v] += x[d] * w[v * width + d];
        sum += p[v] = exp(p[v]);
    }
    for (int v = 0; v < H_V; v++) p[v] /= sum;
}

static double taught_f(void *ctx)
{
    struct taught *c = ctx;
    double sum = 0, p[H_V], q[H_V];
    for (int n = 0; n < H_N; n++) {
        if (h_target[n] < 0) continue;
        softmax_of(c->x + n * H_D, c->w, H_D, p);
        softmax_of(c->tx + n * 3, c->tw, 3, q);
        sum -= (1 - c->mix) * log(p[h_target[n]]);
        for (int v = 0; v < H_V; v++) sum += c->mix * q[v] * log(q[v] / p[v]);
    }
    return 0.25 * sum;
}

static void test_head_distill(void)
{
    struct taught c = {random_new(H_N * H_D, 1), random_new(H_V * H_D, 2), random_new(H_N * 3, 3), random_new(H_V * 3, 4), 0.3};
    double dx[H_N * H_D], dw[H_V * H_D] = {0}, loss[H_N], plain[H_N];
    struct kn_tensor x = kn_t2(c.x, KN_F64, H_N, H_D), w = kn_t2(c.w, KN_F64, H_V, H_D), t = kn_t1(h_target, KN_I32, H_N), tx = kn_t2(c.tx, KN_F64, H_N, 3),
                     tw = kn_t2(c.tw, KN_F64, H_V, 3), l = kn_t1(loss, KN_F64, H_N), lp = kn_t1(plain, KN_F64, H_N), gx = kn_t2(dx, KN_F64, H_N, H_D),
                     gw = kn_t2(dw, KN_F64, H_V, H_D);
    ok(!ref->op->head_distill(ref, &x, &w, &t, &tx, &tw, c.mix, 0.25, &l, &gx, &gw), "head_distill");
    double ex = check(taught_f, &c, c.x, dx, H_N * H_D), ew = check(taught_f, &c, c.w, dw, H_V * H_D);
    ok(ex < 1e-8 && ew < 1e-8, "head_distill: dx, dw (%.1e %.1e)", ex, ew);
    ok(!ref->op->head_ce(ref, &x, &w, &t, 0, &lp, NULL, NULL) && !memcmp(loss, plain, sizeof loss), "head_distill: the loss is head_ce's");
    ok(dx[2 * H_D] == 0 && dx[2 * H_D + 1] == 0, "head_distill: a row without a target counts for nothing");
    free(c.x), free(c.w), free(c.tx), free(c.tw);
}

/* adamw: after t steps of one constant gradient g, m^ = g and v^ = g^2, so each step is p (1 - lr wd) - lr g / (|g| + eps) */
static void test_adamw(void)
{
    double p[2] = {1, -2}, g[2] = {0.5, -4}, m[2] = {0}, v[2] = {0}, want[2] = {1, -2};
    struct kn_tensor tp = kn_t1(p, KN_F64, 2), tg = kn_t1(g, KN_F64, 2), tm = kn_t1(m, KN_F64, 2), tv = kn_t1(v, KN_F64, 2);
    struct kn_adamw h = {.lr = 0.01, .beta1 = 0.9, .beta2 = 0.99, .eps = 1e-3, .weight_decay = 0.1, .gscale = 0.5};
    int bad = 0;
    for (h.t = 1; h.t <= 5; h.t++) {
        bad |= !!ref->op->adamw(ref, &tp, &tg, &tm, &tv, &h);
        for (int i = 0; i < 2; i++) want[i] = want[i] * (1 - 0.01 * 0.1) - 0.01 * 0.5 * g[i] / (fabs(0.5 * g[i]) + 1e-3);
    }
    ok(!bad, "adamw runs");
    is_near(p[0], want[0], 1e-14, "adamw: closed formula, first");
    is_near(p[1], want[1], 1e-14, "adamw: closed formula, second");
    is_near(m[1], -2 * (1 - pow(0.9, 5)), 1e-14, "adamw: first moment");
    is_near(v[1], 4 * (1 - pow(0.99, 5)), 1e-14, "adamw: second moment");
    h.t = 0;
    is_int(ref->op->adamw(ref, &tp, &tg, &tm, &tv, &h), ST_EINVAL, "adamw: steps count from 1");
}

static void test_gemm(void)
{
    double a[6] = {1, 2, 3, 4, 5, 6}, b[6] = {7, 8, 9, 10, 11, 12}, c[4] = {1, NAN, 1, 1};
    struct kn_tensor ta = kn_t2(a, KN_F64, 2, 3), tb = kn_t2(b, KN_F64, 3, 2), tc = kn_t2(c, KN_F64, 2, 2), tt = kn_transpose(&tc);
    ok(!ref->op->gemm(ref, 2, &ta, &tb, 0, &tc), "gemm");
    ok(c[0] == 116 && c[1] == 128 && c[2] == 278 && c[3] == 308, "gemm: by hand, over garbage");
    ok(!ref->op->gemm(ref, 1, &ta, &tb, 1, &tt) && c[0] == 174 && c[1] == 128 + 139 && c[2] == 278 + 64, "gemm: adds, into a transposed output");
}

static void test_elements(void)
{
    static const float from[6] = {1, -2.5f, 3.140625f, 1e30f, 257, NAN}, exact[5] = {1, -2.5f, 3.140625f, 1e30f, 256};
    uint16_t half[6];
    float back[6];
    double sum, d[6] = {1, 2, 3, 4, 5, 6};
    struct kn_tensor f = kn_t2((void *)from, KN_F32, 2, 3), h = kn_t2(half, KN_BF16, 2, 3), r = kn_t2(back, KN_F32, 2, 3), t = kn_t2(d, KN_F64, 2, 3);
    ok(!ref->op->copy(ref, &f, &h) && !ref->op->copy(ref, &h, &r), "copy to bf16 and back");
    int same = back[5] != back[5];
    for (int i = 0; i < 5; i++) same &= fabsf(back[i] / exact[i] - 1) <= (i == 3 ? 1 / 256.0f : 0);
    ok(same && back[4] == 256, "bf16 rounds to nearest, ties to even, and keeps NaN");
    struct kn_tensor col = kn_slice(&t, 1, 1, 1), v = kn_t1(d, KN_F64, 6);
    ok(!ref->op->fill(ref, &col, -1) && d[1] == -1 && d[4] == -1 && d[0] == 1, "fill of a column");
    ok(!ref->op->axpy(ref, 2, &t, &t) && d[0] == 3 && d[1] == -3 && d[5] == 18, "axpy");
    ok(!ref->op->sumsq(ref, &v, &sum) && sum == 9 + 9 + 81 + 144 + 9 + 324, "sumsq");
    struct kn_tensor apart = kn_slice(&v, 0, 0, 3);
    apart.s[0] = 2;
    is_int(ref->op->sumsq(ref, &apart, &sum), ST_EINVAL, "sumsq asks for a contiguous vector");
    is_int(ref->op->copy(ref, &v, &t), ST_EINVAL, "copy asks for one shape");
    is_int(ref->op->sumsq(ref, &(struct kn_tensor){half, KN_BF16, 1, {6}, {1}}, &sum), ST_ENOTSUP, "arithmetic in bf16 is not the reference's");
}

int main(void)
{
    if (!ok(!kn_dev_open(&ref, "ref", 0, NULL), "ref opens")) return tap_done();
    test_gemm();
    test_elements();
    test_embed();
    test_rmsnorm();
    test_rope();
    test_attention(2, 2, 0);
    test_attention(4, 2, 0);
    test_attention(4, 1, 3);
    test_attention(2, 2, 1);
    test_attention_forward();
    test_swiglu();
    test_head_ce();
    test_head_distill();
    test_adamw();
    kn_dev_close(ref);
    return tap_done();
}
