#include "evaluator/worker.h"

#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"
#include "evaluator/beat.h"
#include "evaluator/fingerprint.h"
#include "evaluator/inherit.h"
#include "evaluator/profiler.h"
#include "evaluator/score.h"
#include "evaluator/tidy.h"
#include "evaluator/trainer.h"
#include "model/checkpoint.h"
#include "searchspace/arch_json.h"
#include "wire/wire.h"

#define WAIT_S 20          /* of one evaluator.next */
#define CALL_MS 60000
#define RETRY_MS 500       /* between attempts to reach tautd, or to report */
#define METRICS_MAX 64
#define MARKS 4            /* of a rung's trunk: after each quarter */

struct worker {
    struct worker_opts o;
    struct wire_client *wire;  /* NULL: not connected */
    struct energy *energy;     /* NULL: not readable here */
    int64_t evaluator;
    double heartbeat_s;
    int64_t lease, epoch;      /* in hand; 0: none */
    uint64_t beat_ns;          /* last heartbeat that was answered */
    struct trainer *trainer;   /* of the trial in hand; NULL: not training */
    double joules;             /* last reading of energy */
    bool full;                 /* the last checkpoint could not be written, and that was said */
    struct inherit super;      /* supernet of the job whose candidates inherit */
    struct beat *beat;         /* speaks when we are silent for too long */
    double mark[MARKS + 1];    /* tokens up to which tautd has yet to hear the curve, and say whether the trial goes on */
    int nmarks;
    bool heard;                /* the last progress was answered */
    bool taken;                /* tautd has said that the lease is no longer ours, or that the trial is to stop */
};

static bool stopping(const struct worker *w)
{
    return __atomic_load_n(w->o.stop, __ATOMIC_RELAXED) != 0;
}

/* Waits, but not past a signal. */
static void rest(int ms)
{
    poll(NULL, 0, ms);
}

static json_t *provides(const struct worker *w)
{
    static const char *const always[] = {"valid_bpb", "valid_loss", "train_bytes", "train_tokens_per_s", "prefill_ms", "decode_ms", "throughput", "infer_bytes"};
    static const char *const energy[] = {"train_joules", "joules_per_token"};
    json_t *v = json_array();
    for (int i = 0; i < proxy_count(); i++) json_array_append_new(v, json_sprintf("proxy.%s", proxy_name(i)));
    for (size_t i = 0; i < sizeof always / sizeof *always; i++) json_array_append_new(v, json_string(always[i]));
    for (size_t i = 0; w->energy && i < sizeof energy / sizeof *energy; i++) json_array_append_new(v, json_string(energy[i]));
    return v;
}

/* A signal ends a call at once only while nothing is in hand: a call broken off costs the connection, and with it the lease, just when the trial is
 * to be handed back. */
static void interruptible(struct worker *w)
{
    wire_client_interrupt(w->wire, w->lease ? NULL : w->o.stop);
}

static st_t connect_once(struct worker *w, struct base_err *err)
{
    st_t st = wire_client_open(&w->wire, w->o.socket, err);
    if (st) return st;
    interruptible(w);
    json_t *p = json_pack("{s:s, s:o?, s:[ss], s:o, s:[ss], s:i}", "name", w->o.name, "device", fingerprint_json(w->o.dev), "accepts", "train", "validate",
                          "provides", provides(w), "spaces", "lm", "problem", "slots", 1), *r;
    if (p && w->lease) json_object_set_new(p, "holds", json_pack("[{s:I, s:I}]", "lease", (json_int_t)w->lease, "epoch", (json_int_t)w->epoch));
    st = p ? wire_client_call(w->wire, "evaluator.register", p, CALL_MS, &r, NULL, err) : ST_ENOMEM;
    if (st) {
        wire_client_close(w->wire);
        w->wire = NULL;
        return st;
    }
    w->evaluator = json_integer_value(json_object_get(r, "evaluator"));
    w->heartbeat_s = json_number_value(json_object_get(r, "heartbeat_s"));
    json_decref(r);
    if (w->evaluator <= 0) {
        wire_client_close(w->wire);
        w->wire = NULL;
        return base_err_set(err, ST_EPARSE, w->o.socket, "whoever listens there is no tautd: it registers nobody");
    }
    log_info("registered as evaluator %lld", (long long)w->evaluator);
    return ST_OK;
}

/* One call; a lost connection is dropped, so that the next call makes a new one. */
static st_t call(struct worker *w, const char *method, json_t *params, int timeout_ms, json_t **result, int *code, struct base_err *err)
{
    *code = 0;
    st_t st = w->wire ? ST_OK : connect_once(w, err);
    if (st) {
        json_decref(params);
        return st;
    }
    interruptible(w);
    st = wire_client_call(w->wire, method, params, timeout_ms, result, code, err);
    if (st && !*code) {
        if (st != ST_ECANCELED) log_warn("connection to tautd lost: %s", err->what);
        wire_client_close(w->wire);
        w->wire = NULL;
    }
    return st;
}

/* What has gone by since the last reading counts for the training. Often enough, or a counter wraps unseen. */
static void spend(struct worker *w)
{
    double now, before = w->joules;
    if (!w->energy) return;
    st_t st = energy_read(w->energy, &now);
    if (!st) w->joules = now;
    if (w->trainer) trainer_joules_add(w->trainer, st ? NAN : now - before);
}

static json_t *curve_json(const struct trainer *tr, double upto)
{
    int n;
    const struct trainer_point *c = trainer_curve(tr, &n);
    json_t *v = json_array();
    for (int i = 0; i < n && c[i].tokens <= upto; i++) json_array_append_new(v, json_pack("[f, f]", c[i].tokens, c[i].loss));
    return v;
}

/* The heartbeat; a checkpoint (new reference, may be NULL) or the curve up to so many tokens (0: none) makes it one that must be durable. False: the trial is to stop. */
static bool progress(struct worker *w, json_t *checkpoint, double upto)
{
    const struct trainer *t = w->trainer;
    spend(w);
    w->taken |= beat_taken(w->beat);
    if (w->taken) {
        json_decref(checkpoint);
        return false;
    }
    json_t *p = json_pack("{s:I, s:I}", "lease", (json_int_t)w->lease, "epoch", (json_int_t)w->epoch), *r = NULL;
    struct base_err err = BASE_ERR_INIT;
    int code;
    if (t) {
        json_object_set_new(p, "step", json_integer(trainer_at(t)));
        json_object_set_new(p, "tokens", json_real(trainer_tokens(t)));
        json_object_set_new(p, "loss", json_real(trainer_loss(t)));
    }
    if (checkpoint) json_object_set_new(p, "checkpoint", checkpoint);
    if (t && upto > 0) json_object_set_new(p, "curve", curve_json(t, upto));
    st_t st = call(w, "evaluator.progress", p, CALL_MS, &r, &code, &err);
    w->beat_ns = base_clock_ns();
    w->heard = !st || (code && code != WIRE_ENOSPC && code != WIRE_EBUSY && code != WIRE_EINTERNAL);
    if (!st) beat_spoken(w->beat);
    if (!st) {
        w->taken = json_is_false(json_object_get(r, "go"));
        json_decref(r);
    } else if (code == WIRE_ESTALE || code == WIRE_ENOTFOUND) {
        w->taken = true;
    }
    return !w->taken;
}

static bool beat_due(const struct worker *w)
{
    double s = w->heartbeat_s > 0 ? fmin(w->heartbeat_s / 3, 1) : 1;
    return (double)(base_clock_ns() - w->beat_ns) * 1e-9 >= s;
}

/* Between steps and samples, and while something is waited for. */
static bool go(void *ctx)
{
    struct worker *w = ctx;
    if (stopping(w) || w->taken || beat_taken(w->beat)) return false;
    return !beat_due(w) || progress(w, NULL, 0);
}

/* ---- one trial ---- */

struct trial {
    int64_t id, job;
    struct arch arch;
    struct job_train train;
    enum arch_weights decode; /* how weights are kept for what is profiled */
    double tokens;
    int rungs, rung;           /* as in trainer_opts */
    double rung_tokens[JOB_RUNGS_MAX];
    uint64_t seed;
    enum kn_dtype precision;   /* of products in training */
    int nmetrics;
    struct metric metric[METRICS_MAX];
    json_t *data;              /* borrowed from the lease */
    const char *checkpoint, *hash; /* borrowed; NULL: none was reported */
    double reached;            /* tokens of it */
    bool validate;             /* with inherited weights, and nothing else */
    json_t *space;             /* of the supernet; borrowed; NULL: nothing is inherited */
    double super_tokens;
    char super_path[512], init[512]; /* its checkpoint; what a training begins with */
    char path[512];            /* where its checkpoint goes */
    char stable[512];          /* … and that of the trunk, where a rung leaves it */
};

/* The ladder of rungs, where the job has more than one. */
static st_t read_rungs(struct base_jr *task, int64_t rung, struct trial *t)
{
    json_t *list = base_jr_get(task, "rungs"), *v;
    size_t n = json_array_size(list), i;
    if (!list) return ST_OK;
    if (n < 1 || n > JOB_RUNGS_MAX || rung >= (int64_t)n) return base_jr_fail(task, ST_EINVAL, "rungs", "must be the tokens of 1 to %d rungs", JOB_RUNGS_MAX);
    json_array_foreach(list, i, v)
    {
        t->rung_tokens[i] = json_number_value(v);
        if (!(t->rung_tokens[i] >= 1) || (i && t->rung_tokens[i] < t->rung_tokens[i - 1])) return base_jr_fail(task, ST_EINVAL, "rungs", "must grow");
    }
    t->rungs = (int)n;
    t->rung = (int)rung;
    return ST_OK;
}

static st_t read_lease(struct worker *w, json_t *v, struct trial *t, struct base_err *err)
{
    struct base_jr r = base_jr_at(v, "lease", err);
    t->id = base_jr_int(&r, "trial", 0, 1, INT64_MAX);
    t->job = base_jr_int(&r, "job", 0, 1, INT64_MAX);
    t->tokens = base_jr_num(&r, "tokens", 0, 1, 1e18);
    t->seed = (uint64_t)base_jr_int(&r, "seed", 1, INT64_MIN, INT64_MAX);
    int64_t rung = base_jr_int(&r, "rung", 0, 0, JOB_RUNGS_MAX - 1);
    t->data = base_jr_need(&r, "data");
    json_t *task = base_jr_need(&r, "task"), *metrics = base_jr_need(&r, "metrics"), *arch = base_jr_need(&r, "arch");
    if (r.st) return r.st;
    st_t st = space_arch_from_json(&t->arch, arch, "arch", err);
    if (st) return st;
    struct base_jr k = base_jr_at(task, "task", err);
    const char *kind = base_jr_str(&k, "kind", "");
    t->validate = !strcmp(kind, "validate");
    if (!t->validate && strcmp(kind, "train")) return base_jr_fail(&k, ST_ENOTSUP, "kind", "only 'train' and 'validate' are served here");
    json_t *super = t->validate ? base_jr_need(&k, "supernet") : base_jr_get(&k, "supernet");
    if (super) {
        struct base_jr s = base_jr_at(super, "task.supernet", err);
        t->super_tokens = base_jr_num(&s, "tokens", 0, 1, 1e18);
        t->space = base_jr_need(&s, "space");
        if (s.st) return s.st;
    }
    struct base_jr q = base_jr_at(base_jr_need(&k, "train"), "task.train", err);
    t->train = (struct job_train){.batch = (int)base_jr_int(&q, "batch", 16, 1, 65536), .lr = base_jr_num(&q, "lr", 3e-3, 0, 10),
                                  .mup = !strcmp(base_jr_str(&q, "lr_width_rule", "mup"), "mup"), .weight_decay = base_jr_num(&q, "weight_decay", 0.1, 0, 10),
                                  .warmup = base_jr_num(&q, "warmup", 0.02, 0, 1), .decay = strcmp(base_jr_str(&q, "schedule", "wsd"), "wsd") ? 0 : 0.2,
                                  .beta1 = 0.9, .beta2 = 0.95, .eps = 1e-8, .clip = 1};
    const char *precision = base_jr_str(&k, "precision", "f32"), *kept = base_jr_str(&k, "decode_precision", "same");
    if (k.st || q.st || read_rungs(&k, rung, t)) return k.st ? k.st : q.st;
    t->precision = !strcmp(precision, "auto") ? w->o.dev->info.fastest : !strcmp(precision, "bf16") ? KN_BF16 : KN_F32;
    if (t->precision == KN_F32 && strcmp(precision, "f32") && strcmp(precision, "auto"))
        return base_jr_fail(&k, ST_ENOTSUP, "precision", "'%.32s' is not served here", precision);
    if (space_weights_find(kept, &t->decode)) return base_jr_fail(&k, ST_ENOTSUP, "decode_precision", "'%.32s' is not served here", kept);
    size_t i;
    json_t *m;
    json_array_foreach(metrics, i, m)
    {
        if (t->nmetrics == METRICS_MAX) break;
        st = space_metric_parse(&t->metric[t->nmetrics++], json_string_value(m) ? json_string_value(m) : "", false, "metrics", err);
        if (st) return st;
    }
    json_t *c = json_object_get(v, "checkpoint");
    t->checkpoint = json_string_value(json_object_get(c, "path"));
    t->hash = json_string_value(json_object_get(c, "hash"));
    t->reached = json_number_value(json_object_get(c, "tokens"));
    char on[16] = "";
    if (rung) snprintf(on, sizeof on, ".rung%d", (int)rung);
    if (snprintf(t->super_path, sizeof t->super_path, "%s/job%lld-supernet.safetensors", w->o.work, (long long)t->job) >= (int)sizeof t->super_path ||
        snprintf(t->init, sizeof t->init, "%s/job%lld-trial%lld.inherited.safetensors", w->o.work, (long long)t->job, (long long)t->id) >= (int)sizeof t->init)
        return base_err_set(err, ST_ETOOBIG, w->o.work, "the path of the work folder is too long");
    if (snprintf(t->path, sizeof t->path, "%s/job%lld-trial%lld%s.safetensors", w->o.work, (long long)t->job, (long long)t->id, on) >= (int)sizeof t->path ||
        snprintf(t->stable, sizeof t->stable, "%s/job%lld-trial%lld.stable.safetensors", w->o.work, (long long)t->job, (long long)t->id) >= (int)sizeof t->stable)
        return base_err_set(err, ST_ETOOBIG, w->o.work, "the path of the work folder is too long");
    return ST_OK;
}

static json_t *checkpoint_json(const char *path, const char *sha, uint64_t bytes, double tokens)
{
    return json_pack("{s:s, s:s, s:I, s:f}", "path", path, "hash", sha, "bytes", (json_int_t)bytes, "tokens", tokens);
}

/* NULL, and a line the first time: it cannot be written. Then the last one still stands, and whoever goes on does so from there, to the same bits. */
static json_t *save(struct worker *w, const struct trial *t)
{
    char sha[BASE_SHA256_HEX];
    uint64_t bytes;
    struct base_err err = BASE_ERR_INIT;
    spend(w);
    st_t st = trainer_save(w->trainer, t->path, sha, &bytes, &err);
    if (st && !w->full)
        log_warn("trial %lld: no checkpoint at step %lld: %s: %s; going on without", (long long)t->id, (long long)trainer_at(w->trainer), err.where, err.what);
    if (!st && w->full) log_warn("trial %lld: checkpoints are written again", (long long)t->id);
    w->full = st != ST_OK;
    return st ? NULL : checkpoint_json(t->path, sha, bytes, trainer_tokens(w->trainer));
}

/* At path, m's weights, or (NULL) the trainer with all that it knows. That there is no room, or that the folder is not there, is no fault of the trial: waits.
 * ST_ECANCELED: told to stop meanwhile. */
static st_t save_finished(struct worker *w, const struct trial *t, const char *path, struct model *m, double tokens, json_t **checkpoint, struct base_err *err)
{
    char sha[BASE_SHA256_HEX];
    uint64_t bytes;
    bool told = false;
    struct base_err e = BASE_ERR_INIT;
    for (;;) {
        st_t st = m ? model_save(m, path, false, NULL, 0, sha, &bytes, &e) : trainer_save(w->trainer, path, sha, &bytes, &e);
        if (!st) break;
        if (st != ST_ENOSPC && st != ST_EIO) return base_err_set(err, st, e.where, "%s", e.what);
        if (!told) log_warn("trial %lld: its weights cannot be written: %s: %s; waiting for room", (long long)t->id, e.where, e.what);
        told = true;
        if (!go(w)) return base_err_set(err, ST_ECANCELED, "", "stopped");
        rest(RETRY_MS);
    }
    if (told) log_warn("trial %lld: its weights are written now", (long long)t->id);
    json_decref(*checkpoint);
    *checkpoint = checkpoint_json(path, sha, bytes, tokens);
    return ST_OK;
}

/* What the trial leaves: its weights and nothing else, the same bytes whatever happened on the way. */
static st_t save_weights(struct worker *w, const struct trial *t, double tokens, json_t **checkpoint, struct base_err *err)
{
    struct model *m = NULL;
    struct model_opts o = {.batch = 0};
    st_t st = model_new(&m, &t->arch, w->o.dev, &o, err);
    if (!st) st = model_load(m, t->path, false, err);
    if (!st) st = save_finished(w, t, t->path, m, tokens, checkpoint, err);
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

static void add_mark(struct worker *w, const struct trial *t, int64_t step)
{
    double tokens = (double)step * t->train.batch * t->arch.context;
    if (w->nmarks > MARKS || (w->nmarks && w->mark[w->nmarks - 1] >= tokens)) return;
    w->mark[w->nmarks++] = tokens;
}

/* The marks that are behind a trial which goes on from `at`: nobody knows whether tautd heard of them. */
static void past_marks(struct worker *w, const struct trial *t, int64_t at)
{
    int64_t below = t->rung ? trunk_steps(t, t->rung_tokens[t->rung - 1]) : 0;
    w->nmarks = 0;
    for (int q = 1; t->rungs && q <= MARKS - !below_top(t); q++)
        if (mark_step(t, q) > below && mark_step(t, q) <= at) add_mark(w, t, mark_step(t, q));
}

/* In their order, as far as tautd is there to hear them. False: the trial is to stop. */
static bool tell_marks(struct worker *w)
{
    while (w->nmarks) {
        if (!progress(w, NULL, w->mark[0])) return false;
        if (!w->heard) break;
        memmove(w->mark, w->mark + 1, (size_t)--w->nmarks * sizeof *w->mark);
    }
    return true;
}

/* Where the rung leaves the trunk: what a promotion goes on from, and this trial too, should it be stopped in the decay. */
static st_t leave_trunk(struct worker *w, const struct trial *t, json_t **stable, struct base_err *err)
{
    if (!below_top(t) || trainer_at(w->trainer) != trainer_stable(w->trainer)) return ST_OK;
    spend(w);
    st_t st = save_finished(w, t, t->stable, NULL, trainer_tokens(w->trainer), stable, err);
    add_mark(w, t, trainer_at(w->trainer));
    if (!st && !(progress(w, json_incref(*stable), 0) && tell_marks(w))) st = base_err_set(err, ST_ECANCELED, "", "stopped");
    return st;
}

static bool at_mark(const struct trial *t, int64_t at)
{
    for (int q = 1; t->rungs && q < MARKS; q++)
        if (at == mark_step(t, q) && at < trunk_steps(t, t->tokens)) return true;
    return false;
}

/* ST_ECANCELED: stopped or taken back; *checkpoint then says where it stands. */
static st_t train(struct worker *w, const struct trial *t, json_t **checkpoint, json_t **stable, struct base_err *err)
{
    struct trainer *tr = w->trainer;
    uint64_t saved = base_clock_ns();
    int64_t first = trainer_at(tr), trunk = trainer_stable(tr);
    past_marks(w, t, first);
    st_t st = leave_trunk(w, t, stable, err);
    while (!st && !trainer_done(tr)) {
        /* Not held while tautd is spoken to: a daemon that hangs must not keep others on this host from timing. */
        st = hostlock_shared(w->o.lock);
        if (!st) st = trainer_step(tr, err);
        json_t *c = NULL;
        if (!st && trainer_at(tr) < trunk && (double)(base_clock_ns() - saved) * 1e-9 >= w->o.checkpoint_s) {
            c = save(w, t);
            saved = base_clock_ns();
        }
        hostlock_unlock(w->o.lock);
        if (!st) st = leave_trunk(w, t, stable, err);
        if (st || trainer_done(tr)) break;
        bool mark = at_mark(t, trainer_at(tr)), due = beat_due(w);
        if (mark) add_mark(w, t, trainer_at(tr));
        if ((c && !progress(w, c, 0)) || (w->nmarks && (mark || due) ? !tell_marks(w) : !go(w))) st = ST_ECANCELED;
    }
    while (!st && w->nmarks) {
        if (!tell_marks(w)) st = ST_ECANCELED;
        else if (w->nmarks) rest(RETRY_MS);
        if (!st && w->nmarks && !go(w)) st = ST_ECANCELED;
    }
    spend(w);
    if (st != ST_ECANCELED) return st;
    if (trainer_at(tr) > first && trainer_at(tr) < trunk) *checkpoint = save(w, t);
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

static st_t profile(struct worker *w, const struct trial *t, json_t *metrics, struct base_err *err)
{
    struct metric want[METRICS_MAX];
    struct measured got[METRICS_MAX];
    int n = 0;
    for (int i = 0; i < t->nmetrics; i++)
        if (t->metric[i].source == METRIC_PROFILE || (t->metric[i].source == METRIC_ENERGY && t->metric[i].context)) want[n++] = t->metric[i];
    if (!n) return ST_OK;
    struct profile_opts o = {.go = go, .ctx = w, .weights = t->decode};
    st_t st = hostlock_exclusive(w->o.lock);
    if (!st) st = profile_run(&t->arch, w->o.dev, w->energy, want, n, &o, got, err);
    hostlock_unlock(w->o.lock);
    for (int i = 0; !st && i < n; i++) put_measured(metrics, &got[i]);
    return st;
}

/* The proxies that are wanted, of the untrained candidate. What does not apply to it, or has no room, is left out, and said. */
static st_t score(struct worker *w, const struct trial *t, struct data *data, json_t *metrics, struct base_err *err)
{
    struct proxy_result got[METRICS_MAX];
    st_t st = hostlock_shared(w->o.lock);
    if (!st) st = score_run(&t->arch, data, w->o.dev, t->seed, t->metric, t->nmetrics, got, err);
    hostlock_unlock(w->o.lock);
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
static st_t begin(struct worker *w, const struct trial *t, const struct trainer_opts *o, struct base_err *err)
{
    bool own = !access(t->path, F_OK);
    const char *from = t->checkpoint ? t->checkpoint : own ? t->path : NULL;
    struct base_err e = BASE_ERR_INIT;
    st_t st = trainer_new(&w->trainer, o, err);
    if (st || !from) return st;
    if (t->rungs && own && strcmp(from, t->path)) { /* what was reported is the trunk's: the rung itself may be further on */
        if (!trainer_load(w->trainer, t->path, &e) && trainer_tokens(w->trainer) > t->reached) {
            log_info("trial %lld: on from step %lld", (long long)t->id, (long long)trainer_at(w->trainer));
            return ST_OK;
        }
        trainer_free(w->trainer);
        w->trainer = NULL;
        if ((st = trainer_new(&w->trainer, o, err))) return st;
    }
    st_t l = trainer_load(w->trainer, from, &e);
    if (!l) l = check_resumed(t, w->trainer, from, &e);
    if (!l) {
        log_info("trial %lld: on from step %lld", (long long)t->id, (long long)trainer_at(w->trainer));
        return ST_OK;
    }
    base_log(t->checkpoint ? LOG_WARN : LOG_INFO, "trial %lld: checkpoint not usable (%s: %s); training from the start", (long long)t->id, e.where, e.what);
    trainer_free(w->trainer);
    w->trainer = NULL;
    return trainer_new(&w->trainer, o, err);
}

/* A trial that was finished before it was stopped left the trunk then; NULL: the file is gone, and a promotion starts anew. */
static json_t *kept_stable(struct worker *w, const struct trial *t)
{
    char sha[BASE_SHA256_HEX];
    uint64_t bytes;
    double step = (double)t->train.batch * t->arch.context;
    if (base_sha256_file(t->stable, sha, &bytes)) return NULL;
    return checkpoint_json(t->stable, sha, bytes, (double)trainer_stable(w->trainer) * step);
}

static st_t ready(struct worker *w, const struct trial *t, struct base_err *err)
{
    struct inherit_opts o = {.job = t->job, .path = t->super_path, .space = t->space, .data = t->data, .vocab = t->arch.vocab, .context = t->arch.context, .dev = w->o.dev,
                             .train = t->train, .tokens = t->super_tokens, .seed = t->seed, .precision = t->precision, .lock = w->o.lock,
                             .checkpoint_s = w->o.checkpoint_s, .go = go, .ctx = w};
    return inherit_ready(&w->super, &o, err);
}

/* The candidate's slice as ordinary weights at path. */
static st_t save_inherited(struct worker *w, const struct trial *t, const char *path, json_t **checkpoint, struct base_err *err)
{
    struct model *m;
    st_t st = supernet_slice(supertrain_net(w->super.train), &t->arch, &(struct model_opts){0}, &m, err);
    if (st) return st;
    st = save_finished(w, t, path, m, t->super_tokens, checkpoint, err);
    model_free(m);
    return st;
}

/* One validation pass with the weights of the job's supernet. */
static st_t inherit(struct worker *w, const struct trial *t, json_t *metrics, json_t **checkpoint, struct base_err *err)
{
    double nats, bpb;
    st_t st = ready(w, t, err);
    if (!st) st = hostlock_shared(w->o.lock);
    if (!st) st = supertrain_validate(w->super.train, &t->arch, &nats, &bpb, err);
    hostlock_unlock(w->o.lock);
    if (!st) st = save_inherited(w, t, t->path, checkpoint, err);
    if (st) return st;
    json_object_set_new(metrics, "valid_loss", json_real(nats));
    if (!isnan(bpb)) json_object_set_new(metrics, "valid_bpb", json_real(bpb));
    return ST_OK;
}

/* What a training on from inherited weights begins with; the same bits whoever makes it. */
static st_t begin_inherited(struct worker *w, const struct trial *t, struct base_err *err)
{
    json_t *saved = NULL;
    st_t st = ready(w, t, err);
    if (!st) st = save_inherited(w, t, t->init, &saved, err);
    json_decref(saved);
    return st;
}

/* Trains, validates, and writes it all down, so that a trial that is stopped while it is profiled need not train again: what of the report comes from that. */
static st_t learn(struct worker *w, const struct trial *t, struct data *data, json_t *metrics, json_t *report, double *tokens, json_t **checkpoint,
                  json_t **stable, struct base_err *err)
{
    double nats, bpb;
    struct trainer_opts o = {.arch = &t->arch, .data = data, .dev = w->o.dev, .train = t->train, .tokens = t->tokens, .seed = t->seed,
                             .precision = t->precision, .rungs = t->rungs, .rung = t->rung};
    memcpy(o.rung_tokens, t->rung_tokens, sizeof o.rung_tokens);
    st_t st = t->space ? begin_inherited(w, t, err) : ST_OK;
    if (st) return st;
    if (t->space) o.init = t->init;
    inherit_drop(&w->super); /* its memory is the training's */
    spend(w);
    st = begin(w, t, &o, err);
    if (!st && !w->energy) trainer_joules_add(w->trainer, NAN);
    if (!st) st = train(w, t, checkpoint, stable, err);
    if (!st) st = hostlock_shared(w->o.lock);
    if (!st) st = trainer_validate(w->trainer, &nats, &bpb, err);
    hostlock_unlock(w->o.lock);
    if (!st) st = data_verify(t->data, err); /* all of it was the same text */
    if (!st) st = save_finished(w, t, t->path, NULL, trainer_tokens(w->trainer), checkpoint, err);
    if (!st && below_top(t) && !*stable) *stable = kept_stable(w, t);
    if (!st) {
        struct trainer *tr = w->trainer;
        *tokens = trainer_tokens(tr);
        json_object_set_new(metrics, "valid_loss", json_real(nats));
        if (!isnan(bpb)) json_object_set_new(metrics, "valid_bpb", json_real(bpb));
        json_object_set_new(metrics, "train_bytes", json_integer((json_int_t)trainer_bytes(tr)));
        json_object_set_new(metrics, "train_tokens_per_s", json_real(trainer_rate(tr)));
        if (!isnan(trainer_joules(tr))) json_object_set_new(metrics, "train_joules", json_real(trainer_joules(tr)));
        json_object_set_new(report, "curve", curve_json(tr, INFINITY));
        if (t->rungs && !isnan(trainer_joules(tr))) json_object_set_new(report, "joules", json_real(trainer_joules_rung(tr)));
    }
    trainer_free(w->trainer); /* its memory is the profile's */
    w->trainer = NULL;
    return st;
}

static st_t evaluate(struct worker *w, const struct trial *t, json_t *report, struct base_err *err)
{
    struct data *data = NULL;
    json_t *metrics = json_object(), *checkpoint = NULL, *stable = NULL;
    double tokens = 0;
    st_t st = !metrics ? ST_ENOMEM : t->validate ? inherit(w, t, metrics, &checkpoint, err) : data_open(&data, t->data, true, err);
    if (!st && t->validate && scored(t)) st = data_open(&data, t->data, true, err);
    if (!st && data) st = score(w, t, data, metrics, err);
    if (!st && !t->validate) st = learn(w, t, data, metrics, report, &tokens, &checkpoint, &stable, err);
    data_close(data);
    if (!st) st = profile(w, t, metrics, err);
    if (!st && !t->validate) st = save_weights(w, t, tokens, &checkpoint, err);
    if (!st && t->space && !t->validate) unlink(t->init);
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

/* Until tautd has taken it or refused it. */
static void send_report(struct worker *w, int64_t trial, json_t *report)
{
    bool told = false;
    for (;;) {
        struct base_err err = BASE_ERR_INIT;
        json_t *r = NULL;
        int code;
        st_t st = call(w, "evaluator.report", json_incref(report), CALL_MS, &r, &code, &err);
        json_decref(r);
        if (!st) return;
        if (code && code != WIRE_ENOSPC && code != WIRE_EBUSY && code != WIRE_EINTERNAL) {
            log_warn("trial %lld: report refused: %s", (long long)trial, err.what);
            if (code != WIRE_EPARAMS || !strcmp(json_string_value(json_object_get(report, "status")), "failed")) return;
            /* The lease stays ours: what cannot be taken as a result is taken as a failure with this reason. */
            json_object_set_new(report, "status", json_string("failed"));
            json_object_set_new(report, "metrics", json_object());
            json_object_set_new(report, "error", json_string(err.what));
            continue;
        }
        if (stopping(w)) return;
        if (!told) log_warn("trial %lld: report not taken yet: %s; trying again", (long long)trial, err.what);
        told = true;
        rest(RETRY_MS);
    }
}

static void work_on(struct worker *w, json_t *lease)
{
    struct trial t = {0};
    struct base_err err = BASE_ERR_INIT;
    char text[1024];
    json_t *report = json_object();
    w->lease = json_integer_value(json_object_get(lease, "lease"));
    w->epoch = json_integer_value(json_object_get(lease, "epoch"));
    w->taken = false;
    w->beat_ns = base_clock_ns();
    beat_hold(w->beat, w->lease, w->epoch, w->heartbeat_s);
    const char *problem = json_string_value(json_object_get(json_object_get(lease, "task"), "problem"));
    st_t st = report ? ST_OK : ST_ENOMEM;
    t.id = json_integer_value(json_object_get(lease, "trial"));
    if (!st && problem) st = solve(lease, problem, report, &err);
    if (!st && !problem) st = read_lease(w, lease, &t, &err);
    if (!st && !problem) st = evaluate(w, &t, report, &err);
    if (st && !*err.what) base_err_set(&err, st, err.where, "%s", base_status_text(st));
    json_object_set_new(report, "lease", json_integer(w->lease));
    json_object_set_new(report, "epoch", json_integer(w->epoch));
    json_object_set_new(report, "status", json_string(!st ? "ok" : st == ST_ECANCELED ? "preempted" : "failed"));
    if (!json_object_get(report, "metrics")) json_object_set_new(report, "metrics", json_object());
    if (st) {
        json_object_set_new(report, "error", json_string(base_err_text(&err, text, sizeof text)));
        if (st != ST_ECANCELED) log_warn("trial %lld failed: %s", (long long)t.id, text);
    }
    send_report(w, t.id, report);
    if (!st && t.rungs && !below_top(&t)) unlink(t.stable); /* nothing goes on from it any more */
    json_decref(report);
    w->lease = 0;
    beat_hold(w->beat, 0, 0, 0);
}

/* What a process that was killed in mid-write has left in the folder. */
static void sweep(const char *work)
{
    DIR *dir = opendir(work);
    struct dirent *f;
    while (dir && (f = readdir(dir))) {
        const char *tmp = strstr(f->d_name, ".safetensors.tmp");
        char path[1024], *end;
        long pid = tmp ? strtol(tmp + 16, &end, 10) : 0;
        if (pid <= 0 || *end || !kill((pid_t)pid, 0) || errno != ESRCH) continue;
        if (snprintf(path, sizeof path, "%s/%s", work, f->d_name) < (int)sizeof path && !unlink(path))
            log_info("%s: removed, its writer is gone", path);
    }
    if (dir) closedir(dir);
}

st_t worker_run(const struct worker_opts *o, struct base_err *err)
{
    struct worker w = {.o = *o};
    struct base_err why = BASE_ERR_INIT;
    sweep(o->work);
    hostlock_on_wait(o->lock, go, &w);
    if (energy_open(&w.energy, NULL, &why)) log_info("energy is not measured: %s: %s", why.where, why.what);
    st_t st = beat_start(&w.beat, o->socket);
    if (!st) st = connect_once(&w, err);
    bool told = false;
    while (!st && !stopping(&w)) {
        json_t *r = NULL;
        int code;
        struct base_err e = BASE_ERR_INIT;
        uint64_t asked = base_clock_ns();
        json_t *p = json_pack("{s:I, s:i}", "evaluator", (json_int_t)w.evaluator, "wait_s", WAIT_S);
        st_t s = call(&w, "evaluator.next", p, (WAIT_S + 30) * 1000, &r, &code, &e);
        if (s) {
            if (!stopping(&w)) {
                if (!told) log_warn("tautd: %s; trying again", e.what);
                told = true;
                rest(RETRY_MS);
            }
        } else {
            told = false;
            if (!json_is_object(r)) tidy_trunks(o->work, o->socket);
            if (json_is_object(r)) work_on(&w, r);
            else if (base_clock_ns() - asked < 10000000) rest(RETRY_MS); /* one that does not wait */
        }
        json_decref(r);
    }
    tidy_trunks(o->work, o->socket);
    hostlock_on_wait(o->lock, NULL, NULL);
    inherit_drop(&w.super);
    beat_stop(w.beat);
    wire_client_close(w.wire);
    energy_close(w.energy);
    return st;
}
