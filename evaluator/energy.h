/* Energy of what computes: of a GPU its own counter (nvml.h), of all else RAPL.
 *
 * RAPL (powercap sysfs): joules between two readings, package domains summed, counter wrap-around handled by max_energy_range_uj.
 * Packages are the domains intel-rapl:N named "package-…"; their parts (intel-rapl:N:M) and "psys" (the whole board) would count the same twice.
 * root: NULL: $TAUT_POWERCAP, else /sys/class/powercap; tests hand a made-up tree. Unreadable (no such folder, no permission): ST_ENOTSUP and err says which file and why. */
#ifndef TAUT_EVALUATOR_ENERGY_H
#define TAUT_EVALUATOR_ENERGY_H

#include "kernels/device.h"

struct energy;
st_t energy_open(struct energy **out, const char *root, struct base_err *err);
/* What the device computes with. */
st_t energy_open_for(struct energy **out, const struct kn_dev *dev, struct base_err *err);
/* Seconds between two readings from which on a counter's steps no longer matter: 0.5, of a GPU 2. */
double energy_window(const struct energy *e);
void energy_close(struct energy *e);
/* Since energy_open, monotone. Read at least once in half a wrap (minutes). ST_EIO: a counter cannot be read, or was set back, so that what went by
 * since the last reading is not known; later readings go on from there. */
st_t energy_read(struct energy *e, double *joules);

#endif
