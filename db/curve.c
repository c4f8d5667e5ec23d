/* Learning curves: points by tokens. What a trial reports again (after it was preempted) replaces what it reported
 * before. */
#include <math.h>
#include <stdlib.h>

#include "base/json.h"
#include "db/internal.h"

struct point {
    double tokens, loss; /* loss NaN: null */
    size_t at;
};

static st_t read_points(json_t *v, struct point *p, size_t *n, const char *where, struct base_err *err)
{
    for (size_t i = 0; i < json_array_size(v); i++) {
        json_t *e = json_array_get(v, i), *tokens = json_array_get(e, 0), *loss = json_array_get(e, 1);
        if (json_array_size(e) != 2 || !json_is_number(tokens) || !(json_is_number(loss) || json_is_null(loss)))
            return base_err_set(err, ST_EINVAL, where, "curve[%zu] must be [tokens, loss]", i);
        p[*n] = (struct point){json_number_value(tokens), json_is_null(loss) ? NAN : json_number_value(loss), *n};
        ++*n;
    }
    return ST_OK;
}

static int by_tokens(const void *a, const void *b)
{
    const struct point *x = a, *y = b;
    return x->tokens != y->tokens ? (x->tokens > y->tokens) - (x->tokens < y->tokens)
                                  : (x->at > y->at) - (x->at < y->at);
}

static st_t stored_curve(struct db *db, int64_t trial, json_t **out, struct base_err *err)
{
    sqlite3_stmt *q = db_stmt(db, SQL_TRIAL_CURVE_GET);
    if (!q) return db_fail(db, db->path, err);
    sqlite3_bind_int64(q, 1, trial);
    st_t st = ST_OK;
    *out = NULL;
    if (sqlite3_step(q) != SQLITE_ROW)
        st = db_fail(db, db->path, err);
    else if (sqlite3_column_type(q, 0) == SQLITE_TEXT)
        st = base_json_parse(out, (const char *)sqlite3_column_text(q, 0), (size_t)sqlite3_column_bytes(q, 0), "curve",
                             err);
    sqlite3_reset(q);
    return st;
}

st_t db_trial_curve(struct db *db, int64_t trial, int rung, double (*out)[2], int max, int *n)
{
    sqlite3_stmt *q = db_stmt(db, SQL_RUNG_CURVE);
    struct point *p = NULL;
    json_t *v = NULL;
    size_t k = 0;
    *n = 0;
    if (!q) return db_fail(db, db->path, NULL);
    sqlite3_bind_int64(q, 1, trial);
    sqlite3_bind_int(q, 2, rung);
    int rc = sqlite3_step(q);
    st_t st = rc == SQLITE_ROW || rc == SQLITE_DONE ? ST_OK : db_fail(db, db->path, NULL);
    if (rc == SQLITE_ROW && sqlite3_column_type(q, 0) == SQLITE_TEXT)
        st = base_json_parse(&v, (const char *)sqlite3_column_text(q, 0), (size_t)sqlite3_column_bytes(q, 0), "curve", NULL);
    sqlite3_reset(q);
    if (!st && !(p = malloc((json_array_size(v) + 1) * sizeof *p))) st = ST_ENOMEM;
    if (!st) st = read_points(v, p, &k, "curve", NULL);
    for (size_t i = 0; i < k && !st && *n < max; i++, ++*n) {
        out[i][0] = p[i].tokens;
        out[i][1] = p[i].loss;
    }
    free(p);
    json_decref(v);
    return st;
}

st_t db_curve_merge(struct db *db, int64_t trial, bool more, json_t *curve, const char *where, struct base_err *err)
{
    if (!curve) return ST_OK;
    if (!json_is_array(curve)) return base_err_set(err, ST_EINVAL, where, "curve must be an array");
    json_t *old = NULL;
    st_t st = more ? stored_curve(db, trial, &old, err) : ST_OK;
    if (st) return st;
    size_t n = 0, kept = 0;
    struct point *p = malloc((json_array_size(old) + json_array_size(curve) + 1) * sizeof *p);
    st = p ? read_points(old, p, &n, where, err) : base_err_set(err, ST_ENOMEM, where, "out of memory");
    if (!st) st = read_points(curve, p, &n, where, err);
    if (!st) {
        size_t i = 1;
        while (i < n && p[i - 1].tokens < p[i].tokens) i++;
        if (i < n) qsort(p, n, sizeof *p, by_tokens);
        for (i = 0; i < n; i++)
            if (i + 1 == n || p[i].tokens < p[i + 1].tokens) p[kept++] = p[i]; /* of equals the last */
        struct base_buf *b = &db->text;
        base_buf_reset(b);
        base_buf_add(b, "[", 1);
        for (i = 0; i < kept; i++) {
            char num[96];
            int len = 0;
            if (i) num[len++] = ',';
            num[len++] = '[';
            len += db_num_text(p[i].tokens, num + len);
            num[len++] = ',';
            len += db_num_text(p[i].loss, num + len); /* NaN is written null */
            num[len++] = ']';
            base_buf_add(b, num, (size_t)len);
        }
        base_buf_add(b, "]", 1);
        if (b->st) st = base_err_set(err, ST_ENOMEM, where, "out of memory");
    }
    free(p);
    json_decref(old);
    return st;
}
