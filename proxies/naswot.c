/* In how many ways the network folds its input: the codes of which units are on, sample by sample. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "proxies/internal.h"

#define SAMPLES_MAX (PROXY_BATCHES * PROXY_BATCH)

/* A sample's code is made of pieces, one a branch and kind of unit: T tokens' units each, from a word of its own on. */
struct codes {
    const struct proxy_ctx *c;
    const struct proxy_input *in;
    struct base_err *err;
    uint64_t *bits[SAMPLES_MAX];
    int64_t words, units; /* of each sample so far */
    int first;            /* sample of the batch that runs */
};

/* Room for n more units, all off, of each sample of the batch. */
static st_t grow(struct codes *k, int64_t n)
{
    int64_t more = (n + 63) / 64;
    TRY(proxy_fits(k->c, 8.0 * k->in->batches * k->in->B * (double)(k->words + more), k->err));
    for (int b = 0; b < k->in->B; b++) {
        uint64_t *p = realloc(k->bits[k->first + b], (size_t)(k->words + more) * sizeof *p);
        if (!p) return ST_ENOMEM;
        memset(p + k->words, 0, (size_t)more * sizeof *p);
        k->bits[k->first + b] = p;
    }
    return ST_OK;
}

/* Token n of the pass has units from `at` on: those of row. */
static void mark(struct codes *k, int64_t token, int64_t at, int64_t width, const float *row, int64_t F)
{
    uint64_t *piece = k->bits[k->first + token / k->in->T] + k->words;
    int64_t bit = token % k->in->T * width + at;
    for (int64_t f = 0; f < F; f++, bit++)
        if (row[f] > 0) piece[bit / 64] |= (uint64_t)1 << (bit % 64);
}

static st_t seen(void *ctx, int branch, const struct model_units *u)
{
    struct codes *k = ctx;
    int64_t F = u->u.d[1], R = u->u.d[0], row = u->u.s[0], E = u->experts, width = E ? E * F : F, n = k->in->T * width;
    void *x = NULL, *offset = NULL, *order = NULL;
    st_t st = grow(k, n);
    if (!st) st = proxy_fetch(k->in->dev, &u->u, (R - 1) * row + F, &x);
    if (!st && E) st = proxy_fetch(k->in->dev, &u->offset, E + 1, &offset);
    if (!st && E) st = proxy_fetch(k->in->dev, &u->order, R, &order);
    for (int64_t r = 0; !st && !E && r < R; r++) mark(k, r, 0, width, (float *)x + r * row, F);
    for (int64_t e = 0; !st && e < E; e++)
        for (int64_t r = ((int32_t *)offset)[e]; r < ((int32_t *)offset)[e + 1]; r++)
            mark(k, ((int32_t *)order)[r] / u->active, e * F, width, (float *)x + r * row, F);
    free(x), free(offset), free(order);
    k->words += (n + 63) / 64;
    k->units += n;
    return st;
}

/* Units that are in the same state. */
static double alike(const struct codes *k, int i, int j)
{
    int64_t apart = 0;
    for (int64_t w = 0; w < k->words; w++) apart += __builtin_popcountll(k->bits[i][w] ^ k->bits[j][w]);
    return (double)(k->units - apart);
}

static st_t spread(const struct codes *k, int S, double *out, struct base_err *err)
{
    double a[SAMPLES_MAX * SAMPLES_MAX];
    if (!k->units) return base_err_set(err, ST_ENOTSUP, "naswot", "counts hidden units of feed-forwards, and there is none");
    for (int i = 0; i < S; i++)
        for (int j = 0; j < S; j++) a[i * S + j] = alike(k, i, j);
    st_t st = proxy_logdet(a, S, out);
    return st ? base_err_set(err, st, "naswot", "two samples have the same code") : ST_OK;
}

static st_t score(struct proxy_ctx *c, double *out, struct base_err *err)
{
    const struct proxy_input *in = c->in;
    struct codes k = {.c = c, .in = in, .err = err};
    double loss;
    st_t st = ST_OK;
    model_watch(in->m, &(struct model_watch){.ctx = &k, .units = seen});
    for (int b = 0; !st && b < in->batches; b++) {
        k.first = b * in->B, k.words = k.units = 0;
        st = model_loss(in->m, proxy_tokens(c, b), in->targets + (int64_t)b * in->B * in->T, in->B, in->T, &loss);
    }
    model_watch(in->m, NULL);
    if (!st) st = spread(&k, in->batches * in->B, out, err);
    for (int i = 0; i < SAMPLES_MAX; i++) free(k.bits[i]);
    return st;
}

const struct proxy proxy_naswot = {.name = "naswot", .score = score};
