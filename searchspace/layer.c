/* The list of layer types, and what all of them share. */
#include "searchspace/layer.h"

#include <assert.h>
#include <math.h>
#include <string.h>

static const struct layer_spec *const specs[] = {
#define LAYER(name) &layer_##name,
#include "searchspace/layers.def"
#undef LAYER
};

int space_layer_count(void)
{
    return (int)(sizeof specs / sizeof specs[0]);
}

const struct layer_spec *space_layer(int type)
{
    assert(type >= 0 && type < space_layer_count());
    return specs[type];
}

int space_layer_find(const char *name, unsigned role)
{
    for (int i = 0; i < space_layer_count(); i++)
        if ((specs[i]->roles & role) && !strcmp(specs[i]->name, name)) return i;
    return -1;
}

int space_layer_param(const struct layer_spec *s, const char *name)
{
    for (int i = 0; i < s->nparams; i++)
        if (!strcmp(s->params[i].name, name)) return i;
    return -1;
}

int32_t space_part_get(const struct arch_part *p, const char *name)
{
    int i = space_layer_param(space_layer(p->type), name);
    assert(i >= 0);
    return p->v[i];
}

bool space_part_is_none(const struct arch_part *p)
{
    return space_layer(p->type) == &layer_none;
}

int space_layer_lender(const struct arch *a, int layer)
{
    const struct layer_spec *s = space_layer(a->layer[layer].mixer.type);
    return s->lender ? s->lender(a, layer) : -1;
}

st_t layer_head_dim(double knob, int width, int heads, int max, int *out, struct base_err *err)
{
    if (!isnan(knob)) {
        *out = (int)knob;
        return ST_OK;
    }
    if (width % heads) return base_err_set(err, ST_EINVAL, "heads", "%d does not divide width %d", heads, width);
    if (width / heads > max)
        return base_err_set(err, ST_EINVAL, "heads", "width %d / %d heads is a head_dim over %d", width, heads, max);
    *out = width / heads;
    return ST_OK;
}

double layer_attention_pairs(int64_t pos0, int64_t n, int64_t w)
{
    /* pos + 1 keys while that is below the window, w from then on */
    int64_t grow = w > 0 ? w - 1 - pos0 : n;
    if (grow < 0) grow = 0;
    if (grow > n) grow = n;
    double first = (double)pos0 + 1, last = (double)pos0 + (double)grow;
    return (first + last) * (double)grow / 2 + (double)(n - grow) * (double)w;
}

#define HIDDEN_MULTIPLE 32

st_t layer_hidden(double ratio, int width, int max, int *hidden, struct base_err *err)
{
    /* the small term keeps a product such as 1.1 x 320 = 352.00000000000006 from being rounded up a whole step */
    double h = HIDDEN_MULTIPLE * ceil(ratio * width / HIDDEN_MULTIPLE - 1e-9);
    if (h < 1 || h > max) return base_err_set(err, ST_EINVAL, "ratio", "%g x width %d is not from 1 to %d", ratio, width, max);
    *hidden = (int)h;
    return ST_OK;
}

double layer_norm_params(const struct arch *a)
{
    return (a->norm == ARCH_NORM_LAYER ? 2.0 : 1.0) * a->width;
}

double space_layer_all_active(const struct arch *a, int layer, const struct arch_part *p)
{
    (void)a, (void)layer, (void)p;
    return 1;
}

double space_layer_no_state(const struct arch *a, int layer, const struct arch_part *p, int64_t context, int esize)
{
    (void)a, (void)layer, (void)p, (void)context, (void)esize;
    return 0;
}

bool space_layer_no_rope(const struct arch_part *p)
{
    (void)p;
    return false;
}
