#include "evaluator/tidy.h"

#include <dirent.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "wire/wire.h"

#define CALL_MS 2000
#define NOTE "store"

/* The search that a file of that name is of, where nothing goes on from it once the search has ended; 0: it is none. */
static long long job_of(const char *name)
{
    static const char *const ends[] = {".stable.safetensors", ".inherited.safetensors"};
    long long job, trial;
    char rest[32];
    if (sscanf(name, "job%lld-%31s", &job, rest) == 2 && !strcmp(rest, "supernet.own.safetensors")) return job;
    if (sscanf(name, "job%lld-trial%lld%31s", &job, &trial, rest) != 3) return 0;
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++)
        if (!strcmp(rest, ends[i])) return job;
    return 0;
}

static bool has_ended(json_t *jobs, long long job)
{
    json_t *row;
    size_t i;
    json_array_foreach(jobs, i, row)
    {
        const char *state = json_string_value(json_object_get(row, "state"));
        if (json_integer_value(json_object_get(row, "id")) == job) return state && (!strcmp(state, "done") || !strcmp(state, "failed") || !strcmp(state, "cancelled"));
    }
    return false;
}

static json_t *ask(struct wire_client *wire, const char *method, json_t *params)
{
    json_t *answer = NULL;
    return wire_client_call(wire, method, params, CALL_MS, &answer, NULL, NULL) ? NULL : answer;
}

/* The file's line, owned; NULL: there is none. */
static char *read_line(const char *path)
{
    char *line = NULL;
    size_t size = 0;
    FILE *f = fopen(path, "r");
    ssize_t n = f ? getline(&line, &size, f) : -1;
    if (f) fclose(f);
    if (n > 0) {
        line[strcspn(line, "\n")] = 0;
        return line;
    }
    free(line);
    return NULL;
}

/* Is the folder store's? One that is nobody's, or of a store that is not there any more (moved, with the folder perhaps), becomes it.
 * *other: whose else it is, owned; NULL: that is not known. */
static bool owns(const char *work, const char *store, char **other)
{
    char path[1024];
    *other = NULL;
    if (!store || snprintf(path, sizeof path, "%s/" NOTE, work) >= (int)sizeof path) return false;
    char *line = read_line(path);
    bool same = line && !strcmp(line, store);
    if (line && !same && !access(line, F_OK)) {
        *other = line;
        return false;
    }
    free(line);
    if (same) return true;
    FILE *f = fopen(path, "w");
    bool written = f && fprintf(f, "%s\n", store) > 0;
    return f && !fclose(f) && written;
}

void tidy_begin(const char *work, const char *socket)
{
    struct wire_client *wire;
    char *other = NULL;
    if (wire_client_open(&wire, socket, NULL)) return;
    json_t *info = ask(wire, "server.info", json_object());
    const char *store = json_string_value(json_object_get(info, "store"));
    if (!owns(work, store, &other) && other)
        log_warn("%s: this work folder belongs to the tautd of %s, not to that of %s: files of searches of the same number collide, and none is removed here; give each tautd's evaluators a "
                 "--work of their own (if this is a copy of that one's folder, remove %s/" NOTE ")", work, other, store, work);
    free(other);
    json_decref(info);
    wire_client_close(wire);
}

/* The searches of the tautd that the folder belongs to, if that one answers. */
static json_t *ask_jobs(const char *work, const char *socket)
{
    struct wire_client *wire;
    char *other = NULL;
    if (wire_client_open(&wire, socket, NULL)) return NULL;
    json_t *info = ask(wire, "server.info", json_object()), *jobs = NULL;
    if (owns(work, json_string_value(json_object_get(info, "store")), &other)) jobs = ask(wire, "job.list", json_pack("{s:b}", "brief", true));
    free(other);
    json_decref(info);
    wire_client_close(wire);
    return jobs;
}

void tidy_trunks(const char *work, const char *socket)
{
    DIR *dir = opendir(work);
    struct dirent *f;
    json_t *jobs = NULL;
    int n = 0;
    while (dir && (f = readdir(dir))) {
        long long job = job_of(f->d_name);
        if (!job) continue;
        if (!jobs && !(jobs = ask_jobs(work, socket))) break;
        if (has_ended(jobs, job) && !unlinkat(dirfd(dir), f->d_name, 0)) n++;
    }
    if (dir) closedir(dir);
    if (n) log_info("%s: %d files of searches that have ended are removed", work, n);
    json_decref(jobs);
}
