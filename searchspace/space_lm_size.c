/* How many architectures a space of language models holds, and which is the n-th.
 *
 * Counted are canonical forms, not genomes. At a width, let n be the number of different layers: (different mixers) x (different ffns), less the
 * one where both are "none". Different means different parameters: ratios that round to the same hidden size count once, and combinations
 * that cannot be built do not count. An architecture of k layers is one of n^k sequences. Where a layer may be skipped a genome of depth d makes
 * any k from 1 to d, so k runs from 1 to the greatest depth; else from the least. The sum is taken over widths, and over both values of
 * tie_embeddings where both are listed; rope_theta multiplies only those sequences in which some layer rotates (n^k less the n0^k without one).
 * Both norms are different networks, and so are both values of bias wherever some layer has a bias.
 * A uniform family has n instead of n^k. Exact as long as every type's combinations were listed (LM_COMBOS_MAX) and below 2^53; an upper bound
 * where a layer may read another's cache, since without such another it is the same as one with its own, and where a type has no bias: the walk then meets some
 * architectures twice.
 *
 * Where a family gives each type its parameters once (FAMILY_TYPES), a sequence that uses the types U can be filled in prod_{t in U} n_t ways,
 * n_t the different parts of t. Let p(U) be the number of pairs (mixer type, ffn type) in U. Sequences that use all of U and nothing else
 * number sum_{S in U} (-1)^|U - S| p(S)^k; summed over all U with their ways, each S is left with prod_{t in S} n_t prod_{t not in S} (1 - n_t).
 * A role that is the same in every layer has one type in U. */
#include <string.h>

#include "searchspace/space_int.h"

struct layers {
    double n;   /* different layers, skipping not counted */
    double n0;  /* of them, those that read no rope_theta */
    int skip;   /* 1: both roles offer "none" */
};

/* Different parts of a type at a width; plain: of those, the ones that read no rope_theta. */
static double parts_of(const struct lm_type *t, int w, bool plain)
{
    if (!t->listed) return t->combos;
    return t->valid[w].ndistinct - (plain ? t->valid[w].nrope : 0);
}

/* *listed: every type's combinations were. */
static struct layers count_layers(const struct lm *m, int w, bool *listed, bool *exact)
{
    double parts[2] = {0, 0}, plain[2] = {0, 0};
    int none = 0;
    for (int k = 0; k < 2; k++)
        for (int i = 0; i < m->role[k].ntypes; i++) {
            const struct lm_type *t = &m->role[k].type[i];
            if (!t->listed) *listed = false;
            if (t->listed && t->valid[w].settles) *exact = false;
            if (m->bias.gene && t->unbiased && t->s != &layer_none) *exact = false;
            parts[k] += parts_of(t, w, false);
            plain[k] += parts_of(t, w, true);
            none += t->s == &layer_none;
        }
    int skip = none == 2;
    return (struct layers){parts[0] * parts[1] - skip, plain[0] * plain[1] - skip, skip};
}

static int shortest(const struct lm *m, const struct layers *l)
{
    return l->skip && !space_family_uniform(m->family) ? 1 : m->depth_min;
}

static double power(double x, int k)
{
    double product = 1;
    for (int i = 0; i < k; i++) product *= x;
    return product;
}

struct subset { /* types of a role: set by bits */
    double ways, weight; /* prod n_t, and the factor in the sum above; both 0 where the set cannot be */
    int types;
    bool none;           /* "none" is among them */
};

static struct subset weigh(const struct lm *m, int role, unsigned set, int w, bool plain)
{
    const struct lm_role *o = &m->role[role];
    bool equal = m->family->freedom[role] == FAMILY_EQUAL;
    struct subset s = {.ways = 1, .weight = 1, .types = __builtin_popcount(set)};
    if (equal && s.types != 1) return (struct subset){0};
    for (int i = 0; i < o->ntypes; i++) {
        double n = parts_of(&o->type[i], w, plain);
        if (set >> i & 1) {
            s.ways *= n;
            s.weight *= n;
            s.none = s.none || o->type[i].s == &layer_none;
        } else if (!equal) {
            s.weight *= 1 - n;
        }
    }
    return s;
}

static int pairs(const struct subset *x, const struct subset *y)
{
    return x->types * y->types - (x->none && y->none);
}

/* Different sequences of k layers at a width. */
static double sequences(const struct lm *m, const struct layers *l, int w, int k, bool plain)
{
    if (m->home < 0) return power(plain ? l->n0 : l->n, k);
    double sum = 0;
    for (unsigned a = 1; a < 1u << m->role[0].ntypes; a++)
        for (unsigned b = 1; b < 1u << m->role[1].ntypes; b++) {
            struct subset x = weigh(m, 0, a, w, plain), y = weigh(m, 1, b, w, plain);
            if (x.weight != 0 && y.weight != 0) sum += x.weight * y.weight * power(pairs(&x, &y), k);
        }
    return sum;
}

/* Genomes of one sequence: values of what the whole network has. */
static uint64_t globals(const struct lm *m)
{
    return (uint64_t)m->tie.n * (uint64_t)m->theta.n * (uint64_t)m->norm.choices.n * (uint64_t)m->bias.choices.n;
}

static void set_globals(const struct lm *m, uint64_t i, struct genome *out)
{
    out->g[GENE_THETA] = (double)(i % (uint64_t)m->theta.n);
    i /= (uint64_t)m->theta.n;
    out->g[GENE_TIE] = (double)(i % (uint64_t)m->tie.n);
    i /= (uint64_t)m->tie.n;
    if (m->norm.gene) out->g[m->norm.gene] = (double)(i % 2);
    if (m->bias.gene) out->g[m->bias.gene] = (double)(i / (uint64_t)m->norm.choices.n);
}

static double size_of(const struct space *s, bool *listed, bool *exact)
{
    const struct lm *m = &s->lm;
    double sum = 0;
    *listed = *exact = true;
    for (int w = 0; w < m->width.n; w++) {
        struct layers l = count_layers(m, w, listed, exact);
        for (int k = shortest(m, &l); k <= m->depth_max; k++) {
            double plain = sequences(m, &l, w, k, true);
            sum += m->tie.n * m->norm.choices.n * m->bias.choices.n * (plain + (sequences(m, &l, w, k, false) - plain) * m->theta.n);
        }
    }
    if (!*listed || sum > 0x1p53) *exact = false;
    return sum;
}

double space_lm_size(const struct space *s, bool *exact)
{
    bool listed;
    return size_of(s, &listed, exact);
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
    for (int slot = 0; slot < k; slot++) {
        uint64_t n = (uint64_t)l->n, layer = i % n + (uint64_t)l->skip; /* layer 0 is the skipped one */
        set_part(m, 0, w, (int)(layer / (uint64_t)ffns), lm_slot(m, out, slot));
        set_part(m, 1, w, (int)(layer % (uint64_t)ffns), lm_slot(m, out, slot));
        i /= n;
    }
}

static int nth_bit(unsigned set, int i)
{
    while (i-- > 0) set &= set - 1;
    return __builtin_ctz(set);
}

/* The i-th of what types out of two sets make: what uses fewer of them comes in their subsets too. */
static void set_shared(const struct lm *m, const unsigned set[2], int w, int k, uint64_t i, struct genome *out)
{
    struct subset s[2] = {weigh(m, 0, set[0], w, false), weigh(m, 1, set[1], w, false)};
    for (int role = 1; role >= 0; role--)
        for (int t = 0; t < m->role[role].ntypes; t++) {
            const struct lm_type *type = &m->role[role].type[t];
            if (!(set[role] >> t & 1)) continue;
            uint64_t n = (uint64_t)type->valid[w].ndistinct;
            lm_combo_genes(type, type->valid[w].distinct[i % n], out->g + lm_knob_gene(m, role, type, 0));
            i /= n;
        }
    uint64_t n = (uint64_t)pairs(&s[0], &s[1]), skip = (uint64_t)(s[0].none && s[1].none);
    for (int layer = 0; layer < (space_family_uniform(m->family) ? 1 : k); layer++) {
        int pair = (int)(i % n + skip);
        out->g[lm_type_gene(m, 0, layer)] = nth_bit(set[0], pair / s[1].types);
        out->g[lm_type_gene(m, 1, layer)] = nth_bit(set[1], pair % s[1].types);
        i /= n;
    }
}

/* The n-th sequence of k layers, n counting all values of the options of the whole network; false past the last one, whose number is then taken off n. */
static bool set_layers(const struct lm *m, int w, int k, uint64_t *n, struct genome *out)
{
    bool listed, exact;
    struct layers l = count_layers(m, w, &listed, &exact);
    bool shared = m->home >= 0;
    for (unsigned a = 1; a < (shared ? 1u << m->role[0].ntypes : 2); a++)
        for (unsigned b = 1; b < (shared ? 1u << m->role[1].ntypes : 2); b++) {
            struct subset x = weigh(m, 0, a, w, false), y = weigh(m, 1, b, w, false);
            uint64_t here = (uint64_t)(shared ? x.ways * y.ways * power(pairs(&x, &y), k) : power(l.n, k));
            if (*n >= here * globals(m)) {
                *n -= here * globals(m);
                continue;
            }
            out->g[GENE_DEPTH] = k > m->depth_min ? k : m->depth_min; /* the slots beyond k stay zero: both "none", the first type of layers.def */
            out->g[GENE_WIDTH] = w;
            set_globals(m, *n / here, out);
            if (shared) set_shared(m, (unsigned[2]){a, b}, w, k, *n % here, out);
            else set_sequence(m, &l, w, k, *n % here, out);
            return true;
        }
    return false;
}

st_t space_lm_nth(const struct space *s, uint64_t n, struct genome *out)
{
    const struct lm *m = &s->lm;
    bool listed, exact;
    if (size_of(s, &listed, &exact) > SPACE_NTH_MAX || !listed) return ST_ETOOBIG;
    memset(out->g, 0, (size_t)out->n * sizeof *out->g);
    for (int w = 0; w < m->width.n; w++) {
        struct layers l = count_layers(m, w, &listed, &exact);
        for (int k = shortest(m, &l); k <= m->depth_max; k++)
            if (set_layers(m, w, k, &n, out)) return ST_OK;
    }
    return ST_ENOTFOUND;
}
