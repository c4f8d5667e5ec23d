#include "controller/linalg.h"

#include <math.h>
#include <string.h>

#define LANES 8 /* partial sums: a fixed order that vectors can keep */
#define ROWS 32

static inline __attribute__((always_inline)) double dot(const double *a, const double *b, int n)
{
    double s[LANES] = {0}, rest = 0;
    int i = 0;
    for (; i + LANES <= n; i += LANES)
        for (int k = 0; k < LANES; k++) s[k] += a[i + k] * b[i + k];
    for (; i < n; i++) rest += a[i] * b[i];
    return ((s[0] + s[4]) + (s[1] + s[5])) + ((s[2] + s[6]) + (s[3] + s[7])) + rest;
}

LINALG_WIDE double linalg_dot(const double *a, const double *b, int n)
{
    return dot(a, b, n);
}

LINALG_WIDE double linalg_distance2(const double *a, const double *b, int n)
{
    double s[LANES] = {0}, rest = 0;
    int i = 0;
    for (; i + LANES <= n; i += LANES)
        for (int k = 0; k < LANES; k++) s[k] += (a[i + k] - b[i + k]) * (a[i + k] - b[i + k]);
    for (; i < n; i++) rest += (a[i] - b[i]) * (a[i] - b[i]);
    return ((s[0] + s[4]) + (s[1] + s[5])) + ((s[2] + s[6]) + (s[3] + s[7])) + rest;
}

LINALG_WIDE void linalg_add_squares(double *out, double by, const double *a, const double *b, int n)
{
    int i = 0;
    for (; i + LANES <= n; i += LANES)
        for (int k = 0; k < LANES; k++) out[i + k] += by * ((a[i + k] - b[i + k]) * (a[i + k] - b[i + k]));
    for (; i < n; i++) out[i] += by * ((a[i] - b[i]) * (a[i] - b[i]));
}

LINALG_WIDE bool linalg_cholesky(double *a, int stride, int n)
{
    for (int top = 0; top < n; top += ROWS) { /* rows together, so that those above are fetched once for all of them */
        int end = top + ROWS < n ? top + ROWS : n;
        for (int j = 0; j < end; j++) {
            double *other = a + (size_t)j * (size_t)stride;
            if (j >= top) {
                double left = other[j] - dot(other, other, j);
                if (!(left > 0)) return false;
                other[j] = sqrt(left);
            }
            for (int i = j < top ? top : j + 1; i < end; i++) {
                double *row = a + (size_t)i * (size_t)stride;
                row[j] = (row[j] - dot(row, other, j)) / other[j];
            }
        }
    }
    return true;
}

LINALG_WIDE void linalg_lower_solve(const double *l, int stride, int n, const double *b, double *x)
{
    for (int i = 0; i < n; i++) {
        const double *row = l + (size_t)i * (size_t)stride;
        x[i] = (b[i] - dot(row, x, i)) / row[i];
    }
}

/* Row by row from the last: each x takes its share off all before it. */
LINALG_WIDE void linalg_upper_solve(const double *l, int stride, int n, const double *b, double *x)
{
    if (x != b) memcpy(x, b, (size_t)n * sizeof *x);
    for (int i = n - 1; i >= 0; i--) {
        const double *row = l + (size_t)i * (size_t)stride;
        x[i] /= row[i];
        int j = 0;
        for (; j + LANES <= i; j += LANES)
            for (int k = 0; k < LANES; k++) x[j + k] -= row[j + k] * x[i];
        for (; j < i; j++) x[j] -= row[j] * x[i];
    }
}

LINALG_WIDE void linalg_inverse(const double *l, int stride, int n, double *out)
{
    /* Row j of out, from column j on: column j of L^-1, that is row j of L^-T. */
    for (int j = 0; j < n; j++) {
        double *row = out + (size_t)j * (size_t)n;
        row[j] = 1 / l[(size_t)j * (size_t)stride + (size_t)j];
        for (int i = j + 1; i < n; i++) {
            const double *from = l + (size_t)i * (size_t)stride;
            row[i] = -dot(from + j, row + j, i - j) / from[i];
        }
    }
    /* (L L^T)^-1 [i, j] = sum over k >= max(i, j) of L^-1[k, i] L^-1[k, j]: rows in place, since row i needs rows from i on. */
    for (int i = 0; i < n; i++)
        for (int j = i; j < n; j++) {
            const double *a = out + (size_t)i * (size_t)n, *b = out + (size_t)j * (size_t)n;
            out[(size_t)j * (size_t)n + (size_t)i] = dot(a + j, b + j, n - j);
        }
    for (int i = 0; i < n; i++)
        for (int j = i + 1; j < n; j++) out[(size_t)i * (size_t)n + (size_t)j] = out[(size_t)j * (size_t)n + (size_t)i];
}
