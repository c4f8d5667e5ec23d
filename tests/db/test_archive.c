/* The archive: loaded from the tables and folded event by event it is the same; fronts against brute force. */
#include "base/rng.h"
#include "bench/gen.h"
#include "tests/db/db.h"

#define TRIALS 700

static const char JOB[] = "{\"name\":\"c\",\"evaluator\":\"external\",\"space\":{\"type\":\"custom\",\"knobs\":{\"x\":{"
                          "\"float\":[0,1]},\"k\":{\"choice\":[1,2,3],\"repeat\":5}}},"
                          "\"objectives\":[\"a\",{\"metric\":\"b\",\"goal\":\"max\"},\"c\"],\"constraints\":[{"
                          "\"metric\":\"d\",\"max\":0.7}],\"fidelity\":{\"tokens\":900,\"rungs\":3}}";

static void same_double(const struct archive *a, const struct archive *b, int ca, long row, long *bad)
{
    int cb = archive_metric(b, archive_metric_name(a, ca));
    if (cb < 0) {
        double v = archive_median(a, ca, row);
        *bad += !isnan(v);
        return;
    }
    for (int r = 0; r < archive_rung(a, row); r++) {
        double v = archive_value(a, ca, row, r), w = archive_value(b, cb, row, r);
        *bad += !(isnan(v) ? isnan(w) : v == w);
    }
    double x[3], y[3];
    x[0] = archive_median(a, ca, row);
    y[0] = archive_median(b, cb, row);
    archive_interval(a, ca, row, &x[1], &x[2]);
    archive_interval(b, cb, row, &y[1], &y[2]);
    for (int i = 0; i < 3; i++) *bad += !(isnan(x[i]) ? isnan(y[i]) : x[i] == y[i]);
}

static void same(const struct archive *a, const struct archive *b, const struct space *space, const char *what)
{
    long n = archive_count(a), bad = 0;
    struct genome g, h;
    if (!ok(n == archive_count(b), "%s: as many rows", what) || space_genome_init(space, &g) ||
        space_genome_init(space, &h))
        return;
    for (int s = TRIAL_READY; s < TRIAL_STATES; s++)
        is_int(archive_count_state(a, s), archive_count_state(b, s), "%s: as many in state %d", what, s);
    for (long row = 0; row < n; row++) {
        char ia[BASE_ID_HEX], ib[BASE_ID_HEX];
        bad += archive_trial(a, row) != archive_trial(b, row) || archive_state(a, row) != archive_state(b, row) ||
               archive_epoch(a, row) != archive_epoch(b, row) || archive_rung(a, row) != archive_rung(b, row) ||
               strcmp(archive_arch_id(a, row, ia), archive_arch_id(b, row, ib)) ||
               archive_row(a, archive_trial(b, row)) != row || archive_find_arch(a, ib) != archive_find_arch(b, ia) ||
               archive_genome(a, row, &g) || archive_genome(b, row, &h) || memcmp(g.g, h.g, (size_t)g.n * sizeof *g.g);
        for (int c = 0; c < archive_metrics(a); c++) same_double(a, b, c, row, &bad);
        for (int c = 0; c < archive_metrics(b); c++) same_double(b, a, c, row, &bad);
    }
    is_int(bad, 0, "%s: every row alike in every column", what);
    is_int(archive_reported(a), archive_reported(b), "%s: as many reports", what);
    for (long i = 0; i < archive_reported(a); i++)
        bad += archive_reported_row(a, i) != archive_reported_row(b, i) ||
               archive_reported_rung(a, i) != archive_reported_rung(b, i) ||
               archive_reported_at(a, i) != archive_reported_at(b, i) ||
               archive_reported_busy_s(a, i) != archive_reported_busy_s(b, i);
    is_int(bad, 0, "%s: in the same order, at the same times, on the same rungs", what);
    is_int(archive_evaluations(a), archive_evaluations(b), "%s: as many evaluations", what);
    is_int(archive_top(a), archive_top(b), "%s: as high a rung", what);
    is_int(archive_row(a, 1 << 30), -1, "%s: a trial that is not there", what);
    is_int(archive_find_arch(a, ID("9f")), -1, "%s: an architecture that is not there", what);
    is_int(archive_find_arch(a, "short"), -1, "%s: no id of an architecture", what);
    is_int(archive_metric(a, "nothing"), -1, "%s: a metric that is not there", what);
    space_genome_fini(&g);
    space_genome_fini(&h);
}

/* ---- a search in a custom space, with everything that can happen to a trial ---- */

struct search {
    struct db *db;
    struct job *job;
    struct archive *a; /* folded along */
    struct base_rng r;
    int64_t at;
    long refused;
};

static void happen(struct search *s, const char *type, json_t *body)
{
    struct base_err err = BASE_ERR_INIT;
    st_t st = db_event_append(s->db, 1, type, body, s->at, NULL, &err);
    if (!st) st = archive_fold_at(s->a, type, body, s->at);
    if (st) printf("# %s: %s: %s\n", type, err.where, err.what);
    s->refused += st != ST_OK;
    s->at += 7;
    json_decref(body);
}

static json_t *value(struct search *s)
{
    double v = base_rng_below(&s->r, 25) / 25.0; /* coarse: ties must be seen */
    if (base_rng_below(&s->r, 2)) return json_real(v);
    return json_pack("{s:f,s:f,s:f,s:i}", "median", v, "low", v - 0.01, "high", v + 0.01, "n", 5);
}

/* Whether it was reported ok. */
static bool report(struct search *s, int64_t trial, int64_t lease, int epoch)
{
    json_t *m = json_object();
    static const char *const NAMES[] = {"a", "b", "c", "d"};
    for (int i = 0; i < 4; i++)
        if (base_rng_below(&s->r, 20)) json_object_set_new(m, NAMES[i], value(s));
    if (trial % 50 == 0) {
        for (int i = 0; i < 40; i++) {
            char name[32];
            snprintf(name, sizeof name, "extra%d", i);
            json_object_set_new(m, name, value(s));
        }
    }
    bool good = base_rng_below(&s->r, 10);
    if (base_rng_below(&s->r, 30) == 0) {
        json_decref(m);
        happen(s, "pruned", json_pack("{s:I,s:I,s:i,s:i,s:s,s:f}", "trial", (json_int_t)trial, "lease", (json_int_t)lease, "epoch", epoch, "device",
                                      1, "reason", "dominated", "busy_s", 0.1));
        return false;
    }
    happen(s, "reported",
           json_pack("{s:I,s:I,s:i,s:s,s:i,s:o,s:f}", "trial", (json_int_t)trial, "lease", (json_int_t)lease, "epoch",
                     epoch, "status", good ? "ok" : "failed", "device", 1, "metrics", m, "busy_s",
                     0.1 * (double)(trial % 7)));
    return good;
}

static void lease(struct search *s, int64_t trial, int64_t lease_id, int epoch)
{
    happen(s, "leased",
           json_pack("{s:I,s:I,s:i,s:i,s:s,s:i,s:i}", "trial", (json_int_t)trial, "lease", (json_int_t)lease_id,
                     "epoch", epoch, "evaluator", 4, "task", "train", "device", 1, "expires", 0));
}

static void propose(struct search *s, int64_t trial, int64_t proposal)
{
    struct genome g;
    struct candidate c;
    if (space_genome_init(s->job->space, &g) || space_sample(s->job->space, &s->r, &g) ||
        space_candidate(s->job->space, &g, &c, NULL))
        exit(1);
    json_t *genome = json_array();
    for (int i = 0; i < g.n; i++) json_array_append_new(genome, json_real(g.g[i]));
    happen(s, "proposed",
           json_pack("{s:I,s:I,s:s,s:s,s:o,s:{},s:i,s:{s:f}}", "trial", (json_int_t)trial, "proposal",
                     (json_int_t)proposal, "arch_id", c.id, "arch", c.canonical, "genome", genome, "origin", "seed", 1,
                     "paper", "size", (double)(trial % 13)));
    space_candidate_fini(&c);
    space_genome_fini(&g);
}

/* Trials finish out of order: each is reported some steps after it was leased, some are returned first, the last stay
 * open. */
static void run_search(struct search *s)
{
    int64_t open[8] = {0}, next_lease = 1;
    int64_t held[8];
    int epochs[8] = {0};
    begin_search(s->db);
    ok(!db_begin(s->db), "begin");
    for (long i = 0; i < TRIALS; i++) {
        int k = (int)base_rng_below(&s->r, 8);
        if (open[k] && base_rng_below(&s->r, 4) == 0) {
            happen(s, "returned",
                   json_pack("{s:I,s:I,s:i,s:s,s:f}", "trial", (json_int_t)open[k], "lease", (json_int_t)held[k],
                             "epoch", epochs[k], "reason", "r", "busy_s", 0.3));
            held[k] = next_lease++;
            lease(s, open[k], held[k], ++epochs[k]);
        }
        for (int rung = 1; open[k] && report(s, open[k], held[k], epochs[k]) && rung < 3 && base_rng_below(&s->r, 3); rung++) {
            happen(s, "promoted", json_pack("{s:I,s:i}", "trial", (json_int_t)open[k], "rung", rung));
            if (base_rng_below(&s->r, 6) == 0) break; /* waits */
            held[k] = next_lease++;
            lease(s, open[k], held[k], ++epochs[k]);
            if (base_rng_below(&s->r, 6) == 0) break; /* stays out */
        }
        open[k] = 3 * i + 5; /* ids of a service with other jobs have gaps */
        propose(s, open[k], i);
        held[k] = next_lease++;
        epochs[k] = 1;
        lease(s, open[k], held[k], 1);
    }
    happen(s, "returned",
           json_pack("{s:I,s:I,s:i,s:s,s:f}", "trial", (json_int_t)open[3], "lease", (json_int_t)held[3], "epoch",
                     epochs[3], "reason", "r", "busy_s", 0.3));
    happen(s, "state", json_pack("{s:s}", "state", "paused"));
    ok(!db_commit(s->db), "commit");
    is_int(s->refused, 0, "every event is taken");
}

/* ---- fronts ---- */

static double turned(const struct archive *a, const struct front_query *q, int j, long row)
{
    int c = archive_metric(a, q->objective[j].metric.name);
    double v = archive_value(a, c, row, q->rung);
    return q->objective[j].goal == METRIC_MAX ? -v : v;
}

static bool eligible(const struct archive *a, const struct front_query *q, long row)
{
    if (q->rung > archive_rung(a, row) || (q->rung == archive_rung(a, row) && archive_state(a, row) != TRIAL_OK)) return false;
    for (int j = 0; j < q->nobj; j++)
        if (!isfinite(turned(a, q, j, row))) return false;
    double d = archive_value(a, archive_metric(a, "d"), row, q->rung), size = archive_median(a, archive_metric(a, "size"), row);
    if (q->constrained && d > 0.7) return false;
    if (q->where && !(size < 9 && d >= 0.2)) return false;
    return true;
}

static bool dominated(const struct archive *a, const struct front_query *q, long row)
{
    for (long k = 0; k < archive_count(a); k++) {
        if (!eligible(a, q, k)) continue;
        int worse = 0, better = 0;
        for (int j = 0; j < q->nobj; j++) {
            worse += turned(a, q, j, k) > turned(a, q, j, row);
            better += turned(a, q, j, k) < turned(a, q, j, row);
        }
        if (!worse && better) return true;
    }
    return false;
}

static void front_is_right(const struct archive *a, const struct front_query *q, const char *what)
{
    struct front f, page;
    struct base_err err = BASE_ERR_INIT;
    long members = 0, bad = 0;
    if (!ok(!archive_front(a, q, &f, &err), "front %s (%s)", what, err.what)) return;
    for (long row = 0; row < archive_count(a); row++) {
        bool in = eligible(a, q, row) && !dominated(a, q, row), found = false;
        for (long i = 0; i < f.n; i++) found |= f.row[i] == row;
        bad += in != found;
        members += in;
    }
    ok(bad == 0 && members == f.n && f.n >= 1, "front %s: %ld members, as brute force says", what, f.n);
    for (long i = 1; i < f.n; i++) {
        double x = turned(a, q, 0, f.row[i - 1]), y = turned(a, q, 0, f.row[i]);
        bad += x > y || (x == y && archive_trial(a, f.row[i - 1]) >= archive_trial(a, f.row[i]));
    }
    is_int(bad, 0, "front %s: by the first objective, then by trial", what);
    struct front_query p = *q;
    p.limit = 3;
    long seen = 0;
    do {
        if (archive_front(a, &p, &page, &err)) break;
        for (long i = 0; i < page.n; i++) bad += page.row[i] != f.row[seen + i];
        seen += page.n;
        p.after = page.n ? archive_trial(a, page.row[page.n - 1]) : 0;
        archive_front_fini(&page);
    } while (p.after && seen < f.n);
    ok(bad == 0 && seen == f.n, "front %s: the same in pages of three", what);
    archive_front_fini(&f);
}

static void fronts(const struct archive *a, const struct job *job)
{
    struct base_err err = BASE_ERR_INIT;
    struct where *where;
    ok(!space_where_parse(&where, "size < 9 and d >= 0.2", true, &err), "where (%s)", err.what);
    struct front_query q = {.nobj = 3};
    memcpy(q.objective, job->objective, sizeof q.objective);
    front_is_right(a, &q, "of three");
    q.constrained = true;
    front_is_right(a, &q, "of three, constrained");
    q.where = where;
    front_is_right(a, &q, "of three, constrained, where");
    q.constrained = false;
    front_is_right(a, &q, "of three, where");
    q.where = NULL;
    q.nobj = 2;
    front_is_right(a, &q, "of two");
    struct front f, sure;
    q.uncertain = true;
    long on = 0, doubtful = 0, bad = archive_front(a, &q, &f, &err) ? 1 : 0;
    for (long i = 0; !bad && i < f.n; i++) {
        on += f.on[i];
        doubtful += f.p[i] > 0 && f.p[i] < 1;
        bad += !(f.p[i] >= (f.on[i] ? 0 : ARCHIVE_DOUBT) && f.p[i] <= 1);
    }
    q.uncertain = false;
    bad += archive_front(a, &q, &sure, &err) || sure.n != on || sure.p;
    for (long i = 0, k = 0; !bad && i < f.n; i++)
        if (f.on[i]) bad += f.row[i] != sure.row[k++];
    ok(!bad && doubtful && f.n > on, "an uncertain front: %ld trials, %ld of them on it by their medians, %ld in doubt", f.n, on, doubtful);
    archive_front_fini(&sure);
    archive_front_fini(&f);
    q.constrained = true;
    q.rung = 1;
    front_is_right(a, &q, "of two on rung 1");
    q.rung = archive_top(a);
    is_int(q.rung, 2, "the highest rung");
    front_is_right(a, &q, "of two on rung 2");
    long n[3] = {0};
    for (long row = 0; row < archive_count(a); row++)
        for (int r = 0; r < 3; r++) n[r] += archive_has(a, row, r);
    ok(n[0] > n[1] && n[1] > n[2] && n[2] > 50 && n[0] == archive_rung_count(a, 0) && n[1] == archive_rung_count(a, 1) && n[2] == archive_rung_count(a, 2),
       "%ld, %ld, %ld results on the rungs", n[0], n[1], n[2]);
    q.rung = 3;
    is_int(archive_front(a, &q, &f, &err), ST_EINVAL, "a rung that the job does not have (%s: %s)", err.where, err.what);
    q.constrained = false;
    q.rung = 0;
    q.nobj = 1;
    ok(!archive_front(a, &q, &f, &err) && f.n >= 1, "front of one");
    q.after = archive_trial(a, archive_count(a) - 1); /* still open: it has no value */
    archive_front_fini(&f);
    is_int(archive_front(a, &q, &f, &err), ST_EINVAL, "after a trial without a value (%s)", err.what);
    q.after = 1 << 30;
    is_int(archive_front(a, &q, &f, &err), ST_ENOTFOUND, "after a trial that is not there (%s)", err.what);
    q.after = 0;
    snprintf(q.objective[0].metric.name, sizeof q.objective[0].metric.name, "z");
    is_int(archive_front(a, &q, &f, &err), ST_ENOTFOUND, "an objective that no trial has");
    ok(strstr(err.what, "'z'") != NULL, "which is named: %s: %s", err.where, err.what);
    q.nobj = 0;
    is_int(archive_front(a, &q, &f, &err), ST_EINVAL, "no objective");
    space_where_free(where);
}

/* Grid of the unit cube: the values are multiples of 1/25, so counting cells is exact. */
static double volume(const uint8_t *cell)
{
    long n = 0;
    for (int i = 0; i < 25 * 25 * 25; i++) n += cell[i];
    return (double)n / (25.0 * 25 * 25);
}

static void progress(const struct archive *a, const struct job *job)
{
    static uint8_t cell[25 * 25 * 25];
    double ref[] = {1, 0, 1}, *hv = calloc((size_t)archive_reported(a), sizeof *hv);
    long bad = 0;
    ok(!archive_progress(a, job, ref, hv), "archive_progress");
    int c[4] = {archive_metric(a, "a"), archive_metric(a, "b"), archive_metric(a, "c"), archive_metric(a, "d")};
    for (long i = 0; i < archive_reported(a); i++) {
        long row = archive_reported_row(a, i);
        double v[4];
        for (int j = 0; j < 4; j++) v[j] = archive_median(a, c[j], row);
        if (archive_reported_rung(a, i) == 2 && archive_state(a, row) == TRIAL_OK && !(v[3] > 0.7) && !isnan(v[0] + v[1] + v[2])) {
            int x = (int)lround(v[0] * 25), y = (int)lround(v[1] * 25), z = (int)lround(v[2] * 25);
            for (int p = x; p < 25; p++)
                for (int q = 0; q < y; q++) /* b is maximised: from 0 up to y */
                    for (int r = z; r < 25; r++) cell[(p * 25 + q) * 25 + r] = 1;
        }
        bad += fabs(volume(cell) - hv[i]) > 1e-9;
    }
    ok(bad == 0 && archive_reported(a) > 100, "hypervolume of the top rung after each of %ld reports, by counting cells",
       archive_reported(a));
    free(hv);
}

/* Loads with these trials left out, in this order, and all the others as they were. */
static void left_out(struct search *s, int n, const int64_t *trial, const char *const *why, const char *name)
{
    struct base_err err = BASE_ERR_INIT;
    struct archive *a;
    const struct archive_damage *list;
    long bad = 0;
    if (!ok(!archive_load(&a, s->db, 1, s->job, &err), "%s: archive_load (%s)", name, err.what)) return;
    is_int(archive_damaged(a, &list), n, "%s: so many are left out", name);
    for (int i = 0; i < n && i < archive_damaged(a, NULL); i++)
        ok(list[i].trial == trial[i] && !strcmp(list[i].why, why[i]), "%s: trial %lld: %s", name, (long long)list[i].trial, list[i].why);
    is_int(archive_count(a), archive_count(s->a) - n, "%s: the others are there", name);
    for (long i = 0, row = 0; row < archive_count(s->a); row++) {
        bool out = false;
        for (int k = 0; k < n; k++) out |= archive_trial(s->a, row) == trial[k] || (trial[k] == 0 && archive_trial(s->a, row) == 23);
        bad += out != (archive_row(a, archive_trial(s->a, row)) < 0);
        if (out) continue;
        bad += archive_trial(a, i) != archive_trial(s->a, row) || archive_proposal(a, i) != row || archive_state(a, i) != archive_state(s->a, row);
        for (int c = 0; c < archive_metrics(s->a); c++) {
            int other = archive_metric(a, archive_metric_name(s->a, c));
            double x = archive_median(s->a, c, row), y = other < 0 ? NAN : archive_median(a, other, i);
            bad += !(x == y || (isnan(x) && isnan(y)));
        }
        i++;
    }
    ok(bad == 0, "%s: … with their states, metrics and numbers", name);
    json_t *body = json_pack("{s:I}", "trial", (json_int_t)trial[0]);
    is_int(archive_fold(a, "returned", body), ST_OK, "%s: what becomes of one that is left out is of no interest", name);
    json_decref(body);
    archive_free(a);
}

static void damage(struct search *s, const char *dir)
{
    static const int64_t trial[] = {8, 11, 14, 17, 20};
    static const char SET[] = "it has no such metric_set", GENOME[] = "its genome does not fit the job's space", ROW[] = "it is not as Taut writes it",
                      MORE[] = "its trial_more is not as Taut writes it";
    is_sql(dir, "UPDATE trial_data SET metric_set=999 WHERE id=8", "", "a set that is not there");
    left_out(s, 1, trial, (const char *const[]){SET}, "a set");
    is_sql(dir, "UPDATE trial_data SET genome=x'0001' WHERE id=11", "", "a genome that is too short");
    is_sql(dir, "UPDATE trial_data SET state=9 WHERE id=14", "", "a state that there is not");
    is_sql(dir, "UPDATE trial_data SET arch='no digits' WHERE id=17", "", "an architecture's id that is none");
    /* The last gene alone, so that the first ones lie in the archive's memory already. */
    is_sql(dir, "UPDATE trial_data SET genome=x'01000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000c05840' WHERE id=20", "", "a gene that is none");
    left_out(s, 5, trial, (const char *const[]){SET, GENOME, ROW, ROW, GENOME}, "five rows");
    is_sql(dir, "UPDATE trial_more SET chunk=99 WHERE trial=50 AND chunk=1", "", "a chunk of slots that there is not");
    left_out(s, 6, (const int64_t[]){8, 11, 14, 17, 20, 50}, (const char *const[]){SET, GENOME, ROW, ROW, GENOME, MORE}, "a chunk");
    is_sql(dir, "DELETE FROM trial_data WHERE id=23", "", "a row that is gone");
    left_out(s, 7, (const int64_t[]){8, 11, 14, 17, 20, 50, 0}, (const char *const[]){SET, GENOME, ROW, ROW, GENOME, MORE, "some are missing"}, "a row");
    char *promoted = ask(dir, "SELECT min(trial) FROM trial_rung WHERE trial > 60 AND rung = 1"), sql[128];
    int64_t up = atoll(promoted);
    snprintf(sql, sizeof sql, "UPDATE trial_rung SET metrics='{' WHERE trial=%s AND rung=1", promoted);
    is_sql(dir, sql, "", "a rung whose metrics are none");
    left_out(s, 8, (const int64_t[]){8, 11, 14, 17, 20, 50, up, 0},
             (const char *const[]){SET, GENOME, ROW, ROW, GENOME, MORE, "its trial_rung is not as Taut writes it", "some are missing"}, "a rung");
    free(promoted);
}

static void custom_search(void)
{
    char *dir = temp_dir();
    struct base_err err = BASE_ERR_INIT;
    struct search s = {.r = base_rng_at(3, RNG_TEST, 0), .at = 100};
    struct archive *loaded;
    s.db = open_or_die(dir);
    if (!ok(!job_parse(&s.job, JOB, strlen(JOB), "job", &err), "job (%s: %s)", err.where, err.what)) exit(1);
    ok(!archive_load(&s.a, s.db, 1, s.job, &err) && archive_count(s.a) == 0 && archive_row(s.a, 1) == -1,
       "an archive of nothing");
    run_search(&s);
    ok(!archive_load(&loaded, s.db, 1, s.job, &err), "archive_load (%s)", err.what);
    same(s.a, loaded, s.job->space, "custom");
    same(loaded, s.a, s.job->space, "custom, the other way");
    fronts(loaded, s.job);
    progress(loaded, s.job);
    ok(!db_verify(s.db, &err), "the tables are what the events say (%s: %s)", err.where, err.what);

    json_t *body = json_pack("{s:I}", "trial", (json_int_t)1 << 30);
    is_int(archive_fold(s.a, "leased", body), ST_ENOTFOUND, "an event of a trial that is not there");
    is_int(archive_fold(s.a, "progress", body), ST_OK, "an event that touches no row");
    json_decref(body);
    archive_free(loaded);
    damage(&s, dir);
    archive_free(s.a);
    job_free(s.job);
    db_close(s.db);
    temp_remove(dir);
}

/* Language-model genes fit in bytes; two jobs in one store. */
static void language_model_search(void)
{
    char *dir = temp_dir();
    struct base_err err = BASE_ERR_INIT;
    struct db *db = open_or_die(dir);
    struct gen g[2];
    struct archive *a[2], *loaded;
    for (int i = 0; i < 2; i++)
        ok(!gen_init(&g[i], db, &err) && !archive_load(&a[i], db, g[i].id, g[i].job, &err), "job %d (%s)", i + 1,
           err.what);
    st_t st = db_begin(db);
    for (int i = 0; i < 600 && !st; i++) {
        struct gen *one = &g[i % 3 == 0];
        struct gen_trial t;
        st = gen_trial(one, &t);
        const char *const type[] = {"proposed", "leased", "reported"};
        json_t *body[] = {t.proposed, t.leased, t.reported};
        for (int k = 0; k < 3 && !st; k++) {
            int64_t at = one->at_ms;
            st = gen_append(one, type[k], body[k], &err);
            if (!st) st = archive_fold_at(a[one == &g[1]], type[k], body[k], at);
        }
        gen_trial_fini(&t);
    }
    ok(!st && !db_commit(db), "six hundred trials of two jobs (%s: %s)", err.where, err.what);
    for (int i = 0; i < 2; i++) {
        ok(!archive_load(&loaded, db, g[i].id, g[i].job, &err), "archive_load (%s)", err.what);
        same(a[i], loaded, g[i].job->space, i ? "lm 2" : "lm 1");
        archive_free(loaded);
        archive_free(a[i]);
    }
    ok(!db_verify(db, &err), "the tables are what the events say (%s: %s)", err.where, err.what);
    for (int i = 0; i < 2; i++) gen_fini(&g[i]);
    db_close(db);
    temp_remove(dir);
}

int main(void)
{
    custom_search();
    language_model_search();
    return tap_done();
}
