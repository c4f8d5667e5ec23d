/* Building a network and taking it apart. */
#include <stdlib.h>
#include <string.h>

#include "model/internal.h"

static st_t check_opts(const struct arch *a, const struct model_opts *o, struct base_err *err)
{
    if (o->dtype != KN_F32 && o->dtype != KN_F64)
        return base_err_set(err, ST_ENOTSUP, "model", "%s is not built yet", kn_dtype_name(o->dtype));
    if (o->weights != ARCH_WEIGHTS_F32 && (o->train || o->batch || o->dtype != KN_F32))
        return base_err_set(err, ST_ENOTSUP, "model", "weights kept in fewer bits are for decoding in f32 alone");
    if (o->batch < 0 || o->batch > MODEL_BATCH_MAX)
        return base_err_set(err, ST_EINVAL, "batch", "must be from 0 to %d, not %d", MODEL_BATCH_MAX, o->batch);
    return space_arch_check(a, err);
}

uint64_t model_plan_bytes(const struct arch *a, const struct model_opts *o)
{
    struct plan p;
    if (check_opts(a, o, NULL)) return 0;
    plan_make(a, o, o->memory_limit ? o->memory_limit : UINT64_MAX, &p);
    return p.total;
}

uint64_t model_room(const struct model_opts *o, const struct kn_dev *dev, uint64_t held)
{
    uint64_t there = dev->info.memory > kn_dev_bytes(dev) ? dev->info.memory - kn_dev_bytes(dev) : 0;
    if (!o->memory_limit) return there;
    uint64_t left = o->memory_limit > held ? o->memory_limit - held : 0;
    return left < there ? left : there;
}

st_t model_check_fit(const struct model_opts *o, const struct kn_dev *dev, uint64_t held, uint64_t need,
                     const char *what, struct base_err *err)
{
    uint64_t there = model_room(o, dev, held);
    if (need <= there) return ST_OK;
    return base_err_set(err, ST_ENOFIT, what, "needs %.1f MiB, %.1f MiB are there", (double)need / (1 << 20),
                        (double)there / (1 << 20));
}

/* Descriptors of value and gradient, now that there is memory. */
static void place(struct model *m)
{
    for (int i = 0; i < m->plan.params; i++) {
        struct model_param *p = &m->param[i];
        size_t at = (size_t)p->offset * m->plan.unit;
        p->g = p->w;
        p->w.p = (char *)m->slab[0] + at;
        p->g.p = m->slab[1] ? (char *)m->slab[1] + at : NULL;
        m->w[i] = p->w;
        m->g[i] = p->g;
    }
}

/* Each part's run of parameters: the embedding comes first, then for each part its norm and its tensors. */
static void link_parts(struct model *m)
{
    int at = 1;
    for (int i = 0; i < m->plan.parts; i++) {
        struct part *p = &m->part[i];
        struct layer_tensor t[LAYER_TENSORS_MAX];
        p->norm = at;
        at += norm_params(&m->arch);
        p->ctx.dev = m->dev;
        p->ctx.w = m->w + at;
        p->ctx.g = m->opts.train ? m->g + at : NULL;
        at += space_layer(p->ctx.part->type)->tensors(&m->arch, p->ctx.layer, p->ctx.part, t);
    }
    m->embed = 0;
    m->norm = at;
    m->head = m->arch.tie ? 0 : at + norm_params(&m->arch);
}

/* The slabs and activations, out of one piece of memory or each of its own. */
static st_t take_memory(struct model *m, char *memory)
{
    struct plan *p = &m->plan;
    m->borrowed = memory != NULL;
    for (int i = 0; i < p->slabs; i++) {
        if (!memory) {
            TRY(kn_alloc(m->dev, p->slab, &m->slab[i]));
            continue;
        }
        m->slab[i] = memory + (uint64_t)i * p->slab;
        struct kn_tensor t = kn_t1(m->slab[i], m->dtype, p->elements);
        TRY(m->dev->op->fill(m->dev, &t, 0)); /* gaps hold zeros */
    }
    if (!p->act) return ST_OK;
    if (!memory) return kn_alloc(m->dev, p->act, &m->act);
    m->act = memory + (uint64_t)p->slabs * p->slab;
    return ST_OK;
}

static st_t build(struct model *m, void *memory)
{
    struct plan *p = &m->plan;
    m->param = calloc((size_t)p->params, sizeof *m->param);
    m->w = calloc((size_t)p->params * 2, sizeof *m->w);
    m->part = calloc((size_t)p->parts + 1, sizeof *m->part);
    m->host = malloc((size_t)m->opts.batch * (size_t)m->arch.context * m->esize + 1);
    if (!m->param || !m->w || !m->part || !m->host) return ST_ENOMEM;
    m->g = m->w + p->params;
    plan_params(&m->arch, &m->opts, &(struct plan){0}, m->param, p->hidden);
    plan_parts(&m->arch, &m->opts, m->part);
    TRY(take_memory(m, memory));
    plan_carve(m);
    place(m);
    link_parts(m);
    return ST_OK;
}

static st_t check_new(const struct arch *a, struct kn_dev *dev, const struct model_opts *o, struct base_err *err)
{
    TRY(check_opts(a, o, err));
    if (o->precision != KN_F32 && !(o->precision == KN_BF16 && dev->info.bf16 && o->dtype == KN_F32))
        return base_err_set(err, ST_ENOTSUP, "precision", "this device (%s, %s) has no products in %s; f32 is always there",
                            dev->info.kind, dev->info.isa, kn_dtype_name(o->precision));
    return plan_check(a, o, o->batch, a->context, err);
}

static st_t new_from(struct model **out, const struct arch *a, struct kn_dev *dev, const struct model_opts *o, const struct plan *p,
                     void *memory, struct base_err *err)
{
    struct model *m = calloc(1, sizeof *m);
    if (!m) return base_err_set(err, ST_ENOMEM, "model", "out of memory");
    m->arch = *a;
    m->opts = *o;
    m->dev = dev;
    m->dtype = o->dtype;
    m->esize = kn_dtype_size(o->dtype);
    m->plan = *p;
    st_t st = build(m, memory);
    if (st) {
        model_free(m);
        return base_err_set(err, st, "model", "%s: taking %.1f MiB", base_status_text(st), (double)p->total / (1 << 20));
    }
    *out = m;
    return ST_OK;
}

st_t model_new(struct model **out, const struct arch *a, struct kn_dev *dev, const struct model_opts *o,
               struct base_err *err)
{
    TRY(check_new(a, dev, o, err));
    struct plan p;
    plan_make(a, o, model_room(o, dev, 0), &p);
    TRY(model_check_fit(o, dev, 0, p.total, "model", err));
    return new_from(out, a, dev, o, &p, NULL, err);
}

/* Without m and v: branches are recomputed no less than with them. */
static void plan_at(const struct arch *a, const struct model_opts *o, struct plan *p)
{
    plan_make(a, o, o->memory_limit ? o->memory_limit : UINT64_MAX, p);
    int slabs = o->train ? 2 : 1;
    p->total -= (uint64_t)(p->slabs - slabs) * p->slab;
    p->slabs = slabs;
}

st_t model_bytes_at(const struct arch *a, struct kn_dev *dev, const struct model_opts *o, uint64_t *bytes, struct base_err *err)
{
    struct plan p;
    TRY(check_new(a, dev, o, err));
    plan_at(a, o, &p);
    if (o->memory_limit && p.total > o->memory_limit)
        return base_err_set(err, ST_ENOFIT, "model", "needs %.1f MiB, %.1f MiB are there", (double)p.total / (1 << 20), (double)o->memory_limit / (1 << 20));
    *bytes = p.total;
    return ST_OK;
}

st_t model_new_at(struct model **out, const struct arch *a, struct kn_dev *dev, const struct model_opts *o, void *memory, struct base_err *err)
{
    struct plan p;
    plan_at(a, o, &p);
    return new_from(out, a, dev, o, &p, memory, err);
}

void model_free(struct model *m)
{
    if (!m) return;
    m->dev->vt->forget(m->dev, m->train.graph);
    for (int i = 0; i < 4 && !m->borrowed; i++) kn_free(m->dev, m->slab[i], m->plan.slab);
    if (!m->borrowed) kn_free(m->dev, m->act, m->plan.act);
    free(m->host);
    free(m->part);
    free(m->w);
    free(m->param);
    free(m);
}

int model_recomputed(const struct model *m)
{
    int n = 0;
    for (int i = 0; i < m->plan.parts; i++) n += m->part[i].recomputed;
    return n;
}

const struct arch *model_arch(const struct model *m)
{
    return &m->arch;
}

int model_params(const struct model *m)
{
    return m->plan.params;
}

const struct model_param *model_param(const struct model *m, int i)
{
    return &m->param[i];
}

int model_param_find(const struct model *m, const char *name)
{
    for (int i = 0; i < m->plan.params; i++)
        if (!strcmp(m->param[i].name, name)) return i;
    return -1;
}

int64_t model_param_count(const struct model *m)
{
    return m->plan.numbers;
}

int64_t model_steps(const struct model *m)
{
    return m->steps;
}

void model_steps_set(struct model *m, int64_t t)
{
    m->steps = t;
}
