/* taut bench: kernels and whole models on this machine, as shares of what it gives. */
#include "config.h"

#include <math.h>
#include <string.h>

#include "base/clock.h"
#include "cli/bench_compare.h"
#include "cli/format.h"
#include "cli/interrupt.h"
#include "cli/out.h"
#include "cli/progress.h"
#include "evaluator/fingerprint.h"

static const struct cli_opt options[] = {
    {"model", 'm', "a,…", "models to measure, of a, b, c, d, e (default: all)", false},
    {"op", 0, "WORD", "of ops, those with this word in name, pass or shape", false},
    {"threads", 't', "N", "to compute with (default: all CPUs of this process)", false},
    {"precision", 0, "auto|f32|bf16", "of products in training: the device's fastest (default), or this", false},
    {"device", 0, "NAME", "cpu (default)", false},
    {"quick", 0, NULL, "tiny sizes, to see that all is there; the times mean nothing", false},
    {"compare-torch", 0, NULL, "instead: the models here, in PyTorch and in llama.cpp, in turns ($TAUT_TORCH_PYTHON, else python3; $TAUT_LLAMA_BENCH, else llama-bench)", false},
    {"rounds", 0, "N", "of the comparison (default: 5)", false},
    {"wall-steps", 0, "N", "of the comparison's wall clock, from process start (default: 200)", false},
    {"skip", 0, "wall,…", "parts of the comparison to leave out, of wall, decode, memory, torch, llama", false},
    {0},
};

static int read_models(struct bench *b)
{
    const char *list = cli_str(b->c, "model", "a,b,c,d,e");
    for (const char *p = list; *p;) {
        size_t n = strcspn(p, ",");
        int found = -1;
        for (int i = 0; i < BENCH_MODELS; i++)
            if (strlen(bench_presets[i].name) == n && !memcmp(bench_presets[i].name, p, n)) found = i;
        if (found < 0) return cli_fail(CLI_CALL, "bench", "give some of a, b, c, d, e", "--model: there is no model '%.*s'", (int)n, p);
        if (b->model[found]) return cli_fail(CLI_CALL, "bench", NULL, "--model: %s stands twice", bench_presets[found].name);
        b->model[found] = true;
        p += n;
        if (*p == ',' && !p[1]) return cli_fail(CLI_CALL, "bench", "give some of a, b, c, d, e", "--model: there is no model ''");
        p += *p == ',';
    }
    return *list ? CLI_OK : cli_fail(CLI_CALL, "bench", "give some of a, b, c, d, e", "--model is empty");
}

enum { LIMITS = 1, OPS = 2, MODELS = 4, COMPARE = 8 };

static int read_sections(struct bench *b, int *sections)
{
    static const char *const names[] = {"limits", "ops", "models"};
    static const char *const of_comparison[] = {"rounds", "wall-steps", "skip"}, *const parts[] = {"wall", "decode", "memory", "torch", "llama"};
    enum { PARTS = sizeof parts / sizeof parts[0] };
    bool compare = cli_has(b->c, "compare-torch");
    *sections = compare ? COMPARE : b->c->nargs ? 0 : LIMITS | OPS | MODELS;
    for (int i = 0; !compare && i < 3; i++)
        if (cli_has(b->c, of_comparison[i])) return cli_fail(CLI_CALL, "bench", NULL, "--%s: means something with --compare-torch alone", of_comparison[i]);
    for (const char *p = b->skip; *p; p += strcspn(p, ","), p += *p == ',') {
        size_t n = strcspn(p, ",");
        int k = 0;
        while (k < PARTS && !(strlen(parts[k]) == n && !memcmp(p, parts[k], n))) k++;
        if (k == PARTS) return cli_fail(CLI_CALL, "bench", "give some of wall, decode, memory, torch, llama", "--skip: there is no part '%.*s'", (int)n, p);
    }
    if (compare_skipped(b, "torch") && compare_skipped(b, "llama")) return cli_fail(CLI_CALL, "bench", "leave one of them", "--skip: without torch and llama nothing is left");
    for (int i = 0; i < b->c->nargs; i++) {
        int k = 0;
        while (k < 3 && strcmp(b->c->arg[i], names[k])) k++;
        if (k == 3) return cli_fail(CLI_CALL, "bench", "give limits, ops or models", "there is no part '%s'", b->c->arg[i]);
        if (compare) return cli_fail(CLI_CALL, "bench", "leave it out", "--compare-torch compares whole models: '%s' is no part of it", b->c->arg[i]);
        *sections |= 1 << k;
    }
    if (*b->op && !(*sections & OPS)) return cli_fail(CLI_CALL, "bench", "add ops", "--op: is of ops alone");
    return CLI_OK;
}

/* ---- limits ---- */

static json_t *limits_json(const struct bench *b, double others)
{
    const struct kn_limits *l = &b->limits;
    json_t *peaks = json_array(), *sets = json_array();
    for (int i = 0; i < l->npeak; i++)
        json_array_append_new(peaks, json_pack("{s:s, s:s, s:o, s:o}", "isa", l->peak[i].isa, "dtype", kn_dtype_name(l->peak[i].dtype), "flops_1",
                                               bench_rate_json(&l->peak[i].flops[0], 1), "flops", bench_rate_json(&l->peak[i].flops[1], 1)));
    for (int i = 0; i < l->nset; i++) {
        const struct kn_limit_set *s = &l->set[i];
        json_array_append_new(sets, json_pack("{s:I, s:s, s:o, s:o, s:o, s:o}", "bytes", (json_int_t)s->bytes, "level", s->level, "read_1",
                                              bench_rate_json(&s->rate[KN_LIMIT_READ][0], 1), "read", bench_rate_json(&s->rate[KN_LIMIT_READ][1], 1), "copy_1",
                                              bench_rate_json(&s->rate[KN_LIMIT_COPY][0], 1), "copy", bench_rate_json(&s->rate[KN_LIMIT_COPY][1], 1)));
    }
    return json_pack("{s:i, s:o, s:o, s:o, s:f}", "rounds", l->rounds, "products", peaks, "memory", sets, "fork_join_ns", bench_rate_json(&l->fork_ns, 1), "others", others);
}

static void limits_print(const struct bench *b, double others)
{
    const struct kn_limits *l = &b->limits;
    struct table t = TABLE_INIT, m = TABLE_INIT;
    char x[96], size[FMT_MAX], title[48];
    int threads = b->dev->info.threads;
    snprintf(title, sizeof title, "%d thread%s", threads, threads == 1 ? "" : "s");
    bench_section(b, "limits, as median (least to most) of %d rounds; others took %.0f %% of the CPUs", l->rounds, 100 * others);
    t.indent = m.indent = 2;
    table_column(&t, "multiply-adds from registers, GFLOP/s", TABLE_LEFT);
    table_column(&t, "1 thread", TABLE_RIGHT);
    table_column(&t, title, TABLE_RIGHT);
    for (int i = 0; i < l->npeak; i++) {
        table_row(&t);
        table_cell(&t, "%s, %s", kn_dtype_name(l->peak[i].dtype), l->peak[i].isa);
        for (int all = 0; all < 2; all++) table_cell(&t, "%s", bench_spread(x, sizeof x, &l->peak[i].flops[all], 1e-9));
    }
    table_print(&t, stdout);
    table_fini(&t);
    putchar('\n');
    table_column(&m, "working set, GB/s", TABLE_LEFT);
    table_column(&m, "", TABLE_LEFT);
    table_column(&m, "read, 1 thread", TABLE_RIGHT);
    table_column(&m, title, TABLE_RIGHT);
    table_column(&m, "copy, 1 thread", TABLE_RIGHT);
    table_column(&m, title, TABLE_RIGHT);
    for (int i = 0; i < l->nset; i++) {
        const struct kn_limit_set *s = &l->set[i];
        snprintf(size, sizeof size, "%llu KiB", (unsigned long long)s->bytes >> 10);
        if (s->bytes >> 20) snprintf(size, sizeof size, "%llu MiB", (unsigned long long)s->bytes >> 20);
        table_row(&m);
        table_cell(&m, "%s", size);
        table_cell(&m, "%s", s->level);
        for (int k = 0; k < KN_LIMIT_KINDS; k++)
            for (int all = 0; all < 2; all++) table_cell(&m, "%s", bench_spread(x, sizeof x, &s->rate[k][all], 1e-9));
    }
    table_print(&m, stdout);
    table_fini(&m);
    printf("\n  a fork and join of %s: %s us\n  a copy's bytes are those read and those written; a limit is its best round\n", title, bench_spread(x, sizeof x, &l->fork_ns, 1e-3));
    fflush(stdout);
}

static int limits(struct bench *b, bool wanted)
{
    struct bench_busy y;
    if (!bench_begin(b, &y, NULL)) return interrupt_status();
    progress_draw(b->c, NAN, "limits of this machine");
    base_pool_pin(b->dev->pool, 1);
    st_t st = kn_limits_measure(b->dev, !b->quick, &b->limits);
    base_pool_pin(b->dev->pool, 0);
    double others = bench_end(b, &y);
    if (st) return cli_fail(CLI_FAILED, "bench", NULL, "limits of this machine: %s", base_status_text(st));
    if (!wanted) return CLI_OK;
    if (b->json) json_object_set_new(b->json, "limits", limits_json(b, others));
    else limits_print(b, others);
    return CLI_OK;
}

/* ---- all of it ---- */

static int work(struct bench *b, int sections)
{
    uint64_t from = base_clock_ns();
    const struct kn_info *d = &b->dev->info;
    if (!b->c->json)
        printf("%s (%s), %d thread%s%s\n\n", d->name, d->isa, d->threads, d->threads == 1 ? "" : "s", b->quick ? "; --quick: the times mean nothing" : "");
    int rc = limits(b, sections & LIMITS);
    if (!rc && sections & OPS) rc = bench_ops(b);
    if (!rc && sections & MODELS) rc = bench_whole(b);
    if (!rc && sections & COMPARE) rc = bench_compare(b);
    if (rc) return rc;
    double seconds = (double)(base_clock_ns() - from) * 1e-9;
    if (b->json) {
        json_object_update_new(b->json, json_pack("{s:b, s:i, s:i, s:s, s:f, s:f}", "quick", b->quick, "batch", b->batch, "context", b->context, "precision",
                                                  kn_dtype_name(b->precision), "seconds", seconds, "others", b->others));
        rc = out_json(b->json);
    }
    if (b->others > BENCH_BUSY)
        cli_note(b->c, "others took up to %.0f %% of the CPUs meanwhile: these times are not this machine's; run it when nothing else does", 100 * b->others);
    return rc ? rc : b->failed ? CLI_FAILED : CLI_OK;
}

static int run(struct cli *c)
{
    struct bench b = {.c = c, .precision = KN_F32};
    struct base_err err = BASE_ERR_INIT;
    const char *device = cli_str(c, "device", "cpu"), *precision = cli_str(c, "precision", "auto");
    int sections, threads = (int)cli_int(c, "threads", 0, 1, 1024);
    b.op = cli_str(c, "op", "");
    b.skip = cli_str(c, "skip", "");
    b.rounds = (int)cli_int(c, "rounds", 5, 1, BENCH_COMPARE_ROUNDS);
    b.wall_steps = (int)cli_int(c, "wall-steps", 200, 2, 100000);
    b.quick = cli_has(c, "quick");
    b.batch = b.quick ? 2 : 16;
    b.context = b.quick ? 64 : 256;
    if (c->bad) return c->bad;
    int rc = read_sections(&b, &sections);
    if (!rc) rc = read_models(&b);
    if (!rc && sections & COMPARE) rc = bench_compare_check(&b);
    if (rc) return rc;
    interrupt_hold_stop(true);
    st_t st = kn_dev_open(&b.dev, device, threads, &err);
    interrupt_hold_stop(false);
    if (st) return cli_fail_err(st == ST_ENOMEM ? CLI_FAILED : CLI_CALL, "bench", "give --device cpu", &err);
    if (strcmp(b.dev->info.kind, "cpu")) rc = cli_fail(CLI_CALL, "bench", "give --device cpu", "--device: the limits of '%s' cannot be measured", device);
    else if (hostlock_open_for(&b.lock, b.dev, &err)) rc = cli_fail_err(CLI_FAILED, "bench", "without it other work would spoil the times", &err);
    b.precision = !strcmp(precision, "auto") ? b.dev->info.fastest : !strcmp(precision, "bf16") ? KN_BF16 : KN_F32;
    if (!rc && b.precision == KN_BF16) {
        if (!b.dev->info.bf16) rc = cli_fail(CLI_CALL, "bench", "leave it out", "--precision bf16: this machine has no products in bf16");
    }
    if (!rc) {
        interrupt_catch();
        if (c->json) b.json = json_pack("{s:o}", "device", fingerprint_json(b.dev));
        rc = work(&b, sections);
        if (rc == interrupt_status() && interrupted) cli_note(c, "stopped");
    }
    json_decref(b.json);
    hostlock_close(b.lock);
    kn_dev_close(b.dev);
    return rc;
}

const struct cli_cmd cmd_bench = {.name = "bench",
                                  .args = "[limits] [ops] [models]",
                                  .summary = "kernels and models on this machine: rate, share of its measured limits",
                                  .help = "  taut bench\n"
                                          "  taut bench limits                     what this machine gives: products, memory, threads\n"
                                          "  taut bench ops --model b              each op at that model's shapes\n"
                                          "  taut bench models --model a,b --json\n"
                                          "  taut bench --compare-torch --model a --skip wall\n"
                                          "  taut bench --compare-torch --model b --skip torch    beside llama.cpp alone\n"
                                          "A share is held against what binds: operations / peak of multiply-adds, or bytes / bandwidth at that working set, each measured first.\n"
                                          "Beside the figures stands what others took of the CPUs meanwhile; over 5 % they are worth little. Evaluators on this machine pause\n"
                                          "meanwhile. All of it takes a few minutes.\n",
                                  .options = options,
                                  .min_args = 0,
                                  .max_args = 3,
                                  .run = run};
