/* taut report: a search as one page. */
#include "config.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/format.h"
#include "cli/out.h"
#include "cli/report.h"

static const struct cli_opt options[] = {
    {"output", 'o', "FILE", "where to (default: report.html; -: standard output)", false},
    {0},
};

/* ---- the page ---- */

static void add_title(struct base_buf *b, const char *s)
{
    for (; *s; s++) {
        if (*s == '<') base_buf_str(b, "&lt;");
        else if (*s == '&') base_buf_str(b, "&amp;");
        else base_buf_add(b, s, 1);
    }
}

/* JSON inside <script>: without a '<' nothing in it can end or open an element, and \u003c is the same string. */
static void add_island(struct base_buf *b, const struct base_buf *json)
{
    const char *p = json->p, *end = json->p + json->len;
    for (const char *q; p < end; p = q + 1) {
        q = memchr(p, '<', (size_t)(end - p));
        if (!q) break;
        base_buf_add(b, p, (size_t)(q - p));
        base_buf_str(b, "\\u003c");
    }
    base_buf_add(b, p, (size_t)(end - p));
}

int report_make(struct conn *k, json_t *info, const char *where, struct base_buf *page)
{
    struct base_buf json = BASE_BUF_INIT;
    int rc;
    json_t *data = report_data(k, info, where, &rc);
    if (!data) return rc;
    out_json_text(data, &json);
    json_decref(data);
    const char *title = strstr(report_page, REPORT_TITLE), *island = strstr(report_page, REPORT_DATA);
    base_buf_add(page, report_page, (size_t)(title - report_page));
    add_title(page, out_str(info, "name"));
    title += strlen(REPORT_TITLE);
    base_buf_add(page, title, (size_t)(island - title));
    if (!json.st) add_island(page, &json);
    base_buf_str(page, island + strlen(REPORT_DATA));
    st_t st = json.st ? json.st : page->st;
    base_buf_fini(&json);
    return st ? cli_fail(CLI_FAILED, "report", NULL, "out of memory") : CLI_OK;
}

const char *report_where(char *buf, const char *option, const char *path)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-+,:@%=";
    char real[PATH_MAX], *p = buf;
    if (!realpath(path, real)) snprintf(real, sizeof real, "%s", path);
    bool quote = strspn(real, plain) != strlen(real);
    p += sprintf(p, " %.32s %s", option, quote ? "'" : "");
    for (const char *s = real; *s; s++) {
        if (*s == '\'') p += sprintf(p, "'\\''");
        else *p++ = *s;
    }
    strcpy(p, quote ? "'" : "");
    return buf;
}

/* ---- the file ---- */

static st_t failed(struct base_err *err, const char *path, int error)
{
    return base_err_set(err, error == ENOSPC ? ST_ENOSPC : ST_EIO, path, "cannot be written: %s", strerror(error));
}

static int write_all(int fd, const struct base_buf *page)
{
    for (size_t at = 0; at < page->len;) {
        ssize_t n = write(fd, page->p + at, page->len - at);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return errno;
        at += (size_t)n;
    }
    return 0;
}

st_t report_save(const struct base_buf *page, const char *path, struct base_err *err)
{
    char real[PATH_MAX], temp[PATH_MAX + 16];
    struct stat s;
    if (!realpath(path, real) && snprintf(real, sizeof real, "%s", path) >= (int)sizeof real) return failed(err, path, ENAMETOOLONG);
    bool there = !stat(real, &s);
    if (there && S_ISDIR(s.st_mode)) return failed(err, path, EISDIR);
    if (there && !S_ISREG(s.st_mode)) {
        FILE *f = fopen(real, "w");
        int error = f ? write_all(fileno(f), page) : errno;
        if (f && fclose(f) && !error) error = errno;
        return error ? failed(err, path, error) : ST_OK;
    }
    snprintf(temp, sizeof temp, "%s.XXXXXX", real);
    mode_t mask = umask(0);
    umask(mask);
    int fd = mkstemp(temp);
    if (fd < 0) return failed(err, path, errno);
    int error = write_all(fd, page);
    if (!error && fchmod(fd, there ? s.st_mode & 0777 : 0666 & ~mask)) error = errno;
    if (close(fd) && !error) error = errno;
    if (!error && rename(temp, real)) error = errno;
    if (error) unlink(temp);
    return error ? failed(err, path, error) : ST_OK;
}

/* ---- the verb ---- */

static int print(const struct cli *c, const struct base_buf *page, const char *path)
{
    struct base_err err = BASE_ERR_INIT;
    char size[FMT_MAX];
    if (!strcmp(path, "-")) {
        fwrite(page->p, 1, page->len, stdout);
        return CLI_OK;
    }
    if (report_save(page, path, &err)) return cli_fail_err(CLI_FAILED, NULL, "give another: -o FILE", &err);
    if (c->json) {
        json_t *o = json_pack("{s:s,s:I}", "report", path, "bytes", (json_int_t)page->len);
        int rc = out_json(o);
        json_decref(o);
        return rc;
    }
    if (!c->quiet) printf("%s: %s; open it in a browser\n", path, fmt_bytes(size, (double)page->len));
    return CLI_OK;
}

static int run(struct cli *c)
{
    struct conn k;
    struct base_buf page = BASE_BUF_INIT;
    json_t *info = NULL;
    char where[REPORT_WHERE_MAX] = "";
    const char *path = cli_str(c, "output", "report.html");
    if (c->json && !strcmp(path, "-")) return cli_fail(CLI_CALL, "report", "give one of them", "-o - and --json both want standard output");
    if (c->dir || c->socket) report_where(where, c->dir ? "--dir" : "--socket", c->dir ? c->dir : c->socket);
    int rc = conn_open(&k, c, false);
    if (rc) return rc;
    rc = conn_job(&k, c->arg[0], &info);
    if (!rc) rc = report_make(&k, info, where, &page);
    json_decref(info);
    conn_close(&k);
    if (!rc) rc = print(c, &page, path);
    base_buf_fini(&page);
    return rc;
}

const struct cli_cmd cmd_report = {.name = "report",
                                   .args = "JOB",
                                   .summary = "one self-contained page: front, progress, knobs, architectures, curves, time and energy",
                                   .help = "  taut report tiny -o tiny.html\n"
                                           "The page needs no network and no other file. It says which numbers were measured and which are computed.\n",
                                   .options = options,
                                   .min_args = 1,
                                   .max_args = 1,
                                   .run = run};
