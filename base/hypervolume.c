/* Hypervolume: of a set, and after each of a series of rows. */
#include <stdlib.h>

#include "base/pareto.h"
#include "base/pareto_impl.h"

/* A staircase in two dimensions under (r0, r1): members are ranks of the first value, v[rank] = {first, second}; area is what
 * they cover. */
struct stair {
    struct po_bits set;
    double (*v)[2];
    double r0, r1, area;
};

/* Adds (a, b) at its rank. Every rectangle gained is added on its own, so nothing cancels. */
static void stair_add(struct stair *s, uint32_t rank, double a, double b)
{
    long before = po_bits_at_most(&s->set, rank);
    double height = before < 0 ? s->r1 : s->v[before][1], x = a;
    if (height <= b) return;
    for (;;) {
        long next = po_bits_at_least(&s->set, rank);
        double end = next < 0 ? s->r0 : s->v[next][0];
        s->area += (end - x) * (height - b);
        if (next < 0 || s->v[next][1] < b) break;
        x = end;
        height = s->v[next][1];
        po_bits_erase(&s->set, (uint32_t)next);
    }
    s->v[rank][0] = a;
    s->v[rank][1] = b;
    po_bits_insert(&s->set, rank);
}

/* Memory for sweeps over up to n rows, made once for the many small sweeps of the recursion. */
struct work {
    struct po_rec *rec; /* 2n */
    uint32_t *rank;
    double (*v)[2];
    uint64_t *words;
};

static void work_fini(struct work *w)
{
    free(w->rec);
    free(w->rank);
    free(w->v);
    free(w->words);
}

static st_t work_init(struct work *w, size_t n)
{
    w->rec = malloc((2 * n + 2) * sizeof *w->rec);
    w->rank = malloc((n + 1) * sizeof *w->rank);
    w->v = malloc((n + 1) * sizeof *w->v);
    w->words = malloc(po_bits_words(n) * sizeof *w->words);
    if (w->rec && w->rank && w->v && w->words) return ST_OK;
    work_fini(w);
    return ST_ENOMEM;
}

/* z rows are `stride` doubles apart, below ref in every column. m = 2 or 3: up the last objective over a staircase of the others
 * (Beume et al. 2009; for m = 2 the staircase has one value). O(n log n). */
static double sweep(struct work *w, const double *z, size_t n, size_t stride, int m, const double *ref)
{
    struct po_rec *order = w->rec;
    double volume = 0.0;
    if (m == 2) {
        double least = ref[0];
        for (size_t i = 0; i < n; i++) order[i] = (struct po_rec){po_key(z[i * stride + 1]), (uint32_t)i};
        po_sort(order, order + n, n);
        for (size_t i = 0; i < n; i++) {
            const double *p = z + order[i].at * stride;
            if (p[0] >= least) continue;
            volume += (least - p[0]) * (ref[1] - p[1]);
            least = p[0];
        }
        return volume;
    }
    struct stair s = {.v = w->v, .r0 = ref[0], .r1 = ref[1]};
    po_bits_init(&s.set, w->words, n);
    po_dense(z, stride, n, w->rank, order, order + n);
    for (size_t i = 0; i < n; i++) order[i].key = po_key(z[order[i].at * stride + 2]);
    po_sort(order, order + n, n);
    for (size_t i = 0; i < n; i++) {
        const double *p = z + order[i].at * stride;
        stair_add(&s, w->rank[order[i].at], p[0], p[1]);
        double next = i + 1 < n ? z[order[i + 1].at * stride + 2] : ref[2];
        volume += s.area * (next - p[2]);
    }
    return volume;
}

static int below(const double *a, const double *b, int m)
{
    for (int j = 0; j < m; j++)
        if (a[j] > b[j]) return 0;
    return 1;
}

static double product(const double *p, const double *ref, int m)
{
    double v = 1.0;
    for (int j = 0; j < m; j++) v *= ref[j] - p[j];
    return v;
}

/* The rows of z pushed into the box of p (max of the two, column by column), less those that another covers: what they cover of
 * what p covers. Rows of m doubles into out [n]; returns how many. */
static size_t limit_to(const double *z, size_t n, size_t stride, int m, const double *p, double *out)
{
    size_t k = 0;
    for (size_t i = 0; i < n; i++) {
        double q[16];
        for (int j = 0; j < m; j++) q[j] = z[i * stride + (size_t)j] > p[j] ? z[i * stride + (size_t)j] : p[j];
        size_t a = 0, keep = 0;
        while (a < k && !below(out + a * (size_t)m, q, m)) a++;
        if (a < k) {
            /* Whoever covered one row is likely to cover the next: to the front with it. */
            for (int j = 0; j < m && a > 0; j++) {
                double t = out[j];
                out[j] = out[a * (size_t)m + (size_t)j];
                out[a * (size_t)m + (size_t)j] = t;
            }
            continue;
        }
        for (a = 0; a < k; a++) {
            if (below(q, out + a * (size_t)m, m)) continue;
            if (keep < a) memcpy(out + keep * (size_t)m, out + a * (size_t)m, (size_t)m * sizeof *out);
            keep++;
        }
        memcpy(out + keep * (size_t)m, q, (size_t)m * sizeof *out);
        k = keep + 1;
    }
    return k;
}

/* WFG (While, Bradstreet and Barone 2012): up the last objective, each row adds what it alone covers of the others, times the
 * way to the reference. The recursion ends in sweeps of three objectives. rows with stride doubles; scratch: order and limit sets
 * are taken from the heap level by level. NaN when memory is out. */
static double wfg(struct work *w, const double *z, size_t n, size_t stride, int m, const double *ref)
{
    if (n == 0) return 0.0;
    if (n == 1) return product(z, ref, m);
    if (m <= 3) return sweep(w, z, n, stride, m, ref);
    size_t sub = (size_t)m - 1;
    struct po_rec *order = malloc(2 * n * sizeof *order);
    double *sorted = malloc(n * (size_t)m * sizeof *sorted), *limited = malloc(n * sub * sizeof *limited), volume = NAN;
    if (order && sorted && limited) {
        volume = 0.0;
        for (size_t i = 0; i < n; i++) order[i] = (struct po_rec){po_key(z[i * stride + sub]), (uint32_t)i};
        po_sort(order, order + n, n);
        for (size_t i = 0; i < n; i++)
            memcpy(sorted + i * (size_t)m, z + order[i].at * stride, (size_t)m * sizeof *sorted);
        for (size_t i = 0; i < n; i++) {
            const double *p = sorted + i * (size_t)m;
            size_t k = limit_to(sorted, i, (size_t)m, (int)sub, p, limited);
            /* Nothing is left where one row covers all of p. */
            if (k == 1 && below(limited, p, (int)sub)) continue;
            volume += (product(p, ref, (int)sub) - wfg(w, limited, k, sub, (int)sub, ref)) * (ref[sub] - p[sub]);
        }
    }
    free(order);
    free(sorted);
    free(limited);
    return volume;
}

/* Infinite as soon as one side of a box is. */
static int unbounded(const double *z, size_t n, int m, const double *ref)
{
    int any = 0;
    for (int j = 0; j < m; j++) any |= ref[j] == INFINITY;
    for (size_t i = 0; i < n * (size_t)m; i++) any |= z[i] == -INFINITY;
    return any && n > 0;
}

/* Leaves the first front of z [n, m] in z; where a sweep does not drop the others on its way, each costs a recursion. -1 when
 * memory is out. */
static long keep_front(double *z, size_t n, int m)
{
    uint8_t *in = malloc(n + 1);
    long members = in ? base_pareto_front(z, (long)n, m, in) : -1;
    size_t k = 0;
    for (size_t i = 0; i < n && members >= 0; i++)
        if (in[i]) memmove(z + k++ * (size_t)m, z + i * (size_t)m, (size_t)m * sizeof *z);
    free(in);
    return members;
}

double base_pareto_hypervolume(const double *y, long n, int m, const double *ref)
{
    if (n <= 0) return 0.0;
    if (n >= UINT32_MAX) return NAN;
    double *z = malloc((size_t)n * (size_t)m * sizeof *z), volume = NAN;
    if (!z) return NAN;
    size_t kept = po_filter(y, (size_t)n, m, ref, z, NULL);
    struct work w;
    if (unbounded(z, kept, m, ref)) {
        volume = INFINITY;
    } else if (m == 1) {
        volume = 0.0;
        for (size_t i = 0; i < kept; i++)
            if (ref[0] - z[i] > volume) volume = ref[0] - z[i];
    } else {
        long members = m >= 4 ? keep_front(z, kept, m) : (long)kept;
        if (members >= 0 && !work_init(&w, (size_t)members)) {
            volume = wfg(&w, z, (size_t)members, (size_t)m, m, ref);
            work_fini(&w);
        }
    }
    free(z);
    return volume;
}

/* The front so far, for the series. */
struct series {
    struct work w;
    size_t cap; /* rows that w can hold */
    double *z, *limited;
    size_t n, room;
};

static st_t series_grow(struct series *s, int m)
{
    if (s->n < s->room) return ST_OK;
    size_t room = s->room ? 2 * s->room : 64;
    double *z = realloc(s->z, room * (size_t)m * sizeof *z);
    if (z) s->z = z;
    double *limited = z ? realloc(s->limited, room * (size_t)m * sizeof *limited) : NULL;
    if (limited) s->limited = limited;
    struct work w;
    if (!limited || work_init(&w, room)) return ST_ENOMEM;
    if (s->room) work_fini(&s->w);
    s->w = w;
    s->room = room;
    return ST_OK;
}

/* What p covers and the front does not; -1 if the front covers p. The front loses what p covers and gains p. */
static double series_add(struct series *s, const double *p, int m, const double *ref)
{
    for (size_t i = 0; i < s->n; i++) {
        double *q = s->z + i * (size_t)m;
        if (!below(q, p, m)) continue;
        for (int j = 0; j < m && i > 0; j++) { /* to the front, as in limit_to */
            double t = s->z[j];
            s->z[j] = q[j];
            q[j] = t;
        }
        return -1.0;
    }
    size_t k = limit_to(s->z, s->n, (size_t)m, m, p, s->limited), keep = 0;
    double gain = product(p, ref, m) - wfg(&s->w, s->limited, k, (size_t)m, m, ref);
    for (size_t i = 0; i < s->n; i++) {
        const double *q = s->z + i * (size_t)m;
        if (below(p, q, m)) continue;
        if (keep < i) memcpy(s->z + keep * (size_t)m, q, (size_t)m * sizeof *q);
        keep++;
    }
    memcpy(s->z + keep * (size_t)m, p, (size_t)m * sizeof *p);
    s->n = keep + 1;
    return gain > 0 ? gain : 0.0;
}

/* m = 2 keeps a staircase: O(n log n) whatever the rows. */
static st_t progress_2(const double *y, size_t n, const double *ref, double *out)
{
    struct work w;
    if (work_init(&w, n)) return ST_ENOMEM;
    struct stair s = {.v = w.v, .r0 = ref[0], .r1 = ref[1]};
    po_bits_init(&s.set, w.words, n);
    po_dense(y, 2, n, w.rank, w.rec, w.rec + n);
    for (size_t i = 0; i < n; i++) {
        const double *p = y + 2 * i;
        if (p[0] < ref[0] && p[1] < ref[1]) {
            if (unbounded(p, 1, 2, ref)) s.area = INFINITY;
            else stair_add(&s, w.rank[i], p[0], p[1]);
        }
        out[i] = s.area;
    }
    work_fini(&w);
    return ST_OK;
}

st_t base_pareto_hv_progress(const double *y, long n, int m, const double *ref, double *out)
{
    if (n <= 0) return ST_OK;
    if (n >= UINT32_MAX) return ST_ENOMEM;
    if (m == 2) return progress_2(y, (size_t)n, ref, out);
    struct series s = {.n = 0};
    double volume = 0.0;
    st_t st = ST_OK;
    for (long i = 0; i < n && !st; i++) {
        const double *p = y + (size_t)i * (size_t)m;
        int in = 1;
        for (int j = 0; j < m; j++) in &= p[j] < ref[j];
        if (in && volume < INFINITY) {
            if (unbounded(p, 1, m, ref)) {
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
    if (s.room) work_fini(&s.w);
    free(s.z);
    free(s.limited);
    return st;
}
