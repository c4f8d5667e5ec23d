/* The client: against the test server, and against a scripted one that misbehaves. */
#include <signal.h>

#include "tests/wire/fixture.h"

static struct wire_client *must_open(const char *path)
{
    struct wire_client *c = NULL;
    struct base_err err = BASE_ERR_INIT;
    if (wire_client_open(&c, path, &err)) {
        printf("Bail out! %s\n", err.what);
        exit(1);
    }
    return c;
}

/* 1: as it should be; the connection still answers. */
static int works(struct wire_client *c)
{
    json_t *res = NULL;
    int good = !wire_client_call(c, "server.info", json_pack("{s:i}", "a", 7), -1, &res, NULL, NULL) &&
               json_integer_value(json_object_get(res, "a")) == 7;
    json_decref(res);
    return good;
}

static void calls(struct fix *f)
{
    struct wire_client *c = must_open(f->path);
    struct base_err err = BASE_ERR_INIT;
    json_t *res = NULL;
    int code = 5;
    ok(works(c), "a call and its result");
    is_int(wire_client_call(c, "server.info", NULL, 60000, &res, &code, &err), ST_OK, "without params, with a timeout");
    is_int(code, 0, "no code");
    is_int(json_object_size(res), 0, "params are {}");
    json_decref(res);
    res = NULL;
    is_int(wire_client_call(c, "job.get", NULL, -1, &res, &code, &err), ST_EINVAL, "an error reply");
    is_int(code, WIRE_ENOTFOUND, "its code");
    is_str(err.what, "no job x", "its message");
    ok(!res, "no result");
    is_int(wire_client_call(c, "no.such", NULL, -1, &res, NULL, NULL), ST_EINVAL, "neither code nor words wanted");
    ok(works(c), "goes on");
    is_int(wire_client_call(c, "job.front", json_pack("{s:i}", "n", 30000000), -1, &res, NULL, &err), ST_OK, "30 MB");
    is_int(json_string_length(json_object_get(res, "x")), 30000000, "arrived");
    json_decref(res);
    ok(works(c), "goes on");

    char *big = malloc(WIRE_LINE_MAX);
    memset(big, 'b', WIRE_LINE_MAX - 1);
    big[WIRE_LINE_MAX - 1] = '\0';
    is_int(wire_client_call(c, "server.info", json_pack("{s:s}", "b", big), -1, &res, NULL, &err), ST_ETOOBIG,
           "too large a request");
    big[WIRE_LINE_MAX - 200] = '\0';
    is_int(wire_client_call(c, "server.info", json_pack("{s:s}", "b", big), -1, &res, NULL, &err), ST_OK,
           "just not too large");
    is_str(json_string_value(json_object_get(res, "b")), big, "came back");
    json_decref(res);
    free(big);
    wire_client_close(c);
    wire_client_close(NULL);
}

static void notifications(struct fix *f)
{
    struct wire_client *c = must_open(f->path);
    json_t *res = NULL, *params;
    char *method;
    is_int(wire_client_call(c, "job.watch", json_pack("{s:i}", "n", 5), -1, &res, NULL, NULL), ST_OK, "watch");
    json_decref(res);
    ok(works(c), "a call while notifications come");
    for (int i = 0; i < 5; i++) {
        if (wire_client_notification(c, -1, &method, &params)) break;
        is_int(json_integer_value(json_object_get(params, "seq")), i, "notification %d", i);
        is_str(method, "job.event", "its method");
        free(method);
        json_decref(params);
    }
    is_int(wire_client_notification(c, 0, &method, &params), ST_ETIMEDOUT, "no more");
    is_int(wire_client_notification(c, 5, &method, &params), ST_ETIMEDOUT, "none after a while either");
    ok(works(c), "goes on");
    wire_client_call(c, "job.watch", json_pack("{s:i}", "n", 1000), -1, &res, NULL, NULL);
    json_decref(res);
    works(c);
    wire_client_close(c); /* with many unread */
}

static void timeouts(struct fix *f)
{
    struct wire_client *c = must_open(f->path);
    struct base_err err = BASE_ERR_INIT;
    json_t *res = NULL;
    is_int(wire_client_call(c, "evaluator.next", NULL, 20, &res, NULL, &err), ST_ETIMEDOUT, "no reply in time");
    is_int(wire_client_call(c, "server.info", NULL, -1, &res, NULL, &err), ST_ECLOSED,
           "afterwards the connection is unusable");
    wire_client_close(c);
    sem_wait(&f->kept_sem);
}

/* ---- signals ---- */

static volatile int flag;
static volatile sig_atomic_t caught;
static void on_signal(int sig)
{
    caught++;
}
static void on_signal_flag(int sig)
{
    caught++;
    flag = 1;
}

struct helper {
    struct fix *f;
    pthread_t main;
    bool answer, raise;
};

/* Once the call has arrived: a signal, then perhaps the answer. */
static void *help(void *p)
{
    struct helper *h = p;
    sem_wait(&h->f->kept_sem);
    if (h->raise)
        pthread_kill(h->main, SIGUSR1);
    else
        flag = 1;
    if (h->answer) {
        struct peer q = peer_open(h->f->path);
        peer_send(&q, "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"evaluator.report\"}\n");
        peer_line(&q);
        peer_close(&q);
    }
    return NULL;
}

static st_t interrupted(struct wire_client *c, struct fix *f, bool answer, bool raise)
{
    struct helper h = {f, pthread_self(), answer, raise};
    pthread_t t;
    json_t *res = NULL;
    pthread_create(&t, NULL, help, &h);
    st_t st = wire_client_call(c, "evaluator.next", NULL, -1, &res, NULL, NULL);
    pthread_join(t, NULL);
    json_decref(res);
    return st;
}

static void interrupts(struct fix *f)
{
    struct wire_client *c = must_open(f->path);
    json_t *res = NULL, *params;
    char *method;
    struct sigaction sa = {.sa_handler = on_signal};
    sigaction(SIGUSR1, &sa, NULL);
    is_int(interrupted(c, f, true, true), ST_OK, "a signal does not end a wait");
    is_int(caught, 1, "(there was one)");
    wire_client_interrupt(c, &flag);
    is_int(interrupted(c, f, true, true), ST_OK, "nor with a flag that stays 0");
    flag = 1;
    is_int(wire_client_call(c, "server.info", NULL, -1, &res, NULL, NULL), ST_ECANCELED,
           "the flag was up before the call");
    is_int(wire_client_notification(c, -1, &method, &params), ST_ECANCELED, "or before the wait for a notification");
    flag = 0;
    ok(works(c), "no call was under way: the connection is good");
    sa.sa_handler = on_signal_flag;
    sigaction(SIGUSR1, &sa, NULL);
    is_int(interrupted(c, f, false, true), ST_ECANCELED, "a handler that sets the flag ends the wait");
    flag = 0;
    is_int(wire_client_call(c, "server.info", NULL, -1, &res, NULL, NULL), ST_ECLOSED,
           "a call was under way: unusable");
    wire_client_close(c);
    c = must_open(f->path);
    wire_client_interrupt(c, &flag);
    is_int(interrupted(c, f, false, false), ST_ECANCELED, "also when the signal went to another thread");
    flag = 0;
    wire_client_close(c);
}

/* ---- a scripted server: takes one connection, reads `reads` lines (-1: none and closes at once), writes `text`,
 * closes ---- */

struct script {
    int listener, reads;
    const char *text;
    size_t n;
};

static void *play(void *p)
{
    struct script *s = p;
    struct peer q = {.fd = accept(s->listener, NULL, NULL)};
    for (int i = 0; i < s->reads; i++) peer_line(&q);
    peer_sendn(&q, s->text, s->n);
    if (!s->reads) peer_line(&q); /* wrote first */
    peer_close(&q);
    return NULL;
}

static const struct {
    const char *name, *text;
    st_t st;
    int code;
} SCRIPTS[] = {
    {"notifications around the reply",
     "{\"jsonrpc\":\"2.0\",\"method\":\"a\"}\n{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":[1]}\n{\"jsonrpc\":\"2.0\","
     "\"method\":\"b\"}\n",
     ST_OK, 0},
    {"an error with id null", "{\"jsonrpc\":\"2.0\",\"id\":null,\"error\":{\"code\":-32700,\"message\":\"m\"}}\n",
     ST_EINVAL, -32700},
    {"a null result", "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":null}\n", ST_OK, 0},
    {"the end at once", "", ST_ECLOSED, 0},
    {"the end within the reply", "{\"jsonrpc\":\"2.0\",\"id\":1,\"res", ST_ECLOSED, 0},
    {"not JSON", "HTTP/1.1 400 Bad Request\r\n\r\n", ST_EPARSE, 0},
    {"another id", "{\"jsonrpc\":\"2.0\",\"id\":2,\"result\":1}\n", ST_EPARSE, 0},
    {"an id that is a string", "{\"jsonrpc\":\"2.0\",\"id\":\"1\",\"result\":1}\n", ST_EPARSE, 0},
    {"a batch", "[{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":1}]\n", ST_EPARSE, 0},
    {"neither result nor error", "{\"jsonrpc\":\"2.0\",\"id\":1}\n", ST_EPARSE, 0},
    {"both", "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":1,\"error\":{\"code\":1,\"message\":\"\"}}\n", ST_EPARSE, 0},
    {"an error without a code", "{\"jsonrpc\":\"2.0\",\"id\":1,\"error\":{\"message\":\"m\"}}\n", ST_EPARSE, 0},
    {"an error that is text", "{\"jsonrpc\":\"2.0\",\"id\":1,\"error\":\"m\"}\n", ST_EPARSE, 0},
    {"a request", "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"x\"}\n", ST_EPARSE, 0},
};

static int listen_at(const char *path)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    snprintf(a.sun_path, sizeof a.sun_path, "%s", path);
    if (bind(fd, (struct sockaddr *)&a, sizeof a) || listen(fd, 8)) abort();
    return fd;
}

static void scripts(const char *path)
{
    int fd = listen_at(path);
    for (size_t i = 0; i < sizeof SCRIPTS / sizeof SCRIPTS[0]; i++) {
        struct script s = {fd, 1, SCRIPTS[i].text, strlen(SCRIPTS[i].text)};
        struct base_err err = BASE_ERR_INIT;
        struct wire_client *c = must_open(path);
        json_t *res = NULL, *params;
        int code = 0;
        pthread_t t;
        pthread_create(&t, NULL, play, &s);
        is_int(wire_client_call(c, "x", NULL, -1, &res, &code, &err), SCRIPTS[i].st, "%s", SCRIPTS[i].name);
        is_int(code, SCRIPTS[i].code, "code");
        pthread_join(t, NULL);
        if (SCRIPTS[i].st != ST_EPARSE) { /* what came before the end is not lost with it */
            char *method;
            int n = 0;
            while (!wire_client_notification(c, -1, &method, &params)) {
                n++;
                free(method);
                json_decref(params);
            }
            is_int(n, i ? 0 : 2, "notifications");
        }
        st_t st = wire_client_call(c, "x", NULL, -1, &res, &code, &err);
        ok(st == ST_ECLOSED || st == ST_EPARSE, "then the connection is at its end");
        json_decref(res);
        wire_client_close(c);
    }
    close(fd);
    unlink(path);
}

/* 65 MiB in one line; a server that writes before it reads; one that closes while we write. */
static void extremes(const char *path)
{
    int fd = listen_at(path);
    struct base_err err = BASE_ERR_INIT;
    json_t *res = NULL;
    pthread_t t;
    size_t n = 65u << 20;
    char *big = malloc(n);
    memset(big, ' ', n);
    struct script s = {fd, 1, big, n};
    struct wire_client *c = must_open(path);
    pthread_create(&t, NULL, play, &s);
    is_int(wire_client_call(c, "x", NULL, -1, &res, NULL, &err), ST_ETOOBIG, "a line without an end");
    wire_client_close(c);
    pthread_join(t, NULL);

    const char note[] = "{\"jsonrpc\":\"2.0\",\"method\":\"n\"}\n";
    n = 0;
    for (int i = 0; i < 60000; i++, n += sizeof note - 1) memcpy(big + n, note, sizeof note - 1);
    s = (struct script){fd, 0, big, n};
    char *param = malloc(2000001);
    memset(param, 'q', 2000000);
    param[2000000] = '\0';
    c = must_open(path);
    pthread_create(&t, NULL, play, &s);
    is_int(wire_client_call(c, "x", json_pack("{s:s}", "q", param), -1, &res, NULL, &err), ST_ECLOSED,
           "a server that reads nothing until we have read 2 MB does not lock us up");
    pthread_join(t, NULL);
    wire_client_close(c);

    s = (struct script){fd, -1, "", 0};
    c = must_open(path);
    pthread_create(&t, NULL, play, &s);
    pthread_join(t, NULL);
    is_int(wire_client_call(c, "x", json_pack("{s:s}", "q", param), -1, &res, NULL, &err), ST_ECLOSED,
           "writing to a server that has left");
    wire_client_close(c);
    c = must_open(path); /* the backlog takes it; nobody reads */
    is_int(wire_client_call(c, "x", json_pack("{s:s}", "q", param), 20, &res, NULL, &err), ST_ETIMEDOUT,
           "a timeout while writing");
    wire_client_close(c);
    free(param);
    free(big);
    close(fd);

    is_int(wire_client_open(&c, path, &err), ST_ECLOSED, "a socket that nobody listens to");
    unlink(path);
    is_int(wire_client_open(&c, path, &err), ST_ECLOSED, "no socket");
    ok(strstr(err.where, path) != NULL, "the path is named");
    char longer[200];
    memset(longer, 'x', sizeof longer - 1);
    longer[sizeof longer - 1] = '\0';
    is_int(wire_client_open(&c, longer, &err), ST_ETOOBIG, "a path that no socket can have");
}

int main(void)
{
    struct fix *f = fix_start();
    calls(f);
    notifications(f);
    timeouts(f);
    interrupts(f);
    fix_stop(f);
    fix_free(f);
    signal(SIGPIPE, SIG_DFL); /* the client must not need the server's setting */
    char dir[] = "/tmp/taut-test-wire-XXXXXX", path[64];
    if (!mkdtemp(dir)) return 1;
    snprintf(path, sizeof path, "%s/s.sock", dir);
    scripts(path);
    extremes(path);
    rmdir(dir);
    return tap_done();
}
