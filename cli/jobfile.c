#include "config.h"

#include "cli/jobfile.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/json.h"
#include "cli/cli.h"
#include "searchspace/arch_json.h"

#define LOOKED_AT_MAX 10000 /* files looked into */

/* The folder that path lies in, absolute. */
static bool folder_of(const char *path, char *dir, size_t size)
{
    char full[PATH_MAX];
    if (!strcmp(path, "-")) return getcwd(dir, size);
    if (!realpath(path, full)) return false;
    char *slash = strrchr(full, '/');
    return snprintf(dir, size, "%.*s", slash == full ? 1 : (int)(slash - full), full) < (int)size;
}

static int read_file(struct base_buf *b, const char *path, const char *what)
{
    st_t st = base_buf_read_file(b, path, JOBFILE_MAX);
    if (!st) return CLI_OK;
    if (st == ST_ENOTFOUND) return cli_fail(CLI_CALL, path, what, "no such file");
    if (st == ST_ETOOBIG) return cli_fail(CLI_CALL, path, what, "over %d MiB", JOBFILE_MAX >> 20);
    return cli_fail(st == ST_ENOMEM ? CLI_FAILED : CLI_CALL, path, what, "cannot be read: %s", errno ? strerror(errno) : base_status_text(st));
}

/* The place in the file goes first: "job.json: objectives[1].metric: …". */
static int wrong(const char *path, struct base_err *err)
{
    char text[1100];
    size_t n = strlen(path);
    base_err_text(err, text, sizeof text);
    if (!strncmp(err->where, path, n)) return cli_fail(cli_exit_of(err->st) == CLI_FAILED ? CLI_FAILED : CLI_CALL, NULL, NULL, "%s", text);
    return cli_fail(err->st == ST_ENOMEM ? CLI_FAILED : CLI_CALL, path, NULL, "%s", text);
}

int jobfile_read(struct jobfile *f, const char *path)
{
    struct base_buf b = BASE_BUF_INIT;
    struct base_err err = BASE_ERR_INIT;
    char dir[PATH_MAX];
    *f = (struct jobfile){0};
    int rc = read_file(&b, path, "give a job file");
    if (rc) {
        base_buf_fini(&b);
        return rc;
    }
    st_t st = base_json_parse(&f->json, b.p ? b.p : "", b.len, path, &err);
    base_buf_fini(&b);
    if (!st) st = job_from_json(&f->job, f->json, &err);
    if (!st && !folder_of(path, dir, sizeof dir)) st = base_err_set(&err, ST_EIO, path, "its folder: %s", strerror(errno));
    if (!st) st = job_paths_absolute(f->json, dir, &err);
    if (!st) {
        job_free(f->job);
        f->job = NULL;
        st = job_from_json(&f->job, f->json, &err); /* with those paths */
    }
    if (!st) st = job_identity(f->json, f->identity, &err);
    if (!st) return CLI_OK;
    rc = wrong(path, &err);
    jobfile_fini(f);
    return rc;
}

/* Pictures, archives and the like hold bytes of zero early on; text in bytes never does. */
static bool is_binary(const char *path)
{
    char start[4096];
    FILE *f = fopen(path, "rb");
    size_t n = f ? fread(start, 1, sizeof start, f) : 0;
    if (f) fclose(f);
    return memchr(start, '\0', n) != NULL;
}

static void note_binaries(const struct cli *c, const struct job_files *f)
{
    int found = 0, files = f->ntrain + f->nvalid;
    const char *first = NULL;
    for (int i = 0; i < files && i < LOOKED_AT_MAX; i++) {
        const char *path = i < f->ntrain ? f->train[i].path : f->valid[i - f->ntrain].path;
        if (!is_binary(path)) continue;
        found++;
        if (!first) first = path;
    }
    if (found) cli_note(c, "not text: %d of %d data files, such as %s; trained on byte by byte all the same", found, files, first);
}

int jobfile_look(const struct cli *c, const struct jobfile *f, const char *path)
{
    struct base_err err = BASE_ERR_INIT;
    struct job_files files;
    if (job_files_list(f->job, &files, &err)) return wrong(path, &err);
    if (job_files_check(f->job, &files, &err)) {
        job_files_free(&files);
        return wrong(path, &err);
    }
    if (f->job->data.bytes) note_binaries(c, &files);
    job_files_free(&files);
    return CLI_OK;
}

const char *jobfile_taken(const struct jobfile *f, char *text, size_t size)
{
    const char *taken = space_taken(f->job->space);
    *text = '\0';
    if (!*taken) return text;
    json_t *family = json_object_get(json_object_get(f->json, "space"), "family");
    int n = snprintf(text, size, "family '%s' takes away: ", json_string_value(family));
    for (; *taken && (size_t)n + 3 < size; taken++) {
        if (*taken == '\n') n += sprintf(text + n, "; ");
        else text[n++] = *taken;
    }
    text[n] = '\0';
    return text;
}

void jobfile_fini(struct jobfile *f)
{
    json_decref(f->json);
    job_free(f->job);
    *f = (struct jobfile){0};
}

int archfile_read(struct arch *a, const char *path)
{
    struct base_buf b = BASE_BUF_INIT;
    struct base_err err = BASE_ERR_INIT;
    int rc = read_file(&b, path, "give an architecture's file");
    if (!rc && space_arch_parse(a, b.p ? b.p : "", b.len, path, &err)) rc = wrong(path, &err);
    base_buf_fini(&b);
    return rc;
}
