/* The sum of all logits and its gradients, against central differences in f64; what a watch is shown of the branches. */
#include "tests/tap.h"

#include "tests/model/nets.h"

enum { B = 2, ENTRIES = 4 };
#define STEP 2e-5

/* R, with tokens or (NULL) with an input of ones. */
static double sum_of(struct model *m, double *at, double v, const int32_t *tok)
{
    double keep = *at, sum = NAN;
    *at = v;
    model_step_logits(m, tok, B, model_arch(m)->context, &sum, NULL);
    *at = keep;
    return sum;
}

static double difference(struct model *m, double *at, const int32_t *tok)
{
    double w = *at, near = sum_of(m, at, w + STEP, tok) - sum_of(m, at, w - STEP, tok);
    double far = sum_of(m, at, w + 2 * STEP, tok) - sum_of(m, at, w - 2 * STEP, tok);
    return (8 * near - far) / (12 * STEP);
}

static void check_tensor(struct model *m, int i, const int32_t *tok, const double *gradient, const char *what)
{
    const struct model_param *p = model_param(m, i);
    struct base_rng r = base_rng_at(7, RNG_TEST, (uint64_t)i);
    double worst = 0, largest = 0;
    for (int e = 0; e < ENTRIES; e++) {
        int64_t k = (int64_t)base_rng_below(&r, (uint32_t)kn_count(&p->w));
        worst = tap_worse(worst, fabs(difference(m, (double *)p->w.p + k, tok) - gradient[k]));
        largest = fmax(largest, fabs(gradient[k]));
    }
    if (!ok(worst <= 1e-7 * fmax(largest, 1), "%s: %s", what, p->name)) printf("# off by %g, largest %g\n", worst, largest);
}

/* Of an untied network: the gradient of the embedding is dx, row by row. */
static void check_input(struct model *m, const int32_t *tok, const double *dx, const double *dembed, const char *what)
{
    int D = model_arch(m)->width, T = model_arch(m)->context, V = model_arch(m)->vocab;
    double *want = calloc((size_t)(V * D), sizeof *want), worst = 0;
    for (int n = 0; n < B * T; n++)
        for (int d = 0; d < D; d++) want[tok[n] * D + d] += dx[n * D + d];
    for (int k = 0; k < V * D; k++) worst = tap_worse(worst, fabs(want[k] - dembed[k]));
    ok(worst < 1e-10, "%s: what comes to the embedding is the gradient of the input", what);
    free(want);
}

static void check_logits(struct kn_dev *dev, struct arch a, bool ones, const char *what)
{
    int32_t tok[64], tgt[64];
    struct model *m = model_of(&a, dev, KN_F64, B, true, 3);
    struct base_rng r = base_rng_at(7, RNG_TEST, 101); /* no unit of relu2 turns on within a step */
    double sum, again, *dx = malloc((size_t)(B * a.context * a.width) * sizeof *dx);
    random_tokens(5, a.vocab, B * a.context, tok, tgt);
    for (int i = 0; i < model_params(m); i++) {
        const struct model_param *p = model_param(m, i);
        double *w = p->w.p;
        for (int64_t k = 0; k < kn_count(&p->w); k++)
            w[k] = p->role == LAYER_T_VECTOR ? 1 + 0.3 * base_rng_normal(&r) : w[k] * 2 + 0.3 * base_rng_normal(&r);
    }
    const int32_t *in = ones ? NULL : tok;
    is_int(model_step_logits(m, in, B, a.context, &sum, dx), ST_OK, "%s: step", what);
    double **g = malloc((size_t)model_params(m) * sizeof *g);
    for (int i = 0; i < model_params(m); i++) g[i] = numbers(dev, &model_param(m, i)->g);
    model_step_logits(m, in, B, a.context, &again, NULL);
    ok(sum == again, "%s: the same sum twice", what);
    int embed = model_param_find(m, "model.embed_tokens.weight");
    for (int i = 0; i < model_params(m); i++) check_tensor(m, i, in, g[i], what);
    if (!ones && !a.tie) check_input(m, tok, dx, g[embed], what);
    for (int i = 0; i < model_params(m); i++) free(g[i]);
    free(g), free(dx);
    model_free(m);
}

/* What a watch saw of the branches, as bits and as sums of rows. */
struct seen {
    struct kn_dev *dev;
    int outputs, units, order_wrong, last;
    double dsum[32][64], y[32][1024], fail_at;
    st_t fail;
};

static st_t output(void *ctx, int branch, const struct kn_tensor *y, const struct kn_tensor *dy)
{
    struct seen *s = ctx;
    s->order_wrong += branch != s->last - 1;
    s->last = branch;
    s->outputs++;
    if (s->fail && branch == s->fail_at) return s->fail;
    double *a = numbers(s->dev, y), *d = numbers(s->dev, dy);
    memcpy(s->y[branch], a, (size_t)kn_count(y) * sizeof *a);
    memset(s->dsum[branch], 0, sizeof s->dsum[branch]);
    for (int64_t i = 0; i < kn_count(dy); i++) s->dsum[branch][i % dy->d[1]] += d[i];
    free(a), free(d);
    return ST_OK;
}

static st_t units(void *ctx, int branch, const struct model_units *u)
{
    struct seen *s = ctx;
    s->units += branch >= 0 && u->u.rank == 2 && (u->experts == 0) == (u->offset.p == NULL);
    return ST_OK;
}

/* The gradient of what a branch ends in, a bias, is the sum of the rows of the branch's. */
static void test_output(struct kn_dev *dev)
{
    static const char *const last[] = {"layers.0.self_attn.o_proj", "layers.0.mlp.down_proj", "layers.1.self_attn.o_proj", "layers.1.mlp.down_proj",
                                       "layers.2.mlp.down_proj", "layers.3.self_attn.o_proj"};
    int32_t tok[2 * 9], tgt[2 * 9];
    struct arch a = biased(9, 0);
    struct model *m = model_of(&a, dev, KN_F64, B, true, 3);
    static struct seen s;
    double loss;
    s = (struct seen){.dev = dev, .last = 7};
    random_tokens(5, 13, B * 9, tok, tgt);
    model_watch(m, &(struct model_watch){&s, units, output});
    is_int(model_step(m, tok, tgt, B, 9, &loss), ST_OK, "a step that is watched");
    is_int(s.outputs, 7, "each branch once");
    is_int(s.order_wrong, 0, "from the last to the first");
    is_int(s.units, 4, "units of each ffn");
    for (int i = 0; i < 6; i++) {
        char name[96];
        snprintf(name, sizeof name, "model.%s.bias", last[i]);
        int p = model_param_find(m, name);
        if (!ok(p >= 0, "%s is there", name)) continue;
        double *g = numbers(dev, &model_param(m, p)->g), worst = 0;
        for (int d = 0; d < 12; d++) worst = tap_worse(worst, fabs(g[d] - s.dsum[i][d]));
        ok(worst < 1e-14, "branch %d: its gradient is that of its last bias", i);
        free(g);
    }
    s = (struct seen){.dev = dev, .last = 7, .fail = ST_ECANCELED, .fail_at = 3};
    is_int(model_step(m, tok, tgt, B, 9, &loss), ST_ECANCELED, "what is not ST_OK ends the pass");
    is_int(s.outputs, 4, "there");
    s = (struct seen){.dev = dev};
    is_int(model_loss(m, tok, tgt, B, 9, &loss), ST_OK, "forward alone");
    ok(s.outputs == 0 && s.units == 4, "shows units, and no gradients");
    model_watch(m, NULL);
    s = (struct seen){.dev = dev};
    model_step(m, tok, tgt, B, 9, &loss);
    ok(s.outputs == 0 && s.units == 0, "nobody is shown anything any more");
    model_free(m);
}

/* Branches that are computed again in the backward pass show the same. */
static void test_recomputed(struct kn_dev *dev)
{
    int32_t tok[2 * 9], tgt[2 * 9];
    struct arch a = zoo(9, 0);
    static struct seen one, two;
    struct model *m[2];
    double loss;
    struct model_opts o = {.train = true, .batch = B, .dtype = KN_F64};
    uint64_t all = model_plan_bytes(&a, &o);
    random_tokens(5, 13, B * 9, tok, tgt);
    is_int(model_new(&m[0], &a, dev, &o, NULL), ST_OK, "room for all");
    o.memory_limit = all - 1;
    is_int(model_new(&m[1], &a, dev, &o, NULL), ST_OK, "room for less");
    ok(model_recomputed(m[0]) == 0 && model_recomputed(m[1]) > 0, "%d branches are computed again", model_recomputed(m[1]));
    one = two = (struct seen){.dev = dev, .last = 6};
    for (int i = 0; i < 2; i++) {
        model_init(m[i], 1);
        model_watch(m[i], &(struct model_watch){i ? &two : &one, units, output});
        is_int(model_step(m[i], tok, tgt, B, 9, &loss), ST_OK, "a step");
        model_free(m[i]);
    }
    ok(one.outputs == 6 && one.units == two.units && !memcmp(one.y, two.y, sizeof one.y) && !memcmp(one.dsum, two.dsum, sizeof one.dsum), "to the same bits");
}

int main(void)
{
    struct kn_dev *dev = device("ref", 1);
    struct arch z = zoo(9, 0), tied = zoo(9, 1), mix = experts(9), s = scans(9, 0), layer = biased(9, 1);
    check_logits(dev, z, false, "zoo");
    check_logits(dev, z, true, "zoo, ones");
    check_logits(dev, tied, false, "tied");
    check_logits(dev, tied, true, "tied, ones");
    check_logits(dev, mix, false, "experts");
    check_logits(dev, s, true, "scans, ones");
    check_logits(dev, layer, false, "layer norm");
    test_output(dev);
    test_recomputed(dev);
    kn_dev_close(dev);
    return tap_done();
}
