/* What a report shows, collected from tautd. Everything that can be many is bounded, so that the page stays below 5 MB; what is left out is said. */
#include "config.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "cli/out.h"
#include "cli/report.h"
#include "cli/report_arch.h"

#define FRONT_BYTES 1200000  /* rows of the front … */
#define DETAIL_BYTES 1200000 /* … what its architectures are … */
#define DETAIL_MAX 150
#define OTHERS_MAX 1500      /* … other trials: points, knobs … */
#define OTHERS_VALUES 30000
#define CURVES_MAX 120       /* … their learning curves … */
#define CURVE_POINTS 60
#define FEATURES_MAX 40
#define FAILED_MAX 300       /* … failed ones, of which the reasons are read */
#define REASONS_MAX 20
#define UNREAD_MAX 20        /* trials that cannot be read, each in a line of its own */
#define TEXT_MAX 200
#define VALUE_BYTES 20000    /* of one key of the job, of one custom candidate */
#define ERROR_BYTES 500
#define DEVICES_MAX 20

struct data {
    struct conn *k;
    json_t *info;
    int64_t id;
    struct job *job; /* NULL: a store of another version, whose job cannot be read */
    json_t *out, *notes, *in_front, *details, *curves;
    json_t *columns;          /* of the other trials: name to array */
    double trials;            /* as many as there were when the job was asked for */
    long ok, failed, stride;  /* of them; every stride-th of the others is shown */
    long others, looked;      /* others seen so far; failed ones looked at */
    long unread;
    double failed_busy_s;
    json_t *reasons, *failures;
};

static size_t bytes_of(json_t *v)
{
    return json_dumpb(v, NULL, 0, JSON_COMPACT | JSON_ENCODE_ANY);
}

static void note(struct data *d, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void note(struct data *d, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    json_array_append_new(d->notes, json_vsprintf(fmt, ap));
    va_end(ap);
}

/* *trial NULL: the store has none, or none that can be read; that is said, here and in the page. without: what the page then lacks. */
static int trial_get(struct data *d, int64_t id, const char *without, json_t **trial)
{
    struct base_err err = BASE_ERR_INIT;
    int code;
    st_t st = wire_client_call(d->k->wire, "trial.get", json_pack("{s:I}", "id", (json_int_t)id), -1, trial, &code, &err);
    if (!st) return CLI_OK;
    if (code != WIRE_EINTERNAL && code != WIRE_ENOTFOUND) return conn_error(d->k, st, code, NULL, &err);
    *trial = NULL;
    if (++d->unread > UNREAD_MAX) return CLI_OK;
    note(d, "Trial %lld cannot be read%s left out: %s.", (long long)id, without, err.what);
    return cli_fail(CLI_OK, "report", NULL, "trial %lld cannot be read%s left out: %s", (long long)id, without, err.what);
}

/* What tautd itself has left out, or cannot go on with. */
static void note_unread(struct data *d)
{
    json_t *damaged = json_object_get(d->info, "damaged"), *one;
    const char *unread = out_str(d->info, "unread");
    size_t i;
    d->unread = (long)out_int(damaged, "trials");
    json_array_foreach(json_object_get(damaged, "first"), i, one)
    {
        long long trial = (long long)out_int(one, "trial");
        const char *why = out_str(one, "why");
        if (trial) note(d, "Trial %lld cannot be read and is left out: %s.", trial, why);
        else note(d, "Of the trials, %s.", why);
        if (trial) cli_fail(CLI_OK, "report", NULL, "trial %lld cannot be read and is left out: %s", trial, why);
        else cli_fail(CLI_OK, "report", NULL, "of the trials, %s", why);
    }
    if (damaged || !*unread) return;
    note(d, "The job cannot go on: %s.", unread);
    cli_fail(CLI_OK, "report", NULL, "job %lld cannot go on: %s", (long long)d->id, unread);
}

/* What the search cannot go by. */
static void note_hopeless(struct data *d)
{
    json_t *unmet = json_object_get(d->info, "unmet"), *flat;
    size_t i;
    json_array_foreach(json_object_get(d->info, "flat"), i, flat) note(d, "%s is the same in every result: it steers nothing.", out_str(flat, "metric"));
    if (unmet)
        note(d, "None of %lld results meets the constraints; the closest, trial %lld: %s.", (long long)out_int(unmet, "results"), (long long)out_int(unmet, "trial"), out_str(unmet, "breaks"));
}

/* ---- the job ---- */

static json_t *files_summary(json_t *files)
{
    json_t *out = json_object(), *f;
    size_t i;
    for (int k = 0; k < 2; k++) {
        const char *key = k ? "valid" : "train";
        json_t *list = json_object_get(files, key);
        double bytes = 0;
        if (!json_is_array(list)) continue;
        json_array_foreach(list, i, f) bytes += out_num(f, "bytes");
        json_t *path = json_object_get(json_array_get(list, 0), "path");
        json_object_set_new(out, key, json_pack("{s:I,s:f,s:O?}", "files", (json_int_t)json_array_size(list), "bytes", bytes, "first", path));
    }
    json_t *share = json_object_get(files, "valid_share");
    if (share) json_object_set(out, "valid_share", share);
    return out;
}

/* job.get without what can be long: the list of files, and large values of the job. */
static json_t *job_summary(json_t *info)
{
    json_t *out = json_copy(info), *job = json_object_get(info, "job"), *small = json_object(), *v;
    const char *key;
    json_object_foreach(job, key, v)
    {
        if (bytes_of(v) <= VALUE_BYTES) json_object_set(small, key, v);
    }
    json_object_set_new(out, "job", small);
    if (json_object_get(info, "files")) json_object_set_new(out, "files", files_summary(json_object_get(info, "files")));
    return out;
}

/* ---- the front ---- */

/* Of n, k evenly spread, both ends among them: the i-th. */
static size_t spread(size_t i, size_t k, size_t n)
{
    return k >= n || k < 2 ? i : (size_t)((double)i * (double)(n - 1) / (double)(k - 1) + 0.5);
}

/* Values that were not measured, and how far they can be believed. */
static void models(struct data *d)
{
    json_t *m;
    size_t i;
    json_array_foreach(json_object_get(d->info, "models"), i, m)
    {
        long long saved = (long long)out_int(m, "saved"), checked = (long long)out_int(m, "checked");
        if (!saved) continue;
        note(d, "%s of %lld trials is not measured but estimated from that of others, where it could not change the front; %lld such estimates were checked by measuring: mean error %.1f %%, worst %.1f %%, %lld within their 95 %% interval",
             out_str(m, "metric"), saved, checked, 100 * out_num(m, "mape"), 100 * out_num(m, "worst"), (long long)out_int(m, "held"));
    }
}

static int add_front(struct data *d, json_t **shown)
{
    json_t *all, *rows = json_array(), *row;
    size_t at;
    models(d);
    int rc = conn_pages(d->k, "job.front", json_pack("{s:I,s:b}", "id", (json_int_t)d->id, "uncertain", true), -1, &all);
    json_array_foreach(rc ? NULL : all, at, row)
    {
        if (json_is_true(json_object_get(row, "on_front"))) json_array_append(rows, row);
    }
    if (!rc) json_decref(all);
    if (rc) {
        json_decref(rows);
        return rc;
    }
    size_t n = json_array_size(rows), bytes = bytes_of(rows), k = bytes <= FRONT_BYTES ? n : 1 + (size_t)((double)n * FRONT_BYTES / (double)bytes);
    *shown = json_array();
    for (size_t i = 0; i < k; i++) json_array_append(*shown, json_array_get(rows, spread(i, k, n)));
    for (size_t i = 0; i < n; i++) {
        char key[24];
        snprintf(key, sizeof key, "%lld", (long long)out_int(json_array_get(rows, i), "trial"));
        json_object_set_new(d->in_front, key, json_true());
    }
    if (k < n) note(d, "The front has %zu architectures; %zu of them, evenly spread by the first objective, are shown.", n, k);
    json_object_set_new(d->out, "front_size", json_integer((json_int_t)n));
    json_object_set(d->out, "front", *shown);
    json_decref(rows);
    return CLI_OK;
}

/* Every so many of the points, the last one included. */
static json_t *thin_curve(json_t *curve)
{
    size_t n = json_array_size(curve), k = n < CURVE_POINTS ? n : CURVE_POINTS;
    json_t *out = json_array();
    for (size_t i = 0; i < k; i++) json_array_append(out, json_array_get(curve, spread(i, k, n)));
    return out;
}

static json_t *detail(struct data *d, json_t *trial)
{
    static const char *const keep[] = {"arch_id", "proposal", "origin", "seed", "busy_s", "joules", "metrics"};
    json_t *o = json_object(), *arch = json_object_get(trial, "arch");
    for (size_t i = 0; i < sizeof keep / sizeof *keep; i++) {
        json_t *v = json_object_get(trial, keep[i]);
        if (v) json_object_set(o, keep[i], v);
    }
    json_t *device = json_object_get(json_object_get(trial, "device"), "id"), *stack = report_stack(arch), *features = report_features(d->job, arch, FEATURES_MAX);
    if (device) json_object_set(o, "device", device);
    json_object_set_new(o, "text", report_text(arch, 2 * TEXT_MAX));
    if (stack) json_object_set_new(o, "stack", stack);
    else if (bytes_of(arch) <= VALUE_BYTES) json_object_set(o, "knobs", arch);
    if (features) json_object_set_new(o, "features", features);
    if (json_array_size(json_object_get(trial, "curve"))) json_object_set_new(o, "curve", thin_curve(json_object_get(trial, "curve")));
    return o;
}

static int add_details(struct data *d, json_t *front)
{
    size_t n = json_array_size(front), k = n < DETAIL_MAX ? n : DETAIL_MAX, bytes = 0, had = 0;
    for (; had < k && bytes < DETAIL_BYTES; had++) {
        char key[24];
        json_t *trial;
        int64_t id = out_int(json_array_get(front, spread(had, k, n)), "trial");
        int rc = trial_get(d, id, "; its architecture and curve are", &trial);
        if (rc) return rc;
        if (!trial) continue;
        json_t *o = detail(d, trial);
        json_decref(trial);
        snprintf(key, sizeof key, "%lld", (long long)id);
        bytes += bytes_of(o);
        json_object_set_new(d->details, key, o);
    }
    if (had < n) note(d, "%zu of the %zu architectures of the front are drawn layer by layer, with curves and knobs.", json_object_size(d->details), n);
    return CLI_OK;
}

/* ---- the others ---- */

static void column_add(struct data *d, const char *name, json_t *v /* stolen */)
{
    json_t *list = json_object_get(d->columns, name);
    if (!list) {
        list = json_array();
        json_object_set_new(d->columns, name, list);
    }
    json_array_append_new(list, v ? v : json_null());
}

static void add_other(struct data *d, json_t *row, json_t *trial)
{
    json_t *objectives = json_object_get(d->info, "objectives"), *o, *metrics = json_array(), *v, *arch = json_object_get(trial, "arch");
    json_t *features = report_features(d->job, arch, FEATURES_MAX), *curve = json_object_get(trial, "curve");
    size_t i;
    json_array_foreach(objectives, i, o)
    {
        double x = out_metric(json_object_get(row, "metrics"), out_str(o, "metric"));
        json_array_append_new(metrics, isfinite(x) ? json_real(x) : json_null());
    }
    column_add(d, "trial", json_incref(json_object_get(row, "trial")));
    column_add(d, "proposal", json_incref(json_object_get(row, "proposal")));
    column_add(d, "objectives", metrics);
    column_add(d, "text", report_text(arch, TEXT_MAX));
    for (i = 0; i < 2; i++) {
        v = json_object_get(trial, i ? "joules" : "busy_s");
        column_add(d, i ? "joules" : "busy_s", v ? json_incref(v) : NULL);
    }
    column_add(d, "features", features);
    if (json_array_size(curve) > 1 && json_array_size(d->curves) < CURVES_MAX && (d->others / d->stride) % (1 + (d->ok / d->stride) / CURVES_MAX) == 0)
        json_array_append_new(d->curves, json_pack("{s:O,s:o}", "trial", json_object_get(row, "trial"), "curve", thin_curve(curve)));
}

static void add_failed(struct data *d, json_t *row, json_t *trial)
{
    json_t *text = report_cut(*out_str(trial, "error") ? out_str(trial, "error") : "no reason given", ERROR_BYTES);
    const char *error = json_string_value(text);
    json_t *busy = json_object_get(trial, "busy_s"), *known = json_object_get(d->reasons, error);
    if (!isnan(out_num(trial, "busy_s"))) d->failed_busy_s += out_num(trial, "busy_s");
    json_array_append_new(d->failures, json_pack("[O,O,O?]", json_object_get(row, "trial"), json_object_get(row, "proposal"), busy));
    if (known) json_object_set_new(known, "count", json_integer(out_int(known, "count") + 1));
    else if (json_object_size(d->reasons) < REASONS_MAX)
        json_object_set_new(d->reasons, error, json_pack("{s:i,s:O}", "count", 1, "trial", json_object_get(row, "trial")));
    json_decref(text);
}

static int add_row(struct data *d, json_t *row)
{
    char key[24];
    json_t *trial;
    const char *state = out_str(row, "state");
    snprintf(key, sizeof key, "%lld", (long long)out_int(row, "trial"));
    bool failed = !strcmp(state, "failed");
    if (!failed && (strcmp(state, "ok") || json_object_get(d->in_front, key))) return CLI_OK;
    if (failed ? d->looked >= FAILED_MAX : d->others++ % d->stride != 0) return CLI_OK;
    int rc = trial_get(d, out_int(row, "trial"), " and is", &trial);
    if (rc || !trial) return rc;
    d->looked += failed;
    if (failed) add_failed(d, row, trial);
    else add_other(d, row, trial);
    json_decref(trial);
    return CLI_OK;
}

static int add_others(struct data *d)
{
    json_t *page, *row;
    size_t i, n = 1;
    int64_t after = 0;
    int code, rc = CLI_OK;
    double left = d->trials;
    int genes = d->job ? space_genes(d->job->space) : 0, most = OTHERS_VALUES / ((genes < FEATURES_MAX ? genes : FEATURES_MAX) + 1);
    long others = d->ok - (long)json_object_size(d->in_front);
    if (most > OTHERS_MAX) most = OTHERS_MAX;
    d->stride = others > most ? (others + most - 1) / most : 1;
    while (!rc && n && left > 0) {
        struct base_err err = BASE_ERR_INIT;
        st_t st = conn_trials(d->k, d->id, &after, &page, &code, &err);
        if (st) return conn_error(d->k, st, code, NULL, &err);
        n = json_array_size(page);
        json_array_foreach(page, i, row)
        {
            if (!rc && left-- > 0) rc = add_row(d, row);
        }
        json_decref(page);
    }
    if (rc) return rc;
    if (d->unread > UNREAD_MAX) {
        note(d, "%ld trials cannot be read, the first %d of them for these reasons.", d->unread, UNREAD_MAX);
        cli_fail(CLI_OK, "report", NULL, "%ld trials cannot be read, the first %d of them for these reasons", d->unread, UNREAD_MAX);
    }
    if (d->stride > 1) note(d, "Of the %ld trials beside the front, one in %ld is shown.", others, d->stride);
    if (d->looked < d->failed) note(d, "Reasons and times of the first %ld of %ld failed trials are counted.", d->looked, d->failed);
    return CLI_OK;
}

/* ---- what the metrics are ---- */

static void add_metric(json_t *list, json_t *seen, const char *name, bool custom)
{
    static const char *const sources[] = {[METRIC_PAPER] = "paper", [METRIC_TRAIN] = "train", [METRIC_PROFILE] = "profile",
                                          [METRIC_ENERGY] = "energy", [METRIC_PROXY] = "proxy", [METRIC_CUSTOM] = "custom"};
    static const char *const texts[] = {
#define METRIC(name_, form, unit, goal, source, text) text,
#include "searchspace/metrics.def"
#undef METRIC
    };
    struct metric m;
    if (json_object_get(seen, name)) return;
    json_object_set_new(seen, name, json_true());
    if (space_metric_parse(&m, name, custom, "", NULL)) return;
    json_array_append_new(list, json_pack("{s:s,s:s,s:s,s:s,s:s}", "name", name, "unit", m.unit ? m.unit : "", "source", sources[m.source], "goal",
                                          m.goal == METRIC_MAX ? "max" : "min", "text", m.def >= 0 ? texts[m.def] : ""));
}

static void add_metrics(struct data *d, json_t *front)
{
    json_t *list = json_array(), *seen = json_object(), *o, *v;
    const char *name;
    size_t i;
    bool custom = d->job && space_type(d->job->space) == SPACE_CUSTOM;
    json_array_foreach(json_object_get(d->info, "objectives"), i, o) add_metric(list, seen, out_str(o, "metric"), custom);
    json_array_foreach(front, i, o)
    {
        json_object_foreach(json_object_get(o, "metrics"), name, v)
        {
            if (json_array_size(list) < 64) add_metric(list, seen, name, custom);
        }
    }
    json_decref(seen);
    json_object_set_new(d->out, "metrics", list);
}

static int add_devices(struct data *d)
{
    json_t *all, *list;
    int rc = conn_call(d->k, "device.list", NULL, NULL, &all);
    if (rc) return rc;
    list = json_object_get(all, "devices");
    while (json_array_size(list) > DEVICES_MAX) json_array_remove(list, json_array_size(list) - 1);
    json_object_set(d->out, "devices", list);
    json_decref(all);
    return CLI_OK;
}

/* ---- all of it ---- */

static void add_legend(struct data *d)
{
    struct base_buf b = BASE_BUF_INIT;
    out_legend(&b);
    if (!b.st) json_object_set_new(d->out, "legend", json_string(b.p));
    base_buf_fini(&b);
}

static int collect(struct data *d, const char *where)
{
    json_t *front = NULL, *progress = NULL;
    json_object_set_new(d->out, "version", json_string(PACKAGE_VERSION_TEXT));
    json_object_set_new(d->out, "made_ms", json_integer((json_int_t)base_clock_wall_ms()));
    json_object_set_new(d->out, "where", json_string(where));
    json_object_set_new(d->out, "job", job_summary(d->info));
    if (d->job && space_type(d->job->space) == SPACE_LM) add_legend(d);
    int rc = add_front(d, &front);
    if (!rc) note_unread(d);
    if (!rc) note_hopeless(d);
    if (!rc) rc = add_details(d, front);
    if (!rc) rc = add_others(d);
    if (!rc) rc = add_devices(d);
    if (!rc) rc = conn_call(d->k, "job.progress", json_pack("{s:I}", "id", (json_int_t)d->id), NULL, &progress);
    if (!rc) add_metrics(d, front);
    if (progress) json_object_set_new(d->out, "progress", progress);
    json_decref(front);
    json_object_set(d->out, "details", d->details);
    json_object_set(d->out, "others", d->columns);
    json_object_set(d->out, "curves", d->curves);
    json_object_set(d->out, "notes", d->notes);
    json_object_set_new(d->out, "failed", json_pack("{s:I,s:I,s:f,s:O,s:O}", "of", (json_int_t)d->failed, "seen", (json_int_t)d->looked, "busy_s",
                                                    d->failed_busy_s, "reasons", d->reasons, "trials", d->failures));
    return rc;
}

json_t *report_data(struct conn *k, json_t *info, const char *where, int *rc)
{
    json_t *trials = json_object_get(info, "trials");
    struct data d = {.k = k, .info = info, .id = out_int(info, "id"), .out = json_object(), .notes = json_array(), .in_front = json_object(),
                     .details = json_object(), .curves = json_array(), .columns = json_object(), .reasons = json_object(), .failures = json_array(),
                     .trials = out_num(trials, "ready") + out_num(trials, "leased") + out_num(trials, "ok") + out_num(trials, "failed") + (double)out_int(trials, "pruned") +
                               (double)out_int(trials, "scored") + (double)out_int(trials, "passed"),
                     .ok = (long)out_int(trials, "ok"), .failed = (long)out_int(trials, "failed")};
    if (job_from_json(&d.job, json_object_get(info, "job"), NULL)) d.job = NULL;
    *rc = collect(&d, where);
    job_free(d.job);
    json_t *const parts[] = {d.notes, d.in_front, d.details, d.curves, d.columns, d.reasons, d.failures};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) json_decref(parts[i]);
    if (!*rc) return d.out;
    json_decref(d.out);
    return NULL;
}
