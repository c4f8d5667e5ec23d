/* What shared weights say of a space, against training alone: of --pool candidates drawn from it N are references, each with inherited weights and each trained
 * alone on as many tokens: --best of them drawn from the supernet's predicted best tenth of the pool, the others spread evenly over the pool's order by size.
 *
 *   bench_shared corpus.txt --space lm-small --tokens 500000 --share 8 --n 30 --best 12 --batch 16 --context 256 --kept references.txt
 *
 * --share: tokens of the supernet, in those of one candidate; --paths: drawn paths a step; --mix: how far they learn from the largest; --adapt: tokens of a candidate on
 * from what it inherits, in those of one alone; --super-batch: sequences of a step of either, --batch unless given; --kept: a file of references of the same settings, read and appended to; --super: the supernet's checkpoint, likewise.
 * Prints a line a reference, then Spearman's rho and Kendall's tau_b over all and within the best tenth, of the supernet and of counting parameters, with
 * 95 % intervals (percentiles of 2000 resamples of the references, Efron 1979), and the time of both sides. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/rng.h"
#include "base/stats.h"
#include "evaluator/supertrain.h"
#include "evaluator/trainer.h"
#include "searchspace/space.h"

enum { N_MAX = 400, SAMPLES = 2000 };

struct bench {
    const char *data, *space, *device, *kept, *super;
    double tokens, share, adapt, lr, mix, warmup;
    bool mup;
    int n, pool, best, batch, super_batch, context, paths, threads;
    enum kn_dtype precision;
    uint64_t seed;
    struct arch arch[N_MAX];
    double alone[N_MAX], inherited[N_MAX], params[N_MAX]; /* of the pool; alone: NaN, where it is no reference */
    int ref[N_MAX];                                       /* [n]: those of the best tenth first */
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

typedef double measure(const double *, const double *, int);

/* Of the first n references: what the supernet says, what counting parameters says, and the difference. */
static void interval(const struct bench *b, const char *name, measure *f, int n)
{
    static double value[3][SAMPLES];
    double x[N_MAX], y[N_MAX], z[N_MAX], at[3];
    int m = 0;
    for (int s = -1; s < SAMPLES; s++) {
        struct base_rng r = base_rng_at(b->seed, RNG_BOOT, (uint64_t)(s + 1));
        for (int i = 0; i < n; i++) {
            int k = b->ref[s < 0 ? i : (int)base_rng_below(&r, (uint32_t)n)];
            x[i] = b->inherited[k], y[i] = b->alone[k], z[i] = -b->params[k];
        }
        double v[3] = {f(x, y, n), f(z, y, n)};
        v[2] = v[0] - v[1];
        if (s < 0) memcpy(at, v, sizeof at);
        else if (!isnan(v[2])) value[0][m] = v[0], value[1][m] = v[1], value[2][m++] = v[2];
    }
    printf("%s", name);
    for (int k = 0; k < 3; k++) {
        static const char *const of[] = {"supernet", ", parameters", ", difference"};
        qsort(value[k], (size_t)m, sizeof **value, by_value);
        printf("%s %.3f [%.3f, %.3f]", of[k], at[k], m ? value[k][m * 25 / 1000] : NAN, m ? value[k][m * 975 / 1000] : NAN);
    }
    printf("\n");
}

static int draw(struct bench *b, const struct space *s)
{
    struct genome g;
    struct base_err err = BASE_ERR_INIT;
    if (space_genome_init(s, &g)) return 1;
    for (int i = 0; i < b->pool; i++) {
        struct candidate c;
        struct arch_cost cost;
        struct base_rng r = base_rng_at(b->seed, RNG_TEST, (uint64_t)i);
        st_t st = space_sample(s, &r, &g);
        if (!st) st = space_candidate(s, &g, &c, &err);
        if (st) return fail("space", &err);
        b->arch[i] = c.arch;
        space_arch_cost(&c.arch, &cost);
        b->params[i] = cost.params;
        b->alone[i] = NAN;
        space_candidate_fini(&c);
    }
    space_genome_fini(&g);
    return 0;
}

static int train_one(const struct bench *b, const struct arch *a, struct kn_dev *dev, struct data *data, const struct job_train *recipe, double *bpb)
{
    struct base_err err = BASE_ERR_INIT;
    struct trainer *t;
    double nats;
    struct trainer_opts o = {.arch = a, .data = data, .dev = dev, .train = *recipe, .tokens = b->tokens, .seed = b->seed, .precision = b->precision};
    st_t st = trainer_new(&t, &o, &err);
    if (st) return fail("trainer", &err);
    while (!st && !trainer_done(t)) st = trainer_step(t, &err);
    if (!st) st = trainer_validate(t, &nats, bpb, &err);
    trainer_free(t);
    return st ? fail("training", &err) : 0;
}

/* A line of the file is a loss and an id. */
static bool find_kept(const struct bench *b, const char *id, double *bpb)
{
    FILE *f = b->kept ? fopen(b->kept, "r") : NULL;
    char have[BASE_ID_HEX];
    bool found = false;
    while (f && !found && fscanf(f, "%lf %32s", bpb, have) == 2) found = !strcmp(have, id);
    if (f) fclose(f);
    return found;
}

static int train_alone(struct bench *b, struct kn_dev *dev, struct data *data, const struct job_train *recipe, int *trained)
{
    for (int i = 0; i < b->n; i++) {
        struct base_buf text = BASE_BUF_INIT;
        char id[BASE_ID_HEX];
        int k = b->ref[i];
        space_arch_canonical(&b->arch[k], &text);
        base_id_hex(text.p, text.len, id);
        base_buf_fini(&text);
        if (find_kept(b, id, &b->alone[k])) continue;
        if (train_one(b, &b->arch[k], dev, data, recipe, &b->alone[k])) return 1;
        ++*trained;
        FILE *f = b->kept ? fopen(b->kept, "a") : NULL;
        if (f) fprintf(f, "%.17g %s\n", b->alone[k], id), fclose(f);
    }
    return 0;
}

/* Of the supernet and what adapts. */
static int own_batch(const struct bench *b)
{
    return b->super_batch ? b->super_batch : b->batch;
}

static int inherit(struct bench *b, struct supertrain *t)
{
    struct base_err err = BASE_ERR_INIT;
    struct model *m;
    double nats;
    int64_t steps = (int64_t)ceil(b->adapt * b->tokens / ((double)own_batch(b) * b->context));
    for (int i = 0; i < b->pool; i++) {
        if (supertrain_candidate(t, &b->arch[i], steps > 0, &m, &err)) return fail("candidate", &err);
        st_t st = ST_OK;
        for (int64_t k = 0; k < steps && !st; k++) st = supertrain_adapt(t, m, k, steps, &err);
        if (!st) st = supertrain_validate(t, m, &nats, &b->inherited[i], &err);
        model_free(m);
        if (st) return fail("validation", &err);
    }
    return 0;
}

static const double *order_key;

static int by_key(const void *a, const void *b)
{
    int x = *(const int *)a, y = *(const int *)b;
    return order_key[x] != order_key[y] ? (order_key[x] > order_key[y]) - (order_key[x] < order_key[y]) : x - y;
}

/* The best of the predicted best tenth are spread over it; the rest over all sizes. */
static void choose(struct bench *b)
{
    int order[N_MAX], left = 0, tenth = b->pool / 10 > b->best ? b->pool / 10 : b->best, rest = b->n - b->best;
    for (int i = 0; i < b->pool; i++) order[i] = i;
    order_key = b->inherited;
    qsort(order, (size_t)b->pool, sizeof *order, by_key);
    for (int i = 0; i < b->best; i++) {
        int at = i * tenth / b->best;
        b->ref[i] = order[at];
        order[at] = -1;
    }
    for (int i = 0; i < b->pool; i++)
        if (order[i] >= 0) order[left++] = order[i];
    order_key = b->params;
    qsort(order, (size_t)left, sizeof *order, by_key);
    for (int i = 0; i < rest; i++) b->ref[b->best + i] = order[rest > 1 ? i * (left - 1) / (rest - 1) : left / 2];
}

/* A pass of the largest path through the supernet (slice, forward, backward, gradients back) and of the same as an ordinary model, in turns; medians. */
static int cost(const struct bench *b, const struct space *s, struct supertrain *t, struct kn_dev *dev)
{
    enum { ROUNDS = 7 };
    struct base_err err = BASE_ERR_INIT;
    struct arch a;
    const struct arch *path = &a;
    struct model *m;
    size_t n = (size_t)own_batch(b) * (size_t)b->context;
    double shared[ROUNDS], own[ROUNDS], low, high, x, y, loss;
    int32_t *tokens = calloc(n, sizeof *tokens);
    if (!tokens || space_path(s, SPACE_PATH_LARGEST, b->seed, 0, &a) || model_new(&m, &a, dev, &(struct model_opts){.train = true, .batch = own_batch(b)}, &err)) {
        free(tokens);
        return fail("cost", &err);
    }
    st_t st = model_init(m, 1);
    for (int i = -1; i < ROUNDS && !st; i++) { /* the first makes room */
        uint64_t t0 = base_clock_ns();
        st = supernet_step(supertrain_net(t), &path, 1, tokens, tokens, own_batch(b), b->context, &loss, &err);
        if (i >= 0) shared[i] = since(t0);
        t0 = base_clock_ns();
        if (!st) st = model_step(m, tokens, tokens, own_batch(b), b->context, &loss);
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
    struct job_train recipe = {.batch = b->batch, .lr = b->lr, .mup = b->mup, .weight_decay = 0.1, .warmup = b->warmup, .decay = 0.2, .beta1 = 0.9, .beta2 = 0.95, .eps = 1e-8, .clip = 1};
    struct base_err err = BASE_ERR_INIT;
    struct supertrain *t;
    struct job_train shared = recipe;
    shared.batch = own_batch(b);
    struct supertrain_opts o = {.space = s, .data = data, .dev = dev, .train = shared, .tokens = b->tokens * b->share, .paths = b->paths, .mix = b->mix, .seed = b->seed, .precision = b->precision};
    int trained = 0;
    if (draw(b, s)) return 1;
    if (supertrain_new(&t, &o, &err)) return fail("supernet", &err);
    printf("supernet: %lld parameters, %lld steps of %d paths\n", (long long)supernet_params(supertrain_net(t)), (long long)supertrain_steps(t), b->paths + 2);
    if (cost(b, s, t, dev)) return 1;
    if (b->super && !access(b->super, F_OK) && supertrain_load(t, b->super, &err)) return fail("supernet", &err);
    uint64_t t0 = base_clock_ns();
    while (!supertrain_done(t))
        if (supertrain_step(t, &err)) return fail("supernet", &err);
    double train_s = since(t0);
    char sha[BASE_SHA256_HEX];
    uint64_t bytes;
    if (b->super && supertrain_save(t, b->super, sha, &bytes, &err)) return fail("supernet", &err);
    printf("losses %.4f %.4f %.4f\n", supertrain_loss(t, 0), supertrain_loss(t, 1), supertrain_loss(t, b->paths + 1));
    t0 = base_clock_ns();
    if (inherit(b, t)) return 1;
    double inherit_s = since(t0);
    choose(b);
    t0 = base_clock_ns();
    if (train_alone(b, dev, data, &recipe, &trained)) return 1;
    double alone_s = since(t0);
    for (int i = 0; i < b->n; i++) {
        struct base_buf text = BASE_BUF_INIT;
        int k = b->ref[i];
        space_arch_canonical(&b->arch[k], &text);
        printf("reference %d%s params %.0f inherited %.4f alone %.4f %s\n", k, i < b->best ? " best" : "", b->params[k], b->inherited[k], b->alone[k], text.p ? text.p : "");
        base_buf_fini(&text);
    }
    interval(b, "rho: ", base_stats_spearman, b->n);
    interval(b, "tau_b: ", base_stats_kendall_b, b->n);
    if (b->best > 1) {
        interval(b, "best tenth, rho: ", base_stats_spearman, b->best);
        interval(b, "best tenth, tau_b: ", base_stats_kendall_b, b->best);
    }
    printf("time: supernet %.1f s, then %.2f s a candidate; alone %.1f s a candidate (%d)\n", train_s, inherit_s / b->pool, trained ? alone_s / trained : NAN, trained);
    supertrain_free(t);
    return 0;
}

int main(int argc, char **argv)
{
    static struct bench b = {.space = "lm-small", .device = "cpu", .tokens = 500000, .share = JOB_SUPERNET, .adapt = JOB_ADAPT, .mix = SUPERTRAIN_MIX, .lr = 3e-3, .mup = true, .warmup = 0.02, .n = 30, .pool = 200, .best = 12, .batch = 16, .context = 256,
                             .paths = SUPERTRAIN_PATHS, .threads = 2, .seed = 1};
    struct base_err err = BASE_ERR_INIT;
    struct space *s = NULL;
    struct kn_dev *dev = NULL;
    struct data *data = NULL;
    if (argc < 2 || argc % 2)
        return fprintf(stderr, "usage: bench_shared DATA [--space PRESET or JSON] [--device D] [--tokens N] [--share X] [--lr LR] [--lr-width-rule mup or none] [--warmup X] [--n N] [--best N] [--pool N] [--kept FILE] [--super FILE] [--adapt X] [--mix X] [--precision f32 or bf16] [--batch B] [--super-batch B] [--context T] [--paths K] [--threads N] [--seed S]\n"), 2;
    b.data = argv[1];
    for (int i = 2; i + 1 < argc; i += 2) {
        const char *key = argv[i], *v = argv[i + 1];
        if (!strcmp(key, "--space")) b.space = v;
        else if (!strcmp(key, "--device")) b.device = v;
        else if (!strcmp(key, "--tokens")) b.tokens = atof(v);
        else if (!strcmp(key, "--share")) b.share = atof(v);
        else if (!strcmp(key, "--lr")) b.lr = atof(v);
        else if (!strcmp(key, "--lr-width-rule")) b.mup = !strcmp(v, "mup");
        else if (!strcmp(key, "--warmup")) b.warmup = atof(v);
        else if (!strcmp(key, "--n")) b.n = atoi(v);
        else if (!strcmp(key, "--best")) b.best = atoi(v);
        else if (!strcmp(key, "--pool")) b.pool = atoi(v);
        else if (!strcmp(key, "--super")) b.super = v;
        else if (!strcmp(key, "--adapt")) b.adapt = atof(v);
        else if (!strcmp(key, "--mix")) b.mix = atof(v);
        else if (!strcmp(key, "--kept")) b.kept = v;
        else if (!strcmp(key, "--precision")) b.precision = !strcmp(v, "bf16") ? KN_BF16 : KN_F32;
        else if (!strcmp(key, "--batch")) b.batch = atoi(v);
        else if (!strcmp(key, "--super-batch")) b.super_batch = atoi(v);
        else if (!strcmp(key, "--context")) b.context = atoi(v);
        else if (!strcmp(key, "--paths")) b.paths = atoi(v);
        else if (!strcmp(key, "--threads")) b.threads = atoi(v);
        else if (!strcmp(key, "--seed")) b.seed = (uint64_t)atoll(v);
        else return fprintf(stderr, "%s: unknown\n", key), 2;
    }
    if (b.n < 2 || b.best < 0 || b.n < b.best + 2 || b.pool < b.n || b.pool > N_MAX) return 2;
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
