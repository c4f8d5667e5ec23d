/* The other side of taut bench --compare-torch: a Python process (bench_torch.py) for each of PyTorch's modes, which stays there and does some steps when
 * it is told to, so that compiling is paid once and rounds of both sides follow each other within seconds. */
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>

#include "base/clock.h"
#include "cli/bench_compare.h"
#include "cli/interrupt.h"
#include "cli/progress.h"

const char *const torch_modes[COMPARE_MODES] = {"eager-f32", "eager-bf16", "compiled-f32", "compiled-bf16"}, *const torch_decode_modes[2] = {"eager-decode", "compiled-decode"};

int torch_find(struct compare *c)
{
    const char *named = getenv("TAUT_TORCH_PYTHON");
    struct bench_child child;
    struct base_err err = BASE_ERR_INIT;
    c->python = named && *named ? named : "python3";
    const char *argv[] = {c->python, "-c", "import torch", NULL};
    const char *env[] = {"OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE", NULL};
    if (!bench_child_start(&child, argv, env, c->log, &err) && !bench_child_end(&child)) return CLI_OK;
    return interrupted ? interrupt_status() : cli_fail(CLI_FAILED, "--compare-torch", "set TAUT_TORCH_PYTHON to one that does, or --skip torch", "%s cannot import torch", c->python);
}

st_t torch_start(struct compare *c, struct bench_child *child, const char *mode, int steps, struct base_err *err)
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

json_t *torch_answer(struct compare *c, struct bench_child *child, struct base_err *err)
{
    json_t *v = bench_child_read(child);
    if (!v && !interrupted) {
        char last[256];
        bench_log_last(c->log, last, sizeof last);
        base_err_set(err, ST_EIO, "PyTorch", "%s", *last ? last : "it ended");
    }
    return v;
}

json_t *torch_ask(struct compare *c, struct bench_child *child, struct base_err *err, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vfprintf(child->to, fmt, ap);
    va_end(ap);
    fputc('\n', child->to);
    fflush(child->to);
    return torch_answer(c, child, err);
}

static int numbers(json_t *o, const char *key, double *out, int max)
{
    json_t *list = json_object_get(o, key);
    int n = (int)json_array_size(list);
    for (int i = 0; i < n && i < max; i++) out[i] = json_number_value(json_array_get(list, (size_t)i));
    return n < max ? n : max;
}

double torch_median_ms(json_t *o)
{
    struct compare_series s = {.n = 0};
    s.n = numbers(o, "ms", s.v, BENCH_COMPARE_ROUNDS);
    return compare_median(&s);
}

st_t torch_sides_start(struct compare *c, struct base_err *err)
{
    for (int i = 0; i < COMPARE_MODES; i++) {
        struct compare_side *s = &c->side[i];
        uint64_t from = base_clock_ns();
        *s = (struct compare_side){.mode = torch_modes[i]};
        progress_draw(c->b->c, NAN, "model %s: PyTorch starts, %s", bench_presets[c->model].name, torch_modes[i]);
        st_t st = torch_start(c, &s->child, torch_modes[i], 0, err);
        if (st) return st;
        json_t *v = torch_answer(c, &s->child, err);
        if (v) json_decref(v), v = torch_ask(c, &s->child, err, "steps 1");
        if (!v) return interrupted ? ST_ECANCELED : ST_EIO;
        s->start_s = (double)(base_clock_ns() - from) * 1e-9;
        numbers(v, "losses", s->loss, 1);
        json_decref(v);
        v = torch_ask(c, &s->child, err, "steps %d", COMPARE_CHECK_STEPS - 1);
        if (!v) return interrupted ? ST_ECANCELED : ST_EIO;
        numbers(v, "losses", s->loss + 1, COMPARE_CHECK_STEPS - 1);
        json_decref(v);
    }
    return ST_OK;
}

void torch_sides_end(struct compare *c)
{
    for (int i = 0; i < COMPARE_MODES; i++) bench_child_end(&c->side[i].child);
}
