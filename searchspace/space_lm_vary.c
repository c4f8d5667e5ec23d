/* Mutation and crossover of language models. */
#include <stdlib.h>
#include <string.h>

#include "searchspace/space_int.h"

#define VARY_TRIES 64       /* attempts at a child before giving up */
#define STRUCTURE_SHARE 0.25 /* of mutations: insert, remove, copy or swap layers */

static int depth_of(const struct genome *g)
{
    return (int)g->g[GENE_DEPTH];
}

static int live_slots(const struct lm *m, const struct genome *g)
{
    return space_family_uniform(m->family) ? 1 : depth_of(g);
}

static bool part_valid(const struct lm *m, const struct lm_type *t, const double *genes, int width_index)
{
    struct arch_part p;
    return !lm_part(m, t, genes, (int)m->width.v[width_index], &p, NULL);
}

/* Draws anew what cannot be built at the genome's width; the type too where that has no place there. */
static void repair(const struct lm *m, struct base_rng *r, struct genome *g)
{
    int w = (int)g->g[GENE_WIDTH];
    for (int i = 0; i < live_slots(m, g); i++) {
        for (int k = 0; k < 2; k++) {
            const struct lm_type *t = lm_type_of(m, g, k, i);
            double *genes = g->g + lm_knob_gene(m, k, t, i);
            if (part_valid(m, t, genes, w) || lm_draw_part(m, t, w, r, genes)) continue;
            double fresh[m->slot_genes];
            memcpy(fresh, lm_slot(m, g, i), sizeof fresh);
            lm_draw_slot(m, w, r, fresh);
            g->g[lm_type_gene(m, k, i)] = fresh[m->role[k].gene];
            t = lm_type_of(m, g, k, i);
            memcpy(g->g + lm_knob_gene(m, k, t, i), fresh + t->gene, (size_t)t->genes * sizeof *fresh);
        }
    }
}

/* ---- mutation ---- */

struct live_gene {
    int gene, low, n; /* values low .. low + n - 1 */
};

static void add_live(struct live_gene *live, int *n, int gene, int low, int choices)
{
    if (choices > 1) live[(*n)++] = (struct live_gene){gene, low, choices};
}

/* The genes that mean something in g and have more than one value. live has room for all genes. */
static int list_live(const struct lm *m, const struct genome *g, struct live_gene *live)
{
    int n = 0;
    add_live(live, &n, GENE_DEPTH, m->depth_min, m->depth_max - m->depth_min + 1);
    add_live(live, &n, GENE_WIDTH, 0, m->width.n);
    add_live(live, &n, GENE_TIE, 0, m->tie.n);
    add_live(live, &n, GENE_THETA, 0, m->theta.n);
    for (int i = GENES_ALWAYS; i < m->globals; i++) add_live(live, &n, i, 0, 2);
    bool seen[2][space_layer_count()]; /* by type: a type without knobs has no gene of its own */
    memset(seen, 0, sizeof seen);
    for (int i = 0; i < live_slots(m, g); i++)
        for (int k = 0; k < 2; k++) {
            const struct lm_type *t = lm_type_of(m, g, k, i);
            bool once = m->family->freedom[k] != FAMILY_FREE;
            if (i == 0 || m->family->freedom[k] != FAMILY_EQUAL) add_live(live, &n, lm_type_gene(m, k, i), 0, m->role[k].ntypes);
            if (once && seen[k][t->type]) continue;
            seen[k][t->type] = true;
            for (int j = 0; j < t->genes; j++) add_live(live, &n, lm_knob_gene(m, k, t, i) + j, 0, t->knob[j].n);
        }
    return n;
}

static void mutate_points(struct base_rng *r, double rate, const struct live_gene *live, int n, struct genome *g)
{
    int changed = 0;
    if (!(rate > 0)) rate = 1.0 / n;
    for (int i = 0; i < n; i++) {
        if (base_rng_unit(r) >= rate) continue;
        g->g[live[i].gene] = live[i].low + gene_other(r, live[i].n, g->g[live[i].gene] - live[i].low);
        changed++;
    }
    if (changed) return;
    const struct live_gene *l = &live[base_rng_below(r, (uint32_t)n)];
    g->g[l->gene] = l->low + gene_other(r, l->n, g->g[l->gene] - l->low);
}

/* Inserts, removes, copies or swaps a layer, as far as the depth allows. */
static void mutate_structure(const struct lm *m, struct base_rng *r, struct genome *g)
{
    enum { INSERT, REMOVE, COPY, SWAP } can[4];
    int depth = depth_of(g), n = 0;
    size_t size = (size_t)m->slot_genes * sizeof(double);
    double saved[m->slot_genes];
    if (depth < m->depth_max) can[n++] = INSERT;
    if (depth > m->depth_min) can[n++] = REMOVE;
    if (depth > 1) {
        can[n++] = COPY;
        can[n++] = SWAP;
    }
    int op = can[base_rng_below(r, (uint32_t)n)];
    if (op == INSERT) {
        int at = (int)base_rng_below(r, (uint32_t)depth + 1);
        memmove(lm_slot(m, g, at + 1), lm_slot(m, g, at), (size_t)(depth - at) * size);
        if (base_rng_below(r, 2)) memcpy(lm_slot(m, g, at), lm_slot(m, g, at > 0 ? at - 1 : 1), size);
        else lm_draw_slot(m, (int)g->g[GENE_WIDTH], r, lm_slot(m, g, at));
        g->g[GENE_DEPTH] = depth + 1;
        return;
    }
    int a = (int)base_rng_below(r, (uint32_t)depth);
    if (op == REMOVE) { /* what was removed sleeps behind the last layer */
        memcpy(saved, lm_slot(m, g, a), size);
        memmove(lm_slot(m, g, a), lm_slot(m, g, a + 1), (size_t)(depth - 1 - a) * size);
        memcpy(lm_slot(m, g, depth - 1), saved, size);
        g->g[GENE_DEPTH] = depth - 1;
        return;
    }
    int b = (int)gene_other(r, depth, a);
    if (op == SWAP) {
        memcpy(saved, lm_slot(m, g, b), size);
        memcpy(lm_slot(m, g, b), lm_slot(m, g, a), size);
        memcpy(lm_slot(m, g, a), saved, size);
    } else {
        memcpy(lm_slot(m, g, b), lm_slot(m, g, a), size);
    }
}

/* Until the child is another architecture than the parent: a gene that changed may round to the same layer, or move a layer that is
 * skipped. ST_EEXHAUSTED when that did not happen in VARY_TRIES attempts (a space of one architecture). */
st_t space_lm_mutate(const struct space *s, struct base_rng *r, double rate, struct genome *g)
{
    const struct lm *m = &s->lm;
    struct arch before, after;
    st_t st = lm_build(m, g, &before, NULL);
    if (st) return st;
    struct genome child;
    struct live_gene *live = malloc((size_t)s->genes * sizeof *live);
    st = live ? space_genome_init(s, &child) : ST_ENOMEM;
    if (st) {
        free(live);
        return st;
    }
    int n = list_live(m, g, live);
    bool structure = m->slots > 1;
    st = ST_EEXHAUSTED;
    for (int try = 0; st && (n || structure) && try < VARY_TRIES; try++) {
        space_genome_copy(&child, g);
        if (structure && (n == 0 || base_rng_unit(r) < STRUCTURE_SHARE)) mutate_structure(m, r, &child);
        else mutate_points(r, rate, live, n, &child);
        repair(m, r, &child);
        if (!lm_build(m, &child, &after, NULL) && !space_arch_equal(&before, &after)) st = ST_OK;
    }
    if (!st) space_genome_copy(g, &child);
    space_genome_fini(&child);
    free(live);
    return st;
}

/* ---- crossover ---- */

/* What the slot alone decides; the rest shows when the child is built. */
static bool slot_valid(const struct lm *m, const double *slot, bool home, int width_index)
{
    for (int k = 0; k < 2; k++) {
        const struct lm_type *t = &m->role[k].type[(int)slot[m->role[k].gene]];
        bool whole = m->family->freedom[k] == FAMILY_FREE ? !home : home && m->family->freedom[k] == FAMILY_EQUAL;
        if (whole && !part_valid(m, t, slot + t->gene, width_index)) return false;
    }
    return true;
}

/* Every slot whole from one parent: by a coin each, or a's up to a cut and b's from there. Where only one parent has a layer there, or
 * where only one's can be built at the child's width, it is that one's. */
static void cross_slots(const struct lm *m, struct base_rng *r, const struct genome *a, const struct genome *b, struct genome *out)
{
    int w = (int)out->g[GENE_WIDTH], live = live_slots(m, out);
    bool cut = base_rng_below(r, 2);
    int at = (int)base_rng_below(r, (uint32_t)live + 1);
    for (int i = 0; i < m->slots; i++) {
        const double *from_a = lm_slot(m, a, i), *from_b = lm_slot(m, b, i);
        bool take_a = cut && i < m->depth_max ? i < at : base_rng_below(r, 2);
        if (i < live) {
            if (i >= live_slots(m, a)) take_a = false;
            if (i >= live_slots(m, b)) take_a = true;
            if (!slot_valid(m, take_a ? from_a : from_b, i == m->home, w)) take_a = !take_a;
        }
        memcpy(lm_slot(m, out, i), take_a ? from_a : from_b, (size_t)m->slot_genes * sizeof(double));
    }
}

/* The child's genes are its parents' alone: what cannot be built is crossed again, and at last the child is a copy of one. */
st_t space_lm_crossover(const struct space *s, struct base_rng *r, const struct genome *a, const struct genome *b, struct genome *out)
{
    const struct lm *m = &s->lm;
    struct arch built;
    for (int try = 0; try < VARY_TRIES; try++) {
        for (int i = 0; i < m->globals; i++) out->g[i] = base_rng_below(r, 2) ? a->g[i] : b->g[i];
        cross_slots(m, r, a, b, out);
        if (!lm_build(m, out, &built, NULL)) return ST_OK;
    }
    space_genome_copy(out, base_rng_below(r, 2) ? a : b);
    return lm_build(m, out, &built, NULL);
}
