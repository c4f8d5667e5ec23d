/* What a proposal costs: bench_propose [N...]: NSGA-II in "lm-small" with N results in the archive (10000 and 100000). */
#include "base/clock.h"
#include "tests/controller/toy.h"

#define PROPOSALS 1000

static struct base_rng luck;

static json_t *score(json_t *arch)
{
    double layers = (double)json_array_size(json_object_get(arch, "layers"));
    return json_pack("{s:f,s:f}", "valid_bpb", 1.2 + base_rng_unit(&luck) + 1 / layers, "decode_ms@1024", 0.1 * layers * (1 + base_rng_unit(&luck)));
}

static void bench(long n)
{
    struct toy t;
    struct proposal x;
    luck = base_rng_at(1, RNG_TEST, 0);
    toy_open(&t,
             "{\"seed\":1,\"data\":{\"train\":\"/dev/null\"},\"space\":\"lm-small\",\"objectives\":[\"valid_bpb\",\"decode_ms@1024\",\"weight_bytes\"],"
             "\"constraints\":[{\"metric\":\"params\",\"max\":5e6}]}",
             score);
    for (long i = 0; i < n; i++)
        if (toy_step(&t, NULL)) break;
    proposer_free(t.proposer);
    if (proposer_new(&t.proposer, t.job, t.archive, NULL)) return;
    uint64_t start = base_clock_ns();
    if (toy_next(&t, &x)) return;
    proposal_fini(&x);
    printf("%ld results: absorbed in %.1f ms", n, (double)(base_clock_ns() - start) / 1e6);
    double sum = 0, most = 0;
    long thrown = 0;
    for (int i = 0; i < PROPOSALS; i++) {
        start = base_clock_ns();
        if (toy_next(&t, &x)) return;
        double us = (double)(base_clock_ns() - start) / 1e3;
        sum += us;
        most = us > most ? us : most;
        thrown += x.known + x.infeasible;
        toy_propose(&t, &x);
        toy_report(&t, t.n, x.candidate.canonical);
        proposal_fini(&x);
    }
    printf(", then a proposal %.0f us (most %.0f us, %.1f draws)\n", sum / PROPOSALS, most, 1 + (double)thrown / PROPOSALS);
    toy_close(&t);
}

int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) bench(atol(argv[i]));
    if (argc == 1) {
        bench(10000);
        bench(100000);
    }
    return 0;
}
