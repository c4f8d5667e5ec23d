#include "searchspace/options.h"

#include <stdlib.h>

#include "searchspace/space_int.h"

static st_t add(struct space_options *o, int *room, const struct space_option *what)
{
    if (o->n == *room) {
        int more = *room ? 2 * *room : 256;
        struct space_option *p = realloc(o->option, (size_t)more * sizeof *p);
        if (!p) return ST_ENOMEM;
        o->option = p;
        *room = more;
    }
    o->option[o->n++] = *what;
    return ST_OK;
}

/* The i-th different part of a type at a width. */
static void distinct(const struct lm *m, const struct lm_type *t, int w, int i, double *genes, struct arch_part *out)
{
    lm_combo_genes(t, t->valid[w].distinct[i], genes);
    lm_part(m, t, genes, (int)m->width.v[w], out, NULL);
}

static st_t add_type(const struct lm *m, int role, const struct lm_type *t, int w, struct space_options *o, int *room)
{
    double genes[LAYER_KNOBS_MAX];
    struct space_option x = {.role = m->role[role].role, .width = (int)m->width.v[w]};
    st_t st = ST_OK;
    for (int i = 0; i < t->valid[w].ndistinct && !st; i++) {
        distinct(m, t, w, i, genes, &x.part);
        if (!space_part_is_none(&x.part)) st = add(o, room, &x);
    }
    return st;
}

static bool any(const struct lm_option *o)
{
    for (int i = 0; i < o->choices.n; i++)
        if (o->choices.v[i] != 0) return true;
    return false;
}

st_t space_options_of(const struct space *s, struct space_options *out, struct base_err *err)
{
    const struct lm *m = &s->lm;
    if (s->type != SPACE_LM) return base_err_set(err, ST_ENOTSUP, "space", "weights are shared in spaces of language models alone");
    for (int k = 0; k < 2; k++)
        for (int i = 0; i < m->role[k].ntypes; i++)
            if (!m->role[k].type[i].listed)
                return base_err_set(err, ST_ENOTSUP, k ? "space.ffn" : "space.mixer", "%s has more than %d combinations of knobs, too many for shared weights",
                                    m->role[k].type[i].s->name, LM_COMBOS_MAX);
    struct space_options o = {.vocab = m->vocab, .context = m->context, .depth = m->depth_max, .layer_norm = any(&m->norm), .bias = any(&m->bias)};
    int room = 0;
    for (int i = 0; i < m->tie.n; i++) o.untied |= m->tie.v[i] == 0;
    st_t st = ST_OK;
    for (int w = 0; w < m->width.n; w++) {
        if (m->width.v[w] > o.width) o.width = (int)m->width.v[w];
        for (int k = 0; k < 2; k++)
            for (int i = 0; i < m->role[k].ntypes && !st; i++) st = add_type(m, k, &m->role[k].type[i], w, &o, &room);
    }
    if (st) {
        space_options_fini(&o);
        return base_err_set(err, st, "space", "out of memory");
    }
    *out = o;
    return ST_OK;
}

void space_options_fini(struct space_options *o)
{
    free(o->option);
    *o = (struct space_options){0};
}

/* ---- paths ---- */

struct deal {
    uint64_t seed, n;
    uint32_t choice; /* the decks are numbered as they are asked for */
};

/* Card n % of of deck n / of. */
static int card(struct deal *d, int of)
{
    uint16_t deck[LM_COMBOS_MAX];
    uint64_t choice = d->choice++;
    if (of < 2) return 0;
    struct base_rng r = base_rng_at(d->seed, RNG_SAMPLE, choice << 44 | d->n / (uint64_t)of);
    for (int i = 0; i < of; i++) {
        int j = (int)base_rng_below(&r, (uint32_t)i + 1);
        deck[i] = deck[j];
        deck[j] = (uint16_t)i;
    }
    return deck[d->n % (uint64_t)of];
}

static int64_t part_params(const struct arch *a, const struct arch_part *p)
{
    struct layer_tensor t[LAYER_TENSORS_MAX];
    int64_t sum = 0;
    for (int i = space_layer(p->type)->tensors(a, 0, p, t) - 1; i >= 0; i--) sum += t[i].rows * t[i].cols;
    return sum;
}

/* A type's knobs in one slot. Of equals in size the one that is dealt first. */
static void deal_knobs(const struct lm *m, const struct lm_type *t, int w, enum space_path kind, struct deal *d, double *genes)
{
    const struct lm_valid *v = &t->valid[w];
    int start = card(d, v->ndistinct);
    if (!v->ndistinct) return;
    struct arch a = {.vocab = m->vocab, .context = m->context, .width = (int)m->width.v[w], .depth = 1};
    int best = start;
    int64_t most = 0;
    for (int i = 0; i < v->ndistinct && kind != SPACE_PATH_RANDOM; i++) {
        int at = (start + i) % v->ndistinct;
        struct arch_part p;
        distinct(m, t, w, at, genes, &p);
        int64_t size = kind == SPACE_PATH_LARGEST ? part_params(&a, &p) : -part_params(&a, &p);
        if (i == 0 || size > most) best = at, most = size;
    }
    lm_combo_genes(t, v->distinct[best], genes);
}

static void deal_slot(const struct lm *m, int w, enum space_path kind, struct deal *d, double *slot)
{
    for (int k = 0; k < 2; k++) {
        const struct lm_role *role = &m->role[k];
        int n = 0, there[LAYER_KNOBS_MAX * LAYER_TENSORS_MAX];
        for (int i = 0; i < role->ntypes; i++) {
            deal_knobs(m, &role->type[i], w, kind, d, slot + role->type[i].gene);
            bool none = role->type[i].s == &layer_none && kind != SPACE_PATH_RANDOM && role->ntypes > 1;
            if (role->type[i].valid[w].ndistinct && !none) there[n++] = i;
        }
        int at = card(d, n);
        slot[role->gene] = n ? there[at] : 0;
    }
}

/* The index of the greatest (1) or least (-1) of some choices. */
static int extreme(const struct choices *c, int sign)
{
    int best = 0;
    for (int i = 1; i < c->n; i++)
        if (sign * c->v[i] > sign * c->v[best]) best = i;
    return best;
}

static void deal_path(const struct lm *m, enum space_path kind, struct deal *d, struct genome *g)
{
    int depth = card(d, m->depth_max - m->depth_min + 1), w = card(d, m->width.n);
    g->g[GENE_DEPTH] = kind == SPACE_PATH_RANDOM ? m->depth_min + depth : kind == SPACE_PATH_LARGEST ? m->depth_max : m->depth_min;
    if (kind != SPACE_PATH_RANDOM) w = extreme(&m->width, kind == SPACE_PATH_LARGEST ? 1 : -1);
    g->g[GENE_WIDTH] = w;
    g->g[GENE_TIE] = card(d, m->tie.n);
    g->g[GENE_THETA] = card(d, m->theta.n);
    for (int k = GENES_ALWAYS; k < m->globals; k++) g->g[k] = card(d, 2);
    for (int i = 0; i < m->slots; i++) deal_slot(m, w, kind, d, lm_slot(m, g, i));
}

st_t space_path(const struct space *s, enum space_path kind, uint64_t seed, uint64_t n, struct arch *out)
{
    struct genome g;
    if (s->type != SPACE_LM) return ST_ENOTSUP;
    st_t st = space_genome_init(s, &g);
    if (st) return st;
    st = ST_EEXHAUSTED;
    for (uint64_t i = 0; i < SPACE_TRIES && st == ST_EEXHAUSTED; i++) {
        struct deal d = {.seed = seed, .n = n + (i << 32), .choice = (uint32_t)kind << 16};
        deal_path(&s->lm, kind, &d, &g);
        if (!lm_build(&s->lm, &g, out, NULL)) st = ST_OK;
    }
    space_genome_fini(&g);
    return st;
}
