/* Synthetic searches, through the real event path: a language-model job whose trials have plausible values. Shared by
 * gen_store and bench_db. */
#ifndef TAUT_BENCH_GEN_H
#define TAUT_BENCH_GEN_H

#include "base/rng.h"
#include "db/db.h"

struct gen {
    struct db *db;
    struct job *job;
    int64_t id, device, evaluator;
    struct genome genome;
    int64_t at_ms;
    long proposals;
};

struct gen_trial { /* bodies of its three events */
    json_t *proposed, *leased, *reported;
};

/* Makes a device, an evaluator and a running job, in a transaction of its own. */
st_t gen_init(struct gen *g, struct db *db, struct base_err *err);
void gen_fini(struct gen *g);
st_t gen_trial(struct gen *g, struct gen_trial *t); /* the next one; the same for every run */
void gen_trial_fini(struct gen_trial *t);
st_t gen_append(struct gen *g, const char *type, json_t *body, struct base_err *err);

#endif
