/* How long an architecture takes on a device, from how long others took there: a model of prefill_ms@L, decode_ms@L or throughput@BxL with a prediction interval.
 *
 *   double x[latency_columns()];
 *   latency_features(&arch, &metric, weights, x);
 *   struct latency *l;
 *   st = latency_new(&l, xs, ms, n);                 // of n measured ones; a pure function of them, in their order
 *   latency_at(l, x, &e);                            // e.value, e.low, e.high: ms
 *   latency_free(l);
 *
 * Formula: time = sum over columns of w x, w >= 0: every column is work that is done one piece after another, or a piece's fixed cost.
 *   columns  a constant; bytes of state at the context; numbers of the stream (width for each part); matrices; numbers of the head; of a single token, bytes of what is too small to be shared out among threads (parts in a row that read fewer than
 *            LATENCY_SMALL each on average; what is factored, or carries a recurrent state, ends a row); and of each layer type (once more of those parts whose matrices are
 *            factored): parts, bytes of matrices as they are kept (experts: those that one token uses), rows of their products, FLOPs that are not products of matrices (attention's pairs, scans). Of a
 *            prefill products in place of bytes, and rows, stream, products and FLOPs of all its tokens; of a batch state, rows, stream and FLOPs of all its sequences.
 *            All are paper costs of searchspace/layer.h: a new layer type brings its columns along.
 *   weights  least squares of relative errors, sum ((w x - y) / y)^2, with a ridge of LATENCY_RIDGE on the columns' shares of the mean time, under w >= 0 (Lawson & Hanson 1974, chapter 23; solved by
 *            coordinate descent), and Huber's weights (1981) at LATENCY_HUBER times the median absolute error, for on a machine that others use some measurements are off.
 *   rest     what that leaves (caches, threads that wait for each other) is no sum: log (y / w x) is the mean of a Gaussian process (Rasmussen & Williams 2006, eq. 2.25; Matern 5/2, unit variance) over the
 *            network's shape: logarithms of its width, parts, work, and work, state and other FLOPs a part, and shares of layer types, each scaled to variance 1. Lengthscale and noise
 *            are those of LATENCY_GRID whose leave-one-out predictions (eq. 5.12) have the least mean absolute error; where that is not below the error without a process there is none. The folds below take them over.
 *   interval CV+ (Barber, Candes, Ramdas & Tibshirani 2021, arXiv:1905.02928, section 3) of LATENCY_FOLDS folds on the logarithm: with mu_i the model without i's fold and R_i = |log y_i - mu_i(x_i)|, from the
 *            floor(a (n + 1))-th smallest mu_i(x) - R_i to the ceil((1 - a) (n + 1))-th smallest mu_i(x) + R_i, a = LATENCY_ALPHA. Of networks like those that were measured about 1 - 2 a lie in it or
 *            more, mostly 1 - a: theorem 4 has a term in the folds that is not small with so few measurements, and lengthscale, noise and the scales of the shape come from all of them, the fold's own too.
 *            What a search proposes later is not quite like what it proposed first: whoever relies on the interval checks it (estimate.h). */
#ifndef TAUT_CONTROLLER_LATENCY_H
#define TAUT_CONTROLLER_LATENCY_H

#include "searchspace/arch.h"
#include "searchspace/metric.h"

enum { LATENCY_LEAST = 24, LATENCY_MOST = 128, LATENCY_FOLDS = 8 };
#define LATENCY_ALPHA 0.05
#define LATENCY_SMALL 2e5
#define LATENCY_RIDGE 1e-4
#define LATENCY_HUBER 2.0
#define LATENCY_GRID {0.5, 1, 2, 4}, {0.03, 0.1, 0.3, 1, 3} /* lengthscales, noises */

/* Is it a time, or a rate, that is made of such work? */
bool latency_models(const struct metric *m);
int latency_columns(void);
/* x [latency_columns()]. */
void latency_features(const struct arch *a, const struct metric *m, enum arch_weights w, double *x);
int latency_shapes(void);
void latency_shape(const double *x, double *z); /* z [latency_shapes()] from the columns */

struct latency;
struct latency_value {
    double value, low, high; /* 95 % interval */
};
/* x [n, latency_columns()], y [n] > 0, LATENCY_LEAST <= n <= LATENCY_MOST. Nothing is borrowed. ST_EINVAL: another n, or a y that is not above 0; ST_ENONFINITE; ST_ENOMEM. */
st_t latency_new(struct latency **out, const double *x, const double *y, int n);
void latency_free(struct latency *l); /* NULL allowed */
void latency_at(struct latency *l, const double *x, struct latency_value *out);
/* Mean absolute relative error over the points, each predicted by the model without its fold. */
double latency_error(const struct latency *l);
/* w of the model of all points [latency_columns()], without the rest; borrowed. */
const double *latency_weights(const struct latency *l);

#endif
