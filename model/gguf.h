/* A network as a GGUF file (version 3; ggml, docs/gguf.md), architecture `llama`: what llama.cpp loads. The file has no vocabulary: tokens are numbers.
 *
 * Held are the members of family llama without biases. Matrices, embedding and head are written as f32, bf16 (rounded to nearest even) or, for int8,
 * Q8_0: blocks of 32 numbers of a row with an f16 scale each, max |x| / 127. Norms are f32. Rows of q and k are reordered: that architecture turns pairs of
 * neighbours, (2i, 2i + 1), where ours are (i, i + head_dim / 2). */
#ifndef TAUT_MODEL_GGUF_H
#define TAUT_MODEL_GGUF_H

#include "model/model.h"

/* Is an arch held? ST_ENOTSUP says where it is not. */
st_t model_gguf_check(const struct arch *a, struct base_err *err);
/* m: with f32 weights. ST_ENOTSUP: not held, err says where; nothing is written then. ST_EIO, ST_ENOSPC, ST_ENOMEM: path is removed. */
st_t model_write_gguf(struct model *m, enum arch_weights as, const char *path, struct base_err *err);

#endif
