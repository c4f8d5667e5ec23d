/* What a job says beside its parsing: identity, paths, wanted metrics, violation. */
#include "searchspace/job.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json_write.h"

void job_free(struct job *j)
{
    if (!j) return;
    free(j->data.train);
    free(j->data.valid);
    json_decref(j->data_json);
    json_decref(j->space_json);
    space_free(j->space);
    free(j);
}

/* ---- paths ---- */

static st_t make_absolute(json_t *data, const char *key, const char *dir, struct base_err *err)
{
    const char *path = json_string_value(json_object_get(data, key));
    if (!path || path[0] == '/' || !path[0]) return ST_OK;
    while (!strncmp(path, "./", 2)) path += 2;
    struct base_buf b = BASE_BUF_INIT;
    size_t n = strlen(dir);
    base_buf_printf(&b, "%s%s%s", dir, n && dir[n - 1] == '/' ? "" : "/", path);
    st_t st = b.st;
    if (!st && json_object_set_new(data, key, json_string(b.p))) st = ST_ENOMEM;
    base_buf_fini(&b);
    return st ? base_err_set(err, st, "data", "out of memory") : ST_OK;
}

/* A custom space's data is the user's own: untouched. */
st_t job_paths_absolute(json_t *v, const char *dir, struct base_err *err)
{
    const char *type = json_string_value(json_object_get(json_object_get(v, "space"), "type"));
    if (type && !strcmp(type, "custom")) return ST_OK;
    json_t *data = json_object_get(v, "data");
    st_t st = make_absolute(data, "train", dir, err);
    return st ? st : make_absolute(data, "valid", dir, err);
}

st_t job_paths_check(const struct job *j, struct base_err *err)
{
    if (j->data.train && j->data.train[0] != '/')
        return base_err_set(err, ST_EINVAL, "data.train", "'%s' must be an absolute path here", j->data.train);
    if (j->data.valid && j->data.valid[0] != '/')
        return base_err_set(err, ST_EINVAL, "data.valid", "'%s' must be an absolute path here", j->data.valid);
    return ST_OK;
}

/* ---- identity ---- */

static int compare_keys(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static void write_sorted(struct base_jw *w, json_t *v, const char *skip);

/* Running out of memory latches in the writer's buffer. */
static void write_object(struct base_jw *w, json_t *v, const char *skip)
{
    size_t n = 0;
    const char *key, **keys = malloc((json_object_size(v) + 1) * sizeof *keys);
    json_t *item;
    if (!keys) {
        w->b->st = ST_ENOMEM;
        base_jw_null(w);
        return;
    }
    json_object_foreach(v, key, item)
        if (!skip || strcmp(key, skip)) keys[n++] = key;
    qsort(keys, n, sizeof *keys, compare_keys);
    base_jw_obj(w);
    for (size_t i = 0; i < n; i++) {
        base_jw_key(w, keys[i]);
        write_sorted(w, json_object_get(v, keys[i]), NULL);
    }
    base_jw_end(w);
    free(keys);
}

/* Keys in bytewise order, numbers shortest (2e6 and 2000000 are the same); without the key `skip` at the top. */
static void write_sorted(struct base_jw *w, json_t *v, const char *skip)
{
    size_t i;
    json_t *item;
    switch (json_typeof(v)) {
    case JSON_OBJECT: write_object(w, v, skip); break;
    case JSON_ARRAY:
        base_jw_arr(w);
        json_array_foreach(v, i, item) write_sorted(w, item, NULL);
        base_jw_end(w);
        break;
    case JSON_STRING: base_jw_strn(w, json_string_value(v), json_string_length(v)); break;
    case JSON_INTEGER: base_jw_int(w, json_integer_value(v)); break;
    case JSON_REAL: base_jw_num(w, json_real_value(v)); break;
    case JSON_TRUE: case JSON_FALSE: base_jw_bool(w, json_is_true(v)); break;
    case JSON_NULL: base_jw_null(w); break;
    }
}

st_t job_identity(json_t *v, char id[BASE_ID_HEX], struct base_err *err)
{
    struct base_buf b = BASE_BUF_INIT;
    struct base_jw w;
    base_jw_init(&w, &b);
    write_sorted(&w, v, "budget");
    st_t st = b.st;
    if (!st) base_id_hex(b.p, b.len, id);
    base_buf_fini(&b);
    return st ? base_err_set(err, st, "", "%s", base_status_text(st)) : ST_OK;
}

/* ---- metrics ---- */

static void want(const char **names, int *n, int max, const char *name)
{
    for (int i = 0; i < *n; i++)
        if (!strcmp(names[i], name)) return;
    if (*n < max) names[(*n)++] = name;
}

int job_wanted(const struct job *j, const char **names, int max)
{
    static const char *const always[] = {"train_tokens_per_s", "train_bytes",     "params",
                                         "active_params",      "flops_per_token", "weight_bytes"};
    int n = 0;
    for (int i = 0; i < j->nobjectives; i++) want(names, &n, max, j->objective[i].metric.name);
    for (int i = 0; i < j->nconstraints; i++) want(names, &n, max, j->constraint[i].metric.name);
    for (int i = 0; i < j->nproxies; i++) want(names, &n, max, j->proxy[i].name);
    if (space_type(j->space) == SPACE_CUSTOM) return n;
    want(names, &n, max, j->data.bytes ? "valid_bpb" : "valid_loss");
    for (size_t i = 0; i < sizeof always / sizeof always[0]; i++) want(names, &n, max, always[i]);
    return n;
}

double job_violation(const struct job *j, const double *value)
{
    double sum = 0;
    for (int i = 0; i < j->nconstraints; i++) {
        const struct job_constraint *c = &j->constraint[i];
        if (value[i] > c->max) sum += (value[i] - c->max) / fmax(fabs(c->max), 1e-12);
        if (value[i] < c->min) sum += (c->min - value[i]) / fmax(fabs(c->min), 1e-12);
    }
    return sum;
}

static void number(struct base_buf *b, double v)
{
    base_buf_printf(b, v == floor(v) && fabs(v) < 1e15 ? "%.0f" : "%.6g", v);
}

/* value lies beyond the bound by so much. */
static void describe(struct base_buf *b, const char *metric, double value, const char *which, double bound, double by, const char *way)
{
    base_buf_printf(b, "%s%s ", b->len ? ", " : "", metric);
    number(b, value);
    base_buf_printf(b, " (%s ", which);
    number(b, bound);
    if (bound != 0) base_buf_printf(b, ": %.3g %% %s)", 100 * by / fabs(bound), way);
    else base_buf_str(b, ")");
}

const char *job_violation_text(const struct job *j, const double *value, char *buf, int size)
{
    struct base_buf b = BASE_BUF_INIT;
    for (int i = 0; i < j->nconstraints; i++) {
        const struct job_constraint *c = &j->constraint[i];
        if (value[i] > c->max) describe(&b, c->metric.name, value[i], "at most", c->max, value[i] - c->max, "over");
        if (value[i] < c->min) describe(&b, c->metric.name, value[i], "at least", c->min, c->min - value[i], "under");
    }
    snprintf(buf, (size_t)size, "%.*s", b.len && !b.st ? (int)base_utf8_cut(b.p, (size_t)size - 1) : 0, b.len ? b.p : "");
    base_buf_fini(&b);
    return buf;
}
