/* The way to a tautd: the one that listens on --socket or on the default, the one that serves --dir, or one started for this command. */
#ifndef TAUT_CLI_CONNECT_H
#define TAUT_CLI_CONNECT_H

#include <jansson.h>

#include "cli/child.h"
#include "cli/cli.h"
#include "wire/wire.h"

struct conn {
    const struct cli *cli;
    struct wire_client *wire;
    struct child own; /* tautd --reader; pid 0: not ours */
    int lost;         /* not 0: what a lost connection returns, without a word, to a caller that makes another one */
};

/* Exit statuses throughout; errors are printed. create: --dir may be a folder without a store, or none yet. */
int conn_open(struct conn *k, const struct cli *c, bool create);
void conn_close(struct conn *k); /* and waits for our own tautd to leave */

/* One call. params stolen. subject: what the error speaks of ("job 3"); NULL: the verb. */
int conn_call(struct conn *k, const char *method, json_t *params, const char *subject, json_t **result);
int conn_error(const struct conn *k, st_t st, int rpc_code, const char *subject, const struct base_err *err);

/* JOB: an id, or the newest of that name. *info: what job.get says. */
int conn_job(struct conn *k, const char *job, json_t **info);
/* The same without what tautd would have to look at all trials for: id, name, state, objectives, budget. */
int conn_job_brief(struct conn *k, const char *job, json_t **info);
/* Where tautd was started for this command alone: that the job waits, and for what. */
void conn_note_idle(const struct conn *k, int64_t job);
/* TRIAL: an id; or an architecture's id prefix (6 digits at least), the newest trial of it, in job only (0: any). */
int conn_trial(struct conn *k, const char *trial, int64_t job, json_t **out);
/* All rows of a paged list: calls method with params (stolen) and "after" until nothing more comes or limit (< 0: none) is reached. */
int conn_pages(struct conn *k, const char *method, json_t *params, long limit, json_t **rows);
/* The next of a job's trials, in the order of their numbers: those after *after (0: the first), which becomes the last one's. *page: owned by the caller,
 * empty at the end. As wire_client_call, and ST_EPARSE for a page that does not go on: a list ends, whatever tautd says. */
st_t conn_trials(struct conn *k, int64_t job, int64_t *after, json_t **page, int *code, struct base_err *err);

/* ---- for run ---- */

bool conn_store_there(const char *dir); /* is there a DIR/taut.db? errno, where not */
bool conn_lock_held(const char *dir); /* does a tautd hold DIR/taut.lock? */
/* For whoever waits until a tautd of DIR listens or has left. A watch on it, to be opened before the first look; -1: there can be none. close() it. */
int conn_watch(const char *dir);
/* Until something happens in DIR or the one that has its lock ends, or a signal comes, or a short while has passed: then look again. */
void conn_watch_wait(int watch, const char *dir);
st_t conn_make_dir(const char *dir, struct base_err *err); /* with its parents */

#endif
