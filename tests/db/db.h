/* What the tests of db/ share. */
#ifndef TAUT_TESTS_DB_H
#define TAUT_TESTS_DB_H

#include <dirent.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/json.h"
#include "db/archive.h"
#include "tests/tap.h"

#define ID(digit) digit digit digit digit digit digit digit digit digit digit digit digit digit digit digit digit

/* A new folder under $TMPDIR, else in memory where there is such a place (syncs cost nothing there), else under /tmp;
 * owned. */
__attribute__((unused)) static char *temp_dir(void)
{
    const char *base = getenv("TMPDIR"), *other = access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm";
    char *dir = malloc(1024);
    snprintf(dir, 1024, "%s/taut-db-XXXXXX", base && *base ? base : other);
    if (!mkdtemp(dir)) {
        perror(dir);
        exit(1);
    }
    return dir;
}

/* The folder and the files in it. Frees dir. */
__attribute__((unused)) static void temp_remove(char *dir)
{
    DIR *d = opendir(dir);
    for (struct dirent *e; d && (e = readdir(d));) {
        char path[2048];
        snprintf(path, sizeof path, "%s/%s", dir, e->d_name);
        if (e->d_name[0] != '.') unlink(path);
    }
    if (d) closedir(d);
    rmdir(dir);
    free(dir);
}

__attribute__((unused)) static struct db *open_or_die(const char *dir)
{
    struct base_err err = BASE_ERR_INIT;
    struct db *db;
    if (db_open(&db, dir, DB_CREATE, &err)) {
        printf("Bail out! %s: %s\n", err.where, err.what);
        exit(1);
    }
    return db;
}

/* One event from JSON text; the transaction is the caller's. */
__attribute__((unused)) static st_t event_in(struct db *db, int64_t job, const char *type, const char *text,
                                             struct base_err *err)
{
    json_t *body;
    int64_t seq;
    st_t st = base_json_parse(&body, text, strlen(text), "body", err);
    if (st) return st;
    st = db_event_append(db, job, type, body, 1000 + job, &seq, err);
    json_decref(body);
    return st;
}

/* The same in a transaction of its own; rolled back when refused. */
__attribute__((unused)) static st_t event(struct db *db, int64_t job, const char *type, const char *text)
{
    struct base_err err = BASE_ERR_INIT;
    st_t st = db_begin(db);
    if (!st) st = event_in(db, job, type, text, &err);
    if (!st) st = db_commit(db);
    if (st) {
        printf("# %s: %s: %s\n", base_status_text(st), err.where, err.what);
        db_rollback(db);
    }
    return st;
}

/* The same of job 1, to its archive as well (NULL: none yet). */
__attribute__((unused)) static void event_both(struct db *db, struct archive *folded, const char *type, const char *text)
{
    struct base_err err = BASE_ERR_INIT;
    json_t *body;
    if (event(db, 1, type, text) || base_json_parse(&body, text, strlen(text), "body", &err)) {
        printf("Bail out! %s: %s\n", type, text);
        exit(1);
    }
    if (folded && archive_fold_at(folded, type, body, 1001)) ok(false, "%s is folded", type);
    json_decref(body);
}

/* An event of job 1 that is not taken; the transaction goes on. */
__attribute__((unused)) static void event_refused(struct db *db, const char *type, const char *text, st_t want, const char *what)
{
    struct base_err err = BASE_ERR_INIT;
    ok(!db_begin(db), "begin");
    is_int(event_in(db, 1, type, text, &err), want, "%s: %s", what, err.what);
    ok(!db_commit(db), "commit");
}

/* What another SQLite client sees: "a|b\nc|d", NULL as "-"; owned. */
__attribute__((unused)) static char *ask(const char *dir, const char *sql)
{
    char path[2048], *out = NULL;
    size_t size;
    sqlite3 *s;
    sqlite3_stmt *q = NULL;
    FILE *f = open_memstream(&out, &size);
    snprintf(path, sizeof path, "%s/taut.db", dir);
    int rc = sqlite3_open_v2(path, &s, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, NULL);
    if (!rc) rc = sqlite3_prepare_v2(s, sql, -1, &q, NULL);
    for (int row = 0; !rc && sqlite3_step(q) == SQLITE_ROW; row++) {
        if (row) fputc('\n', f);
        for (int i = 0; i < sqlite3_column_count(q); i++)
            fprintf(f, "%s%s", i ? "|" : "", sqlite3_column_text(q, i) ? (const char *)sqlite3_column_text(q, i) : "-");
    }
    if (rc) fprintf(f, "error: %s", sqlite3_errmsg(s));
    sqlite3_finalize(q);
    sqlite3_close(s);
    fclose(f);
    return out;
}

#define is_sql(dir, sql, want, ...)      \
    do {                                 \
        char *got_ = ask(dir, sql);      \
        is_str(got_, want, __VA_ARGS__); \
        free(got_);                      \
    } while (0)

#define SUBMITTED                                                                                             \
    "{\"name\":\"n\",\"seed\":7,\"job\":{\"space\":\"lm-tiny\",\"budget\":{\"evaluations\":50,\"hours\":2}}," \
    "\"identity\":\"" ID("ab") "\"}"
#define PROPOSED(trial, proposal, digit)                                                                               \
    "{\"trial\":" trial ",\"proposal\":" proposal                                                                      \
    ",\"arch_id\":\"" ID(digit) "\",\"arch\":\"{\\\"w\\\":1}\",\"genome\":[1,2,3],"                                    \
                                "\"origin\":{\"op\":\"sample\",\"parents\":[]},\"seed\":7,\"paper\":{\"params\":1200," \
                                "\"weight_bytes\":4800}}"
#define LEASED(trial, lease, epoch)                             \
    "{\"trial\":" trial ",\"lease\":" lease ",\"epoch\":" epoch \
    ",\"evaluator\":4,\"task\":\"train\",\"device\":1,\"expires\":99}"
#define REPORTED(trial, lease, epoch)                                                                          \
    "{\"trial\":" trial ",\"lease\":" lease ",\"epoch\":" epoch                                                \
    ",\"status\":\"ok\",\"device\":1,\"metrics\":{\"valid_bpb\":1.5,"                                          \
    "\"decode_ms@256\":{\"median\":0.25,\"low\":0.2,\"high\":0.3,\"n\":30}},\"curve\":[[100,3.5],[200,2.25]]," \
    "\"checkpoint\":{\"path\":\"/c/1\",\"hash\":\"00ff\",\"bytes\":4096,\"tokens\":200},\"busy_s\":2.5,\"joules\":10}"

/* A device, an evaluator and job 1. */
__attribute__((unused)) static void begin_search(struct db *db)
{
    ok(!event(db, 0, "device", "{\"id\":1,\"kind\":\"cpu\",\"body\":{\"isa\":\"avx2\"}}"), "device");
    ok(!event(db, 0, "evaluator", "{\"evaluator\":4,\"name\":\"e\",\"device\":1}"), "evaluator");
    ok(!event(db, 1, "submitted", SUBMITTED), "submitted");
}

#endif
