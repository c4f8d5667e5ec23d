#include "searchspace/families/family.h"

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

bool space_family_holds_value(const struct family *f, int type, const char *param, double v, int32_t *only)
{
    for (int i = 0; i < f->nrules; i++) {
        const struct family_rule *r = &f->rules[i];
        if (strcmp(r->layer, space_layer(type)->name) || strcmp(r->param, param)) continue;
        *only = r->only;
        return v == r->only;
    }
    return true;
}

static st_t check_part(const struct family *f, const struct arch_part *p, unsigned role, struct base_err *err)
{
    const struct layer_spec *s = space_layer(p->type);
    if (!space_family_holds_type(f, p->type, role))
        return base_err_set(err, ST_EINVAL, "type", "family '%s' does not hold '%s' here", f->name, s->name);
    for (int i = 0; i < s->nparams; i++) {
        int32_t only;
        if (!space_family_holds_value(f, p->type, s->params[i].name, p->v[i], &only))
            return base_err_set(err, ST_EINVAL, s->params[i].name, "family '%s' holds %d only, not %d", f->name, only, p->v[i]);
    }
    return ST_OK;
}

st_t space_family_check(const struct family *f, const struct arch *a, struct base_err *err)
{
    char prefix[32];
    for (int i = 0; i < a->depth; i++) {
        const struct arch_layer *l = &a->layer[i];
        st_t st = check_part(f, &l->mixer, LAYER_MIXER, err);
        snprintf(prefix, sizeof prefix, "layers[%d].mixer", i);
        if (!st) {
            st = check_part(f, &l->ffn, LAYER_FFN, err);
            snprintf(prefix, sizeof prefix, "layers[%d].ffn", i);
        }
        if (st) {
            base_err_prefix(err, prefix);
            return st;
        }
        if (f->uniform && memcmp(l, &a->layer[0], sizeof *l)) {
            snprintf(prefix, sizeof prefix, "layers[%d]", i);
            return base_err_set(err, ST_EINVAL, prefix, "family '%s' holds equal layers only; this one differs from the first", f->name);
        }
    }
    return ST_OK;
}
