/* The supernet of a job with shared weights: a row a job, from its first lease on. */
#include "db/fold_impl.h"

struct now {
    char state[8]; /* "": never leased */
    int64_t epoch, lease;
};

static st_t supernet_get(struct fold *f, struct now *t)
{
    sqlite3_stmt *q = db_stmt(f->db, SQL_SUPERNET_GET);
    *t = (struct now){.epoch = 0};
    if (!q) return write_fail(f);
    sqlite3_bind_int64(q, 1, f->job);
    bool there;
    st_t st = step_row(f, q, &there);
    if (there) {
        snprintf(t->state, sizeof t->state, "%s", (const char *)sqlite3_column_text(q, 0));
        t->epoch = sqlite3_column_int64(q, 1);
        t->lease = sqlite3_column_int64(q, 2);
    }
    sqlite3_reset(q);
    return st;
}

static st_t leased(struct fold *f, int64_t lease, int64_t epoch)
{
    struct now t;
    int64_t evaluator = need_int(f, "evaluator", 1), device = need_int(f, "device", 1), expires = need_int(f, "expires", INT64_MIN);
    check_device(f, "device", device);
    st_t st = f->r.st ? f->r.st : supernet_get(f, &t);
    if (st) return st;
    if (!strcmp(t.state, "leased") || !strcmp(t.state, "ok")) return base_jr_fail(&f->r, ST_ESTATE, "state", "the supernet is %s", t.state);
    if (epoch <= t.epoch) return base_jr_fail(&f->r, ST_ESTALE, "epoch", "must be above %lld", (long long)t.epoch);
    sqlite3_stmt *q = db_stmt(f->db, SQL_SUPERNET_LEASE);
    if (!q) return write_fail(f);
    const int64_t v[] = {f->job, epoch, lease, evaluator, device, expires};
    for (int i = 0; i < 6; i++) sqlite3_bind_int64(q, i + 1, v[i]);
    return db_run(f->db, q, f->err);
}

static st_t ended(struct fold *f, const char *state, double busy_s, double joules, const char *error)
{
    sqlite3_stmt *q = db_stmt(f->db, SQL_SUPERNET_END);
    if (!q) return write_fail(f);
    sqlite3_bind_int64(q, 1, f->job);
    sqlite3_bind_text(q, 2, state, -1, SQLITE_STATIC);
    sqlite3_bind_double(q, 3, busy_s);
    bind_num(q, 4, joules);
    bind_text(q, 5, error);
    st_t st = db_run(f->db, q, f->err);
    return st ? st : job_spend(f, busy_s, isnan(joules) ? 0 : joules);
}

st_t db_fold_supernet(struct fold *f)
{
    static const char *const states[] = {"leased", "saved", "ready", "ok", "failed"};
    enum { LEASED, SAVED, READY, OK, FAILED, N } i = LEASED;
    struct checkpoint c;
    struct now t;
    const char *state = need_str(f, "state"), *error = optional(f, "error") ? base_jr_str(&f->r, "error", NULL) : NULL;
    int64_t lease = need_int(f, "lease", 1), epoch = need_int(f, "epoch", 1);
    while (i < N && strcmp(states[i], state)) i++;
    if (i == N) base_jr_fail(&f->r, ST_EINVAL, "state", "must be leased, saved, ready, ok or failed");
    if (i == LEASED) return leased(f, lease, epoch);
    double busy_s = i == SAVED ? 0 : need_num(f, "busy_s"), joules = optional(f, "joules") ? base_jr_num(&f->r, "joules", 0, 0, HUGE_VAL) : NAN;
    if (i == READY) need_str(f, "reason");
    if (i == SAVED || i == OK) base_jr_need(&f->r, "checkpoint");
    read_checkpoint(f, "checkpoint", &c);
    st_t st = f->r.st ? f->r.st : supernet_get(f, &t);
    if (st) return st;
    if (strcmp(t.state, "leased") || t.lease != lease || t.epoch != epoch)
        return base_jr_fail(&f->r, ST_ESTALE, "lease", "the supernet is not out on lease %lld, epoch %lld", (long long)lease, (long long)epoch);
    st = write_checkpoint(f, f->job, SQL_SUPERNET_CHECKPOINT, &c);
    return st || i == SAVED ? st : ended(f, state, busy_s, joules, error);
}
