/* How far a measured value can be believed, from the event to the metric view; and a store of version 1, which had no place for it. */
#include "base/buf.h"
#include "db/internal.h"
#include "tests/db/db.h"

#define ANCHOR ID("5e")
#define BELIEF "\"ratio\":[1.5,1.25,2.0],\"anchor\":\"" ANCHOR "\",\"converged\":false,\"disturbed\":0.125,\"rejected\":4"
#define OUT(trial, proposal, lease) \
    (!event(db, 1, "proposed", PROPOSED(trial, proposal, "0a")) && !event(db, 1, "leased", LEASED(trial, lease, "1")))
#define HEAD(trial, lease) "{\"trial\":" trial ",\"lease\":" lease ",\"epoch\":1,\"status\":\"ok\",\"device\":1,\"busy_s\":1,\"metrics\":"

static json_t *metric_of(struct db *db, int64_t trial, const char *name)
{
    struct base_err err = BASE_ERR_INIT;
    json_t *o, *m = NULL;
    if (!db_trial_json(db, trial, &o, &err)) {
        m = json_incref(json_object_get(json_object_get(o, "metrics"), name));
        json_decref(o);
    }
    return m;
}

static void is_metric(struct db *db, int64_t trial, const char *name, const char *want, const char *what)
{
    json_t *m = metric_of(db, trial, name);
    char *got = m ? json_dumps(m, JSON_COMPACT | JSON_SORT_KEYS) : NULL;
    is_str(got, want, "%s", what);
    free(got);
    json_decref(m);
}

static void kept(struct db *db, const char *dir)
{
    static const char VIEW[] = "SELECT name,ratio,ratio_low,ratio_high,anchor,converged,disturbed,rejected FROM metric WHERE trial=%d "
                               "AND name NOT IN ('params','weight_bytes') AND name NOT LIKE 'm_' AND name NOT LIKE 'm__' ORDER BY name";
    char sql[512], body[8192];
    begin_search(db);
    ok(OUT("10", "0", "5"), "a trial is out");
    ok(!event(db, 1, "reported",
              HEAD("10", "5") "{\"decode_ms@64\":{\"median\":2,\"low\":1,\"high\":3,\"n\":30," BELIEF
                              "},\"prefill_ms@64\":{\"median\":7,\"n\":30,\"converged\":true},\"valid_bpb\":1.5}}"),
       "reported");
    snprintf(sql, sizeof sql, VIEW, 10);
    is_sql(dir, sql, "decode_ms@64|1.5|1.25|2.0|" ANCHOR "|0|0.125|4\nprefill_ms@64|-|-|-|-|1|-|-\nvalid_bpb|-|-|-|-|-|-|-",
           "the metric table has it, and NULL where nothing was said");
    is_metric(db, 10, "decode_ms@64",
              "{\"anchor\":\"" ANCHOR "\",\"converged\":false,\"device\":1,\"disturbed\":0.125,\"high\":3,\"low\":1,\"median\":2,\"n\":30,"
              "\"ratio\":[1.5,1.25,2.0],\"rejected\":4}",
              "trial.get has it");
    is_metric(db, 10, "prefill_ms@64", "{\"converged\":true,\"device\":1,\"median\":7,\"n\":30}", "what was said, and no more");
    is_metric(db, 10, "valid_bpb", "{\"device\":1,\"median\":1.5}", "a plain number as before");

    ok(OUT("11", "1", "6"), "another is out");
    ok(!event(db, 1, "reported", HEAD("11", "6") "{\"valid_bpb\":1.5,\"decode_ms@64\":{\"median\":1,\"low\":1,\"high\":1,\"n\":30}}}"),
       "reported without");
    is_sql(dir, "SELECT count(*) FROM metric_quality WHERE trial=11", "0", "a trial that says nothing of it costs nothing");

    /* Odd names, and more metrics than a row has slots. */
    int n = snprintf(body, sizeof body, HEAD("12", "7") "{\"a\\\"].b\":{\"median\":1,\"n\":9,\"rejected\":1},\"z$.'\":{\"median\":1," BELIEF "}");
    for (int i = 0; i < 40; i++) n += snprintf(body + n, sizeof body - (size_t)n, ",\"m%d\":{\"median\":%d,\"disturbed\":%g}", i, i, i / 64.0);
    snprintf(body + n, sizeof body - (size_t)n, "}}");
    ok(OUT("12", "2", "7") && !event(db, 1, "reported", body), "a report of 42 metrics");
    snprintf(sql, sizeof sql, VIEW, 12);
    is_sql(dir, sql, "a\"].b|-|-|-|-|-|-|1\nz$.'|1.5|1.25|2.0|" ANCHOR "|0|0.125|4", "odd names");
    is_sql(dir, "SELECT count(*), sum(disturbed = median / 64) FROM metric WHERE trial=12 AND name GLOB 'm[0-9]*'", "40|40",
           "each metric has its own, past the row's slots too");
}

static void refused(struct db *db)
{
    static const struct {
        const char *body, *what;
    } R[] = {{"\"ratio\":1.5", "ratio"},          {"\"ratio\":[1,2]", "ratio"},           {"\"ratio\":[1,2,\"3\"]", "ratio"},
             {"\"anchor\":7", "anchor"},          {"\"converged\":1", "converged"},       {"\"disturbed\":\"half\"", "disturbed"},
             {"\"rejected\":0.5", "rejected"}};
    ok(OUT("13", "3", "8") && !db_begin(db), "a trial to refuse things about");
    for (size_t i = 0; i < sizeof R / sizeof *R; i++) {
        char body[512];
        struct base_err err = BASE_ERR_INIT;
        snprintf(body, sizeof body, HEAD("13", "8") "{\"a\":{\"median\":1,%s}}}", R[i].body);
        is_int(event_in(db, 1, "reported", body, &err), ST_EINVAL, "refused: %s", R[i].body);
        ok(strstr(err.what, R[i].what) != NULL, "names it: %s", err.what);
    }
    ok(!db_commit(db), "the transaction is none the worse");
}

static void verified(struct db *db, const char *dir)
{
    struct base_err err = BASE_ERR_INIT;
    ok(!db_verify(db, &err), "the tables are what the events say (%s: %s)", err.where, err.what);
    is_sql(dir, "UPDATE metric_quality SET converged=1 WHERE trial=10 AND slot=0", "", "somebody calls it converged");
    is_int(db_verify(db, &err), ST_ECORRUPT, "which a verification finds");
    is_str(err.where, "metric_quality[trial=10][slot=0].converged", "where");
    is_sql(dir, "UPDATE metric_quality SET converged=0 WHERE trial=10 AND slot=0", "", "as it was");
    ok(!db_verify(db, &err), "and all is well again");
}

/* ---- a store of version 1 ---- */

static bool old_store(const char *dir)
{
    const char *src = getenv("TAUT_SRC");
    char path[2048];
    struct base_buf sql = BASE_BUF_INIT;
    sqlite3 *s = NULL;
    snprintf(path, sizeof path, "%s/tests/db/v1.sql", src ? src : ".");
    bool good = !base_buf_read_file(&sql, path, 1 << 20);
    snprintf(path, sizeof path, "%s/taut.db", dir);
    good = good && !sqlite3_open(path, &s) && !sqlite3_exec(s, sql.p, NULL, NULL, NULL);
    sqlite3_close(s);
    base_buf_fini(&sql);
    return good;
}

static void migrated(void)
{
    static const char ROWS[] = "SELECT (SELECT group_concat(hex(body)) FROM event),"
                               "(SELECT group_concat(trial||name||coalesce(median,'')||coalesce(low,'')||coalesce(high,'')||coalesce(n,'')"
                               "||coalesce(device,'')) FROM metric),(SELECT group_concat(id||arch||state||epoch||busy_s) FROM trial),"
                               "(SELECT group_concat(trial||tokens||loss) FROM curve)";
    char *dir = temp_dir();
    struct base_err err = BASE_ERR_INIT;
    struct db *db;
    ok(old_store(dir), "a store that version 1 wrote");
    is_sql(dir, "PRAGMA user_version", "1", "its version");
    char *before = ask(dir, ROWS);
    ok(strlen(before) > 4000, "its rows");
    is_int(db_open(&db, dir, DB_READONLY, &err), ST_EVERSION, "a reader alone does not change it: %s", err.what);
    db = open_or_die(dir);
    is_sql(dir, "PRAGMA user_version", "7", "opened, it is of this version");
    is_sql(dir, ROWS, before, "every row is as it was");
    is_sql(dir, "SELECT count(*),count(ratio),count(anchor),count(converged),count(disturbed),count(rejected) FROM metric", "24|0|0|0|0|0",
           "with nothing known of how far to believe it");
    ok(!db_verify(db, &err), "and is what its events say (%s: %s)", err.where, err.what);
    is_metric(db, 1, "f1", "{\"device\":1,\"high\":9.0626341087787132,\"low\":8.0626341087787132,\"median\":8.5626341087787132,\"n\":30}",
              "an old metric");
    ok(!event(db, 1, "budget", "{\"evaluations\":9}") && OUT("5", "4", "5") &&
           !event(db, 1, "reported", HEAD("5", "5") "{\"f1\":{\"median\":2," BELIEF "},\"f2\":1}}"),
       "the search goes on");
    is_sql(dir, "SELECT ratio,anchor,converged FROM metric WHERE trial=5 AND name='f1'", "1.5|" ANCHOR "|0", "with all that is measured now");
    ok(!db_verify(db, &err), "and still is what its events say (%s: %s)", err.where, err.what);
    db_close(db);

    /* The same tables as a store made new, so that both go on alike. */
    char *fresh = temp_dir();
    db_close(open_or_die(fresh));
    static const char SCHEMA[] = "SELECT type,name,sql FROM sqlite_schema ORDER BY name";
    char *want = ask(fresh, SCHEMA);
    is_sql(dir, SCHEMA, want, "its schema is a new store's");
    free(want);
    free(before);
    temp_remove(fresh);
    temp_remove(dir);
}

int main(void)
{
    char *dir = temp_dir();
    struct db *db = open_or_die(dir);
    kept(db, dir);
    refused(db);
    verified(db, dir);
    db_close(db);
    temp_remove(dir);
    migrated();
    return tap_done();
}
