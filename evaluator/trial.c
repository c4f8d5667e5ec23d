#include "evaluator/trial.h"

#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "searchspace/arch_json.h"

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

static st_t read_kind(struct base_jr *task, struct trial *t)
{
    static const char *const kinds[] = {"train", "validate", "score", "supernet", "profile"};
    const char *kind = base_jr_str(task, "kind", "");
    int i = 0;
    while (i < 5 && strcmp(kinds[i], kind)) i++;
    if (i == 5) return base_jr_fail(task, ST_ENOTSUP, "kind", "only 'train', 'validate', 'score', 'supernet' and 'profile' are served here");
    t->kind = (enum trial_kind)i;
    return ST_OK;
}

static st_t read_arch(struct base_jr *lease, struct trial *t)
{
    base_jr_need(lease, "trial");
    base_jr_int(lease, "trial", 0, 1, INT64_MAX);
    json_t *arch = base_jr_need(lease, "arch");
    st_t st = lease->st ? lease->st : space_arch_from_json(&t->arch, arch, "arch", lease->err);
    t->vocab = t->arch.vocab, t->context = t->arch.context;
    return st;
}

/* A supernet is of whatever the text asks for. */
static st_t read_text(struct trial *t, struct base_err *err)
{
    struct base_jr d = base_jr_at(t->data, "data", err);
    base_jr_need(&d, "vocab");
    base_jr_need(&d, "context");
    t->vocab = (int)base_jr_int(&d, "vocab", 0, 1, 1048576);
    t->context = (int)base_jr_int(&d, "context", 0, 1, 16777216);
    return d.st;
}

static st_t read_supernet(struct base_jr *task, struct trial *t)
{
    json_t *super = t->kind == TRIAL_TRAIN || t->kind == TRIAL_SCORE || t->kind == TRIAL_PROFILE ? base_jr_get(task, "supernet") : base_jr_need(task, "supernet");
    if (!super) return task->st;
    struct base_jr s = base_jr_at(super, "task.supernet", task->err);
    t->super_tokens = base_jr_num(&s, "tokens", 0, 1, 1e18);
    t->adapt_tokens = base_jr_num(&s, "adapt", 0, 0, 1e18);
    t->space = base_jr_need(&s, "space");
    json_t *file = base_jr_get(&s, "checkpoint");
    t->super_file = json_string_value(json_object_get(file, "path"));
    t->super_hash = json_string_value(json_object_get(file, "hash"));
    return s.st;
}

st_t trial_read(struct trial *t, json_t *v, const char *work, enum kn_dtype fastest, struct base_err *err)
{
    struct base_jr r = base_jr_at(v, "lease", err);
    t->id = json_integer_value(json_object_get(v, "trial"));
    t->job = base_jr_int(&r, "job", 0, 1, INT64_MAX);
    t->tokens = base_jr_num(&r, "tokens", 0, 1, 1e18);
    t->seed = (uint64_t)base_jr_int(&r, "seed", 1, INT64_MIN, INT64_MAX);
    int64_t rung = base_jr_int(&r, "rung", 0, 0, JOB_RUNGS_MAX - 1);
    t->data = base_jr_need(&r, "data");
    json_t *task = base_jr_need(&r, "task"), *metrics = base_jr_need(&r, "metrics");
    if (r.st) return r.st;
    struct base_jr k = base_jr_at(task, "task", err);
    st_t st = read_kind(&k, t);
    if (!st) st = t->kind == TRIAL_SUPERNET ? read_text(t, err) : read_arch(&r, t);
    if (!st) st = read_supernet(&k, t);
    if (st) return st;
    struct base_jr q = base_jr_at(base_jr_need(&k, "train"), "task.train", err);
    t->train = (struct job_train){.batch = (int)base_jr_int(&q, "batch", 16, 1, 65536), .lr = base_jr_num(&q, "lr", 3e-3, 0, 10),
                                  .mup = !strcmp(base_jr_str(&q, "lr_width_rule", "mup"), "mup"), .weight_decay = base_jr_num(&q, "weight_decay", 0.1, 0, 10),
                                  .warmup = base_jr_num(&q, "warmup", 0.02, 0, 1), .decay = strcmp(base_jr_str(&q, "schedule", "wsd"), "wsd") ? 0 : 0.2,
                                  .beta1 = 0.9, .beta2 = 0.95, .eps = 1e-8, .clip = 1};
    const char *precision = base_jr_str(&k, "precision", "f32"), *kept = base_jr_str(&k, "decode_precision", "same");
    if (k.st || q.st || read_rungs(&k, rung, t)) return k.st ? k.st : q.st;
    t->precision = !strcmp(precision, "auto") ? fastest : !strcmp(precision, "bf16") ? KN_BF16 : KN_F32;
    if (t->precision == KN_F32 && strcmp(precision, "f32") && strcmp(precision, "auto"))
        return base_jr_fail(&k, ST_ENOTSUP, "precision", "'%.32s' is not served here", precision);
    if (space_weights_find(kept, &t->decode)) return base_jr_fail(&k, ST_ENOTSUP, "decode_precision", "'%.32s' is not served here", kept);
    size_t i;
    json_t *m;
    json_array_foreach(metrics, i, m)
    {
        if (t->nmetrics == TRIAL_METRICS_MAX) break;
        st = space_metric_parse(&t->metric[t->nmetrics++], json_string_value(m) ? json_string_value(m) : "", false, "metrics", err);
        if (st) return st;
    }
    json_t *c = json_object_get(v, "checkpoint");
    t->checkpoint = json_string_value(json_object_get(c, "path"));
    t->hash = json_string_value(json_object_get(c, "hash"));
    t->reached = json_number_value(json_object_get(c, "tokens"));
    char on[16] = "";
    if (rung) snprintf(on, sizeof on, ".rung%d", (int)rung);
    if (snprintf(t->super_path, sizeof t->super_path, "%s/job%lld-supernet.safetensors", work, (long long)t->job) >= (int)sizeof t->super_path ||
        snprintf(t->super_own, sizeof t->super_own, "%s/job%lld-supernet.own.safetensors", work, (long long)t->job) >= (int)sizeof t->super_own ||
        snprintf(t->init, sizeof t->init, "%s/job%lld-trial%lld.inherited.safetensors", work, (long long)t->job, (long long)t->id) >= (int)sizeof t->init)
        return base_err_set(err, ST_ETOOBIG, work, "the path of the work folder is too long");
    if (snprintf(t->path, sizeof t->path, "%s/job%lld-trial%lld%s.safetensors", work, (long long)t->job, (long long)t->id, on) >= (int)sizeof t->path ||
        snprintf(t->stable, sizeof t->stable, "%s/job%lld-trial%lld.stable.safetensors", work, (long long)t->job, (long long)t->id) >= (int)sizeof t->stable)
        return base_err_set(err, ST_ETOOBIG, work, "the path of the work folder is too long");
    return ST_OK;
}
