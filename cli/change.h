/* What pause, resume and cancel share. */
#ifndef TAUT_CLI_CHANGE_H
#define TAUT_CLI_CHANGE_H

#include <jansson.h>

#include "cli/cli.h"

/* Calls method with {id: JOB, …extra} (extra stolen, may be NULL) and prints the new state. */
int cli_change(struct cli *c, const char *method, json_t *extra);

#endif
