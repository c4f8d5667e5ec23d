/* The safetensors format, read: header checked to the last byte before any number is looked at.
 *
 *   struct safe f;
 *   st = safe_open(&f, path, &err);                  // ST_ENOTFOUND, ST_EIO, ST_ECORRUPT (err says what)
 *   const struct safe_tensor *t = safe_find(&f, "model.norm.weight");
 *   st = safe_read(&f, t->begin, buf, n);
 *   safe_close(&f);
 *
 * 8 bytes little-endian n; n bytes of JSON, an object: name -> {"dtype", "shape", "data_offsets": [begin, end]} and
 * perhaps "__metadata__": name -> string; spaces may follow; then the data. Refused besides malformed JSON: n over
 * SAFE_HEADER_MAX or past the file's end, a name twice, unknown or missing keys, unknown dtypes, offsets that do not
 * fit the shape, overlap, leave gaps, or end before or after the file's end. */
#ifndef TAUT_MODEL_SAFETENSORS_H
#define TAUT_MODEL_SAFETENSORS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/err.h"

#define SAFE_HEADER_MAX 100000000 /* as the format has it */
#define SAFE_RANK       8

enum safe_dtype { SAFE_F32, SAFE_F64, SAFE_F16, SAFE_BF16, SAFE_OTHER };

struct safe_tensor {
    const char *name;
    enum safe_dtype dtype;
    int size; /* bytes of a number */
    int rank;
    int64_t shape[SAFE_RANK];
    uint64_t begin, end; /* bytes from the data's start */
};

struct safe_meta {
    const char *key, *value;
};

struct safe {
    int fd;
    uint64_t data, bytes; /* where the data starts in the file, and how long it is */
    int n, nmeta;
    struct safe_tensor *tensor; /* sorted by name */
    struct safe_meta *meta;     /* sorted by key */
    struct base_arena arena;    /* owns all of it */
};

st_t safe_open(struct safe *f, const char *path, struct base_err *err);
void safe_close(struct safe *f);
const struct safe_tensor *safe_find(const struct safe *f, const char *name); /* NULL: none */
const char *safe_meta(const struct safe *f, const char *key);                /* borrowed; NULL: none */
/* n bytes of data from byte `at`. ST_EIO, also where the file has become shorter. */
st_t safe_read(const struct safe *f, uint64_t at, void *buf, size_t n);

#endif
