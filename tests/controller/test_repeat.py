"""Repeats, from outside: which trial is trained or measured once more and why, what that costs, what becomes of its values, searches that are killed at every step."""
import json
import math
import os
import random
import sqlite3
import subprocess
import sys

sys.path.insert(0, os.path.join(os.environ.get("TAUT_SRC", "."), "tests/controller"))
from taut_wire import *

TAUT = os.path.join(os.environ["TAUT_BUILD"], "taut")
M = "decode_ms@128"
SIGMA, WIDTH = 0.02, 0.06


def job(n, d, **more):
    text = os.path.join(d.dir, "corpus.txt")
    with open(text, "w") as f:
        f.write("so it goes. " * 2000)
    return dict({"name": "r", "data": {"train": text, "context": 64}, "space": "lm-tiny", "objectives": ["valid_bpb", M], "precision": "f32", "audit": 0,
                 "search": {"population": 12, "strategy": "nsga2"}, "budget": {"evaluations": n}}, **more)


def normal(*key):
    return random.Random(json.dumps(key, sort_keys=True)).gauss(0, 1)


def size(arch):
    return arch["width"] * sum((layer["mixer"]["type"] == "attention") + (layer["ffn"]["type"] == "swiglu") for layer in arch["layers"])


def loss(arch, seed, rung=0):
    return 4 - 0.3 * math.log(size(arch)) + 0.03 * normal(arch) + SIGMA * normal(arch, seed, rung) - 0.1 * rung


def ms(arch, trial, noise=WIDTH):
    v = 0.01 * size(arch) ** 0.5 * (1 + 0.1 * normal(arch, "ms")) * (1 + noise / 2 * normal(trial))
    return {"median": v, "low": v * (1 - noise), "high": v * (1 + noise), "n": 30}


def report(e, l, noise=WIDTH):
    """All that was wanted, and no more."""
    m = {"valid_bpb": loss(l["arch"], l["seed"], l["rung"]), M: ms(l["arch"], l["trial"], noise)}
    e.report(l, metrics={k: v for k, v in m.items() if k in l["metrics"]}, curve=[[l["tokens"], 2]])


def conn(d, **more):
    more.setdefault("accepts", ["train", "profile"])
    return Evaluator(d.conn(), name="lm", spaces=["lm"], provides=["valid_bpb", "valid_loss", "decode_ms"], **more)


def work(e, n=10 ** 9, **more):
    had = []
    while len(had) < n:
        l = e.next()
        if l is None:
            break
        had.append(l)
        report(e, l, **more)
    return had


def store(d):
    return sqlite3.connect("file:%s/taut.db?mode=ro" % d.dir, uri=True)


def events(d, id, *types):
    return [(seq, t, json.loads(b)) for seq, t, b in store(d).execute("SELECT seq, type, body FROM event WHERE job=? ORDER BY seq", (id,)) if t in types]


def repeats(d, id):
    return [b for s, t, b in events(d, id, "proposed") if b["origin"]["op"] == "repeat"]


d = Daemon()
c = d.conn()
e = conn(d)

# One rung, noise in losses and times.
id = c.call("job.submit", job=job(150, d))["id"]
leases = {l["trial"]: l for l in work(e)}
g, again = c.call("job.get", id=id), repeats(d, id)
same((g["state"], g["evaluations"]), ("done", 150), "repeats are evaluations: %s" % g["reason"])
p = c.call("job.progress", id=id)
own = [t for t in sorted(leases) if t not in {b["trial"] for b in again}]
same((p["evaluations"], p["points"]["evaluation"]), (150, [sorted(leases).index(t) + 1 for t in own]), "job.progress counts them too, and has no points of them")
ok(10 <= len(again) <= 15, "at most one proposal in ten is a repeat: %d of 150" % len(again))
at = [b["proposal"] for b in again]
ok(at[0] >= 48 and all(x >= 10 * (i + 1) - 1 for i, x in enumerate(at)), "the first after 48 results, each once there is room for it: %s" % at)
same([b["origin"]["kind"] for b in again[:3]], ["train"] * 3, "the first three are trained with another seed, for the noise")
ok("noise" in again[0]["origin"]["reason"] and all("probability of being on the front is 0." in b["origin"]["reason"] for b in again[3:]), "each says why: %s" % again[3]["origin"]["reason"])
p = [float(b["origin"]["reason"].split("is ")[1].split(",")[0]) for b in again[3:]]
ok(all(0.1 <= x <= 0.9 for x in p) and sorted(abs(x - 0.5) for x in p)[len(p) // 2] < 0.05, "the others are of trials in doubt, those that are most: %s" % p)
kinds = {b["origin"]["kind"] for b in again}
same(kinds, {"train", "profile"}, "some are trained again, some measured")
of = {b["trial"]: b["origin"]["parents"][0] for b in again}
for b in again:
    l, first = leases[b["trial"]], leases[of[b["trial"]]]
    train = b["origin"]["kind"] == "train"
    same((l["task"]["kind"], l["arch"], l["seed"], l["tokens"], [m for m in l["metrics"] if m in (M, "valid_bpb")]),
         (b["origin"]["kind"], first["arch"], 1 + (b["origin"]["number"] if train else 0), first["tokens"], ["valid_bpb"] if train else [M]),
         "trial %d: trial %d once more, %s" % (b["trial"], of[b["trial"]], b["origin"]["kind"]))
ok(max(b["origin"]["number"] for b in again) <= 3, "none more than three times")
same([b["proposal"] for s, t, b in events(d, id, "proposed")], list(range(150)), "proposals have their numbers in order")

# Their values.
rows = {r["trial"]: r for r in c.call("job.front", id=id, uncertain=True)}
ok(not set(rows) & set(of), "a repeat is no member of the front")
T = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262, 10: 2.228, 11: 2.201, 12: 2.179, 13: 2.160, 14: 2.145, 15: 2.131}
values = {}
for b in again:
    if b["origin"]["kind"] == "train":
        values.setdefault(of[b["trial"]], [loss(leases[of[b["trial"]]]["arch"], 1)]).append(loss(leases[b["trial"]]["arch"], leases[b["trial"]]["seed"]))
dof = sum(len(v) - 1 for v in values.values())
sd = (sum(sum((x - sum(v) / len(v)) ** 2 for x in v) for v in values.values()) / dof) ** 0.5
for t, r in rows.items():
    v = values.get(t, [loss(leases[t]["arch"], 1)])
    mean, half = sum(v) / len(v), T[dof] * sd / len(v) ** 0.5
    got = r["metrics"]["valid_bpb"], r["intervals"]["valid_bpb"]
    if not (abs(got[0] - mean) < 1e-9 and abs(got[1][0] - mean + half) < 2e-2 * half and abs(got[1][1] - mean - half) < 2e-2 * half):
        same(got, (mean, [mean - half, mean + half]), "trial %d: the mean of %d seeds" % (t, len(v)))
ok(set(values) & set(rows), "a front shows the mean of a trial's seeds, and an interval by the noise that all have in common (sd %.4f, %d degrees of freedom; it is %.4f)" % (sd, dof, SIGMA))


def laird(v):
    s2 = [((x["high"] - x["low"]) / 2 / 1.959964) ** 2 for x in v]
    w = [1 / x for x in s2]
    m = sum(a * x["median"] for a, x in zip(w, v)) / sum(w)
    q = sum(a * (x["median"] - m) ** 2 for a, x in zip(w, v))
    tau = max(0, (q - len(v) + 1) / (sum(w) - sum(a * a for a in w) / sum(w)))
    w = [1 / (x + tau) for x in s2]
    return sum(a * x["median"] for a, x in zip(w, v)) / sum(w), 1 / sum(w) ** 0.5


timed = {}
for b in again:
    if b["origin"]["kind"] == "profile":
        timed.setdefault(of[b["trial"]], [ms(leases[of[b["trial"]]]["arch"], of[b["trial"]])]).append(ms(leases[b["trial"]]["arch"], b["trial"]))
seen = 0
front = {r["trial"]: r for r in c.call("job.front", id=id, uncertain=True, where="valid_bpb > 0")}
for t, v in timed.items():
    if t not in front:
        continue
    mean, error = laird(v)
    got = front[t]["metrics"][M], front[t]["intervals"][M]
    seen += 1
    ok(abs(got[0] - mean) < 1e-9 and abs(got[1][0] - mean + 1.959964 * error) < 1e-7, "trial %d: %d measurements as one, %.5f +- %.5f" % (t, len(v), mean, 1.96 * error))
ok(seen, "measurements were pooled")
n = {(t, k) for t, k in store(d).execute("SELECT trial, repeat FROM metric WHERE repeat > 0 AND name IN ('valid_bpb', ?)", (M,))}
same(n, {(of[b["trial"]], b["origin"]["number"]) for b in again}, "the store has them under the trial that they repeat, as its repeats")
same({r["trial"]: r["repeats"] for r in c.call("trial.list", job=id) if "repeats" in r}, of, "trial.list says what each repeats")
one = again[0]["trial"]
same(c.call("trial.get", arch_id=leases[one]["arch"] and c.call("trial.get", id=one)["arch_id"], job=id)["id"], of[one], "an architecture's trial is the first")
r = subprocess.run([TAUT, "show", str(one), "--dir", d.dir], capture_output=True, text=True)
ok(r.returncode == 0 and "a repeat of trial %d, trained: %s; proposal" % (of[one], again[0]["origin"]["reason"]) in r.stdout, "taut show %d: %s" % (one, [x for x in r.stdout.splitlines() if "repeat" in x]))
r = subprocess.run([TAUT, "front", str(id), "--dir", d.dir, "--uncertain"], capture_output=True, text=True)
ok(r.returncode == 0, "taut front --uncertain")

# A front of one.
id = c.call("job.submit", job=job(120, d, name="one", objectives=["valid_bpb"]))["id"]
best = []


def one_ahead(l):
    best.append(l["arch"])
    return {"valid_bpb": (1 if l["arch"] == best[0] else 3) + 0.1 * normal(l["arch"]) + 0.01 * normal(l["arch"], l["seed"])}


e.run(metrics=one_ahead)
again = [b for b in repeats(d, id)]
same({(b["origin"]["kind"], b["origin"]["number"], "noise" in b["origin"]["reason"]) for b in again}, {("train", i, True) for i in (1, 2, 3)}, "where one member is the front the noise is looked for in it, three times at most")
same(c.call("job.get", id=id)["state"], "done", "and the search comes to its end")

# Nothing in doubt.
id = c.call("job.submit", job=job(80, d, objectives=["params", M]))["id"]
work(e, noise=0)
same(repeats(d, id), [], "where nothing is in doubt nothing is repeated")
id = c.call("job.submit", job=dict(job(40, d), evaluator="external", space={"type": "custom", "knobs": {"x": {"float": [0, 1]}}}, objectives=["f"]))["id"]
f = Evaluator(d.conn(), name="custom")
f.run(metrics=lambda l: {"f": {"median": l["arch"]["x"], "low": l["arch"]["x"] - 1, "high": l["arch"]["x"] + 1, "n": 5}})
same(repeats(d, id), [], "nor in spaces of one's own")

# Rungs: up to where the trial is that is repeated.
id = c.call("job.submit", job=job(200, d, name="rungs", fidelity={"tokens": 90000, "rungs": 2, "eta": 2}))["id"]
work(e)
again = repeats(d, id)
train = {b["trial"] for b in again if b["origin"]["kind"] == "train"}
up = {b["trial"]: b.get("reason") for s, t, b in events(d, id, "promoted")}
g = c.call("job.get", id=id)
same((g["state"], len(train) >= 3), ("done", True), "with rungs: %d repeats, %d of them trained" % (len(again), len(train)))
same({t: up.get(t) for t in train}, {t: "repeat" for t in train}, "they go up to the top rung")
same(sum(r["trials"] for r in g["rungs"][:1]), 200 - len(again), "and stand in no rung's numbers")
front = c.call("job.front", id=id, uncertain=True)
ok(any("valid_bpb" in r["intervals"] for r in front), "the top rung's losses have an interval")

# An evaluator that only trains gets it all the same.
id = c.call("job.submit", job=job(80, d, name="old"))["id"]
e.c.close()
e = conn(d, accepts=["train"])
had = work(e)
kinds = {b["trial"]: b["origin"]["kind"] for b in repeats(d, id)}
same({l["task"]["kind"] for l in had}, {"train"}, "an evaluator that accepts no profiles has none (%d would have been)" % list(kinds.values()).count("profile"))
same(c.call("job.get", id=id)["state"], "done", "and the search comes to its end")
e.c.close()

# Killed whenever something is out.
def search(kill):
    global c
    e = conn(d)
    id = c.call("job.submit", job=job(90, d, name="same"))["id"]
    rng = random.Random(5)
    first = None
    while True:
        l = e.next()
        if l is None:
            break
        first = first or l["trial"]
        if kill and rng.random() < 0.15:
            d.kill()
            d.start()
            c = d.conn()
            e = conn(d, holds=[{"lease": l["lease"], "epoch": l["epoch"]}])
        m = {"valid_bpb": loss(l["arch"], l["seed"]), M: ms(l["arch"], l["trial"] - first)}
        e.report(l, metrics={k: v for k, v in m.items() if k in l["metrics"]})
    e.c.close()
    return [(b["arch_id"], b["origin"]["op"], b["seed"], b["origin"].get("kind"), b["origin"].get("reason")) for s, t, b in events(d, id, "proposed")]


a = search(False)
b = search(True)
same(b, a, "a search that is killed all the time repeats what an undisturbed one does: %d repeats" % sum(x[1] == "repeat" for x in a))
c.close()
d.term()
r = verify(d.dir)
same(r.returncode, 0, "tables and events agree: %s" % r.stderr.strip())
d.start()
d.end()
done()
