/* A supernet's tensors, and where the slices of an architecture lie in them. */
#ifndef TAUT_MODEL_SUPERNET_LAYOUT_H
#define TAUT_MODEL_SUPERNET_LAYOUT_H

#include "model/internal.h"
#include "searchspace/options.h"

struct extent { /* of a tensor, or of a slice of one */
    struct layer_side rows, cols;
};

/* A tensor that each layer has once. */
struct kind {
    unsigned role;
    int type;
    char name[80];             /* below "model.layers.N." */
    const char *local;         /* in name: the architecture's own, below the type */
    struct extent whole;
    struct layer_tensor init;  /* of the largest option */
};

struct layout {
    int vocab, context, depth, width;
    bool untied, layer_norm, bias;
    int nkinds;
    struct kind *kind; /* [nkinds], a type's one after the other; owned */
};

st_t layout_init(struct layout *l, const struct space_options *o, struct base_err *err);
void layout_fini(struct layout *l);
int layout_tensors(const struct layout *l);
/* Tensor i of the supernet: its full name, whole extent and how it begins. *in_layer: in one of the layers. */
void layout_tensor(const struct layout *l, int i, char *name, size_t size, struct extent *whole, struct layer_tensor *init, bool *in_layer);

/* A tensor of an architecture, in the order of its model's parameters: which of the supernet's it is cut from, and how much of it. */
struct cut {
    int tensor;
    struct extent part;
};
/* out[room]; *n: how many. ST_EINVAL: err names what the supernet has not. */
st_t layout_cuts(const struct layout *l, const struct arch *a, struct cut *out, int room, int *n, struct base_err *err);

int64_t side_count(const struct layer_side *s);
/* Calls fn for pieces that make up the slice `part` of a tensor `whole` [rows,cols], in a fixed order: offsets in elements into the whole and into the slice (a
 * contiguous matrix of its own, or with in_place the whole again), dims, and both strides; rank is 1 .. rank_max (at least 1). */
struct piece {
    int64_t whole_at, part_at;
    int rank;
    int64_t d[2 * LAYER_RUN_DIMS], whole_s[2 * LAYER_RUN_DIMS], part_s[2 * LAYER_RUN_DIMS];
};
st_t extent_pieces(const struct extent *whole, const struct extent *part, bool in_place, int rank_max, st_t (*fn)(void *ctx, const struct piece *p), void *ctx);
/* box: the least that holds both. */
void extent_grow(struct extent *box, const struct extent *part);

#endif
