/* The table of methods, from methods.def. */
#include <string.h>

#include "wire/wire.h"

static const struct {
    const char *name;
    enum wire_role role;
} METHODS[] = {
#define WIRE_METHOD(name, role) {name, WIRE_ROLE_##role},
#include "wire/methods.def"
#undef WIRE_METHOD
};

int wire_method_count(void)
{
    return (int)(sizeof METHODS / sizeof METHODS[0]);
}

const char *wire_method_name(int i)
{
    return METHODS[i].name;
}

enum wire_role wire_method_role(int i)
{
    return METHODS[i].role;
}

int wire_method_find(const char *name)
{
    for (int i = 0; i < wire_method_count(); i++)
        if (!strcmp(METHODS[i].name, name)) return i;
    return -1;
}
