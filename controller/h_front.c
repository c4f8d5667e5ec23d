/* job.front, trial.list, trial.get: reading results. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "controller/internal.h"

#define PAGE_LIMIT 1000

struct reading { /* what the two lists share */
    struct base_err err;
    struct base_jr r;
    struct ctl_job *j;
    struct where *where;
    int64_t after;
    long limit;
};

/* Reads id (by `key`), where, after, limit and brings the archive into memory. false: answered. */
static bool start(struct reading *q, struct ctl *c, struct wire_call *call, json_t *params, const char *key, const char *const *keys, int nkeys,
                  long limit)
{
    *q = (struct reading){.err = BASE_ERR_INIT};
    q->r = base_jr_at(params, "", &q->err);
    base_jr_done(&q->r, keys, nkeys);
    const char *where = base_jr_str(&q->r, "where", NULL);
    q->after = base_jr_int(&q->r, "after", 0, 0, INT64_MAX);
    q->limit = (long)base_jr_int(&q->r, "limit", limit, 1, 1000000);
    q->j = ctl_job_param(c, call, &q->r, key);
    if (!q->j) return false;
    st_t st = ctl_job_archive(c, q->j, &q->err);
    if (st) {
        wire_call_error(call, st == ST_EVERSION ? WIRE_ESTATE : WIRE_EINTERNAL, "%s", q->err.what);
        return false;
    }
    if (!where || !*where) return true;
    struct base_err err = BASE_ERR_INIT;
    st = space_where_parse(&q->where, where, space_type(q->j->job->space) == SPACE_CUSTOM, &err);
    /* Where something has been measured, a name that nothing has is a slip of the pen and no filter. */
    for (int i = 0; !st && archive_rung_count(q->j->archive, 0) && i < space_where_metrics(q->where); i++)
        if (archive_metric(q->j->archive, space_where_metric(q->where, i)) < 0)
            st = base_err_set(&err, ST_EINVAL, "", "no trial has '%s'", space_where_metric(q->where, i));
    if (!st) return true;
    space_where_free(q->where);
    q->where = NULL;
    base_err_prefix(&err, "where");
    ctl_bad_params(call, &err);
    return false;
}

static bool where_holds(const struct where *w, const struct archive *a, long row)
{
    int n = w ? space_where_metrics(w) : 0;
    double value[n + 1];
    for (int i = 0; i < n; i++) {
        int col = archive_metric(a, space_where_metric(w, i));
        value[i] = col < 0 ? NAN : archive_median(a, col, row);
    }
    return !w || space_where_eval(w, value);
}

struct shape { /* of a row in an answer */
    bool state, intervals;
    const struct front *front; /* uncertain: whose probabilities are shown; NULL: none are */
    long at;                   /* which of its rows is being written */
    int rung;          /* values as reported on it; -1: the newest */
    const bool *shown; /* by column of the archive; NULL: all metrics */
    struct genome *genome; /* of the job's space, to make architectures with; NULL: none are wanted */
};

static void write_metrics(struct base_jw *w, const struct archive *a, long row, const struct shape *s)
{
    int n = archive_metrics(a);
    double median[n + 1], low[n + 1], high[n + 1];
    for (int col = 0; col < n; col++) {
        median[col] = s->rung < 0 ? archive_median(a, col, row) : archive_value(a, col, row, s->rung);
        low[col] = high[col] = median[col];
        if (s->rung >= 0 && (!s->shown || s->shown[col])) archive_pooled(a, col, row, s->rung, &median[col], &low[col], &high[col]);
    }
    base_jw_key(w, "metrics");
    base_jw_obj(w);
    for (int col = 0; col < n; col++)
        if (!isnan(median[col]) && (!s->shown || s->shown[col])) base_jw_knum(w, archive_metric_name(a, col), median[col]);
    base_jw_end(w);
    bool any = false;
    for (int col = 0; col < n; col++) {
        if (!archive_estimated(a, col, row) || (s->shown && !s->shown[col]) || median[col] != archive_median(a, col, row)) continue;
        if (!any) {
            base_jw_key(w, "estimated");
            base_jw_arr(w);
        }
        any = true;
        base_jw_str(w, archive_metric_name(a, col));
    }
    if (any) base_jw_end(w);
    if (!s->intervals) return;
    base_jw_key(w, "intervals");
    base_jw_obj(w);
    for (int col = 0; col < n; col++) {
        if ((s->shown && !s->shown[col]) || !(low[col] < high[col])) continue; /* a number without spread */
        base_jw_key(w, archive_metric_name(a, col));
        base_jw_arr(w);
        base_jw_num(w, low[col]);
        base_jw_num(w, high[col]);
        base_jw_end(w);
    }
    base_jw_end(w);
}

/* The genome in memory says what the architecture is; the store is asked only where this version makes something else of it. */
static void write_arch(struct base_jw *w, struct ctl *c, const struct ctl_job *j, long row, struct genome *genome)
{
    struct candidate x;
    char id[BASE_ID_HEX];
    archive_arch_id(j->archive, row, id);
    if (!archive_genome(j->archive, row, genome) && !space_candidate(j->job->space, genome, &x, NULL)) {
        bool same = !strcmp(x.id, id);
        if (same) base_jw_kraw(w, "arch", x.canonical);
        space_candidate_fini(&x);
        if (same) return;
    }
    json_t *trial = NULL;
    if (db_trial_json(c->db, archive_trial(j->archive, row), &trial, NULL)) return;
    char *text = json_dumps(json_object_get(trial, "arch"), JSON_COMPACT);
    if (text) base_jw_kraw(w, "arch", text);
    free(text);
    json_decref(trial);
}

static void write_row(struct base_jw *w, struct ctl *c, const struct ctl_job *j, long row, const struct shape *s)
{
    const struct archive *a = j->archive;
    char id[BASE_ID_HEX];
    base_jw_obj(w);
    base_jw_kint(w, "trial", archive_trial(a, row));
    base_jw_kstr(w, "arch_id", archive_arch_id(a, row, id));
    if (s->state) {
        base_jw_kint(w, "proposal", archive_proposal(a, row));
        base_jw_kstr(w, "state", archive_state_words[archive_state(a, row)]);
        if (archive_repeat_of(a, row) >= 0) base_jw_kint(w, "repeats", archive_trial(a, archive_repeat_of(a, row)));
    }
    if (s->front) {
        base_jw_knum(w, "probability", s->front->p[s->at]);
        base_jw_kbool(w, "on_front", s->front->on[s->at]);
    }
    if (j->job->rungs > 1) base_jw_kint(w, "rung", s->rung < 0 ? archive_rung(a, row) : s->rung);
    if (s->genome) write_arch(w, c, j, row, s->genome);
    write_metrics(w, a, row, s);
    base_jw_end(w);
}

/* ---- job.front ---- */

static bool read_objective(struct base_jr *r, json_t *v, int i, const struct job *job, struct job_objective *out)
{
    static const char *const keys[] = {"metric", "goal"};
    char where[64];
    bool custom = space_type(job->space) == SPACE_CUSTOM;
    const char *name = json_string_value(v), *goal = NULL;
    snprintf(where, sizeof where, "objectives[%d]", i);
    if (!name) {
        struct base_jr o = base_jr_at(v, where, r->err);
        base_jr_need(&o, "metric");
        name = base_jr_str(&o, "metric", "");
        goal = base_jr_str(&o, "goal", NULL);
        if (!o.st && goal && strcmp(goal, "min") && strcmp(goal, "max")) base_jr_fail(&o, ST_EINVAL, "goal", "\"min\" or \"max\"");
        if (base_jr_done(&o, keys, 2)) return false;
    }
    if (space_metric_parse(&out->metric, name, custom, where, r->err)) return false;
    out->goal = out->metric.goal;
    for (int k = 0; k < job->nobjectives; k++) /* the job's own turning of it holds */
        if (!strcmp(job->objective[k].metric.name, name)) out->goal = job->objective[k].goal;
    if (goal) out->goal = !strcmp(goal, "max") ? METRIC_MAX : METRIC_MIN;
    return true;
}

static bool read_objectives(struct base_jr *r, const struct job *job, struct front_query *q)
{
    json_t *list = base_jr_get(r, "objectives");
    if (!list) {
        q->nobj = job->nobjectives;
        memcpy(q->objective, job->objective, sizeof q->objective);
        return true;
    }
    size_t n = json_array_size(list);
    if (!json_is_array(list) || !n || n > JOB_OBJECTIVES_MAX) {
        base_jr_fail(r, ST_EINVAL, "objectives", "an array of 1 to %d metrics", JOB_OBJECTIVES_MAX);
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        if (!read_objective(r, json_array_get(list, i), (int)i, job, &q->objective[i])) return false;
        for (size_t k = 0; k < i; k++) {
            if (strcmp(q->objective[k].metric.name, q->objective[i].metric.name)) continue;
            base_jr_fail(r, ST_EINVAL, "objectives", "'%s' stands twice", q->objective[i].metric.name);
            return false;
        }
    }
    q->nobj = (int)n;
    return true;
}

/* params.metrics: the only ones to be shown. *shown: by column, owned; NULL: all. A name that no trial has shows nothing. */
static bool read_shown(struct base_jr *r, const struct archive *a, bool **shown)
{
    json_t *list = base_jr_get(r, "metrics"), *v;
    size_t i;
    if (!list) return true;
    *shown = calloc((size_t)archive_metrics(a) + 1, sizeof **shown);
    if (!*shown) base_jr_fail(r, ST_ENOMEM, NULL, "out of memory");
    if (!json_is_array(list)) base_jr_fail(r, ST_EINVAL, "metrics", "an array of names");
    json_array_foreach(list, i, v)
    {
        int col = json_is_string(v) ? archive_metric(a, json_string_value(v)) : -1;
        if (!json_is_string(v)) base_jr_fail(r, ST_EINVAL, "metrics", "an array of names");
        if (col >= 0 && *shown) (*shown)[col] = true;
    }
    return !r->st;
}

CTL_HANDLER(job_front)
{
    static const char *const keys[] = {"id", "objectives", "where", "rung", "limit", "after", "uncertain", "metrics", "archs"};
    struct ctl *c = ctx;
    struct reading q;
    struct shape s = {.state = false};
    struct genome genome = {0};
    bool *shown = NULL;
    struct front_query fq = {0};
    struct front f = {0};
    struct base_buf b = BASE_BUF_INIT;
    struct base_jw w;
    if (!start(&q, c, call, params, "id", keys, 9, 1000000)) return;
    s.intervals = base_jr_bool(&q.r, "uncertain", false);
    if (base_jr_bool(&q.r, "archs", false)) s.genome = &genome;
    fq.rung = s.rung = (int)base_jr_int(&q.r, "rung", archive_top(q.j->archive), 0, q.j->job->rungs - 1);
    if (!q.r.st && s.genome && space_genome_init(q.j->job->space, &genome)) base_jr_fail(&q.r, ST_ENOMEM, NULL, "out of memory");
    if (q.r.st || !read_shown(&q.r, q.j->archive, &shown) || !read_objectives(&q.r, q.j->job, &fq)) {
        ctl_bad_params(call, &q.err);
        goto free_where;
    }
    const struct archive *a = q.j->archive;
    s.shown = shown;
    fq.where = q.where;
    fq.constrained = true;
    fq.limit = q.limit;
    fq.after = q.after;
    fq.uncertain = s.intervals;
    st_t st = archive_front(a, &fq, &f, &q.err);
    if (st == ST_ENOTFOUND && !archive_rung_count(a, 0)) st = ST_OK; /* nothing there yet: an empty front */
    if (st) {
        wire_call_error(call, st == ST_ENOTFOUND ? WIRE_EPARAMS : WIRE_EINTERNAL, "%s", q.err.what);
        goto free_where;
    }
    base_jw_init(&w, &b);
    base_jw_arr(&w);
    if (s.intervals) s.front = &f;
    for (s.at = 0; s.at < f.n && b.len < CTL_PAGE_BYTES; s.at++) write_row(&w, c, q.j, f.row[s.at], &s);
    base_jw_end(&w);
    archive_front_fini(&f);
    wire_call_raw(call, &b);
free_where:
    space_genome_fini(&genome);
    free(shown);
    space_where_free(q.where);
}

/* ---- trial.list ---- */

/* First row whose trial comes after `trial`: they are in order. */
static long row_after(const struct archive *a, int64_t trial)
{
    long low = 0, high = archive_count(a);
    while (low < high) {
        long mid = low + (high - low) / 2;
        if (archive_trial(a, mid) <= trial) low = mid + 1;
        else high = mid;
    }
    return low;
}

CTL_HANDLER(trial_list)
{
    static const char *const keys[] = {"job", "after", "limit", "where"};
    struct ctl *c = ctx;
    struct reading q;
    struct base_buf b = BASE_BUF_INIT;
    struct base_jw w;
    if (!start(&q, c, call, params, "job", keys, 4, PAGE_LIMIT)) return;
    const struct archive *a = q.j->archive;
    const struct shape s = {.state = true, .rung = -1};
    base_jw_init(&w, &b);
    base_jw_arr(&w);
    for (long row = row_after(a, q.after), n = 0; row < archive_count(a) && n < q.limit && b.len < CTL_PAGE_BYTES; row++) {
        if (!where_holds(q.where, a, row)) continue;
        write_row(&w, c, q.j, row, &s);
        n++;
    }
    base_jw_end(&w);
    wire_call_raw(call, &b);
    space_where_free(q.where);
}

/* ---- trial.get ---- */

CTL_HANDLER(trial_get)
{
    static const char *const keys[] = {"id", "arch_id", "job"};
    struct ctl *c = ctx;
    struct base_err err = BASE_ERR_INIT;
    struct base_jr r = base_jr_at(params, "", &err);
    int64_t id = base_jr_int(&r, "id", 0, 1, INT64_MAX), job = base_jr_int(&r, "job", 0, 1, INT64_MAX);
    const char *arch = base_jr_str(&r, "arch_id", NULL);
    json_t *o = NULL;
    if (!r.st && !id == !arch) base_jr_fail(&r, ST_EINVAL, NULL, "give id, or arch_id");
    if (!r.st && arch && (strlen(arch) < 6 || strlen(arch) >= BASE_ID_HEX || strspn(arch, "0123456789abcdef") != strlen(arch)))
        base_jr_fail(&r, ST_EINVAL, "arch_id", "6 to 32 hexadecimal digits");
    if (base_jr_done(&r, keys, 3)) {
        ctl_bad_params(call, &err);
        return;
    }
    st_t st = arch ? db_trial_by_arch(c->db, job, arch, &id, &err) : ST_OK;
    if (!st) st = db_trial_json(c->db, id, &o, &err);
    if (st) {
        int code = st == ST_ENOTFOUND ? WIRE_ENOTFOUND : st == ST_EEXIST ? WIRE_EPARAMS : WIRE_EINTERNAL;
        if (st == ST_ENOTFOUND && !arch) wire_call_error(call, code, "no trial %lld", (long long)id);
        else if (st == ST_ENOTFOUND) wire_call_error(call, code, "no trial of an architecture %s…", arch);
        else wire_call_error(call, code, "%s", *err.what ? err.what : base_status_text(st));
        return;
    }
    wire_call_result(call, o);
}
