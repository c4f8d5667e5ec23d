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
    struct supertrain_opts s = {.data = h->data, .space = h->space, .dev = o->dev, .train = o->train, .tokens = o->tokens, .paths = SUPERTRAIN_PATHS, .seed = o->seed,
                                .precision = o->precision};
    supertrain_free(h->train);
    h->train = NULL;
    return supertrain_new(&h->train, &s, err);
}

/* From the file, where it is this one's. */
static st_t take_up(struct inherit *h, const struct inherit_opts *o, struct base_err *err)
{
    struct base_err e = BASE_ERR_INIT;
    st_t st = space_new(&h->space, o->space, o->vocab, o->context, err);
    if (!st) st = data_open(&h->data, o->data, true, err);
    if (!st) st = begin(h, o, err);
    if (st || access(o->path, F_OK)) return st;
    if (!supertrain_load(h->train, o->path, &e)) {
        log_info("job %lld: supernet on from step %lld of %lld", (long long)o->job, (long long)supertrain_at(h->train), (long long)supertrain_steps(h->train));
        return ST_OK;
    }
    log_info("job %lld: supernet's checkpoint not usable (%s: %s); training from the start", (long long)o->job, e.where, e.what);
    return begin(h, o, err);
}

static void save(struct inherit *h, const struct inherit_opts *o, bool *told)
{
    struct base_err e = BASE_ERR_INIT;
    if (!supertrain_save(h->train, o->path, NULL, NULL, &e) || *told) return;
    *told = true;
    log_warn("job %lld: no checkpoint of the supernet at step %lld: %s: %s; going on without", (long long)o->job, (long long)supertrain_at(h->train), e.where, e.what);
}

static st_t train(struct inherit *h, const struct inherit_opts *o, struct base_err *err)
{
    uint64_t saved = base_clock_ns();
    int64_t first = supertrain_at(h->train);
    bool told = false;
    st_t st = ST_OK;
    while (!st && !supertrain_done(h->train)) {
        st = hostlock_shared(o->lock);
        if (!st) st = supertrain_step(h->train, err);
        bool due = (double)(base_clock_ns() - saved) * 1e-9 >= o->checkpoint_s;
        if (!st && (due || supertrain_done(h->train))) {
            save(h, o, &told);
            saved = base_clock_ns();
        }
        hostlock_unlock(o->lock);
        if (!st && !o->go(o->ctx)) st = ST_ECANCELED;
    }
    if (st == ST_ECANCELED) {
        if (supertrain_at(h->train) > first) save(h, o, &told);
        base_err_set(err, st, "", "stopped");
    } else if (!st && supertrain_at(h->train) > first) {
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
