/* Non-dominated sorting. */
#include <stdlib.h>

#include "base/pareto.h"
#include "base/pareto_impl.h"

/* Distinct rows of ranks, ascending: a row can only be dominated by one before it. */
struct sweep {
    const uint32_t *b, *c; /* ranks of the second and third objective, by position in the order */
    int *front;            /* answer, by position */
    int *best;             /* Fenwick tree over c: 1 + the greatest front among c' <= c */
    uint32_t nc;
};

static void fenwick_raise(struct sweep *s, uint32_t c, int v)
{
    for (uint32_t i = c + 1; i <= s->nc; i += i & -i)
        if (s->best[i] < v) s->best[i] = v;
}

static void fenwick_clear(struct sweep *s, uint32_t c)
{
    for (uint32_t i = c + 1; i <= s->nc; i += i & -i) s->best[i] = 0;
}

static int fenwick_max(const struct sweep *s, uint32_t c)
{
    int v = 0;
    for (uint32_t i = c + 1; i > 0; i &= i - 1)
        if (s->best[i] > v) v = s->best[i];
    return v;
}

/* Settles positions [low, high), given by list in the order of b: the left half, then what it does to the right half, then the
 * right half; O(n log^2 n) (Jensen 2003; Fortin et al. 2013). tmp: high - low. */
static void settle(struct sweep *s, uint32_t *list, uint32_t *tmp, uint32_t low, uint32_t high)
{
    if (high - low <= 24) {
        for (uint32_t i = low + 1; i < high; i++)
            for (uint32_t j = low; j < i; j++)
                if (s->b[j] <= s->b[i] && s->c[j] <= s->c[i] && s->front[j] >= s->front[i]) s->front[i] = s->front[j] + 1;
        return;
    }
    uint32_t mid = low + (high - low) / 2, nl = 0, nr = 0;
    for (uint32_t i = 0; i < high - low; i++) {
        if (list[i] < mid) list[nl++] = list[i];
        else tmp[nr++] = list[i];
    }
    uint32_t *right = list + nl;
    memcpy(right, tmp, nr * sizeof *tmp);
    settle(s, list, tmp, low, mid);
    /* settle permutes its list, and puts it back in the order of b. */
    uint32_t i = 0;
    for (uint32_t k = 0; k < nr; k++) {
        uint32_t q = right[k];
        for (; i < nl && s->b[list[i]] <= s->b[q]; i++) fenwick_raise(s, s->c[list[i]], s->front[list[i]] + 1);
        int v = fenwick_max(s, s->c[q]);
        if (v > s->front[q]) s->front[q] = v;
    }
    while (i > 0) fenwick_clear(s, s->c[list[--i]]);
    settle(s, right, tmp, mid, high);
    memcpy(tmp, right, nr * sizeof *tmp);
    uint32_t l = nl, r = nr, k = nl + nr;
    while (r > 0) list[--k] = l > 0 && s->b[list[l - 1]] > s->b[tmp[r - 1]] ? list[--l] : tmp[--r];
}

/* Order of the rows of z [n, m] by (column 0, 1, … m-1), and the dense rank of each column, column after column in p. */
static void order_rows(const double *z, size_t n, int m, uint32_t *p, struct po_rec *order, struct po_rec *tmp)
{
    for (int j = m - 1; j >= 0; j--) {
        uint32_t *rank = p + (size_t)j * n;
        if (j == m - 1) {
            po_dense(z + j, (size_t)m, n, rank, order, tmp);
            continue;
        }
        for (size_t i = 0; i < n; i++) order[i].key = po_key(z[order[i].at * (size_t)m + (size_t)j]);
        po_sort(order, tmp, n);
        uint32_t k = 0;
        for (size_t i = 0; i < n; i++) {
            if (i > 0 && order[i].key != order[i - 1].key) k++;
            rank[order[i].at] = k;
        }
    }
}

static int same_row(const uint32_t *p, size_t n, int m, uint32_t a, uint32_t b)
{
    for (int j = 0; j < m; j++)
        if (p[(size_t)j * n + a] != p[(size_t)j * n + b]) return 0;
    return 1;
}

/* m <= 3. */
static st_t rank_sweep(const double *z, size_t n, int m, int *rank)
{
    struct po_rec *order = malloc(2 * n * sizeof *order);
    uint32_t *p = malloc(n * (size_t)m * sizeof *p), *scratch = malloc(4 * n * sizeof *scratch);
    int *front = calloc(2 * n + 1, sizeof *front);
    st_t st = order && p && scratch && front ? ST_OK : ST_ENOMEM;
    if (!st) {
        order_rows(z, n, m, p, order, order + n);
        uint32_t *b = scratch, *c = scratch + n, *list = scratch + 2 * n, *tmp = scratch + 3 * n, k = 0;
        for (size_t i = 0; i < n; i++) {
            uint32_t at = order[i].at;
            if (i == 0 || !same_row(p, n, m, order[i - 1].at, at)) {
                b[k] = m > 1 ? p[n + at] : 0;
                c[k++] = m > 2 ? p[2 * n + at] : 0;
            }
            rank[at] = (int)(k - 1);
        }
        if (m == 1) {
            for (uint32_t i = 0; i < k; i++) front[i] = (int)i;
        } else if (m == 2) {
            /* The least b of each front rises with the front (each has a member below every later front's members). */
            uint32_t *least = list, fronts = 0;
            for (uint32_t i = 0; i < k; i++) {
                uint32_t low = 0, high = fronts;
                while (low < high) {
                    uint32_t mid = (low + high) / 2;
                    if (least[mid] <= b[i]) low = mid + 1;
                    else high = mid;
                }
                if (low == fronts) fronts++;
                least[low] = b[i];
                front[i] = (int)low;
            }
        } else {
            struct sweep s = {b, c, front, front + n, (uint32_t)n};
            struct po_rec *sorted = order + n;
            for (uint32_t i = 0; i < k; i++) order[i] = (struct po_rec){(uint64_t)b[i] << 31, i};
            po_sort(order, sorted, k);
            for (uint32_t i = 0; i < k; i++) list[i] = order[i].at;
            settle(&s, list, tmp, 0, k);
        }
        for (size_t i = 0; i < n; i++) rank[i] = front[rank[i]];
    }
    free(order);
    free(p);
    free(scratch);
    free(front);
    return st;
}

/* m >= 4: each row into the first front that has no member above it, found by bisection (Zhang et al. 2015, ENS-BS): a row
 * that front k dominates is dominated by every front before k too. */
static st_t rank_many(const double *z, size_t n, int m, int *rank)
{
    uint32_t *p = malloc(n * (size_t)m * sizeof *p);
    uint64_t *sum = malloc(n * sizeof *sum);
    struct po_rec *order = malloc(n * sizeof *order);
    struct po_block_set *fronts = NULL;
    int nfronts = 0, cap = 0;
    st_t st = p && sum && order ? po_rank_rows(z, n, m, p, sum, order) : ST_ENOMEM;
    for (size_t i = 0; i < n && !st; i++) {
        uint32_t at = order[i].at;
        const uint32_t *row = p + (size_t)at * (size_t)m;
        int low = 0, high = nfronts, equal = 0;
        while (low < high && !equal) {
            int mid = (low + high) / 2, hit = po_block_test(&fronts[mid], row, sum[at]);
            if (hit == 1) low = mid + 1;
            else high = mid;
            if (hit == 2) {
                low = mid;
                equal = 1;
            }
        }
        if (low == cap) {
            cap = cap ? 2 * cap : 16;
            struct po_block_set *more = realloc(fronts, (size_t)cap * sizeof *more);
            if (!more) {
                st = ST_ENOMEM;
                break;
            }
            fronts = more;
        }
        if (low == nfronts) fronts[nfronts++] = (struct po_block_set){.m = m};
        rank[at] = low;
        if (!equal) st = po_block_add(&fronts[low], row, sum[at]);
    }
    while (nfronts > 0) po_block_fini(&fronts[--nfronts]);
    free(fronts);
    free(p);
    free(sum);
    free(order);
    return st;
}

/* Classes that follow one another whole: finite and feasible, feasible but with NaN or +inf, infeasible. */
static int class_of(const double *row, int m, const double *viol, size_t i)
{
    if (viol && !(viol[i] <= 0)) return 2;
    for (int j = 0; j < m; j++)
        if (!(row[j] < INFINITY)) return 1;
    return 0;
}

st_t base_pareto_rank(const double *y, const double *viol, long n, int m, int *rank)
{
    if (n <= 0) return ST_OK;
    if (n >= INT32_MAX) return ST_ENOMEM;
    size_t rows = (size_t)n, cols = (size_t)m;
    double *z = malloc(rows * cols * sizeof *z);
    uint32_t *idx = malloc(rows * sizeof *idx);
    int *sub = malloc(rows * sizeof *sub), *answer = malloc(rows * sizeof *answer);
    st_t st = z && idx && sub && answer ? ST_OK : ST_ENOMEM;
    int base = 0;
    for (int class = 0; class < 3 && !st; class++) {
        size_t k = 0;
        int width = class == 2 ? 1 : m, most = -1; /* the infeasible have but one objective: the violation */
        for (size_t i = 0; i < rows; i++) {
            if (class_of(y + i * cols, m, viol, i) != class) continue;
            memcpy(z + k * (size_t)width, class == 2 ? viol + i : y + i * cols, (size_t)width * sizeof *z);
            idx[k++] = (uint32_t)i;
        }
        if (class == 1 && k && base == 0) base = 1; /* what is not finite is never in the first front */
        if (k) st = width <= 3 ? rank_sweep(z, k, width, sub) : rank_many(z, k, width, sub);
        for (size_t i = 0; i < k && !st; i++) {
            answer[idx[i]] = base + sub[i];
            if (sub[i] > most) most = sub[i];
        }
        base += most + 1;
    }
    if (!st) memcpy(rank, answer, rows * sizeof *rank);
    free(z);
    free(idx);
    free(sub);
    free(answer);
    return st;
}
