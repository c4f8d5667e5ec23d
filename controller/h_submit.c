/* job.submit: a job file becomes a search. Its data files are sized and hashed on a thread of libuv's pool; the reply waits for that and the commit. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "controller/internal.h"

struct ctl_submit {
    struct ctl_submit *next;
    struct ctl *c; /* NULL: abandoned */
    struct wire_call *call;
    uv_work_t work;
    json_t *json;
    struct job *job;
    char identity[BASE_ID_HEX];
    struct job_files files;
    st_t st;
    struct base_err err;
};

static void submit_free(struct ctl_submit *s)
{
    job_files_free(&s->files);
    job_free(s->job);
    json_decref(s->json);
    free(s);
}

/* files: stolen; NULL: none. */
static void record(struct ctl *c, struct wire_call *call, const struct ctl_submit *s, json_t *files)
{
    struct ctl_job *j;
    if (!ctl_writable(c, call)) {
        json_decref(files);
        return;
    }
    int64_t id = db_next_id(c->db, DB_JOB);
    json_t *body = json_pack("{s:s,s:I,s:O,s:s}", "name", s->job->name, "seed", (json_int_t)s->job->seed, "job", s->json, "identity", s->identity);
    if (body && files) json_object_set_new(body, "files", files);
    /* There is no job in memory to append it to yet: it is loaded from what this event writes. */
    struct ctl_job fresh = {.id = id};
    st_t st = ctl_event(c, &fresh, "submitted", body);
    if (!st) st = ctl_job_load(c, id, NULL, NULL);
    j = ctl_job_get(c, id);
    if (j) j->touched = true; /* so that a rollback takes it out again */
    if (!st) st = ctl_job_budget(c, j, s->job->budget.evaluations, s->job->budget.hours);
    if (!st) st = ctl_job_start(c, j);
    if (st) {
        if (!c->failed) c->failed = st;
        ctl_answer_failed(c, call);
        return;
    }
    log_info("job %lld (%s) submitted", (long long)id, j->name);
    c->kick = true;
    wire_call_result(call, json_pack("{s:I}", "id", (json_int_t)id));
}

static void work(uv_work_t *w)
{
    struct ctl_submit *s = w->data;
    s->st = job_files_resolve(s->job, &s->files, &s->err);
    if (!s->st) s->st = job_files_check(s->job, &s->files, &s->err);
}

static void after_work(uv_work_t *w, int status)
{
    struct ctl_submit *s = w->data;
    struct ctl *c = s->c;
    if (c) {
        for (struct ctl_submit **p = &c->submits; *p; p = &(*p)->next) {
            if (*p != s) continue;
            *p = s->next;
            break;
        }
        if (!wire_call_conn(s->call)) wire_call_error(s->call, WIRE_EREQUEST, "has left"); /* whoever asked did not wait for it */
        else if (s->st) ctl_bad_params(s->call, &s->err);
        else record(c, s->call, s, job_files_json(s->job, &s->files));
    }
    submit_free(s);
}

void ctl_submits_abandon(struct ctl *c)
{
    for (struct ctl_submit *s = c->submits; s; s = s->next) {
        s->c = NULL;
        c->abandoned = true;
        wire_call_error(s->call, WIRE_EBUSY, "tautd is stopping");
    }
    c->submits = NULL;
}

CTL_HANDLER(job_submit)
{
    static const char *const keys[] = {"job"};
    struct ctl *c = ctx;
    struct base_err err = BASE_ERR_INIT;
    struct base_jr r = base_jr_at(params, "", &err);
    json_t *v = base_jr_need(&r, "job");
    if (base_jr_done(&r, keys, 1)) {
        ctl_bad_params(call, &err);
        return;
    }
    struct ctl_submit *s = calloc(1, sizeof *s);
    if (!s) {
        wire_call_error(call, WIRE_EINTERNAL, "out of memory");
        return;
    }
    s->json = json_incref(v);
    st_t st = job_from_json(&s->job, v, &err);
    if (!st) st = job_paths_check(s->job, &err);
    if (!st && !strategy_find(s->job->strategy))
        st = base_err_set(&err, ST_ENOTSUP, "search.strategy", "'%s' is not built yet", s->job->strategy);
    if (!st) st = job_identity(v, s->identity, &err);
    if (st) {
        ctl_bad_params(call, &err);
        submit_free(s);
        return;
    }
    if (!s->job->data.train) {
        record(c, call, s, json_incref(s->job->data_json));
        submit_free(s);
        return;
    }
    if (!ctl_writable(c, call)) {
        submit_free(s);
        return;
    }
    s->c = c;
    s->call = call;
    s->work.data = s;
    s->next = c->submits;
    c->submits = s;
    uv_queue_work(c->loop, &s->work, work, after_work);
}
