/* tautd: the controller daemon. */
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uv.h>

#include "base/log.h"
#include "config.h"
#include "controller/controller.h"
#include "db/db.h"
#include "wire/wire.h"

enum { EXIT_WORK = 1, EXIT_CALL = 2 };

static const char usage[] =
    "usage: tautd [--dir DIR] [--socket PATH] [--verify] [-q] [-v]\n"
    "\n"
    "The controller daemon of Taut: keeps searches and their results in DIR/taut.db and serves them on a Unix socket.\n"
    "\n"
    "  --dir DIR      folder of the store, made if missing (default: $TAUT_DIR, $XDG_DATA_HOME/taut or ~/.local/share/taut)\n"
    "  --socket PATH  where to listen (default: with --dir DIR/tautd.sock, else $TAUT_SOCKET or $XDG_RUNTIME_DIR/taut/tautd.sock)\n"
    "  --verify       replay all events of the store, compare with its tables, print one line and exit (0: the same, 1: not)\n"
    "  --heartbeat S  how often evaluators are asked to be heard of (default 15)\n"
    "  --lease S      silence after which a trial is taken back (default 120)\n"
    "  --reader       lease and expire nothing; leave with the last connection, or after 10 s without any\n"
    "  --lifeline FD  leave when this inherited pipe is closed at its other end\n"
    "  --ready FD     write a line to FD once the socket listens\n"
    "  -q, -v         log errors alone; log more (twice: everything)\n"
    "  --help, --version\n"
    "\n"
    "SIGTERM, SIGINT: stop leasing, commit, leave.\n";

struct options {
    const char *dir, *socket;
    bool verify;
    int level, lifeline, ready;
    struct ctl_options ctl;
};

struct daemon {
    struct ctl *ctl;
    uv_signal_t term, interrupt;
    uv_pipe_t lifeline;
    bool has_lifeline;
};

static int wrong(const char *what, const char *why)
{
    fprintf(stderr, "tautd: %s: %s; see tautd --help\n", what, why);
    return EXIT_CALL;
}

static int failed(const struct base_err *err, const char *hint)
{
    char text[1100];
    fprintf(stderr, "tautd: %s%s%s\n", base_err_text(err, text, sizeof text), *hint ? "; " : "", hint);
    return EXIT_WORK;
}

static bool number(const char *text, double min, double max, double *out)
{
    char *end;
    double v = strtod(text, &end);
    if (end == text || *end || !(v >= min && v <= max)) return false;
    *out = v;
    return true;
}

/* -1: go on; else the exit status. */
static int parse(int argc, char **argv, struct options *o)
{
    enum { DIR = 256, SOCKET, LISTEN, KEY, VERIFY, HEARTBEAT, LEASE, READER, LIFELINE, READY, HELP, VERSION };
    static const struct option longs[] = {
        {"dir", required_argument, NULL, DIR},           {"socket", required_argument, NULL, SOCKET},
        {"listen", required_argument, NULL, LISTEN},     {"key", required_argument, NULL, KEY},
        {"verify", no_argument, NULL, VERIFY},           {"heartbeat", required_argument, NULL, HEARTBEAT},
        {"lease", required_argument, NULL, LEASE},       {"reader", no_argument, NULL, READER},
        {"lifeline", required_argument, NULL, LIFELINE}, {"ready", required_argument, NULL, READY},
        {"help", no_argument, NULL, HELP},               {"version", no_argument, NULL, VERSION},
        {NULL, 0, NULL, 0}};
    double v;
    int c;
    opterr = 0;
    while ((c = getopt_long(argc, argv, ":qv", longs, NULL)) != -1) {
        switch (c) {
        case DIR: o->dir = optarg; break;
        case SOCKET: o->socket = optarg; break;
        case LISTEN: return wrong("--listen", "not built yet: tautd serves a Unix socket");
        case KEY: return wrong("--key", "not built yet: tautd serves a Unix socket");
        case VERIFY: o->verify = true; break;
        case HEARTBEAT:
            if (!number(optarg, 0.01, 86400, &o->ctl.heartbeat_s)) return wrong("--heartbeat", "seconds from 0.01 to 86400");
            break;
        case LEASE:
            if (!number(optarg, 0.01, 86400, &o->ctl.lease_s)) return wrong("--lease", "seconds from 0.01 to 86400");
            break;
        case READER: o->ctl.reader = true; break;
        case LIFELINE:
        case READY:
            if (!number(optarg, 0, 1 << 20, &v) || v != floor(v)) return wrong(c == READY ? "--ready" : "--lifeline", "not a file descriptor");
            *(c == READY ? &o->ready : &o->lifeline) = (int)v;
            break;
        case 'q': o->level = LOG_ERROR; break;
        case 'v': o->level = o->level < LOG_INFO ? LOG_INFO : LOG_DEBUG; break;
        case HELP: fputs(usage, stdout); return 0;
        case VERSION: printf("tautd (Taut) %s (SQLite %s, libuv %s)\n", PACKAGE_VERSION_TEXT, db_sqlite_version(), uv_version_string()); return 0;
        case ':': return wrong(argv[optind - 1], "needs a value");
        default: return wrong(argv[optind - 1], "no such option");
        }
    }
    if (optind < argc) return wrong(argv[optind], "takes no arguments");
    if (o->dir && !*o->dir) return wrong("--dir", "empty");
    if (o->socket && !*o->socket) return wrong("--socket", "empty");
    return -1;
}

static bool default_dir(char *buf, size_t size)
{
    const char *taut = getenv("TAUT_DIR"), *data = getenv("XDG_DATA_HOME"), *home = getenv("HOME");
    int n;
    if (taut && *taut) n = snprintf(buf, size, "%s", taut);
    else if (data && *data == '/') n = snprintf(buf, size, "%s/taut", data);
    else if (home && *home) n = snprintf(buf, size, "%s/.local/share/taut", home);
    else return false;
    return n > 0 && (size_t)n < size;
}

static st_t make_folders(const char *dir, struct base_err *err)
{
    char path[PATH_MAX];
    if (snprintf(path, sizeof path, "%s", dir) >= (int)sizeof path) return base_err_set(err, ST_ETOOBIG, dir, "too long");
    for (char *p = path + 1;; p++) {
        char c = *p;
        if (c && c != '/') continue;
        *p = '\0';
        if (mkdir(path, c ? 0755 : 0700) && errno != EEXIST)
            return base_err_set(err, errno == EACCES ? ST_EPERM : ST_EIO, path, "cannot make the folder: %s", strerror(errno));
        *p = c;
        if (!c) return ST_OK;
    }
}

static int verify(const char *dir)
{
    struct base_err err = BASE_ERR_INIT;
    struct db *db;
    if (db_open(&db, dir, DB_READONLY, &err)) return failed(&err, "");
    st_t st = db_verify(db, &err);
    if (st) printf("%s: differs from its events: %s%s%s\n", db_path(db), err.where, *err.where ? ": " : "", err.what);
    else printf("%s: the tables are what the events say\n", db_path(db));
    db_close(db);
    return st ? EXIT_WORK : 0;
}

static void leave(struct daemon *d)
{
    if (d->ctl) ctl_stop(d->ctl);
    uv_signal_stop(&d->term);
    uv_signal_stop(&d->interrupt);
    if (d->has_lifeline && !uv_is_closing((uv_handle_t *)&d->lifeline)) uv_close((uv_handle_t *)&d->lifeline, NULL);
}

static void on_signal(uv_signal_t *s, int number)
{
    log_info("signal %d: leaving", number);
    leave(s->data);
}

static void on_alloc(uv_handle_t *h, size_t suggested, uv_buf_t *buf)
{
    static char drain[64];
    *buf = uv_buf_init(drain, sizeof drain);
}

static void on_lifeline(uv_stream_t *s, ssize_t n, const uv_buf_t *buf)
{
    if (n >= 0) return;
    log_info("the lifeline is gone: leaving");
    leave(s->data);
}

static void tell_ready(int fd)
{
    while (write(fd, "ready\n", 6) < 0 && errno == EINTR) continue;
    close(fd);
}

static int serve(const struct options *o)
{
    uv_loop_t *loop = uv_default_loop();
    struct daemon d = {.has_lifeline = false};
    struct base_err err = BASE_ERR_INIT;
    int rc = 0;
    if (ctl_new(&d.ctl, loop, &o->ctl, &err)) return failed(&err, "");
    uv_signal_init(loop, &d.term);
    uv_signal_init(loop, &d.interrupt);
    d.term.data = d.interrupt.data = d.lifeline.data = &d;
    uv_signal_start(&d.term, on_signal, SIGTERM);
    uv_signal_start(&d.interrupt, on_signal, SIGINT);
    uv_unref((uv_handle_t *)&d.term); /* they do not keep the loop alive: ctl does */
    uv_unref((uv_handle_t *)&d.interrupt);
    if (o->lifeline >= 0) {
        uv_pipe_init(loop, &d.lifeline, 0);
        d.lifeline.data = &d;
        rc = uv_pipe_open(&d.lifeline, o->lifeline);
        if (!rc) rc = uv_read_start((uv_stream_t *)&d.lifeline, on_alloc, on_lifeline);
        uv_unref((uv_handle_t *)&d.lifeline);
        d.has_lifeline = true;
    }
    if (rc) {
        fprintf(stderr, "tautd: --lifeline %d: %s; give an open pipe\n", o->lifeline, uv_strerror(rc));
        leave(&d);
    } else {
        log_info("listens on %s, store in %s", o->ctl.socket, o->ctl.dir);
        if (o->ready >= 0) tell_ready(o->ready);
    }
    uv_run(loop, UV_RUN_DEFAULT);
    ctl_free(d.ctl);
    d.ctl = NULL;
    leave(&d);
    return rc ? EXIT_CALL : 0;
}

int main(int argc, char **argv)
{
    struct options o = {.level = LOG_WARN, .lifeline = -1, .ready = -1};
    struct base_err err = BASE_ERR_INIT;
    char dir[PATH_MAX], whole[PATH_MAX], socket[PATH_MAX];
    int rc = parse(argc, argv, &o);
    if (rc >= 0) return rc;
    base_log_init("tautd", (enum base_log_level)o.level);
    /* A full disk is an error code of write, a peer that left one of send, a closed terminal nothing at all. */
    signal(SIGPIPE, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN);
    if (!o.dir && !default_dir(dir, sizeof dir)) return wrong("--dir", "needed: neither TAUT_DIR nor HOME is set");
    if (o.dir) snprintf(dir, sizeof dir, "%s", o.dir);
    if (o.verify) return verify(dir);
    if (make_folders(dir, &err)) return failed(&err, "give another --dir");
    if (o.socket) snprintf(socket, sizeof socket, "%s", o.socket);
    else if (o.dir ? wire_dir_socket(dir, socket, sizeof socket, &err) : wire_default_socket(socket, sizeof socket, &err))
        return failed(&err, "give --socket");
    o.ctl.dir = realpath(dir, whole) ? whole : dir; /* others know the store by its path, wherever they were started */
    o.ctl.socket = socket;
    return serve(&o);
}
