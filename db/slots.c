/* Metrics between JSON, numbered slots of a row, and the sets that name the slots. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "db/internal.h"

static st_t name_check(const char *name, const char *where, struct base_err *err)
{
    size_t n = strlen(name);
    bool good = n > 0 && n < METRIC_NAME_MAX;
    for (size_t i = 0; i < n && good; i++) good = (unsigned char)name[i] > ' ' && name[i] != 0x7F;
    return good ? ST_OK : base_err_set(err, ST_EINVAL, where, "'%.80s' cannot name a metric", name);
}

/* What a metric's object may say beside its value. */
static st_t quality_check(json_t *v, const char *where, const char *name, struct base_err *err)
{
    json_t *ratio = json_object_get(v, "ratio"), *anchor = json_object_get(v, "anchor"),
           *converged = json_object_get(v, "converged"), *disturbed = json_object_get(v, "disturbed"),
           *rejected = json_object_get(v, "rejected");
    bool good = !ratio || json_array_size(ratio) == 3;
    for (size_t i = 0; ratio && good && i < 3; i++) good = json_is_number(json_array_get(ratio, i));
    if (!good) return base_err_set(err, ST_EINVAL, where, "%s: ratio must be three numbers", name);
    if ((anchor && !json_is_string(anchor)) || (converged && !json_is_boolean(converged)) ||
        (disturbed && !json_is_number(disturbed)) || (rejected && !json_is_integer(rejected)))
        return base_err_set(err, ST_EINVAL, where,
                            "%s: anchor must be a text, converged true or false, disturbed a number, rejected an integer",
                            name);
    return ST_OK;
}

static st_t value_read(json_t *v, const char *where, const char *name, struct db_slots *s, int i, struct base_err *err)
{
    s->low[i] = s->high[i] = NAN;
    s->count[i] = -1;
    s->given[i] = NULL;
    if (json_is_number(v)) {
        s->median[i] = json_number_value(v);
        return ST_OK;
    }
    json_t *median = json_object_get(v, "median"), *low = json_object_get(v, "low"), *high = json_object_get(v, "high"),
           *n = json_object_get(v, "n");
    if (!json_is_number(median))
        return base_err_set(err, ST_EINVAL, where, "%s must be a number or an object with a median", name);
    s->median[i] = json_number_value(median);
    if (!low != !high || (low && (!json_is_number(low) || !json_is_number(high))))
        return base_err_set(err, ST_EINVAL, where, "%s: low and high must be two numbers", name);
    if (low) {
        s->low[i] = json_number_value(low);
        s->high[i] = json_number_value(high);
    }
    if (n && !(json_is_integer(n) && json_integer_value(n) >= 0))
        return base_err_set(err, ST_EINVAL, where, "%s: n must be an integer from 0 on", name);
    s->count[i] = n ? json_integer_value(n) : -1;
    s->given[i] = v;
    return quality_check(v, where, name, err);
}

st_t db_slots_add(struct db_slots *s, json_t *metrics, bool measured, const char *where, struct base_err *err)
{
    if (!json_is_object(metrics)) return base_err_set(err, ST_EINVAL, where, "must be an object");
    const char *name;
    json_t *v;
    json_object_foreach(metrics, name, v)
    {
        st_t st = name_check(name, where, err);
        if (st) return st;
        int i = s->n, order = 1;
        while (i > 0 && (order = strcmp(s->name[i - 1], name)) > 0) i--;
        if (i > 0 && order == 0) {
            i--;
        } else {
            if (s->n == DB_SLOTS)
                return base_err_set(err, ST_EINVAL, where, "more than %d metrics for one trial", DB_SLOTS);
            size_t after = (size_t)(s->n++ - i);
            memmove(s->name + i + 1, s->name + i, after * sizeof *s->name);
            memmove(s->measured + i + 1, s->measured + i, after * sizeof *s->measured);
            memmove(s->median + i + 1, s->median + i, after * sizeof *s->median);
            memmove(s->low + i + 1, s->low + i, after * sizeof *s->low);
            memmove(s->high + i + 1, s->high + i, after * sizeof *s->high);
            memmove(s->count + i + 1, s->count + i, after * sizeof *s->count);
            memmove(s->given + i + 1, s->given + i, after * sizeof *s->given);
        }
        s->name[i] = name;
        s->measured[i] = measured;
        if ((st = value_read(v, where, name, s, i, err))) return st;
    }
    return ST_OK;
}

static struct db_set *set_new(int64_t id, const struct base_buf *key)
{
    struct db_set *set = calloc(1, sizeof *set);
    if (!set) return NULL;
    set->key = strdup(key->p);
    set->names = strdup(key->p);
    if (!set->key || !set->names) {
        db_set_free(set);
        return NULL;
    }
    set->id = id;
    for (char *p = set->names; *p; set->n++) {
        char *end = strchr(p, '\n');
        *end = '\0';
        set->measured[set->n] = *p == 'm';
        set->name[set->n] = p + 1;
        p = end + 1;
    }
    return set;
}

void db_set_free(struct db_set *set)
{
    free(set->key);
    free(set->names);
    free(set);
}

static st_t set_keep(struct db *db, int64_t id, const struct base_buf *key)
{
    if (db->nsets == db->cap_sets) {
        int cap = db->cap_sets ? db->cap_sets * 2 : 16;
        struct db_set **p = realloc(db->set, (size_t)cap * sizeof *p);
        if (!p) return ST_ENOMEM;
        db->set = p;
        db->cap_sets = cap;
    }
    struct db_set *set = key->st ? NULL : set_new(id, key);
    if (!set) return ST_ENOMEM;
    db->set[db->nsets++] = set;
    return ST_OK;
}

st_t db_sets_load(struct db *db, struct base_err *err)
{
    sqlite3_stmt *s = db_stmt(db, SQL_SET_WALK);
    if (!s) return db_fail(db, db->path, err);
    struct base_buf *key = &db->key;
    base_buf_reset(key);
    int64_t id = 0;
    int rc, n = 0;
    st_t st = ST_OK;
    while (!st) {
        rc = sqlite3_step(s);
        int64_t next = rc == SQLITE_ROW ? sqlite3_column_int64(s, 0) : 0;
        if (next != id && id) {
            st = set_keep(db, id, key);
            base_buf_reset(key);
            n = 0;
        }
        if (rc != SQLITE_ROW) break;
        id = next;
        const char *name = (const char *)sqlite3_column_text(s, 2);
        if (id != db->nsets + 1 || sqlite3_column_int(s, 1) != n++ || n > DB_SLOTS ||
            name_check(name, "metric_set", err)) {
            st = base_err_set(err, ST_ECORRUPT, db->path ? db->path : "", "metric_set %lld is not as Taut writes it",
                              (long long)id);
            break;
        }
        base_buf_printf(key, "%c%s\n", sqlite3_column_int(s, 3) ? 'm' : 'p', name);
    }
    if (!st && rc != SQLITE_DONE) st = db_fail(db, db->path, err);
    sqlite3_reset(s);
    return st;
}

st_t db_slots_set(struct db *db, const struct db_slots *s, int64_t *id, struct base_err *err)
{
    struct base_buf *key = &db->key;
    base_buf_reset(key);
    for (int i = 0; i < s->n; i++) {
        base_buf_str(key, s->measured[i] ? "m" : "p");
        base_buf_str(key, s->name[i]);
        base_buf_str(key, "\n");
    }
    if (!s->n) {
        *id = 0;
        return ST_OK;
    }
    if (key->st) return base_err_set(err, ST_ENOMEM, "", "out of memory");
    /* The newest first: names are sorted, so a job has a handful of sets, and its own come last. */
    for (int i = db->nsets - 1; i >= 0; i--) {
        if (strcmp(db->set[i]->key, key->p)) continue;
        *id = db->set[i]->id;
        return ST_OK;
    }
    st_t st = set_keep(db, db->nsets + 1, key);
    if (st) {
        db->broken = true;
        return base_err_set(err, st, "", "out of memory");
    }
    const struct db_set *set = db->set[db->nsets - 1];
    sqlite3_stmt *q = db_stmt(db, SQL_SET_INSERT);
    for (int i = 0; i < set->n && !st; i++) {
        sqlite3_bind_int64(q, 1, set->id);
        sqlite3_bind_int(q, 2, i);
        sqlite3_bind_text(q, 3, set->name[i], -1, SQLITE_STATIC);
        sqlite3_bind_int(q, 4, set->measured[i]);
        st = db_run(db, q, err);
    }
    *id = set->id;
    return st;
}

/* "m0,l0,h0,n0,m1,…" for n slots, each preceded by a comma, with suffix "=?" in an update. */
static void columns(struct base_buf *b, int n, const char *suffix)
{
    for (int i = 0; i < n; i++) {
        base_buf_printf(b, ",m%d%s,l%d%s,h%d%s,n%d%s", i, suffix, i, suffix, i, suffix, i, suffix);
    }
}

sqlite3_stmt *db_slots_stmt(struct db *db, enum db_slots_kind kind, int n)
{
    if (db->slots[kind][n]) return db->slots[kind][n];
    struct base_buf b = BASE_BUF_INIT;
    switch (kind) {
    case DB_SLOTS_SELECT:
        base_buf_str(&b, "SELECT metric_set");
        columns(&b, n, "");
        base_buf_str(&b, " FROM trial_data WHERE id=?");
        break;
    case DB_SLOTS_INSERT:
        base_buf_str(&b,
                     "INSERT INTO trial_data(state,epoch,lease,busy_s,id,job,proposal,arch,proposed_seq,seed,origin,"
                     "genome,metric_set");
        columns(&b, n, "");
        base_buf_str(&b, ") VALUES(0,0,0,0,?,?,?,?,?,?,?,?,?");
        for (int i = 0; i < n; i++) base_buf_str(&b, ",?,?,?,?");
        base_buf_str(&b, ")");
        break;
    case DB_SLOTS_UPDATE:
        base_buf_str(&b, "UPDATE trial_data SET state=?,device=?,reported_seq=?,reported_at=?,busy_s=busy_s+?,"
                         "busy_total=?,joules=?,curve=coalesce(?,curve),error=?,metric_set=?");
        columns(&b, n, "=?");
        base_buf_str(&b, " WHERE id=?");
        break;
    case DB_MORE_SELECT:
        base_buf_str(&b, "SELECT trial");
        columns(&b, n, "");
        base_buf_str(&b, " FROM trial_more WHERE trial=? AND chunk=?");
        break;
    case DB_MORE_PUT:
        base_buf_str(&b, "INSERT OR REPLACE INTO trial_more(trial,chunk");
        columns(&b, n, "");
        base_buf_str(&b, ") VALUES(?,?");
        for (int i = 0; i < n; i++) base_buf_str(&b, ",?,?,?,?");
        base_buf_str(&b, ")");
        break;
    case DB_SLOTS_KINDS:
        break;
    }
    sqlite3_stmt *s = b.st ? NULL : db_prepare(db, &db->slots[kind][n], b.p);
    base_buf_fini(&b);
    return s;
}

static double column_double(sqlite3_stmt *q, int i)
{
    return sqlite3_column_type(q, i) == SQLITE_NULL ? NAN : sqlite3_column_double(q, i);
}

/* One row's slots, its columns from 1 on. */
static st_t read_slots(struct db *db, sqlite3_stmt *q, const struct db_set *names, struct db_slots *s, int n,
                       struct base_err *err)
{
    st_t st = sqlite3_step(q) == SQLITE_ROW ? ST_OK : db_fail(db, db->path, err);
    for (int i = 0; i < n && !st; i++) {
        int k = s->n++;
        s->name[k] = names->name[k];
        s->measured[k] = names->measured[k];
        s->median[k] = column_double(q, 4 * i + 1);
        s->low[k] = column_double(q, 4 * i + 2);
        s->high[k] = column_double(q, 4 * i + 3);
        s->count[k] = sqlite3_column_type(q, 4 * i + 4) == SQLITE_NULL ? -1 : sqlite3_column_int64(q, 4 * i + 4);
        s->given[k] = NULL;
    }
    sqlite3_reset(q);
    return st;
}

st_t db_slots_get(struct db *db, int64_t trial, int64_t set, struct db_slots *s, struct base_err *err)
{
    s->n = 0;
    if (!set) return ST_OK;
    if (set < 0 || set > db->nsets)
        return base_err_set(err, ST_ECORRUPT, db->path ? db->path : "", "trial %lld has no such metric_set",
                            (long long)trial);
    const struct db_set *names = db->set[set - 1];
    st_t st = ST_OK;
    for (int first = 0; first < names->n && !st; first += DB_INLINE) {
        int n = names->n - first < DB_INLINE ? names->n - first : DB_INLINE;
        sqlite3_stmt *q = first ? db_slots_stmt(db, DB_MORE_SELECT, DB_INLINE) : db_slots_stmt(db, DB_SLOTS_SELECT, n);
        if (!q) return db_fail(db, db->path, err);
        sqlite3_bind_int64(q, 1, trial);
        if (first) sqlite3_bind_int(q, 2, first / DB_INLINE);
        st = read_slots(db, q, names, s, n, err);
    }
    return st;
}

int db_slots_bind(sqlite3_stmt *q, int at, const struct db_slots *s, int first, int n)
{
    for (int i = first; i < first + n; i++) {
        bool has = i < s->n;
        sqlite3_bind_double(q, at++, has ? s->median[i] : NAN); /* NaN is bound as NULL */
        sqlite3_bind_double(q, at++, has ? s->low[i] : NAN);
        sqlite3_bind_double(q, at++, has ? s->high[i] : NAN);
        if (has && s->count[i] >= 0)
            sqlite3_bind_int64(q, at++, s->count[i]);
        else
            sqlite3_bind_null(q, at++);
    }
    return at;
}

st_t db_slots_more(struct db *db, int64_t trial, const struct db_slots *s, struct base_err *err)
{
    st_t st = ST_OK;
    for (int first = DB_INLINE; first < s->n && !st; first += DB_INLINE) {
        sqlite3_stmt *q = db_slots_stmt(db, DB_MORE_PUT, DB_INLINE);
        if (!q) return db_fail(db, db->path, err);
        sqlite3_bind_int64(q, 1, trial);
        sqlite3_bind_int(q, 2, first / DB_INLINE);
        db_slots_bind(q, 3, s, first, DB_INLINE);
        st = db_run(db, q, err);
    }
    return st;
}

static int slot_of(const struct db_slots *s, const char *name)
{
    for (int i = 0; i < s->n; i++)
        if (!strcmp(s->name[i], name)) return i;
    return -1;
}

st_t db_slots_requality(struct db *db, int64_t trial, const struct db_slots *now, const struct db_set *old, json_t *fresh, struct base_err *err)
{
    st_t st = ST_OK;
    /* Names are sorted and none goes: a slot never moves down, so that from the last one on each finds its place free. */
    for (int i = old->n - 1; i >= 0 && !st; i--) {
        bool gone = json_object_get(fresh, old->name[i]);
        int to = slot_of(now, old->name[i]);
        if (!gone && to == i) continue;
        sqlite3_stmt *q = db_stmt(db, gone ? SQL_QUALITY_DELETE : SQL_QUALITY_MOVE);
        if (!q) return db_fail(db, db->path, err);
        sqlite3_bind_int64(q, 1, trial);
        sqlite3_bind_int(q, 2, i);
        if (!gone) sqlite3_bind_int(q, 3, to);
        st = db_run(db, q, err);
    }
    return st;
}

static json_t *quality_json(sqlite3_stmt *q)
{
    json_t *v = json_array();
    for (int i = 1; i < 8; i++) {
        int type = sqlite3_column_type(q, i);
        json_array_append_new(v, type == SQLITE_INTEGER ? json_integer(sqlite3_column_int64(q, i))
                                 : type == SQLITE_FLOAT ? json_real(sqlite3_column_double(q, i))
                                 : type == SQLITE_TEXT  ? json_string((const char *)sqlite3_column_text(q, i))
                                                        : json_null());
    }
    return v;
}

static json_t *number_json(double v)
{
    return isnan(v) ? json_null() : json_real(v);
}

st_t db_slots_text(struct db *db, int64_t trial, const struct db_slots *s, struct base_err *err)
{
    json_t *known[DB_SLOTS] = {0}, *all = json_object();
    sqlite3_stmt *q = db_stmt(db, SQL_QUALITY_OF);
    int rc = SQLITE_DONE;
    if (q) {
        sqlite3_bind_int64(q, 1, trial);
        while ((rc = sqlite3_step(q)) == SQLITE_ROW) {
            int slot = sqlite3_column_int(q, 0);
            if (slot >= 0 && slot < DB_SLOTS && !known[slot]) known[slot] = quality_json(q);
        }
    }
    st_t st = q && rc == SQLITE_DONE ? ST_OK : db_fail(db, db->path, err);
    if (q) sqlite3_reset(q);
    for (int i = 0; i < s->n; i++) {
        json_t *v = json_array();
        json_array_append_new(v, number_json(s->median[i]));
        json_array_append_new(v, number_json(s->low[i]));
        json_array_append_new(v, number_json(s->high[i]));
        json_array_append_new(v, s->count[i] >= 0 ? json_integer(s->count[i]) : json_null());
        json_array_append_new(v, json_integer(s->measured[i]));
        if (known[i]) json_array_extend(v, known[i]);
        json_object_set_new(all, s->name[i], v);
    }
    for (int i = 0; i < DB_SLOTS; i++) json_decref(known[i]);
    base_buf_reset(&db->text);
    db_json_text(all, &db->text);
    json_decref(all);
    if (!st && db->text.st) st = base_err_set(err, ST_ENOMEM, "", "out of memory");
    return st;
}

static void bind_number(sqlite3_stmt *q, int i, const json_t *v)
{
    if (v)
        sqlite3_bind_double(q, i, json_number_value(v));
    else
        sqlite3_bind_null(q, i);
}

static void bind_whole(sqlite3_stmt *q, int i, bool has, int64_t v)
{
    if (has)
        sqlite3_bind_int64(q, i, v);
    else
        sqlite3_bind_null(q, i);
}

st_t db_slots_quality(struct db *db, int64_t trial, const struct db_slots *s, struct base_err *err)
{
    st_t st = ST_OK;
    for (int i = 0; i < s->n && !st; i++) {
        const json_t *v = s->given[i], *ratio = json_object_get(v, "ratio"), *anchor = json_object_get(v, "anchor"),
                     *converged = json_object_get(v, "converged"), *disturbed = json_object_get(v, "disturbed"),
                     *rejected = json_object_get(v, "rejected");
        if (!ratio && !anchor && !converged && !disturbed && !rejected) continue;
        sqlite3_stmt *q = db_stmt(db, SQL_QUALITY_INSERT);
        if (!q) return db_fail(db, db->path, err);
        sqlite3_bind_int64(q, 1, trial);
        sqlite3_bind_int(q, 2, i);
        for (int k = 0; k < 3; k++) bind_number(q, 3 + k, json_array_get(ratio, (size_t)k));
        sqlite3_bind_text(q, 6, json_string_value(anchor), -1, SQLITE_STATIC); /* no text: NULL */
        bind_whole(q, 7, converged, json_is_true(converged));
        bind_number(q, 8, disturbed);
        bind_whole(q, 9, rejected, json_integer_value(rejected));
        st = db_run(db, q, err);
    }
    return st;
}
