/* What weight sharing asks of a space: everything that a layer may be, and paths through it. No JSON here: model/ reads this too.
 *
 *   struct space_options o;
 *   st = space_options_of(space, &o, &err);                                     // of an "lm" space
 *   st = space_path(space, SPACE_PATH_RANDOM, seed, n, &arch);                  // the n-th path: pure
 *   space_options_fini(&o); */
#ifndef TAUT_SEARCHSPACE_OPTIONS_H
#define TAUT_SEARCHSPACE_OPTIONS_H

#include "searchspace/arch.h"

struct space_option {
    unsigned role; /* LAYER_MIXER or LAYER_FFN */
    int width;
    struct arch_part part; /* not "none" */
};

struct space_options {
    int vocab, context, depth, width; /* the most of each */
    bool untied, layer_norm, bias;    /* does any architecture have them? */
    int n;
    struct space_option *option; /* [n], owned */
};

struct space;
/* ST_ENOTSUP, with the name: a type with more combinations of knobs than are listed (4096), a space of other knobs ("custom"). ST_ENOMEM. */
st_t space_options_of(const struct space *s, struct space_options *out, struct base_err *err);
void space_options_fini(struct space_options *o);

/* LARGEST: greatest depth and width, of each layer's types one, as large as it gets (parameters); SMALLEST: likewise the least; none is left out where another
 * is on offer. RANDOM: anything. Every choice is dealt from a deck of its own, shuffled anew when it is used up (Philox keyed by seed, choice and deck), so that
 * n paths in a row take each value n / (number of values) times, give or take one; a layer's knobs are dealt as whole combinations, from the deck of its type
 * at the width that was dealt. Holes of the space are dealt again from elsewhere. ST_EEXHAUSTED: nothing but holes was found. */
enum space_path { SPACE_PATH_LARGEST, SPACE_PATH_SMALLEST, SPACE_PATH_RANDOM };
st_t space_path(const struct space *s, enum space_path kind, uint64_t seed, uint64_t n, struct arch *out);

#endif
