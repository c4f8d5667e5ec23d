/* Candidates that are scored before they are trained: is a combination of proxies, learned from what training found, worth being chosen by, and which candidate does it choose?
 *
 *   if (filter_due(job, archive)) { struct filter f; st = filter_fit(&f, job, archive); … f.on … filter_fini(&f); }
 *   long row = filter_choose(&f, archive, rows, n);
 *
 *   sample       the results that the audit holds shortcuts against (audit.h): of one rung all, else what was drawn and trained to the top; the newest AUDIT_SAMPLE.
 *   combination  ridge regression (ridge.h) of the target's rank on the proxies' ranks, each a share of the sample, less a half; what a proxy does not say is 0. Of proxies that a
 *                verdict does not rely on none but proxy.params, which the others are measured by.
 *   on           from FILTER_LEAST results on, with two proxies at least: while the rank correlation of its leave-one-out predictions with the results, within the better half of the results,
 *                is above 0 and above that of the best single proxy there, relied on or not. Looked at when the number of results is a multiple of its own eighth.
 *   choice       while on, each FILTER_GROUP candidates that are scored make a group, in the order of their proposals: the one of the least predicted rank is trained, the others are passed
 *                over. Of every fourth group it is the first one whatever was predicted, so that the combination is also held against what it would not have chosen. While off, each
 *                scored candidate that is left is trained; so are, when the space is used up, those that were passed over, the best predicted first.
 *
 * Functions of their arguments and nothing else. */
#ifndef TAUT_CONTROLLER_FILTER_H
#define TAUT_CONTROLLER_FILTER_H

#include "db/archive.h"

enum { FILTER_LEAST = 24, FILTER_GROUP = 4, FILTER_BLIND = 4 };

struct filter {
    bool on;
    long n;                     /* results */
    double combined, single;    /* held-out rank correlation within the better half; of the best single proxy; NaN: undefined */
    char best[METRIC_NAME_MAX]; /* that proxy; "": none */
    int proxies;                /* in the combination */
    struct filter_proxy {
        char name[METRIC_NAME_MAX];
        int column;             /* of the archive */
        double weight;          /* on its rank; below 0: more of it predicts a better result */
        double *sorted;         /* [count] its values in the sample; owned */
        long count;
    } proxy[JOB_PROXIES_MAX];
};

/* Has the job proxies that could be combined? */
bool filter_possible(const struct job *job);
bool filter_due(const struct job *job, const struct archive *a);
/* ST_ENOMEM: nothing is held. */
st_t filter_fit(struct filter *out, const struct job *job, const struct archive *a);
void filter_fini(struct filter *f);
/* Predicted rank of a row, as a share, less a half; the less the better. */
double filter_predict(const struct filter *f, const struct archive *a, long row);
/* Which of rows [n] is to be trained: its place; of equals the first. */
long filter_choose(const struct filter *f, const struct archive *a, const long *rows, long n);

#endif
