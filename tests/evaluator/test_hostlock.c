/* The lock, between processes. Each child does what it is told over a pipe, one letter at a time, and answers when it is done. */
#include "tests/evaluator/evaltest.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "evaluator/hostlock.h"

struct child {
    pid_t pid;
    int to, from;
};

static volatile sig_atomic_t signals;

static void on_signal(int sig)
{
    (void)sig;
    signals++;
}

static bool never(void *ctx)
{
    return ++*(int *)ctx < 3;
}

/* s: shared, x: exclusive, y: a step's end and the next one's beginning, u: unlock, n: exclusive, but patient for three looks; the answer is the letter, or '!' where it failed. */
static void obey(int in_fd, int out_fd)
{
    struct hostlock *l;
    struct base_err err = BASE_ERR_INIT;
    struct sigaction sa = {.sa_handler = on_signal}; /* no SA_RESTART */
    sigaction(SIGUSR1, &sa, NULL);
    char c;
    int looks = 0;
    if (hostlock_open(&l, "cpu", folder, &err)) _exit(1);
    while (read(in_fd, &c, 1) == 1) {
        st_t st = ST_OK;
        if (c == 's') st = hostlock_shared(l);
        if (c == 'x') st = hostlock_exclusive(l);
        if (c == 'y') hostlock_unlock(l), st = hostlock_shared(l);
        if (c == 'u') hostlock_unlock(l);
        if (c == 'n') {
            hostlock_on_wait(l, never, &looks);
            st = hostlock_exclusive(l) == ST_ECANCELED && looks == 3 ? ST_OK : ST_EINVAL;
            hostlock_on_wait(l, NULL, NULL);
            looks = 0;
        }
        if (st) c = '!';
        if (write(out_fd, &c, 1) != 1) break;
    }
    hostlock_close(l);
    _exit(0);
}

static struct child start(void)
{
    int to[2], from[2];
    struct child c;
    if (pipe(to) || pipe(from)) exit(1);
    fflush(stdout);
    c.pid = fork();
    if (!c.pid) {
        prctl(PR_SET_PDEATHSIG, SIGKILL); /* however the test ends */
        close(to[1]), close(from[0]);
        obey(to[0], from[1]);
    }
    close(to[0]), close(from[1]);
    c.to = to[1], c.from = from[0];
    return c;
}

static void tell(struct child *c, char what)
{
    if (write(c->to, &what, 1) != 1) perror("write");
}

/* What it answers within ms; 0: nothing. */
static char answer(struct child *c, int ms)
{
    struct pollfd p = {c->from, POLLIN, 0};
    char r = 0;
    if (poll(&p, 1, ms) == 1 && read(c->from, &r, 1) != 1) r = 0;
    return r;
}

static bool does(struct child *c, char what)
{
    tell(c, what);
    return answer(c, 30000) == what;
}

/* It has not answered, and it never would: long enough for several looks. */
static bool waits(struct child *c)
{
    return answer(c, 5 * HOSTLOCK_WAIT_MS) == 0;
}

static void ends(struct child *c)
{
    close(c->to), close(c->from);
    kill(c->pid, SIGKILL); /* later children hold its pipe open, too */
    waitpid(c->pid, NULL, 0);
}

static void sharing(void)
{
    struct child a = start(), b = start(), p = start();
    ok(does(&a, 's') && does(&b, 's'), "two trainers hold it together");
    ok(does(&a, 'y') && does(&b, 'y'), "and go on at step boundaries where nobody waits");
    tell(&p, 'x');
    ok(waits(&p), "a profiler waits for both");
    tell(&a, 'y');
    ok(waits(&a), "a trainer gives way at its step boundary");
    ok(waits(&p), "but the profiler waits for the other one, too");
    struct child late = start();
    tell(&late, 's');
    ok(waits(&late), "a trainer that comes now does not slip in before the profiler");
    tell(&b, 'y');
    ok(answer(&p, 30000) == 'x', "when all have given way, it is the profiler's");
    ok(waits(&a) && waits(&b) && waits(&late), "alone");
    does(&p, 'u');
    char answers[3] = {answer(&a, 30000), answer(&b, 30000), answer(&late, 30000)};
    ok(answers[0] == 'y' && answers[1] == 'y' && answers[2] == 's', "then the trainers go on");

    struct child q = start();
    does(&late, 'u');
    tell(&p, 'x');
    tell(&q, 'x');
    ok(does(&a, 'u') && does(&b, 'u'), "two profilers want it, the trainers are done");
    struct pollfd both[] = {{p.from, POLLIN, 0}, {q.from, POLLIN, 0}};
    poll(both, 2, 30000);
    struct child *has = both[0].revents ? &p : &q, *wants = has == &p ? &q : &p;
    ok(answer(has, 0) == 'x' && waits(wants), "one has it at a time");
    tell(has, 'u');
    ok(answer(has, 30000) == 'u' && answer(wants, 30000) == 'x', "one after the other");

    tell(&a, 's');
    ok(waits(&a), "a trainer waits for the profiler");
    for (int i = 0; i < 3; i++) kill(a.pid, SIGUSR1);
    ok(waits(&a), "signals do not make it give up, nor let it in");
    tell(&b, 'n');
    ok(answer(&b, 30000) == 'n', "who is told while waiting that it need not, stops waiting");
    kill(wants->pid, SIGKILL);
    ok(answer(&a, 30000) == 's', "a profiler that is killed lets go");
    kill(a.pid, SIGKILL);
    ok(does(&b, 'x'), "so does a trainer; and giving up has left nothing locked");
    struct child c = start();
    ok(does(&b, 's') && does(&late, 'n'), "who gives up at the gate's other side, with a trainer at work,");
    ok(does(&c, 's'), "leaves the gate open as well");
    ends(&c);
    ends(&a), ends(&b), ends(&p), ends(&q), ends(&late);
}

/* Trainers that never stop, and one profiler after the other: each gets its turn. */
static void starvation(void)
{
    enum { TRAINERS = 3, TURNS = 5 };
    pid_t pid[TRAINERS];
    int ready[2], turns = 0;
    if (pipe(ready)) exit(1);
    fflush(stdout);
    for (int i = 0; i < TRAINERS; i++)
        if (!(pid[i] = fork())) {
            struct hostlock *l;
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            if (hostlock_open(&l, "cpu", folder, NULL) || hostlock_shared(l)) _exit(1);
            if (write(ready[1], "r", 1) != 1) _exit(1);
            for (;;) {
                poll(NULL, 0, 1); /* a step */
                hostlock_unlock(l);
                if (hostlock_shared(l)) _exit(1);
            }
        }
    char c;
    for (int i = 0; i < TRAINERS; i++) (void)!read(ready[0], &c, 1);
    struct hostlock *l;
    struct base_err err = BASE_ERR_INIT;
    ok(!hostlock_open(&l, "cpu", folder, &err), "%d trainers that never stop", TRAINERS);
    alarm(60); /* should it hang */
    for (int i = 0; i < TURNS; i++) {
        if (hostlock_exclusive(l)) break;
        turns++;
        hostlock_unlock(l);
    }
    alarm(0);
    is_int(turns, TURNS, "a profiler gets its turn each time");
    for (int i = 0; i < TRAINERS; i++) kill(pid[i], SIGKILL), waitpid(pid[i], NULL, 0);
    hostlock_close(l);
    close(ready[0]), close(ready[1]);
}

static void folders(void)
{
    struct hostlock *l = NULL, *m;
    struct base_err err = BASE_ERR_INIT;
    struct stat sb;
    umask(077);
    ok(!hostlock_open(&l, "cuda:0", in("locks"), &err), "a folder that is not there is made");
    ok(!stat(in("locks"), &sb) && (sb.st_mode & 07777) == 01777, "for everybody on the host, whatever the umask (%o)", (unsigned)sb.st_mode & 07777);
    ok(!stat(in("locks/cuda-0.gate"), &sb) && (sb.st_mode & 0777) == 0666, "so are its files");
    umask(022);
    struct kn_dev one = {.info = {.kind = "cuda", .bus = "0000:65:00.0"}}, two = {.info = {.kind = "cuda", .bus = "0000:17:00.0"}}, cpu = {.info = {.kind = "cpu", .isa = "avx2"}};
    struct hostlock *of[3] = {0};
    const char *before = getenv("TAUT_LOCKS");
    char keep[4096];
    snprintf(keep, sizeof keep, "%s", before ? before : "");
    setenv("TAUT_LOCKS", in("locks"), 1);
    ok(!hostlock_open_for(&of[0], &one, &err) && !hostlock_open_for(&of[1], &two, &err) && !hostlock_open_for(&of[2], &cpu, &err), "of devices that are open");
    ok(!stat(in("locks/cuda-0000-65-00.0.gate"), &sb) && !stat(in("locks/cuda-0000-17-00.0.gate"), &sb) && !stat(in("locks/cpu.gate"), &sb), "a card by its place, a CPU whatever its instruction set");
    for (int i = 0; i < 3; i++) hostlock_close(of[i]);
    if (before) setenv("TAUT_LOCKS", keep, 1);
    else unsetenv("TAUT_LOCKS");
    ok(!hostlock_open(&m, "cpu", in("locks"), &err) && !hostlock_exclusive(l) && !hostlock_exclusive(m), "another device has a lock of its own");
    hostlock_close(l), hostlock_close(m);
    l = NULL;
    put_file("file", "", 0);
    is_int(hostlock_open(&l, "cpu", in("file"), &err), ST_EIO, "a file is no folder");
    ok(strstr(err.where, "/file") && *err.what, "says so: %s: %s", err.where, err.what);
    is_int(hostlock_open(&l, "cpu", in("no/where"), &err), ST_EIO, "a folder in one that is not there");
    ok(strstr(err.what, "cannot be made") != NULL, "says so: %s", err.what);
    symlink(in("locks/elsewhere"), in("locks/sly.gate"));
    is_int(hostlock_open(&l, "sly", in("locks"), &err), ST_EIO, "a link where the lock should be is not followed");
    ok(access(in("locks/elsewhere"), F_OK) != 0, "and makes nothing elsewhere");
    mkfifo(in("locks/pipe.gate"), 0444);
    is_int(hostlock_open(&l, "pipe", in("locks"), &err), ST_EIO, "nor is a pipe taken for one");
    put_file("secret", "s", 1);
    chmod(in("secret"), 0600);
    link(in("secret"), in("locks/linked.gate"));
    if (!hostlock_open(&l, "linked", in("locks"), &err)) hostlock_close(l);
    ok(!stat(in("secret"), &sb) && (sb.st_mode & 0777) == 0600, "a file that has another name, too, is not opened to everybody");
    char name[200];
    memset(name, 'd', sizeof name - 1);
    name[sizeof name - 1] = 0;
    ok(!hostlock_open(&l, name, in("locks"), &err), "a long name is cut");
    hostlock_close(l);
    if (geteuid()) {
        chmod(in("locks"), 0555);
        is_int(hostlock_open(&l, "new", in("locks"), &err), ST_EIO, "a folder that may not be written");
        ok(strstr(err.what, "Permission denied") != NULL, "says so: %s", err.what);
        ok(!hostlock_open(&l, "cpu", in("locks"), &err), "but files that are there already are enough");
        hostlock_close(l);
        chmod(in("locks"), 0777);
        return;
    }
    /* As somebody else, on files of root's. */
    fflush(stdout);
    chmod(folder, 0755);
    mkdir(in("private"), 0700);
    pid_t pid = fork();
    if (!pid) {
        alarm(60);
        if (setgid(65534) || setuid(65534)) _exit(9);
        if (hostlock_open(&l, "cpu", in("locks"), &err)) _exit(1); /* made above, by another user */
        if (hostlock_exclusive(l)) _exit(2);
        hostlock_close(l);
        if (hostlock_open(&l, "pipe", in("locks"), &err) != ST_EIO) _exit(3); /* nobody writes to it: hangs if it is waited for */
        if (hostlock_open(&l, "cpu", in("mine"), &err) != ST_EIO || !strstr(err.what, "Permission denied")) _exit(4);
        if (hostlock_open(&l, "cpu", in("private"), &err) != ST_EIO || !strstr(err.what, "Permission denied")) _exit(5);
        _exit(0);
    }
    int status = -1;
    waitpid(pid, &status, 0);
    is_int(status, 0, "another user shares the lock, and is told where it may not");
}

int main(void)
{
    signal(SIGPIPE, SIG_IGN);
    begin_files();
    sharing();
    starvation();
    folders();
    end_files();
    return tap_done();
}
