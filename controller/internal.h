/* What the files of this room share. Nobody else includes it.
 *
 *   store.c      events, the transaction, commit and what follows a failed one
 *   table.c      devices and evaluators that were ever seen; sessions (evaluators that are connected)
 *   jobs.c       jobs in memory: loading, states, budgets, reference point
 *   leases.c     leases: grant, renew, give back, expire
 *   choose.c     which candidates are scored first, and which of those are trained
 *   supernet.c   the supernet of a job with shared weights: a task before all others
 *   fidelity.c   which trial goes up a rung; prune.c: which trial need not go on
 *   modelled.c   which measurements leases leave out; estimate.c, latency.c: by what model
 *   notice.c     what a search is told once: objectives that do not vary, constraints that nothing meets
 *   audit.c      which trial goes to the top to check shortcuts by; audit_table.c: what came of it
 *   sched.c      who gets what; which jobs wait and why; when a job ends
 *   server.c     the loop, timers, connections, start and stop
 *   h_*.c        handlers, one file a group; handlers.c is the table of them
 *
 * A handler changes memory and appends events (ctl_event); it answers at once, and wire/ holds the answer until ctl_flush has committed. If
 * anything in between fails, ctl_flush rolls back, reloads every touched job from the store, undoes what leases and sessions did in the burst, and
 * turns the held answers into errors. So a handler need not undo anything: it answers an error and returns. */
#ifndef TAUT_CONTROLLER_INTERNAL_H
#define TAUT_CONTROLLER_INTERNAL_H

#include "base/json.h"
#include "base/json_write.h"
#include "base/log.h"
#include "controller/audit.h"
#include "controller/controller.h"
#include "controller/estimate.h"
#include "controller/fidelity.h"
#include "controller/filter.h"
#include "controller/proposer.h"
#include "controller/repeat.h"
#include "db/archive.h"
#include "db/db.h"
#include "wire/wire.h"

#define CTL_PROTOCOL 1
enum {
    CTL_WANTED_MAX = 64,
    CTL_METRICS_MAX = 256,       /* distinct metric names in one job */
    CTL_LOST_MAX = 20,           /* a trial whose evaluators were lost so often, none having got further than one before it, has failed */
    CTL_ARCHIVES_IDLE = 4,       /* archives of finished jobs kept in memory */
    CTL_PAGE_BYTES = 2 << 20,    /* a page of rows ends here */
    CTL_CURVE_MAX = 10000,       /* points in one report */
    CTL_WAIT_MAX_S = 600,
    CTL_SPACE_PROBLEM = SPACE_CUSTOM + 1, /* beside the types of spaces: the standard problems' */
};

/* Leases of a job that say the same: on a rung; to be scored; on the lowest rung, but scored already. */
enum { CTL_TEXT_SCORE = JOB_RUNGS_MAX, CTL_TEXT_SCORED, CTL_TEXTS };

enum ctl_state { CTL_RUNNING, CTL_WAITING, CTL_PAUSED, CTL_DONE, CTL_CANCELLED, CTL_FAILED, CTL_STATES };
const char *ctl_state_name(enum ctl_state s);
int ctl_state_find(const char *name); /* -1 */
static inline bool ctl_state_active(enum ctl_state s)
{
    return s == CTL_RUNNING || s == CTL_WAITING;
}

struct ctl_lost {
    int64_t trial, step; /* step: the furthest that any of them told of */
    int times;           /* since one got that far */
};

struct ctl_job {
    int64_t id;
    char name[JOB_NAME_MAX], identity[BASE_ID_HEX];
    enum ctl_state state;
    char reason[256];
    json_t *json, *files;        /* as given (NULL: no JSON any more); what a lease carries as data (NULL: none) */
    struct job *job;             /* NULL: this tautd does not read it */
    char unread[256];            /* why the job cannot go on: it is not read, or what the store has of it is damaged (and can be looked at, if job is there); "": it can */
    double evaluations, hours, joules; /* budget; +inf: unbounded */
    int64_t device;              /* target; 0: none yet */
    char precision[8];           /* of its training; "": settled at the first lease */
    json_t *super;               /* shared weights: what the store says of its supernet (db_job_supernet); NULL: never leased */
    json_t *by, *filter;         /* bodies of its last "strategy" and "filter" events; NULL: none … */
    bool by_known, filter_known; /* … or not looked for yet (ctl_job_by, ctl_job_filter) */
    double busy_s, spent_joules;
    int64_t submitted_ms, last_seq;
    int nref;
    double ref[JOB_OBJECTIVES_MAX];

    struct archive *archive;     /* NULL: not in memory */
    struct proposer *proposer;   /* made when first needed */
    uint64_t used_ns;            /* archive last looked at */
    bool touched;                /* by the open transaction */
    bool exhausted;              /* the proposer has nothing more */
    long known, infeasible;      /* draws thrown away since the daemon started */

    int nleases;
    uint64_t mark_ns;            /* busy time is accounted up to here; meaningful while nleases > 0 */
    uint64_t mark_kept_ns;       /* as of the last commit */
    double share_s;              /* evaluator time had, for the fair share */
    struct ctl_lost *lost;       /* trials whose evaluator was lost, few */
    int nlost;

    char *lease_text[CTL_TEXTS]; /* what all of its leases of a kind say alike; made when first needed */
    int64_t promote_seq;         /* the promotion below is as of this event */
    bool promote_closed;
    long promote;
    int64_t repeat_seq;          /* likewise, and of this budget; the repeat: its row is -1 where none is due */
    double repeat_evaluations;
    struct repeat repeat;

    int64_t audit_seq;           /* what the audit was to draw it has drawn as of this event … */
    bool audit_closed;
    long judged;                 /* … and judged as of so many reports */
    long filtered;               /* is it to be filtered? looked at as of so many reports */
    struct audit audit;          /* the table, as of so many reports and draws; -1: not made */
    long audit_reports, audit_drawn;
    struct estimator *estimator; /* made when first needed */
    long estimated;              /* its verdicts were looked at as of so many reports */

    /* What lists show without the archive in memory: over the first sum_n reports. */
    long sum_n, sum_evaluations;
    double best[JOB_OBJECTIVES_MAX]; /* natural signs; NaN: none */
    int64_t best_trial[JOB_OBJECTIVES_MAX];
    long hv_n;                   /* reports that hv counts; -1: not computed */
    double hv;
};

struct ctl_device {
    int64_t id;
    char *kind, *text; /* text: the body, canonical; equal text = the same device */
    json_t *body;
};

struct ctl_known { /* an evaluator that was ever registered */
    int64_t id, device;
    char *name;
    struct ctl_session *session; /* NULL: not connected */
};

struct ctl_wait { /* an evaluator.next that waits for work */
    struct ctl_wait *next;
    struct wire_call *call;
    struct ctl_session *session;
    uint64_t until_ns;
};

struct ctl_session { /* one connection of an evaluator */
    struct ctl_session *next;
    struct wire_conn *conn;
    struct ctl_known *known;
    bool fresh;              /* registered in the open transaction */
    bool train, validate, supernet, profile, score; /* accepts includes it */
    json_t *provides;        /* array of metric names; NULL: any */
    int spaces;              /* bits 1 << enum space_type, 1 << CTL_SPACE_PROBLEM; 0: not said */
    int slots, nleases;
    uint64_t since_ns;
};

struct ctl_lease {
    struct ctl_lease *next;
    int64_t id, trial, epoch, evaluator;
    bool super;                  /* of its job's supernet; trial is 0 then */
    struct ctl_job *job;
    struct ctl_session *session; /* NULL: from before a restart, or its connection is gone and the store cannot say so yet */
    uint64_t since_ns, expires_ns;
    bool fresh;                  /* given in the open transaction */
    bool orphan;                 /* to be given back as soon as the store can be written */
    int64_t step;
    double tokens, loss;         /* NaN: not said */
    json_t *modelled;            /* body of its "modelled" event; NULL: none, or (recalled false) from before a restart and not looked for yet */
    bool recalled;
};

struct ctl_watch {
    struct ctl_watch *next;
    struct wire_conn *conn;
    int64_t job, sent;           /* last seq sent */
    bool live;                   /* has caught up */
};

struct ctl_submit;

struct ctl {
    uv_loop_t *loop;
    struct db *db;
    struct wire_server *wire;
    char *dir, *socket;
    double heartbeat_s, lease_s;
    bool reader, stopping, closed, abandoned;
    uint64_t started_ns;
    int handles;                 /* open ones of our own */
    uv_timer_t timer;            /* the next deadline */
    uv_timer_t pump;             /* replays for watchers; enumeration that goes on */
    uv_timer_t leave;            /* a reader without connections */

    st_t failed;                 /* of the open transaction */
    bool broken, told;           /* the store cannot be written; the log has said so */
    uint64_t retry_ns;
    bool kick, again;            /* scheduling has something to look at; the proposer wants to go on */

    struct ctl_job **job;
    int njobs;
    struct ctl_device *device;
    int ndevices, ndevices_kept; /* kept: as of the last commit */
    struct ctl_known **known;
    int nknown, nknown_kept;
    struct ctl_session *sessions;
    struct ctl_wait *waits, **waits_end;
    struct ctl_lease *leases, *buried; /* buried: ended in the open transaction */
    int64_t last_lease;          /* highest id ever given */
    struct ctl_watch *watches;
    struct ctl_submit *submits;  /* jobs whose data is being hashed */
};

/* ---- store.c ---- */
/* Appends one event (beginning a transaction if none is open), folds it into the job's archive and tells watchers. body: stolen, NULL allowed (out of memory).
 * After a failure nothing more is written until ctl_flush has rolled back. j NULL: the service itself. */
st_t ctl_event(struct ctl *c, struct ctl_job *j, const char *type, json_t *body);
/* The same of a lease; of a supernet's the type is "supernet" whatever was said. What the store has of that trial may be damaged: an event that does not fit it (ST_ESTALE, ST_ENOTFOUND) is not recorded, the
 * transaction goes on, and the job is damaged. */
st_t ctl_event_lease(struct ctl *c, const struct ctl_lease *l, const char *type, json_t *body);
/* Schedules, commits, and cleans up after a failure. Once per burst by wire/; by timers after their own work. */
void ctl_flush(struct ctl *c);
/* From the timer: is the store to be tried again? */
void ctl_store_retry(struct ctl *c, uint64_t now);
/* May something be written now? If not, the call is answered (and consumed). */
bool ctl_writable(struct ctl *c, struct wire_call *call);
/* Answers a call whose event could not be appended. */
void ctl_answer_failed(struct ctl *c, struct wire_call *call);

/* ---- table.c ---- */
st_t ctl_table_load(struct ctl *c, struct base_err *err);
void ctl_table_free(struct ctl *c);
void ctl_table_committed(struct ctl *c);
void ctl_table_rolled_back(struct ctl *c); /* also ends the sessions that registered in the burst */
struct ctl_known *ctl_known_get(struct ctl *c, int64_t id); /* NULL */
struct ctl_device *ctl_device_get(struct ctl *c, int64_t id); /* NULL */
/* Finds or records it. body: an object with "kind". */
st_t ctl_device_of(struct ctl *c, json_t *body, struct ctl_device **out);
st_t ctl_known_add(struct ctl *c, const char *name, int64_t device, struct ctl_known **out);
struct ctl_session *ctl_session_of(struct wire_conn *conn); /* NULL; conn may be NULL */
void ctl_session_end(struct ctl *c, struct ctl_session *s); /* its waits are answered null; its leases lose it */
void ctl_wait_add(struct ctl *c, struct ctl_session *s, struct wire_call *call, double seconds);

/* ---- jobs.c ---- */
st_t ctl_jobs_load(struct ctl *c, struct base_err *err);
st_t ctl_jobs_archives(struct ctl *c, struct base_err *err); /* of those that are active, after their leases */
void ctl_jobs_free(struct ctl *c);
struct ctl_job *ctl_job_get(struct ctl *c, int64_t id); /* NULL */
/* What the params name by `key`; if there is none, the call is answered. */
struct ctl_job *ctl_job_param(struct ctl *c, struct wire_call *call, struct base_jr *r, const char *key);
st_t ctl_job_load(struct ctl *c, int64_t id, struct ctl_job **out, struct base_err *err); /* a new one, or again what the store says */
void ctl_jobs_committed(struct ctl *c);
void ctl_jobs_rolled_back(struct ctl *c);
/* Makes sure that it is in memory. ST_EVERSION: the job is not read. */
st_t ctl_job_archive(struct ctl *c, struct ctl_job *j, struct base_err *err);
/* What the store has of j is damaged: it can be looked at, and the scheduler stops it. Said once. */
void ctl_job_damaged(struct ctl *c, struct ctl_job *j, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
st_t ctl_job_state(struct ctl *c, struct ctl_job *j, enum ctl_state s, const char *reason);
/* Submitted, or resumed: running, or waiting where nobody leases (a reader). It starts level with the others in the fair share. */
st_t ctl_job_start(struct ctl *c, struct ctl_job *j);
st_t ctl_job_budget(struct ctl *c, struct ctl_job *j, double evaluations, double hours);
double ctl_job_busy_s(const struct ctl_job *j);                        /* accounted, and what runs now */
/* After a report: reference point, the end. */
void ctl_job_reported(struct ctl *c, struct ctl_job *j);
/* Can nothing new come? With shared weights the last of the hours are the front's too. evaluations: of the budget that holds. */
bool ctl_job_closed(const struct ctl_job *j, double evaluations);
/* Row whose trial is to go up a rung now; -1. evaluations: of the budget that holds. */
long ctl_job_promote(struct ctl_job *j, double evaluations);
bool ctl_job_repeat(struct ctl_job *j, struct repeat *out); /* repeat_next, looked at once after each event */
/* Draws what the audit is due, and records verdicts that have changed. Nothing while nothing happened. */
void ctl_job_audit(struct ctl *c, struct ctl_job *j);
/* The audit's table, made when asked for; borrowed until the next report. ST_ENOMEM. */
st_t ctl_job_audit_table(struct ctl_job *j, const struct audit **out);
/* audit_json.c: what job.get says of it; NULL: the job has no shortcuts, or memory is out. */
json_t *ctl_audit_json(struct ctl_job *j);
/* Would this budget be used up, and what it bought be trained to its end? why: in words, if so. */
bool ctl_job_used_up(struct ctl_job *j, double evaluations, double hours, char *why, size_t size);
void ctl_job_finish(struct ctl *c, struct ctl_job *j, const char *why); /* done, or failed when nothing succeeded */
st_t ctl_job_summary(struct ctl *c, struct ctl_job *j);                /* sum_n and best are up to date */
/* Who proposes in it: the body of its last "strategy" event, borrowed; NULL: nobody was recorded. */
st_t ctl_job_by(struct ctl *c, struct ctl_job *j, json_t **by);
double ctl_job_hypervolume(struct ctl *c, struct ctl_job *j);          /* NaN: no reference point yet */
/* Metrics that an evaluator must bring: objectives and constraints that are not known on paper. out[JOB_OBJECTIVES_MAX + JOB_CONSTRAINTS_MAX] */
int ctl_job_needs(const struct ctl_job *j, const struct metric **out);
bool ctl_metric_measured(const struct metric *m); /* depends on the device */

/* ---- notice.c ---- */
/* Is objective k the same, *v, in all results of that rung? Of one result nobody can say. */
bool ctl_job_flat(const struct ctl_job *j, int k, int rung, double *v);
/* The result of that rung that breaks the job's constraints least, and what they are of it; -1: there is none, or one holds them. */
long ctl_job_closest(const struct ctl_job *j, int rung, double cost[JOB_CONSTRAINTS_MAX]);
/* What job.get says of both; NULL: some result meets the constraints, or there is none. New references. */
json_t *ctl_notice_unmet(const struct ctl_job *j, int rung);
json_t *ctl_notice_flat(const struct ctl_job *j, int rung);
/* Records both as events, as the first results have them. */
st_t ctl_notice(struct ctl *c, struct ctl_job *j);

/* ---- leases.c ---- */
st_t ctl_leases_load(struct ctl *c, struct base_err *err);
void ctl_leases_free(struct ctl *c);
struct ctl_lease *ctl_lease_get(struct ctl *c, int64_t id); /* NULL */
void ctl_lease_bind(struct ctl_lease *l, struct ctl_session *s); /* s NULL: unbind */
void ctl_lease_renew(struct ctl *c, struct ctl_lease *l);
void ctl_session_renew(struct ctl *c, struct ctl_session *s);
/* Records the lease of a row of j's archive (-1: of its supernet) and takes it into the list. */
st_t ctl_lease_grant(struct ctl *c, struct ctl_session *s, struct ctl_job *j, long row, struct ctl_lease **out);
/* What an event says of l first: {trial, lease, epoch}, or {state, lease, epoch} of a supernet, which is in that state then. */
json_t *ctl_lease_body(const struct ctl_lease *l, const char *state);
/* Seconds that the event which ends l adds to its job's busy time. */
double ctl_lease_account(struct ctl_lease *l);
/* Out of the list, until the commit says for good. */
void ctl_lease_end(struct ctl *c, struct ctl_lease *l);
/* Preempted. lost: the evaluator was lost while at work (counts towards CTL_LOST_MAX). */
st_t ctl_lease_return(struct ctl *c, struct ctl_lease *l, const char *reason, bool lost);
void ctl_session_leave(struct ctl *c, struct ctl_session *s, const char *reason); /* all of its leases */
void ctl_leases_tick(struct ctl *c, uint64_t now);
void ctl_leases_committed(struct ctl *c);
void ctl_leases_rolled_back(struct ctl *c);

/* ---- choose.c ---- */
/* Its last "filter" event's body, borrowed; NULL: candidates were never scored first. */
st_t ctl_job_filter(struct ctl *c, struct ctl_job *j, json_t **filter);
bool ctl_job_filters(struct ctl *c, struct ctl_job *j); /* are they now? */
/* Before a proposal: looks whether they are to be, where it is time for that (filter.h), and records a change. */
st_t ctl_filter_look(struct ctl *c, struct ctl_job *j);
/* Of what is scored, the row that is to be trained now: chosen, and recorded; *row -1: none. */
st_t ctl_filter_choose(struct ctl *c, struct ctl_job *j, long *row);
bool ctl_filter_left(const struct ctl_job *j); /* scored candidates that nobody has trained */
json_t *ctl_filter_json(struct ctl *c, struct ctl_job *j); /* what job.get says of it; NULL: there is nothing to filter by; new reference */

/* ---- supernet.c ---- */
/* A job with shared weights leases its supernet before anything that inherits from it: trained by one evaluator, its checkpoint is what validations name. It is no trial: nothing is
 * proposed for it, and it counts as no evaluation; its time is the job's. Killed, paused or preempted it is leased again with its last checkpoint. One that has failed ends the
 * job as failed; job.resume tries once more. When the hours are over before it is trained, it is stopped, and the job has ended without a result until it gets more of them. */
st_t ctl_super_load(struct ctl *c, struct ctl_job *j); /* j->super, anew; nothing in a job that shares no weights */
bool ctl_super_done(const struct ctl_job *j);
bool ctl_super_out(const struct ctl_job *j);
bool ctl_super_due(const struct ctl_job *j); /* is it to be leased before what the job leases next? */
/* Candidates have results of a supernet that was no task, whose losses are of another kind: what came of one now would not be comparable with them. */
bool ctl_super_older(const struct ctl_job *j);
/* Its hours are over, while it is trained. */
bool ctl_super_late(const struct ctl_job *j);
/* l has ended as failed. */
void ctl_super_failed(struct ctl *c, struct ctl_job *j, const char *error);
json_t *ctl_super_json(const struct ctl *c, const struct ctl_job *j); /* what job.get says of it; new reference */

/* ---- modelled.c ---- */
/* The lease's trial is trained, and has these metrics: is anything of what it is to measure known well enough? If so, l->modelled and its event say it. Once a lease. */
void ctl_modelled_ask(struct ctl *c, struct ctl_lease *l, json_t *metrics);
/* What a trial that is not measured yet will have of the metric; false: no model of it is relied on. */
bool ctl_modelled_interval(struct ctl_job *j, long row, const struct metric *m, struct latency_value *out);
/* Names that it need not measure, new reference; NULL: it measures all. */
json_t *ctl_modelled_names(const struct ctl_lease *l);
/* Its report has come: what it left out is put into metrics, with n: 0. Returns all that the model said of it, borrowed; NULL: nothing. */
json_t *ctl_modelled_fill(struct ctl *c, struct ctl_lease *l, json_t *metrics);
/* Records verdicts on the models that have changed. */
void ctl_modelled_judge(struct ctl *c, struct ctl_job *j);
/* What job.get says of the models; NULL: the job has none. */
json_t *ctl_modelled_json(struct ctl_job *j);

/* ---- sched.c ---- */
bool ctl_can_serve(const struct ctl *c, const struct ctl_session *s, const struct ctl_job *j, char *why, size_t size);
void ctl_sched(struct ctl *c);
/* The lease as evaluator.next answers it. arch_text: NULL of a supernet. */
void ctl_sched_answer(struct ctl *c, struct wire_call *call, struct ctl_lease *l, const char *arch_text, json_t *checkpoint);

/* ---- prune.c ---- */
/* l's trial has told of its curve up to so many tokens: can it still reach the front of its rung? A power law through the curve says where its trunk will end, what the newest
 * results of the rung made of theirs says where the result will be, and both how uncertain that is. A bound is passed by one in forty, and a trial is looked at several times:
 * so the bound is the lower one of two, of the curve and of two thirds of it. If even that 97.5 % bound is dominated by a result of the rung, the lease ends
 * with a pruned event, which says why, and true is returned. Only where every other objective is known (on paper, measured on the first rung, or at the best
 * end of its interval by the latency model while that is relied on): one that is not could be the best there is. Every ESTIMATE_CHECK-th
 * trial is not pruned by the model, so that it goes on seeing what it would have ended. Never what the audit drew. Only in language-model spaces: elsewhere nobody knows what a curve is of. */
bool ctl_prune(struct ctl *c, struct ctl_lease *l, double tokens);

/* ---- server.c ---- */
void ctl_timer_set(struct ctl *c); /* to the next deadline */

/* ---- h_watch.c ---- */
void ctl_watch_event(struct ctl *c, struct ctl_job *j, int64_t seq, int64_t at_ms, const char *type, json_t *body);
void ctl_watch_pump(struct ctl *c);
bool ctl_watch_behind(const struct ctl *c);
void ctl_watch_closed(struct ctl *c, struct wire_conn *conn);
void ctl_watch_rolled_back(struct ctl *c);

/* ---- h_submit.c ---- */
void ctl_submits_abandon(struct ctl *c);

/* ---- handlers.c and h_*.c ---- */
extern const wire_handler ctl_handlers[];
#define CTL_HANDLER(name) void ctl_h_##name(void *ctx, struct wire_call *call, json_t *params)
CTL_HANDLER(server_info);
CTL_HANDLER(job_submit);
CTL_HANDLER(job_list);
CTL_HANDLER(job_get);
CTL_HANDLER(job_pause);
CTL_HANDLER(job_resume);
CTL_HANDLER(job_cancel);
CTL_HANDLER(job_front);
CTL_HANDLER(job_progress);
CTL_HANDLER(job_watch);
CTL_HANDLER(trial_list);
CTL_HANDLER(trial_get);
CTL_HANDLER(trial_predict);
CTL_HANDLER(device_list);
CTL_HANDLER(evaluator_register);
CTL_HANDLER(evaluator_next);
CTL_HANDLER(evaluator_progress);
CTL_HANDLER(evaluator_report);
CTL_HANDLER(blob_get);
CTL_HANDLER(blob_put);

/* 200, not 200.0; null where it is not finite. New reference. */
json_t *ctl_number(double v);
/* Answers WIRE_EPARAMS (or what the status says) with where and what. */
void ctl_bad_params(struct wire_call *call, const struct base_err *err);

#endif
