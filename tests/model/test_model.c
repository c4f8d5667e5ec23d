/* The network as a whole: paper costs, the memory plan, devices against each other, threads, refusals, a text learnt
 * by heart. */
#include "tests/tap.h"

#include "tests/model/nets.h"

static int pick(struct base_rng *r, int low, int high)
{
    return low + (int)base_rng_below(r, (uint32_t)(high - low + 1));
}

static struct arch sample(struct base_rng *r)
{
    struct arch a = net(pick(r, 2, 300), pick(r, 1, 40), 4 * pick(r, 1, 16), pick(r, 0, 1));
    a.norm = (enum arch_norm)pick(r, 0, 1), a.bias = pick(r, 0, 1);
    int depth = pick(r, 1, 5);
    for (int i = 0; i < depth; i++) {
        int G = pick(r, 1, 3), H = G * pick(r, 1, 3), hidden = pick(r, 2, 60),
            least = hidden < a.width ? hidden : a.width;
        struct arch_part mixer = attention(H, G, 2 * pick(r, 1, 8), pick(r, 0, 1) * pick(r, 1, 50), pick(r, 0, 1));
        set(&mixer, "qk_norm", pick(r, 0, 1)), set(&mixer, "gate", pick(r, 0, 1)), set(&mixer, "rope_dim", 2 * pick(r, 0, 1));
        set(&mixer, "share_kv", pick(r, 0, 1));
        space_layer(mixer.type)->settle(&a, i, &mixer);
        struct arch_part ffn = swiglu(hidden, pick(r, 0, 1) * pick(r, 0, least - 1));
        if (pick(r, 0, 2) == 0) mixer = short_conv(pick(r, 1, 16));
        if (pick(r, 0, 2) == 0) {
            int groups = pick(r, 1, 2); /* widths divide by 4 */
            mixer = mamba2(2 * pick(r, 1, 2), pick(r, 0, 1) ? 2 : 4, pick(r, 1, 30), pick(r, 1, 16), groups);
        }
        if (pick(r, 0, 2) == 0) {
            int rank = pick(r, 1, 20), q_rank = pick(r, 0, 1) * pick(r, 1, 12);
            mixer = mla(pick(r, 1, 5), rank, pick(r, 1, 9), 2 * pick(r, 1, 4), pick(r, 1, 9), q_rank);
        }
        if (pick(r, 0, 2) == 0) ffn = mlp(hidden, pick(r, 0, 1));
        if (pick(r, 0, 2) == 0) {
            int E = pick(r, 1, 70), shared = pick(r, 0, 2);
            ffn = moe_as(moe(E, pick(r, 1, E), pick(r, 1, 40), shared), pick(r, 0, 1), pick(r, 0, 1), shared && pick(r, 0, 1));
        }
        if (pick(r, 0, 4) == 0) mixer = gated_delta(H, G, pick(r, 1, 20), pick(r, 1, 20), pick(r, 1, 6));
        if (pick(r, 0, 4) == 0) mixer = linear(H, pick(r, 1, 20), pick(r, 1, 20), pick(r, 1, 20));
        int shape = pick(r, 0, 4);
        add(&a, shape == 0 ? NO_MIXER : mixer, shape == 1 ? NO_FFN : ffn);
    }
    return a;
}

static void test_paper(void)
{
    struct base_rng r = base_rng_at(1, RNG_TEST, 2);
    struct kn_dev *dev = device("ref", 1);
    int params = 0, names = 0, state = 0, plan = 0, freed = 0;
    enum { N = 200 };
    for (int i = 0; i < N; i++) {
        struct arch a = sample(&r);
        struct arch_cost cost;
        struct model *m;
        struct model_state *s;
        struct model_opts o = {.dtype = i % 3 == 2 ? KN_F64 : KN_F32, .train = i % 2, .batch = pick(&r, 0, 3)};
        int64_t sum = 0, context = pick(&r, 1, 90);
        int batch = pick(&r, 1, 3);
        space_arch_cost(&a, &cost);
        if (model_new(&m, &a, dev, &o, NULL)) continue;
        for (int k = 0; k < model_params(m); k++)
            sum += kn_count(&model_param(m, k)->w), names += model_param_find(m, model_param(m, k)->name) != k;
        params += model_param_count(m) == (int64_t)cost.params && sum == model_param_count(m);
        plan += kn_dev_bytes(dev) == model_plan_bytes(&a, &o) && kn_dev_peak(dev) == kn_dev_bytes(dev);
        if (!model_state_new(&s, m, batch, context, NULL)) {
            state += model_state_bytes(s) ==
                     (uint64_t)(batch * space_arch_state_bytes(&a, context)) * (o.dtype == KN_F64 ? 2 : 1);
            model_state_free(s);
        }
        model_free(m);
        freed += kn_dev_bytes(dev) == 0;
        kn_peak_reset(dev);
    }
    struct arch small = zoo(9, 0);
    struct arch_cost cost;
    space_arch_cost(&small, &cost);
    uint64_t bytes = model_plan_bytes(&small, &(struct model_opts){.batch = 0});
    ok(bytes >= cost.weight_bytes && bytes < cost.weight_bytes + 64 * 40, "decoding alone takes the weights alone");
    is_int(params, N, "parameters = paper cost, %d architectures", N);
    is_int(names, 0, "names differ and are found");
    is_int(plan, N, "bytes taken = bytes planned");
    is_int(state, N, "state = paper cost");
    is_int(freed, N, "all given back");
    kn_dev_close(dev);
}

/* What wider SwiGLUs add to the plan, by their number: the weights' four slabs and gate and up of every row, no hidden units; those lie in scratch, once. */
static void test_swiglu_plan(enum kn_dtype precision)
{
    enum { BATCH = 3, T = 32, D = 16, F = 64, WIDER = 192 };
    uint64_t added[2], row = precision == KN_BF16 ? 2 : 4, weights = 4 * 3 * (WIDER - F) * D * sizeof(float);
    struct model_opts o = {.train = true, .batch = BATCH, .precision = precision};
    for (int n = 1; n <= 2; n++) {
        struct arch a[2];
        for (int wide = 0; wide < 2; wide++) {
            a[wide] = net(13, T, D, 0);
            for (int i = 0; i < n; i++) add(&a[wide], NO_MIXER, swiglu(wide ? WIDER : F, 0));
        }
        added[n - 1] = model_plan_bytes(&a[1], &o) - model_plan_bytes(&a[0], &o);
    }
    is_int((int64_t)(added[1] - added[0]), (int64_t)(weights + BATCH * T * 2 * (WIDER - F) * row), "one more SwiGLU saves gate and up, in %s", kn_dtype_name(precision));
    is_int((int64_t)(2 * added[0] - added[1]), (int64_t)(BATCH * T * (WIDER - F) * row), "hidden units are there once");
}

/* One number for how far two models' gradients are apart: nmse, but of what is 0 (a key's bias moves all scores of a query alike). */
static double gradients_apart(struct model *x, struct kn_dev *dx, struct model *y, struct kn_dev *dy)
{
    double worst = 0;
    for (int i = 0; i < model_params(x); i++) {
        double *a = numbers(dx, &model_param(x, i)->g), *b = numbers(dy, &model_param(y, i)->g);
        double d = 0, s = 0;
        int64_t n = kn_count(&model_param(x, i)->g);
        for (int64_t k = 0; k < n; k++) d += (a[k] - b[k]) * (a[k] - b[k]), s += b[k] * b[k];
        worst = fmax(worst, d / fmax(s, 1e-10 * (double)n));
        free(a), free(b);
    }
    return worst;
}

static void test_devices(const char *name)
{
    struct arch a = zoo(37, 0), b = net(97, 70, 48, 1), convs = conv_zoo(37, 0), scan = scans(37, 0), options = attentions(37, 0), mix = experts(37), latent = latents(37, 0);
    add(&b, attention(6, 2, 16, 0, 1), swiglu(130, 0));
    add(&b, attention(3, 3, 32, 33, 1), swiglu(64, 17));
    options.bias = true;
    struct arch c = biased(50, 0);
    add(&c, attention(2, 1, 16, 0, 0), mlp(140, KN_GELU));
    /* keys of few numbers are short by chance, and making them long again enlarges what f32 rounds, on any device: here they have some */
    struct arch delta = net(13, 70, 12, 0);
    add(&delta, gated_delta(4, 2, 16, 20, 4), swiglu(20, 0));
    add(&delta, gated_delta(1, 1, 33, 7, 2), NO_FFN);
    add(&delta, linear(3, 6, 5, 4), swiglu(16, 0));
    add(&delta, linear(1, 18, 3, 1), NO_FFN);
    const struct arch *nets[] = {&a, &b, &c, &convs, &scan, &options, &latent, &mix, &delta};
    static int32_t tok[210], tgt[210];
    for (size_t i = 0; i < sizeof nets / sizeof nets[0]; i++) {
        int T = nets[i]->context;
        struct kn_dev *ref = device("ref", 1), *cpu = device(name, 2);
        struct model *x = model_of(nets[i], cpu, KN_F32, 3, true, 4), *y = model_of(nets[i], ref, KN_F64, 3, true, 4);
        double lx, ly;
        random_tokens(9, nets[i]->vocab, 3 * T, tok, tgt);
        is_int(model_step(x, tok, tgt, 3, T, &lx), ST_OK, "%s: step of network %d", name, (int)i);
        model_step(y, tok, tgt, 3, T, &ly);
        is_near(lx, ly, 1e-5, "%s: loss as ref's", name);
        double d = gradients_apart(x, cpu, y, ref);
        if (!ok(d <= 1e-7, "%s: gradients as ref's in f64", name)) printf("# nmse %g\n", d);
        /* fewer and shorter sequences than planned */
        is_int(model_step(x, tok, tgt, 2, T - 3, &lx), ST_OK, "%s: a smaller batch", name);
        model_step(y, tok, tgt, 2, T - 3, &ly);
        d = gradients_apart(x, cpu, y, ref);
        if (!ok(d <= 1e-7 && fabs(lx - ly) < 1e-5, "%s: and its gradients", name)) printf("# nmse %g\n", d);
        model_free(x), model_free(y);
        kn_dev_close(ref), kn_dev_close(cpu);
    }
}

static const struct model_hyper hyper = {
    .lr = 1e-2, .hidden_lr_scale = 0.7, .beta1 = 0.9, .beta2 = 0.95, .eps = 1e-8, .weight_decay = 0.1, .clip = 1};

/* Every parameter after some steps. */
static float *trained(int threads, int64_t *n, double *loss)
{
    static int32_t tok[4 * 65], tgt[4 * 65];
    struct arch a = net(61, 65, 32, 0);
    a.norm = ARCH_NORM_LAYER, a.bias = true;
    add(&a, attention(4, 2, 8, 0, 1), mlp(90, KN_GELU));
    add(&a, attention(4, 2, 8, 0, 1), swiglu(90, 0));
    add(&a, attention(2, 1, 16, 20, 1), swiglu(48, 6));
    add(&a, short_conv(4), NO_FFN);
    add(&a, mamba2(2, 16, 8, 4, 2), NO_FFN);
    add(&a, mla(3, 20, 8, 6, 10, 12), NO_FFN);
    add(&a, NO_MIXER, moe_as(moe(12, 3, 20, 1), 0, 0, 1));
    add(&a, gated_delta(4, 2, 12, 20, 4), NO_FFN);
    add(&a, linear(2, 20, 12, 7), NO_FFN);
    struct kn_dev *dev = device("cpu", threads);
    struct model *m = model_of(&a, dev, KN_F32, 4, true, 11);
    double norm;
    for (int s = 0; s < 6; s++) {
        random_tokens((uint64_t)s, a.vocab, 4 * 65, tok, tgt);
        if (model_step(m, tok, tgt, 4, 65, loss) || model_update(m, &hyper, &norm)) *loss = NAN;
    }
    *n = model_param_count(m);
    float *out = malloc((size_t)*n * sizeof *out), *to = out;
    for (int i = 0; i < model_params(m); i++) {
        const struct kn_tensor *w = &model_param(m, i)->w;
        dev->vt->download(dev, to, w->p, (size_t)kn_count(w) * sizeof *to);
        to += kn_count(w);
    }
    model_free(m);
    kn_dev_close(dev);
    return out;
}

static void test_threads(void)
{
    int64_t n, k;
    double loss, other;
    float *one = trained(1, &n, &loss);
    ok(isfinite(loss), "six steps on one thread");
    for (int t = 2; t <= 4; t++) {
        float *many = trained(t, &k, &other);
        ok(loss == other && !memcmp(one, many, (size_t)n * sizeof *one), "the same bits on %d threads", t);
        free(many);
    }
    free(one);
}

/* One number of the network by AdamW's formula, in turn with the network's own steps. */
struct follow {
    const struct model_param *p;
    double w, m, v, worst;
};

static void follow(struct follow *f, const struct model_hyper *h, double norm, int t)
{
    double lr = f->p->hidden ? h->lr * h->hidden_lr_scale : h->lr;
    double g = *(double *)f->p->g.p * fmin(1, h->clip / (norm + 1e-6));
    f->m = h->beta1 * f->m + (1 - h->beta1) * g;
    f->v = h->beta2 * f->v + (1 - h->beta2) * g * g;
    f->w = f->w * (1 - lr * h->weight_decay) -
           lr * (f->m / (1 - pow(h->beta1, t))) / (sqrt(f->v / (1 - pow(h->beta2, t))) + h->eps);
    f->worst = fmax(f->worst, fabs(f->w - *(double *)f->p->w.p));
}

static double norm_of(struct kn_dev *dev, struct model *m)
{
    double sum = 0;
    for (int i = 0; i < model_params(m); i++) {
        double *g = numbers(dev, &model_param(m, i)->g);
        for (int64_t k = 0; k < kn_count(&model_param(m, i)->g); k++) sum += g[k] * g[k];
        free(g);
    }
    return sqrt(sum);
}

static void test_update(void)
{
    int32_t tok[8], tgt[8];
    struct arch a = net(9, 8, 8, 0);
    add(&a, attention(2, 1, 4, 0, 1), swiglu(12, 0));
    struct kn_dev *dev = device("ref", 1);
    struct model *m = model_of(&a, dev, KN_F64, 1, true, 2), *fresh = model_of(&a, dev, KN_F64, 1, true, 2);
    static const char *const names[] = {"model.layers.0.mlp.up_proj.weight", "model.embed_tokens.weight",
                                        "model.norm.weight"};
    struct follow f[3] = {{0}};
    struct model_hyper h = hyper;
    double loss, other, norm, worst = 0;
    for (int i = 0; i < 3; i++) {
        f[i].p = model_param(m, model_param_find(m, names[i]));
        f[i].w = *(double *)f[i].p->w.p;
    }
    for (int t = 1; t <= 4; t++) {
        random_tokens((uint64_t)t, 9, 8, tok, tgt);
        tok[0] = 0; /* the number that is followed belongs to token 0 */
        model_step(m, tok, tgt, 1, 8, &loss);
        double want = norm_of(dev, m);
        h.clip = t == 3 ? 100 : want / t; /* once not clipped */
        if (model_update(m, &h, &norm)) worst = INFINITY;
        worst = fmax(worst, fabs(norm - want));
        for (int i = 0; i < 3; i++) follow(&f[i], &h, want, t);
    }
    ok(worst < 1e-12, "the norm before clipping");
    for (int i = 0; i < 3; i++) ok(f[i].worst < 1e-12, "%s: AdamW by the formula", names[i]);
    is_int(model_steps(m), 4, "steps counted");
    double *w = numbers(dev, &f[0].p->w);
    *(double *)f[1].p->g.p = NAN;
    is_int(model_update(m, &h, &norm), ST_ENONFINITE, "a gradient that is not finite");
    double *same = numbers(dev, &f[0].p->w);
    ok(!memcmp(w, same, (size_t)kn_count(&f[0].p->w) * sizeof *w) && model_steps(m) == 4, "changes nothing");
    free(w), free(same);
    model_init(m, 2);
    for (int t = 0; t < 2; t++) {
        model_step(m, tok, tgt, 1, 8, &loss), model_update(m, &h, &norm);
        model_step(fresh, tok, tgt, 1, 8, &other), model_update(fresh, &h, &norm);
    }
    model_loss(m, tok, tgt, 1, 8, &loss), model_loss(fresh, tok, tgt, 1, 8, &other);
    ok(loss == other && model_steps(m) == 2, "first values again: as if it had never been trained");
    model_free(m), model_free(fresh);
    kn_dev_close(dev);
}

static void test_init(void)
{
    struct arch a = net(300, 4, 64, 0), b = a;
    add(&a, attention(4, 2, 16, 0, 1), swiglu(128, 0));
    add(&b, attention(4, 2, 16, 0, 1), swiglu(192, 0));
    add(&a, attention(4, 2, 16, 0, 1), NO_FFN);
    add(&b, attention(4, 2, 16, 0, 1), NO_FFN);
    struct kn_dev *dev = device("ref", 1);
    struct model *x = model_of(&a, dev, KN_F32, 0, false, 5), *y = model_of(&b, dev, KN_F32, 0, false, 5),
                 *z = model_of(&a, dev, KN_F32, 0, false, 6);
    int q = model_param_find(x, "model.layers.1.self_attn.q_proj.weight");
    const struct kn_tensor *w = &model_param(x, q)->w;
    size_t bytes = (size_t)kn_count(w) * 4;
    ok(!memcmp(w->p, model_param(y, q)->w.p, bytes), "a tensor's first values do not depend on its neighbours");
    ok(memcmp(w->p, model_param(z, q)->w.p, bytes), "but on the seed");
    double *v = numbers(dev, w), s = 0, one = 0;
    for (int64_t i = 0; i < kn_count(w); i++) s += v[i] * v[i];
    is_near(sqrt(s / (double)kn_count(w)) * sqrt(64), 1, 0.05, "q varies as 1/sqrt(width)");
    double *e = numbers(dev, &model_param(x, 0)->w), *n = numbers(dev, &model_param(x, 1)->w);
    s = 0;
    for (int64_t i = 0; i < kn_count(&model_param(x, 0)->w); i++) s += e[i] * e[i];
    is_near(sqrt(s / (300 * 64)) / 0.02, 1, 0.05, "the embedding by 0.02");
    for (int i = 0; i < 64; i++) one += n[i] == 1;
    is_int(one, 64, "norms are ones");
    free(v), free(e), free(n);
    model_free(x), model_free(y), model_free(z);
    kn_dev_close(dev);
}

/* All gradients, after the loss. ST_ENOFIT where the limit is too low. */
static st_t gradients(const struct arch *a, struct kn_dev *dev, uint64_t limit, int T, double **out, int *recomputed)
{
    int32_t tok[3 * 16], tgt[3 * 16];
    double loss;
    struct model *m;
    random_tokens(3, a->vocab, 3 * T, tok, tgt);
    st_t st = model_new(&m, a, dev, &(struct model_opts){.train = true, .batch = 3, .memory_limit = limit}, NULL);
    if (st) return st;
    ok(kn_dev_bytes(dev) <= limit, "within the limit");
    if (model_init(m, 5) || model_step(m, tok, tgt, 3, T, &loss)) exit(1);
    *recomputed = model_recomputed(m);
    double *v = *out = malloc(sizeof *v * (size_t)(model_param_count(m) + 1)), *g;
    *v++ = loss + model_aux(m);
    for (int i = 0; i < model_params(m); i++) {
        int64_t n = kn_count(&model_param(m, i)->g);
        memcpy(v, g = numbers(dev, &model_param(m, i)->g), sizeof *g * (size_t)n);
        v += n;
        free(g);
    }
    model_free(m);
    return ST_OK;
}

/* With less memory some branches are run again: fewer bytes, the same bits. */
static void test_recompute(struct arch a)
{
    struct kn_dev *dev = device("cpu", 2);
    struct model_opts o = {.train = true, .batch = 3, .memory_limit = 1};
    uint64_t least = model_plan_bytes(&a, &o), last = 0;
    o.memory_limit = 0;
    uint64_t full = model_plan_bytes(&a, &o);
    double *want, *got;
    int n, seen = 0;
    size_t bytes = 0;
    ok(least < full, "%llu bytes at least, %llu when all is stored", (unsigned long long)least, (unsigned long long)full);
    is_int(gradients(&a, dev, full, 9, &want, &n), ST_OK, "all stored");
    is_int(n, 0, "then nothing is run again");
    struct model *m = model_of(&a, dev, KN_F32, 0, false, 1);
    bytes = sizeof *want * (size_t)(model_param_count(m) + 1);
    model_free(m);
    kn_trim(dev);
    for (int i = 0; i <= 4; i++) {
        uint64_t limit = least + (full - 1 - least) * (uint64_t)i / 4;
        kn_trim(dev);
        if (!ok(!gradients(&a, dev, limit, 9, &got, &n), "it fits %llu bytes", (unsigned long long)limit)) continue;
        ok(n > 0 && (i == 0 || (uint64_t)n <= last), "%d branches are run again", n);
        ok(!memcmp(want, got, bytes), "the same bits");
        last = (uint64_t)n, seen++;
        free(got);
    }
    is_int(seen, 5, "all limits");
    is_int(gradients(&a, dev, least - 1, 9, &got, &n), ST_ENOFIT, "below that nothing helps");
    free(want);
    kn_dev_close(dev);
}

static void test_refusals(void)
{
    struct base_err err = BASE_ERR_INIT;
    struct kn_dev *dev = device("cpu", 1);
    struct arch a = zoo(9, 0), huge = net(ARCH_VOCAB_MAX, ARCH_CONTEXT_MAX, ARCH_WIDTH_MAX, 0);
    for (int i = 0; i < ARCH_LAYERS_MAX; i++) add(&huge, attention(1024, 1024, 1024, 0, 1), swiglu(1 << 20, 0));
    struct model *m = NULL;
    struct model_state *s = NULL;
    struct model_opts o = {.train = true, .batch = 2};
    int32_t tok[18] = {0}, tgt[18] = {0};
    double loss = 7;
    o.memory_limit = 1;
    uint64_t plan = model_plan_bytes(&a, &o); /* the least */
    o.memory_limit = plan - 1;
    is_int(model_new(&m, &a, dev, &o, &err), ST_ENOFIT, "one byte too little");
    ok(!m && kn_dev_peak(dev) == 0, "nothing was taken");
    ok(strstr(err.what, "MiB") != NULL, "says how much: %s", err.what);
    uint64_t memory = dev->info.memory;
    o.memory_limit = plan, dev->info.memory = plan - 1;
    is_int(model_new(&m, &a, dev, &o, &err), ST_ENOFIT, "allowed, but the device has less");
    dev->info.memory = memory;
    is_int(model_new(&m, &a, dev, &o, &err), ST_OK, "enough");
    is_int(model_state_new(&s, m, 1, 8, &err), ST_ENOFIT, "no room left for a state");
    tok[3] = 13;
    is_int(model_step(m, tok, tgt, 2, 9, &loss), ST_EINVAL, "a token outside the vocabulary");
    tok[3] = 0, tgt[3] = -2;
    is_int(model_step(m, tok, tgt, 2, 9, &loss), ST_EINVAL, "a target outside");
    for (int i = 0; i < 18; i++) tgt[i] = -1;
    is_int(model_loss(m, tok, tgt, 2, 9, &loss), ST_EINVAL, "no target at all");
    is_int(model_loss(m, tok, tok, 3, 9, &loss), ST_EINVAL, "more sequences than planned");
    is_int(model_loss(m, tok, tok, 1, 10, &loss), ST_EINVAL, "longer ones");
    is_int(model_loss(m, tok, tok, 0, 9, &loss), ST_EINVAL, "none");
    ok(loss == 7, "outputs untouched");
    model_free(m);
    o = (struct model_opts){.train = true, .batch = (1 << 20)};
    is_int(model_new(&m, &huge, dev, &o, &err), ST_ENOFIT, "the largest that can be said");
    ok(model_plan_bytes(&huge, &o) >= (uint64_t)1 << 62, "its plan does not wrap round");
    /* 4096 experts, all of them active: 2^19 tokens are 2^31 pairs; a few less are not too many to count, but need memory */
    struct arch pairs = net(13, 1 << 16, 4, 1);
    add(&pairs, NO_MIXER, moe(4096, 4096, 1, 0));
    o = (struct model_opts){.train = true, .batch = 8, .memory_limit = 1};
    is_int(model_new(&m, &pairs, dev, &o, &err), ST_ENOFIT, "more pairs of token and expert than are counted");
    ok(strstr(err.what, "524288 tokens") && strstr(err.what, "4096 experts"), "says so: %s", err.what);
    pairs.context--;
    is_int(model_new(&m, &pairs, dev, &o, &err), ST_ENOFIT, "one token less");
    ok(strstr(err.what, "MiB") != NULL, "is a matter of memory: %s", err.what);
    pairs.context = 9, o = (struct model_opts){.batch = 0};
    is_int(model_new(&m, &pairs, dev, &o, &err), ST_OK, "to decode with");
    is_int(model_state_new(&s, m, 1 << 19, 1, &err), ST_ENOFIT, "as many sequences");
    ok(strstr(err.what, "pairs") != NULL && !s, "likewise: %s", err.what);
    model_free(m);
    o = (struct model_opts){.dtype = KN_BF16};
    is_int(model_new(&m, &a, dev, &o, &err), ST_ENOTSUP, "bf16 is refused");
    o = (struct model_opts){.batch = -1};
    is_int(model_new(&m, &a, dev, &o, &err), ST_EINVAL, "batch -1");
    o = (struct model_opts){.batch = 1};
    m = model_of(&a, dev, KN_F32, 1, false, 1);
    is_int(model_step(m, tok, tok, 1, 9, &loss), ST_ESTATE, "a model that was not built to train");
    is_int(model_update(m, &hyper, &loss), ST_ESTATE, "nor to update");
    is_int(model_state_new(&s, m, 1, 0, &err), ST_EINVAL, "context 0");
    is_int(model_state_new(&s, m, 0, 1, &err), ST_EINVAL, "batch 0");
    is_int(model_state_new(&s, m, (1 << 20), ARCH_CONTEXT_MAX, &err), ST_ENOFIT, "a state that fits nowhere");
    model_free(m);
    kn_dev_close(dev);
}

/* The loss without the training plan is the same number. */
static void test_plans(struct arch a)
{
    static int32_t tok[27], tgt[27];
    struct kn_dev *dev = device("cpu", 2);
    struct model *x = model_of(&a, dev, KN_F32, 3, true, 1), *y = model_of(&a, dev, KN_F32, 3, false, 1);
    double lx, ly;
    random_tokens(1, a.vocab, 27, tok, tgt);
    is_int(model_loss(x, tok, tgt, 3, 9, &lx), ST_OK, "loss with the plan of training");
    is_int(model_loss(y, tok, tgt, 3, 9, &ly), ST_OK, "and without");
    ok(lx == ly, "the same bits");
    model_step(x, tok, tgt, 3, 9, &ly);
    ok(lx == ly, "also from a step");
    model_free(x), model_free(y);
    kn_dev_close(dev);
}

static void test_overfit(void)
{
    static const char text[] = "the quick brown fox jumps over the lazy dog. ";
    int32_t tok[64], tgt[64];
    struct arch a = net(128, 32, 32, 1);
    add(&a, attention(4, 2, 8, 0, 1), swiglu(64, 0));
    add(&a, attention(4, 1, 8, 16, 1), swiglu(64, 8));
    struct kn_dev *dev = device("cpu", 2);
    struct model *m = model_of(&a, dev, KN_F32, 2, true, 1);
    struct model_hyper h = {
        .lr = 1e-2, .hidden_lr_scale = 1, .beta1 = 0.9, .beta2 = 0.95, .eps = 1e-8, .weight_decay = 0, .clip = 1};
    double first = 0, loss = 0, norm;
    for (int s = 0; s < 200; s++) {
        for (int i = 0; i < 64; i++) tok[i] = text[i % (sizeof text - 1)], tgt[i] = text[(i + 1) % (sizeof text - 1)];
        if (model_step(m, tok, tgt, 2, 32, &loss) || model_update(m, &h, &norm)) loss = NAN;
        if (!s) first = loss;
    }
    ok(first > 4 && loss < 0.01, "learns a sentence by heart: %.3f to %.4f", first, loss);
    model_free(m);
    kn_dev_close(dev);
}

/* Loss and gradients in bf16 products stay near those of f32; weights that one seed draws are the same. */
static void test_precision(struct arch_part mixer, struct arch_part ffn, double tol)
{
    struct arch a = net(50, 40, 64, 0);
    struct base_err err = BASE_ERR_INIT;
    int32_t tok[80], tgt[80];
    double loss[2], sum[2] = {0};
    add(&a, mixer, ffn);
    add(&a, attention(4, 2, 16, 8, 1), ffn);
    random_tokens(3, 50, 80, tok, tgt);
    struct kn_dev *low = device("cpu:generic", 1), *dev = device("cpu", 2);
    struct model *m[2] = {NULL, NULL};
    struct model_opts o = {.train = true, .batch = 2, .precision = KN_BF16};
    is_int(model_new(&m[1], &a, low, &o, &err), ST_ENOTSUP, "no bf16 on this device: %s", err.what);
    kn_dev_close(low);
    if (!dev->info.bf16) {
        tap_skip("no bf16 on this machine");
        kn_dev_close(dev);
        return;
    }
    m[0] = model_of(&a, dev, KN_F32, 2, true, 1);
    ok(!model_new(&m[1], &a, dev, &o, &err) && !model_init(m[1], 1), "a model of bf16 products");
    for (int i = 0; i < 2; i++)
        if (model_step(m[i], tok, tgt, 2, 40, &loss[i])) loss[i] = NAN;
    ok(dev->precision == KN_F32, "the device is left as it was");
    ok(loss[0] != loss[1] && fabs(loss[0] - loss[1]) < 1e-3 * loss[0], "losses are near: %g %g", loss[0], loss[1]);
    for (int i = 0; i < model_params(m[0]); i++) {
        double *x = numbers(dev, &model_param(m[0], i)->g), *y = numbers(dev, &model_param(m[1], i)->g);
        for (int64_t k = 0; k < kn_count(&model_param(m[0], i)->g); k++) sum[0] += x[k] * x[k], sum[1] += (x[k] - y[k]) * (x[k] - y[k]);
        free(x), free(y);
    }
    ok(sum[1] > 0 && sum[1] < tol * sum[0], "gradients are near: %.1e", sum[1] / sum[0]);
    model_free(m[0]), model_free(m[1]);
    kn_dev_close(dev);
}

int main(void)
{
    test_paper();
    test_swiglu_plan(KN_F32);
    test_swiglu_plan(KN_BF16);
    test_devices("cpu");
    test_devices("cpu:avx2");
    test_devices("cpu:generic");
    test_threads();
    test_update();
    test_init();
    test_recompute(zoo(9, 0));
    test_recompute(biased(9, 0));
    test_recompute(latents(9, 0));
    test_recompute(experts(9));
    test_recompute(deltas(9, 0));
    test_refusals();
    test_plans(zoo(9, 1));
    test_plans(attentions(9, 1));
    test_plans(latents(9, 1));
    test_overfit();
    test_precision(attention(4, 2, 16, 0, 1), swiglu(96, 0), 1e-3);
    test_precision(mla(4, 24, 16, 8, 12, 20), swiglu(96, 0), 1e-3);
    /* every expert active: a rounded logit would choose another one, and a token's whole gradient with it */
    test_precision(attention(4, 2, 16, 0, 1), moe_as(moe(5, 5, 33, 1), 0, 0, 1), 1e-3);
    test_precision(attention(4, 2, 16, 0, 1), moe_as(moe(4, 4, 32, 1), 1, 1, 0), 1e-3);
    return tap_done();
}
