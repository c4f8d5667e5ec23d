/* A strategy on a standard problem, without server or clock: bench_search PROBLEM STRATEGY SEED EVALUATIONS [POPULATION]: the metrics of every evaluation, a
 * line each, in the order of the proposals; after a '#' the microseconds that a proposal took (mean, most). bench/search.py compares. */
#include "base/clock.h"
#include "base/json.h"
#include "tests/controller/toy.h"

static const struct problem *problem;

static json_t *score(json_t *candidate)
{
    double x[PROBLEM_GENES_MAX], y[PROBLEM_METRICS_MAX];
    if (problem_read(problem, candidate, x, NULL)) return NULL;
    problem_values(problem, x, y);
    for (int i = 0; i < problem->metrics; i++) printf("%s%.17g", i ? " " : "", y[i]);
    putchar('\n');
    return problem_metrics(problem, y);
}

int main(int argc, char **argv)
{
    struct toy t;
    struct proposal x;
    char job[512];
    if (argc < 5 || !(problem = problem_find(argv[1]))) {
        fprintf(stderr, "usage: bench_search PROBLEM STRATEGY SEED EVALUATIONS [POPULATION]; problems:");
        for (const char *const *n = problem_names(); *n; n++) fprintf(stderr, " %s", *n);
        fputc('\n', stderr);
        return 2;
    }
    long evaluations = atol(argv[4]), i;
    double sum = 0, most = 0;
    snprintf(job, sizeof job, "{\"seed\":%s,\"evaluator\":{\"problem\":\"%s\"},\"search\":{\"strategy\":\"%s\",\"population\":%s}}", argv[3], argv[1], argv[2],
             argc > 5 ? argv[5] : "48");
    toy_open(&t, job, score);
    for (i = 0; i < evaluations; i++) {
        uint64_t start = base_clock_ns();
        if (toy_next(&t, &x)) break;
        double us = (double)(base_clock_ns() - start) / 1e3;
        sum += us;
        most = us > most ? us : most;
        toy_propose(&t, &x);
        toy_report(&t, t.n, x.candidate.canonical);
        proposal_fini(&x);
    }
    printf("# %ld proposals, %.1f us each, at most %.1f us\n", i, i ? sum / (double)i : 0, most);
    toy_close(&t);
    return i == evaluations ? 0 : 1;
}
