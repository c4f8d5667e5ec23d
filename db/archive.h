/* A job's trials in memory, by column: what fronts, strategies and progress are computed from. Loaded from the tables (fast: 100,000 trials well under a
 * second) or kept up by folding events as they are appended; both give the same archive.
 *
 *   struct archive *a;
 *   st = archive_load(&a, db, job_id, job, &err);
 *   archive_fold(a, type, body);                               // after each db_event_append of that job
 *   struct front_query q = {.nobj = 2, .objective = {...}};
 *   struct front f; st = archive_front(a, &q, &f, &err);
 *
 * The job is borrowed and must outlive the archive. Rows are in order of proposal, which is that of the trials' ids; row = proposal number, from 0, as long
 * as no trial is left out. Memory: under 1 KB a trial with 12 metrics and 100 genes.
 * A trial whose row is not as Taut writes it is left out when an archive is loaded (archive_damaged): such an archive is there to be read, and nothing can be
 * proposed after it. */
#ifndef TAUT_DB_ARCHIVE_H
#define TAUT_DB_ARCHIVE_H

#include "db/db.h"

/* What is scored first begins as a draft (waits to be scored), is out for that, and is then scored; of those some are chosen (ready, to be trained), the others passed over. */
enum trial_state { TRIAL_READY = 0, TRIAL_LEASED = 1, TRIAL_OK = 2, TRIAL_FAILED = 3, TRIAL_PRUNED = 4, TRIAL_SCORED = 5, TRIAL_PASSED = 6, TRIAL_DRAFT = 7, TRIAL_SCORING = 8 };
#define TRIAL_STATES 9
extern const char *const archive_state_words[]; /* [TRIAL_STATES] "ready" …; a draft is ready, one that is being scored leased: their lease says what for */

struct archive;

struct archive_damage {
    int64_t trial;   /* 0: trials that the store has no more */
    const char *why; /* "its genome does not fit the job's space"; static */
};

/* ST_ENOMEM; ST_EIO, ST_ECORRUPT …: the tables cannot be read. */
st_t archive_load(struct archive **out, struct db *db, int64_t job_id, const struct job *job, struct base_err *err);
void archive_free(struct archive *a);
/* body: as in db.h. ST_ENOMEM; ST_ENOTFOUND: no such trial, and none was left out. Types that do not touch trials are ignored. */
st_t archive_fold(struct archive *a, const char *type, json_t *body);
/* The same with the event's own time (archive_fold takes the clock's): for replays, and for callers that gave db_event_append another. */
st_t archive_fold_at(struct archive *a, const char *type, json_t *body, int64_t at_ms);

long archive_count(const struct archive *a);                              /* rows */
long archive_count_state(const struct archive *a, enum trial_state s);
long archive_planned(const struct archive *a); /* rows that were or are to be trained: all but those that are scored first and not chosen */
/* How many were left out, and which (list may be NULL; valid until the archive is freed). */
long archive_damaged(const struct archive *a, const struct archive_damage **list);
int64_t archive_proposal(const struct archive *a, long row);
int64_t archive_trial(const struct archive *a, long row);                 /* trial id */
long archive_row(const struct archive *a, int64_t trial);                 /* -1 */
enum trial_state archive_state(const struct archive *a, long row);
const char *archive_arch_id(const struct archive *a, long row, char id[BASE_ID_HEX]);
long archive_find_arch(const struct archive *a, const char *id);          /* row; -1 */
int64_t archive_epoch(const struct archive *a, long row);                 /* of its last lease; 0: never leased */
/* Genes of a row into g (of the job's space). */
st_t archive_genome(const struct archive *a, long row, struct genome *g);

/* The rung that the row is on: trained or to be trained on, or ended there. */
int archive_rung(const struct archive *a, long row);
/* Was it reported ok on that rung? */
bool archive_has(const struct archive *a, long row, int rung);
long archive_rung_count(const struct archive *a, int rung);  /* rows that were */
long archive_rung_reached(const struct archive *a, int rung); /* rows that were or still are trained on it: on it or above, whatever became of them */
int archive_top(const struct archive *a);                    /* the highest rung on which one was; 0: none */

/* The audit: trials that go to the top rung whatever they bring on the way, in the order in which they were drawn; from which rung on row does so, -1: it does not. */
enum audit_drawn { AUDIT_BEST, AUDIT_FRONT, AUDIT_SPACE, AUDIT_ALL };
extern const char *const archive_drawn_words[]; /* "best" … */
long archive_audited(const struct archive *a);
long archive_audited_row(const struct archive *a, long i);
enum audit_drawn archive_audited_how(const struct archive *a, long i);
int archive_audit_rung(const struct archive *a, long row);
/* Its verdicts, the last of each shortcut, in the order of their events. */
struct archive_verdict {
    char shortcut[METRIC_NAME_MAX];
    bool relied;
    long from; /* rows from here on were proposed after it */
};
const struct archive_verdict *archive_verdicts(const struct archive *a, int *n); /* borrowed until the next event */
bool archive_relied(const struct archive *a, const char *shortcut);              /* no verdict: true */

/* Reports in their order, ok, failed or pruned: one for each rung that a trial was trained on. */
long archive_reported(const struct archive *a);
long archive_reported_row(const struct archive *a, long i);
int archive_reported_rung(const struct archive *a, long i);
long archive_evaluations(const struct archive *a);                        /* trials that were reported at least once */
long archive_reported_evaluations(const struct archive *a, long i);       /* how many of those there were by then, repeats too */
int64_t archive_reported_at(const struct archive *a, long i);             /* wall ms */
double archive_reported_busy_s(const struct archive *a, long i);          /* cumulative busy seconds of the job after it */

int archive_metric(const struct archive *a, const char *name);            /* column; -1: no trial has it */
int archive_metrics(const struct archive *a);
const char *archive_metric_name(const struct archive *a, int col);
double archive_median(const struct archive *a, int col, long row);        /* the newest; NaN: missing */
double archive_value(const struct archive *a, int col, long row, int rung); /* as it was after the row's report on that rung, which it has */
void archive_interval(const struct archive *a, int col, long row, double *low, double *high); /* the median twice where none was reported */

/* What the latency model said of trials, in the order of their reports. Where it was saved that is the trial's value (archive_estimated) until a higher rung's report measures it; else
 * the trial was measured all the same, and what it said can be checked. */
struct archive_estimate {
    long row;
    int col, rung;
    bool saved;
    double median, low, high; /* 95 % prediction interval */
};
long archive_estimates(const struct archive *a);
const struct archive_estimate *archive_estimate_at(const struct archive *a, long i); /* borrowed until the next event */
bool archive_estimated(const struct archive *a, int col, long row); /* is the newest value an estimate? */

/* Repeats: rows that train or measure an earlier row's architecture once more (origin "repeat"), with another seed or at another time. They have no results of their own: archive_has, the counts of rungs
 * and the reports leave them out (archive_evaluations and the counts of states do not), archive_find_arch finds the first. What they were reported with is pooled with the values of the row that they repeat. */
enum archive_repeat { REPEAT_NONE, REPEAT_TRAIN, REPEAT_PROFILE };
extern const char *const archive_repeat_words[]; /* "", "train", "profile" */
enum archive_repeat archive_repeat(const struct archive *a, long row);
long archive_repeat_of(const struct archive *a, long row); /* the row that it repeats; -1 */
long archive_repeats(const struct archive *a);             /* all of them, in the order of their proposals */
long archive_repeat_row(const struct archive *a, long i);
int archive_repeated(const struct archive *a, long row);   /* how often the row was, whatever came of it */
int archive_repeat_number(const struct archive *a, long row); /* how-manieth repeat of its row it is, from 1 */
/* A value as that of all its measurements, on that rung: of n values. Numbers without an interval (losses) are draws with a standard deviation that all of the metric's have in common, estimated from those that were
 * repeated (archive_noise): their mean, +- t(dof) sd / sqrt(n), from 2 degrees of freedom on. Values with one (latencies): the mean of DerSimonian & Laird (1986), which takes what the values differ by beyond
 * their own intervals for a variance between measurements; +- 1.96 of its standard error. An estimate counts only while nothing was measured. Returns n; 0: the row has no value there (median NaN). */
int archive_pooled(const struct archive *a, int col, long row, int rung, double *median, double *low, double *high);
/* The same by a noise that is known: archive_noise once for many rows. */
int archive_pooled_by(const struct archive *a, int col, long row, int rung, double sd, int dof, double *median, double *low, double *high);
/* Standard deviation of the metric's values of one architecture, from one seed to another, on that rung. NaN: dof 0. */
double archive_noise(const struct archive *a, int col, int rung, int *dof);

struct front_query {
    int nobj;
    struct job_objective objective[JOB_OBJECTIVES_MAX];
    const struct where *where;   /* borrowed; NULL: all */
    bool constrained;            /* leave out trials that violate the job's constraints */
    int rung;                    /* results of this one alone, 0 the lowest */
    long limit;                  /* <= 0: all */
    int64_t after;               /* trial id to go on after, in the order of the answer; 0: from the start */
    bool first;                  /* values as first reported, repeats left out; else pooled */
    unsigned exact;              /* bit k: the k-th objective's intervals are left out of account */
    bool uncertain;              /* whoever may be on the true front, given the measurements' intervals, by draws of the job's seed … */
    int resamples;               /* … so many; 0: ARCHIVE_RESAMPLES */
};
enum { ARCHIVE_RESAMPLES = 1000 };
#define ARCHIVE_DOUBT 0.05 /* a trial off the front by its medians is in an uncertain front if it is as probable as that */

struct front {
    long n;
    long *row; /* [n], by first objective, then by trial; owned */
    double *p; /* [n] probability of being on the true front (base_pareto_membership); NULL unless the query was uncertain; owned */
    bool *on;  /* [n] on the front by the medians; likewise */
};
/* First front over trials reported ok on q->rung that have every objective, finite. ST_ENOTFOUND when an objective's metric is in no trial (err names it). */
st_t archive_front(const struct archive *a, const struct front_query *q, struct front *out, struct base_err *err);
void archive_front_fini(struct front *f);

/* Reports of lower rungs, trials that failed, lack an objective or violate the job's constraints add nothing.
 * Hypervolume after each report: hv [archive_reported]; ref in natural signs, goals as the job's. */
st_t archive_progress(const struct archive *a, const struct job *job, const double *ref, double *hv);

#endif
