/* A sibling program, started and held by a lifeline: it leaves when this process is gone, however that came about. */
#ifndef TAUT_CLI_CHILD_H
#define TAUT_CLI_CHILD_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "base/err.h"

struct child {
    const char *program; /* "tautd" */
    pid_t pid;           /* 0: none runs */
    int lifeline;        /* write end; -1 */
    int log;             /* what it writes to stderr; -1 */
    int status;          /* of waitpid, once it has ended */
};
#define CHILD_INIT {.lifeline = -1, .log = -1}

/* Runs the program of that name that stands beside this one with args (NULL-terminated), --lifeline FD and, where ready is wanted, --ready FD; in a
 * session of its own, so that the terminal's Ctrl-C is ours alone. log: a file to append to; NULL: memory. keep: a file descriptor that it inherits
 * and holds as long as it lives; -1: none. The program itself may still fail to start: then it ends at once, and its last line says why. */
st_t child_start(struct child *c, const char *program, const char *const *args, const char *log, int keep, bool ready, int *ready_fd,
                 struct base_err *err);
/* Waits until it has said that it is ready. ST_ECLOSED: it ended before that; ST_ECANCELED: *interrupt became non-zero. Closes fd. */
st_t child_wait_ready(struct child *c, int fd, const volatile int *interrupt);
bool child_alive(struct child *c);
/* The same after it has ended, ms have passed, or a signal has come. */
bool child_wait(struct child *c, int ms);
/* A file descriptor that is readable once that process, a child or not, has ended; -1: it has, or this kernel (before Linux 5.3) cannot tell. */
int child_end_fd(pid_t pid);
/* Closes the lifeline and waits; a SIGTERM after term_s, a SIGKILL after kill_s (< 0: never). Stops waiting when *interrupt (may be NULL) becomes
 * non-zero. */
void child_stop(struct child *c, double term_s, double kill_s, const volatile int *interrupt);
/* It has ended since another tautd had the store at that moment, which may have left since. */
bool child_met_another(const struct child *c);
/* The last line of its log, without the program's own name; "" for none. */
void child_last_line(const struct child *c, char *buf, size_t size);
/* "exit status 1: <last line>" into buf. */
const char *child_why(const struct child *c, char *buf, size_t size);

#endif
