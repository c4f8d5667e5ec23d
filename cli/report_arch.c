#include "cli/report_arch.h"

#include <string.h>

#include "cli/out.h"
#include "cli/stack.h"
#include "searchspace/arch_json.h"
#include "searchspace/layer.h"

#define WORD_MAX 60 /* bytes of a knob's value that is a word */

json_t *report_cut(const char *s, size_t max)
{
    if (strlen(s) <= max) return json_string(s);
    return json_sprintf("%.*s…", (int)base_utf8_cut(s, max - 3), s);
}

json_t *report_text(json_t *arch, size_t max)
{
    struct base_buf b = BASE_BUF_INIT;
    out_arch_json(arch, &b);
    json_t *text = b.st ? NULL : report_cut(b.p ? b.p : "", max);
    base_buf_fini(&b);
    return text;
}

/* ---- the stack ---- */

static json_t *part(const struct stack *s, int i)
{
    const struct stack_row *r = &s->row[i];
    struct base_buf b = BASE_BUF_INIT;
    if (r->is) out_part(r->is, &b);
    json_t *o = json_pack("{s:s,s:i,s:s,s:s,s:f,s:f,s:f}", "kind", r->part, "layer", r->layer, "type", r->is ? space_layer(r->is->type)->name : "", "text",
                          b.p ? b.p : "", "params", r->params, "flops", r->flops_per_token, "state", stack_state_bytes(s, i, s->arch.context));
    base_buf_fini(&b);
    return o;
}

json_t *report_stack(json_t *arch)
{
    struct stack s;
    struct arch a;
    if (!json_object_get(arch, "taut") || space_arch_from_json(&a, arch, "", NULL)) return NULL;
    stack_make(&s, &a);
    json_t *parts = json_array();
    for (int i = 0; i < s.n; i++) json_array_append_new(parts, part(&s, i));
    return json_pack("{s:i,s:i,s:i,s:b,s:o}", "width", a.width, "vocab", a.vocab, "context", a.context, "tied", a.tie, "parts", parts);
}

/* ---- knobs ---- */

json_t *report_features(const struct job *job, json_t *arch, int max)
{
    struct candidate c = {.type = job ? space_type(job->space) : SPACE_CUSTOM};
    struct base_buf b = BASE_BUF_INIT;
    const char *name;
    json_t *v;
    if (!job || (c.type == SPACE_LM && space_arch_from_json(&c.arch, arch, "", NULL))) return NULL;
    out_json_text(arch, &b);
    c.canonical = b.p;
    json_t *all = b.st ? NULL : space_candidate_features(job->space, &c), *out = all ? json_object() : NULL;
    json_object_foreach(all, name, v)
    {
        if ((int)json_object_size(out) == max) break;
        if (json_is_string(v)) json_object_set_new(out, name, report_cut(json_string_value(v), WORD_MAX));
        else json_object_set(out, name, v);
    }
    json_decref(all);
    base_buf_fini(&b);
    return out;
}
