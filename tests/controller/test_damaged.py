"""A store that is damaged in one place: tautd starts on it, stops the job concerned, says so in one line, and shows what can be read; the others go on."""
import json
import os
import sqlite3
import subprocess
import sys

sys.path.insert(0, os.path.join(os.environ.get("TAUT_SRC", "."), "tests/controller"))
from taut_wire import *

TAUT = os.path.join(BUILD, "taut")
STORE = "the store is damaged: "


def sql(d, text, *values):
    db = sqlite3.connect(os.path.join(d.dir, "taut.db"))
    rows = db.execute(text, values).fetchall()
    db.commit()
    db.close()
    return rows


def taut(d, *args, **more):
    return subprocess.run([TAUT, *args, "--socket", d.socket], capture_output=True, text=True, timeout=120, **more)


def lines(d, word):
    return [line for line in d.errors().splitlines() if word in line]


def quiet(d, name):
    same(lines(d, "undone") + lines(d, "error: "), [], "… and the log has %s" % name)


def seen(c, id):
    j = c.call("job.get", id=id)
    return j["state"], j.get("reason"), j.get("unread")


def stopped(c, id, why, name):
    return same(seen(c, id), ("paused", STORE + why, STORE + why), name)


def submit(c, name, n=4, **more):
    return c.call("job.submit", job=custom_job(name=name, budget={"evaluations": n}, search={"population": 2}, **more))["id"]


def only(c, keep, others):
    for id in others:
        if id != keep:
            c.call("job.pause", id=id)


def test_lease():
    """A lease that is not what its trial is out on: at the start, at a report, at a progress, where its evaluator leaves."""
    d = Daemon("-v")
    c = d.conn()
    bad = submit(c, "bad")
    e = Evaluator(d.conn(), "first")
    a = e.next()
    none = submit(c, "none")
    f = Evaluator(d.conn(), "second")
    c.call("job.pause", id=bad)
    lost = f.next()
    same((a["job"], lost["job"]), (bad, none), "trials are out of two jobs")
    good = submit(c, "good")
    c.call("job.resume", id=bad)
    d.kill()
    sql(d, "UPDATE lease SET epoch=9 WHERE trial=?", a["trial"])
    sql(d, "DELETE FROM lease WHERE trial=?", lost["trial"])
    d.start("-v")
    ok(d.ready, "tautd starts where a trial is not out on its lease")
    c = d.conn()
    stopped(c, bad, "trial %d is not out on its lease %d, epoch 9" % (a["trial"], a["lease"]), "that job is stopped, and says why")
    stopped(c, none, "1 of its trials are out, on 0 leases", "so is one whose lease is gone")
    e = Evaluator(d.conn(), "first", holds=[{"lease": a["lease"], "epoch": a["epoch"]}])
    same(e.reg["held"], [], "its evaluator does not hold it any more")
    same([l["job"] for l in e.run()], [good] * 4, "and works on the job that is good")
    same(c.call("job.get", id=good)["state"], "done", "… to its end")
    same(len(lines(d, "is not out on its lease")), 2, "the log has it in one line, and that the job is paused in another")
    quiet(d, "nothing else")

    # While tautd runs.
    for how in ("report", "progress", "leave", "cancelled"):
        bad, good = submit(c, "bad " + how), submit(c, "good " + how)
        c.call("job.pause", id=good)
        f = Evaluator(d.conn(), "worker " + how)
        a = f.next()
        c.call("job.resume", id=good)
        g = Evaluator(d.conn(), "other " + how)
        c.call("job.pause", id=bad)
        b = g.next()
        if how != "cancelled":
            c.call("job.resume", id=bad)
        same((a["job"], b["job"]), (bad, good), how + ": a trial is out of each of two jobs")
        sql(d, "UPDATE trial_data SET epoch=7 WHERE id=?", a["trial"])
        if how == "report":
            same(f.c.code("evaluator.report", lease=a["lease"], epoch=1, status="ok", metrics=score(a["arch"])), (-32010, "the lease is not yours any more"), "the report is refused")
        elif how == "progress":
            same(f.c.call("evaluator.progress", lease=a["lease"], epoch=1, curve=[[10, 2.5]]), {"go": False}, "its evaluator is told to stop")
        else:
            f.c.close()
        wait_until(lambda: seen(c, bad)[2])
        stopped(c, bad, "trial %d is not out on its lease %d, epoch 1" % (a["trial"], a["lease"]), "its job is stopped")
        g.report(b)
        g.run()
        same(c.call("job.get", id=good)["state"], "done", "the other goes on to its end")
        same(c.code("job.resume", id=bad)[0], -32002, "and the one that is damaged cannot be resumed")
        quiet(d, "nothing else")
        g.c.close()
    d.end()


def spoil(d, job, n):
    """Makes genes of the n last trials of a job what its space does not have; their ids."""
    ids = [r[0] for r in sql(d, "SELECT id FROM trial_data WHERE job=? ORDER BY id DESC LIMIT ?", job, n)][::-1]
    for id in ids:
        sql(d, "UPDATE trial_data SET genome=x'00' WHERE id=?", id)
    return ids


def test_trials():
    """Rows of a job that is not running that are not as Taut writes them are left out, and that is said."""
    d = Daemon()
    c = d.conn()
    id, paused, gone, many, whole = (submit(c, n, k) for n, k in (("done", 12), ("paused", 12), ("gone", 12), ("many", 40), ("whole", 6)))
    e = Evaluator(d.conn())
    only(c, id, (id, paused, gone, many, whole))
    e.run()
    c.call("job.resume", id=paused)
    e.run(8)
    c.call("job.pause", id=paused)
    for other in (gone, many, whole):
        c.call("job.resume", id=other)
    e.run()
    rows = {j: c.call("trial.list", job=j) for j in (id, gone, paused)}
    d.term()
    out = spoil(d, id, 2)
    out_paused = spoil(d, paused, 1)
    out_many = spoil(d, many, 25)
    sql(d, "DELETE FROM trial_data WHERE id=?", rows[gone][3]["trial"])
    d.start()
    c = d.conn()
    why = STORE + "trial %d: its genome does not fit the job's space, and others" % out[0]
    same(c.call("trial.list", job=id), [r for r in rows[id] if r["trial"] not in out], "trials of a job that is done that are damaged are not in its list, the others are, as before")
    got = c.call("job.get", id=id)
    same((got["state"], got["reason"], got["unread"]), ("done", why, why), "it is done, and says why not all can be read")
    same(got["damaged"], {"trials": 2, "first": [{"trial": t, "why": "its genome does not fit the job's space"} for t in out]}, "… and which")
    same((got["evaluations"], got["trials"]), (10, {"ready": 0, "leased": 0, "ok": 10, "failed": 0}), "… and counts the others")
    ok(set(r["trial"] for r in c.call("job.front", id=id)) <= set(r["trial"] for r in rows[id] if r["trial"] not in out), "its front is that of the others")
    same(c.call("job.progress", id=id)["evaluations"], 10, "so is its progress")
    same(c.code("job.resume", id=id, budget={"evaluations": 20}), (-32002, "job %d: %s" % (id, why)), "it cannot be extended")

    r = taut(d, "front", str(id))
    same((r.returncode, r.stderr), (0, "taut: front: job %d: %s\n" % (id, why)), "taut front shows it, and says what is left out")
    r = taut(d, "status", str(id))
    same((r.returncode, r.stderr, why in r.stdout, "10 of 12" in r.stdout), (0, "", True, True), "taut status shows it, with the reason")
    r = taut(d, "report", str(id), "-o", "-")
    line = "trial %d cannot be read and is left out: its genome does not fit the job's space"
    same((r.returncode, r.stderr.splitlines()), (0, ["taut: report: " + line % t for t in out]), "taut report makes a page, with a line for each that is left out")
    same([("T" + line[1:] + ".") % t in r.stdout for t in out], [True, True], "… which the page says, too")
    r = taut(d, "report", str(many), "-o", "-")
    same((r.returncode, r.stderr.count("\n"), r.stderr.splitlines()[-1]), (0, 21, "taut: report: 25 trials cannot be read, the first 20 of them for these reasons"), "many damaged trials: few lines")
    r = taut(d, "report", str(paused), "-o", "-")
    same((r.returncode, r.stderr), (0, "taut: report: " + line % out_paused[0] + "\n"), "so of one that is paused")
    same(seen(c, paused), ("paused",) + (STORE + "trial %d: its genome does not fit the job's space" % out_paused[0],) * 2, "… which stays so")
    same(c.call("trial.list", job=gone), [r for r in rows[gone] if r["trial"] != rows[gone][3]["trial"]], "a row that is gone leaves the numbers of the others as they are")
    same(seen(c, gone), ("done",) + (STORE + "of its trials, some are missing",) * 2, "… and is missed")
    r = taut(d, "report", str(gone), "-o", "-")
    same((r.returncode, r.stderr), (0, "taut: report: of the trials, some are missing\n"), "… in the report as well")
    r = taut(d, "front", str(whole))
    same((r.returncode, r.stderr, "unread" in c.call("job.get", id=whole)), (0, "", False), "nothing is said of a job that is whole")
    d.end()


def test_start():
    """Damage in what tautd reads at the start."""
    d = Daemon()
    c = d.conn()
    path = os.path.join(d.dir, "text.txt")
    with open(path, "w") as f:
        f.write("what is to be learned. " * 400)
    lm = {"objectives": ["valid_bpb", "decode_ms@16"], "data": {"train": path, "context": 32}, "space": {"type": "lm", "depth": [1, 2], "width": [16, 32],
          "mixer": {"attention": {"heads": [1, 2]}}, "ffn": {"mlp": {"ratio": [1, 2]}}}, "search": {"population": 4}, "budget": {"evaluations": 4}}
    names = ("precision", "word", "target", "files", "fine")
    ids = {n: c.call("job.submit", job=dict(lm, name=n))["id"] for n in names}
    for n in names:
        only(c, ids[n], ids.values())
        c.call("job.resume", id=ids[n])
        e = Evaluator(d.conn(), "lm", spaces=["lm"], device={"kind": "cpu", "name": n if n == "target" else "x"})
        a = e.next()
        same(a["job"], ids[n], n + ": has a lease")
        e.report(a, metrics={"valid_bpb": 2.0, "decode_ms@16": 1.0})
        e.c.close()
    refs = {n: submit(c, n, 6) for n in ("no JSON", "no array", "too many", "no numbers")}
    e = Evaluator(d.conn(), "custom")
    e.run(20)
    e.c.close()
    for n in names:
        if c.call("job.get", id=ids[n])["state"] == "paused":
            c.call("job.resume", id=ids[n])
    d.term()
    damage = {"no JSON": "[1,", "no array": "{}", "too many": "[1,2,3]", "no numbers": '["x",1]'}
    for n, id in refs.items():
        same(len(sql(d, "SELECT reference FROM job_state WHERE id=? AND reference IS NOT NULL", id)), 1, n + ": there is a reference")
        sql(d, "UPDATE job_state SET reference=? WHERE id=?", damage[n], id)
    sql(d, "UPDATE event SET body='{\"precision\":' WHERE job=? AND type='precision'", ids["precision"])
    sql(d, "UPDATE event SET body='{\"precision\":\"f64\"}' WHERE job=? AND type='precision'", ids["word"])
    sql(d, "UPDATE device SET body='{' WHERE id=(SELECT target FROM job_state WHERE id=?)", ids["target"])
    sql(d, "UPDATE job_spec SET files='{' WHERE id=?", ids["files"])
    same(len(sql(d, "SELECT 1 FROM event WHERE job=0 AND type='evaluator'")) > 1, True, "there are events of evaluators")
    sql(d, "UPDATE event SET body='{' WHERE job=0 AND type='evaluator'")
    d.start()
    if not ok(d.ready, "tautd starts where references, a precision, a device, evaluators and files are damaged"):
        print("#   " + d.errors())
        return
    c = d.conn()
    for n, id in refs.items():
        state, reason, unread = seen(c, id)
        same((state, reason, unread), ("done" if state == "done" else "paused",) + (STORE + "its reference cannot be read",) * 2, "a reference that is %s: %s" % (n, state))
        same((c.code("job.front", id=id)[0], c.call("job.get", id=id)["reference"], taut(d, "report", str(id), "-o", "-").returncode), (0, None, 0), "… its trials are shown, without")
    for n, what in (("precision", "precision"), ("word", "precision"), ("target", "target device"), ("files", "files")):
        stopped(c, ids[n], "its %s cannot be read" % what, n + ": that job is stopped")
    same(seen(c, ids["fine"])[2], None, "nothing is said of the one that is whole")
    same([b["body"] for b in c.call("device.list")["devices"] if b["id"] == c.call("job.get", id=ids["target"])["target"]["device"]], [None], "the device is there, without what it was")
    e = Evaluator(d.conn(), "lm", spaces=["lm"], device={"kind": "cpu", "name": "x"})
    same([e.next()["job"] for _ in range(1)], [ids["fine"]], "which is worked on")
    same(e.id, sql(d, "SELECT max(id) FROM evaluator WHERE name='lm' AND device=(SELECT min(id) FROM device)")[0][0], "by an evaluator that is known again")
    d.end()


def test_watch():
    """Whoever watches a job that is not read, or that is damaged, is told, and waits for nothing."""
    d = Daemon()
    c = d.conn()
    unread, rotten, ended = submit(c, "unread"), submit(c, "rotten"), submit(c, "ended", 2)
    e = Evaluator(d.conn())
    only(c, ended, (unread, rotten, ended))
    e.run()
    c.call("job.resume", id=rotten)
    e.run(2)
    d.term()
    (text,), = sql(d, "SELECT submitted FROM job_spec WHERE id=?", unread)
    sql(d, "UPDATE job_spec SET submitted=? WHERE id=?", json.dumps(dict(json.loads(text), rungs_of_old=3)), unread)
    spoil(d, rotten, 1)
    spoil(d, ended, 1)
    r = subprocess.run([TAUT, "watch", str(unread), "--dir", d.dir], capture_output=True, text=True, timeout=120)
    key = "job %d cannot go on: this tautd does not read its job: unknown key 'rungs_of_old'" % unread
    same((r.returncode, r.stdout, r.stderr), (1, "", "taut: %d: %s\n" % (unread, key)), "taut watch --dir of a job that is not read says so")
    d.start()
    c = d.conn()
    for args in ((), ("--json",), ("--from-start",)):
        r = taut(d, "watch", str(unread), *args)
        same((r.returncode, r.stdout, r.stderr), (1, "", "taut: %d: %s\n" % (unread, key)), "so does taut watch " + " ".join(args))
    r = taut(d, "watch", str(rotten), "--from-start")
    same((r.returncode, r.stdout.count("trial"), r.stderr.count("\n"), STORE in r.stderr), (1, 2, 1, True), "and of one that is damaged, after what has happened: %s" % r.stderr.strip())
    r = taut(d, "watch", str(ended))
    same((r.returncode, r.stderr), (0, ""), "one that is done has its result shown")
    d.end()


test_lease()
test_trials()
test_start()
test_watch()
done()
