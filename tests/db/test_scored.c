/* Candidates that are scored first: what their events leave in the tables, what is refused; an archive that is loaded is the one that was folded. */
#include "tests/db/db.h"

#define JOB "{\"evaluator\":\"external\",\"space\":{\"type\":\"custom\",\"knobs\":{\"a\":{\"choice\":[0,1,2,3]},\"b\":{\"choice\":[0,1,2,3]},\"c\":{\"choice\":[0,1,2,3]}}},\"objectives\":[\"f\"]}"
#define DRAFT(trial, proposal, digit) \
    "{\"trial\":" trial ",\"proposal\":" proposal ",\"arch_id\":\"" ID(digit) "\",\"arch\":\"{}\",\"genome\":[1,2,3],\"origin\":{},\"seed\":1,\"paper\":{\"params\":5},\"score\":true}"
#define SCORED(trial, lease, epoch, value) \
    "{\"trial\":" trial ",\"lease\":" lease ",\"epoch\":" epoch ",\"device\":1,\"busy_s\":0.5,\"metrics\":{\"proxy.snip\":" value "}}"

static struct db *db;
static struct archive *folded;
static struct job *job;
static char *dir;

static void compare(const char *what)
{
    struct base_err err = BASE_ERR_INIT;
    struct archive *a;
    if (archive_load(&a, db, 1, job, &err)) {
        ok(false, "%s: %s", what, err.what);
        return;
    }
    long bad = archive_count(a) != archive_count(folded) || archive_planned(a) != archive_planned(folded) || archive_reported(a) != archive_reported(folded) ||
               archive_evaluations(a) != archive_evaluations(folded) || archive_rung_reached(a, 0) != archive_rung_reached(folded, 0);
    for (int s = 0; s < TRIAL_STATES; s++) bad += archive_count_state(a, (enum trial_state)s) != archive_count_state(folded, (enum trial_state)s);
    for (long row = 0; row < archive_count(a); row++) {
        int c = archive_metric(a, "proxy.snip"), k = archive_metric(folded, "proxy.snip");
        double x = c < 0 ? NAN : archive_value(a, c, row, 0), y = k < 0 ? NAN : archive_value(folded, k, row, 0);
        bad += archive_state(a, row) != archive_state(folded, row) || archive_epoch(a, row) != archive_epoch(folded, row) || !(x == y || (isnan(x) && isnan(y)));
    }
    for (long i = 0; i < archive_reported(a); i++) bad += archive_reported_busy_s(a, i) != archive_reported_busy_s(folded, i);
    is_int(bad, 0, "%s: loaded as folded", what);
    archive_free(a);
}

int main(void)
{
    struct base_err err = BASE_ERR_INIT;
    dir = temp_dir();
    db = open_or_die(dir);
    if (job_parse(&job, JOB, strlen(JOB), "job", &err)) return 1;
    begin_search(db);
    if (archive_load(&folded, db, 1, job, &err)) return 1;
    event_both(db, folded, "proposed", DRAFT("1", "0", "0a"));
    event_both(db, folded, "proposed", DRAFT("2", "1", "0b"));
    event_both(db, folded, "proposed", DRAFT("3", "2", "0c"));
    event_both(db, folded, "proposed", PROPOSED("4", "3", "0d"));
    is_sql(dir, "SELECT group_concat(state) FROM trial", "ready,ready,ready,ready", "drafts are ready");
    is_int(archive_planned(folded), 1, "but not planned to be trained");
    compare("drafts");
    event_refused(db, "chosen", "{\"trial\":1,\"passed\":[]}", ST_ESTATE, "choosing what is not scored");
    event_both(db, folded, "leased", LEASED("1", "1", "1"));
    event_refused(db, "reported", REPORTED("1", "1", "1"), ST_ESTATE, "a result of what is out to be scored");
    compare("out");
    is_sql(dir, "SELECT state FROM trial WHERE id=1", "leased", "out to be scored is leased");
    event_both(db, folded, "returned", "{\"trial\":1,\"lease\":1,\"epoch\":1,\"reason\":\"r\",\"busy_s\":0.25}");
    compare("given back");
    is_int(archive_state(folded, 0), TRIAL_DRAFT, "given back it is a draft again");
    event_both(db, folded, "leased", LEASED("1", "2", "2"));
    event_both(db, folded, "scored", SCORED("1", "2", "2", "7.5"));
    event_both(db, folded, "leased", LEASED("2", "3", "1"));
    event_both(db, folded, "scored", SCORED("2", "3", "1", "2.5"));
    event_both(db, folded, "leased", LEASED("4", "4", "1"));
    event_refused(db, "scored", SCORED("4", "4", "1", "1"), ST_ESTATE, "scores of what is out to be trained");
    event_both(db, folded, "reported", REPORTED("4", "4", "1"));
    compare("scored");
    is_sql(dir, "SELECT state,reported,busy_s FROM trial WHERE id<3", "scored|-|0.75\nscored|-|0.5", "scored, and no report");
    is_sql(dir, "SELECT trial,rung,name,median FROM metric WHERE name='proxy.snip' ORDER BY trial", "1|0|proxy.snip|7.5\n2|0|proxy.snip|2.5", "their scores");
    is_sql(dir, "SELECT busy_s FROM job", "3.75", "their time is the job's");
    is_int(archive_evaluations(folded), 1, "and they are no evaluations");
    event_refused(db, "chosen", "{\"trial\":1,\"passed\":[3]}", ST_ESTATE, "passing over what is not scored");
    event_refused(db, "chosen", "{\"trial\":1,\"passed\":[1]}", ST_EINVAL, "passing over what is chosen");
    event_refused(db, "chosen", "{\"trial\":1,\"passed\":[99]}", ST_ESTATE, "passing over nobody");
    event_both(db, folded, "chosen", "{\"trial\":1,\"passed\":[2]}");
    compare("chosen");
    is_sql(dir, "SELECT state FROM trial WHERE id<3", "ready\npassed", "one is to be trained, the other is passed over");
    is_int(archive_planned(folded), 2, "as is planned");
    event_both(db, folded, "leased", LEASED("1", "5", "3"));
    event_both(db, folded, "reported", REPORTED("1", "5", "3"));
    event_both(db, folded, "chosen", "{\"trial\":2,\"passed\":[]}");
    compare("trained");
    is_sql(dir, "SELECT name,median FROM metric WHERE trial=1 AND name LIKE 'proxy%'", "proxy.snip|7.5", "scores stay when it is trained");
    event_refused(db, "filter", "{\"on\":1,\"proposal\":0}", ST_EINVAL, "a filter that is neither on nor off");
    json_t *f = NULL;
    event_both(db, folded, "filter", "{\"on\":true,\"proposal\":3}");
    ok(!db_job_filter(db, 1, &f, NULL) && json_is_true(json_object_get(f, "on")), "the last filter event is read");
    json_decref(f);
    ok(!db_verify(db, &err), "the tables are what the events say (%s: %s)", err.where, err.what);
    archive_free(folded);
    job_free(job);
    db_close(db);
    temp_remove(dir);
    return tap_done();
}
