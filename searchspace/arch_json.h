/* Reading architectures from JSON, with errors that say where. Writing needs no jansson and is in arch.h (space_arch_canonical). */
#ifndef TAUT_SEARCHSPACE_ARCH_JSON_H
#define TAUT_SEARCHSPACE_ARCH_JSON_H

#include <jansson.h>

#include "searchspace/arch.h"

/* Accepts any key order and written-out defaults; checks, then canonicalises. where paths start with `path` ("" or "arch"). */
st_t space_arch_from_json(struct arch *out, json_t *v, const char *path, struct base_err *err);
/* text must be one JSON object; name is for messages ("arch.json"). */
st_t space_arch_parse(struct arch *out, const char *text, size_t len, const char *name, struct base_err *err);

#endif
