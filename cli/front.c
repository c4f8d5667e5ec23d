/* taut front: the trials that no other one beats. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/json_write.h"
#include "cli/cli.h"
#include "cli/connect.h"
#include "cli/out.h"
#include "cli/plot.h"

static const struct cli_opt options[] = {
    {"objectives", 'o', "A,B", "the front by these metrics (default: the job's objectives)", false},
    {"where", 'w', "FILTER", "trials that fulfil it alone: 'decode_ms@1024 <= 2 and params < 5e6'", false},
    {"format", 'f', "table|csv|json", "table, or all metrics of each trial as csv or json", false},
    {"plot", 'p', NULL, "draw the first two objectives", false},
    {"rung", 'r', "N", "of this rung's results, 0 the lowest (default: the highest that has some)", false},
    {"limit", 'n', "N", "at most so many, by first objective", false},
    {"uncertain", 0, NULL, "with each trial's probability of being on the true front, given the intervals of what was measured", false},
    {0},
};

/* "a,b" as an array; NULL: not given. */
static json_t *wanted(const struct cli *c)
{
    const char *text = cli_str(c, "objectives", NULL);
    json_t *list = text ? json_array() : NULL;
    for (const char *p = text; p; p = strchr(p, ',')) {
        p += *p == ',';
        size_t n = strcspn(p, ",");
        json_array_append_new(list, json_stringn(p, n));
    }
    return list;
}

static void csv_text(const char *s)
{
    if (!strpbrk(s, ",\"\r\n")) {
        fputs(s, stdout);
        return;
    }
    putchar('"');
    for (; *s; s++) {
        if (*s == '"') putchar('"');
        putchar(*s);
    }
    putchar('"');
}

static void add_column(json_t *columns, json_t *seen, const char *name)
{
    if (json_object_get(seen, name)) return;
    json_object_set_new(seen, name, json_true());
    json_array_append_new(columns, json_string(name));
}

/* Objectives first, then every other metric that any of them has. */
static void print_csv(json_t *rows, json_t *objectives)
{
    json_t *columns = json_array(), *seen = json_object(), *row, *o, *v;
    size_t i, k;
    const char *name;
    json_array_foreach(objectives, k, o) add_column(columns, seen, json_is_string(o) ? json_string_value(o) : out_str(o, "metric"));
    json_array_foreach(rows, i, row)
    {
        json_object_foreach(json_object_get(row, "metrics"), name, v) add_column(columns, seen, name);
    }
    bool uncertain = json_object_get(json_array_get(rows, 0), "probability") != NULL, estimated = false;
    json_array_foreach(rows, i, row) estimated |= json_object_get(row, "estimated") != NULL;
    fputs("trial,arch_id", stdout);
    if (uncertain) fputs(",probability,on_front", stdout);
    if (estimated) fputs(",estimated", stdout);
    json_array_foreach(columns, k, o)
    {
        putchar(',');
        csv_text(json_string_value(o));
    }
    putchar('\n');
    json_array_foreach(rows, i, row)
    {
        printf("%lld,%s", (long long)out_int(row, "trial"), out_str(row, "arch_id"));
        if (uncertain) printf(",%g,%d", out_num(row, "probability"), json_is_true(json_object_get(row, "on_front")));
        if (estimated) putchar(',');
        json_array_foreach(json_object_get(row, "estimated"), k, o) printf("%s%s", k ? " " : "", json_string_value(o));
        json_array_foreach(columns, k, o)
        {
            char text[40] = "";
            double x = out_metric(json_object_get(row, "metrics"), json_string_value(o));
            if (!isnan(x)) base_num_text(x, text);
            printf(",%s", text);
        }
        putchar('\n');
    }
    json_decref(columns);
    json_decref(seen);
}

char **front_texts(json_t *rows, size_t n)
{
    char **text = calloc(n + 1, sizeof *text);
    for (size_t i = 0; text && i < n; i++) {
        struct base_buf b = BASE_BUF_INIT;
        out_arch_json(json_object_get(json_array_get(rows, i), "arch"), &b);
        text[i] = base_buf_take(&b);
    }
    return text;
}

void front_texts_free(char **text, size_t n)
{
    for (size_t i = 0; text && i < n; i++) free(text[i]);
    free(text);
}

static const char *name_of(json_t *objectives, size_t i)
{
    json_t *o = json_array_get(objectives, i);
    return json_is_string(o) ? json_string_value(o) : out_str(o, "metric");
}

static const char *format_of(const struct cli *c)
{
    return cli_str(c, "format", c->json ? "json" : "table");
}

static int print(struct cli *c, json_t *rows, json_t *objectives)
{
    const char *format = format_of(c);
    size_t n = json_array_size(rows);
    if (!strcmp(format, "json")) return out_json(rows);
    if (!strcmp(format, "csv")) {
        print_csv(rows, objectives);
        return CLI_OK;
    }
    if (cli_has(c, "plot") && json_array_size(objectives) < 2)
        return cli_fail(CLI_CALL, "front", "name two: --objectives a,b", "--plot needs two objectives");
    if (cli_has(c, "plot")) {
        plot_front(rows, name_of(objectives, 1), name_of(objectives, 0));
        putchar('\n');
    }
    char **text = front_texts(rows, n);
    out_front(rows, objectives, text, -1);
    front_texts_free(text, n);
    return CLI_OK;
}

/* What a table shows: these metrics and no others, and what each trial is. */
static void ask_for_table(json_t *params, json_t *objectives)
{
    json_t *metrics = json_array();
    for (size_t i = 0; i < json_array_size(objectives); i++) json_array_append_new(metrics, json_string(name_of(objectives, i)));
    json_array_append_new(metrics, json_string("params"));
    json_object_set_new(params, "metrics", metrics);
    json_object_set_new(params, "archs", json_true());
}

/* The front is empty: why? */
static int nothing(struct conn *k, int64_t job)
{
    char id[24];
    json_t *info;
    snprintf(id, sizeof id, "%lld", (long long)job);
    int rc = cli_has(k->cli, "where") ? CLI_OK : conn_job(k, id, &info);
    if (rc) return rc;
    if (cli_has(k->cli, "where")) return cli_fail(CLI_NOTHING, "front", NULL, "no trial of job %s that has been measured fulfils the filter", id);
    long long ok = (long long)out_int(json_object_get(info, "trials"), "ok");
    json_decref(info);
    if (!ok) return cli_fail(CLI_NOTHING, "front", NULL, "no trial of job %s has been measured yet", id);
    return cli_fail(CLI_NOTHING, "front", NULL, "no trial of job %s meets its constraints; %lld were measured", id, ok);
}

/* What has been left out of the front is known when tautd has looked at all trials. */
static void say_unread(struct conn *k, int64_t job)
{
    char id[24];
    json_t *info;
    snprintf(id, sizeof id, "%lld", (long long)job);
    if (conn_job_brief(k, id, &info)) return;
    if (*out_str(info, "unread")) cli_fail(CLI_OK, "front", NULL, "job %s: %s", id, out_str(info, "unread"));
    json_decref(info);
}

static int run(struct cli *c)
{
    struct conn k;
    json_t *info = NULL, *rows = NULL, *objectives = wanted(c);
    long limit = (long)cli_int(c, "limit", -1, 1, 1000000000);
    int64_t rung = cli_int(c, "rung", -1, 0, 1000);
    int rc = c->bad ? c->bad : conn_open(&k, c, false);
    if (rc) {
        json_decref(objectives);
        return rc;
    }
    rc = conn_job_brief(&k, c->arg[0], &info);
    if (!rc) {
        json_t *params = json_pack("{s:I}", "id", (json_int_t)out_int(info, "id"));
        if (objectives) json_object_set(params, "objectives", objectives);
        else objectives = json_incref(json_object_get(info, "objectives"));
        if (cli_has(c, "where")) json_object_set_new(params, "where", json_string(cli_str(c, "where", "")));
        if (rung >= 0) json_object_set_new(params, "rung", json_integer(rung));
        if (!strcmp(format_of(c), "table")) ask_for_table(params, objectives);
        if (cli_has(c, "uncertain")) json_object_set_new(params, "uncertain", json_true());
        rc = conn_pages(&k, "job.front", params, limit, &rows);
    }
    if (!rc && !json_array_size(rows)) {
        if (!strcmp(format_of(c), "json")) out_json(rows);
        rc = nothing(&k, out_int(info, "id"));
    } else if (!rc) {
        rc = print(c, rows, objectives);
    }
    if (rows) say_unread(&k, out_int(info, "id"));
    json_decref(rows);
    json_decref(info);
    json_decref(objectives);
    conn_close(&k);
    return rc;
}

const struct cli_cmd cmd_front = {.name = "front",
                                  .args = "JOB",
                                  .summary = "the best trials: those that no other one beats in every objective",
                                  .help = "  taut front tiny --where 'decode_ms@1024 <= 2 and params < 5e6'\n"
                                          "  taut front 3 --objectives valid_bpb,params --plot\n"
                                          "With --uncertain the measurements are drawn again within their intervals, a thousand times; \"sure\" is how often a trial is then on the\n"
                                          "front. Trials that are off it by their medians, marked ~, are shown from 5 % on.\n"
                                          "Filters know < <= > >= = != and or not, parentheses, metrics and numbers.\n",
                                  .options = options,
                                  .min_args = 1,
                                  .max_args = 1,
                                  .run = run};
