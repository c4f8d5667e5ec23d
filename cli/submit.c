/* taut submit: a job file goes to a tautd. */
#include "cli/cli.h"
#include "cli/connect.h"
#include "cli/jobfile.h"
#include "cli/out.h"

static int run(struct cli *c)
{
    struct jobfile f;
    struct conn k;
    json_t *result;
    int rc = jobfile_read(&f, c->arg[0]);
    if (rc) return rc;
    if (c->dir && !conn_store_there(c->dir)) rc = jobfile_look(c, &f, c->arg[0]);
    if (rc) {
        jobfile_fini(&f);
        return rc;
    }
    rc = conn_open(&k, c, true);
    if (!rc) rc = conn_call(&k, "job.submit", json_pack("{s:O}", "job", f.json), c->arg[0], &result);
    if (!rc) {
        if (c->json) rc = out_json(result);
        else printf("%lld\n", (long long)out_int(result, "id"));
        char taken[JOBFILE_TAKEN_MAX];
        if (*jobfile_taken(&f, taken, sizeof taken)) cli_note(c, "%s", taken);
        conn_note_idle(&k, out_int(result, "id"));
        json_decref(result);
    }
    conn_close(&k);
    jobfile_fini(&f);
    return rc;
}

const struct cli_cmd cmd_submit = {.name = "submit",
                                   .args = "JOB.json",
                                   .summary = "hand a job to a tautd; prints the job's number",
                                   .help = "The number is printed once the job is durable. Relative paths in the file are taken from its own folder.\n",
                                   .min_args = 1,
                                   .max_args = 1,
                                   .run = run};
