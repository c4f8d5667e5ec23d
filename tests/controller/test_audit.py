"""The audit, from outside: what is drawn and goes to the top, what job.get and taut status say of it, verdicts and what follows from them, searches that are killed at every step."""
import json
import os
import random
import sqlite3
import subprocess
import sys

sys.path.insert(0, os.path.join(os.environ.get("TAUT_SRC", "."), "tests/controller"))
from taut_wire import *

TAUT = os.path.join(os.environ["TAUT_BUILD"], "taut")


def job(n=60, rungs=3, **more):
    more.setdefault("search", {"population": 6})
    return custom_job(fidelity={"tokens": 900, "rungs": rungs, "eta": 3}, budget={"evaluations": n}, **more)


def noise(*key):
    return random.Random(repr(key)).random()


def good(lease):
    """Low rungs say nearly what the top says; parameters nothing."""
    m, left = score(lease["arch"]), 2 - lease["rung"]
    m = {k: v + left * (1 + 0.2 * noise(k, lease["trial"], lease["rung"])) for k, v in m.items()}
    return dict(m, params=int(1e6 * noise("p", lease["trial"])))


def bad(lease):
    """Rung 0 says nothing, parameters all."""
    m = good(lease)
    if lease["rung"] == 0:
        m["f1"] = 100 * noise(lease["trial"])
    m["params"] = int(1e9 - 1e6 * score(lease["arch"])["f1"])
    return m


def work(e, measure, n=10 ** 9):
    had = []
    while len(had) < n:
        l = e.next()
        if l is None:
            break
        had.append((l["trial"], l["rung"]))
        e.report(l, metrics=measure(l), curve=[[l["tokens"], 2]])
    return had


def events(d, id, *types):
    db = sqlite3.connect("file:%s/taut.db?mode=ro" % d.dir, uri=True)
    return [(seq, t, json.loads(b)) for seq, t, b in db.execute("SELECT seq, type, body FROM event WHERE job=? ORDER BY seq", (id,)) if t in types]


def rank(v):
    return [sum(x < y for x in v) + 0.5 * (sum(x == y for x in v) - 1) for y in v]


def rho(x, y):
    a, b = rank(x), rank(y)
    m = (len(x) - 1) / 2
    s = lambda p, q: sum((i - m) * (j - m) for i, j in zip(p, q))
    return s(a, b) / (s(a, a) * s(b, b)) ** 0.5 if s(a, a) * s(b, b) else 0


d = Daemon()
c = d.conn()

# What is refused.
for n, audit, what in ((12, None, "trains 12 architectures to the top rung (0.1 of the budget, 12 at least) and budget.evaluations is 12"), (5, 0.5, "budget.evaluations is 5"),
                       (60, 0.6, "0 to 0.5"), (60, -0.1, "0 to 0.5"), (60, "some", "number")):
    code, text = c.code("job.submit", job=job(n, **({} if audit is None else {"audit": audit})))
    same((code, what in text), (-32602, True), "refused: %s" % text)
id = c.call("job.submit", job=job(12, audit=0))["id"]
e = Evaluator(d.conn())
work(e, good)
same(c.call("job.get", id=id)["audit"], {"share": 0, "metric": "f1"}, "with audit 0 so few are enough; job.get says that nothing is checked")
same(events(d, id, "audit", "verdict"), [], "and nothing is drawn")
r = subprocess.run([TAUT, "status", str(id), "--dir", d.dir], capture_output=True, text=True)
ok("unchecked" in r.stdout, "taut status says that shortcuts are unchecked: %s" % [x for x in r.stdout.splitlines() if x.startswith("audit")])

# A search whose low rungs are good.
id = c.call("job.submit", job=job())["id"]
order = work(e, good)
drawn = [b for s, t, b in events(d, id, "audit")]
g = c.call("job.get", id=id)
top = {t for t, r in order if r == 2}
same((g["state"], g["evaluations"]), ("done", 60), "promotions by the audit are no evaluations: %s" % g["reason"])
same(len({b["trial"] for b in drawn}), 12, "a tenth of 60 is less than 12: 12 are drawn, none twice")
same([b["drawn"] for b in drawn], ["best", "front", "best", "space"] * 3, "half of the predicted best tenth, the others of the front and of the space")
ok({b["trial"] for b in drawn} <= top, "all of them got to the top")
ok(len({t for t, r in order}) == 60 and len(top) > 12, "beside what halving promoted: %d on top" % len(top))
a = g["audit"]
same((a["share"], a["metric"], a["wanted"], a["drawn"], a["results"], a["rungs_relied"]), (0.1, "f1", 12, 12, 12, True), "job.get tells of it")
same([(x["name"], x["relied"], x["judged"], x["trials"]) for x in a["shortcuts"]], [("rung 0", True, True, 12), ("rung 1", True, True, 12)], "low rungs are its shortcuts")
same([x["name"] for x in a["references"]], ["params", "largest"], "held against counting parameters")


def value(t, r):
    return good({"arch": c.call("trial.get", id=t)["arch"], "trial": t, "rung": r})


truth = [value(b["trial"], 2)["f1"] for b in drawn]
for x in a["shortcuts"]:
    want = rho([value(b["trial"], int(x["name"][-1]))["f1"] for b in drawn], truth)
    ok(abs(x["rho"]["value"] - want) < 1e-9 and x["rho"]["low"] <= want <= x["rho"]["high"] + 1e-12, "rho of %s is %.3f [%.3f, %.3f]" % (x["name"], want, x["rho"]["low"], x["rho"]["high"]))
    ok(x["rho"]["value"] > 0.9 and x["best_tenth"]["trials"] < 10 and x["best_tenth"]["rho"]["value"] is None, "too few of the best tenth for numbers of their own: %d" % x["best_tenth"]["trials"])
    ok("nesting" not in x, "nothing is nested in a custom space")
p = a["references"][0]
ok(abs(p["rho"]["value"] - rho([-value(b["trial"], 0)["params"] for b in drawn], truth)) < 1e-9, "rho of counting parameters is %.3f" % p["rho"]["value"])
best = max(range(12), key=lambda i: value(drawn[i]["trial"], 0)["params"])
ok(abs(p["regret"]["value"] - (truth[best] - min(truth))) < 1e-9, "the regret of taking the largest is %.3f" % p["regret"]["value"])
same(events(d, id, "verdict"), [], "nothing to be judged anew")
ups = [b for s, t, b in events(d, id, "promoted")]
on = {b["trial"] for b in drawn}
ok(all((b.get("reason") == "audit") <= (b["trial"] in on) for b in ups) and any("reason" not in b for b in ups), "a promotion says when it is the audit's")
seen = {}
for s, t, b in events(d, id, "audit", "reported"):
    if t == "reported":
        m = {k: v["median"] if isinstance(v, dict) else v for k, v in b["metrics"].items()}
        seen.setdefault(b["trial"], m["f1"])
    elif b["drawn"] == "best":
        v = sorted(seen.values())
        free = [seen[t] for t in seen if t not in {x["trial"] for q, y, x in events(d, id, "audit") if q < s}]
        ok(seen[b["trial"]] <= max(v[(len(v) + 9) // 10 - 1], min(free)), "trial %d was of the best tenth of %d" % (b["trial"], len(v)))
r = subprocess.run([TAUT, "status", str(id), "--dir", d.dir], capture_output=True, text=True)
lines = [x for x in r.stdout.splitlines() if "rung 0" in x or "params" in x or x.startswith("audit")]
ok(r.returncode == 0 and any(x.startswith("audit") and "12 of 12" in x for x in lines) and any("rung 0" in x and "relied on" in x for x in lines), "taut status: %s" % " | ".join(lines))
c.call("job.resume", id=id, budget={"evaluations": 200})
work(e, good)
same((len(events(d, id, "audit")), c.call("job.get", id=id)["audit"]["wanted"]), (20, 20), "of 200 a tenth")
c.close()
d.end_verified()


# Killed after each lease and after each report: the same trials on the same rungs, in the same order; with low rungs that are good, and with one that says nothing.
for measure, n in ((good, 30), (bad, 50)):
    d = Daemon()
    id = d.conn().call("job.submit", job=job(n))["id"]
    order = work(Evaluator(d.conn()), measure)
    said = [(t, b) for s, t, b in events(d, id, "audit", "verdict", "promoted")]
    if measure is bad:
        v = [b for t, b in said if t == "verdict"]
        ok(len(v) >= 1 and (v[0]["shortcut"], v[0]["relied"], v[0]["metric"], v[0]["trials"]) == ("rung 0", False, "f1", 12) and v[0]["better"] < 0, "a rung that says less than parameters is judged: %s" % v)
        at = [s for s, t, b in events(d, id, "verdict")][0]
        before = {b["trial"] for s, t, b in events(d, id, "proposed") if s < at}
        new = {b["trial"] for s, t, b in events(d, id, "proposed") if s > at}
        top = {t for t, r in order if r == 2}
        ok(len(new) > 5 and new <= top, "every trial that is new goes to the top: %d" % len(new))
        late = [b for s, t, b in events(d, id, "promoted") if s > at]
        ok(all(b.get("reason") == "audit" for b in late), "and nothing by its low rungs any more")
        same({b["trial"] for s, t, b in events(d, id, "audit") if b["drawn"] == "all"} , new, "they are the audit's")
        a = d.conn().call("job.get", id=id)["audit"]
        same((a["rungs_relied"], a["shortcuts"][0]["relied"], a["results"] > 12), (False, False, True), "job.get says so")
        r = subprocess.run([TAUT, "status", str(id), "--dir", d.dir], capture_output=True, text=True)
        ok("not relied on" in r.stdout and "every new trial goes to the top rung" in r.stdout, "taut status says so: %s" % [x for x in r.stdout.splitlines() if "relied" in x or "every" in x])
    d.end()
    d = Daemon()
    id = d.conn().call("job.submit", job=job(n))["id"]
    got = work_killed(d, measure)
    same(got, order, "%d trials, killed all the time: the same ones go up (%d steps)" % (n, len(order)))
    same([(t, b) for s, t, b in events(d, id, "audit", "verdict", "promoted")], said, "the same are drawn and judged")
    same(d.conn().call("job.get", id=id)["state"], "done", "and it ends")
    d.end_verified()

# Proxies: nothing is drawn, every result counts. A shortcut that is relied on again.
d = Daemon()
c = d.conn()
e = Evaluator(d.conn())
id = c.call("job.submit", job=job(120, 1))["id"]


def proxies(l):
    m = good(dict(l, rung=2))
    return dict(m, **{"proxy.snip": noise("snip", l["trial"]), "proxy.zico": -m["f1"], "proxy.late": m["f1"] if l["trial"] < 14 else -m["f1"]})


work(e, proxies)
a = c.call("job.get", id=id)["audit"]
by = {x["name"]: x for x in a["shortcuts"]}
same({n: x["trials"] for n, x in by.items()}, {"proxy.late": 120, "proxy.snip": 120, "proxy.zico": 120}, "proxies are held against every result")
same(by["proxy.zico"]["rho"], {"value": 1, "low": 1, "high": 1}, "one that knows all")
same([by[n]["relied"] for n in ("proxy.late", "proxy.zico")], [True, True], "is relied on")
said = [(b["shortcut"], b["relied"]) for s, t, b in events(d, id, "verdict")]
same([x for x in said if x[0] == "proxy.late"], [("proxy.late", False), ("proxy.late", True)], "one that learns late is not relied on, and then it is")
same([x for x in said if x[0] == "proxy.zico"], [], "the verdict on the good one never changes")
ok("wanted" not in a and events(d, id, "audit") == [], "nothing is drawn where everything is trained to the top")
d.end()
done()
