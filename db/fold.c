/* What each event means for the tables. One function a type: it first reads and checks everything, then writes, so that
 * an event that is refused has written nothing. The same functions run when an event is appended and when all are
 * replayed. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "db/fold_impl.h"

enum { READY, LEASED, OK, FAILED, PRUNED, SCORED, PASSED, DRAFT, SCORING }; /* trial_data.state; archive.h has the same */

/* ---- jobs ---- */

static void read_budget(struct base_jr *r, double *evaluations, double *hours, double *joules)
{
    *evaluations = base_jr_num(r, "evaluations", INFINITY, 0, HUGE_VAL);
    *hours = base_jr_num(r, "hours", INFINITY, 0, HUGE_VAL);
    *joules = base_jr_num(r, "joules", INFINITY, 0, HUGE_VAL);
}

static st_t fold_submitted(struct fold *f)
{
    struct db *db = f->db;
    if (f->info->exists)
        return base_err_set(f->err, ST_EEXIST, f->r.path, "job %lld was submitted before", (long long)f->job);
    if (f->job <= 0) return base_err_set(f->err, ST_EINVAL, f->r.path, "a job's id is positive");
    const char *name = need_str(f, "name"), *identity = need_str(f, "identity");
    base_jr_need(&f->r, "seed");
    int64_t seed = base_jr_int(&f->r, "seed", 0, INT64_MIN, INT64_MAX);
    json_t *job = need_type(f, "job", JSON_OBJECT, "an object"), *files = optional(f, "files");
    double budget[3] = {INFINITY, INFINITY, INFINITY};
    json_t *given = json_object_get(job, "budget");
    if (json_is_object(given) && !f->r.st) {
        struct base_jr b = base_jr_at(given, "submitted.job.budget", f->err);
        read_budget(&b, &budget[0], &budget[1], &budget[2]);
        if (b.st) return b.st;
    }
    if (!f->r.st && (strlen(name) >= JOB_NAME_MAX || strlen(identity) >= BASE_ID_HEX))
        base_jr_fail(&f->r, ST_EINVAL, strlen(name) >= JOB_NAME_MAX ? "name" : "identity", "too long");
    if (f->r.st) return f->r.st;

    base_buf_reset(&db->text);
    base_buf_reset(&db->blob);
    db_json_text(job, &db->text);
    if (files) db_json_text(files, &db->blob);
    if (db->text.st || db->blob.st) return out_of_memory(f);
    sqlite3_stmt *q = db_stmt(db, SQL_JOB_SPEC_INSERT);
    if (!q) return write_fail(f);
    sqlite3_bind_int64(q, 1, f->job);
    bind_text(q, 2, name);
    bind_buf(q, 3, &db->text);
    sqlite3_bind_int64(q, 4, seed);
    bind_text(q, 5, identity);
    if (files)
        bind_buf(q, 6, &db->blob);
    else
        sqlite3_bind_null(q, 6);
    sqlite3_bind_int64(q, 7, f->at);
    st_t st = db_run(db, q, f->err);
    if (st) return st;
    if (!(q = db_stmt(db, SQL_JOB_STATE_INSERT))) return write_fail(f);
    sqlite3_bind_int64(q, 1, f->job);
    for (int i = 0; i < 3; i++) bind_num(q, 2 + i, budget[i]);
    if ((st = db_run(db, q, f->err))) return st;
    f->info->exists = true;
    return ST_OK;
}

static st_t fold_state(struct fold *f)
{
    static const char *const STATES[] = {"running", "waiting", "paused", "done", "cancelled", "failed"};
    const char *state = need_str(f, "state"), *reason = base_jr_str(&f->r, "reason", NULL);
    size_t i = 0, n = sizeof STATES / sizeof *STATES;
    while (i < n && strcmp(STATES[i], state)) i++;
    if (i == n) base_jr_fail(&f->r, ST_EINVAL, "state", "'%.40s' is no state of a job", state);
    if (f->r.st) return f->r.st;
    sqlite3_stmt *q = db_stmt(f->db, SQL_JOB_STATE);
    if (!q) return write_fail(f);
    sqlite3_bind_int64(q, 1, f->job);
    bind_text(q, 2, state);
    bind_text(q, 3, reason);
    return db_run(f->db, q, f->err);
}

static st_t fold_budget(struct fold *f)
{
    double b[3];
    read_budget(&f->r, &b[0], &b[1], &b[2]);
    if (f->r.st) return f->r.st;
    sqlite3_stmt *q = db_stmt(f->db, SQL_JOB_BUDGET);
    if (!q) return write_fail(f);
    sqlite3_bind_int64(q, 1, f->job);
    for (int i = 0; i < 3; i++) bind_num(q, 2 + i, b[i]);
    return db_run(f->db, q, f->err);
}

static st_t fold_target(struct fold *f)
{
    int64_t device = need_int(f, "device", 1);
    check_device(f, "device", device);
    if (f->r.st) return f->r.st;
    sqlite3_stmt *q = db_stmt(f->db, SQL_JOB_TARGET);
    if (!q) return write_fail(f);
    sqlite3_bind_int64(q, 1, f->job);
    sqlite3_bind_int64(q, 2, device);
    return db_run(f->db, q, f->err);
}

/* Kept as the event alone: it is read once, when the job is loaded. */
static st_t fold_precision(struct fold *f)
{
    const char *word = need_str(f, "precision");
    if (!f->r.st && strcmp(word, "f32") && strcmp(word, "bf16")) base_jr_fail(&f->r, ST_EINVAL, "precision", "must be f32 or bf16");
    return f->r.st;
}

/* Likewise: db_job_strategy reads the last of them. */
static st_t fold_strategy(struct fold *f)
{
    need_int(f, "proposal", 0);
    need_str(f, "to");
    need_str(f, "from");
    base_jr_num(&f->r, "rho", 0, -1, 1);
    return f->r.st;
}

/* What was told of a search: nothing reads them but those who watch. */
static st_t fold_flat(struct fold *f)
{
    need_str(f, "metric");
    need_int(f, "results", 1);
    base_jr_need(&f->r, "value");
    base_jr_num(&f->r, "value", 0, -HUGE_VAL, HUGE_VAL);
    return f->r.st;
}

static st_t fold_unmet(struct fold *f)
{
    need_int(f, "trial", 1);
    need_int(f, "results", 1);
    need_str(f, "breaks");
    return f->r.st;
}

static st_t fold_reference(struct fold *f)
{
    json_t *point = need_type(f, "point", JSON_ARRAY, "an array");
    size_t n = json_array_size(point);
    bool good = n >= 1 && n <= JOB_OBJECTIVES_MAX;
    for (size_t i = 0; i < n && good; i++) good = json_is_number(json_array_get(point, i));
    if (!good) base_jr_fail(&f->r, ST_EINVAL, "point", "must be 1 to %d numbers", JOB_OBJECTIVES_MAX);
    if (f->r.st) return f->r.st;
    base_buf_reset(&f->db->text);
    db_json_text(point, &f->db->text);
    sqlite3_stmt *q = f->db->text.st ? NULL : db_stmt(f->db, SQL_JOB_REFERENCE);
    if (!q) return f->db->text.st ? out_of_memory(f) : write_fail(f);
    sqlite3_bind_int64(q, 1, f->job);
    bind_buf(q, 2, &f->db->text);
    return db_run(f->db, q, f->err);
}

/* ---- trials ---- */

struct trial_now {
    int64_t id, job, epoch, lease, set;
    int state, rung;
    bool exists, has_curve;
};

static st_t trial_get(struct fold *f, struct trial_now *t)
{
    sqlite3_stmt *q = db_stmt(f->db, SQL_TRIAL_GET);
    if (!q) return write_fail(f);
    sqlite3_bind_int64(q, 1, t->id);
    st_t st = step_row(f, q, &t->exists);
    if (t->exists) {
        t->job = sqlite3_column_int64(q, 0);
        t->state = sqlite3_column_int(q, 1);
        t->epoch = sqlite3_column_int64(q, 2);
        t->lease = sqlite3_column_int64(q, 3);
        t->set = sqlite3_column_int64(q, 4);
        t->has_curve = sqlite3_column_int(q, 5);
        t->rung = sqlite3_column_int(q, 6);
    }
    sqlite3_reset(q);
    return st;
}

/* The trial that the body names; it must be this job's. */
static st_t trial_need(struct fold *f, struct trial_now *t)
{
    t->id = need_int(f, "trial", 1);
    if (f->r.st) return f->r.st;
    st_t st = trial_get(f, t);
    if (!st && (!t->exists || t->job != f->job))
        st = base_jr_fail(&f->r, ST_ENOTFOUND, "trial", "job %lld has no trial %lld", (long long)f->job,
                          (long long)t->id);
    return st;
}

/* … and it must be out on exactly the lease that the body names: a report of an older epoch counts for nothing. */
static st_t lease_need(struct fold *f, struct trial_now *t)
{
    int64_t lease = need_int(f, "lease", 1), epoch = need_int(f, "epoch", 1);
    st_t st = trial_need(f, t);
    if (st) return st;
    if ((t->state == LEASED || t->state == SCORING) && t->lease == lease && t->epoch == epoch) return ST_OK;
    return base_jr_fail(&f->r, ST_ESTALE, "lease", "trial %lld is not out on lease %lld, epoch %lld", (long long)t->id,
                        (long long)lease, (long long)epoch);
}

static st_t write_state(struct fold *f, int64_t trial, int state)
{
    sqlite3_stmt *q = db_stmt(f->db, SQL_TRIAL_STATE);
    if (!q) return write_fail(f);
    sqlite3_bind_int64(q, 1, trial);
    sqlite3_bind_int(q, 2, state);
    return db_run(f->db, q, f->err);
}

static st_t fold_proposed(struct fold *f)
{
    struct db *db = f->db;
    struct trial_now t = {.id = need_int(f, "trial", 1)};
    int64_t proposal = need_int(f, "proposal", 0);
    base_jr_need(&f->r, "seed");
    int64_t seed = base_jr_int(&f->r, "seed", 0, INT64_MIN, INT64_MAX);
    const char *arch = need_str(f, "arch_id");
    need_str(f, "arch");
    json_t *genome = need_type(f, "genome", JSON_ARRAY, "an array"),
           *origin = need_type(f, "origin", JSON_OBJECT, "an object"),
           *paper = need_type(f, "paper", JSON_OBJECT, "an object");
    json_t *score = optional(f, "score");
    struct db_slots slots;
    slots.n = 0;
    if (score && !json_is_boolean(score)) base_jr_fail(&f->r, ST_EINVAL, "score", "must be true or false");
    if (f->r.st) return f->r.st;
    if (strlen(arch) != BASE_ID_HEX - 1 || strspn(arch, "0123456789abcdef") != BASE_ID_HEX - 1)
        return base_jr_fail(&f->r, ST_EINVAL, "arch_id", "must be %d hexadecimal digits", BASE_ID_HEX - 1);
    for (size_t i = 0; i < json_array_size(genome); i++)
        if (!json_is_number(json_array_get(genome, i)))
            return base_jr_fail(&f->r, ST_EINVAL, "genome", "must be numbers");
    st_t st = db_slots_add(&slots, paper, false, "proposed.paper", f->err);
    if (!st) st = trial_get(f, &t);
    if (!st) st = db_fold_check_repeat(f, arch, origin);
    if (st) return st;
    if (t.exists) return base_jr_fail(&f->r, ST_EEXIST, "trial", "%lld is taken", (long long)t.id);
    if (proposal != f->info->proposals)
        return base_jr_fail(&f->r, ST_EINVAL, "proposal", "the next is %lld, not %lld", (long long)f->info->proposals,
                            (long long)proposal);

    base_buf_reset(&db->text);
    base_buf_reset(&db->blob);
    db_json_text(origin, &db->text);
    db_genome_pack(genome, &db->blob);
    if (db->text.st || db->blob.st) return out_of_memory(f);
    int64_t set;
    if ((st = db_slots_set(db, &slots, &set, f->err))) return st;
    sqlite3_stmt *q = db_slots_stmt(db, DB_SLOTS_INSERT, db_slots_inline(&slots));
    if (!q) return write_fail(f);
    sqlite3_bind_int64(q, 1, t.id);
    sqlite3_bind_int64(q, 2, f->job);
    sqlite3_bind_int64(q, 3, proposal);
    bind_text(q, 4, arch);
    sqlite3_bind_int64(q, 5, f->seq);
    sqlite3_bind_int64(q, 6, seed);
    bind_buf(q, 7, &db->text);
    sqlite3_bind_blob(q, 8, db->blob.p, (int)db->blob.len, SQLITE_STATIC);
    sqlite3_bind_int64(q, 9, set);
    db_slots_bind(q, 10, &slots, 0, db_slots_inline(&slots));
    st = db_run(db, q, f->err);
    if (!st) st = db_slots_more(db, t.id, &slots, f->err);
    if (!st) st = db_fold_write_repeat(f, t.id, origin);
    if (!st && json_is_true(score)) st = write_state(f, t.id, DRAFT);
    if (!st) f->info->proposals++;
    return st;
}

static st_t fold_leased(struct fold *f)
{
    struct db *db = f->db;
    struct trial_now t;
    int64_t lease = need_int(f, "lease", 1), epoch = need_int(f, "epoch", 1), evaluator = need_int(f, "evaluator", 1),
            device = need_int(f, "device", 1), expires = need_int(f, "expires", INT64_MIN);
    json_t *task = base_jr_need(&f->r, "task");
    check_device(f, "device", device);
    st_t st = trial_need(f, &t);
    if (st) return st;
    if (t.state != READY && t.state != DRAFT)
        return base_jr_fail(&f->r, ST_ESTATE, "trial", "%lld is not ready to be leased", (long long)t.id);
    if (epoch <= t.epoch) return base_jr_fail(&f->r, ST_ESTALE, "epoch", "must be above %lld", (long long)t.epoch);
    base_buf_reset(&db->text);
    if (json_is_string(task))
        base_buf_str(&db->text, json_string_value(task));
    else
        db_json_text(task, &db->text);
    if (db->text.st) return out_of_memory(f);
    sqlite3_stmt *q = db_stmt(db, SQL_TRIAL_LEASE);
    if (!q) return write_fail(f);
    sqlite3_bind_int64(q, 1, t.id);
    sqlite3_bind_int64(q, 2, epoch);
    sqlite3_bind_int64(q, 3, lease);
    sqlite3_bind_int64(q, 4, device);
    sqlite3_bind_int(q, 5, t.state == DRAFT ? SCORING : LEASED);
    if ((st = db_run(db, q, f->err))) return st;
    if (!(q = db_stmt(db, SQL_LEASE_INSERT))) return write_fail(f);
    sqlite3_bind_int64(q, 1, t.id);
    sqlite3_bind_int64(q, 2, lease);
    bind_buf(q, 3, &db->text);
    sqlite3_bind_int64(q, 4, evaluator);
    sqlite3_bind_int64(q, 5, epoch);
    sqlite3_bind_int64(q, 6, expires);
    sqlite3_bind_int64(q, 7, device);
    return db_run(db, q, f->err);
}

static st_t write_return(struct fold *f, int64_t trial, double busy_s, int state)
{
    sqlite3_stmt *q = db_stmt(f->db, SQL_TRIAL_RETURN);
    if (!q) return write_fail(f);
    sqlite3_bind_int64(q, 1, trial);
    sqlite3_bind_double(q, 2, busy_s);
    sqlite3_bind_int(q, 3, state);
    return db_run(f->db, q, f->err);
}

/* The lease ends, and what it took is added to the job's sums. */
static st_t write_spent(struct fold *f, int64_t trial, double busy_s, double joules)
{
    sqlite3_stmt *q = db_stmt(f->db, SQL_LEASE_DELETE);
    if (!q) return write_fail(f);
    sqlite3_bind_int64(q, 1, trial);
    st_t st = db_run(f->db, q, f->err);
    return st ? st : job_spend(f, busy_s, joules);
}

static st_t fold_progress(struct fold *f)
{
    struct trial_now t;
    struct checkpoint c;
    json_t *curve = optional(f, "curve");
    read_checkpoint(f, "checkpoint", &c);
    st_t st = lease_need(f, &t);
    if (!st) st = db_curve_merge(f->db, t.id, t.has_curve, curve, f->r.path, f->err);
    if (st) return st;
    if (curve) {
        sqlite3_stmt *q = db_stmt(f->db, SQL_TRIAL_CURVE);
        if (!q) return write_fail(f);
        sqlite3_bind_int64(q, 1, t.id);
        bind_buf(q, 2, &f->db->text);
        if ((st = db_run(f->db, q, f->err))) return st;
    }
    return write_checkpoint(f, t.id, SQL_CHECKPOINT_PUT, &c);
}

/* The trial's lease has come to its end, in this state. */
static st_t fold_end(struct fold *f, int state, json_t *metrics, const char *error)
{
    struct db *db = f->db;
    struct trial_now t;
    struct checkpoint c, stable;
    struct db_slots slots;
    int64_t device = need_int(f, "device", 1);
    double busy_s = need_num(f, "busy_s"),
           joules = optional(f, "joules") ? base_jr_num(&f->r, "joules", 0, 0, HUGE_VAL) : NAN;
    json_t *curve = optional(f, "curve"), *estimates = state == OK ? optional(f, "estimates") : NULL;
    check_device(f, "device", device);
    read_checkpoint(f, "checkpoint", &c);
    read_checkpoint(f, "stable", &stable);
    db_fold_check_estimates(f, estimates);
    st_t st = lease_need(f, &t);
    if (!st && t.state == SCORING && state != SCORED && state != FAILED) st = base_jr_fail(&f->r, ST_ESTATE, "trial", "%lld is out to be scored", (long long)t.id);
    if (!st && t.state == LEASED && state == SCORED) st = base_jr_fail(&f->r, ST_ESTATE, "trial", "%lld is out to be trained", (long long)t.id);
    if (!st) st = db_slots_get(db, t.id, t.set, &slots, f->err);
    if (!st && metrics) st = db_slots_add(&slots, metrics, true, "reported.metrics", f->err);
    if (!st) st = db_curve_merge(db, t.id, t.has_curve, curve, f->r.path, f->err);
    int64_t set;
    if (!st) st = db_slots_set(db, &slots, &set, f->err);
    if (st) return st;
    if ((st = write_spent(f, t.id, busy_s, isnan(joules) ? 0 : joules))) return st;
    sqlite3_stmt *q = db_slots_stmt(db, DB_SLOTS_UPDATE, db_slots_inline(&slots));
    if (!q) return write_fail(f);
    sqlite3_bind_int(q, 1, state);
    sqlite3_bind_int64(q, 2, device);
    bool report = state != SCORED; /* else it is none of its evaluation */
    for (int i = 3; i <= 6; i++) sqlite3_bind_null(q, i);
    if (report) sqlite3_bind_int64(q, 3, f->seq);
    if (report) sqlite3_bind_int64(q, 4, f->at);
    sqlite3_bind_double(q, 5, busy_s);
    if (report) sqlite3_bind_double(q, 6, f->info->busy_s);
    bind_num(q, 7, joules);
    if (curve)
        bind_buf(q, 8, &db->text);
    else
        sqlite3_bind_null(q, 8);
    bind_text(q, 9, error);
    sqlite3_bind_int64(q, 10, set);
    sqlite3_bind_int64(q, db_slots_bind(q, 11, &slots, 0, db_slots_inline(&slots)), t.id);
    st = db_run(db, q, f->err);
    if (!st) st = db_slots_more(db, t.id, &slots, f->err);
    if (!st && t.rung && t.set) st = db_slots_requality(db, t.id, &slots, db->set[t.set - 1], metrics, f->err);
    if (!st) st = db_slots_quality(db, t.id, &slots, f->err);
    if (!st) st = db_fold_write_estimates(f, t.id, t.rung, metrics, estimates);
    if (!st) st = write_checkpoint(f, t.id, SQL_CHECKPOINT_PUT, &c);
    return st ? st : write_checkpoint(f, t.id, SQL_STABLE_PUT, &stable);
}

static st_t fold_reported(struct fold *f)
{
    const char *status = need_str(f, "status"),
               *error = optional(f, "error") ? base_jr_str(&f->r, "error", NULL) : NULL;
    json_t *metrics = need_type(f, "metrics", JSON_OBJECT, "an object");
    bool good = !strcmp(status, "ok");
    if (!good && strcmp(status, "failed")) base_jr_fail(&f->r, ST_EINVAL, "status", "must be ok or failed");
    return fold_end(f, good ? OK : FAILED, metrics, error);
}

static st_t fold_pruned(struct fold *f)
{
    const char *reason = need_str(f, "reason");
    return fold_end(f, PRUNED, NULL, reason);
}

static st_t fold_scored(struct fold *f)
{
    json_t *metrics = need_type(f, "metrics", JSON_OBJECT, "an object");
    return fold_end(f, SCORED, metrics, NULL);
}

/* Another trial of the job, which must be in a state in which it can be passed over. */
static st_t pass_over(struct fold *f, json_t *id)
{
    struct trial_now t = {.id = json_integer_value(id)};
    st_t st = trial_get(f, &t);
    if (st) return st;
    if (!t.exists || t.job != f->job || t.state != SCORED)
        return base_jr_fail(&f->r, ST_ESTATE, "passed", "%lld is no scored trial of job %lld", (long long)t.id, (long long)f->job);
    return ST_OK;
}

static st_t fold_chosen(struct fold *f)
{
    struct trial_now t;
    json_t *passed = need_type(f, "passed", JSON_ARRAY, "an array"), *v;
    size_t i;
    st_t st = trial_need(f, &t);
    if (!st && t.state != SCORED && t.state != PASSED) st = base_jr_fail(&f->r, ST_ESTATE, "trial", "%lld is not scored", (long long)t.id);
    json_array_foreach(passed, i, v)
        if (!st) st = json_integer_value(v) == t.id ? base_jr_fail(&f->r, ST_EINVAL, "passed", "%lld is chosen", (long long)t.id) : pass_over(f, v);
    if (!st) st = write_state(f, t.id, READY);
    json_array_foreach(passed, i, v)
        if (!st) st = write_state(f, json_integer_value(v), PASSED);
    return st;
}

/* Kept as the event alone, as "strategy" is. */
static st_t fold_filter(struct fold *f)
{
    json_t *on = base_jr_need(&f->r, "on");
    need_int(f, "proposal", 0);
    if (on && !json_is_boolean(on)) base_jr_fail(&f->r, ST_EINVAL, "on", "must be true or false");
    return f->r.st;
}

static st_t on_trial(struct fold *f, enum db_sql sql, int64_t trial)
{
    sqlite3_stmt *q = db_stmt(f->db, sql);
    if (!q) return write_fail(f);
    sqlite3_bind_int64(q, 1, trial);
    return db_run(f->db, q, f->err);
}

static st_t fold_promoted(struct fold *f)
{
    struct db *db = f->db;
    struct trial_now t;
    struct db_slots slots;
    int64_t rung = need_int(f, "rung", 1);
    st_t st = trial_need(f, &t);
    if (st) return st;
    if (t.state != OK || rung != t.rung + 1)
        return base_jr_fail(&f->r, ST_ESTATE, "trial", "%lld has no result on rung %lld to be promoted from", (long long)t.id, (long long)rung - 1);
    st = db_slots_get(db, t.id, t.set, &slots, f->err);
    if (!st) st = db_slots_text(db, t.id, &slots, f->err);
    if (st) return st;
    sqlite3_stmt *q = db_stmt(db, SQL_RUNG_INSERT);
    if (!q) return write_fail(f);
    sqlite3_bind_int64(q, 1, t.id);
    sqlite3_bind_int64(q, 2, t.rung);
    bind_buf(q, 3, &db->text);
    st = db_run(db, q, f->err);
    if (!st) st = on_trial(f, SQL_TRIAL_PROMOTE, t.id);
    if (!st) st = on_trial(f, SQL_STABLE_TAKE, t.id);
    return st ? st : on_trial(f, SQL_STABLE_DELETE, t.id);
}

static st_t fold_audit(struct fold *f)
{
    static const char *const words[] = {"best", "front", "space", "all"};
    struct trial_now t;
    const char *drawn = need_str(f, "drawn");
    size_t i = 0;
    while (i < 4 && strcmp(words[i], drawn)) i++;
    if (i == 4) base_jr_fail(&f->r, ST_EINVAL, "drawn", "must be best, front, space or all");
    st_t st = trial_need(f, &t);
    if (st) return st;
    sqlite3_stmt *q = db_stmt(f->db, SQL_AUDIT_INSERT);
    if (!q) return write_fail(f);
    sqlite3_bind_int64(q, 1, t.id);
    sqlite3_bind_int64(q, 2, f->seq);
    sqlite3_bind_int(q, 3, t.rung);
    bind_text(q, 4, drawn);
    st = db_run(f->db, q, f->err);
    return st || sqlite3_changes(f->db->sql) ? st : base_jr_fail(&f->r, ST_EEXIST, "trial", "%lld is in the audit already", (long long)t.id);
}

static st_t fold_verdict(struct fold *f)
{
    const char *shortcut = need_str(f, "shortcut");
    json_t *relied = base_jr_need(&f->r, "relied");
    if (relied && !json_is_boolean(relied)) base_jr_fail(&f->r, ST_EINVAL, "relied", "must be true or false");
    if (!f->r.st && strlen(shortcut) >= METRIC_NAME_MAX) base_jr_fail(&f->r, ST_EINVAL, "shortcut", "must be shorter than %d", METRIC_NAME_MAX);
    if (f->r.st) return f->r.st;
    sqlite3_stmt *q = db_stmt(f->db, SQL_VERDICT_PUT);
    if (!q) return write_fail(f);
    sqlite3_bind_int64(q, 1, f->job);
    sqlite3_bind_int64(q, 2, f->seq);
    bind_text(q, 3, shortcut);
    sqlite3_bind_int(q, 4, json_is_true(relied));
    sqlite3_bind_int64(q, 5, f->info->proposals);
    return db_run(f->db, q, f->err);
}

/* Kept as the event alone: the lease's report says what became of it. */
static st_t fold_modelled(struct fold *f)
{
    struct trial_now t;
    json_t *estimates = need_type(f, "estimates", JSON_OBJECT, "an object"), *saved = base_jr_need(&f->r, "saved");
    if (saved && !json_is_boolean(saved)) base_jr_fail(&f->r, ST_EINVAL, "saved", "must be true or false");
    db_fold_check_estimates(f, estimates);
    return lease_need(f, &t);
}

static st_t fold_returned(struct fold *f)
{
    struct trial_now t;
    need_str(f, "reason");
    double busy_s = need_num(f, "busy_s");
    st_t st = lease_need(f, &t);
    if (!st) st = write_return(f, t.id, busy_s, t.state == SCORING ? DRAFT : READY);
    if (!st) st = write_spent(f, t.id, busy_s, 0);
    return st;
}

/* ---- the service ---- */

static st_t fold_device(struct fold *f)
{
    struct db *db = f->db;
    int64_t id = need_int(f, "id", 1);
    const char *kind = need_str(f, "kind");
    json_t *body = need_type(f, "body", JSON_OBJECT, "an object");
    if (f->r.st) return f->r.st;
    sqlite3_stmt *q = db_stmt(db, SQL_DEVICE_GET);
    if (!q) return write_fail(f);
    sqlite3_bind_int64(q, 1, id);
    bool taken;
    st_t st = step_row(f, q, &taken);
    if (taken) st = base_jr_fail(&f->r, ST_EEXIST, "id", "%lld is taken", (long long)id);
    sqlite3_reset(q);
    if (st) return st;
    base_buf_reset(&db->text);
    db_json_text(body, &db->text);
    if (db->text.st) return out_of_memory(f);
    if (!(q = db_stmt(db, SQL_DEVICE_INSERT))) return write_fail(f);
    sqlite3_bind_int64(q, 1, id);
    bind_text(q, 2, kind);
    bind_buf(q, 3, &db->text);
    return db_run(db, q, f->err);
}

static st_t fold_evaluator(struct fold *f)
{
    int64_t id = need_int(f, "evaluator", 1), device = need_int(f, "device", 1);
    const char *name = need_str(f, "name");
    check_device(f, "device", device);
    if (f->r.st) return f->r.st;
    sqlite3_stmt *q = db_stmt(f->db, SQL_EVALUATOR_PUT);
    if (!q) return write_fail(f);
    sqlite3_bind_int64(q, 1, id);
    bind_text(q, 2, name);
    sqlite3_bind_int64(q, 3, device);
    return db_run(f->db, q, f->err);
}

static const struct {
    const char *type;
    st_t (*fold)(struct fold *f);
    bool service; /* an event of job 0 */
} FOLDS[] = {
    {"submitted", fold_submitted, false}, {"state", fold_state, false},         {"budget", fold_budget, false},
    {"target", fold_target, false},       {"reference", fold_reference, false}, {"proposed", fold_proposed, false},
    {"leased", fold_leased, false},       {"progress", fold_progress, false},   {"reported", fold_reported, false},
    {"returned", fold_returned, false},   {"device", fold_device, true},        {"evaluator", fold_evaluator, true},
    {"precision", fold_precision, false}, {"promoted", fold_promoted, false},   {"pruned", fold_pruned, false},
    {"supernet", db_fold_supernet, false},
    {"scored", fold_scored, false},       {"chosen", fold_chosen, false},       {"filter", fold_filter, false},
    {"strategy", fold_strategy, false},   {"flat", fold_flat, false},           {"unmet", fold_unmet, false},
    {"audit", fold_audit, false},         {"verdict", fold_verdict, false},
    {"modelled", fold_modelled, false},
};

st_t db_fold(struct db *db, int64_t job, int64_t seq, int64_t at_ms, const char *type, json_t *body,
             struct base_err *err)
{
    struct fold f = {.db = db, .job = job, .seq = seq, .at = at_ms, .err = err};
    size_t i = 0, n = sizeof FOLDS / sizeof *FOLDS;
    while (i < n && strcmp(FOLDS[i].type, type)) i++;
    if (i == n) return base_err_set(err, ST_EINVAL, type, "is no type of event");
    if (FOLDS[i].service != (job == 0))
        return base_err_set(err, ST_EINVAL, type, "is an event of %s",
                            FOLDS[i].service ? "job 0, the service" : "a job");
    f.r = base_jr_at(body, type, err);
    st_t st = f.r.st;
    if (st || !(f.info = db_job_info(db, job, &st, err))) return st;
    if (!f.info->exists && job && FOLDS[i].fold != fold_submitted)
        return base_err_set(err, ST_ENOTFOUND, type, "there is no job %lld", (long long)job);
    if ((st = FOLDS[i].fold(&f))) return st;
    f.info->seq = seq;
    return ST_OK;
}
