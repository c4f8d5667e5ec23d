/* Weights kept in bf16 and int8 for decoding: the same logits as of an f32 network that has the very numbers that were kept; memory as on paper. */
#include <unistd.h>

#include "tests/tap.h"

#include "tests/model/nets.h"

enum { V = 13, CONTEXT = 40, B = 2 };

/* Gives f every number of s, as it was kept. */
static void take(struct model *f, struct model *s, struct kn_dev *dev)
{
    for (int i = 0; i < model_params(s); i++) {
        struct kn_tensor from = model_param(s, i)->w, to = model_param(f, i)->w;
        if (from.rank == 3) {
            from = (struct kn_tensor){from.p, from.dtype, 2, {from.d[0] * from.d[1], from.d[2]}, {from.s[1], 1}};
            to = kn_t2(to.p, to.dtype, to.d[0] * to.d[1], to.d[2]);
        }
        if (dev->op->copy(dev, &from, &to)) exit(1);
    }
}

/* A prefill of `first`, then token by token; of the first of `batch` sequences. */
static st_t run_of(struct model *m, int batch, const int32_t *tokens, int first, float *logits)
{
    struct model_state *s;
    int32_t now[B * CONTEXT];
    st_t st = model_state_new(&s, m, batch, CONTEXT, NULL);
    for (int at = 0, n = first; !st && at < CONTEXT; at += n, n = 1) {
        for (int b = 0; b < batch; b++) memcpy(now + b * n, tokens + b * CONTEXT + at, (size_t)n * sizeof *now);
        st = model_decode(s, now, n, logits);
    }
    model_state_free(s);
    return st;
}

static st_t run(struct model *m, const int32_t *tokens, int first, float *logits)
{
    return run_of(m, B, tokens, first, logits);
}

static void test(const struct arch *a, const char *what, enum arch_weights w)
{
    struct kn_dev *dev = device("cpu", 2);
    struct base_err err = BASE_ERR_INIT;
    struct model *s = NULL, *f = model_of(a, dev, KN_F32, 0, false, 7);
    static int32_t tok[B * CONTEXT], tgt[B * CONTEXT];
    float got[B * V], want[B * V], plain[B * V];
    struct model_opts o = {.weights = w};
    random_tokens(4, V, B * CONTEXT, tok, tgt);
    if (!ok(!model_new(&s, a, dev, &o, &err) && !model_init(s, 7), "%s: built", what)) {
        printf("# %s: %s\n", err.where, err.what);
        exit(1);
    }
    double paper = space_arch_weight_bytes(a, w), bytes = (double)model_plan_bytes(a, &o);
    ok(bytes >= paper && bytes <= paper + 64 * (model_params(s) + 2), "%s: %.0f bytes, on paper %.0f", what, bytes, paper);
    double lie = 0;
    for (int i = 0; i < model_params(s); i++) {
        struct kn_tensor x = model_param(s, i)->w;
        lie += (double)(x.d[0] * x.s[0]) * (double)kn_dtype_size(x.dtype);
    }
    is_near(lie, paper, 0, "%s: tensors have the bytes that are on paper", what);
    float many[B * V], alone[V];
    st_t st = run(f, tok, 8, plain);
    take(f, s, dev);
    if (!st) st = run(f, tok, 8, want);
    if (!st) st = run(s, tok, 8, got);
    if (!st) st = run(s, tok, 30, many);
    if (!st) st = run_of(s, 1, tok, 8, alone);
    double apart = 0, off = 0, most = 0, lost = 0, rounded = 0;
    for (int i = 0; i < B * V; i++) {
        off = tap_worse(off, fabs((double)got[i] - (double)want[i])), most = tap_worse(most, fabs((double)want[i]));
        rounded = tap_worse(rounded, fabs((double)many[i] - (double)want[i]));
        lost = tap_worse(lost, fabs((double)plain[i] - (double)want[i]));
    }
    if (!ok(!st && off < 2e-5 * most, "%s: logits of the kept numbers", what)) printf("# %s, off by %g of %g\n", base_status_text(st), off, most);
    for (int i = 0; i < V; i++) apart = tap_worse(apart, fabs((double)alone[i] - (double)want[i]));
    ok(!st && apart < 2e-5 * most, "%s: a sequence alone (%.2g of %.2g)", what, apart, most);
    ok(rounded < 0.1 * most, "%s: a prefill may round what it multiplies (%.2g of %.2g)", what, rounded, most);
    ok(lost > 0 && lost < 0.2 * most, "%s: and near those of f32 (%.2g of %.2g)", what, lost, most);
    is_int(model_save(s, "/nowhere", false, NULL, 0, NULL, NULL, NULL), ST_ENOTSUP, "%s: not saved", what);
    model_free(f);
    model_free(s);
    kn_dev_close(dev);
}

/* Weights of a file become the same as weights made in place. */
static void test_load(const struct arch *a, enum arch_weights w)
{
    struct kn_dev *dev = device("cpu", 1);
    struct model *s[2], *f = model_of(a, dev, KN_F32, 0, false, 9);
    char path[256];
    const char *tmp = getenv("TMPDIR");
    snprintf(path, sizeof path, "%s/taut-stored-%ld", tmp ? tmp : "/tmp", (long)getpid());
    is_int(model_save(f, path, false, NULL, 0, NULL, NULL, NULL), ST_OK, "saved");
    for (int i = 0; i < 2; i++)
        if (model_new(&s[i], a, dev, &(struct model_opts){.weights = w}, NULL)) exit(1);
    ok(!model_init(s[0], 9) && !model_load(s[1], path, false, NULL), "drawn and loaded");
    int same = 0;
    for (int i = 0; i < model_params(f); i++) {
        struct kn_tensor x = model_param(s[0], i)->w, y = model_param(s[1], i)->w;
        same += !memcmp(x.p, y.p, (size_t)(x.d[0] * x.s[0]) * kn_dtype_size(x.dtype));
    }
    is_int(same, model_params(f), "the same bytes");
    unlink(path);
    for (int i = 0; i < 2; i++) model_free(s[i]);
    model_free(f);
    kn_dev_close(dev);
}

int main(void)
{
    for (int tie = 0; tie < 2; tie++) {
        struct arch a = zoo(CONTEXT, tie);
        test(&a, tie ? "tied bf16" : "bf16", ARCH_WEIGHTS_BF16);
        test(&a, tie ? "tied int8" : "int8", ARCH_WEIGHTS_INT8);
        test_load(&a, ARCH_WEIGHTS_INT8);
    }
    struct {
        const char *name;
        struct arch a;
    } nets[] = {{"experts", experts(CONTEXT)},   {"biases", biased(9, 0)},      {"latents", latents(9, 0)},     {"attention's options", attentions(CONTEXT, 0)},
                {"convolutions", conv_zoo(9, 0)}, {"state spaces", scans(9, 0)}, {"delta rule, linear", deltas(9, 0)}};
    nets[2].a.bias = true;
    for (size_t i = 0; i < sizeof nets / sizeof nets[0]; i++) {
        char what[64];
        for (int int8 = 0; int8 < 2; int8++) {
            snprintf(what, sizeof what, "%s %s", nets[i].name, int8 ? "int8" : "bf16");
            test(&nets[i].a, what, int8 ? ARCH_WEIGHTS_INT8 : ARCH_WEIGHTS_BF16);
        }
        test_load(&nets[i].a, ARCH_WEIGHTS_INT8);
    }
    struct arch a = zoo(CONTEXT, 0);
    struct kn_dev *dev = device("cpu", 1);
    struct model *m = NULL;
    struct base_err err = BASE_ERR_INIT;
    is_int(model_new(&m, &a, dev, &(struct model_opts){.weights = ARCH_WEIGHTS_INT8, .batch = 1, .train = true}, &err), ST_ENOTSUP, "not to train");
    is_str(err.what, "weights kept in fewer bits are for decoding in f32 alone", "and says so");
    kn_dev_close(dev);
    return tap_done();
}
