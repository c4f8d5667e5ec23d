/* Strategies: what to try next. One file each, ending in its const descriptor; strategies.def lists them.
 *
 * A strategy is a pure function of (job, results in the order of their events, what is pending, seed, proposal number): no clock, no hidden generator. The generator is
 * base_rng_at(seed, RNG_PROPOSE, n), so proposal n of a resumed search is proposal n of the undisturbed one. */
#ifndef TAUT_CONTROLLER_STRATEGY_H
#define TAUT_CONTROLLER_STRATEGY_H

#include "searchspace/job.h"

#define STRATEGY_PARENTS_MAX 2
#define STRATEGY_FIRST "nsga2" /* who has the word where one hands over to another, until an event says otherwise */
#define STRATEGY_PENDING_MAX 64 /* the youngest */

struct strategy_result { /* one report of a trial */
    int64_t trial, proposal;      /* id; the number that it was proposed under */
    int rung;                     /* 0: the trial's first; above: it was promoted, and this takes the place of its result on the rung below */
    const struct genome *genome;  /* borrowed */
    bool ok;                      /* false: failed; y and violation are then meaningless */
    const double *y;              /* [nobjectives], all minimised (signs turned) */
    const double *bound;          /* [nconstraints] values of the constrained metrics; NAN: unknown */
    double violation;             /* of the job's constraints; 0: feasible */
};

struct strategy_pending { /* proposed and not yet reported */
    int n;
    const struct genome *genome; /* borrowed */
};

struct strategy_origin {
    const char *op; /* "sample", "mutate", "crossover", "model", "enumerate"; static */
    int nparents;
    int64_t parent[STRATEGY_PARENTS_MAX]; /* trial ids */
    const char *by; /* the strategy that had the word, where one hands over to another; NULL: the job's own; static */
    double rho;     /* and the held-out rank correlation that it went by; NAN: none */
};

struct strategy {
    const char *name;
    st_t (*open)(void **state, const struct job *job);
    void (*close)(void *state);
    st_t (*absorb)(void *state, const struct strategy_result *r);
    /* Draws from r alone. May return a candidate that is known already: the caller then asks again with the same generator, a bounded number of times. */
    st_t (*propose)(void *state, struct base_rng *r, const struct strategy_pending *pending, struct genome *out, struct strategy_origin *origin);
};

#define STRATEGY(name) extern const struct strategy strategy_##name;
#include "controller/strategies.def"
#undef STRATEGY

const struct strategy *strategy_find(const char *name); /* NULL: none */
const char *const *strategy_names(void);                /* NULL-terminated */

#endif
