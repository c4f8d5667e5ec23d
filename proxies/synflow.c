/* Synaptic flow: what flows through each weight when all of them are positive and so is the input. */
#include <math.h>
#include <stdlib.h>

#include "proxies/internal.h"

static float magnitude(float x, double unused)
{
    return fabsf(x);
}

static st_t flow(struct proxy_ctx *c, double *out)
{
    double total = 0, sum;
    float *g;
    int64_t most = 0;
    for (int i = 0; i < c->ntensors; i++) TRY(proxy_map(c, &c->tensor[i], magnitude, 0));
    TRY(model_step_logits(c->in->m, NULL, 1, c->in->T, &sum, NULL));
    for (int i = 0; i < c->nw; i++) most = c->tensor[i].n > most ? c->tensor[i].n : most;
    g = malloc((size_t)most * sizeof *g + 1);
    st_t st = g ? ST_OK : ST_ENOMEM;
    for (int i = 0; !st && i < c->nw; i++) {
        const struct proxy_tensor *t = &c->tensor[i];
        st = c->in->dev->vt->download(c->in->dev, g, t->p->g.p, (size_t)t->n * sizeof *g);
        if (!st) total += proxy_saliency(c, t, g);
    }
    free(g);
    *out = total;
    return st;
}

static st_t score(struct proxy_ctx *c, double *out, struct base_err *err)
{
    if (c->in->arch->norm == ARCH_NORM_LAYER)
        return base_err_set(err, ST_ENOTSUP, "synflow", "means nothing with layer norm, of which a row of ones leaves zeros");
    st_t st = flow(c, out), back = proxy_restore(c);
    return st ? st : back;
}

const struct proxy proxy_synflow = {.name = "synflow", .score = score};
