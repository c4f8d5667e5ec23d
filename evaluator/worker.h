/* The evaluator's loop: registers with tautd, takes leases, trains, profiles, reports; until told to stop.
 *
 * Invariants
 *   - A finished result is reported until tautd has acknowledged or refused it: a lost connection or a full disk only delays it.
 *   - A lost connection does not end a trial: the worker goes on, reconnects, and claims the lease in `holds`.
 *   - tautd hears of the lease in hand at each heartbeat, however long a step or a timed call takes (beat.h).
 *   - Told to stop (*stop != 0): the trial is checkpointed, handed back as preempted, and worker_run returns ST_OK.
 *   - A device that is lost: the connection closes, so that tautd has the trial back as preempted, and worker_run returns ST_ELOST, for whoever started it to start it again.
 *   - Whatever goes wrong with a trial is that trial's result ("failed" with the reason), never the end of the worker. That its files cannot be written is
 *     not the trial's fault: a checkpoint is then left out, and the final weights wait for room.
 *   - The checkpoint of a trial that was interrupted is taken up again only if its content is what was reported, or what this folder holds is further on. */
#ifndef TAUT_EVALUATOR_WORKER_H
#define TAUT_EVALUATOR_WORKER_H

#include "evaluator/hostlock.h"
#include "kernels/device.h"

struct worker_opts {
    const char *socket;       /* of tautd */
    const char *work;         /* folder for checkpoints and weights; exists */
    const char *name;         /* of this evaluator */
    double checkpoint_s;      /* seconds of training between checkpoints */
    struct kn_dev *dev;
    struct hostlock *lock;
    volatile int *stop;
};

/* ST_ECLOSED when tautd was never there; later losses are waited out. */
st_t worker_run(const struct worker_opts *o, struct base_err *err);

#endif
