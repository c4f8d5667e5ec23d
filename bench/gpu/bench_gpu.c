/* What a CUDA device gives, and which share of it each op and a few models take. Made for a borrowed card: a program of its own (bench/gpu/Makefile), minutes long.
 *
 *   bench_gpu [--quick] [--weights FOLDER] [PART…]           parts: limits ops attention scans models decode; none: all
 *
 * --quick: small shapes, one round: does it run at all.  --weights: each model's first weights and its arch.json, for bench_torch.py.
 * A line each on stdout:   NAME <TAB> VALUE <TAB> UNIT <TAB> SHARE <TAB> WANTED       share and wanted "-" where there is none.
 * SHARE: of copy bandwidth (bytes that an op cannot avoid, over its time), or of the product's rate (operations). Times are medians of rounds between two marks of the
 * device, each round long enough to drown the marks; operands are larger than the caches where the shape allows it.
 * Exit status: 77 where no CUDA device opens, and why on stderr. */
#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/rng.h"
#include "base/stats.h"
#include "kernels/cost.h"
#include "kernels/device.h"
#include "tests/model/nets.h"

enum { ROUNDS = 7, OPERANDS = 24 };

static struct kn_dev *dev;
static bool quick;
static double copy_rate, bf16_rate, f32_rate; /* bytes and operations a second */
static const char *weights_folder;

static void die(const char *what, st_t st)
{
    fprintf(stderr, "bench_gpu: %s: %s\n", what, base_status_text(st));
    exit(1);
}

static void say(const char *name, double value, const char *unit, double share, double wanted)
{
    printf("%s\t%.4g\t%s\t", name, value, unit);
    if (isnan(share)) printf("-\t");
    else printf("%.2f\t", share);
    if (isnan(wanted)) printf("-\n");
    else printf("%.2f\n", wanted);
    fflush(stdout);
}

/* ---- operands ---- */

static struct {
    void *p;
    size_t bytes;
} held[OPERANDS];
static int nheld;

static void drop(void)
{
    while (nheld) nheld--, kn_free(dev, held[nheld].p, held[nheld].bytes);
}

/* Numbers of about `scale`, the same pattern all over: small ones, so that nothing overflows however often an op adds to them. */
static struct kn_tensor operand(enum kn_dtype t, int rank, int64_t d0, int64_t d1, int64_t d2, int64_t d3, double scale)
{
    const int64_t d[4] = {d0, d1, d2, d3};
    struct kn_tensor x = {.dtype = t, .rank = rank};
    int64_t n = 1;
    for (int i = rank - 1; i >= 0; i--) x.d[i] = d[i], x.s[i] = n, n *= d[i];
    size_t bytes = (size_t)n * kn_dtype_size(t);
    st_t st = nheld < OPERANDS ? kn_alloc(dev, bytes, &x.p) : ST_ETOOBIG;
    if (st) die("operands", st);
    held[nheld].p = x.p, held[nheld++].bytes = bytes;
    if (scale == 0 || t == KN_I32) return x;
    enum { PIECE = 1 << 16 };
    float f[256];
    struct base_rng r = base_rng_at(1, RNG_TEST, (uint64_t)nheld);
    for (int i = 0; i < 256; i++) f[i] = (float)(scale * base_rng_normal(&r));
    struct kn_tensor small = {.dtype = KN_F32, .rank = 1, .d = {256}, .s = {1}};
    if ((st = kn_alloc(dev, sizeof f, &small.p)) || (st = dev->vt->upload(dev, small.p, f, sizeof f))) die("operands", st);
    struct kn_tensor from = {small.p, KN_F32, 2, {n / 256, 256}, {0, 1}}, to = {x.p, t, 2, {n / 256, 256}, {256, 1}};
    if ((st = dev->op->copy(dev, &from, &to))) die("operands", st);
    if ((st = dev->vt->sync(dev))) die("operands", st);
    kn_free(dev, small.p, sizeof f);
    return x;
}

static struct kn_tensor whole(int rank, int64_t d0, int64_t d1, int64_t d2, int64_t d3, uint32_t below)
{
    struct kn_tensor x = operand(KN_I32, rank, d0, d1, d2, d3, 0);
    int64_t n = kn_count(&x);
    int32_t *host = malloc((size_t)n * sizeof *host);
    struct base_rng r = base_rng_at(2, RNG_TEST, (uint64_t)nheld);
    if (!host) die("operands", ST_ENOMEM);
    for (int64_t i = 0; i < n; i++) host[i] = (int32_t)base_rng_below(&r, below);
    st_t st = dev->vt->upload(dev, x.p, host, (size_t)n * sizeof *host);
    if (st) die("operands", st);
    free(host);
    return x;
}

/* ---- time ---- */

static int by_value(const void *a, const void *b)
{
    const double *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

/* Seconds of `call`, in *out: the median of rounds. */
#define TIME(out, call)                                                                         \
    do {                                                                                        \
        double each_[ROUNDS];                                                                   \
        int times_ = 1, rounds_ = quick ? 1 : ROUNDS;                                           \
        uint64_t ns_ = 0;                                                                       \
        st_t st_ = (call);                                                                      \
        for (int i_ = -1; !st_ && i_ < rounds_; i_++) {                                         \
            st_ = dev->vt->mark(dev, 0);                                                        \
            for (int k_ = 0; !st_ && k_ < times_; k_++) st_ = (call);                           \
            if (!st_) st_ = dev->vt->mark(dev, 1);                                              \
            if (!st_) st_ = dev->vt->elapsed(dev, &ns_);                                        \
            if (i_ >= 0) each_[i_] = (double)ns_ * 1e-9 / times_;                               \
            else if (!quick) times_ = (int)fmin(1000, fmax(1, 2e7 / (double)(ns_ ? ns_ : 1)));  \
        }                                                                                       \
        if (st_) die(#call, st_);                                                               \
        qsort(each_, (size_t)rounds_, sizeof *each_, by_value);                                 \
        out = each_[rounds_ / 2];                                                               \
    } while (0)

/* An op held against copy bandwidth. */
#define BYTES(name, cost, call)                                                                 \
    do {                                                                                        \
        double s_;                                                                              \
        struct kn_cost c_ = (cost);                                                             \
        TIME(s_, call);                                                                         \
        say(name, s_ * 1e6, "us", c_.bytes / s_ / copy_rate, 0.8);                              \
    } while (0)

/* ---- limits ---- */

static void limits(bool show)
{
    int64_t n = quick ? 1 << 16 : (int64_t)256 << 20, m = quick ? 128 : 8192;
    double s;
    struct kn_tensor x = operand(KN_F32, 1, n, 0, 0, 0, 1), y = operand(KN_F32, 1, n, 0, 0, 0, 0);
    TIME(s, dev->op->copy(dev, &x, &y));
    copy_rate = 8.0 * (double)n / s;
    drop();
    struct kn_tensor a = operand(KN_BF16, 2, m, m, 0, 0, 1), b = operand(KN_BF16, 2, m, m, 0, 0, 1), c = operand(KN_BF16, 2, m, m, 0, 0, 0);
    kn_precision(dev, KN_BF16);
    TIME(s, dev->op->gemm(dev, 1, &a, &b, 0, &c));
    kn_precision(dev, KN_F32);
    bf16_rate = 2.0 * (double)m * (double)m * (double)m / s;
    drop();
    m /= 2;
    struct kn_tensor d = operand(KN_F32, 2, m, m, 0, 0, 1), e = operand(KN_F32, 2, m, m, 0, 0, 1), f = operand(KN_F32, 2, m, m, 0, 0, 0);
    TIME(s, dev->op->gemm(dev, 1, &d, &e, 0, &f));
    f32_rate = 2.0 * (double)m * (double)m * (double)m / s;
    drop();
    if (!show) return;
    say("limit.copy", copy_rate * 1e-9, "GB/s", NAN, NAN);
    say("limit.product.bf16", bf16_rate * 1e-12, "TFLOP/s", NAN, NAN);
    say("limit.product.f32", f32_rate * 1e-12, "TFLOP/s", NAN, NAN);
}

/* ---- ops that move bytes ---- */

static void ops(void)
{
    int64_t N = quick ? 64 : 16384, D = quick ? 64 : 2048, V = quick ? 128 : 50304;
    struct kn_tensor x = operand(KN_F32, 2, N, D, 0, 0, 1), r = operand(KN_F32, 2, N, D, 0, 0, 1e-6), w = operand(KN_F32, 1, D, 0, 0, 0, 1), bias = operand(KN_F32, 1, D, 0, 0, 0, 1),
                     y = operand(KN_F32, 2, N, D, 0, 0, 1), stat = operand(KN_F32, 1, N, 0, 0, 0, 0), mean = operand(KN_F32, 1, N, 0, 0, 0, 0), dw = operand(KN_F32, 1, D, 0, 0, 0, 0),
                     db = operand(KN_F32, 1, D, 0, 0, 0, 0), z = operand(KN_F32, 2, N, D, 0, 0, 1);
    BYTES("rmsnorm", kn_cost_rmsnorm(N, D, 4), dev->op->rmsnorm(dev, &x, &r, &w, 1e-5, &y, &stat));
    BYTES("rmsnorm_bwd", kn_cost_rmsnorm_bwd(N, D, 4), dev->op->rmsnorm_bwd(dev, &x, &w, &stat, &y, &r, &dw));
    BYTES("layernorm", kn_cost_layernorm(N, D, 4), dev->op->layernorm(dev, &x, &r, &w, &bias, 1e-5, &y, &mean, &stat));
    BYTES("layernorm_bwd", kn_cost_layernorm_bwd(N, D, 4), dev->op->layernorm_bwd(dev, &x, &w, &mean, &stat, &y, &r, &dw, &db));
    struct kn_tensor heads = kn_split(&x, 1, D / 64 ? D / 64 : 1, D / 64 ? 64 : D), rope = {heads.p, KN_F32, 4, {1, N, heads.d[1], heads.d[2]}, {N * D, D, heads.s[1], 1}};
    BYTES("rope", kn_cost_rope(N, heads.d[1], heads.d[2], 4), dev->op->rope(dev, &rope, 0, 10000, 0));
    BYTES("swiglu", kn_cost_swiglu(N, D, 4), dev->op->swiglu(dev, &x, &y, &z));
    BYTES("swiglu_bwd", kn_cost_swiglu_bwd(N, D, 4), dev->op->swiglu_bwd(dev, &x, &y, &z, &x, &y, &z));
    BYTES("act", kn_cost_act(N, D, KN_GELU, 4), dev->op->act(dev, KN_GELU, &x, NULL, &y));
    BYTES("sum_rows", kn_cost_sum_rows(N, D, 4), dev->op->sum_rows(dev, &x, &db));
    drop();
    struct kn_tensor tok = whole(1, N, 0, 0, 0, (uint32_t)V), table = operand(KN_F32, 2, V, D, 0, 0, 1), out = operand(KN_F32, 2, N, D, 0, 0, 1), dt = operand(KN_F32, 2, V, D, 0, 0, 0);
    BYTES("embed", ((struct kn_cost){0, 8.0 * (double)(N * D)}), dev->op->embed(dev, &tok, &table, &out));
    BYTES("embed_bwd", ((struct kn_cost){0, 12.0 * (double)(N * D)}), dev->op->embed_bwd(dev, &tok, &out, &dt));
    drop();
    struct kn_tensor c3 = operand(KN_F32, 3, quick ? 2 : 16, quick ? 32 : 1024, D, 0, 1), k4 = operand(KN_F32, 2, D, 4, 0, 0, 1), o3 = operand(KN_F32, 3, c3.d[0], c3.d[1], D, 0, 0);
    BYTES("conv", kn_cost_conv(c3.d[0] * c3.d[1], D, 4, 1, 4), dev->op->conv(dev, &c3, &k4, NULL, 1, NULL, &o3));
    drop();
    int64_t P = quick ? 4096 : (int64_t)124 << 20;
    struct kn_tensor p = operand(KN_F32, 1, P, 0, 0, 0, 1), g = operand(KN_F32, 1, P, 0, 0, 0, 1e-3), m = operand(KN_F32, 1, P, 0, 0, 0, 0), v = operand(KN_F32, 1, P, 0, 0, 0, 0),
                     at = operand(KN_F64, 1, 3, 0, 0, 0, 0), clip = operand(KN_F64, 1, 2, 0, 0, 0, 0);
    const double step[3] = {1e-9, 0.1, 0.05};
    struct kn_adamw h = {.beta1 = 0.9, .beta2 = 0.95, .eps = 1e-8, .weight_decay = 0.1};
    st_t st = dev->vt->upload(dev, at.p, step, sizeof step);
    if (st) die("adamw", st);
    BYTES("clip", ((struct kn_cost){2.0 * (double)P, 4.0 * (double)P}), dev->op->clip(dev, &g, 1, &clip));
    BYTES("adamw", kn_cost_adamw(P), dev->op->adamw_at(dev, &p, &g, &m, &v, &h, &at, &clip));
    drop();
    int64_t n = quick ? 64 : 8192, d = quick ? 64 : 768;
    struct kn_tensor hx = operand(KN_F32, 2, n, d, 0, 0, 1), hw = operand(KN_F32, 2, V, d, 0, 0, 0.02), target = whole(1, n, 0, 0, 0, (uint32_t)V), loss = operand(KN_F32, 1, n, 0, 0, 0, 0),
                     dx = operand(KN_F32, 2, n, d, 0, 0, 0), dhw = operand(KN_F32, 2, V, d, 0, 0, 0);
    double s;
    kn_precision(dev, KN_BF16);
    TIME(s, dev->op->head_ce(dev, &hx, &hw, &target, 1e-9, &loss, &dx, &dhw));
    kn_precision(dev, KN_F32);
    say("head_ce.bf16", s * 1e6, "us", 6.0 * (double)n * (double)d * (double)V / s / bf16_rate, NAN);
    drop();
}

/* ---- attention ---- */

static void attention_at(int64_t K, int64_t T)
{
    int64_t B = quick ? 1 : 65536 / T, H = quick ? 2 : 2048 / K;
    char name[64];
    double s, half = 2.0 * (double)B * (double)H * (double)T * (double)T * (double)K; /* the causal half of 4 B H T T K */
    struct kn_tensor q = operand(KN_BF16, 4, B, T, H, K, 1), k = operand(KN_BF16, 4, B, T, H, K, 1), v = operand(KN_BF16, 4, B, T, H, K, 1), o = operand(KN_BF16, 4, B, T, H, K, 0),
                     lse = operand(KN_F32, 3, B, H, T, 0, 0), go = operand(KN_BF16, 4, B, T, H, K, 1), dq = operand(KN_BF16, 4, B, T, H, K, 0), dk = operand(KN_BF16, 4, B, T, H, K, 0),
                     dv = operand(KN_BF16, 4, B, T, H, K, 0);
    double scale = 1 / sqrt((double)K);
    kn_precision(dev, KN_BF16);
    TIME(s, dev->op->attention(dev, &q, &k, &v, 0, scale, &o, &lse));
    snprintf(name, sizeof name, "attention.k%d.t%d", (int)K, (int)T);
    say(name, half / s * 1e-12, "TFLOP/s", half / s / bf16_rate, NAN);
    TIME(s, dev->op->attention_bwd(dev, &q, &k, &v, &o, &lse, &go, 0, scale, &dq, &dk, &dv));
    snprintf(name, sizeof name, "attention_bwd.k%d.t%d", (int)K, (int)T);
    say(name, 2.5 * half / s * 1e-12, "TFLOP/s", 2.5 * half / s / bf16_rate, NAN);
    kn_precision(dev, KN_F32);
    drop();
}

/* ---- scans ---- */

static void scan_ops(void)
{
    int64_t B = quick ? 1 : 16, T = quick ? 70 : 1024, H = quick ? 2 : 24, P = 64, S = quick ? 16 : 64;
    double s;
    struct kn_cost c;
    struct kn_tensor x = operand(KN_F32, 4, B, T, H, P, 1), dt = operand(KN_F32, 3, B, T, H, 0, 1), bias = operand(KN_F32, 1, H, 0, 0, 0, 1), a = operand(KN_F32, 1, H, 0, 0, 0, 1),
                     bm = operand(KN_F32, 4, B, T, 1, S, 1), cm = operand(KN_F32, 4, B, T, 1, S, 1), d = operand(KN_F32, 1, H, 0, 0, 0, 1), y = operand(KN_F32, 4, B, T, H, P, 1),
                     dx = operand(KN_F32, 4, B, T, H, P, 0), ddt = operand(KN_F32, 3, B, T, H, 0, 0), dbias = operand(KN_F32, 1, H, 0, 0, 0, 0), da = operand(KN_F32, 1, H, 0, 0, 0, 0),
                     dbm = operand(KN_F32, 4, B, T, 1, S, 0), dcm = operand(KN_F32, 4, B, T, 1, S, 0), dd = operand(KN_F32, 1, H, 0, 0, 0, 0);
    kn_precision(dev, KN_BF16);
    c = kn_cost_ssd(B * T, H, P, 1, S, 4);
    TIME(s, dev->op->ssd(dev, &x, &dt, &bias, &a, &bm, &cm, &d, NULL, &y));
    say("ssd.bf16", s * 1e6, "us", fmax(c.bytes / s / copy_rate, c.flops / s / bf16_rate), NAN);
    c = kn_cost_ssd_bwd(B * T, H, P, 1, S, 4);
    TIME(s, dev->op->ssd_bwd(dev, &x, &dt, &bias, &a, &bm, &cm, &d, &y, &dx, &ddt, &dbias, &da, &dbm, &dcm, &dd));
    say("ssd_bwd.bf16", s * 1e6, "us", fmax(c.bytes / s / copy_rate, c.flops / s / bf16_rate), NAN);
    drop();
    int64_t K = quick ? 16 : 64;
    struct kn_tensor q = operand(KN_F32, 4, B, T, H, K, 1), k = operand(KN_F32, 4, B, T, H, K, 1), v = operand(KN_F32, 4, B, T, H, K, 1), g = operand(KN_F32, 3, B, T, H, 0, 0),
                     beta = operand(KN_F32, 3, B, T, H, 0, 0.1), o = operand(KN_F32, 4, B, T, H, K, 1), dq = operand(KN_F32, 4, B, T, H, K, 0), dk = operand(KN_F32, 4, B, T, H, K, 0),
                     dv = operand(KN_F32, 4, B, T, H, K, 0), dg = operand(KN_F32, 3, B, T, H, 0, 0), dbeta = operand(KN_F32, 3, B, T, H, 0, 0), decay = operand(KN_F32, 4, B, T, H, K, 0),
                     ddecay = operand(KN_F32, 4, B, T, H, K, 0);
    c = kn_cost_delta_rule(B, T, H, H, K, K, 0, 4);
    TIME(s, dev->op->delta_rule(dev, &q, &k, &v, &g, &beta, 1e-6, 0.125, NULL, &o));
    say("delta_rule.bf16", s * 1e6, "us", fmax(c.bytes / s / copy_rate, c.flops / s / bf16_rate), NAN);
    c = kn_cost_delta_rule_bwd(B, T, H, H, K, K, 4);
    TIME(s, dev->op->delta_rule_bwd(dev, &q, &k, &v, &g, &beta, 1e-6, 0.125, &o, &dq, &dk, &dv, &dg, &dbeta));
    say("delta_rule_bwd.bf16", s * 1e6, "us", fmax(c.bytes / s / copy_rate, c.flops / s / bf16_rate), NAN);
    c = kn_cost_gla(B, T, H, K, K, 0, 4);
    TIME(s, dev->op->gla(dev, &q, &k, &v, &decay, 0.125, NULL, &o));
    say("gla.bf16", s * 1e6, "us", fmax(c.bytes / s / copy_rate, c.flops / s / bf16_rate), NAN);
    c = kn_cost_gla_bwd(B, T, H, K, K, 4);
    TIME(s, dev->op->gla_bwd(dev, &q, &k, &v, &decay, 0.125, &o, &dq, &dk, &dv, &ddecay));
    say("gla_bwd.bf16", s * 1e6, "us", fmax(c.bytes / s / copy_rate, c.flops / s / bf16_rate), NAN);
    kn_precision(dev, KN_F32);
    drop();
}

/* ---- models ---- */

static struct arch llama_model(void)
{
    struct arch a = quick ? net(200, 32, 64, 1) : net(50304, 1024, 768, 1);
    int heads = a.width / 64;
    for (int i = 0; i < (quick ? 1 : 12); i++) add(&a, attention(heads, heads, 64, 0, 1), swiglu(quick ? 96 : 2048, 0));
    return a;
}

/* Those that everything on the CPU is measured on too (taut bench): mamba2 and attention in turns; experts. */
static struct arch hybrid_model(void)
{
    struct arch a = net(256, quick ? 32 : 256, quick ? 32 : 256, 0);
    for (int i = 0; i < (quick ? 3 : 6); i++) add(&a, i % 3 == 2 ? attention(8, 2, 32, 0, 1) : mamba2(2, 64, 64, 4, 1), swiglu(quick ? 48 : 704, 0));
    return a;
}

static struct arch expert_model(void)
{
    struct arch a = net(256, quick ? 32 : 256, quick ? 32 : 256, 0);
    for (int i = 0; i < (quick ? 1 : 6); i++) add(&a, attention(8, 2, 32, 0, 1), moe(8, 2, quick ? 32 : 256, 0));
    return a;
}

/* As job.md writes it, of the types above. */
static void write_arch(const char *path, const struct arch *a)
{
    FILE *f = fopen(path, "w");
    if (!f) die(path, ST_EIO);
    fprintf(f, "{\"taut\":1,\"vocab\":%d,\"context\":%d,\"width\":%d,\"tie_embeddings\":%s,\"layers\":[", a->vocab, a->context, a->width, a->tie ? "true" : "false");
    for (int i = 0; i < a->depth; i++) {
        const struct arch_part *two[2] = {&a->layer[i].mixer, &a->layer[i].ffn};
        fprintf(f, "%s{", i ? "," : "");
        for (int k = 0; k < 2; k++) {
            const struct layer_spec *s = space_layer(two[k]->type);
            fprintf(f, "%s\"%s\":{\"type\":\"%s\"", k ? "," : "", k ? "ffn" : "mixer", s->name);
            for (int j = 0; j < s->nparams; j++) fprintf(f, ",\"%s\":%d", s->params[j].name, two[k]->v[j]);
            fprintf(f, "}");
        }
        fprintf(f, "}");
    }
    fprintf(f, "]}\n");
    if (fclose(f)) die(path, ST_EIO);
}

/* What bench_torch.py trains on, so that both see the same. */
static void write_text(const char *name, const int32_t *text, int n)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s.txt", weights_folder, name);
    FILE *f = fopen(path, "w");
    if (!f) die(path, ST_EIO);
    for (int i = 0; i < n; i++) fputc(text[i], f);
    if (fclose(f)) die(path, ST_EIO);
}

static void model(const char *name, const struct arch *a, int batch, double wanted)
{
    struct base_err err = BASE_ERR_INIT;
    struct model *m;
    struct arch_cost cost;
    char path[4096], what[64];
    int T = a->context, steps = quick ? 4 : 30;
    int32_t *text = malloc((size_t)(batch * T + 1) * sizeof *text);
    double ms[64], loss = 0, first = 0, norm;
    if (!text) die(name, ST_ENOMEM);
    if (model_new(&m, a, dev, &(struct model_opts){.train = true, .batch = batch, .precision = KN_BF16}, &err)) {
        fprintf(stderr, "bench_gpu: %s: %s\n", name, err.what);
        exit(1);
    }
    st_t st = model_init(m, 1);
    if (!st && weights_folder) {
        snprintf(path, sizeof path, "%s/%s.json", weights_folder, name);
        write_arch(path, a);
        snprintf(path, sizeof path, "%s/%s.safetensors", weights_folder, name);
        st = model_save(m, path, false, NULL, 0, NULL, NULL, &err);
    }
    for (int i = 0; i <= batch * T; i++) text[i] = (int)((unsigned)i * 2654435761u >> 13) & 127;
    if (weights_folder) write_text(name, text, batch * T + 1);
    struct model_hyper h = {1e-3, 1, 0.9, 0.95, 1e-8, 0.1, 1};
    for (int s = 0; s < steps && !st; s++) {
        uint64_t from = base_clock_ns();
        st = model_train_begin(m, text, text + 1, batch, T, &h);
        if (!st) st = model_train_end(m, &loss, &norm);
        ms[s] = (double)(base_clock_ns() - from) * 1e-6;
        if (s == 0) first = loss;
    }
    if (st) die(name, st);
    int warm = quick ? 3 : 6; /* the first ones grow scratch and capture */
    qsort(ms + warm, (size_t)(steps - warm), sizeof *ms, by_value);
    double each = ms[warm + (steps - warm) / 2];
    space_arch_cost(a, &cost);
    snprintf(what, sizeof what, "train.%s", name);
    say(what, (double)batch * T / each * 1e3, "tokens/s", 3 * cost.flops_per_token * batch * T / (each * 1e-3) / bf16_rate, wanted);
    snprintf(what, sizeof what, "loss.%s", name);
    say(what, first, "nats", NAN, NAN);
    model_free(m);
    kn_trim(dev);
    free(text);
}

static void decoding(const char *name, const struct arch *a, enum arch_weights weights)
{
    struct base_err err = BASE_ERR_INIT;
    struct model *m;
    struct model_state *state;
    char what[64];
    int context = quick ? 16 : a->context - 8, calls = quick ? 2 : 200;
    int32_t tok = 1;
    double ms[256], bytes = 0;
    float *logits = malloc((size_t)a->vocab * sizeof *logits);
    if (!logits) die(name, ST_ENOMEM);
    st_t st = model_new(&m, a, dev, &(struct model_opts){.weights = weights}, &err);
    if (!st) st = model_init(m, 1);
    if (!st) st = model_state_new(&state, m, 1, context + 1, &err);
    if (!st) st = model_state_fill(state, context);
    for (int i = 0; i < calls && !st; i++) {
        uint64_t from = base_clock_ns();
        model_state_seek(state, context);
        st = model_decode(state, &tok, 1, logits);
        ms[i] = (double)(base_clock_ns() - from) * 1e-6;
    }
    if (st) die(name, st);
    qsort(ms, (size_t)calls, sizeof *ms, by_value);
    struct arch_cost cost;
    space_arch_cost(a, &cost);
    double size = weights == ARCH_WEIGHTS_F32 ? 4 : weights == ARCH_WEIGHTS_BF16 ? 2 : 1;
    bytes = size * (cost.active_params - (a->tie ? 0 : (double)a->vocab * a->width)) + space_arch_state_bytes(a, context);
    snprintf(what, sizeof what, "decode.%s", name);
    say(what, ms[calls / 2], "ms", bytes / (ms[calls / 2] * 1e-3) / copy_rate, 0.85);
    model_state_free(state);
    model_free(m);
    kn_trim(dev);
    free(logits);
}

static bool wants(char **parts, int n, const char *part)
{
    for (int i = 0; i < n; i++)
        if (!strcmp(parts[i], part)) return true;
    return n == 0;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {{"quick", 0, 0, 'q'}, {"weights", 1, 0, 'w'}, {"probe", 0, 0, 'p'}, {0}};
    struct base_err err = BASE_ERR_INIT;
    bool probe = false;
    for (int o; (o = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (o == 'q') quick = true;
        else if (o == 'w') weights_folder = optarg;
        else if (o == 'p') probe = true;
        else return 2;
    }
    if (kn_dev_open(&dev, "cuda:0", 1, &err)) {
        fprintf(stderr, "no GPU to measure: %s\n", err.what);
        return 77;
    }
    printf("device\t%s\t%s\t%s\t-\n", dev->info.name, dev->info.isa, dev->info.libraries);
    fflush(stdout);
    argv += optind, argc -= optind;
    if (!probe) {
        limits(wants(argv, argc, "limits"));
        if (wants(argv, argc, "ops")) ops();
        if (wants(argv, argc, "attention"))
            for (int64_t K = 64; K <= 128; K += 64)
                for (int64_t T = quick ? 64 : 1024; T <= (quick ? 64 : 4096); T *= 4) attention_at(K, T);
        if (wants(argv, argc, "scans")) scan_ops();
        struct arch a = llama_model(), d = hybrid_model(), e = expert_model();
        if (wants(argv, argc, "models")) {
            model("llama124m", &a, quick ? 1 : 16, NAN);
            model("hybrid", &d, quick ? 1 : 16, NAN);
            model("experts", &e, quick ? 1 : 16, NAN);
        }
        if (wants(argv, argc, "decode")) {
            decoding("llama124m.f32", &a, ARCH_WEIGHTS_F32);
            decoding("llama124m.bf16", &a, ARCH_WEIGHTS_BF16);
            decoding("llama124m.int8", &a, ARCH_WEIGHTS_INT8);
        }
    }
    kn_dev_close(dev);
    return 0;
}
