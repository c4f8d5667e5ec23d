/* Forward and backward of the whole network. The stream of part i is the output of part i - 1's branch plus that
 * part's own stream: the norm adds
 * them in the pass that it makes anyway, and both stay where they are for the backward pass. */
#include "model/internal.h"

static struct kn_tensor rows(const struct model *m, void *p, int64_t N)
{
    return kn_t2(p, m->dtype, N, m->arch.width);
}

/* What part p reads. */
static struct kn_tensor normed(const struct model *m, const struct part *p, int64_t N)
{
    return kn_t2(p->xn, p->xn_dtype, N, m->arch.width);
}

/* The stream before part i; after the last one for i = parts. */
static void *stream(const struct model *m, int i)
{
    return i < m->plan.parts ? m->part[i].x : m->x;
}

/* The i-th statistic of N rows. */
static struct kn_tensor stat_of(const struct model *m, void *stat, int i, int64_t N)
{
    return kn_t1((char *)stat + (size_t)i * (size_t)N * m->esize, m->dtype, N);
}

st_t stack_norm(struct model *m, int norm, const struct kn_tensor *x, const struct kn_tensor *r,
                const struct kn_tensor *y, void *stat)
{
    const struct kn_tensor *w = &m->w[norm];
    struct kn_tensor rstd = stat_of(m, stat, 0, x->d[0]);
    if (m->arch.norm == ARCH_NORM_RMS) return m->dev->op->rmsnorm(m->dev, x, r, w, MODEL_NORM_EPS, y, &rstd);
    struct kn_tensor mean = stat_of(m, stat, 1, x->d[0]);
    return m->dev->op->layernorm(m->dev, x, r, w, w + 1, MODEL_NORM_EPS, y, &mean, &rstd);
}

/* m->dx += through the norm, from m->dxn */
static st_t norm_backward(struct model *m, int norm, void *stream, void *stat, int64_t N)
{
    const struct kn_tensor *w = &m->w[norm], *g = &m->g[norm];
    struct kn_tensor x = rows(m, stream, N), dx = rows(m, m->dx, N), dxn = rows(m, m->dxn, N);
    struct kn_tensor rstd = stat_of(m, stat, 0, N);
    if (m->arch.norm == ARCH_NORM_RMS) return m->dev->op->rmsnorm_bwd(m->dev, &x, w, &rstd, &dxn, &dx, g);
    struct kn_tensor mean = stat_of(m, stat, 1, N);
    return m->dev->op->layernorm_bwd(m->dev, &x, w, &mean, &rstd, &dxn, &dx, g, g + 1);
}

/* Leaves the normed last stream in m->xn. */
static st_t forward(struct model *m, int B, int T)
{
    int64_t N = (int64_t)B * T;
    struct kn_tensor tok = kn_t1(m->tok, KN_I32, N), x = rows(m, stream(m, 0), N), r = {0}, aux = kn_t1(m->aux, m->dtype, 1);
    TRY(m->dev->op->fill(m->dev, &aux, 0));
    TRY(m->dev->op->embed(m->dev, &tok, &m->w[m->embed], &x));
    for (int i = 0; i < m->plan.parts; i++) {
        struct part *p = &m->part[i];
        struct kn_tensor xn = normed(m, p, N);
        struct kn_tensor y = rows(m, stream(m, i + 1), N); /* the branch's output, then the next stream */
        TRY(stack_norm(m, p->norm, &x, &r, &xn, p->stat));
        p->ctx.B = B, p->ctx.T = T, p->ctx.saved = p->saved, p->ctx.scratch = m->scratch, p->ctx.aux = m->aux;
        TRY(p->body->forward(&p->ctx, &xn, &y));
        r = x;
        x = y;
    }
    struct kn_tensor xn = rows(m, m->xn, N);
    return stack_norm(m, m->norm, &x, &r, &xn, m->stat);
}

/* Fills xn and saved of a branch that shares them, as forward had them. What it gives is in the way of nobody in m->dxn. */
static st_t again(struct model *m, struct part *p, int64_t N)
{
    struct kn_tensor x = rows(m, p->x, N), none = {0}, xn = normed(m, p, N), y = rows(m, m->dxn, N);
    TRY(stack_norm(m, p->norm, &x, &none, &xn, p->stat));
    p->ctx.aux = NULL; /* counted once */
    return p->body->forward(&p->ctx, &xn, &y);
}

/* m->dxn holds the gradient of m->xn. */
static st_t backward(struct model *m, int B, int T)
{
    const struct kn_ops *op = m->dev->op;
    int64_t N = (int64_t)B * T;
    struct kn_tensor tok = kn_t1(m->tok, KN_I32, N), dx = rows(m, m->dx, N), dxn = rows(m, m->dxn, N);
    TRY(op->fill(m->dev, &dx, 0));
    TRY(norm_backward(m, m->norm, m->x, m->stat, N));
    for (int i = m->plan.parts - 1; i >= 0; i--) {
        struct part *p = &m->part[i];
        struct kn_tensor xn = normed(m, p, N);
        if (p->recomputed) TRY(again(m, p, N));
        TRY(p->body->backward(&p->ctx, &xn, &dx, &dxn));
        TRY(norm_backward(m, p->norm, p->x, p->stat, N));
    }
    return op->embed_bwd(m->dev, &tok, &dx, &m->g[m->embed]);
}

/* Tokens and targets to the device; *counted: targets that count. */
static st_t feed(struct model *m, const int32_t *tokens, const int32_t *targets, int B, int T, int64_t *counted)
{
    if (B < 1 || B > m->opts.batch || T < 1 || T > m->arch.context) return ST_EINVAL;
    int64_t N = (int64_t)B * T, n = 0;
    for (int64_t i = 0; i < N; i++) {
        if (tokens[i] < 0 || tokens[i] >= m->arch.vocab || targets[i] < -1 || targets[i] >= m->arch.vocab)
            return ST_EINVAL;
        n += targets[i] >= 0;
    }
    if (!n) return ST_EINVAL;
    TRY(m->dev->vt->upload(m->dev, m->tok, tokens, (size_t)N * sizeof *tokens));
    TRY(m->dev->vt->upload(m->dev, m->target, targets, (size_t)N * sizeof *targets));
    *counted = n;
    return ST_OK;
}

static double number(const struct model *m, int64_t i)
{
    return m->dtype == KN_F64 ? ((double *)m->host)[i] : (double)((float *)m->host)[i];
}

/* Mean of the rows' losses, summed in f64 in row order. */
static st_t mean_loss(struct model *m, int64_t N, int64_t counted, double *loss)
{
    TRY(m->dev->vt->download(m->dev, m->host, m->loss, (size_t)N * m->esize));
    double sum = 0;
    for (int64_t i = 0; i < N; i++) sum += number(m, i);
    TRY(m->dev->vt->download(m->dev, m->host, m->aux, m->esize));
    m->aux_loss = number(m, 0);
    *loss = sum / (double)counted;
    return ST_OK;
}

static st_t pass(struct model *m, const int32_t *tokens, const int32_t *targets, int B, int T, bool train, double *loss)
{
    int64_t counted, N = (int64_t)B * T;
    TRY(feed(m, tokens, targets, B, T, &counted));
    TRY(forward(m, B, T));
    struct kn_tensor xn = rows(m, m->xn, N), dxn = rows(m, m->dxn, N), row = kn_t1(m->loss, m->dtype, N),
                     target = kn_t1(m->target, KN_I32, N);
    if (train) {
        struct kn_tensor g = kn_t1(m->slab[1], m->dtype, m->plan.elements);
        TRY(m->dev->op->fill(m->dev, &g, 0));
        TRY(m->dev->op->head_ce(m->dev, &xn, &m->w[m->head], &target, 1 / (double)counted, &row, &dxn, &m->g[m->head]));
        TRY(backward(m, B, T));
    } else {
        TRY(m->dev->op->head_ce(m->dev, &xn, &m->w[m->head], &target, 0, &row, NULL, NULL));
    }
    return mean_loss(m, N, counted, loss);
}

static st_t run(struct model *m, const int32_t *tokens, const int32_t *targets, int B, int T, bool train, double *loss)
{
    TRY(kn_precision(m->dev, m->opts.precision));
    st_t st = pass(m, tokens, targets, B, T, train, loss);
    kn_precision(m->dev, KN_F32);
    return st;
}

double model_aux(const struct model *m)
{
    return m->aux_loss;
}

st_t model_loss(struct model *m, const int32_t *tokens, const int32_t *targets, int B, int T, double *loss)
{
    return run(m, tokens, targets, B, T, false, loss);
}

st_t model_step(struct model *m, const int32_t *tokens, const int32_t *targets, int B, int T, double *loss)
{
    if (!m->opts.train) return ST_ESTATE;
    return run(m, tokens, targets, B, T, true, loss);
}
