/* The "space" of a job, language models: reads the knobs and lists what can be built at each width. */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/json_write.h"
#include "searchspace/space_int.h"
#include "searchspace/words.h"

static const struct layer_knob width_knob = {.name = "width", .kind = LAYER_INT, .dflt = NAN, .min = 1, .max = ARCH_WIDTH_MAX};
static const struct layer_knob tie_knob = {.name = "tie_embeddings", .kind = LAYER_BOOL, .dflt = 1, .max = 1};
static const struct layer_knob norm_knob = {.name = "norm", .kind = LAYER_WORD, .words = space_norm_words};
static const struct layer_knob bias_knob = {.name = "bias", .kind = LAYER_BOOL, .max = 1};
static const struct layer_knob theta_knob = {.name = "rope_theta", .kind = LAYER_REAL, .dflt = ARCH_ROPE_THETA, .min = 1, .max = 1e12};

static st_t no_memory(struct base_err *err)
{
    return base_err_set(err, ST_ENOMEM, "space", "out of memory");
}

static st_t read_number(const struct layer_knob *k, json_t *v, const char *where, double *out, struct base_err *err)
{
    bool whole = k->kind == LAYER_INT;
    double x = json_number_value(v);
    if (json_is_number(v) && x >= k->min && x <= k->max && (!whole || x == floor(x))) {
        *out = x;
        return ST_OK;
    }
    char min[32], max[32], got[32] = "";
    base_num_text(k->min, min);
    base_num_text(k->max, max);
    if (json_is_number(v)) base_num_text(x, got);
    return base_err_set(err, ST_EINVAL, where, "must be %s from %s to %s%s%s", whole ? "an integer" : "a number", min, max,
                        got[0] ? ", not " : "", got);
}

static st_t read_choice(const struct layer_knob *k, json_t *v, const char *where, double *out, struct base_err *err)
{
    char text[80] = "";
    switch (k->kind) {
    case LAYER_BOOL:
        if (!json_is_boolean(v)) return base_err_set(err, ST_EINVAL, where, "must be true or false");
        *out = json_is_true(v);
        snprintf(text, sizeof text, "%s", json_is_true(v) ? "true" : "false");
        break;
    case LAYER_WORD: {
        if (!json_is_string(v)) return base_err_set(err, ST_EINVAL, where, "must be a string");
        int i = words_find(json_string_value(v), k->words, WORDS_OTHER, k->name, where, err);
        if (i < 0) return (st_t)i;
        *out = i;
        snprintf(text, sizeof text, "'%s'", k->words[i]);
        break;
    }
    case LAYER_INT: case LAYER_REAL: {
        st_t st = read_number(k, v, where, out, err);
        if (st) return st;
        base_num_text(*out, text);
        break;
    }
    }
    if (k->only_dflt && *out != k->dflt) return base_err_set(err, ST_ENOTSUP, where, "%s %s is not built yet", k->name, text);
    return ST_OK;
}

static void choice_text(const struct layer_knob *k, double v, char text[80])
{
    if (k->kind == LAYER_BOOL) snprintf(text, 80, "%s", v != 0 ? "true" : "false");
    else if (k->kind == LAYER_WORD) snprintf(text, 80, "'%s'", k->words[(int)v]);
    else base_num_text(v, text);
}

/* A line for space_taken. */
static void take(struct space *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void take(struct space *s, const char *fmt, ...)
{
    char text[512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    base_buf_printf(&s->taken, "%s%s", s->taken.len ? "\n" : "", text);
}

/* Leaves the one value that the family holds. A knob that is listed without it is an error; what else was listed is told of. */
static st_t restrict_knob(struct space *s, const struct layer_knob *k, const char *layer, bool listed, const char *where, struct choices *out,
                          struct base_err *err)
{
    const struct family_rule *r = space_family_rule(s->lm.family, layer, k->name);
    if (!r) return ST_OK;
    double only = space_family_only(r, k->words);
    char text[80], item[80], rest[256] = "";
    bool held = false;
    choice_text(k, only, text);
    for (int i = 0; i < out->n; i++) {
        size_t at = strlen(rest);
        if (out->v[i] == only) held = true;
        else if (listed) choice_text(k, out->v[i], item), snprintf(rest + at, sizeof rest - at, "%s%s", at ? ", " : "", item);
    }
    if (listed && !held) return base_err_set(err, ST_EINVAL, where, "family '%s' holds %s %s only", s->lm.family->name, k->name, text);
    if (!held && k->only_dflt && only != k->dflt)
        return base_err_set(err, ST_ENOTSUP, "space.family", "family '%s' needs %s %s, which is not built yet", s->lm.family->name, k->name, text);
    out->v[0] = only;
    out->n = 1;
    take(s, "%s%s%s is %s%s%s%s", layer ? layer : "", layer ? "." : "", k->name, text, *rest ? " (not " : "", rest, *rest ? ")" : "");
    return ST_OK;
}

/* The choices of a knob, or its default where the job lists none; path is that of the object it stands in, layer that of the type (NULL:
 * of the network). */
static st_t read_knob(struct space *s, json_t *obj, const char *path, const char *layer, const struct layer_knob *k, struct choices *out,
                      struct base_err *err)
{
    json_t *list = json_object_get(obj, k->name);
    char where[256];
    snprintf(where, sizeof where, "%s.%s", path, k->name);
    if (!list && isnan(k->dflt)) {
        out->n = 0;
        if (k->may_be_absent) return ST_OK;
        return base_err_set(err, ST_EINVAL, where, "missing: a list of choices");
    }
    size_t n = list ? json_array_size(list) : 1;
    if (list && (!json_is_array(list) || n < 1 || n > SPACE_CHOICES_MAX))
        return base_err_set(err, ST_EINVAL, where, "must be a list of 1 to %d choices", SPACE_CHOICES_MAX);
    out->v = base_arena_alloc(&s->arena, n * sizeof *out->v);
    if (!out->v) return no_memory(err);
    out->n = (int)n;
    out->given = list != NULL;
    if (!list) out->v[0] = k->dflt;
    for (size_t i = 0; list && i < n; i++) {
        char item[280];
        snprintf(item, sizeof item, "%s[%zu]", where, i);
        st_t st = read_choice(k, json_array_get(list, i), item, &out->v[i], err);
        if (st) return st;
        for (size_t j = 0; j < i; j++)
            if (out->v[j] == out->v[i]) return base_err_set(err, ST_EINVAL, item, "is listed twice");
    }
    return restrict_knob(s, k, layer, list != NULL, where, out, err);
}

static st_t read_type(struct space *s, struct lm_type *t, json_t *v, const char *path, struct base_err *err)
{
    const char *known[LAYER_KNOBS_MAX];
    struct base_jr r = base_jr_at(v, path, err);
    for (int i = 0; i < t->s->nknobs; i++) known[i] = t->s->knobs[i].name;
    st_t st = base_jr_done(&r, known, t->s->nknobs);
    t->combos = 1;
    for (int i = 0; !st && i < t->s->nknobs; i++) {
        const struct choices *c = &t->knob[i];
        st = read_knob(s, v, path, t->s->name, &t->s->knobs[i], &t->knob[i], err);
        if (!st && c->n) t->combos *= c->n;
    }
    t->genes = t->s->nknobs;
    while (t->genes && t->s->knobs[t->genes - 1].late && t->knob[t->genes - 1].n <= 1) t->genes--;
    t->listed = t->combos <= LM_COMBOS_MAX;
    return st;
}

static st_t read_role(struct space *s, struct lm_role *role, json_t *v, struct base_err *err)
{
    const char *what = role->role == LAYER_MIXER ? "mixer" : "ffn", *name;
    char path[32], where[256];
    snprintf(path, sizeof path, "space.%s", what);
    if (!json_is_object(v) || json_object_size(v) == 0)
        return base_err_set(err, ST_EINVAL, path, "must be an object of %s types, such as {\"none\": {}}", what);
    json_t *item;
    int held = 0;
    char not_held[200] = "";
    json_object_foreach(v, name, item) {
        snprintf(where, sizeof where, "%s.%s", path, name);
        int type = words_find_layer(name, role->role, what, where, err);
        if (type < 0) return (st_t)type;
        if (space_family_holds_type(s->lm.family, type, role->role)) held++;
        else snprintf(not_held, sizeof not_held, "%s", name), take(s, "no %s '%s'", what, name);
    }
    if (!held) {
        snprintf(where, sizeof where, "%s.%s", path, not_held);
        return base_err_set(err, ST_EINVAL, where, "family '%s' does not hold '%s' as %s", s->lm.family->name, not_held, what);
    }
    role->type = base_arena_alloc(&s->arena, json_object_size(v) * sizeof *role->type);
    if (!role->type) return no_memory(err);
    for (int i = 0; i < space_layer_count(); i++) {
        const struct layer_spec *spec = space_layer(i);
        item = spec->roles & role->role ? json_object_get(v, spec->name) : NULL;
        if (!item || !space_family_holds_type(s->lm.family, i, role->role)) continue;
        struct lm_type *t = &role->type[role->ntypes++];
        t->type = i;
        t->s = spec;
        snprintf(where, sizeof where, "%s.%s", path, spec->name);
        st_t st = read_type(s, t, item, where, err);
        if (st) return st;
    }
    return ST_OK;
}

static st_t read_depth(struct lm *m, json_t *v, struct base_err *err)
{
    if (!v) return base_err_set(err, ST_EINVAL, "space.depth", "missing: [least, most]");
    double low = json_number_value(json_array_get(v, 0)), high = json_number_value(json_array_get(v, 1));
    if (!json_is_array(v) || json_array_size(v) != 2 || !(low >= 1 && low <= high && high <= ARCH_LAYERS_MAX) || low != floor(low) ||
        high != floor(high))
        return base_err_set(err, ST_EINVAL, "space.depth", "must be [least, most], integers from 1 to %d", ARCH_LAYERS_MAX);
    m->depth_min = (int)low;
    m->depth_max = (int)high;
    return ST_OK;
}

struct entry { /* a combination and what it makes */
    struct arch_part part;
    int combo;
};

/* By part; of equal parts the one of the lowest combo first. */
static int compare_parts(const void *a, const void *b)
{
    const struct entry *x = a, *y = b;
    int d = memcmp(&x->part, &y->part, sizeof x->part);
    return d ? d : x->combo - y->combo;
}

static int compare_combos(const void *a, const void *b)
{
    return *(const uint16_t *)a - *(const uint16_t *)b;
}

/* Is a part another one when it stands alone? */
static bool depends(const struct lm_type *t, const struct arch_part *part)
{
    if (!t->s->settle) return false;
    struct arch alone = {.depth = 1};
    struct arch_part p = *part;
    t->s->settle(&alone, 0, &p);
    return memcmp(&p, part, sizeof p) != 0;
}

/* Did the part become what the choice of knob i says? A switch that is turned off where there is nothing to switch (moe's shared_gate without shared experts)
 * did not; *why (or NULL) then says what the part would have been refused for. */
static bool taken(const struct lm_type *t, const struct arch_part *part, const double *genes, int i, struct base_err *why)
{
    const struct layer_knob *k = &t->s->knobs[i];
    int at = k->kind == LAYER_BOOL && t->knob[i].n ? space_layer_param(t->s, k->name) : -1;
    if (at < 0) return true;
    int32_t wanted = t->knob[i].v[lm_choice(t, genes, i)] != 0;
    if (part->v[at] == wanted) return true;
    struct arch one = {.depth = 1, .layer = {{*part, *part}}};
    struct arch_part *p = &one.layer[0].ffn;
    p->v[at] = wanted;
    return !t->s->check(&one, 0, p, why);
}

/* Fills t->valid[w]; marks the choices that some architecture can use. */
static st_t list_valid(struct space *s, struct lm_type *t, int w, bool used[][SPACE_CHOICES_MAX], struct entry *entry)
{
    struct lm_valid *v = &t->valid[w];
    int n = (int)t->combos;
    double genes[LAYER_KNOBS_MAX];
    struct arch one = {.vocab = s->lm.vocab, .context = s->lm.context, .width = (int)s->lm.width.v[w], .depth = 1};
    for (int c = 0; c < n; c++) {
        struct entry *e = &entry[v->n];
        lm_combo_genes(t, c, genes);
        if (lm_part(&s->lm, t, genes, (int)s->lm.width.v[w], &e->part, NULL)) continue;
        e->combo = c;
        v->n++;
        for (int i = 0; i < t->s->nknobs; i++)
            if (taken(t, &e->part, genes, i, NULL)) used[i][lm_choice(t, genes, i)] = true;
    }
    v->list = base_arena_alloc(&s->arena, (2 * (size_t)v->n + 1) * sizeof *v->list);
    if (!v->list) return ST_ENOMEM;
    v->distinct = v->list + v->n;
    for (int i = 0; i < v->n; i++) v->list[i] = (uint16_t)entry[i].combo;
    qsort(entry, (size_t)v->n, sizeof *entry, compare_parts);
    for (int i = 0; i < v->n; i++) {
        if (i > 0 && !memcmp(&entry[i].part, &entry[i - 1].part, sizeof entry[i].part)) continue;
        v->distinct[v->ndistinct++] = (uint16_t)entry[i].combo;
        v->nrope += t->s->reads_rope(&entry[i].part);
        v->settles = v->settles || depends(t, &entry[i].part);
        t->unbiased = t->unbiased || !space_part_has_bias(&one, 0, &entry[i].part);
    }
    qsort(v->distinct, (size_t)v->ndistinct, sizeof *v->distinct, compare_combos);
    return ST_OK;
}

/* The share of what choice k of knob i stands in that is refused with words about that knob, *own the first of them; *any: the first words about whatever knob. */
static double blame(const struct space *s, const struct lm_type *t, int i, int k, struct base_err *own, struct base_err *any)
{
    int all = 0, its = 0;
    double genes[LAYER_KNOBS_MAX];
    struct arch_part part;
    *own = *any = (struct base_err)BASE_ERR_INIT;
    for (int w = 0; w < s->lm.width.n; w++)
        for (int c = 0; c < (int)t->combos; c++) {
            struct base_err why = BASE_ERR_INIT;
            lm_combo_genes(t, c, genes);
            if (t->knob[i].n && lm_choice(t, genes, i) != k) continue;
            all++;
            if (!lm_part(&s->lm, t, genes, (int)s->lm.width.v[w], &part, &why) && taken(t, &part, genes, i, &why)) continue;
            if (!any->st) *any = why;
            if (!strcmp(why.where, t->s->knobs[i].name) && its++ == 0) *own = why;
        }
    return all ? (double)its / all : 0;
}

/* Of the choices that no architecture can use, the one that refusals speak of most; of what is not listed, too. Knobs are looked at in their order: of equal
 * ones the last has seen the others pass. Where they speak of none of these, the first. */
static st_t refuse_unused(const struct space *s, const struct lm_type *t, const char *role, bool used[][SPACE_CHOICES_MAX], struct base_err *err)
{
    struct base_err own, any, said = BASE_ERR_INIT;
    int at = -1, choice = 0;
    double most = 0;
    char where[256];
    for (int i = 0; i < t->s->nknobs; i++)
        for (int k = 0; k < (t->knob[i].n ? t->knob[i].n : 1); k++) {
            double share = used[i][k] ? 0 : blame(s, t, i, k, &own, &any);
            if (used[i][k] || (at >= 0 && (share < most || share == 0 || (share == most && at == i)))) continue;
            at = i, choice = k, most = share, said = share > 0 ? own : any;
        }
    int n = snprintf(where, sizeof where, "space.%s.%s.%s", role, t->s->name, t->s->knobs[at].name);
    if (!t->knob[at].given) return base_err_set(err, ST_EINVAL, where, "no architecture can be built without it (%s: %s)", said.where, said.what);
    snprintf(where + n, sizeof where - (size_t)n, "[%d]", choice);
    return base_err_set(err, ST_EINVAL, where, "no architecture can use this choice (%s: %s)", said.where, said.what);
}

/* Lists what each type can be at each width; a choice that no width can use is an error, since it would be ignored. */
static st_t list_type(struct space *s, struct lm_type *t, const char *role, struct base_err *err)
{
    int nwidths = s->lm.width.n;
    t->valid = base_arena_alloc(&s->arena, (size_t)nwidths * sizeof *t->valid);
    if (!t->valid) return no_memory(err);
    if (!t->listed) return ST_OK;
    bool used[LAYER_KNOBS_MAX][SPACE_CHOICES_MAX] = {{false}};
    struct entry *entry = calloc((size_t)t->combos, sizeof *entry);
    st_t st = entry ? ST_OK : ST_ENOMEM;
    for (int w = 0; !st && w < nwidths; w++) st = list_valid(s, t, w, used, entry);
    free(entry);
    if (st) return no_memory(err);
    for (int i = 0; i < t->s->nknobs; i++)
        for (int k = 0; k < t->knob[i].n; k++)
            if (!used[i][k]) return refuse_unused(s, t, role, used, err);
    return ST_OK;
}

/* At every width there must be a mixer, an ffn, and one of the two that does something. */
static st_t check_widths(const struct lm *m, struct base_err *err)
{
    for (int w = 0; w < m->width.n; w++) {
        bool some = false;
        for (int k = 0; k < 2; k++) {
            bool any = false;
            for (int i = 0; i < m->role[k].ntypes; i++) {
                const struct lm_type *t = &m->role[k].type[i];
                bool can = !t->listed || t->valid[w].n > 0;
                any = any || can;
                some = some || (can && t->s != &layer_none);
            }
            if (any && (some || k == 0)) continue;
            char where[64];
            snprintf(where, sizeof where, "space.width[%d]", w);
            return base_err_set(err, ST_EINVAL, where, "no %s can be built at width %d", any ? "layer" : k ? "ffn" : "mixer",
                                (int)m->width.v[w]);
        }
    }
    return ST_OK;
}

static st_t list_all(struct space *s, struct base_err *err)
{
    struct lm *m = &s->lm;
    bool only_none = true;
    for (int k = 0; k < 2; k++)
        for (int i = 0; i < m->role[k].ntypes; i++) {
            st_t st = list_type(s, &m->role[k].type[i], k ? "ffn" : "mixer", err);
            if (st) return st;
            only_none = only_none && m->role[k].type[i].s == &layer_none;
        }
    if (only_none) return base_err_set(err, ST_EINVAL, "space", "mixer and ffn offer nothing but 'none': no layer would be left");
    return check_widths(m, err);
}

static void lay_out_genes(struct space *s)
{
    struct lm *m = &s->lm;
    int n = 0;
    for (int k = 0; k < 2; k++) {
        m->role[k].gene = n++;
        for (int i = 0; i < m->role[k].ntypes; i++) {
            m->role[k].type[i].gene = n;
            n += m->role[k].type[i].genes;
        }
    }
    bool free = m->family->freedom[0] == FAMILY_FREE && m->family->freedom[1] == FAMILY_FREE, uniform = space_family_uniform(m->family);
    m->home = free ? -1 : uniform ? 0 : m->depth_max;
    m->slots = uniform ? 1 : m->depth_max + !free;
    m->slot_genes = n;
    m->globals = GENES_ALWAYS;
    if (m->norm.choices.n > 1) m->norm.gene = m->globals++;
    if (m->bias.choices.n > 1) m->bias.gene = m->globals++;
    s->genes = m->globals + m->slots * n;
}

static void take_freedom(struct space *s)
{
    static const char *const what[2] = {"mixer", "ffn"};
    for (int k = 0; k < 2; k++)
        switch (s->lm.family->freedom[k]) {
        case FAMILY_FREE: break;
        case FAMILY_TYPES: take(s, "the knobs of a type of %s are the same in every layer", what[k]); break;
        case FAMILY_EQUAL: take(s, "every layer has the same %s", what[k]); break;
        }
}

st_t space_lm_read(struct space *s, json_t *v, int vocab, int context, struct base_err *err)
{
    static const char *const known[] = {"type", "depth", "width", "mixer", "ffn", "tie_embeddings", "norm", "bias", "rope_theta", "family"};
    struct lm *m = &s->lm;
    struct base_jr r = base_jr_at(v, "space", err);
    base_jr_done(&r, known, sizeof known / sizeof known[0]);
    const char *family = base_jr_str(&r, "family", "any");
    if (r.st) return r.st;
    int i = words_find(family, space_family_names(), WORDS_FAMILY, "family", "space.family", err);
    if (i < 0) return (st_t)i;
    *m = (struct lm){.vocab = vocab, .context = context, .family = space_family_find(family)};
    m->role[0].role = LAYER_MIXER;
    m->role[1].role = LAYER_FFN;

    take_freedom(s);
    st_t st = read_depth(m, json_object_get(v, "depth"), err);
    if (!st) st = read_knob(s, v, "space", NULL, &width_knob, &m->width, err);
    if (!st) st = read_knob(s, v, "space", NULL, &tie_knob, &m->tie, err);
    if (!st) st = read_knob(s, v, "space", NULL, &theta_knob, &m->theta, err);
    if (!st) st = read_knob(s, v, "space", NULL, &norm_knob, &m->norm.choices, err);
    if (!st) st = read_knob(s, v, "space", NULL, &bias_knob, &m->bias.choices, err);
    if (!st) st = read_role(s, &m->role[0], json_object_get(v, "mixer"), err);
    if (!st) st = read_role(s, &m->role[1], json_object_get(v, "ffn"), err);
    if (!st) st = list_all(s, err);
    if (!st && s->taken.st) st = no_memory(err);
    if (st) return st;
    lay_out_genes(s);
    return ST_OK;
}
