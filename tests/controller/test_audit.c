/* What the audit draws and says against the words of its header, written anew; nesting; laws that are known. */
#include "base/rng.h"
#include "base/stats.h"
#include "controller/audit.h"
#include "controller/fidelity.h"
#include "searchspace/layer.h"
#include "tests/controller/toy.h"
#include "tests/tap.h"

#define JOB(more)                                                                                                                                                        \
    "{\"evaluator\":\"external\",\"space\":{\"type\":\"custom\",\"knobs\":{\"x\":{\"float\":[0,1]},\"c\":{\"choice\":[1,2,3],\"repeat\":4}}},\"objectives\":[\"a\"," \
    "{\"metric\":\"b\",\"goal\":\"max\"}],\"constraints\":[{\"metric\":\"params\",\"max\":900}],\"fidelity\":{\"tokens\":1000,\"rungs\":3}" more "}"

static int64_t lease;

static void propose(struct toy *t, struct base_rng *r)
{
    char id[BASE_ID_HEX + 8];
    snprintf(id, sizeof id, "%032x", (unsigned)t->n + 1);
    toy_fold(t, "proposed",
             json_pack("{s:I,s:I,s:s,s:[f,i,i,i,i],s:{}}", "trial", (json_int_t)t->n + 1, "proposal", (json_int_t)t->n, "arch_id", id, "genome", base_rng_unit(r),
                       (int)base_rng_below(r, 3), (int)base_rng_below(r, 3), (int)base_rng_below(r, 3), (int)base_rng_below(r, 3), "paper"));
    t->n++;
}

static void report_of(struct toy *t, long row, double a, double b, double params, bool good, double busy_s)
{
    toy_fold(t, "reported",
             json_pack("{s:I,s:I,s:s,s:{s:f,s:f,s:f},s:f}", "trial", (json_int_t)row + 1, "lease", (json_int_t)++lease, "status", good ? "ok" : "failed", "metrics", "a", a, "b", b,
                       "params", params, "busy_s", busy_s));
}

static void report(struct toy *t, long row, double a, double b, double params, bool good)
{
    report_of(t, row, a, b, params, good, 1);
}

static double value(const struct archive *a, const char *name, long row, int rung)
{
    return archive_value(a, archive_metric(a, name), row, rung);
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static bool open_to(const struct archive *a, long row)
{
    return archive_audit_rung(a, row) < 0 && archive_has(a, row, 0) && archive_state(a, row) == TRIAL_OK;
}

/* Is that a draw as the header has it? */
static void check_draw(const struct archive *a, long row, enum audit_drawn how, long *bad, long *not_first)
{
    double v[600];
    long n = 0, in_tenth = 0;
    for (long i = 0; i < archive_count(a); i++)
        if (archive_has(a, i, 0)) v[n++] = value(a, "a", i, 0);
    qsort(v, (size_t)n, sizeof *v, by_value);
    double cut = v[(long)ceil((double)n / 10) - 1], mine = value(a, "a", row, 0);
    *bad += !open_to(a, row);
    for (long i = 0; i < archive_count(a); i++) in_tenth += open_to(a, i) && value(a, "a", i, 0) <= cut;
    if (how == AUDIT_BEST) {
        bool first = true;
        for (long i = 0; i < archive_count(a); i++) first &= !open_to(a, i) || value(a, "a", i, 0) >= mine;
        *not_first += !first;
        *bad += in_tenth && mine > cut;
        for (long i = 0; i < archive_count(a) && !in_tenth; i++) *bad += open_to(a, i) && value(a, "a", i, 0) < mine;
    } else if (how == AUDIT_FRONT) {
        double low[2] = {INFINITY, INFINITY}, high[2] = {-INFINITY, -INFINITY}, best = -1, own = -1;
        bool front[600];
        for (long i = 0; i < archive_count(a); i++) {
            front[i] = archive_has(a, i, 0) && !(value(a, "params", i, 0) > 900);
            for (long k = 0; k < archive_count(a) && front[i]; k++)
                front[i] = !archive_has(a, k, 0) || value(a, "params", k, 0) > 900 || value(a, "a", k, 0) > value(a, "a", i, 0) || value(a, "b", k, 0) < value(a, "b", i, 0) ||
                           (value(a, "a", k, 0) == value(a, "a", i, 0) && value(a, "b", k, 0) == value(a, "b", i, 0));
        }
        for (long i = 0; i < archive_count(a); i++) {
            if ((!front[i] || !open_to(a, i)) && archive_audit_rung(a, i) < 0) continue;
            double y[2] = {value(a, "a", i, 0), value(a, "b", i, 0)};
            for (int j = 0; j < 2; j++) low[j] = fmin(low[j], y[j]), high[j] = fmax(high[j], y[j]);
        }
        *bad += !front[row];
        for (long i = 0; i < archive_count(a); i++) {
            if (!front[i] || !open_to(a, i)) continue;
            double nearest = INFINITY;
            for (long k = 0; k < archive_count(a); k++)
                if (archive_audit_rung(a, k) >= 0)
                    nearest = fmin(nearest, fabs(value(a, "a", i, 0) - value(a, "a", k, 0)) / (high[0] - low[0]) + fabs(value(a, "b", i, 0) - value(a, "b", k, 0)) / (high[1] - low[1]));
            best = fmax(best, nearest);
            if (i == row) own = nearest;
        }
        *bad += own < best - 1e-12;
    }
}

static void draws(double evaluations, const char *more, uint64_t seed)
{
    struct toy t;
    struct base_rng r = base_rng_at(seed, RNG_TEST, 0);
    enum audit_drawn how;
    long bad = 0, late = 0, not_first = 0, kinds[4] = {0}, row;
    toy_open(&t, more, NULL);
    long end = isfinite(evaluations) ? (long)evaluations : 300;
    for (long n = 1; n <= end; n++) {
        propose(&t, &r);
        report(&t, n - 1, base_rng_unit(&r), base_rng_unit(&r), 1000 * base_rng_unit(&r), base_rng_below(&r, 20));
        bool closed = n == end;
        while ((row = audit_next(t.job, t.archive, &(struct audit_budget){evaluations, INFINITY}, closed, &how)) >= 0) {
            enum audit_drawn again;
            bad += audit_next(t.job, t.archive, &(struct audit_budget){evaluations, INFINITY}, closed, &again) != row || again != how;
            check_draw(t.archive, row, how, &bad, &not_first);
            kinds[how]++;
            toy_fold(&t, "audit", json_pack("{s:I,s:s}", "trial", (json_int_t)row + 1, "drawn", archive_drawn_words[how]));
        }
        late += archive_rung_count(t.archive, 0) >= AUDIT_FROM && archive_audited(t.archive) < audit_due(t.job, t.archive, &(struct audit_budget){evaluations, INFINITY}, n, false);
    }
    long total = archive_audited(t.archive), want = isfinite(evaluations) ? job_audit_trials(t.job, evaluations) : (long)fmax(12, t.job->audit * 300);
    ok(!bad && !late && (not_first || end < 100), "%ld draws of %ld are as the header has them, and the same when asked again", total, end);
    ok(total == want && kinds[AUDIT_BEST] == (total + 1) / 2 && kinds[AUDIT_FRONT] + kinds[AUDIT_SPACE] == total / 2 && kinds[AUDIT_SPACE] >= total / 4 && !kinds[AUDIT_ALL],
       "%ld wanted; %ld best, %ld of the front, %ld of the space", want, kinds[0], kinds[1], kinds[2]);
    toy_close(&t);
}

/* Law: on rung r the target is truth + what the rung does not know. */
static void laws(void)
{
    struct toy t;
    struct audit table;
    struct base_rng r = base_rng_at(5, RNG_TEST, 0);
    double said[2][60], truth[60], params[60], x[60], y[60];
    toy_open(&t, JOB(",\"budget\":{\"evaluations\":100}"), NULL);
    for (long i = 0; i < 60; i++) {
        propose(&t, &r);
        truth[i] = base_rng_unit(&r);
        params[i] = i % 7 ? 800 - 400 * truth[i] - 200 * base_rng_unit(&r) : 950;
        said[0][i] = base_rng_unit(&r);
        said[1][i] = truth[i] + 0.1 * base_rng_unit(&r);
        report(&t, i, said[0][i], 0, params[i], true);
        toy_fold(&t, "audit", json_pack("{s:I,s:s}", "trial", (json_int_t)i + 1, "drawn", "best"));
        for (int rung = 1; rung < 3 && i < 59; rung++) {
            toy_fold(&t, "promoted", json_pack("{s:I,s:i}", "trial", (json_int_t)i + 1, "rung", rung));
            report(&t, i, rung == 2 ? truth[i] : said[1][i], 0, params[i], true);
        }
    }
    is_int(audit_table(&table, t.job, t.archive, true), ST_OK, "a table");
    ok(table.n == 59 && table.columns == 4 && !strcmp(table.column[0].name, "rung 0") && !strcmp(table.column[1].name, "rung 1") && !strcmp(table.column[2].name, "params") &&
           !strcmp(table.column[3].name, "largest"), "59 results; two rungs, two references");
    double minus[60], fits[60];
    for (int i = 0; i < 59; i++) minus[i] = -params[i], fits[i] = params[i] > 900 ? 0 : -params[i];
    const double *const pred[] = {said[0], said[1], minus, fits};
    double off = 0;
    for (int k = 0; k < 4; k++) {
        const struct audit_column *c = &table.column[k];
        double rho = base_stats_spearman(pred[k], truth, 59), tau = base_stats_kendall_b(pred[k], truth, 59), base = base_stats_spearman(minus, truth, 59);
        off = fmax(off, fmax(fabs(c->all.rho.value - rho), fabs(c->all.tau.value - tau)));
        double least = truth[0];
        int first = 0, as_low = 0;
        for (int i = 1; i < 59; i++) least = fmin(least, truth[i]), first = pred[k][i] < pred[k][first] ? i : first;
        for (int i = 0; i < 59; i++) as_low += pred[k][i] == pred[k][first];
        if (as_low == 1) off = fmax(off, fabs(c->regret.value - (truth[first] - least)));
        off = fmax(off, fabs(c->better.value - (rho - base)));
        if (!(c->all.rho.low <= rho && rho <= c->all.rho.high && c->all.tau.low <= tau && tau <= c->all.tau.high && c->all.n == 59)) off = INFINITY;
    }
    ok(off < 1e-12, "rho, tau_b, regret and the difference to counting parameters are what the definitions say: %.1e off", off);
    ok(table.column[0].tenth.n == table.tenth && table.tenth <= 6 && isnan(table.column[0].tenth.rho.value), "of the best tenth %ld: too few", table.tenth);
    ok(audit_judge(&table.column[1]) && !audit_judge(&table.column[0]) && audit_judge(&table.column[2]), "the rung that knows is relied on, the one that knows nothing is not; a reference has no verdict");
    audit_fini(&table);

    /* The verdict, and what follows. */
    is_int(fidelity_next(t.job, t.archive, false), 59, "what was drawn goes up first");
    toy_fold(&t, "promoted", json_pack("{s:i,s:i}", "trial", 60, "rung", 1));
    toy_fold(&t, "verdict", json_pack("{s:s,s:b}", "shortcut", "rung 0", "relied", false));
    ok(!audit_rungs_relied(t.job, t.archive) && fidelity_next(t.job, t.archive, false) < 0, "a rung is not relied on: nothing goes up by it");
    enum audit_drawn how;
    propose(&t, &r);
    ok(audit_next(t.job, t.archive, &(struct audit_budget){100, INFINITY}, false, &how) < 0, "neither one from before nor one without a result is drawn");
    report(&t, 60, 0.9, 0, 500, true);
    ok(audit_next(t.job, t.archive, &(struct audit_budget){100, INFINITY}, false, &how) == 60 && how == AUDIT_ALL, "with one it is, whatever it says");
    toy_fold(&t, "audit", json_pack("{s:i,s:s}", "trial", 61, "drawn", "all"));
    is_int(fidelity_next(t.job, t.archive, false), 60, "and goes up");
    is_int(audit_table(&table, t.job, t.archive, false), ST_OK, "a table for the verdict alone");
    ok(!table.column[0].relied && !audit_judge(&table.column[0]) && table.columns == 2 && isnan(table.column[0].better.low), "it stays");
    table.column[0].better = (struct base_stats_value){0.1, -0.1, 0.3};
    ok(!audit_judge(&table.column[0]), "a little better is not enough to come back");
    table.column[0].better.low = 0.01;
    ok(audit_judge(&table.column[0]), "with all of the interval above it is");
    table.column[0].all.n = 11;
    ok(!audit_judge(&table.column[0]) && !audit_judged(&table.column[0]), "of 11 nothing is judged");
    static const struct {
        int n;
        struct base_stats_value better;
        bool stays, judged;
        const char *what;
    } verdicts[] = {{12, {-0.1, -0.4, 0.2}, true, false, "of 12, a little worse, it may be chance"},
                    {12, {-0.3, -0.6, -0.1}, false, true, "all of the interval below: it is not relied on"},
                    {12, {0.3, 0.1, 0.6}, true, true, "all of it above: it is"},
                    {11, {-0.3, -0.6, -0.1}, true, false, "of 11 not even that"},
                    {19, {-0.1, -0.4, 0.2}, true, false, "of 19 still not"},
                    {20, {-0.1, -0.4, 0.2}, false, true, "of 20 the difference itself decides"},
                    {20, {0, -0.3, 0.3}, false, true, "no better is not better"},
                    {20, {0.01, -0.3, 0.3}, true, true, "a little better is"},
                    {20, {NAN, NAN, NAN}, false, true, "what orders nothing is not"}};
    for (int i = 0; i < (int)(sizeof verdicts / sizeof *verdicts); i++) {
        struct audit_column k = {.shortcut = true, .relied = true, .all.n = verdicts[i].n, .better = verdicts[i].better};
        ok(audit_judge(&k) == verdicts[i].stays && audit_judged(&k) == verdicts[i].judged, "%s", verdicts[i].what);
    }
    audit_fini(&table);
    toy_fold(&t, "verdict", json_pack("{s:s,s:b}", "shortcut", "rung 0", "relied", true));
    ok(audit_rungs_relied(t.job, t.archive), "relied on again");
    toy_close(&t);

    /* Enough of the best tenth. */
    toy_open(&t, JOB(",\"budget\":{\"evaluations\":1000}"), NULL);
    int n = 0;
    for (long i = 0; i < 150; i++) {
        propose(&t, &r);
        report(&t, i, (double)i, 0, 500, true);
        if (i >= 15 && i < 140) continue;
        toy_fold(&t, "audit", json_pack("{s:I,s:s}", "trial", (json_int_t)i + 1, "drawn", "best"));
        double v = base_rng_unit(&r);
        if (i < 15) x[n] = (double)i, y[n++] = v;
        for (int rung = 1; rung < 3; rung++) {
            toy_fold(&t, "promoted", json_pack("{s:I,s:i}", "trial", (json_int_t)i + 1, "rung", rung));
            report(&t, i, v + (i > 100), 0, 500, true);
        }
    }
    is_int(audit_table(&table, t.job, t.archive, true), ST_OK, "a table with 15 of the best tenth");
    const struct audit_column *c = &table.column[0];
    ok(c->tenth.n == 15 && fabs(c->tenth.rho.value - base_stats_spearman(x, y, 15)) < 1e-12 && fabs(c->tenth.tau.value - base_stats_kendall_b(x, y, 15)) < 1e-12 &&
           c->all.rho.value > c->tenth.rho.value && c->tenth.rho.low < c->tenth.rho.value, "within it: rho %.2f, and %.2f overall", c->tenth.rho.value, c->all.rho.value);
    ok(fabs(c->better.value - c->all.rho.value) < 1e-12, "parameters that are all the same order nothing: rho itself is the difference");
    audit_fini(&table);
    toy_close(&t);
}

/* Halving with and without draws: what was drawn apart, it promotes the same. */
static void apart(void)
{
    struct toy t[2];
    struct base_rng r = base_rng_at(8, RNG_TEST, 0);
    long up[2][400], n[2] = {0}, drawn = 0;
    for (int w = 0; w < 2; w++) toy_open(&t[w], JOB(",\"budget\":{\"evaluations\":1000}"), NULL);
    for (long i = 0; i < 200; i++) {
        struct base_rng same = r;
        double a = base_rng_unit(&r), b = base_rng_unit(&r);
        for (int w = 0; w < 2; w++) {
            struct base_rng s = same;
            propose(&t[w], &s);
            report(&t[w], t[w].n - 1, a, b, 500, true);
        }
        /* One that halving will never want: dominated by all. */
        bool poor = i % 10 == 9;
        if (poor)
            for (int w = 0; w < 2; w++) {
                propose(&t[w], &r);
                report(&t[w], t[w].n - 1, 2 + a, -1 - b, 500, true);
            }
        if (poor) {
            toy_fold(&t[1], "audit", json_pack("{s:I,s:s}", "trial", (json_int_t)t[1].n, "drawn", "space"));
            drawn++;
        }
        for (int w = 0; w < 2; w++)
            for (long row; (row = fidelity_next(t[w].job, t[w].archive, false)) >= 0;) {
                int rung = archive_rung(t[w].archive, row) + 1;
                if (archive_audit_rung(t[w].archive, row) < 0) up[w][n[w]++] = row * 3 + rung;
                toy_fold(&t[w], "promoted", json_pack("{s:I,s:i}", "trial", (json_int_t)row + 1, "rung", rung));
                report(&t[w], row, value(t[w].archive, "a", row, 0) - rung, value(t[w].archive, "b", row, 0), 500, true);
            }
    }
    ok(n[0] == n[1] && n[0] > 60 && !memcmp(up[0], up[1], (size_t)n[0] * sizeof **up), "%ld promotions are the same with %ld trials drawn and trained to the top beside them", n[0], drawn);
    long top = 0;
    for (long i = 0; i < archive_audited(t[1].archive); i++) top += archive_has(t[1].archive, archive_audited_row(t[1].archive, i), 2);
    is_int(top, drawn, "all of which got there");
    for (int w = 0; w < 2; w++) toy_close(&t[w]);
}

/* What was drawn and is wanted by halving as well has its place there. */
static void wanted(void)
{
    struct toy t;
    struct base_rng r = base_rng_at(9, RNG_TEST, 0);
    long bad = 0, up = 0, row;
    toy_open(&t, JOB(",\"budget\":{\"evaluations\":1000}"), NULL);
    for (long i = 0; i < 30; i++) {
        propose(&t, &r);
        report(&t, i, (double)i, (double)-i, 500, true);
        if (i < 2) toy_fold(&t, "audit", json_pack("{s:I,s:s}", "trial", (json_int_t)i + 1, "drawn", "best"));
    }
    while ((row = fidelity_next(t.job, t.archive, false)) >= 0 && up < 100) {
        int rung = archive_rung(t.archive, row) + 1;
        bad += rung > 2 || (row >= 2 && rung == 1 && row >= 20);
        up += archive_audit_rung(t.archive, row) < 0 && rung == 1;
        if (rung > 2) break;
        toy_fold(&t, "promoted", json_pack("{s:I,s:i}", "trial", (json_int_t)row + 1, "rung", rung));
        report(&t, row, (double)row, (double)-row, 500, true);
    }
    for (long i = 0; i < 10; i++) bad += archive_rung(t.archive, i) == 0;
    ok(!bad && up == 10 && archive_has(t.archive, 0, 2) && archive_has(t.archive, 1, 2), "of the ten first of 30 two were drawn: halving promotes the other eight, and %ld for diversity", up - 8);
    toy_close(&t);
}

static struct arch arch_of(int width, int depth, int heads, int hidden)
{
    struct arch a = {.vocab = 256, .context = 64, .width = width, .depth = depth, .tie = true, .rope_theta = ARCH_ROPE_THETA};
    int attention = space_layer_find("attention", LAYER_MIXER), swiglu = space_layer_find("swiglu", LAYER_FFN);
    for (int i = 0; i < depth; i++) {
        const struct layer_spec *s = space_layer(attention);
        a.layer[i].mixer.type = attention;
        for (int k = 0; k < s->nparams; k++) a.layer[i].mixer.v[k] = s->params[k].dflt;
        a.layer[i].mixer.v[space_layer_param(s, "heads")] = heads;
        a.layer[i].mixer.v[space_layer_param(s, "kv_heads")] = 1;
        a.layer[i].mixer.v[space_layer_param(s, "head_dim")] = 16;
        a.layer[i].ffn.type = swiglu;
        a.layer[i].ffn.v[space_layer_param(space_layer(swiglu), "hidden")] = hidden;
    }
    return a;
}

static void nesting(void)
{
    struct arch all = arch_of(64, 4, 4, 128), a = arch_of(32, 2, 2, 64), b;
    ok(space_arch_nested(&a, &all) && !space_arch_nested(&all, &a) && !space_arch_nested(&all, &all), "narrower, shallower, with fewer heads: a part; nothing is a part of itself");
    b = arch_of(64, 4, 4, 160);
    ok(space_arch_nested(&all, &b) && !space_arch_nested(&b, &all), "more hidden units");
    b = all, b.width = 128, b.layer[2].ffn.v[0] = 96;
    ok(!space_arch_nested(&all, &b) && !space_arch_nested(&b, &all), "wider, with a smaller layer: neither");
    b = all, b.layer[1].mixer = (struct arch_part){.type = space_layer_find("none", LAYER_MIXER)};
    ok(space_arch_nested(&b, &all), "a layer without its mixer is a part of it");
    b = a, b.depth = 3, b.layer[2] = b.layer[1], b.layer[1].mixer = (struct arch_part){.type = space_layer_find("mamba2", LAYER_MIXER), .v = {1, 16, 16, 4}};
    ok(space_arch_nested(&a, &b) && !space_arch_nested(&b, &all), "a layer of another kind between: still a part of it, and it is none of what has no such layer");
    b = a, b.layer[0].mixer.v[space_layer_param(space_layer(b.layer[0].mixer.type), "window")] = 32;
    ok(!space_arch_nested(&b, &all) && !space_arch_nested(&b, &a) && !space_arch_nested(&a, &b), "a window, and none");
    b = a, b.tie = false;
    ok(!space_arch_nested(&b, &all), "another head");
    b = a, b.vocab = 300;
    ok(!space_arch_nested(&b, &all), "another vocabulary");
}

static json_t *lm_score(json_t *arch)
{
    (void)arch;
    return json_object();
}

static void pairs(void)
{
    struct toy t;
    struct audit table;
    struct proposal x;
    toy_open(&t, "{\"data\":{\"train\":\"x.txt\",\"context\":32},\"train\":{\"batch\":2},\"objectives\":[\"valid_bpb\",\"params\"],\"search\":{\"strategy\":\"random\"},"
                 "\"fidelity\":{\"tokens\":6400,\"rungs\":2},\"budget\":{\"evaluations\":100},\"space\":{\"type\":\"lm\",\"depth\":[1,3],\"width\":[16,32,64],"
                 "\"mixer\":{\"attention\":{\"heads\":[1,2],\"head_dim\":[16]}},\"ffn\":{\"swiglu\":{\"ratio\":[1,2,3]}}}}", lm_score);
    struct arch *arch = calloc(40, sizeof *arch);
    double truth[40], low[40];
    struct base_rng r = base_rng_at(3, RNG_TEST, 0);
    for (int i = 0; i < 40; i++) {
        if (toy_next(&t, &x)) toy_fail("propose", &(struct base_err){.what = "?"});
        arch[i] = x.candidate.arch;
        toy_propose(&t, &x);
        proposal_fini(&x);
        truth[i] = base_rng_unit(&r);
        low[i] = base_rng_unit(&r);
        for (int rung = 0; rung < 2; rung++) {
            toy_fold(&t, "reported", json_pack("{s:i,s:i,s:s,s:{s:f},s:f}", "trial", i + 1, "lease", i + 1, "status", "ok", "metrics", "valid_bpb", rung ? truth[i] : low[i], "busy_s", 1.0));
            if (!rung) toy_fold(&t, "audit", json_pack("{s:i,s:s}", "trial", i + 1, "drawn", "space"));
            if (!rung) toy_fold(&t, "promoted", json_pack("{s:i,s:i}", "trial", i + 1, "rung", 1));
        }
    }
    long n = 0, by_truth = 0, by_rung = 0;
    for (int i = 0; i < 40; i++)
        for (int k = 0; k < 40; k++) {
            if (!space_arch_nested(&arch[i], &arch[k])) continue;
            n++;
            by_truth += truth[i] < truth[k];
            by_rung += low[i] < low[k];
        }
    is_int(audit_table(&table, t.job, t.archive, true), ST_OK, "a table of language models");
    ok(table.nested == n && n > 20 && table.violations == by_truth && table.column[0].nested == n && table.column[0].violations == by_rung,
       "%ld nested pairs; a part is in front in %ld of them by the results, in %ld by rung 0", n, by_truth, by_rung);
    ok(!strcmp(table.column[1].name, "params") && table.column[1].violations == 0 && table.column[1].nested == n, "by parameters in none");
    audit_fini(&table);
    free(arch);
    toy_close(&t);
}

static long due(const struct toy *t, double evaluations, double hours, long n, bool closed)
{
    return audit_due(t->job, t->archive, &(struct audit_budget){evaluations, hours}, n, closed);
}

/* A job of hours: 200 trials of a second each, then ten that were drawn and took a minute each. */
static void by_time(void)
{
    struct toy t;
    struct base_rng r = base_rng_at(4, RNG_TEST, 0);
    toy_open(&t, JOB(",\"budget\":{\"hours\":1}"), NULL);
    for (long n = 0; n < 200; n++) {
        propose(&t, &r);
        report(&t, n, base_rng_unit(&r), base_rng_unit(&r), 1000, true);
    }
    ok(due(&t, INFINITY, 1, 200, false) == 1 && due(&t, INFINITY, 399 / 3600.0, 200, false) == 12 && due(&t, INFINITY, 797 / 3600.0, 200, false) == 6,
       "with hours the first 12 are due by half of them, from the first report on");
    is_int(due(&t, INFINITY, 399 / 3600.0, 20, false), 5, "but no more than one in four");
    ok(due(&t, 10000, 797 / 3600.0, 40, false) == 6 && due(&t, 400, 1, 200, false) == 20, "with both by whichever is sooner");
    is_int(due(&t, INFINITY, 1, 200, true), 12, "when the hours are over 12 are, and no share of all");
    is_int(due(&t, INFINITY, 1, 5, true), 5, "or as many as there are");
    for (long n = 0; n < 10; n++) {
        toy_fold(&t, "audit", json_pack("{s:I,s:s}", "trial", (json_int_t)n + 1, "drawn", "best"));
        toy_fold(&t, "promoted", json_pack("{s:I,s:i}", "trial", (json_int_t)n + 1, "rung", 1));
        report_of(&t, n, 0.1 * (double)n, 0.5, 1000, true, 60);
    }
    ok(due(&t, INFINITY, 10, 200, false) == 1 && due(&t, INFINITY, 0.25, 200, false) == 12, "800 s, of which ten took 600: their tenth pays for one, and the first dozen comes first");
    for (long n = 200; n < 210; n++) {
        propose(&t, &r);
        report_of(&t, n, 0.1, 0.5, 1000, true, 1001);
    }
    is_int(due(&t, INFINITY, 10, 210, false), 18, "10,809 s pay for 18 of a minute each");
    toy_close(&t);
    toy_open(&t, JOB(",\"budget\":{\"hours\":1}"), NULL);
    toy_fold(&t, "supernet", json_pack("{s:s,s:f}", "status", "ok", "busy_s", 2400.0));
    for (long n = 0; n < 40; n++) {
        propose(&t, &r);
        report(&t, n, base_rng_unit(&r), base_rng_unit(&r), 1000, true);
    }
    is_int(due(&t, INFINITY, 1, 40, false), 0, "a supernet's time is not the search's: 39 s of 1,199 are gone, not two thirds of an hour");
    toy_close(&t);
}

int main(void)
{
    struct toy t;
    toy_open(&t, JOB(",\"budget\":{\"evaluations\":200}"), NULL);
    ok(due(&t, 200, INFINITY, 0, false) == 0 && due(&t, 200, INFINITY, 50, false) == 6 && due(&t, 200, INFINITY, 100, false) == 12 && due(&t, 200, INFINITY, 150, false) == 15 &&
           due(&t, 200, INFINITY, 200, false) == 20 && due(&t, 200, INFINITY, 80, true) == 12, "due of 200: 12 by half, 20 at the end; 12 where the space ends at 80");
    ok(due(&t, INFINITY, INFINITY, 8, false) == 2 && due(&t, INFINITY, INFINITY, 100, false) == 12 && due(&t, INFINITY, INFINITY, 400, false) == 40 && due(&t, INFINITY, INFINITY, 8, true) == 12,
       "due without a number: one in four, then the share");
    ok(!strcmp(audit_target(t.job)->metric.name, "a"), "the target is the first objective");
    toy_close(&t);
    toy_open(&t, JOB(",\"audit\":0"), NULL);
    enum audit_drawn how;
    ok(due(&t, 200, INFINITY, 100, false) == 0 && audit_next(t.job, t.archive, &(struct audit_budget){200, INFINITY}, true, &how) < 0, "none with audit 0");
    toy_close(&t);
    by_time();
    draws(200, JOB(",\"budget\":{\"evaluations\":200}"), 1);
    draws(60, JOB(",\"audit\":0.5,\"budget\":{\"evaluations\":60}"), 2);
    draws(INFINITY, JOB(",\"budget\":{\"hours\":1}"), 3);
    laws();
    apart();
    wanted();
    nesting();
    pairs();
    return tap_done();
}
