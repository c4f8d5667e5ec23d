/* Parameters inside the layers. */
#include "proxies/internal.h"

static st_t score(struct proxy_ctx *c, double *out, struct base_err *err)
{
    *out = space_arch_decoder_params(c->in->arch);
    return ST_OK;
}

const struct proxy proxy_decoder_params = {.name = "decoder_params", .paper = true, .score = score};
