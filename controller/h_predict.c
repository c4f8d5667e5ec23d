/* trial.predict: the loss of a trial at other sizes and lengths, by its job's scaling fit: what the fit says there, times what the trial's result on its highest rung was off
 * the fit. The interval (95 %) is over fits of resampled trials, each with a change of that deviation as trials had it from one rung to the next. */
#include <math.h>
#include <stdlib.h>

#include "base/fit.h"
#include "base/rng.h"
#include "controller/internal.h"

#define POINTS_MAX  1000 /* of more, evenly spread trials are taken */
#define SAMPLES     200
#define TOKENS_MAX  1e18
#define WIDTH_MAX   65536
#define RNG_CHANGE  1000 /* number of the generator that draws changes */

struct scaling {
    struct ctl_job *j;
    struct fit_point *p;
    int n;
    struct fit_scaling fit, boot[SAMPLES];
    double *change; /* [nchanges] of a trial's log deviation from the fit, from one rung to the next */
    int nchanges;
    double least[2], most[2]; /* params, tokens of the points */
};

static void scaling_fini(struct scaling *s)
{
    free(s->p);
    free(s->change);
    free(s);
}

/* Tokens that a rung really trains on: whole steps. */
static double rung_tokens(const struct job *job, int rung)
{
    double step = (double)job->train.batch * job->data.context;
    return ceil(job_rung_tokens(job, rung) / step) * step;
}

static void gather_row(struct scaling *s, long row, int params, int loss)
{
    const struct archive *a = s->j->archive;
    for (int r = 0; r < s->j->job->rungs && archive_has(a, row, r); r++) {
        struct fit_point p = {archive_median(a, params, row), rung_tokens(s->j->job, r), archive_value(a, loss, row, r), (int)row};
        if (!(p.params > 0) || !(p.loss > 0)) continue;
        for (int k = 0; k < 2; k++) {
            double v = k ? p.tokens : p.params;
            if (!s->n || v < s->least[k]) s->least[k] = v;
            if (!s->n || v > s->most[k]) s->most[k] = v;
        }
        s->p[s->n++] = p;
    }
}

static double deviation_of(const struct fit_point *p, const struct fit_scaling *f)
{
    return log(p->loss / base_fit_scaling_at(f, p->params, p->tokens));
}

/* Log deviation of a trial from a fit, by its result on the highest rung: its points stand together, the lowest first. */
static double deviation(const struct scaling *s, const struct fit_scaling *f, int group)
{
    int i = s->n - 1;
    while (i >= 0 && s->p[i].group != group) i--;
    return i < 0 ? 0 : deviation_of(&s->p[i], f);
}

/* own: the trial's row, whose points are always among them. */
static st_t gather(struct scaling *s, long own)
{
    const struct archive *a = s->j->archive;
    int params = archive_metric(a, "params"), loss = archive_metric(a, "valid_loss");
    long trials = 0, points = 0, stride;
    for (int r = 0; r < s->j->job->rungs; r++) points += archive_rung_count(a, r);
    trials = archive_rung_count(a, 0);
    stride = points > POINTS_MAX ? (points + POINTS_MAX - 1) / POINTS_MAX : 1;
    s->p = malloc(((size_t)points + 1) * sizeof *s->p);
    s->change = malloc(((size_t)points + 1) * sizeof *s->change);
    if (!s->p || !s->change) return ST_ENOMEM;
    if (params < 0 || loss < 0 || !trials) return ST_EINVAL;
    gather_row(s, own, params, loss);
    for (long row = 0; row < archive_count(a); row++)
        if (row != own && row % stride == 0) gather_row(s, row, params, loss);
    st_t st = base_fit_scaling(&s->fit, s->p, s->n);
    if (!st) st = base_fit_scaling_boot(&s->fit, s->p, s->n, SAMPLES, s->j->job->seed, s->boot);
    for (int i = 1; i < s->n && !st; i++)
        if (s->p[i].group == s->p[i - 1].group) s->change[s->nchanges++] = deviation_of(&s->p[i], &s->fit) - deviation_of(&s->p[i - 1], &s->fit);
    return st;
}

static json_t *interval(double value, double *v, double scale)
{
    return json_pack("{s:f,s:f,s:f}", "value", value * scale, "low", base_fit_quantile(v, SAMPLES, 0.025) * scale, "high",
                     base_fit_quantile(v, SAMPLES, 0.975) * scale);
}

static json_t *parameter_json(const struct scaling *s, double (*of)(const struct fit_scaling *f))
{
    double v[SAMPLES];
    for (int i = 0; i < SAMPLES; i++) v[i] = of(&s->boot[i]);
    return interval(of(&s->fit), v, 1);
}

static double of_E(const struct fit_scaling *f)
{
    return f->E;
}

static double of_A(const struct fit_scaling *f)
{
    return f->A;
}

static double of_alpha(const struct fit_scaling *f)
{
    return f->alpha;
}

static double of_B(const struct fit_scaling *f)
{
    return f->B;
}

static double of_beta(const struct fit_scaling *f)
{
    return f->beta;
}

static json_t *range(const struct scaling *s, int k)
{
    return json_pack("[f,f]", s->least[k], s->most[k]);
}

/* By what factor is v outside of what the points cover? 1: it is inside. */
static double reach(const struct scaling *s, int k, double v)
{
    return v > s->most[k] ? v / s->most[k] : v < s->least[k] ? s->least[k] / v : 1;
}

static json_t *answer(const struct scaling *s, int64_t trial, long row, double params, double tokens)
{
    double v[SAMPLES], squares = 0;
    int trials = 0;
    double dev = deviation(s, &s->fit, (int)row), value = base_fit_scaling_at(&s->fit, params, tokens) * exp(dev);
    struct base_rng r = base_rng_at(s->j->job->seed, RNG_BOOT, RNG_CHANGE);
    for (int i = 0; i < s->nchanges; i++) squares += s->change[i] * s->change[i];
    for (int i = 0; i < s->n; i++) trials += !i || s->p[i].group != s->p[i - 1].group;
    for (int i = 0; i < SAMPLES; i++) {
        double its = deviation(s, &s->boot[i], (int)row), change = s->nchanges ? s->change[base_rng_below(&r, (uint32_t)s->nchanges)] : 0;
        v[i] = base_fit_scaling_at(&s->boot[i], params, tokens) * exp(its + change);
    }
    json_t *o = json_pack("{s:I,s:I,s:o,s:o}", "trial", (json_int_t)trial, "job", (json_int_t)s->j->id, "params", ctl_number(params), "tokens", ctl_number(tokens));
    if (!o) return NULL;
    json_object_set_new(o, "valid_loss", interval(value, v, 1));
    if (s->j->job->data.bytes) json_object_set_new(o, "valid_bpb", interval(value, v, 1 / log(2)));
    json_object_set_new(o, "deviation", json_real(expm1(dev)));
    json_object_set_new(o, "reach", json_pack("{s:f,s:f}", "params", reach(s, 0, params), "tokens", reach(s, 1, tokens)));
    json_object_set_new(o, "fit", json_pack("{s:o,s:o,s:o,s:o,s:o,s:f}", "E", parameter_json(s, of_E), "A", parameter_json(s, of_A), "alpha",
                                            parameter_json(s, of_alpha), "B", parameter_json(s, of_B), "beta", parameter_json(s, of_beta), "change",
                                            s->nchanges ? sqrt(squares / s->nchanges) : 0));
    json_object_set_new(o, "data", json_pack("{s:i,s:i,s:o,s:o}", "trials", trials, "results", s->n, "params", range(s, 0), "tokens", range(s, 1)));
    return o;
}

/* Parameters of the trial's architecture made so wide in proportion: matrices of its layers grow with the square of the width, embedding and head with the width. */
static st_t widened(struct ctl_job *j, long row, int64_t width, double *params, struct base_err *err)
{
    struct genome g;
    struct candidate x;
    struct arch_cost cost;
    st_t st = space_genome_init(j->job->space, &g);
    if (!st) st = archive_genome(j->archive, row, &g);
    if (!st) st = space_candidate(j->job->space, &g, &x, err);
    space_genome_fini(&g);
    if (st) return st;
    space_arch_cost(&x.arch, &cost);
    double ends = (double)x.arch.vocab * x.arch.width * (x.arch.tie ? 1 : 2), by = (double)width / x.arch.width;
    *params = ends * by + (cost.params - ends) * by * by;
    space_candidate_fini(&x);
    return ST_OK;
}

/* Why there is no fit, in words. */
static void refuse(struct wire_call *call, const struct ctl_job *j, st_t st)
{
    long points = 0, counts = 0;
    if (j->job->shared) {
        wire_call_error(call, WIRE_ESTATE, "job %lld trains at one token count: what is inherited has none of its own; a scaling fit takes three", (long long)j->id);
        return;
    }
    for (int r = 0; r < j->job->rungs; r++) {
        points += archive_rung_count(j->archive, r);
        counts += archive_rung_count(j->archive, r) > 0;
    }
    if (st == ST_EINVAL && j->job->rungs < 3)
        wire_call_error(call, WIRE_ESTATE, "job %lld trains at %d token count%s; a scaling fit takes three: give it \"fidelity\": {\"rungs\": 3} or more", (long long)j->id,
                        j->job->rungs, j->job->rungs == 1 ? "" : "s");
    else if (st == ST_EINVAL && counts < 3)
        wire_call_error(call, WIRE_ESTATE, "job %lld has results at %ld token count%s so far; a scaling fit takes three", (long long)j->id, counts, counts == 1 ? "" : "s");
    else if (st == ST_EINVAL)
        wire_call_error(call, WIRE_ESTATE, "job %lld has too few results for a scaling fit: %ld; it takes %d, of three sizes at least", (long long)j->id, points,
                        FIT_SCALING_LEAST);
    else
        wire_call_error(call, WIRE_EINTERNAL, "job %lld: no scaling fit: %s", (long long)j->id, base_status_text(st));
}

CTL_HANDLER(trial_predict)
{
    static const char *const keys[] = {"id", "tokens", "width"};
    struct ctl *c = ctx;
    struct base_err err = BASE_ERR_INIT;
    struct base_jr r = base_jr_at(params, "", &err);
    base_jr_need(&r, "id");
    base_jr_need(&r, "tokens");
    int64_t id = base_jr_int(&r, "id", 0, 1, INT64_MAX), width = base_jr_int(&r, "width", 0, 1, WIDTH_MAX);
    double tokens = base_jr_num(&r, "tokens", 1, 1, TOKENS_MAX), size = NAN;
    json_t *trial = NULL;
    if (base_jr_done(&r, keys, 3)) {
        ctl_bad_params(call, &err);
        return;
    }
    if (db_trial_json(c->db, id, &trial, &err)) {
        wire_call_error(call, WIRE_ENOTFOUND, "no trial %lld", (long long)id);
        return;
    }
    struct ctl_job *j = ctl_job_get(c, json_integer_value(json_object_get(trial, "job")));
    json_decref(trial);
    st_t st = j ? ctl_job_archive(c, j, &err) : ST_ENOTFOUND;
    if (st) {
        wire_call_error(call, st == ST_EVERSION ? WIRE_ESTATE : WIRE_EINTERNAL, "%s", err.what);
        return;
    }
    long row = archive_row(j->archive, id);
    if (space_type(j->job->space) != SPACE_LM) {
        wire_call_error(call, WIRE_ESTATE, "trial %lld is of a custom space: a scaling fit is of language models", (long long)id);
        return;
    }
    if (row < 0 || !archive_has(j->archive, row, 0)) {
        wire_call_error(call, WIRE_ESTATE, "trial %lld has no result to go on from", (long long)id);
        return;
    }
    struct scaling *s = calloc(1, sizeof *s);
    st = s ? ST_OK : ST_ENOMEM;
    if (s) s->j = j;
    if (!st) st = gather(s, row);
    if (!st) size = archive_median(j->archive, archive_metric(j->archive, "params"), row);
    if (!st && width) st = widened(j, row, width, &size, &err);
    if (st) refuse(call, j, st);
    else wire_call_result(call, answer(s, id, row, size, tokens));
    if (s) scaling_fini(s);
}
