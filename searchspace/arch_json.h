/* Architectures as JSON: reading with errors that say where, the canonical form, the id. */
#ifndef TAUT_SEARCHSPACE_ARCH_JSON_H
#define TAUT_SEARCHSPACE_ARCH_JSON_H

#include <jansson.h>

#include "base/buf.h"
#include "searchspace/arch.h"

/* Accepts any key order and written-out defaults; checks, then canonicalises. where paths start with `path` ("" or "arch"). */
st_t space_arch_from_json(struct arch *out, json_t *v, const char *path, struct base_err *err);
/* text must be one JSON object; name is for messages ("arch.json"). */
st_t space_arch_parse(struct arch *out, const char *text, size_t len, const char *name, struct base_err *err);

/* Canonical form (job.md): fixed key order, no spaces, shortest numbers, defaults left out. Appends to b. No jansson inside. */
void space_arch_canonical(const struct arch *a, struct base_buf *b);
/* First 128 bits of the canonical form's SHA-256; "" when memory is out. */
void space_arch_id(const struct arch *a, char id[BASE_ID_HEX]);

#endif
