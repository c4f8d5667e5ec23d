/* taut jobs: all searches of a store. */
#include <math.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/connect.h"
#include "cli/format.h"
#include "cli/out.h"
#include "cli/term.h"

static const struct cli_opt options[] = {
    {"state", 's', "submitted|running|waiting|paused|done|cancelled|failed", "those in this state alone", false},
    {0},
};

static void best_text(json_t *best, char *text, size_t size)
{
    const char *name;
    json_t *v;
    size_t n = 0;
    char buf[FMT_MAX];
    *text = '\0';
    json_object_foreach(best, name, v)
    {
        int k = snprintf(text + n, size - n, "%s%s %s", n ? ", " : "", name, fmt_metric(buf, name, json_number_value(v)));
        if (k < 0 || (size_t)k >= size - n) return;
        n += (size_t)k;
    }
}

static void print(json_t *list)
{
    struct table t = TABLE_INIT;
    size_t i;
    json_t *row;
    table_column(&t, "job", TABLE_RIGHT);
    table_column(&t, "name", TABLE_LEFT);
    table_column(&t, "state", TABLE_LEFT);
    table_column(&t, "evaluations", TABLE_RIGHT);
    table_column(&t, "busy", TABLE_RIGHT);
    table_column(&t, "submitted", TABLE_LEFT);
    table_column(&t, "best", TABLE_CUT);
    json_array_foreach(list, i, row)
    {
        char busy[FMT_MAX], ago[FMT_MAX], best[400];
        double budget = out_num(json_object_get(row, "budget"), "evaluations");
        best_text(json_object_get(row, "best"), best, sizeof best);
        table_row(&t);
        table_cell(&t, "%lld", (long long)out_int(row, "id"));
        table_cell(&t, "%s", out_str(row, "name"));
        table_cell(&t, "%s", out_str(row, "state"));
        if (!json_object_get(row, "evaluations")) table_cell(&t, "?"); /* a job that tautd does not read */
        else if (isnan(budget)) table_cell(&t, "%lld", (long long)out_int(row, "evaluations"));
        else table_cell(&t, "%lld/%.0f", (long long)out_int(row, "evaluations"), budget);
        table_cell(&t, "%s", fmt_duration(busy, out_num(row, "busy_s")));
        table_cell(&t, "%s", fmt_ago(ago, out_int(row, "submitted_ms")));
        table_cell(&t, "%s", best);
    }
    table_print(&t, stdout);
    table_fini(&t);
}

static int run(struct cli *c)
{
    struct conn k;
    json_t *list;
    const char *state = cli_str(c, "state", NULL);
    int rc = conn_open(&k, c, false);
    if (!rc) rc = conn_call(&k, "job.list", state ? json_pack("{s:s}", "state", state) : NULL, NULL, &list);
    if (!rc) {
        if (c->json) rc = out_json(list);
        else if (json_array_size(list)) print(list);
        else cli_note(c, state ? "no jobs in that state" : "no jobs yet; submit one: taut submit JOB.json");
        json_decref(list);
    }
    conn_close(&k);
    return rc;
}

const struct cli_cmd cmd_jobs = {.name = "jobs", .args = "", .summary = "all jobs, their states and the best they have found", .help = "", .options = options, .run = run};
