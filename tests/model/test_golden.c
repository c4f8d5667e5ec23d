/* Against Hugging Face transformers (tests/golden/make_*.py): the same weights give the same logits, loss and
 * gradients. The golden numbers are in
 * f64, but transformers makes its cosines and norms in f32 whatever the model's type: hence the tolerance of f64
 * here. */
#include "tests/tap.h"

#include <unistd.h>

#include "model/safetensors.h"
#include "tests/model/nets.h"

enum { B = 2, T = 12, V = 19 };

static const char *golden(char *out, size_t size, const char *name, const char *what)
{
    const char *src = getenv("TAUT_SRC");
    snprintf(out, size, "%s/tests/golden/%s_%s.safetensors", src ? src : ".", name, what);
    return out;
}

/* Largest |got - want| over the largest |want|, or over 0.01 where all is smaller: the gradient of a key's bias is 0 without RoPE. */
static double apart(const double *got, const double *want, int64_t n)
{
    double d = 0, w = 0.01;
    for (int64_t i = 0; i < n; i++) d = fmax(d, fabs(got[i] - want[i])), w = fmax(w, fabs(want[i]));
    return d / w;
}

static void *read_all(const struct safe *f, const char *name)
{
    const struct safe_tensor *t = safe_find(f, name);
    if (!t) return NULL;
    void *p = malloc(t->end - t->begin + 1);
    safe_read(f, t->begin, p, t->end - t->begin);
    return p;
}

static void check_logits(struct model *m, const int32_t *tokens, const double *want, double tol, const char *what)
{
    struct model_state *s;
    float got[B * V];
    double out[B * T * V];
    is_int(model_state_new(&s, m, B, T, NULL), ST_OK, "%s: state", what);
    for (int t = 0; t < T; t++) {
        int32_t now[B] = {tokens[t], tokens[T + t]};
        model_decode(s, now, 1, got);
        for (int b = 0; b < B; b++)
            for (int v = 0; v < V; v++) out[(b * T + t) * V + v] = got[b * V + v];
    }
    model_state_free(s);
    double d = apart(out, want, B * T * V);
    if (!ok(d < tol, "%s: logits of every position, token by token", what)) printf("# off by %g\n", d);
}

/* What Python's safetensors wrote, read and written again: the same tensors, bit for bit, and numbers that lie
 * aligned. */
static void check_round_trip(struct model *m, const char *weights)
{
    struct safe x, y;
    const char *tmp = getenv("TMPDIR");
    char path[256];
    int same = 0;
    snprintf(path, sizeof path, "%s/taut-golden-%ld", tmp ? tmp : "/tmp", (long)getpid());
    is_int(model_save(m, path, false, NULL, 0, NULL, NULL, NULL), ST_OK, "saved again");
    if (!ok(!safe_open(&x, weights, NULL) && !safe_open(&y, path, NULL), "both open")) exit(1);
    for (int i = 0; i < x.n; i++) {
        const struct safe_tensor *s = &x.tensor[i], *t = safe_find(&y, s->name);
        if (!t || t->dtype != s->dtype || t->rank != s->rank || memcmp(t->shape, s->shape, sizeof t->shape)) continue;
        void *p = read_all(&x, s->name), *q = read_all(&y, s->name);
        same += !memcmp(p, q, s->end - s->begin);
        free(p), free(q);
    }
    ok(same == x.n && x.n == y.n, "%d tensors, all the same", x.n);
    ok(y.data % 8 == 0, "the data is aligned");
    is_str(safe_meta(&y, "format"), "pt", "transformers accept it");
    safe_close(&x), safe_close(&y);
    unlink(path);
}

static void check(const struct arch *a, const char *name, const char *device_name, enum kn_dtype dtype, double tol)
{
    char path[512], what[64], key[128];
    struct safe f;
    struct base_err err = BASE_ERR_INIT;
    struct kn_dev *dev = device(device_name, 2);
    struct model *m = model_of(a, dev, dtype, B, true, 1);
    snprintf(what, sizeof what, "%s %s %s", name, device_name, kn_dtype_name(dtype));
    if (!ok(!model_load(m, golden(path, sizeof path, name, "weights"), false, &err), "%s: weights load", what))
        printf("# %s: %s\n", err.where, err.what);
    if (dtype == KN_F32) check_round_trip(m, path);
    if (!ok(!safe_open(&f, golden(path, sizeof path, name, "golden"), &err), "%s: golden numbers", what)) exit(1);
    int32_t *tokens = read_all(&f, "tokens"), *targets = read_all(&f, "targets");
    double *logits = read_all(&f, "logits"), *want = read_all(&f, "loss"), loss = NAN;
    check_logits(m, tokens, logits, tol, what);
    is_int(model_loss(m, tokens, targets, B, T, &loss), ST_OK, "%s: forward", what);
    is_near(loss, *want, tol, "%s: loss", what);
    is_int(model_step(m, tokens, targets, B, T, &loss), ST_OK, "%s: step", what);
    is_near(loss, *want, tol, "%s: loss of the step", what);
    double *aux = read_all(&f, "aux");
    is_near(model_aux(m), aux ? *aux : 0, tol, "%s: auxiliary loss", what);
    free(aux);
    for (int i = 0; i < model_params(m); i++) {
        const struct model_param *p = model_param(m, i);
        snprintf(key, sizeof key, "grad.%s", p->name);
        float *g = read_all(&f, key);
        double *got = numbers(dev, &p->g), *ref = malloc((size_t)kn_count(&p->g) * sizeof *ref);
        for (int64_t k = 0; g && k < kn_count(&p->g); k++) ref[k] = g[k];
        double d = g ? apart(got, ref, kn_count(&p->g)) : INFINITY;
        if (!ok(d < tol, "%s: %s", what, key)) printf("# off by %g\n", d);
        free(g), free(got), free(ref);
    }
    free(tokens), free(targets), free(logits), free(want);
    safe_close(&f);
    model_free(m);
    kn_dev_close(dev);
}

int main(void)
{
    static const char *const moe_names[] = {"moe_mixtral", "moe_deepseek", "moe_qwen3next", "moe_granite", "moe_nemotron", "moe_lfm2"};
    struct arch_part moes[] = {moe(4, 2, 10, 0),
                               moe_as(moe(6, 3, 10, 2), 1, 0, 0),
                               moe_as(moe(5, 2, 10, 1), 0, 0, 1),
                               moe(4, 3, 10, 3),
                               moe_as(moe(5, 2, 10, 1), 1, 1, 0),
                               moe_as(moe(4, 2, 10, 0), 1, 0, 0)};
    struct arch llama = net(V, 64, 24, 0), mistral = llama;
    for (int i = 0; i < 2; i++) {
        add(&llama, attention(4, 2, 6, 0, 1), swiglu(36, 0));
        add(&mistral, attention(4, 2, 8, 5, 1), swiglu(36, 0));
    }
    check(&llama, "llama", "ref", KN_F64, 2e-6);
    check(&llama, "llama", "ref", KN_F32, 5e-6);
    check(&llama, "llama", "cpu", KN_F32, 5e-6);
    check(&mistral, "mistral", "ref", KN_F64, 2e-6);
    check(&mistral, "mistral", "cpu", KN_F32, 5e-6);
    struct arch lfm2 = net(V, 64, 24, 0);
    for (int i = 0; i < 2; i++) add(&lfm2, short_conv(3), swiglu(36, 0));
    check(&lfm2, "lfm2", "ref", KN_F64, 2e-6);
    check(&lfm2, "lfm2", "cpu", KN_F32, 5e-6);
    struct arch hybrid = net(V, 64, 24, 0);
    struct arch_part normed = attention(4, 2, 6, 0, 1);
    set(&normed, "qk_norm", 1);
    add(&hybrid, normed, swiglu(36, 0)), add(&hybrid, short_conv(3), swiglu(36, 0));
    check(&hybrid, "lfm2_attention", "ref", KN_F64, 2e-6);
    check(&hybrid, "lfm2_attention", "cpu", KN_F32, 5e-6);
    struct arch bamba = net(V, 64, 24, 0), biased_bamba = bamba;
    biased_bamba.bias = true;
    for (int i = 0; i < 2; i++) {
        add(&bamba, mamba2(2, 12, 10, 4, 2), swiglu(36, 0));
        add(&biased_bamba, mamba2(2, 12, 7, 4, 1), swiglu(36, 0));
    }
    check(&bamba, "bamba", "ref", KN_F64, 2e-6);
    check(&bamba, "bamba", "cpu", KN_F32, 5e-6);
    check(&biased_bamba, "bamba_bias", "ref", KN_F64, 2e-6);
    check(&biased_bamba, "bamba_bias", "cpu", KN_F32, 5e-6);
    struct arch qwen3 = net(V, 64, 24, 0), next = qwen3, shared = qwen3;
    for (int i = 0; i < 3; i++) {
        struct arch_part p = attention(4, 2, 6, 0, 1), q = attention(4, 2, 8, 0, 1), r = p;
        set(&p, "qk_norm", 1);
        set(&q, "qk_norm", 1), set(&q, "gate", 1), set(&q, "rope_dim", 2);
        set(&r, "share_kv", i > 0);
        if (i < 2) add(&qwen3, p, swiglu(36, 0)), add(&next, q, swiglu(36, 0));
        add(&shared, r, swiglu(36, 0));
    }
    check(&qwen3, "qwen3", "ref", KN_F64, 2e-6);
    check(&qwen3, "qwen3", "cpu", KN_F32, 5e-6);
    check(&next, "qwen3_next", "ref", KN_F64, 2e-6);
    check(&next, "qwen3_next", "cpu", KN_F32, 5e-6);
    check(&shared, "shared_kv", "ref", KN_F64, 2e-6);
    check(&shared, "shared_kv", "cpu", KN_F32, 5e-6);
    struct arch gpt2 = net(V, 64, 24, 0), nemotron = gpt2, biased_llama = gpt2, biased_lfm2 = gpt2;
    gpt2.norm = ARCH_NORM_LAYER;
    gpt2.bias = nemotron.bias = biased_llama.bias = biased_lfm2.bias = true;
    for (int i = 0; i < 2; i++) {
        add(&gpt2, attention(4, 4, 6, 0, 0), mlp(36, KN_GELU));
        add(&nemotron, attention(4, 2, 8, 0, 0), mlp(36, KN_RELU2));
        add(&biased_llama, attention(4, 2, 6, 0, 1), swiglu(36, 0));
        add(&biased_lfm2, short_conv(3), swiglu(36, 0));
    }
    check(&gpt2, "gpt2", "ref", KN_F64, 2e-6);
    check(&gpt2, "gpt2", "cpu", KN_F32, 5e-6);
    check(&nemotron, "nemotron_mlp", "ref", KN_F64, 2e-6);
    check(&nemotron, "nemotron_mlp", "cpu", KN_F32, 5e-6);
    check(&biased_llama, "llama_bias", "ref", KN_F64, 2e-6);
    check(&biased_llama, "llama_bias", "cpu", KN_F32, 5e-6);
    check(&biased_lfm2, "lfm2_bias", "ref", KN_F64, 2e-6);
    check(&biased_lfm2, "lfm2_bias", "cpu", KN_F32, 5e-6);
    struct arch latent = net(V, 64, 24, 0), low = latent, paired = latent;
    low.bias = true;
    for (int i = 0; i < 2; i++) {
        add(&latent, mla(4, 10, 6, 4, 5, 0), swiglu(36, 0));
        add(&low, mla(4, 10, 6, 4, 5, 7), swiglu(36, 0));
        add(&paired, mla(4, 10, 6, 4, 5, 9), swiglu(36, 0));
    }
    check(&latent, "mla", "ref", KN_F64, 2e-6);
    check(&latent, "mla", "cpu", KN_F32, 5e-6);
    check(&low, "mla_rank", "ref", KN_F64, 2e-6);
    check(&low, "mla_rank", "cpu", KN_F32, 5e-6);
    check(&paired, "mla_pairs", "ref", KN_F64, 2e-6);
    check(&paired, "mla_pairs", "cpu", KN_F32, 5e-6);
    for (int i = 0; i < 6; i++) {
        struct arch a = net(V, 64, 24, 0);
        for (int l = 0; l < (i ? 1 : 2); l++) add(&a, attention(4, 2, 6, 0, 1), moes[i]);
        check(&a, moe_names[i], "ref", KN_F64, 5e-6);
        check(&a, moe_names[i], "cpu", KN_F32, 1e-5);
    }
    struct arch delta = net(V, 64, 24, 0);
    for (int i = 0; i < 2; i++) add(&delta, gated_delta(4, 2, 6, 5, 4), swiglu(36, 0));
    check(&delta, "gated_delta", "ref", KN_F64, 2e-7);
    check(&delta, "gated_delta", "cpu", KN_F32, 1e-4); /* short keys are made long: f32 on ref is off by 2e-5 */
    struct arch gla = net(V, 64, 24, 0);
    for (int i = 0; i < 2; i++) add(&gla, linear(3, 6, 5, 4), swiglu(36, 0));
    check(&gla, "linear", "ref", KN_F64, 2e-7);
    check(&gla, "linear", "cpu", KN_F32, 5e-6);
    return tap_done();
}
