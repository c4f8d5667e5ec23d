/* Where sockets are. */
#include <limits.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/hash.h"
#include "tests/tap.h"
#include "wire/wire.h"

int main(void)
{
    char buf[108], want[PATH_MAX + 64], small[8], deep[PATH_MAX + 96], link_path[PATH_MAX + 8], full[PATH_MAX];
    struct base_err err = BASE_ERR_INIT;

    setenv("TAUT_SOCKET", "/x/y.sock", 1);
    setenv("XDG_RUNTIME_DIR", "/run/user/7", 1);
    is_int(wire_default_socket(buf, sizeof buf, &err), ST_OK, "default");
    is_str(buf, "/x/y.sock", "TAUT_SOCKET first");
    is_int(wire_default_socket(small, sizeof small, &err), ST_ETOOBIG, "a buffer that is too small");
    setenv("TAUT_SOCKET", "", 1);
    is_int(wire_default_socket(buf, sizeof buf, &err), ST_OK, "an empty one is none");
    is_str(buf, "/run/user/7/taut/tautd.sock", "then XDG_RUNTIME_DIR");
    unsetenv("TAUT_SOCKET");
    setenv("XDG_RUNTIME_DIR", "relative", 1);
    st_t st = wire_default_socket(buf, sizeof buf, &err);
    snprintf(want, sizeof want, "/tmp/taut-%ld/tautd.sock", (long)geteuid());
    if (st == ST_EPERM)
        tap_skip("the folder in /tmp is somebody else's");
    else
        is_str(buf, want, "then /tmp");
    memset(deep, 'd', 200);
    deep[0] = '/';
    deep[200] = '\0';
    setenv("XDG_RUNTIME_DIR", deep, 1);
    is_int(wire_default_socket(buf, sizeof buf, &err), ST_ETOOBIG, "a default too long for a socket");
    setenv("TAUT_SOCKET", deep, 1);
    is_int(wire_default_socket(buf, sizeof buf, &err), ST_ETOOBIG, "a given one too");
    unsetenv("TAUT_SOCKET");

    char dir[] = "/tmp/taut-test-paths-XXXXXX";
    if (!mkdtemp(dir) || !realpath(dir, full)) return 1;
    is_int(wire_dir_socket(dir, buf, sizeof buf, &err), ST_OK, "a folder");
    snprintf(want, sizeof want, "%s/tautd.sock", full);
    is_str(buf, want, "has its socket inside");
    if (chdir(dir)) return 1;
    is_int(wire_dir_socket(".", buf, sizeof buf, &err), ST_OK, "a relative folder");
    is_str(buf, want, "is made absolute");
    is_int(wire_dir_socket("nowhere", buf, sizeof buf, &err), ST_ENOTFOUND, "a folder that is not there");
    is_str(err.where, "nowhere", "is named");

    char name[90];
    memset(name, 'n', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    snprintf(deep, sizeof deep, "%s/%s", full, name);
    mkdir(deep, 0700);
    setenv("XDG_RUNTIME_DIR", full, 1);
    is_int(wire_dir_socket(deep, buf, sizeof buf, &err), ST_OK, "a folder too long for a socket");
    char id[BASE_ID_HEX];
    base_id_hex(deep, strlen(deep), id);
    snprintf(want, sizeof want, "%s/taut/%s.sock", full, id);
    is_str(buf, want, "has a hashed name in XDG_RUNTIME_DIR");
    snprintf(link_path, sizeof link_path, "%s/link", full);
    if (symlink(deep, link_path)) return 1;
    is_int(wire_dir_socket(link_path, buf, sizeof buf, &err), ST_OK, "the same folder by another name");
    is_str(buf, want, "has the same socket");
    unlink(link_path);
    rmdir(deep);
    if (chdir("/")) return 1;
    rmdir(dir);
    return tap_done();
}
