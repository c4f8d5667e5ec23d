"""Rungs, from outside: who is promoted, what a promotion is leased with, fronts by rung, the end; a search that is killed at every step promotes the same."""
import json
import os
import sqlite3
import sys

sys.path.insert(0, os.path.join(os.environ.get("TAUT_SRC", "."), "tests/controller"))
from taut_wire import *

N, TOKENS = 27, [100, 300, 900]


def job(**more):
    return custom_job(audit=0, fidelity={"tokens": 900, "rungs": 3, "eta": 3}, budget={"evaluations": N}, search={"population": 6}, **more)


def measure(lease):
    """Better with every rung, and in another order than on the one below."""
    m, rung = score(lease["arch"]), lease["rung"]
    return {k: v + 4 / (1 + rung) + (0.3 * (lease["trial"] * 7 % 5) if not rung else 0) for k, v in m.items()}


def work(e, n=10 ** 9, fail=()):
    """[(trial, rung)] in the order of the leases."""
    had = []
    while len(had) < n:
        l = e.next()
        if l is None:
            break
        had.append((l["trial"], l["rung"]))
        if (l["trial"], l["rung"]) in fail:
            e.report(l, "failed", error="diverged")
        else:
            e.report(l, metrics=measure(l), curve=[[l["tokens"], 2]])
    return had


d = Daemon()
c = d.conn()
for bad, what in (({"rungs": 3, "tokens": 4}, "rung 0 of 3 has no tokens"), ({"rungs": 3, "tokens": 5, "eta": 1.1}, "rungs 1 and 2 have as many tokens (5)"), ({"rungs": 40}, "1 to 32"), ({"rungs": 2, "eta": 1}, "1.1 to 100")):
    code, text = c.code("job.submit", job=custom_job(fidelity=bad))
    same((code, what in text), (-32602, True), "refused: %s" % text)
code, text = c.code("job.submit", job={"evaluator": {"problem": "zdt1"}, "fidelity": {"rungs": 2}})
same((code, "fidelity.rungs" in text), (-32602, True), "refused: %s" % text)

id = c.call("job.submit", job=job())["id"]
e = Evaluator(d.conn())
leases = []
while True:
    l = e.next()
    if l is None:
        break
    leases.append(l)
    e.report(l, metrics=measure(l), curve=[[l["tokens"], 2]], checkpoint={"path": "/w/%d.%d" % (l["trial"], l["rung"]), "hash": "w", "bytes": 1, "tokens": l["tokens"]},
             stable={"path": "/s/%d.%d" % (l["trial"], l["rung"]), "hash": "s", "bytes": 1, "tokens": 0.8 * l["tokens"]})
order = [(l["trial"], l["rung"]) for l in leases]
on = [[t for t, r in order if r == k] for k in range(3)]
same([l["tokens"] for l in leases], [TOKENS[l["rung"]] for l in leases], "each rung has its tokens")
same((len(on[0]), all(len(set(x)) == len(x) for x in on)), (N, True), "%d trials, none twice on a rung: %s" % (N, [len(x) for x in on]))
ok(9 <= len(on[1]) <= 14 and 3 <= len(on[2]) <= 6, "about a third goes up each time")
ok(set(on[2]) <= set(on[1]) <= set(on[0]), "what is on a rung was on the one below")
ups = [l for l in leases if l["rung"]]
same([l["checkpoint"]["path"] for l in ups], ["/s/%d.%d" % (l["trial"], l["rung"] - 1) for l in ups], "a promotion goes on from before the decay")
ok(all("checkpoint" not in l for l in leases if not l["rung"]), "a new trial from its start")
g = c.call("job.get", id=id)
same((g["state"], g["evaluations"], g["reason"]), ("done", N, "budget used up: %d evaluations" % N), "promotions are no evaluations")
same(g["rungs"], [{"rung": r, "tokens": TOKENS[r], "trials": len(on[r]), "ok": len(on[r])} for r in range(3)], "job.get counts by rung")
same(g["trials"], {"ready": 0, "leased": 0, "ok": N, "failed": 0, "pruned": 0}, "and by state")


def front(trials, rung):
    v = {l["trial"]: measure(l) for l in leases if l["rung"] == rung and l["trial"] in trials}
    dom = lambda a, b: a["f1"] <= b["f1"] and a["f2"] <= b["f2"] and a != b
    return sorted(t for t in v if not any(dom(v[k], v[t]) for k in v))


same(sorted(r["trial"] for r in c.call("job.front", id=id)), front(on[2], 2), "the front is the top rung's")
for r in range(3):
    rows = c.call("job.front", id=id, rung=r)
    same(sorted(x["trial"] for x in rows), front(on[r], r), "the front of rung %d" % r)
    want = {l["trial"]: measure(l) for l in leases if l["rung"] == r}
    ok(all(x["metrics"] == want[x["trial"]] and x["rung"] == r for x in rows), "with that rung's values")
same(c.code("job.front", id=id, rung=3)[0], -32602, "a rung that is not there")
p = c.call("job.progress", id=id)
same((p["evaluations"], len(p["points"]["evaluation"]), p["points"]["evaluation"][-1]), (N, len(order), N), "progress: a point for each report")
hv = p["points"]["hypervolume"]
first = next(i for i, l in enumerate(leases) if l["rung"] == 2)
ok(all(x == 0 for x in hv[:first]) and hv[-1] > 0 and hv == sorted(hv), "hypervolume is the top rung's, and grows")
t = c.call("trial.get", id=on[2][0])
same((t["rung"], [x["rung"] for x in t["rungs"]], t["curve"], t["rungs"][0]["curve"]), (2, [0, 1], [[900, 2]], [[100, 2]]), "trial.get has each rung")
same([x["metrics"]["f1"] for x in t["rungs"]] + [t["metrics"]["f1"]["median"]],
     [measure(l)["f1"] for l in leases if l["trial"] == t["id"]], "and its metrics there")
same([(x["trial"], x["rung"]) for x in c.call("trial.list", job=id)], [(t, max(r for u, r in order if u == t)) for t in on[0]], "trial.list says which rung each is on")
same(c.code("job.resume", id=id, budget={"evaluations": N})[0], -32002, "nothing is left to promote")
c.call("job.resume", id=id, budget={"evaluations": N + 9})
same(len([x for x in work(e) if x[1] == 0]), 9, "a larger budget goes on")
c.close()
d.end_verified()

# Killed after each lease and after each report: the same trials on the same rungs, in the same order.
d = Daemon()
id = d.conn().call("job.submit", job=job())["id"]


def leased_again(first, l):
    if first["rung"]:
        same((l["trial"], l["rung"], l.get("checkpoint")), (first["trial"], first["rung"], first.get("checkpoint")), "what was out is leased again")


got = work_killed(d, measure, leased_again)
same(got, order, "a search that is killed all the time promotes what an undisturbed one does")
same(d.conn().call("job.get", id=id)["state"], "done", "and ends")
d.end()

# A trial that fails on its way up is not promoted, and the rung below keeps its result; little is enough for the top rung.
d = Daemon()
c = d.conn()
e = Evaluator(d.conn())
id = c.call("job.submit", job=dict(job(), budget={"evaluations": 2}))["id"]
same([r for t, r in work(e)], [0, 0, 1, 2], "of two trials one gets to the top")
id = c.call("job.submit", job=dict(job(), budget={"evaluations": 3}))["id"]
one = work(e, 4)[-1]
same(one[1], 1, "the third report makes a promotion")
same(c.call("job.get", id=id)["state"] in ("running", "waiting"), True, "the search is not over while one is to go up")
same(work(e), [(one[0], 2)], "it goes up to the top")
id = c.call("job.submit", job=dict(job(), budget={"evaluations": 3}))["id"]
first = [t for t, r in work(e, 3)]
l = e.next()
e.report(l, "failed", error="diverged")
same(work(e), [], "a trial that fails on rung 1 leaves nothing to promote")
g = c.call("job.get", id=id)
same((g["state"], g["evaluations"], [x["ok"] for x in g["rungs"]]), ("done", 3, [3, 0, 0]), "the search is done; rung 0 keeps its results")
ok(l["trial"] in [x["trial"] for x in c.call("job.front", id=id)] or len(c.call("job.front", id=id)) > 0, "the front is the highest rung's that has results")
same(c.call("job.list")[-1]["best"], {}, "best counts at the top alone")

# Energy is what each rung took, not the whole training again.
id = c.call("job.submit", job=dict(job(), budget={"evaluations": 2}))["id"]
while True:
    l = e.next()
    if l is None:
        break
    e.report(l, metrics=dict(measure(l), train_joules=[10, 25, 75][l["rung"]]), joules=[10, 20, 60][l["rung"]])
same(c.call("job.get", id=id)["joules"], 10 + 10 + 20 + 60, "energy of all rungs")
code, text = c.code("evaluator.report", lease=1, epoch=1, status="ok", joules=-1)
same((code, "joules" in text), (-32602, True), "refused: %s" % text)

# A constraint that more training cannot mend.
lm = os.path.join(d.dir, "text.txt")
with open(lm, "w") as f:
    f.write("what is profiled is measured once. " * 400)
id = c.call("job.submit", job={"objectives": ["valid_bpb", "decode_ms@16"], "constraints": [{"metric": "decode_ms@16", "max": 1}],
                               "data": {"train": lm, "context": 32}, "train": {"batch": 2}, "fidelity": {"tokens": 5760, "rungs": 3}, "budget": {"evaluations": 9}, "audit": 0,
                               "space": {"type": "lm", "depth": [1, 2], "width": [16, 32], "mixer": {"attention": {"heads": [1, 2]}},
                                         "ffn": {"swiglu": {"ratio": [1, 2, 3]}}}})["id"]
e = Evaluator(d.conn(), "lm", spaces=["lm"])
n = 0
while True:
    l = e.next()
    if l is None:
        break
    m = {"valid_bpb": 3 - l["rung"] - 0.01 * l["trial"]}
    if l["rung"] == 0:
        n += 1
        m["decode_ms@16"] = 0.5 + 0.01 * n if n in (2, 5) else 2
        same(("decode_ms@16" in l["metrics"], l["task"]["rungs"]), (True, [640, 1920, 5760]), "rung 0 is profiled") if n == 1 else None
    else:
        ok("decode_ms@16" not in l["metrics"] and "valid_bpb" in l["metrics"], "rung %d of trial %d is not" % (l["rung"], l["trial"]))
    e.report(l, metrics=m)
    last = l["trial"] if l["rung"] == 2 else None
rows = c.call("trial.list", job=id)
ok(all(x["rung"] == 0 for x in rows if x["metrics"]["decode_ms@16"] > 1) and sum(x["rung"] > 0 for x in rows) == 2, "what breaks a constraint that training does not change stays below")
rows = c.call("job.front", id=id)
ok(rows and all(x["rung"] == 2 and x["metrics"]["decode_ms@16"] <= 1 for x in rows), "what was profiled below holds at the top")
c.close()
d.end_verified()
done()
