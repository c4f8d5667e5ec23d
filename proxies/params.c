/* Parameters. */
#include "proxies/internal.h"

static st_t score(struct proxy_ctx *c, double *out, struct base_err *err)
{
    struct arch_cost cost;
    space_arch_cost(c->in->arch, &cost);
    *out = cost.params;
    return ST_OK;
}

const struct proxy proxy_params = {.name = "params", .paper = true, .score = score};
