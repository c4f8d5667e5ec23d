/* What NVIDIA's management library says of a GPU: energy, clock, temperature, power, who else computes there. The library is looked for when a card is opened
 * ($TAUT_NVML: another file than libnvidia-ml.so.1); nothing of it is needed to build. Functions and units: NVML API reference, "Device Queries".
 *
 *   struct nvml *n;
 *   if (!nvml_open(&n, dev->info.bus, &err)) nvml_read(n, &r);
 *   nvml_close(n); */
#ifndef TAUT_EVALUATOR_NVML_H
#define TAUT_EVALUATOR_NVML_H

#include "base/err.h"

struct nvml;
struct nvml_state {
    double joules;             /* since the driver was loaded; NaN: the card counts none (a part of a card, an older one) */
    double watts;              /* now, over the last second or less */
    int clock_mhz, default_mhz; /* of the multiprocessors; default 0: not told, and then the highest */
    int celsius;
    int others;                /* processes besides this one that compute there; -1: not told (as in a container) */
};

/* bus: the card's PCI address, "00000000:65:00.0". ST_ENOTSUP: no library, or it does not know the card; err says which. */
st_t nvml_open(struct nvml **out, const char *bus, struct base_err *err);
void nvml_close(struct nvml *n); /* NULL allowed */
const char *nvml_driver(const struct nvml *n); /* version, "580.65.06" */
/* ST_EIO: the card no longer answers. */
st_t nvml_read(struct nvml *n, struct nvml_state *out);

#endif
