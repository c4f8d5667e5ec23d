/* Reading back what tautd asks for outside an archive. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "db/archive.h"
#include "db/internal.h"

static const char *text_at(sqlite3_stmt *q, int i)
{
    return (const char *)sqlite3_column_text(q, i);
}

static double bound_at(sqlite3_stmt *q, int i)
{
    return sqlite3_column_type(q, i) == SQLITE_NULL ? INFINITY : sqlite3_column_double(q, i);
}

/* "[1,2.5]" into ref; written by fold_reference, so anything else is damage. */
static st_t read_reference(const char *text, struct db_job *j)
{
    if (!text) return ST_OK;
    json_t *v;
    st_t st = base_json_parse(&v, text, strlen(text), "reference", NULL);
    if (st == ST_ENOMEM) return st;
    size_t n = st ? 0 : json_array_size(v);
    bool good = n >= 1 && n <= JOB_OBJECTIVES_MAX;
    for (size_t i = 0; i < n && good; i++) {
        good = json_is_number(json_array_get(v, i));
        if (good) j->ref[i] = json_number_value(json_array_get(v, i));
    }
    if (good) j->nref = (int)n;
    else j->damage = "reference";
    if (!st) json_decref(v);
    return ST_OK;
}

static sqlite3_stmt *walk(struct db *db, enum db_sql sql);
static st_t walked(struct db *db, sqlite3_stmt *q, st_t st, int rc);

/* It is settled before the first lease, so that few events are looked at. */
static st_t read_precision(struct db *db, struct db_job *j)
{
    sqlite3_stmt *q = walk(db, SQL_JOB_EVENTS);
    if (!q) return db_fail(db, db->path, NULL);
    sqlite3_bind_int64(q, 1, j->id);
    st_t st = ST_OK;
    int rc = SQLITE_ROW;
    bool bad = false;
    while (!st && !*j->precision && !bad && (rc = sqlite3_step(q)) == SQLITE_ROW) {
        const char *type = text_at(q, 0), *body = text_at(q, 1);
        json_t *v = NULL;
        if (!type || !body) st = ST_ENOMEM;
        else if (!strcmp(type, "leased")) snprintf(j->precision, sizeof j->precision, "f32"); /* by a version that had nothing else */
        else if (!strcmp(type, "precision")) {
            st = base_json_parse(&v, body, strlen(body), "precision", NULL);
            const char *word = st ? NULL : json_string_value(json_object_get(v, "precision"));
            if (st == ST_ENOMEM) break;
            if (word && (!strcmp(word, "f32") || !strcmp(word, "bf16"))) snprintf(j->precision, sizeof j->precision, "%s", word);
            else bad = true;
            if (!st) json_decref(v);
            st = ST_OK;
        }
    }
    if (bad) j->damage = "precision";
    return walked(db, q, st, rc);
}

static st_t job_row(struct db *db, sqlite3_stmt *q, db_job_fn fn, void *ctx)
{
    struct db_job j = {.id = sqlite3_column_int64(q, 0)};
    snprintf(j.name, sizeof j.name, "%s", text_at(q, 1));
    snprintf(j.state, sizeof j.state, "%s", text_at(q, 2));
    snprintf(j.identity, sizeof j.identity, "%s", text_at(q, 3));
    j.reason = text_at(q, 4);
    j.text = text_at(q, 5);
    j.files = text_at(q, 6);
    j.seed = (uint64_t)sqlite3_column_int64(q, 7);
    j.evaluations = bound_at(q, 8);
    j.hours = bound_at(q, 9);
    j.joules = bound_at(q, 10);
    j.device = sqlite3_column_int64(q, 11);
    j.busy_s = sqlite3_column_double(q, 12);
    j.spent_joules = sqlite3_column_double(q, 13);
    j.submitted_ms = sqlite3_column_int64(q, 14);
    j.last_seq = sqlite3_column_int64(q, 15);
    if (!j.text) return ST_ENOMEM;
    st_t st = read_reference(text_at(q, 16), &j);
    if (!st) st = read_precision(db, &j);
    return st ? st : fn(ctx, &j);
}

static st_t lease_row(sqlite3_stmt *q, db_lease_fn fn, void *ctx)
{
    struct db_lease l = {sqlite3_column_int64(q, 0), sqlite3_column_int64(q, 1), sqlite3_column_int64(q, 2),
                         sqlite3_column_int64(q, 3), sqlite3_column_int64(q, 4), sqlite3_column_int64(q, 5),
                         sqlite3_column_int(q, 6)};
    return fn(ctx, &l);
}

static st_t device_row(sqlite3_stmt *q, db_device_fn fn, void *ctx)
{
    struct db_device d = {sqlite3_column_int64(q, 0), text_at(q, 1), text_at(q, 2)};
    return d.kind && d.body ? fn(ctx, &d) : ST_ENOMEM;
}

static st_t evaluator_row(sqlite3_stmt *q, db_evaluator_fn fn, void *ctx)
{
    struct db_evaluator e = {sqlite3_column_int64(q, 0), sqlite3_column_int64(q, 1), text_at(q, 2)};
    return e.name ? fn(ctx, &e) : ST_ENOMEM;
}

/* A callback may ask the same again, so each walk has a statement of its own. */
static sqlite3_stmt *walk(struct db *db, enum db_sql sql)
{
    sqlite3_stmt *q = NULL;
    return sqlite3_prepare_v2(db->sql, db_sql_text(sql), -1, &q, NULL) ? NULL : q;
}

static st_t walked(struct db *db, sqlite3_stmt *q, st_t st, int rc)
{
    if (!st && rc != SQLITE_ROW && rc != SQLITE_DONE) st = db_fail(db, db->path, NULL);
    sqlite3_finalize(q);
    return st;
}

st_t db_jobs(struct db *db, int64_t id, db_job_fn fn, void *ctx)
{
    sqlite3_stmt *q = walk(db, SQL_JOB_WALK);
    if (!q) return db_fail(db, db->path, NULL);
    sqlite3_bind_int64(q, 1, id);
    st_t st = ST_OK;
    int rc = SQLITE_ROW;
    while (!st && (rc = sqlite3_step(q)) == SQLITE_ROW) st = job_row(db, q, fn, ctx);
    return walked(db, q, st, rc);
}

static st_t job_last(struct db *db, int64_t job, const char *type, json_t **out, struct base_err *err)
{
    sqlite3_stmt *q = walk(db, SQL_JOB_LAST);
    if (!q) return db_fail(db, db->path, err);
    sqlite3_bind_int64(q, 1, job);
    sqlite3_bind_text(q, 2, type, -1, SQLITE_STATIC);
    *out = NULL;
    int rc = sqlite3_step(q);
    const char *body = rc == SQLITE_ROW ? text_at(q, 0) : NULL;
    st_t st = body ? base_json_parse(out, body, strlen(body), type, err) : ST_OK;
    return walked(db, q, st, rc);
}

st_t db_lease_modelled(struct db *db, int64_t job, int64_t lease, int64_t epoch, json_t **out)
{
    sqlite3_stmt *q = walk(db, SQL_LEASE_MODELLED);
    if (!q) return db_fail(db, db->path, NULL);
    sqlite3_bind_int64(q, 1, job);
    sqlite3_bind_int64(q, 2, lease);
    sqlite3_bind_int64(q, 3, epoch);
    *out = NULL;
    int rc = sqlite3_step(q);
    const char *body = rc == SQLITE_ROW ? text_at(q, 0) : NULL;
    st_t st = body ? base_json_parse(out, body, strlen(body), "modelled", NULL) : ST_OK;
    return walked(db, q, st, rc);
}

st_t db_job_strategy(struct db *db, int64_t job, json_t **out, struct base_err *err)
{
    return job_last(db, job, "strategy", out, err);
}

st_t db_job_filter(struct db *db, int64_t job, json_t **out, struct base_err *err)
{
    return job_last(db, job, "filter", out, err);
}

st_t db_leases(struct db *db, db_lease_fn fn, void *ctx)
{
    sqlite3_stmt *q = walk(db, SQL_LEASE_WALK);
    if (!q) return db_fail(db, db->path, NULL);
    st_t st = ST_OK;
    int rc = SQLITE_ROW;
    while (!st && (rc = sqlite3_step(q)) == SQLITE_ROW) st = lease_row(q, fn, ctx);
    return walked(db, q, st, rc);
}

st_t db_devices(struct db *db, db_device_fn fn, void *ctx)
{
    sqlite3_stmt *q = walk(db, SQL_DEVICE_WALK);
    if (!q) return db_fail(db, db->path, NULL);
    st_t st = ST_OK;
    int rc = SQLITE_ROW;
    while (!st && (rc = sqlite3_step(q)) == SQLITE_ROW) st = device_row(q, fn, ctx);
    return walked(db, q, st, rc);
}

st_t db_evaluators(struct db *db, db_evaluator_fn fn, void *ctx)
{
    sqlite3_stmt *q = walk(db, SQL_EVALUATOR_WALK);
    if (!q) return db_fail(db, db->path, NULL);
    st_t st = ST_OK;
    int rc = SQLITE_ROW;
    while (!st && (rc = sqlite3_step(q)) == SQLITE_ROW) st = evaluator_row(q, fn, ctx);
    return walked(db, q, st, rc);
}

/* ---- one trial ---- */

static void put_json(json_t *o, const char *key, sqlite3_stmt *q, int i)
{
    json_t *v = NULL;
    const char *text = text_at(q, i);
    if (text && base_json_parse(&v, text, (size_t)sqlite3_column_bytes(q, i), key, NULL)) v = NULL;
    if (v) json_object_set_new(o, key, v);
}

static void put_number(json_t *o, const char *key, sqlite3_stmt *q, int i)
{
    double v = sqlite3_column_double(q, i);
    if (sqlite3_column_type(q, i) == SQLITE_INTEGER)
        json_object_set_new(o, key, json_integer(sqlite3_column_int64(q, i)));
    else if (sqlite3_column_type(q, i) == SQLITE_FLOAT && fabs(v) < 0x1p53 && v == floor(v))
        json_object_set_new(o, key, json_integer((json_int_t)v));
    else if (sqlite3_column_type(q, i) == SQLITE_FLOAT)
        json_object_set_new(o, key, json_real(v));
}

static void put_text(json_t *o, const char *key, sqlite3_stmt *q, int i)
{
    const char *s = text_at(q, i);
    if (s) json_object_set_new(o, key, json_string(s));
}

static st_t put_device(struct db *db, json_t *o, int64_t id)
{
    sqlite3_stmt *q = db_stmt(db, SQL_DEVICE_GET);
    if (!q) return db_fail(db, db->path, NULL);
    sqlite3_bind_int64(q, 1, id);
    if (sqlite3_step(q) == SQLITE_ROW) {
        json_t *d = json_object();
        json_object_set_new(d, "id", json_integer(id));
        put_text(d, "kind", q, 0);
        put_json(d, "body", q, 1);
        json_object_set_new(o, "device", d);
    }
    sqlite3_reset(q);
    return ST_OK;
}

/* From column i on: path, hash, bytes, tokens. */
static void put_file(json_t *o, sqlite3_stmt *q, int i)
{
    json_t *c = json_object();
    put_text(c, "path", q, i);
    put_text(c, "hash", q, i + 1);
    put_number(c, "bytes", q, i + 2);
    put_number(c, "tokens", q, i + 3);
    json_object_set_new(o, "checkpoint", c);
}

static st_t put_checkpoint(struct db *db, json_t *o, int64_t trial)
{
    sqlite3_stmt *q = db_stmt(db, SQL_CHECKPOINT_GET);
    if (!q) return db_fail(db, db->path, NULL);
    sqlite3_bind_int64(q, 1, trial);
    if (sqlite3_step(q) == SQLITE_ROW) put_file(o, q, 0);
    sqlite3_reset(q);
    return ST_OK;
}

st_t db_job_supernet(struct db *db, int64_t job, json_t **out, struct base_err *err)
{
    sqlite3_stmt *q = walk(db, SQL_SUPERNET_SHOW);
    if (!q) return db_fail(db, db->path, err);
    sqlite3_bind_int64(q, 1, job);
    int rc = sqlite3_step(q);
    *out = NULL;
    if (rc == SQLITE_ROW) {
        json_t *o = *out = json_object();
        put_text(o, "state", q, 0);
        put_number(o, "epoch", q, 1);
        put_number(o, "device", q, 2);
        json_object_set_new(o, "busy_s", json_real(sqlite3_column_double(q, 3)));
        put_number(o, "joules", q, 4);
        put_text(o, "error", q, 5);
        if (text_at(q, 6)) put_file(o, q, 6);
    }
    return walked(db, q, rc == SQLITE_ROW && !*out ? ST_ENOMEM : ST_OK, rc);
}

/* From column i on: ratio, ratio_low, ratio_high, anchor, converged, disturbed, rejected. */
static void put_quality(json_t *m, sqlite3_stmt *q, int i)
{
    if (sqlite3_column_type(q, i) != SQLITE_NULL)
        json_object_set_new(m, "ratio", json_pack("[f,f,f]", sqlite3_column_double(q, i), sqlite3_column_double(q, i + 1),
                                                  sqlite3_column_double(q, i + 2)));
    put_text(m, "anchor", q, i + 3);
    if (sqlite3_column_type(q, i + 4) != SQLITE_NULL)
        json_object_set_new(m, "converged", json_boolean(sqlite3_column_int(q, i + 4)));
    put_number(m, "disturbed", q, i + 5);
    put_number(m, "rejected", q, i + 6);
}

static st_t put_metrics(struct db *db, json_t *o, int64_t trial)
{
    sqlite3_stmt *q = db_stmt(db, SQL_TRIAL_METRICS);
    if (!q) return db_fail(db, db->path, NULL);
    sqlite3_bind_int64(q, 1, trial);
    json_t *all = json_object();
    int rc;
    while ((rc = sqlite3_step(q)) == SQLITE_ROW) {
        json_t *m = json_object();
        put_number(m, "median", q, 2);
        put_number(m, "low", q, 3);
        put_number(m, "high", q, 4);
        put_number(m, "n", q, 5);
        put_quality(m, q, 6);
        put_number(m, "device", q, 1);
        json_object_set_new(all, text_at(q, 0), m);
    }
    json_object_set_new(o, "metrics", all);
    st_t st = rc == SQLITE_DONE ? ST_OK : db_fail(db, db->path, NULL);
    sqlite3_reset(q);
    return st;
}

/* What it was reported with on the rungs below its own: medians, curve, weights. */
static st_t put_rungs(struct db *db, json_t *o, int64_t trial)
{
    sqlite3_stmt *q = db_stmt(db, SQL_RUNG_SHOW);
    if (!q) return db_fail(db, db->path, NULL);
    sqlite3_bind_int64(q, 1, trial);
    json_t *list = json_array();
    int rc;
    while ((rc = sqlite3_step(q)) == SQLITE_ROW) {
        json_t *r = json_object(), *v;
        const char *name;
        put_number(r, "rung", q, 0);
        put_number(r, "reported", q, 1);
        put_json(r, "metrics", q, 2);
        put_json(r, "curve", q, 3);
        put_json(r, "checkpoint", q, 4);
        json_object_foreach(json_object_get(r, "metrics"), name, v) json_object_set(json_object_get(r, "metrics"), name, json_array_get(v, 0));
        json_array_append_new(list, r);
    }
    json_object_set_new(o, "rungs", list);
    st_t st = rc == SQLITE_DONE ? ST_OK : db_fail(db, db->path, NULL);
    sqlite3_reset(q);
    return st;
}

st_t db_trial_json(struct db *db, int64_t trial, json_t **out, struct base_err *err)
{
    sqlite3_stmt *q = db_stmt(db, SQL_TRIAL_SHOW);
    if (!q) return db_fail(db, db->path, err);
    sqlite3_bind_int64(q, 1, trial);
    int rc = sqlite3_step(q);
    if (rc != SQLITE_ROW) {
        st_t st = rc == SQLITE_DONE ? base_err_set(err, ST_ENOTFOUND, "", "there is no trial %lld", (long long)trial)
                                    : db_fail(db, db->path, err);
        sqlite3_reset(q);
        return st;
    }
    json_t *o = json_object();
    int64_t device = sqlite3_column_int64(q, 8);
    json_object_set_new(o, "id", json_integer(trial));
    put_number(o, "job", q, 0);
    put_text(o, "arch_id", q, 1);
    put_json(o, "arch", q, 12);
    json_object_set_new(o, "state", json_string(archive_state_words[(unsigned)sqlite3_column_int(q, 2) % TRIAL_STATES]));
    put_number(o, "rung", q, 14);
    put_number(o, "seed", q, 3);
    put_number(o, "proposal", q, 4);
    put_json(o, "origin", q, 5);
    put_number(o, "epoch", q, 9);
    put_number(o, "reported", q, 13);
    put_number(o, "busy_s", q, 10);
    put_number(o, "joules", q, 11);
    put_json(o, "curve", q, 6);
    put_text(o, "error", q, 7);
    sqlite3_reset(q);
    st_t st = put_metrics(db, o, trial);
    if (!st && json_integer_value(json_object_get(o, "rung"))) st = put_rungs(db, o, trial);
    if (!st) st = put_checkpoint(db, o, trial);
    if (!st && device) st = put_device(db, o, device);
    if (st) {
        json_decref(o);
        return base_err_set(err, st, "", "%s", db->error);
    }
    *out = o;
    return ST_OK;
}

st_t db_trial_by_arch(struct db *db, int64_t job, const char *id_prefix, int64_t *trial, struct base_err *err)
{
    size_t n = strlen(id_prefix);
    char low[BASE_ID_HEX], high[BASE_ID_HEX + 1], first[BASE_ID_HEX] = "";
    if (n < 6 || n >= BASE_ID_HEX || strspn(id_prefix, "0123456789abcdefABCDEF") != n)
        return base_err_set(err, ST_EINVAL, "", "'%.40s' is not 6 to %d hexadecimal digits of an architecture's id",
                            id_prefix, BASE_ID_HEX - 1);
    for (size_t i = 0; i <= n; i++)
        low[i] = id_prefix[i] >= 'A' && id_prefix[i] <= 'F' ? (char)(id_prefix[i] + 32) : id_prefix[i];
    memcpy(high, low, n);
    memcpy(high + n, "g", 2); /* after every digit */
    sqlite3_stmt *q = db_stmt(db, SQL_ARCH_FIND);
    if (!q) return db_fail(db, db->path, err);
    sqlite3_bind_text(q, 1, low, -1, SQLITE_STATIC);
    sqlite3_bind_text(q, 2, high, -1, SQLITE_STATIC);
    sqlite3_bind_int64(q, 3, job);
    int64_t newest = 0;
    int rc;
    bool several = false;
    while ((rc = sqlite3_step(q)) == SQLITE_ROW && !several) {
        const char *arch = text_at(q, 1);
        if (*first) {
            several = strcmp(first, arch);
            continue;
        }
        snprintf(first, sizeof first, "%s", arch);
        newest = sqlite3_column_int64(q, 0);
    }
    st_t st =
        several ? base_err_set(err, ST_EEXIST, "", "'%s' begins more than one architecture's id; add digits", id_prefix)
        : rc != SQLITE_DONE ? db_fail(db, db->path, err)
        : *first            ? ST_OK
                            : base_err_set(err, ST_ENOTFOUND, "", "no architecture's id begins with '%s'", id_prefix);
    sqlite3_reset(q);
    if (!st) *trial = newest;
    return st;
}
