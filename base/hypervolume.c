/* Hypervolume of a set, and the pieces that hypervolume_progress.c is made of too. */
#include <stdlib.h>

#include "base/pareto.h"
#include "base/pareto_impl.h"

/* Every rectangle gained is added on its own, so nothing cancels. */
void po_stair_add(struct po_stair *s, uint32_t rank, double a, double b)
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

void po_work_fini(struct po_work *w)
{
    free(w->rec);
    free(w->rank);
    free(w->v);
    free(w->words);
}

st_t po_work_init(struct po_work *w, size_t n)
{
    w->rec = malloc((2 * n + 2) * sizeof *w->rec);
    w->rank = malloc((n + 1) * sizeof *w->rank);
    w->v = malloc((n + 1) * sizeof *w->v);
    w->words = malloc(po_bits_words(n) * sizeof *w->words);
    if (w->rec && w->rank && w->v && w->words) return ST_OK;
    po_work_fini(w);
    return ST_ENOMEM;
}

/* z rows are `stride` doubles apart, below ref in every column. m = 2 or 3: up the last objective over a staircase of the others
 * (Beume et al. 2009; for m = 2 the staircase has one value). O(n log n). */
static double sweep(struct po_work *w, const double *z, size_t n, size_t stride, int m, const double *ref)
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
    struct po_stair s = {.v = w->v, .r0 = ref[0], .r1 = ref[1]};
    po_bits_init(&s.set, w->words, n);
    po_dense(z, stride, n, w->rank, order, order + n);
    for (size_t i = 0; i < n; i++) order[i].key = po_key(z[order[i].at * stride + 2]);
    po_sort(order, order + n, n);
    for (size_t i = 0; i < n; i++) {
        const double *p = z + order[i].at * stride;
        po_stair_add(&s, w->rank[order[i].at], p[0], p[1]);
        double next = i + 1 < n ? z[order[i + 1].at * stride + 2] : ref[2];
        volume += s.area * (next - p[2]);
    }
    return volume;
}

int po_covers(const double *a, const double *b, int m)
{
    for (int j = 0; j < m; j++)
        if (a[j] > b[j]) return 0;
    return 1;
}

double po_box(const double *p, const double *ref, int m)
{
    double v = 1.0;
    for (int j = 0; j < m; j++) v *= ref[j] - p[j];
    return v;
}

size_t po_limit(const double *z, size_t n, size_t stride, int m, const double *p, double *out)
{
    size_t k = 0;
    for (size_t i = 0; i < n; i++) {
        double q[16];
        for (int j = 0; j < m; j++) q[j] = z[i * stride + (size_t)j] > p[j] ? z[i * stride + (size_t)j] : p[j];
        size_t a = 0, keep = 0;
        while (a < k && !po_covers(out + a * (size_t)m, q, m)) a++;
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
            if (po_covers(q, out + a * (size_t)m, m)) continue;
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
double po_hv(struct po_work *w, const double *z, size_t n, size_t stride, int m, const double *ref)
{
    if (n == 0) return 0.0;
    if (n == 1) return po_box(z, ref, m);
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
            size_t k = po_limit(sorted, i, (size_t)m, (int)sub, p, limited);
            /* Nothing is left where one row covers all of p. */
            if (k == 1 && po_covers(limited, p, (int)sub)) continue;
            volume += (po_box(p, ref, (int)sub) - po_hv(w, limited, k, sub, (int)sub, ref)) * (ref[sub] - p[sub]);
        }
    }
    free(order);
    free(sorted);
    free(limited);
    return volume;
}

int po_unbounded(const double *z, size_t n, int m, const double *ref)
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
    struct po_work w;
    if (po_unbounded(z, kept, m, ref)) {
        volume = INFINITY;
    } else if (m == 1) {
        volume = 0.0;
        for (size_t i = 0; i < kept; i++)
            if (ref[0] - z[i] > volume) volume = ref[0] - z[i];
    } else {
        long members = m >= 4 ? keep_front(z, kept, m) : (long)kept;
        if (members >= 0 && !po_work_init(&w, (size_t)members)) {
            volume = po_hv(&w, z, (size_t)members, (size_t)m, m, ref);
            po_work_fini(&w);
        }
    }
    free(z);
    return volume;
}
