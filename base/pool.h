/* Thread pool for kernels: fork-join over task indices.
 *
 *   base_pool_run(pool, fn, ctx, ntasks);    // fn(ctx, task, worker) for task in [0, ntasks); returns when all are done
 *
 * Invariants: tasks are cut by shape, never by the number of threads, and a task writes memory no other task writes, so
 * results do not depend on threads or order. worker is in [0, base_pool_threads(pool)) and names scratch memory.
 * Worker w of W begins with tasks [w n / W, (w + 1) n / W), in order, and then helps others from the end of theirs (one that comes late from the run
 * before may help first): kernels that cut the same rows
 * in the same order find them in the cache of the core that wrote them.
 * The caller is worker 0 and takes tasks too. Workers spin for a short while before they sleep on a futex, so that a
 * decode step does not pay a wake-up a layer. A pool belongs to one caller thread; base_pool_run does not nest (a nested call
 * runs its tasks inline). NULL pool: runs inline. */
#ifndef TAUT_BASE_POOL_H
#define TAUT_BASE_POOL_H

#include "base/status.h"

struct base_pool;
typedef void (*base_pool_fn)(void *ctx, int task, int worker);

/* threads >= 1 (the caller counts). pin: bind worker i to the i-th CPU of the process's affinity mask. */
st_t base_pool_new(struct base_pool **out, int threads, int pin);
void base_pool_free(struct base_pool *p);
/* Binds worker i (the caller is 0) to the i-th CPU of the caller's affinity mask, or lets all go back to that mask. NULL pool: nothing. */
void base_pool_pin(struct base_pool *p, int pin);
int base_pool_threads(const struct base_pool *p); /* 1 for NULL */
void base_pool_run(struct base_pool *p, base_pool_fn fn, void *ctx, int ntasks);

/* A team, for work in many short phases: fn(ctx, rank, size) on size threads at the same time, the caller as rank 0; returns when all have. Between two
 * phases they meet: base_pool_meet returns once every rank has come, and what one wrote before it is seen by all after it; all come equally often.
 * A meeting costs the way of one cache line from core to core, a base_pool_run several.
 * size is base_pool_threads(p), or 1: NULL pool, inside of a task, or for a little while after the caller has waited so long that it had been faster
 * alone, because other programs have the CPUs. So results must not depend on it: what a phase is cut into depends on shape alone. */
void base_pool_team(struct base_pool *p, base_pool_fn fn, void *ctx);
void base_pool_meet(struct base_pool *p, int rank, int size);

/* CPUs this process may use (sched_getaffinity, capped by the cgroup's CPU quota); at least 1. */
int base_cpu_count(void);

#endif
