/* A pool's rounds are counted in 32 bits: a run whose number is that of a team 2^32 rounds ago is no team. The count is set from inside. */
#include <stdbool.h>

#include "base/pool.c"

#include "tests/tap.h"

enum { THREADS = 4 };

struct turn {
    _Atomic int begun, tasks, teams;
};

static void team(void *ctx, int rank, int size)
{
    struct turn *t = ctx;
    t->teams++;
    (void)rank;
    (void)size;
}

/* Held until every thread has one, so that each of them comes to this round; where one has taken it for a team, nobody waits for it. */
static void task(void *ctx, int i, int worker)
{
    struct turn *t = ctx;
    t->begun++;
    while (t->begun < THREADS && !t->teams) sched_yield();
    t->tasks++;
    (void)i;
    (void)worker;
}

/* A run in which every thread has a task. false: some took it for a team, and wait for its end. */
static bool run(struct base_pool *p, struct turn *t)
{
    t->begun = t->tasks = t->teams = 0;
    base_pool_run(p, task, t, THREADS);
    return t->tasks == THREADS && t->teams == 0;
}

int main(void)
{
    static struct turn t; /* of workers that may never come back */
    struct base_pool *p;
    is_int(base_pool_new(&p, THREADS, 0), ST_OK, "a pool");
    base_pool_team(p, team, &t);
    is_int(t.teams, THREADS, "its first round is a team's");
    is_int(atomic_load(&p->team_round), 1, "number 1");
    atomic_store(&p->round, UINT32_MAX - 1);
    ok(run(p, &t), "the last round");
    ok(run(p, &t), "round 0");
    is_int(atomic_load(&p->round), 0, "… which it is");
    bool good = ok(run(p, &t), "round 1 is a run's this time");
    if (!good) return tap_done();
    is_int(atomic_load(&p->round), 1, "… which it is");
    ok(run(p, &t), "and the next one");
    t.teams = 0;
    p->crowded = 0; /* whatever else runs on this machine */
    base_pool_team(p, team, &t);
    is_int(t.teams, THREADS, "a team after it is one");
    base_pool_free(p);

    is_int(base_pool_new(&p, THREADS, 0), ST_OK, "a pool that has had no team");
    atomic_store(&p->round, UINT32_MAX - 2);
    ok(run(p, &t) && run(p, &t), "its last rounds");
    p->team = team; /* what would be called */
    p->team_ctx = &t;
    good = ok(run(p, &t), "round 0 is a run's");
    if (good) base_pool_free(p);
    return tap_done();
}
