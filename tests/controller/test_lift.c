/* From the lowest rung to a higher one: against the normal equations, what it is not made of, and what a search proposes with it. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "controller/fit.h"
#include "controller/lift.h"
#include "controller/strategy.h"
#include "tests/tap.h"

enum { ROWS = 48, HIGH = 20, COLUMNS = 2, FEATURES = 2 + 2 * COLUMNS };

static struct job *job_of(int rungs)
{
    char text[512];
    struct job *j = NULL;
    struct base_err err = BASE_ERR_INIT;
    snprintf(text, sizeof text,
             "{\"evaluator\":\"external\",\"space\":{\"type\":\"custom\",\"knobs\":{\"a\":{\"float\":[0,1]},\"b\":{\"float\":[0,1]}}},\"objectives\":[\"loss\",\"cost\"],\"seed\":3,"
             "\"search\":{\"strategy\":\"surrogate\",\"population\":16},\"fidelity\":{\"tokens\":1000,\"rungs\":%d,\"eta\":3}}", rungs);
    if (job_parse(&j, text, strlen(text), "job", &err)) printf("Bail out! %s: %s\n", err.where, err.what), exit(1);
    return j;
}

/* The lowest rung likes a at 0.3, the top one at 0.7; b costs and helps, with a wave that no square of a knob follows. */
static void values(const double *g, int rung, double *y)
{
    double at = rung ? 0.7 : 0.3;
    y[0] = (g[0] - at) * (g[0] - at) + 0.2 * (1 - g[1]) + 0.1 * sin(12 * g[1]) + (rung ? 2 : 1);
    y[1] = g[1];
}

static void fill(struct fit_data *d, const struct job *job, double noise, int high, bool same)
{
    struct base_rng r = base_rng_at(5, RNG_TEST, 0);
    struct genome g;
    double y[2], top[ROWS][2];
    fit_data_init(d, job);
    if (space_genome_init(job->space, &g)) exit(1);
    for (int i = 0; i < ROWS; i++) {
        for (int k = 0; k < COLUMNS; k++) g.g[k] = base_rng_unit(&r);
        values(g.g, 0, y);
        values(g.g, !same, top[i]);
        y[0] += noise * base_rng_normal(&r);
        top[i][0] += noise * base_rng_normal(&r);
        if (same) memcpy(top[i], y, sizeof y);
        fit_data_add(d, i + 1, &g, y, NULL, 0);
        if (i >= 2 && i % 2 == 0 && i / 2 <= high) fit_data_add_high(d, i / 2, 1, top[i / 2 - 1]);
    }
    space_genome_fini(&g);
}

/* Ridge by the normal equations. */
static double predict_by(double (*x)[FEATURES], const double *y, int n, double penalty, const double *at)
{
    long double a[FEATURES][FEATURES + 1] = {{0}}, mean = 0;
    for (int i = 0; i < n; i++) mean += (long double)y[i] / n;
    for (int i = 0; i < n; i++)
        for (int p = 0; p < FEATURES; p++) {
            for (int q = 0; q < FEATURES; q++) a[p][q] += (long double)x[i][p] * x[i][q];
            a[p][FEATURES] += x[i][p] * (y[i] - mean);
        }
    for (int p = 0; p < FEATURES; p++) a[p][p] += penalty;
    for (int p = 0; p < FEATURES; p++)
        for (int q = 0; q < FEATURES; q++) {
            if (q == p) continue;
            long double f = a[q][p] / a[p][p];
            for (int k = p; k <= FEATURES; k++) a[q][k] -= f * a[p][k];
        }
    long double sum = mean;
    for (int p = 0; p < FEATURES; p++) sum += a[p][FEATURES] / a[p][p] * at[p];
    return (double)sum;
}

static void features(const double *g, double low, double mean, double sd, double *x)
{
    *x++ = 10;
    *x++ = 3 * (low - mean) / sd;
    for (int k = 0; k < COLUMNS; k++) {
        double u = 2 * g[k] - 1;
        *x++ = u;
        *x++ = 0.7 * (u * u - 1.0 / 3);
    }
}

static void test_values(void)
{
    struct job *job = job_of(2);
    struct fit_data d, part;
    struct lift *l = NULL, *again = NULL;
    fill(&d, job, 0.01, HIGH, false);
    if (!ok(!lift_new(&l, &d, ROWS) && l, "%ld results on the higher rung make a lift", d.nhigh)) return;
    double x[HIGH][FEATURES], truth[HIGH], mean = 0, sd = 0, worst = INFINITY, value[ROWS * 2], y[2];
    int n = (int)d.nhigh;
    for (int i = 0; i < n; i++) mean += d.y[2 * d.high[i].row] / n;
    for (int i = 0; i < n; i++) sd += pow(d.y[2 * d.high[i].row] - mean, 2) / n;
    sd = sqrt(sd);
    for (int i = 0; i < n; i++) {
        features(d.genes + COLUMNS * d.high[i].row, d.y[2 * d.high[i].row], mean, sd, x[i]);
        truth[i] = d.high[i].y[0];
    }
    for (double penalty = 1e-6; penalty < 1e4; penalty *= 1.01) { /* whichever it took: its predictions are those of one */
        double error = 0;
        for (int i = 0; i < 5; i++) {
            double at[FEATURES], g[2] = {0.1 + 0.2 * i, 0.9 - 0.1 * i}, to[2] = {1.1 + 0.1 * i, 7};
            features(g, to[0], mean, sd, at);
            lift_apply(l, g, to);
            error = fmax(error, fabs(to[0] - predict_by(x, truth, n, penalty, at)));
        }
        worst = fmin(worst, error);
    }
    ok(worst < 2e-4, "its predictions are a ridge's by the normal equations (%.1e)", worst);
    ok(!lift_rows(l, &d, 0, ROWS, value), "all rows");
    double low_error = 0, error = 0, exact = 0;
    for (int i = 0; i < ROWS; i++) {
        values(d.genes + COLUMNS * i, 1, y);
        bool had = false;
        for (int k = 0; k < n; k++) had |= d.high[k].row == i && (exact = fmax(exact, fabs(value[2 * i] - d.high[k].y[0])), true);
        if (had) continue;
        error = fmax(error, fabs(value[2 * i] - y[0]));
        low_error = fmax(low_error, fabs(d.y[2 * i] + 1 - y[0]));
        exact = fmax(exact, fabs(value[2 * i + 1] - d.y[2 * i + 1]));
    }
    ok(error < 0.1 && low_error > 0.3, "trials that are not there are met within %.3f, where the lower rung is off by %.3f", error, low_error);
    ok(exact == 0, "those that are there have what they have, and what no training changes stays");

    ok(!fit_data_copy(&part, &d, 33) && part.n == 33, "the first rows");
    bool before = true;
    for (long i = 0; i < part.nhigh; i++) before &= part.high[i].before < 33;
    ok(before && part.nhigh == 15, "have what was reported before the last of them: %ld", part.nhigh);
    lift_free(l);
    double a[2] = {1.3, 0.4}, b[2] = {1.3, 0.4}, g[2] = {0.2, 0.6};
    if (!ok(!lift_new(&l, &d, 33) && !lift_new(&again, &part, 33) && l && again, "a lift is made of them")) return;
    lift_apply(l, g, a);
    lift_apply(again, g, b);
    ok(a[0] == b[0] && a[1] == 0.4, "and is the same once more is known");
    lift_free(l), lift_free(again);
    fit_data_fini(&part), fit_data_fini(&d);

    fill(&d, job, 0.01, LIFT_LEAST - 1, false);
    ok(!lift_new(&l, &d, ROWS) && !l, "of few results there is none");
    fit_data_fini(&d);
    fill(&d, job, 0, HIGH, true);
    ok(!lift_new(&l, &d, ROWS) && !l, "nor where the lower rung has the order already");
    fit_data_fini(&d);
    fill(&d, job, 0, HIGH, false);
    struct base_rng r = base_rng_at(6, RNG_TEST, 0);
    for (long i = 0; i < d.nhigh; i++) d.high[i].y[0] = base_rng_unit(&r);
    ok(!lift_new(&l, &d, ROWS) && !l, "nor where nothing says what the higher rung brings, though %d weights fit it better than the lower rung alone", FEATURES);
    for (long i = 0; i < d.nhigh; i++) d.high[i].y[0] = 9 - d.y[2 * d.high[i].row];
    for (long i = 0; i < d.nhigh; i++) d.high[i].y[0] = 9 - d.y[2 * d.high[i].row];
    if (!ok(!lift_new(&l, &d, ROWS) && l, "where less on the lower rung means more on the higher one there is one of the knobs alone")) return;
    double at[3][2] = {{1, 0}, {1.05, 0}, {50, 0}}, here[2] = {0.6, 0.5};
    for (int i = 0; i < 3; i++) lift_apply(l, here, at[i]);
    ok(at[0][0] == at[1][0] && at[2][0] > at[1][0] + 5, "in which a lower result changes nothing, but for one that is far beyond the others (%.3f, %.3f)", at[0][0], at[2][0]);
    lift_free(l);
    l = NULL;
    is_int(fit_data_add_high(&d, 999, 1, (double[]){1, 2}), ST_OK, "a trial whose first result did not count");
    is_int((long long)d.nhigh, HIGH, "adds nothing");
    fit_data_fini(&d);
    job_free(job);
}

/* Where models propose, with results of a second rung or without: mean of knob a. */
static double proposes(bool higher, long *n)
{
    struct job *job = job_of(2);
    struct fit_data d;
    void *state;
    struct genome g;
    double sum = 0;
    fill(&d, job, 0.01, HIGH, false);
    if (strategy_surrogate.open(&state, job) || space_genome_init(job->space, &g)) exit(1);
    for (long i = 0; i < d.n; i++) {
        struct genome own = {.n = COLUMNS, .g = d.genes + COLUMNS * i};
        struct strategy_result r = {.trial = i + 1, .proposal = i, .genome = &own, .ok = true, .y = d.y + 2 * i};
        strategy_surrogate.absorb(state, &r);
        for (long k = 0; higher && k < d.nhigh; k++)
            if (d.high[k].before == i + 1) {
                struct genome its = {.n = COLUMNS, .g = d.genes + COLUMNS * d.high[k].row};
                r = (struct strategy_result){.trial = d.high[k].row + 1, .proposal = d.high[k].row, .rung = 1, .genome = &its, .ok = true, .y = d.high[k].y};
                strategy_surrogate.absorb(state, &r);
            }
    }
    *n = 0;
    for (uint64_t k = 0; k < 60; k++) {
        struct base_rng r = base_rng_at(job->seed, RNG_PROPOSE, ROWS + k);
        struct strategy_origin origin;
        if (strategy_surrogate.propose(state, &r, &(struct strategy_pending){0}, &g, &origin)) exit(1);
        if (strcmp(origin.op, "model")) continue;
        sum += g.g[0];
        ++*n;
    }
    strategy_surrogate.close(state);
    space_genome_fini(&g);
    fit_data_fini(&d);
    job_free(job);
    return sum / (double)*n;
}

/* One trial more, and every third of them a result on the higher rung three later. */
static void report(void *state, const double *genes, int64_t n, struct genome *g)
{
    double y[2];
    struct base_rng r = base_rng_at(9, RNG_TEST, (uint64_t)n);
    memcpy(g->g, genes + COLUMNS * n, COLUMNS * sizeof *genes);
    values(g->g, 0, y);
    y[0] += 0.01 * base_rng_normal(&r);
    strategy_surrogate.absorb(state, &(struct strategy_result){.trial = n + 1, .proposal = n, .genome = g, .ok = true, .y = y});
    if (n % 3 || n < 3) return;
    memcpy(g->g, genes + COLUMNS * (n - 3), COLUMNS * sizeof *genes);
    values(g->g, 1, y);
    strategy_surrogate.absorb(state, &(struct strategy_result){.trial = n - 2, .proposal = n - 3, .rung = 1, .genome = g, .ok = true, .y = y});
}

static void ask(void *state, const struct job *job, int64_t n, struct genome *out, const char **op)
{
    struct base_rng r = base_rng_at(job->seed, RNG_PROPOSE, (uint64_t)n);
    struct strategy_origin origin;
    if (strategy_surrogate.propose(state, &r, &(struct strategy_pending){0}, out, &origin)) exit(1);
    *op = origin.op;
}

/* A search, and at some of its proposals another one that has heard the same and never proposed. */
static void test_restarts(void)
{
    enum { N = 240 };
    struct job *job = job_of(2);
    double genes[N * COLUMNS];
    struct genome g, h;
    void *state, *again;
    const char *op, *op2;
    long models = 0, late = 0, compared = 0, differ = 0;
    if (strategy_surrogate.open(&state, job) || space_genome_init(job->space, &g) || space_genome_init(job->space, &h)) exit(1);
    for (int64_t n = 0; n < N; n++) {
        ask(state, job, n, &g, &op);
        models += n >= N / 2 && !strcmp(op, "model");
        late += n >= N / 2;
        memcpy(genes + COLUMNS * n, g.g, COLUMNS * sizeof *genes);
        if (n > 40 && n % 17 == 0) {
            if (strategy_surrogate.open(&again, job)) exit(1);
            for (int64_t k = 0; k < n; k++) report(again, genes, k, &h);
            ask(again, job, n, &h, &op2);
            strategy_surrogate.close(again);
            compared++;
            differ += memcmp(h.g, genes + COLUMNS * n, COLUMNS * sizeof *genes) || strcmp(op, op2);
        }
        report(state, genes, n, &g);
    }
    ok(compared == 12 && !differ, "who was killed and has heard all again proposes the same, %ld times, with fits in the background", compared);
    ok(2 * models > late, "models that are right about the higher rung are owed what they bring there: %ld of %ld proposals are theirs", models, late);
    strategy_surrogate.close(state);
    space_genome_fini(&g), space_genome_fini(&h);
    job_free(job);
}

int main(void)
{
    long n[2];
    test_values();
    double low = proposes(false, &n[0]), high = proposes(true, &n[1]);
    ok(n[0] > 5 && fabs(low - 0.3) < 0.1, "a search on one rung goes where that rung is good: %.2f on average over %ld of the models' proposals", low, n[0]);
    ok(n[1] > 5 && fabs(high - 0.7) < 0.1, "one that knows the higher rung goes where that is: %.2f over %ld", high, n[1]);
    test_restarts();
    return tap_done();
}
