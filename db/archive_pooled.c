/* Values that were measured more than once, or not at all. */
#include <math.h>

#include "base/fit.h"
#include "db/archive_impl.h"

#define SIDE 1.959963984540054 /* standard deviations from the median to the end of a 95 % interval */
#define POOL_MAX 64

enum archive_repeat archive_repeat(const struct archive *a, long row)
{
    for (long i = 0; a->of[row] && i < a->nrepeats; i++)
        if (a->repeat[i] == (uint32_t)row) return (enum archive_repeat)a->repeat_kind[i];
    return REPEAT_NONE;
}

long archive_repeat_of(const struct archive *a, long row)
{
    return (long)a->of[row] - 1;
}

long archive_repeats(const struct archive *a)
{
    return a->nrepeats;
}

long archive_repeat_row(const struct archive *a, long i)
{
    return a->repeat[i];
}

int archive_repeat_number(const struct archive *a, long row)
{
    int n = 0;
    for (long i = 0; i < a->nrepeats && a->repeat[i] <= (uint32_t)row; i++) n += a->of[a->repeat[i]] == a->of[row];
    return n;
}

int archive_repeated(const struct archive *a, long row)
{
    int n = 0;
    for (long i = 0; i < a->nrepeats; i++) n += archive_repeat_of(a, a->repeat[i]) == row;
    return n;
}

long archive_estimates(const struct archive *a)
{
    return a->nestimates;
}

const struct archive_estimate *archive_estimate_at(const struct archive *a, long i)
{
    return &a->estimate[i];
}

bool archive_estimated(const struct archive *a, int col, long row)
{
    return a->col[col].estimated && a->col[col].estimated[row];
}

/* ---- pooled ---- */

struct value {
    double median, low, high;
};

/* What a row, repeat or not, was reported with on that rung; of what is measured once, whatever rung it was on. */
static bool value_of(const struct archive *a, int col, long row, int rung, struct value *v)
{
    bool once = a->of[row] && archive_repeat(a, row) == REPEAT_PROFILE;
    if (!archive_reported_ok(a, row, once ? 0 : rung)) return false;
    v->median = once ? archive_median(a, col, row) : archive_value(a, col, row, rung);
    archive_interval(a, col, row, &v->low, &v->high);
    if (archive_median(a, col, row) != v->median) v->low = v->high = v->median; /* it was measured again on a higher rung */
    return !isnan(v->median);
}

/* All of the row's: v [POOL_MAX]. */
static int values_of(const struct archive *a, int col, long row, int rung, struct value *v)
{
    int n = value_of(a, col, row, rung, v);
    bool estimate = n && archive_estimated(a, col, row);
    for (long i = 0; i < a->nrepeats && n < POOL_MAX; i++) {
        if (archive_repeat_of(a, a->repeat[i]) != row || !value_of(a, col, a->repeat[i], rung, &v[n])) continue;
        if (estimate) v[0] = v[n];
        else n++;
        estimate = false;
    }
    return n;
}

static bool spread(const struct value *v, int n)
{
    bool any = false;
    for (int i = 0; i < n; i++) any |= v[i].low < v[i].high;
    return any;
}

double archive_noise(const struct archive *a, int col, int rung, int *dof)
{
    double squares = 0;
    struct value v[POOL_MAX];
    *dof = 0;
    for (long i = 0; i < a->nrepeats; i++) {
        long row = archive_repeat_of(a, a->repeat[i]), first = 0;
        while (archive_repeat_of(a, a->repeat[first]) != row) first++;
        if (first != i || archive_repeat(a, a->repeat[i]) == REPEAT_NONE) continue; /* each row once */
        int n = values_of(a, col, row, rung, v);
        double mean = 0;
        if (n < 2 || spread(v, n)) continue;
        for (int k = 0; k < n; k++) mean += v[k].median / n;
        for (int k = 0; k < n; k++) squares += (v[k].median - mean) * (v[k].median - mean);
        *dof += n - 1;
    }
    return *dof ? sqrt(squares / *dof) : NAN;
}

/* DerSimonian & Laird's random effects. */
static void mean_of(const struct value *v, int n, double *mean, double *error)
{
    double w = 0, wy = 0, ww = 0, q = 0;
    for (int i = 0; i < n; i++) {
        double sd = fmax((v[i].high - v[i].low) / 2 / SIDE, 1e-9 * fabs(v[i].median) + 1e-300), x = 1 / (sd * sd);
        w += x;
        wy += x * v[i].median;
        ww += x * x;
    }
    for (int i = 0; i < n; i++) {
        double sd = fmax((v[i].high - v[i].low) / 2 / SIDE, 1e-9 * fabs(v[i].median) + 1e-300);
        q += (v[i].median - wy / w) * (v[i].median - wy / w) / (sd * sd);
    }
    double between = n > 1 ? fmax(0, (q - (n - 1)) / (w - ww / w)) : 0, sum = 0, total = 0;
    for (int i = 0; i < n; i++) {
        double sd = fmax((v[i].high - v[i].low) / 2 / SIDE, 1e-9 * fabs(v[i].median) + 1e-300), x = 1 / (sd * sd + between);
        total += x;
        sum += x * v[i].median;
    }
    *mean = sum / total;
    *error = 1 / sqrt(total);
}

int archive_pooled(const struct archive *a, int col, long row, int rung, double *median, double *low, double *high)
{
    int dof = 0;
    double sd = a->nrepeats ? archive_noise(a, col, rung, &dof) : NAN;
    return archive_pooled_by(a, col, row, rung, sd, dof, median, low, high);
}

int archive_pooled_by(const struct archive *a, int col, long row, int rung, double sd, int dof, double *median, double *low, double *high)
{
    struct value v[POOL_MAX];
    int n = 1;
    *median = *low = *high = NAN;
    if (!value_of(a, col, row, rung, v) && !a->nrepeats) return 0;
    if (a->nrepeats) n = values_of(a, col, row, rung, v);
    if (!n) return 0;
    if (spread(v, n)) {
        *median = v[0].median, *low = v[0].low, *high = v[0].high;
        if (n == 1) return 1;
        double error;
        mean_of(v, n, median, &error);
        *low = *median - SIDE * error;
        *high = *median + SIDE * error;
        return n;
    }
    *median = 0;
    for (int i = 0; i < n; i++) *median += v[i].median / n;
    if (n == 1) *median = v[0].median;
    *low = *high = *median;
    if (dof >= 2 && sd > 0) {
        *low = *median - base_fit_t975(dof) * sd / sqrt(n);
        *high = *median + base_fit_t975(dof) * sd / sqrt(n);
    }
    return n;
}
