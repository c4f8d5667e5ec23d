/* What an architecture's time is made of, on paper. */
#include "controller/latency.h"

#include <math.h>
#include <string.h>

#include "searchspace/layer.h"

enum { CONSTANT, STATE, STREAM, MATRICES, HEAD, SMALL, POOLED }; /* then for each layer type, and once more for those of it whose matrices are factored (a rank): */
enum { PARTS, WORK, ROWS, OTHER, TYPED };
enum { SHAPES = 5 }; /* of a shape, before the shares of layer types */

bool latency_models(const struct metric *m)
{
    return m->source == METRIC_PROFILE && (!strncmp(m->name, "prefill_ms@", 11) || !strncmp(m->name, "decode_ms@", 10) || !strncmp(m->name, "throughput@", 11));
}

int latency_columns(void)
{
    return POOLED + 2 * TYPED * space_layer_count();
}

/* Bytes of a matrix at rest. */
static double stored(const struct layer_tensor *t, enum arch_weights w)
{
    double numbers = (double)t->rows * (double)t->cols;
    if (w == ARCH_WEIGHTS_F32 || t->both_ways) return 4 * numbers;
    return w == ARCH_WEIGHTS_BF16 ? 2 * numbers : numbers + 4 * (double)t->rows;
}

/* Is it of matrices that are products of two of a small rank? */
static bool factored(const struct layer_spec *s, const struct arch_part *p)
{
    int rank = space_layer_param(s, "rank");
    return rank >= 0 && p->v[rank] > 0;
}

static void add_part(const struct arch *a, int layer, const struct arch_part *p, const struct metric *m, bool prefill, enum arch_weights w, double *x)
{
    const struct layer_spec *s = space_layer(p->type);
    struct layer_tensor t[LAYER_TENSORS_MAX];
    double *own = x + POOLED + TYPED * (2 * p->type + factored(s, p)), share = s->active_share(a, layer, p), batch = m->batch > 1 ? (double)m->batch : 1;
    double tokens = prefill ? (double)m->context : batch, products = 0, bytes = 0;
    if (space_part_is_none(p)) return;
    int n = s->tensors(a, layer, p, t);
    for (int i = 0; i < n; i++) {
        if (t[i].role != LAYER_T_MATRIX) continue;
        x[MATRICES]++;
        own[ROWS] += share * (double)t[i].rows * tokens;
        bytes += share * stored(&t[i], w);
        products += share * (double)t[i].rows * (double)t[i].cols;
    }
    double flops = prefill ? space_part_prefill_flops(a, layer, p, m->context) : batch * s->flops(a, layer, p, m->context, 1);
    x[STATE] += batch * s->state_bytes(a, layer, p, m->context, 4);
    x[STREAM] += a->width * tokens;
    own[PARTS]++;
    own[WORK] += prefill ? products * tokens : bytes;
    own[OTHER] += flops > 2 * products * tokens ? flops - 2 * products * tokens : 0;
}

/* Parts that follow one another and that a device may take in one go: bytes that they read, and how many. */
struct run {
    double bytes;
    int parts;
};

static void end_run(struct run *r, double *x)
{
    if (r->parts && r->bytes < LATENCY_SMALL * r->parts) x[SMALL] += r->bytes;
    *r = (struct run){0};
}

/* Factored matrices and states that every token changes (whose work does not grow with what came before) stand alone. */
static void add_run(const struct arch *a, int layer, const struct arch_part *p, const struct metric *m, enum arch_weights w, struct run *r, double *x)
{
    const struct layer_spec *s = space_layer(p->type);
    struct layer_tensor t[LAYER_TENSORS_MAX];
    if (space_part_is_none(p)) return;
    bool state = s->state_bytes(a, layer, p, m->context, 4) > 0;
    if (factored(s, p) || (state && s->flops(a, layer, p, 0, 1) == s->flops(a, layer, p, m->context, 1))) {
        end_run(r, x);
        return;
    }
    int n = s->tensors(a, layer, p, t);
    for (int i = 0; i < n; i++)
        if (t[i].role == LAYER_T_MATRIX) r->bytes += s->active_share(a, layer, p) * stored(&t[i], w);
    r->bytes += s->state_bytes(a, layer, p, m->context, 4);
    r->parts++;
}

void latency_features(const struct arch *a, const struct metric *m, enum arch_weights w, double *x)
{
    bool prefill = !strncmp(m->name, "prefill", 7);
    memset(x, 0, (size_t)latency_columns() * sizeof *x);
    x[CONSTANT] = 1;
    x[HEAD] = (double)a->vocab * a->width;
    for (int i = 0; i < a->depth; i++) {
        add_part(a, i, &a->layer[i].mixer, m, prefill, w, x);
        add_part(a, i, &a->layer[i].ffn, m, prefill, w, x);
    }
    struct run r = {0};
    if (prefill || m->batch > 1) return;
    for (int i = 0; i < a->depth; i++) {
        add_run(a, i, &a->layer[i].mixer, m, w, &r, x);
        add_run(a, i, &a->layer[i].ffn, m, w, &r, x);
    }
    r.bytes += 4 * x[HEAD];
    r.parts++;
    end_run(&r, x);
}

int latency_shapes(void)
{
    return SHAPES + 2 * space_layer_count();
}

void latency_shape(const double *x, double *z)
{
    double parts = 0, work = 0, other = 0;
    int kinds = 2 * space_layer_count();
    for (int k = 0; k < kinds; k++) {
        const double *own = x + POOLED + TYPED * k;
        parts += own[PARTS];
        work += own[WORK];
        other += own[OTHER];
    }
    z[0] = log(x[HEAD] + 1);
    z[1] = log(parts + 1);
    z[2] = log(work + 1);
    z[3] = log((work + x[STATE]) / fmax(parts, 1) + 1);
    z[4] = log(other / fmax(parts, 1) + 1);
    for (int k = 0; k < kinds; k++) z[SHAPES + k] = x[POOLED + TYPED * k + PARTS] / fmax(parts, 1);
}
