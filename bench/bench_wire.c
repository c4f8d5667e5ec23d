/* What a call over the Unix socket costs: CPU of the server and of the client apart, a process each.
 *
 *   bench_wire [calls]         default 50000
 *
 * The server answers small calls, with an empty flush; "pipelined" writes 100 requests at a time. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "wire/wire.h"

static struct wire_server *server;

static void answer(void *ctx, struct wire_call *call, json_t *params)
{
    wire_call_result(call, json_pack("{s:b}", "go", 1));
}

static void finish(void *ctx, struct wire_call *call, json_t *params)
{
    wire_call_result(call, json_object());
    wire_server_close(server, NULL);
}

static void flush(void *ctx)
{
}

/* Ends with _exit, when the client has asked for it. */
static void serve(const char *path, int ready)
{
    wire_handler m[64];
    struct wire_handlers h = {.method = m, .flush = flush};
    struct base_err err = BASE_ERR_INIT;
    uv_loop_t loop;
    for (int i = 0; i < wire_method_count(); i++) m[i] = answer;
    m[wire_method_find("job.cancel")] = finish;
    uv_loop_init(&loop);
    if (wire_server_new(&server, &loop, &h, NULL, &err) || wire_server_listen_unix(server, path, &err) ||
        write(ready, "", 1) != 1)
        _exit(1);
    uv_run(&loop, UV_RUN_DEFAULT);
    _exit(0);
}

static double cpu_us(int who)
{
    struct rusage u;
    getrusage(who, &u);
    return 1e6 * (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) + (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
}

static json_t *report(long i)
{
    return json_pack("{s:i,s:i,s:s,s:{s:f,s:i,s:{s:f,s:f,s:f,s:i}}}", "lease", (int)i, "epoch", 1, "status", "ok",
                     "metrics", "valid_bpb", 1.2345, "params", 1234567, "decode_ms@1024", "median", 0.5, "low", 0.4,
                     "high", 0.6, "n", 31);
}

static json_t *progress(long i)
{
    return json_pack("{s:i,s:i,s:i,s:i,s:f}", "lease", (int)i, "epoch", 1, "step", 100, "tokens", 51200, "loss", 3.21);
}

static void one_by_one(const char *path, long n, json_t *(*params)(long i), const char *method)
{
    struct wire_client *c;
    json_t *res;
    if (wire_client_open(&c, path, NULL)) exit(1);
    for (long i = 0; i < n; i++) {
        if (wire_client_call(c, method, params ? params(i) : NULL, -1, &res, NULL, NULL)) exit(1);
        json_decref(res);
    }
    wire_client_close(c);
}

static void pipelined(const char *path, long n)
{
    enum { AT_ONCE = 100 };
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    struct base_buf b = BASE_BUF_INIT;
    char in[65536];
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    snprintf(a.sun_path, sizeof a.sun_path, "%s", path);
    if (connect(fd, (struct sockaddr *)&a, sizeof a)) exit(1);
    for (int i = 0; i < AT_ONCE; i++)
        base_buf_str(&b, "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"job.get\",\"params\":{\"id\":1}}\n");
    for (long i = 0; i < n; i += AT_ONCE) {
        if (write(fd, b.p, b.len) != (ssize_t)b.len) exit(1);
        for (int lines = 0; lines < AT_ONCE;) {
            ssize_t k = read(fd, in, sizeof in);
            if (k <= 0) exit(1);
            for (ssize_t j = 0; j < k; j++) lines += in[j] == '\n';
        }
    }
    base_buf_fini(&b);
    close(fd);
}

static void measure(const char *name, long n, int which)
{
    char dir[] = "/tmp/taut-bench-wire-XXXXXX", path[64];
    int ready[2];
    char go;
    if (!mkdtemp(dir) || pipe(ready)) exit(1);
    snprintf(path, sizeof path, "%s/s.sock", dir);
    double before = cpu_us(RUSAGE_CHILDREN), mine = cpu_us(RUSAGE_SELF);
    pid_t pid = fork();
    if (pid == 0) serve(path, ready[1]);
    if (read(ready[0], &go, 1) != 1) exit(1);
    uint64_t t0 = base_clock_ns();
    if (which == 0)
        one_by_one(path, n, NULL, "job.get");
    else if (which == 1)
        one_by_one(path, n, progress, "evaluator.progress");
    else if (which == 2)
        one_by_one(path, n, report, "evaluator.report");
    else
        pipelined(path, n);
    double wall = (double)(base_clock_ns() - t0) / 1e3;
    mine = cpu_us(RUSAGE_SELF) - mine;
    one_by_one(path, 1, NULL, "job.cancel");
    waitpid(pid, NULL, 0);
    printf("%-34s server %6.2f us CPU   client %6.2f us CPU   %7.2f us a call\n", name,
           (cpu_us(RUSAGE_CHILDREN) - before) / (double)n, mine / (double)n, wall / (double)n);
    close(ready[0]);
    close(ready[1]);
    rmdir(dir);
}

int main(int argc, char **argv)
{
    long n = argc > 1 ? atol(argv[1]) : 50000;
    if (n < 100) n = 100;
    measure("job.get, one by one", n, 0);
    measure("evaluator.progress, one by one", n, 1);
    measure("evaluator.report, one by one", n, 2);
    measure("job.get, 100 at a time", n, 3);
    return 0;
}
