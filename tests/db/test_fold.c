/* Every event's rows, as another SQLite client sees them; what is refused; what is read back. */
#include "tests/db/db.h"

static void good_events(struct db *db, const char *dir)
{
    begin_search(db);
    is_sql(dir, "SELECT * FROM device", "1|cpu|{\"isa\":\"avx2\"}", "device row");
    is_sql(dir, "SELECT * FROM evaluator", "4|e|1", "evaluator row");
    is_sql(dir,
           "SELECT id,name,state,reason,submitted,seed,identity,at,evaluations,hours,joules,target,reference,busy_s "
           "FROM job",
           "1|n|running|-|{\"space\":\"lm-tiny\",\"budget\":{\"evaluations\":50,\"hours\":2}}|7|" ID(
               "ab") "|1001|50.0|2.0|-|-|-|0.0",
           "job row");
    ok(!event(db, 1, "state", "{\"state\":\"paused\",\"reason\":\"asked\"}"), "state");
    is_sql(dir, "SELECT state,reason FROM job", "paused|asked", "state and reason");
    ok(!event(db, 1, "state", "{\"state\":\"running\"}"), "state without a reason");
    is_sql(dir, "SELECT state,reason FROM job", "running|-", "the reason is gone");
    ok(!event(db, 1, "budget", "{\"evaluations\":60,\"joules\":1e6}"), "budget");
    is_sql(dir, "SELECT evaluations,hours,joules FROM job", "60.0|-|1000000.0",
           "a budget replaces the old one as a whole");
    ok(!event(db, 1, "target", "{\"device\":1}"), "target");
    ok(!event(db, 1, "reference", "{\"point\":[2.5,-3,1e9]}"), "reference");
    is_sql(dir, "SELECT target,reference FROM job", "1|[2.5,-3,1000000000]", "target and reference");

    ok(!event(db, 1, "proposed", PROPOSED("10", "0", "0a")), "proposed");
    is_sql(dir, "SELECT id,job,proposal,arch,origin,rung,state,seed,epoch,device,error FROM trial",
           "10|1|0|" ID("0a") "|{\"op\":\"sample\",\"parents\":[]}|0|ready|7|0|-|-", "trial row");
    is_sql(dir, "SELECT id,canonical,params,weight_bytes,paper FROM arch",
           ID("0a") "|{\"w\":1}|1200|4800|{\"params\":1200,\"weight_bytes\":4800}", "arch row");
    is_sql(dir, "SELECT trial,rung,name,device,repeat,median,low,high,n FROM metric",
           "10|0|params|-|0|1200.0|-|-|-\n10|0|weight_bytes|-|0|4800.0|-|-|-", "paper costs stand in metric");
    ok(!event(db, 1, "leased", LEASED("10", "5", "1")), "leased");
    is_sql(dir, "SELECT trial,task,evaluator,epoch,expires,lease,device FROM lease", "10|train|4|1|99|5|1",
           "lease row");
    is_sql(dir, "SELECT state,epoch FROM trial", "leased|1", "the trial is out");
    ok(!event(db, 1, "progress",
              "{\"trial\":10,\"lease\":5,\"epoch\":1,\"curve\":[[100,4.0],[50,5]],"
              "\"checkpoint\":{\"path\":\"/c/0\",\"hash\":\"aa\",\"bytes\":10,\"tokens\":100}}"),
       "progress");
    is_sql(dir, "SELECT * FROM curve", "10|0|50|5\n10|0|100|4", "its curve, by tokens");
    is_sql(dir, "SELECT trial,path,hash,bytes,tokens FROM checkpoint", "10|/c/0|aa|10|100.0", "its checkpoint");
    ok(!event(db, 1, "returned", "{\"trial\":10,\"lease\":5,\"epoch\":1,\"reason\":\"gone\",\"busy_s\":1.25}"),
       "returned");
    is_sql(dir, "SELECT state,epoch,busy_s FROM trial", "ready|1|1.25", "the trial waits again");
    is_sql(dir, "SELECT count(*) FROM lease", "0", "no lease is left");
    is_sql(dir, "SELECT busy_s,spent_joules FROM job", "1.25|0.0", "its time counts");
    ok(!event(db, 1, "leased", LEASED("10", "6", "2")), "leased again");
    ok(!event(db, 1, "reported", REPORTED("10", "6", "2")), "reported");
    is_sql(dir, "SELECT state,epoch,device,busy_s,joules,reported,error FROM trial", "ok|2|1|3.75|10.0|1001|-",
           "the trial is done");
    is_sql(dir, "SELECT name,device,median,low,high,n FROM metric WHERE trial=10 ORDER BY name",
           "decode_ms@256|1|0.25|0.2|0.3|30\nparams|-|1200.0|-|-|-\nvalid_bpb|1|1.5|-|-|-\nweight_bytes|-|4800.0|-|-|-",
           "its metrics");
    is_sql(dir, "SELECT tokens,loss FROM curve WHERE trial=10", "50|5\n100|3.5\n200|2.25",
           "the report's points replace those before it");
    is_sql(dir, "SELECT path,tokens FROM checkpoint", "/c/1|200.0", "the last checkpoint");
    is_sql(dir, "SELECT busy_s,spent_joules FROM job", "3.75|10.0", "time and energy of the job");

    ok(!event(db, 1, "proposed", PROPOSED("11", "1", "0b")), "a second trial");
    ok(!event(db, 1, "leased", LEASED("11", "7", "1")), "out");
    ok(!event(db, 1, "reported",
              "{\"trial\":11,\"lease\":7,\"epoch\":1,\"status\":\"failed\",\"device\":1,\"metrics\":{\"params\":1201},"
              "\"error\":\"out of memory\",\"curve\":[[1,null]],\"busy_s\":1}"),
       "failed");
    is_sql(dir, "SELECT state,error,joules FROM trial WHERE id=11", "failed|out of memory|-", "why it failed");
    is_sql(dir, "SELECT name,device,median FROM metric WHERE trial=11", "params|1|1201.0\nweight_bytes|-|4800.0",
           "a measurement replaces the paper's");
    is_sql(dir, "SELECT tokens,loss FROM curve WHERE trial=11", "1|-", "a loss that is not a number");
    is_sql(dir, "SELECT job,min(seq),max(seq),count(*) FROM event GROUP BY job", "0|1|2|2\n1|1|15|15",
           "events are numbered without gaps");
    is_sql(dir, "SELECT type,at,body FROM event WHERE job=1 AND seq=7", "proposed|1001|" PROPOSED("10", "0", "0a"),
           "and kept as they were");
    ok(!event(db, 1, "precision", "{\"precision\":\"bf16\"}"), "precision");
    json_t *by = NULL;
    ok(!db_job_strategy(db, 1, &by, NULL) && !by, "nobody took over yet");
    ok(!event(db, 1, "strategy", "{\"proposal\":1,\"from\":\"nsga2\",\"to\":\"surrogate\",\"rho\":0.75}") &&
           !event(db, 1, "strategy", "{\"proposal\":2,\"from\":\"surrogate\",\"to\":\"nsga2\"}"),
       "strategies");
    ok(!event(db, 1, "flat", "{\"metric\":\"f\",\"value\":1,\"results\":4}") && !event(db, 1, "unmet", "{\"results\":4,\"trial\":1,\"breaks\":\"f 2 (at most 1: 100 % over)\"}"),
       "what a search is told is kept as events");
    ok(!db_job_strategy(db, 1, &by, NULL) && by && json_integer_value(json_object_get(by, "proposal")) == 2, "the last one is read");
    json_decref(by);
}

#define SUPER(state, lease, epoch) "{\"state\":\"" state "\",\"lease\":" lease ",\"epoch\":" epoch
#define SUPER_LEASED(lease, epoch) SUPER("leased", lease, epoch) ",\"evaluator\":4,\"device\":1,\"expires\":99}"
#define SUPER_FILE ",\"checkpoint\":{\"path\":\"/s\",\"hash\":\"ab\",\"bytes\":12,\"tokens\":640}"

static st_t see_super(void *ctx, const struct db_lease *l)
{
    *(int *)ctx += l->lease == 71 && l->trial == 0 && l->job == 5 && l->evaluator == 4 && l->epoch == 2 && l->expires_ms == 99 && l->holds;
    return ST_OK;
}

static void supernets(struct db *db, const char *dir)
{
    json_t *s = NULL;
    int n = 0;
    ok(!event(db, 5, "submitted", SUBMITTED) && !db_job_supernet(db, 5, &s, NULL) && !s, "a job without a supernet");
    ok(!event(db, 5, "supernet", SUPER_LEASED("70", "1")) && !event(db, 5, "supernet", SUPER("saved", "70", "1") SUPER_FILE "}") &&
           !event(db, 5, "supernet", SUPER("ready", "70", "1") ",\"reason\":\"r\",\"busy_s\":1.5}"),
       "leased, saved, given back");
    is_sql(dir, "SELECT * FROM supernet", "5|ready|1|70|4|1|99|1.5|-|-|/s|ab|12|640.0", "its row");
    is_sql(dir, "SELECT busy_s FROM job WHERE id=5", "1.5", "its time is the job's");
    ok(!event(db, 5, "supernet", SUPER_LEASED("71", "2")) && !db_leases(db, see_super, &n) && n == 1, "out again: among the leases, of no trial");
    is_int(event(db, 5, "supernet", SUPER_LEASED("72", "3")), ST_ESTATE, "refused: leased twice");
    is_int(event(db, 5, "supernet", SUPER("saved", "70", "1") SUPER_FILE "}"), ST_ESTALE, "refused: a checkpoint of an old lease");
    is_int(event(db, 5, "supernet", SUPER("ok", "71", "2") ",\"busy_s\":1}"), ST_EINVAL, "refused: trained without a file");
    is_int(event(db, 5, "supernet", SUPER("ready", "71", "2") ",\"busy_s\":1}"), ST_EINVAL, "refused: given back for no reason");
    is_int(event(db, 5, "supernet", SUPER("lost", "71", "2") "}"), ST_EINVAL, "refused: a state that it has not");
    ok(!event(db, 5, "supernet", SUPER("failed", "71", "2") ",\"busy_s\":1,\"error\":\"nan\"}"), "failed");
    is_int(event(db, 5, "supernet", SUPER_LEASED("72", "2")), ST_ESTALE, "refused: an old epoch");
    ok(!event(db, 5, "supernet", SUPER_LEASED("72", "3")) && !event(db, 5, "supernet", SUPER("ok", "72", "3") SUPER_FILE ",\"busy_s\":2,\"joules\":4}"),
       "once more, to its end");
    is_int(event(db, 5, "supernet", SUPER_LEASED("73", "4")), ST_ESTATE, "refused: leasing what is trained");
    is_sql(dir, "SELECT state,epoch,busy_s,joules,error FROM supernet", "ok|3|4.5|4.0|-", "trained");
    is_sql(dir, "SELECT busy_s,spent_joules FROM job WHERE id=5", "4.5|4.0", "time and energy");
    ok(!db_job_supernet(db, 5, &s, NULL) && s, "read back");
    char *text = json_dumps(s, JSON_COMPACT | JSON_SORT_KEYS);
    is_str(text, "{\"busy_s\":4.5,\"checkpoint\":{\"bytes\":12,\"hash\":\"ab\",\"path\":\"/s\",\"tokens\":640},\"device\":1,\"epoch\":3,\"joules\":4,\"state\":\"ok\"}", "as it is");
    free(text);
    json_decref(s);
}

static void many_metrics(struct db *db, const char *dir)
{
    char body[8192], want[64];
    int n = snprintf(body, sizeof body,
                     "{\"trial\":12,\"lease\":8,\"epoch\":1,\"status\":\"ok\",\"device\":1,\"busy_s\":0,\"metrics\":{");
    for (int i = 0; i < 100; i++)
        n += snprintf(body + n, sizeof body - (size_t)n, "%s\"m%d\":{\"median\":%d,\"low\":%d,\"high\":%d,\"n\":3}",
                      i ? "," : "", i, i, i - 1, i + 1);
    snprintf(body + n, sizeof body - (size_t)n, "}}");
    ok(!event(db, 1, "proposed", PROPOSED("12", "2", "0a")) && !event(db, 1, "leased", LEASED("12", "8", "1")) &&
           !event(db, 1, "progress", "{\"trial\":12,\"lease\":8,\"epoch\":1,\"curve\":[[5,1.5]]}") &&
           !event(db, 1, "reported", body),
       "a report of a hundred metrics");
    is_sql(dir, "SELECT tokens,loss FROM curve WHERE trial=12", "5|1.5",
           "a report without a curve keeps what there was");
    is_sql(dir, "SELECT count(*),sum(median),sum(low),sum(high),sum(n) FROM metric WHERE trial=12 AND name LIKE 'm%'",
           "100|4950.0|4850.0|5050.0|300", "all are there");
    for (int i = 0; i < 100; i += 33) {
        char sql[128];
        snprintf(sql, sizeof sql, "SELECT median,low,high,n FROM metric WHERE trial=12 AND name='m%d'", i);
        snprintf(want, sizeof want, "%d.0|%d.0|%d.0|3", i, i - 1, i + 1);
        is_sql(dir, sql, want, "m%d", i);
    }
    is_sql(dir, "SELECT count(*) FROM arch", "2", "an architecture tried twice is one");
}

struct refusal {
    int64_t job;
    const char *type, *body;
    st_t st;
    const char *what;
};

static void refusals(struct db *db, const char *dir)
{
    static const struct refusal R[] = {
        {1, "guessed", "{}", ST_EINVAL, "unknown type"},
        {1, "state", "{}", ST_EINVAL, "missing key"},
        {1, "state", "{\"state\":\"lost\"}", ST_EINVAL, "unknown state"},
        {1, "state", "{\"state\":3}", ST_EINVAL, "wrong type"},
        {0, "state", "{\"state\":\"done\"}", ST_EINVAL, "a job's event on the service"},
        {1, "device", "{\"id\":2,\"kind\":\"cpu\",\"body\":{}}", ST_EINVAL, "the service's event on a job"},
        {0, "device", "{\"id\":1,\"kind\":\"cpu\",\"body\":{}}", ST_EEXIST, "a device twice"},
        {0, "evaluator", "{\"evaluator\":1,\"name\":\"x\",\"device\":9}", ST_EINVAL, "an evaluator on no device"},
        {9, "state", "{\"state\":\"done\"}", ST_ENOTFOUND, "no such job"},
        {1, "submitted", SUBMITTED, ST_EEXIST, "a job twice"},
        {3, "submitted", "{\"name\":\"n\",\"seed\":1,\"job\":[],\"identity\":\"\"}", ST_EINVAL,
         "a job that is no object"},
        {1, "budget", "{\"hours\":-1}", ST_EINVAL, "a budget below zero"},
        {1, "target", "{\"device\":7}", ST_EINVAL, "a target that is no device"},
        {1, "precision", "{\"precision\":\"fp4\"}", ST_EINVAL, "a precision that nobody has"},
        {1, "strategy", "{\"proposal\":1,\"from\":\"nsga2\"}", ST_EINVAL, "a strategy that is not named"},
        {1, "strategy", "{\"proposal\":-1,\"from\":\"nsga2\",\"to\":\"surrogate\"}", ST_EINVAL, "a strategy before the first proposal"},
        {1, "strategy", "{\"proposal\":1,\"from\":\"nsga2\",\"to\":\"surrogate\",\"rho\":2}", ST_EINVAL, "a correlation above 1"},
        {1, "flat", "{\"metric\":\"f\",\"value\":1}", ST_EINVAL, "an objective that does not vary, over nobody knows how many results"},
        {1, "flat", "{\"metric\":\"f\",\"results\":4}", ST_EINVAL, "one that is the same as nobody knows what"},
        {1, "unmet", "{\"results\":4,\"trial\":1}", ST_EINVAL, "constraints that nothing meets, and nobody knows which"},
        {1, "reference", "{\"point\":[]}", ST_EINVAL, "a reference of no objective"},
        {1, "reference", "{\"point\":[1,2,3,4,5,6,7,8,9]}", ST_EINVAL, "a reference of too many"},
        {1, "proposed", PROPOSED("10", "3", "0c"), ST_EEXIST, "a trial's id twice"},
        {1, "proposed", PROPOSED("20", "7", "0c"), ST_EINVAL, "a proposal out of order"},
        {1, "proposed", PROPOSED("20", "3", "0C"), ST_EINVAL, "an architecture's id in capitals"},
        {1, "proposed",
         "{\"trial\":20,\"proposal\":3,\"arch_id\":\"" ID(
             "0c") "\",\"arch\":\"\",\"genome\":[\"x\"],\"origin\":{},\"seed\":1,\"paper\":{}}",
         ST_EINVAL, "a gene that is no number"},
        {1, "proposed",
         "{\"trial\":20,\"proposal\":3,\"arch_id\":\"" ID(
             "0c") "\",\"arch\":\"\",\"genome\":[1],\"origin\":{},\"seed\":1,\"paper\":{\"a b\":1}}",
         ST_EINVAL, "a metric's name with a blank"},
        {1, "leased", LEASED("20", "9", "1"), ST_ENOTFOUND, "no such trial"},
        {1, "leased", LEASED("10", "9", "3"), ST_ESTATE, "a trial that is done"},
        {1, "leased", LEASED("13", "9", "1"), ST_ESTALE, "an old epoch"},
        {1, "reported", REPORTED("10", "6", "2"), ST_ESTALE, "a report twice"},
        {1, "reported", REPORTED("14", "10", "9"), ST_ESTALE, "another epoch"},
        {1, "reported", REPORTED("14", "9", "1"), ST_ESTALE, "another lease"},
        {1, "reported",
         "{\"trial\":14,\"lease\":10,\"epoch\":1,\"status\":\"so-so\",\"device\":1,\"metrics\":{},\"busy_s\":1}",
         ST_EINVAL, "unknown status"},
        {1, "reported",
         "{\"trial\":14,\"lease\":10,\"epoch\":1,\"status\":\"ok\",\"device\":2,\"metrics\":{},\"busy_s\":1}",
         ST_EINVAL, "no such device"},
        {1, "reported",
         "{\"trial\":14,\"lease\":10,\"epoch\":1,\"status\":\"ok\",\"device\":1,\"metrics\":{\"a\":\"1\"},\"busy_s\":"
         "1}",
         ST_EINVAL, "a metric in words"},
        {1, "reported",
         "{\"trial\":14,\"lease\":10,\"epoch\":1,\"status\":\"ok\",\"device\":1,\"metrics\":{\"a\":{\"median\":1,"
         "\"low\":0}},\"busy_s\":1}",
         ST_EINVAL, "half an interval"},
        {1, "reported",
         "{\"trial\":14,\"lease\":10,\"epoch\":1,\"status\":\"ok\",\"device\":1,\"metrics\":{},\"curve\":[[1]],\"busy_"
         "s\":1}",
         ST_EINVAL, "half a point"},
        {1, "reported",
         "{\"trial\":14,\"lease\":10,\"epoch\":1,\"status\":\"ok\",\"device\":1,\"metrics\":{},\"checkpoint\":{"
         "\"path\":\"p\"},\"busy_s\":1}",
         ST_EINVAL, "half a checkpoint"},
        {1, "reported", "{\"trial\":14,\"lease\":10,\"epoch\":1,\"status\":\"ok\",\"device\":1,\"metrics\":{}}",
         ST_EINVAL, "no time"},
        {1, "progress", "{\"trial\":10,\"lease\":6,\"epoch\":2}", ST_ESTALE, "progress of what is done"},
        {1, "returned", "{\"trial\":14,\"lease\":10,\"epoch\":1,\"busy_s\":1}", ST_EINVAL, "no reason"},
        {2, "reported", REPORTED("14", "10", "1"), ST_ENOTFOUND, "a trial of another job"},
    };
    ok(!event(db, 2, "submitted", SUBMITTED), "a second job");
    ok(!event(db, 1, "proposed", PROPOSED("13", "3", "0d")) && !event(db, 1, "leased", LEASED("13", "9", "1")) &&
           !event(db, 1, "returned", "{\"trial\":13,\"lease\":9,\"epoch\":1,\"reason\":\"r\",\"busy_s\":0}") &&
           !event(db, 1, "proposed", PROPOSED("14", "4", "0e")) && !event(db, 1, "leased", LEASED("14", "10", "1")),
       "trials to refuse things about");
    static const char STATE[] =
        "SELECT (SELECT group_concat(hex(body)) FROM event),(SELECT group_concat(state||epoch) FROM trial),"
        "(SELECT group_concat(state||busy_s) FROM job),(SELECT count(*) FROM metric_set),(SELECT count(*) FROM lease)";
    char *before = ask(dir, STATE);
    ok(!db_begin(db), "one transaction for all that is refused");
    for (size_t i = 0; i < sizeof R / sizeof *R; i++) {
        struct base_err err = BASE_ERR_INIT;
        st_t st = event_in(db, R[i].job, R[i].type, R[i].body, &err);
        is_int(st, R[i].st, "refused: %s (%s: %s)", R[i].what, err.where, err.what);
        ok(err.what[0] && !strchr(err.what, '\n'), "in one line");
    }
    json_t *array = json_array();
    is_int(db_event_append(db, 1, "state", array, 0, NULL, NULL), ST_EINVAL, "refused: a body that is no object");
    json_decref(array);
    ok(!db_commit(db), "the transaction is none the worse");
    is_sql(dir, STATE, before, "nothing was written");
    free(before);
    is_int(event_in(db, 1, "state", "{\"state\":\"done\"}", NULL), ST_ESTATE, "an event outside a transaction");
}

static st_t see_job(void *ctx, const struct db_job *j)
{
    int *n = ctx;
    if (j->id == 1) {
        ok(!strcmp(j->name, "n") && !strcmp(j->state, "running") && !strcmp(j->identity, ID("ab")) && !j->reason &&
               !j->files,
           "db_jobs: words");
        ok(j->seed == 7 && j->evaluations == 60 && isinf(j->hours) && j->joules == 1e6 && j->device == 1,
           "db_jobs: numbers");
        ok(j->busy_s == 4.75 && j->spent_joules == 10 && j->submitted_ms == 1001, "db_jobs: spent");
        ok(j->nref == 3 && j->ref[0] == 2.5 && j->ref[1] == -3 && j->ref[2] == 1e9, "db_jobs: reference");
        ok(strstr(j->text, "lm-tiny") != NULL && j->last_seq > 15, "db_jobs: text");
    }
    ++*n;
    return ST_OK;
}

static st_t see_lease(void *ctx, const struct db_lease *l)
{
    *(int *)ctx +=
        l->lease == 10 && l->trial == 14 && l->job == 1 && l->evaluator == 4 && l->epoch == 1 && l->expires_ms == 99;
    return ST_OK;
}

static st_t see_device(void *ctx, const struct db_device *d)
{
    *(int *)ctx += d->id == 1 && !strcmp(d->kind, "cpu") && !strcmp(d->body, "{\"isa\":\"avx2\"}");
    return ST_OK;
}

static st_t see_event(void *ctx, const struct db_event *e)
{
    int64_t *last = ctx;
    if (e->seq != *last + 1 || e->job != 1 || e->at_ms != 1001) return ST_EINVAL;
    *last = e->seq;
    return *last == 9 ? ST_ECANCELED : ST_OK;
}

static void reading(struct db *db)
{
    int n = 0;
    ok(!db_jobs(db, 0, see_job, &n) && n == 2, "db_jobs: two");
    n = 0;
    ok(!db_jobs(db, 2, see_job, &n) && n == 1, "db_jobs: one of them");
    n = 0;
    ok(!db_leases(db, see_lease, &n) && n == 1, "db_leases");
    n = 0;
    ok(!db_devices(db, see_device, &n) && n == 1, "db_devices");
    int64_t last = 3;
    ok(db_events(db, 1, 3, 4, see_event, &last) == ST_OK && last == 7, "db_events: four after the third");
    is_int(db_events(db, 1, 7, -1, see_event, &last), ST_ECANCELED, "db_events: a callback ends the walk");

    struct base_err err = BASE_ERR_INIT;
    json_t *o, *want;
    static const char TRIAL[] = "{\"id\":10,\"job\":1,\"arch_id\":\"" ID(
        "0a") "\",\"arch\":{\"w\":1},\"state\":\"ok\",\"rung\":0,\"seed\":7,\"proposal\":0,"
              "\"origin\":{\"op\":\"sample\",\"parents\":[]},\"epoch\":2,\"reported\":1001,\"busy_s\":3.75,\"joules\":"
              "10,\"curve\":[[50,5],[100,3.5],[200,2.25]],"
              "\"metrics\":{\"decode_ms@256\":{\"median\":0.25,\"low\":0.2,\"high\":0.3,\"n\":30,\"device\":1},"
              "\"params\":{\"median\":1200},"
              "\"valid_bpb\":{\"median\":1.5,\"device\":1},\"weight_bytes\":{\"median\":4800}},"
              "\"checkpoint\":{\"path\":\"/c/"
              "1\",\"hash\":\"00ff\",\"bytes\":4096,\"tokens\":200},\"device\":{\"id\":1,\"kind\":\"cpu\",\"body\":{"
              "\"isa\":\"avx2\"}}}";
    ok(!db_trial_json(db, 10, &o, &err), "db_trial_json");
    ok(!base_json_parse(&want, TRIAL, strlen(TRIAL), "want", &err), "what is wanted of it");
    char *got = json_dumps(o, JSON_SORT_KEYS), *wanted = json_dumps(want, JSON_SORT_KEYS);
    is_str(got, wanted, "db_trial_json says everything");
    free(got);
    free(wanted);
    json_decref(o);
    json_decref(want);
    is_int(db_trial_json(db, 99, &o, &err), ST_ENOTFOUND, "no such trial");

    int64_t trial = 0;
    ok(!db_trial_by_arch(db, 1, "0a0a0A", &trial, &err) && trial == 12, "db_trial_by_arch: the newest");
    ok(!db_trial_by_arch(db, 0, ID("0b"), &trial, &err) && trial == 11, "db_trial_by_arch: a whole id");
    is_int(db_trial_by_arch(db, 2, "0a0a0a", &trial, &err), ST_ENOTFOUND, "not in that job");
    is_int(db_trial_by_arch(db, 1, "0a0a0", &trial, &err), ST_EINVAL, "five digits are too few");
    is_int(db_trial_by_arch(db, 1, "0a0a0x", &trial, &err), ST_EINVAL, "no digit");
    ok(!event(db, 1, "proposed",
              "{\"trial\":15,\"proposal\":5,\"arch_id\":\"0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0b\",\"arch\":\"{}\","
              "\"genome\":[],\"origin\":{},\"seed\":1,\"paper\":{}}"),
       "an architecture with a like id, no genes and no costs");
    is_int(db_trial_by_arch(db, 1, "0a0a0a", &trial, &err), ST_EEXIST, "two begin like that");

    is_int(db_next_id(db, DB_JOB), 3, "next job");
    is_int(db_next_id(db, DB_TRIAL), 16, "next trial");
    is_int(db_next_id(db, DB_TRIAL), 17, "and the one after it");
    is_int(db_next_id(db, DB_LEASE), 11, "next lease, past those that ended");
    is_int(db_next_id(db, DB_DEVICE), 2, "next device");
}

int main(void)
{
    char *dir = temp_dir();
    struct db *db = open_or_die(dir);
    struct base_err err = BASE_ERR_INIT;
    good_events(db, dir);
    many_metrics(db, dir);
    refusals(db, dir);
    reading(db);
    supernets(db, dir);
    db_close(db);
    db = open_or_die(dir);
    is_int(db_next_id(db, DB_LEASE), 73, "next lease, past those of supernets");
    ok(!db_verify(db, &err), "the tables are what the events say (%s: %s)", err.where, err.what);
    db_close(db);
    temp_remove(dir);
    return tap_done();
}
