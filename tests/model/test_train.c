/* A whole training step in two halves: the numbers of model_step and model_update, to the bit, on the device that runs all at once and on the one that keeps
 * a shape's step as a graph (with KT_CUDA: "cuda:0"); and against the reference. */
#include "tests/tap.h"

#include "tests/model/nets.h"

#ifdef KT_CUDA
#define DEVICE "cuda:0"
#else
#define DEVICE "cpu"
#endif

enum { B = 2, T = 24, VOCAB = 50, STEPS = 8 };
static const struct model_hyper hyper = {1e-2, 0.5, 0.9, 0.95, 1e-8, 0.1, 1};

/* Every type of layer. */
static struct arch all_layers(void)
{
    struct arch a = net(VOCAB, T, 32, 0);
    add(&a, attention(4, 2, 8, 10, 1), swiglu(40, 0));
    add(&a, mamba2(2, 8, 8, 3, 1), moe(4, 2, 24, 1));
    add(&a, gated_delta(2, 1, 8, 8, 4), mlp(48, 0));
    add(&a, linear(2, 8, 8, 4), swiglu(40, 6));
    add(&a, mla(2, 8, 8, 4, 8, 0), NO_FFN);
    add(&a, short_conv(3), swiglu(24, 0));
    return a;
}

static void text(int32_t *x, int n, int step)
{
    struct base_rng r = base_rng_at(5, RNG_TEST, (uint64_t)step);
    for (int i = 0; i < n; i++) x[i] = (int32_t)base_rng_below(&r, VOCAB);
}

static struct model *made(const struct arch *a, struct kn_dev *dev, enum kn_dtype precision)
{
    struct model *m;
    struct base_err err = BASE_ERR_INIT;
    if (model_new(&m, a, dev, &(struct model_opts){.train = true, .batch = B, .precision = precision}, &err) || model_init(m, 3)) {
        printf("Bail out! %s: %s\n", err.where, err.what);
        exit(1);
    }
    return m;
}

static int differ_in(struct kn_dev *dev, struct model *a, struct model *b)
{
    int differ = 0;
    for (int i = 0; i < model_params(a); i++) {
        const struct kn_tensor *w = &model_param(a, i)->w;
        double *x = numbers(dev, w), *y = numbers(dev, &model_param(b, i)->w);
        differ += memcmp(x, y, (size_t)kn_count(w) * sizeof *x) != 0;
        free(x), free(y);
    }
    return differ;
}

/* In halves and in one go, side by side; tokens are scribbled over between the halves, as a caller's next batch does. */
static void same(const struct arch *a, enum kn_dtype precision, const char *what)
{
    struct kn_dev *dev = device(DEVICE, 2), *ref = device("ref", 1);
    struct model *m = made(a, dev, precision), *n = made(a, dev, precision), *r = made(a, ref, precision);
    int32_t x[B * T], y[B * T];
    double loss[3], norm[3], off = 0, norm_off = 0;
    int bad = 0, differ = 0;
    for (int s = 0; s < STEPS; s++) {
        /* the sixth step is of another shape; scratch is given back before the seventh */
        int b = s == 5 ? 1 : B;
        struct model_hyper h = hyper;
        h.lr /= s + 1;
        text(x, B * T, 2 * s), text(y, B * T, 2 * s + 1);
        if (s == 6) kn_trim(dev);
        bad |= model_step(n, x, y, b, T, &loss[1]) || model_update(n, &h, &norm[1]) || model_step(r, x, y, b, T, &loss[2]) || model_update(r, &h, &norm[2]);
        bad |= !!model_train_begin(m, x, y, b, T, &h);
        memset(x, 0, sizeof x), memset(y, 0, sizeof y);
        bad |= !!model_train_end(m, &loss[0], &norm[0]);
        differ += loss[0] != loss[1] || norm[0] != norm[1];
        if (s == 0) off = fabs(loss[0] / loss[2] - 1), norm_off = fabs(norm[0] / norm[2] - 1); /* later ones drift apart */
    }
    ok(!bad && !differ && !differ_in(dev, m, n) && model_steps(m) == STEPS, "%s: %d steps in halves are those of model_step and model_update (%d differ)", what, STEPS, differ);
    /* a gradient of this few numbers is off by a few roundings to bf16, of 2^-9 each */
    bool half = precision == KN_BF16;
    ok(off < (half ? 1e-3 : 1e-5) && norm_off < (half ? 4e-2 : 1e-5), "%s: the first is the reference's: loss to %.1e, norm to %.1e", what, off, norm_off);
    model_free(m), model_free(n), model_free(r);
    kn_dev_close(dev), kn_dev_close(ref);
}

static void wrong(void)
{
    struct kn_dev *dev = device(DEVICE, 1);
    struct arch a = net(VOCAB, T, 16, 0);
    add(&a, attention(2, 2, 8, 0, 1), swiglu(20, 0));
    struct model *m = made(&a, dev, KN_F32);
    int32_t x[B * T], y[B * T];
    double loss, norm;
    text(x, B * T, 0), text(y, B * T, 1);
    is_int(model_train_end(m, &loss, &norm), ST_ESTATE, "an end without a beginning");
    is_int(model_train_begin(m, x, y, B, T, &hyper), ST_OK, "begun");
    is_int(model_train_begin(m, x, y, B, T, &hyper), ST_ESTATE, "not twice");
    is_int(model_train_end(m, &loss, NULL), ST_OK, "ended");
    x[3] = VOCAB;
    is_int(model_train_begin(m, x, y, B, T, &hyper), ST_EINVAL, "a token that is none");
    is_int(model_train_end(m, &loss, &norm), ST_ESTATE, "did not begin");
    x[3] = 1;
    const struct model_param *p = model_param(m, model_param_find(m, "model.norm.weight"));
    float nan[16];
    for (int i = 0; i < 16; i++) nan[i] = NAN;
    if (dev->vt->upload(dev, p->w.p, nan, sizeof nan)) abort();
    const struct model_param *q = model_param(m, model_param_find(m, "model.layers.0.input_layernorm.weight"));
    double *before = numbers(dev, &q->w);
    int64_t steps = model_steps(m);
    is_int(model_train_begin(m, x, y, B, T, &hyper), ST_OK, "weights that are not finite");
    is_int(model_train_end(m, &loss, &norm), ST_ENONFINITE, "are noticed");
    double *after = numbers(dev, &q->w);
    ok(isnan(loss) && !isfinite(norm) && !memcmp(before, after, 16 * sizeof *before) && model_steps(m) == steps, "and change nothing else");
    free(before), free(after);
    model_free(m);
    struct model *decoder;
    is_int(model_new(&decoder, &a, dev, &(struct model_opts){.batch = B}, NULL), ST_OK, "a model that is not for training");
    is_int(model_train_begin(decoder, x, y, B, T, &hyper), ST_ESTATE, "is not trained");
    model_free(decoder);
    kn_dev_close(dev);
}

int main(void)
{
    struct arch a = all_layers(), tied = net(VOCAB, T, 16, 1);
    add(&tied, attention(2, 1, 8, 0, 1), swiglu(20, 0));
    tied.norm = ARCH_NORM_LAYER;
    same(&a, KN_F32, "every layer type");
    struct kn_dev *dev = device(DEVICE, 1);
    bool half = dev->info.bf16;
    kn_dev_close(dev);
    if (half) same(&a, KN_BF16, "every layer type, bf16");
    else tap_skip("no bf16");
    same(&tied, KN_F32, "tied, layer norm");
    wrong();
    return tap_done();
}
