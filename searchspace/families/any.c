/* No restriction: loads through its own modelling file. */
#include "searchspace/families/family.h"

const struct family family_any = {.name = "any", .public_class = ""};
