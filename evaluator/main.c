/* taut-evaluator: trains and profiles candidates for tautd. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "config.h"
#include "evaluator/worker.h"
#include "wire/wire.h"

static volatile int stop; /* set by a signal or by the thread that watches the lifeline, read by the worker's: atomically */

static void on_signal(int sig)
{
    (void)sig;
    if (__atomic_fetch_add(&stop, 1, __ATOMIC_RELAXED) > 2) _exit(1);
}

/* The end of the pipe that `taut run` holds: it is gone, however it went. */
static void *watch_lifeline(void *arg)
{
    char c;
    ssize_t n;
    do n = read(*(int *)arg, &c, 1);
    while (n > 0 || (n < 0 && errno == EINTR));
    __atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
    return NULL;
}

static int usage_error(const char *what, const char *why)
{
    fprintf(stderr, "taut-evaluator: %s: %s; see taut-evaluator --help\n", what, why);
    return 2;
}

/* *out: absolute, owned. */
static st_t open_work(const char *path, char **out, bool *made, struct base_err *err)
{
    struct stat sb;
    *made = !mkdir(path, 0777);
    if ((!*made && errno != EEXIST) || stat(path, &sb)) return base_err_set(err, ST_EIO, path, "the work folder cannot be made: %s", strerror(errno));
    if (!S_ISDIR(sb.st_mode)) return base_err_set(err, ST_EIO, path, "is not a folder");
    if (access(path, W_OK | X_OK)) return base_err_set(err, ST_EIO, path, "the work folder cannot be written: %s", strerror(errno));
    *out = realpath(path, NULL);
    return *out ? ST_OK : base_err_set(err, ST_EIO, path, "%s", strerror(errno));
}

static void help(void)
{
    puts("usage: taut-evaluator [options]\n\n"
         "Takes leases from tautd, trains and profiles candidates on this machine, reports. SIGTERM: checkpoints, hands the trial back, leaves.\n\n"
         "  --socket PATH      tautd's socket (default: $TAUT_SOCKET, else $XDG_RUNTIME_DIR/taut/tautd.sock)\n"
         "  --device NAME      cpu (default), cuda:N\n"
         "  --threads N        threads to compute with (default: all CPUs)\n"
         "  --work DIR         folder for checkpoints and weights, of one tautd's evaluators (default: ./taut-work)\n"
         "  --name NAME        what to be called (default: host name)\n"
         "  --checkpoint S     seconds of training between checkpoints (default: 60)\n"
         "  --lifeline FD      leave when this inherited pipe closes\n"
         "  -q, -v             say less, say more\n"
         "  --help, --version");
}

int main(int argc, char **argv)
{
    enum { SOCKET = 256, DEVICE, THREADS, WORK, NAME, CHECKPOINT, LIFELINE, CONNECT, KEY, HELP, VERSION };
    static const struct option options[] = {{"socket", 1, 0, SOCKET}, {"device", 1, 0, DEVICE}, {"threads", 1, 0, THREADS}, {"work", 1, 0, WORK},
                                            {"name", 1, 0, NAME}, {"checkpoint", 1, 0, CHECKPOINT}, {"lifeline", 1, 0, LIFELINE},
                                            {"connect", 1, 0, CONNECT}, {"key", 1, 0, KEY}, {"help", 0, 0, HELP}, {"version", 0, 0, VERSION}, {0}};
    char socket[256] = "", host[128] = "evaluator";
    struct worker_opts o = {.work = "taut-work", .checkpoint_s = 60, .stop = &stop};
    const char *device = "cpu";
    static int lifeline = -1;
    long threads = 0;
    int level = LOG_WARN, c;
    gethostname(host, sizeof host - 1);
    o.name = host;
    while ((c = getopt_long(argc, argv, ":qv", options, NULL)) != -1) {
        char *end = NULL;
        switch (c) {
        case SOCKET: o.socket = optarg; break;
        case DEVICE: device = optarg; break;
        case WORK: o.work = optarg; break;
        case NAME:
            o.name = optarg;
            if (!*optarg || strlen(optarg) > 128) return usage_error("--name", "1 to 128 bytes");
            break;
        case THREADS:
            threads = strtol(optarg, &end, 10);
            if (*end || threads < 1 || threads > 1024) return usage_error("--threads", "a number from 1 to 1024");
            break;
        case CHECKPOINT:
            o.checkpoint_s = strtod(optarg, &end);
            if (*end || end == optarg || !(o.checkpoint_s >= 0)) return usage_error("--checkpoint", "a number of seconds");
            break;
        case LIFELINE:
            lifeline = (int)strtol(optarg, &end, 10);
            if (*end || end == optarg || lifeline < 0 || fcntl(lifeline, F_GETFD) < 0) return usage_error("--lifeline", "an open file descriptor");
            break;
        case CONNECT:
        case KEY: return usage_error(c == CONNECT ? "--connect" : "--key", "evaluators on other machines are not built yet");
        case HELP: help(); return 0;
        case VERSION: puts("taut-evaluator " PACKAGE_VERSION_TEXT); return 0;
        case 'q': level = LOG_ERROR; break;
        case 'v': level = level < LOG_INFO ? LOG_INFO : LOG_DEBUG; break;
        case ':': return usage_error(argv[optind - 1], "needs a value");
        default: return usage_error(argv[optind - 1], "no such option");
        }
    }
    if (optind < argc) return usage_error(argv[optind], "takes no arguments");
    base_log_init("taut-evaluator", level);
    struct base_err err = BASE_ERR_INIT;
    char text[1200];
    st_t st = ST_OK;
    if (!o.socket) {
        st = wire_default_socket(socket, sizeof socket, &err);
        o.socket = socket;
    }
    char *work = NULL;
    bool made = false;
    if (!st) st = kn_dev_open(&o.dev, device, (int)threads, &err);
    if (!st) st = open_work(o.work, &work, &made, &err);
    o.work = work;
    if (!st) st = hostlock_open_for(&o.lock, o.dev, &err);
    if (!st) {
        struct sigaction sa = {.sa_handler = on_signal};
        sigaction(SIGTERM, &sa, NULL);
        sigaction(SIGINT, &sa, NULL);
        signal(SIGPIPE, SIG_IGN);
        signal(SIGHUP, SIG_IGN);
        pthread_t t;
        if (lifeline >= 0) {
            if (pthread_create(&t, NULL, watch_lifeline, &lifeline)) st = ST_ENOMEM;
            else pthread_detach(t); /* it may wait for longer than this process lives */
        }
    }
    if (!st) st = worker_run(&o, &err);
    if (st && !*err.what) base_err_set(&err, st, "", "%s", base_status_text(st));
    if (st) fprintf(stderr, "taut-evaluator: %s%s\n", base_err_text(&err, text, sizeof text), st == ST_ECLOSED ? "; start one: tautd --dir DIR --socket PATH" : "");
    if (st && made) rmdir(work); /* where nothing came of it */
    hostlock_close(o.lock);
    if (o.dev) kn_dev_close(o.dev);
    free(work);
    return st == ST_OK ? 0 : st == ST_ECLOSED ? 3 : st == ST_ENOTFOUND || st == ST_ENOTSUP || st == ST_ETOOBIG ? 2 : 1;
}
