#include "cli/out.h"

#include <ctype.h>
#include <math.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/json_write.h"
#include "cli/cli.h"
#include "cli/format.h"
#include "cli/term.h"
#include "searchspace/arch_json.h"
#include "searchspace/layer.h"

#define ARRAY_SHOWN 8 /* values of a longer one */

/* ---- JSON ---- */

static void write_value(struct base_jw *w, json_t *v)
{
    const char *key;
    json_t *item;
    size_t i;
    switch (json_typeof(v)) {
    case JSON_OBJECT:
        base_jw_obj(w);
        json_object_foreach(v, key, item)
        {
            base_jw_key(w, key);
            write_value(w, item);
        }
        base_jw_end(w);
        break;
    case JSON_ARRAY:
        base_jw_arr(w);
        json_array_foreach(v, i, item) write_value(w, item);
        base_jw_end(w);
        break;
    case JSON_STRING: base_jw_strn(w, json_string_value(v), json_string_length(v)); break;
    case JSON_INTEGER: base_jw_int(w, json_integer_value(v)); break;
    case JSON_REAL: base_jw_num(w, json_real_value(v)); break;
    case JSON_TRUE:
    case JSON_FALSE: base_jw_bool(w, json_is_true(v)); break;
    case JSON_NULL: base_jw_null(w); break;
    }
}

void out_json_text(json_t *v, struct base_buf *b)
{
    struct base_jw w;
    base_jw_init(&w, b);
    if (v) write_value(&w, v);
    else b->st = ST_ENOMEM;
}

int out_json(json_t *v)
{
    struct base_buf b = BASE_BUF_INIT;
    out_json_text(v, &b);
    st_t st = b.st;
    if (!st) {
        fwrite(b.p, 1, b.len, stdout);
        putchar('\n');
    }
    base_buf_fini(&b);
    return st ? cli_fail(CLI_FAILED, NULL, NULL, "out of memory") : CLI_OK;
}

bool out_gone(void)
{
    struct pollfd p = {.fd = STDOUT_FILENO};
    return ferror(stdout) || (poll(&p, 1, 0) > 0 && (p.revents & (POLLERR | POLLHUP | POLLNVAL)));
}

uint64_t out_process_bytes(void)
{
    char line[256];
    unsigned long long kib = 0;
    FILE *f = fopen("/proc/self/status", "re");
    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "VmHWM: %llu kB", &kib) == 1) break;
    if (f) fclose(f);
    return (uint64_t)kib << 10;
}

double out_num(json_t *o, const char *key)
{
    json_t *v = json_object_get(o, key);
    return json_is_number(v) ? json_number_value(v) : NAN;
}

int64_t out_int(json_t *o, const char *key)
{
    return json_integer_value(json_object_get(o, key));
}

const char *out_str(json_t *o, const char *key)
{
    const char *s = json_string_value(json_object_get(o, key));
    return s ? s : "";
}

double out_metric(json_t *metrics, const char *name)
{
    json_t *v = json_object_get(metrics, name);
    if (json_is_object(v)) v = json_object_get(v, "median");
    return json_is_number(v) ? json_number_value(v) : NAN;
}

/* ---- architectures in one line ---- */

/* The type's first letters, as many as tell it from the others that may stand in its place. */
static void type_code(const struct layer_spec *s, struct base_buf *b)
{
    size_t n = 1;
    for (int i = 0; i < space_layer_count(); i++) {
        const struct layer_spec *other = space_layer(i);
        while (other != s && (other->roles & s->roles) && s->name[n] && !strncmp(s->name, other->name, n)) n++;
    }
    base_buf_printf(b, "%c%.*s", toupper((unsigned char)s->name[0]), (int)n - 1, s->name + 1);
}

static void part_code(const struct arch_part *p, struct base_buf *b)
{
    const struct layer_spec *s = space_layer(p->type);
    const char *sep = "";
    if (space_part_is_none(p)) {
        base_buf_str(b, term_signs()->dash);
        return;
    }
    type_code(s, b);
    for (int i = 0; i < s->nparams; i++) {
        if (!s->params[i].always) continue;
        base_buf_printf(b, "%s%d", sep, p->v[i]);
        sep = "/";
    }
    /* numbers first: a word ends where the next sign stands, not where a letter does */
    for (int words = 0; words < 2; words++)
        for (int i = 0; i < s->nparams; i++) {
            const struct layer_param *q = &s->params[i];
            if (q->always || p->v[i] == q->dflt || words != (q->kind != LAYER_INT)) continue;
            if (q->kind == LAYER_WORD) base_buf_printf(b, "+%s", q->words[p->v[i]]);
            else if (q->kind == LAYER_BOOL) base_buf_printf(b, "%s%s", p->v[i] ? "+" : "-", q->name);
            else base_buf_printf(b, "%c%d", q->name[0], p->v[i]);
        }
}

void out_part(const struct arch_part *p, struct base_buf *b)
{
    const struct layer_spec *s = space_layer(p->type);
    base_buf_str(b, space_part_is_none(p) ? term_signs()->dash : s->name);
    for (int i = 0; i < s->nparams; i++) {
        const struct layer_param *q = &s->params[i];
        if (!q->always && p->v[i] == q->dflt) continue;
        if (q->kind == LAYER_WORD) base_buf_printf(b, " %s %s", q->name, q->words[p->v[i]]);
        else if (q->kind == LAYER_BOOL) base_buf_printf(b, " %s%s", p->v[i] ? "" : "no ", q->name);
        else base_buf_printf(b, " %s %d", q->name, p->v[i]);
    }
}

static bool same_layer(const struct arch_layer *x, const struct arch_layer *y)
{
    return !memcmp(x, y, sizeof *x);
}

void out_arch(const struct arch *a, struct base_buf *b)
{
    base_buf_printf(b, "%dL%s%d%s%s ", a->depth, term_signs()->dot, a->width, a->norm == ARCH_NORM_LAYER ? "+layernorm" : "", a->bias ? "+bias" : "");
    for (int i = 0, n; i < a->depth; i += n) {
        for (n = 1; i + n < a->depth && same_layer(&a->layer[i], &a->layer[i + n]); n++) continue;
        base_buf_str(b, i ? " | " : " ");
        if (n > 1) base_buf_printf(b, "%d%s ", n, term_signs()->times);
        part_code(&a->layer[i].mixer, b);
        base_buf_str(b, " ");
        part_code(&a->layer[i].ffn, b);
    }
}

static void out_value(json_t *v, struct base_buf *b)
{
    if (json_is_string(v)) base_buf_str(b, json_string_value(v));
    else if (json_is_real(v)) base_buf_printf(b, "%.4g", json_real_value(v));
    else out_json_text(v, b);
}

static void out_values(json_t *list, struct base_buf *b)
{
    size_t i, n = json_array_size(list), some = n > ARRAY_SHOWN + 1 ? ARRAY_SHOWN : n;
    for (i = 0; i < some; i++) {
        base_buf_str(b, i ? "," : "[");
        out_value(json_array_get(list, i), b);
    }
    if (some < n) base_buf_printf(b, ",%s %zu in all", term_signs()->dots, n);
    base_buf_str(b, "]");
}

void out_arch_json(json_t *v, struct base_buf *b)
{
    struct arch a;
    const char *key, *sep = "";
    json_t *item;
    if (json_object_get(v, "taut") && !space_arch_from_json(&a, v, "", NULL)) {
        out_arch(&a, b);
        return;
    }
    json_object_foreach(v, key, item)
    {
        base_buf_printf(b, "%s%s=", sep, key);
        if (json_is_array(item)) out_values(item, b);
        else out_value(item, b);
        sep = " ";
    }
}

static void legend_of(const struct layer_spec *s, struct base_buf *b)
{
    const char *sep = "";
    type_code(s, b);
    base_buf_printf(b, " %s (", s->name);
    for (int k = 0; k < s->nparams; k++) {
        if (!s->params[k].always) continue;
        base_buf_printf(b, "%s%s", sep, s->params[k].name);
        sep = "/";
    }
    sep = *sep ? ", " : "";
    for (int k = 0; k < s->nparams; k++) {
        const struct layer_param *q = &s->params[k];
        if (q->always || q->kind != LAYER_INT || q->only_dflt) continue;
        base_buf_printf(b, "%s%c: %s", sep, q->name[0], q->name);
        sep = ", ";
    }
    base_buf_str(b, ")");
}

void out_legend(struct base_buf *b)
{
    static const struct {
        unsigned role;
        const char *said;
    } roles[] = {{LAYER_MIXER, "mixer"}, {LAYER_FFN, "ffn"}};
    const struct term_signs *g = term_signs();
    base_buf_printf(b, "arch: <layers>L%s<width>, then each layer's mixer and ffn.", g->dot);
    for (size_t r = 0; r < sizeof roles / sizeof roles[0]; r++) {
        const char *sep = "";
        base_buf_printf(b, " %s: ", roles[r].said);
        for (int i = 0; i < space_layer_count(); i++) {
            const struct layer_spec *s = space_layer(i);
            if (!(s->roles & roles[r].role) || !s->nparams) continue;
            base_buf_str(b, sep);
            legend_of(s, b);
            sep = ", ";
        }
        base_buf_str(b, ";");
    }
    base_buf_printf(b, " %s: none", g->dash);
}

static void print_legend(void)
{
    struct base_buf b = BASE_BUF_INIT;
    out_legend(&b);
    if (!b.st) printf("%s%s%s\n", term_style(TERM_DIM), b.p, term_style(TERM_PLAIN));
    base_buf_fini(&b);
}

/* ---- the front ---- */

static const char *objective_name(json_t *o)
{
    return json_is_string(o) ? json_string_value(o) : out_str(o, "metric");
}

bool out_estimated(json_t *row, const char *metric)
{
    json_t *name;
    size_t i;
    json_array_foreach(json_object_get(row, "estimated"), i, name)
        if (json_is_string(name) && !strcmp(json_string_value(name), metric)) return true;
    return false;
}

void out_front(json_t *rows, json_t *objectives, char **text, long limit)
{
    struct table t = TABLE_INIT;
    char buf[FMT_MAX];
    size_t n = json_array_size(rows), shown = limit >= 0 && (size_t)limit < n ? (size_t)limit : n;
    bool params = n > 0 && !isnan(out_metric(json_object_get(json_array_get(rows, 0), "metrics"), "params"));
    table_column(&t, "trial", TABLE_RIGHT);
    for (size_t k = 0; k < json_array_size(objectives) && k < TABLE_COLUMNS_MAX - 5; k++) {
        const char *name = objective_name(json_array_get(objectives, k));
        table_column(&t, name, TABLE_RIGHT);
        params &= strcmp(name, "params") != 0;
    }
    if (params) table_column(&t, "params", TABLE_RIGHT);
    bool uncertain = json_object_get(json_array_get(rows, 0), "probability") != NULL;
    if (uncertain) table_column(&t, "sure", TABLE_RIGHT);
    table_column(&t, "arch", TABLE_LEFT);
    if (text) table_column(&t, "", TABLE_CUT);
    for (size_t i = 0; i < shown; i++) {
        json_t *row = json_array_get(rows, i), *metrics = json_object_get(row, "metrics");
        table_row(&t);
        table_cell(&t, "%lld", (long long)out_int(row, "trial"));
        for (size_t k = 0; k < json_array_size(objectives) && k < TABLE_COLUMNS_MAX - 5; k++) {
            const char *name = objective_name(json_array_get(objectives, k));
            table_cell(&t, "%s%s", fmt_metric(buf, name, out_metric(metrics, name)), out_estimated(row, name) ? " est" : "");
        }
        if (params) table_cell(&t, "%s", fmt_short(buf, out_metric(metrics, "params")));
        if (uncertain) table_cell(&t, "%s%.0f %%", json_is_true(json_object_get(row, "on_front")) ? "" : "~", 100 * out_num(row, "probability"));
        table_cell(&t, "%.8s", out_str(row, "arch_id"));
        if (text) table_cell(&t, "%s", text[i] ? text[i] : "");
    }
    table_print(&t, stdout);
    table_fini(&t);
    if (shown < n) printf("%s and %zu more\n", term_signs()->dots, n - shown);
    if (text && json_object_get(json_object_get(json_array_get(rows, 0), "arch"), "taut")) print_legend();
}
