/* The best of what adds up: prices for the constraints, then moves. See inner.h. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "controller/inner_int.h"

enum { STARTS = 8, ROUNDS = 40, MOVES = 4000 };

struct sum {
    struct inner *s;
    const struct job *job;
    int genes, width, m, c; /* width: most choices of a gene */
    int *choices;           /* [genes] */
    double *table;          /* [m + c, genes, width] */
    double base[JOB_OBJECTIVES_MAX + JOB_CONSTRAINTS_MAX];
    int *x;                 /* [genes] the candidate under way */
    const double *home;     /* [genes] what it may differ from in `reach` genes; NULL: anywhere */
    int reach, away;        /* away: in how many it does */
    double at[JOB_OBJECTIVES_MAX + JOB_CONSTRAINTS_MAX]; /* its outputs */
};

static double term(const struct sum *t, int output, int gene, int v)
{
    return t->table[((size_t)output * (size_t)t->genes + (size_t)gene) * (size_t)t->width + (size_t)v];
}

static double score_at(const struct sum *t)
{
    return inner_score(t->s, t->at, job_violation(t->job, t->at + t->m));
}

static void add_up(struct sum *t)
{
    for (int o = 0; o < t->m + t->c; o++) {
        t->at[o] = t->base[o];
        for (int g = 0; g < t->genes; g++) t->at[o] += term(t, o, g, t->x[g]);
    }
}

/* Each gene's best choice where an objective weighs weight[] and a constrained metric price[]. */
static void answer(struct sum *t, const double *weight, const double *price)
{
    for (int g = 0; g < t->genes; g++) {
        double least = INFINITY;
        for (int v = 0; v < t->choices[g]; v++) {
            double cost = 0;
            for (int i = 0; i < t->m; i++) cost += weight[i] * term(t, i, g, v);
            for (int i = 0; i < t->c; i++) cost += price[i] * term(t, t->m + i, g, v);
            if (cost >= least) continue;
            least = cost;
            t->x[g] = v;
        }
    }
    add_up(t);
}

/* What a choice can do to an output, summed over the genes: the unit of its weight and price. */
static double span(const struct sum *t, int output)
{
    double sum = 0;
    for (int g = 0; g < t->genes; g++) {
        double low = INFINITY, high = -INFINITY;
        for (int v = 0; v < t->choices[g]; v++) {
            low = fmin(low, term(t, output, g, v));
            high = fmax(high, term(t, output, g, v));
        }
        sum += high - low;
    }
    return sum > 0 ? sum : 1;
}

static void move(struct sum *t, int gene, int v)
{
    if (t->x[gene] == v) return;
    if (t->home) t->away += (v != (int)t->home[gene]) - (t->x[gene] != (int)t->home[gene]);
    for (int o = 0; o < t->m + t->c; o++) t->at[o] += term(t, o, gene, v) - term(t, o, gene, t->x[gene]);
    t->x[gene] = v;
}

/* Genes drawn at random take other choices, one or two of them at once, wherever that scores no less and does not lead too far from home. */
static double improve(struct sum *t, struct base_rng *r, double score)
{
    double before[JOB_OBJECTIVES_MAX + JOB_CONSTRAINTS_MAX];
    for (int k = 0; k < MOVES; k++) {
        int two = (int)base_rng_below(r, 2), gene[2], had[2], away = t->away;
        memcpy(before, t->at, sizeof before);
        for (int i = 0; i <= two; i++) {
            gene[i] = (int)base_rng_below(r, (uint32_t)t->genes);
            had[i] = t->x[gene[i]];
            move(t, gene[i], (int)base_rng_below(r, (uint32_t)t->choices[gene[i]]));
        }
        double now = t->home && t->away > t->reach ? -INFINITY : score_at(t);
        if (now >= score) {
            score = now;
            continue;
        }
        t->away = away;
        for (int i = two; i >= 0; i--) t->x[gene[i]] = had[i];
        memcpy(t->at, before, sizeof before);
    }
    return score;
}

static void keep(struct sum *t, double score)
{
    struct inner *s = t->s;
    struct inner_found *to = &s->member[s->n++];
    for (int g = 0; g < t->genes; g++) to->genome.g[g] = t->x[g];
    to->score = score;
}

static void search(struct sum *t, struct base_rng *r, int *best)
{
    double weight[JOB_OBJECTIVES_MAX], price[JOB_CONSTRAINTS_MAX + 1], unit[JOB_CONSTRAINTS_MAX + 1], top = -INFINITY;
    for (int i = 0; i < t->m; i++) weight[i] = -log(1 - base_rng_unit(r)) / span(t, i); /* even on the simplex */
    for (int i = 0; i < t->c; i++) {
        price[i] = 0;
        unit[i] = weight[0] * span(t, 0) / span(t, t->m + i);
    }
    for (int k = 0; k < ROUNDS; k++) {
        answer(t, weight, price);
        double score = score_at(t);
        if (score > top) {
            top = score;
            memcpy(best, t->x, (size_t)t->genes * sizeof *best);
        }
        for (int i = 0; i < t->c; i++) {
            const struct job_constraint *c = &t->job->constraint[i];
            double v = t->at[t->m + i], step = unit[i] * 2 / (k + 2);
            if (v > c->max) price[i] += step;
            else if (v < c->min) price[i] -= step;
            else price[i] -= price[i] > 0 ? fmin(step, price[i]) : fmax(-step, price[i]);
        }
    }
    memcpy(t->x, best, (size_t)t->genes * sizeof *best);
    add_up(t);
    keep(t, improve(t, r, top));
}

static void search_near(struct sum *t, struct base_rng *r, const double *home)
{
    t->home = home;
    t->away = 0;
    for (int g = 0; g < t->genes; g++) t->x[g] = (int)home[g];
    add_up(t);
    keep(t, improve(t, r, -INFINITY));
}

st_t inner_sum(struct inner *s, const struct fit_data *d, const long *front, long nfront, struct base_rng *r)
{
    const struct job *job = s->job;
    struct sum t = {.s = s, .job = job, .genes = space_genes(job->space), .m = job->nobjectives, .c = job->nconstraints};
    st_t st = ST_OK;
    size_t genes = (size_t)t.genes;
    t.choices = malloc(genes * sizeof *t.choices);
    t.x = malloc(genes * sizeof *t.x);
    int *best = malloc(genes * sizeof *best);
    if (!t.choices || !t.x || !best) st = ST_ENOMEM;
    for (int g = 0; !st && g < t.genes; g++) {
        t.choices[g] = space_gene_choices(job->space, g);
        t.width = t.choices[g] > t.width ? t.choices[g] : t.width;
    }
    if (!st) t.table = malloc((size_t)(t.m + t.c) * genes * (size_t)t.width * sizeof *t.table);
    if (!t.table) st = ST_ENOMEM;
    for (int o = 0; !st && o < t.m + t.c; o++)
        st = fit_table(s->fit, o >= t.m, o < t.m ? o : o - t.m, t.width, t.table + (size_t)o * genes * (size_t)t.width, &t.base[o]);
    /* By turns anywhere, and near a member of the front, where effects that do not quite add up are as they are there. */
    bool near = nfront && base_rng_below(r, 2);
    t.reach = (int)ceil(pow(t.genes, base_rng_unit(r)));
    for (int i = 0; !st && i < STARTS; i++) {
        if (near) search_near(&t, r, d->genes + front[base_rng_below(r, (uint32_t)nfront)] * t.genes);
        else search(&t, r, best);
    }
    free(t.choices);
    free(t.x);
    free(t.table);
    free(best);
    if (!st) inner_select(s);
    return st;
}
