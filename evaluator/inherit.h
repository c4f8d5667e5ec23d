/* The supernet of a job, as an evaluator holds it from lease to lease. It is trained for a lease of its own ("supernet"), in the work folder, and gone on with after a kill; the others
 * take it from the file that came of that. Who cannot reach that file trains it once more. */
#ifndef TAUT_EVALUATOR_INHERIT_H
#define TAUT_EVALUATOR_INHERIT_H

#include "evaluator/hostlock.h"
#include "evaluator/supertrain.h"

struct inherit { /* zeroed: none is held */
    char key[BASE_ID_HEX]; /* of all that it comes of */
    struct space *space;
    struct data *data;
    struct supertrain *train; /* done, once inherit_ready was ST_OK */
    int64_t first;            /* the step that it was taken up at */
    bool written;             /* the last checkpoint, of where it is, is at opts.path */
};

struct inherit_opts {
    int64_t job;
    const char *path;    /* its checkpoint here; trained: not from, which is never written over */
    const char *from, *hash; /* the one that tautd names; NULL: none */
    double reached;      /* tokens of that, where it is one on the way … */
    bool trained;        /* … or it is of the trained supernet, whoever trained it */
    bool room;           /* a training that would leave no room for the largest candidate, trained on from it, is not begun */
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
    void (*saved)(void *ctx, const char *sha256, uint64_t bytes); /* a checkpoint was written; NULL: nobody is to know */
    void *ctx;
};

/* Makes h the trained supernet of that job, from its file as far as that goes. A file that cannot be written is said once and no fault: the training is then
 * made again where it is needed. ST_ECANCELED: stopped, with a checkpoint written. On an error h holds none. */
st_t inherit_ready(struct inherit *h, const struct inherit_opts *o, struct base_err *err);
void inherit_drop(struct inherit *h);
/* Its checkpoint as it is, to o->path. */
st_t inherit_save(struct inherit *h, const struct inherit_opts *o, char sha256[BASE_SHA256_HEX], uint64_t *bytes, struct base_err *err);

#endif
