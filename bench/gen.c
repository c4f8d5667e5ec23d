#include "bench/gen.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define CURVE_POINTS 20

static const char JOB[] =
    "{\"name\":\"synthetic\",\"seed\":7,\"data\":{\"train\":\"/data/"
    "corpus.txt\",\"context\":256},\"space\":\"lm-tiny\","
    "\"objectives\":[\"valid_bpb\",\"decode_ms@256\",\"weight_bytes\"],\"fidelity\":{\"tokens\":2000000},"
    "\"budget\":{\"evaluations\":1000000}}";

st_t gen_append(struct gen *g, const char *type, json_t *body, struct base_err *err)
{
    return db_event_append(g->db, g->id, type, body, g->at_ms++, NULL, err);
}

/* Consumes body. */
static st_t append_new(struct gen *g, int64_t job, const char *type, json_t *body, struct base_err *err)
{
    st_t st = body ? db_event_append(g->db, job, type, body, g->at_ms++, NULL, err) : ST_ENOMEM;
    json_decref(body);
    return st;
}

st_t gen_init(struct gen *g, struct db *db, struct base_err *err)
{
    *g = (struct gen){.db = db, .at_ms = 1760000000000};
    st_t st = job_parse(&g->job, JOB, strlen(JOB), "job", err);
    if (!st) st = space_genome_init(g->job->space, &g->genome);
    if (!st) st = db_begin(db);
    if (st) return st;
    g->id = db_next_id(db, DB_JOB);
    g->device = db_next_id(db, DB_DEVICE);
    g->evaluator = 1;
    st = append_new(g, 0, "device",
                    json_pack("{s:I,s:s,s:{s:s,s:i}}", "id", (json_int_t)g->device, "kind", "cpu", "body", "isa",
                              "avx512", "threads", 2),
                    err);
    if (!st)
        st = append_new(g, 0, "evaluator",
                        json_pack("{s:I,s:s,s:I}", "evaluator", (json_int_t)g->evaluator, "name", "synthetic", "device",
                                  (json_int_t)g->device),
                        err);
    if (!st)
        st = append_new(g, g->id, "submitted",
                        json_pack("{s:s,s:i,s:o,s:s}", "name", "synthetic", "seed", 7, "job", json_loads(JOB, 0, NULL),
                                  "identity", "00000000000000000000000000000000"),
                        err);
    if (!st) st = append_new(g, g->id, "target", json_pack("{s:I}", "device", (json_int_t)g->device), err);
    return st ? st : db_commit(db);
}

void gen_fini(struct gen *g)
{
    space_genome_fini(&g->genome);
    job_free(g->job);
}

static json_t *measured(double median, double spread, int n)
{
    return json_pack("{s:f,s:f,s:f,s:i}", "median", median, "low", median * (1 - spread), "high", median * (1 + spread),
                     "n", n);
}

/* Larger networks learn more and decode slower; how much more is luck. */
static json_t *report(struct gen *g, int64_t trial, const struct arch_cost *cost, struct base_rng *r)
{
    double luck = base_rng_unit(r), noise = base_rng_unit(r), p = cost->params;
    double bpb = 1.2 + 6.0 * pow(p, -0.12) + 0.15 * luck, ms = 0.02 + p * 4e-8 * (0.8 + 0.6 * noise);
    bool failed = base_rng_unit(r) < 0.01;
    json_t *metrics = json_object(), *curve = json_array();
    if (!failed) {
        json_object_set_new(metrics, "valid_bpb", json_real(bpb));
        json_object_set_new(metrics, "valid_loss", json_real(bpb * 0.6931471805599453));
        json_object_set_new(metrics, "decode_ms@256", measured(ms, 0.02 + 0.03 * noise, 30));
        json_object_set_new(metrics, "prefill_ms@256", measured(ms * 21.7, 0.01 + 0.02 * noise, 12));
        json_object_set_new(metrics, "infer_bytes@256", json_real(4 * p + 1e6));
        json_object_set_new(metrics, "train_bytes", json_real(16 * p + 2e7));
        json_object_set_new(metrics, "train_tokens_per_s", json_real(3e10 / (p + 1e5)));
    }
    for (int i = 1; i <= CURVE_POINTS; i++) {
        json_t *point = json_array();
        json_array_append_new(point, json_integer(i * 100000));
        json_array_append_new(point, json_real(bpb * 0.7 + 3.5 * exp(-i / 4.0) + 0.01 * base_rng_unit(r)));
        json_array_append_new(curve, point);
    }
    json_t *body =
        json_pack("{s:I,s:I,s:i,s:s,s:I,s:o,s:o,s:f,s:f}", "trial", (json_int_t)trial, "lease", (json_int_t)trial,
                  "epoch", 1, "status", failed ? "failed" : "ok", "device", (json_int_t)g->device, "metrics", metrics,
                  "curve", curve, "busy_s", 4 + p * 1e-5 * (0.9 + 0.2 * noise), "joules", 300 + p * 1e-3);
    if (failed) json_object_set_new(body, "error", json_string("the loss became not a number at step 117"));
    return body;
}

st_t gen_trial(struct gen *g, struct gen_trial *t)
{
    struct base_rng r = base_rng_at(g->job->seed, RNG_TEST, (uint64_t)g->proposals);
    struct candidate c;
    st_t st = space_sample(g->job->space, &r, &g->genome);
    if (!st) st = space_candidate(g->job->space, &g->genome, &c, NULL);
    if (st) return st;
    int64_t trial = db_next_id(g->db, DB_TRIAL);
    struct arch_cost cost;
    space_arch_cost(&c.arch, &cost);
    json_t *genome = json_array(), *parents = json_array();
    for (int i = 0; i < g->genome.n; i++) {
        double v = g->genome.g[i];
        json_array_append_new(genome, v == floor(v) ? json_integer((json_int_t)v) : json_real(v));
    }
    for (int i = 0; i < 2 && trial > 50; i++)
        json_array_append_new(parents, json_integer(trial - 1 - base_rng_below(&r, 48)));
    t->proposed =
        json_pack("{s:I,s:I,s:s,s:s,s:o,s:{s:s,s:o},s:i,s:{s:f,s:f,s:f,s:f,s:f}}", "trial", (json_int_t)trial,
                  "proposal", (json_int_t)g->proposals++, "arch_id", c.id, "arch", c.canonical, "genome", genome,
                  "origin", "op", trial > 50 ? "crossover" : "sample", "parents", parents, "seed", 7, "paper", "params",
                  cost.params, "active_params", cost.active_params, "flops_per_token", cost.flops_per_token,
                  "weight_bytes", cost.weight_bytes, "state_bytes@256", space_arch_state_bytes(&c.arch, 256));
    t->leased = json_pack("{s:I,s:I,s:i,s:I,s:s,s:I,s:I}", "trial", (json_int_t)trial, "lease", (json_int_t)trial,
                          "epoch", 1, "evaluator", (json_int_t)g->evaluator, "task", "train", "device",
                          (json_int_t)g->device, "expires", (json_int_t)g->at_ms + 60000);
    t->reported = report(g, trial, &cost, &r);
    space_candidate_fini(&c);
    if (t->proposed && t->leased && t->reported) return ST_OK;
    gen_trial_fini(t);
    return ST_ENOMEM;
}

void gen_trial_fini(struct gen_trial *t)
{
    json_decref(t->proposed);
    json_decref(t->leased);
    json_decref(t->reported);
}
