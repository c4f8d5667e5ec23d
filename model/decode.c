/* Tokens through caches and states. Many new tokens go in chunks, so that a prefill of any length runs in the memory
 * of one chunk. */
#include <stdlib.h>
#include <string.h>

#include "model/internal.h"

#define CHUNK_ROWS ARCH_PIECE /* rows of a chunk, over all sequences: products are at full speed from about here */
#define FILL_VALUE 0.01
#define FEW_ROWS   16 /* up to here reading the weights is what a product costs, and rounding what they are multiplied with gains nothing */

struct model_state {
    struct model *m;
    int B, chunk; /* sequences; most new tokens of each in one pass */
    int64_t context, pos;
    uint64_t caches, bytes; /* of caches and states alone; of mem */
    void *mem;
    void **state;  /* [parts] */
    void **scratch; /* [parts] one for all, but a lender's is its own */
    struct kn_branch *branch; /* [parts + 1] of one token, the head too */
    void *begin;   /* the caches' first byte … */
    uint64_t span; /* … and how far they reach, gaps included */
    void *tok, *x[2], *xn, *stat, *last, *logits, *logits32;
};

static struct layer_ctx ctx_of(const struct model_state *s, int part, int T)
{
    struct layer_ctx c = s->m->part[part].ctx;
    c.B = s->B, c.T = T, c.pos = s->pos, c.state_context = s->context;
    c.saved = NULL, c.scratch = s->scratch[part], c.state = s->state[part], c.aux = NULL;
    return c;
}

/* Cuts s->mem (NULL: counts); returns the bytes. */
static uint64_t carve_state(struct model_state *s)
{
    const struct model *m = s->m;
    struct carve c = {s->mem, m->dtype, 0};
    int64_t D = m->arch.width, N = (int64_t)s->B * s->chunk;
    uint64_t scratch = 0;
    s->caches = 0;
    s->begin = s->mem;
    for (int i = 0; i < m->plan.parts; i++) {
        struct layer_ctx x = ctx_of(s, i, s->chunk);
        uint64_t n = m->part[i].body->state_bytes(&x), t = m->part[i].body->scratch_bytes(&x, false);
        s->state[i] = carve_bytes(&c, n, 1);
        s->caches += n;
        if (t > scratch && !x.lends) scratch = t;
    }
    s->span = c.used;
    s->tok = carve_bytes(&c, (uint64_t)N, sizeof(int32_t));
    s->x[0] = carve2(&c, N, D).p;
    s->x[1] = carve2(&c, N, D).p;
    s->xn = carve2(&c, N, D).p;
    s->stat = carve2(&c, N, norm_stats(&m->arch)).p;
    s->last = carve2(&c, s->B, D).p;
    s->logits = carve2(&c, s->B, m->arch.vocab).p;
    s->logits32 =
        m->dtype == KN_F32 ? s->logits : carve_bytes(&c, (uint64_t)s->B * (uint64_t)m->arch.vocab, sizeof(float));
    void *shared = carve_bytes(&c, scratch, 1);
    for (int i = 0; i < m->plan.parts; i++) {
        struct layer_ctx x = ctx_of(s, i, s->chunk);
        s->scratch[i] = x.lends ? carve_bytes(&c, m->part[i].body->scratch_bytes(&x, false), 1) : shared;
    }
    return c.used;
}

static int chunk_of(int batch, int64_t context)
{
    int64_t chunk = batch < CHUNK_ROWS ? CHUNK_ROWS / batch : 1;
    return (int)(chunk < context ? chunk : context);
}

uint64_t model_state_plan_bytes(const struct arch *a, int batch, int64_t context)
{
    struct part part[2 * ARCH_LAYERS_MAX];
    void *state[4 * ARCH_LAYERS_MAX] = {NULL};
    struct model m = {.dtype = KN_F32, .part = part};
    struct model_state s = {.m = &m,
                            .B = batch,
                            .chunk = chunk_of(batch, context),
                            .context = context,
                            .state = state,
                            .scratch = state + 2 * ARCH_LAYERS_MAX};
    memset(part, 0, sizeof part);
    m.plan.parts = plan_parts(a, &m.opts, part);
    m.arch.width = a->width, m.arch.vocab = a->vocab, m.arch.norm = a->norm;
    return carve_state(&s);
}

st_t model_state_new(struct model_state **out, struct model *m, int batch, int64_t context, struct base_err *err)
{
    if (batch < 1 || batch > MODEL_BATCH_MAX)
        return base_err_set(err, ST_EINVAL, "batch", "must be from 1 to %d, not %d", MODEL_BATCH_MAX, batch);
    if (context < 1 || context > ARCH_CONTEXT_MAX)
        return base_err_set(err, ST_EINVAL, "context", "must be from 1 to %d, not %lld", ARCH_CONTEXT_MAX,
                            (long long)context);
    TRY(plan_check(&m->arch, &m->opts, batch, chunk_of(batch, context), err));
    struct model_state *s = calloc(1, sizeof *s);
    void **state = calloc(2 * (size_t)m->plan.parts + 1, sizeof *state); /* and scratch */
    struct kn_branch *branch = calloc((size_t)m->plan.parts + 1, sizeof *branch);
    st_t st = ST_ENOMEM;
    if (!s || !state || !branch) goto fail;
    *s = (struct model_state){.m = m, .B = batch, .context = context, .chunk = chunk_of(batch, context)};
    s->state = state, s->scratch = state + m->plan.parts, s->branch = branch;
    s->bytes = carve_state(s);
    st = model_check_fit(&m->opts, m->dev, m->plan.total, s->bytes, "state", err);
    if (st) goto fail_said;
    st = kn_alloc(m->dev, s->bytes, &s->mem);
    if (st) goto fail;
    carve_state(s);
    *out = s;
    return ST_OK;
fail:
    base_err_set(err, st, "state", "%s", base_status_text(st));
fail_said:
    free(branch);
    free(state);
    free(s);
    return st;
}

void model_state_free(struct model_state *s)
{
    if (!s) return;
    kn_free(s->m->dev, s->mem, s->bytes);
    free(s->branch);
    free(s->state);
    free(s);
}

int64_t model_state_pos(const struct model_state *s)
{
    return s->pos;
}

uint64_t model_state_bytes(const struct model_state *s)
{
    return s->caches;
}

static st_t fill(struct model_state *s, double value)
{
    struct kn_tensor t = kn_t1(s->begin, s->m->dtype, (int64_t)(s->span / s->m->esize));
    return s->span ? s->m->dev->op->fill(s->m->dev, &t, value) : ST_OK;
}

st_t model_state_fill(struct model_state *s, int64_t pos)
{
    if (pos < 0 || pos > s->context) return ST_ETOOBIG;
    TRY(fill(s, FILL_VALUE));
    s->pos = pos;
    return ST_OK;
}

void model_state_seek(struct model_state *s, int64_t pos)
{
    s->pos = pos;
}

void model_state_reset(struct model_state *s)
{
    s->pos = 0;
}

/* Weights that are kept in fewer bits leave nothing that products in f32 would save. */
static enum kn_dtype precision_of(const struct model *m, int64_t rows)
{
    return m->opts.weights != ARCH_WEIGHTS_F32 && rows > FEW_ROWS && m->dev->info.bf16 ? KN_BF16 : KN_F32;
}

/* Takes the stream x + r through the n branches that wait, and none waits any more. */
static st_t run(struct model_state *s, int *n, const struct kn_tensor *x, struct kn_tensor *r)
{
    if (!*n) return ST_OK;
    TRY(s->m->dev->op->decode(s->m->dev, s->branch, *n, MODEL_NORM_EPS, x, r));
    *n = 0;
    r->p = NULL;
    return ST_OK;
}

/* tokens [B,n] of which this pass takes T from `from` on; final: the last position's logits go to s->logits. */
static st_t pass(struct model_state *s, const int32_t *tokens, int n, int from, int T, bool final)
{
    struct model *m = s->m;
    const struct kn_ops *op = m->dev->op;
    int64_t N = (int64_t)s->B * T, D = m->arch.width;
    bool one = N == 1 && m->arch.norm == ARCH_NORM_RMS; /* runs of parts go through op decode */
    int waiting = 0;
    for (int b = 0; b < s->B; b++)
        TRY(m->dev->vt->upload(m->dev, (int32_t *)s->tok + (int64_t)b * T, tokens + (int64_t)b * n + from,
                               (size_t)T * sizeof *tokens));
    struct kn_tensor tok = kn_t1(s->tok, KN_I32, N), x = kn_t2(s->x[0], m->dtype, N, D), r = {0};
    struct kn_tensor xn = kn_t2(s->xn, m->dtype, N, D);
    TRY(op->embed(m->dev, &tok, &m->w[m->embed], &x));
    for (int i = 0; i < m->plan.parts; i++) {
        struct layer_ctx c = ctx_of(s, i, T), lender;
        if (m->part[i].lender) {
            lender = ctx_of(s, (int)(m->part[i].lender - m->part), T);
            c.lender = &lender;
        }
        if (one && m->part[i].body->branch && m->part[i].body->branch(&c, &s->branch[waiting])) {
            s->branch[waiting++].norm = &m->w[m->part[i].norm];
            continue;
        }
        TRY(run(s, &waiting, &x, &r));
        struct kn_tensor y = kn_t2(x.p == s->x[0] ? s->x[1] : s->x[0], m->dtype, N, D);
        TRY(stack_norm(m, m->part[i].norm, &x, &r, &xn, s->stat));
        TRY(m->part[i].body->decode(&c, &xn, &y));
        r = x;
        x = y;
    }
    if (one && final) {
        struct kn_branch_head head = {m->w[m->head], kn_t1(s->logits, m->dtype, m->arch.vocab)};
        s->branch[waiting++] = (struct kn_branch){.kind = KN_BRANCH_HEAD, .norm = &m->w[m->norm], .head = head};
    }
    TRY(run(s, &waiting, &x, &r));
    if (one || !final) return ST_OK;
    /* row T - 1 of each sequence */
    struct kn_tensor xl = x, rl = r, last = kn_t2(s->last, m->dtype, s->B, D);
    size_t at = (size_t)(T - 1) * (size_t)D * m->esize;
    xl.d[0] = rl.d[0] = s->B, xl.s[0] = rl.s[0] = T * D;
    xl.p = (char *)x.p + at, rl.p = (char *)r.p + at;
    TRY(stack_norm(m, m->norm, &xl, &rl, &last, s->stat));
    struct kn_tensor wt = kn_transpose(&m->w[m->head]), logits = kn_t2(s->logits, m->dtype, s->B, m->arch.vocab);
    return op->gemm(m->dev, 1, &last, &wt, 0, &logits);
}

static st_t fetch(struct model_state *s, float *logits)
{
    struct model *m = s->m;
    int64_t n = (int64_t)s->B * m->arch.vocab;
    struct kn_tensor from = kn_t1(s->logits, m->dtype, n), to = kn_t1(s->logits32, KN_F32, n);
    if (m->dtype != KN_F32) TRY(m->dev->op->copy(m->dev, &from, &to));
    return m->dev->vt->download(m->dev, logits, s->logits32, (size_t)n * sizeof *logits);
}

st_t model_decode(struct model_state *s, const int32_t *tokens, int n, float *logits)
{
    if (n < 1) return ST_EINVAL;
    if (n > s->context - s->pos) return ST_ETOOBIG;
    for (int64_t i = 0; i < (int64_t)s->B * n; i++)
        if (tokens[i] < 0 || tokens[i] >= s->m->arch.vocab) return ST_EINVAL;
    for (int from = 0; from < n; from += s->chunk) {
        int T = n - from < s->chunk ? n - from : s->chunk;
        TRY(kn_precision(s->m->dev, precision_of(s->m, (int64_t)s->B * T)));
        st_t st = pass(s, tokens, n, from, T, logits && from + T == n);
        kn_precision(s->m->dev, KN_F32);
        if (st) return st;
        s->pos += T;
    }
    return logits ? fetch(s, logits) : ST_OK;
}
