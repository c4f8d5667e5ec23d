#define _GNU_SOURCE /* sched_getaffinity, CPU_ALLOC */
#include "base/pool.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/clock.h"

#define CROWD_NS 2000000 /* about a time slice: how long the caller goes on alone once another program has the CPUs of its team */
#define SPIN_NS 30000 /* a futex wake-up costs 5 to 50 us, the gap between two kernels of a decode step about 1 us */

struct worker {
    /* The tasks of this round that are still to be taken from its share: end << 32 | first. A worker that comes late,
     * or has slept through whole rounds, either takes a task of the present round or sees that none is left. */
    _Alignas(64) _Atomic uint64_t left;
    _Alignas(64) _Atomic uint32_t met; /* meetings of a team that this thread has come to; a futex for the others */
    struct base_pool *pool;
    int index;
    pthread_t thread;
};

struct base_pool {
    _Alignas(64) _Atomic uint32_t done; /* tasks finished in this round; a futex for the caller */
    _Atomic uint32_t caller_sleeps;
    _Alignas(64) _Atomic uint32_t round; /* a futex for the workers */
    _Atomic uint32_t sleepers;
    _Atomic int quit;
    _Atomic uint32_t team_round; /* the last round that was a team's; what it does lies beside it, so that one line tells a worker all */
    base_pool_fn team;
    void *team_ctx;
    _Alignas(64) _Atomic uint32_t waiters; /* threads that sleep until another comes to a meeting */
    uint64_t slept, crowded; /* the caller's: in meetings of this team, ns; until when teams are of one */
    /* Written between rounds only; read by whoever holds a task, which keeps the round open. */
    _Alignas(64) base_pool_fn fn;
    void *ctx;
    uint32_t ntasks;
    int threads;
    uint64_t spin_ns;
    int pinned;
    cpu_set_t *before; /* the caller's mask, put back at the end */
    size_t mask_bytes;
    struct worker *workers;
};

/* Which pool this thread is running a task of, for nested calls. */
static _Thread_local struct {
    const struct base_pool *pool;
    int worker;
} inside;

static void futex_wait(_Atomic uint32_t *word, uint32_t value)
{
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, value, NULL, NULL, 0);
}

static void futex_wake(_Atomic uint32_t *word, int n)
{
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, n, NULL, NULL, 0);
}

static void relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* Spins until *word differs from value or the time is up; returns whether it differs. */
static int spin_while(_Atomic uint32_t *word, uint32_t value, uint64_t ns)
{
    uint64_t start = ns ? base_clock_ns() : 0;
    do {
        for (int i = 0; i < 32; i++) {
            if (atomic_load_explicit(word, memory_order_acquire) != value) return 1;
            if (!ns) return 0;
            relax();
        }
    } while (base_clock_ns() - start < ns);
    return 0;
}

/* Takes and runs tasks of one share, its owner from the front, the others from the end; returns how many. */
static uint32_t take_share(struct base_pool *p, _Atomic uint64_t *left, int own, int worker)
{
    uint32_t count = 0;
    uint64_t w = atomic_load_explicit(left, memory_order_acquire);
    while ((uint32_t)w < w >> 32) {
        uint64_t rest = own ? w + 1 : w - (UINT64_C(1) << 32);
        if (!atomic_compare_exchange_weak_explicit(left, &w, rest, memory_order_acq_rel, memory_order_acquire))
            continue;
        p->fn(p->ctx, (int)(own ? (uint32_t)w : rest >> 32), worker);
        count++;
        w = atomic_load_explicit(left, memory_order_acquire);
    }
    return count;
}

/* Takes tasks until none is left: those of its own share, then what others have not got to. */
static void take_tasks(struct base_pool *p, int worker)
{
    uint32_t count = 0;
    for (int i = 0; i < p->threads; i++)
        count += take_share(p, &p->workers[(worker + i) % p->threads].left, i == 0, worker);
    if (!count) return;
    /* The round cannot end before this count arrives, so all of it belongs to one round. */
    uint32_t ntasks = p->ntasks;
    if (atomic_fetch_add(&p->done, count) + count == ntasks && atomic_load(&p->caller_sleeps)) futex_wake(&p->done, 1);
}

/* Nobody leaves before all have come to the end, so the round is the caller's until then. */
static void join_team(struct base_pool *p, int rank)
{
    p->team(p->team_ctx, rank, p->threads);
    base_pool_meet(p, rank, p->threads);
}

static void *worker_main(void *arg)
{
    struct worker *me = arg;
    struct base_pool *p = me->pool;
    inside.pool = p;
    inside.worker = me->index;
    uint32_t seen = 0;
    for (;;) {
        if (!spin_while(&p->round, seen, p->spin_ns)) {
            atomic_fetch_add(&p->sleepers, 1);
            while (atomic_load(&p->round) == seen) futex_wait(&p->round, seen);
            atomic_fetch_sub(&p->sleepers, 1);
        }
        seen = atomic_load(&p->round);
        if (atomic_load(&p->quit)) return NULL;
        if (atomic_load(&p->team_round) == seen) join_team(p, me->index);
        else take_tasks(p, me->index);
    }
}

static void next_round(struct base_pool *p, int wake)
{
    atomic_fetch_add(&p->round, 1);
    /* A worker counts itself asleep before it looks at round for the last time, so it is either counted here or saw
     * this round. */
    uint32_t sleepers = atomic_load(&p->sleepers);
    if (sleepers) futex_wake(&p->round, (uint32_t)wake < sleepers ? wake : (int)sleepers);
}

static void run_inline(base_pool_fn fn, void *ctx, int ntasks, int worker)
{
    for (int i = 0; i < ntasks; i++) fn(ctx, i, worker);
}

void base_pool_run(struct base_pool *p, base_pool_fn fn, void *ctx, int ntasks)
{
    if (!p || inside.pool || p->threads == 1 || ntasks <= 1) {
        run_inline(fn, ctx, ntasks, p && inside.pool == p ? inside.worker : 0);
        return;
    }
    p->fn = fn;
    p->ctx = ctx;
    atomic_store_explicit(&p->done, 0, memory_order_relaxed);
    p->ntasks = (uint32_t)ntasks;
    /* rounds are counted in 32 bits: this one's number must not be that of a team long ago */
    uint32_t next = atomic_load_explicit(&p->round, memory_order_relaxed) + 1;
    if (atomic_load_explicit(&p->team_round, memory_order_relaxed) == next) atomic_store(&p->team_round, next + (UINT32_C(1) << 31));
    for (int i = 0; i < p->threads; i++) {
        uint64_t first = (uint64_t)ntasks * (uint64_t)i / (uint64_t)p->threads,
                 end = (uint64_t)ntasks * (uint64_t)(i + 1) / (uint64_t)p->threads;
        atomic_store_explicit(&p->workers[i].left, end << 32 | first, memory_order_release);
    }
    next_round(p, ntasks - 1);
    inside.pool = p;
    inside.worker = 0;
    take_tasks(p, 0);
    inside.pool = NULL;
    uint32_t done;
    while ((done = atomic_load_explicit(&p->done, memory_order_acquire)) != (uint32_t)ntasks) {
        if (spin_while(&p->done, done, p->spin_ns)) continue;
        atomic_store(&p->caller_sleeps, 1);
        done = atomic_load(&p->done);
        if (done != (uint32_t)ntasks) futex_wait(&p->done, done);
        atomic_store(&p->caller_sleeps, 0);
    }
}

void base_pool_team(struct base_pool *p, base_pool_fn fn, void *ctx)
{
    uint64_t begin = p && !inside.pool && p->threads > 1 ? base_clock_ns() : 0;
    if (!begin || begin < p->crowded) {
        fn(ctx, 0, 1);
        return;
    }
    p->slept = 0;
    p->team = fn;
    p->team_ctx = ctx;
    atomic_store(&p->team_round, atomic_load(&p->round) + 1);
    next_round(p, INT_MAX);
    inside.pool = p;
    inside.worker = 0;
    join_team(p, 0);
    inside.pool = NULL;
    if (!p->slept) return;
    /* whether the caller would have been faster alone: it worked for the rest of the time, as every thread did */
    uint64_t now = base_clock_ns(), work = now - begin > p->slept ? now - begin - p->slept : 0;
    if (work * (uint64_t)p->threads < now - begin) p->crowded = now + CROWD_NS;
}

void base_pool_meet(struct base_pool *p, int rank, int size)
{
    if (size == 1) return;
    uint32_t mine = atomic_fetch_add(&p->workers[rank].met, 1) + 1, theirs;
    if (atomic_load(&p->waiters)) futex_wake(&p->workers[rank].met, INT_MAX);
    for (int i = 0; i < size; i++) {
        _Atomic uint32_t *met = &p->workers[i].met;
        /* one that is ahead has come to the next meeting already */
        while ((int32_t)((theirs = atomic_load_explicit(met, memory_order_acquire)) - mine) < 0) {
            if (spin_while(met, theirs, p->spin_ns)) continue;
            uint64_t from = base_clock_ns();
            atomic_fetch_add(&p->waiters, 1);
            if (atomic_load(met) == theirs) futex_wait(met, theirs);
            atomic_fetch_sub(&p->waiters, 1);
            if (rank == 0 && p->spin_ns) p->slept += p->spin_ns + base_clock_ns() - from;
        }
    }
}

int base_pool_threads(const struct base_pool *p)
{
    return p ? p->threads : 1;
}

/* The process's affinity mask; the kernel refuses a mask that is too small for its CPU numbers, so it grows. */
static cpu_set_t *affinity(size_t *bytes)
{
    for (int cpus = 1024; cpus <= 1 << 18; cpus *= 4) {
        cpu_set_t *set = CPU_ALLOC(cpus);
        if (!set) return NULL;
        *bytes = CPU_ALLOC_SIZE(cpus);
        if (!sched_getaffinity(0, *bytes, set)) return set;
        CPU_FREE(set);
        if (errno != EINVAL) return NULL;
    }
    return NULL;
}

/* Binds a thread to the i-th CPU of the mask, counted round when there are fewer. Best effort: an unbound thread is
 * only slower. */
static void pin_thread(struct base_pool *p, pthread_t t, int i)
{
    int count = CPU_COUNT_S(p->mask_bytes, p->before);
    cpu_set_t *one = CPU_ALLOC(p->mask_bytes * 8);
    if (!one || count == 0) {
        CPU_FREE(one);
        return;
    }
    int left = i % count, cpu = 0;
    while (!CPU_ISSET_S((size_t)cpu, p->mask_bytes, p->before) || left-- > 0) cpu++;
    CPU_ZERO_S(p->mask_bytes, one);
    CPU_SET_S((size_t)cpu, p->mask_bytes, one);
    pthread_setaffinity_np(t, p->mask_bytes, one);
    CPU_FREE(one);
}

st_t base_pool_new(struct base_pool **out, int threads, int pin)
{
    if (threads < 1) return ST_EINVAL;
    struct base_pool *p = aligned_alloc(_Alignof(struct base_pool), sizeof *p);
    if (!p) return ST_ENOMEM;
    memset(p, 0, sizeof *p);
    p->workers = aligned_alloc(_Alignof(struct worker), (size_t)threads * sizeof *p->workers);
    if (!p->workers) {
        free(p);
        return ST_ENOMEM;
    }
    memset(p->workers, 0, (size_t)threads * sizeof *p->workers);
    p->spin_ns = threads <= base_cpu_count() ? SPIN_NS : 0; /* spinning for a CPU that somebody needs only delays them */
    /* Signals are for the threads that the program made itself. */
    sigset_t all, mask;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &mask);
    st_t st = ST_OK;
    p->threads = 1;
    for (int i = 1; i < threads && !st; i++) {
        struct worker *w = &p->workers[i];
        w->pool = p;
        w->index = i;
        if (pthread_create(&w->thread, NULL, worker_main, w)) {
            st = ST_ENOMEM;
        } else {
            p->threads = i + 1;
        }
    }
    pthread_sigmask(SIG_SETMASK, &mask, NULL);
    if (!st && pin) base_pool_pin(p, 1);
    if (st)
        base_pool_free(p);
    else
        *out = p;
    return st;
}

void base_pool_pin(struct base_pool *p, int pin)
{
    if (!p) return;
    if (pin && !p->pinned && (p->before = affinity(&p->mask_bytes))) {
        p->pinned = 1;
        for (int i = 0; i < p->threads; i++) pin_thread(p, i ? p->workers[i].thread : pthread_self(), i);
    } else if (!pin && p->pinned) {
        for (int i = 0; i < p->threads; i++)
            pthread_setaffinity_np(i ? p->workers[i].thread : pthread_self(), p->mask_bytes, p->before);
        CPU_FREE(p->before);
        p->before = NULL;
        p->pinned = 0;
    }
}

void base_pool_free(struct base_pool *p)
{
    if (!p) return;
    atomic_store(&p->quit, 1);
    next_round(p, INT_MAX);
    for (int i = 1; i < p->threads; i++) pthread_join(p->workers[i].thread, NULL);
    if (p->pinned) {
        pthread_setaffinity_np(pthread_self(), p->mask_bytes, p->before);
        CPU_FREE(p->before);
    }
    free(p->workers);
    free(p);
}

/* CPUs that the quota in one cgroup folder allows, rounded up; INT_MAX without one. */
static int quota_of(const char *quota_path, const char *period_path)
{
    char quota[32] = "";
    double period = 100000;
    FILE *f = fopen(quota_path, "re");
    if (!f) return INT_MAX;
    /* v2 writes "max 100000" or "200000 100000" in one file; v1 has -1 or a number, and the period beside it. */
    int got = fscanf(f, "%31s %lf", quota, &period);
    fclose(f);
    if (period_path && (f = fopen(period_path, "re"))) {
        if (fscanf(f, "%lf", &period) != 1) got = 0;
        fclose(f);
    }
    double q = atof(quota);
    if (got < 1 || q <= 0 || period <= 0 || q / period >= INT_MAX) return INT_MAX;
    int cpus = (int)(q / period);
    return cpus < q / period ? cpus + 1 : cpus;
}

/* The least quota along the process's cgroup path up to the root. A container may see its own group as the root. */
static int cgroup_quota(void)
{
    int least = INT_MAX;
    char line[4096];
    FILE *f = fopen("/proc/self/cgroup", "re");
    if (!f) return least;
    while (fgets(line, sizeof line, f)) {
        line[strcspn(line, "\n")] = '\0';
        char *names = strchr(line, ':');
        char *path = names ? strchr(names + 1, ':') : NULL;
        if (!path) continue;
        *path++ = '\0';
        int v2 = names[1] == '\0';
        char controllers[256];
        snprintf(controllers, sizeof controllers, ",%s,", names + 1);
        if (!v2 && !strstr(controllers, ",cpu,")) continue;
        for (;;) {
            char quota[8192], period[8192];
            snprintf(quota, sizeof quota, "/sys/fs/cgroup%s%s/%s", v2 ? "" : "/cpu", path,
                     v2 ? "cpu.max" : "cpu.cfs_quota_us");
            snprintf(period, sizeof period, "/sys/fs/cgroup/cpu%s/cpu.cfs_period_us", path);
            int cpus = quota_of(quota, v2 ? NULL : period);
            if (cpus < least) least = cpus;
            char *slash = strrchr(path, '/');
            if (!slash || !*path) break;
            *slash = '\0';
        }
    }
    fclose(f);
    return least;
}

int base_cpu_count(void)
{
    size_t bytes = 0;
    cpu_set_t *set = affinity(&bytes);
    int n = set ? CPU_COUNT_S(bytes, set) : 1;
    CPU_FREE(set);
    int quota = cgroup_quota();
    if (quota < n) n = quota;
    return n > 0 ? n : 1;
}
