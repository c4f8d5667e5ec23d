#include "cli/change.h"

#include <string.h>

#include "cli/connect.h"
#include "cli/out.h"

int cli_change(struct cli *c, const char *method, json_t *extra)
{
    struct conn k;
    json_t *info, *result, *params = extra ? extra : json_object();
    int64_t id = 0;
    int rc = conn_open(&k, c, false);
    if (!rc) rc = conn_job_brief(&k, c->arg[0], &info);
    if (!rc) {
        id = out_int(info, "id");
        json_decref(info);
        json_object_set_new(params, "id", json_integer(id));
        rc = conn_call(&k, method, json_incref(params), NULL, &result);
    }
    if (!rc) {
        if (c->json) {
            json_object_set_new(result, "id", json_integer(id));
            rc = out_json(result);
        } else if (!c->quiet) {
            printf("job %lld is %s\n", (long long)id, out_str(result, "state"));
            if (!strcmp(out_str(result, "state"), "waiting")) conn_note_idle(&k, id);
        }
        json_decref(result);
    }
    json_decref(params);
    conn_close(&k);
    return rc;
}
