/* The job file: parse, validate, canonical form. job.md is the contract.
 *
 *   struct job *j;
 *   st = job_parse(&j, text, len, "job.json", &err);      // err.where = "objectives[1].metric"
 *   job_free(j);
 *
 * A parsed job is complete: every default is filled in. Paths are as written; job_paths_absolute makes them absolute against a folder. */
#ifndef TAUT_SEARCHSPACE_JOB_H
#define TAUT_SEARCHSPACE_JOB_H

#include <jansson.h>

#include "searchspace/metric.h"
#include "searchspace/problem.h"
#include "searchspace/space.h"

#define JOB_OBJECTIVES_MAX 8
#define JOB_CONSTRAINTS_MAX 16
#define JOB_PROXIES_MAX 16
#define JOB_NAME_MAX 128
#define JOB_RUNGS_MAX 32
#define JOB_SUPERNET 3  /* search.supernet, unless the job says otherwise */
#define JOB_ADAPT 0.05 /* search.adapt */
#define JOB_FINAL_SHARE 0.25 /* of the hours, from where on the front's members are trained alone */

struct job_objective {
    struct metric metric;
    enum metric_goal goal;
};

struct job_constraint {
    struct metric metric;
    double min, max; /* -inf / +inf where not given */
};

struct job_train {
    int batch;            /* sequences a step; 16 */
    double lr;            /* 3e-3 */
    bool mup;             /* lr_width_rule: "mup" (hidden matrices' lr times JOB_MUP_BASE / width) or "none" */
    double weight_decay;  /* 0.1, on every parameter, as torch.optim.AdamW */
    double warmup;        /* share of the steps; 0.02 */
    double decay;         /* share of the steps; fixed 0.2 for "wsd" (linear to 0), 0 for "constant" */
    double beta1, beta2, eps, clip; /* 0.9, 0.95, 1e-8, 1.0; fixed by the recipe */
};
#define JOB_MUP_BASE 128

struct job_data {
    char *train;          /* owned; path, glob or folder as given; NULL: none (custom) */
    double valid_share;   /* 0.05; 0 when valid is a file */
    char *valid;          /* owned; NULL: a share */
    int vocab;            /* 256 for bytes; N for {"vocab": N} */
    bool bytes;           /* tokenizer "bytes" */
    int context;          /* 256 */
};

/* A job without "budget" ends after JOB_EVALUATIONS; with one, what it does not name is unbounded. */
#define JOB_EVALUATIONS 200
struct job_budget {
    double evaluations, hours, joules; /* +inf: no bound */
};

struct job {
    char name[JOB_NAME_MAX];     /* default: "job" */
    uint64_t seed;               /* 1 */
    struct job_data data;
    json_t *data_json;           /* owned; as given; custom: handed through untouched; NULL if absent */
    struct space *space;         /* owned */
    json_t *space_json;          /* owned; as given; a problem's own */
    char target[64];             /* "first" */
    int nobjectives, nconstraints;
    struct job_objective objective[JOB_OBJECTIVES_MAX];
    struct job_constraint constraint[JOB_CONSTRAINTS_MAX];
    int nproxies;
    struct metric proxy[JOB_PROXIES_MAX]; /* "proxies": reported of every trial, whatever is minimised; "auto": all there are */
    struct job_train train;
    double tokens;               /* of the top rung; 2e6 */
    int rungs;                   /* 1 */
    double eta;                  /* 3: of each rung's trials one in so many is promoted to the next, which has so many times its tokens */
    double audit;                /* 0.1: share of the trials that are trained to the top rung to check shortcuts by; 0: none */
    char strategy[16];           /* "auto", "aging", "nsga2", "random", "surrogate" */
    int population;              /* 48 */
    double supernet, adapt;      /* search.supernet, .adapt: tokens of the supernet, and of a candidate on from what it inherits, in those of one trained alone */
    bool shared;                 /* search.weights "shared": rung 0 is validated with inherited weights, rung 1 trained alone (rungs is 2) */
    bool inherited;              /* final "inherited": on from those weights */
    bool external;               /* evaluator "external" */
    const struct problem *problem; /* evaluator {"problem": …}; NULL: none */
    char precision[8];           /* of training: "auto", "f32", "bf16" */
    enum arch_weights decode;    /* how weights are kept for what is profiled; "same": as in training, f32 */
    char decode_precision[8];    /* "same", "f32", "bf16", "int8" */
    struct job_budget budget;
};

st_t job_parse(struct job **out, const char *text, size_t len, const char *name, struct base_err *err);
st_t job_from_json(struct job **out, json_t *v, struct base_err *err);
void job_free(struct job *j);

/* In place on the JSON: data.train and data.valid relative to dir become absolute. */
st_t job_paths_absolute(json_t *v, const char *dir, struct base_err *err);
/* Are all of them absolute? tautd refuses others. ST_EINVAL names the key. */
st_t job_paths_check(const struct job *j, struct base_err *err);

/* Canonical text of the JSON with budget left out: two files with the same are the same search (`taut run` extends it when only the budget differs). */
st_t job_identity(json_t *v, char id[BASE_ID_HEX], struct base_err *err);

/* Metrics wanted of every trial: objectives, then constraints, then proxies, then what is always kept (valid_bpb or valid_loss, train_tokens_per_s, train_bytes,
 * params and so on for lm). names borrowed from j or static; returns how many (<= max). */
int job_wanted(const struct job *j, const char **names, int max);

/* Tokens of a rung, 0 the lowest: tokens / eta^(rungs - 1 - rung), to the nearest whole number. Of shared weights' rung 0 those of the supernet, once for all. */
double job_rung_tokens(const struct job *j, int rung);

/* Trials that the audit of a job with low rungs trains to the top rung, of so many: the share, rounded up, JOB_AUDIT_LEAST at least; 0 where there is no audit. */
#define JOB_AUDIT_LEAST 12
long job_audit_trials(const struct job *j, double evaluations);

/* Constraint violation of a candidate from metric values: 0 when all hold, else the sum of (excess / max(|bound|, tiny)).
 * value[i] belongs to constraint i; NaN where unknown: skipped. */
double job_violation(const struct job *j, const double *value);
/* Which of them a candidate breaks, in words: "params 78144 (at most 1000: 7710 % over), weight_bytes …" into buf, cut between characters where it does not fit; "" when all hold.
 * Returns buf. */
const char *job_violation_text(const struct job *j, const double *value, char *buf, int size);

/* ---- the files behind "data" (no content is read but for hashing) ---- */

struct job_file {
    char *path;        /* absolute; owned */
    uint64_t bytes;
    char sha256[BASE_SHA256_HEX];
};
struct job_files {
    int ntrain, nvalid;
    struct job_file *train, *valid; /* owned; sorted by path */
};
/* Resolves file, glob or folder (recursive, regular files, hidden ones and the folders of searches left out, symlinks followed, each folder once), sizes and hashes. Empty files
 * that a folder or glob brings along are left out; a file named itself that is empty, an empty result, unreadable files, mixed .bin and text, and
 * .bin without {"vocab": N} or text with it are errors that say which (where: "data.train" or "data.valid"). Costs a read of all data: call off the
 * loop's thread. */
st_t job_files_resolve(const struct job *j, struct job_files *out, struct base_err *err);
/* Which are they? The same errors, without reading what is in them: hashes are empty. A job without files is fine. */
st_t job_files_list(const struct job *j, struct job_files *out, struct base_err *err);
/* Is there a window of context + 1 tokens to train on and one to hold out? Shards are taken by their size alone: what their headers say is found out
 * when they are opened. ST_EINVAL (where: "data.train" or "data.valid"). */
st_t job_files_check(const struct job *j, const struct job_files *f, struct base_err *err);
void job_files_free(struct job_files *f);
/* {"train": [{"path","bytes","sha256"}], "valid": […], "valid_share", "tokenizer", "vocab", "context"}: what a lease carries. New reference. */
json_t *job_files_json(const struct job *j, const struct job_files *f);

#endif
