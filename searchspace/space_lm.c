/* Language-model spaces: from genes to architectures, and random draws. */
#include <math.h>
#include <string.h>

#include "searchspace/space_int.h"

st_t lm_part(const struct lm *m, const struct lm_type *t, const double *genes, int width, struct arch_part *out, struct base_err *err)
{
    double knob[LAYER_KNOBS_MAX];
    for (int i = 0; i < t->s->nknobs; i++) knob[i] = t->knob[i].n ? t->knob[i].v[lm_choice(t, genes, i)] : NAN;
    memset(out, 0, sizeof *out);
    out->type = t->type;
    st_t st = t->s->resolve(knob, width, out, err);
    if (!st && t->s->tidy) t->s->tidy(out);
    return st || !m->family->check ? st : m->family->check(out, width, err);
}

void lm_combo_genes(const struct lm_type *t, int combo, double *genes)
{
    for (int i = t->genes - 1; i >= 0; i--) {
        int n = t->knob[i].n ? t->knob[i].n : 1;
        genes[i] = combo % n;
        combo /= n;
    }
}

static void draw_knobs(const struct lm_type *t, struct base_rng *r, double *genes)
{
    for (int i = 0; i < t->genes; i++) genes[i] = t->knob[i].n > 1 ? base_rng_below(r, (uint32_t)t->knob[i].n) : 0;
}

bool lm_draw_part(const struct lm *m, const struct lm_type *t, int width_index, struct base_rng *r, double *genes)
{
    const struct lm_valid *v = &t->valid[width_index];
    if (t->listed && v->n) {
        lm_combo_genes(t, v->list[base_rng_below(r, (uint32_t)v->n)], genes);
        return true;
    }
    for (int i = 0; i < SPACE_TRIES; i++) {
        struct arch_part p;
        draw_knobs(t, r, genes);
        if (t->listed) return false;
        if (!lm_part(m, t, genes, (int)m->width.v[width_index], &p, NULL)) return true;
    }
    return false;
}

void lm_draw_slot(const struct lm *m, int width_index, struct base_rng *r, double *slot)
{
    for (int k = 0; k < 2; k++) {
        const struct lm_role *role = &m->role[k];
        int possible = 0;
        for (int i = 0; i < role->ntypes; i++) {
            const struct lm_type *t = &role->type[i];
            if (!lm_draw_part(m, t, width_index, r, slot + t->gene)) continue;
            /* one of those possible, each as likely: the j-th replaces the choice so far with chance 1/j */
            if (base_rng_below(r, (uint32_t)++possible) == 0) slot[role->gene] = i;
        }
    }
}

st_t lm_build(const struct lm *m, const struct genome *g, struct arch *out, struct base_err *err)
{
    int width = (int)m->width.v[(int)g->g[GENE_WIDTH]];
    memset(out, 0, sizeof *out);
    out->vocab = m->vocab;
    out->context = m->context;
    out->width = width;
    out->depth = (int)g->g[GENE_DEPTH];
    out->tie = m->tie.v[(int)g->g[GENE_TIE]] != 0;
    out->norm = (enum arch_norm)lm_option(&m->norm, g);
    out->bias = lm_option(&m->bias, g) != 0;
    out->rope_theta = m->theta.v[(int)g->g[GENE_THETA]];
    for (int i = 0; i < out->depth; i++) {
        struct arch_part *part[2] = {&out->layer[i].mixer, &out->layer[i].ffn};
        for (int k = 0; k < 2; k++) {
            const struct lm_type *t = lm_type_of(m, g, k, i);
            st_t st = lm_part(m, t, g->g + lm_knob_gene(m, k, t, i), width, part[k], err);
            if (st) return st;
            if (t->s->settle) t->s->settle(out, i, part[k]);
        }
    }
    st_t st = space_arch_check(out, err);
    return st ? st : space_arch_canonicalise(out, err);
}

static st_t sample(const struct space *s, struct base_rng *r, struct genome *out)
{
    const struct lm *m = &s->lm;
    for (int try = 0; try < SPACE_TRIES; try++) {
        struct arch a;
        int w = (int)base_rng_below(r, (uint32_t)m->width.n);
        out->g[GENE_DEPTH] = m->depth_min + (int)base_rng_below(r, (uint32_t)(m->depth_max - m->depth_min + 1));
        out->g[GENE_WIDTH] = w;
        out->g[GENE_TIE] = base_rng_below(r, (uint32_t)m->tie.n);
        out->g[GENE_THETA] = base_rng_below(r, (uint32_t)m->theta.n);
        for (int k = GENES_ALWAYS; k < m->globals; k++) out->g[k] = base_rng_below(r, 2);
        for (int i = 0; i < m->slots; i++) lm_draw_slot(m, w, r, lm_slot(m, out, i));
        if (!lm_build(m, out, &a, NULL)) return ST_OK;
    }
    return ST_EEXHAUSTED;
}

static st_t candidate(const struct space *s, const struct genome *g, struct candidate *out, struct base_err *err)
{
    struct candidate c = {.type = SPACE_LM};
    st_t st = lm_build(&s->lm, g, &c.arch, err);
    if (st) return st;
    struct base_buf b = BASE_BUF_INIT;
    space_arch_canonical(&c.arch, &b);
    if (b.st) {
        base_buf_fini(&b);
        return base_err_set(err, ST_ENOMEM, "", "out of memory");
    }
    base_id_hex(b.p, b.len, c.id);
    c.canonical = base_buf_take(&b);
    *out = c;
    return ST_OK;
}

static bool is_index(double v, int n)
{
    return v >= 0 && v < (n ? n : 1) && v == floor(v);
}

static bool gene_fits(const struct space *s, int gene, double v)
{
    const struct lm *m = &s->lm;
    switch (gene) {
    case GENE_DEPTH: return v >= m->depth_min && v <= m->depth_max && v == floor(v);
    case GENE_WIDTH: return is_index(v, m->width.n);
    case GENE_TIE: return is_index(v, m->tie.n);
    case GENE_THETA: return is_index(v, m->theta.n);
    }
    if (gene < m->globals) return is_index(v, 2);
    int at = (gene - m->globals) % m->slot_genes;
    for (int k = 0; k < 2; k++) {
        if (at == m->role[k].gene) return is_index(v, m->role[k].ntypes);
        for (int i = 0; i < m->role[k].ntypes; i++) {
            const struct lm_type *t = &m->role[k].type[i];
            if (at >= t->gene && at < t->gene + t->genes) return is_index(v, t->knob[at - t->gene].n);
        }
    }
    return false;
}

const struct space_ops space_lm_ops = {
    .sample = sample,
    .mutate = space_lm_mutate,
    .crossover = space_lm_crossover,
    .candidate = candidate,
    .gene_fits = gene_fits,
    .size = space_lm_size,
    .nth = space_lm_nth,
    .encode = space_lm_encode,
    .describe = space_lm_describe,
    .features = space_lm_features,
};
