/* taut_pareto.so in a client that knows nothing of Taut, against brute force. */
#include "base/rng.h"
#include "tests/db/db.h"

#define ROWS 800

static sqlite3 *client(void)
{
    const char *build = getenv("TAUT_BUILD");
    char path[2048], *err = NULL;
    sqlite3 *s;
    snprintf(path, sizeof path, "%s/taut_pareto.so", build ? build : ".");
    sqlite3_open(":memory:", &s);
    sqlite3_db_config(s, SQLITE_DBCONFIG_ENABLE_LOAD_EXTENSION, 1, NULL);
    if (!ok(!sqlite3_load_extension(s, path, NULL, &err), "the extension loads (%s)", err ? err : "")) exit(tap_done());
    return s;
}

/* "a|b\nc|d"; errors as "error: words". Owned. */
static char *run(sqlite3 *s, const char *sql)
{
    char *out = NULL;
    size_t size;
    sqlite3_stmt *q = NULL;
    FILE *f = open_memstream(&out, &size);
    int rc = sqlite3_prepare_v2(s, sql, -1, &q, NULL), row = 0;
    if (!rc) {
        while ((rc = sqlite3_step(q)) == SQLITE_ROW) {
            if (row++) fputc('\n', f);
            for (int i = 0; i < sqlite3_column_count(q); i++) {
                const char *text = (const char *)sqlite3_column_text(q, i);
                fprintf(f, "%s%s", i ? "|" : "", text ? text : "-");
            }
        }
        if (rc == SQLITE_DONE) rc = SQLITE_OK;
    }
    if (rc) fprintf(f, "error: %s", sqlite3_errmsg(s));
    sqlite3_finalize(q);
    fclose(f);
    return out;
}

static void gives(sqlite3 *s, const char *sql, const char *want)
{
    char *got = run(s, sql);
    is_str(got, want, "%.100s", sql);
    free(got);
}

static double y[ROWS][4];
static bool null_at[ROWS];

static void fill(sqlite3 *s)
{
    struct base_rng r = base_rng_at(5, RNG_TEST, 0);
    sqlite3_stmt *q;
    sqlite3_exec(s, "CREATE TABLE t(id INTEGER, a, b, c, \"decode_ms@1024\"); BEGIN", NULL, NULL, NULL);
    sqlite3_prepare_v2(s, "INSERT INTO t VALUES(?,?,?,?,?)", -1, &q, NULL);
    for (int i = 0; i < ROWS; i++) {
        null_at[i] = base_rng_below(&r, 40) == 0;
        sqlite3_bind_int(q, 1, i);
        for (int j = 0; j < 4; j++) {
            y[i][j] = base_rng_below(&r, 30) / 8.0;
            sqlite3_bind_double(q, 2 + j, y[i][j]);
        }
        if (null_at[i]) sqlite3_bind_null(q, 3);
        sqlite3_step(q);
        sqlite3_reset(q);
    }
    sqlite3_finalize(q);
    sqlite3_exec(s, "COMMIT", NULL, NULL, NULL);
}

/* Ids of the front over columns col[m] times sign[m], one a line; owned. Column 1 (b) is NULL in some rows. */
static char *brute(const int *col, const double *sign, int m)
{
    char *out;
    size_t size;
    FILE *f = open_memstream(&out, &size);
    bool uses_b = false, first = true;
    for (int j = 0; j < m; j++) uses_b |= col[j] == 1;
    for (int i = 0; i < ROWS; i++) {
        bool in = !(uses_b && null_at[i]);
        for (int k = 0; k < ROWS && in; k++) {
            int worse = uses_b && null_at[k], better = 0;
            for (int j = 0; j < m; j++) {
                worse += sign[j] * y[k][col[j]] > sign[j] * y[i][col[j]];
                better += sign[j] * y[k][col[j]] < sign[j] * y[i][col[j]];
            }
            in = worse || !better;
        }
        if (in) fprintf(f, "%s%d", first ? "" : "\n", i);
        first &= !in;
    }
    fclose(f);
    return out;
}

static void front(sqlite3 *s, const char *objectives, const int *col, const double *sign, int m)
{
    char sql[512], *want = brute(col, sign, m);
    snprintf(sql, sizeof sql, "SELECT c1 FROM pareto('SELECT * FROM t', '%s')", objectives);
    gives(s, sql, want);
    snprintf(sql, sizeof sql, "CREATE VIRTUAL TABLE temp.f USING pareto('SELECT id AS n, * FROM t', '%s')", objectives);
    gives(s, sql, "");
    gives(s, "SELECT n FROM f", want);
    gives(s, "DROP TABLE f", "");
    free(want);
}

static void fronts(sqlite3 *s)
{
    front(s, "a", (int[]){0}, (double[]){1}, 1);
    front(s, "a, b", (int[]){0, 1}, (double[]){1, 1}, 2);
    front(s, "a,-c", (int[]){0, 2}, (double[]){1, -1}, 2);
    front(s, "max:a, min:b ,  - c", (int[]){0, 1, 2}, (double[]){-1, 1, -1}, 3);
    front(s, "A, b, c, decode_ms@1024", (int[]){0, 1, 2, 3}, (double[]){1, 1, 1, 1}, 4);
    front(s, "-\"decode_ms@1024\",a", (int[]){3, 0}, (double[]){-1, 1}, 2);

    gives(s, "CREATE TABLE u(id, \"odd, \"\"name\", v)", "");
    gives(s, "INSERT INTO u VALUES('x',1,2),('y','1',1),('z',NULL,0),('w',2,9e999),(x'00ff',2,1)", "");
    gives(s, "SELECT * FROM pareto('SELECT * FROM u', '\"odd, \"\"name\", v')",
          "x|1|2|-|-|-|-|-|-|-|-|-|-|-|-|-\n|2|1|-|-|-|-|-|-|-|-|-|-|-|-|-");
    gives(s, "SELECT hex(c1),typeof(c1),c2,typeof(c4) FROM pareto('SELECT * FROM u', 'v') WHERE c3<5",
          "7A|text|-|null");
    gives(s, "SELECT count(*) FROM pareto('SELECT * FROM u WHERE 0', 'v')", "0");
    gives(s, "SELECT c1 FROM pareto('SELECT c1 FROM pareto(''SELECT id, v FROM u'', ''v'')', 'c1')", "");
    gives(s, "SELECT u.id, p.c2 FROM u JOIN pareto('SELECT id, v FROM u', 'v') p ON p.c1=u.id", "z|0");
    gives(s,
          "SELECT q, (SELECT count(*) FROM pareto(q, 'v')) FROM (SELECT 'SELECT 1 AS v UNION ALL SELECT 2' AS q UNION "
          "SELECT 'SELECT 3 AS v')",
          "SELECT 1 AS v UNION ALL SELECT 2|1\nSELECT 3 AS v|1");
    gives(s, "CREATE VIRTUAL TABLE temp.g USING pareto('SELECT id, v AS \"a \"\"b\"\"\" FROM u WHERE v>''''', 'id')",
          "");
    gives(s, "SELECT name FROM pragma_table_info('g')", "id\na \"b\"");
}

static void refusals(sqlite3 *s)
{
    gives(s, "SELECT * FROM pareto('SELECT * FROM t', 'a, z')", "error: pareto: the query has no column 'z'");
    gives(s, "SELECT * FROM pareto('SELECT * FROM t', 'a,')", "error: pareto: an objective is missing in 'a,'");
    gives(s, "SELECT * FROM pareto('SELECT * FROM t', '')", "error: pareto: an objective is missing in ''");
    gives(s, "SELECT * FROM pareto('SELECT * FROM t', '\"a\" b')", "error: pareto: a comma is missing before 'b'");
    gives(s, "SELECT * FROM pareto('SELECT * FROM t', NULL)", "error: pareto: the objectives are NULL");
    gives(s, "SELECT * FROM pareto(NULL, 'a')", "error: pareto: the query is NULL");
    gives(s, "SELECT * FROM pareto('SELECT * FROM t')",
          "error: pareto takes two arguments: a query and its objectives");
    gives(s, "SELECT * FROM pareto", "error: pareto takes two arguments: a query and its objectives");
    gives(s, "SELECT * FROM pareto('SELECT', 'a')", "error: pareto: incomplete input");
    gives(s, "SELECT * FROM pareto('', 'a')", "error: pareto: the query is no SELECT");
    gives(s, "SELECT * FROM pareto('SELECT a FROM t; DROP TABLE t', 'a')",
          "error: pareto: the query is more than one statement");
    gives(s, "SELECT * FROM pareto('DELETE FROM t RETURNING a', 'a')",
          "error: pareto: the query must not change anything");
    gives(s, "SELECT * FROM pareto('SELECT a, abs(-9223372036854775808) FROM t', 'a')",
          "error: pareto: integer overflow");
    gives(s, "SELECT * FROM pareto('SELECT 1 a,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17', 'a')",
          "error: pareto: the query has 17 columns, the function only 16; CREATE VIRTUAL TABLE temp.name USING "
          "pareto(...) takes any number");
    gives(s, "SELECT * FROM pareto('SELECT 1 a', 'a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a')",
          "error: pareto: more than 16 objectives");
    gives(s, "CREATE VIRTUAL TABLE temp.h USING pareto('SELECT 1 a')",
          "error: pareto takes two arguments: a query and its objectives");
    gives(s, "CREATE VIRTUAL TABLE temp.h USING pareto('SELECT 1 a', 'b')",
          "error: pareto: the query has no column 'b'");
    gives(s, "CREATE VIEW spy AS SELECT * FROM pareto('SELECT 1 a', 'a')", "");
    gives(s, "SELECT * FROM spy", "error: unsafe use of virtual table \"pareto\"");
    gives(s, "SELECT count(*) FROM t", "800");
}

static void volumes(sqlite3 *s)
{
    gives(s,
          "SELECT hypervolume(a, b, 4.0, 10.0) FROM (SELECT 1 AS a, 5 AS b UNION ALL SELECT 2, 3 UNION ALL SELECT 3, 4 "
          "UNION ALL SELECT 0, 9 UNION ALL SELECT 0, NULL)",
          "20.0");
    gives(s, "SELECT hypervolume(-a, b, 0, 10.0) FROM (SELECT 1 AS a, 5 AS b UNION ALL SELECT 2, 3)", "14.0");
    gives(s, "SELECT hypervolume(a, 5) FROM (SELECT 2 AS a UNION ALL SELECT 3)", "3.0");
    gives(s, "SELECT hypervolume(1, 2) WHERE 0", "0.0");
    gives(s, "SELECT hypervolume(3, 2)", "0.0");
    gives(s, "SELECT a > 3, hypervolume(b, 4) FROM (SELECT 1 AS a, 3 AS b UNION ALL SELECT 5, 2) GROUP BY 1",
          "0|1.0\n1|2.0");
    gives(s, "SELECT hypervolume(1)", "error: hypervolume takes 1 to 16 values and as many reference values");
    gives(s, "SELECT hypervolume()", "error: hypervolume takes 1 to 16 values and as many reference values");
    gives(s, "SELECT hypervolume(1, NULL)", "error: hypervolume: the reference values must be numbers");
    gives(s, "SELECT hypervolume(a, a + 1) FROM t",
          "error: hypervolume: the reference point must be the same in every row");
    long cells = 0; /* values are eighths below 30/8: counting cells is exact */
    for (int p = 0; p < 30; p++)
        for (int q = 0; q < 30; q++)
            for (int r = 0; r < 30; r++) {
                bool in = false;
                for (int i = 0; i < ROWS && !in; i++) in = y[i][0] * 8 <= p && y[i][2] * 8 <= q && y[i][3] * 8 <= r;
                cells += in;
            }
    char *got = run(s, "SELECT hypervolume(a, c, \"decode_ms@1024\", 3.75, 3.75, 3.75) FROM t");
    is_near(atof(got), (double)cells / 512, 1e-12, "hypervolume in three dimensions, by counting cells");
    free(got);
}

/* The query of docs/store.md, on a store. */
static void on_a_store(sqlite3 *s)
{
    char *dir = temp_dir(), sql[2048];
    struct db *db = open_or_die(dir);
    begin_search(db);
    for (int i = 0; i < 3; i++) {
        char proposed[1024], leased[512], reported[512];
        snprintf(proposed, sizeof proposed,
                 "{\"trial\":%d,\"proposal\":%d,\"arch_id\":\"" ID(
                     "0a") "\",\"arch\":\"{}\",\"genome\":[1],\"origin\":{},\"seed\":1,\"paper\":{}}",
                 i + 1, i);
        snprintf(
            leased, sizeof leased,
            "{\"trial\":%d,\"lease\":%d,\"epoch\":1,\"evaluator\":4,\"task\":\"train\",\"device\":1,\"expires\":9}",
            i + 1, i + 1);
        snprintf(reported, sizeof reported,
                 "{\"trial\":%d,\"lease\":%d,\"epoch\":1,\"status\":\"ok\",\"device\":1,\"busy_s\":1,\"metrics\":{"
                 "\"valid_bpb\":%d,\"decode_ms@1024\":%d}}",
                 i + 1, i + 1, i + 1, i == 1 ? 9 : 5 - i);
        event(db, 1, "proposed", proposed);
        event(db, 1, "leased", leased);
        event(db, 1, "reported", reported);
    }
    db_close(db);
    snprintf(sql, sizeof sql, "ATTACH '%s/taut.db' AS s", dir);
    gives(s, sql, "");
    gives(s,
          "SELECT c1, c2, c3 FROM pareto('SELECT trial, max(median) FILTER (WHERE name=''valid_bpb'') AS valid_bpb, "
          "max(median) FILTER (WHERE name=''decode_ms@1024'') AS"
          " \"decode_ms@1024\" FROM s.metric GROUP BY trial', 'valid_bpb, decode_ms@1024')",
          "1|1.0|5.0\n3|3.0|3.0");
    gives(s, "DETACH s", "");
    temp_remove(dir);
}

int main(void)
{
    sqlite3 *s = client();
    fill(s);
    fronts(s);
    refusals(s);
    volumes(s);
    on_a_store(s);
    is_int(sqlite3_close(s), SQLITE_OK, "everything was given back");
    return tap_done();
}
