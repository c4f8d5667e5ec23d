/* Standard problems: custom spaces whose metrics are a formula, so that a strategy can be measured in seconds ("evaluator": {"problem": "zdt1"}).
 *
 *   const struct problem *p = problem_find("zdt1");
 *   double x[PROBLEM_GENES_MAX], y[PROBLEM_METRICS_MAX];
 *   st = problem_read(p, arch, x, &err);                          // a candidate's flat object
 *   problem_values(p, x, y);                                      // every metric, minimised
 *
 * Sources, and the sizes that their authors use:
 *   zdt1-4, zdt6      two objectives, 30 (zdt4, zdt6: 10) numbers: Zitzler, Deb & Thiele 2000, doi:10.1162/106365600568202
 *   dtlz1, 2, 7       three objectives, 7, 12 and 22 numbers: Deb, Thiele, Laumanns & Zitzler 2005, doi:10.1007/1-84628-137-7_6
 *   layerwise         80 layers, one of 16 blocks each: loss = sum of a[layer][block], memory likewise, memory <= a bound. What choosing blocks of a
 *                     trained network comes to when their effects add up (a multiple-choice knapsack); its optimum is known.
 *   layerwise_pairs   the same, and 160 pairs of layers whose blocks please each other or do not; the best value known is kept.
 * The layerwise tables are drawn from a fixed counter-based stream: the same everywhere. */
#ifndef TAUT_SEARCHSPACE_PROBLEM_H
#define TAUT_SEARCHSPACE_PROBLEM_H

#include <jansson.h>
#include <stdbool.h>

#include "base/err.h"

#define PROBLEM_GENES_MAX 80
#define PROBLEM_METRICS_MAX 3

struct problem_knob {
    const char *name; /* NULL ends the list */
    double low, high; /* a real number's range; the number of choices - 1 above 0 … */
    bool choice;      /* … of a choice among 0, 1, … */
    int repeat;       /* 0: a plain value */
};

struct problem {
    const char *name, *about;
    struct problem_knob knob[3];               /* in the order of their names: x[] is their values in a row */
    int genes, metrics, objectives;            /* the first metrics are the objectives */
    const char *metric[PROBLEM_METRICS_MAX];
    double bound;                              /* of the last metric, where metrics > objectives */
    double ref[PROBLEM_METRICS_MAX];           /* hypervolume's reference point for comparisons: about the worst of 48 random candidates */
    const char *best;                          /* the best candidate known, a hexadecimal digit a layer; NULL: the front is known in closed form */
    void (*values)(const double *x, double *y);
};

const struct problem *problem_find(const char *name); /* NULL: none */
const char *const *problem_names(void);               /* NULL-terminated */

/* Its space, objectives and constraints as a job has them. New references; NULL: out of memory. */
json_t *problem_space(const struct problem *p);
json_t *problem_objectives(const struct problem *p);
json_t *problem_constraints(const struct problem *p); /* an empty array where it has none */
/* ST_EINVAL: it has no such metric; err lists those that it has. */
st_t problem_metric_check(const struct problem *p, const char *name, const char *where, struct base_err *err);

/* The numbers of a candidate. ST_EINVAL (where: the knob): one is missing, or outside its range. */
st_t problem_read(const struct problem *p, json_t *candidate, double x[PROBLEM_GENES_MAX], struct base_err *err);
/* y[p->metrics]. x within its ranges. */
void problem_values(const struct problem *p, const double *x, double *y);
/* {"f1": …}: what an evaluator reports. New reference. */
json_t *problem_metrics(const struct problem *p, const double *y);

#endif
