/* What a proposal costs: bench_propose STRATEGY [rungs] [N...]: in "lm-small" with N results in the archive (10000 and 100000). Losses follow the depth, with a little noise; with rungs every ninth
 * trial has a result on a second one, where depth is worth more.
 * Reports come PAUSE_MS apart, as no evaluator is faster: fits in the background have that time. */
#include "base/clock.h"
#include "tests/controller/toy.h"

#define PROPOSALS 300
#define PAUSE_MS 30

static struct base_rng luck;

static json_t *score(json_t *arch)
{
    double layers = (double)json_array_size(json_object_get(arch, "layers"));
    return json_pack("{s:f,s:f}", "valid_bpb", 1.2 + 0.1 * base_rng_unit(&luck) + 1 / layers, "decode_ms@1024", 0.1 * layers * (1 + base_rng_unit(&luck)));
}

/* The newest trial, if it is a ninth one and there are rungs, is reported on the second as well. */
static void promote(struct toy *t)
{
    long row = t->n - 1;
    if (t->job->rungs == 1 || row % 9) return;
    double low = archive_value(t->archive, archive_metric(t->archive, "valid_bpb"), row, 0), ms = archive_value(t->archive, archive_metric(t->archive, "decode_ms@1024"), row, 0);
    toy_fold(t, "promoted", json_pack("{s:I,s:i}", "trial", (json_int_t)t->n, "rung", 1));
    toy_fold(t, "reported",
             json_pack("{s:I,s:I,s:i,s:s,s:i,s:{s:f},s:f}", "trial", (json_int_t)t->n, "lease", (json_int_t)t->n, "epoch", 1, "status", "ok", "device", 1, "metrics", "valid_bpb", low - 0.1 * ms, "busy_s", 1.0));
}

static void bench(const char *strategy, bool rungs, long n)
{
    struct toy t;
    struct proposal x;
    luck = base_rng_at(1, RNG_TEST, 0);
    char text[512];
    snprintf(text, sizeof text,
             "{\"seed\":1,\"data\":{\"train\":\"/dev/null\"},\"space\":\"lm-small\",\"objectives\":[\"valid_bpb\",\"decode_ms@1024\",\"weight_bytes\"],"
             "\"constraints\":[{\"metric\":\"params\",\"max\":5e6}],\"search\":{\"strategy\":\"nsga2\"},"
             "\"fidelity\":{\"tokens\":1e6,\"rungs\":%d}}", 1 + rungs);
    toy_open(&t, text, score);
    for (long i = 0; i < n && !toy_step(&t, NULL); i++) promote(&t);
    proposer_free(t.proposer);
    snprintf(t.job->strategy, sizeof t.job->strategy, "%s", strategy);
    if (proposer_new(&t.proposer, t.job, t.archive, NULL)) return;
    uint64_t start = base_clock_ns();
    if (toy_next(&t, &x)) return;
    proposal_fini(&x);
    printf("%ld results: absorbed in %.1f ms", n, (double)(base_clock_ns() - start) / 1e6);
    double sum = 0, most = 0;
    long thrown = 0, models = 0;
    char by[16] = "";
    for (int i = 0; i < PROPOSALS; i++) {
        start = base_clock_ns();
        if (toy_next(&t, &x)) return;
        double us = (double)(base_clock_ns() - start) / 1e3;
        sum += us;
        most = us > most ? us : most;
        models += !strcmp(x.origin.op, "model");
        if (x.origin.by) snprintf(by, sizeof by, ", %s", x.origin.by);
        thrown += x.known + x.infeasible;
        toy_propose(&t, &x);
        toy_report(&t, t.n, x.candidate.canonical);
        promote(&t);
        proposal_fini(&x);
        usleep(PAUSE_MS * 1000);
    }
    printf(", then a proposal %.0f us (most %.0f us, %.1f draws; %ld of %d by models%s)\n", sum / PROPOSALS, most, 1 + (double)thrown / PROPOSALS, models, PROPOSALS, by);
    toy_close(&t);
}

int main(int argc, char **argv)
{
    const char *strategy = argc > 1 ? argv[1] : "auto";
    if (!strategy_find(strategy)) return 2;
    bool rungs = argc > 2 && !strcmp(argv[2], "rungs");
    for (int i = 2 + rungs; i < argc; i++) bench(strategy, rungs, atol(argv[i]));
    if (argc < 3 + rungs) {
        bench(strategy, rungs, 10000);
        bench(strategy, rungs, 100000);
    }
    return 0;
}
