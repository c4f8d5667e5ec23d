/* Inside the search that asks models. */
#ifndef TAUT_CONTROLLER_INNER_INT_H
#define TAUT_CONTROLLER_INNER_INT_H

#include "controller/inner.h"

enum { CHILDREN = 40 };
#define MEMBERS (INNER_POOL + CHILDREN)

struct inner {
    const struct job *job;
    int m;
    struct inner_found member[MEMBERS];
    int n;
    double *x;
    struct fit *fit; /* of the search under way, as all below */
    double ref[JOB_OBJECTIVES_MAX], scale[JOB_OBJECTIVES_MAX];
    double weight[INNER_DIRECTIONS][JOB_OBJECTIVES_MAX], best[INNER_DIRECTIONS];
    bool feasible;   /* there is a front to improve on */
};

/* Of predicted objectives and of the violation that goes with them. */
double inner_score(const struct inner *s, const double *y, double violation);
/* Sorts the members by falling score, drops doubles and all but the best INNER_POOL. */
void inner_select(struct inner *s);
/* Fills the members, where every output is a sum over choices. */
st_t inner_sum(struct inner *s, const struct fit_data *d, const long *front, long nfront, struct base_rng *r);

#endif
