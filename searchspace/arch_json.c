#include "searchspace/arch_json.h"

#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "searchspace/layer.h"
#include "searchspace/words.h"

static int32_t read_param(struct base_jr *r, const struct layer_param *q)
{
    if (q->always && !base_jr_need(r, q->name)) return 0;
    if (q->kind == LAYER_BOOL) return base_jr_bool(r, q->name, q->dflt);
    if (q->kind == LAYER_INT) return (int32_t)base_jr_int(r, q->name, q->dflt, q->min, q->max);
    const char *word = base_jr_str(r, q->name, NULL);
    if (!word) return q->dflt;
    char where[256];
    snprintf(where, sizeof where, "%s.%s", r->path, q->name);
    int i = words_find(word, q->words, WORDS_OTHER, q->name, where, r->err);
    if (i < 0) r->st = (st_t)i;
    return i < 0 ? q->dflt : i;
}

static st_t read_part(struct arch_part *out, struct base_jr *layer, unsigned role, const char *key)
{
    char path[sizeof layer->path], where[sizeof layer->path + 8];
    snprintf(path, sizeof path, "%.180s.%s", layer->path, key);
    json_t *v = base_jr_need(layer, key);
    if (!v) return layer->st;
    struct base_jr r = base_jr_at(v, path, layer->err);
    base_jr_need(&r, "type");
    const char *name = base_jr_str(&r, "type", "");
    if (r.st) return r.st;
    snprintf(where, sizeof where, "%s.type", path);
    int found = words_find_layer(name, role, key, where, layer->err);
    if (found < 0) return (st_t)found;

    out->type = found;
    const struct layer_spec *s = space_layer(out->type);
    const char *known[ARCH_PARAMS_MAX + 1] = {"type"};
    for (int i = 0; i < s->nparams; i++) {
        known[i + 1] = s->params[i].name;
        out->v[i] = read_param(&r, &s->params[i]);
    }
    return base_jr_done(&r, known, s->nparams + 1);
}

static st_t read_layers(struct arch *a, struct base_jr *r)
{
    json_t *layers = base_jr_need(r, "layers");
    if (!layers) return r->st;
    size_t n = json_array_size(layers);
    if (!json_is_array(layers) || n < 1 || n > ARCH_LAYERS_MAX)
        return base_jr_fail(r, ST_EINVAL, "layers", "must be an array of 1 to %d layers", ARCH_LAYERS_MAX);
    a->depth = (int)n;
    for (size_t i = 0; i < n; i++) {
        static const char *const known[] = {"mixer", "ffn"};
        char path[sizeof r->path];
        snprintf(path, sizeof path, "%.160s%slayers[%zu]", r->path, r->path[0] ? "." : "", i);
        struct base_jr l = base_jr_at(json_array_get(layers, i), path, r->err);
        st_t st = base_jr_done(&l, known, 2);
        if (!st) st = read_part(&a->layer[i].mixer, &l, LAYER_MIXER, "mixer");
        if (!st) st = read_part(&a->layer[i].ffn, &l, LAYER_FFN, "ffn");
        if (st) return r->st = st;
    }
    return ST_OK;
}

st_t space_arch_from_json(struct arch *out, json_t *v, const char *path, struct base_err *err)
{
    static const char *const known[] = {"taut", "vocab", "context", "width", "tie_embeddings", "norm", "bias", "rope_theta", "layers"};
    struct arch a = {.vocab = 0};
    struct base_jr r = base_jr_at(v, path, err);
    base_jr_done(&r, known, sizeof known / sizeof known[0]);
    base_jr_need(&r, "taut");
    int64_t version = base_jr_int(&r, "taut", 1, 0, INT32_MAX);
    if (version != 1) {
        base_jr_fail(&r, ST_EVERSION, "taut", "this program reads architectures of version 1, not %lld", (long long)version);
    }
    base_jr_need(&r, "vocab");
    a.vocab = (int)base_jr_int(&r, "vocab", 0, 1, ARCH_VOCAB_MAX);
    base_jr_need(&r, "context");
    a.context = (int)base_jr_int(&r, "context", 0, 1, ARCH_CONTEXT_MAX);
    base_jr_need(&r, "width");
    a.width = (int)base_jr_int(&r, "width", 0, 1, ARCH_WIDTH_MAX);
    a.tie = base_jr_bool(&r, "tie_embeddings", true);
    a.bias = base_jr_bool(&r, "bias", false);
    a.rope_theta = base_jr_num(&r, "rope_theta", ARCH_ROPE_THETA, 1, 1e12);
    const char *norm = base_jr_str(&r, "norm", "rms");
    if (r.st) return r.st;
    char where[256];
    snprintf(where, sizeof where, "%s%snorm", path, path[0] ? "." : "");
    int i = words_find(norm, space_norm_words, WORDS_OTHER, "norm", where, err);
    if (i < 0) return (st_t)i;
    a.norm = (enum arch_norm)i;

    st_t st = read_layers(&a, &r);
    if (st) return st;
    st = space_arch_check(&a, err);
    if (!st) st = space_arch_canonicalise(&a, err);
    if (st) {
        base_err_prefix(err, path);
        return st;
    }
    *out = a;
    return ST_OK;
}

st_t space_arch_parse(struct arch *out, const char *text, size_t len, const char *name, struct base_err *err)
{
    json_t *root;
    st_t st = base_json_parse(&root, text, len, name, err);
    if (st) return st;
    st = space_arch_from_json(out, root, "", err);
    json_decref(root);
    return st;
}
