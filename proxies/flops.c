/* Forward FLOPs a token. */
#include "proxies/internal.h"

static st_t score(struct proxy_ctx *c, double *out, struct base_err *err)
{
    struct arch_cost cost;
    space_arch_cost(c->in->arch, &cost);
    *out = cost.flops_per_token;
    return ST_OK;
}

const struct proxy proxy_flops = {.name = "flops", .paper = true, .score = score};
