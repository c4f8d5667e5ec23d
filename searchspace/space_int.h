/* Inside searchspace/: the two kinds of space behind space.h. */
#ifndef TAUT_SEARCHSPACE_SPACE_INT_H
#define TAUT_SEARCHSPACE_SPACE_INT_H

#include "base/arena.h"
#include "searchspace/families/family.h"
#include "searchspace/layer.h"
#include "searchspace/space.h"

#define SPACE_CHOICES_MAX 64
#define SPACE_NTH_MAX 1e6 /* spaces larger than this are not enumerated */
#define SPACE_TRIES 1000  /* draws before a sample is given up (ST_EEXHAUSTED) */

struct space_ops {
    st_t (*sample)(const struct space *s, struct base_rng *r, struct genome *out);
    st_t (*mutate)(const struct space *s, struct base_rng *r, double rate, struct genome *g);
    st_t (*crossover)(const struct space *s, struct base_rng *r, const struct genome *a, const struct genome *b, struct genome *out);
    st_t (*candidate)(const struct space *s, const struct genome *g, struct candidate *out, struct base_err *err);
    bool (*gene_fits)(const struct space *s, int gene, double v);
    double (*size)(const struct space *s, bool *exact);
    st_t (*nth)(const struct space *s, uint64_t n, struct genome *out);
    st_t (*encode)(const struct space *s, const struct genome *g, double *x, struct arch *arch);
    json_t *(*describe)(const struct space *s);
    json_t *(*features)(const struct space *s, const struct candidate *c);
};

struct choices {
    int n;
    bool given; /* the job lists them */
    double *v; /* [n]; in the space's arena */
};

/* ---- language models: genes are depth, width, tie, rope_theta, norm and bias where the job lists more than one of them (so that a space
 * that lists one has the genomes that it had before there was a choice), then for every slot (layer position) the mixer's type, the knobs of every
 * mixer on offer, the ffn's type, the knobs of every ffn. A knob's values in one part, read as digits, are its "combo". ---- */

enum { GENE_DEPTH, GENE_WIDTH, GENE_TIE, GENE_THETA, GENES_ALWAYS };

#define LM_COMBOS_MAX 4096 /* a type with more combinations of knobs is drawn by trial, and its space counted by an upper bound */

/* What a type can be at one width. Not kept (list NULL) when the combinations are too many. */
struct lm_valid {
    int n;
    uint16_t *list;     /* combos without the holes */
    int ndistinct;
    uint16_t *distinct; /* one combo for each different part (roundings make doubles) … */
    int nrope;          /* … of which so many read rope_theta */
    bool settles;       /* some mean something only beside the right layers (layer_spec.settle) */
};

struct lm_type {
    int type;
    const struct layer_spec *s;
    int gene;                               /* of its first knob, within the slot … */
    int genes;                              /* … and how many knobs have one: the others have one choice at most */
    struct choices knob[LAYER_KNOBS_MAX];   /* n = 0: absent, its value is NAN */
    double combos;                          /* product of the choices */
    bool listed;                            /* combos <= LM_COMBOS_MAX */
    struct lm_valid *valid;                 /* [widths] */
    bool unbiased;                          /* some of its parts have no bias whatever the network says */
};

struct lm_role {
    unsigned role;
    int gene; /* of the type, within the slot */
    int ntypes;
    struct lm_type *type; /* in the order of layers.def */
};

struct lm_option { /* of the whole network; a gene only where there is a choice */
    struct choices choices;
    int gene; /* 0: none */
};

struct lm {
    int vocab, context, depth_min, depth_max;
    struct choices width, tie, theta;
    struct lm_option norm, bias;
    int globals; /* genes before the first slot */
    const struct family *family;
    /* Slots: one for each layer; one for all where the family is uniform; one more, the last, for the knobs that its family gives a type once. */
    int slots, slot_genes;
    int home; /* the slot of what is not per layer; -1: the family leaves everything to the layers */
    struct lm_role role[2]; /* mixer, ffn */
};

/* ---- custom spaces ---- */

enum custom_kind { CUSTOM_LOG, CUSTOM_INT, CUSTOM_FLOAT, CUSTOM_CHOICE };
struct custom_knob {
    const char *name;
    enum custom_kind kind;
    double low, high;
    int nchoices;
    const char **choice;    /* JSON text of each */
    json_t *choices;        /* borrowed from struct custom's knobs */
    int repeat;             /* 0: a plain value; N: an array of N */
    int gene;
};
struct custom {
    json_t *knobs;          /* owned */
    int nknobs;
    struct custom_knob *knob; /* sorted by name: key order in the file means nothing */
    const struct custom_knob **of; /* [genes] the knob of each gene */
};

struct space {
    enum space_type type;
    const struct space_ops *ops;
    struct base_arena arena;
    int genes;
    int columns, groups;
    struct space_column *column; /* [columns]; in the arena */
    struct base_buf taken; /* a line for each thing that the family takes away */
    struct lm lm;
    struct custom custom;
};

extern const struct space_ops space_lm_ops, space_custom_ops;

/* v: the object; where-paths start with "space". Fill s->lm / s->custom and s->genes. */
st_t space_lm_read(struct space *s, json_t *v, int vocab, int context, struct base_err *err);
st_t space_custom_read(struct space *s, json_t *v, struct base_err *err);

/* What a genome has of an option. */
static inline double lm_option(const struct lm_option *o, const struct genome *g)
{
    return o->choices.v[o->gene ? (int)g->g[o->gene] : 0];
}

/* Genes of one slot. */
static inline double *lm_slot(const struct lm *m, const struct genome *g, int slot)
{
    return g->g + m->globals + slot * m->slot_genes;
}
/* Where the type of a role in a layer is, and a type's knobs: genes of g. */
static inline int lm_type_gene(const struct lm *m, int role, int layer)
{
    int slot = m->family->freedom[role] == FAMILY_EQUAL ? m->home : layer;
    return m->globals + slot * m->slot_genes + m->role[role].gene;
}
static inline int lm_knob_gene(const struct lm *m, int role, const struct lm_type *t, int layer)
{
    int slot = m->family->freedom[role] == FAMILY_FREE ? layer : m->home;
    return m->globals + slot * m->slot_genes + t->gene;
}
static inline const struct lm_type *lm_type_of(const struct lm *m, const struct genome *g, int role, int layer)
{
    return &m->role[role].type[(int)g->g[lm_type_gene(m, role, layer)]];
}
/* Which of knob i's choices a type's genes mean. */
static inline int lm_choice(const struct lm_type *t, const double *genes, int i)
{
    return i < t->genes ? (int)genes[i] : 0;
}
/* The part that a type's genes (the first knob's on) mean at a width; a status where that is a hole. */
st_t lm_part(const struct lm *m, const struct lm_type *t, const double *genes, int width, struct arch_part *out, struct base_err *err);
void lm_combo_genes(const struct lm_type *t, int combo, double *genes);
/* Draws a combination without holes; false when none was found (genes then hold some combination that is one). */
bool lm_draw_part(const struct lm *m, const struct lm_type *t, int width_index, struct base_rng *r, double *genes);
/* Draws both types of a slot among those possible at the width, and all knobs, also of the types not chosen. */
void lm_draw_slot(const struct lm *m, int width_index, struct base_rng *r, double *slot);
/* Canonical arch of a genome, checked. */
st_t lm_build(const struct lm *m, const struct genome *g, struct arch *out, struct base_err *err);

st_t space_lm_mutate(const struct space *s, struct base_rng *r, double rate, struct genome *g);
st_t space_lm_crossover(const struct space *s, struct base_rng *r, const struct genome *a, const struct genome *b, struct genome *out);
double space_lm_size(const struct space *s, bool *exact);
st_t space_lm_nth(const struct space *s, uint64_t n, struct genome *out);
json_t *space_lm_describe(const struct space *s);
json_t *space_lm_features(const struct space *s, const struct candidate *c);

st_t space_custom_columns(struct space *s); /* fills s->column; ST_ENOMEM */
st_t space_custom_encode(const struct space *s, const struct genome *g, double *x, struct arch *arch);
st_t space_lm_columns(struct space *s);
st_t space_lm_encode(const struct space *s, const struct genome *g, double *x, struct arch *built);

st_t space_custom_mutate(const struct space *s, struct base_rng *r, double rate, struct genome *g);
st_t space_custom_nudge(const struct space *s, struct base_rng *r, double size, struct genome *g);
st_t space_custom_blend(const struct space *s, struct base_rng *r, const struct genome *a, const struct genome *b, const struct genome *c, struct genome *out);
st_t space_custom_sample(const struct space *s, struct base_rng *r, struct genome *out);
st_t space_custom_crossover(const struct space *s, struct base_rng *r, const struct genome *a, const struct genome *b, struct genome *out);

/* A gene other than `not` out of n. */
static inline double gene_other(struct base_rng *r, int n, double not)
{
    int v = (int)base_rng_below(r, (uint32_t)n - 1);
    return v >= (int)not ? v + 1 : v;
}

#endif
