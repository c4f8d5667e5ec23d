/* The recipe against its closed form, the same bits by any way, and what is refused. */
#include "tests/evaluator/evaltest.h"

#include "evaluator/trainer.h"
#include "model/checkpoint.h"

#define T 16
#define B 4

static const struct job_train recipe = {.batch = B, .lr = 3e-3, .mup = true, .weight_decay = 0.1, .warmup = 0.1, .decay = 0.2,
                                        .beta1 = 0.9, .beta2 = 0.95, .eps = 1e-8, .clip = 1};

static struct data *text;

static struct trainer_opts opts(const struct arch *a, struct kn_dev *dev, int steps)
{
    return (struct trainer_opts){.arch = a, .data = text, .dev = dev, .train = recipe, .tokens = (double)steps * B * T, .seed = 5};
}

static struct trainer *start(const struct trainer_opts *o)
{
    struct trainer *t;
    struct base_err err = BASE_ERR_INIT;
    if (trainer_new(&t, o, &err)) {
        printf("Bail out! %s: %s\n", err.where, err.what);
        exit(1);
    }
    return t;
}

/* Steps until `to`, each loss into losses (may be NULL). */
static bool run(struct trainer *t, int64_t to, double *losses)
{
    struct base_err err = BASE_ERR_INIT;
    while (trainer_at(t) < to) {
        if (trainer_step(t, &err)) {
            printf("# %s: %s\n", err.where, err.what);
            return false;
        }
        if (losses) losses[trainer_at(t) - 1] = trainer_loss(t);
    }
    return true;
}

static bool same_weights(struct trainer *a, struct trainer *b)
{
    struct model *m = trainer_model(a), *n = trainer_model(b);
    for (int i = 0; i < model_params(m); i++) {
        const struct kn_tensor *x = &model_param(m, i)->w, *y = &model_param(n, i)->w;
        if (kn_count(x) != kn_count(y) || memcmp(x->p, y->p, (size_t)kn_count(x) * sizeof(float))) return false;
    }
    return true;
}

static bool same_curve(const struct trainer *a, const struct trainer *b)
{
    int n, m;
    const struct trainer_point *x = trainer_curve(a, &n), *y = trainer_curve(b, &m);
    return n == m && !memcmp(x, y, (size_t)n * sizeof *x);
}

static bool same_results(struct trainer *a, struct trainer *b)
{
    double la, lb, ba, bb;
    struct base_err err = BASE_ERR_INIT;
    return !trainer_validate(a, &la, &ba, &err) && !trainer_validate(b, &lb, &bb, &err) && la == lb && ba == bb;
}

/* ---- the recipe ---- */

/* From the words of the header, written anew. */
static double lr_expected(double lr, double warmup, double decay, long s, long S)
{
    long W = lround(warmup * (double)S), D = lround(decay * (double)S);
    if (W < 1) W = 1;
    double v = s + 1 < W ? lr * (double)(s + 1) / (double)W : lr;
    if (s >= S - D) v *= (double)(S - s) / (double)(D + 1);
    return v;
}

static void schedule(void)
{
    static const struct {
        double warmup, decay;
        long S;
    } C[] = {{0.02, 0.2, 1000}, {0.02, 0, 1000}, {0, 0.2, 7}, {0.5, 0.5, 10}, {0.1, 0.2, 1}, {0.02, 0.2, 3}};
    for (size_t i = 0; i < sizeof C / sizeof *C; i++) {
        struct job_train r = recipe;
        r.warmup = C[i].warmup, r.decay = C[i].decay;
        double worst = 0;
        for (long s = 0; s < C[i].S; s++) {
            double want = lr_expected(r.lr, r.warmup, r.decay, s, C[i].S);
            worst = fmax(worst, fabs(trainer_lr(&r, s, C[i].S) - want) / want);
        }
        ok(worst < 1e-14, "learning rate of %ld steps, warm-up %g, decay %g", C[i].S, C[i].warmup, C[i].decay);
    }
    struct job_train r = recipe;
    ok(trainer_lr(&r, 0, 100) == r.lr / 10 && trainer_lr(&r, 9, 100) == r.lr && trainer_lr(&r, 79, 100) == r.lr, "it rises, and stays");
    is_near(trainer_lr(&r, 80, 100), r.lr * 20 / 21, 1e-15, "then falls, step by step");
    is_near(trainer_lr(&r, 99, 100), r.lr / 21, 1e-15, "to a last step that still counts");
}

/* What a trainer does, made of model.h alone: so its losses and weights are the recipe's, whatever is in trainer.c. */
static void by_hand(struct kn_dev *dev)
{
    enum { S = 12 };
    struct arch a = small_net(T, 32);
    struct trainer_opts o = opts(&a, dev, S);
    struct trainer *t = start(&o);
    struct model *m;
    struct base_err err = BASE_ERR_INIT;
    struct model_opts mo = {.train = true, .batch = B};
    int32_t tokens[B * T], targets[B * T];
    double loss, norm, losses[S];
    ok(run(t, S, losses) && trainer_done(t), "a training of %d steps", S);
    int bad = model_new(&m, &a, dev, &mo, &err) || model_init(m, o.seed);
    for (int s = 0; s < S && !bad; s++) {
        struct model_hyper h = {.lr = lr_expected(3e-3, 0.1, 0.2, s, S), .hidden_lr_scale = 128.0 / 32, .beta1 = 0.9, .beta2 = 0.95, .eps = 1e-8,
                                .weight_decay = 0.1, .clip = 1};
        bad = data_batch(text, o.seed, (uint64_t)s, B, T, tokens, targets, &err) || model_step(m, tokens, targets, B, T, &loss) || loss != losses[s] ||
              model_update(m, &h, &norm);
    }
    ok(!bad, "each loss is the recipe's to the bit: width rule 128 / width for hidden matrices, clipping, batches by (seed, step)");
    double sum = 0, nats, bpb;
    int n = data_valid_windows(text, T);
    for (int i = 0; i < n && !bad; i++) {
        bad = data_valid_window(text, i, T, tokens, targets, &err) || model_loss(m, tokens, targets, 1, T, &loss);
        sum += loss;
    }
    ok(!bad && !trainer_validate(t, &nats, &bpb, &err), "validated");
    is_near(nats, sum / n, 1e-6, "the mean over the held-out windows, one by one");
    is_near(bpb, nats / log(2), 1e-15, "in bits a byte");
    model_free(m);

    struct trainer_opts flat = o;
    flat.train.mup = false;
    struct trainer *u = start(&flat);
    run(u, 2, NULL);
    struct trainer *v = start(&o);
    run(v, 2, NULL);
    ok(!same_weights(u, v), "without the width rule other weights come out");
    trainer_free(u), trainer_free(v);
    /* 128 wide: the rule multiplies by one */
    struct arch wide = small_net(T, 128);
    o.arch = flat.arch = &wide;
    u = start(&o), v = start(&flat);
    run(u, 2, NULL), run(v, 2, NULL);
    ok(same_weights(u, v), "but not at the width it starts from");
    trainer_free(u), trainer_free(v);
    trainer_free(t);
}

static void curves(struct kn_dev *dev)
{
    struct arch a = small_net(T, 16);
    enum { S = 130 };
    struct trainer_opts o = opts(&a, dev, S);
    struct trainer *t = start(&o);
    double losses[S];
    run(t, S, losses);
    int n, bad = 0;
    const struct trainer_point *c = trainer_curve(t, &n);
    is_int(n, 50, "fifty points");
    for (int k = 1, from = 0; k <= n; k++) {
        int to = (S * k + 49) / 50;
        double sum = 0;
        for (int s = from; s < to; s++) sum += losses[s];
        bad += c[k - 1].tokens != (double)to * B * T || fabs(c[k - 1].loss - sum / (to - from)) > 1e-12;
        from = to;
    }
    is_int(bad, 0, "at fixed token counts, each the mean since the one before");
    ok(c[n - 1].loss < c[0].loss - 0.5, "and it learns (%.2f to %.2f)", c[0].loss, c[n - 1].loss);
    trainer_free(t);
    o.tokens = 7 * B * T - 1;
    t = start(&o);
    is_int(trainer_steps(t), 7, "a part of a step is a step");
    run(t, 7, NULL);
    trainer_curve(t, &n);
    is_int(n, 7, "few steps, a point each");
    struct base_err err = BASE_ERR_INIT;
    is_int(trainer_step(t, &err), ST_ESTATE, "no step past the end");
    ok(trainer_tokens(t) == 7 * B * T && trainer_rate(t) > 0 && trainer_seconds(t) > 0, "tokens, time, rate");
    is_near(trainer_rate(t) * trainer_seconds(t), trainer_tokens(t), 1e-9, "which belong together");
    trainer_free(t);
}

/* ---- the same bits ---- */

static void threads(void)
{
    enum { S = 10 };
    struct arch a = small_net(T, 48);
    struct kn_dev *one = dev_or_die("cpu", 1), *two = dev_or_die("cpu", 2);
    struct trainer_opts o1 = opts(&a, one, S), o2 = opts(&a, two, S);
    struct trainer *x = start(&o1), *y = start(&o2);
    double p[S], q[S];
    ok(run(x, S, p) && run(y, S, q) && !memcmp(p, q, sizeof p), "one thread, two threads: the same losses");
    ok(same_weights(x, y) && same_curve(x, y) && same_results(x, y), "weights, curve and validation");
    trainer_free(x), trainer_free(y);
    kn_dev_close(one), kn_dev_close(two);
}

static void resumed(struct kn_dev *dev)
{
    enum { S = 60 };
    struct arch a = small_net(T, 32);
    struct trainer_opts o = opts(&a, dev, S);
    struct trainer *whole = start(&o);
    double p[S], q[S];
    run(whole, S, p);
    struct base_err err = BASE_ERR_INIT;
    char sha[BASE_SHA256_HEX], have[BASE_SHA256_HEX];
    uint64_t bytes, there;
    static const int at[] = {0, 1, 29, 59};
    for (size_t i = 0; i < sizeof at / sizeof *at; i++) {
        struct trainer *t = start(&o);
        run(t, at[i], q);
        ok(!trainer_save(t, in("mid.safetensors"), sha, &bytes, &err), "a checkpoint at step %d", at[i]);
        run(t, at[i] + 1, NULL); /* goes on after it, and is lost */
        trainer_free(t);
        t = start(&o);
        ok(!trainer_load(t, in("mid.safetensors"), &err) && trainer_at(t) == at[i], "taken up again: %s", err.what);
        run(t, S, q);
        ok(!memcmp(p, q, sizeof p) && same_weights(whole, t) && same_curve(whole, t) && same_results(whole, t),
           "losses, weights, curve and validation as without a break");
        trainer_free(t);
    }
    ok(!base_sha256_file(in("mid.safetensors"), have, &there) && !strcmp(sha, have) && bytes == there, "hash and size are the file's");

    uint64_t middle = bytes;
    ok(!trainer_save(whole, in("end.safetensors"), sha, &bytes, &err) && bytes < middle / 2, "of a finished one the weights are enough");
    struct trainer *t = start(&o);
    ok(!trainer_load(t, in("end.safetensors"), &err) && trainer_done(t), "taken up again, it is finished");
    ok(same_weights(whole, t) && same_curve(whole, t) && same_results(whole, t), "with the same results");
    is_near(trainer_rate(t), trainer_rate(whole), 1e-9, "and the rate at which it was trained");
    trainer_free(t);
    struct model *m;
    struct model_opts mo = {.batch = 1};
    ok(!model_new(&m, &a, dev, &mo, &err) && !model_load(m, in("end.safetensors"), false, &err), "and anyone can load them: %s", err.what);
    model_free(m);
    trainer_free(whole);
}

/* A ladder of rungs: each rung by way of the ones below it, from its start, and the top one as without rungs. */
static struct trainer_opts on_rung(const struct arch *a, struct kn_dev *dev, int rung)
{
    static const int S[] = {10, 30, 90};
    struct trainer_opts o = opts(a, dev, S[rung]);
    o.rungs = 3;
    o.rung = rung;
    for (int i = 0; i < 3; i++) o.rung_tokens[i] = (double)S[i] * B * T - (i == 0); /* a part of a step is a step */
    o.train.warmup = 0.05;
    return o;
}

static bool same_save(struct trainer *a, struct trainer *b)
{
    char x[BASE_SHA256_HEX], y[BASE_SHA256_HEX];
    struct model *m[] = {trainer_model(a), trainer_model(b)};
    return !model_save(m[0], in("a.safetensors"), true, NULL, 0, x, NULL, NULL) && !model_save(m[1], in("b.safetensors"), true, NULL, 0, y, NULL, NULL) &&
           !strcmp(x, y);
}

static void ladder(struct kn_dev *dev)
{
    static const int S[] = {10, 30, 90}, P[] = {8, 24, 90};
    struct arch a = small_net(T, 32);
    struct base_err err = BASE_ERR_INIT;
    double p[90], q[90];
    struct trainer *rung[3] = {NULL};
    for (int r = 0; r < 3; r++) {
        struct trainer_opts o = on_rung(&a, dev, r);
        rung[r] = start(&o);
        is_int(trainer_steps(rung[r]), S[r], "steps of rung %d", r);
        is_int(trainer_stable(rung[r]), P[r], "of them on the trunk");
        if (r) ok(!trainer_load(rung[r], in("stable.safetensors"), &err) && trainer_at(rung[r]) == P[r - 1], "it goes on from before the decay below: %s", err.what);
        run(rung[r], P[r], p);
        if (r < 2) {
            ok(!trainer_save(rung[r], in("stable.safetensors"), NULL, NULL, &err), "what a promotion goes on from");
            struct trainer *again = start(&o);
            ok(!trainer_load(again, in("stable.safetensors"), &err) && same_save(again, rung[r]), "holds weights and optimiser");
            trainer_free(again);
            run(rung[r], S[r], p);
            ok(!trainer_save(rung[r], r ? in("end1.safetensors") : in("end0.safetensors"), NULL, NULL, &err), "its end");
        }
        struct trainer *direct = start(&o);
        run(direct, S[r], q);
        ok(!memcmp(p + (r ? P[r - 1] : 0), q + (r ? P[r - 1] : 0), sizeof *p * (size_t)(S[r] - (r ? P[r - 1] : 0))) && same_results(rung[r], direct) &&
               same_save(rung[r], direct) && same_curve(rung[r], direct),
           "rung %d: losses, weights, results and curve are those of a training that goes there directly", r);
        int n, points[] = {10, 30, 64};
        const struct trainer_point *c = trainer_curve(direct, &n);
        ok(n == points[r] && c[n - 1].tokens == (double)S[r] * B * T, "%d points, the last one at its end", n);
        trainer_free(direct);
    }
    struct trainer_opts plain = opts(&a, dev, 90);
    plain.train.warmup = 0.05;
    struct trainer *whole = start(&plain);
    run(whole, 90, q);
    ok(!memcmp(p + 24, q + 24, sizeof *p * 66) && same_results(rung[2], whole) && same_save(rung[2], whole), "the top rung is the training without rungs, bit for bit");

    /* What left the trunk stays on its rung. */
    struct trainer_opts o = on_rung(&a, dev, 1);
    struct trainer *t = start(&o);
    is_int(trainer_load(t, in("end0.safetensors"), &err), ST_ESTALE, "the decayed end of rung 0 is not gone on from: %s", err.what);
    ok(!trainer_load(t, in("end1.safetensors"), &err) && trainer_done(t) && same_results(t, rung[1]), "its own end is taken up: %s", err.what);
    trainer_free(t);
    o = on_rung(&a, dev, 0);
    t = start(&o);
    is_int(trainer_load(t, in("stable.safetensors"), &err), ST_ESTALE, "nor the trunk past where it is left: %s", err.what);
    trainer_free(t);
    o = on_rung(&a, dev, 1);
    o.rung_tokens[2] += B * T;
    t = start(&o);
    is_int(trainer_load(t, in("stable.safetensors"), &err), ST_ESTALE, "nor another ladder's");
    trainer_free(t);
    t = start(&plain);
    is_int(trainer_load(t, in("stable.safetensors"), &err), ST_ESTALE, "nor a ladder's by a training without rungs");
    trainer_free(t), trainer_free(whole);
    for (int r = 0; r < 3; r++) trainer_free(rung[r]);

    /* Energy: of the whole training, and of what the rung has added to it. */
    o = on_rung(&a, dev, 0);
    t = start(&o);
    run(t, 8, NULL);
    trainer_joules_add(t, 5);
    ok(trainer_joules_rung(t) == 5 && !trainer_save(t, in("joules.safetensors"), NULL, NULL, &err), "a trunk that took 5 J");
    trainer_free(t);
    o = on_rung(&a, dev, 1);
    t = start(&o);
    ok(!trainer_load(t, in("joules.safetensors"), &err) && trainer_joules(t) == 5 && trainer_joules_rung(t) == 0, "was paid for below");
    run(t, 12, NULL);
    trainer_joules_add(t, 2);
    ok(!trainer_save(t, in("joules.safetensors"), NULL, NULL, &err), "saved");
    trainer_free(t);
    t = start(&o);
    ok(!trainer_load(t, in("joules.safetensors"), &err) && trainer_joules(t) == 7 && trainer_joules_rung(t) == 2, "what this rung adds goes on after a break");
    trainer_free(t);

    /* Without decay the trunk is all there is. */
    o = on_rung(&a, dev, 0);
    o.train.decay = 0;
    t = start(&o);
    run(t, 10, NULL);
    ok(trainer_done(t) && trainer_stable(t) == 10 && !trainer_save(t, in("flat.safetensors"), NULL, NULL, &err), "a constant rate: the end is the trunk's");
    o.rung = 1;
    struct trainer *u = start(&o);
    ok(!trainer_load(u, in("flat.safetensors"), &err) && same_save(t, u), "and is gone on from, with its optimiser: %s", err.what);
    trainer_free(t), trainer_free(u);
}

static void spent(struct kn_dev *dev)
{
    struct arch a = small_net(T, 32);
    struct trainer_opts o = opts(&a, dev, 20);
    struct base_err err = BASE_ERR_INIT;
    struct trainer *t = start(&o);
    run(t, 10, NULL);
    trainer_joules_add(t, 2.5);
    double seconds = trainer_seconds(t);
    uint64_t bytes = trainer_bytes(t);
    struct model_opts mo = {.train = true, .batch = B};
    ok(bytes >= model_plan_bytes(&a, &mo), "memory: what was planned, and scratch");
    ok(!trainer_save(t, in("spent.safetensors"), NULL, NULL, &err), "saved");
    trainer_free(t);
    t = start(&o);
    ok(trainer_joules(t) == 0 && trainer_seconds(t) == 0, "a new one has spent nothing");
    ok(!trainer_load(t, in("spent.safetensors"), &err), "taken up again");
    ok(trainer_joules(t) == 2.5 && trainer_seconds(t) == seconds, "energy and time go on from there");
    is_int(trainer_bytes(t), bytes, "and the most memory");
    run(t, 20, NULL);
    trainer_joules_add(t, 4);
    ok(trainer_joules(t) == 6.5 && trainer_seconds(t) > seconds, "and grow");
    trainer_joules_add(t, NAN);
    trainer_joules_add(t, 1);
    ok(isnan(trainer_joules(t)), "what is not known for a part is not known for the whole");
    ok(!trainer_save(t, in("spent.safetensors"), NULL, NULL, &err), "saved");
    trainer_free(t);
    t = start(&o);
    ok(!trainer_load(t, in("spent.safetensors"), &err) && isnan(trainer_joules(t)), "nor after a break");
    trainer_free(t);

    /* What another network left in the device's scratch is not this one's. */
    struct kn_dev *fresh = dev_or_die("cpu", 2);
    o.dev = fresh;
    t = start(&o);
    run(t, 10, NULL);
    is_int(trainer_bytes(t), bytes, "a fresh device counts the same");
    trainer_free(t);
    struct arch big = net(256, T, 256, 1);
    add(&big, attention(8, 8, 32, 0, 1), swiglu(1024, 0));
    struct trainer_opts ob = opts(&big, fresh, 1);
    t = start(&ob);
    run(t, 1, NULL);
    ok(trainer_bytes(t) > bytes, "a larger network takes more");
    trainer_free(t);
    t = start(&o);
    run(t, 10, NULL);
    is_int(trainer_bytes(t), bytes, "and leaves the next one's memory as it was");
    trainer_free(t);
    kn_dev_close(fresh);
}

/* ---- what goes wrong ---- */

static void not_finite(struct kn_dev *dev)
{
    struct arch a = small_net(T, 16);
    struct trainer_opts o = opts(&a, dev, 50);
    struct base_err err = BASE_ERR_INIT;
    struct trainer *t;
    st_t st = ST_OK;

    /* A weight that is not a number: at the first step. */
    t = start(&o);
    const struct model_param *p = model_param(trainer_model(t), model_param_find(trainer_model(t), "model.embed_tokens.weight"));
    for (int64_t i = 0; i < kn_count(&p->w); i++) ((float *)p->w.p)[i] = NAN;
    is_int(trainer_step(t, &err), ST_ENONFINITE, "a loss that is not a number");
    ok(strstr(err.what, "the loss is") && strstr(err.what, "at step 1 of 50"), "says at which step: %s", err.what);
    is_int(trainer_at(t), 0, "the step does not count");
    trainer_free(t);

    /* An update that blows everything up: at a later one. */
    o.train.lr = 1e30;
    o.train.clip = 0;
    o.train.warmup = 0;
    t = start(&o);
    while (!st && !trainer_done(t)) st = trainer_step(t, &err);
    is_int(st, ST_ENONFINITE, "a learning rate of 1e30");
    char want[32];
    snprintf(want, sizeof want, "at step %d of 50", (int)trainer_at(t) + 1);
    ok(trainer_at(t) > 0 && trainer_at(t) < 50 && strstr(err.what, want), "says at which step: %s", err.what);
    trainer_free(t);

    /* Finite in training, infinite when asked: validation says so. */
    o = opts(&a, dev, 1);
    t = start(&o);
    double nats = -1, bpb = -1;
    run(t, 1, NULL);
    p = model_param(trainer_model(t), 0);
    ((float *)p->w.p)[0] = INFINITY;
    is_int(trainer_validate(t, &nats, &bpb, &err), ST_ENONFINITE, "a validation loss that is not finite");
    ok(nats == -1 && strstr(err.what, "validation loss"), "says so: %s", err.what);
    trainer_free(t);
}

static void no_fit(struct kn_dev *dev)
{
    struct arch a = small_net(T, 64);
    struct trainer_opts o = opts(&a, dev, 5);
    struct model_opts mo = {.train = true, .batch = B, .memory_limit = 1}; /* the least it can do with */
    kn_trim(dev);
    uint64_t need = model_plan_bytes(&a, &mo), before = kn_dev_bytes(dev);
    struct trainer *t = NULL;
    struct base_err err = BASE_ERR_INIT;
    o.memory_limit = need - 1;
    is_int(trainer_new(&t, &o, &err), ST_ENOFIT, "one byte too little");
    char want[64];
    snprintf(want, sizeof want, "needs %.1f MiB", (double)need / (1 << 20));
    ok(!t && strstr(err.what, want), "says how much it needs: %s", err.what);
    is_int(kn_dev_bytes(dev), before, "nothing is left behind");
    o.memory_limit = need;
    ok(!trainer_new(&t, &o, &err), "just enough");
    trainer_free(t);
}

static void damage(const char *name, size_t at, int xor, size_t keep)
{
    struct base_buf b = BASE_BUF_INIT;
    base_buf_read_file(&b, in("good.safetensors"), 1 << 26);
    if (xor) b.p[at] ^= (char)xor;
    put_file(name, b.p, keep ? keep : b.len);
    base_buf_fini(&b);
}

static void refused_checkpoints(struct kn_dev *dev)
{
    struct arch a = small_net(T, 32), other = small_net(T, 48);
    struct trainer_opts o = opts(&a, dev, 20);
    struct base_err err = BASE_ERR_INIT;
    struct trainer *t = start(&o), *twin;
    run(t, 10, NULL);
    trainer_save(t, in("good.safetensors"), NULL, NULL, &err);
    trainer_free(t);

    struct trainer_opts O[8];
    for (int i = 0; i < 8; i++) O[i] = o;
    O[0].arch = &other;
    O[1].seed = 6;
    O[2].tokens *= 2;
    O[3].train.lr = 1e-3;
    O[4].train.batch = 8;
    O[5].train.decay = 0;
    O[6].sequential = true;
    char *same_size = prose(20000, 77);
    put_file("other.txt", same_size, 20000);
    free(same_size);
    struct data *d;
    data_open_path(&d, in("other.txt"), NULL, 0.1, 0, T, &err);
    O[7].data = d;
    static const char *const what[] = {"architecture", "seed", "length", "learning rate", "batch", "schedule", "order", "text"};
    for (int i = 0; i < 8; i++) {
        t = start(&O[i]);
        is_int(trainer_load(t, in("good.safetensors"), &err), ST_ESTALE, "the checkpoint of another %s is refused", what[i]);
        is_int(trainer_at(t), 0, "and it starts at the start");
        trainer_free(t);
    }
    data_close(d);
    struct kn_dev *plain = NULL, *ref = dev_or_die("ref", 1);
    struct trainer_opts on = o;
    on.dev = ref;
    t = start(&on);
    is_int(trainer_load(t, in("good.safetensors"), &err), ST_ESTALE, "so is one made on another device: it would go on to other bits");
    trainer_free(t);
    kn_dev_close(ref);
    if (strcmp(dev->info.isa, "generic") && !kn_dev_open(&plain, "cpu:generic", 1, &err)) {
        on.dev = plain;
        t = start(&on);
        is_int(trainer_load(t, in("good.safetensors"), &err), ST_ESTALE, "or with other instructions");
        trainer_free(t);
        kn_dev_close(plain);
    }

    struct stat sb;
    stat(in("good.safetensors"), &sb);
    size_t size = (size_t)sb.st_size;
    struct base_buf b = BASE_BUF_INIT;
    base_buf_read_file(&b, in("good.safetensors"), 1 << 26);
    put_file("empty.safetensors", "", 0);
    put_file("junk.safetensors", "this is no checkpoint at all", 28);
    damage("cut.safetensors", 0, 0, size - 1);
    damage("half.safetensors", 0, 0, size / 2);
    damage("head.safetensors", 0, 0, 100);
    damage("length.safetensors", 3, 0x40, 0);
    /* The trainer's own part: a number of steps that cannot be, a curve that is none. */
    char *at = memmem(b.p, b.len, "\\\"at\\\":10", 9), *curve = memmem(b.p, b.len, "\\\"curve\\\":[[", 12);
    ok(at && curve, "its own part is where it is looked for");
    damage("steps.safetensors", (size_t)(at - b.p) + 7, '1' ^ '9', 0);
    damage("json.safetensors", (size_t)(at - b.p) + 6, ':' ^ ';', 0);
    damage("curve.safetensors", (size_t)(curve - b.p) + 10, '[' ^ ' ', 0);
    base_buf_fini(&b);
    struct model *m;
    struct model_opts mo = {.train = true, .batch = B};
    ok(!model_new(&m, &a, dev, &mo, &err) && !model_init(m, 1) && !model_save(m, in("bare.safetensors"), true, NULL, 0, NULL, NULL, &err), "weights alone");
    model_free(m);
    static const char *const bad[] = {"missing", "empty", "junk", "cut", "half", "head", "length", "steps", "json", "curve", "bare"};
    t = start(&o);
    twin = start(&o);
    run(t, 3, NULL), run(twin, 3, NULL);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char name[64];
        snprintf(name, sizeof name, "%s.safetensors", bad[i]);
        err = (struct base_err)BASE_ERR_INIT;
        st_t st = trainer_load(t, in(name), &err);
        ok(st && *err.what, "refused: %s (%s)", name, err.what);
        if (trainer_at(t) != 3 || !same_weights(t, twin) || !same_curve(t, twin)) ok(0, "%s has changed it", name);
    }
    run(t, 20, NULL), run(twin, 20, NULL);
    ok(same_weights(t, twin) && same_curve(t, twin) && same_results(t, twin), "after all of them it goes on as if nothing had been");
    trainer_free(t), trainer_free(twin);
}

static void inits(struct kn_dev *dev)
{
    struct arch a = small_net(T, 32), other = small_net(T, 48);
    struct trainer_opts o = opts(&a, dev, 5);
    struct base_err err = BASE_ERR_INIT;
    struct trainer *t = start(&o), *u;
    run(t, 5, NULL);
    ok(!model_save(trainer_model(t), in("init.safetensors"), false, NULL, 0, NULL, NULL, &err), "weights to start from");
    o.init = in("init.safetensors");
    u = start(&o);
    ok(same_weights(t, u) && trainer_at(u) == 0, "a training starts from them");
    trainer_free(t), trainer_free(u);
    o.arch = &other;
    ok(trainer_new(&u, &o, &err) != ST_OK && strstr(err.where, "init.safetensors"), "not if they are another network's: %s: %s", err.where, err.what);
}

int main(void)
{
    begin_files();
    char *p = prose(20000, 1);
    struct base_err err = BASE_ERR_INIT;
    put_file("text.txt", p, 20000);
    free(p);
    if (data_open_path(&text, in("text.txt"), NULL, 0.1, 0, T, &err)) {
        printf("Bail out! %s: %s\n", err.where, err.what);
        return 1;
    }
    struct kn_dev *dev = dev_or_die("cpu", 2);
    schedule();
    by_hand(dev);
    curves(dev);
    threads();
    resumed(dev);
    ladder(dev);
    spent(dev);
    not_finite(dev);
    no_fit(dev);
    refused_checkpoints(dev);
    inits(dev);
    kn_dev_close(dev);
    data_close(text);
    end_files();
    return tap_done();
}
