/* Random search: every proposal is a sample of the space. What other strategies are measured against. */
#include "controller/strategy.h"

static st_t random_open(void **state, const struct job *job)
{
    *state = (void *)job;
    return ST_OK;
}

static void random_close(void *state)
{
}

static st_t random_absorb(void *state, const struct strategy_result *r)
{
    return ST_OK;
}

static st_t random_propose(void *state, struct base_rng *r, const struct strategy_pending *pending, struct genome *out, struct strategy_origin *origin)
{
    const struct job *job = state;
    *origin = (struct strategy_origin){.op = "sample"};
    return space_sample(job->space, r, out);
}

const struct strategy strategy_random = {"random", random_open, random_close, random_absorb, random_propose};
