/* Estimates and repeats: what their events leave in the tables, what is refused; an archive that is loaded is the one that was folded; values pooled, against sums done by hand. */
#include <math.h>

#include "tests/db/db.h"

#define JOB "{\"evaluator\":\"external\",\"space\":{\"type\":\"custom\",\"knobs\":{\"a\":{\"int\":[0,99]}}},\"objectives\":[\"loss\",\"ms\"],\"fidelity\":{\"tokens\":900,\"rungs\":2}}"

static struct db *db;
static struct archive *folded;

static int proposed;

static void propose(int arch, const char *origin)
{
    char text[512];
    proposed++;
    snprintf(text, sizeof text, "{\"trial\":%d,\"proposal\":%d,\"arch_id\":\"%032x\",\"arch\":\"{}\",\"genome\":[%d],\"origin\":%s,\"seed\":1,\"paper\":{}}", proposed, proposed - 1,
             arch, arch, origin);
    event_both(db, folded, "proposed", text);
}

static void lease(int trial, int id, int epoch)
{
    char text[256];
    snprintf(text, sizeof text, "{\"trial\":%d,\"lease\":%d,\"epoch\":%d,\"evaluator\":4,\"task\":\"train\",\"device\":1,\"expires\":9}", trial, id, epoch);
    event_both(db, folded, "leased", text);
}

static void report(int trial, int id, int epoch, const char *metrics)
{
    char text[1024];
    snprintf(text, sizeof text, "{\"trial\":%d,\"lease\":%d,\"epoch\":%d,\"status\":\"ok\",\"device\":1,\"busy_s\":1,%s}", trial, id, epoch, metrics);
    event_both(db, folded, "reported", text);
}

static bool same(double x, double y)
{
    return (isnan(x) && isnan(y)) || x == y;
}

static long differences(const struct archive *a, const struct archive *b)
{
    long bad = archive_estimates(a) != archive_estimates(b) || archive_repeats(a) != archive_repeats(b) || archive_metrics(a) != archive_metrics(b) ||
               archive_evaluations(a) != archive_evaluations(b) || archive_reported(a) != archive_reported(b);
    for (long i = 0; i < archive_estimates(a) && !bad; i++) {
        const struct archive_estimate *x = archive_estimate_at(a, i), *y = archive_estimate_at(b, i);
        bad += x->row != y->row || x->rung != y->rung || x->saved != y->saved || x->median != y->median || x->low != y->low || x->high != y->high ||
               strcmp(archive_metric_name(a, x->col), archive_metric_name(b, y->col));
    }
    for (int r = 0; r < 2; r++) bad += archive_rung_count(a, r) != archive_rung_count(b, r) || archive_rung_reached(a, r) != archive_rung_reached(b, r);
    for (long row = 0; row < archive_count(a) && !bad; row++) {
        bad += archive_repeat(a, row) != archive_repeat(b, row) || archive_repeat_of(a, row) != archive_repeat_of(b, row) || archive_repeated(a, row) != archive_repeated(b, row);
        for (int col = 0; col < archive_metrics(a); col++) {
            int other = archive_metric(b, archive_metric_name(a, col));
            double x[3], y[3];
            bad += archive_estimated(a, col, row) != archive_estimated(b, other, row);
            archive_pooled(a, col, row, 0, &x[0], &x[1], &x[2]);
            archive_pooled(b, other, row, 0, &y[0], &y[1], &y[2]);
            for (int k = 0; k < 3; k++) bad += !same(x[k], y[k]);
        }
    }
    return bad;
}

static void compare(const struct job *job, const char *what)
{
    struct base_err err = BASE_ERR_INIT;
    struct archive *loaded;
    if (archive_load(&loaded, db, 1, job, &err)) {
        ok(false, "%s: %s", what, err.what);
        return;
    }
    is_int(archive_damaged(loaded, NULL), 0, "%s: nothing is damaged", what);
    is_int(differences(folded, loaded), 0, "%s: loaded as folded", what);
    archive_free(loaded);
}

#define SAMPLE "{\"op\":\"sample\",\"parents\":[]}"
#define AGAIN(of, kind) "{\"op\":\"repeat\",\"parents\":[" #of "],\"kind\":\"" kind "\"}"

int main(void)
{
    char *dir = temp_dir();
    struct base_err err = BASE_ERR_INIT;
    struct job *job;
    double m, low, high;
    int dof;
    db = open_or_die(dir);
    if (job_parse(&job, JOB, strlen(JOB), "job", &err)) return 1;
    ok(!event(db, 0, "device", "{\"id\":1,\"kind\":\"cpu\",\"body\":{}}") && !event(db, 0, "evaluator", "{\"evaluator\":4,\"name\":\"e\",\"device\":1}"), "a device");
    event_both(db, folded, "submitted", "{\"name\":\"n\",\"seed\":1,\"job\":" JOB ",\"identity\":\"" ID("0a") "\"}");
    if (archive_load(&folded, db, 1, job, &err)) return 1;
    for (int i = 1; i <= 4; i++) propose(i, SAMPLE), lease(i, i, 1);

    /* ---- estimates ---- */
    event_refused(db, "modelled", "{\"trial\":1,\"lease\":1,\"epoch\":1,\"estimates\":{}}", ST_EINVAL, "it says whether it is saved");
    event_refused(db, "modelled", "{\"trial\":1,\"lease\":1,\"epoch\":1,\"saved\":true,\"estimates\":{\"ms\":{\"median\":1}}}", ST_EINVAL, "an estimate has an interval");
    event_refused(db, "modelled", "{\"trial\":1,\"lease\":9,\"epoch\":1,\"saved\":true,\"estimates\":{}}", ST_ESTALE, "and is of a lease");
    event_both(db, folded, "modelled", "{\"trial\":1,\"lease\":1,\"epoch\":1,\"saved\":true,\"by\":3,\"estimates\":{\"ms\":{\"median\":5,\"low\":4,\"high\":6}}}");
    json_t *said = NULL;
    is_int(db_lease_modelled(db, 1, 1, 1, &said), ST_OK, "what a lease was told");
    ok(json_is_true(json_object_get(said, "saved")) && json_integer_value(json_object_get(said, "by")) == 3, "is read again");
    json_decref(said);
    is_int(db_lease_modelled(db, 1, 1, 2, &said), ST_OK, "of another epoch");
    ok(!said, "nothing was");
    event_refused(db, "reported", "{\"trial\":1,\"lease\":1,\"epoch\":1,\"status\":\"ok\",\"device\":1,\"busy_s\":1,\"metrics\":{},\"estimates\":{\"ms\":7}}", ST_EINVAL, "estimates are objects");
    event_refused(db, "reported", "{\"trial\":1,\"lease\":1,\"epoch\":1,\"status\":\"ok\",\"device\":1,\"busy_s\":1,\"metrics\":{\"ms\":{\"median\":1,\"n\":-1}}}", ST_EINVAL, "n is not below 0");
    report(1, 1, 1, "\"metrics\":{\"loss\":3,\"ms\":{\"median\":5,\"low\":4,\"high\":6,\"n\":0},\"z\":{\"median\":1,\"low\":1,\"high\":2,\"n\":0}},"
                    "\"estimates\":{\"z\":{\"median\":1,\"low\":1,\"high\":2},\"ms\":{\"median\":5,\"low\":4,\"high\":6}}");
    report(2, 2, 1, "\"metrics\":{\"loss\":4,\"ms\":{\"median\":8,\"low\":7,\"high\":9,\"n\":30}},\"estimates\":{\"ms\":{\"median\":5,\"low\":4,\"high\":6}}");
    report(3, 3, 1, "\"metrics\":{\"loss\":1,\"ms\":{\"median\":2,\"low\":1.9,\"high\":2.1,\"n\":30}}");
    is_sql(dir, "SELECT trial,rung,name,median,low,high,saved,holds FROM estimate ORDER BY trial,name",
           "1|0|ms|5.0|4.0|6.0|1|1\n1|0|z|1.0|1.0|2.0|1|1\n2|0|ms|5.0|4.0|6.0|0|0", "estimates: those that stand for a measurement, and one beside it");
    is_sql(dir, "SELECT n FROM metric WHERE trial=1 AND name='ms'", "0", "n is 0 in place of a number of samples");
    int ms = archive_metric(folded, "ms"), loss = archive_metric(folded, "loss");
    ok(archive_estimated(folded, ms, 0) && !archive_estimated(folded, loss, 0) && !archive_estimated(folded, ms, 1) && !archive_estimated(folded, ms, 2), "in the archive too");
    compare(job, "estimates");
    event_both(db, folded, "promoted", "{\"trial\":1,\"rung\":1}");
    ok(archive_estimated(folded, ms, 0), "promoted, it is still one");
    compare(job, "an estimate that goes up");
    lease(1, 5, 2);
    report(1, 5, 2, "\"metrics\":{\"loss\":2.5,\"ms\":{\"median\":5.5,\"low\":5.4,\"high\":5.6,\"n\":40}}");
    ok(!archive_estimated(folded, ms, 0) && archive_estimated(folded, archive_metric(folded, "z"), 0), "measured there, it is none any more; what was not still is");
    is_sql(dir, "SELECT name,saved,holds FROM estimate WHERE trial=1 ORDER BY name", "ms|1|0\nz|1|1", "in the store too");
    compare(job, "an estimate that was measured");

    /* ---- repeats ---- */
    event_refused(db, "proposed", "{\"trial\":5,\"proposal\":4,\"arch_id\":\"00000000000000000000000000000007\",\"arch\":\"{}\",\"genome\":[3],\"origin\":" AGAIN(3, "train") ",\"seed\":1,\"paper\":{}}", ST_EINVAL,
           "a repeat is of the same architecture");
    event_refused(db, "proposed", "{\"trial\":5,\"proposal\":4,\"arch_id\":\"00000000000000000000000000000003\",\"arch\":\"{}\",\"genome\":[3],\"origin\":" AGAIN(9, "train") ",\"seed\":1,\"paper\":{}}", ST_EINVAL,
           "of a trial that is there");
    event_refused(db, "proposed", "{\"trial\":5,\"proposal\":4,\"arch_id\":\"00000000000000000000000000000003\",\"arch\":\"{}\",\"genome\":[3],\"origin\":" AGAIN(3, "score") ",\"seed\":1,\"paper\":{}}", ST_EINVAL,
           "by a kind that there is");
    propose(3, AGAIN(3, "train"));
    event_refused(db, "proposed", "{\"trial\":6,\"proposal\":5,\"arch_id\":\"00000000000000000000000000000003\",\"arch\":\"{}\",\"genome\":[3],\"origin\":" AGAIN(5, "train") ",\"seed\":1,\"paper\":{}}", ST_EINVAL,
           "and none of a repeat");
    propose(2, AGAIN(2, "train"));
    propose(3, AGAIN(3, "train"));
    propose(3, AGAIN(3, "profile"));
    is_sql(dir, "SELECT trial,of,number,kind FROM repeat ORDER BY trial", "5|3|1|train\n6|2|1|train\n7|3|2|train\n8|3|3|profile", "repeats, counted for each trial");
    ok(archive_repeat_of(folded, 4) == 2 && archive_repeat_of(folded, 5) == 1 && archive_repeat_of(folded, 2) == -1 && archive_repeated(folded, 2) == 3, "in the archive too");
    ok(archive_find_arch(folded, "00000000000000000000000000000003") == 2, "their architecture is found in the first");
    compare(job, "repeats that are ready");
    archive_pooled(folded, loss, 2, 0, &m, &low, &high);
    ok(m == 1 && low == 1 && high == 1, "a loss alone has no interval");
    for (int i = 5; i <= 8; i++) lease(i, 10 + i, 1);
    report(5, 15, 1, "\"metrics\":{\"loss\":1.3}");
    report(6, 16, 1, "\"metrics\":{\"loss\":4.1}");
    report(7, 17, 1, "\"metrics\":{\"loss\":1.6}");
    report(8, 18, 1, "\"metrics\":{\"ms\":{\"median\":2.4,\"low\":2.3,\"high\":2.5,\"n\":30}}");
    is_int(archive_rung_count(folded, 0), 3, "none is a result of the rung");
    ok(archive_has(folded, 2, 0) && !archive_has(folded, 4, 0) && !archive_has(folded, 7, 0), "nor has one");
    is_int(archive_reported(folded), 4, "nor a report");
    is_int(archive_evaluations(folded), 7, "but an evaluation");
    /* squares about the means: (1, 1.3, 1.6): 0.18; (4, 4.1): 0.005 */
    double sd = sqrt(0.185 / 3);
    ok(fabs(archive_noise(folded, loss, 0, &dof) - sd) < 1e-12 && dof == 3, "the noise of all seeds: %.4f, 3 degrees of freedom", sd);
    is_int(archive_pooled(folded, loss, 2, 0, &m, &low, &high), 3, "three seeds");
    ok(fabs(m - 1.3) < 1e-12 && fabs(high - 1.3 - 3.182 * sd / sqrt(3)) < 2e-2 * sd && fabs(high + low - 2.6) < 1e-9, "are their mean, %.3f to %.3f", low, high);
    is_int(archive_pooled(folded, loss, 0, 0, &m, &low, &high), 1, "one seed");
    ok(m == 3 && fabs(high - 3 - 3.182 * sd) < 2e-2 * sd, "has the same noise");
    /* two measurements with standard deviations s = 0.1 / 1.96: weights 1 / s^2, Q = 0.4^2 / (2 s^2), tau^2 = (Q - 1) s^2 */
    double s = 0.1 / 1.959963984540054, q = 0.16 / (2 * s * s), error = sqrt((s * s + (q - 1) * s * s) / 2);
    is_int(archive_pooled(folded, ms, 2, 0, &m, &low, &high), 2, "two measurements");
    ok(fabs(m - 2.2) < 1e-9 && fabs(high - 2.2 - 1.959963984540054 * error) < 1e-9, "differ by more than their intervals: %.3f to %.3f", low, high);
    ok(archive_median(folded, ms, 2) == 2 && archive_median(folded, loss, 2) == 1, "what was first reported is still there");
    is_sql(dir, "SELECT trial,repeat,name,median FROM metric WHERE trial=3 ORDER BY repeat,name", "3|0|loss|1.0\n3|0|ms|2.0\n3|1|loss|1.3\n3|2|loss|1.6\n3|3|ms|2.4", "in the store they are its repeats");
    is_sql(dir, "SELECT count(*) FROM metric WHERE trial>4", "0", "and nothing else");
    compare(job, "repeats");
    struct front_query fq = {.nobj = 2, .uncertain = true};
    memcpy(fq.objective, job->objective, sizeof fq.objective);
    struct front f;
    ok(!archive_front(folded, &fq, &f, &err) && f.n == 1 && f.row[0] == 2 && f.p[0] > 0.9, "a front has the trial, and none of its repeats");
    archive_front_fini(&f);
    event_both(db, folded, "promoted", "{\"trial\":5,\"rung\":1}");
    is_int(archive_rung_reached(folded, 1), 1, "a repeat that goes up is not counted there");
    compare(job, "a repeat that goes up");

    ok(!db_verify(db, &err), "the tables are what the events say (%s: %s)", err.where, err.what);
    is_sql(dir, "UPDATE repeat SET number=9 WHERE trial=7", "", "somebody's hand was in a repeat");
    is_int(db_verify(db, &err), ST_ECORRUPT, "which a verification finds (%s)", err.where);
    is_sql(dir, "UPDATE repeat SET number=2 WHERE trial=7", "", "put right");
    is_sql(dir, "UPDATE estimate SET low=0 WHERE trial=2", "", "and in an estimate");
    is_int(db_verify(db, &err), ST_ECORRUPT, "found as well (%s)", err.where);
    is_sql(dir, "UPDATE repeat SET kind='score' WHERE trial=7", "", "a kind that there is not");
    struct archive *a = NULL;
    is_int(archive_load(&a, db, 1, job, &err), ST_OK, "is read all the same");
    is_int(a ? archive_damaged(a, NULL) : 0, 1, "its trial is left out");
    archive_free(a);
    archive_free(folded);
    job_free(job);
    db_close(db);
    temp_remove(dir);
    return tap_done();
}
