/* The tables, and how older versions become this one. */
#include <stdio.h>

#include "db/internal.h"

/* STRICT: what a column holds has the type it says, also after somebody else's hand was in the file (quick_check
 * looks). */
static const char TABLES[] =
    "CREATE TABLE event(job INTEGER NOT NULL, seq INTEGER NOT NULL, at INTEGER NOT NULL, type TEXT NOT NULL, body TEXT "
    "NOT NULL,"
    " PRIMARY KEY(job, seq)) STRICT;"
    "CREATE TABLE device(id INTEGER PRIMARY KEY, kind TEXT NOT NULL, body TEXT NOT NULL) STRICT;"
    "CREATE TABLE evaluator(id INTEGER PRIMARY KEY, name TEXT NOT NULL, device INTEGER NOT NULL REFERENCES device(id)) "
    "STRICT;"
    "CREATE TABLE job_spec(id INTEGER PRIMARY KEY, name TEXT NOT NULL, submitted TEXT NOT NULL, seed INTEGER NOT NULL,"
    " identity TEXT NOT NULL, files TEXT, at INTEGER NOT NULL) STRICT;"
    "CREATE TABLE job_state(id INTEGER PRIMARY KEY REFERENCES job_spec(id), state TEXT NOT NULL, reason TEXT, "
    "evaluations REAL,"
    " hours REAL, joules REAL, target INTEGER REFERENCES device(id), reference TEXT, busy_s REAL NOT NULL,"
    " spent_joules REAL NOT NULL) STRICT;"
    "CREATE TABLE lease(trial INTEGER PRIMARY KEY REFERENCES trial_data(id), lease INTEGER NOT NULL, task TEXT NOT "
    "NULL,"
    " evaluator INTEGER NOT NULL, epoch INTEGER NOT NULL, expires INTEGER NOT NULL, device INTEGER NOT NULL) STRICT;"
    "CREATE TABLE checkpoint(trial INTEGER PRIMARY KEY REFERENCES trial_data(id), path TEXT NOT NULL, hash TEXT NOT "
    "NULL,"
    " bytes INTEGER NOT NULL, tokens REAL NOT NULL) STRICT;"
    "CREATE TABLE metric_set(id INTEGER NOT NULL, slot INTEGER NOT NULL, name TEXT NOT NULL, measured INTEGER NOT NULL,"
    " PRIMARY KEY(id, slot)) STRICT, WITHOUT ROWID;";

/* The row's tail, after the slots: what an archive does not load. */
static const char TRIAL_HEAD[] =
    "CREATE TABLE trial_data(id INTEGER PRIMARY KEY, job INTEGER NOT NULL REFERENCES job_spec(id), proposal INTEGER "
    "NOT NULL,"
    " arch TEXT NOT NULL, state INTEGER NOT NULL, epoch INTEGER NOT NULL, lease INTEGER NOT NULL, device INTEGER,"
    " proposed_seq INTEGER NOT NULL, reported_seq INTEGER, reported_at INTEGER, busy_total REAL, busy_s REAL NOT NULL, "
    "joules REAL,"
    " seed INTEGER NOT NULL, origin TEXT NOT NULL, genome BLOB NOT NULL, metric_set INTEGER NOT NULL";
static const char TRIAL_TAIL[] = ", curve TEXT, error TEXT, UNIQUE(job, proposal)) STRICT;"
                                 "CREATE INDEX trial_arch ON trial_data(arch);";

static const char VIEWS[] =
    "CREATE VIEW job AS SELECT j.id AS id, s.name AS name, j.state AS state, j.reason AS reason, s.submitted AS "
    "submitted,"
    " s.seed AS seed, s.identity AS identity, s.files AS files, s.at AS at, j.evaluations AS evaluations, j.hours AS "
    "hours,"
    " j.joules AS joules, j.target AS target, j.reference AS reference, j.busy_s AS busy_s, j.spent_joules AS "
    "spent_joules"
    " FROM job_state j JOIN job_spec s ON s.id=j.id;"
    "CREATE VIEW trial AS SELECT id, job, proposal, arch, origin, 0 AS rung,"
    " CASE state WHEN 0 THEN 'ready' WHEN 1 THEN 'leased' WHEN 2 THEN 'ok' ELSE 'failed' END AS state, seed, epoch, "
    "device,"
    " reported_at AS reported, busy_s, joules, error FROM trial_data;"
    "CREATE VIEW arch AS SELECT t.arch AS id, json_extract(e.body,'$.arch') AS canonical,"
    " json_extract(e.body,'$.paper.params') AS params, json_extract(e.body,'$.paper.weight_bytes') AS weight_bytes,"
    " json_extract(e.body,'$.paper') AS paper FROM trial_data t JOIN event e ON e.job=t.job AND e.seq=t.proposed_seq"
    " WHERE t.id=(SELECT min(u.id) FROM trial_data u WHERE u.arch=t.arch);"
    "CREATE VIEW curve AS SELECT t.id AS trial, 0 AS rung, json_extract(p.value,'$[0]') AS tokens,"
    " json_extract(p.value,'$[1]') AS loss FROM trial_data t, json_each(t.curve) p;";

/* ", m0 REAL, l0 REAL, h0 REAL, n0 INTEGER, m1 …": median, low, high and count of each slot */
static void slot_columns(struct base_buf *b)
{
    for (int i = 0; i < DB_INLINE; i++) base_buf_printf(b, ", m%d REAL, l%d REAL, h%d REAL, n%d INTEGER", i, i, i, i);
}

/* CASE s.slot<first> WHEN 0 THEN m0 WHEN 1 THEN m1 … END AS median, and so on */
static void slot_cases(struct base_buf *b, const char *first, char table)
{
    static const char *const NAMES[] = {"median", "low", "high", "n"};
    for (int k = 0; k < 4; k++) {
        base_buf_printf(b, ", CASE s.slot%s", first);
        for (int i = 0; i < DB_INLINE; i++) base_buf_printf(b, " WHEN %d THEN %c.%c%d", i, table, "mlhn"[k], i);
        base_buf_printf(b, " END AS %s", NAMES[k]);
    }
}

_Static_assert(DB_INLINE == 16, "create_v1 says %16; another layout is another version");

static const char METRIC_HEAD[] =
    "SELECT t.id AS trial, 0 AS rung, s.name AS name, CASE WHEN s.measured THEN t.device END AS device,"
    " 0 AS repeat";

/* Each slot of each trial a row; more: further columns, from what `with` joins to s (metric_set) and t (trial_data). */
static void metric_view(struct base_buf *b, const char *more, const char *with)
{
    base_buf_printf(b, "CREATE VIEW metric AS %s", METRIC_HEAD);
    slot_cases(b, "", 't');
    base_buf_printf(b, "%s FROM trial_data t JOIN metric_set s ON s.id=t.metric_set AND s.slot<%d%s UNION ALL %s", more,
                    DB_INLINE, with, METRIC_HEAD);
    slot_cases(b, "%16", 'r');
    base_buf_printf(b,
                    "%s FROM trial_more r JOIN trial_data t ON t.id=r.trial JOIN metric_set s ON s.id=t.metric_set"
                    " AND s.slot>=r.chunk*%d AND s.slot<r.chunk*%d+%d%s;",
                    more, DB_INLINE, DB_INLINE, DB_INLINE, with);
}

/* Frees b. */
static st_t run(sqlite3 *sql, struct base_buf *b)
{
    st_t st = b->st ? b->st : sqlite3_exec(sql, b->p, NULL, NULL, NULL) ? ST_EIO : ST_OK;
    base_buf_fini(b);
    return st;
}

static st_t run_text(sqlite3 *sql, const char *text)
{
    return sqlite3_exec(sql, text, NULL, NULL, NULL) ? ST_EIO : ST_OK;
}

static st_t create_v1(sqlite3 *sql)
{
    struct base_buf b = BASE_BUF_INIT;
    base_buf_str(&b, TABLES);
    base_buf_str(&b, TRIAL_HEAD);
    slot_columns(&b);
    base_buf_str(&b, TRIAL_TAIL);
    base_buf_str(&b,
                 "CREATE TABLE trial_more(trial INTEGER NOT NULL REFERENCES trial_data(id), chunk INTEGER NOT NULL");
    slot_columns(&b);
    base_buf_str(&b, ", PRIMARY KEY(trial, chunk)) STRICT, WITHOUT ROWID;");
    base_buf_str(&b, VIEWS);
    metric_view(&b, "", "");
    base_buf_printf(&b, "PRAGMA application_id=%d;", DB_APPLICATION_ID);
    return run(sql, &b);
}

/* Version 2: how far a measured value can be believed. A table, not columns of each slot: few values have it. */
static const char QUALITY[] =
    "CREATE TABLE metric_quality(trial INTEGER NOT NULL REFERENCES trial_data(id), slot INTEGER NOT NULL, ratio REAL,"
    " ratio_low REAL, ratio_high REAL, anchor TEXT, converged INTEGER, disturbed REAL, rejected INTEGER,"
    " PRIMARY KEY(trial, slot)) STRICT, WITHOUT ROWID;"
    "DROP VIEW metric;";

static st_t to_v2(sqlite3 *sql)
{
    struct base_buf b = BASE_BUF_INIT;
    base_buf_str(&b, QUALITY);
    metric_view(&b, ", q.ratio, q.ratio_low, q.ratio_high, q.anchor, q.converged, q.disturbed, q.rejected",
                " LEFT JOIN metric_quality q ON q.trial=t.id AND q.slot=s.slot");
    return run(sql, &b);
}

/* Version 3: rungs. What a trial was reported with on a rung that it was promoted from; its values as text, for they are read as a whole. */
static const char RUNGS[] =
    "CREATE TABLE trial_rung(trial INTEGER NOT NULL REFERENCES trial_data(id), rung INTEGER NOT NULL, device INTEGER NOT NULL,"
    " reported_seq INTEGER NOT NULL, reported_at INTEGER NOT NULL, busy_total REAL NOT NULL, joules REAL, metrics TEXT NOT NULL,"
    " curve TEXT, checkpoint TEXT, PRIMARY KEY(trial, rung)) STRICT, WITHOUT ROWID;"
    "CREATE TABLE stable(trial INTEGER PRIMARY KEY REFERENCES trial_data(id), path TEXT NOT NULL, hash TEXT NOT NULL,"
    " bytes INTEGER NOT NULL, tokens REAL NOT NULL) STRICT;"
    "DROP VIEW metric;"
    "DROP VIEW trial;"
    "DROP VIEW curve;"
    "CREATE VIEW trial AS SELECT id, job, proposal, arch, origin, (SELECT count(*) FROM trial_rung g WHERE g.trial=id) AS rung,"
    " CASE state WHEN 0 THEN 'ready' WHEN 1 THEN 'leased' WHEN 2 THEN 'ok' WHEN 3 THEN 'failed' ELSE 'pruned' END AS state, seed, epoch,"
    " device, coalesce(reported_at, (SELECT max(reported_at) FROM trial_rung g WHERE g.trial=id)) AS reported, busy_s, joules, error"
    " FROM trial_data;"
    "CREATE VIEW curve AS SELECT t.id AS trial, (SELECT count(*) FROM trial_rung g WHERE g.trial=t.id) AS rung,"
    " json_extract(p.value,'$[0]') AS tokens, json_extract(p.value,'$[1]') AS loss FROM trial_data t, json_each(t.curve) p"
    " UNION ALL SELECT r.trial, r.rung, json_extract(p.value,'$[0]'), json_extract(p.value,'$[1]') FROM trial_rung r, json_each(r.curve) p;";

/* metric_newest: what holds of a trial now. metric: what it was reported with on each rung; one that was promoted and not reported since has nothing on its own. */
static void metric_views_v3(struct base_buf *b, const char *metric)
{
    static const char head[] = "SELECT t.id AS trial, (SELECT count(*) FROM trial_rung g WHERE g.trial=t.id) AS rung, s.name AS name,"
                               " CASE WHEN s.measured THEN t.device END AS device, 0 AS repeat";
    static const char more[] = ", q.ratio, q.ratio_low, q.ratio_high, q.anchor, q.converged, q.disturbed, q.rejected",
                      with[] = " LEFT JOIN metric_quality q ON q.trial=t.id AND q.slot=s.slot";
    base_buf_printf(b, "CREATE VIEW metric_newest AS %s", head);
    slot_cases(b, "", 't');
    base_buf_printf(b, "%s FROM trial_data t JOIN metric_set s ON s.id=t.metric_set AND s.slot<%d%s UNION ALL %s", more, DB_INLINE, with, head);
    slot_cases(b, "%16", 'r');
    base_buf_printf(b,
                    "%s FROM trial_more r JOIN trial_data t ON t.id=r.trial JOIN metric_set s ON s.id=t.metric_set"
                    " AND s.slot>=r.chunk*%d AND s.slot<r.chunk*%d+%d%s;"
                    "CREATE VIEW %s AS SELECT n.* FROM metric_newest n WHERE n.rung=0 OR"
                    " EXISTS(SELECT 1 FROM trial_data t WHERE t.id=n.trial AND t.reported_seq IS NOT NULL) UNION ALL "
                    "SELECT r.trial, r.rung, e.key, CASE WHEN json_extract(e.value,'$[4]') THEN r.device END, 0",
                    more, DB_INLINE, DB_INLINE, DB_INLINE, with, metric);
    for (int i = 0; i < 12; i++) {
        bool real = i < 3 || (i > 4 && i < 8) || i == 10;
        if (i != 4) base_buf_printf(b, real ? ", CAST(json_extract(e.value,'$[%d]') AS REAL)" : ", json_extract(e.value,'$[%d]')", i);
    }
    base_buf_str(b, " FROM trial_rung r, json_each(r.metrics) e;");
}

static st_t to_v3(sqlite3 *sql)
{
    struct base_buf b = BASE_BUF_INIT;
    base_buf_str(&b, RUNGS);
    metric_views_v3(&b, "metric");
    return run(sql, &b);
}

/* Version 4: the audit. Which trials were drawn, from which rung on they go to the top, and which shortcuts are relied on. */
static st_t to_v4(sqlite3 *sql)
{
    return run_text(sql, "CREATE TABLE audit(trial INTEGER PRIMARY KEY REFERENCES trial_data(id), seq INTEGER NOT NULL, rung INTEGER NOT NULL,"
                         " drawn TEXT NOT NULL) STRICT;"
                         "CREATE TABLE verdict(job INTEGER NOT NULL, seq INTEGER NOT NULL, shortcut TEXT NOT NULL, relied INTEGER NOT NULL,"
                         " proposals INTEGER NOT NULL, PRIMARY KEY(job, shortcut)) STRICT, WITHOUT ROWID;");
}

/* Version 5: the supernet of a job with shared weights, a task of its own. */
static st_t to_v5(sqlite3 *sql)
{
    return run_text(sql, "CREATE TABLE supernet(job INTEGER PRIMARY KEY REFERENCES job_spec(id), state TEXT NOT NULL, epoch INTEGER NOT NULL,"
                         " lease INTEGER NOT NULL, evaluator INTEGER NOT NULL, device INTEGER NOT NULL REFERENCES device(id), expires INTEGER NOT NULL,"
                         " busy_s REAL NOT NULL, joules REAL, error TEXT, path TEXT, hash TEXT, bytes INTEGER, tokens REAL) STRICT;");
}

/* Version 6: candidates that are scored first. Two states more are seen; 7 and 8 are those of one that waits to be scored, or is out for that. */
static st_t to_v6(sqlite3 *sql)
{
    return run_text(sql, "DROP VIEW trial;"
                         "CREATE VIEW trial AS SELECT id, job, proposal, arch, origin, (SELECT count(*) FROM trial_rung g WHERE g.trial=id) AS rung,"
                         " CASE state WHEN 0 THEN 'ready' WHEN 1 THEN 'leased' WHEN 2 THEN 'ok' WHEN 3 THEN 'failed' WHEN 4 THEN 'pruned' WHEN 5 THEN 'scored'"
                         " WHEN 6 THEN 'passed' WHEN 7 THEN 'ready' ELSE 'leased' END AS state, seed, epoch,"
                         " device, coalesce(reported_at, (SELECT max(reported_at) FROM trial_rung g WHERE g.trial=id)) AS reported, busy_s, joules, error"
                         " FROM trial_data;");
}

/* Version 7: what the latency model said of trials (saved: it was not measured; holds: and has not been since), and trials that repeat another, whose values stand in metric under that one's id. */
static st_t to_v7(sqlite3 *sql)
{
    struct base_buf b = BASE_BUF_INIT;
    base_buf_str(&b, "CREATE TABLE estimate(trial INTEGER NOT NULL REFERENCES trial_data(id), rung INTEGER NOT NULL, name TEXT NOT NULL,"
                     " seq INTEGER NOT NULL, median REAL NOT NULL, low REAL NOT NULL, high REAL NOT NULL, saved INTEGER NOT NULL, holds INTEGER NOT NULL,"
                     " PRIMARY KEY(trial, rung, name)) STRICT, WITHOUT ROWID;"
                     "CREATE TABLE repeat(trial INTEGER PRIMARY KEY REFERENCES trial_data(id), of INTEGER NOT NULL REFERENCES trial_data(id), number INTEGER NOT NULL,"
                     " kind TEXT NOT NULL) STRICT;"
                     "CREATE INDEX repeat_of ON repeat(of);"
                     "DROP VIEW metric;"
                     "DROP VIEW metric_newest;");
    metric_views_v3(&b, "metric_each");
    base_buf_str(&b, "CREATE VIEW metric AS SELECT m.* FROM metric_each m WHERE NOT EXISTS(SELECT 1 FROM repeat r WHERE r.trial=m.trial) UNION ALL "
                     "SELECT r.of, m.rung, m.name, m.device, r.number, m.median, m.low, m.high, m.n, m.ratio, m.ratio_low, m.ratio_high, m.anchor, m.converged, m.disturbed, m.rejected"
                     " FROM repeat r JOIN metric_each m ON m.trial=r.trial WHERE m.device IS NOT NULL;");
    return run(sql, &b);
}

const db_step_fn db_steps[DB_VERSION] = {create_v1, to_v2, to_v3, to_v4, to_v5, to_v6, to_v7};

st_t db_migrate(struct db *db, const db_step_fn *steps, int nsteps, struct base_err *err)
{
    sqlite3_stmt *s;
    if (sqlite3_prepare_v2(db->sql, "PRAGMA user_version", -1, &s, NULL)) return db_fail(db, db->path, err);
    int version = sqlite3_step(s) == SQLITE_ROW ? sqlite3_column_int(s, 0) : -1;
    if (sqlite3_finalize(s) || version < 0) return db_fail(db, db->path, err);
    for (; version < nsteps; version++) {
        char set[64];
        snprintf(set, sizeof set, "PRAGMA user_version=%d;COMMIT", version + 1);
        st_t st = db_exec(db, "BEGIN IMMEDIATE", err);
        if (st) return st;
        st = steps[version](db->sql);
        if (st == ST_ENOMEM)
            base_err_set(err, st, db->path, "out of memory");
        else if (st)
            st = db_fail(db, db->path, err);
        if (!st) st = db_exec(db, set, err);
        if (st) {
            if (!sqlite3_get_autocommit(db->sql)) sqlite3_exec(db->sql, "ROLLBACK", NULL, NULL, NULL);
            return st;
        }
    }
    return ST_OK;
}
