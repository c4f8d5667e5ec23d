/* taut score: an architecture's proxies, without training it. */
#include <string.h>

#include "cli/archarg.h"
#include "cli/cli.h"
#include "cli/dataarg.h"
#include "cli/format.h"
#include "cli/out.h"
#include "cli/table.h"
#include "cli/term.h"
#include "evaluator/fingerprint.h"
#include "evaluator/score.h"

#define PROXIES_MAX 32

static const struct cli_opt options[] = {
    DATAARG_DATA,
    DATAARG_VALID,
    DATAARG_VOCAB,
    {"proxies", 'p', "A,…", "which, as in a job's \"proxies\" (default: all)", false},
    {"seed", 0, "N", "of first weights, as a job's (default: 1)", false},
    {"threads", 't', "N", "to compute with (default: all CPUs of this process); the scores are the same", false},
    {"device", 0, "NAME", "cpu (default), cuda:N", false},
    {0},
};

struct score {
    struct cli *c;
    struct arch arch;
    struct data *data;
    struct kn_dev *dev;
    uint64_t seed;
    struct metric metric[PROXIES_MAX];
    struct proxy_result got[PROXIES_MAX];
    int n;
};

static int add(struct score *s, const char *name)
{
    struct base_err err = BASE_ERR_INIT;
    if (s->n == PROXIES_MAX) return cli_fail(CLI_CALL, "--proxies", NULL, "more than %d", PROXIES_MAX);
    st_t st = space_proxy_parse(&s->metric[s->n], name, "--proxies", &err);
    if (st) return cli_fail_err(CLI_CALL, NULL, NULL, &err);
    for (int i = 0; i < s->n; i++)
        if (!strcmp(s->metric[i].name, s->metric[s->n].name)) return cli_fail(CLI_CALL, "--proxies", NULL, "'%s' stands there twice", name);
    s->n++;
    return CLI_OK;
}

static int read_options(struct score *s)
{
    char name[METRIC_NAME_MAX];
    const char *list = cli_str(s->c, "proxies", NULL);
    bool text = false;
    int rc = CLI_OK;
    s->seed = (uint64_t)cli_int(s->c, "seed", 1, 0, INT64_C(1) << 53);
    cli_int(s->c, "vocab", 0, 2, 65536);
    cli_int(s->c, "threads", 0, 1, 1024);
    if (s->c->bad) return s->c->bad;
    for (int i = 0; !list && !rc && i < proxy_count(); i++) rc = add(s, proxy_name(i));
    for (const char *comma; list && !rc; list = comma ? comma + 1 : NULL) {
        comma = strchr(list, ',');
        snprintf(name, sizeof name, "%.*s", (int)strcspn(list, ","), list);
        rc = add(s, name);
    }
    for (int i = 0; i < s->n; i++) text |= !proxy_on_paper(score_proxy(&s->metric[i]));
    if (!rc && text && !cli_has(s->c, "data"))
        return cli_fail(CLI_CALL, "score", "see taut score --help", "needs --data PATH, or --proxies of those that are known on paper");
    return rc;
}

static int open_device(struct score *s)
{
    struct base_err err = BASE_ERR_INIT;
    st_t st = kn_dev_open(&s->dev, cli_str(s->c, "device", "cpu"), (int)cli_int(s->c, "threads", 0, 1, 1024), &err);
    return st ? cli_fail_err(st == ST_ENOMEM ? CLI_FAILED : CLI_CALL, "score", "give --device cpu", &err) : CLI_OK;
}

static int work(struct score *s)
{
    struct base_err err = BASE_ERR_INIT;
    st_t st = score_run(&s->arch, s->data, s->dev, s->seed, s->metric, s->n, s->got, &err);
    if (!st) return CLI_OK;
    if (!*err.what) base_err_set(&err, st, err.where, "%s", base_status_text(st));
    return cli_fail_err(dataarg_exit(st), "score", NULL, &err);
}

static int print_json(const struct score *s)
{
    char id[BASE_ID_HEX];
    json_t *metrics = json_object();
    space_arch_id(&s->arch, id);
    for (int i = 0; i < s->n; i++)
        json_object_set_new(metrics, s->metric[i].name, s->got[i].st ? json_pack("{s:s}", "unavailable", s->got[i].err.what) : json_real(s->got[i].value));
    json_t *o = json_pack("{s:s, s:I, s:o, s:o}", "arch_id", id, "seed", (json_int_t)s->seed, "device", fingerprint_json(s->dev), "metrics", metrics);
    int rc = out_json(o);
    json_decref(o);
    return rc;
}

static int print(const struct score *s)
{
    struct table t = TABLE_INIT;
    struct base_buf b = BASE_BUF_INIT;
    char text[FMT_MAX];
    out_arch(&s->arch, &b);
    printf("%s\n\n", b.p ? b.p : "");
    base_buf_fini(&b);
    t.indent = 2;
    table_column(&t, "metric", TABLE_LEFT);
    table_column(&t, "score", TABLE_RIGHT);
    table_column(&t, "", TABLE_CUT);
    for (int i = 0; i < s->n; i++) {
        const struct proxy_result *r = &s->got[i];
        table_row(&t);
        table_cell(&t, "%s", s->metric[i].name);
        table_cell(&t, "%s", r->st ? term_signs()->dash : fmt_metric(text, s->metric[i].name, r->value));
        table_cell(&t, "%s", r->st ? r->err.what : "");
    }
    table_print(&t, stdout);
    table_fini(&t);
    return CLI_OK;
}

static int run(struct cli *c)
{
    static struct score s;
    s = (struct score){.c = c};
    int rc = read_options(&s);
    if (!rc) rc = archarg_read(c, c->arg[0], &s.arch, NULL);
    if (!rc && cli_has(c, "data")) rc = dataarg_open(c, &s.arch, &s.data);
    if (!rc) rc = open_device(&s);
    if (!rc) rc = work(&s);
    if (!rc) rc = c->json ? print_json(&s) : print(&s);
    kn_dev_close(s.dev);
    data_close(s.data);
    return rc;
}

const struct cli_cmd cmd_score = {.name = "score",
                                  .args = "ARCH",
                                  .summary = "scores of an untrained architecture, in seconds",
                                  .help = "  taut score arch.json --data corpus.txt\n"
                                          "  taut score 17 --dir search --data corpus.txt --proxies snip,synflow,naswot --json\n"
                                          "  taut score arch.json --proxies params,decoder_params,flops      known on paper: no text is needed\n"
                                          "Proxies: params, decoder_params, flops, gradnorm, snip, grasp, synflow, fisher, jacov, naswot, zico, dss, wpca; docs/proxies.md says what each is.\n"
                                          "More is better, as those who published them had it. They are the numbers that a search reports as proxy.NAME where its text, held-out share,\n"
                                          "seed and device are the same. What does not apply to an architecture has a dash, and why.\n",
                                  .options = options,
                                  .min_args = 1,
                                  .max_args = 1,
                                  .run = run};
