/* Programs that taut bench runs beside itself: taut train in a process of its own, and Python with torch. */
#ifndef TAUT_CLI_BENCH_CHILD_H
#define TAUT_CLI_BENCH_CHILD_H

#include <stdio.h>
#include <sys/types.h>

#include "cli/bench.h"

struct bench_child {
    pid_t pid;      /* 0: none */
    FILE *to, *from; /* its stdin and stdout */
};

#define BENCH_CHILD_NONE 127 /* exit status where there is no such program */
/* argv[0] is looked for on the path. env: "NAME=value" that are added or put in place of others, or "NAME" to be taken away; NULL-terminated. What it says on stderr goes to `log`. */
st_t bench_child_start(struct bench_child *c, const char *const *argv, const char *const *env, const char *log, struct base_err *err);
/* A line of JSON (new reference) from it; NULL: it has ended, or was interrupted. */
json_t *bench_child_read(struct bench_child *c);
/* Closes both ends and waits. Its exit status, -1 for a signal. */
int bench_child_end(struct bench_child *c);

/* A folder of its own for files that children need; removed by bench_folder_remove, whatever lies in it. */
st_t bench_folder(char *path, size_t size, struct base_err *err);
void bench_folder_remove(const char *path);

st_t bench_write_file(const char *path, const void *p, size_t n);
st_t bench_write_text(const char *path, size_t n, uint64_t seed); /* made-up words */
void bench_log_last(const char *path, char *buf, size_t size);    /* the last line of a log; "" for none */

/* `taut train` of that architecture (JSON) for so many steps of b->batch sequences, on b's threads and device, over made-up text. *end: its last line, new
 * reference. seconds (may be NULL): from its start to its end. */
st_t bench_train_process(struct bench *b, const char *arch, int context, int steps, json_t **end, double *seconds);

#endif
