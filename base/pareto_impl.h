/* What the Pareto files share; nobody else includes this.
 *
 * Values are compared through keys: 64-bit integers in the order of the doubles, -0 and 0 alike, NaN as +infinity. Rows are
 * named by uint32_t. */
#ifndef TAUT_BASE_PARETO_IMPL_H
#define TAUT_BASE_PARETO_IMPL_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/status.h"

struct po_rec {
    uint64_t key;
    uint32_t at;
};

static inline uint64_t po_key(double v)
{
    uint64_t bits;
    v = v != v ? INFINITY : v + 0.0;
    memcpy(&bits, &v, sizeof bits);
    return bits >> 63 ? ~bits : bits | (uint64_t)1 << 63;
}

/* Sorts by key, stable; tmp has room for n. Radix: O(n). */
void po_sort(struct po_rec *r, struct po_rec *tmp, size_t n);

/* Fills rank[i] with the dense rank (equal values share one, from 0) of z[i * stride], and order[0..n) with the rows in
 * ascending order. tmp: n. Returns the number of distinct values. */
uint32_t po_dense(const double *z, size_t stride, size_t n, uint32_t *rank, struct po_rec *order, struct po_rec *tmp);

/* A set of small integers as a tree of 64-bit words: insert, erase, neighbours in a handful of steps. */
#define PO_LEVELS 6
struct po_bits {
    uint64_t *level[PO_LEVELS]; /* level[0] has one bit a member, above it one bit for each word that is not zero */
    int levels;
};

size_t po_bits_words(size_t n);                                 /* words of storage for members in [0, n) */
void po_bits_init(struct po_bits *s, uint64_t *words, size_t n); /* clears them */
void po_bits_insert(struct po_bits *s, uint32_t i);
void po_bits_erase(struct po_bits *s, uint32_t i);
long po_bits_at_most(const struct po_bits *s, uint32_t i);  /* greatest member <= i, or -1 */
long po_bits_at_least(const struct po_bits *s, uint32_t i); /* least member >= i, or -1 */

/* Copies the rows of y [n, m] that are below limit in every column (limit NULL: finite or -infinity) to z, and their numbers to
 * idx (if not NULL), leaving out most of those that another row dominates: never one of the first front, usually nearly all
 * others. z [n, m], idx [n]. Returns how many were kept. */
size_t po_filter(const double *y, size_t n, int m, const double *limit, double *z, uint32_t *idx);

/* Rows of ranks in blocks of eight, so that one is compared with eight at a time (m >= 4, where no sweep helps). */
struct po_block_set {
    uint32_t *v; /* [cap / 8][m][8] */
    uint64_t *sum;
    size_t n, cap;
    int m;
};

/* Dominated by a member (1), equal to one and so in company with it (2), or neither (0). p [m]; sum: of p's ranks. */
int po_block_test(const struct po_block_set *s, const uint32_t *p, uint64_t sum);
st_t po_block_add(struct po_block_set *s, const uint32_t *p, uint64_t sum);
void po_block_fini(struct po_block_set *s);

/* Rows in an order in which none is dominated by a later one: by the sum of their dense ranks, which is exact where a sum of
 * doubles is not. p [n, m] ranks, sum [n], order [n] (key is not kept). */
st_t po_rank_rows(const double *z, size_t n, int m, uint32_t *p, uint64_t *sum, struct po_rec *order);

/* A staircase in two dimensions under (r0, r1): members are ranks of the first value, v[rank] = {first, second}; area is what
 * they cover. */
struct po_stair {
    struct po_bits set;
    double (*v)[2];
    double r0, r1, area;
};

/* Adds (a, b) at its rank; O(log n), amortised. */
void po_stair_add(struct po_stair *s, uint32_t rank, double a, double b);

/* Memory for sweeps over up to n rows, made once for the many small sweeps of the recursion. */
struct po_work {
    struct po_rec *rec; /* 2n */
    uint32_t *rank;
    double (*v)[2];
    uint64_t *words;
};

st_t po_work_init(struct po_work *w, size_t n);
void po_work_fini(struct po_work *w);

/* a <= b in every one of m columns. */
int po_covers(const double *a, const double *b, int m);

/* Volume of the box from p to ref. */
double po_box(const double *p, const double *ref, int m);

/* The rows of z pushed into the box of p (max of the two, column by column), less those that another covers: what they cover of
 * what p covers. Rows of m doubles into out [n]; returns how many. */
size_t po_limit(const double *z, size_t n, size_t stride, int m, const double *p, double *out);

/* Hypervolume of rows that are below ref in every column, `stride` doubles apart; m >= 2; w has room for n. NaN when memory is out. */
double po_hv(struct po_work *w, const double *z, size_t n, size_t stride, int m, const double *ref);

/* Whether a box from one of the rows to ref has an infinite side. */
int po_unbounded(const double *z, size_t n, int m, const double *ref);

#endif
