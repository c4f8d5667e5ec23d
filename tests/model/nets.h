/* Small architectures and tokens for the tests of model/. */
#ifndef TAUT_TESTS_MODEL_NETS_H
#define TAUT_TESTS_MODEL_NETS_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "model/checkpoint.h"
#include "model/model.h"

__attribute__((unused)) static struct arch_part part_of(const char *type, unsigned role)
{
    struct arch_part p = {.type = space_layer_find(type, role)};
    const struct layer_spec *s = space_layer(p.type);
    for (int i = 0; i < s->nparams; i++) p.v[i] = s->params[i].dflt;
    return p;
}

__attribute__((unused)) static void set(struct arch_part *p, const char *name, int v)
{
    p->v[space_layer_param(space_layer(p->type), name)] = v;
}

__attribute__((unused)) static struct arch_part attention(int heads, int kv_heads, int head_dim, int window, int rope)
{
    struct arch_part p = part_of("attention", LAYER_MIXER);
    set(&p, "heads", heads), set(&p, "kv_heads", kv_heads), set(&p, "head_dim", head_dim), set(&p, "window", window),
        set(&p, "rope", rope);
    return p;
}

__attribute__((unused)) static struct arch_part swiglu(int hidden, int rank)
{
    struct arch_part p = part_of("swiglu", LAYER_FFN);
    set(&p, "hidden", hidden), set(&p, "rank", rank);
    return p;
}

__attribute__((unused)) static struct arch_part short_conv(int conv)
{
    struct arch_part p = part_of("short_conv", LAYER_MIXER);
    set(&p, "conv", conv);
    return p;
}

__attribute__((unused)) static struct arch_part mlp(int hidden, int act)
{
    struct arch_part p = part_of("mlp", LAYER_FFN);
    set(&p, "hidden", hidden), set(&p, "act", act);
    return p;
}

__attribute__((unused)) static struct arch_part moe(int experts, int active, int hidden, int shared)
{
    struct arch_part p = part_of("moe", LAYER_FFN);
    set(&p, "experts", experts), set(&p, "active", active), set(&p, "hidden", hidden), set(&p, "shared", shared);
    return p;
}

/* router: 1 sigmoid; act: 1 relu2 */
__attribute__((unused)) static struct arch_part moe_as(struct arch_part p, int router, int act, int shared_gate)
{
    set(&p, "router", router), set(&p, "act", act), set(&p, "shared_gate", shared_gate);
    return p;
}

__attribute__((unused)) static struct arch_part mamba2(int expand, int head_dim, int state, int conv, int groups)
{
    struct arch_part p = part_of("mamba2", LAYER_MIXER);
    set(&p, "expand", expand), set(&p, "head_dim", head_dim), set(&p, "state", state), set(&p, "conv", conv),
        set(&p, "groups", groups);
    return p;
}

__attribute__((unused)) static struct arch_part mla(int heads, int kv_rank, int nope_dim, int rope_dim, int v_dim, int q_rank)
{
    struct arch_part p = part_of("mla", LAYER_MIXER);
    set(&p, "heads", heads), set(&p, "kv_rank", kv_rank), set(&p, "nope_dim", nope_dim), set(&p, "rope_dim", rope_dim);
    set(&p, "v_dim", v_dim), set(&p, "q_rank", q_rank);
    return p;
}

__attribute__((unused)) static struct arch_part linear(int heads, int head_dim, int value_dim, int gate_rank)
{
    struct arch_part p = part_of("linear", LAYER_MIXER);
    set(&p, "heads", heads), set(&p, "head_dim", head_dim), set(&p, "value_dim", value_dim), set(&p, "gate_rank", gate_rank);
    return p;
}

__attribute__((unused)) static struct arch_part gated_delta(int heads, int key_heads, int head_dim, int value_dim, int conv)
{
    struct arch_part p = part_of("gated_delta", LAYER_MIXER);
    set(&p, "heads", heads), set(&p, "key_heads", key_heads), set(&p, "head_dim", head_dim), set(&p, "value_dim", value_dim),
        set(&p, "conv", conv);
    return p;
}

__attribute__((unused)) static struct arch net(int vocab, int context, int width, int tie)
{
    return (struct arch){.vocab = vocab, .context = context, .width = width, .tie = tie, .rope_theta = 10000};
}

__attribute__((unused)) static void add(struct arch *a, struct arch_part mixer, struct arch_part ffn)
{
    a->layer[a->depth++] = (struct arch_layer){mixer, ffn};
}

#define NO_MIXER part_of("none", LAYER_MIXER)
#define NO_FFN   part_of("none", LAYER_FFN)

/* One of everything: MHA, GQA with a window, MQA without RoPE and with wide heads, no mixer, no ffn, low rank. */
__attribute__((unused)) static struct arch zoo(int context, int tie)
{
    struct arch a = net(13, context, 12, tie);
    add(&a, attention(3, 3, 4, 0, 1), swiglu(20, 0));
    add(&a, attention(4, 2, 6, 5, 1), NO_FFN);
    add(&a, NO_MIXER, swiglu(16, 5));
    add(&a, attention(2, 1, 10, 0, 0), swiglu(9, 3));
    return a;
}

/* Convolutions of every kind of length: three taps, one (no state), more than the context of most tests is long. */
__attribute__((unused)) static struct arch conv_zoo(int context, int tie)
{
    struct arch a = net(13, context, 12, tie);
    add(&a, short_conv(3), swiglu(20, 0));
    add(&a, short_conv(1), NO_FFN);
    add(&a, attention(3, 1, 4, 0, 1), NO_FFN);
    add(&a, short_conv(12), swiglu(16, 5));
    return a;
}

/* Linear recurrences: heads that share keys, keys and values of different sizes, one head, one tap. */
__attribute__((unused)) static struct arch deltas(int context, int tie)
{
    struct arch a = net(13, context, 12, tie);
    add(&a, gated_delta(4, 2, 6, 5, 4), swiglu(20, 0));
    add(&a, gated_delta(1, 1, 3, 17, 1), NO_FFN);
    add(&a, attention(3, 1, 4, 0, 1), NO_FFN);
    add(&a, gated_delta(3, 1, 8, 4, 11), swiglu(16, 5));
    add(&a, linear(3, 6, 5, 4), swiglu(16, 0));
    add(&a, linear(1, 18, 3, 1), NO_FFN);
    return a;
}

/* Attention with every option, alone and together; two layers read the first one's cache, one reads the second one's. */
__attribute__((unused)) static struct arch attentions(int context, int tie)
{
    static const struct {
        int heads, kv_heads, head_dim, window, rope, qk_norm, gate, rope_dim, share_kv;
    } list[] = {
        {4, 2, 6, 0, 1, 1, 0, 0, 0}, {4, 2, 6, 5, 1, 0, 1, 4, 0},  {2, 2, 6, 0, 1, 0, 0, 0, 1}, {4, 2, 6, 5, 1, 1, 1, 4, 1},
        {2, 2, 6, 0, 1, 1, 1, 0, 1}, {1, 1, 10, 3, 0, 1, 1, 0, 0}, {3, 1, 7, 0, 1, 0, 0, 2, 0},
    };
    struct arch a = net(13, context, 12, tie);
    for (size_t i = 0; i < sizeof list / sizeof list[0]; i++) {
        struct arch_part p = attention(list[i].heads, list[i].kv_heads, list[i].head_dim, list[i].window, list[i].rope);
        set(&p, "qk_norm", list[i].qk_norm), set(&p, "gate", list[i].gate), set(&p, "rope_dim", list[i].rope_dim);
        set(&p, "share_kv", list[i].share_kv);
        add(&a, p, i % 3 == 1 ? swiglu(9, 0) : NO_FFN);
    }
    return a;
}

/* Layer norm, and a bias on everything that may have one. */
__attribute__((unused)) static struct arch biased(int context, int tie)
{
    struct arch a = net(13, context, 12, tie);
    a.norm = ARCH_NORM_LAYER;
    a.bias = true;
    add(&a, attention(3, 3, 4, 0, 0), mlp(20, KN_GELU));
    add(&a, attention(4, 2, 6, 5, 1), mlp(9, KN_RELU2));
    add(&a, NO_MIXER, swiglu(16, 0));
    add(&a, attention(2, 1, 10, 0, 1), swiglu(9, 3));
    return a;
}

/* Mixtures of experts: plain, sigmoid with shared ones, relu2, a gated shared one, all of them active, one of eight. */
__attribute__((unused)) static struct arch experts(int context)
{
    struct arch a = net(13, context, 12, 0);
    add(&a, attention(3, 3, 4, 0, 1), moe(5, 2, 7, 0));
    add(&a, NO_MIXER, moe_as(moe(4, 3, 8, 2), 1, 0, 0));
    add(&a, attention(2, 1, 4, 3, 1), moe_as(moe(6, 1, 5, 1), 1, 1, 0));
    add(&a, NO_MIXER, moe_as(moe(3, 2, 6, 1), 0, 0, 1));
    add(&a, NO_MIXER, moe_as(moe(3, 3, 6, 2), 0, 1, 1));
    add(&a, NO_MIXER, moe(8, 1, 4, 0));
    return a;
}

/* Scans: several heads of a group, several groups, one head, a state of one number and no convolution. */
__attribute__((unused)) static struct arch scans(int context, int tie)
{
    struct arch a = net(13, context, 12, tie);
    add(&a, mamba2(2, 6, 5, 4, 2), swiglu(20, 0));
    add(&a, mamba2(1, 12, 9, 2, 1), NO_FFN);
    add(&a, attention(3, 1, 4, 0, 1), NO_FFN);
    add(&a, mamba2(2, 4, 1, 1, 1), NO_FFN);
    return a;
}

/* Latent attention: values wider than keys and narrower, one head, queries of low rank; between a layer that lends and one that borrows. */
__attribute__((unused)) static struct arch latents(int context, int tie)
{
    struct arch a = net(13, context, 12, tie);
    struct arch_part lends = attention(4, 2, 6, 0, 1), borrows = lends;
    set(&borrows, "share_kv", 1);
    add(&a, mla(3, 7, 4, 2, 9, 0), swiglu(20, 0));
    add(&a, lends, NO_FFN);
    add(&a, mla(1, 5, 6, 4, 3, 6), NO_FFN);
    add(&a, borrows, swiglu(9, 0));
    add(&a, mla(2, 17, 3, 6, 8, 5), NO_FFN);
    return a;
}

/* tokens and targets [n], keyed. */
__attribute__((unused)) static void random_tokens(uint64_t key, int vocab, int n, int32_t *tokens, int32_t *targets)
{
    struct base_rng r = base_rng_at(key, RNG_TEST, 0);
    for (int i = 0; i < n; i++) {
        tokens[i] = (int32_t)base_rng_below(&r, (uint32_t)vocab);
        targets[i] = (int32_t)base_rng_below(&r, (uint32_t)vocab);
    }
}

__attribute__((unused)) static struct kn_dev *device(const char *name, int threads)
{
    struct base_err err = BASE_ERR_INIT;
    struct kn_dev *dev = NULL;
    if (kn_dev_open(&dev, name, threads, &err)) {
        printf("Bail out! %s: %s\n", name, err.what);
        exit(1);
    }
    return dev;
}

__attribute__((unused)) static struct model *model_of(const struct arch *a, struct kn_dev *dev, enum kn_dtype dtype,
                                                      int batch, bool train, uint64_t seed)
{
    struct base_err err = BASE_ERR_INIT;
    struct model *m = NULL;
    struct model_opts o = {.dtype = dtype, .train = train, .batch = batch};
    st_t st = model_new(&m, a, dev, &o, &err);
    if (!st) st = model_init(m, seed);
    if (st) {
        printf("Bail out! model: %s %s: %s\n", base_status_text(st), err.where, err.what);
        exit(1);
    }
    return m;
}

/* A tensor's numbers as f64, owned by the caller. */
__attribute__((unused)) static double *numbers(struct kn_dev *dev, const struct kn_tensor *t)
{
    size_t n = (size_t)kn_count(t), size = kn_dtype_size(t->dtype);
    void *raw = malloc(n * size);
    double *out = malloc(n * sizeof *out);
    dev->vt->download(dev, raw, t->p, n * size);
    for (size_t i = 0; i < n; i++) out[i] = t->dtype == KN_F64 ? ((double *)raw)[i] : (double)((float *)raw)[i];
    free(raw);
    return out;
}

/* sum (x - y)^2 / sum y^2 */
__attribute__((unused)) static double nmse(const double *x, const double *y, size_t n)
{
    double d = 0, s = 0;
    for (size_t i = 0; i < n; i++) d += (x[i] - y[i]) * (x[i] - y[i]), s += y[i] * y[i];
    return d / (s > 0 ? s : 1);
}

#endif
