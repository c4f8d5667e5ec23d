/* Proxies of an architecture on batches of the job's text (proxies/proxy.h).
 *
 * The windows are the same for every architecture of the same context, whatever the seed, which is that of the first weights: those that
 * data_batch draws for seed 0 in steps 0 .. PROXY_BATCHES - 1, cut to proxy_length. */
#ifndef TAUT_EVALUATOR_SCORE_H
#define TAUT_EVALUATOR_SCORE_H

#include "evaluator/data.h"
#include "proxies/proxy.h"
#include "searchspace/metric.h"

/* Of the metrics m [n], those of proxies; out[i] of metric i (the others: ST_EINVAL, NaN). d is not looked at where all are known on paper (may be
 * NULL then). What proxy_run answers, what is wrong with the text (data.h), ST_ENOFIT. Nothing is held afterwards. */
st_t score_run(const struct arch *a, struct data *d, struct kn_dev *dev, uint64_t seed, const struct metric *m, int n, struct proxy_result *out,
               struct base_err *err);
/* Index of the metric's proxy; -1: it is not one's. */
int score_proxy(const struct metric *m);

#endif
