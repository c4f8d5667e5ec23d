/* Training steps by hand: tokens/s and losses of the models a, b, c, e.
 *
 *   bench_train a --steps 20 --threads 2 --data corpus.bin --init weights.safetensors --precision bf16
 *
 * Prints a line a step (step, loss, gradient norm, ms), then the median. Sequence b of step s starts at byte (s*B +
 * b)*T of the data; without --data the
 * bytes are made up. The recipe of `taut train`: AdamW 0.9 0.95 1e-8, weight decay 0.1, clip 1, warm-up 2 %, linear
 * last fifth, hidden matrices at lr * 128 / width. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/rng.h"
#include "base/stats.h"
#include "model/checkpoint.h"
#include "model/model.h"

enum { B = 16, T = 256, STEPS_MAX = 10000 };

static const struct {
    const char *name;
    int depth, width, heads, kv_heads, hidden, experts; /* experts: 2 of them active; 0: swiglu */
    const char *scans;                                  /* the type of two layers in three (MMA); NULL: attention in all */
} presets[] = {{"a", 4, 128, 4, 4, 384, 0, NULL},
               {"b", 6, 256, 8, 2, 704, 0, NULL},
               {"c", 8, 512, 8, 8, 1408, 0, NULL},
               {"d", 6, 256, 8, 2, 704, 0, "mamba2"},
               {"d-gated", 6, 256, 8, 2, 704, 0, "gated_delta"},
               {"d-linear", 6, 256, 8, 2, 704, 0, "linear"},
               {"e", 6, 256, 8, 2, 256, 8, NULL}};

static void set(struct arch_part *p, const char *name, int v)
{
    p->v[space_layer_param(space_layer(p->type), name)] = v;
}

/* A scan of width 256. */
static struct arch_part scan(const char *name)
{
    struct arch_part p = {.type = space_layer_find(name, LAYER_MIXER)};
    if (!strcmp(name, "mamba2")) {
        set(&p, "expand", 2), set(&p, "head_dim", 64), set(&p, "state", 64), set(&p, "conv", 4), set(&p, "groups", 1);
        return p;
    }
    set(&p, "heads", 8), set(&p, "head_dim", 32), set(&p, "value_dim", 32);
    if (!strcmp(name, "linear")) set(&p, "gate_rank", 16);
    else set(&p, "key_heads", 8), set(&p, "conv", 4);
    return p;
}

static int preset(struct arch *a, const char *name)
{
    for (size_t i = 0; i < sizeof presets / sizeof presets[0]; i++) {
        if (strcmp(presets[i].name, name)) continue;
        struct arch_layer l = {{.type = space_layer_find("attention", LAYER_MIXER)},
                               {.type = space_layer_find(presets[i].experts ? "moe" : "swiglu", LAYER_FFN)}};
        set(&l.mixer, "heads", presets[i].heads);
        set(&l.mixer, "kv_heads", presets[i].kv_heads);
        set(&l.mixer, "head_dim", presets[i].width / presets[i].heads);
        set(&l.mixer, "rope", 1);
        set(&l.ffn, "hidden", presets[i].hidden);
        if (presets[i].experts) set(&l.ffn, "experts", presets[i].experts), set(&l.ffn, "active", 2);
        *a = (struct arch){
            .vocab = 256, .context = T, .width = presets[i].width, .depth = presets[i].depth, .rope_theta = 10000};
        for (int k = 0; k < a->depth; k++) {
            a->layer[k] = l;
            if (presets[i].scans && k % 3 < 2) a->layer[k].mixer = scan(presets[i].scans);
        }
        return 0;
    }
    return -1;
}

static void batch(const struct base_buf *data, int64_t step, int32_t *tokens, int32_t *targets)
{
    for (int64_t i = 0; i < B * T; i++) {
        size_t at = (size_t)(step * B * T + i) % (data->len - 1);
        tokens[i] = (unsigned char)data->p[at];
        targets[i] = (unsigned char)data->p[at + 1];
    }
}

static double lr_at(double lr, int s, int steps)
{
    double warm = fmax(1, round(0.02 * steps)), decay = round(0.2 * steps), left = steps - s;
    lr *= fmin(1, (s + 1) / warm);
    return left <= decay ? lr * left / (decay + 1) : lr;
}

static int run(struct model *m, const struct base_buf *data, int steps, double lr)
{
    static int32_t tokens[B * T], targets[B * T];
    static double ms[STEPS_MAX];
    double median, low, high, loss, norm;
    for (int s = 0; s < steps; s++) {
        batch(data, s, tokens, targets);
        struct model_hyper h = {lr_at(lr, s, steps), 128.0 / model_arch(m)->width, 0.9, 0.95, 1e-8, 0.1, 1.0};
        uint64_t t = base_clock_ns();
        st_t st = model_step(m, tokens, targets, B, T, &loss);
        if (!st) st = model_update(m, &h, &norm);
        if (st) return fprintf(stderr, "step %d: %s\n", s, base_status_text(st)), 1;
        ms[s] = (double)(base_clock_ns() - t) / 1e6;
        printf("step %d loss %.9g gnorm %.9g ms %.2f\n", s, loss, norm, ms[s]);
    }
    int first = steps > 3 ? 2 : 0; /* scratch grows and pages come in at first */
    if (base_stats_median_ci(ms + first, steps - first, &median, &low, &high)) return 1;
    printf("median ms %.2f low %.2f high %.2f tokens/s %.0f\n", median, low, high, B * T / median * 1e3);
    return 0;
}

int main(int argc, char **argv)
{
    const char *device = "cpu", *data_path = NULL, *init = NULL;
    int threads = 2, steps = 10;
    double lr = 3e-3;
    enum kn_dtype precision = KN_F32;
    struct arch a;
    struct base_err err = BASE_ERR_INIT;
    struct base_buf data = BASE_BUF_INIT;
    struct kn_dev *dev = NULL;
    struct model *m = NULL;
    if (argc < 2 || preset(&a, argv[1]))
        return fprintf(stderr, "usage: bench_train a|b|c|d|d-gated|d-linear|e [--steps N] [--threads N] [--device D] [--lr LR] [--data "
                               "FILE] [--init FILE] [--precision f32|bf16]\n"),
               2;
    for (int i = 2; i + 1 < argc; i += 2) {
        if (!strcmp(argv[i], "--steps"))
            steps = atoi(argv[i + 1]);
        else if (!strcmp(argv[i], "--threads"))
            threads = atoi(argv[i + 1]);
        else if (!strcmp(argv[i], "--device"))
            device = argv[i + 1];
        else if (!strcmp(argv[i], "--lr"))
            lr = atof(argv[i + 1]);
        else if (!strcmp(argv[i], "--data"))
            data_path = argv[i + 1];
        else if (!strcmp(argv[i], "--init"))
            init = argv[i + 1];
        else if (!strcmp(argv[i], "--precision"))
            precision = strcmp(argv[i + 1], "bf16") ? KN_F32 : KN_BF16;
        else
            return fprintf(stderr, "%s: unknown\n", argv[i]), 2;
    }
    if (steps < 1 || steps > STEPS_MAX) return 2;
    if (data_path) {
        if (base_buf_read_file(&data, data_path, (size_t)1 << 32))
            return fprintf(stderr, "%s: cannot read\n", data_path), 1;
    } else {
        struct base_rng r = base_rng_at(1, RNG_TEST, 0);
        for (int i = 0; i < 1 << 20; i++) base_buf_add(&data, &(char){(char)base_rng_below(&r, 256)}, 1);
    }
    if (data.st || data.len < 2) return 1;
    st_t st = kn_dev_open(&dev, device, threads, &err);
    if (!st) st = model_new(&m, &a, dev, &(struct model_opts){.train = true, .batch = B, .precision = precision}, &err);
    if (!st) st = init ? model_load(m, init, false, &err) : model_init(m, 1);
    if (st) return fprintf(stderr, "%s: %s\n", err.where, err.what), 1;
    int rc = run(m, &data, steps, lr);
    printf("parameters %lld bytes %llu peak %llu\n", (long long)model_param_count(m),
           (unsigned long long)kn_dev_bytes(dev), (unsigned long long)kn_dev_peak(dev));
    model_free(m);
    kn_dev_close(dev);
    base_buf_fini(&data);
    return rc;
}
