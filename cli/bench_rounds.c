/* taut bench --compare-torch: training, memory, wall clock and decoding of a model here and in PyTorch, from the same weights over the same text, in turns.
 *
 * A ratio is taken within a round, between the modes that were best over all rounds; its median and spread over the rounds are what is printed. Wall clock
 * is measured apart, on processes from their start to their end. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/stats.h"
#include "cli/bench_compare.h"
#include "cli/format.h"
#include "cli/interrupt.h"
#include "cli/progress.h"
#include "model/checkpoint.h"
#include "searchspace/layer.h"

/* The wanted figures, by model; NAN: none. */
static const double want_train[] = {2.0, 1.4, 1.2, 1.5, 2.5}, want_share[] = {0.7, 0.75, 0.82, 0.78, 0.7}, want_wall[] = {2.5, 2, NAN, 2.2, 3},
                    want_decode[] = {NAN, 4, 2.1, NAN, NAN}, want_bound[] = {NAN, 1.3, 1.3, NAN, NAN};
#define WANT_SCALING 1.85
#define WANT_MEMORY 0.5

/* ---- ours ---- */

static st_t own_steps(struct compare *c, struct compare_own *o, int steps, double *losses, double *ms)
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
        st = model_train_begin(o->m, x, x + 1, c->b->batch, c->a.context, &h);
        if (!st) st = model_train_end(o->m, &loss, &norm);
        if (losses) losses[s] = loss;
        if (ms) ms[s] = (double)(base_clock_ns() - from) * 1e-6;
    }
    free(x);
    return st ? st : interrupted ? ST_ECANCELED : ST_OK;
}

static st_t own_start(struct compare *c, int i, struct kn_dev *dev, enum kn_dtype precision, bool save, struct base_err *err)
{
    struct compare_own *o = &c->own[i];
    *o = (struct compare_own){.dev = dev, .precision = precision};
    st_t st = model_new(&o->m, &c->a, dev, &(struct model_opts){.train = true, .batch = c->b->batch, .precision = precision}, err);
    if (!st) st = model_init(o->m, 1);
    if (!st && save) st = model_save(o->m, c->weights, false, NULL, 0, NULL, NULL, err);
    if (!st) st = own_steps(c, o, COMPARE_CHECK_STEPS, o->loss, NULL);
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

static st_t round_own(struct compare *c, struct compare_own *o, int steps)
{
    double ms[BENCH_COMPARE_ROUNDS];
    struct compare_series s = {.n = 0};
    st_t st = own_steps(c, o, steps, NULL, ms);
    for (int i = 0; i < steps; i++) compare_push(&s, ms[i]);
    if (!st) compare_push(&o->rate, (double)c->b->batch * c->a.context / compare_median(&s) * 1e3);
    if (!st && o != &c->own[2]) compare_push(&o->product, bench_product(c->b, o->dev, o->precision).high);
    return st;
}

static st_t round_side(struct compare *c, struct compare_side *s, int steps, struct base_err *err)
{
    json_t *v = torch_ask(c, &s->child, err, "steps %d", steps), *p;
    if (!v) return interrupted ? ST_ECANCELED : ST_EIO;
    compare_push(&s->rate, (double)c->b->batch * c->a.context / torch_median_ms(v) * 1e3);
    json_decref(v);
    p = torch_ask(c, &s->child, err, "product");
    if (!p) return interrupted ? ST_ECANCELED : ST_EIO;
    compare_push(&s->product, json_number_value(json_object_get(p, "flops")));
    json_decref(p);
    return ST_OK;
}

static void choose(struct compare *c)
{
    c->best_side = c->best_own = 0;
    for (int i = 1; i < COMPARE_MODES; i++)
        if (compare_median(&c->side[i].rate) > compare_median(&c->side[c->best_side].rate)) c->best_side = i;
    if (c->own[1].m && compare_median(&c->own[1].rate) > compare_median(&c->own[0].rate)) c->best_own = 1;
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
        for (int i = 0; !st && i < COMPARE_MODES; i++) {
            progress_draw(b->c, NAN, "model %s: training, round %d of %d, PyTorch %s", bench_presets[c->model].name, r + 1, b->rounds, torch_modes[i]);
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
    for (int i = 0; i < COMPARE_CHECK_STEPS; i++) most = fmax(most, fabs(x[i] - y[i]) / fabs(y[i]));
    return most;
}

static void training_lines(struct compare *c, double others)
{
    const struct compare_own *o = &c->own[c->best_own];
    const struct compare_side *s = &c->side[c->best_side];
    char x[FMT_MAX];
    struct compare_line *l = compare_add(c, COMPARE_TORCH, "training, tokens/s", want_train[c->model]);
    snprintf(l->ours, sizeof l->ours, "%s (%s)", fmt_count(x, compare_median(&o->rate)), kn_dtype_name(o->precision));
    snprintf(l->theirs, sizeof l->theirs, "%s (%s)", fmt_count(x, compare_median(&s->rate)), s->mode);
    l->ratio = compare_ratio(&o->rate, &s->rate);
    l->others = others;

    l = compare_add(c, COMPARE_TORCH, "first losses, f32: largest difference", NAN);
    snprintf(l->ours, sizeof l->ours, "%.6f", c->own[0].loss[0]);
    snprintf(l->theirs, sizeof l->theirs, "%.6f", c->side[0].loss[0]);
    l->ratio = (struct kn_rate){apart(c->own[0].loss, c->side[0].loss), NAN, NAN};
    l->target = 1e-4, l->at_most = true;

    /* the fastest bf16 product that either side reached in the run */
    double ours = compare_median(&c->own[1].product), theirs = fmax(compare_median(&c->side[1].product), isnan(compare_median(&c->side[3].product)) ? 0 : compare_median(&c->side[3].product));
    if (c->own[1].m) {
        double rate = fmax(ours, theirs), flops = bench_train_flops(&c->a);
        l = compare_add(c, COMPARE_TORCH, "share of the bf16 product's rate", want_share[c->model]);
        snprintf(l->ours, sizeof l->ours, "%.2f of %.0f GFLOP/s", flops * compare_median(&o->rate) / rate, rate * 1e-9);
        snprintf(l->theirs, sizeof l->theirs, "%.2f", flops * compare_median(&s->rate) / rate);
        struct compare_series one = {.n = 0};
        for (int i = 0; i < o->rate.n; i++) compare_push(&one, rate / flops);
        l->ratio = compare_ratio(&o->rate, &one);
        l->others = others;
    } else {
        compare_add_missing(c, COMPARE_TORCH, "share of the bf16 product's rate", "this machine has no bf16 products");
    }
    if (c->own[2].m) {
        l = compare_add(c, COMPARE_TORCH, "scaling from one thread", WANT_SCALING);
        snprintf(l->ours, sizeof l->ours, "%s on 1, %d threads here", fmt_count(x, compare_median(&c->own[2].rate)), c->b->dev->info.threads);
        l->ratio = compare_ratio(&c->own[c->own[2].precision == KN_BF16].rate, &c->own[2].rate);
        l->others = others;
    }
}

static st_t memory_line(struct compare *c, const char *arch, struct base_err *err)
{
    struct compare_side *s = &c->side[c->best_side];
    json_t *v = torch_ask(c, &s->child, err, "memory"), *end = NULL;
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
    struct compare_line *l = compare_add(c, COMPARE_TORCH, "memory of a training process, most", WANT_MEMORY);
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
    for (int i = 0; i < COMPARE_MODES; i++) {
        double s = c->side[i].start_s + (steps - 1) * c->b->batch * c->a.context / compare_median(&c->side[i].rate);
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
    progress_draw(b->c, NAN, "model %s: %d steps from process start, PyTorch %s", bench_presets[c->model].name, steps, torch_modes[mode]);
    uint64_t from = base_clock_ns();
    if (!st) st = torch_start(c, &child, torch_modes[mode], steps, err);
    if (!st) {
        json_t *v = torch_answer(c, &child, err);
        if (!v) st = interrupted ? ST_ECANCELED : ST_EIO;
        json_decref(v);
        if (bench_child_end(&child) && !st) st = base_err_set(err, ST_EIO, "PyTorch", "it failed");
        theirs = (double)(base_clock_ns() - from) * 1e-9;
    }
    double others = bench_end(b, &y);
    if (st) return interrupted ? ST_ECANCELED : st;
    struct compare_line *l = compare_add(c, COMPARE_TORCH, "steps from process start", want_wall[c->model]);
    snprintf(l->ours, sizeof l->ours, "%d in %.2f s", steps, ours);
    snprintf(l->theirs, sizeof l->theirs, "%.2f s (%s)", theirs, torch_modes[mode]);
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
    struct compare_series s = {.n = 0};
    st_t st = ST_OK;
    for (int i = -2; !st && i < n; i++) {
        uint64_t from = base_clock_ns();
        model_state_seek(state, at);
        st = model_decode(state, &token, 1, logits);
        token = 0;
        for (int k = 1; k < BENCH_VOCAB; k++)
            if (logits[k] > logits[token]) token = k;
        if (i >= 0) compare_push(&s, (double)(base_clock_ns() - from) * 1e-6);
    }
    *ms = compare_median(&s);
    return st;
}

static st_t decode_lines(struct compare *c, struct base_err *err)
{
    struct bench *b = c->b;
    struct bench_child child[2] = {{0}, {0}};
    struct compare_series theirs[2] = {{.n = 0}, {.n = 0}}, ours = {.n = 0};
    struct model *m = NULL;
    struct model_state *state = NULL;
    struct bench_busy y;
    int64_t at = compare_decode_at(b);
    st_t st = model_new(&m, &c->a, b->dev, &(struct model_opts){.batch = 0}, err);
    if (!st) st = model_load(m, c->weights, false, err);
    if (!st) st = model_state_new(&state, m, 1, at + 1, err);
    if (!st) st = model_state_fill(state, at);
    for (int i = 0; !st && i < 2; i++) {
        progress_draw(b->c, NAN, "model %s: PyTorch starts, %s", bench_presets[c->model].name, torch_decode_modes[i]);
        st = torch_start(c, &child[i], torch_decode_modes[i], 0, err);
        json_t *v = st ? NULL : torch_answer(c, &child[i], err);
        if (v) json_decref(v), v = torch_ask(c, &child[i], err, "decode %lld 2", (long long)at);
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
        compare_push(&ours, ms);
        for (int i = 0; !st && i < 2; i++) {
            json_t *v = torch_ask(c, &child[i], err, "decode %lld 30", (long long)at);
            if (!v) st = interrupted ? ST_ECANCELED : ST_EIO;
            else compare_push(&theirs[i], torch_median_ms(v));
            json_decref(v);
        }
    }
    double others = held ? bench_end(b, &y) : NAN;
    if (!st) {
        int best = compare_median(&theirs[1]) < compare_median(&theirs[0]);
        double bytes = bench_decode_bytes(&c->a, at), bound = bytes / kn_limits_bandwidth(&b->limits, bytes, KN_LIMIT_READ, 1) * 1e3;
        struct compare_line *l = compare_add(c, COMPARE_TORCH, "decoding, f32, ms a token", want_decode[c->model]);
        snprintf(l->ours, sizeof l->ours, "%.3f at %lld", compare_median(&ours), (long long)at);
        snprintf(l->theirs, sizeof l->theirs, "%.3f (%s)", compare_median(&theirs[best]), torch_decode_modes[best]);
        l->ratio = compare_ratio(&theirs[best], &ours);
        l->others = others;
        l = compare_add(c, COMPARE_TORCH, "decoding, times its bound", want_bound[c->model]);
        snprintf(l->ours, sizeof l->ours, "%.3f of %.3f ms", compare_median(&ours), bound);
        struct compare_series one = {.n = 0};
        for (int i = 0; i < ours.n; i++) compare_push(&one, bound);
        l->ratio = compare_ratio(&ours, &one);
        l->at_most = true;
        l->others = others;
    }
    for (int i = 0; i < 2; i++) bench_child_end(&child[i]);
    model_state_free(state);
    model_free(m);
    kn_trim(b->dev);
    return st;
}

/* ---- all of it ---- */

st_t torch_compare(struct compare *c, struct base_err *err)
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
    if (!st) st = torch_sides_start(c, err);
    pid_t pids[COMPARE_MODES + 1] = {0};
    for (int i = 0; i < COMPARE_MODES; i++) pids[i] = c->side[i].child.pid;
    if (!st && !bench_begin(b, &y, pids)) st = ST_ECANCELED;
    else if (!st) {
        st = rounds(c, err);
        double others = bench_end(b, &y);
        if (!st) training_lines(c, others);
    }
    own_end(c);
    if (!st && !compare_skipped(b, "memory")) st = memory_line(c, arch.p, err);
    torch_sides_end(c);
    if (!st && !compare_skipped(b, "wall")) st = wall_line(c, arch.p, err);
    if (!st && !compare_skipped(b, "decode") && decodable(&c->a)) st = decode_lines(c, err);
    base_buf_fini(&arch);
    return st;
}
