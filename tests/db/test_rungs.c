/* Rungs in the tables: what a promotion keeps of the rung below, what holds on after it, what is refused; as another SQLite client sees it. */
#include "tests/db/db.h"

#define ANCHOR ID("5e")
#define BELIEF "\"ratio\":[1.5,1.25,2.0],\"anchor\":\"" ANCHOR "\",\"converged\":true,\"disturbed\":0.125,\"rejected\":4"
#define LEASE(lease, epoch) "{\"trial\":10,\"lease\":" lease ",\"epoch\":" epoch
#define OUT(lease, epoch) LEASE(lease, epoch) ",\"evaluator\":4,\"task\":\"train\",\"device\":1,\"expires\":99}"
#define OK(lease, epoch) LEASE(lease, epoch) ",\"status\":\"ok\",\"device\":1,\"busy_s\":1,\"metrics\":"
#define FILE_OF(name, tokens) "{\"path\":\"/c/" name "\",\"hash\":\"" name "\",\"bytes\":10,\"tokens\":" tokens "}"

static json_t *trial(struct db *db)
{
    json_t *o = NULL;
    db_trial_json(db, 10, &o, NULL);
    return o;
}

static void is_part(struct db *db, const char *key, const char *want, const char *what)
{
    json_t *o = trial(db);
    char *got = json_dumps(json_object_get(o, key), JSON_COMPACT | JSON_ENCODE_ANY | JSON_SORT_KEYS);
    is_str(got, want, "%s", what);
    free(got);
    json_decref(o);
}

int main(void)
{
    char *dir = temp_dir();
    struct base_err err = BASE_ERR_INIT;
    struct db *db = open_or_die(dir);
    begin_search(db);
    ok(!event(db, 1, "proposed", PROPOSED("10", "0", "0a")), "proposed");
    event_refused(db, "promoted", "{\"trial\":10,\"rung\":1}", ST_ESTATE, "a trial without a result is not promoted");
    ok(!event(db, 1, "leased", OUT("5", "1")), "out");
    ok(!event(db, 1, "reported",
              OK("5", "1") "{\"decode_ms@64\":{\"median\":2,\"low\":1,\"high\":3,\"n\":30," BELIEF "},\"valid_bpb\":0.1},"
                           "\"curve\":[[100,4],[200,3]],\"checkpoint\":" FILE_OF("w0", "200") ",\"stable\":" FILE_OF("s0", "160") "}"),
       "reported on rung 0");
    is_sql(dir, "SELECT path,tokens FROM checkpoint UNION ALL SELECT path,tokens FROM stable", "/c/w0|200.0\n/c/s0|160.0",
           "its weights, and what a promotion goes on from");
    event_refused(db, "promoted", "{\"trial\":10,\"rung\":2}", ST_ESTATE, "no rung is left out");
    event_refused(db, "promoted", "{\"trial\":11,\"rung\":1}", ST_ENOTFOUND, "nor is a trial that is not there promoted");

    ok(!event(db, 1, "promoted", "{\"trial\":10,\"rung\":1}"), "promoted");
    is_sql(dir, "SELECT state,rung,reported FROM trial", "ready|1|1001", "it is ready, on rung 1");
    is_sql(dir, "SELECT rung,name,device,median,low,high,n,ratio,anchor,converged,disturbed,rejected FROM metric ORDER BY name",
           "0|decode_ms@64|1|2.0|1.0|3.0|30|1.5|" ANCHOR "|1|0.125|4\n0|params|-|1200.0|-|-|-|-|-|-|-|-\n0|valid_bpb|1|0.1|-|-|-|-|-|-|-|-\n"
           "0|weight_bytes|-|4800.0|-|-|-|-|-|-|-|-",
           "what it was reported with stands there as of rung 0");
    is_sql(dir, "SELECT rung,tokens,loss FROM curve", "0|100|4\n0|200|3", "so does its curve");
    is_sql(dir, "SELECT path,tokens FROM checkpoint", "/c/s0|160.0", "it goes on from before the decay");
    is_sql(dir, "SELECT count(*) FROM stable", "0", "which is nobody else's");
    is_part(db, "rungs",
            "[{\"checkpoint\":{\"bytes\":10,\"hash\":\"w0\",\"path\":\"/c/w0\",\"tokens\":200.0},\"curve\":[[100,4],[200,3]],\"metrics\":"
            "{\"decode_ms@64\":2,\"params\":1200,\"valid_bpb\":0.10000000000000001,\"weight_bytes\":4800},\"reported\":1001,\"rung\":0}]",
            "trial.get has the rung below");
    event_refused(db, "promoted", "{\"trial\":10,\"rung\":2}", ST_ESTATE, "not twice without a result between");

    /* On rung 1 it is not profiled again, and a metric comes that sorts before the others. */
    ok(!event(db, 1, "leased", OUT("6", "2")), "out");
    ok(!event(db, 1, "progress", LEASE("6", "2") ",\"curve\":[[300,2.5]],\"checkpoint\":" FILE_OF("p1", "300") "}"), "progress");
    ok(!event(db, 1, "reported", OK("6", "2") "{\"a\":{\"median\":7,\"rejected\":1},\"valid_bpb\":0.05},\"curve\":[[600,2]],\"checkpoint\":" FILE_OF("w1", "600") "}"),
       "reported on rung 1");
    is_sql(dir, "SELECT rung,name,median,n,ratio,rejected FROM metric WHERE rung=1 ORDER BY name",
           "1|a|7.0|-|-|1\n1|decode_ms@64|2.0|30|1.5|4\n1|params|1200.0|-|-|-\n1|valid_bpb|0.05|-|-|-\n1|weight_bytes|4800.0|-|-|-",
           "what was not measured again holds on, with how far it can be believed");
    is_sql(dir, "SELECT rung,tokens FROM curve ORDER BY rung,tokens", "0|100\n0|200\n1|300\n1|600", "each rung has its curve");
    is_part(db, "metrics",
            "{\"a\":{\"device\":1,\"median\":7,\"rejected\":1},\"decode_ms@64\":{\"anchor\":\"" ANCHOR
            "\",\"converged\":true,\"device\":1,\"disturbed\":0.125,\"high\":3,\"low\":1,\"median\":2,\"n\":30,\"ratio\":[1.5,1.25,2.0],\"rejected\":4},"
            "\"params\":{\"median\":1200},\"valid_bpb\":{\"device\":1,\"median\":0.050000000000000003},\"weight_bytes\":{\"median\":4800}}",
            "trial.get has the newest of each");
    ok(!event(db, 1, "promoted", "{\"trial\":10,\"rung\":2}"), "promoted again, without a checkpoint of its own");
    is_sql(dir, "SELECT path FROM checkpoint", "/c/w1", "then it goes on from what it has");
    ok(!event(db, 1, "leased", OUT("7", "3")), "out");
    ok(!event(db, 1, "reported", OK("7", "3") "{\"decode_ms@64\":1.5,\"valid_bpb\":0.04}}"), "reported on rung 2");
    is_sql(dir, "SELECT median,n,ratio FROM metric WHERE rung=2 AND name='decode_ms@64'", "1.5|-|-", "what is measured again replaces all of it");
    is_sql(dir, "SELECT rung,median FROM metric WHERE name='valid_bpb' ORDER BY rung", "0|0.1\n1|0.05\n2|0.04", "three rungs");

    ok(!event(db, 1, "proposed", PROPOSED("11", "1", "0b")) &&
           !event(db, 1, "leased", "{\"trial\":11,\"lease\":8,\"epoch\":1,\"evaluator\":4,\"task\":\"train\",\"device\":1,\"expires\":99}"),
       "another is out");
    event_refused(db, "pruned", "{\"trial\":11,\"lease\":8,\"epoch\":2,\"device\":1,\"reason\":\"r\",\"busy_s\":1}", ST_ESTALE, "not on another's lease");
    event_refused(db, "pruned", "{\"trial\":11,\"lease\":8,\"epoch\":1,\"device\":1,\"busy_s\":1}", ST_EINVAL, "nor without a reason");
    ok(!event(db, 1, "pruned", "{\"trial\":11,\"lease\":8,\"epoch\":1,\"device\":1,\"reason\":\"trial 10 is better\",\"busy_s\":1,\"by\":10,\"curve\":[[50,5]]}"),
       "pruned");
    is_sql(dir, "SELECT state,error,busy_s FROM trial WHERE id=11", "pruned|trial 10 is better|1.0", "its end");
    is_sql(dir, "SELECT count(*) FROM lease", "0", "it is out no longer");
    event_refused(db, "promoted", "{\"trial\":11,\"rung\":1}", ST_ESTATE, "and is not promoted");

    ok(!db_verify(db, &err), "the tables are what the events say (%s: %s)", err.where, err.what);
    is_sql(dir, "UPDATE trial_rung SET busy_total=9 WHERE rung=1", "", "somebody's hand was in a rung");
    is_int(db_verify(db, &err), ST_ECORRUPT, "which a verification finds");
    is_str(err.where, "trial_rung[trial=10][rung=1].busy_total", "where");
    db_close(db);
    temp_remove(dir);
    return tap_done();
}
