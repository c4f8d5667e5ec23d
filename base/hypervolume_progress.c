/* Hypervolume after each of a series of rows. */
#include <stdlib.h>

#include "base/pareto.h"
#include "base/pareto_impl.h"

/* m = 2 keeps a staircase: O(n log n) whatever the rows. */
static st_t progress_2(const double *y, size_t n, const double *ref, double *out)
{
    struct po_work w;
    if (po_work_init(&w, n)) return ST_ENOMEM;
    struct po_stair s = {.v = w.v, .r0 = ref[0], .r1 = ref[1]};
    po_bits_init(&s.set, w.words, n);
    po_dense(y, 2, n, w.rank, w.rec, w.rec + n);
    for (size_t i = 0; i < n; i++) {
        const double *p = y + 2 * i;
        if (p[0] < ref[0] && p[1] < ref[1]) {
            if (po_unbounded(p, 1, 2, ref)) s.area = INFINITY;
            else po_stair_add(&s, w.rank[i], p[0], p[1]);
        }
        out[i] = s.area;
    }
    po_work_fini(&w);
    return ST_OK;
}

/* m = 3: the rows in Morton order of their ranks, in groups of eight, and those again in groups of eight, each with the bounds
 * of its members that are in the front (an empty group: low = +inf, high = -inf). What a new row adds depends on its neighbours
 * alone, and the groups find them without a look at the rest of the front. */
#define TREE_LEVELS 12

struct tree {
    double (*low[TREE_LEVELS])[3], (*high[TREE_LEVELS])[3]; /* level 0: the rows themselves */
    double *slab;
    int levels; /* the last one has at most eight groups */
};

static st_t tree_init(struct tree *t, size_t n)
{
    size_t total = 0, size[TREE_LEVELS];
    t->levels = 0;
    for (size_t k = n;; k = (k + 7) / 8) {
        size[t->levels++] = (k + 7) / 8 * 8; /* whole groups, so that none needs a count */
        total += size[t->levels - 1];
        if (k <= 8) break;
    }
    t->slab = malloc(total * 6 * sizeof *t->slab);
    if (!t->slab) return ST_ENOMEM;
    double *p = t->slab;
    for (int l = 0; l < t->levels; l++) {
        t->low[l] = (double(*)[3])p;
        t->high[l] = (double(*)[3])(p + 3 * size[l]);
        p += 6 * size[l];
        for (size_t i = 0; i < size[l]; i++) {
            for (int j = 0; j < 3; j++) {
                t->low[l][i][j] = INFINITY;
                t->high[l][i][j] = -INFINITY;
            }
        }
    }
    return ST_OK;
}

static void tree_insert(struct tree *t, size_t i, const double *p)
{
    for (int l = 0; l < t->levels; l++, i /= 8) {
        for (int j = 0; j < 3; j++) {
            if (p[j] < t->low[l][i][j]) t->low[l][i][j] = p[j];
            if (p[j] > t->high[l][i][j]) t->high[l][i][j] = p[j];
        }
    }
}

static void tree_erase(struct tree *t, size_t i)
{
    for (int j = 0; j < 3; j++) {
        t->low[0][i][j] = INFINITY;
        t->high[0][i][j] = -INFINITY;
    }
    for (int l = 1; l < t->levels; l++) {
        size_t first = i / 8 * 8;
        i /= 8;
        for (int j = 0; j < 3; j++) {
            double low = INFINITY, high = -INFINITY;
            for (size_t k = first; k < first + 8; k++) {
                if (t->low[l - 1][k][j] < low) low = t->low[l - 1][k][j];
                if (t->high[l - 1][k][j] > high) high = t->high[l - 1][k][j];
            }
            t->low[l][i][j] = low;
            t->high[l][i][j] = high;
        }
    }
}

/* The least value of column a among members that are <= p in the other two, if it is below best. */
static double tree_least(const struct tree *t, int l, size_t first, const double *p, int a, double best)
{
    int b = (a + 1) % 3, c = (a + 2) % 3;
    for (size_t i = first; i < first + 8; i++) {
        const double *low = t->low[l][i];
        if (low[a] < best && low[b] <= p[b] && low[c] <= p[c]) best = l ? tree_least(t, l - 1, 8 * i, p, a, best) : low[a];
    }
    return best;
}

/* Members below corner in every column, pushed into the box of p, to out; returns how many. */
static size_t tree_collect(const struct tree *t, int l, size_t first, const double *p, const double *corner, double *out)
{
    size_t n = 0;
    for (size_t i = first; i < first + 8; i++) {
        const double *low = t->low[l][i];
        if (!(low[0] < corner[0] && low[1] < corner[1] && low[2] < corner[2])) continue;
        if (l) {
            n += tree_collect(t, l - 1, 8 * i, p, corner, out + 3 * n);
            continue;
        }
        for (int j = 0; j < 3; j++) out[3 * n + (size_t)j] = low[j] > p[j] ? low[j] : p[j];
        n++;
    }
    return n;
}

/* Removes the members that p covers. */
static void tree_prune(struct tree *t, int l, size_t first, const double *p)
{
    for (size_t i = first; i < first + 8; i++) {
        if (!po_covers(p, t->high[l][i], 3)) continue;
        if (l) tree_prune(t, l - 1, 8 * i, p);
        else tree_erase(t, i);
    }
}

/* Spreads 20 bits so that two others fit between each. */
static uint64_t spread(uint64_t v)
{
    v = (v | v << 32) & 0x1f00000000ffff;
    v = (v | v << 16) & 0x1f0000ff0000ff;
    v = (v | v << 8) & 0x100f00f00f00f00f;
    v = (v | v << 4) & 0x10c30c30c30c30c3;
    return (v | v << 2) & 0x1249249249249249;
}

/* place[i]: of row i in Morton order. rank [n] and rec [2n] are scratch. */
static void morton(const double *y, size_t n, uint32_t *place, uint32_t *rank, struct po_rec *rec)
{
    int shift = 0;
    while (n >> shift >= (size_t)1 << 20) shift++;
    uint64_t *key = malloc(n * sizeof *key);
    for (size_t i = 0; i < n; i++) place[i] = (uint32_t)i;
    if (!key) return; /* any order is right, this one only slower */
    memset(key, 0, n * sizeof *key);
    for (int j = 0; j < 3; j++) {
        po_dense(y + j, 3, n, rank, rec, rec + n);
        for (size_t i = 0; i < n; i++) key[i] |= spread(rank[i] >> shift) << j;
    }
    for (size_t i = 0; i < n; i++) rec[i] = (struct po_rec){key[i], (uint32_t)i};
    po_sort(rec, rec + n, n);
    for (size_t i = 0; i < n; i++) place[rec[i].at] = (uint32_t)i;
    free(key);
}

static st_t progress_3(const double *y, size_t n, const double *ref, double *out)
{
    struct po_work w;
    struct tree t = {.levels = 0};
    if (po_work_init(&w, n)) return ST_ENOMEM;
    uint32_t *place = malloc(n * sizeof *place);
    double *near = malloc(3 * n * sizeof *near), volume = 0.0;
    st_t st = place && near ? tree_init(&t, n) : ST_ENOMEM;
    if (!st) morton(y, n, place, w.rank, w.rec);
    for (size_t i = 0; i < n && !st; i++, out++) {
        const double *p = y + 3 * i;
        *out = volume;
        if (!(p[0] < ref[0] && p[1] < ref[1] && p[2] < ref[2]) || volume == INFINITY) continue;
        if (po_unbounded(p, 1, 3, ref)) {
            *out = volume = INFINITY;
            continue;
        }
        /* What p adds ends in each direction where one member covers all that is left of it. */
        double corner[3];
        int covered = 0, top = t.levels - 1;
        for (int j = 0; j < 3 && !covered; j++) {
            corner[j] = tree_least(&t, top, 0, p, j, ref[j]);
            covered = corner[j] <= p[j];
        }
        if (covered) continue;
        size_t k = tree_collect(&t, top, 0, p, corner, near);
        double gain = po_box(p, corner, 3) - po_hv(&w, near, k, 3, 3, corner);
        tree_prune(&t, top, 0, p);
        tree_insert(&t, place[i], p);
        if (gain > 0) volume += gain; /* it may round below */
        *out = volume;
    }
    po_work_fini(&w);
    free(place);
    free(near);
    free(t.slab);
    return st;
}

/* m >= 4: the front so far as a list. */
struct series {
    struct po_work w;
    double *z, *limited;
    size_t n, room; /* rows in z, and rows that all of it can hold */
};

static st_t series_grow(struct series *s, int m)
{
    if (s->n < s->room) return ST_OK;
    size_t room = s->room ? 2 * s->room : 64;
    double *z = realloc(s->z, room * (size_t)m * sizeof *z);
    if (z) s->z = z;
    double *limited = z ? realloc(s->limited, room * (size_t)m * sizeof *limited) : NULL;
    if (limited) s->limited = limited;
    struct po_work w;
    if (!limited || po_work_init(&w, room)) return ST_ENOMEM;
    if (s->room) po_work_fini(&s->w);
    s->w = w;
    s->room = room;
    return ST_OK;
}

/* What p covers and the front does not; -1 if the front covers p. The front loses what p covers and gains p. */
static double series_add(struct series *s, const double *p, int m, const double *ref)
{
    for (size_t i = 0; i < s->n; i++) {
        double *q = s->z + i * (size_t)m;
        if (!po_covers(q, p, m)) continue;
        for (int j = 0; j < m && i > 0; j++) { /* to the front, as in po_limit */
            double t = s->z[j];
            s->z[j] = q[j];
            q[j] = t;
        }
        return -1.0;
    }
    size_t k = po_limit(s->z, s->n, (size_t)m, m, p, s->limited), keep = 0;
    double gain = po_box(p, ref, m) - po_hv(&s->w, s->limited, k, (size_t)m, m, ref);
    for (size_t i = 0; i < s->n; i++) {
        const double *q = s->z + i * (size_t)m;
        if (po_covers(p, q, m)) continue;
        if (keep < i) memcpy(s->z + keep * (size_t)m, q, (size_t)m * sizeof *q);
        keep++;
    }
    memcpy(s->z + keep * (size_t)m, p, (size_t)m * sizeof *p);
    s->n = keep + 1;
    return gain < 0 ? 0.0 : gain; /* it may round below; NaN goes through */
}

st_t base_pareto_hv_progress(const double *y, long n, int m, const double *ref, double *out)
{
    if (n <= 0) return ST_OK;
    if (n >= UINT32_MAX) return ST_ENOMEM;
    if (m == 2) return progress_2(y, (size_t)n, ref, out);
    if (m == 3) return progress_3(y, (size_t)n, ref, out);
    struct series s = {.n = 0};
    double volume = 0.0;
    st_t st = ST_OK;
    for (long i = 0; i < n && !st; i++) {
        const double *p = y + (size_t)i * (size_t)m;
        int in = 1;
        for (int j = 0; j < m; j++) in &= p[j] < ref[j];
        if (in && volume < INFINITY) {
            if (po_unbounded(p, 1, m, ref)) {
                volume = INFINITY;
            } else if (m == 1) {
                if (ref[0] - p[0] > volume) volume = ref[0] - p[0];
            } else if (!(st = series_grow(&s, m))) {
                double gain = series_add(&s, p, m, ref);
                if (isnan(gain)) st = ST_ENOMEM;
                else if (gain > 0) volume += gain;
            }
        }
        out[i] = volume;
    }
    if (s.room) po_work_fini(&s.w);
    free(s.z);
    free(s.limited);
    return st;
}
