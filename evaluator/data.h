/* Text as tokens: memory-mapped files, a held-out part, and batches that depend on (seed, step) alone.
 *
 *   struct data *d;
 *   st = data_open(&d, spec_json, &err);                      // the lease's "data", or data_open_path for a person's --data
 *   data_batch(d, seed, step, 16, 256, tokens, targets);      // [16,256] i32 each
 *
 * Byte text: a file is its bytes, files follow each other in path order, no separator. Shards (.bin): uint16 tokens; llm.c's (256 int32 header words, magic
 * 20240520, version 1, count) and bare ones (nanoGPT) are told apart by the magic. Held out: the last `valid_share` of each file (at least one window of context + 1), or files of their own.
 * A window never crosses a file's end. Windows start at uniformly drawn positions keyed base_rng_at(seed, RNG_BATCH, step); in sequential order, sequence b of step s
 * starts at token (s*B + b)*T of the training text (and wraps round). targets are the tokens one further.
 * Validation windows: DATA_VALID_TOKENS tokens at most, cut in windows of `context` evenly spaced over the held-out part: the same for every candidate. */
#ifndef TAUT_EVALUATOR_DATA_H
#define TAUT_EVALUATOR_DATA_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/hash.h"

#define DATA_VALID_TOKENS (64 * 1024)

struct data;

/* spec: job_files_json's object. verify: data_verify first. A token >= vocab in a shard: ST_EINVAL, found when it is read; ST_EIO when a mapped file was
 * cut short meanwhile. Both name the file. */
st_t data_open(struct data **out, json_t *spec, bool verify, struct base_err *err);
/* Files, globs or folders as a person names them. valid: what is held out; NULL: the share valid_share of train. vocab: of token shards; 0: text as bytes. */
st_t data_open_path(struct data **out, const char *train, const char *valid, double valid_share, int vocab, int context, struct base_err *err);
void data_close(struct data *d);
/* Compares size and SHA-256 of each file with what the spec says: ST_EVERSION names the one that differs. Hashed once per file and process, remembered
 * by path, size and mtime; so asking again after a training costs little, and says whether all of it read the same text. */
st_t data_verify(json_t *spec, struct base_err *err);

uint64_t data_train_tokens(const struct data *d);
uint64_t data_valid_tokens(const struct data *d); /* held out, all of it */
bool data_is_bytes(const struct data *d);
/* Names what is in it: 128 bits in hex over the files' hashes, the held-out share, vocabulary and context. Borrowed. */
const char *data_id(const struct data *d);

st_t data_batch(struct data *d, uint64_t seed, uint64_t step, int B, int T, int32_t *tokens, int32_t *targets, struct base_err *err);
st_t data_batch_sequential(struct data *d, uint64_t step, int B, int T, int32_t *tokens, int32_t *targets, struct base_err *err);
int data_valid_windows(const struct data *d, int T);
st_t data_valid_window(struct data *d, int i, int T, int32_t *tokens, int32_t *targets, struct base_err *err);

#endif
