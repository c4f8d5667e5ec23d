"""Shared weights, from the job to the front: one supernet, candidates with what they inherit, the front trained alone; an evaluator killed anywhere changes no bit."""
import hashlib
import os
import re
import sqlite3
import subprocess
import sys

SRC = os.environ.get("TAUT_SRC", ".")
sys.path[:0] = [os.path.join(SRC, "tests/controller"), os.path.join(SRC, "tests/evaluator")]
from taut_wire import *
from fake import BUILD, CONTEXT, HANG, Worker, finish, path, prose, put

put("text.txt", prose(30000))
STEPS, N = 60, 8
SUPER = 3 * STEPS


def job(final="scratch", **more):
    v = {"name": "lm", "data": {"train": path("text.txt"), "context": CONTEXT},
         "space": {"type": "lm", "depth": [1, 2], "width": [32, 48], "mixer": {"attention": {"heads": [2, 4], "kv_ratio": [1, 2], "head_dim": [8]}, "short_conv": {"conv": [3]}},
                   "ffn": {"swiglu": {"ratio": [1, 2]}, "none": {}}},
         "objectives": ["valid_bpb", "params"], "train": {"batch": 4}, "fidelity": {"tokens": STEPS * 4 * CONTEXT},
         "search": {"population": 4, "weights": "shared"}, "final": final, "audit": 0, "budget": {"evaluations": N}}
    v.update(more)
    return v


def ended(d, id):
    c = d.conn()
    c.call("job.watch", id=id, after=0)
    state = c.until(lambda p: p["type"] == "state" and p["state"] in ("done", "failed"), HANG)
    c.close()
    return state


def results(d, id):
    """What the search found, without times: of each trial its state and losses on both rungs."""
    c = d.conn()
    rows = [(t["arch_id"], t["state"], t["rung"], t["metrics"].get("valid_bpb")) for t in c.call("trial.list", job=id)]
    first = [(r["arch_id"], r["metrics"]["valid_bpb"]) for r in c.call("job.front", id=id, rung=0)]
    c.close()
    return rows, first


def supernet(d, id):
    c = d.conn()
    s = c.call("job.get", id=id)["supernet"]
    c.close()
    return s


def taut(*args):
    return subprocess.run([os.path.join(BUILD, "taut"), *args, "--socket", d.socket], capture_output=True, text=True).stdout


def sha(name):
    with open(name, "rb") as f:
        return hashlib.sha256(f.read()).hexdigest()


d = Daemon()
c = d.conn()
refusals = (("search", {"weights": "alone"}, "search.weights"), ("fidelity", {"tokens": 1e5, "rungs": 2}, "bring two of their own"), ("final", "twice", "final"),
            ("objectives", ["valid_bpb", "train_tokens_per_s"], "objectives"), ("evaluator", "external", "search.weights"))
for key, value, where in refusals:
    code, text = c.code("job.submit", job=job(**{key: value}))
    ok(code in (-32602, -32003) and where in text, "refused: %s" % text)
code, text = c.code("job.submit", job=job(search={"population": 4}))
same((code, "final" in text), (-32602, True), "a final without shared weights: %s" % text)

# An evaluator that cannot validate leaves it waiting.
e = Evaluator(c, accepts=["train"], spaces=["lm"])
calm = c.call("job.submit", job=job())["id"]
same(e.next(), None, "an evaluator that only trains gets nothing of it")
g = c.call("job.get", id=calm)
same((g["state"], g["reason"]), ("waiting", "no connected evaluator validates with shared weights"), "and the job waits")
c.close()

w = Worker(d.socket, "--checkpoint", "0.1")
same(ended(d, calm)["state"], "done", "one that does: it ends")
want, first = results(d, calm)
c = d.conn()
g = c.call("job.get", id=calm)
same((g["evaluations"], g["reason"]), (N, "budget used up: %d evaluations" % N), "after its evaluations")
final = [t for t in want if t[2] == 1]
same([(r["weights"], r["tokens"], r["trials"]) for r in g["rungs"]], [("inherited", SUPER * 4 * CONTEXT, N), ("own", STEPS * 4 * CONTEXT, len(final))],
     "rung 0 is inherited, rung 1 trained alone")
same(sorted(t[0] for t in final), sorted(a for a, _ in first), "what was trained alone is the front of what was inherited")
ok(all(t[1] == "ok" and 0 < t[3] < 8 for t in want), "all with their losses")
before = dict(first)
ok(all(before[t[0]] != t[3] for t in final), "which are other ones when trained alone")
ok(all(r["rung"] == 1 for r in c.call("job.front", id=calm)), "the front is of these")
with sqlite3.connect(os.path.join(d.dir, "taut.db")) as s:
    same(s.execute("SELECT type, count(*) FROM event WHERE job=? AND type IN ('leased', 'returned', 'reported', 'promoted') GROUP BY type ORDER BY type", (calm,)).fetchall(),
         [("leased", N + len(final)), ("promoted", len(final)), ("reported", N + len(final))], "each candidate once, each of the front twice")
trial = [t["trial"] for t in c.call("trial.list", job=calm) if t["rung"] == 0][0]
t = c.call("trial.get", id=trial)
ok(os.path.exists(t["checkpoint"]["path"]), "a candidate's inherited weights are a file of its own")
code, text = c.code("trial.predict", id=trial, tokens=1e9)
ok("inherited" in text, "no scaling fit: %s" % text)
net = os.path.join(os.path.dirname(t["checkpoint"]["path"]), "job%d-supernet.safetensors" % calm)
ok("supernet trained: %d steps" % SUPER in w.said(), "the supernet was trained, three times as long as one alone")
bits = sha(net)
s = c.call("job.get", id=calm)["supernet"]
same((s["state"], s["of"], {k: s["checkpoint"][k] for k in ("path", "hash", "bytes", "tokens")}),
     ("ok", SUPER * 4 * CONTEXT, {"path": net, "hash": bits, "bytes": os.path.getsize(net), "tokens": SUPER * 4 * CONTEXT}), "its file is known to tautd")
with sqlite3.connect(os.path.join(d.dir, "taut.db")) as s:
    states = [x for x, in s.execute("SELECT json_extract(body, '$.state') FROM event WHERE job=? AND type='supernet' ORDER BY seq", (calm,))]
    first_out, = s.execute("SELECT seq FROM event WHERE job=? AND type='proposed' ORDER BY seq", (calm,)).fetchone()
    trained, = s.execute("SELECT seq FROM event WHERE job=? AND type='supernet' AND json_extract(body, '$.state')='ok'", (calm,)).fetchone()
ok(states[0] == "leased" and states[-1] == "ok" and set(states[1:-1]) <= {"saved"} and trained < first_out, "a task of its own, before anything is proposed: %s" % states)
ok(re.search(r"supernet +trained, 23\.0\Wk tokens in", taut("status", str(calm))), "taut status says so")
watched = taut("watch", str(calm), "--from-start")
ok(re.search(r"training the supernet first, 23\.0\Wk tokens\n", watched) and "the supernet is trained" in watched, "so does taut watch")
c.close()
same(w.term(), 0, "the evaluator leaves")

# Killed in the supernet, in the candidates, in the final trainings.
rough = d.conn().call("job.submit", job=job())["id"]
kills = 0
while kills < 6:
    w = Worker(d.socket, "--checkpoint", "0.05")
    if kills < 2:  # tautd as well, while the supernet is trained
        wait_until(lambda: supernet(d, rough)["state"] == "leased", HANG)
        d.restart()
    c = d.conn()
    at = {0: lambda: os.path.exists(net.replace("job%d" % calm, "job%d" % rough)), 1: lambda: "supernet on from" in w.said()}.get(
        kills, lambda: c.call("job.get", id=rough)["evaluations"] >= 2 * (kills - 1) or c.call("job.get", id=rough)["state"] == "done")
    wait_until(at, HANG)
    w.kill()
    c.close()
    kills += 1
w = Worker(d.socket)
same(ended(d, rough)["state"], "done", "killed %d times, it ends" % kills)
same(results(d, rough), (want, first), "with the same results")
same(sha(net.replace("job%d" % calm, "job%d" % rough)), bits, "and the same supernet, to the bit")

# One begins it, another ends it, a third takes it: they share the path, not the folder.
far = d.conn().call("job.submit", job=job())["id"]
w.term()
w = Worker(d.socket, "--checkpoint", "0.05", work="far-a")
wait_until(lambda: "checkpoint" in supernet(d, far), HANG)
w.kill()
w = Worker(d.socket, "--checkpoint", "0.05", work="far-b")
wait_until(lambda: supernet(d, far)["state"] == "ok", HANG)
ok("supernet on from step" in w.said(), "another evaluator goes on from the first one's checkpoint")
w.kill()
file = supernet(d, far)["checkpoint"]
same((os.path.basename(os.path.dirname(file["path"])), sha(file["path"])), ("far-b", bits), "to the same bits")
w = Worker(d.socket, work="far-c")
same(ended(d, far)["state"], "done", "a third ends the search")
ok("supernet taken from " + file["path"] in w.said() and "supernet trained" not in w.said(), "with that file")
same(results(d, far), (want, first), "with the same results")
same(w.term(), 0, "and leaves")

# The file is gone, or is another.
for what, words in (("gone", "No such file"), ("altered", "its content is not what was reported")):
    id = d.conn().call("job.submit", job=job())["id"]
    w = Worker(d.socket, work=what + "-a")
    wait_until(lambda: supernet(d, id)["state"] == "ok", HANG)
    w.kill()
    file = supernet(d, id)["checkpoint"]["path"]
    if what == "gone":
        os.unlink(file)
    else:
        with open(file, "r+b") as f:
            f.seek(-100, 2)
            f.write(b"\x55" * 8)
    w = Worker(d.socket, work=what + "-b")
    same(ended(d, id)["state"], "done", "the file is %s: another evaluator ends the search" % what)
    ok("cannot be taken" in w.said() and words in w.said() and "supernet trained: %d steps" % SUPER in w.said(), "it says so, and trains the supernet itself")
    same(results(d, id), (want, first), "to the same results")
    same(w.term(), 0, "and leaves")

# What cannot be trained ends the search.
put("gone.txt", prose(30000))
id = d.conn().call("job.submit", job=job(data={"train": path("gone.txt"), "context": CONTEXT}))["id"]
os.unlink(path("gone.txt"))
w = Worker(d.socket)
state = ended(d, id)
ok(state["state"] == "failed" and state["reason"].startswith("the supernet cannot be trained: ") and "gone.txt" in state["reason"], "the text is gone: %s" % state.get("reason"))
ok("failed: " in taut("status", str(id)), "taut status shows it")

# On from what is inherited.
on = d.conn().call("job.submit", job=job("inherited"))["id"]
same(ended(d, on)["state"], "done", "final inherited: it ends")
rows, same_first = results(d, on)
same(same_first, first, "candidates are as before")
mine = {t[0]: t[3] for t in rows if t[2] == 1}
ok(sorted(mine) == sorted(before) and all(mine[a] != x for a, _, r, x in final), "the front is trained on, to other losses than from scratch")
ok(sum(mine.values()) < sum(t[3] for t in final), "and lower ones: %.3f against %.3f" % (sum(mine.values()) / len(mine), sum(t[3] for t in final) / len(final)))
ok(not [f for f in os.listdir(os.path.dirname(net)) if "inherited" in f], "what it began with is not left behind")

# With hours alone the last quarter is the front's.
timed = d.conn().call("job.submit", job=job(budget={"hours": 0.002}))["id"]
g = ended(d, timed)
ok(g["state"] == "done" and "evaluations" not in g["reason"], "a budget of hours, or the space, ends as well: %s" % g["reason"])
rows, _ = results(d, timed)
ok(any(t[2] == 1 for t in rows), "with something trained alone")
same(w.term(), 0, "the evaluator leaves")
d.end_verified()
finish()
done()
