/* taut cancel. */
#include "cli/change.h"

static int run(struct cli *c)
{
    return cli_change(c, "job.cancel", NULL);
}

const struct cli_cmd cmd_cancel = {.name = "cancel",
                                   .args = "JOB",
                                   .summary = "end a job for good; what it has found stays",
                                   .help = "",
                                   .min_args = 1,
                                   .max_args = 1,
                                   .run = run};
