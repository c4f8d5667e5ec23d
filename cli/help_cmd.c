/* taut help, taut completion. */
#include <string.h>

#include "base/json.h"
#include "cli/cli.h"

static const struct cli_opt help_options[] = {
    {"man", 0, NULL, "the manual page, as roff", false},
    {0},
};

static int run_help(struct cli *c)
{
    if (cli_has(c, "man")) {
        cli_help_man(stdout);
        return CLI_OK;
    }
    if (!c->nargs) {
        cli_help_all(stdout);
        return CLI_OK;
    }
    const struct cli_cmd *cmd = cli_cmd_find(c->arg[0]);
    if (!cmd) return cli_fail(CLI_CALL, "help", "see taut help", "no command '%s'", c->arg[0]);
    cli_help_cmd(stdout, cmd);
    return CLI_OK;
}

const struct cli_cmd cmd_help = {.name = "help",
                                 .args = "[COMMAND]",
                                 .summary = "what there is, or all about one command",
                                 .help = "",
                                 .options = help_options,
                                 .max_args = 1,
                                 .run = run_help};

static int run_completion(struct cli *c)
{
    if (cli_completion(stdout, c->arg[0])) return CLI_OK;
    return cli_fail(CLI_CALL, "completion", "it is one of bash, zsh, fish", "no shell '%s'", c->arg[0]);
}

const struct cli_cmd cmd_completion = {
    .name = "completion",
    .args = "bash|zsh|fish",
    .summary = "completion for a shell",
    .help = "Installed by `make install`. By hand, for this shell alone: source <(taut completion bash)\n",
    .min_args = 1,
    .max_args = 1,
    .run = run_completion};
