/* What a network needs and where it lies, before anything is allocated: parameters in their slab, activations in
 * theirs.
 *
 * Training keeps, for each branch, the stream before it (x), its normed input (xn), the norm's statistics and what its body
 * saves: nothing is computed twice where
 * all of that fits. Where it does not, some branches keep x alone and are run again before their backward.
 * Without training two streams alternate, and one of each of the others serves all branches (but that what a branch
 * lends stays: layer.h). */
#include <stdio.h>
#include <string.h>

#include "model/internal.h"

#define EMBED_STD 0.02
#define LINE 64 /* bytes: parts and vectors start on a line */

struct walk {
    struct model_param *out; /* NULL: counts alone */
    const struct model_opts *o;
    unsigned role; /* of the part */
    int n;
    int64_t numbers, hidden, other, hidden_end; /* parameters; then in units */
};

static size_t unit(const struct model_opts *o)
{
    return o->weights == ARCH_WEIGHTS_F32 ? kn_dtype_size(o->dtype) : 1;
}

static int64_t line_up(const struct model_opts *o, int64_t n)
{
    int64_t line = LINE / (int64_t)unit(o);
    return (n + line - 1) / line * line;
}

static struct kn_tensor shape_of(const struct layer_tensor *t, const struct model_opts *o)
{
    enum kn_dtype kept = t->role == LAYER_T_MATRIX && !t->both_ways ? model_stored_dtype(o) : o->dtype;
    if (t->mid) return kn_t3(NULL, kept, t->rows / t->mid, t->mid, t->cols);
    bool flat = t->role == LAYER_T_VECTOR && t->cols == 1;
    return flat ? kn_t1(NULL, kept, t->rows) : kn_t2(NULL, kept, t->rows, t->cols);
}

/* layer < 0: none */
static void add(struct walk *w, int layer, bool hidden, const struct layer_tensor *t)
{
    struct kn_tensor shape = shape_of(t, w->o);
    int64_t n = shape.d[0] * shape.s[0] * (int64_t)(kn_dtype_size(shape.dtype) / unit(w->o));
    if (!hidden) w->other = line_up(w->o, w->other);
    else if (t->both_ways) w->hidden = line_up(w->o, w->hidden); /* those before it may be of bytes */
    if (w->out) {
        struct model_param *p = &w->out[w->n];
        if (layer < 0)
            snprintf(p->name, sizeof p->name, "%s", t->name);
        else
            snprintf(p->name, sizeof p->name, "model.layers.%d.%s", layer, t->name);
        p->role = t->role;
        p->init = *t;
        p->hidden = hidden;
        p->layer_role = w->role;
        p->offset = hidden ? w->hidden : w->hidden_end + w->other;
        p->w = shape;
    }
    *(hidden ? &w->hidden : &w->other) += n;
    w->numbers += t->rows * t->cols;
    w->n++;
}

/* name: "…norm" */
static void add_norm(struct walk *w, const struct arch *a, int layer, const char *name)
{
    char text[64];
    struct layer_tensor t = layer_vector(text, a->width, LAYER_INIT_ONES);
    snprintf(text, sizeof text, "%s.weight", name);
    add(w, layer, false, &t);
    if (a->norm == ARCH_NORM_RMS) return;
    t = layer_vector(text, a->width, LAYER_INIT_ZEROS);
    snprintf(text, sizeof text, "%s.bias", name);
    add(w, layer, false, &t);
}

static void add_part(struct walk *w, const struct arch *a, int layer, const struct arch_part *part, const char *norm)
{
    struct layer_tensor t[LAYER_TENSORS_MAX];
    if (!model_body(part->type)) return;
    w->role = part == &a->layer[layer].mixer ? LAYER_MIXER : LAYER_FFN;
    add_norm(w, a, layer, norm);
    int n = space_layer(part->type)->tensors(a, layer, part, t);
    w->hidden = line_up(w->o, w->hidden);
    for (int i = 0; i < n; i++) add(w, layer, t[i].role == LAYER_T_MATRIX, &t[i]);
}

void plan_params(const struct arch *a, const struct model_opts *o, struct plan *p, struct model_param *out, int64_t hidden)
{
    struct walk w = {.out = out, .o = o, .hidden_end = hidden};
    struct layer_tensor embed = layer_matrix("model.embed_tokens.weight", a->vocab, a->width, EMBED_STD),
                        head = layer_matrix("lm_head.weight", a->vocab, a->width, EMBED_STD);
    add(&w, -1, false, &embed);
    for (int i = 0; i < a->depth; i++) {
        add_part(&w, a, i, &a->layer[i].mixer, "input_layernorm");
        add_part(&w, a, i, &a->layer[i].ffn, "post_attention_layernorm");
    }
    w.role = 0;
    add_norm(&w, a, -1, "model.norm");
    if (!a->tie) add(&w, -1, false, &head);
    p->params = w.n;
    p->numbers = w.numbers;
    p->unit = unit(o);
    p->hidden = line_up(o, w.hidden);
    p->elements = p->hidden + line_up(o, w.other);
}

static void part_set(struct part *p, const struct arch *a, const struct model_opts *o, int layer, const struct arch_part *part)
{
    p->body = model_body(part->type);
    p->ctx = (struct layer_ctx){.arch = a, .part = part, .layer = layer, .v = p->v, .dtype = o->dtype,
                                .act = o->precision == KN_BF16 ? KN_BF16 : o->dtype};
    for (int i = 0; p->body->params[i]; i++) p->v[i] = space_part_get(part, p->body->params[i]);
}

/* Links part i to the one whose state it reads. */
static void lend(const struct arch *a, struct part *part, int i)
{
    int layer = part[i].ctx.part == &a->layer[part[i].ctx.layer].mixer ? space_layer_lender(a, part[i].ctx.layer) : -1;
    if (layer < 0) return;
    struct part *from = part;
    while (from->ctx.layer != layer) from++; /* a layer's mixer comes before its ffn */
    part[i].lender = from;
    part[i].ctx.lender = &from->ctx;
    from->ctx.lends = true;
}

int plan_parts(const struct arch *a, const struct model_opts *o, struct part *out)
{
    int n = 0;
    for (int i = 0; i < a->depth; i++) {
        const struct arch_part *two[2] = {&a->layer[i].mixer, &a->layer[i].ffn};
        for (int k = 0; k < 2; k++) {
            if (!model_body(two[k]->type)) continue;
            if (out) part_set(&out[n], a, o, i, two[k]);
            n++;
        }
    }
    for (int i = 0; out && i < n; i++) lend(a, out, i);
    return n;
}

st_t plan_check(const struct arch *a, const struct model_opts *o, int B, int T, struct base_err *err)
{
    struct part part[2 * ARCH_LAYERS_MAX];
    memset(part, 0, sizeof part);
    int parts = plan_parts(a, o, part);
    for (int i = 0; i < parts; i++) {
        struct layer_ctx c = part[i].ctx;
        c.B = B, c.T = T;
        if (part[i].body->check) TRY(part[i].body->check(&c, err));
    }
    return ST_OK;
}

/* Bytes of the largest of what the bodies ask for. */
static uint64_t most(const struct part *part, int parts, const struct model_opts *o, int T, bool saved)
{
    uint64_t max = 0;
    for (int i = 0; i < parts; i++) {
        struct layer_ctx c = part[i].ctx;
        c.B = o->batch, c.T = T;
        uint64_t n = saved ? part[i].body->saved_bytes(&c) : part[i].body->scratch_bytes(&c, o->train);
        if (n > max) max = n;
    }
    return max;
}

/* What a branch lends must outlive its own passes. */
static bool recomputes(const struct model *m, int i)
{
    return i < m->plan.recomputed && !m->part[i].ctx.lends;
}

/* One branch's worth for all that are recomputed: [N,D] and the most that one of them saves. */
static void carve_shared(struct model *m, struct carve *c, void **xn, void **saved)
{
    int64_t N = m->opts.batch * (int64_t)m->arch.context;
    uint64_t max = 0;
    int n = 0;
    for (int i = 0; i < m->plan.parts; i++) {
        struct layer_ctx ctx = m->part[i].ctx;
        ctx.B = m->opts.batch, ctx.T = m->arch.context;
        uint64_t bytes = recomputes(m, i) ? m->part[i].body->saved_bytes(&ctx) : 0;
        if (bytes > max) max = bytes;
        n += recomputes(m, i);
    }
    *xn = n ? carve2(c, N, m->arch.width).p : NULL;
    *saved = n ? carve_bytes(c, max, 1) : NULL;
}

/* What products round to bf16 anyway is kept as bf16. */
static enum kn_dtype normed_dtype(const struct model *m, const struct part *p)
{
    return m->opts.train && m->arch.norm == ARCH_NORM_RMS && p->body->half_input ? p->ctx.act : m->dtype;
}

static struct kn_tensor carve_normed(const struct model *m, struct carve *c, enum kn_dtype dtype)
{
    struct carve n = {c->base, dtype, c->used};
    struct kn_tensor t = carve2(&n, m->opts.batch * (int64_t)m->arch.context, m->arch.width);
    c->used = n.used;
    return t;
}

uint64_t plan_carve(struct model *m)
{
    const struct model_opts *o = &m->opts;
    if (!o->batch) return 0;
    int64_t T = m->arch.context, N = o->batch * T, D = m->arch.width;
    struct carve c = {m->act, m->dtype, 0};
    m->tok = carve_bytes(&c, (uint64_t)N, sizeof(int32_t));
    m->target = carve_bytes(&c, (uint64_t)N, sizeof(int32_t));
    m->loss = carve2(&c, N, 1).p;
    m->aux = carve2(&c, 1, 1).p;
    if (o->train) m->clip = carve_bytes(&c, 2, sizeof(double)), m->at = carve_bytes(&c, 6, sizeof(double));
    m->x = carve2(&c, N, D).p;
    m->xn = carve2(&c, N, D).p;
    m->stat = carve2(&c, N, norm_stats(&m->arch)).p;
    void *other = o->train ? NULL : carve2(&c, N, D).p;
    void *saved = o->train ? NULL : carve_bytes(&c, most(m->part, m->plan.parts, o, (int)T, true), 1);
    void *xn = NULL, *kept = NULL;
    if (o->train) carve_shared(m, &c, &xn, &kept);
    for (int i = m->plan.parts - 1, k = 1; i >= 0; i--, k ^= 1) {
        struct part *p = &m->part[i];
        struct layer_ctx ctx = p->ctx;
        ctx.B = o->batch, ctx.T = (int)T;
        p->xn_dtype = normed_dtype(m, p);
        if (!o->train) {
            p->x = k ? other : m->x, p->xn = m->xn, p->stat = m->stat;
            p->saved = p->ctx.lends ? carve_bytes(&c, p->body->saved_bytes(&ctx), 1) : saved;
            continue;
        }
        p->recomputed = recomputes(m, i);
        p->x = carve2(&c, N, D).p;
        p->xn = p->recomputed ? xn : carve_normed(m, &c, p->xn_dtype).p;
        p->stat = carve2(&c, N, norm_stats(&m->arch)).p;
        p->saved = p->recomputed ? kept : carve_bytes(&c, p->body->saved_bytes(&ctx), 1);
    }
    if (o->train) {
        m->dx = carve2(&c, N, D).p;
        m->dxn = carve2(&c, N, D).p;
    }
    m->scratch = carve_bytes(&c, most(m->part, m->plan.parts, o, (int)T, false), 1);
    return c.used;
}

void plan_make(const struct arch *a, const struct model_opts *o, uint64_t there, struct plan *p)
{
    /* 2 x 128 parts on the stack, so that a plan needs no memory */
    struct part part[2 * ARCH_LAYERS_MAX];
    struct model m = {.opts = *o, .dtype = o->dtype, .part = part};
    memset(part, 0, sizeof part);
    memset(p, 0, sizeof *p);
    plan_params(a, o, p, NULL, 0);
    p->parts = m.plan.parts = plan_parts(a, o, part);
    m.arch.context = a->context, m.arch.width = a->width, m.arch.norm = a->norm;
    p->slab = (uint64_t)p->elements * p->unit;
    p->slabs = o->train ? 4 : 1;
    uint64_t least = UINT64_MAX;
    for (int k = 0, most = o->train ? p->parts : 0; k <= most; k++) {
        m.plan.recomputed = k;
        uint64_t act = plan_carve(&m), total = act >= CARVE_MAX ? CARVE_MAX : p->slab * (uint64_t)p->slabs + act;
        if (total >= least) continue;
        least = total;
        p->recomputed = k, p->act = act, p->total = total;
        if (total <= there) break;
    }
}
