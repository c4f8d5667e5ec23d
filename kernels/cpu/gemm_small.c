/* Products with few rows, straight from the operands: b is read once, in order, and packing it would cost more than the product. */
#include "kernels/cpu/gemm.h"

#define SMALL_M 16            /* rows, where a and b both have their rows along k */
#define SMALL_AXPY 4          /* more rows than this times a row-major b are worth packing b */
#define TASK_BYTES (32 << 10) /* of b */

int gemm_small_fits(const struct gemm_args *g)
{
    if (g->bk == 1 && g->ak == 1) return g->m <= SMALL_M;
    return g->bn == 1 && g->cn == 1 && g->m <= SMALL_AXPY;
}

struct small {
    const struct gemm_isa *isa;
    const struct gemm_args *g;
    long step; /* columns of c a task */
};

static void dot_task(void *ctx, int task, int worker)
{
    const struct small *s = ctx;
    const struct gemm_args *g = s->g;
    long from = task * s->step, to = from + s->step < g->n ? from + s->step : g->n;
    /* a few rows of b at a time stay in L1 while all rows of a pass */
    long block = g->m > 4 ? 4 : to - from;
    for (long j = from; j < to; j += block)
        for (long i = 0; i < g->m; i += 4) {
            long m = g->m - i < 4 ? g->m - i : 4, n = to - j < block ? to - j : block;
            s->isa->dot[m - 1](g->k, g->a + i * g->am, g->am, g->b + j * g->bn, g->bn, n, g->alpha, g->beta, g->c + i * g->cm + j * g->cn,
                               g->cm, g->cn);
        }
}

static void axpy_task(void *ctx, int task, int worker)
{
    const struct small *s = ctx;
    const struct gemm_args *g = s->g;
    long j = task * s->step, n = g->n - j < s->step ? g->n - j : s->step;
    s->isa->axpy[g->m - 1](g->k, g->a, g->am, g->ak, g->b + j, g->bk, n, g->alpha, g->beta, g->c + j, g->cm);
}

st_t gemm_small(struct kn_dev *dev, const struct gemm_isa *isa, const struct gemm_args *g)
{
    int dot = g->bk == 1 && g->ak == 1;
    struct small s = {isa, g, TASK_BYTES / 4 / g->k};
    long unit = dot ? 8 : 128; /* whole blocks of the kernels */
    s.step = (s.step + unit - 1) / unit * unit;
    if (s.step < unit) s.step = unit;
    double flops = 2.0 * (double)g->m * (double)g->n * (double)g->k;
    cpu_run(dev, dot ? dot_task : axpy_task, &s, (int)((g->n + s.step - 1) / s.step), flops / 30);
    return ST_OK;
}
