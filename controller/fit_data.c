#include "controller/fit_data.h"

#include <stdlib.h>
#include <string.h>

void fit_data_init(struct fit_data *d, const struct job *job)
{
    *d = (struct fit_data){.job = job};
}

void fit_data_fini(struct fit_data *d)
{
    free(d->trial);
    free(d->genes);
    free(d->y);
    free(d->bound);
    free(d->violation);
    free(d->high);
    *d = (struct fit_data){0};
}

static st_t grow(void *array, long room, int width)
{
    void **p = array, *more = realloc(*p, (size_t)room * (size_t)(width ? width : 1) * sizeof(double));
    if (!more) return ST_ENOMEM;
    *p = more;
    return ST_OK;
}

static st_t reserve(struct fit_data *d, long room)
{
    const struct job *job = d->job;
    if (room <= d->room) return ST_OK;
    st_t st = grow(&d->trial, room, 1);
    if (!st) st = grow(&d->genes, room, space_genes(job->space));
    if (!st) st = grow(&d->y, room, job->nobjectives);
    if (!st) st = grow(&d->bound, room, job->nconstraints);
    if (!st) st = grow(&d->violation, room, 1);
    if (!st) d->room = room;
    return st;
}

st_t fit_data_add(struct fit_data *d, int64_t trial, const struct genome *g, const double *y, const double *bound, double violation)
{
    size_t n = (size_t)d->n, genes = (size_t)g->n, m = (size_t)d->job->nobjectives, c = (size_t)d->job->nconstraints;
    st_t st = d->n < d->room ? ST_OK : reserve(d, d->room ? 2 * d->room : 64);
    if (st) return st;
    d->trial[n] = trial;
    d->violation[n] = violation;
    memcpy(d->genes + n * genes, g->g, genes * sizeof *g->g);
    memcpy(d->y + n * m, y, m * sizeof *y);
    if (c) memcpy(d->bound + n * c, bound, c * sizeof *bound);
    d->n++;
    return ST_OK;
}

st_t fit_data_add_high(struct fit_data *d, int64_t trial, int rung, const double *y)
{
    long row = d->n - 1;
    while (row >= 0 && d->trial[row] != trial) row--;
    if (row < 0) return ST_OK; /* its first result did not count */
    if (d->nhigh == d->high_room) {
        long room = d->high_room ? 2 * d->high_room : 64;
        struct fit_high *more = realloc(d->high, (size_t)room * sizeof *more);
        if (!more) return ST_ENOMEM;
        d->high = more;
        d->high_room = room;
    }
    struct fit_high *h = &d->high[d->nhigh++];
    *h = (struct fit_high){.row = row, .before = d->n, .rung = rung};
    memcpy(h->y, y, (size_t)d->job->nobjectives * sizeof *y);
    return ST_OK;
}

st_t fit_data_copy(struct fit_data *to, const struct fit_data *from, long n)
{
    size_t rows = (size_t)n, genes = (size_t)space_genes(from->job->space), m = (size_t)from->job->nobjectives, c = (size_t)from->job->nconstraints;
    fit_data_init(to, from->job);
    st_t st = reserve(to, n ? n : 1);
    if (st) {
        fit_data_fini(to);
        return st;
    }
    if (from->nhigh) {
        to->high = malloc((size_t)from->nhigh * sizeof *to->high);
        if (!to->high) {
            fit_data_fini(to);
            return ST_ENOMEM;
        }
    }
    to->n = n;
    to->high_room = from->nhigh;
    for (long i = 0; i < from->nhigh; i++)
        if (from->high[i].before < n) to->high[to->nhigh++] = from->high[i];
    memcpy(to->trial, from->trial, rows * sizeof *to->trial);
    memcpy(to->genes, from->genes, rows * genes * sizeof(double));
    memcpy(to->y, from->y, rows * m * sizeof(double));
    memcpy(to->bound, from->bound, rows * c * sizeof(double));
    memcpy(to->violation, from->violation, rows * sizeof(double));
    return ST_OK;
}

st_t fit_data_encode(const struct fit_data *d, long row, double *x)
{
    int genes = space_genes(d->job->space);
    struct genome g = {.n = genes, .g = d->genes + row * genes};
    return space_encode(d->job->space, &g, x, NULL);
}

bool fit_on_paper(const struct job *job, const struct metric *m)
{
    return space_type(job->space) == SPACE_LM && m->source == METRIC_PAPER;
}
