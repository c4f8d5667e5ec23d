/* Aging evolution (regularised evolution: Real, Aggarwal, Huang & Le 2019, arXiv:1802.01548), with rank and crowding in place of one accuracy.
 *
 *   population  the last `job.population` results, in the order of their reports: whoever is oldest leaves, however good. A failed result never enters.
 *   propose     the first `population` proposals are samples; then a sample of a quarter of the population (at least 2), of which the best by
 *               constrained rank, then by crowding distance within its rank, then the youngest, is mutated.
 *
 * The result of a trial that was promoted takes the place of its own on the rung below, and its age.
 *
 * A candidate that owes its place to a lucky measurement does not keep it: its children must prove good. The front is the archive's, not the population's. */
#include <stdlib.h>
#include <string.h>

#include "base/pareto.h"
#include "controller/strategy.h"

#define TOURNAMENT_SHARE 4

struct aging {
    const struct job *job;
    int m, n, next;          /* objectives; members; where the next one goes: the oldest's place once the ring is full */
    bool ranked;             /* rank and crowding are up to date */
    int64_t *trial;          /* [population], as all below */
    struct genome *genome;
    double *y, *violation, *crowding, *distance;
    int *rank, *index;
};

static void aging_close(void *state)
{
    struct aging *s = state;
    if (!s) return;
    for (int i = 0; s->genome && i < s->job->population; i++) space_genome_fini(&s->genome[i]);
    free(s->trial);
    free(s->genome);
    free(s->y);
    free(s->violation);
    free(s->crowding);
    free(s->distance);
    free(s->rank);
    free(s->index);
    free(s);
}

static st_t aging_open(void **state, const struct job *job)
{
    struct aging *s = calloc(1, sizeof *s);
    size_t rows = (size_t)job->population;
    if (!s) return ST_ENOMEM;
    s->job = job;
    s->m = job->nobjectives;
    s->trial = calloc(rows, sizeof *s->trial);
    s->genome = calloc(rows, sizeof *s->genome);
    s->y = calloc(rows * (size_t)s->m, sizeof *s->y);
    s->violation = calloc(rows, sizeof *s->violation);
    s->crowding = calloc(rows, sizeof *s->crowding);
    s->distance = calloc(rows, sizeof *s->distance);
    s->rank = calloc(rows, sizeof *s->rank);
    s->index = calloc(rows, sizeof *s->index);
    bool all = s->trial && s->genome && s->y && s->violation && s->crowding && s->distance && s->rank && s->index;
    st_t st = all ? ST_OK : ST_ENOMEM;
    for (size_t i = 0; !st && i < rows; i++) st = space_genome_init(job->space, &s->genome[i]);
    if (st) aging_close(s);
    else *state = s;
    return st;
}

static st_t aging_absorb(void *state, const struct strategy_result *r)
{
    struct aging *s = state;
    int at = s->next;
    if (!r->ok) return ST_OK;
    if (r->rung) {
        for (at = 0; at < s->n && s->trial[at] != r->trial;) at++;
        if (at == s->n) return ST_OK;
    }
    s->trial[at] = r->trial;
    s->violation[at] = r->violation;
    memcpy(s->y + (size_t)at * (size_t)s->m, r->y, sizeof *r->y * (size_t)s->m);
    s->ranked = false;
    if (r->rung) return ST_OK;
    space_genome_copy(&s->genome[at], r->genome);
    if (s->n < s->job->population) s->n++;
    s->next = (s->next + 1) % s->job->population;
    return ST_OK;
}

static st_t rank_all(struct aging *s)
{
    st_t st = base_pareto_rank(s->y, s->violation, s->n, s->m, s->rank);
    int worst = 0;
    for (int i = 0; !st && i < s->n; i++) worst = s->rank[i] > worst ? s->rank[i] : worst;
    for (int rank = 0; !st && rank <= worst; rank++) {
        int k = 0;
        for (int i = 0; i < s->n; i++)
            if (s->rank[i] == rank) s->index[k++] = i;
        if (k) st = base_pareto_crowding(s->y, s->m, s->index, k, s->distance);
        for (int i = 0; !st && i < k; i++) s->crowding[s->index[i]] = s->distance[i];
    }
    s->ranked = !st;
    return st;
}

static bool better(const struct aging *s, int a, int b)
{
    if (s->rank[a] != s->rank[b]) return s->rank[a] < s->rank[b];
    if (s->crowding[a] != s->crowding[b]) return s->crowding[a] > s->crowding[b];
    return s->trial[a] > s->trial[b];
}

static st_t aging_propose(void *state, struct base_rng *r, const struct strategy_pending *pending, struct genome *out, struct strategy_origin *origin)
{
    struct aging *s = state;
    if (r->n < (uint64_t)s->job->population || s->n < 2) {
        *origin = (struct strategy_origin){.op = "sample"};
        return space_sample(s->job->space, r, out);
    }
    st_t st = s->ranked ? ST_OK : rank_all(s);
    if (st) return st;
    int best = (int)base_rng_below(r, (uint32_t)s->n);
    for (int i = 1; i < 2 || i < s->n / TOURNAMENT_SHARE; i++) {
        int other = (int)base_rng_below(r, (uint32_t)s->n);
        if (better(s, other, best)) best = other;
    }
    *origin = (struct strategy_origin){.op = "mutate", .nparents = 1, .parent = {s->trial[best]}};
    space_genome_copy(out, &s->genome[best]);
    return space_mutate(s->job->space, r, 0, out);
}

const struct strategy strategy_aging = {"aging", aging_open, aging_close, aging_absorb, aging_propose};
