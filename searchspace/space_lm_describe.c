/* Language-model spaces and their candidates for reports. */
#include <math.h>
#include <stdio.h>

#include "searchspace/space_int.h"

static json_t *number(double v)
{
    return v == floor(v) && fabs(v) < 0x1p53 ? json_integer((json_int_t)v) : json_real(v);
}

static json_t *choice(const struct layer_knob *k, double v)
{
    if (k->kind == LAYER_BOOL) return json_boolean(v != 0);
    if (k->kind == LAYER_WORD) return json_string(k->words[(int)v]);
    return number(v);
}

/* Takes the list; false when memory is out. */
static bool add_choices(json_t *out, const char *name, json_t *list, int n)
{
    if (json_array_size(list) == (size_t)n) return !json_array_append_new(out, json_pack("{s:s, s:o}", "name", name, "choices", list));
    json_decref(list);
    return false;
}

static bool add_knob(json_t *out, const char *name, const struct layer_knob *k, const struct choices *c)
{
    json_t *list = json_array();
    for (int i = 0; i < c->n; i++) json_array_append_new(list, choice(k, c->v[i]));
    return add_choices(out, name, list, c->n);
}

static bool add_role(json_t *out, const struct lm_role *role)
{
    json_t *types = json_array();
    for (int i = 0; i < role->ntypes; i++) json_array_append_new(types, json_string(role->type[i].s->name));
    if (!add_choices(out, role->role == LAYER_MIXER ? "mixer" : "ffn", types, role->ntypes)) return false;
    for (int i = 0; i < role->ntypes; i++) {
        const struct lm_type *t = &role->type[i];
        for (int k = 0; k < t->s->nknobs; k++) {
            char name[96];
            snprintf(name, sizeof name, "%s.%s", t->s->name, t->s->knobs[k].name);
            if (t->knob[k].n && !add_knob(out, name, &t->s->knobs[k], &t->knob[k])) return false;
        }
    }
    return true;
}

/* Is there a choice, or another value than the default? */
static bool says(const struct lm_option *o)
{
    return o->gene || o->choices.v[0] != 0;
}

json_t *space_lm_describe(const struct space *s)
{
    static const struct layer_knob plain = {.kind = LAYER_REAL}, truth = {.kind = LAYER_BOOL}, norm = {.kind = LAYER_WORD, .words = space_norm_words};
    const struct lm *m = &s->lm;
    json_t *out = json_array();
    json_t *depth = json_pack("{s:s, s:i, s:i, s:s}", "name", "depth", "low", m->depth_min, "high", m->depth_max, "scale", "int");
    if (!json_array_append_new(out, depth) && add_knob(out, "width", &plain, &m->width) &&
        add_knob(out, "tie_embeddings", &truth, &m->tie) && add_knob(out, "rope_theta", &plain, &m->theta) &&
        (!says(&m->norm) || add_knob(out, "norm", &norm, &m->norm.choices)) && (!says(&m->bias) || add_knob(out, "bias", &truth, &m->bias.choices)) &&
        add_role(out, &m->role[0]) && add_role(out, &m->role[1]))
        return out;
    json_decref(out);
    return NULL;
}

/* Share of the layers that have this type, and the mean of its parameters over them. */
static bool add_type(json_t *out, const struct lm_role *role, const struct lm_type *t, const struct arch *a)
{
    const char *what = role->role == LAYER_MIXER ? "mixer" : "ffn";
    char name[96];
    double sum[ARCH_PARAMS_MAX] = {0};
    int n = 0;
    for (int i = 0; i < a->depth; i++) {
        const struct arch_part *p = role->role == LAYER_MIXER ? &a->layer[i].mixer : &a->layer[i].ffn;
        if (p->type != t->type) continue;
        n++;
        for (int k = 0; k < t->s->nparams; k++) sum[k] += p->v[k];
    }
    snprintf(name, sizeof name, "%s.%s", what, t->s->name);
    int bad = json_object_set_new(out, name, number((double)n / a->depth));
    for (int k = 0; k < t->s->nparams; k++) {
        const struct layer_param *q = &t->s->params[k];
        if (q->only_dflt || q->kind == LAYER_WORD) continue;
        snprintf(name, sizeof name, "%s.%s", t->s->name, q->name);
        bad |= json_object_set_new(out, name, n ? number(sum[k] / n) : json_null());
    }
    return !bad;
}

json_t *space_lm_features(const struct space *s, const struct candidate *c)
{
    const struct arch *a = &c->arch;
    json_t *out = json_pack("{s:i, s:i, s:b, s:o}", "depth", a->depth, "width", a->width, "tie_embeddings", a->tie, "rope_theta",
                            number(a->rope_theta));
    bool good = out != NULL;
    if (good && says(&s->lm.norm)) good = !json_object_set_new(out, "norm", json_string(space_norm_words[a->norm]));
    if (good && says(&s->lm.bias)) good = !json_object_set_new(out, "bias", json_boolean(a->bias));
    for (int k = 0; k < 2; k++)
        for (int i = 0; good && i < s->lm.role[k].ntypes; i++) good = add_type(out, &s->lm.role[k], &s->lm.role[k].type[i], a);
    if (good) return out;
    json_decref(out);
    return NULL;
}
