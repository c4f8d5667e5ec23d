/* taut bench --compare-torch: decoding and prefill here and in llama.cpp, by its own llama-bench, from the same weights at the same precision, in turns. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/rng.h"
#include "cli/bench_compare.h"
#include "cli/interrupt.h"
#include "cli/progress.h"
#include "model/checkpoint.h"
#include "model/gguf.h"

#define REPEATS 3
#define WANT 1.0

enum { DECODE, PREFILL, KINDS };

static const struct precision {
    enum arch_weights weights;
    const char *what[KINDS]; /* of the lines */
    const char *both;
} precisions[] = {
    {ARCH_WEIGHTS_F32, {"llama.cpp: decoding, f32, ms a token", "llama.cpp: prefill, f32, ms"}, "llama.cpp: f32"},
    {ARCH_WEIGHTS_BF16, {"llama.cpp: decoding, bf16, ms a token", "llama.cpp: prefill, bf16, ms"}, "llama.cpp: bf16"},
    {ARCH_WEIGHTS_INT8, {"llama.cpp: decoding, int8, ms a token", "llama.cpp: prefill, int8, ms"}, "llama.cpp: int8"},
};

struct times { /* ms, a round each */
    struct compare_series ours[KINDS], theirs[KINDS][2]; /* [1]: with flash attention */
};

static int tokens(const struct bench *b)
{
    return b->quick ? 4 : 64;
}

static int repeats(const struct bench *b)
{
    return b->quick ? 1 : REPEATS;
}

/* ---- its program ---- */

int llama_find(struct compare *c)
{
    const char *named = getenv("TAUT_LLAMA_BENCH");
    struct bench_child child;
    struct base_err err = BASE_ERR_INIT;
    bool given = named && *named;
    const char *argv[] = {given ? named : "llama-bench", "--help", NULL};
    st_t st = bench_child_start(&child, argv, NULL, c->log, &err);
    if (st) return cli_fail_err(CLI_FAILED, "--compare-torch", NULL, &err);
    bool there = bench_child_end(&child) != BENCH_CHILD_NONE;
    if (interrupted) return interrupt_status();
    if (there) c->llama = argv[0];
    else if (given || !c->python) return cli_fail(CLI_FAILED, "--compare-torch", "set TAUT_LLAMA_BENCH to llama.cpp's llama-bench, or --skip llama", "%s cannot be run", argv[0]);
    else cli_note(c->b->c, "llama.cpp is left out: there is no llama-bench on the path, and TAUT_LLAMA_BENCH names none");
    return CLI_OK;
}

static bool is(json_t *o, const char *key, int n)
{
    json_t *v = json_object_get(o, key);
    return json_is_integer(v) && json_integer_value(v) == n;
}

/* One of its answers, to a prompt of so many tokens or so many tokens after `depth`: median ms of a pass or of a token. false: it is none. */
static bool read_answer(const struct bench *b, json_t *o, int prompt, int gen, int depth, double ms[2])
{
    json_t *list = json_object_get(o, "samples_ns"), *flash = json_object_get(o, "flash_attn");
    struct compare_series s = {.n = 0};
    if (!is(o, "n_prompt", prompt) || !is(o, "n_gen", gen) || !is(o, "n_depth", depth) || !is(o, "n_threads", b->dev->info.threads)) return false;
    if (!(json_is_boolean(flash) || is(o, "flash_attn", 0) || is(o, "flash_attn", 1)) || json_array_size(list) != (size_t)repeats(b)) return false;
    for (size_t i = 0; i < json_array_size(list); i++) {
        double ns = json_number_value(json_array_get(list, i));
        if (!(ns > 0)) return false;
        compare_push(&s, ns * 1e-6 / (gen ? gen : 1));
    }
    ms[json_is_true(flash) || json_integer_value(flash) == 1] = compare_median(&s);
    return true;
}

static st_t run(struct compare *c, int kind, double ms[2], struct base_err *err)
{
    char threads[16], prompt[16], gen[16], depth[16], times[16], last[256];
    const struct bench *b = c->b;
    int p = kind == PREFILL ? compare_decode_at(b) : 0, g = kind == DECODE ? tokens(b) : 0, d = kind == DECODE ? compare_decode_at(b) : 0;
    struct bench_child child;
    bool good = true;
    snprintf(threads, sizeof threads, "%d", b->dev->info.threads);
    snprintf(prompt, sizeof prompt, "%d", p);
    snprintf(gen, sizeof gen, "%d", g);
    snprintf(depth, sizeof depth, "%d", d);
    snprintf(times, sizeof times, "%d", repeats(b));
    const char *argv[] = {c->llama, "-m", c->gguf, "-t", threads, "-ngl", "0", "-fa", "0,1", "-p", prompt, "-n", gen, "-d", depth, "-r", times, "-o", "jsonl", NULL};
    ms[0] = ms[1] = NAN;
    unlink(c->log); /* its last line shall be this program's */
    st_t st = bench_child_start(&child, argv, NULL, c->log, err);
    if (st) return st;
    for (json_t *v; (v = bench_child_read(&child));) {
        good &= read_answer(b, v, p, g, d, ms);
        json_decref(v);
    }
    int rc = bench_child_end(&child);
    if (interrupted) return ST_ECANCELED;
    bench_log_last(c->log, last, sizeof last);
    if (rc) return base_err_set(err, ST_EIO, c->llama, "%s", *last ? last : "it failed");
    if (!good || isnan(ms[0]) || isnan(ms[1])) return base_err_set(err, ST_EIO, c->llama, "what it printed is not what llama-bench -o jsonl prints");
    return ST_OK;
}

/* ---- ours ---- */

static st_t decode(struct compare *c, struct model_state *state, const int32_t *text, double *ms)
{
    float logits[BENCH_VOCAB];
    struct compare_series s = {.n = 0};
    int n = tokens(c->b);
    st_t st = ST_OK;
    for (int r = -1; !st && r < repeats(c->b); r++) { /* the first does not count */
        model_state_seek(state, compare_decode_at(c->b));
        uint64_t from = base_clock_ns();
        for (int i = 0; !st && i < n; i++) st = model_decode(state, text + i, 1, logits);
        if (r >= 0) compare_push(&s, (double)(base_clock_ns() - from) * 1e-6 / n);
    }
    *ms = compare_median(&s);
    return st;
}

static st_t prefill(struct compare *c, struct model_state *state, const int32_t *text, double *ms)
{
    float logits[BENCH_VOCAB];
    struct compare_series s = {.n = 0};
    st_t st = ST_OK;
    for (int r = -1; !st && r < repeats(c->b); r++) {
        model_state_seek(state, 0);
        uint64_t from = base_clock_ns();
        st = model_decode(state, text, compare_decode_at(c->b), logits);
        if (r >= 0) compare_push(&s, (double)(base_clock_ns() - from) * 1e-6);
    }
    *ms = compare_median(&s);
    return st;
}

/* ---- in turns ---- */

/* err: ours; why: the other program. */
static st_t rounds(struct compare *c, const struct precision *p, struct model_state *state, struct times *t, struct base_err *err, struct base_err *why)
{
    int32_t *text = malloc((size_t)compare_decode_at(c->b) * sizeof *text);
    struct base_rng r = base_rng_at(1, RNG_TEST, 1);
    st_t st = text ? ST_OK : base_err_set(err, ST_ENOMEM, "", "out of memory");
    for (int i = 0; !st && i < compare_decode_at(c->b); i++) text[i] = (int32_t)base_rng_below(&r, BENCH_VOCAB);
    for (int i = 0; !st && i < c->b->rounds; i++) {
        progress_draw(c->b->c, NAN, "model %s: against %s, round %d of %d", bench_presets[c->model].name, p->both, i + 1, c->b->rounds);
        for (int kind = 0; !st && kind < KINDS; kind++) {
            double ours, theirs[2];
            st = kind == DECODE ? decode(c, state, text, &ours) : prefill(c, state, text, &ours);
            if (st) base_err_set(err, st, "", "%s here, against %s: %s", kind == DECODE ? "decoding" : "prefill", p->both, base_status_text(st));
            else st = run(c, kind, theirs, why);
            if (st) break;
            compare_push(&t->ours[kind], ours);
            for (int flash = 0; flash < 2; flash++) compare_push(&t->theirs[kind][flash], theirs[flash]);
        }
    }
    free(text);
    return st;
}

static void lines(struct compare *c, const struct precision *p, const struct times *t, double others)
{
    for (int kind = 0; kind < KINDS; kind++) {
        const struct compare_series *theirs = t->theirs[kind], *ours = &t->ours[kind];
        int flash = compare_median(&theirs[1]) < compare_median(&theirs[0]);
        struct compare_line *l = compare_add(c, COMPARE_LLAMA, p->what[kind], WANT);
        snprintf(l->ours, sizeof l->ours, "%.3f", compare_median(ours));
        snprintf(l->theirs, sizeof l->theirs, "%.3f%s", compare_median(&theirs[flash]), flash ? " (flash attention)" : "");
        l->ratio = compare_ratio(&theirs[flash], ours);
        l->others = others;
    }
}

/* m: the model in f32, saved. failed: the other program, which a line says; what else there is stays good. */
static st_t compare_at(struct compare *c, const struct precision *p, struct model *m, bool *failed, struct base_err *err)
{
    struct bench *b = c->b;
    struct model *stored = NULL;
    struct model_state *state = NULL;
    struct times t;
    struct bench_busy y;
    struct base_err why = BASE_ERR_INIT;
    char text[512];
    int64_t context = compare_decode_at(b) + tokens(b);
    memset(&t, 0, sizeof t);
    st_t st = model_write_gguf(m, p->weights, c->gguf, err);
    if (!st && p->weights != ARCH_WEIGHTS_F32) {
        st = model_new(&stored, model_arch(m), b->dev, &(struct model_opts){.weights = p->weights}, err);
        if (!st) st = model_load(stored, c->weights, false, err);
    }
    if (!st) st = model_state_new(&state, stored ? stored : m, 1, context, err);
    if (!st && (st = model_state_fill(state, context))) base_err_set(err, st, "", "what comes before the tokens: %s", base_status_text(st));
    if (!st && !bench_begin(b, &y, NULL)) st = ST_ECANCELED;
    else if (!st) {
        st = rounds(c, p, state, &t, err, &why);
        double others = bench_end(b, &y);
        if (!st) lines(c, p, &t, others);
    }
    model_state_free(state);
    model_free(stored);
    kn_trim(b->dev);
    if (!why.st || st == ST_ECANCELED) return st;
    *failed = b->failed = true;
    progress_clear(b->c);
    cli_note(b->c, "llama.cpp, model %s: %s", bench_presets[c->model].name, base_err_text(&why, text, sizeof text));
    compare_add_missing(c, COMPARE_LLAMA, p->both, why.what);
    return ST_OK;
}

st_t llama_compare(struct compare *c, struct base_err *err)
{
    struct bench *b = c->b;
    struct model *m = NULL;
    struct arch a;
    struct base_err why = BASE_ERR_INIT;
    char text[512];
    bool failed = false;
    st_t st = bench_arch(c->model, compare_decode_at(b) + tokens(b), &a, err);
    if (!st && model_gguf_check(&a, &why)) { /* nothing to compare with */
        if (!c->python) cli_note(b->c, "model %s is left out: llama.cpp does not have it: %s", bench_presets[c->model].name, base_err_text(&why, text, sizeof text));
        return ST_OK;
    }
    if (!st) st = model_new(&m, &a, b->dev, &(struct model_opts){.batch = 0}, err);
    if (!st && (st = model_init(m, 1))) base_err_set(err, st, "", "its weights: %s", base_status_text(st));
    if (!st) st = model_save(m, c->weights, false, NULL, 0, NULL, NULL, err);
    for (size_t i = 0; !st && !failed && i < sizeof precisions / sizeof precisions[0]; i++) st = compare_at(c, &precisions[i], m, &failed, err);
    model_free(m);
    return st;
}
