/* The audit of a job, as job.get tells of it, in a few lines. */
#ifndef TAUT_CLI_AUDIT_H
#define TAUT_CLI_AUDIT_H

#include <jansson.h>

/* info: of job.get. To stdout; each line begins with what field() prints of its name. Nothing where the job has no shortcuts. */
void audit_print(json_t *info, void (*field)(const char *name));

#endif
