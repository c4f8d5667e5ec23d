/* Surrogate search: models fitted to the archive say what to try next.
 *
 *   models    fit.h: every objective and constraint that paper does not tell has one; inner.h: an evolution that asks them, for the candidate that
 *             adds most to the front's hypervolume along random directions.
 *   propose   the first FIRST proposals are samples. After that each is the models' or nsga2's (which absorbs the same results), by the first number that
 *             its generator draws: below CONTROL always nsga2's, from 1 - CONTROL on always the models'. Of these two groups it is known whose they
 *             were whatever came in between, so they tell who brings more: with m and e the means over their results, the later ones counting more, of
 *             the root of the share of the front's hypervolume that a result added, the models have m^2 / (m^2 + e^2) of the proposals in between, and none of those where their held-out rank correlation is below
 *             RHO_LEAST. Where nobody can see further than a child of the front, as in landscapes of many valleys, evolution goes on at little loss.
 *             What auto gave to nsga2 before a handover, and samples while results were too few, are counted by the same number, whoever made them.
 *             Candidates that are out with evaluators count as being as good as predicted, so that nobody is sent to the same place.
 *   fits      belong to numbers of results (failed ones not counted): FIRST, and from any c the next is max(8, min(c / 8, 64)) later. From LAGGED on a fit is made by a
 *             thread while proposals still use the one before, and comes into use half a gap after its number, waited for if it is not ready. What has
 *             been reported since is appended to the models in use, at a cost of O(points^2) a result.
 *   rungs     the models learn results of the lowest rung, which every trial has. From where enough trials have results on a higher one too, predictions and results alike are lifted there
 *             (lift.h) before the front is looked at, as far as that puts the trials in a better order than the lowest rung does, and who brought what is counted anew with each fit.
 * So a proposal is a function of (job, results in their order, what is out, seed, number) whether or not the process was killed in between: a fit begins from
 * nothing, with the results up to its number. */
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/pareto.h"
#include "controller/inner.h"
#include "controller/surrogate.h"

enum { FIRST = 24, LAGGED = 64 };
#define CONTROL 0.15
#define RHO_LEAST 0.2
#define MEMORY 0.92  /* what a result of a group still counts when the next one of it has come */
#define AT_FIRST 0.05 /* the models' mean before there is one; half of it nsga2's */
#define EXACT_MOST 3 /* objectives: from more on, joining the front is all that counts */

struct task { /* a fit under way */
    bool running;
    pthread_t thread;
    long count;
    struct fit_data data; /* own copy */
    struct fit *fit;
    st_t st;
};

struct credit { /* a front, and who it is owed to */
    long rows;                    /* of data that it knows */
    long *front, nfront, room;    /* rows that no feasible one dominates */
    double won[2], had[2];        /* of nsga2's and the models' control groups: what they added, and results */
    double ref[JOB_OBJECTIVES_MAX]; /* the worst of the first `population` results, a tenth further out */
    double *y;                    /* [room, objectives] of the front, scratch */
};

struct surrogate {
    const struct job *job;
    struct fit_data data;
    void *evolution; /* of strategy_nsga2 */
    struct fit *fit; /* in use; NULL: none yet */
    struct task task;
    struct inner *inner;
    int64_t *proposal;            /* [proposals] of each row of data, the number that it was proposed under */
    long proposals;               /* room */
    struct credit low, lifted;    /* by results as they are; by those of the fit in use, where that has a lift … */
    long lifted_by;               /* … the number that it belongs to */
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

static void credit_fini(struct credit *c)
{
    free(c->front);
    free(c->y);
}

/* From nothing, its memory kept. */
static void credit_begin(struct credit *c)
{
    c->rows = c->nfront = 0;
    c->had[0] = c->had[1] = 2; /* what is thought of them at first */
    c->won[0] = AT_FIRST * c->had[0] / 2;
    c->won[1] = AT_FIRST * c->had[1];
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
    credit_fini(&s->low);
    credit_fini(&s->lifted);
    free(s->proposal);
    free(s);
}

static st_t surrogate_open(void **state, const struct job *job)
{
    struct surrogate *s = calloc(1, sizeof *s);
    if (!s) return ST_ENOMEM;
    s->job = job;
    s->asked = UINT64_MAX;
    credit_begin(&s->low);
    credit_begin(&s->lifted);
    fit_data_init(&s->data, job);
    st_t st = strategy_nsga2.open(&s->evolution, job);
    if (!st) st = inner_new(&s->inner, job);
    if (st) surrogate_close(s);
    else *state = s;
    return st;
}

/* The row joins the front, unless it breaks a constraint, is dominated or is like one there (*joined); what it dominates leaves. */
static st_t join_front(const struct surrogate *s, struct credit *c, const double *values, long row, bool *joined)
{
    long kept = 0;
    int m = s->job->nobjectives;
    const double *y = values + row * m;
    *joined = false;
    if (s->data.violation[row] > 0) return ST_OK;
    for (long i = 0; i < c->nfront; i++) {
        const double *o = values + c->front[i] * m;
        bool beaten = true, beats = true;
        for (int k = 0; k < m; k++) {
            beaten &= o[k] <= y[k];
            beats &= y[k] <= o[k];
        }
        if (beaten) return ST_OK; /* then it has not beaten anybody before */
        if (!beats) c->front[kept++] = c->front[i];
    }
    c->nfront = kept;
    if (c->nfront == c->room) {
        long room = c->room ? 2 * c->room : 64, *more = realloc(c->front, (size_t)room * sizeof *more);
        if (more) c->front = more;
        double *y2 = realloc(c->y, (size_t)room * (size_t)m * sizeof *y2);
        if (y2) c->y = y2;
        if (!more || !y2) return ST_ENOMEM;
        c->room = room;
    }
    c->front[c->nfront++] = row;
    *joined = true;
    return ST_OK;
}

/* The root of the share of the front's hypervolume that its last member adds. */
static double gain(const struct surrogate *s, const struct credit *c, const double *values)
{
    int m = s->job->nobjectives;
    if (m > EXACT_MOST) return 1;
    for (long i = 0; i < c->nfront; i++) memcpy(c->y + i * m, values + c->front[i] * m, (size_t)m * sizeof *c->y);
    double all = base_pareto_hypervolume(c->y, c->nfront, m, c->ref), before = base_pareto_hypervolume(c->y, c->nfront - 1, m, c->ref);
    return all > before ? sqrt((all - before) / all) : 0;
}

static void move_reference(const struct surrogate *s, struct credit *c, const double *values)
{
    int m = s->job->nobjectives;
    if (c->rows > s->job->population) return;
    for (int i = 0; i < m; i++) {
        double best = INFINITY, worst = -INFINITY;
        for (long k = 0; k < c->rows; k++) {
            best = fmin(best, values[k * m + i]);
            worst = fmax(worst, values[k * m + i]);
        }
        c->ref[i] = worst + 0.1 * (worst > best ? worst - best : 1);
    }
}

/* Takes in the rows of data that it does not know yet, by these values of them. */
static st_t credit_rows(const struct surrogate *s, struct credit *c, const double *values)
{
    while (c->rows < s->data.n) {
        bool joined;
        long row = c->rows++;
        st_t st = join_front(s, c, values, row, &joined);
        if (st) return st;
        move_reference(s, c, values);
        if (s->proposal[row] < FIRST) continue;
        struct base_rng again = base_rng_at(s->job->seed, RNG_PROPOSE, (uint64_t)s->proposal[row]);
        double lot = base_rng_unit(&again);
        if (lot >= CONTROL && lot < 1 - CONTROL) continue;
        int who = lot >= CONTROL;
        c->won[who] = c->won[who] * MEMORY + (joined ? gain(s, c, values) : 0);
        c->had[who] = c->had[who] * MEMORY + 1;
    }
    return ST_OK;
}

/* By the fit in use, once it knows all results. */
static const struct credit *aim(const struct surrogate *s)
{
    return fit_values(s->fit) ? &s->lifted : &s->low;
}

static st_t surrogate_absorb(void *state, const struct strategy_result *r)
{
    struct surrogate *s = state;
    st_t st = strategy_nsga2.absorb(s->evolution, r);
    if (st || !r->ok) return st;
    if (r->rung) return fit_data_add_high(&s->data, r->trial, r->rung, r->y);
    if (s->data.n == s->proposals) {
        long room = s->proposals ? 2 * s->proposals : 64;
        int64_t *more = realloc(s->proposal, (size_t)room * sizeof *more);
        if (!more) return ST_ENOMEM;
        s->proposal = more;
        s->proposals = room;
    }
    s->proposal[s->data.n] = r->proposal;
    st = fit_data_add(&s->data, r->trial, r->genome, r->y, r->bound, r->violation);
    return st ? st : credit_rows(s, &s->low, s->data.y);
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
    if (s->fit) st = fit_append(s->fit, &s->data);
    if (st || !s->fit || !fit_values(s->fit)) return st;
    if (s->lifted_by != fit_count(s->fit)) credit_begin(&s->lifted); /* another fit lifts otherwise */
    s->lifted_by = fit_count(s->fit);
    return credit_rows(s, &s->lifted, fit_values(s->fit));
}

/* What the models aim at: the front as it is or, with a lift, as it would be on the higher rung. */
static st_t ask_models(struct surrogate *s, struct base_rng *r, const struct strategy_pending *pending)
{
    struct fit_data seen = s->data;
    const struct credit *c = aim(s);
    if (fit_values(s->fit)) seen.y = fit_values(s->fit);
    return inner_search(s->inner, s->fit, &seen, c->front, c->nfront, pending->genome, pending->n, r, &s->found, &s->nfound);
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
        const struct credit *c = aim(s);
        double e = c->won[0] / c->had[0], m = c->won[1] / c->had[1];
        double share = fit_rho(s->fit) >= RHO_LEAST && m > 0 ? m * m / (m * m + e * e) : 0;
        if (base_rng_unit(r) >= 1 - CONTROL - (1 - 2 * CONTROL) * share)
            st = ask_models(s, r, pending);
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
