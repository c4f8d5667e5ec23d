"""taut-evaluator and tautd itself: a restart in the middle of a trial, two evaluators on one machine, what a report leaves in the store."""
import os
import sqlite3
import sys

SRC = os.environ.get("TAUT_SRC", ".")
sys.path[:0] = [os.path.join(SRC, "tests/controller"), os.path.join(SRC, "tests/evaluator")]
from taut_wire import *
from fake import CONTEXT, HANG, Worker, finish, path, prose, put

put("text.txt", prose(30000))
STEPS = 6000


def job(**more):
    v = {"name": "lm", "data": {"train": path("text.txt"), "context": CONTEXT},
         "space": {"type": "lm", "depth": [1, 1], "width": [32, 48, 64], "mixer": {"attention": {"heads": [2, 4], "kv_ratio": [1, 2]}, "none": {}},
                   "ffn": {"swiglu": {"ratio": [1, 2]}, "none": {}}},
         "objectives": ["valid_bpb", "params"], "train": {"batch": 4}, "fidelity": {"tokens": STEPS * 4 * CONTEXT, "rungs": 1},
         "search": {"population": 4}, "budget": {"evaluations": 2}}
    v.update(more)
    return v


def losses(c, id):
    return [(t["arch_id"], t["state"], t["metrics"].get("valid_bpb")) for t in c.call("trial.list", job=id)]


def ended(c, id):
    c.call("job.watch", id=id, after=0)
    return c.until(lambda p: p["type"] == "state" and p["state"] in ("done", "failed"), HANG)


def training(c, id, steps):
    return wait_until(lambda: [r for r in c.call("job.get", id=id)["running"] if r["step"] >= steps], HANG)


d = Daemon()
c = d.conn()
w = Worker(d.socket, "--checkpoint", "0.1")
calm = c.call("job.submit", job=job())["id"]
same(ended(c, calm)["state"], "done", "a search of two trials")
c.close()
c = d.conn()
want = losses(c, calm)
ok(len(want) == 2 and all(t[1] == "ok" and 0 < t[2] < 8 for t in want), "with their losses")

# tautd is killed in the middle of a trial.
rough = c.call("job.submit", job=job())["id"]
ok(training(c, rough, 100), "the same search again, in the middle of its first trial")
c.close()
d.kill()
wait_until(lambda: "connection to tautd lost" in w.said(), HANG)
d.start()
c = d.conn()
same(ended(c, rough)["state"], "done", "tautd is killed and started again, and the search ends")
c.close()
c = d.conn()
same(losses(c, rough), want, "with the same architectures and losses")
with sqlite3.connect(os.path.join(d.dir, "taut.db")) as s:
    same(s.execute("SELECT type, count(*) FROM event WHERE job=? AND type IN ('leased', 'returned', 'reported') GROUP BY type ORDER BY type", (rough,)).fetchall(),
         [("leased", 2), ("reported", 2)], "each trial was leased once: what the evaluator held stayed its own")
ok("on from step" not in w.said(), "and it did not begin anew")

# Pause and resume.
paused = c.call("job.submit", job=job())["id"]
ok(training(c, paused, 100), "once more, paused in its first trial")
c.call("job.pause", id=paused)
ok(wait_until(lambda: not c.call("job.get", id=paused)["running"], HANG), "it is handed back")
t = c.call("trial.list", job=paused)[0]
checkpoint = c.call("trial.get", id=t["trial"]).get("checkpoint")
ok(t["state"] == "ready" and checkpoint and 0 < checkpoint["tokens"] < STEPS * 4 * CONTEXT, "with a checkpoint")
c.call("job.resume", id=paused)
same(ended(c, paused)["state"], "done", "resumed, it ends")
c.close()
c = d.conn()
same(losses(c, paused), want, "with the same losses")
ok("on from step" in w.said(), "having gone on from there")
same(w.term(), 0, "the evaluator leaves")

# Two of them, and a search that times: each waits for the other, and both get their turns.
two = [Worker(d.socket, "--name", "e%d" % i, work="e%d" % i) for i in range(2)]
timed = c.call("job.submit", job=job(objectives=["valid_bpb", "decode_ms@64"], budget={"evaluations": 6},
                                     fidelity={"tokens": 300 * 4 * CONTEXT, "rungs": 1}))["id"]
same(ended(c, timed)["state"], "done", "two evaluators on one machine")
c.close()
c = d.conn()
with sqlite3.connect(os.path.join(d.dir, "taut.db")) as s:
    by = s.execute("SELECT json_extract(body,'$.evaluator'), count(*) FROM event WHERE job=? AND type='leased' GROUP BY 1", (timed,)).fetchall()
    ok(len(by) == 2 and sum(n for _, n in by) == 6, "share the trials: %s" % by)
    rows = s.execute("SELECT m.median, m.low, m.high, m.n, m.ratio, m.ratio_low, m.ratio_high, m.anchor, m.converged, m.disturbed, m.rejected FROM metric m "
                     "JOIN trial t ON t.id=m.trial WHERE t.job=? AND m.name='decode_ms@64'", (timed,)).fetchall()
    ok(len(rows) == 6 and all(r[1] <= r[0] <= r[2] and r[5] <= r[4] <= r[6] and len(r[7]) == 32 and r[8] in (0, 1) and 0 <= r[9] <= 1 and r[10] >= 0 for r in rows),
       "each time is in the store with all that tells how far to believe it")
t = c.call("trial.list", job=timed)[0]["trial"]
m = c.call("trial.get", id=t)["metrics"]["decode_ms@64"]
same(sorted(m), ["anchor", "converged", "device", "disturbed", "high", "low", "median", "n", "ratio", "rejected"], "and in trial.get")
same(m["anchor"], c.call("trial.get", id=t)["device"]["body"]["anchor"], "to the anchor that the device names")
for e in two:
    same(e.term(), 0, "it leaves")
c.close()
d.end_verified()
finish()
done()
