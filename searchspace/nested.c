/* Which architecture is a part of which. */
#include "searchspace/arch.h"
#include "searchspace/layer.h"

static bool part_nested(const struct arch_part *a, const struct arch_part *b)
{
    if (space_part_is_none(a)) return true;
    if (a->type != b->type) return false;
    const struct layer_spec *s = space_layer(a->type);
    for (int i = 0; i < s->nparams; i++) {
        bool size = s->params[i].kind == LAYER_INT && a->v[i] > 0 && a->v[i] <= b->v[i];
        if (!size && a->v[i] != b->v[i]) return false;
    }
    return true;
}

bool space_arch_nested(const struct arch *sub, const struct arch *super)
{
    if (sub->vocab != super->vocab || sub->context != super->context || sub->tie != super->tie || sub->norm != super->norm || sub->bias != super->bias ||
        sub->rope_theta != super->rope_theta || sub->width > super->width || sub->depth > super->depth)
        return false;
    int at = 0;
    for (int i = 0; i < super->depth && at < sub->depth; i++) {
        const struct arch_layer *a = &sub->layer[at], *b = &super->layer[i];
        at += part_nested(&a->mixer, &b->mixer) && part_nested(&a->ffn, &b->ffn);
    }
    return at == sub->depth && !space_arch_equal(sub, super);
}
