/* Language models as columns of numbers, in this order:
 *   what the whole network has   depth, width (log), tie, rope_theta, norm, bias: a column each where there is a choice
 *   paper costs                  log10 of parameters, active parameters, FLOPs a token and state bytes at the context, divided by 4
 *   types                        share of the layers that have it, for every type of a role with more than one
 *   knobs                        mean place of the chosen value among the choices, over the layers of the type
 *   layers                       BINS pieces of the stack (a layer each where no network is deeper): the same shares and means within the piece
 * Layers that do nothing are left out before they are counted. */
#include <math.h>
#include <string.h>

#include "searchspace/space_int.h"

#define BINS 16
#define COSTS 4

static void add(struct space *s, int group, bool ordinal, bool fine)
{
    if (s->column) s->column[s->columns] = (struct space_column){.group = group, .gene = -1, .ordinal = ordinal, .fine = fine};
    s->columns++;
}

static int types_of(const struct lm_role *role)
{
    return role->ntypes > 1 ? role->ntypes : 0;
}

/* Columns of the types and knobs of all layers, or of those of a piece; groups from `group` on. Returns how many groups. */
static int add_parts(struct space *s, int group, bool fine)
{
    int n = 0;
    for (int k = 0; k < 2; k++) {
        const struct lm_role *role = &s->lm.role[k];
        for (int i = 0; i < types_of(role); i++) add(s, group + n++, false, fine);
        for (int i = 0; i < role->ntypes; i++)
            for (int j = 0; j < role->type[i].genes; j++)
                if (role->type[i].knob[j].n > 1) add(s, group + n++, true, fine);
    }
    return n;
}

static int bins(const struct lm *m)
{
    if (space_family_uniform(m->family)) return 0;
    return m->depth_max < BINS ? m->depth_max : BINS;
}

static void add_all(struct space *s)
{
    const struct lm *m = &s->lm;
    int globals = (m->depth_max > m->depth_min) + (m->width.n > 1) + (m->tie.n > 1) + (m->theta.n > 1) + (m->norm.gene != 0) + (m->bias.gene != 0);
    s->columns = s->groups = 0;
    for (int i = 0; i < globals + COSTS; i++) add(s, s->groups++, true, false);
    s->groups += add_parts(s, s->groups, false);
    int n = 0;
    for (int i = 0; i < bins(m); i++) n = add_parts(s, s->groups, true); /* a knob's group is the same in every piece */
    s->groups += n;
}

st_t space_lm_columns(struct space *s)
{
    add_all(s);
    if (!(s->column = base_arena_alloc(&s->arena, (size_t)s->columns * sizeof *s->column))) return ST_ENOMEM;
    add_all(s);
    return ST_OK;
}

/* Adds a layer's types and knobs to the columns of a piece. */
static int put_layer(const struct lm *m, const struct genome *g, int layer, double *x)
{
    int at = 0;
    for (int k = 0; k < 2; k++) {
        const struct lm_role *role = &m->role[k];
        int chosen = (int)g->g[lm_type_gene(m, k, layer)];
        if (role->ntypes > 1) x[at + chosen]++;
        at += types_of(role);
        for (int i = 0; i < role->ntypes; i++) {
            const struct lm_type *t = &role->type[i];
            const double *genes = g->g + lm_knob_gene(m, k, t, layer);
            for (int j = 0; j < t->genes; j++) {
                if (t->knob[j].n < 2) continue;
                if (i == chosen) x[at] += genes[j] / (t->knob[j].n - 1);
                at++;
            }
        }
    }
    return at;
}

static double cost(double v)
{
    return log10(v + 1) / 4;
}

st_t space_lm_encode(const struct space *s, const struct genome *g, double *x, struct arch *built)
{
    const struct lm *m = &s->lm;
    struct arch own, *a = built ? built : &own;
    struct arch_cost c;
    st_t st = lm_build(m, g, a, NULL);
    if (st) return st;
    space_arch_cost(a, &c);
    double *to = x;
    memset(x, 0, (size_t)s->columns * sizeof *x);
    if (m->depth_max > m->depth_min) *to++ = (double)a->depth / m->depth_max;
    if (m->width.n > 1) *to++ = log(a->width / m->width.v[0]) / log(m->width.v[m->width.n - 1] / m->width.v[0]);
    if (m->tie.n > 1) *to++ = a->tie;
    if (m->theta.n > 1) *to++ = g->g[GENE_THETA] / (m->theta.n - 1);
    if (m->norm.gene) *to++ = a->norm;
    if (m->bias.gene) *to++ = a->bias;
    *to++ = cost(c.params);
    *to++ = cost(c.active_params);
    *to++ = cost(c.flops_per_token);
    *to++ = cost(space_arch_state_bytes(a, a->context));
    double *all = to, *piece = to;
    int parts = 0, kept = 0, pieces = bins(m);
    for (int i = 0; i < (int)g->g[GENE_DEPTH]; i++) {
        if (lm_type_of(m, g, 0, i)->s == &layer_none && lm_type_of(m, g, 1, i)->s == &layer_none) continue;
        parts = put_layer(m, g, i, all);
        piece = all + parts * (1 + kept * pieces / m->depth_max);
        if (pieces) put_layer(m, g, i, piece);
        kept++;
    }
    for (int i = 0; i < parts; i++) all[i] /= kept;
    for (int k = 0; k < pieces; k++) {
        int n = 0;
        for (int i = 0; i < kept; i++) n += i * pieces / m->depth_max == k;
        for (int i = 0; n > 1 && i < parts; i++) all[parts * (1 + k) + i] /= n;
    }
    return ST_OK;
}
