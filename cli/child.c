#include "config.h"

#include "cli/child.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"

#define ARGS_MAX 32
#define LAST_BYTES 4096
#define SLICE_MS 20
#define IN_USE "is in use by another tautd" /* what tautd says of a store whose lock it does not get */

static st_t beside(const char *program, char *path, size_t size, struct base_err *err)
{
    char self[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    if (n < 0) return base_err_set(err, ST_EIO, "/proc/self/exe", "%s", strerror(errno));
    self[n] = '\0';
    char *slash = strrchr(self, '/');
    if (!slash || snprintf(path, size, "%.*s/%s", (int)(slash - self), self, program) >= (int)size)
        return base_err_set(err, ST_ETOOBIG, program, "its path is too long");
    if (access(path, X_OK)) return base_err_set(err, ST_ENOTFOUND, path, "cannot be run: %s", strerror(errno));
    return ST_OK;
}

/* In the new process. Only what is safe after a fork. */
static void become(const char *path, char **argv, int log, int lifeline, int keep, int ready)
{
    setsid();
    int null = open("/dev/null", O_RDWR);
    dup2(null, STDIN_FILENO);
    dup2(log, STDOUT_FILENO);
    dup2(log, STDERR_FILENO);
    fcntl(lifeline, F_SETFD, 0);
    if (keep >= 0) fcntl(keep, F_SETFD, 0);
    if (ready >= 0) fcntl(ready, F_SETFD, 0);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    for (int s = 1; s < 32; s++) signal(s, SIG_DFL);
    execv(path, argv);
    _exit(127);
}

st_t child_start(struct child *c, const char *program, const char *const *args, const char *log, int keep, bool ready, int *ready_fd,
                 struct base_err *err)
{
    char path[PATH_MAX], life_text[16], ready_text[16];
    char *argv[ARGS_MAX + 6];
    int life[2] = {-1, -1}, rdy[2] = {-1, -1}, n = 0;
    *c = (struct child){.program = program, .lifeline = -1, .log = -1};
    st_t st = beside(program, path, sizeof path, err);
    if (st) return st;
    c->log = log ? open(log, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0644) : memfd_create(program, MFD_CLOEXEC);
    if (c->log < 0) return base_err_set(err, errno == ENOSPC ? ST_ENOSPC : ST_EIO, log ? log : program, "%s", strerror(errno));
    if (pipe2(life, O_CLOEXEC) || (ready && pipe2(rdy, O_CLOEXEC))) {
        st = base_err_set(err, ST_EIO, program, "no pipe: %s", strerror(errno));
        goto close_pipes;
    }
    argv[n++] = path;
    for (int i = 0; args[i] && i < ARGS_MAX; i++) argv[n++] = (char *)args[i];
    snprintf(life_text, sizeof life_text, "%d", life[0]);
    snprintf(ready_text, sizeof ready_text, "%d", rdy[1]);
    argv[n++] = "--lifeline";
    argv[n++] = life_text;
    if (ready) {
        argv[n++] = "--ready";
        argv[n++] = ready_text;
    }
    argv[n] = NULL;
    c->pid = fork();
    if (c->pid == 0) become(path, argv, c->log, life[0], keep, rdy[1]);
    if (c->pid < 0) {
        c->pid = 0;
        st = base_err_set(err, ST_EIO, program, "cannot start it: %s", strerror(errno));
        goto close_pipes;
    }
    close(life[0]);
    c->lifeline = life[1];
    if (ready) {
        close(rdy[1]);
        *ready_fd = rdy[0];
    }
    return ST_OK;

close_pipes:
    for (int i = 0; i < 2; i++) {
        if (life[i] >= 0) close(life[i]);
        if (rdy[i] >= 0) close(rdy[i]);
    }
    close(c->log);
    c->log = -1;
    return st;
}

st_t child_wait_ready(struct child *c, int fd, const volatile int *interrupt)
{
    st_t st = ST_ECLOSED;
    for (;;) {
        char text[16];
        struct pollfd p = {.fd = fd, .events = POLLIN};
        if (interrupt && *interrupt) {
            st = ST_ECANCELED;
            break;
        }
        int n = poll(&p, 1, interrupt ? SLICE_MS : -1);
        if (n == 0 || (n < 0 && errno == EINTR)) continue;
        ssize_t got = read(fd, text, sizeof text);
        if (got < 0 && errno == EINTR) continue;
        if (got > 0) st = ST_OK;
        break;
    }
    close(fd);
    return st;
}

bool child_alive(struct child *c)
{
    if (!c->pid) return false;
    pid_t pid;
    do pid = waitpid(c->pid, &c->status, WNOHANG);
    while (pid < 0 && errno == EINTR);
    if (pid == 0) return true;
    c->pid = 0;
    if (c->lifeline >= 0) close(c->lifeline);
    c->lifeline = -1;
    return false;
}

int child_end_fd(pid_t pid)
{
    return (int)syscall(SYS_pidfd_open, pid, 0);
}

bool child_wait(struct child *c, int ms)
{
    if (!child_alive(c)) return false;
    struct pollfd p = {.fd = child_end_fd(c->pid), .events = POLLIN};
    poll(&p, 1, p.fd < 0 && ms > SLICE_MS ? SLICE_MS : ms);
    if (p.fd >= 0) close(p.fd);
    return child_alive(c);
}

void child_stop(struct child *c, double term_s, double kill_s, const volatile int *interrupt)
{
    uint64_t start = base_clock_ns();
    bool termed = false;
    if (c->lifeline >= 0) close(c->lifeline);
    c->lifeline = -1;
    while (child_alive(c)) {
        double s = (double)(base_clock_ns() - start) / 1e9;
        if (interrupt && *interrupt) break;
        if (!termed && s >= term_s) {
            kill(c->pid, SIGTERM);
            termed = true;
        }
        if (kill_s >= 0 && s >= kill_s) kill(c->pid, SIGKILL);
        child_wait(c, SLICE_MS);
    }
    if (c->log >= 0) close(c->log);
    c->log = -1;
}

void child_last_line(const struct child *c, char *buf, size_t size)
{
    char text[LAST_BYTES + 1];
    off_t end = c->log >= 0 ? lseek(c->log, 0, SEEK_END) : 0;
    off_t from = end > LAST_BYTES ? end - LAST_BYTES : 0;
    ssize_t n = end > 0 ? pread(c->log, text, (size_t)(end - from), from) : 0;
    *buf = '\0';
    while (n > 0 && (text[n - 1] == '\n' || text[n - 1] == ' ')) n--;
    if (n <= 0) return;
    text[n] = '\0';
    char *line = strrchr(text, '\n');
    line = line ? line + 1 : text;
    size_t k = strlen(c->program);
    if (!strncmp(line, c->program, k) && line[k] == ':') {
        line += k + 1;
        while (*line == ' ') line++;
        if (!strncmp(line, "error: ", 7)) line += 7;
    }
    snprintf(buf, size, "%s", line);
}

bool child_met_another(const struct child *c)
{
    char line[1024];
    child_last_line(c, line, sizeof line);
    return !c->pid && WIFEXITED(c->status) && strstr(line, IN_USE);
}

const char *child_why(const struct child *c, char *buf, size_t size)
{
    char line[1024];
    child_last_line(c, line, sizeof line);
    if (WIFSIGNALED(c->status) && WTERMSIG(c->status) == SIGKILL) *line = '\0'; /* it had no say in this */
    if (WIFSIGNALED(c->status)) snprintf(buf, size, "ended by signal %d (%s)%s%s", WTERMSIG(c->status), strsignal(WTERMSIG(c->status)), *line ? ": " : "", line);
    else if (*line) snprintf(buf, size, "%s", line);
    else snprintf(buf, size, "exit status %d", WEXITSTATUS(c->status));
    return buf;
}
