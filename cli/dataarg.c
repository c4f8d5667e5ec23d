#include "cli/dataarg.h"

#include <stdlib.h>
#include <string.h>

int dataarg_exit(st_t st)
{
    return st == ST_ENOMEM || st == ST_ENOFIT || st == ST_ENONFINITE || st == ST_EIO || st == ST_ENOSPC ? CLI_FAILED : CLI_CALL;
}

static st_t check_valid(struct data *d, int T, struct base_err *err)
{
    int32_t *x = malloc(2 * (size_t)T * sizeof *x);
    st_t st = x ? ST_OK : ST_ENOMEM;
    for (int i = 0; !st && i < data_valid_windows(d, T); i++) st = data_valid_window(d, i, T, x, x + T, err);
    free(x);
    return st;
}

int dataarg_open(struct cli *c, const struct arch *a, struct data **out)
{
    struct base_err err = BASE_ERR_INIT;
    const char *valid = cli_str(c, "valid", "0.05");
    int vocab = (int)cli_int(c, "vocab", 0, 2, 65536), needed = vocab ? vocab : 256;
    char *end;
    struct data *d = NULL;
    double share = strtod(valid, &end);
    bool number = *valid && !*end;
    if (!*cli_str(c, "data", "")) return cli_fail(CLI_CALL, "--data", "give a file", "is empty");
    if (!*valid) return cli_fail(CLI_CALL, "--valid", "give a share or a file", "is empty");
    if (number && !(share > 0 && share <= 0.9)) return cli_fail(CLI_CALL, c->cmd->name, NULL, "--valid: '%s' is not a share above 0 and at most 0.9", valid);
    if (a->vocab < needed)
        return cli_fail(CLI_CALL, c->arg[0], NULL, "its vocabulary of %d is smaller than the data's %d%s", a->vocab, needed, vocab ? "" : " (bytes)");
    st_t st = data_open_path(&d, cli_str(c, "data", ""), number ? NULL : valid, share, vocab, a->context, &err);
    if (!st) st = check_valid(d, a->context, &err);
    if (!st) {
        *out = d;
        return CLI_OK;
    }
    data_close(d);
    /* said in a job's words */
    bool held = !strcmp(err.where, "data.valid"), kind = strstr(err.what, "{\"vocab\": N}") != NULL;
    if (kind && vocab) return cli_fail(CLI_CALL, held ? "--valid" : "--data", "leave out --vocab", "is text, not token shards (.bin)");
    if (kind) return cli_fail(CLI_CALL, held ? "--valid" : "--data", "say how many tokens there are: --vocab N", "is token shards (.bin), not text");
    if (held || !strcmp(err.where, "data.train")) snprintf(err.where, sizeof err.where, "%s", held ? "--valid" : "--data");
    if (!*err.what) base_err_set(&err, st, err.where, "%s", base_status_text(st));
    return cli_fail_err(dataarg_exit(st), NULL, NULL, &err);
}
