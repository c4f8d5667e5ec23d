/* A lock per device and host, so that evaluators on one machine do not spoil each other's timings.
 *
 * Trainers hold it shared for a step at a time; a profiler takes it exclusively. Two files, so that a profiler is not starved: "gate" (a profiler that
 * waits holds it; trainers pass through it) and "work". flock(2): a killed process lets go.
 * Waiting looks again every HOSTLOCK_WAIT_MS, rarely enough not to disturb what is being timed, and asks each time whether to go on.
 * Files in $TAUT_LOCKS, else /tmp/taut-locks (mode 01777: the lock is the host's, not one user's), named by device. Whoever holds it keeps all others
 * from timing: not across anything that may wait for long (a terminal, a socket). */
#ifndef TAUT_EVALUATOR_HOSTLOCK_H
#define TAUT_EVALUATOR_HOSTLOCK_H

#include <stdbool.h>

#include "kernels/device.h"

#define HOSTLOCK_WAIT_MS 20

struct hostlock;
st_t hostlock_open(struct hostlock **out, const char *device, const char *folder /* NULL: the default */, struct base_err *err);
/* Of what the device computes with: the same for every name of it ("cpu" and "cpu:avx2"; "cuda", "cuda:0", and cuda:0 of a process that sees other cards). */
st_t hostlock_open_for(struct hostlock **out, const struct kn_dev *dev, struct base_err *err);
void hostlock_close(struct hostlock *l);
/* While it waits, go(ctx) is asked; false ends the wait with ST_ECANCELED, and nothing is held. NULL (at first): waits for ever. */
void hostlock_on_wait(struct hostlock *l, bool (*go)(void *ctx), void *ctx);
st_t hostlock_shared(struct hostlock *l);
st_t hostlock_exclusive(struct hostlock *l); /* from shared or unlocked */
void hostlock_unlock(struct hostlock *l);

#endif
