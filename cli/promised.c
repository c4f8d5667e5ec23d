/* Verbs that the contract names and that are not built yet. main refuses them by name. */
#include "cli/cli.h"

static int refuse(struct cli *c)
{
    return cli_fail(CLI_CALL, c->cmd->name, NULL, "not built yet");
}

const struct cli_cmd cmd_predict = {
    .name = "predict", .args = "TRIAL", .summary = "loss by the job's scaling fit, with its interval", .help = "", .promised = true, .run = refuse};
