/* Fisher potential of each block: how much the loss would change without a channel, to first order, squared. */
#include <stdlib.h>

#include "proxies/internal.h"

struct sums {
    const struct proxy_input *in;
    float *y, *dy; /* [N,D] of a branch */
    double total;
};

/* One block's: a channel's sum of y dy over each sample, squared. */
static st_t block(void *ctx, int branch, const struct kn_tensor *y, const struct kn_tensor *dy)
{
    struct sums *s = ctx;
    int64_t T = s->in->T, D = y->d[1], N = y->d[0];
    size_t bytes = (size_t)(N * D) * sizeof *s->y;
    TRY(s->in->dev->vt->download(s->in->dev, s->y, y->p, bytes));
    TRY(s->in->dev->vt->download(s->in->dev, s->dy, dy->p, bytes));
    for (int64_t n = 0; n < N / T; n++)
        for (int64_t d = 0; d < D; d++) {
            double sum = 0;
            for (int64_t i = n * T * D + d; i < (n + 1) * T * D; i += D) sum += (double)s->y[i] * (double)s->dy[i];
            s->total += sum * sum;
        }
    return ST_OK;
}

static st_t score(struct proxy_ctx *c, double *out, struct base_err *err)
{
    const struct proxy_input *in = c->in;
    size_t n = (size_t)in->B * (size_t)in->T * (size_t)in->arch->width;
    struct sums s = {in, malloc(n * sizeof *s.y), malloc(n * sizeof *s.dy), 0};
    model_watch(in->m, &(struct model_watch){.ctx = &s, .output = block});
    st_t st = s.y && s.dy ? proxy_step(c, 0) : ST_ENOMEM;
    model_watch(in->m, NULL);
    free(s.y), free(s.dy);
    *out = s.total / (2 * in->B);
    return st;
}

const struct proxy proxy_fisher = {.name = "fisher", .score = score};
