/* ARCH on the command line: a file; a trial's number, or at least six digits of an architecture's id, of a store (--dir, --socket, the default). */
#ifndef TAUT_CLI_ARCHARG_H
#define TAUT_CLI_ARCHARG_H

#include <jansson.h>

#include "cli/cli.h"
#include "searchspace/arch.h"

/* Can it be a number or an id, and is there no file of that name? Everything else is meant as a file, there or not. */
bool archarg_in_store(const char *text);
/* A file of that name goes first. *trial (may be NULL): what trial.get says of one from a store, new reference; NULL for a file.
 * Exit status; errors are printed, one for a trial of a custom space among them. */
int archarg_read(const struct cli *c, const char *text, struct arch *a, json_t **trial);

/* --context: each must be one that a job's metrics take (state_bytes@L, prefill_ms@L); else CLI_CALL, said in the job's words. */
int archarg_contexts(const struct cli *c, const int64_t *context, int n);

#endif
