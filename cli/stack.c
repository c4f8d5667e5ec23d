#include "cli/stack.h"

#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "cli/format.h"
#include "cli/out.h"
#include "cli/table.h"
#include "searchspace/layer.h"

static void add(struct stack *s, const char *part, double params, double flops)
{
    s->row[s->n++] = (struct stack_row){part, -1, NULL, params, params, flops, 4 * params};
}

static void add_part(struct stack *s, int layer, const char *name, const struct arch_part *p)
{
    const struct layer_spec *spec = space_layer(p->type);
    const struct arch *a = &s->arch;
    struct layer_tensor t[LAYER_TENSORS_MAX];
    if (space_part_is_none(p)) return;
    double own = 0, norm = layer_norm_params(a);
    int n = spec->tensors(a, layer, p, t);
    for (int i = 0; i < n; i++) own += (double)t[i].rows * (double)t[i].cols;
    s->row[s->n++] = (struct stack_row){name, layer, p, norm + own, norm + own * spec->active_share(a, layer, p),
                                        spec->flops(a, layer, p, 0, a->context) / a->context, 4 * (norm + own)};
}

void stack_make(struct stack *s, const struct arch *a)
{
    double table = (double)a->vocab * a->width;
    s->arch = *a;
    s->n = 0;
    add(s, "embedding", table, 0);
    for (int i = 0; i < a->depth; i++) {
        add_part(s, i, "mixer", &s->arch.layer[i].mixer);
        add_part(s, i, "ffn", &s->arch.layer[i].ffn);
    }
    add(s, "norm", layer_norm_params(a), 0);
    add(s, "head", a->tie ? 0 : table, 2 * table);
}

double stack_state_bytes(const struct stack *s, int row, int64_t context)
{
    const struct stack_row *r = &s->row[row];
    return r->is ? space_layer(r->is->type)->state_bytes(&s->arch, r->layer, r->is, context, 4) : 0;
}

double stack_decode_flops(const struct stack *s, int row, int64_t context)
{
    const struct stack_row *r = &s->row[row];
    return r->is ? space_layer(r->is->type)->flops(&s->arch, r->layer, r->is, context, 1) : r->flops_per_token;
}

double stack_prefill_flops(const struct stack *s, int row, int64_t context)
{
    const struct stack_row *r = &s->row[row];
    return r->is ? space_part_prefill_flops(&s->arch, r->layer, r->is, context) : r->flops_per_token;
}

/* ---- for people ---- */

static void print_what(const struct stack *s, const struct stack_row *r, struct table *t)
{
    const struct arch *a = &s->arch;
    struct base_buf b = BASE_BUF_INIT;
    if (r->is) out_part(r->is, &b);
    else if (!strcmp(r->part, "norm")) base_buf_str(&b, a->norm == ARCH_NORM_LAYER ? "layer" : "RMS");
    else if (!strcmp(r->part, "head") && a->tie) base_buf_str(&b, "the embedding again");
    else base_buf_printf(&b, "%d tokens by %d", a->vocab, a->width);
    table_cell(t, "%s", b.p ? b.p : "");
    base_buf_fini(&b);
}

void stack_print(const struct stack *s, const int64_t *context, int n, int indent)
{
    struct table t = TABLE_INIT;
    struct arch_cost total;
    char buf[FMT_MAX], title[TABLE_COLUMNS_MAX][40];
    space_arch_cost(&s->arch, &total);
    bool active = total.active_params != total.params;
    if (n > TABLE_COLUMNS_MAX - 7) n = TABLE_COLUMNS_MAX - 7;
    t.indent = indent;
    table_column(&t, "layer", TABLE_RIGHT);
    table_column(&t, "part", TABLE_LEFT);
    table_column(&t, "", TABLE_CUT);
    table_column(&t, "params", TABLE_RIGHT);
    if (active) table_column(&t, "active", TABLE_RIGHT);
    table_column(&t, "FLOP/token", TABLE_RIGHT);
    table_column(&t, "weights", TABLE_RIGHT);
    for (int k = 0; k < n; k++) {
        snprintf(title[k], sizeof title[k], "state@%lld", (long long)context[k]);
        table_column(&t, title[k], TABLE_RIGHT);
    }
    for (int i = 0; i < s->n; i++) {
        const struct stack_row *r = &s->row[i];
        table_row(&t);
        if (r->layer >= 0) table_cell(&t, "%d", r->layer);
        else table_cell(&t, "%s", "");
        table_cell(&t, "%s", r->part);
        print_what(s, r, &t);
        table_cell(&t, "%s", fmt_count(buf, r->params));
        if (active) table_cell(&t, "%s", fmt_count(buf, r->active_params));
        table_cell(&t, "%s", fmt_short(buf, r->flops_per_token));
        table_cell(&t, "%s", fmt_bytes(buf, r->weight_bytes));
        for (int k = 0; k < n; k++) table_cell(&t, "%s", fmt_bytes(buf, stack_state_bytes(s, i, context[k])));
    }
    table_row(&t);
    table_cell(&t, "%s", "");
    table_cell(&t, "total");
    table_cell(&t, "%s", "");
    table_cell(&t, "%s", fmt_count(buf, total.params));
    if (active) table_cell(&t, "%s", fmt_count(buf, total.active_params));
    table_cell(&t, "%s", fmt_short(buf, total.flops_per_token));
    table_cell(&t, "%s", fmt_bytes(buf, total.weight_bytes));
    for (int k = 0; k < n; k++) table_cell(&t, "%s", fmt_bytes(buf, space_arch_state_bytes(&s->arch, context[k])));
    table_print(&t, stdout);
    table_fini(&t);
}

/* ---- for machines ---- */

static json_t *knobs(const struct arch_part *p)
{
    const struct layer_spec *spec = space_layer(p->type);
    json_t *o = json_object();
    for (int i = 0; i < spec->nparams; i++) {
        const struct layer_param *q = &spec->params[i];
        json_object_set_new(o, q->name,
                            q->kind == LAYER_BOOL ? json_boolean(p->v[i]) : q->kind == LAYER_WORD ? json_string(q->words[p->v[i]]) : json_integer(p->v[i]));
    }
    return o;
}

static json_t *by_context(const struct stack *s, int row, double (*f)(const struct stack *, int, int64_t), const int64_t *context, int n)
{
    json_t *o = json_object();
    char key[24];
    for (int k = 0; k < n; k++) {
        snprintf(key, sizeof key, "%lld", (long long)context[k]);
        json_object_set_new(o, key, json_real(f(s, row, context[k])));
    }
    return o;
}

json_t *stack_json(const struct stack *s, const int64_t *context, int n)
{
    json_t *rows = json_array();
    for (int i = 0; i < s->n; i++) {
        const struct stack_row *r = &s->row[i];
        json_t *o = json_object();
        if (r->layer >= 0) json_object_set_new(o, "layer", json_integer(r->layer));
        json_object_set_new(o, "part", json_string(r->part));
        if (r->is) {
            json_object_set_new(o, "type", json_string(space_layer(r->is->type)->name));
            json_object_set_new(o, "knobs", knobs(r->is));
        }
        json_object_set_new(o, "params", json_real(r->params));
        json_object_set_new(o, "active_params", json_real(r->active_params));
        json_object_set_new(o, "flops_per_token", json_real(r->flops_per_token));
        json_object_set_new(o, "weight_bytes", json_real(r->weight_bytes));
        json_object_set_new(o, "state_bytes", by_context(s, i, stack_state_bytes, context, n));
        json_object_set_new(o, "decode_flops", by_context(s, i, stack_decode_flops, context, n));
        json_object_set_new(o, "prefill_flops", by_context(s, i, stack_prefill_flops, context, n));
        if (json_array_append_new(rows, o)) {
            json_decref(rows);
            return NULL;
        }
    }
    return rows;
}
