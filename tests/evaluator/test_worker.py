"""taut-evaluator and a tautd that does whatever the test wants: leases, reports, breaks of every kind, disks that are full."""
import os
import sys
import threading

SRC = os.environ.get("TAUT_SRC", ".")
sys.path[:0] = [os.path.join(SRC, "tests/controller"), os.path.join(SRC, "tests/evaluator")]
from taut_wire import ok, same, done, wait_until
from fake import *

DATA = spec(put("text.txt", prose(20000)))
HUGE = arch(width=4096, context=4096, layers=[{"mixer": {"type": "attention", "heads": 32, "kv_heads": 32, "head_dim": 128},
                                               "ffn": {"type": "swiglu", "hidden": 16384}}] * 48)
LONG = 3000  # steps: what is to be interrupted
RESULTS = ("valid_loss", "valid_bpb")


def results(report):
    """All that must not depend on what happened on the way."""
    return ([report["metrics"].get(k) for k in RESULTS], report.get("curve"), report["checkpoint"]["hash"], report["checkpoint"]["tokens"])


def at_step(n):
    """A progress function, and an event that is set once n steps are done."""
    e = threading.Event()

    def progress(p):
        if p.get("step", 0) >= n:
            e.set()
        return {"go": True}
    return progress, e


def plain():
    """What a trial is when nothing happens."""
    f = Fake()
    w = Worker(f)
    r = f.registers.get(timeout=HANG)
    ok(r["name"] and r["device"]["kind"] == "cpu" and len(r["device"]["anchor"]) == 32 and r["spaces"] == ["lm", "problem"] and r["accepts"] == ["train", "validate", "score", "supernet", "profile"] and
       "decode_ms" in r["provides"] and r["slots"] == 1 and "holds" not in r, "it says what it is and can do")
    ok("train_joules" not in r["provides"], "not what this machine cannot measure")
    anchor = r["device"]["anchor"]
    names = ["valid_bpb", "valid_loss", "train_tokens_per_s", "train_bytes", "decode_ms@16", "prefill_ms@16", "throughput@2x16", "infer_bytes@16"]
    f.leases.put(lease(1, DATA, metrics=names))
    r = f.reported()
    m = r["metrics"]
    same((r["status"], r["lease"], r["epoch"]), ("ok", 1, 1), "a trial")
    same(sorted(m), sorted(names), "with all that was wanted")
    ok(abs(m["valid_bpb"] - m["valid_loss"] / 0.6931471805599453) < 1e-12 and 0 < m["valid_bpb"] < 8, "bits a byte are nats a token over ln 2")
    ok(m["train_bytes"] > 0 and m["train_tokens_per_s"] > 0 and "train_joules" not in m, "memory and rate; no energy where there is no counter")
    for k in ("decode_ms@16", "prefill_ms@16", "throughput@2x16"):
        v = m[k]
        same(sorted(v), sorted(["median", "low", "high", "n", "ratio", "anchor", "converged", "disturbed", "rejected"]), "%s: how far it can be believed" % k)
        ok(v["low"] <= v["median"] <= v["high"] and v["ratio"][1] <= v["ratio"][0] <= v["ratio"][2] and v["anchor"] == anchor, "%s: in order" % k)
    same(sorted(m["infer_bytes@16"]), ["high", "low", "median", "n"], "bytes are a count")
    c = r["curve"]
    ok(len(c) == 50 and c[-1][0] == 60 * STEP and c[-1][1] < c[0][1] and all(a[0] < b[0] for a, b in zip(c, c[1:])), "the curve")
    p = r["checkpoint"]
    same((p["path"], p["hash"], p["bytes"], p["tokens"]), (os.path.join(w.work, "job1-trial1.safetensors"), sha(p["path"]), os.path.getsize(p["path"]), 60 * STEP),
         "the weights, where and what it says")
    same(os.listdir(w.work), ["job1-trial1.safetensors"], "and nothing else")
    f.leases.put(lease(2, DATA))
    again = f.reported()
    same(results(again), results(r), "the same trial once more, without a profile: the same bits")
    same(w.term(), 0, "told to stop while idle, it leaves")
    return results(r)


def left_out():
    """What tautd knows need not be measured, once the rest is known; what is to be measured alone trains nothing."""
    f, names = Fake(), ["valid_bpb", "decode_ms@16", "prefill_ms@16", "infer_bytes@16"]
    w = Worker(f, work="left_out")
    asked = []

    def progress(p):
        if "metrics" not in p:
            return {"go": True}
        asked.append(p["metrics"])
        return {"go": True, "modelled": ["decode_ms@16", "valid_bpb"]}
    f.progress = progress
    f.leases.put(lease(1, DATA, metrics=names))
    m = f.reported()["metrics"]
    same(len(asked), 1, "before it measures it asks, once")
    ok("valid_bpb" in asked[0] and "valid_loss" in asked[0] and not {"decode_ms@16", "prefill_ms@16", "infer_bytes@16"} & set(asked[0]), "with all that training brought")
    ok("decode_ms@16" not in m and "prefill_ms@16" in m and "infer_bytes@16" in m and m["valid_bpb"] == asked[0]["valid_bpb"], "what is modelled is left out, the rest measured")
    f.progress = lambda p: {"go": "metrics" not in p}
    f.leases.put(lease(2, DATA, metrics=names))
    same(f.reported()["status"], "preempted", "told to stop then, it stops")
    f.progress = lambda p: asked.append(p.get("metrics")) or {"go": True}
    f.leases.put(lease(3, DATA, metrics=["valid_bpb"]))
    del asked[:]
    ok("valid_bpb" in f.reported()["metrics"] and not any(x is not None for x in asked), "where nothing is to be measured nothing is asked")
    had = sorted(os.listdir(w.work))
    f.leases.put(lease(4, None, metrics=["decode_ms@16"], task={"kind": "profile", "context": CONTEXT, "precision": "f32", "train": {}}))
    r = f.reported()
    same((r["status"], list(r["metrics"]), "checkpoint" in r, "curve" in r), ("ok", ["decode_ms@16"], False, False), "a profile task is measured, and that is all")
    same(sorted(os.listdir(w.work)), had, "it leaves no file")
    w.term()


def problems():
    """A standard problem's candidate is worked out, and nothing is trained or written."""
    f = Fake()
    w = Worker(f, work="problems")

    def solved(n, name, candidate):
        f.leases.put(dict(lease(n, None), arch=candidate, task={"kind": "train", "problem": name}))
        return f.reported()
    r = solved(1, "zdt1", {"x": [0.25] + [0] * 29})
    same((r["status"], r["metrics"]), ("ok", {"f1": 0.25, "f2": 0.5}), "zdt1 on its front: 1 - sqrt(f1)")
    r = solved(2, "layerwise", {"block": [0] * 80})
    ok(r["status"] == "ok" and sorted(r["metrics"]) == ["loss", "memory"], "layerwise: loss and memory")
    same(os.listdir(w.work), [], "nothing is written")
    for n, (name, candidate, word) in enumerate([("zdt5", {"x": [0] * 30}, "zdt5"), ("zdt1", {"x": [0] * 29}, "30 numbers"), ("zdt1", {"x": [2] + [0] * 29}, "from 0 to 1"),
                                                 ("zdt1", {}, "x"), ("zdt1", [1], "x"), ("layerwise", {"block": [0.5] * 80}, "whole"),
                                                 ("dtlz1", {"x": ["a"] * 7}, "number")], 3):
        r = solved(n, name, candidate)
        ok(r["status"] == "failed" and word in r["error"], "a candidate of no problem fails: %s" % r.get("error"))
    w.term()


def proxies(want):
    """Scored before it is trained; the training is as without."""
    f = Fake()
    w = Worker(f, work="proxies")
    names = ["gradnorm", "snip", "grasp", "synflow", "fisher", "jacov", "naswot", "zico", "dss", "wpca"]
    provides = f.registers.get(timeout=HANG)["provides"]
    ok(all("proxy." + p in provides for p in names), "it says that it scores")
    f.leases.put(lease(1, DATA, metrics=["valid_bpb"] + ["proxy." + p for p in names]))
    r = f.reported()
    m = r["metrics"]
    ok(r["status"] == "ok" and all(isinstance(m.get("proxy." + p), float) for p in names), "every proxy that was wanted")
    same(results(r), want, "and the bits of a trial without")
    a = put("scored.json", json.dumps(arch()))
    text = subprocess.run([os.path.join(BUILD, "taut"), "score", a, "--data", path("text.txt"), "--valid", "0.1", "--seed", "3", "-p", ",".join(names), "--json"],
                          capture_output=True, text=True).stdout
    same(json.loads(text)["metrics"], {"proxy." + p: m["proxy." + p] for p in names}, "the numbers of taut score, to the bit")
    bare = arch(layers=[{"mixer": {"type": "attention", "heads": 2, "kv_heads": 1, "head_dim": 16}, "ffn": {"type": "none"}}])
    alone = dict(lease(5, DATA, metrics=["proxy." + p for p in names])["task"], kind="score")
    f.leases.put(lease(5, DATA, metrics=["proxy." + p for p in names], task=alone))
    r = f.reported()
    same((r["status"], r["metrics"], "checkpoint" in r, "curve" in r), ("ok", {"proxy." + p: m["proxy." + p] for p in names}, False, False), "a lease to be scored brings that alone, the same bits")
    ok(not [x for x in os.listdir(w.work) if "trial5" in x], "and leaves no file")
    f.leases.put(lease(2, DATA, arch=bare, metrics=["valid_bpb", "proxy.naswot", "proxy.snip"]))
    r = f.reported()
    ok(r["status"] == "ok" and "proxy.naswot" not in r["metrics"] and "proxy.snip" in r["metrics"], "what does not apply is left out")
    ok("trial 2: no proxy.naswot: counts hidden units of feed-forwards, and there is none" in w.said(), "and said")
    f.leases.put(lease(4, DATA, arch=HUGE, metrics=["valid_bpb", "proxy.snip"]))
    r = f.reported()
    ok(r["status"] == "failed" and r["error"].startswith("model: needs ") and "trial 4: no proxies: needs " in w.said(), "no room for proxies is said; the trial fails of its own")
    f.leases.put(lease(3, DATA, metrics=["valid_bpb"]))
    r = f.reported()
    ok(not [k for k in r["metrics"] if k.startswith("proxy.")], "nobody wants them: there are none")
    same(w.term(), 0, "it leaves")


def failures():
    """Each is its trial's, with the reason; the next trial goes on as ever."""
    f = Fake()
    w = Worker(f)
    gone = spec(put("gone.txt", prose(3000, 2)))
    changed = spec(put("changed.txt", prose(3000, 3)))
    longer = spec(put("longer.txt", prose(3000, 4)))
    os.unlink(path("gone.txt"))
    put("changed.txt", prose(3000, 5))
    put("longer.txt", prose(3001, 4))
    table = [
        (lease(1, DATA, task={"kind": "bake"}), ["are served here"], "another kind of task"),
        (lease(1, DATA, task={"kind": "train"}), ["task.train"], "a task without its recipe"),
        (lease(1, DATA, task={"kind": "train", "train": {"batch": 0}}), ["task.train.batch"], "a batch of none"),
        (lease(1, DATA, arch={"taut": 1}), ["arch"], "half an architecture"),
        (lease(1, DATA, arch=dict(arch(), layers=[{"mixer": {"type": "attenton"}, "ffn": {"type": "none"}}])), ["attenton"], "a layer type that nobody knows"),
        (lease(1, DATA, arch=dict(arch(), layers=[])), ["layers"], "no layers"),
        (lease(1, DATA, metrics=["valid_bpb", "decode_msec"]), ["decode_msec"], "a metric that nobody knows"),
        (lease(1, None), ["data"], "no data"),
        (lease(1, {}), ["train"], "data without files"),
        (lease(1, gone), ["gone.txt", "No such file"], "a text that is gone"),
        (lease(1, changed), ["changed.txt", "SHA-256"], "a text that has changed"),
        (lease(1, longer), ["longer.txt", "has 3001 bytes here, the job was submitted with 3000"], "a text that has grown"),
        (lease(1, DATA, train={"lr": 10, "weight_decay": 10}, steps=200), ["not finite" if False else "at step", "of 200"], "a recipe that blows up"),
        (lease(1, DATA, arch=HUGE), ["needs", "MiB"], "a network that does not fit"),
        (lease(1, DATA, metrics=["throughput@100000x1000000"]), ["throughput" if False else "n"], "a profile that does not fit"),
    ]
    for n, (l, words, what) in enumerate(table, 1):
        l["lease"] = l["trial"] = n
        f.leases.put(l)
        r = f.reported()
        same((r["status"], r["lease"]), ("failed", n), "failed: %s" % what)
        ok(all(x in r.get("error", "") for x in words), "says so: %s" % r.get("error"))
    f.leases.put(lease(99, DATA))
    same(f.reported()["status"], "ok", "after all of that the next one is as ever")

    # What changes under a training: the same file, other words in the middle of it.
    moving = spec(put("moving.txt", prose(20000, 6)))
    f.progress, e = at_step(50)
    f.leases.put(lease(100, moving, steps=LONG // 3))
    ok(e.wait(HANG), "a training is on its way")
    with open(path("moving.txt"), "r+") as t:
        t.write("Quite other words")
    r = f.reported()
    ok(r["status"] == "failed" and "moving.txt" in r["error"], "a text that changes meanwhile fails the trial: %s" % r.get("error"))
    cut = spec(put("cut.txt", prose(200000, 7)))
    f.progress, e = at_step(50)
    f.leases.put(lease(101, cut, steps=LONG))
    ok(e.wait(HANG), "another one")
    os.truncate(path("cut.txt"), 4096)
    r = f.reported()
    ok(r["status"] == "failed" and "cut.txt" in r["error"], "a text that is cut short, too, and does not end the program: %s" % r.get("error"))
    same(w.term(), 0, "which leaves as ever")


def broken_off(want):
    """However a trial is interrupted, what comes of it is what had come without."""
    f = Fake()
    w = Worker(f, "--checkpoint", "0.05", work="broken")
    f.progress, e = at_step(LONG)
    f.leases.put(lease(1, DATA, steps=LONG))
    whole = f.reported()
    same(whole["status"], "ok", "a longer trial, undisturbed")
    want = results(whole)

    # SIGTERM
    f.progress, e = at_step(200)
    f.leases.put(lease(2, DATA, steps=LONG))
    ok(e.wait(HANG), "once more, up to the middle")
    same(w.term(), 0, "SIGTERM: it leaves")
    r = f.reported()
    c = r["checkpoint"]
    ok(r["status"] == "preempted" and 200 * STEP <= c["tokens"] < LONG * STEP and c["hash"] == sha(c["path"]), "hands the trial back with a checkpoint")
    w = Worker(f, "--checkpoint", "1000", work="elsewhere")
    f.progress = lambda p: {"go": True}
    f.leases.put(lease(2, DATA, steps=LONG, checkpoint=c))
    r = f.reported()
    ok("on from step %d" % (c["tokens"] // STEP) in w.said(), "another evaluator goes on from there")
    same(results(r), want, "to the same bits")
    ok(0.2 < r["metrics"]["train_bytes"] / whole["metrics"]["train_bytes"] <= 1.0001, "and says no more memory")
    same(r["metrics"]["train_bytes"], whole["metrics"]["train_bytes"], "nor less")

    # A checkpoint that is not what it was: one bit in the middle of the weights.
    with open(c["path"], "r+b") as t:
        t.seek(os.path.getsize(c["path"]) // 2)
        b = t.read(1)
        t.seek(-1, 1)
        t.write(bytes([b[0] ^ 1]))
    f.leases.put(lease(3, DATA, steps=LONG, checkpoint=c))
    r = f.reported()
    ok("training from the start" in w.said() and "not what was reported" in w.said(), "a checkpoint with another bit in it is not used")
    same(results(r), want, "the trial begins anew, to the same bits")
    f.leases.put(lease(4, DATA, steps=LONG, checkpoint=dict(c, path=path("nowhere"))))
    same(results(f.reported()), want, "one that is gone: likewise")

    # Taken back: go is false.
    f.progress = lambda p: {"go": p.get("step", 0) < 200}
    f.leases.put(lease(5, DATA, steps=LONG))
    r = f.reported()
    ok(r["status"] == "preempted" and r["checkpoint"]["tokens"] < LONG * STEP, "told not to go on, it hands the trial back")
    f.progress = lambda p: {"go": True}
    f.leases.put(lease(5, DATA, steps=LONG, checkpoint=r["checkpoint"]))
    same(results(f.reported()), want, "given out again, it goes on to the same bits")

    # While it is profiled: the training is done, and is not done again.
    seen = []

    def while_profiling(p):
        seen.append(p.get("step", 0))
        return {"go": "step" in p or max(seen) < 0.8 * LONG}  # before that, it is a second voice in a long step
    f.progress = while_profiling
    slow = ["valid_bpb", "train_tokens_per_s"] + ["prefill_ms@%d" % n for n in (512, 1024, 2048, 4096)]
    f.leases.put(lease(6, DATA, steps=LONG, metrics=slow))
    r = f.reported()
    ok(r["status"] == "preempted" and r["checkpoint"]["tokens"] == LONG * STEP, "stopped while it is profiled, a trial says that it is trained")
    steps = []

    def counting(p):
        steps.append(p.get("step"))
        return {"go": True}
    f.progress = counting
    f.leases.put(lease(6, DATA, steps=LONG, metrics=slow[:3], checkpoint=r["checkpoint"]))
    r = f.reported()
    ok(r["status"] == "ok" and "prefill_ms@512" in r["metrics"] and not [s for s in steps if s is not None and s < LONG], "and is profiled without training again")
    same(results(r), want, "with the same bits")
    ok(r["metrics"]["train_tokens_per_s"] > 0, "and the rate at which it was trained")

    # The connection breaks; then tautd is gone for a while.
    f.progress, e = at_step(200)
    f.leases.put(lease(7, DATA, steps=LONG))
    ok(e.wait(HANG), "one more")
    while not f.registers.empty():
        f.registers.get()
    f.drop()
    same(f.registers.get(timeout=HANG).get("holds"), [{"lease": 7, "epoch": 1}], "a lost connection: it comes back and says what it holds")
    f.progress, e = at_step(600)
    ok(e.wait(HANG), "and goes on meanwhile")
    f.down()
    f.progress, e = at_step(601)
    f.up()
    same(f.registers.get(timeout=HANG).get("holds"), [{"lease": 7, "epoch": 1}], "a tautd that was gone: the same")
    same(results(f.reported()), want, "nothing is lost")

    # A report that is not taken: full, then gone, then refused.
    tries = []

    def full(p):
        tries.append(p["status"])
        return {"code": -32004, "message": "disk full"} if len(tries) < 3 else {}
    f.report = full
    f.leases.put(lease(8, DATA))
    r = f.reported()
    same((tries, r["status"]), (["ok"] * 3, "ok"), "a report that a full disk keeps from being taken is sent until it is")
    f.report = lambda p: {"code": -32602, "message": "metrics: the objective 'f1' is missing"} if p["status"] == "ok" else {}
    f.leases.put(lease(9, DATA))
    r = f.reported()
    ok(r["status"] == "failed" and "'f1' is missing" in r["error"], "a result that cannot be one is a failure with that reason")
    f.report = lambda p: {"code": -32010, "message": "the lease is not yours any more"} if p["lease"] == 10 else {}
    f.leases.put(lease(10, DATA))
    f.leases.put(lease(11, DATA))
    same(f.reported()["lease"], 11, "a lease that is not its own any more is dropped")
    f.report = lambda p: {}

    # SIGKILL, and nobody knows how far it was: what lies in the folder is found.
    def until_saved(p):
        if p.get("checkpoint"):
            saved.set()
        return {"go": True}
    saved = threading.Event()
    same(w.term(), 0, "done with this one")
    w = Worker(f, "--checkpoint", "0.02", work="broken")
    f.progress = until_saved
    f.leases.put(lease(12, DATA, steps=LONG))
    ok(saved.wait(HANG), "a checkpoint is written")
    w.kill()
    dead = w.p.pid
    put("broken/job1-trial77.safetensors.tmp%d" % dead, "half")
    put("broken/job1-trial78.safetensors.tmp%d" % os.getpid(), "half")
    f.progress = lambda p: {"go": True}
    w = Worker(f, work="broken")
    f.leases.put(lease(12, DATA, steps=LONG))
    r = f.reported()
    ok("on from step" in w.said(), "killed, and leased again without a word of a checkpoint: it goes on from what its folder holds")
    same(results(r), want, "to the same bits")
    left = [n for n in os.listdir(w.work) if ".tmp" in n]
    same(left, ["job1-trial78.safetensors.tmp%d" % os.getpid()], "what a killed writer left behind is removed, a living one's is not")
    w.term()


def busy():
    """Steps of seconds: what says that the trial is worked on meanwhile is not the worker, whose beats name their step."""
    f = Fake()
    heard = []

    def progress(p):
        heard.append(p)
        return {"go": True}
    f.progress = progress
    w = Worker(f, work="busy")
    f.leases.put(lease(9, DATA, arch=arch(width=256), train={"batch": 128}, steps=4 * 128 // BATCH))
    batch = int(2.5 * f.reported()["metrics"]["train_tokens_per_s"] / CONTEXT)  # a step of some seconds, wherever this runs
    heard.clear()
    slow = dict(arch=arch(width=256), train={"batch": batch}, steps=batch / BATCH)  # one step
    f.leases.put(lease(1, DATA, **slow))
    r = f.reported()
    ok(r["status"] == "ok" and any("step" not in p and (p["lease"], p["epoch"]) == (1, 1) for p in heard), "in the middle of a long step the lease is spoken for")
    f.progress = lambda p: {"go": "step" in p}
    f.leases.put(lease(2, DATA, **dict(slow, steps=3 * slow["steps"])))
    r = f.reported()
    same((r["status"], r["checkpoint"]["tokens"]), ("preempted", batch * CONTEXT), "told to stop there, it stops after that step")
    same(w.term(), 0, "and leaves as ever")


def no_room(want):
    """RLIMIT_FSIZE is a disk without room for weights, and with it when the test wishes so."""
    f = Fake()
    w = Worker(f, "--checkpoint", "0", work="full", fsize=8192)
    f.leases.put(lease(1, DATA))
    ok(wait_until(lambda: "waiting for room" in w.said(), HANG), "no room for the weights: it waits")
    ok(f.reports.empty(), "that is no result of the trial")
    said = [l for l in w.said().splitlines() if "waiting for room" in l]
    ok(len(said) == 1 and "trial 1: its weights cannot be written" in said[0] and "job1-trial1.safetensors" in said[0], "and says so in one line: %s" % said)
    ok("no checkpoint at step 1" in w.said(), "checkpoints were left out meanwhile")
    same(os.listdir(w.work), [], "nothing half-written lies about")
    beat = threading.Event()
    f.progress = lambda p: beat.set() or {"go": True}
    ok(beat.wait(HANG), "it beats on")
    w.room()
    r = f.reported()
    same((r["status"], results(r)), ("ok", want), "with room again it goes on, and the result is what it would have been")
    same(sha(r["checkpoint"]["path"]), r["checkpoint"]["hash"], "with its weights")
    w.term()

    for how in ("taken back", "SIGTERM"):
        w = Worker(f, work="full" + how[:1], fsize=8192)
        f.progress = lambda p: {"go": True}
        f.leases.put(lease(2, DATA))
        ok(wait_until(lambda: "waiting for room" in w.said(), HANG), "waiting again")
        if how == "SIGTERM":
            same(w.term(), 0, "SIGTERM while it waits: it leaves")
        else:
            f.progress = lambda p: {"go": False}
        r = f.reported()
        same((r["status"], r.get("checkpoint")), ("preempted", None), "%s while it waits: handed back, with nothing that is not there" % how)
        if how != "SIGTERM":
            w.term()


def supernets():
    """A supernet's lease: how far it is, where its file is, the same bits however it was interrupted."""
    space = {"type": "lm", "depth": [1, 2], "width": [16, 32], "mixer": {"attention": {"heads": [1, 2]}}, "ffn": {"swiglu": {"ratio": [1, 2]}}}
    steps = 60

    def of(n, checkpoint=None, **train):
        l = lease(n, DATA, steps=steps, metrics=[], checkpoint=checkpoint, train=train)
        l.update(trial=None, arch=None)
        l["task"].update(kind="supernet", supernet={"tokens": steps * STEP, "space": space})
        return l

    f = Fake()
    w = Worker(f, "--checkpoint", "0", work="super")
    said = []
    f.progress = lambda p: said.append(p) or {"go": True}
    f.leases.put(of(1))
    r = f.reported()
    c = r["checkpoint"]
    same((r["status"], r["metrics"], c["path"], c["hash"], c["bytes"], c["tokens"]),
         ("ok", {}, os.path.join(w.work, "job1-supernet.safetensors"), sha(c["path"]), os.path.getsize(c["path"]), steps * STEP), "trained: its file is what comes of it")
    told = [p for p in said if "loss" in p]
    ok(len(told) > 20 and all(p["tokens"] == p["step"] * STEP for p in told) and [p["step"] for p in told] == sorted(p["step"] for p in told) and told[-1]["loss"] < told[0]["loss"],
       "it says how far it is, and the loss of the largest")
    saved = [p["checkpoint"] for p in said if "checkpoint" in p]
    ok(len(saved) > 20 and all(x["path"] == c["path"] and len(x["hash"]) == 64 and x["tokens"] <= steps * STEP for x in saved), "and where its checkpoints are")

    # Taken back in the middle, by tautd or a signal; on from the file of another folder, and from one that is not what was reported.
    for how in ("taken back", "SIGTERM", "altered"):
        w.term()
        w = Worker(f, "--checkpoint", "0", work="super" + how[:2])
        said.clear()
        f.progress, e = at_step(20)
        if how != "SIGTERM":
            f.progress = lambda p: {"go": p.get("step", 0) < 20}
        f.leases.put(of(2))
        ok(how != "SIGTERM" or (e.wait(HANG) and w.term() == 0), how)
        r = f.reported()
        at = r["checkpoint"]
        ok(r["status"] == "preempted" and at["hash"] == sha(at["path"]) and 20 * STEP <= at["tokens"] < steps * STEP, "handed back with a checkpoint")
        if how != "SIGTERM":
            w.term()
        if how == "altered":
            with open(at["path"], "r+b") as t:
                t.seek(-50, 2)
                t.write(b"\1")
        w = Worker(f, work="superx" + how[:2])
        f.progress = lambda p: {"go": True}
        f.leases.put(of(2, at))
        r = f.reported()
        same((r["status"], r["checkpoint"]["hash"], r["checkpoint"]["path"]), ("ok", c["hash"], os.path.join(w.work, "job1-supernet.safetensors")), "another evaluator ends it, to the same bits")
        ok(("supernet on from step %d of %d" % (at["tokens"] // STEP, steps) in w.said()) == (how != "altered") and ("not what was reported" in w.said()) == (how == "altered"),
           "from what was reported, and from nothing else")

    # Trained before it could be reported: the file is looked at, and is all.
    w.term()
    w = Worker(f, work="superxta")
    f.leases.put(of(2, at))
    same(f.reported()["checkpoint"]["hash"], c["hash"], "one that is trained already is reported as it is")
    ok("supernet trained" not in w.said(), "and not trained again")
    w.term()

    # Without room it waits, and goes on when there is some.
    w = Worker(f, "--checkpoint", "0", work="superfull", fsize=8192)
    f.leases.put(of(3))
    ok(wait_until(lambda: "the supernet cannot be written" in w.said() and "waiting for room" in w.said(), HANG), "no room for its file: it waits")
    ok(f.reports.empty(), "which is no failure")
    w.room()
    same(f.reported()["checkpoint"]["hash"], c["hash"], "with room again it is what it would have been")

    # What cannot be trained says so.
    f.leases.put(of(4, lr=10, lr_width_rule="none", warmup=0, weight_decay=10))
    f.leases.put(dict(of(5), data=dict(DATA, train=[dict(DATA["train"][0], path=path("nowhere.txt"))])))
    r = f.reported()
    ok(r["status"] == "failed" and ("not finite" in r["error"] or "the loss of path" in r["error"]), "a recipe beyond reason: %s" % r.get("error"))
    r = f.reported()
    ok(r["status"] == "failed" and "nowhere.txt" in r["error"] and "checkpoint" not in r, "no text: %s" % r.get("error"))
    f.leases.put(lease(6, DATA))
    same(f.reported()["status"], "ok", "and it works on")
    w.term()


def energy():
    """A counter that this test drives."""
    os.makedirs(path("rapl/intel-rapl:0"))
    counter = "rapl/intel-rapl:0/energy_uj"
    put("rapl/intel-rapl:0/name", "package-0\n")
    put("rapl/intel-rapl:0/max_energy_range_uj", "1000000000\n")

    def joules(j):
        put("rapl/new", "%d\n" % (j * 10 ** 6))
        os.rename(path("rapl/new"), path(counter))
    joules(100)
    env = {"TAUT_POWERCAP": path("rapl")}
    f = Fake()
    w = Worker(f, work="energy", env=env)
    ok("train_joules" in f.registers.get(timeout=HANG)["provides"], "where there is a counter, energy is measured")
    wanted = ["valid_bpb", "train_joules"]
    f.progress, e = at_step(100)
    f.leases.put(lease(1, DATA, steps=LONG, metrics=wanted))
    ok(e.wait(HANG), "a training")
    joules(105)
    f.progress, e = at_step(300)
    ok(e.wait(HANG), "that takes five joules so far")
    w.term()
    c = f.reported()["checkpoint"]
    joules(500)
    w = Worker(f, work="energy", env=env)
    f.progress, e = at_step(c["tokens"] // STEP + 100)
    f.leases.put(lease(1, DATA, steps=LONG, metrics=wanted, checkpoint=c))
    ok(e.wait(HANG), "goes on after a break that took much more")
    joules(507)
    r = f.reported()
    same(r["metrics"].get("train_joules"), 12.0, "what both parts took, and not what the break did")

    # Part of it on a machine that does not measure.
    f.progress, e = at_step(300)
    f.leases.put(lease(2, DATA, steps=LONG, metrics=wanted))
    ok(e.wait(HANG), "another training")
    w.term()
    measured = f.reported()["checkpoint"]
    w = Worker(f, work="energy")
    f.progress = lambda p: {"go": True}
    f.leases.put(lease(2, DATA, steps=LONG, checkpoint=measured))
    r = f.reported()
    ok(r["status"] == "ok" and "train_joules" not in r["metrics"], "taken over where nothing is measured: left out, not made smaller")
    f.progress, e = at_step(300)
    f.leases.put(lease(3, DATA, steps=LONG))
    ok(e.wait(HANG), "begun where nothing is measured")
    w.term()
    unmeasured = f.reported()["checkpoint"]
    kept = dict(unmeasured, path=shutil.copy(unmeasured["path"], path("kept.safetensors")))
    w = Worker(f, work="energy", env=env)
    f.progress = lambda p: {"go": True}
    f.leases.put(lease(3, DATA, steps=LONG, checkpoint=unmeasured))
    r = f.reported()
    ok("on from step" in w.said() and "train_joules" not in r["metrics"], "taken over where it is: nobody wants it, so it goes on without")
    f.progress, e = at_step(100)
    f.leases.put(lease(3, DATA, steps=LONG, metrics=wanted, checkpoint=kept))
    ok(e.wait(HANG), "somebody wants it")
    joules(510)
    r = f.reported()
    same(r["metrics"].get("train_joules"), 3.0, "then it begins anew, and measures all of it")
    w.term()


want = plain()
left_out()
problems()
proxies(want)
failures()
broken_off(want)
busy()
no_room(want)
supernets()
energy()
finish()
done()
