/* Gradient signal preservation: what the flow of gradients loses when weights are taken out.
 *
 * sum W (H g) = g . (H W), and H W is the slope of g along W: g . (H W) = d/dt |g((1 + t) W)|^2 / 2. So one scalar of two steps says it, and no
 * difference of nearly equal gradients is taken element by element. */
#include "proxies/internal.h"

#define STEP 0x1p-10 /* the central difference is off by ~ (depth STEP)^2, and by what f32 rounds, ~ 1e-7 |g|^2 / STEP */

static float scale(float x, double factor)
{
    return (float)(x * factor);
}

/* |g|^2 with W times factor. */
static st_t squares(struct proxy_ctx *c, double factor, double *out)
{
    double total = 0;
    for (int i = 0; i < c->nw; i++) TRY(proxy_map(c, &c->tensor[i], scale, factor));
    TRY(proxy_step(c, 0));
    for (int i = 0; i < c->nw; i++) {
        const struct kn_tensor *g = &c->tensor[i].p->g;
        struct kn_tensor flat = kn_t1(g->p, g->dtype, kn_count(g));
        double sum;
        TRY(c->in->dev->op->sumsq(c->in->dev, &flat, &sum));
        total += sum;
    }
    *out = total;
    return ST_OK;
}

static st_t score(struct proxy_ctx *c, double *out, struct base_err *err)
{
    double above = 0, below = 0;
    st_t st = squares(c, 1 + STEP, &above);
    if (!st) st = squares(c, 1 - STEP, &below);
    st_t back = proxy_restore(c);
    *out = -(above - below) / (4 * STEP);
    return st ? st : back;
}

const struct proxy proxy_grasp = {.name = "grasp", .score = score};
