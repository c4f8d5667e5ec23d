/* A job file as a person names it: read, checked, its paths made absolute against its own folder. */
#ifndef TAUT_CLI_JOBFILE_H
#define TAUT_CLI_JOBFILE_H

#include "cli/cli.h"
#include "searchspace/job.h"

#define JOBFILE_MAX (4 << 20)
#define JOBFILE_TAKEN_MAX 2000

struct jobfile {
    json_t *json; /* paths absolute */
    struct job *job;
    char identity[BASE_ID_HEX];
};

/* path "-": standard input, paths from the current folder. Exit status; errors are printed. */
int jobfile_read(struct jobfile *f, const char *path);
/* Are its data files there, and are they text? For a store that is made for this job: nothing is made for one that cannot run. Files that are
 * no text are spoken of, and used: what is text is the person's to say. */
int jobfile_look(const struct cli *c, const struct jobfile *f, const char *path);
/* "family 'llama' takes away: every layer has the same mixer; …": what the space is narrowed to, in one line. "" where it is not. */
const char *jobfile_taken(const struct jobfile *f, char *text, size_t size);
void jobfile_fini(struct jobfile *f);
/* An architecture's file, with the same manners. */
int archfile_read(struct arch *a, const char *path);

#endif
