/* Completion for three shells, from the tables. Files and folders where an argument or option names one; words where it lists them. */
#include <string.h>

#include "cli/cli.h"
#include "searchspace/families/family.h"

static bool is_file(const char *arg)
{
    return strstr(arg, "FILE") || strstr(arg, "PATH") || strstr(arg, "DIR") || strstr(arg, ".json") || strstr(arg, "ARCH") || strstr(arg, ".safetensors");
}

static bool is_words(const char *arg)
{
    return !strcmp(arg, "FAMILY") || (strchr(arg, '|') && !is_file(arg));
}

/* With spaces between. */
static void words(FILE *f, const char *arg)
{
    const char *const *family = strcmp(arg, "FAMILY") ? NULL : space_family_names();
    for (int i = 0; family && family[i]; i++) fprintf(f, "%s%s", i ? " " : "", family[i]);
    if (family) return;
    for (const char *p = arg; *p; p++) fputc(*p == '|' ? ' ' : *p, f);
}

static void verbs(FILE *f)
{
    for (int i = 0, n = 0; cli_cmds[i]; i++)
        fprintf(f, "%s%s", n++ ? " " : "", cli_cmds[i]->name);
}

/* In single quotes for a shell; zsh wants its own signs escaped on top. */
static void quoted(FILE *f, const char *text, const char *escape)
{
    for (const char *p = text; *p; p++) {
        if (*p == '\'') fputs("'\\''", f);
        else if (strchr(escape, *p)) fprintf(f, "\\%c", *p);
        else fputc(*p, f);
    }
}

/* ---- bash ---- */

static void bash_options(FILE *f, const struct cli_opt *o)
{
    for (; o && o->name; o++)
        if (!o->promised) fprintf(f, " --%s", o->name);
}

static void bash_values(FILE *f, const char *verb, const struct cli_opt *o)
{
    for (; o && o->name; o++) {
        if (!o->arg || o->promised) continue;
        fprintf(f, "    %s,--%s", verb, o->name);
        if (o->letter) fprintf(f, "|%s,-%c", verb, o->letter);
        fputs(") ", f);
        if (is_words(o->arg)) {
            fputs("COMPREPLY=($(compgen -W '", f);
            words(f, o->arg);
            fputs("' -- \"$cur\"))", f);
        } else if (is_file(o->arg)) {
            fprintf(f, "_taut_files -%c", strstr(o->arg, "DIR") ? 'd' : 'f');
        } else {
            fputs(":", f);
        }
        fputs("; return ;;\n", f);
    }
}

static void bash(FILE *f)
{
    fputs("# bash completion for taut, made by `taut completion bash`\n"
          "_taut_files()\n{\n    compopt -o filenames 2>/dev/null\n    mapfile -t COMPREPLY < <(compgen \"$1\" -- \"$cur\")\n}\n_taut()\n{\n"
          "    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} verb=${COMP_WORDS[1]}\n    COMPREPLY=()\n"
          "    if [ \"$cur\" = = ]; then cur=\n    elif [ \"$prev\" = = ]; then prev=${COMP_WORDS[COMP_CWORD-2]}; fi\n"
          "    if [ \"$COMP_CWORD\" -eq 1 ]; then\n        COMPREPLY=($(compgen -W '",
          f);
    verbs(f);
    fputs(" --help --version' -- \"$cur\"))\n        return\n    fi\n    case $verb,$prev in\n", f);
    for (int i = 0; cli_cmds[i]; i++) {
        bash_values(f, cli_cmds[i]->name, cli_cmds[i]->options);
    }
    bash_values(f, "*", cli_common);
    fputs("    esac\n    case $verb in\n", f);
    for (int i = 0; cli_cmds[i]; i++) {
        const struct cli_cmd *cmd = cli_cmds[i];
        fprintf(f, "    %s)\n        if [[ $cur == -* ]]; then COMPREPLY=($(compgen -W '", cmd->name);
        bash_options(f, cmd->options);
        bash_options(f, cli_common);
        fputs("' -- \"$cur\"))\n", f);
        if (!strcmp(cmd->name, "help")) {
            fputs("        else COMPREPLY=($(compgen -W '", f);
            verbs(f);
            fputs("' -- \"$cur\"))\n", f);
        } else if (is_words(cmd->args)) {
            fputs("        else COMPREPLY=($(compgen -W '", f);
            words(f, cmd->args);
            fputs("' -- \"$cur\"))\n", f);
        } else if (is_file(cmd->args)) {
            fputs("        else _taut_files -f\n", f);
        }
        fputs("        fi ;;\n", f);
    }
    fputs("    esac\n}\ncomplete -F _taut taut\n", f);
}

/* ---- zsh ---- */

static void zsh_options(FILE *f, const struct cli_opt *o)
{
    for (; o && o->name; o++) {
        if (o->promised) continue;
        if (o->letter) fprintf(f, " \\\n            '(-%c --%s)'{-%c,--%s%s}'[", o->letter, o->name, o->letter, o->name, o->arg ? "=" : "");
        else fprintf(f, " \\\n            '--%s%s[", o->name, o->arg ? "=" : "");
        quoted(f, o->help, "[]:\\");
        fputs("]", f);
        if (o->arg) {
            fputs(":", f);
            quoted(f, is_words(o->arg) ? o->name : o->arg, "[]:\\");
            fputs(":", f);
            if (is_words(o->arg)) {
                fputs("(", f);
                words(f, o->arg);
                fputs(")", f);
            } else if (is_file(o->arg)) {
                fputs(strstr(o->arg, "DIR") ? "_files -/" : "_files", f);
            }
        }
        fputs("'", f);
    }
}

static void zsh(FILE *f)
{
    fputs("#compdef taut\n# zsh completion for taut, made by `taut completion zsh`\n_taut()\n{\n    local -a verbs\n    verbs=(\n", f);
    for (int i = 0; cli_cmds[i]; i++) {
        fprintf(f, "        '%s:", cli_cmds[i]->name);
        quoted(f, cli_cmds[i]->summary, ":\\");
        fputs("'\n", f);
    }
    fputs("    )\n    if (( CURRENT == 2 )); then\n        _describe 'command' verbs\n        return\n    fi\n    local verb=$words[2]\n"
          "    shift words\n    (( CURRENT-- ))\n    case $verb in\n",
          f);
    for (int i = 0; cli_cmds[i]; i++) {
        const struct cli_cmd *cmd = cli_cmds[i];
        fprintf(f, "        %s) _arguments", cmd->name);
        zsh_options(f, cmd->options);
        zsh_options(f, cli_common);
        if (!strcmp(cmd->name, "help")) {
            fputs(" \\\n            '1:command:(", f);
            verbs(f);
            fputs(")'", f);
        } else if (is_words(cmd->args)) {
            fputs(" \\\n            '1:word:(", f);
            words(f, cmd->args);
            fputs(")'", f);
        } else if (is_file(cmd->args)) {
            fputs(" \\\n            '1:file:_files'", f);
        } else if (*cmd->args) {
            fprintf(f, " \\\n            '*:%s:'", cmd->args);
        }
        fputs(" ;;\n", f);
    }
    fputs("    esac\n}\nif [ \"$funcstack[1]\" = _taut ]; then _taut \"$@\"; else compdef _taut taut; fi\n", f);
}

/* ---- fish ---- */

static void fish_options(FILE *f, const char *verb, const struct cli_opt *o)
{
    for (; o && o->name; o++) {
        if (o->promised) continue;
        fputs("complete -c taut -n '", f);
        if (verb) fprintf(f, "__fish_seen_subcommand_from %s", verb);
        else fputs("not __fish_use_subcommand", f);
        fprintf(f, "' -l %s", o->name);
        if (o->letter) fprintf(f, " -s %c", o->letter);
        if (o->arg) {
            fputs(is_file(o->arg) ? " -r -F" : " -x", f);
            if (is_words(o->arg)) {
                fputs(" -a '", f);
                words(f, o->arg);
                fputs("'", f);
            }
        }
        fputs(" -d '", f);
        for (const char *p = o->help; *p; p++) {
            if (*p == '\'' || *p == '\\') fputc('\\', f);
            fputc(*p, f);
        }
        fputs("'\n", f);
    }
}

static void fish(FILE *f)
{
    fputs("# fish completion for taut, made by `taut completion fish`\ncomplete -c taut -f\n", f);
    for (int i = 0; cli_cmds[i]; i++) {
        const struct cli_cmd *cmd = cli_cmds[i];
        fprintf(f, "complete -c taut -n __fish_use_subcommand -a %s -d '", cmd->name);
        for (const char *p = cmd->summary; *p; p++) {
            if (*p == '\'' || *p == '\\') fputc('\\', f);
            fputc(*p, f);
        }
        fputs("'\n", f);
        if (is_words(cmd->args) || !strcmp(cmd->name, "help")) {
            fprintf(f, "complete -c taut -n '__fish_seen_subcommand_from %s' -a '", cmd->name);
            if (is_words(cmd->args)) words(f, cmd->args);
            else verbs(f);
            fputs("'\n", f);
        } else if (is_file(cmd->args)) {
            fprintf(f, "complete -c taut -n '__fish_seen_subcommand_from %s' -F\n", cmd->name);
        }
        fish_options(f, cmd->name, cmd->options);
    }
    fish_options(f, NULL, cli_common);
}

bool cli_completion(FILE *f, const char *shell)
{
    if (!strcmp(shell, "bash")) bash(f);
    else if (!strcmp(shell, "zsh")) zsh(f);
    else if (!strcmp(shell, "fish")) fish(f);
    else return false;
    return true;
}
