"""The supernet of a job with shared weights, as a task: before anything is proposed, kept, given back, named by validations, failed, late."""
import os
import sqlite3
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from taut_wire import *

KINDS = ["train", "validate", "supernet"]


def job(d, **more):
    path = os.path.join(d.dir, "text.txt")
    with open(path, "w") as f:
        f.write("what candidates inherit. " * 800)
    v = {"name": "s", "objectives": ["valid_bpb", "params"], "data": {"train": path, "context": 32}, "fidelity": {"tokens": 4096}, "train": {"batch": 4},
         "space": {"type": "lm", "depth": [1, 2], "width": [16, 32], "mixer": {"attention": {"heads": [1, 2]}}, "ffn": {"swiglu": {"ratio": [1, 2]}}},
         "search": {"weights": "shared", "population": 4}, "audit": 0, "budget": {"evaluations": 3}}
    v.update(more)
    return v


def worker(d, accepts=KINDS, name="w", **more):
    return Evaluator(d.conn(), name, spaces=["lm"], accepts=accepts, **more)


def ckpt(n, tokens):
    return {"path": "/nets/%d" % n, "hash": "%064x" % n, "bytes": 100 + n, "tokens": tokens}


def progress(e, l, **more):
    return e.c.call("evaluator.progress", lease=l["lease"], epoch=l["epoch"], **more)["go"]


def rows(d, sql, *args):
    with sqlite3.connect(os.path.join(d.dir, "taut.db")) as db:
        return db.execute(sql, args).fetchall()


d = Daemon()
c = d.conn()
id = c.call("job.submit", job=job(d))["id"]
v = worker(d, ["train", "validate"], "v")
same(v.next(), None, "an evaluator that trains no supernets gets nothing")
g = c.call("job.get", id=id)
same((g["state"], g["reason"]), ("waiting", "no connected evaluator trains supernets"), "the job waits, and says for whom")
same(g["supernet"], {"state": "ready", "of": 12288}, "the supernet is to be trained first")

a = worker(d, name="a")
l = a.next()
same((l["task"]["kind"], l["trial"], l["arch"], l["rung"], l["tokens"], l["metrics"], l["epoch"], "checkpoint" in l),
     ("supernet", None, None, 0, 12288, [], 1, False), "one that does gets it before anything is proposed")
same((l["task"]["supernet"], l["task"]["train"]["batch"], l["data"]["context"]), ({"tokens": 12288, "adapt": 205, "space": job(d)["space"]}, 4, 32), "with its space, recipe and text")
same((v.next(), c.call("job.get", id=id)["trials"]["leased"]), (None, 0), "meanwhile there is nothing else, and no trial")
ok(progress(a, l, step=10, tokens=1280, loss=3.5, curve=[[100, 3.0]], checkpoint=ckpt(1, 1280)), "its progress is heard")
g = c.call("job.get", id=id)
same({k: g["supernet"].get(k) for k in ("state", "step", "tokens", "loss", "of", "checkpoint")},
     {"state": "leased", "step": 10, "tokens": 1280, "loss": 3.5, "of": 12288, "checkpoint": ckpt(1, 1280)}, "and shown")
same([(r["trial"], r["name"], r["step"]) for r in g["running"]], [(None, "a", 10)], "as what runs")
same([x["trial"] for e in c.call("device.list")["evaluators"] for x in e["doing"]], [None], "also of the evaluator")
same(rows(d, "SELECT state, epoch, path, tokens FROM supernet WHERE job=?", id), [("leased", 1, "/nets/1", 1280.0)], "the checkpoint is durable")

# kill -9 of tautd: who comes back with it goes on.
d.restart()
c = d.conn()
a = worker(d, name="a", holds=[{"lease": l["lease"], "epoch": 1}])
same(a.reg["held"], [l["lease"]], "after kill -9 of tautd its evaluator still holds it")
ok(progress(a, l, step=20, tokens=2560), "and goes on")
a.c.close()
wait_until(lambda: c.call("job.get", id=id)["supernet"]["state"] == "ready")
same(c.call("job.get", id=id)["supernet"]["state"], "ready", "a closed connection gives it back")
b = worker(d, name="b")
l2 = b.next()
same((l2["task"]["kind"], l2["epoch"], l2["checkpoint"]), ("supernet", 2, ckpt(1, 1280)), "and the next goes on from the last checkpoint")
same(b.c.code("evaluator.report", lease=l["lease"], epoch=1, status="ok", metrics={}, checkpoint=ckpt(9, 12288))[0], -32010, "a report of the old lease is refused")
d.restart()
c = d.conn()
b = worker(d, name="b")
l3 = b.next()
same((l3["epoch"], l3["checkpoint"]["tokens"]), (3, 1280), "who comes back without it gets it anew")

# Pause, resume.
c.call("job.pause", id=id)
ok(not progress(b, l3, step=30), "paused: it is told to stop")
b.c.call("evaluator.report", lease=l3["lease"], epoch=3, status="preempted", metrics={}, checkpoint=ckpt(2, 3840))
same((b.next(), c.call("job.get", id=id)["supernet"]["state"]), (None, "ready"), "and nothing is leased")
c.call("job.resume", id=id)
l4 = b.next()
same((l4["epoch"], l4["checkpoint"]), (4, ckpt(2, 3840)), "resumed: on from where it was stopped")

# The end.
code, text = b.c.code("evaluator.report", lease=l4["lease"], epoch=4, status="ok", metrics={})
same((code, "checkpoint" in text), (-32602, True), "trained without a file: %s" % text)
b.c.call("evaluator.report", lease=l4["lease"], epoch=4, status="ok", metrics={}, checkpoint=ckpt(3, 12288), joules=2.5)
g = c.call("job.get", id=id)
same((g["supernet"]["state"], g["supernet"]["checkpoint"], g["evaluations"], g["joules"], g["busy_s"] > 0), ("ok", ckpt(3, 12288), 0, 2.5, True),
     "trained: it is no evaluation, its time and energy are the job's")
v = worker(d, ["train", "validate"], "v")
x = v.next()
same((x["task"]["kind"], x["task"]["supernet"]["checkpoint"], x["trial"]), ("validate", ckpt(3, 12288), 1), "a validation names the file that it inherits from")
same(rows(d, "SELECT task FROM lease"), [("validate",)], "the lease says what it is for")
d.restart()
c = d.conn()
v = worker(d, ["train", "validate"], "v", holds=[{"lease": x["lease"], "epoch": x["epoch"]}])
v.c.call("evaluator.report", lease=x["lease"], epoch=x["epoch"], status="ok", metrics={"valid_bpb": 3.0})
for i in range(2):
    x = v.next()
    same((x["task"]["kind"], x["task"]["supernet"]["checkpoint"]["path"]), ("validate", "/nets/3"), "also after a restart")
    v.report(x, metrics={"valid_bpb": 3.0 + i})
x = v.next()
same((x["task"]["kind"], "supernet" in x["task"]), ("train", False), "then the front is trained alone")
v.report(x, metrics={"valid_bpb": 2.5})
while x := v.next():
    v.report(x, metrics={"valid_bpb": 2.6})
same((c.call("job.get", id=id)["state"], [s for s, in rows(d, "SELECT json_extract(body,'$.state') FROM event WHERE job=? AND type='supernet' ORDER BY seq", id)]),
     ("done", ["leased", "saved", "ready", "leased", "ready", "leased", "saved", "ready", "leased", "ok"]), "done; its events")

# Trained on from what they inherit, the front's members name it too.
id = c.call("job.submit", job=job(d, final="inherited"))["id"]
e = worker(d, name="e")
l = e.next()
e.c.call("evaluator.report", lease=l["lease"], epoch=1, status="ok", metrics={}, checkpoint=ckpt(4, 12288))
for i in range(3):
    e.report(e.next(), metrics={"valid_bpb": 3.0 + i})
x = e.next()
same((x["task"]["kind"], x["task"]["supernet"]["checkpoint"]["path"]), ("train", "/nets/4"), "a training on from inherited weights names the file")
c.call("job.cancel", id=id)
e.c.close()

# What cannot be trained.
id = c.call("job.submit", job=job(d))["id"]
e = worker(d, name="e")
l = e.next()
e.c.call("evaluator.report", lease=l["lease"], epoch=1, status="failed", metrics={}, error="the loss of path 0 is nan at step 7 of 256")
g = c.call("job.get", id=id)
same((g["state"], g["reason"]), ("failed", "the supernet cannot be trained: the loss of path 0 is nan at step 7 of 256"), "it fails: the job has failed, and says why")
same((g["supernet"]["state"], g["supernet"]["error"], e.next()), ("failed", "the loss of path 0 is nan at step 7 of 256", None), "nothing is leased again by itself")
c.call("job.resume", id=id)
l = e.next()
same((l["task"]["kind"], l["epoch"]), ("supernet", 2), "job.resume tries once more")
c.call("job.cancel", id=id)
ok(not progress(e, l, step=1), "cancelled: it is told to stop")
e.c.call("evaluator.report", lease=l["lease"], epoch=2, status="preempted", metrics={})
same((e.next(), c.call("job.get", id=id)["state"]), (None, "cancelled"), "and that is all")
e.c.close()

id = c.call("job.submit", job=job(d))["id"]
for i in range(20):
    e = worker(d, name="e")
    l = e.next()
    e.c.close()
    wait_until(lambda: c.call("job.get", id=id)["supernet"]["state"] != "leased")
g = c.call("job.get", id=id)
same((l["epoch"], g["state"], g["reason"]), (20, "failed", "the supernet cannot be trained: its evaluator was lost 20 times while at work on it"),
     "one that ends every evaluator fails at last")
c.call("job.resume", id=id)
for i in range(2):
    e = worker(d, name="e")
    l = e.next()
    e.c.close()
    wait_until(lambda: c.call("job.get", id=id)["supernet"]["state"] != "leased")
    same((l["epoch"], c.call("job.get", id=id)["supernet"]["state"]), (21 + i, "ready"), "resumed it is counted from 0 again")
c.call("job.cancel", id=id)

# Hours that do not last for it.
id = c.call("job.submit", job=job(d, budget={"hours": 1e-6}))["id"]
e = worker(d, name="e")
l = e.next()
ok(wait_until(lambda: not progress(e, l, step=1)), "when the hours are over it is told to stop")
e.c.call("evaluator.report", lease=l["lease"], epoch=1, status="preempted", metrics={}, checkpoint=ckpt(5, 1280))
g = c.call("job.get", id=id)
ok(g["state"] == "failed" and g["reason"].endswith("and the supernet was not trained by then: give more hours, or a smaller fidelity.tokens"), "the job has failed: %s" % g["reason"])
same(e.next(), None, "nothing more is leased")
c.call("job.resume", id=id, budget={"hours": 1})
l = e.next()
same((l["task"]["kind"], l["epoch"], l["checkpoint"]["tokens"]), ("supernet", 2, 1280), "with more hours it goes on")
e.c.call("evaluator.report", lease=l["lease"], epoch=2, status="ok", metrics={}, checkpoint=ckpt(6, 12288))
same(e.next()["task"]["kind"], "validate", "to the candidates")
c.call("job.cancel", id=id)
e.c.close()



def older(asked, whole):
    """A search that an older version brought to where so many candidates were asked; tautd is started again on it. whole: nobody has changed the store yet."""
    id = c.call("job.submit", job=job(d))["id"]
    e = worker(d, name="e")
    l = e.next()
    e.c.call("evaluator.report", lease=l["lease"], epoch=1, status="ok", metrics={}, checkpoint=ckpt(7, 12288))
    for i in range(asked):
        e.report(e.next(), metrics={"valid_bpb": 3.0 + i})
    same(d.term(), 0, "tautd leaves")
    if whole:
        same(verify(d.dir).returncode, 0, "the store is what its events say")
    with sqlite3.connect(os.path.join(d.dir, "taut.db")) as db:
        db.execute("DELETE FROM supernet WHERE job=?", (id,))
    d.start()
    return id


# As much of either as the job says.
s = Daemon()
k = s.conn()
for share, adapt, want in ((0.5, 0.25, (2048, 1024)), (2, 0, (8192, 0))):
    n = k.call("job.submit", job=job(s, search={"weights": "shared", "supernet": share, "adapt": adapt}))["id"]
    e = worker(s, name="e%g" % share)
    l = e.next()
    e.report(l, metrics={}, checkpoint=ckpt(1, want[0]))
    v = e.next()
    same((l["task"]["kind"], l["tokens"], v["task"]["kind"], v["task"]["supernet"]["adapt"]), ("supernet", want[0], "validate", want[1]), "search.supernet %g, search.adapt %g" % (share, adapt))
    k.call("job.cancel", id=n)
    e.c.close()
k.close()
s.end()

# To where nothing inherits any more.
id = older(3, True)
e = worker(d, name="e")
same(e.next()["task"]["kind"], "train", "without a supernet of its own it is not trained once more for that")
c = d.conn()
c.call("job.cancel", id=id)
e.c.close()

# With candidates still to be asked: what it would ask now is of another kind.
id = older(1, False)
c = d.conn()
e = worker(d, name="e")
same(e.next(), None, "a search that is half asked by an older version's supernet gets no other")
OLD = "begun by an older version, whose inherited losses are of another kind: submit it again"
g = c.call("job.get", id=id)
same((g["state"], g.get("reason"), g["evaluations"]), ("failed", OLD, 1), "it has failed, and says why and what to do")
c.call("job.resume", id=id)
same((e.next(), c.call("job.get", id=id)["reason"]), (None, OLD), "nor does it go on when resumed")
d.end()
done()
