#define _GNU_SOURCE /* nftw, pipe2, execvpe */
#include "cli/bench_child.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/rng.h"
#include "cli/interrupt.h"

extern char **environ;

#define ENV_MAX 4096

/* In the new process. Only what is safe after a fork. */
static void become(const char *const *argv, char **env, int in, int out, int log)
{
    dup2(in, STDIN_FILENO);
    dup2(out, STDOUT_FILENO);
    dup2(log, STDERR_FILENO);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    for (int s = 1; s < 32; s++) signal(s, SIG_DFL);
    execvpe(argv[0], (char *const *)argv, env);
    _exit(BENCH_CHILD_NONE);
}

/* environ with env's names in place of its own. Freed by the caller; NULL: out of memory. */
static char **environment(const char *const *env)
{
    char **e = calloc(ENV_MAX + 1, sizeof *e);
    int n = 0;
    for (char **p = environ; e && *p && n < ENV_MAX / 2; p++) {
        bool replaced = false;
        for (int i = 0; env && env[i]; i++) replaced |= !strncmp(env[i], *p, strcspn(env[i], "=")) && (*p)[strcspn(env[i], "=")] == '=';
        if (!replaced) e[n++] = *p;
    }
    for (int i = 0; e && env && env[i] && n < ENV_MAX; i++)
        if (strchr(env[i], '=')) e[n++] = (char *)env[i];
    return e;
}

st_t bench_child_start(struct bench_child *c, const char *const *argv, const char *const *env, const char *log, struct base_err *err)
{
    int to[2] = {-1, -1}, from[2] = {-1, -1}, logfd = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    char **e = environment(env);
    *c = (struct bench_child){0};
    st_t st = ST_OK;
    if (!e) st = base_err_set(err, ST_ENOMEM, argv[0], "out of memory");
    else if (logfd < 0 || pipe2(to, O_CLOEXEC) || pipe2(from, O_CLOEXEC)) st = base_err_set(err, ST_EIO, argv[0], "cannot be started: %s", strerror(errno));
    if (!st) {
        c->pid = fork();
        if (!c->pid) become(argv, e, to[0], from[1], logfd);
        if (c->pid < 0) {
            c->pid = 0;
            st = base_err_set(err, ST_EIO, argv[0], "cannot be started: %s", strerror(errno));
        }
    }
    free(e);
    if (logfd >= 0) close(logfd);
    if (to[0] >= 0) close(to[0]);
    if (from[1] >= 0) close(from[1]);
    if (!st) c->to = fdopen(to[1], "w"), c->from = fdopen(from[0], "r");
    if (!st && (!c->to || !c->from)) st = ST_ENOMEM;
    if (!st) return ST_OK;
    if (!c->to && to[1] >= 0) close(to[1]);
    if (!c->from && from[0] >= 0) close(from[0]);
    bench_child_end(c);
    return st;
}

json_t *bench_child_read(struct bench_child *c)
{
    char *line = NULL;
    size_t cap = 0;
    json_t *v = NULL;
    while (!v && !interrupted && getline(&line, &cap, c->from) > 0) v = json_loads(line, 0, NULL); /* what is no JSON is somebody's chatter */
    free(line);
    return v;
}

int bench_child_end(struct bench_child *c)
{
    int status = 0;
    if (c->to) fclose(c->to);
    if (c->from) fclose(c->from);
    if (c->pid) {
        if (interrupted) kill(c->pid, SIGTERM);
        while (waitpid(c->pid, &status, 0) < 0 && errno == EINTR)
            if (interrupted) kill(c->pid, SIGKILL);
    }
    *c = (struct bench_child){0};
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

st_t bench_folder(char *path, size_t size, struct base_err *err)
{
    const char *tmp = getenv("TMPDIR");
    if (snprintf(path, size, "%s/taut-bench-XXXXXX", tmp && *tmp ? tmp : "/tmp") >= (int)size || !mkdtemp(path))
        return base_err_set(err, ST_EIO, "bench", "no folder for files in between: %s", strerror(errno));
    return ST_OK;
}

static int gone(const char *path, const struct stat *s, int type, struct FTW *f)
{
    return remove(path);
}

void bench_folder_remove(const char *path)
{
    if (*path) nftw(path, gone, 16, FTW_DEPTH | FTW_PHYS);
}

st_t bench_write_file(const char *path, const void *p, size_t n)
{
    FILE *f = fopen(path, "we");
    if (!f) return ST_EIO;
    bool whole = fwrite(p, 1, n, f) == n;
    return fclose(f) || !whole ? ST_EIO : ST_OK;
}

/* Letters and spaces, so that a model finds something to learn. */
st_t bench_write_text(const char *path, size_t n, uint64_t seed)
{
    char *p = malloc(n);
    struct base_rng r = base_rng_at(seed, RNG_TEST, 2);
    if (!p) return ST_ENOMEM;
    for (size_t i = 0; i < n; i++) {
        uint64_t k = base_rng_below(&r, 32);
        p[i] = k < 26 ? (char)('a' + k * k / 26) : ' ';
    }
    st_t st = bench_write_file(path, p, n);
    free(p);
    return st;
}

void bench_log_last(const char *path, char *buf, size_t size)
{
    char *line = NULL;
    size_t room = 0;
    FILE *f = fopen(path, "re");
    *buf = '\0';
    while (f && getline(&line, &room, f) >= 0) {
        line[strcspn(line, "\n")] = '\0';
        if (*line) snprintf(buf, size, "%.*s", (int)base_utf8_cut(line, size - 1), line);
    }
    free(line);
    if (f) fclose(f);
}

st_t bench_train_process(struct bench *b, const char *arch, int context, int steps, json_t **end, double *seconds)
{
    char folder[PATH_MAX] = "", file[3][PATH_MAX + 16], text[3][32], lock[PATH_MAX + 32];
    struct bench_child c;
    struct base_err err = BASE_ERR_INIT;
    json_t *last = NULL;
    st_t st = bench_folder(folder, sizeof folder, &err);
    if (st) return st;
    snprintf(file[0], sizeof file[0], "%s/arch.json", folder);
    snprintf(file[1], sizeof file[1], "%s/train.txt", folder);
    snprintf(file[2], sizeof file[2], "%s/valid.txt", folder);
    snprintf(text[0], sizeof text[0], "%lld", (long long)steps * b->batch * context);
    snprintf(text[1], sizeof text[1], "%d", b->batch);
    snprintf(text[2], sizeof text[2], "%d", b->dev->info.threads);
    snprintf(lock, sizeof lock, "TAUT_LOCKS=%s/locks", folder); /* this process holds the machine's */
    st = bench_write_file(file[0], arch, strlen(arch));
    if (!st) st = bench_write_text(file[1], (size_t)context * 256 + 1, 1);
    if (!st) st = bench_write_text(file[2], (size_t)context + 1, 2);
    const char *argv[] = {"/proc/self/exe", "train", file[0], "--data", file[1], "--valid", file[2], "--tokens", text[0], "--batch", text[1], "--threads", text[2],
                          "--precision", kn_dtype_name(b->precision), "--order", "sequential", "--json", NULL};
    const char *env[] = {lock, NULL};
    uint64_t from = base_clock_ns();
    char log[PATH_MAX + 16];
    snprintf(log, sizeof log, "%s/log", folder);
    if (!st) st = bench_child_start(&c, argv, env, log, &err);
    if (!st) {
        for (json_t *v; (v = bench_child_read(&c));) {
            json_decref(last);
            last = v;
        }
        st = bench_child_end(&c) ? ST_EIO : ST_OK;
        if (seconds) *seconds = (double)(base_clock_ns() - from) * 1e-9;
    }
    bench_folder_remove(folder);
    if (!st && !json_object_get(last, "train_bytes")) st = ST_EIO;
    if (st) json_decref(last);
    else *end = last;
    return st;
}
