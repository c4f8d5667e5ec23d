/* Shared weights: a slice is an ordinary model of every layer type, trains as one, and leaves the rest alone; steps do not depend on threads, and a supernet
 * that was killed goes on to the same bits. */
#include "tests/tap.h"

#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/hash.h"
#include "model/supernet.h"
#include "tests/model/nets.h"

enum { B = 2, T = 9, VOCAB = 13 };

static char dir[200];
static const struct model_hyper hyper = {.lr = 1e-2, .hidden_lr_scale = 0.5, .beta1 = 0.9, .beta2 = 0.95, .eps = 1e-8, .weight_decay = 0.1, .clip = 0};

/* ---- a supernet of everything that the zoos hold, and of more ---- */

static struct space_option pool[256];
static int npool;

static void offer(const struct arch *a)
{
    for (int i = 0; i < a->depth; i++) {
        if (!space_part_is_none(&a->layer[i].mixer)) pool[npool++] = (struct space_option){LAYER_MIXER, a->width, a->layer[i].mixer};
        if (!space_part_is_none(&a->layer[i].ffn)) pool[npool++] = (struct space_option){LAYER_FFN, a->width, a->layer[i].ffn};
    }
}

static struct arch big(void)
{
    struct arch a = net(VOCAB, T, 24, 1);
    struct arch_part p = attention(8, 4, 12, 0, 1);
    set(&p, "qk_norm", 1), set(&p, "gate", 1);
    add(&a, p, swiglu(40, 0));
    add(&a, mla(4, 20, 8, 8, 10, 8), swiglu(24, 8));
    add(&a, mamba2(2, 12, 16, 5, 2), mlp(30, KN_GELU));
    add(&a, gated_delta(8, 4, 10, 20, 12), moe_as(moe(9, 2, 11, 3), 0, 0, 1));
    add(&a, linear(4, 20, 18, 6), moe_as(moe(9, 2, 11, 3), 0, 1, 0));
    add(&a, short_conv(14), NO_FFN);
    add(&a, attention(2, 1, 12, 4, 1), NO_FFN);
    return a;
}

enum { ZOOS = 8 };
static struct arch zoos[ZOOS];
static const char *const zoo_names[ZOOS] = {"attention and swiglu", "short_conv", "gated_delta and linear", "options of attention", "layer norm and biases",
                                            "moe", "mamba2", "mla"};

static struct space_options everything(void)
{
    struct arch all[] = {zoo(T, 1), conv_zoo(T, 0), deltas(T, 1), attentions(T, 1), biased(T, 0), experts(T), scans(T, 1), latents(T, 0)}, a = big();
    memcpy(zoos, all, sizeof all);
    npool = 0;
    for (int i = 0; i < ZOOS; i++) offer(&zoos[i]);
    offer(&a);
    return (struct space_options){.vocab = VOCAB, .context = T, .depth = 7, .width = 24, .untied = true, .layer_norm = true, .bias = true, .n = npool, .option = pool};
}

static struct supernet *supernet_of(struct kn_dev *dev, enum kn_dtype dtype, uint64_t seed)
{
    struct space_options o = everything();
    struct supernet *s = NULL;
    struct base_err err = BASE_ERR_INIT;
    st_t st = supernet_new(&s, &o, dev, &(struct supernet_opts){.dtype = dtype, .batch = B}, &err);
    if (!st) st = supernet_init(s, seed);
    if (st) {
        printf("Bail out! supernet: %s %s: %s\n", base_status_text(st), err.where, err.what);
        exit(1);
    }
    return s;
}

static struct model *slice(struct supernet *s, const struct arch *a, enum kn_dtype dtype)
{
    struct model *m = NULL;
    struct base_err err = BASE_ERR_INIT;
    if (supernet_slice(s, a, &(struct model_opts){.dtype = dtype, .train = true, .batch = B}, &m, &err)) {
        printf("Bail out! slice: %s: %s\n", err.where, err.what);
        exit(1);
    }
    return m;
}

/* Numbers of the same place that are not the same. */
static int64_t differing(struct kn_dev *dev, struct model *x, struct model *y)
{
    int64_t n = 0;
    for (int i = 0; i < model_params(x); i++) {
        const struct kn_tensor *w = &model_param(x, i)->w;
        double *a = numbers(dev, w), *b = numbers(dev, &model_param(y, i)->w);
        for (int64_t k = 0; k < kn_count(w); k++) n += !(a[k] == b[k]);
        free(a), free(b);
    }
    return n;
}

static double *weights(struct kn_dev *dev, struct model *m, const char *name, int64_t *cols)
{
    const struct kn_tensor *w = &model_param(m, model_param_find(m, name))->w;
    *cols = w->d[w->rank - 1];
    return numbers(dev, w);
}

/* ---- what a slice holds ---- */

static void test_places(void)
{
    struct kn_dev *dev = device("ref", 1);
    struct supernet *s = supernet_of(dev, KN_F64, 1);
    struct arch whole = net(VOCAB, T, 24, 1), part = net(VOCAB, T, 12, 1);
    struct arch_part p = attention(8, 4, 12, 0, 1);
    set(&p, "gate", 1);
    add(&whole, p, swiglu(40, 0)), add(&part, attention(3, 1, 4, 0, 1), swiglu(20, 0)); /* two of three query heads have no like in the whole */
    part.layer[0].mixer = attention(4, 2, 6, 0, 1);
    add(&whole, mamba2(2, 12, 16, 5, 2), moe(9, 2, 11, 3)), add(&part, mamba2(1, 6, 5, 3, 1), moe(4, 2, 7, 2));
    struct model *w = slice(s, &whole, KN_F64), *m = slice(s, &part, KN_F64);
    int64_t C, c;
    double *x = weights(dev, w, "model.layers.0.self_attn.q_proj.weight", &C), *y = weights(dev, m, "model.layers.0.self_attn.q_proj.weight", &c);
    int bad = 0;
    for (int g = 0; g < 2; g++)
        for (int r = 0; r < 2; r++)
            for (int k = 0; k < 6; k++)
                for (int j = 0; j < 12; j++) bad += y[((g * 2 + r) * 6 + k) * c + j] != x[(((g * 2 + r) * 2 + 0) * 12 + k / 3 * 6 + k % 3) * C + j];
    is_int(bad, 0, "q: heads by the key head that they meet, the first of both halves of each, without the gate's rows");
    free(x), free(y);
    x = weights(dev, w, "model.layers.0.self_attn.o_proj.weight", &C), y = weights(dev, m, "model.layers.0.self_attn.o_proj.weight", &c);
    bad = 0;
    for (int j = 0; j < 12; j++)
        for (int g = 0; g < 2; g++)
            for (int r = 0; r < 2; r++)
                for (int k = 0; k < 6; k++) bad += y[j * c + (g * 2 + r) * 6 + k] != x[j * C + (g * 2 + r) * 12 + k];
    is_int(bad, 0, "o: the same of its columns");
    free(x), free(y);
    x = weights(dev, w, "model.layers.1.mamba.in_proj.weight", &C), y = weights(dev, m, "model.layers.1.mamba.in_proj.weight", &c);
    bad = 0;
    for (int j = 0; j < 12; j++) {
        /* whole: z 48, x 48, B 2x16, C 2x16, dt 4; part: z 12 (2 heads of 6), x 12, B 5, C 5, dt 2 */
        for (int h = 0; h < 2; h++)
            for (int k = 0; k < 6; k++) {
                bad += y[(h * 6 + k) * c + j] != x[(h * 12 + k) * C + j];
                bad += y[(12 + h * 6 + k) * c + j] != x[(48 + h * 12 + k) * C + j];
            }
        for (int k = 0; k < 5; k++) bad += y[(24 + k) * c + j] != x[(96 + k) * C + j], bad += y[(29 + k) * c + j] != x[(128 + k) * C + j];
        for (int h = 0; h < 2; h++) bad += y[(34 + h) * c + j] != x[(160 + h) * C + j];
    }
    is_int(bad, 0, "mamba2's product: section by section, head by head");
    free(x), free(y);
    x = weights(dev, w, "model.layers.1.mamba.conv1d.weight", &C), y = weights(dev, m, "model.layers.1.mamba.conv1d.weight", &c);
    bad = 0;
    for (int k = 0; k < 3; k++) bad += y[k] != x[2 + k], bad += y[(12 + 4) * 3 + k] != x[(48 + 4) * 5 + 2 + k];
    is_int(bad, 0, "its taps: the last");
    free(x), free(y);
    x = weights(dev, w, "model.layers.1.mlp.experts.down_proj", &C), y = weights(dev, m, "model.layers.1.mlp.experts.down_proj", &c);
    bad = 0;
    for (int e = 0; e < 4; e++)
        for (int i = 0; i < 12; i++)
            for (int j = 0; j < 7; j++) bad += y[(e * 12 + i) * 7 + j] != x[(e * 24 + i) * 11 + j];
    is_int(bad, 0, "experts: one by one");
    free(x), free(y);
    struct arch late = net(VOCAB, T, 12, 1), full = net(VOCAB, T, 12, 1);
    add(&late, NO_MIXER, swiglu(20, 0)), add(&late, attention(4, 2, 6, 0, 1), NO_FFN), add(&late, attention(2, 1, 6, 0, 1), swiglu(9, 0));
    add(&full, attention(8, 4, 12, 0, 1), swiglu(20, 0)), add(&full, attention(4, 2, 6, 0, 1), swiglu(9, 0)), add(&full, attention(2, 1, 6, 0, 1), NO_FFN);
    struct model *l = slice(s, &late, KN_F64), *f = slice(s, &full, KN_F64);
    static const char *const pairs[][2] = {{"model.layers.1.self_attn.q_proj.weight", "model.layers.1.self_attn.q_proj.weight"},
                                           {"model.layers.2.input_layernorm.weight", "model.layers.2.input_layernorm.weight"},
                                           {"model.layers.2.self_attn.o_proj.weight", "model.layers.2.self_attn.o_proj.weight"},
                                           {"model.layers.0.mlp.up_proj.weight", "model.layers.0.mlp.up_proj.weight"},
                                           {"model.layers.2.mlp.up_proj.weight", "model.layers.1.mlp.up_proj.weight"}};
    bad = 0;
    for (int i = 0; i < 5; i++) {
        x = weights(dev, l, pairs[i][0], &C), y = weights(dev, f, pairs[i][1], &c);
        bad += memcmp(x, y, (size_t)kn_count(&model_param(f, model_param_find(f, pairs[i][1]))->w) * sizeof *x) != 0;
        free(x), free(y);
    }
    is_int(bad, 0, "behind an ffn without a mixer comes the second mixer, behind two mixers in a row the ffn after the second");
    model_free(l), model_free(f);
    model_free(w), model_free(m);
    supernet_free(s);
    kn_dev_close(dev);
}

/* One step of the supernet along one path is one step of the slice. */
static void test_alone(const char *name, enum kn_dtype dtype)
{
    struct kn_dev *dev = device(name, 2);
    struct supernet *s = supernet_of(dev, dtype, 1);
    struct base_err err = BASE_ERR_INIT;
    int32_t tok[B * T], tgt[B * T];
    for (int i = 0; i < ZOOS; i++) {
        const struct arch *path = &zoos[i];
        supernet_init(s, 1);
        struct model *alone = slice(s, path, dtype), *before = slice(s, path, dtype);
        double one = NAN, shared = NAN, norm = NAN, own = NAN;
        random_tokens((uint64_t)i, VOCAB, B * T, tok, tgt);
        if (!ok(!supernet_step(s, &path, 1, tok, tgt, B, T, &shared, &err) && !supernet_update(s, &hyper, &norm), "%s, %s: a step", name, zoo_names[i]))
            printf("# %s: %s\n", err.where, err.what);
        ok(!model_step(alone, tok, tgt, B, T, &one) && !model_update(alone, &hyper, &own), "the slice's own");
        ok(one == shared && fabs(own / norm - 1) < 1e-6, "loss and norm of the gradient are the same");
        struct model *after = slice(s, path, dtype);
        is_int(differing(dev, alone, after), 0, "so are the weights after the update, to the bit");
        ok(differing(dev, before, after) > model_param_count(after) / 2, "which moved");
        model_free(alone), model_free(before), model_free(after);
    }
    supernet_free(s);
    kn_dev_close(dev);
}

static double dot(struct kn_dev *dev, const struct kn_tensor *x, const struct kn_tensor *y)
{
    double *a = numbers(dev, x), *b = numbers(dev, y), sum = 0;
    for (int64_t i = 0; i < kn_count(x); i++) sum += a[i] * b[i];
    free(a), free(b);
    return sum;
}

/* A step's gradient is the mean of the first path's and of the second's, which has learned from the first: the norm of that from two ordinary models. */
static void test_distilled(void)
{
    struct kn_dev *dev = device("ref", 1);
    struct space_options o = everything();
    struct supernet *s;
    struct base_err err = BASE_ERR_INIT;
    struct arch first = net(VOCAB, T, 24, 1), second = net(VOCAB, T, 24, 1);
    add(&first, attention(4, 2, 12, 0, 1), swiglu(40, 0)), add(&first, attention(8, 4, 6, 0, 1), swiglu(20, 0)), add(&second, attention(4, 2, 12, 0, 1), swiglu(40, 0));
    const struct arch *path[] = {&first, &second};
    int32_t tok[B * T], tgt[B * T];
    double loss[2], own[2], norm, want = 0;
    random_tokens(9, VOCAB, B * T, tok, tgt);
    is_int(supernet_new(&s, &o, dev, &(struct supernet_opts){.dtype = KN_F64, .batch = B, .mix = 0.4}, &err), ST_OK, "a supernet whose paths learn from the first");
    supernet_init(s, 4);
    struct model *a = slice(s, &first, KN_F64), *b = slice(s, &second, KN_F64);
    is_int(supernet_step(s, path, 2, tok, tgt, B, T, loss, &err), ST_OK, "a step");
    is_int(supernet_update(s, &hyper, &norm), ST_OK, "an update");
    model_step(a, tok, tgt, B, T, &own[0]);
    struct model_teacher by = {.x = model_hidden(a, B, T), .w = model_param(a, 0)->w, .mix = 0.4};
    is_int(model_step_distill(b, tok, tgt, B, T, &by, &own[1]), ST_OK, "the second's own, towards the first");
    for (int i = 0; i < model_params(a); i++) {
        const struct model_param *p = model_param(a, i);
        int k = model_param_find(b, p->name);
        want += dot(dev, &p->g, &p->g);
        if (k >= 0) want += 2 * dot(dev, &p->g, &model_param(b, k)->g) + dot(dev, &model_param(b, k)->g, &model_param(b, k)->g);
    }
    is_near(norm, sqrt(want) / 2, 1e-12, "the norm of the mean gradient");
    ok(loss[0] == own[0] && loss[1] == own[1], "losses are against the labels");
    model_step(b, tok, tgt, B, T, &own[0]);
    ok(own[0] == own[1], "whatever the teacher says");
    model_free(a), model_free(b);
    supernet_free(s);
    kn_dev_close(dev);
}

/* The largest of the types in `part`: what it does not share with the part must not move. */
static void test_untouched(void)
{
    struct kn_dev *dev = device("cpu", 2);
    struct supernet *s = supernet_of(dev, KN_F32, 3);
    struct base_err err = BASE_ERR_INIT;
    struct arch whole = net(VOCAB, T, 24, 1), part = net(VOCAB, T, 12, 1);
    add(&whole, attention(8, 4, 12, 0, 1), swiglu(40, 0)), add(&part, attention(4, 2, 6, 0, 1), swiglu(20, 0));
    add(&whole, gated_delta(8, 4, 10, 20, 12), mlp(30, KN_GELU)), add(&part, gated_delta(4, 2, 6, 5, 4), mlp(9, KN_GELU));
    add(&whole, linear(4, 20, 18, 6), NO_FFN); /* a layer more */
    const struct arch *path = &part, *two[] = {&whole, &part};
    int32_t tok[B * T], tgt[B * T];
    double loss[2], norm;
    for (int i = 0; i < 2; i++) random_tokens((uint64_t)i, VOCAB, B * T, tok, tgt), supernet_step(s, two, 2, tok, tgt, B, T, loss, &err), supernet_update(s, &hyper, &norm);
    struct model *w0 = slice(s, &whole, KN_F32), *p0 = slice(s, &part, KN_F32);
    is_int(supernet_step(s, &path, 1, tok, tgt, B, T, loss, &err), ST_OK, "a step along the smaller path");
    is_int(supernet_update(s, &hyper, &norm), ST_OK, "an update");
    struct model *w1 = slice(s, &whole, KN_F32), *p1 = slice(s, &part, KN_F32);
    is_int(differing(dev, w0, w1), differing(dev, p0, p1), "of the larger one moved what the smaller has, nothing else");
    ok(differing(dev, p0, p1) > model_param_count(p0) * 9 / 10, "and that moved");
    is_int(supernet_update(s, &hyper, &norm), ST_ESTATE, "no second update of one step");
    is_int(supernet_steps(s), 3, "steps");
    model_free(w0), model_free(p0), model_free(w1), model_free(p1);
    supernet_free(s);
    kn_dev_close(dev);
}

/* A tensor that is touched for the first time in the third step takes Adam's first step; two paths, each larger in another dim, both move whole. */
static void test_counts(void)
{
    struct kn_dev *dev = device("cpu", 2);
    struct supernet *s = supernet_of(dev, KN_F32, 3);
    struct base_err err = BASE_ERR_INIT;
    struct arch one = net(VOCAB, T, 12, 1), more, high = net(VOCAB, T, 12, 1), wide = net(VOCAB, T, 24, 1);
    add(&one, attention(4, 2, 6, 0, 1), swiglu(20, 0));
    more = one;
    add(&more, linear(3, 6, 5, 4), mlp(9, KN_GELU));
    const struct arch *path = &one, *late = &more, *two[] = {&high, &wide};
    int32_t tok[B * T], tgt[B * T];
    double loss[2], norm;
    random_tokens(1, VOCAB, B * T, tok, tgt);
    for (int i = 0; i < 2; i++) supernet_step(s, &path, 1, tok, tgt, B, T, loss, &err), supernet_update(s, &hyper, &norm);
    struct model *alone = slice(s, &more, KN_F32);
    supernet_step(s, &late, 1, tok, tgt, B, T, loss, &err), supernet_update(s, &hyper, &norm);
    model_step(alone, tok, tgt, B, T, loss), model_update(alone, &hyper, &norm);
    struct model *after = slice(s, &more, KN_F32);
    int same[2] = {0}, n[2] = {0};
    for (int i = 0; i < model_params(alone); i++) {
        const struct model_param *p = model_param(alone, i), *q = model_param(after, i);
        int second = strstr(p->name, "layers.1.") != NULL;
        double *x = numbers(dev, &p->w), *y = numbers(dev, &q->w);
        same[second] += !memcmp(x, y, (size_t)kn_count(&p->w) * sizeof *x);
        n[second]++;
        free(x), free(y);
    }
    ok(same[1] == n[1] && n[1] > 8, "what was not touched before makes its first step: %d of %d tensors", same[1], n[1]);
    ok(same[0] == 0, "what was makes its third");
    model_free(alone), model_free(after);
    add(&high, attention(4, 2, 6, 0, 1), swiglu(40, 0)), add(&wide, attention(4, 2, 6, 0, 1), swiglu(9, 0));
    struct model *h0 = slice(s, &high, KN_F32), *w0 = slice(s, &wide, KN_F32);
    supernet_step(s, two, 2, tok, tgt, B, T, loss, &err), supernet_update(s, &hyper, &norm);
    struct model *h1 = slice(s, &high, KN_F32), *w1 = slice(s, &wide, KN_F32);
    ok(differing(dev, h0, h1) > model_param_count(h0) * 9 / 10 && differing(dev, w0, w1) > model_param_count(w0) * 9 / 10, "two paths, one high and one wide: both move");
    model_free(h0), model_free(w0), model_free(h1), model_free(w1);
    supernet_free(s);
    kn_dev_close(dev);
}

/* ---- steps, threads, files ---- */

static st_t train_to(struct supernet *s, int64_t to, struct base_err *err)
{
    int32_t tok[B * T], tgt[B * T];
    struct arch all = big();
    const struct arch *path[3] = {&all};
    double loss[3], norm;
    for (int64_t at = supernet_steps(s); at < to; at++) {
        path[1] = &zoos[at % ZOOS], path[2] = &zoos[(3 * at + 1) % ZOOS];
        random_tokens((uint64_t)at, VOCAB, B * T, tok, tgt);
        st_t st = supernet_step(s, path, 3, tok, tgt, B, T, loss, err);
        if (!st) st = supernet_update(s, &hyper, &norm);
        if (st) return st;
    }
    return ST_OK;
}

static void name_file(char out[256], const char *name)
{
    snprintf(out, 256, "%s/%s", dir, name);
}

static void test_threads(char first[BASE_SHA256_HEX])
{
    for (int threads = 1; threads <= 4; threads++) {
        struct kn_dev *dev = device("cpu", threads);
        struct supernet *s = supernet_of(dev, KN_F32, 5);
        struct base_err err = BASE_ERR_INIT;
        char path[256], sha[BASE_SHA256_HEX];
        name_file(path, "threads");
        st_t st = train_to(s, 6, &err);
        if (!st) st = supernet_save(s, path, NULL, 0, sha, NULL, &err);
        if (threads == 1) memcpy(first, sha, sizeof sha);
        if (!ok(!st && !strcmp(first, sha), "%d threads: the same bits", threads)) printf("# %s: %s\n", err.where, err.what);
        supernet_free(s);
        kn_dev_close(dev);
    }
}

/* Trains from where the file stands, saves after every step and says so. */
static void child(const char *path, int say, int64_t to)
{
    struct kn_dev *dev = device("cpu", 2);
    struct supernet *s = supernet_of(dev, KN_F32, 5);
    struct base_err err = BASE_ERR_INIT;
    if (!access(path, R_OK) && supernet_load(s, path, &err)) _exit(1);
    for (int64_t at = supernet_steps(s) + 1; at <= to; at++) {
        if (train_to(s, at, &err) || supernet_save(s, path, NULL, 0, NULL, NULL, &err)) _exit(1);
        if (write(say, "", 1) != 1) _exit(1);
    }
    _exit(0);
}

static void test_killed(const char *want)
{
    char path[256], sha[BASE_SHA256_HEX] = "";
    name_file(path, "killed");
    for (int k = 1; k <= 3; k++) { /* after its first step, after two more, then to the end */
        int fd[2], status;
        char c;
        if (pipe(fd)) return;
        pid_t pid = fork();
        if (!pid) close(fd[0]), child(path, fd[1], 6);
        close(fd[1]);
        for (int i = 0; i < k && k < 3; i++)
            if (read(fd[0], &c, 1) != 1) break;
        if (k < 3) kill(pid, SIGKILL);
        while (k == 3 && read(fd[0], &c, 1) == 1) continue;
        waitpid(pid, &status, 0);
        close(fd[0]);
        ok(k < 3 ? WIFSIGNALED(status) : WIFEXITED(status) && !WEXITSTATUS(status), k < 3 ? "killed" : "went on to the end");
    }
    is_int(base_sha256_file(path, sha, NULL), ST_OK, "its file");
    is_str(sha, want, "has the bits of an undisturbed one");
}

static void refused(st_t st, st_t want, const struct base_err *err, const char *has, const char *what)
{
    if (!ok(st == want && strstr(err->what, has), "%s", what)) printf("# %s: %s: %s\n", base_status_text(st), err->where, err->what);
}

static void test_bad(void)
{
    struct kn_dev *dev = device("cpu", 1);
    struct supernet *s = supernet_of(dev, KN_F32, 1), *other = NULL;
    struct base_err err = BASE_ERR_INIT;
    struct arch a = zoos[0], wide = zoos[0], deep = zoos[0], vocab = zoos[0];
    const struct arch *path = &wide, *many[SUPERNET_PATHS_MAX + 1] = {&a};
    int32_t tok[B * T], tgt[B * T];
    double loss, norm;
    struct model *m;
    char file[256];
    random_tokens(1, VOCAB, B * T, tok, tgt);
    is_int(supernet_holds(s, &a, &err), ST_OK, "an architecture that is held");
    set(&wide.layer[0].ffn, "hidden", 41);
    refused(supernet_holds(s, &wide, &err), ST_EINVAL, &err, "mlp.gate_proj.weight is larger", "a hidden size over the most");
    is_str(err.where, "layers[0].ffn", "where");
    refused(supernet_step(s, &path, 1, tok, tgt, B, T, &loss, &err), ST_EINVAL, &err, "larger", "nor does it train");
    refused(supernet_slice(s, &wide, &(struct model_opts){.batch = 1}, &m, &err), ST_EINVAL, &err, "larger", "nor is it cut");
    is_int(supernet_update(s, &hyper, &norm), ST_ESTATE, "no update without a step");
    for (int i = 0; i < 8; i++) deep.layer[i] = a.layer[0];
    deep.depth = 8;
    refused(supernet_holds(s, &deep, &err), ST_EINVAL, &err, "are 8", "more layers");
    vocab.vocab = 14;
    refused(supernet_holds(s, &vocab, &err), ST_EINVAL, &err, "is 14", "another vocabulary");
    path = &a;
    refused(supernet_step(s, many, 0, tok, tgt, B, T, &loss, &err), ST_EINVAL, &err, "from 1 to", "no path");
    refused(supernet_step(s, many, SUPERNET_PATHS_MAX + 1, tok, tgt, B, T, &loss, &err), ST_EINVAL, &err, "from 1 to", "too many");
    is_int(supernet_step(s, &path, 1, tok, tgt, B + 1, T, &loss, &err), ST_EINVAL, "more sequences than planned");
    struct space_options o = everything(), few = o;
    refused(supernet_new(&other, &o, dev, &(struct supernet_opts){.batch = 0}, &err), ST_EINVAL, &err, "from 1", "no batch");
    refused(supernet_new(&other, &o, dev, &(struct supernet_opts){.batch = 1, .memory_limit = 1 << 16}, &err), ST_ENOFIT, &err, "are there", "too little memory");
    struct space_option lone[] = {{LAYER_MIXER, 12, attention(2, 1, 4, 0, 1)}};
    few.option = lone, few.n = 1;
    is_int(supernet_new(&other, &few, dev, &(struct supernet_opts){.batch = 1}, &err), ST_OK, "a smaller space");
    refused(supernet_holds(other, &a, &err), ST_EINVAL, &err, "larger", "holds less");
    struct arch gated = net(VOCAB, T, 12, 1);
    add(&gated, mamba2(2, 6, 5, 4, 2), NO_FFN);
    refused(supernet_holds(other, &gated, &err), ST_EINVAL, &err, "mamba2 is not in the supernet", "a type that it has not, by name");
    name_file(file, "bad");
    is_int(supernet_save(s, file, NULL, 0, NULL, NULL, &err), ST_OK, "saved");
    refused(supernet_load(other, file, &err), ST_EINVAL, &err, "its shape is not", "another space's file");
    is_int(truncate(file, 5000), 0, "cut short");
    ok(supernet_load(s, file, &err) != ST_OK, "a damaged file");
    is_int(supernet_slice(s, &a, &(struct model_opts){.train = true, .batch = B}, &m, &err), ST_OK, "a slice");
    is_int(model_save(m, file, true, NULL, 0, NULL, NULL, &err), ST_OK, "saved as an ordinary checkpoint");
    refused(supernet_load(s, file, &err), ST_EINVAL, &err, "not a supernet", "which is no supernet");
    struct model *loaded = model_of(&a, dev, KN_F32, B, true, 9);
    is_int(model_load(loaded, file, true, &err), ST_OK, "an ordinary model takes it up");
    is_int(differing(dev, m, loaded), 0, "to the bit");
    model_free(m), model_free(loaded);
    supernet_free(s), supernet_free(other);
    kn_dev_close(dev);
}

/* The block of a path is there for steps alone, and the limit is of all that a step takes. */
static void test_memory(void)
{
    struct kn_dev *dev = device("cpu", 1);
    struct space_options o = everything();
    struct supernet *s = NULL;
    struct base_err err = BASE_ERR_INIT;
    const struct arch *path = &zoos[0];
    struct supernet_opts opts = {.batch = B, .mix = 0.5};
    int32_t tok[B * T], tgt[B * T];
    double loss, again;
    struct model *m;
    random_tokens(1, VOCAB, B * T, tok, tgt);
    s = supernet_of(dev, KN_F32, 1);
    is_int(supernet_step(s, &path, 1, tok, tgt, B, T, &loss, &err), ST_OK, "a step, after which the device has its scratch");
    supernet_free(s);
    uint64_t before = kn_dev_bytes(dev);
    is_int(supernet_new(&s, &o, dev, &opts, &err), ST_OK, "a supernet whose paths learn from the first");
    uint64_t held = kn_dev_bytes(dev) - before;
    is_int(supernet_init(s, 1), ST_OK, "begun");
    is_int(supernet_step(s, &path, 1, tok, tgt, B, T, &loss, &err), ST_OK, "a step");
    uint64_t block = kn_dev_bytes(dev) - before - held;
    ok(block > 0, "takes a block for its path");
    is_int(supernet_slice(s, path, &(struct model_opts){.train = true, .batch = B}, &m, &err), ST_OK, "a candidate's own training");
    model_free(m);
    is_int((int64_t)(kn_dev_bytes(dev) - before), (int64_t)held, "has that room: the block is given back before it");
    is_int(supernet_step(s, &path, 1, tok, tgt, B, T, &again, &err), ST_OK, "a step after it");
    ok(again == loss, "takes it again, to the same loss");
    supernet_free(s);
    opts.memory_limit = held - 1;
    refused(supernet_new(&s, &o, dev, &opts, &err), ST_ENOFIT, &err, "are there", "a byte less than what it holds between steps: what the others learn from counts");
    opts.memory_limit = held + block - 1;
    is_int(supernet_new(&s, &o, dev, &opts, &err), ST_OK, "a byte less than in a step");
    is_int(supernet_init(s, 1), ST_OK, "begun");
    st_t st = supernet_step(s, &path, 1, tok, tgt, B, T, &loss, &err);
    ok((!st || st == ST_ENOFIT) && kn_dev_bytes(dev) - before < held + block, "which keeps to the limit: %s", base_status_text(st));
    supernet_free(s);
    kn_dev_close(dev);
}

int main(void)
{
    char first[BASE_SHA256_HEX], file[256];
    static const char *const files[] = {"threads", "killed", "bad"};
    snprintf(dir, sizeof dir, "/tmp/taut-supernet-XXXXXX");
    if (!mkdtemp(dir)) return 1;
    everything();
    test_places();
    test_alone("cpu", KN_F32);
    test_alone("ref", KN_F64);
    test_distilled();
    test_untouched();
    test_counts();
    test_threads(first);
    test_killed(first);
    test_bad();
    test_memory();
    for (int i = 0; i < 3; i++) name_file(file, files[i]), unlink(file);
    rmdir(dir);
    return tap_done();
}
