/* taut resume: goes on with a paused job, or extends a finished one. */
#include "cli/change.h"

static const struct cli_opt options[] = {
    {"evaluations", 'n', "N", "a new bound on evaluations, all of the job's counted", false},
    {"hours", 0, "H", "a new bound on hours with an evaluator at work, all of the job's counted", false},
    {0},
};

static int run(struct cli *c)
{
    json_t *budget = json_object(), *extra = NULL;
    int64_t evaluations = cli_int(c, "evaluations", 0, 1, 1000000000000);
    double hours = cli_num(c, "hours", 0, 0, 1e9);
    if (cli_has(c, "evaluations")) json_object_set_new(budget, "evaluations", json_integer(evaluations));
    if (cli_has(c, "hours")) json_object_set_new(budget, "hours", json_real(hours));
    if (json_object_size(budget)) extra = json_pack("{s:O}", "budget", budget);
    json_decref(budget);
    if (!c->bad) return cli_change(c, "job.resume", extra);
    json_decref(extra);
    return c->bad;
}

const struct cli_cmd cmd_resume = {.name = "resume",
                                   .args = "JOB",
                                   .summary = "go on with a paused job, or extend a finished one",
                                   .help = "A finished job goes on when --evaluations or --hours gives it more than it has used.\n",
                                   .options = options,
                                   .min_args = 1,
                                   .max_args = 1,
                                   .run = run};
