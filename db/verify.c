/* Is every table what the events say? All events are folded once more into an empty store, and the two are compared row
 * by row. */
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "db/internal.h"

static const struct {
    const char *name;
    int keys; /* the first columns are the key */
    const char *order;
} TABLES[] = {
    {"device", 1, "id"},    {"evaluator", 1, "id"},     {"job_spec", 1, "id"},
    {"job_state", 1, "id"}, {"trial_data", 1, "id"},    {"trial_more", 2, "trial,chunk"},
    {"metric_quality", 2, "trial,slot"},
    {"trial_rung", 2, "trial,rung"}, {"stable", 1, "trial"},
    {"audit", 1, "trial"}, {"verdict", 2, "job,seq"}, {"supernet", 1, "job"}, {"estimate", 2, "trial,rung,name"}, {"repeat", 1, "trial"},
    {"lease", 1, "trial"},  {"checkpoint", 1, "trial"}, {"metric_set", 2, "id,slot"},
};

static void value_text(sqlite3_value *v, char *buf, size_t size)
{
    int type = sqlite3_value_type(v);
    if (type == SQLITE_NULL)
        snprintf(buf, size, "nothing");
    else if (type == SQLITE_BLOB)
        snprintf(buf, size, "%d bytes", sqlite3_value_bytes(v));
    else
        snprintf(buf, size, "%.100s", (const char *)sqlite3_value_text(v));
}

static bool same_value(sqlite3_stmt *a, sqlite3_stmt *b, int i)
{
    int type = sqlite3_column_type(a, i);
    if (type != sqlite3_column_type(b, i)) return false;
    double x, y;
    switch (type) {
    case SQLITE_INTEGER:
        return sqlite3_column_int64(a, i) == sqlite3_column_int64(b, i);
    case SQLITE_FLOAT:
        x = sqlite3_column_double(a, i);
        y = sqlite3_column_double(b, i);
        return !memcmp(&x, &y, sizeof x);
    case SQLITE_NULL:
        return true;
    default: {
        const void *p = sqlite3_column_blob(a, i), *q = sqlite3_column_blob(b, i);
        int n = sqlite3_column_bytes(a, i);
        return n == sqlite3_column_bytes(b, i) && (n == 0 || (p && q && !memcmp(p, q, (size_t)n)));
    }
    }
}

static int compare_keys(sqlite3_stmt *a, sqlite3_stmt *b, int keys)
{
    for (int i = 0; i < keys; i++) {
        int64_t x = sqlite3_column_int64(a, i), y = sqlite3_column_int64(b, i);
        if (x != y) return x < y ? -1 : 1;
    }
    return 0;
}

static void row_name(sqlite3_stmt *q, int t, char *buf, size_t size)
{
    int n = snprintf(buf, size, "%s", TABLES[t].name);
    for (int i = 0; i < TABLES[t].keys; i++)
        n += snprintf(buf + n, size - (size_t)n, "[%s=%lld]", sqlite3_column_name(q, i),
                      (long long)sqlite3_column_int64(q, i));
}

static st_t compare_row(sqlite3_stmt *a, sqlite3_stmt *b, int t, struct base_err *err)
{
    for (int i = 0; i < sqlite3_column_count(a); i++) {
        if (same_value(a, b, i)) continue;
        char row[128], where[224], has[128], should[128];
        row_name(a, t, row, sizeof row);
        snprintf(where, sizeof where, "%s.%.60s", row, sqlite3_column_name(a, i));
        value_text(sqlite3_column_value(a, i), has, sizeof has);
        value_text(sqlite3_column_value(b, i), should, sizeof should);
        return base_err_set(err, ST_ECORRUPT, where, "the table has %s, its events say %s", has, should);
    }
    return ST_OK;
}

static st_t compare_table(struct db *db, struct db *replay, int t, struct base_err *err)
{
    char sql[128];
    sqlite3_stmt *a = NULL, *b = NULL;
    snprintf(sql, sizeof sql, "SELECT * FROM %s ORDER BY %s", TABLES[t].name, TABLES[t].order);
    st_t st = ST_OK;
    if (sqlite3_prepare_v2(db->sql, sql, -1, &a, NULL))
        st = db_fail(db, db->path, err);
    else if (sqlite3_prepare_v2(replay->sql, sql, -1, &b, NULL))
        st = db_fail(replay, "replay", err);
    else if (sqlite3_column_count(a) != sqlite3_column_count(b))
        st = base_err_set(err, ST_ECORRUPT, TABLES[t].name, "has other columns than it should");
    while (!st) {
        int ra = sqlite3_step(a), rb = sqlite3_step(b);
        if (ra != SQLITE_ROW && ra != SQLITE_DONE)
            st = db_fail(db, db->path, err);
        else if (rb != SQLITE_ROW && rb != SQLITE_DONE)
            st = db_fail(replay, "replay", err);
        else if (ra == SQLITE_DONE && rb == SQLITE_DONE)
            break;
        else {
            int order = ra == SQLITE_DONE ? 1 : rb == SQLITE_DONE ? -1 : compare_keys(a, b, TABLES[t].keys);
            char row[128];
            row_name(order > 0 ? b : a, t, row, sizeof row);
            if (order > 0)
                st = base_err_set(err, ST_ECORRUPT, row, "is missing; the events say it should be there");
            else if (order < 0)
                st = base_err_set(err, ST_ECORRUPT, row, "is there; the events say nothing of it");
            else
                st = compare_row(a, b, t, err);
        }
    }
    sqlite3_finalize(a);
    sqlite3_finalize(b);
    return st;
}

static st_t replay_event(struct db *replay, sqlite3_stmt *q, struct base_err *err)
{
    int64_t job = sqlite3_column_int64(q, 0), seq = sqlite3_column_int64(q, 1);
    const char *type = (const char *)sqlite3_column_text(q, 3), *text = (const char *)sqlite3_column_text(q, 4);
    char name[64], what[sizeof err->what];
    snprintf(name, sizeof name, "event[job=%lld][seq=%lld]", (long long)job, (long long)seq);
    struct base_err inner = BASE_ERR_INIT;
    st_t st;
    struct db_jobinfo *j = db_job_info(replay, job, &st, err);
    if (!j) return st;
    if (seq != j->seq + 1)
        return base_err_set(err, ST_ECORRUPT, name, "the event before it should be %lld, but is %lld",
                            (long long)seq - 1, (long long)j->seq);
    json_t *body = NULL;
    if (!type || !text) return base_err_set(err, ST_ENOMEM, name, "out of memory");
    st = base_json_parse(&body, text, (size_t)sqlite3_column_bytes(q, 4), "body", &inner);
    if (!st) st = db_fold(replay, job, seq, sqlite3_column_int64(q, 2), type, body, &inner);
    json_decref(body);
    if (!st) return ST_OK;
    base_err_text(&inner, what, sizeof what);
    bool own = st == ST_ENOMEM || st == ST_ENOSPC || st == ST_EIO;
    return base_err_set(err, own ? st : ST_ECORRUPT, name, own ? "%s" : "cannot have happened here: %s", what);
}

/* In the order in which they were committed: jobs refer to devices, and sets are numbered across jobs. */
static st_t replay_all(struct db *db, struct db *replay, struct base_err *err)
{
    sqlite3_stmt *q;
    if (sqlite3_prepare_v2(db->sql, "SELECT job,seq,at,type,body FROM event ORDER BY rowid", -1, &q, NULL))
        return db_fail(db, db->path, err);
    st_t st = db_begin(replay);
    if (st) base_err_set(err, st, "replay", "%s", replay->error);
    int rc = SQLITE_ROW;
    while (!st && (rc = sqlite3_step(q)) == SQLITE_ROW) st = replay_event(replay, q, err);
    if (!st && rc != SQLITE_DONE) st = db_fail(db, db->path, err);
    sqlite3_finalize(q);
    if (!st && (st = db_commit(replay))) base_err_set(err, st, "replay", "%s", replay->error);
    return st;
}

/* Pages, and every index against its table. */
static st_t check_file(struct db *db, struct base_err *err)
{
    sqlite3_stmt *q;
    if (sqlite3_prepare_v2(db->sql, "PRAGMA integrity_check(1)", -1, &q, NULL)) return db_fail(db, db->path, err);
    const char *text = sqlite3_step(q) == SQLITE_ROW ? (const char *)sqlite3_column_text(q, 0) : NULL;
    st_t st = !text                ? db_fail(db, db->path, err)
              : strcmp(text, "ok") ? base_err_set(err, ST_ECORRUPT, db->path, "%s", text)
                                   : ST_OK;
    sqlite3_finalize(q);
    return st;
}

st_t db_verify(struct db *db, struct base_err *err)
{
    struct db *replay;
    if (db->in_tx) return base_err_set(err, ST_ESTATE, db->path, "a transaction is open");
    st_t st = db_open_temp(&replay, err);
    if (st) return st;
    st = db_exec(db, "BEGIN", err); /* one moment for all that is read */
    if (!st) {
        st = check_file(db, err);
        if (!st) st = replay_all(db, replay, err);
        for (size_t t = 0; t < sizeof TABLES / sizeof *TABLES && !st; t++) st = compare_table(db, replay, (int)t, err);
        sqlite3_exec(db->sql, "ROLLBACK", NULL, NULL, NULL);
    }
    db_close(replay);
    return st;
}
