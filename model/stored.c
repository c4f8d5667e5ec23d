/* Weights kept in bf16 or int8 for decoding: made from f32 numbers, some rows at a time. */
#include "model/internal.h"

#define STAGE_BYTES ((int64_t)1 << 20)

enum kn_dtype model_stored_dtype(const struct model_opts *o)
{
    switch (o->weights) {
    case ARCH_WEIGHTS_BF16: return KN_BF16;
    case ARCH_WEIGHTS_INT8: return KN_I8;
    case ARCH_WEIGHTS_F32: break;
    }
    return o->dtype;
}

/* [experts, out, in] as [experts out, in]: rows are equally far apart. */
static struct kn_tensor as_rows(const struct kn_tensor *w)
{
    if (w->rank < 3) return *w;
    return (struct kn_tensor){w->p, w->dtype, 2, {w->d[0] * w->d[1], w->d[2]}, {w->s[1], 1}};
}

st_t model_store(struct model *m, const struct model_param *p, const float *host)
{
    struct kn_tensor w = as_rows(&p->w);
    int64_t rows = w.d[0], cols = w.d[1], step = STAGE_BYTES / 4 / (cols + 1) + 1;
    if (step > rows) step = rows;
    size_t bytes = (size_t)(step * cols) * sizeof *host;
    void *stage;
    TRY(kn_alloc(m->dev, bytes, &stage));
    st_t st = ST_OK;
    for (int64_t i = 0; i < rows && !st; i += step) {
        int64_t n = rows - i < step ? rows - i : step;
        struct kn_tensor from = kn_t2(stage, KN_F32, n, cols), to = kn_slice(&w, 0, i, n);
        st = m->dev->vt->upload(m->dev, stage, host + i * cols, (size_t)(n * cols) * sizeof *host);
        if (!st) st = m->dev->op->copy(m->dev, &from, &to);
    }
    kn_free(m->dev, stage, bytes);
    return st;
}
