/* How much the network's answer to one sample is like that to another, by the directions in which their inputs move it. */
#include <math.h>
#include <stdlib.h>

#include "proxies/internal.h"

#define K 1e-5

/* In place: less its mean, over its length. */
static void standardise(double *x, int64_t n)
{
    double mean = 0, squares = 0;
    for (int64_t i = 0; i < n; i++) mean += x[i];
    mean /= (double)n;
    for (int64_t i = 0; i < n; i++) x[i] -= mean, squares += x[i] * x[i];
    double length = sqrt(squares);
    for (int64_t i = 0; i < n; i++) x[i] /= length;
}

/* x [S,n] one sample's gradient a row. */
static st_t spread(double *x, int64_t S, int64_t n, double *out)
{
    double a[PROXY_BATCHES * PROXY_BATCH * PROXY_BATCHES * PROXY_BATCH], v[PROXY_BATCHES * PROXY_BATCH], sum = 0;
    for (int64_t i = 0; i < S; i++) standardise(x + i * n, n);
    for (int64_t i = 0; i < S; i++)
        for (int64_t j = 0; j <= i; j++) {
            double dot = 0;
            for (int64_t k = 0; k < n; k++) dot += x[i * n + k] * x[j * n + k];
            a[i * S + j] = a[j * S + i] = dot;
        }
    TRY(proxy_eigenvalues(a, S, v));
    for (int64_t i = 0; i < S; i++) sum += log(v[i] + K) + 1 / (v[i] + K);
    *out = -sum;
    return ST_OK;
}

static st_t score(struct proxy_ctx *c, double *out, struct base_err *err)
{
    const struct proxy_input *in = c->in;
    int64_t S = (int64_t)in->batches * in->B, n = (int64_t)in->T * in->arch->width;
    if (S < 2) return base_err_set(err, ST_ENOTSUP, "jacov", "needs two samples");
    TRY(proxy_fits(c, 8.0 * (double)S * (double)n, err));
    float *dx = malloc((size_t)(in->B * n) * sizeof *dx);
    double *x = malloc((size_t)(S * n) * sizeof *x), sum;
    st_t st = dx && x ? ST_OK : ST_ENOMEM;
    for (int b = 0; !st && b < in->batches; b++) {
        st = model_step_logits(in->m, proxy_tokens(c, b), in->B, in->T, &sum, dx);
        for (int64_t i = 0; !st && i < in->B * n; i++) x[(int64_t)b * in->B * n + i] = dx[i];
    }
    if (!st) st = spread(x, S, n, out);
    if (st == ST_ENONFINITE) base_err_set(err, st, "jacov", "the samples' gradients have no correlations");
    free(dx), free(x);
    return st;
}

const struct proxy proxy_jacov = {.name = "jacov", .score = score};
