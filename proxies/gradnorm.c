/* Lengths of the matrices' gradients. */
#include <math.h>

#include "proxies/internal.h"

static st_t score(struct proxy_ctx *c, double *out, struct base_err *err)
{
    const float *g;
    double total = 0;
    TRY(proxy_gradient(c, 0, &g, err));
    for (int i = 0; i < c->nw; i++) {
        const struct proxy_tensor *t = &c->tensor[i];
        double sum = 0;
        for (int64_t k = t->from; k < t->from + t->n; k++) sum += (double)g[k] * (double)g[k];
        total += sqrt(sum);
    }
    *out = total;
    return ST_OK;
}

const struct proxy proxy_gradnorm = {.name = "gradnorm", .score = score};
