#include "cli/result.h"

#include <stdlib.h>
#include <string.h>

#include "cli/format.h"
#include "cli/out.h"
#include "cli/term.h"

#define ERRORS_MAX 200 /* failed trials looked at */
#define FRONT_ROWS 20

static bool next_page(struct conn *k, int64_t job, int64_t *after, json_t **page)
{
    if (conn_trials(k, job, after, page, NULL, NULL)) return false;
    if (json_array_size(*page)) return true;
    json_decref(*page);
    return false;
}

char *result_common_error(struct conn *k, int64_t job, long *failed, long *same)
{
    json_t *counts = json_object(), *page, *row, *v;
    const char *text, *best = NULL;
    size_t i;
    int64_t after = 0;
    *failed = *same = 0;
    while (next_page(k, job, &after, &page)) {
        json_array_foreach(page, i, row)
        {
            json_t *trial = NULL;
            if (strcmp(out_str(row, "state"), "failed")) continue;
            if (++*failed > ERRORS_MAX) continue;
            if (wire_client_call(k->wire, "trial.get", json_pack("{s:O}", "id", json_object_get(row, "trial")), -1, &trial, NULL, NULL)) continue;
            const char *error = out_str(trial, "error");
            json_object_set_new(counts, error, json_integer(out_int(counts, error) + 1));
            json_decref(trial);
        }
        json_decref(page);
    }
    json_object_foreach(counts, text, v)
    {
        if (!*text || json_integer_value(v) <= *same) continue;
        *same = (long)json_integer_value(v);
        best = text;
    }
    char *copy = best ? strdup(best) : NULL;
    json_decref(counts);
    return copy;
}

static int print_failure(struct conn *k, json_t *info)
{
    long failed, same;
    char *error = result_common_error(k, out_int(info, "id"), &failed, &same);
    char what[200];
    const char *reason = out_str(info, "reason"), *said = "no trial succeeded; "; /* tautd's own reasons may begin so */
    if (!strncmp(reason, said, strlen(said))) reason += strlen(said);
    snprintf(what, sizeof what, "job %lld '%.100s'", (long long)out_int(info, "id"), out_str(info, "name"));
    int rc = error ? cli_fail(CLI_FAILED, what, NULL, "no trial succeeded; %ld of %ld failed with: %s", same, failed, error)
                   : cli_fail(CLI_FAILED, what, NULL, "no trial succeeded: %s", *reason ? reason : "no reason given");
    free(error);
    return rc;
}

static void print_front(json_t *info, json_t *rows)
{
    size_t n = json_array_size(rows), shown = n < FRONT_ROWS ? n : FRONT_ROWS;
    char **text = front_texts(rows, shown);
    printf("\n%sfront%s: %zu of %lld trials that no other one beats in every objective\n", term_style(TERM_BOLD), term_style(TERM_PLAIN), n,
           (long long)out_int(json_object_get(info, "trials"), "ok"));
    out_front(rows, json_object_get(info, "objectives"), text, FRONT_ROWS);
    front_texts_free(text, shown);
}

static void print_hints(const struct cli *c, json_t *info, json_t *rows, const struct result_hints *h)
{
    long long id = (long long)out_int(info, "id"), trial = (long long)out_int(json_array_get(rows, 0), "trial");
    printf("\n  %staut front %lld%s --plot\n  %staut show %lld%s\n", c->at, id, h->where, c->at, trial, h->where);
    if (h->report) printf("  report: %s\n", h->report);
}

static int print_json(struct conn *k, json_t *info, json_t *rows, const struct result_hints *h)
{
    long failed, same;
    json_t *o = json_pack("{s:s,s:I,s:O,s:O,s:O,s:O,s:O}", "event", "end", "job", (json_int_t)out_int(info, "id"), "name", json_object_get(info, "name"), "state",
                          json_object_get(info, "state"), "evaluations", json_object_get(info, "evaluations"), "trials", json_object_get(info, "trials"), "front", rows);
    if (*out_str(info, "reason")) json_object_set(o, "reason", json_object_get(info, "reason"));
    if (h->report) json_object_set_new(o, "report", json_string(h->report));
    char *error = !strcmp(out_str(info, "state"), "failed") ? result_common_error(k, out_int(info, "id"), &failed, &same) : NULL;
    if (error) json_object_set_new(o, "error", json_string(error));
    free(error);
    int rc = out_json(o);
    json_decref(o);
    return rc;
}

int result_print(struct conn *k, json_t *info, const struct result_hints *hints)
{
    const struct cli *c = k->cli;
    bool failed = !strcmp(out_str(info, "state"), "failed");
    json_t *rows = NULL;
    char busy[FMT_MAX];
    json_t *params = json_pack("{s:I}", "id", (json_int_t)out_int(info, "id"));
    if (!c->json) json_object_set_new(params, "archs", json_true());
    int rc = conn_pages(k, "job.front", params, -1, &rows);
    if (rc) return rc;
    if (c->json) {
        rc = print_json(k, info, rows, hints);
    } else if (!failed) {
        printf("job %lld '%s' is %s: %s (%s at work)\n", (long long)out_int(info, "id"), out_str(info, "name"), out_str(info, "state"),
               *out_str(info, "reason") ? out_str(info, "reason") : "nothing more to say", fmt_duration(busy, out_num(info, "busy_s")));
        if (json_array_size(rows)) print_front(info, rows);
        else if (out_int(json_object_get(info, "trials"), "ok"))
            printf("no front: no trial of %lld meets the constraints; wider ones in the job file make a new search\n",
                   (long long)out_int(json_object_get(info, "trials"), "ok"));
        if (json_array_size(rows) && !c->quiet) print_hints(c, info, rows, hints);
    }
    json_decref(rows);
    if (!rc && failed) rc = print_failure(k, info);
    return rc;
}
