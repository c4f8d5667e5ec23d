#include "searchspace/problem.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/rng.h"

/* ---- ZDT: f1 from the first number, g from the rest, f2 = g h(f1, g) ---- */

static double sum(const double *x, int n)
{
    double s = 0;
    for (int i = 0; i < n; i++) s += x[i];
    return s;
}

static void zdt1(const double *x, double *y)
{
    double g = 1 + 9 * sum(x + 1, 29) / 29;
    y[0] = x[0];
    y[1] = g * (1 - sqrt(x[0] / g));
}

static void zdt2(const double *x, double *y)
{
    double g = 1 + 9 * sum(x + 1, 29) / 29, h = x[0] / g;
    y[0] = x[0];
    y[1] = g * (1 - h * h);
}

static void zdt3(const double *x, double *y)
{
    double g = 1 + 9 * sum(x + 1, 29) / 29, h = x[0] / g;
    y[0] = x[0];
    y[1] = g * (1 - sqrt(h) - h * sin(10 * M_PI * x[0]));
}

/* Its first number lies in 0..1, the others ("tail") in -5..5. */
static void zdt4(const double *x, double *y)
{
    double g = 1 + 10 * 9;
    for (int i = 1; i < 10; i++) g += x[i] * x[i] - 10 * cos(4 * M_PI * x[i]);
    y[0] = x[0];
    y[1] = g * (1 - sqrt(x[0] / g));
}

static void zdt6(const double *x, double *y)
{
    double g = 1 + 9 * pow(sum(x + 1, 9) / 9, 0.25);
    y[0] = 1 - exp(-4 * x[0]) * pow(sin(6 * M_PI * x[0]), 6);
    y[1] = g * (1 - y[0] / g * (y[0] / g));
}

/* ---- DTLZ, three objectives: position from the first two numbers, distance from the rest ---- */

static void dtlz1(const double *x, double *y)
{
    double g = 5;
    for (int i = 2; i < 7; i++) g += (x[i] - 0.5) * (x[i] - 0.5) - cos(20 * M_PI * (x[i] - 0.5));
    double r = 0.5 * (1 + 100 * g);
    y[0] = r * x[0] * x[1];
    y[1] = r * x[0] * (1 - x[1]);
    y[2] = r * (1 - x[0]);
}

static void dtlz2(const double *x, double *y)
{
    double g = 0, a = x[0] * M_PI / 2, b = x[1] * M_PI / 2;
    for (int i = 2; i < 12; i++) g += (x[i] - 0.5) * (x[i] - 0.5);
    y[0] = (1 + g) * cos(a) * cos(b);
    y[1] = (1 + g) * cos(a) * sin(b);
    y[2] = (1 + g) * sin(a);
}

static void dtlz7(const double *x, double *y)
{
    double g = 1 + 9 * sum(x + 2, 20) / 20, h = 3;
    for (int i = 0; i < 2; i++) h -= x[i] / (1 + g) * (1 + sin(3 * M_PI * x[i]));
    y[0] = x[0];
    y[1] = x[1];
    y[2] = (1 + g) * h;
}

/* ---- layers ---- */

enum { LAYERS = 80, BLOCKS = 16, FAR_PAIRS = 81, PAIRS = LAYERS - 1 + FAR_PAIRS };
enum { DRAW_LAYER, DRAW_BLOCK = 1000, DRAW_PAIR = 10000, DRAW_PAIRING = 20000 };
#define TABLE_SEED 80

static struct base_rng draw(uint64_t what)
{
    return base_rng_at(TABLE_SEED, RNG_PROBLEM, what);
}

/* A layer has a width (its memory a step of block size) and a weight, how much the loss minds it, that falls off with the block's size at a rate of
 * its own; every block is a little better or worse than its size says. */
static void block(int layer, int k, double *loss, double *memory)
{
    struct base_rng r = draw(DRAW_LAYER + (uint64_t)layer), b = draw(DRAW_BLOCK + (uint64_t)(layer * BLOCKS + k));
    double width = 1 + base_rng_below(&r, 8), weight = exp(2.5 * base_rng_unit(&r)), rate = 0.1 + 0.3 * base_rng_unit(&r);
    *memory = width * (k + 1);
    *loss = weight * exp(-rate * k) * (0.7 + 0.6 * base_rng_unit(&b));
}

static void layerwise(const double *x, double *y)
{
    y[0] = y[1] = 0;
    for (int i = 0; i < LAYERS; i++) {
        double loss, memory;
        block(i, (int)x[i], &loss, &memory);
        y[0] += loss;
        y[1] += memory;
    }
}

/* Pair p: neighbours first, then layers drawn at random. */
static void pair(int p, int *a, int *b)
{
    struct base_rng r = draw(DRAW_PAIR + (uint64_t)p);
    *a = p < LAYERS - 1 ? p : (int)base_rng_below(&r, LAYERS);
    *b = p < LAYERS - 1 ? p + 1 : (*a + 2 + (int)base_rng_below(&r, LAYERS - 3)) % LAYERS;
}

static void layerwise_pairs(const double *x, double *y)
{
    layerwise(x, y);
    for (int p = 0; p < PAIRS; p++) {
        int a, b;
        pair(p, &a, &b);
        struct base_rng r = draw(DRAW_PAIRING + (uint64_t)((p * BLOCKS + (int)x[a]) * BLOCKS + (int)x[b]));
        y[0] += base_rng_unit(&r);
    }
}

/* ---- the table ---- */

#define REALS(n) {{.name = "x", .low = 0, .high = 1, .repeat = n}}, .genes = n
#define BI .metrics = 2, .objectives = 2, .metric = {"f1", "f2"}
#define TRI .metrics = 3, .objectives = 3, .metric = {"f1", "f2", "f3"}
#define LAYERED {{.name = "block", .low = 0, .high = BLOCKS - 1, .choice = true, .repeat = LAYERS}}, .genes = LAYERS
#define BOUNDED .metrics = 2, .objectives = 1, .metric = {"loss", "memory"}

static const struct problem all[] = {
    {"zdt1", "convex front; 30 numbers, 2 objectives", REALS(30), BI, .ref = {1.1, 6.5}, .values = zdt1},
    {"zdt2", "concave front; 30 numbers, 2 objectives", REALS(30), BI, .ref = {1.1, 6.5}, .values = zdt2},
    {"zdt3", "front in five pieces; 30 numbers, 2 objectives", REALS(30), BI, .ref = {1.1, 6.5}, .values = zdt3},
    {"zdt4", "many local fronts; 10 numbers, 2 objectives", {{.name = "head", .low = 0, .high = 1}, {.name = "tail", .low = -5, .high = 5, .repeat = 9}},
     .genes = 10, BI, .ref = {1.1, 260}, .values = zdt4},
    {"zdt6", "concave front, thin and hard to come near; 10 numbers, 2 objectives", REALS(10), BI, .ref = {1.1, 10}, .values = zdt6},
    {"dtlz1", "many local fronts; 7 numbers, 3 objectives", REALS(7), TRI, .ref = {370, 370, 370}, .values = dtlz1},
    {"dtlz2", "a piece of a sphere; 12 numbers, 3 objectives", REALS(12), TRI, .ref = {2.4, 2.4, 2.4}, .values = dtlz2},
    {"dtlz7", "front in four pieces; 22 numbers, 3 objectives", REALS(22), TRI, .ref = {1.1, 1.1, 24}, .values = dtlz7},
    {"layerwise", "80 layers x 16 blocks, effects that add up, a bound on memory", LAYERED, BOUNDED, .bound = 3000, .ref = {130},
     .best = "697fcd378959664e877a859e7996745b73a6d5ab95a829bac37d6558d87798a46aab25b40b2b81a5", .values = layerwise},
    {"layerwise_pairs", "the same with effects between pairs of layers", LAYERED, BOUNDED, .bound = 3000, .ref = {215},
     .best = "d87feb3a8488519a59c584aa7d49385a9379a18bf54d2ab5c42d81aa6a549ba83c8a45aa1b0a35d5", .values = layerwise_pairs},
};
enum { N = sizeof all / sizeof *all };

const struct problem *problem_find(const char *name)
{
    for (int i = 0; i < N; i++)
        if (!strcmp(all[i].name, name)) return &all[i];
    return NULL;
}

const char *const *problem_names(void)
{
    static const char *names[N + 1];
    for (int i = 0; i < N; i++) names[i] = all[i].name;
    return names;
}

/* ---- as a job has it ---- */

json_t *problem_space(const struct problem *p)
{
    json_t *knobs = json_object();
    for (const struct problem_knob *k = p->knob; k->name; k++) {
        json_t *range = k->choice ? json_array() : json_pack("[f,f]", k->low, k->high);
        for (int i = 0; k->choice && i <= (int)k->high; i++) json_array_append_new(range, json_integer(i));
        json_t *knob = json_pack("{s:o}", k->choice ? "choice" : "float", range);
        if (k->repeat) json_object_set_new(knob, "repeat", json_integer(k->repeat));
        json_object_set_new(knobs, k->name, knob);
    }
    return json_pack("{s:s,s:o}", "type", "custom", "knobs", knobs);
}

json_t *problem_objectives(const struct problem *p)
{
    json_t *v = json_array();
    for (int i = 0; i < p->objectives; i++) json_array_append_new(v, json_string(p->metric[i]));
    return v;
}

json_t *problem_constraints(const struct problem *p)
{
    if (p->metrics == p->objectives) return json_array();
    return json_pack("[{s:s,s:f}]", "metric", p->metric[p->metrics - 1], "max", p->bound);
}

st_t problem_metric_check(const struct problem *p, const char *name, const char *where, struct base_err *err)
{
    char list[64] = "";
    for (int i = 0; i < p->metrics; i++) {
        if (!strcmp(name, p->metric[i])) return ST_OK;
        snprintf(list + strlen(list), sizeof list - strlen(list), "%s%s", i ? ", " : "", p->metric[i]);
    }
    return base_err_set(err, ST_EINVAL, where, "the problem '%s' has no metric '%s'; it has %s", p->name, name, list);
}

/* ---- a candidate ---- */

static st_t read_value(const struct problem_knob *k, json_t *v, double *out, const char *where, struct base_err *err)
{
    *out = json_number_value(v);
    if (!json_is_number(v) || !(*out >= k->low && *out <= k->high) || (k->choice && *out != floor(*out)))
        return base_err_set(err, ST_EINVAL, where, "must be a %snumber from %g to %g", k->choice ? "whole " : "", k->low, k->high);
    return ST_OK;
}

st_t problem_read(const struct problem *p, json_t *candidate, double x[PROBLEM_GENES_MAX], struct base_err *err)
{
    for (const struct problem_knob *k = p->knob; k->name; k++) {
        json_t *v = json_object_get(candidate, k->name);
        if (k->repeat && json_array_size(v) != (size_t)k->repeat)
            return base_err_set(err, ST_EINVAL, k->name, "must be an array of %d numbers", k->repeat);
        for (int i = 0; i < (k->repeat ? k->repeat : 1); i++) {
            st_t st = read_value(k, k->repeat ? json_array_get(v, (size_t)i) : v, x++, k->name, err);
            if (st) return st;
        }
    }
    return ST_OK;
}

void problem_values(const struct problem *p, const double *x, double *y)
{
    p->values(x, y);
}

json_t *problem_metrics(const struct problem *p, const double *y)
{
    json_t *v = json_object();
    for (int i = 0; i < p->metrics; i++) json_object_set_new(v, p->metric[i], json_real(y[i]));
    return v;
}
