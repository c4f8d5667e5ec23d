/* Standard problems: published fronts in closed form, values of pymoo 0.6.2, the layerwise optimum by dynamic programming, and jobs that name a problem. */
#include <stdlib.h>

#include "base/json.h"
#include "base/rng.h"
#include "searchspace/job.h"
#include "searchspace/problem.h"
#include "tests/searchspace/text.h"
#include "tests/tap.h"

static struct base_rng luck;

/* On the fronts that the papers give (g at its least), and never better than them. */
static void test_front(void)
{
    static const char *const names[] = {"zdt1", "zdt2", "zdt3", "zdt4", "zdt6", "dtlz1", "dtlz2", "dtlz7"};
    for (size_t k = 0; k < sizeof names / sizeof *names; k++) {
        const struct problem *p = problem_find(names[k]);
        double worst = 0, x[PROBLEM_GENES_MAX], y[PROBLEM_METRICS_MAX];
        bool half = !strcmp(p->name, "dtlz1") || !strcmp(p->name, "dtlz2");
        for (int t = 0; t < 200; t++) {
            for (int i = 0; i < p->genes; i++) x[i] = i < p->objectives - 1 ? base_rng_unit(&luck) : half ? 0.5 : 0;
            problem_values(p, x, y);
            double want = k == 0 || k == 3 ? 1 - sqrt(y[0])
                        : k == 1 || k == 4 ? 1 - y[0] * y[0]
                        : k == 2 ? 1 - sqrt(y[0]) - y[0] * sin(10 * M_PI * y[0])
                        : k == 5 ? 0.5 - y[0] - y[1]
                        : k == 6 ? sqrt(1 - y[0] * y[0] - y[1] * y[1])
                        : 2 * (3 - (y[0] * (1 + sin(3 * M_PI * y[0])) + y[1] * (1 + sin(3 * M_PI * y[1]))) / 2);
            worst = tap_worse(worst, fabs(y[p->objectives - 1] - want));
        }
        ok(worst < 1e-7, "%s: on its front, off by %.1e", p->name, worst);
    }
}

/* pymoo 0.6.2 (zdt4: its numbers scaled to its own ranges) at x_i = (i + 1) / (n + 1). */
static void test_values(void)
{
    static const struct {
        const char *name;
        double y[3];
    } want[] = {
        {"zdt1", {0.032258064516129031, 5.2184272078928071}},
        {"zdt2", {0.032258064516129031, 5.6449769585253451}},
        {"zdt3", {0.032258064516129031, 5.1910515866832991}},
        {"zdt4", {0.090909090909090912, 152.82731532320651}},
        {"zdt6", {0.3462437129709236, 8.720772917091546}},
        {"dtlz1", {8.1943359375000036, 24.583007812500011, 229.44140625000011}},
        {"dtlz2", {1.4914204675706424, 0.36760212972896467, 0.18651089873826615}},
        {"dtlz7", {0.043478260869565216, 0.086956521739130432, 20.462605520939022}},
    };
    for (size_t k = 0; k < sizeof want / sizeof *want; k++) {
        const struct problem *p = problem_find(want[k].name);
        double x[PROBLEM_GENES_MAX], y[PROBLEM_METRICS_MAX], worst = 0;
        int i = 0;
        for (const struct problem_knob *knob = p->knob; knob->name; knob++)
            for (int j = 0; j < (knob->repeat ? knob->repeat : 1); j++, i++) x[i] = knob->low + (knob->high - knob->low) * (i + 1) / (p->genes + 1);
        problem_values(p, x, y);
        for (int j = 0; j < p->objectives; j++) worst = tap_worse(worst, fabs(y[j] / want[k].y[j] - 1));
        ok(worst < 1e-12, "%s: pymoo's values, off by %.1e", p->name, worst);
    }
}

static void best_of(const struct problem *p, double *x)
{
    for (int i = 0; i < p->genes; i++) x[i] = (double)(strchr("0123456789abcdef", p->best[i]) - "0123456789abcdef");
}

/* Multiple-choice knapsack over whole memories, exactly: cost of every block read off the problem itself. */
static void test_layerwise(void)
{
    const struct problem *p = problem_find("layerwise");
    double x[PROBLEM_GENES_MAX] = {0}, base[2], y[2], loss[80][16];
    int memory[80][16], bound = (int)p->bound;
    double *best = calloc((size_t)bound + 1, sizeof *best), *next = calloc((size_t)bound + 1, sizeof *next);
    bool whole = true;
    problem_values(p, x, base);
    double rest = base[0], none = base[1];
    for (int i = 0; i < 80; i++) {
        /* The other layers' share, which all blocks of this one have alike, is taken out at the end. */
        for (int k = 0; k < 16; k++) {
            x[i] = k;
            problem_values(p, x, y);
            loss[i][k] = y[0] - rest;
            memory[i][k] = (int)(y[1] - none);
            whole = whole && y[1] == floor(y[1]) && memory[i][k] >= 0;
        }
        x[i] = 0;
    }
    ok(whole, "memories are whole numbers, the first block's the least");
    int room = bound - (int)none;
    for (int i = 0; i < 80; i++) {
        for (int b = 0; b <= room; b++) {
            next[b] = INFINITY;
            for (int k = 0; k < 16; k++)
                if (memory[i][k] <= b) next[b] = fmin(next[b], best[b - memory[i][k]] + loss[i][k]);
        }
        double *t = best;
        best = next;
        next = t;
    }
    best_of(p, x);
    problem_values(p, x, y);
    ok(y[1] <= p->bound && fabs(y[0] - (rest + best[room])) < 1e-9, "layerwise: the kept optimum %.6f is that of dynamic programming", y[0]);
    free(best);
    free(next);
}

/* No change of a layer, and of two layers at once, is better than the best known. */
static void test_pairs(void)
{
    const struct problem *p = problem_find("layerwise_pairs");
    double x[PROBLEM_GENES_MAX], y[2], best;
    bool beaten = false;
    best_of(p, x);
    problem_values(p, x, y);
    best = y[0];
    ok(y[1] <= p->bound, "layerwise_pairs: the best known holds the bound (%.0f of %.0f)", y[1], p->bound);
    for (long t = 0; t < 50000 && !beaten; t++) {
        double z[PROBLEM_GENES_MAX];
        memcpy(z, x, sizeof z);
        for (int k = 0; k < 2; k++) z[base_rng_below(&luck, 80)] = base_rng_below(&luck, 16);
        problem_values(p, z, y);
        beaten = y[1] <= p->bound && y[0] < best - 1e-9;
    }
    ok(!beaten, "… and 50,000 changes of two layers do not beat it (%.6f)", best);
    /* Pairs: what two layers' changes do together is not what they do one by one. */
    double y0[2], ya[2], yb[2], yab[2];
    problem_values(p, x, y0);
    x[3] = 15 - x[3];
    problem_values(p, x, ya);
    x[4] = 15 - x[4];
    problem_values(p, x, yab);
    x[3] = 15 - x[3];
    problem_values(p, x, yb);
    ok(fabs(yab[0] - ya[0] - yb[0] + y0[0]) > 1e-6, "neighbours interact");
}

static void test_job(void)
{
    struct base_err err = BASE_ERR_INIT;
    struct job *j = NULL;
    struct candidate c;
    struct genome g = {0};
    double x[PROBLEM_GENES_MAX];
    for (const char *const *name = problem_names(); *name; name++) {
        char text[128];
        snprintf(text, sizeof text, "{\"evaluator\":{\"problem\":\"%s\"}}", *name);
        const struct problem *p = problem_find(*name);
        st_t st = job_parse(&j, text, strlen(text), "job", &err);
        ok(!st && j->problem == p && j->nobjectives == p->objectives && j->nconstraints == p->metrics - p->objectives &&
               space_genes(j->space) == p->genes, "%s: space, objectives and constraints of its own%s%s", *name, st ? ": " : "", st ? err.what : "");
        if (st) continue;
        json_t *v = NULL;
        struct base_rng r = base_rng_at(1, RNG_TEST, 0);
        st = space_genome_init(j->space, &g);
        if (!st) st = space_sample(j->space, &r, &g);
        if (!st) st = space_candidate(j->space, &g, &c, &err);
        if (!st) st = base_json_parse(&v, c.canonical, strlen(c.canonical), "c", &err);
        if (!st) st = problem_read(p, v, x, &err);
        ok(!st && !memcmp(x, g.g, (size_t)p->genes * sizeof *x), "%s: a candidate's numbers are its genes, in their order", *name);
        const char *knob = p->knob[0].name;
        json_t *list = json_object_get(v, knob);
        if (json_is_array(list)) json_array_set_new(list, 0, json_real(p->knob[0].high + 0.5));
        else json_object_set_new(v, knob, json_real(p->knob[0].high + 0.5));
        ok(problem_read(p, v, x, &err) == ST_EINVAL && !strcmp(err.where, knob), "… out of range: %s: %s", err.where, err.what);
        json_object_del(v, knob);
        ok(problem_read(p, v, x, &err) == ST_EINVAL, "… missing: %s: %s", err.where, err.what);
        json_decref(v);
        space_candidate_fini(&c);
        space_genome_fini(&g);
        job_free(j);
    }
    static const struct {
        const char *text, *where, *what;
    } bad[] = {
        {"{'evaluator':{'problem':'zdt5'}}", "evaluator.problem", "unknown problem 'zdt5'; did you mean 'zdt1'?"},
        {"{'evaluator':{}}", "evaluator.problem", "missing"},
        {"{'evaluator':{'problem':3}}", "evaluator.problem", "must be a string, not a number"},
        {"{'evaluator':{'problem':'zdt1','n':3}}", "evaluator", "unknown key 'n'"},
        {"{'evaluator':{'problem':'zdt1'},'space':'lm-small'}", "space", "the problem 'zdt1' brings its own; leave it out"},
        {"{'evaluator':{'problem':'zdt1'},'data':{'train':'x'}}", "data", "the problem 'zdt1' is a formula and reads none; leave it out"},
        {"{'evaluator':{'problem':'zdt1'},'objectives':['f3']}", "objectives[0].metric", "the problem 'zdt1' has no metric 'f3'; it has f1, f2"},
        {"{'evaluator':{'problem':'dtlz2'},'constraints':[{'metric':'g','max':1}]}", "constraints[0].metric",
         "the problem 'dtlz2' has no metric 'g'; it has f1, f2, f3"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        const char *text = quoted(bad[i].text);
        st_t st = job_parse(&j, text, strlen(text), "job", &err);
        ok(st == ST_EINVAL && !strcmp(err.where, bad[i].where) && !strcmp(err.what, bad[i].what), "%s: %s: %s", bad[i].text, err.where, err.what);
        if (!st) job_free(j);
    }
    const char *some = quoted("{'evaluator':{'problem':'layerwise'},'objectives':['loss','memory'],'constraints':[]}");
    ok(!job_parse(&j, some, strlen(some), "job", &err) && j->nobjectives == 2 && !j->nconstraints, "a job may choose its own objectives among a problem's metrics");
    job_free(j);
}

int main(void)
{
    luck = base_rng_at(7, RNG_TEST, 0);
    test_front();
    test_values();
    test_layerwise();
    test_pairs();
    test_job();
    return tap_done();
}
