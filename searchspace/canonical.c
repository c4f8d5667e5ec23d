/* The canonical form of an architecture and its id (job.md, "Architectures"). No jansson: model/ names checkpoints by id. */
#include <string.h>

#include "base/json_write.h"
#include "searchspace/layer.h"

static void write_part(struct base_jw *w, const char *key, const struct arch_part *p)
{
    const struct layer_spec *s = space_layer(p->type);
    base_jw_key(w, key);
    base_jw_obj(w);
    base_jw_kstr(w, "type", s->name);
    for (int i = 0; i < s->nparams; i++) {
        const struct layer_param *q = &s->params[i];
        if (!q->always && p->v[i] == q->dflt) continue;
        switch (q->kind) {
        case LAYER_BOOL: base_jw_kbool(w, q->name, p->v[i]); break;
        case LAYER_WORD: base_jw_kstr(w, q->name, q->words[p->v[i]]); break;
        case LAYER_INT: case LAYER_REAL: base_jw_kint(w, q->name, p->v[i]); break;
        }
    }
    base_jw_end(w);
}

void space_arch_canonical(const struct arch *a, struct base_buf *b)
{
    struct base_jw w;
    base_jw_init(&w, b);
    base_jw_obj(&w);
    base_jw_kint(&w, "taut", 1);
    base_jw_kint(&w, "vocab", a->vocab);
    base_jw_kint(&w, "context", a->context);
    base_jw_kint(&w, "width", a->width);
    if (!a->tie) base_jw_kbool(&w, "tie_embeddings", false);
    if (a->norm != ARCH_NORM_RMS) base_jw_kstr(&w, "norm", space_norm_words[a->norm]);
    if (a->bias) base_jw_kbool(&w, "bias", true);
    if (a->rope_theta != ARCH_ROPE_THETA) base_jw_knum(&w, "rope_theta", a->rope_theta);
    base_jw_key(&w, "layers");
    base_jw_arr(&w);
    for (int i = 0; i < a->depth; i++) {
        base_jw_obj(&w);
        write_part(&w, "mixer", &a->layer[i].mixer);
        write_part(&w, "ffn", &a->layer[i].ffn);
        base_jw_end(&w);
    }
    base_jw_end(&w);
    base_jw_end(&w);
}

void space_arch_id(const struct arch *a, char id[BASE_ID_HEX])
{
    struct base_buf b = BASE_BUF_INIT;
    space_arch_canonical(a, &b);
    if (b.st) memset(id, 0, BASE_ID_HEX); /* out of memory: no id, "" */
    else base_id_hex(b.p, b.len, id);
    base_buf_fini(&b);
}
