/* The next new candidate of a search: a strategy's proposal that was never tried and may meet the constraints.
 *
 *   struct proposer *p;
 *   st = proposer_new(&p, job, archive, &err);
 *   struct proposal x;
 *   st = proposer_next(p, n, &x);                  // n: proposal number = archive_count()
 *   proposal_fini(&x);
 *
 * Invariants
 *   - What comes out is a function of (job, archive in the order of its reports, n). The strategy's state is built by absorbing the archive and is
 *     caught up before each proposal, so a proposer may be thrown away and made again at any time.
 *   - A candidate whose id the archive knows, in whatever state, is never proposed again. The strategy is asked again with the same generator
 *     (PROPOSER_ASKS times), then the space is sampled, then, where it has at most 1e6 genomes, enumerated from its start.
 *   - A candidate that breaks a constraint on a paper metric is not proposed. In a space too large to enumerate, the second half of the samples walks from the one
 *     that breaks them least by mutations ("repair"), so that a small feasible corner is found. */
#ifndef TAUT_CONTROLLER_PROPOSER_H
#define TAUT_CONTROLLER_PROPOSER_H

#include "controller/strategy.h"
#include "db/archive.h"

enum {
    PROPOSER_ASKS = 64,              /* of the strategy, a proposal */
    PROPOSER_SAMPLES = 4096,         /* after it, in a space too large to enumerate … */
    PROPOSER_SAMPLES_SMALL = 64,     /* … and in one that can be */
    PROPOSER_ENUMERATE_MAX = 1000000,
    PROPOSER_ENUMERATE_STEP = 1000,  /* genomes looked at in one call: some milliseconds */
};

struct proposer;

struct proposal {
    struct genome genome;
    struct candidate candidate;
    struct strategy_origin origin;
    long known, infeasible; /* draws thrown away on the way to it */
};

/* job and archive: borrowed, must outlive it. ST_ENOTSUP: no such strategy. */
st_t proposer_new(struct proposer **out, const struct job *job, const struct archive *archive, struct base_err *err);
void proposer_free(struct proposer *p); /* NULL allowed */

/* ST_EEXHAUSTED: the space is used up, or nothing new that may meet the constraints was found; proposer_why says it in words, where nothing was ever found
 * with the constraints that the closest one breaks, and by how much.
 * ST_EBUSY: a piece of the enumeration is done and nothing found yet; call again with the same n. ST_ENOMEM. *out: proposal_fini on success alone. */
st_t proposer_next(struct proposer *p, uint64_t n, struct proposal *out);
void proposal_fini(struct proposal *x);
const char *proposer_why(const struct proposer *p); /* borrowed */

/* Of a row of the archive, as reported on that rung: objectives turned so that all are minimised. Returns whether all are there and finite. */
bool proposer_values(const struct job *job, const struct archive *a, long row, int rung, double y[JOB_OBJECTIVES_MAX], double *violation);

#endif
