/* What the latency model (controller/latency.h) is worth: draws architectures of a preset, profiles each with untrained weights, and predicts those that it was not shown.
 *
 *   bench_latency measure FILE [--space lm-small] [--n 100] [--seed 1] [--again 20]     a JSON line an architecture, appended; the first `again` are measured twice
 *   bench_latency score FILE [--splits 20]                                              MAPE, tau_b and how often the interval held, on what a fit was not shown
 *
 * Measured as an evaluator measures: the host's lock held, all metrics of a candidate one after another. */
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "base/stats.h"
#include "controller/latency.h"
#include "evaluator/hostlock.h"
#include "evaluator/profiler.h"
#include "searchspace/arch_json.h"
#include "searchspace/space.h"

enum { N_MAX = 1000, METRICS = 4 };
static const char *const names[METRICS] = {"decode_ms@128", "decode_ms@1024", "prefill_ms@256", "prefill_ms@1024"};

struct bench {
    const char *space, *file;
    int n, again, splits;
    uint64_t seed;
    struct metric metric[METRICS];
    struct arch arch[N_MAX];
    double y[METRICS][N_MAX], second[METRICS][N_MAX]; /* second: of the same again; NaN: not measured */
};

static int fail(const char *what, const struct base_err *err)
{
    char text[512];
    fprintf(stderr, "%s: %s\n", what, base_err_text(err, text, sizeof text));
    return 1;
}

static st_t draw(const struct space *s, uint64_t seed, int i, struct candidate *out, struct base_err *err)
{
    struct genome g;
    struct base_rng r = base_rng_at(seed, RNG_TEST, (uint64_t)i);
    st_t st = space_genome_init(s, &g);
    if (!st) st = space_sample(s, &r, &g);
    if (!st) st = space_candidate(s, &g, out, err);
    space_genome_fini(&g);
    return st;
}

static int measure(const struct bench *b)
{
    struct base_err err = BASE_ERR_INIT;
    struct space *s;
    struct kn_dev *dev;
    struct hostlock *lock;
    json_t *name = json_string(b->space);
    FILE *f = fopen(b->file, "a");
    if (!f) return perror(b->file), 1;
    if (space_new(&s, name, 256, 256, &err) || kn_dev_open(&dev, "cpu", 0, &err) || hostlock_open(&lock, "cpu", NULL, &err)) return fail(b->space, &err);
    for (int i = 0; i < b->n + b->again; i++) {
        struct candidate x;
        struct measured got[METRICS];
        st_t st = draw(s, b->seed, i % b->n, &x, &err);
        if (!st) st = hostlock_exclusive(lock);
        if (!st) st = profile_run(&x.arch, dev, NULL, b->metric, METRICS, &(struct profile_opts){0}, got, &err);
        hostlock_unlock(lock);
        if (st) return fail("profile", &err);
        fprintf(f, "{\"arch\":%s", x.canonical);
        for (int k = 0; k < METRICS; k++) fprintf(f, ",\"%s\":[%.9g,%.9g,%.9g,%d,%.9g]", names[k], got[k].median, got[k].low, got[k].high, got[k].n, got[k].ratio);
        fputs("}\n", f);
        fflush(f);
        space_candidate_fini(&x);
    }
    hostlock_close(lock);
    kn_dev_close(dev);
    space_free(s);
    json_decref(name);
    return fclose(f);
}

int main(int argc, char **argv)
{
    static struct bench b = {.space = "lm-small", .n = 100, .again = 20, .seed = 1, .splits = 20};
    for (int i = 3; i + 1 < argc; i += 2) {
        if (!strcmp(argv[i], "--space")) b.space = argv[i + 1];
        else if (!strcmp(argv[i], "--n")) b.n = atoi(argv[i + 1]);
        else if (!strcmp(argv[i], "--again")) b.again = atoi(argv[i + 1]);
        else if (!strcmp(argv[i], "--seed")) b.seed = strtoull(argv[i + 1], NULL, 10);
        else if (!strcmp(argv[i], "--splits")) b.splits = atoi(argv[i + 1]);
        else return fprintf(stderr, "no option %s\n", argv[i]), 2;
    }
    if (argc < 3 || b.n < 1 || b.n + b.again > N_MAX || b.again < 0) return fprintf(stderr, "bench_latency measure|score FILE …\n"), 2;
    b.file = argv[2];
    for (int k = 0; k < METRICS; k++)
        if (space_metric_parse(&b.metric[k], names[k], false, "", NULL)) return 2;
    if (!strcmp(argv[1], "measure")) return measure(&b);
    return 2;
}
