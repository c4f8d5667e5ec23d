/* How many architectures a space of language models holds, and which is the n-th.
 *
 * Counted are canonical forms, not genomes. At a width, let n be the number of different layers: (different mixers) x (different ffns), less the
 * one where both are "none". Different means different parameters: ratios that round to the same hidden size count once, and combinations
 * that cannot be built do not count. An architecture of k layers is one of n^k sequences. Where a layer may be skipped a genome of depth d makes
 * any k from 1 to d, so k runs from 1 to the greatest depth; else from the least. The sum is taken over widths, and over both values of
 * tie_embeddings where both are listed; rope_theta multiplies only those sequences in which some layer rotates (n^k less the n0^k without one).
 * A uniform family has n instead of n^k. Exact as long as every type's combinations were listed (LM_COMBOS_MAX) and below 2^53. */
#include <string.h>

#include "searchspace/space_int.h"

struct layers {
    double n;   /* different layers, skipping not counted */
    double n0;  /* of them, those that read no rope_theta */
    int skip;   /* 1: both roles offer "none" */
};

static struct layers count_layers(const struct lm *m, int w, bool *exact)
{
    double parts[2] = {0, 0}, plain[2] = {0, 0};
    int none = 0;
    for (int k = 0; k < 2; k++)
        for (int i = 0; i < m->role[k].ntypes; i++) {
            const struct lm_type *t = &m->role[k].type[i];
            if (!t->listed) *exact = false;
            parts[k] += t->listed ? t->valid[w].ndistinct : t->combos;
            plain[k] += t->listed ? t->valid[w].ndistinct - t->valid[w].nrope : t->combos;
            none += t->s == &layer_none;
        }
    int skip = none == 2;
    return (struct layers){parts[0] * parts[1] - skip, plain[0] * plain[1] - skip, skip};
}

static int shortest(const struct lm *m, const struct layers *l)
{
    return l->skip && !m->family->uniform ? 1 : m->depth_min;
}

/* Sequences of k layers out of n. */
static double sequences(const struct lm *m, double n, int k)
{
    double product = n;
    for (int i = 1; i < k && !m->family->uniform; i++) product *= n;
    return product;
}

double space_lm_size(const struct space *s, bool *exact)
{
    const struct lm *m = &s->lm;
    double sum = 0;
    *exact = true;
    for (int w = 0; w < m->width.n; w++) {
        struct layers l = count_layers(m, w, exact);
        for (int k = shortest(m, &l); k <= m->depth_max; k++) {
            double plain = sequences(m, l.n0, k);
            sum += m->tie.n * (plain + (sequences(m, l.n, k) - plain) * m->theta.n);
        }
    }
    if (sum > 0x1p53) *exact = false;
    return sum;
}

/* The i-th different part of a role at a width: sets the type and its knobs. */
static void set_part(const struct lm *m, int role, int w, int i, double *slot)
{
    const struct lm_role *o = &m->role[role];
    int type = 0;
    while (i >= o->type[type].valid[w].ndistinct) i -= o->type[type++].valid[w].ndistinct;
    slot[o->gene] = type;
    lm_combo_genes(&o->type[type], o->type[type].valid[w].distinct[i], slot + o->type[type].gene);
}

static int count_parts(const struct lm *m, int role, int w)
{
    int n = 0;
    for (int i = 0; i < m->role[role].ntypes; i++) n += m->role[role].type[i].valid[w].ndistinct;
    return n;
}

static void set_sequence(const struct lm *m, const struct layers *l, int w, int k, uint64_t i, struct genome *out)
{
    int ffns = count_parts(m, 1, w);
    out->g[GENE_DEPTH] = k > m->depth_min ? k : m->depth_min; /* the slots beyond k stay zero: both "none", the first type of layers.def */
    for (int slot = 0; slot < (m->family->uniform ? 1 : k); slot++) {
        uint64_t n = (uint64_t)l->n, layer = i % n + (uint64_t)l->skip; /* layer 0 is the skipped one */
        set_part(m, 0, w, (int)(layer / (uint64_t)ffns), lm_slot(m, out, slot));
        set_part(m, 1, w, (int)(layer % (uint64_t)ffns), lm_slot(m, out, slot));
        i /= n;
    }
}

st_t space_lm_nth(const struct space *s, uint64_t n, struct genome *out)
{
    const struct lm *m = &s->lm;
    bool exact;
    if (space_lm_size(s, &exact) > SPACE_NTH_MAX || !exact) return ST_ETOOBIG;
    memset(out->g, 0, (size_t)out->n * sizeof *out->g);
    for (int w = 0; w < m->width.n; w++) {
        struct layers l = count_layers(m, w, &exact);
        for (int k = shortest(m, &l); k <= m->depth_max; k++) {
            uint64_t here = (uint64_t)sequences(m, l.n, k), globals = (uint64_t)m->tie.n * (uint64_t)m->theta.n;
            if (n >= here * globals) {
                n -= here * globals;
                continue;
            }
            out->g[GENE_WIDTH] = w;
            out->g[GENE_TIE] = (double)(n / here / (uint64_t)m->theta.n);
            out->g[GENE_THETA] = (double)(n / here % (uint64_t)m->theta.n);
            set_sequence(m, &l, w, k, n % here, out);
            return ST_OK;
        }
    }
    return ST_ENOTFOUND;
}
