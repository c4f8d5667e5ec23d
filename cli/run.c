/* taut run: daemons, evaluator and store in one folder, from a job file to its front. */
#include "config.h"

#include <errno.h>
#include <limits.h>
#include <math.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "cli/cli.h"
#include "cli/connect.h"
#include "cli/follow.h"
#include "cli/format.h"
#include "cli/interrupt.h"
#include "cli/jobfile.h"
#include "cli/out.h"
#include "cli/report.h"
#include "cli/result.h"
#include "cli/service.h"
#include "kernels/device.h"

#define PAUSE_MS 15000
#define LOOK_MS 1000 /* between looks whether there is room on the disk */
#define LOST (-1) /* in place of an exit status: tautd has gone, and the same may be asked of the next one */

static const struct cli_opt options[] = {
    {"threads", 't', "N", "threads of the evaluator (default: all CPUs)", false},
    {"device", 0, "NAME", "cpu (default), cuda:N", false},
    {0},
};

struct run {
    struct cli *cli;
    struct jobfile file;
    char dir[PATH_MAX];   /* as given */
    struct service service;
    struct follow follow; /* job 0: not yet */
    int64_t job;
    bool over;            /* there is nothing to be done for it any more */
    json_t *info;         /* job.get, when the following begins */
};

/* ---- saying ---- */

static void note(struct run *r, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void note(struct run *r, const char *fmt, ...)
{
    char text[JOBFILE_TAKEN_MAX];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (r->cli->quiet) return;
    if (r->cli->json) {
        json_t *o = json_pack("{s:s,s:s}", "event", "note", "text", text);
        out_json(o);
        json_decref(o);
    } else {
        puts(text);
    }
    fflush(stdout);
}

static void say(void *ctx, const char *text)
{
    struct run *r = ctx;
    if (r->follow.job) follow_say(&r->follow, "%s", text);
    else if (r->cli->json) note(r, "%s", text);
    else cli_note(r->cli, "%s", text);
}

/* ---- which job ---- */

static int call(struct run *r, const char *method, json_t *params, json_t **out, int *code, struct base_err *err)
{
    return wire_client_call(r->service.wire, method, params, -1, out, code, err) ? CLI_FAILED : CLI_OK;
}

static int failed(struct run *r, int code, const struct base_err *err)
{
    if (interrupted) return interrupt_status();
    if ((!code && err->st == ST_ECLOSED) || code == WIRE_EBUSY) return LOST;
    return cli_fail_err(code == WIRE_EPARAMS || code == WIRE_ENOTSUP ? CLI_CALL : CLI_FAILED, r->cli->arg[0], NULL, err);
}

/* A call that writes: a full disk is waited for. */
static int change(struct run *r, const char *method, json_t *params /* stolen */, json_t **out, int *code, struct base_err *err)
{
    int rc;
    bool told = false;
    while ((rc = call(r, method, json_incref(params), out, code, err)) && *code == WIRE_ENOSPC && !interrupted) {
        if (!told) say(r, "the disk is full, or cannot be written: going on as soon as there is room");
        told = true;
        poll(NULL, 0, 500);
    }
    json_decref(params);
    return rc;
}

static int submit(struct run *r)
{
    struct base_err err = BASE_ERR_INIT;
    json_t *result = NULL;
    int code, rc = change(r, "job.submit", json_pack("{s:O}", "job", r->file.json), &result, &code, &err);
    if (!rc) r->job = out_int(result, "id");
    json_decref(result);
    char taken[JOBFILE_TAKEN_MAX];
    if (!rc && *jobfile_taken(&r->file, taken, sizeof taken)) note(r, "%s", taken);
    return rc ? failed(r, code, &err) : CLI_OK;
}

static double bound(json_t *budget, const char *key)
{
    double v = out_num(budget, key);
    return isnan(v) ? INFINITY : v;
}

static json_t *bound_json(double v)
{
    if (!isfinite(v)) return json_null();
    return v == floor(v) ? json_integer((json_int_t)v) : json_real(v);
}

/* What the file asks for now. *resumed: the job has been told to go on. */
static int extend(struct run *r, json_t *row, bool *resumed)
{
    const struct job_budget *b = &r->file.job->budget;
    json_t *had = json_object_get(row, "budget"), *result = NULL;
    struct base_err err = BASE_ERR_INIT;
    int code;
    int rc = change(r, "job.resume", json_pack("{s:I,s:{s:o,s:o}}", "id", (json_int_t)r->job, "budget", "evaluations", bound_json(b->evaluations), "hours",
                                             bound_json(b->hours)),
                  &result, &code, &err);
    json_decref(result);
    *resumed = !rc;
    if (rc && code == WIRE_ESTATE) return CLI_OK; /* smaller than what it has used: nothing to go on with */
    if (rc) return failed(r, code, &err);
    if (b->evaluations != bound(had, "evaluations")) {
        if (isfinite(b->evaluations)) note(r, "job %lld '%s': the budget is now %.0f evaluations", (long long)r->job, r->file.job->name, b->evaluations);
        else note(r, "job %lld '%s': evaluations are not bounded any more", (long long)r->job, r->file.job->name);
    }
    if (b->hours != bound(had, "hours")) {
        if (isfinite(b->hours)) note(r, "job %lld '%s': the budget is now %g hours", (long long)r->job, r->file.job->name, b->hours);
        else note(r, "job %lld '%s': hours are not bounded any more", (long long)r->job, r->file.job->name);
    }
    return CLI_OK;
}

static int resume(struct run *r)
{
    struct base_err err = BASE_ERR_INIT;
    json_t *result = NULL;
    int code, rc = change(r, "job.resume", json_pack("{s:I}", "id", (json_int_t)r->job), &result, &code, &err);
    json_decref(result);
    if (!rc) return CLI_OK;
    if (code != WIRE_ESTATE) return failed(r, code, &err);
    struct base_err none = BASE_ERR_INIT;
    int said = code;
    rc = call(r, "job.get", json_pack("{s:I,s:b}", "id", (json_int_t)r->job, "brief", true), &result, &code, &none);
    if (rc) return failed(r, code, &none);
    bool paused = !strcmp(out_str(result, "state"), "paused"); /* else it has ended, or goes on, meanwhile */
    json_decref(result);
    return paused ? failed(r, said, &err) : CLI_OK;
}

/* The newest job of the same identity (all of the file but its budget), and whether another one has its name. */
static json_t *find(struct run *r, json_t *list, int64_t *namesake)
{
    json_t *row, *found = NULL;
    size_t i;
    *namesake = 0;
    json_array_foreach(list, i, row)
    {
        if (!strcmp(out_str(row, "identity"), r->file.identity)) found = row;
        else if (!strcmp(out_str(row, "name"), r->file.job->name)) *namesake = out_int(row, "id");
    }
    return found;
}

/* Which job it is, submitted or told to go on where need be. */
static int choose(struct run *r)
{
    struct base_err err = BASE_ERR_INIT;
    json_t *list = NULL;
    int64_t namesake;
    int code, rc = call(r, "job.list", NULL, &list, &code, &err);
    if (rc) return failed(r, code, &err);
    json_t *row = find(r, list, &namesake);
    const char *state = row ? out_str(row, "state") : "", *name = r->file.job->name;
    if (!row || !strcmp(state, "cancelled")) {
        rc = submit(r);
        if (!rc && row) note(r, "job %lld '%s' was cancelled: this is a new one, job %lld", (long long)out_int(row, "id"), name, (long long)r->job);
        else if (!rc && namesake) note(r, "%s is not what job %lld '%s' was made of: this is a new one, job %lld", r->cli->arg[0], (long long)namesake, name, (long long)r->job);
        else if (!rc) note(r, "job %lld '%s'", (long long)r->job, name);
        json_decref(list);
        return rc;
    }
    r->job = out_int(row, "id");
    json_t *budget = json_object_get(row, "budget");
    bool ended = !strcmp(state, "done") || !strcmp(state, "failed"), resumed = true;
    if (bound(budget, "evaluations") != r->file.job->budget.evaluations || bound(budget, "hours") != r->file.job->budget.hours) rc = extend(r, row, &resumed);
    else if (ended) resumed = false;
    else if (!strcmp(state, "paused")) rc = resume(r);
    r->over = !resumed;
    if (!rc && resumed && isfinite(r->file.job->budget.evaluations))
        note(r, "continuing job %lld '%s': %lld of %.0f evaluations done", (long long)r->job, name, (long long)out_int(row, "evaluations"), r->file.job->budget.evaluations);
    else if (!rc && resumed)
        note(r, "continuing job %lld '%s': %lld evaluations done", (long long)r->job, name, (long long)out_int(row, "evaluations"));
    json_decref(list);
    return rc;
}

/* ---- the search ---- */

/* A step that asks tautd, and asks the next one where this one goes away under it. Every step may be done twice. */
static int persist(struct run *r, int (*step)(struct run *r))
{
    for (;;) {
        int rc = step(r);
        if (rc != LOST) return rc;
        service_lost(&r->service);
        rc = service_check(&r->service);
        if (rc) return rc;
    }
}

static int job_info(struct run *r, json_t **info)
{
    struct base_err err = BASE_ERR_INIT;
    int code, rc = call(r, "job.get", json_pack("{s:I}", "id", (json_int_t)r->job), info, &code, &err);
    return rc ? failed(r, code, &err) : CLI_OK;
}

static int begin(struct run *r)
{
    int rc = choose(r);
    return rc || r->over ? rc : job_info(r, &r->info);
}

static int search(struct run *r)
{
    struct follow *f = &r->follow;
    int rc = CLI_OK;
    uint64_t looked = 0;
    while (!rc && !f->ended && !interrupted) {
        st_t st = ST_OK;
        rc = service_check(&r->service);
        if (rc) break;
        if (r->service.fresh) {
            r->service.fresh = false;
            st = follow_attach(f, r->service.wire);
        }
        if (r->service.evaluates && base_clock_ns() - looked > LOOK_MS * 1000000ull) {
            f->full = !service_room(&r->service);
            looked = base_clock_ns();
        }
        int64_t seen = f->after;
        if (!st && !f->ended) st = follow_step(f, 200);
        if (f->after > seen) service_worked(&r->service);
        if (st && st != ST_ECANCELED) service_lost(&r->service);
        const char *unread = st ? NULL : follow_unread(f);
        if (unread) rc = cli_fail(CLI_FAILED, "run", NULL, "job %lld cannot go on: %s", (long long)r->job, unread);
    }
    return interrupted ? interrupt_status() : rc;
}

/* A search that is done is not undone by a page that cannot be written: that is said, and no more. Only LOST and an interrupt are passed on. */
static int write_report(struct conn *k, json_t *info, const char *where, const char *path, bool *written)
{
    struct base_buf page = BASE_BUF_INIT;
    struct base_err err = BASE_ERR_INIT;
    int rc = report_make(k, info, where, &page);
    *written = !rc && !report_save(&page, path, &err);
    if (!rc && !*written) cli_fail_err(CLI_FAILED, NULL, "taut report makes it again", &err);
    base_buf_fini(&page);
    return rc == LOST || rc == CLI_INTERRUPTED ? rc : CLI_OK;
}

static int finish(struct run *r)
{
    struct conn k = {.cli = r->cli, .wire = r->service.wire, .own = CHILD_INIT, .lost = LOST};
    char word[PATH_MAX], where[PATH_MAX + 16], shell[REPORT_WHERE_MAX], report[PATH_MAX + 16];
    bool written;
    json_t *info;
    int rc = job_info(r, &info);
    if (rc) return rc;
    snprintf(where, sizeof where, " --dir %s", fmt_shell(word, sizeof word, r->dir));
    snprintf(report, sizeof report, "%s/report.html", r->dir);
    rc = write_report(&k, info, report_where(shell, "--dir", r->dir), report, &written);
    if (!rc) rc = result_print(&k, info, &(struct result_hints){.where = where, .report = written ? report : NULL});
    json_decref(info);
    return rc;
}

/* Ctrl-C: running trials come back with their checkpoints, and the same command goes on from there. */
static int leave(struct run *r)
{
    struct wire_client *wire = NULL;
    json_t *result = NULL;
    char file[PATH_MAX], dir[PATH_MAX];
    int status = interrupt_status();
    if (r->job) cli_note(r->cli, "pausing job %lld … (Ctrl-C again leaves at once)", (long long)r->job);
    service_lost(&r->service); /* a call may have been under way on it */
    if (r->job && !wire_client_open(&wire, r->service.socket, NULL)) {
        wire_client_call(wire, "job.pause", json_pack("{s:I}", "id", (json_int_t)r->job), PAUSE_MS, &result, NULL, NULL);
        json_decref(result);
        wire_client_close(wire);
    }
    service_close(&r->service);
    if (r->job) cli_note(r->cli, "go on with: %staut run %s --dir %s", r->cli->at, fmt_shell(file, sizeof file, r->cli->arg[0]), fmt_shell(dir, sizeof dir, r->dir));
    return status;
}

/* A device that is not there is better said now than in the evaluator's log. */
static int check_device(const struct cli *c)
{
    struct base_err err = BASE_ERR_INIT;
    struct kn_dev *dev;
    const char *name = cli_str(c, "device", NULL);
    if (!name) return CLI_OK;
    /* In a process of its own: an open card stays this one's for as long as it lives, and would take memory and look like somebody else at work on it. */
    int p[2];
    fflush(stdout);
    if (pipe(p)) return cli_fail(CLI_FAILED, "--device", NULL, "pipe: %s", strerror(errno));
    pid_t child = fork();
    if (!child) {
        close(p[0]);
        if (!kn_dev_open(&dev, name, 1, &err)) kn_dev_close(dev);
        else if (write(p[1], &err, sizeof err) != (ssize_t)sizeof err) _exit(1);
        _exit(0);
    }
    close(p[1]);
    ssize_t got = child < 0 ? -1 : read(p[0], &err, sizeof err);
    close(p[0]);
    int status = 0;
    if (child > 0) waitpid(child, &status, 0);
    if (got == (ssize_t)sizeof err) return cli_fail_err(CLI_CALL, "--device", "use cpu", &err);
    if (child < 0 || got || status) return cli_fail(CLI_FAILED, "--device", NULL, "%s cannot be tried", name);
    return CLI_OK;
}

/* ./taut-NAME, with what is awkward in a folder's name replaced. */
static void default_dir(struct run *r)
{
    char *p = r->dir + snprintf(r->dir, sizeof r->dir, "taut-");
    for (const char *s = r->file.job->name; *s; s++)
        *p++ = (*s >= 'a' && *s <= 'z') || (*s >= 'A' && *s <= 'Z') || (*s >= '0' && *s <= '9') || strchr("._-", *s) || (unsigned char)*s > 127 ? *s : '_';
    *p = '\0';
}

static int work(struct run *r)
{
    int rc = service_open(&r->service, r->cli, r->dir, say, r);
    if (!rc) rc = persist(r, begin);
    if (rc) return rc;
    if (!r->over) {
        if (r->file.job->external) note(r, "waiting for an evaluator of yours on %s", r->service.socket);
        else service_evaluator(&r->service, cli_str(r->cli, "threads", NULL), cli_str(r->cli, "device", NULL));
        follow_init(&r->follow, r->cli, r->info);
        r->service.fresh = true;
        rc = search(r);
        follow_fini(&r->follow);
        r->follow.job = 0;
    }
    return rc ? rc : persist(r, finish);
}

static int run(struct cli *c)
{
    struct run r = {.cli = c};
    cli_int(c, "threads", 0, 1, 1024);
    if (c->socket) return cli_fail(CLI_CALL, "run", "give --dir, or: taut submit --socket PATH", "it keeps a tautd of its own and takes no --socket");
    int rc = c->bad ? c->bad : check_device(c);
    if (!rc) rc = jobfile_read(&r.file, c->arg[0]);
    if (rc) return rc;
    if (!c->dir) default_dir(&r);
    else if (snprintf(r.dir, sizeof r.dir, "%s", c->dir) >= (int)sizeof r.dir) rc = cli_fail(CLI_CALL, "run", NULL, "--dir is too long");
    if (!rc && !conn_store_there(r.dir)) rc = jobfile_look(c, &r.file, c->arg[0]);
    interrupt_catch();
    if (!rc) {
        rc = work(&r);
        if (interrupted) rc = leave(&r);
        else service_close(&r.service);
    }
    jobfile_fini(&r.file);
    return rc;
}

const struct cli_cmd cmd_run = {
    .name = "run",
    .args = "JOB.json",
    .summary = "a whole search in one go: daemon, evaluator and store in one folder, live progress, then the front and a report",
    .help = "The folder (--dir; default: ./taut-NAME, after the job's name) holds the store, checkpoints, logs and report.html. Ctrl-C pauses the search, and the same\n"
            "command goes on with it. A finished job shows its result; where only \"budget\" has changed in the file, the job is extended; a file changed\n"
            "otherwise is a new job. Everything that is started ends with this command.\n",
    .options = options,
    .min_args = 1,
    .max_args = 1,
    .run = run};
