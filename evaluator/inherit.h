/* The supernet of a job, as an evaluator holds it from lease to lease: trained by whoever needs it first, in the work folder, and gone on with after a kill. */
#ifndef TAUT_EVALUATOR_INHERIT_H
#define TAUT_EVALUATOR_INHERIT_H

#include "evaluator/hostlock.h"
#include "evaluator/supertrain.h"

struct inherit { /* zeroed: none is held */
    char key[BASE_ID_HEX]; /* of all that it comes of */
    struct space *space;
    struct data *data;
    struct supertrain *train; /* done, once inherit_ready was ST_OK */
};

struct inherit_opts {
    int64_t job;
    const char *path;    /* its checkpoint */
    json_t *space, *data; /* of the lease; borrowed */
    int vocab, context;
    struct kn_dev *dev;
    struct job_train train;
    double tokens;
    uint64_t seed;
    enum kn_dtype precision;
    struct hostlock *lock; /* held for a step at a time */
    double checkpoint_s;
    bool (*go)(void *ctx); /* asked between steps; false: stop */
    void *ctx;
};

/* Makes h the trained supernet of that job, from its file as far as that goes. A file that cannot be written is said once and no fault: the training is then
 * made again where it is needed. ST_ECANCELED: stopped, with a checkpoint written. On an error h holds none. */
st_t inherit_ready(struct inherit *h, const struct inherit_opts *o, struct base_err *err);
void inherit_drop(struct inherit *h);

#endif
