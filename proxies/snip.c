/* Connection sensitivity: what the loss changes, to first order, when a weight is taken out. */
#include "proxies/internal.h"

static st_t score(struct proxy_ctx *c, double *out, struct base_err *err)
{
    const float *g;
    double total = 0;
    TRY(proxy_gradient(c, 0, &g, err));
    for (int i = 0; i < c->nw; i++) total += proxy_saliency(c, &c->tensor[i], g + c->tensor[i].from);
    *out = total;
    return ST_OK;
}

const struct proxy proxy_snip = {.name = "snip", .score = score};
