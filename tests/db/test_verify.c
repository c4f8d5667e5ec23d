/* db_verify finds every difference that somebody plants, and names it. */
#include "tests/db/db.h"

static void tampered(struct db *db, const char *dir, const char *change, const char *where, const char *undo)
{
    struct base_err err = BASE_ERR_INIT;
    is_sql(dir, change, "", "%s", change);
    is_int(db_verify(db, &err), ST_ECORRUPT, "is found");
    ok(strstr(err.where, where) != NULL, "at %s: %s", err.where, err.what);
    is_sql(dir, undo, "", "undone");
    ok(!db_verify(db, &err), "and all is well again (%s: %s)", err.where, err.what);
}

int main(void)
{
    char *dir = temp_dir();
    struct db *db = open_or_die(dir);
    struct base_err err = BASE_ERR_INIT;
    ok(!db_verify(db, &err), "an empty store is well");
    begin_search(db);
    ok(!event(db, 1, "proposed", PROPOSED("1", "0", "0a")) && !event(db, 1, "leased", LEASED("1", "1", "1")) &&
           !event(db, 1, "reported", REPORTED("1", "1", "1")),
       "a trial that is done");
    ok(!event(db, 1, "proposed", PROPOSED("2", "1", "0b")) && !event(db, 1, "leased", LEASED("2", "2", "1")),
       "one that is out");
    char body[4096];
    int n = snprintf(
        body, sizeof body,
        "{\"trial\":3,\"lease\":3,\"epoch\":1,\"status\":\"ok\",\"device\":1,\"busy_s\":0.1,\"metrics\":{\"m0\":0");
    for (int i = 1; i < 40; i++) n += snprintf(body + n, sizeof body - (size_t)n, ",\"m%d\":%d.5", i, i);
    snprintf(body + n, sizeof body - (size_t)n, "}}");
    ok(!event(db, 1, "proposed", PROPOSED("3", "2", "0c")) && !event(db, 1, "leased", LEASED("3", "3", "1")) &&
           !event(db, 1, "reported", body),
       "one of many metrics");
    ok(!db_verify(db, &err), "the tables are what the events say (%s: %s)", err.where, err.what);

    tampered(db, dir, "UPDATE device SET kind='gpu'", "device[id=1].kind", "UPDATE device SET kind='cpu'");
    tampered(db, dir, "UPDATE evaluator SET name='f'", "evaluator[id=4].name", "UPDATE evaluator SET name='e'");
    tampered(db, dir, "UPDATE job_spec SET seed=8", "job_spec[id=1].seed", "UPDATE job_spec SET seed=7");
    tampered(db, dir, "UPDATE job_state SET busy_s=busy_s+1e-9", "job_state[id=1].busy_s",
             "UPDATE job_state SET busy_s=2.5+0.1");
    tampered(db, dir, "UPDATE trial_data SET m0=m0*1.0000000001 WHERE id=1", "trial_data[id=1].m0",
             "UPDATE trial_data SET m0=0.25 WHERE id=1");
    tampered(db, dir, "UPDATE trial_data SET state=2 WHERE id=2", "trial_data[id=2].state",
             "UPDATE trial_data SET state=1 WHERE id=2");
    tampered(db, dir, "UPDATE trial_data SET genome=x'00010204' WHERE id=3", "trial_data[id=3].genome",
             "UPDATE trial_data SET genome=x'00010203' WHERE id=3");
    tampered(db, dir, "UPDATE trial_data SET curve=NULL WHERE id=1", "trial_data[id=1].curve",
             "UPDATE trial_data SET curve='[[100,3.5],[200,2.25]]' WHERE id=1");
    tampered(db, dir, "UPDATE trial_more SET n0=1 WHERE chunk=2", "trial_more[trial=3][chunk=2].n0",
             "UPDATE trial_more SET n0=NULL WHERE chunk=2");
    ok(!event(db, 1, "supernet", "{\"state\":\"leased\",\"lease\":9,\"epoch\":1,\"evaluator\":4,\"device\":1,\"expires\":99}"), "a supernet that is out");
    tampered(db, dir, "UPDATE supernet SET state='ok'", "supernet[job=1].state", "UPDATE supernet SET state='leased'");
    tampered(db, dir, "DELETE FROM lease", "lease[trial=2]", "INSERT INTO lease VALUES(2,2,'train',4,1,99,1)");
    tampered(db, dir, "INSERT INTO lease VALUES(1,9,'train',4,1,99,1)", "lease[trial=1]",
             "DELETE FROM lease WHERE trial=1");
    tampered(db, dir, "UPDATE checkpoint SET bytes=1", "checkpoint[trial=1].bytes", "UPDATE checkpoint SET bytes=4096");
    tampered(db, dir, "UPDATE metric_set SET name='valid_loss' WHERE name='valid_bpb'",
             "metric_set[id=", "UPDATE metric_set SET name='valid_bpb' WHERE name='valid_loss'");
    tampered(db, dir, "UPDATE event SET body=replace(body,'2.25','2.26') WHERE type='reported'",
             "trial_data[id=1].curve", "UPDATE event SET body=replace(body,'2.26','2.25') WHERE type='reported'");
    tampered(db, dir, "UPDATE event SET body=body||'x' WHERE job=1 AND seq=3", "event[job=1][seq=3]",
             "UPDATE event SET body=rtrim(body,'x') WHERE job=1 AND seq=3");
    tampered(db, dir, "UPDATE event SET seq=100 WHERE job=1 AND seq=4", "event[job=1][seq=100]",
             "UPDATE event SET seq=4 WHERE job=1 AND seq=100");
    tampered(db, dir, "UPDATE event SET type='returned' WHERE job=1 AND seq=4", "event[job=1][seq=4]",
             "UPDATE event SET type='reported' WHERE job=1 AND seq=4");
    tampered(db, dir, "UPDATE event SET at=1 WHERE job=1 AND seq=4", "trial_data[id=1].reported_at",
             "UPDATE event SET at=1001 WHERE job=1 AND seq=4");
    db_close(db);
    temp_remove(dir);
    return tap_done();
}
