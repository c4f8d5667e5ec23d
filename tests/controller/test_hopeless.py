"""Searches that cannot get anywhere, or not as asked: spaces with one member, objectives that do not vary, constraints that nothing meets. Each comes to an end and says why."""
import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.environ.get("TAUT_SRC", "."), "tests/controller"))
from taut_wire import *

TAUT = os.path.join(os.environ["TAUT_BUILD"], "taut")
STRATEGIES = ("auto", "nsga2", "aging", "surrogate", "random")


def ends(c, e, job, measure=None):
    """The job, searched to its end: (job.get, its events)."""
    id = c.call("job.submit", job=job)["id"]
    while True:
        l = e.next()
        if l is None:
            break
        if l["task"]["kind"] == "supernet":
            e.report(l, metrics={}, checkpoint={"path": "/nets/1", "hash": "0" * 64, "bytes": 1, "tokens": l["tokens"]})
        else:
            e.report(l, metrics=measure(l) if measure else None)
    w = d.conn()
    w.call("job.watch", id=id, after=0)
    g, seen = c.call("job.get", id=id), []
    while len(seen) < g["last_seq"]:
        seen.append(w.note()["params"])
    w.close()
    return g, seen


def status(id):
    return subprocess.run([TAUT, "status", str(id), "--dir", d.dir], capture_output=True, text=True).stdout


d = Daemon()
c = d.conn()
e = Evaluator(d.conn(), spaces=["custom"])
with open(os.path.join(d.dir, "text.txt"), "w") as f:
    f.write("one candidate is a search too. " * 400)


def lm_job(**more):
    """A space of 2 depths and 36 candidates in all, from 9,000 parameters on."""
    return dict({"objectives": ["valid_bpb", "params"], "data": {"train": os.path.join(d.dir, "text.txt"), "context": 32}, "train": {"batch": 2}, "fidelity": {"tokens": 640},
                 "space": {"type": "lm", "depth": [1, 2], "width": [16, 32], "mixer": {"attention": {"heads": [1, 2]}}, "ffn": {"swiglu": {"ratio": [1, 2, 3]}}}}, **more)


# ---- one member ----
one = {"type": "custom", "knobs": {"x": {"choice": [3]}}}
for s in STRATEGIES:
    g, seen = ends(c, e, custom_job(space=one, search={"strategy": s}), lambda l: {"f1": 1, "f2": 2})
    same((g["state"], g["reason"], g["evaluations"]), ("done", "the space is used up: 1 candidate", 1), "%s: a space with one member is one evaluation" % s)
    ok("flat" not in g and not any(x["type"] == "flat" for x in seen), "of one result nobody can say that it does not vary")
g, seen = ends(c, e, custom_job(space=one, audit=0, fidelity={"tokens": 900, "rungs": 3}), lambda l: {"f1": 1, "f2": 2})
same((g["state"], [r["ok"] for r in g["rungs"]]), ("done", [1, 1, 1]), "with rungs it gets to the top")
g, seen = ends(c, e, custom_job(space=one, fidelity={"tokens": 900, "rungs": 3}, budget={"evaluations": 40}), lambda l: {"f1": 1, "f2": 2})
same((g["state"], [r["ok"] for r in g["rungs"]], g["audit"]["results"]), ("done", [1, 1, 1], 1), "and an audit that wants 12 ends with the one there is")
lm = Evaluator(d.conn(), "lm", spaces=["lm"])
single = {"type": "lm", "depth": [1, 1], "width": [16], "mixer": {"attention": {"heads": [1]}}, "ffn": {"swiglu": {"ratio": [1]}}}
for s in STRATEGIES:
    g, seen = ends(c, lm, lm_job(space=single, search={"strategy": s}), lambda l: {"valid_bpb": 2})
    same((g["state"], g["reason"]), ("done", "the space is used up: 1 candidate"), "%s: so of language models" % s)
sharing = Evaluator(d.conn(), "sharing", spaces=["lm"], accepts=["train", "validate", "supernet"])
g, seen = ends(c, sharing, lm_job(space=single, search={"weights": "shared"}, budget={"evaluations": 30}), lambda l: {"valid_bpb": 3 - l["rung"]})
same((g["state"], g["reason"], [r["ok"] for r in g["rungs"]]), ("done", "the space is used up: 1 candidate", [1, 1]), "with shared weights too, once it was trained alone")
ok(", 1 candidate\n" in status(g["id"]), "taut status says so")

# ---- objectives that do not vary ----
for s in STRATEGIES:
    job = custom_job(search={"strategy": s, "population": 6}, budget={"evaluations": 40})
    g, seen = ends(c, e, job, lambda l: {"f1": score(l["arch"])["f1"], "f2": 7.5})
    flat = [(x["metric"], x["value"], x["results"]) for x in seen if x["type"] == "flat"]
    same((g["state"], g["evaluations"], flat, g["flat"]), ("done", 40, [("f2", 7.5, 6)], [{"metric": "f2", "value": 7.5}]), "%s: an objective that does not vary is named, once" % s)
    before = [x["seq"] for x in seen if x["type"] == "reported"]
    ok([x["seq"] for x in seen if x["type"] == "flat"][0] < before[6], "after the first results of the population")
    if s == "nsga2":
        ok(g["best"]["f1"]["value"] < 1, "and the search goes on by the other: %s" % g["best"])
        text = status(g["id"])
        ok("f2 is 7.500 in every result: it steers nothing" in text, "taut status says so: %s" % text)
for s in STRATEGIES:
    g, seen = ends(c, e, custom_job(search={"strategy": s, "population": 6}, budget={"evaluations": 40}), lambda l: {"f1": 1, "f2": 7.5})
    same((g["state"], g["evaluations"], [x["metric"] for x in g["flat"]]), ("done", 40, ["f1", "f2"]), "%s: two that do not vary" % s)
g, seen = ends(c, e, custom_job(search={"population": 6}, budget={"evaluations": 12}), lambda l: {"f1": score(l["arch"])["f1"], "f2": -1})
same((g["state"], g["evaluations"], g["flat"]), ("done", 12, [{"metric": "f2", "value": -1}]), "one that is below 0 throughout")
g, seen = ends(c, e, custom_job(search={"population": 4}, budget={"evaluations": 12}), lambda l: {"f1": score(l["arch"])["f1"], "f2": 1 if l["trial"] % 12 else 2})
ok([x["metric"] for x in seen if x["type"] == "flat"] in ([], ["f2"]) and "flat" not in g, "one that varies after all is in no list at the end")

# ---- constraints that nothing meets: measured ----
tight = [{"metric": "f1", "max": 2}, {"metric": "f2", "min": 40}]
g, seen = ends(c, e, custom_job(constraints=tight, search={"population": 3}, budget={"evaluations": 5}), lambda l: {"f1": 2.5 + (l["trial"] * 7 % 5), "f2": 30})
first = [x for x in seen if x["type"] == "reported"]
values = {x["trial"]: x["metrics"]["f1"] if not isinstance(x["metrics"]["f1"], dict) else x["metrics"]["f1"]["median"] for x in first}
best = min(values, key=lambda t: (values[t], t))
want = "f1 %g (at most 2: %.3g %% over), f2 30 (at least 40: 25 %% under)" % (values[best], 50 * (values[best] - 2))
same((g["state"], g["reason"]), ("done", "budget used up: 5 evaluations; no result meets the constraints, the closest is trial %d: %s" % (best, want)), "a search whose results all break a constraint says which, and by how much")
same(g["unmet"], {"results": 5, "trial": best, "breaks": want}, "job.get has it")
early = min(list(values)[:3], key=lambda t: (values[t], t))
same([(x["results"], x["trial"]) for x in seen if x["type"] == "unmet"], [(3, early)], "after the first population it is an event")
ok("none of 5 results meets them" in status(g["id"]) and want in status(g["id"]), "taut status says so")
same(c.call("job.front", id=g["id"]), [], "and there is no front")
g, seen = ends(c, e, custom_job(constraints=tight, search={"population": 3}, budget={"evaluations": 5}), lambda l: {"f1": 1, "f2": 30 + 10 * (l["trial"] % 5 == 0)})
ok("unmet" not in g and g["reason"] == "budget used up: 5 evaluations", "with one that holds them there is nothing to say")

# ---- constraints that nothing meets: known on paper ----
g, seen = ends(c, lm, lm_job(constraints=[{"metric": "params", "max": 10}, {"metric": "valid_bpb", "max": 3}]))
ok(g["state"] == "failed" and g["reason"].startswith("no trial succeeded; the space is used up: no candidate meets the constraints; the closest: params "), "a space that a constraint rules out: %s" % g["reason"])
least = int(g["reason"].split("params ")[1].split()[0])
g, seen = ends(c, lm, lm_job(constraints=[{"metric": "params", "max": least}]), lambda l: {"valid_bpb": 2})
same((g["state"], g["evaluations"] >= 1, g["best"]["params"]["value"]), ("done", True, least), "the closest is the closest: with that bound it is found")
g, seen = ends(c, lm, lm_job(constraints=[{"metric": "params", "max": least - 1}]))
ok("params %d (at most %d: " % (least, least - 1) in g["reason"], "and with one below it is not: %s" % g["reason"])
large = dict(lm_job()["space"], depth=[12, 24], width=[16, 32, 48, 64, 96, 128, 256], ffn={"swiglu": {"ratio": [1, 3, 4]}})
g, seen = ends(c, lm, lm_job(space=large, constraints=[{"metric": "params", "max": 10}]))
ok(g["state"] == "failed" and "none of 4160 draws meets the constraints; the closest: params " in g["reason"], "so in a space too large to look at all of it: %s" % g["reason"])
least = int(g["reason"].split("params ")[1].split()[0])
g, seen = ends(c, lm, lm_job(space=large, constraints=[{"metric": "params", "max": least}], budget={"evaluations": 3}), lambda l: {"valid_bpb": 2})
ops = [x["origin"]["op"] for x in seen if x["type"] == "proposed"]
ok(g["evaluations"] >= 1 and ops[0] == "repair", "a corner that 2,000 samples miss is walked to: %s, %s" % (g["reason"], ops))
c.close()
d.end_verified()
done()
