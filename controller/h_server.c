/* server.info, device.list, and what is promised and not built yet. */
#include <math.h>
#include <unistd.h>

#include "base/clock.h"
#include "config.h"
#include "controller/internal.h"

static bool no_params(struct wire_call *call, json_t *params)
{
    struct base_err err = BASE_ERR_INIT;
    struct base_jr r = base_jr_at(params, "", &err);
    if (!base_jr_done(&r, NULL, 0)) return true;
    ctl_bad_params(call, &err);
    return false;
}

static double seconds_since(uint64_t ns)
{
    return (double)(base_clock_ns() - ns) / 1e9;
}

CTL_HANDLER(server_info)
{
    struct ctl *c = ctx;
    int count[CTL_STATES] = {0}, evaluators = 0;
    if (!no_params(call, params)) return;
    json_t *jobs = json_object();
    for (int i = 0; i < c->njobs; i++) count[c->job[i]->state]++;
    for (int i = 0; i < CTL_STATES; i++)
        if (count[i]) json_object_set_new(jobs, ctl_state_name((enum ctl_state)i), json_integer(count[i]));
    for (const struct ctl_session *s = c->sessions; s; s = s->next) evaluators++;
    wire_call_result(call, json_pack("{s:s,s:i,s:f,s:s,s:s,s:i,s:i,s:b,s:b,s:o}", "version", PACKAGE_VERSION_TEXT, "protocol", CTL_PROTOCOL,
                                     "uptime_s", seconds_since(c->started_ns), "store", db_path(c->db), "socket", c->socket, "pid",
                                     (int)getpid(), "evaluators", evaluators, "reader", c->reader, "writable", !c->broken, "jobs", jobs));
}

static json_t *doing(const struct ctl *c, const struct ctl_session *s)
{
    json_t *list = json_array();
    for (const struct ctl_lease *l = c->leases; l; l = l->next) {
        if (l->session != s) continue;
        json_t *o = json_pack("{s:I,s:I,s:o,s:f,s:I}", "lease", (json_int_t)l->id, "job", (json_int_t)l->job->id, "trial",
                              l->super ? json_null() : json_integer(l->trial), "seconds", seconds_since(l->since_ns), "step", (json_int_t)l->step);
        if (!isnan(l->tokens)) json_object_set_new(o, "tokens", json_real(l->tokens));
        if (!isnan(l->loss)) json_object_set_new(o, "loss", json_real(l->loss));
        json_array_append_new(list, o);
    }
    return list;
}

CTL_HANDLER(device_list)
{
    struct ctl *c = ctx;
    if (!no_params(call, params)) return;
    json_t *evaluators = json_array(), *devices = json_array();
    for (const struct ctl_session *s = c->sessions; s; s = s->next) {
        json_t *spaces = json_array();
        for (int t = SPACE_LM; t <= CTL_SPACE_PROBLEM; t++)
            if (s->spaces & (1 << t)) json_array_append_new(spaces, json_string(t == SPACE_LM ? "lm" : t == SPACE_CUSTOM ? "custom" : "problem"));
        json_t *o = json_pack("{s:I,s:s,s:I,s:i,s:f,s:o,s:o}", "evaluator", (json_int_t)s->known->id, "name", s->known->name, "device",
                              (json_int_t)s->known->device, "slots", s->slots, "connected_s", seconds_since(s->since_ns), "spaces", spaces,
                              "doing", doing(c, s));
        if (s->provides) json_object_set(o, "provides", s->provides);
        json_array_append_new(evaluators, o);
    }
    for (int i = 0; i < c->ndevices; i++) {
        const struct ctl_device *d = &c->device[i];
        json_array_append_new(devices, json_pack("{s:I,s:s,s:O}", "id", (json_int_t)d->id, "kind", d->kind, "body", d->body));
    }
    wire_call_result(call, json_pack("{s:o,s:o}", "evaluators", evaluators, "devices", devices));
}

CTL_HANDLER(blob_get)
{
    wire_call_error(call, WIRE_ENOTSUP, "blob.get is not built yet: share checkpoints and data by path");
}

CTL_HANDLER(blob_put)
{
    wire_call_error(call, WIRE_ENOTSUP, "blob.put is not built yet: share checkpoints and data by path");
}
