/* Events, the transaction they gather in, its commit, and what follows when that fails. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "controller/internal.h"

/* refused NULL: an event that is refused is a failure. */
static st_t append(struct ctl *c, struct ctl_job *j, const char *type, json_t *body, bool *refused)
{
    struct base_err err = BASE_ERR_INIT;
    int64_t seq, at = base_clock_wall_ms();
    st_t st = c->failed ? c->failed : body ? ST_OK : ST_ENOMEM;
    if (j) j->touched = true;
    if (!st && !db_in_transaction(c->db)) st = db_begin(c->db);
    if (!st) {
        st = db_event_append(c->db, j ? j->id : 0, type, body, at, &seq, &err);
        if (refused) *refused = st == ST_ESTALE || st == ST_ENOTFOUND; /* nothing of it is written */
    }
    if (!st && j) {
        j->last_seq = seq;
        if (j->archive) st = archive_fold_at(j->archive, type, body, at);
        if (!st) ctl_watch_event(c, j, seq, at, type, body);
    }
    if (st && !c->failed && !(refused && *refused)) {
        c->failed = st;
        if (st != ST_ENOSPC && st != ST_EIO)
            log_error("event %s of job %lld: %s: %s", type, j ? (long long)j->id : 0LL, base_status_text(st), err.what);
    }
    json_decref(body);
    return st;
}

st_t ctl_event(struct ctl *c, struct ctl_job *j, const char *type, json_t *body)
{
    return append(c, j, type, body, NULL);
}

st_t ctl_event_lease(struct ctl *c, const struct ctl_lease *l, const char *type, json_t *body)
{
    bool refused = false;
    st_t st = append(c, l->job, l->super ? "supernet" : type, body, &refused);
    if (!st && l->super && (st = ctl_super_load(c, l->job))) c->failed = st;
    if (refused && l->super)
        ctl_job_damaged(c, l->job, "the store is damaged: its supernet is not out on lease %lld, epoch %lld", (long long)l->id, (long long)l->epoch);
    else if (refused)
        ctl_job_damaged(c, l->job, "the store is damaged: trial %lld is not out on its lease %lld, epoch %lld", (long long)l->trial, (long long)l->id,
                        (long long)l->epoch);
    return st;
}

bool ctl_writable(struct ctl *c, struct wire_call *call)
{
    if (c->stopping) wire_call_error(call, WIRE_EBUSY, "tautd is stopping");
    else if (c->broken) wire_call_error(call, WIRE_ENOSPC, "the store cannot be written; nothing was changed");
    else return true;
    return false;
}

void ctl_answer_failed(struct ctl *c, struct wire_call *call)
{
    wire_call_error(call, WIRE_EINTERNAL, "%s", base_status_text(c->failed ? c->failed : ST_ENOMEM));
}

static void committed(struct ctl *c)
{
    if (c->told) log_warn("the store can be written again");
    c->told = false;
    ctl_leases_committed(c);
    ctl_table_committed(c);
    ctl_jobs_committed(c);
}

static void rolled_back(struct ctl *c)
{
    char why[256];
    st_t st = c->failed;
    bool full = st == ST_ENOSPC || st == ST_EIO || st == ST_EBUSY || st == ST_EPERM;
    snprintf(why, sizeof why, "%s", full ? db_error_text(c->db) : base_status_text(st));
    db_rollback(c->db);
    c->failed = ST_OK;
    if (full) {
        if (!c->told) log_error("the store cannot be written: %s: %s; nothing new is leased until it can", db_path(c->db), why);
        c->told = c->broken = true;
        c->retry_ns = base_clock_ns() + CTL_RETRY_S * 1000000000ULL;
        wire_server_fail_held(c->wire, WIRE_ENOSPC, "the store cannot be written; nothing was changed");
    } else {
        log_error("a burst of calls was undone: %s", why);
        wire_server_fail_held(c->wire, WIRE_EINTERNAL, why);
    }
    /* Leases first: they point to jobs and sessions that may go. */
    ctl_leases_rolled_back(c);
    ctl_table_rolled_back(c);
    ctl_jobs_rolled_back(c);
    ctl_watch_rolled_back(c);
}

void ctl_flush(struct ctl *c)
{
    if (c->closed) return;
    if (c->kick && !c->broken && !c->failed && !c->stopping && !c->reader) {
        c->kick = false;
        ctl_sched(c);
    }
    if (!c->failed && db_in_transaction(c->db)) {
        c->failed = db_commit(c->db);
        if (!c->failed) committed(c);
    }
    if (c->failed) rolled_back(c);
    ctl_timer_set(c);
}

/* Is there room again? A file of its own answers, so that no reply depends on the attempt. */
static bool room(struct ctl *c)
{
    static const char block[65536];
    char path[4200];
    snprintf(path, sizeof path, "%s/.taut-room-%ld", c->dir, (long)getpid());
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0) return false;
    bool yes = write(fd, block, sizeof block) == (ssize_t)sizeof block && !fsync(fd);
    close(fd);
    unlink(path);
    return yes;
}

void ctl_store_retry(struct ctl *c, uint64_t now)
{
    if (!c->broken || now < c->retry_ns) return;
    c->retry_ns = now + CTL_RETRY_S * 1000000000ULL;
    if (!room(c)) return;
    c->broken = false;
    c->kick = true;
}
