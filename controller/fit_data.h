/* What is learnt from: results of a search that count (not failed), in the order of their reports. Those of the lowest rung are rows; higher ones belong to them. */
#ifndef TAUT_CONTROLLER_FIT_DATA_H
#define TAUT_CONTROLLER_FIT_DATA_H

#include "searchspace/job.h"

struct fit_high { /* a result on a higher rung of a trial that has one on the lowest */
    long row, before;               /* the trial's; reported when there were so many rows */
    int rung;
    double y[JOB_OBJECTIVES_MAX];   /* minimised */
};

struct fit_data {
    const struct job *job; /* borrowed */
    long n, room;
    int64_t *trial;        /* [n] */
    double *genes;         /* [n, genes] */
    double *y;             /* [n, objectives], minimised */
    double *bound;         /* [n, constraints] values of the constrained metrics; NAN: unknown */
    double *violation;     /* [n] */
    long nhigh, high_room;
    struct fit_high *high; /* [nhigh] in the order of their reports */
};
void fit_data_init(struct fit_data *d, const struct job *job);
void fit_data_fini(struct fit_data *d);
st_t fit_data_add(struct fit_data *d, int64_t trial, const struct genome *g, const double *y, const double *bound, double violation);
st_t fit_data_add_high(struct fit_data *d, int64_t trial, int rung, const double *y); /* a trial that has no row: nothing is added */
/* What the first n rows were made with: those, and the higher results that were reported before the last of them. */
st_t fit_data_copy(struct fit_data *to, const struct fit_data *from, long n);
/* x [space_columns] of a row's genome. */
st_t fit_data_encode(const struct fit_data *d, long row, double *x);
/* Is it worked out from the architecture? Then nothing is to be learnt. */
bool fit_on_paper(const struct job *job, const struct metric *m);

#endif
