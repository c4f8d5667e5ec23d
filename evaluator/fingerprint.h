/* What a measurement was taken on: {"kind": "cpu", "name", "isa", "threads", "cpus", "memory_gib", "libraries", "version", "anchor"}; equal text = the same device. */
#ifndef TAUT_EVALUATOR_FINGERPRINT_H
#define TAUT_EVALUATOR_FINGERPRINT_H

#include <jansson.h>

#include "kernels/device.h"

json_t *fingerprint_json(const struct kn_dev *dev); /* new reference; NULL: out of memory */

#endif
