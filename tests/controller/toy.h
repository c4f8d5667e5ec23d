/* A search without server or clock: a job, its archive, and a proposer whose candidates are scored by a formula. */
#ifndef TAUT_TESTS_TOY_H
#define TAUT_TESTS_TOY_H

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "controller/proposer.h"

struct toy {
    char dir[64];
    struct db *db;
    struct job *job;
    struct archive *archive;
    struct proposer *proposer;
    long n; /* proposals so far */
    /* metrics object of a candidate, or NULL: it fails */
    json_t *(*score)(json_t *arch);
};

static void toy_fail(const char *what, const struct base_err *err)
{
    printf("Bail out! %s: %s: %s\n", what, err->where, err->what);
    exit(1);
}

static void toy_open(struct toy *t, const char *text, json_t *(*score)(json_t *arch))
{
    struct base_err err = BASE_ERR_INIT;
    *t = (struct toy){.score = score};
    snprintf(t->dir, sizeof t->dir, "/tmp/taut-toy-XXXXXX");
    if (!mkdtemp(t->dir) || db_open(&t->db, t->dir, DB_CREATE, &err)) toy_fail(t->dir, &err);
    if (job_parse(&t->job, text, strlen(text), "job", &err)) toy_fail("job", &err);
    if (archive_load(&t->archive, t->db, 1, t->job, &err)) toy_fail("archive", &err);
    if (proposer_new(&t->proposer, t->job, t->archive, &err)) toy_fail("proposer", &err);
}

static void toy_close(struct toy *t)
{
    char cmd[128];
    proposer_free(t->proposer);
    archive_free(t->archive);
    job_free(t->job);
    db_close(t->db);
    snprintf(cmd, sizeof cmd, "rm -rf %s", t->dir);
    if (system(cmd)) puts("# not removed");
}

static void toy_fold(struct toy *t, const char *type, json_t *body)
{
    if (!body || archive_fold(t->archive, type, body)) toy_fail(type, &(struct base_err){.what = "fold"});
    json_decref(body);
}

/* Records a proposal as leased. */
static void toy_propose(struct toy *t, const struct proposal *x)
{
    json_t *genes = json_array(), *parents = json_array(), *paper = json_object();
    struct arch_cost cost;
    if (x->candidate.type == SPACE_LM) {
        space_arch_cost(&x->candidate.arch, &cost);
        json_object_set_new(paper, "params", json_real(cost.params));
        json_object_set_new(paper, "weight_bytes", json_real(cost.weight_bytes));
    }
    for (int i = 0; i < x->genome.n; i++) json_array_append_new(genes, json_real(x->genome.g[i]));
    for (int i = 0; i < x->origin.nparents; i++) json_array_append_new(parents, json_integer(x->origin.parent[i]));
    toy_fold(t, "proposed",
             json_pack("{s:I,s:I,s:s,s:s,s:o,s:{s:s,s:o},s:i,s:o}", "trial", (json_int_t)t->n + 1, "proposal", (json_int_t)t->n, "arch_id",
                       x->candidate.id, "arch", x->candidate.canonical, "genome", genes, "origin", "op", x->origin.op, "parents", parents, "seed", 1,
                       "paper", paper));
    toy_fold(t, "leased", json_pack("{s:I,s:I,s:i,s:i,s:s,s:i,s:i}", "trial", (json_int_t)t->n + 1, "lease", (json_int_t)t->n + 1, "epoch", 1,
                                    "evaluator", 1, "task", "train", "device", 1, "expires", 1));
    t->n++;
}

static void toy_report(struct toy *t, int64_t trial, const char *canonical)
{
    json_t *arch = json_loads(canonical, 0, NULL), *metrics = t->score(arch);
    json_decref(arch);
    toy_fold(t, "reported",
             json_pack("{s:I,s:I,s:i,s:s,s:i,s:o,s:f}", "trial", (json_int_t)trial, "lease", (json_int_t)trial, "epoch", 1, "status",
                       metrics ? "ok" : "failed", "device", 1, "metrics", metrics ? metrics : json_object(), "busy_s", 1.0));
}

/* proposer_next, going on while it enumerates. */
static st_t toy_next(struct toy *t, struct proposal *x)
{
    st_t st;
    do st = proposer_next(t->proposer, (uint64_t)t->n, x);
    while (st == ST_EBUSY);
    return st;
}

/* Proposes, scores, reports once. id: of the candidate, may be NULL. */
__attribute__((unused)) static st_t toy_step(struct toy *t, char id[BASE_ID_HEX])
{
    struct proposal x;
    st_t st = toy_next(t, &x);
    if (st) return st;
    if (id) memcpy(id, x.candidate.id, BASE_ID_HEX);
    toy_propose(t, &x);
    toy_report(t, t->n, x.candidate.canonical);
    proposal_fini(&x);
    return ST_OK;
}

__attribute__((unused)) static double toy_hv(const struct toy *t, const double *ref)
{
    long n = archive_reported(t->archive);
    double *hv = malloc(((size_t)n + 1) * sizeof *hv);
    if (!hv || archive_progress(t->archive, t->job, ref, hv)) toy_fail("progress", &(struct base_err){.what = "?"});
    double last = n ? hv[n - 1] : 0;
    free(hv);
    return last;
}

__attribute__((unused)) static double toy_num(json_t *arch, const char *key)
{
    return json_number_value(json_object_get(arch, key));
}

#endif
