/* Energy from RAPL (powercap sysfs): joules between two readings, package domains summed, counter wrap-around handled by max_energy_range_uj.
 * root: NULL: /sys/class/powercap; tests hand a made-up tree. Unreadable (no such folder, no permission): ST_ENOTSUP and err says which file and why. */
#ifndef TAUT_EVALUATOR_ENERGY_H
#define TAUT_EVALUATOR_ENERGY_H

#include "base/err.h"

struct energy;
st_t energy_open(struct energy **out, const char *root, struct base_err *err);
void energy_close(struct energy *e);
st_t energy_read(struct energy *e, double *joules); /* since energy_open, monotone; read at least once per wrap (minutes) */

#endif
