/* Which trial is trained, or measured, once more: the one whose place on the front is in doubt.
 *
 *   struct repeat r;
 *   if (repeat_next(job, archive, evaluations, &r)) …      // r.row is proposed again, with origin "repeat"
 *
 *   budget   at most one in REPEAT_SHARE of the proposals and REPEAT_MOST in all, REPEAT_EACH of a trial; from REPEAT_FROM results on the top rung on; one at a time. They count as evaluations.
 *   when     at every REPEAT_SHARE-th trial that is trained, and right after another repeat (past REPEAT_SHARE REPEAT_MOST trials at every 2 REPEAT_SHARE-th, then 3 …): the front is drawn REPEAT_DRAWS times
 *            for it, which takes its time in a large search: a tenth of a second where thousands of trials may be on it.
 *   estimate before all others: a member of the front of which something is an estimate (estimate.h) is measured. Its dominator was repeated since, and is not as good as it was.
 *   noise    the first REPEAT_SEEDS train members of the front with another seed, so that the losses' noise is known (archive_noise): those that were repeated least, spread over the front.
 *   doubt    then the trial of the top rung whose probability of being on the true front (archive_front, uncertain) is nearest to 1/2, of those from REPEAT_DOUBT to 1 - REPEAT_DOUBT; of equals the
 *            older. What is repeated is what the doubt comes from: with the intervals of the losses alone, and with those of what is profiled alone, the one that leaves the probability nearer to 1/2.
 *            Where nobody is in doubt nothing is repeated.
 *
 * In language-model spaces with standalone weights. A function of (job, archive, evaluations) and nothing else: a search that was killed and started again repeats the same. */
#ifndef TAUT_CONTROLLER_REPEAT_H
#define TAUT_CONTROLLER_REPEAT_H

#include "db/archive.h"

enum { REPEAT_SHARE = 10, REPEAT_MOST = 64, REPEAT_EACH = 3, REPEAT_FROM = 48, REPEAT_SEEDS = 3, REPEAT_DRAWS = 200 };
#define REPEAT_DOUBT 0.1

struct repeat {
    long row;
    enum archive_repeat kind;
    int number;         /* how-manieth repeat of that row it will be */
    double probability; /* of being on the front; NaN: it is for the noise, or (measured) the row is there by an estimate */
};
/* evaluations: the budget. False: none is due. */
bool repeat_next(const struct job *job, const struct archive *a, double evaluations, struct repeat *out);

/* Is the metric one that such a repeat brings? */
bool repeat_brings(enum archive_repeat kind, const struct metric *m);
/* A repeat that is trained goes up with the trial that it repeats: row of one that is due to; -1. */
long repeat_promote(const struct archive *a);

#endif
