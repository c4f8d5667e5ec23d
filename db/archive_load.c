/* Filling an archive: from the tables, or event by event. Both ways end in the same archive. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/json.h"
#include "db/archive_impl.h"
#include "db/internal.h"

/* ---- from the tables ---- */

struct report { /* of a row, to be put into the order of the events */
    int64_t seq, at;
    double busy;
    uint32_t row;
    int rung; /* -1: the row's own */
};

static int by_seq(const void *a, const void *b)
{
    const struct report *x = a, *y = b;
    return (x->seq > y->seq) - (x->seq < y->seq);
}

struct loader {
    struct archive *a;
    struct db *db;
    int64_t last;            /* trial of the row before */
    struct archive_damage *later; /* [nlater] trials of which something beside their rows cannot be; sorted */
    long nlater, cap_later;
    const char *error;       /* why a row cannot be */
    bool *fits;              /* [genes][256]: may gene i be that byte? */
    int (*column)[DB_SLOTS]; /* [nsets]; column[s][0] < 0: not looked up yet */
    struct report *rep;
    long nrep, cap_rep;
};

static st_t corrupt(struct loader *l, const char *what)
{
    l->error = what;
    return ST_ECORRUPT;
}

static int by_id(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static st_t load_genome(struct loader *l, long row, const uint8_t *p, int bytes)
{
    struct archive *a = l->a;
    if (bytes == a->genes + 1 && p[0] == 0) {
        for (int i = 0; i < a->genes; i++)
            if (!l->fits[(size_t)i * 256 + p[1 + i]]) return corrupt(l, "its genome does not fit the job's space");
        if (!a->wide) {
            memcpy(a->genome + (size_t)row * (size_t)a->genes, p + 1, (size_t)a->genes);
            return ST_OK;
        }
        for (int i = 0; i < a->genes; i++) archive_gene_set(a, row, i, p[1 + i]);
        return ST_OK;
    }
    if (bytes != 8 * a->genes + 1 || p[0] != 1) return corrupt(l, "its genome does not fit the job's space");
    for (int i = 0; i < a->genes; i++) {
        double g;
        memcpy(&g, p + 1 + 8 * i, sizeof g);
        if (!space_gene_fits(a->job->space, i, g)) return corrupt(l, "its genome does not fit the job's space");
        st_t st = archive_gene_set(a, row, i, g);
        if (st) return st;
    }
    return ST_OK;
}

static double value_at(sqlite3_stmt *q, int i)
{
    double v = sqlite3_column_double(q, i);
    return v == 0 && sqlite3_column_type(q, i) == SQLITE_NULL ? NAN : v;
}

enum { C_ID, C_ARCH, C_STATE, C_EPOCH, C_SEQ, C_AT, C_BUSY, C_PROPOSAL, C_GENOME, C_SET, C_OF, C_KIND, C_SLOT }; /* C_OF: the trial that it repeats, or NULL */

/* first: number of the slot that the row begins with */
static st_t load_slots(struct loader *l, sqlite3_stmt *q, long row, int first)
{
    int64_t id = sqlite3_column_int64(q, C_SET);
    if (id == 0) return ST_OK;
    if (id < 0 || id > l->db->nsets) return corrupt(l, "it has no such metric_set");
    const struct db_set *set = l->db->set[id - 1];
    int *column = l->column[id - 1];
    for (int i = 0; i < DB_INLINE && first + i < set->n; i++) {
        int k = first + i;
        if (column[k] < 0 && (column[k] = archive_column(l->a, set->name[k])) < 0) return ST_ENOMEM;
        double median = value_at(q, C_SLOT + 3 * i), low = value_at(q, C_SLOT + 3 * i + 1);
        st_t st = archive_set(l->a, column[k], row, median, low, isnan(low) ? NAN : value_at(q, C_SLOT + 3 * i + 2));
        if (st) return st;
    }
    return ST_OK;
}

static st_t report_keep(struct loader *l, struct report r)
{
    if (l->nrep == l->cap_rep) {
        long cap = l->cap_rep ? 2 * l->cap_rep : 1024;
        struct report *p = realloc(l->rep, (size_t)cap * sizeof *p);
        if (!p) return ST_ENOMEM;
        l->rep = p;
        l->cap_rep = cap;
    }
    l->rep[l->nrep++] = r;
    return ST_OK;
}

/* Into the memory of the row after the last, which counts when all of it is good: of one that is not, no more than genes stay there. */
static st_t load_row(struct loader *l, sqlite3_stmt *q)
{
    struct archive *a = l->a;
    const char *hex = (const char *)sqlite3_column_text(q, C_ARCH);
    const uint8_t *genome = sqlite3_column_blob(q, C_GENOME);
    uint8_t arch[ARCH_BYTES];
    long row = a->n;
    int64_t id = sqlite3_column_int64(q, C_ID), last = l->last;
    int state = sqlite3_column_int(q, C_STATE);
    if (!hex || (!genome && sqlite3_column_bytes(q, C_GENOME))) return ST_ENOMEM; /* an empty blob is NULL as well */
    if (id > last) l->last = id;
    if (id <= last || sqlite3_column_int64(q, C_PROPOSAL) < row || state < 0 || state >= TRIAL_STATES || !archive_arch_parse(hex, arch))
        return corrupt(l, "it is not as Taut writes it");
    const struct archive_damage *later = l->nlater ? bsearch(&id, l->later, (size_t)l->nlater, sizeof *later, by_id) : NULL;
    if (later) return corrupt(l, later->why);
    st_t st = archive_reserve(a, row + 1);
    if (st) return st;
    if ((st = load_genome(l, row, genome, sqlite3_column_bytes(q, C_GENOME))) || (st = load_slots(l, q, row, 0)))
        return st;
    const char *kind = (const char *)sqlite3_column_text(q, C_KIND);
    if (sqlite3_column_type(q, C_OF) == SQLITE_NULL) archive_add(a, id, arch);
    else st = archive_add_repeat(a, id, arch, archive_row(a, sqlite3_column_int64(q, C_OF)), kind ? kind : "");
    if (st) return st == ST_EINVAL ? corrupt(l, "what it repeats is not there") : st;
    archive_state_set(a, row, (enum trial_state)state);
    a->epoch[row] = sqlite3_column_int64(q, C_EPOCH);
    a->proposal[row] = sqlite3_column_int64(q, C_PROPOSAL);
    if (sqlite3_column_type(q, C_SEQ) == SQLITE_NULL) return ST_OK;
    return report_keep(l, (struct report){sqlite3_column_int64(q, C_SEQ), sqlite3_column_int64(q, C_AT), sqlite3_column_double(q, C_BUSY),
                                          (uint32_t)row, -1});
}

/* trial, rung, reported_seq, reported_at, busy_total, metrics: what a trial was promoted from */
static st_t load_rung(struct loader *l, sqlite3_stmt *q)
{
    struct archive *a = l->a;
    long row = archive_row(a, sqlite3_column_int64(q, 0));
    int rung = sqlite3_column_int(q, 1);
    const char *text = (const char *)sqlite3_column_text(q, 5), *name;
    json_t *metrics = NULL, *v;
    if (row < 0) return ST_OK; /* left out */
    if (!text) return ST_ENOMEM;
    if (rung != a->rung[row] || rung >= a->job->rungs - 1 || base_json_parse(&metrics, text, strlen(text), "metrics", NULL))
        return corrupt(l, "its trial_rung is not as Taut writes it");
    st_t st = report_keep(l, (struct report){sqlite3_column_int64(q, 2), sqlite3_column_int64(q, 3), sqlite3_column_double(q, 4), (uint32_t)row, rung});
    json_object_foreach(metrics, name, v)
    {
        int c = st ? -1 : archive_column(a, name);
        json_t *median = json_array_get(v, 0);
        if (!st) st = c < 0 ? ST_ENOMEM : archive_lower_set(a, c, row, rung, json_is_number(median) ? json_number_value(median) : NAN);
    }
    json_decref(metrics);
    if (st) return st;
    /* The row has its state already: what it has on the rung above is counted there. */
    bool good = a->state[row] == TRIAL_OK;
    a->rung[row]++;
    if (a->of[row]) return ST_OK;
    a->reached[rung + 1]++;
    a->has[rung + 1] += good;
    a->has[rung] += !good;
    return ST_OK;
}

static st_t load_more(struct loader *l, sqlite3_stmt *q)
{
    long row = archive_row(l->a, sqlite3_column_int64(q, C_ID));
    int64_t chunk = sqlite3_column_int64(q, C_ARCH);
    if (row < 0) return ST_OK; /* left out */
    if (chunk < 1 || chunk >= DB_SLOTS / DB_INLINE) return corrupt(l, "its trial_more is not as Taut writes it");
    return load_slots(l, q, row, (int)chunk * DB_INLINE);
}

/* Its row is in the archive already: the next time over, it is not. */
static st_t leave_out_later(struct loader *l, int64_t trial)
{
    if (l->nlater == l->cap_later) {
        long cap = l->cap_later ? 2 * l->cap_later : 16;
        struct archive_damage *p = realloc(l->later, (size_t)cap * sizeof *p);
        if (!p) return ST_ENOMEM;
        l->later = p;
        l->cap_later = cap;
    }
    l->later[l->nlater++] = (struct archive_damage){trial, l->error};
    return ST_OK;
}

/* Finalizes q, whose first column is the trial. own: of the trials' own rows. */
static st_t walk_rows(struct loader *l, sqlite3_stmt *q, st_t (*load)(struct loader *l, sqlite3_stmt *q), bool own, struct base_err *err)
{
    st_t st = ST_OK;
    int rc = SQLITE_ROW;
    while (!st && (rc = sqlite3_step(q)) == SQLITE_ROW) {
        st = load(l, q);
        if (st == ST_ECORRUPT) st = own ? archive_damage_add(l->a, sqlite3_column_int64(q, C_ID), l->error) : leave_out_later(l, sqlite3_column_int64(q, C_ID));
    }
    if (st)
        base_err_set(err, st, "", "out of memory");
    else if (rc != SQLITE_DONE)
        st = db_fail(l->db, l->db->path, err);
    sqlite3_finalize(q);
    return st;
}

static st_t load_rungs(struct loader *l, int64_t job, struct base_err *err)
{
    static const char sql[] = "SELECT r.trial,r.rung,r.reported_seq,r.reported_at,r.busy_total,r.metrics FROM trial_data t"
                              " JOIN trial_rung r ON r.trial=t.id WHERE t.job=? ORDER BY r.trial,r.rung";
    sqlite3_stmt *q = NULL;
    if (sqlite3_prepare_v2(l->db->sql, sql, -1, &q, NULL)) return db_fail(l->db, l->db->path, err);
    sqlite3_bind_int64(q, 1, job);
    return walk_rows(l, q, load_rung, false, err);
}

static st_t load_audit(struct loader *l, sqlite3_stmt *q)
{
    const char *drawn = (const char *)sqlite3_column_text(q, 2);
    long row = archive_row(l->a, sqlite3_column_int64(q, 0));
    if (!drawn) return ST_ENOMEM;
    if (row < 0 && l->a->ndamage) return ST_OK; /* left out */
    st_t st = archive_audit_add(l->a, row, sqlite3_column_int(q, 1), drawn);
    return st == ST_EINVAL ? corrupt(l, "its audit is not as Taut writes it") : st;
}

static st_t load_verdict(struct loader *l, sqlite3_stmt *q)
{
    const char *shortcut = (const char *)sqlite3_column_text(q, 1);
    return shortcut ? archive_verdict_set(l->a, shortcut, sqlite3_column_int(q, 2), sqlite3_column_int64(q, 3)) : ST_ENOMEM;
}

static st_t load_estimate(struct loader *l, sqlite3_stmt *q)
{
    struct archive *a = l->a;
    const char *name = (const char *)sqlite3_column_text(q, 1);
    struct archive_estimate e = {.row = archive_row(a, sqlite3_column_int64(q, 0)), .rung = sqlite3_column_int(q, 2), .median = sqlite3_column_double(q, 3),
                                 .low = sqlite3_column_double(q, 4), .high = sqlite3_column_double(q, 5), .saved = sqlite3_column_int(q, 6)};
    if (!name) return ST_ENOMEM;
    if (e.row < 0 && a->ndamage) return ST_OK; /* left out */
    if (e.row < 0 || e.rung < 0 || e.rung > a->rung[e.row]) return corrupt(l, "its estimate is not as Taut writes it");
    e.col = archive_column(a, name);
    st_t st = e.col < 0 ? ST_ENOMEM : archive_estimate_add(a, &e);
    return st || !sqlite3_column_int(q, 7) ? st : archive_estimated_set(a, e.col, e.row, true);
}

/* Draws, verdicts and estimates, in the order of their events. */
static st_t load_audits(struct loader *l, int64_t job, struct base_err *err)
{
    static const char *const sql[] = {"SELECT a.trial,a.rung,a.drawn FROM audit a JOIN trial_data t ON t.id=a.trial WHERE t.job=? ORDER BY a.seq",
                                      "SELECT 0,shortcut,relied,proposals FROM verdict WHERE job=? ORDER BY seq",
                                      "SELECT e.trial,e.name,e.rung,e.median,e.low,e.high,e.saved,e.holds FROM estimate e JOIN trial_data t ON t.id=e.trial"
                                      " WHERE t.job=? ORDER BY e.seq,e.name"};
    st_t (*const fn[])(struct loader *, sqlite3_stmt *) = {load_audit, load_verdict, load_estimate};
    st_t st = ST_OK;
    for (int i = 0; i < 3 && !st; i++) {
        sqlite3_stmt *q = NULL;
        if (sqlite3_prepare_v2(l->db->sql, sql[i], -1, &q, NULL)) return db_fail(l->db, l->db->path, err);
        sqlite3_bind_int64(q, 1, job);
        st = walk_rows(l, q, fn[i], false, err);
    }
    return st;
}

/* Only as many slots as any set has: a column asked for costs time even where it is NULL. */
static sqlite3_stmt *prepare_load(struct db *db, int64_t job, bool more)
{
    int slots = 0;
    sqlite3_stmt *any = NULL;
    bool repeats = !sqlite3_prepare_v2(db->sql, "SELECT 1 FROM repeat", -1, &any, NULL) && sqlite3_step(any) == SQLITE_ROW;
    sqlite3_finalize(any);
    for (int i = 0; i < db->nsets; i++)
        if (db->set[i]->n > slots) slots = db->set[i]->n;
    if (slots > DB_INLINE) slots = DB_INLINE;
    struct base_buf b = BASE_BUF_INIT;
    base_buf_str(&b, more
                         ? "SELECT m.trial,m.chunk,0,0,0,0,0,0,0,t.metric_set,NULL,NULL"
                         : "SELECT id,arch,state,epoch,reported_seq,reported_at,busy_total,proposal,genome,metric_set,");
    if (!more) base_buf_str(&b, repeats ? "(SELECT of FROM repeat r WHERE r.trial=id),(SELECT kind FROM repeat r WHERE r.trial=id)" : "NULL,NULL");
    const char *of = more ? "m." : "";
    for (int i = 0; i < slots; i++) base_buf_printf(&b, ",%sm%d,%sl%d,%sh%d", of, i, of, i, of, i);
    base_buf_str(&b, more ? " FROM trial_data t JOIN trial_more m ON m.trial=t.id WHERE t.job=?"
                          : " FROM trial_data WHERE job=? ORDER BY proposal");
    sqlite3_stmt *q = NULL;
    if (!b.st && !sqlite3_prepare_v2(db->sql, b.p, -1, &q, NULL)) sqlite3_bind_int64(q, 1, job);
    base_buf_fini(&b);
    return q;
}

static st_t load_rows(struct loader *l, int64_t job, bool more, struct base_err *err)
{
    sqlite3_stmt *q = prepare_load(l->db, job, more);
    return q ? walk_rows(l, q, more ? load_more : load_row, !more, err) : db_fail(l->db, l->db->path, err);
}

static bool has_more(const struct db *db)
{
    for (int i = 0; i < db->nsets; i++)
        if (db->set[i]->n > DB_INLINE) return true;
    return false;
}

/* All of it into an archive that is new. */
static st_t load(struct loader *l, int64_t job_id, const struct job *job, struct base_err *err)
{
    l->a = archive_new(job);
    l->last = l->nrep = 0;
    if (!l->a) return base_err_set(err, ST_ENOMEM, "", "out of memory");
    for (int i = 0; i < l->db->nsets; i++)
        for (int k = 0; k < DB_SLOTS; k++) l->column[i][k] = -1;
    /* The sums come from the same moment as the rows: tautd is the only writer, and waits for us. */
    st_t st;
    struct db_jobinfo *j = db_job_info(l->db, job_id, &st, err);
    if (!j) return st;
    if (j->proposals >= 0 && j->proposals <= 1 << 20) st = archive_reserve(l->a, j->proposals); /* a number that is damaged takes no memory */
    if (st) return base_err_set(err, st, "", "out of memory");
    l->a->busy_s = j->busy_s;
    if ((st = load_rows(l, job_id, false, err))) return st;
    if (l->a->n + l->a->ndamage < j->proposals) st = archive_damage_add(l->a, 0, "some are missing");
    if (!st && has_more(l->db)) st = load_rows(l, job_id, true, err);
    if (!st && job->rungs > 1) st = load_rungs(l, job_id, err);
    if (!st) st = load_audits(l, job_id, err);
    return st;
}

st_t archive_load(struct archive **out, struct db *db, int64_t job_id, const struct job *job, struct base_err *err)
{
    struct loader l = {.db = db};
    int genes = space_genes(job->space);
    l.column = malloc(((size_t)db->nsets + 1) * sizeof *l.column);
    l.fits = malloc((size_t)genes * 256 + 1);
    st_t st = l.column && l.fits ? ST_OK : base_err_set(err, ST_ENOMEM, "", "out of memory");
    for (int i = 0; !st && i < 256 * genes; i++) l.fits[i] = space_gene_fits(job->space, i / 256, i % 256);
    if (!st) st = load(&l, job_id, job, err);
    if (!st && l.nlater) {
        archive_free(l.a);
        qsort(l.later, (size_t)l.nlater, sizeof *l.later, by_id);
        st = load(&l, job_id, job, err);
    }
    if (!st) {
        if (l.nrep) qsort(l.rep, (size_t)l.nrep, sizeof *l.rep, by_seq);
        for (long i = 0; i < l.nrep && !st; i++) {
            const struct report *r = &l.rep[i];
            st = archive_report_add(l.a, r->row, r->rung < 0 ? l.a->rung[r->row] : r->rung, r->at, r->busy);
        }
        if (st) base_err_set(err, st, "", "out of memory");
    }
    if (!st) {
        *out = l.a;
    } else {
        archive_free(l.a);
    }
    free(l.column);
    free(l.fits);
    free(l.later);
    free(l.rep);
    return st;
}

/* ---- event by event; db_fold has checked each ---- */

static st_t fold_metrics(struct archive *a, long row, json_t *metrics)
{
    const char *name;
    json_t *v;
    json_object_foreach(metrics, name, v)
    {
        int c = archive_column(a, name);
        json_t *low = json_object_get(v, "low");
        if (c < 0) return ST_ENOMEM;
        st_t st =
            archive_set(a, c, row, json_number_value(json_is_object(v) ? json_object_get(v, "median") : v),
                        low ? json_number_value(low) : NAN, low ? json_number_value(json_object_get(v, "high")) : NAN);
        if (st) return st;
    }
    return ST_OK;
}

static bool is_estimate(json_t *metric)
{
    json_t *n = json_object_get(metric, "n");
    return n && json_integer_value(n) == 0;
}

static st_t fold_estimates(struct archive *a, long row, json_t *metrics, json_t *estimates)
{
    const char *name;
    json_t *v;
    st_t st = ST_OK;
    json_object_foreach(metrics, name, v)
        if (!st) st = archive_estimated_set(a, archive_metric(a, name), row, is_estimate(v));
    json_object_foreach(estimates, name, v)
    {
        int c = st ? -1 : archive_column(a, name);
        if (!st) st = c < 0 ? ST_ENOMEM : archive_estimate_add(a, &(struct archive_estimate){row, c, a->rung[row], is_estimate(json_object_get(metrics, name)),
                                                                   json_number_value(json_object_get(v, "median")), json_number_value(json_object_get(v, "low")),
                                                                   json_number_value(json_object_get(v, "high"))});
    }
    return st;
}

static st_t fold_proposed(struct archive *a, json_t *body)
{
    uint8_t arch[ARCH_BYTES];
    const char *hex = json_string_value(json_object_get(body, "arch_id"));
    json_t *genome = json_object_get(body, "genome");
    if (!hex || !archive_arch_parse(hex, arch) || (int)json_array_size(genome) != a->genes) return ST_EINVAL;
    st_t st = archive_reserve(a, a->n + 1);
    if (st) return st;
    json_t *origin = json_object_get(body, "origin");
    const char *op = json_string_value(json_object_get(origin, "op")), *kind = json_string_value(json_object_get(origin, "kind"));
    int64_t trial = json_integer_value(json_object_get(body, "trial")), of = json_integer_value(json_array_get(json_object_get(origin, "parents"), 0));
    long row = a->n;
    if (op && !strcmp(op, "repeat")) st = archive_add_repeat(a, trial, arch, archive_row(a, of), kind ? kind : "");
    else archive_add(a, trial, arch);
    for (int i = 0; i < a->genes && !st; i++)
        st = archive_gene_set(a, row, i, json_number_value(json_array_get(genome, (size_t)i)));
    if (json_is_true(json_object_get(body, "score"))) archive_state_set(a, row, TRIAL_DRAFT);
    return st ? st : fold_metrics(a, row, json_object_get(body, "paper"));
}

static st_t fold_chosen(struct archive *a, long row, json_t *passed)
{
    size_t i;
    json_t *v;
    archive_state_set(a, row, TRIAL_READY);
    json_array_foreach(passed, i, v)
    {
        long other = archive_row(a, json_integer_value(v));
        if (other >= 0) archive_state_set(a, other, TRIAL_PASSED);
    }
    return ST_OK;
}

static st_t fold_promoted(struct archive *a, long row)
{
    st_t st = ST_OK;
    for (int c = 0; c < a->ncol && !st; c++)
        if (!isnan(a->col[c].median[row])) st = archive_lower_set(a, c, row, a->rung[row], a->col[c].median[row]);
    return st ? st : archive_promote(a, row);
}

st_t archive_fold_at(struct archive *a, const char *type, json_t *body, int64_t at_ms)
{
    if (!strcmp(type, "proposed")) return fold_proposed(a, body);
    if (!strcmp(type, "supernet")) a->busy_s += json_number_value(json_object_get(body, "busy_s"));
    if (!strcmp(type, "verdict"))
        return archive_verdict_set(a, json_string_value(json_object_get(body, "shortcut")), json_is_true(json_object_get(body, "relied")), a->n);
    bool leased = !strcmp(type, "leased"), reported = !strcmp(type, "reported"), returned = !strcmp(type, "returned"),
         promoted = !strcmp(type, "promoted"), pruned = !strcmp(type, "pruned"), audit = !strcmp(type, "audit"),
         scored = !strcmp(type, "scored"), chosen = !strcmp(type, "chosen");
    if (!leased && !reported && !returned && !promoted && !pruned && !audit && !scored && !chosen) return ST_OK;
    long row = archive_row(a, json_integer_value(json_object_get(body, "trial")));
    if (row < 0) return a->ndamage ? ST_OK : ST_ENOTFOUND; /* left out */
    if (promoted) return fold_promoted(a, row);
    if (audit) return archive_audit_add(a, row, a->rung[row], json_string_value(json_object_get(body, "drawn")));
    if (chosen) return fold_chosen(a, row, json_object_get(body, "passed"));
    if (leased) {
        archive_state_set(a, row, a->state[row] == TRIAL_DRAFT ? TRIAL_SCORING : TRIAL_LEASED);
        a->epoch[row] = json_integer_value(json_object_get(body, "epoch"));
        return ST_OK;
    }
    a->busy_s += json_number_value(json_object_get(body, "busy_s"));
    if (returned) {
        archive_state_set(a, row, a->state[row] == TRIAL_SCORING ? TRIAL_DRAFT : TRIAL_READY);
        return ST_OK;
    }
    if (scored) {
        archive_state_set(a, row, TRIAL_SCORED);
        return fold_metrics(a, row, json_object_get(body, "metrics"));
    }
    const char *status = json_string_value(json_object_get(body, "status"));
    st_t st = archive_report_add(a, row, a->rung[row], at_ms, a->busy_s);
    if (st) return st;
    archive_state_set(a, row, pruned ? TRIAL_PRUNED : status && !strcmp(status, "ok") ? TRIAL_OK : TRIAL_FAILED);
    st = fold_metrics(a, row, json_object_get(body, "metrics"));
    return st ? st : fold_estimates(a, row, json_object_get(body, "metrics"), archive_has(a, row, a->rung[row]) ? json_object_get(body, "estimates") : NULL);
}

st_t archive_fold(struct archive *a, const char *type, json_t *body)
{
    return archive_fold_at(a, type, body, base_clock_wall_ms());
}
