/* DSS: diversity of mixers' matrices (how far from low rank they and their gradients are) and saliency of ffns' matrices. */
#include <math.h>
#include <stdlib.h>

#include "proxies/internal.h"

/* A matrix of some mixer, a task of the pool. */
struct task {
    const float *w, *g;
    int64_t rows, cols;
    double value;
    st_t st;
};

static int64_t smaller(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* Sum of the singular values of x [rows,cols]: roots of the eigenvalues of its Gram matrix. */
static st_t nuclear(const float *x, int64_t rows, int64_t cols, double *a, double *out)
{
    int64_t n = smaller(rows, cols);
    double *v = a + n * n, sum = 0;
    TRY(proxy_gram(NULL, x, rows, cols, a));
    TRY(proxy_eigenvalues(a, n, v));
    for (int64_t i = 0; i < n; i++) sum += sqrt(fmax(v[i], 0));
    *out = sum;
    return ST_OK;
}

static void diversity(void *ctx, int task, int worker)
{
    struct task *t = (struct task *)ctx + task;
    int64_t n = smaller(t->rows, t->cols);
    double *a = malloc((size_t)(n * n + n) * sizeof *a), w = 0, g = 0;
    t->st = a ? nuclear(t->w, t->rows, t->cols, a, &w) : ST_ENOMEM;
    if (!t->st) t->st = nuclear(t->g, t->rows, t->cols, a, &g);
    t->value = w * g;
    free(a);
}

/* Tasks of the mixers' matrices, from `tasks` on (NULL: counts alone). Returns how many; -1: one is too large. */
static int plan(const struct proxy_ctx *c, const float *g, struct task *tasks)
{
    int n = 0;
    for (int i = 0; i < c->nw; i++) {
        const struct proxy_tensor *t = &c->tensor[i];
        if (t->p->layer_role != LAYER_MIXER) continue;
        if (smaller(t->rows, t->cols) > PROXY_NUCLEAR_MAX) return -1;
        for (int64_t k = 0; k < t->count; k++, n++) {
            int64_t at = t->from + k * t->rows * t->cols;
            if (tasks) tasks[n] = (struct task){.w = c->weights + at, .g = g + at, .rows = t->rows, .cols = t->cols};
        }
    }
    return n;
}

static st_t score(struct proxy_ctx *c, double *out, struct base_err *err)
{
    const float *g;
    double total = 0;
    int n = plan(c, NULL, NULL);
    if (n < 0) return base_err_set(err, ST_ENOTSUP, "dss", "singular values of matrices larger than %d both ways are not worked out", PROXY_NUCLEAR_MAX);
    TRY(proxy_gradient(c, 0, &g, err));
    struct task *tasks = calloc((size_t)n + 1, sizeof *tasks);
    if (!tasks) return ST_ENOMEM;
    plan(c, g, tasks);
    base_pool_run(c->in->dev->pool, diversity, tasks, n);
    st_t st = ST_OK;
    for (int i = 0; i < n; i++) {
        if (tasks[i].st) st = tasks[i].st;
        total += tasks[i].value;
    }
    free(tasks);
    for (int i = 0; i < c->nw; i++)
        if (c->tensor[i].p->layer_role == LAYER_FFN) total += proxy_saliency(c, &c->tensor[i], g + c->tensor[i].from);
    *out = total;
    return st == ST_ENONFINITE ? base_err_set(err, st, "dss", "the gradient is not finite") : st;
}

const struct proxy proxy_dss = {.name = "dss", .score = score};
