/* taut bench --compare-torch: five models here, in plain PyTorch and in llama.cpp. What was measured, as a table a model and peer, or as JSON. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/stats.h"
#include "cli/bench_compare.h"
#include "cli/interrupt.h"
#include "cli/progress.h"
#include "model/gguf.h"

#define TEXT_BYTES (1 << 20)

struct compare_line *compare_add(struct compare *c, enum compare_peer peer, const char *what, double target)
{
    struct compare_line *l = &c->line[c->nlines < COMPARE_LINES_MAX ? c->nlines++ : COMPARE_LINES_MAX - 1];
    *l = (struct compare_line){.what = what, .model = c->model, .peer = peer, .target = target, .ratio = {NAN, NAN, NAN}, .others = NAN};
    return l;
}

void compare_add_missing(struct compare *c, enum compare_peer peer, const char *what, const char *why)
{
    snprintf(compare_add(c, peer, what, NAN)->missing, sizeof c->line[0].missing, "%.*s", (int)base_utf8_cut(why, sizeof c->line[0].missing - 1), why);
}

double compare_median(const struct compare_series *s)
{
    double m = NAN, low, high;
    if (s->n) base_stats_median_ci(s->v, s->n, &m, &low, &high);
    return m;
}

void compare_push(struct compare_series *s, double v)
{
    if (s->n < BENCH_COMPARE_ROUNDS) s->v[s->n++] = v;
}

struct kn_rate compare_ratio(const struct compare_series *x, const struct compare_series *y)
{
    struct compare_series r = {.n = 0};
    struct kn_rate out = {NAN, INFINITY, 0};
    for (int i = 0; i < x->n && i < y->n; i++) compare_push(&r, x->v[i] / y->v[i]);
    out.median = compare_median(&r);
    for (int i = 0; i < r.n; i++) out.low = fmin(out.low, r.v[i]), out.high = fmax(out.high, r.v[i]);
    return out;
}

int compare_decode_at(const struct bench *b)
{
    return b->quick ? 64 : 1024;
}

bool compare_skipped(const struct bench *b, const char *word)
{
    size_t n = strlen(word);
    for (const char *p = b->skip; *p; p += strcspn(p, ","), p += *p == ',')
        if (strcspn(p, ",") == n && !memcmp(p, word, n)) return true;
    return false;
}

/* ---- printing ---- */

static const struct {
    const char *title, *key, *missing, *missing_key; /* for people, and with --json */
} peers[] = {[COMPARE_TORCH] = {"PyTorch", "torch", "not built", "not_built"}, [COMPARE_LLAMA] = {"llama.cpp", "llama", "failed", "failed"}};

static bool met(const struct compare_line *l)
{
    return l->at_most ? l->ratio.median <= l->target : l->ratio.median >= l->target;
}

static json_t *line_json(const struct compare_line *l)
{
    json_t *o = json_pack("{s:s, s:s}", "what", l->what, "model", bench_presets[l->model].name);
    if (*l->missing) {
        json_object_set_new(o, peers[l->peer].missing_key, json_string(l->missing));
        return o;
    }
    json_object_update_new(o, json_pack("{s:s, s:s, s:f}", "taut", l->ours, peers[l->peer].key, l->theirs, "figure", l->ratio.median));
    if (isfinite(l->ratio.low)) json_object_update_new(o, json_pack("{s:f, s:f}", "low", l->ratio.low, "high", l->ratio.high));
    if (!isnan(l->target))
        json_object_update_new(o, json_pack("{s:f, s:b, s:b}", "target", l->target, "at_most", l->at_most, "met", met(l)));
    if (!isnan(l->others)) json_object_set_new(o, "others", json_real(l->others));
    return o;
}

static void heading(const struct compare *c, enum compare_peer peer, bool first)
{
    const struct bench *b = c->b;
    const struct bench_preset *m = &bench_presets[c->model];
    char work[96];
    if (peer == COMPARE_TORCH) snprintf(work, sizeof work, "%d x %d tokens a step", b->batch, b->context);
    else snprintf(work, sizeof work, "a token after %d, and a prefill of %d", compare_decode_at(b), compare_decode_at(b));
    bench_section(b, "%smodel %s (%s) against %s: %s, %d rounds in turns, %d threads each", first ? "" : "\n", m->name, m->what, peers[peer].title, work, b->rounds,
                  b->dev->info.threads);
}

/* The lines from `from` on that are of a peer: a model's, as soon as they are there. */
static void print(const struct compare *c, int from, enum compare_peer peer)
{
    struct table t = TABLE_INIT;
    const struct {
        const char *title;
        enum table_align align;
    } columns[] = {{"", TABLE_LEFT},        {"Taut", TABLE_RIGHT}, {peers[peer].title, TABLE_RIGHT}, {"figure (least to most)", TABLE_RIGHT},
                   {"wanted", TABLE_RIGHT}, {"", TABLE_LEFT},      {"others", TABLE_RIGHT}};
    t.indent = 2;
    for (size_t i = 0; i < sizeof columns / sizeof columns[0]; i++) table_column(&t, columns[i].title, columns[i].align);
    for (int i = from, n = 0; i < c->nlines; i++) {
        const struct compare_line *l = &c->line[i];
        bool small = l->ratio.median < 0.01;
        if (l->peer != peer) continue;
        if (!n++) heading(c, peer, !i);
        table_row(&t);
        table_cell(&t, "%s", l->what);
        if (*l->missing) {
            table_cell(&t, "%s", peers[peer].missing);
            continue;
        }
        table_cell(&t, "%s", l->ours);
        table_cell(&t, "%s", l->theirs);
        if (isfinite(l->ratio.low)) table_cell(&t, "%.2f (%.2f to %.2f)", l->ratio.median, l->ratio.low, l->ratio.high);
        else table_cell(&t, small ? "%.1e" : "%.2f", l->ratio.median);
        if (isnan(l->target)) table_cell(&t, "%s", ""), table_cell(&t, "%s", "");
        else table_cell(&t, small ? "%s%.0e" : "%s%.2f", l->at_most ? "at most " : "", l->target), table_cell(&t, "%s", met(l) ? "met" : "missed");
        if (isnan(l->others)) table_cell(&t, "%s", "");
        else table_cell(&t, "%.0f %%", 100 * l->others);
    }
    if (t.n) table_print(&t, stdout);
    table_fini(&t);
    fflush(stdout);
}

static void print_terms(const struct compare *c)
{
    putchar('\n');
    if (c->python)
        printf("  share: tokens/s x operations a token / the fastest bf16 product of " BENCH_PRODUCT " of either side in these rounds;\n  " BENCH_FORMULA "\n"
               "  wall clock: one run of each side, PyTorch in the mode that its start and its steps make the shortest; its training leaves out compiling\n");
    if (c->llama)
        printf("  llama.cpp: the same weights, with flash attention or without, as is faster; its cache is f16, ours f32; int8 has a scale a row here, Q8_0 there\n");
}

/* ---- all of it ---- */

static int prepare(struct compare *c)
{
    struct base_err err = BASE_ERR_INIT;
    st_t st = bench_folder(c->folder, sizeof c->folder, &err);
    if (st) return cli_fail_err(CLI_FAILED, "bench", NULL, &err);
    snprintf(c->script, sizeof c->script, "%s/bench_torch.py", c->folder);
    snprintf(c->arch_path, sizeof c->arch_path, "%s/arch.json", c->folder);
    snprintf(c->weights, sizeof c->weights, "%s/weights.safetensors", c->folder);
    snprintf(c->text_path, sizeof c->text_path, "%s/text", c->folder);
    snprintf(c->gguf, sizeof c->gguf, "%s/model.gguf", c->folder);
    snprintf(c->log, sizeof c->log, "%s/log", c->folder);
    int rc = compare_skipped(c->b, "torch") ? CLI_OK : torch_find(c);
    if (!rc && !compare_skipped(c->b, "llama")) rc = llama_find(c);
    if (rc || !c->python) return rc;
    st = bench_write_file(c->script, bench_torch_script, strlen(bench_torch_script));
    if (!st) st = bench_write_text(c->text_path, TEXT_BYTES, 1);
    if (!st) st = base_buf_read_file(&c->text, c->text_path, TEXT_BYTES);
    if (!st && c->b->dev->info.threads > 1) st = kn_dev_open(&c->one, cli_str(c->b->c, "device", "cpu"), 1, &err);
    return st ? cli_fail(CLI_FAILED, "bench", NULL, "files in %s: %s", c->folder, base_status_text(st)) : CLI_OK;
}

int bench_compare_check(const struct bench *b)
{
    char last[4] = "";
    struct base_err err = BASE_ERR_INIT;
    if (!compare_skipped(b, "torch")) return CLI_OK;
    for (int i = 0; i < BENCH_MODELS; i++) {
        struct arch a;
        if (!b->model[i]) continue;
        err = (struct base_err)BASE_ERR_INIT;
        if (!bench_arch(i, b->context, &a, &err) && !model_gguf_check(&a, &err)) return CLI_OK;
        snprintf(last, sizeof last, "%s", bench_presets[i].name);
    }
    char text[512];
    return cli_fail(CLI_CALL, "bench", "give --model a, or leave torch in", "--skip: without torch nothing is left to compare: llama.cpp does not have model %s: %s", last,
                    base_err_text(&err, text, sizeof text));
}

int bench_compare(struct bench *b)
{
    static struct compare c;
    c = (struct compare){.b = b, .text = BASE_BUF_INIT};
    int rc = prepare(&c);
    for (int i = 0; !rc && i < BENCH_MODELS; i++) {
        struct base_err err = BASE_ERR_INIT;
        int from = c.nlines;
        if (!b->model[i]) continue;
        c.model = i;
        st_t st = bench_arch(i, b->context, &c.a, &err);
        if (st == ST_ENOTSUP && c.python) compare_add_missing(&c, COMPARE_TORCH, "training, tokens/s", err.what), st = ST_OK;
        else if (!st && c.python) st = torch_compare(&c, &err);
        progress_clear(b->c);
        if (!b->json) print(&c, from, COMPARE_TORCH);
        if (!st && c.llama) st = llama_compare(&c, &err);
        progress_clear(b->c);
        if (!b->json) print(&c, from, COMPARE_LLAMA);
        if (st && !*err.what) base_err_set(&err, st, "", "%s", base_status_text(st));
        if (st) rc = st == ST_ECANCELED || interrupted ? interrupt_status() : cli_fail_err(CLI_FAILED, bench_presets[i].name, NULL, &err);
    }
    kn_dev_close(c.one);
    base_buf_fini(&c.text);
    bench_folder_remove(c.folder);
    if (rc) return rc;
    if (b->json) {
        json_t *list = json_array();
        for (int i = 0; i < c.nlines; i++) json_array_append_new(list, line_json(&c.line[i]));
        json_object_set_new(b->json, "compare", list);
    } else {
        print_terms(&c);
    }
    return CLI_OK;
}
