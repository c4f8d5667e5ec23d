"""The latency model in a search, from outside: what is left out, that it changes no front, what is checked, when the model gains and loses its right, restarts in between."""
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


def job(n, d, **more):
    text = os.path.join(d.dir, "corpus.txt")
    with open(text, "w") as f:
        f.write("so it goes. " * 2000)
    return dict({"name": "m", "data": {"train": text, "context": 64}, "space": "lm-tiny", "objectives": ["valid_bpb", M], "precision": "f32",
                 "search": {"population": 16, "strategy": "nsga2"}, "budget": {"evaluations": n}}, **more)


def draw(arch, what):
    return random.Random(json.dumps([arch, what], sort_keys=True)).uniform(-1, 1)


def decode_ms(arch, noise=0.01):
    """Microseconds of a machine: so much a byte, so much a part."""
    w, t = arch["width"], 0.004 + 256 * arch["width"] * 4e-9
    for layer in arch["layers"]:
        m, f = layer["mixer"], layer["ffn"]
        if m["type"] == "attention":
            n = (m["heads"] + 2 * m["kv_heads"]) * m["head_dim"] * w + m["heads"] * m["head_dim"] * w
            keys = min(129, m.get("window") or 129)
            t += 0.002 + 4 * n * 5e-8 + 2 * 4 * m["kv_heads"] * m["head_dim"] * keys * 4e-8
        if f["type"] == "swiglu":
            r, h = f.get("rank", 0), f["hidden"]
            t += 0.001 + 4 * (3 * r * (w + h) if r else 3 * w * h) * 5e-8
    return t * (1 + noise * draw(arch, "ms"))


def loss(arch):
    size = sum(1 + (layer["mixer"]["type"] == "attention") for layer in arch["layers"]) * arch["width"]
    return 4 - 0.3 * math.log(size) + 0.15 * draw(arch, "loss")


def conn(d, **more):
    return Evaluator(d.conn(), name="lm", spaces=["lm"], provides=["valid_bpb", "valid_loss", "decode_ms"], **more)


def trained(l):
    return {"valid_bpb": loss(l["arch"]), "valid_loss": loss(l["arch"]) * math.log(2)}


def measured(l, ms):
    v = ms(l["arch"])
    return {M: {"median": v, "low": 0.99 * v, "high": 1.01 * v, "n": 30}}


def ask(e, l):
    return e.c.call("evaluator.progress", lease=l["lease"], epoch=l["epoch"], metrics=trained(l))


def work(e, n=10 ** 9, ms=decode_ms, kinds=None):
    k = 0
    while k < n:
        l = e.next()
        if l is None:
            break
        got, m = ask(e, l), trained(l)
        if M in l["metrics"] and M not in got.get("modelled", []):
            m.update(measured(l, ms))
        e.report(l, metrics=m)
        k += 1
    return k


def store(d):
    return sqlite3.connect("file:%s/taut.db?mode=ro" % d.dir, uri=True)


def events(d, id, *types):
    return [(seq, t, json.loads(b)) for seq, t, b in store(d).execute("SELECT seq, type, body FROM event WHERE job=? ORDER BY seq", (id,)) if t in types]


def trials(c, id):
    rows, after = [], 0
    while True:
        page = c.call("trial.list", job=id, after=after)
        if not page:
            return rows
        rows += page
        after = page[-1]["trial"]


def front_of(points):
    return sorted(t for t, p in points.items() if not any(all(a <= b for a, b in zip(q, p)) and q != p for q in points.values()))


d = Daemon()
c = d.conn()
e = conn(d)

# A machine that does as the model thinks, but for a percent.
id = c.call("job.submit", job=job(240, d))["id"]
work(e)
g = c.call("job.get", id=id)
same((g["state"], g["evaluations"]), ("done", 240), "a search: %s" % g["reason"])
said, reported, verdicts = [b for s, t, b in events(d, id, "modelled")], {b["trial"]: b for s, t, b in events(d, id, "reported")}, events(d, id, "verdict")
same([(b["shortcut"], b["relied"], b["metric"]) for s, t, b in verdicts], [("model." + M, True, M)], "an event says that the model is relied on from now on")
v = verdicts[0][2]
ok(v["trials"] >= 24 and v["error"] < 0.05, "after %d measurements, with a cross-validated error of %.1f %%" % (v["trials"], 100 * v["error"]))
saved = {b["trial"] for b in said if b["saved"]}
ok(len(saved) > 60, "%d of 240 measurements are saved" % len(saved))
since = [b["saved"] for s, t, b in events(d, id, "modelled") if s > verdicts[0][0]]
same([i for i, x in enumerate(since) if not x], list(range(0, len(since), 8)), "one in eight of those that could have been is measured all the same, the first to begin with")
rows = {r["trial"]: r for r in trials(c, id)}
same({t for t, r in rows.items() if r.get("estimated") == [M]}, saved, "trial.list marks them, and no others")
same({t for t, b in reported.items() if isinstance(b["metrics"].get(M), dict) and b["metrics"][M]["n"] == 0}, saved, "and so do the events: n is 0")
same({t for t, in store(d).execute("SELECT trial FROM metric WHERE name=? AND n=0", (M,))}, saved, "and the store")

# What the front would have been.
arch = {t: c.call("trial.get", id=t)["arch"] for t, r in rows.items() if "repeats" not in r}
true = {t: (loss(a), decode_ms(a)) for t, a in arch.items()}
same(sorted(r["trial"] for r in c.call("job.front", id=id)), front_of(true), "the front is that of all trials measured: %d members" % len(front_of(true)))
ok(not any("estimated" in r for r in c.call("job.front", id=id, uncertain=True) if r["on_front"]), "nobody on it is an estimate")
timed = [b["origin"]["parents"][0] for s, t, b in events(d, id, "proposed") if b["origin"].get("kind") == "profile"]
for b in said:
    x = b["estimates"][M]
    n = 1 + timed.count(b["by"])
    if not (true[b["by"]][0] <= true[b["trial"]][0] and decode_ms(arch[b["by"]]) * (1 + 0.01 / n ** 0.5) <= x["low"] + 1e-12):
        ok(False, "trial %d is dominated at the low end of its interval by trial %d" % (b["trial"], b["by"]))

# The numbers, from the events.
checks = [(reported[b["trial"]]["metrics"][M]["median"], b["estimates"][M]) for b in said if not b["saved"]]
m = g["models"]
same([x["metric"] for x in m], [M], "job.get tells of the model")
m = m[0]
same((m["saved"], m["checked"], m["measured"], m["relied"]), (len(saved), len(checks), len(arch) - len(saved), True), "saved, checked, measured")
err = [abs(x["median"] / y - 1) for y, x in checks]
ok(abs(m["mape"] - sum(err) / len(err)) < 1e-12 and abs(m["worst"] - max(err)) < 1e-12, "mean error %.2f %%, worst %.2f %% over the checks" % (100 * m["mape"], 100 * m["worst"]))
same(m["held"], sum(x["low"] <= y <= x["high"] for y, x in checks), "and how many were within the interval")
ok(m["held"] >= 0.8 * m["checked"] and m["mape"] < 0.03, "which are most: %d of %d" % (m["held"], m["checked"]))
r = subprocess.run([TAUT, "status", str(id), "--dir", d.dir], capture_output=True, text=True)
lines = [x for x in r.stdout.splitlines() if x.startswith("model")]
ok(len(lines) == 1 and "%d measurements saved" % len(saved) in lines[0] and "%d checked" % len(checks) in lines[0] and "relied on" in lines[0], "taut status: %s" % lines)
one = min(saved)
r = subprocess.run([TAUT, "show", str(one), "--dir", d.dir], capture_output=True, text=True)
line = [x for x in r.stdout.splitlines() if M in x]
ok(line and " est " in line[0] and "not measured" in line[0], "taut show: %s" % line)
some = [rows[one]["metrics"][M], true[min(set(rows) - saved)][1]]
for v, mark in zip(some, (True, False)):
    for fmt in ("table", "csv"):
        r = subprocess.run([TAUT, "front", str(id), "--dir", d.dir, "-o", M, "-w", "%s >= %.17g" % (M, v * (1 - 1e-12)), "-f", fmt], capture_output=True, text=True)
        line = r.stdout.splitlines()[1]
        same((" est " in line if fmt == "table" else line.split(",")[2] == M), mark, "taut front (%s) by other rules %s: %s" % (fmt, "marks an estimate" if mark else "leaves what was measured", line[:60]))
r = subprocess.run([TAUT, "report", str(id), "--dir", d.dir, "-o", os.path.join(d.dir, "r.html")], capture_output=True, text=True)
ok(r.returncode == 0 and "of %d trials is not measured but estimated" % len(saved) in open(os.path.join(d.dir, "r.html")).read(), "the report says how many %s" % r.stderr.strip())

# Whoever was told nothing brings all of it.
id = c.call("job.submit", job=job(10, d))["id"]
l = e.next()
code, text = e.c.code("evaluator.report", lease=l["lease"], epoch=l["epoch"], status="ok", metrics=trained(l))
same((code, "the objective '%s' is missing" % M in text), (-32602, True), "without being told so nobody leaves out an objective: %s" % text)
e.report(l, metrics=dict(trained(l), **measured(l, decode_ms)))
c.call("job.cancel", id=id)

# Killed between the promise and the report.
id = c.call("job.submit", job=job(400, d, name="k"))["id"]
killed, left = 0, None
while killed < 3:
    l = e.next()
    got = ask(e, l)
    if "modelled" not in got:
        e.report(l, metrics=dict(trained(l), **measured(l, decode_ms)))
        continue
    same(ask(e, l), got, "asked again, it says the same")
    d.kill()
    d.start()
    c = d.conn()
    e = conn(d, holds=[{"lease": l["lease"], "epoch": l["epoch"]}])
    if killed == 1:
        same(ask(e, l), got, "and after a restart")
    e.report(l, metrics=trained(l))
    left = l["trial"]
    killed += 1
t = c.call("trial.get", id=left)
same((t["state"], t["metrics"][M]["n"]), ("ok", 0), "what was promised before a restart holds after it")
c.call("job.cancel", id=id)

# A machine that becomes another one: what was learned is wrong.
id = c.call("job.submit", job=job(400, d, name="drift"))["id"]
work(e, 120)
other = lambda a: decode_ms(a) * (1.4 if len(a["layers"]) > 1 else 1)
work(e, 280, ms=other)
v = [(s, b["relied"]) for s, t, b in events(d, id, "verdict")]
same([x for s, x in v][:2], [True, False], "what has become wrong is relied on no more: %s" % [b for s, t, b in events(d, id, "verdict")][-1])
after = [b["saved"] for s, t, b in events(d, id, "modelled") if s > v[1][0] and (len(v) < 3 or s < v[2][0])]
ok(after and not any(after), "from then on everything is measured: %d that could have been left out" % len(after))
r = subprocess.run([TAUT, "status", str(id), "--dir", d.dir], capture_output=True, text=True)
ok("relied on" in r.stdout and c.call("job.get", id=id)["state"] == "done", "the search goes on to its end")
r = subprocess.run([TAUT, "watch", str(id), "--from-start", "--dir", d.dir], capture_output=True, text=True)
told = [x for x in r.stdout.splitlines() + r.stderr.splitlines() if "model" in x]
b = [b for s, t, b in events(d, id, "verdict")][:2]
want = ["the model of %s is relied on: its mean error over %d measurements is %.1f %%" % (M, b[0]["trials"], 100 * b[0]["error"]),
        "the model of %s is not relied on any more: its mean error over %d measurements made as checks is %.1f %%, %d of them within its intervals" % (M, b[1]["checked"], 100 * b[1]["mape"], b[1]["held"])]
same([w for w in want if not any(w in x for x in told)], [], "taut watch tells both: %s" % told[:2])

# Losses that repeats find to be worse than they were: what they dominated is on the front now.
measured_for_it = []
for seed in (1, 2):
    id = c.call("job.submit", job=job(300, d, name="seeds", seed=seed, audit=0))["id"]
    while True:
        l = e.next()
        if l is None:
            break
        v = loss(l["arch"]) + 0.1 * random.Random(json.dumps([l["arch"], l["seed"]], sort_keys=True)).gauss(0, 1)
        m = {"valid_bpb": v, "valid_loss": v * math.log(2)}
        got = e.c.call("evaluator.progress", lease=l["lease"], epoch=l["epoch"], metrics=m) if "valid_bpb" in l["metrics"] else {}
        m = {k: v for k, v in m.items() if k in l["metrics"]}
        if M in l["metrics"] and M not in got.get("modelled", []):
            m.update(measured(l, decode_ms))
        e.report(l, metrics=m)
    again = [b for s, t, b in events(d, id, "proposed") if b["origin"]["op"] == "repeat"]
    by = [(b["origin"]["kind"], b["origin"]["parents"][0]) for b in again if "estimate" in b["origin"]["reason"]]
    front = c.call("job.front", id=id)
    saved = {b["trial"] for s, t, b in events(d, id, "modelled") if b["saved"]}
    ok(len(saved) > 50 and len(front) > 5 and not any("estimated" in r for r in front), "noisy losses, seed %d: nobody on the front is an estimate, %d of 300 not being measured" % (seed, len(saved)))
    ok({k for k, t in by} <= {"profile"} and {t for k, t in by} <= saved, "those that came to stand there were measured: %s" % by)
    measured_for_it += by
    of, kinds = ({b["trial"]: b["origin"][k] if k == "kind" else b["origin"][k][0] for b in again} for k in ("parents", "kind"))
    final = {b["trial"]: b["metrics"].get("valid_bpb") for s, t, b in events(d, id, "reported")}
    losses, checked, wrong = {}, 0, []
    for s, t, b in events(d, id, "reported", "modelled"):
        if t == "reported" and kinds.get(b["trial"]) != "profile":
            losses.setdefault(of.get(b["trial"], b["trial"]), []).append(b["metrics"]["valid_bpb"])
        dof = sum(len(v) - 1 for v in losses.values())
        if t == "modelled" and dof >= 2:
            sd = (sum(sum((x - sum(v) / len(v)) ** 2 for x in v) for v in losses.values()) / dof) ** 0.5
            v = losses[b["by"]]
            checked += 1
            if not sum(v) / len(v) + 1.95 * sd / len(v) ** 0.5 <= final[b["trial"]]:
                wrong.append((b["trial"], b["by"]))
    ok(checked > 50 and not wrong, "what dominates is better by more than its losses' noise, all its seeds counted (%d): %s" % (checked, wrong[:5]))
ok(measured_for_it, "and there were some")

# Noise that no model explains.
id = c.call("job.submit", job=job(120, d, name="noise"))["id"]
work(e, ms=lambda a: decode_ms(a, 0.9))
same((events(d, id, "verdict"), [b for s, t, b in events(d, id, "modelled") if b["saved"]]), ([], []), "a model that explains nothing is never relied on")

# Rungs: what goes up is measured there.
id = c.call("job.submit", job=job(150, d, name="rungs", fidelity={"tokens": 90000, "rungs": 2, "eta": 3}))["id"]
work(e)
g = c.call("job.get", id=id)
up = {b["trial"] for s, t, b in events(d, id, "promoted")}
saved = {b["trial"] for s, t, b in events(d, id, "modelled") if b["saved"]}
low = {b["trial"] for s, t, b in events(d, id, "reported") if b.get("rung") == 0 and b["metrics"].get(M, {}).get("n") == 0}
again = {b["trial"] for s, t, b in events(d, id, "proposed") if b["origin"]["op"] == "repeat"}
top = {b["trial"]: b["metrics"].get(M) for s, t, b in events(d, id, "reported") if b.get("rung") == 1 and b["trial"] not in again}
ok(low and up & low, "with rungs: %d estimates on the lowest, %d of them go up" % (len(low), len(up & low)))
same({t for t, m in top.items() if m is not None}, set(top) & low, "a higher rung measures (or models again) what was an estimate below, and nothing else")
again = {t for t in set(top) & low if top[t]["n"] > 0}
ok(again, "%d of them are measured there" % len(again))
same({r["trial"] for r in trials(c, id) if "estimated" in r}, low - again, "and are no estimates any more")
c.close()
e.c.close()
d.term()
r = verify(d.dir)
same(r.returncode, 0, "tables and events agree: %s" % r.stderr.strip())
d.start()
same(d.conn().call("job.get", id=id)["models"], g["models"], "after a restart job.get says the same")
d.end()
done()
