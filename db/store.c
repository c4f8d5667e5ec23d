/* Opening, locking, transactions, prepared statements. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "db/internal.h"

static const char *const SQL[SQL_COUNT] = {
#define X(name, text) text,
    DB_SQL_MAP(X)
#undef X
};

/* ---- errors ---- */

st_t db_status(int rc, int sys_errno)
{
    switch (rc & 0xFF) {
    case SQLITE_OK:
    case SQLITE_ROW:
    case SQLITE_DONE:
        return ST_OK;
    case SQLITE_NOMEM:
        return ST_ENOMEM;
    case SQLITE_FULL:
        return ST_ENOSPC;
    case SQLITE_IOERR:
        if ((rc == SQLITE_IOERR_NOMEM)) return ST_ENOMEM;
        return sys_errno == ENOSPC || sys_errno == EDQUOT || sys_errno == EFBIG ? ST_ENOSPC : ST_EIO;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        return ST_ECORRUPT;
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return ST_EBUSY;
    case SQLITE_READONLY:
    case SQLITE_PERM:
    case SQLITE_CANTOPEN:
    case SQLITE_AUTH:
        return ST_EPERM;
    case SQLITE_CONSTRAINT:
        return ST_EINVAL;
    case SQLITE_TOOBIG:
        return ST_ETOOBIG;
    default:
        return ST_EIO;
    }
}

st_t db_fail(struct db *db, const char *where, struct base_err *err)
{
    st_t st = db_status(sqlite3_extended_errcode(db->sql), sqlite3_system_errno(db->sql));
    if (!st) st = ST_ENOMEM; /* only memory can fail without SQLite having noted it */
    snprintf(db->error, sizeof db->error, "%s%s", st == ST_ENOSPC ? "database or disk is full" : sqlite3_errmsg(db->sql),
             st == ST_EPERM ? "; the store and its folder must be writable" : "");
    if (db->in_tx) db->broken = true;
    return base_err_set(err, st, where ? where : "", "%s", db->error);
}

const char *db_error_text(const struct db *db)
{
    return db->error;
}

/* ---- statements ---- */

sqlite3_stmt *db_prepare(struct db *db, sqlite3_stmt **slot, const char *sql)
{
    if (!*slot && sqlite3_prepare_v3(db->sql, sql, -1, SQLITE_PREPARE_PERSISTENT, slot, NULL)) return NULL;
    return *slot;
}

const char *db_sql_text(enum db_sql id)
{
    return SQL[id];
}

sqlite3_stmt *db_stmt(struct db *db, enum db_sql id)
{
    return db_prepare(db, &db->stmt[id], SQL[id]);
}

st_t db_run(struct db *db, sqlite3_stmt *s, struct base_err *err)
{
    if (!s) return db_fail(db, db->path, err);
    int rc;
    while ((rc = sqlite3_step(s)) == SQLITE_ROW) continue;
    st_t st = rc == SQLITE_DONE ? ST_OK : db_fail(db, db->path, err);
    sqlite3_reset(s);
    return st;
}

st_t db_exec(struct db *db, const char *sql, struct base_err *err)
{
    return sqlite3_exec(db->sql, sql, NULL, NULL, NULL) ? db_fail(db, db->path, err) : ST_OK;
}

/* First column of the first row as an integer. */
static st_t ask_int(struct db *db, const char *sql, int64_t *out, struct base_err *err)
{
    sqlite3_stmt *s;
    if (sqlite3_prepare_v2(db->sql, sql, -1, &s, NULL)) return db_fail(db, db->path, err);
    int rc = sqlite3_step(s);
    st_t st = ST_OK;
    if (rc == SQLITE_ROW)
        *out = sqlite3_column_int64(s, 0);
    else
        st = db_fail(db, db->path, err);
    sqlite3_finalize(s);
    return st;
}

/* ---- opening ---- */

/* Before SQLite sees the file: is it one of its files at all, and all there? Empty or missing is fine. */
static st_t check_header(const char *path, bool wal, struct base_err *err)
{
    uint8_t h[100];
    struct stat sb;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT) return ST_OK;
    if (fd < 0) return base_err_set(err, ST_EPERM, path, "cannot be read: %s", strerror(errno));
    ssize_t n = fstat(fd, &sb) ? -1 : pread(fd, h, sizeof h, 0);
    int e = errno;
    close(fd);
    if (n < 0) return base_err_set(err, ST_EIO, path, "cannot be read: %s", strerror(e));
    if (n == 0) return ST_OK;
    if (n < (ssize_t)sizeof h || memcmp(h, "SQLite format 3", 16))
        return base_err_set(
            err, ST_ECORRUPT, path,
            "is not a Taut store (not even an SQLite file); name another folder or move that file away");
    uint32_t page = (uint32_t)h[16] << 8 | h[17],
             pages = (uint32_t)h[28] << 24 | (uint32_t)h[29] << 16 | (uint32_t)h[30] << 8 | h[31];
    if (page == 1) page = 65536;
    /* The header's page count holds when it was written by the last change (SQLite file format, 1.3.7). With a WAL the
     * file may be behind. */
    if (!wal && !memcmp(h + 24, h + 92, 4) && (uint64_t)sb.st_size < (uint64_t)page * pages)
        return base_err_set(err, ST_ECORRUPT, path, "is cut short: %lld bytes of %llu; restore it from a backup",
                            (long long)sb.st_size, (unsigned long long)page * pages);
    return ST_OK;
}

static st_t damaged(struct db *db, st_t st, struct base_err *err)
{
    if (st == ST_ECORRUPT) {
        if (!*db->error && err) snprintf(db->error, sizeof db->error, "%.200s", err->what); /* not what SQLite found, but we */
        return base_err_set(err, st, db->path,
                            "is damaged (%s); restore it from a backup, or see what sqlite3's .recover can save",
                            db->error);
    }
    if (st == ST_EBUSY) return base_err_set(err, st, db->path, "is locked by another program; end it and start again");
    return st;
}

static st_t lock(struct db *db, const char *dir, bool *unclean, struct base_err *err)
{
    char path[4096], text[32] = "";
    if (snprintf(path, sizeof path, "%s/%s", dir, DB_LOCK_FILE) >= (int)sizeof path)
        return base_err_set(err, ST_EINVAL, dir, "name too long");
    db->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (db->lock_fd < 0)
        return base_err_set(err, errno == ENOSPC ? ST_ENOSPC : ST_EPERM, path,
                            "cannot be made: %s; the store's folder must be writable", strerror(errno));
    ssize_t n = pread(db->lock_fd, text, sizeof text - 1, 0);
    if (n > 0) text[strcspn(text, "\n")] = '\0';
    if (flock(db->lock_fd, LOCK_EX | LOCK_NB)) {
        if (errno != EWOULDBLOCK) return base_err_set(err, ST_EIO, path, "cannot be locked: %s", strerror(errno));
        return base_err_set(err, ST_EBUSY, dir,
                            "is in use by another tautd (process %s); stop it or name another folder",
                            *text ? text : "unknown");
    }
    *unclean = n > 0;
    /* Who has it, for the line above; also the sign that this process did not end in order. Best effort: a full disk
     * must not keep a store shut. */
    n = snprintf(text, sizeof text, "%ld\n", (long)getpid());
    if (ftruncate(db->lock_fd, 0) || pwrite(db->lock_fd, text, (size_t)n, 0) != n || fsync(db->lock_fd))
        *unclean = true;
    return ST_OK;
}

static st_t configure(struct db *db, struct base_err *err)
{
    sqlite3_extended_result_codes(db->sql, 1);
    sqlite3_busy_timeout(db->sql, 2000);
    sqlite3_db_config(db->sql, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    sqlite3_db_config(db->sql, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
    sqlite3_db_config(db->sql, SQLITE_DBCONFIG_ENABLE_FKEY, 1, NULL);
    /* 16 MiB of cache: tautd's memory is for its archives. secure_delete would write zeros for nobody. */
    return db_exec(
        db, "PRAGMA cache_size=-16384; PRAGMA secure_delete=OFF; PRAGMA temp_store=FILE; PRAGMA synchronous=FULL;",
        err);
}

static st_t check_identity(struct db *db, unsigned flags, struct base_err *err)
{
    int64_t app = 0, version = 0, objects = 0;
    st_t st = ask_int(db, "PRAGMA application_id", &app, err);
    if (!st) st = ask_int(db, "PRAGMA user_version", &version, err);
    if (!st) st = ask_int(db, "SELECT count(*) FROM sqlite_schema", &objects, err);
    if (st) return damaged(db, st, err);
    if (app == 0 && version == 0 && objects == 0) {
        if (flags & DB_CREATE && !db->readonly) return ST_OK;
        return base_err_set(err, ST_ENOTFOUND, db->path, "is empty; there is no store here yet");
    }
    if (app != DB_APPLICATION_ID)
        return base_err_set(err, ST_EINVAL, db->path,
                            "is another program's SQLite database, not a Taut store; name another folder");
    if (version > DB_VERSION)
        return base_err_set(err, ST_EVERSION, db->path,
                            "has version %lld, written by a newer Taut; this one knows versions up to %d: update it",
                            (long long)version, DB_VERSION);
    if (db->readonly && version < DB_VERSION)
        return base_err_set(err, ST_EVERSION, db->path,
                            "has version %lld; let tautd open it once to bring it to version %d", (long long)version,
                            DB_VERSION);
    return ST_OK;
}

static st_t quick_check(struct db *db, struct base_err *err)
{
    sqlite3_stmt *s;
    if (sqlite3_prepare_v2(db->sql, "PRAGMA quick_check(1)", -1, &s, NULL))
        return damaged(db, db_fail(db, db->path, err), err);
    st_t st = ST_OK;
    if (sqlite3_step(s) != SQLITE_ROW) {
        st = damaged(db, db_fail(db, db->path, err), err);
    } else if (strcmp((const char *)sqlite3_column_text(s, 0), "ok")) {
        snprintf(db->error, sizeof db->error, "%s", (const char *)sqlite3_column_text(s, 0));
        st = damaged(db, ST_ECORRUPT, err);
    }
    sqlite3_finalize(s);
    return st;
}

static st_t open_in(struct db *db, const char *dir, unsigned flags, struct base_err *err)
{
    struct stat sb;
    if (stat(dir, &sb)) {
        if (errno != ENOENT || !(flags & DB_CREATE) || db->readonly)
            return base_err_set(err, ST_ENOTFOUND, dir, "cannot be opened: %s; name a folder that exists",
                                strerror(errno));
        if (mkdir(dir, 0700))
            return base_err_set(err, errno == ENOSPC ? ST_ENOSPC : ST_EPERM, dir, "cannot be made: %s",
                                strerror(errno));
    } else if (!S_ISDIR(sb.st_mode)) {
        return base_err_set(err, ST_EINVAL, dir, "is not a folder; a store is a folder");
    }
    st_t st = base_fs_check(dir, err);
    if (st) return st;
    char wal[4096];
    db->path = malloc(strlen(dir) + sizeof DB_FILE + 1);
    if (!db->path) return base_err_set(err, ST_ENOMEM, dir, "out of memory");
    sprintf(db->path, "%s/%s", dir, DB_FILE);
    if (snprintf(wal, sizeof wal, "%s-wal", db->path) >= (int)sizeof wal)
        return base_err_set(err, ST_EINVAL, dir, "name too long");
    bool unclean = false;
    if (!db->readonly && (st = lock(db, dir, &unclean, err))) return st;
    bool has_wal = !stat(wal, &sb) && sb.st_size > 0;
    if ((st = check_header(db->path, has_wal, err))) return st;

    int how =
        db->readonly ? SQLITE_OPEN_READONLY : SQLITE_OPEN_READWRITE | (flags & DB_CREATE ? SQLITE_OPEN_CREATE : 0);
    if (sqlite3_open_v2(db->path, &db->sql, how | SQLITE_OPEN_NOMUTEX, NULL)) {
        if (!db->sql) return base_err_set(err, ST_ENOMEM, db->path, "out of memory");
        if (access(db->path, F_OK))
            return base_err_set(err, ST_ENOTFOUND, db->path, "is missing; there is no store here yet");
        return db_fail(db, db->path, err);
    }
    if ((st = configure(db, err)) || (st = check_identity(db, flags, err))) return damaged(db, st, err);
    if (!db->readonly) {
        if ((unclean || has_wal) && (st = quick_check(db, err))) return st;
        if ((st = db_exec(db, "PRAGMA journal_mode=WAL; PRAGMA journal_size_limit=67108864;", err)))
            return damaged(db, st, err);
        if ((st = db_migrate(db, db_steps, DB_VERSION, err))) return damaged(db, st, err);
    }
    return damaged(db, db_sets_load(db, err), err);
}

st_t db_open(struct db **out, const char *dir, unsigned flags, struct base_err *err)
{
    struct db *db = calloc(1, sizeof *db);
    if (!db) return base_err_set(err, ST_ENOMEM, dir, "out of memory");
    db->lock_fd = -1;
    db->readonly = flags & DB_READONLY;
    st_t st = open_in(db, dir, flags, err);
    if (st)
        db_close(db);
    else
        *out = db;
    return st;
}

st_t db_open_temp(struct db **out, struct base_err *err)
{
    struct db *db = calloc(1, sizeof *db);
    if (!db) return base_err_set(err, ST_ENOMEM, "", "out of memory");
    db->lock_fd = -1;
    st_t st = ST_ENOMEM;
    if (!sqlite3_open_v2("", &db->sql, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, NULL))
        st = configure(db, err);
    if (!st) st = db_migrate(db, db_steps, DB_VERSION, err);
    if (!st) st = db_exec(db, "PRAGMA synchronous=OFF", err);
    if (st)
        db_close(db);
    else
        *out = db;
    return st;
}

void db_forget(struct db *db)
{
    db->njobs = 0;
    db->known_device = 0;
    for (int i = 0; i < db->nsets; i++) db_set_free(db->set[i]);
    db->nsets = 0;
}

void db_close(struct db *db)
{
    if (!db) return;
    if (db->in_tx) db_rollback(db);
    for (int i = 0; i < SQL_COUNT; i++) sqlite3_finalize(db->stmt[i]);
    for (int kind = 0; kind < DB_SLOTS_KINDS; kind++)
        for (int i = 0; i <= DB_INLINE; i++) sqlite3_finalize(db->slots[kind][i]);
    /* With a reader about, SQLite leaves the WAL at close; emptied here it is, if nobody reads at this moment, nothing
     * to recover. */
    if (db->sql && !db->readonly && db->path)
        sqlite3_wal_checkpoint_v2(db->sql, NULL, SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL);
    sqlite3_close(db->sql);
    if (db->lock_fd >= 0) {
        if (db->sql && ftruncate(db->lock_fd, 0)) db->error[0] = '\0'; /* the next start merely checks the file */
        close(db->lock_fd);
    }
    db_forget(db);
    free(db->set);
    free(db->job);
    base_buf_fini(&db->body);
    base_buf_fini(&db->key);
    base_buf_fini(&db->text);
    base_buf_fini(&db->blob);
    free(db->path);
    free(db);
}

const char *db_sqlite_version(void)
{
    return sqlite3_libversion();
}

const char *db_path(const struct db *db)
{
    return db->path;
}

/* ---- transactions ---- */

st_t db_begin(struct db *db)
{
    if (db->in_tx || db->readonly) return ST_ESTATE;
    st_t st = db_run(db, db_stmt(db, SQL_BEGIN), NULL);
    if (st) return st;
    db->in_tx = true;
    db->broken = false;
    return ST_OK;
}

st_t db_commit(struct db *db)
{
    if (!db->in_tx || db->broken) return ST_ESTATE;
    st_t st = db_run(db, db_stmt(db, SQL_COMMIT), NULL);
    if (!st) db->in_tx = false;
    return st;
}

void db_rollback(struct db *db)
{
    if (!db->in_tx) return;
    /* After some failures SQLite has rolled back already. */
    if (!sqlite3_get_autocommit(db->sql) && db_run(db, db_stmt(db, SQL_ROLLBACK), NULL))
        sqlite3_exec(db->sql, "ROLLBACK", NULL, NULL, NULL);
    db->in_tx = db->broken = false;
    db_forget(db);
    db_sets_load(db, NULL);
}

bool db_in_transaction(const struct db *db)
{
    return db->in_tx;
}

int64_t db_next_id(struct db *db, enum db_table t)
{
    /* Leases end, so their table forgets them; each trial remembers its last. */
    static const char *const max[] = {"SELECT max(id) FROM job_spec", "SELECT max(id) FROM trial_data",
                                      "SELECT max(coalesce((SELECT max(lease) FROM trial_data),0),coalesce((SELECT max(lease) FROM supernet),0))",
                                      "SELECT max(id) FROM device"};
    if (!db->next[t]) {
        int64_t last = 0;
        ask_int(db, max[t], &last, NULL);
        db->next[t] = last + 1;
    }
    return db->next[t]++;
}
