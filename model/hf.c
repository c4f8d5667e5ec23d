#include "model/hf.h"

#include <stdio.h>
#include <string.h>

#include "model/model.h"
#include "searchspace/layer.h"

const struct hf_class *hf_class_find(const char *family)
{
    for (int i = 0; i < hf_nclasses; i++)
        if (!strcmp(hf_classes[i].family, family)) return &hf_classes[i];
    return NULL;
}

/* ---- tensors ---- */

/* What is looked at at a time: the network's own tensors, or a part with its norm. */
struct scope {
    const struct hf_class *class;
    const struct arch_part *part; /* NULL: the network's own */
    char ours[32], theirs[32];    /* "model.layers.3." */
    struct layer_tensor t[LAYER_TENSORS_MAX + 2];
    int n;
};

static const struct layer_tensor *find(const struct scope *s, const char *name)
{
    for (int i = 0; i < s->n; i++)
        if (!strcmp(s->t[i].name, name)) return &s->t[i];
    return NULL;
}

static int shape_of(const struct layer_tensor *t, int64_t shape[4])
{
    memset(shape, 0, 4 * sizeof *shape);
    shape[0] = t->mid ? t->rows / t->mid : t->rows;
    if (t->mid) shape[1] = t->mid, shape[2] = t->cols;
    else if (t->role == LAYER_T_MATRIX || t->cols > 1) shape[1] = t->cols;
    return t->mid ? 3 : shape[1] ? 2 : 1;
}

/* The class's tensor that our `name` begins; *later: it is a further piece of one. */
static const struct hf_tensor *made_of(const struct scope *s, const char *name, bool *later)
{
    *later = false;
    for (int i = 0; i < s->class->ntensors; i++)
        for (int k = 0; k < 4 && s->class->tensor[i].from[k]; k++) {
            if (strcmp(s->class->tensor[i].from[k], name)) continue;
            *later = k > 0;
            return &s->class->tensor[i];
        }
    return NULL;
}

static void full_name(char out[128], const char *prefix, const char *name)
{
    bool whole = !strncmp(name, "model.", 6) || !strncmp(name, "lm_head", 7);
    snprintf(out, 128, "%s%s", whole ? "" : prefix, name);
}

static void join(const struct scope *s, const struct hf_tensor *h, struct export_plan *p)
{
    char name[128];
    int64_t shape[4] = {0}, one[4], blocks = h->groups ? space_part_get(s->part, h->groups) : 1;
    int n = 0, along = 0;
    for (; n < 4 && h->from[n]; n++) {
        const struct layer_tensor *t = find(s, h->from[n]);
        bool experts = shape_of(t, one) == 3 && t->role == LAYER_T_MATRIX; /* taps have three dimensions as well */
        along = experts;
        if (n == 0) memcpy(shape, one, sizeof shape);
        else shape[along] += one[along];
        if (experts) blocks = one[0];
    }
    full_name(name, s->theirs, h->to);
    export_plan_tensor(p, name, shape, h->add);
    for (int64_t b = 0; b < blocks; b++)
        for (int i = 0; i < n; i++) {
            int64_t rows = find(s, h->from[i])->rows / blocks;
            full_name(name, s->ours, h->from[i]);
            export_plan_rows(p, name, b * rows, rows);
        }
}

/* Under its own name, or with another beginning. */
static void renamed(const struct scope *s, const char *name, char out[128])
{
    for (int i = 0; i < s->class->ntensors; i++) {
        const struct hf_tensor *h = &s->class->tensor[i];
        size_t n = strlen(h->from[0]);
        if (h->from[0][n - 1] != '.' || strncmp(name, h->from[0], n)) continue;
        snprintf(out, 128, "%s%s%s", s->theirs, h->to, name + n);
        return;
    }
    full_name(out, s->theirs, name);
}

static void scope_plan(const struct scope *s, struct export_plan *p)
{
    for (int i = 0; i < s->n; i++) {
        bool later;
        char name[128];
        int64_t shape[4];
        const struct hf_tensor *h = made_of(s, s->t[i].name, &later);
        if (h && !later) join(s, h, p);
        if (h) continue;
        shape_of(&s->t[i], shape);
        renamed(s, s->t[i].name, name);
        export_plan_tensor(p, name, shape, 0);
        full_name(name, s->ours, s->t[i].name);
        export_plan_rows(p, name, 0, -1);
    }
}

void hf_plan(const struct hf_class *c, const struct arch *a, struct export_plan *p)
{
    int block = 0;
    struct scope s = {.class = c};
    s.t[s.n++] = layer_matrix("model.embed_tokens.weight", a->vocab, a->width, 0);
    s.t[s.n++] = layer_vector("model.norm.weight", a->width, LAYER_INIT_ONES);
    if (!a->tie) s.t[s.n++] = layer_matrix("lm_head.weight", a->vocab, a->width, 0);
    scope_plan(&s, p);
    for (int i = 0; i < a->depth; i++)
        for (int k = 0; k < 2; k++) {
            s.part = k ? &a->layer[i].ffn : &a->layer[i].mixer;
            if (space_part_is_none(s.part)) continue;
            s.t[0] = layer_vector(k ? "post_attention_layernorm.weight" : "input_layernorm.weight", a->width, LAYER_INIT_ONES);
            s.n = 1 + space_layer(s.part->type)->tensors(a, i, s.part, s.t + 1);
            snprintf(s.ours, sizeof s.ours, "model.layers.%d.", i);
            snprintf(s.theirs, sizeof s.theirs, "model.layers.%d.", c->blocks ? block++ : i);
            scope_plan(&s, p);
            if (c->extra) c->extra(a, s.part, s.theirs, p);
        }
}

/* ---- config.json ---- */

static void no_tokens(struct base_jw *w)
{
    static const char *const token[] = {"bos_token_id", "eos_token_id", "pad_token_id"};
    for (int i = 0; i < 3; i++) base_jw_key(w, token[i]), base_jw_null(w);
}

static void own_config(const struct arch *a, struct base_jw *w)
{
    struct base_buf arch = BASE_BUF_INIT;
    base_jw_key(w, "auto_map");
    base_jw_obj(w);
    base_jw_kstr(w, "AutoConfig", "configuration_taut.TautConfig");
    base_jw_kstr(w, "AutoModelForCausalLM", "modeling_taut.TautForCausalLM");
    base_jw_end(w);
    base_jw_knum(w, "norm_eps", MODEL_NORM_EPS);
    space_arch_canonical(a, &arch);
    base_jw_kraw(w, "arch", arch.st ? "null" : arch.p);
    if (arch.st) w->b->st = arch.st;
    base_buf_fini(&arch);
}

bool hf_caches(const struct hf_class *c, const struct arch *a)
{
    for (int i = 0; c && i < a->depth; i++)
        if (space_layer(a->layer[i].mixer.type) == &layer_attention) return true;
    return false;
}

void hf_config(const struct hf_class *c, const struct arch *a, struct base_buf *b)
{
    struct base_jw w;
    base_jw_init(&w, b);
    base_jw_obj(&w);
    base_jw_key(&w, "architectures");
    base_jw_arr(&w);
    base_jw_str(&w, c ? c->name : "TautForCausalLM");
    base_jw_end(&w);
    base_jw_kstr(&w, "model_type", c ? c->model_type : "taut");
    base_jw_kstr(&w, "dtype", "float32");
    base_jw_kint(&w, "vocab_size", a->vocab);
    base_jw_kint(&w, "hidden_size", a->width);
    base_jw_kint(&w, "max_position_embeddings", a->context);
    base_jw_kbool(&w, "tie_word_embeddings", a->tie);
    base_jw_kbool(&w, "use_cache", hf_caches(c, a));
    no_tokens(&w);
    if (c) c->config(a, &w);
    else own_config(a, &w);
    base_jw_end(&w);
    base_buf_str(b, "\n");
}
