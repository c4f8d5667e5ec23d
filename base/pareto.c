#include "base/pareto.h"

#include <stdlib.h>

#include "base/pareto_impl.h"

#define SAMPLE_MAX 256
#define STRONG_MAX 16

/* Chooses rows of a sample that dominate much of the rest of it: each time the one that adds most (greedy cover). Counts
 * comparisons alone, so the scales of the objectives do not matter. strong [STRONG_MAX, m]; returns how many. */
static int choose_strong(const double *y, size_t n, int m, const double *limit, double *strong)
{
    size_t want = 8;
    while (want < SAMPLE_MAX && want * want < n) want *= 2;
    const double *row[SAMPLE_MAX];
    uint64_t beats[SAMPLE_MAX][SAMPLE_MAX / 64], alive[SAMPLE_MAX / 64];
    size_t size = 0;
    for (size_t i = 0; i < want && i < n; i++) {
        const double *p = y + (n * i / want) * (size_t)m;
        int in = 1;
        for (int j = 0; j < m; j++) in &= p[j] < limit[j];
        if (in) row[size++] = p;
    }
    memset(beats, 0, sizeof beats);
    memset(alive, 0xFF, sizeof alive);
    for (size_t i = 0; i < size; i++) {
        for (size_t k = 0; k < size; k++) {
            int j = 0;
            while (j < m && row[i][j] < row[k][j]) j++;
            beats[i][k / 64] |= (uint64_t)(j == m) << k % 64;
        }
    }
    int chosen = 0;
    while (chosen < STRONG_MAX) {
        int most = 0;
        size_t best = 0;
        for (size_t i = 0; i < size; i++) {
            int gain = 0;
            for (int w = 0; w < SAMPLE_MAX / 64; w++) gain += __builtin_popcountll(beats[i][w] & alive[w]);
            if (gain > most) {
                most = gain;
                best = i;
            }
        }
        if (most * 64 <= (int)size) break; /* not worth a comparison for every row */
        for (int w = 0; w < SAMPLE_MAX / 64; w++) alive[w] &= ~beats[best][w];
        memcpy(strong + chosen++ * m, row[best], (size_t)m * sizeof *strong);
    }
    return chosen;
}

/* One pass; y and z may be the same rows. names: numbers of y's rows, NULL for 0, 1, 2 …. Inlined for each m that matters. */
static inline __attribute__((always_inline)) size_t filter_pass(const double *y, size_t n, int m, const double *limit,
                                                                const double *strong, int nstrong, double *z,
                                                                const uint32_t *names, uint32_t *idx)
{
    size_t kept = 0, dropped = 0;
    for (size_t i = 0; i < n; i++) {
        const double *p = y + i * (size_t)m;
        int in = 1;
        for (int j = 0; j < m; j++) in &= p[j] < limit[j];
        if (!in) continue;
        int k = 0;
        for (; k < nstrong; k++) {
            const double *q = strong + k * m;
            int less = 1;
            for (int j = 0; j < m; j++) less &= q[j] < p[j];
            if (less) break;
        }
        if (k < nstrong) {
            dropped++;
            continue;
        }
        memmove(z + kept * (size_t)m, p, (size_t)m * sizeof *z);
        if (idx) idx[kept] = names ? names[i] : (uint32_t)i;
        kept++;
        if (kept == 4096 && dropped < 1024) nstrong = 0; /* mostly a front already */
    }
    return kept;
}

size_t po_filter(const double *y, size_t n, int m, const double *limit, double *z, uint32_t *idx)
{
    double infinite[16], strong[STRONG_MAX * 16];
    if (!limit) {
        for (int j = 0; j < m; j++) infinite[j] = INFINITY;
        limit = infinite;
    }
    const double *from = y;
    const uint32_t *names = NULL;
    for (;;) {
        int k = choose_strong(from, n, m, limit, strong);
        size_t kept = m == 2   ? filter_pass(from, n, 2, limit, strong, k, z, names, idx)
                      : m == 3 ? filter_pass(from, n, 3, limit, strong, k, z, names, idx)
                               : filter_pass(from, n, m, limit, strong, k, z, names, idx);
        if (kept < 128 || kept > n / 2) return kept;
        n = kept;
        from = z;
        names = idx;
    }
}

/* m = 2: in ascending order, a row is in the front if its second value is below all before it. */
static st_t front_2(const double *z, size_t n, uint8_t *in)
{
    struct po_rec *r = malloc(2 * n * sizeof *r);
    if (!r) return ST_ENOMEM;
    for (size_t i = 0; i < n; i++) r[i] = (struct po_rec){po_key(z[2 * i]), (uint32_t)i};
    po_sort(r, r + n, n);
    double best = INFINITY;
    for (size_t i = 0, j; i < n; i = j) {
        double least = INFINITY;
        for (j = i; j < n && r[j].key == r[i].key; j++)
            if (z[2 * r[j].at + 1] < least) least = z[2 * r[j].at + 1];
        for (size_t k = i; k < j; k++) in[r[k].at] = least < best && z[2 * r[k].at + 1] == least;
        if (least < best) best = least;
    }
    free(r);
    return ST_OK;
}

/* m = 3: sweep along the first objective over the staircase of the other two (Kung, Luccio and Preparata 1975). The staircase
 * is a set of ranks of the second objective, with the third beside each. */
static st_t front_3(const double *z, size_t n, uint8_t *in)
{
    size_t words = po_bits_words(n);
    struct po_rec *r = malloc(2 * n * sizeof *r);
    uint32_t *rank = malloc(n * sizeof *rank);
    double *third = malloc(n * sizeof *third);
    uint64_t *w = malloc(words * sizeof *w);
    st_t st = r && rank && third && w ? ST_OK : ST_ENOMEM;
    if (!st) {
        struct po_bits stair;
        po_bits_init(&stair, w, n);
        po_dense(z + 1, 3, n, rank, r, r + n);
        for (size_t i = 0; i < n; i++) r[i].key = po_key(z[3 * r[i].at]);
        po_sort(r, r + n, n); /* stable: by the first objective, then by the second */
        for (size_t i = 0, j; i < n; i = j) {
            /* Rows alike in the first two: the least third is all that counts. */
            uint32_t c = rank[r[i].at];
            double least = INFINITY;
            for (j = i; j < n && r[j].key == r[i].key && rank[r[j].at] == c; j++)
                if (z[3 * r[j].at + 2] < least) least = z[3 * r[j].at + 2];
            long before = po_bits_at_most(&stair, c);
            int enters = before < 0 || third[before] > least;
            for (size_t k = i; k < j; k++) in[r[k].at] = enters && z[3 * r[k].at + 2] == least;
            if (!enters) continue;
            for (long s; (s = po_bits_at_least(&stair, c)) >= 0 && third[s] >= least;) po_bits_erase(&stair, (uint32_t)s);
            third[c] = least;
            po_bits_insert(&stair, c);
        }
    }
    free(r);
    free(rank);
    free(third);
    free(w);
    return st;
}

/* m >= 4: every row against the members found so far, in an order in which none is dominated by a later one. */
static st_t front_many(const double *z, size_t n, int m, uint8_t *in)
{
    struct po_block_set set = {.m = m};
    uint32_t *p = malloc(n * (size_t)m * sizeof *p);
    uint64_t *sum = malloc(n * sizeof *sum);
    struct po_rec *order = malloc(n * sizeof *order);
    st_t st = p && sum && order ? po_rank_rows(z, n, m, p, sum, order) : ST_ENOMEM;
    for (size_t i = 0; i < n && !st; i++) {
        uint32_t at = order[i].at;
        int hit = po_block_test(&set, p + (size_t)at * (size_t)m, sum[at]);
        in[at] = hit != 1;
        if (!hit) st = po_block_add(&set, p + (size_t)at * (size_t)m, sum[at]);
    }
    po_block_fini(&set);
    free(p);
    free(sum);
    free(order);
    return st;
}

static long front_1(const double *y, size_t n, uint8_t *front)
{
    double least = INFINITY;
    long count = 0;
    for (size_t i = 0; i < n; i++)
        if (y[i] < least) least = y[i];
    for (size_t i = 0; i < n; i++) count += front[i] = y[i] == least && least < INFINITY;
    return count;
}

long base_pareto_front(const double *y, long n, int m, uint8_t *front)
{
    if (n <= 0) return 0;
    if (m == 1) return front_1(y, (size_t)n, front);
    if (n >= UINT32_MAX) return -1; /* rows are named by 32 bits; so many do not fit in memory beside their ranks */
    /* Only what passes the filter is ever touched, so the size asked for costs nothing. */
    double *z = malloc((size_t)n * (size_t)m * sizeof *z);
    uint32_t *idx = malloc((size_t)n * sizeof *idx);
    uint8_t *in = NULL;
    long count = -1;
    if (z && idx) {
        size_t kept = po_filter(y, (size_t)n, m, NULL, z, idx);
        st_t st = (in = malloc(kept + 1)) ? ST_OK : ST_ENOMEM;
        if (!st && kept) st = m == 2 ? front_2(z, kept, in) : m == 3 ? front_3(z, kept, in) : front_many(z, kept, m, in);
        if (!st) {
            memset(front, 0, (size_t)n);
            count = 0;
            for (size_t i = 0; i < kept; i++) count += front[idx[i]] = in[i];
        }
    }
    free(z);
    free(idx);
    free(in);
    return count;
}

struct crowd {
    double v;
    long at;
};

static int by_value_then_place(const void *a, const void *b)
{
    const struct crowd *p = a, *q = b;
    if (p->v != q->v) return p->v < q->v ? -1 : 1;
    return p->at < q->at ? -1 : 1;
}

st_t base_pareto_crowding(const double *y, int m, const int *idx, long k, double *out)
{
    if (k <= 0) return ST_OK;
    struct crowd *c = malloc((size_t)k * sizeof *c);
    if (!c) return ST_ENOMEM;
    for (long i = 0; i < k; i++) out[i] = k <= 2 ? INFINITY : 0.0;
    for (int j = 0; j < m; j++) {
        for (long i = 0; i < k; i++) {
            double v = y[(size_t)idx[i] * (size_t)m + (size_t)j];
            c[i] = (struct crowd){isnan(v) ? INFINITY : v, i};
        }
        qsort(c, (size_t)k, sizeof *c, by_value_then_place);
        double range = c[k - 1].v - c[0].v;
        if (!(range > 0)) continue; /* an objective without variation has no boundary */
        out[c[0].at] = out[c[k - 1].at] = INFINITY;
        for (long i = 1; i < k - 1; i++) {
            double gap = (c[i + 1].v - c[i - 1].v) / range;
            if (isfinite(gap)) out[c[i].at] += gap;
        }
    }
    free(c);
    return ST_OK;
}
