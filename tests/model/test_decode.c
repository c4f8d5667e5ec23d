/* Token by token = in chunks = all at once, through caches with and without a window. */
#include "tests/tap.h"

#include "tests/model/nets.h"

enum { V = 13, LONG = 300 };

/* Norms and biases as in life, no longer ones and zeros: the weights are in the host's memory. */
static void stir(struct model *m)
{
    struct base_rng r = base_rng_at(3, RNG_TEST, 2);
    for (int i = 0; i < model_params(m); i++) {
        const struct model_param *p = model_param(m, i);
        for (int64_t k = 0; p->role == LAYER_T_VECTOR && k < kn_count(&p->w); k++) {
            double x = 0.3 * base_rng_normal(&r);
            if (p->w.dtype == KN_F64) ((double *)p->w.p)[k] += x;
            else ((float *)p->w.p)[k] += (float)x;
        }
    }
}

/* Logits [n,B,V] after each cut of [B,n] tokens; cuts: lengths, 0 ends. */
static st_t decode(struct model *m, int B, int64_t context, const int32_t *tokens, int n, const int *cuts, float *last)
{
    struct model_state *s;
    int32_t now[3 * LONG];
    st_t st = model_state_new(&s, m, B, context, NULL);
    for (int at = 0, i = 0; !st && cuts[i]; at += cuts[i++]) {
        for (int b = 0; b < B; b++) memcpy(now + b * cuts[i], tokens + b * n + at, (size_t)cuts[i] * sizeof *now);
        st = model_decode(s, now, cuts[i], last);
        if (!st && model_state_pos(s) != at + cuts[i]) st = ST_ESTATE;
    }
    model_state_free(s);
    return st;
}

static double apart(const float *x, const float *y, int n)
{
    double d = 0, w = 0;
    for (int i = 0; i < n; i++) d = tap_worse(d, fabs((double)x[i] - (double)y[i])), w = tap_worse(w, fabs((double)y[i]));
    return isfinite(d) ? d / w : INFINITY;
}

static void test_cuts(struct arch a, const char *name, enum kn_dtype dtype, double tol)
{
    static int32_t tok[3 * LONG], tgt[3 * LONG];
    static int ones[LONG + 1];
    static const int all[] = {LONG, 0}, some[] = {1, 2, 90, 4, 5, 1, 6, 120, 1, 1, 69, 0}, tail[] = {299, 1, 0},
                     threes[] = {150, 3, 3, 3, 141, 0};
    struct kn_dev *dev = device(name, 2);
    struct model *m = model_of(&a, dev, dtype, 0, false, 8);
    stir(m);
    const int *cuts[] = {some, tail, threes, ones};
    for (int i = 0; i < LONG; i++) ones[i] = 1;
    random_tokens(2, V, 3 * LONG, tok, tgt);
    for (int B = 1; B <= 3; B += 2) {
        float whole[3 * V], parts[3 * V];
        is_int(decode(m, B, LONG, tok, LONG, all, whole), ST_OK, "%s: prefill of %d, batch %d", name, LONG, B);
        for (int i = 0; i < 4; i++) {
            is_int(decode(m, B, LONG + 7 * i, tok, LONG, cuts[i], parts), ST_OK, "%s: cut %d", name, i);
            double d = apart(parts, whole, B * V);
            if (!ok(d < tol, "%s: the same logits", name)) printf("# off by %g\n", d);
        }
    }
    model_free(m);
    kn_dev_close(dev);
}

/* Scratch is as large as the largest body asks for, whichever that is. */
static void test_wide(void)
{
    static int32_t tok[300], tgt[300];
    static const int all[] = {300, 0}, halves[] = {150, 150, 0};
    float x[V], y[V];
    struct arch a = net(V, 8, 4, 0);
    add(&a, attention(1, 1, 2, 0, 1), swiglu(200, 0));
    add(&a, attention(1, 1, 2, 3, 1), NO_FFN);
    struct kn_dev *dev = device("cpu", 2);
    struct model *m = model_of(&a, dev, KN_F32, 0, false, 8);
    random_tokens(4, V, 300, tok, tgt);
    is_int(decode(m, 1, 300, tok, 300, all, x), ST_OK, "wide ffn, narrow attention");
    decode(m, 1, 300, tok, 300, halves, y);
    ok(apart(x, y, V) < 1e-4, "the same logits from halves");
    model_free(m);
    kn_dev_close(dev);
}

/* Token by token, however many threads: wide enough that they share a token's work, groups that they cannot share evenly among it. */
static void test_threads(void)
{
    enum { N = 40, CONTEXT = 300 };
    static int32_t tok[N], tgt[N];
    static int ones[N + 1];
    static const int all[] = {N, 0};
    float first[V], x[V], whole[V];
    struct arch a = net(V, CONTEXT, 192, 0);
    add(&a, attention(6, 3, 32, 0, 1), swiglu(400, 0));
    add(&a, attention(4, 4, 48, 20, 1), moe_as(moe(5, 2, 150, 1), 1, 0, 1));
    add(&a, short_conv(3), mlp(300, KN_GELU));
    add(&a, attention(6, 1, 32, 0, 0), moe(4, 3, 100, 0));
    for (int i = 0; i < N; i++) ones[i] = 1;
    random_tokens(2, V, N, tok, tgt);
    for (int threads = 1; threads <= 4; threads++) {
        struct kn_dev *dev = device("cpu", threads);
        struct model *m = model_of(&a, dev, KN_F32, 0, false, 8);
        stir(m);
        is_int(decode(m, 1, CONTEXT, tok, N, ones, x), ST_OK, "a token at a time on %d threads", threads);
        if (threads == 1) {
            memcpy(first, x, sizeof x);
            is_int(decode(m, 1, CONTEXT, tok, N, all, whole), ST_OK, "all at once");
            ok(apart(x, whole, V) < 1e-5, "the same logits");
        }
        ok(!memcmp(first, x, sizeof x), "%d threads: the same bits", threads);
        model_free(m);
        kn_dev_close(dev);
    }
}

/* Row b of a batch is what it is alone. */
static void test_rows(struct arch a)
{
    static int32_t tok[3 * 20], tgt[3 * 20];
    static const int cuts[] = {11, 1, 1, 7, 0};
    float together[3 * V], alone[V];
    struct kn_dev *dev = device("cpu", 2);
    struct model *m = model_of(&a, dev, KN_F32, 0, false, 8);
    random_tokens(4, V, 60, tok, tgt);
    decode(m, 3, 20, tok, 20, cuts, together);
    for (int b = 0; b < 3; b++) {
        is_int(decode(m, 1, 20, tok + 20 * b, 20, cuts, alone), ST_OK, "sequence %d alone", b);
        ok(apart(alone, together + b * V, V) < 1e-5, "as in its batch");
    }
    model_free(m);
    kn_dev_close(dev);
}

/* The loss of the training forward is the cross-entropy of the decoded logits. */
static void test_loss(struct arch a)
{
    enum { T = 9 };
    int32_t tok[T], tgt[T];
    struct kn_dev *dev = device("cpu", 1);
    struct model *m = model_of(&a, dev, KN_F32, 1, false, 8);
    struct model_state *s;
    float logits[V];
    stir(m);
    double want = 0, loss;
    random_tokens(6, V, T, tok, tgt);
    model_state_new(&s, m, 1, T, NULL);
    for (int t = 0; t < T; t++) {
        double sum = 0;
        model_decode(s, tok + t, 1, logits);
        for (int v = 0; v < V; v++) sum += exp(logits[v]);
        want += (log(sum) - logits[tgt[t]]) / T;
    }
    model_loss(m, tok, tgt, 1, T, &loss);
    is_near(loss, want, 1e-6, "loss = cross-entropy of the decoded logits");
    model_state_free(s);
    model_free(m);
    kn_dev_close(dev);
}

/* recurrent: a state that each token changes, so that the same place is another after it. */
static void test_state(struct arch a, bool recurrent)
{
    int32_t tok[8] = {1, 2, 3, 4, 5, 6, 7, 8};
    float x[V], y[V];
    struct kn_dev *dev = device("cpu", 1);
    struct model *m = model_of(&a, dev, KN_F32, 0, false, 8);
    struct model_state *s;
    is_int(model_state_new(&s, m, 1, 8, NULL), ST_OK, "state");
    is_int(model_decode(s, tok, 8, x), ST_OK, "as many as there is room for");
    is_int(model_decode(s, tok, 1, y), ST_ETOOBIG, "one more");
    is_int(model_state_pos(s), 8, "position kept");
    model_state_reset(s);
    is_int(model_state_pos(s), 0, "back to the start");
    is_int(model_decode(s, tok, 8, y), ST_OK, "again");
    ok(!memcmp(x, y, sizeof x), "the same bits");
    is_int(model_state_fill(s, 7), ST_OK, "filled without a prefill");
    is_int(model_decode(s, tok, 1, y), ST_OK, "decodes at the last place");
    int finite = 1;
    for (int v = 0; v < V; v++) finite &= isfinite(y[v]) != 0;
    ok(finite, "finite numbers");
    is_int(model_state_fill(s, 9), ST_ETOOBIG, "past the room");
    model_state_seek(s, 7);
    float again[V];
    is_int(model_decode(s, tok, 1, again), ST_OK, "the same place again");
    if (!recurrent) ok(!memcmp(y, again, sizeof y), "the same bits");
    model_state_reset(s);
    tok[2] = V;
    is_int(model_decode(s, tok, 8, y), ST_EINVAL, "a token outside the vocabulary");
    is_int(model_decode(s, tok, 0, y), ST_EINVAL, "no token");
    is_int(model_decode(s, tok, 2, NULL), ST_OK, "logits not wanted");
    model_state_free(s);
    model_free(m);
    kn_dev_close(dev);
}

int main(void)
{
    struct arch with_window = zoo(9, 0);
    add(&with_window, attention(2, 2, 4, 64, 1), swiglu(8, 0));
    test_cuts(with_window, "ref", KN_F64, 1e-6); /* logits come as f32 */
    test_cuts(with_window, "cpu", KN_F32, 1e-4);
    test_cuts(biased(9, 0), "ref", KN_F64, 1e-6);
    test_cuts(biased(9, 0), "cpu", KN_F32, 1e-4);
    test_cuts(conv_zoo(9, 0), "ref", KN_F64, 1e-6);
    test_cuts(conv_zoo(9, 0), "cpu", KN_F32, 1e-4);
    test_cuts(scans(9, 0), "ref", KN_F64, 1e-6);
    test_cuts(scans(9, 0), "cpu", KN_F32, 1e-4);
    test_cuts(attentions(9, 0), "ref", KN_F64, 1e-6);
    test_cuts(attentions(9, 0), "cpu", KN_F32, 1e-4);
    test_cuts(experts(9), "ref", KN_F64, 1e-6);
    test_cuts(experts(9), "cpu", KN_F32, 1e-4);
    test_cuts(latents(9, 0), "ref", KN_F64, 1e-6);
    test_cuts(latents(9, 0), "cpu", KN_F32, 1e-4);
    struct arch latent_bias = latents(9, 1);
    latent_bias.bias = true;
    test_cuts(latent_bias, "cpu", KN_F32, 1e-4);
    test_rows(latents(9, 1));
    test_loss(latent_bias);
    test_loss(latents(9, 0));
    test_state(latents(9, 0), false);
    test_rows(experts(9));
    test_loss(experts(9));
    test_state(experts(9), false);
    test_cuts(deltas(9, 0), "ref", KN_F64, 1e-6);
    test_cuts(deltas(9, 0), "cpu", KN_F32, 1e-4);
    test_rows(deltas(9, 1));
    test_loss(deltas(9, 0));
    test_state(deltas(9, 0), true);
    test_wide();
    test_threads();
    test_rows(zoo(9, 1));
    test_rows(conv_zoo(9, 1));
    test_rows(scans(9, 1));
    test_loss(zoo(9, 0));
    test_loss(conv_zoo(9, 0));
    test_loss(scans(9, 0));
    test_loss(biased(9, 0));
    test_state(zoo(9, 0), false);
    test_state(conv_zoo(9, 0), true);
    test_state(scans(9, 0), true);
    test_rows(attentions(9, 1));
    test_loss(attentions(9, 0));
    test_state(attentions(9, 0), false);
    return tap_done();
}
