/* What both kinds of space share: life cycle, genomes as JSON, dispatch. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/json_write.h"
#include "searchspace/space_int.h"
#include "searchspace/words.h"

static st_t read_space(struct space *s, json_t *v, int vocab, int context, struct base_err *err)
{
    static const char *const types[] = {"lm", "custom", NULL};
    struct base_jr r = base_jr_at(v, "space", err);
    base_jr_need(&r, "type");
    const char *type = base_jr_str(&r, "type", "");
    if (r.st) return r.st;
    int i = words_find(type, types, WORDS_OTHER, "type of space", "space.type", err);
    if (i < 0) return (st_t)i;
    s->type = i == 0 ? SPACE_LM : SPACE_CUSTOM;
    s->ops = i == 0 ? &space_lm_ops : &space_custom_ops;
    st_t st = i == 0 ? space_lm_read(s, v, vocab, context, err) : space_custom_read(s, v, err);
    if (st) return st;
    st = i == 0 ? space_lm_columns(s) : space_custom_columns(s);
    return st ? base_err_set(err, st, "space", "out of memory") : ST_OK;
}

st_t space_new(struct space **out, json_t *v, int vocab, int context, struct base_err *err)
{
    json_t *preset = NULL;
    if (json_is_string(v)) {
        const char *name = json_string_value(v);
        int i = words_find(name, space_preset_names(), WORDS_OTHER, "preset", "space", err);
        if (i < 0) return (st_t)i;
        v = preset = json_loads(space_preset_text(name), 0, NULL);
        if (!preset) return base_err_set(err, ST_ENOMEM, "space", "out of memory");
    } else if (!json_is_object(v)) {
        return base_err_set(err, ST_EINVAL, "space", "must be a preset's name or an object");
    }
    struct space *s = calloc(1, sizeof *s);
    st_t st = s ? ST_OK : base_err_set(err, ST_ENOMEM, "space", "out of memory");
    if (s) {
        base_arena_init(&s->arena, 0);
        st = read_space(s, v, vocab, context, err);
    }
    json_decref(preset);
    if (st) space_free(s);
    else *out = s;
    return st;
}

void space_free(struct space *s)
{
    if (!s) return;
    json_decref(s->custom.knobs);
    base_arena_fini(&s->arena);
    base_buf_fini(&s->taken);
    free(s);
}

const char *space_taken(const struct space *s)
{
    return s->taken.p ? s->taken.p : "";
}

enum space_type space_type(const struct space *s)
{
    return s->type;
}

int space_genes(const struct space *s)
{
    return s->genes;
}

st_t space_genome_init(const struct space *s, struct genome *g)
{
    g->n = s->genes;
    g->g = calloc((size_t)g->n, sizeof *g->g);
    return g->g ? ST_OK : ST_ENOMEM;
}

void space_genome_fini(struct genome *g)
{
    free(g->g);
    *g = (struct genome){0, NULL};
}

void space_genome_copy(struct genome *dst, const struct genome *src)
{
    memcpy(dst->g, src->g, (size_t)src->n * sizeof *src->g);
}

void space_genome_write(const struct genome *g, struct base_buf *b)
{
    struct base_jw w;
    base_jw_init(&w, b);
    base_jw_arr(&w);
    for (int i = 0; i < g->n; i++) base_jw_num(&w, g->g[i]);
    base_jw_end(&w);
}

bool space_gene_fits(const struct space *s, int gene, double v)
{
    return s->ops->gene_fits(s, gene, v);
}

st_t space_genome_read(const struct space *s, json_t *v, struct genome *g)
{
    if (!json_is_array(v) || json_array_size(v) != (size_t)s->genes) return ST_ECORRUPT;
    for (int i = 0; i < s->genes; i++) {
        json_t *x = json_array_get(v, (size_t)i);
        if (!json_is_number(x) || !s->ops->gene_fits(s, i, json_number_value(x))) return ST_ECORRUPT;
    }
    for (int i = 0; i < s->genes; i++) g->g[i] = json_number_value(json_array_get(v, (size_t)i));
    return ST_OK;
}

st_t space_sample(const struct space *s, struct base_rng *r, struct genome *out)
{
    return s->ops->sample(s, r, out);
}

st_t space_mutate(const struct space *s, struct base_rng *r, double rate, struct genome *g)
{
    return s->ops->mutate(s, r, rate, g);
}

st_t space_crossover(const struct space *s, struct base_rng *r, const struct genome *a, const struct genome *b, struct genome *out)
{
    return s->ops->crossover(s, r, a, b, out);
}

st_t space_nudge(const struct space *s, struct base_rng *r, double size, struct genome *g)
{
    return s->type == SPACE_CUSTOM ? space_custom_nudge(s, r, size, g) : s->ops->mutate(s, r, 0, g);
}

st_t space_blend(const struct space *s, struct base_rng *r, const struct genome *a, const struct genome *b, const struct genome *c, struct genome *out)
{
    return s->type == SPACE_CUSTOM ? space_custom_blend(s, r, a, b, c, out) : s->ops->crossover(s, r, a, b, out);
}

st_t space_candidate(const struct space *s, const struct genome *g, struct candidate *out, struct base_err *err)
{
    return s->ops->candidate(s, g, out, err);
}

void space_candidate_fini(struct candidate *c)
{
    free(c->canonical);
    c->canonical = NULL;
}

double space_size(const struct space *s, bool *exact)
{
    return s->ops->size(s, exact);
}

st_t space_nth(const struct space *s, uint64_t n, struct genome *out)
{
    return s->ops->nth(s, n, out);
}

int space_columns(const struct space *s, const struct space_column **column)
{
    if (column) *column = s->column;
    return s->columns;
}

int space_groups(const struct space *s)
{
    return s->groups;
}

int space_gene_choices(const struct space *s, int gene)
{
    if (s->type != SPACE_CUSTOM || s->custom.of[gene]->kind != CUSTOM_CHOICE) return 0;
    return s->custom.of[gene]->nchoices;
}

st_t space_encode(const struct space *s, const struct genome *g, double *x, struct arch *arch)
{
    return s->ops->encode(s, g, x, arch);
}

json_t *space_describe_json(const struct space *s)
{
    return s->ops->describe(s);
}

json_t *space_candidate_features(const struct space *s, const struct candidate *c)
{
    return s->ops->features(s, c);
}

/* A scalar as people read it: strings without quotes. */
static void add_scalar(struct base_buf *b, json_t *v)
{
    if (json_is_string(v)) {
        base_buf_str(b, json_string_value(v));
    } else if (json_is_number(v)) {
        char text[32];
        base_num_text(json_number_value(v), text);
        base_buf_str(b, text);
    } else {
        base_buf_str(b, json_is_true(v) ? "true" : json_is_false(v) ? "false" : "null");
    }
}

void space_describe(const struct space *s, struct base_buf *b)
{
    json_t *knobs = space_describe_json(s), *knob, *v;
    size_t i, k;
    if (!knobs) {
        b->st = ST_ENOMEM;
        return;
    }
    json_array_foreach(knobs, i, knob) {
        json_t *choices = json_object_get(knob, "choices"), *repeat = json_object_get(knob, "repeat");
        base_buf_printf(b, "%s:", json_string_value(json_object_get(knob, "name")));
        json_array_foreach(choices, k, v) {
            base_buf_str(b, " ");
            add_scalar(b, v);
        }
        if (!choices) {
            base_buf_str(b, " ");
            add_scalar(b, json_object_get(knob, "low"));
            base_buf_str(b, " to ");
            add_scalar(b, json_object_get(knob, "high"));
            base_buf_printf(b, " (%s)", json_string_value(json_object_get(knob, "scale")));
        }
        if (repeat) base_buf_printf(b, " (x %lld)", (long long)json_integer_value(repeat));
        base_buf_str(b, "\n");
    }
    json_decref(knobs);
}
