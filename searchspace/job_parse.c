/* The job file: JSON to struct job. job.md and docs/job.md are the contract; what they promise and nothing builds is refused by name. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "searchspace/job.h"
#include "searchspace/options.h"
#include "searchspace/words.h"

#define SHARD_VOCAB_MAX 65536           /* uint16 tokens */
#define STEP_TOKENS_MAX (1 << 26)       /* batch x context */
#define TOKENS_MAX 1e15

static st_t no_memory(struct base_err *err)
{
    return base_err_set(err, ST_ENOMEM, "", "out of memory");
}

/* The string at key as one of list; the first of the list where the key is absent. Latches into r. */
static int read_word(struct base_jr *r, const char *key, const char *const *list, enum words_kind kind)
{
    const char *word = base_jr_str(r, key, list[0]);
    if (r->st) return 0;
    char where[256];
    snprintf(where, sizeof where, "%s%s%s", r->path, r->path[0] ? "." : "", key);
    int i = words_find(word, list, kind, key, where, r->err);
    if (i < 0) r->st = (st_t)i;
    return i < 0 ? 0 : i;
}

static st_t copy_path(struct base_jr *r, const char *key, const char *value, char **out)
{
    if (!value[0]) return base_jr_fail(r, ST_EINVAL, key, "must not be empty");
    *out = strdup(value);
    return *out ? ST_OK : (r->st = no_memory(r->err));
}

/* ---- data ---- */

static void read_tokenizer(struct base_jr *r, struct job_data *d)
{
    static const char *const known[] = {"vocab"};
    json_t *v = base_jr_get(r, "tokenizer");
    d->vocab = 256;
    d->bytes = true;
    if (!v) return;
    if (json_is_object(v)) {
        struct base_jr t = base_jr_at(v, "data.tokenizer", r->err);
        base_jr_done(&t, known, 1);
        base_jr_need(&t, "vocab");
        d->vocab = (int)base_jr_int(&t, "vocab", 0, 2, SHARD_VOCAB_MAX);
        d->bytes = false;
        r->st = t.st;
    } else if (!json_is_string(v)) {
        base_jr_fail(r, ST_EINVAL, "tokenizer", "must be \"bytes\" or {\"vocab\": N}");
    } else if (strcmp(json_string_value(v), "bytes")) {
        const char *word = json_string_value(v), *const words[] = {"bytes"};
        const char *near = base_nearest(word, words, 1);
        if (near) base_jr_fail(r, ST_EINVAL, "tokenizer", "unknown tokenizer '%.64s'; did you mean 'bytes'?", word);
        else base_jr_fail(r, ST_ENOTSUP, "tokenizer", "a tokenizer's file ('%.64s') is not built yet; use \"bytes\"", word);
    }
}

static st_t read_data(struct job *j, json_t *v, struct base_err *err)
{
    static const char *const known[] = {"train", "valid", "tokenizer", "context"};
    struct job_data *d = &j->data;
    struct base_jr r = base_jr_at(v, "data", err);
    base_jr_done(&r, known, 4);
    base_jr_need(&r, "train");
    const char *train = base_jr_str(&r, "train", "");
    if (r.st || copy_path(&r, "train", train, &d->train)) return r.st;
    json_t *valid = base_jr_get(&r, "valid");
    if (json_is_string(valid)) {
        copy_path(&r, "valid", json_string_value(valid), &d->valid);
    } else if (valid && !json_is_number(valid)) {
        base_jr_fail(&r, ST_EINVAL, "valid", "must be a share, such as 0.05, or a file");
    } else {
        d->valid_share = base_jr_num(&r, "valid", 0.05, 0, 0.9);
        if (!r.st && d->valid_share == 0) base_jr_fail(&r, ST_EINVAL, "valid", "must be above 0: without held-out text nothing is compared");
    }
    read_tokenizer(&r, d);
    d->context = (int)base_jr_int(&r, "context", 256, 1, ARCH_CONTEXT_MAX);
    return r.st;
}

/* ---- objectives and constraints ---- */

static st_t read_metric(struct job *j, struct base_jr *r, const char *path, json_t *v, struct metric *out)
{
    char where[256];
    snprintf(where, sizeof where, "%s.metric", path);
    if (!json_is_string(v)) return r->st = base_err_set(r->err, ST_EINVAL, where, v ? "must be a string" : "missing");
    st_t st = space_metric_parse(out, json_string_value(v), space_type(j->space) == SPACE_CUSTOM, where, r->err);
    if (!st && space_type(j->space) == SPACE_LM && !j->data.bytes && !strcmp(out->name, "valid_bpb")) {
        st = base_err_set(r->err, ST_EINVAL, where, "valid_bpb is unknown for token shards, whose bytes nobody knows; use 'valid_loss'");
    }
    if (!st && j->problem) st = problem_metric_check(j->problem, out->name, where, r->err);
    return r->st = st;
}

static st_t read_objective(struct job *j, json_t *v, int i, struct base_err *err)
{
    static const char *const known[] = {"metric", "goal"}, *const goals[] = {"min", "max", NULL};
    struct job_objective *o = &j->objective[i];
    char path[32];
    snprintf(path, sizeof path, "objectives[%d]", i);
    struct base_jr r = {.obj = v, .err = err}; /* a string is short for {"metric": string} */
    snprintf(r.path, sizeof r.path, "%s", path);
    json_t *name = v;
    if (json_is_object(v)) {
        base_jr_done(&r, known, 2);
        name = base_jr_get(&r, "metric");
    } else if (!json_is_string(v)) {
        return base_jr_fail(&r, ST_EINVAL, NULL, "must be a metric's name or {\"metric\": …, \"goal\": …}");
    }
    if (r.st || read_metric(j, &r, path, name, &o->metric)) return r.st;
    o->goal = o->metric.goal;
    if (json_is_object(v) && base_jr_get(&r, "goal")) o->goal = read_word(&r, "goal", goals, WORDS_OTHER) ? METRIC_MAX : METRIC_MIN;
    for (int k = 0; k < i; k++)
        if (!strcmp(j->objective[k].metric.name, o->metric.name))
            return base_jr_fail(&r, ST_EINVAL, "metric", "'%s' is already objectives[%d]", o->metric.name, k);
    return r.st;
}

static st_t read_objectives(struct job *j, json_t *v, struct base_err *err)
{
    size_t n = json_array_size(v);
    if (!v) return base_err_set(err, ST_EINVAL, "objectives", "missing");
    if (!json_is_array(v) || n < 1 || n > JOB_OBJECTIVES_MAX)
        return base_err_set(err, ST_EINVAL, "objectives", "must be a list of 1 to %d metrics", JOB_OBJECTIVES_MAX);
    for (size_t i = 0; i < n; i++) {
        st_t st = read_objective(j, json_array_get(v, i), (int)i, err);
        if (st) return st;
        j->nobjectives++;
    }
    return ST_OK;
}

static st_t read_constraint(struct job *j, json_t *v, int i, struct base_err *err)
{
    static const char *const known[] = {"metric", "min", "max"};
    struct job_constraint *c = &j->constraint[i];
    char path[32];
    snprintf(path, sizeof path, "constraints[%d]", i);
    struct base_jr r = base_jr_at(v, path, err);
    if (base_jr_done(&r, known, 3) || read_metric(j, &r, path, base_jr_get(&r, "metric"), &c->metric)) return r.st;
    c->min = base_jr_num(&r, "min", -INFINITY, -INFINITY, INFINITY);
    c->max = base_jr_num(&r, "max", INFINITY, -INFINITY, INFINITY);
    if (!base_jr_get(&r, "min") && !base_jr_get(&r, "max")) return base_jr_fail(&r, ST_EINVAL, NULL, "needs \"min\" or \"max\"");
    if (c->min > c->max) return base_jr_fail(&r, ST_EINVAL, "min", "%g is above max %g", c->min, c->max);
    for (int k = 0; k < i; k++)
        if (!strcmp(j->constraint[k].metric.name, c->metric.name))
            return base_jr_fail(&r, ST_EINVAL, "metric", "'%s' is already constraints[%d]", c->metric.name, k);
    return r.st;
}

static st_t read_constraints(struct job *j, json_t *v, struct base_err *err)
{
    size_t n = json_array_size(v);
    if (!v) return ST_OK;
    if (!json_is_array(v) || n > JOB_CONSTRAINTS_MAX)
        return base_err_set(err, ST_EINVAL, "constraints", "must be a list of at most %d constraints", JOB_CONSTRAINTS_MAX);
    for (size_t i = 0; i < n; i++) {
        st_t st = read_constraint(j, json_array_get(v, i), (int)i, err);
        if (st) return st;
        j->nconstraints++;
    }
    return ST_OK;
}

/* ---- proxies ---- */

static st_t read_proxies(struct job *j, json_t *v, struct base_err *err)
{
    size_t n = json_array_size(v);
    char where[32];
    if (!v) return ST_OK;
    if (space_type(j->space) == SPACE_CUSTOM) return base_err_set(err, ST_EINVAL, "proxies", "are of language models: a custom space has none");
    if (json_is_string(v) && !strcmp(json_string_value(v), "auto")) {
        j->nproxies = space_proxies(j->proxy, JOB_PROXIES_MAX);
        return ST_OK;
    }
    if (json_is_string(v)) {
        st_t st = space_proxy_parse(&j->proxy[0], json_string_value(v), "proxies", err);
        return st ? st : base_err_set(err, ST_EINVAL, "proxies", "must be a list, as in [\"%s\"]", json_string_value(v));
    }
    if (!json_is_array(v) || n > JOB_PROXIES_MAX) return base_err_set(err, ST_EINVAL, "proxies", "must be a list of at most %d names", JOB_PROXIES_MAX);
    for (size_t i = 0; i < n; i++) {
        json_t *name = json_array_get(v, i);
        struct metric *m = &j->proxy[i];
        snprintf(where, sizeof where, "proxies[%zu]", i);
        if (!json_is_string(name)) return base_err_set(err, ST_EINVAL, where, "must be a proxy's name");
        st_t st = space_proxy_parse(m, json_string_value(name), where, err);
        if (st) return st;
        for (size_t k = 0; k < i; k++)
            if (!strcmp(j->proxy[k].name, m->name)) return base_err_set(err, ST_EINVAL, where, "'%s' is already proxies[%zu]", json_string_value(name), k);
        j->nproxies++;
    }
    return ST_OK;
}

/* ---- train, fidelity, search, budget ---- */

/* An object that may be left out: every getter then gives its default. */
static struct base_jr optional(json_t *root, json_t *empty, const char *key, struct base_err *err)
{
    json_t *v = json_object_get(root, key);
    return base_jr_at(v ? v : empty, key, err);
}

static st_t read_train(struct job *j, struct base_jr r)
{
    static const char *const known[] = {"batch", "lr", "lr_width_rule", "weight_decay", "warmup", "schedule"};
    static const char *const rules[] = {"mup", "none", NULL}, *const schedules[] = {"wsd", "constant", NULL};
    struct job_train *t = &j->train;
    base_jr_done(&r, known, sizeof known / sizeof known[0]);
    t->batch = (int)base_jr_int(&r, "batch", 16, 1, 65536);
    t->lr = base_jr_num(&r, "lr", 3e-3, 0, 10);
    if (!r.st && t->lr == 0) base_jr_fail(&r, ST_EINVAL, "lr", "must be above 0");
    t->mup = read_word(&r, "lr_width_rule", rules, WORDS_OTHER) == 0;
    t->weight_decay = base_jr_num(&r, "weight_decay", 0.1, 0, 10);
    t->decay = read_word(&r, "schedule", schedules, WORDS_OTHER) == 0 ? 0.2 : 0;
    t->warmup = base_jr_num(&r, "warmup", 0.02, 0, 1 - t->decay);
    t->beta1 = 0.9;
    t->beta2 = 0.95;
    t->eps = 1e-8;
    t->clip = 1;
    return r.st;
}

static st_t read_fidelity(struct job *j, struct base_jr r)
{
    static const char *const known[] = {"tokens", "rungs", "eta"};
    base_jr_done(&r, known, 3);
    j->tokens = base_jr_num(&r, "tokens", 2e6, 1, TOKENS_MAX);
    if (!r.st && j->tokens != floor(j->tokens)) base_jr_fail(&r, ST_EINVAL, "tokens", "must be a whole number");
    j->rungs = (int)base_jr_int(&r, "rungs", 1, 1, JOB_RUNGS_MAX);
    j->eta = base_jr_num(&r, "eta", 3, 1.1, 100); /* without a second rung it decides nothing */
    if (!r.st && j->rungs > 1 && j->problem) base_jr_fail(&r, ST_EINVAL, "rungs", "a standard problem is a formula, the same at every rung; use 1");
    return r.st;
}

static st_t read_search(struct job *j, struct base_jr r)
{
    static const char *const known[] = {"strategy", "population", "weights", "supernet", "adapt"};
    static const char *const strategies[] = {"auto", "aging", "nsga2", "random", "surrogate", NULL}, *const weights[] = {"standalone", "shared", NULL};
    base_jr_done(&r, known, 5);
    int i = read_word(&r, "strategy", strategies, WORDS_STRATEGY);
    snprintf(j->strategy, sizeof j->strategy, "%s", strategies[i]);
    j->population = (int)base_jr_int(&r, "population", 48, 2, 100000);
    j->shared = read_word(&r, "weights", weights, WORDS_WEIGHTS) == 1;
    j->supernet = base_jr_num(&r, "supernet", JOB_SUPERNET, 0.01, 1000);
    j->adapt = base_jr_num(&r, "adapt", JOB_ADAPT, 0, 1);
    for (int k = 3; k < 5 && !j->shared && !r.st; k++)
        if (base_jr_get(&r, known[k])) base_jr_fail(&r, ST_EINVAL, known[k], "means something with \"weights\": \"shared\" alone");
    return r.st;
}

/* What shared weights ask of the rest of a job. What is said of training must be said of training alone: a candidate with inherited weights has none. */
static st_t read_shared(struct job *j, struct base_jr *r)
{
    static const char *const finals[] = {"scratch", "inherited", NULL};
    struct space_options o;
    j->inherited = read_word(r, "final", finals, WORDS_OTHER) == 1;
    if (r->st) return r->st;
    if (!j->shared) return base_jr_get(r, "final") ? base_jr_fail(r, ST_EINVAL, "final", "means something with \"search\": {\"weights\": \"shared\"} alone") : ST_OK;
    if (j->problem || j->external) return base_err_set(r->err, ST_ENOTSUP, "search.weights", "weights are shared by taut's own evaluator alone");
    if (j->rungs > 1) return base_err_set(r->err, ST_EINVAL, "fidelity.rungs", "shared weights bring two of their own, inherited and trained alone; leave it out");
    for (int i = 0; i < j->nobjectives; i++) {
        const struct metric *m = &j->objective[i].metric;
        bool trained = m->source == METRIC_TRAIN || (m->source == METRIC_ENERGY && !m->context);
        if (trained && strncmp(m->name, "valid_", 6))
            return base_err_set(r->err, ST_EINVAL, "objectives", "%s is of a training, and with shared weights a candidate has none of its own", m->name);
    }
    st_t st = space_options_of(j->space, &o, r->err);
    if (st) return st;
    space_options_fini(&o);
    j->rungs = 2;
    return ST_OK;
}

static st_t read_budget(struct job *j, json_t *v, struct base_err *err)
{
    static const char *const known[] = {"evaluations", "hours", "joules"};
    j->budget = (struct job_budget){JOB_EVALUATIONS, INFINITY, INFINITY};
    if (!v) return ST_OK;
    struct base_jr r = base_jr_at(v, "budget", err);
    base_jr_done(&r, known, 3);
    if (base_jr_get(&r, "joules")) return base_jr_fail(&r, ST_ENOTSUP, "joules", "a budget of energy is not built yet");
    bool counted = base_jr_get(&r, "evaluations"), timed = base_jr_get(&r, "hours");
    if (!r.st && !counted && !timed) base_jr_fail(&r, ST_EINVAL, NULL, "needs \"evaluations\" or \"hours\"");
    j->budget.evaluations = counted ? (double)base_jr_int(&r, "evaluations", 1, 1, 1000000000) : INFINITY;
    j->budget.hours = base_jr_num(&r, "hours", INFINITY, 0, 1e6);
    if (!r.st && j->budget.hours == 0) base_jr_fail(&r, ST_EINVAL, "hours", "must be above 0");
    return r.st;
}

/* ---- the whole ---- */

static bool is_target_name(const char *s)
{
    size_t n = strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.:-");
    return n > 0 && !s[n];
}

static void read_names(struct job *j, struct base_jr *r)
{
    const char *name = base_jr_str(r, "name", "job"), *target = base_jr_str(r, "target", "first");
    if (r->st) return;
    size_t n = strlen(name);
    bool control = false;
    for (size_t i = 0; i < n; i++) control = control || (unsigned char)name[i] < 0x20 || name[i] == 0x7f;
    if (n < 1 || n >= JOB_NAME_MAX || control) {
        base_jr_fail(r, ST_EINVAL, "name", "must have 1 to %d bytes and no control characters", JOB_NAME_MAX - 1);
    } else if (!is_target_name(target) || strlen(target) >= sizeof j->target) {
        base_jr_fail(r, ST_EINVAL, "target", "must be \"first\", \"cpu\", \"cuda\" or an evaluator's name (letters, digits and _ . : -)");
    } else {
        memcpy(j->name, name, n + 1);
        snprintf(j->target, sizeof j->target, "%s", target);
    }
    j->seed = (uint64_t)base_jr_int(r, "seed", 1, 0, INT64_MAX);
}

static void read_evaluator(struct job *j, struct base_jr *r)
{
    static const char *const evaluators[] = {"taut", "external", NULL}, *const known[] = {"problem"};
    json_t *v = base_jr_get(r, "evaluator");
    if (json_is_object(v)) {
        struct base_jr e = base_jr_at(v, "evaluator", r->err);
        base_jr_done(&e, known, 1);
        base_jr_need(&e, "problem");
        int i = read_word(&e, "problem", problem_names(), WORDS_OTHER);
        r->st = e.st;
        if (!r->st) j->problem = problem_find(problem_names()[i]);
        return;
    }
    j->external = read_word(r, "evaluator", evaluators, WORDS_OTHER) == 1;
}

/* Is the space an object of type "custom"? Decides what "data" means, so it is asked before the space is read. */
static bool wants_custom(json_t *space)
{
    const char *type = json_string_value(json_object_get(space, "type"));
    return type && !strcmp(type, "custom");
}

/* A problem brings its space, which nothing may replace, and objectives and constraints, which the job may choose among. */
static st_t read_problem(struct job *j, struct base_jr *r)
{
    if (base_jr_get(r, "space")) return base_jr_fail(r, ST_EINVAL, "space", "the problem '%s' brings its own; leave it out", j->problem->name);
    if (base_jr_get(r, "data")) return base_jr_fail(r, ST_EINVAL, "data", "the problem '%s' is a formula and reads none; leave it out", j->problem->name);
    j->space_json = problem_space(j->problem);
    if (!j->space_json) return r->st = no_memory(r->err);
    return r->st = space_new(&j->space, j->space_json, 0, 0, r->err);
}

static st_t read_space_and_data(struct job *j, struct base_jr *r)
{
    if (j->problem) return read_problem(j, r);
    json_t *space = base_jr_need(r, "space"), *data = json_object_get(r->obj, "data");
    if (r->st) return r->st;
    bool custom = wants_custom(space);
    if (!custom && !data) return base_jr_fail(r, ST_EINVAL, "data", "missing");
    st_t st = custom ? ST_OK : read_data(j, data, r->err);
    if (!st) st = space_new(&j->space, space, j->data.vocab, j->data.context, r->err);
    if (st) return r->st = st;
    if (custom && !j->external) return base_jr_fail(r, ST_EINVAL, "evaluator", "a custom space needs \"evaluator\": \"external\"");
    j->space_json = json_deep_copy(space);
    if (data) j->data_json = json_deep_copy(data);
    if (!j->space_json || (data && !j->data_json)) return r->st = no_memory(r->err);
    return ST_OK;
}

double job_rung_tokens(const struct job *j, int rung)
{
    if (j->shared && rung == 0) return fmax(round(j->supernet * j->tokens), 1);
    return round(j->tokens / pow(j->eta, j->rungs - 1 - rung));
}

long job_audit_trials(const struct job *j, double evaluations)
{
    double n = ceil(j->audit * evaluations);
    return j->audit == 0 || j->rungs == 1 ? 0 : n > JOB_AUDIT_LEAST ? (long)n : JOB_AUDIT_LEAST;
}

#define RUNGS_REMEDY "take fewer rungs, a smaller eta or more tokens"

static double step_tokens(const struct job *j)
{
    return space_type(j->space) == SPACE_LM ? (double)j->train.batch * j->data.context : 1;
}

/* Each rung must train on more than the one below it, and the lowest be warm before it decays. */
static st_t try_rungs(const struct job *j, struct base_err *err)
{
    bool lm = space_type(j->space) == SPACE_LM;
    double step = step_tokens(j), first = job_rung_tokens(j, 0), before = 0;
    if (first < step && lm) {
        return base_err_set(err, ST_EINVAL, "fidelity.rungs", "rung 0 of %d has %.0f tokens, less than one step (batch %d x context %d = %.0f); " RUNGS_REMEDY,
                            j->rungs, first, j->train.batch, j->data.context, step);
    }
    if (first < 1) return base_err_set(err, ST_EINVAL, "fidelity.rungs", "rung 0 of %d has no tokens; " RUNGS_REMEDY, j->rungs);
    for (int r = 0; r < j->rungs; r++) {
        double steps = ceil(job_rung_tokens(j, r) / step);
        if (steps <= before) {
            return base_err_set(err, ST_EINVAL, "fidelity.rungs", "rungs %d and %d have as many %s (%.0f); " RUNGS_REMEDY, r - 1, r,
                                lm ? "steps" : "tokens", steps);
        }
        before = steps;
    }
    double S = ceil(first / step), stable = S - round(j->train.decay * S), warm = fmax(1, round(j->train.warmup * before));
    if (lm && warm > stable) {
        return base_err_set(err, ST_EINVAL, "train.warmup", "its %.0f steps (a share of the top rung's %.0f) are more than the %.0f before rung 0 decays; "
                            "take a smaller one, or fewer rungs", warm, before, stable);
    }
    return ST_OK;
}

#define LEAST_TRIES 4096

static st_t check_rungs(const struct job *j, struct base_err *err)
{
    struct base_err why = BASE_ERR_INIT;
    struct job k = *j;
    st_t st = try_rungs(j, &why);
    if (!st) return ST_OK;
    double step = step_tokens(j), from = fmax(1, floor((1 - 0.5 / step) * pow(j->eta, j->rungs - 1))); /* with fewer steps rung 0 has none */
    for (int i = 0; i < LEAST_TRIES; i++) {
        k.tokens = (from + i) * step;
        if (k.tokens > j->tokens && !try_rungs(&k, NULL)) return base_err_set(err, st, why.where, "%s (fidelity.tokens: %.0f is enough)", why.what, k.tokens);
    }
    return base_err_set(err, st, why.where, "%s", why.what);
}

/* Low rungs are checked by trials that go to the top whatever they bring: do so many fit? */
static st_t check_audit(const struct job *j, struct base_err *err)
{
    double n = j->budget.evaluations;
    long trials = isfinite(n) ? job_audit_trials(j, n) : 0;
    if (trials == 0 || (double)trials < n) return ST_OK;
    return base_err_set(err, ST_EINVAL, "audit", "trains %ld architectures to the top rung (%g of the budget, %d at least) and budget.evaluations is %.0f, which leaves nothing to search with; "
                        "raise the budget above %ld, or set audit to 0", trials, j->audit, JOB_AUDIT_LEAST, n, trials);
}

static st_t check_sizes(const struct job *j, struct base_err *err)
{
    if (space_type(j->space) == SPACE_CUSTOM) return ST_OK;
    double step = (double)j->train.batch * j->data.context;
    if (step > STEP_TOKENS_MAX) {
        return base_err_set(err, ST_EINVAL, "train.batch", "%d x context %d is more than %d tokens a step", j->train.batch,
                            j->data.context, STEP_TOKENS_MAX);
    }
    if (j->tokens < step) {
        return base_err_set(err, ST_EINVAL, "fidelity.tokens", "%.0f is less than one step; the least is batch %d x context %d = %.0f", j->tokens,
                            j->train.batch, j->data.context, step);
    }
    return ST_OK;
}

/* Objectives and constraints: as given; a problem's own where nothing is. */
static st_t read_goals(struct job *j, json_t *v, struct base_err *err)
{
    json_t *objectives = json_incref(json_object_get(v, "objectives")), *constraints = json_incref(json_object_get(v, "constraints"));
    if (j->problem && !objectives) objectives = problem_objectives(j->problem);
    if (j->problem && !constraints) constraints = problem_constraints(j->problem);
    st_t st = read_objectives(j, objectives, err);
    if (!st) st = read_constraints(j, constraints, err);
    json_decref(objectives);
    json_decref(constraints);
    return st;
}

static st_t read_job(struct job *j, json_t *v, json_t *empty, struct base_err *err)
{
    static const char *const known[] = {"name", "seed", "data", "space", "target", "objectives", "constraints", "train", "fidelity",
                                        "search", "precision", "decode_precision", "evaluator", "budget", "proxies", "audit", "final"};
    static const char *const precisions[] = {"auto", "f32", "bf16", NULL}, *const decode[] = {"same", "f32", "bf16", "int8", NULL};
    struct base_jr r = base_jr_at(v, "", err);
    base_jr_done(&r, known, sizeof known / sizeof known[0]);
    read_names(j, &r);
    snprintf(j->precision, sizeof j->precision, "%s", precisions[read_word(&r, "precision", precisions, WORDS_OTHER)]);
    snprintf(j->decode_precision, sizeof j->decode_precision, "%s", decode[read_word(&r, "decode_precision", decode, WORDS_OTHER)]);
    space_weights_find(j->decode_precision, &j->decode);
    read_evaluator(j, &r);
    j->audit = base_jr_num(&r, "audit", 0.1, 0, 0.5);
    if (r.st || read_space_and_data(j, &r)) return r.st;
    st_t st = read_goals(j, v, err);
    if (!st) st = read_proxies(j, json_object_get(v, "proxies"), err);
    if (!st) st = read_train(j, optional(v, empty, "train", err));
    if (!st) st = read_fidelity(j, optional(v, empty, "fidelity", err));
    if (!st) st = read_search(j, optional(v, empty, "search", err));
    if (!st) st = read_budget(j, json_object_get(v, "budget"), err);
    if (!st) st = check_sizes(j, err);
    if (!st) st = read_shared(j, &r);
    if (!st && j->rungs > 1 && !j->shared) st = check_rungs(j, err);
    return st || j->rungs == 1 ? st : check_audit(j, err);
}

st_t job_from_json(struct job **out, json_t *v, struct base_err *err)
{
    struct job *j = calloc(1, sizeof *j);
    json_t *empty = json_object();
    st_t st = j && empty ? read_job(j, v, empty, err) : no_memory(err);
    json_decref(empty);
    if (st) job_free(j);
    else *out = j;
    return st;
}

st_t job_parse(struct job **out, const char *text, size_t len, const char *name, struct base_err *err)
{
    json_t *root;
    st_t st = base_json_parse(&root, text, len, name, err);
    if (st) return st;
    st = job_from_json(out, root, err);
    json_decref(root);
    return st;
}
