/* Trials that cannot reach the front of their rung are ended while they train. */
#include "controller/internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/fit.h"

#define PEERS_MAX   16  /* the newest results of the rung, of which is learned what comes between the trunk and a result */
#define PEERS_LEAST 6
#define FROM        0.2 /* of the tokens so far: before that the curve is the warm-up's */
#define POINTS_MAX  CTL_CURVE_MAX
#define FIT_MAX     200 /* points that are fitted: of more, evenly spread ones */
#define EARLIER     (2.0 / 3) /* of the tokens so far: the curve up to there must say the same */

struct curve {
    double (*p)[2]; /* [POINTS_MAX] tokens, loss */
    double *t, *y;  /* [POINTS_MAX] scratch */
    int n;
};

static st_t curve_init(struct curve *v)
{
    v->p = malloc(POINTS_MAX * sizeof *v->p);
    v->t = malloc(POINTS_MAX * sizeof *v->t);
    v->y = malloc(POINTS_MAX * sizeof *v->y);
    return v->p && v->t && v->y ? ST_OK : ST_ENOMEM;
}

static void curve_fini(struct curve *v)
{
    free(v->p);
    free(v->t);
    free(v->y);
}

/* Where the trunk would end, from what the trial's curve has up to so many tokens. */
static st_t extrapolate(struct ctl *c, struct curve *v, int64_t trial, int rung, double upto, double end, double *value, double *sd)
{
    struct fit_power f;
    int n = 0, all = 0;
    st_t st = db_trial_curve(c->db, trial, rung, v->p, POINTS_MAX, &v->n);
    for (int i = 0; i < v->n && !st; i++) {
        if (v->p[i][0] > upto || v->p[i][0] < FROM * upto || !isfinite(v->p[i][1])) continue;
        memmove(v->p[all++], v->p[i], sizeof *v->p);
    }
    for (int i = 0, stride = (all + FIT_MAX - 1) / FIT_MAX; i < all; i += stride) {
        v->t[n] = v->p[i][0];
        v->y[n++] = v->p[i][1];
    }
    if (!st) st = base_fit_power(&f, v->t, v->y, n);
    if (!st) base_fit_power_at(&f, end, value, sd);
    return st;
}

struct ending {
    double value, low; /* of valid_loss: expected, and the lower 97.5 % bound */
};

/* What a result has more or less than the trunk's extrapolated end (the decay, held-out text, and what the extrapolation is wrong by) is learned of the rung's others, each
 * extrapolated from as many tokens. */
static st_t predict(struct ctl *c, const struct ctl_job *j, long row, int rung, double upto, struct ending *out)
{
    const struct archive *a = j->archive;
    const struct job *job = j->job;
    double step = (double)job->train.batch * job->data.context, S = ceil(job_rung_tokens(job, rung) / step);
    double end = (S - round(job->train.decay * S)) * step, value, sd, sum = 0, squares = 0;
    int col = archive_metric(a, "valid_loss"), n = 0;
    struct curve v = {0};
    st_t st = col < 0 ? ST_ENOTFOUND : curve_init(&v);
    if (!st) st = extrapolate(c, &v, archive_trial(a, row), rung, upto, end, &value, &sd);
    for (long i = archive_reported(a) - 1; i >= 0 && n < PEERS_MAX && !st; i--) {
        long other = archive_reported_row(a, i);
        double there, its_sd;
        if (archive_reported_rung(a, i) != rung || !archive_has(a, other, rung)) continue;
        double loss = archive_value(a, col, other, rung);
        if (isnan(loss) || extrapolate(c, &v, archive_trial(a, other), rung, upto, end, &there, &its_sd)) continue;
        sum += loss - there;
        squares += (loss - there) * (loss - there);
        n++;
    }
    curve_fini(&v);
    if (!st && n < PEERS_LEAST) st = ST_ENOTFOUND;
    if (st) return st;
    double mean = sum / n, var = fmax(squares - n * mean * mean, 0) / (n - 1);
    out->value = value + mean;
    out->low = fmax(out->value - base_fit_t975(n - 1) * sqrt(sd * sd + var * (1 + 1.0 / n)), 0);
    return ST_OK;
}

/* What is known of the trial's objectives, all minimised, with the predicted end in place of a loss, and the best end of the latency model's interval where that is relied on and
 * nothing is measured yet (*modelled; never of every ESTIMATE_CHECK-th trial). Returns the index of the loss; -1: there is none, or another objective is not known, and could be the best there is. */
static int known(struct ctl_job *j, long row, int rung, const struct ending *e, double y[JOB_OBJECTIVES_MAX], bool *modelled)
{
    const struct job *job = j->job;
    struct latency_value v;
    int loss = -1;
    *modelled = false;
    for (int i = 0; i < job->nobjectives; i++) {
        const struct metric *m = &job->objective[i].metric;
        bool bpb = !strcmp(m->name, "valid_bpb"), max = job->objective[i].goal == METRIC_MAX;
        int col = archive_metric(j->archive, m->name);
        if (bpb || !strcmp(m->name, "valid_loss")) {
            if (max) return -1;
            y[i] = e ? e->low / (bpb ? log(2) : 1) : 0;
            loss = i;
        } else if (col >= 0 && (m->source == METRIC_PAPER || (rung && space_metric_once(m)))) {
            double low, high; /* of an estimate: the best that it may be */
            archive_interval(j->archive, col, row, &low, &high);
            y[i] = (!archive_estimated(j->archive, col, row) ? archive_median(j->archive, col, row) : max ? high : low) * (max ? -1 : 1);
            if (isnan(y[i])) return -1;
        } else if (!rung && row % ESTIMATE_CHECK && ctl_modelled_interval(j, row, m, &v)) {
            y[i] = max ? -v.high : v.low;
            *modelled = true;
        } else {
            return -1;
        }
    }
    return loss;
}

/* Row of a result of the rung that holds the constraints and dominates y; -1. */
static long dominating(const struct ctl_job *j, long row, int rung, const double *y)
{
    for (long k = 0; k < archive_count(j->archive); k++) {
        double v[JOB_OBJECTIVES_MAX], violation;
        bool better = false, worse = false;
        if (k == row || !archive_has(j->archive, k, rung) || !proposer_values(j->job, j->archive, k, rung, v, &violation) || violation > 0) continue;
        for (int i = 0; i < j->job->nobjectives; i++) {
            better |= v[i] < y[i];
            worse |= v[i] > y[i];
        }
        if (better && !worse) return k;
    }
    return -1;
}

bool ctl_prune(struct ctl *c, struct ctl_lease *l, double tokens)
{
    struct ctl_job *j = l->job;
    struct ending e, earlier;
    double y[JOB_OBJECTIVES_MAX];
    if (j->job->rungs == 1 || j->job->shared || space_type(j->job->space) != SPACE_LM || ctl_job_archive(c, j, NULL)) return false;
    long row = archive_row(j->archive, l->trial);
    if (row < 0) return false;
    int rung = archive_rung(j->archive, row), loss;
    if (archive_audit_rung(j->archive, row) >= 0 || archive_repeat_of(j->archive, row) >= 0) return false;
    bool modelled;
    if (known(j, row, rung, NULL, y, &modelled) < 0 || predict(c, j, row, rung, tokens, &e) || predict(c, j, row, rung, EARLIER * tokens, &earlier)) return false;
    e.low = fmin(e.low, earlier.low);
    loss = known(j, row, rung, &e, y, &modelled);
    if (loss < 0) return false;
    long by = dominating(j, row, rung, y);
    if (by < 0) return false;
    const struct metric *m = &j->job->objective[loss].metric;
    const struct ctl_known *k = l->session ? l->session->known : ctl_known_get(c, l->evaluator);
    double unit = e.low > 0 ? y[loss] / e.low : 1, of = job_rung_tokens(j->job, rung), best = archive_value(j->archive, archive_metric(j->archive, m->name), by, rung);
    json_t *body = json_pack("{s:I,s:I,s:I,s:I,s:i,s:o,s:s,s:f,s:f,s:I,s:f}", "trial", (json_int_t)l->trial, "lease", (json_int_t)l->id, "epoch",
                             (json_int_t)l->epoch, "device", (json_int_t)(k ? k->device : 0), "rung", rung, "tokens", ctl_number(tokens), "metric", m->name,
                             "predicted", e.value * unit, "low", y[loss], "by", (json_int_t)archive_trial(j->archive, by), "busy_s", ctl_lease_account(l));
    if (body)
        json_object_set_new(body, "reason",
                            json_sprintf("after %.3g of %.3g tokens its %s was on the way to %.4g, %.4g at best (97.5 %%); trial %lld has %.4g, and is worse in nothing%s",
                                         tokens, of, m->name, e.value * unit, y[loss], (long long)archive_trial(j->archive, by), best,
                                         modelled ? ", with what was not measured yet at the best end of the model's interval" : ""));
    if (ctl_event_lease(c, l, "pruned", body)) return false;
    log_info("job %lld trial %lld: pruned on rung %d by trial %lld", (long long)j->id, (long long)l->trial, rung, (long long)archive_trial(j->archive, by));
    ctl_lease_end(c, l);
    ctl_job_reported(c, j);
    return true;
}
