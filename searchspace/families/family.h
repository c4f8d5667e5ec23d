/* Families: what one public model class (and its GGUF architecture) holds natively. A family is a restriction of the space, so that
 * every member of the front loads there; and a check on an architecture, for exporters.
 * One file a family, ending in its const descriptor `family_<name>`; families.def names them all. */
#ifndef TAUT_SEARCHSPACE_FAMILIES_FAMILY_H
#define TAUT_SEARCHSPACE_FAMILIES_FAMILY_H

#include "searchspace/layer.h"

/* In this family the parameter (and the knob of the same name) has this one value. layer NULL: a knob of the whole network. */
struct family_rule {
    const char *layer, *param;
    int32_t only;
    const char *word; /* in place of `only` where the parameter is a word */
};

/* How much a role may differ from layer to layer. */
enum family_freedom {
    FAMILY_FREE,  /* in everything */
    FAMILY_TYPES, /* in its type; a type has the same parameters wherever it stands */
    FAMILY_EQUAL, /* in nothing */
};

struct family {
    const char *name;
    const char *public_class;       /* of Hugging Face transformers; "" where there is none */
    enum family_freedom freedom[2]; /* mixer, ffn */
    const char *const *mixers;      /* NULL-terminated names of what it holds; NULL: every type */
    const char *const *ffns;
    const struct family_rule *rules;
    int nrules;
    /* What else its class asks of a part at a width; ST_EINVAL: a hole there. NULL: nothing. */
    st_t (*check)(const struct arch_part *p, int width, struct base_err *err);
};

#define FAMILY(name) extern const struct family family_##name;
#include "searchspace/families/families.def"
#undef FAMILY

const struct family *space_family_find(const char *name); /* NULL: not built */
const char *const *space_family_names(void);              /* NULL-terminated, in the order of families.def */
/* Is every layer the same? */
bool space_family_uniform(const struct family *f);
/* May a layer of this type stand in that role? */
bool space_family_holds_type(const struct family *f, int type, unsigned role);
/* Its rule for a parameter of a layer type (layer NULL: of the network); NULL: none. */
const struct family_rule *space_family_rule(const struct family *f, const char *layer, const char *param);
/* What the rule demands; words: the parameter's, NULL where it is none. */
int32_t space_family_only(const struct family_rule *r, const char *const *words);
/* Does the family hold a canonical arch? ST_EINVAL says where it does not ("layers[1].mixer.window"). */
st_t space_family_check(const struct family *f, const struct arch *a, struct base_err *err);

#endif
