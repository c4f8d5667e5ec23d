/* What an evaluator says to tautd: who it is, which lease it holds, how far that is, what came of it.
 *
 *   struct lessee *l;
 *   st = lessee_new(&l, &(struct lessee_opts){.socket = path, .name = host, .dev = dev, .stop = &stop}, &err);
 *   while (!stop && !lessee_next(l, &lease, &err)) {
 *       if (!lease) continue;
 *       … while (lessee_held(l)) if (lessee_due(l)) lessee_progress(l, json_pack("{s:I}", "step", s)) …
 *       lessee_report(l, trial, report);
 *   }
 *
 * One connection; a lost one is made again with the next call, and the lease in hand claimed. One lease at a time. While the caller is silent a thread of its
 * own says that the lease is being worked on (beat.h). One thread calls. */
#ifndef TAUT_EVALUATOR_LESSEE_H
#define TAUT_EVALUATOR_LESSEE_H

#include <jansson.h>
#include <stdbool.h>

#include "base/err.h"
#include "kernels/device.h"

struct lessee;
struct lessee_opts {        /* all borrowed */
    const char *socket;     /* of tautd */
    const char *name;       /* of this evaluator */
    struct kn_dev *dev;
    bool energy;            /* is readable here */
    volatile int *stop;     /* not 0: told to stop */
};

st_t lessee_new(struct lessee **out, const struct lessee_opts *o, struct base_err *err); /* ST_ECLOSED: nobody is there */
void lessee_free(struct lessee *l); /* NULL allowed */

/* Waits for a lease, a while: *lease NULL when there was none, else a new reference, and that one is in hand. */
st_t lessee_next(struct lessee *l, json_t **lease, struct base_err *err);
/* False: stop. tautd has taken the lease back, or the process is told to end. */
bool lessee_held(struct lessee *l);
/* Has tautd not heard of the lease for so long that it should? */
bool lessee_due(const struct lessee *l);
/* evaluator.progress; takes p, what is said beside the lease and its epoch. False: stop. A tautd that is away says nothing: true. */
bool lessee_progress(struct lessee *l, json_t *p);
/* The same; *answer: what tautd said, new reference, NULL where it said nothing. */
bool lessee_ask(struct lessee *l, json_t *p, json_t **answer);
bool lessee_heard(const struct lessee *l); /* the last progress was answered, and what of it must be durable is */
/* evaluator.report of the lease in hand (status, metrics, …); takes it. Returns once tautd has taken or refused it, or when told to stop. */
void lessee_report(struct lessee *l, int64_t trial, json_t *report);

void lessee_rest(int ms); /* waits, but not past a signal */

#endif
