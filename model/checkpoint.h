/* Weights on disk. One format, safetensors (https://github.com/huggingface/safetensors): 8 bytes little-endian header
 * length, JSON header, data. A weights file holds the parameters under Llama's names; a checkpoint also holds the
 * optimiser's m and v ("optimizer.m.<name>", …) and, as strings under __metadata__, what the trainer needs to go on to
 * the same bits. Written to a temporary name, fsynced, renamed. */
#ifndef TAUT_MODEL_CHECKPOINT_H
#define TAUT_MODEL_CHECKPOINT_H

#include "base/hash.h"
#include "model/model.h"

struct ckpt_meta { /* __metadata__ */
    const char *key, *value;
};

/* sha256 and bytes may be NULL. ST_EIO, ST_ENOSPC (the temporary file is removed). optimizer: with m and v and the
 * step count ("optimizer.step"). The keys meta must not repeat that one; "format" is "pt" unless given. */
st_t model_save(struct model *m, const char *path, bool optimizer, const struct ckpt_meta *meta, int nmeta,
                char sha256[BASE_SHA256_HEX], uint64_t *bytes, struct base_err *err);
/* Every parameter of m must be there with its shape (a missing, extra or misshapen tensor is named: ST_EINVAL); dtypes
 * F32, F64, BF16 and F16 are converted. optimizer: m, v, step count too.
 * Hostile files (lengths, offsets, overlaps, JSON) are refused: ST_ECORRUPT. */
st_t model_load(struct model *m, const char *path, bool optimizer, struct base_err *err);
/* Value of a metadata key, owned by the caller; ST_ENOTFOUND. */
st_t model_load_meta(const char *path, const char *key, char **value, struct base_err *err);

#endif
