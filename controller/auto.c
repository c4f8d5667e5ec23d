/* The default: nsga2 until the surrogate's models have earned the search, and again where they lose it.
 *
 * They have it as long as their held-out rank correlation (surrogate.c: of every objective and constraint the best member's, the least of these) is EARNED or
 * better; that is settled anew with each fit, so which of the two proposal n comes from is a function of the results up to that fit. The proposer says
 * who it was (strategy_origin.by), and tautd records every change as an event. Within the surrogate, models and nsga2 go on sharing the proposals by what they
 * bring. */
#include "controller/surrogate.h"

#define EARNED 0.4

static st_t auto_propose(void *state, struct base_rng *r, const struct strategy_pending *pending, struct genome *out, struct strategy_origin *origin)
{
    double rho;
    st_t st = surrogate_rho(state, r->n, &rho);
    if (st) return st;
    bool earned = rho >= EARNED; /* not a number: no */
    st = earned ? strategy_surrogate.propose(state, r, pending, out, origin) : surrogate_evolve(state, r, pending, out, origin);
    origin->by = earned ? strategy_surrogate.name : strategy_nsga2.name;
    origin->rho = rho;
    return st;
}

static st_t auto_open(void **state, const struct job *job)
{
    return strategy_surrogate.open(state, job);
}

static void auto_close(void *state)
{
    strategy_surrogate.close(state);
}

static st_t auto_absorb(void *state, const struct strategy_result *r)
{
    return strategy_surrogate.absorb(state, r);
}

const struct strategy strategy_auto = {"auto", auto_open, auto_close, auto_absorb, auto_propose};
