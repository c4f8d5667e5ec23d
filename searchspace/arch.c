#include "searchspace/arch.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "searchspace/layer.h"

const char *const space_norm_words[] = {[ARCH_NORM_RMS] = "rms", [ARCH_NORM_LAYER] = "layer", NULL};

static st_t check_int(int v, int min, int max, const char *where, struct base_err *err)
{
    if (v >= min && v <= max) return ST_OK;
    return base_err_set(err, ST_EINVAL, where, "must be an integer from %d to %d, not %d", min, max, v);
}

static st_t check_part(const struct arch *a, int layer, const struct arch_part *p, unsigned role, struct base_err *err)
{
    if (p->type < 0 || p->type >= space_layer_count() || !(space_layer(p->type)->roles & role))
        return base_err_set(err, ST_EINVAL, "type", "no layer type of that role");
    const struct layer_spec *s = space_layer(p->type);
    for (int i = 0; i < s->nparams; i++) {
        const struct layer_param *q = &s->params[i];
        st_t st = check_int(p->v[i], q->min, q->max, q->name, err);
        if (st) return st;
        if (q->only_dflt && p->v[i] != q->dflt) return base_err_set(err, ST_ENOTSUP, q->name, "%s is not built yet", q->name);
    }
    return s->check(a, layer, p, err);
}

st_t space_arch_check(const struct arch *a, struct base_err *err)
{
    st_t st;
    if ((st = check_int(a->vocab, 1, ARCH_VOCAB_MAX, "vocab", err))) return st;
    if ((st = check_int(a->context, 1, ARCH_CONTEXT_MAX, "context", err))) return st;
    if ((st = check_int(a->width, 1, ARCH_WIDTH_MAX, "width", err))) return st;
    if (a->norm != ARCH_NORM_RMS && a->norm != ARCH_NORM_LAYER) return base_err_set(err, ST_EINVAL, "norm", "must be 'rms' or 'layer'");
    if (!(a->rope_theta >= 1 && a->rope_theta <= 1e12))
        return base_err_set(err, ST_EINVAL, "rope_theta", "must be a number from 1 to 1e12, not %g", a->rope_theta);
    if (a->depth < 1 || a->depth > ARCH_LAYERS_MAX)
        return base_err_set(err, ST_EINVAL, "layers", "must be from 1 to %d layers, not %d", ARCH_LAYERS_MAX, a->depth);
    for (int i = 0; i < a->depth; i++) {
        const struct arch_layer *l = &a->layer[i];
        const char *part = "mixer";
        st = check_part(a, i, &l->mixer, LAYER_MIXER, err);
        if (!st) {
            part = "ffn";
            st = check_part(a, i, &l->ffn, LAYER_FFN, err);
        }
        if (st) {
            char prefix[32];
            snprintf(prefix, sizeof prefix, "layers[%d].%s", i, part);
            base_err_prefix(err, prefix);
            return st;
        }
    }
    return ST_OK;
}

bool space_part_has_bias(const struct arch *a, int layer, const struct arch_part *p)
{
    struct arch b = {.vocab = a->vocab, .context = a->context, .width = a->width, .depth = a->depth};
    struct layer_tensor t[LAYER_TENSORS_MAX];
    memcpy(b.layer, a->layer, (size_t)a->depth * sizeof a->layer[0]);
    int without = space_layer(p->type)->tensors(&b, layer, p, t);
    b.bias = true;
    return space_layer(p->type)->tensors(&b, layer, p, t) != without;
}

static void clear_rest(struct arch_part *p)
{
    int n = space_layer(p->type)->nparams;
    memset(p->v + n, 0, sizeof p->v - (size_t)n * sizeof p->v[0]);
}

static void tidy(struct arch_part *p)
{
    clear_rest(p);
    if (space_layer(p->type)->tidy) space_layer(p->type)->tidy(p);
}

st_t space_arch_canonicalise(struct arch *a, struct base_err *err)
{
    int n = 0;
    bool rope = false;
    for (int i = 0; i < a->depth; i++) {
        struct arch_layer l = a->layer[i];
        if (space_part_is_none(&l.mixer) && space_part_is_none(&l.ffn)) continue;
        tidy(&l.mixer);
        tidy(&l.ffn);
        rope = rope || space_layer(l.mixer.type)->reads_rope(&l.mixer) || space_layer(l.ffn.type)->reads_rope(&l.ffn);
        a->layer[n++] = l;
    }
    if (n == 0) return base_err_set(err, ST_EINVAL, "layers", "every layer is skipped; at least one must be left");
    memset(a->layer + n, 0, (size_t)(a->depth - n) * sizeof a->layer[0]);
    a->depth = n;
    if (!rope) a->rope_theta = ARCH_ROPE_THETA;
    bool bias = false;
    for (int i = 0; i < n && a->bias && !bias; i++)
        bias = space_part_has_bias(a, i, &a->layer[i].mixer) || space_part_has_bias(a, i, &a->layer[i].ffn);
    a->bias = bias;
    return ST_OK;
}

bool space_arch_equal(const struct arch *a, const struct arch *b)
{
    return a->vocab == b->vocab && a->context == b->context && a->width == b->width && a->depth == b->depth && a->tie == b->tie &&
           a->norm == b->norm && a->bias == b->bias && a->rope_theta == b->rope_theta &&
           !memcmp(a->layer, b->layer, (size_t)a->depth * sizeof a->layer[0]);
}

static double part_params(const struct arch *a, int layer, const struct arch_part *p)
{
    struct layer_tensor t[LAYER_TENSORS_MAX];
    int n = space_layer(p->type)->tensors(a, layer, p, t);
    double sum = 0;
    for (int i = 0; i < n; i++) sum += (double)t[i].rows * (double)t[i].cols;
    return sum;
}

static double layers_flops(const struct arch *a, int64_t pos0, int64_t n)
{
    double sum = 0;
    for (int i = 0; i < a->depth; i++) {
        const struct arch_layer *l = &a->layer[i];
        sum += space_layer(l->mixer.type)->flops(a, i, &l->mixer, pos0, n);
        sum += space_layer(l->ffn.type)->flops(a, i, &l->ffn, pos0, n);
    }
    return sum;
}

/* All pieces but the first come after others. */
double space_part_prefill_flops(const struct arch *a, int layer, const struct arch_part *p, int64_t n)
{
    const struct layer_spec *s = space_layer(p->type);
    int64_t first = n < ARCH_PIECE ? n : ARCH_PIECE;
    return s->flops(a, layer, p, 0, first) + (n > first ? s->flops(a, layer, p, first, n - first) : 0);
}

static double head_flops(const struct arch *a)
{
    return 2.0 * a->vocab * a->width;
}

/* Parameters of the stack itself, but for the layers' norms. */
static double stack_params(const struct arch *a)
{
    return layer_norm_params(a) + (a->tie ? 1.0 : 2.0) * a->width * a->vocab;
}

void space_arch_cost(const struct arch *a, struct arch_cost *out)
{
    double norm = layer_norm_params(a), stack = stack_params(a), params = stack, active = stack;
    for (int i = 0; i < a->depth; i++) {
        const struct arch_part *part[2] = {&a->layer[i].mixer, &a->layer[i].ffn};
        for (int k = 0; k < 2; k++) {
            if (space_part_is_none(part[k])) continue;
            double own = part_params(a, i, part[k]);
            params += norm + own;
            active += norm + own * space_layer(part[k]->type)->active_share(a, i, part[k]);
        }
    }
    out->params = params;
    out->active_params = active;
    out->flops_per_token = layers_flops(a, 0, a->context) / a->context + head_flops(a);
    out->weight_bytes = 4 * params;
}

double space_arch_decoder_params(const struct arch *a)
{
    struct arch_cost c;
    space_arch_cost(a, &c);
    return c.params - stack_params(a);
}

st_t space_weights_find(const char *word, enum arch_weights *out)
{
    static const struct {
        const char *word;
        enum arch_weights is;
    } words[] = {{"same", ARCH_WEIGHTS_F32}, {"f32", ARCH_WEIGHTS_F32}, {"bf16", ARCH_WEIGHTS_BF16}, {"int8", ARCH_WEIGHTS_INT8}};
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        if (strcmp(words[i].word, word)) continue;
        *out = words[i].is;
        return ST_OK;
    }
    return ST_EINVAL;
}

static double stored_bytes(double rows, double cols, enum arch_weights w)
{
    return w == ARCH_WEIGHTS_INT8 ? rows * (cols + 4) : rows * cols * (w == ARCH_WEIGHTS_BF16 ? 2 : 4);
}

double space_arch_weight_bytes(const struct arch *a, enum arch_weights w)
{
    struct layer_tensor t[LAYER_TENSORS_MAX];
    struct arch_cost c;
    space_arch_cost(a, &c);
    double tables = a->tie ? 1 : 2, v = a->vocab, d = a->width;
    double saved = tables * (4 * v * d - stored_bytes(v, d, w));
    for (int i = 0; i < a->depth; i++) {
        const struct arch_part *part[2] = {&a->layer[i].mixer, &a->layer[i].ffn};
        for (int k = 0; k < 2; k++) {
            int n = space_layer(part[k]->type)->tensors(a, i, part[k], t);
            for (int j = 0; j < n; j++) {
                double rows = (double)t[j].rows, cols = (double)t[j].cols;
                if (t[j].role == LAYER_T_MATRIX && !t[j].both_ways) saved += 4 * rows * cols - stored_bytes(rows, cols, w);
            }
        }
    }
    return c.weight_bytes - saved;
}

double space_arch_state_bytes(const struct arch *a, int64_t context)
{
    double sum = 0;
    for (int i = 0; i < a->depth; i++) {
        const struct arch_layer *l = &a->layer[i];
        sum += space_layer(l->mixer.type)->state_bytes(a, i, &l->mixer, context, 4);
        sum += space_layer(l->ffn.type)->state_bytes(a, i, &l->ffn, context, 4);
    }
    return sum;
}

double space_arch_decode_flops(const struct arch *a, int64_t context)
{
    return layers_flops(a, context, 1) + head_flops(a);
}

double space_arch_prefill_flops(const struct arch *a, int64_t tokens)
{
    double sum = head_flops(a);
    for (int i = 0; i < a->depth; i++)
        sum += space_part_prefill_flops(a, i, &a->layer[i].mixer, tokens) + space_part_prefill_flops(a, i, &a->layer[i].ffn, tokens);
    return sum;
}
