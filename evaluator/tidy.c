#include "evaluator/tidy.h"

#include <dirent.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "wire/wire.h"

#define CALL_MS 2000

/* The search whose trunk a file of that name is; 0: it is none. */
static long long job_of(const char *name)
{
    long long job, trial;
    char rest[32];
    if (sscanf(name, "job%lld-trial%lld%31s", &job, &trial, rest) != 3 || strcmp(rest, ".stable.safetensors")) return 0;
    return job;
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

static json_t *ask_jobs(const char *socket)
{
    struct wire_client *wire;
    json_t *jobs = NULL;
    if (wire_client_open(&wire, socket, NULL)) return NULL;
    if (wire_client_call(wire, "job.list", json_pack("{s:b}", "brief", true), CALL_MS, &jobs, NULL, NULL)) jobs = NULL;
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
        if (!jobs && !(jobs = ask_jobs(socket))) break;
        if (has_ended(jobs, job) && !unlinkat(dirfd(dir), f->d_name, 0)) n++;
    }
    if (dir) closedir(dir);
    if (n) log_info("%s: %d checkpoints of searches that have ended are removed", work, n);
    json_decref(jobs);
}
