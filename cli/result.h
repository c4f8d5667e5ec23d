/* What a job has come to: shared by run, watch and status. */
#ifndef TAUT_CLI_RESULT_H
#define TAUT_CLI_RESULT_H

#include "cli/connect.h"

struct result_hints {
    const char *where; /* " --dir DIR", " --socket PATH" or "": what further commands need */
    const char *report; /* path of the report, or NULL */
};

/* Prints the end of a job: front, and where to look further. info: job.get. CLI_OK; CLI_FAILED when no trial succeeded, with its most common error. */
int result_print(struct conn *k, json_t *info, const struct result_hints *hints);
/* The error that most failed trials of the job have; owned by the caller; NULL: none. *failed: how many trials failed, *same: how many with this one. */
char *result_common_error(struct conn *k, int64_t job, long *failed, long *same);

#endif
