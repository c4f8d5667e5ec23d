/* What can be learnt from a search's first results: a model of every objective and constraint that paper does not tell.
 *
 *   struct fit *f;
 *   st = fit_new(&f, &data, count);        // from the first `count` results; a pure function of them
 *   st = fit_append(f, &data);             // takes what came since into the models, under the same hyperparameters
 *   st = fit_predict(f, x, y, bound);      // x: columns of space_encode
 *   fit_free(f);
 *
 * Each output has the member of the ensemble that predicts best what it was not shown (rank correlation with leave-one-out predictions). */
#ifndef TAUT_CONTROLLER_FIT_H
#define TAUT_CONTROLLER_FIT_H

#include "controller/fit_data.h"

enum {
    FIT_POINTS = 192, /* of a Gaussian process when it is fitted: the best, the last, and some of all others */
    FIT_ROOM = 128,   /* appended to it later at most */
    FIT_COLUMNS = 160, /* that it may see */
    FIT_ROWS = 8192,  /* of a ridge: the last; … */
    FIT_FACTOR = 2048, /* … as many as this where it has more columns */
};

struct fit;
st_t fit_new(struct fit **out, const struct fit_data *d, long count);
void fit_free(struct fit *f); /* NULL allowed */
st_t fit_append(struct fit *f, const struct fit_data *d); /* d: the data that it was made of, and more */
long fit_count(const struct fit *f);                      /* what it was made of */
/* Before the predictions of a proposal: objectives of a ridge are its mean (daring 0) or go so far towards a draw from its posterior; constraints are its mean. */
void fit_begin(struct fit *f, struct base_rng *r, double daring);
/* With results on higher rungs (lift.h), what the rows taken so far have or would have there, [rows, objectives], and what fit_predict says is of there too; NULL: all is of the lowest. */
double *fit_values(struct fit *f);
/* Means: y [objectives] and bound [constraints], but for what paper tells: arch (lm) gives those, NULL leaves them alone. */
void fit_predict(struct fit *f, const double *x, const struct arch *arch, double *y, double *bound);
/* Is every output a sum over genes, all of them choices? Then the sum's terms, [genes, width] (those beyond a gene's choices: any), and what is added to it. */
bool fit_adds_up(const struct fit *f);
st_t fit_table(struct fit *f, bool constraint, int index, int width, double *table, double *intercept);
/* Least rank correlation over the outputs, each with its best member; NAN: nothing varies. */
double fit_rho(const struct fit *f);

#endif
