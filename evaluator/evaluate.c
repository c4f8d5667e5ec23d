#include "evaluator/evaluate.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "evaluator/inherit.h"
#include "evaluator/profiler.h"
#include "evaluator/score.h"
#include "evaluator/trainer.h"
#include "evaluator/trial.h"
#include "model/checkpoint.h"

#define RETRY_MS 500       /* between attempts to write, or to be heard */
#define MARKS 4            /* of a rung's trunk: after each quarter */

struct evaluate {
    struct evaluate_opts o;
    struct trainer *trainer;   /* of the trial in hand; NULL: not training */
    double joules;             /* last reading of energy */
    bool full;                 /* the last checkpoint could not be written, and that was said */
    struct inherit super;      /* supernet of the job whose candidates inherit … */
    const struct trial *teach; /* … while it is trained for its own lease, that; NULL: it is not */
    double super_joules;       /* of that training here */
    json_t *saved;             /* its last checkpoint; NULL: none … */
    bool unsaid;               /* … and tautd has yet to hear of it */
    double mark[MARKS + 1];    /* tokens up to which tautd has yet to hear the curve, and say whether the trial goes on */
    int nmarks;
    char spent[512];           /* file that nothing goes on from once the report is sent; "": none */
};

/* What has gone by since the last reading counts for the training. Often enough, or a counter wraps unseen. */
static void spend(struct evaluate *ev)
{
    double now, before = ev->joules;
    if (!ev->o.energy) return;
    st_t st = energy_read(ev->o.energy, &now);
    if (!st) ev->joules = now;
    if (ev->trainer) trainer_joules_add(ev->trainer, st ? NAN : now - before);
    ev->super_joules += st ? NAN : now - before;
}

static json_t *curve_json(const struct trainer *tr, double upto)
{
    int n;
    const struct trainer_point *c = trainer_curve(tr, &n);
    json_t *v = json_array();
    for (int i = 0; i < n && c[i].tokens <= upto; i++) json_array_append_new(v, json_pack("[f, f]", c[i].tokens, c[i].loss));
    return v;
}

static double super_tokens(const struct evaluate *ev)
{
    return (double)supertrain_at(ev->super.train) * ev->teach->train.batch * ev->teach->context;
}

/* The heartbeat; a checkpoint (new reference, may be NULL) or the curve up to so many tokens (0: none) makes it one that must be durable. False: the trial is to stop. */
static bool progress(struct evaluate *ev, json_t *checkpoint, double upto)
{
    const struct trainer *t = ev->trainer;
    const struct supertrain *s = ev->teach ? ev->super.train : NULL;
    json_t *p = json_object();
    spend(ev);
    if (t) {
        json_object_set_new(p, "step", json_integer(trainer_at(t)));
        json_object_set_new(p, "tokens", json_real(trainer_tokens(t)));
        json_object_set_new(p, "loss", json_real(trainer_loss(t)));
    } else if (s) {
        json_object_set_new(p, "step", json_integer(supertrain_at(s)));
        json_object_set_new(p, "tokens", json_real(super_tokens(ev)));
        if (supertrain_at(s) > ev->super.first) json_object_set_new(p, "loss", json_real(supertrain_loss(s, 0)));
        if (ev->unsaid) checkpoint = json_incref(ev->saved);
        ev->unsaid = false;
    }
    if (checkpoint) json_object_set_new(p, "checkpoint", checkpoint);
    if (t && upto > 0) json_object_set_new(p, "curve", curve_json(t, upto));
    return lessee_progress(ev->o.lessee, p);
}

/* Between steps and samples, and while something is waited for. */
static bool go(void *ctx)
{
    struct evaluate *ev = ctx;
    return lessee_held(ev->o.lessee) && (!(ev->unsaid || lessee_due(ev->o.lessee)) || progress(ev, NULL, 0));
}

static json_t *checkpoint_json(const char *path, const char *sha, uint64_t bytes, double tokens)
{
    return json_pack("{s:s, s:s, s:I, s:f}", "path", path, "hash", sha, "bytes", (json_int_t)bytes, "tokens", tokens);
}

/* NULL, and a line the first time: it cannot be written. Then the last one still stands, and whoever goes on does so from there, to the same bits. */
static json_t *save(struct evaluate *ev, const struct trial *t)
{
    char sha[BASE_SHA256_HEX];
    uint64_t bytes;
    struct base_err err = BASE_ERR_INIT;
    spend(ev);
    st_t st = trainer_save(ev->trainer, t->path, sha, &bytes, &err);
    if (st && !ev->full)
        log_warn("trial %lld: no checkpoint at step %lld: %s: %s; going on without", (long long)t->id, (long long)trainer_at(ev->trainer), err.where, err.what);
    if (!st && ev->full) log_warn("trial %lld: checkpoints are written again", (long long)t->id);
    ev->full = st != ST_OK;
    return st ? NULL : checkpoint_json(t->path, sha, bytes, trainer_tokens(ev->trainer));
}

/* At path, m's weights, or (NULL) the trainer with all that it knows. That there is no room, or that the folder is not there, is no fault of the trial: waits.
 * ST_ECANCELED: told to stop meanwhile. */
static st_t save_finished(struct evaluate *ev, const struct trial *t, const char *path, struct model *m, double tokens, json_t **checkpoint, struct base_err *err)
{
    char sha[BASE_SHA256_HEX];
    uint64_t bytes;
    bool told = false;
    struct base_err e = BASE_ERR_INIT;
    for (;;) {
        st_t st = m ? model_save(m, path, false, NULL, 0, sha, &bytes, &e) : trainer_save(ev->trainer, path, sha, &bytes, &e);
        if (!st) break;
        if (st != ST_ENOSPC && st != ST_EIO) return base_err_set(err, st, e.where, "%s", e.what);
        if (!told) log_warn("trial %lld: its weights cannot be written: %s: %s; waiting for room", (long long)t->id, e.where, e.what);
        told = true;
        if (!go(ev)) return base_err_set(err, ST_ECANCELED, "", "stopped");
        lessee_rest(RETRY_MS);
    }
    if (told) log_warn("trial %lld: its weights are written now", (long long)t->id);
    json_decref(*checkpoint);
    *checkpoint = checkpoint_json(path, sha, bytes, tokens);
    return ST_OK;
}

/* What the trial leaves: its weights and nothing else, the same bytes whatever happened on the way. */
static st_t save_weights(struct evaluate *ev, const struct trial *t, double tokens, json_t **checkpoint, struct base_err *err)
{
    struct model *m = NULL;
    struct model_opts o = {.batch = 0};
    st_t st = model_new(&m, &t->arch, ev->o.dev, &o, err);
    if (!st) st = model_load(m, t->path, false, err);
    if (!st) st = save_finished(ev, t, t->path, m, tokens, checkpoint, err);
    model_free(m);
    return st;
}

static bool below_top(const struct trial *t)
{
    return t->rung < t->rungs - 1;
}

/* Steps of a rung before its decay. */
static int64_t trunk_steps(const struct trial *t, double tokens)
{
    double step = (double)t->train.batch * t->arch.context, S = fmax(ceil(tokens / step), 1);
    return (int64_t)(S - round(t->train.decay * S));
}

/* After each quarter of a rung's trunk tautd hears the curve up to there, and says whether the trial is still worth its time: at the same tokens in every run. The last
 * quarter ends where the trunk is left, and is asked about where there is a rung to go on to. */
static int64_t mark_step(const struct trial *t, int quarter)
{
    int64_t trunk = trunk_steps(t, t->tokens);
    return (trunk * quarter + MARKS - 1) / MARKS;
}

static void add_mark(struct evaluate *ev, const struct trial *t, int64_t step)
{
    double tokens = (double)step * t->train.batch * t->arch.context;
    if (ev->nmarks > MARKS || (ev->nmarks && ev->mark[ev->nmarks - 1] >= tokens)) return;
    ev->mark[ev->nmarks++] = tokens;
}

/* The marks that are behind a trial which goes on from `at`: nobody knows whether tautd heard of them. */
static void past_marks(struct evaluate *ev, const struct trial *t, int64_t at)
{
    int64_t below = t->rung ? trunk_steps(t, t->rung_tokens[t->rung - 1]) : 0;
    ev->nmarks = 0;
    for (int q = 1; t->rungs && q <= MARKS - !below_top(t); q++)
        if (mark_step(t, q) > below && mark_step(t, q) <= at) add_mark(ev, t, mark_step(t, q));
}

/* In their order, as far as tautd is there to hear them. False: the trial is to stop. */
static bool tell_marks(struct evaluate *ev)
{
    while (ev->nmarks) {
        if (!progress(ev, NULL, ev->mark[0])) return false;
        if (!lessee_heard(ev->o.lessee)) break;
        memmove(ev->mark, ev->mark + 1, (size_t)--ev->nmarks * sizeof *ev->mark);
    }
    return true;
}

/* Where the rung leaves the trunk: what a promotion goes on from, and this trial too, should it be stopped in the decay. */
static st_t leave_trunk(struct evaluate *ev, const struct trial *t, json_t **stable, struct base_err *err)
{
    if (!below_top(t) || trainer_at(ev->trainer) != trainer_stable(ev->trainer)) return ST_OK;
    spend(ev);
    st_t st = save_finished(ev, t, t->stable, NULL, trainer_tokens(ev->trainer), stable, err);
    add_mark(ev, t, trainer_at(ev->trainer));
    if (!st && !(progress(ev, json_incref(*stable), 0) && tell_marks(ev))) st = base_err_set(err, ST_ECANCELED, "", "stopped");
    return st;
}

static bool at_mark(const struct trial *t, int64_t at)
{
    for (int q = 1; t->rungs && q < MARKS; q++)
        if (at == mark_step(t, q) && at < trunk_steps(t, t->tokens)) return true;
    return false;
}

/* ST_ECANCELED: stopped or taken back; *checkpoint then says where it stands. */
static st_t train(struct evaluate *ev, const struct trial *t, json_t **checkpoint, json_t **stable, struct base_err *err)
{
    struct trainer *tr = ev->trainer;
    uint64_t saved = base_clock_ns();
    int64_t first = trainer_at(tr), trunk = trainer_stable(tr);
    past_marks(ev, t, first);
    st_t st = leave_trunk(ev, t, stable, err);
    while (!st && !trainer_done(tr)) {
        /* Not held while tautd is spoken to: a daemon that hangs must not keep others on this host from timing. */
        st = hostlock_shared(ev->o.lock);
        if (!st) st = trainer_step(tr, err);
        json_t *c = NULL;
        if (!st && trainer_at(tr) < trunk && (double)(base_clock_ns() - saved) * 1e-9 >= ev->o.checkpoint_s) {
            c = save(ev, t);
            saved = base_clock_ns();
        }
        hostlock_unlock(ev->o.lock);
        if (!st) st = leave_trunk(ev, t, stable, err);
        if (st || trainer_done(tr)) break;
        bool mark = at_mark(t, trainer_at(tr)), due = lessee_due(ev->o.lessee);
        if (mark) add_mark(ev, t, trainer_at(tr));
        if ((c && !progress(ev, c, 0)) || (ev->nmarks && (mark || due) ? !tell_marks(ev) : !go(ev))) st = ST_ECANCELED;
    }
    while (!st && ev->nmarks) {
        if (!tell_marks(ev)) st = ST_ECANCELED;
        else if (ev->nmarks) lessee_rest(RETRY_MS);
        if (!st && ev->nmarks && !go(ev)) st = ST_ECANCELED;
    }
    spend(ev);
    if (st != ST_ECANCELED) return st;
    if (trainer_at(tr) > first && trainer_at(tr) < trunk) *checkpoint = save(ev, t);
    return base_err_set(err, st, "", "stopped");
}

static void put_measured(json_t *metrics, const struct measured *m)
{
    json_t *v = json_pack("{s:f, s:f, s:f, s:i}", "median", m->median, "low", m->low, "high", m->high, "n", m->n);
    json_object_set_new(metrics, m->name, v);
    if (m->n == 1) return; /* a count */
    json_object_set_new(v, "converged", json_boolean(m->converged));
    if (isnan(m->ratio)) return; /* energy: windows, not samples beside the anchor's */
    struct arch anchor;
    char id[BASE_ID_HEX];
    profile_anchor_arch(&anchor);
    space_arch_id(&anchor, id);
    json_object_set_new(v, "ratio", json_pack("[f, f, f]", m->ratio, m->ratio_low, m->ratio_high));
    json_object_set_new(v, "anchor", json_string(id));
    json_object_set_new(v, "disturbed", json_real(m->disturbed));
    json_object_set_new(v, "rejected", json_integer(m->rejected));
}

static bool among(json_t *names, const char *name)
{
    json_t *v;
    size_t i;
    json_array_foreach(names, i, v)
        if (json_is_string(v) && !strcmp(json_string_value(v), name)) return true;
    return false;
}

/* What is measured once all else is known: tautd may know enough of it by then. */
static st_t profile(struct evaluate *ev, const struct trial *t, json_t *metrics, struct base_err *err)
{
    struct metric want[TRIAL_METRICS_MAX];
    struct measured got[TRIAL_METRICS_MAX];
    json_t *answer = NULL;
    int n = 0, timed = 0;
    for (int i = 0; i < t->nmetrics; i++) timed += t->metric[i].source == METRIC_PROFILE;
    if (timed && !lessee_ask(ev->o.lessee, json_pack("{s:O}", "metrics", metrics), &answer)) {
        json_decref(answer);
        return base_err_set(err, ST_ECANCELED, "", "stopped");
    }
    json_t *modelled = json_object_get(answer, "modelled");
    for (int i = 0; i < t->nmetrics; i++)
        if ((t->metric[i].source == METRIC_PROFILE && !among(modelled, t->metric[i].name)) || (t->metric[i].source == METRIC_ENERGY && t->metric[i].context)) want[n++] = t->metric[i];
    json_decref(answer);
    if (!n) return ST_OK;
    struct profile_opts o = {.go = go, .ctx = ev, .weights = t->decode};
    st_t st = hostlock_exclusive(ev->o.lock);
    if (!st) st = profile_run(&t->arch, ev->o.dev, ev->o.energy, want, n, &o, got, err);
    hostlock_unlock(ev->o.lock);
    for (int i = 0; !st && i < n; i++) put_measured(metrics, &got[i]);
    return st;
}

/* The proxies that are wanted, of the untrained candidate. What does not apply to it, or has no room, is left out, and said. */
static st_t score(struct evaluate *ev, const struct trial *t, struct data *data, json_t *metrics, struct base_err *err)
{
    struct proxy_result got[TRIAL_METRICS_MAX];
    st_t st = hostlock_shared(ev->o.lock);
    if (!st) st = score_run(&t->arch, data, ev->o.dev, t->seed, t->metric, t->nmetrics, got, err);
    hostlock_unlock(ev->o.lock);
    if (st == ST_ENOFIT) {
        log_info("trial %lld: no proxies: %s", (long long)t->id, err->what);
        *err = (struct base_err)BASE_ERR_INIT;
        return ST_OK;
    }
    for (int i = 0; !st && i < t->nmetrics; i++) {
        if (!got[i].st) json_object_set_new(metrics, t->metric[i].name, json_real(got[i].value));
        else if (score_proxy(&t->metric[i]) >= 0) log_info("trial %lld: no %s: %s", (long long)t->id, t->metric[i].name, got[i].err.what);
    }
    return st;
}

static bool scored(const struct trial *t)
{
    for (int i = 0; i < t->nmetrics; i++)
        if (score_proxy(&t->metric[i]) >= 0) return true;
    return false;
}

static bool wanted(const struct trial *t, const char *metric)
{
    for (int i = 0; i < t->nmetrics; i++)
        if (!strcmp(t->metric[i].name, metric)) return true;
    return false;
}

/* Is what was just loaded to be gone on from? Not if the file is another than was reported, unless it is a later one that nobody could be told of. */
static st_t check_resumed(const struct trial *t, const struct trainer *tr, const char *path, struct base_err *err)
{
    char sha[BASE_SHA256_HEX];
    uint64_t bytes;
    if (t->hash && trainer_tokens(tr) <= t->reached) {
        st_t st = base_sha256_file(path, sha, &bytes);
        if (st || strcmp(sha, t->hash)) return base_err_set(err, ST_ECORRUPT, path, "its content is not what was reported");
    }
    if (wanted(t, "train_joules") && isnan(trainer_joules(tr))) return base_err_set(err, ST_ENOTSUP, path, "what it took in energy is not known");
    return ST_OK;
}

/* Goes on from where the trial got to, as far as that can be used: the same training from its start gives the same bits. */
static st_t begin(struct evaluate *ev, const struct trial *t, const struct trainer_opts *o, struct base_err *err)
{
    bool own = !access(t->path, F_OK);
    const char *from = t->checkpoint ? t->checkpoint : own ? t->path : NULL;
    struct base_err e = BASE_ERR_INIT;
    st_t st = trainer_new(&ev->trainer, o, err);
    if (st || !from) return st;
    if (t->rungs && own && strcmp(from, t->path)) { /* what was reported is the trunk's: the rung itself may be further on */
        if (!trainer_load(ev->trainer, t->path, &e) && trainer_tokens(ev->trainer) > t->reached) {
            log_info("trial %lld: on from step %lld", (long long)t->id, (long long)trainer_at(ev->trainer));
            return ST_OK;
        }
        trainer_free(ev->trainer);
        ev->trainer = NULL;
        if ((st = trainer_new(&ev->trainer, o, err))) return st;
    }
    st_t l = trainer_load(ev->trainer, from, &e);
    if (!l) l = check_resumed(t, ev->trainer, from, &e);
    if (!l) {
        log_info("trial %lld: on from step %lld", (long long)t->id, (long long)trainer_at(ev->trainer));
        return ST_OK;
    }
    base_log(t->checkpoint ? LOG_WARN : LOG_INFO, "trial %lld: checkpoint not usable (%s: %s); training from the start", (long long)t->id, e.where, e.what);
    trainer_free(ev->trainer);
    ev->trainer = NULL;
    return trainer_new(&ev->trainer, o, err);
}

/* A trial that was finished before it was stopped left the trunk then; NULL: the file is gone, and a promotion starts anew. */
static json_t *kept_stable(struct evaluate *ev, const struct trial *t)
{
    char sha[BASE_SHA256_HEX];
    uint64_t bytes;
    double step = (double)t->train.batch * t->arch.context;
    if (base_sha256_file(t->stable, sha, &bytes)) return NULL;
    return checkpoint_json(t->stable, sha, bytes, (double)trainer_stable(ev->trainer) * step);
}

static struct inherit_opts super_opts(struct evaluate *ev, const struct trial *t)
{
    return (struct inherit_opts){.job = t->job, .path = t->super_path, .space = t->space, .data = t->data, .vocab = t->vocab, .context = t->context, .dev = ev->o.dev,
                                 .train = t->train, .tokens = t->super_tokens, .seed = t->seed, .precision = t->precision, .lock = ev->o.lock,
                                 .checkpoint_s = ev->o.checkpoint_s, .go = go, .ctx = ev};
}

static st_t ready(struct evaluate *ev, const struct trial *t, struct base_err *err)
{
    struct inherit_opts o = super_opts(ev, t);
    o.from = t->super_hash ? t->super_file : NULL;
    o.hash = t->super_hash;
    o.trained = o.from != NULL;
    if (o.trained) o.path = t->super_own;
    return inherit_ready(&ev->super, &o, err);
}

static void keep_saved(void *ctx, const char *sha, uint64_t bytes)
{
    struct evaluate *ev = ctx;
    json_decref(ev->saved);
    ev->saved = checkpoint_json(ev->teach->super_path, sha, bytes, super_tokens(ev));
    ev->unsaid = true;
}

/* The file that candidates inherit from must be there. That there is no room waits, as with a trial's weights. */
static st_t keep_supernet(struct evaluate *ev, const struct inherit_opts *o, json_t **checkpoint, struct base_err *err)
{
    char sha[BASE_SHA256_HEX];
    uint64_t bytes;
    bool told = false;
    struct base_err e = BASE_ERR_INIT;
    st_t st = ev->super.written ? base_sha256_file(o->path, sha, &bytes) : ST_EIO;
    while (st) {
        st = inherit_save(&ev->super, o, sha, &bytes, &e);
        if (!st) break;
        if (st != ST_ENOSPC && st != ST_EIO) return base_err_set(err, st, e.where, "%s", e.what);
        if (!told) log_warn("job %lld: the supernet cannot be written: %s: %s; waiting for room", (long long)o->job, e.where, e.what);
        told = true;
        if (!go(ev)) return base_err_set(err, ST_ECANCELED, "", "stopped");
        lessee_rest(RETRY_MS);
    }
    *checkpoint = checkpoint_json(o->path, sha, bytes, super_tokens(ev));
    return ST_OK;
}

/* The supernet's own lease: its checkpoint, the last one where it is stopped, is all that comes of it. */
static st_t teach(struct evaluate *ev, const struct trial *t, json_t *report, struct base_err *err)
{
    struct inherit_opts o = super_opts(ev, t);
    json_t *checkpoint = NULL;
    o.from = t->hash ? t->checkpoint : NULL;
    o.hash = t->hash;
    o.reached = t->reached;
    o.saved = keep_saved;
    o.room = t->adapt_tokens > 0;
    spend(ev);
    ev->super_joules = 0;
    ev->teach = t;
    inherit_drop(&ev->super); /* what is held may not be on disk */
    st_t st = inherit_ready(&ev->super, &o, err);
    spend(ev);
    if (!st) st = keep_supernet(ev, &o, &checkpoint, err);
    if (!st && !ev->super.first && ev->super_joules > 0) json_object_set_new(report, "joules", json_real(ev->super_joules));
    ev->teach = NULL;
    if (!checkpoint) checkpoint = ev->saved;
    else json_decref(ev->saved);
    ev->saved = NULL;
    ev->unsaid = false;
    if (checkpoint) json_object_set_new(report, "checkpoint", checkpoint);
    return st;
}

/* On from what it inherits, for as long as the lease says. */
static st_t adapt(struct evaluate *ev, const struct trial *t, struct model *m, struct base_err *err)
{
    int64_t n = (int64_t)ceil(t->adapt_tokens / ((double)t->train.batch * t->context));
    st_t st = ST_OK;
    for (int64_t i = 0; i < n && !st; i++) {
        if (!go(ev)) return base_err_set(err, ST_ECANCELED, "", "stopped");
        st = hostlock_shared(ev->o.lock);
        if (!st) st = supertrain_adapt(ev->super.train, m, i, n, err);
        hostlock_unlock(ev->o.lock);
    }
    return st;
}

/* What a candidate says with the weights of the job's supernet, and those weights as ordinary ones. */
static st_t inherit(struct evaluate *ev, const struct trial *t, json_t *metrics, json_t **checkpoint, struct base_err *err)
{
    struct model *m;
    double nats, bpb;
    st_t st = ready(ev, t, err);
    if (!st) st = supertrain_candidate(ev->super.train, &t->arch, t->adapt_tokens > 0, &m, err);
    if (st) return st;
    st = adapt(ev, t, m, err);
    if (!st) st = hostlock_shared(ev->o.lock);
    if (!st) st = supertrain_validate(ev->super.train, m, &nats, &bpb, err);
    hostlock_unlock(ev->o.lock);
    if (!st) st = data_verify(t->data, err); /* as in learn(): nobody looked since the supernet was made ready */
    if (!st) st = save_finished(ev, t, t->path, m, t->super_tokens + t->adapt_tokens, checkpoint, err);
    model_free(m);
    if (st) return st;
    json_object_set_new(metrics, "valid_loss", json_real(nats));
    if (!isnan(bpb)) json_object_set_new(metrics, "valid_bpb", json_real(bpb));
    return ST_OK;
}

/* What a training on from inherited weights begins with; the same bits whoever makes it. */
static st_t begin_inherited(struct evaluate *ev, const struct trial *t, struct base_err *err)
{
    struct model *m;
    json_t *saved = NULL;
    st_t st = ready(ev, t, err);
    if (!st) st = supertrain_weights(ev->super.train, &t->arch, &m, err);
    if (st) return st;
    st = save_finished(ev, t, t->init, m, t->super_tokens, &saved, err);
    model_free(m);
    json_decref(saved);
    return st;
}

/* Trains, validates, and writes it all down, so that a trial that is stopped while it is profiled need not train again: what of the report comes from that. */
static st_t learn(struct evaluate *ev, const struct trial *t, struct data *data, json_t *metrics, json_t *report, double *tokens, json_t **checkpoint,
                  json_t **stable, struct base_err *err)
{
    double nats, bpb;
    struct trainer_opts o = {.arch = &t->arch, .data = data, .dev = ev->o.dev, .train = t->train, .tokens = t->tokens, .seed = t->seed,
                             .precision = t->precision, .rungs = t->rungs, .rung = t->rung};
    memcpy(o.rung_tokens, t->rung_tokens, sizeof o.rung_tokens);
    st_t st = t->space ? begin_inherited(ev, t, err) : ST_OK;
    if (st) return st;
    if (t->space) o.init = t->init;
    inherit_drop(&ev->super); /* its memory is the training's */
    spend(ev);
    st = begin(ev, t, &o, err);
    if (!st && !ev->o.energy) trainer_joules_add(ev->trainer, NAN);
    if (!st) st = train(ev, t, checkpoint, stable, err);
    if (!st) st = hostlock_shared(ev->o.lock);
    if (!st) st = trainer_validate(ev->trainer, &nats, &bpb, err);
    hostlock_unlock(ev->o.lock);
    if (!st) st = data_verify(t->data, err); /* all of it was the same text */
    if (!st) st = save_finished(ev, t, t->path, NULL, trainer_tokens(ev->trainer), checkpoint, err);
    if (!st && below_top(t) && !*stable) *stable = kept_stable(ev, t);
    if (!st) {
        struct trainer *tr = ev->trainer;
        *tokens = trainer_tokens(tr);
        json_object_set_new(metrics, "valid_loss", json_real(nats));
        if (!isnan(bpb)) json_object_set_new(metrics, "valid_bpb", json_real(bpb));
        json_object_set_new(metrics, "train_bytes", json_integer((json_int_t)trainer_bytes(tr)));
        json_object_set_new(metrics, "train_tokens_per_s", json_real(trainer_rate(tr)));
        if (!isnan(trainer_joules(tr))) json_object_set_new(metrics, "train_joules", json_real(trainer_joules(tr)));
        json_object_set_new(report, "curve", curve_json(tr, INFINITY));
        if (t->rungs && !isnan(trainer_joules(tr))) json_object_set_new(report, "joules", json_real(trainer_joules_rung(tr)));
    }
    trainer_free(ev->trainer); /* its memory is the profile's */
    ev->trainer = NULL;
    return st;
}

static st_t evaluate(struct evaluate *ev, const struct trial *t, json_t *report, struct base_err *err)
{
    struct data *data = NULL;
    json_t *metrics = json_object(), *checkpoint = NULL, *stable = NULL;
    double tokens = 0;
    bool trains = t->kind == TRIAL_TRAIN;
    if (t->kind == TRIAL_PROFILE) { /* with untrained weights: times do not depend on them */
        json_object_set_new(report, "metrics", metrics);
        return profile(ev, t, metrics, err);
    }
    st_t st = !metrics ? ST_ENOMEM : t->kind == TRIAL_VALIDATE ? inherit(ev, t, metrics, &checkpoint, err) : data_open(&data, t->data, true, err);
    if (!st && t->kind == TRIAL_VALIDATE && scored(t)) st = data_open(&data, t->data, true, err);
    if (!st && data) st = score(ev, t, data, metrics, err);
    if (!st && trains) st = learn(ev, t, data, metrics, report, &tokens, &checkpoint, &stable, err);
    data_close(data);
    if (!st) st = profile(ev, t, metrics, err);
    if (!st && trains) st = save_weights(ev, t, tokens, &checkpoint, err);
    if (!st && trains && t->space) unlink(t->init);
    if (checkpoint) json_object_set_new(report, "checkpoint", checkpoint);
    if (stable) json_object_set_new(report, "stable", stable);
    json_object_set_new(report, "metrics", metrics);
    return st;
}

/* A standard problem's candidate: a formula, and nothing to train. */
static st_t solve(json_t *lease, const char *name, json_t *report, struct base_err *err)
{
    const struct problem *p = problem_find(name);
    double x[PROBLEM_GENES_MAX], y[PROBLEM_METRICS_MAX];
    if (!p) return base_err_set(err, ST_ENOTSUP, "task.problem", "'%.32s' is not served here", name);
    st_t st = problem_read(p, json_object_get(lease, "arch"), x, err);
    if (st) return st;
    problem_values(p, x, y);
    json_object_set_new(report, "metrics", problem_metrics(p, y));
    return ST_OK;
}
st_t evaluate_new(struct evaluate **out, const struct evaluate_opts *o)
{
    struct evaluate *ev = calloc(1, sizeof *ev);
    if (!ev) return ST_ENOMEM;
    ev->o = *o;
    hostlock_on_wait(o->lock, go, ev);
    *out = ev;
    return ST_OK;
}

void evaluate_free(struct evaluate *ev)
{
    if (!ev) return;
    hostlock_on_wait(ev->o.lock, NULL, NULL);
    inherit_drop(&ev->super);
    free(ev);
}

st_t evaluate_lease(struct evaluate *ev, json_t *lease, json_t *report, struct base_err *err)
{
    struct trial t = {0};
    const char *problem = json_string_value(json_object_get(json_object_get(lease, "task"), "problem"));
    ev->spent[0] = 0;
    if (problem) return solve(lease, problem, report, err);
    st_t st = trial_read(&t, lease, ev->o.work, ev->o.dev->info.fastest, err);
    if (!st) st = t.kind == TRIAL_SUPERNET ? teach(ev, &t, report, err) : evaluate(ev, &t, report, err);
    if (!st && t.rungs && !below_top(&t)) memcpy(ev->spent, t.stable, sizeof ev->spent);
    return st;
}

void evaluate_reported(struct evaluate *ev)
{
    if (ev->spent[0]) unlink(ev->spent);
    ev->spent[0] = 0;
}
