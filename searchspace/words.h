/* Words of a vocabulary, as the readers of job and architecture files meet them: known, promised, unknown. */
#ifndef TAUT_SEARCHSPACE_WORDS_H
#define TAUT_SEARCHSPACE_WORDS_H

#include "base/err.h"

enum words_kind {
    WORDS_MIXER,
    WORDS_FFN,
    WORDS_FAMILY,
    WORDS_STRATEGY,
    WORDS_WEIGHTS,
    WORDS_PROXY,
    WORDS_OTHER /* a vocabulary of which nothing is promised */
};

/* Index of word in the NULL-terminated list, or a status: ST_ENOTSUP "mixer 'mla' is not built yet" for what promised.def names,
 * else ST_EINVAL "unknown mixer 'atention'; did you mean 'attention'?". `what` names the vocabulary in the message. */
int words_find(const char *word, const char *const *list, enum words_kind kind, const char *what, const char *where,
               struct base_err *err);

/* The same for the layer types of a role: index into layers.def, or a status. */
int words_find_layer(const char *word, unsigned role, const char *what, const char *where, struct base_err *err);

#endif
