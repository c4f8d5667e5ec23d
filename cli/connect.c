#include "config.h"

#include "cli/connect.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/hash.h"
#include "cli/format.h"

#define PATIENCE_S 10.0     /* for a tautd that is about to leave or to listen */
#define WATCH_MS 200         /* where what happens is missed: a lock is given up just after it is closed, a socket listens just after it is there */
#define PAGE_BYTES (2 << 20) /* tautd ends a page of rows there: a smaller one that is not full is the last */

/* ---- folders ---- */

st_t conn_make_dir(const char *dir, struct base_err *err)
{
    char path[PATH_MAX];
    if (!*dir || snprintf(path, sizeof path, "%s", dir) >= (int)sizeof path) return base_err_set(err, ST_EINVAL, dir, "not a folder's name");
    for (char *p = path + 1;; p++) {
        char ch = *p;
        if (ch && ch != '/') continue;
        *p = '\0';
        if (mkdir(path, 0777) && errno != EEXIST)
            return base_err_set(err, errno == ENOSPC ? ST_ENOSPC : errno == ENOTDIR ? ST_EINVAL : ST_EIO, path, "cannot make the folder: %s", strerror(errno));
        *p = ch;
        if (!ch) break;
    }
    struct stat s;
    if (stat(dir, &s) || !S_ISDIR(s.st_mode)) return base_err_set(err, ST_EINVAL, dir, "is not a folder");
    return ST_OK;
}

bool conn_lock_held(const char *dir)
{
    char path[PATH_MAX];
    if (snprintf(path, sizeof path, "%s/taut.lock", dir) >= (int)sizeof path) return false;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return false;
    bool held = flock(fd, LOCK_EX | LOCK_NB) && errno == EWOULDBLOCK;
    close(fd);
    return held;
}

int conn_watch(const char *dir)
{
    int fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    if (fd < 0 || inotify_add_watch(fd, dir, IN_CREATE | IN_DELETE | IN_CLOSE_WRITE) >= 0) return fd;
    close(fd);
    return -1;
}

/* Who has the lock, as it says itself; 0: nobody, or it is just being taken or given up. */
static pid_t lock_holder(const char *dir)
{
    char path[PATH_MAX], text[32] = "";
    if (snprintf(path, sizeof path, "%s/taut.lock", dir) >= (int)sizeof path) return 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return 0;
    ssize_t n = read(fd, text, sizeof text - 1);
    close(fd);
    return n > 0 ? (pid_t)strtol(text, NULL, 10) : 0;
}

void conn_watch_wait(int watch, const char *dir)
{
    char events[4096];
    pid_t holder = lock_holder(dir);
    struct pollfd p[] = {{.fd = watch, .events = POLLIN}, {.fd = holder > 0 ? child_end_fd(holder) : -1, .events = POLLIN}};
    poll(p, 2, WATCH_MS);
    while (watch >= 0 && read(watch, events, sizeof events) > 0) {
    }
    if (p[1].fd >= 0) close(p[1].fd);
}

bool conn_store_there(const char *dir)
{
    char path[PATH_MAX];
    if (snprintf(path, sizeof path, "%s/taut.db", dir) < (int)sizeof path) return !access(path, F_OK);
    errno = ENAMETOOLONG;
    return false;
}

/* ---- opening ---- */

static int no_daemon(const struct cli *c, const char *socket)
{
    char word[PATH_MAX], todo[PATH_MAX + 100];
    snprintf(todo, sizeof todo, "start one: tautd --dir DIR --socket %s%s", fmt_shell(word, sizeof word, socket), c->socket ? "" : " & – or name a store: --dir DIR");
    return cli_fail(CLI_NO_DAEMON, socket, todo, "no tautd listens there");
}

static int open_socket(struct conn *k, const struct cli *c)
{
    char path[PATH_MAX];
    struct base_err err = BASE_ERR_INIT;
    st_t st = ST_OK;
    if (c->socket) snprintf(path, sizeof path, "%s", c->socket);
    else st = wire_default_socket(path, sizeof path, &err);
    if (st) return cli_fail_err(CLI_CALL, c->cmd->name, "give --socket or --dir", &err);
    st = wire_client_open(&k->wire, path, &err);
    if (st == ST_ECLOSED) return no_daemon(c, path);
    return st ? cli_fail_err(st == ST_ETOOBIG ? CLI_CALL : CLI_NO_DAEMON, NULL, NULL, &err) : CLI_OK;
}

/* Connected, and answering: one that is leaving closes what it has just accepted. */
static bool try_connect(struct conn *k, const char *socket)
{
    json_t *info = NULL;
    if (wire_client_open(&k->wire, socket, NULL)) return false;
    if (!wire_client_call(k->wire, "server.info", NULL, -1, &info, NULL, NULL)) {
        json_decref(info);
        return true;
    }
    wire_client_close(k->wire);
    k->wire = NULL;
    return false;
}

/* Connected to the tautd that serves --dir, or to one of our own. */
static int connect_dir(struct conn *k, const struct cli *c, const char *socket, int watch)
{
    char why[1200];
    struct base_err err = BASE_ERR_INIT;
    uint64_t start = base_clock_ns();
    const char *args[] = {"--dir", c->dir, "--reader", NULL};
    for (;;) {
        int ready;
        if (try_connect(k, socket)) return CLI_OK;
        if (!conn_lock_held(c->dir)) {
            if (child_start(&k->own, "tautd", args, NULL, -1, true, &ready, &err)) return cli_fail_err(CLI_FAILED, NULL, NULL, &err);
            if (!child_wait_ready(&k->own, ready, NULL) && try_connect(k, socket)) return CLI_OK;
            while (child_wait(&k->own, WATCH_MS)) {
            }
            child_why(&k->own, why, sizeof why);
            bool another = child_met_another(&k->own) && (double)(base_clock_ns() - start) / 1e9 <= PATIENCE_S;
            child_stop(&k->own, 0, 0, NULL);
            another = another || conn_lock_held(c->dir);
            if (!another) return cli_fail(CLI_FAILED, "tautd", NULL, "%s", why); /* not that another one was quicker, or was about to leave */
        }
        if ((double)(base_clock_ns() - start) / 1e9 > PATIENCE_S)
            return cli_fail(CLI_NO_DAEMON, c->dir, "end it, or give its socket: --socket PATH", "a tautd holds the store and does not answer on %s", socket);
        conn_watch_wait(watch, c->dir);
    }
}

static int open_dir(struct conn *k, const struct cli *c, bool create)
{
    char socket[PATH_MAX];
    struct base_err err = BASE_ERR_INIT;
    if (create && conn_make_dir(c->dir, &err)) return cli_fail_err(cli_exit_of(err.st), NULL, "give another --dir", &err);
    if (!create && !conn_store_there(c->dir))
        return cli_fail(CLI_NOTHING, c->dir, "give the folder of a search, or start one: taut run JOB.json --dir DIR", "no store there (%s)",
                        errno == ENOENT ? "no taut.db" : strerror(errno));
    if (wire_dir_socket(c->dir, socket, sizeof socket, &err)) return cli_fail_err(CLI_CALL, c->cmd->name, NULL, &err);
    int watch = conn_watch(c->dir), rc = connect_dir(k, c, socket, watch);
    if (watch >= 0) close(watch);
    return rc;
}

int conn_open(struct conn *k, const struct cli *c, bool create)
{
    *k = (struct conn){.cli = c, .own = CHILD_INIT};
    return c->dir ? open_dir(k, c, create) : open_socket(k, c);
}

void conn_close(struct conn *k)
{
    wire_client_close(k->wire);
    k->wire = NULL;
    if (k->own.pid) child_stop(&k->own, 5, 20, NULL);
}

/* ---- calls ---- */

int conn_error(const struct conn *k, st_t st, int code, const char *subject, const struct base_err *err)
{
    const char *what = subject ? subject : k->cli->cmd->name;
    switch (code) {
    case 0: break;
    case WIRE_EPARAMS: return cli_fail_err(CLI_CALL, what, NULL, err);
    case WIRE_ENOTSUP: return cli_fail_err(CLI_CALL, what, NULL, err);
    case WIRE_ENOTFOUND: return cli_fail_err(CLI_NOTHING, what, NULL, err);
    case WIRE_ENOSPC: return cli_fail_err(CLI_FAILED, what, "make room and try again", err);
    case WIRE_EMETHOD: return cli_fail_err(CLI_FAILED, what, "are taut and tautd of the same version?", err);
    default: return cli_fail_err(CLI_FAILED, what, NULL, err);
    }
    if (st == ST_ECANCELED) return CLI_INTERRUPTED;
    if (st == ST_ECLOSED && k->lost) return k->lost;
    if (st == ST_ECLOSED) return cli_fail(CLI_NO_DAEMON, what, "try again", "the connection to tautd is gone: %s", err->what);
    return cli_fail_err(CLI_FAILED, what, NULL, err);
}

int conn_call(struct conn *k, const char *method, json_t *params, const char *subject, json_t **result)
{
    struct base_err err = BASE_ERR_INIT;
    int code;
    st_t st = wire_client_call(k->wire, method, params, -1, result, &code, &err);
    return st ? conn_error(k, st, code, subject, &err) : CLI_OK;
}

/* All of text as a positive integer; 0: it is none. */
static int64_t as_id(const char *text)
{
    char *end;
    errno = 0;
    long long v = strtoll(text, &end, 10);
    return *end || end == text || errno || v < 1 || *text < '0' || *text > '9' ? 0 : v;
}

/* The newest job of that name; 0: none. */
static int by_name(struct conn *k, const char *name, int64_t *id, size_t *jobs)
{
    json_t *list, *row;
    size_t i;
    int rc = conn_call(k, "job.list", json_pack("{s:b}", "brief", 1), NULL, &list);
    if (rc) return rc;
    *jobs = json_array_size(list);
    *id = 0;
    json_array_foreach(list, i, row)
    {
        const char *its = json_string_value(json_object_get(row, "name"));
        int64_t this = json_integer_value(json_object_get(row, "id"));
        if (its && !strcmp(its, name) && this > *id) *id = this;
    }
    json_decref(list);
    return CLI_OK;
}

static json_t *get_params(int64_t id, bool brief)
{
    json_t *params = json_pack("{s:I}", "id", (json_int_t)id);
    if (brief) json_object_set_new(params, "brief", json_true());
    return params;
}

static int find_job(struct conn *k, const char *job, bool brief, json_t **info)
{
    struct base_err err = BASE_ERR_INIT;
    int64_t id = as_id(job);
    size_t jobs;
    int code = 0;
    if (id) { /* a number is a name only where there is no such job */
        st_t st = wire_client_call(k->wire, "job.get", get_params(id, brief), -1, info, &code, &err);
        if (!st) return CLI_OK;
        if (code != WIRE_ENOTFOUND) return conn_error(k, st, code, NULL, &err);
    }
    int rc = by_name(k, job, &id, &jobs);
    if (rc) return rc;
    if (!id) return cli_fail(CLI_NOTHING, job, jobs ? "see taut jobs" : "submit one: taut submit JOB.json", jobs ? "no job of that number or name" : "there are no jobs yet");
    return conn_call(k, "job.get", get_params(id, brief), NULL, info);
}

int conn_job(struct conn *k, const char *job, json_t **info)
{
    return find_job(k, job, false, info);
}

int conn_job_brief(struct conn *k, const char *job, json_t **info)
{
    return find_job(k, job, true, info);
}

void conn_note_idle(const struct conn *k, int64_t job)
{
    char socket[PATH_MAX], dir[PATH_MAX], word[PATH_MAX];
    if (!k->own.pid || wire_dir_socket(k->cli->dir, socket, sizeof socket, NULL)) return;
    cli_note(k->cli, "job %lld is kept; nobody works on it until: %stautd --dir %s & %staut-evaluator --socket %s", (long long)job, k->cli->at,
             fmt_shell(dir, sizeof dir, k->cli->dir), k->cli->at, fmt_shell(word, sizeof word, socket));
}

int conn_trial(struct conn *k, const char *trial, int64_t job, json_t **out)
{
    struct base_err err = BASE_ERR_INIT;
    int64_t id = as_id(trial);
    size_t n = strlen(trial);
    bool hex = n >= 6 && n < BASE_ID_HEX && strspn(trial, "0123456789abcdefABCDEF") == n;
    int code = 0;
    st_t st = ST_ENOTFOUND;
    if (!id && !hex)
        return cli_fail(CLI_CALL, trial, NULL, "neither a trial's number nor 6 to 32 digits of an architecture's id nor a file");
    if (id) {
        st = wire_client_call(k->wire, "trial.get", json_pack("{s:I}", "id", (json_int_t)id), -1, out, &code, &err);
        if (st && !(code == WIRE_ENOTFOUND && hex)) return conn_error(k, st, code, NULL, &err);
    }
    if (st) {
        char lower[BASE_ID_HEX];
        for (size_t i = 0; i <= n; i++) lower[i] = trial[i] >= 'A' && trial[i] <= 'F' ? (char)(trial[i] + 32) : trial[i];
        json_t *params = json_pack("{s:s}", "arch_id", lower);
        if (job) json_object_set_new(params, "job", json_integer(job));
        st = wire_client_call(k->wire, "trial.get", params, -1, out, &code, &err);
    }
    return st ? conn_error(k, st, code, NULL, &err) : CLI_OK;
}

/* Of the last row; 0: there is none, or it has no number. */
static int64_t last_trial(json_t *page)
{
    size_t n = json_array_size(page);
    return n ? json_integer_value(json_object_get(json_array_get(page, n - 1), "trial")) : 0;
}

st_t conn_trials(struct conn *k, int64_t job, int64_t *after, json_t **page, int *code, struct base_err *err)
{
    json_t *rows;
    st_t st = wire_client_call(k->wire, "trial.list", json_pack("{s:I,s:I}", "job", (json_int_t)job, "after", (json_int_t)*after), -1, &rows, code, err);
    if (st) return st;
    int64_t last = last_trial(rows);
    if (json_array_size(rows) && last <= *after) {
        char word[32] = "no trial";
        if (last) snprintf(word, sizeof word, "trial %lld", (long long)last);
        json_decref(rows);
        return base_err_set(err, ST_EPARSE, "", "trial.list: after trial %lld comes a page that ends with %s", (long long)*after, word);
    }
    if (last) *after = last;
    *page = rows;
    return ST_OK;
}

/* A front is in no order of numbers, but has each trial once: no two of its pages end alike. */
struct ends {
    int64_t *trial;
    size_t n;
};

static int add_end(struct conn *k, const char *method, struct ends *e, int64_t trial)
{
    const char *verb = k->cli->cmd->name;
    if (trial < 1) return cli_fail(CLI_FAILED, verb, NULL, "%s: a page does not end with a trial", method);
    for (size_t i = 0; i < e->n; i++)
        if (e->trial[i] == trial) return cli_fail(CLI_FAILED, verb, NULL, "%s: a page ends with trial %lld, as one before it did", method, (long long)trial);
    int64_t *grown = realloc(e->trial, (e->n + 1) * sizeof *grown);
    if (!grown) return cli_fail(CLI_FAILED, verb, NULL, "out of memory");
    e->trial = grown;
    e->trial[e->n++] = trial;
    return CLI_OK;
}

int conn_pages(struct conn *k, const char *method, json_t *params, long limit, json_t **rows)
{
    json_t *all = NULL, *page;
    struct ends ends = {NULL, 0};
    int rc = CLI_OK;
    for (;;) {
        long left = limit < 0 ? -1 : limit - (long)json_array_size(all);
        if (left == 0) break;
        json_object_set_new(params, "limit", json_integer(left < 0 || left > 1000000 ? 1000000 : left));
        rc = conn_call(k, method, json_incref(params), NULL, &page);
        if (rc) break;
        size_t n = json_array_size(page);
        bool whole = !n || (long)n == left || wire_client_reply_bytes(k->wire) < PAGE_BYTES;
        if (!whole) rc = add_end(k, method, &ends, last_trial(page));
        json_object_set_new(params, "after", json_integer(last_trial(page)));
        if (!all) {
            all = page;
        } else {
            json_array_extend(all, page);
            json_decref(page);
        }
        if (whole || rc) break;
    }
    free(ends.trial);
    json_decref(params);
    if (rc) json_decref(all);
    else *rows = all ? all : json_array();
    return rc;
}
