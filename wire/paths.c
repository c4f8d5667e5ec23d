/* Where sockets are. */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/hash.h"
#include "wire/wire.h"

enum { SUN_MAX = sizeof((struct sockaddr_un *)0)->sun_path };

static st_t copy(char *buf, size_t size, const char *path, struct base_err *err)
{
    size_t n = strlen(path);
    if (n >= SUN_MAX)
        return base_err_set(err, ST_ETOOBIG, path, "too long for a socket: at most %d bytes", SUN_MAX - 1);
    if (n >= size) return base_err_set(err, ST_ETOOBIG, path, "does not fit in %zu bytes", size);
    memcpy(buf, path, n + 1);
    return ST_OK;
}

/* $XDG_RUNTIME_DIR/taut, else /tmp/taut-<uid>. The second may have been made by anybody: it must be ours alone. */
static st_t runtime_dir(char *buf, size_t size, struct base_err *err)
{
    const char *xdg = getenv("XDG_RUNTIME_DIR");
    if (xdg && xdg[0] == '/') { /* a relative one is to be ignored (XDG Base Directory Specification) */
        if ((size_t)snprintf(buf, size, "%s/taut", xdg) >= size)
            return base_err_set(err, ST_ETOOBIG, "XDG_RUNTIME_DIR", "too long");
        return ST_OK;
    }
    struct stat sb;
    snprintf(buf, size, "/tmp/taut-%ld", (long)geteuid());
    if (lstat(buf, &sb)) return ST_OK;
    if (!S_ISDIR(sb.st_mode) || sb.st_uid != geteuid() || sb.st_mode & 022)
        return base_err_set(err, ST_EPERM, buf, "is not a folder of this user alone; remove it, or set TAUT_SOCKET");
    return ST_OK;
}

st_t wire_default_socket(char *buf, size_t size, struct base_err *err)
{
    char dir[PATH_MAX], path[PATH_MAX + 32];
    const char *env = getenv("TAUT_SOCKET");
    if (env && env[0]) return copy(buf, size, env, err);
    st_t st = runtime_dir(dir, sizeof dir, err);
    if (st) return st;
    snprintf(path, sizeof path, "%s/tautd.sock", dir);
    return copy(buf, size, path, err);
}

st_t wire_dir_socket(const char *dir, char *buf, size_t size, struct base_err *err)
{
    char path[PATH_MAX + 64], run[PATH_MAX], hash[BASE_ID_HEX];
    char *full = realpath(dir, NULL);
    if (!full) return base_err_set(err, errno == EACCES ? ST_EPERM : ST_ENOTFOUND, dir, "%s", strerror(errno));
    snprintf(path, sizeof path, "%s/tautd.sock", full);
    base_id_hex(full, strlen(full), hash);
    free(full);
    if (strlen(path) >= SUN_MAX) {
        st_t st = runtime_dir(run, sizeof run, err);
        if (st) return st;
        snprintf(path, sizeof path, "%s/%s.sock", run, hash);
    }
    return copy(buf, size, path, err);
}
