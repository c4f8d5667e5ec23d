#include "model/supernet.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/supernet_layout.h"

#define UPDATES_KEY "taut.updates"

/* A tensor and what is known of it. */
struct shared {
    struct extent whole;
    struct extent box;   /* what the last step touched */
    bool touched;
    int64_t updates;
};

struct supernet {
    struct model store;  /* its parameters, and nothing that computes: what saves, loads and begins a model does so with this */
    struct supernet_opts opts;
    struct layout layout;
    struct shared *tensor; /* [store.plan.params] */
    struct cut *cut;       /* [ncut] of the path at hand; scratch */
    int ncut;
    void *block;           /* of the path at hand: weights, gradients, activations */
    uint64_t block_bytes, block_limit;
    struct kn_tensor hidden; /* of the first path [N,width], where others learn from it */
    uint64_t hidden_bytes;
    bool stepped;          /* gradients are there */
};

static int64_t line_up(const struct model *m, int64_t n)
{
    int64_t line = 64 / (int64_t)m->esize;
    return (n + line - 1) / line * line;
}

/* Shapes and places of the tensors; elements in all. */
static int64_t lay_out(struct supernet *s)
{
    struct model *m = &s->store;
    int64_t at = 0;
    for (int i = 0; i < m->plan.params; i++) {
        struct model_param *p = &m->param[i];
        struct extent *e = &s->tensor[i].whole;
        bool in_layer;
        layout_tensor(&s->layout, i, p->name, sizeof p->name, e, &p->init, &in_layer);
        int64_t rows = side_count(&e->rows), cols = side_count(&e->cols);
        p->role = p->init.role;
        p->hidden = in_layer && p->role == LAYER_T_MATRIX;
        p->offset = at;
        p->w = cols == 1 && p->role == LAYER_T_VECTOR ? kn_t1(NULL, m->dtype, rows) : kn_t2(NULL, m->dtype, rows, cols);
        m->plan.numbers += rows * cols;
        at += line_up(m, rows * cols);
    }
    return at;
}

static st_t take(struct supernet *s, struct base_err *err)
{
    struct model *m = &s->store;
    struct plan *p = &m->plan;
    p->params = layout_tensors(&s->layout);
    p->unit = m->esize;
    m->param = calloc((size_t)p->params, sizeof *m->param);
    m->w = calloc(2 * (size_t)p->params, sizeof *m->w);
    s->tensor = calloc((size_t)p->params, sizeof *s->tensor);
    s->cut = calloc((size_t)p->params, sizeof *s->cut);
    if (!m->param || !m->w || !s->tensor || !s->cut) return base_err_set(err, ST_ENOMEM, "supernet", "out of memory");
    m->g = m->w + p->params;
    p->elements = lay_out(s);
    p->slab = (uint64_t)p->elements * m->esize;
    p->slabs = 4;
    const struct model_opts limit = {.memory_limit = s->opts.memory_limit};
    if (s->opts.mix > 0) s->hidden_bytes = (uint64_t)s->opts.batch * (uint64_t)s->layout.context * (uint64_t)s->layout.width * m->esize;
    uint64_t need = 4 * p->slab + s->hidden_bytes;
    TRY(model_check_fit(&limit, m->dev, 0, need, "supernet", err));
    s->block_limit = model_room(&limit, m->dev, 0) - need;
    bool there = !s->hidden_bytes || !kn_alloc(m->dev, s->hidden_bytes, &s->hidden.p);
    for (int i = 0; i < 4 && there; i++) there = !kn_alloc(m->dev, p->slab, &m->slab[i]);
    if (!there) return base_err_set(err, ST_ENOMEM, "supernet", "taking %.1f MiB", (double)need / (1 << 20));
    for (int i = 0; i < p->params; i++) {
        struct model_param *q = &m->param[i];
        size_t at = (size_t)q->offset * m->esize;
        q->g = q->w;
        q->w.p = (char *)m->slab[0] + at;
        q->g.p = (char *)m->slab[1] + at;
        m->w[i] = q->w;
        m->g[i] = q->g;
    }
    return ST_OK;
}

st_t supernet_new(struct supernet **out, const struct space_options *options, struct kn_dev *dev, const struct supernet_opts *o, struct base_err *err)
{
    if (o->batch < 1 || o->batch > MODEL_BATCH_MAX) return base_err_set(err, ST_EINVAL, "batch", "must be from 1 to %d, not %d", MODEL_BATCH_MAX, o->batch);
    struct supernet *s = calloc(1, sizeof *s);
    if (!s) return base_err_set(err, ST_ENOMEM, "supernet", "out of memory");
    s->opts = *o;
    s->store.dev = dev;
    s->store.dtype = o->dtype;
    s->store.esize = kn_dtype_size(o->dtype);
    s->store.opts = (struct model_opts){.dtype = o->dtype, .train = true};
    st_t st = layout_init(&s->layout, options, err);
    if (!st) st = take(s, err);
    if (st) {
        supernet_free(s);
        return st;
    }
    *out = s;
    return ST_OK;
}

void supernet_free(struct supernet *s)
{
    if (!s) return;
    struct model *m = &s->store;
    for (int i = 0; i < 4; i++) kn_free(m->dev, m->slab[i], m->plan.slab);
    kn_free(m->dev, s->block, s->block_bytes);
    kn_free(m->dev, s->hidden.p, s->hidden_bytes);
    free(m->param);
    free(m->w);
    free(s->tensor);
    free(s->cut);
    layout_fini(&s->layout);
    free(s);
}

int64_t supernet_params(const struct supernet *s)
{
    return s->store.plan.numbers;
}

int64_t supernet_steps(const struct supernet *s)
{
    return s->store.steps;
}

st_t supernet_init(struct supernet *s, uint64_t seed)
{
    for (int i = 0; i < s->store.plan.params; i++) s->tensor[i].updates = 0;
    s->stepped = false;
    return model_init(&s->store, seed);
}

st_t supernet_holds(const struct supernet *s, const struct arch *a, struct base_err *err)
{
    int n;
    return layout_cuts(&s->layout, a, s->cut, s->store.plan.params, &n, err);
}

/* ---- slices ---- */

struct move {
    struct kn_dev *dev;
    char *whole, *part;
    enum kn_dtype dtype;
    size_t esize;
    double alpha; /* back: whole += alpha part; 0: part = whole */
};

static st_t move_piece(void *ctx, const struct piece *p)
{
    struct move *m = ctx;
    struct kn_tensor whole = {.p = m->whole + (size_t)p->whole_at * m->esize, .dtype = m->dtype, .rank = p->rank}, part = whole;
    part.p = m->part + (size_t)p->part_at * m->esize;
    for (int i = 0; i < p->rank; i++) whole.d[i] = part.d[i] = p->d[i], whole.s[i] = p->whole_s[i], part.s[i] = p->part_s[i];
    return m->alpha != 0 ? m->dev->op->axpy(m->dev, m->alpha, &part, &whole) : m->dev->op->copy(m->dev, &whole, &part);
}

/* Weights to the model, or alpha times its gradients to the supernet's. s->cut is the model's. */
static st_t move_all(struct supernet *s, struct model *m, double alpha)
{
    int slab = alpha != 0;
    for (int i = 0; i < s->ncut; i++) {
        const struct cut *c = &s->cut[i];
        struct move v = {.dev = m->dev, .whole = (char *)s->store.slab[slab] + (size_t)s->store.param[c->tensor].offset * s->store.esize,
                         .part = slab ? m->g[i].p : m->w[i].p, .dtype = m->dtype, .esize = m->esize, .alpha = alpha};
        TRY(extent_pieces(&s->tensor[c->tensor].whole, &c->part, false, KN_RANK, move_piece, &v));
    }
    return ST_OK;
}

static st_t cut_path(struct supernet *s, const struct arch *a, struct base_err *err)
{
    TRY(space_arch_check(a, err));
    return layout_cuts(&s->layout, a, s->cut, s->store.plan.params, &s->ncut, err);
}

static void drop_block(struct supernet *s)
{
    kn_free(s->store.dev, s->block, s->block_bytes);
    s->block = NULL;
    s->block_bytes = 0;
}

st_t supernet_slice(struct supernet *s, const struct arch *a, const struct model_opts *o, struct model **out, struct base_err *err)
{
    struct model *m;
    if (o->dtype != s->opts.dtype || o->weights != ARCH_WEIGHTS_F32) return base_err_set(err, ST_ENOTSUP, "model", "a slice has the supernet's dtype");
    TRY(cut_path(s, a, err));
    drop_block(s);
    TRY(model_new(&m, a, s->store.dev, o, err));
    st_t st = move_all(s, m, 0);
    if (st) {
        model_free(m);
        return st;
    }
    *out = m;
    return ST_OK;
}

/* ---- a step ---- */

static st_t make_room(struct supernet *s, uint64_t bytes, struct base_err *err)
{
    struct kn_dev *dev = s->store.dev;
    if (bytes <= s->block_bytes) return ST_OK;
    drop_block(s);
    st_t st = kn_alloc(dev, bytes, &s->block);
    if (st) return base_err_set(err, st, "supernet", "taking %.1f MiB for a path", (double)bytes / (1 << 20));
    s->block_bytes = bytes;
    return ST_OK;
}

static void touch(struct supernet *s)
{
    for (int i = 0; i < s->ncut; i++) {
        struct shared *t = &s->tensor[s->cut[i].tensor];
        if (t->touched) extent_grow(&t->box, &s->cut[i].part);
        else t->box = s->cut[i].part, t->touched = true;
    }
}

/* What the first path of a step said, kept for the others. */
static st_t keep(struct supernet *s, const struct model *m, int B, int T)
{
    struct kn_tensor x = model_hidden(m, B, T);
    s->hidden = kn_t2(s->hidden.p, m->dtype, x.d[0], x.d[1]);
    return m->dev->op->copy(m->dev, &x, &s->hidden);
}

/* Its head lies in the supernet, as wide as the path was; it moves after the step alone. */
static struct model_teacher teacher_of(const struct supernet *s, bool tied)
{
    const struct model *m = &s->store;
    const struct model_param *p = &m->param[tied ? 0 : m->plan.params - 1];
    struct model_teacher t = {.x = s->hidden, .w = p->w, .mix = s->opts.mix};
    t.w.d[1] = s->hidden.d[1];
    return t;
}

static st_t step_path(struct supernet *s, const struct arch *a, const struct arch *first, double share, const int32_t *tokens, const int32_t *targets, int B, int T,
                      double *loss, struct base_err *err)
{
    bool learns = s->opts.mix > 0 && a != first;
    struct model_opts o = {.dtype = s->opts.dtype, .train = true, .batch = s->opts.batch, .precision = s->opts.precision, .memory_limit = s->block_limit};
    struct model *m;
    uint64_t bytes;
    TRY(cut_path(s, a, err));
    TRY(model_bytes_at(a, s->store.dev, &o, &bytes, err));
    TRY(make_room(s, bytes, err));
    TRY(model_new_at(&m, a, s->store.dev, &o, s->block, err));
    st_t st = move_all(s, m, 0);
    struct model_teacher by = teacher_of(s, first->tie);
    if (!st) st = learns ? model_step_distill(m, tokens, targets, B, T, &by, loss) : model_step(m, tokens, targets, B, T, loss);
    if (!st && s->opts.mix > 0 && !learns) st = keep(s, m, B, T);
    if (!st) st = move_all(s, m, share);
    if (!st) touch(s);
    model_free(m);
    return st;
}

st_t supernet_step(struct supernet *s, const struct arch *const *path, int n, const int32_t *tokens, const int32_t *targets, int B, int T, double *loss,
                   struct base_err *err)
{
    struct model *m = &s->store;
    if (n < 1 || n > SUPERNET_PATHS_MAX) return base_err_set(err, ST_EINVAL, "paths", "must be from 1 to %d, not %d", SUPERNET_PATHS_MAX, n);
    struct kn_tensor g = kn_t1(m->slab[1], m->dtype, m->plan.elements);
    s->stepped = false;
    for (int i = 0; i < m->plan.params; i++) s->tensor[i].touched = false;
    TRY(m->dev->op->fill(m->dev, &g, 0));
    for (int i = 0; i < n; i++) TRY(step_path(s, path[i], path[0], 1.0 / n, tokens, targets, B, T, &loss[i], err));
    s->stepped = true;
    return ST_OK;
}

struct moving {
    struct model *m;
    int64_t offset;
    const struct kn_adamw *h;
};

static st_t update_piece(void *ctx, const struct piece *p)
{
    struct moving *u = ctx;
    struct model *m = u->m;
    int64_t runs = p->whole_s[0] == 1 ? 1 : p->d[0], n = p->d[0] / runs;
    for (int64_t r = 0; r < runs; r++) {
        struct kn_tensor t[4];
        for (int i = 0; i < 4; i++) t[i] = kn_t1((char *)m->slab[i] + (size_t)(u->offset + p->whole_at + r * p->whole_s[0]) * m->esize, m->dtype, n);
        TRY(m->dev->op->adamw(m->dev, &t[0], &t[1], &t[2], &t[3], u->h));
    }
    return ST_OK;
}

st_t supernet_update(struct supernet *s, const struct model_hyper *h, double *gnorm)
{
    struct model *m = &s->store;
    if (!s->stepped) return ST_ESTATE;
    struct kn_adamw all;
    TRY(model_clip(m, h, gnorm, &all));
    for (int i = 0; i < m->plan.params; i++) {
        struct shared *t = &s->tensor[i];
        if (!t->touched) continue;
        struct kn_adamw a = all;
        a.lr *= m->param[i].hidden ? h->hidden_lr_scale : 1;
        a.t = t->updates + 1;
        TRY(extent_pieces(&t->whole, &t->box, true, 1, update_piece, &(struct moving){m, m->param[i].offset, &a}));
        t->updates++;
    }
    s->stepped = false;
    m->steps++;
    return ST_OK;
}

/* ---- on disk ---- */

st_t supernet_save(struct supernet *s, const char *path, const struct ckpt_meta *meta, int nmeta, char sha256[BASE_SHA256_HEX], uint64_t *bytes,
                   struct base_err *err)
{
    struct base_buf b = BASE_BUF_INIT;
    struct ckpt_meta *all = malloc(((size_t)nmeta + 1) * sizeof *all);
    for (int i = 0; i < s->store.plan.params; i++) base_buf_printf(&b, "%s%" PRId64, i ? " " : "", s->tensor[i].updates);
    st_t st = all ? b.st : ST_ENOMEM;
    if (st) {
        base_err_set(err, st, path, "out of memory");
    } else {
        if (nmeta) memcpy(all, meta, (size_t)nmeta * sizeof *all);
        all[nmeta] = (struct ckpt_meta){UPDATES_KEY, b.p};
        st = model_save(&s->store, path, true, all, nmeta + 1, sha256, bytes, err);
    }
    free(all);
    base_buf_fini(&b);
    return st;
}

/* n numbers, a space between two. */
static bool read_updates(const char *text, int64_t *out, int n)
{
    for (int i = 0; i < n; i++) {
        char *end;
        errno = 0;
        if (*text < '0' || *text > '9') return false;
        out[i] = strtoll(text, &end, 10);
        if (errno || *end != (i + 1 < n ? ' ' : '\0')) return false;
        text = end + 1;
    }
    return true;
}

st_t supernet_load(struct supernet *s, const char *path, struct base_err *err)
{
    int n = s->store.plan.params;
    char *text = NULL;
    int64_t *updates = malloc((size_t)n * sizeof *updates);
    st_t st = updates ? model_load_meta(path, UPDATES_KEY, &text, err) : base_err_set(err, ST_ENOMEM, path, "out of memory");
    if (st == ST_ENOTFOUND) st = base_err_set(err, ST_EINVAL, path, "no %s: not a supernet", UPDATES_KEY);
    bool whole = !st && read_updates(text, updates, n);
    if (!st) st = model_load(&s->store, path, true, err); /* names what does not belong together */
    if (!st && !whole) st = base_err_set(err, ST_ECORRUPT, path, "%s: not %d numbers of updates", UPDATES_KEY, n);
    for (int i = 0; i < n && !st; i++) s->tensor[i].updates = updates[i];
    if (!st) s->stepped = false;
    free(updates);
    free(text);
    return st;
}
