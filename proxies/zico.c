/* Inverse coefficient of variation of the gradient: weights that every batch pushes alike. */
#include <math.h>

#include "proxies/internal.h"

static double ratio(const struct proxy_ctx *c, int64_t i)
{
    int B = c->in->batches;
    double mean = 0, size = 0, squares = 0;
    for (int b = 0; b < B; b++) mean += c->gradient[b][i], size += fabs((double)c->gradient[b][i]);
    mean /= B, size /= B;
    for (int b = 0; b < B; b++) squares += (c->gradient[b][i] - mean) * (c->gradient[b][i] - mean);
    return squares > 0 ? size / sqrt(squares / B) : 0;
}

static st_t score(struct proxy_ctx *c, double *out, struct base_err *err)
{
    const float *g;
    double total = 0;
    if (c->in->batches < 2) return base_err_set(err, ST_ENOTSUP, "zico", "needs two batches");
    for (int b = 0; b < c->in->batches; b++) TRY(proxy_gradient(c, b, &g, err));
    for (int i = 0; i < c->nw; i++) {
        const struct proxy_tensor *t = &c->tensor[i];
        double sum = 0;
        for (int64_t k = t->from; k < t->from + t->n; k++) sum += ratio(c, k);
        if (sum > 0) total += log(sum);
    }
    *out = total;
    return ST_OK;
}

const struct proxy proxy_zico = {.name = "zico", .score = score};
