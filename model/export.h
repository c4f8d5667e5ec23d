/* Weights for others: a weights file made from a trial's file of weights or checkpoint. */
#ifndef TAUT_MODEL_EXPORT_H
#define TAUT_MODEL_EXPORT_H

#include "base/hash.h"
#include "model/checkpoint.h"

/* What the file shall hold, where that is not what it held. A row is the last dimension of a tensor (of a vector: one number); a tensor
 * is made of runs of rows, one after the other. */
struct export_piece {
    char from[96];       /* name of a tensor; "": zeros */
    int64_t row, rows;   /* rows < 0: all from `row` on */
};
struct export_tensor {
    char name[96];
    int rank;
    int64_t shape[4];
    double add;          /* to every number; 0 leaves the bits as they are */
    int piece, npieces;  /* index of its first */
};
struct export_plan {
    int n, npieces, room, piece_room;
    struct export_tensor *tensor; /* owned, like piece */
    struct export_piece *piece;
    st_t st;             /* latched */
};
#define EXPORT_PLAN_INIT {0}
#define EXPORT_EMPTY (-1) /* a dimension of 0 */
/* A tensor without rows yet; then its rows in order. shape: up to 4 numbers, 0 ends it. */
void export_plan_tensor(struct export_plan *p, const char *name, const int64_t shape[4], double add);
void export_plan_rows(struct export_plan *p, const char *from, int64_t row, int64_t rows);
void export_plan_fini(struct export_plan *p);

struct export_sum { /* what was written */
    int tensors;
    int64_t numbers;
    uint64_t bytes;
    char sha256[BASE_SHA256_HEX];
};

/* Writes the parameters of the safetensors file `from` to fd, an empty file of the caller's, as safetensors: names, dtypes and bits as they are, or
 * what the plan (NULL: none) makes of them; the optimiser's states left out, meta (besides "format": "pt") in place of the training's own. Synced;
 * not closed.
 * sha256: what all of `from` must hash to: ST_ESTALE where it does not. ST_ENOTFOUND, ST_ECORRUPT, ST_EIO; ST_ENOSPC and ST_EIO also for fd;
 * ST_EINVAL where the plan does not take every parameter, and each once. */
st_t model_export_weights(const char *from, const char *sha256, int fd, const struct export_plan *plan, const struct ckpt_meta *meta, int nmeta,
                          struct export_sum *out, struct base_err *err);

#endif
