/* taut bench ops: each op at the shapes of the models, and its share of the limit that binds it.
 *
 * A layer type's ops are a function here and a line in `parts`; what the stack itself does is in `stack`. A function makes the tensors (freed for it) and
 * says for each op what it is called, in which pass, on what shape, what it costs (kernels/cost.h) and how it is called:
 *
 *   static void swiglu(struct ops *o, const struct arch_part *p)
 *   {
 *       struct kn_tensor g = floats(o, 2, o->n, f, 0, 0), …;
 *       OP(o, "swiglu", FORWARD, COPY, kn_cost_swiglu(o->n, f, 4), o->b->dev->op->swiglu(o->b->dev, &g, &u, &h), "%dx%d", o->n, f);
 *   }
 */
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "cli/bench.h"
#include "cli/format.h"
#include "cli/interrupt.h"
#include "cli/progress.h"
#include "searchspace/layer.h"

#define MEM_MAX 64
#define ROWS_MAX 128
#define DECODE_AT 1024

enum pass { FORWARD, BACKWARD, DECODE };
static const char *const pass_names[] = {"forward", "backward", "decode"};

struct row {
    const char *op;
    enum pass pass;
    char shape[64];
    enum kn_limit_kind kind; /* what its bytes are: nearly all read, or also written */
    struct kn_cost cost;
    struct kn_rate ns;
    double share;            /* of the limit that binds */
    const char *bound;
    st_t st;
};

struct ops {
    struct bench *b;
    const struct arch *a, *other; /* other: [nothers], of one layer each */
    int model, nothers;
    int64_t n, d;            /* rows of a step; width */
    struct {
        void *p;
        size_t bytes;
    } mem[MEM_MAX];
    int nmem, nrows;
    struct row row[ROWS_MAX];
    st_t st;                 /* the first failure: memory */
};

/* ---- tensors ---- */

static void *memory(struct ops *o, size_t bytes)
{
    void *p = NULL;
    if (o->nmem == MEM_MAX) o->st = ST_ETOOBIG;
    if (!o->st) o->st = kn_alloc(o->b->dev, bytes, &p);
    if (o->st) return NULL;
    o->mem[o->nmem].p = p;
    o->mem[o->nmem++].bytes = bytes;
    return p;
}

static void drop(struct ops *o)
{
    while (o->nmem) {
        o->nmem--;
        kn_free(o->b->dev, o->mem[o->nmem].p, o->mem[o->nmem].bytes);
    }
}

/* Values in -1/2 .. 1/2, the same few thousand again and again. */
static struct kn_tensor floats(struct ops *o, int rank, int64_t d0, int64_t d1, int64_t d2, int64_t d3)
{
    enum { PATTERN = 4099 };
    static float pattern[PATTERN];
    if (pattern[0] == 0) {
        struct base_rng r = base_rng_at(1, RNG_TEST, 0);
        for (int i = 0; i < PATTERN; i++) pattern[i] = (float)base_rng_unit(&r) - 0.5f;
    }
    int64_t count = d0 * (rank > 1 ? d1 : 1) * (rank > 2 ? d2 : 1) * (rank > 3 ? d3 : 1);
    float *p = memory(o, (size_t)count * sizeof *p);
    for (int64_t i = 0; p && i < count; i += PATTERN) memcpy(p + i, pattern, (size_t)(count - i < PATTERN ? count - i : PATTERN) * sizeof *p);
    return rank == 1 ? kn_t1(p, KN_F32, d0) : rank == 2 ? kn_t2(p, KN_F32, d0, d1) : rank == 3 ? kn_t3(p, KN_F32, d0, d1, d2) : kn_t4(p, KN_F32, d0, d1, d2, d3);
}

static struct kn_tensor tokens(struct ops *o, int64_t n)
{
    int32_t *p = memory(o, (size_t)n * sizeof *p);
    for (int64_t i = 0; p && i < n; i++) p[i] = (int32_t)(i * 7919 % o->a->vocab);
    return kn_t1(p, KN_I32, n);
}

/* ---- a row ---- */

static struct row *begin(struct ops *o, const char *op, enum pass pass, enum kn_limit_kind kind, struct kn_cost cost, const char *shape, ...)
    __attribute__((format(printf, 6, 7)));
static struct row *begin(struct ops *o, const char *op, enum pass pass, enum kn_limit_kind kind, struct kn_cost cost, const char *shape, ...)
{
    va_list ap;
    if (o->st || interrupted) return NULL;
    if (o->nrows == ROWS_MAX) {
        o->st = ST_ETOOBIG;
        return NULL;
    }
    struct row *r = &o->row[o->nrows++];
    *r = (struct row){.op = op, .pass = pass, .kind = kind, .cost = cost};
    va_start(ap, shape);
    vsnprintf(r->shape, sizeof r->shape, shape, ap);
    va_end(ap);
    if (!strstr(op, o->b->op) && !strstr(pass_names[pass], o->b->op) && !strstr(r->shape, o->b->op)) {
        o->nrows--;
        return NULL;
    }
    progress_draw(o->b->c, NAN, "ops of model %s   %s %s %s", bench_presets[o->model].name, r->op, pass_names[pass], r->shape);
    return r;
}

/* Ops that compute in the device's precision (kn_precision); the rest is f32. */
static bool has_products(const char *op)
{
    return !strncmp(op, "gemm", 4) || !strncmp(op, "attention", 9) || !strncmp(op, "ssd", 3) || !strcmp(op, "head_ce") || !strcmp(op, "head_distill");
}

static void end(struct ops *o, struct row *r, const struct bench_timer *t)
{
    const struct kn_limits *l = &o->b->limits;
    enum kn_dtype dtype = has_products(r->op) ? o->b->precision : KN_F32;
    r->st = t->st;
    r->ns = bench_timer_ns(t);
    double products = r->cost.flops / kn_limits_peak(l, dtype, 1), bytes = r->cost.bytes / kn_limits_bandwidth(l, r->cost.bytes, r->kind, 1);
    r->bound = products > bytes ? "products" : r->kind == KN_LIMIT_READ ? "reading" : "copying";
    r->share = fmax(products, bytes) / (r->ns.median * 1e-9);
}

#define READ KN_LIMIT_READ
#define COPY KN_LIMIT_COPY
#define OP(o, op_, pass_, kind_, cost_, call_, ...)                                  \
    do {                                                                             \
        struct row *row_ = begin(o, op_, pass_, kind_, cost_, __VA_ARGS__);          \
        struct bench_timer t_ = bench_timer_of((o)->b);                              \
        while (row_ && bench_more(&t_)) t_.st = (call_);                             \
        if (row_) end(o, row_, &t_);                                                 \
    } while (0)

/* ---- what is measured ---- */

/* A weight [out, in] as a step uses it: y = x w', dx = dy w, dw += dy' x; and with one row. */
static void product(struct ops *o, const char *what, int64_t in, int64_t out)
{
    struct kn_dev *dev = o->b->dev;
    struct kn_tensor x = floats(o, 2, o->n, in, 0, 0), y = floats(o, 2, o->n, out, 0, 0), w = floats(o, 2, out, in, 0, 0), dw = floats(o, 2, out, in, 0, 0);
    struct kn_tensor wt = kn_transpose(&w), yt = kn_transpose(&y), x1 = kn_slice(&x, 0, 0, 1), y1 = kn_slice(&y, 0, 0, 1);
    int n = (int)o->n, i = (int)in, u = (int)out;
    OP(o, "gemm", FORWARD, COPY, kn_cost_gemm(n, u, i, 4), dev->op->gemm(dev, 1, &x, &wt, 0, &y), "%s %dx%dx%d", what, n, i, u);
    OP(o, "gemm", BACKWARD, COPY, kn_cost_gemm(n, i, u, 4), dev->op->gemm(dev, 1, &y, &w, 0, &x), "%s, to its input", what);
    OP(o, "gemm", BACKWARD, COPY, kn_cost_gemm(u, i, n, 4), dev->op->gemm(dev, 1e-9, &yt, &x, 1, &dw), "%s, of its weights", what);
    OP(o, "gemm", DECODE, READ, kn_cost_gemm(1, u, i, 4), dev->op->gemm(dev, 1, &x1, &wt, 0, &y1), "%s 1x%dx%d", what, i, u);
}

/* n columns of [B,T,all] from `from` on, by heads. */
static struct kn_tensor heads_of(const struct kn_tensor *all, int64_t from, int64_t n, int heads)
{
    struct kn_tensor c = kn_slice(all, 2, from, n);
    return kn_split(&c, 2, heads, n / heads);
}

/* The first token of [B,T,…]. */
static struct kn_tensor first(const struct kn_tensor *x)
{
    struct kn_tensor one = kn_slice(x, 0, 0, 1);
    return kn_slice(&one, 1, 0, 1);
}

static void attention(struct ops *o, const struct arch_part *p)
{
    struct kn_dev *dev = o->b->dev;
    int B = o->b->batch, T = o->b->context, H = space_part_get(p, "heads"), G = space_part_get(p, "kv_heads"), K = space_part_get(p, "head_dim");
    int64_t qn = (int64_t)H * K, kn = (int64_t)G * K;
    product(o, "qkv", o->d, qn + 2 * kn);
    drop(o);
    product(o, "o", qn, o->d);
    drop(o);
    /* columns of one fused buffer, as in the model */
    struct kn_tensor all[2], part[2][3];
    for (int i = 0; i < 2; i++) {
        all[i] = floats(o, 3, B, T, qn + 2 * kn, 0);
        for (int j = 0; j < 3; j++) part[i][j] = heads_of(&all[i], j ? qn + (j - 1) * kn : 0, j ? kn : qn, j ? G : H);
    }
    struct kn_tensor *q = &part[0][0], *k = &part[0][1], *v = &part[0][2];
    struct kn_tensor out = floats(o, 4, B, T, H, K), dout = floats(o, 4, B, T, H, K), lse = floats(o, 3, B, H, T, 0);
    double scale = 1 / sqrt(K);
    OP(o, "rope", FORWARD, COPY, kn_cost_rope(o->n, H + G, K, 4), (dev->op->rope(dev, q, 0, 10000, 0) || dev->op->rope(dev, k, 0, 10000, 0)) ? ST_EINVAL : ST_OK,
       "%dx%dx%d+%dx%d", B, T, H, G, K);
    OP(o, "attention", FORWARD, COPY, kn_cost_attention(B, T, T, H, G, K, 0, 4), dev->op->attention(dev, q, k, v, 0, scale, &out, &lse), "%dx%dx%d/%dx%d", B, T, H,
       G, K);
    OP(o, "attention_bwd", BACKWARD, COPY, kn_cost_attention_bwd(B, T, H, G, K, 0, 4),
       dev->op->attention_bwd(dev, q, k, v, &out, &lse, &dout, 0, scale, &part[1][0], &part[1][1], &part[1][2]), "%dx%dx%d/%dx%d", B, T, H, G, K);
    OP(o, "attention", FORWARD, COPY, kn_cost_attention(B, T, T, H, G, K, 64, 4), dev->op->attention(dev, q, k, v, 64, scale, &out, &lse), "%dx%dx%d/%dx%d, window 64",
       B, T, H, G, K);
    drop(o);
    int at = o->b->quick ? 64 : DECODE_AT;
    struct kn_tensor one = floats(o, 4, 1, 1, H, K), o1 = floats(o, 4, 1, 1, H, K), ck = floats(o, 4, 1, at, G, K), cv = floats(o, 4, 1, at, G, K);
    OP(o, "attention", DECODE, READ, kn_cost_attention(1, 1, at, H, G, K, 0, 4), dev->op->attention(dev, &one, &ck, &cv, 0, scale, &o1, NULL), "1x1x%d/%dx%d at %d", H,
       G, K, at);
}

static void swiglu(struct ops *o, const struct arch_part *p)
{
    struct kn_dev *dev = o->b->dev;
    int n = (int)o->n, f = space_part_get(p, "hidden");
    product(o, "gate, up", o->d, 2 * f);
    drop(o);
    product(o, "down", f, o->d);
    drop(o);
    struct kn_tensor gu = floats(o, 2, n, 2 * f, 0, 0), dgu = floats(o, 2, n, 2 * f, 0, 0), h = floats(o, 2, n, f, 0, 0);
    struct kn_tensor g = kn_slice(&gu, 1, 0, f), u = kn_slice(&gu, 1, f, f), dg = kn_slice(&dgu, 1, 0, f), du = kn_slice(&dgu, 1, f, f);
    OP(o, "swiglu", FORWARD, COPY, kn_cost_swiglu(n, f, 4), dev->op->swiglu(dev, &g, &u, &h), "%dx%d", n, f);
    OP(o, "swiglu_bwd", BACKWARD, COPY, kn_cost_swiglu_bwd(n, f, 4), dev->op->swiglu_bwd(dev, &g, &u, &h, &dg, &du, &h), "%dx%d", n, f);
}

/* x, y, dx [B,T,C] */
static void conv(struct ops *o, const struct kn_tensor *x, const struct kn_tensor *y, const struct kn_tensor *dx, int taps, bool biased)
{
    struct kn_dev *dev = o->b->dev;
    int B = o->b->batch, T = o->b->context, n = (int)o->n, C = (int)x->d[2];
    struct kn_tensor w = floats(o, 2, C, taps, 0, 0), dw = floats(o, 2, C, taps, 0, 0), bias = floats(o, 1, C, 0, 0, 0), dbias = floats(o, 1, C, 0, 0, 0);
    const struct kn_tensor *b = biased ? &bias : NULL, *db = biased ? &dbias : NULL;
    OP(o, "conv", FORWARD, COPY, kn_cost_conv(n, C, taps, 1, 4), dev->op->conv(dev, x, &w, b, 1, NULL, y), "%dx%dx%d, %d taps", B, T, C, taps);
    OP(o, "conv_bwd", BACKWARD, COPY, kn_cost_conv_bwd(n, C, taps, 1, 4), dev->op->conv_bwd(dev, x, &w, b, 1, y, dx, &dw, db), "%dx%dx%d, %d taps", B, T, C, taps);
}

/* d columns in groups, weights of `weights` of them. */
static void gatednorm(struct ops *o, int d, int group, int weights, int gate_first)
{
    struct kn_dev *dev = o->b->dev;
    int n = (int)o->n;
    struct kn_tensor a = floats(o, 2, n, d, 0, 0), z = floats(o, 2, n, d, 0, 0), c = floats(o, 2, n, d, 0, 0), e = floats(o, 2, n, d, 0, 0), dz = floats(o, 2, n, d, 0, 0);
    struct kn_tensor w = floats(o, 1, weights, 0, 0, 0), dw = floats(o, 1, weights, 0, 0, 0), rstd = floats(o, 2, n, d / group, 0, 0);
    OP(o, "gatednorm", FORWARD, COPY, kn_cost_gatednorm(n, d, group, 4), dev->op->gatednorm(dev, &a, &z, &w, group, 1e-5, gate_first, &c, &rstd), "%dx%d", n, d);
    OP(o, "gatednorm_bwd", BACKWARD, COPY, kn_cost_gatednorm_bwd(n, d, group, 4), dev->op->gatednorm_bwd(dev, &a, &z, &w, group, gate_first, &rstd, &c, &e, &dz, &dw),
       "%dx%d", n, d);
}

static void mamba2(struct ops *o, const struct arch_part *p)
{
    struct kn_dev *dev = o->b->dev;
    int B = o->b->batch, T = o->b->context, n = (int)o->n, P = space_part_get(p, "head_dim"), S = space_part_get(p, "state"), G = space_part_get(p, "groups");
    int taps = space_part_get(p, "conv"), inner = space_part_get(p, "expand") * (int)o->d, H = inner / P, C = inner + 2 * G * S;
    product(o, "in", o->d, inner + C + H);
    drop(o);
    product(o, "out", inner, o->d);
    drop(o);
    struct kn_tensor x = floats(o, 3, B, T, C, 0), y = floats(o, 3, B, T, C, 0), dx = floats(o, 3, B, T, C, 0);
    conv(o, &x, &y, &dx, taps, true);
    /* columns of what the convolution gives, as in the model */
    struct kn_tensor part[2][3];
    for (int i = 0; i < 2; i++)
        for (int j = 0; j < 3; j++) part[i][j] = heads_of(i ? &dx : &y, j ? inner + (j - 1) * G * S : 0, j ? G * S : inner, j ? G : H);
    struct kn_tensor dt = floats(o, 3, B, T, H, 0), ddt = floats(o, 3, B, T, H, 0), v[3], dv[3], out = floats(o, 4, B, T, H, P), dout = floats(o, 4, B, T, H, P);
    for (int i = 0; i < 3; i++) v[i] = floats(o, 1, H, 0, 0, 0), dv[i] = floats(o, 1, H, 0, 0, 0); /* dt's bias, log of A, D */
    OP(o, "ssd", FORWARD, COPY, kn_cost_ssd(n, H, P, G, S, 4), dev->op->ssd(dev, &part[0][0], &dt, &v[0], &v[1], &part[0][1], &part[0][2], &v[2], NULL, &out), "%dx%dx%dx%d, state %d",
       B, T, H, P, S);
    OP(o, "ssd_bwd", BACKWARD, COPY, kn_cost_ssd_bwd(n, H, P, G, S, 4),
       dev->op->ssd_bwd(dev, &part[0][0], &dt, &v[0], &v[1], &part[0][1], &part[0][2], &v[2], &dout, &part[1][0], &ddt, &dv[0], &dv[1], &part[1][1], &part[1][2], &dv[2]),
       "%dx%dx%dx%d, state %d", B, T, H, P, S);
    struct kn_tensor state = floats(o, 4, 1, H, P, S), one[3], o1 = first(&out), d1 = first(&dt);
    for (int i = 0; i < 3; i++) one[i] = first(&part[0][i]);
    struct kn_cost step = kn_cost_ssd(1, H, P, G, S, 4);
    step.bytes += 8.0 * H * P * S; /* the state, in and out */
    OP(o, "ssd", DECODE, COPY, step, dev->op->ssd(dev, &one[0], &d1, &v[0], &v[1], &one[1], &one[2], &v[2], &state, &o1), "1x1x%dx%d, state %d", H, P, S);
    drop(o);
    gatednorm(o, inner, inner / G, inner, 1);
}

static void gated_delta(struct ops *o, const struct arch_part *p)
{
    struct kn_dev *dev = o->b->dev;
    int B = o->b->batch, T = o->b->context, n = (int)o->n, H = space_part_get(p, "heads"), G = space_part_get(p, "key_heads");
    int K = space_part_get(p, "head_dim"), V = space_part_get(p, "value_dim"), keys = G * K, values = H * V, C = 2 * keys + values;
    product(o, "gated_delta in", o->d, C + values + 2 * H);
    drop(o);
    product(o, "gated_delta out", values, o->d);
    drop(o);
    /* columns of fused buffers, as in the model: q, k, v, z, b, a */
    struct kn_tensor in = floats(o, 3, B, T, C + values + 2 * H, 0), din = floats(o, 3, B, T, C + values + 2 * H, 0), x = floats(o, 3, B, T, C, 0), dx = floats(o, 3, B, T, C, 0);
    struct kn_tensor from = kn_slice(&in, 2, 0, keys), dfrom = kn_slice(&din, 2, 0, keys), to = kn_slice(&x, 2, 0, keys);
    conv(o, &from, &to, &dfrom, space_part_get(p, "conv"), false);
    struct kn_tensor ba[2], dba[2], gate[2], dgate[2], own[2], down[2];
    for (int i = 0; i < 2; i++) {
        ba[i] = kn_slice(&in, 2, C + values + i * H, H), dba[i] = kn_slice(&din, 2, C + values + i * H, H);
        ba[i] = (struct kn_tensor){ba[i].p, KN_F32, 2, {n, H}, {in.s[1], 1}}, dba[i] = (struct kn_tensor){dba[i].p, KN_F32, 2, {n, H}, {in.s[1], 1}};
        gate[i] = floats(o, 2, n, H, 0, 0), dgate[i] = floats(o, 2, n, H, 0, 0);
        own[i] = floats(o, 1, H, 0, 0, 0), down[i] = floats(o, 1, H, 0, 0, 0);
    }
    /* the scan needs gates that are some, also where this op is not asked for */
    if (!o->st) o->st = dev->op->delta_gates(dev, &ba[1], &ba[0], &own[0], &own[1], &gate[0], &gate[1]);
    OP(o, "delta_gates", FORWARD, COPY, kn_cost_delta_gates(n, H, 4), dev->op->delta_gates(dev, &ba[1], &ba[0], &own[0], &own[1], &gate[0], &gate[1]), "%dx%d", n, H);
    OP(o, "delta_gates_bwd", BACKWARD, COPY, kn_cost_delta_gates_bwd(n, H, 4),
       dev->op->delta_gates_bwd(dev, &ba[1], &ba[0], &own[0], &own[1], &dgate[0], &dgate[1], &dba[1], &dba[0], &down[0], &down[1]), "%dx%d", n, H);
    struct kn_tensor q = heads_of(&x, 0, keys, G), k = heads_of(&x, keys, keys, G), v = heads_of(&x, 2 * keys, values, H), out = floats(o, 4, B, T, H, V);
    struct kn_tensor dq = heads_of(&dx, 0, keys, G), dk = heads_of(&dx, keys, keys, G), dv = heads_of(&dx, 2 * keys, values, H), dout = floats(o, 4, B, T, H, V);
    struct kn_tensor g = kn_t3(gate[0].p, KN_F32, B, T, H), beta = kn_t3(gate[1].p, KN_F32, B, T, H), dg = kn_t3(dgate[0].p, KN_F32, B, T, H), dbeta = kn_t3(dgate[1].p, KN_F32, B, T, H);
    double scale = 1 / sqrt(K);
    OP(o, "delta_rule", FORWARD, COPY, kn_cost_delta_rule(B, T, G, H, K, V, 0, 4), dev->op->delta_rule(dev, &q, &k, &v, &g, &beta, 1e-6, scale, NULL, &out), "%dx%dx%d/%dx%dx%d",
       B, T, H, G, K, V);
    OP(o, "delta_rule_bwd", BACKWARD, COPY, kn_cost_delta_rule_bwd(B, T, G, H, K, V, 4),
       dev->op->delta_rule_bwd(dev, &q, &k, &v, &g, &beta, 1e-6, scale, &dout, &dq, &dk, &dv, &dg, &dbeta), "%dx%dx%d/%dx%dx%d", B, T, H, G, K, V);
    struct kn_tensor state = floats(o, 4, 1, H, K, V), q1 = first(&q), k1 = first(&k), v1 = first(&v), g1 = first(&g), beta1 = first(&beta), o1 = first(&out);
    OP(o, "delta_rule", DECODE, COPY, kn_cost_delta_rule(1, 1, G, H, K, V, 1, 4), dev->op->delta_rule(dev, &q1, &k1, &v1, &g1, &beta1, 1e-6, scale, &state, &o1),
       "1x1x%d/%dx%dx%d", H, G, K, V);
    drop(o);
    gatednorm(o, values, V, V, 0);
}

static void linear(struct ops *o, const struct arch_part *p)
{
    struct kn_dev *dev = o->b->dev;
    int B = o->b->batch, T = o->b->context, n = (int)o->n, H = space_part_get(p, "heads"), K = space_part_get(p, "head_dim"), V = space_part_get(p, "value_dim");
    int keys = H * K, values = H * V, rank = space_part_get(p, "gate_rank"), all = 2 * keys + 2 * values + rank;
    product(o, "linear in", o->d, all);
    drop(o);
    product(o, "linear gate", rank, keys);
    drop(o);
    product(o, "linear out", values, o->d);
    drop(o);
    struct kn_tensor x = floats(o, 2, n, keys, 0, 0), y = floats(o, 2, n, keys, 0, 0), dy = floats(o, 2, n, keys, 0, 0);
    /* as delta_gates above */
    if (!o->st) o->st = dev->op->logsigmoid(dev, &x, 1.0 / 16, &y);
    OP(o, "logsigmoid", FORWARD, COPY, kn_cost_logsigmoid(n, keys, 4), dev->op->logsigmoid(dev, &x, 1.0 / 16, &y), "%dx%d", n, keys);
    OP(o, "logsigmoid_bwd", BACKWARD, COPY, kn_cost_logsigmoid_bwd(n, keys, 4), dev->op->logsigmoid_bwd(dev, &x, 1.0 / 16, &dy, &dy), "%dx%d", n, keys);
    struct kn_tensor in = floats(o, 3, B, T, all, 0), din = floats(o, 3, B, T, all, 0), out = floats(o, 4, B, T, H, V), dout = floats(o, 4, B, T, H, V);
    struct kn_tensor q = heads_of(&in, 0, keys, H), k = heads_of(&in, keys, keys, H), v = heads_of(&in, 2 * keys, values, H), g = kn_t4(y.p, KN_F32, B, T, H, K);
    struct kn_tensor dq = heads_of(&din, 0, keys, H), dk = heads_of(&din, keys, keys, H), dv = heads_of(&din, 2 * keys, values, H), dg = kn_t4(dy.p, KN_F32, B, T, H, K);
    double scale = 1 / sqrt(K);
    OP(o, "gla", FORWARD, COPY, kn_cost_gla(B, T, H, K, V, 0, 4), dev->op->gla(dev, &q, &k, &v, &g, scale, NULL, &out), "%dx%dx%dx%dx%d", B, T, H, K, V);
    OP(o, "gla_bwd", BACKWARD, COPY, kn_cost_gla_bwd(B, T, H, K, V, 4), dev->op->gla_bwd(dev, &q, &k, &v, &g, scale, &dout, &dq, &dk, &dv, &dg), "%dx%dx%dx%dx%d", B, T, H, K, V);
    struct kn_tensor state = floats(o, 4, 1, H, K, V), q1 = first(&q), k1 = first(&k), v1 = first(&v), g1 = first(&g), o1 = first(&out);
    OP(o, "gla", DECODE, COPY, kn_cost_gla(1, 1, H, K, V, 1, 4), dev->op->gla(dev, &q1, &k1, &v1, &g1, scale, &state, &o1), "1x1x%dx%dx%d", H, K, V);
    drop(o);
    gatednorm(o, values, V, V, 0);
}

static void moe(struct ops *o, const struct arch_part *p)
{
    struct kn_dev *dev = o->b->dev;
    int n = (int)o->n, d = (int)o->d, E = space_part_get(p, "experts"), k = space_part_get(p, "active"), f = space_part_get(p, "hidden");
    int sigmoid = space_part_get(p, "router"), gated = !space_part_get(p, "act");
    int64_t m = (int64_t)n * k;
    product(o, "router", d, E);
    drop(o);
    struct kn_tensor z = floats(o, 2, n, E, 0, 0), pr = floats(o, 2, n, E, 0, 0), dz = floats(o, 2, n, E, 0, 0), w = floats(o, 2, n, k, 0, 0), dw = floats(o, 2, n, k, 0, 0);
    struct kn_tensor wf = w, dwf = dw, index = tokens(o, m), offset = tokens(o, E + 1), order = tokens(o, m), row = tokens(o, m), aux = floats(o, 1, 1, 0, 0, 0);
    if (!o->st) wf = kn_t1(w.p, w.dtype, m), dwf = kn_t1(dw.p, dw.dtype, m), index = kn_t2(index.p, index.dtype, n, k);
    /* what follows needs an order, also where this op is not asked for */
    if (!o->st) o->st = dev->op->route(dev, &z, sigmoid, &pr, &index, &w, &offset, &order, &row, &aux);
    OP(o, "route", FORWARD, COPY, kn_cost_route(n, E, k, 4), dev->op->route(dev, &z, sigmoid, &pr, &index, &w, &offset, &order, &row, &aux), "%d, %d of %d", n, k, E);
    OP(o, "route_bwd", BACKWARD, COPY, kn_cost_route_bwd(n, E, k, 4),
       dev->op->route_bwd(dev, &z, sigmoid, &pr, &index, &w, &offset, &dw, 0.01, &dz), "%d, %d of %d", n, k, E);
    struct kn_tensor x = floats(o, 2, n, d, 0, 0), rows = floats(o, 2, m, d, 0, 0), g = floats(o, 2, m, f, 0, 0), u = floats(o, 2, m, f, 0, 0), h = floats(o, 2, m, f, 0, 0);
    struct kn_tensor up = floats(o, 3, E, f, d, 0), dup = floats(o, 3, E, f, d, 0), upt = kn_transpose(&up), none = {0}, *ug = gated ? &u : &none;
    OP(o, "gather", FORWARD, COPY, kn_cost_gather(n, k, d, 4), dev->op->gather(dev, &x, &order, &rows), "%dx%dx%d", n, k, d);
    OP(o, "combine", FORWARD, COPY, kn_cost_combine(n, k, d, 4), dev->op->combine(dev, &rows, &row, 0, &x), "%dx%dx%d", n, k, d);
    OP(o, "gemm_grouped", FORWARD, COPY, kn_cost_gemm_grouped(m, f, d, E, 4), dev->op->gemm_grouped(dev, &rows, &upt, &offset, 0, &g), "%dx%dx%d in %d", (int)m, f, d, E);
    OP(o, "gemm_grouped", BACKWARD, COPY, kn_cost_gemm_grouped(m, d, f, E, 4), dev->op->gemm_grouped(dev, &g, &up, &offset, 0, &rows), "to its input");
    OP(o, "gemm_grouped_sum", BACKWARD, COPY, kn_cost_gemm_grouped(m, f, d, E, 4), dev->op->gemm_grouped_sum(dev, &u, &rows, &offset, &dup), "of its weights");
    OP(o, "expert_act", FORWARD, COPY, kn_cost_expert_act(m, f, gated, 4), dev->op->expert_act(dev, &g, ug, &order, &wf, 0, &h), "%dx%d", (int)m, f);
    struct kn_tensor dg = floats(o, 2, m, f, 0, 0), du = floats(o, 2, m, f, 0, 0), *dug = gated ? &du : &none;
    OP(o, "expert_act_bwd", BACKWARD, COPY, kn_cost_expert_act_bwd(m, f, gated, 4),
       dev->op->expert_act_bwd(dev, &g, ug, &order, &wf, 0, &h, &dg, dug, &dwf, &h), "%dx%d", (int)m, f);
}

static const struct {
    const char *type; /* of a mixer or ffn */
    void (*ops)(struct ops *o, const struct arch_part *p);
} parts[] = {
    {"attention", attention},
    {"swiglu", swiglu},
    {"moe", moe},
    {"mamba2", mamba2},
    {"gated_delta", gated_delta},
    {"linear", linear},
};

/* What the stack does around its layers, and what the optimiser does. */
static void stack(struct ops *o)
{
    struct kn_dev *dev = o->b->dev;
    struct arch_cost cost;
    space_arch_cost(o->a, &cost);
    int n = (int)o->n, d = (int)o->d, V = o->a->vocab;
    struct kn_tensor x = floats(o, 2, n, d, 0, 0), r = floats(o, 2, n, d, 0, 0), y = floats(o, 2, n, d, 0, 0), w = floats(o, 1, d, 0, 0, 0), dw = floats(o, 1, d, 0, 0, 0);
    struct kn_tensor rstd = floats(o, 1, n, 0, 0, 0), tok = tokens(o, n), table = floats(o, 2, V, d, 0, 0), dtable = floats(o, 2, V, d, 0, 0), loss = floats(o, 1, n, 0, 0, 0);
    struct kn_cost embed = {0, 8.0 * n * d}, embed_bwd = {(double)n * d, 4.0 * n * d + 8.0 * V * d};
    OP(o, "embed", FORWARD, COPY, embed, dev->op->embed(dev, &tok, &table, &x), "%dx%d", n, d);
    OP(o, "embed_bwd", BACKWARD, COPY, embed_bwd, dev->op->embed_bwd(dev, &tok, &x, &dtable), "%dx%d", n, d);
    OP(o, "rmsnorm", FORWARD, COPY, kn_cost_rmsnorm(n, d, 4), dev->op->rmsnorm(dev, &x, &r, &w, 1e-5, &y, &rstd), "%dx%d", n, d);
    /* x has grown by r many times over: the backward needs no more than numbers that are some */
    if (!o->st) o->st = dev->op->copy(dev, &r, &x);
    OP(o, "rmsnorm_bwd", BACKWARD, COPY, kn_cost_rmsnorm_bwd(n, d, 4), dev->op->rmsnorm_bwd(dev, &x, &w, &rstd, &y, &r, &dw), "%dx%d", n, d);
    if (!o->st) o->st = dev->op->copy(dev, &x, &y);
    OP(o, "head_ce", FORWARD, COPY, kn_cost_head_ce(n, d, V, 0, 4), dev->op->head_ce(dev, &y, &table, &tok, 1e-9, &loss, NULL, NULL), "%dx%dx%d", n, d, V);
    OP(o, "head_ce", BACKWARD, COPY, kn_cost_head_ce(n, d, V, 1, 4), dev->op->head_ce(dev, &y, &table, &tok, 1e-9, &loss, &r, &dtable), "%dx%dx%d, all of it", n, d, V);
    OP(o, "head_distill", BACKWARD, COPY, kn_cost_head_distill(n, d, V, d, 4), dev->op->head_distill(dev, &y, &table, &tok, &x, &table, 0.5, 1e-9, &loss, &r, &dtable), "%dx%dx%d, all of it", n, d, V);
    drop(o);
    int64_t np = o->b->quick ? 4096 : (int64_t)cost.params;
    struct kn_tensor p = floats(o, 1, np, 0, 0, 0), g = floats(o, 1, np, 0, 0, 0), m = floats(o, 1, np, 0, 0, 0), v = floats(o, 1, np, 0, 0, 0);
    if (!o->st) o->st = dev->op->fill(dev, &v, 0.1);
    struct kn_adamw hyper = {1e-9, 0.9, 0.95, 1e-8, 0.1, 1, 1};
    double sum;
    OP(o, "adamw", BACKWARD, COPY, kn_cost_adamw(np), dev->op->adamw(dev, &p, &g, &m, &v, &hyper), "%lld", (long long)np);
    OP(o, "sumsq", BACKWARD, READ, ((struct kn_cost){2.0 * (double)np, 4.0 * (double)np}), dev->op->sumsq(dev, &g, &sum), "%lld", (long long)np);
    OP(o, "fill", BACKWARD, COPY, ((struct kn_cost){0, 4.0 * (double)np}), dev->op->fill(dev, &g, 0), "%lld", (long long)np);
}

static void part_ops(struct ops *o, const struct arch_part *p)
{
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++)
        if (!strcmp(parts[i].type, space_layer(p->type)->name)) parts[i].ops(o, p);
    drop(o);
}

/* Each part once, however many layers have it. */
static void model_ops(struct ops *o)
{
    const struct arch_part *seen[2 * ARCH_LAYERS_MAX];
    int nseen = 0;
    for (int l = 0; l < o->a->depth; l++)
        for (int k = 0; k < 2; k++) {
            const struct arch_part *p = k ? &o->a->layer[l].ffn : &o->a->layer[l].mixer;
            bool again = false;
            for (int i = 0; i < nseen; i++) again |= !memcmp(seen[i], p, sizeof *p);
            if (again) continue;
            seen[nseen++] = p;
            part_ops(o, p);
        }
    for (int i = 0; i < o->nothers; i++) part_ops(o, &o->other[i].layer[0].mixer);
    stack(o);
    drop(o);
    kn_trim(o->b->dev);
}

/* ---- printing ---- */

static void print_json(const struct ops *o, double others)
{
    json_t *list = json_object_get(o->b->json, "ops");
    for (int i = 0; i < o->nrows; i++) {
        const struct row *r = &o->row[i];
        json_t *v = json_pack("{s:s, s:s, s:s, s:s, s:f, s:f}", "model", bench_presets[o->model].name, "op", r->op, "pass", pass_names[r->pass], "shape", r->shape,
                              "flops", r->cost.flops, "bytes", r->cost.bytes);
        if (r->st) json_object_set_new(v, "unavailable", json_string(base_status_text(r->st)));
        else json_object_update_new(v, json_pack("{s:o, s:f, s:s, s:f}", "us", bench_rate_json(&r->ns, 1e-3), "share", r->share, "bound", r->bound, "others", others));
        json_array_append_new(list, v);
    }
}

static void print(const struct ops *o, double others)
{
    struct table t = TABLE_INIT;
    char text[96] = "";
    const struct bench_preset *m = &bench_presets[o->model];
    for (int i = 0; i < o->nothers; i++)
        snprintf(text + strlen(text), sizeof text - strlen(text), "%s%s", i ? ", " : " and of ", space_layer(o->other[i].layer[0].mixer.type)->name);
    bench_section(o->b, "\nops of model %s (%s)%s, %d x %d tokens; others took %.0f %% of the CPUs", m->name, m->what, text, o->b->batch, o->b->context, 100 * others);
    t.indent = 2;
    table_column(&t, "op", TABLE_LEFT);
    table_column(&t, "pass", TABLE_LEFT);
    table_column(&t, "shape", TABLE_LEFT);
    table_column(&t, "us (least to most)", TABLE_RIGHT);
    table_column(&t, "GFLOP/s", TABLE_RIGHT);
    table_column(&t, "GB/s", TABLE_RIGHT);
    table_column(&t, "of its limit", TABLE_RIGHT);
    table_column(&t, "which is", TABLE_LEFT);
    for (int i = 0; i < o->nrows; i++) {
        const struct row *r = &o->row[i];
        table_row(&t);
        table_cell(&t, "%s", r->op);
        table_cell(&t, "%s", pass_names[r->pass]);
        table_cell(&t, "%s", r->shape);
        if (r->st) {
            table_cell(&t, "%s", base_status_text(r->st));
            continue;
        }
        table_cell(&t, "%s", bench_spread(text, sizeof text, &r->ns, 1e-3));
        table_cell(&t, "%.1f", r->cost.flops / r->ns.median);
        table_cell(&t, "%.1f", r->cost.bytes / r->ns.median);
        table_cell(&t, "%.0f %%", 100 * r->share);
        table_cell(&t, "%s", r->bound);
    }
    table_print(&t, stdout);
    table_fini(&t);
    fflush(stdout);
}

int bench_ops(struct bench *b)
{
    static struct ops o;
    static struct arch a, other[BENCH_OTHERS];
    int rows = 0;
    if (b->json) json_object_set_new(b->json, "ops", json_array());
    for (int i = 0; i < BENCH_MODELS; i++) {
        struct base_err err = BASE_ERR_INIT;
        struct bench_busy y;
        if (!b->model[i]) continue;
        st_t st = bench_arch(i, b->context, &a, &err);
        if (st == ST_ENOTSUP) continue; /* said with the whole models */
        if (st) return cli_fail_err(CLI_FAILED, "bench", NULL, &err);
        int nothers = 0;
        for (; nothers < BENCH_OTHERS && bench_presets[i].other[nothers] && !st; nothers++) st = bench_arch_other(i, nothers, b->context, &other[nothers], &err);
        if (st) return cli_fail_err(CLI_FAILED, "bench", NULL, &err);
        o = (struct ops){.b = b, .a = &a, .other = other, .nothers = nothers, .model = i, .n = (int64_t)b->batch * b->context, .d = a.width};
        if (!bench_begin(b, &y, NULL)) return interrupt_status();
        base_pool_pin(b->dev->pool, 1);
        o.st = kn_precision(b->dev, b->precision);
        model_ops(&o);
        kn_precision(b->dev, KN_F32);
        base_pool_pin(b->dev->pool, 0);
        double others = bench_end(b, &y);
        if (interrupted) return interrupt_status();
        if (o.st) return cli_fail(CLI_FAILED, "bench", NULL, "ops of model %s: %s", bench_presets[i].name, base_status_text(o.st));
        rows += o.nrows;
        if (b->json) print_json(&o, others);
        else if (o.nrows) print(&o, others);
    }
    if (*b->op && !rows) return cli_fail(CLI_NOTHING, "bench", "taut bench ops lists them all", "--op: no op has '%s' in name, pass or shape", b->op);
    return CLI_OK;
}
