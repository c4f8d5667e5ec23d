#include "model/supernet_layout.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EMBED_STD 0.02

static int64_t run_count(const int64_t d[LAYER_RUN_DIMS])
{
    return d[0] * d[1] * d[2] * d[3] * d[4];
}

int64_t side_count(const struct layer_side *s)
{
    int64_t n = 0;
    for (int i = 0; i < s->runs; i++) n += run_count(s->d[i]);
    return n;
}

static struct extent extent_of(const struct arch *a, const struct arch_part *p, const struct layer_tensor *t)
{
    struct extent e = {0};
    const struct layer_spec *s = p ? space_layer(p->type) : NULL;
    if (s && s->sides) s->sides(a, p, t, &e.rows, &e.cols);
    if (!e.rows.runs) layer_side_run(&e.rows, t->rows, 1, 1);
    if (!e.cols.runs) layer_side_run(&e.cols, t->cols, 1, 1);
    return e;
}

static void side_grow(struct layer_side *box, const struct layer_side *part)
{
    for (int i = 0; i < box->runs; i++)
        for (int k = 0; k < LAYER_RUN_DIMS; k++)
            if (part->d[i][k] > box->d[i][k]) box->d[i][k] = part->d[i][k];
}

void extent_grow(struct extent *box, const struct extent *part)
{
    side_grow(&box->rows, &part->rows);
    side_grow(&box->cols, &part->cols);
}

static bool side_holds(const struct layer_side *whole, const struct layer_side *part)
{
    if (whole->runs != part->runs) return false;
    for (int i = 0; i < whole->runs; i++)
        for (int k = 0; k < LAYER_RUN_DIMS; k++)
            if (part->d[i][k] > whole->d[i][k]) return false;
    return true;
}

/* ---- the tensors ---- */

static int find(const struct layout *l, unsigned role, int type, const char *local)
{
    for (int i = 0; i < l->nkinds; i++)
        if (l->kind[i].role == role && l->kind[i].type == type && !strcmp(l->kind[i].local, local)) return i;
    return -1;
}

static struct layer_tensor norm_tensor(const struct layout *l, bool bias, int64_t width)
{
    (void)l;
    return layer_vector(bias ? "norm.bias" : "norm.weight", width, bias ? LAYER_INIT_ZEROS : LAYER_INIT_ONES);
}

static st_t add(struct layout *l, int *room, const struct space_option *o, const struct arch *a, const struct arch_part *p, const struct layer_tensor *t)
{
    struct extent e = extent_of(a, p, t);
    int i = find(l, o->role, o->part.type, t->name);
    if (i >= 0) {
        struct kind *k = &l->kind[i];
        if (k->whole.rows.runs != e.rows.runs || k->whole.cols.runs != e.cols.runs) return ST_EINVAL;
        if (t->rows * t->cols > k->init.rows * k->init.cols) k->init = *t;
        extent_grow(&k->whole, &e);
        return ST_OK;
    }
    if (l->nkinds == *room) {
        int more = *room ? 2 * *room : 64;
        struct kind *k = realloc(l->kind, (size_t)more * sizeof *k);
        if (!k) return ST_ENOMEM;
        l->kind = k;
        *room = more;
        for (int j = 0; j < l->nkinds; j++) k[j].local = strchr(strchr(k[j].name, '.') + 1, '.') + 1;
    }
    struct kind *k = &l->kind[l->nkinds++];
    *k = (struct kind){.role = o->role, .type = o->part.type, .whole = e, .init = *t};
    snprintf(k->name, sizeof k->name, "%s.%s.%s", o->role == LAYER_MIXER ? "mixer" : "ffn", space_layer(o->part.type)->name, t->name);
    k->local = strchr(strchr(k->name, '.') + 1, '.') + 1;
    return ST_OK;
}

static st_t add_option(struct layout *l, int *room, const struct space_option *o)
{
    struct layer_tensor t[LAYER_TENSORS_MAX];
    struct arch a = {.vocab = l->vocab, .context = l->context, .width = o->width, .depth = l->depth, .bias = l->bias};
    struct arch_part *p = o->role == LAYER_MIXER ? &a.layer[0].mixer : &a.layer[0].ffn;
    *p = o->part;
    for (int i = 0; i <= l->layer_norm; i++) {
        struct layer_tensor norm = norm_tensor(l, i, o->width);
        TRY(add(l, room, o, &a, NULL, &norm));
    }
    int n = space_layer(p->type)->tensors(&a, 0, p, t);
    for (int i = 0; i < n; i++) TRY(add(l, room, o, &a, p, &t[i]));
    return ST_OK;
}

st_t layout_init(struct layout *l, const struct space_options *o, struct base_err *err)
{
    *l = (struct layout){.vocab = o->vocab, .context = o->context, .depth = o->depth, .width = o->width, .untied = o->untied,
                         .layer_norm = o->layer_norm, .bias = o->bias};
    int room = 0;
    st_t st = ST_OK;
    for (int i = 0; i < o->n && !st; i++) {
        st = add_option(l, &room, &o->option[i]);
        if (st == ST_EINVAL) base_err_set(err, st, "supernet", "%s: its options are not made up alike", space_layer(o->option[i].part.type)->name);
        else if (st) base_err_set(err, st, "supernet", "out of memory");
    }
    if (st) layout_fini(l);
    return st;
}

void layout_fini(struct layout *l)
{
    free(l->kind);
    *l = (struct layout){0};
}

int layout_tensors(const struct layout *l)
{
    return 1 + l->depth * l->nkinds + 1 + l->layer_norm + l->untied;
}

void layout_tensor(const struct layout *l, int i, char *name, size_t size, struct extent *whole, struct layer_tensor *init, bool *in_layer)
{
    int in_layers = i - 1, rest = in_layers - l->depth * l->nkinds;
    *in_layer = false;
    if (i > 0 && rest < 0) {
        const struct kind *k = &l->kind[in_layers % l->nkinds];
        snprintf(name, size, "model.layers.%d.%s", in_layers / l->nkinds, k->name);
        *whole = k->whole;
        *init = k->init;
        *in_layer = true;
        return;
    }
    bool norm = i > 0 && rest <= l->layer_norm;
    *init = norm ? norm_tensor(l, rest == 1, l->width) : layer_matrix("", l->vocab, l->width, EMBED_STD);
    snprintf(name, size, "%s%s", i == 0 ? "model.embed_tokens.weight" : norm ? "model." : "lm_head.weight", norm ? init->name : "");
    *whole = extent_of(NULL, NULL, init);
}

/* ---- slices ---- */

struct cutting {
    const struct layout *l;
    const struct arch *a;
    struct cut *out;
    int room, n;
    int parts, next[2]; /* that are not none, so far; the first free branch of mixers and of ffns */
    struct base_err *err;
};

static st_t cut(struct cutting *c, int tensor, const struct extent *whole, const struct extent *part, const char *where, const char *name)
{
    if (!side_holds(&whole->rows, &part->rows) || !side_holds(&whole->cols, &part->cols))
        return base_err_set(c->err, ST_EINVAL, where, "%s is larger than the supernet's", name);
    if (c->n == c->room) return base_err_set(c->err, ST_ETOOBIG, where, "more tensors than %d", c->room);
    c->out[c->n++] = (struct cut){tensor, *part};
    return ST_OK;
}

static st_t cut_end(struct cutting *c, int tensor, int64_t rows, int64_t cols)
{
    char name[96];
    bool in_layer;
    struct extent whole, part;
    struct layer_tensor init, t = {.rows = rows, .cols = cols};
    layout_tensor(c->l, tensor, name, sizeof name, &whole, &init, &in_layer);
    part = extent_of(NULL, NULL, &t);
    return cut(c, tensor, &whole, &part, "", name);
}

static st_t cut_part(struct cutting *c, int layer, unsigned role)
{
    struct layer_tensor t[LAYER_TENSORS_MAX + 2];
    char where[48];
    const struct arch_part *p = role == LAYER_MIXER ? &c->a->layer[layer].mixer : &c->a->layer[layer].ffn;
    if (!model_body(p->type)) return ST_OK;
    int norms = norm_params(c->a), ffn = role != LAYER_MIXER, at = (c->parts++ + !ffn) / 2;
    if (at < c->next[ffn]) at = c->next[ffn];
    c->next[ffn] = at + 1;
    snprintf(where, sizeof where, "layers[%d].%s", layer, role == LAYER_MIXER ? "mixer" : "ffn");
    for (int i = 0; i < norms; i++) t[i] = norm_tensor(c->l, i, c->a->width);
    int n = norms + space_layer(p->type)->tensors(c->a, layer, p, t + norms);
    for (int i = 0; i < n; i++) {
        int k = find(c->l, role, p->type, t[i].name);
        struct extent part = extent_of(c->a, i < norms ? NULL : p, &t[i]);
        if (k < 0) return base_err_set(c->err, ST_EINVAL, where, "%s is not in the supernet (%s)", space_layer(p->type)->name, t[i].name);
        TRY(cut(c, 1 + at * c->l->nkinds + k, &c->l->kind[k].whole, &part, where, t[i].name));
    }
    return ST_OK;
}

st_t layout_cuts(const struct layout *l, const struct arch *a, struct cut *out, int room, int *n, struct base_err *err)
{
    struct cutting c = {.l = l, .a = a, .out = out, .room = room, .err = err};
    int last = 1 + l->depth * l->nkinds;
    if (a->vocab != l->vocab) return base_err_set(err, ST_EINVAL, "vocab", "is %d, the supernet's %d", a->vocab, l->vocab);
    if (a->depth > l->depth) return base_err_set(err, ST_EINVAL, "layers", "are %d, the supernet has %d", a->depth, l->depth);
    if (a->norm == ARCH_NORM_LAYER && !l->layer_norm) return base_err_set(err, ST_EINVAL, "norm", "layer norm is not in the supernet");
    if (!a->tie && !l->untied) return base_err_set(err, ST_EINVAL, "tie_embeddings", "a head of its own is not in the supernet");
    TRY(cut_end(&c, 0, a->vocab, a->width));
    for (int i = 0; i < a->depth; i++) {
        TRY(cut_part(&c, i, LAYER_MIXER));
        TRY(cut_part(&c, i, LAYER_FFN));
    }
    for (int i = 0; i < norm_params(a); i++) TRY(cut_end(&c, last + i, a->width, 1));
    if (!a->tie) TRY(cut_end(&c, last + 1 + l->layer_norm, a->vocab, a->width));
    *n = c.n;
    return ST_OK;
}

/* ---- pieces ---- */

/* Appends the dims of one run; strides by the elements that a step of the side takes in both. */
static void dims_of(struct piece *p, const struct layer_side *whole, const struct layer_side *part, int run, int64_t whole_step, int64_t part_step)
{
    const int64_t *d = part->d[run], *w = whole->d[run];
    for (int i = 0; i < run; i++) {
        p->whole_at += run_count(whole->d[i]) * whole_step;
        p->part_at += run_count(part->d[i]) * part_step;
    }
    for (int k = 0, at = p->rank; k < LAYER_RUN_DIMS; k++, at++) {
        p->d[at] = d[k];
        p->whole_s[at] = whole_step, p->part_s[at] = part_step;
        for (int j = k + 1; j < LAYER_RUN_DIMS; j++) p->whole_s[at] *= w[j], p->part_s[at] *= d[j];
        if (whole->last) p->whole_at += (w[k] - d[k]) * p->whole_s[at];
    }
    p->rank += LAYER_RUN_DIMS;
}

/* Dims of one number go; neighbours that both walk alike are one. */
static void merge(struct piece *p)
{
    int n = 0;
    for (int i = 0; i < p->rank; i++) {
        if (p->d[i] == 1) continue;
        if (n && p->whole_s[n - 1] == p->d[i] * p->whole_s[i] && p->part_s[n - 1] == p->d[i] * p->part_s[i]) {
            p->d[n - 1] *= p->d[i];
            p->whole_s[n - 1] = p->whole_s[i], p->part_s[n - 1] = p->part_s[i];
            continue;
        }
        p->d[n] = p->d[i], p->whole_s[n] = p->whole_s[i], p->part_s[n++] = p->part_s[i];
    }
    if (!n) p->d[n] = 1, p->whole_s[n] = p->part_s[n] = 1, n++;
    p->rank = n;
}

static st_t walk(const struct piece *p, int rank_max, st_t (*fn)(void *ctx, const struct piece *p), void *ctx)
{
    if (p->rank <= rank_max) return fn(ctx, p);
    for (int64_t i = 0; i < p->d[0]; i++) {
        struct piece q = {.whole_at = p->whole_at + i * p->whole_s[0], .part_at = p->part_at + i * p->part_s[0], .rank = p->rank - 1};
        for (int k = 0; k < q.rank; k++) q.d[k] = p->d[k + 1], q.whole_s[k] = p->whole_s[k + 1], q.part_s[k] = p->part_s[k + 1];
        TRY(walk(&q, rank_max, fn, ctx));
    }
    return ST_OK;
}

st_t extent_pieces(const struct extent *whole, const struct extent *part, bool in_place, int rank_max, st_t (*fn)(void *ctx, const struct piece *p), void *ctx)
{
    int64_t whole_cols = side_count(&whole->cols), part_cols = side_count(&part->cols);
    for (int i = 0; i < part->rows.runs; i++) {
        for (int j = 0; j < part->cols.runs; j++) {
            struct piece p = {0};
            dims_of(&p, &whole->rows, &part->rows, i, whole_cols, part_cols);
            dims_of(&p, &whole->cols, &part->cols, j, 1, 1);
            if (in_place) p.part_at = p.whole_at, memcpy(p.part_s, p.whole_s, sizeof p.part_s);
            merge(&p);
            TRY(walk(&p, rank_max, fn, ctx));
        }
    }
    return ST_OK;
}
