/* taut bench models: training, decoding and prefill of whole models. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "cli/bench.h"
#include "cli/bench_child.h"
#include "cli/format.h"
#include "cli/interrupt.h"
#include "cli/progress.h"
#include "cli/term.h"
#include "model/model.h"

#define CONTEXTS 3

struct speed { /* at one context */
    int64_t context;
    struct kn_rate decode_ns, prefill_ns;
    double bound_ns, prefill_share;
};

struct whole {
    struct bench *b;
    int model;
    struct arch a;
    char missing[160];            /* not built, and why; the rest means nothing then */
    int64_t params;
    double flops;                 /* of a trained token */
    struct kn_rate product;       /* flop/s, in the precision of training … */
    struct kn_rate product_f32;   /* … and in f32, as decoding and prefill compute */
    struct kn_rate rate, rate1;   /* tokens/s, of all threads and of one */
    uint64_t planned, process;    /* bytes of a training step: asked of the device; the whole process, 0: not known */
    double share;                 /* of product */
    double others_train, others_decode;
    int nspeed;
    struct speed speed[CONTEXTS];
};

static void text_of(int32_t *p, int64_t n)
{
    struct base_rng r = base_rng_at(1, RNG_TEST, 1);
    for (int64_t i = 0; i < n; i++) p[i] = (int32_t)base_rng_below(&r, BENCH_VOCAB);
}

/* Whole training steps for some seconds. */
static st_t train(struct whole *w, struct kn_dev *dev, double seconds, struct kn_rate *rate, uint64_t *planned, struct base_err *err)
{
    struct bench *b = w->b;
    struct model *m = NULL;
    int64_t n = (int64_t)b->batch * b->context;
    int32_t *x = malloc((size_t)(n + 1) * sizeof *x);
    struct bench_timer t = bench_timer_of(b);
    struct model_hyper h = {1e-4, 1, 0.9, 0.95, 1e-8, 0.1, 1};
    kn_trim(dev);
    kn_peak_reset(dev);
    uint64_t before = kn_dev_bytes(dev);
    st_t st = x ? model_new(&m, &w->a, dev, &(struct model_opts){.train = true, .batch = b->batch, .precision = b->precision}, err) : ST_ENOMEM;
    if (!st) st = model_init(m, 1);
    if (!st) {
        w->params = model_param_count(m);
        text_of(x, n + 1);
        t.least = b->quick ? 2 : 3;
        t.round_ns = 0; /* a step is a round */
        t.all_ns = b->quick ? 0 : seconds * 1e9;
        double loss, norm;
        while (bench_more(&t)) {
            progress_draw(b->c, NAN, "training model %s on %d thread%s   step %d", bench_presets[w->model].name, dev->info.threads, dev->info.threads == 1 ? "" : "s",
                          t.n > 0 ? t.n + 1 : 1);
            t.st = model_train_begin(m, x, x + 1, b->batch, b->context, &h);
            if (!t.st) t.st = model_train_end(m, &loss, &norm);
        }
        st = t.st;
    }
    if (!st && t.n > 0) {
        struct kn_rate ns = bench_timer_ns(&t);
        double tokens = (double)n * 1e9;
        *rate = (struct kn_rate){tokens / ns.median, tokens / ns.high, tokens / ns.low};
    }
    if (!st && planned) *planned = kn_dev_peak(dev) - before;
    model_free(m);
    kn_trim(dev);
    free(x);
    return st;
}

static st_t decode(struct whole *w, struct kn_dev *dev, struct speed *s, struct base_err *err)
{
    struct bench *b = w->b;
    struct model *m = NULL;
    struct model_state *state = NULL;
    int32_t *x = malloc((size_t)s->context * sizeof *x);
    float logits[BENCH_VOCAB];
    st_t st = x ? model_new(&m, &w->a, dev, &(struct model_opts){.batch = 0}, err) : ST_ENOMEM;
    if (!st) st = model_init(m, 1);
    if (!st) st = model_state_new(&state, m, 1, s->context + 1, err);
    if (!st) {
        struct bench_timer t = bench_timer_of(b), p = bench_timer_of(b);
        text_of(x, s->context);
        progress_draw(b->c, NAN, "model %s, context %lld", bench_presets[w->model].name, (long long)s->context);
        p.least = 3, p.round_ns = 0, p.all_ns *= 5;
        while (bench_more(&p)) {
            model_state_seek(state, 0);
            p.st = model_decode(state, x, (int)s->context, logits);
        }
        st = p.st;
        if (!st) st = model_state_fill(state, s->context);
        t.all_ns *= 3;
        while (!st && bench_more(&t)) {
            model_state_seek(state, s->context);
            t.st = model_decode(state, x, 1, logits);
        }
        if (!st) st = t.st;
        double bytes = bench_decode_bytes(&w->a, s->context), product = w->product_f32.high;
        s->decode_ns = bench_timer_ns(&t);
        s->prefill_ns = bench_timer_ns(&p);
        s->bound_ns = bytes / kn_limits_bandwidth(&b->limits, bytes, KN_LIMIT_READ, 1) * 1e9;
        s->prefill_share = space_arch_prefill_flops(&w->a, s->context) / (s->prefill_ns.median * 1e-9) / product;
    }
    model_state_free(state);
    model_free(m);
    free(x);
    return st;
}

/* Two steps in a process of their own. */
static st_t memory(struct whole *w)
{
    struct base_buf arch = BASE_BUF_INIT;
    json_t *end = NULL;
    space_arch_canonical(&w->a, &arch);
    st_t st = arch.st ? arch.st : bench_train_process(w->b, arch.p, w->a.context, 2, &end, NULL);
    if (!st) w->process = (uint64_t)json_integer_value(json_object_get(end, "process_bytes"));
    json_decref(end);
    base_buf_fini(&arch);
    return st;
}

static st_t measure(struct whole *w, struct kn_dev *one, struct base_err *err)
{
    struct bench *b = w->b;
    struct bench_busy y;
    if (!bench_begin(b, &y, NULL)) return ST_ECANCELED;
    base_pool_pin(b->dev->pool, 1);
    w->product = bench_product(b, b->dev, b->precision);
    st_t st = train(w, b->dev, 4, &w->rate, &w->planned, err);
    if (!st && one && !interrupted) st = train(w, one, 3, &w->rate1, NULL, err);
    struct kn_rate after = bench_product(b, b->dev, b->precision); /* the better of before and after: what the machine can do */
    if (after.high > w->product.high) w->product = after;
    w->share = w->rate.median * w->flops / w->product.high;
    base_pool_pin(b->dev->pool, 0);
    w->others_train = bench_end(b, &y);
    if (!st && !interrupted && !bench_begin(b, &y, NULL)) return ST_ECANCELED;
    if (st || interrupted) return st ? st : ST_ECANCELED;
    base_pool_pin(b->dev->pool, 1);
    w->product_f32 = bench_product(b, b->dev, KN_F32);
    static const int contexts[CONTEXTS] = {128, 1024, 4096};
    for (int i = 0; !st && !interrupted && i < (b->quick ? 1 : CONTEXTS); i++) {
        w->speed[w->nspeed].context = contexts[i];
        st = decode(w, b->dev, &w->speed[w->nspeed], err);
        if (!st) w->nspeed++;
    }
    base_pool_pin(b->dev->pool, 0);
    w->others_decode = bench_end(b, &y);
    if (!st && !interrupted) memory(w); /* without it: a dash */
    return interrupted ? ST_ECANCELED : st;
}

/* ---- printing ---- */

static json_t *speed_json(const struct speed *s)
{
    return json_pack("{s:I, s:o, s:f, s:f, s:o, s:f}", "context", (json_int_t)s->context, "decode_ms", bench_rate_json(&s->decode_ns, 1e-6), "bound_ms", s->bound_ns * 1e-6,
                     "to_bound", s->decode_ns.median / s->bound_ns, "prefill_ms", bench_rate_json(&s->prefill_ns, 1e-6), "prefill_share", s->prefill_share);
}

static json_t *whole_json(const struct whole *w)
{
    const struct bench_preset *p = &bench_presets[w->model];
    json_t *o = json_pack("{s:s, s:s}", "model", p->name, "what", p->what), *speeds = json_array();
    if (*w->missing) {
        json_object_set_new(o, "not_built", json_string(w->missing));
        json_decref(speeds);
        return o;
    }
    for (int i = 0; i < w->nspeed; i++) json_array_append_new(speeds, speed_json(&w->speed[i]));
    json_object_update_new(o, json_pack("{s:I, s:f, s:o, s:f, s:o, s:I, s:f, s:o, s:f}", "params", (json_int_t)w->params, "flops_per_token", w->flops, "tokens_per_s",
                                        bench_rate_json(&w->rate, 1), "share", w->share, "product_flops", bench_rate_json(&w->product, 1), "train_bytes",
                                        (json_int_t)w->planned, "others", w->others_train, "decode", speeds, "others_decode", w->others_decode));
    if (w->process) json_object_set_new(o, "process_bytes", json_integer((json_int_t)w->process));
    if (w->rate1.median > 0) json_object_update_new(o, json_pack("{s:o, s:f}", "tokens_per_s_1", bench_rate_json(&w->rate1, 1), "scaling", w->rate.median / w->rate1.median));
    return o;
}

static void print_training(const struct whole *w, int n)
{
    struct table t = TABLE_INIT;
    const struct bench *b = w->b;
    char x[96];
    bench_section(b, "\ntraining, %d x %d tokens a step, %s products", b->batch, b->context, kn_dtype_name(b->precision));
    t.indent = 2;
    table_column(&t, "model", TABLE_LEFT);
    table_column(&t, "parameters", TABLE_RIGHT);
    table_column(&t, "tokens/s (least to most)", TABLE_RIGHT);
    table_column(&t, "Mflop a token", TABLE_RIGHT);
    table_column(&t, "product GFLOP/s", TABLE_RIGHT);
    table_column(&t, "share of it", TABLE_RIGHT);
    table_column(&t, "on 1 thread", TABLE_RIGHT);
    table_column(&t, "scaling", TABLE_RIGHT);
    table_column(&t, "planned", TABLE_RIGHT);
    table_column(&t, "process", TABLE_RIGHT);
    table_column(&t, "others", TABLE_RIGHT);
    for (int i = 0; i < n; i++, w++) {
        table_row(&t);
        table_cell(&t, "%s", bench_presets[w->model].name);
        if (*w->missing) {
            table_cell(&t, "not built");
            continue;
        }
        table_cell(&t, "%s", fmt_short(x, (double)w->params));
        table_cell(&t, "%s", bench_spread(x, sizeof x, &w->rate, 1));
        table_cell(&t, "%.2f", w->flops * 1e-6);
        table_cell(&t, "%.1f", w->product.high * 1e-9);
        table_cell(&t, "%.2f", w->share);
        if (w->rate1.median > 0) {
            table_cell(&t, "%s", bench_spread(x, sizeof x, &w->rate1, 1));
            table_cell(&t, "%.2f", w->rate.median / w->rate1.median);
        } else {
            table_cell(&t, "%s", term_signs()->dash);
            table_cell(&t, "%s", term_signs()->dash);
        }
        table_cell(&t, "%s", fmt_bytes(x, (double)w->planned));
        table_cell(&t, "%s", w->process ? fmt_bytes(x, (double)w->process) : term_signs()->dash);
        table_cell(&t, "%.0f %%", 100 * w->others_train);
    }
    table_print(&t, stdout);
    table_fini(&t);
    printf("  share = tokens/s x operations a token / what a product of " BENCH_PRODUCT " reached (its best round)\n  " BENCH_FORMULA "\n");
}

static void print_decoding(const struct whole *w, int n)
{
    struct table t = TABLE_INIT;
    char x[96];
    bench_section(w->b, "\ndecoding one sequence, and prefill");
    t.indent = 2;
    table_column(&t, "model", TABLE_LEFT);
    table_column(&t, "at context", TABLE_RIGHT);
    table_column(&t, "ms a token (least to most)", TABLE_RIGHT);
    table_column(&t, "reads", TABLE_RIGHT);
    table_column(&t, "bound, ms", TABLE_RIGHT);
    table_column(&t, "x bound", TABLE_RIGHT);
    table_column(&t, "prefill, ms", TABLE_RIGHT);
    table_column(&t, "of an f32 product", TABLE_RIGHT);
    table_column(&t, "others", TABLE_RIGHT);
    for (int i = 0; i < n; i++, w++)
        for (int k = 0; k < w->nspeed; k++) {
            const struct speed *s = &w->speed[k];
            table_row(&t);
            table_cell(&t, "%s", bench_presets[w->model].name);
            table_cell(&t, "%lld", (long long)s->context);
            table_cell(&t, "%.3f (%.3f to %.3f)", s->decode_ns.median * 1e-6, s->decode_ns.low * 1e-6, s->decode_ns.high * 1e-6);
            table_cell(&t, "%s", fmt_bytes(x, bench_decode_bytes(&w->a, s->context)));
            table_cell(&t, "%.3f", s->bound_ns * 1e-6);
            table_cell(&t, "%.2f", s->decode_ns.median / s->bound_ns);
            table_cell(&t, "%s", bench_spread(x, sizeof x, &s->prefill_ns, 1e-6));
            table_cell(&t, "%.2f", s->prefill_share);
            table_cell(&t, "%.0f %%", 100 * w->others_decode);
        }
    table_print(&t, stdout);
    table_fini(&t);
    printf("  bound = bytes of the weights that a token uses and of its state / this machine's reading at a working set of that size\n");
}

int bench_whole(struct bench *b)
{
    static struct whole all[BENCH_MODELS];
    struct base_err err = BASE_ERR_INIT;
    struct kn_dev *one = NULL;
    int n = 0, rc = CLI_OK;
    memset(all, 0, sizeof all);
    if (b->dev->info.threads > 1 && kn_dev_open(&one, cli_str(b->c, "device", "cpu"), 1, &err)) return cli_fail_err(CLI_FAILED, "bench", NULL, &err);
    for (int i = 0; !rc && i < BENCH_MODELS; i++) {
        struct whole *w = &all[n];
        if (!b->model[i]) continue;
        *w = (struct whole){.b = b, .model = i};
        st_t st = bench_arch(i, b->context, &w->a, &err);
        n++;
        if (st == ST_ENOTSUP) {
            snprintf(w->missing, sizeof w->missing, "%.*s", (int)base_utf8_cut(err.what, sizeof w->missing - 1), err.what);
            continue;
        }
        if (!st) w->flops = bench_train_flops(&w->a), st = measure(w, one, &err);
        if (st == ST_ECANCELED) rc = interrupt_status();
        else if (st) rc = cli_fail_err(CLI_FAILED, bench_presets[i].name, NULL, &err);
    }
    progress_clear(b->c);
    kn_dev_close(one);
    if (rc) return rc;
    if (b->json) {
        json_t *list = json_array();
        for (int i = 0; i < n; i++) json_array_append_new(list, whole_json(&all[i]));
        json_object_set_new(b->json, "models", list);
        json_object_set_new(b->json, "formula", json_string(BENCH_FORMULA));
        return CLI_OK;
    }
    print_training(all, n);
    print_decoding(all, n);
    return CLI_OK;
}
