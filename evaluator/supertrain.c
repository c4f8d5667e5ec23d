#include "evaluator/supertrain.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "config.h"
#include "evaluator/trainer.h"

#define IDENTITY_KEY "taut.identity"
#define ADAPT_STREAM 0x616461707400 /* added to the seed */

struct supertrain {
    struct supertrain_opts o;
    struct supernet *net;
    int context, vocab, width;
    int32_t *tokens, *targets; /* [batch, context] */
    int64_t steps;
    double loss[SUPERNET_PATHS_MAX]; /* of the last step */
    char identity[BASE_ID_HEX];
};

static st_t make_identity(struct supertrain *t, const struct space_options *s)
{
    struct base_buf b = BASE_BUF_INIT;
    const struct job_train *r = &t->o.train;
    const struct kn_info *on = &t->o.dev->info;
    base_buf_printf(&b, "supernet 2 %d %d %d %d %d %d %d", s->vocab, s->context, s->depth, s->width, s->untied, s->layer_norm, s->bias);
    for (int i = 0; i < s->n; i++) {
        base_buf_printf(&b, " %u %d %s", s->option[i].role, s->option[i].width, space_layer(s->option[i].part.type)->name);
        for (int k = 0; k < ARCH_PARAMS_MAX; k++) base_buf_printf(&b, ",%d", s->option[i].part.v[k]);
    }
    base_buf_printf(&b, " %llu %lld %d %s %d %.17g %d %.17g %.17g %.17g %.17g %.17g %.17g %.17g", (unsigned long long)t->o.seed, (long long)t->steps, t->o.paths,
                    data_id(t->o.data), r->batch, r->lr, r->mup, r->weight_decay, r->warmup, r->decay, r->beta1, r->beta2, r->eps, r->clip);
    if (t->o.mix > 0) base_buf_printf(&b, " mix %.17g", t->o.mix);
    base_buf_printf(&b, " %s %s %s " PACKAGE_VERSION_TEXT " %s", on->kind, on->isa, on->libraries, kn_dtype_name(t->o.precision));
    st_t st = b.st;
    if (!st) base_id_hex(b.p, b.len, t->identity);
    base_buf_fini(&b);
    return st;
}

static st_t begin(struct supertrain *t, const struct space_options *s, struct base_err *err)
{
    const struct supertrain_opts *o = &t->o;
    size_t n = (size_t)o->train.batch * (size_t)s->context;
    t->context = s->context, t->vocab = s->vocab, t->width = s->width;
    t->steps = (int64_t)fmax(ceil(o->tokens / (double)n), 1);
    t->tokens = malloc(n * sizeof *t->tokens);
    t->targets = malloc(n * sizeof *t->targets);
    st_t st = t->tokens && t->targets ? make_identity(t, s) : ST_ENOMEM;
    if (st) return base_err_set(err, st, "supernet", "out of memory");
    struct supernet_opts so = {.batch = o->train.batch, .precision = o->precision, .memory_limit = o->memory_limit, .mix = o->mix};
    st = supernet_new(&t->net, s, o->dev, &so, err);
    return st ? st : supernet_init(t->net, o->seed);
}

st_t supertrain_new(struct supertrain **out, const struct supertrain_opts *o, struct base_err *err)
{
    struct space_options s;
    if (o->paths < 0 || o->paths > SUPERNET_PATHS_MAX - 2)
        return base_err_set(err, ST_EINVAL, "paths", "must be from 0 to %d, not %d", SUPERNET_PATHS_MAX - 2, o->paths);
    st_t st = space_options_of(o->space, &s, err);
    if (st) return st;
    struct supertrain *t = calloc(1, sizeof *t);
    if (t) t->o = *o;
    st = t ? begin(t, &s, err) : base_err_set(err, ST_ENOMEM, "supernet", "out of memory");
    space_options_fini(&s);
    if (st) supertrain_free(t);
    else *out = t;
    return st;
}

void supertrain_free(struct supertrain *t)
{
    if (!t) return;
    supernet_free(t->net);
    free(t->tokens);
    free(t->targets);
    free(t);
}

/* The n-th drawn path. Every second one is the largest of SUPERTRAIN_DEALS: among plain deals networks as deep and wide as those at the front are rare, and would be behind in training. */
static st_t draw(const struct supertrain *t, uint64_t n, struct arch *out)
{
    struct arch *other = NULL;
    struct arch_cost cost;
    double most = -1;
    if (n % 2 == 0) return space_path(t->o.space, SPACE_PATH_RANDOM, t->o.seed, n / 2, out);
    st_t st = (other = malloc(sizeof *other)) ? ST_OK : ST_ENOMEM;
    for (uint64_t i = 0; i < SUPERTRAIN_DEALS && !st; i++) {
        st = space_path(t->o.space, SPACE_PATH_RANDOM, t->o.seed + SUPERTRAIN_DEALS_STREAM, n / 2 * SUPERTRAIN_DEALS + i, other);
        if (st) break;
        space_arch_cost(other, &cost);
        if ((double)cost.params > most) most = (double)cost.params, *out = *other;
    }
    free(other);
    return st;
}

st_t supertrain_path(const struct supertrain *t, uint64_t step, int i, struct arch *out, struct base_err *err)
{
    uint64_t K = (uint64_t)t->o.paths;
    st_t st = i >= 2 ? draw(t, step * K + (uint64_t)i - 2, out) : space_path(t->o.space, i == 0 ? SPACE_PATH_LARGEST : SPACE_PATH_SMALLEST, t->o.seed, step, out);
    return st ? base_err_set(err, st, "space", "no path was found: %s", base_status_text(st)) : ST_OK;
}

static struct model_hyper hyper(const struct job_train *r, double lr, int width)
{
    return (struct model_hyper){.lr = lr, .hidden_lr_scale = r->mup ? (double)JOB_MUP_BASE / width : 1, .beta1 = r->beta1, .beta2 = r->beta2, .eps = r->eps,
                                .weight_decay = r->weight_decay, .clip = r->clip};
}

st_t supertrain_step(struct supertrain *t, struct base_err *err)
{
    const struct job_train *r = &t->o.train;
    int n = 2 + t->o.paths, B = r->batch, T = t->context;
    int64_t at = supernet_steps(t->net);
    if (supertrain_done(t)) return ST_ESTATE;
    struct arch *arch = malloc((size_t)n * sizeof *arch);
    const struct arch *path[SUPERNET_PATHS_MAX];
    st_t st = arch ? data_batch(t->o.data, t->o.seed, (uint64_t)at, B, T, t->tokens, t->targets, err) : base_err_set(err, ST_ENOMEM, "supernet", "out of memory");
    for (int i = 0; i < n && !st; i++) {
        st = supertrain_path(t, (uint64_t)at, i, &arch[i], err);
        path[i] = &arch[i];
    }
    if (!st) st = supernet_step(t->net, path, n, t->tokens, t->targets, B, T, t->loss, err);
    free(arch);
    for (int i = 0; i < n && !st; i++)
        if (!isfinite(t->loss[i])) st = base_err_set(err, ST_ENONFINITE, "", "the loss of path %d is %g at step %lld of %lld", i, t->loss[i], (long long)at + 1, (long long)t->steps);
    if (st) return st;
    struct model_hyper h = hyper(r, trainer_lr(r, at, t->steps), t->width);
    st = supernet_update(t->net, &h, NULL);
    if (st == ST_ENONFINITE) base_err_set(err, st, "", "the gradient is not finite at step %lld of %lld", (long long)at + 1, (long long)t->steps);
    return st;
}

bool supertrain_done(const struct supertrain *t)
{
    return supernet_steps(t->net) >= t->steps;
}

int64_t supertrain_steps(const struct supertrain *t)
{
    return t->steps;
}

int64_t supertrain_at(const struct supertrain *t)
{
    return supernet_steps(t->net);
}

double supertrain_loss(const struct supertrain *t, int path)
{
    return t->loss[path];
}

struct supernet *supertrain_net(struct supertrain *t)
{
    return t->net;
}

st_t supertrain_candidate(struct supertrain *t, const struct arch *a, bool adapts, struct model **out, struct base_err *err)
{
    struct model_opts o = {.train = adapts, .batch = t->o.train.batch, .precision = t->o.precision, .memory_limit = t->o.memory_limit};
    return supernet_slice(t->net, a, &o, out, err);
}

st_t supertrain_weights(struct supertrain *t, const struct arch *a, struct model **out, struct base_err *err)
{
    return supernet_slice(t->net, a, &(struct model_opts){.memory_limit = t->o.memory_limit}, out, err);
}

st_t supertrain_room(struct supertrain *t, struct base_err *err)
{
    struct model *m = NULL;
    struct base_err e = BASE_ERR_INIT;
    struct arch *a = malloc(sizeof *a);
    st_t st = a ? supertrain_path(t, 0, 0, a, err) : base_err_set(err, ST_ENOMEM, "supernet", "out of memory");
    if (!st && (st = supertrain_candidate(t, a, true, &m, &e))) base_err_set(err, st, "supernet", "beside it the largest candidate, trained on from it, %s", e.what);
    model_free(m);
    free(a);
    return st;
}

st_t supertrain_adapt(struct supertrain *t, struct model *m, int64_t i, int64_t n, struct base_err *err)
{
    const struct job_train *r = &t->o.train;
    double loss;
    struct model_hyper h = hyper(r, r->lr * (double)(n - i) / (double)n, model_arch(m)->width);
    st_t st = data_batch(t->o.data, t->o.seed + ADAPT_STREAM, (uint64_t)i, r->batch, t->context, t->tokens, t->targets, err);
    if (!st) st = model_step(m, t->tokens, t->targets, r->batch, t->context, &loss);
    if (!st) st = model_update(m, &h, NULL);
    return st == ST_ENONFINITE ? base_err_set(err, st, "", "the gradient is not finite at step %lld of %lld on from inherited weights", (long long)i + 1, (long long)n) : st;
}

st_t supertrain_validate(struct supertrain *t, struct model *m, double *nats_per_token, double *bits_per_byte, struct base_err *err)
{
    int T = t->context, B = t->o.train.batch, n = data_valid_windows(t->o.data, T);
    double sum = 0;
    for (int i = 0; i < n; i += B) {
        int b = n - i < B ? n - i : B;
        double part;
        st_t st = ST_OK;
        for (int k = 0; k < b && !st; k++) st = data_valid_window(t->o.data, i + k, T, t->tokens + (size_t)k * T, t->targets + (size_t)k * T, err);
        if (!st) st = model_loss(m, t->tokens, t->targets, b, T, &part);
        if (st) return st;
        sum += part * b;
    }
    *nats_per_token = sum / n;
    *bits_per_byte = data_is_bytes(t->o.data) ? *nats_per_token / log(2) : NAN;
    return isfinite(sum) ? ST_OK : base_err_set(err, ST_ENONFINITE, "", "the validation loss is %g", *nats_per_token);
}

st_t supertrain_save(struct supertrain *t, const char *path, char sha256[BASE_SHA256_HEX], uint64_t *bytes, struct base_err *err)
{
    return supernet_save(t->net, path, &(struct ckpt_meta){IDENTITY_KEY, t->identity}, 1, sha256, bytes, err);
}

st_t supertrain_load(struct supertrain *t, const char *path, struct base_err *err)
{
    char *identity;
    st_t st = model_load_meta(path, IDENTITY_KEY, &identity, err);
    if (st) return st;
    bool own = !strcmp(identity, t->identity);
    free(identity);
    if (!own) return base_err_set(err, ST_ESTALE, path, "is the checkpoint of another supernet");
    return supernet_load(t->net, path, err);
}

st_t supertrain_take(struct supertrain *t, const char *path, struct base_err *err)
{
    st_t st = supernet_load(t->net, path, err);
    return st || supertrain_done(t) ? st : base_err_set(err, ST_ESTALE, path, "is not trained to its end");
}
