"""Learning curves and scaling, from outside: losses made by a known law, so that what is pruned and what is predicted can be told to be right."""
import json
import math
import os
import random
import sqlite3
import sys

sys.path.insert(0, os.path.join(os.environ.get("TAUT_SRC", "."), "tests/controller"))
from taut_wire import *

E, A, ALPHA, B, BETA = 1.2, 30.0, 0.5, 400.0, 0.5
STEP, TOKENS = 64, [6400, 19200, 57600]


def law(n, d):
    return E + A / n ** ALPHA + B / d ** BETA


def job(d, **more):
    path = os.path.join(d.dir, "text.txt")
    with open(path, "w") as f:
        f.write("what is learned is learned by a law. " * 400)
    j = {"objectives": ["valid_loss", "params"], "data": {"train": path, "context": 32}, "train": {"batch": 2}, "fidelity": {"tokens": 57600, "rungs": 3},
         "search": {"strategy": "random", "population": 8}, "budget": {"evaluations": 30}, "audit": 0,
         "space": {"type": "lm", "depth": [1, 4], "width": [16, 32, 64], "mixer": {"attention": {"heads": [1, 2]}}, "ffn": {"swiglu": {"ratio": [1, 2, 3]}}}}
    j.update(more)
    return j


class Trainer:
    """Trains by the law. worse(trial): so much above it. Tells of its curve at each quarter of the trunk."""

    def __init__(self, d, worse=lambda t: 0):
        self.d, self.worse = d, worse
        self.connect()
        self.params, self.done, self.pruned = {}, [], {}

    def connect(self):
        self.c = self.d.conn()
        self.e = Evaluator(self.c, "lm", spaces=["lm"])

    def size(self, trial):
        if trial not in self.params:
            self.params[trial] = self.c.call("trial.get", id=trial)["metrics"]["params"]["median"]
        return self.params[trial]

    def loss(self, trial, tokens):
        return law(self.size(trial), tokens) + self.worse(trial)

    def curve(self, l, upto):
        r = random.Random(l["trial"])
        points = [STEP * k for k in range(1, int(upto / STEP) + 1)]
        return [[t, self.loss(l["trial"], t) + 0.25 + r.gauss(0, 0.002)] for t in points]

    def work(self, kill=False, n=10 ** 9):
        while n > 0:
            l = self.e.next()
            if l is None:
                return
            n -= 1
            steps = l["tokens"] // STEP
            trunk, go = (steps - round(0.2 * steps)) * STEP, True
            for q in (1, 2, 3):
                if kill:
                    self.d.restart()
                    self.connect()
                    again = self.e.next()
                    assert (again["trial"], again["rung"]) == (l["trial"], l["rung"])
                    l = again
                upto = trunk * q // 4
                go = self.c.call("evaluator.progress", lease=l["lease"], epoch=l["epoch"], step=upto // STEP, tokens=upto, curve=self.curve(l, upto))["go"]
                if not go:
                    break
            if not go:
                self.pruned[l["trial"]] = (l["rung"], upto)
                continue
            self.e.report(l, metrics={"valid_loss": self.loss(l["trial"], l["tokens"]), "valid_bpb": self.loss(l["trial"], l["tokens"]) / math.log(2)},
                          curve=self.curve(l, trunk))
            self.done.append((l["trial"], l["rung"]))


worse = lambda t: 1.5 if t % 5 == 0 else 0.02 * (t % 3)
d = Daemon()
c = d.conn()
id = c.call("job.submit", job=job(d))["id"]
w = Trainer(d, worse)
w.work()
g = c.call("job.get", id=id)
same((g["state"], g["evaluations"]), ("done", 30), "the search ends")
ok(len(w.pruned) >= 3 and g["trials"]["pruned"] == len(w.pruned), "%d trials were pruned" % len(w.pruned))
on = {r: [t for t, k in w.done if k == r] for r in range(3)}
for t, (rung, upto) in w.pruned.items():
    end = w.loss(t, TOKENS[rung])
    ok(any(w.loss(o, TOKENS[rung]) < end and w.size(o) <= w.size(t) for o in on[rung]), "trial %d, pruned on rung %d, would have been dominated there" % (t, rung))
c2 = d.conn()
c2.call("job.watch", id=id, after=0)
p = c2.until(lambda p: p["type"] == "pruned" and p["rung"] == 0)
t = p["trial"]
x = c.call("trial.get", id=t)
ok(x["state"] == "pruned" and "97.5 %" in x["error"] and "valid_loss" in x["error"], "why is kept: %s" % x["error"])
end = w.loss(t, TOKENS[p["rung"]])
ok(abs(p["predicted"] - end) < 0.1 and p["low"] < p["predicted"], "its end was seen coming: %.3f, at best %.3f; %.3f it would have been" % (p["predicted"], p["low"], end))
ok(w.loss(p["by"], TOKENS[p["rung"]]) < p["low"] and w.size(p["by"]) <= w.size(t), "with the trial that is better in everything")
same(x["metrics"].get("valid_loss"), None, "it has no result")
rows = c.call("trial.list", job=id)
same(sum(r["state"] == "pruned" for r in rows), len(w.pruned), "trial.list says so too")
ok(not set(w.pruned) & {r["trial"] for r in c.call("job.front", id=id)}, "none is on the front")

# ---- scaling ----
code, text = c.code("trial.predict", id=t, tokens=1e6)
same((code, "has no result" in text), (-32002, True), "a trial without a result: %s" % text)
best = [t for t in on[2] if worse(t) == 0][0]
q = c.call("trial.predict", id=best, tokens=576000)
want = law(w.size(best), 576000)
v = q["valid_loss"]
ok(abs(v["value"] / want - 1) < 0.05 and v["low"] <= want <= v["high"], "at ten times the tokens: %.4f (%.4f to %.4f), as the law has it: %.4f" % (v["value"], v["low"], v["high"], want))
ok(abs(q["valid_bpb"]["value"] - v["value"] / math.log(2)) < 1e-9, "in bits a byte as well")
same((q["reach"]["params"], round(q["reach"]["tokens"], 6), q["params"], q["data"]["tokens"]), (1, 10, w.size(best), [6400, 57600]), "and how far that is out of the results")
ok(abs(c.call("trial.predict", id=best, tokens=57600)["valid_loss"]["value"] - w.loss(best, 57600)) < 1e-9, "where it was measured it is what was measured")
near, far = (c.call("trial.predict", id=best, tokens=n)["valid_loss"] for n in (60000, 1e12))
ok(far["high"] - far["low"] > near["high"] - near["low"], "the interval grows with the distance")
wide = c.call("trial.predict", id=best, tokens=576000, width=256)
ok(wide["params"] > 10 * q["params"] and wide["reach"]["params"] > 1 and wide["valid_loss"]["value"] < v["value"], "wider: %d parameters, %.4f" % (wide["params"], wide["valid_loss"]["value"]))
same(c.call("trial.predict", id=best, tokens=576000), q, "the same question, the same answer")
same(c.code("trial.predict", id=10 ** 6, tokens=1), (-32001, "no trial 1000000"), "no such trial")
for bad in ({"id": best}, {"id": best, "tokens": 0}, {"id": best, "tokens": 5, "width": 0}, {"id": best, "tokens": "5"}, {"id": best, "tokens": 5, "wide": 3}):
    same(c.code("trial.predict", **bad)[0], -32602, "refused: %s" % json.dumps(bad))
r = subprocess.run([os.path.join(BUILD, "taut"), "predict", str(best), "--tokens", "576000", "--socket", d.socket], capture_output=True, text=True)
ok(r.returncode == 0 and "10 times outside" in r.stdout and "95 %" in r.stdout, "taut predict says it in words")
r = subprocess.run([os.path.join(BUILD, "taut"), "predict", str(best), "--tokens", "576000", "--json", "--socket", d.socket], capture_output=True, text=True)
same(json.loads(r.stdout)["valid_loss"], v, "or in JSON")
r = subprocess.run([os.path.join(BUILD, "taut"), "status", str(id), "--socket", d.socket], capture_output=True, text=True)
ok("%d pruned" % len(w.pruned) in r.stdout and "57.6 k tokens" in r.stdout, "taut status counts rungs and the pruned")
r = subprocess.run([os.path.join(BUILD, "taut"), "show", str(t), "--socket", d.socket], capture_output=True, text=True)
ok("pruned" in r.stdout and "at best" in r.stdout, "taut show says why")
r = subprocess.run([os.path.join(BUILD, "taut"), "front", str(id), "--rung", "0", "--json", "--socket", d.socket], capture_output=True, text=True)
same({x["rung"] for x in json.loads(r.stdout)}, {0}, "taut front --rung")
r = subprocess.run([os.path.join(BUILD, "taut"), "front", str(id), "--rung", "3", "--socket", d.socket], capture_output=True, text=True)
same((r.returncode, "rung" in r.stderr), (2, True), "a rung that is not there: %s" % r.stderr.strip())
undisturbed = (w.done, w.pruned)

one = c.call("job.submit", job=dict(job(d), fidelity={"tokens": 6400}, budget={"evaluations": 2}))["id"]
Trainer(d).work()
t1 = c.call("trial.list", job=one)[0]["trial"]
code, text = c.code("trial.predict", id=t1, tokens=1e6)
same((code, "trains at 1 token count" in text), (-32002, True), "one rung is not enough: %s" % text)
few = c.call("job.submit", job=dict(job(d), budget={"evaluations": 3}))["id"]
Trainer(d).work()
code, text = c.code("trial.predict", id=c.call("trial.list", job=few)[0]["trial"], tokens=1e6)
same((code, "too few results" in text), (-32002, True), "nor are few results: %s" % text)
custom = c.call("job.submit", job=custom_job(budget={"evaluations": 1}))["id"]
Evaluator(d.conn()).run()
code, text = c.code("trial.predict", id=c.call("trial.list", job=custom)[0]["trial"], tokens=1e6)
same((code, "custom space" in text), (-32002, True), "nor is a custom space: %s" % text)

# What is not known yet could be the best there is: with a latency among the objectives nothing is pruned before it was measured.
lat = c.call("job.submit", job=dict(job(d), objectives=["valid_loss", "decode_ms@16"]))["id"]
v = Trainer(d, worse)
report = v.e.report
v.e.report = lambda l, metrics, **more: report(l, metrics=dict(metrics, **({} if l["rung"] else {"decode_ms@16": 1 + l["trial"] % 7})), **more)
v.work()
ok(all(r > 0 for r, u in v.pruned.values()), "an objective that is not known yet keeps a trial alive: pruned on rungs %s" % sorted(r for r, u in v.pruned.values()))

# But for one that the latency model knows: once that is relied on, its interval's best end stands for what is not measured yet.
def ms(arch):
    w, n = arch["width"], 256 * arch["width"]
    for x in arch["layers"]:
        m, f = x["mixer"], x["ffn"]
        n += 2 * (m["heads"] + m["kv_heads"]) * m["head_dim"] * w + 3 * w * f["hidden"]
    return (0.002 + 0.003 * len(arch["layers"]) + 2e-7 * n) * (1 + 0.01 * random.Random(json.dumps(arch, sort_keys=True)).uniform(-1, 1))


lat = c.call("job.submit", job=dict(job(d), objectives=["valid_loss", "decode_ms@16"], budget={"evaluations": 90}))["id"]
v = Trainer(d, worse)
report = v.e.report
v.e.report = lambda l, metrics, **more: report(l, metrics=dict(metrics, **({} if l["rung"] else {"decode_ms@16": ms(l["arch"])})), **more)
v.work()
first = {t for t, (rung, upto) in v.pruned.items() if rung == 0}
arch = {t: c.call("trial.get", id=t)["arch"] for t in first | {t for t, r in v.done}}
ok(len(first) >= 5, "with a model of it %d trials are pruned on rung 0" % len(first))
with sqlite3.connect("file:%s/taut.db?mode=ro" % d.dir, uri=True) as db:
    rows = [(t, json.loads(b)) for t, b in db.execute("SELECT type, body FROM event WHERE job=? ORDER BY seq", (lat,))]
at = [t == "verdict" and b["shortcut"] == "model.decode_ms@16" and b["relied"] for t, b in rows].index(True)
same([b["trial"] for t, b in rows[:at] if t == "pruned" and b["rung"] == 0], [], "none of them before the model was relied on")
place = {r["trial"]: i for i, r in enumerate(c.call("trial.list", job=lat))}
same([t for t in sorted(first) if place[t] % 8 == 0], [], "nor any that is an eighth one, which shows what the model would have ended")
for t in sorted(first):
    same([o for o, r in v.done if r == 0 and v.loss(o, TOKENS[0]) < v.loss(t, TOKENS[0]) and ms(arch[o]) <= ms(arch[t])] != [], True, "trial %d would have been dominated there" % t)
ok("best end of the model's interval" in c.call("trial.get", id=min(first))["error"], "and why says so: %s" % c.call("trial.get", id=min(first))["error"])

# What the audit drew is trained to its end.
checked = c.call("job.submit", job=dict(job(d), audit=0.5))["id"]
v = Trainer(d, worse)
v.work()
with sqlite3.connect("file:%s/taut.db?mode=ro" % d.dir, uri=True) as db:
    drawn = {t for t, in db.execute("SELECT trial FROM audit JOIN trial ON trial.id = trial WHERE job = ?", (checked,))}
ok(len(drawn) >= 15 and {t for t, r in v.done if r == 2} >= drawn, "%d trials of the audit get to the top, %d others are pruned" % (len(drawn), len(v.pruned)))
c.close()
c2.close()
d.end_verified()

d = Daemon()
d.conn().call("job.submit", job=job(d))
w = Trainer(d, worse)
w.work(kill=True)
same((w.done, w.pruned), undisturbed, "killed before every word of a curve, the same trials are promoted and pruned, at the same tokens")
d.end()
done()
