/* Gradients of the whole network against central differences, in f64 on the reference device: every parameter tensor,
 * some entries of each. */
#include "tests/tap.h"

#include "tests/model/nets.h"

enum { B = 2, ENTRIES = 6 };
#define STEP 2e-5

static double loss_at(struct model *m, double *at, double v, const int32_t *tok, const int32_t *tgt, int T)
{
    double keep = *at, loss = NAN;
    *at = v;
    model_loss(m, tok, tgt, B, T, &loss);
    *at = keep;
    return loss + MODEL_AUX_WEIGHT * model_aux(m);
}

/* Five points: the error falls with the fourth power of the step. */
static double difference(struct model *m, double *at, const int32_t *tok, const int32_t *tgt, int T)
{
    double w = *at, near = loss_at(m, at, w + STEP, tok, tgt, T) - loss_at(m, at, w - STEP, tok, tgt, T);
    double far = loss_at(m, at, w + 2 * STEP, tok, tgt, T) - loss_at(m, at, w - 2 * STEP, tok, tgt, T);
    return (8 * near - far) / (12 * STEP);
}

/* The reference device's memory is the host's, so that an entry can be moved in place. */
static void check(struct kn_dev *dev, const struct arch *a, const char *what)
{
    int32_t tok[64], tgt[64];
    int T = a->context;
    struct model *m = model_of(a, dev, KN_F64, B, true, 3);
    struct base_rng r = base_rng_at(7, RNG_TEST, 1);
    double loss, again;
    random_tokens(5, a->vocab, B * T, tok, tgt);
    tgt[1] = -1;
    /* Norms are not all ones in life: a weight of one hides a product that was forgotten. Larger weights make
     * everything matter. */
    for (int i = 0; i < model_params(m); i++) {
        const struct model_param *p = model_param(m, i);
        double *w = p->w.p;
        for (int64_t k = 0; k < kn_count(&p->w); k++)
            w[k] = p->role == LAYER_T_VECTOR ? 1 + 0.3 * base_rng_normal(&r) : w[k] * 2 + 0.3 * base_rng_normal(&r);
    }
    is_int(model_step(m, tok, tgt, B, T, &loss), ST_OK, "%s: step", what);
    model_step(m, tok, tgt, B, T, &again);
    ok(loss == again, "%s: the same loss twice (gradients do not pile up)", what);
    for (int i = 0; i < model_params(m); i++) {
        const struct model_param *p = model_param(m, i);
        int64_t n = kn_count(&p->w);
        double worst = 0, largest = 0, at = 0;
        for (int e = 0; e < ENTRIES; e++) {
            int64_t k = (int64_t)base_rng_below(&r, (uint32_t)n);
            double *w = (double *)p->w.p + k, g = ((double *)p->g.p)[k];
            double diff = difference(m, w, tok, tgt, T);
            if (fabs(diff - g) > worst) worst = fabs(diff - g), at = diff;
            largest = fmax(largest, fabs(g));
        }
        if (!ok(worst <= 1e-7 * fmax(largest, 1e-2) && (largest > 0 || T == 1), "%s: %s", what, p->name))
            printf("# off by %g at a difference of %g, largest %g\n", worst, at, largest);
    }
    model_free(m);
}

int main(void)
{
    struct kn_dev *dev = device("ref", 1);
    for (int tie = 0; tie < 2; tie++) {
        struct arch a = zoo(9, tie);
        check(dev, &a, tie ? "zoo, tied" : "zoo, untied");
    }
    for (int tie = 0; tie < 2; tie++) {
        struct arch a = conv_zoo(9, tie), b = scans(9, tie);
        check(dev, &a, tie ? "convolutions, tied" : "convolutions, untied");
        b.bias = a.bias = tie;
        check(dev, &b, tie ? "scans, tied, biases" : "scans, untied");
        if (a.bias) check(dev, &a, "convolutions, biases");
    }
    struct arch options = attentions(9, 1);
    check(dev, &options, "attention's options");
    struct arch b = biased(9, 0), half = biased(9, 1);
    check(dev, &b, "layer norm and biases");
    half.norm = ARCH_NORM_RMS;
    check(dev, &half, "biases");
    half.norm = ARCH_NORM_LAYER, half.bias = false;
    check(dev, &half, "layer norm");
    options.bias = true;
    check(dev, &options, "attention's options, biases");
    struct arch latent = latents(9, 1);
    check(dev, &latent, "latent attention");
    latent.bias = true;
    check(dev, &latent, "latent attention, biases");
    struct arch one = net(7, 1, 8, 0);
    add(&one, mla(2, 3, 4, 2, 4, 3), NO_FFN);
    check(dev, &one, "latent attention of one token");
    for (int tie = 0; tie < 2; tie++) {
        struct arch a = deltas(9, tie);
        check(dev, &a, tie ? "delta rule, tied" : "delta rule, untied");
    }
    struct arch w1 = net(7, 8, 8, 0);
    add(&w1, attention(2, 2, 4, 2, 1), swiglu(5, 0));
    add(&w1, attention(4, 1, 4, 3, 1), NO_FFN);
    check(dev, &w1, "windows of 2 and 3");
    struct arch mix = experts(20);
    check(dev, &mix, "experts");
    kn_dev_close(dev);
    return tap_done();
}
