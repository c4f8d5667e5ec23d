/* The disk fails at the first write or sync, then at the second, then at the third … until all goes well. Each time the
 * store must be as before, and the same work done again must succeed. A VFS of our own stands between SQLite and the
 * real one. */
#include <errno.h>

#include "tests/db/db.h"

enum kind { FAIL_EIO, FAIL_FULL };

static struct {
    sqlite3_vfs *real;
    long countdown; /* operations that still succeed; < 0: all do */
    enum kind kind;
    bool stuck; /* once it has failed, it goes on failing */
    bool failed;
} disk = {.countdown = -1};

static bool fails(void)
{
    if (disk.failed && disk.stuck) return true;
    if (disk.countdown < 0 || disk.countdown-- > 0) return false;
    disk.failed = true;
    return true;
}

struct file {
    sqlite3_file base;
    sqlite3_file *real;
};
#define REAL(f) (((struct file *)(f))->real)

static int f_close(sqlite3_file *f)
{
    return REAL(f)->pMethods ? REAL(f)->pMethods->xClose(REAL(f)) : SQLITE_OK;
}
static int f_read(sqlite3_file *f, void *p, int n, sqlite3_int64 at)
{
    return REAL(f)->pMethods->xRead(REAL(f), p, n, at);
}
static int f_write(sqlite3_file *f, const void *p, int n, sqlite3_int64 at)
{
    if (!fails()) return REAL(f)->pMethods->xWrite(REAL(f), p, n, at);
    REAL(f)->pMethods->xWrite(REAL(f), p, n / 2, at); /* torn */
    return disk.kind == FAIL_FULL ? SQLITE_FULL : SQLITE_IOERR_WRITE;
}
static int f_truncate(sqlite3_file *f, sqlite3_int64 n)
{
    return fails() ? SQLITE_IOERR_TRUNCATE : REAL(f)->pMethods->xTruncate(REAL(f), n);
}
static int f_sync(sqlite3_file *f, int flags)
{
    return fails() ? SQLITE_IOERR_FSYNC : REAL(f)->pMethods->xSync(REAL(f), flags);
}
static int f_size(sqlite3_file *f, sqlite3_int64 *n)
{
    return REAL(f)->pMethods->xFileSize(REAL(f), n);
}
static int f_lock(sqlite3_file *f, int how)
{
    return REAL(f)->pMethods->xLock(REAL(f), how);
}
static int f_unlock(sqlite3_file *f, int how)
{
    return REAL(f)->pMethods->xUnlock(REAL(f), how);
}
static int f_reserved(sqlite3_file *f, int *out)
{
    return REAL(f)->pMethods->xCheckReservedLock(REAL(f), out);
}
static int f_control(sqlite3_file *f, int op, void *p)
{
    return REAL(f)->pMethods->xFileControl(REAL(f), op, p);
}
static int f_sector(sqlite3_file *f)
{
    return REAL(f)->pMethods->xSectorSize(REAL(f));
}
static int f_device(sqlite3_file *f)
{
    return REAL(f)->pMethods->xDeviceCharacteristics(REAL(f));
}
static int f_shm_map(sqlite3_file *f, int page, int size, int extend, void volatile **p)
{
    return REAL(f)->pMethods->xShmMap(REAL(f), page, size, extend, p);
}
static int f_shm_lock(sqlite3_file *f, int offset, int n, int flags)
{
    return REAL(f)->pMethods->xShmLock(REAL(f), offset, n, flags);
}
static void f_shm_barrier(sqlite3_file *f)
{
    REAL(f)->pMethods->xShmBarrier(REAL(f));
}
static int f_shm_unmap(sqlite3_file *f, int flag)
{
    return REAL(f)->pMethods->xShmUnmap(REAL(f), flag);
}

static int v_open(sqlite3_vfs *v, const char *name, sqlite3_file *f, int flags, int *out)
{
    static const sqlite3_io_methods METHODS = {
        2,         f_close,  f_read,   f_write,   f_truncate, f_sync,        f_size,      f_lock, f_unlock, f_reserved,
        f_control, f_sector, f_device, f_shm_map, f_shm_lock, f_shm_barrier, f_shm_unmap, NULL,   NULL};
    REAL(f) = (sqlite3_file *)((struct file *)f + 1);
    int rc = disk.real->xOpen(disk.real, name, REAL(f), flags, out);
    f->pMethods = rc ? NULL : &METHODS;
    return rc;
}

static void disk_install(void)
{
    static sqlite3_vfs vfs;
    disk.real = sqlite3_vfs_find(NULL);
    vfs = *disk.real;
    vfs.zName = "failing";
    vfs.szOsFile = (int)sizeof(struct file) + disk.real->szOsFile;
    vfs.xOpen = v_open;
    vfs.pNext = NULL;
    sqlite3_vfs_register(&vfs, 1);
}

static void disk_set(long countdown, enum kind kind, bool stuck)
{
    disk.countdown = countdown;
    disk.kind = kind;
    disk.stuck = stuck;
    disk.failed = false;
}

/* ---- the work: a trial's whole life in two transactions ---- */

static char body[3][65536];

static void work_bodies(int trial)
{
    int n = snprintf(body[0], sizeof body[0], "{\"trial\":%d,\"proposal\":%d,\"arch_id\":\"%032x\",\"arch\":\"", trial,
                     trial - 1, (unsigned)trial * 2654435761U);
    for (int i = 0; i < 12000; i++) body[0][n++] = 'a'; /* overflow pages too */
    snprintf(body[0] + n, sizeof body[0] - (size_t)n,
             "\",\"genome\":[1,2,3],\"origin\":{},\"seed\":1,\"paper\":{\"params\":1}}");
    snprintf(body[1], sizeof body[1],
             "{\"trial\":%d,\"lease\":%d,\"epoch\":1,\"evaluator\":4,\"task\":\"train\",\"device\":1,\"expires\":99}",
             trial, trial);
    n = snprintf(
        body[2], sizeof body[2],
        "{\"trial\":%d,\"lease\":%d,\"epoch\":1,\"status\":\"ok\",\"device\":1,\"busy_s\":1,\"metrics\":{\"m0\":1",
        trial, trial);
    for (int i = 1; i < 30; i++) n += snprintf(body[2] + n, sizeof body[2] - (size_t)n, ",\"m%d\":%d.25", i, i);
    snprintf(body[2] + n, sizeof body[2] - (size_t)n, "}}");
}

static st_t work(struct db *db, int from)
{
    static const char *const TYPE[] = {"proposed", "leased", "reported"};
    st_t st = ST_OK;
    for (int i = from; i < 3 && !st; i++) {
        if (!db_in_transaction(db)) st = db_begin(db);
        if (!st) st = event_in(db, 1, TYPE[i], body[i], NULL);
        if (!st && i > 0) st = db_commit(db);
    }
    return st;
}

static st_t last_seq(void *ctx, const struct db_job *j)
{
    *(int64_t *)ctx = j->last_seq;
    return ST_OK;
}

/* Fails operation 0, 1, 2 … of the work, in the open store. */
static void in_place(enum kind kind, bool stuck)
{
    char *dir = temp_dir();
    struct db *db = open_or_die(dir);
    struct base_err err = BASE_ERR_INIT;
    st_t want = kind == FAIL_FULL ? ST_ENOSPC : ST_EIO;
    long failures = 0, other = 0, wrong = 0, lost = 0;
    begin_search(db);
    for (int trial = 1, n = 0;; trial++, n++) {
        int64_t before = 0, after = 0;
        work_bodies(trial);
        db_jobs(db, 1, last_seq, &before);
        disk_set(n, kind, stuck);
        st_t st = work(db, 0);
        bool hit = disk.failed;
        if (st) db_rollback(db);
        disk_set(-1, kind, false);
        db_jobs(db, 1, last_seq, &after);
        failures += st != ST_OK;
        /* A failing sync or truncation is an I/O error however full the disk is. A checkpoint may fail unseen after the
         * commit: that is no failure. */
        other += st && st != want && st != ST_EIO;
        wrong += st && after != before && after != before + 2; /* all of a transaction or nothing */
        if (st) lost += work(db, after == before ? 0 : 2) != ST_OK;
        if (!hit) break;
    }
    const char *name = kind == FAIL_FULL ? "full" : "broken";
    ok(failures > 10, "a %s disk%s: %ld operations failed, one after the other", name, stuck ? " that stays so" : "",
       failures);
    is_int(other, 0, "each was told as what it was");
    is_int(wrong, 0, "each left the store as it was");
    is_int(lost, 0, "and the same work succeeded afterwards");
    ok(!db_verify(db, &err), "the tables are what the events say (%s: %s)", err.where, err.what);
    db_close(db);
    ok(!db_open(&db, dir, 0, &err) && !db_verify(db, &err), "also when opened again (%s: %s)", err.where, err.what);
    db_close(db);
    temp_remove(dir);
}

/* Fails operation 0, 1, 2 … of making a store, and of opening and closing one. */
static void opening(void)
{
    long failures = 0, bad = 0;
    for (int n = 0;; n++) {
        char *dir = temp_dir();
        struct base_err err = BASE_ERR_INIT;
        struct db *db = NULL;
        disk_set(n, n % 2 ? FAIL_EIO : FAIL_FULL, false);
        st_t st = db_open(&db, dir, DB_CREATE, &err);
        if (!st) db_close(db);
        bool hit = disk.failed;
        disk_set(-1, FAIL_EIO, false);
        failures += st != ST_OK;
        bad += st && st != ST_EIO && st != ST_ENOSPC;
        st = db_open(&db, dir, DB_CREATE, &err);
        bad += st != ST_OK;
        if (st) printf("# after %d: %s: %s\n", n, err.where, err.what);
        if (!st) db_close(db);
        temp_remove(dir);
        if (!hit) break;
    }
    ok(failures > 5, "making a store: %ld operations failed", failures);
    is_int(bad, 0, "each with a word, and the next attempt succeeded");
}

/* A transaction that is larger than the cache spills into the WAL before its commit. */
static void spilling(void)
{
    char *dir = temp_dir();
    struct db *db = open_or_die(dir);
    struct base_err err = BASE_ERR_INIT;
    begin_search(db);
    long failures = 0;
    for (int round = 0; round < 3; round++) {
        st_t st = db_begin(db);
        disk_set(round == 2 ? -1 : 300 + 500 * round, FAIL_FULL, true);
        for (int trial = 1; trial <= 1300 && !st; trial++) {
            work_bodies(trial);
            st = event_in(db, 1, "proposed", body[0], NULL);
        }
        if (st) {
            is_int(event_in(db, 1, "state", "{\"state\":\"done\"}", NULL), ST_ESTATE,
                   "nothing may follow a failed statement");
            is_int(db_commit(db), ST_ESTATE, "nor may it be committed");
            ok(strstr(db_error_text(db), "full") != NULL, "what is wrong: %s", db_error_text(db));
        }
        if (!st) st = db_commit(db);
        if (st) db_rollback(db);
        disk_set(-1, FAIL_FULL, false);
        failures += st == ST_ENOSPC;
        int64_t last = 0;
        db_jobs(db, 1, last_seq, &last);
        is_int(last, round == 2 ? 1301 : 1, "after %s", base_status_text(st));
    }
    is_int(failures, 2, "a large transaction failed in its middle, twice");
    is_int(db_next_id(db, DB_TRIAL), 1301, "the third time all of it is there");
    ok(!db_verify(db, &err), "the tables are what the events say (%s: %s)", err.where, err.what);
    db_close(db);
    temp_remove(dir);
}

int main(void)
{
    disk_install();
    in_place(FAIL_EIO, false);
    in_place(FAIL_EIO, true);
    in_place(FAIL_FULL, false);
    in_place(FAIL_FULL, true);
    opening();
    spilling();
    return tap_done();
}
