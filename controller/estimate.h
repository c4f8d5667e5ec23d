/* Where the latency model (latency.h) stands in for a measurement, and whether it may.
 *
 *   struct estimator *e; st = estimator_new(&e, job, archive);
 *   st = estimator_ask(e, row, metrics, &answer);         // the trial is trained, and not profiled yet: metrics are what its evaluator has of it
 *
 * A measurement is left out where it cannot change the front of the trial's rung: a trial that holds the constraints dominates the candidate when that one has the low end of its interval (the high end of a
 * rate) in all that is modelled, and the other the worse end of its own interval, by all of its measurements (archive_pooled); or the candidate breaks a constraint even there. Such a candidate is on no front, and whatever it
 * dominates is dominated by the other. Everything else is measured. An estimate comes to stand on the front only where a repeat has since said that what
 * dominated it is worse than its interval was; then it is measured before anything else is repeated (repeat.h). An objective that is known neither on paper nor of the trial yet, nor modelled, could be
 * anything: measured.
 *
 *   models    one for each modelled objective and constraint, all of them or none: fitted to the first k trials in which it was measured (the newest LATENCY_MOST of them), k = LATENCY_LEAST and then
 *             each time it has grown by an eighth of itself, 8 at least
 *   checks    of those that would be left out every ESTIMATE_CHECK-th, the first to begin with, is measured all the same, and all of them while the model is not relied on
 *   verdict   relied on once its cross-validated error is ESTIMATE_ERROR at most. No more when, over its newest ESTIMATE_WINDOW checks (of ESTIMATE_JUDGED at least), their mean absolute error is more than that, or
 *             so few lie in their intervals as chance brings in one case of 40 where nine in ten should (about what CV+ promises, latency.h). Relied on again when, over ESTIMATE_AGAIN checks or more made since, neither holds.
 *
 * In language-model spaces alone: elsewhere nobody knows what a candidate is made of. Functions of (job, archive) and nothing else, so that what was decided before a restart is decided after it. */
#ifndef TAUT_CONTROLLER_ESTIMATE_H
#define TAUT_CONTROLLER_ESTIMATE_H

#include "controller/latency.h"
#include "db/archive.h"

enum { ESTIMATE_CHECK = 8, ESTIMATE_WINDOW = 32, ESTIMATE_JUDGED = 8, ESTIMATE_AGAIN = 16, ESTIMATE_METRICS = JOB_OBJECTIVES_MAX + JOB_CONSTRAINTS_MAX };
#define ESTIMATE_ERROR 0.1

/* Metrics that are modelled: out [ESTIMATE_METRICS], borrowed from job; how many, 0: none. */
int estimate_metrics(const struct job *job, const struct metric **out);
/* Under which name a metric's model has its verdicts: "model.decode_ms@1024". */
const char *estimate_name(const struct metric *m, char out[METRIC_NAME_MAX + 8]);
bool estimate_relied(const struct archive *a, const struct metric *m); /* no verdict: false */

struct estimator;
/* job and archive: borrowed. ST_ENOMEM. */
st_t estimator_new(struct estimator **out, const struct job *job, const struct archive *a);
void estimator_free(struct estimator *e); /* NULL allowed */

struct estimate_answer {
    int n;            /* modelled metrics; 0: nothing is to be said, and everything measured */
    const struct metric *metric[ESTIMATE_METRICS];
    struct latency_value value[ESTIMATE_METRICS];
    bool saved;       /* they are left out; false: they are measured all the same, as a check */
    int64_t by;       /* the trial that dominates; 0: a constraint is broken */
};
/* metrics: name to number or {median, …}, or NULL. ST_ENOMEM. */
st_t estimator_ask(struct estimator *e, long row, json_t *metrics, struct estimate_answer *out);

/* What a trial will have of a metric that is modelled and relied on, by its genes; false: there is no such model. */
bool estimator_interval(struct estimator *e, long row, const struct metric *m, struct latency_value *out);

struct estimate_stats {
    long measured;          /* trials in which it was */
    double error;           /* cross-validated mean absolute relative error of the model as it is fitted now; NaN: none is */
    long saved, checked;    /* measurements left out; made all the same */
    long held;              /* of those checked, whose interval held */
    double mape, worst;     /* over those checked, relative; NaN: none */
};
st_t estimator_stats(struct estimator *e, const struct metric *m, struct estimate_stats *out);
/* Is the metric's model to be relied on, by what is known now? */
st_t estimator_judge(struct estimator *e, const struct metric *m, bool *relied);

#endif
