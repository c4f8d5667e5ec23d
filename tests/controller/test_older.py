"""A store with jobs that this version does not read: tautd serves it, keeps them, stops them and says why."""
import json
import os
import shutil
import sqlite3
import subprocess
import sys

sys.path.insert(0, os.path.join(os.environ.get("TAUT_SRC", "."), "tests/controller"))
from taut_wire import *

TAUT = os.path.join(BUILD, "taut")


def lm_job(d, **moe):
    path = os.path.join(d.dir, "text.txt")
    with open(path, "w") as f:
        f.write("what an older version was asked to learn. " * 400)
    return {"objectives": ["valid_bpb", "weight_bytes"], "data": {"train": path, "context": 32},
            "space": {"type": "lm", "depth": [1, 2], "width": [16, 32], "mixer": {"attention": {"heads": [1, 2]}},
                      "ffn": {"moe": {"experts": [2], "active": [1], "ratio": [1], **moe}}}}


def rewrite(d, id, change):
    """The job's text in the store becomes change(text): in its event and in the table that is its fold."""
    db = sqlite3.connect(os.path.join(d.dir, "taut.db"))
    (text,), = db.execute("SELECT submitted FROM job_spec WHERE id=?", (id,))
    text = change(text)
    db.execute("UPDATE job_spec SET submitted=? WHERE id=?", (text, id))
    try:
        job = json.loads(text)
        (body,), = db.execute("SELECT body FROM event WHERE job=? AND seq=1", (id,))
        body = json.dumps(dict(json.loads(body), job=job), separators=(",", ":"), ensure_ascii=False)
        db.execute("UPDATE event SET body=? WHERE job=? AND seq=1", (body, id))
    except ValueError:
        pass
    db.commit()
    db.close()


def without_shared(text):
    """shared_gate without shared experts: older versions took it."""
    job = json.loads(text)
    del job["space"]["ffn"]["moe"]["shared"]
    return json.dumps(job, separators=(",", ":"))


def with_key(text):
    job = json.loads(text)
    job["rungs_of_old"] = 3
    return json.dumps(job, separators=(",", ":"))


GATE = "space.ffn.moe.shared_gate[0]: no architecture can use this choice (shared_gate: there is no shared expert to gate: 'shared' is 0)"
d = Daemon()
c = d.conn()
gate = c.call("job.submit", job=lm_job(d, shared=[1], shared_gate=[True]))["id"]
e = Evaluator(d.conn(), "lm", spaces=["lm"])
a = e.next()
e.report(a, metrics={"valid_bpb": 2.5})
a = e.next()
same(a["job"], gate, "a trial of it is out")
key, text, paused, done_, good, rotten = (c.call("job.submit", job=custom_job(name=n, budget={"evaluations": 3}))["id"] for n in ("key", "text", "paused", "done", "good", "rotten"))
c.call("job.pause", id=paused)
c.call("job.pause", id=good)
c.call("job.pause", id=key)
c.call("job.pause", id=text)
c.call("job.pause", id=rotten)
e2 = Evaluator(d.conn(), "custom")
e2.run()
same(c.call("job.get", id=done_)["state"], "done", "another has come to its end")
c.call("job.resume", id=paused)
out = Evaluator(d.conn(), "out").next()
same(out["job"], paused, "a trial is out of one that is then paused")
c.call("job.pause", id=paused)
c.call("job.resume", id=rotten)
e2.report(e2.next())
for id in (key, text, good):
    c.call("job.resume", id=id)
before = [r[:2] for r in sqlite3.connect(os.path.join(d.dir, "taut.db")).execute("SELECT id, name FROM job_spec ORDER BY id")]
d.term()
rewrite(d, gate, without_shared)
rewrite(d, key, with_key)
rewrite(d, text, lambda t: t[:-3])
rewrite(d, paused, with_key)
rewrite(d, done_, with_key)
db = sqlite3.connect(os.path.join(d.dir, "taut.db"))
(rotten_trial,), = db.execute("SELECT id FROM trial_data WHERE job=?", (rotten,))
db.execute("UPDATE trial_data SET genome=x'00' WHERE id=?", (rotten_trial,))
db.commit()
db.close()


def states(c):
    return {j["id"]: (j["state"], j.get("reason")) for j in c.call("job.list")}


UNREAD = "this tautd does not read its job: "
KEY = UNREAD + "unknown key 'rungs_of_old'"
WANT = {gate: ("paused", UNREAD + GATE), key: ("paused", KEY), paused: ("paused", KEY), done_: ("done", KEY)}

d.start("--reader")
if not ok(d.ready, "a reader opens the store"):
    print("#   " + d.errors())
    done()
c = d.conn()
same([(j["id"], j["name"]) for j in c.call("job.list")], before, "and lists every job")
same(states(c)[gate], ("running", UNREAD + GATE), "with why it cannot go on")
c.close()
d.p.wait()
d.start()
if not ok(d.ready, "tautd starts on it"):
    print("#   " + d.errors())
    done()
c = d.conn()
same([(j["id"], j["name"]) for j in c.call("job.list")], before, "and has every job")
got = states(c)
same({id: got[id] for id in WANT}, WANT, "those that it does not read are stopped, with the reason")
same((got[text][0], got[text][1][:len(UNREAD)]), ("paused", UNREAD), "so is one whose text is no JSON: %s" % got[text][1])
same((got[rotten][0], "trial %d: its genome does not fit the job's space" % rotten_trial in got[rotten][1]), ("paused", True), "so is one with a damaged trial: %s" % got[rotten][1])
same(got[good][0], "waiting", "and the others go on")

g = c.call("job.get", id=gate)
same((g["name"], g["state"], g["reason"], g["job"]["space"]["ffn"]["moe"]["shared_gate"], g["running"]),
     ("job", "paused", UNREAD + GATE, [True], []), "its job is there to be read, and nobody works on it")
same(c.code("job.get", id=text)[0], 0, "one that is no JSON is shown as well")
same(c.code("job.resume", id=gate), (-32002, "job %d: %s" % (gate, UNREAD + GATE)), "it cannot be resumed")
for method in ("job.front", "job.progress"):
    same(c.code(method, id=gate), (-32002, "job %d: %s" % (gate, UNREAD + GATE)), method + " says why not")
same(c.code("trial.list", job=gate)[0], -32002, "so does trial.list")
same(c.call("trial.get", id=a["trial"])["state"], "ready", "the trial that was out waits")
same(c.call("trial.get", id=a["trial"] - 1)["metrics"]["valid_bpb"]["median"], 2.5, "what was reported is kept")
e = Evaluator(d.conn(), "lm", spaces=["lm"], holds=[{"lease": a["lease"], "epoch": 1}])
same(e.reg["held"], [], "its evaluator is told that it does not hold it any more")
same(e.c.code("evaluator.report", lease=a["lease"], epoch=1, status="ok", metrics={"valid_bpb": 2})[0], -32010, "and to drop it")
same(e.c.code("evaluator.report", lease=out["lease"], epoch=1, status="ok", metrics=score(out["arch"]))[0], -32010, "so is that of the one that was paused already")
same(e.next(), None, "nothing of it is leased")
same(len(Evaluator(d.conn(), "custom").run()), 3, "while the job that can be read runs to its end")
same(states(c)[good][0], "done", "… and is done")
same(c.call("job.cancel", id=key), {"state": "cancelled"}, "one that is not read can be cancelled")

r = subprocess.run([TAUT, "jobs", "--socket", d.socket], capture_output=True, text=True)
same((r.returncode, r.stderr, r.stdout.split("\n")[1].split()[:4]), (0, "", [str(gate), "job", "paused", "?"]), "taut jobs lists it")
r = subprocess.run([TAUT, "status", str(gate), "--socket", d.socket], capture_output=True, text=True)
same((r.returncode, r.stderr, "shared expert" in r.stdout), (0, "", True), "taut status shows it, with the reason")
r = subprocess.run([TAUT, "report", str(gate), "-o", "-", "--socket", d.socket], capture_output=True, text=True)
same((r.returncode, r.stdout, r.stderr.count("\n"), "shared expert" in r.stderr), (1, "", 1, True), "taut report says in a line why there is none: %s" % r.stderr.strip())
c.close()

# A version that reads it again goes on where it was.
d.term()
rewrite(d, gate, lambda t: json.dumps(dict(json.loads(t), space=lm_job(d, shared=[1], shared_gate=[True])["space"])))
d.start()
c = d.conn()
same(states(c)[gate], ("paused", UNREAD + GATE), "a tautd that reads it finds it paused")
same(c.code("job.resume", id=gate)[0], 0, "and can resume it")
e = Evaluator(d.conn(), "lm", spaces=["lm"])
again = e.next()
same((again["trial"], again["epoch"]), (a["trial"], 2), "with the trial that waited")

# Genes that no member of the space has, in a job that goes on and in one that is done: neither ends tautd.
lm = c.call("job.submit", job=dict(lm_job(d), name="genes"))["id"]
e.report(again, metrics={"valid_bpb": 2.4})
c.call("job.pause", id=gate)
e.report(e.next(), metrics={"valid_bpb": 2.3})
c.close()
d.term()
db = sqlite3.connect(os.path.join(d.dir, "taut.db"))
rotten_of = {}
for id in (lm, good):
    (trial, genome), = db.execute("SELECT id, genome FROM trial_data WHERE job=? AND length(genome)>1 ORDER BY id LIMIT 1", (id,))
    rotten_of[id] = trial
    db.execute("UPDATE trial_data SET genome=? WHERE id=?", (genome[:1] + b"\xff" * (len(genome) - 1), trial))
db.commit()
db.close()
d.start()
c = d.conn()
fronts = [[r["trial"] for r in c.call("job.front", id=id, archs=True)] for id in (lm, good)]
same([rotten_of[id] in f for id, f in zip((lm, good), fronts)], [False] * 2, "a trial with genes that its space does not have is in no front")
got = {j["id"]: j for j in c.call("job.list")}
same([(got[id]["state"], "does not fit the job's space" in got[id]["reason"]) for id in (lm, good)], [("paused", True), ("done", True)], "with why, and tautd goes on")

# One that was paused when its hours were over ends when it is resumed.
hours = c.call("job.submit", job=custom_job(name="hours", budget={"hours": 1e-7}))["id"]
e = Evaluator(d.conn(), "custom")
a = e.next()
same(a["job"], hours, "a trial is out of a job of very few hours")
c.call("job.pause", id=hours)
same(c.code("job.resume", id=hours)[0], 0, "it can be resumed when they are over")
e.report(a)
same(c.call("job.get", id=hours)["state"] in ("done", "failed"), True, "and ends")
d.end()
done()
