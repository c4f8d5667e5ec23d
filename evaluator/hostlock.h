/* A lock per device and host, so that evaluators on one machine do not spoil each other's timings.
 *
 * Trainers hold it shared and give way at step boundaries (hostlock_yield); a profiler takes it exclusively. Two files, so that a
 * profiler is not starved: "gate" (a profiler that waits holds it; trainers pass through it) and "work". flock(2): a killed process lets go.
 * Files in /tmp/taut-locks (mode 01777: the lock is the host's, not one user's), named by device. */
#ifndef TAUT_EVALUATOR_HOSTLOCK_H
#define TAUT_EVALUATOR_HOSTLOCK_H

#include "base/err.h"

struct hostlock;
st_t hostlock_open(struct hostlock **out, const char *device, const char *folder /* NULL: the default */, struct base_err *err);
void hostlock_close(struct hostlock *l);
st_t hostlock_shared(struct hostlock *l);    /* waits; EINTR-safe */
st_t hostlock_yield(struct hostlock *l);     /* at a step boundary, holding shared: lets a waiting profiler go first */
st_t hostlock_exclusive(struct hostlock *l); /* from shared or unlocked */
void hostlock_unlock(struct hostlock *l);

#endif
