/* What the surrogate learns with: Gaussian processes against the definition in long double, ridges against the normal equations, encodings. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "controller/gp.h"
#include "controller/linalg.h"
#include "controller/ridge.h"
#include "searchspace/job.h"
#include "tests/tap.h"

typedef long double real;

/* Gaussian elimination with pivots: a [n, n] x = b, both spoilt; x in b. */
static void eliminate(real *a, real *b, int n)
{
    for (int k = 0; k < n; k++) {
        int top = k;
        for (int i = k + 1; i < n; i++)
            if (fabsl(a[i * n + k]) > fabsl(a[top * n + k])) top = i;
        for (int j = 0; j < n; j++) {
            real t = a[k * n + j];
            a[k * n + j] = a[top * n + j];
            a[top * n + j] = t;
        }
        real t = b[k];
        b[k] = b[top];
        b[top] = t;
        for (int i = k + 1; i < n; i++) {
            real f = a[i * n + k] / a[k * n + k];
            for (int j = k; j < n; j++) a[i * n + j] -= f * a[k * n + j];
            b[i] -= f * b[k];
        }
    }
    for (int i = n - 1; i >= 0; i--) {
        for (int j = i + 1; j < n; j++) b[i] -= a[i * n + j] * b[j];
        b[i] /= a[i * n + i];
    }
}

static double worst(double a, double b, double so_far)
{
    double d = fabs(a - b) / (1 + fabs(b));
    return d > so_far ? d : so_far;
}

static void test_linalg(void)
{
    enum { N = 37 };
    struct base_rng r = base_rng_at(1, RNG_TEST, 0);
    double a[N * N], l[N * N], inverse[N * N], b[N], x[N], error = 0, both = 0;
    for (int i = 0; i < N; i++) b[i] = base_rng_normal(&r);
    double half[N * N];
    for (int i = 0; i < N * N; i++) half[i] = base_rng_normal(&r);
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++) a[i * N + j] = linalg_dot(half + i * N, half + j * N, N) + (i == j);
    memcpy(l, a, sizeof a);
    ok(linalg_cholesky(l, N, N), "a positive definite matrix has a factor");
    linalg_lower_solve(l, N, N, b, x);
    linalg_upper_solve(l, N, N, x, x);
    real ra[N * N], rb[N];
    for (int i = 0; i < N * N; i++) ra[i] = a[i];
    for (int i = 0; i < N; i++) rb[i] = b[i];
    eliminate(ra, rb, N);
    for (int i = 0; i < N; i++) error = worst(x[i], (double)rb[i], error);
    ok(error < 1e-10, "two triangles solve as elimination does (%.1e)", error);
    linalg_inverse(l, N, N, inverse);
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++) both = worst(linalg_dot(a + i * N, inverse + j * N, N), i == j, both);
    ok(both < 1e-10, "the inverse is one, in both triangles (%.1e)", both);
    a[5 * N + 5] = -1;
    ok(!linalg_cholesky(a, N, N), "what is not positive definite has none");
}

/* ---- Gaussian processes ---- */

enum { POINTS = 24, COLUMNS = 3 };

static real kernel(const double *a, const double *b, const double *theta)
{
    real r2 = 0;
    for (int c = 0; c < COLUMNS; c++) {
        real u = ((real)a[c] - b[c]) / expl(theta[c]);
        r2 += u * u;
    }
    real r = sqrtl(5 * r2);
    return expl(theta[COLUMNS]) * (1 + r + r * r / 3) * expl(-r);
}

static void test_process(void)
{
    static const int group[COLUMNS] = {0, 1, 2};
    double theta[COLUMNS + 2] = {-0.7, 0.2, 1.1, 0.3, -4}, x[POINTS * COLUMNS], y[POINTS], mean = 0, var = 0;
    struct base_rng r = base_rng_at(2, RNG_TEST, 0);
    for (int i = 0; i < POINTS; i++) {
        for (int c = 0; c < COLUMNS; c++) x[i * COLUMNS + c] = base_rng_unit(&r);
        y[i] = 3 + sin(5 * x[i * COLUMNS]) + x[i * COLUMNS + 1];
        mean += y[i] / POINTS;
    }
    for (int i = 0; i < POINTS; i++) var += (y[i] - mean) * (y[i] - mean) / POINTS;
    struct gp *g, *grown;
    if (!ok(!gp_new_at(&g, x, y, POINTS, COLUMNS, group, COLUMNS, POINTS, theta), "a process with given hyperparameters")) return;
    double m_error = 0, v_error = 0, loo_error = 0, loo[POINTS];
    for (int t = 0; t < 10; t++) {
        double at[COLUMNS];
        for (int c = 0; c < COLUMNS; c++) at[c] = 1.5 * base_rng_unit(&r);
        real k[POINTS * POINTS], a[POINTS], b[POINTS], k2[POINTS * POINTS];
        for (int i = 0; i < POINTS; i++) {
            for (int j = 0; j < POINTS; j++) k[i * POINTS + j] = kernel(x + i * COLUMNS, x + j * COLUMNS, theta) + (i == j ? expl(theta[COLUMNS + 1]) : 0);
            a[i] = (y[i] - mean) / sqrt(var);
            b[i] = kernel(at, x + i * COLUMNS, theta);
        }
        memcpy(k2, k, sizeof k);
        eliminate(k, a, POINTS);
        real m = 0, v = kernel(at, at, theta), kb[POINTS];
        memcpy(kb, b, sizeof b);
        eliminate(k2, kb, POINTS);
        for (int i = 0; i < POINTS; i++) {
            m += b[i] * a[i];
            v -= b[i] * kb[i];
        }
        m_error = worst(gp_mean(g, at), (double)(mean + sqrt(var) * m), m_error);
        v_error = worst(gp_variance(g, at), (double)(var * v), v_error);
    }
    ok(m_error < 1e-9, "its mean is the definition's (%.1e)", m_error);
    ok(v_error < 1e-9, "and so is its variance (%.1e)", v_error);
    /* Leave one out, by leaving one out: the scale of y stays that of all. */
    gp_leave_one_out(g, loo);
    for (int out = 0; out < POINTS; out++) {
        real k[POINTS * POINTS], a[POINTS], m = 0;
        for (int i = 0, p = 0; i < POINTS; i++) {
            if (i == out) continue;
            for (int j = 0, q = 0; j < POINTS; j++) {
                if (j == out) continue;
                k[p * (POINTS - 1) + q++] = kernel(x + i * COLUMNS, x + j * COLUMNS, theta) + (i == j ? expl(theta[COLUMNS + 1]) : 0);
            }
            a[p++] = (y[i] - mean) / sqrt(var);
        }
        eliminate(k, a, POINTS - 1);
        for (int i = 0, p = 0; i < POINTS; i++)
            if (i != out) m += a[p++] * kernel(x + out * COLUMNS, x + i * COLUMNS, theta);
        loo_error = worst(loo[out], (double)(mean + sqrt(var) * m), loo_error);
    }
    ok(loo_error < 1e-9, "what is left out is predicted as without it (%.1e)", loo_error);
    gp_free(g);

    /* Appended one by one, or all at once after the same first ones. */
    double at[COLUMNS] = {0.4, 0.5, 0.6};
    if (gp_new(&g, x, y, POINTS - 8, COLUMNS, group, COLUMNS, POINTS) || gp_new(&grown, x, y, POINTS - 8, COLUMNS, group, COLUMNS, POINTS)) return;
    for (int i = POINTS - 8; i < POINTS; i++) {
        gp_append(g, x + i * COLUMNS, y[i]);
        gp_mean(g, at); /* asked in between */
    }
    for (int i = POINTS - 8; i < POINTS; i++) gp_append(grown, x + i * COLUMNS, y[i]);
    ok(gp_mean(g, at) == gp_mean(grown, at) && gp_variance(g, at) == gp_variance(grown, at), "what is asked in between changes no bit");
    is_int(gp_points(g), POINTS, "all points are in");
    is_int(gp_append(g, at, 1), ST_ETOOBIG, "where there is no room it says so");
    gp_free(g);
    gp_free(grown);
}

static void test_hyperparameters(void)
{
    enum { N = 80 };
    static const int group[COLUMNS] = {0, 1, 2};
    struct base_rng r = base_rng_at(3, RNG_TEST, 0);
    double x[N * COLUMNS], y[N], noise[N];
    for (int i = 0; i < N; i++) {
        for (int c = 0; c < COLUMNS; c++) x[i * COLUMNS + c] = base_rng_unit(&r);
        y[i] = sin(6 * x[i * COLUMNS]) + 0.3 * x[i * COLUMNS + 1]; /* the third says nothing */
        noise[i] = base_rng_normal(&r);
    }
    struct gp *g;
    if (gp_new(&g, x, y, N, COLUMNS, group, COLUMNS, N)) return;
    const double *t = gp_theta(g);
    ok(t[0] < t[1] && t[1] < t[2], "lengthscales: the more a column says the shorter (%.2f, %.2f, %.2f)", t[0], t[1], t[2]);
    double error = 0, at[COLUMNS];
    for (int i = 0; i < 100; i++) {
        for (int c = 0; c < COLUMNS; c++) at[c] = base_rng_unit(&r);
        error = fmax(error, fabs(gp_mean(g, at) - sin(6 * at[0]) - 0.3 * at[1]));
    }
    ok(error < 0.02, "and what it was not shown is met within %.4f", error);
    double evidence = gp_evidence(g);
    gp_free(g);
    if (gp_new(&g, x, noise, N, COLUMNS, group, COLUMNS, N)) return;
    ok(gp_theta(g)[COLUMNS + 1] > log(0.3), "noise is taken for noise (%.2f of the variance)", exp(gp_theta(g)[COLUMNS + 1]));
    ok(gp_evidence(g) < evidence, "and has less evidence");
    gp_free(g);
    for (int i = 0; i < N; i++) y[i] = 7;
    if (!ok(!gp_new(&g, x, y, N, COLUMNS, group, COLUMNS, N), "what is constant has a process")) return;
    is_near(gp_mean(g, at), 7, 1e-9, "which says so");
    gp_free(g);
    is_int(gp_new(&g, x, y, 1, COLUMNS, group, COLUMNS, 1), ST_OK, "one point has one");
    gp_free(g);
    for (int i = 0; i < N * COLUMNS; i++) x[i] = 0.5; /* the same point again and again */
    for (int i = 0; i < N; i++) y[i] = i % 2;
    if (!ok(!gp_new(&g, x, y, N, COLUMNS, group, COLUMNS, N), "a point met often has one")) return;
    is_near(gp_mean(g, x), 0.5, 0.05, "between what it was");
    gp_free(g);
    y[3] = NAN;
    is_int(gp_new(&g, x, y, N, COLUMNS, group, COLUMNS, N), ST_ENONFINITE, "what is not a number has none");
}

/* ---- ridges ---- */

static void test_ridge(int n, const char *what)
{
    enum { P = 30, MOST = 60 };
    struct base_rng r = base_rng_at(4, RNG_TEST, (uint64_t)n);
    struct sparse rows = {0};
    struct ridge *g;
    double x[MOST * P], y[2 * MOST], w[P], truth[P], sample[P];
    int judged[MOST];
    for (int i = 0; i < P; i++) truth[i] = base_rng_normal(&r);
    for (int i = 0; i < n; i++) {
        y[i] = y[n + i] = 0;
        for (int c = 0; c < P; c++) {
            x[i * P + c] = base_rng_below(&r, 3) ? 0 : base_rng_normal(&r);
            y[i] += truth[c] * x[i * P + c];
        }
        y[n + i] = base_rng_normal(&r);
        judged[i] = i;
        if (sparse_add(&rows, x + i * P, P)) return;
    }
    if (!ok(!ridge_new(&g, &rows, y, 2, judged, n), "a ridge of %d rows and %d columns (%s)", n, P, what)) return;
    double error = 0, loo_error = 0, penalty = ridge_penalty(g);
    for (int o = 0; o < 2; o++) {
        ridge_weights(g, o, w);
        for (int out = -1; out < n; out++) { /* -1: all rows are there */
            real a[P * P] = {0}, b[P] = {0};
            for (int i = 0; i < n; i++) {
                if (i == out) continue;
                real centred = (real)y[o * n + i] - ridge_intercept(g, o);
                for (int c = 0; c < P; c++) {
                    b[c] += x[i * P + c] * centred;
                    for (int d = 0; d < P; d++) a[c * P + d] += (real)x[i * P + c] * x[i * P + d];
                }
            }
            for (int c = 0; c < P; c++) a[c * P + c] += penalty;
            eliminate(a, b, P);
            if (out < 0) {
                for (int c = 0; c < P; c++) error = worst(w[c], (double)b[c], error);
                continue;
            }
            real said = 0;
            for (int c = 0; c < P; c++) said += b[c] * x[out * P + c];
            loo_error = worst(ridge_leave_one_out(g, o)[out], (double)said, loo_error);
        }
    }
    ok(error < 1e-6, "its weights are those of the normal equations (%.1e)", error);
    ok(loo_error < 1e-5, "what is left out is predicted as without it (%.1e)", loo_error);
    /* Draws: their mean is the weights', and along a direction that no row tells of they spread as the prior does. */
    double mean = 0, square = 0;
    enum { DRAWS = 4000 };
    ridge_weights(g, 0, w);
    for (int i = 0; i < DRAWS; i++) {
        struct base_rng own = base_rng_at(5, RNG_TEST, (uint64_t)i);
        ridge_sample(g, 0, &own, 1, sample);
        mean += (sample[0] - w[0]) / DRAWS;
        square += (sample[0] - w[0]) * (sample[0] - w[0]) / DRAWS;
    }
    /* t l (X^T X + l)^-1 [0, 0], t from the variance of y and the rows' length */
    real a[P * P] = {0}, b[P] = {1};
    double length = 0, var = 0;
    for (int i = 0; i < n; i++) {
        double centred = y[i] - ridge_intercept(g, 0);
        var += centred * centred / n;
        for (int c = 0; c < P; c++) {
            length += x[i * P + c] * x[i * P + c] / n;
            for (int d = 0; d < P; d++) a[c * P + d] += (real)x[i * P + c] * x[i * P + d];
        }
    }
    for (int c = 0; c < P; c++) a[c * P + c] += penalty;
    eliminate(a, b, P);
    double expected = (double)(var / length * penalty * b[0]);
    ok(fabs(mean) < 4 * sqrt(expected / DRAWS), "draws lie about the weights (%.1e)", mean);
    is_near(square / expected, 1, 0.1, "as far as the posterior says");
    ridge_sample(g, 0, &r, 0, sample);
    ok(!memcmp(sample, w, sizeof w) || worst(sample[0], w[0], 0) < 1e-12, "a draw without daring is the mean");
    ridge_free(g);
}

/* ---- genomes as columns ---- */

static struct job *job_of(const char *space)
{
    struct job *j = NULL;
    struct base_err err = BASE_ERR_INIT;
    json_t *v = json_pack("{s:s,s:o,s:[s]}", "evaluator", "external", "space", json_loads(space, 0, NULL), "objectives", "f");
    if (job_from_json(&j, v, &err)) printf("# %s: %s\n", err.where, err.what);
    json_decref(v);
    return j;
}

static void test_columns(void)
{
    struct job *j = job_of("{\"type\":\"custom\",\"knobs\":{\"a\":{\"float\":[-2,2]},\"b\":{\"log\":[1,100]},\"c\":{\"int\":[0,4],\"repeat\":2},"
                           "\"d\":{\"choice\":[1,2,4,8]},\"e\":{\"choice\":[\"x\",\"y\",\"z\"]},\"f\":{\"choice\":[true,false]},\"g\":{\"choice\":[3]}}}");
    const struct space_column *column;
    if (!ok(j != NULL, "a space of every kind")) return;
    struct genome g;
    double x[16], want[] = {0.25, 0.5, 0.75, 1, 2.0 / 3, 0, 0, 1, 0, 0, 1, 0, 1};
    is_int(space_columns(j->space, &column), 13, "its columns: 1 + 1 + 2 + (1 + 4) + 3 + 1 + 0");
    is_int(space_groups(j->space), 8, "a group for every gene, and one more for the choices of d");
    if (space_genome_init(j->space, &g)) return;
    memcpy(g.g, (double[]){-1, 10, 3, 4, 2, 1, 1, 0}, 8 * sizeof(double));
    is_int(space_encode(j->space, &g, x, NULL), ST_OK, "a genome's");
    double error = 0;
    for (int i = 0; i < 13; i++) error = worst(x[i], want[i], error);
    ok(error < 1e-12, "are what they should be (%.1e)", error);
    ok(column[0].ordinal && column[4].ordinal && !column[5].ordinal && column[5].gene == 4 && column[12].ordinal, "and say what they are");
    is_int(space_gene_choices(j->space, 4), 4, "choices of a gene");
    is_int(space_gene_choices(j->space, 0), 0, "a number has none");
    /* Moves stay within the ranges. */
    struct base_rng r = base_rng_at(6, RNG_TEST, 0);
    struct genome a, b, c;
    if (space_genome_init(j->space, &a) || space_genome_init(j->space, &b) || space_genome_init(j->space, &c)) return;
    int outside = 0, unchanged = 0;
    for (int i = 0; i < 2000; i++) {
        space_sample(j->space, &r, &a);
        space_sample(j->space, &r, &b);
        space_sample(j->space, &r, &c);
        space_blend(j->space, &r, &a, &b, &c, &g);
        for (int k = 0; k < g.n; k++) outside += !space_gene_fits(j->space, k, g.g[k]);
        space_genome_copy(&c, &g);
        space_nudge(j->space, &r, 0.1, &g);
        for (int k = 0; k < g.n; k++) outside += !space_gene_fits(j->space, k, g.g[k]);
        unchanged += !memcmp(c.g, g.g, (size_t)g.n * sizeof *g.g);
    }
    is_int(outside, 0, "nudged and blended genomes fit the space");
    ok(unchanged < 400, "and nudging mostly changes something (%d of 2000 not)", unchanged);
    space_genome_fini(&g);
    space_genome_fini(&a);
    space_genome_fini(&b);
    space_genome_fini(&c);
    job_free(j);
}

static void test_lm_columns(void)
{
    struct job *j = NULL;
    struct base_err err = BASE_ERR_INIT;
    const char *text = "{\"data\":{\"train\":\"/dev/null\"},\"space\":\"lm-small\",\"objectives\":[\"valid_bpb\"]}";
    if (!ok(!job_parse(&j, text, strlen(text), "job", &err), "lm-small")) return;
    int n = space_columns(j->space, NULL), strange = 0, differ = 0, other_arch = 0;
    double *x = malloc((size_t)n * 2 * sizeof *x);
    struct base_rng r = base_rng_at(7, RNG_TEST, 0);
    struct genome g, h;
    struct arch a, b;
    if (!x || space_genome_init(j->space, &g) || space_genome_init(j->space, &h)) return;
    printf("# %d columns, %d groups\n", n, space_groups(j->space));
    for (int i = 0; i < 300; i++) {
        space_sample(j->space, &r, &g);
        space_encode(j->space, &g, x, &a);
        for (int c = 0; c < n; c++) strange += !(x[c] > -0.1 && x[c] < 3.1);
        space_genome_copy(&h, &g);
        int depth = (int)h.g[0]; /* genes that mean nothing: all beyond the depth */
        for (int k = h.n - 1; k > h.n - 1 - (h.n / 20) && depth < 8; k--) h.g[k] = 0;
        space_encode(j->space, &h, x + n, &b);
        other_arch += !space_arch_equal(&a, &b);
        if (space_arch_equal(&a, &b)) differ += memcmp(x, x + n, (size_t)n * sizeof *x) != 0;
    }
    is_int(strange, 0, "columns lie about 0..1 (costs up to 3)");
    is_int(differ, 0, "what means nothing changes none (%d archs differed)", other_arch);
    free(x);
    space_genome_fini(&g);
    space_genome_fini(&h);
    job_free(j);
}

int main(void)
{
    test_linalg();
    test_process();
    test_hyperparameters();
    test_ridge(60, "of columns");
    test_ridge(20, "of rows");
    test_columns();
    test_lm_columns();
    return tap_done();
}
