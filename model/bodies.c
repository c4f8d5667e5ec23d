/* Bodies by layer type. */
#include "model/layer.h"

#define LAYER(name) extern const struct layer_body body_##name;
#include "searchspace/layers.def"
#undef LAYER

static const struct layer_body *const bodies[] = {
#define LAYER(name) &body_##name,
#include "searchspace/layers.def"
#undef LAYER
};

const struct layer_body *model_body(int type)
{
    if (type < 0 || type >= (int)(sizeof bodies / sizeof bodies[0])) return NULL;
    return bodies[type]->forward ? bodies[type] : NULL;
}
