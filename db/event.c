/* Appending and walking events. */
#include <stdlib.h>
#include <string.h>

#include "db/internal.h"

struct db_jobinfo *db_job_info(struct db *db, int64_t job, st_t *st, struct base_err *err)
{
    *st = ST_OK;
    for (int i = db->njobs - 1; i >= 0; i--) /* the newest are the busy ones */
        if (db->job[i].id == job) return &db->job[i];
    if (db->njobs == db->cap_jobs) {
        int cap = db->cap_jobs ? db->cap_jobs * 2 : 16;
        struct db_jobinfo *p = realloc(db->job, (size_t)cap * sizeof *p);
        if (!p) {
            *st = base_err_set(err, ST_ENOMEM, "", "out of memory");
            return NULL;
        }
        db->job = p;
        db->cap_jobs = cap;
    }
    struct db_jobinfo j = {.id = job};
    sqlite3_stmt *q[3] = {db_stmt(db, SQL_EVENT_LAST), db_stmt(db, SQL_TRIAL_PROPOSALS), db_stmt(db, SQL_JOB_SPENT)};
    for (int i = 0; i < 3 && !*st; i++) {
        int rc = q[i] ? sqlite3_bind_int64(q[i], 1, job) : SQLITE_ERROR;
        if (q[i]) rc = sqlite3_step(q[i]);
        if (rc == SQLITE_ROW && i == 0) j.seq = sqlite3_column_int64(q[i], 0);
        if (rc == SQLITE_ROW && i == 1 && sqlite3_column_type(q[i], 0) != SQLITE_NULL)
            j.proposals = sqlite3_column_int64(q[i], 0) + 1;
        if (rc == SQLITE_ROW && i == 2) {
            j.exists = true;
            j.busy_s = sqlite3_column_double(q[i], 0);
            j.joules = sqlite3_column_double(q[i], 1);
        }
        if (rc != SQLITE_ROW && rc != SQLITE_DONE) *st = db_fail(db, db->path, err);
        if (q[i]) sqlite3_reset(q[i]);
    }
    if (*st) return NULL;
    db->job[db->njobs] = j;
    return &db->job[db->njobs++];
}

st_t db_event_append(struct db *db, int64_t job, const char *type, json_t *body, int64_t at_ms, int64_t *seq,
                     struct base_err *err)
{
    if (!db->in_tx || db->broken)
        return base_err_set(err, ST_ESTATE, "", "%s",
                            db->in_tx ? "the transaction has failed; roll it back" : "no transaction");
    st_t st;
    struct db_jobinfo *j = db_job_info(db, job, &st, err);
    if (!j) return st;
    int64_t n = j->seq + 1;
    base_buf_reset(&db->body);
    if (!json_is_object(body)) return base_err_set(err, ST_EINVAL, type, "must be an object");
    db_json_text(body, &db->body);
    if (db->body.st) return base_err_set(err, ST_ENOMEM, type, "out of memory");
    if ((st = db_fold(db, job, n, at_ms, type, body, err))) return st;
    sqlite3_stmt *q = db_stmt(db, SQL_EVENT_INSERT);
    sqlite3_bind_int64(q, 1, job);
    sqlite3_bind_int64(q, 2, n);
    sqlite3_bind_int64(q, 3, at_ms);
    sqlite3_bind_text(q, 4, type, -1, SQLITE_STATIC);
    sqlite3_bind_text(q, 5, db->body.p, (int)db->body.len, SQLITE_STATIC);
    if ((st = db_run(db, q, err))) return st;
    if (seq) *seq = n;
    return ST_OK;
}

st_t db_events(struct db *db, int64_t job, int64_t after_seq, int64_t limit, db_event_fn fn, void *ctx)
{
    /* Its own statement, so that a callback may walk too. */
    sqlite3_stmt *q;
    if (sqlite3_prepare_v2(db->sql, "SELECT job,seq,at,type,body FROM event WHERE job=? AND seq>? ORDER BY seq LIMIT ?",
                           -1, &q, NULL))
        return db_fail(db, db->path, NULL);
    sqlite3_bind_int64(q, 1, job);
    sqlite3_bind_int64(q, 2, after_seq);
    sqlite3_bind_int64(q, 3, limit);
    st_t st = ST_OK;
    int rc;
    while ((rc = sqlite3_step(q)) == SQLITE_ROW && !st) {
        struct db_event e = {sqlite3_column_int64(q, 0), sqlite3_column_int64(q, 1), sqlite3_column_int64(q, 2),
                             (const char *)sqlite3_column_text(q, 3), (const char *)sqlite3_column_text(q, 4)};
        st = e.type && e.body ? fn(ctx, &e) : ST_ENOMEM;
    }
    if (!st && rc != SQLITE_DONE) st = db_fail(db, db->path, NULL);
    sqlite3_finalize(q);
    return st;
}
