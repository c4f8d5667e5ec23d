#include "searchspace/words.h"

#include <string.h>

#include "base/json.h"
#include "searchspace/layer.h"

static const struct {
    enum words_kind kind;
    const char *word;
} promised[] = {
#define PROMISED(kind, word) {WORDS_##kind, word},
#include "searchspace/promised.def"
#undef PROMISED
    {WORDS_OTHER, NULL}
};

int words_find(const char *word, const char *const *list, enum words_kind kind, const char *what, const char *where,
               struct base_err *err)
{
    int n = 0;
    for (; list[n]; n++)
        if (!strcmp(list[n], word)) return n;
    for (size_t i = 0; promised[i].word; i++)
        if (promised[i].kind == kind && !strcmp(promised[i].word, word))
            return base_err_set(err, ST_ENOTSUP, where, "%s '%s' is not built yet", what, word);
    const char *near = base_nearest(word, list, n);
    if (near) return base_err_set(err, ST_EINVAL, where, "unknown %s '%.64s'; did you mean '%s'?", what, word, near);
    char known[256] = "";
    for (int i = 0; i < n && strlen(known) + strlen(list[i]) + 3 < sizeof known; i++) {
        if (i) strcat(known, ", ");
        strcat(known, list[i]);
    }
    return base_err_set(err, ST_EINVAL, where, "unknown %s '%.64s'; known: %s", what, word, known);
}

int words_find_layer(const char *word, unsigned role, const char *what, const char *where, struct base_err *err)
{
    const char *list[space_layer_count() + 1];
    int n = 0;
    for (int i = 0; i < space_layer_count(); i++)
        if (space_layer(i)->roles & role) list[n++] = space_layer(i)->name;
    list[n] = NULL;
    int i = words_find(word, list, role == LAYER_MIXER ? WORDS_MIXER : WORDS_FFN, what, where, err);
    return i < 0 ? i : space_layer_find(word, role);
}
