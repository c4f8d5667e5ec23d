/* taut watch: a job's evaluations as they come, until it ends. */
#include <limits.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/connect.h"
#include "cli/follow.h"
#include "cli/format.h"
#include "cli/interrupt.h"
#include "cli/out.h"
#include "cli/result.h"
#include "cli/term.h"

static const struct cli_opt options[] = {
    {"from-start", 'a', NULL, "what has happened so far comes first", false},
    {0},
};

static int watch(struct cli *c, struct conn *k, struct follow *f)
{
    st_t st = follow_attach(f, k->wire);
    while (!st && !f->ended) {
        const char *unread = follow_unread(f);
        if (out_gone()) return CLI_FAILED;
        if (unread) return cli_fail(CLI_FAILED, c->arg[0], NULL, "job %lld cannot go on: %s", (long long)f->job, unread);
        /* From a tautd that reads alone nothing more comes than what has happened. */
        if (k->own.pid && f->after >= out_int(f->info, "last_seq"))
            return cli_fail(CLI_FAILED, c->arg[0], "go on with: taut run JOB.json --dir DIR, or: tautd --dir DIR", "job %lld is %s and nobody works on it",
                            (long long)f->job, follow_state(f));
        st = follow_step(f, 200);
    }
    if (st == ST_ECANCELED) return interrupt_status();
    if (st) return cli_fail(CLI_NO_DAEMON, c->arg[0], "watch again", "the connection to tautd is gone");
    return CLI_OK;
}

static int run(struct cli *c)
{
    struct conn k;
    struct follow f;
    json_t *info;
    char word[PATH_MAX], where[PATH_MAX + 16] = "";
    int rc = conn_open(&k, c, false);
    if (!rc) rc = conn_job(&k, c->arg[0], &info);
    if (rc) {
        conn_close(&k);
        return rc;
    }
    interrupt_catch();
    wire_client_interrupt(k.wire, &interrupted);
    follow_init(&f, c, info);
    f.raw = c->json;
    if (cli_has(c, "from-start")) {
        f.after = 0;
        f.reported = 0;
    }
    rc = watch(c, &k, &f);
    info = json_incref(f.info);
    follow_fini(&f);
    if (!rc && !c->json) {
        if (c->dir || c->socket) snprintf(where, sizeof where, " %s %s", c->dir ? "--dir" : "--socket", fmt_shell(word, sizeof word, c->dir ? c->dir : c->socket));
        rc = result_print(&k, info, &(struct result_hints){.where = where});
    } else if (!rc) {
        rc = strcmp(out_str(info, "state"), "failed") ? CLI_OK : CLI_FAILED;
    }
    json_decref(info);
    conn_close(&k);
    return rc;
}

const struct cli_cmd cmd_watch = {.name = "watch",
                                  .args = "JOB",
                                  .summary = "follow a job until it ends",
                                  .help = "A line an evaluation; on a terminal also a bar with rate, time left, the best so far and what runs now. Ctrl-C ends the\n"
                                          "watching, not the job. --json prints the job's events as they are, one a line.\n",
                                  .options = options,
                                  .min_args = 1,
                                  .max_args = 1,
                                  .run = run};
