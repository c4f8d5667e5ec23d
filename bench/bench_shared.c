/* What shared weights say of a space, against training alone: N candidates drawn from it, each with inherited weights and each trained alone on as many tokens.
 *
 *   bench_shared corpus.txt --space lm-small --tokens 500000 --share 8 --n 30 --batch 16 --context 256
 *
 * --share: tokens of the supernet, in those of one candidate; --paths: drawn paths a step. Prints a line a candidate, then Spearman's rho and Kendall's tau_b with
 * 95 % intervals (percentiles of 2000 resamples of the candidates, Efron 1979), and the time of both sides. At each tenth of its training
 * the supernet is asked as well: candidates are trained first. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/rng.h"
#include "base/stats.h"
#include "evaluator/supertrain.h"
#include "evaluator/trainer.h"
#include "searchspace/space.h"

enum { N_MAX = 200, SAMPLES = 2000 };

struct bench {
    const char *data, *space, *device;
    double tokens, share, lr;
    int n, batch, context, paths, threads;
    uint64_t seed;
    struct arch arch[N_MAX];
    double alone[N_MAX], inherited[N_MAX], params[N_MAX];
};

static int fail(const char *what, const struct base_err *err)
{
    char text[512];
    fprintf(stderr, "%s: %s\n", what, base_err_text(err, text, sizeof text));
    return 1;
}

static double since(uint64_t t)
{
    return (double)(base_clock_ns() - t) * 1e-9;
}

static int by_value(const void *a, const void *b)
{
    const double *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

static void interval(const struct bench *b, const char *name, double (*f)(const double *, const double *, int))
{
    static double value[SAMPLES];
    int n = 0;
    for (int s = 0; s < SAMPLES; s++) {
        double x[N_MAX], y[N_MAX];
        struct base_rng r = base_rng_at(b->seed, RNG_BOOT, (uint64_t)s);
        for (int i = 0; i < b->n; i++) {
            uint32_t k = base_rng_below(&r, (uint32_t)b->n);
            x[i] = b->inherited[k], y[i] = b->alone[k];
        }
        double v = f(x, y, b->n);
        if (!isnan(v)) value[n++] = v;
    }
    qsort(value, (size_t)n, sizeof *value, by_value);
    printf("%s %.4f [%.4f, %.4f]\n", name, f(b->inherited, b->alone, b->n), n ? value[n * 25 / 1000] : NAN, n ? value[n * 975 / 1000] : NAN);
}

static int draw(struct bench *b, const struct space *s)
{
    struct genome g;
    struct base_err err = BASE_ERR_INIT;
    if (space_genome_init(s, &g)) return 1;
    for (int i = 0; i < b->n; i++) {
        struct candidate c;
        struct arch_cost cost;
        struct base_rng r = base_rng_at(b->seed, RNG_TEST, (uint64_t)i);
        st_t st = space_sample(s, &r, &g);
        if (!st) st = space_candidate(s, &g, &c, &err);
        if (st) return fail("space", &err);
        b->arch[i] = c.arch;
        space_arch_cost(&c.arch, &cost);
        b->params[i] = cost.params;
        space_candidate_fini(&c);
    }
    space_genome_fini(&g);
    return 0;
}

static int train_alone(struct bench *b, struct kn_dev *dev, struct data *data, const struct job_train *recipe)
{
    struct base_err err = BASE_ERR_INIT;
    for (int i = 0; i < b->n; i++) {
        struct trainer *t;
        double nats;
        struct trainer_opts o = {.arch = &b->arch[i], .data = data, .dev = dev, .train = *recipe, .tokens = b->tokens, .seed = b->seed};
        st_t st = trainer_new(&t, &o, &err);
        if (st) return fail("trainer", &err);
        while (!st && !trainer_done(t)) st = trainer_step(t, &err);
        if (!st) st = trainer_validate(t, &nats, &b->alone[i], &err);
        trainer_free(t);
        if (st) return fail("training", &err);
    }
    return 0;
}

static int inherit(struct bench *b, struct supertrain *t)
{
    struct base_err err = BASE_ERR_INIT;
    double nats;
    for (int i = 0; i < b->n; i++)
        if (supertrain_validate(t, &b->arch[i], &nats, &b->inherited[i], &err)) return fail("validation", &err);
    return 0;
}

/* A pass of the largest path through the supernet (slice, forward, backward, gradients back) and of the same as an ordinary model, in turns; medians. */
static int cost(const struct bench *b, const struct space *s, struct supertrain *t, struct kn_dev *dev)
{
    enum { ROUNDS = 7 };
    struct base_err err = BASE_ERR_INIT;
    struct arch a;
    const struct arch *path = &a;
    struct model *m;
    size_t n = (size_t)b->batch * (size_t)b->context;
    double shared[ROUNDS], own[ROUNDS], low, high, x, y, loss;
    int32_t *tokens = calloc(n, sizeof *tokens);
    if (!tokens || space_path(s, SPACE_PATH_LARGEST, b->seed, 0, &a) || model_new(&m, &a, dev, &(struct model_opts){.train = true, .batch = b->batch}, &err)) {
        free(tokens);
        return fail("cost", &err);
    }
    st_t st = model_init(m, 1);
    for (int i = -1; i < ROUNDS && !st; i++) { /* the first makes room */
        uint64_t t0 = base_clock_ns();
        st = supernet_step(supertrain_net(t), &path, 1, tokens, tokens, b->batch, b->context, &loss, &err);
        if (i >= 0) shared[i] = since(t0);
        t0 = base_clock_ns();
        if (!st) st = model_step(m, tokens, tokens, b->batch, b->context, &loss);
        if (i >= 0) own[i] = since(t0);
    }
    if (!st) st = base_stats_median_ci(shared, ROUNDS, &x, &low, &high);
    if (!st) st = base_stats_median_ci(own, ROUNDS, &y, &low, &high);
    if (!st) printf("a pass of the largest, %lld parameters: %.1f ms through the supernet, %.1f ms as a model of its own\n", (long long)model_param_count(m), x * 1e3, y * 1e3);
    model_free(m);
    free(tokens);
    return st ? fail("cost", &err) : 0;
}

static int run(struct bench *b, struct space *s, struct kn_dev *dev, struct data *data)
{
    struct job_train recipe = {.batch = b->batch, .lr = b->lr, .mup = true, .weight_decay = 0.1, .warmup = 0.02, .decay = 0.2, .beta1 = 0.9, .beta2 = 0.95, .eps = 1e-8, .clip = 1};
    struct base_err err = BASE_ERR_INIT;
    struct supertrain *t;
    struct supertrain_opts o = {.space = s, .data = data, .dev = dev, .train = recipe, .tokens = b->tokens * b->share, .paths = b->paths, .seed = b->seed};
    if (draw(b, s)) return 1;
    uint64_t t0 = base_clock_ns();
    if (train_alone(b, dev, data, &recipe)) return 1;
    double alone_s = since(t0), train_s = 0;
    if (supertrain_new(&t, &o, &err)) return fail("supernet", &err);
    printf("supernet: %lld parameters, %lld steps of %d paths\n", (long long)supernet_params(supertrain_net(t)), (long long)supertrain_steps(t), b->paths + 2);
    if (cost(b, s, t, dev)) return 1;
    for (st_t st = ST_OK; !supertrain_done(t);) {
        t0 = base_clock_ns();
        if ((st = supertrain_step(t, &err))) return fail("supernet", &err);
        train_s += since(t0);
        int64_t at = supertrain_at(t), S = supertrain_steps(t);
        if (at * 10 / S == (at - 1) * 10 / S || at == S) continue;
        if (inherit(b, t)) return 1;
        printf("step %lld losses %.4f %.4f %.4f rho %.4f tau_b %.4f\n", (long long)at, supertrain_loss(t, 0), supertrain_loss(t, 1), supertrain_loss(t, b->paths + 1),
               base_stats_spearman(b->inherited, b->alone, b->n), base_stats_kendall_b(b->inherited, b->alone, b->n));
        fflush(stdout);
    }
    t0 = base_clock_ns();
    if (inherit(b, t)) return 1;
    double inherit_s = since(t0);
    for (int i = 0; i < b->n; i++) {
        struct base_buf text = BASE_BUF_INIT;
        space_arch_canonical(&b->arch[i], &text);
        printf("candidate %d params %.0f inherited %.4f alone %.4f %s\n", i, b->params[i], b->inherited[i], b->alone[i], text.p ? text.p : "");
        base_buf_fini(&text);
    }
    interval(b, "rho", base_stats_spearman);
    interval(b, "tau_b", base_stats_kendall_b);
    double size[N_MAX];
    for (int i = 0; i < b->n; i++) size[i] = -b->params[i];
    printf("by number of parameters alone: rho %.4f tau_b %.4f\n", base_stats_spearman(size, b->alone, b->n), base_stats_kendall_b(size, b->alone, b->n));
    printf("time: supernet %.1f s, then %.2f s a candidate; alone %.1f s a candidate\n", train_s, inherit_s / b->n, alone_s / b->n);
    supertrain_free(t);
    return 0;
}

int main(int argc, char **argv)
{
    static struct bench b = {.space = "lm-small", .device = "cpu", .tokens = 500000, .share = JOB_SUPERNET_SHARE, .lr = 3e-3, .n = 30, .batch = 16, .context = 256,
                             .paths = SUPERTRAIN_PATHS, .threads = 2, .seed = 1};
    struct base_err err = BASE_ERR_INIT;
    struct space *s = NULL;
    struct kn_dev *dev = NULL;
    struct data *data = NULL;
    if (argc < 2 || argc % 2)
        return fprintf(stderr, "usage: bench_shared DATA [--space PRESET or JSON] [--device D] [--tokens N] [--share X] [--lr LR] [--n N] [--batch B] [--context T] [--paths K] [--threads N] [--seed S]\n"), 2;
    b.data = argv[1];
    for (int i = 2; i + 1 < argc; i += 2) {
        const char *key = argv[i], *v = argv[i + 1];
        if (!strcmp(key, "--space")) b.space = v;
        else if (!strcmp(key, "--device")) b.device = v;
        else if (!strcmp(key, "--tokens")) b.tokens = atof(v);
        else if (!strcmp(key, "--share")) b.share = atof(v);
        else if (!strcmp(key, "--lr")) b.lr = atof(v);
        else if (!strcmp(key, "--n")) b.n = atoi(v);
        else if (!strcmp(key, "--batch")) b.batch = atoi(v);
        else if (!strcmp(key, "--context")) b.context = atoi(v);
        else if (!strcmp(key, "--paths")) b.paths = atoi(v);
        else if (!strcmp(key, "--threads")) b.threads = atoi(v);
        else if (!strcmp(key, "--seed")) b.seed = (uint64_t)atoll(v);
        else return fprintf(stderr, "%s: unknown\n", key), 2;
    }
    if (b.n < 2 || b.n > N_MAX) return 2;
    json_t *name = *b.space == '{' ? json_loads(b.space, 0, NULL) : json_string(b.space);
    st_t st = space_new(&s, name, 256, b.context, &err);
    if (!st) st = kn_dev_open(&dev, b.device, b.threads, &err);
    if (!st) st = data_open_path(&data, b.data, NULL, 0.05, 0, b.context, &err);
    int rc = st ? fail("bench_shared", &err) : run(&b, s, dev, data);
    data_close(data);
    kn_dev_close(dev);
    space_free(s);
    json_decref(name);
    return rc;
}
