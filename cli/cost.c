/* taut cost: what an architecture costs on paper, layer by layer. */
#include <string.h>

#include "cli/archarg.h"
#include "cli/cli.h"
#include "cli/format.h"
#include "cli/out.h"
#include "cli/stack.h"
#include "cli/table.h"
#include "cli/term.h"
#include "model/model.h"

#define CONTEXTS_MAX 16
#define STATE_COLUMNS 3 /* of the layers' table */

static const struct cli_opt options[] = {
    {"context", 'c', "L,…", "contexts to count state and FLOPs at (default: 128,1024,4096)", false},
    {"batch", 'b', "N", "sequences a training step (default: 16)", false},
    {"precision", 0, "auto|f32|bf16", "of products in training: this machine's fastest (default), or this", false},
    {0},
};

struct cost {
    const struct arch *a;
    struct arch_cost total;
    int64_t context[CONTEXTS_MAX];
    int n, batch;
    enum kn_dtype precision; /* of products in training */
    double train_bytes;
};

/* Decoding one token after `context` of them: weights, state and what a pass needs. */
static double infer_bytes(const struct arch *a, int64_t context)
{
    return (double)model_plan_bytes(a, &(struct model_opts){.batch = 0}) + (double)model_state_plan_bytes(a, 1, context + 1);
}

static json_t *by_context(const struct cost *k, double (*f)(const struct arch *, int64_t))
{
    json_t *o = json_object();
    char key[24];
    for (int i = 0; i < k->n; i++) {
        snprintf(key, sizeof key, "%lld", (long long)k->context[i]);
        json_object_set_new(o, key, json_real(f(k->a, k->context[i])));
    }
    return o;
}

static int print_json(const struct cost *k, const struct stack *s)
{
    struct base_buf b = BASE_BUF_INIT;
    char id[BASE_ID_HEX];
    space_arch_canonical(k->a, &b);
    space_arch_id(k->a, id);
    json_t *o = json_pack("{s:s, s:o?, s:f, s:f, s:f, s:f, s:o, s:o, s:o, s:o, s:i, s:f, s:s, s:o}", "arch_id", id, "arch", b.p ? json_loads(b.p, 0, NULL) : NULL,
                          "params", k->total.params, "active_params", k->total.active_params, "flops_per_token", k->total.flops_per_token, "weight_bytes",
                          k->total.weight_bytes, "state_bytes", by_context(k, space_arch_state_bytes), "decode_flops", by_context(k, space_arch_decode_flops),
                          "prefill_flops", by_context(k, space_arch_prefill_flops), "infer_bytes_planned", by_context(k, infer_bytes), "batch", k->batch,
                          "train_bytes_planned", k->train_bytes, "train_precision", kn_dtype_name(k->precision), "layers", stack_json(s, k->context, k->n));
    int rc = out_json(o);
    json_decref(o);
    base_buf_fini(&b);
    return rc;
}

static void line(const char *name, const char *value, const char *what)
{
    printf("  %-16s%s%10s%s  %s%s%s\n", name, term_style(TERM_BOLD), value, term_style(TERM_PLAIN), term_style(TERM_DIM), what, term_style(TERM_PLAIN));
}

static void print_contexts(const struct cost *k)
{
    struct table t = TABLE_INIT;
    char buf[FMT_MAX];
    t.indent = 2;
    table_column(&t, "context", TABLE_RIGHT);
    table_column(&t, "state", TABLE_RIGHT);
    table_column(&t, "FLOP to decode a token", TABLE_RIGHT);
    table_column(&t, "FLOP to prefill", TABLE_RIGHT);
    table_column(&t, "memory to decode", TABLE_RIGHT);
    for (int i = 0; i < k->n; i++) {
        int64_t L = k->context[i];
        table_row(&t);
        table_cell(&t, "%s", fmt_count(buf, (double)L));
        table_cell(&t, "%s", fmt_bytes(buf, space_arch_state_bytes(k->a, L)));
        table_cell(&t, "%s", fmt_short(buf, space_arch_decode_flops(k->a, L)));
        table_cell(&t, "%s", fmt_short(buf, space_arch_prefill_flops(k->a, L)));
        table_cell(&t, "%s", fmt_bytes(buf, infer_bytes(k->a, L)));
    }
    table_print(&t, stdout);
    table_fini(&t);
}

static int print(const struct cost *k, const struct stack *s)
{
    struct base_buf b = BASE_BUF_INIT;
    char id[BASE_ID_HEX], buf[FMT_MAX], text[160];
    out_arch(k->a, &b);
    space_arch_id(k->a, id);
    printf("%s%.8s%s  %s\n\n", term_style(TERM_BOLD), id, term_style(TERM_PLAIN), b.p ? b.p : "");
    base_buf_fini(&b);
    if (k->total.active_params != k->total.params) snprintf(text, sizeof text, "of which a token uses %s", fmt_count(buf, k->total.active_params));
    else snprintf(text, sizeof text, "%s", k->a->tie ? "the head is the embedding again" : "");
    line("parameters", fmt_count(buf, k->total.params), text);
    line("weights", fmt_bytes(buf, k->total.weight_bytes), "in f32");
    snprintf(text, sizeof text, "forward, mean over a window of %d tokens", k->a->context);
    line("FLOP a token", fmt_short(buf, k->total.flops_per_token), text);
    snprintf(text, sizeof text, "weights, gradients, optimiser and activations at %d x %d tokens a step, products in %s", k->batch, k->a->context, kn_dtype_name(k->precision));
    line("to train", fmt_bytes(buf, k->train_bytes), text);
    putchar('\n');
    stack_print(s, k->context, k->n < STATE_COLUMNS ? k->n : STATE_COLUMNS, 2);
    putchar('\n');
    print_contexts(k);
    return CLI_OK;
}

/* As `taut train` has it on this machine, if nothing else is asked for. */
static int choose_precision(struct cost *k, const struct cli *c)
{
    struct base_err err = BASE_ERR_INIT;
    struct kn_dev *dev;
    const char *wanted = cli_str(c, "precision", "auto");
    k->precision = strcmp(wanted, "bf16") ? KN_F32 : KN_BF16;
    if (strcmp(wanted, "auto")) return CLI_OK;
    if (kn_dev_open(&dev, "cpu", 1, &err)) return cli_fail_err(CLI_FAILED, "cost", "give --precision", &err);
    k->precision = dev->info.fastest;
    kn_dev_close(dev);
    return CLI_OK;
}

static int run(struct cli *c)
{
    struct arch a;
    struct cost k = {.a = &a};
    static struct stack s;
    k.n = cli_int_list(c, "context", "128,1024,4096", 1, k.context, CONTEXTS_MAX);
    k.batch = (int)cli_int(c, "batch", 16, 1, 1 << 20);
    int rc = c->bad ? c->bad : archarg_contexts(c, k.context, k.n);
    if (!rc) rc = archarg_read(c, c->arg[0], &a, NULL);
    if (!rc) rc = choose_precision(&k, c);
    if (rc) return rc;
    space_arch_cost(&a, &k.total);
    k.train_bytes = (double)model_plan_bytes(&a, &(struct model_opts){.train = true, .batch = k.batch, .precision = k.precision});
    stack_make(&s, &a);
    return c->json ? print_json(&k, &s) : print(&k, &s);
}

const struct cli_cmd cmd_cost = {.name = "cost",
                                 .args = "ARCH",
                                 .summary = "what an architecture costs on paper, layer by layer: parameters, FLOPs, bytes, state by context length",
                                 .help = "  taut cost arch.json\n"
                                         "  taut cost arch.json --context 256,65536 --json\n"
                                         "  taut cost 3f2a91c0 --dir search          an architecture of a store, by the first digits of its id\n"
                                         "All exact, weights and state in f32; nothing is trained or timed. Memory to train goes by the precision of its products: bf16 keeps some of\n"
                                         "what lies between them in half the bytes. FLOPs are those of the products and of attention over the pairs that its mask\n"
                                         "lets through, a multiply-add counting 2. A part's norm counts with the part. The scratch memory of the kernels comes on top.\n",
                                 .options = options,
                                 .min_args = 1,
                                 .max_args = 1,
                                 .run = run};
