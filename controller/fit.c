#include "controller/fit.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/pareto.h"
#include "base/stats.h"
#include "controller/gp.h"
#include "controller/lift.h"
#include "controller/linalg.h"
#include "controller/ridge.h"

enum { OUTPUTS_MAX = JOB_OBJECTIVES_MAX + JOB_CONSTRAINTS_MAX };
_Static_assert((int)OUTPUTS_MAX <= (int)RIDGE_OUTPUTS_MAX, "a ridge for all outputs");

/* Scales of the ridge's columns, the roots of their weights' prior variances: what has an order explains first. */
#define CONSTANT 10.0
#define LINE 3.0
#define SQUARE 2.0
#define HOT 0.35
#define SUM_WORTH 0.15 /* what may be lost in rank correlation where sums can be searched as sums (inner.h) */

/* ---- models ---- */

struct output {
    bool constraint;
    int index;     /* of the objective or constraint */
    struct gp *gp; /* NULL: too many columns */
    double gp_rho, ridge_rho; /* with leave-one-out predictions; NAN: the values do not vary */
    struct ridge *narrow; /* of what has an order */
    bool wide;     /* the fit's ridge is the better one */
    bool linear;   /* it predicts */
    double *w;     /* [features] of the ridge, for the proposal under way */
};

struct fit {
    const struct job *job;
    long count, taken; /* results that it was made of; that its processes have */
    int columns, ngp, narrow, features, noutputs; /* features: of the ridges, the first `narrow` of them of the first */
    const struct space_column *column;
    int *gp_column;    /* [ngp] those that the processes see */
    struct ridge *all;      /* a ridge of all features for all outputs; NULL: none lacks an order */
    struct output output[OUTPUTS_MAX];
    struct lift *lift;      /* to a higher rung; NULL: none */
    double *value;          /* [taken, objectives] lifted, room for value_room rows */
    long value_room;
    double *x, *phi;   /* scratch: [columns], [features] */
};

void fit_free(struct fit *f)
{
    if (!f) return;
    for (int i = 0; i < f->noutputs; i++) {
        gp_free(f->output[i].gp);
        ridge_free(f->output[i].narrow);
        free(f->output[i].w);
    }
    ridge_free(f->all);
    lift_free(f->lift);
    free(f->value);
    free(f->gp_column);
    free(f->x);
    free(f->phi);
    free(f);
}

static void list_outputs(struct fit *f)
{
    const struct job *job = f->job;
    for (int i = 0; i < job->nobjectives; i++)
        if (!fit_on_paper(job, &job->objective[i].metric)) f->output[f->noutputs++] = (struct output){.index = i, .gp_rho = NAN, .ridge_rho = NAN};
    for (int i = 0; i < job->nconstraints; i++)
        if (!fit_on_paper(job, &job->constraint[i].metric)) f->output[f->noutputs++] = (struct output){.constraint = true, .index = i, .gp_rho = NAN, .ridge_rho = NAN};
}

static double value_of(const struct fit_data *d, const struct output *o, long row)
{
    return o->constraint ? d->bound[row * d->job->nconstraints + o->index] : d->y[row * d->job->nobjectives + o->index];
}

/* Which of the first n rows a process is fitted to, in rising order: the best by rank (the younger first within one), the last, the others evenly. */
struct ranked {
    int rank;
    long row;
};

static int by_rank(const void *a, const void *b)
{
    const struct ranked *p = a, *q = b;
    if (p->rank != q->rank) return p->rank < q->rank ? -1 : 1;
    return p->row < q->row ? 1 : p->row > q->row ? -1 : 0;
}

static st_t choose(const struct fit_data *d, long n, long *row, int *count)
{
    st_t st = ST_OK;
    if (n <= FIT_POINTS) {
        for (long i = 0; i < n; i++) row[i] = i;
        *count = (int)n;
        return ST_OK;
    }
    int *rank = malloc((size_t)n * sizeof *rank), k = 0;
    struct ranked *order = malloc((size_t)n * sizeof *order);
    bool *in = calloc((size_t)n, sizeof *in);
    if (!rank || !order || !in) st = ST_ENOMEM;
    if (!st) st = base_pareto_rank(d->y, d->violation, n, d->job->nobjectives, rank);
    if (!st) {
        for (long i = 0; i < n; i++) order[i] = (struct ranked){rank[i], i};
        qsort(order, (size_t)n, sizeof *order, by_rank);
        for (long i = 0; k < FIT_POINTS * 5 / 8; i++, k++) in[order[i].row] = true;
        for (long i = n - 1; k < FIT_POINTS * 7 / 8; i--) {
            k += !in[i];
            in[i] = true;
        }
        for (long i = 0; k < FIT_POINTS; i++) { /* every (n / rest)th, going on to the next free one */
            long at = i * n / (FIT_POINTS - FIT_POINTS * 7 / 8) % n;
            while (in[at]) at = (at + 1) % n;
            in[at] = true;
            k++;
        }
        k = 0;
        for (long i = 0; i < n; i++)
            if (in[i]) row[k++] = i;
        *count = k;
    }
    free(rank);
    free(order);
    free(in);
    return st;
}

/* Features of the ridges: a constant, columns with an order, about 0, each with its square; then the others. */
static void features(const struct fit *f, const double *x, double *phi)
{
    int at = 0, hot = f->narrow;
    phi[at++] = CONSTANT;
    for (int c = 0; c < f->columns; c++) {
        double u = 2 * x[c] - 1;
        if (!f->column[c].ordinal) {
            phi[hot++] = HOT * x[c];
            continue;
        }
        phi[at++] = LINE * u;
        phi[at++] = SQUARE * (u * u - 1.0 / 3);
    }
}

static void gather(const struct fit *f, const double *x, double *out)
{
    for (int c = 0; c < f->ngp; c++) out[c] = x[f->gp_column[c]];
}

/* All columns where they are few; else those with an order, but for what is said of single layers; else none. */
static void choose_columns(struct fit *f)
{
    for (int narrow = 0; narrow < 2; narrow++) {
        f->ngp = 0;
        for (int c = 0; c < f->columns; c++)
            if (!narrow || (f->column[c].ordinal && !f->column[c].fine)) f->gp_column[f->ngp++] = c;
        if (f->ngp <= FIT_COLUMNS) return;
    }
    f->ngp = 0;
}

static st_t fit_gp(struct fit *f, struct output *o, const struct fit_data *d, const double *x, const long *row, int n)
{
    int k = 0, group[f->ngp + 1];
    double *y = malloc((size_t)n * 2 * sizeof *y), *own = malloc((size_t)n * (size_t)(f->ngp + 1) * sizeof *own);
    st_t st = y && own ? ST_OK : ST_ENOMEM;
    for (int c = 0; c < f->ngp; c++) group[c] = f->column[f->gp_column[c]].group;
    for (int i = 0; !st && i < n; i++) {
        double v = value_of(d, o, row[i]);
        if (!isfinite(v)) continue;
        y[k] = v;
        gather(f, x + (size_t)i * (size_t)f->columns, own + (size_t)k++ * (size_t)f->ngp);
    }
    if (!st && k) st = gp_new(&o->gp, own, y, k, f->ngp, group, space_groups(d->job->space), k + FIT_ROOM);
    if (!st && k) st = gp_leave_one_out(o->gp, y + n);
    if (!st) o->gp_rho = base_stats_spearman(y, y + n, k);
    free(y);
    free(own);
    return st;
}

/* A ridge of the first `size` features for outputs first .. first + n - 1, of the last rows, as many as a factor may be large. judged: rows of d, rising; those
 * before the first of these are not. Outputs that it predicts better than anything so far are its. */
static st_t fit_ridge(struct fit *f, struct ridge **out, int size, int first, int outputs, const struct fit_data *d, long count, const long *judged, int njudged)
{
    struct sparse rows = {0};
    long most = size > FIT_FACTOR ? FIT_FACTOR : FIT_ROWS, from = count > most ? count - most : 0, n = count - from;
    int own[FIT_POINTS], nown = 0;
    double *y = malloc((size_t)outputs * (size_t)(n + 1) * sizeof *y), truth[FIT_POINTS];
    st_t st = y ? ST_OK : ST_ENOMEM;
    for (long i = 0; !st && i < n; i++) {
        st = fit_data_encode(d, from + i, f->x);
        features(f, f->x, f->phi);
        if (!st) st = sparse_add(&rows, f->phi, size);
    }
    for (int o = 0; !st && o < outputs; o++) { /* what was not measured is as the others are in the mean */
        double *to = y + o * n, sum = 0;
        long known = 0;
        for (long i = 0; i < n; i++) {
            to[i] = value_of(d, &f->output[first + o], from + i);
            sum += isfinite(to[i]) ? to[i] : 0;
            known += isfinite(to[i]);
        }
        for (long i = 0; i < n; i++) to[i] = isfinite(to[i]) ? to[i] : known ? sum / known : 0;
    }
    for (int i = 0; i < njudged; i++)
        if (judged[i] >= from) own[nown++] = (int)(judged[i] - from);
    if (!st) st = ridge_new(out, &rows, y, outputs, own, nown);
    else sparse_fini(&rows);
    for (int o = 0; !st && o < outputs; o++) {
        for (int i = 0; i < nown; i++) truth[i] = y[o * n + own[i]];
        double rho = base_stats_spearman(truth, ridge_leave_one_out(*out, o), nown);
        struct output *to = &f->output[first + o];
        if (!isnan(to->ridge_rho) && !(rho > to->ridge_rho)) continue;
        to->ridge_rho = rho;
        to->wide = out == &f->all;
    }
    free(y);
    return st;
}

static bool all_choices(const struct fit *f)
{
    if (space_type(f->job->space) != SPACE_CUSTOM) return false;
    for (int i = 0; i < space_genes(f->job->space); i++)
        if (!space_gene_choices(f->job->space, i)) return false;
    return true;
}

static st_t fit_all(struct fit *f, const struct fit_data *d, long count)
{
    long row[FIT_POINTS];
    int n = 0;
    double *x = malloc((size_t)FIT_POINTS * (size_t)(f->columns + 1) * sizeof *x);
    st_t st = x ? choose(d, count, row, &n) : ST_ENOMEM;
    for (int i = 0; !st && i < n; i++) st = fit_data_encode(d, row[i], x + (size_t)i * (size_t)f->columns);
    for (int i = 0; !st && f->ngp && i < f->noutputs; i++) st = fit_gp(f, &f->output[i], d, x, row, n);
    for (int i = 0; !st && i < f->noutputs; i++) st = fit_ridge(f, &f->output[i].narrow, f->narrow, i, 1, d, count, row, n);
    if (!st && f->noutputs && f->features > f->narrow) st = fit_ridge(f, &f->all, f->features, 0, f->noutputs, d, count, row, n);
    bool sums = all_choices(f) && !f->lift;
    for (int i = 0; i < f->noutputs; i++) sums &= f->output[i].ridge_rho > f->output[i].gp_rho - SUM_WORTH;
    for (int i = 0; i < f->noutputs; i++) {
        struct output *o = &f->output[i];
        o->linear = sums || !o->gp || o->ridge_rho > o->gp_rho;
    }
    free(x);
    return st;
}

/* Values of the rows up to n. */
static st_t lift_to(struct fit *f, const struct fit_data *d, long from, long n)
{
    if (!f->lift || from >= n) return ST_OK;
    if (n > f->value_room) {
        long room = n > 2 * f->value_room ? n : 2 * f->value_room;
        double *more = realloc(f->value, (size_t)room * (size_t)f->job->nobjectives * sizeof *more);
        if (!more) return ST_ENOMEM;
        f->value = more;
        f->value_room = room;
    }
    return lift_rows(f->lift, d, from, n, f->value);
}

st_t fit_new(struct fit **out, const struct fit_data *d, long count)
{
    struct fit *f = calloc(1, sizeof *f);
    if (!f) return ST_ENOMEM;
    f->job = d->job;
    f->count = f->taken = count;
    f->columns = f->features = space_columns(d->job->space, &f->column);
    f->narrow = 1;
    for (int c = 0; c < f->columns; c++) {
        f->narrow += 2 * f->column[c].ordinal;
        f->features += f->column[c].ordinal;
    }
    f->features++;
    f->x = malloc((size_t)(f->columns + 1) * sizeof *f->x);
    f->phi = malloc((size_t)(f->features + 1) * sizeof *f->phi);
    f->gp_column = malloc((size_t)(f->columns + 1) * sizeof *f->gp_column);
    st_t st = f->x && f->phi && f->gp_column ? ST_OK : ST_ENOMEM;
    list_outputs(f);
    for (int i = 0; !st && i < f->noutputs; i++)
        if (!(f->output[i].w = calloc((size_t)(f->features + 1), sizeof *f->output[i].w))) st = ST_ENOMEM;
    if (!st) {
        choose_columns(f);
        if (f->job->rungs > 1) st = lift_new(&f->lift, d, count);
    }
    if (!st) st = fit_all(f, d, count);
    if (!st) st = lift_to(f, d, 0, count);
    if (st) fit_free(f);
    else *out = f;
    return st;
}

st_t fit_append(struct fit *f, const struct fit_data *d)
{
    double seen[f->ngp + 1];
    st_t lifted = lift_to(f, d, f->taken, d->n);
    if (lifted) return lifted;
    for (; f->taken < d->n; f->taken++) {
        st_t st = fit_data_encode(d, f->taken, f->x);
        gather(f, f->x, seen);
        for (int i = 0; !st && i < f->noutputs; i++) {
            double v = value_of(d, &f->output[i], f->taken);
            if (f->output[i].gp && isfinite(v)) st = gp_append(f->output[i].gp, seen, v);
        }
        if (st && st != ST_ETOOBIG) return st;
    }
    return ST_OK;
}

long fit_count(const struct fit *f)
{
    return f->count;
}

/* The ridge of an output, NULL: none; *index: which of its outputs that is. */
static const struct ridge *ridge_of(const struct fit *f, int output, int *index)
{
    *index = f->output[output].wide ? output : 0;
    return f->output[output].wide ? f->all : f->output[output].narrow;
}

void fit_begin(struct fit *f, struct base_rng *r, double daring)
{
    for (int i = 0; i < f->noutputs; i++) {
        struct output *o = &f->output[i];
        int index;
        const struct ridge *ridge = ridge_of(f, i, &index);
        if (!o->linear) continue;
        if (daring > 0 && !o->constraint) ridge_sample(ridge, index, r, daring, o->w);
        else ridge_weights(ridge, index, o->w);
    }
}

static double predict(struct fit *f, int output, const double *x)
{
    struct output *o = &f->output[output];
    int index;
    const struct ridge *ridge = ridge_of(f, output, &index);
    if (o->linear) return ridge_intercept(ridge, index) + linalg_dot(f->phi, o->w, o->wide ? f->features : f->narrow);
    double seen[f->ngp + 1];
    gather(f, x, seen);
    return gp_mean(o->gp, seen);
}

void fit_predict(struct fit *f, const double *x, const struct arch *arch, double *y, double *bound)
{
    const struct job *job = f->job;
    features(f, x, f->phi);
    for (int i = 0; i < f->noutputs; i++) {
        const struct output *o = &f->output[i];
        *(o->constraint ? &bound[o->index] : &y[o->index]) = predict(f, i, x);
    }
    for (int i = 0; arch && i < job->nobjectives; i++)
        if (fit_on_paper(job, &job->objective[i].metric)) {
            double v = space_metric_paper(&job->objective[i].metric, arch, job->decode);
            y[i] = job->objective[i].goal == METRIC_MAX ? -v : v;
        }
    if (f->lift) lift_apply(f->lift, x, y);
    for (int i = 0; arch && i < job->nconstraints; i++)
        if (fit_on_paper(job, &job->constraint[i].metric)) bound[i] = space_metric_paper(&job->constraint[i].metric, arch, job->decode);
}

double *fit_values(struct fit *f)
{
    return f->value;
}

bool fit_adds_up(const struct fit *f)
{
    if (f->lift) return false;
    for (int i = 0; i < f->noutputs; i++)
        if (!f->output[i].linear) return false;
    return all_choices(f);
}

st_t fit_table(struct fit *f, bool constraint, int index, int width, double *table, double *intercept)
{
    const struct space *s = f->job->space;
    int genes = space_genes(s), i = 0;
    while (f->output[i].constraint != constraint || f->output[i].index != index) i++;
    struct genome g;
    st_t st = space_genome_init(s, &g);
    if (st) return st;
    memset(table, 0, (size_t)genes * (size_t)width * sizeof *table);
    for (int v = 0; v < width; v++) {
        for (int k = 0; k < genes; k++) g.g[k] = v < space_gene_choices(s, k) ? v : 0;
        if ((st = space_encode(s, &g, f->x, NULL))) break;
        features(f, f->x, f->phi);
        for (int c = 0, at = 1, hot = f->narrow; c < f->columns; c++) {
            double *to = &table[f->column[c].gene * width + v];
            if (f->column[c].ordinal) {
                *to += f->phi[at] * f->output[i].w[at] + f->phi[at + 1] * f->output[i].w[at + 1];
                at += 2;
            } else if (f->output[i].wide) {
                *to += f->phi[hot] * f->output[i].w[hot];
                hot++;
            }
        }
    }
    int own;
    const struct ridge *ridge = ridge_of(f, i, &own);
    *intercept = ridge_intercept(ridge, own) + CONSTANT * f->output[i].w[0];
    space_genome_fini(&g);
    return st;
}

double fit_rho(const struct fit *f)
{
    double least = NAN;
    for (int i = 0; i < f->noutputs; i++) {
        const struct output *o = &f->output[i];
        least = fmin(least, fmax(o->gp_rho, o->ridge_rho)); /* both pass a NAN by */
    }
    return least;
}
