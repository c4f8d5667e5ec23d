"""taut-evaluator on a ladder of rungs: what it tells on the way, what a promotion goes on from, and the same bits whatever happens between."""
import os
import sys
import threading

SRC = os.environ.get("TAUT_SRC", ".")
sys.path[:0] = [os.path.join(SRC, "tests/controller"), os.path.join(SRC, "tests/evaluator")]
from taut_wire import ok, same, done
from fake import *

DATA = spec(put("text.txt", prose(20000)))
STEPS = [300, 900, 2700]
TRUNK = [240, 720, 2160]
RESULTS = ("valid_loss", "valid_bpb")


def rung(n, r, checkpoint=None, trial=1, **more):
    l = lease(n, DATA, steps=STEPS[r], metrics=["valid_bpb", "valid_loss"] + ([] if r else ["decode_ms@16"]), checkpoint=checkpoint, **more)
    l["trial"], l["rung"] = trial, r
    l["task"]["rungs"] = [s * STEP for s in STEPS]
    l["task"]["train"]["warmup"] = 0.01
    return l


def results(r):
    return ([r["metrics"].get(k) for k in RESULTS], r["curve"], r["checkpoint"]["hash"], r["checkpoint"]["tokens"])


class Heard:
    """What progress tells: curves by their last step, checkpoints."""

    def __init__(self, f, stop=None, go=True, drop=()):
        self.f, self.drop = f, set(drop)
        self.marks, self.stable, self.steps, self.event, self.stop, self.go = [], [], [], threading.Event(), stop, go
        f.progress = self

    def __call__(self, p):
        self.steps.append(p.get("step", 0))
        if p.get("curve"):
            self.marks.append(round(p["curve"][-1][0] / STEP))
            if self.marks[-1] in self.drop:
                self.drop.remove(self.marks[-1])
                self.f.drop()  # nobody hears the answer
        if "checkpoint" in p and ".stable." in p["checkpoint"]["path"]:
            self.stable.append(p["checkpoint"])
        if self.stop and p.get("step", 0) >= self.stop:
            self.event.set()
            return {"go": self.go}
        return {"go": True}


f = Fake()
w = Worker(f)
f.registers.get(timeout=HANG)
checkpoint, seen = None, []
for r in range(3):
    h = Heard(f)
    f.leases.put(rung(r + 1, r, checkpoint))
    got = f.reported()
    same((got["status"], got["checkpoint"]["tokens"]), ("ok", STEPS[r] * STEP), "rung %d is trained to its tokens" % r)
    below = TRUNK[r - 1] if r else 0
    quarters = [TRUNK[r] * q // 4 for q in (1, 2, 3)] + ([TRUNK[r]] if r < 2 else [])
    same(h.marks, [q for q in quarters if q > below], "its curve is told after each quarter of the trunk")
    ok(min(s for s in h.steps if s) > below, "no step twice: it begins after step %d" % below)
    if r < 2:
        same([(s["tokens"], s["path"], s["hash"]) for s in h.stable], [(TRUNK[r] * STEP, os.path.join(w.work, "job1-trial1.stable.safetensors"), got["stable"]["hash"])],
             "where it leaves the trunk it says so")
        same(got["stable"], h.stable[0], "and again in its report")
        same(sha(got["stable"]["path"]), got["stable"]["hash"], "which is that file")
        checkpoint = got["stable"]
    else:
        ok("stable" not in got, "nothing goes on from the top")
    same("decode_ms@16" in got["metrics"], r == 0, "it is profiled on the first rung" if not r else "and not on this one")
    seen.append(results(got))
ok(seen[0][0][0] > seen[1][0][0] > seen[2][0][0], "each is better: %s" % [round(s[0][0], 3) for s in seen])

h = Heard(f)
plain = lease(9, DATA, steps=STEPS[2], metrics=["valid_bpb", "valid_loss"], train={"warmup": 0.01})
f.leases.put(plain)
got = f.reported()
same(([got["metrics"][k] for k in RESULTS], got["checkpoint"]["hash"]), (seen[2][0], seen[2][2]), "the top rung is the training without rungs, bit for bit")
same((h.marks, "stable" in got), ([], False), "of which no curve is told on the way")
same(sorted(x for x in os.listdir(w.work) if "trial1." in x), ["job1-trial1.rung1.safetensors", "job1-trial1.rung2.safetensors", "job1-trial1.safetensors"],
     "each rung's weights are kept, and nothing that nobody goes on from")

for r in (1, 2):
    f.leases.put(rung(10 + r, r, trial=10 + r))
    same(results(f.reported()), seen[r], "rung %d from its start: the same bits" % r)

# Stopped in the decay of rung 1: it goes on from where the trunk was left.
f.leases.put(rung(20, 0, trial=20))
zero = f.reported()
h = Heard(f, stop=TRUNK[1] + 20)
f.leases.put(rung(21, 1, zero["stable"], trial=20))
ok(h.event.wait(HANG), "it is in its decay")
w.p.send_signal(signal.SIGTERM)
r = f.reported()
same((r["status"], "checkpoint" in r), ("preempted", False), "stopped there it writes nothing more")
w.end()
w = Worker(f)
h2 = Heard(f)
f.leases.put(rung(22, 1, h.stable[-1], trial=20))
same(results(f.reported()), seen[1], "and comes to the same bits")
ok(min(s for s in h2.steps if s) >= TRUNK[1], "from step %d" % TRUNK[1])

# Killed on the trunk, with a checkpoint of its own further on than the trunk's end below.
f.leases.put(rung(30, 0, trial=30))
zero = f.reported()
w.term()
w = Worker(f)
h = Heard(f, stop=400)
f.leases.put(rung(31, 1, zero["stable"], trial=30))
ok(h.event.wait(HANG), "it is on the trunk of rung 1")
w.p.send_signal(signal.SIGTERM)
r = f.reported()
ok(r["status"] == "preempted" and r["checkpoint"]["path"].endswith("rung1.safetensors") and r["checkpoint"]["tokens"] >= 400 * STEP, "stopped there it keeps what it has")
w.end()
w = Worker(f)
f.leases.put(rung(32, 1, r["checkpoint"], trial=30))
same(results(f.reported()), seen[1], "and comes to the same bits")

# Told to stop at a mark.
h = Heard(f, stop=TRUNK[0] // 2, go=False)
f.leases.put(rung(40, 0, trial=40))
r = f.reported()
same((r["status"], h.marks[-1]), ("preempted", TRUNK[0] // 2), "told to stop at a mark, it does")

# A mark is told until it was heard, in its order, with the curve up to there; after a break, each that may not have been.
quarters = [TRUNK[0] * q // 4 for q in (1, 2, 3, 4)]
h = Heard(f, drop=quarters[:1] + quarters[3:])
f.leases.put(rung(41, 0, trial=41))
same(results(f.reported()), seen[0], "connections lost at marks: the same bits")
same(h.marks, [quarters[0]] + quarters + [quarters[3]], "and each mark is heard")
h = Heard(f, stop=TRUNK[0] * 3 // 4 + 5)
f.leases.put(rung(42, 0, trial=42))
ok(h.event.wait(HANG), "one on its way")
w.p.send_signal(signal.SIGTERM)
r = f.reported()
w.end()
w = Worker(f)
h = Heard(f)
f.leases.put(rung(43, 0, r.get("checkpoint"), trial=42))
same((results(f.reported()), h.marks), (seen[0], quarters), "which goes on from there tells of what is behind it")

# What a promotion goes on from is gone, or another's.
Heard(f)
f.leases.put(rung(50, 1, {"path": path("nowhere.safetensors"), "hash": "00", "bytes": 1, "tokens": TRUNK[0] * STEP}, trial=50))
same(results(f.reported()), seen[1], "without it, from the start: the same bits")
f.leases.put(rung(51, 0, trial=51, arch=arch(64)))
other = f.reported()["stable"]
f.leases.put(rung(52, 1, other, trial=52))
same(results(f.reported()), seen[1], "nor is another's taken")
for n, (task, what) in enumerate([([], "no rungs"), (["x"], "no tokens"), ([3 * STEP, STEP], "that do not grow"), ([STEP] * 40, "too many")], 60):
    l = rung(n, 0, trial=n)
    l["task"]["rungs"] = task
    f.leases.put(l)
    r = f.reported()
    ok(r["status"] == "failed" and "task.rungs" in r["error"], "a ladder of %s: %s" % (what, r.get("error")))
same(w.term(), 0, "it leaves")
finish()
done()
