/* taut space: what a job's space holds, before anything is searched. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/json_write.h"
#include "cli/cli.h"
#include "cli/format.h"
#include "cli/jobfile.h"
#include "cli/out.h"
#include "cli/table.h"
#include "cli/term.h"

#define DRAWS 1000 /* for ranges, at least */
#define SAMPLE_MAX 100000
#define COSTS_MAX 8

static const struct cli_opt options[] = {
    {"sample", 'n', "N", "show so many different candidates, drawn at random (default: 10)", false},
    {"seed", 's', "S", "another sample (default: 1)", false},
    {0},
};

struct survey {
    const struct job *job;
    struct metric cost[COSTS_MAX]; /* known on paper */
    int ncosts;
    long draws, fitting;           /* candidates drawn; of them, those that meet what paper costs can say of the constraints */
    bool constrained;              /* paper costs can say something of them */
    double *value[COSTS_MAX];      /* [draws] */
    json_t *seen, *rows;           /* ids drawn; candidates shown */
};

static void add_cost(struct survey *s, const struct metric *m)
{
    if (m->source != METRIC_PAPER || s->ncosts == COSTS_MAX) return;
    for (int i = 0; i < s->ncosts; i++)
        if (!strcmp(s->cost[i].name, m->name)) return;
    s->cost[s->ncosts++] = *m;
}

/* What is always of interest, then what the job asks for. */
static void choose_costs(struct survey *s)
{
    static const char *const always[] = {"params", "flops_per_token", "weight_bytes"};
    char state[METRIC_NAME_MAX];
    struct metric m;
    if (space_type(s->job->space) != SPACE_LM) return;
    for (size_t i = 0; i < sizeof always / sizeof *always; i++)
        if (!space_metric_parse(&m, always[i], false, "", NULL)) add_cost(s, &m);
    snprintf(state, sizeof state, "state_bytes@%d", s->job->data.context);
    if (!space_metric_parse(&m, state, false, "", NULL)) add_cost(s, &m);
    for (int i = 0; i < s->job->nobjectives; i++) add_cost(s, &s->job->objective[i].metric);
    for (int i = 0; i < s->job->nconstraints; i++) {
        add_cost(s, &s->job->constraint[i].metric);
        s->constrained |= s->job->constraint[i].metric.source == METRIC_PAPER;
    }
}

static bool fits(const struct job *j, const struct arch *a)
{
    double v[JOB_CONSTRAINTS_MAX];
    for (int i = 0; i < j->nconstraints; i++) v[i] = space_metric_paper(&j->constraint[i].metric, a, j->decode);
    return job_violation(j, v) == 0;
}

/* Takes a candidate in. */
static st_t count(struct survey *s, const struct candidate *x, long want)
{
    json_t *metrics = json_object();
    bool lm = x->type == SPACE_LM;
    for (int i = 0; i < s->ncosts; i++) {
        s->value[i][s->draws] = space_metric_paper(&s->cost[i], &x->arch, s->job->decode);
        json_object_set_new(metrics, s->cost[i].name, json_real(s->value[i][s->draws]));
    }
    s->draws++;
    bool fitting = !lm || fits(s->job, &x->arch);
    s->fitting += fitting;
    bool known = json_object_get(s->seen, x->id);
    int bad = known ? 0 : json_object_set_new(s->seen, x->id, json_true());
    if (!known && (long)json_array_size(s->rows) < want) {
        json_t *row = json_pack("{s:s, s:o, s:O}", "arch_id", x->id, "arch", json_loads(x->canonical, JSON_DECODE_ANY, NULL), "metrics", metrics);
        if (s->constrained) json_object_set_new(row, "fits", json_boolean(fitting));
        bad |= json_array_append_new(s->rows, row);
    }
    json_decref(metrics);
    return bad ? ST_ENOMEM : ST_OK;
}

static st_t draw(struct survey *s, uint64_t seed, long want, struct base_err *err)
{
    struct genome g = {0};
    long most = want > DRAWS / 20 ? 20 * want : DRAWS; /* few that differ: no sample of that size */
    st_t st = space_genome_init(s->job->space, &g);
    s->seen = json_object();
    s->rows = json_array();
    for (int i = 0; !st && i < s->ncosts; i++) {
        s->value[i] = malloc((size_t)most * sizeof *s->value[i]);
        if (!s->value[i]) st = ST_ENOMEM;
    }
    for (long n = 0; !st && n < most && (n < DRAWS || (long)json_array_size(s->rows) < want); n++) {
        struct base_rng r = base_rng_at(seed, RNG_SAMPLE, (uint64_t)n);
        struct candidate x;
        st = space_sample(s->job->space, &r, &g);
        if (st == ST_EEXHAUSTED) base_err_set(err, st, "space", "no candidate could be drawn: nearly every combination of its knobs is impossible");
        if (!st) st = space_candidate(s->job->space, &g, &x, err);
        if (st) break;
        st = count(s, &x, want);
        space_candidate_fini(&x);
    }
    space_genome_fini(&g);
    return st;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* ---- printing ---- */

static void print_size(const struct survey *s)
{
    char buf[FMT_MAX];
    bool exact;
    double size = space_size(s->job->space, &exact);
    const char *what = space_type(s->job->space) == SPACE_LM ? "architectures" : "candidates";
    printf("%s'%s'%s  ", term_style(TERM_BOLD), s->job->name, term_style(TERM_PLAIN));
    if (isinf(size)) printf("%s without number: some knobs are real numbers\n", what);
    else if (exact) printf("%s different %s\n", fmt_count(buf, size), what);
    else printf("%s %.3g different %s\n", size < 0x1p53 ? "at most" : "about", size, what);
}

static void print_knobs(const struct space *s)
{
    struct base_buf b = BASE_BUF_INIT;
    struct table t = TABLE_INIT;
    space_describe(s, &b);
    t.indent = 2;
    table_column(&t, "knob", TABLE_LEFT);
    table_column(&t, "values", TABLE_CUT);
    for (char *p = b.p; p && *p;) {
        char *end = p + strcspn(p, "\n"), *colon = memchr(p, ':', (size_t)(end - p));
        if (colon) {
            table_row(&t);
            table_cell(&t, "%.*s", (int)(colon - p), p);
            table_cell(&t, "%.*s", (int)(end - colon - 1 - (colon[1] == ' ')), colon + 1 + (colon[1] == ' '));
        }
        p = end + (*end == '\n');
    }
    table_print(&t, stdout);
    table_fini(&t);
    base_buf_fini(&b);
}

static void print_taken(const struct jobfile *f)
{
    char text[JOBFILE_TAKEN_MAX];
    if (*jobfile_taken(f, text, sizeof text)) printf("  %s%s%s\n", term_style(TERM_DIM), text, term_style(TERM_PLAIN));
}

static void print_ranges(const struct survey *s)
{
    struct table t = TABLE_INIT;
    char buf[FMT_MAX];
    if (!s->ncosts) return;
    t.indent = 2;
    table_column(&t, "on paper", TABLE_LEFT);
    table_column(&t, "least", TABLE_RIGHT);
    table_column(&t, "median", TABLE_RIGHT);
    table_column(&t, "most", TABLE_RIGHT);
    for (int i = 0; i < s->ncosts; i++) {
        const double at[3] = {s->value[i][0], s->value[i][s->draws / 2], s->value[i][s->draws - 1]};
        table_row(&t);
        table_cell(&t, "%s", s->cost[i].name);
        for (int k = 0; k < 3; k++) table_cell(&t, "%s", fmt_metric(buf, s->cost[i].name, at[k]));
    }
    putchar('\n');
    table_print(&t, stdout);
    table_fini(&t);
    printf("  %sof %ld random draws, %zu of them different%s\n", term_style(TERM_DIM), s->draws, json_object_size(s->seen), term_style(TERM_PLAIN));
    if (s->constrained)
        printf("  %ld of %ld draws (%.3g %%) meet the job's constraints as far as paper costs can say\n", s->fitting, s->draws, 100.0 * (double)s->fitting / (double)s->draws);
}

static void print_sample(const struct survey *s)
{
    struct table t = TABLE_INIT;
    char buf[FMT_MAX];
    json_t *row;
    size_t i;
    if (!json_array_size(s->rows)) return;
    t.indent = 2;
    table_column(&t, "id", TABLE_LEFT);
    for (int k = 0; k < s->ncosts; k++) table_column(&t, s->cost[k].name, TABLE_RIGHT);
    if (s->constrained) table_column(&t, "fits", TABLE_LEFT);
    table_column(&t, "", TABLE_CUT);
    json_array_foreach(s->rows, i, row)
    {
        struct base_buf b = BASE_BUF_INIT;
        table_row(&t);
        table_cell(&t, "%.8s", out_str(row, "arch_id"));
        for (int k = 0; k < s->ncosts; k++)
            table_cell(&t, "%s", fmt_metric(buf, s->cost[k].name, out_num(json_object_get(row, "metrics"), s->cost[k].name)));
        if (s->constrained) table_cell(&t, "%s", json_is_true(json_object_get(row, "fits")) ? "yes" : "no");
        out_arch_json(json_object_get(row, "arch"), &b);
        table_cell(&t, "%s", b.p ? b.p : "");
        base_buf_fini(&b);
    }
    putchar('\n');
    table_print(&t, stdout);
    table_fini(&t);
}

static json_t *taken_lines(const struct space *s)
{
    json_t *list = json_array();
    for (const char *p = space_taken(s); *p;) {
        size_t n = strcspn(p, "\n");
        json_array_append_new(list, json_stringn(p, n));
        p += n + (p[n] == '\n');
    }
    return list;
}

static int print_json(const struct survey *s)
{
    bool exact;
    double size = space_size(s->job->space, &exact);
    json_t *ranges = json_object();
    for (int i = 0; i < s->ncosts; i++)
        json_object_set_new(ranges, s->cost[i].name,
                            json_pack("{s:f, s:f, s:f}", "low", s->value[i][0], "median", s->value[i][s->draws / 2], "high", s->value[i][s->draws - 1]));
    json_t *o = json_pack("{s:s, s:s, s:o, s:b, s:o, s:I, s:I, s:o, s:O}", "name", s->job->name, "type", space_type(s->job->space) == SPACE_LM ? "lm" : "custom",
                          "size", isinf(size) ? json_null() : json_real(size), "exact", exact, "knobs", space_describe_json(s->job->space), "drawn",
                          (json_int_t)s->draws, "different", (json_int_t)json_object_size(s->seen), "ranges", ranges, "sample", s->rows);
    if (*space_taken(s->job->space)) json_object_set_new(o, "taken", taken_lines(s->job->space));
    if (s->constrained) json_object_set_new(o, "fitting", json_integer(s->fitting));
    int rc = out_json(o);
    json_decref(o);
    return rc;
}

static int run(struct cli *c)
{
    struct survey s = {0};
    struct jobfile f;
    struct base_err err = BASE_ERR_INIT;
    long want = (long)cli_int(c, "sample", 10, 0, SAMPLE_MAX);
    uint64_t seed = (uint64_t)cli_int(c, "seed", 1, 0, INT64_C(1) << 53);
    int rc = c->bad ? c->bad : jobfile_read(&f, c->arg[0]);
    if (rc) return rc;
    s.job = f.job;
    choose_costs(&s);
    st_t st = draw(&s, seed, want, &err);
    for (int i = 0; !st && i < s.ncosts; i++) qsort(s.value[i], (size_t)s.draws, sizeof *s.value[i], compare);
    if (st) {
        if (!*err.what) base_err_set(&err, st, "space", "%s", base_status_text(st));
        rc = cli_fail_err(CLI_FAILED, c->arg[0], NULL, &err);
    } else if (c->json) {
        rc = print_json(&s);
    } else {
        print_size(&s);
        putchar('\n');
        print_knobs(s.job->space);
        print_taken(&f);
        print_ranges(&s);
        print_sample(&s);
    }
    for (int i = 0; i < s.ncosts; i++) free(s.value[i]);
    json_decref(s.rows);
    json_decref(s.seen);
    jobfile_fini(&f);
    return rc;
}

const struct cli_cmd cmd_space = {.name = "space",
                                  .args = "JOB.json",
                                  .summary = "what a job's space holds: its size, its knobs, paper costs, a sample of candidates",
                                  .help = "  taut space job.json\n"
                                          "  taut space job.json --sample 30 --seed 7\n"
                                          "  taut space job.json --json | jq .ranges\n"
                                          "Nothing is trained, and the job's data is not looked at. Ranges are those of at least 1000 random draws, as random search makes them.\n",
                                  .options = options,
                                  .min_args = 1,
                                  .max_args = 1,
                                  .run = run};
