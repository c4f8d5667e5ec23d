#include "base/pareto.h"

#include <math.h>
#include <stdlib.h>

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
