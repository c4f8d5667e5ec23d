#include "config.h"

#include "cli/archarg.h"

#include <string.h>
#include <unistd.h>

#include "cli/connect.h"
#include "cli/jobfile.h"
#include "cli/out.h"
#include "searchspace/arch_json.h"
#include "searchspace/metric.h"

bool archarg_in_store(const char *text)
{
    size_t n = strlen(text), digits = strspn(text, "0123456789");
    bool hex = n >= 6 && n < BASE_ID_HEX && strspn(text, "0123456789abcdefABCDEF") == n;
    return n && (digits == n || hex) && access(text, F_OK);
}

static int from_store(const struct cli *c, const char *text, struct arch *a, json_t **trial)
{
    struct conn k;
    struct base_err err = BASE_ERR_INIT;
    json_t *found = NULL, *v;
    int rc = conn_open(&k, c, false);
    if (!rc) rc = conn_trial(&k, text, 0, &found);
    conn_close(&k);
    if (rc) return rc;
    v = json_object_get(found, "arch");
    if (!json_object_get(v, "taut"))
        rc = cli_fail(CLI_CALL, text, NULL, "trial %lld is of a custom space: it has no layers", (long long)out_int(found, "id"));
    else if (space_arch_from_json(a, v, "arch", &err))
        rc = cli_fail_err(CLI_FAILED, text, "are taut and tautd of the same version?", &err);
    if (!rc && trial) *trial = json_incref(found);
    json_decref(found);
    return rc;
}

int archarg_read(const struct cli *c, const char *text, struct arch *a, json_t **trial)
{
    if (trial) *trial = NULL;
    return archarg_in_store(text) ? from_store(c, text, a, trial) : archfile_read(a, text);
}

int archarg_contexts(const struct cli *c, const int64_t *context, int n)
{
    for (int i = 0; i < n; i++) {
        char name[METRIC_NAME_MAX];
        struct metric m;
        struct base_err err = BASE_ERR_INIT;
        snprintf(name, sizeof name, "state_bytes@%lld", (long long)context[i]);
        if (space_metric_parse(&m, name, false, "", &err)) return cli_fail(CLI_CALL, c->cmd->name, NULL, "--context: %s", err.what);
    }
    return CLI_OK;
}
