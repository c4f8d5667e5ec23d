/* The audit's events: what they leave in the tables, what is refused; an archive that is loaded is the one that was folded. */
#include "tests/db/db.h"

#define JOB "{\"evaluator\":\"external\",\"space\":{\"type\":\"custom\",\"knobs\":{\"a\":{\"int\":[0,99]}}},\"objectives\":[\"f\"],\"fidelity\":{\"tokens\":900,\"rungs\":3}}"

static struct db *db;
static struct archive *folded;

static long differences(const struct archive *a, const struct archive *b)
{
    long bad = archive_audited(a) != archive_audited(b);
    int n, m;
    for (long i = 0; i < archive_audited(a) && !bad; i++)
        bad += archive_audited_row(a, i) != archive_audited_row(b, i) || archive_audited_how(a, i) != archive_audited_how(b, i);
    for (long row = 0; row < archive_count(a); row++) bad += archive_audit_rung(a, row) != archive_audit_rung(b, row);
    const struct archive_verdict *v = archive_verdicts(a, &n), *w = archive_verdicts(b, &m);
    bad += n != m;
    for (int i = 0; i < n && !bad; i++) bad += strcmp(v[i].shortcut, w[i].shortcut) || v[i].relied != w[i].relied || v[i].from != w[i].from;
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
    is_int(differences(folded, loaded), 0, "%s: loaded as folded", what);
    archive_free(loaded);
}

int main(void)
{
    char *dir = temp_dir(), text[512];
    struct base_err err = BASE_ERR_INIT;
    struct job *job;
    db = open_or_die(dir);
    if (job_parse(&job, JOB, strlen(JOB), "job", &err)) return 1;
    ok(!event(db, 0, "device", "{\"id\":1,\"kind\":\"cpu\",\"body\":{}}") && !event(db, 0, "evaluator", "{\"evaluator\":4,\"name\":\"e\",\"device\":1}"), "a device");
    event_both(db, folded, "submitted", "{\"name\":\"n\",\"seed\":1,\"job\":" JOB ",\"identity\":\"" ID("0a") "\"}");
    if (archive_load(&folded, db, 1, job, &err)) return 1;
    for (int i = 0; i < 6; i++) {
        snprintf(text, sizeof text, "{\"trial\":%d,\"proposal\":%d,\"arch_id\":\"%032x\",\"arch\":\"{}\",\"genome\":[%d],\"origin\":{\"op\":\"sample\",\"parents\":[]},\"seed\":1,\"paper\":{}}",
                 i + 1, i, i + 1, i);
        event_both(db, folded, "proposed", text);
        snprintf(text, sizeof text, "{\"trial\":%d,\"lease\":%d,\"epoch\":1,\"evaluator\":4,\"task\":\"train\",\"device\":1,\"expires\":9}", i + 1, i + 1);
        event_both(db, folded, "leased", text);
        snprintf(text, sizeof text, "{\"trial\":%d,\"lease\":%d,\"epoch\":1,\"status\":\"ok\",\"device\":1,\"busy_s\":1,\"metrics\":{\"f\":%d}}", i + 1, i + 1, i);
        event_both(db, folded, "reported", text);
    }
    event_refused(db, "audit", "{\"trial\":7,\"drawn\":\"best\"}", ST_ENOTFOUND, "a trial that is not there is not drawn");
    event_refused(db, "audit", "{\"trial\":3}", ST_EINVAL, "a draw says of what");
    event_refused(db, "audit", "{\"trial\":3,\"drawn\":\"worst\"}", ST_EINVAL, "and of what it may");
    event_both(db, folded, "audit", "{\"trial\":4,\"drawn\":\"best\"}");
    event_refused(db, "audit", "{\"trial\":4,\"drawn\":\"space\"}", ST_EEXIST, "none is drawn twice");
    event_both(db, folded, "promoted", "{\"trial\":2,\"rung\":1}");
    event_both(db, folded, "audit", "{\"trial\":2,\"drawn\":\"front\"}");
    event_both(db, folded, "audit", "{\"trial\":1,\"drawn\":\"space\"}");
    is_sql(dir, "SELECT trial,rung,drawn FROM audit ORDER BY seq", "4|0|best\n2|1|front\n1|0|space", "draws, with the rung that each was on");
    ok(archive_audit_rung(folded, 3) == 0 && archive_audit_rung(folded, 1) == 1 && archive_audit_rung(folded, 2) == -1, "in the archive too");
    compare(job, "draws");

    event_refused(db, "verdict", "{\"shortcut\":\"rung 0\"}", ST_EINVAL, "a verdict says what it is");
    event_refused(db, "verdict", "{\"shortcut\":\"rung 0\",\"relied\":1}", ST_EINVAL, "true or false");
    event_refused(db, "verdict", "{\"relied\":true}", ST_EINVAL, "and on what");
    event_refused(db, "verdict", "{\"shortcut\":\"0123456789012345678901234567890123456789012345678901234567890123\",\"relied\":true}", ST_EINVAL, "by a name as metrics have them");
    ok(archive_relied(folded, "rung 0"), "without a verdict a shortcut is relied on");
    event_both(db, folded, "verdict", "{\"shortcut\":\"rung 0\",\"relied\":false,\"metric\":\"f\",\"trials\":12,\"better\":-0.5}");
    event_both(db, folded, "verdict", "{\"shortcut\":\"proxy.snip\",\"relied\":false}");
    compare(job, "verdicts");
    event_both(db, folded, "proposed", "{\"trial\":7,\"proposal\":6,\"arch_id\":\"" ID("0b") "\",\"arch\":\"{}\",\"genome\":[9],\"origin\":{\"op\":\"sample\",\"parents\":[]},\"seed\":1,\"paper\":{}}");
    event_both(db, folded, "verdict", "{\"shortcut\":\"rung 0\",\"relied\":true}");
    is_sql(dir, "SELECT shortcut,relied,proposals FROM verdict ORDER BY seq", "proxy.snip|0|6\nrung 0|1|7", "the last on each");
    ok(archive_relied(folded, "rung 0") && !archive_relied(folded, "proxy.snip") && archive_relied(folded, "proxy.zico"), "in the archive too");
    compare(job, "verdicts that changed");

    ok(!db_verify(db, &err), "the tables are what the events say (%s: %s)", err.where, err.what);
    is_sql(dir, "UPDATE verdict SET relied=0 WHERE shortcut='rung 0'", "", "somebody's hand was in a verdict");
    is_int(db_verify(db, &err), ST_ECORRUPT, "which a verification finds");
    ok(strstr(err.where, "verdict[job=1]") && strstr(err.where, "relied"), "where: %s", err.where);
    is_sql(dir, "UPDATE verdict SET relied=1 WHERE shortcut='rung 0'", "", "put right");
    is_sql(dir, "UPDATE audit SET rung=1 WHERE trial=4", "", "and in a draw");
    is_int(db_verify(db, &err), ST_ECORRUPT, "found as well (%s)", err.where);
    is_sql(dir, "UPDATE audit SET drawn='worst' WHERE trial=4", "", "a draw that is not as Taut writes it");
    struct archive *a = NULL;
    const struct archive_damage *damage;
    is_int(archive_load(&a, db, 1, job, &err), ST_OK, "is read all the same");
    is_int(a ? archive_damaged(a, &damage) : 0, 1, "its trial is left out");
    archive_free(a);
    archive_free(folded);
    job_free(job);
    db_close(db);
    temp_remove(dir);
    return tap_done();
}
