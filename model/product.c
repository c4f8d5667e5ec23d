/* Products with a weight, as every body needs them. */
#include "model/internal.h"

st_t body_bias(const struct layer_ctx *c, const struct kn_tensor *bias, const struct kn_tensor *y)
{
    struct kn_tensor every_row = {bias->p, bias->dtype, 2, {y->d[0], bias->d[0]}, {0, bias->s[0]}};
    return c->dev->op->axpy(c->dev, 1, &every_row, y);
}

st_t body_product(const struct layer_ctx *c, const struct kn_tensor *x, const struct kn_tensor *w,
                  const struct kn_tensor *bias, const struct kn_tensor *y)
{
    struct kn_tensor wt = kn_transpose(w);
    TRY(c->dev->op->gemm(c->dev, 1, x, &wt, 0, y));
    return bias ? body_bias(c, bias, y) : ST_OK;
}

st_t body_product_bwd(const struct layer_ctx *c, const struct kn_tensor *x, const struct kn_tensor *w,
                      const struct kn_tensor *dy, const struct kn_tensor *dw, const struct kn_tensor *dbias,
                      double beta, const struct kn_tensor *dx)
{
    struct kn_tensor dyt = kn_transpose(dy);
    TRY(c->dev->op->gemm(c->dev, 1, &dyt, x, 1, dw));
    if (dbias) TRY(c->dev->op->sum_rows(c->dev, dy, dbias));
    return dx ? c->dev->op->gemm(c->dev, 1, dy, w, beta, dx) : ST_OK;
}
