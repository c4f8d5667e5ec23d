/* Evaluating what a lease asks for: trains or inherits, scores, profiles, and leaves the weights in the work folder.
 *
 *   st = evaluate_new(&ev, &opts);
 *   st = evaluate_lease(ev, lease, report, &err);   // fills in metrics, curve, checkpoint, stable
 *   lessee_report(lessee, trial, report);
 *   evaluate_reported(ev);
 *
 * Between steps and samples it sees to the heartbeat, checkpoints, and the marks at which tautd says whether the trial goes on. What is held from lease to
 * lease (a job's supernet) is only what would be made again to the same bits. */
#ifndef TAUT_EVALUATOR_EVALUATE_H
#define TAUT_EVALUATOR_EVALUATE_H

#include "evaluator/energy.h"
#include "evaluator/hostlock.h"
#include "evaluator/lessee.h"

struct evaluate;
struct evaluate_opts {     /* all borrowed */
    struct lessee *lessee; /* who speaks with tautd */
    const char *work;      /* folder for checkpoints and weights; exists */
    double checkpoint_s;   /* seconds of training between checkpoints */
    struct kn_dev *dev;
    struct hostlock *lock; /* whoever waits for it sees to the heartbeat */
    struct energy *energy; /* NULL: not readable here */
};

st_t evaluate_new(struct evaluate **out, const struct evaluate_opts *o);
void evaluate_free(struct evaluate *ev); /* NULL allowed */
/* ST_ECANCELED: stopped or taken back; report then says where it stands. Any other error is the trial's: err says what. */
st_t evaluate_lease(struct evaluate *ev, json_t *lease, json_t *report, struct base_err *err);
/* The report is sent: removes what nothing goes on from any more. */
void evaluate_reported(struct evaluate *ev);

#endif
