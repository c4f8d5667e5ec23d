/* A strategy on a standard problem, without server or clock (bench/search.py compares):
 *   bench_search PROBLEM STRATEGY SEED EVALUATIONS [POPULATION]   the metrics of every evaluation, a line each, in the order of the proposals; after a '#' the
 *                                                                 microseconds that a proposal took (mean, most)
 *   bench_search PROBLEM evaluate                                 a line of the genes' values in, a line of metrics out, for programs that search themselves
 *   bench_search PROBLEM about                                    JSON: genes, metrics, bound, reference point, best value known */
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

static int evaluate(void)
{
    double x[PROBLEM_GENES_MAX], y[PROBLEM_METRICS_MAX];
    for (;;) {
        for (int i = 0; i < problem->genes; i++)
            if (scanf("%lf", &x[i]) != 1) return 0;
        problem_values(problem, x, y);
        for (int i = 0; i < problem->metrics; i++) printf("%s%.17g", i ? " " : "", y[i]);
        putchar('\n');
        fflush(stdout);
    }
}

static int about(void)
{
    json_t *low = json_array(), *high = json_array(), *ref = json_array(), *best = json_null();
    double x[PROBLEM_GENES_MAX], y[PROBLEM_METRICS_MAX];
    bool choice = problem->knob[0].choice;
    for (const struct problem_knob *k = problem->knob; k->name; k++) {
        for (int i = 0; i < (k->repeat ? k->repeat : 1); i++) {
            json_array_append_new(low, json_real(k->low));
            json_array_append_new(high, json_real(k->high));
        }
    }
    for (int i = 0; i < problem->objectives; i++) json_array_append_new(ref, json_real(problem->ref[i]));
    if (problem->best) {
        for (int i = 0; i < problem->genes; i++) x[i] = strtol((char[]){problem->best[i], 0}, NULL, 16);
        problem_values(problem, x, y);
        best = json_real(y[0]);
    }
    json_t *v = json_pack("{s:o,s:o,s:b,s:i,s:i,s:f,s:o,s:o}", "low", low, "high", high, "choice", choice, "objectives", problem->objectives, "metrics",
                          problem->metrics, "bound", problem->bound, "ref", ref, "best", best);
    int bad = json_dumpf(v, stdout, JSON_REAL_PRECISION(17));
    putchar('\n');
    json_decref(v);
    return bad ? 1 : 0;
}

int main(int argc, char **argv)
{
    struct toy t;
    struct proposal x;
    char job[512];
    problem = argc > 2 ? problem_find(argv[1]) : NULL;
    if (problem && !strcmp(argv[2], "evaluate")) return evaluate();
    if (problem && !strcmp(argv[2], "about")) return about();
    if (argc < 5 || !problem) {
        fprintf(stderr, "usage: bench_search PROBLEM STRATEGY SEED EVALUATIONS [POPULATION], or PROBLEM evaluate, or PROBLEM about; problems:");
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
