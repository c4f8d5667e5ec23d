#include "evaluator/hostlock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

struct hostlock {
    int gate, work; /* file descriptors */
};

static int lock(int fd, int how)
{
    int r;
    do r = flock(fd, how);
    while (r && errno == EINTR);
    return r;
}

/* Any user's evaluator on this host may open the files: the lock is the host's, not the user's. */
static int open_file(const char *folder, const char *device, const char *which)
{
    char path[512];
    if (snprintf(path, sizeof path, "%s/%s.%s", folder, device, which) >= (int)sizeof path) {
        errno = ENAMETOOLONG;
        return -1;
    }
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
    if (fd < 0 && errno == EACCES) fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW); /* flock needs no write permission */
    if (fd >= 0) fchmod(fd, 0666); /* past the umask; fails harmlessly where the file is another user's */
    return fd;
}

st_t hostlock_open(struct hostlock **out, const char *device, const char *folder, struct base_err *err)
{
    char name[64];
    size_t i = 0;
    for (; device[i] && i < sizeof name - 1; i++) name[i] = device[i] == '/' || device[i] == ':' ? '-' : device[i];
    name[i] = 0;
    if (!folder) folder = "/tmp/taut-locks";
    if (mkdir(folder, 01777) == 0) chmod(folder, 01777);
    else if (errno != EEXIST) return base_err_set(err, ST_EIO, folder, "cannot be made: %s", strerror(errno));
    struct hostlock *l = malloc(sizeof *l);
    if (!l) return ST_ENOMEM;
    l->gate = open_file(folder, name, "gate");
    l->work = l->gate < 0 ? -1 : open_file(folder, name, "work");
    if (l->work < 0) {
        st_t st = base_err_set(err, ST_EIO, folder, "lock files of %s cannot be opened: %s", name, strerror(errno));
        hostlock_close(l);
        return st;
    }
    *out = l;
    return ST_OK;
}

void hostlock_close(struct hostlock *l)
{
    if (!l) return;
    if (l->work >= 0) close(l->work);
    if (l->gate >= 0) close(l->gate);
    free(l);
}

st_t hostlock_shared(struct hostlock *l)
{
    if (lock(l->gate, LOCK_SH)) return ST_EIO; /* waits while a profiler stands at the gate */
    int r = lock(l->work, LOCK_SH);
    lock(l->gate, LOCK_UN);
    return r ? ST_EIO : ST_OK;
}

st_t hostlock_yield(struct hostlock *l)
{
    /* Nobody at the gate: keep the lock, two system calls. */
    if (!flock(l->gate, LOCK_SH | LOCK_NB)) {
        lock(l->gate, LOCK_UN);
        return ST_OK;
    }
    lock(l->work, LOCK_UN);
    return hostlock_shared(l);
}

st_t hostlock_exclusive(struct hostlock *l)
{
    lock(l->work, LOCK_UN); /* two trainers that turn profiler would otherwise wait for each other */
    if (lock(l->gate, LOCK_EX)) return ST_EIO;
    if (lock(l->work, LOCK_EX)) {
        lock(l->gate, LOCK_UN);
        return ST_EIO;
    }
    return ST_OK;
}

void hostlock_unlock(struct hostlock *l)
{
    lock(l->work, LOCK_UN);
    lock(l->gate, LOCK_UN);
}
