"""Wrong calls: every method, what it answers, and that tautd goes on."""
import json
import os
import sys

sys.path.insert(0, os.path.join(os.environ.get("TAUT_SRC", "."), "tests/controller"))
from taut_wire import *

P, N, S, U, OLD = -32602, -32001, -32002, -32003, -32010
d = Daemon()
c = d.conn()
job = c.call("job.submit", job=custom_job())["id"]
e = Evaluator(c)
old = e.next()
e.report(old)
l = e.next()
L = {"lease": l["lease"], "epoch": 1}
OK = dict(L, status="ok", metrics={"f1": 1, "f2": 2})
REG = {"name": "x", "device": {"kind": "cpu"}}
lm = {"data": {"train": "/etc/hostname"}, "space": "lm-tiny", "objectives": ["valid_bpb"]}


def without(o, k):
    return {a: b for a, b in o.items() if a != k}


table = [
    ("server.info", {"x": 1}, P, "'x'"),
    ("device.list", {"x": 1}, P, "'x'"),
    ("job.submit", {}, P, "job"),
    ("job.submit", {"job": 3}, P, "object"),
    ("job.submit", {"job": {}}, P, "missing"),
    ("job.submit", {"job": custom_job(), "name": "x"}, P, "name"),
    ("job.submit", {"job": custom_job(objectives=[])}, P, "objectives"),
    ("job.submit", {"job": custom_job(objectives=["a b"])}, P, "objectives[0]"),
    ("job.submit", {"job": dict(lm, space="huge")}, P, "space"),
    ("job.submit", {"job": custom_job(search={"population": 0})}, P, "search.population"),
    ("job.submit", {"job": custom_job(search={"strategy": "annealing"})}, None, "search.strategy"),
    ("job.submit", {"job": custom_job(search={"weights": "shared"})}, U, "search.weights"),
    ("job.submit", {"job": custom_job(budget={"joules": 5})}, U, "budget.joules"),
    ("job.submit", {"job": custom_job(budget={"evaluation": 5})}, P, "did you mean 'evaluations'"),
    ("job.submit", {"job": dict(lm, data={"train": "relative.txt"})}, P, "data.train"),
    ("job.submit", {"job": dict(lm, data={"train": "/no/such/file"})}, P, "data.train"),
    ("job.submit", {"job": dict(lm, objectives=["decode"])}, P, "did you mean"),
    ("job.list", {"state": "lost"}, P, "state"),
    ("job.list", {"state": "dome"}, P, "did you mean 'done'"),
    ("job.list", {"state": 1}, P, "state"),
    ("job.list", {"job": 1}, P, "job"),
    ("job.list", {"brief": 1}, P, "brief"),
    ("job.get", {}, P, "id"),
    ("job.get", {"id": "1"}, P, "id"),
    ("job.get", {"id": 1.5}, P, "id"),
    ("job.get", {"id": 0}, P, "id"),
    ("job.get", {"id": 9}, N, "no job 9"),
    ("job.get", {"id": 1, "all": True}, P, "all"),
    ("job.get", {"id": 1, "brief": "yes"}, P, "brief"),
    ("job.get", {"id": 9, "brief": True}, N, "no job 9"),
    ("job.pause", {}, P, "id"),
    ("job.pause", {"id": 9}, N, "no job 9"),
    ("job.cancel", {"id": None}, P, "id"),
    ("job.cancel", {"id": 9}, N, "no job 9"),
    ("job.resume", {"id": 9}, N, "no job 9"),
    ("job.resume", {"id": 1, "budget": 7}, P, "budget"),
    ("job.resume", {"id": 1, "budget": {"evaluations": -1}}, P, "budget.evaluations"),
    ("job.resume", {"id": 1, "budget": {"evaluations": "many"}}, P, "budget.evaluations"),
    ("job.resume", {"id": 1, "budget": {"joules": 1}}, U, "budget.joules"),
    ("job.resume", {"id": 1, "budget": {"days": 1}}, P, "budget"),
    ("job.resume", {"id": 1, "budget": {"evaluations": 1}}, S, "used up"),
    ("job.front", {"id": 9}, N, "no job 9"),
    ("job.front", {"id": 1, "objectives": []}, P, "objectives"),
    ("job.front", {"id": 1, "objectives": "f1"}, P, "objectives"),
    ("job.front", {"id": 1, "objectives": ["f1", "f1"]}, P, "twice"),
    ("job.front", {"id": 1, "objectives": ["f3"]}, P, "f3"),
    ("job.front", {"id": 1, "objectives": [3]}, P, "objectives[0]"),
    ("job.front", {"id": 1, "objectives": [{"metric": "f1", "goal": "up"}]}, P, "objectives[0].goal"),
    ("job.front", {"id": 1, "objectives": [{"goal": "max"}]}, P, "objectives[0].metric"),
    ("job.front", {"id": 1, "where": "f1 <"}, P, "where"),
    ("job.front", {"id": 1, "where": 5}, P, "where"),
    ("job.front", {"id": 1, "limit": 0}, P, "limit"),
    ("job.front", {"id": 1, "after": 77}, P, "77"),
    ("job.front", {"id": 1, "rung": 2}, P, "rung"),
    ("job.front", {"id": 1, "uncertain": "yes"}, P, "uncertain"),
    ("job.front", {"id": 1, "archs": 1}, P, "archs"),
    ("job.front", {"id": 1, "metrics": "f1"}, P, "metrics"),
    ("job.front", {"id": 1, "metrics": ["f1", 2]}, P, "metrics"),
    ("job.progress", {}, P, "id"),
    ("job.progress", {"id": 9}, N, "no job 9"),
    ("job.watch", {"id": 1, "after": -1}, P, "after"),
    ("job.watch", {"id": 9}, N, "no job 9"),
    ("trial.list", {"id": 1}, P, "id"),
    ("trial.list", {"job": 9}, N, "no job 9"),
    ("trial.list", {"job": 1, "limit": -3}, P, "limit"),
    ("trial.list", {"job": 1, "where": "and"}, P, "where"),
    ("trial.get", {}, P, "id"),
    ("trial.get", {"id": 1, "arch_id": "abcdef"}, P, "arch_id"),
    ("trial.get", {"id": 99}, N, "no trial 99"),
    ("trial.get", {"arch_id": "abc"}, P, "6 to 32"),
    ("trial.get", {"arch_id": "zzzzzzzz"}, P, "hexadecimal"),
    ("trial.get", {"arch_id": "000000"}, N, "000000"),
    ("evaluator.register", without(REG, "name"), P, "name"),
    ("evaluator.register", dict(REG, name=""), P, "name"),
    ("evaluator.register", dict(REG, name="n" * 129), P, "name"),
    ("evaluator.register", without(REG, "device"), P, "device"),
    ("evaluator.register", dict(REG, device={}), P, "kind"),
    ("evaluator.register", dict(REG, device={"kind": "k" * 33}), P, "kind"),
    ("evaluator.register", dict(REG, accepts=["trane"]), P, "trane"),
    ("evaluator.register", dict(REG, accepts="train"), P, "accepts"),
    ("evaluator.register", dict(REG, provides=[1]), P, "provides"),
    ("evaluator.register", dict(REG, spaces=["vision"]), P, "vision"),
    ("evaluator.register", dict(REG, slots=0), P, "slots"),
    ("evaluator.register", dict(REG, holds=[1]), P, "holds[0]"),
    ("evaluator.register", dict(REG, holds=[{"lease": 1}]), P, "holds[0].epoch"),
    ("evaluator.register", dict(REG, colour="red"), P, "colour"),
    ("evaluator.next", {}, P, "evaluator"),
    ("evaluator.next", {"evaluator": 99}, N, "not registered"),
    ("evaluator.next", {"evaluator": 1, "wait_s": -1}, P, "wait_s"),
    ("evaluator.next", {"evaluator": 1, "wait_s": "long"}, P, "wait_s"),
    ("evaluator.next", {"evaluator": 1}, S, "report first"),
    ("evaluator.progress", {"epoch": 1}, P, "lease"),
    ("evaluator.progress", {"lease": l["lease"]}, P, "epoch"),
    ("evaluator.progress", dict(L, lease=1000), N, "no lease 1000"),
    ("evaluator.progress", dict(L, step=-1), P, "step"),
    ("evaluator.progress", dict(L, loss="high"), P, "loss"),
    ("evaluator.progress", dict(L, curve=[[1]]), P, "curve"),
    ("evaluator.progress", dict(L, curve=[[1, None]]), P, "curve"),
    ("evaluator.progress", dict(L, checkpoint={"path": "/x"}), P, "checkpoint.hash"),
    ("evaluator.progress", dict(L, checkpoint={"path": "x", "hash": "a", "bytes": 1, "tokens": 1}), P, "checkpoint.path"),
    ("evaluator.progress", dict(L, speed=1), P, "speed"),
    ("evaluator.report", without(OK, "lease"), P, "lease"),
    ("evaluator.report", without(OK, "status"), P, "status"),
    ("evaluator.report", dict(OK, status="fine"), P, "status"),
    ("evaluator.report", without(OK, "metrics"), P, "f1"),
    ("evaluator.report", dict(OK, metrics=[1]), P, "metrics"),
    ("evaluator.report", dict(OK, metrics={"f1": 1}), P, "f2"),
    ("evaluator.report", dict(OK, metrics={"f1": 1, "f2": True}), P, "metrics.f2"),
    ("evaluator.report", dict(OK, metrics={"f1": 1, "f2": {"median": 1, "n": 0}}), P, "metrics.f2.n"),
    ("evaluator.report", dict(OK, metrics={"f1": 1, "f2": {"median": 1, "high": 0.5}}), P, "metrics.f2"),
    ("evaluator.report", dict(OK, metrics={"f1": 1, "f2": {"median": 1, "ratio": [1, 1, 1]}}), P, "metrics.f2.anchor"),
    ("evaluator.report", dict(OK, metrics={"f1": 1, "f2": {"median": 1, "anchor": "ab" * 16}}), P, "metrics.f2.ratio"),
    ("evaluator.report", dict(OK, metrics={"f1": 1, "f2": {"median": 1, "ratio": [1, 1, 1], "anchor": "ABCD"}}), P, "metrics.f2.anchor"),
    ("evaluator.report", dict(OK, metrics={"f1": 1, "f2": {"median": 1, "ratio": [1, 2, 3], "anchor": "ab" * 16}}), P, "metrics.f2.ratio"),
    ("evaluator.report", dict(OK, metrics={"f1": 1, "f2": {"median": 1, "ratio": [1, 1], "anchor": "ab" * 16}}), P, "metrics.f2.ratio"),
    ("evaluator.report", dict(OK, metrics={"f1": 1, "f2": {"median": 1, "ratio": [1, 1, None], "anchor": "ab" * 16}}), P, "metrics.f2.ratio"),
    ("evaluator.report", dict(OK, metrics={"f1": 1, "f2": {"median": 1, "ratio": 1, "anchor": "ab" * 16}}), P, "metrics.f2.ratio"),
    ("evaluator.report", dict(OK, metrics={"f1": 1, "f2": {"median": 1, "converged": 1}}), P, "metrics.f2.converged"),
    ("evaluator.report", dict(OK, metrics={"f1": 1, "f2": {"median": 1, "disturbed": 1.5}}), P, "metrics.f2.disturbed"),
    ("evaluator.report", dict(OK, metrics={"f1": 1, "f2": {"median": 1, "rejected": -1}}), P, "metrics.f2.rejected"),
    ("evaluator.report", dict(OK, metrics={"f1": 1, "f2": {"median": 1, "ration": [1, 1, 1]}}), P, "ration"),
    ("evaluator.report", dict(OK, metrics={"f1": 1, "f2": 1, "m" * 70: 1}), P, "longer"),
    ("evaluator.report", dict(OK, metrics={"f1": 1, "f2": 1, "a b": 1}), P, "metrics"),
    ("evaluator.report", dict(OK, metrics=dict({"m%d" % i: 1 for i in range(300)}, f1=1, f2=1)), P, "256"),
    ("evaluator.report", dict(OK, error=5), P, "error"),
    ("evaluator.report", dict(OK, curve="no"), P, "curve"),
    ("evaluator.report", dict(OK, epoch=2), OLD, "not yours"),
    ("evaluator.report", dict(OK, lease=old["lease"]), OLD, "not yours"),
    ("blob.get", {"hash": "x", "offset": 0}, U, "not built yet"),
    ("blob.put", {}, U, "not built yet"),
    ("job.delete", {"id": 1}, -32601, "job.delete"),
]
for method, params, code, part in table:
    got = c.code(method, **params)
    want = (P, U) if code is None else (code,)
    if not ok(got[0] in want and part in str(got[1]), "%s %s: %s" % (method, json.dumps(params)[:70], got[1])):
        print("#   got %r, want %r with %r" % (got, want, part))

# The same calls without params of their own, as notifications, and in a batch.
for method, params, code, part in table:
    c.raw(json.dumps({"jsonrpc": "2.0", "method": method, "params": params}) + "\n")
batch = [{"jsonrpc": "2.0", "id": i, "method": m, "params": p} for i, (m, p, _, _) in enumerate(table)]
c.raw(json.dumps(batch) + "\n")
got = c.line()
same(len(got), len(table), "a batch of all of them is answered whole")
for raw in ('{"jsonrpc":"2.0","id":1,"method":"evaluator.report","params":{"lease":%d,"epoch":1,"status":"ok","metrics":{"f1":NaN,"f2":1}}}' % l["lease"],
            '{"jsonrpc":"2.0","id":1,"method":"evaluator.report","params":{"lease":%d,"epoch":1,"status":"ok","metrics":{"f1":1e999,"f2":1}}}' % l["lease"]):
    c.raw(raw + "\n")
    same(c.line()["error"]["code"], -32700, "a number that JSON does not have")
same(c.call("job.get", id=job)["trials"], {"ready": 0, "leased": 1, "ok": 1, "failed": 0}, "after all of this nothing has changed")
same(e.report(l), {}, "and the lease is still there")
for reason in ("x" + "\u00e9" * 1500, "x" + "\u20ac" * 1000, "\U0001f600" * 500, "\u00e9" * 1001):
    l = e.next()
    e.report(l, status="failed", error=reason)
    kept = c.call("trial.get", id=l["trial"]).get("error", "")
    ok(reason.startswith(kept) and 1996 < len(kept.encode()) <= 2000, "of a long reason the beginning is kept, whatever its letters: %d bytes" % len(kept.encode()))
same(d.errors().count("error:"), 0, "nothing of it was an error of tautd")
same(d.end(), 0, "which leaves with 0")

# Calls of the program.
import subprocess
for args, rc, part in ((["--help"], 0, "usage"), (["--version"], 0, "tautd"), (["--listen", "x:1"], 2, "not built yet"), (["--key", "f"], 2, "not built yet"),
                       (["--dir"], 2, "needs a value"), (["--dir", ""], 2, "empty"), (["--frob"], 2, "no such option"), (["extra"], 2, "no arguments"),
                       (["--lease", "soon"], 2, "--lease"), (["--heartbeat", "-1"], 2, "--heartbeat"), (["--ready", "x"], 2, "--ready"),
                       (["--dir", "/proc/none"], 1, "/proc/none"), (["--dir", "/dev/null"], 1, "/dev/null"),
                       (["--verify", "--dir", "/no/such/store"], 1, "/no/such/store")):
    p = subprocess.run([TAUTD] + args, capture_output=True, text=True, timeout=60)
    ok(p.returncode == rc and part in p.stdout + p.stderr, "tautd %s: %d, %s" % (" ".join(args), p.returncode, (p.stderr or p.stdout).split("\n")[0]))
    if rc:
        same(p.stderr.count("\n"), 1, "in one line")
done()
