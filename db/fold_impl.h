/* What the files that fold events into tables share: reading an event's body, writing rows. Nobody else includes it. */
#ifndef TAUT_DB_FOLD_IMPL_H
#define TAUT_DB_FOLD_IMPL_H

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "db/internal.h"

struct fold {
    struct db *db;
    int64_t job, seq, at;
    struct db_jobinfo *info;
    struct base_jr r; /* on the body */
    struct base_err *err;
};

/* ---- reading the body ---- */

static inline int64_t need_int(struct fold *f, const char *key, int64_t min)
{
    base_jr_need(&f->r, key);
    return base_jr_int(&f->r, key, 0, min, INT64_MAX);
}

static inline double need_num(struct fold *f, const char *key)
{
    base_jr_need(&f->r, key);
    return base_jr_num(&f->r, key, 0, 0, HUGE_VAL);
}

static inline const char *need_str(struct fold *f, const char *key)
{
    base_jr_need(&f->r, key);
    const char *s = base_jr_str(&f->r, key, NULL);
    return s ? s : "";
}

static inline json_t *need_type(struct fold *f, const char *key, json_type type, const char *name)
{
    json_t *v = base_jr_need(&f->r, key);
    if (v && json_typeof(v) != type) base_jr_fail(&f->r, ST_EINVAL, key, "must be %s", name);
    return v;
}

/* JSON null counts as absent. */
static inline json_t *optional(struct fold *f, const char *key)
{
    json_t *v = base_jr_get(&f->r, key);
    return json_is_null(v) ? NULL : v;
}

/* ---- writing: parameters are bound in order ---- */

static inline void bind_text(sqlite3_stmt *q, int i, const char *s)
{
    if (s)
        sqlite3_bind_text(q, i, s, -1, SQLITE_STATIC);
    else
        sqlite3_bind_null(q, i);
}

static inline void bind_buf(sqlite3_stmt *q, int i, const struct base_buf *b)
{
    sqlite3_bind_text(q, i, b->p, (int)b->len, SQLITE_STATIC);
}

/* NULL for what is unbounded or unknown */
static inline void bind_num(sqlite3_stmt *q, int i, double v)
{
    if (isfinite(v))
        sqlite3_bind_double(q, i, v);
    else
        sqlite3_bind_null(q, i);
}

static inline st_t write_fail(struct fold *f)
{
    return db_fail(f->db, f->db->path, f->err);
}

/* A query for one row or none; the caller resets it. */
static inline st_t step_row(struct fold *f, sqlite3_stmt *q, bool *there)
{
    int rc = sqlite3_step(q);
    *there = rc == SQLITE_ROW;
    return *there || rc == SQLITE_DONE ? ST_OK : write_fail(f);
}

static inline st_t out_of_memory(struct fold *f)
{
    return base_err_set(f->err, ST_ENOMEM, f->r.path, "out of memory");
}

/* Is there a device of that id? */
static inline void check_device(struct fold *f, const char *key, int64_t id)
{
    if (f->r.st || id == f->db->known_device) return;
    sqlite3_stmt *q = db_stmt(f->db, SQL_DEVICE_GET);
    if (!q) {
        f->r.st = write_fail(f);
        return;
    }
    sqlite3_bind_int64(q, 1, id);
    int rc = sqlite3_step(q);
    if (rc == SQLITE_DONE)
        base_jr_fail(&f->r, ST_EINVAL, key, "there is no device %lld", (long long)id);
    else if (rc != SQLITE_ROW)
        f->r.st = write_fail(f);
    else
        f->db->known_device = id;
    sqlite3_reset(q);
}

struct checkpoint {
    bool given;
    const char *path, *hash;
    int64_t bytes;
    double tokens;
};

static inline void read_checkpoint(struct fold *f, const char *key, struct checkpoint *c)
{
    json_t *v = optional(f, key);
    *c = (struct checkpoint){.given = v != NULL};
    if (!v || f->r.st) return;
    char path[64];
    snprintf(path, sizeof path, "%.40s.%s", f->r.path, key);
    struct base_jr r = base_jr_at(v, path, f->err);
    base_jr_need(&r, "path");
    base_jr_need(&r, "hash");
    base_jr_need(&r, "bytes");
    base_jr_need(&r, "tokens");
    c->path = base_jr_str(&r, "path", "");
    c->hash = base_jr_str(&r, "hash", "");
    c->bytes = base_jr_int(&r, "bytes", 0, 0, INT64_MAX);
    c->tokens = base_jr_num(&r, "tokens", 0, 0, HUGE_VAL);
    f->r.st = r.st;
}

/* sql: into which table */
static inline st_t write_checkpoint(struct fold *f, int64_t trial, enum db_sql sql, const struct checkpoint *c)
{
    if (!c->given) return ST_OK;
    sqlite3_stmt *q = db_stmt(f->db, sql);
    if (!q) return write_fail(f);
    sqlite3_bind_int64(q, 1, trial);
    bind_text(q, 2, c->path);
    bind_text(q, 3, c->hash);
    sqlite3_bind_int64(q, 4, c->bytes);
    sqlite3_bind_double(q, 5, c->tokens);
    return db_run(f->db, q, f->err);
}

/* Added to the job's sums. */
static inline st_t job_spend(struct fold *f, double busy_s, double joules)
{
    sqlite3_stmt *q = db_stmt(f->db, SQL_JOB_SPEND);
    if (!q) return write_fail(f);
    f->info->busy_s += busy_s;
    f->info->joules += joules;
    sqlite3_bind_int64(q, 1, f->job);
    sqlite3_bind_double(q, 2, f->info->busy_s);
    sqlite3_bind_double(q, 3, f->info->joules);
    return db_run(f->db, q, f->err);
}

/* ---- fold_again.c ---- */
/* Where origin is a repeat's: is it of a trial of the same job and architecture, which repeats none? */
st_t db_fold_check_repeat(struct fold *f, const char *arch, const json_t *origin);
st_t db_fold_write_repeat(struct fold *f, int64_t trial, const json_t *origin);
/* {name: {median, low, high}}, NULL: none; else f->r fails. */
void db_fold_check_estimates(struct fold *f, json_t *estimates);
/* What the model said of the trial, and which of its estimates a measurement has replaced. */
st_t db_fold_write_estimates(struct fold *f, int64_t trial, int rung, json_t *metrics, json_t *estimates);

/* ---- fold_supernet.c ---- */
st_t db_fold_supernet(struct fold *f);

#endif
