/* taut doctor: what this machine offers, what is missing, what to do about it. */
#include "config.h"

#include "cli/doctor.h"

#include <errno.h>
#include <glob.h>
#include <limits.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>
#include <uv.h>

#include "base/clock.h"
#include "base/fs.h"
#include "cli/child.h"
#include "cli/format.h"
#include "cli/out.h"
#include "cli/term.h"
#include "wire/wire.h"

#define SPACE_BAD (64.0 * (1 << 20))
#define SPACE_WARN (1024.0 * (1 << 20))
#define ANSWER_S 10.0
#define WAIT_MS 200  /* between looks at that */

void doctor_say(struct doctor *d, enum doctor_state state, const char *name, const char *todo, const char *fmt, ...)
{
    static const char *const word[] = {"ok", "warn", "bad"};
    static const enum term_style style[] = {TERM_GREEN, TERM_YELLOW, TERM_RED};
    char what[1400];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    d->count[state]++;
    if (d->c->json) {
        json_t *o = json_pack("{s:s, s:s, s:s}", "name", name, "state", word[state], "what", what);
        if (todo) json_object_set_new(o, "todo", json_string(todo));
        json_array_append_new(d->checks, o);
        return;
    }
    if (d->c->quiet && state == DOCTOR_OK) return;
    printf("%s%-4s%s  %-14s  %s\n", term_style(style[state]), word[state], term_style(TERM_PLAIN), name, what);
    if (todo) printf("      %-14s  %s%s%s\n", "", term_style(TERM_DIM), todo, term_style(TERM_PLAIN));
    fflush(stdout);
}

/* ---- programs ---- */

/* What PROGRAM --version prints; false: err says why not. */
static bool ask_version(const char *program, char *buf, size_t size, struct base_err *err)
{
    static const char *const args[] = {"--version", NULL};
    struct child c;
    uint64_t start = base_clock_ns();
    if (child_start(&c, program, args, NULL, -1, false, NULL, err)) return false;
    while ((double)(base_clock_ns() - start) * 1e-9 < ANSWER_S && child_wait(&c, WAIT_MS)) {
    }
    ssize_t n = pread(c.log, buf, size - 1, 0);
    buf[n > 0 ? n : 0] = '\0';
    buf[strcspn(buf, "\n")] = '\0';
    child_stop(&c, 0, 1, NULL);
    if (*buf) return true;
    base_err_set(err, ST_EIO, program, "says nothing");
    return false;
}

static void program(struct doctor *d, const char *name)
{
    struct base_err err = BASE_ERR_INIT;
    const char *todo = "build or install all three programs in one folder (make, make install)";
    char text[256];
    if (!ask_version(name, text, sizeof text, &err)) doctor_say(d, DOCTOR_BAD, name, todo, "%s: %s", err.where, err.what);
    else if (!strstr(text, PACKAGE_VERSION_TEXT)) doctor_say(d, DOCTOR_BAD, name, todo, "'%s' is of another version than this taut, " PACKAGE_VERSION_TEXT, text);
    else doctor_say(d, DOCTOR_OK, name, NULL, "%s", strstr(text, PACKAGE_VERSION_TEXT));
}

static void programs(struct doctor *d)
{
    doctor_say(d, DOCTOR_OK, "taut", NULL, PACKAGE_VERSION_TEXT " (jansson %s, libuv %s)", jansson_version_str(), uv_version_string());
    program(d, "tautd");
    program(d, "taut-evaluator");
}

/* ---- text ---- */

static void text(struct doctor *d)
{
    static const char *const patterns[] = {"/usr/share/perl/*/pod/perlfaq1.pod", "/usr/share/perl5/pod/perlfaq1.pod", "/usr/share/perl5/*/pod/perlfaq1.pod",
                                           "/usr/lib/perl5/*/pod/perlfaq1.pod"};
    glob_t g;
    char pattern[PATH_MAX] = "", size[FMT_MAX];
    double bytes = 0;
    for (size_t i = 0; !*pattern && i < sizeof patterns / sizeof *patterns; i++) {
        if (!glob(patterns[i], 0, NULL, &g)) snprintf(pattern, sizeof pattern, "%.*s*.pod", (int)(strrchr(g.gl_pathv[0], '/') + 1 - g.gl_pathv[0]), g.gl_pathv[0]);
        globfree(&g);
    }
    if (!*pattern) {
        doctor_say(d, DOCTOR_WARN, "English text", "apt-get install perl-doc, or train on text of your own", "Perl's manual, which the quick start trains on, is not here");
        return;
    }
    size_t n = glob(pattern, 0, NULL, &g) ? 0 : g.gl_pathc;
    for (size_t i = 0; i < n; i++) {
        struct stat s;
        if (!stat(g.gl_pathv[i], &s)) bytes += (double)s.st_size;
    }
    globfree(&g);
    doctor_say(d, DOCTOR_OK, "English text", NULL, "%s: %zu files, %s", pattern, n, fmt_bytes(size, bytes));
}

/* ---- places ---- */

/* The folder itself, or the nearest one above it that is there. */
static void existing(const char *dir, char *buf, size_t size)
{
    struct stat s;
    snprintf(buf, size, "%s", dir);
    while (stat(buf, &s) && errno == ENOENT) {
        char *slash = strrchr(buf, '/');
        if (!slash) snprintf(buf, size, ".");
        else if (slash == buf) snprintf(buf, size, "/");
        else *slash = '\0';
    }
}

static void folder(struct doctor *d)
{
    struct base_err err = BASE_ERR_INIT;
    char dir[PATH_MAX], type[64], space[FMT_MAX];
    const char *named = d->c->dir ? d->c->dir : ".";
    struct statvfs v;
    struct stat s;
    existing(named, dir, sizeof dir);
    if (stat(dir, &s) || !S_ISDIR(s.st_mode)) {
        doctor_say(d, DOCTOR_BAD, "folder", "give another --dir", "%s: %s", dir, S_ISREG(s.st_mode) ? "is no folder" : strerror(errno));
        return;
    }
    if (access(dir, W_OK | X_OK)) {
        doctor_say(d, DOCTOR_BAD, "folder", "give another --dir", "%s: cannot be written: %s", dir, strerror(errno));
        return;
    }
    if (base_fs_check(dir, &err)) {
        doctor_say(d, DOCTOR_BAD, "folder", "give another --dir", "%s: %s", err.where, err.what);
        return;
    }
    base_fs_type(dir, type, sizeof type);
    bool memory = !strcmp(type, "tmpfs") || !strcmp(type, "ramfs");
    const char *what = *type ? type : "a local file system";
    if (memory) doctor_say(d, DOCTOR_WARN, "folder", "give --dir on a disk", "%s: %s, which is gone after a reboot", named, what);
    else doctor_say(d, DOCTOR_OK, "folder", NULL, "%s: %s", named, what);
    if (statvfs(dir, &v)) return;
    double left = (double)v.f_bavail * (double)v.f_frsize;
    fmt_bytes(space, left);
    if (left < SPACE_WARN) doctor_say(d, left < SPACE_BAD ? DOCTOR_BAD : DOCTOR_WARN, "disk space", "make room: stores and checkpoints grow", "%s left", space);
    else doctor_say(d, DOCTOR_OK, "disk space", NULL, "%s left", space);
}

static void runtime(struct doctor *d)
{
    const char *xdg = getenv("XDG_RUNTIME_DIR");
    if (!xdg || *xdg != '/') doctor_say(d, DOCTOR_OK, "runtime", NULL, "XDG_RUNTIME_DIR is %s; /tmp/taut-%ld serves", xdg && *xdg ? "not absolute" : "not set", (long)geteuid());
    else if (access(xdg, W_OK | X_OK))
        doctor_say(d, DOCTOR_BAD, "runtime", "log in anew, or unset XDG_RUNTIME_DIR", "XDG_RUNTIME_DIR=%s: %s", xdg, strerror(errno));
    else doctor_say(d, DOCTOR_OK, "runtime", NULL, "XDG_RUNTIME_DIR=%s", xdg);
}

static void socket_path(struct doctor *d)
{
    struct base_err err = BASE_ERR_INIT;
    char path[PATH_MAX];
    st_t st = ST_OK;
    if (d->c->dir && access(d->c->dir, F_OK)) {
        doctor_say(d, DOCTOR_OK, "socket", NULL, "in %s, once it is there", d->c->dir);
        return;
    }
    if (d->c->socket) {
        snprintf(path, sizeof path, "%s", d->c->socket);
    } else if (d->c->dir) {
        st = wire_dir_socket(d->c->dir, path, sizeof path, &err);
    } else {
        st = wire_default_socket(path, sizeof path, &err);
    }
    struct wire_client *w = NULL;
    st_t there = st ? st : wire_client_open(&w, path, &err);
    wire_client_close(w);
    if (st || there == ST_ETOOBIG) doctor_say(d, DOCTOR_BAD, "socket", "set TAUT_SOCKET, or give a shorter path", "%s: %s", err.where, err.what);
    else doctor_say(d, DOCTOR_OK, "socket", NULL, "%s: %s", path, there ? "no tautd listens there; run and --dir start their own" : "a tautd listens there");
}

static int run(struct cli *c)
{
    struct doctor d = {.c = c, .checks = json_array()};
    programs(&d);
    doctor_machine(&d);
    text(&d);
    folder(&d);
    runtime(&d);
    socket_path(&d);
    int rc = CLI_OK;
    if (c->json) {
        json_t *o = json_pack("{s:b, s:i, s:i, s:i, s:O}", "ok", !d.count[DOCTOR_BAD], "good", d.count[DOCTOR_OK], "warnings", d.count[DOCTOR_WARN], "bad",
                              d.count[DOCTOR_BAD], "checks", d.checks);
        rc = out_json(o);
        json_decref(o);
    } else if (!c->quiet) {
        printf("\n%s\n", d.count[DOCTOR_BAD] ? "something that Taut needs is missing" : d.count[DOCTOR_WARN] ? "all that Taut needs is here" : "all is well");
    }
    json_decref(d.checks);
    if (rc || !d.count[DOCTOR_BAD]) return rc;
    return cli_fail(CLI_FAILED, "doctor", "see the lines marked bad", "%d of %d checks failed", d.count[DOCTOR_BAD], d.count[0] + d.count[1] + d.count[2]);
}

const struct cli_cmd cmd_doctor = {.name = "doctor",
                                   .args = "",
                                   .summary = "what this machine offers, what is missing, what to install",
                                   .help = "  taut doctor\n"
                                           "  taut doctor --dir /data/search      the folder that a store is to lie in\n"
                                           "ok: as it should be. warn: works, but something is slower, less sure or missing. bad: Taut needs it; exit status 1.\n",
                                   .options = NULL,
                                   .min_args = 0,
                                   .max_args = 0,
                                   .run = run};
