/* The option parser: GNU manners (--name value, --name=value, -n value, -nvalue, --, options after arguments), driven by the tables. */
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "cli/cli.h"

const struct cli_opt cli_common[] = {
    {"dir", 0, "DIR", "the store in DIR; where no tautd serves it, one is started for this command alone", false},
    {"socket", 0, "PATH", "the tautd that listens on PATH (default: $TAUT_SOCKET, else $XDG_RUNTIME_DIR/taut/tautd.sock)", false},
    {"json", 0, NULL, "machine output", false},
    {"no-color", 0, NULL, "no colours (also: NO_COLOR in the environment, TERM=dumb)", false},
    {"quiet", 'q', NULL, "results and errors alone", false},
    {"verbose", 'v', NULL, "say more; twice: everything", false},
    {"help", 'h', NULL, "this help", false},
    {0},
};

/* ---- finding ---- */

struct slot { /* where an option's value goes */
    const struct cli_opt *opt;
    const char **value;
};

static bool at(const struct cli_opt *table, const char **values, int i, struct slot *out)
{
    *out = (struct slot){&table[i], &values[i]};
    return true;
}

static bool find_long(struct cli *c, const char *name, size_t n, struct slot *out)
{
    for (int i = 0; c->cmd->options && c->cmd->options[i].name; i++)
        if (strlen(c->cmd->options[i].name) == n && !strncmp(c->cmd->options[i].name, name, n)) return at(c->cmd->options, c->value, i, out);
    for (int i = 0; cli_common[i].name; i++)
        if (strlen(cli_common[i].name) == n && !strncmp(cli_common[i].name, name, n)) return at(cli_common, c->common, i, out);
    return false;
}

static bool find_letter(struct cli *c, char letter, struct slot *out)
{
    for (int i = 0; c->cmd->options && c->cmd->options[i].name; i++)
        if (c->cmd->options[i].letter == letter) return at(c->cmd->options, c->value, i, out);
    for (int i = 0; cli_common[i].name; i++)
        if (cli_common[i].letter == letter) return at(cli_common, c->common, i, out);
    return false;
}

static const char *nearest_option(const struct cli *c, const char *name)
{
    const char *words[2 * CLI_OPTS_MAX];
    int n = 0;
    for (int i = 0; c->cmd->options && c->cmd->options[i].name; i++) words[n++] = c->cmd->options[i].name;
    for (int i = 0; cli_common[i].name; i++) words[n++] = cli_common[i].name;
    return base_nearest(name, words, n);
}

/* "taut front --help", for the last part of an error. */
static const char *see_help(const struct cli_cmd *cmd)
{
    static char text[64];
    snprintf(text, sizeof text, "see taut %s --help", cmd->name);
    return text;
}

static int unknown_option(const struct cli *c, const char *shown, const char *name)
{
    char todo[96];
    const char *near = *name ? nearest_option(c, name) : NULL;
    if (near) snprintf(todo, sizeof todo, "did you mean --%s?", near);
    return cli_fail(CLI_CALL, c->cmd->name, near ? todo : see_help(c->cmd), "no option %s", shown);
}

/* ---- taking ---- */

static int check_word(const struct cli *c, const struct cli_opt *o, const char *value)
{
    size_t n = strlen(value);
    if (!strchr(o->arg, '|')) return CLI_OK;
    for (const char *p = o->arg; p; p = strchr(p, '|')) {
        p += *p == '|';
        if (strcspn(p, "|") == n && !strncmp(p, value, n)) return CLI_OK;
    }
    return cli_fail(CLI_CALL, c->cmd->name, see_help(c->cmd), "--%s: '%s' is none of %s", o->name, value, o->arg);
}

static int take(struct cli *c, const struct slot *s, const char *value)
{
    if (s->opt->promised) return cli_fail(CLI_CALL, c->cmd->name, "leave it out", "--%s is not built yet", s->opt->name);
    if (s->opt->arg) {
        int rc = check_word(c, s->opt, value);
        if (rc) return rc;
    }
    if (s->opt->letter == 'v' && !s->opt->arg) c->verbose++;
    *s->value = value;
    return CLI_OK;
}

static int parse_long(struct cli *c, int argc, char **argv, int *i)
{
    const char *name = argv[*i] + 2, *equals = strchr(name, '=');
    size_t n = equals ? (size_t)(equals - name) : strlen(name);
    char bare[64];
    struct slot s;
    snprintf(bare, sizeof bare, "%.*s", (int)n, name);
    if (!find_long(c, name, n, &s)) return unknown_option(c, argv[*i], bare);
    if (!s.opt->arg)
        return equals ? cli_fail(CLI_CALL, c->cmd->name, see_help(c->cmd), "--%s takes no value", s.opt->name) : take(c, &s, "");
    if (equals) return take(c, &s, equals + 1);
    if (*i + 1 >= argc) return cli_fail(CLI_CALL, c->cmd->name, see_help(c->cmd), "--%s needs a value (%s)", s.opt->name, s.opt->arg);
    return take(c, &s, argv[++*i]);
}

static int parse_letters(struct cli *c, int argc, char **argv, int *i)
{
    for (const char *p = argv[*i] + 1; *p; p++) {
        char shown[3] = {'-', *p, 0};
        struct slot s;
        if (!find_letter(c, *p, &s)) return unknown_option(c, shown, "");
        if (!s.opt->arg) {
            int rc = take(c, &s, "");
            if (rc) return rc;
            continue;
        }
        if (p[1]) return take(c, &s, p + 1);
        if (*i + 1 >= argc) return cli_fail(CLI_CALL, c->cmd->name, see_help(c->cmd), "%s needs a value (%s)", shown, s.opt->arg);
        return take(c, &s, argv[++*i]);
    }
    return CLI_OK;
}

static const char *common_value(const struct cli *c, const char *name)
{
    for (int i = 0; cli_common[i].name; i++)
        if (!strcmp(cli_common[i].name, name)) return c->common[i];
    return NULL;
}

int cli_parse(struct cli *c, const struct cli_cmd *cmd, int argc, char **argv)
{
    bool only_args = false;
    *c = (struct cli){.cmd = cmd};
    for (int i = 0; i < argc && strcmp(argv[i], "--"); i++) { /* whoever asks for help need not have the rest right */
        struct slot s;
        if ((!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h")) && find_long(c, "help", 4, &s)) return take(c, &s, "");
    }
    for (int i = 0; i < argc; i++) {
        int rc = CLI_OK;
        if (!only_args && !strcmp(argv[i], "--")) only_args = true;
        else if (!only_args && !strncmp(argv[i], "--", 2)) rc = parse_long(c, argc, argv, &i);
        else if (!only_args && argv[i][0] == '-' && argv[i][1]) rc = parse_letters(c, argc, argv, &i);
        else if (c->nargs < cmd->max_args) c->arg[c->nargs++] = argv[i];
        else rc = cli_fail(CLI_CALL, cmd->name, see_help(cmd), "one argument too many: '%s'", argv[i]);
        if (rc) return rc;
    }
    if (c->nargs < cmd->min_args) return cli_fail(CLI_CALL, cmd->name, see_help(cmd), "needs %s", cmd->args);
    c->dir = common_value(c, "dir");
    c->socket = common_value(c, "socket");
    c->json = common_value(c, "json");
    c->quiet = common_value(c, "quiet");
    if (c->dir && c->socket) return cli_fail(CLI_CALL, cmd->name, "give one of them", "--dir names a store, --socket a tautd");
    if (c->dir && !*c->dir) return cli_fail(CLI_CALL, cmd->name, "give a folder", "--dir is empty");
    if (c->socket && !*c->socket) return cli_fail(CLI_CALL, cmd->name, "give a path", "--socket is empty");
    return CLI_OK;
}

/* ---- reading ---- */

static int index_of(const struct cli *c, const char *name)
{
    for (int i = 0; c->cmd->options[i].name; i++)
        if (!strcmp(c->cmd->options[i].name, name)) return i;
    abort(); /* a verb asks for an option that its own table does not have */
}

bool cli_has(const struct cli *c, const char *name)
{
    return c->value[index_of(c, name)];
}

const char *cli_str(const struct cli *c, const char *name, const char *dflt)
{
    const char *v = c->value[index_of(c, name)];
    return v ? v : dflt;
}

static bool read_number(const char *text, char **end, double *out)
{
    double v = strtod(text, end);
    if (*end == text) return false;
    switch (**end) {
    case 'k': v *= 1e3, ++*end; break;
    case 'M': v *= 1e6, ++*end; break;
    case 'G': case 'B': v *= 1e9, ++*end; break;
    default: break;
    }
    *out = v;
    return isfinite(v);
}

double cli_num(struct cli *c, const char *name, double dflt, double min, double max)
{
    const char *text = c->value[index_of(c, name)];
    char *end;
    double v;
    if (!text) return dflt;
    if (read_number(text, &end, &v) && !*end && v >= min && v <= max) return v;
    if (!c->bad)
        c->bad = cli_fail(CLI_CALL, c->cmd->name, NULL, isfinite(max) ? "--%s: '%s' is not a number from %.15g to %.15g" : "--%s: '%s' is not a number from %.15g up",
                          name, text, min, max);
    return dflt;
}

int64_t cli_int(struct cli *c, const char *name, int64_t dflt, int64_t min, int64_t max)
{
    double v = cli_num(c, name, (double)dflt, (double)min, (double)max);
    if (v == floor(v)) return (int64_t)v;
    if (!c->bad) c->bad = cli_fail(CLI_CALL, c->cmd->name, NULL, "--%s: '%s' is not a whole number", name, cli_str(c, name, ""));
    return dflt;
}

int cli_int_list(struct cli *c, const char *name, const char *dflt, int64_t least, int64_t *out, int max)
{
    const char *text = cli_str(c, name, dflt);
    int n = 0;
    for (char *p = (char *)text;; p++) {
        char *end;
        double v;
        if (n == max || !read_number(p, &end, &v) || v != floor(v) || v < (double)least || v > 1e15 || (*end && *end != ',')) {
            if (!c->bad)
                c->bad = cli_fail(CLI_CALL, c->cmd->name, NULL, "--%s: '%s' is not a list of at most %d whole numbers from %lld up, such as 128,1024",
                                  name, text, max, (long long)least);
            return 0;
        }
        out[n++] = (int64_t)v;
        if (!*end) return n;
        p = end;
    }
}

/* ---- saying what is wrong ---- */

static void one_line(char *text)
{
    for (char *p = text; *p; p++)
        if ((unsigned char)*p < ' ' || *p == 127) *p = '?';
}

int cli_fail(int status, const char *what, const char *todo, const char *why, ...)
{
    char text[1400], line[2200];
    va_list ap;
    va_start(ap, why);
    vsnprintf(text, sizeof text, why, ap);
    va_end(ap);
    snprintf(line, sizeof line, "taut: %s%s%s%s%s", what ? what : "", what && *what ? ": " : "", text, todo && *todo ? "; " : "", todo ? todo : "");
    one_line(line);
    fflush(stdout);
    fprintf(stderr, "%s\n", line);
    return status;
}

int cli_fail_err(int status, const char *what, const char *todo, const struct base_err *err)
{
    char text[1100];
    return cli_fail(status, what, todo, "%s", base_err_text(err, text, sizeof text));
}

int cli_exit_of(st_t st)
{
    switch (st) {
    case ST_OK: return CLI_OK;
    case ST_EINVAL: case ST_EPARSE: case ST_ENOTSUP: case ST_ETOOBIG: return CLI_CALL;
    case ST_ENOTFOUND: return CLI_NOTHING;
    case ST_ECANCELED: return CLI_INTERRUPTED;
    default: return CLI_FAILED;
    }
}

void cli_note(const struct cli *c, const char *fmt, ...)
{
    char text[2048];
    va_list ap;
    if (c->quiet) return;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    fflush(stdout);
    fprintf(stderr, "%s\n", text);
}

int cli_end(int status)
{
    if (!fflush(stdout) && !ferror(stdout)) return status;
    if (errno == EPIPE) return status ? status : CLI_FAILED; /* whoever read has enough; no words for that */
    return cli_fail(CLI_FAILED, "standard output", NULL, "%s", strerror(errno));
}
