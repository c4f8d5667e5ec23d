#include "evaluator/beat.h"

#include <jansson.h>
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <time.h>

#include "wire/wire.h"

#define CALL_MS 10000

struct beat {
    const char *socket;
    pthread_t thread;
    pthread_mutex_t lock; /* over what follows */
    pthread_cond_t changed;
    bool stop, taken;
    volatile int hurry;   /* like stop, for a call under way */
    int64_t lease, epoch;
    double every_s;
    struct timespec spoken;
};

static double since(const struct timespec *t)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)(now.tv_sec - t->tv_sec) + 1e-9 * (double)(now.tv_nsec - t->tv_nsec);
}

/* go is false only when tautd says so; a tautd that is away says nothing. */
static bool speak(struct beat *b, struct wire_client **wire, int64_t lease, int64_t epoch)
{
    bool go = true;
    json_t *r = NULL;
    if (!*wire && wire_client_open(wire, b->socket, NULL)) return true;
    wire_client_interrupt(*wire, &b->hurry);
    json_t *p = json_pack("{s:I, s:I}", "lease", (json_int_t)lease, "epoch", (json_int_t)epoch);
    int code = 0;
    if (p && !wire_client_call(*wire, "evaluator.progress", p, CALL_MS, &r, &code, NULL)) {
        go = !json_is_false(json_object_get(r, "go"));
        json_decref(r);
    } else if (!code) {
        wire_client_close(*wire);
        *wire = NULL;
    }
    return go;
}

/* Holding the lock. Wakes when it might be due and not before: a thread that wakes disturbs what is being timed. */
static void sleep_until_due(struct beat *b)
{
    struct timespec due = b->spoken;
    double s = b->every_s, whole = floor(s);
    due.tv_sec += (time_t)whole;
    due.tv_nsec += (long)((s - whole) * 1e9);
    if (due.tv_nsec >= 1000000000) due.tv_sec++, due.tv_nsec -= 1000000000;
    if (b->lease && !b->taken) pthread_cond_timedwait(&b->changed, &b->lock, &due);
    else pthread_cond_wait(&b->changed, &b->lock);
}

static void *run(void *arg)
{
    struct beat *b = arg;
    struct wire_client *wire = NULL;
    pthread_mutex_lock(&b->lock);
    while (!b->stop) {
        if (!b->lease || b->taken || since(&b->spoken) < b->every_s) {
            sleep_until_due(b);
            continue;
        }
        int64_t lease = b->lease, epoch = b->epoch;
        clock_gettime(CLOCK_MONOTONIC, &b->spoken);
        pthread_mutex_unlock(&b->lock);
        bool go = speak(b, &wire, lease, epoch);
        pthread_mutex_lock(&b->lock);
        if (!go && lease == b->lease && epoch == b->epoch) b->taken = true;
    }
    pthread_mutex_unlock(&b->lock);
    wire_client_close(wire);
    return NULL;
}

st_t beat_start(struct beat **out, const char *socket)
{
    struct beat *b = calloc(1, sizeof *b);
    if (!b) return ST_ENOMEM;
    b->socket = socket;
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_mutex_init(&b->lock, NULL);
    pthread_cond_init(&b->changed, &attr);
    pthread_condattr_destroy(&attr);
    sigset_t all, old; /* signals are the worker's */
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &old);
    int rc = pthread_create(&b->thread, NULL, run, b);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (rc) {
        pthread_cond_destroy(&b->changed);
        pthread_mutex_destroy(&b->lock);
        free(b);
        return ST_ENOMEM;
    }
    *out = b;
    return ST_OK;
}

void beat_stop(struct beat *b)
{
    if (!b) return;
    pthread_mutex_lock(&b->lock);
    b->stop = true;
    __atomic_store_n(&b->hurry, 1, __ATOMIC_RELAXED);
    pthread_cond_signal(&b->changed);
    pthread_mutex_unlock(&b->lock);
    pthread_join(b->thread, NULL);
    pthread_cond_destroy(&b->changed);
    pthread_mutex_destroy(&b->lock);
    free(b);
}

void beat_hold(struct beat *b, int64_t lease, int64_t epoch, double every_s)
{
    pthread_mutex_lock(&b->lock);
    b->lease = lease;
    b->epoch = epoch;
    b->every_s = every_s > BEAT_LEAST_S ? every_s : BEAT_LEAST_S;
    b->taken = false;
    clock_gettime(CLOCK_MONOTONIC, &b->spoken);
    pthread_cond_signal(&b->changed);
    pthread_mutex_unlock(&b->lock);
}

void beat_spoken(struct beat *b)
{
    pthread_mutex_lock(&b->lock);
    clock_gettime(CLOCK_MONOTONIC, &b->spoken);
    pthread_mutex_unlock(&b->lock);
}

bool beat_taken(struct beat *b)
{
    pthread_mutex_lock(&b->lock);
    bool taken = b->taken;
    pthread_mutex_unlock(&b->lock);
    return taken;
}
