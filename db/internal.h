/* What the files of db/ share; nobody else includes this.
 *
 * How the rows lie (schema.c has the SQL). Physical tables: event, job_spec, job_state, trial_data, trial_more, trial_rung,
 * metric_quality, stable, lease, supernet, checkpoint, device, evaluator, metric_set. Views: job, trial, arch, metric, metric_newest, curve. The reasons, measured in
 * bench/SPEED.md:
 *   - A commit costs some microseconds a page it touches, so a trial is one row: its values, curve and genome lie in
 * it. An architecture's canonical text lies in the event that proposed it, and nowhere else.
 *   - Values lie in numbered slots of that row (m0 l0 h0 n0, m1 …); metric_set says which name a slot has. Names are
 * interned a set at a time, sorted, so that all trials of a job mostly share two sets: paper costs before the report,
 * everything after it. SQLite rewrites a row as a whole and a column costs time even where it is NULL, hence few slots
 * in the row, and trial_more. What few metrics have (ratio to the anchor, converged …) is metric_quality's, which costs
 * nothing where it is not said.
 *   - What changes at each report of a job (job_state) is apart from what never changes and may be long (job_spec). */
#ifndef TAUT_DB_INTERNAL_H
#define TAUT_DB_INTERNAL_H

#include <sqlite3.h>

#include "base/buf.h"
#include "db/db.h"

#define DB_SLOTS     256 /* metrics a trial can have */
#define DB_INLINE    16  /* of them in its own row; the rest lies in trial_more, as many a row */
#define DB_FILE      "taut.db"
#define DB_LOCK_FILE "taut.lock"

#define DB_SQL_MAP(X)                                                                                                  \
    X(SQL_BEGIN, "BEGIN IMMEDIATE")                                                                                    \
    X(SQL_COMMIT, "COMMIT")                                                                                            \
    X(SQL_ROLLBACK, "ROLLBACK")                                                                                        \
    X(SQL_EVENT_INSERT, "INSERT INTO event(job,seq,at,type,body) VALUES(?,?,?,?,?)")                                   \
    X(SQL_EVENT_LAST, "SELECT max(seq) FROM event WHERE job=?")                                                        \
    X(SQL_JOB_SPEC_INSERT, "INSERT INTO job_spec(id,name,submitted,seed,identity,files,at) VALUES(?,?,?,?,?,?,?)")     \
    X(SQL_JOB_STATE_INSERT, "INSERT INTO job_state(id,state,evaluations,hours,joules,busy_s,spent_joules)"             \
                            " VALUES(?,'running',?,?,?,0,0)")                                                          \
    X(SQL_JOB_SPENT, "SELECT busy_s,spent_joules FROM job_state WHERE id=?")                                           \
    X(SQL_JOB_SPEND, "UPDATE job_state SET busy_s=?2,spent_joules=?3 WHERE id=?1")                                     \
    X(SQL_JOB_STATE, "UPDATE job_state SET state=?2,reason=?3 WHERE id=?1")                                            \
    X(SQL_JOB_BUDGET, "UPDATE job_state SET evaluations=?2,hours=?3,joules=?4 WHERE id=?1")                            \
    X(SQL_JOB_TARGET, "UPDATE job_state SET target=?2 WHERE id=?1")                                                    \
    X(SQL_JOB_LAST, "SELECT body FROM event WHERE job=?1 AND type=?2 ORDER BY seq DESC LIMIT 1")                        \
    X(SQL_JOB_REFERENCE, "UPDATE job_state SET reference=?2 WHERE id=?1")                                              \
    X(SQL_JOB_WALK, "SELECT j.id,s.name,j.state,s.identity,j.reason,s.submitted,s.files,s.seed,j.evaluations,j.hours," \
                    "j.joules,j.target,j.busy_s,j.spent_joules,s.at,(SELECT max(seq) FROM event e WHERE e.job=j.id),"  \
                    "j.reference FROM job_state j JOIN job_spec s USING(id) WHERE ?1=0 OR j.id=?1 ORDER BY j.id")      \
    X(SQL_JOB_EVENTS, "SELECT type,body FROM event WHERE job=? ORDER BY seq")                                          \
    X(SQL_TRIAL_PROPOSALS, "SELECT max(proposal) FROM trial_data WHERE job=?")                                         \
    X(SQL_TRIAL_GET, "SELECT job,state,epoch,lease,metric_set,curve IS NOT NULL,"                                      \
                     "(SELECT count(*) FROM trial_rung g WHERE g.trial=id) FROM trial_data WHERE id=?")                \
    X(SQL_TRIAL_PROMOTE, "UPDATE trial_data SET state=0,reported_seq=NULL,reported_at=NULL,busy_total=NULL,curve=NULL" \
                         " WHERE id=?")                                                                                \
    X(SQL_RUNG_INSERT, "INSERT INTO trial_rung(trial,rung,device,reported_seq,reported_at,busy_total,joules,metrics,"  \
                       "curve,checkpoint) SELECT id,?2,device,reported_seq,reported_at,busy_total,joules,?3,curve,"    \
                       "(SELECT json_object('path',path,'hash',hash,'bytes',bytes,'tokens',tokens) FROM checkpoint"    \
                       " WHERE trial=id) FROM trial_data WHERE id=?1")                                                 \
    X(SQL_RUNG_CURVE, "SELECT curve FROM trial_rung WHERE trial=?1 AND rung=?2 UNION ALL SELECT curve FROM trial_data"  \
                      " WHERE id=?1 AND ?2=(SELECT count(*) FROM trial_rung WHERE trial=?1)")                          \
    X(SQL_RUNG_SHOW, "SELECT rung,reported_at,metrics,curve,checkpoint FROM trial_rung WHERE trial=? ORDER BY rung")   \
    X(SQL_STABLE_PUT, "INSERT OR REPLACE INTO stable(trial,path,hash,bytes,tokens) VALUES(?,?,?,?,?)")                 \
    X(SQL_STABLE_TAKE, "INSERT OR REPLACE INTO checkpoint SELECT * FROM stable WHERE trial=?")                         \
    X(SQL_STABLE_DELETE, "DELETE FROM stable WHERE trial=?")                                                           \
    X(SQL_AUDIT_INSERT, "INSERT OR IGNORE INTO audit(trial,seq,rung,drawn) VALUES(?,?,?,?)")                            \
    X(SQL_VERDICT_PUT, "INSERT OR REPLACE INTO verdict(job,seq,shortcut,relied,proposals) VALUES(?,?,?,?,?)")           \
    X(SQL_LEASE_MODELLED, "SELECT body FROM event WHERE job=?1 AND type='modelled' AND json_extract(body,'$.lease')=?2 AND" \
                          " json_extract(body,'$.epoch')=?3 ORDER BY seq DESC LIMIT 1")                                  \
    X(SQL_REPEAT_FIND, "SELECT 1 FROM trial_data t WHERE t.id=?1 AND t.job=?2 AND t.arch=?3 AND NOT EXISTS(SELECT 1 FROM repeat r WHERE r.trial=?1)") \
    X(SQL_REPEAT_INSERT, "INSERT INTO repeat(trial,of,number,kind) VALUES(?1,?2,1+(SELECT count(*) FROM repeat WHERE of=?2),?3)") \
    X(SQL_ESTIMATE_INSERT, "INSERT INTO estimate(trial,rung,name,seq,median,low,high,saved,holds) VALUES(?1,?2,?3,?4,?5,?6,?7,?8,?8)") \
    X(SQL_ESTIMATE_MEASURED, "UPDATE estimate SET holds=0 WHERE trial=?1 AND name=?2 AND holds=1")                       \
    X(SQL_QUALITY_OF, "SELECT slot,ratio,ratio_low,ratio_high,anchor,converged,disturbed,rejected FROM metric_quality" \
                      " WHERE trial=?")                                                                                \
    X(SQL_QUALITY_MOVE, "UPDATE metric_quality SET slot=?3 WHERE trial=?1 AND slot=?2")                                \
    X(SQL_QUALITY_DELETE, "DELETE FROM metric_quality WHERE trial=? AND slot=?")                                       \
    X(SQL_TRIAL_LEASE, "UPDATE trial_data SET state=?5,epoch=?2,lease=?3,device=?4 WHERE id=?1")                        \
    X(SQL_TRIAL_RETURN, "UPDATE trial_data SET state=?3,busy_s=busy_s+?2 WHERE id=?1")                                 \
    X(SQL_TRIAL_STATE, "UPDATE trial_data SET state=?2 WHERE id=?1")                                                   \
    X(SQL_TRIAL_CURVE, "UPDATE trial_data SET curve=?2 WHERE id=?1")                                                   \
    X(SQL_TRIAL_CURVE_GET, "SELECT curve FROM trial_data WHERE id=?")                                                  \
    X(SQL_LEASE_INSERT, "INSERT INTO lease(trial,lease,task,evaluator,epoch,expires,device) VALUES(?,?,?,?,?,?,?)")    \
    X(SQL_LEASE_DELETE, "DELETE FROM lease WHERE trial=?")                                                             \
    X(SQL_LEASE_WALK, "SELECT l.lease,l.trial,t.job,l.evaluator,l.epoch,l.expires,t.state IN (1,8) AND t.lease=l.lease AND" \
                      " t.epoch=l.epoch FROM lease l JOIN trial_data t ON t.id=l.trial UNION ALL"                      \
                      " SELECT lease,0,job,evaluator,epoch,expires,1 FROM supernet WHERE state='leased' ORDER BY 1")   \
    X(SQL_SUPERNET_GET, "SELECT state,epoch,lease FROM supernet WHERE job=?")                                          \
    X(SQL_SUPERNET_LEASE, "INSERT INTO supernet(job,state,epoch,lease,evaluator,device,expires,busy_s)"                \
                          " VALUES(?1,'leased',?2,?3,?4,?5,?6,0) ON CONFLICT(job) DO UPDATE SET state='leased',"       \
                          "epoch=?2,lease=?3,evaluator=?4,device=?5,expires=?6,error=NULL")                            \
    X(SQL_SUPERNET_CHECKPOINT, "UPDATE supernet SET path=?2,hash=?3,bytes=?4,tokens=?5 WHERE job=?1")                  \
    X(SQL_SUPERNET_END, "UPDATE supernet SET state=?2,busy_s=busy_s+?3,joules=?4,error=?5 WHERE job=?1")               \
    X(SQL_SUPERNET_SHOW, "SELECT state,epoch,device,busy_s,joules,error,path,hash,bytes,tokens FROM supernet WHERE job=?") \
    X(SQL_CHECKPOINT_PUT, "INSERT OR REPLACE INTO checkpoint(trial,path,hash,bytes,tokens) VALUES(?,?,?,?,?)")         \
    X(SQL_CHECKPOINT_GET, "SELECT path,hash,bytes,tokens FROM checkpoint WHERE trial=?")                               \
    X(SQL_QUALITY_INSERT, "INSERT INTO metric_quality(trial,slot,ratio,ratio_low,ratio_high,anchor,converged,disturbed,"  \
                          "rejected) VALUES(?,?,?,?,?,?,?,?,?)")                                                     \
    X(SQL_DEVICE_INSERT, "INSERT INTO device(id,kind,body) VALUES(?,?,?)")                                             \
    X(SQL_DEVICE_GET, "SELECT kind,body FROM device WHERE id=?")                                                       \
    X(SQL_DEVICE_WALK, "SELECT id,kind,body FROM device ORDER BY id")                                                  \
    X(SQL_EVALUATOR_WALK, "SELECT id,device,name FROM evaluator ORDER BY id")                                         \
    X(SQL_EVALUATOR_PUT, "INSERT OR REPLACE INTO evaluator(id,name,device) VALUES(?,?,?)")                             \
    X(SQL_SET_INSERT, "INSERT INTO metric_set(id,slot,name,measured) VALUES(?,?,?,?)")                                 \
    X(SQL_SET_WALK, "SELECT id,slot,name,measured FROM metric_set ORDER BY id,slot")                                   \
    X(SQL_TRIAL_SHOW,                                                                                                  \
      "SELECT t.job,t.arch,t.state,t.seed,t.proposal,t.origin,t.curve,t.error,t.device,t.epoch,t.busy_s,"              \
      "t.joules,json_extract(e.body,'$.arch'),t.reported_at,"                                                           \
      "(SELECT count(*) FROM trial_rung g WHERE g.trial=t.id) FROM trial_data t"                                         \
      " JOIN event e ON e.job=t.job AND e.seq=t.proposed_seq WHERE t.id=?")                                            \
    X(SQL_TRIAL_METRICS, "SELECT name,device,median,low,high,n,ratio,ratio_low,ratio_high,anchor,converged,disturbed,"  \
                         "rejected FROM metric_newest WHERE trial=?")                                                         \
    X(SQL_ARCH_FIND, "SELECT id,arch FROM trial_data WHERE arch>=?1 AND arch<?2 AND (?3=0 OR job=?3) AND NOT EXISTS(SELECT 1 FROM repeat r WHERE r.trial=trial_data.id)"                  \
                     " ORDER BY arch,id DESC")

enum db_sql {
#define X(name, text) name,
    DB_SQL_MAP(X)
#undef X
        SQL_COUNT
};

struct db_set { /* names of the slots of some trials */
    int64_t id;
    char *key;   /* per slot 'p' (paper) or 'm' (measured), the name, '\n'; owned */
    char *names; /* the same, cut into strings; owned */
    int n;
    const char *name[DB_SLOTS];
    bool measured[DB_SLOTS];
};

/* Values on their way into slots: sorted by name. */
struct db_slots {
    int n;
    const char *name[DB_SLOTS]; /* borrowed */
    bool measured[DB_SLOTS];
    double median[DB_SLOTS], low[DB_SLOTS], high[DB_SLOTS]; /* low, high: NaN where none */
    int64_t count[DB_SLOTS];                                /* samples; 0: an estimate; -1: not said */
    json_t *given[DB_SLOTS];                                /* the object that a report gave; borrowed; NULL: none */
};

/* Statements that end in n slots (at most DB_INLINE); parameters in the order of their columns. */
enum db_slots_kind {
    DB_SLOTS_SELECT, /* (id): metric_set, slots */
    DB_SLOTS_INSERT, /* (id, job, proposal, arch, proposed_seq, seed, origin, genome, metric_set, slots) */
    DB_SLOTS_UPDATE, /* (state, device, reported_seq, reported_at, busy_s, busy_total, joules, curve, error, metric_set,
                        slots, id) */
    DB_MORE_SELECT,  /* (trial, chunk): trial, slots */
    DB_MORE_PUT,     /* (trial, chunk, slots) */
    DB_SLOTS_KINDS
};

struct db_jobinfo {
    int64_t id, seq, proposals; /* last seq; number of proposals */
    double busy_s, joules;
    bool exists;
};

struct db {
    sqlite3 *sql;
    char *path;  /* of the file; NULL for a replay */
    int lock_fd; /* -1: none */
    bool readonly, in_tx;
    bool broken; /* a statement of this transaction failed: only a rollback may follow */
    char error[256];
    sqlite3_stmt *stmt[SQL_COUNT];
    sqlite3_stmt *slots[DB_SLOTS_KINDS][DB_INLINE + 1]; /* by number of slots */
    int64_t known_device;                               /* one that is in the table; 0: none yet */
    int64_t next[4];                                    /* by db_table; 0: not asked yet */
    struct db_jobinfo *job;                             /* what was touched since the last rollback */
    int njobs, cap_jobs;
    struct db_set **set; /* by id - 1 */
    int nsets, cap_sets;
    struct base_buf body, key, text, blob;
};

/* ---- store.c ---- */
st_t db_status(int rc, int sys_errno);
/* The last SQLite call on db failed: remembers its words, marks an open transaction as broken. */
st_t db_fail(struct db *db, const char *where, struct base_err *err);
sqlite3_stmt *db_stmt(struct db *db, enum db_sql id); /* NULL: db_fail next */
const char *db_sql_text(enum db_sql id);
sqlite3_stmt *db_prepare(struct db *db, sqlite3_stmt **slot, const char *sql); /* cached in *slot */
/* Runs s to its end and resets it. ST_OK or what db_fail says. */
st_t db_run(struct db *db, sqlite3_stmt *s, struct base_err *err);
st_t db_exec(struct db *db, const char *sql, struct base_err *err);
/* An empty store in a temporary file of SQLite's, for a replay. */
st_t db_open_temp(struct db **out, struct base_err *err);
void db_forget(struct db *db); /* drops what is cached about jobs and sets, after a rollback */
st_t db_sets_load(struct db *db, struct base_err *err);

/* ---- schema.c ---- */
typedef st_t (*db_step_fn)(sqlite3 *sql);
/* From user_version to nsteps, each step and its new version in one transaction. */
st_t db_migrate(struct db *db, const db_step_fn *steps, int nsteps, struct base_err *err);
extern const db_step_fn db_steps[DB_VERSION];

/* ---- fold.c ---- */
/* Checks the event and writes what it means into the tables (not the event itself). */
st_t db_fold(struct db *db, int64_t job, int64_t seq, int64_t at_ms, const char *type, json_t *body,
             struct base_err *err);
/* Cached; NULL when memory is out or a read failed (*st). Valid until the next call. */
struct db_jobinfo *db_job_info(struct db *db, int64_t job, st_t *st, struct base_err *err);

/* ---- slots.c ---- */
/* {name: number | {median, low, high, n, …}} into s, over what is there of the same name. Paper: measured false. */
st_t db_slots_add(struct db_slots *s, json_t *metrics, bool measured, const char *where, struct base_err *err);
/* The set of those names, made if it is new. */
st_t db_slots_set(struct db *db, const struct db_slots *s, int64_t *id, struct base_err *err);
/* The trial's slots as they are; set: its metric_set. Names live until the next rollback. */
st_t db_slots_get(struct db *db, int64_t trial, int64_t set, struct db_slots *s, struct base_err *err);
sqlite3_stmt *db_slots_stmt(struct db *db, enum db_slots_kind kind, int n); /* NULL: db_fail next */
static inline int db_slots_inline(const struct db_slots *s)
{
    return s->n < DB_INLINE ? s->n : DB_INLINE;
}
/* Binds the n slots from number first on to the parameters from at on (what s lacks: NULL); returns the next. */
int db_slots_bind(sqlite3_stmt *stmt, int at, const struct db_slots *s, int first, int n);
/* Slots that do not fit the trial's own row. */
st_t db_slots_more(struct db *db, int64_t trial, const struct db_slots *s, struct base_err *err);
/* How far the values can be believed, for those slots whose report says something of it. */
st_t db_slots_quality(struct db *db, int64_t trial, const struct db_slots *s, struct base_err *err);
/* The trial has new slots, and now (all that it has) holds what fresh (a report's metrics) did not bring: its slots before are old's. Moves what is known of how far
 * they can be believed, and forgets it of what fresh has. */
st_t db_slots_requality(struct db *db, int64_t trial, const struct db_slots *now, const struct db_set *old, json_t *fresh, struct base_err *err);
/* All of it as JSON into db->text: {"name": [median, low, high, n, measured 0|1, ratio, ratio_low, ratio_high, anchor, converged, disturbed, rejected]}, null
 * where there is none, from the ratio on only where something is known. */
st_t db_slots_text(struct db *db, int64_t trial, const struct db_slots *s, struct base_err *err);
void db_set_free(struct db_set *set);

/* ---- curve.c ---- */
/* These points as JSON into db->text, with the trial's own where it has some (more). NULL curve: nothing. */
st_t db_curve_merge(struct db *db, int64_t trial, bool more, json_t *curve, const char *where, struct base_err *err);

/* ---- text.c ---- */
/* JSON of v, compact; numbers read back to the same bits. Faster than jansson's writer by a multiple (SPEED.md). */
void db_json_text(const json_t *v, struct base_buf *b);
int db_num_text(double v, char *buf); /* at least 40 bytes; length */
/* Genes as they lie in trial_data: one byte each where all are whole numbers in 0..255 (tag 0), else doubles (tag 1).
 */
void db_genome_pack(const json_t *genes, struct base_buf *b);

#endif
