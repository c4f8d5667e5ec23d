/* What an event says of a trial beside its values: that it repeats another, and what the latency model had said. */
#include "db/fold_impl.h"

static bool is_repeat(const json_t *origin)
{
    const char *op = json_string_value(json_object_get(origin, "op"));
    return op && !strcmp(op, "repeat");
}

/* The trial that origin names is of the same job and architecture, and repeats none. */
st_t db_fold_check_repeat(struct fold *f, const char *arch, const json_t *origin)
{
    const char *kind = json_string_value(json_object_get(origin, "kind"));
    int64_t of = json_integer_value(json_array_get(json_object_get(origin, "parents"), 0));
    if (!is_repeat(origin)) return ST_OK;
    sqlite3_stmt *q = db_stmt(f->db, SQL_REPEAT_FIND);
    if (!q) return write_fail(f);
    sqlite3_bind_int64(q, 1, of);
    sqlite3_bind_int64(q, 2, f->job);
    bind_text(q, 3, arch);
    bool there;
    st_t st = step_row(f, q, &there);
    sqlite3_reset(q);
    if (st) return st;
    bool good = there && kind && (!strcmp(kind, "train") || !strcmp(kind, "profile"));
    return good ? ST_OK : base_jr_fail(&f->r, ST_EINVAL, "origin", "a repeat is of a trial of the same job and architecture, by kind train or profile");
}

st_t db_fold_write_repeat(struct fold *f, int64_t trial, const json_t *origin)
{
    if (!is_repeat(origin)) return ST_OK;
    sqlite3_stmt *q = db_stmt(f->db, SQL_REPEAT_INSERT);
    if (!q) return write_fail(f);
    sqlite3_bind_int64(q, 1, trial);
    sqlite3_bind_int64(q, 2, json_integer_value(json_array_get(json_object_get(origin, "parents"), 0)));
    bind_text(q, 3, json_string_value(json_object_get(origin, "kind")));
    return db_run(f->db, q, f->err);
}

/* {name: {median, low, high}}. */
void db_fold_check_estimates(struct fold *f, json_t *estimates)
{
    static const char *const keys[] = {"median", "low", "high"};
    const char *name;
    json_t *v;
    if (estimates && !json_is_object(estimates)) base_jr_fail(&f->r, ST_EINVAL, "estimates", "must be an object");
    json_object_foreach(estimates, name, v)
    {
        bool good = *name && strlen(name) < METRIC_NAME_MAX;
        for (int i = 0; i < 3; i++) good &= json_is_number(json_object_get(v, keys[i]));
        if (!good) base_jr_fail(&f->r, ST_EINVAL, "estimates", "'%.40s' must have median, low and high", name);
    }
}

static bool is_estimate(const json_t *metric)
{
    const json_t *n = json_object_get(metric, "n");
    return n && json_integer_value(n) == 0;
}

/* What the model said of the trial, and which of its estimates a measurement has replaced. */
st_t db_fold_write_estimates(struct fold *f, int64_t trial, int rung, json_t *metrics, json_t *estimates)
{
    const char *name;
    json_t *v;
    st_t st = ST_OK;
    json_object_foreach(metrics, name, v)
    {
        sqlite3_stmt *q = rung && !st ? db_stmt(f->db, SQL_ESTIMATE_MEASURED) : NULL;
        if (!rung || st) break;
        if (!q) return write_fail(f);
        sqlite3_bind_int64(q, 1, trial);
        bind_text(q, 2, name);
        st = db_run(f->db, q, f->err);
    }
    json_object_foreach(estimates, name, v)
    {
        sqlite3_stmt *q = st ? NULL : db_stmt(f->db, SQL_ESTIMATE_INSERT);
        if (st) break;
        if (!q) return write_fail(f);
        sqlite3_bind_int64(q, 1, trial);
        sqlite3_bind_int(q, 2, rung);
        bind_text(q, 3, name);
        sqlite3_bind_int64(q, 4, f->seq);
        sqlite3_bind_double(q, 5, json_number_value(json_object_get(v, "median")));
        sqlite3_bind_double(q, 6, json_number_value(json_object_get(v, "low")));
        sqlite3_bind_double(q, 7, json_number_value(json_object_get(v, "high")));
        sqlite3_bind_int(q, 8, is_estimate(json_object_get(metrics, name)));
        st = db_run(f->db, q, f->err);
    }
    return st;
}
