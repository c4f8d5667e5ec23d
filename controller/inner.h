/* The search that asks a fit instead of an evaluator: which candidate adds most to the front?
 *
 * What a candidate adds is estimated by random directions (hypervolume scalarisations: Golovin & Zhang 2020, arXiv:2006.04655): with
 * s(y) = min over i of (ref_i - y_i) / w_i, w on the positive part of the sphere, the volume that a set dominates is proportional to the mean over w of
 * max(0, max over the set of s)^m. So a candidate adds the mean of max(0, s^m - best^m), for any number of objectives m at O(m) a direction. The reference is
 * by turns the worst of the first results in each objective, as that of the job's hypervolume, so that the front grows at its ends, and the front's own worst, so
 * that it fills; a tenth of the range further out. A candidate that adds nothing is worth how near it comes (at most 0); one
 * that would break a constraint, less than all that would not, by how much. */
#ifndef TAUT_CONTROLLER_INNER_H
#define TAUT_CONTROLLER_INNER_H

#include "controller/fit.h"

enum { INNER_POOL = 24, INNER_DIRECTIONS = 48 };

/* Where every output is a sum over choices (fit_adds_up) the search is another one. With weights for the objectives and a price for every constraint, the best
 * choice of each gene stands alone; prices rise while a constraint is broken and fall while it is not (Lagrange multipliers of a multiple-choice knapsack).
 * What comes of it is improved by moves of one gene and of two. */
struct inner_found {
    double score;
    struct genome genome;
};

struct inner;
st_t inner_new(struct inner **out, const struct job *job);
void inner_free(struct inner *s); /* NULL allowed */
/* Candidates by falling score: found [INNER_POOL], borrowed until the next call; *n how many. front: rows of d that nothing feasible dominates (none: the
 * least violation is sought); pending: out with evaluators, taken to be as predicted. Draws from r. */
st_t inner_search(struct inner *s, struct fit *f, const struct fit_data *d, const long *front, long nfront, const struct genome *pending, int npending,
                  struct base_rng *r, const struct inner_found **found, int *n);

#endif
