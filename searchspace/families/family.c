#include "searchspace/families/family.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

static const struct family *const families[] = {
#define FAMILY(name) &family_##name,
#include "searchspace/families/families.def"
#undef FAMILY
};

static const char *const names[] = {
#define FAMILY(name) #name,
#include "searchspace/families/families.def"
#undef FAMILY
    NULL};

const struct family *space_family_find(const char *name)
{
    for (size_t i = 0; i < sizeof families / sizeof families[0]; i++)
        if (!strcmp(families[i]->name, name)) return families[i];
    return NULL;
}

const char *const *space_family_names(void)
{
    return names;
}

bool space_family_holds_type(const struct family *f, int type, unsigned role)
{
    const char *const *list = role == LAYER_MIXER ? f->mixers : f->ffns;
    if (!list) return true;
    for (; *list; list++)
        if (!strcmp(*list, space_layer(type)->name)) return true;
    return false;
}

bool space_family_uniform(const struct family *f)
{
    return f->freedom[0] == FAMILY_EQUAL && f->freedom[1] == FAMILY_EQUAL;
}

const struct family_rule *space_family_rule(const struct family *f, const char *layer, const char *param)
{
    for (int i = 0; i < f->nrules; i++) {
        const struct family_rule *r = &f->rules[i];
        if ((r->layer && layer ? !strcmp(r->layer, layer) : r->layer == layer) && !strcmp(r->param, param)) return r;
    }
    return NULL;
}

int32_t space_family_only(const struct family_rule *r, const char *const *words)
{
    if (!r->word) return r->only;
    int i = 0;
    while (words[i] && strcmp(words[i], r->word)) i++;
    assert(words[i]);
    return i;
}

static st_t check_network(const struct family *f, const struct arch *a, struct base_err *err)
{
    const struct {
        const char *name;
        int v;
        const char *const *words;
    } knob[] = {{"tie_embeddings", a->tie, NULL}, {"norm", (int)a->norm, space_norm_words}, {"bias", a->bias, NULL}};
    for (size_t i = 0; i < sizeof knob / sizeof knob[0]; i++) {
        const struct family_rule *r = space_family_rule(f, NULL, knob[i].name);
        if (!r || space_family_only(r, knob[i].words) == knob[i].v) continue;
        return base_err_set(err, ST_EINVAL, knob[i].name, "family '%s' holds %s only", f->name, r->word ? r->word : r->only ? "true" : "false");
    }
    return ST_OK;
}

static st_t check_part(const struct family *f, const struct arch *a, const struct arch_part *p, unsigned role, struct base_err *err)
{
    const struct layer_spec *s = space_layer(p->type);
    if (!space_family_holds_type(f, p->type, role))
        return base_err_set(err, ST_EINVAL, "type", "family '%s' does not hold '%s' here", f->name, s->name);
    for (int i = 0; i < s->nparams; i++) {
        const struct layer_param *q = &s->params[i];
        const struct family_rule *r = space_family_rule(f, s->name, q->name);
        if (!r || space_family_only(r, q->words) == p->v[i]) continue;
        if (q->words)
            return base_err_set(err, ST_EINVAL, q->name, "family '%s' holds '%s' only, not '%s'", f->name, r->word, q->words[p->v[i]]);
        if (q->kind == LAYER_BOOL)
            return base_err_set(err, ST_EINVAL, q->name, "family '%s' holds %s only", f->name, r->only ? "true" : "false");
        return base_err_set(err, ST_EINVAL, q->name, "family '%s' holds %d only, not %d", f->name, r->only, p->v[i]);
    }
    return f->check ? f->check(p, a->width, err) : ST_OK;
}

/* The part of a role that this one must equal: the first one (of its type); itself where nothing is asked. */
static const struct arch_part *model_of(const struct family *f, const struct arch *a, int layer, int role)
{
    const struct arch_part *p = role ? &a->layer[layer].ffn : &a->layer[layer].mixer;
    if (f->freedom[role] == FAMILY_FREE) return p;
    for (int i = 0; i < layer; i++) {
        const struct arch_part *q = role ? &a->layer[i].ffn : &a->layer[i].mixer;
        if (f->freedom[role] == FAMILY_EQUAL || q->type == p->type) return q;
    }
    return p;
}

st_t space_family_check(const struct family *f, const struct arch *a, struct base_err *err)
{
    char prefix[32];
    st_t st = check_network(f, a, err);
    if (st) return st;
    for (int i = 0; i < a->depth; i++) {
        for (int k = 0; k < 2; k++) {
            const struct arch_part *p = k ? &a->layer[i].ffn : &a->layer[i].mixer;
            snprintf(prefix, sizeof prefix, "layers[%d].%s", i, k ? "ffn" : "mixer");
            st = check_part(f, a, p, k ? LAYER_FFN : LAYER_MIXER, err);
            if (st) {
                base_err_prefix(err, prefix);
                return st;
            }
            if (!memcmp(p, model_of(f, a, i, k), sizeof *p)) continue;
            if (f->freedom[k] == FAMILY_EQUAL)
                return base_err_set(err, ST_EINVAL, prefix, "family '%s' holds equal layers only; this one differs from the first", f->name);
            return base_err_set(err, ST_EINVAL, prefix, "family '%s' holds one kind of '%s' only; this one differs from the first", f->name,
                                space_layer(p->type)->name);
        }
    }
    return ST_OK;
}
