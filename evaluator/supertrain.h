/* Training a supernet, and what candidates inherit from it.
 *
 *   struct supertrain *t;
 *   st = supertrain_new(&t, &(struct supertrain_opts){.space = s, .data = d, .dev = dev, .train = recipe, .tokens = 16e6, .paths = 2, .seed = 1}, &err);
 *   while ((st = supertrain_step(t, &err)) == ST_OK && !supertrain_done(t)) …
 *   st = supertrain_candidate(t, &arch, true, &model, &err);     // an ordinary model that begins with what it inherits
 *   for (i = 0; i < n && !st; i++) st = supertrain_adapt(t, model, i, n, &err);
 *   st = supertrain_validate(t, model, &loss, &bpb, &err);
 *
 * A step is the sandwich rule (Yu et al. 2020, BigNAS, arXiv:2003.11142): the space's largest path, its smallest, and `paths` drawn ones (space_path: dealt
 * from decks; every second one the largest of SUPERTRAIN_DEALS, in parameters, for what a search looks for is larger than most of a space) on the same batch, against its labels, the others also against the largest by `mix`. The recipe is trainer.h's, its steps S = ceil(tokens / (batch * context)) of 2 + paths passes each; hidden
 * matrices at lr * JOB_MUP_BASE / (the space's greatest width) under "mup". Batches are those of trainer.h for the same seed. */
#ifndef TAUT_EVALUATOR_SUPERTRAIN_H
#define TAUT_EVALUATOR_SUPERTRAIN_H

#include "evaluator/data.h"
#include "model/supernet.h"
#include "searchspace/job.h"

#define SUPERTRAIN_PATHS 4
#define SUPERTRAIN_DEALS 4
#define SUPERTRAIN_DEALS_STREAM 0x6465616c7300 /* added to the seed: their decks are their own */
#define SUPERTRAIN_MIX 0.5

struct supertrain;
struct supertrain_opts {
    const struct space *space; /* borrowed */
    struct data *data;         /* borrowed */
    struct kn_dev *dev;        /* borrowed */
    struct job_train train;
    double tokens;
    int paths;                 /* 0 .. SUPERNET_PATHS_MAX - 2 */
    double mix;                /* supernet_opts' */
    uint64_t seed;
    enum kn_dtype precision;
    uint64_t memory_limit;     /* 0: the device's */
};

st_t supertrain_new(struct supertrain **out, const struct supertrain_opts *o, struct base_err *err); /* ST_ENOFIT, ST_ENOTSUP, … */
void supertrain_free(struct supertrain *t); /* NULL allowed */
/* ST_ENONFINITE: err says at which step. ST_ESTATE: it is done. */
st_t supertrain_step(struct supertrain *t, struct base_err *err);
/* Path i of a step: 0 the largest, 1 the smallest, then the drawn ones. Pure. */
st_t supertrain_path(const struct supertrain *t, uint64_t step, int i, struct arch *out, struct base_err *err);
bool supertrain_done(const struct supertrain *t);
int64_t supertrain_steps(const struct supertrain *t); /* S */
int64_t supertrain_at(const struct supertrain *t);
double supertrain_loss(const struct supertrain *t, int path); /* of the last step: 0 the largest, 1 the smallest, then the drawn ones */
struct supernet *supertrain_net(struct supertrain *t);

/* The caller frees it. adapts: it can be trained on. The supernet's own weights are not changed by anything that is done with it. */
st_t supertrain_candidate(struct supertrain *t, const struct arch *a, bool adapts, struct model **out, struct base_err *err);
/* The same to be saved and no more: weights, and no room for a pass. */
st_t supertrain_weights(struct supertrain *t, const struct arch *a, struct model **out, struct base_err *err);
/* Is there room for a candidate as large as the first step's largest path that adapts? Beside the supernet it takes more than that path does in the step: to be asked before a training that would
 * be in vain. ST_ENOFIT. */
st_t supertrain_room(struct supertrain *t, struct base_err *err);
/* Step i of n on from inherited weights: the recipe's lr falling from all of it to 1/n in a line, no warm-up, hidden matrices by the candidate's own width; batches of a
 * stream of their own, the same for each candidate. What layers of a rare order have not learned in the supernet they learn here: without it the order of candidates goes by
 * how often their kind was dealt (bench/SPEED.md). ST_ENONFINITE. */
st_t supertrain_adapt(struct supertrain *t, struct model *m, int64_t i, int64_t n, struct base_err *err);
/* Over trainer_validate's windows. bpb: NaN where tokens are not bytes. */
st_t supertrain_validate(struct supertrain *t, struct model *m, double *nats_per_token, double *bits_per_byte, struct base_err *err);

/* A checkpoint of all that a training is, and its identity (space's tensors, seed, tokens, recipe, data, device). load refuses another's (ST_ESTALE) or a damaged
 * one, and t is then to be freed. */
st_t supertrain_save(struct supertrain *t, const char *path, char sha256[BASE_SHA256_HEX], uint64_t *bytes, struct base_err *err);
st_t supertrain_load(struct supertrain *t, const char *path, struct base_err *err);
/* The same of a finished training that the caller knows to be this one's by its content's hash, on whatever device it was. */
st_t supertrain_take(struct supertrain *t, const char *path, struct base_err *err);

#endif
