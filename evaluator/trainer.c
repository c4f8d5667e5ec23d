#include "evaluator/trainer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/json_write.h"
#include "config.h"
#include "model/checkpoint.h"
#include "searchspace/arch_json.h"

#define CURVE_POINTS 50

struct trainer {
    struct trainer_opts o;
    struct arch arch;
    struct model *model;
    int32_t *tokens, *targets;     /* [batch, context] … */
    int64_t batch_of;              /* … of this step; -1: of none */
    int64_t steps, at;
    int64_t rung_steps[JOB_RUNGS_MAX]; /* of the ladder */
    double loss;                   /* last step */
    double sum;                    /* of losses since the last point … */
    int64_t count;                 /* … so many */
    struct trainer_point *curve;   /* [curve_max] */
    int curve_max;
    int npoints;
    double seconds;                /* in steps */
    double joules;                 /* NaN: not known */
    double joules_below;           /* of them, for the trunk that a lower rung has trained */
    uint64_t bytes;                /* most that a process before this one held … */
    uint64_t held;                 /* … and what the device held before this one began */
    char identity[BASE_ID_HEX];
};

double trainer_lr(const struct job_train *r, int64_t s, int64_t S)
{
    return trainer_lr_rung(r, s, S, S);
}

double trainer_lr_rung(const struct job_train *r, int64_t s, int64_t S, int64_t top)
{
    double warm = fmax(1, round(r->warmup * (double)top)), decay = round(r->decay * (double)S);
    double lr = r->lr * fmin(1, (double)(s + 1) / warm);
    double left = (double)(S - s); /* this step included */
    if (left <= decay) lr *= left / (decay + 1);
    return lr;
}

static int64_t top_steps(const struct trainer *t)
{
    return t->o.rungs ? t->rung_steps[t->o.rungs - 1] : t->steps;
}

/* Steps of the trunk that a rung takes along. */
static int64_t stable_steps(const struct trainer *t, int rung)
{
    int64_t S = t->rung_steps[rung];
    return S - (int64_t)round(t->o.train.decay * (double)S);
}

int64_t trainer_stable(const struct trainer *t)
{
    return t->o.rungs && t->o.rung < t->o.rungs - 1 ? stable_steps(t, t->o.rung) : t->steps;
}

/* What must be equal for a checkpoint to be this training's, and for what comes of it to have the bits of an undisturbed one. */
static st_t make_identity(struct trainer *t, struct base_err *err)
{
    struct base_buf b = BASE_BUF_INIT;
    char weights[BASE_SHA256_HEX];
    const struct job_train *r = &t->o.train;
    const struct kn_info *on = &t->o.dev->info;
    space_arch_canonical(&t->arch, &b);
    base_buf_printf(&b, " %llu %lld %s %d %.17g %d %.17g %.17g %.17g %.17g %.17g %.17g %.17g %d", (unsigned long long)t->o.seed, (long long)top_steps(t),
                    data_id(t->o.data), r->batch, r->lr, r->mup, r->weight_decay, r->warmup, r->decay, r->beta1, r->beta2, r->eps, r->clip,
                    t->o.sequential);
    base_buf_printf(&b, " %s %s %s " PACKAGE_VERSION_TEXT, on->kind, on->isa, on->libraries);
    if (t->o.precision != KN_F32) base_buf_printf(&b, " %s", kn_dtype_name(t->o.precision));
    for (int i = 0; i < t->o.rungs; i++) base_buf_printf(&b, "%s%lld", i ? "," : " rungs ", (long long)t->rung_steps[i]);
    st_t st = t->o.init ? base_sha256_file(t->o.init, weights, NULL) : ST_OK;
    if (st) base_err_set(err, st, t->o.init, "%s", base_status_text(st));
    else if (t->o.init) base_buf_printf(&b, " %s", weights);
    if (!st) st = b.st;
    if (!st) base_id_hex(b.p, b.len, t->identity);
    base_buf_fini(&b);
    return st;
}

st_t trainer_new(struct trainer **out, const struct trainer_opts *o, struct base_err *err)
{
    struct trainer *t = calloc(1, sizeof *t);
    if (!t) return ST_ENOMEM;
    kn_trim(o->dev);
    kn_peak_reset(o->dev);
    t->held = kn_dev_bytes(o->dev);
    t->o = *o;
    t->arch = *o->arch;
    t->o.arch = &t->arch;
    size_t n = (size_t)o->train.batch * (size_t)t->arch.context;
    for (int i = 0; i < o->rungs; i++) t->rung_steps[i] = (int64_t)fmax(ceil(o->rung_tokens[i] / (double)n), 1);
    t->steps = o->rungs ? t->rung_steps[o->rung] : (int64_t)fmax(ceil(o->tokens / (double)n), 1);
    t->curve_max = CURVE_POINTS * (o->rungs ? o->rungs : 1);
    t->curve = calloc((size_t)t->curve_max, sizeof *t->curve);
    t->batch_of = -1;
    t->tokens = malloc(n * sizeof *t->tokens);
    t->targets = malloc(n * sizeof *t->targets);
    st_t st = t->tokens && t->targets && t->curve ? make_identity(t, err) : ST_ENOMEM;
    struct model_opts mo = {.train = true, .batch = o->train.batch, .memory_limit = o->memory_limit, .precision = o->precision};
    if (!st) st = model_new(&t->model, &t->arch, o->dev, &mo, err);
    if (!st) st = o->init ? model_load(t->model, o->init, false, err) : model_init(t->model, o->seed);
    if (st) {
        trainer_free(t);
        return st;
    }
    *out = t;
    return ST_OK;
}

void trainer_free(struct trainer *t)
{
    if (!t) return;
    model_free(t->model);
    free(t->tokens);
    free(t->targets);
    free(t->curve);
    free(t);
}

/* The k-th point falls after step ceil(S k / CURVE_POINTS): fixed token counts. S of a ladder: of the lowest rung that goes so far. */
static bool point_due(const struct trainer *t)
{
    int64_t S = t->steps;
    for (int i = t->o.rungs - 1; i >= 0 && t->rung_steps[i] >= t->at; i--) S = t->rung_steps[i];
    int64_t k = t->at * CURVE_POINTS / S, before = (t->at - 1) * CURVE_POINTS / S;
    return k > before;
}

/* The batch of a step into t->tokens and t->targets. */
static st_t batch(struct trainer *t, int64_t step, struct base_err *err)
{
    int B = t->o.train.batch, T = t->arch.context;
    t->batch_of = -1;
    st_t st = t->o.sequential ? data_batch_sequential(t->o.data, (uint64_t)step, B, T, t->tokens, t->targets, err)
                              : data_batch(t->o.data, t->o.seed, (uint64_t)step, B, T, t->tokens, t->targets, err);
    if (!st) t->batch_of = step;
    return st;
}

st_t trainer_step(struct trainer *t, struct base_err *err)
{
    if (trainer_done(t)) return ST_ESTATE;
    uint64_t t0 = base_clock_ns();
    const struct job_train *r = &t->o.train;
    st_t st = t->batch_of == t->at ? ST_OK : batch(t, t->at, err);
    if (st) return st;
    struct model_hyper h = {.lr = trainer_lr_rung(r, t->at, t->steps, top_steps(t)), .hidden_lr_scale = r->mup ? (double)JOB_MUP_BASE / t->arch.width : 1,
                            .beta1 = r->beta1, .beta2 = r->beta2, .eps = r->eps, .weight_decay = r->weight_decay, .clip = r->clip};
    double loss, norm;
    st = model_train_begin(t->model, t->tokens, t->targets, r->batch, t->arch.context, &h);
    if (st) return st;
    if (t->at + 1 < t->steps) (void)batch(t, t->at + 1, NULL); /* while the device works; should it fail, the next step says so */
    st = model_train_end(t->model, &loss, &norm);
    if ((!st || st == ST_ENONFINITE) && !isfinite(loss))
        return base_err_set(err, ST_ENONFINITE, "", "the loss is %g at step %lld of %lld", loss, (long long)t->at + 1, (long long)t->steps);
    if (st == ST_ENONFINITE)
        return base_err_set(err, st, "", "the gradient is not finite at step %lld of %lld (loss %g)", (long long)t->at + 1, (long long)t->steps, loss);
    if (st) return st;
    t->at++;
    t->loss = loss;
    t->sum += loss;
    t->count++;
    if (point_due(t) && t->npoints < t->curve_max) {
        t->curve[t->npoints++] = (struct trainer_point){trainer_tokens(t), t->sum / (double)t->count};
        t->sum = 0;
        t->count = 0;
    }
    t->seconds += (double)(base_clock_ns() - t0) * 1e-9;
    return ST_OK;
}

bool trainer_done(const struct trainer *t)
{
    return t->at >= t->steps;
}

int64_t trainer_steps(const struct trainer *t)
{
    return t->steps;
}

int64_t trainer_at(const struct trainer *t)
{
    return t->at;
}

double trainer_tokens(const struct trainer *t)
{
    return (double)t->at * t->o.train.batch * t->arch.context;
}

double trainer_loss(const struct trainer *t)
{
    return t->loss;
}

double trainer_seconds(const struct trainer *t)
{
    return t->seconds;
}

double trainer_rate(const struct trainer *t)
{
    return t->seconds > 0 ? trainer_tokens(t) / t->seconds : 0;
}

uint64_t trainer_bytes(const struct trainer *t)
{
    uint64_t now = kn_dev_peak(t->o.dev) - t->held;
    return now > t->bytes ? now : t->bytes;
}

double trainer_joules(const struct trainer *t)
{
    return t->joules;
}

void trainer_joules_add(struct trainer *t, double joules)
{
    t->joules += joules;
}

double trainer_joules_rung(const struct trainer *t)
{
    return t->joules - t->joules_below;
}

const struct trainer_point *trainer_curve(const struct trainer *t, int *n)
{
    *n = t->npoints;
    return t->curve;
}

struct model *trainer_model(struct trainer *t)
{
    return t->model;
}

st_t trainer_validate(struct trainer *t, double *nats_per_token, double *bits_per_byte, struct base_err *err)
{
    int T = t->arch.context, B = t->o.train.batch, n = data_valid_windows(t->o.data, T);
    double sum = 0;
    t->batch_of = -1;
    for (int i = 0; i < n; i += B) {
        int b = n - i < B ? n - i : B;
        for (int k = 0; k < b; k++) {
            st_t st = data_valid_window(t->o.data, i + k, T, t->tokens + (size_t)k * T, t->targets + (size_t)k * T, err);
            if (st) return st;
        }
        double loss;
        st_t st = model_loss(t->model, t->tokens, t->targets, b, T, &loss);
        if (st) return st;
        sum += loss * b;
    }
    double loss = sum / n;
    if (!isfinite(loss)) return base_err_set(err, ST_ENONFINITE, "", "the validation loss is %g", loss);
    *nats_per_token = loss;
    *bits_per_byte = data_is_bytes(t->o.data) ? loss / log(2) : NAN; /* a token is a byte */
    return ST_OK;
}

st_t trainer_save(struct trainer *t, const char *path, char sha256[BASE_SHA256_HEX], uint64_t *bytes, struct base_err *err)
{
    struct base_buf b = BASE_BUF_INIT;
    struct base_jw w;
    base_jw_init(&w, &b);
    base_jw_obj(&w);
    base_jw_kint(&w, "at", t->at);
    if (t->o.rungs) base_jw_kint(&w, "rung", t->o.rung);
    base_jw_knum(&w, "loss", t->loss);
    base_jw_knum(&w, "sum", t->sum);
    base_jw_kint(&w, "count", t->count);
    base_jw_knum(&w, "seconds", t->seconds);
    if (!isnan(t->joules)) base_jw_knum(&w, "joules", t->joules);
    if (t->joules_below > 0) base_jw_knum(&w, "joules_below", t->joules_below);
    base_jw_kint(&w, "bytes", (int64_t)trainer_bytes(t));
    base_jw_key(&w, "curve");
    base_jw_arr(&w);
    for (int i = 0; i < t->npoints; i++) {
        base_jw_arr(&w);
        base_jw_num(&w, t->curve[i].tokens);
        base_jw_num(&w, t->curve[i].loss);
        base_jw_end(&w);
    }
    base_jw_end(&w);
    base_jw_end(&w);
    bool on_trunk = t->o.rungs && t->o.rung < t->o.rungs - 1 && t->at <= trainer_stable(t); /* there is a rung to go on to */
    struct ckpt_meta meta[] = {{"taut.identity", t->identity}, {"taut.training", b.p}};
    st_t st = b.st ? b.st : model_save(t->model, path, !trainer_done(t) || on_trunk, meta, 2, sha256, bytes, err);
    base_buf_fini(&b);
    return st;
}

/* Can t go on from so many steps on that rung? Only from the trunk, where it is another. */
static bool shares(const struct trainer *t, int rung)
{
    if (!t->o.rungs || rung == t->o.rung) return true;
    return t->at <= stable_steps(t, rung) && t->at <= stable_steps(t, t->o.rung);
}

/* The trainer's own part into t, which then lacks the weights. Its curve goes to curve [curve_max]. */
static st_t read_training(struct trainer *t, struct trainer_point *curve_out, const char *text, const char *path, struct base_err *err)
{
    static const char *const must[] = {"at", "loss", "sum", "count", "seconds", "bytes"};
    json_t *root;
    st_t st = base_json_parse(&root, text, strlen(text), path, err);
    if (st) return st;
    struct base_jr r = base_jr_at(root, "", err);
    for (size_t i = 0; i < sizeof must / sizeof *must; i++) base_jr_need(&r, must[i]);
    t->at = base_jr_int(&r, "at", 0, 0, top_steps(t));
    int rung = (int)base_jr_int(&r, "rung", t->o.rung, 0, t->o.rungs ? t->o.rungs - 1 : 0);
    if (!r.st && (t->at > t->steps || !shares(t, rung))) base_jr_fail(&r, ST_ESTALE, NULL, "has left the trunk on another rung");
    t->loss = base_jr_num(&r, "loss", 0, -1e300, 1e300);
    t->sum = base_jr_num(&r, "sum", 0, -1e300, 1e300);
    t->count = base_jr_int(&r, "count", 0, 0, top_steps(t));
    t->seconds = base_jr_num(&r, "seconds", 0, 0, 1e300);
    t->joules = base_jr_num(&r, "joules", NAN, 0, 1e300);
    t->joules_below = rung == t->o.rung ? base_jr_num(&r, "joules_below", 0, 0, 1e300) : t->joules;
    t->bytes = (uint64_t)base_jr_int(&r, "bytes", 0, 0, INT64_MAX);
    json_t *curve = base_jr_need(&r, "curve"), *p;
    t->npoints = 0;
    size_t i;
    if (!r.st && (!json_is_array(curve) || json_array_size(curve) > (size_t)t->curve_max)) base_jr_fail(&r, ST_ECORRUPT, "curve", "is no curve");
    json_array_foreach(curve, i, p)
    {
        json_t *tokens = json_array_get(p, 0), *loss = json_array_get(p, 1);
        if (!r.st && (!json_is_number(tokens) || !json_is_number(loss))) base_jr_fail(&r, ST_ECORRUPT, "curve", "is no curve");
        if (!r.st) curve_out[t->npoints++] = (struct trainer_point){json_number_value(tokens), json_number_value(loss)};
    }
    json_decref(root);
    return r.st;
}

st_t trainer_load(struct trainer *t, const char *path, struct base_err *err)
{
    char *identity = NULL, *training = NULL;
    struct trainer *next = malloc(sizeof *next);
    struct trainer_point *curve = calloc((size_t)t->curve_max, sizeof *curve);
    st_t st = next && curve ? model_load_meta(path, "taut.identity", &identity, err) : ST_ENOMEM;
    if (!st && strcmp(identity, t->identity)) st = base_err_set(err, ST_ESTALE, path, "is the checkpoint of another training");
    if (!st) st = model_load_meta(path, "taut.training", &training, err);
    if (!st) {
        *next = *t;
        st = read_training(next, curve, training, path, err);
    }
    if (!st) st = model_load(t->model, path, next->at < next->steps, err);
    if (!st) {
        *t = *next;
        t->o.arch = &t->arch;
        memcpy(t->curve, curve, (size_t)t->curve_max * sizeof *curve);
    }
    free(next);
    free(curve);
    free(identity);
    free(training);
    return st;
}
