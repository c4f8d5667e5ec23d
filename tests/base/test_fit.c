/* Fits: known parameters come back; noisy points as scipy 1.17 fits them (curve_fit; least_squares, loss='huber', f_scale=1e-3, best of 81 starts); intervals hold what they
 * say; what cannot be fitted is refused. */
#include <stdlib.h>

#include "base/fit.h"
#include "base/rng.h"
#include "tests/tap.h"

static void near(double got, double want, double share, const char *what)
{
    ok(fabs(got - want) <= share * fabs(want), "%s: %.9g, as %.9g", what, got, want);
}

static void power(void)
{
    static const double y[] = {5.82,   4.585,  4.0153, 3.6669, 3.4347, 3.253,  3.1252, 3.0258, 2.9139, 2.833,
                               2.7753, 2.7137, 2.6578, 2.5996, 2.5656, 2.5337, 2.4776, 2.4537, 2.409,  2.3871};
    static const double cov[3][3] = {{0.00060323149631457, -0.0005429988598050519, 0.00011193123924534261},
                                     {-0.0005429988598050519, 0.0004926937183907317, -0.00010218336732565315},
                                     {0.00011193123924534261, -0.00010218336732565315, 2.1483844128686937e-05}};
    static const double at[][3] = {{1000, 2.3940539100197107, 0.003150792772493612}, {3000, 1.9218584618925794, 0.007525547784369166},
                                   {10000, 1.6118566367779705, 0.012184957520023609}};
    double t[20], exact[20], v, sd;
    struct fit_power f;
    for (int i = 0; i < 20; i++) t[i] = 50.0 * (i + 1);
    if (!ok(!base_fit_power(&f, t, y, 20), "a power law")) return;
    near(f.c, 1.176752076320155, 1e-6, "c");
    near(f.a, 1.2173018336995558, 1e-6, "a");
    near(f.b, 0.44680464093927985, 1e-6, "b");
    near(f.sigma, 0.00797374328953504, 1e-6, "sigma");
    double worst = 0;
    for (int i = 0; i < 9; i++) worst = fmax(worst, fabs(f.cov[i / 3][i % 3] / cov[i / 3][i % 3] - 1));
    ok(worst < 1e-4, "covariance");
    for (int i = 0; i < 3; i++) {
        base_fit_power_at(&f, at[i][0], &v, &sd);
        near(v, at[i][1], 1e-6, "value");
        near(sd, at[i][2], 1e-4, "its standard deviation");
    }
    for (int i = 0; i < 20; i++) exact[i] = 0.7 + 2 * pow(t[i] / 1000, -0.3);
    ok(!base_fit_power(&f, t, exact, 20), "points on a curve");
    base_fit_power_at(&f, 30000, &v, &sd);
    near(v, 0.7 + 2 * pow(30, -0.3), 1e-7, "which is found");
    for (int i = 0; i < 20; i++) exact[i] = 2 * pow(t[i] / 1000, -0.3) - 0.5;
    ok(!base_fit_power(&f, t, exact, 20) && f.c == 0, "a loss does not end below 0");

    /* 95 % intervals of where the curve is at three times the last t: how often do they hold it? */
    int in = 0, of = 0;
    for (int k = 0; k < 400; k++) {
        struct base_rng r = base_rng_at(11, RNG_TEST, (uint64_t)k);
        double noisy[20];
        for (int i = 0; i < 20; i++) noisy[i] = 1.2 + 1.5 * pow(t[i] / 1000, -0.5) + 0.01 * base_rng_normal(&r);
        if (base_fit_power(&f, t, noisy, 20)) continue;
        base_fit_power_at(&f, 3000, &v, &sd);
        of++;
        in += fabs(v - (1.2 + 1.5 * pow(3, -0.5))) <= base_fit_t975(17) * sd;
    }
    ok(of >= 395 && in >= 0.92 * of && in <= 0.98 * of, "%d of %d intervals of 95 %% hold the truth", in, of);

    static const double t975[][2] = {{2, 4.302652729749462}, {3, 3.1824463052837078}, {5, 2.5705818356363146}, {17, 2.1098155778333156}, {100, 1.9839715185235518}};
    for (int i = 0; i < 5; i++) near(base_fit_t975((int)t975[i][0]), t975[i][1], 1e-2, "t");

    double flat[20], up[20], bad[20];
    for (int i = 0; i < 20; i++) flat[i] = 2, up[i] = 1 + i, bad[i] = y[i];
    bad[7] = NAN;
    is_int(base_fit_power(&f, t, y, 5), ST_EINVAL, "five points are too few");
    is_int(base_fit_power(&f, t, flat, 20), ST_ENOTFOUND, "nothing falls");
    is_int(base_fit_power(&f, t, up, 20), ST_ENOTFOUND, "or it rises");
    is_int(base_fit_power(&f, t, bad, 20), ST_ENONFINITE, "a loss that is no number");
    t[5] = t[4];
    is_int(base_fit_power(&f, t, y, 20), ST_EINVAL, "two points at one place");
}

/* ---- scaling ---- */

static const struct fit_point POINT[] = {
    {1e4, 1e5, 35.1273, 0},   {1e4, 3e5, 31.3769, 0},   {1e4, 9e5, 27.9116, 0},   {1e4, 2.7e6, 25.9979, 0},   {2.2e4, 1e5, 31.6583, 1},  {2.2e4, 3e5, 27.2282, 1},
    {5e4, 1e5, 27.6005, 2},   {5e4, 3e5, 23.8456, 2},   {5e4, 9e5, 20.7813, 2},   {5e4, 2.7e6, 18.4721, 2},   {1.1e5, 1e5, 25.4973, 3},  {1.1e5, 3e5, 21.4582, 3},
    {1.1e5, 9e5, 18.1989, 3}, {1.1e5, 2.7e6, 15.9084, 3}, {2.4e5, 1e5, 24.3181, 4}, {2.4e5, 3e5, 19.5732, 4}, {5e5, 1e5, 22.7243, 5},    {5e5, 3e5, 18.5656, 5},
    {5e5, 9e5, 15.1305, 5},   {5e5, 2.7e6, 12.8645, 5}, {1.2e6, 1e5, 21.5477, 6}, {1.2e6, 3e5, 17.2053, 6},   {1.2e6, 9e5, 13.8407, 6},  {1.2e6, 2.7e6, 11.68, 6}};
enum { POINTS = sizeof POINT / sizeof *POINT, BOOTS = 200 };
/* What they were made of, before 1 % of noise. */
static const struct fit_scaling TRUE = {1.69, 406.4, 0.34, 410.7, 0.28, 0};

static void scaling(void)
{
    struct fit_point p[POINTS];
    struct fit_scaling f, boot[BOOTS], again[BOOTS];
    memcpy(p, POINT, sizeof p);
    for (int i = 0; i < POINTS; i++) p[i].loss = base_fit_scaling_at(&TRUE, p[i].params, p[i].tokens);
    if (!ok(!base_fit_scaling(&f, p, POINTS), "points on a surface")) return;
    near(f.E, TRUE.E, 1e-3, "E");
    near(f.A, TRUE.A, 1e-3, "A");
    near(f.alpha, TRUE.alpha, 1e-3, "alpha");
    near(f.B, TRUE.B, 1e-3, "B");
    near(f.beta, TRUE.beta, 1e-3, "beta");
    near(base_fit_scaling_at(&f, 1e8, 1e9), base_fit_scaling_at(&TRUE, 1e8, 1e9), 1e-4, "far out of the points");

    ok(!base_fit_scaling(&f, POINT, POINTS), "noisy points");
    ok(f.cost <= 0.00012552704892715888 * 1.0001, "the cost is as low as scipy's: %.9g", f.cost);
    near(f.E, 2.5793025686892075, 0.02, "E");
    near(f.alpha, 0.34704834290624914, 0.01, "alpha");
    near(f.beta, 0.3030464916355221, 0.01, "beta");
    near(base_fit_scaling_at(&f, 5e4, 9e5), 20.68170808676316, 1e-4, "within the points");
    near(base_fit_scaling_at(&f, 1e6, 1e7), 10.01088288618951, 2e-3, "a little outside");
    near(base_fit_scaling_at(&f, 1e8, 1e9), 4.258153619673327, 1e-2, "and far");

    ok(!base_fit_scaling_boot(&f, POINT, POINTS, BOOTS, 1, boot) && !base_fit_scaling_boot(&f, POINT, POINTS, BOOTS, 1, again), "two hundred draws of trials");
    ok(!memcmp(boot, again, sizeof boot), "the same each time");
    double v[BOOTS], low, high;
    for (int i = 0; i < BOOTS; i++) v[i] = base_fit_scaling_at(&boot[i], 1e6, 1e7);
    low = base_fit_quantile(v, BOOTS, 0.025), high = base_fit_quantile(v, BOOTS, 0.975);
    double truth = base_fit_scaling_at(&TRUE, 1e6, 1e7);
    ok(low < truth && truth < high && high - low < 2, "95 %% of them hold the truth, %.3f: %.3f to %.3f", truth, low, high);
    for (int i = 0; i < BOOTS; i++) v[i] = base_fit_scaling_at(&boot[i], 1e8, 1e9);
    double wide = base_fit_quantile(v, BOOTS, 0.975) - base_fit_quantile(v, BOOTS, 0.025);
    ok(wide > high - low, "farther out they are wider: %.3f, not %.3f", wide, high - low);

    double q[] = {4, 1, 3, 2};
    ok(base_fit_quantile(q, 4, 0) == 1 && base_fit_quantile(q, 4, 1) == 4 && base_fit_quantile(q, 4, 0.5) == 2.5, "quantiles");

    is_int(base_fit_scaling(&f, POINT, 7), ST_EINVAL, "seven points are too few");
    for (int i = 0; i < POINTS; i++) p[i].tokens = i % 2 ? 1e5 : 2e5;
    is_int(base_fit_scaling(&f, p, POINTS), ST_EINVAL, "two token counts do not tell three terms apart");
    memcpy(p, POINT, sizeof p);
    for (int i = 0; i < POINTS; i++) p[i].params = i % 2 ? 1e5 : 2e5;
    is_int(base_fit_scaling(&f, p, POINTS), ST_EINVAL, "nor do two sizes");
    memcpy(p, POINT, sizeof p);
    p[3].loss = 0;
    is_int(base_fit_scaling(&f, p, POINTS), ST_ENONFINITE, "a loss of 0 has no logarithm");
    for (int i = 0; i < POINTS; i++) p[i] = (struct fit_point){1e4 * (1 + i % 5), 1e5 * (1 + i % 4), 3, i};
    ok(!base_fit_scaling(&f, p, POINTS) && fabs(base_fit_scaling_at(&f, 1e5, 1e6) - 3) < 1e-2, "a loss that nothing moves stays what it is");
}

int main(void)
{
    power();
    scaling();
    return tap_done();
}
