/* Connections: how they end, how many there are, who may open one, and the socket file. */
#include <grp.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "tests/wire/fixture.h"

#define REQ(id, method, rest) "{\"jsonrpc\":\"2.0\",\"id\":" id ",\"method\":\"" method "\"" rest "}\n"

static void cut_off(struct fix *f)
{
    static const char text[] = REQ("1", "server.info", ",\"params\":{\"a\":[1,2,\"\\u00e9\"]}");
    for (size_t n = 0; n + 1 < sizeof text; n += 7) {
        struct peer p = peer_open(f->path);
        peer_sendn(&p, text, n);
        peer_close(&p);
        sem_wait(&f->closed_sem);
    }
    static char big[3 << 20];
    memset(big, '[', sizeof big);
    struct peer p = peer_open(f->path);
    peer_sendn(&p, big, sizeof big);
    peer_close(&p);
    sem_wait(&f->closed_sem);
    p = peer_open(f->path);
    peer_send(&p, REQ("1", "job.front", ",\"params\":{\"n\":10000000}"));
    peer_close(&p); /* while 10 MB are on their way */
    sem_wait(&f->closed_sem);
    p = peer_open(f->path);
    ok(peer_alive(&p), "after peers that left in the middle of everything, another is served");
    is_int(f->opened, 1, "and is the only one");
    peer_close(&p);
    sem_wait(&f->closed_sem);
}

static void ends(struct fix *f)
{
    struct peer p = peer_open(f->path);
    /* More than a socket takes at once, less than what makes the server stop reading: the end is seen while the reply
     * is on its way. */
    peer_send(&p, REQ("1", "job.submit", "") REQ("2", "job.front", ",\"params\":{\"n\":900000}") "half a li");
    shutdown(p.fd, SHUT_WR);
    struct peer q = peer_open(f->path);
    for (int i = 0; i < 5; i++) peer_alive(&q); /* five turns of the loop */
    peer_close(&q);
    sem_wait(&f->closed_sem);
    json_t *r = peer_json(&p);
    is_int(reply_code(r), 0, "a peer that will send no more still gets its reply");
    json_decref(r);
    r = peer_json(&p);
    is_int(reply_code(r), 0, "also a large one");
    json_decref(r);
    ok(!peer_line(&p), "and then the end");
    peer_close(&p);
    sem_wait(&f->closed_sem);

    p = peer_open(f->path);
    peer_send(&p, REQ("1", "job.pause", "") REQ("2", "server.info", ""));
    is_str(peer_line(&p), "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}",
           "wire_conn_close: what was answered is written");
    ok(!peer_line(&p), "and nothing after it");
    peer_close(&p);
    sem_wait(&f->closed_sem);

    p = peer_open(f->path);
    peer_send(&p, "[{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"job.submit\"},{\"jsonrpc\":\"2.0\",\"id\":2,\"method\":"
                  "\"evaluator.next\"}]\n");
    sem_wait(&f->kept_sem);
    shutdown(p.fd, SHUT_WR);
    ok(!peer_line(&p), "half a batch does not keep a connection that the peer has ended");
    peer_close(&p);
    sem_wait(&f->closed_sem);
}

static void does_not_read(struct fix *f)
{
    struct peer p = peer_open(f->path), q = peer_open(f->path);
    /* 100 MB of notifications, which nobody reads */
    peer_send(&p, REQ("1", "job.watch", ",\"params\":{\"n\":100,\"pad\":1000000}"));
    sem_wait(&f->closed_sem);
    ok(peer_alive(&q), "closed when too much waits for it; the others do not notice");
    while (peer_line(&p)) continue;
    peer_close(&p);

    /* 100 MB of replies to one who reads late: it is not read from meanwhile, so it loses nothing */
    enum { N = 2500 };
    struct base_buf b = BASE_BUF_INIT;
    for (int i = 0; i < N; i++) base_buf_str(&b, REQ("1", "job.front", ",\"params\":{\"n\":40000}"));
    p = peer_open(f->path);
    peer_sendn(&p, b.p, b.len);
    int alive = 0, got = 0;
    for (int i = 0; i < 20; i++) alive += peer_alive(&q); /* 20 turns of the loop */
    is_int(alive, 20, "while one does not read, another is served");
    while (got < N && peer_line(&p)) got++;
    is_int(got, N, "one who reads late gets every reply");
    ok(peer_alive(&p), "and goes on");
    base_buf_fini(&b);
    peer_close(&p);
    sem_wait(&f->closed_sem);
    peer_close(&q);
    sem_wait(&f->closed_sem);
}

static void large_line(struct base_buf *b, const char *head)
{
    base_buf_reset(b);
    base_buf_str(b, head);
    for (int i = 0; i < 390000; i++) base_buf_str(b, "0123456789");
    base_buf_str(b, "\"}}\n");
}

/* Calls that are kept cost memory: a connection may have 16 MiB of them. */
static void kept_calls(struct fix *f)
{
    struct peer p = peer_open(f->path);
    struct base_buf b = BASE_BUF_INIT;
    large_line(&b, "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"evaluator.next\",\"params\":{\"a\":\"");
    int first = f->nkept;
    for (int i = 0; i < 5; i++) {
        peer_sendn(&p, b.p, b.len);
        sem_wait(&f->kept_sem);
    }
    peer_sendn(&p, b.p, b.len);
    json_t *r = peer_json(&p);
    is_int(reply_code(r), WIRE_EBUSY, "too many kept calls");
    json_decref(r);
    peer_send(&p, REQ("2", "evaluator.report", ""));
    is_int(peer_code(&p, ""), WIRE_EBUSY, "everything else waits too: answers come first");
    struct peer q = peer_open(f->path);
    peer_send(&q, REQ("2", "evaluator.report", ""));
    for (int i = 0; i < 5; i++) {
        r = peer_json(&p);
        is_int(reply_code(r), 0, "kept call %d answered", i);
        json_decref(r);
    }
    peer_line(&q);
    ok(peer_alive(&p), "room again");
    is_int(first, 1, "(one call was kept for a peer that had left)");
    large_line(&b, "{\"jsonrpc\":\"2.0\",\"method\":\"server.info\",\"params\":{\"a\":\"");
    for (int i = 0; i < 6; i++) peer_sendn(&p, b.p, b.len);
    ok(peer_alive(&p), "notifications that were handled do not count");
    base_buf_fini(&b);
    peer_close(&p);
    peer_close(&q);
    sem_wait(&f->closed_sem);
    sem_wait(&f->closed_sem);
}

static void limit(struct fix *f)
{
    struct rlimit rl;
    getrlimit(RLIMIT_NOFILE, &rl);
    if (rl.rlim_cur < 2 * WIRE_CONNS_MAX + 64) rl.rlim_cur = rl.rlim_max;
    if (rl.rlim_cur < 2 * WIRE_CONNS_MAX + 64 || setrlimit(RLIMIT_NOFILE, &rl)) {
        tap_skip("the limit of open files is too low");
        return;
    }
    static struct peer p[WIRE_CONNS_MAX];
    int alive = 0;
    for (int i = 0; i < WIRE_CONNS_MAX; i++) {
        p[i] = peer_open(f->path);
        alive += peer_alive(&p[i]);
    }
    is_int(alive, WIRE_CONNS_MAX, "%d connections at once", WIRE_CONNS_MAX);
    peer_send(&p[0], REQ("1", "job.progress", ""));
    is_str(peer_line(&p[0]), "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{\"conns\":1024}}", "counted");
    struct peer q = peer_open(f->path);
    ok(!peer_line(&q), "one more is closed at once");
    peer_close(&q);
    peer_close(&p[7]);
    sem_wait(&f->closed_sem);
    p[7] = peer_open(f->path);
    ok(peer_alive(&p[7]), "when one has left, there is room again");
    for (int i = 0; i < WIRE_CONNS_MAX; i++) peer_close(&p[i]);
    for (int i = 0; i < WIRE_CONNS_MAX; i++) sem_wait(&f->closed_sem);
    is_int(f->opened, 0, "all have left");
}

static void another_user(struct fix *f)
{
    if (geteuid() != 0) {
        tap_skip("only root can become another user");
        return;
    }
    chmod(f->dir, 0755);
    chmod(f->path, 0666);
    pid_t pid = fork();
    if (pid == 0) {
        if (setgroups(0, NULL) || setgid(65534) || setuid(65534)) _exit(3);
        struct peer p = peer_open(f->path);
        if (p.fd < 0) _exit(2);
        peer_send(&p, REQ("1", "server.info", ""));
        _exit(peer_line(&p) ? 1 : 0);
    }
    int status;
    waitpid(pid, &status, 0);
    is_int(status, 0, "a peer of another user is closed without a word");
    struct peer p = peer_open(f->path);
    ok(peer_alive(&p), "our own is served");
    peer_close(&p);
    sem_wait(&f->closed_sem);
}

/* ---- the socket file; the loop runs in this thread ---- */

static void count_done(void *ctx)
{
    ++*(int *)ctx;
}

static void file(void)
{
    char dir[] = "/tmp/taut-test-wire-XXXXXX", path[64], sub[64], longer[256];
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    struct stat sb;
    wire_handler m[64];
    struct wire_handlers h = {.method = m};
    struct wire_server *s;
    struct base_err err = BASE_ERR_INIT;
    uv_loop_t loop;
    int done = 0;
    if (!mkdtemp(dir)) abort();
    snprintf(path, sizeof path, "%s/s.sock", dir);
    snprintf(sub, sizeof sub, "%s/sub/s.sock", dir);
    snprintf(longer, sizeof longer, "%s/%0120d", dir, 0);
    for (int i = 0; i < wire_method_count(); i++) m[i] = fix_notsup;
    uv_loop_init(&loop);

    m[2] = NULL;
    is_int(wire_server_new(&s, &loop, &h, &done, &err), ST_EINVAL, "a method without a handler");
    is_str(err.where, "job.list", "is named");
    m[2] = fix_notsup;

    is_int(wire_server_new(&s, &loop, &h, &done, &err), ST_OK, "a server");
    is_int(wire_server_listen_unix(s, longer, &err), ST_ETOOBIG, "a path that no socket can have");
    FILE *fp = fopen(path, "w");
    fclose(fp);
    is_int(wire_server_listen_unix(s, path, &err), ST_EEXIST, "a file that is no socket");
    ok(!stat(path, &sb) && S_ISREG(sb.st_mode), "is left alone");
    unlink(path);
    snprintf(longer, sizeof longer, "%s/no/such/s.sock", dir);
    is_int(wire_server_listen_unix(s, longer, &err), ST_EIO, "no folder to make the folder in");

    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    snprintf(a.sun_path, sizeof a.sun_path, "%s", path);
    ok(!bind(fd, (struct sockaddr *)&a, sizeof a), "a stale socket");
    close(fd);
    mode_t mask = umask(0);
    is_int(wire_server_listen_unix(s, path, &err), ST_OK, "is replaced");
    ok(!stat(path, &sb) && S_ISSOCK(sb.st_mode) && (sb.st_mode & 07777) == 0600, "mode 0600 whatever the umask");
    is_int(wire_server_listen_unix(s, path, &err), ST_ESTATE, "listening twice");
    wire_server_close(s, count_done);
    ok(lstat(path, &sb), "closing removes the file");
    is_int(done, 0, "done is not called from within");
    uv_run(&loop, UV_RUN_DEFAULT);
    is_int(done, 1, "done, once");
    wire_server_free(s);

    is_int(wire_server_new(&s, &loop, &h, &done, &err), ST_OK, "a second server in the loop");
    is_int(wire_server_listen_unix(s, sub, &err), ST_OK, "makes the folder");
    umask(mask);
    *strrchr(sub, '/') = '\0';
    ok(!stat(sub, &sb) && (sb.st_mode & 07777) == 0700, "mode 0700");
    wire_server_close(s, count_done);
    wire_server_close(s, count_done);
    uv_run(&loop, UV_RUN_DEFAULT);
    is_int(done, 2, "closing twice is closing once");
    wire_server_free(s);
    is_int(uv_loop_close(&loop), 0, "no handle is left");
    rmdir(sub);
    rmdir(dir);
}

/* The end with connections in every state: idle, with a kept call, with more queued than they read. */
static void close_busy(void)
{
    struct fix *f = fix_start();
    struct peer idle = peer_open(f->path), keeps = peer_open(f->path), slow = peer_open(f->path);
    ok(peer_alive(&idle), "one idle");
    peer_send(&keeps, REQ("1", "evaluator.next", ""));
    sem_wait(&f->kept_sem);
    peer_send(&slow, REQ("1", "job.front", ",\"params\":{\"n\":5000000}") REQ("2", "evaluator.next", ""));
    sem_wait(&f->kept_sem);
    fix_stop(f); /* waits its second for slow, which reads nothing */
    is_int(f->done, 1, "done with peers in every state");
    is_int(f->opened, 0, "closed() for each");
    ok(!peer_line(&idle) && !peer_line(&keeps), "the peers see the end");
    fix_free(f);
    peer_close(&idle);
    peer_close(&keeps);
    peer_close(&slow);
}

int main(void)
{
    struct fix *f = fix_start();
    cut_off(f);
    ends(f);
    does_not_read(f);
    kept_calls(f);
    limit(f);
    another_user(f);
    fix_stop(f);
    fix_free(f);
    file();
    close_busy();
    return tap_done();
}
