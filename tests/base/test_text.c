/* status, err, buf, log, arena, clock */
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "tests/tap.h"

static void test_err(void)
{
    is_str(base_status_text(ST_EINVAL), "invalid", "text of a status");
    ok(base_status_text((st_t)-999) != NULL, "text of an unknown status is not NULL");
    struct base_err e = BASE_ERR_INIT;
    char text[1200];
    is_int(base_err_set(&e, ST_EINVAL, "heads[2]", "%d does not divide %d", 3, 64), ST_EINVAL, "err_set returns the status");
    base_err_prefix(&e, "mixer");
    is_str(e.where, "mixer.heads[2]", "prefix joins with a dot");
    base_err_prefix(&e, "");
    is_str(base_err_text(&e, text, sizeof text), "mixer.heads[2]: 3 does not divide 64", "where: what");
    base_err_set(&e, ST_EPARSE, "[3]", "a\nb\x1b[31m\xc2\x9b" "c\x7f\xc3\xa9");
    is_str(e.what, "a?b?[31m??c?\xc3\xa9", "control characters become ?, letters stay");
    base_err_prefix(&e, "layers");
    is_str(e.where, "layers[3]", "an index joins without a dot");
    base_err_set(&e, ST_EIO, e.where, "%s again", e.what);
    is_str(base_err_text(&e, text, sizeof text), "layers[3]: a?b?[31m??c?\xc3\xa9 again", "arguments may lie in the error itself");
    base_err_set(&e, ST_EIO, NULL, "plain");
    is_str(base_err_text(&e, text, sizeof text), "plain", "no where, no colon");
    is_str(base_err_text(&e, text, 4), "pla", "text is cut to the room");
    struct base_err fr = {ST_EINVAL, "", "d\u00e9j\u00e0"};
    is_str(base_err_text(&fr, text, 3), "d", "between characters");
    is_str(base_err_text(&fr, text, 4), "d\u00e9", "which are kept whole");
    is_int(base_err_set(NULL, ST_EIO, "x", "y"), ST_EIO, "NULL err is allowed");
    base_err_prefix(NULL, "x");
    char longs[2000];
    for (int i = 0; i < 1998; i += 2) memcpy(longs + i, "\xc3\xa9", 2);
    longs[1998] = '\0';
    base_err_set(&e, ST_EIO, longs, "%s", longs);
    ok(strlen(e.what) == 766 && strlen(e.where) == 254, "cut between characters");
}

static void test_buf(void)
{
    struct base_buf b = BASE_BUF_INIT;
    char expect[4000] = "";
    for (int i = 0; i < 500; i++) {
        base_buf_printf(&b, "%d,", i);
        sprintf(expect + strlen(expect), "%d,", i);
    }
    is_str(b.p, expect, "printf appends");
    is_int(b.len, strlen(expect), "len");
    base_buf_reset(&b);
    is_str(b.p, "", "reset empties");
    base_buf_add(&b, "a\0b", 3);
    ok(b.len == 3 && !memcmp(b.p, "a\0b", 4), "bytes with a NUL, and one after");
    base_buf_add(&b, "x", SIZE_MAX / 2);
    is_int(b.st, ST_ENOMEM, "what cannot be had latches");
    base_buf_str(&b, "more");
    is_int(b.len, 3, "later appends do nothing");
    ok(base_buf_take(&b) == NULL && b.p == NULL, "take after a failure gives nothing");
    char *p = base_buf_take(&b);
    is_str(p, "", "take of an empty buffer is an empty string");
    free(p);

    char path[] = "/tmp/taut-buf-XXXXXX";
    int fd = mkstemp(path);
    char *data = malloc(200000);
    for (int i = 0; i < 200000; i++) data[i] = (char)(i * 7);
    ok(write(fd, data, 200000) == 200000 && !close(fd), "a file");
    base_buf_str(&b, "head");
    is_int(base_buf_read_file(&b, path, 200000), ST_OK, "a file of exactly max bytes");
    ok(b.len == 200004 && !memcmp(b.p, "head", 4) && !memcmp(b.p + 4, data, 200000), "its bytes follow what was there");
    b.len = 4;
    is_int(base_buf_read_file(&b, path, 199999), ST_ETOOBIG, "one byte too many");
    ok(b.len == 4 && b.p[4] == '\0' && !b.st, "a failure leaves the buffer as it was");
    fd = open(path, O_RDONLY);
    int keep = dup(0);
    dup2(fd, 0);
    is_int(base_buf_read_file(&b, "-", SIZE_MAX), ST_OK, "- is standard input");
    dup2(keep, 0);
    close(keep);
    close(fd);
    is_int(b.len, 200004, "all of it");
    unlink(path);
    is_int(base_buf_read_file(&b, path, 10), ST_ENOTFOUND, "no such file");
    is_int(base_buf_read_file(&b, "/", 10), ST_EIO, "a folder");
    base_buf_fini(&b);
    free(data);
}

static void test_log(void)
{
    int keep = dup(2), pipes[2];
    char line[6000];
    ok(!pipe(pipes), "a pipe");
    dup2(pipes[1], 2);
    log_info("unseen by default");
    log_warn("job %d:\ntwo lines", 3);
    base_log_init("tautd", LOG_DEBUG);
    log_debug("seen");
    char longs[5000];
    memset(longs, 'x', sizeof longs);
    longs[4999] = '\0';
    log_error("%s", longs);
    dup2(keep, 2);
    close(keep);
    close(pipes[1]);
    ssize_t n = 0, got;
    while ((got = read(pipes[0], line + n, sizeof line - 1 - (size_t)n)) > 0) n += got;
    close(pipes[0]);
    line[n] = '\0';
    const char *want = "taut: warn: job 3: two lines\ntautd: debug: seen\ntautd: error: xxx";
    ok(!strncmp(line, want, strlen(want)), "levels, names, one line each");
    int lines = 0;
    for (ssize_t i = 0; i < n; i++) lines += line[i] == '\n';
    ok(lines == 3 && line[n - 1] == '\n', "a long message is cut, and still ends its line");
    is_int(base_log_level_get(), LOG_DEBUG, "level");
}

static void test_arena(void)
{
    struct base_arena a;
    base_arena_init(&a, 1000);
    unsigned char *p[200];
    int aligned = 1, zero = 1, intact = 1;
    for (int i = 0; i < 200; i++) {
        size_t n = (size_t)i * 37 % 2500;
        p[i] = base_arena_alloc(&a, n);
        aligned &= (uintptr_t)p[i] % 64 == 0;
        for (size_t k = 0; k < n; k++) zero &= p[i][k] == 0;
        memset(p[i], i, n);
    }
    for (int i = 0; i < 200; i++)
        for (size_t k = 0; k < (size_t)i * 37 % 2500; k++) intact &= p[i][k] == i;
    ok(aligned, "aligned to 64");
    ok(zero, "zeroed");
    ok(intact, "objects do not overlap");
    ok(base_arena_alloc(&a, 0) != base_arena_alloc(&a, 0), "even of size 0");
    char *s = base_arena_strdup(&a, "word");
    is_str(s, "word", "strdup");
    ok(a.used > 200 * 1000, "used counts what was handed out");
    ok(base_arena_alloc(&a, SIZE_MAX - 10) == NULL, "too much is NULL");
    base_arena_reset(&a);
    is_int(a.used, 0, "reset");
    unsigned char *again = base_arena_alloc(&a, 900);
    zero = 1;
    for (int k = 0; k < 900; k++) zero &= again[k] == 0;
    ok(zero, "memory used again is zeroed again");
    base_arena_fini(&a);
    ok(a.head == NULL, "fini");
}

int main(void)
{
    test_err();
    test_buf();
    test_log();
    test_arena();
    uint64_t t = base_clock_ns(), u = base_clock_ns();
    ok(u >= t && t > 0, "time does not run backwards");
    ok(base_clock_resolution_ns() > 0 && base_clock_resolution_ns() == base_clock_resolution_ns(), "resolution, measured once");
    ok(base_clock_wall_ms() > 1577836800000, "after 2020, in milliseconds");
    return tap_done();
}
