/* A supernet's training: it learns, goes on to the same bits, tells candidates what an ordinary model with their slice would, and refuses what is not its own. */
#include "tests/evaluator/evaltest.h"

#include "evaluator/inherit.h"
#include "evaluator/trainer.h"
#include "searchspace/space.h"

#define T 16
#define B 4

static const struct job_train recipe = {.batch = B, .lr = 3e-3, .mup = true, .weight_decay = 0.1, .warmup = 0.1, .decay = 0.2,
                                        .beta1 = 0.9, .beta2 = 0.95, .eps = 1e-8, .clip = 1};

static struct data *text;
static struct space *space;

static struct space *space_of(const char *json)
{
    struct space *s = NULL;
    struct base_err err = BASE_ERR_INIT;
    json_t *v = json_loads(json, 0, NULL);
    if (space_new(&s, v, 256, T, &err)) printf("# %s: %s\n", err.where, err.what);
    json_decref(v);
    return s;
}

static struct supertrain *start(struct kn_dev *dev, int steps, uint64_t seed)
{
    struct supertrain *t;
    struct base_err err = BASE_ERR_INIT;
    if (supertrain_new(&t, &(struct supertrain_opts){.space = space, .data = text, .dev = dev, .train = recipe, .tokens = (double)steps * B * T, .paths = 2, .seed = seed}, &err)) {
        printf("Bail out! %s: %s\n", err.where, err.what);
        exit(1);
    }
    return t;
}

static bool run(struct supertrain *t, int64_t to)
{
    struct base_err err = BASE_ERR_INIT;
    st_t st = ST_OK;
    while (!st && supertrain_at(t) < to) st = supertrain_step(t, &err);
    if (st) printf("# %s: %s\n", err.where, err.what);
    return !st;
}

/* n steps on from what it inherits, then its loss. */
static st_t ask(struct supertrain *t, const struct arch *a, int n, double *nats, double *bpb, struct base_err *err)
{
    struct model *m;
    st_t st = supertrain_candidate(t, a, n > 0, &m, err);
    if (st) return st;
    for (int i = 0; i < n && !st; i++) st = supertrain_adapt(t, m, i, n, err);
    if (!st) st = supertrain_validate(t, m, nats, bpb, err);
    model_free(m);
    return st;
}

/* What an ordinary training that begins with the slice says of it before its first step. */
static double as_model(struct supertrain *t, struct kn_dev *dev, const struct arch *a)
{
    struct model *m;
    struct trainer *tr;
    struct base_err err = BASE_ERR_INIT;
    const char *file = in("slice");
    double nats = NAN, bpb;
    if (supernet_slice(supertrain_net(t), a, &(struct model_opts){0}, &m, &err)) return NAN;
    if (!model_save(m, file, false, NULL, 0, NULL, NULL, &err) &&
        !trainer_new(&tr, &(struct trainer_opts){.arch = a, .data = text, .dev = dev, .train = recipe, .tokens = B * T, .init = file}, &err)) {
        trainer_validate(tr, &nats, &bpb, &err);
        trainer_free(tr);
    }
    model_free(m);
    return nats;
}

static bool go(void *ctx)
{
    int *left = ctx;
    return --*left > 0;
}

/* What an evaluator holds from lease to lease. */
static void test_held(struct kn_dev *dev, const char *path)
{
    struct base_err err = BASE_ERR_INIT;
    char sha[BASE_SHA256_HEX];
    uint64_t bytes;
    struct hostlock *lock;
    if (base_sha256_file(path, sha, &bytes) || hostlock_open(&lock, "cpu", in("."), &err)) exit(1);
    json_t *data = json_pack("{s:[{s:s,s:I,s:s}],s:[],s:f,s:s,s:i,s:i}", "train", "path", path, "bytes", (json_int_t)bytes, "sha256", sha, "valid", "valid_share", 0.1, "tokenizer",
                             "bytes", "vocab", 256, "context", T);
    json_t *json = json_loads("{\"type\":\"lm\",\"depth\":[1,1],\"width\":[16,24],\"mixer\":{\"attention\":{\"heads\":[1,2],\"head_dim\":[8]}},\"ffn\":{\"swiglu\":{\"ratio\":[1]}}}", 0, NULL);
    int left = 4;
    char file[512];
    snprintf(file, sizeof file, "%s", in("held"));
    struct inherit_opts o = {.job = 1, .path = file, .space = json, .data = data, .vocab = 256, .context = T, .dev = dev, .train = recipe, .tokens = 10 * B * T, .seed = 1,
                             .lock = lock, .checkpoint_s = 1e9, .go = go, .ctx = &left};
    struct inherit h = {0};
    is_int(inherit_ready(&h, &o, &err), ST_ECANCELED, "stopped in its fourth step");
    ok(!h.train && !access(file, R_OK), "none is held, and its checkpoint is there");
    left = 1000;
    is_int(inherit_ready(&h, &o, &err), ST_OK, "asked again");
    is_int(1000 - left, 6, "it goes on from there");
    struct supertrain *had = h.train;
    is_int(inherit_ready(&h, &o, &err), ST_OK, "and again");
    ok(h.train == had && left == 994, "the same is held");
    o.seed = 2;
    is_int(inherit_ready(&h, &o, &err), ST_OK, "a job of that number in another store");
    is_int(994 - left, 10, "is another supernet, trained from its start: the file is not its own");
    inherit_drop(&h);
    json_decref(data), json_decref(json);
    hostlock_close(lock);
}

int main(void)
{
    struct base_err err = BASE_ERR_INIT;
    struct kn_dev *dev = dev_or_die("cpu", 2), *one = dev_or_die("cpu", 1);
    char *p, sha[2][BASE_SHA256_HEX];
    begin_files();
    p = prose(20000, 1);
    char path[512];
    snprintf(path, sizeof path, "%s", put_file("text", p, 20000));
    free(p);
    if (data_open_path(&text, path, NULL, 0.1, 0, T, &err)) printf("Bail out! %s\n", err.what);
    space = space_of("{\"type\":\"lm\",\"depth\":[1,2],\"width\":[16,24,32],\"mixer\":{\"attention\":{\"heads\":[1,2],\"kv_ratio\":[1,2],\"head_dim\":[8]},\"mamba2\":{\"head_dim\":[8],\"state\":[4,8]}},"
                     "\"ffn\":{\"swiglu\":{\"ratio\":[1,2]},\"moe\":{\"experts\":[2,4],\"active\":[1,2],\"ratio\":[0.5,1]},\"none\":{}}}");

    struct supertrain *x = start(dev, 40, 5), *y = start(one, 40, 5), *z = start(dev, 40, 6);
    is_int(supertrain_steps(x), 40, "steps");
    ok(run(x, 1), "the first");
    double first = supertrain_loss(x, 0);
    ok(run(x, 25), "25 steps");
    is_int(supertrain_save(x, in("net"), sha[0], NULL, &err), ST_OK, "saved");
    ok(run(x, 40) && supertrain_done(x), "to the end");
    is_int(supertrain_step(x, &err), ST_ESTATE, "no step after it");
    for (int i = 0; i < 4; i++) ok(supertrain_loss(x, i) < first - 1.5, "path %d learns: %.2f, begun at %.2f", i, supertrain_loss(x, i), first);
    ok(!supertrain_load(y, in("net"), &err) && supertrain_at(y) == 25 && run(y, 40), "another goes on, on one thread");
    supertrain_save(x, in("x"), sha[0], NULL, &err), supertrain_save(y, in("y"), sha[1], NULL, &err);
    is_str(sha[1], sha[0], "to the same bits");
    is_int(supertrain_load(z, in("net"), &err), ST_ESTALE, "that of another seed is refused");
    is_int(supertrain_load(z, in("none"), &err) != ST_OK, 1, "so is one that is not there");

    int drawn = 0;
    struct arch got, want, other;
    struct arch_cost most, cost;
    for (uint64_t n = 0; n < 40; n++) { /* two a step */
        supertrain_path(x, n / 2, 2 + (int)(n % 2), &got, &err);
        space_path(space, SPACE_PATH_RANDOM, n % 2 ? 5 + SUPERTRAIN_DEALS_STREAM : 5, n % 2 ? n / 2 * SUPERTRAIN_DEALS : n / 2, &want);
        space_arch_cost(&want, &most);
        for (uint64_t k = 1; n % 2 && k < SUPERTRAIN_DEALS; k++) {
            space_path(space, SPACE_PATH_RANDOM, 5 + SUPERTRAIN_DEALS_STREAM, n / 2 * SUPERTRAIN_DEALS + k, &other);
            space_arch_cost(&other, &cost);
            if (cost.params > most.params) want = other, most = cost;
        }
        char a[33], b[33];
        space_arch_id(&got, a), space_arch_id(&want, b);
        drawn += !strcmp(a, b);
    }
    is_int(drawn, 40, "drawn paths are plain deals and the largest of a few in turns");

    int same = 0;
    double nats[8], bpb[8];
    struct arch a;
    for (uint64_t i = 0; i < 8; i++) {
        space_path(space, SPACE_PATH_RANDOM, 77, i, &a);
        is_int(ask(x, &a, 0, &nats[i], &bpb[i], &err), ST_OK, "a candidate: %.3f bits a byte", bpb[i]);
        same += as_model(x, dev, &a) == nats[i] && bpb[i] == nats[i] / log(2);
    }
    is_int(same, 8, "to the bit what an ordinary model with the slice says");
    double on[2], bits[2];
    is_int(ask(x, &a, 10, &on[0], &bits[0], &err), ST_OK, "10 steps on from what it inherits: %.3f bits a byte", bits[0]);
    ok(bits[0] < bpb[7], "which is less than before");
    ok(!ask(y, &a, 10, &on[1], &bits[1], &err) && on[1] == on[0], "another supernet of the same bits says the same");
    supertrain_save(x, in("x"), sha[1], NULL, &err);
    is_str(sha[1], sha[0], "asking changes nothing");
    uint64_t before = kn_dev_bytes(dev), taken[2], there = dev->info.memory;
    struct model *m;
    struct arch largest;
    supertrain_path(x, 0, 0, &largest, &err);
    is_int(supertrain_candidate(x, &largest, true, &m, &err), ST_OK, "the largest candidate, to be trained on");
    dev->info.memory = before + 8 * (uint64_t)model_param_count(m);
    model_free(m);
    is_int(supertrain_room(x, &err), ST_ENOFIT, "with room for its weights and gradients and no more there is none for every candidate: %s", err.what);
    dev->info.memory = there;
    is_int(supertrain_room(x, &err), ST_OK, "with all of the device's there is");
    is_int((long long)kn_dev_bytes(dev), (long long)before, "and nothing of it is kept");
    is_int(supertrain_candidate(x, &a, false, &m, &err), ST_OK, "a candidate to be asked");
    taken[0] = kn_dev_bytes(dev) - before;
    model_free(m);
    is_int(supertrain_weights(x, &a, &m, &err), ST_OK, "its weights alone");
    taken[1] = kn_dev_bytes(dev) - before;
    ok(taken[1] < taken[0] && taken[1] < 6 * (uint64_t)model_param_count(m), "take room for them and for no activations: %d bytes of %d", (int)taken[1], (int)taken[0]);
    model_free(m);
    a.width = 40;
    is_int(ask(x, &a, 0, &nats[0], &bpb[0], &err), ST_EINVAL, "what is not in the space is refused");
    is_int(supertrain_new(&z, &(struct supertrain_opts){.space = space, .data = text, .dev = dev, .train = recipe, .tokens = 100, .paths = SUPERNET_PATHS_MAX - 1}, &err), ST_EINVAL,
           "too many paths");
    supertrain_free(x), supertrain_free(y), supertrain_free(z);
    test_held(dev, path);
    space_free(space);
    data_close(text);
    kn_dev_close(dev), kn_dev_close(one);
    end_files();
    return tap_done();
}
