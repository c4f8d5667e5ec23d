/* What "auto" needs of the surrogate beside its vtable: its state absorbs the same results. */
#ifndef TAUT_CONTROLLER_SURROGATE_H
#define TAUT_CONTROLLER_SURROGATE_H

#include "controller/strategy.h"

/* The held-out rank correlation of the fit that proposal n would be made with; NAN: there is none yet, or nothing varies. */
st_t surrogate_rho(void *state, uint64_t n, double *rho);
/* A proposal of the nsga2 inside. */
st_t surrogate_evolve(void *state, struct base_rng *r, const struct strategy_pending *pending, struct genome *out, struct strategy_origin *origin);

#endif
