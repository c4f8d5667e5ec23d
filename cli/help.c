/* `taut help`, `--help` on every verb, and the manual page: all three from the tables. */
#include <string.h>

#include "cli/cli.h"
#include "config.h"

void cli_help_all(FILE *f)
{
    fputs("usage: taut COMMAND [ARGUMENTS] [OPTIONS]\n\nTaut searches for efficient language models: architectures that are accurate, fast and small, on this machine.\n\n", f);
    for (int i = 0; cli_cmds[i]; i++)
        fprintf(f, "  %-11s %s\n", cli_cmds[i]->name, cli_cmds[i]->summary);
    fputs("\nJOB is a job's number or name (the newest of that name), TRIAL a trial's number, ARCH a file or at least six digits of an architecture's id.\n"
          "`taut help COMMAND` says more; `taut run JOB.json` needs nothing before it.\n",
          f);
}

static void print_option(FILE *f, const struct cli_opt *o)
{
    char left[96];
    int n = snprintf(left, sizeof left, "%s%c%s --%s%s%s", o->letter ? "-" : " ", o->letter ? o->letter : ' ', o->letter ? "," : " ", o->name, o->arg ? " " : "",
                     o->arg ? o->arg : "");
    int more = 0; /* bytes of characters beyond their first */
    for (const char *p = left; *p; p++) more += ((unsigned char)*p & 0xc0) == 0x80;
    fprintf(f, "  %-*s%s%s%s\n", 30 + more, left, n - more > 28 ? "\n                                " : "", o->help, o->promised ? " (not built yet)" : "");
}

void cli_help_cmd(FILE *f, const struct cli_cmd *cmd)
{
    fprintf(f, "usage: taut %s%s%s [OPTIONS]\n\n%s.\n", cmd->name, *cmd->args ? " " : "", cmd->args, cmd->summary);
    if (*cmd->help) fprintf(f, "\n%s", cmd->help);
    if (cmd->options && cmd->options[0].name) fputs("\noptions:\n", f);
    for (int i = 0; cmd->options && cmd->options[i].name; i++) print_option(f, &cmd->options[i]);
    fputs("\non every command:\n", f);
    for (int i = 0; cli_common[i].name; i++) print_option(f, &cli_common[i]);
}

/* ---- the manual page ---- */

/* The character that begins at p, if it is more than one byte of UTF-8: its code, and in *n how many more bytes it has. */
static unsigned wide(const char *p, int *n)
{
    unsigned char c = (unsigned char)*p;
    *n = c >= 0xf0 ? 3 : c >= 0xe0 ? 2 : 1;
    unsigned code = c & (0x3fu >> *n);
    for (int i = 1; i <= *n; i++) code = code << 6 | ((unsigned char)p[i] & 0x3f);
    return code;
}

/* Text of the tables as roff: no line may begin with a control character, a hyphen is meant as one, and roff reads ASCII. */
static void roff(FILE *f, const char *text)
{
    bool start = true;
    int more;
    for (const char *p = text; *p; p++) {
        if (start && (*p == '.' || *p == '\'')) fputs("\\&", f);
        if (*p == '-') fputs("\\-", f);
        else if (*p == '\\') fputs("\\e", f);
        else if ((unsigned char)*p >= 0xc0) fprintf(f, "\\[u%04X]", wide(p, &more)), p += more;
        else fputc(*p, f);
        start = *p == '\n';
    }
}

static void roff_options(FILE *f, const struct cli_opt *o)
{
    for (; o->name; o++) {
        fputs(".TP\n", f);
        if (o->letter) fprintf(f, "\\fB\\-%c\\fR, ", o->letter);
        fputs("\\fB\\-\\-", f);
        roff(f, o->name);
        fputs("\\fR", f);
        if (o->arg) {
            fputs(" \\fI", f);
            roff(f, o->arg);
            fputs("\\fR", f);
        }
        fputc('\n', f);
        roff(f, o->help);
        fputs(o->promised ? " (not built yet)\n" : "\n", f);
    }
}

void cli_help_man(FILE *f)
{
    fputs(".TH TAUT 1 \"\" \"Taut " PACKAGE_VERSION_TEXT "\" \"User Commands\"\n.SH NAME\ntaut \\- search for efficient language models\n"
          ".SH SYNOPSIS\n.B taut\n\\fICOMMAND\\fR [\\fIARGUMENTS\\fR] [\\fIOPTIONS\\fR]\n.SH DESCRIPTION\n"
          "Searches for architectures of language models that are accurate, fast and small on this machine. "
          "\\fBtaut run\\fR \\fIJOB.json\\fR needs nothing before it.\n.PP\n"
          "\\fIJOB\\fR is a job's number or name (the newest of that name), \\fITRIAL\\fR a trial's number, \\fIARCH\\fR a file or at least six digits of an "
          "architecture's id.\n.SH COMMANDS\n",
          f);
    for (int i = 0; cli_cmds[i]; i++) {
        const struct cli_cmd *cmd = cli_cmds[i];
        fprintf(f, ".SS \"taut %s%s%s\"\n", cmd->name, *cmd->args ? " " : "", cmd->args);
        roff(f, cmd->summary);
        fputs(".\n", f);
        if (*cmd->help) {
            fputs(".PP\n", f);
            roff(f, cmd->help);
        }
        if (cmd->options) roff_options(f, cmd->options);
    }
    fputs(".SH OPTIONS\nOn every command:\n", f);
    roff_options(f, cli_common);
    fputs(".SH EXIT STATUS\n.TP\n0\ndone\n.TP\n1\nthe work failed\n.TP\n2\nthe call was wrong\n.TP\n3\nno daemon there\n.TP\n4\nnothing found\n.TP\n130\n"
          "interrupted (Ctrl\\-C); \\fBtaut run\\fR goes on where it was when started again\n"
          ".SH ENVIRONMENT\n.TP\nTAUT_SOCKET, XDG_RUNTIME_DIR\nwhere tautd listens when neither \\fB\\-\\-socket\\fR nor \\fB\\-\\-dir\\fR says so\n.TP\n"
          "NO_COLOR, TERM\ncolours\n.SH SEE ALSO\n.BR tautd (8),\n.BR taut\\-evaluator (1)\n",
          f);
}
