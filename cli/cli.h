/* The command's frame: one table of verbs, one option parser, one way to fail.
 *
 *   static int run(struct cli *c) { … return CLI_OK; }
 *   const struct cli_cmd cmd_jobs = {.name = "jobs", .summary = "…", .options = options, .run = run};
 *
 * A verb's file ends in its const descriptor; cmds.def names them all. Help, completion and the manual page are made from these tables.
 * Results go to stdout; errors are one line on stderr, `taut: what: why; what to do`, and the exit status says which kind. */
#ifndef TAUT_CLI_CLI_H
#define TAUT_CLI_CLI_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/err.h"

enum cli_exit {
    CLI_OK = 0,
    CLI_FAILED = 1,    /* the work failed */
    CLI_CALL = 2,      /* the call was wrong */
    CLI_NO_DAEMON = 3, /* nobody there to ask */
    CLI_NOTHING = 4,   /* nothing found */
    CLI_INTERRUPTED = 130,
};

/* arg: NULL: a flag; "a|b|c": one of these words; FAMILY: completes as one; else what stands in the help. Files and folders complete when arg is FILE, DIR or PATH. */
struct cli_opt {
    const char *name; /* long, without dashes; NULL ends a table */
    char letter;      /* 0: none */
    const char *arg;
    const char *help;
    bool promised;    /* refused by name: not built yet */
};

struct cli;
struct cli_cmd {
    const char *name;
    const char *args;    /* "JOB", "ARCH.json", "" */
    const char *summary; /* one line, no full stop */
    const char *help;    /* more of it; "" where the summary says all. Lines end in \n. */
    const struct cli_opt *options; /* its own; common ones come on top */
    int min_args, max_args;
    int (*run)(struct cli *c);
};

#define CLI_ARGS_MAX 8
#define CLI_OPTS_MAX 32
struct cli {
    const struct cli_cmd *cmd;
    const char *arg[CLI_ARGS_MAX]; /* positional */
    int nargs;
    const char *value[CLI_OPTS_MAX]; /* of cmd->options, by index; flags: "" when given; NULL: not given */
    const char *common[CLI_OPTS_MAX];
    const char *dir, *socket;
    const char *at; /* the folder that taut was called in, for a shell: "build/", so that what is said to type next can be typed; "": found on the path */
    bool json, quiet;
    int verbose;
    int bad; /* latched by the typed getters: an exit status */
};

extern const struct cli_cmd *const cli_cmds[]; /* in the order of cmds.def; NULL-terminated */
extern const struct cli_opt cli_common[];      /* on every verb */
const struct cli_cmd *cli_cmd_find(const char *name); /* NULL */

/* argv behind the verb. CLI_OK, or prints the error and returns CLI_CALL. */
int cli_parse(struct cli *c, const struct cli_cmd *cmd, int argc, char **argv);

/* Values of an option of this verb. A value that cannot be read prints the error and latches c->bad; the default is returned. */
bool cli_has(const struct cli *c, const char *name);
const char *cli_str(const struct cli *c, const char *name, const char *dflt);
double cli_num(struct cli *c, const char *name, double dflt, double min, double max); /* 1e6, 5M, 20k */
int64_t cli_int(struct cli *c, const char *name, int64_t dflt, int64_t min, int64_t max);
/* "128,1024": at most max numbers from least up; returns how many. */
int cli_int_list(struct cli *c, const char *name, const char *dflt, int64_t least, int64_t *out, int max);

/* One line on stderr, "taut: what: why; todo" (each may be NULL or ""), returns status so that it can stand in a return statement. */
int cli_fail(int status, const char *what, const char *todo, const char *why, ...) __attribute__((format(printf, 4, 5)));
int cli_fail_err(int status, const char *what, const char *todo, const struct base_err *err);
/* What a status of the libraries means for the caller: wrong input 2, not found 4, else 1. */
int cli_exit_of(st_t st);
/* A line on stderr for people, not an error; dropped by -q. */
void cli_note(const struct cli *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* help.c */
void cli_help_all(FILE *f);
void cli_help_cmd(FILE *f, const struct cli_cmd *cmd);
void cli_help_man(FILE *f); /* taut.1 */
/* completion.c: shell is bash, zsh or fish; false: another. */
bool cli_completion(FILE *f, const char *shell);

/* Flushes stdout; a full disk or a closed pipe behind it is a failure that must not look like success. */
int cli_end(int status);

#endif
