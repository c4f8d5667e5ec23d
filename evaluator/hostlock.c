#include "evaluator/hostlock.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

struct hostlock {
    int gate, work; /* file descriptors */
    bool (*go)(void *ctx);
    void *ctx;
};

static st_t take(struct hostlock *l, int fd, int how)
{
    while (flock(fd, how | LOCK_NB)) {
        if (errno != EWOULDBLOCK && errno != EINTR) return ST_EIO;
        if (l->go && !l->go(l->ctx)) return ST_ECANCELED;
        poll(NULL, 0, HOSTLOCK_WAIT_MS);
    }
    return ST_OK;
}

static void drop(int fd)
{
    flock(fd, LOCK_UN);
}

/* Any user's evaluator on this host may open the files: the lock is the host's, not the user's. */
static int open_file(const char *folder, const char *device, const char *which)
{
    char path[512];
    if (snprintf(path, sizeof path, "%s/%s.%s", folder, device, which) >= (int)sizeof path) {
        errno = ENAMETOOLONG;
        return -1;
    }
    const int flags = O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK; /* a FIFO that somebody has put there must not hold us up */
    int fd = open(path, O_RDWR | O_CREAT | flags, 0666);
    if (fd < 0 && errno == EACCES) {
        fd = open(path, O_RDONLY | flags); /* flock needs no write permission */
        if (fd < 0) errno = EACCES;        /* it was not there, and may not be made */
    }
    struct stat sb;
    if (fd < 0) return -1;
    if (fstat(fd, &sb) || !S_ISREG(sb.st_mode)) {
        close(fd);
        errno = EPERM;
        return -1;
    }
    /* Past the umask; fails harmlessly where the file is another user's. With a second name it may be a file of ours that others are not to read. */
    if (sb.st_nlink == 1) fchmod(fd, 0666);
    return fd;
}

st_t hostlock_open(struct hostlock **out, const char *device, const char *folder, struct base_err *err)
{
    char name[64];
    size_t i = 0;
    for (; device[i] && i < sizeof name - 1; i++) name[i] = device[i] == '/' || device[i] == ':' ? '-' : device[i];
    name[i] = 0;
    const char *set = getenv("TAUT_LOCKS");
    if (!folder) folder = set && *set ? set : "/tmp/taut-locks";
    if (mkdir(folder, 01777) == 0) chmod(folder, 01777);
    else if (errno != EEXIST) return base_err_set(err, ST_EIO, folder, "cannot be made: %s", strerror(errno));
    struct hostlock *l = calloc(1, sizeof *l);
    if (!l) return ST_ENOMEM;
    l->gate = open_file(folder, name, "gate");
    l->work = l->gate < 0 ? -1 : open_file(folder, name, "work");
    if (l->work < 0) {
        st_t st = base_err_set(err, ST_EIO, folder, "lock files of %s cannot be opened: %s; make the folder writable, or remove it", name, strerror(errno));
        hostlock_close(l);
        return st;
    }
    *out = l;
    return ST_OK;
}

st_t hostlock_open_for(struct hostlock **out, const struct kn_dev *dev, struct base_err *err)
{
    char name[sizeof dev->info.kind + sizeof dev->info.bus + 1];
    snprintf(name, sizeof name, "%s%s%s", dev->info.kind, dev->info.bus[0] ? ":" : "", dev->info.bus);
    return hostlock_open(out, name, NULL, err);
}

void hostlock_close(struct hostlock *l)
{
    if (!l) return;
    if (l->work >= 0) close(l->work);
    if (l->gate >= 0) close(l->gate);
    free(l);
}

void hostlock_on_wait(struct hostlock *l, bool (*go)(void *ctx), void *ctx)
{
    l->go = go;
    l->ctx = ctx;
}

st_t hostlock_shared(struct hostlock *l)
{
    st_t st = take(l, l->gate, LOCK_SH); /* waits while a profiler stands at the gate */
    if (st) return st;
    st = take(l, l->work, LOCK_SH);
    drop(l->gate);
    return st;
}

st_t hostlock_exclusive(struct hostlock *l)
{
    drop(l->work); /* two trainers that turn profiler would otherwise wait for each other */
    st_t st = take(l, l->gate, LOCK_EX);
    if (!st) st = take(l, l->work, LOCK_EX);
    if (st) drop(l->gate);
    return st;
}

void hostlock_unlock(struct hostlock *l)
{
    drop(l->work);
    drop(l->gate);
}
