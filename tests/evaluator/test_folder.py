"""What lies in the work folder, and the text: lost, altered, another tautd's. No number comes of what is not what it was, and nobody's file is written over or removed."""
import os
import shutil
import sys

SRC = os.environ.get("TAUT_SRC", ".")
sys.path[:0] = [os.path.join(SRC, "tests/controller"), os.path.join(SRC, "tests/evaluator")]
from taut_wire import *
from fake import CONTEXT, HANG, Worker, finish, path, prose, put

put("text.txt", prose(30000))


def job(text="text.txt", evaluations=8):
    return {"name": "lm", "data": {"train": path(text), "context": CONTEXT},
            "space": {"type": "lm", "depth": [1, 2], "width": [32, 48], "mixer": {"attention": {"heads": [2, 4], "kv_ratio": [1, 2], "head_dim": [8]}, "short_conv": {"conv": [3]}},
                      "ffn": {"swiglu": {"ratio": [1, 2]}, "none": {}}},
            "objectives": ["valid_bpb", "params"], "train": {"batch": 4}, "fidelity": {"tokens": 25 * 4 * CONTEXT},
            "search": {"population": 4, "weights": "shared"}, "audit": 0, "budget": {"evaluations": evaluations}}


def get(id):
    c = d.conn()
    g = c.call("job.get", id=id)
    c.close()
    return g


def ended(id):
    wait_until(lambda: get(id)["state"] in ("done", "failed"), HANG)
    return get(id)["state"]


def results(id):
    c = d.conn()
    rows = [(t["arch_id"], t["state"], t["rung"], t["metrics"].get("valid_bpb")) for t in c.call("trial.list", job=id)]
    c.close()
    return rows


d = Daemon()
calm = d.conn().call("job.submit", job=job())["id"]
w = Worker(d.socket)
same(ended(calm), "done", "a search with shared weights")
want = results(calm)

# The text is another while the supernet is held.
put("later.txt", prose(30000))
id = d.conn().call("job.submit", job=job("later.txt", 300))["id"]
wait_until(lambda: get(id)["evaluations"] >= 1, HANG)
d.conn().call("job.pause", id=id)
wait_until(lambda: not get(id)["running"], HANG)
before = [t for t in results(id) if t[1] == "ok"]
ok(1 <= len(before) < 300, "another is paused after %d candidates" % len(before))
with open(path("later.txt"), "r+b") as f:
    f.write(b"zebra quilts " * 2000)
d.conn().call("job.resume", id=id)
wait_until(lambda: get(id)["trials"].get("failed") or get(id)["state"] == "done", HANG)
after = results(id)
d.conn().call("job.cancel", id=id)
same([t for t in after if t[1] == "ok" and t not in before], [], "what is asked once the text has been written over gets no number: %s" % [t[1] for t in after if t not in before])
ok("later.txt" in w.said() and "failed" in w.said(), "it fails, and the line names the text")
same(w.term(), 0, "the evaluator leaves")

# The reported supernet is lost from the folder of the one that trained it.
id = d.conn().call("job.submit", job=job())["id"]
w = Worker(d.socket, work="own")
wait_until(lambda: get(id)["supernet"]["state"] == "ok", HANG)
w.kill()
file = get(id)["supernet"]["checkpoint"]["path"]
own = file.replace("supernet", "supernet.own")
os.unlink(file)
w = Worker(d.socket, "--checkpoint", "0.05", work="own")
wait_until(lambda: os.path.exists(own) or os.path.exists(file), HANG)
same(w.term(), 0, "its file is gone: it is trained once more, and stopped in that")
ok("cannot be taken" in w.said(), "it said so")
same((os.path.exists(own), os.path.exists(file)), (True, False), "the checkpoint has a name of its own: what was reported is not written over")
w = Worker(d.socket, work="own")
same(ended(id), "done", "started again, it ends the search")
ok("supernet on from step" in w.said(), "having gone on from there")
same(results(id), want, "with the same results")
ok(not os.path.exists(file), "and nothing is where the reported one was")
same(w.term(), 0, "it leaves")
ok(not os.path.exists(own), "and its own goes with the search's end")
d.end_verified()

# A folder that two of them use.
d, e = Daemon(dir=os.path.relpath(path("first"))), Daemon()
for x, n in ((d, 1), (e, 2)):
    c = x.conn()
    for i in range(2):
        c.call("job.submit", job=custom_job(budget={"evaluations": 2}))
        if i < n:
            Evaluator(x.conn(), "custom").run()
    c.close()
w = Worker(d.socket, work="two")
wait_until(lambda: "registered" in w.said(), HANG)
kinds = ("supernet", "supernet.own", "trial1", "trial1.inherited", "trial1.stable")
for j in (1, 2):
    for k in kinds:
        put("two/job%d-%s.safetensors" % (j, k), "x")
same(w.term(), 0, "an evaluator of the first tautd, whose search 1 has ended")
left = sorted(["job1-%s.safetensors" % k for k in ("supernet", "trial1")] + ["job2-%s.safetensors" % k for k in kinds])
same(sorted(f for f in os.listdir(path("two")) if f.startswith("job")), left, "removes what nothing of search 1 goes on from, and nothing else")
ok("belongs to" not in w.said(), "the folder is its own")
w = Worker(e.socket, work="two")
wait_until(lambda: "registered" in w.said(), HANG)
same(w.term(), 0, "one of another tautd, whose searches 1 and 2 have ended")
same(sorted(f for f in os.listdir(path("two")) if f.startswith("job")), left, "removes nothing there")
ok(w.said().count("belongs to the tautd of %s" % os.path.join(os.path.realpath(d.dir), "taut.db")) == 1, "and says whose the folder is, once")
d.end_verified()
shutil.rmtree(path("first"))
w = Worker(e.socket, work="two")
wait_until(lambda: "registered" in w.said(), HANG)
same(w.term(), 0, "once the first one's store is not there any more")
same(sorted(f for f in os.listdir(path("two")) if f.startswith("job")), sorted("job%d-%s.safetensors" % (j, k) for j in (1, 2) for k in ("supernet", "trial1")), "the folder is the other's")
e.end_verified()
finish()
done()
