/* Custom spaces: named knobs whose meaning only the user's own evaluator knows. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/json_write.h"
#include "searchspace/space_int.h"

#define KNOBS_MAX 256
#define REPEAT_MAX 1024
#define GENES_MAX 4096
#define NAME_MAX_CHARS 64

static const char *const kind_names[] = {[CUSTOM_LOG] = "log", [CUSTOM_INT] = "int", [CUSTOM_FLOAT] = "float", [CUSTOM_CHOICE] = "choice"};

/* ---- reading ---- */

static st_t read_range(struct custom_knob *k, json_t *v, const char *where, struct base_err *err)
{
    json_t *low = json_array_get(v, 0), *high = json_array_get(v, 1);
    if (!json_is_array(v) || json_array_size(v) != 2 || !json_is_number(low) || !json_is_number(high))
        return base_err_set(err, ST_EINVAL, where, "must be [low, high]");
    k->low = json_number_value(low);
    k->high = json_number_value(high);
    if (!(k->low < k->high)) return base_err_set(err, ST_EINVAL, where, "low must be below high");
    if (k->kind == CUSTOM_LOG && !(k->low > 0)) return base_err_set(err, ST_EINVAL, where, "a logarithmic range must lie above 0");
    if (fabs(k->low) > 1e300 || fabs(k->high) > 1e300) return base_err_set(err, ST_EINVAL, where, "must lie within +-1e300");
    if (k->kind == CUSTOM_INT && (k->low != floor(k->low) || k->high != floor(k->high) || fabs(k->low) > 1e9 || fabs(k->high) > 1e9))
        return base_err_set(err, ST_EINVAL, where, "must be integers within +-1e9");
    return ST_OK;
}

static char *scalar_text(struct space *s, json_t *v)
{
    struct base_buf b = BASE_BUF_INIT;
    struct base_jw w;
    base_jw_init(&w, &b);
    if (json_is_string(v)) base_jw_str(&w, json_string_value(v));
    else if (json_is_integer(v)) base_jw_int(&w, json_integer_value(v));
    else if (json_is_real(v)) base_jw_num(&w, json_real_value(v));
    else if (json_is_boolean(v)) base_jw_bool(&w, json_is_true(v));
    else base_jw_null(&w);
    char *text = b.st ? NULL : base_arena_strdup(&s->arena, b.p);
    base_buf_fini(&b);
    return text;
}

static st_t read_choices(struct space *s, struct custom_knob *k, json_t *v, const char *where, struct base_err *err)
{
    size_t n = json_array_size(v);
    if (!json_is_array(v) || n < 1 || n > 1024) return base_err_set(err, ST_EINVAL, where, "must be a list of 1 to 1024 choices");
    k->choices = v;
    k->nchoices = (int)n;
    k->choice = base_arena_alloc(&s->arena, n * sizeof *k->choice);
    if (!k->choice) return base_err_set(err, ST_ENOMEM, where, "out of memory");
    for (size_t i = 0; i < n; i++) {
        json_t *x = json_array_get(v, i);
        char item[256];
        snprintf(item, sizeof item, "%s[%zu]", where, i);
        if (json_is_array(x) || json_is_object(x))
            return base_err_set(err, ST_EINVAL, item, "must be a string, a number, true, false or null");
        if (!(k->choice[i] = scalar_text(s, x))) return base_err_set(err, ST_ENOMEM, item, "out of memory");
        for (size_t j = 0; j < i; j++)
            if (!strcmp(k->choice[i], k->choice[j])) return base_err_set(err, ST_EINVAL, item, "is listed twice");
    }
    return ST_OK;
}

static st_t read_knob(struct space *s, struct custom_knob *k, json_t *v, struct base_err *err)
{
    static const char *const known[] = {"log", "int", "float", "choice", "repeat"};
    char path[160], where[192];
    size_t n = strlen(k->name);
    snprintf(path, sizeof path, "space.knobs.%.64s", k->name);
    if (n < 1 || n > NAME_MAX_CHARS) return base_err_set(err, ST_EINVAL, path, "a knob's name has 1 to %d bytes", NAME_MAX_CHARS);
    struct base_jr r = base_jr_at(v, path, err);
    if (base_jr_done(&r, known, 5)) return r.st;
    json_t *range = NULL;
    int given = 0;
    for (int i = 0; i < 4; i++) {
        json_t *x = base_jr_get(&r, known[i]);
        if (!x) continue;
        given++;
        range = x;
        k->kind = (enum custom_kind)i;
    }
    if (given != 1) return base_jr_fail(&r, ST_EINVAL, NULL, "must have one of \"log\", \"int\", \"float\" and \"choice\"");
    k->repeat = (int)base_jr_int(&r, "repeat", 0, 1, REPEAT_MAX);
    if (r.st) return r.st;
    snprintf(where, sizeof where, "%s.%s", path, kind_names[k->kind]);
    return k->kind == CUSTOM_CHOICE ? read_choices(s, k, range, where, err) : read_range(k, range, where, err);
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(((const struct custom_knob *)a)->name, ((const struct custom_knob *)b)->name);
}

st_t space_custom_read(struct space *s, json_t *v, struct base_err *err)
{
    static const char *const known[] = {"type", "knobs"};
    struct custom *c = &s->custom;
    struct base_jr r = base_jr_at(v, "space", err);
    if (base_jr_done(&r, known, 2)) return r.st;
    json_t *knobs = base_jr_need(&r, "knobs");
    size_t n = json_object_size(knobs);
    if (!r.st && (!json_is_object(knobs) || n < 1 || n > KNOBS_MAX))
        base_jr_fail(&r, ST_EINVAL, "knobs", "must be an object of 1 to %d knobs", KNOBS_MAX);
    if (r.st) return r.st;
    c->knobs = json_deep_copy(knobs);
    c->knob = base_arena_alloc(&s->arena, n * sizeof *c->knob);
    if (!c->knobs || !c->knob) return base_err_set(err, ST_ENOMEM, "space", "out of memory");
    const char *name;
    json_t *item;
    json_object_foreach(c->knobs, name, item) {
        struct custom_knob *k = &c->knob[c->nknobs++];
        k->name = name;
        st_t st = read_knob(s, k, item, err);
        if (st) return st;
    }
    qsort(c->knob, n, sizeof *c->knob, compare_names);
    for (int i = 0; i < c->nknobs; i++) {
        c->knob[i].gene = s->genes;
        s->genes += c->knob[i].repeat ? c->knob[i].repeat : 1;
    }
    if (s->genes > GENES_MAX) return base_jr_fail(&r, ST_EINVAL, "knobs", "make %d genes; at most %d", s->genes, GENES_MAX);
    c->of = base_arena_alloc(&s->arena, (size_t)s->genes * sizeof *c->of);
    if (!c->of) return base_err_set(err, ST_ENOMEM, "space", "out of memory");
    for (int i = 0, gene = 0; i < c->nknobs; i++)
        do c->of[gene++] = &c->knob[i];
        while (gene < c->knob[i].gene + c->knob[i].repeat);
    return ST_OK;
}

/* ---- candidates ---- */

static void write_value(struct base_jw *w, const struct custom_knob *k, double v)
{
    if (k->kind == CUSTOM_CHOICE) base_jw_raw(w, k->choice[(int)v]);
    else base_jw_num(w, v);
}

static st_t candidate(const struct space *s, const struct genome *g, struct candidate *out, struct base_err *err)
{
    struct base_buf b = BASE_BUF_INIT;
    struct base_jw w;
    base_jw_init(&w, &b);
    base_jw_obj(&w);
    for (int i = 0; i < s->custom.nknobs; i++) {
        const struct custom_knob *k = &s->custom.knob[i];
        base_jw_key(&w, k->name);
        if (k->repeat) base_jw_arr(&w);
        for (int j = 0; j < (k->repeat ? k->repeat : 1); j++) write_value(&w, k, g->g[k->gene + j]);
        if (k->repeat) base_jw_end(&w);
    }
    base_jw_end(&w);
    if (b.st) {
        base_buf_fini(&b);
        return base_err_set(err, ST_ENOMEM, "", "out of memory");
    }
    memset(out, 0, sizeof *out);
    out->type = SPACE_CUSTOM;
    base_id_hex(b.p, b.len, out->id);
    out->canonical = base_buf_take(&b);
    return ST_OK;
}

static bool gene_fits(const struct space *s, int gene, double v)
{
    const struct custom_knob *k = s->custom.of[gene];
    switch (k->kind) {
    case CUSTOM_CHOICE: return v >= 0 && v < k->nchoices && v == floor(v);
    case CUSTOM_INT: return v >= k->low && v <= k->high && v == floor(v);
    case CUSTOM_LOG: case CUSTOM_FLOAT: break;
    }
    return v >= k->low && v <= k->high;
}

static double values(const struct custom_knob *k)
{
    if (k->kind == CUSTOM_CHOICE) return k->nchoices;
    return k->kind == CUSTOM_INT ? k->high - k->low + 1 : INFINITY;
}

/* The product of the knobs' values: exact, since equal values are refused and there are no holes; infinite with real knobs. */
static double size(const struct space *s, bool *exact)
{
    double product = 1;
    for (int i = 0; i < s->genes; i++) product *= values(s->custom.of[i]);
    *exact = product <= 0x1p53;
    return product;
}

static st_t nth(const struct space *s, uint64_t n, struct genome *out)
{
    bool exact;
    double total = size(s, &exact);
    if (total > SPACE_NTH_MAX) return ST_ETOOBIG;
    if ((double)n >= total) return ST_ENOTFOUND;
    for (int i = s->genes - 1; i >= 0; i--) {
        const struct custom_knob *k = s->custom.of[i];
        uint64_t base = (uint64_t)values(k);
        out->g[i] = (double)(n % base) + (k->kind == CUSTOM_INT ? k->low : 0);
        n /= base;
    }
    return ST_OK;
}

/* ---- for reports ---- */

static json_t *describe(const struct space *s)
{
    static const char *const scale[] = {[CUSTOM_LOG] = "log", [CUSTOM_INT] = "int", [CUSTOM_FLOAT] = "float"};
    json_t *out = json_array();
    for (int i = 0; i < s->custom.nknobs; i++) {
        const struct custom_knob *k = &s->custom.knob[i];
        json_t *knob = json_pack("{s:s}", "name", k->name);
        int bad = json_array_append(out, knob);
        if (k->kind == CUSTOM_CHOICE) {
            bad |= json_object_set(knob, "choices", k->choices);
        } else {
            bool whole = k->kind == CUSTOM_INT;
            bad |= json_object_set_new(knob, "low", whole ? json_integer((json_int_t)k->low) : json_real(k->low));
            bad |= json_object_set_new(knob, "high", whole ? json_integer((json_int_t)k->high) : json_real(k->high));
            bad |= json_object_set_new(knob, "scale", json_string(scale[k->kind]));
        }
        if (k->repeat) bad |= json_object_set_new(knob, "repeat", json_integer(k->repeat));
        json_decref(knob);
        if (bad) {
            json_decref(out);
            return NULL;
        }
    }
    return out;
}

/* The canonical form with arrays spread out: {"block": [1, 2]} becomes "block[0]" and "block[1]". */
static json_t *features(const struct space *s, const struct candidate *c)
{
    (void)s;
    json_t *flat = json_loads(c->canonical, 0, NULL), *out = json_object(), *v, *item;
    const char *name;
    size_t i;
    int bad = !flat;
    json_object_foreach(flat, name, v) {
        if (!json_is_array(v)) bad |= json_object_set(out, name, v);
        json_array_foreach(v, i, item) {
            char one[NAME_MAX_CHARS + 16];
            snprintf(one, sizeof one, "%s[%zu]", name, i);
            bad |= json_object_set(out, one, item);
        }
    }
    json_decref(flat);
    if (!bad) return out;
    json_decref(out);
    return NULL;
}

const struct space_ops space_custom_ops = {
    .sample = space_custom_sample,
    .mutate = space_custom_mutate,
    .crossover = space_custom_crossover,
    .candidate = candidate,
    .gene_fits = gene_fits,
    .size = size,
    .nth = nth,
    .encode = space_custom_encode,
    .describe = describe,
    .features = features,
};
