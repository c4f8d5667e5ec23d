/* The list of proxies, and what they share of one network. */
#include "proxies/proxy.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "proxies/internal.h"

#define PROXY(name) extern const struct proxy proxy_##name;
#include "proxies/proxies.def"
#undef PROXY

static const struct proxy *const list[] = {
#define PROXY(name) &proxy_##name,
#include "proxies/proxies.def"
#undef PROXY
};

int proxy_count(void)
{
    return (int)(sizeof list / sizeof *list);
}

const char *proxy_name(int i)
{
    return list[i]->name;
}

bool proxy_on_paper(int i)
{
    return list[i]->paper;
}

int proxy_find(const char *name)
{
    for (int i = 0; i < proxy_count(); i++)
        if (!strcmp(list[i]->name, name)) return i;
    return -1;
}

int proxy_length(const struct arch *a)
{
    return a->context < PROXY_CONTEXT ? a->context : PROXY_CONTEXT;
}

st_t proxy_model_new(struct model **out, const struct arch *a, struct kn_dev *dev, uint64_t seed, struct base_err *err)
{
    struct arch shorter = *a;
    struct model_opts o = {.train = true, .batch = PROXY_BATCH};
    struct model *m;
    shorter.context = proxy_length(a);
    TRY(model_new(&m, &shorter, dev, &o, err));
    st_t st = model_init(m, seed);
    if (st) model_free(m);
    else *out = m;
    return st;
}

/* ---- one network's tensors ---- */

st_t proxy_step(struct proxy_ctx *c, int batch)
{
    const struct proxy_input *in = c->in;
    double loss;
    return model_step(in->m, proxy_tokens(c, batch), in->targets + (int64_t)batch * in->B * in->T, in->B, in->T, &loss);
}

st_t proxy_fits(const struct proxy_ctx *c, double bytes, struct base_err *err)
{
    double there = (double)c->in->dev->info.memory - (double)kn_dev_bytes(c->in->dev) - 4.0 * (double)c->numbers;
    for (int i = 0; i < PROXY_BATCHES; i++)
        if (c->gradient[i]) there -= 4.0 * (double)c->wnumbers;
    if (bytes <= there) return ST_OK;
    return base_err_set(err, ST_ENOFIT, "proxies", "needs %.1f MiB beside the network, %.1f MiB are there", bytes / (1 << 20), fmax(0, there) / (1 << 20));
}

st_t proxy_gradient(struct proxy_ctx *c, int batch, const float **g, struct base_err *err)
{
    if (!c->gradient[batch]) {
        TRY(proxy_fits(c, 4.0 * (double)c->wnumbers, err));
        float *host = malloc((size_t)c->wnumbers * sizeof *host + 1);
        st_t st = host ? proxy_step(c, batch) : ST_ENOMEM;
        for (int i = 0; !st && i < c->nw; i++) {
            const struct proxy_tensor *t = &c->tensor[i];
            st = c->in->dev->vt->download(c->in->dev, host + t->from, t->p->g.p, (size_t)t->n * sizeof *host);
        }
        if (st) {
            free(host);
            return st;
        }
        c->gradient[batch] = host;
    }
    *g = c->gradient[batch];
    return ST_OK;
}

st_t proxy_map(struct proxy_ctx *c, const struct proxy_tensor *t, float (*f)(float x, double factor), double factor)
{
    float *host = malloc((size_t)t->n * sizeof *host + 1);
    if (!host) return ST_ENOMEM;
    for (int64_t i = 0; i < t->n; i++) host[i] = f(c->weights[t->from + i], factor);
    st_t st = c->in->dev->vt->upload(c->in->dev, t->p->w.p, host, (size_t)t->n * sizeof *host);
    if (!st) st = c->in->dev->vt->sync(c->in->dev); /* host is read */
    free(host);
    return st;
}

st_t proxy_restore(struct proxy_ctx *c)
{
    for (int i = 0; i < c->ntensors; i++) {
        const struct proxy_tensor *t = &c->tensor[i];
        TRY(c->in->dev->vt->upload(c->in->dev, t->p->w.p, c->weights + t->from, (size_t)t->n * sizeof *c->weights));
    }
    return c->in->dev->vt->sync(c->in->dev);
}

st_t proxy_fetch(struct kn_dev *dev, const struct kn_tensor *t, int64_t n, void **out)
{
    size_t bytes = (size_t)n * kn_dtype_size(t->dtype);
    void *p = malloc(bytes + 1);
    st_t st = p ? dev->vt->download(dev, p, t->p, bytes) : ST_ENOMEM;
    if (st) free(p);
    else *out = p;
    return st;
}

double proxy_saliency(const struct proxy_ctx *c, const struct proxy_tensor *t, const float *g)
{
    double sum = 0;
    for (int64_t i = 0; i < t->n; i++) sum += fabs((double)g[i] * (double)c->weights[t->from + i]);
    return sum;
}

static void list_tensors(struct proxy_ctx *c, bool hidden)
{
    for (int i = 0; i < model_params(c->in->m); i++) {
        const struct model_param *p = model_param(c->in->m, i);
        if (p->hidden != hidden) continue;
        bool many = p->w.rank == 3;
        int64_t rows = p->w.d[many], cols = p->w.rank == 1 ? 1 : p->w.d[many + 1];
        c->tensor[c->ntensors++] = (struct proxy_tensor){p, c->numbers, kn_count(&p->w), many ? p->w.d[0] : 1, rows, cols};
        c->numbers += kn_count(&p->w);
    }
    if (hidden) c->nw = c->ntensors, c->wnumbers = c->numbers;
}

static void fini(struct proxy_ctx *c)
{
    for (int i = 0; i < PROXY_BATCHES; i++) free(c->gradient[i]);
    free(c->weights);
    free(c->tensor);
}

static st_t init(struct proxy_ctx *c, struct base_err *err)
{
    const struct proxy_input *in = c->in;
    c->tensor = calloc((size_t)model_params(in->m), sizeof *c->tensor);
    if (!c->tensor) return ST_ENOMEM;
    list_tensors(c, true), list_tensors(c, false);
    TRY(proxy_fits(c, 0, err)); /* numbers are counted */
    c->weights = malloc((size_t)c->numbers * sizeof *c->weights);
    if (!c->weights) return ST_ENOMEM;
    for (int i = 0; i < c->ntensors; i++) {
        const struct proxy_tensor *t = &c->tensor[i];
        TRY(in->dev->vt->download(in->dev, c->weights + t->from, t->p->w.p, (size_t)t->n * sizeof *c->weights));
    }
    return ST_OK;
}

/* ---- the run ---- */

static st_t check(const int *which, int n, const struct proxy_input *in, struct base_err *err)
{
    bool text = false;
    for (int i = 0; i < n; i++) text |= !list[which[i]]->paper;
    if (!text) return ST_OK;
    if (!in->m || in->batches < 1 || in->batches > PROXY_BATCHES) return base_err_set(err, ST_EINVAL, "proxies", "need a network and 1 to %d batches", PROXY_BATCHES);
    if (model_param(in->m, 0)->w.dtype != KN_F32) return base_err_set(err, ST_ENOTSUP, "proxies", "are worked out in f32 alone");
    return ST_OK;
}

static st_t score(struct proxy_ctx *c, const struct proxy *p, struct proxy_result *r)
{
    *r = (struct proxy_result){.value = NAN, .err = BASE_ERR_INIT};
    r->st = p->score(c, &r->value, &r->err);
    if (!r->st && !isfinite(r->value)) r->st = base_err_set(&r->err, ST_ENONFINITE, p->name, "comes to %g", r->value);
    if (!r->st) return ST_OK;
    r->value = NAN;
    return r->st == ST_ENOTSUP || r->st == ST_ENONFINITE || r->st == ST_ENOFIT ? ST_OK : r->st;
}

st_t proxy_run(const int *which, int n, const struct proxy_input *in, struct proxy_result *out, struct base_err *err)
{
    struct proxy_ctx c = {.in = in};
    TRY(check(which, n, in, err));
    st_t st = in->m ? init(&c, err) : ST_OK;
    for (int i = 0; !st && i < n; i++) {
        st = score(&c, list[which[i]], &out[i]);
        if (st) base_err_set(err, st, list[which[i]]->name, "%s", *out[i].err.what ? out[i].err.what : base_status_text(st));
    }
    fini(&c);
    return st;
}
