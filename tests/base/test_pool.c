#define _GNU_SOURCE /* CPU masks */
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/pool.h"
#include "tests/tap.h"

enum { TASKS = 64 };

struct round {
    struct base_pool *pool;
    int hits[TASKS]; /* not atomic: a task is nobody else's */
    _Atomic int bad, inner;
    int threads;
    long scratch[8][16]; /* by worker, a cache line and more each */
};

static void task(void *ctx, int i, int worker)
{
    struct round *r = ctx;
    if (worker < 0 || worker >= r->threads) r->bad++;
    r->hits[i]++;
    r->scratch[worker][0]++;
}

static void inner(void *ctx, int i, int worker)
{
    struct round *r = ctx;
    r->inner++;
    r->scratch[worker][0]++;
    (void)i;
}

/* The worker number of a nested call has to be the outer one, or two threads would share scratch. */
static void outer(void *ctx, int i, int worker)
{
    struct round *r = ctx;
    long before = r->scratch[worker][0];
    base_pool_run(r->pool, inner, r, 5);
    if (r->scratch[worker][0] != before + 5) r->bad++;
    r->hits[i]++;
}

struct meeting {
    int threads, ntasks;
    _Atomic int begun, ended, astray;
};

/* All threads are held in their first task until each has one, so nobody can have helped anybody. */
static void first_of_share(void *ctx, int i, int worker)
{
    struct meeting *m = ctx;
    if (m->begun++ < m->threads && i != worker * m->ntasks / m->threads) m->astray++;
    while (m->begun < m->threads) sched_yield();
    m->ended++;
}

/* Task 0 ends last: the rest of its share has to be done by others. */
static void last_is_first(void *ctx, int i, int worker)
{
    struct meeting *m = ctx;
    while (!i && m->ended < m->ntasks - 1) sched_yield();
    m->ended++;
    (void)worker;
}

static void test_shares(int threads)
{
    struct base_pool *p;
    if (base_pool_new(&p, threads, 0)) {
        ok(0, "a pool of %d", threads);
        return;
    }
    int astray = 0, ended = 0;
    for (int k = 0; k < 200; k++) {
        struct meeting m = {.threads = threads, .ntasks = threads * (1 + k % 5)};
        base_pool_run(p, first_of_share, &m, m.ntasks);
        astray += m.astray;
        ended += m.ended == m.ntasks;
        m.ended = 0;
        base_pool_run(p, last_is_first, &m, m.ntasks);
        ended += m.ended == m.ntasks;
    }
    /* one that comes late from the run before may begin with another's; dealt out at random it would be about 300 and more */
    ok(astray <= 20, "%d threads: each begins with its own share of the tasks (%d astray)", threads, astray);
    is_int(ended, 400, "%d threads: what is left of a share is done by others", threads);
    base_pool_free(p);
}

static void test_threads(int threads, int rounds)
{
    struct round r = {.threads = threads};
    is_int(base_pool_new(&r.pool, threads, 0), ST_OK, "a pool of %d", threads);
    is_int(base_pool_threads(r.pool), threads, "says so");
    long expect[TASKS] = {0}, total = 0;
    for (int k = 0; k < rounds; k++) {
        int n = k % (TASKS + 1);
        base_pool_run(r.pool, task, &r, n);
        for (int i = 0; i < n; i++) expect[i]++;
        total += n;
    }
    int same = 1;
    long sum = 0;
    for (int i = 0; i < TASKS; i++) same &= r.hits[i] == expect[i];
    for (int i = 0; i < 8; i++) sum += r.scratch[i][0];
    ok(same, "%d threads: every task once a round, %d rounds", threads, rounds);
    ok(r.bad == 0 && sum == total, "%d threads: a worker's scratch is its own", threads);
    base_pool_run(r.pool, outer, &r, 20);
    ok(r.inner == 100 && r.bad == 0, "%d threads: a nested call runs in its task", threads);
    base_pool_free(r.pool);
}

enum { PHASES = 400, RANKS = 8 };

struct team {
    struct base_pool *pool;
    int seen[RANKS];              /* not atomic: a rank is nobody else's */
    long step[2][RANKS][16];      /* of even and odd phases; nor are these, but between two meetings */
    _Atomic int bad, tasks;
    int size;
};

/* Each phase every rank reads what all wrote in the one before. */
static void phases(void *ctx, int rank, int size)
{
    struct team *t = ctx;
    if (rank < 0 || rank >= size || (size != t->size && size != 1)) t->bad++;
    t->seen[rank]++;
    for (int k = 1; k <= PHASES; k++) {
        long sum = 0;
        for (int i = 0; i < size; i++) sum += t->step[(k + 1) % 2][i][0];
        if (sum != (long)(k - 1) * size) t->bad++;
        t->step[k % 2][rank][0] = k;
        base_pool_meet(t->pool, rank, size);
    }
}

static void count(void *ctx, int i, int worker)
{
    ((struct team *)ctx)->tasks++;
    (void)i, (void)worker;
}

static void nested_team(void *ctx, int i, int worker)
{
    struct team *t = ctx, one = {.pool = t->pool, .size = 1};
    base_pool_team(t->pool, phases, &one);
    if (one.bad || one.seen[0] != 1) t->bad++;
    (void)i, (void)worker;
}

static void test_team(int threads, int rounds)
{
    struct team t = {.size = threads};
    if (threads > 1 && base_pool_new(&t.pool, threads, 0)) exit(1);
    int wrong = 0, n = 0;
    for (int k = 0; k < rounds; k++) {
        memset(t.step, 0, sizeof t.step);
        base_pool_team(t.pool, phases, &t);
        wrong += t.seen[0] != k + 1 || t.step[PHASES % 2][0][0] != PHASES;
        /* on a busy machine some rounds are the caller's alone */
        for (int i = 1; i < threads; i++) wrong += t.seen[i] != t.seen[1] || t.seen[i] > k + 1;
        for (int p = 0; p < k % 3; p++) base_pool_run(t.pool, count, &t, 5), n += 5; /* rounds of tasks between those of teams */
    }
    ok(!wrong && !t.bad && t.tasks == n, "a team of %d: every rank once, all see what all did", threads);
    ok(threads == 1 || t.seen[1] > 0, "a team of %d: not the caller alone", threads);
    base_pool_run(t.pool, nested_team, &t, 6);
    ok(threads == 1 || !t.bad, "a team of %d: inside of a task it is a team of one", threads);
    base_pool_free(t.pool);
}

int main(void)
{
    test_team(1, 3);
    test_team(2, 300);
    test_team(4, 30);
    test_team(7, 10);
    test_threads(1, 200);
    test_threads(2, 5000);
    test_threads(4, 2000);
    test_threads(7, 1000);

    test_shares(2);
    test_shares(3);

    struct round r = {.threads = 1};
    base_pool_run(NULL, task, &r, TASKS);
    int once = 1;
    for (int i = 0; i < TASKS; i++) once &= r.hits[i] == 1;
    ok(once && base_pool_threads(NULL) == 1, "no pool: inline");
    struct base_pool *p = NULL;
    is_int(base_pool_new(&p, 0, 0), ST_EINVAL, "no threads");
    ok(p == NULL, "nothing is made");
    base_pool_free(NULL);

    for (int i = 0; i < 50; i++) {
        struct base_pool *q;
        if (base_pool_new(&q, 3, 0)) break;
        if (i % 2) base_pool_run(q, task, &r, 1);
        base_pool_free(q);
    }
    is_int(r.hits[0], 26, "pools come and go, used or not");

    cpu_set_t before, pinned, after;
    sched_getaffinity(0, sizeof before, &before);
    r = (struct round){.threads = 2};
    is_int(base_pool_new(&r.pool, 2, 1), ST_OK, "a pinned pool");
    sched_getaffinity(0, sizeof pinned, &pinned);
    base_pool_run(r.pool, task, &r, TASKS);
    base_pool_free(r.pool);
    sched_getaffinity(0, sizeof after, &after);
    is_int(CPU_COUNT(&pinned), 1, "the caller is bound");
    ok(CPU_EQUAL(&before, &after), "and let go again");
    once = 1;
    for (int i = 0; i < TASKS; i++) once &= r.hits[i] == 1;
    ok(once && !r.bad, "a pinned pool works");

    ok(base_cpu_count() >= 1 && base_cpu_count() <= CPU_COUNT(&before), "CPUs within the mask");
    int first = 0;
    while (!CPU_ISSET(first, &before)) first++;
    CPU_ZERO(&pinned);
    CPU_SET(first, &pinned);
    sched_setaffinity(0, sizeof pinned, &pinned);
    is_int(base_cpu_count(), 1, "one CPU in the mask, one counted");
    test_threads(3, 500); /* more threads than CPUs */
    return tap_done();
}
