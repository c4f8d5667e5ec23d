/* What may be asked for: genes, and the candidates they make. Two kinds of space, one interface: "lm" (language models) and "custom" (named knobs).
 *
 *   struct space *s = job->space;
 *   struct genome g; space_genome_init(s, &g);
 *   space_sample(s, &rng, &g);
 *   struct candidate c; space_candidate(s, &g, &c, NULL);          // canonical text, id, arch, paper costs
 *
 * A genome is a fixed-length vector of genes. A choice gene holds the index of its choice; an int or real gene its value. Genes that mean nothing in a
 * genome (layers beyond its depth, knobs of a mixer not chosen) are kept, and do not change the candidate.
 * Random draws come from the caller's counter-based generator alone. */
#ifndef TAUT_SEARCHSPACE_SPACE_H
#define TAUT_SEARCHSPACE_SPACE_H

#include <jansson.h>

#include "base/buf.h"
#include "base/rng.h"
#include "searchspace/arch.h"
#include "searchspace/metric.h"

struct space;

enum space_type { SPACE_LM, SPACE_CUSTOM };

struct genome {
    int n;
    double *g; /* [n]; owned */
};

struct candidate {
    enum space_type type;
    char *canonical;        /* owned; JSON text without spaces; an lm architecture or a flat object */
    char id[BASE_ID_HEX];
    struct arch arch;       /* lm only */
};

/* v: the value of "space" in a job (a preset's name or an object); vocab and context come from "data" (0 for custom).
 * Refuses what is promised and not built by name (ST_ENOTSUP), unknown keys with the nearest known. */
st_t space_new(struct space **out, json_t *v, int vocab, int context, struct base_err *err);
void space_free(struct space *s);
enum space_type space_type(const struct space *s);

int space_genes(const struct space *s);
st_t space_genome_init(const struct space *s, struct genome *g); /* zeroed; ST_ENOMEM */
void space_genome_fini(struct genome *g);
void space_genome_copy(struct genome *dst, const struct genome *src);
/* JSON array of the genes' values, shortest numbers; and back (ST_ECORRUPT when it does not fit the space). */
void space_genome_write(const struct genome *g, struct base_buf *b);
bool space_gene_fits(const struct space *s, int gene, double v);
st_t space_genome_read(const struct space *s, json_t *v, struct genome *g);

/* Every draw is valid (holes of the space are redrawn, at most a fixed number of times; ST_EEXHAUSTED then). */
st_t space_sample(const struct space *s, struct base_rng *r, struct genome *out);
/* Changes at least one gene that means something. rate: expected share of such genes changed (<= 0: 1/their number, at least one).
 * Also inserts, removes, copies and swaps layers in lm spaces. */
st_t space_mutate(const struct space *s, struct base_rng *r, double rate, struct genome *g);
/* Child of two: whole layers keep together (layer i from one parent or the other, or a cut), global genes each from one. */
st_t space_crossover(const struct space *s, struct base_rng *r, const struct genome *a, const struct genome *b, struct genome *out);

/* Moves of a search that asks a model, not an evaluator. nudge: some numbers go a normal step of `size` times their range, or to an end of it; choices and
 * lm genomes are mutated. blend: numbers of a moved by the difference of b and c, as in differential evolution (Storn & Price 1997), choices from a
 * or b; lm: the crossover of a and b. */
st_t space_nudge(const struct space *s, struct base_rng *r, double size, struct genome *g);
st_t space_blend(const struct space *s, struct base_rng *r, const struct genome *a, const struct genome *b, const struct genome *c, struct genome *out);

st_t space_candidate(const struct space *s, const struct genome *g, struct candidate *out, struct base_err *err);
void space_candidate_fini(struct candidate *c);

/* Number of genomes that differ in what they mean, as a double (may be inf for real knobs); an upper bound of distinct candidates where exact is false. */
double space_size(const struct space *s, bool *exact);
/* n-th genome in a fixed enumeration of the space, for spaces small enough (size <= 1e6); ST_ENOTFOUND past the end. Holes and doubles may come. */
st_t space_nth(const struct space *s, uint64_t n, struct genome *out);

/* ---- for learning: a genome as a fixed number of columns, all within about 0..1 ----
 * custom  a number is one column, on its own scale (log where the knob is). A choice of k > 2 has a column for each, 1 where it is chosen; if all are numbers in
 *         rising order, first one for its place among them. A choice of 2 is one column, of 1 none.
 * lm      see space_lm_encode.c: the whole network's genes, shares of types, paper costs, then layer by layer. What means nothing in a genome is 0. */
struct space_column {
    int group;    /* columns of one group are one thing (a knob, in whichever layer): they share a lengthscale */
    int gene;     /* the one gene that it depends on; -1: more than one */
    bool ordinal; /* more and less mean something: else 0 or 1 */
    bool fine;    /* of a piece of the stack */
};
int space_columns(const struct space *s, const struct space_column **column); /* how many; column: borrowed, may be NULL */
int space_groups(const struct space *s);
int space_gene_choices(const struct space *s, int gene); /* of a custom choice; 0: a number, or an lm gene */
/* x [columns]; arch: what an lm genome makes, canonical; may be NULL. ST_EINVAL: a hole of the space. */
st_t space_encode(const struct space *s, const struct genome *g, double *x, struct arch *arch);

/* For people: one line a knob ("width: 64 96 128"), to b. */
void space_describe(const struct space *s, struct base_buf *b);
/* JSON: [{"name": "width", "choices": [..]} …], for reports (parallel coordinates) and `taut space --json`. */
json_t *space_describe_json(const struct space *s);
/* Flat knob → value of a candidate for parallel coordinates: width, depth, share of mixer types, mean kv_ratio, … (lm) or the knobs (custom). */
json_t *space_candidate_features(const struct space *s, const struct candidate *c);

/* What the space's family takes away, a line each ("attention.window is 0; 128 is left out"); "" where it takes nothing. */
const char *space_taken(const struct space *s);

/* Presets: "lm-small", "lm-tiny". NULL-terminated names; text of one. */
const char *const *space_preset_names(void);
const char *space_preset_text(const char *name); /* JSON; NULL: none */

#endif
