/* What the latency model (controller/latency.h) is worth: draws architectures of a preset, profiles each with untrained weights, and predicts those that it was not shown.
 *
 *   bench_latency measure FILE [--space lm-small] [--n 100] [--seed 1]     a JSON line an architecture, appended: [median, low, high, n, ratio to the anchor] of each metric
 *   bench_latency score FILE [--splits 20]                                 MAPE, tau_b and how often the interval held, on what a fit was not shown
 *
 * Measured as an evaluator measures: the host's lock held, all metrics of a candidate one after another. Measuring to the same file again makes further rounds: of an architecture's measurements that counts during
 * which the anchor was fastest, and the two fastest of each tell how far a measurement repeats itself. A split is drawn at random (seeds 1, 2, …): so many of the architectures are shown, the others predicted. */
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
    int n, splits;
    uint64_t seed;
    struct metric metric[METRICS];
    struct arch arch[N_MAX];
    double y[METRICS][N_MAX], anchor[METRICS][N_MAX];     /* ms, the candidate's and meanwhile the anchor's */
    double second[METRICS][N_MAX], slower[METRICS][N_MAX]; /* of the next fastest anchor; NaN: measured once */
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
    for (int i = 0; i < b->n; i++) {
        struct candidate x;
        struct measured got[METRICS];
        st_t st = draw(s, b->seed, i, &x, &err);
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

static int read_all(struct bench *b)
{
    FILE *f = fopen(b->file, "r");
    char line[65536];
    struct base_err err = BASE_ERR_INIT;
    b->n = 0;
    if (!f) return perror(b->file), 1;
    while (fgets(line, sizeof line, f)) {
        json_t *o = json_loads(line, 0, NULL);
        struct arch a;
        int i = 0;
        if (space_arch_from_json(&a, json_object_get(o, "arch"), "arch", &err)) return fail(b->file, &err);
        while (i < b->n && !space_arch_equal(&b->arch[i], &a)) i++;
        if (i == N_MAX) return fprintf(stderr, "%s: more than %d\n", b->file, N_MAX), 1;
        for (int k = 0; k < METRICS; k++) {
            json_t *v = json_object_get(o, names[k]);
            double y = json_number_value(json_array_get(v, 0)), anchor = y / json_number_value(json_array_get(v, 4));
            if (i == b->n) b->second[k][i] = b->y[k][i] = NAN, b->slower[k][i] = b->anchor[k][i] = INFINITY;
            if (anchor < b->anchor[k][i]) {
                b->second[k][i] = b->y[k][i], b->slower[k][i] = b->anchor[k][i];
                b->y[k][i] = y, b->anchor[k][i] = anchor;
            } else if (anchor < b->slower[k][i]) {
                b->second[k][i] = y, b->slower[k][i] = anchor;
            }
        }
        if (i == b->n) b->arch[b->n++] = a;
        json_decref(o);
    }
    return fclose(f);
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Mean and median of |a / b - 1|, in percent. */
static void errors(const char *what, double *e, int n)
{
    double sum = 0;
    for (int i = 0; i < n; i++) sum += e[i];
    qsort(e, (size_t)n, sizeof *e, by_value);
    printf("%s mean %.2f %% median %.2f %%", what, n ? 100 * sum / n : NAN, n ? 100 * e[n / 2] : NAN);
}

static int score(struct bench *b)
{
    static const int shown[] = {24, 40, 60};
    static double e[N_MAX * 100];
    int p = latency_columns();
    double *x = malloc((size_t)b->n * (size_t)p * sizeof *x), *fx = malloc((size_t)b->n * (size_t)p * sizeof *fx);
    if (!x || !fx || b->splits > 100) return 1;
    for (int k = 0; k < METRICS; k++) {
        int pairs = 0, quiet = 0;
        double fastest = INFINITY;
        for (int i = 0; i < b->n; i++) {
            latency_features(&b->arch[i], &b->metric[k], ARCH_WEIGHTS_F32, x + (size_t)i * (size_t)p);
            fastest = fmin(fastest, b->anchor[k][i]);
        }
        for (int i = 0; i < b->n; i++)
            if (!isnan(b->second[k][i])) e[pairs++] = fabs(b->second[k][i] / b->y[k][i] - 1);
        for (int i = 0; i < b->n; i++) quiet += b->anchor[k][i] < 1.1 * fastest;
        printf("%s: %d networks, %d of them while the anchor was within 10 %% of its fastest; two measurements of one differ by", names[k], b->n, quiet);
        errors("", e, pairs);
        putchar('\n');
        for (int s = 0; s < 3; s++) {
            int n = shown[s], all = 0, held = 0;
            double tau = 0, least = 1, cross = 0, width = 0;
            if (n + 10 > b->n) continue;
            for (int split = 1; split <= b->splits; split++) {
                int order[N_MAX], rest = b->n - n;
                double y[N_MAX], guess[N_MAX], truth[N_MAX];
                struct latency *l;
                struct base_rng r = base_rng_at((uint64_t)split, RNG_TEST, 0);
                for (int i = 0; i < b->n; i++) {
                    int at = (int)base_rng_below(&r, (uint32_t)i + 1);
                    order[i] = order[at];
                    order[at] = i;
                }
                for (int i = 0; i < n; i++) {
                    memcpy(fx + (size_t)i * (size_t)p, x + (size_t)order[i] * (size_t)p, (size_t)p * sizeof *x);
                    y[i] = b->y[k][order[i]];
                }
                if (latency_new(&l, fx, y, n)) return 1;
                for (int i = 0; i < rest; i++) {
                    struct latency_value v;
                    latency_at(l, x + (size_t)order[n + i] * (size_t)p, &v);
                    truth[i] = b->y[k][order[n + i]];
                    guess[i] = v.value;
                    held += v.low <= truth[i] && truth[i] <= v.high;
                    width += (v.high - v.low) / v.value / 2;
                    e[all++] = fabs(v.value / truth[i] - 1);
                }
                double t = base_stats_kendall_b(guess, truth, rest);
                tau += t / b->splits;
                least = fmin(least, t);
                cross += latency_error(l) / b->splits;
                latency_free(l);
            }
            printf("  %d shown:", n);
            errors(" error", e, all);
            printf(", tau_b %.3f (least of %d splits %.3f), within the interval %.1f %%, its half width %.1f %%, cross-validated error %.2f %%\n", tau, b->splits, least, 100.0 * held / all,
                   100 * width / all, 100 * cross);
        }
    }
    free(x);
    free(fx);
    return 0;
}

int main(int argc, char **argv)
{
    static struct bench b = {.space = "lm-small", .n = 100, .seed = 1, .splits = 20};
    for (int i = 3; i + 1 < argc; i += 2) {
        if (!strcmp(argv[i], "--space")) b.space = argv[i + 1];
        else if (!strcmp(argv[i], "--n")) b.n = atoi(argv[i + 1]);
        else if (!strcmp(argv[i], "--seed")) b.seed = strtoull(argv[i + 1], NULL, 10);
        else if (!strcmp(argv[i], "--splits")) b.splits = atoi(argv[i + 1]);
        else return fprintf(stderr, "no option %s\n", argv[i]), 2;
    }
    if (argc < 3 || b.n < 1 || b.n > N_MAX) return fprintf(stderr, "bench_latency measure|score FILE …\n"), 2;
    b.file = argv[2];
    for (int k = 0; k < METRICS; k++)
        if (space_metric_parse(&b.metric[k], names[k], false, "", NULL)) return 2;
    if (!strcmp(argv[1], "measure")) return measure(&b);
    if (!strcmp(argv[1], "score")) return read_all(&b) || score(&b);
    return 2;
}
