/* Families: what one public model class (and its GGUF architecture) holds natively. A family is a restriction of the space, so that
 * every member of the front loads there; and a check on an architecture, for exporters.
 * One file a family, ending in its const descriptor `family_<name>`; families.def names them all. */
#ifndef TAUT_SEARCHSPACE_FAMILIES_FAMILY_H
#define TAUT_SEARCHSPACE_FAMILIES_FAMILY_H

#include "searchspace/layer.h"

/* In this family the parameter (and the knob of the same name) of that layer type has this one value. */
struct family_rule {
    const char *layer, *param;
    int32_t only;
};

struct family {
    const char *name;
    const char *public_class;       /* of Hugging Face transformers; "" where there is none */
    bool uniform;                   /* every layer has the same parts */
    const char *const *mixers;      /* NULL-terminated names of what it holds; NULL: every type */
    const char *const *ffns;
    const struct family_rule *rules;
    int nrules;
};

#define FAMILY(name) extern const struct family family_##name;
#include "searchspace/families/families.def"
#undef FAMILY

const struct family *space_family_find(const char *name); /* NULL: not built */
const char *const *space_family_names(void);              /* NULL-terminated, in the order of families.def */
/* May a layer of this type stand in that role? */
bool space_family_holds_type(const struct family *f, int type, unsigned role);
/* May the parameter (or knob) have this value? *only gets the value it must have when not. */
bool space_family_holds_value(const struct family *f, int type, const char *param, double v, int32_t *only);
/* Does the family hold a canonical arch? ST_EINVAL says where it does not ("layers[1].mixer.window"). */
st_t space_family_check(const struct family *f, const struct arch *a, struct base_err *err);

#endif
