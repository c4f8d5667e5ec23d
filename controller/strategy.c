#include "controller/strategy.h"

#include <string.h>

static const struct strategy *const all[] = {
#define STRATEGY(name) &strategy_##name,
#include "controller/strategies.def"
#undef STRATEGY
};

const struct strategy *strategy_find(const char *name)
{
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (!strcmp(all[i]->name, name)) return all[i];
    return NULL;
}

const char *const *strategy_names(void)
{
    static const char *const names[] = {
#define STRATEGY(name) #name,
#include "controller/strategies.def"
#undef STRATEGY
        NULL};
    return names;
}
