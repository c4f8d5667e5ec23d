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

/* What a pass is for, besides its forward. */
struct aim {
    bool ones;         /* the embedded input is all ones */
    double aux_weight; /* of the auxiliary losses' gradients */
};

static st_t show_units(struct model *m, int i)
{
    const struct part *p = &m->part[i];
    struct model_units u;
    for (int k = 0; m->watch.units && p->body->units && p->body->units(&p->ctx, k, &u); k++) TRY(m->watch.units(m->watch.ctx, i, &u));
    return ST_OK;
}

/* Leaves the normed last stream in m->xn. */
static st_t forward(struct model *m, int B, int T, const struct aim *aim)
{
    int64_t N = (int64_t)B * T;
    struct kn_tensor tok = kn_t1(m->tok, KN_I32, N), x = rows(m, stream(m, 0), N), r = {0}, aux = kn_t1(m->aux, m->dtype, 1);
    TRY(m->dev->op->fill(m->dev, &aux, 0));
    TRY(aim->ones ? m->dev->op->fill(m->dev, &x, 1) : m->dev->op->embed(m->dev, &tok, &m->w[m->embed], &x));
    for (int i = 0; i < m->plan.parts; i++) {
        struct part *p = &m->part[i];
        struct kn_tensor xn = normed(m, p, N);
        struct kn_tensor y = rows(m, stream(m, i + 1), N); /* the branch's output, then the next stream */
        TRY(stack_norm(m, p->norm, &x, &r, &xn, p->stat));
        p->ctx.B = B, p->ctx.T = T, p->ctx.saved = p->saved, p->ctx.scratch = m->scratch, p->ctx.aux = m->aux;
        p->ctx.aux_weight = aim->aux_weight;
        TRY(p->body->forward(&p->ctx, &xn, &y));
        TRY(show_units(m, i));
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

/* m->dx is the gradient of what part i added: the stream after it less the one before, where nothing lies now. */
static st_t show_output(struct model *m, int i, int64_t N)
{
    if (!m->watch.output) return ST_OK;
    struct kn_tensor after = rows(m, stream(m, i + 1), N), before = rows(m, stream(m, i), N), y = rows(m, m->dxn, N), dy = rows(m, m->dx, N);
    TRY(m->dev->op->copy(m->dev, &after, &y));
    TRY(m->dev->op->axpy(m->dev, -1, &before, &y));
    return m->watch.output(m->watch.ctx, i, &y, &dy);
}

/* m->dxn holds the gradient of m->xn; m->dx is left with the embedded input's. */
static st_t backward(struct model *m, int B, int T, const struct aim *aim)
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
        TRY(show_output(m, i, N));
        TRY(p->body->backward(&p->ctx, &xn, &dx, &dxn));
        TRY(norm_backward(m, p->norm, p->x, p->stat, N));
    }
    return aim->ones ? ST_OK : op->embed_bwd(m->dev, &tok, &dx, &m->g[m->embed]);
}

st_t stack_feed(struct model *m, const int32_t *tokens, const int32_t *targets, int B, int T, int64_t *counted)
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

/* Their mean, summed in f64 in row order. */
st_t stack_loss(struct model *m, int64_t N, int64_t counted, double *loss)
{
    TRY(m->dev->vt->download(m->dev, m->host, m->loss, (size_t)N * m->esize));
    double sum = 0;
    for (int64_t i = 0; i < N; i++) sum += number(m, i);
    TRY(m->dev->vt->download(m->dev, m->host, m->aux, m->esize));
    m->aux_loss = number(m, 0);
    *loss = sum / (double)counted;
    return ST_OK;
}

st_t stack_step(struct model *m, int B, int T, int64_t counted, const struct model_teacher *by)
{
    int64_t N = (int64_t)B * T;
    const struct aim aim = {.aux_weight = MODEL_AUX_WEIGHT};
    struct kn_tensor xn = rows(m, m->xn, N), dxn = rows(m, m->dxn, N), row = kn_t1(m->loss, m->dtype, N), target = kn_t1(m->target, KN_I32, N),
                     g = kn_t1(m->slab[1], m->dtype, m->plan.elements);
    double each = 1 / (double)counted;
    TRY(forward(m, B, T, &aim));
    TRY(m->dev->op->fill(m->dev, &g, 0));
    if (by) TRY(m->dev->op->head_distill(m->dev, &xn, &m->w[m->head], &target, &by->x, &by->w, by->mix, each, &row, &dxn, &m->g[m->head]));
    else TRY(m->dev->op->head_ce(m->dev, &xn, &m->w[m->head], &target, each, &row, &dxn, &m->g[m->head]));
    return backward(m, B, T, &aim);
}

static st_t pass(struct model *m, const int32_t *tokens, const int32_t *targets, int B, int T, bool train, const struct model_teacher *by, double *loss)
{
    int64_t counted, N = (int64_t)B * T;
    const struct aim aim = {.aux_weight = MODEL_AUX_WEIGHT};
    TRY(stack_feed(m, tokens, targets, B, T, &counted));
    if (train) {
        TRY(stack_step(m, B, T, counted, by));
    } else {
        struct kn_tensor xn = rows(m, m->xn, N), row = kn_t1(m->loss, m->dtype, N), target = kn_t1(m->target, KN_I32, N);
        TRY(forward(m, B, T, &aim));
        TRY(m->dev->op->head_ce(m->dev, &xn, &m->w[m->head], &target, 0, &row, NULL, NULL));
    }
    return stack_loss(m, N, counted, loss);
}

/* The same row, n times. */
static struct kn_tensor every_row(const struct kn_tensor *row, int64_t n)
{
    return (struct kn_tensor){row->p, row->dtype, 2, {n, row->d[0]}, {0, 1}};
}

/* R and its gradients of the head and of m->xn: a row's logits are x . (the sum of w over the vocabulary). Sums pass through the first row of m->dx. */
static st_t sum_logits(struct model *m, int64_t N, double *sum)
{
    const struct kn_ops *op = m->dev->op;
    int64_t D = m->arch.width;
    struct kn_tensor xn = rows(m, m->xn, N), dxn = rows(m, m->dxn, N), row = kn_t1(m->dx, m->dtype, D), column = kn_t2(m->dx, m->dtype, D, 1),
                     each = kn_t2(m->loss, m->dtype, N, 1), dx = every_row(&row, N), dw = every_row(&row, m->arch.vocab);
    TRY(op->fill(m->dev, &row, 0));
    TRY(op->sum_rows(m->dev, &m->w[m->head], &row));
    TRY(op->gemm(m->dev, 1, &xn, &column, 0, &each));
    TRY(op->copy(m->dev, &dx, &dxn));
    TRY(op->fill(m->dev, &row, 0));
    TRY(op->sum_rows(m->dev, &xn, &row));
    TRY(op->axpy(m->dev, 1, &dw, &m->g[m->head]));
    return stack_loss(m, N, 1, sum);
}

static st_t logits_pass(struct model *m, const int32_t *tokens, int B, int T, double *sum, void *dx)
{
    int64_t N = (int64_t)B * T, counted;
    const struct aim aim = {.ones = !tokens};
    if (B < 1 || B > m->opts.batch || T < 1 || T > m->arch.context) return ST_EINVAL;
    if (tokens) TRY(stack_feed(m, tokens, tokens, B, T, &counted));
    struct kn_tensor g = kn_t1(m->slab[1], m->dtype, m->plan.elements);
    TRY(m->dev->op->fill(m->dev, &g, 0));
    TRY(forward(m, B, T, &aim));
    TRY(sum_logits(m, N, sum));
    TRY(backward(m, B, T, &aim));
    return dx ? m->dev->vt->download(m->dev, dx, m->dx, (size_t)N * (size_t)m->arch.width * m->esize) : ST_OK;
}

static st_t run(struct model *m, const int32_t *tokens, const int32_t *targets, int B, int T, bool train, const struct model_teacher *by, double *loss)
{
    TRY(kn_precision(m->dev, m->opts.precision));
    st_t st = pass(m, tokens, targets, B, T, train, by, loss);
    kn_precision(m->dev, KN_F32);
    return st;
}

double model_aux(const struct model *m)
{
    return m->aux_loss;
}

st_t model_loss(struct model *m, const int32_t *tokens, const int32_t *targets, int B, int T, double *loss)
{
    return run(m, tokens, targets, B, T, false, NULL, loss);
}

st_t model_step(struct model *m, const int32_t *tokens, const int32_t *targets, int B, int T, double *loss)
{
    if (!m->opts.train) return ST_ESTATE;
    return run(m, tokens, targets, B, T, true, NULL, loss);
}

st_t model_step_distill(struct model *m, const int32_t *tokens, const int32_t *targets, int B, int T, const struct model_teacher *teacher, double *loss)
{
    if (!m->opts.train) return ST_ESTATE;
    return run(m, tokens, targets, B, T, true, teacher, loss);
}

struct kn_tensor model_hidden(const struct model *m, int B, int T)
{
    return rows(m, m->xn, (int64_t)B * T);
}

st_t model_step_logits(struct model *m, const int32_t *tokens, int B, int T, double *sum, void *dx)
{
    if (!m->opts.train) return ST_ESTATE;
    TRY(kn_precision(m->dev, m->opts.precision));
    st_t st = logits_pass(m, tokens, B, T, sum, dx);
    kn_precision(m->dev, KN_F32);
    return st;
}

void model_watch(struct model *m, const struct model_watch *w)
{
    m->watch = w ? *w : (struct model_watch){0};
}
