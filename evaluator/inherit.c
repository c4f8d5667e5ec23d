#include "evaluator/inherit.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "searchspace/space.h"

void inherit_drop(struct inherit *h)
{
    supertrain_free(h->train);
    data_close(h->data);
    space_free(h->space);
    *h = (struct inherit){0};
}

static st_t begin(struct inherit *h, const struct inherit_opts *o, struct base_err *err)
{
    struct supertrain_opts s = {.data = h->data, .space = h->space, .dev = o->dev, .train = o->train, .tokens = o->tokens, .paths = SUPERTRAIN_PATHS, .mix = SUPERTRAIN_MIX, .seed = o->seed,
                                .precision = o->precision};
    supertrain_free(h->train);
    h->train = NULL;
    return supertrain_new(&h->train, &s, err);
}

static double tokens(const struct inherit *h, const struct inherit_opts *o)
{
    return (double)supertrain_at(h->train) * o->train.batch * o->context;
}

static st_t check_hash(const char *path, const char *hash, struct base_err *err)
{
    char sha[BASE_SHA256_HEX];
    uint64_t bytes;
    st_t st = base_sha256_file(path, sha, &bytes);
    if (st) return base_err_set(err, st, path, "%s", base_status_text(st));
    return strcmp(sha, hash) ? base_err_set(err, ST_ECORRUPT, path, "its content is not what was reported") : ST_OK;
}

/* The trained one, whoever trained it. */
static st_t take(struct inherit *h, const struct inherit_opts *o, struct base_err *err)
{
    struct base_err e = BASE_ERR_INIT;
    st_t st = check_hash(o->from, o->hash, &e);
    if (!st) st = supertrain_take(h->train, o->from, &e);
    if (!st) log_info("job %lld: supernet taken from %s", (long long)o->job, o->from);
    else log_warn("job %lld: the supernet that was trained cannot be taken (%s: %s); training it here", (long long)o->job, e.where, e.what);
    return st ? begin(h, o, err) : ST_OK;
}

/* One of them, if it is a checkpoint of this training. What tautd knows of is what it was reported to be; what it does not know of yet is further on. */
static st_t load(struct inherit *h, const struct inherit_opts *o, const char *path, struct base_err *err)
{
    struct base_err e = BASE_ERR_INIT;
    st_t st = supertrain_load(h->train, path, &e);
    if (!st && o->hash && !o->trained && tokens(h, o) <= o->reached) st = check_hash(path, o->hash, &e);
    if (!st) {
        log_info("job %lld: supernet on from step %lld of %lld", (long long)o->job, (long long)supertrain_at(h->train), (long long)supertrain_steps(h->train));
        return ST_OK;
    }
    log_info("job %lld: supernet's checkpoint not usable (%s: %s)", (long long)o->job, e.where, e.what);
    return begin(h, o, err);
}

static st_t take_up(struct inherit *h, const struct inherit_opts *o, struct base_err *err)
{
    bool same = o->from && !strcmp(o->from, o->path), own = !access(o->path, F_OK);
    st_t st = space_new(&h->space, o->space, o->vocab, o->context, err);
    if (!st) st = data_open(&h->data, o->data, true, err);
    if (!st) st = begin(h, o, err);
    if (!st && o->from && o->trained) st = take(h, o, err);
    if (!st && own && !supertrain_done(h->train)) {
        st = load(h, o, o->path, err);
        h->written = !st && supertrain_at(h->train);
    }
    if (!st && o->from && !o->trained && !same && tokens(h, o) < o->reached && !access(o->from, F_OK)) {
        st = begin(h, o, err);
        if (!st) st = load(h, o, o->from, err);
        h->written = false;
    }
    if (!st) h->first = supertrain_at(h->train);
    return st;
}

st_t inherit_save(struct inherit *h, const struct inherit_opts *o, char sha256[BASE_SHA256_HEX], uint64_t *bytes, struct base_err *err)
{
    st_t st = supertrain_save(h->train, o->path, sha256, bytes, err);
    h->written = !st;
    return st;
}

static void save(struct inherit *h, const struct inherit_opts *o, bool *told)
{
    char sha[BASE_SHA256_HEX];
    uint64_t bytes;
    struct base_err e = BASE_ERR_INIT;
    if (!inherit_save(h, o, sha, &bytes, &e)) {
        if (o->saved) o->saved(o->ctx, sha, bytes);
        return;
    }
    if (*told) return;
    *told = true;
    log_warn("job %lld: no checkpoint of the supernet at step %lld: %s: %s; going on without", (long long)o->job, (long long)supertrain_at(h->train), e.where, e.what);
}

static st_t train(struct inherit *h, const struct inherit_opts *o, struct base_err *err)
{
    uint64_t saved = base_clock_ns();
    bool told = false;
    st_t st = o->room && !supertrain_at(h->train) ? supertrain_room(h->train, err) : ST_OK;
    while (!st && !supertrain_done(h->train)) {
        st = hostlock_shared(o->lock);
        if (!st) st = supertrain_step(h->train, err);
        if (!st) h->written = false;
        bool due = (double)(base_clock_ns() - saved) * 1e-9 >= o->checkpoint_s;
        if (!st && (due || supertrain_done(h->train))) {
            save(h, o, &told);
            saved = base_clock_ns();
        }
        hostlock_unlock(o->lock);
        if (!st && !o->go(o->ctx)) st = ST_ECANCELED;
    }
    if (st == ST_ECANCELED) {
        if (supertrain_at(h->train) > h->first && !h->written) save(h, o, &told);
        base_err_set(err, st, "", "stopped");
    } else if (!st && supertrain_at(h->train) > h->first) {
        log_info("job %lld: supernet trained: %lld steps", (long long)o->job, (long long)supertrain_at(h->train));
    }
    return st;
}

/* Job numbers begin anew with a new store: what is asked for says which supernet it is. */
static st_t make_key(char key[BASE_ID_HEX], const struct inherit_opts *o)
{
    struct base_buf b = BASE_BUF_INIT;
    json_t *v = json_pack("{s:I,s:O,s:O,s:i,s:i,s:f,s:I,s:i}", "job", (json_int_t)o->job, "space", o->space, "data", o->data, "batch", o->train.batch, "mup", o->train.mup,
                          "tokens", o->tokens, "seed", (json_int_t)o->seed, "precision", (int)o->precision);
    char *text = v ? json_dumps(v, JSON_SORT_KEYS) : NULL;
    base_buf_printf(&b, "%s %.17g %.17g %.17g %.17g", text ? text : "", o->train.lr, o->train.weight_decay, o->train.warmup, o->train.decay);
    st_t st = text ? b.st : ST_ENOMEM;
    if (!st) base_id_hex(b.p, b.len, key);
    base_buf_fini(&b);
    free(text);
    json_decref(v);
    return st;
}

st_t inherit_ready(struct inherit *h, const struct inherit_opts *o, struct base_err *err)
{
    char key[BASE_ID_HEX];
    st_t st = make_key(key, o);
    if (st) return base_err_set(err, st, "supernet", "out of memory");
    if (h->train && !strcmp(h->key, key)) return ST_OK;
    inherit_drop(h);
    memcpy(h->key, key, sizeof key);
    st = take_up(h, o, err);
    if (!st) st = train(h, o, err);
    if (!st) st = data_verify(o->data, err);
    if (st) inherit_drop(h);
    return st;
}
