#include "config.h"

#include "cli/service.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "cli/connect.h"
#include "cli/interrupt.h"

#define PATIENCE_S 10.0   /* for a tautd that is on its way out */
#define DEATHS_MAX 5      /* in a row */
#define SETTLED_S 20.0    /* having lived so long, a daemon's earlier deaths are forgotten */
#define BACKOFF_S 0.1     /* doubles with each death */
#define HELD_S 1.0        /* before something is said of an evaluator that another command left */
#define WAIT_MS 200       /* for a child that is ending, between looks whether the command was interrupted */
#define LOOK_S 0.2        /* between looks whether an evaluator is wanted */
#define ROOM_BYTES 131072.0 /* beside a checkpoint: for the store's log */
#define ROOM_FILES 1000   /* looked at for their size */
#define EVALUATOR_STOP_S 15
#define STOP_S 60

enum { TAUTD, EVALUATOR };

static double since(uint64_t ns)
{
    return (double)(base_clock_ns() - ns) / 1e9;
}

static void say(struct service *s, const char *text)
{
    if (s->say) s->say(s->ctx, text);
}

bool service_room(const struct service *s)
{
    char work[PATH_MAX + 8];
    struct statvfs v;
    struct stat f;
    const struct dirent *e;
    off_t largest = 0;
    snprintf(work, sizeof work, "%s/work", s->dir);
    if (statvfs(s->dir, &v)) return true;
    DIR *d = opendir(work);
    for (int i = 0; d && i < ROOM_FILES && (e = readdir(d)); i++)
        if (!fstatat(dirfd(d), e->d_name, &f, 0) && S_ISREG(f.st_mode) && f.st_size > largest) largest = f.st_size;
    if (d) closedir(d);
    return (double)v.f_bavail * (double)v.f_frsize >= (double)largest + ROOM_BYTES;
}

/* Whether it is that: then nobody's log could say so. */
static int no_room(const struct service *s)
{
    return cli_fail(CLI_FAILED, s->dir, "make room, or give another --dir", "the disk is full");
}

/* ---- tautd ---- */

enum answer { NOBODY, READER, THERE };

static enum answer try_connect(struct service *s)
{
    json_t *info = NULL;
    enum answer a = NOBODY;
    if (wire_client_open(&s->wire, s->socket, NULL)) return NOBODY;
    if (!wire_client_call(s->wire, "server.info", NULL, 10000, &info, NULL, NULL)) a = json_is_true(json_object_get(info, "reader")) ? READER : THERE;
    json_decref(info);
    if (a == THERE) {
        wire_client_interrupt(s->wire, &interrupted);
        s->fresh = true;
        return a;
    }
    wire_client_close(s->wire);
    s->wire = NULL;
    return a;
}

static int start_tautd(struct service *s, bool *started)
{
    char log[PATH_MAX + 32];
    const char *args[] = {"--dir", s->dir, "-v", NULL};
    struct base_err err = BASE_ERR_INIT;
    int ready;
    snprintf(log, sizeof log, "%s/log/tautd.log", s->dir);
    child_stop(&s->tautd, 0, 0, NULL);
    if (child_start(&s->tautd, "tautd", args, log, -1, true, &ready, &err)) return cli_fail_err(CLI_FAILED, NULL, NULL, &err);
    s->started_ns[TAUTD] = base_clock_ns();
    *started = child_wait_ready(&s->tautd, ready, &interrupted) == ST_OK;
    while (!*started && !interrupted && child_wait(&s->tautd, WAIT_MS)) {
    }
    return CLI_OK;
}

/* A daemon has died: CLI_OK: it is to be started again at again_ns; else it has died too often. */
static int died(struct service *s, int which, struct child *c)
{
    char why[1200], text[1400];
    if (since(s->started_ns[which]) > SETTLED_S) s->deaths[which] = 0;
    child_why(c, why, sizeof why);
    /* A call that it takes for wrong stays wrong. */
    bool hopeless = WIFEXITED(c->status) && (WEXITSTATUS(c->status) == 2 || WEXITSTATUS(c->status) == 127);
    if ((hopeless || s->deaths[which] >= DEATHS_MAX) && !service_room(s)) return no_room(s);
    if (hopeless || ++s->deaths[which] > DEATHS_MAX)
        return cli_fail(CLI_FAILED, c->program, which == TAUTD ? "see log/tautd.log in the job's folder" : "see log/evaluator.log in the job's folder",
                        "%s: %s", hopeless ? "cannot run" : "keeps failing", why);
    s->again_ns[which] = base_clock_ns() + (uint64_t)(BACKOFF_S * (1 << s->deaths[which]) * 1e9);
    snprintf(text, sizeof text, "%s has ended (%s); starting it again", c->program, why);
    say(s, text);
    return CLI_OK;
}

/* Connected, whatever it takes. */
static int connect_watching(struct service *s, int watch)
{
    uint64_t start = base_clock_ns();
    bool told = false, started = false;
    char text[PATH_MAX + 100];
    while (!interrupted) {
        enum answer a = try_connect(s);
        if (a == THERE) return CLI_OK;
        bool held = a == READER || conn_lock_held(s->dir);
        if (!held && s->tautd.pid) { /* ours is ending, its connection went first */
            while (!interrupted && child_wait(&s->tautd, WAIT_MS)) {
            }
            if (interrupted) break;
            int rc = died(s, TAUTD, &s->tautd);
            if (rc) return rc;
        }
        if (!held && base_clock_ns() >= s->again_ns[TAUTD]) {
            int rc = start_tautd(s, &started);
            if (rc) return rc;
            if (started) continue;
            if (interrupted) break;
            if (conn_lock_held(s->dir)) continue; /* somebody was quicker */
            if (child_met_another(&s->tautd) && since(start) <= PATIENCE_S) continue; /* … or about to leave, and has left */
            if (!s->deaths[TAUTD] && !s->fresh && WIFEXITED(s->tautd.status)) { /* never got going: whatever is wrong is wrong with the store */
                char why[1200];
                if (!service_room(s)) return no_room(s);
                return cli_fail(CLI_FAILED, "tautd", NULL, "%s", child_why(&s->tautd, why, sizeof why));
            }
            rc = died(s, TAUTD, &s->tautd);
            if (rc) return rc;
        } else if (held && s->tautd.pid == 0) {
            if (since(start) > PATIENCE_S)
                return cli_fail(CLI_FAILED, s->dir, "end it and try again", a == READER ? "another taut command has been reading the store for %.0f s"
                                                                                      : "another tautd has held the store for %.0f s and does not answer", since(start));
            if (!told && since(start) > 0.5) {
                snprintf(text, sizeof text, "waiting for the tautd that is about to leave %s", s->dir);
                say(s, text);
                told = true;
            }
        }
        conn_watch_wait(watch, s->dir);
    }
    return interrupt_status();
}

static int connect_tautd(struct service *s)
{
    int watch = conn_watch(s->dir), rc = connect_watching(s, watch);
    if (watch >= 0) close(watch);
    return rc;
}

int service_open(struct service *s, const struct cli *c, const char *dir, void (*sayer)(void *ctx, const char *text), void *ctx)
{
    struct base_err err = BASE_ERR_INIT;
    char log[PATH_MAX + 8];
    *s = (struct service){.cli = c, .tautd = CHILD_INIT, .evaluator = CHILD_INIT, .say = sayer, .ctx = ctx};
    if (conn_make_dir(dir, &err)) return cli_fail_err(cli_exit_of(err.st), NULL, "give another --dir", &err);
    if (!realpath(dir, s->dir)) return cli_fail(CLI_FAILED, dir, NULL, "cannot be found again");
    snprintf(log, sizeof log, "%.*s/log", PATH_MAX - 8, s->dir);
    if (conn_make_dir(log, &err)) return cli_fail_err(CLI_FAILED, NULL, "make room, or give another --dir", &err);
    if (wire_dir_socket(s->dir, s->socket, sizeof s->socket, &err)) return cli_fail_err(CLI_FAILED, NULL, NULL, &err);
    return connect_tautd(s);
}

void service_lost(struct service *s)
{
    wire_client_close(s->wire);
    s->wire = NULL;
}

/* ---- the evaluator ---- */

/* *fd: -1 where another one has it, or where it cannot be made now. */
static void lock_evaluator(const struct service *s, int *fd)
{
    char path[PATH_MAX + 32];
    snprintf(path, sizeof path, "%s/evaluator.lock", s->dir);
    *fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (*fd < 0 || !flock(*fd, LOCK_EX | LOCK_NB)) return;
    close(*fd);
    *fd = -1;
}

/* What a killed evaluator was writing. The next one clears away after those that are dead by their number, which one that nobody has buried yet is not;
 * whoever has the lock knows that nobody writes there. */
static void remove_halves(const char *work)
{
    const struct dirent *e;
    DIR *d = opendir(work);
    while (d && (e = readdir(d)))
        if (strstr(e->d_name, ".safetensors.tmp")) unlinkat(dirfd(d), e->d_name, 0);
    if (d) closedir(d);
}

static int start_evaluator(struct service *s, int lock)
{
    char log[PATH_MAX + 32], work[PATH_MAX + 8];
    const char *args[12] = {"--socket", s->socket, "--work", work, "-v"};
    struct base_err err = BASE_ERR_INIT;
    int n = 5;
    snprintf(log, sizeof log, "%s/log/evaluator.log", s->dir);
    snprintf(work, sizeof work, "%.*s/work", PATH_MAX, s->dir);
    if (s->threads) args[n++] = "--threads", args[n++] = s->threads;
    if (s->device) args[n++] = "--device", args[n++] = s->device;
    remove_halves(work);
    child_stop(&s->evaluator, 0, 0, NULL);
    if (child_start(&s->evaluator, "taut-evaluator", args, log, lock, false, NULL, &err)) return cli_fail_err(CLI_FAILED, NULL, NULL, &err);
    s->started_ns[EVALUATOR] = base_clock_ns();
    s->evaluator_up = true;
    return CLI_OK;
}

/* Somebody else's evaluator, connected to this tautd, will do. */
static bool others_evaluate(struct service *s)
{
    json_t *info = NULL;
    if (wire_client_call(s->wire, "server.info", NULL, -1, &info, NULL, NULL)) return true; /* the next check sees why */
    bool there = json_integer_value(json_object_get(info, "evaluators")) > 0;
    json_decref(info);
    return there;
}

/* It has the lock: connected, it works for us; else it is on its way out, or hangs. */
static void wait_for_others(struct service *s)
{
    if (!s->held_ns) s->held_ns = base_clock_ns();
    if (s->held_told || since(s->held_ns) < HELD_S || others_evaluate(s)) return;
    say(s, "waiting for the evaluator of an earlier command on this folder to leave");
    s->held_told = true;
}

static int keep_evaluator(struct service *s)
{
    int lock, rc = CLI_OK;
    if (child_alive(&s->evaluator)) return CLI_OK;
    if (s->evaluator_up) {
        s->evaluator_up = false;
        return died(s, EVALUATOR, &s->evaluator);
    }
    if (base_clock_ns() < s->again_ns[EVALUATOR]) return CLI_OK;
    s->again_ns[EVALUATOR] = base_clock_ns() + (uint64_t)(LOOK_S * 1e9);
    lock_evaluator(s, &lock);
    if (lock < 0) {
        wait_for_others(s);
        return CLI_OK;
    }
    s->held_ns = 0;
    s->held_told = false;
    if (!others_evaluate(s)) rc = start_evaluator(s, lock);
    close(lock);
    return rc;
}

/* ---- both ---- */

void service_evaluator(struct service *s, const char *threads, const char *device)
{
    s->threads = threads;
    s->device = device;
    s->evaluates = true;
}

int service_check(struct service *s)
{
    int rc = CLI_OK;
    if (s->tautd.pid && !child_alive(&s->tautd)) {
        service_lost(s);
        rc = died(s, TAUTD, &s->tautd);
    }
    if (!rc && !s->wire) rc = connect_tautd(s);
    return rc || !s->evaluates ? rc : keep_evaluator(s);
}

void service_worked(struct service *s)
{
    s->deaths[TAUTD] = s->deaths[EVALUATOR] = 0;
}

void service_close(struct service *s)
{
    service_lost(s);
    child_stop(&s->evaluator, EVALUATOR_STOP_S, STOP_S, NULL);
    child_stop(&s->tautd, STOP_S / 2, STOP_S, NULL);
}
