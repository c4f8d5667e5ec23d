/* FLOPs on paper are those that are computed: a device whose ops count what they are given, each by its own formula in ops.def. */
#include "tests/tap.h"

#include "tests/model/nets.h"

static const struct kn_ops *real;
static double counted;

#define D(t, i) ((double)(t)->d[i])

static st_t count_gemm(struct kn_dev *dev, double alpha, const struct kn_tensor *a, const struct kn_tensor *b, double beta, const struct kn_tensor *c)
{
    counted += 2 * D(a, 0) * D(a, 1) * D(b, 1);
    return real->gemm(dev, alpha, a, b, beta, c);
}

static st_t count_gemm_grouped(struct kn_dev *dev, const struct kn_tensor *a, const struct kn_tensor *b, const struct kn_tensor *offset, double beta,
                               const struct kn_tensor *c)
{
    counted += 2 * D(a, 0) * D(b, 1) * D(b, 2);
    return real->gemm_grouped(dev, a, b, offset, beta, c);
}

static st_t count_head_ce(struct kn_dev *dev, const struct kn_tensor *x, const struct kn_tensor *w, const struct kn_tensor *target, double gscale,
                          const struct kn_tensor *loss, const struct kn_tensor *dx, const struct kn_tensor *dw)
{
    counted += 2 * D(x, 0) * D(w, 0) * D(w, 1);
    return real->head_ce(dev, x, w, target, gscale, loss, dx, dw);
}

/* Pair by pair, as the mask says. */
static st_t count_attention(struct kn_dev *dev, const struct kn_tensor *q, const struct kn_tensor *k, const struct kn_tensor *v, int64_t window, double scale,
                            const struct kn_tensor *out, const struct kn_tensor *lse)
{
    int64_t T = q->d[1], S = k->d[1], pairs = 0;
    for (int64_t t = 0; t < T; t++)
        for (int64_t j = 0; j <= S - T + t; j++) pairs += !window || S - T + t - window < j;
    counted += D(q, 0) * D(q, 2) * (double)pairs * 2 * (D(k, 3) + D(v, 3));
    return real->attention(dev, q, k, v, window, scale, out, lse);
}

static st_t count_conv(struct kn_dev *dev, const struct kn_tensor *x, const struct kn_tensor *w, const struct kn_tensor *bias, int silu,
                       const struct kn_tensor *state, const struct kn_tensor *y)
{
    counted += 2 * D(x, 0) * D(x, 1) * D(x, 2) * D(w, 1);
    return real->conv(dev, x, w, bias, silu, state, y);
}

/* A token and head: t x (P), a S (PN), + (t x) bm' (2PN), S cm (2PN), + d x (2P). */
static st_t count_ssd(struct kn_dev *dev, const struct kn_tensor *x, const struct kn_tensor *dt, const struct kn_tensor *dt_bias, const struct kn_tensor *a_log,
                      const struct kn_tensor *bm, const struct kn_tensor *cm, const struct kn_tensor *d, const struct kn_tensor *state, const struct kn_tensor *y)
{
    double P = D(x, 3), N = D(bm, 3);
    counted += D(x, 0) * D(x, 1) * D(x, 2) * (5 * P * N + 3 * P);
    return real->ssd(dev, x, dt, dt_bias, a_log, bm, cm, d, state, y);
}

/* A token and value head: e^g S (KV), S^T k, k d', S^T q (2KV each), d = beta (v - ..) (2V). */
static st_t count_delta_rule(struct kn_dev *dev, const struct kn_tensor *q, const struct kn_tensor *k, const struct kn_tensor *v, const struct kn_tensor *g,
                             const struct kn_tensor *beta, double eps, double scale, const struct kn_tensor *s, const struct kn_tensor *out)
{
    counted += D(v, 0) * D(v, 1) * D(v, 2) * (7 * D(q, 3) * D(v, 3) + 2 * D(v, 3));
    return real->delta_rule(dev, q, k, v, g, beta, eps, scale, s, out);
}

/* A token and head: e^g S (KV), k v', S^T q (2KV each). */
static st_t count_gla(struct kn_dev *dev, const struct kn_tensor *q, const struct kn_tensor *k, const struct kn_tensor *v, const struct kn_tensor *g,
                      double scale, const struct kn_tensor *s, const struct kn_tensor *out)
{
    counted += D(v, 0) * D(v, 1) * D(v, 2) * 5 * D(q, 3) * D(v, 3);
    return real->gla(dev, q, k, v, g, scale, s, out);
}

/* Products and keys of one token's branches. */
static double ffn_flops(const struct kn_ffn *f, int rank)
{
    return f->down.p ? (f->gate.p ? 6 : 4) * D(&f->down, rank - 2) * D(&f->down, rank - 1) : 0;
}

static st_t count_decode(struct kn_dev *dev, const struct kn_branch *branch, int n, double eps, const struct kn_tensor *x, const struct kn_tensor *r)
{
    for (int i = 0; i < n; i++) {
        const struct kn_branch *b = &branch[i];
        const struct kn_branch_attention *a = &b->attention;
        const struct kn_branch_ffn *f = &b->ffn;
        if (b->kind == KN_BRANCH_HEAD) counted += 2 * D(&b->head.w, 0) * D(x, 1);
        else if (b->kind == KN_BRANCH_ATTENTION)
            counted += 2 * D(x, 1) * (D(&a->qkv, 0) + D(&a->out, 1)) + 4 * (double)a->heads * D(&a->k, 0) * D(&a->k, 2);
        else {
            counted += ffn_flops(&f->one, 2) + (double)f->active * ffn_flops(&f->expert, 3);
            counted += (f->router.p ? 2 * D(&f->router, 0) * D(x, 1) : 0) + (f->one_gate.p ? 2 * D(x, 1) : 0);
        }
    }
    return real->decode(dev, branch, n, eps, x, r);
}

static void check(struct arch a, const char *what)
{
    static const int prompts[] = {1, 23, 256, 257, 600}; /* a prefill goes in pieces of 256 */
    enum { MOST = 600 };
    static int32_t tok[MOST], tgt[MOST];
    float logits[32];
    double loss, window;
    struct kn_dev *dev = device("cpu", 1);
    struct kn_ops counting = *(real = dev->op);
    counting.gemm = count_gemm, counting.gemm_grouped = count_gemm_grouped, counting.head_ce = count_head_ce;
    counting.attention = count_attention, counting.conv = count_conv, counting.ssd = count_ssd;
    counting.delta_rule = count_delta_rule, counting.gla = count_gla, counting.decode = count_decode;
    struct model *m = model_of(&a, dev, KN_F32, 1, false, 3);
    struct model_state *s;
    struct arch_cost cost;
    random_tokens(8, a.vocab, MOST, tok, tgt);
    space_arch_cost(&a, &cost);
    dev->op = &counting;
    counted = 0;
    is_int(model_loss(m, tok, tgt, 1, a.context, &loss), ST_OK, "%s: a window", what);
    window = counted;
    is_near(window, cost.flops_per_token * a.context, 1e-12, "%s: FLOPs of a window", what);
    for (size_t i = 0; i < sizeof prompts / sizeof prompts[0]; i++) {
        int n = prompts[i];
        if (model_state_new(&s, m, 1, n + 2, NULL)) exit(1);
        counted = 0;
        is_int(model_decode(s, tok, n, logits), ST_OK, "%s: a prefill of %d", what, n);
        is_near(counted, space_arch_prefill_flops(&a, n), 1e-12, "%s: its FLOPs", what);
        counted = 0;
        is_int(model_decode(s, tok, 1, logits), ST_OK, "%s: a token", what);
        is_near(counted, space_arch_decode_flops(&a, n), 1e-12, "%s: its FLOPs", what);
        model_state_free(s);
    }
    model_free(m);
    dev->op = real;
    kn_dev_close(dev);
}

int main(void)
{
    for (int tie = 0; tie < 2; tie++) {
        check(zoo(17, tie), tie ? "zoo, tied" : "zoo");
        check(conv_zoo(17, tie), "convolutions");
        check(attentions(17, tie), "attention's options");
        check(biased(17, tie), "layer norm and biases");
        check(scans(17, tie), "scans");
        check(latents(17, tie), "latent attention");
        check(deltas(17, tie), "delta rule and gated linear attention");
    }
    check(experts(17), "experts");
    return tap_done();
}
