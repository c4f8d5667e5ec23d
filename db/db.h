/* The store: one SQLite file, written by tautd alone. Events are the truth; every other table is their fold.
 *
 *   struct db *db;
 *   st = db_open(&db, "/data/search", DB_CREATE, &err);               // the folder; the file is DIR/taut.db
 *   db_begin(db);
 *   db_event_append(db, job, "proposed", body, at_ms, &seq);          // writes the event row and folds it into the tables
 *   st = db_commit(db);                                               // durable when this returns ST_OK (WAL, synchronous=FULL)
 *
 * Invariants
 *   - Only db_event_append writes, and only through db_fold: nothing is in a table that its events do not say. db_verify replays all
 *     events into an empty store in memory and compares every table.
 *   - event(job, seq): seq counts from 1 in each job without gaps. Job 0 is the service itself (devices, evaluators).
 *   - All ids come from the caller (body of the event), so that a replay gives the same ones; db_next_id hands out max + 1.
 *   - A failed statement or commit (ST_ENOSPC, ST_EIO) leaves the store as at db_begin after db_rollback; the caller then reloads what it holds
 *     in memory for the jobs concerned.
 * At open: DIR on a network file system, a file that is not Taut's (application_id), a newer user_version, a file locked by another tautd (DIR/taut.lock, flock) are
 * refused with one clear line; older versions migrate forward, each in one transaction; quick_check after an unclean stop. */
#ifndef TAUT_DB_DB_H
#define TAUT_DB_DB_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "searchspace/job.h"

#define DB_APPLICATION_ID 0x54415554 /* "TAUT" */
#define DB_VERSION 7

enum db_flags { DB_CREATE = 1, DB_READONLY = 2 /* no lock, no write: tests and benches */ };

struct db;
st_t db_open(struct db **out, const char *dir, unsigned flags, struct base_err *err);
void db_close(struct db *db); /* rolls back what is open; checkpoints the WAL when it is the last one */
const char *db_path(const struct db *db);
const char *db_sqlite_version(void); /* of the SQLite in use */

st_t db_begin(struct db *db); /* nested: ST_ESTATE */
st_t db_commit(struct db *db);
void db_rollback(struct db *db);
bool db_in_transaction(const struct db *db);
/* What the last failing call said ("database or disk is full"), for logs; borrowed. */
const char *db_error_text(const struct db *db);

enum db_table { DB_JOB, DB_TRIAL, DB_LEASE, DB_DEVICE };
int64_t db_next_id(struct db *db, enum db_table t); /* unused so far, monotone even after a rollback within this process */

/* ---- events ----
 * type        body (all keys required unless marked ?)
 * submitted   {name, seed, job: {the job as given, paths absolute}, files?: job_files_json, identity}
 * state       {state: "running"|"waiting"|"paused"|"done"|"cancelled"|"failed", reason?}
 * budget      {evaluations?, hours?, joules?}                          what now holds; absent: unbounded
 * target      {device}                                                 id in the device table
 * precision   {precision: "f32"|"bf16"}                               of its training, from the first lease on
 * strategy    {proposal, from: "nsga2", to: "surrogate", rho?}         who proposes in an "auto" search from that proposal on; rho: held-out rank correlation
 * reference   {point: [..]}                                            hypervolume's reference, in objective order, natural signs
 * proposed    {trial, proposal, arch_id, arch: "canonical text", genome: [..], origin: {op, parents: [..]}, seed, paper: {metric: number}, score?: bool}
 *                                                                      score: it is scored first
 *             origin.op "repeat": the architecture of parents[0] once more, by origin.kind "train" (another seed) or "profile"; archive.h says what becomes of its values
 * scored      {trial, lease, epoch, device, metrics, busy_s}           ends that lease; no report, and no evaluation
 * chosen      {trial, passed: [trial ..], …}                           of scored ones: that one is to be trained, these are not
 * filter      {on: bool, proposal, …}                                  are candidates scored first, from that proposal on?
 * leased      {trial, lease, epoch, evaluator, task, device, expires}  device: id
 * progress    {trial, lease, epoch, curve?: [[tokens, loss]], checkpoint?: {path, hash, bytes, tokens}}     only what must be durable
 * reported    {trial, lease, epoch, status: "ok"|"failed", device, metrics: {name: number | {median, low, high, n, ratio?: [median, low, high], anchor?, converged?, disturbed?, rejected?}},
 *              curve?, checkpoint?, stable?, error?, busy_s, joules?, estimates?: {name: {median, low, high}}}      stable: as checkpoint; what a promotion goes on
 *              from. estimates: what the latency model said of it beforehand; where metrics has n: 0 that stands in place of a measurement
 * modelled    {trial, lease, epoch, saved: bool, by?, estimates}      what a lease was told to leave out (saved), or to measure all the same
 * promoted    {trial, rung, reason?: "audit"|"repeat"}                          from an ok report at rung - 1: ready to be trained on
 * pruned      {trial, lease, epoch, device, reason, busy_s, curve?, …}  ended while it was out: it could not have reached the front. Whatever else the body
 *                                                                      has stands there for those who read events
 * audit       {trial, drawn: "best"|"front"|"space"|"all"}              goes to the top rung whatever it brings on the way, to check shortcuts by; once a trial
 * verdict     {shortcut, relied: bool, …}                              from this proposal on; whatever else the body has stands there for those who read events
 * returned    {trial, lease, epoch, reason, busy_s}                    preempted: the trial waits to be leased again, epoch + 1
 * supernet    {state: "leased", lease, epoch, evaluator, device, expires}            of a job with shared weights; never leased: there is none yet.
 *             {state: "saved", lease, epoch, checkpoint}               a checkpoint of it, durable
 *             {state: "ready", lease, epoch, reason, busy_s}           preempted: waits to be leased again, epoch + 1
 *             {state: "ok", lease, epoch, checkpoint, busy_s, joules?, …}  trained: whoever inherits does so from that file
 *             {state: "failed", lease, epoch, error, busy_s, …}        may be leased again, epoch + 1
 * device      {id, kind, body: {...}}                                  job 0
 * evaluator   {evaluator, name, device}                                job 0
 * A trial's state is one of: ready, leased, ok, failed, pruned, scored, passed. `at` is wall-clock ms.
 * A trial begins on rung 0; what it was reported with on a rung is kept (trial_rung) when it is promoted from it. Of a metric that a later report does not bring, the
 * value before still holds.
 * A submitted job is running until a state event says otherwise; its budget is job.budget until a budget event. Metrics: at most 256 a trial.
 * Unknown type or a body that does not fit: ST_EINVAL and nothing is written. Likewise ST_ENOTFOUND (no such job, or trial of it), ST_EEXIST (an id
 * that is taken), ST_ESTATE (leasing a trial that is not ready), ST_ESTALE (another lease or epoch than the trial is out on). The transaction goes on.
 * A statement that fails (ST_ENOSPC, ST_EIO …) breaks the transaction: everything but db_rollback then answers ST_ESTATE. */
st_t db_event_append(struct db *db, int64_t job, const char *type, json_t *body /* borrowed */, int64_t at_ms, int64_t *seq,
                     struct base_err *err);

struct db_event {
    int64_t job, seq, at_ms;
    const char *type, *body; /* borrowed for the duration of the callback; body is JSON text */
};
typedef st_t (*db_event_fn)(void *ctx, const struct db_event *e); /* non-zero ends the walk and is returned */
st_t db_events(struct db *db, int64_t job, int64_t after_seq, int64_t limit /* <0: all */, db_event_fn fn, void *ctx);

/* Replays everything and compares; first difference in err. */
st_t db_verify(struct db *db, struct base_err *err);

/* ---- reading back ---- */

struct db_job {
    int64_t id;
    char name[JOB_NAME_MAX], state[16], identity[BASE_ID_HEX];
    const char *reason, *text, *files; /* borrowed for the callback; text: the job as JSON; files may be NULL */
    uint64_t seed;
    double evaluations, hours, joules; /* budget; +inf where unbounded */
    int64_t device;                    /* target; 0: none yet */
    char precision[8];                 /* "": not settled yet */
    double busy_s, spent_joules;       /* sums over its reports and returns */
    int64_t submitted_ms, last_seq;
    int nref;
    double ref[JOB_OBJECTIVES_MAX];
    const char *damage;                /* which of these is not as Taut writes it, and therefore as if it were not there: "reference"; NULL: none */
};
typedef st_t (*db_job_fn)(void *ctx, const struct db_job *j);
st_t db_jobs(struct db *db, int64_t id /* 0: all */, db_job_fn fn, void *ctx); /* by id */

/* Everything about one trial as JSON (trial.get of wire.md: id, job, arch_id, arch, state, rung, seed, proposal, origin, metrics with intervals and devices,
 * curve, checkpoint, error, device body; rungs: what it was reported with on each lower rung). ST_ENOTFOUND. */
st_t db_trial_json(struct db *db, int64_t trial, json_t **out, struct base_err *err);
/* Its learning curve on a rung, by tokens: p [max] of {tokens, loss (NaN: none)}; *n: so many. None: *n is 0. */
st_t db_trial_curve(struct db *db, int64_t trial, int rung, double (*p)[2], int max, int *n);
/* Trials of an architecture in a job (job 0: any): by id prefix of at least 6 digits. *trial: the newest. ST_ENOTFOUND; ST_EEXIST when the prefix names several
 * architectures. */
st_t db_trial_by_arch(struct db *db, int64_t job, const char *id_prefix, int64_t *trial, struct base_err *err);

/* Body of a job's last "strategy" event; *out NULL: there is none. Looks through the job's events from their end. */
st_t db_job_strategy(struct db *db, int64_t job, json_t **out, struct base_err *err);
st_t db_job_filter(struct db *db, int64_t job, json_t **out, struct base_err *err); /* the same of "filter" */

/* The supernet of a job: {state: "ready"|"leased"|"ok"|"failed", epoch, device, busy_s, joules?, error?, checkpoint?}; *out NULL: it was never leased. */
st_t db_job_supernet(struct db *db, int64_t job, json_t **out, struct base_err *err);

/* What the last "modelled" event of a lease said: its body, new reference; NULL: there is none. Looks through the job's events from their end. */
st_t db_lease_modelled(struct db *db, int64_t job, int64_t lease, int64_t epoch, json_t **out);

struct db_lease {
    int64_t lease, trial /* 0: of its job's supernet */, job, evaluator, epoch, expires_ms;
    bool holds; /* its trial is out on it */
};
typedef st_t (*db_lease_fn)(void *ctx, const struct db_lease *l);
st_t db_leases(struct db *db, db_lease_fn fn, void *ctx);

struct db_device {
    int64_t id;
    const char *kind, *body; /* borrowed for the callback */
};
typedef st_t (*db_device_fn)(void *ctx, const struct db_device *d);
st_t db_devices(struct db *db, db_device_fn fn, void *ctx);

struct db_evaluator {
    int64_t id, device;
    const char *name; /* borrowed for the callback */
};
typedef st_t (*db_evaluator_fn)(void *ctx, const struct db_evaluator *e);
st_t db_evaluators(struct db *db, db_evaluator_fn fn, void *ctx);

#endif
