/* taut: finds the verb in the table and runs it. */
#include <limits.h>
#include <locale.h>
#include <signal.h>
#include <string.h>

#include "base/json.h"
#include "base/log.h"
#include "cli/cli.h"
#include "cli/format.h"
#include "cli/term.h"
#include "config.h"

#define CMD(id) extern const struct cli_cmd cmd_##id;
#include "cli/cmds.def"
#undef CMD

const struct cli_cmd *const cli_cmds[] = {
#define CMD(id) &cmd_##id,
#include "cli/cmds.def"
#undef CMD
    NULL,
};

const struct cli_cmd *cli_cmd_find(const char *name)
{
    for (int i = 0; cli_cmds[i]; i++)
        if (!strcmp(cli_cmds[i]->name, name)) return cli_cmds[i];
    return NULL;
}

static int unknown_verb(const char *verb)
{
    const char *words[64], *near;
    char todo[96];
    int n = 0;
    for (; cli_cmds[n]; n++) words[n] = cli_cmds[n]->name;
    near = base_nearest(verb, words, n);
    if (near) snprintf(todo, sizeof todo, "did you mean 'taut %s'?", near);
    return cli_fail(CLI_CALL, NULL, near ? todo : "see taut help", *verb == '-' ? "no option %s before a command" : "no command '%s'", verb);
}

/* argv[0] up to its last slash. */
static const char *called_at(const char *program)
{
    static char at[PATH_MAX];
    char folder[PATH_MAX / 2];
    const char *slash = strrchr(program, '/');
    if (!slash || slash - program + 2 > (long)sizeof folder) return "";
    snprintf(folder, sizeof folder, "%.*s", (int)(slash - program + 1), program);
    return fmt_shell(at, sizeof at, folder);
}

int main(int argc, char **argv)
{
    const char *verb = argc > 1 ? argv[1] : NULL;
    bool help = false, no_color = false;
    struct cli c;
    setlocale(LC_CTYPE, "");
    signal(SIGPIPE, SIG_IGN);
    base_log_init("taut", LOG_WARN);
    if (!verb) {
        cli_help_all(stderr);
        return CLI_CALL;
    }
    if (!strcmp(verb, "--help") || !strcmp(verb, "-h")) {
        cli_help_all(stdout);
        return cli_end(CLI_OK);
    }
    if (!strcmp(verb, "--version")) {
        puts("taut (Taut) " PACKAGE_VERSION_TEXT);
        return cli_end(CLI_OK);
    }
    const struct cli_cmd *cmd = cli_cmd_find(verb);
    if (!cmd) return unknown_verb(verb);
    int rc = cli_parse(&c, cmd, argc - 2, argv + 2);
    if (rc) return rc;
    c.at = called_at(argv[0]);
    for (int i = 0; cli_common[i].name; i++) {
        help |= c.common[i] && !strcmp(cli_common[i].name, "help");
        no_color |= c.common[i] && !strcmp(cli_common[i].name, "no-color");
    }
    if (help) {
        cli_help_cmd(stdout, cmd);
        return cli_end(CLI_OK);
    }
    base_log_init("taut", c.quiet ? LOG_ERROR : c.verbose > 1 ? LOG_DEBUG : c.verbose ? LOG_INFO : LOG_WARN);
    term_init(no_color);
    return cli_end(cmd->run(&c));
}
