/* Surrogate search: models fitted to the archive say what to try next.
 *
 *   models    fit.h: every objective and constraint that paper does not tell has one; inner.h: an evolution that asks them, for the candidate that
 *             adds most to the front's hypervolume along random directions.
 *   propose   the first FIRST proposals are samples. After that MODEL_MOST of the proposals are the models', as long as their held-out rank correlation is RHO_ALL
 *             or better, and down to MODEL_LEAST of them where it is RHO_NONE; the others are nsga2's, which absorbs the same results. Candidates that are out with evaluators count as being as good as predicted, so that nobody is sent to the same place.
 *   fits      belong to numbers of results (failed ones not counted): FIRST, and from any c the next is max(8, min(c / 8, 64)) later. From LAGGED on a fit is made by a
 *             thread while proposals still use the one before, and comes into use half a gap after its number, waited for if it is not ready. What has
 *             been reported since is appended to the models in use, at a cost of O(points^2) a result.
 *   rungs     the models learn results of the lowest rung, which every trial has: those of other rungs are not to be compared with them.
 * So a proposal is a function of (job, results in their order, what is out, seed, number) whether or not the process was killed in between: a fit begins from
 * nothing, with the results up to its number. */
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "controller/inner.h"
#include "controller/surrogate.h"

enum { FIRST = 24, LAGGED = 64 };
/* The models' share of the proposals, by rank correlation. */
#define MODEL_MOST 0.9
#define MODEL_LEAST 0.1
#define RHO_NONE 0.2
#define RHO_ALL 0.7

struct task { /* a fit under way */
    bool running;
    pthread_t thread;
    long count;
    struct fit_data data; /* own copy */
    struct fit *fit;
    st_t st;
};

struct surrogate {
    const struct job *job;
    struct fit_data data;
    void *evolution; /* of strategy_nsga2 */
    struct fit *fit; /* in use; NULL: none yet */
    struct task task;
    struct inner *inner;
    long *front, nfront, room;    /* rows of data that no feasible one dominates */
    uint64_t asked;               /* the proposal that found[] belongs to */
    const struct inner_found *found;
    int nfound, next;
};

static long gap(long c)
{
    long g = c / 8;
    return g < 8 ? 8 : g > 64 ? 64 : g;
}

/* The last fit whose number has been passed by its lag (0: none), and the last whose number has been reached. */
static void schedule(long n, long *active, long *due)
{
    *active = *due = 0;
    for (long c = FIRST; c <= n; c += gap(c)) {
        *due = c;
        if (n >= c + (c < LAGGED ? 0 : gap(c) / 2)) *active = c;
    }
}

static void end_task(struct surrogate *s)
{
    if (!s->task.running) return;
    pthread_join(s->task.thread, NULL);
    s->task.running = false;
    fit_data_fini(&s->task.data);
}

static void surrogate_close(void *state)
{
    struct surrogate *s = state;
    if (!s) return;
    end_task(s);
    fit_free(s->task.fit);
    fit_free(s->fit);
    inner_free(s->inner);
    if (s->evolution) strategy_nsga2.close(s->evolution);
    fit_data_fini(&s->data);
    free(s->front);
    free(s);
}

static st_t surrogate_open(void **state, const struct job *job)
{
    struct surrogate *s = calloc(1, sizeof *s);
    if (!s) return ST_ENOMEM;
    s->job = job;
    s->asked = UINT64_MAX;
    fit_data_init(&s->data, job);
    st_t st = strategy_nsga2.open(&s->evolution, job);
    if (!st) st = inner_new(&s->inner, job);
    if (st) surrogate_close(s);
    else *state = s;
    return st;
}

/* The last row of data joins the front, unless it breaks a constraint or is dominated; what it dominates leaves. */
static st_t join_front(struct surrogate *s)
{
    long row = s->data.n - 1, kept = 0;
    int m = s->job->nobjectives;
    const double *y = s->data.y + row * m;
    if (s->data.violation[row] > 0) return ST_OK;
    for (long i = 0; i < s->nfront; i++) {
        const double *o = s->data.y + s->front[i] * m;
        bool beaten = true, beats = true;
        for (int k = 0; k < m; k++) {
            beaten &= o[k] <= y[k];
            beats &= y[k] <= o[k];
        }
        if (beaten) return ST_OK; /* then it has not beaten anybody before */
        if (!beats) s->front[kept++] = s->front[i];
    }
    s->nfront = kept;
    if (s->nfront == s->room) {
        long room = s->room ? 2 * s->room : 64, *more = realloc(s->front, (size_t)room * sizeof *more);
        if (!more) return ST_ENOMEM;
        s->front = more;
        s->room = room;
    }
    s->front[s->nfront++] = row;
    return ST_OK;
}

static st_t surrogate_absorb(void *state, const struct strategy_result *r)
{
    struct surrogate *s = state;
    st_t st = strategy_nsga2.absorb(s->evolution, r);
    if (st || !r->ok || r->rung) return st;
    st = fit_data_add(&s->data, r->trial, r->genome, r->y, r->bound, r->violation);
    return st ? st : join_front(s);
}

static void *work(void *arg)
{
    struct task *t = arg;
    t->st = fit_new(&t->fit, &t->data, t->count);
    return NULL;
}

/* The fit that belongs to the results so far is in use and knows them all; the next one is under way. */
static st_t catch_up(struct surrogate *s)
{
    long active, due;
    st_t st = ST_OK;
    schedule(s->data.n, &active, &due);
    if (active && (!s->fit || fit_count(s->fit) != active)) {
        struct fit *fresh = NULL;
        if (s->task.count == active) {
            end_task(s);
            st = s->task.st;
            fresh = s->task.fit;
            s->task.fit = NULL;
            s->task.count = 0;
        }
        if (!fresh) st = fit_new(&fresh, &s->data, active);
        if (st) return st;
        fit_free(s->fit);
        s->fit = fresh;
    }
    if (due > active && s->task.count != due) {
        end_task(s);
        fit_free(s->task.fit);
        s->task.fit = NULL;
        s->task.count = due;
        st = fit_data_copy(&s->task.data, &s->data, due);
        if (st) return st;
        s->task.running = !pthread_create(&s->task.thread, NULL, work, &s->task);
        if (!s->task.running) {
            fit_data_fini(&s->task.data);
            s->task.count = 0; /* made when it is needed */
        }
    }
    return s->fit ? fit_append(s->fit, &s->data) : ST_OK;
}

static bool has_models(const struct surrogate *s, uint64_t n)
{
    return n >= FIRST && s->data.n >= FIRST;
}

st_t surrogate_rho(void *state, uint64_t n, double *rho)
{
    struct surrogate *s = state;
    *rho = NAN;
    if (!has_models(s, n)) return ST_OK;
    st_t st = catch_up(s);
    if (!st) *rho = fit_rho(s->fit);
    return st;
}

st_t surrogate_evolve(void *state, struct base_rng *r, const struct strategy_pending *pending, struct genome *out, struct strategy_origin *origin)
{
    struct surrogate *s = state;
    return strategy_nsga2.propose(s->evolution, r, pending, out, origin);
}

static st_t surrogate_propose(void *state, struct base_rng *r, const struct strategy_pending *pending, struct genome *out, struct strategy_origin *origin)
{
    struct surrogate *s = state;
    if (!has_models(s, r->n)) {
        *origin = (struct strategy_origin){.op = "sample"};
        return space_sample(s->job->space, r, out);
    }
    if (r->n != s->asked || !r->block) { /* else it asks again, since what it got was known */
        st_t st = catch_up(s);
        if (st) return st;
        s->asked = r->n;
        s->nfound = s->next = 0;
        double rho = fit_rho(s->fit), share = MODEL_MOST * (rho - RHO_NONE) / (RHO_ALL - RHO_NONE);
        share = share > MODEL_LEAST ? share < MODEL_MOST ? share : MODEL_MOST : MODEL_LEAST; /* not a number: the least */
        if (base_rng_unit(r) < share)
            st = inner_search(s->inner, s->fit, &s->data, s->front, s->nfront, pending->genome, pending->n, r, &s->found, &s->nfound);
        if (st) return st;
    }
    if (s->next < s->nfound) {
        space_genome_copy(out, &s->found[s->next++].genome);
        *origin = (struct strategy_origin){.op = "model"};
        return ST_OK;
    }
    return strategy_nsga2.propose(s->evolution, r, pending, out, origin);
}

const struct strategy strategy_surrogate = {"surrogate", surrogate_open, surrogate_close, surrogate_absorb, surrogate_propose};
