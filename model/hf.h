/* Networks as Hugging Face transformers keeps them: which tensors a public class wants under which names, made of which of ours, and its
 * config.json. A family that has a class has one entry (hf_classes.c); tests/hf compares the logits of both sides. */
#ifndef TAUT_MODEL_HF_H
#define TAUT_MODEL_HF_H

#include "base/json_write.h"
#include "model/export.h"
#include "searchspace/arch.h"

/* A tensor of the class that is not one of ours under the same name. Names stand below "model.layers.N." unless they begin with "model." or
 * "lm_head". */
struct hf_tensor {
    const char *to;
    /* Where it ends in a dot, so does from[0]: all names that begin so begin otherwise, but for those with a line before this one. Else: ours, one below the other, up to the first NULL; experts are joined for each of them. */
    const char *from[4];
    const char *groups; /* a parameter of the part: each of ours is cut into so many blocks of rows, which take turns; NULL: one */
    double add;         /* to every number: -1 where the class adds 1 to its weights */
};

struct hf_class {
    const char *family, *name, *model_type;
    bool blocks;        /* each part is a layer of the class, mixers and ffns numbered in one row */
    const struct hf_tensor *tensor;
    int ntensors;
    /* Tensors that have no number of ours, below prefix ("model.layers.3."); part NULL: none of a layer. NULL: none at all. */
    void (*extra)(const struct arch *a, const struct arch_part *part, const char *prefix, struct export_plan *p);
    void (*config)(const struct arch *a, struct base_jw *w); /* what only this class has */
};

const struct hf_class *hf_class_find(const char *family); /* NULL: the family has no class of its own */

/* Can it decode with a cache there? Our own modelling file has none; transformers 5 counts a cache's tokens by its attention layers. */
bool hf_caches(const struct hf_class *c, const struct arch *a);
/* For an arch that the family holds (space_family_check). */
void hf_plan(const struct hf_class *c, const struct arch *a, struct export_plan *p);
/* config.json. c NULL: our own modelling file, which reads the architecture itself. */
void hf_config(const struct hf_class *c, const struct arch *a, struct base_buf *b);

extern const struct hf_class hf_classes[];
extern const int hf_nclasses;

#endif
