"""Proxies that are combined: candidates scored first, the best of a group trained, while that pays; kept, shown, replayed; killed anywhere it goes on the same."""
import hashlib
import json
import os
import sqlite3
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from taut_wire import *

PROXIES = ["decoder_params", "dss", "fisher", "flops", "gradnorm", "grasp", "jacov", "naswot", "params", "snip", "synflow", "wpca", "zico"]


SALT = "0"  # one with which chance does not have a proxy that says something found wanting after a dozen results


def job(d, **more):
    path = os.path.join(d.dir, "text.txt")
    with open(path, "w") as f:
        f.write("what is scored before it is trained. " * 800)
    v = {"name": "f", "objectives": ["valid_bpb"], "data": {"train": path, "context": 32}, "fidelity": {"tokens": 4096}, "train": {"batch": 4}, "proxies": "auto",
         "space": {"type": "lm", "depth": [1, 6], "width": [16, 32, 48, 64], "mixer": {"attention": {"heads": [1, 2], "window": [0, 8]}, "none": {}},
                   "ffn": {"swiglu": {"ratio": [1, 2, 3, 4]}, "none": {}}},
         "search": {"strategy": "random", "population": 8}, "budget": {"evaluations": 60}}
    v.update(more)
    return v


def hidden(arch, what):
    """A number in [0, 1) that nobody sees of an architecture."""
    return int(hashlib.sha256((SALT + what + json.dumps(arch, sort_keys=True)).encode()).hexdigest()[:8], 16) / 2 ** 32


def scores(l, single=False):
    """Two proxies say half of the truth each, one says nothing; the others do not apply. single: one says it all."""
    u, v = hidden(l["arch"], "u"), hidden(l["arch"], "v")
    s = {"proxy.snip": u, "proxy.zico": v, "proxy.synflow": hidden(l["arch"], "noise")}
    if single:
        s["proxy.dss"] = u + v
    return {k: x for k, x in s.items() if k in l["metrics"]}


def truth(arch):
    return 3 - hidden(arch, "u") - hidden(arch, "v")


class Scorer(Evaluator):
    """Does as it is told; had: (what, trial, metrics wanted) of each lease."""

    def __init__(self, d, **more):
        super().__init__(d.conn(), "s", spaces=["lm"], accepts=["train", "score"], **more)
        self.had, self.single = [], False

    def do(self, l):
        kind = l["task"]["kind"]
        self.had.append((kind, l["trial"], l["metrics"]))
        self.report(l, metrics=dict(scores(l, self.single), **({"valid_bpb": truth(l["arch"])} if kind == "train" else {})))

    def work(self, n=10 ** 9):
        for i in range(n):
            l = self.next()
            if l is None:
                return
            self.do(l)


def spearman(x, y):
    def ranks(v):
        return [sum(b < a for b in v) + (sum(b == a for b in v) - 1) / 2 for a in v]
    p, q = ranks(x), ranks(y)
    m = (len(x) - 1) / 2
    return sum((a - m) * (b - m) for a, b in zip(p, q)) / (sum((a - m) ** 2 for a in p) * sum((b - m) ** 2 for b in q)) ** 0.5


def solve(A, b):
    """Gaussian elimination, the largest pivot first."""
    n = len(b)
    M = [r[:] + [v] for r, v in zip(A, b)]
    for i in range(n):
        k = max(range(i, n), key=lambda r: abs(M[r][i]))
        M[i], M[k] = M[k], M[i]
        for r in range(n):
            if r != i:
                f = M[r][i] / M[i][i]
                M[r] = [a - f * c for a, c in zip(M[r], M[i])]
    return [M[i][n] / M[i][i] for i in range(n)]


def ridge(X, y, penalty):
    p = range(len(X[0]))
    return solve([[sum(r[i] * r[k] for r in X) + penalty * (i == k) for k in p] for i in p], [sum(r[i] * v for r, v in zip(X, y)) for i in p])


def combined(results, names):
    """Of [{name: score, ..., "y": result}] what filter.h defines, each prediction by a fit without that result."""
    def share(v):
        return [(sum(b < a for b in v) + sum(b == a for b in v) / 2) / len(v) - 0.5 for a in v]
    X, y = list(zip(*[share([r[n] for r in results]) for n in names])), share([r["y"] for r in results])
    unit, best = sum(v * v for r in X for v in r) / len(X), None
    for penalty in (0.5, 3e-2, 1e-3, 1e-6):
        at = [sum(w * v for w, v in zip(ridge(X[:i] + X[i + 1:], y[:i] + y[i + 1:], penalty * unit), X[i])) for i in range(len(X))]
        error = sum((a - b) ** 2 for a, b in zip(at, y))
        if best and error >= best[0]:
            break
        best = error, at
    half = sorted(y)[(len(y) + 1) // 2 - 1]
    keep = [i for i in range(len(y)) if y[i] <= half]
    return spearman([best[1][i] for i in keep], [y[i] for i in keep])


def results(d, id, upto):
    at = {}
    for t, name, median in rows(d, "SELECT t.id, m.name, m.median FROM trial t JOIN metric m ON m.trial=t.id WHERE t.job=? AND t.state='ok' AND t.proposal<?", id, upto):
        at.setdefault(t, {})["y" if name == "valid_bpb" else name] = median
    return list(at.values())


def rows(d, sql, *args):
    with sqlite3.connect(os.path.join(d.dir, "taut.db")) as db:
        return db.execute(sql, args).fetchall()


def events(d, id, type):
    return [json.loads(b) for b, in rows(d, "SELECT body FROM event WHERE job=? AND type=? ORDER BY seq", id, type)]


def trials(d, id):
    return rows(d, "SELECT proposal, arch, state FROM trial WHERE job=? ORDER BY id", id)


d = Daemon()
c = d.conn()
code, text = c.code("job.submit", job=job(d, proxies=["auto"]))
ok(code == -32602 and "proxies[0]" in text, "auto is a word of its own: %s" % text)
id = c.call("job.submit", job=job(d))["id"]
s = Scorer(d)
s.work(23)
same({k for k, _, _ in s.had}, {"train"}, "at first everything is trained")
same({m[6:] for m in s.had[0][2] if m.startswith("proxy.")}, set(PROXIES) - {"params", "decoder_params", "flops"}, "auto is all proxies; those on paper are known")
g = c.call("job.get", id=id)["filter"]
same((g["on"], g["results"], "since" in g), (False, 23, False), "23 results: nothing is filtered")
s.work(1)
l = s.next()
e = events(d, id, "filter")
same([(x["on"], x["proposal"], x["results"]) for x in e], [(True, 24, 24)], "with 24 candidates are scored first")
ok(e[0]["combined"] > e[0]["single"] and e[0]["best"] in ("proxy.snip", "proxy.zico"), "the combination has %.2f, the best single one %.2f (%s)" % (e[0]["combined"], e[0]["single"], e[0]["best"]))
r = results(d, id, 24)
half = sorted(x["y"] for x in r)[11]
single = max((spearman([-x[p] for x in r if x["y"] <= half], [x["y"] for x in r if x["y"] <= half]), p) for p in ("proxy.snip", "proxy.zico", "proxy.synflow", "proxy.params", "proxy.flops"))
ok(abs(e[0]["combined"] - combined(r, sorted(e[0]["weights"]))) < 1e-9 and abs(e[0]["single"] - single[0]) < 1e-12 and e[0]["best"] == single[1],
   "as worked out here by %d fits without one result each" % len(r))
ok(e[0]["weights"]["proxy.snip"] < -0.3 and e[0]["weights"]["proxy.zico"] < -0.3 and abs(e[0]["weights"].get("proxy.synflow", 0)) < 0.3, "weights: %s" % e[0]["weights"])
relied = {x["shortcut"] for x in events(d, id, "verdict") if not x["relied"]}
ok(relied and not (relied - {"proxy.params"}) & set(e[0]["weights"]), "what a verdict found wanting is left out: %s" % sorted(relied))
same((l["task"]["kind"], l["rung"], set(l["metrics"])), ("score", 0, {m for m in s.had[0][2] if m.startswith("proxy.")}), "the next lease is to be scored, and that alone")
g = c.call("job.get", id=id)
same((g["trials"]["leased"], g["trials"]["scored"], g["evaluations"]), (1, 0, 24), "a trial like any other, and no evaluation")
same(rows(d, "SELECT task FROM lease"), [("score",)], "its lease says what for")

# Given back, killed: it is scored again.
s.c.close()
wait_until(lambda: c.call("job.get", id=id)["trials"]["ready"] == 1)
d.restart()
c = d.conn()
s = Scorer(d)
again = s.next()
same((again["task"]["kind"], again["trial"], again["epoch"]), ("score", l["trial"], 2), "after a lost connection and a kill it is leased again, to be scored")
s.do(again)
s.work(3)
same([k for k, _, _ in s.had], ["score"] * 4, "a group of four")
g = c.call("job.get", id=id)
same((g["trials"]["scored"], g["evaluations"], g["trials"]["ok"]), (4, 24, 24), "is scored, and evaluates nothing")
d.restart()
c = d.conn()
s = Scorer(d)
l = s.next()
group = [a for a, in rows(d, "SELECT a.canonical FROM trial t JOIN arch a ON a.id=t.arch WHERE t.job=? AND t.proposal BETWEEN 24 AND 27 ORDER BY t.id", id)]
same((l["task"]["kind"], truth(l["arch"])), ("train", min(truth(json.loads(a)) for a in group)), "the best of it is trained")
same((len(events(d, id, "chosen")), len(events(d, id, "chosen")[0]["passed"])), (1, 3), "the others are passed over")
same({m for m in l["metrics"] if m.startswith("proxy.")}, set(), "and it is not scored twice")
s.do(l)
same(c.call("trial.get", id=l["trial"])["metrics"]["proxy.snip"]["median"], scores(again | {"arch": l["arch"]})["proxy.snip"], "its scores stay")
same(sorted(t["state"] for t in c.call("trial.list", job=id, after=24, limit=10)), ["ok", "passed", "passed", "passed"], "all are kept, and seen")

# To the end; one group in four is blind.
s.work()
g = c.call("job.get", id=id)
ch = events(d, id, "chosen")
groups = 36 - sum(x["origin"]["op"] == "repeat" for x in events(d, id, "proposed")) # what is repeated takes its evaluations
same((g["state"], g["evaluations"], len(ch), [x.get("blind", False) for x in ch]), ("done", 60, groups, [i % 4 == 3 for i in range(groups)]), "done, after its evaluations; of every fourth group the first is trained")
same((g["trials"]["passed"], g["trials"]["scored"]), (3 * groups, 0), "three passed over for each")
first = [truth(json.loads(a)) for a, in rows(d, "SELECT a.canonical FROM trial t JOIN arch a ON a.id=t.arch WHERE t.job=? AND t.state='ok' ORDER BY t.id", id)]
ok(sum(first[24:]) / 36 < sum(first[:24]) / 24 - 0.15, "what is trained is better: %.3f against %.3f before" % (sum(first[24:]) / 36, sum(first[:24]) / 24))
calm = trials(d, id)

# The same search, tautd killed and everything given back at every third step.
rough = c.call("job.submit", job=job(d))["id"]
i = 0
while True:
    s = Scorer(d)
    s.work(2)
    l = s.next()
    if l is None:
        break
    s.c.close()
    d.restart()
    i += 1
c = d.conn()
same(trials(d, rough), calm, "killed %d times, it is the same search" % i)

# One proxy alone gets as good: nothing is filtered any more, what is scored is trained.
id = c.call("job.submit", job=job(d, budget={"evaluations": 130}))["id"]
s = Scorer(d)
s.work(24 + 4)
s.single = True
s.work(200)
states = [x["on"] for x in events(d, id, "filter")]
while c.call("job.get", id=id)["state"] != "done" and states[-1]:
    s.work(5)
    states = [x["on"] for x in events(d, id, "filter")]
e = events(d, id, "filter")
same((states, e[1]["best"]), ([True, False], "proxy.dss"), "a single proxy that is as good: the event says so (%.2f against %.2f)" % (e[1]["combined"], e[1]["single"]))
s.work()
g = c.call("job.get", id=id)
same((g["state"], g["evaluations"], g["trials"]["scored"], g["filter"]["on"], g["filter"]["since"]), ("done", 130, 0, False, e[1]["proposal"]), "on without")
taut = os.path.join(BUILD, "taut")
out = subprocess.run([taut, "status", str(id), "--socket", d.socket], capture_output=True, text=True).stdout
ok("filter" in out and "off since proposal %d" % e[1]["proposal"] in out, "taut status shows it")
out = subprocess.run([taut, "watch", str(id), "--from-start", "--socket", d.socket], capture_output=True, text=True).stdout
ok("candidates are scored first" in out and "not scored first any more" in out, "so does taut watch")
s.c.close()

# A space that is used up: those that were passed over are trained after all.
small = {"type": "lm", "depth": [1, 2], "width": [16, 32, 48, 64], "mixer": {"attention": {"heads": [1], "window": [0, 8]}}, "ffn": {"swiglu": {"ratio": [1, 2]}, "none": {}}}
id = c.call("job.submit", job=job(d, space=small, budget={"evaluations": 10000}))["id"]
s = Scorer(d)
s.work()
g = c.call("job.get", id=id)
same((g["state"], g["reason"][:20], g["evaluations"], g["trials"]["passed"], g["trials"]["scored"]), ("done", "the space is used up", g["trials"]["ok"], 0, 0), "%d candidates" % g["evaluations"])
size = len(trials(d, id))
ok(any(k == "score" for k, _, _ in s.had) and g["evaluations"] == len(trials(d, id)), "some were scored first, all are trained")
s.c.close()

# One that cannot be scored has failed; who cannot score gets nothing.
id = c.call("job.submit", job=job(d))["id"]
s = Scorer(d)
s.work(24)
l = s.next()
s.report(l, "failed", metrics={}, error="its text is gone")
g = c.call("job.get", id=id)
same((g["trials"]["failed"], g["evaluations"]), (1, 25), "a candidate that cannot be scored is a failed evaluation")
s.c.close()
t = Evaluator(d.conn(), "t", spaces=["lm"], accepts=["train"])
same((t.next(), c.call("job.get", id=id)["reason"]), (None, "no connected evaluator scores candidates"), "who cannot score gets nothing of it, and the job says why")
t.c.close()
c.call("job.cancel", id=id)
id = c.call("job.submit", job=job(d))["id"]
t = Evaluator(d.conn(), "t", spaces=["lm"], accepts=["train"])
for i in range(24):
    l = t.next()
    t.report(l, metrics=dict(scores(l), valid_bpb=truth(l["arch"])))
same((t.next(), [x["on"] for x in events(d, id, "filter")], c.call("job.get", id=id)["trials"]["leased"]), (None, [True], 0), "also where that turns out when it asks")
wait_until(lambda: c.call("job.get", id=id)["state"] == "waiting")
same(c.call("job.get", id=id)["reason"], "no connected evaluator scores candidates", "and the job waits")
same(Scorer(d).next()["task"]["kind"], "score", "for one that can")
c.call("job.cancel", id=id)

# Who cannot score gets what needs no scores, though candidates are scored first.
id = c.call("job.submit", job=job(d, budget={"evaluations": 25}))["id"]
s = Scorer(d)
s.work(24 + 4)
l = s.next()
same(l["task"]["kind"], "train", "the last of the budget is out to be trained")
s.c.close()
wait_until(lambda: c.call("job.get", id=id)["trials"]["ready"] == 1)
t = Evaluator(d.conn(), "t", spaces=["lm"], accepts=["train"])
again = t.next()
if ok(again and again["trial"] == l["trial"], "given back, it goes to an evaluator that does not score"):
    t.report(again, metrics=dict(scores(again), valid_bpb=truth(again["arch"])))
same((t.next(), c.call("job.get", id=id)["state"]), (None, "done"), "and the search ends")
t.c.close()
id = c.call("job.submit", job=job(d, budget={"evaluations": 60}))["id"]
s = Scorer(d)
s.work(24)
s.next()
s.c.close()
wait_until(lambda: c.call("job.get", id=id)["trials"]["ready"] == 1)
t = Evaluator(d.conn(), "t", spaces=["lm"], accepts=["train"])
same((t.next(), c.call("job.get", id=id)["reason"]), (None, "no connected evaluator scores candidates"), "one that is to be scored, given back, does not")
t.c.close()
c.call("job.cancel", id=id)
id = c.call("job.submit", job=job(d, space=small, budget={"evaluations": 10000}))["id"]
s = Scorer(d)
while True:
    s.work(1)
    g = c.call("job.get", id=id)
    if s.had[-1][0] == "train" and g["trials"]["passed"] and len(s.had) > 30 and len(trials(d, id)) == size:
        break
l = s.next()
while l["task"]["kind"] == "score":
    s.do(l)
    l = s.next()
s.do(l)
s.c.close()
t = Evaluator(d.conn(), "t", spaces=["lm"], accepts=["train"])
while True:
    l = t.next()
    if l is None:
        break
    t.report(l, metrics=dict(scores(l), valid_bpb=truth(l["arch"])))
g = c.call("job.get", id=id)
same((g["state"], g["evaluations"], g["trials"]["passed"]), ("done", size, 0), "in a space that is used up, those that were passed over do")
t.c.close()

# A report of scores brings scores.
id = c.call("job.submit", job=job(d, objectives=["valid_bpb", "decode_ms@128"]))["id"]
s = Scorer(d)
while True:
    l = s.next()
    if l["task"]["kind"] == "score":
        break
    s.report(l, metrics=dict(scores(l), **{"valid_bpb": truth(l["arch"]), "decode_ms@128": 1 + len(l["arch"]["layers"]) * l["arch"]["width"] / 64}))
same(s.c.call("evaluator.progress", lease=l["lease"], epoch=l["epoch"], metrics={"valid_bpb": 99}), {"go": True}, "who scores is told nothing of measurements")
same([x["trial"] for x in events(d, id, "modelled") if x["trial"] == l["trial"]], [], "and nothing is estimated for it")
s.report(l, metrics=dict(scores(l), **{"valid_bpb": 0.01, "decode_ms@128": 1e-9}))
got = set(c.call("trial.get", id=l["trial"])["metrics"])
ok("proxy.snip" in got and not got & {"valid_bpb", "decode_ms@128"}, "what else it brings is dropped: %s" % sorted(x for x in got if not x.startswith("proxy.")))
s.c.close()
c.call("job.cancel", id=id)
same(d.term(), 0, "tautd leaves")
same(verify(d.dir).returncode, 0, "the store is what its events say")
d.life = os.open(os.devnull, os.O_RDONLY)
d.log = open(d.log_path)
d.end()
done()
