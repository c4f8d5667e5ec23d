/* Strategies and the proposer: determinism, restart at any point, better than chance, nothing twice, spaces that run out, constraints. */
#include "tests/controller/toy.h"
#include "tests/tap.h"

/* ZDT1 (Zitzler, Deb, Thiele 2000) in 8 variables: the front is f2 = 1 - sqrt(f1), x[1..] = 0. */
static json_t *zdt1(json_t *arch)
{
    json_t *x = json_object_get(arch, "x");
    double f1 = json_number_value(json_array_get(x, 0)), g = 1;
    for (size_t i = 1; i < json_array_size(x); i++) g += 9 * json_number_value(json_array_get(x, i)) / (double)(json_array_size(x) - 1);
    return json_pack("{s:f,s:f}", "f1", f1, "f2", g * (1 - sqrt(f1 / g)));
}

static json_t *zdt1_up(json_t *arch) /* f2 turned: to be maximised */
{
    json_t *m = zdt1(arch);
    json_object_set_new(m, "f2", json_real(-json_number_value(json_object_get(m, "f2"))));
    return m;
}

static json_t *grid(json_t *arch)
{
    double a = toy_num(arch, "a"), b = toy_num(arch, "b");
    return json_pack("{s:f,s:f}", "f1", a, "f2", b);
}

static json_t *every_third_fails(json_t *arch)
{
    static int n;
    return n++ % 3 ? zdt1(arch) : NULL;
}

static json_t *all_fail(json_t *arch)
{
    return NULL;
}

#define ZDT(strategy, seed)                                                                                                          \
    "{\"evaluator\":\"external\",\"seed\":" seed ",\"space\":{\"type\":\"custom\",\"knobs\":{\"x\":{\"float\":[0,1],\"repeat\":8}}}," \
    "\"objectives\":[\"f1\",\"f2\"],\"search\":{\"strategy\":\"" strategy "\",\"population\":24}}"

static void test_table(void)
{
    is_str(strategy_names()[0], "auto", "auto is the default");
    ok(strategy_find("random") != NULL, "random is there");
    ok(strategy_find("grid") == NULL, "what is not there is not found");
    for (const char *const *n = strategy_names(); *n; n++) ok(strategy_find(*n) && !strcmp(strategy_find(*n)->name, *n), "%s finds itself", *n);
}

enum { STEPS = 120, IN_FLIGHT = 100 };

/* Proposal n is the same from a proposer that has lived from the start, from one made just now, and after reports in flight. */
static void test_restart(const char *what, const char *text, json_t *(*score)(json_t *))
{
    struct toy a, b, other;
    char id[STEPS][BASE_ID_HEX], got[BASE_ID_HEX];
    int same = 0, again = 0, differs = 0;
    toy_open(&a, text, score);
    for (int i = 0; i < STEPS; i++)
        if (toy_step(&a, id[i])) break;
    toy_open(&b, text, score);
    for (int i = 0; i < STEPS; i++) {
        proposer_free(b.proposer); /* the daemon was killed here */
        if (proposer_new(&b.proposer, b.job, b.archive, NULL) || toy_step(&b, got)) break;
        same += !strcmp(got, id[i]);
    }
    is_int(same, STEPS, "%s: a proposer made anew before each proposal makes the same ones", what);
    toy_close(&b);
    toy_open(&b, text, score);
    for (int i = 0; i < STEPS; i++) {
        if (toy_step(&b, got)) break;
        again += !strcmp(got, id[i]);
    }
    is_int(again, STEPS, "%s: a second run is the first", what);
    toy_close(&b);
    char *seed = strdup(text), *at = strstr(seed, "\"seed\":1");
    at[7] = '2';
    toy_open(&other, seed, score);
    for (int i = 0; i < STEPS; i++) {
        if (toy_step(&other, got)) break;
        differs += strcmp(got, id[i]) != 0;
    }
    is_int(differs, STEPS, "%s: another seed is another search", what);
    toy_close(&other);
    free(seed);
    toy_close(&a);
}

/* Several out at once, reported in another order than proposed: a restart in between changes nothing. */
static void test_in_flight(const char *what, const char *text)
{
    struct toy a, b;
    char *arch[4] = {0};
    int same = 0, n = 0;
    toy_open(&a, text, zdt1);
    toy_open(&b, text, zdt1);
    for (int i = 0; i < IN_FLIGHT; i++) {
        struct proposal x, y;
        proposer_free(b.proposer);
        if (proposer_new(&b.proposer, b.job, b.archive, NULL) || toy_next(&a, &x) || toy_next(&b, &y)) break;
        same += !strcmp(x.candidate.id, y.candidate.id);
        n++;
        toy_propose(&a, &x);
        toy_propose(&b, &y);
        arch[i % 4] = strdup(x.candidate.canonical);
        proposal_fini(&x);
        proposal_fini(&y);
        for (int k = 3; i % 4 == 3 && k >= 0; k--) { /* the youngest first */
            toy_report(&a, i - 3 + k + 1, arch[k]);
            toy_report(&b, i - 3 + k + 1, arch[k]);
            free(arch[k]);
        }
    }
    is_int(same, n, "%s: with four trials out and reports in another order, a restart changes nothing", what);
    is_int(n, IN_FLIGHT, "and nothing ran out");
    toy_close(&a);
    toy_close(&b);
}

static double search_hv(const char *strategy, int seed, int steps, bool up)
{
    char text[512];
    struct toy t;
    double ref[2] = {1.1, up ? -11 : 11};
    snprintf(text, sizeof text,
             "{\"evaluator\":\"external\",\"seed\":%d,\"space\":{\"type\":\"custom\",\"knobs\":{\"x\":{\"float\":[0,1],\"repeat\":8}}},"
             "\"objectives\":[\"f1\",%s],\"search\":{\"strategy\":\"%s\",\"population\":24}}",
             seed, up ? "{\"metric\":\"f2\",\"goal\":\"max\"}" : "\"f2\"", strategy);
    toy_open(&t, text, up ? zdt1_up : zdt1);
    for (int i = 0; i < steps; i++)
        if (toy_step(&t, NULL)) break;
    double hv = toy_hv(&t, ref);
    toy_close(&t);
    return hv;
}

static void test_better_than_chance(void)
{
    double best = 1.1 * 11 - 1.0 / 3; /* of the true front: the box less what lies under 1 - sqrt(f1) */
    int wins = 0, near = 0, turned = 0;
    for (int seed = 1; seed <= 8; seed++) {
        double n = search_hv("nsga2", seed, 600, false), r = search_hv("random", seed, 600, false);
        wins += best - n < 0.5 * (best - r);
        near += n > 0.95 * best;
        turned += fabs(search_hv("nsga2", seed, 600, true) - n) < 1e-9;
        printf("# seed %d: nsga2 %.4f, random %.4f, front %.4f\n", seed, n, r, best);
    }
    is_int(wins, 8, "on ZDT1 nsga2 leaves less than half of what random search leaves, on every seed");
    is_int(near, 8, "and reaches 95 %% of the true front's hypervolume");
    is_int(turned, 8, "an objective to be maximised gives the same search as its negative minimised");
}

/* What is left of the true front's hypervolume, as a share of what random search leaves: the worst of some seeds. */
static void test_each_better(void)
{
    static const struct {
        const char *name;
        int steps;
        double most;
    } want[] = {{"aging", 600, 0.6}, {"surrogate", 100, 0.05}, {"auto", 100, 0.05}};
    double best = 1.1 * 11 - 1.0 / 3;
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        double worst = 0;
        for (int seed = 1; seed <= 3; seed++) {
            double left = (best - search_hv(want[i].name, seed, want[i].steps, false)) / (best - search_hv("random", seed, want[i].steps, false));
            worst = fmax(worst, left);
        }
        ok(worst < want[i].most, "on ZDT1 %s leaves at most %.3f of what random search leaves after %d evaluations", want[i].name, worst, want[i].steps);
    }
}

/* Who has the word, and from when on, is a function of the results. */
static void test_handover(void)
{
    struct toy a, b;
    int same = 0, n = 0, first = -1;
    toy_open(&a, ZDT("auto", "1"), zdt1);
    toy_open(&b, ZDT("auto", "1"), zdt1);
    for (int i = 0; i < 70; i++, n++) {
        struct proposal x, y;
        proposer_free(b.proposer);
        if (proposer_new(&b.proposer, b.job, b.archive, NULL) || toy_next(&a, &x) || toy_next(&b, &y)) break;
        same += !strcmp(x.origin.by, y.origin.by) && (x.origin.rho == y.origin.rho || (isnan(x.origin.rho) && isnan(y.origin.rho)));
        if (first < 0 && !strcmp(x.origin.by, "surrogate")) first = i;
        toy_propose(&a, &x);
        toy_report(&a, i + 1, x.candidate.canonical);
        toy_propose(&b, &y);
        toy_report(&b, i + 1, y.candidate.canonical);
        proposal_fini(&x);
        proposal_fini(&y);
    }
    is_int(n, 70, "proposals of auto");
    is_int(same, 70, "say the same strategy and the same correlation after a restart");
    ok(first >= 24 && first < 70, "nsga2 begins, the surrogate has the word from proposal %d on", first);
    toy_close(&a);
    toy_close(&b);
}

/* Sixteen out at once and nothing reported: the surrogate sends them to different places. */
static void test_pending(void)
{
    struct toy t;
    double f1[16], least = INFINITY;
    toy_open(&t, ZDT("surrogate", "3"), zdt1);
    for (int i = 0; i < 60; i++)
        if (toy_step(&t, NULL)) break;
    int n = 0;
    for (; n < 16; n++) {
        struct proposal x;
        if (toy_next(&t, &x)) break;
        json_t *arch = json_loads(x.candidate.canonical, 0, NULL);
        f1[n] = json_number_value(json_array_get(json_object_get(arch, "x"), 0));
        json_decref(arch);
        toy_propose(&t, &x);
        proposal_fini(&x);
    }
    is_int(n, 16, "sixteen proposals without a report");
    double low = INFINITY, high = -INFINITY;
    for (int i = 0; i < n; i++) {
        low = fmin(low, f1[i]);
        high = fmax(high, f1[i]);
        for (int k = 0; k < i; k++) least = fmin(least, fabs(f1[i] - f1[k]));
    }
    /* The same proposal, and again when a colleague has it. */
    struct strategy_pending none = {0}, one = {.n = 1};
    struct genome first, second;
    struct strategy_origin origin;
    void *s;
    if (strategy_surrogate.open(&s, t.job) || space_genome_init(t.job->space, &first) || space_genome_init(t.job->space, &second)) return;
    for (long i = 0; i < archive_reported(t.archive); i++) {
        double y[JOB_OBJECTIVES_MAX], violation;
        archive_genome(t.archive, archive_reported_row(t.archive, i), &first);
        proposer_values(t.job, t.archive, archive_reported_row(t.archive, i), 0, y, &violation);
        strategy_surrogate.absorb(s, &(struct strategy_result){.trial = i + 1, .proposal = i, .genome = &first, .ok = true, .y = y, .bound = y});
    }
    int asked = 0, elsewhere = 0;
    for (uint64_t k = 100; k < 120; k++) {
        struct base_rng r = base_rng_at(1, RNG_PROPOSE, k);
        strategy_surrogate.propose(s, &r, &none, &first, &origin);
        if (strcmp(origin.op, "model")) continue;
        one.genome = &first;
        r = base_rng_at(1, RNG_PROPOSE, k);
        strategy_surrogate.propose(s, &r, &one, &second, &origin);
        asked++;
        elsewhere += memcmp(first.g, second.g, (size_t)first.n * sizeof *first.g) != 0;
    }
    ok(asked > 5 && elsewhere == asked, "a proposal that is out already is made elsewhere (%d of %d)", elsewhere, asked);
    strategy_surrogate.close(s);
    space_genome_fini(&first);
    space_genome_fini(&second);
    ok(high - low > 0.3, "they are spread along the front (f1 from %.3f to %.3f, least distance %.1e)", low, high, least);
    toy_close(&t);
}

/* A trial that is out on a higher rung was reported before: what is proposed beside it is what would be without its promotion. */
static void test_out_above(void)
{
    static const char text[] = "{\"evaluator\":\"external\",\"seed\":3,\"space\":{\"type\":\"custom\",\"knobs\":{\"x\":{\"float\":[0,1],\"repeat\":8}}},"
                               "\"objectives\":[\"f1\",\"f2\"],\"search\":{\"strategy\":\"surrogate\",\"population\":24},\"fidelity\":{\"tokens\":900,\"rungs\":3}}";
    struct toy t[2];
    struct proposal x[2];
    for (int k = 0; k < 2; k++) {
        toy_open(&t[k], text, zdt1);
        for (int i = 0; i < 60; i++)
            if (toy_step(&t[k], NULL)) break;
        for (int i = 1; k && i <= 5; i++) {
            toy_fold(&t[k], "promoted", json_pack("{s:i,s:i}", "trial", 10 * i, "rung", 1));
            toy_fold(&t[k], "leased", json_pack("{s:i,s:i}", "trial", 10 * i, "epoch", 2));
        }
        if (toy_next(&t[k], &x[k])) exit(1);
    }
    is_str(x[1].candidate.id, x[0].candidate.id, "what is out on a higher rung is not waited for as something new");
    for (int k = 0; k < 2; k++) {
        proposal_fini(&x[k]);
        toy_close(&t[k]);
    }
}

static json_t *constant(json_t *arch)
{
    return json_pack("{s:f,s:f}", "f1", 1.0, "f2", 2.0);
}

static json_t *out_of_bounds(json_t *arch)
{
    return json_pack("{s:f,s:f}", "f1", 9 + toy_num(arch, "a"), "f2", toy_num(arch, "b"));
}

/* Spaces and results that teach nothing. */
static void test_odd_spaces(void)
{
    static const char *const names[] = {"aging", "surrogate", "auto"};
    for (size_t k = 0; k < sizeof names / sizeof *names; k++) {
        struct toy t;
        char text[512];
        snprintf(text, sizeof text,
                 "{\"evaluator\":\"external\",\"space\":{\"type\":\"custom\",\"knobs\":{\"a\":{\"choice\":[\"one\"]}}},\"objectives\":[\"f1\",\"f2\"],"
                 "\"search\":{\"strategy\":\"%s\"}}",
                 names[k]);
        toy_open(&t, text, constant);
        is_int(toy_step(&t, NULL), ST_OK, "%s: a space of one candidate has one", names[k]);
        is_int(toy_step(&t, NULL), ST_EEXHAUSTED, "and then none");
        toy_close(&t);
        snprintf(text, sizeof text,
                 "{\"evaluator\":\"external\",\"space\":{\"type\":\"custom\",\"knobs\":{\"a\":{\"float\":[0,1]},\"b\":{\"choice\":[1,2,3]}}},"
                 "\"objectives\":[\"f1\",\"f2\"],\"constraints\":[{\"metric\":\"f1\",\"max\":3}],\"search\":{\"strategy\":\"%s\",\"population\":8}}",
                 names[k]);
        for (int bad = 0; bad < 3; bad++) {
            toy_open(&t, text, bad == 0 ? constant : bad == 1 ? out_of_bounds : all_fail);
            while (t.n < 60 && !toy_step(&t, NULL)) continue;
            is_int(t.n, 60, "%s goes on where %s", names[k], bad == 0 ? "everything is alike" : bad == 1 ? "nothing holds the constraint" : "everything fails");
            toy_close(&t);
        }
        snprintf(text, sizeof text, "{\"evaluator\":\"external\",\"seed\":1,\"space\":{\"type\":\"custom\",\"knobs\":{\"x\":{\"float\":[0,1],\"repeat\":8}}},"
                                    "\"objectives\":[\"f1\",\"f2\"],\"search\":{\"strategy\":\"%s\",\"population\":24}}", names[k]);
        toy_open(&t, text, every_third_fails);
        while (t.n < 90 && !toy_step(&t, NULL)) continue;
        double ref[2] = {1.1, 11};
        double hv = toy_hv(&t, ref);
        ok(t.n == 90 && hv > (k ? 11.5 : 8), "%s: where a third of the trials fails the others suffice (%.3f)", names[k], hv);
        toy_close(&t);
    }
}

/* Twelve layers of six blocks: what a block costs is its place, what it is worth falls with it at the layer's own rate. */
static json_t *layers(json_t *arch)
{
    json_t *block = json_object_get(arch, "block");
    double loss = 0, bytes = 0;
    for (size_t i = 0; i < 12; i++) {
        double k = json_number_value(json_array_get(block, i));
        loss += (1 + (double)(i * 7 % 12)) * exp(-(0.1 + 0.05 * (double)(i % 5)) * k);
        bytes += (1 + (double)(i % 3)) * (k + 1);
    }
    return json_pack("{s:f,s:f}", "loss", loss, "bytes", bytes);
}

static double least_loss(const char *strategy, int steps)
{
    char text[512];
    struct toy t;
    double best = INFINITY;
    snprintf(text, sizeof text,
             "{\"evaluator\":\"external\",\"seed\":1,\"space\":{\"type\":\"custom\",\"knobs\":{\"block\":{\"choice\":[0,1,2,3,4,5],\"repeat\":12}}},"
             "\"objectives\":[\"loss\"],\"constraints\":[{\"metric\":\"bytes\",\"max\":80}],\"search\":{\"strategy\":\"%s\",\"population\":24}}",
             strategy);
    toy_open(&t, text, layers);
    for (int i = 0; i < steps; i++)
        if (toy_step(&t, NULL)) break;
    int loss = archive_metric(t.archive, "loss"), bytes = archive_metric(t.archive, "bytes");
    for (long row = 0; row < archive_count(t.archive); row++)
        if (archive_median(t.archive, bytes, row) <= 80) best = fmin(best, archive_median(t.archive, loss, row));
    toy_close(&t);
    return best;
}

/* The optimum of that, by dynamic programming over the bytes. */
static double optimum(void)
{
    double best[81];
    for (int b = 0; b <= 80; b++) best[b] = 0;
    for (int i = 0; i < 12; i++)
        for (int b = 80; b >= 0; b--) {
            double least = INFINITY;
            for (int k = 0; k < 6; k++) {
                int left = b - (1 + i % 3) * (k + 1);
                if (left >= 0) least = fmin(least, best[left] + (1 + i * 7 % 12) * exp(-(0.1 + 0.05 * (i % 5)) * k));
            }
            best[b] = least;
        }
    return best[80];
}

static void test_sums(void)
{
    double truth = optimum(), found = least_loss("surrogate", 150), nsga2 = least_loss("nsga2", 150);
    ok(found < 1.01 * truth, "layers under a budget: %.4f after 150 evaluations, the optimum is %.4f (nsga2: %.4f)", found, truth, nsga2);
    ok(found < nsga2, "nsga2 is further off");
}

static void test_used_up(void)
{
    /* 12 x 12 candidates. */
    struct toy t;
    char id[BASE_ID_HEX];
    st_t st = ST_OK;
    for (int k = 0; k < 2; k++) {
        char text[512];
        snprintf(text, sizeof text,
                 "{\"evaluator\":\"external\",\"seed\":1,\"space\":{\"type\":\"custom\",\"knobs\":{\"a\":{\"int\":[0,11]},\"b\":{\"int\":[0,11]}}},"
                 "\"objectives\":[\"f1\",\"f2\"],\"search\":{\"strategy\":\"%s\",\"population\":10}}",
                 k ? "random" : "nsga2");
        toy_open(&t, text, grid);
        while (!(st = toy_step(&t, id)) && t.n < 1000) continue;
        is_int(st, ST_EEXHAUSTED, "%s: a small space is used up", k ? "random" : "nsga2");
        is_int(t.n, 144, "after each candidate was tried once");
        ok(strstr(proposer_why(t.proposer), "used up: 144") != NULL, "and says so: %s", proposer_why(t.proposer));
        long distinct = 0;
        for (long row = 0; row < archive_count(t.archive); row++) distinct += archive_find_arch(t.archive, archive_arch_id(t.archive, row, id)) == row;
        is_int(distinct, 144, "no candidate came twice");
        toy_close(&t);
    }
}

static void test_failures(void)
{
    struct toy t;
    char text[] = ZDT("nsga2", "1");
    int parents_failed = 0, children = 0;
    toy_open(&t, text, every_third_fails);
    for (int i = 0; i < 200; i++) {
        struct proposal x;
        if (toy_next(&t, &x)) break;
        for (int k = 0; k < x.origin.nparents; k++) {
            children++;
            parents_failed += archive_state(t.archive, archive_row(t.archive, x.origin.parent[k])) != TRIAL_OK;
        }
        toy_propose(&t, &x);
        toy_report(&t, t.n, x.candidate.canonical);
        proposal_fini(&x);
    }
    ok(children > 100, "there are children (%d parents)", children);
    is_int(parents_failed, 0, "a failed trial is no parent");
    toy_close(&t);
    toy_open(&t, text, all_fail);
    for (int i = 0; i < 60; i++)
        if (toy_step(&t, NULL)) break;
    is_int(t.n, 60, "where all fail the search goes on with samples");
    toy_close(&t);
}

static void test_samples_first(void)
{
    struct toy t;
    int samples = 0, later = 0;
    toy_open(&t, ZDT("nsga2", "1"), zdt1);
    for (int i = 0; i < 100; i++) {
        struct proposal x;
        if (toy_next(&t, &x)) break;
        if (i < 24) samples += !strcmp(x.origin.op, "sample");
        else later += strcmp(x.origin.op, "sample") != 0;
        toy_propose(&t, &x);
        toy_report(&t, t.n, x.candidate.canonical);
        proposal_fini(&x);
    }
    is_int(samples, 24, "the first `population` proposals are samples");
    is_int(later, 76, "the others are children");
    toy_close(&t);
}

/* A constraint steers: after training where only training tells. */
static void test_measured_constraint(void)
{
    struct toy t;
    long held = 0, n = 0;
    toy_open(&t,
             "{\"evaluator\":\"external\",\"seed\":1,\"space\":{\"type\":\"custom\",\"knobs\":{\"x\":{\"float\":[0,1],\"repeat\":8}}},"
             "\"objectives\":[\"f1\",\"f2\"],\"constraints\":[{\"metric\":\"f1\",\"min\":0.4,\"max\":0.5}],\"search\":{\"population\":16}}",
             zdt1);
    for (int i = 0; i < 300; i++)
        if (toy_step(&t, NULL)) break;
    int col = archive_metric(t.archive, "f1");
    for (long row = 200; row < archive_count(t.archive); row++, n++) {
        double v = archive_median(t.archive, col, row);
        held += v >= 0.4 && v <= 0.5;
    }
    ok(held > 60, "of the last 100 candidates most hold a constraint that a tenth of the samples holds (%ld)", held);
    toy_close(&t);
}

static json_t *lm_score(json_t *arch)
{
    return json_pack("{s:f}", "valid_bpb", 1.0 + 1.0 / (double)json_array_size(json_object_get(arch, "layers")));
}

static void test_paper_constraint(void)
{
    struct toy t;
    struct metric m;
    long broken = 0, thrown = 0;
    toy_open(&t,
             "{\"seed\":1,\"data\":{\"train\":\"/dev/null\"},\"space\":\"lm-tiny\",\"objectives\":[\"valid_bpb\",\"params\"],"
             "\"constraints\":[{\"metric\":\"params\",\"max\":150000}],\"search\":{\"strategy\":\"nsga2\",\"population\":12}}",
             lm_score);
    if (space_metric_parse(&m, "params", false, "", NULL)) toy_fail("params", &(struct base_err){.what = "?"});
    for (int i = 0; i < 60; i++) {
        struct proposal x;
        if (toy_next(&t, &x)) break;
        broken += space_metric_paper(&m, &x.candidate.arch, ARCH_WEIGHTS_F32) > 150000;
        thrown += x.infeasible;
        toy_propose(&t, &x);
        toy_report(&t, t.n, x.candidate.canonical);
        proposal_fini(&x);
    }
    is_int(t.n, 60, "proposals under a constraint on parameters");
    is_int(broken, 0, "none breaks it");
    ok(thrown > 0, "those that would were drawn again, and counted (%ld)", thrown);
    toy_close(&t);

    toy_open(&t,
             "{\"seed\":1,\"data\":{\"train\":\"/dev/null\"},\"space\":\"lm-tiny\",\"objectives\":[\"valid_bpb\"],"
             "\"constraints\":[{\"metric\":\"params\",\"max\":10}]}",
             lm_score);
    struct proposal x;
    is_int(toy_next(&t, &x), ST_EEXHAUSTED, "a constraint that nothing holds ends the search");
    ok(strstr(proposer_why(t.proposer), "constraints") != NULL, "and says so: %s", proposer_why(t.proposer));
    toy_close(&t);
}

/* How often each trial is a parent, of 400 proposals. */
static void count_parents(const struct strategy *s, void *state, const struct job *job, int *count)
{
    struct genome g;
    struct strategy_origin o;
    memset(count, 0, 8 * sizeof *count);
    if (space_genome_init(job->space, &g)) exit(1);
    for (uint64_t n = 100; n < 500; n++) {
        struct base_rng r = base_rng_at(1, RNG_PROPOSE, n);
        if (s->propose(state, &r, &(struct strategy_pending){0}, &g, &o)) exit(1);
        for (int i = 0; i < o.nparents; i++) count[o.parent[i]]++;
    }
    space_genome_fini(&g);
}

/* A result of a higher rung takes the place of that trial's below. */
static void test_promoted(void)
{
    static const char text[] = "{\"evaluator\":\"external\",\"space\":{\"type\":\"custom\",\"knobs\":{\"x\":{\"float\":[0,1]}}},\"objectives\":[\"f1\",\"f2\"],"
                               "\"search\":{\"population\":6},\"fidelity\":{\"tokens\":900,\"rungs\":3}}";
    const struct strategy *s = strategy_find("nsga2");
    struct base_err err = BASE_ERR_INIT;
    struct genome g;
    struct job *job;
    void *state;
    int count[8], before;
    if (job_parse(&job, text, strlen(text), "job", &err) || s->open(&state, job) || space_genome_init(job->space, &g)) exit(1);
    /* Of five, each but the last is dominated by the one before it. */
    for (int i = 1; i <= 5; i++) {
        double y[] = {i, i};
        g.g[0] = i / 10.0;
        s->absorb(state, &(struct strategy_result){.trial = i, .genome = &g, .ok = true, .y = y});
    }
    count_parents(s, state, job, count);
    ok(count[1] > count[2] && count[2] > count[3] && count[4] > count[5] && count[5] > 0, "the better ones are parents more often: %d, %d, %d, %d, %d", count[1], count[2],
       count[3], count[4], count[5]);
    before = count[4];
    double up[] = {0.5, 0.5}, middle[] = {2.5, 2.5};
    s->absorb(state, &(struct strategy_result){.trial = 4, .rung = 1, .genome = &g, .ok = true, .y = up});
    count_parents(s, state, job, count);
    ok(count[4] > before && count[4] > count[1] && count[1] > count[2], "one that was promoted and is best now, most of all: %d", count[4]);
    s->absorb(state, &(struct strategy_result){.trial = 1, .rung = 1, .genome = &g, .ok = true, .y = middle});
    count_parents(s, state, job, count);
    ok(count[4] > count[2] && count[2] > count[1] && count[1] > count[3] && count[3] > count[5], "one whose result is worse there falls behind: %d", count[1]);
    s->absorb(state, &(struct strategy_result){.trial = 4, .rung = 2, .genome = &g, .ok = false});
    count_parents(s, state, job, count);
    ok(count[4] == 0 && count[2] > count[1], "one that fails on its way up is no parent any more");
    s->absorb(state, &(struct strategy_result){.trial = 7, .rung = 1, .genome = &g, .ok = true, .y = up});
    count_parents(s, state, job, count);
    ok(count[7] > count[2], "one that had left comes back with its new result");
    space_genome_fini(&g);
    s->close(state);
    job_free(job);
}

int main(void)
{
    test_table();
    test_restart("nsga2", ZDT("nsga2", "1"), zdt1);
    test_restart("random", ZDT("random", "1"), zdt1);
    test_restart("aging", ZDT("aging", "1"), zdt1);
    test_restart("surrogate", ZDT("surrogate", "1"), zdt1);
    test_restart("auto", ZDT("auto", "1"), zdt1);
    test_in_flight("nsga2", ZDT("nsga2", "1"));
    test_in_flight("surrogate", ZDT("surrogate", "1"));
    test_in_flight("auto", ZDT("auto", "1"));
    test_better_than_chance();
    test_each_better();
    test_handover();
    test_pending();
    test_out_above();
    test_odd_spaces();
    test_sums();
    test_used_up();
    test_failures();
    test_samples_first();
    test_measured_constraint();
    test_paper_constraint();
    test_promoted();
    return tap_done();
}
