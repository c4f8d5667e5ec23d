/* taut bench --compare-torch: the five models here and in plain PyTorch (bench_torch.py), from the same weights over the same text, in turns.
 *
 * A Python process for each of PyTorch's modes stays there and does some steps when it is told to, so that compiling is paid once and rounds of both
 * sides follow each other within seconds. A ratio is taken within a round, between the modes that were best over all rounds; its median and spread over the
 * rounds are what is printed. Wall clock is measured apart, on processes from their start to their end. */
#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/stats.h"
#include "cli/bench.h"
#include "cli/bench_child.h"
#include "cli/format.h"
#include "cli/interrupt.h"
#include "cli/progress.h"
#include "cli/term.h"
#include "model/checkpoint.h"
#include "model/model.h"
#include "searchspace/layer.h"

#define MODES 4
#define CHECK_STEPS 3
#define LINES_MAX 64
#define TEXT_BYTES (1 << 20)
#define DECODE_AT 1024

static const char *const modes[MODES] = {"eager-f32", "eager-bf16", "compiled-f32", "compiled-bf16"}, *const decode_modes[2] = {"eager-decode", "compiled-decode"};

/* The wanted figures, by model; NAN: none. */
static const double want_train[] = {2.0, 1.4, 1.2, 1.5, 2.5}, want_share[] = {0.7, 0.75, 0.82, 0.78, 0.7}, want_wall[] = {2.5, 2, NAN, 2.2, 3},
                    want_decode[] = {NAN, 4, 2.1, NAN, NAN}, want_bound[] = {NAN, 1.3, 1.3, NAN, NAN};
#define WANT_SCALING 1.85
#define WANT_MEMORY 0.5

struct line {
    const char *what;
    int model;
    char missing[160];          /* why there is no figure; the rest means nothing then */
    char ours[64], theirs[64];
    struct kn_rate ratio;       /* the figure that has a target */
    double target;              /* NAN: none */
    bool at_most;
    double others;              /* NAN: not a time */
};

struct series {
    double v[BENCH_COMPARE_ROUNDS];
    int n;
};

struct side { /* a mode of PyTorch */
    const char *mode;
    struct bench_child child;
    double start_s;             /* from process start to the end of its first step */
    double loss[CHECK_STEPS];
    struct series rate, product;
    double bytes;
};

struct own { /* ours at one precision and number of threads */
    struct kn_dev *dev;
    struct model *m;
    enum kn_dtype precision;
    int64_t at;
    double loss[CHECK_STEPS];
    struct series rate, product;
};

struct compare {
    struct bench *b;
    const char *python;
    char folder[PATH_MAX], script[PATH_MAX + 32], arch_path[PATH_MAX + 32], weights[PATH_MAX + 32], text_path[PATH_MAX + 32], log[PATH_MAX + 32];
    struct base_buf text;
    int model;
    struct arch a;
    struct side side[MODES];
    struct own own[3];          /* f32, bf16, the better of them on one thread */
    struct kn_dev *one;
    int best_side, best_own;    /* -1: none */
    struct line line[LINES_MAX];
    int nlines;
};

static struct line *add(struct compare *c, const char *what, double target)
{
    struct line *l = &c->line[c->nlines < LINES_MAX ? c->nlines++ : LINES_MAX - 1];
    *l = (struct line){.what = what, .model = c->model, .target = target, .ratio = {NAN, NAN, NAN}, .others = NAN};
    return l;
}

static void add_missing(struct compare *c, const char *what, const char *why)
{
    snprintf(add(c, what, NAN)->missing, sizeof c->line[0].missing, "%.150s", why);
}

static double median(const struct series *s)
{
    double m = NAN, low, high;
    if (s->n) base_stats_median_ci(s->v, s->n, &m, &low, &high);
    return m;
}

static void push(struct series *s, double v)
{
    if (s->n < BENCH_COMPARE_ROUNDS) s->v[s->n++] = v;
}

/* x / y, round by round. */
static struct kn_rate ratio_of(const struct series *x, const struct series *y)
{
    struct series r = {.n = 0};
    struct kn_rate out = {NAN, INFINITY, 0};
    for (int i = 0; i < x->n && i < y->n; i++) push(&r, x->v[i] / y->v[i]);
    out.median = median(&r);
    for (int i = 0; i < r.n; i++) out.low = fmin(out.low, r.v[i]), out.high = fmax(out.high, r.v[i]);
    return out;
}

/* ---- PyTorch ---- */

static st_t side_start(struct compare *c, struct bench_child *child, const char *mode, int steps, struct base_err *err)
{
    char threads[16], batch[16], count[16], cache[PATH_MAX + 64], folder[PATH_MAX + 32];
    static int starts;
    snprintf(threads, sizeof threads, "%d", c->b->dev->info.threads);
    snprintf(batch, sizeof batch, "%d", c->b->batch);
    snprintf(count, sizeof count, "%d", steps);
    snprintf(folder, sizeof folder, "%s/cache%d", c->folder, starts++); /* a new architecture: nothing of it has been compiled before */
    snprintf(cache, sizeof cache, "TORCHINDUCTOR_CACHE_DIR=%s", folder);
    const char *argv[] = {c->python, c->script, c->arch_path, c->weights, c->text_path, mode, threads, batch, steps ? count : NULL, NULL};
    const char *env[] = {cache, "OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE", NULL};
    return bench_child_start(child, argv, env, c->log, err);
}

/* Its next answer; NULL: it has ended (err says how), or Ctrl-C. */
static json_t *answer(struct compare *c, struct bench_child *child, struct base_err *err)
{
    json_t *v = bench_child_read(child);
    if (!v && !interrupted) {
        char last[256];
        bench_log_last(c->log, last, sizeof last);
        base_err_set(err, ST_EIO, "PyTorch", "%s", *last ? last : "it ended");
    }
    return v;
}

static json_t *ask(struct compare *c, struct bench_child *child, struct base_err *err, const char *fmt, ...) __attribute__((format(printf, 4, 5)));
static json_t *ask(struct compare *c, struct bench_child *child, struct base_err *err, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vfprintf(child->to, fmt, ap);
    va_end(ap);
    fputc('\n', child->to);
    fflush(child->to);
    return answer(c, child, err);
}

static int numbers(json_t *o, const char *key, double *out, int max)
{
    json_t *list = json_object_get(o, key);
    int n = (int)json_array_size(list);
    for (int i = 0; i < n && i < max; i++) out[i] = json_number_value(json_array_get(list, (size_t)i));
    return n < max ? n : max;
}

static double median_ms(json_t *o)
{
    struct series s = {.n = 0};
    s.n = numbers(o, "ms", s.v, BENCH_COMPARE_ROUNDS);
    return median(&s);
}

static st_t sides_start(struct compare *c, struct base_err *err)
{
    for (int i = 0; i < MODES; i++) {
        struct side *s = &c->side[i];
        uint64_t from = base_clock_ns();
        *s = (struct side){.mode = modes[i]};
        progress_draw(c->b->c, NAN, "model %s: PyTorch starts, %s", bench_presets[c->model].name, modes[i]);
        st_t st = side_start(c, &s->child, modes[i], 0, err);
        if (st) return st;
        json_t *v = answer(c, &s->child, err);
        if (v) json_decref(v), v = ask(c, &s->child, err, "steps 1");
        if (!v) return interrupted ? ST_ECANCELED : ST_EIO;
        s->start_s = (double)(base_clock_ns() - from) * 1e-9;
        numbers(v, "losses", s->loss, 1);
        json_decref(v);
        v = ask(c, &s->child, err, "steps %d", CHECK_STEPS - 1);
        if (!v) return interrupted ? ST_ECANCELED : ST_EIO;
        numbers(v, "losses", s->loss + 1, CHECK_STEPS - 1);
        json_decref(v);
    }
    return ST_OK;
}

static void sides_end(struct compare *c)
{
    for (int i = 0; i < MODES; i++) bench_child_end(&c->side[i].child);
}

/* ---- ours ---- */

static st_t own_steps(struct compare *c, struct own *o, int steps, double *losses, double *ms)
{
    int64_t n = (int64_t)c->b->batch * c->a.context;
    int32_t *x = malloc((size_t)(n + 1) * sizeof *x);
    struct model_hyper h = {1e-3, 1, 0.9, 0.95, 1e-8, 0.1, 1};
    st_t st = x ? ST_OK : ST_ENOMEM;
    for (int s = 0; !st && s < steps && !interrupted; s++) {
        uint64_t from = base_clock_ns();
        double loss, norm;
        int64_t first = o->at++ * n % ((int64_t)c->text.len - n);
        for (int64_t i = 0; i <= n; i++) x[i] = (unsigned char)c->text.p[first + i];
        st = model_step(o->m, x, x + 1, c->b->batch, c->a.context, &loss);
        if (!st) st = model_update(o->m, &h, &norm);
        if (losses) losses[s] = loss;
        if (ms) ms[s] = (double)(base_clock_ns() - from) * 1e-6;
    }
    free(x);
    return st ? st : interrupted ? ST_ECANCELED : ST_OK;
}

static st_t own_start(struct compare *c, int i, struct kn_dev *dev, enum kn_dtype precision, bool save, struct base_err *err)
{
    struct own *o = &c->own[i];
    *o = (struct own){.dev = dev, .precision = precision};
    st_t st = model_new(&o->m, &c->a, dev, &(struct model_opts){.train = true, .batch = c->b->batch, .precision = precision}, err);
    if (!st) st = model_init(o->m, 1);
    if (!st && save) st = model_save(o->m, c->weights, false, NULL, 0, NULL, NULL, err);
    if (!st) st = own_steps(c, o, CHECK_STEPS, o->loss, NULL);
    return st;
}

static void own_end(struct compare *c)
{
    for (int i = 0; i < 3; i++) {
        model_free(c->own[i].m);
        c->own[i].m = NULL;
    }
    kn_trim(c->b->dev);
}

/* ---- training ---- */

static st_t round_own(struct compare *c, struct own *o, int steps)
{
    double ms[BENCH_COMPARE_ROUNDS];
    struct series s = {.n = 0};
    st_t st = own_steps(c, o, steps, NULL, ms);
    for (int i = 0; i < steps; i++) push(&s, ms[i]);
    if (!st) push(&o->rate, (double)c->b->batch * c->a.context / median(&s) * 1e3);
    if (!st && o != &c->own[2]) push(&o->product, bench_product(c->b, o->dev, o->precision).high);
    return st;
}

static st_t round_side(struct compare *c, struct side *s, int steps, struct base_err *err)
{
    json_t *v = ask(c, &s->child, err, "steps %d", steps), *p;
    if (!v) return interrupted ? ST_ECANCELED : ST_EIO;
    push(&s->rate, (double)c->b->batch * c->a.context / median_ms(v) * 1e3);
    json_decref(v);
    p = ask(c, &s->child, err, "product");
    if (!p) return interrupted ? ST_ECANCELED : ST_EIO;
    push(&s->product, json_number_value(json_object_get(p, "flops")));
    json_decref(p);
    return ST_OK;
}

static void choose(struct compare *c)
{
    c->best_side = c->best_own = 0;
    for (int i = 1; i < MODES; i++)
        if (median(&c->side[i].rate) > median(&c->side[c->best_side].rate)) c->best_side = i;
    if (c->own[1].m && median(&c->own[1].rate) > median(&c->own[0].rate)) c->best_own = 1;
}

/* Modes that were more than a sixth slower in the first round are not tried again: they are not the best one. */
static st_t rounds(struct compare *c, struct base_err *err)
{
    struct bench *b = c->b;
    double ms[2], best = 0;
    st_t st = own_steps(c, &c->own[0], b->quick ? 1 : 2, NULL, ms);
    int steps = b->quick ? 1 : (int)fmin(fmax(2000 / ms[1], 2), 20);
    for (int r = 0; !st && r < b->rounds; r++) {
        for (int i = 0; !st && i < 3; i++) {
            progress_draw(b->c, NAN, "model %s: training, round %d of %d, Taut", bench_presets[c->model].name, r + 1, b->rounds);
            if (c->own[i].m) st = round_own(c, &c->own[i], steps);
        }
        for (int i = 0; !st && i < MODES; i++) {
            progress_draw(b->c, NAN, "model %s: training, round %d of %d, PyTorch %s", bench_presets[c->model].name, r + 1, b->rounds, modes[i]);
            if (r && c->side[i].rate.v[0] < best / 1.2) continue;
            st = round_side(c, &c->side[i], steps, err);
            if (!r && !st) best = fmax(best, c->side[i].rate.v[0]);
        }
    }
    if (!st) choose(c);
    return st;
}

static double apart(const double *x, const double *y)
{
    double most = 0;
    for (int i = 0; i < CHECK_STEPS; i++) most = fmax(most, fabs(x[i] - y[i]) / fabs(y[i]));
    return most;
}

static void training_lines(struct compare *c, double others)
{
    const struct own *o = &c->own[c->best_own];
    const struct side *s = &c->side[c->best_side];
    char x[FMT_MAX];
    struct line *l = add(c, "training, tokens/s", want_train[c->model]);
    snprintf(l->ours, sizeof l->ours, "%s (%s)", fmt_count(x, median(&o->rate)), kn_dtype_name(o->precision));
    snprintf(l->theirs, sizeof l->theirs, "%s (%s)", fmt_count(x, median(&s->rate)), s->mode);
    l->ratio = ratio_of(&o->rate, &s->rate);
    l->others = others;

    l = add(c, "first losses, f32: largest difference", NAN);
    snprintf(l->ours, sizeof l->ours, "%.6f", c->own[0].loss[0]);
    snprintf(l->theirs, sizeof l->theirs, "%.6f", c->side[0].loss[0]);
    l->ratio = (struct kn_rate){apart(c->own[0].loss, c->side[0].loss), NAN, NAN};
    l->target = 1e-4, l->at_most = true;

    /* the fastest bf16 product that either side reached in the run */
    double ours = median(&c->own[1].product), theirs = fmax(median(&c->side[1].product), isnan(median(&c->side[3].product)) ? 0 : median(&c->side[3].product));
    if (c->own[1].m) {
        double rate = fmax(ours, theirs), flops = bench_train_flops(&c->a);
        l = add(c, "share of the bf16 product's rate", want_share[c->model]);
        snprintf(l->ours, sizeof l->ours, "%.2f of %.0f GFLOP/s", flops * median(&o->rate) / rate, rate * 1e-9);
        snprintf(l->theirs, sizeof l->theirs, "%.2f", flops * median(&s->rate) / rate);
        struct series one = {.n = 0};
        for (int i = 0; i < o->rate.n; i++) push(&one, rate / flops);
        l->ratio = ratio_of(&o->rate, &one);
        l->others = others;
    } else {
        add_missing(c, "share of the bf16 product's rate", "this machine has no bf16 products");
    }
    if (c->own[2].m) {
        l = add(c, "scaling from one thread", WANT_SCALING);
        snprintf(l->ours, sizeof l->ours, "%s on 1, %d threads here", fmt_count(x, median(&c->own[2].rate)), c->b->dev->info.threads);
        l->ratio = ratio_of(&c->own[c->own[2].precision == KN_BF16].rate, &c->own[2].rate);
        l->others = others;
    }
}

static st_t memory_line(struct compare *c, const char *arch, struct base_err *err)
{
    struct side *s = &c->side[c->best_side];
    json_t *v = ask(c, &s->child, err, "memory"), *end = NULL;
    char x[FMT_MAX];
    if (!v) return interrupted ? ST_ECANCELED : ST_EIO;
    s->bytes = json_number_value(json_object_get(v, "bytes"));
    json_decref(v);
    enum kn_dtype was = c->b->precision;
    c->b->precision = c->own[c->best_own].precision;
    st_t st = bench_train_process(c->b, arch, c->a.context, 3, &end, NULL);
    c->b->precision = was;
    if (st) return base_err_set(err, st, "taut train", "a process of its own failed");
    double ours = json_number_value(json_object_get(end, "process_bytes"));
    json_decref(end);
    struct line *l = add(c, "memory of a training process, most", WANT_MEMORY);
    snprintf(l->ours, sizeof l->ours, "%s", fmt_bytes(x, ours));
    snprintf(l->theirs, sizeof l->theirs, "%s (%s)", fmt_bytes(x, s->bytes), s->mode);
    l->ratio = (struct kn_rate){ours / s->bytes, NAN, NAN};
    l->at_most = true;
    return ST_OK;
}

/* ---- wall clock ---- */

/* The mode that start and steps as measured make the shortest: that one is then run for real. */
static int shortest(const struct compare *c, int steps)
{
    int best = 0;
    double least = INFINITY;
    for (int i = 0; i < MODES; i++) {
        double s = c->side[i].start_s + (steps - 1) * c->b->batch * c->a.context / median(&c->side[i].rate);
        if (s < least) least = s, best = i;
    }
    return best;
}

static st_t wall_line(struct compare *c, const char *arch, struct base_err *err)
{
    struct bench *b = c->b;
    int steps = b->wall_steps, mode = shortest(c, steps);
    struct bench_child child;
    struct bench_busy y;
    json_t *end = NULL;
    double ours, theirs;
    if (!bench_begin(b, &y, NULL)) return ST_ECANCELED;
    enum kn_dtype was = b->precision;
    progress_draw(b->c, NAN, "model %s: %d steps from process start, Taut", bench_presets[c->model].name, steps);
    b->precision = c->own[c->best_own].precision;
    st_t st = bench_train_process(b, arch, c->a.context, steps, &end, &ours);
    b->precision = was;
    json_decref(end);
    if (st) base_err_set(err, st, "taut train", "a process of its own failed");
    progress_draw(b->c, NAN, "model %s: %d steps from process start, PyTorch %s", bench_presets[c->model].name, steps, modes[mode]);
    uint64_t from = base_clock_ns();
    if (!st) st = side_start(c, &child, modes[mode], steps, err);
    if (!st) {
        json_t *v = answer(c, &child, err);
        if (!v) st = interrupted ? ST_ECANCELED : ST_EIO;
        json_decref(v);
        if (bench_child_end(&child) && !st) st = base_err_set(err, ST_EIO, "PyTorch", "it failed");
        theirs = (double)(base_clock_ns() - from) * 1e-9;
    }
    double others = bench_end(b, &y);
    if (st) return interrupted ? ST_ECANCELED : st;
    struct line *l = add(c, "steps from process start", want_wall[c->model]);
    snprintf(l->ours, sizeof l->ours, "%d in %.2f s", steps, ours);
    snprintf(l->theirs, sizeof l->theirs, "%.2f s (%s)", theirs, modes[mode]);
    l->ratio = (struct kn_rate){theirs / ours, NAN, NAN};
    l->others = others;
    return ST_OK;
}

/* ---- decoding ---- */

static bool decodable(const struct arch *a)
{
    for (int i = 0; i < a->depth; i++)
        if (strcmp(space_layer(a->layer[i].mixer.type)->name, "attention")) return false;
    return true;
}

static st_t decode_own(struct compare *c, struct model_state *state, int64_t at, int n, double *ms)
{
    float logits[BENCH_VOCAB];
    int32_t token = 1;
    struct series s = {.n = 0};
    st_t st = ST_OK;
    for (int i = -2; !st && i < n; i++) {
        uint64_t from = base_clock_ns();
        model_state_seek(state, at);
        st = model_decode(state, &token, 1, logits);
        token = 0;
        for (int k = 1; k < BENCH_VOCAB; k++)
            if (logits[k] > logits[token]) token = k;
        if (i >= 0) push(&s, (double)(base_clock_ns() - from) * 1e-6);
    }
    *ms = median(&s);
    return st;
}

static st_t decode_lines(struct compare *c, struct base_err *err)
{
    struct bench *b = c->b;
    struct bench_child child[2] = {{0}, {0}};
    struct series theirs[2] = {{.n = 0}, {.n = 0}}, ours = {.n = 0};
    struct model *m = NULL;
    struct model_state *state = NULL;
    struct bench_busy y;
    int64_t at = b->quick ? 64 : DECODE_AT;
    st_t st = model_new(&m, &c->a, b->dev, &(struct model_opts){.batch = 0}, err);
    if (!st) st = model_load(m, c->weights, false, err);
    if (!st) st = model_state_new(&state, m, 1, at + 1, err);
    if (!st) st = model_state_fill(state, at);
    for (int i = 0; !st && i < 2; i++) {
        progress_draw(b->c, NAN, "model %s: PyTorch starts, %s", bench_presets[c->model].name, decode_modes[i]);
        st = side_start(c, &child[i], decode_modes[i], 0, err);
        json_t *v = st ? NULL : answer(c, &child[i], err);
        if (v) json_decref(v), v = ask(c, &child[i], err, "decode %lld 2", (long long)at);
        if (!st && !v) st = interrupted ? ST_ECANCELED : ST_EIO;
        json_decref(v);
    }
    pid_t pids[] = {child[0].pid, child[1].pid, 0};
    bool held = !st && bench_begin(b, &y, pids);
    if (!st && !held) st = ST_ECANCELED;
    for (int r = 0; !st && r < b->rounds; r++) {
        double ms = NAN;
        progress_draw(b->c, NAN, "model %s: decoding, round %d of %d", bench_presets[c->model].name, r + 1, b->rounds);
        st = decode_own(c, state, at, 30, &ms);
        push(&ours, ms);
        for (int i = 0; !st && i < 2; i++) {
            json_t *v = ask(c, &child[i], err, "decode %lld 30", (long long)at);
            if (!v) st = interrupted ? ST_ECANCELED : ST_EIO;
            else push(&theirs[i], median_ms(v));
            json_decref(v);
        }
    }
    double others = held ? bench_end(b, &y) : NAN;
    if (!st) {
        int best = median(&theirs[1]) < median(&theirs[0]);
        double bytes = bench_decode_bytes(&c->a, at), bound = bytes / kn_limits_bandwidth(&b->limits, bytes, KN_LIMIT_READ, 1) * 1e3;
        struct line *l = add(c, "decoding, f32, ms a token", want_decode[c->model]);
        snprintf(l->ours, sizeof l->ours, "%.3f at %lld", median(&ours), (long long)at);
        snprintf(l->theirs, sizeof l->theirs, "%.3f (%s)", median(&theirs[best]), decode_modes[best]);
        l->ratio = ratio_of(&theirs[best], &ours);
        l->others = others;
        l = add(c, "decoding, times its bound", want_bound[c->model]);
        snprintf(l->ours, sizeof l->ours, "%.3f of %.3f ms", median(&ours), bound);
        struct series one = {.n = 0};
        for (int i = 0; i < ours.n; i++) push(&one, bound);
        l->ratio = ratio_of(&ours, &one);
        l->at_most = true;
        l->others = others;
    }
    for (int i = 0; i < 2; i++) bench_child_end(&child[i]);
    model_state_free(state);
    model_free(m);
    kn_trim(b->dev);
    return st;
}

/* ---- a model, all of them ---- */

static bool skipped(const struct bench *b, const char *word)
{
    size_t n = strlen(word);
    for (const char *p = b->skip; *p; p += strcspn(p, ","), p += *p == ',')
        if (strcspn(p, ",") == n && !memcmp(p, word, n)) return true;
    return false;
}

static st_t compare_model(struct compare *c, struct base_err *err)
{
    struct bench *b = c->b;
    struct bench_busy y;
    struct base_buf arch = BASE_BUF_INIT;
    enum kn_dtype best = b->dev->info.bf16 ? KN_BF16 : KN_F32;
    space_arch_canonical(&c->a, &arch);
    st_t st = arch.st ? arch.st : bench_write_file(c->arch_path, arch.p, arch.len);
    if (!st) st = own_start(c, 0, b->dev, KN_F32, true, err);
    if (!st && b->dev->info.bf16) st = own_start(c, 1, b->dev, KN_BF16, false, err);
    if (!st && c->one) st = own_start(c, 2, c->one, best, false, err);
    if (!st) st = sides_start(c, err);
    pid_t pids[MODES + 1] = {0};
    for (int i = 0; i < MODES; i++) pids[i] = c->side[i].child.pid;
    if (!st && !bench_begin(b, &y, pids)) st = ST_ECANCELED;
    else if (!st) {
        st = rounds(c, err);
        double others = bench_end(b, &y);
        if (!st) training_lines(c, others);
    }
    own_end(c);
    if (!st && !skipped(b, "memory")) st = memory_line(c, arch.p, err);
    sides_end(c);
    if (!st && !skipped(b, "wall")) st = wall_line(c, arch.p, err);
    if (!st && !skipped(b, "decode") && decodable(&c->a)) st = decode_lines(c, err);
    base_buf_fini(&arch);
    return st;
}

static json_t *line_json(const struct line *l)
{
    json_t *o = json_pack("{s:s, s:s}", "what", l->what, "model", bench_presets[l->model].name);
    if (*l->missing) {
        json_object_set_new(o, "not_built", json_string(l->missing));
        return o;
    }
    json_object_update_new(o, json_pack("{s:s, s:s, s:f}", "taut", l->ours, "torch", l->theirs, "figure", l->ratio.median));
    if (isfinite(l->ratio.low)) json_object_update_new(o, json_pack("{s:f, s:f}", "low", l->ratio.low, "high", l->ratio.high));
    if (!isnan(l->target))
        json_object_update_new(o, json_pack("{s:f, s:b, s:b}", "target", l->target, "at_most", l->at_most, "met",
                                            l->at_most ? l->ratio.median <= l->target : l->ratio.median >= l->target));
    if (!isnan(l->others)) json_object_set_new(o, "others", json_real(l->others));
    return o;
}

/* The lines from `from` on: a model's, as soon as they are there. */
static void print(const struct compare *c, int from)
{
    struct table t = TABLE_INIT;
    const struct bench_preset *m = &bench_presets[c->model];
    bench_section(c->b, "%smodel %s (%s) against PyTorch: %d x %d tokens a step, %d rounds in turns, %d threads each", from ? "\n" : "", m->name, m->what, c->b->batch,
                  c->b->context, c->b->rounds, c->b->dev->info.threads);
    t.indent = 2;
    static const struct {
        const char *title;
        enum table_align align;
    } columns[] = {{"", TABLE_LEFT}, {"Taut", TABLE_RIGHT}, {"PyTorch", TABLE_RIGHT}, {"figure (least to most)", TABLE_RIGHT}, {"wanted", TABLE_RIGHT}, {"", TABLE_LEFT}, {"others", TABLE_RIGHT}};
    for (size_t i = 0; i < sizeof columns / sizeof columns[0]; i++) table_column(&t, columns[i].title, columns[i].align);
    for (int i = from; i < c->nlines; i++) {
        const struct line *l = &c->line[i];
        bool small = l->ratio.median < 0.01, met = l->at_most ? l->ratio.median <= l->target : l->ratio.median >= l->target;
        table_row(&t);
        table_cell(&t, "%s", l->what);
        if (*l->missing) {
            table_cell(&t, "not built");
            continue;
        }
        table_cell(&t, "%s", l->ours);
        table_cell(&t, "%s", l->theirs);
        if (isfinite(l->ratio.low)) table_cell(&t, "%.2f (%.2f to %.2f)", l->ratio.median, l->ratio.low, l->ratio.high);
        else table_cell(&t, small ? "%.1e" : "%.2f", l->ratio.median);
        if (isnan(l->target)) table_cell(&t, "%s", ""), table_cell(&t, "%s", "");
        else table_cell(&t, small ? "%s%.0e" : "%s%.2f", l->at_most ? "at most " : "", l->target), table_cell(&t, "%s", met ? "met" : "missed");
        if (isnan(l->others)) table_cell(&t, "%s", "");
        else table_cell(&t, "%.0f %%", 100 * l->others);
    }
    table_print(&t, stdout);
    table_fini(&t);
    fflush(stdout);
}

static void print_terms(void)
{
    printf("\n  share: tokens/s x operations a token / the fastest bf16 product of " BENCH_PRODUCT " of either side in these rounds;\n  " BENCH_FORMULA "\n"
           "  wall clock: one run of each side, PyTorch in the mode that its start and its steps make the shortest; its training leaves out compiling\n");
}

static int find_python(struct compare *c)
{
    const char *named = getenv("TAUT_TORCH_PYTHON");
    struct bench_child child;
    struct base_err err = BASE_ERR_INIT;
    c->python = named && *named ? named : "python3";
    const char *argv[] = {c->python, "-c", "import torch", NULL};
    const char *env[] = {"OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE", NULL};
    if (!bench_child_start(&child, argv, env, c->log, &err) && !bench_child_end(&child)) return CLI_OK;
    return interrupted ? interrupt_status() : cli_fail(CLI_FAILED, "--compare-torch", "set TAUT_TORCH_PYTHON to one that does", "%s cannot import torch", c->python);
}

static int prepare(struct compare *c)
{
    struct base_err err = BASE_ERR_INIT;
    st_t st = bench_folder(c->folder, sizeof c->folder, &err);
    if (st) return cli_fail_err(CLI_FAILED, "bench", NULL, &err);
    snprintf(c->script, sizeof c->script, "%s/bench_torch.py", c->folder);
    snprintf(c->arch_path, sizeof c->arch_path, "%s/arch.json", c->folder);
    snprintf(c->weights, sizeof c->weights, "%s/weights.safetensors", c->folder);
    snprintf(c->text_path, sizeof c->text_path, "%s/text", c->folder);
    snprintf(c->log, sizeof c->log, "%s/log", c->folder);
    int rc = find_python(c);
    if (rc) return rc;
    st = bench_write_file(c->script, bench_torch_script, strlen(bench_torch_script));
    if (!st) st = bench_write_text(c->text_path, TEXT_BYTES, 1);
    if (!st) st = base_buf_read_file(&c->text, c->text_path, TEXT_BYTES);
    if (!st && c->b->dev->info.threads > 1) st = kn_dev_open(&c->one, cli_str(c->b->c, "device", "cpu"), 1, &err);
    return st ? cli_fail(CLI_FAILED, "bench", NULL, "files in %s: %s", c->folder, base_status_text(st)) : CLI_OK;
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
        if (st == ST_ENOTSUP) add_missing(&c, "training, tokens/s", err.what), st = ST_OK;
        else if (!st) st = compare_model(&c, &err);
        progress_clear(b->c);
        if (!b->json && c.nlines > from) print(&c, from);
        if (st) rc = st == ST_ECANCELED || interrupted ? interrupt_status() : cli_fail_err(CLI_FAILED, bench_presets[i].name, NULL, &err);
    }
    progress_clear(b->c);
    kn_dev_close(c.one);
    base_buf_fini(&c.text);
    bench_folder_remove(c.folder);
    if (rc) return rc;
    if (b->json) {
        json_t *list = json_array();
        for (int i = 0; i < c.nlines; i++) json_array_append_new(list, line_json(&c.line[i]));
        json_object_set_new(b->json, "compare", list);
    } else {
        print_terms();
    }
    return CLI_OK;
}
