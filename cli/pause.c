/* taut pause. */
#include "cli/change.h"

static int run(struct cli *c)
{
    return cli_change(c, "job.pause", NULL);
}

const struct cli_cmd cmd_pause = {.name = "pause",
                                  .args = "JOB",
                                  .summary = "stop handing out a job's trials; running ones come back with their checkpoints",
                                  .help = "",
                                  .min_args = 1,
                                  .max_args = 1,
                                  .run = run};
