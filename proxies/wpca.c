/* Weight-weighted PCA: in how many directions the hidden units of feed-forwards really vary, times the parameters. */
#include <math.h>
#include <stdlib.h>

#include "proxies/internal.h"

#define SHARE 0.99 /* of the variance that the counted directions hold */

/* What one kind of units of one branch (of one expert) does over the tokens: a Gram matrix, then how many directions. */
struct cloud {
    double *a; /* [n,n] and n more */
    int64_t n;
    int directions;
    st_t st;
};

struct clouds {
    const struct proxy_ctx *c;
    struct cloud *list;
    int n;
};

/* x [rows,F] less the mean of its rows, in place. */
static void centre(float *x, int64_t rows, int64_t F)
{
    for (int64_t f = 0; f < F; f++) {
        double mean = 0;
        for (int64_t r = 0; r < rows; r++) mean += x[r * F + f];
        mean /= (double)rows;
        for (int64_t r = 0; r < rows; r++) x[r * F + f] = (float)(x[r * F + f] - mean);
    }
}

static st_t add(struct clouds *k, float *x, int64_t rows, int64_t F)
{
    if (rows < 2) return ST_OK;
    int64_t n = rows < F ? rows : F;
    struct cloud *list = realloc(k->list, (size_t)(k->n + 1) * sizeof *list);
    if (!list) return ST_ENOMEM;
    k->list = list;
    list[k->n] = (struct cloud){.a = malloc((size_t)(n * n + n) * sizeof(double)), .n = n};
    if (!list[k->n++].a) return ST_ENOMEM;
    centre(x, rows, F);
    return proxy_gram(k->c->in->dev->pool, x, rows, F, list[k->n - 1].a);
}

static st_t seen(void *ctx, int branch, const struct model_units *u)
{
    struct clouds *k = ctx;
    int64_t F = u->u.d[1], R = u->u.d[0], row = u->u.s[0];
    void *x = NULL, *offset = NULL;
    st_t st = proxy_fetch(k->c->in->dev, &u->u, (R - 1) * row + F, &x);
    if (!st && u->experts) st = proxy_fetch(k->c->in->dev, &u->offset, u->experts + 1, &offset);
    for (int64_t r = 0; !st && r < R; r++)
        for (int64_t f = 0; f < F; f++) ((float *)x)[r * F + f] = ((float *)x)[r * row + f];
    if (!st && !u->experts) st = add(k, x, R, F);
    for (int e = 0; !st && e < u->experts; e++) {
        int32_t from = ((int32_t *)offset)[e], to = ((int32_t *)offset)[e + 1];
        st = add(k, (float *)x + from * F, to - from, F);
    }
    free(x), free(offset);
    return st;
}

static int falling(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x < y) - (x > y);
}

static void count(void *ctx, int task, int worker)
{
    struct cloud *p = (struct cloud *)ctx + task;
    double *v = p->a + p->n * p->n, all = 0, held = 0;
    p->st = proxy_eigenvalues(p->a, p->n, v);
    if (p->st) return;
    qsort(v, (size_t)p->n, sizeof *v, falling);
    for (int64_t i = 0; i < p->n; i++) all += fmax(v[i], 0);
    while (p->directions < p->n && held <= SHARE * all) held += fmax(v[p->directions++], 0);
}

static st_t score(struct proxy_ctx *c, double *out, struct base_err *err)
{
    const struct proxy_input *in = c->in;
    struct clouds k = {.c = c};
    struct arch_cost cost;
    double loss, directions = 0;
    model_watch(in->m, &(struct model_watch){.ctx = &k, .units = seen});
    st_t st = model_loss(in->m, proxy_tokens(c, 0), in->targets, in->B, in->T, &loss);
    model_watch(in->m, NULL);
    if (!st && !k.n) st = base_err_set(err, ST_ENOTSUP, "wpca", "looks at hidden units of feed-forwards, and there is none");
    if (!st) base_pool_run(in->dev->pool, count, k.list, k.n);
    for (int i = 0; i < k.n; i++) {
        if (!st && k.list[i].st) st = base_err_set(err, k.list[i].st, "wpca", "the hidden units are not finite");
        directions += k.list[i].directions;
        free(k.list[i].a);
    }
    free(k.list);
    space_arch_cost(in->arch, &cost);
    *out = cost.params * directions / in->arch->depth;
    return st;
}

const struct proxy proxy_wpca = {.name = "wpca", .score = score};
