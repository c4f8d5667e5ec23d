/* Opening: what is set, what is refused and with which words, what survives a kill, how versions migrate. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/fs.h"
#include "db/internal.h"
#include "tests/db/db.h"

static char *in(const char *dir, const char *name)
{
    char *path = malloc(2048);
    snprintf(path, 2048, "%s/%s", dir, name);
    return path;
}

static void write_file(const char *dir, const char *name, const char *text, size_t n)
{
    char *path = in(dir, name);
    FILE *f = fopen(path, "w");
    if (f) {
        fwrite(text, 1, n, f);
        fclose(f);
    }
    free(path);
}

/* Opening must fail so, in one line that has these words in it. */
static void refused(const char *dir, unsigned flags, st_t want, const char *words, const char *what)
{
    struct base_err err = BASE_ERR_INIT;
    struct db *db;
    st_t st = db_open(&db, dir, flags, &err);
    is_int(st, want, "refused: %s", what);
    ok(strstr(err.what, words) && !strchr(err.what, '\n'), "with words: %s: %s", err.where, err.what);
    if (!st) db_close(db);
}

static int pragma_int(struct db *db, const char *name)
{
    char sql[64];
    sqlite3_stmt *q;
    snprintf(sql, sizeof sql, "PRAGMA %s", name);
    int v =
        sqlite3_prepare_v2(db->sql, sql, -1, &q, NULL) || sqlite3_step(q) != SQLITE_ROW ? -1 : sqlite3_column_int(q, 0);
    sqlite3_finalize(q);
    return v;
}

static void settings(void)
{
    char *dir = temp_dir();
    struct db *db = open_or_die(dir);
    is_int(pragma_int(db, "application_id"), DB_APPLICATION_ID, "application_id");
    is_int(pragma_int(db, "user_version"), DB_VERSION, "user_version");
    is_int(pragma_int(db, "synchronous"), 2, "synchronous is FULL");
    is_int(pragma_int(db, "foreign_keys"), 1, "foreign_keys");
    is_int(pragma_int(db, "trusted_schema"), 0, "trusted_schema");
    is_sql(dir, "PRAGMA journal_mode", "wal", "WAL");
    ok(sqlite3_exec(db->sql, "PRAGMA writable_schema=ON; DELETE FROM sqlite_schema", NULL, NULL, NULL) != SQLITE_OK,
       "defensive mode");
    ok(strlen(db_path(db)) > strlen(dir) && !strncmp(db_path(db), dir, strlen(dir)), "db_path");
    is_int(db_begin(db), ST_OK, "begin");
    is_int(db_begin(db), ST_ESTATE, "begin within");
    ok(db_in_transaction(db), "in a transaction");
    is_int(db_verify(db, NULL), ST_ESTATE, "no verify within");
    db_rollback(db);
    ok(!db_in_transaction(db), "rolled back");
    is_int(db_commit(db), ST_ESTATE, "commit without begin");
    db_rollback(db);
    struct base_err err = BASE_ERR_INIT;
    struct db *reader;
    ok(!db_open(&reader, dir, DB_READONLY, &err), "a reader beside the writer (%s)", err.what);
    is_int(db_begin(reader), ST_ESTATE, "which cannot write");
    begin_search(db);
    is_int(db_next_id(reader, DB_JOB), 2, "and sees what was committed");
    db_close(reader);
    char lock[32];
    snprintf(lock, sizeof lock, "process %ld", (long)getpid());
    refused(dir, DB_CREATE, ST_EBUSY, lock, "a second writer");
    db_close(db);
    char *wal = in(dir, "taut.db-wal");
    ok(access(wal, F_OK) != 0, "closed in order, no WAL is left");
    free(wal);
    temp_remove(dir);
}

static void refusals(void)
{
    char *dir = temp_dir(), *file = in(dir, "taut.db"), *missing = in(dir, "no/such");
    struct base_err err = BASE_ERR_INIT;
    refused(missing, DB_CREATE, ST_EPERM, "No such file", "a folder below a missing one");
    refused(missing, 0, ST_ENOTFOUND, "No such file", "a missing folder");
    refused(dir, 0, ST_ENOTFOUND, "no store here", "a folder without a store, not to be created");
    free(missing);

    static const char text[] = "Dear diary, this is a text file that somebody called taut.db. It goes on for more than "
                               "one hundred characters.";
    write_file(dir, "taut.db", text, sizeof text);
    refused(dir, DB_CREATE, ST_ECORRUPT, "not a Taut store", "a text file");
    refused(dir, DB_READONLY, ST_ECORRUPT, "not a Taut store", "a text file, reading");
    char *got = ask(dir, "SELECT 1");
    free(got);
    struct stat sb;
    ok(!stat(file, &sb) && sb.st_size == (off_t)sizeof text, "the text file is as it was");
    refused(file, DB_CREATE, ST_EINVAL, "is not a folder", "a file for a folder");

    unlink(file);
    is_sql(dir, "CREATE TABLE birds(name)", "", "another program's database");
    refused(dir, DB_CREATE, ST_EINVAL, "another program's", "another program's database");
    is_sql(dir, "SELECT sql FROM sqlite_schema", "CREATE TABLE birds(name)", "which is as it was");
    unlink(file);
    write_file(dir, "taut.db", "", 0);
    refused(dir, 0, ST_ENOTFOUND, "no store here yet", "an empty file, not to be created");

    struct db *db = open_or_die(dir);
    begin_search(db);
    db_close(db);
    is_sql(dir, "PRAGMA user_version=99", "", "a newer version");
    refused(dir, DB_CREATE, ST_EVERSION, "version 99, written by a newer Taut", "a newer version");
    is_sql(dir, "PRAGMA user_version=7", "", "the version as it was");

    ok(!stat(file, &sb) && !truncate(file, sb.st_size / 2), "cut the file");
    refused(dir, DB_CREATE, ST_ECORRUPT, "cut short", "a truncated file");
    ok(!truncate(file, 50), "cut it within its header");
    refused(dir, DB_CREATE, ST_ECORRUPT, "not a Taut store", "a file cut within its header");
    unlink(file);

    db = open_or_die(dir);
    begin_search(db);
    db_close(db);
    write_file(dir, "taut.lock", "1\n", 2); /* as if it had not ended in order */
    int fd = open(file, O_RDWR);
    char junk[4096];
    memset(junk, 0x5A, sizeof junk);
    for (off_t at = 4096; fd >= 0 && at < 8 * 4096; at += 4096)
        ok(pwrite(fd, junk, sizeof junk, at) == (ssize_t)sizeof junk, "overwrite a page");
    close(fd);
    refused(dir, DB_CREATE, ST_ECORRUPT, "is damaged", "overwritten pages, after an unclean stop");
    unlink(file);

    db = open_or_die(dir);
    begin_search(db);
    db_close(db);
    is_sql(dir, "INSERT INTO metric_set(id,slot,name,measured) VALUES(1,7,'a',0)", "", "a slot whose number is wrong");
    refused(dir, DB_CREATE, ST_ECORRUPT, "is damaged (metric_set 1 is not as Taut writes it); restore it", "which is the reason");
    unlink(file);

    db = open_or_die(dir);
    db_close(db);
    sqlite3 *other;
    ok(!sqlite3_open(file, &other) &&
           !sqlite3_exec(other, "PRAGMA locking_mode=EXCLUSIVE; BEGIN EXCLUSIVE; CREATE TABLE x(a)", NULL, NULL, NULL),
       "another client locks it");
    refused(dir, DB_CREATE, ST_EBUSY, "locked by another program", "a locked file");
    sqlite3_close(other);
    ok(!db_open(&db, dir, 0, &err), "opened once it is free (%s)", err.what);
    db_close(db);

    /* As somebody who may read the folder and not write in it. */
    ok(!chmod(dir, 0555) && (getuid() || !seteuid(65534)), "a folder of somebody else's");
    refused(dir, DB_CREATE, ST_EPERM, "must be writable", "a folder that cannot be written");
    char *below = in(dir, "new");
    refused(below, DB_CREATE, ST_EPERM, "cannot be made", "a folder in it");
    free(below);
    ok((getuid() || !seteuid(0)) && !chmod(dir, 0700), "ours again");
    free(file);
    temp_remove(dir);

    dir = temp_dir();
    char *new = in(dir, "new");
    ok(!db_open(&db, new, DB_CREATE, &err), "the last folder of a path is made");
    db_close(db);
    ok(!stat(new, &sb) && (sb.st_mode & 0777) == 0700, "for its owner alone");
    temp_remove(new);
    temp_remove(dir);
}

static void file_systems(void)
{
    static const struct {
        unsigned long magic;
        const char *type, *want;
    } T[] = {{0x6969, "", "NFS"},      {0xFF534D42, "", "CIFS"},     {0xFFFFFFFFFF534D42, "", "CIFS"},
             {0xFE534D42, "", "SMB"},  {0x01021997, "", "9P"},       {0x65735546, "fuse.sshfs", "fuse.sshfs"},
             {0x65735546, "", "FUSE"}, {0x65735546, "fuseblk", "-"}, {0xEF53, "", "-"},
             {0x58465342, "", "-"},    {0x01021994, "", "-"},        {0x9123683E, "", "-"}};
    for (size_t i = 0; i < sizeof T / sizeof *T; i++) {
        const char *got = base_fs_remote(T[i].magic, T[i].type);
        is_str(got ? got : "-", T[i].want, "file system %lx %s", T[i].magic, T[i].type);
    }
    struct base_err err = BASE_ERR_INIT;
    ok(!base_fs_check("/proc/self", &err), "the kind of a folder is looked up");
    is_int(base_fs_check("/no/such/folder", &err), ST_EIO, "a folder that cannot be examined");
}

/* A process that writes trials until it is killed in the middle, telling each commit through a pipe. */
static void writer(const char *dir, int fd)
{
    struct db *db = open_or_die(dir);
    for (int n = (int)db_next_id(db, DB_TRIAL);; n++) {
        char text[1024];
        snprintf(text, sizeof text,
                 "{\"trial\":%d,\"proposal\":%d,\"arch_id\":\"" ID(
                     "0a") "\",\"arch\":\"{}\",\"genome\":[1,2,3],\"origin\":{},\"seed\":1,\"paper\":{\"p\":%d}}",
                 n, n - 1, n);
        if (db_begin(db) || event_in(db, 1, "proposed", text, NULL) || db_commit(db) ||
            write(fd, &n, sizeof n) != sizeof n)
            _exit(1);
    }
}

static void kills(void)
{
    char *dir = temp_dir();
    struct db *db = open_or_die(dir);
    struct base_err err = BASE_ERR_INIT;
    begin_search(db);
    db_close(db);
    int told = 0;
    for (int round = 0; round < 8; round++) {
        int fds[2], n;
        if (pipe(fds)) exit(1);
        fflush(stdout);
        pid_t pid = fork();
        if (pid == 0) {
            close(fds[0]);
            writer(dir, fds[1]);
        }
        close(fds[1]);
        int want = told + 5 + 17 * round;
        while (told < want && read(fds[0], &n, sizeof n) == sizeof n) told = n;
        kill(pid, SIGKILL);
        while (read(fds[0], &n, sizeof n) == sizeof n) told = n;
        waitpid(pid, NULL, 0);
        close(fds[0]);
        st_t st = db_open(&db, dir, 0, &err);
        ok(!st, "killed after trial %d: the store opens (%s)", told, st ? err.what : "");
        int64_t next = st ? 0 : db_next_id(db, DB_TRIAL);
        ok(next == told + 1 || next == told + 2, "every commit that was told is there (%lld)", (long long)next - 1);
        told = (int)next - 1;
        if (!st) db_close(db);
    }
    ok(!db_open(&db, dir, 0, &err) && !db_verify(db, &err), "the tables are what the events say (%s)", err.what);
    db_close(db);
    temp_remove(dir);
}

/* ---- migration ---- */

static st_t step_1(sqlite3 *sql)
{
    return sqlite3_exec(sql, "CREATE TABLE a(x)", NULL, NULL, NULL) ? ST_EIO : ST_OK;
}

static st_t step_2(sqlite3 *sql)
{
    return sqlite3_exec(sql, "INSERT INTO a VALUES(1); ALTER TABLE a ADD COLUMN y", NULL, NULL, NULL) ? ST_EIO : ST_OK;
}

static st_t step_bad(sqlite3 *sql)
{
    return sqlite3_exec(sql, "INSERT INTO a VALUES(2,3); INSERT INTO nowhere VALUES(1)", NULL, NULL, NULL) ? ST_EIO
                                                                                                           : ST_OK;
}

static void migrations(void)
{
    static const db_step_fn STEPS[] = {step_1, step_2, step_bad};
    struct db db = {.lock_fd = -1, .path = (char *)(uintptr_t) "test.db"};
    struct base_err err = BASE_ERR_INIT;
    ok(!sqlite3_open(":memory:", &db.sql), "a store of version 0");
    ok(!db_migrate(&db, STEPS, 1, &err) && pragma_int(&db, "user_version") == 1, "one step");
    ok(!db_migrate(&db, STEPS, 2, &err) && pragma_int(&db, "user_version") == 2, "one more");
    ok(!db_migrate(&db, STEPS, 2, &err) && pragma_int(&db, "data_version") >= 0, "nothing to do");
    is_int(db_migrate(&db, STEPS, 3, &err), ST_EIO, "a step that fails");
    ok(strstr(err.what, "nowhere") != NULL, "says why: %s", err.what);
    ok(pragma_int(&db, "user_version") == 2 && sqlite3_get_autocommit(db.sql), "and the version stays");
    sqlite3_stmt *q;
    ok(!sqlite3_prepare_v2(db.sql, "SELECT count(*) FROM a", -1, &q, NULL) && sqlite3_step(q) == SQLITE_ROW &&
           sqlite3_column_int(q, 0) == 1,
       "with all its rows");
    sqlite3_finalize(q);
    sqlite3_close(db.sql);
}

static void statuses(void)
{
    static const struct {
        int rc, err;
        st_t st;
    } T[] = {{SQLITE_FULL, 0, ST_ENOSPC},
             {SQLITE_IOERR_WRITE, ENOSPC, ST_ENOSPC},
             {SQLITE_IOERR_WRITE, EFBIG, ST_ENOSPC},
             {SQLITE_IOERR_FSYNC, EIO, ST_EIO},
             {SQLITE_IOERR_NOMEM, 0, ST_ENOMEM},
             {SQLITE_NOMEM, 0, ST_ENOMEM},
             {SQLITE_CORRUPT_INDEX, 0, ST_ECORRUPT},
             {SQLITE_NOTADB, 0, ST_ECORRUPT},
             {SQLITE_BUSY_SNAPSHOT, 0, ST_EBUSY},
             {SQLITE_READONLY, 0, ST_EPERM},
             {SQLITE_CONSTRAINT, 0, ST_EINVAL},
             {SQLITE_MISUSE, 0, ST_EIO}};
    for (size_t i = 0; i < sizeof T / sizeof *T; i++)
        is_int(db_status(T[i].rc, T[i].err), T[i].st, "SQLite's %d is %s", T[i].rc, base_status_text(T[i].st));
}

int main(void)
{
    settings();
    refusals();
    file_systems();
    kills();
    migrations();
    statuses();
    return tap_done();
}
