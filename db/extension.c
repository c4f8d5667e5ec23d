/* taut_pareto: Pareto fronts and hypervolumes for any SQLite client.
 *
 *   .load ./taut_pareto                          (or sqlite3_load_extension)
 *   SELECT * FROM pareto('SELECT id, loss, ms FROM t', 'loss, ms');
 *       The rows of the inner query that no other row dominates, in its order. The second argument names the columns to
 * compare, all minimised;
 *       '-tokens_per_s' or 'max:tokens_per_s' is maximised. A row in which one of them is NULL or no number is on no
 * front. A table-valued function cannot take its columns' names from its argument: they are c1, c2, …, c16 here, in the
 * order of the inner query. CREATE VIRTUAL TABLE temp.front USING pareto('SELECT id, loss, ms FROM t', 'loss, ms'); The
 * same with the inner query's own names (and any number of them), computed afresh at each SELECT. SELECT
 * hypervolume(loss, ms, 2.0, 5.0) FROM t; What the rows dominate up to the reference point (2.0, 5.0): first the
 * values, then as many reference values. To maximise one, negate both.
 *
 * The inner query must only read. It runs on the caller's connection, in the same transaction. */
#include <sqlite3ext.h>
SQLITE_EXTENSION_INIT1

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/pareto.h"

#define COLUMNS    16 /* of the table-valued function */
#define OBJECTIVES 16

struct table {
    sqlite3_vtab base; /* first: SQLite's */
    sqlite3 *sql;
    char *query, *objectives; /* of CREATE VIRTUAL TABLE; NULL: come with each call */
    int ncols;
};

struct cursor {
    sqlite3_vtab_cursor base; /* first: SQLite's */
    sqlite3_value **cell;     /* [n, ncols] of the front */
    long n, at;
    int ncols;
};

/* Fails with words; takes over text. */
static int fail(sqlite3_vtab *v, char *text)
{
    sqlite3_free(v->zErrMsg);
    v->zErrMsg = text;
    return text ? SQLITE_ERROR : SQLITE_NOMEM;
}

/* ---- the objectives: "loss, -rate, max:\"odd, name\"" ---- */

struct objective {
    int column;
    double sign;
};

static const char *skip_space(const char *p)
{
    while (*p == ' ' || *p == '\t' || *p == '\n') p++;
    return p;
}

/* One name, quoted or up to a comma, into buf. Returns what follows it. */
static const char *read_name(const char *p, char *buf, size_t size)
{
    size_t n = 0;
    char quote = *p == '"' ? *p++ : '\0';
    for (; *p && (quote || *p != ','); p++) {
        if (*p == quote && *++p != quote) {
            p = skip_space(p);
            break;
        }
        if (n < size - 1) buf[n++] = *p;
    }
    while (!quote && n > 0 && (buf[n - 1] == ' ' || buf[n - 1] == '\t' || buf[n - 1] == '\n')) n--;
    buf[n] = '\0';
    return p;
}

static int find_column(sqlite3_stmt *q, const char *name)
{
    for (int i = 0; i < sqlite3_column_count(q); i++)
        if (!sqlite3_stricmp(sqlite3_column_name(q, i), name)) return i;
    return -1;
}

static int read_objectives(sqlite3_vtab *v, sqlite3_stmt *q, const char *text, struct objective *o, int *n)
{
    char name[256];
    *n = 0;
    for (const char *p = skip_space(text);; p = skip_space(p + 1)) {
        double sign = 1;
        if (*p == '-') {
            sign = -1;
            p = skip_space(p + 1);
        } else if (!strncmp(p, "max:", 4) || !strncmp(p, "min:", 4)) {
            sign = p[1] == 'a' ? -1 : 1;
            p = skip_space(p + 4);
        }
        p = read_name(p, name, sizeof name);
        if (!*name) return fail(v, sqlite3_mprintf("pareto: an objective is missing in '%s'", text));
        int column = find_column(q, name);
        if (column < 0) return fail(v, sqlite3_mprintf("pareto: the query has no column '%s'", name));
        if (*n == OBJECTIVES) return fail(v, sqlite3_mprintf("pareto: more than %d objectives", OBJECTIVES));
        o[(*n)++] = (struct objective){column, sign};
        if (!*p) return SQLITE_OK;
        if (*p != ',') return fail(v, sqlite3_mprintf("pareto: a comma is missing before '%s'", p));
    }
}

/* ---- the table ---- */

static int prepare(struct table *t, const char *query, sqlite3_stmt **q)
{
    const char *tail;
    if (!query) return fail(&t->base, sqlite3_mprintf("pareto: the query is NULL"));
    if (sqlite3_prepare_v2(t->sql, query, -1, q, &tail))
        return fail(&t->base, sqlite3_mprintf("pareto: %s", sqlite3_errmsg(t->sql)));
    const char *why = !*q || !sqlite3_column_count(*q) ? "is no SELECT"
                      : *skip_space(tail)              ? "is more than one statement"
                      : !sqlite3_stmt_readonly(*q)     ? "must not change anything"
                                                       : NULL;
    if (!why) return SQLITE_OK;
    sqlite3_finalize(*q);
    *q = NULL;
    return fail(&t->base, sqlite3_mprintf("pareto: the query %s", why));
}

static void table_free(struct table *t)
{
    sqlite3_free(t->query);
    sqlite3_free(t->objectives);
    sqlite3_free(t);
}

/* The words of a failed connect go another way than a table's. */
static int connect_fail(struct table *t, int rc, char **err)
{
    *err = t->base.zErrMsg;
    table_free(t);
    return rc;
}

/* 'It''s' of CREATE VIRTUAL TABLE to It's. */
static char *unquote(const char *arg)
{
    size_t n = strlen(arg), k = 0;
    char quote = *arg, *s = sqlite3_malloc64(n + 1);
    if (!s) return NULL;
    if (quote != '\'' && quote != '"') {
        memcpy(s, arg, n + 1);
        return s;
    }
    for (size_t i = 1; i + 1 < n; i++) {
        s[k++] = arg[i];
        if (arg[i] == quote && arg[i + 1] == quote) i++;
    }
    s[k] = '\0';
    return s;
}

/* "CREATE TABLE x("id","loss")" from the columns of the table's query. */
static int declare_named(struct table *t)
{
    sqlite3_stmt *q;
    struct objective o[OBJECTIVES];
    int n, rc = prepare(t, t->query, &q);
    if (rc) return rc;
    rc = read_objectives(&t->base, q, t->objectives, o, &n);
    t->ncols = sqlite3_column_count(q);
    char *sql = rc ? NULL : sqlite3_mprintf("CREATE TABLE x(");
    for (int i = 0; i < t->ncols && sql; i++)
        sql = sqlite3_mprintf("%z%s\"%w\"", sql, i ? "," : "", sqlite3_column_name(q, i));
    if (sql) sql = sqlite3_mprintf("%z)", sql);
    sqlite3_finalize(q);
    if (rc) return rc;
    rc = sql ? sqlite3_declare_vtab(t->sql, sql) : SQLITE_NOMEM;
    sqlite3_free(sql);
    return rc ? fail(&t->base, sqlite3_mprintf("pareto: %s", sqlite3_errmsg(t->sql))) : SQLITE_OK;
}

static int declare_function(struct table *t)
{
    char *sql = sqlite3_mprintf("CREATE TABLE x(");
    for (int i = 1; i <= COLUMNS && sql; i++) sql = sqlite3_mprintf("%zc%d,", sql, i);
    if (sql) sql = sqlite3_mprintf("%zquery HIDDEN,objectives HIDDEN)", sql);
    int rc = sql ? sqlite3_declare_vtab(t->sql, sql) : SQLITE_NOMEM;
    sqlite3_free(sql);
    t->ncols = COLUMNS;
    return rc;
}

static int table_connect(sqlite3 *sql, void *aux, int argc, const char *const *argv, sqlite3_vtab **out, char **err)
{
    (void)aux;
    struct table *t = sqlite3_malloc64(sizeof *t);
    if (!t) return SQLITE_NOMEM;
    *t = (struct table){.sql = sql};
    /* A query in somebody's schema must not run because a view or trigger says so. */
    sqlite3_vtab_config(sql, SQLITE_VTAB_DIRECTONLY);
    int rc;
    if (argc == 3) {
        rc = declare_function(t);
    } else if (argc == 5) {
        t->query = unquote(argv[3]);
        t->objectives = unquote(argv[4]);
        rc = t->query && t->objectives ? declare_named(t) : SQLITE_NOMEM;
    } else {
        rc = fail(&t->base, sqlite3_mprintf("pareto takes two arguments: a query and its objectives"));
    }
    if (rc) return connect_fail(t, rc, err);
    *out = &t->base;
    return SQLITE_OK;
}

static int table_disconnect(sqlite3_vtab *v)
{
    table_free((struct table *)v);
    return SQLITE_OK;
}

/* Of a function's hidden columns both must be given; of a named table nothing is asked. */
static int table_best_index(sqlite3_vtab *v, sqlite3_index_info *info)
{
    struct table *t = (struct table *)v;
    info->estimatedCost = 1e6;
    info->estimatedRows = 100;
    if (t->query) return SQLITE_OK;
    int given[2] = {-1, -1};
    for (int i = 0; i < info->nConstraint; i++) {
        int hidden = info->aConstraint[i].iColumn - COLUMNS;
        if (hidden < 0 || info->aConstraint[i].op != SQLITE_INDEX_CONSTRAINT_EQ) continue;
        if (!info->aConstraint[i].usable) return SQLITE_CONSTRAINT;
        given[hidden] = i;
    }
    if (given[0] < 0 || given[1] < 0)
        return fail(v, sqlite3_mprintf("pareto takes two arguments: a query and its objectives"));
    for (int i = 0; i < 2; i++) {
        info->aConstraintUsage[given[i]].argvIndex = i + 1;
        info->aConstraintUsage[given[i]].omit = 1;
    }
    return SQLITE_OK;
}

/* ---- rows ---- */

struct rows {
    double *y;            /* [n, m] */
    sqlite3_value **cell; /* [n, ncols] */
    long n, cap;
};

static int rows_add(struct rows *r, sqlite3_stmt *q, const struct objective *o, int m, int ncols)
{
    if (r->n == r->cap) {
        long cap = r->cap ? 2 * r->cap : 256;
        double *y = sqlite3_realloc64(r->y, (sqlite3_uint64)cap * (sqlite3_uint64)m * sizeof *y);
        if (!y) return SQLITE_NOMEM;
        r->y = y;
        sqlite3_value **cell = sqlite3_realloc64(r->cell, (sqlite3_uint64)cap * (sqlite3_uint64)ncols * sizeof *cell);
        if (!cell) return SQLITE_NOMEM;
        r->cell = cell;
        r->cap = cap;
    }
    for (int j = 0; j < m; j++) {
        int type = sqlite3_column_type(q, o[j].column);
        double v = type == SQLITE_INTEGER || type == SQLITE_FLOAT ? sqlite3_column_double(q, o[j].column) : NAN;
        if (!isfinite(v)) return SQLITE_OK;
        r->y[r->n * m + j] = o[j].sign * v;
    }
    for (int i = 0; i < ncols; i++) {
        sqlite3_value *v = sqlite3_value_dup(sqlite3_column_value(q, i));
        if (!v) {
            while (i-- > 0) sqlite3_value_free(r->cell[r->n * ncols + i]);
            return SQLITE_NOMEM;
        }
        r->cell[r->n * ncols + i] = v;
    }
    r->n++;
    return SQLITE_OK;
}

static void cells_free(sqlite3_value **cell, long n)
{
    for (long i = 0; i < n; i++) sqlite3_value_free(cell[i]);
    sqlite3_free(cell);
}

/* Keeps the front's cells, in order, at the beginning. */
static int rows_front(struct rows *r, int m, int ncols)
{
    uint8_t *in = malloc((size_t)r->n + 1);
    if (!in || base_pareto_front(r->y, r->n, m, in) < 0) {
        free(in);
        return SQLITE_NOMEM;
    }
    long kept = 0;
    for (long i = 0; i < r->n; i++) {
        for (int k = 0; k < ncols; k++) {
            if (in[i])
                r->cell[kept * ncols + k] = r->cell[i * ncols + k];
            else
                sqlite3_value_free(r->cell[i * ncols + k]);
        }
        kept += in[i];
    }
    r->n = kept;
    free(in);
    return SQLITE_OK;
}

static int cursor_open(sqlite3_vtab *v, sqlite3_vtab_cursor **out)
{
    (void)v;
    struct cursor *c = sqlite3_malloc64(sizeof *c);
    if (!c) return SQLITE_NOMEM;
    *c = (struct cursor){.n = 0};
    *out = &c->base;
    return SQLITE_OK;
}

static void cursor_empty(struct cursor *c)
{
    cells_free(c->cell, c->n * c->ncols);
    c->cell = NULL;
    c->n = c->at = 0;
}

static int cursor_close(sqlite3_vtab_cursor *base)
{
    cursor_empty((struct cursor *)base);
    sqlite3_free(base);
    return SQLITE_OK;
}

static int cursor_filter(sqlite3_vtab_cursor *base, int idx, const char *idx_str, int argc, sqlite3_value **argv)
{
    (void)idx;
    (void)idx_str;
    struct cursor *c = (struct cursor *)base;
    struct table *t = (struct table *)base->pVtab;
    const char *query = t->query ? t->query : argc == 2 ? (const char *)sqlite3_value_text(argv[0]) : NULL;
    const char *objectives = t->query ? t->objectives : argc == 2 ? (const char *)sqlite3_value_text(argv[1]) : NULL;
    struct objective o[OBJECTIVES];
    struct rows r = {0};
    sqlite3_stmt *q;
    int m = 0;
    cursor_empty(c);
    int rc = prepare(t, query, &q);
    if (rc) return rc;
    c->ncols = sqlite3_column_count(q);
    if (!t->query && c->ncols > COLUMNS)
        rc = fail(&t->base, sqlite3_mprintf(
                                "pareto: the query has %d columns, the function only %d; CREATE VIRTUAL TABLE temp.name"
                                " USING pareto(...) takes any number",
                                c->ncols, COLUMNS));
    else if (t->query && c->ncols != t->ncols)
        rc = fail(&t->base, sqlite3_mprintf("pareto: the query's columns have changed"));
    if (!rc)
        rc = objectives ? read_objectives(&t->base, q, objectives, o, &m)
                        : fail(&t->base, sqlite3_mprintf("pareto: the objectives are NULL"));
    while (!rc) {
        int step = sqlite3_step(q);
        if (step == SQLITE_ROW) {
            rc = rows_add(&r, q, o, m, c->ncols);
        } else {
            if (step != SQLITE_DONE) rc = fail(&t->base, sqlite3_mprintf("pareto: %s", sqlite3_errmsg(t->sql)));
            break;
        }
    }
    sqlite3_finalize(q);
    if (!rc) rc = rows_front(&r, m, c->ncols);
    sqlite3_free(r.y);
    if (rc) {
        cells_free(r.cell, r.n * c->ncols);
        return rc;
    }
    c->cell = r.cell;
    c->n = r.n;
    return SQLITE_OK;
}

static int cursor_next(sqlite3_vtab_cursor *base)
{
    ((struct cursor *)base)->at++;
    return SQLITE_OK;
}

static int cursor_eof(sqlite3_vtab_cursor *base)
{
    struct cursor *c = (struct cursor *)base;
    return c->at >= c->n;
}

static int cursor_column(sqlite3_vtab_cursor *base, sqlite3_context *ctx, int i)
{
    struct cursor *c = (struct cursor *)base;
    if (i < c->ncols) sqlite3_result_value(ctx, c->cell[c->at * c->ncols + i]);
    return SQLITE_OK; /* the others are NULL */
}

static int cursor_rowid(sqlite3_vtab_cursor *base, sqlite3_int64 *id)
{
    *id = ((struct cursor *)base)->at + 1;
    return SQLITE_OK;
}

/* xCreate is xConnect, so the module is a function and can be created by name too. */
static const sqlite3_module MODULE = {
    .xCreate = table_connect,
    .xConnect = table_connect,
    .xBestIndex = table_best_index,
    .xDisconnect = table_disconnect,
    .xDestroy = table_disconnect,
    .xOpen = cursor_open,
    .xClose = cursor_close,
    .xFilter = cursor_filter,
    .xNext = cursor_next,
    .xEof = cursor_eof,
    .xColumn = cursor_column,
    .xRowid = cursor_rowid,
};

/* ---- hypervolume ---- */

struct volume {
    double *y, ref[OBJECTIVES];
    long n, cap;
    int m;
};

static void volume_step(sqlite3_context *ctx, int argc, sqlite3_value **argv)
{
    struct volume *v = sqlite3_aggregate_context(ctx, sizeof *v);
    if (!v) {
        sqlite3_result_error_nomem(ctx);
        return;
    }
    int m = argc / 2;
    if (argc < 2 || argc % 2 || m > OBJECTIVES) {
        sqlite3_result_error(ctx, "hypervolume takes 1 to 16 values and as many reference values", -1);
        return;
    }
    double row[2 * OBJECTIVES];
    for (int i = 0; i < argc; i++) {
        int type = sqlite3_value_numeric_type(argv[i]);
        row[i] = type == SQLITE_INTEGER || type == SQLITE_FLOAT ? sqlite3_value_double(argv[i]) : NAN;
        if (i >= m && isnan(row[i])) {
            sqlite3_result_error(ctx, "hypervolume: the reference values must be numbers", -1);
            return;
        }
    }
    if (v->m && memcmp(v->ref, row + m, (size_t)m * sizeof *row)) {
        sqlite3_result_error(ctx, "hypervolume: the reference point must be the same in every row", -1);
        return;
    }
    v->m = m;
    memcpy(v->ref, row + m, (size_t)m * sizeof *row);
    for (int j = 0; j < m; j++)
        if (isnan(row[j])) return; /* adds nothing */
    if (v->n == v->cap) {
        long cap = v->cap ? 2 * v->cap : 256;
        double *y = sqlite3_realloc64(v->y, (sqlite3_uint64)cap * (sqlite3_uint64)m * sizeof *y);
        if (!y) {
            sqlite3_result_error_nomem(ctx);
            return;
        }
        v->y = y;
        v->cap = cap;
    }
    memcpy(v->y + v->n++ * m, row, (size_t)m * sizeof *row);
}

static void volume_final(sqlite3_context *ctx)
{
    struct volume *v = sqlite3_aggregate_context(ctx, 0);
    if (!v || !v->m) {
        sqlite3_result_double(ctx, 0);
        return;
    }
    double hv = base_pareto_hypervolume(v->y, v->n, v->m, v->ref);
    sqlite3_free(v->y);
    if (isnan(hv))
        sqlite3_result_error_nomem(ctx);
    else
        sqlite3_result_double(ctx, hv);
}

/* The name is SQLite's rule for taut_pareto.so. */
__attribute__((visibility("default"))) int sqlite3_tautpareto_init(sqlite3 *sql, char **err,
                                                                   const sqlite3_api_routines *api)
{
    (void)err;
    SQLITE_EXTENSION_INIT2(api);
    int rc = sqlite3_create_module_v2(sql, "pareto", &MODULE, NULL, NULL);
    if (!rc)
        rc = sqlite3_create_function_v2(sql, "hypervolume", -1, SQLITE_UTF8 | SQLITE_DETERMINISTIC | SQLITE_INNOCUOUS,
                                        NULL, NULL, volume_step, volume_final, NULL);
    return rc;
}
