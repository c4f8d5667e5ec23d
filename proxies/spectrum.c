/* Small symmetric matrices in f64. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "proxies/internal.h"

#define SWEEPS 60 /* of QL for one eigenvalue; a handful are usual */

#define BLOCK 16 /* rows of a Gram matrix that are one task */

struct gram {
    const float *y; /* [m,n] */
    int64_t m, n;
    double *a;
};

static void gram_rows(void *ctx, int task, int worker)
{
    const struct gram *g = ctx;
    int64_t from = (int64_t)task * BLOCK, to = from + BLOCK < g->n ? from + BLOCK : g->n;
    for (int64_t r = 0; r < g->m; r++) {
        const float *y = g->y + r * g->n;
        for (int64_t i = from; i < to; i++) {
            double v = y[i], *a = g->a + i * g->n;
            for (int64_t j = 0; j <= i; j++) a[j] += v * (double)y[j];
        }
    }
}

st_t proxy_gram(struct base_pool *pool, const float *x, int64_t rows, int64_t cols, double *a)
{
    float *turned = NULL; /* so that the smaller side is the inner one */
    struct gram g = {x, rows, cols, a};
    if (rows < cols) {
        turned = malloc((size_t)(rows * cols) * sizeof *turned);
        if (!turned) return ST_ENOMEM;
        for (int64_t r = 0; r < rows; r++)
            for (int64_t c = 0; c < cols; c++) turned[c * rows + r] = x[r * cols + c];
        g = (struct gram){turned, cols, rows, a};
    }
    memset(a, 0, (size_t)(g.n * g.n) * sizeof *a);
    base_pool_run(pool, gram_rows, &g, (int)((g.n + BLOCK - 1) / BLOCK));
    free(turned);
    return ST_OK;
}

/* Column k below the diagonal to one number, by a reflection of what is left of the matrix: A - v w^T - w v^T. Of the matrix only the lower triangle is
 * read and written; v is kept in row k above the diagonal. w [n] is scratch. Returns the number that is left beside the diagonal. */
static double reflect(double *a, int64_t n, int64_t k, double *w)
{
    int64_t m = n - k - 1;
    double *v = a + k * n + k + 1, rest = 0, dot = 0;
    for (int64_t i = 0; i < m; i++) v[i] = a[(k + 1 + i) * n + k];
    for (int64_t i = 1; i < m; i++) rest += v[i] * v[i];
    double head = v[0], norm = sqrt(head * head + rest);
    if (rest == 0) return head;
    double to = head > 0 ? -norm : norm, half = norm * (norm + fabs(head)); /* |v|^2 / 2 */
    v[0] = head - to;
    for (int64_t i = 0; i < m; i++) {
        const double *row = a + (k + 1 + i) * n + k + 1;
        double sum = row[i] * v[i];
        w[i] = 0;
        for (int64_t j = 0; j < i; j++) {
            sum += row[j] * v[j];
            w[j] += row[j] * v[i];
        }
        w[i] += sum;
    }
    for (int64_t i = 0; i < m; i++) dot += (w[i] /= half) * v[i];
    for (int64_t i = 0; i < m; i++) w[i] -= dot / (2 * half) * v[i];
    for (int64_t i = 0; i < m; i++) {
        double *row = a + (k + 1 + i) * n + k + 1;
        for (int64_t j = 0; j <= i; j++) row[j] -= v[i] * w[j] + w[i] * v[j];
    }
    return to;
}

/* Eigenvalues of the tridiagonal matrix with d on its diagonal and e[1 .. n-1] beside it, into d. What is beside the diagonal counts as 0 once it is small
 * against the whole matrix: small eigenvalues among large ones, as low rank has them, are good to that alone. */
static st_t ql(double *d, double *e, int64_t n)
{
    double size = 0;
    for (int64_t i = 1; i < n; i++) e[i - 1] = e[i];
    e[n - 1] = 0;
    for (int64_t i = 0; i < n; i++) size = fmax(size, fabs(d[i]) + fabs(e[i]));
    for (int64_t l = 0; l < n; l++) {
        for (int sweep = 0;; sweep++) {
            int64_t m = l;
            while (m < n - 1 && fabs(e[m]) > 0x1p-53 * size) m++;
            if (m == l) break;
            if (sweep == SWEEPS) return ST_ENONFINITE;
            double g = (d[l + 1] - d[l]) / (2 * e[l]), r = hypot(g, 1), s = 1, c = 1, p = 0;
            int64_t i = m - 1;
            g = d[m] - d[l] + e[l] / (g + copysign(r, g));
            for (; i >= l; i--) {
                double f = s * e[i], b = c * e[i];
                e[i + 1] = r = hypot(f, g);
                if (r == 0) break;
                s = f / r, c = g / r;
                g = d[i + 1] - p;
                r = (d[i] - g) * s + 2 * c * b;
                d[i + 1] = g + (p = s * r);
                g = c * r - b;
            }
            if (r == 0 && i >= l) {
                d[i + 1] -= p;
                e[m] = 0;
                continue;
            }
            d[l] -= p;
            e[l] = g;
            e[m] = 0;
        }
        if (!isfinite(d[l])) return ST_ENONFINITE;
    }
    return ST_OK;
}

/* The numbers beside the diagonal go to the first row. */
st_t proxy_eigenvalues(double *a, int64_t n, double *w)
{
    if (n < 1) return ST_OK;
    for (int64_t k = 0; k + 1 < n; k++) {
        double beside = reflect(a, n, k, w);
        a[k + 1] = beside;
    }
    for (int64_t i = 0; i < n; i++) w[i] = a[i * n + i];
    return ql(w, a, n);
}

st_t proxy_logdet(double *a, int64_t n, double *out)
{
    double sum = 0;
    for (int64_t j = 0; j < n; j++) {
        double d = a[j * n + j];
        for (int64_t k = 0; k < j; k++) d -= a[j * n + k] * a[j * n + k];
        if (!(d > 1e-9 * a[j * n + j]) || !isfinite(d)) return ST_ENONFINITE;
        a[j * n + j] = sqrt(d);
        sum += log(d);
        for (int64_t i = j + 1; i < n; i++) {
            double v = a[i * n + j];
            for (int64_t k = 0; k < j; k++) v -= a[i * n + k] * a[j * n + k];
            a[i * n + j] = v / a[j * n + j];
        }
    }
    *out = sum;
    return ST_OK;
}
