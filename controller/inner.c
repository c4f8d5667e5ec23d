#include "controller/inner_int.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define DARING 0.3 /* most that half of the proposals dare (fit_begin) */
enum { GENERATIONS = 16, STARTERS = 16, SAMPLES = 8 };
void inner_free(struct inner *s)
{
    if (!s) return;
    for (int i = 0; i < MEMBERS; i++) space_genome_fini(&s->member[i].genome);
    free(s->x);
    free(s);
}

st_t inner_new(struct inner **out, const struct job *job)
{
    struct inner *s = calloc(1, sizeof *s);
    if (!s) return ST_ENOMEM;
    s->job = job;
    s->m = job->nobjectives;
    s->x = malloc((size_t)(space_columns(job->space, NULL) + 1) * sizeof *s->x);
    st_t st = s->x ? ST_OK : ST_ENOMEM;
    for (int i = 0; !st && i < MEMBERS; i++) st = space_genome_init(job->space, &s->member[i].genome);
    if (st) inner_free(s);
    else *out = s;
    return st;
}

/* ---- what a candidate is worth ---- */

static double along(const struct inner *s, int direction, const double *y)
{
    double least = INFINITY;
    for (int i = 0; i < s->m; i++) least = fmin(least, (s->ref[i] - y[i]) / s->scale[i] / s->weight[direction][i]);
    return least;
}

static double worth(const struct inner *s, const double *y)
{
    double sum = 0, nearest = -INFINITY;
    for (int k = 0; k < INNER_DIRECTIONS; k++) {
        double a = along(s, k, y), gain = a - s->best[k];
        nearest = fmax(nearest, gain);
        if (gain > 0 && a > 0) sum += pow(a, s->m) - pow(fmax(s->best[k], 0), s->m);
    }
    return sum > 0 ? sum / INNER_DIRECTIONS : fmin(nearest, 0);
}

static void predict(struct inner *s, const struct genome *g, double *y, double *violation)
{
    struct arch arch;
    double bound[JOB_CONSTRAINTS_MAX];
    bool lm = space_type(s->job->space) == SPACE_LM;
    *violation = INFINITY;
    if (space_encode(s->job->space, g, s->x, lm ? &arch : NULL)) return;
    fit_predict(s->fit, s->x, lm ? &arch : NULL, y, bound);
    *violation = job_violation(s->job, bound);
}

#define BROKEN 1e6 /* what breaks a constraint is worth less than all that does not */

double inner_score(const struct inner *s, const double *y, double violation)
{
    if (violation > 0) return -BROKEN - violation;
    return s->feasible ? worth(s, y) : 0;
}

static double score(struct inner *s, const struct genome *g)
{
    double y[JOB_OBJECTIVES_MAX], violation;
    predict(s, g, y, &violation);
    return inner_score(s, y, violation);
}

static void take_in(struct inner *s, const double *y)
{
    for (int k = 0; k < INNER_DIRECTIONS; k++) s->best[k] = fmax(s->best[k], along(s, k, y));
}

static void aim(struct inner *s, const struct fit_data *d, const long *front, long nfront, const struct genome *pending, int npending, struct base_rng *r)
{
    long first = d->n < s->job->population ? d->n : s->job->population;
    bool far = base_rng_below(r, 2);
    s->feasible = nfront > 0;
    for (int i = 0; i < s->m; i++) {
        double best = INFINITY, worst = -INFINITY;
        for (long k = 0; k < nfront; k++) {
            double v = d->y[front[k] * s->m + i];
            best = fmin(best, v);
            worst = fmax(worst, v);
        }
        for (long k = 0; k < first && (far || !(worst > best)); k++) {
            best = fmin(best, d->y[k * s->m + i]);
            worst = fmax(worst, d->y[k * s->m + i]);
        }
        s->scale[i] = worst > best ? worst - best : 1;
        s->ref[i] = worst + 0.1 * s->scale[i];
    }
    for (int k = 0; k < INNER_DIRECTIONS; k++) {
        double norm = 0, *w = s->weight[k];
        for (int i = 0; i < s->m; i++) {
            w[i] = fabs(base_rng_normal(r)) + 1e-6;
            norm += w[i] * w[i];
        }
        for (int i = 0; i < s->m; i++) w[i] /= sqrt(norm);
        s->best[k] = -INFINITY;
    }
    for (long k = 0; k < nfront; k++) take_in(s, d->y + front[k] * s->m);
    for (int k = 0; k < npending; k++) {
        double y[JOB_OBJECTIVES_MAX], violation;
        predict(s, &pending[k], y, &violation);
        if (violation <= 0) take_in(s, y);
    }
}

/* ---- evolution ---- */

static int by_score(const void *a, const void *b)
{
    const struct inner_found *p = a, *q = b;
    return p->score > q->score ? -1 : p->score < q->score;
}

static bool same(const struct genome *a, const struct genome *b)
{
    return !memcmp(a->g, b->g, (size_t)a->n * sizeof *a->g);
}

/* Sorts, drops doubles and all but the best INNER_POOL. */
void inner_select(struct inner *s)
{
    int n = 0;
    /* a stable order: equals by their place before */
    for (int i = 1; i < s->n; i++)
        for (int k = i; k > 0 && by_score(&s->member[k], &s->member[k - 1]) < 0; k--) {
            struct inner_found t = s->member[k];
            s->member[k] = s->member[k - 1];
            s->member[k - 1] = t;
        }
    for (int i = 0; i < s->n && n < INNER_POOL; i++) {
        bool twice = false;
        for (int k = n - 1; k >= 0 && !twice && s->member[k].score == s->member[i].score; k--) twice = same(&s->member[k].genome, &s->member[i].genome);
        if (twice) continue;
        struct inner_found t = s->member[n];
        s->member[n] = s->member[i];
        s->member[i] = t;
        n++;
    }
    s->n = n;
}

static void start_from(struct inner *s, const double *genes)
{
    struct inner_found *to = &s->member[s->n++];
    memcpy(to->genome.g, genes, (size_t)to->genome.n * sizeof *genes);
    to->score = score(s, &to->genome);
}

static st_t breed(struct inner *s, struct base_rng *r, double size, struct genome *out)
{
    const struct space *space = s->job->space;
    uint32_t n = (uint32_t)s->n;
    uint32_t a = base_rng_below(r, n), a2 = base_rng_below(r, n); /* the better of two: they are sorted */
    const struct genome *p = &s->member[a < a2 ? a : a2].genome, *q = &s->member[base_rng_below(r, n)].genome, *o = &s->member[base_rng_below(r, n)].genome;
    double u = base_rng_unit(r);
    st_t st = ST_OK;
    if (u < 0.35) return space_blend(space, r, p, q, o, out);
    if (u < 0.65) space_genome_copy(out, p);
    else st = space_crossover(space, r, p, q, out);
    if (st) return st;
    return u < 0.85 ? space_nudge(space, r, size, out) : space_mutate(space, r, 0, out);
}

st_t inner_search(struct inner *s, struct fit *f, const struct fit_data *d, const long *front, long nfront, const struct genome *pending, int npending,
                  struct base_rng *r, const struct inner_found **found, int *n)
{
    int genes = space_genes(s->job->space);
    st_t st = ST_OK;
    s->fit = f;
    s->n = 0;
    fit_begin(f, r, base_rng_below(r, 2) ? DARING * base_rng_unit(r) : 0);
    aim(s, d, front, nfront, pending, npending, r);
    if (fit_adds_up(f)) {
        st = inner_sum(s, d, front, nfront, r);
        *found = s->member;
        *n = s->n;
        return st;
    }
    for (int i = 0; i < STARTERS; i++) {
        long row = nfront ? front[base_rng_below(r, (uint32_t)nfront)] : (long)base_rng_below(r, (uint32_t)d->n);
        start_from(s, d->genes + row * genes);
    }
    for (int i = 0; i < SAMPLES && !st; i++) {
        struct inner_found *to = &s->member[s->n];
        st = space_sample(s->job->space, r, &to->genome);
        if (!st) {
            to->score = score(s, &to->genome);
            s->n++;
        }
    }
    if (st) return st;
    inner_select(s);
    double size = 0.2;
    for (int g = 0; g < GENERATIONS; g++, size *= 0.75) {
        int parents = s->n, n_now = s->n;
        for (int i = 0; i < CHILDREN; i++) {
            struct inner_found *to = &s->member[n_now];
            s->n = parents;
            if (breed(s, r, size, &to->genome)) continue;
            to->score = score(s, &to->genome);
            n_now++;
        }
        s->n = n_now;
        inner_select(s);
    }
    *found = s->member;
    *n = s->n;
    return ST_OK;
}
