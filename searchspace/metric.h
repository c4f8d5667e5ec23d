/* Metrics by name, and expressions over them. */
#ifndef TAUT_SEARCHSPACE_METRIC_H
#define TAUT_SEARCHSPACE_METRIC_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "searchspace/arch.h"

enum metric_goal { METRIC_MIN, METRIC_MAX };
enum metric_source { METRIC_PAPER, METRIC_TRAIN, METRIC_PROFILE, METRIC_ENERGY, METRIC_PROXY, METRIC_CUSTOM };

#define METRIC_NAME_MAX 64
struct metric {
    char name[METRIC_NAME_MAX];     /* as written, "decode_ms@1024": the key everywhere */
    int def;                        /* index into metrics.def; -1: a custom space's own */
    enum metric_goal goal;          /* the usual one; a job may turn it */
    enum metric_source source;
    const char *unit;
    int64_t batch, context;         /* of @BxL; 0 where the form has none (batch 1 for @L) */
};

/* "decode_ms@1024". Errors name the nearest known metric. custom: any [A-Za-z_][A-Za-z0-9_.@-]* is accepted. */
st_t space_metric_parse(struct metric *out, const char *name, bool custom, const char *where, struct base_err *err);

/* The metric of a proxy: "snip" gives proxy.snip. Errors name the nearest known proxy. */
st_t space_proxy_parse(struct metric *out, const char *name, const char *where, struct base_err *err);
int space_proxies(struct metric *out, int max); /* all there are, as far as there is room; how many */
/* No training changes it: it is measured on a search's lowest rung alone, and holds on. */
bool space_metric_once(const struct metric *m);
/* Value of a PAPER metric of an lm arch whose weights are kept as w for decoding. */
double space_metric_paper(const struct metric *m, const struct arch *a, enum arch_weights w);

/* Filters: comparisons of a metric (or number) with a number (or metric), and/or/not, parentheses:
 *   "decode_ms@1024 <= 2 and (params < 5e6 or not weight_bytes > 1e6)"
 * Operators < <= > >= = == != ; a metric that a trial lacks makes its comparison false (also under !=).
 * ST_EPARSE with the column. custom as above. */
struct where;
st_t space_where_parse(struct where **out, const char *text, bool custom, struct base_err *err);
void space_where_free(struct where *w);
int space_where_metrics(const struct where *w);                 /* distinct metric names in it … */
const char *space_where_metric(const struct where *w, int i);   /* … borrowed */
/* value[i] belongs to space_where_metric(w, i); NaN: missing. */
bool space_where_eval(const struct where *w, const double *value);

#endif
