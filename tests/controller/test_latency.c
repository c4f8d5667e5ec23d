/* The latency model: its columns against a network counted by hand, its weights against the conditions that only the least squares solution meets, its interval against the definition worked out from fits of its own,
 * how often that holds, and that noise and outliers do not lead it astray. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "controller/latency.h"
#include "searchspace/arch_json.h"
#include "searchspace/layer.h"
#include "searchspace/space.h"
#include "tests/tap.h"

enum { N = 96, P_MAX = 256 };

static const char arch_text[] =
    "{\"taut\":1,\"vocab\":256,\"context\":64,\"width\":64,\"layers\":["
    "{\"mixer\":{\"type\":\"attention\",\"heads\":4,\"kv_heads\":2,\"head_dim\":16,\"window\":32},\"ffn\":{\"type\":\"swiglu\",\"hidden\":96}},"
    "{\"mixer\":{\"type\":\"attention\",\"heads\":2,\"kv_heads\":1,\"head_dim\":16},\"ffn\":{\"type\":\"swiglu\",\"hidden\":128,\"rank\":8}}]}";

static double sum_of(const double *x, int n)
{
    double s = 0;
    for (int i = 0; i < n; i++) s += x[i];
    return s;
}

/* All columns but those that are said to be something must be 0. */
static void test_columns(void)
{
    struct arch a;
    struct base_err err = BASE_ERR_INIT;
    struct metric decode, prefill, batch;
    double x[P_MAX];
    int p = latency_columns(), at = space_layer_find("attention", LAYER_MIXER), sw = space_layer_find("swiglu", LAYER_FFN);
    ok(p <= P_MAX && !space_arch_parse(&a, arch_text, strlen(arch_text), "arch", &err), "an architecture %s", err.what);
    space_metric_parse(&decode, "decode_ms@100", false, "", NULL);
    space_metric_parse(&prefill, "prefill_ms@100", false, "", NULL);
    space_metric_parse(&batch, "throughput@4x100", false, "", NULL);
    latency_features(&a, &decode, ARCH_WEIGHTS_F32, x);
    int types = 6, each = 4; /* constant, state, stream, matrices, head, small; then parts, bytes, rows, other of each type, and of it factored */
    is_int(p, types + 2 * each * space_layer_count(), "columns");
    const double *att = x + types + 2 * each * at, *full = x + types + 2 * each * sw, *low = full + each;
    ok(x[0] == 1 && x[4] == 256 * 64, "a constant, and the head's numbers");
    is_int((long)x[1], 4 * 2 * (2 * 16 * 32 + 1 * 16 * 100), "bytes of state: 32 keys of two heads and 100 of one");
    is_int((long)x[2], 4 * 64, "numbers of the stream");
    is_int((long)x[3], 4 + 3 + 4 + 6, "matrices");
    is_int((long)att[0], 2, "two parts of attention");
    is_int((long)att[1], 4 * ((64 + 32 + 32 + 64) * 64 + (32 + 16 + 16 + 32) * 64), "bytes of its matrices");
    is_int((long)att[2], 64 + 32 + 32 + 64 + 32 + 16 + 16 + 64, "rows");
    is_int((long)att[3], 4 * (64 * 32 + 32 * 101), "FLOPs of pairs: the window's 32, and 101");
    ok(full[0] == 1 && full[1] == 4 * 3 * 64 * 96 && full[2] == 96 + 96 + 64 && full[3] == 0, "a full swiglu");
    ok(low[0] == 1 && low[1] == 4 * 3 * 8 * (64 + 128) && low[2] == 3 * 8 + 128 + 128 + 64 && low[3] == 0, "a factored one");
    ok(sum_of(x, p) == x[0] + x[1] + x[2] + x[3] + x[4] + x[5] + sum_of(att, 4) + sum_of(full, 4) + sum_of(low, 4), "nothing else");
    is_int((long)x[5], 4 * (12288 + 18432 + 6144) + 4 * 2 * 32 * 32 + 4 * 2 * 16 * 100 + 4 * 256 * 64, "what is small: both attentions and the full swiglu with their state, and the head");
    double full_bytes = full[1], rows = full[2];
    latency_features(&a, &decode, ARCH_WEIGHTS_INT8, x);
    is_int((long)full[1], 3 * 64 * 96 + 4 * (96 + 96 + 64), "int8: a byte a number, and a scale a row");
    latency_features(&a, &batch, ARCH_WEIGHTS_F32, x);
    ok(full[1] == full_bytes && full[2] == 4 * rows && x[2] == 4 * 4 * 64, "a batch reads its matrices once, and has four of the rest");
    latency_features(&a, &prefill, ARCH_WEIGHTS_F32, x);
    ok(full[1] == 100.0 * 3 * 64 * 96 && full[2] == 100 * rows, "a prefill's products and rows are those of its tokens");
    is_int((long)att[3], 4 * (64 * (32 * 33 / 2 + 68 * 32) + 32 * (100 * 101 / 2)), "and its pairs those of the mask");
}

struct set {
    double x[N * P_MAX], y[N];
    int p;
};

/* Networks of a space, and what a machine of such a sum takes for them. */
static void draw(struct set *s, uint64_t seed, double noise, double bent)
{
    struct space *space;
    struct base_err err = BASE_ERR_INIT;
    struct metric m;
    json_t *name = json_string("lm-small");
    struct genome g;
    space_metric_parse(&m, "decode_ms@128", false, "", NULL);
    if (space_new(&space, name, 256, 256, &err) || space_genome_init(space, &g)) exit(1);
    s->p = latency_columns();
    for (int i = 0; i < N; i++) {
        struct candidate c;
        struct base_rng r = base_rng_at(seed, RNG_TEST, (uint64_t)i);
        if (space_sample(space, &r, &g) || space_candidate(space, &g, &c, NULL)) exit(1);
        double *x = s->x + (size_t)i * (size_t)s->p, t = 0.002;
        latency_features(&c.arch, &m, ARCH_WEIGHTS_F32, x);
        for (int j = 6; j < s->p; j++) t += x[j] * ((j - 6) % 4 == 0 ? 1e-3 : (j - 6) % 4 == 1 ? 8e-9 : (j - 6) % 4 == 2 ? 1e-6 : 2e-9);
        s->y[i] = t * pow(t, bent) * exp(noise * base_rng_normal(&r));
        space_candidate_fini(&c);
    }
    space_genome_fini(&g);
    space_free(space);
    json_decref(name);
}

/* What tells the solution from everything else (Karush, Kuhn & Tucker): the gradient is 0 where w > 0, and does not want w below 0 elsewhere. */
static void test_weights(void)
{
    static struct set s;
    struct latency *l;
    draw(&s, 1, 0, 0);
    is_int(latency_new(&l, s.x, s.y, N), ST_OK, "a fit");
    const double *w = latency_weights(l);
    double worst_free = 0, worst_bound = 0, scale[P_MAX], error = 0;
    int positive = 0;
    for (int j = 0; j < s.p; j++) {
        scale[j] = 0;
        for (int i = 0; i < N; i++) scale[j] += s.x[i * s.p + j] / s.y[i] / N;
    }
    for (int j = 0; j < s.p; j++) {
        if (scale[j] == 0) continue;
        double gradient = LATENCY_RIDGE * N * w[j] * scale[j];
        for (int i = 0; i < N; i++) {
            double r = -1;
            for (int k = 0; k < s.p; k++) r += w[k] * s.x[i * s.p + k] / s.y[i];
            /* Huber's weights are 1 for those within the bound; a fit without noise has all errors far below 1 % */
            gradient += r * s.x[i * s.p + j] / s.y[i] / scale[j];
        }
        gradient /= N;
        if (w[j] > 0) worst_free = fmax(worst_free, fabs(gradient));
        else worst_bound = fmax(worst_bound, -gradient);
        positive += w[j] > 0;
        if (w[j] < 0) error = 1;
    }
    ok(error == 0 && positive > 3, "no weight is below 0, %d are above", positive);
    ok(worst_free < 2e-4 && worst_bound < 2e-4, "it is the solution: gradients %.1e where a weight is free, %.1e against the bound", worst_free, worst_bound);
    double most = 0;
    for (int i = 0; i < N; i++) {
        struct latency_value v;
        latency_at(l, s.x + i * s.p, &v);
        most = fmax(most, fabs(v.value / s.y[i] - 1));
    }
    ok(most < 0.01 && latency_error(l) < 0.01, "a machine that is such a sum is found: %.2f %% at worst, %.2f %% where a network was left out", 100 * most, 100 * latency_error(l));
    latency_free(l);
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* CV+ worked out from fits to the points outside each fold, in cases where those are without a process (its grid is chosen on all points). */
static void test_interval(void)
{
    static struct set s, some;
    struct latency *l, *fold[LATENCY_FOLDS];
    enum { M = 64 };
    int p, plain = 1;
    draw(&s, 2, 0.05, 0);
    p = s.p;
    is_int(latency_new(&l, s.x, s.y, M), ST_OK, "a fit of %d", M);
    double mu[M], residual[M], error = 0, worst = 0;
    for (int k = 0; k < LATENCY_FOLDS; k++) {
        int n = 0;
        for (int i = 0; i < M; i++) {
            if (i % LATENCY_FOLDS == k) continue;
            memcpy(some.x + n * p, s.x + i * p, (size_t)p * sizeof *s.x);
            some.y[n++] = s.y[i];
        }
        is_int(latency_new(&fold[k], some.x, some.y, n), ST_OK, "a fit without fold %d", k);
        const double *w = latency_weights(fold[k]);
        struct latency_value v;
        for (int i = 0; i < M; i++) { /* is it the sum alone? */
            double sum = 0;
            latency_at(fold[k], s.x + i * p, &v);
            for (int j = 0; j < p; j++) sum += w[j] * s.x[i * p + j];
            plain &= fabs(v.value / sum - 1) < 1e-12;
        }
    }
    for (int i = 0; i < M; i++) {
        double sum = 0;
        for (int j = 0; j < p; j++) sum += latency_weights(fold[i % LATENCY_FOLDS])[j] * s.x[i * p + j];
        residual[i] = fabs(log(s.y[i] / sum));
        error += fabs(sum / s.y[i] - 1) / M;
    }
    ok(plain, "white noise leaves nothing for a process");
    ok(fabs(latency_error(l) - error) < 1e-9, "the error of those left out is %.4f", error);
    for (int t = M; t < N; t++) {
        struct latency_value v;
        double low[M], high[M];
        latency_at(l, s.x + t * p, &v);
        for (int i = 0; i < M; i++) {
            mu[i] = 0;
            for (int j = 0; j < p; j++) mu[i] += latency_weights(fold[i % LATENCY_FOLDS])[j] * s.x[t * p + j];
            low[i] = log(mu[i]) - residual[i];
            high[i] = log(mu[i]) + residual[i];
        }
        qsort(low, M, sizeof *low, by_value);
        qsort(high, M, sizeof *high, by_value);
        int a = (int)floor(LATENCY_ALPHA * (M + 1)), b = (int)ceil((1 - LATENCY_ALPHA) * (M + 1) - 1e-9);
        worst = fmax(worst, fmax(fabs(v.low / exp(low[a - 1]) - 1), fabs(v.high / exp(high[b - 1]) - 1)));
    }
    ok(worst < 1e-9, "the interval is that of the definition (%.1e)", worst);
    for (int k = 0; k < LATENCY_FOLDS; k++) latency_free(fold[k]);
    latency_free(l);
}

static void test_coverage(void)
{
    static struct set s;
    enum { M = 40, SETS = 12 };
    int held = 0, n = 0;
    double bent = 0, straight = 0;
    for (int k = 0; k < SETS; k++) {
        struct latency *l;
        draw(&s, (uint64_t)k + 10, 0.05, 0.2);
        if (latency_new(&l, s.x, s.y, M)) exit(1);
        for (int i = M; i < N; i++, n++) {
            struct latency_value v;
            double sum = 0;
            latency_at(l, s.x + i * s.p, &v);
            held += v.low <= s.y[i] && s.y[i] <= v.high;
            for (int j = 0; j < s.p; j++) sum += latency_weights(l)[j] * s.x[i * s.p + j];
            bent += fabs(v.value / s.y[i] - 1);
            straight += fabs(sum / s.y[i] - 1);
        }
        latency_free(l);
    }
    ok(held > 0.9 * n, "of a machine that is no sum, with 5 %% noise, %.1f %% of %d lie in the interval", 100.0 * held / n, n);
    ok(bent < 0.95 * straight, "the process helps there: a mean error of %.1f %%, without it %.1f %%", 100 * bent / n, 100 * straight / n);
}

static void test_rest(void)
{
    static struct set s;
    struct latency *l, *m;
    struct latency_value v, u;
    draw(&s, 3, 0.01, 0);
    double honest = 0, misled = 0;
    is_int(latency_new(&l, s.x, s.y, 64), ST_OK, "a fit");
    for (int i = 0; i < 64; i += 10) s.y[i] *= 2;
    is_int(latency_new(&m, s.x, s.y, 64), ST_OK, "and with every tenth measured while the machine was busy");
    for (int i = 64; i < N; i++) {
        latency_at(l, s.x + i * s.p, &v);
        latency_at(m, s.x + i * s.p, &u);
        honest += fabs(v.value / s.y[i] - 1) / (N - 64);
        misled += fabs(u.value / s.y[i] - 1) / (N - 64);
    }
    ok(misled < 0.05, "which costs little: %.1f %%, without them %.1f %%", 100 * misled, 100 * honest);
    latency_free(m);
    is_int(latency_new(&m, s.x, s.y, 64), ST_OK, "again");
    latency_at(m, s.x, &v);
    latency_free(m);
    is_int(latency_new(&m, s.x, s.y, 64), ST_OK, "and again");
    latency_at(m, s.x, &u);
    ok(!memcmp(&u, &v, sizeof u), "the same points give the same bits");
    ok(v.low <= v.value && v.value <= v.high, "low <= value <= high");
    latency_free(m);
    latency_free(l);
    is_int(latency_new(&l, s.x, s.y, LATENCY_LEAST - 1), ST_EINVAL, "too few");
    s.y[5] = 0;
    is_int(latency_new(&l, s.x, s.y, 64), ST_EINVAL, "nothing takes no time");
    s.y[5] = NAN;
    is_int(latency_new(&l, s.x, s.y, 64), ST_ENONFINITE, "or no number");
    s.y[5] = 1;
    s.x[7] = INFINITY;
    is_int(latency_new(&l, s.x, s.y, 64), ST_ENONFINITE, "nor is it made of none");
}

int main(void)
{
    test_columns();
    test_weights();
    test_interval();
    test_coverage();
    test_rest();
    return tap_done();
}
