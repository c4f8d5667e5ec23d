#include "evaluator/worker.h"

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "evaluator/evaluate.h"
#include "evaluator/tidy.h"

#define RETRY_MS 500 /* between attempts to reach tautd */

/* ST_ELOST: the device is gone. Nothing is reported then: the connection that closes gives the trial back, and tautd counts how often that happens to it. */
static st_t work_on(struct lessee *lessee, struct evaluate *ev, json_t *lease)
{
    struct base_err err = BASE_ERR_INIT;
    char text[1024];
    json_t *report = json_object();
    int64_t trial = json_integer_value(json_object_get(lease, "trial"));
    st_t st = report ? evaluate_lease(ev, lease, report, &err) : ST_ENOMEM;
    if (st && !*err.what) base_err_set(&err, st, err.where, "%s", base_status_text(st));
    if (st == ST_ELOST) {
        log_error("the device is lost at work on trial %lld", (long long)trial);
        json_decref(report);
        return st;
    }
    json_object_set_new(report, "status", json_string(!st ? "ok" : st == ST_ECANCELED ? "preempted" : "failed"));
    if (!json_object_get(report, "metrics")) json_object_set_new(report, "metrics", json_object());
    if (st) {
        json_object_set_new(report, "error", json_string(base_err_text(&err, text, sizeof text)));
        if (st != ST_ECANCELED && trial) log_warn("trial %lld failed: %s", (long long)trial, text);
        else if (st != ST_ECANCELED) log_warn("job %lld: the supernet cannot be trained: %s", (long long)json_integer_value(json_object_get(lease, "job")), text);
    }
    lessee_report(lessee, trial, report);
    if (!st) evaluate_reported(ev);
    return ST_OK;
}

/* What a process that was killed in mid-write has left in the folder. */
static void sweep(const char *work)
{
    DIR *dir = opendir(work);
    struct dirent *f;
    while (dir && (f = readdir(dir))) {
        const char *tmp = strstr(f->d_name, ".safetensors.tmp");
        char path[1024], *end;
        long pid = tmp ? strtol(tmp + 16, &end, 10) : 0;
        if (pid <= 0 || *end || !kill((pid_t)pid, 0) || errno != ESRCH) continue;
        if (snprintf(path, sizeof path, "%s/%s", work, f->d_name) < (int)sizeof path && !unlink(path))
            log_info("%s: removed, its writer is gone", path);
    }
    if (dir) closedir(dir);
}

static st_t serve(const struct worker_opts *o, struct lessee *lessee, struct evaluate *ev)
{
    bool told = false;
    st_t st = ST_OK;
    while (!st && !__atomic_load_n(o->stop, __ATOMIC_RELAXED)) {
        struct base_err e = BASE_ERR_INIT;
        json_t *lease = NULL;
        if (!lessee_next(lessee, &lease, &e)) {
            told = false;
            if (lease) st = work_on(lessee, ev, lease);
            else tidy_trunks(o->work, o->socket);
            json_decref(lease);
        } else if (!__atomic_load_n(o->stop, __ATOMIC_RELAXED)) {
            if (!told) log_warn("tautd: %s; trying again", e.what);
            told = true;
            lessee_rest(RETRY_MS);
        }
    }
    return st;
}

st_t worker_run(const struct worker_opts *o, struct base_err *err)
{
    struct lessee *lessee = NULL;
    struct evaluate *ev = NULL;
    struct energy *energy = NULL;
    struct base_err why = BASE_ERR_INIT;
    sweep(o->work);
    if (energy_open_for(&energy, o->dev, &why)) log_info("energy is not measured: %s: %s", why.where, why.what);
    st_t st = lessee_new(&lessee, &(struct lessee_opts){.socket = o->socket, .name = o->name, .dev = o->dev, .energy = energy != NULL, .stop = o->stop}, err);
    if (!st)
        st = evaluate_new(&ev, &(struct evaluate_opts){.lessee = lessee, .work = o->work, .checkpoint_s = o->checkpoint_s, .dev = o->dev, .lock = o->lock,
                                                       .energy = energy});
    if (!st) tidy_begin(o->work, o->socket);
    if (!st) st = serve(o, lessee, ev);
    if (st == ST_ELOST) base_err_set(err, st, "", "the device is lost (its driver's error stands above); its trial goes back as preempted. Start the evaluator again");
    if (!st) tidy_trunks(o->work, o->socket);
    evaluate_free(ev);
    lessee_free(lessee);
    energy_close(energy);
    return st;
}
