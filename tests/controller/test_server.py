"""A server's whole life over its socket: jobs, leases, reports, fronts, pages, watches, sharing, waiting, giving back."""
import math
import os
import sqlite3
import sys
import threading

sys.path.insert(0, os.path.join(os.environ.get("TAUT_SRC", "."), "tests/controller"))
from taut_wire import *


def infeasible():
    """What breaks a constraint is on no front, and adds nothing to a hypervolume."""
    d = Daemon()
    c = d.conn()
    job = c.call("job.submit", job=custom_job(constraints=[{"metric": "f1", "max": 4}], search={"population": 2}, budget={"evaluations": 4}))["id"]
    e = Evaluator(d.conn())
    volumes = []
    for f1, f2 in ((8, 8), (6, 1), (3, 4), (5, 0.5)):
        e.report(e.next(), metrics={"f1": f1, "f2": f2})
        volumes.append(c.call("job.get", id=job)["hypervolume"])
    ref = c.call("job.get", id=job)["reference"]
    ok(volumes[0] is None and volumes[1] == 0 and volumes[2] == volumes[3] and math.isclose(volumes[2], (ref[0] - 3) * (ref[1] - 4), rel_tol=1e-12),
       "the hypervolume is that of what holds the constraints: %s" % volumes)
    same(c.call("job.progress", id=job)["points"]["hypervolume"], [0, 0] + volumes[2:], "job.progress says the same")
    d.end()


def life():
    d = Daemon()
    c = d.conn()
    same(c.call("job.list"), [], "no jobs yet")
    job = c.call("job.submit", job=custom_job())["id"]
    same((c.call("job.get", id=job)["state"], c.call("job.get", id=job)["reason"]), ("waiting", "no evaluator is connected"),
         "a job waits for an evaluator, and says so")
    same(c.call("job.front", id=job), [], "an empty front before the first result")
    e = Evaluator(d.conn())
    same((e.reg["heartbeat_s"], e.reg["lease_s"], e.reg["held"]), (15, 120, []), "register says how often to be heard of")
    l = e.next()
    same((l["job"], l["trial"], l["epoch"], l["task"]["kind"], l["metrics"], l["seed"]), (job, 1, 1, "train", ["f1", "f2"], 1),
         "the first lease")
    g = c.call("job.get", id=job)
    same((g["state"], g["trials"], len(g["running"])), ("running", {"ready": 0, "leased": 1, "ok": 0, "failed": 0}, 1),
         "it runs, one trial is leased")
    same(e.c.code("evaluator.next", evaluator=e.id)[0], -32002, "no second lease with one slot")
    same(e.c.call("evaluator.progress", lease=l["lease"], epoch=1, step=7, tokens=100, loss=2.5), {"go": True}, "progress: go on")
    g = c.call("job.get", id=job)["running"][0]
    same((g["step"], g["tokens"], g["loss"], g["name"], g["connected"]), (7, 100, 2.5, "py", True), "progress can be watched")
    for bad, what in ((None, "no metrics"), ({"f1": 1}, "one missing"), ({"f1": 1, "f2": None}, "null"), ({"f1": 1, "f2": "NaN"}, "a word"),
                      ({"f1": 1, "f2": {"low": 1}}, "no median"), ({"f1": 1, "f2": {"median": 1, "low": 2, "high": 3, "n": 9}}, "median below low")):
        params = {} if bad is None else {"metrics": bad}
        same(e.c.code("evaluator.report", lease=l["lease"], epoch=1, status="ok", **params)[0], -32602, "an ok with %s is refused" % what)
    same(e.c.code("evaluator.report", lease=l["lease"], epoch=2, status="ok", metrics={"f1": 1, "f2": 2})[0], -32010, "another epoch is stale")
    same(e.c.code("evaluator.report", lease=999, epoch=1, status="ok", metrics={"f1": 1, "f2": 2})[0], -32001, "a lease that never was")
    same(e.report(l), {}, "after all of that the lease is still there")
    same(e.c.code("evaluator.report", lease=l["lease"], epoch=1, status="ok", metrics={"f1": 1, "f2": 2})[0], -32010, "a second report is stale")
    same(e.c.call("evaluator.progress", lease=l["lease"], epoch=1), {"go": False}, "progress on an ended lease: stop")
    l = e.next()
    e.report(l, "failed", error="CUDA is out of memory")
    t = c.call("trial.get", id=l["trial"])
    same((t["state"], t["error"]), ("failed", "CUDA is out of memory"), "a failed trial keeps its error")
    l = e.next()
    e.report(l, metrics={"f1": {"median": 3, "low": 2.5, "high": 3.5, "n": 30}, "f2": {"median": 1}, "note": 7}, curve=[[10, 3.0], [20, 2.0]])
    t = c.call("trial.get", id=l["trial"])
    same((t["metrics"]["f1"]["low"], t["metrics"]["note"]["median"], t["curve"]), (2.5, 7, [[10, 3.0], [20, 2.0]]),
         "intervals, further metrics and the curve are kept")
    had = e.run()
    same(len(had), 17, "the budget is used up to the last evaluation")
    g = c.call("job.get", id=job)
    same((g["state"], g["reason"], g["evaluations"]), ("done", "budget used up: 20 evaluations", 20), "then the job is done")
    ok(g["hypervolume"] > 0 and len(g["reference"]) == 2, "it has a reference point and a hypervolume")
    prog = c.call("job.progress", id=job)
    ok(math.isclose(prog["points"]["hypervolume"][-1], g["hypervolume"], rel_tol=1e-9), "job.progress ends at the same hypervolume")
    ok(all(a <= b for a, b in zip(prog["points"]["hypervolume"], prog["points"]["hypervolume"][1:])), "which never sinks")
    same([len(prog["points"][k]) for k in ("evaluation", "at_ms", "busy_s", "hypervolume")] + [len(prog["points"]["best"]["f1"])], [20] * 5,
         "columns of one length")

    trials = c.call("trial.list", job=job)
    same([t["trial"] for t in trials], list(range(1, 21)), "trial.list: every trial once")
    first8 = [t for t in trials[:8] if t["state"] == "ok"]
    want = [max(t["metrics"][m] for t in first8) * 1.1 for m in ("f1", "f2")]
    ok(all(math.isclose(a, b, rel_tol=1e-12) for a, b in zip(want, g["reference"])), "the reference is 1.1 times the worst of the first 8")
    pages, after = [], 0
    while True:
        page = c.call("trial.list", job=job, after=after, limit=7)
        if not page:
            break
        pages += page
        after = page[-1]["trial"]
    same(pages, trials, "pages make the whole")
    good = [t for t in trials if t["state"] == "ok"]
    front = [t for t in good if not any(all(o["metrics"][m] <= t["metrics"][m] for m in ("f1", "f2")) and
                                        any(o["metrics"][m] < t["metrics"][m] for m in ("f1", "f2")) for o in good)]
    front.sort(key=lambda t: (t["metrics"]["f1"], t["trial"]))
    got = c.call("job.front", id=job)
    same([t["trial"] for t in got], [t["trial"] for t in front], "the front is what nobody beats")
    pages, after = [], 0
    while True:
        page = c.call("job.front", id=job, after=after, limit=2)
        if not page:
            break
        pages += page
        after = page[-1]["trial"]
    same(pages, got, "pages of the front make the whole")
    where = c.call("trial.list", job=job, where="f1 < 4 and not f2 > 9")
    same([t["trial"] for t in where], [t["trial"] for t in good if t["metrics"]["f1"] < 4 and not t["metrics"]["f2"] > 9], "where filters")
    rows = c.call("job.front", id=job, metrics=["f2", "nobody"], archs=True)
    same([(t["trial"], t["metrics"]) for t in rows], [(t["trial"], {"f2": t["metrics"]["f2"]}) for t in got], "a front of chosen metrics")
    same([t["arch"] for t in rows], [c.call("trial.get", id=t["trial"])["arch"] for t in got], "and of architectures")
    brief, whole = c.call("job.get", id=job, brief=True), c.call("job.get", id=job)
    same(brief, {k: whole[k] for k in ("id", "name", "state", "identity", "submitted_ms", "budget", "objectives", "reason", "busy_s")},
         "job.get in brief is a part of the whole")
    same(c.call("job.list", brief=True), [brief], "and so is job.list")
    up = c.call("job.front", id=job, objectives=[{"metric": "f1", "goal": "max"}])
    same({t["metrics"]["f1"] for t in up}, {max(t["metrics"]["f1"] for t in good)}, "a front of one turned objective is its best")
    t = c.call("trial.get", id=20)
    same(c.call("trial.get", arch_id=t["arch_id"][:10], job=job)["id"], 20, "a trial is found by its architecture")
    same(c.code("trial.get", arch_id="ffffffffffff")[0], -32001, "or not")
    same([j["id"] for j in c.call("job.list", state="done")], [job], "job.list by state")
    same(c.call("job.list", state="running"), [], "and by another")
    info = c.call("server.info")
    same((info["jobs"], info["evaluators"], info["reader"]), ({"done": 1}, 1, False), "server.info counts")
    dev = c.call("device.list")
    same((dev["devices"][0]["kind"], dev["evaluators"][0]["name"]), ("cpu", "py"), "device.list")

    # extend
    same(c.code("job.resume", id=job)[0], -32002, "a finished job is not resumed without more budget")
    same(c.call("job.resume", id=job, budget={"evaluations": 25}), {"state": "running"}, "with more it is")
    same(len(e.run()), 5, "and takes exactly that many")
    same(c.call("job.get", id=job)["state"], "done", "and is done again")
    again = c.call("job.submit", job=custom_job(budget={"evaluations": 99}))["id"]
    rows = {j["id"]: j for j in c.call("job.list")}
    same(rows[again]["identity"], rows[job]["identity"], "another budget alone is the same identity")
    other = c.call("job.submit", job=custom_job(seed=2))["id"]
    ok({j["id"]: j for j in c.call("job.list")}[other]["identity"] != rows[job]["identity"], "another seed is another")
    same(c.call("job.cancel", id=again), {"state": "cancelled"}, "cancel")
    same(c.call("job.cancel", id=again), {"state": "cancelled"}, "twice")
    same(c.code("job.pause", id=again)[0], -32002, "a cancelled job is not paused")
    same(c.code("job.resume", id=again)[0], -32002, "nor resumed")
    c.call("job.cancel", id=other)
    same(verify(d.dir).returncode, 0, "the store is what its events say, while tautd runs")
    same(d.end(), 0, "SIGTERM: leaves with 0")


def pausing():
    d = Daemon()
    c = d.conn()
    job = c.call("job.submit", job=custom_job())["id"]
    e = Evaluator(d.conn())
    e.run(3)
    l = e.next()
    same(c.call("job.pause", id=job), {"state": "paused"}, "pause")
    same(e.c.call("evaluator.progress", lease=l["lease"], epoch=l["epoch"], step=1), {"go": False}, "a running trial hears it at its next progress")
    cp = {"path": "/tmp/x.ckpt", "hash": "ab" * 32, "bytes": 12, "tokens": 4000}
    e.report(l, "preempted", checkpoint=cp, curve=[[4000, 2.2]])
    same(e.next(), None, "a paused job leases nothing")
    g = c.call("job.get", id=job)
    same((g["state"], g["trials"]["ready"], g["evaluations"]), ("paused", 1, 3), "the trial waits, and counts for nothing")
    same(c.call("job.resume", id=job), {"state": "running"}, "resume")
    l2 = e.next()
    same((l2["trial"], l2["epoch"], l2["arch"]), (l["trial"], 2, l["arch"]), "the preempted trial comes first, one epoch on")
    same(l2.get("checkpoint"), cp, "with its checkpoint")
    same(e.c.code("evaluator.report", lease=l["lease"], epoch=1, status="ok", metrics={"f1": 0, "f2": 0})[0], -32010, "the old epoch is refused")
    e.report(l2)
    e.run()
    same(c.call("job.get", id=job)["evaluations"], 20, "and the search ends as if nothing had been")
    job = c.call("job.submit", job=custom_job(seed=3))["id"]
    l = e.next()
    same(l["job"], job, "the next job")
    c.call("job.cancel", id=job)
    same(e.c.call("evaluator.progress", lease=l["lease"], epoch=1), {"go": False}, "cancel is heard too")
    same(e.report(l), {}, "a report that was under way still counts")
    same((c.call("job.get", id=job)["state"], c.call("job.get", id=job)["evaluations"]), ("cancelled", 1), "the job stays cancelled")
    d.end()


def giving_back():
    d = Daemon()
    c = d.conn()
    job = c.call("job.submit", job=custom_job())["id"]
    c.call("job.watch", id=job, after=0)
    a, b = Evaluator(d.conn(), "a", slots=2), Evaluator(d.conn(), "b")
    l1, l2 = a.next(), a.next()
    ok(l1["trial"] != l2["trial"], "two slots, two trials")
    waiting = b.c.send("evaluator.next", evaluator=b.id, wait_s=60)  # takes a third
    l3 = b.c.wait(waiting)
    a.c.close()
    back = [c.until(lambda p: p["type"] == "returned") for _ in range(2)]
    same([(p["trial"], p["reason"]) for p in back], [(1, "connection closed"), (2, "connection closed")], "a closed connection gives its leases back at once")
    b.report(l3)
    again = b.next()
    same((again["trial"], again["epoch"]), (1, 2), "and they are leased before anything new")
    b.report(again)
    b.run()
    same(c.call("job.get", id=job)["trials"], {"ready": 0, "leased": 0, "ok": 20, "failed": 0}, "nothing is lost or counted twice")
    d.end()

    d = Daemon("--lease", "0.3", "--heartbeat", "0.1")
    c = d.conn()
    job = c.call("job.submit", job=custom_job())["id"]
    c.call("job.watch", id=job)
    silent, busy = Evaluator(d.conn(), "silent"), Evaluator(d.conn(), "busy")
    same(silent.reg["lease_s"], 0.3, "the lease is as long as was asked for")
    l, k = silent.next(), busy.next()
    # busy is heard of all the time, silent is not
    stop = threading.Event()
    gone = []

    def beat():
        while not stop.wait(0.03):
            if busy.c.call("evaluator.progress", lease=k["lease"], epoch=1, step=1) != {"go": True}:
                gone.append(1)

    t = threading.Thread(target=beat)
    t.start()
    p = c.until(lambda p: p["type"] == "returned")
    stop.set()
    t.join()
    same((p["trial"], p["reason"][:7]), (l["trial"], "expired"), "a silent evaluator loses its lease")
    same(gone, [], "one that is heard of keeps it")
    same(silent.c.call("evaluator.progress", lease=l["lease"], epoch=1), {"go": False}, "the silent one is told to stop")
    same(silent.c.code("evaluator.report", lease=l["lease"], epoch=1, status="ok", metrics={"f1": 0, "f2": 0})[0], -32010, "and its report is stale")
    d.end()


def sharing():
    d = Daemon()
    c = d.conn()
    jobs = [c.call("job.submit", job=custom_job(name=n, seed=i, budget={"evaluations": 200}))["id"] for i, n in enumerate("ab")]
    es = [Evaluator(d.conn(), n) for n in "xy"]
    count = {j: 0 for j in jobs}
    for i in range(100):
        ls = [e.next() for e in es]
        for e, l in zip(es, ls):
            count[l["job"]] += 1
            e.report(l)
    ok(abs(count[jobs[0]] - count[jobs[1]]) <= 2, "two jobs share two evaluators: %s" % count)
    late = c.call("job.submit", job=custom_job(name="late", seed=9, budget={"evaluations": 200}))["id"]
    count[late] = 0
    before = dict(count)
    for i in range(60):
        l = es[0].next()
        count[l["job"]] += 1
        es[0].report(l)
    got = [count[j] - before[j] for j in count]
    ok(max(got) - min(got) <= 3, "a job that comes later gets its third, and no more: %s" % got)
    lm = {"name": "lm", "data": {"train": os.path.join(d.dir, "text.txt")}, "space": "lm-tiny", "objectives": ["valid_bpb", "weight_bytes"],
          "train": {"batch": 4}, "budget": {"evaluations": 4}}
    with open(lm["data"]["train"], "w") as f:
        f.write("to be or not to be " * 1000)
    j = c.call("job.submit", job=lm)["id"]
    for i in range(4):
        l = es[0].next()
        ok(l["job"] != j, "a custom evaluator gets nothing of a language-model job")
        es[0].report(l)
    same(c.call("job.get", id=j)["reason"], "no connected evaluator trains in language-model spaces", "which waits, and says for what")
    z = c.call("job.submit", job={"name": "z", "evaluator": {"problem": "zdt1"}, "budget": {"evaluations": 1}})["id"]
    ok(es[0].next()["job"] != z, "nor of a standard problem's")
    info = c.call("job.get", id=z)
    same((info["reason"], info["space"]["problem"]), ("no connected evaluator serves the standard problems (taut-evaluator does)", "zdt1"), "which waits as well")
    e = Evaluator(d.conn(), "formula", spaces=["problem"])
    l = e.next()
    same((l["job"], l["task"], l["data"], len(l["arch"]["x"]), l["metrics"]), (z, {"kind": "train", "problem": "zdt1"}, None, 30, ["f1", "f2"]), "a lease of it names the problem")
    e.report(l, metrics={"f1": 0.5, "f2": 1.0})
    same(c.call("job.get", id=z)["state"], "done", "and its report counts as any other")
    e = Evaluator(d.conn(), "lm", spaces=["lm"])
    l = e.next()
    same((l["job"], l["data"]["train"][0]["bytes"], len(l["data"]["train"][0]["sha256"]), l["task"]["train"]["batch"], l["task"]["train"]["lr_width_rule"]),
         (j, 19000, 64, 4, "mup"), "a lease of it carries files with their hashes, and the recipe")
    ok("layers" in l["arch"] and "weight_bytes" not in l["metrics"] and "valid_bpb" in l["metrics"], "the architecture, and what is to be measured")
    same(e.c.code("evaluator.report", lease=l["lease"], epoch=1, status="ok", metrics={"valid_bpb": 2, "decode_msec": 1})[0], -32602,
         "an unknown metric is refused")
    for joules in (1.7e308, {"median": 1.1e30}):
        same(e.c.code("evaluator.report", lease=l["lease"], epoch=1, status="ok", metrics={"valid_bpb": 2, "train_joules": joules}),
             (-32602, "metrics.train_joules: more than 1e+30 J is no energy of a training"), "an energy whose sums could not be written is refused")
    e.report(l, metrics={"valid_bpb": 2.0, "weight_bytes": 1, "train_joules": 50})
    t = c.call("trial.get", id=l["trial"])
    ok(t["metrics"]["weight_bytes"]["median"] > 1000, "what paper says stands, whatever is reported")
    same(c.call("job.get", id=j)["joules"], 50, "energy is summed up")
    for n in range(3):
        l = e.next()
        e.report(l, metrics={"valid_bpb": 2.5 - 1e-4 * n, "train_joules": 1e30} if n else {"valid_bpb": 2.5})
    same((c.call("job.get", id=j)["joules"], c.call("job.progress", id=j)["joules"]), (2e30, 2e30), "the largest that is taken is summed up")
    same(c.call("job.get", id=j)["rates"]["watts"] > 0, True, "and makes a rate")
    whole = c.call("job.front", id=j, objectives=["valid_bpb", {"metric": "params", "goal": "max"}, "weight_bytes"], archs=True)
    ok(len(whole) > 1 and all(t["arch"] == c.call("trial.get", id=t["trial"])["arch"] for t in whole), "a front with its architectures, as they were proposed")
    for bad, where in ((dict(lm, data={"train": "text.txt"}), "data.train"), (dict(lm, data={"train": "/nowhere/at/all"}), "data.train"),
                       (dict(lm, objectives=["decode"]), "objectives[0]"), (dict(lm, budget={"joules": 1}), "budget.joules")):
        code, text = c.code("job.submit", job=bad)
        ok(code in (-32602, -32003) and where in text, "refused with its place: %s" % text)
    d.end()


def waiting():
    d = Daemon()
    c = d.conn()
    lm = {"data": {"train": os.path.join(d.dir, "text.txt")}, "space": "lm-tiny", "budget": {"evaluations": 4}}
    with open(lm["data"]["train"], "w") as f:
        f.write("to be or not to be " * 1000)
    energy = c.call("job.submit", job=dict(lm, objectives=["valid_bpb", "train_joules"]))["id"]
    e = Evaluator(d.conn(), "a", spaces=["lm"], provides=["valid_bpb", "decode_ms", "train_tokens_per_s"])
    same(c.call("job.get", id=energy)["reason"], "no connected evaluator provides train_joules", "a job waits for who measures energy")
    same(e.next(), None, "and is not leased to others")
    c.call("job.cancel", id=energy)
    timed = c.call("job.submit", job=dict(lm, objectives=["valid_bpb", "decode_ms@128"]))["id"]
    l = e.next()
    same(l["job"], timed, "decode_ms provides decode_ms@128")
    b = Evaluator(d.conn(), "b", device={"kind": "cpu", "name": "another"}, spaces=["lm"])
    same(b.next(), None, "what is measured, is measured on the first device alone")
    free = c.call("job.submit", job=dict(lm, objectives=["valid_bpb", "params"]))["id"]
    same(b.next()["job"], free, "what is not, anywhere")
    e.report(l, metrics={"valid_bpb": 2, "decode_ms@128": {"median": 1, "low": 0.9, "high": 1.2, "n": 30}})
    c.call("job.watch", id=timed)
    e.c.close()
    p = c.until(lambda p: p["type"] == "state")
    ok(p["state"] == "waiting" and "target device" in p["reason"], "when the target's evaluator leaves, the job waits: %s" % p["reason"])
    front = c.call("job.front", id=timed, uncertain=True)
    same(front[0]["intervals"], {"decode_ms@128": [0.9, 1.2]}, "the front with its uncertainty")
    cuda = c.call("job.submit", job=dict(lm, objectives=["decode_ms@128"], target="cuda"))["id"]
    same(c.call("job.get", id=cuda)["reason"], "no evaluator on the target 'cuda' is connected", "a target that is not there")
    g = Evaluator(d.conn(), "g", device="cuda", spaces=["lm"])
    same(g.next()["job"], cuda, "and one that is: a kind alone is a device too")
    # a long wait is answered as soon as there is work
    idle = Evaluator(d.conn(), "idle")
    w = idle.c.send("evaluator.next", evaluator=idle.id, wait_s=500)
    toy = c.call("job.submit", job=custom_job())["id"]
    same(idle.c.wait(w)["job"], toy, "a waiting evaluator gets what comes")
    w = idle.c.send("evaluator.next", evaluator=idle.id, wait_s=0.05)
    same(idle.c.code("evaluator.next", evaluator=idle.id)[0], -32002, "slots hold")
    d.end()


def precision():
    """A job's "auto" is the first device's fastest, for good; what a device lacks is not leased to it."""
    d = Daemon()
    c = d.conn()
    lm = {"data": {"train": os.path.join(d.dir, "text.txt")}, "space": "lm-tiny", "objectives": ["valid_bpb", "params"], "budget": {"evaluations": 9}}
    with open(lm["data"]["train"], "w") as f:
        f.write("to be or not to be " * 1000)
    both, plain = ({"kind": "cpu", "name": n, "precisions": p} for n, p in (("new", ["bf16", "f32"]), ("old", ["f32"])))
    job = c.call("job.submit", job=lm)["id"]
    same(c.call("job.get", id=job)["precision"], {"wanted": "auto"}, "not settled before the first lease")
    a = Evaluator(d.conn(), "a", device=both, spaces=["lm"])
    l = a.next()
    same(l["task"]["precision"], "bf16", "the fastest of the first device")
    same(c.call("job.get", id=job)["precision"], {"wanted": "auto", "used": "bf16"}, "job.get says so")
    a.report(l, metrics={"valid_bpb": 2})
    c.call("job.watch", id=job, after=0)
    same(c.until(lambda p: p["type"] == "precision")["precision"], "bf16", "an event of the job")
    d.restart(hard=True)
    c = d.conn()
    b = Evaluator(d.conn(), "b", device=plain, spaces=["lm"])
    same(b.next(), None, "another device that lacks it gets no lease")
    c.call("job.watch", id=job)
    ok("bf16" in c.call("job.get", id=job)["reason"], "the job says why it waits: %s" % c.call("job.get", id=job)["reason"])
    same(Evaluator(d.conn(), "a", device=both, spaces=["lm"]).next()["task"]["precision"], "bf16", "as before the restart")
    c.call("job.cancel", id=job)
    for device, wanted, used in ((plain, "auto", "f32"), ({"kind": "cpu", "name": "silent"}, "auto", "f32"), ({"kind": "cpu", "name": "silent"}, "bf16", "bf16"),
                                 (both, "f32", "f32")):
        job = c.call("job.submit", job=dict(lm, precision=wanted))["id"]
        same(Evaluator(d.conn(), "e%d" % job, device=device, spaces=["lm"]).next()["task"]["precision"], used, "%s on %s: %s" % (wanted, device["name"], used))
        c.call("job.cancel", id=job)
    d.term()
    same(verify(d.dir).returncode, 0, "the store verifies")
    d.end()


def handover():
    """An "auto" search goes over to the surrogate when that predicts well: an event, told by job.get, and the same after a kill."""
    def search(kills):
        d = Daemon()
        job = d.conn().call("job.submit", job=custom_job(budget={"evaluations": 45}))["id"]
        for n in (15, 26, 9 ** 9) if kills else (9 ** 9,):
            Evaluator(d.conn()).run(n)
            told = d.conn().call("job.get", id=job)
            if n < 9 ** 9:
                d.restart(hard=True)
                same(d.conn().call("job.get", id=job).get("proposes"), told.get("proposes"), "after %d trials and a kill job.get says what it said" % n)
        c = d.conn()
        c.call("job.watch", id=job, after=0)
        events = []
        c.until(lambda p: events.append(p) or p.get("state") == "done")
        d.term()
        same(verify(d.dir).returncode, 0, "the store verifies")
        d.end()
        return told, [(e["proposal"], e["from"], e["to"], e["rho"]) for e in events if e["type"] == "strategy"], [e["genome"] for e in events if e["type"] == "proposed"]
    told, changes, genomes = search(False)
    ok(told["strategy"] == "auto" and len(changes) > 0 and changes[0][1:3] == ("nsga2", "surrogate") and 24 <= changes[0][0] < 45 and changes[0][3] >= 0.4,
       "the surrogate takes over, as an event: %s" % changes)
    same(told["proposes"], dict(zip(("proposal", "from", "to", "rho"), changes[-1])), "job.get tells the last one")
    again = search(True)
    ok(again[1] == changes and again[2] == genomes, "a search killed twice hands over at the same proposal and makes the same ones")


def watching():
    d = Daemon()
    c = d.conn()
    job = c.call("job.submit", job=custom_job(budget={"evaluations": 200}))["id"]
    e = Evaluator(d.conn())
    e.run(150)
    w = d.conn()
    same(w.call("job.watch", id=job, after=0), {}, "job.watch")
    e.run(50)
    seen = []
    w.until(lambda p: seen.append(p) or (p["type"] == "state" and p["state"] == "done"))
    same([p["seq"] for p in seen], list(range(1, len(seen) + 1)), "past and present come without a gap")
    same(sum(p["type"] == "reported" for p in seen), 200, "every report is among them")
    same(seen[0]["type"], "submitted", "from the first event on")
    w2 = d.conn()
    w2.call("job.watch", id=job, after=len(seen) - 2)
    same([w2.note()["params"]["seq"] for _ in range(2)], [len(seen) - 1, len(seen)], "after skips what is known")
    same(w2.code("job.watch", id=77)[0], -32001, "no such job")
    d.end()


def ends():
    d = Daemon()
    c = d.conn()
    small = custom_job(space={"type": "custom", "knobs": {"x": {"int": [0, 3]}, "drop": {"choice": [0, 1]}}}, budget={"evaluations": 100})
    job = c.call("job.submit", job=small)["id"]
    e = Evaluator(d.conn())
    same(len(e.run(wait=5)), 8, "a space of 8 is searched to the last candidate")
    g = c.call("job.get", id=job)
    same((g["state"], g["reason"]), ("done", "the space is used up: 8 candidates"), "and then the job is done")
    ok(g["reference"] is not None, "with a reference point from what there is")
    fails = c.call("job.submit", job=custom_job(budget={"evaluations": 100}))["id"]
    n = 0
    while True:
        l = e.next()
        if not l:
            break
        n += 1
        e.report(l, "failed", error="broken")
    g = c.call("job.get", id=fails)
    same((g["state"], n), ("failed", 16), "a job of which nothing succeeds has failed: %s" % g["reason"])
    one = c.call("job.submit", job=custom_job(budget={"evaluations": 2}))["id"]
    for _ in range(2):
        e.report(e.next(), "failed", error="broken")
    same(c.call("job.get", id=one)["state"], "failed", "also when its budget is used up")
    tiny = c.call("job.submit", job=custom_job(budget={"hours": 1e-9}))["id"]
    had = e.run()
    g = c.call("job.get", id=tiny)
    same((len(had), g["state"], g["reason"][:14]), (1, "done", "budget used up"), "hours count time with an evaluator at work")
    big = custom_job(objectives=["f1", {"metric": "f2", "goal": "max"}], search={"population": 3}, budget={"evaluations": 3})
    j = c.call("job.submit", job=big)["id"]
    for v in (-5.0, -2.0, -3.0):
        e.report(e.next(), metrics={"f1": v, "f2": v})
    ref = c.call("job.get", id=j)["reference"]
    ok(math.isclose(ref[0], -1.8) and math.isclose(ref[1], -5.5), "signs and goals: the reference lies beyond the worst: %s" % ref)
    lost = c.call("job.submit", job=custom_job(budget={"evaluations": 1}))["id"]
    e.c.close()
    for i in range(20):
        x = Evaluator(d.conn(), "crash")
        l = x.next(5)
        x.c.close()
    same(l["epoch"], 20, "a trial that takes its evaluator with it is tried again")
    g = wait_until(lambda: c.call("job.get", id=lost)["evaluations"] and c.call("job.get", id=lost))
    same((g["state"], g["trials"]["failed"]), ("failed", 1), "but not for ever")
    lucky = c.call("job.submit", job=custom_job(budget={"evaluations": 1}))["id"]
    for i in range(25):
        x = Evaluator(d.conn(), "crash")
        l = x.next(5)
        x.c.call("evaluator.progress", lease=l["lease"], epoch=l["epoch"], step=i + 1)
        x.c.close()
    x = Evaluator(d.conn(), "crash")
    l = x.next(5)
    same((l and l["job"], l and l["epoch"]), (lucky, 26), "one that gets further each time is not to blame")
    x.report(l)
    same(c.call("job.get", id=lucky)["state"], "done", "and ends well")
    same(verify(d.dir).returncode, 0, "events and tables agree")
    d.end()


life()
infeasible()
pausing()
giving_back()
def elsewise():
    """A store whose genomes this version reads as other architectures: what was proposed stands in its event."""
    d = Daemon()
    c = d.conn()
    job = c.call("job.submit", job=custom_job())["id"]
    Evaluator(c).run()
    want = [c.call("trial.get", id=t["trial"])["arch"] for t in c.call("job.front", id=job)]
    d.term()
    db = sqlite3.connect(os.path.join(d.dir, "taut.db"))
    db.execute("update trial_data set genome = (select genome from trial_data where id = 1)")
    db.commit()
    db.close()
    d.start()
    same([t["arch"] for t in d.conn().call("job.front", id=job, archs=True)], want, "architectures whose genomes say something else come from the store")
    ok(len(want) > 1, "several")
    d.end()


sharing()
waiting()
precision()
handover()
elsewise()
watching()
ends()
done()
