/* What a lease asks for (wire.md, evaluator.next), read and checked, and where its files lie in the work folder. */
#ifndef TAUT_EVALUATOR_TRIAL_H
#define TAUT_EVALUATOR_TRIAL_H

#include <jansson.h>

#include "base/err.h"
#include "kernels/device.h"
#include "searchspace/arch.h"
#include "searchspace/job.h"
#include "searchspace/metric.h"

#define TRIAL_METRICS_MAX 64

enum trial_kind { TRIAL_TRAIN, TRIAL_VALIDATE, TRIAL_SCORE, TRIAL_SUPERNET, TRIAL_PROFILE };

struct trial {
    enum trial_kind kind;      /* trained; with inherited weights, and nothing else; its proxies, and nothing else; no candidate, but what they inherit from; timed, and nothing else */
    int64_t id, job;           /* id 0: of a supernet */
    struct arch arch;          /* a supernet has none */
    int vocab, context;
    struct job_train train;
    enum arch_weights decode; /* how weights are kept for what is profiled */
    double tokens;
    int rungs, rung;           /* as in trainer_opts */
    double rung_tokens[JOB_RUNGS_MAX];
    uint64_t seed;
    enum kn_dtype precision;   /* of products in training */
    int nmetrics;
    struct metric metric[TRIAL_METRICS_MAX];
    json_t *data;              /* borrowed from the lease */
    const char *checkpoint, *hash; /* borrowed; NULL: none was reported */
    double reached;            /* tokens of it */
    json_t *space;             /* of the supernet; borrowed; NULL: nothing is inherited */
    double super_tokens, adapt_tokens; /* of its training; of a candidate's own, on from what it inherits */
    const char *super_file, *super_hash; /* of the trained one, where tautd has it from somebody; borrowed; NULL: it has not */
    char super_path[512], init[512]; /* its checkpoint here; what a training begins with */
    char super_own[512];       /* that of one trained here because the reported one cannot be taken, which may lie at super_path */
    char path[512];            /* where its checkpoint goes */
    char stable[512];          /* … and that of the trunk, where a rung leaves it */
};

/* fastest: what "precision": "auto" is here. out borrows from lease. On an error it says what is wrong, or not served, and where. */
st_t trial_read(struct trial *out, json_t *lease, const char *work, enum kn_dtype fastest, struct base_err *err);

#endif
