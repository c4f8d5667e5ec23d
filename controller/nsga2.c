/* Steady-state NSGA-II (Deb et al. 2002, doi:10.1109/4235.996017; steady state: Durillo et al. 2009): one child at a time, so that no evaluator waits
 * for a generation.
 *
 *   population  the best `job.population` results so far, by rank (constrained domination), then by crowding distance. A failed result never enters.
 *   propose     the first `population` proposals are samples; then two parents by binary tournament, crossover, mutation.
 *
 * A result of a trial that was promoted takes the place of the one below it (one that fails on a higher rung leaves). Results of different rungs stand side by side, so that
 * what was trained for longer, which is what its own rung found best, is mostly in front.
 *
 * Ranks are kept up one result at a time: a newcomer stands one rank below the worst-ranked member that dominates it, and what it dominates moves
 * down as far as it must (level update as in Li et al. 2017, arXiv:1612.05054). So an absorbed result costs O(population), mostly less, and a
 * hundred thousand of them are replayed in well under a second. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/pareto.h"
#include "controller/strategy.h"

#define CROSSOVER_RATE 0.9

struct member {
    int64_t trial;
    struct genome genome;
    double y[JOB_OBJECTIVES_MAX], violation;
    double crowding;
    int rank;
    bool arrived; /* scratch of rank_newcomer */
};

struct nsga2 {
    const struct job *job;
    int m, n;              /* objectives; members */
    struct member *member; /* [population + 1]; in no particular order, except that it depends on the results alone */
    bool crowded;          /* member[].crowding is up to date */
    double *y, *distance;  /* scratch, [population + 1] rows */
    int *index;
};

static void nsga2_close(void *state)
{
    struct nsga2 *s = state;
    if (!s) return;
    for (int i = 0; s->member && i <= s->job->population; i++) space_genome_fini(&s->member[i].genome);
    free(s->member);
    free(s->y);
    free(s->distance);
    free(s->index);
    free(s);
}

static st_t nsga2_open(void **state, const struct job *job)
{
    struct nsga2 *s = calloc(1, sizeof *s);
    size_t rows = (size_t)job->population + 1;
    if (!s) return ST_ENOMEM;
    s->job = job;
    s->m = job->nobjectives;
    s->member = calloc(rows, sizeof *s->member);
    s->y = calloc(rows * (size_t)s->m, sizeof *s->y);
    s->distance = calloc(rows, sizeof *s->distance);
    s->index = calloc(rows, sizeof *s->index);
    st_t st = s->member && s->y && s->distance && s->index ? ST_OK : ST_ENOMEM;
    for (size_t i = 0; !st && i < rows; i++) st = space_genome_init(job->space, &s->member[i].genome);
    if (st) nsga2_close(s);
    else *state = s;
    return st;
}

/* Constrained domination: what holds the constraints before what does not, then the smaller violation, then Pareto. */
static bool dominates(const struct nsga2 *s, const struct member *a, const struct member *b)
{
    bool better = false;
    if (a->violation > 0 || b->violation > 0) return a->violation < b->violation;
    for (int j = 0; j < s->m; j++) {
        if (a->y[j] > b->y[j]) return false;
        better |= a->y[j] < b->y[j];
    }
    return better;
}

/* Ranks after the last member came: its own, and of those it pushes down. */
static void rank_newcomer(struct nsga2 *s)
{
    struct member *new = &s->member[s->n - 1];
    new->rank = 0;
    for (int i = 0; i < s->n - 1; i++) {
        const struct member *a = &s->member[i];
        if (a->rank >= new->rank && dominates(s, a, new)) new->rank = a->rank + 1;
    }
    new->arrived = true;
    /* Rank by rank: what an arrival dominates in it arrives in the next. */
    bool more = true;
    for (int rank = new->rank; more; rank++) {
        more = false;
        for (int i = 0; i < s->n; i++) {
            struct member *a = &s->member[i];
            if (a->rank != rank || a->arrived) continue;
            for (int k = 0; k < s->n; k++) {
                const struct member *b = &s->member[k];
                if (b->rank != rank || !b->arrived || !dominates(s, b, a)) continue;
                a->rank = rank + 1;
                a->arrived = more = true;
                break;
            }
        }
        for (int i = 0; i < s->n; i++) s->member[i].arrived &= s->member[i].rank != rank;
    }
}

/* Crowding distances of one rank, into its members. */
static st_t crowd(struct nsga2 *s, int rank)
{
    int k = 0;
    for (int i = 0; i < s->n; i++) {
        if (s->member[i].rank != rank) continue;
        memcpy(s->y + (size_t)i * (size_t)s->m, s->member[i].y, sizeof *s->y * (size_t)s->m);
        s->index[k++] = i;
    }
    st_t st = k ? base_pareto_crowding(s->y, s->m, s->index, k, s->distance) : ST_OK;
    for (int i = 0; !st && i < k; i++) s->member[s->index[i]].crowding = s->distance[i];
    return st;
}

static int worst_rank(const struct nsga2 *s)
{
    int worst = 0;
    for (int i = 0; i < s->n; i++)
        if (s->member[i].rank > worst) worst = s->member[i].rank;
    return worst;
}

/* One too many: of the worst rank, the one in the thickest crowd leaves; of equals the youngest. No rank changes by that. */
static st_t evict(struct nsga2 *s)
{
    int worst = worst_rank(s), out = -1;
    st_t st = crowd(s, worst);
    if (st) return st;
    for (int i = 0; i < s->n; i++) {
        const struct member *a = &s->member[i];
        if (a->rank != worst) continue;
        const struct member *o = out < 0 ? NULL : &s->member[out];
        if (!o || a->crowding < o->crowding || (a->crowding == o->crowding && a->trial > o->trial)) out = i;
    }
    struct member last = s->member[--s->n];
    s->member[s->n] = s->member[out];
    if (out != s->n) s->member[out] = last;
    return ST_OK;
}

/* Takes a member out: what it dominated may rise, so that all ranks are made anew. */
static st_t leave(struct nsga2 *s, int64_t trial)
{
    int out = 0;
    while (out < s->n && s->member[out].trial != trial) out++;
    if (out == s->n) return ST_OK;
    struct member last = s->member[--s->n];
    s->member[s->n] = s->member[out];
    if (out != s->n) s->member[out] = last;
    s->crowded = false;
    for (int i = 0; i < s->n; i++) {
        memcpy(s->y + (size_t)i * (size_t)s->m, s->member[i].y, sizeof *s->y * (size_t)s->m);
        s->distance[i] = s->member[i].violation;
    }
    st_t st = s->n ? base_pareto_rank(s->y, s->distance, s->n, s->m, s->index) : ST_OK;
    for (int i = 0; i < s->n && !st; i++) s->member[i].rank = s->index[i];
    return st;
}

static st_t nsga2_absorb(void *state, const struct strategy_result *r)
{
    struct nsga2 *s = state;
    st_t st = r->rung ? leave(s, r->trial) : ST_OK;
    if (st || !r->ok) return st;
    struct member *new = &s->member[s->n];
    new->trial = r->trial;
    new->violation = r->violation;
    memcpy(new->y, r->y, sizeof *r->y * (size_t)s->m);
    space_genome_copy(&new->genome, r->genome);
    s->n++;
    s->crowded = false;
    rank_newcomer(s);
    return s->n > s->job->population ? evict(s) : ST_OK;
}

/* The better of two drawn at random: by rank, then by crowding. */
static const struct member *tournament(const struct nsga2 *s, struct base_rng *r)
{
    const struct member *a = &s->member[base_rng_below(r, (uint32_t)s->n)];
    const struct member *b = &s->member[base_rng_below(r, (uint32_t)s->n)];
    if (a->rank != b->rank) return a->rank < b->rank ? a : b;
    return b->crowding > a->crowding ? b : a;
}

static st_t nsga2_propose(void *state, struct base_rng *r, const struct strategy_pending *pending, struct genome *out, struct strategy_origin *origin)
{
    struct nsga2 *s = state;
    const struct space *space = s->job->space;
    if (r->n < (uint64_t)s->job->population || s->n < 2) {
        *origin = (struct strategy_origin){.op = "sample"};
        return space_sample(space, r, out);
    }
    if (!s->crowded) {
        st_t st = ST_OK;
        for (int rank = worst_rank(s); !st && rank >= 0; rank--) st = crowd(s, rank);
        if (st) return st;
        s->crowded = true;
    }
    const struct member *a = tournament(s, r), *b = tournament(s, r);
    *origin = (struct strategy_origin){.op = "mutate", .nparents = 1, .parent = {a->trial}};
    if (b != a && base_rng_unit(r) < CROSSOVER_RATE) {
        *origin = (struct strategy_origin){.op = "crossover", .nparents = 2, .parent = {a->trial, b->trial}};
        st_t st = space_crossover(space, r, &a->genome, &b->genome, out);
        if (st) return st;
    } else {
        space_genome_copy(out, &a->genome);
    }
    return space_mutate(space, r, 0, out);
}

const struct strategy strategy_nsga2 = {"nsga2", nsga2_open, nsga2_close, nsga2_absorb, nsga2_propose};
