/* Training one architecture: the recipe of job.md, step by step, resumable to the same bits.
 *
 *   struct trainer *t;
 *   st = trainer_new(&t, &(struct trainer_opts){.arch = a, .data = d, .dev = dev, .train = recipe, .tokens = 2e6, .seed = 1}, &err);
 *   while ((st = trainer_step(t, &err)) == ST_OK && !trainer_done(t)) …      // progress, checkpoints, pauses: the caller's
 *   st = trainer_validate(t, &loss, &bpb, &err);
 *
 * Recipe (per step s of S = ceil(tokens / (batch * context))): AdamW; lr(s) = lr * min(1, (s+1)/W) in the warm-up of W = max(1, round(warmup*S)) steps, lr in the stable part, then
 * linear to 0 over the last D = round(decay*S) steps: lr * (S - s) / (D + 1) … exactly trainer_lr(); gradient clipping at global norm `clip`;
 * hidden matrices at lr * JOB_MUP_BASE / width under "mup" (Yang et al. 2022, arXiv:2203.03466, table 8, Adam).
 *
 * A training may be a rung of a ladder (job.md, fidelity). Its rungs share a trunk: the warm-up of the top rung's W, then the stable rate. Rung r leaves it after
 * P = S_r - round(decay * S_r) steps and decays over the rest of its S_r; trainer_stable says P, and a checkpoint that is saved there is what the next rung goes on from. So
 * no weights see a token twice, what a rung leaves does not depend on the rungs before it, and the top rung's is that of a training without rungs. Each rung has its own
 * points of the curve (about 50 up to S_0, then as far apart as rung 1 asks for up to S_1, …).
 *
 * A loss or gradient that is not finite: ST_ENONFINITE, err says at which step. Curve: a point (tokens, mean training loss since the last point) at fixed token counts: about 50 points,
 * never at a time. */
#ifndef TAUT_EVALUATOR_TRAINER_H
#define TAUT_EVALUATOR_TRAINER_H

#include "evaluator/data.h"
#include "model/model.h"
#include "searchspace/job.h"

struct trainer;
struct trainer_opts {
    const struct arch *arch;      /* borrowed */
    struct data *data;            /* borrowed */
    struct kn_dev *dev;           /* borrowed */
    struct job_train train;
    double tokens;
    int rungs, rung;              /* of its ladder; rungs 0: it is in none. tokens: of the rung */
    double rung_tokens[JOB_RUNGS_MAX];
    uint64_t seed;
    bool sequential;
    enum kn_dtype precision;      /* of products: KN_F32, KN_BF16 */
    uint64_t memory_limit;        /* 0: the device's */
    const char *init;             /* safetensors; NULL: model_init(seed) */
};

struct trainer_point {
    double tokens, loss;
};

st_t trainer_new(struct trainer **out, const struct trainer_opts *o, struct base_err *err); /* ST_ENOFIT, … */
void trainer_free(struct trainer *t);
st_t trainer_step(struct trainer *t, struct base_err *err);
bool trainer_done(const struct trainer *t);
int64_t trainer_steps(const struct trainer *t);           /* S */
int64_t trainer_at(const struct trainer *t);              /* steps done */
int64_t trainer_stable(const struct trainer *t);          /* steps until it leaves the trunk; S where it is in no ladder or on the top rung */
double trainer_tokens(const struct trainer *t);           /* tokens done */
double trainer_loss(const struct trainer *t);             /* of the last step */
double trainer_seconds(const struct trainer *t);          /* time in steps: validation, checkpoints and pauses left out */
double trainer_rate(const struct trainer *t);             /* tokens/s in steps */
uint64_t trainer_bytes(const struct trainer *t);          /* most of the device's memory that this training has held, scratch included */
/* Energy so far; NaN: not known (then it stays so). The caller measures and adds; 0 in a new trainer. */
double trainer_joules(const struct trainer *t);
void trainer_joules_add(struct trainer *t, double joules);
double trainer_joules_rung(const struct trainer *t);      /* without what the trunk below its rung took */
const struct trainer_point *trainer_curve(const struct trainer *t, int *n);
struct model *trainer_model(struct trainer *t);
/* lr of step s (from 0) of S. */
double trainer_lr(const struct job_train *r, int64_t s, int64_t S);
/* The same on a rung of S steps where the top rung has so many. */
double trainer_lr_rung(const struct job_train *r, int64_t s, int64_t S, int64_t top);

st_t trainer_validate(struct trainer *t, double *nats_per_token, double *bits_per_byte, struct base_err *err);

/* A checkpoint is weights, optimiser, step, curve, what was spent (seconds, joules, bytes: of the whole training, whoever did its parts) and the identity of
 * what is trained (arch id, seed, tokens, recipe, data hashes; of a ladder the tokens of all rungs) and on what (instruction set, versions). A finished training needs no optimiser: its file is the weights, a third as large.
 * load takes up either, on any rung one of the trunk up to trainer_stable; another training's is refused (ST_ESTALE), so is a damaged one, and t is as before (but for a disk that fails in mid-read: ST_EIO). */
st_t trainer_save(struct trainer *t, const char *path, char sha256[BASE_SHA256_HEX], uint64_t *bytes, struct base_err *err);
st_t trainer_load(struct trainer *t, const char *path, struct base_err *err);

#endif
