/* What `taut doctor` has to say: one line a finding. */
#ifndef TAUT_CLI_DOCTOR_H
#define TAUT_CLI_DOCTOR_H

#include <jansson.h>

#include "cli/cli.h"

enum doctor_state { DOCTOR_OK, DOCTOR_WARN, DOCTOR_BAD }; /* bad: something that Taut needs is missing */

struct doctor {
    const struct cli *c;
    json_t *checks; /* [{"name", "state", "what", "todo"} …] */
    int count[3];   /* of each state */
};

/* Prints the line, or keeps it for --json. todo: what to install or do; NULL: nothing. */
void doctor_say(struct doctor *d, enum doctor_state state, const char *name, const char *todo, const char *fmt, ...) __attribute__((format(printf, 5, 6)));

void doctor_machine(struct doctor *d); /* doctor_machine.c: what computes, how it is timed, energy */

#endif
