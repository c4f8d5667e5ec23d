/* Weights for others: a weights file made from a trial's file of weights or checkpoint. */
#ifndef TAUT_MODEL_EXPORT_H
#define TAUT_MODEL_EXPORT_H

#include "base/hash.h"
#include "model/checkpoint.h"

struct export_sum { /* what was written */
    int tensors;
    int64_t numbers;
    uint64_t bytes;
    char sha256[BASE_SHA256_HEX];
};

/* Copies the parameters of the safetensors file `from` to fd, an empty file of the caller's, as safetensors: names, dtypes and bits as they are, the
 * optimiser's states left out, meta (besides "format": "pt") in place of the training's own. Synced; not closed.
 * sha256: what all of `from` must hash to: ST_ESTALE where it does not. ST_ENOTFOUND, ST_ECORRUPT, ST_EIO; ST_ENOSPC and ST_EIO also for fd. */
st_t model_export_weights(const char *from, const char *sha256, int fd, const struct ckpt_meta *meta, int nmeta, struct export_sum *out,
                          struct base_err *err);

#endif
