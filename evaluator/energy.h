/* Energy from RAPL (powercap sysfs): joules between two readings, package domains summed, counter wrap-around handled by max_energy_range_uj.
 * Packages are the domains intel-rapl:N named "package-…"; their parts (intel-rapl:N:M) and "psys" (the whole board) would count the same twice.
 * root: NULL: $TAUT_POWERCAP, else /sys/class/powercap; tests hand a made-up tree. Unreadable (no such folder, no permission): ST_ENOTSUP and err says which file and why. */
#ifndef TAUT_EVALUATOR_ENERGY_H
#define TAUT_EVALUATOR_ENERGY_H

#include "base/err.h"

struct energy;
st_t energy_open(struct energy **out, const char *root, struct base_err *err);
void energy_close(struct energy *e);
/* Since energy_open, monotone. Read at least once in half a wrap (minutes). ST_EIO: a counter cannot be read, or was set back, so that what went by
 * since the last reading is not known; later readings go on from there. */
st_t energy_read(struct energy *e, double *joules);

#endif
