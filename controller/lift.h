/* What a result on the lowest rung is likely to be on a higher one.
 *
 *   struct lift *l;
 *   st = lift_new(&l, &data, count);       // NULL: there is nothing to be lifted by
 *   lift_apply(l, x, y);                   // y: of the lowest rung, measured or predicted; then of the higher one
 *   lift_free(l);
 *
 * Little training prefers small networks, inherited weights flatter what is bad: not noise, but something that grows with what an architecture is. So for every objective that training changes a ridge
 * (ridge.h) is fitted to the trials that have both results: of the higher one, on the lower one (scaled to variance 1, and first to explain) and the columns of space_encode that are not of single
 * layers, those with an order also squared. Its leave-one-out predictions must put the trials in a better order than the lower results alone do, what Spearman's rho lacks of 1 being less by
 * LIFT_DOUBT / sqrt(n) of itself at least, for over a dozen trials half of it is luck; or the objective stays as it is. Those promoted are no fair sample, and what diverged is not among them: where
 * more on the lower rung would mean less on the higher one, the ridge does without it; and a lower result beyond all of theirs counts as being as many standard deviations beyond on the higher rung.
 *
 *   which rung   the highest on which LIFT_LEAST trials or more have a result; the newest LIFT_MOST of them
 *   as of when   a result counts for the first `count` results of the lowest rung if it was reported before the last of these: so a lift is the same whenever it is made */
#ifndef TAUT_CONTROLLER_LIFT_H
#define TAUT_CONTROLLER_LIFT_H

#include "controller/fit_data.h"

enum { LIFT_LEAST = 12, LIFT_MOST = 256 };
#define LIFT_DOUBT 2

struct lift;
st_t lift_new(struct lift **out, const struct fit_data *d, long count); /* ST_ENOMEM */
void lift_free(struct lift *l); /* NULL allowed */
/* x: columns of space_encode; y [objectives], minimised, in place. */
void lift_apply(const struct lift *l, const double *x, double *y);
/* Rows from .. to - 1 of d, value [to, objectives]: what they had on the higher rung when the lift was made, else lifted. */
st_t lift_rows(const struct lift *l, const struct fit_data *d, long from, long to, double *value);

#endif
